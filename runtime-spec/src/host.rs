//! What this machine can show: its cgroup hierarchies and controllers, its mounts, its processes.

use crate::clause::Stop;
use crate::expect::skip;
use crate::runtime::read;
use std::fs;
use std::path::{Path, PathBuf};

/// One mounted cgroup hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Which kind.
    pub version: Version,
    /// The controllers that can be used in it.
    pub controllers: Vec<String>,
}

/// The two kinds of cgroup hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy per controller.
    V1,
    /// One hierarchy for all.
    V2,
}

/// The hierarchies a runtime started here can see.
pub fn hierarchies() -> Vec<Hierarchy> {
    // A mount on top hides what was mounted before at or below the same place, as in a private mount
    // namespace where cgroup2 was mounted over a v1 tree. What is hidden does not count.
    let table = read(Path::new("/proc/self/mountinfo"));
    let mut seen: Vec<(PathBuf, String, String)> = Vec::new();
    for line in table.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let Some(place) = left.split(' ').nth(4).map(PathBuf::from) else {
            continue;
        };
        let mut right = right.split(' ');
        let kind = right.next().unwrap_or_default().to_owned();
        let options = right.nth(1).unwrap_or_default().to_owned();
        seen.retain(|(older, ..)| !older.starts_with(&place));
        seen.push((place, kind, options));
    }
    let mut found = Vec::new();
    for (mount, kind, options) in seen {
        match kind.as_str() {
            "cgroup" => {
                let ours = |word: &&str| !matches!(*word, "rw" | "ro" | "xattr" | "clone_children");
                let controllers = options.split(',').filter(ours).map(str::to_owned).collect();
                found.push(Hierarchy {
                    mount,
                    version: Version::V1,
                    controllers,
                });
            }
            "cgroup2" => {
                let listed = read(&mount.join("cgroup.controllers"));
                let controllers = listed.split_whitespace().map(str::to_owned).collect();
                found.push(Hierarchy {
                    mount,
                    version: Version::V2,
                    controllers,
                });
            }
            _ => {}
        }
    }
    found
}

/// What kind of cgroup machine this is, in a word: `v1`, `hybrid`, `v2` or `none`.
pub fn cgroup_mode() -> &'static str {
    let all = hierarchies();
    let has = |version| all.iter().any(|hierarchy| hierarchy.version == version);
    match (has(Version::V1), has(Version::V2)) {
        (true, true) => "hybrid",
        (true, false) => "v1",
        (false, true) => "v2",
        (false, false) => "none",
    }
}

/// The hierarchy that has the controller, or a skip that says it is missing.
pub fn controller(name: &str) -> Result<Hierarchy, Stop> {
    let has = |hierarchy: &Hierarchy| {
        let name = if hierarchy.version == Version::V2 && name == "blkio" {
            "io"
        } else {
            name
        };
        hierarchy.controllers.iter().any(|controller| controller == name)
    };
    // On a hybrid host runtimes manage the v1 hierarchies; what the v2 one beside them has is not theirs.
    let hybrid = cgroup_mode() == "hybrid";
    let managed = |hierarchy: &Hierarchy| !(hybrid && hierarchy.version == Version::V2);
    match hierarchies()
        .into_iter()
        .find(|hierarchy| managed(hierarchy) && has(hierarchy))
    {
        Some(hierarchy) => Ok(hierarchy),
        None => skip(format!("no {name} controller here (cgroup {})", cgroup_mode())),
    }
}

/// The directories of a cgroup that exist, in all hierarchies.
pub fn cgroup_directories(path: &str) -> Vec<PathBuf> {
    let relative = path.trim_start_matches('/');
    let places = hierarchies()
        .into_iter()
        .map(|hierarchy| hierarchy.mount.join(relative));
    places.filter(|place| place.is_dir()).collect()
}

/// The mount points at or below a directory, in this mount namespace.
pub fn mounts_below(directory: &Path) -> Vec<PathBuf> {
    let table = read(Path::new("/proc/self/mountinfo"));
    let places = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from);
    places.filter(|place| place.starts_with(directory)).collect()
}

/// True if the process exists and has not ended.
pub fn is_alive(pid: i32) -> bool {
    let stat = read(Path::new(&format!("/proc/{pid}/stat")));
    match stat.rsplit_once(") ") {
        Some((_, rest)) => !rest.starts_with('Z') && !rest.starts_with('X'),
        None => false,
    }
}

/// True if this process, and so a runtime that it starts, has the capability.
pub fn has_capability(number: u32) -> bool {
    let status = read(Path::new("/proc/self/status"));
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> number & 1 == 1)
}

/// The name of a process's namespace, such as `net:[4026531840]`. The process may be `self`.
pub fn namespace(process: &str, kind: &str) -> Result<String, Stop> {
    let link = fs::read_link(format!("/proc/{process}/ns/{kind}"))?;
    Ok(link.to_string_lossy().into_owned())
}

/// A skip unless the kernel has the namespace.
pub fn needs_namespace(kind: &str) -> Result<(), Stop> {
    if Path::new("/proc/self/ns").join(kind).exists() {
        return Ok(());
    }
    skip(format!("this kernel has no {kind} namespace"))
}
