//! config-linux.md: default filesystems, default devices, configured devices, and who may open them.

use super::namespaces::mapped;
use crate::bundle::push;
use crate::clause::{Clause, Verdict};
use crate::expect::{holds, same, skip};
use crate::host;
use crate::stage::Stage;
use serde_json::{Value, json};

pub(super) const CLAUSES: &[Clause] = &[
    Clause::should(
        "config-linux.md#default-filesystems/four",
        "/proc, /sys, /dev/pts and /dev/shm are there",
        |stage| {
            let seen = stage.observe("for p in /proc /sys /dev/pts /dev/shm; do awk -v p=$p '$2 == p {print $3}' /proc/mounts; done", |_| {})?;
            same("filesystems", seen.out, "proc\nsysfs\ndevpts\ntmpfs\n")
        },
    ),
    Clause::must(
        "config-linux.md#default-devices/null",
        "/dev/null is supplied",
        |stage| character(stage, "null", "1:3"),
    ),
    Clause::must(
        "config-linux.md#default-devices/zero",
        "/dev/zero is supplied",
        |stage| character(stage, "zero", "1:5"),
    ),
    Clause::must(
        "config-linux.md#default-devices/full",
        "/dev/full is supplied",
        |stage| character(stage, "full", "1:7"),
    ),
    Clause::must(
        "config-linux.md#default-devices/random",
        "/dev/random is supplied",
        |stage| character(stage, "random", "1:8"),
    ),
    Clause::must(
        "config-linux.md#default-devices/urandom",
        "/dev/urandom is supplied",
        |stage| character(stage, "urandom", "1:9"),
    ),
    Clause::must(
        "config-linux.md#default-devices/tty",
        "/dev/tty is supplied",
        |stage| character(stage, "tty", "5:0"),
    ),
    Clause::must(
        "config-linux.md#default-devices/ptmx",
        "/dev/ptmx is the container's own /dev/pts/ptmx",
        |stage| {
            let seen = stage.observe("readlink /dev/ptmx; stat -L -c %t:%T /dev/ptmx; stat -L -c %d /dev/ptmx /dev/pts/ptmx | sort -u | wc -l", |_| {})?;
            let lines: Vec<&str> = seen.out.lines().collect();
            same(
                "device, and filesystems it is on",
                lines.get(lines.len().saturating_sub(2)..),
                Some(&["5:2", "1"][..]),
            )
        },
    ),
    Clause::must(
        "config-linux.md#default-devices/can-be-used",
        "the default devices can be read and written whatever resources.devices denies",
        |stage| {
            let seen = stage.observe(
            "head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c; echo x >/dev/null && echo null; echo x 2>/dev/null >/dev/full || echo full",
            |config| config["linux"]["resources"] = json!({"devices": [{"allow": false, "access": "rwm"}]}),
        )?;
            same("output", seen.out, "4\n4\nnull\nfull\n")
        },
    ),
    Clause::must(
        "config-linux.md#default-devices/in-a-user-namespace",
        "the default devices are supplied in a user namespace too",
        |stage| {
            let seen = stage.observe(
                "for d in null zero full random urandom tty; do stat -c %t:%T /dev/$d; done",
                mapped,
            )?;
            same("devices", seen.out, "1:3\n1:5\n1:7\n1:8\n1:9\n5:0\n")
        },
    ),
    Clause::must(
        "config-linux.md#devices/character",
        "a character device has the configured numbers",
        |stage| {
            let seen = stage.observe("stat -c '%F %t:%T' /dev/conf", |config| {
                device(
                    config,
                    json!({"path": "/dev/conf", "type": "c", "major": 1, "minor": 5}),
                )
            })?;
            same("device", seen.text(), "character special file 1:5")
        },
    ),
    Clause::must(
        "config-linux.md#devices/unbuffered",
        "type u is a character device as well",
        |stage| {
            let seen = stage.observe("stat -c '%F %t:%T' /dev/conf", |config| {
                device(
                    config,
                    json!({"path": "/dev/conf", "type": "u", "major": 1, "minor": 5}),
                )
            })?;
            same("device", seen.text(), "character special file 1:5")
        },
    ),
    Clause::must(
        "config-linux.md#devices/block",
        "a block device has the configured numbers",
        |stage| {
            let seen = stage.observe("stat -c '%F %t:%T' /dev/conf", |config| {
                device(
                    config,
                    json!({"path": "/dev/conf", "type": "b", "major": 7, "minor": 201}),
                )
            })?;
            same("device", seen.text(), "block special file 7:c9")
        },
    ),
    Clause::must(
        "config-linux.md#devices/fifo",
        "a fifo needs no numbers",
        |stage| {
            let seen = stage.observe("stat -c %F /dev/conf", |config| {
                device(config, json!({"path": "/dev/conf", "type": "p"}))
            })?;
            same("device", seen.text(), "fifo")
        },
    ),
    Clause::must(
        "config-linux.md#devices/mode-and-owner",
        "fileMode, uid and gid are as configured, whatever the umask",
        |stage| {
            let seen = stage.observe("stat -c '%a %u:%g' /dev/conf", |config| {
            device(config, json!({"path": "/dev/conf", "type": "c", "major": 1, "minor": 5, "fileMode": 438, "uid": 12, "gid": 34}));
        })?;
            same("mode and owner", seen.text(), "666 12:34")
        },
    ),
    Clause::must(
        "config-linux.md#devices/outside-dev",
        "a device can be anywhere in the container",
        |stage| {
            let seen = stage.observe("stat -c %t:%T /opt/deep/conf", |config| {
                device(
                    config,
                    json!({"path": "/opt/deep/conf", "type": "c", "major": 1, "minor": 5}),
                )
            })?;
            same("device", seen.text(), "1:5")
        },
    ),
    Clause::must(
        "config-linux.md#devices/another-file-is-there",
        "a file at the path that is not the requested device is an error",
        |stage| {
            let mut container = stage.container()?;
            std::fs::write(container.rootfs().join("opt"), "a plain file")?;
            device(
                &mut container.config,
                json!({"path": "/opt", "type": "c", "major": 1, "minor": 5}),
            );
            holds(!container.create()?.ok() || !container.start()?.ok(), || {
                "create and start succeeded".into()
            })
        },
    ),
    Clause::must(
        "config-linux.md#devices/unknown-type",
        "a device type that does not exist is an error",
        |stage| {
            stage.refuses(|config| {
                device(
                    config,
                    json!({"path": "/dev/conf", "type": "x", "major": 1, "minor": 5}),
                )
            })
        },
    ),
    Clause::must(
        "config-linux.md#allowed-device-list/deny",
        "a device that is denied cannot be opened",
        |stage| opens(stage, &[deny_all()], false),
    ),
    Clause::must(
        "config-linux.md#allowed-device-list/allow",
        "a device that is allowed can be opened",
        |stage| opens(stage, &[deny_all(), fuse(true, "rwm")], true),
    ),
    Clause::must(
        "config-linux.md#allowed-device-list/listed-order",
        "the rules are applied in the listed order: a later one counts",
        |stage| {
            opens(stage, &[deny_all(), fuse(true, "rwm"), fuse(false, "rwm")], false)?;
            opens(stage, &[deny_all(), fuse(false, "rwm"), fuse(true, "rwm")], true)
        },
    ),
    Clause::must(
        "config-linux.md#allowed-device-list/access",
        "access is about reading and writing separately",
        |stage| {
            opens(stage, &[deny_all(), fuse(true, "w")], false)?;
            opens(stage, &[deny_all(), fuse(true, "r")], true)
        },
    ),
    Clause::must(
        "config-linux.md#allowed-device-list/another-device",
        "a rule for one device is none for its neighbour",
        |stage| {
            let other = json!({"allow": true, "type": "c", "major": 10, "minor": 230, "access": "rwm"});
            opens(stage, &[deny_all(), other], false)
        },
    ),
];

fn device(config: &mut Value, device: Value) {
    push(config, "/linux/devices", device);
}

fn character(stage: &Stage, name: &str, numbers: &str) -> Verdict {
    let seen = stage.observe(&format!("stat -c '%F %t:%T' /dev/{name}"), |_| {})?;
    same("device", seen.text(), format!("character special file {numbers}"))
}

fn deny_all() -> Value {
    json!({"allow": false, "access": "rwm"})
}

/// A rule for /dev/fuse: a device no runtime allows by itself, and that opens without hardware.
fn fuse(allow: bool, access: &str) -> Value {
    json!({"allow": allow, "type": "c", "major": 10, "minor": 229, "access": access})
}

/// Passes if /dev/fuse can be opened for reading under these rules, or cannot.
fn opens(stage: &Stage, rules: &[Value], wanted: bool) -> Verdict {
    if std::fs::File::open("/dev/fuse").is_err() {
        return skip("the host's own /dev/fuse cannot be opened");
    }
    // In v2 a filter program does the work, and no controller is needed.
    if host::cgroup_mode() != "v2" {
        host::controller("devices")?;
    }
    let seen = stage.observe("if : </dev/conf; then echo opened; fi 2>&1", |config| {
        device(
            config,
            json!({"path": "/dev/conf", "type": "c", "major": 10, "minor": 229, "fileMode": 438}),
        );
        config["linux"]["resources"] = json!({"devices": rules});
    })?;
    if wanted {
        same("opening the device", seen.text(), "opened")
    } else {
        let refused = format!("{}{}", seen.out, seen.err);
        holds(refused.contains("Operation not permitted"), || {
            format!("opening the device gave {refused:?}")
        })
    }
}
