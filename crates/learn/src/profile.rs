//! From what was seen to a profile: a part of the one that was in force.

use std::collections::{BTreeMap, BTreeSet};

use gabion_seccomp::abi::Abi;
use gabion_seccomp::profile::{Action, Condition, Operator, Rule};
use gabion_seccomp::syscalls::{Resolved, resolve};
use gabion_seccomp::verdict::Verdict;
use gabion_seccomp::{CompileError, Compiled, Data, Profile, Program, Target, compile, interpret};
use serde_json::{Value, json};

use crate::observations::{Call, Observations};

/// Calls that are allowed without having been watched: the base of every profile.
///
/// - What ends a program or a signal handler, and what the kernel restarts: a call that waits for a listener can come
///   back early, with an errno, which these cannot deal with.
/// - What a runtime calls between its filters and the program: execve, and read and write for its report.
/// - What every program calls so often that asking would slow it down, on its own memory and threads.
pub const BASE: &[&str] = &[
    "brk",
    "clock_gettime",
    "close",
    "execve",
    "exit",
    "exit_group",
    "futex",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "read",
    "restart_syscall",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_yield",
    "sigreturn",
    "write",
];

/// What runtimes that load the filter before they are through with their own work call after it, on their way to the
/// program: runc 1.1 and crun 1.8, with and without no_new_privs, and what the Go runtime under runc may call at any time.
const RUNTIMES: &[&str] = &[
    "capget",
    "capset",
    "chdir",
    "clone",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "eventfd2",
    "faccessat2",
    "fchown",
    "fcntl",
    "fstat",
    "fstatfs",
    "getcwd",
    "getdents64",
    "getpid",
    "getppid",
    "gettid",
    "nanosleep",
    "newfstatat",
    "openat",
    "pipe2",
    "prctl",
    "setgid",
    "setgroups",
    "setresgid",
    "setresuid",
    "setuid",
    "sigaltstack",
    "tgkill",
];

/// As if the runtimes that have to do so had been seen to make their own calls, with any arguments.
#[must_use]
pub fn with_runtimes(seen: &Observations) -> Observations {
    let mut wide = seen.clone();
    for name in RUNTIMES {
        wide.calls.entry((*name).to_owned()).or_default().more = true;
    }
    wide
}

/// Of these the watcher is told nothing. execve is one of [`BASE`], but the first one is where watching begins.
pub(crate) fn unwatched() -> impl Iterator<Item = &'static str> {
    BASE.iter().copied().filter(|name| *name != "execve")
}

/// Arguments whose values are worth knowing even where the profile in force has no rule about them: they choose among
/// many things that a call can do. All are 32 bits wide.
const TELLING: &[(&str, u8)] = &[("ioctl", 1), ("prctl", 0), ("socket", 0), ("personality", 0)];

/// Arguments that the kernel takes as 32 bits, of calls that profiles have rules about.
const NARROW: &[(&str, u8)] = &[
    ("clone", 0),
    ("fcntl", 1),
    ("ioctl", 1),
    ("personality", 0),
    ("prctl", 0),
    ("setns", 1),
    ("socket", 0),
    ("socket", 1),
    ("socket", 2),
    ("socketpair", 0),
    ("unshare", 0),
];

const LOW: u64 = 0xffff_ffff;
const EPERM: u32 = 1;

fn is_narrow(call: &str, index: u8) -> bool {
    NARROW.contains(&(call, index))
}

/// The filter that asks about every call but those of [`BASE`], to be loaded over `profile`'s.
///
/// # Errors
/// If it cannot be compiled.
pub fn watching(profile: &Profile) -> Result<Compiled, CompileError> {
    // The compiler knows no profile that asks by default, for good reasons: who hands the listener over would have to
    // ask too. Here that is arranged for, and what would be recorded is asked about instead.
    let recording = Profile {
        default_action: Action::Log,
        default_errno_ret: None,
        architectures: profile.architectures.clone(),
        flags: Vec::new(),
        listener_path: None,
        listener_metadata: None,
        syscalls: vec![Rule {
            names: unwatched().map(str::to_owned).collect(),
            action: Action::Allow,
            errno_ret: None,
            args: Vec::new(),
        }],
    };
    let mut compiled = compile(&recording, &Target::native())?;
    const RETURN: u16 = 0x06;
    for instruction in &mut compiled.program.instructions {
        if instruction.code == RETURN && instruction.k == Verdict::Log.encode() {
            instruction.k = Verdict::Notify.encode();
        }
    }
    compiled.listener = true;
    Ok(compiled)
}

/// Which arguments of which calls are to be kept: those that rules are about, and the telling ones.
pub fn watched_arguments(profile: &Profile) -> BTreeMap<String, BTreeSet<u8>> {
    let mut watched: BTreeMap<String, BTreeSet<u8>> = BTreeMap::new();
    for (name, index) in TELLING {
        watched.entry((*name).to_owned()).or_default().insert(*index);
    }
    for rule in &profile.syscalls {
        for name in rule.names.iter().filter(|_| !rule.args.is_empty()) {
            let indexes = rule
                .args
                .iter()
                .filter_map(|condition| u8::try_from(condition.index).ok());
            watched.entry(name.clone()).or_default().extend(indexes);
        }
    }
    watched
}

/// An argument as it is kept: without the half of the register that the kernel does not look at.
pub(crate) fn kept(call: &str, index: u8, value: u64) -> u64 {
    if is_narrow(call, index) {
        value & LOW
    } else {
        value
    }
}

/// What the profile in force denies: by number, the name, the errnos, and whether it does so whatever the arguments.
pub fn denials(programs: &[Program]) -> BTreeMap<u32, Denial> {
    let mut denials = BTreeMap::new();
    for (name, number) in gabion_seccomp::syscalls::all(Abi::NATIVE) {
        let answers = gabion_seccomp::words::answers(programs, &name, &[]).unwrap_or_default();
        let errnos: BTreeSet<u16> = answers
            .iter()
            .filter_map(|answer| match answer {
                Verdict::Errno(errno) if *errno != 0 => Some(*errno),
                _ => None,
            })
            .collect();
        if !errnos.is_empty() {
            let certain = answers.iter().all(|answer| matches!(answer, Verdict::Errno(_)));
            denials.insert(
                number,
                Denial {
                    name,
                    errnos,
                    certain,
                },
            );
        }
    }
    denials
}

/// A call that a profile denies, with all arguments or some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The call.
    pub name: String,
    /// What it gets.
    pub errnos: BTreeSet<u16>,
    /// Whether that is what it always gets.
    pub certain: bool,
}

/// The part of a profile that is needed: its allowing rules for calls that were made, and all that deny.
///
/// With `arguments`, calls that do many things (ioctl, prctl) are allowed for the values that were seen.
pub fn narrow(profile: &Profile, seen: &Observations, arguments: bool) -> Profile {
    let mut narrowed = profile.clone();
    let is_needed = |name: &str| seen.calls.contains_key(name) || BASE.contains(&name);
    for rule in &mut narrowed.syscalls {
        if is_allowing(rule.action) {
            let conditions = rule.args.clone();
            rule.names
                .retain(|name| is_needed(name) && matches(&conditions, name, seen.calls.get(name)));
        }
    }
    narrowed.syscalls.retain(|rule| !rule.names.is_empty());
    if is_allowing(profile.default_action) {
        narrowed.default_action = Action::Errno;
        narrowed.default_errno_ret = Some(EPERM);
        // What was allowed by not being named. A rule that denies it with all arguments has denied it before as well.
        let denied = |name: &str| {
            let mut rules = profile
                .syscalls
                .iter()
                .filter(|rule| rule.names.iter().any(|one| one == name));
            rules.any(|rule| rule.args.is_empty())
        };
        let names: Vec<String> = seen
            .calls
            .keys()
            .map(String::as_str)
            .chain(BASE.iter().copied())
            .filter(|name| !denied(name))
            .map(str::to_owned)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        narrowed.syscalls.push(rule(names, Action::Allow, Vec::new()));
    }
    if arguments {
        narrow_arguments(&mut narrowed, seen);
    }
    narrowed
}

fn is_allowing(action: Action) -> bool {
    matches!(action, Action::Allow | Action::Log)
}

fn rule(names: Vec<String>, action: Action, args: Vec<Condition>) -> Rule {
    Rule {
        names,
        action,
        errno_ret: None,
        args,
    }
}

/// Whether a call with these conditions was made; if that is not known, it may have been.
fn matches(conditions: &[Condition], name: &str, call: Option<&Call>) -> bool {
    let Some(call) = call.filter(|call| !conditions.is_empty() && !call.more) else {
        return true;
    };
    let Resolved::Number(number) = resolve(name, Abi::NATIVE) else {
        return true;
    };
    let alone = Profile {
        default_action: Action::KillProcess,
        default_errno_ret: None,
        architectures: Vec::new(),
        flags: Vec::new(),
        listener_path: None,
        listener_metadata: None,
        syscalls: vec![rule(vec![name.to_owned()], Action::Allow, conditions.to_vec())],
    };
    let Ok(compiled) = compile(&alone, &Target::native()) else {
        return true;
    };
    call.arguments.iter().any(|values| {
        let mut data = Data {
            nr: number.cast_signed(),
            arch: Abi::NATIVE.audit_architecture(),
            ..Data::default()
        };
        for (index, value) in values {
            if let Some(argument) = data.args.get_mut(usize::from(*index)) {
                *argument = *value;
            }
        }
        let indexes = conditions.iter().map(|condition| condition.index);
        let complete = indexes
            .into_iter()
            .all(|index| u8::try_from(index).is_ok_and(|index| values.contains_key(&index)));
        !complete || interpret(&compiled.program, &data).is_ok_and(|verdict| verdict == Verdict::Allow)
    }) || call.arguments.is_empty()
}

/// Splits the telling calls off rules without conditions: a rule for each value that was seen.
fn narrow_arguments(profile: &mut Profile, seen: &Observations) {
    let mut added = Vec::new();
    for (name, index) in TELLING {
        let Some(values) = seen.calls.get(*name).and_then(|call| values(call, &[*index])) else {
            continue;
        };
        let mut found = false;
        for rule in &mut profile.syscalls {
            if rule.action == Action::Allow && rule.args.is_empty() {
                let before = rule.names.len();
                rule.names.retain(|one| one != name);
                found |= rule.names.len() != before;
            }
        }
        if found {
            let rules = values.into_iter().map(|values| equal(name, &values));
            added.extend(rules);
        }
    }
    profile.syscalls.retain(|rule| !rule.names.is_empty());
    profile.syscalls.extend(added);
}

/// The different values of these arguments that were seen, if all are known.
fn values(call: &Call, indexes: &[u8]) -> Option<BTreeSet<Vec<(u8, u64)>>> {
    if call.more || call.arguments.is_empty() {
        return None;
    }
    call.arguments
        .iter()
        .map(|values| {
            indexes
                .iter()
                .map(|index| values.get(index).map(|value| (*index, *value)))
                .collect()
        })
        .collect()
}

/// A rule that allows a call with exactly these arguments, in a form that means the same to every compiler: libseccomp
/// compares 64 bits, and C libraries differ in what the upper half of a negative int is.
fn equal(name: &str, values: &[(u8, u64)]) -> Rule {
    let conditions = values.iter().map(|(index, value)| Condition {
        index: u32::from(*index),
        value: if is_narrow(name, *index) { LOW } else { u64::MAX },
        value_two: Some(*value),
        op: Operator::MaskedEqual,
    });
    rule(vec![name.to_owned()], Action::Allow, conditions.collect())
}

/// The same, for runtimes whose filters are made by libseccomp: no call has a rule that allows beside one that denies,
/// since of two such it keeps the one that is broader.
///
/// Where the profile denies some arguments of a call, those that were seen are allowed instead. Families of sockets that
/// were not seen then fail with the default's errno.
pub fn portable(profile: &Profile, seen: &Observations) -> Profile {
    let mut portable = Profile {
        flags: Vec::new(),
        listener_path: None,
        listener_metadata: None,
        syscalls: Vec::new(),
        ..profile.clone()
    };
    let allowing = |rule: &&Rule| is_allowing(rule.action);
    let has = |rule: &Rule, name: &str| rule.names.iter().any(|one| one == name);
    let allowed: BTreeSet<&str> = profile
        .syscalls
        .iter()
        .filter(allowing)
        .flat_map(|rule| rule.names.iter().map(String::as_str))
        .collect();
    let mut plain = Vec::new();
    let mut conditional = Vec::new();
    for name in &allowed {
        let rules: Vec<&Rule> = profile.syscalls.iter().filter(|rule| has(rule, name)).collect();
        let excepted: BTreeSet<u8> = rules
            .iter()
            .filter(|rule| !is_allowing(rule.action) && !rule.args.is_empty())
            .flat_map(|rule| rule.args.iter().filter_map(|one| u8::try_from(one.index).ok()))
            .collect();
        let (unconditional, with_conditions): (Vec<&Rule>, Vec<&Rule>) = rules
            .into_iter()
            .filter(allowing)
            .partition(|rule| rule.args.is_empty());
        let indexes: Vec<u8> = with_conditions
            .iter()
            .flat_map(|rule| rule.args.iter().filter_map(|one| u8::try_from(one.index).ok()))
            .chain(excepted.iter().copied())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        let exact = (!excepted.is_empty())
            .then(|| seen.calls.get(*name).and_then(|call| values(call, &indexes)))
            .flatten();
        match exact {
            Some(values) => conditional.extend(values.iter().map(|values| equal(name, values))),
            None if !unconditional.is_empty() => plain.push((*name).to_owned()),
            None => conditional.extend(with_conditions.into_iter().map(|one| Rule {
                names: vec![(*name).to_owned()],
                ..one.clone()
            })),
        }
    }
    portable.syscalls.push(rule(plain, Action::Allow, Vec::new()));
    portable.syscalls.extend(conditional);
    for denying in profile
        .syscalls
        .iter()
        .filter(|rule| !is_allowing(rule.action) && rule.args.is_empty())
    {
        let names: Vec<String> = denying
            .names
            .iter()
            .filter(|name| !allowed.contains(name.as_str()))
            .cloned()
            .collect();
        // runc leaves out rules that say what the default says.
        let says_more = denying.action != portable.default_action
            || denying.errno_ret.unwrap_or(EPERM) != portable.default_errno_ret.unwrap_or(EPERM);
        if !names.is_empty() && says_more {
            portable.syscalls.push(Rule {
                names,
                ..denying.clone()
            });
        }
    }
    portable
}

/// A profile as Docker reads it: `--security-opt seccomp=FILE`.
pub fn docker(portable: &Profile) -> Value {
    let mut value = json!(portable);
    if let Some(rules) = value.get_mut("syscalls").and_then(Value::as_array_mut) {
        for rule in rules {
            // Older versions want every list to be there.
            rule["args"] = rule.get("args").cloned().unwrap_or_else(|| json!([]));
            rule["includes"] = json!({});
            rule["excludes"] = json!({});
        }
    }
    value
}

/// The names of the calls that a profile lets through, with some arguments at least.
pub fn allowed(profile: &Profile) -> BTreeSet<String> {
    let Ok(compiled) = compile(profile, &Target::native()) else {
        return BTreeSet::new();
    };
    gabion_seccomp::syscalls::all(Abi::NATIVE)
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| {
            let answers = gabion_seccomp::words::answers(std::slice::from_ref(&compiled.program), name, &[]);
            answers.is_some_and(|answers| answers.iter().any(|answer| answer.lets_through()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use gabion_seccomp::verdict::Verdict;

    fn default() -> Profile {
        Profile::from_value(&gabion_seccomp::default::profile(&[]))
            .unwrap()
            .unwrap()
    }

    fn profile(value: &Value) -> Profile {
        Profile::from_value(value).unwrap().unwrap()
    }

    fn seen(calls: &[(&str, &[(u8, u64)])]) -> Observations {
        let mut seen = Observations::default();
        for (name, arguments) in calls {
            let call = seen.calls.entry((*name).to_owned()).or_default();
            call.add(arguments.iter().copied().collect());
        }
        seen
    }

    fn answer(profile: &Profile, name: &str, arguments: [u64; 6]) -> Verdict {
        let program = compile(profile, &Target::native()).unwrap().program;
        run(&program, name, arguments)
    }

    fn run(program: &Program, name: &str, args: [u64; 6]) -> Verdict {
        let Resolved::Number(number) = resolve(name, Abi::NATIVE) else {
            unreachable!("{name}")
        };
        let data = Data {
            nr: number.cast_signed(),
            arch: Abi::NATIVE.audit_architecture(),
            args,
            ..Data::default()
        };
        interpret(program, &data).unwrap()
    }

    #[test]
    fn the_watching_filter_asks_about_everything_but_the_base_and_denies_nothing() {
        let filter = watching(&default()).unwrap();
        for (name, _) in gabion_seccomp::syscalls::all(Abi::NATIVE) {
            let expected = if unwatched().any(|one| one == name) {
                Verdict::Allow
            } else {
                Verdict::Notify
            };
            assert_eq!(run(&filter.program, &name, [1; 6]), expected, "{name}");
        }
        assert_eq!(run(&filter.program, "execve", [0; 6]), Verdict::Notify);
    }

    #[test]
    fn what_was_not_seen_is_denied_and_what_was_is_not() {
        let learnt = narrow(&default(), &seen(&[("getpid", &[]), ("chmod", &[])]), false);
        for name in ["getpid", "chmod", "read", "execve", "exit_group"] {
            assert_eq!(answer(&learnt, name, [0; 6]), Verdict::Allow, "{name}");
        }
        for name in ["chown", "socket", "bind", "ptrace"] {
            assert!(!answer(&learnt, name, [0; 6]).lets_through(), "{name}");
        }
        // The C library falls back on this errno alone.
        assert_eq!(answer(&learnt, "clone3", [0; 6]), Verdict::Errno(38));
    }

    /// For every call and some arguments, of the default and of a profile that allows by default.
    #[test]
    fn nothing_is_learnt_that_was_denied() {
        let everything: Vec<(String, u32)> = gabion_seccomp::syscalls::all(Abi::NATIVE);
        let mut seen = Observations::default();
        for (name, _) in &everything {
            seen.calls.entry(name.clone()).or_default().add(BTreeMap::new());
        }
        let lax = profile(&json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [
                {"names": ["chmod"], "action": "SCMP_ACT_ERRNO"},
                {"names": ["ioctl"], "action": "SCMP_ACT_ERRNO",
                 "args": [{"index": 1, "value": 0x5412, "op": "SCMP_CMP_EQ"}]}
            ]
        }));
        for base in [default(), lax] {
            let before = compile(&base, &Target::native()).unwrap().program;
            for arguments in [false, true] {
                let after = compile(&narrow(&base, &seen, arguments), &Target::native())
                    .unwrap()
                    .program;
                for (name, _) in &everything {
                    for args in [
                        [0; 6],
                        [2, 1, 0, 0, 0, 0],
                        [16, 3, 6, 0, 0, 0],
                        [0, 0x5412, 0, 0, 0, 0],
                        [0x1000_0011; 6],
                    ] {
                        let (before, after) = (run(&before, name, args), run(&after, name, args));
                        assert!(!after.lets_through() || before.lets_through(), "{name} {args:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn conditions_stay_where_a_call_that_fulfils_them_was_seen() {
        let inet = narrow(&default(), &seen(&[("socket", &[(0, 2), (2, 0)])]), false);
        assert_eq!(answer(&inet, "socket", [2, 1, 0, 0, 0, 0]), Verdict::Allow);
        assert_eq!(answer(&inet, "socket", [10, 1, 0, 0, 0, 0]), Verdict::Errno(97));
        assert_eq!(answer(&inet, "socket", [1, 1, 0, 0, 0, 0]), Verdict::Errno(97));
        let threads = narrow(&default(), &seen(&[("clone", &[(0, 0x003d_0f00)])]), false);
        assert_eq!(answer(&threads, "clone", [17, 0, 0, 0, 0, 0]), Verdict::Allow);
        assert!(!answer(&threads, "clone", [0x1000_0011, 0, 0, 0, 0, 0]).lets_through());
    }

    #[test]
    fn a_profile_only_grows() {
        let mut all = seen(&[("socket", &[(0, 2), (2, 0)]), ("getpid", &[])]);
        let first = narrow(&default(), &all, true);
        all.merge(seen(&[("socket", &[(0, 1), (2, 0)]), ("ioctl", &[(1, 0x5401)])]));
        let second = narrow(&default(), &all, true);
        for (name, _) in gabion_seccomp::syscalls::all(Abi::NATIVE) {
            for args in [
                [0; 6],
                [2, 1, 0, 0, 0, 0],
                [1, 1, 0, 0, 0, 0],
                [0, 0x5401, 0, 0, 0, 0],
            ] {
                let (first, second) = (answer(&first, &name, args), answer(&second, &name, args));
                assert!(!first.lets_through() || second.lets_through(), "{name} {args:?}");
            }
        }
        assert_eq!(answer(&second, "socket", [1, 1, 0, 0, 0, 0]), Verdict::Allow);
        assert_eq!(answer(&second, "ioctl", [0, 0x5401, 0, 0, 0, 0]), Verdict::Allow);
        assert!(!answer(&second, "ioctl", [0, 0x5413, 0, 0, 0, 0]).lets_through());
    }

    #[test]
    fn the_portable_form_has_no_call_that_is_both_allowed_and_denied_and_allows_what_was_seen() {
        let seen = seen(&[
            ("socket", &[(0, 2), (2, 0)]),
            ("socket", &[(0, 16), (2, 0)]),
            ("ioctl", &[(1, 0xffff_ffff_8004_5430 & LOW)]),
            ("clone", &[(0, 17)]),
            ("getpid", &[]),
        ]);
        let portable = portable(&narrow(&default(), &seen, false), &seen);
        let names = |allow: bool| -> BTreeSet<&String> {
            let rules = portable
                .syscalls
                .iter()
                .filter(|rule| is_allowing(rule.action) == allow);
            rules.flat_map(|rule| &rule.names).collect()
        };
        assert!(names(true).is_disjoint(&names(false)));
        for (name, args) in [
            ("socket", [2, 1, 0, 0, 0, 0]),
            ("socket", [16, 3, 0, 0, 0, 0]),
            // musl extends the sign.
            ("ioctl", [0, 0xffff_ffff_8004_5430, 0, 0, 0, 0]),
            ("clone", [0x003d_0f00, 0, 0, 0, 0, 0]),
            ("getpid", [0; 6]),
        ] {
            assert_eq!(answer(&portable, name, args), Verdict::Allow, "{name}");
        }
        for (name, args) in [
            ("socket", [16, 3, 6, 0, 0, 0]),
            ("socket", [38, 5, 0, 0, 0, 0]),
            ("ioctl", [0, 0x5412, 0, 0, 0, 0]),
        ] {
            assert!(!answer(&portable, name, args).lets_through(), "{name}");
        }
        assert_eq!(answer(&portable, "clone3", [0; 6]), Verdict::Errno(38));
        let docker = docker(&portable);
        assert_eq!(docker["syscalls"][0]["includes"], json!({}));
    }

    #[test]
    fn other_runtimes_get_what_they_call_and_no_new_namespaces() {
        let seen = seen(&[("getpid", &[]), ("prctl", &[(0, 15)])]);
        let wide = with_runtimes(&seen);
        let portable = portable(&narrow(&default(), &wide, true), &wide);
        for name in RUNTIMES {
            assert_eq!(answer(&portable, name, [0; 6]), Verdict::Allow, "{name}");
        }
        for (name, args) in [("clone", [0x1000_0011, 0, 0, 0, 0, 0]), ("mkdir", [0; 6])] {
            assert!(!answer(&portable, name, args).lets_through(), "{name}");
        }
        assert!(!seen.calls.contains_key("setuid"));
    }

    #[test]
    fn denials_are_certain_where_no_argument_helps() {
        let program = compile(&default(), &Target::native()).unwrap().program;
        let denials = denials(&[program]);
        let find = |name: &str| denials.values().find(|denial| denial.name == name);
        assert!(find("mount").unwrap().certain && find("io_uring_setup").unwrap().errnos.contains(&38));
        assert!(!find("socket").unwrap().certain && find("getpid").is_none());
    }
}
