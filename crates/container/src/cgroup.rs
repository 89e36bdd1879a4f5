//! A container's cgroups after they were made: who is in them, ending everyone, removing them.
//!
//! With version 2 a container has one directory; with version 1 one for each hierarchy. What is said of "the
//! cgroup" here holds for the whole set.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gabion_descent::Failure;
use gabion_sys::process;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use crate::devices;
use crate::error::{ContainerError, Result};
use crate::limits;
use crate::promise::Promise;
use crate::status;

/// How long ending and removing may take before it is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// The processes in a container's cgroups and in those below, in the runtime's pid namespace.
///
/// # Errors
/// If a cgroup that is there cannot be read.
pub fn processes(cgroups: &[PathBuf]) -> Result<BTreeSet<i32>> {
    let mut pids = BTreeSet::new();
    for directory in cgroups {
        refuse_root(directory)?;
        for directory in tree(directory)? {
            let path = directory.join("cgroup.procs");
            match fs::read_to_string(&path) {
                // 0 is a process of another pid namespace: nothing that this one could name.
                Ok(text) => pids.extend(
                    text.lines()
                        .filter_map(|line| line.parse::<i32>().ok())
                        .filter(|&pid| pid > 0),
                ),
                // Removed meanwhile (ENODEV from an open directory), or a threaded cgroup of version 2
                // (EOPNOTSUPP), whose processes the domain above lists.
                Err(error) if is_gone(&error) || error.raw_os_error() == Some(nix::libc::EOPNOTSUPP) => {}
                Err(error) => return Err(ContainerError::file("cannot read", path)(error)),
            }
        }
    }
    Ok(pids)
}

/// V-14: the process is in the container's cgroups, these limit what was judged, and let it use the devices that were
/// judged. Read from outside, on the host's own hierarchies: inside, a cgroup namespace hides where they are.
///
/// # Errors
/// [`ContainerError::Process`] with a mismatch.
pub(crate) fn verify(promise: &Promise, pid: Pid, cgroups: &[PathBuf]) -> Result<()> {
    // Made without root and without systemd: what would need one was refused (see `crate::rootless`).
    if cgroups.is_empty() {
        return Ok(());
    }
    verify_membership(pid, cgroups)?;
    limits::verify(&promise.limits, cgroups)?;
    match &promise.devices {
        Some(rules) => devices::verify(rules, cgroups),
        None => Ok(()),
    }
}

/// Whoever begins in a frozen cgroup, or is moved there, stands still before it can say anything.
///
/// # Errors
/// [`ContainerError::Unsupported`] for a cgroup that is there already and frozen, or is below one; or if a freezer that
/// is there cannot be read.
pub(crate) fn refuse_frozen(cgroups: &[PathBuf]) -> Result<()> {
    for cgroup in cgroups.iter().flat_map(|cgroup| cgroup.ancestors()) {
        if has_freezer_in(cgroup, &["FROZEN", "FREEZING", "1"])? {
            return Err(ContainerError::Unsupported {
                pointer: "/linux/cgroupsPath".to_owned(),
                text: format!(
                    "container's cgroup unexpectedly frozen: {cgroup:?}. Thaw it, or choose another cgroup"
                ),
            });
        }
    }
    Ok(())
}

/// The part of V-14 that is about one process; one that has ended is nowhere.
pub(crate) fn verify_membership(pid: Pid, cgroups: &[PathBuf]) -> Result<()> {
    let there: Vec<&PathBuf> = cgroups.iter().filter(|cgroup| cgroup.is_dir()).collect();
    let path = format!("/proc/{pid}/cgroup");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if is_gone(&error) || error.raw_os_error() == Some(nix::libc::ESRCH) => return Ok(()),
        Err(error) => return Err(ContainerError::file("cannot read", path)(error)),
    };
    if status::stat(pid.as_raw()).is_none_or(|(state, _)| state == 'Z') {
        return Ok(());
    }
    match there.iter().find(|cgroup| !is_member(&text, cgroup)) {
        None => Ok(()),
        Some(cgroup) => Err(ContainerError::Process(Failure::mismatch(
            "V-14",
            format!("the process is not in the cgroup {cgroup:?}"),
        ))),
    }
}

/// True if /proc/\<pid\>/cgroup names this directory, or one below: `4:pids:/web`, `1:name=systemd:/web`, `0::/web`.
fn is_member(text: &str, cgroup: &Path) -> bool {
    let Ok(below) = cgroup.strip_prefix("/sys/fs/cgroup") else {
        return false;
    };
    text.lines().any(|line| {
        let mut fields = line.splitn(3, ':');
        let (Some(number), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next())
        else {
            return false;
        };
        let path = Path::new(path.trim_start_matches('/'));
        if number == "0" && path.starts_with(below) {
            return true;
        }
        let mut components = below.components();
        let name = components.next().map(|name| name.as_os_str().to_string_lossy());
        let Some(name) = name else { return false };
        let is_this = if number == "0" {
            name == "unified"
        } else {
            controllers
                .split(',')
                .any(|controller| controller.strip_prefix("name=").unwrap_or(controller) == name)
        };
        is_this && path.starts_with(components.as_path())
    })
}

/// Sends a signal to every process; gives how many there were.
///
/// # Errors
/// As [`processes`]; a process that has ended meanwhile is none.
pub fn signal_all(cgroups: &[PathBuf], signal: i32) -> Result<usize> {
    let pids = processes(cgroups)?;
    for &pid in &pids {
        match process::open(Pid::from_raw(pid)).and_then(|process| process::signal(process, signal)) {
            Ok(()) => {}
            Err(error) if error.errno == Errno::ESRCH => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(pids.len())
}

/// Ends every process in a container's cgroups, and waits until all are gone.
///
/// Version 2 does it in one write (`cgroup.kill`, Linux 5.14). With version 1 a process may fork while we
/// look: we look again until nobody is there. Only the first hierarchy is looked at, since looking costs a turn at the
/// kernel's one lock for cgroups, and whoever joined one joined all; should one have been killed between two of them,
/// [`remove`] finds it.
///
/// # Errors
/// If someone is still there after ten seconds: a process in an uninterruptible wait.
pub fn kill_all(cgroups: &[PathBuf]) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    for cgroup in cgroups {
        refuse_root(cgroup)?;
        match fs::write(cgroup.join("cgroup.kill"), "1") {
            Ok(()) => {}
            Err(error) if is_gone(&error) || error.kind() == ErrorKind::PermissionDenied => {}
            Err(error) => {
                return Err(ContainerError::file("cannot write", cgroup.join("cgroup.kill"))(
                    error,
                ));
            }
        }
        thaw(cgroup)?;
    }
    let first = cgroups
        .iter()
        .position(|cgroup| cgroup.join("cgroup.procs").exists());
    let Some(first) = first.map(|at| &cgroups[at..=at]) else {
        return Ok(());
    };
    loop {
        let pids = processes(first)?;
        if pids.is_empty() {
            return Ok(());
        }
        let mut opened = Vec::new();
        for &pid in &pids {
            match process::open(Pid::from_raw(pid)) {
                Ok(process) => {
                    match process::signal(&process, nix::libc::SIGKILL) {
                        Ok(()) => {}
                        Err(error) if error.errno == Errno::ESRCH => {}
                        Err(error) => return Err(error.into()),
                    }
                    opened.push(process);
                }
                Err(error) if error.errno == Errno::ESRCH => {}
                Err(error) => return Err(error.into()),
            }
        }
        for process in &opened {
            let left = deadline.saturating_duration_since(Instant::now());
            wait_for_end(process, left)?;
        }
        crate::builder::reap();
        if Instant::now() >= deadline {
            return Err(ContainerError::Other(format!(
                "processes {pids:?} do not end; they are stuck in the kernel"
            )));
        }
    }
}

/// Waits until a process has ended, or the time is over; true if it has.
///
/// # Errors
/// Whatever poll(2) answers.
pub(crate) fn wait_for_end(process: impl AsFd, time: Duration) -> Result<bool> {
    let deadline = Instant::now() + time;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(ContainerError::call("poll(pidfd)")(errno)),
        }
    }
}

/// A frozen process does not end: the freezer of version 1 is let go. (Version 2 kills frozen ones.)
fn thaw(cgroup: &Path) -> Result<()> {
    let path = cgroup.join("freezer.state");
    match fs::read_to_string(&path) {
        Ok(state) if state.trim() != "THAWED" => {
            fs::write(&path, "THAWED").map_err(ContainerError::file("cannot write", &path))
        }
        Ok(_) => Ok(()),
        Err(error) if is_gone(&error) => Ok(()),
        Err(error) => Err(ContainerError::file("cannot read", path)(error)),
    }
}

/// True if the container is frozen.
///
/// # Errors
/// If a freezer that is there cannot be read.
pub fn is_frozen(cgroups: &[PathBuf]) -> Result<bool> {
    for cgroup in cgroups {
        if has_freezer_in(cgroup, &["FROZEN", "1"])? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// True if a cgroup has a freezer, of either version, in one of these states.
fn has_freezer_in(cgroup: &Path, states: &[&str]) -> Result<bool> {
    for file in ["freezer.state", "cgroup.freeze"] {
        let path = cgroup.join(file);
        match fs::read_to_string(&path) {
            Ok(state) if states.contains(&state.trim()) => return Ok(true),
            Ok(_) => {}
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(ContainerError::file("cannot read", path)(error)),
        }
    }
    Ok(false)
}

/// Removes a container's cgroups, those below first. One that is not there is fine.
///
/// # Errors
/// If one is still busy after ten seconds.
pub fn remove(cgroups: &[PathBuf]) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    for cgroup in cgroups {
        refuse_root(cgroup)?;
        let mut directories = tree(cgroup)?;
        // Deepest first.
        directories.reverse();
        for directory in directories {
            let mut pause = Duration::from_micros(200);
            loop {
                match fs::remove_dir(&directory) {
                    Ok(()) => break,
                    Err(error) if is_gone(&error) => break,
                    // The last process has ended but is still on its way out of the cgroup. The kernel tells
                    // nobody when it is through, so this is the one place that looks again after a pause.
                    Err(error) if error.kind() == ErrorKind::ResourceBusy && Instant::now() < deadline => {
                        kill_all(std::slice::from_ref(&directory))?;
                        std::thread::sleep(pause);
                        pause = (pause * 2).min(Duration::from_millis(50));
                    }
                    Err(error) => {
                        return Err(ContainerError::file("cannot remove the cgroup", directory)(error));
                    }
                }
            }
        }
    }
    Ok(())
}

/// The root of a hierarchy holds the whole host. Judgement refuses it (RES-05); a damaged record or a mistake of
/// ours must not end every process either.
fn refuse_root(cgroup: &Path) -> Result<()> {
    let above = cgroup.parent().unwrap_or(Path::new("/"));
    if cgroup.join("cgroup.procs").exists() && !above.join("cgroup.procs").exists() {
        return Err(ContainerError::Other(format!(
            "{cgroup:?} is the root of a cgroup hierarchy, and no container's"
        )));
    }
    Ok(())
}

/// A cgroup and those below it, each before those below it; empty if it is not there.
fn tree(top: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![top.to_path_buf()];
    while let Some(directory) = pending.pop() {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(ContainerError::file("cannot read", directory)(error)),
        };
        for entry in entries {
            let entry = entry.map_err(ContainerError::file("cannot read", &directory))?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                pending.push(entry.path());
            }
        }
        found.push(directory);
    }
    Ok(found)
}

fn is_gone(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ENODEV)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_a_hierarchy_is_never_a_containers_cgroup() {
        for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified"].map(PathBuf::from) {
            if !root.join("cgroup.procs").exists() {
                continue;
            }
            let roots = [root];
            assert!(
                processes(&roots)
                    .unwrap_err()
                    .to_string()
                    .contains("is the root of a cgroup hierarchy")
            );
            assert!(kill_all(&roots).is_err());
            assert!(remove(&roots).is_err());
        }
    }

    #[test]
    fn the_kernels_lines_are_held_against_the_containers_directories() {
        let first = "4:pids:/web\n3:cpu,cpuacct:/other\n2:memory:/web/below\n1:name=systemd:/web\n0::/\n";
        for (directory, is_in) in [
            ("/sys/fs/cgroup/pids/web", true),
            ("/sys/fs/cgroup/memory/web", true),
            ("/sys/fs/cgroup/systemd/web", true),
            ("/sys/fs/cgroup/cpu/web", false),
            ("/sys/fs/cgroup/cpuacct/other", true),
            ("/sys/fs/cgroup/unified/web", false),
            ("/sys/fs/cgroup/pids/we", false),
            ("/elsewhere/pids/web", false),
        ] {
            assert_eq!(is_member(first, Path::new(directory)), is_in, "{directory}");
        }
        assert!(is_member("0::/a/web\n", Path::new("/sys/fs/cgroup/a/web")));
        assert!(is_member("0::/web\n", Path::new("/sys/fs/cgroup/unified/web")));
        assert!(!is_member("0::/b\n", Path::new("/sys/fs/cgroup/a/web")));
    }

    #[test]
    fn a_cgroup_that_is_not_there_holds_nobody_and_is_removed_already() {
        let gone = [PathBuf::from("/sys/fs/cgroup/pids/gabion-never-made")];
        assert!(processes(&gone).unwrap().is_empty());
        kill_all(&gone).unwrap();
        remove(&gone).unwrap();
    }
}
