//! From a profile to a filter.
//!
//! ```text
//! load architecture ──unlisted──▶ KILL_PROCESS
//!   │ native, then the listed compatible ones
//! load number ──search over runs of numbers with one outcome (`search.rs`)──▶ return
//!                                                       └──▶ compare arguments ──▶ return
//! ```
//!
//! Loading a filter takes the kernel some 0.2 us for each instruction, in every start of a container, so a filter is
//! kept short: comparisons of arguments are written once for all calls that share them, and a list of values of one
//! argument is searched for as numbers are.
//!
//! The search tree is weighted. Since Linux 5.11 the kernel asks a filter once, when it is loaded, which numbers it
//! allows whatever the arguments, and does not run it for them again; what still runs are the calls whose arguments
//! are compared, so these are near the root. (The kernel can find that out only if such a number reaches its return
//! through loads of number and architecture, jumps and AND, which is all that is used here.)
//!
//! What differs from libseccomp, on purpose:
//!
//! - **Numbers that the profile's author could not know** get `ENOSYS` instead of the default: holes, numbers behind
//!   the last one, calls younger than the youngest one that the profile names, and all of x32 where it is not
//!   listed. Not where the default lets calls through or asks a tracer.
//! - **Several conditions on one argument** all have to hold.
//! - **Several rules for one call**: see `rules.rs`. No rule is dropped.
//! - **Arguments of 32 bits** are compared on their low half: see `widths.rs`.
//! - **No companions**: a rule for socket(2) says nothing about socketcall(2), nor one for semget(2) about ipc(2).
//!   On i386 the arguments of these are behind a pointer that a filter cannot follow.
//!
//! The native architecture is always part of the filter, listed or not. A listed architecture that the target's
//! kernel never reports is left out.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::abi::{Abi, X32_BIT};
use crate::assembler::{Assembler, Entry, Place};
use crate::profile::{Action, Architecture, Flag, Profile};
use crate::program::{MAX_INSTRUCTIONS, Program, code};
use crate::rules::{Compare, Conditional, Decisions, Outcome, Test, date, decide};
use crate::search::{self, Run};
use crate::syscalls::{Resolved, resolve};
use crate::verdict::Verdict;

/// What a filter is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    native: Abi,
}

impl Target {
    /// The architecture of this program.
    pub fn native() -> Target {
        Target { native: Abi::NATIVE }
    }

    /// Another one. x32 is not an architecture by itself; it is taken as x86-64.
    pub fn new(abi: Abi) -> Target {
        Target {
            native: if abi == Abi::X32 { Abi::X86_64 } else { abi },
        }
    }
}

/// A filter and how to load it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// The filter.
    pub program: Program,
    /// `SECCOMP_FILTER_FLAG_*` for seccomp(2).
    pub flags: u64,
    /// Names that are no system calls on any architecture known here; rules about them have no effect.
    pub ignored_names: Vec<String>,
    /// Architectures that are listed, but that the target's kernel never reports.
    pub ignored_architectures: Vec<Architecture>,
    /// True if loading gives a listener, which has to be handed on (`listenerPath`).
    pub listener: bool,
}

/// Why a profile cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// Too many rules.
    #[error(
        "the filter would have more than {MAX_INSTRUCTIONS} instructions, the most that the kernel accepts; \
         use fewer rules with conditions"
    )]
    TooLong,
    /// A notifying rule without anybody to notify.
    #[error("SCMP_ACT_NOTIFY is used, but listenerPath is not set")]
    NoListenerPath,
    /// Every call would wait for a listener, also those that hand the listener over.
    #[error(
        "SCMP_ACT_NOTIFY cannot be the default action: the calls that hand the listener over would wait for it"
    )]
    NotifyByDefault,
    /// The same, for the calls that the runtime itself makes to hand it over.
    #[error(
        "SCMP_ACT_NOTIFY cannot be used for the {0} syscall: the runtime calls it to hand the listener over"
    )]
    NotifyForHandover(String),
    /// A mistake of this crate.
    #[error("the code generator made a filter that the kernel would refuse: {0}")]
    Refused(#[from] crate::program::InvalidProgram),
}

/// Compiles a profile.
///
/// # Errors
/// See [`CompileError`].
pub fn compile(profile: &Profile, target: &Target) -> Result<Compiled, CompileError> {
    generate(profile, target, None)
}

/// Compiles a profile that lets everything through which it does not name. Numbers of x32 then do not exist where x32
/// is not listed; [`compile`] would let them through as it does others that the profile says nothing about.
pub(crate) fn compile_floor(profile: &Profile, target: &Target) -> Result<Compiled, CompileError> {
    const ENOSYS: u16 = 38;
    generate(profile, target, Some(Verdict::Errno(ENOSYS)))
}

fn generate(
    profile: &Profile,
    target: &Target,
    unlisted_x32: Option<Verdict>,
) -> Result<Compiled, CompileError> {
    check_listener(profile)?;
    let native = target.native;
    let listed = |abi: &Abi| profile.architectures.contains(&abi.architecture());
    let compatible: Vec<Abi> = native.compatible().iter().copied().filter(listed).collect();

    // Those that the kernel reports as one architecture share a search tree; x32 is x86-64 with other numbers.
    let native_architecture = native.audit_architecture();
    let (shared, separate): (Vec<Abi>, Vec<Abi>) = compatible
        .iter()
        .partition(|abi| abi.audit_architecture() == native_architecture);
    let mut groups = vec![[vec![native], shared].concat()];
    groups.extend(separate.into_iter().map(|abi| vec![abi]));

    let date = date(profile);
    let mut assembler = Assembler::default();
    let mut next = assembler.returning(Verdict::KillProcess.encode());
    let mut written = Written::default();
    for abis in groups.iter().rev() {
        let mut decisions = decide(profile, date, abis);
        if let Some(verdict) = unlisted_x32
            && abis.contains(&Abi::X86_64)
            && !abis.contains(&Abi::X32)
        {
            decisions.push(X32_BIT, Outcome::Fixed(verdict.encode()));
        }
        let search = search(&mut assembler, &decisions, &mut written)?;
        let search = assembler.step(code::LD_DATA, NUMBER, search);
        let architecture = abis
            .first()
            .map_or(native_architecture, |abi| abi.audit_architecture());
        next = assembler.branch(code::JEQ_K, architecture, search, next);
    }
    assembler.step(code::LD_DATA, ARCHITECTURE, next);
    if assembler.len() > MAX_INSTRUCTIONS {
        return Err(CompileError::TooLong);
    }
    let program = assembler.finish();
    program.check()?;

    let listener = profile.wants_listener();
    Ok(Compiled {
        program,
        flags: flags(&profile.flags, listener),
        ignored_names: ignored_names(profile, native),
        ignored_architectures: profile
            .architectures
            .iter()
            .copied()
            .filter(|listed| {
                *listed != native.architecture()
                    && !compatible.iter().any(|abi| abi.architecture() == *listed)
            })
            .collect(),
        listener,
    })
}

/// Offsets into `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

fn check_listener(profile: &Profile) -> Result<(), CompileError> {
    // What it takes to hand a descriptor over and to say so.
    const HANDOVER: [&str; 2] = ["write", "sendmsg"];
    if !profile.wants_listener() {
        return Ok(());
    }
    if profile.default_action == Action::Notify {
        return Err(CompileError::NotifyByDefault);
    }
    if profile.listener_path.as_deref().unwrap_or_default().is_empty() {
        return Err(CompileError::NoListenerPath);
    }
    let notified = profile
        .syscalls
        .iter()
        .filter(|rule| rule.action == Action::Notify)
        .flat_map(|rule| &rule.names);
    match notified
        .into_iter()
        .find(|name| HANDOVER.contains(&name.as_str()))
    {
        Some(name) => Err(CompileError::NotifyForHandover(name.clone())),
        None => Ok(()),
    }
}

/// The kernel's flags (linux/seccomp.h).
fn flags(asked: &[Flag], listener: bool) -> u64 {
    const TSYNC: u64 = 1 << 0;
    const LOG: u64 = 1 << 1;
    const SPEC_ALLOW: u64 = 1 << 2;
    const NEW_LISTENER: u64 = 1 << 3;
    const TSYNC_ESRCH: u64 = 1 << 4;
    const WAIT_KILLABLE_RECV: u64 = 1 << 5;
    let mut flags = if listener { NEW_LISTENER } else { 0 };
    for flag in asked {
        flags |= match flag {
            // Both a listener and a thread's id are returned as positive numbers; the kernel insists on ESRCH
            // for the latter where both could be meant.
            Flag::ThreadSync if listener => TSYNC | TSYNC_ESRCH,
            Flag::ThreadSync => TSYNC,
            Flag::Log => LOG,
            Flag::AllowSpeculation => SPEC_ALLOW,
            // Without a listener nobody waits, and the kernel refuses it.
            Flag::WaitKillable if listener => WAIT_KILLABLE_RECV,
            Flag::WaitKillable => 0,
        };
    }
    flags
}

fn ignored_names(profile: &Profile, native: Abi) -> Vec<String> {
    let mut seen = HashSet::new();
    let names = profile.syscalls.iter().flat_map(|rule| &rule.names);
    names
        .filter(|name| resolve(name, native) == Resolved::Unknown && seen.insert(*name))
        .cloned()
        .collect()
}

/// Writes the search for a number; gives the place where it begins, with the number in the accumulator.
fn search(
    assembler: &mut Assembler,
    decisions: &Decisions,
    written: &mut Written,
) -> Result<Place, CompileError> {
    let runs: Vec<Run<Outcome>> = decisions
        .runs
        .iter()
        .map(|(number, outcome)| Run {
            start: *number,
            outcome: *outcome,
            weight: weight(*number, *outcome),
        })
        .collect();
    search::write(assembler, &runs, &mut |assembler, outcome| match outcome {
        Outcome::Fixed(value) => Ok(assembler.returning(value)),
        Outcome::Depends(index) => match decisions.conditional.get(index) {
            Some(conditional) => written.place(assembler, conditional),
            None => Ok(assembler.returning(Verdict::KillProcess.encode())),
        },
    })
}

/// How near to the root a run should be; see the module's text.
fn weight(number: u32, outcome: Outcome) -> u64 {
    match outcome {
        _ if number >= crate::abi::X32_BIT => 1,
        Outcome::Depends(_) => 64,
        Outcome::Fixed(_) => 8,
    }
}

/// Where each comparison of arguments was written: calls, and architectures, share them.
#[derive(Debug, Default)]
struct Written(HashMap<Conditional, Place>);

impl Written {
    fn place(&mut self, assembler: &mut Assembler, conditional: &Conditional) -> Result<Place, CompileError> {
        if let Some(place) = self.0.get(conditional) {
            return Ok(*place);
        }
        let place = alternatives(assembler, conditional)?;
        self.0.insert(conditional.clone(), place);
        Ok(place)
    }
}

fn alternatives(assembler: &mut Assembler, conditional: &Conditional) -> Result<Place, CompileError> {
    let mut next = Entry::plain(assembler.returning(conditional.otherwise));
    let mut rest = conditional.alternatives.as_slice();
    while let Some((tests, value)) = rest.last() {
        if let Some((before, argument, values)) = values_of_one_argument(rest) {
            next = switch(assembler, argument, &values, next)?;
            rest = before;
            continue;
        }
        let mut hit = Entry::plain(assembler.returning(*value));
        for test in tests.iter().rev() {
            hit = compare(assembler, test, hit, next);
            if assembler.len() > MAX_INSTRUCTIONS {
                return Err(CompileError::TooLong);
            }
        }
        next = hit;
        rest = &rest[..rest.len() - 1];
    }
    Ok(next.at)
}

type Alternative = (Vec<Test>, u32);

/// Splits off those alternatives at the end that each ask whether the same argument is one number, if there are several:
/// the argument, and the first listed answer for each number.
fn values_of_one_argument(alternatives: &[Alternative]) -> Option<(&[Alternative], u8, BTreeMap<u32, u32>)> {
    let (argument, _) = asks_for_one_value(alternatives.last()?)?;
    let asking: Vec<(u32, u32)> = alternatives
        .iter()
        .rev()
        .map_while(|one| {
            let (asked, value) = asks_for_one_value(one)?;
            (asked == argument).then_some((value, one.1))
        })
        .collect();
    let before = &alternatives[..alternatives.len() - asking.len()];
    // From the last to the first: of two for one number, the first listed stays.
    (asking.len() > 1).then(|| (before, argument, asking.into_iter().collect()))
}

/// The argument and its value, if that is all that is asked, and only the argument's low half counts.
fn asks_for_one_value((tests, _): &Alternative) -> Option<(u8, u32)> {
    match tests.as_slice() {
        [
            Test {
                argument,
                narrow: true,
                negated: false,
                compare: Compare::Masked { mask, value },
            },
        ] if lower(*mask) == u32::MAX => Some((*argument, lower(*value))),
        _ => None,
    }
}

/// Writes a search for the values of an argument; others go on at `next`.
fn switch(
    assembler: &mut Assembler,
    argument: u8,
    returned: &BTreeMap<u32, u32>,
    next: Entry,
) -> Result<Entry, CompileError> {
    let mut runs: Vec<Run<Option<u32>>> = Vec::new();
    let mut push = |start: u32, outcome: Option<u32>| {
        if runs.last().is_none_or(|last| last.outcome != outcome) {
            runs.push(Run {
                start,
                outcome,
                weight: 1,
            });
        }
    };
    // The first number behind those that are written.
    let mut behind = Some(0);
    for (&value, &returns) in returned {
        if let Some(start) = behind.filter(|start| *start < value) {
            push(start, None);
        }
        push(value, Some(returns));
        behind = value.checked_add(1);
    }
    if let Some(start) = behind {
        push(start, None);
    }
    let offset = half(argument, false);
    let search = search::write(assembler, &runs, &mut |assembler, outcome| {
        Ok(outcome.map_or(next.holding(offset), |value| assembler.returning(value)))
    })?;
    let load = assembler.step(code::LD_DATA, offset, search);
    Ok(Entry::loading(load, offset, search))
}

/// Writes one test, in one or two halves.
fn compare(assembler: &mut Assembler, test: &Test, holds: Entry, fails: Entry) -> Entry {
    let (yes, no) = if test.negated {
        (fails, holds)
    } else {
        (holds, fails)
    };
    let low = half(test.argument, false);
    let high = half(test.argument, true);
    match test.compare {
        Compare::Masked { mask, value } => {
            let halves = |number: u64| (upper(number), lower(number));
            let ((high_mask, low_mask), (high_value, low_value)) = (halves(mask), halves(value));
            let mut entry = yes;
            if low_mask != 0 {
                entry = masked(assembler, low, low_mask, low_value, entry, no);
            }
            if high_mask != 0 && !test.narrow {
                entry = masked(assembler, high, high_mask, high_value, entry, no);
            }
            entry
        }
        Compare::Greater(value) | Compare::AtLeast(value) => {
            let last = if matches!(test.compare, Compare::Greater(_)) {
                code::JGT_K
            } else {
                code::JGE_K
            };
            let behind = assembler.branch(last, lower(value), yes.holding(low), no.holding(low));
            let entry = Entry::loading(assembler.step(code::LD_DATA, low, behind), low, behind);
            if test.narrow {
                return entry;
            }
            let equal = assembler.branch(code::JEQ_K, upper(value), entry.holding(high), no.holding(high));
            let behind = assembler.branch(code::JGT_K, upper(value), yes.holding(high), equal);
            Entry::loading(assembler.step(code::LD_DATA, high, behind), high, behind)
        }
    }
}

fn masked(assembler: &mut Assembler, offset: u32, mask: u32, value: u32, yes: Entry, no: Entry) -> Entry {
    let behind = if mask == u32::MAX {
        assembler.branch(code::JEQ_K, value, yes.holding(offset), no.holding(offset))
    } else if value == 0 {
        assembler.branch(code::JSET_K, mask, no.holding(offset), yes.holding(offset))
    } else {
        // The accumulator does not hold the word any more behind the AND.
        let branch = assembler.branch(code::JEQ_K, value, yes.at, no.at);
        assembler.step(code::AND_K, mask, branch)
    };
    Entry::loading(assembler.step(code::LD_DATA, offset, behind), offset, behind)
}

/// Where a half of an argument is in `struct seccomp_data`.
fn half(argument: u8, high: bool) -> u32 {
    let second = high == cfg!(target_endian = "little");
    ARGUMENTS + 8 * u32::from(argument) + if second { 4 } else { 0 }
}

fn lower(value: u64) -> u32 {
    let [_, _, _, _, bytes @ ..] = value.to_be_bytes();
    u32::from_be_bytes(bytes)
}

fn upper(value: u64) -> u32 {
    lower(value >> 32)
}
