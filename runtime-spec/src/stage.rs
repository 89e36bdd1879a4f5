//! Where one clause plays: its directory, its containers, and the sweeping up afterwards.

use crate::clause::Stop;
use crate::container::Container;
use crate::expect::{fail, skip};
use crate::host;
use crate::runtime::{Called, Runtime, wait_until};
use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The cgroup under which all containers of the suite are put.
pub const CGROUP_PARENT: &str = "/gabion-conformance";

/// Where one clause plays.
pub struct Stage {
    /// The runtime under test.
    pub runtime: Runtime,
    /// A directory of the clause's own, on the host, readable by every user.
    pub directory: PathBuf,
    busybox: PathBuf,
    name: String,
    made: RefCell<Vec<Trace>>,
    number: Cell<usize>,
}

/// What has to be gone when a container is.
#[derive(Debug, Clone)]
pub(crate) struct Trace {
    id: String,
    bundle: PathBuf,
    cgroup: String,
}

/// What a container that ran to its end had to say.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its standard output.
    pub out: String,
    /// Its standard error, after whatever the runtime itself wrote there.
    pub err: String,
    /// Its exit code; a signal counts as 128 and the signal's number. `None` if it could not be waited for.
    pub code: Option<i32>,
}

impl Seen {
    /// The output without the white space around it.
    pub fn text(&self) -> &str {
        self.out.trim()
    }
}

impl Stage {
    /// Sets a stage in a new directory. The name goes into ids and cgroups, so it must be unique on the host.
    pub fn new(runtime: Runtime, directory: PathBuf, busybox: PathBuf, name: String) -> Result<Self, Stop> {
        fs::create_dir(&directory)?;
        let (made, number) = (RefCell::default(), Cell::new(0));
        Ok(Stage {
            runtime,
            directory,
            busybox,
            name,
            made,
            number,
        })
    }

    /// A bundle with the base configuration, and the container that can be created from it.
    pub fn container(&self) -> Result<Container<'_>, Stop> {
        let number = self.number.get();
        self.number.set(number + 1);
        let id = format!("{}-{number}", self.name);
        let bundle = self.directory.join(format!("bundle-{number}"));
        let written = match self.runtime.asks_systemd() {
            true => format!("system.slice:conformance:{id}"),
            false => self.cgroup(&id),
        };
        let cgroup = self.cgroup(&id);
        let container = Container::new(self, id, bundle, &written, &self.busybox)?;
        self.expect_trace(&container.id, &container.bundle, &cgroup);
        Ok(container)
    }

    /// Where the cgroup of a container is, below each hierarchy.
    pub fn cgroup(&self, id: &str) -> String {
        match self.runtime.asks_systemd() {
            true => format!("/system.slice/conformance-{id}.scope"),
            false => format!("{CGROUP_PARENT}/{id}"),
        }
    }

    /// Skips what is about a path: where systemd makes the cgroups there are names of units instead.
    pub fn needs_paths(&self) -> Result<(), Stop> {
        match self.runtime.asks_systemd() {
            true => skip("systemd makes the cgroups, and cgroupsPath names a unit"),
            false => Ok(()),
        }
    }

    /// Also sweeps up a container that goes by another id than the stage chose.
    pub(crate) fn expect_trace(&self, id: &str, bundle: &Path, cgroup: &str) {
        let trace = Trace {
            id: id.to_owned(),
            bundle: bundle.to_owned(),
            cgroup: cgroup.to_owned(),
        };
        self.made.borrow_mut().push(trace);
    }

    /// Runs a shell script as the container's program, from create to its end, and says what was seen.
    pub fn observe(&self, script: &str, change: impl FnOnce(&mut Value)) -> Result<Seen, Stop> {
        let mut container = self.container()?;
        container.script(script);
        change(&mut container.config);
        container.run_to_end()
    }

    /// Passes if the runtime will not have this configuration: create or start must fail, the program must
    /// not have run, and a create that failed must not leave a container.
    pub fn refuses(&self, change: impl FnOnce(&mut Value)) -> Result<(), Stop> {
        let mut container = self.container()?;
        container.script("echo ran >/ran");
        change(&mut container.config);
        let created = container.create()?;
        if created.ok() {
            let started = container.start()?;
            if started.ok() {
                return fail("create and start both succeeded");
            }
        } else if self.state(&container.id)?.is_some() {
            return fail("create failed, but there is a container");
        }
        if container.rootfs().join("ran").exists() {
            return fail("an error was given, but the program ran");
        }
        Ok(())
    }

    /// The state of a container as the runtime tells it; `None` if it says there is no such container.
    pub fn state(&self, id: &str) -> Result<Option<Value>, Stop> {
        let called = self.runtime.call(&["state", id])?;
        if !called.ok() {
            return Ok(None);
        }
        match serde_json::from_str(&called.out) {
            Ok(state) => Ok(Some(state)),
            Err(error) => fail(format!(
                "state printed what is not JSON ({error}): {:?}",
                called.out
            )),
        }
    }

    /// Passes if the command fails.
    pub fn errors(&self, arguments: &[&str]) -> Result<Called, Stop> {
        let called = self.runtime.call(arguments)?;
        if called.ok() {
            return fail(format!("{} succeeded", arguments.join(" ")));
        }
        Ok(called)
    }

    /// Ends and deletes all containers of this clause, and lists what is left of them all the same.
    pub fn clear(&self) -> Vec<String> {
        let mut left = Vec::new();
        for trace in self.made.borrow().iter() {
            left.extend(
                self.clear_one(trace)
                    .unwrap_or_else(|stop| vec![format!("{stop:?}")]),
            );
        }
        for place in host::mounts_below(&self.directory) {
            left.push(format!("mount {place:?}"));
            // Taken off, lest removing the directory reaches through it.
            if let Err(error) = nix::mount::umount2(&place, nix::mount::MntFlags::MNT_DETACH) {
                left.push(format!("{place:?} cannot be unmounted: {error}"));
            }
        }
        left
    }

    fn clear_one(&self, trace: &Trace) -> Result<Vec<String>, Stop> {
        let mut left = Vec::new();
        if let Some(state) = self.state(&trace.id)? {
            let pid = state["pid"]
                .as_i64()
                .and_then(|pid| i32::try_from(pid).ok())
                .unwrap_or(0);
            if state["status"] != "stopped" {
                self.runtime.call(&["kill", &trace.id, "KILL"])?;
                wait_until(Duration::from_secs(2), || reaped(pid));
            }
            let deleted = self.runtime.call(&["delete", "--force", &trace.id])?;
            if !deleted.ok() {
                left.push(format!("{} cannot be deleted: {}", trace.id, deleted.complaint()));
            }
            if pid > 1 && !wait_until(Duration::from_secs(2), || reaped(pid)) {
                left.push(format!("process {pid}"));
            }
        }
        if self.runtime.root.join(&trace.id).exists() {
            left.push(format!(
                "{}/{} in the state directory",
                self.runtime.root.display(),
                trace.id
            ));
        }
        for directory in host::cgroup_directories(&trace.cgroup) {
            left.push(format!("cgroup {directory:?}"));
            remove_cgroup(&directory);
        }
        for place in host::mounts_below(&trace.bundle) {
            left.push(format!("mount {place:?}"));
        }
        Ok(left)
    }
}

/// True once the process is gone. One that became our child is waited for, so that no zombie keeps its pid.
fn reaped(pid: i32) -> bool {
    if pid < 2 {
        return true;
    }
    match waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) => true,
        Err(Errno::ECHILD) => !host::is_alive(pid),
        _ => false,
    }
}

/// Removes a cgroup and those below it. Reports nothing: what cannot be removed is found by the next look.
pub fn remove_cgroup(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.path().is_dir() {
            remove_cgroup(&entry.path());
        }
    }
    // The kernel refuses while a process is still leaving; a little patience helps.
    wait_until(Duration::from_millis(200), || {
        fs::remove_dir(directory).is_ok() || !directory.exists()
    });
}
