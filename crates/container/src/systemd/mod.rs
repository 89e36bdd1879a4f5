//! Cgroups that systemd makes: with version 2, a container is a scope, and what is in that scope's cgroup is gabion's.
//! An ordinary user's is made by the user's own systemd, below what the host's has handed over to it.
//!
//! systemd wants to be the only one who makes cgroups (systemd.io/CGROUP_DELEGATION), and hands over those that it is
//! asked for with `Delegate`. So:
//!
//! ```text
//! create                                systemd
//! ──────                                ───────
//! a process that only waits ──────────▶ StartTransientUnit(scope, PIDs) ──▶ cgroup, with all controllers
//! builder, cloned into the cgroup
//! the process that waited ends
//! limits, devices: files of the cgroup
//! what the files say ─────────────────▶ SetUnitProperties
//! ```
//!
//! A scope begins with a process in it and is over when it is empty; hence the one that waits. The limits are written as
//! without systemd, and what the kernel then shows is what systemd is told: so it writes the same again whenever it
//! writes them (`systemctl daemon-reload`), and `systemctl show` says what is true. Devices are guarded by gabion's own
//! program; systemd leaves those of others where they are, and is told of no rules that it would guard with one more.

mod annotations;
mod bus;
mod message;
mod properties;
mod unit;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use gabion_baseline::facts::CgroupMode;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, getppid, pause};
use serde::{Deserialize, Serialize};

use crate::error::{ContainerError, Result};
use bus::Bus;
use message::{Property, Value, Writer};

pub(crate) use properties::{Told, granted, granted_quota};
pub(crate) use unit::Unit;

/// Whose systemd is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Whose {
    /// The host's: its first process.
    #[default]
    Host,
    /// The caller's own (user@.service), which has what the host's has handed over to the user.
    User,
}

impl Whose {
    /// The host's systemd does nothing for an ordinary user. Root of a user namespace may have one of its own, as in a
    /// container that is a whole system, or be an ordinary user outside, as podman's is: then the host's belongs to
    /// somebody who has no id here.
    pub(crate) fn of_caller(rootless: bool) -> Self {
        let is_own = || {
            nix::unistd::geteuid().is_root()
                && std::fs::metadata("/run/systemd/private").is_ok_and(|found| found.uid() == 0)
        };
        if !rootless || is_own() {
            Whose::Host
        } else {
            Whose::User
        }
    }
}

/// A unit of ours, such that it is not mistaken for another of its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    name: String,
    description: String,
    #[serde(default)]
    whose: Whose,
}

impl Scope {
    /// What the scope of a container is called; `state` is the container's directory, of which there is one.
    pub(crate) fn new(unit: &Unit, id: &str, state: &Path) -> Self {
        Scope {
            name: unit.name.clone(),
            description: format!("container {id} ({})", state.display()),
            whose: unit.whose,
        }
    }
}

/// Refuses what systemd could not be asked for.
///
/// # Errors
/// [`ContainerError::Other`] with what is missing.
pub(crate) fn check(mode: CgroupMode) -> Result<()> {
    let refuse = |text: &str| Err(ContainerError::Other(format!("--systemd-cgroup: {text}")));
    // sd_booted(3)
    if !Path::new("/run/systemd/system").is_dir() {
        return refuse(
            "this host does not run systemd (there is no /run/systemd/system). Leave the flag out",
        );
    }
    if mode != CgroupMode::Unified {
        return refuse(
            "this host has cgroup version 1, with which gabion does not ask systemd. Leave the flag out, in the engine's \
             configuration too (cgroup driver \"cgroupfs\"), or boot with systemd.unified_cgroup_hierarchy=1",
        );
    }
    Ok(())
}

/// A process that holds a place in a scope until the container's own is there. It ends when this is dropped, or with
/// its parent.
#[derive(Debug)]
pub(crate) struct Placeholder(Pid);

impl Placeholder {
    fn start() -> Result<Self> {
        let parent = nix::unistd::getpid();
        let wait = || {
            if nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).is_ok() {
                while getppid() == parent {
                    pause();
                }
            }
            0
        };
        gabion_sys::fork::fork(wait)
            .map(Placeholder)
            .map_err(|error| ContainerError::Build(error.to_string()))
    }
}

impl Drop for Placeholder {
    fn drop(&mut self) {
        // It is our child and was not waited for, so the number is its own.
        if kill(self.0, Signal::SIGKILL).is_ok() {
            while waitpid(self.0, None) == Err(Errno::EINTR) {}
        }
    }
}

/// Has systemd make a container's scope. It is there as long as what is returned, or another process in it.
///
/// # Preconditions
/// One thread.
///
/// # Errors
/// If systemd cannot be reached, does not make it, or makes it elsewhere than it should be; else its cgroup.
pub(crate) fn start(unit: &Unit, scope: &Scope) -> Result<(Placeholder, PathBuf)> {
    let mut bus = Bus::connect(scope.whose, &scope.name).map_err(failed)?;
    let cgroup = match scope.whose {
        Whose::Host => unit.cgroup(),
        Whose::User => unit.cgroup_below(&bus.manager_text("ControlGroup").map_err(failed)?),
    };
    // Whoever is moved there stands still, and nobody could tell why.
    crate::cgroup::refuse_frozen(std::slice::from_ref(&cgroup))?;
    refuse_occupied(&cgroup)?;
    let placeholder = Placeholder::start()?;
    let result = start_with(&mut bus, unit, scope, placeholder.0);
    match result {
        // One that has failed is only remembered, and systemd forgets it when it is told to.
        Err(error) if error.is_taken() => {
            if reset(&mut bus, &scope.name).is_err() {
                return Err(failed(error));
            }
            start_with(&mut bus, unit, scope, placeholder.0).map_err(failed)?;
        }
        other => other.map_err(failed)?,
    }
    if !cgroup.is_dir() {
        return Err(ContainerError::Other(format!(
            "systemd has made {}, and its cgroup is not {cgroup:?}",
            scope.name
        )));
    }
    crate::cgroup::verify_membership(placeholder.0, std::slice::from_ref(&cgroup))?;
    Ok((placeholder, cgroup))
}

/// Has systemd move a process into a container's scope, or a cgroup below it: an ordinary user's process may not move
/// itself out of the session's cgroup, which is the host's.
///
/// # Errors
/// If systemd does not.
pub(crate) fn attach(scope: &Scope, below: &str, pid: Pid) -> Result<()> {
    let mut bus = Bus::connect(scope.whose, &scope.name).map_err(failed)?;
    let mut arguments = Writer::default();
    arguments.text(&scope.name);
    arguments.text(below);
    arguments.numbers(&[pid.as_raw().unsigned_abs()]);
    bus.manager("AttachProcessesToUnit", "ssau", arguments)
        .map(drop)
        .map_err(failed)
}

/// A unit with processes in it is somebody's. systemd would say no more than that there is one.
fn refuse_occupied(cgroup: &Path) -> Result<()> {
    if gabion_host::cgroup::is_populated(cgroup).map_err(ContainerError::file("cannot read", cgroup))? {
        return Err(ContainerError::Unsupported {
            pointer: "/linux/cgroupsPath".to_owned(),
            text: format!(
                "container's cgroup is not empty: {cgroup:?} has processes that are not this container's. Choose another"
            ),
        });
    }
    Ok(())
}

fn start_with(bus: &mut Bus, unit: &Unit, scope: &Scope, pid: Pid) -> std::result::Result<(), bus::BusError> {
    let mut properties: Vec<Property> = vec![
        ("Description", Value::Text(scope.description.clone())),
        ("Slice", Value::Text(unit.slice.clone())),
        ("PIDs", Value::Numbers(vec![pid.as_raw().unsigned_abs()])),
        ("Delegate", Value::Flag(true)),
        // Containers end when their engine says so, not before it.
        ("DefaultDependencies", Value::Flag(false)),
        // Nothing is left of it when it is over, however it ended.
        ("CollectMode", Value::Text("inactive-or-failed".to_owned())),
        ("MemoryAccounting", Value::Flag(true)),
        ("IOAccounting", Value::Flag(true)),
        ("TasksAccounting", Value::Flag(true)),
        // Instead of systemd's own default, until there is a limit.
        ("TasksMax", Value::Number(u64::MAX)),
    ];
    // That systemd ended it is to be seen until somebody deletes it.
    if unit.asked.iter().any(|(name, _)| *name == "RuntimeMaxUSec") {
        properties.retain(|(name, _)| *name != "CollectMode");
    }
    for asked in &unit.asked {
        properties.retain(|(name, _)| *name != asked.0);
        properties.push(asked.clone());
    }
    // It can be said now or never.
    if unit.ends_as_one {
        properties.push(("OOMPolicy", Value::Text("kill".to_owned())));
    }
    let mut arguments = Writer::default();
    arguments.text(&unit.name);
    arguments.text("fail");
    arguments.properties(&properties);
    arguments.nothing();
    bus.job("StartTransientUnit", "ssa(sv)a(sa(sv))", arguments)
}

/// Tells systemd what the kernel says of a container's limits, as far as it does not know yet.
///
/// # Errors
/// If a file cannot be read, or systemd does not take it.
pub(crate) fn tell(scope: &Scope, cgroups: &[PathBuf], known: &Told) -> Result<()> {
    let now = Told::read(cgroups)?;
    let news = now.beyond(known);
    if news.is_empty() {
        return Ok(());
    }
    let mut arguments = Writer::default();
    arguments.text(&scope.name);
    // Until the next boot: longer than the scope lives.
    arguments.flag(true);
    arguments.properties(&news);
    let mut bus = Bus::connect(scope.whose, &scope.name).map_err(failed)?;
    bus.manager("SetUnitProperties", "sba(sv)", arguments)
        .map_err(failed)?;
    now.write_again(cgroups)
}

/// Has systemd forget a container's scope. One that is not there, or is somebody else's, is fine.
///
/// # Errors
/// If it cannot be stopped.
pub(crate) fn stop(scope: &Scope) -> Result<()> {
    if !Path::new("/run/systemd/system").is_dir() {
        return Ok(());
    }
    let mut bus = Bus::connect(scope.whose, &scope.name).map_err(failed)?;
    match stop_with(&mut bus, scope) {
        Err(error) if !error.is_missing() => Err(failed(error)),
        _ => Ok(()),
    }
}

fn stop_with(bus: &mut Bus, scope: &Scope) -> std::result::Result<(), bus::BusError> {
    let name = || {
        let mut arguments = Writer::default();
        arguments.text(&scope.name);
        arguments
    };
    let path = bus.manager("GetUnit", "s", name())?.words().unwrap_or_default();
    let path = path.first().map_or("", String::as_str);
    let description = match bus.text(path, "org.freedesktop.systemd1.Unit", "Description") {
        // Gone since it was named.
        Err(bus::BusError::Refused { .. }) => return Ok(()),
        other => other?,
    };
    if description != scope.description {
        tracing::warn!(
            unit = scope.name,
            description,
            "a unit of this name is another one by now, and stays"
        );
        return Ok(());
    }
    let mut arguments = name();
    arguments.text("replace");
    bus.job("StopUnit", "ss", arguments)?;
    // One that has not failed is not loaded any more.
    match reset(bus, &scope.name) {
        Err(error) if !error.is_missing() => Err(error),
        _ => Ok(()),
    }
}

fn reset(bus: &mut Bus, name: &str) -> std::result::Result<(), bus::BusError> {
    let mut arguments = Writer::default();
    arguments.text(name);
    bus.manager("ResetFailedUnit", "s", arguments).map(drop)
}

fn failed(error: bus::BusError) -> ContainerError {
    ContainerError::Other(format!("--systemd-cgroup: {error}"))
}
