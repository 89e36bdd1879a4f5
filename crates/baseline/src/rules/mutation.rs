//! The tests of the tests: no rule of the catalogue can be taken away, and none can object to everything, without a
//! table that turns red.
//!
//! [`judge`](crate::judge()) can be told, in tests alone, to leave one rule out or to have it object once more. The
//! tests run once and note which rules they ask for; after that, for each rule, those that asked for it run again
//! beside the mutant. Each side of a rule has its own: a mutant that is silent is seen by a table with a violation, one
//! that always objects by a table with a near miss.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use crate::finding::Finding;
use crate::rule::{Rule, Violations};

/// `silent CAP-03` or `loud CAP-03`.
const MUTANT: &str = "GABION_TEST_MUTANT";
/// The file that what was asked is noted in.
const RECORD: &str = "GABION_TEST_RECORD";

/// How a rule is broken.
const SILENT: &str = "silent";
const LOUD: &str = "loud";

static OF_THIS_RUN: LazyLock<Option<(String, String)>> = LazyLock::new(|| {
    let text = std::env::var(MUTANT).ok()?;
    let (way, rule) = text.split_once(' ')?;
    Some((way.to_owned(), rule.to_owned()))
});

static NOTES: LazyLock<Option<File>> = LazyLock::new(|| {
    let path = std::env::var_os(RECORD)?;
    Some(OpenOptions::new().append(true).create(true).open(path).unwrap())
});

/// What a rule found, unless it is the mutant of this run.
pub(crate) fn change(rule: &Rule, violations: &mut Violations) {
    match &*OF_THIS_RUN {
        Some((way, id)) if id == rule.id && way == SILENT => *violations = Violations::default(),
        Some((way, id)) if id == rule.id && way == LOUD => {
            violations.report("", "a mutant", "no mutant");
        }
        _ => {}
    }
}

/// Notes that a table asked for a rule, and whether it was violated.
pub(crate) fn note(rule: &str, findings: &[Finding]) {
    let Some(mut file) = NOTES.as_ref() else { return };
    let thread = std::thread::current();
    let way = if findings.is_empty() { LOUD } else { SILENT };
    // One write: lines of several threads are not mixed.
    let line = format!("{} {way} {rule}\n", thread.name().unwrap_or_default());
    file.write_all(line.as_bytes()).unwrap();
}

/// Runs tests of this program; the names of those that failed.
fn run(variable: &str, value: &str, arguments: &[&str]) -> BTreeSet<String> {
    let output = Command::new(std::env::current_exe().unwrap())
        // On threads of their own even on one processor: a thread has the name of its test.
        .args(["--test-threads", "2"])
        .args(arguments)
        .env(variable, value)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("\ntest result: "), "{text}");
    text.lines()
        .filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"))
        .map(str::to_owned)
        .collect()
}

/// For each way and rule, the tests of the rules that could notice.
fn asked(record: &Path) -> BTreeMap<(String, String), BTreeSet<String>> {
    let failed = run(RECORD, record.to_str().unwrap(), &["--skip", "rules::mutation::"]);
    assert!(
        failed.is_empty(),
        "the tests fail with all rules as they are: {failed:?}"
    );
    let mut asked: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for line in fs::read_to_string(record).unwrap().lines() {
        let [test, way, rule] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line:?}")
        };
        if test.starts_with("rules::") {
            let tests = asked.entry((way.to_owned(), rule.to_owned())).or_default();
            tests.insert(test.to_owned());
        }
    }
    asked
}

#[test]
#[allow(clippy::print_stdout)] // how many tests notice, with --show-output
fn every_rule_that_is_broken_either_way_turns_a_table_red() {
    let directory = tempfile::tempdir().unwrap();
    let asked = asked(&directory.path().join("asked"));
    let mut unnoticed = Vec::new();
    for rule in super::all() {
        for way in [SILENT, LOUD] {
            let tests = asked.get(&(way.to_owned(), rule.id.to_owned()));
            let names: Vec<&str> = tests.into_iter().flatten().map(String::as_str).collect();
            let mutant = format!("{way} {}", rule.id);
            let noticed = match names[..] {
                [] => BTreeSet::new(),
                _ => run(MUTANT, &mutant, &[&["--exact"], &names[..]].concat()),
            };
            println!("{mutant}: {} of {} tests notice", noticed.len(), names.len());
            if noticed.is_empty() {
                unnoticed.push(mutant);
            }
        }
    }
    assert!(
        unnoticed.is_empty(),
        "no table notices these mutants: {unnoticed:?}"
    );
}
