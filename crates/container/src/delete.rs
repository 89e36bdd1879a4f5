//! `delete`: nothing of a container is left, but what its poststop hooks say about it.

use crate::cgroup;
use crate::error::{ContainerError, Result};
use crate::hooks::{self, HookState};
use crate::id::ContainerId;
use crate::kill;
use crate::state::{Locked, Record, StateRoot};
use crate::status::{self, Status};
use crate::systemd;

/// Whether a container that still runs is ended first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// It is not: that is an error.
    No,
    /// It is; and a container that is not there is no error.
    Yes,
}

/// Deletes a container: its processes, its cgroups, its state; then runs its poststop hooks.
///
/// A failing poststop hook is a warning (runtime.md, "Lifecycle"): the container is gone by then.
///
/// # Errors
/// [`ContainerError::NotStopped`], [`ContainerError::Missing`]; or what could not be removed.
pub fn delete(root: &StateRoot, id: &ContainerId, force: Force) -> Result<()> {
    if force == Force::Yes {
        root.sweep(id)?;
    }
    let locked = match root.lock(id) {
        Err(ContainerError::Missing(_)) if force == Force::Yes => return Ok(()),
        other => other?,
    };
    let record = match locked.record() {
        Ok(record) => record,
        // Nothing can be known of it but its directory.
        Err(error) if force == Force::Yes => {
            tracing::warn!(%error, "only the state directory of this container can be removed");
            return locked.remove();
        }
        Err(error) => return Err(error),
    };
    delete_locked(root, locked, &record, force)
}

pub(crate) fn delete_locked(root: &StateRoot, locked: Locked, record: &Record, force: Force) -> Result<()> {
    let status = match status::of(record, locked.path())? {
        // We hold the lock, so nobody is building it: whoever did was killed.
        Status::Creating => Status::Stopped,
        other => other,
    };
    if status != Status::Stopped && force == Force::No {
        // As other runtimes have it, a container that was never started may be deleted.
        if status != Status::Created {
            return Err(ContainerError::NotStopped {
                id: record.id.clone(),
                status: status.name(),
            });
        }
    }
    kill::end(record)?;
    cgroup::remove(&record.cgroups)?;
    if let Some(scope) = &record.scope
        && let Err(error) = systemd::stop(scope)
    {
        // Nothing is in it any more, and systemd forgets a scope that is empty.
        tracing::warn!(%error, "systemd could not be told that the container is gone");
    }
    root.release(record.rootfs_identity(), &ContainerId::new(&record.id)?)?;
    locked.remove()?;
    let state = HookState::of(record, "stopped", None);
    for hook in &record.hooks.poststop {
        // Each in its own right: one that fails does not keep the others from running.
        if let Err(error) = hooks::run("poststop", std::slice::from_ref(hook), &state) {
            tracing::warn!(%error, "a poststop hook failed");
        }
    }
    Ok(())
}
