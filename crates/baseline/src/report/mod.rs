//! Words for a judgement: to a person at a terminal, to an engine's log, to a program, to a code scanner.
//!
//! All four tell the same findings. What comes from the bundle (paths, keys, capability names) may have been
//! written by an attacker, so no character of it that moves a cursor, ends a line or reorders text reaches a
//! terminal or a log: see [`printable`].

use serde_json::Value;

use crate::finding::{Action, Finding};
use crate::judge::Judgement;
use crate::profile::Profile;

mod json;
mod line;
mod sarif;
mod text;

pub use json::VERSION as JSON_VERSION;
pub use line::MAX_BYTES as MAX_LINE_BYTES;
pub use text::{Style, wrap};

/// A judgement, and what it was about.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    subject: Subject<'a>,
    profile: Profile,
    verdict: Verdict,
    findings: &'a [Finding],
    effective: Option<&'a Value>,
}

/// What was judged, in the words of whoever asked.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The container's id, or the path that was given to `gabion check`.
    pub name: &'a str,
    /// The file that was judged, as a path; code scanners attach findings to it.
    pub file: &'a str,
    /// The bundle's directory, if `gabion check --bundle` would judge it again.
    pub bundle: Option<&'a str>,
}

/// The outcome in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may run, as hardened.
    Admitted,
    /// It may not.
    Refused,
}

impl Verdict {
    /// The word as reports have it.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Admitted => "admitted",
            Verdict::Refused => "refused",
        }
    }
}

impl<'a> Report<'a> {
    /// Prepares to report a judgement.
    pub fn of(judgement: &'a Judgement, subject: Subject<'a>) -> Self {
        match judgement {
            Judgement::Admitted(admitted) => Report {
                subject,
                profile: admitted.profile(),
                verdict: Verdict::Admitted,
                findings: admitted.findings(),
                effective: Some(admitted.document()),
            },
            Judgement::Refused(refusal) => Report {
                subject,
                profile: refusal.profile(),
                verdict: Verdict::Refused,
                findings: refusal.findings(),
                effective: None,
            },
        }
    }

    /// The outcome.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    fn with_action(&self, action: Action) -> impl Iterator<Item = &'a Finding> {
        self.findings
            .iter()
            .filter(move |finding| finding.action == action)
    }

    /// The ids of the rules that refuse, without their sub-keys, each once, in the order found.
    fn denying_rules(&self) -> Vec<&'a str> {
        distinct(self.with_action(Action::Deny).map(Finding::rule_id))
    }

    /// `gabion refused web-1: 2 rules of profile baseline`.
    fn headline(&self) -> String {
        let name = printable(self.subject.name);
        let profile = self.profile;
        match self.verdict {
            Verdict::Refused => {
                let rules = self.denying_rules().len();
                format!(
                    "gabion refused {name}: {rules} {} of profile {profile}",
                    plural(rules, "rule")
                )
            }
            Verdict::Admitted => format!("gabion admitted {name} under profile {profile}"),
        }
    }
}

/// Text that may hold what a bundle's author wrote, made safe to print: control characters, line ends,
/// invisible and reordering characters are shown as escapes such as `\u{202e}`.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\'' | '"' | '\\' => out.push(c),
            other => out.extend(other.escape_debug()),
        }
    }
    out
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 {
        noun.to_owned()
    } else {
        format!("{noun}s")
    }
}

/// The elements in order, each once.
fn distinct<'a>(items: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for item in items {
        if !seen.contains(&item) {
            seen.push(item);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn finding(rule: &str, action: Action, pointer: &str, found: &str) -> Finding {
        Finding {
            rule: rule.to_owned(),
            action,
            pointer: pointer.to_owned(),
            found: found.to_owned(),
            accepted: "something else".to_owned(),
            stops: vec!["an attack"],
            references: vec!["CIS Docker Benchmark 5.4".to_owned()],
            undecided: false,
            changes: Vec::new(),
        }
    }

    pub(super) fn socket_and_capability() -> Vec<Finding> {
        let mut socket = finding(
            "MNT-02",
            Action::Deny,
            "/mounts/9/source",
            "\"/var/run/docker.sock\" is the Docker daemon's socket; whoever holds it is root on this host",
        );
        socket.accepted = "no mount of it".to_owned();
        socket.stops = vec!["docker.sock escape"];
        let mut capability = finding(
            "CAP-03:SYS_ADMIN",
            Action::Deny,
            "/process/capabilities/bounding",
            "grants CAP_SYS_ADMIN",
        );
        capability.accepted = "the set without it".to_owned();
        capability.stops = vec!["release_agent escape", "mount of the host's disk"];
        let mut namespace = finding(
            "NS-06",
            Action::Harden,
            "/linux/namespaces",
            "no cgroup namespace",
        );
        namespace.accepted = "an entry of type cgroup".to_owned();
        namespace.changes = vec![crate::change::Change::AddNamespace {
            kind: "cgroup".to_owned(),
        }];
        let root = finding("PRV-02", Action::Audit, "/process/user/uid", "0, which is root");
        vec![socket, capability, namespace, root]
    }

    pub(super) fn refused(findings: &[Finding]) -> Report<'_> {
        Report {
            subject: Subject {
                name: "web-1",
                file: "/run/b/web-1/config.json",
                bundle: Some("/run/b/web-1"),
            },
            profile: Profile::Baseline,
            verdict: Verdict::Refused,
            findings,
            effective: None,
        }
    }

    pub(super) fn admitted<'a>(findings: &'a [Finding], effective: &'a Value) -> Report<'a> {
        Report {
            verdict: Verdict::Admitted,
            effective: Some(effective),
            ..refused(findings)
        }
    }

    #[test]
    fn a_judgement_becomes_a_report_with_its_profile_findings_and_effective_document() {
        let text = r#"{"ociVersion":"1.3.0"}"#;
        let allegation = crate::Allegation::parse(text.as_bytes()).unwrap();
        let policy = crate::Policy::builtin(Profile::Privileged, |_| Value::Null);
        let operation = crate::Operation::Check { offline: true };
        let facts = crate::Facts::default();
        let judgement = crate::judge(&allegation, &facts, &policy, &operation).unwrap();
        let subject = Subject {
            name: "x",
            file: "config.json",
            bundle: None,
        };
        let report = Report::of(&judgement, subject);
        assert_eq!(report.profile, Profile::Privileged);
        assert_eq!(report.findings, judgement.findings());
        match &judgement {
            Judgement::Admitted(admitted) => {
                assert_eq!(report.verdict().name(), "admitted");
                assert_eq!(report.effective, Some(admitted.document()));
            }
            Judgement::Refused(_) => {
                assert_eq!(report.verdict().name(), "refused");
                assert_eq!(report.effective, None);
            }
        }
    }

    #[test]
    fn text_from_a_bundle_cannot_write_to_a_terminal() {
        assert_eq!(
            printable("a\u{1b}[2Jb\nc\u{202e}d\r"),
            "a\\u{1b}[2Jb\\nc\\u{202e}d\\r"
        );
        assert_eq!(
            printable("plain \"quoted\" 'ü' \\ 日本"),
            "plain \"quoted\" 'ü' \\ 日本"
        );
        assert_eq!(
            printable("\u{9b}31m\u{200b}\u{2028}"),
            "\\u{9b}31m\\u{200b}\\u{2028}"
        );
    }
}
