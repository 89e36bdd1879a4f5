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

    /// The configuration as it would run; `None` if it is refused.
    pub fn effective(&self) -> Option<&'a Value> {
        self.effective
    }

    fn with_action(&self, action: Action) -> impl Iterator<Item = &'a Finding> {
        self.findings
            .iter()
            .filter(move |finding| finding.action == action)
    }

    /// The findings of one action, those of one rule together.
    ///
    /// Rules with few findings come first: of a privileged container, that it is one says more than each of
    /// its thirty capabilities.
    fn by_rule(&self, action: Action) -> Vec<Vec<&'a Finding>> {
        let mut groups: Vec<Vec<&Finding>> = Vec::new();
        for finding in self.with_action(action) {
            match groups
                .iter_mut()
                .find(|group| group[0].rule_id() == finding.rule_id())
            {
                Some(group) => group.push(finding),
                None => groups.push(vec![finding]),
            }
        }
        groups.sort_by_key(Vec::len);
        groups
    }

    /// The ids of the rules that refuse, without their sub-keys, in the order in which they are told.
    fn denying_rules(&self) -> Vec<&'a str> {
        self.by_rule(Action::Deny)
            .iter()
            .map(|group| group[0].rule_id())
            .collect()
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

/// Findings of one rule that are told together.
#[derive(Debug, PartialEq)]
struct Row<'a> {
    /// The one that is told in full.
    first: &'a Finding,
    /// Others of which the id says enough.
    likewise: Vec<&'a Finding>,
}

/// A row of values at one place, or at sister places such as the elements of a list, is told once and counted up
/// if it is so long that it would hide the rest: thirty capabilities, a hundred devices.
fn rows<'a>(group: &[&'a Finding]) -> Vec<Row<'a>> {
    const LONG: usize = 4;
    let mut rows = Vec::new();
    for sisters in group.chunk_by(|a, b| same_list(&a.pointer, &b.pointer)) {
        match sisters {
            [first, likewise @ ..] if sisters.len() >= LONG => {
                rows.push(Row {
                    first,
                    likewise: likewise.to_vec(),
                });
            }
            few => rows.extend(few.iter().map(|first| Row {
                first,
                likewise: Vec::new(),
            })),
        }
    }
    rows
}

/// True for pointers that differ in nothing but the indices of lists.
fn same_list(a: &str, b: &str) -> bool {
    let index = |step: &str| !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit());
    let (a, b): (Vec<&str>, Vec<&str>) = (a.split('/').collect(), b.split('/').collect());
    a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a == b || (index(a) && index(b)))
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

/// Place and fact of a finding. One without a place is not about config.json but about the host.
fn reason(finding: &Finding, more: &str) -> String {
    let over = match &finding.waiver {
        Some(waiver) if waiver.expired => {
            format!(" (the waiver of {} expired on {})", waiver.owner, waiver.expires)
        }
        _ => String::new(),
    };
    let more = &format!("{over}{more}");
    match finding.pointer.as_str() {
        "" => printable(&format!("{}{more}", finding.found)),
        pointer => printable(&format!("config.json#{pointer}: {}{more}", finding.found)),
    }
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
    use crate::finding::References;

    pub(super) fn finding(rule: &str, action: Action, pointer: &str, found: &str) -> Finding {
        Finding {
            rule: rule.to_owned(),
            action,
            pointer: pointer.to_owned(),
            found: found.to_owned(),
            accepted: "something else".to_owned(),
            stops: &["an attack"],
            references: References::Policy("CIS Docker Benchmark 5.4".to_owned()),
            undecided: false,
            waiver: None,
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
        socket.stops = &["docker.sock escape"];
        let mut capability = finding(
            "CAP-03:SYS_ADMIN",
            Action::Deny,
            "/process/capabilities/bounding",
            "grants CAP_SYS_ADMIN",
        );
        capability.accepted = "the set without it".to_owned();
        capability.stops = &["release_agent escape", "mount of the host's disk"];
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
    fn a_finding_about_the_host_names_no_place_in_the_file() {
        let host = finding(
            "HOST-03:binary",
            Action::Deny,
            "",
            "gabion's binary can be written",
        );
        assert_eq!(reason(&host, ""), "gabion's binary can be written");
        let file = finding("NS-06", Action::Deny, "/linux/namespaces", "no cgroup namespace");
        assert_eq!(
            reason(&file, " (2 places)"),
            "config.json#/linux/namespaces: no cgroup namespace (2 places)"
        );
    }

    #[test]
    fn only_a_long_row_at_sister_places_is_told_once() {
        let make = |i: usize| {
            finding(
                &format!("DEV-02:{i}"),
                Action::Deny,
                &format!("/linux/devices/{i}"),
                "x",
            )
        };
        let findings: Vec<Finding> = (0..4).map(make).collect();
        let all: Vec<&Finding> = findings.iter().collect();
        assert_eq!(
            rows(&all),
            [Row {
                first: all[0],
                likewise: all[1..].to_vec()
            }]
        );
        assert_eq!(rows(&all[1..]).len(), 3);
        let elsewhere = finding("DEV-02:a", Action::Deny, "/linux/resources/devices/0", "x");
        assert_eq!(rows(&[all[0], all[1], &elsewhere, all[2], all[3]]).len(), 5);
        assert!(same_list("/mounts/3/options/0", "/mounts/12/options/1"));
        assert!(!same_list("/mounts/3/options", "/mounts/3/source"));
        assert!(!same_list("/linux/sysctl/a", "/linux/sysctl/b"));
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
