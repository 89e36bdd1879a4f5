//! `kill`: a signal to the init process, or to everyone.

use gabion_sys::process;
use nix::errno::Errno;

use crate::cgroup;
use crate::error::{ContainerError, Result};
use crate::id::ContainerId;
use crate::state::{Record, StateRoot};
use crate::status::{self, Status};

/// Whom a signal is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The init process.
    Init,
    /// Every process of the container.
    All,
}

/// Sends a signal.
///
/// `SIGKILL` ends the container, so it is for every process: without a pid namespace of the container's own the others
/// would go on without the first, and as a stopped container's nobody could signal them any more.
///
/// The init process is addressed by descriptor after its start time was compared, so that a later process with
/// the same number is never hit.
///
/// # Errors
/// [`ContainerError::WrongState`] if the container is not created, running or paused; with [`Reach::All`] or `SIGKILL` a
/// stopped one is asked for what is left in its cgroup.
pub fn kill(root: &StateRoot, id: &ContainerId, signal: i32, reach: Reach) -> Result<()> {
    let record = root.read(id)?;
    let status = status::of(&record, &root.of(id))?;
    if reach == Reach::All || signal == nix::libc::SIGKILL {
        let reached = cgroup::signal_all(&record.cgroups, signal)?;
        if reached > 0 || (reach == Reach::All && status == Status::Stopped) {
            return Ok(());
        }
    }
    let not_running = || ContainerError::WrongState {
        operation: "kill",
        status: status.name(),
    };
    let Some(init) = record.init else {
        return Err(not_running());
    };
    let Some(process) = status::alive(init)? else {
        return Err(ContainerError::WrongState {
            operation: "kill",
            status: Status::Stopped.name(),
        });
    };
    match process::signal(&process, signal) {
        Ok(()) => Ok(()),
        Err(error) if error.errno == Errno::ESRCH => Err(not_running()),
        Err(error) => Err(error.into()),
    }
}

/// Ends a container's processes, all of them.
pub(crate) fn end(record: &Record) -> Result<()> {
    if let Some(init) = record.init
        && let Some(process) = status::alive(init)?
    {
        match process::signal(&process, nix::libc::SIGKILL) {
            Ok(()) => {}
            Err(error) if error.errno == Errno::ESRCH => {}
            Err(error) => return Err(error.into()),
        }
    }
    cgroup::kill_all(&record.cgroups)?;
    // Without a cgroup of its own there is no list to wait on.
    if let Some(init) = record.init
        && let Some(process) = status::alive(init)?
    {
        cgroup::wait_for_end(process, std::time::Duration::from_secs(10))?;
    }
    Ok(())
}
