//! One container of a clause: its bundle on disk, its configuration, and the runtime's operations on it.

use crate::bundle;
use crate::clause::Stop;
use crate::expect::{fail, same, skip};
use crate::host;
use crate::runtime::{Called, PATIENCE, read, wait_until};
use crate::stage::{Seen, Stage};
use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

/// A container that exists, or could.
pub struct Container<'stage> {
    stage: &'stage Stage,
    /// The id it is created under.
    pub id: String,
    /// Its bundle.
    pub bundle: PathBuf,
    /// What is written to config.json at [`Container::create`].
    pub config: Value,
    /// More arguments for `create`.
    pub create_arguments: Vec<String>,
    ended: Cell<Option<Option<i32>>>,
}

impl<'stage> Container<'stage> {
    pub(crate) fn new(
        stage: &'stage Stage,
        id: String,
        bundle: PathBuf,
        cgroup: &str,
        busybox: &Path,
    ) -> Result<Self, Stop> {
        fs::create_dir(&bundle)?;
        bundle::make_rootfs(&bundle.join("rootfs"), busybox)?;
        let config = bundle::base_config(cgroup);
        Ok(Container {
            stage,
            id,
            bundle,
            config,
            create_arguments: Vec::new(),
            ended: Cell::new(None),
        })
    }

    /// Where its cgroup is, below each hierarchy.
    pub fn cgroup(&self) -> String {
        self.stage.cgroup(&self.id)
    }

    /// Its root filesystem, as the host sees it.
    pub fn rootfs(&self) -> PathBuf {
        self.bundle.join("rootfs")
    }

    /// Makes a shell script the container's program.
    pub fn script(&mut self, script: &str) {
        self.config["process"]["args"] = json!(["/bin/sh", "-c", script]);
    }

    /// Writes config.json as it stands.
    pub fn write_config(&self) -> Result<(), Stop> {
        Ok(fs::write(
            self.bundle.join("config.json"),
            self.config.to_string(),
        )?)
    }

    /// Writes config.json and creates the container.
    pub fn create(&self) -> Result<Called, Stop> {
        self.write_config()?;
        self.create_from(&self.bundle.to_string_lossy(), None)
    }

    /// Creates the container from what lies in the bundle, naming the bundle in this way.
    pub fn create_from(&self, bundle: &str, directory: Option<&Path>) -> Result<Called, Stop> {
        let pid_file = self.bundle.join("pid").to_string_lossy().into_owned();
        let mut arguments = vec!["create", "--bundle", bundle, "--pid-file", &pid_file];
        arguments.extend(self.create_arguments.iter().map(String::as_str));
        arguments.push(&self.id);
        let (out, err) = (self.bundle.join("out"), self.bundle.join("err"));
        self.stage.runtime.call_into(&arguments, &out, &err, directory)
    }

    /// Creates the container; stops the clause if that does not work.
    pub fn must_create(&self) -> Result<(), Stop> {
        let created = self.create()?;
        if created.ok() {
            return Ok(());
        }
        let complaint = created.complaint();
        // Some runtimes raise RLIMIT_MEMLOCK before they load a device filter, though kernels since 5.11 do
        // not count BPF against it. A machine that keeps CAP_SYS_RESOURCE to itself cannot tell the rest.
        if complaint.contains("MEMLOCK") && complaint.contains("not permitted") && !host::has_capability(24) {
            return skip(format!(
                "no CAP_SYS_RESOURCE here, and the runtime wants it: {complaint}"
            ));
        }
        fail(format!("create failed: {complaint}"))
    }

    /// Starts the container.
    pub fn start(&self) -> Result<Called, Stop> {
        self.stage.runtime.call(&["start", &self.id])
    }

    /// Starts the container; stops the clause if that does not work.
    pub fn must_start(&self) -> Result<(), Stop> {
        let started = self.start()?;
        if started.ok() {
            Ok(())
        } else {
            fail(format!("start failed: {}", self.explain(&started)))
        }
    }

    /// Creates and starts; stops the clause if either does not work.
    pub fn must_run(&self) -> Result<(), Stop> {
        self.must_create()?;
        self.must_start()
    }

    /// Creates, starts, and waits for the end.
    pub fn run_to_end(&self) -> Result<Seen, Stop> {
        self.must_run()?;
        let code = self.wait()?;
        Ok(Seen {
            out: self.out(),
            err: read(&self.bundle.join("err")),
            code,
        })
    }

    /// What the program has written so far.
    pub fn out(&self) -> String {
        read(&self.bundle.join("out"))
    }

    /// Waits until the program has written the word.
    pub fn wait_for(&self, word: &str) -> Result<(), Stop> {
        if wait_until(PATIENCE / 2, || self.out().contains(word)) {
            return Ok(());
        }
        fail(format!(
            "the program never got to write {word:?}; it wrote {:?}",
            self.out()
        ))
    }

    /// Sends a signal by the runtime's kill.
    pub fn kill(&self, signal: &str) -> Result<Called, Stop> {
        self.stage.runtime.call(&["kill", &self.id, signal])
    }

    /// Ends the program by SIGKILL and waits for it.
    pub fn must_kill(&self) -> Result<(), Stop> {
        let killed = self.kill("KILL")?;
        if !killed.ok() {
            return fail(format!("kill KILL failed: {}", killed.complaint()));
        }
        self.wait().map(|_| ())
    }

    /// Deletes the container, without force.
    pub fn delete(&self) -> Result<Called, Stop> {
        self.stage.runtime.call(&["delete", &self.id])
    }

    /// Deletes the container; stops the clause if that does not work.
    pub fn must_delete(&self) -> Result<(), Stop> {
        let deleted = self.delete()?;
        if deleted.ok() {
            Ok(())
        } else {
            fail(format!("delete failed: {}", deleted.complaint()))
        }
    }

    /// The state as the runtime tells it; stops the clause if there is none.
    pub fn state(&self) -> Result<Value, Stop> {
        match self.stage.state(&self.id)? {
            Some(state) => Ok(state),
            None => fail("state failed"),
        }
    }

    /// Passes if the runtime says that the status is this one.
    pub fn has_status(&self, status: &str) -> Result<(), Stop> {
        same("status", &self.state()?["status"], status)
    }

    /// The main process, as the host numbers it.
    pub fn pid(&self) -> Result<i32, Stop> {
        if let Ok(pid) = read(&self.bundle.join("pid")).trim().parse() {
            return Ok(pid);
        }
        match self.state()?["pid"]
            .as_i64()
            .and_then(|pid| i32::try_from(pid).ok())
        {
            Some(pid) if pid > 1 => Ok(pid),
            other => fail(format!("no pid: {other:?}")),
        }
    }

    /// Waits until the main process has ended, and says with which code if that can be known.
    ///
    /// The harness is the subreaper of everything below it, so the process usually becomes its child when
    /// `create` is done; if the runtime keeps a parent of its own, only the end can be seen.
    pub fn wait(&self) -> Result<Option<i32>, Stop> {
        if let Some(code) = self.ended.get() {
            return Ok(code);
        }
        let pid = self.pid()?;
        let mut code = None;
        let ended = wait_until(PATIENCE, || {
            match waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(_, status)) => {
                    code = Some(status);
                    true
                }
                Ok(WaitStatus::Signaled(_, signal, _)) => {
                    code = Some(128 + signal as i32);
                    true
                }
                Err(Errno::ECHILD) => !host::is_alive(pid),
                _ => false,
            }
        });
        if !ended {
            return fail(format!(
                "process {pid} did not end within {} s",
                PATIENCE.as_secs()
            ));
        }
        self.ended.set(Some(code));
        Ok(code)
    }

    /// Why a command failed, with what the container's own stderr says: some runtimes complain there.
    fn explain(&self, called: &Called) -> String {
        let own = read(&self.bundle.join("err"));
        format!(
            "{} {}",
            called.complaint(),
            own.lines().last().unwrap_or_default()
        )
    }
}
