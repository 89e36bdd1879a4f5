//! From `linux.resources` to the files of cgroups, for either version.
//!
//! As other runtimes have it, zero and the empty string ask for no change; engines send them for what they do not
//! set. -1 asks for no limit.

use gabion_baseline::config::{BlockIo, Cpu, HugepageLimit, Memory, Resources, Throttle};
use gabion_baseline::facts::CgroupMode;
use gabion_baseline::given::Given;
use nix::errno::Errno;

use super::files::{Expect, Files, Write, answered, members};
use crate::error::{ContainerError, Result};
use crate::systemd;

/// What is to be changed.
pub(crate) struct Change<'a> {
    /// What was asked for, and nothing else.
    pub(crate) wanted: &'a Resources,
    /// As it will be, what was not asked for included.
    pub(crate) whole: &'a Resources,
    /// As it was.
    pub(crate) before: &'a Resources,
    /// True for version 2.
    pub(crate) unified: bool,
}

impl<'a> Change<'a> {
    pub(crate) fn new(
        wanted: &'a Resources,
        whole: &'a Resources,
        before: &'a Resources,
        mode: CgroupMode,
    ) -> Self {
        Change {
            wanted,
            whole,
            before,
            unified: mode == CgroupMode::Unified,
        }
    }

    /// Refuses what could not be carried out, before anything is.
    ///
    /// # Errors
    /// [`ContainerError::Other`], [`ContainerError::Unsupported`].
    pub(crate) fn validate(&self) -> Result<()> {
        let wanted = self.wanted;
        if let Some(memory) = wanted.memory.value() {
            self.swap_of_version_2()?;
            if let (Some(limit), Some(swap)) = (number(&memory.limit), number(&memory.swap))
                && limit > 0
                && swap > 0
                && swap < limit
            {
                return other("memory+swap limit should be >= memory limit");
            }
        }
        if let Some(cpu) = wanted.cpu.value() {
            if let Some(&idle) = cpu.idle.value()
                && !(0..=1).contains(&idle)
            {
                return unsupported("/cpu/idle", format!("{idle} is neither 0 nor 1"));
            }
            let real_time = number(&cpu.realtime_runtime).is_some() || count(&cpu.realtime_period).is_some();
            if self.unified && real_time {
                return unsupported(
                    "/cpu",
                    "realtime CPU bandwidth is not in cgroup version 2. Remove realtimePeriod and realtimeRuntime"
                        .to_owned(),
                );
            }
            for (key, list) in [("cpus", &cpu.cpus), ("mems", &cpu.mems)] {
                if let Some(list) = text(list)
                    && members(list).is_none()
                {
                    return unsupported(
                        &format!("/cpu/{key}"),
                        format!("{list:?} is no list of numbers and ranges, such as 0-2,7"),
                    );
                }
            }
        }
        if let Some(weight) = weight(wanted)
            && !(10..=1000).contains(&weight)
        {
            return unsupported(
                "/blockIO/weight",
                format!("{weight} is out of range: a weight is from 10 to 1000"),
            );
        }
        for key in wanted.unified.value().into_iter().flatten().map(|(key, _)| key) {
            if !self.unified {
                return unsupported(
                    "/unified",
                    format!(
                        "{key:?}: unified resources are for cgroup version 2, and this host has version 1"
                    ),
                );
            }
            let is_plain = key
                .split_once('.')
                .is_some_and(|(controller, rest)| !controller.is_empty() && !rest.is_empty());
            if !is_plain || key.contains('/') || key.starts_with("cgroup.") {
                return unsupported("/unified", format!("{key:?} is no file of a controller"));
            }
        }
        Ok(())
    }

    /// Writes it.
    ///
    /// # Errors
    /// The first that fails.
    pub(crate) fn write(&self, files: &mut Files<'_>) -> Result<()> {
        if let Some(memory) = self.wanted.memory.value() {
            self.check_usage(memory, files)?;
            if self.unified {
                self.memory_of_version_2(memory, files)?;
            } else {
                memory_of_version_1(memory, files)?;
            }
        }
        if let Some(cpu) = self.wanted.cpu.value() {
            self.cpu(cpu, files)?;
        }
        if let Some(limit) = self.wanted.pids.value().and_then(|pids| number(&pids.limit)) {
            let value = if limit > 0 {
                limit.to_string()
            } else {
                "max".to_owned()
            };
            plain(files, "/pids/limit", &["pids.max"], value)?;
        }
        if let Some(block) = self.wanted.block_io.value() {
            self.block_io(block, files)?;
        }
        self.huge_pages(files)?;
        for (key, value) in self.wanted.unified.value().into_iter().flatten() {
            let pointer = format!("/unified/{}", key.replace('~', "~0").replace('/', "~1"));
            if key == "cpu.weight" && !self.takes_weight(files, &pointer)? {
                continue;
            }
            files.set(Write {
                pointer: &pointer,
                names: &[key.as_str()],
                value: value.clone(),
                // `100000` to `cpu.max`, `8:0 rbps=1` to `io.max`: what is shown has its own form.
                expect: Expect::Anything,
            })?;
        }
        Ok(())
    }

    /// What is idle has no weight: the kernel takes none, and systemd sees the two as one property. Who asks for a weight
    /// alone wants the idling to end; who asks for both gets the idling, and is told.
    fn takes_weight(&self, files: &mut Files<'_>, pointer: &str) -> Result<bool> {
        let idle = self.wanted.cpu.value().and_then(|cpu| cpu.idle.value());
        let unified = self
            .wanted
            .unified
            .value()
            .and_then(|unified| unified.get("cpu.idle"));
        if idle == Some(&1) || unified.is_some_and(|text| text.trim() == "1") {
            tracing::warn!(
                "unable to apply both cpu.weight and cpu.idle: what is idle has no weight, and is idle"
            );
            return Ok(false);
        }
        if files.read("cpu.idle")?.as_deref() == Some("1") {
            plain(files, pointer, &["cpu.idle"], "0".to_owned())?;
        }
        Ok(true)
    }

    /// `memory.checkBeforeUpdate`: a limit below what is used already is refused, rather than having processes killed.
    fn check_usage(&self, memory: &Memory, files: &Files<'_>) -> Result<()> {
        let asked = self
            .whole
            .memory
            .value()
            .is_some_and(|memory| memory.check_before_update.is_true());
        if !asked {
            return Ok(());
        }
        let use_of = |names: &[&str]| -> Result<Option<i64>> {
            for name in names {
                if let Some(text) = files.read(name)? {
                    return Ok(text.parse().ok());
                }
            }
            Ok(None)
        };
        let swapped = |usage: i64| -> Result<i64> {
            // Version 1 counts both in one.
            if let Some(both) = use_of(&["memory.memsw.usage_in_bytes"])? {
                return Ok(both);
            }
            let swap = use_of(&["memory.swap.current"])?;
            Ok(usage.saturating_add(swap.unwrap_or(0)))
        };
        let Some(usage) = use_of(&["memory.current", "memory.usage_in_bytes"])? else {
            return Ok(());
        };
        if let Some(limit) = number(&memory.swap).filter(|limit| *limit > 0) {
            let both = swapped(usage)?;
            if both > limit {
                return other(format!("rejecting memory+swap limit {limit} < usage {both}"));
            }
        }
        match number(&memory.limit) {
            Some(limit) if limit > 0 && usage > limit => {
                other(format!("rejecting memory limit {limit} < usage {usage}"))
            }
            _ => Ok(()),
        }
    }

    /// Version 2 limits swap by itself; the spec's number has memory in it. `None` if it stays.
    fn swap_of_version_2(&self) -> Result<Option<i64>> {
        let asked = self.wanted.memory.value();
        let whole = self.whole.memory.value();
        let (Some(swap), true) = (
            whole.and_then(|memory| number(&memory.swap)),
            self.unified
                && asked
                    .is_some_and(|memory| number(&memory.swap).is_some() || number(&memory.limit).is_some()),
        ) else {
            return Ok(None);
        };
        if swap < 0 {
            return Ok(Some(-1));
        }
        match whole.and_then(|memory| number(&memory.limit)) {
            Some(limit) if limit > swap => other("memory+swap limit should be >= memory limit"),
            Some(limit) if limit > 0 => Ok(Some(swap - limit)),
            _ => other("unable to set swap limit without memory limit"),
        }
    }

    fn memory_of_version_2(&self, memory: &Memory, files: &mut Files<'_>) -> Result<()> {
        let value = |size: i64| {
            if size < 0 {
                "max".to_owned()
            } else {
                size.to_string()
            }
        };
        if let Some(swap) = self.swap_of_version_2()? {
            // A kernel without swap accounting limits none, and has none to give.
            if swap > 0 || files.find("memory.swap.max").is_some() {
                size(files, "/memory/swap", "memory.swap.max", swap, value(swap))?;
            }
        }
        if let Some(limit) = number(&memory.limit) {
            size(files, "/memory/limit", "memory.max", limit, value(limit))?;
        }
        if let Some(low) = number(&memory.reservation) {
            size(files, "/memory/reservation", "memory.low", low, value(low))?;
        }
        Ok(())
    }

    fn cpu(&self, cpu: &Cpu, files: &mut Files<'_>) -> Result<()> {
        if let Some(shares) = count(&cpu.shares) {
            if self.unified {
                if self.takes_weight(files, "/cpu/shares")? {
                    plain(
                        files,
                        "/cpu/shares",
                        &["cpu.weight"],
                        weight_of(shares).to_string(),
                    )?;
                }
            } else {
                files.set(Write {
                    pointer: "/cpu/shares",
                    names: &["cpu.shares"],
                    value: shares.to_string(),
                    expect: Expect::Shares(shares),
                })?;
            }
        }
        if let Some(idle) = cpu.idle.value() {
            plain(files, "/cpu/idle", &["cpu.idle"], idle.to_string())?;
        }
        self.bandwidth(cpu, files)?;
        real_time(cpu, files)?;
        for (pointer, file, list) in [
            ("/cpu/cpus", "cpuset.cpus", &cpu.cpus),
            ("/cpu/mems", "cpuset.mems", &cpu.mems),
        ] {
            if let Some(list) = text(list) {
                files.set(Write {
                    pointer,
                    names: &[file],
                    value: list.to_owned(),
                    expect: Expect::Set(list.to_owned()),
                })?;
            }
        }
        Ok(())
    }

    /// Quota, period and burst. The kernel compares each with the others and with the cgroups around: what it does not
    /// take first, it takes after the other.
    fn bandwidth(&self, cpu: &Cpu, files: &mut Files<'_>) -> Result<()> {
        let (quota, period) = (number(&cpu.quota), count(&cpu.period));
        let burst_file: &[&str] = if self.unified {
            &["cpu.max.burst"]
        } else {
            &["cpu.cfs_burst_us"]
        };
        let burst = |files: &mut Files<'_>| match cpu.burst.value() {
            Some(burst) => plain(files, "/cpu/burst", burst_file, burst.to_string()),
            None => Ok(()),
        };
        let burst_later = match burst(files) {
            Ok(()) => false,
            Err(error) if answered(&error, Errno::EINVAL) && quota.is_some() => true,
            Err(error) => return Err(error),
        };
        if self.unified {
            if quota.is_some() || period.is_some() {
                let now = files.read("cpu.max")?.unwrap_or_default();
                let mut words = now.split_whitespace();
                let (quota_now, period_now) =
                    (words.next().unwrap_or("max"), words.next().unwrap_or("100000"));
                // The file may have it rounded up, and would once more.
                let given = self.whole.cpu.value().and_then(|cpu| number(&cpu.quota));
                let is_granted = |quota: &i64| {
                    let before = format!("{quota} {period_now}");
                    systemd::granted(&before).is_some_and(|granted| granted == now)
                };
                let quota = quota.or(given.filter(is_granted)).map_or_else(
                    || quota_now.to_owned(),
                    |quota| {
                        if quota > 0 {
                            quota.to_string()
                        } else {
                            "max".to_owned()
                        }
                    },
                );
                let period = period.map_or_else(|| period_now.to_owned(), |period| period.to_string());
                let pointer = if cpu.quota.is_missing() {
                    "/cpu/period"
                } else {
                    "/cpu/quota"
                };
                let value = format!("{quota} {period}");
                files.set(Write {
                    pointer,
                    names: &["cpu.max"],
                    expect: Expect::Quota(value.clone()),
                    value,
                })?;
            }
        } else {
            let set_period = |files: &mut Files<'_>| match period {
                Some(period) => plain(files, "/cpu/period", &["cpu.cfs_period_us"], period.to_string()),
                None => Ok(()),
            };
            let period_later = match set_period(files) {
                Ok(()) => false,
                Err(error) if answered(&error, Errno::EINVAL) && quota.is_some() => true,
                Err(error) => return Err(error),
            };
            if let Some(quota) = quota {
                plain(
                    files,
                    "/cpu/quota",
                    &["cpu.cfs_quota_us"],
                    quota.max(-1).to_string(),
                )?;
            }
            if period_later {
                set_period(files)?;
            }
        }
        if burst_later { burst(files) } else { Ok(()) }
    }

    fn block_io(&self, block: &BlockIo, files: &mut Files<'_>) -> Result<()> {
        if let Some(weight) = weight(self.wanted) {
            if !self.unified {
                plain(
                    files,
                    "/blockIO/weight",
                    &["blkio.bfq.weight", "blkio.weight"],
                    weight.to_string(),
                )?;
            } else if files.find("io.bfq.weight").is_some() {
                default_weight(files, "io.bfq.weight", u64::from(weight))?;
            } else {
                // 10 to 1000 becomes 1 to 10000.
                default_weight(files, "io.weight", 1 + (u64::from(weight) - 10) * 9999 / 990)?;
            }
        }
        let before = self.before.block_io.value();
        for (key, file, word, list) in throttles(block) {
            let known = before.map_or(&[][..], |before| {
                throttles(before)
                    .into_iter()
                    .find(|(known, ..)| *known == key)
                    .map_or(&[][..], |(.., list)| list)
            });
            for (index, throttle) in list.iter().enumerate() {
                // Engines send the whole list with every update.
                if !known.contains(throttle) {
                    self.throttle(files, &format!("/blockIO/{key}/{index}"), file, word, throttle)?;
                }
            }
        }
        Ok(())
    }

    fn throttle(
        &self,
        files: &mut Files<'_>,
        pointer: &str,
        file: &str,
        word: &str,
        throttle: &Throttle,
    ) -> Result<()> {
        let device = format!("{}:{}", throttle.major, throttle.minor);
        let name = if self.unified { "io.max" } else { file };
        let now = files.read(name)?.unwrap_or_default();
        let line = now
            .lines()
            .find_map(|line| line.split_once(' ').filter(|(known, _)| *known == device))
            .map(|(_, rest)| rest);
        let (value, undo) = if self.unified {
            let rate = if throttle.rate == 0 {
                "max".to_owned()
            } else {
                throttle.rate.to_string()
            };
            let before = line
                .into_iter()
                .flat_map(str::split_whitespace)
                .find(|entry| entry.split('=').next() == Some(word))
                .map_or_else(|| format!("{word}=max"), str::to_owned);
            (format!("{device} {word}={rate}"), format!("{device} {before}"))
        } else {
            (
                format!("{device} {}", throttle.rate),
                format!("{device} {}", line.unwrap_or("0")),
            )
        };
        // Without a limit, the device has no line.
        let expect = if throttle.rate == 0 {
            Expect::Anything
        } else {
            Expect::Line(value.clone())
        };
        files.set_line(
            Write {
                pointer,
                names: &[name],
                value,
                expect,
            },
            undo,
        )
    }

    fn huge_pages(&self, files: &mut Files<'_>) -> Result<()> {
        let before = self.before.hugepage_limits.items();
        for (index, entry) in self.wanted.hugepage_limits.items().iter().enumerate() {
            // Kubernetes sends a limit for every size with every update, whether there is such a controller or not.
            if before.contains(entry) {
                continue;
            }
            let HugepageLimit { page_size, limit } = entry;
            let pointer = format!("/hugepageLimits/{index}");
            if !page_size.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return unsupported(
                    &pointer,
                    format!("{page_size:?} is no size of pages, such as 2MB"),
                );
            }
            let name = if self.unified {
                format!("hugetlb.{page_size}.max")
            } else {
                format!("hugetlb.{page_size}.limit_in_bytes")
            };
            files.set(Write {
                pointer: &pointer,
                names: &[&name],
                value: limit.to_string(),
                expect: Expect::Anything,
            })?;
        }
        Ok(())
    }
}

/// Memory, and memory with swap, of which the second may at no time be lower than the first.
fn memory_of_version_1(memory: &Memory, files: &mut Files<'_>) -> Result<()> {
    const BOTH: &str = "memory.memsw.limit_in_bytes";
    let limit = number(&memory.limit);
    // Without swap accounting there is nothing to be lifted.
    let swap = number(&memory.swap).filter(|swap| *swap > 0 || files.find(BOTH).is_some());
    let now = files.read(BOTH)?.and_then(|text| text.parse::<i64>().ok());
    let rises = swap.is_some_and(|swap| swap < 0 || now.is_some_and(|now| swap > now));
    let set_swap = |files: &mut Files<'_>| match swap {
        Some(swap) => size(files, "/memory/swap", BOTH, swap, swap.max(-1).to_string()),
        None => Ok(()),
    };
    if rises {
        set_swap(files)?;
    }
    if let Some(limit) = limit {
        let written = size(
            files,
            "/memory/limit",
            "memory.limit_in_bytes",
            limit,
            limit.max(-1).to_string(),
        );
        if let Err(error) = written {
            if !answered(&error, Errno::EBUSY) {
                return Err(error);
            }
            let show = |name: &str| {
                files
                    .read(name)
                    .ok()
                    .flatten()
                    .unwrap_or_else(|| "unknown".to_owned())
            };
            return other(format!(
                "unable to set memory limit to {limit} (current usage: {}, peak usage: {})",
                show("memory.usage_in_bytes"),
                show("memory.max_usage_in_bytes")
            ));
        }
    }
    if !rises {
        set_swap(files)?;
    }
    if let Some(soft) = number(&memory.reservation) {
        size(
            files,
            "/memory/reservation",
            "memory.soft_limit_in_bytes",
            soft,
            soft.max(-1).to_string(),
        )?;
    }
    Ok(())
}

/// Real-time bandwidth, of version 1 alone. Runtime may not be above the period at any time.
fn real_time(cpu: &Cpu, files: &mut Files<'_>) -> Result<()> {
    let runtime = number(&cpu.realtime_runtime);
    let period = |files: &mut Files<'_>| match count(&cpu.realtime_period) {
        Some(period) => plain(
            files,
            "/cpu/realtimePeriod",
            &["cpu.rt_period_us"],
            period.to_string(),
        ),
        None => Ok(()),
    };
    let later = match period(files) {
        Ok(()) => false,
        Err(error) if answered(&error, Errno::EINVAL) && runtime.is_some() => true,
        Err(error) => return Err(error),
    };
    if let Some(runtime) = runtime {
        plain(
            files,
            "/cpu/realtimeRuntime",
            &["cpu.rt_runtime_us"],
            runtime.to_string(),
        )?;
    }
    if later { period(files) } else { Ok(()) }
}

/// The weight of version 2 for shares of version 1: the curve on which 2, 1024 and 262144 shares become 1, 100 and
/// 10000, as for new containers.
fn weight_of(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    #[allow(clippy::cast_precision_loss)] // 18 bits
    let logarithm = (shares as f64).log2();
    let exponent = (logarithm * logarithm + 125.0 * logarithm) / 612.0 - 7.0 / 34.0;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // from 1 to 10000
    let weight = 10f64.powf(exponent).ceil() as u64;
    weight.clamp(1, 10_000)
}

type List<'a> = (&'static str, &'static str, &'static str, &'a [Throttle]);

/// The lists of rates: their names in the spec, their files in version 1, their words in `io.max`.
fn throttles(block: &BlockIo) -> [List<'_>; 4] {
    [
        (
            "throttleReadBpsDevice",
            "blkio.throttle.read_bps_device",
            "rbps",
            block.throttle_read_bps_device.items(),
        ),
        (
            "throttleWriteBpsDevice",
            "blkio.throttle.write_bps_device",
            "wbps",
            block.throttle_write_bps_device.items(),
        ),
        (
            "throttleReadIOPSDevice",
            "blkio.throttle.read_iops_device",
            "riops",
            block.throttle_read_iops_device.items(),
        ),
        (
            "throttleWriteIOPSDevice",
            "blkio.throttle.write_iops_device",
            "wiops",
            block.throttle_write_iops_device.items(),
        ),
    ]
}

fn plain(files: &mut Files<'_>, pointer: &str, names: &[&str], value: String) -> Result<()> {
    files.set(Write {
        pointer,
        names,
        expect: Expect::Text(value.clone()),
        value,
    })
}

fn size(files: &mut Files<'_>, pointer: &str, name: &str, size: i64, value: String) -> Result<()> {
    files.set(Write {
        pointer,
        names: &[name],
        value,
        expect: Expect::Size(size),
    })
}

/// A file of weights has a first line `default N`, and takes it back in this form.
fn default_weight(files: &mut Files<'_>, name: &str, weight: u64) -> Result<()> {
    let now = files.read(name)?.unwrap_or_default();
    let undo = now.lines().next().unwrap_or("default 100").to_owned();
    let value = format!("default {weight}");
    files.set_line(
        Write {
            pointer: "/blockIO/weight",
            names: &[name],
            expect: Expect::Line(value.clone()),
            value,
        },
        undo,
    )
}

fn number(value: &Given<i64>) -> Option<i64> {
    value.value().copied().filter(|number| *number != 0)
}

fn count(value: &Given<u64>) -> Option<u64> {
    value.value().copied().filter(|number| *number != 0)
}

fn text(value: &Given<String>) -> Option<&str> {
    value.value().map(String::as_str).filter(|text| !text.is_empty())
}

fn weight(resources: &Resources) -> Option<u16> {
    let block = resources.block_io.value()?;
    block.weight.value().copied().filter(|weight| *weight != 0)
}

fn other<T>(text: impl Into<String>) -> Result<T> {
    Err(ContainerError::Other(text.into()))
}

fn unsupported<T>(pointer: &str, text: String) -> Result<T> {
    Err(ContainerError::Unsupported {
        pointer: format!("/linux/resources{pointer}"),
        text,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const VERSION_1: &[(&str, &str)] = &[
        ("memory.limit_in_bytes", "33554432"),
        ("memory.memsw.limit_in_bytes", "67108864"),
        ("memory.soft_limit_in_bytes", "9223372036854771712"),
        ("memory.usage_in_bytes", "20000000"),
        ("cpu.shares", "1024"),
        ("cpu.cfs_quota_us", "-1"),
        ("cpu.cfs_period_us", "100000"),
        ("cpu.cfs_burst_us", "0"),
        ("cpu.idle", "0"),
        ("cpu.rt_period_us", "1000000"),
        ("cpu.rt_runtime_us", "0"),
        ("cpuset.cpus", "0-1"),
        ("cpuset.mems", "0"),
        ("pids.max", "max"),
        ("blkio.bfq.weight", "100"),
        ("blkio.throttle.read_bps_device", ""),
        ("hugetlb.2MB.limit_in_bytes", "9223372036854771712"),
    ];

    const VERSION_2: &[(&str, &str)] = &[
        ("memory.max", "max"),
        ("memory.swap.max", "max"),
        ("memory.low", "0"),
        ("memory.current", "20000000"),
        ("cpu.weight", "100"),
        ("cpu.max", "max 100000"),
        ("cpu.max.burst", "0"),
        ("cpu.idle", "0"),
        ("cpuset.cpus", ""),
        ("cpuset.mems", ""),
        ("pids.max", "max"),
        ("io.weight", "default 100"),
        ("io.max", "8:0 rbps=5 wbps=max riops=max wiops=max"),
        ("hugetlb.2MB.max", "max"),
        ("memory.high", "max"),
    ];

    fn resources(text: &str) -> Resources {
        serde_json::from_str(text).unwrap()
    }

    /// What is written to which file, or why not.
    fn changed(mode: CgroupMode, wanted: &str, whole: &str) -> std::result::Result<Vec<String>, String> {
        let files = match mode {
            CgroupMode::Unified => VERSION_2,
            _ => VERSION_1,
        };
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let (wanted, whole, before) = (resources(wanted), resources(whole), Resources::default());
        let change = Change::new(&wanted, &whole, &before, mode);
        let cgroups = [directory.path().to_owned()];
        let mut writer = Files::new(&cgroups);
        change
            .validate()
            .and_then(|()| change.write(&mut writer))
            .map_err(|error| error.to_string())?;
        Ok(files
            .iter()
            .filter_map(|(name, text)| {
                let now = fs::read_to_string(directory.path().join(name)).unwrap();
                (now != *text).then(|| format!("{name}={now}"))
            })
            .collect())
    }

    fn both(wanted: &str) -> [Vec<String>; 2] {
        [CgroupMode::Legacy, CgroupMode::Unified].map(|mode| changed(mode, wanted, wanted).unwrap())
    }

    #[test]
    fn every_resource_has_its_file_in_either_version() {
        let cases: [(&str, &[&str], &[&str]); 11] = [
            (
                r#"{"memory":{"limit":31457280,"swap":52428800,"reservation":8388608}}"#,
                &[
                    "memory.limit_in_bytes=31457280",
                    "memory.memsw.limit_in_bytes=52428800",
                    "memory.soft_limit_in_bytes=8388608",
                ],
                &[
                    "memory.max=31457280",
                    "memory.swap.max=20971520",
                    "memory.low=8388608",
                ],
            ),
            (
                r#"{"memory":{"limit":-1,"swap":-1}}"#,
                &["memory.limit_in_bytes=-1", "memory.memsw.limit_in_bytes=-1"],
                &[],
            ),
            (
                r#"{"cpu":{"quota":50000,"period":200000}}"#,
                &["cpu.cfs_quota_us=50000", "cpu.cfs_period_us=200000"],
                &["cpu.max=50000 200000"],
            ),
            (
                r#"{"cpu":{"quota":50000}}"#,
                &["cpu.cfs_quota_us=50000"],
                &["cpu.max=50000 100000"],
            ),
            (
                r#"{"cpu":{"period":50000}}"#,
                &["cpu.cfs_period_us=50000"],
                &["cpu.max=max 50000"],
            ),
            (
                r#"{"cpu":{"shares":512,"idle":1,"burst":500}}"#,
                &["cpu.shares=512", "cpu.cfs_burst_us=500", "cpu.idle=1"],
                &["cpu.max.burst=500", "cpu.idle=1"],
            ),
            (
                r#"{"cpu":{"cpus":"1","mems":"0"}}"#,
                &["cpuset.cpus=1"],
                &["cpuset.cpus=1", "cpuset.mems=0"],
            ),
            (r#"{"pids":{"limit":7}}"#, &["pids.max=7"], &["pids.max=7"]),
            (
                r#"{"blockIO":{"weight":1000}}"#,
                &["blkio.bfq.weight=1000"],
                &["io.weight=default 10000"],
            ),
            (
                r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":9}]}}"#,
                &["blkio.throttle.read_bps_device=8:0 9"],
                &["io.max=8:0 rbps=9"],
            ),
            (
                r#"{"hugepageLimits":[{"pageSize":"2MB","limit":2097152}]}"#,
                &["hugetlb.2MB.limit_in_bytes=2097152"],
                &["hugetlb.2MB.max=2097152"],
            ),
        ];
        for (wanted, first, second) in cases {
            assert_eq!(both(wanted), [first, second], "{wanted}");
        }
        assert_eq!(
            changed(
                CgroupMode::Legacy,
                r#"{"cpu":{"realtimePeriod":500000,"realtimeRuntime":7}}"#,
                "{}"
            )
            .unwrap(),
            ["cpu.rt_period_us=500000", "cpu.rt_runtime_us=7"]
        );
        let unified = r#"{"unified":{"memory.high":"5","cpu.max":"9 100000"}}"#;
        assert_eq!(
            changed(CgroupMode::Unified, unified, unified).unwrap(),
            ["cpu.max=9 100000", "memory.high=5"]
        );
    }

    #[test]
    fn zero_and_the_empty_string_change_nothing() {
        let nothing = r#"{"memory":{"limit":0,"swap":0,"reservation":0},"pids":{"limit":0},"blockIO":{"weight":0},
            "cpu":{"shares":0,"quota":0,"period":0,"realtimePeriod":0,"realtimeRuntime":0,"cpus":"","mems":""}}"#;
        assert_eq!(both(nothing), [[""; 0], [""; 0]]);
        assert_eq!(both("{}"), [[""; 0], [""; 0]]);
    }

    #[test]
    fn swap_of_version_2_counts_without_memory_that_was_set_before() {
        let found = changed(
            CgroupMode::Unified,
            r#"{"memory":{"swap":50}}"#,
            r#"{"memory":{"swap":50,"limit":30}}"#,
        );
        assert_eq!(found.unwrap(), ["memory.swap.max=20"]);
        let found = changed(
            CgroupMode::Unified,
            r#"{"memory":{"limit":40}}"#,
            r#"{"memory":{"swap":50,"limit":40}}"#,
        );
        assert_eq!(found.unwrap(), ["memory.max=40", "memory.swap.max=10"]);
        let found = changed(
            CgroupMode::Unified,
            r#"{"memory":{"swap":50}}"#,
            r#"{"memory":{"swap":50}}"#,
        );
        assert_eq!(
            found.unwrap_err(),
            "unable to set swap limit without memory limit"
        );
    }

    #[test]
    fn what_cannot_be_is_refused_before_anything_is_written() {
        use CgroupMode::{Legacy, Unified};
        for (mode, wanted, words) in [
            (
                Legacy,
                r#"{"memory":{"limit":50,"swap":40}}"#,
                "memory+swap limit should be >= memory limit",
            ),
            (
                Legacy,
                r#"{"memory":{"limit":4096,"checkBeforeUpdate":true}}"#,
                "rejecting memory limit 4096 < usage 20000000",
            ),
            (
                Unified,
                r#"{"memory":{"limit":4096,"swap":8192,"checkBeforeUpdate":true}}"#,
                "rejecting memory+swap limit 8192 < usage 20000000",
            ),
            (
                Unified,
                r#"{"cpu":{"realtimeRuntime":5}}"#,
                "config.json#/linux/resources/cpu: realtime CPU bandwidth is not in cgroup version 2",
            ),
            (
                Legacy,
                r#"{"unified":{"pids.max":"5"}}"#,
                "config.json#/linux/resources/unified: \"pids.max\": unified resources are for cgroup version 2",
            ),
            (
                Unified,
                r#"{"unified":{"../pids.max":"5"}}"#,
                "is no file of a controller",
            ),
            (
                Unified,
                r#"{"unified":{"cgroup.procs":"5"}}"#,
                "is no file of a controller",
            ),
            (
                Legacy,
                r#"{"blockIO":{"weight":7}}"#,
                "a weight is from 10 to 1000",
            ),
            (Legacy, r#"{"cpu":{"idle":2}}"#, "2 is neither 0 nor 1"),
            (
                Legacy,
                r#"{"cpu":{"cpus":"zero"}}"#,
                "\"zero\" is no list of numbers and ranges",
            ),
            (
                Unified,
                r#"{"hugepageLimits":[{"pageSize":"../x","limit":1}]}"#,
                "is no size of pages",
            ),
            (
                Unified,
                r#"{"hugepageLimits":[{"pageSize":"1GB","limit":1}]}"#,
                "config.json#/linux/resources/hugepageLimits/0: 1 cannot be set",
            ),
        ] {
            let error = changed(mode, wanted, wanted).unwrap_err();
            assert!(error.contains(words), "{wanted}: {error}");
        }
    }

    #[test]
    fn a_weight_ends_idling_unless_both_are_asked_for() {
        let changed = |wanted: &str, idle: &str| {
            let cgroup = tempfile::tempdir().unwrap();
            let path = |name: &str| cgroup.path().join(name);
            fs::write(path("cpu.idle"), idle).unwrap();
            fs::write(path("cpu.weight"), "100").unwrap();
            let (wanted, before) = (resources(wanted), Resources::default());
            let cgroups = [cgroup.path().to_owned()];
            let mut files = Files::new(&cgroups);
            let change = Change::new(&wanted, &wanted, &before, CgroupMode::Unified);
            change.write(&mut files).unwrap();
            files.verify().unwrap();
            ["cpu.idle", "cpu.weight"].map(|name| fs::read_to_string(path(name)).unwrap())
        };
        for (wanted, weight) in [
            (r#"{"cpu":{"shares":512}}"#, "59"),
            (r#"{"unified":{"cpu.weight":"8"}}"#, "8"),
        ] {
            for idle in ["0", "1"] {
                assert_eq!(changed(wanted, idle), ["0", weight], "{wanted}");
            }
        }
        for wanted in [
            r#"{"cpu":{"shares":512,"idle":1}}"#,
            r#"{"unified":{"cpu.idle":"1","cpu.weight":"8"}}"#,
            r#"{"cpu":{"idle":1},"unified":{"cpu.weight":"8"}}"#,
        ] {
            assert_eq!(changed(wanted, "0"), ["1", "100"], "{wanted}");
        }
    }

    #[test]
    fn shares_become_weights_on_the_same_curve_as_for_new_containers() {
        for (shares, weight) in [
            (1, 1),
            (2, 1),
            (1024, 100),
            (262_144, 10_000),
            (1 << 40, 10_000),
            (22_000, 1204),
        ] {
            assert_eq!(weight_of(shares), weight, "{shares}");
        }
    }
}
