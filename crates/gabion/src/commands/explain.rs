//! `gabion explain`: the catalogue of rules, and of the reality gate's checks, for people.

use std::process::ExitCode;

use clap::Args;
use gabion_baseline::nearest::nearest;
use gabion_baseline::profile::Level;
use gabion_baseline::report::wrap;
use gabion_baseline::rules;
use gabion_baseline::{Profile, Rule};
use gabion_descent::checks::{self, CHECKS, CheckInfo};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::print::{self, Format};

/// Say what a rule means, what it stops and how to satisfy it
///
/// Of a check of the reality gate, such as V-10, say what it compares and what usually
/// explains a difference. Without either, list all rules with what each profile does
/// about a violation (deny refuses the bundle, harden adds a safe value, audit records
/// it), and all checks.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// Id of a rule, such as MNT-02 or CAP-03:SYS_ADMIN, or of a check, such as V-10
    #[arg(value_name = "RULE")]
    rule: Option<String>,

    #[command(flatten)]
    format: Format,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let Some(id) = &options.rule else {
        return match options.format.is_json() {
            false => print::out(&list(print::prose_width())),
            true => print::json(&json!({"version": 1, "rules": everything(), "checks": all_checks()})),
        };
    };
    if let Some(check) = checks::find(id) {
        return match options.format.is_json() {
            false => print::out(&check_page(check, print::prose_width())),
            true => print::json(&json!({"version": 1, "checks": [check_entry(check)]})),
        };
    }
    let rule = rules::find(id).ok_or_else(|| unknown(id))?;
    match options.format.is_json() {
        false => print::out(&page(rule, print::prose_width())),
        true => print::json(&json!({"version": 1, "rules": [entry(topic(rule), rule)]})),
    }
}

fn unknown(id: &str) -> Failure {
    let rule_id = id.split(':').next().unwrap_or(id);
    let ids = rules::all().map(|rule| rule.id);
    let hint = match nearest(rule_id, ids.chain(CHECKS.iter().map(|check| check.id))) {
        Some(near) => format!("; did you mean {near}?"),
        None => ".".to_owned(),
    };
    Failure::error(format!(
        "there is no rule or check {rule_id:?}{hint} `gabion explain` lists all of them"
    ))
}

/// All rules by topic, one line each.
fn list(width: usize) -> String {
    // The titles begin after the id and three levels.
    const TITLE: usize = 30;
    let legend = "Each rule with its level in the profiles privileged, baseline and restricted. deny: refused; \
                  harden: a safe value is added; audit: recorded; -: not looked at.";
    let mut out = format!("{}\n", wrap(legend, 0, 0, Some(width)));
    for (topic, rules) in rules::TOPICS.iter().filter(|(_, rules)| !rules.is_empty()) {
        out.push_str(&format!("\n{topic}\n"));
        for rule in *rules {
            let [privileged, baseline, restricted] =
                Profile::ALL.map(|profile| word(rule.levels.of(profile)));
            let line = format!(
                "{:<8} {privileged:<6} {baseline:<6} {restricted:<6} {}",
                rule.id, rule.title
            );
            out.push_str(&wrapped_after_columns(&line, TITLE, width));
        }
    }
    out.push_str("\nChecks of the reality gate, by what the kernel says right before execve\n");
    for check in &CHECKS {
        out.push_str(&format!("{:<8} {}\n", check.id, check.title));
    }
    out.push_str("\ngabion explain RULE, or CHECK, says more about one of them.\n");
    out
}

/// Wraps the last column of a table; the columns before it keep their spaces.
fn wrapped_after_columns(line: &str, column: usize, width: usize) -> String {
    let (columns, title) = line.split_at(column.min(line.len()));
    let title = wrap(title, column, column, Some(width));
    format!("{columns}{}\n", title.trim_start())
}

/// One rule in full.
fn page(rule: &Rule, width: usize) -> String {
    let mut out = Page {
        text: String::new(),
        width,
    };
    out.line(0, &format!("{}  {}", rule.id, rule.title));
    out.paragraph("Violated when", rule.meaning);
    out.paragraph("Why", rule.why);
    out.items("Stops", rule.stops.iter().copied());
    if rule.fields.is_empty() {
        out.paragraph("Looks at", "The runtime itself, and nothing in config.json.");
    } else {
        out.items("Looks at", rule.fields.iter().copied());
    }
    out.title("In each profile");
    for profile in Profile::ALL {
        out.labelled(profile.name(), describe(rule.levels.of(profile)));
    }
    if rule.is_immutable() {
        out.line(2, "It guards the runtime itself: no policy changes that.");
    }
    if !rule.hardening.is_empty() {
        out.paragraph("Hardening", rule.hardening);
    }
    out.title("How to satisfy it");
    for (name, remedy) in rule.remedies.named() {
        out.labelled(name, remedy);
    }
    let references: Vec<String> = rule.mappings.lines().collect();
    out.items(
        "The same in other catalogues",
        references.iter().map(String::as_str),
    );
    out.text
}

/// One check in full.
fn check_page(check: &CheckInfo, width: usize) -> String {
    let mut out = Page {
        text: String::new(),
        width,
    };
    out.line(0, &format!("{}  {}", check.id, check.title));
    out.paragraph("Compares", check.compares);
    out.paragraph("Catches", check.catches);
    out.paragraph("When it differs", check.remedy);
    out.paragraph(
        "What happened to the container",
        "It was not built as it was judged, so its program was not executed. No policy changes that. gabion verify makes \
         most of these checks again while a container runs.",
    );
    out.text
}

fn all_checks() -> Vec<Value> {
    CHECKS.iter().map(check_entry).collect()
}

fn check_entry(check: &CheckInfo) -> Value {
    json!({
        "id": check.id,
        "title": check.title,
        "compares": check.compares,
        "catches": check.catches,
        "remedy": check.remedy,
    })
}

/// A page under construction.
struct Page {
    text: String,
    width: usize,
}

impl Page {
    fn line(&mut self, indent: usize, text: &str) {
        self.text.push_str(&wrap(text, indent, indent, Some(self.width)));
        self.text.push('\n');
    }

    fn title(&mut self, title: &str) {
        self.text.push_str(&format!("\n{title}\n"));
    }

    fn paragraph(&mut self, title: &str, text: &str) {
        self.title(title);
        self.line(2, text);
    }

    fn items<'a>(&mut self, title: &str, items: impl Iterator<Item = &'a str>) {
        let mut items = items.peekable();
        if items.peek().is_none() {
            return;
        }
        self.title(title);
        for item in items {
            self.text
                .push_str(&wrap(&format!("- {item}"), 2, 4, Some(self.width)));
            self.text.push('\n');
        }
    }

    fn labelled(&mut self, label: &str, text: &str) {
        const COLUMN: usize = 15;
        let label = format!("  {label:<13}");
        let text = wrap(text, COLUMN, COLUMN, Some(self.width));
        self.text.push_str(&format!("{label}{}\n", text.trim_start()));
    }
}

fn describe(level: Level) -> &'static str {
    match level {
        Level::Off => "off: not looked at",
        Level::Audit => "audit: recorded, and runs",
        Level::Harden => "harden: a safe value is added, or where that cannot be, refused",
        Level::Deny => "deny: refused",
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Off => "-",
        Level::Audit => "audit",
        Level::Harden => "harden",
        Level::Deny => "deny",
    }
}

fn topic(rule: &Rule) -> &'static str {
    let holds = |rules: &[&Rule]| rules.iter().any(|other| other.id == rule.id);
    rules::TOPICS
        .iter()
        .find(|(_, rules)| holds(rules))
        .map_or("", |(topic, _)| topic)
}

fn everything() -> Vec<Value> {
    rules::TOPICS
        .iter()
        .flat_map(|(topic, rules)| rules.iter().map(|rule| entry(topic, rule)))
        .collect()
}

fn entry(topic: &str, rule: &Rule) -> Value {
    let mappings = rule.mappings;
    json!({
        "id": rule.id,
        "topic": topic,
        "title": rule.title,
        "meaning": rule.meaning,
        "why": rule.why,
        "stops": rule.stops,
        "fields": rule.fields,
        "levels": rule.levels,
        "immutable": rule.is_immutable(),
        "hardening": rule.hardening,
        "remedies": {
            "docker": rule.remedies.docker,
            "podman": rule.remedies.podman,
            "ctr": rule.remedies.ctr,
            "kubernetes": rule.remedies.kubernetes,
            "config": rule.remedies.config,
        },
        "mappings": {
            "pss": mappings.pss,
            "cisDocker": mappings.cis_docker,
            "nsa": mappings.nsa,
            "nist800190": mappings.nist_800_190,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_listed_once_and_has_a_page_that_fits_a_terminal() {
        let list = list(80);
        assert!(list.lines().all(|line| line.chars().count() <= 80), "{list}");
        for rule in rules::all() {
            assert_eq!(
                list.lines()
                    .filter(|line| line.starts_with(&format!("{} ", rule.id)))
                    .count(),
                1
            );
            let page = page(rule, 80);
            for line in page.lines().filter(|line| line.split_whitespace().count() > 3) {
                assert!(line.chars().count() <= 80, "{}: {line}", rule.id);
            }
            for part in [
                "\nViolated when\n",
                "\nWhy\n",
                "\nHow to satisfy it\n  Docker  ",
                "\n  config.json  ",
            ] {
                assert!(page.contains(part), "{} has no {part:?}", rule.id);
            }
        }
    }

    #[test]
    fn every_check_is_listed_and_has_a_page_that_fits_a_terminal() {
        let list = list(80);
        for check in &CHECKS {
            assert!(list.contains(&format!("\n{}     {}\n", check.id, check.title)));
            let page = check_page(check, 80);
            assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
            let page = check_page(check, 4000);
            for text in [check.compares, check.catches, check.remedy] {
                assert!(page.contains(text), "{page}");
            }
        }
        assert_eq!(all_checks().len(), CHECKS.len());
    }

    #[test]
    fn a_page_has_everything_that_is_known_of_a_rule() {
        let rule = rules::find("CAP-01").unwrap();
        let page = page(rule, 4000);
        for text in [
            rule.title,
            rule.meaning,
            rule.why,
            rule.hardening,
            rule.remedies.docker,
            rule.remedies.config,
        ] {
            assert!(page.contains(text), "{text}");
        }
        for reference in rule.mappings.lines() {
            assert!(page.contains(&format!("\n  - {reference}\n")), "{reference}");
        }
        assert!(page.contains("\nIn each profile\n  privileged   audit: recorded, and runs\n"));
    }

    #[test]
    fn an_unknown_rule_is_answered_with_the_nearest() {
        assert_eq!(
            unknown("CAP-1").line(),
            "there is no rule or check \"CAP-1\"; did you mean CAP-01? `gabion explain` lists all of them"
        );
        assert_eq!(
            unknown("V-1").line(),
            "there is no rule or check \"V-1\"; did you mean V-01? `gabion explain` lists all of them"
        );
        assert_eq!(
            unknown("something").line(),
            "there is no rule or check \"something\". `gabion explain` lists all of them"
        );
    }

    #[test]
    fn a_rule_is_found_as_a_finding_names_it() {
        assert_eq!(rules::find("cap-01:SYS_ADMIN").unwrap().id, "CAP-01");
    }

    #[test]
    fn the_json_names_topic_levels_and_remedies() {
        let rule = rules::find("CAP-01").unwrap();
        let entry = entry(topic(rule), rule);
        assert_eq!(entry["topic"], "Capabilities");
        assert_eq!(
            entry["levels"],
            json!({"privileged": "audit", "baseline": "harden", "restricted": "harden"})
        );
        assert_eq!(entry["remedies"]["docker"], rule.remedies.docker);
        assert_eq!(everything().len(), rules::all().count());
    }
}
