//! A directory of a test's own: state, policy, ledger, log, bundles.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use tempfile::TempDir;

use crate::command::{Answer, run};
use crate::container::Container;
use crate::program::gabion;

/// See the module's text.
#[derive(Debug)]
pub struct Site {
    directory: TempDir,
    made: Cell<u32>,
    number: u32,
    systemd: bool,
}

impl Site {
    /// A site with the built-in policy, but for a ledger of its own. With `GABION_SYSTEMD` in the environment, systemd
    /// makes its containers' cgroups.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let site = Site {
            directory: tempfile::Builder::new().prefix("gabion-e2e.").tempdir().unwrap(),
            made: Cell::new(0),
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            systemd: std::env::var_os("GABION_SYSTEMD").is_some(),
        };
        site.write_policy("");
        site
    }

    /// A site where systemd makes the containers' cgroups.
    pub fn with_systemd() -> Self {
        Site {
            systemd: true,
            ..Self::new()
        }
    }

    /// The form of `linux.cgroupsPath` here.
    pub(crate) fn cgroups_path(&self, id: &str) -> String {
        if self.systemd {
            format!("system.slice:test:{id}")
        } else {
            format!("/{id}")
        }
    }

    /// Where a container's cgroup of version 2 is, below the place where they are mounted.
    pub fn cgroup(&self, id: &str) -> String {
        if self.systemd {
            format!("system.slice/test-{id}.scope")
        } else {
            id.to_owned()
        }
    }

    /// The site's directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The state root.
    pub fn root(&self) -> PathBuf {
        self.path().join("state")
    }

    /// The policy file.
    pub fn policy(&self) -> PathBuf {
        self.path().join("policy.toml")
    }

    /// The ledger.
    pub fn ledger(&self) -> PathBuf {
        self.path().join("decisions.jsonl")
    }

    /// The log that engines read.
    pub fn log(&self) -> PathBuf {
        self.path().join("log.json")
    }

    /// Writes the policy: these lines, and the place of the ledger.
    pub fn write_policy(&self, text: &str) {
        self.write_whole_policy(&format!("{text}\n[ledger]\npath = {:?}\n", self.ledger()));
    }

    /// Writes the policy as it is given.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write_whole_policy(&self, text: &str) {
        fs::write(self.policy(), text).unwrap();
        fs::set_permissions(self.policy(), Permissions::from_mode(0o644)).unwrap();
    }

    /// A command as an engine calls it: with the site's state root, policy and log.
    pub fn command(&self) -> Command {
        self.command_by(&[gabion().as_os_str()])
    }

    /// The same, called by what stands before it: a wrapper, or another name of the program.
    pub fn command_by(&self, words: &[&OsStr]) -> Command {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        command.arg("--root").arg(self.root());
        command
            .arg("--log")
            .arg(self.log())
            .args(["--log-format", "json"]);
        command.arg("--policy").arg(self.policy());
        if self.systemd {
            command.arg("--systemd-cgroup");
        }
        command.current_dir(self.path());
        command
    }

    /// Runs gabion to its end.
    #[track_caller]
    pub fn gabion(&self, arguments: &[&str]) -> Answer {
        run(self.command().args(arguments), self.path())
    }

    /// A new container with a bundle of its own, not written yet.
    pub fn container(&self) -> Container<'_> {
        let number = self.made.replace(self.made.get() + 1);
        let id = format!("e2e-{}-{}-{number}", std::process::id(), self.number);
        Container::new(self, id)
    }

    /// The ledger's lines.
    ///
    /// # Panics
    /// If one is no JSON.
    pub fn decisions(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.ledger()).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The last error of the log, as containerd's shim finds it.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn last_error(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap();
        let mut lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let last = lines
            .rfind(|line| line["level"] == "error")
            .expect("there is an error in the log");
        last["msg"].as_str().unwrap().to_owned()
    }

    /// What lies in the state root of containers. Filters that are kept for all of them are none's.
    pub fn state_entries(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root()).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name != "~filters")
            .collect()
    }
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}
