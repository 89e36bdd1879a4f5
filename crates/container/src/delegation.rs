//! A container's cgroup handed over to the container (config-linux.md, "Cgroup ownership"): with version 2, where it has a
//! cgroup namespace of its own and the cgroups are mounted for writing, whoever its process runs as can make cgroups
//! below the container's and divide there what the container has.
//!
//! What belongs to the user then is the directory, and the files that the kernel names as meant for this. The limits are
//! not among them: these stay root's of the host, so nobody inside lifts them.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use gabion_baseline::config::Config;
use gabion_baseline::facts::CgroupMode;
use gabion_sys::namespace::id_outside;
use nix::unistd::Pid;

use crate::error::{ContainerError, Result};

/// The names of the files (Linux 4.15), a line for each.
const NAMES: &str = "/sys/kernel/cgroup/delegate";

/// What they have always been.
const ALWAYS: &str = "cgroup.procs\ncgroup.threads\ncgroup.subtree_control\n";

/// Hands a new container's cgroup over, if it is to be.
///
/// # Errors
/// If the user cannot be found in the user namespace of `pid`, or the kernel does not change an owner.
pub(crate) fn hand_over(config: &Config, mode: CgroupMode, pid: Pid, cgroups: &[PathBuf]) -> Result<()> {
    let [cgroup] = cgroups else { return Ok(()) };
    if mode != CgroupMode::Unified || !is_asked_for(config) {
        return Ok(());
    }
    let user = config
        .process
        .value()
        .and_then(|process| process.user.value())
        .map_or(0, gabion_baseline::config::User::uid);
    let path = format!("/proc/{pid}/uid_map");
    let table = fs::read_to_string(&path).map_err(ContainerError::file("cannot read", path))?;
    let owner = id_outside(&table, user).ok_or_else(|| ContainerError::Unsupported {
        pointer: "/process/user/uid".to_owned(),
        text: format!("{user} is not mapped by the container's user namespace"),
    })?;
    let names = fs::read_to_string(NAMES).unwrap_or_else(|_| ALWAYS.to_owned());
    change(cgroup, &names, owner)
}

fn is_asked_for(config: &Config) -> bool {
    let linux = config.linux.value();
    let has_own = linux.is_some_and(|linux| {
        let mut namespaces = linux.namespaces.items().iter();
        namespaces.any(|entry| entry.kind == "cgroup" && entry.joins().is_none())
    });
    has_own
        && config.mounts.items().iter().any(|mount| {
            let is_of_cgroups = mount
                .kind
                .value()
                .is_some_and(|kind| kind == "cgroup" || kind == "cgroup2");
            is_of_cgroups && mount.last_of(&["rw", "rrw"], &["ro", "rro"]) != Some(false)
        })
}

fn change(cgroup: &Path, names: &str, owner: u32) -> Result<()> {
    let files = names
        .lines()
        .filter(|name| !name.is_empty() && !name.contains('/'));
    for path in files.map(|name| cgroup.join(name)).chain([cgroup.to_owned()]) {
        match chown(&path, Some(owner), None) {
            Ok(()) => {}
            // A file of a controller that is not handed down.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(ContainerError::file("cannot change the owner of", path)(error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use gabion_baseline::Allegation;

    use super::*;

    #[test]
    fn it_is_handed_over_where_it_is_the_containers_own_and_mounted_for_writing() {
        for (namespace, kind, options, asked) in [
            (r#"{"type":"cgroup"}"#, "cgroup", r#""nosuid""#, true),
            (r#"{"type":"cgroup"}"#, "cgroup2", r#""ro","rw""#, true),
            (r#"{"type":"cgroup"}"#, "cgroup", r#""rw","ro""#, false),
            (r#"{"type":"cgroup"}"#, "tmpfs", r#""rw""#, false),
            (r#"{"type":"pid"}"#, "cgroup", r#""rw""#, false),
            (
                r#"{"type":"cgroup","path":"/proc/1/ns/cgroup"}"#,
                "cgroup",
                r#""rw""#,
                false,
            ),
        ] {
            let text = format!(
                r#"{{"ociVersion":"1.2.0","linux":{{"namespaces":[{namespace}]}},
                    "mounts":[{{"destination":"/c","type":"{kind}","source":"c","options":[{options}]}}]}}"#
            );
            let config = Allegation::parse(text.as_bytes()).unwrap();
            assert_eq!(
                is_asked_for(config.config()),
                asked,
                "{namespace} {kind} {options}"
            );
        }
    }
}
