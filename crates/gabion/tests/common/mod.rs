//! A bundle, a policy and a ledger of a test's own, and the program to try them on.

#![allow(dead_code)] // each test file uses a part of it
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests are tests

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) struct Site {
    directory: TempDir,
}

/// What a command printed, and its status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Site {
    /// A site with the built-in policy, but for a ledger of its own, and a bundle as `gabion spec` writes it.
    pub(crate) fn new() -> Self {
        let site = Site {
            directory: tempfile::tempdir().unwrap(),
        };
        site.write_policy("");
        fs::create_dir_all(site.bundle().join("rootfs")).unwrap();
        let answer = site.gabion(&["spec", "--bundle", site.bundle().to_str().unwrap()]);
        assert_eq!(
            (answer.status, answer.stdout.as_str(), answer.stderr.as_str()),
            (0, "", "")
        );
        site
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.path("bundle")
    }

    pub(crate) fn policy(&self) -> PathBuf {
        self.path("policy.toml")
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.path("decisions.jsonl")
    }

    /// Writes the policy: these lines, and the place of the ledger.
    pub(crate) fn write_policy(&self, text: &str) {
        let text = format!("{text}\n[ledger]\npath = {:?}\n", self.ledger());
        self.write_whole_policy(&text);
    }

    pub(crate) fn write_whole_policy(&self, text: &str) {
        fs::write(self.policy(), text).unwrap();
        fs::set_permissions(self.policy(), Permissions::from_mode(0o644)).unwrap();
    }

    /// Changes the bundle's config.json.
    pub(crate) fn edit(&self, change: impl FnOnce(&mut Value)) {
        let path = self.bundle().join("config.json");
        let mut document = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        change(&mut document);
        fs::write(&path, document.to_string()).unwrap();
    }

    /// Runs gabion under this site's policy.
    pub(crate) fn gabion(&self, arguments: &[&str]) -> Answer {
        let mut command = Command::new(program());
        run(
            command
                .arg("--policy")
                .arg(self.policy())
                .args(arguments)
                .current_dir(self.bundle()),
            "",
        )
    }

    /// The ledger's lines.
    pub(crate) fn decisions(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.ledger()).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_gabion"))
}

/// Runs a command to its end, with this on its standard input.
pub(crate) fn run(command: &mut Command, input: &str) -> Answer {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read its input may be gone already.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().unwrap();
    Answer {
        status: status.code().unwrap_or(-1),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

/// Takes the pid namespace away: the host's is used, which NS-02 refuses.
pub(crate) fn share_pids(document: &mut Value) {
    let namespaces = document["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "pid");
}

/// Adds a capability that takes over the host, which CAP-03 refuses.
pub(crate) fn grant_sys_admin(document: &mut Value) {
    for set in ["bounding", "effective", "permitted"] {
        document["process"]["capabilities"][set]
            .as_array_mut()
            .unwrap()
            .push("CAP_SYS_ADMIN".into());
    }
}
