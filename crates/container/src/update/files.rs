//! Values written to a container's cgroups, such that they can be taken back.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use gabion_descent::Failure;
pub(crate) use gabion_descent::status::members;
use nix::errno::Errno;

use crate::error::{ContainerError, Result};
use crate::systemd;

/// The kernel counts memory in pages of this size, and shows multiples of it.
const PAGE: i64 = 4096;

/// What a file has to say after a value was written to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expect {
    /// This text; several words are compared word by word.
    Text(String),
    /// This quota and its period, or the quota that systemd makes of it.
    Quota(String),
    /// This many bytes, in whole pages; -1 for no limit.
    Size(i64),
    /// This number of shares, which the kernel bends into a range of its own without an error.
    Shares(u64),
    /// These CPUs or memory nodes: a list of numbers and ranges (cpuset(7), "Formats").
    Set(String),
    /// A line with these words, among others.
    Line(String),
    /// The file shows something else than what is written to it.
    Anything,
}

/// A value for a file.
pub(crate) struct Write<'a> {
    /// Where it was asked for, below `/linux/resources`.
    pub(crate) pointer: &'a str,
    /// The file's names; the first that is there counts.
    pub(crate) names: &'a [&'a str],
    pub(crate) value: String,
    pub(crate) expect: Expect,
}

/// The files of one container's cgroups, and what was written to them so far.
pub(crate) struct Files<'a> {
    cgroups: &'a [PathBuf],
    written: Vec<Written>,
}

struct Written {
    pointer: String,
    path: PathBuf,
    /// What brings back what was there before.
    undo: String,
    value: String,
    expect: Expect,
}

impl<'a> Files<'a> {
    pub(crate) fn new(cgroups: &'a [PathBuf]) -> Self {
        Files {
            cgroups,
            written: Vec::new(),
        }
    }

    /// Where a file is: in the one cgroup of version 2, or in that of its controller.
    pub(crate) fn find(&self, name: &str) -> Option<PathBuf> {
        self.cgroups
            .iter()
            .map(|cgroup| cgroup.join(name))
            .find(|path| path.exists())
    }

    /// What a file says; `None` if it is not there.
    pub(crate) fn read(&self, name: &str) -> Result<Option<String>> {
        self.find(name)
            .map(|path| {
                let text = fs::read_to_string(&path).map_err(ContainerError::file("cannot read", path))?;
                Ok(text.trim().to_owned())
            })
            .transpose()
    }

    /// Writes a value to a file of one value.
    ///
    /// # Errors
    /// [`ContainerError::Unsupported`] if there is no such file; [`ContainerError::File`] with what the kernel answers.
    pub(crate) fn set(&mut self, write: Write<'_>) -> Result<()> {
        let path = self.path(&write)?;
        let before = fs::read_to_string(&path).map_err(ContainerError::file("cannot read", &path))?;
        self.put(path, write, before.trim().to_owned())
    }

    /// Writes a line to a file that has one for each device; `undo` brings back what was there.
    ///
    /// # Errors
    /// As [`Files::set`].
    pub(crate) fn set_line(&mut self, write: Write<'_>, undo: String) -> Result<()> {
        let path = self.path(&write)?;
        self.put(path, write, undo)
    }

    fn path(&self, write: &Write<'_>) -> Result<PathBuf> {
        write
            .names
            .iter()
            .find_map(|name| self.find(name))
            .ok_or_else(|| ContainerError::Unsupported {
                pointer: format!("/linux/resources{}", write.pointer),
                text: format!(
                    "{} cannot be set: the container's cgroup has no {}. This host has no such controller, or does not \
                     hand it down",
                    write.value,
                    write.names.join(" and no ")
                ),
            })
    }

    fn put(&mut self, path: PathBuf, write: Write<'_>, undo: String) -> Result<()> {
        write_value(&path, &write.value).map_err(|source| ContainerError::File {
            what: "cannot write to",
            path: path.clone(),
            source,
        })?;
        self.written.push(Written {
            pointer: write.pointer.to_owned(),
            path,
            undo,
            value: write.value,
            expect: write.expect,
        });
        Ok(())
    }

    /// Reads back what was written. Of two values for one file, the later holds.
    ///
    /// # Errors
    /// [`ContainerError::Process`] with a mismatch.
    pub(crate) fn verify(&self) -> Result<()> {
        for (index, written) in self.written.iter().enumerate() {
            let overwritten = self.written.iter().skip(index + 1).any(|later| {
                later.path == written.path && !matches!(later.expect, Expect::Line(_) | Expect::Anything)
            });
            if overwritten {
                continue;
            }
            let text = fs::read_to_string(&written.path)
                .map_err(ContainerError::file("cannot read", &written.path))?;
            let found = text.trim();
            if let (Expect::Shares(wanted), Ok(number)) = (&written.expect, found.parse::<u64>()) {
                let bound = match number.cmp(wanted) {
                    std::cmp::Ordering::Less => "maximum",
                    std::cmp::Ordering::Greater => "minimum",
                    std::cmp::Ordering::Equal => continue,
                };
                return Err(ContainerError::Other(format!(
                    "the {bound} allowed cpu-shares is {number}"
                )));
            }
            if !written.expect.holds(found) {
                return Err(ContainerError::Process(Failure::mismatch(
                    "V-14",
                    format!(
                        "{:?} was written to {:?} for /linux/resources{}, which now reads {found:?}",
                        written.value, written.path, written.pointer
                    ),
                )));
            }
        }
        Ok(())
    }

    /// Takes everything back, the last first. Every file is tried; the sentences say which could not be set back.
    pub(crate) fn undo(self) -> Vec<String> {
        let mut left = Vec::new();
        for written in self.written.iter().rev() {
            if let Err(error) = write_value(&written.path, &written.undo) {
                left.push(format!(
                    "{:?} could not be set back to {:?}: {error}",
                    written.path, written.undo
                ));
            }
        }
        left
    }
}

fn write_value(path: &Path, value: &str) -> std::io::Result<()> {
    // A write of no bytes is none; the kernel strips white space, and of several lines it takes one each time.
    let value = if value.is_empty() { "\n" } else { value };
    let mut file = OpenOptions::new().write(true).truncate(true).open(path)?;
    value
        .split_inclusive('\n')
        .try_for_each(|line| file.write_all(line.as_bytes()))
}

impl Expect {
    fn holds(&self, found: &str) -> bool {
        match self {
            Expect::Text(text) => found.split_whitespace().eq(text.split_whitespace()),
            Expect::Quota(text) => {
                let same = |text: &str| found.split_whitespace().eq(text.split_whitespace());
                same(text) || systemd::granted(text).is_some_and(|granted| same(&granted))
            }
            Expect::Size(wanted) => {
                let size = match found {
                    "max" => Some(i64::MAX),
                    number => number.parse().ok(),
                };
                match size {
                    // Version 1 shows the highest number of whole pages.
                    Some(size) if *wanted < 0 => size / PAGE == i64::MAX / PAGE,
                    Some(size) => size / PAGE == wanted / PAGE,
                    None => false,
                }
            }
            Expect::Shares(wanted) => found.parse() == Ok(*wanted),
            Expect::Set(wanted) => match (members(found), members(wanted)) {
                (Some(found), Some(wanted)) => found == wanted,
                _ => false,
            },
            Expect::Line(line) => found.lines().any(|found| {
                let words: BTreeSet<&str> = found.split_whitespace().collect();
                line.split_whitespace().all(|word| words.contains(word))
            }),
            Expect::Anything => true,
        }
    }
}

/// True if this is the kernel's answer to a write.
pub(crate) fn answered(error: &ContainerError, errno: Errno) -> bool {
    matches!(error, ContainerError::File { source, .. } if source.raw_os_error() == Some(errno as i32))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write<'a>(names: &'a [&'a str], value: &str, expect: Expect) -> Write<'a> {
        Write {
            pointer: "/x",
            names,
            value: value.to_owned(),
            expect,
        }
    }

    #[test]
    fn what_was_written_is_taken_back_in_reverse() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a"), "1\n").unwrap();
        fs::write(directory.path().join("b"), "2\n").unwrap();
        let cgroups = ["/nowhere".into(), directory.path().to_owned()];
        let mut files = Files::new(&cgroups);
        for (name, value) in [("a", "3"), ("b", "4"), ("a", "5")] {
            files
                .set(write(&[name], value, Expect::Text(value.to_owned())))
                .unwrap();
        }
        files.verify().unwrap();
        assert_eq!(files.read("a").unwrap().as_deref(), Some("5"));
        assert_eq!(files.undo(), [""; 0]);
        assert_eq!(fs::read_to_string(directory.path().join("a")).unwrap(), "1");
        assert_eq!(fs::read_to_string(directory.path().join("b")).unwrap(), "2");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let cgroups = ["/nowhere".into()];
        let error = Files::new(&cgroups)
            .set(write(&["io.bfq.weight", "io.weight"], "7", Expect::Anything))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with(
                "config.json#/linux/resources/x: 7 cannot be set: the container's cgroup has no io.bfq.weight and no \
                 io.weight."
            ),
            "{error}"
        );
    }

    #[test]
    fn another_value_than_was_written_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pids.max");
        fs::write(&path, "max\n").unwrap();
        let cgroups = [directory.path().to_owned()];
        let mut files = Files::new(&cgroups);
        files
            .set(write(&["pids.max"], "8", Expect::Text("8".to_owned())))
            .unwrap();
        fs::write(&path, "9\n").unwrap();
        assert!(files.verify().unwrap_err().to_string().contains("V-14"));
        let mut files = Files::new(&cgroups);
        files.set(write(&["pids.max"], "1", Expect::Shares(1))).unwrap();
        fs::write(&path, "2\n").unwrap();
        assert_eq!(
            files.verify().unwrap_err().to_string(),
            "the minimum allowed cpu-shares is 2"
        );
    }

    #[test]
    fn the_kernels_ways_of_saying_the_same_are_the_same() {
        for (expect, found) in [
            (Expect::Size(-1), "max"),
            (Expect::Size(-1), "9223372036854771712"),
            (Expect::Size(1_000_000), "999424"),
            (Expect::Set("0,1".to_owned()), "0-1"),
            (Expect::Set(String::new()), ""),
            (Expect::Text("max 100000".to_owned()), "max 100000"),
            (Expect::Quota("max 100000".to_owned()), "max 100000"),
            (Expect::Quota("12345 50000".to_owned()), "12345 50000"),
            (Expect::Quota("12345 50000".to_owned()), "12500 50000"),
            (
                Expect::Line("8:0 rbps=1".to_owned()),
                "8:0 rbps=1 wbps=max riops=max wiops=max",
            ),
        ] {
            assert!(expect.holds(found), "{expect:?} {found:?}");
        }
        for (expect, found) in [
            (Expect::Size(-1), "4096"),
            (Expect::Size(8192), "4096"),
            (Expect::Size(8192), "max"),
            (Expect::Set("0".to_owned()), "0-1"),
            (Expect::Text("8".to_owned()), "max"),
            (Expect::Quota("12345 50000".to_owned()), "12346 50000"),
            (Expect::Quota("12345 50000".to_owned()), "12500 100000"),
            (Expect::Quota("12345 50000".to_owned()), "max 50000"),
            (Expect::Line("8:0 rbps=1".to_owned()), "8:0 rbps=max wbps=1"),
        ] {
            assert!(!expect.holds(found), "{expect:?} {found:?}");
        }
        assert_eq!(members("0-4294967295"), None);
        assert_eq!(members("a"), None);
    }
}
