//! Whose a file is that belongs to nobody here: in a user namespace, ids without a mapping are all shown as one.
//!
//! podman without root calls its runtime in a user namespace in which the user is root. The host's root has no id there,
//! nor has any other user of the host; and the number that stands for them, 65534, is also the id that the user's own
//! containers call nobody. The kernel tells the two apart where it asks whether a capability of this namespace reaches a
//! file, as it does for `O_NOATIME`: it reaches those whose owner has an id here, and no others.
//!
//! Which user of the host it is cannot be told from inside. In the directories that hold a host's own programs and
//! configuration it is root, whose they are on every host; anywhere else it could be anybody.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Component, Path, PathBuf};

use gabion_sys::namespace::id_outside;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::geteuid;

use crate::namespaces::is_in_user_namespace;
use crate::passwd;

/// Directories whose contents root alone places there (hier(7)).
const SYSTEM: [&str; 3] = ["/etc", "/opt", "/usr"];

/// CAP_FOWNER, as a bit of a set.
const FOWNER: u64 = 1 << 3;

/// True if a file belongs to the host's root although that has no id in this user namespace. `place` is the file's path,
/// without links, or that of what lies on the way there; the file is held by a descriptor, which may be one of `O_PATH`.
#[must_use]
pub fn is_hosts_root(place: &Path, file: BorrowedFd<'_>) -> bool {
    is_of_the_system(place) && is_in_user_namespace() && reaches_what_is_mapped() && has_no_id(file)
}

/// The home directory of the user that runs this program, by the host's /etc/passwd, also where the user is root of a user
/// namespace.
#[must_use]
pub fn home_of_user() -> Option<PathBuf> {
    let map = fs::read_to_string("/proc/self/uid_map").ok()?;
    let user = id_outside(&map, geteuid().as_raw())?;
    let home = PathBuf::from(passwd::home(fs::File::open("/").ok()?, user));
    (home != Path::new("/")).then_some(home)
}

fn is_of_the_system(place: &Path) -> bool {
    // The way to them is theirs too.
    let is_plain = !place.components().any(|part| part == Component::ParentDir);
    is_plain && (place == Path::new("/") || SYSTEM.iter().any(|directory| place.starts_with(directory)))
}

/// Without the capability the kernel says no to everything that is not our own.
fn reaches_what_is_mapped() -> bool {
    gabion_sys::capability::read().is_ok_and(|sets| sets.effective & FOWNER != 0)
}

fn has_no_id(file: BorrowedFd<'_>) -> bool {
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    let flags = OFlag::O_RDONLY | OFlag::O_NOATIME | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    open(path.as_str(), flags, Mode::empty()).is_err_and(|errno| errno == Errno::EPERM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hosts_own_directories_are_roots_for_certain() {
        for (place, expected) in [
            ("/usr/local/bin/gabion", true),
            ("/etc/gabion/policy.toml", true),
            ("/etc", true),
            ("/", true),
            ("/etcetera/gabion", false),
            ("/etc/../home/user/policy.toml", false),
            ("etc/gabion/policy.toml", false),
            ("/home/user/gabion", false),
            ("/tmp/gabion", false),
        ] {
            assert_eq!(is_of_the_system(Path::new(place)), expected, "{place}");
        }
    }

    #[test]
    fn in_the_first_user_namespace_everybody_has_an_id() {
        let file = fs::File::open("/etc").unwrap();
        if !is_in_user_namespace() {
            assert!(!is_hosts_root(Path::new("/etc"), file.as_fd()));
        }
    }
}
