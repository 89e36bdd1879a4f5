//! `gabion exec`.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::failure::Failure;

/// Judge a further process of a running container, and start it there
///
/// It runs in the container's namespaces and cgroup, under its filter, and has no
/// more than the container has. Flags change the container's own process; a process
/// file replaces it.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// Name of the container
    #[arg(value_name = "CONTAINER_ID")]
    pub id: String,

    /// The program and its arguments, unless --process names them
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,

    /// Read the whole process, as in config.json, from FILE
    #[arg(short, long, value_name = "FILE")]
    pub process: Option<PathBuf>,

    /// Give it a terminal, unless --process says what it has
    #[arg(short, long)]
    pub tty: bool,

    /// Its working directory
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<String>,

    /// Add KEY=VALUE to its environment
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub env: Vec<String>,

    /// Its user and group, as numbers
    #[arg(short, long, value_name = "UID[:GID]")]
    pub user: Option<String>,

    /// Add a supplementary group
    #[arg(short = 'g', long, value_name = "GID")]
    pub additional_gids: Vec<u32>,

    /// Add a capability
    #[arg(short, long, value_name = "CAP")]
    pub cap: Vec<String>,

    /// Set no_new_privs
    #[arg(long)]
    pub no_new_privs: bool,

    /// Its AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    pub apparmor: Option<String>,

    /// Its SELinux label
    #[arg(long, value_name = "LABEL")]
    pub process_label: Option<String>,

    /// Do not wait for it
    #[arg(short, long)]
    pub detach: bool,

    /// Send the terminal's other end to this AF_UNIX socket
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,

    /// Send a pidfd of the process to this AF_UNIX socket
    #[arg(long, value_name = "SOCKET")]
    pub pidfd_socket: Option<PathBuf>,

    /// Write its id to FILE
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,

    /// Hand on N descriptors
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub preserve_fds: u32,

    /// Begin in this cgroup below the container's
    #[arg(long, value_name = "[CONTROLLER:]PATH")]
    pub cgroup: Vec<String>,

    // A process that is waited for is a child of this one either way.
    #[arg(long, hide = true)]
    pub no_subreaper: bool,

    /// Start it although the container is paused
    #[arg(long)]
    pub ignore_paused: bool,
}

impl Options {
    /// The `process` that is asked for: the file's, with what it leaves out taken from the container's; or the
    /// container's with the flags applied.
    pub(crate) fn process(&self, container: &Value) -> Result<Value, Failure> {
        let mut process = match container.get("process") {
            Some(Value::Object(process)) => process.clone(),
            _ => Map::new(),
        };
        if let Some(path) = &self.process {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path:?}"))?;
            let given: Value =
                serde_json::from_str(&text).with_context(|| format!("{path:?} is no process"))?;
            let Value::Object(given) = given else {
                return Err(Failure::error(format!(
                    "{path:?} is no process: it is not an object"
                )));
            };
            // What was not written is the container's for these, and nothing for the others.
            let inherited = [
                "capabilities",
                "noNewPrivileges",
                "apparmorProfile",
                "selinuxLabel",
                "rlimits",
                "oomScoreAdj",
                "scheduler",
                "ioPriority",
                "execCPUAffinity",
            ];
            process.retain(|key, _| inherited.contains(&key.as_str()));
            process.extend(given.into_iter().filter(|(key, value)| {
                let empty = value.is_null() || value.as_str() == Some("");
                !(empty && inherited.contains(&key.as_str()))
            }));
        } else {
            self.apply(&mut process)?;
        }
        Ok(Value::Object(process))
    }

    fn apply(&self, process: &mut Map<String, Value>) -> anyhow::Result<()> {
        if self.command.is_empty() {
            bail!("process args cannot be empty: name a program, or a file with --process");
        }
        process.insert("args".to_owned(), json!(self.command));
        process.insert("terminal".to_owned(), json!(self.tty));
        for (key, value) in [
            ("cwd", &self.cwd),
            ("apparmorProfile", &self.apparmor),
            ("selinuxLabel", &self.process_label),
        ] {
            if let Some(value) = value {
                process.insert(key.to_owned(), json!(value));
            }
        }
        extend(process, "env", self.env.iter().map(|entry| json!(entry)));
        if self.no_new_privs {
            process.insert("noNewPrivileges".to_owned(), json!(true));
        }
        let user = process
            .entry("user")
            .or_insert_with(|| json!({"uid": 0, "gid": 0}));
        if let (Some(text), Value::Object(user)) = (&self.user, user) {
            let (uid, gid) = ids(text)?;
            user.insert("uid".to_owned(), json!(uid));
            if let Some(gid) = gid {
                user.insert("gid".to_owned(), json!(gid));
            }
        }
        if let Some(Value::Object(user)) = process.get_mut("user") {
            extend(
                user,
                "additionalGids",
                self.additional_gids.iter().map(|gid| json!(gid)),
            );
        }
        if !self.cap.is_empty()
            && let Value::Object(sets) = process.entry("capabilities").or_insert_with(|| json!({}))
        {
            for set in ["bounding", "effective", "permitted"] {
                extend(sets, set, self.cap.iter().map(|cap| json!(cap)));
            }
            // A program of an ordinary user gets none by the other sets. The kernel has the last word: only what is
            // inheritable can be raised.
            let inheritable: Vec<Value> = match sets.get("inheritable") {
                Some(Value::Array(list)) => list.clone(),
                _ => Vec::new(),
            };
            let raised = self.cap.iter().map(|cap| json!(cap));
            extend(sets, "ambient", raised.filter(|cap| inheritable.contains(cap)));
        }
        Ok(())
    }
}

fn extend(map: &mut Map<String, Value>, key: &str, values: impl Iterator<Item = Value>) {
    let mut values = values.peekable();
    if values.peek().is_none() {
        return;
    }
    match map.entry(key).or_insert_with(|| json!([])) {
        Value::Array(list) => list.extend(values),
        other => *other = values.collect(),
    }
}

/// `UID` or `UID:GID`, digits and nothing else: what a half-read number would mean is nobody's guess
/// (CVE-2026-30892).
fn ids(text: &str) -> anyhow::Result<(u32, Option<u32>)> {
    let number = |text: &str| -> anyhow::Result<u32> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            bail!("{text:?} is no id: --user takes UID or UID:GID in digits");
        }
        text.parse()
            .with_context(|| format!("{text:?} is no id: ids end at 4294967294"))
    };
    match text.split_once(':') {
        None => Ok((number(text)?, None)),
        Some((uid, gid)) => Ok((number(uid)?, Some(number(gid)?))),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn process(arguments: &[&str], container: &Value) -> Result<Value, String> {
        let line =
            Line::try_parse_from([&["exec"], arguments].concat()).map_err(|error| error.to_string())?;
        line.options
            .process(&json!({"process": container}))
            .map_err(|failure| failure.line())
    }

    #[test]
    fn an_id_is_digits_and_nothing_else() {
        assert_eq!(ids("1000").unwrap(), (1000, None));
        assert_eq!(ids("0:7").unwrap(), (0, Some(7)));
        for bad in [
            "",
            "1000:",
            ":0",
            "-1",
            "+1",
            "1e3",
            " 1",
            "0x10",
            "4294967296",
            "1:2:3",
            "root",
            "1٣",
        ] {
            assert!(ids(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn flags_change_the_containers_own_process() {
        let container = json!({"cwd": "/app", "env": ["A=1"], "user": {"uid": 5, "gid": 6, "additionalGids": [7]},
            "args": ["server"], "capabilities": {"bounding": ["CAP_KILL"]}, "terminal": true});
        let found = process(
            &[
                "web",
                "-e",
                "B=2",
                "--user",
                "8",
                "-g",
                "9",
                "--cap",
                "CAP_CHOWN",
                "ls",
                "-l",
                "--cwd",
            ],
            &container,
        )
        .unwrap();
        assert_eq!(
            found,
            json!({"cwd": "/app", "env": ["A=1", "B=2"], "user": {"uid": 8, "gid": 6, "additionalGids": [7, 9]},
                "args": ["ls", "-l", "--cwd"], "terminal": false,
                "capabilities": {"bounding": ["CAP_KILL", "CAP_CHOWN"], "effective": ["CAP_CHOWN"],
                    "permitted": ["CAP_CHOWN"]}})
        );
        assert!(
            process(&["web"], &container)
                .unwrap_err()
                .contains("process args cannot be empty")
        );
    }

    #[test]
    fn a_capability_that_the_container_hands_on_is_ambient_as_well() {
        let container =
            json!({"capabilities": {"inheritable": ["CAP_SYSLOG", "CAP_KILL"], "ambient": ["CAP_KILL"]}});
        let line = ["web", "--cap", "CAP_SYSLOG", "--cap", "CAP_CHOWN", "id"];
        let found = process(&line, &container).unwrap();
        assert_eq!(
            found["capabilities"]["ambient"],
            json!(["CAP_KILL", "CAP_SYSLOG"])
        );
        assert_eq!(
            found["capabilities"]["inheritable"],
            json!(["CAP_SYSLOG", "CAP_KILL"])
        );
    }

    #[test]
    fn what_a_process_file_leaves_out_is_the_containers_where_that_is_stricter() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("process.json");
        std::fs::write(
            &file,
            r#"{"args":["ls"],"cwd":"/","capabilities":null,"apparmorProfile":""}"#,
        )
        .unwrap();
        let container = json!({"cwd": "/app", "env": ["A=1"], "noNewPrivileges": true,
            "capabilities": {}, "apparmorProfile": "docker-default"});
        let found = process(&["web", "--process", file.to_str().unwrap()], &container).unwrap();
        assert_eq!(
            found,
            json!({"args": ["ls"], "cwd": "/", "noNewPrivileges": true, "capabilities": {},
                "apparmorProfile": "docker-default"})
        );
    }
}
