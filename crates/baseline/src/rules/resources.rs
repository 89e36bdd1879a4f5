//! Resources: cgroup limits (cgroups(7)), the cgroup's place, and rlimits (getrlimit(2)).

use std::collections::BTreeSet;

use crate::change::Change;
use crate::config::Resources;
use crate::facts::{Fact, FactKind};
use crate::judge::Operation;
use crate::pointer::Pointer;
use crate::profile::{Level, Levels};
use crate::rule::{Case, Mappings, Remedies, Rule, Violations};

/// The rules of this topic.
pub static RULES: &[&Rule] = &[
    &RES_01, &RES_02, &RES_03, &RES_04, &RES_05, &RES_06, &RLM_01, &RLM_02,
];

/// The types of `process.rlimits` (config.md, "POSIX process"; getrlimit(2)).
const RLIMITS: [&str; 16] = [
    "RLIMIT_AS",
    "RLIMIT_CORE",
    "RLIMIT_CPU",
    "RLIMIT_DATA",
    "RLIMIT_FSIZE",
    "RLIMIT_LOCKS",
    "RLIMIT_MEMLOCK",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_NOFILE",
    "RLIMIT_NPROC",
    "RLIMIT_RSS",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
    "RLIMIT_SIGPENDING",
    "RLIMIT_STACK",
];

static RES_01: Rule = Rule {
    id: "RES-01",
    title: "the number of processes is limited",
    meaning: "linux.resources.pids.limit is absent, zero or negative (which all mean no limit), \
              linux.resources.unified has no pids.max, and no cgroup above the container's limits it either.",
    why: "A process table is shared by the whole host. One fork bomb without a limit stops logins and every \
          other container.",
    stops: &["fork bombs"],
    fields: &["/linux/resources/pids/limit", "/linux/resources/unified"],
    levels: Levels::new(Level::Off, Level::Audit, Level::Harden),
    hardening: "linux.resources.pids.limit is set to the policy's limit, 4096 if it says nothing",
    remedies: Remedies {
        docker: "Add --pids-limit 512, or pids_limit: 512 in a compose file.",
        podman: "Remove --pids-limit 0 or -1: podman's own limit is 2048.",
        kubernetes: "Set podPidsLimit in the kubelet's configuration; the pod's cgroup then has the limit.",
        config: "Add \"linux\": {\"resources\": {\"pids\": {\"limit\": 512}}}.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "5.29",
        nsa: "resource policies",
        nist_800_190: "3.4.3",
    },
    facts: &[FactKind::Cgroup],
    check: pids,
};

static RES_02: Rule = Rule {
    id: "RES-02",
    title: "memory is limited",
    meaning: "linux.resources.memory.limit is absent, zero or negative, and linux.resources.unified has no \
              memory.max. A limit of a cgroup above the container's is not looked for.",
    why: "What one container takes, all others lack; the kernel then kills processes of its own choice.",
    stops: &["memory exhaustion of the host"],
    fields: &["/linux/resources/memory/limit", "/linux/resources/unified"],
    levels: Levels::new(Level::Off, Level::Off, Level::Audit),
    hardening: "",
    remedies: Remedies {
        docker: "Add --memory 256m, or mem_limit: 256m in a compose file.",
        ctr: "Add --memory-limit 268435456, in bytes.",
        kubernetes: "Set resources.limits.memory of the container.",
        config: "Add \"linux\": {\"resources\": {\"memory\": {\"limit\": 268435456}}}, in bytes.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "5.11",
        nsa: "resource policies",
        nist_800_190: "3.4.3",
    },
    facts: &[],
    check: memory,
};

static RES_03: Rule = Rule {
    id: "RES-03",
    title: "CPU time is shared out",
    meaning: "linux.resources.cpu has neither quota nor shares above zero, and linux.resources.unified has \
              neither cpu.max nor cpu.weight.",
    why: "Without either, a busy container has the same claim on the CPUs as everything else beside it.",
    stops: &["CPU exhaustion of the host"],
    fields: &["/linux/resources/cpu", "/linux/resources/unified"],
    levels: Levels::new(Level::Off, Level::Off, Level::Audit),
    hardening: "",
    remedies: Remedies {
        docker: "Add --cpus 1.5 or --cpu-shares 512.",
        kubernetes: "Set resources.requests.cpu or resources.limits.cpu of the container.",
        config: "Add \"linux\": {\"resources\": {\"cpu\": {\"shares\": 512}}}.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "5.12",
        nsa: "resource policies",
        nist_800_190: "3.4.3",
    },
    facts: &[],
    check: cpu,
};

static RES_04: Rule = Rule {
    id: "RES-04",
    title: "unified resources are plain files of controllers",
    meaning: "A key of linux.resources.unified is not controller.file, is a file of the cgroup core \
              (cgroup.*), or its value has a control character; or its value loosens pids.limit, \
              memory.limit or cpu.quota of the same configuration. Or a pageSize of hugepageLimits is no \
              number with KB, MB or GB: it becomes a part of a file's name as well.",
    why: "The runtime writes these files as root. A key with a slash leaves the container's cgroup, \
          cgroup.procs moves processes, and the last writer of one limit wins: one that says less than the \
          other hides behind it.",
    stops: &[
        "writing outside the container's cgroup",
        "a limit undone by a second one",
    ],
    fields: &[
        "/linux/resources/unified/*",
        "/linux/resources/hugepageLimits/*/pageSize",
    ],
    levels: Levels::new(Level::Off, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Docker sends none of its own accord; look at what edits the bundle (an NRI plugin, a wrapper).",
        kubernetes: "The kubelet sends keys such as memory.min and memory.high; look at what edits the bundle.",
        config: "Name files of one controller, as in \"unified\": {\"memory.high\": \"209715200\"}, and state each \
                 limit once.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "5.25",
        nsa: "",
        nist_800_190: "3.4.1",
    },
    facts: &[],
    check: unified,
};

static RES_05: Rule = Rule {
    id: "RES-05",
    title: "the container gets a cgroup of its own",
    meaning: "linux.cgroupsPath is the root cgroup, climbs with `..`, is no path and no slice:prefix:name, or \
              names a cgroup that already has processes in it.",
    why: "In a cgroup of others a container is not counted as itself, and killing, freezing or limiting it \
          hits them; in the root cgroup nothing is limited at all.",
    stops: &[
        "escaping resource accounting",
        "freezing or killing others' processes",
        "CVE-2025-47291",
    ],
    fields: &["/linux/cgroupsPath"],
    levels: Levels::new(Level::Deny, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Correct --cgroup-parent: an absolute path such as /docker, or a slice such as system.slice.",
        ctr: "Correct --cgroup: an absolute path of its own, such as /gabion/web-1, or none.",
        kubernetes: "The kubelet chooses the cgroup; look at what edits the bundle. If the cgroup is occupied, \
                     delete the old container first.",
        config: "Set linux.cgroupsPath to a path of its own, such as \"/gabion/web-1\", for systemd to \
                 \"system.slice:gabion:web-1\", or leave it out.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "5.25",
        nsa: "",
        nist_800_190: "3.4.3",
    },
    facts: &[FactKind::Cgroup],
    check: cgroups_path,
};

static RES_06: Rule = Rule {
    id: "RES-06",
    title: "the OOM killer stays on",
    meaning: "linux.resources.memory.disableOOMKiller is true.",
    why: "At its limit, a container without the OOM killer hangs in the kernel, with all locks it holds, \
          instead of being ended.",
    stops: &["hanging the host through a full cgroup (version 1)"],
    fields: &["/linux/resources/memory/disableOOMKiller"],
    levels: Levels::new(Level::Off, Level::Audit, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Drop --oom-kill-disable.",
        kubernetes: "Kubernetes never asks for it; look at what edits the bundle.",
        config: "Remove linux.resources.memory.disableOOMKiller.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "5.11",
        nsa: "resource policies",
        nist_800_190: "3.4.3",
    },
    facts: &[],
    check: oom_killer,
};

static RLM_01: Rule = Rule {
    id: "RLM-01",
    title: "no core dumps",
    meaning: "process.rlimits does not set RLIMIT_CORE to 0, soft and hard.",
    why: "Where the host's core_pattern is a pipe, the kernel hands the memory of a crashing container process \
          to a program outside the container that runs as root.",
    stops: &[
        "CVE-2025-4598 (systemd-coredump)",
        "attacks on core dump handlers of the host",
    ],
    fields: &["/process/rlimits"],
    levels: Levels::new(Level::Off, Level::Off, Level::Harden),
    hardening: "RLIMIT_CORE is set to 0",
    remedies: Remedies {
        docker: "Add --ulimit core=0, or \"default-ulimits\" in /etc/docker/daemon.json.",
        podman: "Add --ulimit core=0:0, or default_ulimits = [\"core=0:0\"] to \
                 /etc/containers/containers.conf.",
        kubernetes: "A pod cannot say it; gabion sets it.",
        config: "Add {\"type\": \"RLIMIT_CORE\", \"soft\": 0, \"hard\": 0} to process.rlimits.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "5.19",
        nsa: "",
        nist_800_190: "3.5.5",
    },
    facts: &[],
    check: core_dumps,
};

static RLM_02: Rule = Rule {
    id: "RLM-02",
    title: "rlimits are known, single and sane",
    meaning: "An entry of process.rlimits has an unknown type, is there twice, has a soft limit above its hard \
              one, or lifts RLIMIT_MEMLOCK altogether.",
    why: "The runtime-spec makes the first three errors, and runtimes differ on whether they notice; locked \
          memory without a limit cannot be reclaimed.",
    stops: &["pinning the host's memory"],
    fields: &["/process/rlimits/*"],
    levels: Levels::new(Level::Off, Level::Audit, Level::Audit),
    hardening: "",
    remedies: Remedies {
        docker: "Correct --ulimit TYPE=SOFT:HARD.",
        kubernetes: "A pod cannot say it; look at the container engine's own limits.",
        config: "Write each type of getrlimit(2) once, with soft no higher than hard.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "5.19",
        nsa: "resource policies",
        nist_800_190: "3.4.3",
    },
    facts: &[],
    check: rlimits,
};

fn resources<'a>(case: &Case<'a>) -> Option<&'a Resources> {
    case.config
        .linux
        .value()
        .and_then(|linux| linux.resources.value())
}

/// A value of `linux.resources.unified`.
fn unified_value<'a>(resources: Option<&'a Resources>, key: &str) -> Option<&'a str> {
    resources
        .and_then(|resources| resources.unified.value()?.get(key))
        .map(String::as_str)
}

fn pids(case: &Case<'_>, violations: &mut Violations) {
    let resources = resources(case);
    let unified = unified_value(resources, "pids.max");
    let place = "/linux/resources/pids/limit";
    let accepted = format!("a positive number, such as {}", case.policy.pids_limit);
    if case
        .facts
        .cgroup
        .known()
        .is_some_and(|cgroup| cgroup.ancestor_pids_limit.is_some())
    {
        return;
    }
    if let Some(value) = unified {
        // Written after pids.limit, so it decides; and what it undoes cannot be mended by adding.
        if value.trim() == "max" {
            violations.report(
                Pointer::at("/linux/resources/unified").key("pids.max"),
                "\"max\", which is no limit on processes",
                accepted,
            );
        }
        return;
    }
    let pids = resources.and_then(|resources| resources.pids.value());
    let found = match pids.map(|pids| &pids.limit) {
        None => "no limit on processes: absent".to_owned(),
        Some(limit) => match limit.value() {
            Some(limit) if *limit > 0 => return,
            Some(limit) => format!("{limit}, which is no limit on processes"),
            None => format!("no limit on processes: {}", limit.presence()),
        },
    };
    violations
        .report(place, found, accepted)
        .fix(Change::SetPidsLimit {
            limit: case.policy.pids_limit,
        });
}

fn memory(case: &Case<'_>, violations: &mut Violations) {
    let resources = resources(case);
    let limit = resources.and_then(|resources| resources.memory.value()?.limit.value());
    let unified = unified_value(resources, "memory.max").filter(|value| value.trim() != "max");
    if unified.is_none() && limit.is_none_or(|&limit| limit <= 0) {
        violations.report(
            "/linux/resources/memory/limit",
            limit.map_or("absent, which is no limit".to_owned(), |limit| {
                format!("{limit}, which is no limit")
            }),
            "a number of bytes",
        );
    }
}

fn cpu(case: &Case<'_>, violations: &mut Violations) {
    let resources = resources(case);
    let cpu = resources.and_then(|resources| resources.cpu.value());
    let quota = cpu
        .and_then(|cpu| cpu.quota.value())
        .is_some_and(|&quota| quota > 0);
    let shares = cpu
        .and_then(|cpu| cpu.shares.value())
        .is_some_and(|&shares| shares > 0);
    let unified = unified_value(resources, "cpu.max").is_some_and(|value| !value.trim().starts_with("max"))
        || unified_value(resources, "cpu.weight").is_some();
    if !quota && !shares && !unified {
        violations.report(
            "/linux/resources/cpu",
            "neither quota nor shares",
            "shares or a quota above zero",
        );
    }
}

fn unified(case: &Case<'_>, violations: &mut Violations) {
    let Some(resources) = resources(case) else { return };
    for (index, limit) in resources.hugepage_limits.items().iter().enumerate() {
        let size = &limit.page_size;
        if !is_page_size(size) {
            violations.report(
                Pointer::at("/linux/resources/hugepageLimits")
                    .index(index)
                    .key("pageSize"),
                format!("{size:?} is no size of a page"),
                "a number with KB, MB or GB, such as \"2MB\"",
            );
        }
    }
    for (key, value) in resources.unified.value().into_iter().flatten() {
        let place = Pointer::at("/linux/resources/unified").key(key);
        if let Some(what) = crooked(key) {
            violations.report(
                place,
                format!("the key {key:?} {what}"),
                "a file of one controller, such as \"memory.high\"",
            );
        } else if value.chars().any(char::is_control) {
            violations
                .report(
                    place,
                    format!("the value {value:?} has a control character"),
                    "one plain setting",
                )
                .sub_key(key.as_str());
        } else if let Some(loosened) = loosens(resources, key, value) {
            violations
                .report(
                    place,
                    format!("{key:?} is {value:?}, which loosens {loosened}"),
                    "a value at least as strict, or one of the two alone",
                )
                .sub_key(key.as_str());
        }
    }
}

/// `<size><unit-prefix>B` (config-linux.md, "Huge page limits").
fn is_page_size(text: &str) -> bool {
    ["KB", "MB", "GB"]
        .iter()
        .filter_map(|unit| text.strip_suffix(unit))
        .any(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// What is wrong with a key of `linux.resources.unified`, as the end of a sentence.
fn crooked(key: &str) -> Option<&'static str> {
    let plain = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    };
    let mut parts = key.split('.');
    let controller = parts.next().unwrap_or_default();
    if key.contains('/') {
        Some("leaves the container's cgroup")
    } else if controller == "cgroup" {
        // cgroup.procs, cgroup.subtree_control, cgroup.kill: they are the runtime's.
        Some("is a file of the cgroup core")
    } else if plain(controller) && key.contains('.') && parts.all(plain) {
        None
    } else {
        Some("is no file of a controller")
    }
}

/// The kernel's period of CPU quotas where none is written, in microseconds (cgroup-v2.rst, "CPU").
const PERIOD: u64 = 100_000;

/// The earlier field that a unified value loosens, in words, if it does. What cannot be compared does.
fn loosens(resources: &Resources, key: &str, value: &str) -> Option<String> {
    let above =
        |limit: i64| size(value).is_none_or(|size| limit.try_into().is_ok_and(|limit: u64| size > limit));
    match key {
        "pids.max" => {
            let limit = *resources.pids.value()?.limit.value()?;
            (limit > 0 && above(limit)).then(|| format!("pids.limit, {limit}"))
        }
        "memory.max" => {
            let limit = *resources.memory.value()?.limit.value()?;
            (limit > 0 && above(limit)).then(|| format!("memory.limit, {limit}"))
        }
        "cpu.max" => {
            let quota = *resources.cpu.value()?.quota.value()?;
            let share = |value: &str| value.parse::<u64>().ok().filter(|&value| value > 0);
            let mut words = value.split_whitespace();
            let new = words.next().and_then(share);
            let period = words.next().map_or(Some(PERIOD), share);
            let old_period = resources
                .cpu
                .value()?
                .period
                .value()
                .copied()
                .filter(|&p| p > 0)
                .unwrap_or(PERIOD);
            let looser = match (new, period) {
                (Some(new), Some(period)) => {
                    let quota = u128::from(quota.max(0).unsigned_abs());
                    u128::from(new) * u128::from(old_period) > quota * u128::from(period)
                }
                _ => true,
            };
            (quota > 0 && looser).then(|| format!("cpu.quota, {quota}"))
        }
        _ => None,
    }
}

/// A size as cgroup files read it: bytes, or a number with K, M, G, T, P or E. `None` for `max` and all that
/// is no number.
fn size(value: &str) -> Option<u64> {
    let value = value.trim();
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match value[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        "e" => 60,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

fn cgroups_path(case: &Case<'_>, violations: &mut Violations) {
    const PLACE: &str = "/linux/cgroupsPath";
    let Some(path) = case
        .config
        .linux
        .value()
        .and_then(|linux| linux.cgroups_path.value())
    else {
        return;
    };
    if let Some(what) = misplaced(path) {
        violations.report(
            PLACE,
            format!("{path:?} {what}"),
            "a path such as \"/gabion/web-1\", or \"slice:prefix:name\" for systemd",
        );
        return;
    }
    match &case.facts.cgroup {
        Fact::Known(cgroup) => {
            if let Some(occupied) = &cgroup.occupied {
                violations.report(
                    PLACE,
                    format!(
                        "{path:?}: container's cgroup is not empty: {occupied:?} already has processes in it"
                    ),
                    "a cgroup that does not exist yet, or is empty",
                );
            }
        }
        // What lives in the cgroups of another host is no question that its file could answer.
        Fact::Unknown(_) if matches!(case.operation, Operation::Check { offline: true }) => {}
        Fact::Unknown(why) => {
            violations.undecided(PLACE, format!("whether {path:?} is in use is not known: {why}"));
        }
    }
}

/// What is wrong with a cgroup path, as the end of a sentence.
fn misplaced(path: &str) -> Option<&'static str> {
    // The kernel refuses a newline in the name of a cgroup; no engine writes the others.
    if path.chars().any(char::is_control) {
        return Some("has a control character");
    }
    if path.split(['/', ':']).any(|component| component == "..") {
        return Some("climbs with \"..\"");
    }
    let parts: Vec<&str> = path.split(':').collect();
    if let ([_, _, name], false) = (&parts[..], path.starts_with('/')) {
        // slice:prefix:name; an empty slice is systemd's default one, an empty prefix is none.
        return if path.contains('/') {
            Some("has a \"/\" in slice:prefix:name")
        } else if name.is_empty() {
            Some("has no name in slice:prefix:name")
        } else {
            None
        };
    }
    path.split('/')
        .all(|component| component.is_empty() || component == ".")
        .then_some("is the root cgroup, which is the host's")
}

fn oom_killer(case: &Case<'_>, violations: &mut Violations) {
    let memory = resources(case).and_then(|resources| resources.memory.value());
    if memory.is_some_and(|memory| memory.disable_oom_killer.is_true()) {
        violations.report(
            "/linux/resources/memory/disableOOMKiller",
            "true",
            "false, or nothing",
        );
    }
}

fn core_dumps(case: &Case<'_>, violations: &mut Violations) {
    let Some(process) = case.config.process.value() else {
        return;
    };
    let mut cores = process
        .rlimits
        .items()
        .iter()
        .filter(|limit| limit.kind == "RLIMIT_CORE")
        .peekable();
    let found = match cores.peek() {
        None => "RLIMIT_CORE is not set, so it is the engine's".to_owned(),
        Some(_) => match cores.find(|limit| limit.soft > 0 || limit.hard > 0) {
            Some(limit) => format!("RLIMIT_CORE is {} (soft), {} (hard)", limit.soft, limit.hard),
            None => return,
        },
    };
    violations
        .report("/process/rlimits", found, "RLIMIT_CORE 0")
        .fix(Change::SetRlimit {
            kind: "RLIMIT_CORE".to_owned(),
            limit: 0,
        });
}

fn rlimits(case: &Case<'_>, violations: &mut Violations) {
    let Some(process) = case.config.process.value() else {
        return;
    };
    let mut seen = BTreeSet::new();
    for (index, limit) in process.rlimits.items().iter().enumerate() {
        let kind = limit.kind.as_str();
        let (member, found, accepted) = if !RLIMITS.contains(&kind) {
            (
                "type",
                format!("{kind:?} is no resource limit"),
                "a name of getrlimit(2), such as \"RLIMIT_NOFILE\"",
            )
        } else if !seen.insert(kind) {
            ("type", format!("{kind:?} is there twice"), "each type once")
        } else if limit.soft > limit.hard {
            (
                "soft",
                format!("{kind}: {} is above the hard limit {}", limit.soft, limit.hard),
                "soft <= hard",
            )
        } else if kind == "RLIMIT_MEMLOCK" && limit.hard == u64::MAX {
            (
                "hard",
                "locked memory without a limit".to_owned(),
                "a number of bytes",
            )
        } else {
            continue;
        };
        violations.report(
            Pointer::at("/process/rlimits").index(index).key(member),
            found,
            accepted,
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::table::{Table, known, with};
    use super::*;
    use crate::facts::{CgroupFact, CgroupMode};
    use crate::profile::Profile;

    fn cgroup(occupied: Option<&str>, ancestor_pids_limit: Option<u64>) -> Fact<CgroupFact> {
        known(CgroupFact {
            mode: CgroupMode::Unified,
            occupied: occupied.map(Into::into),
            ancestor_pids_limit,
        })
    }

    fn restricted() -> Table {
        Table::of(Profile::Restricted)
    }

    #[test]
    fn the_size_of_a_page_is_no_path() {
        let verdicts = |size: &str| {
            let limits = json!([{"pageSize": "2MB", "limit": 1}, {"pageSize": size, "limit": 1}]);
            restricted().verdicts("RES-04", &with("/linux/resources/hugepageLimits", limits))
        };
        let deny = ["deny RES-04 /linux/resources/hugepageLimits/1/pageSize"];
        for size in ["2MB/../../x", "../x", "MB", "", "2mb", "2", "2 MB", "2MB\n"] {
            assert_eq!(verdicts(size), deny, "{size:?}");
        }
        for size in ["2MB", "1GB", "64KB"] {
            assert_eq!(verdicts(size), [""; 0], "{size:?}");
        }
    }

    #[test]
    fn a_limit_on_processes_is_audited_or_filled_and_never_undecided() {
        let harden = ["harden RES-01 /linux/resources/pids/limit"];
        for missing in [
            with("/linux/resources", Value::Null),
            with("/linux/resources", json!({})),
            with("/linux/resources/pids", Value::Null),
            with("/linux/resources/pids", json!({})),
            with("/linux/resources/pids/limit", Value::Null),
            with("/linux/resources/pids/limit", json!(0)),
            with("/linux/resources/pids/limit", json!(-1)),
            with("/hostname", json!("a")),
        ] {
            assert!(
                Table::of(Profile::Privileged)
                    .findings("RES-01", &missing)
                    .is_empty()
            );
            let audited = Table::of(Profile::Baseline).findings("RES-01", &missing);
            assert!(audited.len() == 1 && audited[0].action == crate::Action::Audit && !audited[0].undecided);
            assert_eq!(restricted().verdicts("RES-01", &missing), harden);
            assert_eq!(restricted().offline().verdicts("RES-01", &missing), harden);
            let filled = restricted().hardened("RES-01", &missing);
            assert_eq!(filled["linux"]["resources"]["pids"]["limit"], 4096);
            let above = restricted().knowing(|facts| facts.cgroup = cgroup(None, Some(100)));
            assert!(above.findings("RES-01", &missing).is_empty());
            let none_above = restricted().knowing(|facts| facts.cgroup = cgroup(None, None));
            assert_eq!(none_above.verdicts("RES-01", &missing), harden);
        }
        for limited in [
            with("/linux/resources/pids/limit", json!(1)),
            with("/linux/resources/unified", json!({"pids.max": "100"})),
        ] {
            assert!(restricted().findings("RES-01", &limited).is_empty());
        }
    }

    #[test]
    fn the_limit_that_is_filled_is_the_policys() {
        let mut table = restricted();
        table.policy.pids_limit = 77;
        let filled = table.hardened("RES-01", &with("/linux/resources", json!({})));
        assert_eq!(filled["linux"]["resources"]["pids"]["limit"], 77);
    }

    #[test]
    fn a_unified_max_cannot_be_mended_by_adding() {
        let document = with("/linux/resources/unified", json!({"pids.max": "max"}));
        assert_eq!(
            restricted().verdicts("RES-01", &document),
            ["deny RES-01 /linux/resources/unified/pids.max"]
        );
    }

    #[test]
    fn memory_and_cpu_without_limits_are_recorded_in_restricted() {
        for (rule, property, limited) in [
            ("RES-02", "memory", json!({"memory": {"limit": 1}})),
            ("RES-02", "memory", json!({"unified": {"memory.max": "1G"}})),
            ("RES-03", "cpu", json!({"cpu": {"shares": 2}})),
            ("RES-03", "cpu", json!({"cpu": {"quota": 1000}})),
            ("RES-03", "cpu", json!({"unified": {"cpu.weight": "100"}})),
        ] {
            assert!(
                restricted()
                    .findings(rule, &with("/linux/resources", limited))
                    .is_empty()
            );
            for unlimited in [
                Value::Null,
                json!({}),
                json!({property: null}),
                json!({property: {}}),
                json!({"memory": {"limit": -1}, "cpu": {"shares": 0, "quota": -1}}),
                json!({"unified": {"memory.max": "max", "cpu.max": "max 100000"}}),
            ] {
                let document = with("/linux/resources", unlimited);
                let verdicts = restricted().verdicts(rule, &document);
                assert!(
                    verdicts.len() == 1 && verdicts[0].starts_with("audit"),
                    "{verdicts:?}"
                );
                assert!(Table::of(Profile::Baseline).findings(rule, &document).is_empty());
            }
        }
    }

    #[test]
    fn unified_keys_are_files_of_one_controller() {
        let found = |key: &str, value: &str| {
            let document = with("/linux/resources/unified", json!({key: value}));
            let findings = Table::of(Profile::Baseline).findings("RES-04", &document);
            findings
                .into_iter()
                .map(|finding| (finding.action, finding.found))
                .collect::<Vec<_>>()
        };
        for (key, what) in [
            ("cgroup.procs", "is a file of the cgroup core"),
            ("cgroup.subtree_control", "is a file of the cgroup core"),
            ("../memory.max", "leaves the container's cgroup"),
            ("child/memory.max", "leaves the container's cgroup"),
            ("..", "is no file of a controller"),
            ("", "is no file of a controller"),
            ("memory", "is no file of a controller"),
            ("memory.", "is no file of a controller"),
            (".max", "is no file of a controller"),
            ("memory..max", "is no file of a controller"),
            ("memory.max\0", "is no file of a controller"),
            ("memory.max\n", "is no file of a controller"),
        ] {
            assert_eq!(
                found(key, "1"),
                [(crate::Action::Deny, format!("the key {key:?} {what}"))]
            );
        }
        for key in [
            "memory.high",
            "hugetlb.2MB.rsvd.max",
            "cpuset.cpus",
            "io.max",
            "cgroups.max",
            "pids.max",
        ] {
            assert!(found(key, "1").is_empty(), "{key}");
        }
        assert_eq!(found("io.max", "8:0 rbps=1\n8:16 rbps=1").len(), 1);
        assert!(
            Table::of(Profile::Privileged)
                .findings(
                    "RES-04",
                    &with("/linux/resources/unified", json!({"cgroup.procs": "1"}))
                )
                .is_empty()
        );
        for nothing in [Value::Null, json!({})] {
            let document = with("/linux/resources/unified", nothing);
            assert!(restricted().findings("RES-04", &document).is_empty());
        }
    }

    #[test]
    fn a_unified_value_may_tighten_an_earlier_field_and_not_loosen_it() {
        let cpu = json!({"quota": 50_000, "period": 100_000});
        for (key, value, loosens) in [
            ("pids.max", "max", true),
            ("pids.max", "101", true),
            ("pids.max", "100", false),
            ("pids.max", "x", true),
            ("memory.max", "max", true),
            ("memory.max", "1M", false),
            ("memory.max", "2m", true),
            ("memory.max", "1048577", true),
            ("memory.max", "1 M", true),
            ("memory.max", "99999999999999999999", true),
            ("memory.max", "16E", true),
            ("cpu.max", "max 100000", true),
            ("cpu.max", "50000", false),
            ("cpu.max", "25000 50000", false),
            ("cpu.max", "25001 50000", true),
            ("memory.high", "max", false),
        ] {
            let document = with(
                "/linux/resources",
                json!({"pids": {"limit": 100}, "memory": {"limit": 1_048_576}, "cpu": cpu,
                       "unified": {key: value}}),
            );
            let verdicts = restricted().verdicts("RES-04", &document);
            let expected = vec![format!("deny RES-04:{key} /linux/resources/unified/{key}")];
            assert_eq!(verdicts, if loosens { expected } else { vec![] }, "{key} {value}");
        }
        // Where the earlier field is no limit, there is nothing to loosen.
        let free =
            json!({"pids": {"limit": -1}, "memory": {}, "unified": {"pids.max": "9", "memory.max": "max"}});
        assert!(
            restricted()
                .findings("RES-04", &with("/linux/resources", free))
                .is_empty()
        );
    }

    #[test]
    fn the_cgroup_is_one_of_its_own() {
        let table = Table::of(Profile::Privileged).knowing(|facts| facts.cgroup = cgroup(None, None));
        for path in [
            "/docker/ab902bdfce85",
            "gabion/web-1",
            "/kubepods.slice/x.slice/cri-containerd-1.scope",
            "system.slice:docker:99",
            ":libpod:99",
            "user.slice::99",
            "/a:b:c",
            "/..a/b..",
        ] {
            assert!(
                table
                    .findings("RES-05", &with("/linux/cgroupsPath", json!(path)))
                    .is_empty(),
                "{path}"
            );
        }
        for (path, what) in [
            ("/", "is the root cgroup, which is the host's"),
            ("", "is the root cgroup, which is the host's"),
            ("//./", "is the root cgroup, which is the host's"),
            ("..", "climbs with \"..\""),
            ("/docker/../..", "climbs with \"..\""),
            ("system.slice:..:x", "climbs with \"..\""),
            ("system.slice:docker/x:y", "has a \"/\" in slice:prefix:name"),
            ("a/b:c:d", "has a \"/\" in slice:prefix:name"),
            ("system.slice:docker:", "has no name in slice:prefix:name"),
            ("/a\0b", "has a control character"),
            ("/a\nb", "has a control character"),
        ] {
            for profile in Profile::ALL {
                let findings =
                    Table::of(profile).findings("RES-05", &with("/linux/cgroupsPath", json!(path)));
                assert_eq!(findings.len(), 1);
                assert_eq!(findings[0].action, crate::Action::Deny);
                assert_eq!(findings[0].found, format!("{path:?} {what}"));
            }
        }
        for nothing in [with("/linux/cgroupsPath", Value::Null), with("/linux", json!({}))] {
            assert!(
                Table::of(Profile::Restricted)
                    .findings("RES-05", &nothing)
                    .is_empty()
            );
        }
    }

    #[test]
    fn a_cgroup_with_processes_in_it_is_not_joined() {
        let document = with("/linux/cgroupsPath", json!("/docker/1"));
        let table = Table::of(Profile::Baseline)
            .knowing(|facts| facts.cgroup = cgroup(Some("/sys/fs/cgroup/docker/1"), None));
        assert_eq!(
            table.findings("RES-05", &document)[0].found,
            "\"/docker/1\": container's cgroup is not empty: \"/sys/fs/cgroup/docker/1\" already has processes in it"
        );
        let unknown = Table::of(Profile::Baseline).findings("RES-05", &document);
        assert!(unknown[0].undecided && unknown[0].action == crate::Action::Deny);
        assert!(
            Table::of(Profile::Baseline)
                .offline()
                .findings("RES-05", &document)
                .is_empty()
        );
    }

    #[test]
    fn the_oom_killer_stays_on() {
        let off = with("/linux/resources/memory/disableOOMKiller", json!(true));
        let place = "RES-06 /linux/resources/memory/disableOOMKiller";
        assert!(Table::of(Profile::Privileged).findings("RES-06", &off).is_empty());
        assert_eq!(
            Table::of(Profile::Baseline).verdicts("RES-06", &off),
            [format!("audit {place}")]
        );
        assert_eq!(restricted().verdicts("RES-06", &off), [format!("deny {place}")]);
        for on in [json!(false), Value::Null] {
            let document = with("/linux/resources/memory/disableOOMKiller", on);
            assert!(restricted().findings("RES-06", &document).is_empty());
        }
    }

    #[test]
    fn core_dumps_are_switched_off_in_restricted() {
        let zero = json!({"type": "RLIMIT_CORE", "soft": 0, "hard": 0});
        let files = json!({"type": "RLIMIT_NOFILE", "soft": 9, "hard": 9});
        let document = with("/process/rlimits", json!([files, zero]));
        assert!(restricted().findings("RLM-01", &document).is_empty());
        for unlimited in [
            Value::Null,
            json!([]),
            json!([files]),
            json!([{"type": "RLIMIT_CORE", "soft": 0, "hard": 1}]),
            json!([zero, {"type": "RLIMIT_CORE", "soft": 1, "hard": 1}]),
        ] {
            let document = with("/process/rlimits", unlimited);
            assert!(
                Table::of(Profile::Baseline)
                    .findings("RLM-01", &document)
                    .is_empty()
            );
            assert_eq!(
                restricted().verdicts("RLM-01", &document),
                ["harden RLM-01 /process/rlimits"]
            );
            let filled = restricted().hardened("RLM-01", &document);
            let limits = filled["process"]["rlimits"].as_array().unwrap();
            assert_eq!(
                limits
                    .iter()
                    .filter(|limit| limit["type"] == "RLIMIT_CORE")
                    .collect::<Vec<_>>(),
                [&zero]
            );
            assert_eq!(
                limits.contains(&files),
                document["process"]["rlimits"].to_string().contains("NOFILE")
            );
        }
    }

    #[test]
    fn rlimits_are_known_single_and_sane() {
        let limit = |kind: &str, soft: u64, hard: u64| json!({"type": kind, "soft": soft, "hard": hard});
        for (limits, place) in [
            (json!([limit("RLIMIT_FILES", 1, 1)]), "0/type"),
            (json!([limit("nofile", 1, 1)]), "0/type"),
            (json!([limit("", 1, 1)]), "0/type"),
            (
                json!([limit("RLIMIT_NOFILE", 1, 1), limit("RLIMIT_NOFILE", 2, 2)]),
                "1/type",
            ),
            (json!([limit("RLIMIT_NOFILE", 2, 1)]), "0/soft"),
            (json!([limit("RLIMIT_MEMLOCK", 1, u64::MAX)]), "0/hard"),
        ] {
            let document = with("/process/rlimits", limits);
            let expected = [format!("audit RLM-02 /process/rlimits/{place}")];
            assert_eq!(restricted().verdicts("RLM-02", &document), expected);
            assert_eq!(
                Table::of(Profile::Baseline).verdicts("RLM-02", &document),
                expected
            );
            assert!(
                Table::of(Profile::Privileged)
                    .findings("RLM-02", &document)
                    .is_empty()
            );
        }
        for fine in [
            Value::Null,
            json!([]),
            json!([
                limit("RLIMIT_NOFILE", 1, 1),
                limit("RLIMIT_NPROC", u64::MAX, u64::MAX)
            ]),
            json!([limit("RLIMIT_MEMLOCK", 1, u64::MAX - 1)]),
        ] {
            assert!(
                restricted()
                    .findings("RLM-02", &with("/process/rlimits", fine))
                    .is_empty()
            );
        }
    }
}
