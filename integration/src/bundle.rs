//! Bundles: busybox in a root file system, and a configuration in the shape that engines give it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::{Value, json};

/// Debian's package busybox-static puts it here.
const BUSYBOX: &str = "/bin/busybox";

const APPLETS: [&str; 26] = [
    "sh", "cat", "true", "false", "sleep", "env", "id", "ls", "mount", "umount", "unshare", "touch",
    "readlink", "grep", "kill", "mkdir", "stty", "echo", "pwd", "chroot", "mknod", "ps", "setsid", "nohup",
    "cut", "tr",
];

/// Makes a root file system with busybox, which has to be one that needs no loader.
///
/// # Panics
/// If there is no such busybox.
pub fn make_rootfs(rootfs: &Path) {
    for directory in ["bin", "proc", "sys", "dev", "etc", "root", "tmp", "mnt", "work"] {
        fs::create_dir_all(rootfs.join(directory)).unwrap();
    }
    fs::set_permissions(rootfs.join("tmp"), Permissions::from_mode(0o1777)).unwrap();
    let bytes = fs::read(BUSYBOX).expect("the tests need Debian's package busybox-static");
    let needs_loader = bytes.windows(14).any(|window| window == b"/lib64/ld-linu");
    assert!(!needs_loader, "{BUSYBOX} needs a loader; install busybox-static");
    fs::write(rootfs.join("bin/busybox"), bytes).unwrap();
    fs::set_permissions(rootfs.join("bin/busybox"), Permissions::from_mode(0o755)).unwrap();
    for applet in APPLETS {
        symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
    }
}

/// A configuration as a container engine writes it for an ordinary container without a terminal, in 2020s defaults:
/// fourteen capabilities, five namespaces, masked and read-only paths, and no seccomp profile.
pub fn base_config(cgroups_path: &str) -> Value {
    let capabilities = json!([
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FSETID",
        "CAP_FOWNER",
        "CAP_MKNOD",
        "CAP_NET_RAW",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETFCAP",
        "CAP_SETPCAP",
        "CAP_NET_BIND_SERVICE",
        "CAP_SYS_CHROOT",
        "CAP_KILL",
        "CAP_AUDIT_WRITE"
    ]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/true"],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
            "oomScoreAdj": 0
        },
        "root": {"path": "rootfs"},
        "hostname": "web",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["ro", "nosuid", "noexec", "nodev"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=64m"]}
        ],
        "linux": {
            "resources": {
                "devices": [
                    {"allow": false, "access": "rwm"},
                    {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
                    {"allow": true, "type": "c", "major": 1, "minor": 5, "access": "rwm"},
                    {"allow": true, "type": "c", "major": 1, "minor": 8, "access": "rwm"},
                    {"allow": true, "type": "c", "major": 1, "minor": 9, "access": "rwm"},
                    {"allow": true, "type": "c", "major": 5, "minor": 0, "access": "rwm"},
                    {"allow": true, "type": "c", "major": 5, "minor": 1, "access": "rwm"}
                ]
            },
            "cgroupsPath": cgroups_path,
            "namespaces": [
                {"type": "mount"}, {"type": "network"}, {"type": "uts"}, {"type": "pid"}, {"type": "ipc"}
            ],
            "maskedPaths": [
                "/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}

/// Changes an array of a configuration.
///
/// # Panics
/// If there is none at this pointer.
pub fn edit_array(config: &mut Value, pointer: &str, change: impl FnOnce(&mut Vec<Value>)) {
    let array = config.pointer_mut(pointer).and_then(Value::as_array_mut);
    change(array.expect("there is an array"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_changed_in_its_place() {
        let mut config = base_config("/x");
        edit_array(&mut config, "/linux/namespaces", |list| {
            list.retain(|entry| entry["type"] == "pid")
        });
        assert_eq!(config["linux"]["namespaces"], json!([{"type": "pid"}]));
    }
}
