//! What the kernel says of a process in one file: /proc/\<pid\>/status (proc_pid_status(5)).
//!
//! One read answers what would otherwise be some hundred calls, and answers it for another process as well.

use std::collections::BTreeSet;

use gabion_sys::capability::CapabilitySets;

use crate::procfs::Procfs;
use crate::report::Failure;

/// The lines that are compared with a plan. Ids are those of the reader's user namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Real, effective, saved and file system user id.
    pub uids: [u32; 4],
    /// The same of the group.
    pub gids: [u32; 4],
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// The file mode creation mask (Linux 4.7); a process that is ending has none.
    pub umask: Option<u32>,
    /// All five sets (Linux 4.3).
    pub capabilities: CapabilitySets,
    /// no_new_privs (Linux 4.10).
    pub no_new_privileges: bool,
    /// Seccomp mode: 2 with filters.
    pub seccomp: u32,
    /// How many filters there are (Linux 5.9).
    pub filters: u64,
    /// The processors that it may run on: its affinity, within its cpuset.
    pub processors: Option<BTreeSet<u32>>,
    /// The nodes whose memory it may have; a kernel without cpusets has no such line.
    pub memory_nodes: Option<BTreeSet<u32>>,
}

/// The numbers of a list such as `0-2,7` (cpuset(7), "List format"); `None` if it is none.
#[must_use]
pub fn members(list: &str) -> Option<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part.split_once('-') {
            None => {
                found.insert(part.parse().ok()?);
            }
            Some((first, last)) => {
                let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
                // Nobody has so many; a range is not to fill our memory.
                if first > last || last > 65_535 {
                    return None;
                }
                found.extend(first..=last);
            }
        }
    }
    Some(found)
}

impl Status {
    /// Reads the file of the procfs' process.
    ///
    /// # Errors
    /// As [`Procfs::read_self`]; a line that is missing is a mismatch of the check that needs it.
    pub fn read(procfs: &Procfs) -> Result<Self, Failure> {
        Self::parse(&procfs.read_self("status")?)
    }

    fn parse(text: &str) -> Result<Self, Failure> {
        let field = |check: &str, name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(str::trim)
                .ok_or_else(|| {
                    Failure::mismatch(check, format!("the kernel does not show {name} of a process"))
                })
        };
        let unreadable =
            |check: &str, name: &str, text: &str| Failure::mismatch(check, format!("{name} reads {text:?}"));
        let ids = |name: &str| {
            let text = field("V-03", name)?;
            let ids: Option<Vec<u32>> = text.split_whitespace().map(|word| word.parse().ok()).collect();
            ids.ok_or_else(|| unreadable("V-03", name, text))
        };
        let four = |name: &str| {
            let ids = ids(name)?;
            <[u32; 4]>::try_from(ids.as_slice()).map_err(|_| unreadable("V-03", name, &format!("{ids:?}")))
        };
        let mask = |name: &str| {
            let text = field("V-01", name)?;
            u64::from_str_radix(text, 16).map_err(|_| unreadable("V-01", name, text))
        };
        let number = |check: &str, name: &str| {
            let text = field(check, name)?;
            text.parse::<u64>().map_err(|_| unreadable(check, name, text))
        };
        Ok(Status {
            uids: four("Uid")?,
            gids: four("Gid")?,
            groups: ids("Groups")?,
            umask: field("V-03", "Umask")
                .ok()
                .and_then(|text| u32::from_str_radix(text, 8).ok()),
            capabilities: CapabilitySets {
                bounding: mask("CapBnd")?,
                effective: mask("CapEff")?,
                inheritable: mask("CapInh")?,
                permitted: mask("CapPrm")?,
                ambient: mask("CapAmb")?,
            },
            no_new_privileges: number("V-02", "NoNewPrivs")? != 0,
            seccomp: u32::try_from(number("V-05", "Seccomp")?).unwrap_or(u32::MAX),
            filters: number("V-05", "Seccomp_filters")?,
            processors: field("V-16", "Cpus_allowed_list").ok().and_then(members),
            memory_nodes: field("V-16", "Mems_allowed_list").ok().and_then(members),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Name:\tsh\nUmask:\t0022\nUid:\t1000\t1000\t1000\t1000\nGid:\t5\t6\t7\t8\n\
        Groups:\t10 4242 \nCapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\nCapEff:\t0000000000000001\n\
        CapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000002\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t3\n\
        Cpus_allowed_list:\t0-1,3\nMems_allowed_list:\t0\n";

    #[test]
    fn the_lines_are_read() {
        let status = Status::parse(TEXT).unwrap();
        assert_eq!((status.uids, status.gids), ([1000; 4], [5, 6, 7, 8]));
        assert_eq!((status.groups, status.umask), (vec![10, 4242], Some(0o22)));
        assert_eq!(status.capabilities.permitted, 0xa804_25fb);
        assert_eq!(status.capabilities.bounding, 0x1ff_ffff_ffff);
        assert_eq!(
            (status.capabilities.effective, status.capabilities.ambient),
            (1, 2)
        );
        assert_eq!(status.processors, Some(BTreeSet::from([0, 1, 3])));
        assert_eq!(status.memory_nodes, Some(BTreeSet::from([0])));
        assert_eq!(
            (status.no_new_privileges, status.seccomp, status.filters),
            (true, 2, 3)
        );
    }

    #[test]
    fn what_the_kernel_does_not_show_is_no_zero() {
        for (name, check) in [
            ("CapAmb", "V-01"),
            ("NoNewPrivs", "V-02"),
            ("Uid", "V-03"),
            ("Seccomp_filters", "V-05"),
        ] {
            let text: String = TEXT
                .lines()
                .filter(|line| !line.starts_with(name))
                .map(|line| format!("{line}\n"))
                .collect();
            match Status::parse(&text) {
                Err(Failure::Mismatch { check: found, .. }) => assert_eq!(found, check, "{name}"),
                other => panic!("{name}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_masks_are_those_that_capget_gives() {
        let text = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let status = Status::parse(&text).unwrap();
        assert_eq!(status.capabilities, gabion_sys::capability::read().unwrap());
    }
}
