//! `verify`: a container that is there, held against what was promised of it.
//!
//! The looking is done by a child of its own that enters the container's namespaces and nothing else of it: the user
//! namespace and the pid namespace stay the caller's, so that no process of the container can see it or look into it,
//! and its procfs is the host's, made anew.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use gabion_descent::outside::{self, Check, Outcome, Subject};
use gabion_descent::{Extent, Procfs};
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, pipe2};
use serde::Serialize;

use crate::cgroup;
use crate::error::{ContainerError, Result};
use crate::exec::Joining;
use crate::id::ContainerId;
use crate::promise::Promise;
use crate::state::{Record, StateRoot};
use crate::status::{self, Status};

/// What was found of one container.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    /// The container.
    pub id: String,
    /// Its status as `state` has it.
    pub status: &'static str,
    /// Its init process in the runtime's pid namespace.
    pub pid: i32,
    /// The profile that it was judged under.
    pub profile: String,
    /// Each check, by its number.
    pub checks: Vec<Check>,
}

impl View {
    /// The checks that do not hold any more.
    pub fn drift(&self) -> impl Iterator<Item = &Check> {
        self.checks
            .iter()
            .filter(|check| matches!(check.outcome, Outcome::Drift(_)))
    }
}

/// Looks at a container.
///
/// # Preconditions
/// One thread; no other children that were not reaped.
///
/// # Errors
/// [`ContainerError::WrongState`] if there is no process to look at, [`ContainerError::Damaged`] if it is not known what
/// was promised, and what kept the container's namespaces from being entered.
pub fn verify(root: &StateRoot, id: &ContainerId) -> Result<View> {
    let record = root.read(id)?;
    let status = status::of(&record, &root.of(id))?;
    let stopped = |status: Status| ContainerError::WrongState {
        operation: "verify",
        status: status.name(),
    };
    let init = record.init.ok_or_else(|| stopped(status))?;
    if !matches!(status, Status::Created | Status::Running | Status::Paused) {
        return Err(stopped(status));
    }
    let process = status::alive(init)?.ok_or_else(|| stopped(Status::Stopped))?;
    let promise = Promise::read(&root.of(id))?;
    let checks = examine(&promise, &record, init.pid, &process, status != Status::Created)?;
    // What was looked at is of the process that was meant, if that is still there.
    if status::alive(init)?.is_none() {
        return Err(stopped(Status::Stopped));
    }
    Ok(View {
        id: record.id.clone(),
        status: status.name(),
        pid: init.pid,
        profile: record.profile.clone(),
        checks,
    })
}

/// Makes all checks of the container whose first process this is, by number and by descriptor.
pub(crate) fn examine(
    promise: &Promise,
    record: &Record,
    init: i32,
    process: &OwnedFd,
    has_started: bool,
) -> Result<Vec<Check>> {
    let pid = Pid::from_raw(init);
    let procfs = Procfs::open(Extent::Whole)
        .map_err(ContainerError::Process)?
        .of(pid);
    let subject = Subject {
        plan: &promise.plan,
        filters: promise.filters,
        procfs,
        has_started,
    };
    let entering = Joining::of(init)?.flags
        & (CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS);
    let mut checks = look(&subject, process, entering)?;
    checks.push(cgroups(promise, pid, record));
    checks.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(checks)
}

fn look(subject: &Subject<'_>, process: &OwnedFd, entering: CloneFlags) -> Result<Vec<Check>> {
    let (reading, writing) = pipe2(OFlag::O_CLOEXEC).map_err(ContainerError::call("pipe2()"))?;
    let child = gabion_sys::fork::fork(|| {
        let entered = nix::sys::prctl::set_dumpable(false).and_then(|()| setns(process, entering));
        let outcome: std::result::Result<Vec<Check>, String> = match entered {
            Ok(()) => Ok(outside::look(subject)),
            Err(errno) => Err(format!("its namespaces cannot be entered: {}", errno.desc())),
        };
        let text = serde_json::to_vec(&outcome).unwrap_or_default();
        i32::from(File::from(writing).write_all(&text).is_err())
    })
    .map_err(|error| ContainerError::Build(error.to_string()))?;
    let mut bytes = Vec::new();
    let read = File::from(reading).read_to_end(&mut bytes);
    let ended = waitpid(child, None).map_err(ContainerError::call(format!("waitpid({child})")))?;
    read.map_err(ContainerError::file("cannot read", "what was found"))?;
    let outcome: std::result::Result<Vec<Check>, String> =
        serde_json::from_slice(&bytes).map_err(|_| match ended {
            WaitStatus::Exited(_, 0) => ContainerError::Other("what was found cannot be read".to_owned()),
            ended => ContainerError::Other(format!(
                "the process that looks at the container ended: {ended:?}"
            )),
        })?;
    outcome.map_err(ContainerError::Other)
}

fn cgroups(promise: &Promise, pid: Pid, record: &Record) -> Check {
    let there = record.cgroups.iter().filter(|cgroup| cgroup.is_dir()).count();
    Check {
        id: "V-14".to_owned(),
        about: "cgroup, limits, devices".to_owned(),
        found: format!("{there} directories, {} limits", promise.limits.len()),
        outcome: match cgroup::verify(promise, pid, &record.cgroups) {
            Ok(()) => Outcome::Holds,
            Err(ContainerError::Process(gabion_descent::Failure::Mismatch { text, .. })) => {
                Outcome::Drift(text)
            }
            Err(error) => Outcome::Drift(format!("it cannot be looked at: {error}")),
        },
    }
}
