//! A judgement for a person at a terminal.

use super::{Report, Row, Verdict, printable, reason, rows};
use crate::finding::{Action, Finding};

/// How to set the text.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Columns of the terminal; `None` leaves lines as long as they are, for files and pipes.
    pub width: Option<usize>,
    /// Mark ids with ANSI colours.
    pub colour: bool,
    /// Tell also what was hardened and what was only recorded; without it, a refusal tells its reasons alone.
    pub everything: bool,
}

/// Reasons are indented by this, under the id of their rule.
const INDENT: usize = 10;

/// A terminal narrower than this is treated as if it were this wide.
const MIN_WIDTH: usize = 40;

impl Report<'_> {
    /// The report as text, ending in a line end.
    pub fn text(&self, style: Style) -> String {
        let mut out = String::new();
        let headline = match (self.verdict, self.findings.is_empty()) {
            (Verdict::Admitted, true) => format!("{}: nothing to add", self.headline()),
            _ => self.headline(),
        };
        out.push_str(&wrap(&headline, 0, 2, style.width));
        out.push('\n');
        if self.verdict == Verdict::Refused {
            self.section(&mut out, Action::Deny, style);
        }
        let hardened = self.with_action(Action::Harden).count();
        let recorded = self.with_action(Action::Audit).count();
        if style.everything {
            if hardened > 0 {
                let would = if self.verdict == Verdict::Refused {
                    "would be hardened"
                } else {
                    "hardened"
                };
                out.push_str(&format!("{would}: safe values where the bundle has none\n"));
                self.section(&mut out, Action::Harden, style);
            }
            if recorded > 0 {
                out.push_str("recorded: tolerated by this profile\n");
                self.section(&mut out, Action::Audit, style);
            }
        } else if self.verdict == Verdict::Admitted && hardened + recorded > 0 {
            out.push_str(&format!("  {hardened} hardened, {recorded} recorded\n"));
        }
        if let Some(more) = self.more() {
            out.push_str(&wrap(&more, 2, 2, style.width));
            out.push('\n');
        }
        out
    }

    /// The findings of one action, those of one rule together.
    fn section(&self, out: &mut String, action: Action, style: Style) {
        for group in self.by_rule(action) {
            for Row { first, likewise } in rows(&group) {
                finding(out, first, &likewise, style);
            }
            let stops = group[0].stops.join("; ");
            if action == Action::Deny && !stops.is_empty() {
                detail(out, "stops", &stops, style);
            }
        }
    }

    /// The last line: where to read on, and how to try again.
    fn more(&self) -> Option<String> {
        let rule = self
            .denying_rules()
            .first()
            .copied()
            .or(self.findings.first().map(Finding::rule_id))?;
        Some(match (self.verdict, self.subject.bundle) {
            (Verdict::Refused, Some(bundle)) => format!(
                "gabion explain {rule} says more; gabion check --bundle {} tries again without running anything.",
                shell_word(bundle)
            ),
            _ => format!("gabion explain {rule} says more; without a name it lists the rules."),
        })
    }
}

/// One finding, and the ids of others like it.
fn finding(out: &mut String, finding: &Finding, others: &[&Finding], style: Style) {
    let id = printable(&finding.rule);
    let set = wrap(&format!("{id}  {}", reason(finding, "")), 2, INDENT, style.width);
    out.push_str(&paint(&set, &id, finding.action, style.colour));
    out.push('\n');
    if !others.is_empty() {
        // Where the rule has no values of its own, the places tell them apart.
        let name = |other: &&Finding| match other.rule == finding.rule {
            true => format!("#{}", other.pointer),
            false => other.rule.clone(),
        };
        detail(
            out,
            "likewise",
            &others.iter().map(name).collect::<Vec<_>>().join(" "),
            style,
        );
    }
    if !finding.undecided {
        detail(out, "accepted", &finding.accepted, style);
    }
    if let Some(waiver) = finding.waiver.as_ref().filter(|waiver| !waiver.expired) {
        let text = format!("until {} by {}: {}", waiver.expires, waiver.owner, waiver.reason);
        detail(out, "waived", &text, style);
    }
}

fn detail(out: &mut String, label: &str, text: &str, style: Style) {
    out.push_str(&wrap(
        &format!("{label}: {}", printable(text)),
        INDENT,
        INDENT,
        style.width,
    ));
    out.push('\n');
}

/// Colours the id at the start of a line that was set with an indentation of two.
fn paint(line: &str, id: &str, action: Action, colour: bool) -> String {
    let code = match action {
        Action::Deny => "1;31",
        Action::Harden => "36",
        Action::Audit => "33",
    };
    match line.strip_prefix("  ").and_then(|rest| rest.strip_prefix(id)) {
        Some(rest) if colour => format!("  \u{1b}[{code}m{id}\u{1b}[0m{rest}"),
        _ => line.to_owned(),
    }
}

/// Sets words in lines of at most `width` columns: the first indented by `first`, the others by `rest`.
/// A word that is longer than a line is not broken, so that a path can be copied. Counts characters, which is
/// wrong for wide ones; they cost a line that is too long and nothing else.
pub fn wrap(text: &str, first: usize, rest: usize, width: Option<usize>) -> String {
    let mut out = " ".repeat(first);
    let Some(width) = width.map(|width| width.max(MIN_WIDTH)) else {
        out.push_str(text);
        return out;
    };
    let mut column = first;
    let mut fresh = true;
    for word in text.split(' ') {
        let length = word.chars().count();
        if !fresh && column + 1 + length > width && !word.is_empty() {
            out.truncate(out.trim_end_matches(' ').len());
            out.push('\n');
            out.push_str(&" ".repeat(rest));
            column = rest;
            fresh = true;
        }
        if !fresh {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
        fresh = false;
    }
    out
}

/// A path as a shell takes it.
fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", printable(text).replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{admitted, finding, refused, socket_and_capability};
    use super::*;

    const FILE: Style = Style {
        width: None,
        colour: false,
        everything: false,
    };
    const TERMINAL: Style = Style {
        width: Some(80),
        colour: false,
        everything: false,
    };

    #[test]
    fn a_refusal_on_a_terminal_of_80_columns() {
        let expected = "\
gabion refused web-1: 2 rules of profile baseline
  MNT-02  config.json#/mounts/9/source: \"/var/run/docker.sock\" is the Docker
          daemon's socket; whoever holds it is root on this host
          accepted: no mount of it
          stops: docker.sock escape
  CAP-03:SYS_ADMIN  config.json#/process/capabilities/bounding: grants
          CAP_SYS_ADMIN
          accepted: the set without it
          stops: release_agent escape; mount of the host's disk
  gabion explain MNT-02 says more; gabion check --bundle /run/b/web-1 tries
  again without running anything.
";
        let text = refused(&socket_and_capability()).text(TERMINAL);
        assert_eq!(text, expected);
        assert!(text.lines().all(|line| line.chars().count() <= 80));
    }

    #[test]
    fn a_refusal_in_a_file_has_one_line_for_each_thing_said() {
        let expected = "\
gabion refused web-1: 2 rules of profile baseline
  MNT-02  config.json#/mounts/9/source: \"/var/run/docker.sock\" is the Docker daemon's socket; whoever holds it is root on this host
          accepted: no mount of it
          stops: docker.sock escape
  CAP-03:SYS_ADMIN  config.json#/process/capabilities/bounding: grants CAP_SYS_ADMIN
          accepted: the set without it
          stops: release_agent escape; mount of the host's disk
  gabion explain MNT-02 says more; gabion check --bundle /run/b/web-1 tries again without running anything.
";
        assert_eq!(refused(&socket_and_capability()).text(FILE), expected);
    }

    #[test]
    fn everything_tells_also_what_is_hardened_and_what_is_recorded() {
        let text = refused(&socket_and_capability()).text(Style {
            everything: true,
            ..TERMINAL
        });
        assert!(text.contains(
            "\nwould be hardened: safe values where the bundle has none
  NS-06  config.json#/linux/namespaces: no cgroup namespace
          accepted: an entry of type cgroup
recorded: tolerated by this profile
  PRV-02  config.json#/process/user/uid: 0, which is root
          accepted: something else
  gabion explain MNT-02 says more;"
        ));
    }

    #[test]
    fn an_admitted_bundle_is_told_in_a_few_words() {
        let effective = serde_json::json!({});
        let findings = socket_and_capability()[2..].to_vec();
        assert_eq!(
            admitted(&findings, &effective).text(FILE),
            "gabion admitted web-1 under profile baseline\n  1 hardened, 1 recorded\n  \
             gabion explain NS-06 says more; without a name it lists the rules.\n"
        );
        assert_eq!(
            admitted(&[], &effective).text(FILE),
            "gabion admitted web-1 under profile baseline: nothing to add\n"
        );
    }

    #[test]
    fn a_row_of_values_at_one_place_is_told_once_and_after_what_says_more() {
        let capability = |name: &str| {
            finding(
                &format!("CAP-03:{name}"),
                Action::Deny,
                "/process/capabilities/bounding",
                "too much",
            )
        };
        let mut findings = ["SYS_ADMIN", "SYS_PTRACE", "SYS_BOOT", "BPF"]
            .map(capability)
            .to_vec();
        let expected = "\
  CAP-03:SYS_ADMIN  config.json#/process/capabilities/bounding: too much
          likewise: CAP-03:SYS_PTRACE CAP-03:SYS_BOOT CAP-03:BPF
          accepted: something else
          stops: an attack
";
        assert!(refused(&findings).text(FILE).contains(expected));
        findings.push(finding(
            "PRV-05",
            Action::Deny,
            "/process/capabilities",
            "a privileged container",
        ));
        let text = refused(&findings).text(FILE);
        let (first, second) = (
            text.find("  PRV-05  ").unwrap(),
            text.find("  CAP-03:SYS_ADMIN  ").unwrap(),
        );
        assert!(first < second);
        assert!(text.contains("gabion explain PRV-05 says more"));
    }

    #[test]
    fn a_row_without_values_names_its_places() {
        let findings: Vec<Finding> = (0..4)
            .map(|i| {
                finding(
                    "MNT-12",
                    Action::Deny,
                    &format!("/mounts/{i}/source"),
                    "is not known",
                )
            })
            .collect();
        let text = refused(&findings).text(FILE);
        assert!(
            text.contains("\n          likewise: #/mounts/1/source #/mounts/2/source #/mounts/3/source\n"),
            "{text}"
        );
    }

    #[test]
    fn a_few_values_at_one_place_are_told_one_by_one() {
        let findings = ["A", "B"].map(|name| finding(&format!("CAP-03:{name}"), Action::Deny, "/x", name));
        let text = refused(&findings).text(FILE);
        assert!(text.contains("\n  CAP-03:A  config.json#/x: A\n          accepted: something else\n"));
        assert!(text.contains("\n  CAP-03:B  config.json#/x: B\n          accepted: something else\n"));
    }

    #[test]
    fn what_could_not_be_decided_promises_no_way_out() {
        let mut findings = [finding(
            "NS-09",
            Action::Audit,
            "/linux/namespaces/1/path",
            "is not known",
        )];
        findings[0].undecided = true;
        let effective = serde_json::json!({});
        let text = admitted(&findings, &effective).text(Style {
            everything: true,
            ..FILE
        });
        assert!(
            text.contains("is not known\n  gabion explain NS-09 says more"),
            "{text}"
        );
    }

    #[test]
    fn colour_marks_ids_and_nothing_else() {
        let text = refused(&socket_and_capability()).text(Style {
            colour: true,
            ..TERMINAL
        });
        assert!(text.contains("\n  \u{1b}[1;31mMNT-02\u{1b}[0m  config.json#/mounts/9/source"));
        let plain = text.replace("\u{1b}[1;31m", "").replace("\u{1b}[0m", "");
        assert_eq!(plain, refused(&socket_and_capability()).text(TERMINAL));
    }

    #[test]
    fn no_text_of_a_bundle_reaches_the_terminal_raw() {
        let mut findings = socket_and_capability();
        for finding in &mut findings {
            finding.rule.push_str(":\u{1b}c");
            finding.pointer.push_str("\u{1b}[2J");
            finding.found.push('\r');
            finding.accepted.push('\u{202e}');
        }
        let mut report = refused(&findings);
        report.subject.name = "\u{1b}]0;title\u{7}";
        report.subject.bundle = Some("/run/'\u{1b}'");
        let text = report.text(Style {
            everything: true,
            ..TERMINAL
        });
        assert!(
            !text
                .chars()
                .any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'),
            "{text:?}"
        );
        assert!(
            text.contains(r"gabion check --bundle '/run/'\''\u{1b}'\'''"),
            "{text}"
        );
    }

    #[test]
    fn a_word_longer_than_the_line_stays_whole() {
        let path = "/".repeat(120);
        let set = wrap(&format!("see {path} there"), 2, 4, Some(80));
        assert_eq!(set, format!("  see\n    {path}\n    there"));
    }
}
