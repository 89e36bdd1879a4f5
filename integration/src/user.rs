//! What an ordinary user does with gabion: a directory of the user's with a bundle, and the user's own shell lines.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::{Answer, gabion, make_rootfs, run};

/// A user who is not root.
#[derive(Debug)]
pub struct User {
    home: tempfile::TempDir,
    id: u32,
    /// The configuration of the bundle, as `gabion spec --rootless` writes it, with what a test changes.
    pub config: Value,
    /// `XDG_RUNTIME_DIR`.
    pub runtime: PathBuf,
    /// What runs before the user's command, as root, in a mount namespace of the test's own.
    pub prelude: String,
    /// What stands before gabion's commands.
    pub flags: &'static str,
}

impl User {
    /// A user with an empty directory, of which this is the beginning of the name.
    pub fn new(id: u32, prefix: &str) -> Self {
        let home = tempfile::Builder::new().prefix(prefix).tempdir().unwrap();
        fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
        User {
            runtime: home.path().join("run"),
            home,
            id,
            config: Value::Null,
            prelude: String::new(),
            flags: "",
        }
    }

    /// Makes the bundle, in `bundle`.
    #[track_caller]
    pub fn make_bundle(&mut self) {
        make_rootfs(&self.path("bundle/rootfs"));
        self.own();
        self.call("\"$GABION\" spec --rootless --bundle bundle").ok();
        self.config = serde_json::from_slice(&fs::read(self.path("bundle/config.json")).unwrap()).unwrap();
        self.config["process"]["terminal"] = json!(false);
    }

    /// A path below the user's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Has everything in the directory belong to the user.
    #[track_caller]
    pub fn own(&self) {
        let mut own = Command::new("chown");
        own.args(["-hR", &format!("{0}:{0}", self.id)])
            .arg(self.home.path());
        run(&mut own, Path::new("/")).ok();
    }

    /// A shell line of the user's. It runs in a cgroup of root's, as in a session.
    #[track_caller]
    pub fn call(&self, line: &str) -> Answer {
        let script = format!(
            "{prelude}\nexec setpriv --reuid {id} --regid {id} --clear-groups --inh-caps=-all sh -c \"$LINE\"",
            prelude = self.prelude,
            id = self.id
        );
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-ec", &script])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", self.home.path())
            .env("XDG_RUNTIME_DIR", &self.runtime)
            .env("GABION", gabion())
            .env("LINE", line)
            .current_dir(self.home.path());
        run(&mut command, &std::env::temp_dir())
    }

    /// A command of gabion's, with the configuration as it stands.
    #[track_caller]
    pub fn gabion(&self, words: &str) -> Answer {
        let file = self.path("bundle/config.json");
        fs::write(&file, self.config.to_string()).unwrap();
        chown(&file, Some(self.id), Some(self.id)).unwrap();
        self.call(&format!("exec \"$GABION\" {} {words}", self.flags))
    }

    /// Has the container run a shell with this.
    pub fn script(&mut self, script: &str) {
        self.config["process"]["args"] = json!(["/bin/sh", "-c", script]);
    }
}
