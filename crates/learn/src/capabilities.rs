//! Which capabilities a container used, out of what the kernel was asked.
//!
//! The kernel asks by credentials, and those are not always the thread's own: an overlay file system does most of its work
//! by those of who mounted it, an engine with every capability. What these were granted says nothing of the container.
//! Credentials cannot be looked up by the name that the trace has for them, but those of somebody else give themselves
//! away:
//!
//! - a thread that acts by them has its own before and after. A thread that changes its own gets new ones, and never
//!   those from before;
//! - the kernel never misses anything in them, while it asks a program of the container for CAP_SYS_ADMIN, in passing,
//!   when it gets memory: as good as always before it forks or makes threads, which then have the same credentials.
//!
//! In doubt they are the container's: a set that is too large works.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How many changes of a thread's credentials are remembered. They are nested two deep at most.
const DEPTH: usize = 8;

/// What was asked.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    credentials: HashMap<u64, Credentials>,
    /// For each thread, the credentials it had, the last one at the end.
    threads: HashMap<i32, Vec<u64>>,
}

#[derive(Debug, Default)]
struct Credentials {
    granted: BTreeMap<u32, u64>,
    missing: BTreeMap<u32, u64>,
    /// A thread had them in between.
    borrowed: bool,
    /// Two of them at most: more are as good as two.
    threads: BTreeSet<i32>,
}

impl Asked {
    /// Whether a thread has a capability, by these credentials.
    pub(crate) fn note(&mut self, thread: i32, credentials: u64, number: u32, granted: bool) {
        let had = self.threads.entry(thread).or_default();
        match had.iter().rposition(|one| *one == credentials) {
            Some(at) => {
                for borrowed in had.drain(at + 1..) {
                    if let Some(one) = self.credentials.get_mut(&borrowed) {
                        one.borrowed = true;
                    }
                }
            }
            None => {
                if had.len() == DEPTH {
                    had.remove(0);
                }
                had.push(credentials);
            }
        }
        let one = self.credentials.entry(credentials).or_default();
        if one.threads.len() < 2 {
            one.threads.insert(thread);
        }
        let counts = if granted {
            &mut one.granted
        } else {
            &mut one.missing
        };
        *counts.entry(number).or_default() += 1;
    }

    /// Capabilities that were asked for and found, and those that were not, by name.
    pub(crate) fn counts(&self) -> (BTreeMap<String, u64>, BTreeMap<String, u64>) {
        let (mut granted, mut missing) = (BTreeMap::new(), BTreeMap::new());
        for one in self.credentials.values() {
            for (number, count) in &one.missing {
                *missing.entry(name(*number)).or_default() += count;
            }
            if one.is_somebody_elses() {
                continue;
            }
            for (number, count) in &one.granted {
                *granted.entry(name(*number)).or_default() += count;
            }
        }
        (granted, missing)
    }
}

impl Credentials {
    fn is_somebody_elses(&self) -> bool {
        self.missing.is_empty() && (self.borrowed || self.threads.len() > 1)
    }
}

/// The name of a capability; one that is newer than this program has a number.
fn name(number: u32) -> String {
    caps::all()
        .into_iter()
        .find(|capability| u32::from(capability.index()) == number)
        .map_or_else(
            || format!("capability {number}"),
            |capability| capability.to_string(),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHOWN: u32 = 0;
    const DAC_OVERRIDE: u32 = 1;
    const SYS_ADMIN: u32 = 21;

    fn granted(events: &[(i32, u64, u32, bool)]) -> Vec<String> {
        let mut asked = Asked::default();
        for (thread, credentials, number, granted) in events {
            asked.note(*thread, *credentials, *number, *granted);
        }
        asked.counts().0.into_keys().collect()
    }

    #[test]
    fn what_others_were_granted_is_not_the_containers() {
        let own = [(1, 0xa, SYS_ADMIN, false), (1, 0xa, CHOWN, true)];
        assert_eq!(granted(&own), ["CAP_CHOWN"]);
        let borrowed = [(1, 0xb, DAC_OVERRIDE, true), (1, 0xa, SYS_ADMIN, false)];
        assert_eq!(granted(&[own, borrowed].concat()), ["CAP_CHOWN"]);
        let by_two = [(1, 0xb, DAC_OVERRIDE, true), (2, 0xb, DAC_OVERRIDE, true)];
        assert_eq!(granted(&by_two), [""; 0]);
    }

    #[test]
    fn in_doubt_it_is_the_containers() {
        // New credentials, such as of setuid(2), that have not been asked in vain yet.
        let changed = [(1, 0xa, SYS_ADMIN, false), (1, 0xb, CHOWN, true)];
        assert_eq!(granted(&changed), ["CAP_CHOWN"]);
        // An address that was used again.
        let again = [(1, 0xb, SYS_ADMIN, false), (1, 0xa, SYS_ADMIN, false)];
        assert_eq!(granted(&[&changed[..], &again].concat()), ["CAP_CHOWN"]);
        let number = granted(&[(1, 0xa, 63, true)]);
        assert_eq!(number, ["capability 63"]);
    }
}
