//! What a container uses, as the kernel counts it, in the shape in which `events` prints it.
//!
//! The names, and what is left out where it is zero, are those of runc's `types/events.go`, which programs read.
//! A file that is not there is a controller that this host does not have: its numbers are zero.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::Serialize;

use crate::cgroup;
use crate::error::{ContainerError, Result};

/// One look at a container's cgroups and network interfaces.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Stats {
    pub cpu: CpuStats,
    pub cpuset: CpusetStats,
    pub memory: MemoryStats,
    pub pids: PidsStats,
    pub blkio: BlockStats,
    pub hugetlb: BTreeMap<String, HugepageStats>,
    pub intel_rdt: BTreeMap<String, String>,
    pub network_interfaces: Option<Vec<NetworkInterface>>,
}

/// CPU time in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct CpuStats {
    pub usage: CpuUsage,
    pub throttling: Throttling,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct CpuUsage {
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    pub kernel: u64,
    pub user: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Throttling {
    #[serde(skip_serializing_if = "is_zero")]
    pub periods: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_periods: u64,
    /// In nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_time: u64,
}

/// Pressure stall information (Documentation/accounting/psi.rst).
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Pressure {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub some: Option<PressureLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full: Option<PressureLine>,
}

/// Shares of the time in percent, and the total in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct PressureLine {
    pub avg10: f64,
    pub avg60: f64,
    pub avg300: f64,
    pub total: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct CpusetStats {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u32>,
    pub cpu_exclusive: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u32>,
    pub mem_hardwall: u64,
    pub mem_exclusive: u64,
    pub memory_migrate: u64,
    pub memory_spread_page: u64,
    pub memory_spread_slab: u64,
    pub memory_pressure: u64,
    pub sched_load_balance: u64,
    pub sched_relax_domain_level: i64,
}

/// Bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct MemoryStats {
    #[serde(skip_serializing_if = "is_zero")]
    pub cache: u64,
    pub usage: MemoryEntry,
    pub swap: MemoryEntry,
    pub kernel: MemoryEntry,
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: MemoryEntry,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
    #[serde(rename = "event_count")]
    pub event_count: MemoryEvents,
}

/// A limit of `u64::MAX` is none.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct MemoryEntry {
    pub limit: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    pub failcnt: u64,
}

/// `memory.events` of version 2.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct MemoryEvents {
    #[serde(skip_serializing_if = "is_zero")]
    pub low: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub high: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub oom: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub oom_kill: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub oom_group_kill: u64,
}

/// A limit of 0 is none.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct PidsStats {
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct BlockStats {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlockEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlockEntry>,
    #[serde(rename = "ioQueueRecursive", skip_serializing_if = "Vec::is_empty")]
    pub io_queued_recursive: Vec<BlockEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_time_recursive: Vec<BlockEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_wait_time_recursive: Vec<BlockEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_merged_recursive: Vec<BlockEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_time_recursive: Vec<BlockEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sectors_recursive: Vec<BlockEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct BlockEntry {
    #[serde(skip_serializing_if = "is_zero")]
    pub major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub minor: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub op: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub value: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct HugepageStats {
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    pub failcnt: u64,
}

/// An interface that the runtime made: none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct NetworkInterface {
    #[serde(rename = "Name")]
    pub name: String,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's way to call it
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Looks at a container's cgroups.
///
/// # Errors
/// If none of them is there any more, or a file that is there cannot be read.
pub(crate) fn read(cgroups: &[PathBuf]) -> Result<Stats> {
    let look = Look {
        cgroups: cgroups.iter().filter(|cgroup| cgroup.is_dir()).collect(),
    };
    if look.cgroups.is_empty() {
        return Err(ContainerError::Other(
            "the container has no cgroup any more".to_owned(),
        ));
    }
    let unified = gabion_host::cgroup::mode().map_err(ContainerError::Other)?
        == gabion_baseline::facts::CgroupMode::Unified;
    look.stats(unified)
}

struct Look<'a> {
    cgroups: Vec<&'a PathBuf>,
}

impl Look<'_> {
    fn stats(&self, unified: bool) -> Result<Stats> {
        Ok(Stats {
            cpu: if unified { self.cpu_2()? } else { self.cpu_1()? },
            cpuset: self.cpuset(unified)?,
            memory: if unified {
                self.memory_2()?
            } else {
                self.memory_1()?
            },
            pids: PidsStats {
                current: self.tasks(unified)?,
                // `max` is told as 0.
                limit: match self.number("pids.max")? {
                    u64::MAX => 0,
                    limit => limit,
                },
            },
            blkio: if unified { self.block_2()? } else { self.block_1()? },
            hugetlb: self.hugepages(unified)?,
            intel_rdt: BTreeMap::new(),
            network_interfaces: None,
        })
    }

    /// How many tasks there are; with version 2 and without the controller, how many processes.
    fn tasks(&self, unified: bool) -> Result<u64> {
        let text = self.text("pids.current")?;
        if unified && text.is_empty() {
            let cgroups: Vec<PathBuf> = self.cgroups.iter().map(|&cgroup| cgroup.clone()).collect();
            return Ok(cgroup::processes(&cgroups)?.len() as u64);
        }
        Ok(number(&text))
    }

    /// A file's text; empty if there is none.
    fn text(&self, name: &str) -> Result<String> {
        for cgroup in &self.cgroups {
            let path = cgroup.join(name);
            match fs::read_to_string(&path) {
                Ok(text) => return Ok(text),
                // EOPNOTSUPP is what some files answer where the feature behind them is turned off.
                Err(error)
                    if error.kind() == std::io::ErrorKind::NotFound
                        || matches!(
                            error.raw_os_error(),
                            Some(nix::libc::EOPNOTSUPP | nix::libc::ENODEV)
                        ) => {}
                Err(error) => return Err(ContainerError::file("cannot read", path)(error)),
            }
        }
        Ok(String::new())
    }

    /// A file's number, 0 if there is none; `max` is the highest.
    fn number(&self, name: &str) -> Result<u64> {
        Ok(number(&self.text(name)?))
    }

    /// A file of lines with a key and a number each.
    fn table(&self, name: &str) -> Result<BTreeMap<String, u64>> {
        let text = self.text(name)?;
        let pairs = text.lines().filter_map(|line| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), value.trim().parse().ok()?))
        });
        Ok(pairs.collect())
    }

    fn pressure(&self, name: &str) -> Result<Option<Pressure>> {
        Ok(pressure(&self.text(name)?))
    }

    fn cpu_1(&self) -> Result<CpuStats> {
        /// USER_HZ, in which the kernel gives ticks to programs on every architecture that we are built for.
        const NANOSECONDS_IN_TICK: u64 = 1_000_000_000 / 100;
        let ticks = self.table("cpuacct.stat")?;
        let throttling = self.table("cpu.stat")?;
        let mut usage = CpuUsage {
            total: self.number("cpuacct.usage")?,
            percpu: numbers(&self.text("cpuacct.usage_percpu")?),
            kernel: of(&ticks, "system") * NANOSECONDS_IN_TICK,
            user: of(&ticks, "user") * NANOSECONDS_IN_TICK,
            ..CpuUsage::default()
        };
        // A header, then a line for each CPU: number, user, system.
        for line in self.text("cpuacct.usage_all")?.lines().skip(1) {
            if let [_, user, kernel] = numbers(line)[..] {
                usage.percpu_user.push(user);
                usage.percpu_kernel.push(kernel);
            }
        }
        Ok(CpuStats {
            usage,
            throttling: Throttling {
                periods: of(&throttling, "nr_periods"),
                throttled_periods: of(&throttling, "nr_throttled"),
                throttled_time: of(&throttling, "throttled_time"),
            },
            psi: None,
        })
    }

    fn cpu_2(&self) -> Result<CpuStats> {
        let table = self.table("cpu.stat")?;
        let nanoseconds = |key: &str| of(&table, key).saturating_mul(1000);
        Ok(CpuStats {
            usage: CpuUsage {
                total: nanoseconds("usage_usec"),
                kernel: nanoseconds("system_usec"),
                user: nanoseconds("user_usec"),
                ..CpuUsage::default()
            },
            throttling: Throttling {
                periods: of(&table, "nr_periods"),
                throttled_periods: of(&table, "nr_throttled"),
                throttled_time: nanoseconds("throttled_usec"),
            },
            psi: self.pressure("cpu.pressure")?,
        })
    }

    fn cpuset(&self, unified: bool) -> Result<CpusetStats> {
        if unified {
            // What version 2 has of it is not reported by others either.
            return Ok(CpusetStats::default());
        }
        let list = |name: &str| -> Result<Vec<u32>> {
            Ok(crate::update::members(self.text(name)?.trim())
                .map(|members| members.into_iter().collect())
                .unwrap_or_default())
        };
        Ok(CpusetStats {
            cpus: list("cpuset.cpus")?,
            cpu_exclusive: self.number("cpuset.cpu_exclusive")?,
            mems: list("cpuset.mems")?,
            mem_hardwall: self.number("cpuset.mem_hardwall")?,
            mem_exclusive: self.number("cpuset.mem_exclusive")?,
            memory_migrate: self.number("cpuset.memory_migrate")?,
            memory_spread_page: self.number("cpuset.memory_spread_page")?,
            memory_spread_slab: self.number("cpuset.memory_spread_slab")?,
            memory_pressure: self.number("cpuset.memory_pressure")?,
            sched_load_balance: self.number("cpuset.sched_load_balance")?,
            sched_relax_domain_level: self
                .text("cpuset.sched_relax_domain_level")?
                .trim()
                .parse()
                .unwrap_or(0),
        })
    }

    fn memory_1(&self) -> Result<MemoryStats> {
        let entry = |prefix: &str| -> Result<MemoryEntry> {
            Ok(MemoryEntry {
                limit: self.number(&format!("{prefix}.limit_in_bytes"))?,
                usage: self.number(&format!("{prefix}.usage_in_bytes"))?,
                max: self.number(&format!("{prefix}.max_usage_in_bytes"))?,
                failcnt: self.number(&format!("{prefix}.failcnt"))?,
            })
        };
        let raw = self.table("memory.stat")?;
        Ok(MemoryStats {
            cache: of(&raw, "cache"),
            usage: entry("memory")?,
            swap: entry("memory.memsw")?,
            kernel: entry("memory.kmem")?,
            kernel_tcp: entry("memory.kmem.tcp")?,
            raw,
            psi: None,
            event_count: MemoryEvents::default(),
        })
    }

    fn memory_2(&self) -> Result<MemoryStats> {
        let raw = self.table("memory.stat")?;
        let events = self.table("memory.events")?;
        let usage = MemoryEntry {
            limit: self.number("memory.max")?,
            usage: self.number("memory.current")?,
            max: self.number("memory.peak")?,
            failcnt: of(&events, "max"),
        };
        // As in version 1, swap is told together with memory.
        let swap_limit = self.number("memory.swap.max")?;
        let swap = MemoryEntry {
            limit: match (usage.limit, swap_limit) {
                (u64::MAX, _) | (_, u64::MAX) => u64::MAX,
                (memory, swap) => memory.saturating_add(swap),
            },
            usage: usage.usage.saturating_add(self.number("memory.swap.current")?),
            max: self.number("memory.swap.peak")?,
            failcnt: 0,
        };
        Ok(MemoryStats {
            cache: of(&raw, "file"),
            usage,
            swap,
            kernel: MemoryEntry::default(),
            kernel_tcp: MemoryEntry::default(),
            raw,
            psi: self.pressure("memory.pressure")?,
            event_count: MemoryEvents {
                low: of(&events, "low"),
                high: of(&events, "high"),
                max: of(&events, "max"),
                oom: of(&events, "oom"),
                oom_kill: of(&events, "oom_kill"),
                oom_group_kill: of(&events, "oom_group_kill"),
            },
        })
    }

    fn block_1(&self) -> Result<BlockStats> {
        // A scheduler that weighs has its own counters; without one those of throttling are kept.
        let entries = |names: &[&str]| -> Result<Vec<BlockEntry>> {
            for name in names {
                let entries = block_entries(&self.text(name)?);
                if !entries.is_empty() {
                    return Ok(entries);
                }
            }
            Ok(Vec::new())
        };
        Ok(BlockStats {
            io_service_bytes_recursive: entries(&[
                "blkio.bfq.io_service_bytes_recursive",
                "blkio.io_service_bytes_recursive",
                "blkio.throttle.io_service_bytes_recursive",
                "blkio.throttle.io_service_bytes",
            ])?,
            io_serviced_recursive: entries(&[
                "blkio.bfq.io_serviced_recursive",
                "blkio.io_serviced_recursive",
                "blkio.throttle.io_serviced_recursive",
                "blkio.throttle.io_serviced",
            ])?,
            io_queued_recursive: entries(&["blkio.bfq.io_queued_recursive", "blkio.io_queued_recursive"])?,
            io_service_time_recursive: entries(&[
                "blkio.bfq.io_service_time_recursive",
                "blkio.io_service_time_recursive",
            ])?,
            io_wait_time_recursive: entries(&[
                "blkio.bfq.io_wait_time_recursive",
                "blkio.io_wait_time_recursive",
            ])?,
            io_merged_recursive: entries(&["blkio.bfq.io_merged_recursive", "blkio.io_merged_recursive"])?,
            io_time_recursive: entries(&["blkio.bfq.time_recursive", "blkio.time_recursive"])?,
            sectors_recursive: entries(&["blkio.bfq.sectors_recursive", "blkio.sectors_recursive"])?,
            psi: None,
        })
    }

    fn block_2(&self) -> Result<BlockStats> {
        let mut stats = BlockStats {
            psi: self.pressure("io.pressure")?,
            ..BlockStats::default()
        };
        for line in self.text("io.stat")?.lines() {
            let mut words = line.split_whitespace();
            let Some((major, minor)) = words.next().and_then(device) else {
                continue;
            };
            for word in words {
                let Some((key, value)) = word.split_once('=') else {
                    continue;
                };
                let (bytes, op) = match key {
                    "rbytes" => (true, "Read"),
                    "wbytes" => (true, "Write"),
                    "rios" => (false, "Read"),
                    "wios" => (false, "Write"),
                    _ => continue,
                };
                let list = if bytes {
                    &mut stats.io_service_bytes_recursive
                } else {
                    &mut stats.io_serviced_recursive
                };
                list.push(BlockEntry {
                    major,
                    minor,
                    op: op.to_owned(),
                    value: number(value),
                });
            }
        }
        Ok(stats)
    }

    fn hugepages(&self, unified: bool) -> Result<BTreeMap<String, HugepageStats>> {
        let mut found = BTreeMap::new();
        let directories = match fs::read_dir("/sys/kernel/mm/hugepages") {
            Ok(directories) => directories,
            Err(_) => return Ok(found),
        };
        for entry in directories {
            let entry = entry.map_err(ContainerError::file("cannot read", "/sys/kernel/mm/hugepages"))?;
            let name = entry.file_name();
            let kilobytes = name
                .to_str()
                .and_then(|name| name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok());
            let Some(size) = kilobytes.map(page_size) else {
                continue;
            };
            let (usage, max, failures) = if unified {
                ("current", "", "events")
            } else {
                ("usage_in_bytes", "max_usage_in_bytes", "failcnt")
            };
            let file = |suffix: &str| format!("hugetlb.{size}.{suffix}");
            if !self
                .cgroups
                .iter()
                .any(|cgroup| cgroup.join(file(usage)).exists())
            {
                continue;
            }
            let stats = HugepageStats {
                usage: self.number(&file(usage))?,
                max: if unified { 0 } else { self.number(&file(max))? },
                failcnt: if unified {
                    of(&self.table(&file(failures))?, "max")
                } else {
                    self.number(&file(failures))?
                },
            };
            found.insert(size, stats);
        }
        Ok(found)
    }
}

/// `2MB`, as the files are named.
fn page_size(kilobytes: u64) -> String {
    match kilobytes {
        n if n >= 1 << 20 => format!("{}GB", n >> 20),
        n if n >= 1 << 10 => format!("{}MB", n >> 10),
        n => format!("{n}KB"),
    }
}

fn of(table: &BTreeMap<String, u64>, key: &str) -> u64 {
    table.get(key).copied().unwrap_or(0)
}

fn number(text: &str) -> u64 {
    match text.trim() {
        "max" => u64::MAX,
        text => text.parse().unwrap_or(0),
    }
}

fn numbers(text: &str) -> Vec<u64> {
    text.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Lines `8:0 Read 4096` or `8:0 17`; a last line `Total 4096` is of no device.
fn block_entries(text: &str) -> Vec<BlockEntry> {
    let entry = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (place, op, value) = match words[..] {
            [place, op, value] => (place, op, value),
            [place, value] => (place, "", value),
            _ => return None,
        };
        let (major, minor) = device(place)?;
        Some(BlockEntry {
            major,
            minor,
            op: op.to_owned(),
            value: value.parse().ok()?,
        })
    };
    text.lines().filter_map(entry).collect()
}

fn pressure(text: &str) -> Option<Pressure> {
    let line = |kind: &str| {
        let rest = text
            .lines()
            .find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))?;
        let mut found = PressureLine::default();
        for (key, value) in rest.split_whitespace().filter_map(|word| word.split_once('=')) {
            match key {
                "avg10" => found.avg10 = value.parse().ok()?,
                "avg60" => found.avg60 = value.parse().ok()?,
                "avg300" => found.avg300 = value.parse().ok()?,
                "total" => found.total = value.parse().ok()?,
                _ => {}
            }
        }
        Some(found)
    };
    let pressure = Pressure {
        some: line("some"),
        full: line("full"),
    };
    (pressure.some.is_some() || pressure.full.is_some()).then_some(pressure)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn stats(unified: bool, files: &[(&str, &str)]) -> Value {
        let above = tempfile::tempdir().unwrap();
        let directory = above.path().join("container");
        fs::create_dir(&directory).unwrap();
        fs::write(above.path().join("cgroup.procs"), "").unwrap();
        for (name, text) in files {
            fs::write(directory.join(name), text).unwrap();
        }
        let cgroups = [PathBuf::from("/nowhere"), directory];
        let look = Look {
            cgroups: cgroups.iter().collect(),
        };
        serde_json::to_value(look.stats(unified).unwrap()).unwrap()
    }

    #[test]
    fn version_1_is_read_from_the_files_of_its_controllers() {
        let found = stats(
            false,
            &[
                ("cpuacct.usage", "3000000\n"),
                ("cpuacct.usage_percpu", "1000000 2000000 \n"),
                (
                    "cpuacct.usage_all",
                    "cpu user system\n0 700000 300000\n1 2000000 0\n",
                ),
                ("cpuacct.stat", "user 2\nsystem 1\n"),
                ("cpu.stat", "nr_periods 5\nnr_throttled 2\nthrottled_time 77\n"),
                ("cpuset.cpus", "0-1\n"),
                ("cpuset.sched_relax_domain_level", "-1\n"),
                ("memory.limit_in_bytes", "33554432\n"),
                ("memory.usage_in_bytes", "4096\n"),
                ("memory.stat", "cache 8192\nrss 3\n"),
                ("pids.current", "1\n"),
                ("pids.max", "20\n"),
                (
                    "blkio.throttle.io_service_bytes_recursive",
                    "8:0 Read 512\n8:0 Total 512\nTotal 512\n",
                ),
            ],
        );
        assert_eq!(
            found["cpu"],
            json!({"usage": {"total": 3_000_000, "percpu": [1_000_000, 2_000_000], "percpu_kernel": [300_000, 0],
                    "percpu_user": [700_000, 2_000_000], "kernel": 10_000_000, "user": 20_000_000},
                "throttling": {"periods": 5, "throttledPeriods": 2, "throttledTime": 77}})
        );
        assert_eq!(found["cpuset"]["cpus"], json!([0, 1]));
        assert_eq!(found["cpuset"]["sched_relax_domain_level"], -1);
        assert_eq!(
            found["memory"]["usage"],
            json!({"limit": 33_554_432, "usage": 4096, "failcnt": 0})
        );
        assert_eq!(found["memory"]["cache"], 8192);
        assert_eq!(found["memory"]["raw"], json!({"cache": 8192, "rss": 3}));
        assert_eq!(found["pids"], json!({"current": 1, "limit": 20}));
        assert_eq!(
            found["blkio"]["ioServiceBytesRecursive"],
            json!([{"major": 8, "op": "Read", "value": 512}, {"major": 8, "op": "Total", "value": 512}])
        );
        assert_eq!(
            (&found["hugetlb"], &found["network_interfaces"]),
            (&json!({}), &Value::Null)
        );
    }

    #[test]
    fn version_2_is_told_in_the_same_shape() {
        let found = stats(
            true,
            &[
                (
                    "cpu.stat",
                    "usage_usec 3000\nuser_usec 2000\nsystem_usec 1000\nthrottled_usec 4\n",
                ),
                (
                    "cpu.pressure",
                    "some avg10=1.50 avg60=0.00 avg300=0.00 total=9\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
                ),
                ("memory.max", "8192\n"),
                ("memory.current", "4096\n"),
                ("memory.swap.max", "1000\n"),
                ("memory.swap.current", "10\n"),
                ("memory.stat", "file 7\n"),
                ("memory.events", "low 0\nmax 3\noom 2\noom_kill 1\n"),
                ("pids.max", "max\n"),
                ("cgroup.procs", "7\n8\n0\n"),
                (
                    "io.stat",
                    "8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n",
                ),
            ],
        );
        assert_eq!(
            found["cpu"]["usage"],
            json!({"total": 3_000_000, "kernel": 1_000_000, "user": 2_000_000})
        );
        assert_eq!(found["cpu"]["throttling"], json!({"throttledTime": 4000}));
        assert_eq!(
            found["cpu"]["psi"]["some"],
            json!({"avg10": 1.5, "avg60": 0.0, "avg300": 0.0, "total": 9})
        );
        assert_eq!(
            found["memory"]["usage"],
            json!({"limit": 8192, "usage": 4096, "failcnt": 3})
        );
        assert_eq!(
            found["memory"]["swap"],
            json!({"limit": 9192, "usage": 4106, "failcnt": 0})
        );
        assert_eq!(
            found["memory"]["event_count"],
            json!({"max": 3, "oom": 2, "oom_kill": 1})
        );
        assert_eq!(found["pids"], json!({"current": 2}));
        assert_eq!(
            found["blkio"]["ioServicedRecursive"],
            json!([{"major": 8, "minor": 16, "op": "Read", "value": 3},
                {"major": 8, "minor": 16, "op": "Write", "value": 4}])
        );
        assert!(found["blkio"].get("ioServiceTimeRecursive").is_none());
    }

    #[test]
    fn sizes_of_pages_are_named_as_the_files_are() {
        assert_eq!([64, 2048, 1 << 20].map(page_size), ["64KB", "2MB", "1GB"]);
    }
}
