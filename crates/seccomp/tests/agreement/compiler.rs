//! The compiled filter says what the profile says: for every number, on every architecture, with arguments that
//! are at, beside and far from what the conditions compare with.

use crate::declaration::{Declaration, profile, profiles};
use gabion_seccomp::interpret::run;
use gabion_seccomp::profile::{Action, Architecture, Condition, Operator, Rule};
use gabion_seccomp::syscalls::{Resolved, resolve};
use gabion_seccomp::{Abi, CompileError, Compiled, Data, Profile, Target, Verdict, compile};
use proptest::prelude::*;
use serde_json::json;

/// The widths of the calls that these tests put conditions on; written down again, not taken from the crate.
fn is_int(name: &str, argument: u32) -> bool {
    match name {
        "personality" => argument == 0,
        "socket" => argument < 3,
        "socketpair" => argument < 3,
        "ioctl" => argument < 2,
        "clone" => argument == 0,
        "mmap" | "unshare" | "ptrace" | "read" => false,
        other => panic!("{other} is not in this table"),
    }
}

fn compiled(profile: &Profile, native: Abi) -> Compiled {
    let compiled = compile(profile, &Target::new(native)).unwrap();
    assert_eq!(compiled.program.check(), Ok(()));
    compiled
}

fn returned(compiled: &Compiled, data: &Data) -> Verdict {
    Verdict::decode(run(&compiled.program, data).unwrap().returned)
}

/// Values at and beside what a profile compares with, with and without a high half.
fn interesting(profile: &Profile) -> Vec<u64> {
    let mut values = vec![0, 1, 0x7fff_ffff, 0xffff_ffff, 1 << 32, u64::MAX];
    for condition in profile.syscalls.iter().flat_map(|rule| &rule.args) {
        for value in [
            condition.value,
            condition.value_two.unwrap_or(0),
            condition.value & 0xffff_ffff,
        ] {
            let near = [value.wrapping_sub(1), value, value.wrapping_add(1)];
            values.extend(
                near.into_iter()
                    .flat_map(|near| [near, near ^ (1 << 32), near ^ 0xdead_beef_0000_0000]),
            );
        }
    }
    values.sort_unstable();
    values.dedup();
    values
}

fn numbers(abi: Abi) -> impl Iterator<Item = u32> {
    let base = if abi == Abi::X32 { 0x4000_0000 } else { 0 };
    let private = if abi == Abi::Arm { 0xf_0000..0xf_0010 } else { 0..0 };
    (base..base + 1100)
        .chain(private)
        .chain([0x3fff_ffff, 0x7fff_ffff, 0x8000_0000, u32::MAX])
}

fn agrees(declaration: &Declaration, compiled: &Compiled, data: &Data) {
    assert_eq!(
        returned(compiled, data),
        declaration.of(data, is_int),
        "{data:x?}"
    );
}

#[test]
fn engines_profiles_and_our_own_are_what_they_declare_for_every_number() {
    for (_, value) in profiles() {
        let profile = profile(&value);
        let values = interesting(&profile);
        for native in [Abi::X86_64, Abi::Aarch64] {
            let compiled = compiled(&profile, native);
            let declaration = Declaration::new(&profile, native);
            for abi in [Abi::X86_64, Abi::X86, Abi::X32, Abi::Aarch64, Abi::Arm] {
                for number in numbers(abi) {
                    let mut data = Data {
                        nr: number.cast_signed(),
                        arch: abi.audit_architecture(),
                        ..Data::default()
                    };
                    agrees(&declaration, &compiled, &data);
                    data.args = [u64::MAX; 6];
                    agrees(&declaration, &compiled, &data);
                }
                let conditional = profile.syscalls.iter().filter(|rule| !rule.args.is_empty());
                for call in conditional.flat_map(|rule| &rule.names) {
                    let Resolved::Number(number) = resolve(call, abi) else {
                        continue;
                    };
                    for (index, value) in values.iter().enumerate() {
                        let other = values[(index * 7 + 3) % values.len()];
                        for args in [
                            [*value; 6],
                            [*value, other, 9, 0, 0, 0],
                            [16, other, *value, 0, 0, 0],
                        ] {
                            let nr = number.cast_signed();
                            let arch = abi.audit_architecture();
                            agrees(
                                &declaration,
                                &compiled,
                                &Data {
                                    nr,
                                    arch,
                                    instruction_pointer: 0,
                                    args,
                                },
                            );
                        }
                    }
                }
            }
        }
    }
}

/// Calls that rules of random profiles are about: narrow and wide, present on all ABIs or on some.
const CALLS: [&str; 8] = [
    "socket",
    "personality",
    "ioctl",
    "clone",
    "mmap",
    "unshare",
    "read",
    "ptrace",
];

fn conditions() -> impl Strategy<Value = Condition> {
    let value = prop_oneof![
        0..4u64,
        Just(0xffff_ffff),
        Just(u64::MAX),
        Just(1 << 32),
        Just((1 << 32) | 2),
        Just(0xffff_ffff_8000_0000),
        any::<u64>(),
    ];
    (
        0..6u32,
        value.clone(),
        proptest::option::of(value),
        0..Operator::ALL.len(),
    )
        .prop_map(|(index, value, value_two, op)| Condition {
            index,
            value,
            value_two,
            op: Operator::ALL[op],
        })
}

fn actions() -> impl Strategy<Value = (Action, Option<u32>)> {
    prop_oneof![
        (0..Action::ALL.len()).prop_map(|index| (Action::ALL[index], None)),
        (0..4096u32).prop_map(|errno| (Action::Errno, Some(errno))),
        (0..65536u32).prop_map(|data| (Action::Trace, Some(data))),
    ]
}

fn random_profiles() -> impl Strategy<Value = Profile> {
    let rule = (
        proptest::collection::vec(proptest::sample::select(&CALLS[..]), 1..3),
        actions(),
        proptest::collection::vec(conditions(), 0..4),
    )
        .prop_map(|(names, (action, errno_ret), args)| Rule {
            names: names.into_iter().map(str::to_owned).collect(),
            action,
            errno_ret,
            args,
        });
    let architectures = proptest::sample::subsequence(Architecture::ALL.to_vec(), 0..6);
    let default = actions().prop_filter("a listener cannot be the default", |(action, _)| {
        *action != Action::Notify
    });
    (default, architectures, proptest::collection::vec(rule, 0..12)).prop_map(
        |((default_action, default_errno_ret), architectures, syscalls)| Profile {
            default_action,
            default_errno_ret,
            architectures,
            flags: vec![],
            listener_path: Some("/run/listener".to_owned()),
            listener_metadata: None,
            syscalls,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_profiles_are_what_they_declare(
        profile in random_profiles(),
        native in proptest::sample::select(&[Abi::X86_64, Abi::Aarch64, Abi::X86][..]),
        picks in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 6),
        random in proptest::collection::vec(any::<u64>(), 6),
    ) {
        let compiled = compiled(&profile, native);
        let declaration = Declaration::new(&profile, native);
        let mut values = interesting(&profile);
        values.extend(random);
        for abi in Abi::ALL {
            let arch = abi.audit_architecture();
            let called = CALLS.iter().filter_map(|call| match resolve(call, abi) {
                Resolved::Number(number) => Some(number),
                _ => None,
            });
            for number in called.chain([0, 39, 600, 0x4000_0000, u32::MAX]) {
                for _ in 0..2 {
                    for start in 0..picks.len() {
                        let mut args = [0; 6];
                        for (argument, (_, pick)) in args.iter_mut().zip(picks[start..].iter().chain(&picks)) {
                            *argument = *pick.get(&values);
                        }
                        // One value in all arguments meets several conditions on one of them.
                        let same = [*picks[start].0.get(&values); 6];
                        for args in [args, same] {
                            agrees(&declaration, &compiled, &Data {
                                nr: number.cast_signed(), arch, instruction_pointer: 0, args,
                            });
                        }
                    }
                }
            }
        }
    }
}

fn from(value: serde_json::Value) -> Compiled {
    compiled(&profile(&value), Abi::X86_64)
}

fn x86_64(compiled: &Compiled, name: &str, first: u64, second: u64) -> Verdict {
    let Resolved::Number(number) = resolve(name, Abi::X86_64) else {
        panic!("{name}")
    };
    let args = [first, second, 0, 0, 0, 0];
    returned(
        compiled,
        &Data {
            nr: number.cast_signed(),
            arch: 0xc000_003e,
            instruction_pointer: 0,
            args,
        },
    )
}

#[test]
fn conditions_on_one_argument_all_have_to_hold() {
    let filter = from(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [
            {"index": 0, "value": 38, "op": "SCMP_CMP_NE"},
            {"index": 0, "value": 40, "op": "SCMP_CMP_NE"}]},
    ]}));
    let families = |family| x86_64(&filter, "socket", family, 0);
    assert_eq!(
        [families(38), families(40), families(2)],
        [Verdict::Errno(1), Verdict::Errno(1), Verdict::Allow]
    );
}

#[test]
fn a_deny_with_conditions_holds_beside_a_broad_allow_wherever_it_stands() {
    let allow = json!({"names": ["socket"], "action": "SCMP_ACT_ALLOW"});
    let deny = json!({"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 97, "args": [
        {"index": 0, "value": 38, "op": "SCMP_CMP_EQ"}]});
    for rules in [json!([allow, deny]), json!([deny, allow])] {
        let filter = from(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}));
        assert_eq!(x86_64(&filter, "socket", 38, 0), Verdict::Errno(97));
        assert_eq!(x86_64(&filter, "socket", 2, 0), Verdict::Allow);
    }
}

#[test]
fn of_rules_with_conditions_the_strictest_decides_and_of_others_the_first() {
    let with = |action: &str, errno: Option<u32>, op: &str, value: u64| {
        let mut rule =
            json!({"names": ["mmap"], "action": action, "args": [{"index": 0, "value": value, "op": op}]});
        if let Some(errno) = errno {
            rule["errnoRet"] = errno.into();
        }
        rule
    };
    let filter = from(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        with("SCMP_ACT_ALLOW", None, "SCMP_CMP_GE", 1),
        with("SCMP_ACT_ERRNO", Some(5), "SCMP_CMP_GE", 2),
        with("SCMP_ACT_ERRNO", Some(6), "SCMP_CMP_GE", 2),
        with("SCMP_ACT_KILL_PROCESS", None, "SCMP_CMP_GE", 1 << 40),
        {"names": ["mmap", "read"], "action": "SCMP_ACT_TRAP"},
        {"names": ["mmap", "read"], "action": "SCMP_ACT_ALLOW"},
    ]}));
    let mmap = |address| x86_64(&filter, "mmap", address, 0);
    assert_eq!(
        [mmap(0), mmap(1), mmap(2)],
        [Verdict::Trap(0), Verdict::Allow, Verdict::Errno(5)]
    );
    assert_eq!(
        [mmap((1 << 40) - 1), mmap(1 << 40)],
        [Verdict::Errno(5), Verdict::KillProcess]
    );
    assert_eq!(x86_64(&filter, "read", 0, 0), Verdict::Trap(0));
}

#[test]
fn of_rules_for_values_of_one_argument_each_counts_and_the_first_of_two_alike() {
    let allowed = |value: u64, errno: u16| {
        json!({"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno,
            "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]})
    };
    let mut rules: Vec<_> = [(3, 7), (4, 7), (5, 7), (7, 8), (0, 9), (4, 10), (0xffff_ffff, 11)]
        .into_iter()
        .map(|(value, errno)| allowed(value, errno))
        .collect();
    // One that asks for something else in their midst.
    rules.insert(
        3,
        json!({"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 20, "args": [
            {"index": 0, "value": 16, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 9, "op": "SCMP_CMP_EQ"}]}),
    );
    let filter = from(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}));
    for (family, kind, verdict) in [
        (0, 1, Verdict::Errno(9)),
        (1, 1, Verdict::Allow),
        (2, 1, Verdict::Allow),
        (3, 1, Verdict::Errno(7)),
        (4, 1, Verdict::Errno(7)),
        (5, 1, Verdict::Errno(7)),
        (6, 1, Verdict::Allow),
        (7, 1, Verdict::Errno(8)),
        (8, 1, Verdict::Allow),
        (16, 9, Verdict::Errno(20)),
        (16, 8, Verdict::Allow),
        (0xffff_fffe, 1, Verdict::Allow),
        (0xffff_ffff, 1, Verdict::Errno(11)),
        // Only the low half is the argument.
        (0x1_0000_0003, 1, Verdict::Errno(7)),
    ] {
        assert_eq!(x86_64(&filter, "socket", family, kind), verdict, "{family}");
    }
}

#[test]
fn numbers_that_the_author_could_not_know_do_not_exist() {
    let at = |filter: &Compiled, nr: i32| {
        returned(
            filter,
            &Data {
                nr,
                arch: 0xc000_003e,
                ..Data::default()
            },
        )
    };
    // The youngest call that is named is of Linux 5.9, so that 5.10 and later do not exist.
    let rules = json!([{"names": ["close_range"], "action": "SCMP_ACT_ALLOW"}]);
    let filter = from(json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 13, "syscalls": rules}));
    for (nr, expected) in [
        (436, Verdict::Allow),
        (0, Verdict::Errno(13)),
        (334, Verdict::Errno(13)),
        (439, Verdict::Errno(13)),
    ] {
        assert_eq!(at(&filter, nr), expected, "{nr}");
    }
    for nr in [335, 400, 423, 440, 441, 600, -1, 0x4000_0000, 0x4000_0001] {
        assert_eq!(at(&filter, nr), Verdict::Errno(38), "{nr}");
    }
    for action in ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"] {
        let filter = from(json!({"defaultAction": action, "syscalls": []}));
        assert_eq!(at(&filter, 600), at(&filter, 0), "{action}");
    }
    for action in ["SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP", "SCMP_ACT_KILL"] {
        let filter = from(json!({"defaultAction": action, "syscalls": []}));
        assert_eq!(at(&filter, 600), Verdict::Errno(38), "{action}");
        assert_ne!(at(&filter, 0), Verdict::Errno(38), "{action}");
    }
}

#[test]
fn an_architecture_that_is_not_listed_kills_and_the_native_one_need_not_be_listed() {
    let only = |listed: &[&str], arch: u32| {
        let filter = from(json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": listed}));
        returned(
            &filter,
            &Data {
                nr: 20,
                arch,
                ..Data::default()
            },
        )
    };
    let (x86_64, x86) = (0xc000_003e, 0x4000_0003);
    assert_eq!(
        (only(&[], x86_64), only(&[], x86)),
        (Verdict::Allow, Verdict::KillProcess)
    );
    assert_eq!(only(&["SCMP_ARCH_X86"], x86_64), Verdict::Allow);
    assert_eq!(only(&["SCMP_ARCH_X86"], x86), Verdict::Allow);
    assert_eq!(only(&["SCMP_ARCH_S390X"], 0x8000_0016), Verdict::KillProcess);
    assert_eq!(only(&[], 0), Verdict::KillProcess);
    let listed = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_S390X", "SCMP_ARCH_X32"]});
    assert_eq!(from(listed).ignored_architectures, [Architecture::S390x]);
}

#[test]
fn names_that_nobody_knows_are_told_and_names_of_other_architectures_are_not() {
    let filter = from(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": ["read", "frobnicate", "fstatat64", "mseal"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["frobnicate"], "action": "SCMP_ACT_LOG"},
    ]}));
    assert_eq!(filter.ignored_names, ["frobnicate"]);
}

#[test]
fn flags_are_the_kernels_numbers() {
    let flags = |names: serde_json::Value, notify: bool| {
        let action = if notify {
            "SCMP_ACT_NOTIFY"
        } else {
            "SCMP_ACT_ALLOW"
        };
        let filter = from(
            json!({"defaultAction": "SCMP_ACT_ERRNO", "listenerPath": "/run/l", "flags": names,
            "syscalls": [{"names": ["mount"], "action": action}]}),
        );
        assert_eq!(filter.listener, notify);
        filter.flags
    };
    assert_eq!(flags(json!(null), false), 0);
    assert_eq!(flags(json!(["SECCOMP_FILTER_FLAG_TSYNC"]), false), 1);
    assert_eq!(
        flags(
            json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]),
            false
        ),
        6
    );
    assert_eq!(flags(json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]), false), 0);
    assert_eq!(
        flags(json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]), true),
        8 | 32
    );
    assert_eq!(flags(json!(["SECCOMP_FILTER_FLAG_TSYNC"]), true), 1 | 8 | 16);
}

#[test]
fn a_listener_needs_a_path_and_calls_that_work_without_it() {
    let error = |default: &str, path: &str, name: &str| {
        let value = json!({"defaultAction": default, "listenerPath": path,
            "syscalls": [{"names": [name], "action": "SCMP_ACT_NOTIFY"}]});
        compile(&profile(&value), &Target::native()).unwrap_err()
    };
    assert_eq!(error("SCMP_ACT_ALLOW", "", "mount"), CompileError::NoListenerPath);
    assert_eq!(
        error("SCMP_ACT_NOTIFY", "/run/l", "mount"),
        CompileError::NotifyByDefault
    );
    let write = error("SCMP_ACT_ALLOW", "/run/l", "write");
    assert_eq!(
        write.to_string(),
        "SCMP_ACT_NOTIFY cannot be used for the write syscall: the runtime calls it to hand the listener over"
    );
}

#[test]
fn a_filter_longer_than_the_kernel_takes_is_refused_and_a_long_one_works() {
    let many = |rules: u64| {
        let rules: Vec<_> = (0..rules)
            .map(|value| json!({"names": ["mmap"], "action": "SCMP_ACT_ALLOW", "args": [
                {"index": 0, "value": 3 * value, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": value, "op": "SCMP_CMP_GT"}]}))
            .collect();
        compile(
            &profile(&json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules})),
            &Target::new(Abi::X86_64),
        )
    };
    let long = many(300).unwrap();
    assert!(long.program.len() > 2000, "{}", long.program.len());
    for value in [0, 1, 255, 299] {
        assert_eq!(
            x86_64(&long, "mmap", 3 * value, value + 1),
            Verdict::Allow,
            "{value}"
        );
        assert_eq!(
            x86_64(&long, "mmap", 3 * value, value),
            Verdict::Errno(1),
            "{value}"
        );
        assert_eq!(
            x86_64(&long, "mmap", 3 * value + 1, value + 1),
            Verdict::Errno(1),
            "{value}"
        );
    }
    assert_eq!(many(2000).unwrap_err(), CompileError::TooLong);
}

/// The kernel asks a filter once for each number, when it is loaded, and does not run it for those that it allows
/// whatever the arguments (`seccomp_is_const_allow`). It gives up where a filter looks at anything else.
#[test]
fn the_kernel_can_tell_which_numbers_are_always_allowed() {
    for (name, value) in profiles() {
        let filter = from(value);
        let arch = 0xc000_003e;
        for nr in 0..470 {
            let verdicts: Vec<Verdict> = [[0; 6], [u64::MAX; 6]]
                .into_iter()
                .map(|args| {
                    returned(
                        &filter,
                        &Data {
                            nr,
                            arch,
                            instruction_pointer: 0,
                            args,
                        },
                    )
                })
                .collect();
            let arguments_matter = ["socket", "socketpair", "ioctl", "clone", "personality"]
                .iter()
                .any(|call| resolve(call, Abi::X86_64) == Resolved::Number(nr.cast_unsigned()));
            if !arguments_matter {
                assert!(
                    follows_numbers_alone(&filter, nr, arch),
                    "{name} {nr} {verdicts:?}"
                );
            }
        }
    }
}

fn follows_numbers_alone(filter: &Compiled, nr: i32, arch: u32) -> bool {
    const LOAD: u16 = 0x20;
    let mut at = 0;
    let mut accumulator = 0;
    loop {
        let instruction = filter.program.instructions[at];
        let taken = match (instruction.code, instruction.k) {
            (LOAD, 0) => {
                accumulator = nr.cast_unsigned();
                None
            }
            (LOAD, 4) => {
                accumulator = arch;
                None
            }
            (0x06, _) => return true,
            (0x05, k) => {
                at += k as usize;
                None
            }
            (0x15, k) => Some(accumulator == k),
            (0x35, k) => Some(accumulator >= k),
            (0x25, k) => Some(accumulator > k),
            _ => return false,
        };
        at += 1 + taken.map_or(0, |taken| {
            usize::from(if taken { instruction.jt } else { instruction.jf })
        });
    }
}

/// What looking a call up costs, in instructions. Printed for the record; the bounds keep it from growing unseen.
#[test]
fn filters_are_short_and_look_a_call_up_in_few_instructions() {
    println!(
        "{:30} {:>6} {:>6}  {}",
        "profile", "length", "bytes", "executed: read futex openat ioctl clone socket bpf"
    );
    for (name, value) in profiles() {
        let filter = from(value);
        let executed: Vec<usize> = ["read", "futex", "openat", "ioctl", "clone", "socket", "bpf"]
            .into_iter()
            .map(|call| {
                let Resolved::Number(number) = resolve(call, Abi::X86_64) else {
                    panic!("{call}")
                };
                let args = if call == "socket" {
                    [2, 1, 0, 0, 0, 0]
                } else {
                    [0; 6]
                };
                let data = Data {
                    nr: number.cast_signed(),
                    arch: 0xc000_003e,
                    instruction_pointer: 0,
                    args,
                };
                run(&filter.program, &data).unwrap().instructions
            })
            .collect();
        println!(
            "{name:30} {:>6} {:>6}  {executed:?}",
            filter.program.len(),
            filter.program.to_bytes().len()
        );
        assert!(filter.program.len() < 300, "{name}: {}", filter.program.len());
        assert!(
            executed.iter().all(|instructions| *instructions <= 18),
            "{name}: {executed:?}"
        );
    }
}
