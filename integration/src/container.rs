//! One container of a test, from its bundle to what is left of it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::bundle::{base_config, make_rootfs};
use crate::command::{Answer, run, wait_until};
use crate::left::left;
use crate::program::gabion;
use crate::site::Site;

/// A container that exists, or could. It is deleted when this goes out of scope, and nothing may be left then.
#[derive(Debug)]
pub struct Container<'site> {
    /// Where it belongs.
    pub site: &'site Site,
    /// Its id, which no other container of this machine has.
    pub id: String,
    /// Its bundle.
    pub bundle: PathBuf,
    /// What is written to config.json.
    pub config: Value,
    /// What gabion is called by: words before its own name.
    pub caller: Vec<OsString>,
    /// More arguments for `create` and `run`.
    pub arguments: Vec<OsString>,
}

impl<'site> Container<'site> {
    pub(crate) fn new(site: &'site Site, id: String) -> Self {
        let bundle = site.path().join(format!("bundle-{id}"));
        make_rootfs(&bundle.join("rootfs"));
        let mut container = Container {
            site,
            config: base_config(&site.cgroups_path(&id)),
            id,
            bundle,
            caller: Vec::new(),
            arguments: Vec::new(),
        };
        container.script("true");
        container
    }

    /// Its root file system as the host sees it.
    pub fn rootfs(&self) -> PathBuf {
        self.bundle.join("rootfs")
    }

    /// Makes a shell script its program, after a first line that proves that it ran.
    pub fn script(&mut self, script: &str) {
        self.config["process"]["args"] = json!(["/bin/sh", "-c", format!("echo ran > /tmp/ran; {script}")]);
    }

    /// True if its program ran.
    pub fn ran(&self) -> bool {
        self.rootfs().join("tmp/ran").exists()
    }

    /// A file of its root, for what a program wrote there.
    pub fn file(&self, path: &str) -> String {
        fs::read_to_string(self.rootfs().join(path)).unwrap_or_default()
    }

    /// Where the program's id is written.
    pub fn pid_file(&self) -> PathBuf {
        self.site.path().join(format!("{}.pid", self.id))
    }

    /// Writes config.json as it stands.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self) {
        fs::write(self.bundle.join("config.json"), self.config.to_string()).unwrap();
    }

    /// A command of gabion's, called by the container's caller.
    pub fn command(&self) -> std::process::Command {
        let mut words: Vec<&OsStr> = self.caller.iter().map(OsString::as_os_str).collect();
        words.push(gabion().as_os_str());
        self.site.command_by(&words)
    }

    /// `create` or `run` with the bundle, the pid file and the container's arguments.
    pub fn building(&self, operation: &str) -> std::process::Command {
        let mut command = self.command();
        command.arg(operation).arg("--bundle").arg(&self.bundle);
        command.arg("--pid-file").arg(self.pid_file());
        command.args(&self.arguments).arg(&self.id);
        command
    }

    /// Writes config.json and creates the container.
    #[track_caller]
    pub fn create(&self) -> Answer {
        self.write();
        run(&mut self.building("create"), self.site.path())
    }

    /// Writes config.json and runs the container in the foreground.
    #[track_caller]
    pub fn run(&self) -> Answer {
        self.write();
        run(&mut self.building("run"), self.site.path())
    }

    /// Starts it.
    #[track_caller]
    pub fn start(&self) -> Answer {
        self.site.gabion(&["start", &self.id])
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn kill(&self, signal: &str) -> Answer {
        self.site.gabion(&["kill", &self.id, signal])
    }

    /// Deletes it.
    #[track_caller]
    pub fn delete(&self) -> Answer {
        self.site.gabion(&["delete", &self.id])
    }

    /// Its state.
    ///
    /// # Panics
    /// If it is not there.
    #[track_caller]
    pub fn state(&self) -> Value {
        serde_json::from_str(&self.site.gabion(&["state", &self.id]).ok().stdout).unwrap()
    }

    /// Its status; `None` if it is not there.
    #[track_caller]
    pub fn status(&self) -> Option<String> {
        let answer = self.site.gabion(&["state", &self.id]);
        let state: Value = serde_json::from_str(&answer.stdout).ok()?;
        Some(state["status"].as_str()?.to_owned())
    }

    /// Its init process as the host counts.
    ///
    /// # Panics
    /// If it has none.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        fs::read_to_string(self.pid_file())
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    }

    /// Waits until it is stopped.
    ///
    /// # Panics
    /// If it is not in time.
    #[track_caller]
    pub fn wait_until_stopped(&self) {
        assert!(
            wait_until(|| self.status().is_none_or(|status| status == "stopped")),
            "{} does not stop",
            self.id
        );
    }

    /// Waits until a file of its root holds a word.
    ///
    /// # Panics
    /// If it does not in time.
    #[track_caller]
    pub fn wait_for(&self, path: &str, word: &str) {
        assert!(
            wait_until(|| self.file(path).contains(word)),
            "{path} never held {word:?}, but {:?}",
            self.file(path)
        );
    }

    /// Fails the test if anything is left of the container: in the state root, of cgroups, mounts and processes.
    ///
    /// # Panics
    /// Then.
    #[track_caller]
    pub fn assert_gone(&self) {
        let state: Vec<String> = self
            .site
            .state_entries()
            .into_iter()
            .filter(|name| name.contains(&self.id))
            .collect();
        assert_eq!(state, [""; 0], "in the state root");
        let found = || left(&self.id, &self.bundle);
        // An engine may look right away; what the kernel tells nobody about, such as a process that is through but
        // for its last breath, is not counted as alive.
        assert_eq!(found(), [""; 0]);
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let mut command = self.site.command();
        command.args(["delete", "--force", &self.id]);
        // One panic is enough to say that the test failed, and two at once end the whole run.
        if std::thread::panicking() {
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            drop(command.spawn());
        } else {
            run(&mut command, self.site.path()).ok();
            self.assert_gone();
        }
    }
}
