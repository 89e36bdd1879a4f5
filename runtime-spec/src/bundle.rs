//! The bundle every test starts from: busybox in a root filesystem, and a plain config.json.

use serde_json::{Value, json};
use std::fs;
use std::io::{Error, Result};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Where a static busybox is found: Debian's package busybox-static puts it here.
pub const BUSYBOX: &str = "/bin/busybox";

/// The version the base config.json claims. Every runtime of today knows it.
pub const BASE_VERSION: &str = "1.0.0";

const APPLETS: [&str; 8] = ["sh", "cat", "true", "sleep", "env", "pwd", "id", "echo"];

/// Makes the busybox that all root filesystems of a run share, and says where it is.
///
/// Fails if busybox is missing or needs a dynamic loader, which an otherwise empty root does not have.
pub fn prepare_busybox(directory: &Path) -> Result<PathBuf> {
    let bytes = fs::read(BUSYBOX).map_err(|error| {
        Error::new(
            error.kind(),
            format!("cannot read {BUSYBOX}; install busybox-static: {error}"),
        )
    })?;
    if bytes.windows(16).any(|window| window == b"/lib64/ld-linux-") {
        return Err(Error::other(format!(
            "{BUSYBOX} needs a dynamic loader; install busybox-static"
        )));
    }
    let copy = directory.join("busybox");
    fs::write(&copy, bytes)?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    Ok(copy)
}

/// Makes a root filesystem of its own for one container. The binary is shared by a hard link.
pub fn make_rootfs(rootfs: &Path, busybox: &Path) -> Result<()> {
    for directory in ["bin", "proc", "sys", "dev", "etc", "root", "tmp", "mnt"] {
        fs::create_dir_all(rootfs.join(directory))?;
    }
    fs::set_permissions(rootfs.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    let binary = rootfs.join("bin/busybox");
    fs::hard_link(busybox, &binary)?;
    for applet in APPLETS {
        symlink("busybox", rootfs.join("bin").join(applet))?;
    }
    Ok(())
}

/// The config.json that clauses change where they need to: everything a small container usually has,
/// without a terminal and with a writable root.
pub fn base_config(cgroups_path: &str) -> Value {
    let three = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": BASE_VERSION,
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/true"],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": {"bounding": three, "effective": three, "permitted": three},
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "conformance",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]}
        ],
        "linux": {
            "cgroupsPath": cgroups_path,
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}
            ]
        }
    })
}

/// Appends to an array of the configuration, making the array if it is not there.
pub fn push(config: &mut Value, pointer: &str, element: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap_or(("", pointer));
    let Some(parent) = config.pointer_mut(parent) else {
        return;
    };
    match &mut parent[key] {
        Value::Array(list) => list.push(element),
        absent => *absent = json!([element]),
    }
}

/// Takes a property out of an object of the configuration.
pub fn remove(config: &mut Value, pointer: &str) {
    let (parent, key) = pointer.rsplit_once('/').unwrap_or(("", pointer));
    if let Some(object) = config.pointer_mut(parent).and_then(Value::as_object_mut) {
        object.remove(key);
    }
}

/// Leaves only the namespaces for which the closure says true.
pub fn keep_namespaces(config: &mut Value, keep: impl Fn(&str) -> bool) {
    if let Some(list) = config["linux"]["namespaces"].as_array_mut() {
        list.retain(|namespace| keep(namespace["type"].as_str().unwrap_or_default()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_can_be_pushed_to_a_list_that_is_not_there_yet() {
        let mut config = base_config("/x");
        push(&mut config, "/linux/maskedPaths", json!("/a"));
        push(&mut config, "/linux/maskedPaths", json!("/b"));
        assert_eq!(config["linux"]["maskedPaths"], json!(["/a", "/b"]));
    }

    #[test]
    fn a_removed_property_is_absent_and_not_null() {
        let mut config = base_config("/x");
        remove(&mut config, "/linux/cgroupsPath");
        remove(&mut config, "/root");
        assert_eq!(config["linux"].get("cgroupsPath"), None);
        assert_eq!(config.get("root"), None);
    }

    #[test]
    fn namespaces_are_kept_by_type() {
        let mut config = base_config("/x");
        keep_namespaces(&mut config, |kind| kind == "mount");
        assert_eq!(config["linux"]["namespaces"], json!([{"type": "mount"}]));
    }
}
