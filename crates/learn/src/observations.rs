//! What was seen, over all runs: the file that further runs are added to.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The version of the file.
const VERSION: u32 = 1;
/// How many different values of a call's arguments are kept. More are as good as any.
const MANY: usize = 128;

/// Everything that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observations {
    /// Of the file.
    pub version: u32,
    /// The runs, in order.
    pub runs: Vec<Run>,
    /// Calls that were made, by name. Those of [`crate::profile::BASE`] are not watched.
    pub calls: BTreeMap<String, Call>,
    /// Numbers that have no name here, such as calls newer than this program.
    pub unnamed: BTreeSet<String>,
    /// Calls that the profile in force denied, as far as that could be seen.
    pub denied: BTreeMap<String, Denied>,
    /// Capabilities that the kernel asked for and found, and how often.
    pub capabilities: BTreeMap<String, u64>,
    /// Capabilities that the kernel asked for and did not find.
    pub missing: BTreeMap<String, u64>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// When it began.
    pub began: String,
    /// How long it was, in whole seconds.
    pub seconds: u64,
    /// How it ended, in words.
    pub ended: String,
    /// Whether denied calls and capabilities could be seen.
    pub traced: bool,
    /// How many events of the trace were lost: what they would have told is missing.
    pub lost: u64,
    /// Whether somebody else ran it, and the calls were told by the trace.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub attached: bool,
    /// Names of the system calls that no run before this one had.
    pub new: Vec<String>,
}

/// A call that was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// How often.
    pub count: u64,
    /// The values of those arguments that rules are about, by their index.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub arguments: BTreeSet<BTreeMap<u8, u64>>,
    /// Whether there were more values than are kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// A call that was denied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Denied {
    /// What it got, such as `EPERM`.
    pub answer: String,
    /// How often.
    pub count: u64,
    /// Whether the profile denies it whatever its arguments: otherwise the kernel itself may have given that answer.
    pub certain: bool,
}

impl Default for Observations {
    fn default() -> Self {
        Observations {
            version: VERSION,
            runs: Vec::new(),
            calls: BTreeMap::new(),
            unnamed: BTreeSet::new(),
            denied: BTreeMap::new(),
            capabilities: BTreeMap::new(),
            missing: BTreeMap::new(),
        }
    }
}

impl Call {
    /// Counts one more, with these arguments.
    pub(crate) fn add(&mut self, arguments: BTreeMap<u8, u64>) {
        self.count += 1;
        self.keep(arguments);
    }

    fn keep(&mut self, arguments: BTreeMap<u8, u64>) {
        if arguments.is_empty() || self.arguments.contains(&arguments) {
            return;
        }
        if self.arguments.len() < MANY {
            self.arguments.insert(arguments);
        } else {
            self.more = true;
        }
    }
}

impl Observations {
    /// Reads the file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let read: Observations = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if read.version != VERSION {
            return Err(format!("its version is {}, and {VERSION} is known", read.version));
        }
        Ok(read)
    }

    /// Adds what was seen in other runs. Nothing gets less by it.
    pub fn merge(&mut self, other: Observations) {
        let new: Vec<String> = other
            .calls
            .keys()
            .filter(|name| !self.calls.contains_key(*name))
            .cloned()
            .collect();
        for mut run in other.runs {
            run.new.clone_from(&new);
            self.runs.push(run);
        }
        for (name, seen) in other.calls {
            let call = self.calls.entry(name).or_default();
            call.count += seen.count;
            call.more |= seen.more;
            for arguments in seen.arguments {
                call.keep(arguments);
            }
        }
        self.unnamed.extend(other.unnamed);
        for (name, seen) in other.denied {
            match self.denied.get_mut(&name) {
                Some(denied) => {
                    denied.count += seen.count;
                    denied.certain |= seen.certain;
                }
                None => {
                    self.denied.insert(name, seen);
                }
            }
        }
        add(&mut self.capabilities, other.capabilities);
        add(&mut self.missing, other.missing);
    }

    /// Whether capabilities could be seen in every run. If not, those that are missing here may be needed.
    pub fn knows_capabilities(&self) -> bool {
        !self.runs.is_empty() && self.runs.iter().all(|run| run.traced && run.lost == 0)
    }
}

fn add(counts: &mut BTreeMap<String, u64>, more: BTreeMap<String, u64>) {
    for (name, count) in more {
        *counts.entry(name).or_default() += count;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn run() -> Run {
        Run {
            began: String::new(),
            seconds: 1,
            ended: String::new(),
            traced: true,
            lost: 0,
            attached: false,
            new: Vec::new(),
        }
    }

    fn seen(calls: &[(&str, u64)]) -> Observations {
        let mut seen = Observations {
            runs: vec![run()],
            ..Observations::default()
        };
        for (name, argument) in calls {
            let call = seen.calls.entry((*name).to_owned()).or_default();
            call.add(BTreeMap::from([(0, *argument)]));
        }
        seen
    }

    #[test]
    fn a_further_run_adds_and_says_what_was_new() {
        let mut all = Observations::default();
        all.merge(seen(&[("socket", 2), ("bind", 0)]));
        let before = all.clone();
        all.merge(seen(&[("socket", 10), ("listen", 0)]));
        assert_eq!(all.runs[1].new, ["listen"]);
        assert_eq!(all.calls["socket"].count, 2);
        assert_eq!(all.calls["socket"].arguments.len(), 2);
        for (name, call) in &before.calls {
            assert!(all.calls[name].arguments.is_superset(&call.arguments), "{name}");
        }
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(Observations::parse(&text).unwrap(), all);
    }

    #[test]
    fn more_values_than_are_kept_are_any_value() {
        let calls: Vec<(&str, u64)> = (0..1000).map(|value| ("ioctl", value)).collect();
        let call = &seen(&calls).calls["ioctl"];
        assert!(call.more && call.arguments.len() == MANY && call.count == 1000);
        assert!(!seen(&calls[..MANY]).calls["ioctl"].more);
    }

    #[test]
    fn a_file_of_another_version_or_with_more_in_it_is_not_read() {
        assert!(Observations::parse("{}").is_err());
        let mut value = serde_json::to_value(seen(&[])).unwrap();
        value["version"] = 2.into();
        assert!(
            Observations::parse(&value.to_string())
                .unwrap_err()
                .contains("version is 2")
        );
        value["version"] = 1.into();
        value["extra"] = 1.into();
        assert!(Observations::parse(&value.to_string()).is_err());
    }

    #[test]
    fn capabilities_are_known_if_they_were_seen_in_every_run() {
        let mut all = seen(&[]);
        assert!(all.knows_capabilities() && !Observations::default().knows_capabilities());
        all.merge(Observations {
            runs: vec![Run { lost: 1, ..run() }],
            ..Observations::default()
        });
        assert!(!all.knows_capabilities());
    }
}
