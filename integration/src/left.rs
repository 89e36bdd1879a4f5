//! What is left of a container, anywhere on the host.

use std::fs;
use std::path::{Path, PathBuf};

/// Everything that has to do with a container's id or lies below its bundle: cgroups, mounts, processes. In words,
/// for a test that fails if there is any.
pub fn left(id: &str, bundle: &Path) -> Vec<String> {
    let mut left = Vec::new();
    left.extend(cgroups(id).iter().map(|path| format!("cgroup {path:?}")));
    left.extend(mounts_below(bundle).iter().map(|path| format!("mount {path:?}")));
    left.extend(processes_of(id).iter().map(|pid| format!("process {pid}")));
    left
}

/// The cgroups whose name holds an id, in every hierarchy.
pub fn cgroups(id: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect(Path::new("/sys/fs/cgroup"), id, &mut found);
    found
}

fn collect(directory: &Path, id: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if entry.file_name().to_string_lossy().contains(id) {
                found.push(entry.path());
            }
            collect(&entry.path(), id, found);
        }
    }
}

/// The mount points at and below a directory, in this mount namespace.
pub fn mounts_below(directory: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points
        .map(PathBuf::from)
        .filter(|point| point.starts_with(directory))
        .collect()
}

/// The processes whose cgroup or command line names an id, without those that have ended and those of the tests.
pub fn processes_of(id: &str) -> Vec<i32> {
    let own = std::process::id().cast_signed();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        let names = |file: &str| {
            fs::read(entry.path().join(file)).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(id))
        };
        if pid != own && (names("cgroup") || names("cmdline")) && is_alive(pid) {
            found.push(pid);
        }
    }
    found
}

/// True if a process is there and has not ended.
pub fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X', 'x']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_the_id_in_its_words_is_found() {
        let id = format!("0.031{}", std::process::id());
        let mut child = std::process::Command::new("sleep")
            .args(["60", &id])
            .spawn()
            .unwrap();
        // A program's words are to be seen a moment after it was started.
        let found = crate::wait_until(|| processes_of(&id) == [child.id().cast_signed()]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found);
        assert_eq!(processes_of(&id), [0; 0]);
    }
}
