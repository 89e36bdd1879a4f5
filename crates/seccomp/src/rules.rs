//! From a profile to what happens to each number, as data: the step before code.
//!
//! Several rules may be about one call. Which of them decides:
//!
//! 1. of the rules with conditions whose conditions all hold, the strictest action, as the kernel ranks them
//!    among stacked filters; among equally strict ones the first listed;
//! 2. else the first listed rule without conditions;
//! 3. else the profile's default.
//!
//! So a deny with conditions works beside a broad allow, wherever it stands, and an allow with conditions works
//! beside a broad deny. libseccomp drops rules with conditions where there is one without.

use crate::abi::Abi;
use crate::profile::{Action, Condition, Operator, Profile};
use crate::syscalls::{self, LATER, Release, Resolved};
use crate::verdict::{Verdict, rank};
use crate::widths::is_narrow;

/// What happens to the calls of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Always this, as a filter returns it.
    Fixed(u32),
    /// It depends on the arguments: an index into [`Decisions::conditional`].
    Depends(usize),
}

/// An outcome that depends on arguments.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Conditional {
    /// What is tried in this order: if all tests hold, that is returned.
    pub(crate) alternatives: Vec<(Vec<Test>, u32)>,
    /// What is returned if no alternative holds.
    pub(crate) otherwise: u32,
}

/// A comparison of one argument, reduced to what the filter has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Test {
    pub(crate) argument: u8,
    /// Only the low half counts; the operands have no high half then.
    pub(crate) narrow: bool,
    pub(crate) compare: Compare,
    /// The test holds if the comparison does not.
    pub(crate) negated: bool,
}

/// The comparisons that all operators are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Compare {
    Masked { mask: u64, value: u64 },
    Greater(u64),
    AtLeast(u64),
}

/// Runs of numbers with the same outcome, over all 32-bit numbers of one architecture.
#[derive(Debug, Default)]
pub(crate) struct Decisions {
    /// The first number of each run and what happens to it, in order, starting with 0.
    pub(crate) runs: Vec<(u32, Outcome)>,
    pub(crate) conditional: Vec<Conditional>,
}

/// What a profile says about one number, while it is being read.
#[derive(Debug, Clone, Default)]
struct Said {
    known: bool,
    always: Option<u32>,
    conditional: Vec<(Vec<Test>, u32)>,
}

/// The numbers of one ABI, from its base; those far away from the others by themselves.
struct Table {
    base: u32,
    numbers: Vec<Said>,
}

/// Numbers of an ABI are dense up to here. What is beyond gets a table of its own.
const DENSE: usize = 560;
const ARM_PRIVATE: u32 = 0xf_0000;

/// The release of the youngest call that a profile names: what was there then, its author decided about.
pub(crate) fn date(profile: &Profile) -> Release {
    profile
        .syscalls
        .iter()
        .flat_map(|rule| &rule.names)
        .map(|name| syscalls::since(name))
        .max()
        .unwrap_or(Release::BASE)
}

/// Decides about every number of the given ABIs, which are those that the kernel reports as one architecture.
pub(crate) fn decide(profile: &Profile, date: Release, abis: &[Abi]) -> Decisions {
    let mut tables = Vec::new();
    for abi in abis {
        let mut said = tables_of(*abi, date);
        for rule in &profile.syscalls {
            let returned = verdict(rule.action, rule.errno_ret).encode();
            for name in &rule.names {
                let Resolved::Number(number) = syscalls::resolve(name, *abi) else {
                    continue;
                };
                let said = entry(&mut said, number);
                match lower_all(&rule.args, name, *abi) {
                    Some(tests) if tests.is_empty() => {
                        said.always.get_or_insert(returned);
                    }
                    Some(tests) => said.conditional.push((tests, returned)),
                    None => {}
                }
            }
        }
        tables.extend(said);
    }
    tables.sort_by_key(|table| table.base);

    let default = verdict(profile.default_action, profile.default_errno_ret).encode();
    let unknown = unknown(profile).encode();
    let mut decisions = Decisions::default();
    decisions.push(0, Outcome::Fixed(unknown));
    for table in tables {
        let mut number = table.base;
        for said in table.numbers {
            let outcome = decisions.outcome(said, default, unknown);
            decisions.push(number, outcome);
            number += 1;
        }
        decisions.push(number, Outcome::Fixed(unknown));
    }
    decisions
}

/// What a rule's action is, as an answer. An errno that is not given is `EPERM`.
pub(crate) fn verdict(action: Action, errno: Option<u32>) -> Verdict {
    const EPERM: u16 = 1;
    let errno = errno.map_or(EPERM, |errno| u16::try_from(errno).unwrap_or(EPERM));
    match action {
        Action::KillProcess => Verdict::KillProcess,
        Action::Kill | Action::KillThread => Verdict::KillThread,
        Action::Trap => Verdict::Trap(0),
        Action::Errno => Verdict::Errno(errno),
        Action::Trace => Verdict::Trace(errno),
        Action::Allow => Verdict::Allow,
        Action::Log => Verdict::Log,
        Action::Notify => Verdict::Notify,
    }
}

/// The answer for numbers that the profile's author could not know.
///
/// The C library and others try a new call and fall back on an old one if the kernel does not have it, and only
/// then: `EPERM` breaks them. A profile whose default lets calls through, or asks, is left to mean what it says.
fn unknown(profile: &Profile) -> Verdict {
    const ENOSYS: u16 = 38;
    match profile.default_action {
        action @ (Action::Allow | Action::Log | Action::Trace) => verdict(action, profile.default_errno_ret),
        _ => Verdict::Errno(ENOSYS),
    }
}

fn tables_of(abi: Abi, date: Release) -> Vec<Table> {
    let mut tables = vec![Table {
        base: abi.base(),
        numbers: vec![Said::default(); DENSE],
    }];
    if abi == Abi::Arm {
        tables.push(Table {
            base: ARM_PRIVATE,
            numbers: vec![Said::default(); 16],
        });
    }
    let later = LATER
        .iter()
        .filter(|later| later.since <= date && !later.absent.contains(&abi));
    let ranges = syscalls::base_ranges(abi).iter().copied();
    for (first, last) in ranges.chain(later.map(|later| (later.number, later.number))) {
        for number in first..=last {
            entry(&mut tables, number | abi.base()).known = true;
        }
    }
    tables
}

/// The place of a number; a table of its own for one that is far from all others.
fn entry(tables: &mut Vec<Table>, number: u32) -> &mut Said {
    let index_in = |table: &Table| {
        let index = usize::try_from(number.checked_sub(table.base)?).ok()?;
        (index < table.numbers.len()).then_some(index)
    };
    let (table, index) = match tables
        .iter()
        .enumerate()
        .find_map(|(at, table)| Some((at, index_in(table)?)))
    {
        Some(found) => found,
        None => {
            tables.push(Table {
                base: number,
                numbers: vec![Said::default()],
            });
            (tables.len() - 1, 0)
        }
    };
    &mut tables[table].numbers[index]
}

impl Decisions {
    /// From this number on, which has to be behind all others, this happens.
    pub(crate) fn push(&mut self, number: u32, outcome: Outcome) {
        match self.runs.last_mut() {
            Some((_, last)) if *last == outcome => {}
            Some((start, last)) if *start == number => *last = outcome,
            _ => self.runs.push((number, outcome)),
        }
    }

    fn outcome(&mut self, said: Said, default: u32, unknown: u32) -> Outcome {
        let named = said.always.is_some() || !said.conditional.is_empty();
        let otherwise = said
            .always
            .unwrap_or(if named || said.known { default } else { unknown });
        let mut alternatives = said.conditional;
        // Stable, so that the first listed stays first among equals.
        alternatives.sort_by_key(|(_, returned)| rank(*returned));
        // The last alternatives change nothing if they return what is returned anyway.
        while alternatives
            .last()
            .is_some_and(|(_, returned)| *returned == otherwise)
        {
            alternatives.pop();
        }
        if alternatives.is_empty() {
            return Outcome::Fixed(otherwise);
        }
        let conditional = Conditional {
            alternatives,
            otherwise,
        };
        let index = self
            .conditional
            .iter()
            .position(|other| *other == conditional)
            .unwrap_or_else(|| {
                self.conditional.push(conditional);
                self.conditional.len() - 1
            });
        Outcome::Depends(index)
    }
}

/// The tests of a rule; none of them if it always holds, `None` if it never does.
fn lower_all(conditions: &[Condition], name: &str, abi: Abi) -> Option<Vec<Test>> {
    let mut tests = Vec::new();
    for condition in conditions {
        let narrow = abi.has_narrow_registers() || is_narrow(name, condition.index);
        match lower(condition, narrow) {
            Lowered::Always => {}
            Lowered::Never => return None,
            Lowered::Test(test) => tests.push(test),
        }
    }
    Some(tests)
}

enum Lowered {
    Always,
    Never,
    Test(Test),
}

/// Reduces a condition. For a narrow argument, a negative number written with its sign extended to 64 bits means
/// its low half, and other numbers of more than 32 bits are what they are: never reached.
fn lower(condition: &Condition, narrow: bool) -> Lowered {
    const LOW: u64 = 0xffff_ffff;
    let number = |value: u64| match value {
        value if !narrow => Some(value),
        value if value <= LOW => Some(value),
        value if i32::try_from(value.cast_signed()).is_ok() => Some(value & LOW),
        _ => None,
    };
    let full = if narrow { LOW } else { u64::MAX };
    let value = condition.value;
    let (compare, negated) = match condition.op {
        Operator::Equal => (
            number(value).map(|value| Compare::Masked { mask: full, value }),
            false,
        ),
        Operator::NotEqual => (
            number(value).map(|value| Compare::Masked { mask: full, value }),
            true,
        ),
        Operator::MaskedEqual => {
            let masked = number(condition.value_two.unwrap_or(0)).map(|two| Compare::Masked {
                mask: value & full,
                value: two,
            });
            (masked, false)
        }
        Operator::Greater => (number(value).map(Compare::Greater), false),
        Operator::LessOrEqual => (number(value).map(Compare::Greater), true),
        Operator::GreaterOrEqual => (number(value).map(Compare::AtLeast), false),
        Operator::Less => (number(value).map(Compare::AtLeast), true),
    };
    // What holds for every argument, or for none.
    let constant = match compare {
        None => Some(false),
        Some(Compare::Masked { mask, value }) if value & !mask != 0 => Some(false),
        Some(Compare::Masked { mask: 0, .. } | Compare::AtLeast(0)) => Some(true),
        Some(Compare::Greater(value)) if value == full => Some(false),
        Some(_) => None,
    };
    match (constant, compare) {
        (Some(holds), _) if holds != negated => Lowered::Always,
        (None, Some(compare)) => {
            let argument = u8::try_from(condition.index).unwrap_or(u8::MAX);
            Lowered::Test(Test {
                argument,
                narrow,
                compare,
                negated,
            })
        }
        _ => Lowered::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lowered(op: Operator, value: u64, value_two: Option<u64>, narrow: bool) -> String {
        match lower(
            &Condition {
                index: 1,
                value,
                value_two,
                op,
            },
            narrow,
        ) {
            Lowered::Always => "always".to_owned(),
            Lowered::Never => "never".to_owned(),
            Lowered::Test(test) => format!("{}{:x?}", if test.negated { "not " } else { "" }, test.compare),
        }
    }

    #[test]
    fn a_number_that_an_int_cannot_be_is_never_reached_and_a_negative_one_is_its_low_half() {
        let minus_one = u64::MAX;
        assert_eq!(
            lowered(Operator::Equal, minus_one, None, true),
            "Masked { mask: ffffffff, value: ffffffff }"
        );
        assert_eq!(lowered(Operator::Equal, 1 << 32, None, true), "never");
        assert_eq!(lowered(Operator::NotEqual, 1 << 32, None, true), "always");
        assert_eq!(lowered(Operator::Less, 1 << 32, None, true), "always");
        assert_eq!(lowered(Operator::GreaterOrEqual, 1 << 32, None, true), "never");
        assert_eq!(
            lowered(Operator::Equal, 1 << 32, None, false),
            "Masked { mask: ffffffffffffffff, value: 100000000 }"
        );
        assert_eq!(
            lowered(Operator::MaskedEqual, u64::MAX, Some(0x5412), true),
            "Masked { mask: ffffffff, value: 5412 }"
        );
    }

    #[test]
    fn conditions_that_always_or_never_hold_are_not_tested() {
        assert_eq!(lowered(Operator::GreaterOrEqual, 0, None, false), "always");
        assert_eq!(lowered(Operator::Less, 0, None, false), "never");
        assert_eq!(lowered(Operator::Greater, u64::MAX, None, false), "never");
        assert_eq!(lowered(Operator::LessOrEqual, 0xffff_ffff, None, true), "always");
        assert_eq!(lowered(Operator::MaskedEqual, 0, None, false), "always");
        assert_eq!(lowered(Operator::MaskedEqual, 4, Some(2), false), "never");
        assert_eq!(lowered(Operator::Less, 5, None, false), "not AtLeast(5)");
    }
}
