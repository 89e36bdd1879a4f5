//! Which capabilities a container used, out of what the kernel was asked.
//!
//! The kernel asks by credentials, and those are not always the thread's own: an overlay file system does most of its work
//! by those of who mounted it, an engine with every capability. What these were granted says nothing of the container.
//!
//! It matters for capabilities that are about files; others no file system asks for. The trace has a name for credentials
//! that says nothing but whether two are the same, and that can be given again once they are gone. Those of somebody else
//! give themselves away: they are granted capabilities that the container does not have (an overlay needs CAP_SYS_ADMIN for
//! its own attributes of whatever it looks up), and they never lack one. A program of the container does: it is asked for
//! CAP_SYS_ADMIN, in passing, when it gets memory.
//!
//! In doubt they are the container's: a set that is too large works.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Capabilities that a file system may ask for on its own behalf.
const OF_FILES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_LEASE",
    "CAP_LINUX_IMMUTABLE",
    "CAP_MAC_ADMIN",
    "CAP_MKNOD",
    "CAP_SETFCAP",
    "CAP_SYS_ADMIN",
    "CAP_SYS_RESOURCE",
];

/// What was asked, by thread and credentials.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    credentials: HashMap<(i32, u64), Credentials>,
}

#[derive(Debug, Default)]
struct Credentials {
    granted: BTreeMap<u32, u64>,
    missing: BTreeMap<u32, u64>,
}

impl Asked {
    /// Whether a thread has a capability, by these credentials.
    pub(crate) fn note(&mut self, thread: i32, credentials: u64, number: u32, granted: bool) {
        let one = self.credentials.entry((thread, credentials)).or_default();
        let counts = if granted {
            &mut one.granted
        } else {
            &mut one.missing
        };
        *counts.entry(number).or_default() += 1;
    }

    /// Capabilities that were asked for and found, and those that were not, by name; of a container that has `held`.
    pub(crate) fn counts(&self, held: &BTreeSet<String>) -> (BTreeMap<String, u64>, BTreeMap<String, u64>) {
        let (mut granted, mut missing) = (BTreeMap::new(), BTreeMap::new());
        for one in self.credentials.values() {
            for (number, count) in &one.missing {
                *missing.entry(name(*number)).or_default() += count;
            }
            let is_somebody_elses =
                one.missing.is_empty() && one.granted.keys().any(|number| !held.contains(&name(*number)));
            for (number, count) in &one.granted {
                let name = name(*number);
                if !held.contains(&name) || (is_somebody_elses && OF_FILES.contains(&name.as_str())) {
                    continue;
                }
                *granted.entry(name).or_default() += count;
            }
        }
        (granted, missing)
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
    const SETGID: u32 = 6;
    const SETUID: u32 = 7;
    const SYS_ADMIN: u32 = 21;

    fn counts(events: &[(i32, u64, u32, bool)]) -> (Vec<String>, Vec<String>) {
        let held = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_SETGID", "CAP_SETUID"];
        let mut asked = Asked::default();
        for (thread, credentials, number, granted) in events {
            asked.note(*thread, *credentials, *number, *granted);
        }
        let (granted, missing) = asked.counts(&held.map(str::to_owned).into());
        (granted.into_keys().collect(), missing.into_keys().collect())
    }

    #[test]
    fn names_of_file_systems_are_capabilities() {
        let known: Vec<String> = caps::all().into_iter().map(|one| one.to_string()).collect();
        assert!(OF_FILES.iter().all(|name| known.iter().any(|one| one == name)));
        assert!(OF_FILES.is_sorted());
    }

    #[test]
    fn what_others_were_granted_is_not_the_containers() {
        let own = [(1, 0xa, SYS_ADMIN, false), (1, 0xa, CHOWN, true)];
        let others = [
            (1, 0xb, DAC_OVERRIDE, true),
            (1, 0xb, SYS_ADMIN, true),
            (1, 0xb, 63, true),
        ];
        let (granted, missing) = counts(&[&own[..], &others].concat());
        assert_eq!(
            (granted, missing),
            (vec!["CAP_CHOWN".to_owned()], vec!["CAP_SYS_ADMIN".to_owned()])
        );
    }

    #[test]
    fn in_doubt_it_is_the_containers() {
        // New credentials after setgid(2), which are asked for one thing alone before setuid(2) replaces them.
        let changing = [
            (1, 0xa, SYS_ADMIN, false),
            (1, 0xb, SETUID, true),
            (1, 0xa, CHOWN, true),
        ];
        assert_eq!(counts(&changing).0, ["CAP_CHOWN", "CAP_SETUID"]);
        // A name that was somebody else's before, in another thread and in the same one.
        let before = [(2, 0xa, SYS_ADMIN, true), (1, 0xb, SYS_ADMIN, true)];
        assert_eq!(
            counts(&[&before[..], &changing].concat()).0,
            ["CAP_CHOWN", "CAP_SETUID"]
        );
        let same = [
            (1, 0xa, SYS_ADMIN, true),
            (1, 0xa, SYS_ADMIN, false),
            (1, 0xa, SETGID, true),
        ];
        assert_eq!(counts(&same).0, ["CAP_SETGID"]);
    }
}
