//! Namespaces: which they are (V-04), how the user namespace maps ids (V-18), what the time namespace adds to clocks
//! (V-20).

use std::collections::BTreeMap;

use crate::plan::{IdMaps, Plan};
use crate::procfs::Procfs;
use crate::report::Failure;

/// V-04: every namespace is the one that was judged: exactly that one, or a new one that is not the host's.
pub(crate) fn namespaces(plan: &Plan, procfs: &Procfs) -> Result<(), Failure> {
    for expected in &plan.namespaces {
        let file = expected.file.as_str();
        let Some(found) = procfs.namespace(file)? else {
            return Err(Failure::mismatch(
                "V-04",
                format!("this kernel has no {file} namespace"),
            ));
        };
        if let Some(wanted) = expected.exactly {
            if found != wanted {
                return Err(Failure::mismatch(
                    "V-04",
                    format!("the {file} namespace is {found}, not {wanted}"),
                ));
            }
        } else if expected.none_of.contains(&found) {
            return Err(Failure::mismatch(
                "V-04",
                format!("the {file} namespace is the host's ({found})"),
            ));
        }
    }
    Ok(())
}

/// V-18: the ids of the container's own user namespace lead where they were judged to lead, and groups can or cannot
/// be given up as was judged (user_namespaces(7), CVE-2014-8989).
pub(crate) fn id_maps(plan: &Plan, procfs: &Procfs) -> Result<(), Failure> {
    let Some(IdMaps { uids, gids }) = &plan.id_maps else {
        return Ok(());
    };
    for (file, wanted) in [("uid_map", uids), ("gid_map", gids)] {
        let text = procfs.read_self(file)?;
        let mut found = Vec::new();
        for line in text.lines() {
            let numbers: Option<Vec<u32>> = line.split_whitespace().map(|word| word.parse().ok()).collect();
            match numbers.as_deref() {
                Some(&[inside, outside, count]) => found.push((inside, outside, count)),
                _ => return Err(Failure::mismatch("V-18", format!("{file} has the line {line:?}"))),
            }
        }
        let mut wanted = wanted.clone();
        wanted.sort_unstable();
        found.sort_unstable();
        if found != wanted {
            return Err(Failure::mismatch(
                "V-18",
                format!("{file} is {found:?}, not {wanted:?} (first id inside, first outside, how many)"),
            ));
        }
    }
    let text = procfs.read_self("setgroups")?;
    let wanted = if plan.user.can_set_groups { "allow" } else { "deny" };
    if text.trim() != wanted {
        return Err(Failure::mismatch(
            "V-18",
            format!(
                "setgroups is {:?} in the user namespace, not {wanted:?}",
                text.trim()
            ),
        ));
    }
    Ok(())
}

/// V-20, the clocks: a new time namespace adds what was judged, and nothing else.
pub(crate) fn clocks(plan: &Plan, procfs: &Procfs) -> Result<(), Failure> {
    let Some(wanted) = &plan.time_offsets else {
        return Ok(());
    };
    let text = procfs.read_self("timens_offsets")?;
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let offset = match words.as_slice() {
            [_, seconds, nanoseconds] => seconds.parse().ok().zip(nanoseconds.parse().ok()),
            _ => None,
        };
        match (words.first(), offset) {
            (Some(&clock), Some(offset)) => found.insert(clock.to_owned(), offset),
            _ => {
                return Err(Failure::mismatch(
                    "V-20",
                    format!("timens_offsets has the line {line:?}"),
                ));
            }
        };
    }
    for (clock, &offset) in &found {
        let wanted: (i64, u32) = wanted.get(clock).copied().unwrap_or_default();
        if offset != wanted {
            return Err(Failure::mismatch(
                "V-20",
                format!("the clock {clock:?} is ahead by {offset:?} seconds and nanoseconds, not {wanted:?}"),
            ));
        }
    }
    if let Some(clock) = wanted.keys().find(|clock| !found.contains_key(*clock)) {
        return Err(Failure::mismatch(
            "V-20",
            format!("the kernel has no offset for the clock {clock:?}"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::Extent;

    fn check_of(outcome: Result<(), Failure>) -> Option<String> {
        match outcome {
            Ok(()) => None,
            Err(Failure::Mismatch { check, .. }) => Some(check),
            Err(other) => panic!("{other}"),
        }
    }

    /// The maps of this process, whatever they are, and others.
    #[test]
    fn v_18_other_mappings_than_were_judged_are_found() {
        if !nix::unistd::geteuid().is_root() {
            println!("SKIPPED: needs root for fsopen");
            return;
        }
        let procfs = Procfs::open(Extent::Processes).unwrap();
        let own = |file: &str| -> Vec<(u32, u32, u32)> {
            let text = std::fs::read_to_string(format!("/proc/self/{file}")).unwrap();
            text.lines()
                .map(|line| {
                    let numbers: Vec<u32> = line
                        .split_whitespace()
                        .map(|word| word.parse().unwrap())
                        .collect();
                    (numbers[0], numbers[1], numbers[2])
                })
                .collect()
        };
        let mut plan = Plan {
            id_maps: Some(IdMaps {
                uids: own("uid_map"),
                gids: own("gid_map"),
            }),
            ..Plan::default()
        };
        plan.user.can_set_groups = true;
        assert_eq!(check_of(id_maps(&plan, &procfs)), None);
        plan.user.can_set_groups = false;
        assert_eq!(check_of(id_maps(&plan, &procfs)).as_deref(), Some("V-18"));
        plan.user.can_set_groups = true;
        for change in [0, 1] {
            let mut other = plan.clone();
            let maps = other.id_maps.as_mut().unwrap();
            let list = if change == 0 {
                &mut maps.uids
            } else {
                &mut maps.gids
            };
            list[0].1 += 100_000;
            assert_eq!(check_of(id_maps(&other, &procfs)).as_deref(), Some("V-18"));
        }
    }

    #[test]
    fn v_20_other_clocks_than_were_judged_are_found() {
        if !nix::unistd::geteuid().is_root() || !std::path::Path::new("/proc/self/timens_offsets").exists() {
            println!("SKIPPED: needs root for fsopen, and time namespaces");
            return;
        }
        let procfs = Procfs::open(Extent::Processes).unwrap();
        let with = |offsets: &[(&str, (i64, u32))]| Plan {
            time_offsets: Some(
                offsets
                    .iter()
                    .map(|(clock, offset)| ((*clock).to_owned(), *offset))
                    .collect(),
            ),
            ..Plan::default()
        };
        assert_eq!(check_of(clocks(&with(&[]), &procfs)), None);
        assert_eq!(check_of(clocks(&with(&[("monotonic", (0, 0))]), &procfs)), None);
        for wrong in [("monotonic", (5, 0)), ("boottime", (0, 1)), ("nonsense", (0, 0))] {
            assert_eq!(
                check_of(clocks(&with(&[wrong]), &procfs)).as_deref(),
                Some("V-20"),
                "{wrong:?}"
            );
        }
    }
}
