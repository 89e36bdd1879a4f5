//! A site's own rules: expressions of the Common Expression Language over the configuration and the facts.
//!
//! As in Kubernetes' ValidatingAdmissionPolicy, an expression says what has to be so: `true` admits, `false` violates
//! the rule. Everything else violates it too: a property that is not there, a value of another type, a number that does
//! not fit. An expression that cannot be read, or whose cost has no bound, is an error in the policy, and nothing runs.
//!
//! The cost is bounded without a clock. An expression has at most [`MAX_NODES`] operations, [`MAX_LOOPS`] loops inside
//! each other and [`MAX_JOINS`] joins of texts or lists, calls no function outside [`FUNCTIONS`], and is not evaluated
//! for a bundle whose longest list would make it more than [`MAX_STEPS`] steps: the bundle then violates the rule.

use std::collections::HashMap;
use std::sync::Arc;

use cel::common::ast::{EntryExpr, Expr};
use cel::{Context, IdedExpr, Program};
use serde_json::{Value, json};

use crate::facts::{CgroupMode, Engine, Facts, SelinuxMode};
use crate::profile::Levels;

/// The longest expression, in bytes.
pub const MAX_BYTES: usize = 4096;
/// The most operations in an expression.
pub const MAX_NODES: usize = 400;
/// The deepest nesting of parentheses, brackets and braces.
pub const MAX_NESTING: usize = 24;
/// The most loops (`all`, `exists`, `exists_one`, `map`, `filter`) inside each other.
pub const MAX_LOOPS: u32 = 2;
/// The most joins (`+`): each may double what it is given.
pub const MAX_JOINS: u32 = 4;
/// The most steps of an evaluation: operations, times the longest list for each loop. They bound the work by counting; how
/// long a step takes depends on what it compares, and is not bounded here.
pub const MAX_STEPS: u64 = 4_000_000;

/// Functions that may be called, operators apart. `matches` is not among them: a regular expression has no small bound.
pub const FUNCTIONS: [&str; 10] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "int",
    "uint",
    "double",
    "string",
    "type",
    "dyn",
];

/// `[[rule]]` of a policy file.
#[derive(Debug, Clone)]
pub struct SiteRule {
    /// `SITE-` and a name.
    pub id: String,
    /// What is told when it is violated.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
    /// The place in config.json that it is about, as a JSON pointer; may be empty.
    pub field: String,
    /// What happens when it is violated.
    pub levels: Levels,
    /// The place in the policy.
    pub origin: String,
    /// What has to be so.
    pub expression: Expression,
}

/// A compiled expression whose cost is bounded.
#[derive(Debug, Clone)]
pub struct Expression {
    program: Arc<Program>,
    cost: Cost,
}

#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    nodes: usize,
    loops: u32,
    joins: u32,
    /// It looks at `facts`.
    facts: bool,
}

impl Expression {
    /// Compiles an expression.
    ///
    /// # Errors
    /// A sentence: syntax, an unknown variable or function, a bound that it exceeds.
    pub fn compile(source: &str) -> Result<Self, String> {
        if source.len() > MAX_BYTES {
            return Err(format!("the expression is longer than {MAX_BYTES} bytes"));
        }
        // The parser is recursive.
        let mut depth = 0usize;
        for byte in source.bytes() {
            match byte {
                b'(' | b'[' | b'{' => depth += 1,
                b')' | b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > MAX_NESTING {
                return Err(format!(
                    "the expression has more than {MAX_NESTING} brackets inside each other"
                ));
            }
        }
        let program = Program::compile(source).map_err(|errors| {
            let text = errors.to_string();
            format!(
                "the expression cannot be read: {}",
                text.lines().next().unwrap_or_default()
            )
        })?;
        let mut cost = Cost::default();
        measure(
            program.expression(),
            &mut vec!["spec".to_owned(), "facts".to_owned()],
            0,
            &mut cost,
        )?;
        Ok(Expression {
            program: Arc::new(program),
            cost,
        })
    }

    /// True if it looks at the facts.
    pub fn wants_facts(&self) -> bool {
        self.cost.facts
    }

    /// Why it does not hold; `None` if it does.
    pub(crate) fn violated(&self, spec: &Input, facts: &Input) -> Option<String> {
        let longest = spec.longest.max(facts.longest).max(1) << self.cost.joins;
        let steps = longest
            .saturating_pow(self.cost.loops)
            .saturating_mul(self.cost.nodes as u64);
        if steps > MAX_STEPS {
            return Some(format!(
                "it cannot be evaluated: a list of {} elements would take too many steps",
                spec.longest
            ));
        }
        let mut context = Context::default();
        context.add_variable_from_value("spec", spec.value.clone());
        context.add_variable_from_value("facts", facts.value.clone());
        match self.program.execute(&context) {
            Ok(cel::Value::Bool(true)) => None,
            Ok(cel::Value::Bool(false)) => Some(String::new()),
            Ok(_) => Some("it cannot be evaluated: the expression is neither true nor false".to_owned()),
            Err(error) => Some(format!("it cannot be evaluated: {}", short(&error.to_string()))),
        }
    }
}

/// Errors of the evaluator quote the values that they are about, and those may be long.
fn short(text: &str) -> String {
    let mut short: String = text.chars().take(120).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// Walks an expression: what it costs, and whether all it names is there.
fn measure(
    expression: &IdedExpr,
    scope: &mut Vec<String>,
    loops: u32,
    cost: &mut Cost,
) -> Result<(), String> {
    cost.nodes += 1;
    if cost.nodes > MAX_NODES {
        return Err(format!("the expression has more than {MAX_NODES} operations"));
    }
    match &expression.expr {
        Expr::Unspecified | Expr::Literal(_) => Ok(()),
        Expr::Ident(name) => {
            cost.facts |= name == "facts" && scope.iter().filter(|known| *known == "facts").count() == 1;
            let types = [
                "bool",
                "int",
                "uint",
                "double",
                "string",
                "bytes",
                "list",
                "map",
                "null_type",
            ];
            if scope.contains(name) || types.contains(&name.as_str()) {
                Ok(())
            } else {
                Err(format!("there is no variable {name:?}; known are spec and facts"))
            }
        }
        Expr::Call(call) => {
            let name = call.func_name.as_str();
            if name == "_+_" {
                cost.joins += 1;
                if cost.joins > MAX_JOINS {
                    return Err(format!(
                        "the expression has more than {MAX_JOINS} joins or sums (+)"
                    ));
                }
            }
            let operator = name.starts_with(|c: char| !c.is_ascii_alphabetic());
            if !operator && !FUNCTIONS.contains(&name) {
                return Err(format!(
                    "there is no function {name:?}; known are {}",
                    FUNCTIONS.join(", ")
                ));
            }
            call.target
                .as_deref()
                .into_iter()
                .chain(&call.args)
                .try_for_each(|part| measure(part, scope, loops, cost))
        }
        Expr::List(list) => list
            .elements
            .iter()
            .try_for_each(|part| measure(part, scope, loops, cost)),
        Expr::Select(select) => measure(&select.operand, scope, loops, cost),
        Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
            EntryExpr::MapEntry(entry) => {
                measure(&entry.key, scope, loops, cost)?;
                measure(&entry.value, scope, loops, cost)
            }
            EntryExpr::StructField(field) => measure(&field.value, scope, loops, cost),
        }),
        Expr::Struct(_) => Err("the expression makes a message, which there is none of".to_owned()),
        Expr::Comprehension(each) => {
            measure(&each.iter_range, scope, loops, cost)?;
            measure(&each.accu_init, scope, loops, cost)?;
            let loops = loops + 1;
            if loops > MAX_LOOPS {
                return Err(format!(
                    "the expression has more than {MAX_LOOPS} loops inside each other"
                ));
            }
            cost.loops = cost.loops.max(loops);
            // What a macro adds to collect elements is a list of one for each step, not a join of the site's.
            let joins = cost.joins;
            let own: Vec<String> = [
                Some(&each.iter_var),
                each.iter_var2.as_ref(),
                Some(&each.accu_var),
            ]
            .into_iter()
            .flatten()
            .cloned()
            .collect();
            let before = scope.len();
            scope.extend(own);
            let outcome = [&each.loop_cond, &each.loop_step, &each.result]
                .into_iter()
                .try_for_each(|part| measure(part, scope, loops, cost));
            scope.truncate(before);
            let collects = matches!(&each.accu_init.expr, Expr::List(_));
            cost.joins = cost
                .joins
                .saturating_sub(u32::from(collects && cost.joins > joins));
            outcome
        }
    }
}

/// What an expression looks at, made once for all of them.
pub(crate) struct Input {
    value: cel::Value,
    /// Elements of the longest list or object.
    longest: u64,
}

impl Input {
    pub(crate) fn of(document: &Value) -> Self {
        let mut longest = 0;
        let value = convert(document, &mut longest);
        Input { value, longest }
    }
}

/// Numbers that fit are `int`, so that `spec.process.user.uid == 0` compares two of a kind.
fn convert(value: &Value, longest: &mut u64) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            (None, None) => number.as_f64().unwrap_or(f64::NAN).into(),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(elements) => {
            *longest = (*longest).max(elements.len() as u64);
            elements
                .iter()
                .map(|element| convert(element, longest))
                .collect::<Vec<cel::Value>>()
                .into()
        }
        Value::Object(members) => {
            *longest = (*longest).max(members.len() as u64);
            members
                .iter()
                .map(|(key, value)| (key.clone(), convert(value, longest)))
                .collect::<HashMap<String, cel::Value>>()
                .into()
        }
    }
}

/// The facts as expressions see them. What is not known is null.
pub(crate) fn facts(facts: &Facts) -> Value {
    let caller = facts.caller.known();
    let sources: Vec<Value> = facts
        .mount_sources
        .iter()
        .map(|fact| match fact.known() {
            Some(Some(source)) => json!({
                "path": source.canonical.display().to_string(),
                "engineManaged": source.engine_managed,
                "sensitive": source.sensitive.as_ref().map(|sensitive| sensitive.directory.as_str()),
                "controlSocket": source.control_socket,
            }),
            _ => Value::Null,
        })
        .collect();
    json!({
        "engine": caller.and_then(|caller| caller.engine).map(Engine::name),
        "namespace": caller.and_then(|caller| caller.namespace.as_deref()),
        "image": caller.and_then(|caller| caller.image.as_deref()),
        "bundle": caller.and_then(|caller| caller.bundle.as_deref()),
        "kernel": facts.kernel.known().map(|kernel| json!({"major": kernel.version.0, "minor": kernel.version.1})),
        "cgroup": facts.cgroup.known().map(|cgroup| match cgroup.mode {
            CgroupMode::Legacy => "legacy",
            CgroupMode::Hybrid => "hybrid",
            CgroupMode::Unified => "unified",
        }),
        "apparmor": facts.lsm.known().map(|lsm| lsm.apparmor),
        "selinux": facts.lsm.known().map(|lsm| match lsm.selinux {
            SelinuxMode::Off => "off",
            SelinuxMode::Permissive => "permissive",
            SelinuxMode::Enforcing => "enforcing",
        }),
        "mountSources": sources,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(expression: &str, spec: Value) -> Option<String> {
        let compiled = Expression::compile(expression).unwrap();
        compiled.violated(&Input::of(&spec), &Input::of(&facts(&Facts::default())))
    }

    #[test]
    fn true_admits_and_everything_else_violates() {
        let spec = || json!({"process": {"user": {"uid": 0}, "args": ["sh", "-c"], "terminal": null}});
        let holds: [&str; 6] = [
            "spec.process.user.uid == 0",
            "spec.process.args.all(arg, arg != \"x\")",
            "!has(spec.linux)",
            "spec.process.args.filter(a, a.startsWith(\"-\")).map(a, a + \"x\") == [\"-cx\"]",
            "size(spec.process.args) == 2 && \"sh\" in spec.process.args",
            "facts.engine == null && type(spec.process.user.uid) == int",
        ];
        for expression in holds {
            assert_eq!(said(expression, spec()), None, "{expression}");
        }
        for (expression, why) in [
            ("spec.process.user.uid != 0", ""),
            (
                "spec.linux.seccomp != null",
                "it cannot be evaluated: No such key: linux",
            ),
            ("spec.process.terminal.x", "it cannot be evaluated: "),
            (
                "spec.process.user.uid",
                "it cannot be evaluated: the expression is neither true nor false",
            ),
            ("spec.process.args < 3", "it cannot be evaluated: "),
            ("spec.process.args[7] == \"x\"", "it cannot be evaluated: "),
            (
                "9223372036854775807 + spec.process.user.uid + 1 > 0",
                "it cannot be evaluated: ",
            ),
        ] {
            let found = said(expression, spec()).unwrap_or_else(|| "holds".to_owned());
            assert!(
                found.starts_with(why) && found != "holds",
                "{expression}: {found}"
            );
        }
    }

    #[test]
    fn an_expression_without_a_bound_is_none() {
        let long = format!("true || {}", "x".repeat(MAX_BYTES));
        let nested = format!("{}true{}", "(".repeat(25), ")".repeat(25));
        let wide = (0..MAX_NODES).map(|_| "true").collect::<Vec<_>>().join("||");
        for (expression, expected) in [
            ("spec.", "the expression cannot be read: "),
            ("", "the expression cannot be read: "),
            (
                "sepc.process == 1",
                "there is no variable \"sepc\"; known are spec and facts",
            ),
            (
                "spec.a.matches(\"x\")",
                "there is no function \"matches\"; known are size, contains",
            ),
            (
                "size(spec + spec + spec + spec + spec + spec) > 1",
                "the expression has more than 4 joins",
            ),
            (
                "spec.a.all(a, a.all(b, b.all(c, c == 1)))",
                "the expression has more than 2 loops inside each other",
            ),
            (&long, "the expression is longer than 4096 bytes"),
            (&nested, "the expression has more than 24 brackets"),
            (&wide, "the expression has more than 400 operations"),
        ] {
            let error = Expression::compile(expression).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn a_bundle_cannot_make_an_expression_expensive() {
        let pairs = "spec.a.all(x, spec.a.all(y, x == y))";
        assert_eq!(said(pairs, json!({"a": vec![1; 300]})), None);
        let told = said(pairs, json!({"a": vec![1; 3000]})).unwrap();
        assert_eq!(
            told,
            "it cannot be evaluated: a list of 3000 elements would take too many steps"
        );
        // Once through a long list is no matter.
        assert_eq!(
            said("spec.a.all(x, x == 1)", json!({"a": vec![1; 100_000]})),
            None
        );
    }

    #[test]
    fn facts_are_asked_for_only_by_name() {
        assert!(
            Expression::compile("facts.engine == \"docker\"")
                .unwrap()
                .wants_facts()
        );
        assert!(!Expression::compile("spec.facts == 1").unwrap().wants_facts());
    }
}
