//! `pause` and `resume`: a container's processes stand still, or go on.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::cgroup;
use crate::error::{ContainerError, Result};
use crate::id::ContainerId;
use crate::state::{Record, StateRoot};
use crate::status::{self, Status};

/// How long a process may take to stand still: it does so when it next returns from the kernel.
const PATIENCE: Duration = Duration::from_secs(10);

/// Stops every process of a container where it stands.
///
/// # Errors
/// [`ContainerError::WrongState`] unless the container is created or running; if not all processes stand still after
/// ten seconds they are let go again.
pub fn pause(root: &StateRoot, id: &ContainerId) -> Result<()> {
    let record = in_state(root, id, "pause", &[Status::Created, Status::Running])?;
    set(&record, true).inspect_err(|_| {
        if let Err(error) = set(&record, false) {
            tracing::error!(%error, "a container that could not be paused could not be let go either");
        }
    })
}

/// Lets them go on.
///
/// # Errors
/// [`ContainerError::WrongState`] unless the container is paused.
pub fn resume(root: &StateRoot, id: &ContainerId) -> Result<()> {
    let record = in_state(root, id, "resume", &[Status::Paused])?;
    set(&record, false)
}

/// The processes of a container, in the runtime's pid namespace.
///
/// # Errors
/// [`ContainerError::Missing`], or if its cgroup cannot be read.
pub fn processes(root: &StateRoot, id: &ContainerId) -> Result<Vec<i32>> {
    let record = root.read(id)?;
    if record.cgroups.is_empty() {
        return Err(ContainerError::Other(
            "the processes of a container that was made without root cannot be listed: it has no cgroup"
                .to_owned(),
        ));
    }
    Ok(cgroup::processes(&record.cgroups)?.into_iter().collect())
}

/// Lets them go on, whatever stopped them: for one who was killed before it could.
pub(crate) fn thaw(record: &Record) -> Result<()> {
    set(record, false)
}

fn in_state(
    root: &StateRoot,
    id: &ContainerId,
    operation: &'static str,
    wanted: &[Status],
) -> Result<Record> {
    let record = root.read(id)?;
    let status = status::of(&record, &root.of(id))?;
    if !wanted.contains(&status) {
        return Err(ContainerError::WrongState {
            operation,
            status: status.name(),
        });
    }
    Ok(record)
}

fn set(record: &Record, frozen: bool) -> Result<()> {
    for cgroup in &record.cgroups {
        for (file, words) in [
            ("freezer.state", ["THAWED", "FROZEN"]),
            ("cgroup.freeze", ["0", "1"]),
        ] {
            let path = cgroup.join(file);
            if path.exists() {
                let word = words[usize::from(frozen)];
                fs::write(&path, word).map_err(ContainerError::file("cannot write", &path))?;
                return wait(cgroup, frozen, &path, word);
            }
        }
    }
    Err(ContainerError::Other(
        "the container has no cgroup with a freezer".to_owned(),
    ))
}

/// Waits until the kernel says that it is so. Version 1 reads `FREEZING` meanwhile, and has nothing to wait on;
/// writing again freezes what was forked in between. Version 2 shows it in `cgroup.events`.
fn wait(cgroup: &Path, frozen: bool, path: &Path, word: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let events = cgroup.join("cgroup.events");
    let mut pause = Duration::from_micros(100);
    loop {
        let there = match fs::read_to_string(&events) {
            Ok(text) => text
                .lines()
                .any(|line| line == format!("frozen {}", u8::from(frozen))),
            Err(_) => {
                let state = fs::read_to_string(path).map_err(ContainerError::file("cannot read", path))?;
                state.trim() == word
            }
        };
        if there {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(ContainerError::Other(
                "the container's processes do not stand still".to_owned(),
            ));
        }
        fs::write(path, word).map_err(ContainerError::file("cannot write", path))?;
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
