//! Operations on a container that exists: none of them may undo the judgement it was created under.

use std::collections::BTreeMap;

use crate::change::Change;
use crate::config::{Config, DeviceRule, Process, Resources};
use crate::facts::Flag;
use crate::judge::Operation;
use crate::pointer::Pointer;
use crate::profile::{Level, Levels};
use crate::rule::{Case, Mappings, Remedies, Rule, Violations};

/// The rules of this topic.
pub static RULES: &[&Rule] = &[&OPS_01, &OPS_02, &OPS_03, &OPS_04];

static OPS_01: Rule = Rule {
    id: "OPS-01",
    title: "a further process has no more than the container",
    meaning: "A process that is started in a running container asks for a capability that the container's \
              bounding set does not have, for new privileges where the container has none, or for another label \
              of AppArmor or SELinux than the container's.",
    why: "Without this rule everything else is one exec away from void: docker exec --privileged gives all \
          capabilities and takes off the AppArmor profile, in the namespaces and with the files of a container \
          that was judged harmless. The rules on processes hold for it too; its filter is always the container's.",
    stops: &[
        "docker exec --privileged",
        "crictl and kubectl exec through a changed process file",
    ],
    fields: &[
        "/process/capabilities",
        "/process/noNewPrivileges",
        "/process/apparmorProfile",
        "/process/selinuxLabel",
    ],
    levels: Levels::new(Level::Audit, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Remove --privileged from docker exec. A container that is to be debugged with more is started with \
                 more: docker run --cap-add.",
        kubernetes: "kubectl exec never asks for more. For debugging, kubectl debug adds a container of its own \
                     to the pod, which is judged like any other.",
        config: "Leave capabilities, noNewPrivileges and labels out of the process file: the container's are then \
                 taken.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "Capabilities, Privilege Escalation",
        cis_docker: "5.23, 5.24",
        nsa: "",
        nist_800_190: "3.4.3",
    },
    facts: &[],
    check: no_more,
};

fn no_more(case: &Case<'_>, violations: &mut Violations) {
    let Operation::Exec { container, .. } = case.operation else {
        return;
    };
    let (Some(process), Some(first)) = (case.config.process.value(), container.process.value()) else {
        return;
    };
    capabilities(process, container, violations);
    if first.no_new_privileges.is_true() && !process.no_new_privileges.is_true() {
        violations.report(
            Pointer::at("/process/noNewPrivileges"),
            format!(
                "{}, and the container has it",
                process.no_new_privileges.presence()
            ),
            "true",
        );
    }
    for (key, own, theirs) in [
        (
            "apparmorProfile",
            &process.apparmor_profile,
            &first.apparmor_profile,
        ),
        ("selinuxLabel", &process.selinux_label, &first.selinux_label),
    ] {
        let (own, theirs) = (
            own.value().map_or("", String::as_str),
            theirs.value().map_or("", String::as_str),
        );
        if own != theirs {
            violations.report(
                Pointer::at("/process").key(key),
                format!("{own:?}, and the container has {theirs:?}"),
                "the container's",
            );
        }
    }
}

fn capabilities(process: &Process, container: &Config, violations: &mut Violations) {
    let Some(sets) = process.capabilities.value() else {
        return;
    };
    let first = container
        .process
        .value()
        .and_then(|process| process.capabilities.value());
    let bounding = first.map_or(&[][..], |sets| sets.bounding.items());
    for (set, names) in sets.sets() {
        for (index, name) in names.items().iter().enumerate() {
            if bounding.contains(name) {
                continue;
            }
            violations
                .report(
                    Pointer::at("/process/capabilities").key(set).index(index),
                    format!("{name:?}, which the container's bounding set does not have"),
                    "a capability of the container",
                )
                .sub_key(name.strip_prefix("CAP_").unwrap_or(name));
        }
    }
}

static OPS_02: Rule = Rule {
    id: "OPS-02",
    title: "an update does not take limits away",
    meaning: "gabion update takes away the limit of tasks or of memory that the container has, or another limit in \
              linux.resources.unified; or it raises the limit of tasks above both what the container has and the \
              policy's limits.pids; or it allows a device that the container does not have. A higher limit of memory \
              and any share of the CPUs is no violation: resizing a pod in place does that.",
    why: "Limits were judged when the container was created. Whoever may call update, as docker update does, could \
          undo them a moment later, and open the host's disks to the container besides.",
    stops: &[
        "docker update --pids-limit -1",
        "devices allowed after the judgement",
    ],
    fields: &[
        "/linux/resources/pids/limit",
        "/linux/resources/memory/limit",
        "/linux/resources/devices/*",
        "/linux/resources/unified/*",
    ],
    levels: Levels::new(Level::Off, Level::Audit, Level::Deny),
    hardening: "where the site's policy sets the level harden: the limit of tasks is not raised further than allowed",
    remedies: Remedies {
        docker: "Give docker update a --pids-limit that the policy allows, and a --memory instead of taking it off.",
        kubernetes: "Resize with limits, not without; where more tasks are needed, raise the kubelet's podPidsLimit and \
                     limits.pids in gabion's policy.",
        config: "Set pids.limit and memory.limit in the resources that are given to update, and leave devices out.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "5.11, 5.29",
        nsa: "resource policies",
        nist_800_190: "3.4.3",
    },
    facts: &[],
    check: no_looser,
};

fn no_looser(case: &Case<'_>, violations: &mut Violations) {
    let Operation::Update { container, .. } = case.operation else {
        return;
    };
    let (none, bare) = (Resources::default(), Resources::default());
    let resources = |config: &Config| {
        config
            .linux
            .value()
            .and_then(|linux| linux.resources.value())
            .cloned()
    };
    let new = resources(case.config).unwrap_or(none);
    let old = resources(container).unwrap_or(bare);
    tasks(case, &old, &new, violations);
    if let (Some(before), None) = (memory(&old), memory(&new)) {
        violations
            .report(
                "/linux/resources/memory/limit",
                format!("takes away the limit of {before} bytes of memory"),
                "a limit",
            )
            .sub_key("memory");
    }
    // Two of them have a field of their own, and may move there.
    let limit = |unified: &BTreeMap<String, String>, key: &str| {
        unified.get(key).filter(|value| *value != "max").cloned()
    };
    let empty = BTreeMap::new();
    let (before, after) = (
        old.unified.value().unwrap_or(&empty),
        new.unified.value().unwrap_or(&empty),
    );
    for key in before
        .keys()
        .filter(|key| !["pids.max", "memory.max"].contains(&key.as_str()))
    {
        if let (Some(value), None) = (limit(before, key), limit(after, key)) {
            violations
                .report(
                    Pointer::at("/linux/resources/unified").key(key),
                    format!("takes away the value {value:?} of {key:?}"),
                    "a value that limits as well",
                )
                .sub_key(key.as_str());
        }
    }
    for (index, rule) in new.devices.items().iter().enumerate() {
        if rule.allow && !old.devices.items().iter().any(|known| same(known, rule)) {
            violations
                .report(
                    Pointer::at("/linux/resources/devices").index(index),
                    "allows a device that the container was not judged with",
                    "the container's devices",
                )
                .sub_key("devices");
        }
    }
}

fn tasks(case: &Case<'_>, old: &Resources, new: &Resources, violations: &mut Violations) {
    let before = pids(old);
    let allowed = before.unwrap_or(0).max(case.policy.pids_limit);
    let found = match (before, pids(new)) {
        (_, Some(limit)) if limit > allowed => format!("raises the limit of tasks to {limit}"),
        (Some(before), None) => format!("takes away the limit of {before} tasks"),
        _ => return,
    };
    violations
        .report(
            "/linux/resources/pids/limit",
            found,
            format!("at most {allowed}: what the container has, or the policy's limits.pids"),
        )
        .sub_key("pids")
        .fix(Change::SetPidsLimit { limit: allowed });
}

/// The limit of tasks; a limit that is not positive is none.
fn pids(resources: &Resources) -> Option<i64> {
    let unified = resources
        .unified
        .value()
        .and_then(|unified| unified.get("pids.max"));
    let field = resources.pids.value().and_then(|pids| pids.limit.value());
    // The runtime writes what is in unified last.
    unified
        .map_or(field.copied(), |value| value.parse().ok())
        .filter(|limit| *limit > 0)
}

/// The limit of memory in bytes.
fn memory(resources: &Resources) -> Option<i64> {
    let unified = resources
        .unified
        .value()
        .and_then(|unified| unified.get("memory.max"));
    let field = resources.memory.value().and_then(|memory| memory.limit.value());
    unified
        .map_or(field.copied(), |value| value.parse().ok())
        .filter(|limit| *limit > 0)
}

fn same(a: &DeviceRule, b: &DeviceRule) -> bool {
    // An absent number and a negative one both stand for all.
    let number = |number: Option<&i64>| number.copied().filter(|number| *number >= 0);
    a.kind.value() == b.kind.value()
        && number(a.major.value()) == number(b.major.value())
        && number(a.minor.value()) == number(b.minor.value())
        && a.access.value() == b.access.value()
}

static OPS_03: Rule = Rule {
    id: "OPS-03",
    title: "what is restored was checkpointed here",
    meaning: "A container is to be restored from an image that this runtime did not write, on this host, of a container \
              that it had judged (sub-key foreign); or the reality gate cannot look at the restored processes before \
              they run on (sub-key unverified).",
    why: "An image holds memory, registers, descriptors, capabilities and filters of processes. CRIU puts them back as \
          they are written there, so whoever wrote the image decides what runs, whatever config.json says.",
    stops: &[
        "CVE-2026-50195 (images of checkpoints)",
        "CVE-2026-53489, CVE-2026-53492",
        "processes with privileges that no configuration names",
    ],
    fields: &[],
    levels: Levels::new(Level::Off, Level::Audit, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Restore on the host where docker checkpoint create was called, from its own directory.",
        podman: "Restore on the host where podman container checkpoint was called, and without --import.",
        kubernetes: "Start a new container. The kubelet's checkpoints are meant for looking at.",
        config: "Nothing in config.json: give gabion restore the directory that gabion checkpoint wrote, unchanged.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.4.5",
    },
    facts: &[],
    check: made_here,
};

fn made_here(case: &Case<'_>, violations: &mut Violations) {
    let Operation::Restore { checkpoint, .. } = case.operation else {
        return;
    };
    if let Some(why) = &checkpoint.foreign {
        violations
            .report(
                "",
                format!("the image was not made here: {why}"),
                "an image that gabion checkpoint wrote on this host",
            )
            .sub_key("foreign");
    }
    if !checkpoint.verified {
        violations
            .report(
                "",
                "the restored processes cannot be looked at before they run on",
                "a restore after which the reality gate is asked",
            )
            .sub_key("unverified");
    }
}

static OPS_04: Rule = Rule {
    id: "OPS-04",
    title: "no flag makes the container weaker",
    meaning: "The runtime is called with --no-pivot, --no-new-keyring or --preserve-fds.",
    why: "What was judged in config.json holds for a container built in the usual way. Without pivot_root the host's \
          root stays mounted beneath the container's; without a keyring of its own the keys of the caller's session can \
          be read; and a descriptor that is handed on is a file that no rule on mounts has seen.",
    stops: &[
        "leaving a root that was entered by chroot(2)",
        "keys of the engine's session",
        "descriptors of the host's files in the container",
    ],
    fields: &[],
    levels: Levels::new(Level::Off, Level::Audit, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Unset DOCKER_RAMDISK for dockerd: the root directory should not be on a ramdisk.",
        podman: "Remove --preserve-fds, and no_pivot_root from /etc/containers/containers.conf.",
        ctr: "Remove --no-pivot.",
        kubernetes: "Remove no_pivot and no_new_keyring from the runtime's options in containerd's config.toml.",
        config: "Nothing in config.json: call gabion without the flag.",
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.4.1",
    },
    facts: &[],
    check: weaker_flags,
};

fn weaker_flags(case: &Case<'_>, violations: &mut Violations) {
    for flag in &case.facts.flags {
        let (sub_key, found) = match flag {
            Flag::NoPivot => (
                "no-pivot",
                "--no-pivot: the host's root stays beneath the container's".to_owned(),
            ),
            Flag::NoNewKeyring => (
                "no-new-keyring",
                "--no-new-keyring: the container shares its caller's session keyring".to_owned(),
            ),
            Flag::PreserveFds(0) => continue,
            Flag::PreserveFds(number) => (
                "preserve-fds",
                format!("--preserve-fds {number}: descriptors of the caller are handed on"),
            ),
        };
        violations
            .report("", found, "a call without this flag")
            .sub_key(sub_key);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::table::{Table, with};
    use crate::allegation::Allegation;
    use crate::facts::Flag;
    use crate::judge::{Checkpoint, Operation};
    use crate::profile::Profile;

    fn verdicts(profile: Profile, container: &Value, process: &Value) -> Vec<String> {
        let whole = |process: &Value| json!({"ociVersion": "1.2.0", "process": process});
        let container = Allegation::from_document(whole(container)).unwrap();
        let mut table = Table::of(profile);
        table.operation = Operation::Exec {
            id: "web-1".to_owned(),
            container: Box::new(container.config().clone()),
        };
        table.verdicts("OPS-01", &whole(process))
    }

    #[test]
    fn a_process_with_what_the_container_has_is_admitted() {
        let same = json!({"cwd": "/", "noNewPrivileges": true, "apparmorProfile": "docker-default",
            "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]}});
        assert_eq!(verdicts(Profile::Restricted, &same, &same), [""; 0]);
        let less = json!({"cwd": "/", "noNewPrivileges": true, "apparmorProfile": "docker-default", "capabilities": {}});
        assert_eq!(verdicts(Profile::Restricted, &same, &less), [""; 0]);
        let absent = json!({"cwd": "/", "noNewPrivileges": true, "apparmorProfile": "docker-default"});
        assert_eq!(verdicts(Profile::Restricted, &same, &absent), [""; 0]);
        // More no_new_privs than the container has is not less.
        let weaker = json!({"cwd": "/", "capabilities": {"bounding": ["CAP_KILL"]}});
        let stricter = json!({"cwd": "/", "noNewPrivileges": true});
        assert_eq!(verdicts(Profile::Baseline, &weaker, &stricter), [""; 0]);
    }

    #[test]
    fn more_than_the_container_has_is_refused_value_by_value() {
        let container = json!({"cwd": "/", "noNewPrivileges": true, "apparmorProfile": "docker-default",
            "capabilities": {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL", "CAP_CHOWN"]}});
        let process = json!({"cwd": "/", "noNewPrivileges": null, "apparmorProfile": "unconfined",
            "capabilities": {"bounding": ["CAP_KILL", "CAP_SYS_ADMIN"], "ambient": ["CAP_CHOWN"]}});
        let refused = [
            "deny OPS-01:SYS_ADMIN /process/capabilities/bounding/1",
            "deny OPS-01:CHOWN /process/capabilities/ambient/0",
            "deny OPS-01 /process/noNewPrivileges",
            "deny OPS-01 /process/apparmorProfile",
        ];
        assert_eq!(verdicts(Profile::Baseline, &container, &process), refused);
        let audited = refused.map(|line| line.replace("deny", "audit"));
        assert_eq!(verdicts(Profile::Privileged, &container, &process), audited);
    }

    #[test]
    fn a_container_without_named_capabilities_has_none_to_give() {
        let process = json!({"cwd": "/", "capabilities": {"effective": ["CAP_KILL"]}});
        for container in [
            json!({"cwd": "/"}),
            json!({"cwd": "/", "capabilities": null}),
            json!({"cwd": "/", "capabilities": {}}),
        ] {
            assert_eq!(
                verdicts(Profile::Baseline, &container, &process),
                ["deny OPS-01:KILL /process/capabilities/effective/0"]
            );
        }
    }

    #[test]
    fn creating_a_container_is_not_its_business() {
        let table = Table::of(Profile::Restricted);
        let document = json!({"ociVersion": "1.2.0", "process": {"cwd": "/", "capabilities": {"bounding": ["CAP_KILL"]}}});
        assert_eq!(table.verdicts("OPS-01", &document), [""; 0]);
    }

    fn update(profile: Profile, before: &Value, after: &Value) -> Asked {
        let container = Allegation::from_document(with("/linux/resources", before.clone())).unwrap();
        let mut table = Table::of(profile);
        table.operation = Operation::Update {
            id: "web-1".to_owned(),
            container: Box::new(container.config().clone()),
        };
        Asked {
            table,
            document: with("/linux/resources", after.clone()),
        }
    }

    /// A table, and the one document that it is asked about.
    struct Asked {
        table: Table,
        document: Value,
    }

    impl Asked {
        fn verdicts(&self) -> Vec<String> {
            self.table.verdicts("OPS-02", &self.document)
        }
    }

    #[test]
    fn an_update_within_the_policy_is_admitted() {
        for (before, after) in [
            (json!({}), json!({})),
            (json!(null), json!({"pids": {"limit": 4096}})),
            (json!({"pids": {"limit": 100}}), json!({"pids": {"limit": 4096}})),
            (json!({"pids": {"limit": 9000}}), json!({"pids": {"limit": 9000}})),
            (json!({"pids": {"limit": 0}}), json!({"pids": {"limit": -1}})),
            (
                json!({"pids": {"limit": 100}}),
                json!({"unified": {"pids.max": "100"}}),
            ),
            (
                json!({"memory": {"limit": 1 << 20}}),
                json!({"memory": {"limit": 1u64 << 40}}),
            ),
            (
                json!({"memory": {"limit": 1 << 20}}),
                json!({"unified": {"memory.max": "9"}}),
            ),
            (json!({"cpu": {"quota": 1000}}), json!({"cpu": {"quota": -1}})),
            (
                json!({"unified": {"memory.high": "5"}}),
                json!({"unified": {"memory.high": "6"}}),
            ),
            (json!({"unified": {"memory.high": "max"}}), json!({})),
            (
                json!({"devices": [{"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"}]}),
                json!({"devices": [{"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"}]}),
            ),
            (json!({}), json!({"devices": [{"allow": false, "access": "rwm"}]})),
        ] {
            let asked = update(Profile::Restricted, &before, &after);
            assert_eq!(asked.verdicts(), [""; 0], "{before} {after}");
        }
    }

    #[test]
    fn an_update_that_loosens_is_told_value_by_value() {
        let c = |access| json!({"devices": [{"allow": true, "type": "c", "major": 1, "minor": 3, "access": access}]});
        for (before, after, expected) in [
            (
                json!({"pids": {"limit": 100}}),
                json!({"pids": {"limit": 4097}}),
                "pids /linux/resources/pids/limit",
            ),
            (
                json!({"pids": {"limit": 5000}}),
                json!({"pids": {"limit": 5001}}),
                "pids /linux/resources/pids/limit",
            ),
            (
                json!({"pids": {"limit": 100}}),
                json!({"pids": {"limit": 0}}),
                "pids /linux/resources/pids/limit",
            ),
            (
                json!({"pids": {"limit": 100}}),
                json!({}),
                "pids /linux/resources/pids/limit",
            ),
            (
                json!({"pids": {"limit": 100}}),
                json!({"pids": {"limit": 100}, "unified": {"pids.max": "max"}}),
                "pids /linux/resources/pids/limit",
            ),
            (
                json!({"memory": {"limit": 5}}),
                json!({"memory": {"limit": -1}}),
                "memory /linux/resources/memory/limit",
            ),
            (
                json!({"unified": {"memory.high": "5"}}),
                json!({"unified": {"memory.high": "max"}}),
                "memory.high /linux/resources/unified/memory.high",
            ),
            (c("r"), c("rw"), "devices /linux/resources/devices/0"),
            (
                json!({}),
                json!({"devices": [{"allow": true}]}),
                "devices /linux/resources/devices/0",
            ),
        ] {
            for (profile, action) in [(Profile::Baseline, "audit"), (Profile::Restricted, "deny")] {
                let asked = update(profile, &before, &after);
                assert_eq!(
                    asked.verdicts(),
                    [format!("{action} OPS-02:{expected}")],
                    "{before} {after}"
                );
            }
            assert_eq!(update(Profile::Privileged, &before, &after).verdicts(), [""; 0]);
        }
    }

    #[test]
    fn a_limit_of_tasks_can_be_clamped_and_others_are_refused() {
        let clamped = |before: Value, after: Value| {
            let mut asked = update(Profile::Baseline, &before, &after);
            asked
                .table
                .policy
                .levels
                .insert("OPS-02".to_owned(), crate::profile::Level::Harden);
            let document = asked.table.hardened("OPS-02", &asked.document);
            (
                asked.verdicts(),
                document.pointer("/linux/resources/pids/limit").cloned(),
            )
        };
        assert_eq!(
            clamped(
                json!({"pids": {"limit": 9}}),
                json!({"pids": {"limit": 1_000_000}})
            ),
            (
                vec!["harden OPS-02:pids /linux/resources/pids/limit".to_owned()],
                Some(json!(4096))
            )
        );
        assert_eq!(
            clamped(json!({"memory": {"limit": 9}}), json!({})).0,
            ["deny OPS-02:memory /linux/resources/memory/limit"]
        );
    }

    #[test]
    fn an_update_is_asked_about_resources_and_nothing_else() {
        let mut asked = update(
            Profile::Baseline,
            &json!({}),
            &json!({"devices": [{"allow": true, "access": "rwm"}]}),
        );
        asked.document["process"] = json!({"cwd": "relative", "capabilities": null});
        let judged = |rule| !asked.table.findings(rule, &asked.document).is_empty();
        assert!(judged("DEV-01") && !judged("PRV-09") && !judged("CAP-01") && !judged("NS-01"));
    }

    #[test]
    fn an_image_from_elsewhere_is_not_restored_under_restricted() {
        let verdicts = |profile, foreign: Option<&str>, verified| {
            let mut table = Table::of(profile);
            table.operation = Operation::Restore {
                id: "web-1".to_owned(),
                checkpoint: Checkpoint {
                    foreign: foreign.map(str::to_owned),
                    verified,
                },
            };
            table.verdicts("OPS-03", &with("/hostname", json!("a")))
        };
        let foreign = Some("it has no seal of this host");
        assert_eq!(verdicts(Profile::Restricted, None, true), [""; 0]);
        assert_eq!(
            verdicts(Profile::Baseline, foreign, true),
            ["audit OPS-03:foreign "]
        );
        assert_eq!(
            verdicts(Profile::Restricted, foreign, true),
            ["deny OPS-03:foreign "]
        );
        assert_eq!(
            verdicts(Profile::Restricted, None, false),
            ["deny OPS-03:unverified "]
        );
        assert_eq!(verdicts(Profile::Privileged, foreign, false), [""; 0]);
        let table = Table::of(Profile::Restricted);
        assert_eq!(table.verdicts("OPS-03", &with("/hostname", json!("a"))), [""; 0]);
    }

    #[test]
    fn flags_that_weaken_are_recorded_and_refused_under_restricted() {
        let verdicts = |profile, flags: &[Flag]| {
            let table = Table::of(profile).knowing(|facts| facts.flags = flags.to_vec());
            table.verdicts("OPS-04", &with("/hostname", json!("a")))
        };
        let all = [Flag::NoPivot, Flag::NoNewKeyring, Flag::PreserveFds(2)];
        let keys = [
            "OPS-04:no-pivot ",
            "OPS-04:no-new-keyring ",
            "OPS-04:preserve-fds ",
        ];
        assert_eq!(
            verdicts(Profile::Baseline, &all),
            keys.map(|key| format!("audit {key}"))
        );
        assert_eq!(
            verdicts(Profile::Restricted, &all),
            keys.map(|key| format!("deny {key}"))
        );
        assert_eq!(verdicts(Profile::Privileged, &all), [""; 0]);
        assert_eq!(verdicts(Profile::Restricted, &[]), [""; 0]);
        assert_eq!(verdicts(Profile::Restricted, &[Flag::PreserveFds(0)]), [""; 0]);
    }
}
