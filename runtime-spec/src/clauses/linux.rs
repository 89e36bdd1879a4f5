//! config-linux.md: what is left: sysctl, propagation of the root, masked and read-only paths, personality.

use crate::clause::{Clause, Verdict};
use crate::expect::{holds, same, skip};
use crate::stage::Stage;
use serde_json::json;
use std::path::Path;

pub(super) const CLAUSES: &[Clause] = &[
    Clause::must(
        "config-linux.md#sysctl/network",
        "a sysctl of the network namespace is set in the container's",
        |stage| {
            let host = crate::runtime::read(Path::new("/proc/sys/net/ipv4/ip_default_ttl"));
            let seen = stage.observe("cat /proc/sys/net/ipv4/ip_default_ttl", |config| {
                config["linux"]["sysctl"] = json!({"net.ipv4.ip_default_ttl": "73"})
            })?;
            same("value", seen.text(), "73")?;
            same(
                "the host's value",
                crate::runtime::read(Path::new("/proc/sys/net/ipv4/ip_default_ttl")),
                host,
            )
        },
    ),
    Clause::must(
        "config-linux.md#sysctl/ipc",
        "a sysctl of the ipc namespace is set in the container's",
        |stage| {
            let seen = stage.observe("cat /proc/sys/kernel/msgmax", |config| {
                config["linux"]["sysctl"] = json!({"kernel.msgmax": "12345"})
            })?;
            same("value", seen.text(), "12345")
        },
    ),
    Clause::must(
        "config-linux.md#sysctl/does-not-exist",
        "a sysctl that does not exist is an error",
        |stage| stage.refuses(|config| config["linux"]["sysctl"] = json!({"net.ipv4.conformance_none": "1"})),
    ),
    Clause::must(
        "config-linux.md#sysctl/invalid-value",
        "a value the kernel refuses is an error",
        |stage| {
            stage.refuses(|config| config["linux"]["sysctl"] = json!({"net.ipv4.ip_default_ttl": "a word"}))
        },
    ),
    Clause::must(
        "config-linux.md#rootfs-propagation/private",
        "private: the root mount is in no peer group",
        |stage| propagation(stage, "private", &[]),
    ),
    Clause::must(
        "config-linux.md#rootfs-propagation/slave",
        "slave: the root mount does not send mounts to the host",
        |stage| propagation(stage, "slave", &[]),
    ),
    Clause::must(
        "config-linux.md#rootfs-propagation/shared",
        "shared: the root mount is in a peer group",
        |stage| propagation(stage, "shared", &["shared"]),
    ),
    Clause::must(
        "config-linux.md#rootfs-propagation/unbindable",
        "unbindable: the root mount is unbindable",
        |stage| propagation(stage, "unbindable", &["unbindable"]),
    ),
    Clause::must(
        "config-linux.md#rootfs-propagation/unknown",
        "a propagation that does not exist is an error",
        |stage| stage.refuses(|config| config["linux"]["rootfsPropagation"] = json!("conformance")),
    ),
    Clause::must(
        "config-linux.md#masked-paths/file",
        "a masked file cannot be read",
        |stage| {
            let mut container = stage.container()?;
            std::fs::write(container.rootfs().join("etc/secret"), "secret")?;
            container.config["linux"]["maskedPaths"] = json!(["/proc/uptime", "/etc/secret"]);
            container.script("cat /etc/secret 2>/dev/null; cat /proc/uptime 2>/dev/null; echo end");
            let seen = container.run_to_end()?;
            same("what was read", seen.out, "end\n")
        },
    ),
    Clause::must(
        "config-linux.md#masked-paths/directory",
        "a masked directory is empty",
        |stage| {
            let mut container = stage.container()?;
            std::fs::write(container.rootfs().join("etc/secret"), "secret")?;
            container.config["linux"]["maskedPaths"] = json!(["/etc"]);
            container.script("ls -A /etc; cat /etc/secret 2>/dev/null; echo x 2>/dev/null >/etc/new && echo written; echo end");
            same("what was seen", container.run_to_end()?.out, "end\n")
        },
    ),
    Clause::must(
        "config-linux.md#masked-paths/missing",
        "a masked path that does not exist is no error",
        |stage| {
            let seen = stage.observe("echo ran", |config| {
                config["linux"]["maskedPaths"] = json!(["/nonexistent/path"])
            })?;
            same("output", seen.text(), "ran")
        },
    ),
    Clause::must(
        "config-linux.md#masked-paths/absolute",
        "a masked path that is not absolute is an error",
        |stage| stage.refuses(|config| config["linux"]["maskedPaths"] = json!(["etc"])),
    ),
    Clause::must(
        "config-linux.md#readonly-paths/directory",
        "a read-only directory cannot be written, nor what is below",
        |stage| {
            let seen = stage.observe(
                "echo x 2>/dev/null >/etc/new && echo written; echo x >/root/new && echo beside",
                |config| config["linux"]["readonlyPaths"] = json!(["/etc"]),
            )?;
            same("output", seen.out, "beside\n")
        },
    ),
    Clause::must(
        "config-linux.md#readonly-paths/file",
        "a read-only file cannot be written",
        |stage| {
            let mut container = stage.container()?;
            std::fs::write(container.rootfs().join("etc/file"), "before")?;
            container.config["linux"]["readonlyPaths"] = json!(["/etc/file"]);
            container.script("echo after 2>/dev/null >/etc/file; cat /etc/file");
            same("file", container.run_to_end()?.out, "before")
        },
    ),
    Clause::must(
        "config-linux.md#readonly-paths/proc-sys",
        "a read-only /proc/sys cannot be written by root",
        |stage| {
            let seen = stage.observe(
                "echo 70 2>/dev/null >/proc/sys/net/ipv4/ip_default_ttl && echo written; echo end",
                |config| config["linux"]["readonlyPaths"] = json!(["/proc/sys"]),
            )?;
            same("output", seen.out, "end\n")
        },
    ),
    Clause::must(
        "config-linux.md#readonly-paths/missing",
        "a read-only path that does not exist is no error",
        |stage| {
            let seen = stage.observe("echo ran", |config| {
                config["linux"]["readonlyPaths"] = json!(["/nonexistent/path"])
            })?;
            same("output", seen.text(), "ran")
        },
    ),
    Clause::must(
        "config-linux.md#readonly-paths/absolute",
        "a read-only path that is not absolute is an error",
        |stage| stage.refuses(|config| config["linux"]["readonlyPaths"] = json!(["etc"])),
    ),
    Clause::must(
        "config-linux.md#personality/linux32",
        "LINUX32 makes uname show a 32 bit machine",
        |stage| {
            if !cfg!(target_arch = "x86_64") {
                return skip("the machine's 32 bit name is only known for x86_64");
            }
            let seen = stage.observe("uname -m", |config| {
                config["linux"]["personality"] = json!({"domain": "LINUX32"})
            })?;
            same("uname -m", seen.text(), "i686")
        },
    ),
    Clause::must(
        "config-linux.md#personality/linux",
        "LINUX leaves uname as it is",
        |stage| {
            let seen = stage.observe("uname -m", |config| {
                config["linux"]["personality"] = json!({"domain": "LINUX"})
            })?;
            same("uname -m", seen.text(), std::env::consts::ARCH)
        },
    ),
    Clause::must(
        "config-linux.md#personality/unknown-domain",
        "a domain that does not exist is an error",
        |stage| stage.refuses(|config| config["linux"]["personality"] = json!({"domain": "CONFORMANCE"})),
    ),
    Clause::must(
        "config-linux.md#personality/flags",
        "flags, of which none is supported, are an error",
        |stage| {
            stage.refuses(|config| {
                config["linux"]["personality"] = json!({"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]})
            })
        },
    ),
    Clause::must(
        "config-linux.md#intel-rdt/no-resctrl",
        "intelRdt without a mounted resctrl is an error",
        |stage| {
            if crate::runtime::read(Path::new("/proc/self/mountinfo")).contains(" - resctrl ") {
                return skip("resctrl is mounted");
            }
            stage.refuses(|config| {
                config["linux"]["intelRdt"] = json!({"closID": "conformance", "l3CacheSchema": "L3:0=1"})
            })
        },
    ),
    Clause::must(
        "config-linux.md#mount-label/set",
        "mountLabel is the SELinux context of the mounts",
        |stage| {
            if !Path::new("/sys/fs/selinux/enforce").exists() {
                return skip("SELinux is not active on this host");
            }
            let label = "system_u:object_r:container_file_t:s0:c1,c2";
            let seen = stage.observe("grep ' /dev ' /proc/mounts", |config| {
                config["linux"]["mountLabel"] = json!(label)
            })?;
            holds(seen.out.contains(label), || {
                format!("the mount is {:?}", seen.out)
            })
        },
    ),
];

fn propagation(stage: &Stage, value: &str, wanted: &[&str]) -> Verdict {
    let seen = stage.observe(
        "awk '$5 == \"/\" {for (i = 7; $i != \"-\"; i++) print $i}' /proc/self/mountinfo",
        |config| {
            config["linux"]["rootfsPropagation"] = json!(value);
        },
    )?;
    // Being a slave of the host's peer group shows as master:N, if the host has one.
    let kinds: Vec<&str> = seen
        .out
        .lines()
        .filter_map(|field| field.split(':').next())
        .filter(|kind| *kind != "master" || value != "slave")
        .collect();
    same("the root mount is", kinds.as_slice(), wanted)
}
