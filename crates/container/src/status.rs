//! Where a container is in its life, as the kernel has it: nothing here is remembered, so nothing is stale.

use std::fs;
use std::path::Path;

use gabion_sys::process;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use crate::cgroup;
use crate::error::{ContainerError, Result};
use crate::id::ContainerId;
use crate::state::{self, Init, Record, StateRoot};

/// A container's status (runtime.md, "State"), and `paused` as other runtimes have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// A container as it is now.
#[derive(Debug, Clone)]
pub struct Container {
    /// What is remembered of it.
    pub record: Record,
    /// Its status.
    pub status: Status,
}

impl Container {
    /// Looks at a container.
    ///
    /// # Errors
    /// [`ContainerError::Missing`], [`ContainerError::Damaged`].
    pub fn find(root: &StateRoot, id: &ContainerId) -> Result<Self> {
        let record = root.read(id)?;
        let status = of(&record, &root.of(id))?;
        Ok(Container { record, status })
    }

    /// The init process' id, if it is alive.
    pub fn pid(&self) -> Option<i32> {
        match self.status {
            Status::Creating | Status::Stopped => None,
            Status::Created | Status::Running | Status::Paused => self.record.init.map(|init| init.pid),
        }
    }
}

/// All containers of a state root. One that is damaged is an error of its own, in its place.
///
/// # Errors
/// If the state root cannot be read.
pub fn list(root: &StateRoot) -> Result<Vec<Result<Container>>> {
    let ids = root.ids()?;
    let found = ids.iter().map(|id| Container::find(root, id));
    // One that was deleted between the two looks is not there.
    Ok(found
        .filter(|container| !matches!(container, Err(ContainerError::Missing(_))))
        .collect())
}

/// The status of a container whose record was read from `directory`.
pub(crate) fn of(record: &Record, directory: &Path) -> Result<Status> {
    let Some(init) = record.init else {
        // If whoever builds it is not there any more, nobody will end what was begun.
        let maker = state::read_maker(directory).map(alive).transpose()?;
        return Ok(match maker.flatten() {
            Some(_) => Status::Creating,
            None => Status::Stopped,
        });
    };
    if alive(init)?.is_none() {
        return Ok(Status::Stopped);
    }
    if waits_for_start(directory)? {
        return Ok(Status::Created);
    }
    Ok(if cgroup::is_frozen(&record.cgroups)? {
        Status::Paused
    } else {
        Status::Running
    })
}

/// A descriptor of the init process, if it is that very process and has not ended.
///
/// # Errors
/// Whatever pidfd_open(2) answers but ESRCH.
pub(crate) fn alive(init: Init) -> Result<Option<std::os::fd::OwnedFd>> {
    let process = match process::open(Pid::from_raw(init.pid)) {
        Ok(process) => process,
        // EINVAL: the number is now that of a thread.
        Err(error) if matches!(error.errno, Errno::ESRCH | Errno::EINVAL) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // The descriptor was opened before the time was read: if the time is right, the descriptor is too.
    Ok(match stat(init.pid) {
        Some((state, start_time)) if start_time == init.start_time && !matches!(state, 'Z' | 'X' | 'x') => {
            Some(process)
        }
        _ => None,
    })
}

/// State letter and start time of a process (proc_pid_stat(5), fields 3 and 22).
pub(crate) fn stat(pid: i32) -> Option<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses, and may hold spaces and parentheses itself.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let start_time = fields.nth(18)?.parse().ok()?;
    Some((state, start_time))
}

/// The name of the FIFO that init holds open until execve.
pub(crate) const START_FIFO: &str = "start.fifo";

/// True while the program has not begun: a FIFO can be opened for writing without waiting only as long as
/// somebody has it open for reading (fifo(7)), and init does until execve closes it.
fn waits_for_start(directory: &Path) -> Result<bool> {
    let path = directory.join(START_FIFO);
    match open(
        &path,
        OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC,
        Mode::empty(),
    ) {
        Ok(_) => Ok(true),
        Err(Errno::ENXIO | Errno::ENOENT) => Ok(false),
        Err(errno) => Err(ContainerError::call(format!(
            "open({path:?}, O_WRONLY|O_NONBLOCK)"
        ))(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start_time_too() {
        let own = std::process::id().cast_signed();
        let (_, start_time) = stat(own).unwrap();
        assert!(alive(Init { pid: own, start_time }).unwrap().is_some());
        assert!(
            alive(Init {
                pid: own,
                start_time: start_time + 1
            })
            .unwrap()
            .is_none()
        );
    }

    #[test]
    fn the_fifo_tells_whether_somebody_still_waits() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!waits_for_start(directory.path()).unwrap());
        let path = directory.path().join(START_FIFO);
        nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap();
        assert!(!waits_for_start(directory.path()).unwrap());
        let reader = open(&path, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
        assert!(waits_for_start(directory.path()).unwrap());
        drop(reader);
        assert!(!waits_for_start(directory.path()).unwrap());
    }
}
