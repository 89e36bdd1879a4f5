//! features.md and features-linux.md: the document a runtime gives about itself, held against what it does.

use crate::bundle::push;
use crate::clause::{Clause, Stop, Verdict};
use crate::expect::{fail, holds, same, skip};
use crate::stage::Stage;
use serde_json::{Value, json};

const HOOKS: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

const TOP: [&str; 7] = [
    "ociVersionMin",
    "ociVersionMax",
    "hooks",
    "mountOptions",
    "linux",
    "annotations",
    "potentiallyUnsafeConfigAnnotations",
];

/// Options that need more than a tmpfs to be tried on.
const NOT_FOR_A_TMPFS: [&str; 5] = ["bind", "rbind", "remount", "idmap", "ridmap"];

pub(super) const CLAUSES: &[Clause] = &[
    Clause::must(
        "features.md#specification-version/both-there",
        "ociVersionMin and ociVersionMax are there, and are versions",
        |stage| {
            let features = features(stage)?;
            for property in ["ociVersionMin", "ociVersionMax"] {
                holds(version(&features[property]).is_some(), || {
                    format!("{property} is {}", features[property])
                })?;
            }
            Ok(())
        },
    ),
    Clause::must(
        "features.md#specification-version/max-is-not-less",
        "ociVersionMax is not less than ociVersionMin",
        |stage| {
            let features = features(stage)?;
            let (min, max) = (
                version(&features["ociVersionMin"]),
                version(&features["ociVersionMax"]),
            );
            holds(min <= max, || {
                format!(
                    "from {} to {}",
                    features["ociVersionMin"], features["ociVersionMax"]
                )
            })
        },
    ),
    Clause::must(
        "features.md#specification-version/both-accepted",
        "configurations of both versions are accepted",
        |stage| {
            let features = features(stage)?;
            for property in ["ociVersionMin", "ociVersionMax"] {
                let seen = stage.observe("echo ran", |config| {
                    config["ociVersion"] = features[property].clone()
                })?;
                same(property, seen.text(), "ran")?;
            }
            Ok(())
        },
    ),
    Clause::must(
        "features.md#specification-version/no-other-properties",
        "there are no properties that the specification does not define",
        |stage| {
            let features = features(stage)?;
            let strange: Vec<&String> = features
                .as_object()
                .into_iter()
                .flat_map(|object| object.keys())
                .filter(|key| !TOP.contains(&key.as_str()))
                .collect();
            same("other properties", strange, Vec::<&String>::new())
        },
    ),
    Clause::must(
        "features.md#hooks/supported",
        "every hook that is named is one of the specification, and is called",
        |stage| {
            let features = features(stage)?;
            let names = strings(&features["hooks"])?;
            let mut container = stage.container()?;
            std::fs::create_dir(stage.directory.join("log"))?;
            push(
                &mut container.config,
                "/mounts",
                json!({"destination": "/log", "type": "bind", "source": stage.directory.join("log"), "options": ["bind"]}),
            );
            for name in &names {
                holds(HOOKS.contains(&name.as_str()), || {
                    format!("{name:?} is no hook of the specification")
                })?;
                let log = if name == "startContainer" {
                    "/log".into()
                } else {
                    stage.directory.join("log").to_string_lossy().into_owned()
                };
                container.config["hooks"][name] =
                    json!([{"path": crate::bundle::BUSYBOX, "args": ["touch", format!("{log}/{name}")]}]);
            }
            container.run_to_end()?;
            container.must_delete()?;
            let silent: Vec<&String> = names
                .iter()
                .filter(|name| !stage.directory.join("log").join(name).exists())
                .collect();
            same("hooks that were not called", silent, Vec::<&String>::new())
        },
    ),
    Clause::must(
        "features.md#mount-options/recognized",
        "every mount option that is named is recognized",
        |stage| {
            let features = features(stage)?;
            let names = strings(&features["mountOptions"])?;
            let mut unknown = Vec::new();
            // Many at a time, for speed; one by one where that fails.
            let tried: Vec<&String> = names
                .iter()
                .filter(|name| !NOT_FOR_A_TMPFS.contains(&name.as_str()))
                .collect();
            for group in tried.chunks(30) {
                if mounts(stage, group)? {
                    continue;
                }
                for option in group {
                    if !mounts(stage, &[option])? {
                        unknown.push(option.as_str());
                    }
                }
            }
            same("options that are not accepted", unknown, Vec::<&str>::new())
        },
    ),
    Clause::must(
        "features.md#annotations/strings",
        "annotations are a map of strings, without an empty key",
        |stage| {
            let features = features(stage)?;
            let strange: Vec<_> = features["annotations"]
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(key, value)| key.is_empty() || !value.is_string())
                .collect();
            same("other annotations", strange, vec![])
        },
    ),
    Clause::must(
        "features-linux.md#namespaces/recognized",
        "every namespace that is named is recognized",
        |stage| {
            let features = features(stage)?;
            for name in strings(&features["linux"]["namespaces"])? {
                let file = match name.as_str() {
                    "network" => "net",
                    "mount" => "mnt",
                    other => other,
                };
                if crate::host::needs_namespace(file).is_err() {
                    continue;
                }
                let seen = stage.observe("echo ran", |config| {
                    crate::bundle::keep_namespaces(config, |kind| {
                        kind == "mount" || kind == "uts" && name != "uts"
                    });
                    if name == "user" {
                        super::namespaces::mapped(config);
                        // A user namespace may mount a sysfs only with a network namespace of its own.
                        push(config, "/linux/namespaces", json!({"type": "network"}));
                        push(config, "/linux/namespaces", json!({"type": "pid"}));
                        push(config, "/linux/namespaces", json!({"type": "ipc"}));
                    } else if name != "mount" {
                        push(config, "/linux/namespaces", json!({"type": name}));
                    }
                });
                match seen {
                    Ok(seen) => same(&name, seen.text(), "ran")?,
                    Err(Stop::Fail(reason)) => return fail(format!("{name}: {reason}")),
                    Err(other) => return Err(other),
                }
            }
            Ok(())
        },
    ),
    Clause::must(
        "features-linux.md#capabilities/recognized",
        "every capability that is named is recognized",
        |stage| {
            let features = features(stage)?;
            let names = strings(&features["linux"]["capabilities"])?;
            // The runtime cannot give what it has not got; what this kernel has not got it may name. Which of its
            // capabilities each name stands for is not known here: a host without some of them proves nothing.
            let host = bounding(&crate::runtime::read(std::path::Path::new("/proc/self/status")));
            let last = crate::runtime::read(std::path::Path::new("/proc/sys/kernel/cap_last_cap"));
            let last = last.trim().parse::<u32>().unwrap_or(0);
            if host.count_ones() != last + 1 {
                let missing: Vec<u32> = (0..=last).filter(|number| host >> number & 1 == 0).collect();
                return skip(format!(
                    "this host lacks capabilities of its kernel, numbers {missing:?}: a runtime cannot give them"
                ));
            }
            let seen = stage.observe("grep ^CapBnd /proc/self/status", |config| {
                config["process"]["capabilities"] = json!({"bounding": names})
            })?;
            let mask = bounding(&seen.out);
            let wanted = usize::try_from(host.count_ones()).unwrap_or(0).min(names.len());
            same(
                "capabilities in the bounding set",
                usize::try_from(mask.count_ones()).unwrap_or(0),
                wanted,
            )
        },
    ),
    Clause::must(
        "features-linux.md#cgroup/booleans",
        "the cgroup properties are true, false or not there",
        |stage| {
            let features = features(stage)?;
            for property in ["v1", "v2", "systemd", "systemdUser", "rdma"] {
                let value = &features["linux"]["cgroup"][property];
                holds(value.is_null() || value.is_boolean(), || {
                    format!("{property} is {value}")
                })?;
            }
            Ok(())
        },
    ),
    Clause::must(
        "features-linux.md#cgroup/true-here",
        "the kind of cgroup machine that this is, and works, is said to be supported",
        |stage| {
            let features = features(stage)?;
            let property = if crate::host::cgroup_mode() == "v2" {
                "v2"
            } else {
                "v1"
            };
            let value = &features["linux"]["cgroup"][property];
            if value.is_null() {
                return skip("the document does not say");
            }
            stage.observe("true", |_| {})?;
            same(property, value, true)
        },
    ),
    Clause::must(
        "features-linux.md#seccomp/actions-recognized",
        "every seccomp action that is named is recognized",
        |stage| {
            let features = features(stage)?;
            for action in strings(&features["linux"]["seccomp"]["actions"])? {
                if action == "SCMP_ACT_NOTIFY" {
                    continue;
                }
                filtered(
                    stage,
                    &action,
                    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["chroot"], "action": action}]}),
                )?;
            }
            Ok(())
        },
    ),
    Clause::must(
        "features-linux.md#seccomp/operators-recognized",
        "every seccomp operator that is named is recognized",
        |stage| {
            let features = features(stage)?;
            for operator in strings(&features["linux"]["seccomp"]["operators"])? {
                let args = json!([{"index": 1, "value": 1, "valueTwo": 1, "op": operator}]);
                filtered(
                    stage,
                    &operator,
                    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["chroot"], "action": "SCMP_ACT_ERRNO", "args": args}]}),
                )?;
            }
            Ok(())
        },
    ),
    Clause::must(
        "features-linux.md#seccomp/archs-recognized",
        "every seccomp architecture that is named is recognized",
        |stage| {
            let features = features(stage)?;
            let archs = strings(&features["linux"]["seccomp"]["archs"])?;
            // Of one byte order: libseccomp holds no filter for both.
            let little = |arch: &&String| {
                ![
                    "MIPS",
                    "MIPS64",
                    "MIPS64N32",
                    "PPC",
                    "PPC64",
                    "S390",
                    "S390X",
                    "PARISC",
                    "PARISC64",
                    "M68K",
                    "SHEB",
                ]
                .contains(&arch.trim_start_matches("SCMP_ARCH_"))
            };
            let archs: Vec<&String> = archs.iter().filter(little).collect();
            filtered(
                stage,
                "architectures",
                json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": archs, "syscalls": [{"names": ["chroot"], "action": "SCMP_ACT_ERRNO"}]}),
            )
        },
    ),
    Clause::must(
        "features-linux.md#seccomp/flags-supported",
        "every seccomp flag that is said to be supported is",
        |stage| {
            let features = features(stage)?;
            for flag in strings(&features["linux"]["seccomp"]["supportedFlags"])? {
                // Only of use with SCMP_ACT_NOTIFY, and refused by the kernel without.
                if flag == "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" {
                    continue;
                }
                filtered(
                    stage,
                    &flag,
                    json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": [flag], "syscalls": [{"names": ["chroot"], "action": "SCMP_ACT_ERRNO"}]}),
                )?;
            }
            Ok(())
        },
    ),
];

/// The document; a skip if the runtime, as it MAY, gives none.
fn features(stage: &Stage) -> Result<Value, Stop> {
    let called = stage.runtime.call(&["features"])?;
    if !called.ok() || called.out.trim().is_empty() {
        return skip(format!(
            "the runtime gives no features document, as it MAY: {}",
            called.complaint()
        ));
    }
    match serde_json::from_str::<Value>(&called.out) {
        Ok(document) if document.is_object() => Ok(document),
        _ => fail(format!(
            "the features document is not a JSON object: {:?}",
            called.out
        )),
    }
}

/// The strings of a list; a skip if the list is null or absent, as most may be.
fn strings(list: &Value) -> Result<Vec<String>, Stop> {
    match list {
        Value::Null => skip("the document does not say"),
        Value::Array(list) => list
            .iter()
            .map(|element| match element.as_str() {
                Some(text) => Ok(text.to_owned()),
                None => fail(format!("{element} is not a string")),
            })
            .collect(),
        other => fail(format!("{other} is not a list")),
    }
}

/// Major, minor and patch.
fn version(text: &Value) -> Option<(u64, u64, u64)> {
    let core = text.as_str()?.split(['-', '+']).next()?;
    let mut parts = core.split('.').map(str::parse);
    let version = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    parts.next().is_none().then_some(version)
}

/// True if a container with one tmpfs for each of these options can be created.
fn mounts(stage: &Stage, options: &[&String]) -> Result<bool, Stop> {
    let mut container = stage.container()?;
    for (number, option) in options.iter().enumerate() {
        let mount = json!({"destination": format!("/mnt/{number}"), "type": "tmpfs", "source": "x", "options": [option]});
        push(&mut container.config, "/mounts", mount);
    }
    Ok(container.create()?.ok())
}

fn filtered(stage: &Stage, what: &str, seccomp: Value) -> Verdict {
    let seen = stage.observe("echo ran", |config| config["linux"]["seccomp"] = seccomp);
    match seen {
        Ok(seen) => same(what, seen.text(), "ran"),
        Err(Stop::Fail(reason)) => fail(format!("{what}: {reason}")),
        Err(other) => Err(other),
    }
}

/// The bounding set in a process's status.
fn bounding(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}
