//! What the tables of the rules' tests are written with: one rule, one document, what it says.

use serde_json::{Value, json};

use super::mutation;
use crate::allegation::Allegation;
use crate::facts::{Fact, Facts};
use crate::finding::{Action, Finding};
use crate::judge::{Operation, judge};
use crate::policy::Policy;
use crate::profile::Profile;

/// The circumstances under which a rule is asked.
pub(crate) struct Table {
    pub(crate) facts: Facts,
    pub(crate) policy: Policy,
    pub(crate) operation: Operation,
}

impl Table {
    /// A container is to be created under a profile, and nothing is known of the host.
    pub(crate) fn of(profile: Profile) -> Self {
        Table {
            facts: Facts::default(),
            policy: Policy::builtin(profile, |_| json!({"defaultAction": "SCMP_ACT_ERRNO"})),
            operation: Operation::Create {
                id: "web-1".to_owned(),
            },
        }
    }

    /// The file comes from another host.
    pub(crate) fn offline(mut self) -> Self {
        self.operation = Operation::Check { offline: true };
        self
    }

    /// With this known of the host.
    pub(crate) fn knowing(mut self, tell: impl FnOnce(&mut Facts)) -> Self {
        tell(&mut self.facts);
        self
    }

    /// The document with what hardening by one rule adds to it.
    pub(crate) fn hardened(&self, rule: &str, document: &Value) -> Value {
        let mut document = document.clone();
        for change in self
            .findings(rule, &document)
            .iter()
            .flat_map(|finding| &finding.changes)
        {
            change.apply(&mut document, &|_| json!({}));
        }
        document
    }

    /// What one rule finds in the document.
    pub(crate) fn findings(&self, rule: &str, document: &Value) -> Vec<Finding> {
        let allegation = Allegation::from_document(document.clone()).unwrap();
        let judgement = judge(&allegation, &self.facts, &self.policy, &self.operation).unwrap();
        let findings: Vec<Finding> = judgement
            .findings()
            .iter()
            .filter(|finding| finding.rule_id() == rule)
            .cloned()
            .collect();
        mutation::note(rule, &findings);
        findings
    }

    /// What one rule does about the document: an action for each finding, with its sub-key and pointer.
    pub(crate) fn verdicts(&self, rule: &str, document: &Value) -> Vec<String> {
        let line = |finding: &Finding| {
            let action = match finding.action {
                Action::Audit => "audit",
                Action::Harden => "harden",
                Action::Deny => "deny",
            };
            format!("{action} {} {}", finding.rule, finding.pointer)
        };
        self.findings(rule, document).iter().map(line).collect()
    }
}

/// A minimal document with one property set, by its JSON pointer.
pub(crate) fn with(pointer: &str, value: Value) -> Value {
    let mut document = json!({"ociVersion": "1.2.0", "root": {"path": "rootfs"}, "process": {"cwd": "/"}});
    set(&mut document, pointer, value);
    document
}

/// Sets a property of a document, making the objects on the way.
pub(crate) fn set(document: &mut Value, pointer: &str, value: Value) {
    let mut place = document;
    for key in pointer.trim_start_matches('/').split('/') {
        place = &mut place[key.replace("~1", "/").as_str()];
    }
    *place = value;
}

/// A fact that is known.
pub(crate) fn known<T>(value: T) -> Fact<T> {
    Fact::Known(value)
}
