//! A profile in human words: what becomes of each call, what is different between two, and the names of arguments.

use std::collections::{BTreeMap, BTreeSet};

use crate::abi::Abi;
use crate::compile::{CompileError, Target, compile};
use crate::profile::{Action, Condition, Operator, Profile};
use crate::program::Program;
use crate::reach::{Kind, Word, possible};
use crate::rules::verdict;
use crate::syscalls::{self, Resolved, resolve};
use crate::verdict::{Verdict, rank};

/// What becomes of each call of the native architecture, by name.
///
/// # Errors
/// The profile cannot be compiled.
pub fn outcomes(profile: &Profile) -> Result<BTreeMap<String, String>, CompileError> {
    let program = compile(profile, &Target::native())?.program;
    let calls = syscalls::all(Abi::NATIVE).into_iter();
    Ok(calls
        .map(|(name, number)| {
            let words = outcome(profile, &program, &name, number);
            (name, words)
        })
        .collect())
}

fn outcome(profile: &Profile, program: &Program, name: &str, number: u32) -> String {
    let kind = Kind {
        nr: number,
        arch: Abi::NATIVE.audit_architecture(),
        args: [Word::ANY; 6],
    };
    let verdicts = possible(program, &kind);
    let mut one = verdicts.iter();
    if let (Some(verdict), None) = (one.next(), one.next()) {
        return said(*verdict);
    }
    let rules = profile
        .syscalls
        .iter()
        .filter(|rule| rule.names.iter().any(|has| has == name));
    let (mut conditions, mut otherwise) = (Vec::new(), None);
    for rule in rules {
        let answer = verdict(rule.action, rule.errno_ret);
        if rule.args.is_empty() {
            otherwise.get_or_insert(said(answer));
        } else {
            let all: Vec<String> = rule
                .args
                .iter()
                .map(|condition| in_words(condition, name))
                .collect();
            let words = format!("{} if {}", said(answer), all.join(" and "));
            conditions.push((rank(answer.encode()), words));
        }
    }
    // As they are tried: of those that hold, the strictest counts (crate::rules).
    conditions.sort_by_key(|(rank, _)| *rank);
    let mut conditions: Vec<String> = conditions.into_iter().map(|(_, words)| words).collect();
    let mut told = BTreeSet::new();
    conditions.retain(|words| told.insert(words.clone()));
    let otherwise =
        otherwise.unwrap_or_else(|| said(verdict(profile.default_action, profile.default_errno_ret)));
    format!("{}{ELSE}{otherwise}", conditions.join(OR))
}

/// Between the answers of a call that depends on its arguments.
const OR: &str = "; ";
/// Before the last of them.
const ELSE: &str = "; else ";

/// The answers of [`outcomes`] for one call, as they are tried: the first whose condition holds counts, and the last has
/// none. One, if it does not depend on arguments.
pub fn answers_in_order(outcome: &str) -> Vec<&str> {
    outcome.split(OR).collect()
}

/// Rules with several conditions on one argument, in words: all have to hold here, as the runtime-spec says. libseccomp
/// refuses such a rule, and runtimes that use it make one rule of each condition.
pub fn read_otherwise_elsewhere(profile: &Profile) -> Vec<String> {
    let several = profile.syscalls.iter().filter_map(|rule| {
        let is_again = |(place, condition): &(usize, &Condition)| {
            rule.args[..*place].iter().any(|before| before.index == condition.index)
        };
        let (_, again) = rule.args.iter().enumerate().find(is_again)?;
        let does = match verdict(rule.action, rule.errno_ret) {
            answer if answer.lets_through() => "allows",
            Verdict::Notify | Verdict::Trace(_) => "asks about",
            _ => "denies",
        };
        let conditions: Vec<String> = rule
            .args
            .iter()
            .map(|condition| in_words(condition, rule.names.first().map_or("", String::as_str)))
            .collect();
        Some(format!(
            "{}: a rule has several conditions on argument {}, and all have to hold: {}. runc and crun take each of its \
             conditions alone, so that the rule {does} more under them. One rule for each says that everywhere.",
            rule.names.join(", "),
            again.index,
            conditions.join(" and ")
        ))
    });
    several.collect()
}

/// A verdict in words.
pub fn said(verdict: Verdict) -> String {
    match verdict {
        Verdict::Allow => "allowed".to_owned(),
        Verdict::Log => "allowed and recorded".to_owned(),
        Verdict::Errno(errno) => format!("fails with {}", errno_name(errno)),
        Verdict::KillProcess => "kills the process".to_owned(),
        Verdict::KillThread => "kills the thread".to_owned(),
        Verdict::Trap(_) => "raises SIGSYS".to_owned(),
        Verdict::Notify => "asks the listener".to_owned(),
        Verdict::Trace(_) => "asks a tracer".to_owned(),
    }
}

/// An action in words.
pub fn action(action: Action, errno: Option<u32>) -> String {
    said(verdict(action, errno))
}

fn errno_name(errno: u16) -> String {
    let name = match errno {
        1 => "EPERM",
        2 => "ENOENT",
        13 => "EACCES",
        14 => "EFAULT",
        22 => "EINVAL",
        38 => "ENOSYS",
        93 => "EPROTONOSUPPORT",
        95 => "EOPNOTSUPP",
        97 => "EAFNOSUPPORT",
        _ => return format!("errno {errno}"),
    };
    name.to_owned()
}

fn in_words(condition: &Condition, call: &str) -> String {
    let argument = format!("argument {}", condition.index);
    let value = |number: u64| number_name(call, condition.index, number);
    let operator = match condition.op {
        Operator::Equal => "is",
        Operator::NotEqual => "is not",
        Operator::Less => "is below",
        Operator::LessOrEqual => "is at most",
        Operator::GreaterOrEqual => "is at least",
        Operator::Greater => "is above",
        Operator::MaskedEqual => {
            let (mask, two) = (condition.value, condition.value_two.unwrap_or(0));
            return if mask == 0xffff_ffff {
                format!("{argument} is {} in its low 32 bits", value(two))
            } else if two == 0 {
                format!("{argument} has none of {}", value(mask))
            } else {
                format!("{argument} is {} under the mask {mask:#x}", value(two))
            };
        }
    };
    format!("{argument} {operator} {}", value(condition.value))
}

/// Families of sockets, protocols of netlink, flags of clone, commands of ioctl and personalities.
const NAMES: &[(&str, u64)] = &[
    ("AF_UNSPEC", 0),
    ("AF_UNIX", 1),
    ("AF_INET", 2),
    ("AF_AX25", 3),
    ("AF_IPX", 4),
    ("AF_APPLETALK", 5),
    ("AF_NETROM", 6),
    ("AF_X25", 9),
    ("AF_INET6", 10),
    ("AF_ROSE", 11),
    ("AF_DECnet", 12),
    ("AF_KEY", 15),
    ("AF_NETLINK", 16),
    ("AF_PACKET", 17),
    ("AF_RDS", 21),
    ("AF_PPPOX", 24),
    ("AF_CAN", 29),
    ("AF_TIPC", 30),
    ("AF_BLUETOOTH", 31),
    ("AF_RXRPC", 33),
    ("AF_ALG", 38),
    ("AF_NFC", 39),
    ("AF_VSOCK", 40),
    ("AF_QIPCRTR", 42),
    ("AF_SMC", 43),
    ("AF_XDP", 44),
    ("NETLINK_ROUTE", 0),
    ("NETLINK_XFRM", 6),
    ("NETLINK_AUDIT", 9),
    ("NETLINK_NETFILTER", 12),
    ("NETLINK_GENERIC", 16),
    ("SOCK_STREAM", 1),
    ("SOCK_DGRAM", 2),
    ("SOCK_RAW", 3),
    ("SOCK_SEQPACKET", 5),
    ("CLONE_NEWTIME", 0x80),
    ("CLONE_NEWNS", 0x2_0000),
    ("CLONE_NEWCGROUP", 0x200_0000),
    ("CLONE_NEWUTS", 0x400_0000),
    ("CLONE_NEWIPC", 0x800_0000),
    ("CLONE_NEWUSER", 0x1000_0000),
    ("CLONE_NEWPID", 0x2000_0000),
    ("CLONE_NEWNET", 0x4000_0000),
    ("CLONE_VM", 0x100),
    ("CLONE_THREAD", 0x1_0000),
    ("SIGCHLD", 17),
    ("TIOCSTI", 0x5412),
    ("TIOCLINUX", 0x541c),
    ("TCGETS", 0x5401),
    ("TIOCGWINSZ", 0x5413),
    ("PER_LINUX", 0),
    ("PER_LINUX32", 8),
    ("ADDR_NO_RANDOMIZE", 0x4_0000),
    ("READ_IMPLIES_EXEC", 0x40_0000),
    ("PTRACE_TRACEME", 0),
    ("PTRACE_ATTACH", 16),
    ("PTRACE_SEIZE", 0x4206),
];

/// Which names are for an argument of a call.
fn prefixes(call: &str, index: u32) -> &'static [&'static str] {
    match (call, index) {
        ("socket" | "socketpair", 0) => &["AF_"],
        ("socket" | "socketpair", 1) => &["SOCK_"],
        ("socket" | "socketpair", 2) => &["NETLINK_"],
        ("clone" | "unshare", 0) | ("setns", 1) => &["CLONE_"],
        ("ioctl", 1) => &["TIOC", "TCGETS"],
        ("personality", 0) => &["PER_", "ADDR_", "READ_"],
        ("ptrace", 0) => &["PTRACE_"],
        _ => &[],
    }
}

fn number_name(call: &str, index: u32, number: u64) -> String {
    let plain = if number > 99 {
        format!("{number:#x}")
    } else {
        number.to_string()
    };
    let fits: Vec<&(&str, u64)> = NAMES
        .iter()
        .filter(|(name, _)| {
            prefixes(call, index)
                .iter()
                .any(|prefix| name.starts_with(prefix))
        })
        .collect();
    // A protocol has a name only where the family is netlink, which the reader sees beside it.
    if let Some((name, _)) = fits.iter().find(|(_, value)| *value == number) {
        return format!("{name} ({plain})");
    }
    let bits: Vec<&str> = fits
        .iter()
        .filter(|(name, value)| name.starts_with("CLONE_") && *value != 0 && number & value != 0)
        .map(|(name, _)| *name)
        .collect();
    if bits.len() > 1 {
        format!("{} ({plain})", bits.join("|"))
    } else {
        plain
    }
}

/// Calls such as `socket(38)` and `socket(39)`, as they are listed of the floor, with their numbers in ranges:
/// `socket(38-39)`. A number that stands alone has its name.
pub(crate) fn in_ranges(calls: &[String]) -> Vec<String> {
    const FEW: usize = 3;
    let mut merged: Vec<(&str, Vec<u64>, String)> = Vec::new();
    for call in calls {
        let number = call.split_once('(').and_then(|(name, rest)| {
            let number = rest.strip_suffix(')')?.parse::<u64>().ok()?;
            Some((name, number))
        });
        match number {
            Some((name, number)) => match merged.iter_mut().find(|(other, _, _)| *other == name) {
                Some((_, numbers, _)) => numbers.push(number),
                None => merged.push((name, vec![number], String::new())),
            },
            None => merged.push(("", Vec::new(), call.clone())),
        }
    }
    let said = |(name, mut numbers, other): (&str, Vec<u64>, String)| {
        if name.is_empty() {
            return other;
        }
        numbers.sort_unstable();
        let named = |number: &u64| {
            let name = number_name(name, 0, *number);
            name.split(' ').next().unwrap_or_default().to_owned()
        };
        let parts: Vec<String> = if numbers.len() <= FEW {
            numbers.iter().map(named).collect()
        } else {
            let runs = numbers.chunk_by(|a, b| a + 1 == *b);
            runs.map(|run| match run {
                [first, .., last] => format!("{first}-{last}"),
                [one] => one.to_string(),
                [] => String::new(),
            })
            .collect()
        };
        format!("{name}({})", parts.join(", "))
    };
    merged.into_iter().map(said).collect()
}

/// Reads an argument as people write it: `AF_ALG`, `0x26`, `38`, `-1`, `CLONE_NEWUSER|SIGCHLD`; `_` and `?` for any.
///
/// # Errors
/// The part that is neither a number nor a name that is known.
pub fn argument(text: &str) -> Result<Option<u64>, String> {
    if matches!(text, "_" | "?") {
        return Ok(None);
    }
    let mut value = 0;
    for part in text.split('|').map(str::trim) {
        let number = match part.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => part
                .parse::<u64>()
                .ok()
                .or_else(|| part.parse::<i64>().ok().map(i64::cast_unsigned)),
        };
        let named = || {
            NAMES
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(part))
                .map(|(_, value)| *value)
        };
        value |= number.or_else(named).ok_or_else(|| part.to_owned())?;
    }
    Ok(Some(value))
}

/// The names that [`argument`] knows.
pub fn known_names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|(name, _)| *name)
}

/// The answers that filters may give to a call whose arguments are given or, where they are `None`, not; each in words,
/// the strictest first. `None` if there is no such call on this architecture.
///
/// With several filters, the strictest of what each may answer.
pub fn answers(programs: &[Program], call: &str, arguments: &[Option<u64>]) -> Option<Vec<Verdict>> {
    let nr = match resolve(call, Abi::NATIVE) {
        Resolved::Number(number) => number,
        Resolved::Elsewhere | Resolved::Unknown => call.parse().ok()?,
    };
    let mut args = [Word::ANY; 6];
    for (word, given) in args.iter_mut().zip(arguments) {
        if let Some(value) = given {
            *word = Word::exactly(u32::try_from(value & 0xffff_ffff).unwrap_or(u32::MAX));
        }
    }
    let kind = Kind {
        nr,
        arch: Abi::NATIVE.audit_architecture(),
        args,
    };
    // What is possible is a set for each filter; combined, a verdict is possible if one filter gives it and every other
    // may give one that is no stricter.
    let sets: Vec<_> = programs.iter().map(|program| possible(program, &kind)).collect();
    let Some(limit) = sets.iter().filter_map(|set| set.iter().max()).min().copied() else {
        return Some(vec![Verdict::Allow]);
    };
    let mut all: Vec<Verdict> = sets
        .into_iter()
        .flatten()
        .filter(|verdict| *verdict <= limit)
        .collect();
    all.sort_unstable();
    all.dedup();
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn profile(value: &serde_json::Value) -> Profile {
        Profile::from_value(value).unwrap().unwrap()
    }

    #[test]
    fn numbers_of_one_call_are_put_in_ranges() {
        let of = |calls: &[&str]| in_ranges(&calls.iter().map(|call| (*call).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            of(&["socket(38)", "socketpair(38)", "bpf"]),
            ["socket(AF_ALG)", "socketpair(AF_ALG)", "bpf"]
        );
        assert_eq!(
            of(&[
                "socket(3)",
                "socket(5)",
                "socket(4)",
                "socket(11)",
                "socket(12)",
                "socket(20)"
            ]),
            ["socket(3-5, 11-12, 20)"]
        );
        assert_eq!(
            of(&["ioctl(_, 0x5412)", "unshare(0x20000)"]),
            ["ioctl(_, 0x5412)", "unshare(0x20000)"]
        );
    }

    #[test]
    fn calls_are_described_with_their_conditions_by_name() {
        let outcomes = outcomes(&profile(&crate::default::profile(&[]))).unwrap();
        assert_eq!(outcomes["read"], "allowed");
        assert_eq!(outcomes["mount"], "fails with EPERM");
        assert_eq!(outcomes["clone3"], "fails with ENOSYS");
        assert!(outcomes["socket"].contains("fails with EPROTONOSUPPORT if argument 0 is AF_NETLINK (16)"));
        assert!(
            outcomes["clone"].starts_with("allowed if argument 0 has none of CLONE_NEWNS|CLONE_NEWCGROUP")
        );
        assert!(
            outcomes["ioctl"]
                .contains("fails with EPERM if argument 1 is TIOCSTI (0x5412) in its low 32 bits")
        );
    }

    #[test]
    fn answers_stand_in_the_order_in_which_they_are_tried_and_once() {
        let rule = |action: &str, value: u64| json!({"names": ["socket"], "action": action, "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]});
        let allowed = rule("SCMP_ACT_ALLOW", 1);
        let rules = json!({"defaultAction": "SCMP_ACT_ERRNO",
                           "syscalls": [allowed, rule("SCMP_ACT_ERRNO", 38), allowed]});
        let outcomes = outcomes(&profile(&rules)).unwrap();
        assert_eq!(
            answers_in_order(&outcomes["socket"]),
            [
                "fails with EPERM if argument 0 is AF_ALG (38)",
                "allowed if argument 0 is AF_UNIX (1)",
                "else fails with EPERM"
            ]
        );
        assert_eq!(answers_in_order(&outcomes["bind"]).len(), 1);
    }

    #[test]
    fn rules_that_other_runtimes_read_otherwise_are_named() {
        let rule = |action: &str, indexes: &[u32]| {
            let args: Vec<_> = indexes
                .iter()
                .map(|index| json!({"index": index, "value": 16, "op": "SCMP_CMP_NE"}))
                .collect();
            json!({"names": ["socket", "socketpair"], "action": action, "args": args})
        };
        let words = |rules: &[serde_json::Value]| {
            read_otherwise_elsewhere(&profile(
                &json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}),
            ))
        };
        assert_eq!(words(&[rule("SCMP_ACT_ALLOW", &[0, 1, 2])]), [""; 0]);
        let said = words(&[
            rule("SCMP_ACT_ALLOW", &[1, 0, 0]),
            rule("SCMP_ACT_ERRNO", &[0, 0]),
        ]);
        assert!(
            said[0].starts_with(
                "socket, socketpair: a rule has several conditions on argument 0, and all have to hold: "
            ) && said[0].contains("argument 0 is not AF_NETLINK (16) and argument 0 is not")
                && said[0].contains("so that the rule allows more under them"),
            "{said:?}"
        );
        assert!(
            said[1].contains("so that the rule denies more under them"),
            "{said:?}"
        );
    }

    #[test]
    fn arguments_are_read_as_people_write_them() {
        assert_eq!(argument("AF_ALG"), Ok(Some(38)));
        assert_eq!(argument("af_alg"), Ok(Some(38)));
        assert_eq!(argument("0x26"), Ok(Some(38)));
        assert_eq!(argument("-1"), Ok(Some(u64::MAX)));
        assert_eq!(argument("CLONE_NEWUSER|SIGCHLD"), Ok(Some(0x1000_0011)));
        assert_eq!(argument("_"), Ok(None));
        assert_eq!(argument("AF_BOGUS"), Err("AF_BOGUS".to_owned()));
    }

    #[test]
    fn what_is_not_said_is_not_guessed() {
        let filter = compile(&profile(&crate::default::profile(&[])), &Target::native())
            .unwrap()
            .program;
        let filters = [filter];
        assert_eq!(
            answers(&filters, "socket", &[Some(38)]).unwrap(),
            [Verdict::Errno(97)]
        );
        assert_eq!(answers(&filters, "socket", &[Some(2)]).unwrap(), [Verdict::Allow]);
        let any = answers(&filters, "socket", &[]).unwrap();
        assert!(
            any.contains(&Verdict::Allow) && any.contains(&Verdict::Errno(97)),
            "{any:?}"
        );
        assert_eq!(answers(&filters, "frobnicate", &[]), None);
        assert_eq!(answers(&[], "socket", &[]).unwrap(), [Verdict::Allow]);
        let open = compile(
            &profile(&json!({"defaultAction": "SCMP_ACT_ALLOW"})),
            &Target::native(),
        )
        .unwrap()
        .program;
        let [filter] = filters;
        assert_eq!(
            answers(&[filter, open], "socket", &[Some(38)]).unwrap(),
            [Verdict::Errno(97)]
        );
    }
}
