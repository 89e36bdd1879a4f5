//! Tables with a row for each configuration and a column for each profile, on top of [`super::table`].

use serde_json::{Value, json};

use super::table::Table;
use crate::facts::{Fact, Facts, KernelFact, LsmFact};
use crate::finding::{Action, Finding};
use crate::profile::Profile;

/// A host as many are: initial user namespace, no AppArmor, no SELinux. Facts of a bundle are for the test.
pub(super) fn host() -> Facts {
    Facts {
        lsm: Fact::Known(LsmFact::default()),
        kernel: Fact::Known(KernelFact {
            version: (6, 12),
            last_capability: 40,
            legacy_tiocsti: Some(false),
            in_initial_user_namespace: true,
        }),
        ..Facts::default()
    }
}

/// What one rule finds when a container is to be created from `config`; `ociVersion` is added.
pub(super) fn findings(rule: &str, profile: Profile, config: &Value, facts: &Facts) -> Vec<Finding> {
    under(profile, facts).findings(rule, &complete(config))
}

/// The configuration after one rule's hardening, and nothing else's.
pub(super) fn hardened(rule: &str, profile: Profile, config: &Value, facts: &Facts) -> Value {
    let mut document = complete(config);
    for finding in findings(rule, profile, config, facts) {
        assert_eq!(finding.action, Action::Harden, "{finding:?}");
        for change in &finding.changes {
            change.apply(&mut document, &|_| json!({"defaultAction": "SCMP_ACT_ERRNO"}));
        }
    }
    document
}

/// Asserts for each row, a name and a configuration, what the rule says in `privileged`, `baseline` and
/// `restricted`: for each finding its sub-key if it has one, its action, its pointer, and `undecided`;
/// several are separated by `, `.
pub(super) fn table(rule: &str, facts: &Facts, rows: &[(&str, Value, [&str; 3])]) {
    for (name, config, expected) in rows {
        for (profile, expected) in Profile::ALL.into_iter().zip(expected) {
            assert_eq!(
                &said(&findings(rule, profile, config, facts)),
                expected,
                "{rule}, {name}, {profile}"
            );
        }
    }
}

/// What the rule says of a file that comes from another host, in the form of [`table`].
pub(super) fn offline(rule: &str, profile: Profile, config: &Value, facts: &Facts) -> String {
    said(&under(profile, facts).offline().findings(rule, &complete(config)))
}

fn under(profile: Profile, facts: &Facts) -> Table {
    Table::of(profile).knowing(|known| *known = facts.clone())
}

fn said(findings: &[Finding]) -> String {
    let short = |finding: &Finding| {
        let sub_key = finding
            .rule
            .split_once(':')
            .map(|(_, key)| format!("{key} "))
            .unwrap_or_default();
        let action = match finding.action {
            Action::Audit => "audit",
            Action::Harden => "harden",
            Action::Deny => "deny",
        };
        let undecided = if finding.undecided { " undecided" } else { "" };
        format!("{sub_key}{action} {}{undecided}", finding.pointer)
    };
    findings.iter().map(short).collect::<Vec<_>>().join(", ")
}

fn complete(config: &Value) -> Value {
    let mut document = config.clone();
    document["ociVersion"] = json!("1.2.0");
    document
}
