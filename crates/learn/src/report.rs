//! What was learnt, for a person: what is needed, what was denied, and what nobody knows.

use std::collections::BTreeSet;

use gabion_baseline::report::wrap;

use crate::forms::Sets;
use crate::observations::Observations;
use crate::profile::BASE;

/// What a report is about.
#[derive(Debug)]
pub struct Report<'a> {
    /// All that was seen.
    pub seen: &'a Observations,
    /// Calls that the profile in force let through.
    pub before: &'a BTreeSet<String>,
    /// Calls that the learnt one lets through.
    pub after: &'a BTreeSet<String>,
    /// The container's capabilities.
    pub held: &'a Sets,
    /// Why denied calls and capabilities could not be seen in the last run, if so.
    pub untraced: Option<&'a str>,
    /// Whether to name what was not seen, rather than to count it.
    pub everything: bool,
    /// In columns, if there is a terminal's width.
    pub width: Option<usize>,
}

impl Report<'_> {
    /// The whole text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let runs = self.seen.runs.len();
        for (index, run) in self.seen.runs.iter().enumerate() {
            let new = match (index, run.new.len()) {
                (0, _) => String::new(),
                (_, 0) => "; no call that was not known by then".to_owned(),
                (_, _) => format!("; new: {}", run.new.join(", ")),
            };
            self.paragraph(
                &mut out,
                &format!(
                    "Run {} of {runs}: {} s, {}{new}.",
                    index + 1,
                    run.seconds,
                    run.ended
                ),
            );
        }
        let watched: Vec<&str> = self
            .seen
            .calls
            .keys()
            .map(String::as_str)
            .filter(|name| !BASE.contains(name))
            .collect();
        self.list(&mut out, "System calls that were made", &watched);
        let base: Vec<&str> = BASE
            .iter()
            .copied()
            .filter(|name| self.after.contains(*name))
            .collect();
        self.list(
            &mut out,
            "Allowed without having been watched, for every program",
            &base,
        );
        let denied: Vec<String> = self
            .seen
            .denied
            .iter()
            .map(|(name, denied)| {
                let doubt = if denied.certain { "" } else { ", or the kernel did" };
                format!("{name} {}{doubt} ({} times)", denied.answer, denied.count)
            })
            .collect();
        if !denied.is_empty() {
            self.list(
                &mut out,
                "Wanted, and denied by the profile in force, as by the learnt one",
                &denied.iter().map(String::as_str).collect::<Vec<_>>(),
            );
        }
        self.capabilities(&mut out);
        let unseen: Vec<&str> = self.before.difference(self.after).map(String::as_str).collect();
        if self.everything {
            self.list(&mut out, "Not seen: allowed so far, denied from now on", &unseen);
        } else {
            let text = format!(
                "Not seen: {} calls that were allowed so far, and are denied from now on; report.txt names them.",
                unseen.len()
            );
            out.push('\n');
            self.paragraph(&mut out, &text);
        }
        self.doubts(&mut out);
        out
    }

    fn capabilities(&self, out: &mut String) {
        let Some(bounding) = self.held.get("bounding").filter(|names| !names.is_empty()) else {
            return;
        };
        if !self.seen.knows_capabilities() {
            self.list(
                out,
                "Capabilities: not seen, so all stay",
                &bounding.iter().map(String::as_str).collect::<Vec<_>>(),
            );
            return;
        }
        let (used, unused): (Vec<&str>, Vec<&str>) = bounding
            .iter()
            .map(String::as_str)
            .partition(|name| self.seen.capabilities.contains_key(*name));
        self.list(out, "Capabilities that were used", &used);
        self.list(out, "Capabilities that were not used, to be dropped", &unused);
        let missing: Vec<&str> = self
            .seen
            .missing
            .keys()
            .map(String::as_str)
            .filter(|name| !bounding.iter().any(|held| held == name))
            .collect();
        if !missing.is_empty() {
            self.list(
                out,
                "Capabilities that the kernel asked for and did not find, mostly in passing",
                &missing,
            );
        }
    }

    fn doubts(&self, out: &mut String) {
        out.push_str("\nWhat nobody knows\n");
        let mut doubts = vec![
            "What did not happen is not in the profile: errors, reloads, rotation of logs, load, the end of the service. \
             Let the workload do all of it, and add further runs with --merge."
                .to_owned(),
            "Another version of the image, of its C library or of the kernel may make other calls. Watch again after an \
             upgrade."
                .to_owned(),
        ];
        if self.seen.runs.iter().any(|run| !run.attached) {
            doubts.push(
                "Processes that exec put into the container were not watched. If a health check runs in it, it has to be \
                 part of the workload once, or be watched with --watch."
                    .to_owned(),
            );
        }
        if let Some(why) = self.untraced {
            doubts.push(format!("Denied calls and capabilities could not be seen: {why}."));
        }
        let lost = |attached| -> u64 {
            let runs = self.seen.runs.iter().filter(|run| run.attached == attached);
            runs.map(|run| run.lost).sum()
        };
        if lost(false) > 0 {
            doubts.push(format!(
                "{} events of the kernel's trace were lost, so denied calls and capabilities are not complete; \
                 capabilities stay as they are. The system calls that were made are.",
                lost(false)
            ));
        }
        if lost(true) > 0 {
            doubts.push(format!(
                "{} events of the kernel's trace were lost while a container was watched that somebody else ran, so \
                 nothing is complete, the system calls neither; capabilities stay as they are. Watch again, with less \
                 load, and --merge.",
                lost(true)
            ));
        }
        if !self.seen.unnamed.is_empty() {
            doubts.push(format!(
                "Calls without a name here are not in the profile: {}.",
                self.seen.unnamed.iter().cloned().collect::<Vec<_>>().join(", ")
            ));
        }
        for doubt in doubts {
            out.push_str(&wrap(&format!("- {doubt}"), 2, 4, self.width));
            out.push('\n');
        }
    }

    fn paragraph(&self, out: &mut String, text: &str) {
        out.push_str(&wrap(text, 0, 2, self.width));
        out.push('\n');
    }

    fn list(&self, out: &mut String, title: &str, names: &[&str]) {
        out.push_str(&format!("\n{title} ({})\n", names.len()));
        if !names.is_empty() {
            out.push_str(&wrap(&names.join(", "), 2, 2, self.width));
            out.push('\n');
        }
    }
}
