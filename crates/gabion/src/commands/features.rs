//! `gabion features`: what this runtime understands (runtime-spec, features.md).
//!
//! Engines decide by it: Kubernetes asks for user namespaces only if id-mapped mounts are said to work. So it says
//! what gabion accepts, and what libcontainer could do and gabion refuses is not in it.

use std::process::ExitCode;

use clap::Args;
use gabion_container::{MEMORY_POLICIES, MEMORY_POLICY_FLAGS};
use gabion_seccomp::Abi;
use gabion_seccomp::profile::{Action, Flag, Operator};
use serde_json::{Value, json};

use crate::cli::{COMMIT, SPEC_VERSION, VERSION};
use crate::failure::Failure;
use crate::print;

/// Print what this runtime supports as JSON (runtime-spec, features.md)
#[derive(Debug, Args)]
pub(crate) struct Options {}

pub(crate) fn run() -> Result<ExitCode, Failure> {
    print::json(&features())
}

/// Options of mounts that are flags; anything else is handed to the file system as data.
const MOUNT_OPTIONS: &[&str] = &[
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "idmap",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
];

/// Every capability that gabion knows by name, in the kernel's order (capabilities(7)).
const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

fn features() -> Value {
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPEC_VERSION,
        "hooks": [
            "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"
        ],
        "mountOptions": MOUNT_OPTIONS,
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": CAPABILITIES,
            "cgroup": {"v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": false},
            "seccomp": {
                "enabled": true,
                "actions": words(Action::ALL, Action::as_str),
                "operators": words(Operator::ALL, Operator::as_str),
                "archs": words(&Abi::ALL, |abi| abi.architecture().as_str()),
                "knownFlags": words(Flag::ALL, Flag::as_str),
                "supportedFlags": words(Flag::ALL, Flag::as_str)
            },
            "apparmor": {"enabled": true},
            "selinux": {"enabled": true},
            "intelRdt": {"enabled": false},
            "mountExtensions": {"idmap": {"enabled": true}},
            "netDevices": {"enabled": true},
            "memoryPolicy": {
                "modes": words(&MEMORY_POLICIES, |(name, _)| name),
                "flags": words(&MEMORY_POLICY_FLAGS, |(name, _)| name)
            }
        },
        "annotations": {
            "org.gabion.version": VERSION,
            "org.gabion.commit": COMMIT,
            "org.gabion.checkpoint.enabled": "true"
        },
        "potentiallyUnsafeConfigAnnotations": []
    })
}

/// The spec's words for a list, sorted.
fn words<T: Copy>(all: &[T], word: impl Fn(T) -> &'static str) -> Vec<&'static str> {
    let mut words: Vec<&str> = all.iter().map(|one| word(*one)).collect();
    words.sort_unstable();
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted_and_hold_nothing_twice() {
        let features = features();
        for pointer in [
            "/mountOptions",
            "/linux/namespaces",
            "/linux/seccomp/actions",
            "/linux/seccomp/operators",
            "/linux/seccomp/archs",
            "/linux/seccomp/knownFlags",
            "/linux/memoryPolicy/modes",
            "/linux/memoryPolicy/flags",
        ] {
            let list: Vec<&str> = features
                .pointer(pointer)
                .unwrap()
                .as_array()
                .unwrap()
                .iter()
                .map(|v| v.as_str().unwrap())
                .collect();
            let mut sorted = list.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(list, sorted, "{pointer}");
        }
    }

    #[test]
    fn what_gabion_refuses_is_not_offered() {
        let features = features();
        let options = features["mountOptions"].as_array().unwrap();
        assert!(options.contains(&json!("idmap")) && options.contains(&json!("tmpcopyup")));
        let seccomp = &features["linux"]["seccomp"];
        assert_eq!(
            seccomp["archs"],
            json!([
                "SCMP_ARCH_AARCH64",
                "SCMP_ARCH_ARM",
                "SCMP_ARCH_X32",
                "SCMP_ARCH_X86",
                "SCMP_ARCH_X86_64"
            ])
        );
        assert_eq!(
            seccomp["supportedFlags"],
            json!([
                "SECCOMP_FILTER_FLAG_LOG",
                "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
                "SECCOMP_FILTER_FLAG_TSYNC",
                "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"
            ])
        );
    }

    #[test]
    fn the_default_capabilities_are_known_ones() {
        for name in gabion_baseline::rules::capabilities::DEFAULT {
            assert!(CAPABILITIES.contains(&name), "{name}");
        }
    }
}
