//! `gabion update`.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use gabion_baseline::config::Resources;
use gabion_container::{ContainerError, Schemata};
use gabion_ledger::Verdict;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::lifecycle::{note_failure, place};
use crate::context::Context;
use crate::failure::Failure;
use crate::gate;

/// Change limits of a container
///
/// The container's configuration with the new limits is judged first. Either all of
/// them are in force then, or none is. What is not named stays; sizes are bytes, or have
/// a suffix such as k, M, G; -1 lifts a limit.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// Name of the container
    #[arg(value_name = "CONTAINER_ID")]
    pub id: String,

    /// Read them from FILE (- for standard input), in the form of linux.resources in
    /// config.json; the other options are then ignored
    #[arg(short, long, value_name = "FILE", verbatim_doc_comment)]
    pub resources: Option<PathBuf>,

    /// Memory
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory: Option<String>,

    /// Memory that is left to it when memory is short
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory_reservation: Option<String>,

    /// Memory and swap together
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,

    /// Microseconds of CPU time in a period
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    pub cpu_quota: Option<String>,

    /// Length of a period
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_period: Option<String>,

    /// CPU time that may be saved up for a later period
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_burst: Option<String>,

    /// Weight beside other containers; 1024 is the usual one
    #[arg(long, alias = "cpu-shares", value_name = "SHARES")]
    pub cpu_share: Option<String>,

    /// Real-time CPU time in a period (cgroup version 1)
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    pub cpu_rt_runtime: Option<String>,

    /// Length of a period for real-time CPU time (cgroup version 1)
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_rt_period: Option<String>,

    /// 1: run only when nothing else wants to; 0: as usual
    #[arg(long, value_name = "0|1", allow_hyphen_values = true)]
    pub cpu_idle: Option<String>,

    /// CPUs to run on, such as 0-2,7
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,

    /// Memory nodes to use
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,

    /// Processes and threads
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub pids_limit: Option<String>,

    /// Weight for block devices, from 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    pub blkio_weight: Option<String>,

    /// Shares of the cache (Intel RDT), such as L3:0=f;1=f0
    #[arg(long, value_name = "SCHEMA")]
    pub l3_cache_schema: Option<String>,

    /// Shares of the memory's bandwidth (Intel RDT), such as MB:0=20;1=70
    #[arg(long, value_name = "SCHEMA")]
    pub mem_bw_schema: Option<String>,

    // The kernel has neither any more; callers from before may still name them.
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, hide = true)]
    pub kernel_memory: Option<String>,

    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, hide = true)]
    pub kernel_memory_tcp: Option<String>,
}

pub(crate) fn run(options: &Options, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let (root, id) = place(&options.id, context)?;
    let record = root.read(&id)?;
    let effective = gabion_container::effective(&root, &id)?;
    let asked = options.asked(context)?;
    let before = effective
        .pointer("/linux/resources")
        .cloned()
        .unwrap_or(Value::Null);
    for key in fixed(&asked, &before) {
        context.warn(&format!(
            "config.json#/linux/resources{key} is of a container's creation: update leaves it as it is"
        ));
    }
    let merged = merge(&before, &asked);
    let (admitted, old, mut book) = gate::admit_update(
        context,
        id.as_str(),
        &effective,
        merged,
        &record.profile,
        &record.bundle,
    )?;
    if let Some(index) = new_device(&before, &asked) {
        let error = ContainerError::Unsupported {
            pointer: format!("/linux/resources/devices/{index}"),
            text: "devices of a container cannot be changed after its creation. Remove the rule".to_owned(),
        };
        return Err(note_failure(&mut book, &id, error)?);
    }
    let now = admitted.document().pointer("/linux/resources");
    let wanted = wanted(&asked, &before, now.unwrap_or(&Value::Null))?;
    let schemata = Schemata {
        l3_cache: options
            .l3_cache_schema
            .clone()
            .filter(|schema| !schema.is_empty()),
        memory_bandwidth: options.mem_bw_schema.clone().filter(|schema| !schema.is_empty()),
    };
    match gabion_container::update(&root, &id, admitted, &wanted, &old, &schemata) {
        Ok(()) => {
            book.note(Verdict::Done, None)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Err(note_failure(&mut book, &id, error)?),
    }
}

/// More than any list of limits needs.
const MAX_SIZE: u64 = 1 << 20;

impl Options {
    /// What is asked for, as `linux.resources`, without what asks for no change.
    fn asked(&self, context: &Context<'_>) -> Result<Value, Failure> {
        let mut asked = match &self.resources {
            Some(path) => {
                let value = if path.as_os_str() == "-" {
                    read_value(std::io::stdin()).context("standard input")
                } else {
                    File::open(path)
                        .map_err(anyhow::Error::from)
                        .and_then(read_value)
                        .with_context(|| format!("{path:?}"))
                };
                let (value, unknown) = known(value.context("cannot read the resources")?)?;
                for key in unknown {
                    context.warn(&format!(
                        "{key:?} is no property of linux.resources, and is ignored"
                    ));
                }
                value
            }
            None => {
                for (flag, value) in [
                    ("kernel-memory", &self.kernel_memory),
                    ("kernel-memory-tcp", &self.kernel_memory_tcp),
                ] {
                    if value.is_some() {
                        context.warn(&format!(
                            "Setting --{flag} is ignored: the kernel limits kernel memory with memory"
                        ));
                    }
                }
                self.of_flags()?
            }
        };
        drop_unchanged(&mut asked);
        lift_swap_with_memory(&mut asked);
        Ok(asked)
    }

    fn of_flags(&self) -> anyhow::Result<Value> {
        let mut asked = json!({"memory": {}, "cpu": {}, "pids": {}, "blockIO": {}});
        let mut put = |section: &str, key: &str, value: Value| asked[section][key] = value;
        for (flag, key, value) in [
            ("memory", "limit", &self.memory),
            ("memory-reservation", "reservation", &self.memory_reservation),
            ("memory-swap", "swap", &self.memory_swap),
        ] {
            if let Some(text) = given(value) {
                let size = size(text).ok_or_else(|| invalid(flag, text, "a size, such as 512M"))?;
                put("memory", key, json!(size));
            }
        }
        for (flag, section, key, value) in [
            ("cpu-period", "cpu", "period", &self.cpu_period),
            ("cpu-burst", "cpu", "burst", &self.cpu_burst),
            ("cpu-share", "cpu", "shares", &self.cpu_share),
            ("cpu-rt-period", "cpu", "realtimePeriod", &self.cpu_rt_period),
            ("blkio-weight", "blockIO", "weight", &self.blkio_weight),
        ] {
            if let Some(text) = given(value) {
                let number: u64 = text.parse().map_err(|_| invalid(flag, text, "a number"))?;
                put(section, key, json!(number));
            }
        }
        for (flag, section, key, value) in [
            ("cpu-quota", "cpu", "quota", &self.cpu_quota),
            ("cpu-rt-runtime", "cpu", "realtimeRuntime", &self.cpu_rt_runtime),
            ("cpu-idle", "cpu", "idle", &self.cpu_idle),
            ("pids-limit", "pids", "limit", &self.pids_limit),
        ] {
            if let Some(text) = given(value) {
                let number: i64 = text.parse().map_err(|_| invalid(flag, text, "a number"))?;
                put(section, key, json!(number));
            }
        }
        for (key, value) in [("cpus", &self.cpuset_cpus), ("mems", &self.cpuset_mems)] {
            if let Some(text) = given(value) {
                put("cpu", key, json!(text));
            }
        }
        Ok(asked)
    }
}

fn given(value: &Option<String>) -> Option<&str> {
    value.as_deref().filter(|text| !text.is_empty())
}

fn invalid(flag: &str, text: &str, accepted: &str) -> anyhow::Error {
    anyhow!("invalid value for {flag}: {text:?} is not {accepted}")
}

/// The first JSON value of a stream; what comes after it is not looked at.
fn read_value(stream: impl Read) -> anyhow::Result<Value> {
    let mut reader = serde_json::Deserializer::from_reader(stream.take(MAX_SIZE));
    Ok(Value::deserialize(&mut reader)?)
}

/// Bytes from `52428800`, `50M`, `1.5 GiB`, or -1; suffixes count in powers of 1024.
fn size(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let text = text.trim();
    let end = text
        .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let suffix = suffix.trim_start().to_ascii_lowercase();
    let suffix = suffix
        .strip_suffix("ib")
        .or_else(|| suffix.strip_suffix('b'))
        .unwrap_or(&suffix);
    let exponent = match suffix {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(1 << exponent);
    }
    let bytes = number.parse::<f64>().ok()? * f64::from(1 << (exponent / 2)) * f64::from(1 << (exponent / 2));
    #[allow(clippy::cast_possible_truncation)] // compared just before
    (bytes < 9e18).then_some(bytes as i64)
}

const TOP: &[&str] = &[
    "memory",
    "cpu",
    "pids",
    "blockIO",
    "hugepageLimits",
    "devices",
    "network",
    "rdma",
    "unified",
];
const MEMORY: &[&str] = &[
    "limit",
    "reservation",
    "swap",
    "kernel",
    "kernelTCP",
    "swappiness",
    "disableOOMKiller",
    "useHierarchy",
    "checkBeforeUpdate",
];
const CPU: &[&str] = &[
    "shares",
    "quota",
    "burst",
    "period",
    "realtimeRuntime",
    "realtimePeriod",
    "cpus",
    "mems",
    "idle",
];
const BLOCK_IO: &[&str] = &[
    "weight",
    "leafWeight",
    "weightDevice",
    "throttleReadBpsDevice",
    "throttleWriteBpsDevice",
    "throttleReadIOPSDevice",
    "throttleWriteIOPSDevice",
];

/// The properties of the spec under their own names: programs in Go read keys without regard to case, and some
/// callers count on that. Gives what is no property beside them.
fn known(value: Value) -> anyhow::Result<(Value, Vec<String>)> {
    let mut unknown = Vec::new();
    let Value::Object(sections) = value else {
        bail!("the resources are no JSON object");
    };
    let mut found = Map::new();
    for (key, section) in sections {
        let Some(&name) = TOP.iter().find(|name| name.eq_ignore_ascii_case(&key)) else {
            unknown.push(key);
            continue;
        };
        let names = match name {
            "memory" => MEMORY,
            "cpu" => CPU,
            "blockIO" => BLOCK_IO,
            "pids" => &["limit"],
            _ => &[],
        };
        let section = match section {
            Value::Object(entries) if !names.is_empty() => {
                let mut section = Map::new();
                for (key, entry) in entries {
                    match names.iter().find(|name| name.eq_ignore_ascii_case(&key)) {
                        Some(&name) => {
                            section.insert(name.to_owned(), entry);
                        }
                        None => unknown.push(format!("{name}.{key}")),
                    }
                }
                Value::Object(section)
            }
            other => other,
        };
        found.insert(name.to_owned(), section);
    }
    Ok((Value::Object(found), unknown))
}

/// Engines send zero, "" or null for what they leave as it is.
fn drop_unchanged(asked: &mut Value) {
    // Zero is a value for these.
    const MAY_BE_ZERO: [&str; 3] = ["burst", "idle", "swappiness"];
    let Value::Object(sections) = asked else {
        return;
    };
    for section in sections.values_mut() {
        if let Value::Object(entries) = section {
            entries.retain(|key, entry| {
                let zero = entry.as_f64() == Some(0.0) && !MAY_BE_ZERO.contains(&key.as_str());
                !(zero || entry.is_null() || entry.as_str() == Some(""))
            });
        }
    }
    sections.retain(|_, section| {
        !section.is_null()
            && section.as_object().is_none_or(|entries| !entries.is_empty())
            && section.as_array().is_none_or(|entries| !entries.is_empty())
    });
}

/// Memory without a limit has swap without one, unless somebody says otherwise.
fn lift_swap_with_memory(asked: &mut Value) {
    if let Some(Value::Object(memory)) = asked.get_mut("memory")
        && memory.get("limit") == Some(&json!(-1))
        && !memory.contains_key("swap")
    {
        memory.insert("swap".to_owned(), json!(-1));
    }
}

/// Properties that differ from the container's and are not changed after its creation.
fn fixed(asked: &Value, before: &Value) -> Vec<&'static str> {
    [
        "/memory/kernel",
        "/memory/kernelTCP",
        "/memory/swappiness",
        "/memory/disableOOMKiller",
        "/memory/useHierarchy",
        "/blockIO/leafWeight",
        "/blockIO/weightDevice",
        "/network",
        "/rdma",
    ]
    .into_iter()
    .filter(|pointer| {
        let value = asked.pointer(pointer);
        value.is_some_and(|value| {
            let nothing = value == &json!(false) && before.pointer(pointer).is_none();
            !nothing && Some(value) != before.pointer(pointer)
        })
    })
    .collect()
}

/// The first rule that allows a device which the container's rules do not name in the same words.
fn new_device(before: &Value, asked: &Value) -> Option<usize> {
    let rules = |resources: &Value| {
        resources
            .get("devices")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let old = rules(before);
    rules(asked)
        .iter()
        .position(|rule| rule.get("allow") == Some(&json!(true)) && !old.contains(rule))
}

/// The container's resources with what is asked for in them.
fn merge(before: &Value, asked: &Value) -> Value {
    let mut merged = before.as_object().cloned().unwrap_or_default();
    for (key, section) in asked.as_object().into_iter().flatten() {
        match (merged.get_mut(key), section) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                old.extend(new.iter().map(|(key, value)| (key.clone(), value.clone())));
            }
            _ => {
                merged.insert(key.clone(), section.clone());
            }
        }
    }
    for key in fixed(asked, before) {
        put_back(&mut merged, before, key);
    }
    Value::Object(merged)
}

fn put_back(merged: &mut Map<String, Value>, before: &Value, pointer: &str) {
    let mut parts = pointer.split('/').skip(1);
    let (Some(section), key) = (parts.next(), parts.next()) else {
        return;
    };
    let (map, key) = match key {
        None => (merged, section),
        Some(key) => match merged.get_mut(section) {
            Some(Value::Object(map)) => (map, key),
            _ => return,
        },
    };
    match before.pointer(pointer) {
        Some(value) => map.insert(key.to_owned(), value.clone()),
        None => map.remove(key),
    };
}

/// What is to be written: what was asked for and what judgement changed, with the values that were admitted.
fn wanted(asked: &Value, before: &Value, now: &Value) -> anyhow::Result<Resources> {
    let mut wanted = Map::new();
    for (key, section) in now.as_object().into_iter().flatten() {
        let was_asked = asked.get(key);
        let was_there = before.get(key);
        match section {
            Value::Object(entries) => {
                let entries: Map<String, Value> = entries
                    .iter()
                    .filter(|(name, value)| {
                        was_asked.is_some_and(|section| section.get(*name).is_some())
                            || was_there.and_then(|section| section.get(*name)) != Some(value)
                    })
                    .map(|(name, value)| (name.clone(), value.clone()))
                    .collect();
                wanted.insert(key.clone(), Value::Object(entries));
            }
            other if was_asked.is_some() || was_there != Some(other) => {
                wanted.insert(key.clone(), other.clone());
            }
            _ => {}
        }
    }
    Ok(serde_json::from_value(Value::Object(wanted))?)
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

    fn flags(arguments: &[&str]) -> Result<Value, String> {
        let line =
            Line::try_parse_from([&["update"], arguments].concat()).map_err(|error| error.to_string())?;
        let mut asked = line.options.of_flags().map_err(|error| error.to_string())?;
        drop_unchanged(&mut asked);
        lift_swap_with_memory(&mut asked);
        Ok(asked)
    }

    #[test]
    fn sizes_have_suffixes_in_powers_of_1024() {
        for (text, bytes) in [
            ("52428800", 52_428_800),
            ("50M", 52_428_800),
            ("50m", 52_428_800),
            ("50MiB", 52_428_800),
            ("50 mb", 52_428_800),
            ("1.5g", 1_610_612_736),
            ("0", 0),
            ("-1", -1),
            ("7b", 7),
            ("2t", 2 << 40),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in [
            "",
            "-2",
            "M",
            "5x",
            "1.2.3",
            "9999999999999999999",
            "9999999P",
            "-1M",
        ] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn flags_become_resources_before_and_after_the_id() {
        assert_eq!(
            flags(&[
                "web",
                "--memory",
                "50M",
                "--cpu-quota",
                "-1",
                "--cpu-share=200",
                "--pids-limit",
                "-1",
                "--cpuset-cpus",
                "0",
                "--blkio-weight",
                "500",
                "--cpu-idle",
                "0",
                "--cpu-rt-period",
                "5",
            ])
            .unwrap(),
            json!({"memory": {"limit": 52_428_800}, "pids": {"limit": -1}, "blockIO": {"weight": 500},
                "cpu": {"shares": 200, "realtimePeriod": 5, "quota": -1, "idle": 0, "cpus": "0"}})
        );
        assert_eq!(
            flags(&["--memory", "-1", "web"]).unwrap(),
            json!({"memory": {"limit": -1, "swap": -1}})
        );
        assert_eq!(
            flags(&["--memory=-1", "--memory-swap=50", "web"]).unwrap(),
            json!({"memory": {"limit": -1, "swap": 50}})
        );
        assert_eq!(
            flags(&["web", "--cpu-period", "0", "--cpuset-mems", ""]).unwrap(),
            json!({})
        );
    }

    #[test]
    fn what_is_no_number_is_named_with_its_flag() {
        assert_eq!(
            flags(&["web", "--cpu-period", "x"]).unwrap_err(),
            "invalid value for cpu-period: \"x\" is not a number"
        );
        assert_eq!(
            flags(&["web", "--memory", "lots"]).unwrap_err(),
            "invalid value for memory: \"lots\" is not a size, such as 512M"
        );
    }

    #[test]
    fn keys_are_read_without_regard_to_case_and_unknown_ones_are_told() {
        let (value, unknown) = known(json!({"CPU": {"Cpus": "1", "turbo": 1}, "blockio": {"Weight": 5},
            "unified": {"Memory.High": "1"}, "gpu": {}}))
        .unwrap();
        assert_eq!(
            value,
            json!({"cpu": {"cpus": "1"}, "blockIO": {"weight": 5}, "unified": {"Memory.High": "1"}})
        );
        assert_eq!(unknown, ["cpu.turbo", "gpu"]);
        assert!(known(json!([])).is_err());
    }

    #[test]
    fn what_is_not_asked_for_stays_and_what_judgement_changed_is_written() {
        let before = json!({"memory": {"limit": 5, "swap": 9, "swappiness": 60}, "pids": {"limit": 20},
            "devices": [{"allow": false}]});
        let asked = json!({"memory": {"limit": 7, "swappiness": 10}, "cpu": {"shares": 3}, "devices": [{"allow": false}]});
        assert_eq!(fixed(&asked, &before), ["/memory/swappiness"]);
        let merged = merge(&before, &asked);
        assert_eq!(
            merged,
            json!({"memory": {"limit": 7, "swap": 9, "swappiness": 60}, "pids": {"limit": 20},
                "devices": [{"allow": false}], "cpu": {"shares": 3}})
        );
        let mut judged = merged;
        judged["pids"]["limit"] = json!(10);
        let wanted = wanted(&asked, &before, &judged).unwrap();
        assert_eq!(wanted.memory.value().unwrap().limit.value(), Some(&7));
        assert!(wanted.memory.value().unwrap().swap.is_missing());
        assert_eq!(wanted.pids.value().unwrap().limit.value(), Some(&10));
        assert_eq!(wanted.cpu.value().unwrap().shares.value(), Some(&3));
    }

    #[test]
    fn a_device_that_the_container_does_not_have_is_found() {
        let old =
            json!({"devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1}]});
        assert_eq!(new_device(&old, &old), None);
        let more = json!({"devices": [{"allow": false}, {"allow": true, "type": "b"}]});
        assert_eq!(new_device(&old, &more), Some(1));
        assert_eq!(new_device(&old, &json!({})), None);
    }
}
