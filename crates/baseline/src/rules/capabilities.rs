//! Capabilities (capabilities(7)): which ones, in which sets.
//!
//! A capability is addressed without its prefix: `CAP-03:SYS_ADMIN`. What names mean is decided as the
//! engine under gabion decides it: `CAP_` is stripped as often as it is there, and case is folded. A second
//! way to write a name is a way around a list of names, so [`Granted`] sees through it and CAP-07 refuses it.

use std::collections::BTreeSet;

use crate::change::Change;
use crate::config::{Capabilities, Process};
use crate::pointer::Pointer;
use crate::profile::{Level, Levels, Profile};
use crate::rule::{Case, Mappings, Remedies, Rule, Violations};

/// The rules of this topic.
pub static RULES: &[&Rule] = &[
    &CAP_01, &CAP_02, &CAP_03, &CAP_04, &CAP_05, &CAP_06, &CAP_07, &CAP_08, &CAP_09,
];

/// The fourteen capabilities that Docker, containerd and CRI give by default.
pub const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Capabilities with which a process takes over the host, whatever else confines it, without their prefix.
pub const TAKEOVER: [&str; 18] = [
    "SYS_ADMIN",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_PTRACE",
    "SYS_BOOT",
    "DAC_READ_SEARCH",
    "BPF",
    "PERFMON",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "SYSLOG",
    "NET_ADMIN",
    "SYS_TIME",
    "SYS_RESOURCE",
    "CHECKPOINT_RESTORE",
    "LINUX_IMMUTABLE",
    "SYS_TTY_CONFIG",
    "AUDIT_CONTROL",
];

/// All capabilities of linux/capability.h, without their prefix, by their numbers. A kernel that lacks the
/// last ones is not asked: a name that the header knows is a name.
pub const KNOWN: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

pub(super) static CAP_01: Rule = Rule {
    id: "CAP-01",
    title: "capabilities are named",
    meaning: "process.capabilities is absent or null.",
    why: "The runtimes people use then give the workload every capability that the runtime itself has. An \
          empty object gives none, and is accepted.",
    stops: &["hand-made and mutated bundles that mean drop-all and get keep-all"],
    fields: &["/process/capabilities"],
    levels: Levels::new(Level::Audit, Level::Harden, Level::Harden),
    hardening: "the capabilities that the profile allows are filled in",
    remedies: Remedies {
        docker: "Docker always names them; nothing to do.",
        kubernetes: "The container engine always names them; nothing to do.",
        config: "Add \"capabilities\": {} for none, or the five sets with the names that are needed.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "Capabilities (baseline)",
        cis_docker: "5.4",
        nsa: "pod security enforcement",
        nist_800_190: "3.4.3",
    },
    facts: &[],
    check: named,
};

fn named(case: &Case<'_>, violations: &mut Violations) {
    let Some(process) = case.config.process.value() else {
        return;
    };
    if process.capabilities.is_missing() {
        let filled: &[&str] = match case.profile {
            Profile::Restricted => &["CAP_NET_BIND_SERVICE"],
            _ => &DEFAULT,
        };
        violations
            .report(
                Pointer::at("/process/capabilities"),
                format!(
                    "{}, which gives the workload all capabilities",
                    process.capabilities.presence()
                ),
                "an object with the five sets; {} for no capability",
            )
            .fix(Change::FillCapabilities {
                capabilities: filled.iter().map(|&c| c.to_owned()).collect(),
            });
    }
}

static CAP_02: Rule = Rule {
    id: "CAP-02",
    title: "no capability beyond the default ones",
    meaning: "One of the five sets grants a capability that is not among the fourteen which Docker, \
              containerd and Kubernetes give by default. Those that take over the host are CAP-03's.",
    why: "Each capability turns a part of the kernel's checks off for the workload, and opens kernel code \
          that is tested less because few programs may reach it. Most workloads that ask for one need none, \
          or need a single device or sysctl instead.",
    stops: &[
        "cap-add used as a first remedy",
        "kernel code that only privileged programs reach",
    ],
    fields: &["/process/capabilities/*"],
    levels: Levels::new(Level::Audit, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Remove the --cap-add that names it (cap_add: in a compose file). If the workload does need \
                 it, have the site's policy allow this one value, such as CAP-02:SYS_NICE.",
        ctr: "Remove the --cap-add that names it.",
        kubernetes: "Remove the name from securityContext.capabilities.add of the container. If the workload \
                     does need it, have the site's policy allow this one value, such as CAP-02:SYS_NICE.",
        config: "Remove the name from all five sets of process.capabilities.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "Capabilities (baseline)",
        cis_docker: "5.4",
        nsa: "pod security enforcement",
        nist_800_190: "3.4.3",
    },
    facts: &[],
    check: only_default,
};

fn only_default(case: &Case<'_>, violations: &mut Violations) {
    report_granted(
        case,
        violations,
        "the capabilities that engines give by default",
        |name| !is_default(name) && !TAKEOVER.contains(&name),
    );
}

static CAP_03: Rule = Rule {
    id: "CAP-03",
    title: "no capability that takes over the host",
    meaning: "One of the five sets grants a capability with which a process can leave its container or \
              control the host: SYS_ADMIN, SYS_MODULE, SYS_RAWIO, SYS_PTRACE, SYS_BOOT, DAC_READ_SEARCH, \
              BPF, PERFMON, MAC_ADMIN, MAC_OVERRIDE, SYSLOG, NET_ADMIN, SYS_TIME, SYS_RESOURCE, \
              CHECKPOINT_RESTORE, LINUX_IMMUTABLE, SYS_TTY_CONFIG or AUDIT_CONTROL.",
    why: "With SYS_ADMIN a workload mounts a cgroup hierarchy and has the kernel run a program on the host; \
          with DAC_READ_SEARCH it opens the host's files by handle; with SYS_MODULE it loads kernel code; \
          with NET_ADMIN it reaches the parts of the network stack in which most of the recent kernel holes \
          were found. Each is a finding of its own, so that allowing one allows no other.",
    stops: &[
        "cgroup release_agent escapes (CVE-2022-0492)",
        "the shocker escape: open_by_handle_at(2) on the host's file system",
        "loading kernel modules",
        "tracing processes of the host",
        "kernel holes behind NET_ADMIN (CVE-2026-43284)",
    ],
    fields: &["/process/capabilities/*"],
    levels: Levels::new(Level::Audit, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Remove the --cap-add that names it, or --privileged. Network parameters are set with \
                 --sysctl and limits with --ulimit, without any capability; profilers and packet captures \
                 can run on the host. Else have the site's policy allow this one value for this workload, \
                 such as CAP-03:NET_ADMIN.",
        ctr: "Remove the --cap-add that names it, or --privileged.",
        kubernetes: "Remove the name from securityContext.capabilities.add, and privileged: true. Network \
                     plugins and node agents do need some: have the site's policy allow this one value for \
                     their namespace, such as CAP-03:NET_ADMIN.",
        config: "Remove the name from all five sets of process.capabilities.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "Capabilities (baseline)",
        cis_docker: "5.4",
        nsa: "pod security enforcement",
        nist_800_190: "3.4.3",
    },
    facts: &[],
    check: no_takeover,
};

fn no_takeover(case: &Case<'_>, violations: &mut Violations) {
    report_granted(case, violations, "a workload without it", |name| {
        TAKEOVER.contains(&name)
    });
}

/// Reports each granted capability that is `unwanted`, at the first set that grants it.
fn report_granted(
    case: &Case<'_>,
    violations: &mut Violations,
    accepted: &str,
    unwanted: impl Fn(&'static str) -> bool,
) {
    let Some(process) = case.config.process.value() else {
        return;
    };
    for grant in Granted::of(process).iter().filter(|grant| unwanted(grant.name)) {
        violations
            .report(grant.pointer(), grant.found(), accepted)
            .sub_key(grant.name);
    }
}

static CAP_04: Rule = Rule {
    id: "CAP-04",
    title: "no capability but NET_BIND_SERVICE",
    meaning: "One of the five sets grants a default capability other than NET_BIND_SERVICE; what lies beyond \
              the default ones is reported by CAP-02 and CAP-03.",
    why: "The default set lets root in a container change identities, ignore file permissions, make device \
          nodes and forge packets. A service needs none of it, and a setuid program of the image hands all \
          of it to whoever breaks into the service.",
    stops: &[
        "chains through setuid programs to root in the container",
        "escapes that begin as root in the container",
    ],
    fields: &["/process/capabilities/*"],
    levels: Levels::new(Level::Off, Level::Off, Level::Deny),
    hardening: "where the user is not root, noNewPrivileges is true and the ambient set is empty, the \
                capabilities are dropped; a program started so has none of them anyway",
    remedies: Remedies {
        docker: "Add --cap-drop ALL, and --cap-add NET_BIND_SERVICE if a port below 1024 is bound.",
        ctr: "Add --cap-drop for each of the default ones, such as --cap-drop CAP_CHOWN.",
        kubernetes: "Set securityContext.capabilities.drop: [\"ALL\"] on the container, and add: \
                     [\"NET_BIND_SERVICE\"] if a port below 1024 is bound.",
        config: "Set \"capabilities\": {} in process, or leave CAP_NET_BIND_SERVICE alone in its sets.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "Capabilities (restricted)",
        cis_docker: "5.4",
        nsa: "non-root containers",
        nist_800_190: "3.4.3",
    },
    facts: &[],
    check: only_net_bind_service,
};

fn only_net_bind_service(case: &Case<'_>, violations: &mut Violations) {
    let Some(process) = case.config.process.value() else {
        return;
    };
    let inert = Levels::new(Level::Off, Level::Off, Level::Harden);
    for grant in Granted::of(process)
        .iter()
        .filter(|g| is_default(g.name) && g.name != "NET_BIND_SERVICE")
    {
        report_droppable(
            process,
            violations,
            &grant,
            "no capability but CAP_NET_BIND_SERVICE",
            inert,
        );
    }
}

/// Reports a granted capability; where it is [`inert`], its levels are `levels` and dropping it is the fix.
fn report_droppable(
    process: &Process,
    violations: &mut Violations,
    grant: &Grant,
    accepted: &str,
    levels: Levels,
) {
    let violation = violations
        .report(grant.pointer(), grant.found(), accepted)
        .sub_key(grant.name);
    if inert(process) {
        violation.levels(levels);
        for change in drops(process, grant.name) {
            violation.fix(change);
        }
    }
}

/// True if the capabilities of this process come to nothing in the workload.
///
/// execve(2) of a user other than root leaves no capability but the ambient ones and those of the file, and
/// with no_new_privs the file's capabilities cannot exceed what the process had. So nothing is left, unless
/// the image gives capabilities to the entrypoint's file; then dropping them takes those away as well, which
/// is what the profile asks for. This is what Kubernetes' pause container looks like: user 65535, no new
/// privileges, and fourteen capabilities that it can never use. Refusing it would refuse every pod.
fn inert(process: &Process) -> bool {
    uid(process) != 0
        && process.no_new_privileges.is_true()
        && !sets(process).any(|(set, _)| set == "ambient")
}

static CAP_05: Rule = Rule {
    id: "CAP-05",
    title: "nothing is inheritable",
    meaning: "process.capabilities.inheritable names a capability, and no ambient capability that is \
              accepted needs it there.",
    why: "An inheritable capability becomes effective in any program whose file has it in its own \
          inheritable set, so a program in the image can take back what was dropped. Engines set it by \
          mistake for years.",
    stops: &[
        "CVE-2022-24769 (Docker)",
        "CVE-2022-29162 (runc exec)",
        "CVE-2022-27650 (crun)",
        "CVE-2022-27649 (podman)",
        "CVE-2025-27612 (youki)",
    ],
    fields: &["/process/capabilities/inheritable"],
    levels: Levels::new(Level::Audit, Level::Harden, Level::Harden),
    hardening: "the inheritable set is cleared, but for what an accepted ambient capability needs",
    remedies: Remedies {
        docker: "Update Docker: from 20.10.14 on it leaves the set empty.",
        podman: "Update podman: from 4.0.3 on it leaves the set empty.",
        ctr: "Update containerd: from 1.5.11 and 1.6.2 on it leaves the set empty.",
        kubernetes: "Update the container engine: containerd from 1.5.11 and 1.6.2 on leaves the set empty.",
        config: "Remove \"inheritable\" from process.capabilities.",
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "5.4",
        nsa: "",
        nist_800_190: "3.4.3",
    },
    facts: &[],
    check: nothing_inheritable,
};

fn nothing_inheritable(case: &Case<'_>, violations: &mut Violations) {
    let Some(process) = case.config.process.value() else {
        return;
    };
    let Some(capabilities) = process.capabilities.value() else {
        return;
    };
    // The kernel keeps a capability ambient only while it is inheritable (capabilities(7)): clearing what
    // podman sets for `--user 1000 --cap-add NET_BIND_SERVICE` would break it without a message.
    let needed: BTreeSet<String> = capabilities
        .ambient
        .items()
        .iter()
        .map(|name| plain(name))
        .filter(|name| uid(process) != 0 && ambient_allowed(case.profile, name))
        .collect();
    let inheritable: Vec<&String> = capabilities
        .inheritable
        .items()
        .iter()
        .filter(|name| !needed.contains(&plain(name)))
        .collect();
    if inheritable.is_empty() {
        return;
    }
    let violation = violations.report(
        "/process/capabilities/inheritable",
        format!("makes {} inheritable", quoted(&inheritable)),
        "an empty set, or none",
    );
    for capability in inheritable {
        violation.fix(drop_from("inheritable", capability));
    }
}

static CAP_06: Rule = Rule {
    id: "CAP-06",
    title: "ambient capabilities only for users other than root, and only allowed ones",
    meaning: "process.capabilities.ambient names a capability while the user is root, or one that the \
              profile does not allow: in restricted NET_BIND_SERVICE alone, else the default ones.",
    why: "An ambient capability stays with every program that the workload starts, without a setuid file or \
          a file capability to be seen. A user with the right ones is root under another number.",
    stops: &["users with uid 1000 that are root in all but name"],
    fields: &["/process/capabilities/ambient", "/process/user/uid"],
    levels: Levels::new(Level::Audit, Level::Harden, Level::Deny),
    hardening: "the capability is dropped from the ambient set; root keeps it in the other sets",
    remedies: Remedies {
        docker: "Docker sets no ambient capability; find out what changed the bundle.",
        podman: "Remove the --cap-add that is combined with --user: podman makes it ambient.",
        kubernetes: "Remove the name from securityContext.capabilities.add of the container.",
        config: "Remove \"ambient\" from process.capabilities, or leave CAP_NET_BIND_SERVICE alone in it \
                 with a user other than root.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "Capabilities (restricted)",
        cis_docker: "5.4",
        nsa: "non-root containers",
        nist_800_190: "3.4.3",
    },
    facts: &[],
    check: ambient_for_others,
};

fn ambient_for_others(case: &Case<'_>, violations: &mut Violations) {
    let Some(process) = case.config.process.value() else {
        return;
    };
    let Some(capabilities) = process.capabilities.value() else {
        return;
    };
    let root = uid(process) == 0;
    let ambient: Vec<&String> = capabilities
        .ambient
        .items()
        .iter()
        .filter(|name| root || !ambient_allowed(case.profile, &plain(name)))
        .collect();
    if ambient.is_empty() {
        return;
    }
    let violation = violations.report(
        "/process/capabilities/ambient",
        format!(
            "makes {} ambient for {}",
            quoted(&ambient),
            if root {
                "root".to_owned()
            } else {
                format!("user {}", uid(process))
            }
        ),
        match case.profile {
            Profile::Restricted => "an empty set, or CAP_NET_BIND_SERVICE for a user other than root",
            _ => "an empty set, or default capabilities for a user other than root",
        },
    );
    for capability in ambient {
        violation.fix(drop_from("ambient", capability));
    }
}

/// True if a user other than root may have this capability, given without its prefix, as an ambient one.
fn ambient_allowed(profile: Profile, name: &str) -> bool {
    match profile {
        Profile::Restricted => name == "NET_BIND_SERVICE",
        _ => is_default(name),
    }
}

static CAP_07: Rule = Rule {
    id: "CAP-07",
    title: "the capability sets make sense",
    meaning: "A name is no capability of Linux, or is not written as capabilities(7) writes it; the \
              effective set has one that the permitted set lacks; or the permitted set has one that the \
              bounding set lacks.",
    why: "Runtimes answer such sets each in its own way: one drops an unknown name with a warning, another \
          refuses, a third reads lower case and doubled prefixes. What one program has judged is then not \
          what another one gives.",
    stops: &[
        "names that a check does not recognize and the runtime does",
        "sets that change silently at execve(2)",
    ],
    fields: &["/process/capabilities/*"],
    levels: Levels::new(Level::Audit, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Write the names as capabilities(7) has them: --cap-add NET_BIND_SERVICE.",
        ctr: "Write the names as capabilities(7) has them, with the prefix: --cap-add CAP_NET_BIND_SERVICE.",
        kubernetes: "Write the names as capabilities(7) has them, without the prefix: add: \
                     [\"NET_BIND_SERVICE\"].",
        config: "Write each name in capitals with one prefix, such as CAP_CHOWN; put what is in effective \
                 into permitted too, and what is in permitted into bounding too.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.4.3",
    },
    facts: &[],
    check: consistent,
};

fn consistent(case: &Case<'_>, violations: &mut Violations) {
    let Some(process) = case.config.process.value() else {
        return;
    };
    let mut seen = BTreeSet::new();
    for (set, names) in sets(process) {
        for (index, name) in names.iter().enumerate() {
            let exact = name
                .strip_prefix("CAP_")
                .is_some_and(|rest| KNOWN.contains(&rest));
            if exact || !seen.insert(name) {
                continue;
            }
            let place = Pointer::at("/process/capabilities").key(set).index(index);
            match number(name) {
                Some(known) => violations.report(
                    place,
                    format!(
                        "{name:?} is read as CAP_{} by some and as nothing by others",
                        KNOWN[known]
                    ),
                    format!("\"CAP_{}\"", KNOWN[known]),
                ),
                None => violations.report(
                    place,
                    format!("{name:?} is no capability of Linux"),
                    "a name of capabilities(7), such as \"CAP_CHOWN\"",
                ),
            };
        }
    }
    for grant in Granted::of(process).iter() {
        for (set, of) in [("effective", "permitted"), ("permitted", "bounding")] {
            if grant.is_in(set) && !grant.is_in(of) {
                violations
                    .report(
                        Pointer::at("/process/capabilities").key(set),
                        format!("has CAP_{}, which {of} lacks", grant.name),
                        format!("CAP_{} in {of} as well, or in none of them", grant.name),
                    )
                    .sub_key(grant.name);
            }
        }
    }
}

static CAP_08: Rule = Rule {
    id: "CAP-08",
    title: "no raw sockets",
    meaning: "CAP_NET_RAW is granted.",
    why: "With it a workload writes packets of any kind: it answers ARP and DNS in its neighbours' place, \
          and it reaches the kernel's packet sockets, which have been a way to root before. ping(8) works \
          without it, since engines set net.ipv4.ping_group_range.",
    stops: &[
        "ARP and DNS spoofing in the pod network",
        "CVE-2020-14386 and CVE-2025-38617 (packet sockets)",
    ],
    fields: &["/process/capabilities/*"],
    levels: Levels::new(Level::Off, Level::Audit, Level::Deny),
    hardening: "where the user is not root, noNewPrivileges is true and the ambient set is empty, it is \
                dropped; a program started so does not have it anyway",
    remedies: Remedies {
        docker: "Add --cap-drop NET_RAW.",
        podman: "Remove --cap-add NET_RAW and --privileged: by default podman leaves it out.",
        ctr: "Add --cap-drop CAP_NET_RAW.",
        kubernetes: "Set securityContext.capabilities.drop: [\"NET_RAW\"], or better [\"ALL\"], on the \
                     container.",
        config: "Remove CAP_NET_RAW from all five sets of process.capabilities.",
    },
    mappings: Mappings {
        pss: "Capabilities (restricted)",
        cis_docker: "5.4",
        nsa: "",
        nist_800_190: "3.4.2",
    },
    facts: &[],
    check: no_raw_sockets,
};

fn no_raw_sockets(case: &Case<'_>, violations: &mut Violations) {
    report_one(case, violations, "NET_RAW");
}

static CAP_09: Rule = Rule {
    id: "CAP-09",
    title: "no making of device nodes",
    meaning: "CAP_MKNOD is granted.",
    why: "With it a workload makes a node for any device number, the host's disk included, and then only the \
          device rules of its cgroup stand between it and the disk. Workloads hardly ever make device nodes; \
          engines grant it so that package managers can unpack them.",
    stops: &[
        "device nodes for the host's disk",
        "tricks with nodes planted in /dev (CVE-2026-41579)",
    ],
    fields: &["/process/capabilities/*"],
    levels: Levels::new(Level::Off, Level::Audit, Level::Deny),
    hardening: "where the user is not root, noNewPrivileges is true and the ambient set is empty, it is \
                dropped; a program started so does not have it anyway",
    remedies: Remedies {
        docker: "Add --cap-drop MKNOD; give the workload a device it needs with --device.",
        podman: "Remove --cap-add MKNOD and --privileged: by default podman leaves it out.",
        ctr: "Add --cap-drop CAP_MKNOD; give the workload a device it needs with --device.",
        kubernetes: "Set securityContext.capabilities.drop: [\"MKNOD\"], or better [\"ALL\"], on the \
                     container.",
        config: "Remove CAP_MKNOD from all five sets of process.capabilities.",
    },
    mappings: Mappings {
        pss: "Capabilities (restricted)",
        cis_docker: "5.4",
        nsa: "",
        nist_800_190: "3.4.3",
    },
    facts: &[],
    check: no_device_nodes,
};

fn no_device_nodes(case: &Case<'_>, violations: &mut Violations) {
    report_one(case, violations, "MKNOD");
}

/// CAP-08 and CAP-09 are about one capability each; it is the rule itself, so there is no sub-key.
fn report_one(case: &Case<'_>, violations: &mut Violations, name: &str) {
    let Some(process) = case.config.process.value() else {
        return;
    };
    if let Some(grant) = Granted::of(process).iter().find(|grant| grant.name == name) {
        let accepted = format!("process.capabilities without CAP_{name}");
        let violation = violations.report(grant.pointer(), grant.found(), accepted);
        if inert(process) {
            violation.levels(Levels::new(Level::Off, Level::Harden, Level::Harden));
            for change in drops(process, name) {
                violation.fix(change);
            }
        }
    }
}

/// What the five sets grant, by capability. Its size does not depend on the bundle's.
pub(super) struct Granted([u8; KNOWN.len()]);

/// One capability that is granted.
pub(super) struct Grant {
    name: &'static str,
    in_sets: u8,
}

/// The five sets, in the order in which a grant's first place is looked for.
const SETS: [&str; 5] = ["bounding", "effective", "inheritable", "permitted", "ambient"];

impl Granted {
    pub(super) fn of(process: &Process) -> Self {
        let mut granted = [0; KNOWN.len()];
        for (set, names) in sets(process) {
            let bit = SETS
                .iter()
                .position(|&known| known == set)
                .map_or(0, |position| 1 << position);
            for known in names.iter().filter_map(|name| number(name)) {
                granted[known] |= bit;
            }
        }
        Granted(granted)
    }

    /// How many different capabilities are granted.
    pub(super) fn count(&self) -> usize {
        self.iter().count()
    }

    fn iter(&self) -> impl Iterator<Item = Grant> {
        KNOWN
            .iter()
            .zip(self.0)
            .filter(|(_, sets)| *sets != 0)
            .map(|(&name, in_sets)| Grant { name, in_sets })
    }
}

impl Grant {
    fn is_in(&self, set: &str) -> bool {
        self.in_which().any(|known| known == set)
    }

    fn in_which(&self) -> impl Iterator<Item = &'static str> {
        SETS.into_iter()
            .enumerate()
            .filter(|(position, _)| self.in_sets & (1 << position) != 0)
            .map(|(_, set)| set)
    }

    /// The first set that grants it.
    fn pointer(&self) -> Pointer {
        self.in_which()
            .next()
            .map_or(Pointer::at("/process/capabilities"), |set| {
                Pointer::at("/process/capabilities").key(set)
            })
    }

    fn found(&self) -> String {
        format!(
            "CAP_{} is granted ({})",
            self.name,
            self.in_which().collect::<Vec<_>>().join(", ")
        )
    }
}

/// The sets that are not empty, under their names.
fn sets(process: &Process) -> impl Iterator<Item = (&'static str, &[String])> {
    process
        .capabilities
        .value()
        .into_iter()
        .flat_map(Capabilities::sets)
        .map(|(set, names)| (set, names.items()))
        .filter(|(_, names)| !names.is_empty())
}

/// The number of the capability that the engine under gabion takes this name for.
///
/// It strips every `CAP_` and folds case as Unicode has it, so that `cap_cap_\u{17f}ys_admin`, with a long s,
/// is CAP_SYS_ADMIN to it.
fn number(name: &str) -> Option<usize> {
    let position = |plain: &str| KNOWN.iter().position(|&known| known == plain);
    name.strip_prefix("CAP_")
        .and_then(position)
        .or_else(|| position(&plain(name)))
}

/// A name in capitals and without prefixes.
fn plain(name: &str) -> String {
    let upper = name.to_uppercase();
    let mut rest = upper.as_str();
    while let Some(stripped) = rest.strip_prefix("CAP_") {
        rest = stripped;
    }
    rest.to_owned()
}

/// True for one of [`DEFAULT`], given without its prefix.
fn is_default(name: &str) -> bool {
    DEFAULT
        .iter()
        .any(|default| default.strip_prefix("CAP_") == Some(name))
}

/// The changes that drop a capability from all sets, under whatever spelling it is there.
fn drops<'a>(process: &'a Process, name: &'a str) -> impl Iterator<Item = Change> + 'a {
    sets(process).flat_map(move |(set, names)| {
        names
            .iter()
            .filter(move |written| number(written).is_some_and(|known| KNOWN[known] == name))
            .map(move |written| drop_from(set, written))
    })
}

fn drop_from(set: &str, capability: &str) -> Change {
    Change::DropCapability {
        set: set.to_owned(),
        capability: capability.to_owned(),
    }
}

/// The first of the names, quoted; a finding is a sentence, however long the bundle's lists are.
fn quoted(names: &[&String]) -> String {
    const SHOWN: usize = 14;
    let mut text = names
        .iter()
        .take(SHOWN)
        .map(|name| format!("{name:?}"))
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

fn uid(process: &Process) -> u32 {
    process.user.value().map_or(0, crate::config::User::uid)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{findings, hardened, host, table};
    use super::*;

    /// A configuration with these `process.capabilities`, run by root.
    fn root(capabilities: Value) -> Value {
        json!({"process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "capabilities": capabilities}})
    }

    /// The same, run by a user who may still gain privileges.
    fn user(capabilities: Value) -> Value {
        json!({"process": {"cwd": "/", "user": {"uid": 1000}, "capabilities": capabilities}})
    }

    /// As the pause container has it: capabilities that come to nothing.
    fn inert(capabilities: Value) -> Value {
        json!({"process": {"cwd": "/", "user": {"uid": 65535, "gid": 65535}, "noNewPrivileges": true,
                           "capabilities": capabilities}})
    }

    #[test]
    fn absent_and_null_capabilities_are_filled_in_and_an_empty_object_stays_empty() {
        table(
            "CAP-01",
            &host(),
            &[
                ("no process", json!({}), ["", "", ""]),
                (
                    "absent",
                    json!({"process": {"cwd": "/"}}),
                    [
                        "audit /process/capabilities",
                        "harden /process/capabilities",
                        "harden /process/capabilities",
                    ],
                ),
                (
                    "null",
                    root(json!(null)),
                    [
                        "audit /process/capabilities",
                        "harden /process/capabilities",
                        "harden /process/capabilities",
                    ],
                ),
                ("empty", root(json!({})), ["", "", ""]),
                (
                    "empty sets",
                    root(json!({"bounding": [], "effective": null})),
                    ["", "", ""],
                ),
            ],
        );
        let filled = |profile| {
            hardened("CAP-01", profile, &root(json!(null)), &host())["process"]["capabilities"].clone()
        };
        let one = json!(["CAP_NET_BIND_SERVICE"]);
        assert_eq!(
            filled(Profile::Restricted),
            json!({"bounding": one, "effective": one, "permitted": one})
        );
        assert_eq!(
            filled(Profile::Baseline),
            json!({"bounding": DEFAULT, "effective": DEFAULT, "permitted": DEFAULT})
        );
    }

    #[test]
    fn a_capability_beyond_the_default_ones_is_reported_once_by_the_rule_that_it_belongs_to() {
        let at = "/process/capabilities/bounding";
        let both = |action| format!("NET_ADMIN {action} {at}, SYS_ADMIN {action} {at}");
        let three = |caps: Value| root(json!({"bounding": caps, "effective": caps, "permitted": caps}));
        table(
            "CAP-02",
            &host(),
            &[
                ("no capabilities", root(json!({})), ["", "", ""]),
                ("null", root(json!(null)), ["", "", ""]),
                ("the default ones", three(json!(DEFAULT)), ["", "", ""]),
                (
                    "another",
                    three(json!(["CAP_CHOWN", "CAP_SYS_NICE"])),
                    [
                        "SYS_NICE audit /process/capabilities/bounding",
                        "SYS_NICE deny /process/capabilities/bounding",
                        "SYS_NICE deny /process/capabilities/bounding",
                    ],
                ),
                ("one of CAP-03's", three(json!(["CAP_SYS_ADMIN"])), ["", "", ""]),
                (
                    "in one set alone",
                    root(json!({"ambient": ["CAP_LEASE"]})),
                    [
                        "LEASE audit /process/capabilities/ambient",
                        "LEASE deny /process/capabilities/ambient",
                        "LEASE deny /process/capabilities/ambient",
                    ],
                ),
            ],
        );
        table(
            "CAP-03",
            &host(),
            &[
                ("no capabilities", root(json!({})), ["", "", ""]),
                ("null", root(json!(null)), ["", "", ""]),
                ("the default ones", three(json!(DEFAULT)), ["", "", ""]),
                ("one of CAP-02's", three(json!(["CAP_SYS_NICE"])), ["", "", ""]),
                (
                    "two of them",
                    three(json!(["CAP_SYS_ADMIN", "CAP_NET_ADMIN"])),
                    [&both("audit"), &both("deny"), &both("deny")],
                ),
                (
                    "inert ones are no better",
                    inert(json!({"bounding": ["CAP_BPF"]})),
                    [
                        "BPF audit /process/capabilities/bounding",
                        "BPF deny /process/capabilities/bounding",
                        "BPF deny /process/capabilities/bounding",
                    ],
                ),
            ],
        );
        let found = findings("CAP-03", Profile::Baseline, &three(json!(["CAP_BPF"])), &host());
        assert_eq!(found[0].rule, "CAP-03:BPF");
        assert_eq!(
            found[0].found,
            "CAP_BPF is granted (bounding, effective, permitted)"
        );
    }

    #[test]
    fn every_capability_of_linux_belongs_to_one_of_three_lists() {
        for name in KNOWN {
            let config = root(json!({"bounding": [format!("CAP_{name}")]}));
            let rules = ["CAP-02", "CAP-03", "CAP-04"];
            let by: Vec<&str> = rules
                .into_iter()
                .filter(|rule| !findings(rule, Profile::Restricted, &config, &host()).is_empty())
                .collect();
            let expected = usize::from(name != "NET_BIND_SERVICE");
            assert_eq!(by.len(), expected, "{name} is reported by {by:?}");
        }
        assert!(DEFAULT.iter().all(|name| number(name).is_some()));
        assert!(TAKEOVER.iter().all(|name| KNOWN.contains(name)));
    }

    #[test]
    fn no_spelling_that_the_engine_understands_gets_around_a_list() {
        for name in [
            "SYS_ADMIN",
            "cap_sys_admin",
            "CAP_CAP_SYS_ADMIN",
            "Cap_Sys_Admin",
            "CAP_\u{17f}YS_ADMIN",
        ] {
            let config = root(json!({"bounding": ["CAP_CHOWN", name]}));
            let rule = |rule| findings(rule, Profile::Baseline, &config, &host());
            assert_eq!(rule("CAP-03").len(), 1, "{name}");
            assert_eq!(rule("CAP-03")[0].rule, "CAP-03:SYS_ADMIN", "{name}");
            assert_eq!(rule("CAP-07").len(), 1, "{name}");
            assert_eq!(
                rule("CAP-07")[0].pointer,
                "/process/capabilities/bounding/1",
                "{name}"
            );
        }
    }

    #[test]
    fn restricted_leaves_net_bind_service_alone_and_drops_what_comes_to_nothing() {
        let at = |names: &[&str], action: &str| {
            let one = |name: &&str| format!("{name} {action} /process/capabilities/bounding");
            names.iter().map(one).collect::<Vec<_>>().join(", ")
        };
        let both = at(&["CHOWN", "KILL"], "deny");
        let two =
            json!({"bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_NET_BIND_SERVICE"], "permitted": ["CAP_KILL"]});
        table(
            "CAP-04",
            &host(),
            &[
                ("none", root(json!({})), ["", "", ""]),
                ("null", root(json!(null)), ["", "", ""]),
                (
                    "the allowed one",
                    root(json!({"bounding": ["CAP_NET_BIND_SERVICE"]})),
                    ["", "", ""],
                ),
                ("two for root", root(two.clone()), ["", "", &both]),
                (
                    "two that are inert",
                    inert(two.clone()),
                    ["", "", &at(&["CHOWN", "KILL"], "harden")],
                ),
                (
                    "an ambient one lives on",
                    inert(json!({"bounding": ["CAP_KILL"], "ambient": ["CAP_NET_BIND_SERVICE"]})),
                    ["", "", &at(&["KILL"], "deny")],
                ),
                (
                    "a setuid program could use it",
                    user(json!({"bounding": ["CAP_KILL"]})),
                    ["", "", &at(&["KILL"], "deny")],
                ),
            ],
        );
        let after = hardened("CAP-04", Profile::Restricted, &inert(two), &host());
        assert_eq!(
            after["process"]["capabilities"],
            json!({"bounding": ["CAP_NET_BIND_SERVICE"], "permitted": []})
        );
    }

    #[test]
    fn a_droppable_capability_is_dropped_under_the_name_that_it_was_written_with() {
        let config = inert(json!({"bounding": ["CAP_MKNOD", "mknod"], "inheritable": ["CAP_CAP_MKNOD"]}));
        let after = hardened("CAP-09", Profile::Baseline, &config, &host());
        assert_eq!(
            after["process"]["capabilities"],
            json!({"bounding": [], "inheritable": []})
        );
    }

    #[test]
    fn the_inheritable_set_is_cleared_but_for_what_an_accepted_ambient_capability_needs() {
        let at = "/process/capabilities/inheritable";
        let violated = [
            &format!("audit {at}")[..],
            &format!("harden {at}"),
            &format!("harden {at}"),
        ];
        let bind = json!(["CAP_NET_BIND_SERVICE"]);
        table(
            "CAP-05",
            &host(),
            &[
                ("absent", root(json!({"bounding": ["CAP_CHOWN"]})), ["", "", ""]),
                ("null", root(json!({"inheritable": null})), ["", "", ""]),
                ("empty", root(json!({"inheritable": []})), ["", "", ""]),
                ("one", root(json!({"inheritable": ["CAP_CHOWN"]})), violated),
                (
                    "an unknown one",
                    root(json!({"inheritable": ["CAP_X"]})),
                    violated,
                ),
                (
                    "needed by an ambient one",
                    user(json!({"inheritable": bind, "ambient": bind})),
                    ["", "", ""],
                ),
                (
                    "root's ambient ones are cleared too",
                    root(json!({"inheritable": bind, "ambient": bind})),
                    violated,
                ),
            ],
        );
        let config = user(json!({"inheritable": ["CAP_NET_BIND_SERVICE", "CAP_CHOWN"], "ambient": bind}));
        let after = hardened("CAP-05", Profile::Baseline, &config, &host());
        assert_eq!(
            after["process"]["capabilities"],
            json!({"inheritable": bind, "ambient": bind})
        );
    }

    #[test]
    fn ambient_capabilities_are_for_users_and_only_allowed_ones() {
        let at = "/process/capabilities/ambient";
        let violated = [
            &format!("audit {at}")[..],
            &format!("harden {at}"),
            &format!("deny {at}"),
        ];
        let user = |ambient: Value| user(json!({"ambient": ambient}));
        table(
            "CAP-06",
            &host(),
            &[
                ("absent", root(json!({})), ["", "", ""]),
                ("null", root(json!({"ambient": null})), ["", "", ""]),
                ("empty", root(json!({"ambient": []})), ["", "", ""]),
                (
                    "root",
                    root(json!({"ambient": ["CAP_NET_BIND_SERVICE"]})),
                    violated,
                ),
                (
                    "no user is root",
                    json!({"process": {"cwd": "/", "capabilities": {"ambient": ["CAP_KILL"]}}}),
                    violated,
                ),
                (
                    "a user, the allowed one",
                    user(json!(["CAP_NET_BIND_SERVICE"])),
                    ["", "", ""],
                ),
                (
                    "a user, a default one",
                    user(json!(["CAP_CHOWN"])),
                    ["", "", &format!("deny {at}")],
                ),
                ("a user, another one", user(json!(["CAP_SYS_ADMIN"])), violated),
            ],
        );
        let after = hardened(
            "CAP-06",
            Profile::Baseline,
            &user(json!(["CAP_CHOWN", "CAP_SYS_ADMIN"])),
            &host(),
        );
        assert_eq!(after["process"]["capabilities"]["ambient"], json!(["CAP_CHOWN"]));
    }

    #[test]
    fn sets_that_contradict_each_other_and_unknown_names_are_refused() {
        let chown = json!(["CAP_CHOWN"]);
        let all = |place: &str| {
            [
                format!("audit {place}"),
                format!("deny {place}"),
                format!("deny {place}"),
            ]
        };
        let unknown = all("/process/capabilities/effective/0");
        let effective = all("/process/capabilities/effective").map(|text| format!("CHOWN {text}"));
        let permitted = all("/process/capabilities/permitted").map(|text| format!("CHOWN {text}"));
        table(
            "CAP-07",
            &host(),
            &[
                ("null", root(json!(null)), ["", "", ""]),
                ("empty", root(json!({})), ["", "", ""]),
                (
                    "consistent",
                    root(json!({"bounding": chown, "effective": chown, "permitted": chown})),
                    ["", "", ""],
                ),
                (
                    "bounding more than permitted",
                    root(json!({"bounding": chown})),
                    ["", "", ""],
                ),
                (
                    "effective but not permitted",
                    root(json!({"bounding": chown, "effective": chown})),
                    effective.each_ref().map(String::as_str),
                ),
                (
                    "permitted but not bounding",
                    root(json!({"permitted": chown})),
                    permitted.each_ref().map(String::as_str),
                ),
                (
                    "an unknown name, once",
                    root(json!({"effective": ["ALL"], "permitted": ["ALL"]})),
                    unknown.each_ref().map(String::as_str),
                ),
                (
                    "the newest name",
                    root(json!({"bounding": ["CAP_CHECKPOINT_RESTORE"]})),
                    ["", "", ""],
                ),
            ],
        );
        let found = findings(
            "CAP-07",
            Profile::Baseline,
            &root(json!({"bounding": ["\u{1b}[2J"]})),
            &host(),
        );
        assert_eq!(found[0].found, "\"\\u{1b}[2J\" is no capability of Linux");
    }

    #[test]
    fn raw_sockets_and_device_nodes_are_dropped_where_that_is_invisible_and_refused_by_restricted() {
        for (rule, name, other) in [
            ("CAP-08", "CAP_NET_RAW", "CAP_NET_ADMIN"),
            ("CAP-09", "CAP_MKNOD", "CAP_CHOWN"),
        ] {
            let at = "/process/capabilities/bounding";
            let sets = json!({"bounding": [name], "effective": [name], "permitted": [name]});
            table(
                rule,
                &host(),
                &[
                    ("null", root(json!(null)), ["", "", ""]),
                    ("empty", root(json!({})), ["", "", ""]),
                    ("another", root(json!({"bounding": [other]})), ["", "", ""]),
                    (
                        "root",
                        root(sets.clone()),
                        ["", &format!("audit {at}"), &format!("deny {at}")],
                    ),
                    (
                        "inert",
                        inert(sets.clone()),
                        ["", &format!("harden {at}"), &format!("harden {at}")],
                    ),
                ],
            );
            let after = hardened(rule, Profile::Baseline, &inert(sets), &host());
            let none = json!({"bounding": [], "effective": [], "permitted": []});
            assert_eq!(after["process"]["capabilities"], none);
        }
    }
}
