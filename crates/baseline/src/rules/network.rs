//! The network: interfaces of the host that a container would take.

use crate::pointer::Pointer;
use crate::profile::{Level, Levels};
use crate::rule::{Case, Mappings, Remedies, Rule, Violations};

/// The rules of this topic.
pub static RULES: &[&Rule] = &[&NET_01];

static NET_01: Rule = Rule {
    id: "NET-01",
    title: "no interface of the host moves into the container",
    meaning: "linux.netDevices (runtime-spec 1.3) names a network interface of the host.",
    why: "The interface leaves the host while the container lives. Naming the wrong one cuts the host off, and \
          the container speaks on the host's own wire.",
    stops: &[
        "taking a network card from the host",
        "cutting the host off its network",
    ],
    fields: &["/linux/netDevices/*"],
    levels: Levels::new(Level::Audit, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Docker sends none; attach the container to a network instead: --network NAME, or a macvlan.",
        podman: "podman sends none; attach the container to a network instead: --network NAME, or a macvlan.",
        kubernetes: "Remove the claim of a network device (DRA), or have the node's policy permit the \
                     interface: \"NET-01:eth1\" = \"audit\".",
        config: "Remove linux.netDevices.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "5.10",
        nsa: "network separation",
        nist_800_190: "3.4.2",
    },
    facts: &[],
    check: devices,
};

fn devices(case: &Case<'_>, violations: &mut Violations) {
    let devices = case
        .config
        .linux
        .value()
        .and_then(|linux| linux.net_devices.value());
    for name in devices.into_iter().flat_map(|devices| devices.keys()) {
        violations
            .report(
                Pointer::at("/linux/netDevices").key(name),
                format!("the host's network interface {name:?} would move into the container"),
                "no linux.netDevices",
            )
            .sub_key(name.escape_debug().to_string());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::table::{Table, with};
    use super::*;
    use crate::profile::Profile;

    #[test]
    fn each_interface_is_a_finding_of_its_own() {
        let document = with("/linux/netDevices", json!({"eth0": {"name": "net1"}, "e/1": {}}));
        let expected = |action: &str| {
            vec![
                format!("{action} NET-01:e/1 /linux/netDevices/e~11"),
                format!("{action} NET-01:eth0 /linux/netDevices/eth0"),
            ]
        };
        assert_eq!(
            Table::of(Profile::Privileged).verdicts("NET-01", &document),
            expected("audit")
        );
        assert_eq!(
            Table::of(Profile::Baseline).verdicts("NET-01", &document),
            expected("deny")
        );
        assert_eq!(
            Table::of(Profile::Restricted).verdicts("NET-01", &document),
            expected("deny")
        );
        let mut table = Table::of(Profile::Restricted);
        table.policy.levels.insert("NET-01:eth0".to_owned(), Level::Off);
        assert_eq!(table.verdicts("NET-01", &document), expected("deny")[..1]);
    }

    #[test]
    fn no_interface_is_nothing_to_say() {
        for value in [Value::Null, json!({})] {
            let document = with("/linux/netDevices", value);
            assert!(
                Table::of(Profile::Restricted)
                    .findings("NET-01", &document)
                    .is_empty()
            );
        }
        assert!(
            Table::of(Profile::Restricted)
                .findings("NET-01", &with("/linux", json!({})))
                .is_empty()
        );
    }
}
