//! The Linux security modules.
//!
//! "Not there" and "not to be seen" are different answers: without sysfs or selinuxfs, a file that is missing
//! says nothing, and the fact is unknown.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use gabion_baseline::facts::{Fact, LsmFact, SelinuxMode};
use gabion_sys::mount;

use crate::text::{read, read_if_there};

/// AppArmor's list grows by some 60 bytes for each profile; snapd and LXD bring hundreds.
const MAX_PROFILES_BYTES: usize = 4 * 1024 * 1024;

/// Asks the kernel which modules are active.
pub(crate) fn collect() -> Fact<LsmFact> {
    match ask() {
        Ok(fact) => Fact::Known(fact),
        Err(why) => Fact::Unknown(why),
    }
}

fn ask() -> Result<LsmFact, String> {
    let apparmor = apparmor_is_enabled()?;
    let apparmor_profiles = if apparmor { loaded_profiles()? } else { None };
    Ok(LsmFact {
        apparmor,
        apparmor_profiles,
        selinux: selinux()?,
    })
}

fn apparmor_is_enabled() -> Result<bool, String> {
    let path = "/sys/module/apparmor/parameters/enabled";
    match read_if_there(path, 64).map_err(|error| format!("{path}: {error}"))? {
        Some(text) => Ok(text.trim() == "Y"),
        None if Path::new("/sys/module").is_dir() => Ok(false),
        None => Err("whether AppArmor is enabled is not to be seen: /sys is not mounted".to_owned()),
    }
}

fn loaded_profiles() -> Result<Option<BTreeMap<String, String>>, String> {
    let path = "/sys/kernel/security/apparmor/profiles";
    let found = match read(path, MAX_PROFILES_BYTES) {
        // podman has taken it out of the mount namespace in which it calls runtimes for user namespaces.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            match mount::detached(c"securityfs", &[], &[], 0) {
                Ok(mount) => {
                    let path = format!("/proc/self/fd/{}/apparmor/profiles", mount.as_raw_fd());
                    read(&path, MAX_PROFILES_BYTES)
                }
                // Who may not mount it may not know.
                Err(_) => return Ok(None),
            }
        }
        found => found,
    };
    match found {
        Ok(text) => Ok(Some(text.lines().filter_map(profile).collect())),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(format!("{path}: {error}")),
    }
}

/// A line of the list of profiles, `docker-default (enforce)`: name and mode. A name may have spaces and
/// parentheses in it, the mode has none.
fn profile(line: &str) -> Option<(String, String)> {
    let (name, mode) = line.strip_suffix(')')?.rsplit_once(" (")?;
    Some((name.to_owned(), mode.to_owned()))
}

fn selinux() -> Result<SelinuxMode, String> {
    let path = "/sys/fs/selinux/enforce";
    match read_if_there(path, 64).map_err(|error| format!("{path}: {error}"))? {
        Some(text) if text.trim() == "1" => return Ok(SelinuxMode::Enforcing),
        Some(_) => return Ok(SelinuxMode::Permissive),
        None => {}
    }
    // The file system is registered only if SELinux was not switched off when the kernel started.
    let path = "/proc/filesystems";
    let list = read(path, 64 * 1024).map_err(|error| format!("{path}: {error}"))?;
    if list.lines().any(|line| line.ends_with("\tselinuxfs")) {
        return Err(
            "SELinux is active and its mode is not to be seen: mount selinuxfs on /sys/fs/selinux".to_owned(),
        );
    }
    Ok(SelinuxMode::Off)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_listed_with_their_modes() {
        let pair = |name: &str, mode: &str| Some((name.to_owned(), mode.to_owned()));
        assert_eq!(
            profile("docker-default (enforce)"),
            pair("docker-default", "enforce")
        );
        assert_eq!(
            profile("/usr/bin/a (b)//null (complain)"),
            pair("/usr/bin/a (b)//null", "complain")
        );
        assert_eq!(profile("broken"), None);
        assert_eq!(profile(""), None);
    }

    #[test]
    fn this_host_says_what_is_active() {
        let Fact::Known(lsm) = collect() else {
            panic!("{:?}", collect())
        };
        assert_eq!(
            lsm.selinux != SelinuxMode::Off,
            Path::new("/sys/fs/selinux/enforce").exists()
        );
        assert!(lsm.apparmor || lsm.apparmor_profiles.is_none());
    }
}
