//! What a descriptor of a namespace says of itself (ioctl_ns(2)).

use std::os::fd::{AsFd, AsRawFd};

use crate::error::{CallError, Result, check};
use nix::errno::Errno;

/// `NS_GET_NSTYPE`: which kind of namespace a descriptor refers to (Linux 4.11).
const NS_GET_NSTYPE: libc::c_ulong = 0xb703;

/// What an id of a user namespace is called by the reader of its map, `/proc/PID/uid_map` or `gid_map`
/// (user_namespaces(7)); `None` if it has no mapping.
pub fn id_outside(map: &str, id: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u32>().ok());
        let (inside, outside, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let offset = id.checked_sub(inside).filter(|offset| *offset < count)?;
        outside.checked_add(offset)
    })
}

/// The kinds of namespaces that Linux has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Kind {
    Cgroup,
    Ipc,
    Mount,
    Network,
    Pid,
    Time,
    User,
    Uts,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 8] = [
        Kind::Cgroup,
        Kind::Ipc,
        Kind::Mount,
        Kind::Network,
        Kind::Pid,
        Kind::Time,
        Kind::User,
        Kind::Uts,
    ];

    /// The kind by its name in the runtime-spec (config-linux.md, "Namespaces").
    pub fn of_spec(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.spec_name() == name)
    }

    /// Its name in the runtime-spec.
    pub fn spec_name(self) -> &'static str {
        match self {
            Kind::Cgroup => "cgroup",
            Kind::Ipc => "ipc",
            Kind::Mount => "mount",
            Kind::Network => "network",
            Kind::Pid => "pid",
            Kind::Time => "time",
            Kind::User => "user",
            Kind::Uts => "uts",
        }
    }

    /// Its name in /proc/\<pid\>/ns.
    pub fn proc_name(self) -> &'static str {
        match self {
            Kind::Mount => "mnt",
            Kind::Network => "net",
            other => other.spec_name(),
        }
    }

    /// Its flag for clone(2), unshare(2) and setns(2).
    pub fn clone_flag(self) -> i32 {
        match self {
            Kind::Cgroup => libc::CLONE_NEWCGROUP,
            Kind::Ipc => libc::CLONE_NEWIPC,
            Kind::Mount => libc::CLONE_NEWNS,
            Kind::Network => libc::CLONE_NEWNET,
            Kind::Pid => libc::CLONE_NEWPID,
            Kind::Time => libc::CLONE_NEWTIME,
            Kind::User => libc::CLONE_NEWUSER,
            Kind::Uts => libc::CLONE_NEWUTS,
        }
    }
}

/// The kind of the namespace that `namespace` refers to.
///
/// # Errors
/// `ENOTTY` if it is no namespace, `EBADF` for a descriptor opened with `O_PATH`, `ENOTSUP` for a kind that
/// is not in [`Kind`]. To a device the same number may mean another request: establish with fstatfs(2) that
/// the file is on nsfs before asking.
pub fn kind(namespace: impl AsFd) -> Result<Kind> {
    let descriptor = namespace.as_fd().as_raw_fd();
    let call = || format!("ioctl({descriptor}, NS_GET_NSTYPE)");
    // SAFETY: NS_GET_NSTYPE takes no argument (it is an _IO request): the kernel neither reads nor writes
    // memory of ours. A driver for which the number means something else would get an undefined third
    // argument in other wrappers; here it is an explicit 0.
    let outcome = unsafe { libc::ioctl(descriptor, NS_GET_NSTYPE as _, 0) };
    let flag = check(outcome.into(), call)?;
    Kind::ALL
        .into_iter()
        .find(|kind| libc::c_long::from(kind.clone_flag()) == flag)
        .ok_or_else(|| CallError::new(call(), Errno::ENOTSUP))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn an_id_is_found_in_the_map_or_has_no_meaning_outside() {
        let map = "         0     100000      65536\n     70000       5000          1\n";
        assert_eq!(id_outside(map, 0), Some(100_000));
        assert_eq!(id_outside(map, 65535), Some(165_535));
        assert_eq!(id_outside(map, 65536), None);
        assert_eq!(id_outside(map, 70000), Some(5000));
        assert_eq!(id_outside("0 0 4294967295\n", 42), Some(42));
    }

    #[test]
    fn an_id_is_followed_out_of_its_namespace() {
        let map = "         0       1000          1\n         1     100000      65536\n";
        for (id, expected) in [
            (0, Some(1000)),
            (1, Some(100_000)),
            (65_536, Some(165_535)),
            (65_537, None),
        ] {
            assert_eq!(id_outside(map, id), expected, "{id}");
        }
        assert_eq!(id_outside("0 0 4294967295\n", 1000), Some(1000));
    }

    #[test]
    fn a_user_is_found_in_the_range_that_holds_it() {
        let table = "         0     100000       1000\n      1000          5          1\n";
        assert_eq!(id_outside(table, 0), Some(100_000));
        assert_eq!(id_outside(table, 999), Some(100_999));
        assert_eq!(id_outside(table, 1000), Some(5));
        assert_eq!(id_outside(table, 1001), None);
    }

    #[test]
    fn the_kernel_tells_every_kind_of_namespace_apart() {
        for wanted in Kind::ALL {
            let namespace = File::open(format!("/proc/self/ns/{}", wanted.proc_name())).unwrap();
            assert_eq!(kind(&namespace).unwrap(), wanted);
            assert_eq!(Kind::of_spec(wanted.spec_name()), Some(wanted));
        }
        assert_eq!(Kind::of_spec("mnt"), None);
    }

    #[test]
    fn a_file_that_is_no_namespace_says_so() {
        let error = kind(File::open("/proc/self/status").unwrap()).unwrap_err();
        assert_eq!(error.errno, Errno::ENOTTY);
    }
}
