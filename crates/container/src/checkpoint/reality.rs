//! The reality gate of a restore: everything that `verify` looks at, and every process besides.
//!
//! A first process is not enough here: an image may hold others, and no descent stood at their beginning.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;

use gabion_descent::outside::{self, Outcome};
use gabion_descent::{Extent, Failure, Procfs};
use nix::unistd::Pid;

use crate::cgroup;
use crate::error::{ContainerError, Result};
use crate::plan;
use crate::promise::Promise;
use crate::state::Record;
use crate::status;
use crate::verify::examine;

/// Holds a restored container, in which nothing runs yet, against what was judged.
///
/// # Preconditions
/// One thread.
///
/// # Errors
/// [`ContainerError::Process`] with a mismatch that names every check that does not hold.
pub(crate) fn verify(promise: &Promise, record: &Record, init: i32, process: &OwnedFd) -> Result<()> {
    let mut found: Vec<(String, String)> = Vec::new();
    for check in examine(promise, record, init, process, true)? {
        if let Outcome::Drift(why) = check.outcome {
            found.push((check.id, why));
        }
    }
    for pid in family(init)? {
        if let Err(failure) = of_process(promise, record, init, pid) {
            match failure {
                Failure::Mismatch { check, text } => found.push((check, format!("process {pid}: {text}"))),
                other => found.push((
                    "V-01".to_owned(),
                    format!("process {pid} cannot be looked at: {other}"),
                )),
            }
        }
    }
    let Some((first, text)) = found.first() else {
        return Ok(());
    };
    let rest = found[1..]
        .iter()
        .map(|(check, text)| format!("; {check}: {text}"));
    let text = format!("{text}{}", rest.collect::<String>());
    Err(ContainerError::Process(Failure::mismatch(first, text)))
}

/// A process with all its threads: no more rights than the first was granted, and in none of the host's namespaces but
/// those of the container.
fn of_process(promise: &Promise, record: &Record, init: i32, pid: i32) -> std::result::Result<(), Failure> {
    let other = |error: ContainerError| Failure::Other(error.to_string());
    // One that had ended when the image was written has ended again, before it gave anything up.
    if status::stat(pid).is_none_or(|(state, _)| matches!(state, 'Z' | 'X' | 'x')) {
        return Ok(());
    }
    let threads = numbers(&format!("/proc/{pid}/task")).map_err(other)?;
    // The first process itself was looked at more closely.
    for thread in threads.into_iter().filter(|&thread| thread != init) {
        let procfs = Procfs::open(Extent::Whole)?.of(Pid::from_raw(thread));
        outside::further(&promise.plan, promise.filters, &procfs)?;
    }
    let own = plan::own_namespaces().map_err(other)?;
    let first = plan::namespaces_of(&format!("/proc/{init}/ns")).map_err(other)?;
    for (file, number) in plan::namespaces_of(&format!("/proc/{pid}/ns")).map_err(other)? {
        if first.get(file) != Some(&number) && own.get(file) == Some(&number) {
            return Err(Failure::mismatch(
                "V-04",
                format!("its {file} namespace is the host's ({number})"),
            ));
        }
    }
    match cgroup::verify_membership(Pid::from_raw(pid), &record.cgroups) {
        Ok(()) => Ok(()),
        Err(ContainerError::Process(failure)) => Err(failure),
        Err(error) => Err(other(error)),
    }
}

/// A process and all that descend from it. One that ends meanwhile has none that would not be another's by then.
pub(crate) fn family(init: i32) -> Result<BTreeSet<i32>> {
    let mut found = BTreeSet::new();
    let mut pending = vec![init];
    while let Some(pid) = pending.pop() {
        if !found.insert(pid) {
            continue;
        }
        for thread in numbers(&format!("/proc/{pid}/task"))? {
            let path = format!("/proc/{pid}/task/{thread}/children");
            let text = match fs::read_to_string(&path) {
                Ok(text) => text,
                Err(error) if has_ended(&error) => continue,
                Err(error) => return Err(ContainerError::file("cannot read", path)(error)),
            };
            pending.extend(
                text.split_whitespace()
                    .filter_map(|word| word.parse::<i32>().ok()),
            );
        }
    }
    Ok(found)
}

fn numbers(directory: &str) -> Result<Vec<i32>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if has_ended(&error) => return Ok(Vec::new()),
        Err(error) => return Err(ContainerError::file("cannot read", directory)(error)),
    };
    let names = entries.filter_map(std::result::Result::ok);
    Ok(names
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect())
}

/// What /proc says of a process that is not there any more.
fn has_ended(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_all_that_descend() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "sleep 600 & sleep 600 & wait"])
            .spawn()
            .unwrap();
        let own = std::process::id().cast_signed();
        let shell = child.id().cast_signed();
        let grown = || family(shell).is_ok_and(|family| family.len() == 3);
        while !grown() {
            std::thread::yield_now();
        }
        let ours = family(own).unwrap();
        let theirs = family(shell).unwrap();
        assert!(theirs.is_subset(&ours) && !theirs.contains(&own));
        for pid in theirs.iter().filter(|&&pid| pid != shell) {
            nix::sys::signal::kill(Pid::from_raw(*pid), nix::sys::signal::Signal::SIGKILL).unwrap();
        }
        child.wait().unwrap();
    }
}
