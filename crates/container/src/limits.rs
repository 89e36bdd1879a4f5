//! Whether the container's cgroups limit what the configuration says they do (a part of V-14, seen from outside).
//!
//! A controller may not be there, or not be handed down to the container's cgroup, and a limit may be rounded, capped or
//! lost on its way. A limit that was judged and does not hold is none: the container is not started.

use std::fs;
use std::path::PathBuf;

use gabion_baseline::config::{Config, Resources};
use gabion_baseline::facts::CgroupMode;
use gabion_descent::Failure;
use serde::{Deserialize, Serialize};

use crate::error::{ContainerError, Result};
use crate::systemd::{self, Scope};

/// A limit, and where the kernel shows it: files of version 2 and of version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limit {
    pointer: String,
    wanted: i64,
    files: [String; 2],
    /// The kernel keeps multiples of this.
    unit: i64,
    /// What it may be as well: systemd counts in steps of its own, and writes the next one when it writes at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rounded: Option<i64>,
}

impl Limit {
    fn is(&self, found: i64) -> bool {
        let found = found / self.unit;
        found == self.wanted / self.unit || self.rounded == Some(found)
    }
}

/// Compares limits with what the kernel says they are.
///
/// # Errors
/// [`ContainerError::Unsupported`] with the limit's place, if no cgroup of the container has such a limit;
/// [`ContainerError::Process`] with a mismatch if it has another value.
pub(crate) fn verify(limits: &[Limit], cgroups: &[PathBuf]) -> Result<()> {
    for limit in limits {
        let found = cgroups
            .iter()
            .flat_map(|cgroup| limit.files.iter().map(move |file| cgroup.join(file)))
            .find_map(|path| fs::read_to_string(path).ok());
        let Some(text) = found else {
            return Err(ContainerError::Unsupported {
                pointer: limit.pointer.clone(),
                text: format!(
                    "{} cannot be enforced: this host has no such controller, or does not hand it down to the \
                     container's cgroup. Enable it, or remove the limit",
                    limit.wanted
                ),
            });
        };
        // `cpu.max` has the period after the quota.
        let first = text.split_whitespace().next().unwrap_or_default();
        if !first.parse().is_ok_and(|found| limit.is(found)) {
            return Err(ContainerError::Process(Failure::mismatch(
                "V-14",
                format!(
                    "config.json#{} is {}, and the cgroup's is {first}",
                    limit.pointer, limit.wanted
                ),
            )));
        }
    }
    Ok(())
}

/// Refuses what `unified` asks for and the kernel has not got: anything where the controllers are version 1's, as nothing
/// would set it; and a file that belongs to no controller.
///
/// # Errors
/// [`ContainerError::Unsupported`] with its place.
pub(crate) fn check_unified(config: &Config, mode: CgroupMode) -> Result<()> {
    let resources = config.linux.value().and_then(|linux| linux.resources.value());
    let Some(unified) = resources.and_then(|resources| resources.unified.value()) else {
        return Ok(());
    };
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let controllers: Vec<&str> = controllers.split_whitespace().collect();
    unified.keys().try_for_each(|name| {
        wrong_with(name, mode, &controllers).map_or(Ok(()), |text| {
            Err(ContainerError::Unsupported {
                pointer: "/linux/resources/unified".to_owned(),
                text,
            })
        })
    })
}

/// What is wrong with a key of `unified`. Other runtimes' words come first.
fn wrong_with(name: &str, mode: CgroupMode, controllers: &[&str]) -> Option<String> {
    if mode != CgroupMode::Unified {
        return Some(format!(
            "invalid configuration: {name:?} is of cgroup version 2, and the controllers of this host are version 1's. \
             Remove it, or use the other properties of linux.resources"
        ));
    }
    let Some((controller, _)) = name.split_once('.').filter(|_| !name.contains('/')) else {
        return Some(format!(
            "the specified key has not the form CONTROLLER.VALUE `{name}`: it is the name of a file in the container's \
             cgroup"
        ));
    };
    // These files are there without a controller.
    let is_always_there = controller == "cgroup" || name.ends_with(".pressure");
    (!is_always_there && !controllers.contains(&controller)).then(|| {
        format!(
            "the requested cgroup controller `{controller}` is not available: this host has {}",
            controllers.join(", ")
        )
    })
}

/// Sets `pids.limit`, once nobody but the container's own process is left in its cgroups. A controller that is not
/// there is for [`verify`] to tell.
///
/// # Errors
/// If a `pids.max` that is there cannot be written.
pub(crate) fn set_pids(config: &Config, cgroups: &[PathBuf]) -> Result<()> {
    let resources = config.linux.value().and_then(|linux| linux.resources.value());
    let pids = resources.and_then(|resources| resources.pids.value());
    let Some(&limit) = pids.and_then(|pids| pids.limit.value()) else {
        return Ok(());
    };
    // Zero and less are no limit.
    let text = if limit > 0 {
        limit.to_string()
    } else {
        "max".to_owned()
    };
    cgroups
        .iter()
        .map(|cgroup| cgroup.join("pids.max"))
        .filter(|path| path.exists())
        .try_for_each(|path| fs::write(&path, &text).map_err(ContainerError::file("cannot write", path)))
}

/// The limits that a configuration sets; `scope` is the container's, if it has one.
pub(crate) fn of(config: &Config, scope: Option<&Scope>) -> Vec<Limit> {
    let resources = config.linux.value().and_then(|linux| linux.resources.value());
    let Some(resources) = resources else {
        return Vec::new();
    };
    let mut limits: Vec<Limit> = of_resources(resources).collect();
    if scope.is_some() {
        for limit in limits.iter_mut().filter(|limit| limit.files[0] == "cpu.max") {
            let quota = limit.wanted.unsigned_abs();
            limit.rounded = systemd::granted_quota(quota, period(resources)).try_into().ok();
        }
    }
    limits
}

/// The time for which a quota of CPU is, in microseconds.
fn period(resources: &Resources) -> u64 {
    let unified = resources.unified.value();
    let second = unified
        .and_then(|unified| unified.get("cpu.max"))
        .and_then(|text| text.split_whitespace().nth(1)?.parse().ok());
    let cpu = resources.cpu.value().and_then(|cpu| cpu.period.value().copied());
    second.or(cpu).filter(|&period| period > 0).unwrap_or(100_000)
}

fn of_resources(resources: &Resources) -> impl Iterator<Item = Limit> + '_ {
    let pids = resources.pids.value().and_then(|pids| pids.limit.value());
    let memory = resources.memory.value().and_then(|memory| memory.limit.value());
    let quota = resources.cpu.value().and_then(|cpu| cpu.quota.value());
    // Written after the others, so what it says of a file holds.
    let unified = resources.unified.value();
    [
        (pids, "/linux/resources/pids/limit", ["pids.max", "pids.max"], 1),
        (
            memory,
            "/linux/resources/memory/limit",
            ["memory.max", "memory.limit_in_bytes"],
            4096,
        ),
        (
            quota,
            "/linux/resources/cpu/quota",
            ["cpu.max", "cpu.cfs_quota_us"],
            1,
        ),
    ]
    .into_iter()
    // Zero and less are no limit.
    .filter_map(move |(value, pointer, files, unit)| {
        let value = match unified.and_then(|unified| unified.get(files[0])) {
            Some(text) => text.split_whitespace().next().and_then(|word| word.parse().ok()),
            None => value.copied(),
        };
        let wanted = value.filter(|&wanted| wanted > 0)?;
        Some(Limit {
            pointer: pointer.to_owned(),
            wanted,
            files: files.map(str::to_owned),
            unit,
            rounded: None,
        })
    })
}

#[cfg(test)]
mod tests {
    use gabion_baseline::Allegation;

    use super::*;

    fn verified(resources: &str, files: &[(&str, &str)]) -> std::result::Result<(), String> {
        let cgroup = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(cgroup.path().join(name), text).unwrap();
        }
        let text = format!(r#"{{"ociVersion":"1.2.0","linux":{{"resources":{resources}}}}}"#);
        let config = Allegation::parse(text.as_bytes()).unwrap();
        verify(
            &of(config.config(), None),
            &["/nowhere".into(), cgroup.path().to_owned()],
        )
        .map_err(|error| error.to_string())
    }

    #[test]
    fn a_limit_holds_if_the_kernel_says_so_on_either_version() {
        let all = r#"{"pids":{"limit":8},"memory":{"limit":1000000},"cpu":{"quota":50000}}"#;
        assert_eq!(
            verified(
                all,
                &[
                    ("pids.max", "8\n"),
                    ("memory.max", "999424\n"),
                    ("cpu.max", "50000 100000\n")
                ]
            ),
            Ok(())
        );
        let first = [
            ("pids.max", "8\n"),
            ("memory.limit_in_bytes", "999424\n"),
            ("cpu.cfs_quota_us", "50000\n"),
        ];
        assert_eq!(verified(all, &first), Ok(()));
    }

    #[test]
    fn a_key_of_unified_is_a_file_of_a_controller_that_is_there() {
        let wrong = |name: &str| wrong_with(name, CgroupMode::Unified, &["memory", "pids"]);
        for name in ["memory.high", "pids.max", "cgroup.max.depth", "io.pressure"] {
            assert_eq!(wrong(name), None, "{name}");
        }
        for name in ["MEMORY", "memory", "../memory.max", "memory.max/../x"] {
            assert!(
                wrong(name).unwrap().contains("has not the form CONTROLLER.VALUE"),
                "{name}"
            );
        }
        assert!(
            wrong("foo.bar")
                .unwrap()
                .contains("controller `foo` is not available")
        );
        let on_version_1 = wrong_with("memory.high", CgroupMode::Hybrid, &[]).unwrap();
        assert!(
            on_version_1.starts_with("invalid configuration: "),
            "{on_version_1}"
        );
    }

    #[test]
    fn of_two_words_on_one_limit_the_unified_one_holds() {
        let both = r#"{"pids":{"limit":20},"unified":{"pids.max":"10"}}"#;
        assert_eq!(verified(both, &[("pids.max", "10\n")]), Ok(()));
        assert!(
            verified(both, &[("pids.max", "20\n")])
                .unwrap_err()
                .contains("V-14")
        );
        let lifted = r#"{"pids":{"limit":20},"unified":{"pids.max":"max"}}"#;
        assert_eq!(verified(lifted, &[("pids.max", "max\n")]), Ok(()));
    }

    #[test]
    fn a_limit_without_a_controller_is_refused_by_name() {
        let error = verified(r#"{"pids":{"limit":8}}"#, &[]).unwrap_err();
        assert!(
            error.starts_with("config.json#/linux/resources/pids/limit: 8 cannot be enforced"),
            "{error}"
        );
    }

    #[test]
    fn another_value_than_was_judged_is_noticed() {
        for text in ["max\n", "9\n", ""] {
            let error = verified(r#"{"pids":{"limit":8}}"#, &[("pids.max", text)]).unwrap_err();
            assert!(error.contains("V-14"), "{error}");
        }
    }

    #[test]
    fn what_is_no_limit_is_not_asked_for() {
        for resources in [
            "{}",
            r#"{"pids":{"limit":-1},"memory":{"limit":0,"disableOOMKiller":false},"cpu":{"quota":-1,"shares":2}}"#,
            r#"{"pids":null,"memory":{"limit":null}}"#,
        ] {
            assert_eq!(verified(resources, &[]), Ok(()));
        }
    }
}
