//! The floor: what no container may do, whatever filter its engine sent.
//!
//! A second, small filter, loaded before the engine's. The kernel runs all filters and takes the strictest answer, so
//! the engine's is left as it is. The floor lets everything through that it does not name, and has no listener: a
//! chain of filters can have one, and that is the engine's.
//!
//! An entry is stacked only if the engine's filter may let one of its calls through ([`gaps`]); that is decided for
//! every value of the arguments that the entry does not fix ([`crate::reach`]). Where both filters answer with an
//! errno, the kernel gives that of the filter that was loaded last: the engine's.
//!
//! [`ENTRIES`] is the data, to be read and reviewed. docs/seccomp.md has a row for each, and a test holds the two
//! together.

use std::{fmt, iter};

use serde_json::{Value, json};

use crate::abi::Abi;
use crate::compile::{CompileError, Compiled, Target, compile, compile_floor};
use crate::default::groups::Errno;
use crate::interpret::run;
use crate::profile::Profile;
use crate::program::Program;
use crate::reach::{Kind, Word, may_pass_checked};
use crate::syscalls::{Resolved, resolve};
use crate::verdict::Verdict;
use crate::words::in_ranges;

/// Something that no container may do, unless a capability or the site says otherwise.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// What policies call it: `AF_ALG`.
    pub name: &'static str,
    /// What breaks if it is denied, and what does if not; one or two sentences.
    pub reason: &'static str,
    /// In force under the profile `restricted` alone.
    pub restricted: bool,
    /// The calls.
    pub parts: &'static [Part],
}

/// Calls of an entry that are denied in the same way.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// Not for containers that keep one of these.
    pub unless: &'static [&'static str],
    /// The calls.
    pub calls: &'static [&'static str],
    /// Which of them.
    pub only: Only,
    /// What they are answered.
    pub errno: Errno,
}

/// Which calls of a name.
#[derive(Debug, Clone, Copy)]
pub enum Only {
    /// All.
    All,
    /// Those whose first argument is one of these.
    First(&'static [u32]),
    /// Those with this first and one of these third arguments.
    FirstAndThird(u32, &'static [u32]),
    /// Those whose second argument is, under the mask, one of these.
    Second(u32, &'static [u32]),
    /// Those with one of these bits in the first argument.
    Bits(u32),
    /// Those whose first argument is none of these.
    FirstNot(&'static [u32]),
}

/// All namespaces but that for clocks, whose bit is part of the exit signal in clone(2).
const CLONE_NAMESPACES: u32 = 0x7e02_0000;
/// `CLONE_NEWTIME`, for unshare(2).
const CLONE_NEWTIME: u32 = 0x80;

const fn families(name: &'static str, reason: &'static str, families: &'static [Part]) -> Entry {
    Entry {
        name,
        reason,
        restricted: false,
        parts: families,
    }
}

const fn family(families: &'static [u32]) -> Part {
    Part {
        unless: &[],
        calls: &["socket", "socketpair"],
        only: Only::First(families),
        errno: Errno::EAFNOSUPPORT,
    }
}

const fn part(calls: &'static [&'static str], unless: &'static [&'static str], errno: Errno) -> Part {
    Part {
        unless,
        calls,
        only: Only::All,
        errno,
    }
}

/// The name of the entry that closes the ways of other architectures into the kernel. It is no entry of [`ENTRIES`],
/// since it names no calls: rule SEC-04 decides about it.
pub const COMPATIBILITY: &str = "compatibility";

/// The floor, in the order of its document.
pub const ENTRIES: &[Entry] = &[
    families(
        "AF_ALG",
        "The kernel's cryptography, for which programs have their own (CVE-2026-31431).",
        &[family(&[38])],
    ),
    families(
        "AF_VSOCK",
        "A way to the hypervisor and between virtual machines; guest agents need it.",
        &[family(&[40])],
    ),
    families(
        "AF_RXRPC",
        "For the file system AFS, whose client is in the kernel (CVE-2026-43500).",
        &[family(&[33])],
    ),
    families(
        "AF_KEY",
        "The old way to configure IPsec, which NET_ADMIN is asked for; netlink is the new one.",
        &[family(&[15])],
    ),
    families(
        "AF_TIPC",
        "Messages within clusters of telephone exchanges; loaded on demand, with a history of holes.",
        &[family(&[30])],
    ),
    families(
        "AF_CAN",
        "Buses of vehicles and machines; a container that talks to one is a special one.",
        &[family(&[29])],
    ),
    families(
        "AF_SMC",
        "TCP over remote memory; programs fall back on TCP.",
        &[family(&[43])],
    ),
    families(
        "AF_QIPCRTR",
        "Processors of telephones talk over it to one another.",
        &[family(&[42])],
    ),
    families(
        "AF_XDP",
        "Packets past the network stack, for DPDK and the like.",
        &[family(&[44])],
    ),
    families(
        "AF_BLUETOOTH",
        "Radio of the host, which knows nothing of network namespaces.",
        &[family(&[31])],
    ),
    families(
        "AF_OTHER",
        "Families that hardly any program uses: AX.25, IPX, AppleTalk, X.25, DECnet, ROSE, ATM, PPPoX, LLC, IB, MPLS, \
         ISDN, Phonet, IEEE 802.15.4, CAIF, NFC, KCM, MCTP and what is newer.",
        &[family(&[
            3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 32, 34, 35, 36, 37,
            39, 41, 45, 46,
        ])],
    ),
    Entry {
        name: "netlink",
        reason: "XFRM and netfilter configure the network, for which NET_ADMIN is needed; audit is for AUDIT_WRITE.",
        restricted: false,
        parts: &[
            Part {
                unless: &["CAP_NET_ADMIN"],
                calls: &["socket"],
                only: Only::FirstAndThird(16, &[6, 12]),
                errno: Errno::EPROTONOSUPPORT,
            },
            Part {
                unless: &["CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_AUDIT_READ"],
                calls: &["socket"],
                only: Only::FirstAndThird(16, &[9]),
                errno: Errno::EINVAL,
            },
        ],
    },
    Entry {
        name: "io_uring",
        reason: "Does what other calls do without asking a filter, and has its own list of holes. Programs fall back.",
        restricted: false,
        parts: &[part(
            &["io_uring_setup", "io_uring_enter", "io_uring_register"],
            &[],
            Errno::ENOSYS,
        )],
    },
    Entry {
        name: "keyring",
        reason: "Keys belong to users and not to containers: uid 0 of all containers shares them. Kerberos falls back.",
        restricted: false,
        parts: &[part(&["keyctl", "add_key", "request_key"], &[], Errno::ENOSYS)],
    },
    Entry {
        name: "bpf",
        reason: "Programs in the kernel, for those who may load them.",
        restricted: false,
        parts: &[part(&["bpf"], &["CAP_SYS_ADMIN", "CAP_BPF"], Errno::EPERM)],
    },
    Entry {
        name: "perf_event_open",
        reason: "Performance counters, which also tell what others do, and a long list of holes; profilers need it.",
        restricted: false,
        parts: &[part(
            &["perf_event_open"],
            &["CAP_SYS_ADMIN", "CAP_PERFMON"],
            Errno::EPERM,
        )],
    },
    Entry {
        name: "userfaultfd",
        reason: "Stops the kernel in the middle of a copy, which makes races winnable; QEMU and CRIU migrate with it.",
        restricted: false,
        parts: &[part(
            &["userfaultfd"],
            &["CAP_SYS_ADMIN", "CAP_SYS_PTRACE"],
            Errno::EPERM,
        )],
    },
    Entry {
        name: "nested",
        reason: "New namespaces and mounts give capabilities over code that only root could reach. Containers in \
                 containers, bubblewrap, Flatpak and Chrome's sandbox need them.",
        restricted: false,
        parts: &[
            Part {
                unless: &["CAP_SYS_ADMIN"],
                calls: &["clone"],
                only: Only::Bits(CLONE_NAMESPACES),
                errno: Errno::EPERM,
            },
            Part {
                unless: &["CAP_SYS_ADMIN"],
                calls: &["unshare"],
                only: Only::Bits(CLONE_NAMESPACES | CLONE_NEWTIME),
                errno: Errno::EPERM,
            },
            // The flags are behind a pointer, where a filter cannot see them; the C library falls back on clone.
            part(&["clone3"], &["CAP_SYS_ADMIN"], Errno::ENOSYS),
            part(
                &[
                    "fsconfig",
                    "fsmount",
                    "fsopen",
                    "fspick",
                    "mount",
                    "mount_setattr",
                    "move_mount",
                    "open_tree",
                    "open_tree_attr",
                    "pivot_root",
                    "setns",
                    "umount",
                    "umount2",
                ],
                &["CAP_SYS_ADMIN"],
                Errno::EPERM,
            ),
        ],
    },
    Entry {
        name: "administration",
        reason: "Modules, kexec, swap, quotas, accounting, clocks, ports, the kernel's log, handles of files: each for \
                 its capability. The kernel would say the same, after more of its code has run.",
        restricted: false,
        parts: &[
            part(
                &["delete_module", "finit_module", "init_module"],
                &["CAP_SYS_MODULE"],
                Errno::EPERM,
            ),
            part(
                &["kexec_file_load", "kexec_load", "reboot"],
                &["CAP_SYS_BOOT"],
                Errno::EPERM,
            ),
            part(
                &["nfsservctl", "quotactl", "quotactl_fd", "swapoff", "swapon"],
                &["CAP_SYS_ADMIN"],
                Errno::EPERM,
            ),
            part(&["acct"], &["CAP_SYS_PACCT"], Errno::EPERM),
            part(&["ioperm", "iopl"], &["CAP_SYS_RAWIO"], Errno::EPERM),
            part(
                &["clock_settime", "clock_settime64", "settimeofday", "stime"],
                &["CAP_SYS_TIME"],
                Errno::EPERM,
            ),
            part(&["syslog"], &["CAP_SYSLOG", "CAP_SYS_ADMIN"], Errno::EPERM),
            part(&["open_by_handle_at"], &["CAP_DAC_READ_SEARCH"], Errno::EPERM),
            part(
                &["lookup_dcookie", "uselib", "vm86", "vm86old"],
                &["CAP_SYS_ADMIN"],
                Errno::EPERM,
            ),
        ],
    },
    Entry {
        name: "terminal-input",
        reason: "TIOCSTI and TIOCLINUX type into a terminal, which may be the operator's shell (CVE-2023-28100).",
        restricted: false,
        parts: &[Part {
            unless: &[],
            calls: &["ioctl"],
            only: Only::Second(u32::MAX, &[0x5412, 0x541c]),
            errno: Errno::EPERM,
        }],
    },
    Entry {
        name: "personality",
        reason: "Others than the five of ordinary programs turn off address randomization or map page 0; gdb warns.",
        restricted: false,
        parts: &[Part {
            unless: &[],
            calls: &["personality"],
            only: Only::FirstNot(&[0, 8, 0x2_0000, 0x2_0008, u32::MAX]),
            errno: Errno::EPERM,
        }],
    },
    Entry {
        name: "debugging",
        reason: "Looking into other processes of the container; debuggers, strace and crash handlers need it.",
        restricted: true,
        parts: &[part(
            &[
                "kcmp",
                "pidfd_getfd",
                "process_vm_readv",
                "process_vm_writev",
                "ptrace",
            ],
            &["CAP_SYS_PTRACE"],
            Errno::EPERM,
        )],
    },
    Entry {
        name: "vmsplice",
        reason: "Pages of a program in pipes, which is where Dirty Pipe and its likes begin; hardly used.",
        restricted: true,
        parts: &[part(&["vmsplice"], &[], Errno::EPERM)],
    },
    Entry {
        name: "futex-requeue-pi",
        reason: "The most intricate of the futex operations, behind Towelroot (CVE-2014-3153); the C library does not use it.",
        restricted: true,
        parts: &[Part {
            unless: &[],
            calls: &["futex", "futex_time64"],
            only: Only::Second(0x7f, &[11, 12]),
            errno: Errno::ENOSYS,
        }],
    },
    Entry {
        name: "memfd_secret",
        reason: "Memory that the kernel itself cannot look into.",
        restricted: true,
        parts: &[part(&["memfd_secret"], &[], Errno::EPERM)],
    },
    Entry {
        name: "fanotify",
        reason: "Watches whole mounts; since Linux 5.13 also without SYS_ADMIN.",
        restricted: true,
        parts: &[part(&["fanotify_init"], &["CAP_SYS_ADMIN"], Errno::EPERM)],
    },
    Entry {
        name: "file-handles",
        reason: "Names of files that pass by mount points; systemd asks for them.",
        restricted: true,
        parts: &[part(
            &["name_to_handle_at"],
            &["CAP_DAC_READ_SEARCH"],
            Errno::EPERM,
        )],
    },
    Entry {
        name: "segments",
        reason: "Local descriptor tables, for 16-bit and old 32-bit code; Wine needs them.",
        restricted: true,
        parts: &[part(&["modify_ldt"], &[], Errno::ENOSYS)],
    },
];

/// What an engine's filter may let through of the floor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The entry's name.
    pub entry: &'static str,
    /// In force under `restricted` alone.
    pub restricted: bool,
    /// The calls that may pass, such as `socket(AF_ALG)`.
    pub calls: Vec<String>,
    /// Why it is in the floor.
    pub reason: &'static str,
}

/// Why a profile cannot be judged. Displays as the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FloorError {
    /// It is no profile.
    #[error("{profile}", profile = format!("{}: {}", .0.pointer(), .0))]
    Profile(#[from] crate::profile::ProfileError),
    /// It cannot be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// There is no such entry.
    #[error("there is no entry {0:?} in the floor")]
    Unknown(String),
}

/// What comes of a profile: its filter, and what that may let through of the floor. It depends on the profile alone;
/// a container's capabilities choose from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Study {
    /// The filter; `None` if the value of `linux.seccomp` says that there is none.
    pub compiled: Option<Compiled>,
    /// What may pass, by part of the floor, in the order of [`ENTRIES`].
    pub passing: Vec<Passing>,
}

/// The calls of one part of an entry that may pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passing {
    /// Which of [`ENTRIES`].
    pub entry: usize,
    /// Which of its parts.
    pub part: usize,
    /// As people read them, such as `socket(3-9, 11)`.
    pub calls: Vec<String>,
}

/// Compiles a profile, the value of `linux.seccomp`, and follows the floor through it. Every listed architecture is
/// looked at. If there is no filter, everything passes.
///
/// # Errors
/// The value is no profile, or it cannot be compiled.
pub fn study(seccomp: &Value) -> Result<Study, FloorError> {
    let Some(profile) = Profile::from_value(seccomp)? else {
        return Ok(Study {
            compiled: None,
            passing: passing(None, &[Abi::NATIVE]),
        });
    };
    let compiled = compile(&profile, &Target::native())?;
    let listed = |abi: &Abi| profile.architectures.contains(&abi.architecture());
    let abis: Vec<Abi> = std::iter::once(Abi::NATIVE)
        .chain(Abi::NATIVE.compatible().iter().copied().filter(listed))
        .collect();
    let passing = passing(Some(&compiled), &abis);
    Ok(Study {
        compiled: Some(compiled),
        passing,
    })
}

impl Study {
    /// What may pass of what is denied to a container with these capabilities in its bounding set.
    pub fn gaps(&self, bounding: &[String]) -> Vec<Gap> {
        let mut gaps: Vec<Gap> = Vec::new();
        for passing in &self.passing {
            let Some(entry) = ENTRIES.get(passing.entry) else {
                continue;
            };
            if !entry
                .parts
                .get(passing.part)
                .is_some_and(|part| part.in_force(bounding))
            {
                continue;
            }
            let gap = match gaps.last_mut() {
                Some(gap) if gap.entry == entry.name => gap,
                _ => {
                    gaps.push(Gap {
                        entry: entry.name,
                        restricted: entry.restricted,
                        calls: Vec::new(),
                        reason: entry.reason,
                    });
                    let Some(last) = gaps.last_mut() else { continue };
                    last
                }
            };
            for call in &passing.calls {
                if !gap.calls.contains(call) {
                    gap.calls.push(call.clone());
                }
            }
        }
        gaps
    }

    /// False if the filter makes a call that it is said not to let through: of each part that is said not to pass, one
    /// call is tried. For studies that were written down; what [`study`] gives is consistent.
    pub fn is_consistent(&self) -> bool {
        let Some(compiled) = &self.compiled else {
            return self.passing == passing(None, &[Abi::NATIVE]);
        };
        let parts = ENTRIES
            .iter()
            .enumerate()
            .flat_map(|(entry, data)| (0..data.parts.len()).map(move |part| (entry, part)));
        let denied = parts.filter(|(entry, part)| {
            !self
                .passing
                .iter()
                .any(|passing| (passing.entry, passing.part) == (*entry, *part))
        });
        compiled.program.check().is_ok()
            && denied.into_iter().all(|(entry, part)| {
                ENTRIES
                    .get(entry)
                    .and_then(|entry| entry.parts.get(part))
                    .is_none_or(|part| part.denied_by(&compiled.program))
            })
    }
}

/// What a filter, the value of `linux.seccomp`, may let through of the floor, for a container with these capabilities
/// in its bounding set; all of it, if there is no filter.
///
/// # Errors
/// As [`study`].
pub fn gaps(seccomp: &Value, bounding: &[String]) -> Result<Vec<Gap>, FloorError> {
    Ok(study(seccomp)?.gaps(bounding))
}

/// The architectures beside the native one whose programs a filter, the value of `linux.seccomp`, lets run.
///
/// # Errors
/// As [`gaps`].
pub fn compatible(seccomp: &Value) -> Result<Vec<&'static str>, FloorError> {
    let Some(profile) = Profile::from_value(seccomp)? else {
        return Ok(Abi::NATIVE
            .compatible()
            .iter()
            .map(|abi| abi.architecture().as_str())
            .collect());
    };
    Ok(Abi::NATIVE
        .compatible()
        .iter()
        .filter(|abi| profile.architectures.contains(&abi.architecture()))
        .map(|abi| abi.architecture().as_str())
        .collect())
}

fn passing(compiled: Option<&Compiled>, abis: &[Abi]) -> Vec<Passing> {
    let mut passing = Vec::new();
    let parts = ENTRIES.iter().enumerate().flat_map(|(entry, data)| {
        data.parts
            .iter()
            .enumerate()
            .map(move |(at, part)| (entry, at, part))
    });
    for (entry, at, part) in parts {
        let mut calls = Vec::new();
        for (abi, name) in abis
            .iter()
            .flat_map(|abi| part.calls.iter().map(move |name| (*abi, *name)))
        {
            for (kind, arguments) in part.kinds(name, abi) {
                // The program is this crate's own, and was checked when it was made.
                if compiled.is_some_and(|compiled| !may_pass_checked(&compiled.program, &kind)) {
                    continue;
                }
                let text = format!("{name}{arguments}");
                if !calls.contains(&text) {
                    calls.push(text);
                }
            }
        }
        if !calls.is_empty() {
            passing.push(Passing {
                entry,
                part: at,
                calls: in_ranges(&calls),
            });
        }
    }
    passing
}

/// The arguments of a kind of calls. Displays as it is written behind the call's name, such as `(38)`.
#[derive(Debug, Clone, Copy)]
enum Arguments {
    Any,
    First(u32),
    FirstAndThird(u32, u32),
    Second(u32),
    Bit(u32),
}

impl fmt::Display for Arguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Arguments::Any => Ok(()),
            Arguments::First(value) => write!(f, "({value})"),
            Arguments::FirstAndThird(first, third) => write!(f, "({first}, _, {third})"),
            Arguments::Second(value) => write!(f, "(_, {value:#x})"),
            Arguments::Bit(bit) => write!(f, "({bit:#x})"),
        }
    }
}

impl Part {
    fn in_force(&self, bounding: &[String]) -> bool {
        !self
            .unless
            .iter()
            .any(|one| bounding.iter().any(|has| has == one))
    }

    /// True if a filter makes none of: the first call of each name, as it is on the native architecture.
    fn denied_by(&self, program: &Program) -> bool {
        let first = self
            .calls
            .iter()
            .filter_map(|name| self.kinds(name, Abi::NATIVE).next());
        first.into_iter().all(|(kind, _)| {
            run(program, &kind.example()).is_ok_and(|run| {
                !matches!(
                    Verdict::decode(run.returned),
                    Verdict::Allow | Verdict::Log | Verdict::Trace(_)
                )
            })
        })
    }

    /// The kinds of calls that it is about.
    fn kinds(&self, name: &str, abi: Abi) -> Box<dyn Iterator<Item = (Kind, Arguments)>> {
        let Resolved::Number(nr) = resolve(name, abi) else {
            return Box::new(iter::empty());
        };
        let arch = abi.audit_architecture();
        let kind = move |known: &[(usize, Word)]| {
            let mut args = [Word::ANY; 6];
            for (index, word) in known {
                args[*index] = *word;
            }
            Kind { nr, arch, args }
        };
        match self.only {
            Only::All => Box::new(iter::once((kind(&[]), Arguments::Any))),
            Only::First(values) => Box::new(
                values
                    .iter()
                    .map(move |value| (kind(&[(0, Word::exactly(*value))]), Arguments::First(*value))),
            ),
            Only::FirstAndThird(first, thirds) => Box::new(thirds.iter().map(move |third| {
                let known = [(0, Word::exactly(first)), (2, Word::exactly(*third))];
                (kind(&known), Arguments::FirstAndThird(first, *third))
            })),
            Only::Second(mask, values) => Box::new(values.iter().map(move |value| {
                let word = Word {
                    known: mask,
                    value: *value,
                };
                (kind(&[(1, word)]), Arguments::Second(*value))
            })),
            Only::Bits(mask) => Box::new(
                (0..32)
                    .map(|bit| 1_u32 << bit)
                    .filter(move |bit| mask & bit != 0)
                    .map(move |bit| (kind(&[(0, Word::with_bits(bit))]), Arguments::Bit(bit))),
            ),
            // What is none of some values has no fixed bits; these are what the entry exists for. The sign is known
            // to be off, which keeps the question "which?", all bits set, apart.
            Only::FirstNot(_) => Box::new(
                [0x004_0000, 0x010_0000, 0x020_0000, 0x040_0000_u32]
                    .into_iter()
                    .map(move |bit| {
                        let word = Word {
                            known: bit | 0x8000_0000,
                            value: bit,
                        };
                        (kind(&[(0, word)]), Arguments::Bit(bit))
                    }),
            ),
        }
    }

    fn rules(&self) -> Vec<Value> {
        let denied = |args: Value| json!({"names": self.calls, "action": "SCMP_ACT_ERRNO", "errnoRet": self.errno as u16, "args": args});
        let allowed = |args: Value| json!({"names": self.calls, "action": "SCMP_ACT_ALLOW", "args": args});
        let equal = |index: u32, value: u32| json!({"index": index, "value": value, "op": "SCMP_CMP_EQ"});
        let masked = |index: u32, mask: u32, value: u32| json!({"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"});
        match self.only {
            Only::All => vec![denied(json!([]))],
            Only::First(values) => values
                .iter()
                .map(|value| denied(json!([equal(0, *value)])))
                .collect(),
            Only::FirstAndThird(first, thirds) => thirds
                .iter()
                .map(|third| denied(json!([equal(0, first), equal(2, *third)])))
                .collect(),
            Only::Second(mask, values) => values
                .iter()
                .map(|value| denied(json!([masked(1, mask, *value)])))
                .collect(),
            // Allowed under a condition goes before denied without one.
            Only::Bits(mask) => vec![denied(json!([])), allowed(json!([masked(0, mask, 0)]))],
            Only::FirstNot(values) => std::iter::once(denied(json!([])))
                .chain(values.iter().map(|value| allowed(json!([equal(0, *value)]))))
                .collect(),
        }
    }
}

/// What decides about a floor's filter, and nothing else does: entries in force, in the order of [`ENTRIES`], and those
/// capabilities of a bounding set that take a part of one away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Names of entries, [`COMPATIBILITY`] last.
    pub entries: Vec<&'static str>,
    /// Names of capabilities.
    pub capabilities: Vec<&'static str>,
}

impl Selection {
    /// Of these names, for a container with these capabilities in its bounding set.
    ///
    /// # Errors
    /// A name that is no entry.
    pub fn new(entries: &[String], bounding: &[String]) -> Result<Selection, FloorError> {
        let known =
            |name: &&String| *name != COMPATIBILITY && ENTRIES.iter().all(|entry| entry.name != **name);
        if let Some(unknown) = entries.iter().find(known) {
            return Err(FloorError::Unknown(unknown.clone()));
        }
        let chosen: Vec<&Entry> = ENTRIES
            .iter()
            .filter(|entry| entries.iter().any(|name| name == entry.name))
            .filter(|entry| entry.parts.iter().any(|part| part.in_force(bounding)))
            .collect();
        let mut capabilities: Vec<&str> = chosen
            .iter()
            .flat_map(|entry| entry.parts)
            .flat_map(|part| part.unless)
            .copied()
            .filter(|one| bounding.iter().any(|has| has == one))
            .collect();
        capabilities.sort_unstable();
        capabilities.dedup();
        let mut entries_in_force: Vec<&str> = chosen.iter().map(|entry| entry.name).collect();
        if entries.iter().any(|name| name == COMPATIBILITY) {
            entries_in_force.push(COMPATIBILITY);
        }
        Ok(Selection {
            entries: entries_in_force,
            capabilities,
        })
    }

    /// True if nothing is denied, so that there is nothing to load.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The filter; `None` if there is nothing to load. With [`COMPATIBILITY`] among its entries, programs of other
    /// architectures are killed, and x32 does not exist.
    ///
    /// # Errors
    /// It cannot be compiled.
    pub fn filter(&self) -> Result<Option<Compiled>, FloorError> {
        if self.is_empty() {
            return Ok(None);
        }
        let rules: Vec<Value> = self.parts().flat_map(Part::rules).collect();
        let native_only = self.entries.contains(&COMPATIBILITY);
        let architectures: Vec<&str> = std::iter::once(&Abi::NATIVE)
            .chain(Abi::NATIVE.compatible().iter().filter(|_| !native_only))
            .map(|abi| abi.architecture().as_str())
            .collect();
        let profile =
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": architectures, "syscalls": rules});
        let Some(profile) = Profile::from_value(&profile)? else {
            return Ok(None);
        };
        Ok(Some(compile_floor(&profile, &Target::native())?))
    }

    /// False if a filter that is said to be this selection's makes a call that it should deny: of each part, one call
    /// of each name is tried. For filters that were written down.
    pub fn is_denied_by(&self, compiled: &Compiled) -> bool {
        compiled.program.check().is_ok() && self.parts().all(|part| part.denied_by(&compiled.program))
    }

    fn parts(&self) -> impl Iterator<Item = &'static Part> {
        ENTRIES
            .iter()
            .filter(|entry| self.entries.contains(&entry.name))
            .flat_map(|entry| entry.parts)
            .filter(|part| !part.unless.iter().any(|one| self.capabilities.contains(one)))
    }
}

/// The filter of these entries, for a container with these capabilities in its bounding set; `None` if nothing of them
/// is in force.
///
/// # Errors
/// A name that is no entry.
pub fn filter(entries: &[String], bounding: &[String]) -> Result<Option<Compiled>, FloorError> {
    Selection::new(entries, bounding)?.filter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Data, Verdict, interpret, strictest};

    const GARBAGE: u64 = 0x5555_0001_0000_0000;

    fn profile(name: &str) -> Value {
        let path = format!("{}/profiles/{name}.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn names(gaps: &[Gap]) -> Vec<&str> {
        gaps.iter()
            .filter(|gap| !gap.restricted)
            .map(|gap| gap.entry)
            .collect()
    }

    fn all() -> Vec<String> {
        ENTRIES.iter().map(|entry| entry.name.to_owned()).collect()
    }

    fn call(abi: Abi, name: &str, args: &[u64]) -> Data {
        let Resolved::Number(number) = resolve(name, abi) else {
            panic!("{name}")
        };
        let mut data = Data {
            nr: number.cast_signed(),
            arch: abi.audit_architecture(),
            ..Data::default()
        };
        data.args[..args.len()].copy_from_slice(args);
        data
    }

    #[test]
    fn entries_have_reasons_and_calls_that_exist() {
        let mut seen = Vec::new();
        for entry in ENTRIES {
            assert!(
                !seen.contains(&entry.name) && entry.name != COMPATIBILITY,
                "{}",
                entry.name
            );
            seen.push(entry.name);
            assert!(
                entry.reason.ends_with('.') && !entry.reason.contains("  "),
                "{}",
                entry.name
            );
            for call in entry.parts.iter().flat_map(|part| part.calls) {
                assert_ne!(resolve(call, Abi::NATIVE), Resolved::Unknown, "{call}");
            }
        }
    }

    #[test]
    fn the_floor_under_any_profile_leaves_no_gap_of_its_own() {
        let floor = filter(&all(), &[]).unwrap().unwrap();
        assert!(!floor.listener && floor.flags == 0 && floor.ignored_names.is_empty());
        let abis: Vec<Abi> = std::iter::once(Abi::NATIVE)
            .chain(Abi::NATIVE.compatible().iter().copied())
            .collect();
        assert_eq!(passing(Some(&floor), &abis), []);
        // And it is small: loading takes time for each instruction.
        assert!(
            floor.program.instructions.len() < 300,
            "{}",
            floor.program.instructions.len()
        );
    }

    #[test]
    fn the_floor_lets_the_rest_through() {
        let floor = filter(&all(), &[]).unwrap().unwrap();
        let asked =
            |name: &str, args: &[u64]| interpret(&floor.program, &call(Abi::NATIVE, name, args)).unwrap();
        for (name, args) in [
            ("seccomp", &[][..]),
            ("prctl", &[]),
            ("execve", &[]),
            ("write", &[]),
            ("socket", &[2, 1, 0]),
            ("socket", &[10, 2, 17]),
            ("socket", &[16, 3, 0]),
            ("socket", &[17, 3, 0]),
            ("clone", &[0x003d_0f00]),
            ("unshare", &[0x400]),
            ("ioctl", &[0, 0x5401]),
            ("personality", &[0xffff_ffff]),
            ("futex", &[0, 128]),
            ("mseal", &[]),
        ] {
            assert_eq!(asked(name, args), Verdict::Allow, "{name}{args:?}");
        }
        for (name, args, errno) in [
            ("socket", &[GARBAGE | 38, 5][..], 97),
            ("socketpair", &[30, 1], 97),
            ("socket", &[16, 3, GARBAGE | 12], 93),
            ("socket", &[16, 3, 9], 22),
            ("clone", &[GARBAGE | 0x1000_0011], 1),
            ("clone3", &[], 38),
            ("unshare", &[0x1002_0000], 1),
            ("unshare", &[0x80], 1),
            ("ioctl", &[0, GARBAGE | 0x5412], 1),
            ("personality", &[0x4_0000], 1),
            ("futex", &[0, 128 | 11], 38),
            ("io_uring_setup", &[], 38),
        ] {
            assert_eq!(asked(name, args), Verdict::Errno(errno), "{name}{args:x?}");
        }
        let unknown = Data {
            nr: 600,
            arch: Abi::NATIVE.audit_architecture(),
            ..Data::default()
        };
        assert_eq!(
            interpret(&floor.program, &unknown).unwrap(),
            Verdict::Allow,
            "for the other filter to say"
        );
    }

    #[test]
    fn engines_profiles_have_the_gaps_that_were_measured() {
        let caps = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let docker = caps(&["CAP_AUDIT_WRITE", "CAP_SYS_CHROOT"]);
        let found = |name: &str| {
            let gaps = gaps(&profile(name), &docker).unwrap();
            names(&gaps).join(" ")
        };
        let rare = "AF_RXRPC AF_KEY AF_TIPC AF_CAN AF_SMC AF_QIPCRTR AF_XDP AF_BLUETOOTH AF_OTHER netlink";
        assert_eq!(
            found("docker-20.10"),
            format!("AF_ALG AF_VSOCK {rare} io_uring terminal-input")
        );
        // AF_VSOCK by way of socketpair(2), which Docker does not restrict.
        assert_eq!(
            found("docker-26.1"),
            format!("AF_ALG AF_VSOCK {rare} terminal-input")
        );
        assert_eq!(
            found("containerd-1.6-cri"),
            format!("AF_ALG AF_VSOCK {rare} io_uring terminal-input")
        );
        assert_eq!(
            found("podman-5.4"),
            format!("AF_ALG AF_VSOCK {rare} keyring nested administration terminal-input")
        );
    }

    #[test]
    fn the_default_profile_has_no_gap_whatever_the_capabilities() {
        let every = ["CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_BPF", "CAP_SYS_TIME"].map(str::to_owned);
        for bounding in [&[][..], &every] {
            let profile = crate::default::profile(bounding);
            assert_eq!(names(&gaps(&profile, bounding).unwrap()), [""; 0], "{bounding:?}");
        }
    }

    #[test]
    fn no_filter_is_all_gap_and_a_capability_takes_its_part_away() {
        let none = gaps(&Value::Null, &[]).unwrap();
        assert_eq!(none.len(), ENTRIES.len());
        let admin = ["CAP_SYS_ADMIN".to_owned()];
        let left = gaps(&json!({}), &admin).unwrap();
        assert!(!names(&left).contains(&"nested") && names(&left).contains(&"AF_ALG"));
        let under = filter(&["nested".to_owned()], &admin).unwrap();
        assert_eq!(under, None, "nothing of it is in force");
        assert_eq!(
            filter(&["nestled".to_owned()], &[]),
            Err(FloorError::Unknown("nestled".to_owned()))
        );
    }

    #[test]
    fn each_entry_can_be_waived_by_itself() {
        for waived in ENTRIES {
            let others: Vec<String> = all().into_iter().filter(|name| name != waived.name).collect();
            let floor = filter(&others, &[]).unwrap().unwrap().program;
            for entry in ENTRIES {
                for part in entry.parts {
                    let denied = part.denied_by(&floor);
                    assert_eq!(
                        denied,
                        entry.name != waived.name,
                        "{} without {}",
                        entry.name,
                        waived.name
                    );
                }
            }
        }
    }

    #[test]
    fn a_filter_that_hides_a_gap_behind_another_argument_is_seen_through() {
        let sly = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [
                {"index": 0, "value": 38, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 5, "op": "SCMP_CMP_EQ"}]},
            {"names": ["bpf"], "action": "SCMP_ACT_ERRNO"},
        ]});
        let gaps = gaps(&sly, &[]).unwrap();
        assert_eq!(gaps[0].calls, ["socket(AF_ALG)", "socketpair(AF_ALG)"]);
        assert!(!names(&gaps).contains(&"bpf"));
        let fine = json!({"defaultAction": "SCMP_ACT_KILL_PROCESS"});
        assert_eq!(super::gaps(&fine, &[]).unwrap(), []);
        let asks = json!({"defaultAction": "SCMP_ACT_ERRNO", "listenerPath": "/l", "syscalls": [
            {"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}]});
        assert_eq!(super::gaps(&asks, &[]).unwrap(), [], "who listens decides");
    }

    #[test]
    fn stacked_filters_give_the_engines_errno_where_both_deny() {
        let engine = json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 7});
        let engine = compile(&Profile::from_value(&engine).unwrap().unwrap(), &Target::native())
            .unwrap()
            .program;
        let floor = filter(&all(), &[]).unwrap().unwrap().program;
        let data = call(Abi::NATIVE, "socket", &[38, 5, 0]);
        assert_eq!(strictest(&[floor, engine], &data).unwrap(), Verdict::Errno(7));
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn compatibility_closes_the_other_ways_into_the_kernel() {
        let open = filter(&["io_uring".to_owned()], &[]).unwrap().unwrap().program;
        let closed = filter(&[COMPATIBILITY.to_owned()], &[]).unwrap().unwrap().program;
        let on = |program, abi| interpret(program, &call(abi, "getpid", &[])).unwrap();
        for abi in [Abi::X86_64, Abi::X86, Abi::X32] {
            assert_eq!(on(&open, abi), Verdict::Allow, "{abi:?}");
        }
        assert_eq!(on(&closed, Abi::X86_64), Verdict::Allow);
        assert_eq!(on(&closed, Abi::X86), Verdict::KillProcess);
        assert_eq!(on(&closed, Abi::X32), Verdict::Errno(38));
        assert_eq!(
            compatible(&profile("docker-20.10")).unwrap(),
            ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]
        );
        assert_eq!(
            compatible(&json!({"defaultAction": "SCMP_ACT_ERRNO"})).unwrap(),
            [""; 0]
        );
    }

    /// docs/seccomp.md has one row for each entry; on a mismatch the rows that it should have are printed.
    #[test]
    fn the_document_has_a_row_for_each_entry() {
        let rows: String = ENTRIES
            .iter()
            .map(|entry| {
                let when = if entry.restricted {
                    "`restricted`"
                } else {
                    "`baseline`, `restricted`"
                };
                let mut unless: Vec<String> = Vec::new();
                for capability in entry.parts.iter().flat_map(|part| part.unless) {
                    let short = capability.replace("CAP_", "");
                    if !unless.contains(&short) {
                        unless.push(short);
                    }
                }
                let unless = if unless.is_empty() {
                    "-".to_owned()
                } else {
                    unless.join(", ")
                };
                format!("| **{}** | {when} | {unless} | {} |\n", entry.name, entry.reason)
            })
            .collect();
        let document = include_str!("../../../docs/seccomp.md");
        let written: String = document
            .lines()
            .filter(|line| line.starts_with("| **"))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(written, rows, "docs/seccomp.md should have these rows:\n{rows}");
    }
}
