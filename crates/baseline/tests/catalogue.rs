//! The catalogue as a whole: whatever topic a rule is in and whoever wrote it, it has all its texts, its
//! levels are the reviewed ones, and it can be found.
#![allow(
    clippy::panic,
    reason = "a table that cannot be read fails the test that reads it"
)]

use std::collections::{BTreeMap, BTreeSet};

use gabion_baseline::profile::{Level, Levels};
use gabion_baseline::{Profile, Rule, rules};

/// The reviewed levels, by rule.
fn reviewed() -> BTreeMap<String, Levels> {
    let mut table = BTreeMap::new();
    let lines = include_str!("levels.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    for line in lines {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [id, privileged, baseline, restricted] = columns[..] else {
            panic!("levels.txt: {line:?}")
        };
        let levels = Levels::new(level(privileged), level(baseline), level(restricted));
        assert_eq!(
            table.insert(id.to_owned(), levels),
            None,
            "levels.txt has {id} twice"
        );
    }
    table
}

fn level(word: &str) -> Level {
    match word {
        "off" => Level::Off,
        "audit" => Level::Audit,
        "harden" => Level::Harden,
        "deny" => Level::Deny,
        _ => panic!("levels.txt: {word:?} is no level"),
    }
}

/// The texts of a rule that are sentences for people, under their names.
fn sentences(rule: &Rule) -> Vec<(&'static str, &'static str)> {
    let mut all = vec![("meaning", rule.meaning), ("why", rule.why)];
    all.extend(rule.remedies.named());
    all
}

#[test]
fn every_rule_says_what_to_do_with_docker_kubernetes_and_the_file_itself() {
    for rule in rules::all() {
        let named: BTreeSet<_> = rule.remedies.named().map(|(name, _)| name).collect();
        for name in ["Docker", "Kubernetes", "config.json"] {
            assert!(named.contains(name), "{} has no remedy for {name}", rule.id);
        }
        // What differs is told apart: nobody looks for podman's flag under Docker.
        for (name, text) in rule.remedies.named() {
            assert!(
                name == "podman" || !text.contains("with podman") && !text.contains("For podman"),
                "{} {name}: {text:?}",
                rule.id
            );
        }
    }
}

#[test]
fn every_rule_has_an_id_of_its_own_by_which_it_is_found() {
    let mut seen = BTreeSet::new();
    for rule in rules::all() {
        let (topic, number) = rule.id.split_once('-').unwrap_or_default();
        assert!(
            !topic.is_empty() && topic.bytes().all(|b| b.is_ascii_uppercase()),
            "{}",
            rule.id
        );
        assert!(
            number.len() == 2 && number.bytes().all(|b| b.is_ascii_digit()),
            "{}",
            rule.id
        );
        assert!(seen.insert(rule.id), "{} is there twice", rule.id);
        assert!(std::ptr::eq(rules::find(rule.id).unwrap(), rule), "{}", rule.id);
        assert!(
            std::ptr::eq(rules::find(&format!("{}:VALUE", rule.id)).unwrap(), rule),
            "{}",
            rule.id
        );
    }
    assert!(rules::find("CAP-00").is_none());
}

#[test]
fn every_rule_is_listed_under_a_topic_with_a_title() {
    let mut titles = BTreeSet::new();
    for (title, rules) in rules::TOPICS {
        assert!(!title.is_empty() && !rules.is_empty(), "{title:?}");
        assert!(titles.insert(title), "the topic {title:?} is there twice");
    }
}

#[test]
fn every_text_says_something_in_whole_sentences() {
    for rule in rules::all() {
        for (name, text) in sentences(rule) {
            assert!(
                text.ends_with('.'),
                "{} {name} does not end with a full stop: {text:?}",
                rule.id
            );
            assert!(text.len() >= 12, "{} {name} says too little: {text:?}", rule.id);
        }
        for (name, text) in sentences(rule)
            .into_iter()
            .chain([("title", rule.title), ("hardening", rule.hardening)])
        {
            // A line continued in the source keeps one blank; two are its indentation, shown to the reader.
            assert!(
                !text.contains("  ") && !text.contains('\n'),
                "{} {name}: {text:?}",
                rule.id
            );
            assert_eq!(text, text.trim(), "{} {name}", rule.id);
        }
        assert!(!rule.title.is_empty(), "{} has no title", rule.id);
        assert!(
            !rule.title.ends_with('.') && !rule.hardening.ends_with('.'),
            "{}: a phrase, not a sentence",
            rule.id
        );
        assert!(!rule.stops.is_empty(), "{} stops nothing", rule.id);
        for stopped in rule.stops {
            assert!(
                !stopped.is_empty() && (!stopped.ends_with('.') || stopped.ends_with("..")),
                "{} stops {stopped:?}",
                rule.id
            );
        }
    }
}

#[test]
fn every_field_is_a_json_pointer() {
    for rule in rules::all() {
        for field in rule.fields {
            assert!(
                field.is_empty() || field.starts_with('/'),
                "{} looks at {field:?}",
                rule.id
            );
            assert!(
                !field.ends_with('/') && !field.contains("//"),
                "{} looks at {field:?}",
                rule.id
            );
            for (index, _) in field.match_indices('~') {
                let escape = field[index + 1..].chars().next();
                assert!(
                    matches!(escape, Some('0' | '1')),
                    "{} looks at {field:?}",
                    rule.id
                );
            }
        }
    }
}

#[test]
fn every_rule_can_be_traced_to_nist_sp_800_190() {
    // Of the four catalogues it is the one that speaks of everything a runtime does.
    for rule in rules::all() {
        assert!(
            !rule.mappings.nist_800_190.is_empty(),
            "{} maps to no section",
            rule.id
        );
        assert!(
            rule.mappings
                .lines()
                .any(|line| line.starts_with("NIST SP 800-190 ")),
            "{}",
            rule.id
        );
    }
}

#[test]
fn every_level_is_the_reviewed_one() {
    let reviewed = reviewed();
    for rule in rules::all() {
        let Some(levels) = reviewed.get(rule.id) else {
            panic!("{} is not in levels.txt", rule.id)
        };
        assert_eq!(rule.levels, *levels, "{}", rule.id);
    }
}

/// Rules that the catalogue may not be without.
const INDISPENSABLE: &str = "
    CAP-01 CAP-02 CAP-03 CAP-04 CAP-05 CAP-06
    NS-01 NS-02 NS-03 NS-04 NS-05 NS-06 NS-09
    SEC-01 SEC-02 LSM-01 LSM-02 LSM-03
    PRV-01 PRV-02 PRV-04 PRV-05 PRV-09
    MNT-01 MNT-02 MNT-03 MNT-04 MNT-05 MNT-06 MNT-07 MNT-08 MNT-09 MNT-10 MNT-11 MNT-12
    DEV-01 DEV-02 DEV-03 DEV-04 ROOT-01 ROOT-02 ROOT-03
    SYS-01 SYS-02 SYS-03 PTH-01 PTH-02 PTH-03 RES-01 RES-04 RES-05
    HOOK-01 HOOK-02 ANN-01 ANN-02 NET-01 TTY-02 HOST-03
";

#[test]
fn no_indispensable_rule_has_been_lost() {
    let lost: Vec<&str> = INDISPENSABLE
        .split_whitespace()
        .filter(|id| rules::find(id).is_none())
        .collect();
    assert_eq!(lost, Vec::<&str>::new());
}

#[test]
fn a_rule_that_hardens_says_what_it_adds() {
    for rule in rules::all() {
        let hardens = Profile::ALL
            .into_iter()
            .any(|profile| rule.levels.of(profile) == Level::Harden);
        assert!(
            !hardens || !rule.hardening.is_empty(),
            "{} hardens and does not say what it adds",
            rule.id
        );
    }
}

#[test]
fn a_rule_that_guards_the_runtime_itself_hardens_nothing() {
    for rule in rules::all().filter(|rule| rule.is_immutable()) {
        assert_eq!(
            rule.hardening, "",
            "{} is denied everywhere, so its hardening would never be applied",
            rule.id
        );
    }
}
