//! `process.scheduler`, `ioPriority` and `execCPUAffinity`, and `linux.memoryPolicy`: read here, and set by whoever can.
//!
//! The first three are set from outside, by the runtime with all its privileges, when the process is made and waits:
//! in a user namespace it could not do it itself. Memory's policy can be set by a process for itself alone: the
//! descent does.

use std::collections::BTreeSet;

use gabion_baseline::config::{Config, Process};
use gabion_descent::MemoryPolicy;
use gabion_descent::status::members;
use gabion_sys::schedule::{self, Attributes};
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{ContainerError, Result};

/// sched.h has it, libc for this target has not.
const SCHED_DEADLINE: u32 = 6;

/// What is set from outside, read and found to make sense.
#[derive(Debug, Default)]
pub(crate) struct Scheduling {
    scheduler: Option<Attributes>,
    io_priority: Option<(u16, u16)>,
    /// Before the process is in the container's cgroup, and after.
    affinity: [Option<CpuSet>; 2],
}

/// Gives a process all processors that its cgroup lets it have, whatever the caller of the runtime is confined to. The
/// kernel narrows the set to the cgroup's. Where it will not, the process keeps what it has: it is not more.
pub(crate) fn release_processors(pid: Pid) {
    let mut all = CpuSet::new();
    let filled = (0..CpuSet::count()).try_for_each(|number| all.set(number));
    if let Err(errno) = filled.and_then(|()| sched_setaffinity(pid, &all)) {
        tracing::debug!(%errno, "the processors of the caller are kept");
    }
}

#[derive(Debug, Deserialize)]
struct Scheduler {
    policy: String,
    #[serde(default)]
    nice: i32,
    #[serde(default)]
    priority: i32,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    runtime: u64,
    #[serde(default)]
    deadline: u64,
    #[serde(default)]
    period: u64,
}

#[derive(Debug, Deserialize)]
struct IoPriority {
    class: String,
    #[serde(default)]
    priority: i64,
}

#[derive(Debug, Default, Deserialize)]
struct Affinity {
    #[serde(default)]
    initial: String,
    #[serde(default, rename = "final")]
    last: String,
}

#[derive(Debug, Deserialize)]
struct WrittenPolicy {
    #[serde(default)]
    mode: String,
    #[serde(default)]
    nodes: String,
    #[serde(default)]
    flags: Vec<String>,
}

impl Scheduling {
    /// Reads it. The affinity is for `exec` alone: the specification says that it does not apply to a container's first
    /// process.
    ///
    /// # Errors
    /// [`ContainerError::Unsupported`] with the place of a word or number that there is not.
    pub(crate) fn of(process: &Process) -> Result<Self> {
        let affinity: Affinity =
            read("/process/execCPUAffinity", process.exec_cpu_affinity.value())?.unwrap_or_default();
        Ok(Scheduling {
            scheduler: read("/process/scheduler", process.scheduler.value())?
                .as_ref()
                .map(attributes)
                .transpose()?,
            io_priority: read("/process/ioPriority", process.io_priority.value())?
                .as_ref()
                .map(io_priority)
                .transpose()?,
            affinity: [
                processors("/process/execCPUAffinity/initial", &affinity.initial)?,
                processors("/process/execCPUAffinity/final", &affinity.last)?,
            ],
        })
    }

    /// Sets the scheduler and the I/O priority of a process.
    ///
    /// # Errors
    /// What the kernel refuses, by the property's name.
    pub(crate) fn apply(&self, pid: Pid) -> Result<()> {
        let refused = |property: &str, error: &dyn std::fmt::Display| {
            ContainerError::Build(format!("process.{property} cannot be set: {error}"))
        };
        if let Some((class, priority)) = self.io_priority {
            schedule::set_io_priority(pid, class, priority).map_err(|error| refused("ioPriority", &error))?;
        }
        if let Some(attributes) = self.scheduler {
            schedule::set(pid, attributes).map_err(|error| {
                let is_deadline = attributes.policy == SCHED_DEADLINE;
                match error.errno {
                    // sched_setattr(2): the mask of the thread has to include all processors of the system.
                    Errno::EPERM if is_deadline => refused(
                        "scheduler",
                        &format!(
                            "{error}. If linux.resources.cpu.cpus is set, process scheduler can't be used together with \
                             AllowedCPUs"
                        ),
                    ),
                    _ => refused("scheduler", &error),
                }
            })?;
        }
        Ok(())
    }

    /// The processors of the calling process, before it joins the container's cgroup.
    ///
    /// # Errors
    /// As [`Scheduling::apply`].
    pub(crate) fn begin(&self) -> Result<()> {
        self.confine(Pid::from_raw(0), 0, "initial")?;
        if let Some(set) = &self.affinity[0] {
            // It is gone when the program runs, so this is where one can see it. runc's words.
            tracing::debug!("affinity: {}", mask(set));
        }
        Ok(())
    }

    /// The processors of a process that has joined.
    ///
    /// # Errors
    /// As [`Scheduling::apply`].
    pub(crate) fn settle(&self, pid: Pid) -> Result<()> {
        if self.affinity == [None, None] {
            release_processors(pid);
        }
        self.confine(pid, 1, "final")
    }

    fn confine(&self, pid: Pid, which: usize, property: &str) -> Result<()> {
        match &self.affinity[which] {
            None => Ok(()),
            Some(set) => sched_setaffinity(pid, set).map_err(|errno| {
                ContainerError::Build(format!(
                    "process.execCPUAffinity.{property} cannot be set: {}: none of these processors is there, or is the \
                     container's",
                    errno.desc()
                ))
            }),
        }
    }
}

/// A set of processors as a hexadecimal number, whose lowest bit is processor 0.
fn mask(set: &CpuSet) -> String {
    let digit = |at: usize| {
        (0..4)
            .filter(|bit| set.is_set(4 * at + bit) == Ok(true))
            .map(|bit| 1 << bit)
            .sum::<u32>()
    };
    let digits: String = (0..CpuSet::count() / 4)
        .rev()
        .map(digit)
        .skip_while(|digit| *digit == 0)
        .filter_map(|digit| char::from_digit(digit, 16))
        .collect();
    format!("0x{digits}")
}

/// The modes of `linux.memoryPolicy`, as the kernel numbers them (set_mempolicy(2)).
pub const MEMORY_POLICIES: [(&str, i32); 7] = [
    ("MPOL_DEFAULT", 0),
    ("MPOL_PREFERRED", 1),
    ("MPOL_BIND", 2),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];

/// Its flags.
pub const MEMORY_POLICY_FLAGS: [(&str, i32); 3] = [
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_STATIC_NODES", 1 << 15),
];

/// `linux.memoryPolicy`.
///
/// # Errors
/// As [`Scheduling::of`].
pub(crate) fn memory_policy(config: &Config) -> Result<Option<MemoryPolicy>> {
    const AT: &str = "/linux/memoryPolicy";
    // runc's words, before ours.
    let invalid = |part: &str, error| match error {
        ContainerError::Unsupported { pointer, text } => ContainerError::Unsupported {
            pointer,
            text: format!("invalid memory policy {part}: {text}"),
        },
        other => other,
    };
    let written = config.linux.value().and_then(|linux| linux.memory_policy.value());
    let Some(written) = read::<WrittenPolicy>(AT, written)? else {
        return Ok(None);
    };
    if written.mode.is_empty() && written.nodes.is_empty() && written.flags.is_empty() {
        // Nothing is asked for.
        return Ok(None);
    }
    let mut mode = number(&format!("{AT}/mode"), &written.mode, &MEMORY_POLICIES)
        .map_err(|error| invalid("mode", error))?;
    for (index, flag) in written.flags.iter().enumerate() {
        mode |= number(&format!("{AT}/flags/{index}"), flag, &MEMORY_POLICY_FLAGS)
            .map_err(|error| invalid("flag", error))?;
    }
    let mut nodes = Vec::new();
    let numbers = list(&format!("{AT}/nodes"), &written.nodes).map_err(|error| invalid("node", error))?;
    for node in numbers {
        let word = node / 64;
        if nodes.len() <= word {
            nodes.resize(word + 1, 0);
        }
        nodes[word] |= 1_u64 << (node % 64);
    }
    Ok(Some(MemoryPolicy { mode, nodes }))
}

/// Numbers of processors or memory nodes, if there is a word on them.
type Members = Option<BTreeSet<u32>>;

/// Processors and memory nodes that a configuration's cpuset names; `None` where it names none.
///
/// # Errors
/// As [`Scheduling::of`].
pub(crate) fn sets(config: &Config) -> Result<(Members, Members)> {
    let resources = config.linux.value().and_then(|linux| linux.resources.value());
    let cpu = resources.and_then(|resources| resources.cpu.value());
    // Written after the others, so what it says of a file holds.
    let unified = resources.and_then(|resources| resources.unified.value());
    let set = |key: &str, given: Option<&String>| {
        let file = format!("cpuset.{key}");
        let list = match unified.and_then(|unified| unified.get(&file)) {
            Some(list) => Some((format!("/linux/resources/unified/{file}"), list)),
            None => given.map(|list| (format!("/linux/resources/cpu/{key}"), list)),
        };
        let Some((pointer, list)) = list.filter(|(_, list)| !list.trim().is_empty()) else {
            return Ok(None);
        };
        numbers(pointer, list).map(Some)
    };
    Ok((
        set("cpus", cpu.and_then(|cpu| cpu.cpus.value()))?,
        set("mems", cpu.and_then(|cpu| cpu.mems.value()))?,
    ))
}

/// Of a container's processors those that `execCPUAffinity` leaves a further process.
///
/// # Errors
/// As [`Scheduling::of`].
pub(crate) fn within(cpuset: Members, process: &Process) -> Result<Members> {
    let affinity: Affinity =
        read("/process/execCPUAffinity", process.exec_cpu_affinity.value())?.unwrap_or_default();
    if affinity.last.trim().is_empty() {
        return Ok(cpuset);
    }
    let asked = numbers("/process/execCPUAffinity/final".to_owned(), &affinity.last)?;
    Ok(Some(match cpuset {
        Some(cpuset) => cpuset.intersection(&asked).copied().collect(),
        None => asked,
    }))
}

fn numbers(pointer: String, list: &str) -> Result<BTreeSet<u32>> {
    members(list).ok_or_else(|| ContainerError::Unsupported {
        pointer,
        text: format!("{list:?} is no list of numbers and ranges, such as 0-2,7"),
    })
}

fn read<T: DeserializeOwned>(pointer: &str, given: Option<&serde_json::Value>) -> Result<Option<T>> {
    given
        .map(|value| {
            T::deserialize(value).map_err(|error| ContainerError::Unsupported {
                pointer: pointer.to_owned(),
                text: error.to_string(),
            })
        })
        .transpose()
}

fn number<N: Copy>(pointer: &str, word: &str, known: &[(&str, N)]) -> Result<N> {
    known
        .iter()
        .find(|(name, _)| *name == word)
        .map(|(_, number)| *number)
        .ok_or_else(|| {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            ContainerError::Unsupported {
                pointer: pointer.to_owned(),
                text: format!("{word:?} is none of {}", names.join(", ")),
            }
        })
}

fn attributes(written: &Scheduler) -> Result<Attributes> {
    const AT: &str = "/process/scheduler";
    let policy = number(
        &format!("{AT}/policy"),
        &written.policy,
        &[
            ("SCHED_OTHER", 0),
            ("SCHED_FIFO", 1),
            ("SCHED_RR", 2),
            ("SCHED_BATCH", 3),
            ("SCHED_ISO", 4),
            ("SCHED_IDLE", 5),
            ("SCHED_DEADLINE", SCHED_DEADLINE),
        ],
    )?;
    let mut flags = 0;
    for (index, flag) in written.flags.iter().enumerate() {
        flags |= number(
            &format!("{AT}/flags/{index}"),
            flag,
            &[
                ("SCHED_FLAG_RESET_ON_FORK", 0x01),
                ("SCHED_FLAG_RECLAIM", 0x02),
                ("SCHED_FLAG_DL_OVERRUN", 0x04),
                ("SCHED_FLAG_KEEP_POLICY", 0x08),
                ("SCHED_FLAG_KEEP_PARAMS", 0x10),
                ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
                ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
            ],
        )?;
    }
    let wrong = |name: &str, text: String| ContainerError::Unsupported {
        pointer: format!("{AT}/{name}"),
        text,
    };
    // The kernel would take the nearest that there is.
    if !(-20..=19).contains(&written.nice) {
        return Err(wrong(
            "nice",
            format!("{} is not between -20 and 19", written.nice),
        ));
    }
    let priority = u32::try_from(written.priority)
        .map_err(|_| wrong("priority", format!("{} is negative", written.priority)))?;
    let mut attributes = Attributes::default();
    attributes.policy = policy;
    attributes.flags = flags;
    attributes.nice = written.nice;
    attributes.priority = priority;
    attributes.runtime = written.runtime;
    attributes.deadline = written.deadline;
    attributes.period = written.period;
    Ok(attributes)
}

fn io_priority(written: &IoPriority) -> Result<(u16, u16)> {
    const AT: &str = "/process/ioPriority";
    let class = number(
        &format!("{AT}/class"),
        &written.class,
        &[
            ("IOPRIO_CLASS_RT", 1),
            ("IOPRIO_CLASS_BE", 2),
            ("IOPRIO_CLASS_IDLE", 3),
        ],
    )?;
    match u16::try_from(written.priority) {
        Ok(priority @ 0..=7) => Ok((class, priority)),
        _ => Err(ContainerError::Unsupported {
            pointer: format!("{AT}/priority"),
            text: format!("{} is not between 0 and 7", written.priority),
        }),
    }
}

fn processors(pointer: &str, text: &str) -> Result<Option<CpuSet>> {
    let numbers = list(pointer, text)?;
    if numbers.is_empty() {
        return Ok(None);
    }
    let mut set = CpuSet::new();
    for number in numbers {
        set.set(number).map_err(|_| ContainerError::Unsupported {
            pointer: pointer.to_owned(),
            text: format!("there is no processor {number}"),
        })?;
    }
    Ok(Some(set))
}

/// Reads the kernel's form of a list: `0-3,7` (cpuset(7), "List format").
fn list(pointer: &str, text: &str) -> Result<Vec<usize>> {
    /// More than the kernel can be built for.
    const MOST: usize = 8192;
    let wrong = |text: String| ContainerError::Unsupported {
        pointer: pointer.to_owned(),
        text,
    };
    let mut numbers = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>().ok();
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last && last < MOST => numbers.extend(first..=last),
            _ => {
                return Err(wrong(format!(
                    "{part:?} is no number below {MOST}, and no range of them"
                )));
            }
        }
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use gabion_baseline::Allegation;

    use super::*;

    #[test]
    fn a_set_of_processors_is_a_number() {
        let mut set = CpuSet::new();
        for (number, shown) in [(0, "0x1"), (1, "0x3"), (6, "0x43"), (64, "0x10000000000000043")] {
            set.set(number).unwrap();
            assert_eq!(mask(&set), shown);
        }
    }

    fn config(process: &str, linux: &str) -> Config {
        let text =
            format!(r#"{{"ociVersion":"1.2.0","process":{{"cwd":"/"{process}}},"linux":{{{linux}}}}}"#);
        Allegation::parse(text.as_bytes()).unwrap().config().clone()
    }

    fn error(process: &str) -> String {
        let config = config(&format!(",{process}"), "");
        Scheduling::of(config.process.value().unwrap())
            .unwrap_err()
            .to_string()
    }

    fn policy(text: &str) -> std::result::Result<Option<MemoryPolicy>, String> {
        memory_policy(&config("", &format!(r#""memoryPolicy":{text}"#))).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_written_is_not_set() {
        let config = config("", "");
        let scheduling = Scheduling::of(config.process.value().unwrap()).unwrap();
        assert!(scheduling.scheduler.is_none() && scheduling.io_priority.is_none());
        assert_eq!(scheduling.affinity, [None, None]);
        assert_eq!(memory_policy(&config).unwrap(), None);
    }

    #[test]
    fn lists_are_those_of_the_kernel() {
        assert_eq!(list("/x", " 0-2, 7").unwrap(), [0, 1, 2, 7]);
        assert_eq!(list("/x", "").unwrap(), [0_usize; 0]);
        for text in ["a", "3-1", "-1", "0-9876543210", "1-"] {
            let error = list("/x", text).unwrap_err().to_string();
            assert!(error.starts_with("config.json#/x: "), "{error}");
        }
    }

    #[test]
    fn memory_policies_are_the_kernels_numbers() {
        assert_eq!(
            policy(r#"{"mode":"MPOL_BIND","nodes":"0,65","flags":["MPOL_F_STATIC_NODES"]}"#).unwrap(),
            Some(MemoryPolicy {
                mode: 2 | 1 << 15,
                nodes: vec![1, 2]
            })
        );
        let refused = policy(r#"{"mode":"INTERLEAVE","nodes":"0"}"#).unwrap_err();
        assert!(
            refused
                .starts_with("config.json#/linux/memoryPolicy/mode: invalid memory policy mode: \"INTERLEAVE\" is none of MPOL_DEFAULT"),
            "{refused}"
        );
        let refused = policy(r#"{"mode":"MPOL_BIND","nodes":"0","flags":["x"]}"#).unwrap_err();
        assert!(
            refused.starts_with("config.json#/linux/memoryPolicy/flags/0: invalid memory policy flag: \"x\""),
            "{refused}"
        );
        let refused = policy(r#"{"nodes":"0"}"#).unwrap_err();
        assert!(
            refused.contains("invalid memory policy mode: \"\" is none of"),
            "{refused}"
        );
        let refused = policy(r#"{"mode":"MPOL_BIND","nodes":"0-9876543210"}"#).unwrap_err();
        assert!(refused.contains("invalid memory policy node: "), "{refused}");
        assert_eq!(policy("{}").unwrap(), None);
    }

    #[test]
    fn a_word_that_there_is_not_is_named() {
        for (process, wanted) in [
            (
                r#""scheduler":{"policy":"SCHED_FAST"}"#,
                "config.json#/process/scheduler/policy: \"SCHED_FAST\" is none of SCHED_OTHER",
            ),
            (
                r#""scheduler":{"policy":"SCHED_OTHER","nice":40}"#,
                "config.json#/process/scheduler/nice: 40 is not between",
            ),
            (
                r#""scheduler":{"policy":"SCHED_FIFO","priority":-1}"#,
                "config.json#/process/scheduler/priority: -1 is negative",
            ),
            (
                r#""ioPriority":{"class":"IOPRIO_CLASS_NONE"}"#,
                "config.json#/process/ioPriority/class: \"IOPRIO_CLASS_NONE\" is none of",
            ),
            (
                r#""ioPriority":{"class":"IOPRIO_CLASS_BE","priority":8}"#,
                "config.json#/process/ioPriority/priority: 8 is not between 0 and 7",
            ),
            (
                r#""execCPUAffinity":{"initial":"x"}"#,
                "config.json#/process/execCPUAffinity/initial: \"x\" is no number",
            ),
        ] {
            let error = error(process);
            assert!(error.starts_with(wanted), "{error}");
        }
    }
}
