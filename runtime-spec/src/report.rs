//! The result of a run, as lines, as a table, and as Markdown.

use crate::clause::{Clause, Outcome};
use crate::known::Known;
use std::fmt::Write;

/// One clause and what came of it.
pub struct Line {
    /// The clause.
    pub clause: Clause,
    /// What came of it.
    pub outcome: Outcome,
}

/// All results of a run, in the order of the registry.
pub struct Report<'a> {
    /// The results.
    pub lines: Vec<Line>,
    /// What the runtime is known not to do.
    pub known: &'a Known,
    /// What kind of cgroup machine it ran on.
    pub mode: &'static str,
}

/// How many of each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Demands met.
    pub passed: usize,
    /// Demands not met, the known ones included.
    pub failed: usize,
    /// Demands this machine cannot tell.
    pub skipped: usize,
}

impl Count {
    fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Pass => self.passed += 1,
            Outcome::Fail(_) => self.failed += 1,
            Outcome::Skip(_) => self.skipped += 1,
        }
    }
}

/// The line of one result, as it is printed while running.
pub fn line(line: &Line, known: &Known, mode: &str) -> String {
    let id = line.clause.id;
    match (&line.outcome, known.reason(id, mode)) {
        (Outcome::Pass, _) if !known.is_certain(id, mode) => format!("pass   {id}"),
        (Outcome::Pass, _) => format!("PASS?  {id}: known to fail, but passes; drop it from the list"),
        (Outcome::Fail(reason), None) => format!("FAIL   {id}: {reason}"),
        (Outcome::Fail(reason), Some(why)) => format!("known  {id}: {reason} ({why})"),
        (Outcome::Skip(reason), _) => format!("skip   {id}: {reason}"),
    }
}

impl Report<'_> {
    /// How many of each, in all.
    pub fn count(&self) -> Count {
        let mut count = Count::default();
        for line in &self.lines {
            count.add(&line.outcome);
        }
        count
    }

    /// The results that nobody expected: failures that are not known, and known failures that pass.
    pub fn surprises(&self) -> usize {
        let surprising = |line: &&Line| match line.outcome {
            Outcome::Pass => self.known.is_certain(line.clause.id, self.mode),
            Outcome::Fail(_) => self.known.reason(line.clause.id, self.mode).is_none(),
            Outcome::Skip(_) => false,
        };
        self.lines.iter().filter(surprising).count()
    }

    /// The table by document and the closing line.
    pub fn summary(&self) -> String {
        let mut documents: Vec<(&str, Count)> = Vec::new();
        for line in &self.lines {
            let document = line.clause.document();
            match documents.iter_mut().find(|(name, _)| *name == document) {
                Some((_, count)) => count.add(&line.outcome),
                None => {
                    let mut count = Count::default();
                    count.add(&line.outcome);
                    documents.push((document, count));
                }
            }
        }
        let mut text = format!(
            "{:<20} {:>6} {:>6} {:>7}\n",
            "document", "passed", "failed", "skipped"
        );
        for (name, count) in documents {
            let Count {
                passed,
                failed,
                skipped,
            } = count;
            text += &format!("{name:<20} {passed:>6} {failed:>6} {skipped:>7}\n");
        }
        let Count {
            passed,
            failed,
            skipped,
        } = self.count();
        text + &format!("\n{passed} passed, {failed} failed, {skipped} skipped\n")
    }

    /// A table of all clauses for the documentation.
    pub fn markdown(&self) -> String {
        let mut text = String::from("| clause | level | demand | result |\n| --- | --- | --- | --- |\n");
        for Line { clause, outcome } in &self.lines {
            let result = match outcome {
                Outcome::Pass => "pass".to_owned(),
                Outcome::Fail(reason) => {
                    let known = self.known.reason(clause.id, self.mode);
                    format!("**fail**: {}", cell(known.unwrap_or(reason)))
                }
                Outcome::Skip(reason) => format!("skip: {}", cell(reason)),
            };
            let (id, level, demand) = (clause.id, clause.level.word(), cell(clause.text));
            // Writing to a String cannot fail.
            if writeln!(text, "| `{id}` | {level} | {demand} | {result} |").is_err() {
                break;
            }
        }
        let Count {
            passed,
            failed,
            skipped,
        } = self.count();
        text + &format!("\n{passed} passed, {failed} failed, {skipped} skipped\n")
    }
}

/// Text that cannot break out of its table cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report<'a>(known: &'a Known, outcomes: &[(&'static str, Outcome)]) -> Report<'a> {
        let line = |(id, outcome): &(&'static str, Outcome)| Line {
            clause: Clause::must(id, "a | b", |_| Ok(())),
            outcome: outcome.clone(),
        };
        Report {
            lines: outcomes.iter().map(line).collect(),
            known,
            mode: "v2",
        }
    }

    #[test]
    fn the_closing_line_stands_alone_and_counts_known_failures_as_failures() {
        let known = Known::parse("a.md#y any it is so").unwrap();
        let outcomes = [
            ("a.md#x", Outcome::Pass),
            ("a.md#y", Outcome::Fail("no".into())),
            ("b.md#z", Outcome::Skip("nothing there".into())),
        ];
        let report = report(&known, &outcomes);
        assert_eq!(
            report.summary().lines().last(),
            Some("1 passed, 1 failed, 1 skipped")
        );
        assert_eq!(report.surprises(), 0);
        assert_eq!(
            report.markdown().lines().nth(3),
            Some("| `a.md#y` | MUST | a \\| b | **fail**: it is so |")
        );
    }

    #[test]
    fn a_known_failure_that_passes_is_a_surprise() {
        let known = Known::parse("a.md#y v2 it is so").unwrap();
        let passes = report(&known, &[("a.md#y", Outcome::Pass)]);
        assert_eq!(passes.surprises(), 1);
        let nothing = Known::default();
        let fails = report(&nothing, &[("a.md#y", Outcome::Fail("no".into()))]);
        assert_eq!(fails.surprises(), 1);
    }
}
