//! Privileges and identity: who the workload is, what it may become, and what it may take from others.

use crate::change::Change;
use crate::config::{DeviceRule, Process};
use crate::facts::{Fact, FactKind};
use crate::judge::Operation;
use crate::pointer::Pointer;
use crate::profile::{Level, Levels};
use crate::rule::{Case, Mappings, Remedies, Rule, Violations};

use super::capabilities::{CAP_01, Granted, KNOWN};
use super::namespaces::HostIds;

/// The rules of this topic.
pub static RULES: &[&Rule] = &[
    &PRV_01, &PRV_02, &PRV_03, &PRV_04, &PRV_05, &PRV_06, &PRV_07, &PRV_08, &PRV_09, &PRV_10,
];

static PRV_01: Rule = Rule {
    id: "PRV-01",
    title: "no new privileges",
    meaning: "process.noNewPrivileges is false, null or absent.",
    why: "Without it a setuid program in the image makes the workload root, and a hole that lets anyone \
          write to a file's cached pages turns any such program into a way to root. With it execve(2) gives \
          no privilege that the process had not before. sudo, su and the like then do not work.",
    stops: &[
        "setuid programs of the image",
        "the last step of CVE-2026-31431 and CVE-2026-43284: a setuid program rewritten in the page cache",
    ],
    fields: &["/process/noNewPrivileges"],
    levels: Levels::new(Level::Off, Level::Audit, Level::Harden),
    hardening: "it is set to true",
    remedies: Remedies {
        docker: "Add --security-opt no-new-privileges, or \"no-new-privileges\": true to \
                 /etc/docker/daemon.json.",
        podman: "Add --security-opt no-new-privileges.",
        ctr: "Remove --allow-new-privs.",
        kubernetes: "Set securityContext.allowPrivilegeEscalation: false on the container.",
        config: "Set \"noNewPrivileges\": true in process.",
    },
    mappings: Mappings {
        pss: "Privilege Escalation (restricted)",
        cis_docker: "5.26",
        nsa: "non-root containers",
        nist_800_190: "3.4.3",
    },
    facts: &[],
    check: no_new_privileges,
};

fn no_new_privileges(case: &Case<'_>, violations: &mut Violations) {
    let Some(process) = case.config.process.value() else {
        return;
    };
    if !process.no_new_privileges.is_true() {
        let found = match process.no_new_privileges.value() {
            Some(_) => "false",
            None => process.no_new_privileges.presence(),
        };
        violations
            .report("/process/noNewPrivileges", found, "true")
            .fix(Change::SetNoNewPrivileges);
    }
}

static PRV_02: Rule = Rule {
    id: "PRV-02",
    title: "not the host's root",
    meaning: "process.user.uid is 0, or left out, which means 0, and no user namespace maps it to another id \
              of the host.",
    why: "Nearly every escape that is known begins as root in the container. The uid in config.json is what \
          the engine made of the image and the manifest, so this sees through a user name that resolves to 0 \
          and through numbers that overflow.",
    stops: &[
        "escapes that need root in the container",
        "CVE-2024-40635 and CVE-2026-46680: runAsNonRoot evaded",
    ],
    fields: &["/process/user/uid", "/linux/uidMappings", "/linux/namespaces"],
    levels: Levels::new(Level::Off, Level::Audit, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Add --user 1000:1000, or USER 1000 to the Dockerfile; or set userns-remap in the daemon's \
                 configuration.",
        podman: "Add --user 1000:1000 or --userns auto, or let an ordinary user run podman.",
        ctr: "Add --user 1000:1000 (containerd 1.7), or --uidmap 0:100000:65536 --gidmap 0:100000:65536.",
        kubernetes: "Set securityContext.runAsUser: 1000 and runAsNonRoot: true; or hostUsers: false in the \
                     pod.",
        config: "Set process.user.uid to another number than 0; or add {\"type\": \"user\"} to \
                 linux.namespaces with mappings such as {\"containerID\": 0, \"hostID\": 100000, \"size\": \
                 65536}.",
    },
    mappings: Mappings {
        pss: "Running as Non-root (restricted)",
        cis_docker: "4.1",
        nsa: "non-root containers",
        nist_800_190: "3.4.3",
    },
    facts: &[FactKind::Namespaces, FactKind::Kernel],
    check: not_root,
};

fn not_root(case: &Case<'_>, violations: &mut Violations) {
    let Some(process) = case.config.process.value() else {
        return;
    };
    let given = process.user.value().is_some_and(|user| !user.uid.is_missing());
    let uid = process.user.value().map_or(0, crate::config::User::uid);
    match HostIds::by(case, |linux| &linux.uid_mappings).host_id(uid) {
        Ok(Some(0)) => {
            let found = match (uid, given) {
                (0, true) => "0, which is the host's root".to_owned(),
                (0, false) => "absent, which means 0, the host's root".to_owned(),
                _ => format!("{uid}, which is mapped to the host's root"),
            };
            violations.report(
                "/process/user/uid",
                found,
                "another user, or a user namespace in which this one is mapped to another id of the host",
            );
        }
        Ok(_) => {}
        Err((place, why)) if uid == 0 => {
            violations.undecided(place, why);
        }
        Err(_) => {}
    }
}

static PRV_03: Rule = Rule {
    id: "PRV-03",
    title: "no group that owns something of the host",
    meaning: "process.user.gid is 0 or left out, or it or process.user.additionalGids has the number of a \
              group that owns files of hosts: 0 (root), 6 (disk), 9 or 15 (kmem), 42 (shadow), and no user \
              namespace maps it to another. Groups whose numbers each host chooses, such as docker and kvm, \
              cannot be told by number.",
    why: "Files of the host that are mounted into the container are open to the workload by its groups too, \
          and those are easily overlooked: a pod that sets runAsUser alone still has group 0.",
    stops: &[
        "CVE-2022-36109 and CVE-2023-25173 (supplementary groups)",
        "CVE-2022-2989, CVE-2022-2990 and CVE-2022-2995 (the same in podman, buildah and CRI-O)",
    ],
    fields: &["/process/user/gid", "/process/user/additionalGids/*"],
    levels: Levels::new(Level::Off, Level::Off, Level::Audit),
    hardening: "",
    remedies: Remedies {
        docker: "Name the group too: --user 1000:1000; remove --group-add.",
        kubernetes: "Set securityContext.runAsGroup and fsGroup beside runAsUser; remove the number from \
                     supplementalGroups.",
        config: "Set process.user.gid to a group of the workload's own, and remove the number from \
                 process.user.additionalGids.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "",
        nsa: "non-root containers",
        nist_800_190: "3.4.3",
    },
    facts: &[FactKind::Namespaces, FactKind::Kernel],
    check: no_host_group,
};

/// Groups of hosts by their static numbers: Debian's, and Red Hat's where they differ.
const HOST_GROUPS: [(u32, &str); 5] = [
    (0, "root"),
    (6, "disk"),
    (9, "kmem"),
    (15, "kmem"),
    (42, "shadow"),
];

fn no_host_group(case: &Case<'_>, violations: &mut Violations) {
    let Some(process) = case.config.process.value() else {
        return;
    };
    let gid = process.user.value().map_or(0, crate::config::User::gid);
    let additional = process
        .user
        .value()
        .map_or(&[][..], |user| user.additional_gids.items());
    let place = |index: usize| match index {
        0 => Pointer::at("/process/user/gid"),
        _ => Pointer::at("/process/user/additionalGids").index(index - 1),
    };
    let ids = HostIds::by(case, |linux| &linux.gid_mappings);
    let mut seen = Vec::new();
    for (index, gid) in std::iter::once(gid).chain(additional.iter().copied()).enumerate() {
        match ids.host_id(gid) {
            Ok(host) => {
                let group = HOST_GROUPS.iter().find(|(number, _)| Some(*number) == host);
                let Some((number, name)) = group.filter(|(number, _)| !seen.contains(number)) else {
                    continue;
                };
                seen.push(*number);
                violations
                    .report(
                        place(index),
                        format!("{gid}, which is the group {name} on hosts"),
                        "a group of the workload's own",
                    )
                    .sub_key(number.to_string());
            }
            Err((namespace, why)) => {
                violations.undecided(namespace, why);
                return;
            }
        }
    }
}

static PRV_04: Rule = Rule {
    id: "PRV-04",
    title: "an identity that means what it says",
    meaning: "process.user.uid, gid or one of additionalGids is 4294967295; or process.user.username is set; \
              or process.user.umask lets the world write to new files.",
    why: "4294967295 is -1 to the kernel and means \"leave it as it is\", and as it is is root. username is \
          the runtime-spec's for Windows; who looks it up, and in which file, nobody has defined. With a \
          umask such as 0 whatever the workload creates can be changed by everyone who shares its volumes.",
    stops: &["CVE-2024-40635 and CVE-2026-46680: a user number that overflows to root"],
    fields: &[
        "/process/user/uid",
        "/process/user/gid",
        "/process/user/additionalGids/*",
        "/process/user/umask",
        "/process/user/username",
    ],
    levels: Levels::new(Level::Deny, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Use numbers below 4294967295 with --user.",
        podman: "Use numbers below 4294967295 with --user, and a --umask such as 0022.",
        kubernetes: "Use numbers below 4294967295 in runAsUser, runAsGroup and supplementalGroups, and check \
                     the USER of the image.",
        config: "Set process.user.uid and gid to the numbers that are meant, remove username, and set umask \
                 to 18 (octal 022) or remove it.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "Running as Non-root (restricted)",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.4.1",
    },
    facts: &[],
    check: plain_identity,
};

/// -1 as the kernel's uid_t: chown(2), setresuid(2) and their kin take it for "do not change".
const NO_ID: u32 = u32::MAX;

/// The bit of a umask that keeps the world from writing. The kernel takes the low nine bits alone (umask(2)),
/// so a umask of octal 1000 is one of 0.
const WORLD_WRITE: u32 = 0o002;

fn plain_identity(case: &Case<'_>, violations: &mut Violations) {
    let Some(user) = case
        .config
        .process
        .value()
        .and_then(|process| process.user.value())
    else {
        return;
    };
    let root = || Pointer::at("/process/user");
    let first = user.additional_gids.items().iter().position(|gid| *gid == NO_ID);
    let unchanged = [
        (user.uid() == NO_ID).then(|| root().key("uid")),
        (user.gid() == NO_ID).then(|| root().key("gid")),
        first.map(|index| root().key("additionalGids").index(index)),
    ];
    for place in unchanged.into_iter().flatten() {
        violations.report(
            place,
            format!("{NO_ID}, which is -1 to the kernel and means no change"),
            "the number that is meant, below 4294967295",
        );
    }
    if let Some(name) = user.username.value().filter(|name| !name.is_empty()) {
        violations.report(
            root().key("username"),
            format!("{name:?}, a property for Windows containers"),
            "no username; process.user.uid says who it is",
        );
    }
    if let Some(umask) = user.umask.value().filter(|umask| *umask & WORLD_WRITE == 0) {
        violations.report(
            root().key("umask"),
            format!("{umask} (octal {umask:o}), which lets the world write to new files"),
            "a umask with the bit 2, such as 18 (octal 022), or none",
        );
    }
}

static PRV_05: Rule = Rule {
    id: "PRV-05",
    title: "not a privileged container",
    meaning: "The bundle looks like that of a privileged container: at least 35 capabilities, no masked \
              paths, and all devices allowed or no seccomp filter.",
    why: "Such a container is a process of the host with another root directory. It writes to the host's \
          disk, loads kernel modules and changes kernel parameters; nothing has to be broken to leave it.",
    stops: &[
        "every escape that needs no hole",
        "CVE-2024-41110 and CVE-2026-34040: a privileged container in spite of an authorization plugin",
        "CVE-2024-23653: privileged build steps without entitlement",
    ],
    fields: &[
        "/process/capabilities",
        "/linux/resources/devices",
        "/linux/seccomp",
        "/linux/maskedPaths",
    ],
    levels: Levels::new(Level::Audit, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Remove --privileged, and give the workload what it needs: --device for a device, --cap-add \
                 for a capability that the site's policy allows.",
        ctr: "Remove --privileged, and give the workload what it needs with --device and --cap-add.",
        kubernetes: "Remove securityContext.privileged: true; use a device plugin for devices.",
        config: "Reduce process.capabilities, set linux.maskedPaths, linux.seccomp and a first entry \
                 {\"allow\": false, \"access\": \"rwm\"} in linux.resources.devices.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "Privileged Containers (baseline)",
        cis_docker: "5.5",
        nsa: "pod security enforcement",
        nist_800_190: "3.4.3",
    },
    facts: &[],
    check: not_privileged,
};

/// A container with so many capabilities was not given them one by one. Docker's privileged containers have
/// 38 or more, as many as its kernel knows.
const MANY: usize = 35;

fn not_privileged(case: &Case<'_>, violations: &mut Violations) {
    let (Some(process), Some(linux)) = (case.config.process.value(), case.config.linux.value()) else {
        return;
    };
    let capabilities = capability_count(case, process);
    let devices = linux
        .resources
        .value()
        .map_or(&[][..], |resources| resources.devices.items());
    let all_devices = allows_all(devices);
    let unfiltered = linux.seccomp.value().is_none_or(crate::config::Seccomp::is_empty);
    let unmasked = linux.masked_paths.items().is_empty();
    if capabilities >= MANY && (all_devices || unfiltered) && unmasked {
        let mut signs = vec![format!("{capabilities} capabilities")];
        signs.extend(all_devices.then(|| "all devices".to_owned()));
        signs.extend(unfiltered.then(|| "no seccomp filter".to_owned()));
        signs.push("no masked paths".to_owned());
        violations.report(
            "/process/capabilities",
            format!("a privileged container: {}", signs.join(", ")),
            "a container that is given the single things it needs",
        );
    }
}

/// How many capabilities the workload would have: absent ones are all of them, unless CAP-01 fills them in.
fn capability_count(case: &Case<'_>, process: &Process) -> usize {
    let filled = case.policy.level(&CAP_01, None, CAP_01.levels.of(case.profile)) >= Level::Harden;
    if process.capabilities.is_missing() && !filled {
        KNOWN.len()
    } else {
        Granted::of(process).count()
    }
}

/// True if the list, read in its order as the device cgroup does, ends with all devices allowed.
/// An entry that allows counts whatever its access; one that denies only if it takes away all access.
fn allows_all(devices: &[DeviceRule]) -> bool {
    let (mut block, mut char) = (false, false);
    for rule in devices {
        let any = |number: &crate::Given<i64>| number.value().is_none_or(|number| *number < 0);
        let access = rule.access.value().map_or("rwm", String::as_str);
        if !any(&rule.major)
            || !any(&rule.minor)
            || (!rule.allow && !"rwm".chars().all(|c| access.contains(c)))
        {
            continue;
        }
        // Docker's list begins with leave to make nodes of any kind, which opens none.
        if rule.allow && !access.contains(['r', 'w']) {
            continue;
        }
        match rule.kind.value().map_or("a", String::as_str) {
            "b" => block = rule.allow,
            "c" | "u" => char = rule.allow,
            _ => (block, char) = (rule.allow, rule.allow),
        }
    }
    block && char
}

static PRV_06: Rule = Rule {
    id: "PRV-06",
    title: "no shelter from the out-of-memory killer",
    meaning: "process.oomScoreAdj is below -998. The profile restricted records any value below 0 as well.",
    why: "When memory runs out the kernel ends the process with the highest score. A workload that can \
          hardly be chosen has the host's daemons chosen in its place. Kubernetes gives -998 to a pod's \
          pause container and -997 to guaranteed pods; nothing of a container needs less.",
    stops: &["the host's daemons ended in place of the workload that took the memory"],
    fields: &["/process/oomScoreAdj"],
    levels: Levels::new(Level::Off, Level::Deny, Level::Audit),
    hardening: "",
    remedies: Remedies {
        docker: "Remove --oom-score-adj, or set it to 0 or more.",
        kubernetes: "The kubelet chooses the value by the pod's quality of service; nothing to do.",
        config: "Set process.oomScoreAdj to 0 or more, or remove it.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "",
        nsa: "resource policies",
        nist_800_190: "3.4.3",
    },
    facts: &[],
    check: oom_score,
};

/// The lowest value that an engine gives: the pause container's.
const LOWEST_OOM_SCORE: i64 = -998;

fn oom_score(case: &Case<'_>, violations: &mut Violations) {
    let Some(score) = case
        .config
        .process
        .value()
        .and_then(|process| process.oom_score_adj.value())
    else {
        return;
    };
    if *score < LOWEST_OOM_SCORE {
        violations
            .report(
                "/process/oomScoreAdj",
                format!("{score}, which has the kernel end anything else first"),
                format!("{LOWEST_OOM_SCORE} or more"),
            )
            .levels(Levels::new(Level::Off, Level::Deny, Level::Deny));
    } else if *score < 0 {
        violations
            .report(
                "/process/oomScoreAdj",
                format!("{score}, better than what the host's programs have"),
                "0 or more",
            )
            .levels(Levels::new(Level::Off, Level::Off, Level::Audit));
    }
}

static PRV_07: Rule = Rule {
    id: "PRV-07",
    title: "no real-time scheduling",
    meaning: "process.scheduler.policy is another than SCHED_OTHER, SCHED_BATCH, SCHED_IDLE or SCHED_ISO; or \
              process.ioPriority.class is another than IOPRIO_CLASS_BE or IOPRIO_CLASS_IDLE; or \
              linux.resources.cpu.realtimeRuntime gives real-time run time.",
    why: "A real-time process runs before everything else on its processor for as long as it likes, the \
          host's daemons included, and no cpu limit of its cgroup stops it.",
    stops: &["starving the host of processor or disk time"],
    fields: &[
        "/process/scheduler/policy",
        "/process/ioPriority/class",
        "/linux/resources/cpu/realtimeRuntime",
    ],
    levels: Levels::new(Level::Off, Level::Audit, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Remove --cpu-rt-runtime and --ulimit rtprio; use --cpu-shares or --cpus for more processor \
                 time.",
        kubernetes: "Kubernetes has no field for it; ask for more cpu in resources.requests.",
        config: "Remove process.scheduler and process.ioPriority, or use SCHED_OTHER and IOPRIO_CLASS_BE; \
                 remove realtimeRuntime from linux.resources.cpu.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "5.12",
        nsa: "resource policies",
        nist_800_190: "3.4.3",
    },
    facts: &[],
    check: no_realtime,
};

fn no_realtime(case: &Case<'_>, violations: &mut Violations) {
    if let Some(process) = case.config.process.value() {
        let scheduler = process.scheduler.value().map(|value| &value["policy"]);
        let policies = ["SCHED_OTHER", "SCHED_BATCH", "SCHED_IDLE", "SCHED_ISO"];
        only_these(violations, "/process/scheduler/policy", scheduler, &policies);
        let priority = process.io_priority.value().map(|value| &value["class"]);
        only_these(
            violations,
            "/process/ioPriority/class",
            priority,
            &["IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"],
        );
    }
    let resources = case
        .config
        .linux
        .value()
        .and_then(|linux| linux.resources.value());
    let runtime = resources.and_then(|resources| resources.cpu.value()?.realtime_runtime.value().copied());
    if let Some(runtime) = runtime.filter(|runtime| *runtime != 0) {
        violations.report(
            "/linux/resources/cpu/realtimeRuntime",
            format!("{runtime} microseconds of real-time run time in each period"),
            "0, or nothing",
        );
    }
}

/// Reports a value that is there and is none of these words; what is not understood counts as the worst.
fn only_these(violations: &mut Violations, place: &str, value: Option<&serde_json::Value>, words: &[&str]) {
    let Some(value) = value else { return };
    if !value.as_str().is_some_and(|word| words.contains(&word)) {
        let found = match value {
            serde_json::Value::String(word) => format!("{word:?}"),
            serde_json::Value::Null => "missing".to_owned(),
            _ => "not a word".to_owned(),
        };
        violations.report(place, found, words.join(", "));
    }
}

static PRV_08: Rule = Rule {
    id: "PRV-08",
    title: "an ordinary personality, and no claim on the processor's caches",
    meaning: "linux.personality.domain is another than LINUX or flags are set; or linux.intelRdt sets a \
              class (closID) or a schema.",
    why: "A personality is inherited by everything that the workload starts, and some turn protections off, \
          such as the random layout of memory. A class of service takes cache and memory bandwidth from all \
          others on the host.",
    stops: &[
        "protections turned off by inheritance (ADDR_NO_RANDOMIZE)",
        "interference through the processor's caches",
    ],
    fields: &["/linux/personality", "/linux/intelRdt"],
    levels: Levels::new(Level::Off, Level::Audit, Level::Audit),
    hardening: "",
    remedies: Remedies {
        docker: "Docker sets neither; find out what changed the bundle.",
        podman: "podman sets neither by itself; remove --personality.",
        ctr: "Remove --rdt-class.",
        kubernetes: "Remove the class from the container engine's RDT configuration, or the annotation that \
                     chooses it.",
        config: "Remove linux.personality and linux.intelRdt.",
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.4.3",
    },
    facts: &[],
    check: ordinary_personality,
};

fn ordinary_personality(case: &Case<'_>, violations: &mut Violations) {
    let Some(linux) = case.config.linux.value() else {
        return;
    };
    if let Some(personality) = linux.personality.value() {
        let flags = personality
            .get("flags")
            .is_some_and(|flags| flags.as_array().is_none_or(|list| !list.is_empty()));
        if personality["domain"] != "LINUX" || (flags && !personality["flags"].is_null()) {
            violations.report(
                "/linux/personality",
                personality["domain"]
                    .as_str()
                    .map_or("not of the domain LINUX".to_owned(), |domain| {
                        format!("{domain:?}")
                    }),
                "the domain LINUX without flags, or no personality",
            );
        }
    }
    if let Some(rdt) = linux.intel_rdt.value() {
        let set = |key: &str| {
            !matches!(&rdt[key], serde_json::Value::Null)
                && rdt[key] != ""
                && rdt[key] != serde_json::json!([])
        };
        for key in ["closID", "schemata", "l3CacheSchema", "memBwSchema"]
            .into_iter()
            .filter(|key| set(key))
        {
            violations.report(
                Pointer::at("/linux/intelRdt").key(key),
                "set, which takes cache or memory bandwidth from others",
                "no linux.intelRdt",
            );
        }
    }
}

static PRV_09: Rule = Rule {
    id: "PRV-09",
    title: "a working directory inside the container",
    meaning: "process.cwd is relative, has a component \"..\", or leads through \
              /proc/.../{fd,cwd,root,exe,task,map_files} or /dev/fd. A symbolic link of the image that leads \
              there is found when the workload is about to start.",
    why: "While it builds a container, a runtime holds descriptors to directories of the host. \
          /proc/self/fd/7 as working directory enters such a directory by number, and the workload begins \
          outside its root.",
    stops: &["CVE-2024-21626 (Leaky Vessels)"],
    fields: &["/process/cwd"],
    levels: Levels::new(Level::Deny, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Check WORKDIR in the Dockerfile and -w: an absolute path such as /app. An image that has \
                 /proc there was made to break out.",
        ctr: "Check --cwd, and WORKDIR of the image: an absolute path such as /app. An image that has /proc \
              there was made to break out.",
        kubernetes: "Check workingDir of the container and WORKDIR of the image: an absolute path such as \
                     /app. An image that has /proc there was made to break out.",
        config: "Set process.cwd to an absolute path of the container, such as /.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.4.1",
    },
    facts: &[],
    check: inside,
};

/// Names below /proc that lead on to whatever a process has open, or to other processes' such names.
const MAGIC: [&str; 6] = ["fd", "cwd", "root", "exe", "task", "map_files"];

fn inside(case: &Case<'_>, violations: &mut Violations) {
    let Some(process) = case.config.process.value() else {
        return;
    };
    let cwd = process.cwd.as_str();
    let components: Vec<&str> = cwd
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    let what = if !cwd.starts_with('/') {
        "is relative"
    } else if components.contains(&"..") {
        "goes up"
    } else if components.starts_with(&["dev", "fd"])
        || (components.first() == Some(&"proc") && components.iter().any(|part| MAGIC.contains(part)))
    {
        "leads to what a process has open, which may lie outside the container"
    } else {
        return;
    };
    violations.report(
        "/process/cwd",
        format!("{cwd:?} {what}"),
        "an absolute path in the container, such as \"/\"",
    );
}

static PRV_10: Rule = Rule {
    id: "PRV-10",
    title: "a program of the image",
    meaning: "process.args[0], the link of the image that it leads to, or the interpreter that its first line names is \
              /proc/.../{exe,fd,root,cwd,map_files} or /dev/fd: a link of the kernel to what a process has open. A \
              name without a slash is looked for in all of PATH.",
    why: "At the moment of execve(2) /proc/self/exe is the runtime. An image whose program is a link to it runs the \
          runtime instead, with a library of the image in it, and that process can open the runtime's file on the host \
          for writing. gabion runs from a sealed copy, so nothing is gained by it; nobody does it by accident either.",
    stops: &["CVE-2019-5736 (overwriting the runtime)"],
    fields: &["/process/args/0"],
    levels: Levels::new(Level::Deny, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Check ENTRYPOINT and CMD of the image. One that has /proc there was made to break out.",
        kubernetes: "Check command of the container and ENTRYPOINT of the image. One that has /proc there was made to \
                     break out.",
        config: "Let process.args[0] be a program of the image, such as /bin/sh.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.4.1",
    },
    facts: &[FactKind::Entrypoint],
    check: of_the_image,
};

fn of_the_image(case: &Case<'_>, violations: &mut Violations) {
    let Some(name) = case
        .config
        .process
        .value()
        .and_then(|process| process.args.items().first())
    else {
        return;
    };
    const ACCEPTED: &str = "a program of the image, such as \"/bin/sh\"";
    let place = Pointer::at("/process/args").index(0);
    if is_magic(std::path::Path::new(name)) {
        violations.report(
            place,
            format!("{name:?} is a link of the kernel to what a process has open"),
            ACCEPTED,
        );
        return;
    }
    // Of a further process the program is looked at from inside, right before it is executed (V-19): what its
    // container has mounted since is not to be seen from here.
    if matches!(case.operation, Operation::Exec { .. }) {
        return;
    }
    let found = match &case.facts.entrypoint {
        Fact::Known(found) => found,
        Fact::Unknown(why) => {
            violations.undecided(
                place,
                format!("where {name:?} leads in the container is not known: {why}"),
            );
            return;
        }
    };
    for (what, paths) in [
        ("leads to", &found.paths),
        ("is a script for", &found.interpreters),
    ] {
        if let Some(path) = paths.iter().find(|path| is_magic(path)) {
            violations.report(
                place,
                format!("{name:?} {what} {path:?}, a link of the kernel to what a process has open"),
                ACCEPTED,
            );
            return;
        }
    }
}

/// True for `/proc/.../exe` and its kind, and for `/dev/fd`, which is a link to /proc/self/fd.
fn is_magic(path: &std::path::Path) -> bool {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.to_str().unwrap_or_default().split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            other => parts.push(other),
        }
    }
    path.has_root()
        && (parts.starts_with(&["dev", "fd"])
            || (parts.first() == Some(&"proc")
                && parts[1..]
                    .iter()
                    .any(|part| MAGIC.contains(part) && *part != "task")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{findings, hardened, host, table};
    use super::*;
    use crate::facts::{Facts, HostMatch, Identity, KernelFact, NamespaceFact};
    use crate::profile::Profile;

    /// A process with one property.
    fn process(key: &str, value: Value) -> Value {
        let mut config = json!({"process": {"cwd": "/"}});
        config["process"][key] = value;
        config
    }

    fn user(user: Value) -> Value {
        process("user", user)
    }

    #[test]
    fn no_new_privileges_is_set_by_restricted() {
        let at = "/process/noNewPrivileges";
        let violated = ["", &format!("audit {at}")[..], &format!("harden {at}")];
        table(
            "PRV-01",
            &host(),
            &[
                ("no process", json!({}), ["", "", ""]),
                ("absent", json!({"process": {"cwd": "/"}}), violated),
                ("null", process("noNewPrivileges", json!(null)), violated),
                ("false", process("noNewPrivileges", json!(false)), violated),
                ("true", process("noNewPrivileges", json!(true)), ["", "", ""]),
            ],
        );
        let after = hardened(
            "PRV-01",
            Profile::Restricted,
            &process("noNewPrivileges", json!(false)),
            &host(),
        );
        assert_eq!(after["process"]["noNewPrivileges"], json!(true));
    }

    fn in_users(namespace: Value, mappings: Value) -> Value {
        json!({"process": {"cwd": "/", "user": {"uid": 0, "gid": 0}},
               "linux": {"namespaces": [namespace], "uidMappings": mappings, "gidMappings": mappings}})
    }

    fn joined(fact: Fact<NamespaceFact>) -> Facts {
        Facts {
            namespaces: vec![fact],
            ..host()
        }
    }

    fn existing(host: Option<HostMatch>) -> Fact<NamespaceFact> {
        Fact::Known(NamespaceFact::Existing {
            identity: Identity { device: 4, inode: 9 },
            host,
        })
    }

    fn kernel(initial: bool) -> Fact<KernelFact> {
        Fact::Known(KernelFact {
            version: (6, 12),
            last_capability: 40,
            legacy_tiocsti: None,
            in_initial_user_namespace: initial,
        })
    }

    #[test]
    fn root_is_the_hosts_unless_a_user_namespace_makes_it_another() {
        let violated = ["", "audit /process/user/uid", "deny /process/user/uid"];
        let new = json!({"type": "user"});
        let low = json!([{"containerID": 0, "hostID": 0, "size": 10}]);
        let high = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        table(
            "PRV-02",
            &host(),
            &[
                ("no process", json!({}), ["", "", ""]),
                ("absent user", json!({"process": {"cwd": "/"}}), violated),
                ("null user", user(json!(null)), violated),
                ("empty user", user(json!({})), violated),
                ("root", user(json!({"uid": 0})), violated),
                ("the first other user", user(json!({"uid": 1})), ["", "", ""]),
                ("mapped to root", in_users(new.clone(), low.clone()), violated),
                ("mapped to another", in_users(new.clone(), high), ["", "", ""]),
                ("not mapped", in_users(new.clone(), json!([])), ["", "", ""]),
                (
                    "0 is not in the range",
                    in_users(new.clone(), json!([{"containerID": 1, "hostID": 0, "size": 1}])),
                    ["", "", ""],
                ),
                (
                    "another user that is mapped to root",
                    json!({"process": {"cwd": "/", "user": {"uid": 7}},
                       "linux": {"namespaces": [new],
                                 "uidMappings": [{"containerID": 7, "hostID": 0, "size": 1}]}}),
                    violated,
                ),
            ],
        );
        let joining = in_users(json!({"type": "user", "path": "/ns"}), json!(null));
        table(
            "PRV-02",
            &joined(existing(None)),
            &[("the pod's", joining.clone(), ["", "", ""])],
        );
        let hosts = joined(existing(Some(HostMatch::Initial)));
        table("PRV-02", &hosts, &[("the host's", joining.clone(), violated)]);
        let undecided = [
            "",
            "audit /linux/namespaces/0/path undecided",
            "deny /linux/namespaces/0/path undecided",
        ];
        table(
            "PRV-02",
            &joined(Fact::Unknown("EACCES".to_owned())),
            &[("not known", joining, undecided)],
        );
        let rootless = Facts {
            kernel: kernel(false),
            ..host()
        };
        table(
            "PRV-02",
            &rootless,
            &[
                ("a rootless runtime", user(json!({"uid": 0})), ["", "", ""]),
                (
                    "a rootless runtime's user",
                    in_users(json!({"type": "user"}), low),
                    ["", "", ""],
                ),
            ],
        );
        let unknown = Facts {
            kernel: Fact::Unknown("another host".to_owned()),
            ..host()
        };
        table(
            "PRV-02",
            &unknown,
            &[("not known", user(json!({"uid": 0})), violated)],
        );
    }

    #[test]
    fn groups_that_own_something_of_hosts_are_recorded_by_restricted() {
        table(
            "PRV-03",
            &host(),
            &[
                ("no process", json!({}), ["", "", ""]),
                (
                    "absent user",
                    json!({"process": {"cwd": "/"}}),
                    ["", "", "0 audit /process/user/gid"],
                ),
                (
                    "null groups",
                    user(json!({"gid": 1000, "additionalGids": null})),
                    ["", "", ""],
                ),
                (
                    "no groups",
                    user(json!({"gid": 1000, "additionalGids": []})),
                    ["", "", ""],
                ),
                (
                    "a pod with runAsUser alone",
                    user(json!({"uid": 1000, "gid": 0, "additionalGids": [0]})),
                    ["", "", "0 audit /process/user/gid"],
                ),
                (
                    "disk",
                    user(json!({"gid": 1000, "additionalGids": [1000, 6, 7]})),
                    ["", "", "6 audit /process/user/additionalGids/1"],
                ),
                (
                    "mapped elsewhere",
                    in_users(
                        json!({"type": "user"}),
                        json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]),
                    ),
                    ["", "", ""],
                ),
                (
                    "mapped to one",
                    in_users(
                        json!({"type": "user"}),
                        json!([{"containerID": 0, "hostID": 42, "size": 1}]),
                    ),
                    ["", "", "42 audit /process/user/gid"],
                ),
            ],
        );
    }

    #[test]
    fn an_identity_that_does_not_mean_what_it_says_is_refused_in_every_profile() {
        let refused = |key: &str| format!("deny /process/user/{key}");
        let rows = [
            ("uid -1", json!({"uid": u32::MAX, "gid": 1}), Some("uid")),
            ("gid -1", json!({"uid": 1, "gid": u32::MAX}), Some("gid")),
            (
                "a group -1",
                json!({"uid": 1, "gid": 1, "additionalGids": [5, u32::MAX]}),
                Some("additionalGids/1"),
            ),
            (
                "the last id",
                json!({"uid": u32::MAX - 1, "gid": u32::MAX - 1}),
                None,
            ),
            (
                "a user name",
                json!({"uid": 1, "username": "root"}),
                Some("username"),
            ),
            ("an empty user name", json!({"uid": 1, "username": ""}), None),
            ("a null user name", json!({"uid": 1, "username": null}), None),
            ("umask 0", json!({"umask": 0}), Some("umask")),
            ("umask 0 by its low bits", json!({"umask": 0o1000}), Some("umask")),
            ("umask 020", json!({"umask": 0o020}), Some("umask")),
            ("umask 002", json!({"umask": 0o002}), None),
            ("umask 022", json!({"umask": 18}), None),
            ("null umask", json!({"umask": null}), None),
            ("empty", json!({}), None),
            ("null", json!(null), None),
        ];
        for (name, value, key) in rows {
            let expected = key.map(refused).unwrap_or_default();
            table(
                "PRV-04",
                &host(),
                &[(name, user(value), [&expected, &expected, &expected])],
            );
        }
    }

    /// The bundle of a privileged container.
    fn privileged() -> Value {
        let all: Vec<String> = KNOWN.iter().map(|name| format!("CAP_{name}")).collect();
        json!({
            "process": {"cwd": "/", "capabilities": {"bounding": all}},
            "linux": {"resources": {"devices": [
                {"allow": false, "access": "rwm"},
                {"allow": true, "access": "rwm"},
            ]}},
        })
    }

    #[test]
    fn a_privileged_container_is_known_by_its_signs_together() {
        let at = "/process/capabilities";
        let violated = [
            &format!("audit {at}")[..],
            &format!("deny {at}"),
            &format!("deny {at}"),
        ];
        let but = |pointer: &str, value: Value| {
            let mut config = privileged();
            super::super::table::set(&mut config, pointer, value);
            config
        };
        let filter = json!({"defaultAction": "SCMP_ACT_ERRNO"});
        let names = |count: usize| -> Vec<String> {
            KNOWN[..count].iter().map(|name| format!("CAP_{name}")).collect()
        };
        let mut filtered = but("/linux/seccomp", filter.clone());
        table(
            "PRV-05",
            &host(),
            &[
                ("nothing", json!({}), ["", "", ""]),
                ("privileged", privileged(), violated),
                ("with a filter, all devices", filtered.clone(), violated),
                (
                    "without a filter, no devices",
                    but("/linux/resources/devices", json!(null)),
                    violated,
                ),
                (
                    "an empty filter is none",
                    but("/linux/seccomp", json!({})),
                    violated,
                ),
                (
                    "masked",
                    but("/linux/maskedPaths", json!(["/proc/kcore"])),
                    ["", "", ""],
                ),
                (
                    "an empty list masks nothing",
                    but("/linux/maskedPaths", json!([])),
                    violated,
                ),
                (
                    "35 capabilities",
                    but("/process/capabilities/bounding", json!(names(35))),
                    violated,
                ),
                (
                    "34 capabilities",
                    but("/process/capabilities/bounding", json!(names(34))),
                    ["", "", ""],
                ),
                (
                    "absent ones are filled in by CAP-01, where it does",
                    but("/process/capabilities", json!(null)),
                    [violated[0], "", ""],
                ),
            ],
        );
        super::super::table::set(
            &mut filtered,
            "/linux/resources/devices",
            json!([{"allow": false, "access": "rwm"}]),
        );
        table(
            "PRV-05",
            &host(),
            &[("a filter and no devices", filtered, ["", "", ""])],
        );
        let found = findings("PRV-05", Profile::Baseline, &privileged(), &host());
        assert_eq!(
            found[0].found,
            "a privileged container: 41 capabilities, all devices, no seccomp filter, no masked paths"
        );
    }

    #[test]
    fn a_device_list_is_read_in_its_order() {
        let all = |rules: Value| {
            let rules: Vec<DeviceRule> = serde_json::from_value(rules).unwrap();
            allows_all(&rules)
        };
        assert!(!all(json!([])));
        assert!(all(json!([{"allow": true}])));
        assert!(all(
            json!([{"allow": true, "type": "a", "major": -1, "minor": -1, "access": "rwm"}])
        ));
        assert!(!all(json!([{"allow": true}, {"allow": false, "access": "rwm"}])));
        assert!(all(json!([{"allow": true}, {"allow": false, "access": "w"}])));
        assert!(all(
            json!([{"allow": true, "type": "b"}, {"allow": true, "type": "c"}])
        ));
        assert!(!all(json!([{"allow": true, "type": "b"}])));
        assert!(!all(
            json!([{"allow": true, "type": "b", "access": "m"}, {"allow": true, "type": "c", "access": "m"}])
        ));
        assert!(!all(json!([{"allow": true, "major": 1}])));
    }

    #[test]
    fn a_score_below_the_pause_containers_is_refused_and_restricted_records_any_shelter() {
        let at = "/process/oomScoreAdj";
        let (audit, deny) = (format!("audit {at}"), format!("deny {at}"));
        table(
            "PRV-06",
            &host(),
            &[
                ("absent", json!({"process": {"cwd": "/"}}), ["", "", ""]),
                ("null", process("oomScoreAdj", json!(null)), ["", "", ""]),
                ("0", process("oomScoreAdj", json!(0)), ["", "", ""]),
                ("-1", process("oomScoreAdj", json!(-1)), ["", "", &audit]),
                (
                    "the pause container's",
                    process("oomScoreAdj", json!(-998)),
                    ["", "", &audit],
                ),
                (
                    "below it",
                    process("oomScoreAdj", json!(-999)),
                    ["", &deny, &deny],
                ),
            ],
        );
    }

    #[test]
    fn real_time_scheduling_is_recorded_and_refused_by_restricted() {
        let row = |place: &str| ["".to_owned(), format!("audit {place}"), format!("deny {place}")];
        let policy = row("/process/scheduler/policy");
        let policy = policy.each_ref().map(String::as_str);
        let class = row("/process/ioPriority/class");
        let class = class.each_ref().map(String::as_str);
        let runtime = row("/linux/resources/cpu/realtimeRuntime");
        let runtime = runtime.each_ref().map(String::as_str);
        let cpu = |value: Value| json!({"linux": {"resources": {"cpu": {"realtimeRuntime": value}}}});
        table(
            "PRV-07",
            &host(),
            &[
                (
                    "absent",
                    json!({"process": {"cwd": "/"}, "linux": {"resources": {"cpu": {}}}}),
                    ["", "", ""],
                ),
                ("null scheduler", process("scheduler", json!(null)), ["", "", ""]),
                ("an empty scheduler", process("scheduler", json!({})), policy),
                (
                    "ordinary",
                    process("scheduler", json!({"policy": "SCHED_BATCH", "nice": 5})),
                    ["", "", ""],
                ),
                (
                    "first in, first out",
                    process("scheduler", json!({"policy": "SCHED_FIFO", "priority": 1})),
                    policy,
                ),
                (
                    "deadline",
                    process("scheduler", json!({"policy": "SCHED_DEADLINE"})),
                    policy,
                ),
                ("not a word", process("scheduler", json!({"policy": 1})), policy),
                (
                    "best effort",
                    process("ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 0})),
                    ["", "", ""],
                ),
                (
                    "real time",
                    process("ioPriority", json!({"class": "IOPRIO_CLASS_RT", "priority": 0})),
                    class,
                ),
                ("run time", cpu(json!(950_000)), runtime),
                ("unlimited run time", cpu(json!(-1)), runtime),
                ("no run time", cpu(json!(0)), ["", "", ""]),
                ("null run time", cpu(json!(null)), ["", "", ""]),
            ],
        );
    }

    #[test]
    fn personalities_and_cache_classes_are_recorded() {
        let at = |place: &str| ["".to_owned(), format!("audit {place}"), format!("audit {place}")];
        let personality = at("/linux/personality");
        let personality = personality.each_ref().map(String::as_str);
        let class = at("/linux/intelRdt/closID");
        let class = class.each_ref().map(String::as_str);
        let linux = |key: &str, value: Value| json!({"linux": {key: value}});
        table(
            "PRV-08",
            &host(),
            &[
                ("absent", json!({"linux": {}}), ["", "", ""]),
                ("null", linux("personality", json!(null)), ["", "", ""]),
                ("empty", linux("personality", json!({})), personality),
                (
                    "ordinary",
                    linux("personality", json!({"domain": "LINUX"})),
                    ["", "", ""],
                ),
                (
                    "ordinary, no flags",
                    linux("personality", json!({"domain": "LINUX", "flags": []})),
                    ["", "", ""],
                ),
                (
                    "flags",
                    linux("personality", json!({"domain": "LINUX", "flags": ["X"]})),
                    personality,
                ),
                (
                    "32 bits",
                    linux("personality", json!({"domain": "LINUX32"})),
                    personality,
                ),
                ("null class", linux("intelRdt", json!(null)), ["", "", ""]),
                (
                    "empty class",
                    linux("intelRdt", json!({"closID": "", "schemata": []})),
                    ["", "", ""],
                ),
                ("a class", linux("intelRdt", json!({"closID": "gold"})), class),
                (
                    "monitoring alone",
                    linux("intelRdt", json!({"enableMonitoring": true})),
                    ["", "", ""],
                ),
            ],
        );
    }

    #[test]
    fn cve_2024_21626_the_working_directory_is_never_a_descriptor_of_the_runtime() {
        let refused = ["deny /process/cwd"; 3];
        for cwd in [
            "",
            ".",
            "app",
            "./app",
            "/app/..",
            "/../app",
            "/proc/self/fd/7",
            "//proc/./self//fd/7/",
            "/proc/1/cwd",
            "/proc/self/root/etc",
            "/proc/thread-self/fd/3",
            "/proc/self/task/1/fd/3",
            "/proc/self/exe",
            "/proc/self/map_files/x",
            "/dev/fd/8",
        ] {
            table(
                "PRV-09",
                &host(),
                &[(cwd, json!({"process": {"cwd": cwd}}), refused)],
            );
        }
        for cwd in [
            "/",
            "/app",
            "/app/",
            "/proc",
            "/proc/self",
            "/proc/sys",
            "/srv/fd/7",
            "/root",
            "/a..b",
            "/dev/fdx",
        ] {
            table(
                "PRV-09",
                &host(),
                &[(cwd, json!({"process": {"cwd": cwd}}), ["", "", ""])],
            );
        }
        table("PRV-09", &host(), &[("no process", json!({}), ["", "", ""])]);
    }

    #[test]
    fn a_program_that_is_the_runtime_is_refused_in_every_profile() {
        let known = |paths: &[&str], interpreters: &[&str]| Facts {
            entrypoint: Fact::Known(crate::facts::EntrypointFact {
                paths: paths.iter().map(Into::into).collect(),
                interpreters: interpreters.iter().map(Into::into).collect(),
            }),
            ..host()
        };
        let of_image = known(&["/bin/sh"], &["/bin/busybox"]);
        let refused = ["deny /process/args/0"; 3];
        let args = |name: &str| process("args", json!([name, "x"]));
        for (name, expected) in [
            ("/bin/sh", [""; 3]),
            ("/proc/self/exe", refused),
            ("//proc/./thread-self/exe", refused),
            ("/usr/../proc/1/exe", refused),
            ("/proc/self/task/7/exe", refused),
            ("/proc/self/fd/3", refused),
            ("/dev/fd/3", refused),
            ("/proc/1/root/bin/sh", refused),
            ("/proc", [""; 3]),
            ("/proc/self/task/7/comm", [""; 3]),
            ("/srv/proc/self/exe", [""; 3]),
            ("proc/self/exe", [""; 3]),
            ("/procs/self/exe", [""; 3]),
            ("", [""; 3]),
        ] {
            table("PRV-10", &of_image, &[(name, args(name), expected)]);
        }
        table(
            "PRV-10",
            &known(&["/bin/sh", "/proc/self/exe"], &[]),
            &[("a link", args("sh"), refused)],
        );
        table(
            "PRV-10",
            &known(&["/bin/x"], &["/proc/self/exe"]),
            &[("a script", args("x"), refused)],
        );
        for nothing in [json!(null), json!([])] {
            table(
                "PRV-10",
                &known(&["/proc/self/exe"], &[]),
                &[("no args", process("args", nothing), [""; 3])],
            );
        }
        table(
            "PRV-10",
            &host(),
            &[("unknown", args("sh"), ["deny /process/args/0 undecided"; 3])],
        );
    }
}
