//! Operations on a container that exists: none of them may undo the judgement it was created under.

use crate::config::{Config, Process};
use crate::judge::Operation;
use crate::pointer::Pointer;
use crate::profile::{Level, Levels};
use crate::rule::{Case, Mappings, Remedies, Rule, Violations};

/// The rules of this topic.
pub static RULES: &[&Rule] = &[&OPS_01];

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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::table::Table;
    use crate::allegation::Allegation;
    use crate::judge::Operation;
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
}
