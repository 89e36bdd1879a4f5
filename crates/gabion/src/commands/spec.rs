//! `gabion spec`: a first config.json.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use crate::cli::SPEC_VERSION;
use crate::failure::Failure;
use crate::print;

/// Write a first config.json, to be edited
///
/// It runs `sh` on a terminal, in the root file system in ./rootfs.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Directory to write it to [default: .]
    #[arg(
        short,
        long,
        value_name = "DIR",
        default_value = ".",
        hide_default_value = true
    )]
    pub bundle: PathBuf,

    /// For a user without privileges: in a user namespace of its own
    #[arg(long)]
    pub rootless: bool,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let path = options.bundle.join("config.json");
    let user = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    // runc indents with tabs, and so does whoever compares.
    let text = print::indented(&configuration(options.rootless.then_some(user)), b"\t")?;
    // A file that is there is somebody's work. O_EXCL does not follow a link in its place either.
    let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(Failure::error(format!(
                "{path:?} exists; remove it first, or choose another --bundle"
            )));
        }
        opened => opened.with_context(|| format!("cannot write {path:?}"))?,
    };
    file.write_all(text.as_bytes())
        .with_context(|| format!("cannot write {path:?}"))?;
    Ok(ExitCode::SUCCESS)
}

/// The configuration; with the ids of a user, for a container in a user namespace in which that user is root.
fn configuration(user: Option<(u32, u32)>) -> Value {
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let mut namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"].to_vec();
    let mut devpts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    match user {
        Some(_) => namespaces.push("user"),
        // Group 5 owns terminals; in a user namespace with one id there is none.
        None => devpts.push("gid=5"),
    }
    let kinds: Vec<Value> = namespaces.iter().map(|kind| json!({"type": kind})).collect();
    let mut linux = json!({
        "namespaces": kinds,
        "maskedPaths": [
            "/proc/acpi",
            "/proc/asound",
            "/proc/interrupts",
            "/proc/kcore",
            "/proc/keys",
            "/proc/latency_stats",
            "/proc/sched_debug",
            "/proc/scsi",
            "/proc/timer_list",
            "/proc/timer_stats",
            "/sys/devices/virtual/powercap",
            "/sys/firmware"
        ],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
    });
    if let Some(linux) = linux.as_object_mut() {
        match user {
            Some((user, group)) => {
                linux.insert(
                    "uidMappings".to_owned(),
                    json!([{"containerID": 0, "hostID": user, "size": 1}]),
                );
                linux.insert(
                    "gidMappings".to_owned(),
                    json!([{"containerID": 0, "hostID": group, "size": 1}]),
                );
            }
            None => {
                let resources = json!({"devices": [{"allow": false, "access": "rwm"}]});
                linux.insert("resources".to_owned(), resources);
            }
        }
    }
    json!({
        "ociVersion": SPEC_VERSION,
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "gabion",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]
            },
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": devpts},
            {
                "destination": "/dev/shm",
                "type": "tmpfs",
                "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]
            },
            {
                "destination": "/dev/mqueue",
                "type": "mqueue",
                "source": "mqueue",
                "options": ["nosuid", "noexec", "nodev"]
            },
            {
                "destination": "/sys",
                "type": "sysfs",
                "source": "sysfs",
                "options": ["nosuid", "noexec", "nodev", "ro"]
            },
            {
                "destination": "/sys/fs/cgroup",
                "type": "cgroup",
                "source": "cgroup",
                "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]
            }
        ],
        "linux": linux
    })
}

#[cfg(test)]
mod tests {
    use gabion_baseline::report::{Report, Subject};
    use gabion_baseline::{Allegation, Facts, Judgement, Operation, Policy, Profile, judge};

    use super::*;

    fn judged(document: Value, profile: Profile) -> Result<(), String> {
        let allegation = Allegation::from_document(document).unwrap();
        let policy = Policy::builtin(profile, |_| json!({"defaultAction": "SCMP_ACT_ERRNO"}));
        let operation = Operation::Check { offline: true };
        let judgement = judge(&allegation, &Facts::default(), &policy, &operation).unwrap();
        let subject = Subject {
            name: "spec",
            file: "config.json",
            bundle: None,
        };
        match judgement {
            Judgement::Admitted(_) => Ok(()),
            Judgement::Refused(_) => Err(Report::of(&judgement, subject).line()),
        }
    }

    #[test]
    fn the_written_configuration_is_admitted() {
        assert_eq!(judged(configuration(None), Profile::Baseline), Ok(()));
        assert_eq!(
            judged(configuration(Some((1000, 1000))), Profile::Baseline),
            Ok(())
        );
    }

    #[test]
    fn a_rootless_one_has_a_user_namespace_and_no_cgroup_limits() {
        let document = configuration(Some((1000, 100)));
        assert_eq!(
            document["linux"]["uidMappings"],
            json!([{"containerID": 0, "hostID": 1000, "size": 1}])
        );
        assert_eq!(
            document["linux"]["gidMappings"],
            json!([{"containerID": 0, "hostID": 100, "size": 1}])
        );
        assert!(
            document["linux"]["namespaces"]
                .as_array()
                .unwrap()
                .contains(&json!({"type": "user"}))
        );
        assert!(document["linux"].get("resources").is_none());
        assert!(
            !document["mounts"][2]["options"]
                .as_array()
                .unwrap()
                .contains(&json!("gid=5"))
        );
    }
}
