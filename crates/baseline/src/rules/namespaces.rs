//! Namespaces (namespaces(7)): which ones are the container's own, and which are the host's.
//!
//! A path proves nothing. A pod with hostNetwork, hostPID and hostIPC joins four namespaces by paths below
//! /proc, and each of them is the host's; `docker run --network host` joins a bind mount of the host's
//! network namespace; an ordinary pod's container joins its sandbox by paths of the same form. So what
//! counts is which namespace a path leads to, which is a fact ([`NamespaceFact`]), and where that is not
//! known the rule is undecided. Three words:
//!
//! - *absent*: there is no entry of the type, and the container shares the runtime's namespace;
//! - *the host's*: the runtime's own, or the kernel's initial one. They differ where the runtime itself
//!   runs in a container, and a workload is to have neither;
//! - *joined*: an existing one that is not the host's, such as the pod's.

use std::collections::BTreeSet;

use crate::change::Change;
use crate::config::{IdMapping, Linux, Namespace};
use crate::facts::{Fact, FactKind, HostMatch, NamespaceFact};
use crate::given::Given;
use crate::pointer::Pointer;
use crate::profile::{Level, Levels};
use crate::rule::{Case, Mappings, Remedies, Rule, Violations};
use crate::rules::mounts;

/// The rules of this topic.
pub static RULES: &[&Rule] = &[
    &NS_01, &NS_02, &NS_03, &NS_04, &NS_05, &NS_06, &NS_07, &NS_08, &NS_09, &NS_10, &NS_11,
];

/// The types of namespaces that there are (config-linux.md, "Namespaces").
pub const KINDS: [&str; 8] = ["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"];

/// Where the container stands in the namespaces of one type.
pub(super) enum Standing<'a> {
    /// There is no entry, so it shares the host's.
    Absent,
    /// A new one is made.
    New,
    /// It joins one that exists and is not the host's.
    Joined,
    /// It joins the host's, at this index.
    Host {
        index: usize,
        path: &'a str,
        by: HostMatch,
    },
    /// It joins something that is no such namespace; NS-09 refuses that in every profile.
    Nothing,
    /// It joins something at this index, and what that is is not known.
    Unknown { index: usize, why: &'a str },
}

/// Where the container stands, by the first entry of the type; a second one is refused by NS-09.
pub(super) fn standing<'a>(case: &Case<'a>, kind: &str) -> Standing<'a> {
    let entry = entries(case)
        .iter()
        .enumerate()
        .find(|(_, entry)| entry.kind == kind);
    let Some((index, entry)) = entry else {
        return Standing::Absent;
    };
    let Some(path) = entry.joins() else {
        return Standing::New;
    };
    match case.facts.namespaces.get(index) {
        Some(Fact::Known(NamespaceFact::Existing { host: Some(by), .. })) => {
            Standing::Host { index, path, by: *by }
        }
        Some(Fact::Known(NamespaceFact::Existing { host: None, .. })) => Standing::Joined,
        Some(Fact::Known(NamespaceFact::NotOne(_))) => Standing::Nothing,
        Some(Fact::Unknown(why)) => Standing::Unknown { index, why },
        // Facts that contradict the configuration are facts about something else.
        Some(Fact::Known(NamespaceFact::New)) | None => Standing::Unknown {
            index,
            why: "the namespace at this path was not looked at",
        },
    }
}

fn entries<'a>(case: &Case<'a>) -> &'a [Namespace] {
    case.config
        .linux
        .value()
        .map_or(&[], |linux| linux.namespaces.items())
}

/// Reports the container that shares a namespace with the host. An absent entry can be added by hardening,
/// where `add` says so; a path to the host's cannot: that would replace what the engine asked for by name.
fn not_the_hosts(case: &Case<'_>, violations: &mut Violations, kind: &str, add: bool) {
    match standing(case, kind) {
        Standing::New | Standing::Joined | Standing::Nothing => {}
        Standing::Absent => {
            let violation = violations.report(
                "/linux/namespaces",
                format!("no entry of type {kind:?}, so the container shares the host's"),
                format!("an entry {{\"type\": {kind:?}}}"),
            );
            if add {
                violation.fix(Change::AddNamespace {
                    kind: kind.to_owned(),
                });
            }
        }
        Standing::Host { index, path, by } => {
            let whose = match by {
                HostMatch::Runtime => "the one that the runtime itself runs in",
                HostMatch::Initial => "the initial one of the kernel",
            };
            violations.report(
                entry_path(index),
                format!("{path:?} is the host's {kind} namespace ({whose})"),
                "no path, for a new namespace, or the path of one that is not the host's",
            );
        }
        Standing::Unknown { index, why } => {
            violations.undecided(entry_path(index), unknown(why));
        }
    }
}

fn entry_path(index: usize) -> Pointer {
    Pointer::at("/linux/namespaces").index(index).key("path")
}

fn unknown(why: &str) -> String {
    format!("whose namespace this is, is not known: {why}")
}

static NS_01: Rule = Rule {
    id: "NS-01",
    title: "a mount namespace of its own",
    meaning: "linux.namespaces has no entry of type \"mount\", or its path leads to the host's mount \
              namespace.",
    why: "Without one the runtime builds the container's mounts in the host's own mount table and leaves \
          them there, and the workload sees and changes the host's file systems. No container is meant to be \
          so.",
    stops: &[
        "changes to the host's mount table",
        "mounts of a container that stay on the host",
    ],
    fields: &["/linux/namespaces"],
    levels: Levels::new(Level::Deny, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Docker always asks for one; find out what changed the bundle.",
        kubernetes: "The container engine always asks for one; find out what changed the bundle.",
        config: "Add {\"type\": \"mount\"} to linux.namespaces.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "Host Namespaces (baseline)",
        cis_docker: "",
        nsa: "pod security enforcement",
        nist_800_190: "3.4.3",
    },
    facts: &[FactKind::Namespaces],
    check: |case, violations| not_the_hosts(case, violations, "mount", false),
};

static NS_02: Rule = Rule {
    id: "NS-02",
    title: "a process id namespace that is not the host's",
    meaning: "linux.namespaces has no entry of type \"pid\", or its path leads to the host's.",
    why: "A workload among the host's processes reads their environment with the secrets in it, signals \
          them, and reaches the host's file system through /proc/<pid>/root of any process it may trace.",
    stops: &[
        "/proc/<pid>/root of the host's processes",
        "secrets in the environment of other processes",
    ],
    fields: &["/linux/namespaces"],
    levels: Levels::new(Level::Audit, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Remove --pid host. To look into one container, join its namespace: --pid container:NAME.",
        ctr: "Remove --with-ns pid:PATH.",
        kubernetes: "Remove hostPID: true from the pod. To debug a container, use kubectl debug --target.",
        config: "Add {\"type\": \"pid\"} to linux.namespaces, or remove the path of the entry.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "Host Namespaces (baseline)",
        cis_docker: "5.16",
        nsa: "pod security enforcement",
        nist_800_190: "3.4.3",
    },
    facts: &[FactKind::Namespaces],
    check: |case, violations| not_the_hosts(case, violations, "pid", false),
};

static NS_03: Rule = Rule {
    id: "NS-03",
    title: "inter-process communication that is not the host's",
    meaning: "linux.namespaces has no entry of type \"ipc\", its path leads to the host's, or the host's \
              /dev/shm or a part of it is bind-mounted.",
    why: "System V and POSIX shared memory of the host's programs is open to the workload: it reads what \
          databases and desktops keep there, and writes what they trust. The namespace covers the first \
          kind, and /dev/shm is the second.",
    stops: &["reading and planting data in the shared memory of the host's programs"],
    fields: &["/linux/namespaces", "/mounts/*/source"],
    levels: Levels::new(Level::Audit, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Remove --ipc host and any -v that begins with /dev/shm. For more shared memory use \
                 --shm-size, to share it between containers --ipc container:NAME.",
        ctr: "Remove --with-ns ipc:PATH, and any --mount whose src begins with /dev/shm.",
        kubernetes: "Remove hostIPC: true from the pod; for more shared memory mount an emptyDir with \
                     medium: Memory at /dev/shm.",
        config: "Add {\"type\": \"ipc\"} to linux.namespaces, or remove the path of the entry, and mount a \
                 tmpfs at /dev/shm.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "Host Namespaces (baseline)",
        cis_docker: "5.17",
        nsa: "pod security enforcement",
        nist_800_190: "3.4.3",
    },
    facts: &[FactKind::Namespaces, FactKind::Mounts],
    check: ipc,
};

fn ipc(case: &Case<'_>, violations: &mut Violations) {
    not_the_hosts(case, violations, "ipc", false);
    for (index, mount) in case
        .config
        .mounts
        .items()
        .iter()
        .enumerate()
        .filter(|(_, mount)| mount.is_bind())
    {
        let source = mount.source.value().map_or("", String::as_str);
        let place = || Pointer::at("/mounts").index(index).key("source");
        let host_shm = match case.facts.mount_sources.get(index) {
            Some(Fact::Known(Some(fact))) => Ok(fact.is_host_shm),
            Some(Fact::Known(None)) | None => Err("the source was not looked at"),
            Some(Fact::Unknown(why)) => Err(why.as_str()),
        };
        match host_shm {
            Ok(false) => {}
            Ok(true) => {
                violations.report(
                    place(),
                    format!("{source:?} is the host's shared memory"),
                    "a tmpfs, or the pod's own shared memory",
                );
            }
            // The path says it, whichever host it is on.
            Err(_) if components(source).starts_with(&["dev", "shm"]) => {
                violations.report(
                    place(),
                    format!("{source:?} is shared memory of the host that it is mounted on"),
                    "a tmpfs, or the pod's own shared memory",
                );
            }
            // Any other path may be one by another name; that matters where shared memory is expected.
            Err(why) if mounts::place(case, index) == "/dev/shm" => {
                violations.undecided(
                    place(),
                    format!("whose shared memory this is, is not known: {why}"),
                );
            }
            Err(_) => {}
        }
    }
}

/// The components of a path, without those that say nothing.
fn components(path: &str) -> Vec<&str> {
    path.split('/')
        .filter(|component| !component.is_empty() && *component != ".")
        .collect()
}

static NS_04: Rule = Rule {
    id: "NS-04",
    title: "a network that is not the host's",
    meaning: "linux.namespaces has no entry of type \"network\", or its path leads to the host's.",
    why: "On the host's network a workload reaches what listens on localhost only (the kubelet, metadata \
          services, databases), the abstract sockets of the host's daemons, and the traffic of everyone \
          else; no network policy applies to it.",
    stops: &[
        "CVE-2020-15257 (containerd's abstract shim socket)",
        "services that trust localhost",
        "going around network policies",
    ],
    fields: &["/linux/namespaces"],
    levels: Levels::new(Level::Audit, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Remove --network host and publish the ports that are needed with -p.",
        ctr: "Remove --net-host, or --with-ns network:PATH where that is the host's; --cni gives the \
              container a network.",
        kubernetes: "Remove hostNetwork: true from the pod and use a Service, or hostPort for one port. \
                     Network plugins and node agents do need it: have the site's policy allow NS-04 for \
                     their namespace.",
        config: "Add {\"type\": \"network\"} to linux.namespaces, or let its path be that of another \
                 container or pod.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "Host Namespaces (baseline)",
        cis_docker: "5.10",
        nsa: "network separation and hardening",
        nist_800_190: "3.4.2",
    },
    facts: &[FactKind::Namespaces],
    check: |case, violations| not_the_hosts(case, violations, "network", false),
};

static NS_05: Rule = Rule {
    id: "NS-05",
    title: "a host name of its own",
    meaning: "linux.namespaces has no entry of type \"uts\", or its path leads to the host's.",
    why: "A workload in the host's uts namespace that has the right capability changes the host's name, and \
          with it what the host's daemons believe to be. Engines leave the entry out on a host network and \
          set no host name then, so a new namespace, which starts with a copy of the host's name, changes \
          nothing for the workload.",
    stops: &["sethostname(2) on the host"],
    fields: &["/linux/namespaces"],
    levels: Levels::new(Level::Audit, Level::Harden, Level::Harden),
    hardening: "a new uts namespace is added where the entry is absent; a path to the host's is refused, \
                since hardening adds to what was asked for and does not replace it",
    remedies: Remedies {
        docker: "Remove --uts host.",
        ctr: "Remove --with-ns uts:PATH.",
        kubernetes: "Remove hostNetwork: true from the pod; where a container joins the host's by path, its \
                     sandbox was made by another runtime: start the pod again.",
        config: "Add {\"type\": \"uts\"} to linux.namespaces, or remove the path of the entry.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "Host Namespaces (baseline)",
        cis_docker: "5.21",
        nsa: "",
        nist_800_190: "3.4.3",
    },
    facts: &[FactKind::Namespaces],
    check: |case, violations| not_the_hosts(case, violations, "uts", true),
};

static NS_06: Rule = Rule {
    id: "NS-06",
    title: "a cgroup namespace of its own",
    meaning: "linux.namespaces has no entry of type \"cgroup\", or its path leads to the host's.",
    why: "Without one, /proc/self/cgroup tells the workload where it lies in the host's hierarchy, and \
          cgroup mounts that it makes show the whole of it: both are steps of the escapes through \
          release_agent. On hosts with cgroup version 1 no engine asks for the namespace.",
    stops: &[
        "a step of CVE-2022-0492 (release_agent)",
        "CVE-2023-25809 (a writable cgroup of the user's session)",
    ],
    fields: &["/linux/namespaces"],
    levels: Levels::new(Level::Off, Level::Harden, Level::Harden),
    hardening: "a new cgroup namespace is added where the entry is absent; a path to the host's is refused, \
                since hardening adds to what was asked for and does not replace it",
    remedies: Remedies {
        docker: "Use --cgroupns private, the default on hosts with cgroup version 2.",
        kubernetes: "Nothing to do: the namespace is added. Container engines ask for it themselves on nodes \
                     with cgroup version 2.",
        config: "Add {\"type\": \"cgroup\"} to linux.namespaces, or remove the path of the entry.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "5.25",
        nsa: "",
        nist_800_190: "3.4.3",
    },
    facts: &[FactKind::Namespaces],
    check: |case, violations| not_the_hosts(case, violations, "cgroup", true),
};

static NS_07: Rule = Rule {
    id: "NS-07",
    title: "users that are not the host's",
    meaning: "linux.namespaces has no entry of type \"user\", or its path leads to the host's; a runtime \
              that itself runs in a user namespace is accepted without.",
    why: "Without a user namespace, root in the container is root on the host to every check that it reaches \
          by a hole in the kernel or the runtime. With one, most such holes end at an account that owns \
          nothing.",
    stops: &[
        "most of what a break-out is worth: CVE-2025-31133, CVE-2025-52565, CVE-2025-52881 become minor",
    ],
    fields: &["/linux/namespaces"],
    levels: Levels::new(Level::Off, Level::Off, Level::Audit),
    hardening: "",
    remedies: Remedies {
        docker: "Set userns-remap in the daemon's configuration.",
        podman: "Use --userns auto, or let an ordinary user run podman.",
        ctr: "Add --uidmap 0:100000:65536 --gidmap 0:100000:65536.",
        kubernetes: "Set hostUsers: false in the pod.",
        config: "Add {\"type\": \"user\"} to linux.namespaces with linux.uidMappings and linux.gidMappings; \
                 the rootfs must belong to the mapped ids.",
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "5.31",
        nsa: "non-root containers",
        nist_800_190: "3.4.3",
    },
    facts: &[FactKind::Namespaces, FactKind::Kernel],
    check: own_users,
};

fn own_users(case: &Case<'_>, violations: &mut Violations) {
    if runtime_is_initial(case) != Some(false) {
        not_the_hosts(case, violations, "user", false);
    }
}

fn runtime_is_initial(case: &Case<'_>) -> Option<bool> {
    case.facts
        .kernel
        .known()
        .map(|kernel| kernel.in_initial_user_namespace)
}

static NS_08: Rule = Rule {
    id: "NS-08",
    title: "id mappings that keep away from the host's accounts",
    meaning: "A mapping of the user namespace, or of a mount into it, leads to host ids below 65536, has no \
              size or goes past the last id; or a list has more than 340 mappings; or there are mappings and \
              no user namespace that they would apply to. In a runtime that itself runs in a user namespace, \
              low ids are those of its user and are accepted.",
    why: "A user namespace in which root is the host's root, or a daemon's account, looks like protection \
          and is none. The ids below 65536 are the host's own: root, its daemons, its people, nobody.",
    stops: &[
        "user namespaces in name only",
        "CVE-2021-43784: mappings so long that they overflow into other settings",
    ],
    fields: &[
        "/linux/uidMappings",
        "/linux/gidMappings",
        "/mounts/*/uidMappings",
        "/mounts/*/gidMappings",
    ],
    levels: Levels::new(Level::Audit, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Give the user that userns-remap names a range from 65536 upwards in /etc/subuid and \
                 /etc/subgid.",
        podman: "Use --userns auto in place of --uidmap and --gidmap.",
        ctr: "Give --uidmap and --gidmap a range from 65536 upwards: 0:100000:65536.",
        kubernetes: "The kubelet chooses the mappings; check the range of the user kubelet in /etc/subuid \
                     and /etc/subgid on the node.",
        config: "Use mappings such as {\"containerID\": 0, \"hostID\": 100000, \"size\": 65536} in \
                 linux.uidMappings and linux.gidMappings, beside {\"type\": \"user\"} in linux.namespaces.",
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "5.31",
        nsa: "",
        nist_800_190: "3.4.3",
    },
    facts: &[FactKind::Namespaces, FactKind::Kernel],
    check: mappings,
};

/// The first host id that no account of the host has: 16 bits were all once, and 65534 is nobody still.
const FIRST_FREE_ID: u32 = 65536;

/// As many lines as the kernel takes for a namespace (user_namespaces(7), since Linux 4.15).
const MAX_MAPPINGS: usize = 340;

fn mappings(case: &Case<'_>, violations: &mut Violations) {
    let Some(linux) = case.config.linux.value() else {
        return;
    };
    let absent = matches!(standing(case, "user"), Standing::Absent);
    for (key, list) in [
        ("uidMappings", &linux.uid_mappings),
        ("gidMappings", &linux.gid_mappings),
    ] {
        let place = Pointer::at("/linux").key(key);
        if absent && !list.items().is_empty() {
            violations.report(
                place,
                "set, but linux.namespaces has no \"user\" entry for it to apply to",
                "an entry {\"type\": \"user\"} in linux.namespaces, or no mappings",
            );
        } else {
            mapping_list(case, violations, &place, list);
        }
    }
    // Without a user namespace, what a mount's mappings mean is another rule's question.
    if absent {
        return;
    }
    for (index, mount) in case.config.mounts.items().iter().enumerate() {
        let place = Pointer::at("/mounts").index(index);
        mapping_list(
            case,
            violations,
            &place.clone().key("uidMappings"),
            &mount.uid_mappings,
        );
        mapping_list(case, violations, &place.key("gidMappings"), &mount.gid_mappings);
    }
}

fn mapping_list(
    case: &Case<'_>,
    violations: &mut Violations,
    list_place: &Pointer,
    list: &Given<Vec<IdMapping>>,
) {
    // Long lists have overflowed the messages in which runtimes pass them on (CVE-2021-43784).
    if list.items().len() > MAX_MAPPINGS {
        violations.report(
            list_place.clone(),
            format!("{} mappings, more than the kernel takes", list.items().len()),
            format!("at most {MAX_MAPPINGS}"),
        );
        return;
    }
    for (index, mapping) in list.items().iter().enumerate() {
        let place = list_place.clone().index(index);
        let IdMapping {
            container_id,
            host_id,
            size,
        } = *mapping;
        // 4294967295 is -1 to the kernel, "no id"; the last one is the id before it.
        let past_the_end = |first: u32| u64::from(first) + u64::from(size) > u64::from(u32::MAX);
        if size == 0 {
            violations.report(place.key("size"), "0, which maps nothing", "at least 1");
        } else if past_the_end(container_id) || past_the_end(host_id) {
            violations.report(
                place.key("size"),
                format!("{size}, which goes past the last id, 4294967294"),
                "a range that ends at 4294967294 or before",
            );
        } else if host_id < FIRST_FREE_ID {
            match runtime_is_initial(case) {
                Some(false) => {}
                Some(true) => {
                    violations.report(
                        place.key("hostID"),
                        format!("{host_id}: the container's id {container_id} is an account of the host"),
                        format!("host ids from {FIRST_FREE_ID} upwards"),
                    );
                }
                None => {
                    violations.undecided(
                        place.key("hostID"),
                        format!("{host_id}: whether the runtime is in a user namespace itself is not known"),
                    );
                }
            }
        }
    }
}

/// Which ids of the initial user namespace the ids of the container are.
pub(super) struct HostIds<'a> {
    standing: Standing<'a>,
    mappings: &'a [IdMapping],
    initial: Option<bool>,
}

impl<'a> HostIds<'a> {
    /// By `linux.uidMappings`, or `linux.gidMappings`, as `list` has it.
    pub(super) fn by(case: &Case<'a>, list: fn(&Linux) -> &Given<Vec<IdMapping>>) -> Self {
        let mappings = case
            .config
            .linux
            .value()
            .map_or(&[][..], |linux| list(linux).items());
        HostIds {
            standing: standing(case, "user"),
            mappings: &mappings[..mappings.len().min(MAX_MAPPINGS)],
            initial: runtime_is_initial(case),
        }
    }

    /// The id that this one is there; `None` if it is mapped to none.
    ///
    /// # Errors
    /// The place and the reason, if that is not known.
    pub(super) fn host_id(&self, id: u32) -> Result<Option<u32>, (Pointer, String)> {
        match self.standing {
            // Where nothing is known, the runtime is taken to be where it mostly is.
            Standing::Absent | Standing::Host { .. } => Ok((self.initial != Some(false)).then_some(id)),
            Standing::Joined | Standing::Nothing => Ok(None),
            Standing::Unknown { index, why } => Err((entry_path(index), unknown(why))),
            Standing::New => {
                let mapped = self.mappings.iter().find_map(|mapping| {
                    let offset = id
                        .checked_sub(mapping.container_id)
                        .filter(|offset| *offset < mapping.size)?;
                    mapping.host_id.checked_add(offset)
                });
                Ok(mapped.filter(|_| self.initial != Some(false)))
            }
        }
    }
}

static NS_09: Rule = Rule {
    id: "NS-09",
    title: "namespaces that are what they say",
    meaning: "An entry of linux.namespaces has a type that there is not, or one that another entry has \
              already; or its path is relative or does not lead to a namespace of its type.",
    why: "The runtime joins what the path leads to with the rights of root. A path that someone else can \
          change between the check and the joining puts the workload anywhere, and an entry that the runtime \
          does not understand is an isolation that the author believes in and nobody makes. The path is \
          opened once, what it is is asked of the kernel, and that descriptor is joined.",
    stops: &[
        "paths that are swapped between check and use",
        "an isolation that is misspelt and silently left out",
    ],
    fields: &["/linux/namespaces/*/type", "/linux/namespaces/*/path"],
    levels: Levels::new(Level::Deny, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "If a container's namespace is joined (--network container:NAME), check that it is still \
                 running.",
        ctr: "Correct the path of --with-ns, and check that its process is still running.",
        kubernetes: "The pod's sandbox is gone or is being replaced; the kubelet makes a new one. If it \
                     stays so, look at the container engine's log.",
        config: "Use each of pid, network, mount, ipc, uts, user, cgroup and time at most once, with an \
                 absolute path to a file such as /proc/4711/ns/net, or with none.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.4.1",
    },
    facts: &[FactKind::Namespaces],
    check: as_they_say,
};

fn as_they_say(case: &Case<'_>, violations: &mut Violations) {
    let mut seen = BTreeSet::new();
    for (index, entry) in entries(case).iter().enumerate() {
        let kind_place = || Pointer::at("/linux/namespaces").index(index).key("type");
        if !KINDS.contains(&entry.kind.as_str()) {
            violations.report(
                kind_place(),
                format!("{:?} is no type of namespace that gabion knows", entry.kind),
                "pid, network, mount, ipc, uts, user, cgroup or time",
            );
            continue;
        }
        if !seen.insert(entry.kind.as_str()) {
            violations.report(
                kind_place(),
                format!("{:?} is there a second time", entry.kind),
                "one entry for each type",
            );
        }
        let Some(path) = entry.joins() else { continue };
        if !path.starts_with('/') {
            violations.report(
                entry_path(index),
                format!("{path:?} is relative"),
                "an absolute path",
            );
            continue;
        }
        match case.facts.namespaces.get(index) {
            Some(Fact::Known(NamespaceFact::Existing { .. })) => {}
            Some(Fact::Known(NamespaceFact::NotOne(what))) => {
                violations.report(
                    entry_path(index),
                    format!("{path:?} is no {} namespace: {what}", entry.kind),
                    format!("a path that leads to {}", one(&entry.kind)),
                );
            }
            Some(Fact::Unknown(why)) => {
                violations.undecided(
                    entry_path(index),
                    format!("what {path:?} is, is not known: {why}"),
                );
            }
            Some(Fact::Known(NamespaceFact::New)) | None => {
                violations.undecided(
                    entry_path(index),
                    format!("what {path:?} is, is not known: it was not looked at"),
                );
            }
        }
    }
}

static NS_10: Rule = Rule {
    id: "NS-10",
    title: "no namespace of another pod's process",
    meaning: "An entry of linux.namespaces of type pid, mount or user joins the namespace of a process, by \
              /proc/PID/ns, whose cgroup does not lie beside the container's: it belongs to another pod, or to none. A \
              namespace that is kept under a name of its own, as CRI-O's are, tells nobody whose it is.",
    why: "In another container's pid namespace its environment and memory can be read, in its mount namespace its \
          volumes and secrets. Within one pod that is what its author asked for, as kubectl debug --target does; \
          between two pods it is a way from one to the other.",
    stops: &["moving from one container to the next"],
    fields: &["/linux/namespaces/*/path", "/linux/cgroupsPath"],
    levels: Levels::new(Level::Off, Level::Audit, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Remove --pid container:NAME where the two have different --cgroup-parent, or give them the same.",
        ctr: "Remove the --with-ns that names another container's process.",
        kubernetes: "The kubelet never asks for it; find out what changed the bundle.",
        config: "Join only namespaces of processes in cgroups with the same parent as linux.cgroupsPath.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.4.5",
    },
    facts: &[FactKind::Namespaces],
    check: same_pod,
};

fn same_pod(case: &Case<'_>, violations: &mut Violations) {
    for (index, entry) in entries(case).iter().enumerate() {
        let (true, Some(path)) = (
            ["pid", "mount", "user"].contains(&entry.kind.as_str()),
            entry.joins(),
        ) else {
            continue;
        };
        let place = Pointer::at("/linux/namespaces").index(index).key("path");
        let owner = match case.facts.namespace_owners.get(index) {
            Some(Fact::Known(Some(owner))) => owner,
            Some(Fact::Known(None)) => continue,
            Some(Fact::Unknown(why)) => {
                violations
                    .undecided(place, format!("whose namespace {path:?} is, is not known: {why}"))
                    .sub_key(entry.kind.as_str());
                continue;
            }
            None => {
                violations
                    .undecided(place, format!("whose namespace {path:?} is, is not known"))
                    .sub_key(entry.kind.as_str());
                continue;
            }
        };
        let own = case
            .config
            .linux
            .value()
            .and_then(|linux| linux.cgroups_path.value())
            .map_or("", String::as_str);
        if !are_beside(own, owner) {
            violations
                .report(
                    place,
                    format!(
                        "{path:?} is of a process in the cgroup {owner:?}, which does not lie beside {own:?}"
                    ),
                    "a namespace of this pod, or a new one",
                )
                .sub_key(entry.kind.as_str());
        }
    }
}

/// True if a container's `cgroupsPath` and the cgroup of a process have the same parent.
///
/// What /proc says may begin above what the path begins at, where cgroups are nested; so the parent that is named is
/// looked for at the end of the one that is real. A root as parent is nobody's pod.
fn are_beside(cgroups_path: &str, owner: &str) -> bool {
    fn parent(path: &str) -> Option<&str> {
        path.trim_end_matches('/')
            .rsplit_once('/')
            .map(|(parent, _)| parent)
    }
    let Some(theirs) = parent(owner) else {
        return false;
    };
    // systemd's form: slice:prefix:name. The slice is a directory of its full name.
    let ours = match cgroups_path.split_once(':') {
        Some((slice, _)) if !cgroups_path.contains('/') => slice,
        _ => match parent(cgroups_path) {
            Some(parent) => parent.trim_start_matches('/'),
            None => return false,
        },
    };
    !ours.is_empty()
        && theirs
            .strip_suffix(ours)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
}

static NS_11: Rule = Rule {
    id: "NS-11",
    title: "clock offsets only in a time namespace of its own",
    meaning: "linux.timeOffsets is set, and linux.namespaces has no entry of type \"time\" that asks for a \
              new one.",
    why: "Offsets can be set for a new time namespace only, before a process is in it (time_namespaces(7)). \
          Without one they would be lost, or would be meant for someone else's clock.",
    stops: &["offsets that are meant for the clocks of others"],
    fields: &["/linux/timeOffsets", "/linux/namespaces"],
    levels: Levels::new(Level::Deny, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Docker sets no offsets; find out what changed the bundle.",
        kubernetes: "Container engines set no offsets; find out what changed the bundle.",
        config: "Add {\"type\": \"time\"} to linux.namespaces, or remove linux.timeOffsets.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.4.3",
    },
    facts: &[],
    check: offsets,
};

fn offsets(case: &Case<'_>, violations: &mut Violations) {
    let Some(linux) = case.config.linux.value() else {
        return;
    };
    let set = linux
        .time_offsets
        .value()
        .is_some_and(|offsets| !offsets.is_empty());
    let own = entries(case)
        .iter()
        .any(|entry| entry.kind == "time" && entry.joins().is_none());
    if set && !own {
        violations.report(
            "/linux/timeOffsets",
            "set, but linux.namespaces asks for no new time namespace",
            "an entry {\"type\": \"time\"} without a path in linux.namespaces, or no offsets",
        );
    }
}

/// A namespace of a kind, with its article.
pub fn one(kind: &str) -> String {
    let article = if kind.starts_with('i') { "an" } else { "a" };
    format!("{article} {kind} namespace")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::{Value, json};

    use super::super::testing::{findings, hardened, host, offline, table};
    use super::*;
    use crate::facts::{Facts, FileKind, Identity, KernelFact, SourceFact};
    use crate::profile::Profile;

    /// A configuration with these `linux.namespaces`.
    fn with(namespaces: Value) -> Value {
        json!({"linux": {"namespaces": namespaces}})
    }

    /// Two namespaces of each type, but for one: the first is new, the second leads to `fact` at /ns.
    fn joining(kind: &str) -> Value {
        with(json!([{"type": "time"}, {"type": kind, "path": "/ns"}]))
    }

    fn facts(fact: Fact<NamespaceFact>) -> Facts {
        Facts {
            namespaces: vec![Fact::Known(NamespaceFact::New), fact],
            ..host()
        }
    }

    fn existing(host: Option<HostMatch>) -> Fact<NamespaceFact> {
        Fact::Known(NamespaceFact::Existing {
            identity: Identity {
                device: 4,
                inode: 4_026_531_000,
            },
            host,
        })
    }

    fn runtime_in_a_user_namespace(initial: Option<bool>) -> Facts {
        let kernel = |initial| KernelFact {
            version: (6, 12),
            last_capability: 40,
            legacy_tiocsti: None,
            in_initial_user_namespace: initial,
        };
        Facts {
            kernel: initial.map_or(Fact::Unknown("another host".to_owned()), |i| {
                Fact::Known(kernel(i))
            }),
            ..host()
        }
    }

    /// What each of the rules about one namespace says, in each way to stand in it.
    fn one_namespace(rule: &str, kind: &str, absent: [&str; 3], shared: [&str; 3]) {
        let at = |levels: [&str; 3], place: &str| {
            levels.map(|level| {
                if level.is_empty() {
                    String::new()
                } else {
                    format!("{level} {place}")
                }
            })
        };
        let none = at(absent, "/linux/namespaces");
        let none = none.each_ref().map(String::as_str);
        table(
            rule,
            &host(),
            &[
                ("no linux", json!({}), none),
                ("absent", json!({"linux": {}}), none),
                ("null", with(json!(null)), none),
                ("empty", with(json!([])), none),
                ("others", with(json!([{"type": "time"}])), none),
                ("new", with(json!([{"type": kind}])), ["", "", ""]),
                (
                    "new, with a null path",
                    with(json!([{"type": kind, "path": null}])),
                    ["", "", ""],
                ),
                (
                    "new, with an empty path",
                    with(json!([{"type": kind, "path": ""}])),
                    ["", "", ""],
                ),
            ],
        );
        let path = at(shared, "/linux/namespaces/1/path");
        for by in [HostMatch::Runtime, HostMatch::Initial] {
            let row = ("the host's", joining(kind), path.each_ref().map(String::as_str));
            table(rule, &facts(existing(Some(by))), &[row]);
        }
        table(
            rule,
            &facts(existing(None)),
            &[("another's", joining(kind), ["", "", ""])],
        );
        let nothing = facts(Fact::Known(NamespaceFact::NotOne("a regular file".to_owned())));
        table(
            rule,
            &nothing,
            &[(
                "no namespace, which is another rule's",
                joining(kind),
                ["", "", ""],
            )],
        );
        let undecided = at(shared, "/linux/namespaces/1/path undecided");
        let undecided = undecided.each_ref().map(String::as_str);
        table(
            rule,
            &facts(Fact::Unknown("EACCES".to_owned())),
            &[("not known", joining(kind), undecided)],
        );
        table(rule, &host(), &[("not looked at", joining(kind), undecided)]);
        let contradiction = facts(Fact::Known(NamespaceFact::New));
        table(
            rule,
            &contradiction,
            &[("facts of something else", joining(kind), undecided)],
        );
    }

    #[test]
    fn the_hosts_namespaces_are_refused_however_they_are_reached() {
        let denied = ["audit", "deny", "deny"];
        one_namespace("NS-01", "mount", ["deny"; 3], ["deny"; 3]);
        one_namespace("NS-02", "pid", denied, denied);
        one_namespace("NS-03", "ipc", denied, denied);
        one_namespace("NS-04", "network", denied, denied);
    }

    #[test]
    fn an_absent_uts_or_cgroup_namespace_is_added_and_a_path_to_the_hosts_is_refused() {
        one_namespace(
            "NS-05",
            "uts",
            ["audit", "harden", "harden"],
            ["audit", "deny", "deny"],
        );
        one_namespace("NS-06", "cgroup", ["", "harden", "harden"], ["", "deny", "deny"]);
        for (rule, kind) in [("NS-05", "uts"), ("NS-06", "cgroup")] {
            for before in [json!(null), json!([]), json!([{"type": "pid"}])] {
                let after = hardened(rule, Profile::Baseline, &with(before.clone()), &host());
                let mut expected = before.as_array().cloned().unwrap_or_default();
                expected.push(json!({"type": kind}));
                assert_eq!(after["linux"]["namespaces"], json!(expected), "{rule}");
            }
        }
    }

    #[test]
    fn a_finding_says_whose_namespace_it_is() {
        let config = joining("network");
        let found = |fact| {
            findings("NS-04", Profile::Baseline, &config, &facts(fact))[0]
                .found
                .clone()
        };
        assert_eq!(
            found(existing(Some(HostMatch::Runtime))),
            "\"/ns\" is the host's network namespace (the one that the runtime itself runs in)"
        );
        assert_eq!(
            found(existing(Some(HostMatch::Initial))),
            "\"/ns\" is the host's network namespace (the initial one of the kernel)"
        );
        assert_eq!(
            found(Fact::Unknown("EACCES".to_owned())),
            "whose namespace this is, is not known: EACCES"
        );
        let absent = &findings("NS-04", Profile::Baseline, &with(json!([])), &host())[0];
        assert_eq!(
            absent.found,
            "no entry of type \"network\", so the container shares the host's"
        );
        assert_eq!(absent.accepted, "an entry {\"type\": \"network\"}");
    }

    #[test]
    fn a_file_of_another_host_is_judged_by_what_it_says_itself() {
        let joins = joining("network");
        assert_eq!(
            offline("NS-04", Profile::Baseline, &joins, &Facts::default()),
            "audit /linux/namespaces/1/path undecided"
        );
        assert_eq!(
            offline("NS-04", Profile::Baseline, &with(json!([])), &Facts::default()),
            "deny /linux/namespaces"
        );
        assert_eq!(
            offline(
                "NS-04",
                Profile::Baseline,
                &with(json!([{"type": "network"}])),
                &Facts::default()
            ),
            ""
        );
    }

    fn shm(source: &str, destination: &str) -> Value {
        json!({
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": destination, "type": "bind", "source": source, "options": ["rbind"]},
            ],
            "linux": {"namespaces": [{"type": "ipc"}]},
        })
    }

    fn sources(source: Fact<Option<SourceFact>>) -> Facts {
        Facts {
            mount_sources: vec![Fact::Known(None), source],
            ..host()
        }
    }

    fn source(is_host_shm: bool) -> Fact<Option<SourceFact>> {
        Fact::Known(Some(SourceFact {
            canonical: PathBuf::from("/dev/shm"),
            identity: Identity { device: 25, inode: 1 },
            kind: FileKind::Directory,
            on_procfs: false,
            on_sysfs: false,
            on_cgroupfs: false,
            is_host_shm,
            through_magic_link: None,
            through_foreign_link: None,
            sensitive: None,
            restrictions: Vec::new(),
            control_socket: None,
            engine_managed: false,
        }))
    }

    #[test]
    fn shared_memory_bound_from_the_host_is_the_hosts_ipc() {
        let sandbox = "/run/containerd/sandboxes/x/shm";
        let at = "/mounts/1/source";
        let violated = [
            &format!("audit {at}")[..],
            &format!("deny {at}"),
            &format!("deny {at}"),
        ];
        let unsure = [
            &format!("audit {at} undecided")[..],
            &format!("deny {at} undecided"),
            &format!("deny {at} undecided"),
        ];
        table(
            "NS-03",
            &sources(source(true)),
            &[
                ("at its place", shm("/dev/shm", "/dev/shm"), violated),
                ("under another name", shm("/mnt/fast", "/dev/shm"), violated),
                ("elsewhere", shm("/dev/shm", "/data"), violated),
            ],
        );
        table(
            "NS-03",
            &sources(source(false)),
            &[("the pod's own", shm(sandbox, "/dev/shm"), ["", "", ""])],
        );
        let unknown = sources(Fact::Unknown("another host".to_owned()));
        table(
            "NS-03",
            &unknown,
            &[
                ("the path says it", shm("/dev//./shm/x", "/data"), violated),
                ("the path does not say it", shm(sandbox, "/dev/shm/"), unsure),
                (
                    "not where shared memory is",
                    shm("/srv/data", "/data"),
                    ["", "", ""],
                ),
                ("a near miss", shm("/dev/shmem", "/data"), ["", "", ""]),
            ],
        );
        let tmpfs = json!({"mounts": [{"destination": "/dev/shm", "type": "tmpfs", "source": "shm"}],
                           "linux": {"namespaces": [{"type": "ipc"}]}});
        table("NS-03", &host(), &[("a tmpfs", tmpfs, ["", "", ""])]);
    }

    #[test]
    fn the_absence_of_a_user_namespace_is_recorded_by_restricted() {
        one_namespace("NS-07", "user", ["", "", "audit"], ["", "", "audit"]);
        let nested = runtime_in_a_user_namespace(Some(false));
        table(
            "NS-07",
            &nested,
            &[("a rootless runtime", with(json!([])), ["", "", ""])],
        );
        let unknown = runtime_in_a_user_namespace(None);
        table(
            "NS-07",
            &unknown,
            &[("not known", with(json!([])), ["", "", "audit /linux/namespaces"])],
        );
    }

    fn mapped(container: u32, host: u32, size: u32) -> Value {
        json!({"linux": {"namespaces": [{"type": "user"}],
                         "uidMappings": [{"containerID": container, "hostID": host, "size": size}]}})
    }

    #[test]
    fn mappings_stay_away_from_the_hosts_accounts() {
        let at =
            |end: &str| ["audit", "deny", "deny"].map(|level| format!("{level} /linux/uidMappings/0/{end}"));
        let (low, size) = (at("hostID"), at("size"));
        let low = low.each_ref().map(String::as_str);
        let size = size.each_ref().map(String::as_str);
        table(
            "NS-08",
            &host(),
            &[
                ("no linux", json!({}), ["", "", ""]),
                (
                    "null",
                    json!({"linux": {"uidMappings": null, "namespaces": [{"type": "user"}]}}),
                    ["", "", ""],
                ),
                (
                    "empty",
                    json!({"linux": {"uidMappings": [], "namespaces": []}}),
                    ["", "", ""],
                ),
                ("the host's root", mapped(0, 0, 1), low),
                ("a daemon", mapped(0, 33, 1), low),
                ("the last account", mapped(0, 65535, 1), low),
                ("the first free id", mapped(0, 65536, 65536), ["", "", ""]),
                ("no size", mapped(0, 100_000, 0), size),
                (
                    "up to the last id",
                    mapped(0, 100_000, u32::MAX - 100_000),
                    ["", "", ""],
                ),
                (
                    "past the last host id",
                    mapped(0, 100_000, u32::MAX - 99_999),
                    size,
                ),
                ("past the last container id", mapped(u32::MAX, 100_000, 1), size),
            ],
        );
        let rootless = runtime_in_a_user_namespace(Some(false));
        table(
            "NS-08",
            &rootless,
            &[
                ("the user's own id", mapped(0, 0, 1), ["", "", ""]),
                ("sizes count there too", mapped(0, 0, 0), size),
            ],
        );
        let unknown = at("hostID undecided");
        table(
            "NS-08",
            &runtime_in_a_user_namespace(None),
            &[(
                "not known",
                mapped(0, 0, 1),
                unknown.each_ref().map(String::as_str),
            )],
        );
    }

    #[test]
    fn mappings_without_a_user_namespace_and_mappings_of_mounts_are_judged_too() {
        let none = json!({"linux": {"gidMappings": [{"containerID": 0, "hostID": 100_000, "size": 1}]}});
        let list = |length: u32| {
            let mapping = |n: u32| json!({"containerID": n, "hostID": 100_000 + n, "size": 1});
            json!({"linux": {"namespaces": [{"type": "user"}],
                             "uidMappings": (0..length).map(mapping).collect::<Vec<_>>()}})
        };
        let low = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
        let mount = |namespaces: Value| {
            json!({"mounts": [{"destination": "/data", "source": "/x", "type": "bind", "gidMappings": low}],
                   "linux": {"namespaces": namespaces}})
        };
        table(
            "NS-08",
            &host(),
            &[
                (
                    "no namespace",
                    none,
                    [
                        "audit /linux/gidMappings",
                        "deny /linux/gidMappings",
                        "deny /linux/gidMappings",
                    ],
                ),
                (
                    "a mount",
                    mount(json!([{"type": "user"}])),
                    [
                        "audit /mounts/0/gidMappings/0/hostID",
                        "deny /mounts/0/gidMappings/0/hostID",
                        "deny /mounts/0/gidMappings/0/hostID",
                    ],
                ),
                ("the longest list", list(340), ["", "", ""]),
                (
                    "a longer one",
                    list(341),
                    [
                        "audit /linux/uidMappings",
                        "deny /linux/uidMappings",
                        "deny /linux/uidMappings",
                    ],
                ),
                (
                    "a mount without a namespace is another rule's",
                    mount(json!([])),
                    ["", "", ""],
                ),
            ],
        );
    }

    #[test]
    fn entries_that_are_not_what_they_say_are_refused_in_every_profile() {
        let everywhere = |text: &'static str| [text; 3];
        table(
            "NS-09",
            &host(),
            &[
                ("no linux", json!({}), ["", "", ""]),
                ("null", with(json!(null)), ["", "", ""]),
                (
                    "all eight",
                    with(Value::from(KINDS.map(|kind| json!({"type": kind})).to_vec())),
                    ["", "", ""],
                ),
                (
                    "unknown",
                    with(json!([{"type": "net"}])),
                    everywhere("deny /linux/namespaces/0/type"),
                ),
                (
                    "capitals",
                    with(json!([{"type": "PID"}])),
                    everywhere("deny /linux/namespaces/0/type"),
                ),
                (
                    "twice",
                    with(json!([{"type": "pid"}, {"type": "uts"}, {"type": "pid"}])),
                    everywhere("deny /linux/namespaces/2/type"),
                ),
                (
                    "relative",
                    with(json!([{"type": "pid", "path": "proc/1/ns/pid"}])),
                    everywhere("deny /linux/namespaces/0/path"),
                ),
                (
                    "an empty path is none",
                    with(json!([{"type": "pid", "path": ""}])),
                    ["", "", ""],
                ),
                (
                    "not looked at",
                    joining("pid"),
                    everywhere("deny /linux/namespaces/1/path undecided"),
                ),
            ],
        );
        let refused = everywhere("deny /linux/namespaces/1/path");
        let nothing = facts(Fact::Known(NamespaceFact::NotOne("a mount namespace".to_owned())));
        table("NS-09", &nothing, &[("another kind", joining("pid"), refused)]);
        assert_eq!(
            findings("NS-09", Profile::Baseline, &joining("pid"), &nothing)[0].found,
            "\"/ns\" is no pid namespace: a mount namespace"
        );
        table(
            "NS-09",
            &facts(existing(None)),
            &[("one", joining("pid"), ["", "", ""])],
        );
        let unknown = facts(Fact::Unknown("EACCES".to_owned()));
        table(
            "NS-09",
            &unknown,
            &[(
                "not known",
                joining("pid"),
                everywhere("deny /linux/namespaces/1/path undecided"),
            )],
        );
    }

    #[test]
    fn clock_offsets_need_a_new_time_namespace() {
        let config = |offsets: Value, namespaces: Value| {
            json!({
                "linux": {"timeOffsets": offsets, "namespaces": namespaces},
            })
        };
        let offsets = json!({"monotonic": {"secs": 1, "nanosecs": 0}});
        let refused = ["deny /linux/timeOffsets"; 3];
        table(
            "NS-11",
            &host(),
            &[
                ("absent", json!({"linux": {}}), ["", "", ""]),
                ("null", config(json!(null), json!(null)), ["", "", ""]),
                ("empty", config(json!({}), json!([])), ["", "", ""]),
                (
                    "no namespace",
                    config(offsets.clone(), json!([{"type": "pid"}])),
                    refused,
                ),
                (
                    "a joined one",
                    config(offsets.clone(), json!([{"type": "time", "path": "/ns"}])),
                    refused,
                ),
                (
                    "a new one",
                    config(offsets, json!([{"type": "time"}])),
                    ["", "", ""],
                ),
            ],
        );
    }

    #[test]
    fn cgroups_lie_beside_each_other_if_they_have_one_parent() {
        for (own, owner, expected) in [
            ("/docker/a", "/docker/b", true),
            ("/kubepods/burstable/pod1/a", "/kubepods/burstable/pod1/b", true),
            ("/kubepods/burstable/pod1/a", "/kubepods/burstable/pod2/b", false),
            ("/kubepods/burstable/pod1/a", "/kubepods/burstable/pod1", false),
            ("/pod1/a", "/nested/pod1/b", true),
            ("/pod1/a", "/xpod1/b", false),
            (
                "kubepods-pod1.slice:cri:a",
                "/kubepods.slice/kubepods-pod1.slice/cri-b.scope",
                true,
            ),
            (
                "kubepods-pod1.slice:cri:a",
                "/kubepods.slice/kubepods-pod2.slice/cri-b.scope",
                false,
            ),
            ("/a", "/b", false),
            ("", "/b", false),
            ("a", "/x/b", false),
            (":cri:a", "/b", false),
        ] {
            assert_eq!(are_beside(own, owner), expected, "{own} {owner}");
        }
    }

    #[test]
    fn a_namespace_of_another_pod_is_refused_under_restricted() {
        let config = |kind: &str| {
            json!({"linux": {"cgroupsPath": "/pods/one/a", "namespaces":
                [{"type": "mount"}, {"type": kind, "path": "/proc/7/ns/x"}]}})
        };
        let owned = |owner: Fact<Option<String>>| Facts {
            namespace_owners: vec![Fact::Known(None), owner],
            ..host()
        };
        let of = |cgroup: &str| owned(Fact::Known(Some(cgroup.to_owned())));
        let refused = [
            "",
            "pid audit /linux/namespaces/1/path",
            "pid deny /linux/namespaces/1/path",
        ];
        table(
            "NS-10",
            &of("/pods/two/b"),
            &[("another pod", config("pid"), refused)],
        );
        table(
            "NS-10",
            &of("/pods/one/b"),
            &[("the same pod", config("pid"), [""; 3])],
        );
        table(
            "NS-10",
            &of("/pods/two/b"),
            &[("its network", config("network"), [""; 3])],
        );
        table(
            "NS-10",
            &owned(Fact::Known(None)),
            &[("kept under a name", config("user"), [""; 3])],
        );
        let unknown = [
            "",
            "user audit /linux/namespaces/1/path undecided",
            "user deny /linux/namespaces/1/path undecided",
        ];
        table(
            "NS-10",
            &owned(Fact::Unknown("gone".to_owned())),
            &[("unknown", config("user"), unknown)],
        );
        table("NS-10", &host(), &[("not collected", config("user"), unknown)]);
        let new = json!({"linux": {"namespaces": [{"type": "pid"}, {"type": "mount", "path": ""}]}});
        table("NS-10", &host(), &[("new ones", new, [""; 3])]);
    }
}
