//! Calls whose answer proves that a filter is in force.
//!
//! After a filter is loaded, these are made and the answers compared. Only a call that the filters answer with an
//! errno qualifies: it never reaches the kernel's own code, so making it is harmless and its errno is known.
//! Candidates are also harmless where they do reach it, since that is the case that they are there to find.
//!
//! Number 335 is none of them: it is uretprobe(2) on x86-64 since Linux 6.11 and raises SIGILL, and newer kernels
//! do not ask filters about it.

use crate::abi::Abi;
use crate::interpret::{Data, strictest, strictest_checked};
use crate::program::Program;
use crate::syscalls::{Resolved, resolve};
use crate::verdict::Verdict;

/// A call and the errno that it will fail with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// What it is: `socket(AF_ALG)`.
    pub name: String,
    /// Its number on the native architecture.
    pub number: i64,
    /// Its arguments.
    pub arguments: [u64; 6],
    /// The errno.
    pub errno: i32,
}

/// A call by name or, where that is what it is about, by number.
enum Call {
    Named(&'static str),
    Number(u32),
}

struct Candidate {
    name: &'static str,
    call: Call,
    arguments: [u64; 6],
}

const fn candidate(name: &'static str, call: &'static str, arguments: [u64; 6]) -> Candidate {
    Candidate {
        name,
        call: Call::Named(call),
        arguments,
    }
}

/// What the kernel does not look at in an `int`, and a filter must not be led astray by.
const GARBAGE: u64 = 0xdead_beef_0000_0000;
/// A descriptor, request or flag that there is none of.
const NOWHERE: u64 = 0xffff_ffff;
const SOCK_SEQPACKET: u64 = 5;
const SOCK_RAW: u64 = 3;
const FUTEX_PRIVATE: u64 = 128;
/// A flag of swapon(2) that there is none of.
const NO_FLAG: u64 = 0x8000_0000;

const CANDIDATES: &[Candidate] = &[
    candidate("socket(AF_ALG)", "socket", [38, SOCK_SEQPACKET, 0, 0, 0, 0]),
    candidate(
        "socket(AF_ALG with high bits)",
        "socket",
        [GARBAGE | 38, SOCK_SEQPACKET, 0, 0, 0, 0],
    ),
    candidate("socket(AF_VSOCK)", "socket", [40, SOCK_SEQPACKET, 0, 0, 0, 0]),
    candidate(
        "socket(AF_VSOCK with high bits)",
        "socket",
        [GARBAGE | 40, SOCK_SEQPACKET, 0, 0, 0, 0],
    ),
    candidate("socket(AF_RXRPC)", "socket", [33, SOCK_SEQPACKET, 0, 0, 0, 0]),
    candidate("socket(AF_KEY)", "socket", [15, SOCK_RAW, 2, 0, 0, 0]),
    candidate("socket(NETLINK_XFRM)", "socket", [16, SOCK_RAW, 6, 0, 0, 0]),
    candidate("socket(NETLINK_NETFILTER)", "socket", [16, SOCK_RAW, 12, 0, 0, 0]),
    candidate("socket(NETLINK_AUDIT)", "socket", [16, SOCK_RAW, 9, 0, 0, 0]),
    candidate("socket(AF_TIPC)", "socket", [30, SOCK_SEQPACKET, 0, 0, 0, 0]),
    candidate("socket(AF_CAN)", "socket", [29, SOCK_RAW, 1, 0, 0, 0]),
    candidate("socket(AF_SMC)", "socket", [43, 1, 0, 0, 0, 0]),
    candidate("socket(AF_QIPCRTR)", "socket", [42, 2, 0, 0, 0, 0]),
    candidate("socket(AF_XDP)", "socket", [44, SOCK_RAW, 0, 0, 0, 0]),
    candidate("socket(AF_BLUETOOTH)", "socket", [31, SOCK_RAW, 1, 0, 0, 0]),
    candidate("socket(AF_PPPOX)", "socket", [24, 1, 0, 0, 0, 0]),
    // A pair needs an address to put it at; without one the kernel makes none.
    candidate(
        "socketpair(AF_VSOCK)",
        "socketpair",
        [40, SOCK_SEQPACKET, 0, 0, 0, 0],
    ),
    candidate("ioctl(TIOCSTI)", "ioctl", [NOWHERE, 0x5412, 0, 0, 0, 0]),
    candidate(
        "ioctl(TIOCSTI with high bits)",
        "ioctl",
        [NOWHERE, GARBAGE | 0x5412, 0, 0, 0, 0],
    ),
    candidate("mount", "mount", [0; 6]),
    candidate("clone3", "clone3", [0; 6]),
    candidate("setns", "setns", [NOWHERE, 0, 0, 0, 0, 0]),
    candidate("init_module", "init_module", [0; 6]),
    candidate("open_by_handle_at", "open_by_handle_at", [NOWHERE, 0, 0, 0, 0, 0]),
    candidate("ptrace", "ptrace", [NOWHERE, 0, 0, 0, 0, 0]),
    candidate("vmsplice", "vmsplice", [NOWHERE, 0, 0, 0, 0, 0]),
    candidate("memfd_secret", "memfd_secret", [NOWHERE, 0, 0, 0, 0, 0]),
    candidate("fanotify_init", "fanotify_init", [NOWHERE, 0, 0, 0, 0, 0]),
    candidate("name_to_handle_at", "name_to_handle_at", [NOWHERE, 0, 0, 0, 0, 0]),
    candidate("io_uring_setup", "io_uring_setup", [0; 6]),
    candidate("keyctl", "keyctl", [0; 6]),
    candidate("add_key", "add_key", [0; 6]),
    candidate("request_key", "request_key", [0; 6]),
    candidate("bpf", "bpf", [0; 6]),
    candidate("perf_event_open", "perf_event_open", [0; 6]),
    candidate("userfaultfd", "userfaultfd", [0; 6]),
    candidate("unshare(CLONE_NEWUSER)", "unshare", [0x1000_0000, 0, 0, 0, 0, 0]),
    candidate("kexec_load", "kexec_load", [0; 6]),
    // Where these reach the kernel, it finds fault with their arguments before it asks for a capability.
    candidate("swapon", "swapon", [0, NO_FLAG, 0, 0, 0, 0]),
    candidate("quotactl", "quotactl", [0xff, 0, 0, 0, 0, 0]),
    candidate("clock_settime", "clock_settime", [9999, 0, 0, 0, 0, 0]),
    candidate("iopl", "iopl", [4, 0, 0, 0, 0, 0]),
    // With success, the process is without a fixed memory layout for the moment until it ends.
    candidate(
        "personality(ADDR_NO_RANDOMIZE)",
        "personality",
        [0x4_0000, 0, 0, 0, 0, 0],
    ),
    // Twice the same word, which is refused.
    candidate(
        "futex(FUTEX_CMP_REQUEUE_PI)",
        "futex",
        [0, 12 | FUTEX_PRIVATE, 1, 0, 0, 0],
    ),
    // Reads nothing, of a table that there is none of.
    candidate("modify_ldt", "modify_ldt", [0; 6]),
    Candidate {
        name: "number 600",
        call: Call::Number(600),
        arguments: [0; 6],
    },
];

/// The candidates that these filters, in the order in which they were loaded, answer with an errno. None if the
/// kernel would not take one of the filters.
pub fn canaries(programs: &[Program]) -> Vec<Canary> {
    let mut canaries = Vec::new();
    if programs.iter().any(|program| program.check().is_err()) {
        return canaries;
    }
    for candidate in CANDIDATES {
        let number = match candidate.call {
            Call::Number(number) => number,
            Call::Named(name) => match resolve(name, Abi::NATIVE) {
                Resolved::Number(number) => number,
                Resolved::Elsewhere | Resolved::Unknown => continue,
            },
        };
        let Some(data) = data(i64::from(number), candidate.arguments) else {
            continue;
        };
        // An errno of 0 would look like success.
        if let Ok(Verdict::Errno(errno @ 1..)) = strictest_checked(programs, &data) {
            canaries.push(Canary {
                name: candidate.name.to_owned(),
                number: number.into(),
                arguments: candidate.arguments,
                errno: errno.into(),
            });
        }
    }
    canaries
}

/// True if these filters let a call of the native architecture through without asking anybody. False if the
/// kernel would not take one of them.
pub fn permits(programs: &[Program], number: i64, arguments: [u64; 6]) -> bool {
    verdict(programs, number, arguments).is_some_and(Verdict::lets_through)
}

/// What these filters say together of a call of the native architecture. `None` if the kernel would not take one of them.
pub fn verdict(programs: &[Program], number: i64, arguments: [u64; 6]) -> Option<Verdict> {
    strictest(programs, &data(number, arguments)?).ok()
}

fn data(number: i64, args: [u64; 6]) -> Option<Data> {
    let nr = i32::try_from(number).ok()?;
    Some(Data {
        nr,
        arch: Abi::NATIVE.audit_architecture(),
        instruction_pointer: 0,
        args,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Profile, Target, compile, default};
    use serde_json::json;

    fn program(value: &serde_json::Value) -> Program {
        compile(&Profile::from_value(value).unwrap().unwrap(), &Target::native())
            .unwrap()
            .program
    }

    #[test]
    fn the_default_profile_answers_candidates_with_their_errno() {
        let canaries = canaries(&[program(&default::profile(&[]))]);
        let answers: Vec<(&str, i32)> = canaries
            .iter()
            .map(|canary| (canary.name.as_str(), canary.errno))
            .collect();
        assert_eq!(
            answers,
            [
                ("socket(AF_ALG)", 97),
                ("socket(AF_ALG with high bits)", 97),
                ("socket(AF_VSOCK)", 97),
                ("socket(AF_VSOCK with high bits)", 97),
                ("socket(AF_RXRPC)", 97),
                ("socket(AF_KEY)", 97),
                ("socket(NETLINK_XFRM)", 93),
                ("socket(NETLINK_NETFILTER)", 93),
                ("socket(NETLINK_AUDIT)", 22),
                ("socket(AF_TIPC)", 97),
                ("socket(AF_CAN)", 97),
                ("socket(AF_SMC)", 97),
                ("socket(AF_QIPCRTR)", 97),
                ("socket(AF_XDP)", 97),
                ("socket(AF_BLUETOOTH)", 97),
                ("socket(AF_PPPOX)", 97),
                ("socketpair(AF_VSOCK)", 97),
                ("ioctl(TIOCSTI)", 1),
                ("ioctl(TIOCSTI with high bits)", 1),
                ("mount", 1),
                ("clone3", 38),
                ("setns", 1),
                ("init_module", 1),
                ("open_by_handle_at", 1),
                ("fanotify_init", 1),
                ("io_uring_setup", 38),
                ("keyctl", 38),
                ("add_key", 38),
                ("request_key", 38),
                ("bpf", 1),
                ("perf_event_open", 1),
                ("userfaultfd", 1),
                ("unshare(CLONE_NEWUSER)", 1),
                ("kexec_load", 1),
                ("swapon", 1),
                ("quotactl", 1),
                ("clock_settime", 1),
                #[cfg(target_arch = "x86_64")]
                ("iopl", 1),
                ("personality(ADDR_NO_RANDOMIZE)", 1),
                #[cfg(target_arch = "x86_64")]
                ("modify_ldt", 38),
                ("number 600", 38),
            ]
        );
        assert!(canaries.iter().all(|canary| canary.number != 335));
    }

    #[test]
    fn a_call_that_is_made_killed_or_succeeds_by_errno_0_is_no_canary() {
        let named = |value| {
            let found = canaries(&[program(&value)]);
            found
                .into_iter()
                .map(|canary| (canary.name, canary.errno))
                .collect::<Vec<_>>()
        };
        for action in ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"] {
            assert_eq!(named(json!({"defaultAction": action})), [], "{action}");
        }
        for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
            // What a profile that names nothing could not know does not exist.
            let expected =
                ["clone3", "memfd_secret", "io_uring_setup", "number 600"].map(|name| (name.to_owned(), 38));
            assert_eq!(named(json!({"defaultAction": action})), expected, "{action}");
        }
        let zero = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0},
            {"names": ["keyctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": 7},
        ]});
        assert_eq!(named(zero), [("keyctl".to_owned(), 7)]);
        assert_eq!(canaries(&[]), []);
        assert_eq!(canaries(&[Program::default()]), []);
    }

    /// Of each entry of the floor something is tried once it is loaded.
    #[test]
    fn each_entry_of_the_floor_has_a_canary() {
        use crate::floor::{ENTRIES, filter};
        for entry in ENTRIES {
            let alone = filter(&[entry.name.to_owned()], &[]).unwrap().unwrap();
            let found = canaries(&[alone.program]);
            assert!(!found.is_empty(), "{}", entry.name);
        }
    }

    #[test]
    fn permits_means_that_nobody_is_asked() {
        let filter = program(
            &json!({"defaultAction": "SCMP_ACT_ERRNO", "listenerPath": "/run/l", "syscalls": [
                {"names": ["getpid"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["gettid"], "action": "SCMP_ACT_LOG"},
                {"names": ["getppid"], "action": "SCMP_ACT_NOTIFY"},
            ]}),
        );
        let number = |name| match resolve(name, Abi::NATIVE) {
            Resolved::Number(number) => i64::from(number),
            other => panic!("{name}: {other:?}"),
        };
        let filters = [filter];
        assert!(permits(&filters, number("getpid"), [0; 6]) && permits(&filters, number("gettid"), [0; 6]));
        assert!(!permits(&filters, number("getppid"), [0; 6]) && !permits(&filters, number("read"), [0; 6]));
        assert!(!permits(&filters, i64::MAX, [0; 6]));
        assert!(!permits(&[Program::default()], number("getpid"), [0; 6]));
        assert!(permits(&[], number("getpid"), [0; 6]));
    }
}
