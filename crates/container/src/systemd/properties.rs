//! What a cgroup's files say, in the words that systemd has for it (org.freedesktop.systemd1(5), systemd.resource-control(5)).

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::message::{Property, Value};
use crate::error::{ContainerError, Result};
use crate::update::members;

/// No limit.
const INFINITY: u64 = u64::MAX;

/// Files with one number, what they say of their own accord, and the property.
const NUMBERS: [(&str, &str, &str); 9] = [
    ("memory.max", "max", "MemoryMax"),
    ("memory.high", "max", "MemoryHigh"),
    ("memory.low", "0", "MemoryLow"),
    ("memory.min", "0", "MemoryMin"),
    ("memory.swap.max", "max", "MemorySwapMax"),
    ("memory.zswap.max", "max", "MemoryZSwapMax"),
    ("pids.max", "max", "TasksMax"),
    // 0 is for what nobody else wants.
    ("cpu.weight", "100", "CPUWeight"),
    ("io.weight", "default 100", "IOWeight"),
];

/// Files with a list of numbers.
const SETS: [(&str, &str); 2] = [
    ("cpuset.cpus", "AllowedCPUs"),
    ("cpuset.mems", "AllowedMemoryNodes"),
];

const QUOTA: &str = "cpu.max";
const UNLIMITED: &str = "max 100000";

/// No property: see [`Told::write_again`].
const TOGETHER: &str = "memory.oom.group";

/// The kernel shows some weight for a cgroup that only gets what nobody else wants; systemd has a weight for it.
const IDLE: &str = "cpu.idle";

/// systemd remembers hundredths of a CPU: so many microseconds of each second.
const HUNDREDTH: u64 = 10_000;

/// What the files of a cgroup say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told(BTreeMap<&'static str, String>);

impl Told {
    /// What a cgroup says that nobody has set a limit for.
    pub(crate) fn nothing() -> Self {
        let numbers = NUMBERS.map(|(file, default, _)| (file, default.to_owned()));
        let sets = SETS.map(|(file, _)| (file, String::new()));
        let others = [(QUOTA, UNLIMITED), (TOGETHER, "0"), (IDLE, "0")];
        let others = others.map(|(file, default)| (file, default.to_owned()));
        Told(numbers.into_iter().chain(sets).chain(others).collect())
    }

    /// What this one says; nothing of a controller that it does not have.
    pub(crate) fn read(cgroups: &[PathBuf]) -> Result<Self> {
        let mut told = Self::nothing();
        for (file, text) in &mut told.0 {
            let Some(path) = cgroups.first().map(|cgroup| cgroup.join(file)) else {
                continue;
            };
            match fs::read_to_string(&path) {
                // Lines for single devices follow; they are the kernel's alone.
                Ok(found) => found.lines().next().unwrap_or_default().trim().clone_into(text),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(ContainerError::file("cannot read", path)(error)),
            }
        }
        if told.0.get(IDLE).is_some_and(|idle| idle == "1") {
            told.0.insert("cpu.weight", "0".to_owned());
        }
        Ok(told)
    }

    /// The properties in which this differs from what is known.
    pub(crate) fn beyond(&self, known: &Told) -> Vec<Property> {
        let news = |file: &str| {
            let text = self.0.get(file)?;
            (known.0.get(file) != Some(text)).then_some(text.as_str())
        };
        let mut properties = Vec::new();
        for (file, _, property) in NUMBERS {
            if let Some(text) = news(file) {
                properties.push((property, Value::Number(number(text))));
            }
        }
        for (file, property) in SETS {
            if let Some(text) = news(file) {
                properties.push((property, Value::Bytes(bits(text))));
            }
        }
        if let Some((quota, period)) = news(QUOTA).and_then(quota) {
            properties.push(("CPUQuotaPeriodUSec", Value::Number(period)));
            properties.push(("CPUQuotaPerSecUSec", Value::Number(per_second(quota, period))));
        }
        properties
    }

    /// Writes again what systemd has written otherwise just now: whether all end together, which it can be told with the
    /// unit's beginning alone, and the period that no quota is for. A quota is from now on what systemd makes of it: it
    /// would write that at any other time, and a limit that changes with somebody's `daemon-reload` is no promise.
    pub(crate) fn write_again(&self, cgroups: &[PathBuf]) -> Result<()> {
        let after = Told::read(cgroups)?;
        for file in [QUOTA, TOGETHER] {
            let (Some(text), Some(cgroup)) = (self.0.get(file), cgroups.first()) else {
                continue;
            };
            let text = match granted(text) {
                Some(granted) if file == QUOTA => granted,
                _ => text.clone(),
            };
            if after.0.get(file) != Some(&text) {
                let path = cgroup.join(file);
                fs::write(&path, text).map_err(ContainerError::file("cannot write", path))?;
            }
        }
        Ok(())
    }
}

/// The quota that systemd makes of one when it writes it: up to the next hundredth of a CPU.
pub(crate) fn granted_quota(quota: u64, period: u64) -> u64 {
    per_second(Some(quota), period).saturating_mul(period) / 1_000_000
}

/// The same of a file's text; `None` for one without a quota.
pub(crate) fn granted(text: &str) -> Option<String> {
    let (wanted, period) = quota(text)?;
    Some(format!("{} {period}", granted_quota(wanted?, period)))
}

/// `quota period`; no quota is `max`.
fn quota(text: &str) -> Option<(Option<u64>, u64)> {
    let (quota, period) = text.split_once(' ')?;
    let quota = match quota {
        "max" => None,
        number => Some(number.parse().ok()?),
    };
    Some((quota, period.parse().ok().filter(|&period| period > 0)?))
}

fn per_second(quota: Option<u64>, period: u64) -> u64 {
    quota.map_or(INFINITY, |quota| {
        let exact = (u128::from(quota) * 1_000_000).div_ceil(u128::from(period.max(1)));
        let highest = INFINITY / HUNDREDTH * HUNDREDTH;
        u64::try_from(exact).map_or(highest, |exact| exact.min(highest).next_multiple_of(HUNDREDTH))
    })
}

/// `max`, a number, or `default` and a number.
fn number(text: &str) -> u64 {
    let digits = text.strip_prefix("default ").unwrap_or(text);
    digits.parse().unwrap_or(INFINITY)
}

/// A set of numbers as bits, the lowest first.
fn bits(list: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for member in members(list).unwrap_or_default() {
        let at = member as usize / 8;
        if bytes.len() <= at {
            bytes.resize(at + 1, 0);
        }
        bytes[at] |= 1 << (member % 8);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(files: &[(&str, &str)]) -> Told {
        let cgroup = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(cgroup.path().join(name), text).unwrap();
        }
        Told::read(&[cgroup.path().to_owned()]).unwrap()
    }

    #[test]
    fn what_the_kernel_says_is_what_systemd_is_told() {
        let now = told(&[
            ("memory.max", "33554432\n"),
            ("memory.swap.max", "0\n"),
            ("pids.max", "7\n"),
            ("cpu.weight", "1\n"),
            ("cpu.idle", "1\n"),
            ("memory.oom.group", "1\n"),
            ("cpu.max", "50000 100000\n"),
            ("io.weight", "default 66\n8:0 200\n"),
            ("cpuset.cpus", "0,9-10\n"),
            ("cpuset.mems", "\n"),
            ("memory.high", "max\n"),
        ]);
        assert_eq!(
            now.beyond(&Told::nothing()),
            [
                ("MemoryMax", Value::Number(33_554_432)),
                ("MemorySwapMax", Value::Number(0)),
                ("TasksMax", Value::Number(7)),
                ("CPUWeight", Value::Number(0)),
                ("IOWeight", Value::Number(66)),
                ("AllowedCPUs", Value::Bytes(vec![1, 6])),
                ("CPUQuotaPeriodUSec", Value::Number(100_000)),
                ("CPUQuotaPerSecUSec", Value::Number(500_000)),
            ]
        );
        assert_eq!(told(&[]).beyond(&Told::nothing()), []);
    }

    #[test]
    fn a_limit_that_is_lifted_is_told_too() {
        let before = told(&[
            ("memory.max", "4096"),
            ("cpu.max", "1000 10000"),
            ("cpuset.cpus", "1"),
        ]);
        let now = told(&[
            ("memory.max", "max"),
            ("cpu.max", "max 10000"),
            ("cpuset.cpus", ""),
        ]);
        assert_eq!(
            now.beyond(&before),
            [
                ("MemoryMax", Value::Number(u64::MAX)),
                ("AllowedCPUs", Value::Bytes(Vec::new())),
                ("CPUQuotaPeriodUSec", Value::Number(10_000)),
                ("CPUQuotaPerSecUSec", Value::Number(u64::MAX)),
            ]
        );
    }

    #[test]
    fn a_quota_is_rounded_up_to_what_systemd_counts() {
        assert_eq!(per_second(Some(12_345), 100_000), 130_000);
        assert_eq!(per_second(Some(1_000), 1_000_000), 10_000);
        assert_eq!(per_second(Some(250_000), 100_000), 2_500_000);
        assert_eq!(granted_quota(12_345, 100_000), 13_000);
        assert_eq!(granted_quota(25_000, 100_000), 25_000);
        assert_eq!(per_second(Some(u64::MAX), 1), INFINITY / HUNDREDTH * HUNDREDTH);
    }
}
