//! A judgement for a program.
//!
//! The format is an interface. It has a version, which changes when a property changes its meaning or goes
//! away; new properties come without one, so a reader ignores what it does not know.
//!
//! ```json
//! {
//!   "version": 1,
//!   "verdict": "refused",
//!   "profile": "baseline",
//!   "findings": [
//!     {
//!       "rule": "CAP-03:SYS_ADMIN",
//!       "action": "deny",
//!       "pointer": "/process/capabilities/bounding",
//!       "found": "…",
//!       "accepted": "…",
//!       "stops": ["…"],
//!       "references": ["CIS Docker Benchmark 5.4"]
//!     }
//!   ]
//! }
//! ```
//!
//! - `verdict` is `admitted` or `refused`; `profile` is `privileged`, `baseline` or `restricted`.
//! - `findings[]`: `rule` is the id, with the value it is about after a colon where the rule has one level for
//!   each value; `action` is `deny`, `harden` or `audit`; `pointer` is a JSON pointer (RFC 6901) into
//!   config.json; `found`, `accepted`, `stops[]`, `references[]` are for people. `undecided: true` is there if
//!   the rule could not be decided because a fact of the host is not known. `waiver` is there if one
//!   was found, with its `owner`, `reason`, `expires`, `origin`, and `expired`, which says whether it still applies.
//!   `changes[]` is there for `harden`:
//!   each has `change`, which names what is added, and what belongs to it.
//! - `effective` is there if it was asked for: the configuration as it would run, hardening included, and
//!   `null` for a refused bundle, which does not run.

use serde_json::{Value, json};

use super::Report;

/// The version of the format.
pub const VERSION: u32 = 1;

impl Report<'_> {
    /// The report as JSON; with `effective`, the hardened configuration is part of it.
    pub fn json(&self, effective: bool) -> Value {
        let mut report = json!({
            "version": VERSION,
            "verdict": self.verdict.name(),
            "profile": self.profile,
            "findings": self.findings,
        });
        if let (true, Value::Object(members)) = (effective, &mut report) {
            members.insert(
                "effective".to_owned(),
                self.effective.cloned().unwrap_or_default(),
            );
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{admitted, refused, socket_and_capability};
    use super::*;

    #[test]
    fn the_json_of_a_refusal_is_exactly_as_documented() {
        let mut findings = socket_and_capability();
        findings[1].undecided = true;
        assert_eq!(
            refused(&findings).json(false),
            json!({
                "version": 1,
                "verdict": "refused",
                "profile": "baseline",
                "findings": [
                    {
                        "rule": "MNT-02",
                        "action": "deny",
                        "pointer": "/mounts/9/source",
                        "found": "\"/var/run/docker.sock\" is the Docker daemon's socket; \
                                  whoever holds it is root on this host",
                        "accepted": "no mount of it",
                        "stops": ["docker.sock escape"],
                        "references": ["CIS Docker Benchmark 5.4"],
                    },
                    {
                        "rule": "CAP-03:SYS_ADMIN",
                        "action": "deny",
                        "pointer": "/process/capabilities/bounding",
                        "found": "grants CAP_SYS_ADMIN",
                        "accepted": "the set without it",
                        "stops": ["release_agent escape", "mount of the host's disk"],
                        "references": ["CIS Docker Benchmark 5.4"],
                        "undecided": true,
                    },
                    {
                        "rule": "NS-06",
                        "action": "harden",
                        "pointer": "/linux/namespaces",
                        "found": "no cgroup namespace",
                        "accepted": "an entry of type cgroup",
                        "stops": ["an attack"],
                        "references": ["CIS Docker Benchmark 5.4"],
                        "changes": [{"change": "addNamespace", "kind": "cgroup"}],
                    },
                    {
                        "rule": "PRV-02",
                        "action": "audit",
                        "pointer": "/process/user/uid",
                        "found": "0, which is root",
                        "accepted": "something else",
                        "stops": ["an attack"],
                        "references": ["CIS Docker Benchmark 5.4"],
                    },
                ],
            })
        );
    }

    #[test]
    fn the_effective_configuration_is_there_when_asked_for_and_null_for_a_refusal() {
        let effective = json!({"ociVersion": "1.3.0"});
        let report = admitted(&[], &effective);
        assert_eq!(
            report.json(true),
            json!({"version": 1, "verdict": "admitted", "profile": "baseline", "findings": [],
                   "effective": {"ociVersion": "1.3.0"}})
        );
        assert_eq!(report.json(false).get("effective"), None);
        assert_eq!(refused(&[]).json(true).get("effective"), Some(&Value::Null));
    }
}
