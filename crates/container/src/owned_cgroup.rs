//! Without root and without systemd: the cgroup that `linux.cgroupsPath` names, where it is the caller's to make. Somebody has
//! handed over a part of the hierarchy by making the caller its owner (cgroups(7), "Delegation of a hierarchy to a less
//! privileged user"), and the caller is in it already: the kernel moves nobody in from outside.
//!
//! libcontainer goes on where it may not make a cgroup, and nobody would remember one that it did make. So it is never
//! left to try: the builder is in the container's cgroup already, or what libcontainer is told is where it is anyway.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::unistd::{AccessFlags, access, geteuid};

use crate::error::{ContainerError, Result};

const ROOT: &str = "/sys/fs/cgroup";

/// What there is to know before a container is built without root and without systemd.
#[derive(Debug, Default)]
pub(crate) struct OwnedCgroup {
    /// The container's own, which can be made.
    pub(crate) cgroup: Option<PathBuf>,
    /// Where the builder is: there, or where the caller is.
    pub(crate) is_in: Option<PathBuf>,
    /// Why there is none.
    pub(crate) why_not: Option<String>,
}

impl OwnedCgroup {
    pub(crate) fn of(cgroups_path: &str) -> Self {
        match find(cgroups_path) {
            Ok(cgroup) => OwnedCgroup {
                is_in: Some(cgroup.clone()),
                cgroup: Some(cgroup),
                why_not: None,
            },
            Err(why_not) => OwnedCgroup {
                cgroup: None,
                is_in: current().ok(),
                why_not: Some(why_not),
            },
        }
    }
}

/// The container's cgroup, if it can be made without root; else why it cannot.
fn find(cgroups_path: &str) -> std::result::Result<PathBuf, String> {
    let current = current()?;
    let below = Path::new(cgroups_path.trim_start_matches('/'));
    if !below
        .components()
        .all(|component| matches!(component, Component::Normal(_)))
    {
        return Err(format!("{cgroups_path:?} is no path below the hierarchy"));
    }
    let cgroup = Path::new(ROOT).join(below);
    let Some(there) = cgroup.ancestors().find(|above| above.is_dir()) else {
        return Err(format!("{ROOT} is not there"));
    };
    if !is_owned(there) {
        return Err(format!("{there:?} does not belong to the user"));
    }
    let mut above = cgroup.ancestors().filter(|above| current.starts_with(above));
    let common = above.next().unwrap_or(Path::new(ROOT));
    let members = common.join("cgroup.procs");
    access(&members, AccessFlags::W_OK).map_err(|errno| {
        format!(
            "nobody may be moved there from {current:?}: {members:?}: {}",
            errno.desc()
        )
    })?;
    Ok(cgroup)
}

/// The cgroup that the calling process is in.
fn current() -> std::result::Result<PathBuf, String> {
    let text = fs::read_to_string("/proc/self/cgroup")
        .map_err(|error| format!("cannot read /proc/self/cgroup: {error}"))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    // As it is seen from a cgroup namespace that it lies outside of.
    let path = path.filter(|path| !path.starts_with(".."));
    Ok(Path::new(ROOT).join(path.ok_or("the caller's own cgroup is not to be seen from here")?))
}

fn is_owned(cgroup: &Path) -> bool {
    let own = geteuid().as_raw();
    let belongs = |path: &Path| fs::metadata(path).is_ok_and(|metadata| metadata.uid() == own);
    belongs(cgroup) && belongs(&cgroup.join("cgroup.procs"))
}

/// Moves the calling process there.
pub(crate) fn enter(cgroup: &Path) -> Result<()> {
    let members = cgroup.join("cgroup.procs");
    fs::write(&members, "0").map_err(ContainerError::file("cannot write", members))
}
