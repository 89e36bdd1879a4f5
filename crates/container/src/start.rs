//! `start`: let the init process go, and hear what came of it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use crate::cgroup;
use crate::delete::{Force, delete_locked};
use crate::error::{ContainerError, Result};
use crate::hooks::{self, HookState};
use crate::id::ContainerId;
use crate::kill;
use crate::promise::Promise;
use crate::state::{Locked, Record, StateRoot};
use crate::status::{self, START_FIFO, Status};

/// Starts a created container: its program runs when this returns.
///
/// # Errors
/// [`ContainerError::WrongState`] unless it is created; [`ContainerError::Process`] with the reality gate's
/// mismatch, or with what kept the program from being executed. The container is then stopped. With
/// [`ContainerError::Hook`] of a poststart hook it is gone.
pub fn start(root: &StateRoot, id: &ContainerId) -> Result<()> {
    let locked = root.lock(id)?;
    let record = locked.record()?;
    let Err(error) = start_locked(&locked, &record) else {
        return Ok(());
    };
    if matches!(error, ContainerError::Hook { .. }) {
        // The spec goes on with the step in which the container is destroyed (runtime.md, "Lifecycle").
        if let Err(error) = delete_locked(root, locked, &record, Force::Yes) {
            tracing::error!(%error, "a container whose poststart hook failed could not be deleted");
        }
    }
    Err(error)
}

pub(crate) fn start_locked(locked: &Locked, record: &Record) -> Result<()> {
    let status = status::of(record, locked.path())?;
    if status != Status::Created {
        return Err(ContainerError::WrongState {
            operation: "start",
            status: status.name(),
        });
    }
    let path = locked.path().join(START_FIFO);
    // Opened before init is let go: it cannot end unheard.
    let reader = open(&path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(ContainerError::call(format!("open({path:?})")))?;
    // As late as it can be done from outside: the program does not run yet, and nobody but the host's root can change
    // what is looked at.
    let promise = Promise::of(locked)?;
    if let Some(init) = record.init {
        cgroup::verify(&promise, Pid::from_raw(init.pid), &record.cgroups).inspect_err(|_| {
            // As after any other mismatch: the container is stopped, and nothing of it will ever run.
            if let Err(error) = kill::end(record) {
                tracing::error!(%error, "a container that is not as it was judged could not be ended");
            }
        })?;
    }
    go(locked, record)?;
    let mut bytes = Vec::new();
    File::from(reader)
        .read_to_end(&mut bytes)
        .map_err(ContainerError::file("cannot read", &path))?;
    let spent = gabion_descent::report::outcome(&bytes).map_err(ContainerError::Process)?;
    tracing::debug!(microseconds = spent.as_micros(), "the reality gate is passed");

    let pid = record.init.map(|init| init.pid);
    let state = HookState::of(record, "running", pid);
    hooks::run("poststart", &record.hooks.poststart, &state).inspect_err(|_| {
        // The spec has a failing poststart hook stop the container.
        if let Err(error) = kill::end(record) {
            tracing::error!(%error, "a container whose poststart hook failed could not be ended");
        }
    })
}

/// Tells libcontainer's init process to go on: it accepts one connection and reads until it is closed.
fn go(locked: &Locked, record: &Record) -> Result<()> {
    let directory = locked.path().join("engine").join(&record.id);
    let handle = File::open(&directory).map_err(ContainerError::file("cannot open", &directory))?;
    // A socket's name has at most 108 bytes; a state directory may well be deeper.
    let short = Path::new("/proc/self/fd")
        .join(handle.as_raw_fd().to_string())
        .join("notify.sock");
    UnixStream::connect(&short)
        .and_then(|mut socket| socket.write_all(b"start container"))
        .map_err(ContainerError::file(
            "cannot tell the init process to start through",
            directory.join("notify.sock"),
        ))
}
