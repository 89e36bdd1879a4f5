//! config-linux.md: namespaces, user mappings, time offsets.

use crate::bundle::{keep_namespaces, push, remove};
use crate::clause::{Clause, Stop, Verdict};
use crate::expect::{contains, holds, same};
use crate::host;
use crate::runtime::{read, wait_until};
use crate::stage::Stage;
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub(super) const CLAUSES: &[Clause] = &[
    Clause::must(
        "config-linux.md#namespaces/new-pid",
        "a pid namespace without path is new",
        |stage| {
            new(stage, "pid")?;
            same(
                "pid of the program",
                stage.observe("echo $$", |_| {})?.text(),
                "1",
            )
        },
    ),
    Clause::must(
        "config-linux.md#namespaces/new-network",
        "a network namespace without path is new",
        |stage| new(stage, "net"),
    ),
    Clause::must(
        "config-linux.md#namespaces/new-mount",
        "a mount namespace without path is new",
        |stage| new(stage, "mnt"),
    ),
    Clause::must(
        "config-linux.md#namespaces/new-ipc",
        "an ipc namespace without path is new",
        |stage| new(stage, "ipc"),
    ),
    Clause::must(
        "config-linux.md#namespaces/new-uts",
        "a uts namespace without path is new",
        |stage| new(stage, "uts"),
    ),
    Clause::must(
        "config-linux.md#namespaces/new-user",
        "a user namespace without path is new",
        |stage| new_with(stage, "user", mapped),
    ),
    Clause::must(
        "config-linux.md#namespaces/new-cgroup",
        "a cgroup namespace without path is new",
        |stage| {
            new_with(stage, "cgroup", |config| {
                push(config, "/linux/namespaces", json!({"type": "cgroup"}))
            })
        },
    ),
    Clause::should(
        "config-linux.md#namespaces/new-time",
        "a time namespace without path is new",
        |stage| {
            new_with(stage, "time", |config| {
                push(config, "/linux/namespaces", json!({"type": "time"}))
            })
        },
    ),
    Clause::must(
        "config-linux.md#namespaces/cgroup-view",
        "in a new cgroup namespace the container's cgroup is the root",
        |stage| {
            let seen = stage.observe("cat /proc/self/cgroup", |config| {
                push(config, "/linux/namespaces", json!({"type": "cgroup"}))
            })?;
            let deeper: Vec<&str> = seen.out.lines().filter(|line| !line.ends_with(":/")).collect();
            // Hierarchies the runtime does not join are seen from the namespace's root, as /.. and so on.
            same("cgroups that are not /", deeper, Vec::<&str>::new())
        },
    ),
    Clause::must(
        "config-linux.md#namespaces/path-network",
        "a network namespace with a path is joined",
        |stage| joined(stage, "network", "net"),
    ),
    Clause::must(
        "config-linux.md#namespaces/path-ipc",
        "an ipc namespace with a path is joined",
        |stage| joined(stage, "ipc", "ipc"),
    ),
    Clause::must(
        "config-linux.md#namespaces/path-uts",
        "a uts namespace with a path is joined",
        |stage| joined(stage, "uts", "uts"),
    ),
    Clause::must(
        "config-linux.md#namespaces/path-pid",
        "a pid namespace with a path is joined",
        |stage| joined(stage, "pid", "pid"),
    ),
    Clause::must(
        "config-linux.md#namespaces/path-of-another-type",
        "a path that leads to a namespace of another type is an error",
        |stage| {
            let holder = Holder::new("-n", "net")?;
            stage.refuses(|config| set_path(config, "ipc", &holder.path("net")))
        },
    ),
    Clause::must(
        "config-linux.md#namespaces/path-is-no-namespace",
        "a path that leads to no namespace is an error",
        |stage| {
            stage.refuses(|config| set_path(config, "network", "/dev/null"))?;
            stage.refuses(|config| set_path(config, "network", "/nonexistent/namespace"))
        },
    ),
    Clause::must(
        "config-linux.md#namespaces/path-is-absolute",
        "a path that is not absolute is an error",
        |stage| stage.refuses(|config| set_path(config, "network", "proc/self/ns/net")),
    ),
    Clause::must(
        "config-linux.md#namespaces/absent-network",
        "without a network namespace the runtime's is kept",
        |stage| inherited(stage, "network", "net"),
    ),
    Clause::must(
        "config-linux.md#namespaces/absent-ipc",
        "without an ipc namespace the runtime's is kept",
        |stage| inherited(stage, "ipc", "ipc"),
    ),
    Clause::must(
        "config-linux.md#namespaces/absent-uts",
        "without a uts namespace the runtime's is kept",
        |stage| inherited(stage, "uts", "uts"),
    ),
    Clause::must(
        "config-linux.md#namespaces/absent-pid",
        "without a pid namespace the runtime's is kept",
        |stage| inherited(stage, "pid", "pid"),
    ),
    Clause::must(
        "config-linux.md#namespaces/absent-cgroup",
        "without a cgroup namespace the runtime's is kept",
        |stage| inherited(stage, "cgroup", "cgroup"),
    ),
    Clause::must(
        "config-linux.md#namespaces/absent-user",
        "without a user namespace the runtime's is kept",
        |stage| inherited(stage, "user", "user"),
    ),
    Clause::must(
        "config-linux.md#namespaces/duplicate",
        "two namespaces of the same type are an error",
        |stage| stage.refuses(|config| push(config, "/linux/namespaces", json!({"type": "network"}))),
    ),
    Clause::must(
        "config-linux.md#namespaces/unknown-type",
        "a namespace type that does not exist is an error",
        |stage| stage.refuses(|config| push(config, "/linux/namespaces", json!({"type": "conformance"}))),
    ),
    Clause::must(
        "config-linux.md#user-namespace-mappings/maps",
        "uidMappings and gidMappings are the maps of the user namespace",
        |stage| {
            let seen = stage.observe("cat /proc/self/uid_map /proc/self/gid_map", |config| {
            mapped(config);
            config["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}, {"containerID": 2000, "hostID": 300_000, "size": 10}]);
        })?;
            let words: Vec<Vec<&str>> = seen
                .out
                .lines()
                .map(|line| line.split_whitespace().collect())
                .collect();
            same(
                "maps",
                words,
                vec![
                    vec!["0", "100000", "1000"],
                    vec!["2000", "300000", "10"],
                    vec!["0", "100000", "65536"],
                ],
            )
        },
    ),
    Clause::must(
        "config-linux.md#user-namespace-mappings/ids-on-the-host",
        "the program runs as the mapped user on the host",
        |stage| {
            let mut container = stage.container()?;
            mapped(&mut container.config);
            container.config["process"]["user"] = json!({"uid": 5, "gid": 6});
            container.script("echo ready; while :; do sleep 0.05; done");
            container.must_run()?;
            container.wait_for("ready")?;
            let status = read(Path::new(&format!("/proc/{}/status", container.pid()?)));
            contains("status", &status, "Uid:\t100005\t100005")?;
            contains("status", &status, "Gid:\t100006\t100006")
        },
    ),
    Clause::should(
        "config-linux.md#user-namespace-mappings/ownership-is-kept",
        "the root filesystem's owners are not changed to realize a mapping",
        |stage| {
            let mut container = stage.container()?;
            mapped(&mut container.config);
            container.run_to_end()?;
            let owner = std::fs::metadata(container.rootfs().join("bin/busybox"))?.uid();
            same("owner of /bin/busybox", owner, 0)
        },
    ),
    Clause::described(
        "config-linux.md#user-namespace-mappings/without-namespace",
        "mappings without a user namespace cannot be applied, and are an error",
        |stage| {
            stage.refuses(|config| {
                mapped(config);
                keep_namespaces(config, |kind| kind != "user");
            })
        },
    ),
    Clause::must(
        "config-linux.md#time-offsets/set",
        "timeOffsets set the clocks of a new time namespace",
        |stage| {
            host::needs_namespace("time")?;
            let seen = stage.observe(
                "cat /proc/self/timens_offsets; cut -d. -f1 /proc/uptime",
                |config| {
                    push(config, "/linux/namespaces", json!({"type": "time"}));
                    config["linux"]["timeOffsets"] =
                        json!({"boottime": {"secs": 1_000_000, "nanosecs": 5}, "monotonic": {"secs": 2000}});
                },
            )?;
            let uptime: u64 = seen
                .text()
                .lines()
                .last()
                .and_then(|line| line.parse().ok())
                .unwrap_or(0);
            holds(uptime >= 1_000_000, || {
                format!("uptime in the container is {uptime} s: {:?}", seen.out)
            })
        },
    ),
    Clause::described(
        "config-linux.md#time-offsets/without-namespace",
        "timeOffsets without a new time namespace cannot be applied, and are an error",
        |stage| stage.refuses(|config| config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 10}})),
    ),
    Clause::must(
        "config-linux.md#net-devices/moved",
        "a device of netDevices is moved into the container's network namespace and renamed (since 1.3)",
        |stage| {
            let device = format!("gc{}", std::process::id() % 1_000_000);
            let peer = format!("{device}p");
            if !ip(&["link", "add", &device, "type", "veth", "peer", "name", &peer])? {
                return crate::expect::skip("no veth device can be made here");
            }
            let seen = stage.observe("ls /sys/class/net", |config| {
                config["linux"]["netDevices"] = json!({&device: {"name": "moved0"}})
            });
            // If it was moved it went with the namespace; if it was not, it is still here.
            let left = Path::new("/sys/class/net").join(&device).exists();
            if left {
                ip(&["link", "del", &device])?;
            }
            let seen = seen?;
            holds(!left, || {
                format!("the device stayed on the host; the container has {:?}", seen.out)
            })?;
            holds(seen.out.lines().any(|name| name == "moved0"), || {
                format!("the container has {:?}", seen.out)
            })
        },
    ),
    Clause::must(
        "config-linux.md#net-devices/missing",
        "a device of netDevices that does not exist is an error (since 1.3)",
        |stage| stage.refuses(|config| config["linux"]["netDevices"] = json!({"conf-none": {}})),
    ),
];

/// Gives the container a user namespace with a plain mapping.
pub(super) fn mapped(config: &mut Value) {
    push(config, "/linux/namespaces", json!({"type": "user"}));
    for list in ["uidMappings", "gidMappings"] {
        config["linux"][list] = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    }
}

fn set_path(config: &mut Value, kind: &str, path: &str) {
    keep_namespaces(config, |other| other != kind);
    push(config, "/linux/namespaces", json!({"type": kind, "path": path}));
}

fn inside(stage: &Stage, file: &str, change: impl FnOnce(&mut Value)) -> Result<String, Stop> {
    let mut container = stage.container()?;
    change(&mut container.config);
    container.must_create()?;
    // Of the process as it is after create. For time, it is the children's that counts until execve.
    let file = if file == "time" { "time_for_children" } else { file };
    host::namespace(&container.pid()?.to_string(), file)
}

fn new(stage: &Stage, file: &str) -> Verdict {
    new_with(stage, file, |_| {})
}

fn new_with(stage: &Stage, file: &str, change: impl FnOnce(&mut Value)) -> Verdict {
    host::needs_namespace(file)?;
    let (inside, outside) = (inside(stage, file, change)?, host::namespace("self", file)?);
    holds(inside != outside, || {
        format!("the container is in the runtime's own {file} namespace, {inside}")
    })
}

fn inherited(stage: &Stage, kind: &str, file: &str) -> Verdict {
    let seen = inside(stage, file, |config| {
        keep_namespaces(config, |other| other != kind);
        if kind == "uts" {
            remove(config, "/hostname");
        }
        if kind == "network" {
            // A new sysfs needs the right over the network namespace, which a runtime has; still, the
            // mount of the host's sysfs is not what this is about.
            if let Some(list) = config["mounts"].as_array_mut() {
                list.retain(|mount| mount["type"] != "sysfs");
            }
        }
    })?;
    same("namespace", seen, host::namespace("self", file)?)
}

fn joined(stage: &Stage, kind: &str, file: &str) -> Verdict {
    let flag = match kind {
        "network" => "-n",
        "ipc" => "-i",
        "uts" => "-u",
        _ => "-p",
    };
    let holder = Holder::new(flag, file)?;
    let seen = inside(stage, file, |config| {
        set_path(config, kind, &holder.path(file));
        if kind == "uts" {
            remove(config, "/hostname");
        }
    })?;
    same("namespace", seen, holder.namespace.clone())
}

/// A process of ours that holds a new namespace open. It ends with this value.
struct Holder {
    process: Child,
    /// The process whose namespace is the new one: with a pid namespace that is the child.
    pid: u32,
    namespace: String,
}

impl Holder {
    fn new(flag: &str, file: &str) -> Result<Holder, Stop> {
        let mut command = Command::new(crate::bundle::BUSYBOX);
        command.args(["unshare", flag]);
        if flag == "-p" {
            command.args(["-f"]);
        }
        command
            .args([crate::bundle::BUSYBOX, "sleep", "60"])
            .stdin(Stdio::null());
        let process = command.spawn()?;
        let mut holder = Holder {
            pid: process.id(),
            process,
            namespace: String::new(),
        };
        let outside = host::namespace("self", file)?;
        let parent = holder.process.id();
        wait_until(Duration::from_secs(3), || {
            if flag == "-p" {
                let children = read(Path::new(&format!("/proc/{parent}/task/{parent}/children")));
                holder.pid = children.trim().parse().unwrap_or(parent);
            }
            holder.namespace = host::namespace(&holder.pid.to_string(), file).unwrap_or_default();
            !holder.namespace.is_empty() && holder.namespace != outside
        });
        if holder.namespace.is_empty() || holder.namespace == outside {
            return crate::expect::skip(format!("no new {file} namespace can be made here"));
        }
        Ok(holder)
    }

    fn path(&self, file: &str) -> String {
        format!("/proc/{}/ns/{file}", self.pid)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // With a pid namespace the sleeper is a grandchild, and its end is what ends the one we started.
        if self.pid != self.process.id()
            && let Ok(pid) = i32::try_from(self.pid)
        {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).ok();
        }
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn ip(arguments: &[&str]) -> Result<bool, Stop> {
    let mut command = Command::new(crate::bundle::BUSYBOX);
    command
        .arg("ip")
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(crate::runtime::finish(&mut command, "ip")?.success())
}
