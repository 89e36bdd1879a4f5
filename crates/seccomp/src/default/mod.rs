//! gabion's own profile, for containers that come without one.
//!
//! [`groups::GROUPS`] is the data, to be read and reviewed; this module turns it into the OCI object for the
//! capabilities that a container keeps. docs/seccomp.md says the same for operators, and a test holds the two
//! together.

pub mod groups;

use serde_json::{Value, json};

use crate::abi::Abi;
use groups::{Answer, Argument, GROUPS, Group, When};

/// The profile for a container with these capabilities in its bounding set (`CAP_SYS_ADMIN`, …), as the value of
/// `linux.seccomp`.
///
/// It is for native programs only: a 32-bit program is killed at its first system call. The i386 way into the
/// kernel packs the arguments of socket(2) behind a pointer, where no filter sees them, and any 64-bit program can
/// take it; see [`with_compatibility`] for containers that need it.
pub fn profile(bounding: &[String]) -> Value {
    build(bounding, &[])
}

/// The same for containers that run 32-bit programs. Restrictions on socket families do not hold for these.
pub fn with_compatibility(bounding: &[String]) -> Value {
    let compatible: Vec<Abi> = Abi::NATIVE
        .compatible()
        .iter()
        .copied()
        .filter(|abi| *abi != Abi::X32)
        .collect();
    build(bounding, &compatible)
}

fn build(bounding: &[String], compatible: &[Abi]) -> Value {
    const EPERM: u16 = 1;
    let architectures: Vec<&str> = std::iter::once(&Abi::NATIVE)
        .chain(compatible)
        .map(|abi| abi.architecture().as_str())
        .collect();
    let syscalls: Vec<Value> = GROUPS
        .iter()
        .filter(|group| group.when.holds(bounding, !compatible.is_empty()))
        .flat_map(rules)
        .collect();
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": EPERM,
        "architectures": architectures,
        "syscalls": syscalls,
    })
}

/// The rules of a group: one, or one for each alternative of its conditions.
fn rules(group: &Group) -> Vec<Value> {
    let rule = |args: &[Argument]| {
        let mut rule = match group.answer {
            Answer::Allow => json!({"names": group.calls, "action": "SCMP_ACT_ALLOW"}),
            Answer::Errno(errno) => {
                json!({"names": group.calls, "action": "SCMP_ACT_ERRNO", "errnoRet": errno as u16})
            }
        };
        if !args.is_empty() {
            rule["args"] = args.iter().map(condition).collect();
        }
        rule
    };
    if group.only.is_empty() {
        vec![rule(&[])]
    } else {
        group.only.iter().map(|args| rule(args)).collect()
    }
}

fn condition(argument: &Argument) -> Value {
    match *argument {
        Argument::Is(index, value) => json!({"index": index, "value": value, "op": "SCMP_CMP_EQ"}),
        Argument::Masked { index, mask, value } => {
            json!({"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"})
        }
    }
}

impl When {
    fn holds(self, bounding: &[String], compatibility: bool) -> bool {
        let has_any = |capabilities: &[&str]| {
            capabilities
                .iter()
                .any(|one| bounding.iter().any(|has| has == one))
        };
        match self {
            When::Always => true,
            When::With(capabilities) => has_any(capabilities),
            When::Without(capabilities) => !has_any(capabilities),
            When::Compatible => compatibility,
            When::NotCompatible => !compatibility,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syscalls::{Resolved, resolve};
    use crate::{Compiled, Data, Profile, Target, Verdict, compile, interpret};

    const ALLOW: Verdict = Verdict::Allow;
    const EPERM: Verdict = Verdict::Errno(1);
    const ENOSYS: Verdict = Verdict::Errno(38);
    const EAFNOSUPPORT: Verdict = Verdict::Errno(97);
    const EPROTONOSUPPORT: Verdict = Verdict::Errno(93);
    const EINVAL: Verdict = Verdict::Errno(22);
    /// The high half of an int argument, which the kernel does not look at.
    const GARBAGE: u64 = 0x5555_0001_0000_0000;

    fn compiled(value: &Value) -> Compiled {
        compile(&Profile::from_value(value).unwrap().unwrap(), &Target::native()).unwrap()
    }

    fn with(capabilities: &[&str]) -> Compiled {
        let make: fn(&[String]) -> Value = profile;
        compiled(&make(
            &capabilities
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>(),
        ))
    }

    fn on(compiled: &Compiled, abi: Abi, name: &str, args: &[u64]) -> Verdict {
        let Resolved::Number(number) = resolve(name, abi) else {
            panic!("{name} is not on {abi:?}")
        };
        let mut data = Data {
            nr: number.cast_signed(),
            arch: abi.audit_architecture(),
            ..Data::default()
        };
        data.args[..args.len()].copy_from_slice(args);
        interpret(&compiled.program, &data).unwrap()
    }

    fn asked(compiled: &Compiled, name: &str, args: &[u64]) -> Verdict {
        on(compiled, Abi::NATIVE, name, args)
    }

    #[test]
    fn groups_have_a_reason_and_calls_that_exist_and_each_call_is_in_one_group_per_condition() {
        for group in GROUPS {
            assert!(
                group.reason.len() > 20 && group.reason.ends_with('.'),
                "{}",
                group.name
            );
            assert!(
                group.calls.is_sorted() && !group.calls.is_empty(),
                "{}",
                group.name
            );
            for call in group.calls {
                assert_ne!(
                    resolve(call, Abi::X86_64),
                    Resolved::Unknown,
                    "{call} in {}",
                    group.name
                );
            }
        }
        let unconditional = |group: &&Group| group.when == When::Always && group.only.is_empty();
        let mut calls: Vec<&str> = GROUPS
            .iter()
            .filter(unconditional)
            .flat_map(|group| group.calls)
            .copied()
            .collect();
        calls.sort_unstable();
        assert!(calls.windows(2).all(|pair| pair[0] != pair[1]), "{calls:?}");
        let mut names: Vec<&str> = GROUPS.iter().map(|group| group.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }

    #[test]
    fn every_name_is_understood() {
        assert_eq!(with(&[]).ignored_names, Vec::<String>::new());
        assert_eq!(
            compiled(&with_compatibility(&[])).ignored_names,
            Vec::<String>::new()
        );
    }

    #[test]
    fn socket_families_that_programs_use_are_there_and_the_others_do_not_exist() {
        let none = with(&[]);
        for family in 0..64 {
            let expected = match family {
                1 | 2 | 10 | 16 => ALLOW,
                17 => EPERM,
                _ => EAFNOSUPPORT,
            };
            assert_eq!(asked(&none, "socket", &[family, 1, 0]), expected, "{family}");
            assert_eq!(
                asked(&none, "socket", &[GARBAGE | family, 1, 0]),
                expected,
                "{family} with high bits"
            );
        }
        assert_eq!(asked(&with(&["CAP_NET_RAW"]), "socket", &[17, 3, 0]), ALLOW);
        assert_eq!(asked(&none, "socketpair", &[1, 1, 0]), ALLOW);
        assert_eq!(asked(&none, "socketpair", &[30, 1, 0]), EAFNOSUPPORT);
    }

    #[test]
    fn netlink_families_that_need_a_capability_are_refused_without_it() {
        let none = with(&[]);
        for (protocol, expected) in [
            (0, ALLOW),
            (4, ALLOW),
            (6, EPROTONOSUPPORT),
            (9, EINVAL),
            (12, EPROTONOSUPPORT),
        ] {
            assert_eq!(asked(&none, "socket", &[16, 3, protocol]), expected, "{protocol}");
            assert_eq!(
                asked(&none, "socket", &[16, 3, GARBAGE | protocol]),
                expected,
                "{protocol} with high bits"
            );
        }
        let admin = with(&["CAP_NET_ADMIN", "CAP_AUDIT_WRITE"]);
        for protocol in [6, 9, 12] {
            assert_eq!(asked(&admin, "socket", &[16, 3, protocol]), ALLOW, "{protocol}");
        }
    }

    #[test]
    fn new_namespaces_are_for_those_who_may_mount() {
        let none = with(&[]);
        const SIGCHLD: u64 = 17;
        const THREAD: u64 = 0x003d_0f00;
        assert_eq!(asked(&none, "clone", &[SIGCHLD]), ALLOW);
        assert_eq!(asked(&none, "clone", &[THREAD]), ALLOW);
        for namespace in [
            0x0002_0000,
            0x0200_0000,
            0x0400_0000,
            0x0800_0000,
            0x1000_0000,
            0x2000_0000,
            0x4000_0000,
        ] {
            assert_eq!(
                asked(&none, "clone", &[SIGCHLD | namespace]),
                EPERM,
                "{namespace:#x}"
            );
            assert_eq!(
                asked(&none, "clone", &[GARBAGE | SIGCHLD | namespace]),
                EPERM,
                "{namespace:#x}"
            );
            assert_eq!(asked(&none, "unshare", &[namespace]), EPERM);
        }
        assert_eq!(
            asked(&none, "clone3", &[0, 88]),
            ENOSYS,
            "its flags are behind a pointer"
        );
        assert_eq!(asked(&none, "mount", &[]), EPERM);
        assert_eq!(asked(&none, "setns", &[3, 0]), EPERM);
        let admin = with(&["CAP_SYS_ADMIN"]);
        assert_eq!(asked(&admin, "clone", &[0x1000_0000]), ALLOW);
        for call in [
            "clone3",
            "unshare",
            "mount",
            "setns",
            "fsopen",
            "open_tree",
            "open_tree_attr",
            "pivot_root",
            "bpf",
        ] {
            assert_eq!(asked(&admin, call, &[]), ALLOW, "{call}");
        }
    }

    #[test]
    fn keys_io_uring_and_tables_of_segments_do_not_exist_with_any_capability() {
        for profile in [with(&[]), with(&["CAP_SYS_ADMIN"])] {
            for call in [
                "keyctl",
                "add_key",
                "request_key",
                "io_uring_setup",
                "io_uring_enter",
                "io_uring_register",
            ] {
                assert_eq!(asked(&profile, call, &[]), ENOSYS, "{call}");
            }
            for call in ["kexec_load", "userfaultfd", "swapon", "nfsservctl", "vmsplice"] {
                let expected = if call == "vmsplice" { ALLOW } else { EPERM };
                assert_eq!(asked(&profile, call, &[]), expected, "{call}");
            }
        }
    }

    #[test]
    fn nothing_is_typed_into_a_terminal() {
        let profile = with(&["CAP_SYS_ADMIN"]);
        const TCGETS: u64 = 0x5401;
        for (command, expected) in [(TCGETS, ALLOW), (0x5412, EPERM), (0x541c, EPERM), (0x5413, ALLOW)] {
            assert_eq!(asked(&profile, "ioctl", &[0, command]), expected, "{command:#x}");
            assert_eq!(
                asked(&profile, "ioctl", &[0, GARBAGE | command]),
                expected,
                "{command:#x} with high bits"
            );
        }
    }

    #[test]
    fn personality_takes_the_five_values_that_change_nothing_dangerous() {
        let none = with(&[]);
        for value in [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
            assert_eq!(asked(&none, "personality", &[value]), ALLOW, "{value:#x}");
            assert_eq!(
                asked(&none, "personality", &[GARBAGE | value]),
                ALLOW,
                "{value:#x}"
            );
        }
        for value in [1, 0x004_0000, 0x040_0000, 0xffff_fffe] {
            assert_eq!(asked(&none, "personality", &[value]), EPERM, "{value:#x}");
        }
    }

    #[test]
    fn a_capability_brings_its_calls_and_no_others() {
        let table: [(&str, &[&str]); 13] = [
            ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
            ("CAP_SYS_BOOT", &["reboot"]),
            ("CAP_SYS_CHROOT", &["chroot"]),
            (
                "CAP_SYS_MODULE",
                &["delete_module", "finit_module", "init_module"],
            ),
            ("CAP_SYS_PACCT", &["acct"]),
            ("CAP_SYS_PTRACE", &["kcmp", "pidfd_getfd", "process_madvise"]),
            ("CAP_SYS_RAWIO", &["ioperm", "iopl"]),
            ("CAP_SYS_TIME", &["clock_settime", "settimeofday"]),
            ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
            (
                "CAP_SYS_NICE",
                &[
                    "get_mempolicy",
                    "mbind",
                    "set_mempolicy",
                    "set_mempolicy_home_node",
                ],
            ),
            ("CAP_SYSLOG", &["syslog"]),
            ("CAP_BPF", &["bpf"]),
            ("CAP_PERFMON", &["perf_event_open"]),
        ];
        let none = with(&[]);
        for (capability, calls) in table {
            let profile = with(&[capability]);
            for (_, others) in table {
                for call in others {
                    assert_eq!(asked(&none, call, &[]), EPERM, "{call}");
                    let expected = if calls.contains(call) { ALLOW } else { EPERM };
                    assert_eq!(asked(&profile, call, &[]), expected, "{call} with {capability}");
                }
            }
        }
        assert_eq!(
            with(&["SYS_ADMIN", "cap_sys_admin"]),
            none,
            "a name that is not the spec's grants nothing"
        );
    }

    #[test]
    fn new_calls_that_programs_probe_for_are_there_or_do_not_exist() {
        let none = with(&[]);
        for call in [
            "mseal",
            "cachestat",
            "statmount",
            "setxattrat",
            "futex_wait",
            "fchmodat2",
            "landlock_restrict_self",
        ] {
            assert_eq!(asked(&none, call, &[]), ALLOW, "{call}");
        }
        for call in ["file_getattr", "listns", "lsm_get_self_attr"] {
            assert_eq!(asked(&none, call, &[]), ENOSYS, "{call}");
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_32_bit_ways_into_the_kernel_are_closed_unless_asked_for() {
        let closed = with(&[]);
        assert_eq!(on(&closed, Abi::X86, "getpid", &[]), Verdict::KillProcess);
        assert_eq!(on(&closed, Abi::X32, "getpid", &[]), ENOSYS);
        assert_eq!(asked(&closed, "modify_ldt", &[]), ENOSYS);
        let open = compiled(&with_compatibility(&[]));
        assert_eq!(on(&open, Abi::X86, "getpid", &[]), ALLOW);
        assert_eq!(on(&open, Abi::X86, "socketcall", &[1]), ALLOW);
        assert_eq!(on(&open, Abi::X86, "socket", &[38, 5, 0]), EAFNOSUPPORT);
        assert_eq!(on(&open, Abi::X86, "ioctl", &[0, 0x5412]), EPERM);
        assert_eq!(on(&open, Abi::X32, "getpid", &[]), ENOSYS);
        assert_eq!(asked(&open, "modify_ldt", &[]), ALLOW);
    }

    /// docs/seccomp.md has one row for each group; on a mismatch the rows that it should have are printed.
    #[test]
    fn the_document_has_a_row_for_each_group() {
        let rows: String = GROUPS.iter().map(row).collect();
        let document = include_str!("../../../../docs/seccomp.md");
        let written: String = document
            .lines()
            .filter(|line| line.starts_with("| `"))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(written, rows, "docs/seccomp.md should have these rows:\n{rows}");
    }

    fn row(group: &Group) -> String {
        let list = |names: &[&str]| {
            names
                .iter()
                .map(|name| name.replace("CAP_", ""))
                .collect::<Vec<_>>()
                .join(" or ")
        };
        let when = match group.when {
            When::Always => "always".to_owned(),
            When::With(capabilities) => format!("with {}", list(capabilities)),
            When::Without(capabilities) => format!("without {}", list(capabilities)),
            When::Compatible => "32-bit programs run".to_owned(),
            When::NotCompatible => "no 32-bit programs run".to_owned(),
        };
        let answer = match group.answer {
            Answer::Allow => "allowed".to_owned(),
            Answer::Errno(errno) => format!("{errno:?}"),
        };
        format!("| `{}` | {when} | {answer} | {} |\n", group.name, group.reason)
    }
}
