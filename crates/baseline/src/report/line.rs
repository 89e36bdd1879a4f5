//! A refusal in one line, for the log that engines show to their users.
//!
//! containerd's shim shows only the last error of the log, and Kubernetes cuts events at 1 KiB. So the line
//! stands alone: who was refused, every violated id, as much of the reasons as fits, and where to read more.

use super::{Report, Verdict, distinct, plural, printable, reason, rows};
use crate::finding::{Action, Finding};

/// No line is longer than this, in bytes of UTF-8. What a log adds around it (level, time, an engine's own
/// words) has to fit into 1 KiB as well.
pub const MAX_BYTES: usize = 960;

/// The longest name of a container that is repeated in full, in bytes.
const MAX_NAME_BYTES: usize = 100;

/// A reason that has to be cut shorter than this, in bytes, says nothing; the id stands without it.
const MIN_REASON_BYTES: usize = 32;

/// The docker client turns an error with one of these phrases into exit status 126 or 127, as if the workload
/// itself had failed to start; dockerd and podman look for them too, in either case of letters.
pub(super) const MISLEADING: [&str; 6] = [
    "executable file not found",
    "no such file or directory",
    "system cannot find the file specified",
    "permission denied",
    "operation not permitted",
    "is a directory",
];

impl Report<'_> {
    /// The refusal in one line of at most [`MAX_BYTES`]; of an admitted bundle, the headline.
    pub fn line(&self) -> String {
        if self.verdict == Verdict::Admitted {
            return disarm(self.headline());
        }
        let short = Report {
            subject: super::Subject {
                name: &name(self.subject.name),
                ..self.subject
            },
            ..*self
        };
        let head = format!("{}: ", short.headline());
        let rules = self.denying_rules();
        let tail = match rules.first() {
            // Engines add a word of their own after a colon: this must read on.
            Some(first) => format!("; gabion explain {first} says more"),
            None => String::new(),
        };
        let room = MAX_BYTES.saturating_sub(head.len() + tail.len());
        let entries = self.entries();
        let body = with_reasons(&entries, room)
            .or_else(|| with_reasons(&self.counted(), room))
            .unwrap_or_else(|| as_many_as_fit(&rules, room));
        disarm(format!("{head}{body}{tail}"))
    }

    /// Each violated id once, with its reason; in a row of ids that are much the same, the first has one.
    fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        for group in self.by_rule(Action::Deny) {
            for row in rows(&group) {
                for (i, finding) in std::iter::once(row.first).chain(row.likewise).enumerate() {
                    let id = printable(&finding.rule);
                    if entries.iter().any(|entry| entry.id == id) {
                        continue;
                    }
                    let more = match group.iter().filter(|other| other.rule == finding.rule).count() {
                        0 | 1 => String::new(),
                        n => format!(" ({} more {})", n - 1, plural(n - 1, "place")),
                    };
                    let reason = if i == 0 {
                        reason(finding, &more)
                    } else {
                        String::new()
                    };
                    entries.push(Entry { id, reason });
                }
            }
        }
        entries
    }

    /// `DEV-02 (95 values)`: each rule once, with the reason of its first finding, where sub-keys do not fit.
    fn counted(&self) -> Vec<Entry> {
        let entry = |group: &Vec<&Finding>| {
            let first = group[0];
            let id = match distinct(group.iter().map(|finding| finding.rule.as_str())).len() {
                1 => first.rule_id().to_owned(),
                n => format!("{} ({n} values)", first.rule_id()),
            };
            Entry {
                id: printable(&id),
                reason: reason(first, ""),
            }
        };
        self.by_rule(Action::Deny).iter().map(entry).collect()
    }
}

struct Entry {
    id: String,
    reason: String,
}

/// All ids, and the reasons cut so that each gets a fair share of what is left. `None` if the ids alone
/// are too long.
fn with_reasons(entries: &[Entry], room: usize) -> Option<String> {
    let separators = 2 * entries.len().saturating_sub(1);
    let ids: usize = entries.iter().map(|entry| entry.id.len()).sum();
    let mut left = room.checked_sub(ids + separators)?;
    // Short reasons are served first, so that what they do not use goes to the long ones.
    let mut order: Vec<usize> = (0..entries.len()).collect();
    order.sort_by_key(|&i| entries[i].reason.len());
    let mut reasons = vec![String::new(); entries.len()];
    for (served, &i) in order.iter().enumerate() {
        let share = (left / (entries.len() - served)).saturating_sub(1);
        if !entries[i].reason.is_empty() && share >= MIN_REASON_BYTES.min(entries[i].reason.len()) {
            reasons[i] = cut(&entries[i].reason, share);
            left -= reasons[i].len() + 1;
        }
    }
    joined(
        entries
            .iter()
            .zip(reasons)
            .map(|(Entry { id, .. }, reason)| match reason.as_str() {
                "" => id.clone(),
                reason => format!("{id} {reason}"),
            }),
        room,
    )
}

fn joined(entries: impl Iterator<Item = String>, room: usize) -> Option<String> {
    let body = entries.collect::<Vec<_>>().join("; ");
    (body.len() <= room).then_some(body)
}

/// The first ids, and how many there are besides.
fn as_many_as_fit(ids: &[&str], room: usize) -> String {
    (0..=ids.len())
        .rev()
        .map(|count| match ids.len() - count {
            0 => ids.join("; "),
            more => format!("{}; and {more} more", ids[..count].join("; ")),
        })
        .find(|body| body.len() <= room)
        .unwrap_or_default()
}

fn name(name: &str) -> String {
    cut(name, MAX_NAME_BYTES)
}

/// The text, cut to at most `bytes` bytes between two characters, with an ellipsis where something is gone.
fn cut(text: &str, bytes: usize) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() <= bytes {
        return text.to_owned();
    }
    let kept = text.floor_char_boundary(bytes.saturating_sub(ELLIPSIS.len()));
    format!("{}{ELLIPSIS}", &text[..kept])
}

/// Breaks up phrases that an engine would take for a failure of the workload. Only text of the bundle can
/// bring them in, such as a mount from a directory named `permission denied`; the length stays.
fn disarm(line: String) -> String {
    let mut line = line;
    for phrase in MISLEADING {
        while let Some(at) = line.to_ascii_lowercase().find(phrase) {
            let space = at + phrase.find(' ').unwrap_or(0);
            line.replace_range(space..=space, "_");
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::super::tests::{admitted, finding, refused, socket_and_capability};
    use super::*;
    use crate::rules;

    fn denials(count: usize, found: &str) -> Vec<Finding> {
        let make = |i| {
            finding(
                &format!("XYZ-{i:02}"),
                Action::Deny,
                &format!("/mounts/{i}/source"),
                found,
            )
        };
        (0..count).map(make).collect()
    }

    #[test]
    fn the_line_names_who_how_many_each_id_with_place_and_reason_and_where_to_read_on() {
        assert_eq!(
            refused(&socket_and_capability()).line(),
            "gabion refused web-1: 2 rules of profile baseline: \
             MNT-02 config.json#/mounts/9/source: \"/var/run/docker.sock\" is the Docker daemon's socket; \
             whoever holds it is root on this host; \
             CAP-03:SYS_ADMIN config.json#/process/capabilities/bounding: grants CAP_SYS_ADMIN; \
             gabion explain MNT-02 says more"
        );
    }

    #[test]
    fn an_admitted_bundle_has_its_headline() {
        let effective = serde_json::json!({});
        assert_eq!(
            admitted(&[], &effective).line(),
            "gabion admitted web-1 under profile baseline"
        );
    }

    #[test]
    fn one_id_at_several_places_is_named_once() {
        let mut findings = denials(1, "bad");
        findings.push(findings[0].clone());
        findings.push(findings[0].clone());
        assert_eq!(
            refused(&findings).line(),
            "gabion refused web-1: 1 rule of profile baseline: XYZ-00 config.json#/mounts/0/source: bad \
             (2 more places); gabion explain XYZ-00 says more"
        );
    }

    #[test]
    fn reasons_are_cut_before_any_id_is_lost() {
        for count in 1..=60 {
            for found in ["x", &"long ".repeat(100), &"ü€😀".repeat(200)] {
                let findings = denials(count, found);
                let line = refused(&findings).line();
                assert!(line.len() <= MAX_BYTES, "{count}: {}", line.len());
                for finding in &findings {
                    assert!(
                        line.contains(&finding.rule),
                        "{count}: {} is not in {line}",
                        finding.rule
                    );
                }
                assert!(line.ends_with("; gabion explain XYZ-00 says more"), "{line}");
            }
        }
    }

    #[test]
    fn a_short_reason_leaves_its_share_to_a_long_one() {
        let mut findings = denials(3, "x");
        findings[2].found = "y".repeat(2000);
        let line = refused(&findings).line();
        assert!(line.len() > MAX_BYTES - 4, "{}", line.len());
        assert!(line.contains("XYZ-00 config.json#/mounts/0/source: x; XYZ-01"));
        assert!(line.contains("yyy…; gabion explain"));
    }

    #[test]
    fn many_values_at_one_place_have_one_reason_and_come_after_what_says_more() {
        let capability = |name: &str| {
            finding(
                &format!("CAP-03:{name}"),
                Action::Deny,
                "/process/capabilities/bounding",
                "is granted",
            )
        };
        let mut findings = ["SYS_ADMIN", "SYS_PTRACE", "SYS_BOOT", "BPF"]
            .map(capability)
            .to_vec();
        findings.push(finding(
            "PRV-05",
            Action::Deny,
            "/process/capabilities",
            "a privileged container",
        ));
        assert_eq!(
            refused(&findings).line(),
            "gabion refused web-1: 2 rules of profile baseline: \
             PRV-05 config.json#/process/capabilities: a privileged container; \
             CAP-03:SYS_ADMIN config.json#/process/capabilities/bounding: is granted; \
             CAP-03:SYS_PTRACE; CAP-03:SYS_BOOT; CAP-03:BPF; gabion explain PRV-05 says more"
        );
    }

    #[test]
    fn sub_keys_that_do_not_fit_are_counted_under_their_rule() {
        let make = |i| {
            finding(
                &format!("DEV-02:/dev/{}{i}", "d".repeat(40)),
                Action::Deny,
                "/linux/devices",
                "a device",
            )
        };
        let mut findings: Vec<Finding> = (0..40).map(make).collect();
        findings.extend(denials(2, "x"));
        assert_eq!(
            refused(&findings).line(),
            "gabion refused web-1: 3 rules of profile baseline: XYZ-00 config.json#/mounts/0/source: x; \
             XYZ-01 config.json#/mounts/1/source: x; DEV-02 (40 values) config.json#/linux/devices: a device; \
             gabion explain XYZ-00 says more"
        );
    }

    #[test]
    fn ids_that_do_not_fit_at_all_are_counted() {
        let line = refused(&denials(200, "x")).line();
        assert!(line.len() <= MAX_BYTES);
        assert!(line.contains("XYZ-00; XYZ-01; "));
        let shown = line.matches("XYZ-").count() - 1;
        assert!(
            line.ends_with(&format!(
                "; and {} more; gabion explain XYZ-00 says more",
                200 - shown
            )),
            "{line}"
        );
    }

    #[test]
    fn no_text_of_a_bundle_breaks_the_line_or_the_terminal() {
        let mut findings = denials(1, "raw \n\u{1b}[31m");
        findings[0].pointer = "/linux/sysctl/a\nb".to_owned();
        findings[0].rule = "DEV-02:/dev/\u{7}".to_owned();
        let mut report = refused(&findings);
        let long = "n\n".repeat(200);
        report.subject.name = &long;
        let line = report.line();
        assert!(!line.chars().any(char::is_control), "{line:?}");
        assert!(line.len() <= MAX_BYTES);
        assert!(
            line.contains("DEV-02:/dev/\\u{7} config.json#/linux/sysctl/a\\nb: raw \\n\\u{1b}[31m"),
            "{line}"
        );
    }

    #[test]
    fn a_bundle_cannot_make_docker_report_a_failure_of_the_workload() {
        let findings = denials(
            1,
            "\"/x/Permission Denied/executable file not found/no such file or directory\"",
        );
        let line = refused(&findings).line();
        assert!(
            line.contains("\"/x/Permission_Denied/executable_file not found/no_such file or directory\"")
        );
    }

    #[test]
    fn no_rule_uses_words_that_docker_takes_for_a_failure_of_the_workload() {
        for rule in rules::all() {
            let rule_text = format!(
                "{} {} {} {} {} {}",
                rule.title,
                rule.meaning,
                rule.why,
                rule.hardening,
                rule.stops.join(" "),
                rule.mappings.lines().collect::<Vec<_>>().join(" ")
            );
            for phrase in MISLEADING {
                assert!(
                    !rule_text.to_lowercase().contains(phrase),
                    "{} says {phrase:?}",
                    rule.id
                );
            }
        }
    }
}
