//! Seccomp (seccomp(2)): that there is a filter, that it can be built as written, and that it lists what is
//! allowed rather than what is not.
//!
//! An absent filter, a null one and `{}` all mean the same to runtimes: none. The runtime-spec cannot say
//! whether the author forgot it or chose it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::change::Change;
use crate::config::{Seccomp, SeccompArg};
use crate::facts::{Fact, FactKind, ListenerFact};
use crate::pointer::Pointer;
use crate::policy::SeccompGap;
use crate::profile::{Level, Levels, Profile};
use crate::rule::{Case, Mappings, Remedies, Rule, Violations};

/// The rules of this topic.
pub static RULES: &[&Rule] = &[&SEC_01, &SEC_02, &SEC_03, &SEC_04, &SEC_05, &SEC_06, &SEC_07];

/// The actions of the runtime-spec (config-linux.md, "Seccomp").
pub const ACTIONS: [&str; 9] = [
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
];

/// The operators of the runtime-spec.
pub const OPERATORS: [&str; 7] = [
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
];

/// The architectures of the runtime-spec.
pub const ARCHITECTURES: [&str; 23] = [
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_RISCV64",
];

/// The filter flags of the runtime-spec.
pub const FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

/// The highest argument of a system call that a filter sees; they count from 0.
const LAST_ARGUMENT: u32 = 5;

static SEC_01: Rule = Rule {
    id: "SEC-01",
    title: "there is a seccomp filter, and all of it is understood",
    meaning: "linux.seccomp is absent, null or empty, which all mean that no filter is loaded; or it has an \
              action, operator, architecture, flag or argument number that the runtime-spec does not have. A rule with \
              several conditions on one argument is recorded in every profile: all of them have to hold, and runtimes \
              that use libseccomp take each of them alone.",
    why: "Without a filter the workload may call all of the kernel, and it is in the rarely used calls that \
          holes are found year after year. A word that is not understood is a part of the filter that its \
          author counts on and nobody loads, so it is refused in every profile.",
    stops: &[
        "most local ways to root in the kernel: io_uring, nf_tables, bpf, AF_ALG (CVE-2026-31431)",
        "builders that turn the filter off behind one's back (GHSA-7236-3392-c5c6)",
        "filters that load with a part missing",
    ],
    fields: &["/linux/seccomp"],
    levels: Levels::new(Level::Audit, Level::Harden, Level::Harden),
    hardening: "gabion's default filter is filled in, made for the capabilities that remain; a filter that \
                the engine sent is never changed",
    remedies: Remedies {
        docker: "Remove --security-opt seccomp=unconfined and --privileged. Where a debugger or builder must \
                 run unconfined, give it a profile of its own with --security-opt seccomp=FILE, or have the \
                 site's policy allow SEC-01 for it.",
        ctr: "Add --seccomp, and remove --privileged.",
        kubernetes: "Set securityContext.seccompProfile.type: RuntimeDefault on the pod; seccompDefault: \
                     true in the kubelet's configuration does so for all.",
        config: "Add linux.seccomp with \"defaultAction\": \"SCMP_ACT_ERRNO\" and the system calls that are \
                 allowed; write actions, operators and architectures as config-linux.md has them, such as \
                 SCMP_ACT_ALLOW.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "Seccomp (baseline, restricted)",
        cis_docker: "5.22",
        nsa: "pod security enforcement",
        nist_800_190: "4.4.3, 3.5.2",
    },
    facts: &[],
    check: filtered,
};

fn filtered(case: &Case<'_>, violations: &mut Violations) {
    let seccomp = case.config.linux.value().map(|linux| &linux.seccomp);
    let presence = match seccomp {
        None => "absent",
        Some(given) => match given.value() {
            Some(filter) if !filter.is_empty() => {
                understood(filter, violations);
                return;
            }
            Some(_) => "empty",
            None => given.presence(),
        },
    };
    violations
        .report(
            "/linux/seccomp",
            format!("{presence}, so no filter would be loaded"),
            "a filter",
        )
        .fix(Change::FillSeccomp);
}

/// Reports each word of the filter that is not one of the runtime-spec's, at the first place where it is.
fn understood(filter: &Seccomp, violations: &mut Violations) {
    let root = || Pointer::at("/linux/seccomp");
    let mut words = Words {
        seen: BTreeSet::new(),
        violations,
    };
    match filter.default_action.value() {
        Some(action) => words.check("action", action, &ACTIONS, || root().key("defaultAction")),
        None => words.check("action", "", &ACTIONS, || root().key("defaultAction")),
    }
    for (index, name) in filter.architectures.items().iter().enumerate() {
        words.check("architecture", name, &ARCHITECTURES, || {
            root().key("architectures").index(index)
        });
    }
    for (index, flag) in filter.flags.items().iter().enumerate() {
        words.check("flag", flag, &FLAGS, || root().key("flags").index(index));
    }
    for (index, rule) in filter.syscalls.items().iter().enumerate() {
        let place = || root().key("syscalls").index(index);
        words.check("action", &rule.action, &ACTIONS, || place().key("action"));
        for (number, arg) in rule.args.items().iter().enumerate() {
            let place = || place().key("args").index(number);
            words.check("operator", &arg.op, &OPERATORS, || place().key("op"));
            if arg.index > LAST_ARGUMENT {
                words
                    .violations
                    .report(
                        place().key("index"),
                        format!(
                            "{}, and system calls have arguments 0 to {LAST_ARGUMENT}",
                            arg.index
                        ),
                        format!("0 to {LAST_ARGUMENT}"),
                    )
                    .levels(EVERYWHERE);
            }
        }
        if let Some(argument) = given_twice(rule.args.items()) {
            words
                .violations
                .report(
                    place().key("args"),
                    format!(
                        "several conditions on argument {argument}: all have to hold, as the runtime-spec says, and runc and \
                         crun take each condition of such a rule alone"
                    ),
                    "one condition on each argument; a rule of its own for each alternative",
                )
                .levels(RECORDED);
        }
    }
}

/// The first argument that has more than one condition.
fn given_twice(conditions: &[SeccompArg]) -> Option<u32> {
    let indexes = || conditions.iter().map(|condition| condition.index);
    let mut later = indexes().enumerate();
    later.find_map(|(place, index)| {
        indexes()
            .take(place)
            .any(|before| before == index)
            .then_some(index)
    })
}

/// What is understood, and means something else to others.
const RECORDED: Levels = Levels::new(Level::Audit, Level::Audit, Level::Audit);

/// What is not understood is refused in every profile.
const EVERYWHERE: Levels = Levels::new(Level::Deny, Level::Deny, Level::Deny);

struct Words<'a, 'v> {
    seen: BTreeSet<(&'static str, &'a str)>,
    violations: &'v mut Violations,
}

impl<'a> Words<'a, '_> {
    fn check(&mut self, what: &'static str, word: &'a str, known: &[&str], place: impl FnOnce() -> Pointer) {
        if known.contains(&word) || !self.seen.insert((what, word)) {
            return;
        }
        self.violations
            .report(
                place(),
                format!("{word:?} is no {what} that gabion knows"),
                known.join(", "),
            )
            .levels(EVERYWHERE);
    }
}

static SEC_02: Rule = Rule {
    id: "SEC-02",
    title: "the seccomp filter lists what is allowed",
    meaning: "linux.seccomp.defaultAction lets a system call happen that the filter does not name: \
              SCMP_ACT_ALLOW, SCMP_ACT_LOG, SCMP_ACT_TRACE or SCMP_ACT_NOTIFY.",
    why: "A list of what is forbidden ages badly: each kernel brings new system calls, and the filter lets \
          them all through until someone adds them.",
    stops: &["system calls that are newer than the filter"],
    fields: &["/linux/seccomp/defaultAction"],
    levels: Levels::new(Level::Off, Level::Audit, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Use Docker's own profile by removing --security-opt seccomp=FILE, or begin a profile from \
                 it.",
        podman: "Use podman's own profile by removing --security-opt seccomp=FILE, or begin a profile from \
                 /usr/share/containers/seccomp.json.",
        ctr: "Remove --seccomp-profile: --seccomp alone takes containerd's own profile.",
        kubernetes: "Use securityContext.seccompProfile.type: RuntimeDefault, or a localhost profile that \
                     lists what is allowed.",
        config: "Set linux.seccomp.defaultAction to SCMP_ACT_ERRNO, and list the system calls that the \
                 workload needs with SCMP_ACT_ALLOW.",
    },
    mappings: Mappings {
        pss: "Seccomp (restricted)",
        cis_docker: "5.22",
        nsa: "",
        nist_800_190: "3.5.2",
    },
    facts: &[],
    check: lists_what_is_allowed,
};

fn lists_what_is_allowed(case: &Case<'_>, violations: &mut Violations) {
    let Some(linux) = case.config.linux.value() else {
        return;
    };
    let Some(action) = linux
        .seccomp
        .value()
        .and_then(|filter| filter.default_action.value())
    else {
        return;
    };
    let passes = [
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_LOG",
        "SCMP_ACT_TRACE",
        "SCMP_ACT_NOTIFY",
    ];
    if passes.contains(&action.as_str()) {
        violations.report(
            "/linux/seccomp/defaultAction",
            format!("{action:?} lets calls happen that the filter does not name"),
            "SCMP_ACT_ERRNO, or one of the actions that kill or trap",
        );
    }
}

static SEC_03: Rule = Rule {
    id: "SEC-03",
    title: "the seccomp filter denies what no container needs",
    meaning: "linux.seccomp may let through an entry of the floor: rare families of sockets, io_uring, keys, new \
              namespaces and mounts without SYS_ADMIN, and what else docs/seccomp.md lists under its capability. The \
              filter is compiled and followed for every value of the arguments that do not matter, also with garbage in \
              the half of a register that the kernel does not look at.",
    why: "Engines' default profiles differ, age, and are replaced by looser ones to make one program run. What nearly \
          no container needs, and where holes were found again and again, is denied whatever the profile says.",
    stops: &[
        "CVE-2026-31431 (Copy Fail, AF_ALG)",
        "CVE-2026-43500 (AF_RXRPC)",
        "the io_uring family",
        "CVE-2022-0185 and nf_tables, by way of user namespaces",
    ],
    fields: &["/linux/seccomp"],
    levels: Levels::new(Level::Off, Level::Harden, Level::Harden),
    hardening: "a second, small filter is loaded under the engine's, which stays as it is; the kernel takes the \
                stricter answer",
    remedies: Remedies {
        docker: "Nothing has to be done. A container that needs an entry (AF_VSOCK for a guest agent, nested for \
                 containers in containers) is one for a site's policy: \"SEC-03:AF_VSOCK\" = \"off\".",
        kubernetes: "Nothing has to be done. A pod that needs an entry is one for a site's policy: \
                     \"SEC-03:nested\" = \"off\".",
        config: "Deny the calls in linux.seccomp, or have the site's policy allow the entry by its name; \
                 gabion seccomp floor lists them.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "Seccomp (baseline, restricted)",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.5.2",
    },
    facts: &[],
    check: denies_the_floor,
};

/// `linux.seccomp` as a value for whoever understands filters; null if there is none.
fn as_value<'a>(case: &Case<'a>) -> &'a Value {
    case.document.pointer("/linux/seccomp").unwrap_or(&Value::Null)
}

fn filter<'a>(case: &Case<'a>) -> Option<&'a Seccomp> {
    let linux = case.config.linux.value()?;
    linux.seccomp.value().filter(|filter| !filter.is_empty())
}

/// What the filter may let through, or the default one where that will be filled in; `None` if there is nothing to ask
/// about, or if rule SEC-01 has refused the filter for a word that is not understood.
fn gaps(case: &Case<'_>) -> Option<Result<Vec<SeccompGap>, String>> {
    // A capability that another rule takes away lets nothing through any more.
    let bounding = case.bounding_after_hardening();
    if filter(case).is_none() {
        let filled = case.policy.level(&SEC_01, None, SEC_01.levels.of(case.profile)) == Level::Harden;
        // It denies all but what `restricted` alone asks for.
        if filled && case.profile != Profile::Restricted {
            return None;
        }
        if filled {
            let default = (case.policy.default_seccomp)(&bounding);
            return Some((case.policy.seccomp_gaps)(&default, &bounding));
        }
    }
    let mut words = Violations::default();
    if let Some(filter) = filter(case) {
        understood(filter, &mut words);
    }
    words
        .list
        .is_empty()
        .then(|| (case.policy.seccomp_gaps)(as_value(case), &bounding))
}

fn denies_the_floor(case: &Case<'_>, violations: &mut Violations) {
    const COMMON: Levels = Levels::new(Level::Off, Level::Harden, Level::Harden);
    const RESTRICTED: Levels = Levels::new(Level::Off, Level::Off, Level::Harden);
    let gaps = match gaps(case) {
        None => return,
        Some(Ok(gaps)) => gaps,
        Some(Err(why)) => {
            violations.undecided("/linux/seccomp", format!("the filter cannot be judged: {why}"));
            return;
        }
    };
    for gap in gaps {
        violations
            .report(
                "/linux/seccomp",
                format!("may let {} through", some(&gap.calls)),
                "a filter that denies it",
            )
            .sub_key(gap.entry.clone())
            .levels(if gap.restricted { RESTRICTED } else { COMMON })
            .fix(Change::StackSeccomp { entry: gap.entry });
    }
}

/// The first few of some calls.
fn some(calls: &[String]) -> String {
    const SHOWN: usize = 3;
    let mut text = calls.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if calls.len() > SHOWN {
        text.push_str(&format!(" and {} more", calls.len() - SHOWN));
    }
    text
}

/// What rule TTY-01 asks: whether the filter may let somebody type into a terminal.
pub(super) fn lets_terminal_input(case: &Case<'_>) -> Option<Result<bool, String>> {
    let gaps = gaps(case)?;
    Some(gaps.map(|gaps| gaps.iter().any(|gap| gap.entry == TERMINAL_INPUT)))
}

/// The floor's entry for TIOCSTI and TIOCLINUX.
pub(super) const TERMINAL_INPUT: &str = "terminal-input";

static SEC_04: Rule = Rule {
    id: "SEC-04",
    title: "the filter is for the architecture of the program",
    meaning: "linux.seccomp.architectures lists the 32-bit or x32 interface of this kernel, or there is no filter, and \
              the program of the container is none for it.",
    why: "A 64-bit program can enter the kernel by the 32-bit way as well. There socketcall(2) and ipc(2) have their \
          arguments behind a pointer, where no filter sees them, so that what is denied for socket(2) is open again; \
          and the code behind that way is less looked at.",
    stops: &[
        "socketcall(2) as a way around a filter for families of sockets",
        "holes of the 32-bit interface",
    ],
    fields: &["/linux/seccomp/architectures"],
    levels: Levels::new(Level::Off, Level::Off, Level::Harden),
    hardening: "a second filter, loaded under the engine's, kills programs of the other architectures",
    remedies: Remedies {
        docker: "Nothing has to be done. For Wine, SteamCMD and other 32-bit programs started by 64-bit ones, have the \
                 site's policy turn SEC-04 off.",
        kubernetes: "Nothing has to be done. For 32-bit programs started by 64-bit ones, have the site's policy turn \
                     SEC-04 off.",
        config: "List the native architecture alone in linux.seccomp.architectures.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.5.2",
    },
    facts: &[FactKind::Program],
    check: native_only,
};

/// What the floor calls closing the other ways into the kernel.
const COMPATIBILITY: &str = "compatibility";

fn native_only(case: &Case<'_>, violations: &mut Violations) {
    let Some(filter) = filter(case) else { return };
    // The kernel of a 64-bit architecture offers these beside its own.
    const OTHERS: [&str; 4] = [
        "SCMP_ARCH_X86",
        "SCMP_ARCH_X32",
        "SCMP_ARCH_ARM",
        "SCMP_ARCH_S390",
    ];
    let listed: Vec<&str> = filter
        .architectures
        .items()
        .iter()
        .map(String::as_str)
        .filter(|name| OTHERS.contains(name))
        .collect();
    if listed.is_empty() {
        return;
    }
    match &case.facts.program {
        Fact::Known(program) if program.is_32_bit => {}
        // A program that cannot be found is no reason to open anything; what starts it says so.
        _ => {
            violations
                .report(
                    "/linux/seccomp/architectures",
                    format!("lists {}, and the program is none for it", listed.join(" and ")),
                    "the native architecture alone",
                )
                .fix(Change::StackSeccomp {
                    entry: COMPATIBILITY.to_owned(),
                });
        }
    }
}

static SEC_05: Rule = Rule {
    id: "SEC-05",
    title: "who decides about system calls is trusted",
    meaning: "linux.seccomp uses SCMP_ACT_NOTIFY, and listenerPath is not an absolute path, leads through .., or lies in \
              a directory where anybody may make a socket; or the socket that is there, a directory above it or a link \
              on the way to it belongs to someone other than root or may be written to by others. For a runtime that an \
              ordinary user runs, that user is root's equal here.",
    why: "Whoever listens there gets a descriptor with which it reads the memory of the workload's calls and decides \
          about them. In a directory for everybody, anybody can be first; and whoever owns the socket's directory can \
          put another one in its place.",
    stops: &["a stranger that answers, and lets through, the calls that were to be decided"],
    fields: &["/linux/seccomp/listenerPath"],
    levels: Levels::new(Level::Audit, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Docker sets no listener; look at what wrote the profile.",
        podman: "podman sets no listener; look at what wrote the profile.",
        kubernetes: "Place the agent's socket below /run, in a directory that belongs to root.",
        config: "Set linux.seccomp.listenerPath to an absolute path below a directory that belongs to root, such as \
                 /run/seccomp-agent/listener.sock.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.4.1",
    },
    facts: &[FactKind::Listener],
    check: listener_is_trusted,
};

fn listener_is_trusted(case: &Case<'_>, violations: &mut Violations) {
    let Some(filter) = filter(case) else { return };
    let notifies = filter
        .syscalls
        .items()
        .iter()
        .any(|rule| rule.action == "SCMP_ACT_NOTIFY");
    if !notifies {
        return;
    }
    let path = filter.listener_path.value().map_or("", String::as_str);
    let open = ["/tmp/", "/var/tmp/", "/dev/shm/", "/run/lock/"];
    let fault = if path.is_empty() {
        "is not set, and SCMP_ACT_NOTIFY asks whoever listens there".to_owned()
    } else if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
        format!("{path:?} is no plain absolute path")
    } else if open.iter().any(|directory| path.starts_with(directory)) {
        format!("{path:?} is in a directory where anybody may make a socket")
    } else {
        match &case.facts.listener {
            Fact::Known(ListenerFact { open_to_others: None }) => return,
            Fact::Known(ListenerFact {
                open_to_others: Some(place),
            }) => format!("{path:?} is not root's alone: others may write to {place:?}, or own it"),
            Fact::Unknown(why) => {
                violations.undecided(
                    "/linux/seccomp/listenerPath",
                    format!("who owns the socket at {path:?} is not known: {why}"),
                );
                return;
            }
        }
    };
    violations.report(
        "/linux/seccomp/listenerPath",
        fault,
        "a socket in a directory that belongs to root",
    );
}

static SEC_06: Rule = Rule {
    id: "SEC-06",
    title: "the filter leaves the processor's mitigations on",
    meaning: "linux.seccomp.flags has SECCOMP_FILTER_FLAG_SPEC_ALLOW.",
    why: "Before Linux 5.16 a filter turned the mitigation of Speculative Store Bypass on for the workload; with this \
          flag it stays off. Later kernels leave it to the program.",
    stops: &["Spectre variant 4 (CVE-2018-3639) on kernels before 5.16"],
    fields: &["/linux/seccomp/flags"],
    levels: Levels::new(Level::Off, Level::Off, Level::Audit),
    hardening: "",
    remedies: Remedies {
        docker: "Docker does not set it; look at the profile that was given.",
        kubernetes: "Remove the flag from the localhost profile.",
        config: "Remove SECCOMP_FILTER_FLAG_SPEC_ALLOW from linux.seccomp.flags. gabion does not add it by itself.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.5.2",
    },
    facts: &[],
    check: mitigations,
};

fn mitigations(case: &Case<'_>, violations: &mut Violations) {
    let Some(filter) = filter(case) else { return };
    let flags = filter.flags.items().iter();
    for (index, _) in flags
        .enumerate()
        .filter(|(_, flag)| *flag == "SECCOMP_FILTER_FLAG_SPEC_ALLOW")
    {
        violations.report(
            Pointer::at("/linux/seccomp/flags").index(index),
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW keeps the mitigation of Speculative Store Bypass off",
            "no such flag",
        );
    }
}

static SEC_07: Rule = Rule {
    id: "SEC-07",
    title: "calls that are newer than the filter do not exist",
    meaning: "linux.seccomp kills or traps by default, so that a program which tries a newer system call dies instead \
              of falling back on an older one. Where the default is an errno, a call that is younger than the profile is \
              answered with ENOSYS in every profile, by the compiler of filters and without a finding.",
    why: "The C library tries new calls first. A container that dies of it after an update is one whose filter is \
          turned off.",
    stops: &["containers whose filter is turned off because an update broke them"],
    fields: &["/linux/seccomp/defaultAction"],
    // Nothing is added for it: what kills is as strict as can be, and a decision of its author.
    levels: Levels::new(Level::Off, Level::Off, Level::Audit),
    hardening: "",
    remedies: Remedies {
        docker: "Set defaultAction to SCMP_ACT_ERRNO in the profile that was given.",
        ctr: "Set defaultAction to SCMP_ACT_ERRNO in the file of --seccomp-profile.",
        kubernetes: "Set defaultAction to SCMP_ACT_ERRNO in the localhost profile.",
        config: "Set linux.seccomp.defaultAction to SCMP_ACT_ERRNO.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.5.2",
    },
    facts: &[],
    check: ages_well,
};

fn ages_well(case: &Case<'_>, violations: &mut Violations) {
    let Some(action) = filter(case).and_then(|filter| filter.default_action.value()) else {
        return;
    };
    let deadly = [
        "SCMP_ACT_KILL",
        "SCMP_ACT_KILL_PROCESS",
        "SCMP_ACT_KILL_THREAD",
        "SCMP_ACT_TRAP",
    ];
    if deadly.contains(&action.as_str()) {
        violations.report(
            "/linux/seccomp/defaultAction",
            format!("{action:?} ends a program that tries a call which the filter does not name"),
            "SCMP_ACT_ERRNO",
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::table::{Table, known, with as holding};
    use super::super::testing::{findings, hardened, host, offline, table};
    use super::*;

    fn with(seccomp: Value) -> Value {
        json!({"linux": {"seccomp": seccomp}})
    }

    const NONE: [&str; 3] = [
        "audit /linux/seccomp",
        "harden /linux/seccomp",
        "harden /linux/seccomp",
    ];

    #[test]
    fn no_filter_is_no_filter_whether_absent_null_or_empty() {
        table(
            "SEC-01",
            &host(),
            &[
                ("no linux", json!({}), NONE),
                ("absent", json!({"linux": {}}), NONE),
                ("null", with(json!(null)), NONE),
                ("empty", with(json!({})), NONE),
                (
                    "architectures alone",
                    with(json!({"architectures": ["SCMP_ARCH_X86_64"]})),
                    NONE,
                ),
                (
                    "an empty action and no rule",
                    with(json!({"defaultAction": "", "syscalls": []})),
                    NONE,
                ),
                (
                    "a filter without rules",
                    with(json!({"defaultAction": "SCMP_ACT_ERRNO"})),
                    ["", "", ""],
                ),
            ],
        );
        let found = |config: &Value| {
            findings("SEC-01", Profile::Baseline, config, &host())[0]
                .found
                .clone()
        };
        assert_eq!(found(&json!({})), "absent, so no filter would be loaded");
        assert_eq!(found(&with(json!(null))), "null, so no filter would be loaded");
        assert_eq!(found(&with(json!({}))), "empty, so no filter would be loaded");
        let after = hardened("SEC-01", Profile::Baseline, &with(json!(null)), &host());
        assert_eq!(
            after["linux"]["seccomp"],
            json!({"defaultAction": "SCMP_ACT_ERRNO"})
        );
    }

    #[test]
    fn a_filter_with_a_word_that_is_not_understood_is_refused_in_every_profile() {
        let rule = |rule: Value| with(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]}));
        let everywhere = |place: &str| format!("deny /linux/seccomp/{place}");
        for (name, config, place) in [
            (
                "default action",
                with(json!({"defaultAction": "SCMP_ACT_DENY"})),
                "defaultAction",
            ),
            (
                "rules without a default action",
                with(json!({"syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]})),
                "defaultAction",
            ),
            (
                "architecture",
                with(json!({"defaultAction": "SCMP_ACT_ERRNO",
                            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_VAX", "SCMP_ARCH_VAX"]})),
                "architectures/1",
            ),
            (
                "flag",
                with(json!({"defaultAction": "SCMP_ACT_ERRNO", "flags": ["SECCOMP_FILTER_FLAG_NEW"]})),
                "flags/0",
            ),
            (
                "action",
                rule(json!({"names": ["read"], "action": "ALLOW"})),
                "syscalls/0/action",
            ),
            (
                "operator",
                rule(json!({"names": ["clone"], "action": "SCMP_ACT_ALLOW",
                            "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_LIKE"}]})),
                "syscalls/0/args/0/op",
            ),
            (
                "argument",
                rule(json!({"names": ["clone"], "action": "SCMP_ACT_ALLOW",
                            "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]})),
                "syscalls/0/args/0/index",
            ),
        ] {
            let expected = everywhere(place);
            table(
                "SEC-01",
                &host(),
                &[(name, config, [&expected, &expected, &expected])],
            );
        }
        let fine = rule(
            json!({"names": ["clone", "not_yet_a_call"], "action": "SCMP_ACT_NOTIFY",
                               "args": [{"index": 5, "value": 1, "valueTwo": 0,
                                         "op": "SCMP_CMP_MASKED_EQ"}]}),
        );
        table("SEC-01", &host(), &[("all understood", fine, ["", "", ""])]);
    }

    #[test]
    fn a_rule_that_other_runtimes_read_otherwise_is_recorded() {
        let rule = |indexes: &[u32]| {
            let args: Vec<Value> = indexes
                .iter()
                .map(|index| json!({"index": index, "value": 1, "op": "SCMP_CMP_NE"}))
                .collect();
            with(json!({"defaultAction": "SCMP_ACT_ERRNO",
                        "syscalls": [{"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": args}]}))
        };
        let audit = "audit /linux/seccomp/syscalls/0/args";
        table(
            "SEC-01",
            &host(),
            &[
                ("each argument once", rule(&[0, 1, 2]), ["", "", ""]),
                ("one twice", rule(&[0, 1, 0]), [audit, audit, audit]),
            ],
        );
        let found = &findings("SEC-01", Profile::Baseline, &rule(&[0, 1, 1]), &host())[0].found;
        assert!(
            found.starts_with("several conditions on argument 1: all have to hold"),
            "{found}"
        );
    }

    #[test]
    fn a_filter_that_allows_by_default_is_recorded_and_refused_by_restricted() {
        let at = "/linux/seccomp/defaultAction";
        for action in ACTIONS {
            let passes = ["ALLOW", "LOG", "TRACE", "NOTIFY"]
                .iter()
                .any(|end| action == format!("SCMP_ACT_{end}"));
            let (audit, deny) = (format!("audit {at}"), format!("deny {at}"));
            let expected = if passes {
                ["", &audit[..], &deny[..]]
            } else {
                ["", "", ""]
            };
            table(
                "SEC-02",
                &host(),
                &[(action, with(json!({"defaultAction": action})), expected)],
            );
        }
        table(
            "SEC-02",
            &host(),
            &[
                ("absent", json!({}), ["", "", ""]),
                ("null", with(json!(null)), ["", "", ""]),
                ("empty", with(json!({})), ["", "", ""]),
            ],
        );
    }

    /// A filter with `lets` in it lets that entry through; without a filter all is let through.
    fn some_gaps(filter: &Value, bounding: &[String]) -> Result<Vec<SeccompGap>, String> {
        if filter.get("broken").is_some() {
            return Err("it is broken".to_owned());
        }
        let gap = |entry: &str, restricted| SeccompGap {
            entry: entry.to_owned(),
            restricted,
            calls: ["socket(38)", "b", "c", "d"].map(str::to_owned).to_vec(),
        };
        let mut gaps = vec![
            gap("AF_ALG", false),
            gap("debugging", true),
            gap(TERMINAL_INPUT, false),
        ];
        if !bounding.iter().any(|has| has == "CAP_SYS_ADMIN") {
            gaps.push(gap("nested", false));
        }
        let lets = filter.get("lets").and_then(Value::as_str);
        gaps.retain(|gap| filter.is_null() || lets == Some(gap.entry.as_str()));
        Ok(gaps)
    }

    fn judging(profile: Profile) -> Table {
        let mut table = Table::of(profile);
        table.policy.seccomp_gaps = std::sync::Arc::new(some_gaps);
        table
    }

    fn letting(entry: &str) -> Value {
        holding(
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ERRNO", "lets": entry}),
        )
    }

    #[test]
    fn what_a_filter_lets_through_of_the_floor_is_stacked_entry_by_entry() {
        let [privileged, baseline, restricted] = Profile::ALL.map(judging);
        assert!(privileged.verdicts("SEC-03", &letting("AF_ALG")).is_empty());
        for table in [&baseline, &restricted] {
            assert_eq!(
                table.verdicts("SEC-03", &letting("AF_ALG")),
                ["harden SEC-03:AF_ALG /linux/seccomp"]
            );
            assert!(table.verdicts("SEC-03", &letting("nothing")).is_empty());
        }
        assert!(baseline.verdicts("SEC-03", &letting("debugging")).is_empty());
        assert_eq!(
            restricted.verdicts("SEC-03", &letting("debugging")),
            ["harden SEC-03:debugging /linux/seccomp"]
        );
        assert_eq!(
            baseline.findings("SEC-03", &letting("AF_ALG"))[0].found,
            "may let socket(38), b, c and 1 more through"
        );
        let after = baseline.hardened("SEC-03", &letting("AF_ALG"));
        assert_eq!(after["linux"][crate::change::FLOOR], json!(["AF_ALG"]));
        assert_eq!(
            after["linux"]["seccomp"],
            letting("AF_ALG")["linux"]["seccomp"],
            "the engine's is left alone"
        );
    }

    #[test]
    fn an_entry_is_waived_by_its_name_and_a_capability_takes_it_away() {
        let mut table = judging(Profile::Baseline);
        table.policy.levels.insert("SEC-03:AF_ALG".to_owned(), Level::Off);
        assert!(table.verdicts("SEC-03", &letting("AF_ALG")).is_empty());
        assert_eq!(
            table.verdicts("SEC-03", &letting("nested")),
            ["harden SEC-03:nested /linux/seccomp"]
        );
        let mut document = letting("nested");
        document["process"]["capabilities"] = json!({"bounding": ["CAP_SYS_ADMIN"]});
        assert!(table.verdicts("SEC-03", &document).is_empty());
    }

    #[test]
    fn a_container_without_a_filter_has_the_floor_only_if_no_filter_is_filled_in() {
        let document = holding("/linux/seccomp", json!(null));
        let mut table = judging(Profile::Baseline);
        assert!(
            table.verdicts("SEC-03", &document).is_empty(),
            "the default filter denies all of it"
        );
        table.policy.levels.insert("SEC-01".to_owned(), Level::Audit);
        assert_eq!(
            table.hardened("SEC-03", &document)["linux"][crate::change::FLOOR],
            json!(["AF_ALG", TERMINAL_INPUT, "nested"])
        );
    }

    #[test]
    fn a_filter_that_cannot_be_judged_is_refused_and_one_with_an_unknown_word_is_left_to_sec_01() {
        let broken = holding(
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ERRNO", "broken": 1}),
        );
        let finding = &judging(Profile::Baseline).findings("SEC-03", &broken)[0];
        assert!(finding.undecided && finding.action == crate::Action::Deny);
        assert_eq!(finding.found, "the filter cannot be judged: it is broken");
        let word = holding(
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_DENY", "broken": 1}),
        );
        assert!(judging(Profile::Baseline).findings("SEC-03", &word).is_empty());
        // Nobody was asked.
        let finding = &Table::of(Profile::Baseline).findings("SEC-03", &letting("AF_ALG"))[0];
        assert!(finding.undecided);
    }

    #[test]
    fn other_architectures_are_closed_under_restricted_unless_the_program_is_for_them() {
        let lists = |names: &[&str]| {
            holding(
                "/linux/seccomp",
                json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": names}),
            )
        };
        let both = lists(&["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
        let program = |is_32_bit| {
            judging(Profile::Restricted)
                .knowing(|facts| facts.program = known(crate::facts::ProgramFact { is_32_bit }))
        };
        let closes = ["harden SEC-04 /linux/seccomp/architectures"];
        assert_eq!(program(false).verdicts("SEC-04", &both), closes);
        assert!(program(true).verdicts("SEC-04", &both).is_empty());
        assert_eq!(
            judging(Profile::Restricted).verdicts("SEC-04", &both),
            closes,
            "not known"
        );
        assert!(judging(Profile::Baseline).verdicts("SEC-04", &both).is_empty());
        assert!(
            program(false)
                .verdicts("SEC-04", &lists(&["SCMP_ARCH_X86_64"]))
                .is_empty()
        );
        assert!(program(false).verdicts("SEC-04", &lists(&[])).is_empty());
        assert_eq!(
            program(false).hardened("SEC-04", &both)["linux"][crate::change::FLOOR],
            json!(["compatibility"])
        );
    }

    #[test]
    fn a_listener_is_in_a_directory_that_belongs_to_root() {
        let at = "/linux/seccomp/listenerPath";
        let (audit, deny) = (format!("audit {at}"), format!("deny {at}"));
        let bad = [audit.as_str(), deny.as_str(), deny.as_str()];
        let notify = |path: Value| {
            with(json!({"defaultAction": "SCMP_ACT_ERRNO", "listenerPath": path,
                        "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}]}))
        };
        let mut facts = host();
        facts.listener = known(ListenerFact { open_to_others: None });
        table(
            "SEC-05",
            &facts,
            &[
                ("good", notify(json!("/run/agent/s.sock")), ["", "", ""]),
                ("absent", notify(json!(null)), bad),
                ("relative", notify(json!("agent.sock")), bad),
                ("climbing", notify(json!("/run/../tmp/s")), bad),
                ("for everybody", notify(json!("/tmp/s.sock")), bad),
                ("near miss", notify(json!("/tmpfiles/s.sock")), ["", "", ""]),
                (
                    "nobody is asked",
                    with(json!({"defaultAction": "SCMP_ACT_ERRNO", "listenerPath": "/tmp/s"})),
                    ["", "", ""],
                ),
            ],
        );
    }

    #[test]
    fn a_listener_that_others_could_take_the_place_of_is_no_listener() {
        let at = "/linux/seccomp/listenerPath";
        let notify = with(
            json!({"defaultAction": "SCMP_ACT_ERRNO", "listenerPath": "/srv/agent/s.sock",
                        "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}]}),
        );
        let silent = with(json!({"defaultAction": "SCMP_ACT_ERRNO", "listenerPath": "/srv/agent/s.sock"}));
        let mut facts = host();
        facts.listener = known(ListenerFact {
            open_to_others: Some("/srv/agent".into()),
        });
        let (audit, deny) = (format!("audit {at}"), format!("deny {at}"));
        let rows = [
            ("open to others", notify.clone(), [audit.as_str(), &deny, &deny]),
            ("nobody is asked", silent, ["", "", ""]),
        ];
        table("SEC-05", &facts, &rows);
        let found = &findings("SEC-05", Profile::Baseline, &notify, &facts)[0].found;
        assert!(found.contains("others may write to \"/srv/agent\""), "{found}");
        // Not known is not trusted, but for a file of another host.
        let unknown = format!("deny {at} undecided");
        let audited = format!("audit {at} undecided");
        table(
            "SEC-05",
            &host(),
            &[("unknown", notify.clone(), [audited.as_str(), &unknown, &unknown])],
        );
        assert_eq!(offline("SEC-05", Profile::Baseline, &notify, &host()), audited);
    }

    #[test]
    fn flags_that_turn_mitigations_off_and_filters_that_kill_are_recorded() {
        table(
            "SEC-06",
            &host(),
            &[
                (
                    "set",
                    with(json!({"defaultAction": "SCMP_ACT_ERRNO",
                                "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]})),
                    ["", "", "audit /linux/seccomp/flags/1"],
                ),
                (
                    "null",
                    with(json!({"defaultAction": "SCMP_ACT_ERRNO", "flags": null})),
                    ["", "", ""],
                ),
            ],
        );
        let kills = ["", "", "audit /linux/seccomp/defaultAction"];
        table(
            "SEC-07",
            &host(),
            &[
                (
                    "kills",
                    with(json!({"defaultAction": "SCMP_ACT_KILL_PROCESS"})),
                    kills,
                ),
                ("traps", with(json!({"defaultAction": "SCMP_ACT_TRAP"})), kills),
                (
                    "answers",
                    with(json!({"defaultAction": "SCMP_ACT_ERRNO"})),
                    ["", "", ""],
                ),
                ("absent", json!({}), ["", "", ""]),
            ],
        );
    }
}
