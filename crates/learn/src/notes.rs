//! What is written down of a container that is watched, however it is watched.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use gabion_seccomp::abi::Abi;
use gabion_seccomp::words;
use gabion_seccomp::{Profile, Program, Verdict};

use crate::capabilities::Asked;
use crate::observations::{Denied, Observations};
use crate::profile;

/// What is in force in a container while it is watched.
#[derive(Debug, Clone)]
pub struct Force {
    /// The profile.
    pub profile: Profile,
    /// All filters, the floor among them.
    pub filters: Vec<Program>,
    /// The bounding set of capabilities.
    pub held: BTreeSet<String>,
}

/// What a watcher saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// All of it; its list of runs is empty.
    pub observations: Observations,
    /// How many events of the trace were lost.
    pub lost: u64,
    /// Whether the program was executed.
    pub began: bool,
}

#[derive(Debug)]
pub(crate) struct Notes {
    names: HashMap<(u32, u32), String>,
    arguments: BTreeMap<String, BTreeSet<u8>>,
    denials: BTreeMap<u32, profile::Denial>,
    held: BTreeSet<String>,
    asked: Asked,
    seen: Observations,
}

impl Notes {
    pub(crate) fn new(force: Force) -> Notes {
        Notes {
            names: names(&force.profile),
            arguments: profile::watched_arguments(&force.profile),
            denials: profile::denials(&force.filters),
            held: force.held,
            asked: Asked::default(),
            seen: Observations::default(),
        }
    }

    /// The errnos that filters deny calls with: what comes back with one of them is worth hearing of.
    pub(crate) fn errnos(&self) -> BTreeSet<u16> {
        self.denials
            .values()
            .flat_map(|one| one.errnos.iter().copied())
            .collect()
    }

    /// The name of a call, if it has one.
    pub(crate) fn name(&self, architecture: u32, number: u32) -> Option<&str> {
        self.names.get(&(architecture, number)).map(String::as_str)
    }

    /// A call was made.
    pub(crate) fn called(&mut self, architecture: u32, number: u32, values: &[u64; 6]) {
        let Some(name) = self.names.get(&(architecture, number)) else {
            self.unnamed(format!("{number} of architecture {architecture:#x}"));
            return;
        };
        let arguments = self
            .arguments
            .get(name)
            .into_iter()
            .flatten()
            .filter_map(|index| {
                let value = values.get(usize::from(*index))?;
                Some((*index, profile::kept(name, *index, *value)))
            });
        let arguments = arguments.collect();
        match self.seen.calls.get_mut(name) {
            Some(seen) => seen.add(arguments),
            None => self.seen.calls.entry(name.clone()).or_default().add(arguments),
        }
    }

    /// Something was called that has no name here.
    pub(crate) fn unnamed(&mut self, what: String) {
        self.seen.unnamed.insert(what);
    }

    /// A call came back. With an errno that a filter denies it with, it was that filter, or the kernel.
    pub(crate) fn came_back(&mut self, number: i64, outcome: i64) {
        let Some(denial) = u32::try_from(number)
            .ok()
            .and_then(|number| self.denials.get(&number))
        else {
            return;
        };
        let Some(errno) = outcome
            .checked_neg()
            .and_then(|errno| u16::try_from(errno).ok())
            .filter(|errno| denial.errnos.contains(errno))
        else {
            return;
        };
        let answer = words::said(Verdict::Errno(errno));
        let denied = self.seen.denied.entry(denial.name.clone()).or_insert(Denied {
            answer,
            count: 0,
            certain: denial.certain,
        });
        denied.count += 1;
    }

    /// The kernel asked whether a thread has a capability.
    pub(crate) fn asked(&mut self, thread: i32, credentials: u64, number: u32, granted: bool) {
        self.asked.note(thread, credentials, number, granted);
    }

    /// All of it.
    pub(crate) fn finish(mut self) -> Observations {
        (self.seen.capabilities, self.seen.missing) = self.asked.counts(&self.held);
        self.seen
    }
}

/// Names of system calls by architecture and number.
fn names(profile: &Profile) -> HashMap<(u32, u32), String> {
    let listed = |abi: &&Abi| profile.architectures.contains(&abi.architecture());
    std::iter::once(&Abi::NATIVE)
        .chain(Abi::NATIVE.compatible().iter().filter(listed))
        .flat_map(|abi| {
            gabion_seccomp::syscalls::all(*abi)
                .into_iter()
                .map(|(name, number)| ((abi.audit_architecture(), number), name))
        })
        .collect()
}
