//! Control groups of the host, and what is already at `linux.cgroupsPath`.

use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use gabion_baseline::facts::{CgroupFact, CgroupMode, Fact};
use nix::errno::Errno;
use nix::sys::stat::stat;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, TMPFS_MAGIC, statfs};

use crate::text::read_if_there;

/// Where cgroups are mounted by every init that engines run under.
const ROOT: &str = "/sys/fs/cgroup";

/// The directories in which version 1 hierarchies are mounted. Where two controllers share a hierarchy
/// (`cpu,cpuacct`), each has a link of its own name.
const HIERARCHIES: [&str; 15] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "misc",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
    "rdma",
    "systemd",
];

/// Cgroups looked at below one that exists already, before giving up.
const MAX_DESCENDANTS: usize = 1000;

/// How cgroups are mounted.
///
/// # Errors
/// A sentence, if /sys/fs/cgroup is neither of the layouts that runtimes know.
pub fn mode() -> Result<CgroupMode, String> {
    mode_of(Path::new(ROOT))
}

fn mode_of(root: &Path) -> Result<CgroupMode, String> {
    let kind = |path: &Path| statfs(path).map(|answer| answer.filesystem_type());
    match kind(root) {
        Ok(CGROUP2_SUPER_MAGIC) => Ok(CgroupMode::Unified),
        Ok(TMPFS_MAGIC) => match kind(&root.join("unified")) {
            Ok(CGROUP2_SUPER_MAGIC) => Ok(CgroupMode::Hybrid),
            Ok(_) | Err(Errno::ENOENT) => Ok(CgroupMode::Legacy),
            Err(errno) => Err(format!("{root:?}/unified: {}", errno.desc())),
        },
        Ok(_) => Err(format!(
            "{root:?} is neither a cgroup2 file system nor a tmpfs with cgroup hierarchies in it"
        )),
        Err(errno) => Err(format!("{root:?}: {}; are cgroups mounted?", errno.desc())),
    }
}

/// The directories that a `linux.cgroupsPath` stands for, whether they exist or not.
///
/// `slice:prefix:name` is systemd's form; it is given expanded, and as written too, since only the command line
/// says which of the two an engine means. `..` never leads out of the hierarchy.
#[must_use]
pub fn locate(mode: CgroupMode, cgroups_path: &str) -> Vec<PathBuf> {
    let below = below(cgroups_path);
    hierarchies(mode)
        .iter()
        .flat_map(|hierarchy| below.iter().map(|path| hierarchy.join(path)))
        .collect()
}

fn hierarchies(mode: CgroupMode) -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    match mode {
        CgroupMode::Unified => vec![root.to_path_buf()],
        CgroupMode::Legacy => HIERARCHIES.iter().map(|name| root.join(name)).collect(),
        CgroupMode::Hybrid => HIERARCHIES
            .iter()
            .chain(&["unified"])
            .map(|name| root.join(name))
            .collect(),
    }
}

/// The paths below a hierarchy's root, relative.
fn below(cgroups_path: &str) -> Vec<PathBuf> {
    let mut written = PathBuf::new();
    for component in Path::new(cgroups_path).components() {
        match component {
            Component::Normal(name) => written.push(name),
            Component::ParentDir => {
                written.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    let parts: Vec<&str> = cgroups_path.split(':').collect();
    let unit = match parts[..] {
        _ if cgroups_path.contains('/') => None,
        [prefix, name] => Some(("", prefix, name)),
        [slice, prefix, name] => Some((slice, prefix, name)),
        _ => None,
    };
    let Some((slice, prefix, name)) = unit else {
        return vec![written];
    };
    let slice = if slice.is_empty() { "system.slice" } else { slice };
    let unit = if name.ends_with(".slice") {
        name.to_owned()
    } else {
        format!("{prefix}-{name}.scope")
    };
    vec![below_root(slice).join(unit), written]
}

/// The cgroup of a slice of systemd, with version 2.
#[must_use]
pub fn slice(name: &str) -> PathBuf {
    Path::new(ROOT).join(below_root(name))
}

/// The directory of a slice: `a-b.slice` lies in `a.slice` (systemd.slice(5)).
fn below_root(slice: &str) -> PathBuf {
    let stem = slice.strip_suffix(".slice").unwrap_or(slice);
    let mut path = PathBuf::new();
    if stem == "-" {
        return path;
    }
    for (end, _) in stem.match_indices('-').chain([(stem.len(), "")]) {
        path.push(format!("{}.slice", &stem[..end]));
    }
    path
}

/// Looks at the cgroups that a path stands for; none is named if the runtime chooses one itself.
pub(crate) fn collect(cgroups_path: Option<&str>) -> Fact<CgroupFact> {
    let look = || -> Result<CgroupFact, String> {
        let mode = mode()?;
        let Some(path) = cgroups_path else {
            return Ok(CgroupFact {
                mode,
                occupied: None,
                ancestor_pids_limit: None,
            });
        };
        let mut occupied = None;
        for directory in locate(mode, path) {
            if is_populated(&directory).map_err(|error| format!("{directory:?}: {error}"))? {
                occupied = Some(directory);
                break;
            }
        }
        Ok(CgroupFact {
            mode,
            occupied,
            ancestor_pids_limit: ancestor_pids_limit(mode, path)?,
        })
    };
    match look() {
        Ok(fact) => Fact::Known(fact),
        Err(why) => Fact::Unknown(why),
    }
}

/// True if there are processes in a cgroup or below it; one that is not there has none.
///
/// # Errors
/// What cannot be read of one that is there.
pub fn is_populated(directory: &Path) -> io::Result<bool> {
    // Most often there is no such cgroup yet, in any of a dozen hierarchies.
    match stat(directory) {
        Ok(_) => {}
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(false),
        Err(errno) => return Err(errno.into()),
    }
    // Version 2 counts for us.
    let events = directory.join("cgroup.events");
    match fs::read_to_string(&events) {
        Ok(text) => return Ok(text.lines().any(|line| line == "populated 1")),
        Err(error) if is_missing(&error) => {}
        Err(error) => return Err(error),
    }
    let mut pending = vec![directory.to_path_buf()];
    let mut seen = 0;
    while let Some(directory) = pending.pop() {
        seen += 1;
        if seen > MAX_DESCENDANTS {
            return Err(io::Error::other(format!(
                "more than {MAX_DESCENDANTS} cgroups are below it"
            )));
        }
        match fs::File::open(directory.join("cgroup.procs")) {
            Ok(mut file) => {
                if file.read(&mut [0; 16])? > 0 {
                    return Ok(true);
                }
            }
            // Without that file there is no cgroup; it may be gone since it was listed.
            Err(error) if is_missing(&error) => continue,
            Err(error) => return Err(error),
        }
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    Ok(false)
}

/// The lowest `pids.max` above the cgroup to be made, the root of the hierarchy excluded.
fn ancestor_pids_limit(mode: CgroupMode, cgroups_path: &str) -> Result<Option<u64>, String> {
    // In a hybrid layout the controller is in one of the two.
    let roots: &[&str] = match mode {
        CgroupMode::Unified => &[""],
        CgroupMode::Legacy => &["pids"],
        CgroupMode::Hybrid => &["pids", "unified"],
    };
    let mut lowest: Option<u64> = None;
    for path in below(cgroups_path) {
        for ancestor in path
            .ancestors()
            .skip(1)
            .filter(|ancestor| !ancestor.as_os_str().is_empty())
        {
            for root in roots {
                let file = Path::new(ROOT).join(root).join(ancestor).join("pids.max");
                let limit = pids_max(&file)?;
                lowest = [lowest, limit].into_iter().flatten().min();
            }
        }
    }
    Ok(lowest)
}

/// A `pids.max`; none if it says `max`, or if there is no such cgroup yet.
fn pids_max(file: &Path) -> Result<Option<u64>, String> {
    let name = file.to_string_lossy();
    let text = match read_if_there(&name, 64) {
        Ok(Some(text)) => text,
        Ok(None) => return Ok(None),
        Err(error) => return Err(format!("{file:?}: {error}")),
    };
    match text.trim() {
        "max" => Ok(None),
        number => number
            .parse()
            .map(Some)
            .map_err(|_| format!("{file:?} is {text:?}, which is no limit")),
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::needs_root;

    fn one(path: &str) -> Vec<String> {
        locate(CgroupMode::Unified, path)
            .iter()
            .map(|path| path.display().to_string())
            .collect()
    }

    #[test]
    fn paths_of_engines_lead_where_they_create_cgroups() {
        assert_eq!(one("/docker/ab"), ["/sys/fs/cgroup/docker/ab"]);
        assert_eq!(one("docker/ab"), ["/sys/fs/cgroup/docker/ab"]);
        assert_eq!(
            one("system.slice:docker:ab"),
            [
                "/sys/fs/cgroup/system.slice/docker-ab.scope",
                "/sys/fs/cgroup/system.slice:docker:ab"
            ]
        );
        assert_eq!(
            one("kubepods-burstable-pod1.slice:cri-containerd:ab")[0],
            "/sys/fs/cgroup/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-ab.scope"
        );
        assert_eq!(
            one(":gabion:ab")[0],
            "/sys/fs/cgroup/system.slice/gabion-ab.scope"
        );
        assert_eq!(one("-.slice:a:b")[0], "/sys/fs/cgroup/a-b.scope");
        assert_eq!(one("/a:b:c/d"), ["/sys/fs/cgroup/a:b:c/d"]);
    }

    #[test]
    fn no_path_leads_out_of_the_hierarchy() {
        assert_eq!(one("/../../etc"), ["/sys/fs/cgroup/etc"]);
        assert_eq!(one("/a/../../b"), ["/sys/fs/cgroup/b"]);
        assert_eq!(one("/"), ["/sys/fs/cgroup/"]);
    }

    #[test]
    fn version_1_has_a_directory_in_each_hierarchy() {
        let paths = locate(CgroupMode::Hybrid, "/x");
        assert_eq!(paths.len(), HIERARCHIES.len() + 1);
        assert!(paths.contains(&PathBuf::from("/sys/fs/cgroup/pids/x")));
        assert!(paths.contains(&PathBuf::from("/sys/fs/cgroup/unified/x")));
        assert!(!locate(CgroupMode::Legacy, "/x").contains(&PathBuf::from("/sys/fs/cgroup/unified/x")));
    }

    #[test]
    fn a_directory_that_is_no_cgroup_mount_is_not_guessed_at() {
        let directory = tempfile::tempdir().unwrap();
        let why = mode_of(&directory.path().join("none")).unwrap_err();
        assert!(why.ends_with("are cgroups mounted?"), "{why}");
        assert!(mode_of(Path::new("/proc")).unwrap_err().contains("neither"));
    }

    /// A cgroup of this host with a name of its own, removed with the test.
    struct Cgroup(PathBuf);

    impl Cgroup {
        fn make(hierarchy: &str, name: &str) -> Self {
            let path = Path::new(ROOT).join(hierarchy).join(name);
            fs::create_dir(&path).unwrap();
            Cgroup(path)
        }
    }

    impl Drop for Cgroup {
        fn drop(&mut self) {
            fs::remove_dir(&self.0).unwrap();
        }
    }

    #[test]
    fn a_process_below_the_path_makes_it_occupied_and_an_empty_cgroup_does_not() {
        needs_root!();
        let hierarchy = match mode().unwrap() {
            CgroupMode::Unified => "",
            CgroupMode::Legacy | CgroupMode::Hybrid => "pids",
        };
        let name = format!("gabion-host-test-{}", std::process::id());
        let outer = Cgroup::make(hierarchy, &name);
        let inner = Cgroup::make(hierarchy, &format!("{name}/inner"));
        let fact = || collect(Some(&format!("/{name}"))).known().cloned().unwrap();
        assert_eq!(fact().occupied, None);
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        fs::write(inner.0.join("cgroup.procs"), child.id().to_string()).unwrap();
        assert_eq!(fact().occupied, Some(outer.0.clone()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(fact().occupied, None);
        drop(inner);
    }

    #[test]
    fn the_lowest_limit_above_counts_and_the_cgroups_own_does_not() {
        needs_root!();
        let hierarchy = match mode().unwrap() {
            CgroupMode::Unified => "",
            CgroupMode::Legacy | CgroupMode::Hybrid => "pids",
        };
        let name = format!("gabion-pids-test-{}", std::process::id());
        let outer = Cgroup::make(hierarchy, &name);
        if !outer.0.join("pids.max").exists() {
            println!("SKIPPED needs root: the pids controller is not delegated here");
            return;
        }
        let inner = Cgroup::make(hierarchy, &format!("{name}/inner"));
        let limit = |path: &str| ancestor_pids_limit(mode().unwrap(), &format!("/{name}{path}")).unwrap();
        if mode().unwrap() == CgroupMode::Unified {
            fs::write(outer.0.join("cgroup.subtree_control"), "+pids").unwrap();
        }
        assert_eq!(limit("/inner/leaf"), None);
        fs::write(outer.0.join("pids.max"), "70").unwrap();
        fs::write(inner.0.join("pids.max"), "90").unwrap();
        assert_eq!(limit("/inner/leaf"), Some(70));
        fs::write(inner.0.join("pids.max"), "50").unwrap();
        assert_eq!(limit("/inner/leaf"), Some(50));
        assert_eq!(limit("/inner"), Some(70));
        assert_eq!(limit(""), None);
    }
}
