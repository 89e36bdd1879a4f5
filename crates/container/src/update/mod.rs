//! `update`: other limits for a container that exists.
//!
//! What is asked for is judged first, as part of the whole configuration. Here it is checked, written file by file, and
//! read back; if one value is not taken, those before it are taken back. What holds then is remembered, so that
//! whoever looks later compares with the new limits.

mod files;
mod values;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use gabion_baseline::Admitted;
use gabion_baseline::config::{BlockIo, Config, Resources};
use gabion_baseline::facts::CgroupMode;
use gabion_baseline::given::Given;

use crate::error::{ContainerError, Result};
use crate::id::ContainerId;
use crate::limits;
use crate::promise::Promise;
use crate::scheduling;
use crate::state::{EFFECTIVE, Locked, StateRoot, write_atomically};
use crate::status::{self, Status};
use crate::systemd::{self, Scope, Told};
use files::Files;
use values::Change;

pub(crate) use files::members;

/// Lines for the container's group of resctrl, where the kernel has that: shares of the cache and of the memory's
/// bandwidth.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schemata {
    /// Such as `L3:0=f;1=f`.
    pub l3_cache: Option<String>,
    /// Such as `MB:0=20;1=70`.
    pub memory_bandwidth: Option<String>,
}

/// Where the kernel shows resctrl (Documentation/filesystems/resctrl.rst).
const RESCTRL: &str = "/sys/fs/resctrl";

/// Changes limits of a container.
///
/// `admitted` is the container's configuration with the new limits in it; `wanted` are those that were asked for, and
/// `before` is the configuration as it was.
///
/// # Errors
/// [`ContainerError::NotRunning`] if it is stopped; [`ContainerError::Unsupported`] with the place of a limit that this
/// host does not have; [`ContainerError::File`] with the kernel's answer. The old limits are then still in force.
pub fn update(
    root: &StateRoot,
    id: &ContainerId,
    admitted: &Admitted,
    wanted: &Resources,
    before: &Config,
    schemata: &Schemata,
) -> Result<()> {
    let locked = root.lock(id)?;
    let record = locked.record()?;
    match status::of(&record, locked.path())? {
        Status::Created | Status::Running | Status::Paused => {}
        Status::Creating | Status::Stopped => return Err(ContainerError::NotRunning(id.to_string())),
    }
    check_schemata(schemata, Path::new(RESCTRL))?;
    let mode = gabion_host::cgroup::mode().map_err(ContainerError::Other)?;
    let none = Resources::default();
    let resources = |config: &'_ Config| {
        config
            .linux
            .value()
            .and_then(|linux| linux.resources.value().cloned())
    };
    let whole = resources(admitted.config()).unwrap_or_default();
    let old = resources(before).unwrap_or(none);
    let change = Change::new(wanted, &whole, &old, mode);
    change.validate()?;
    let mut files = Files::new(&record.cgroups);
    let scope = record.scope.as_ref();
    let known = scope.map(|_| Told::read(&record.cgroups)).transpose()?;
    let tell = |known: Option<&Told>| match scope.zip(known) {
        Some((scope, known)) => systemd::tell(scope, &record.cgroups, known),
        None => Ok(()),
    };
    let done = change
        .write(&mut files)
        .and_then(|()| tell(known.as_ref()))
        .and_then(|()| files.verify())
        .and_then(|()| write_schemata(schemata, id))
        .and_then(|()| remember(&locked, admitted, scope));
    done.map_err(|error| {
        let told = scope.and_then(|_| Told::read(&record.cgroups).ok());
        let mut left = files.undo();
        left.extend(tell(told.as_ref()).err().map(|error| error.to_string()));
        if left.is_empty() {
            error
        } else {
            ContainerError::Other(format!("{error}; and {}", left.join(", ")))
        }
    })
}

/// True for a value of `unified` that is several lines, such as limits of several devices: the kernel takes one each time.
pub(crate) fn has_lines(value: &str) -> bool {
    value.trim_end().contains('\n')
}

/// Sets what of a new container's limits [`crate::normalize`] keeps from libcontainer, with version 2: `blockIO.weight`,
/// for which that computes another number than the weight that the specification's range of 10 to 1000 becomes, and
/// values of several lines, which it writes at once.
///
/// # Errors
/// As [`update`].
pub(crate) fn set_left_out(config: &Config, mode: CgroupMode, cgroups: &[PathBuf]) -> Result<()> {
    let resources = config.linux.value().and_then(|linux| linux.resources.value());
    let block_io = resources.and_then(|resources| resources.block_io.value());
    // What is written to a file by its name comes last.
    let unified = resources.and_then(|resources| resources.unified.value());
    let is_named = unified
        .is_some_and(|unified| unified.contains_key("io.weight") || unified.contains_key("io.bfq.weight"));
    let weight = block_io
        .and_then(|block| block.weight.value())
        .filter(|_| mode == CgroupMode::Unified && !is_named);
    let lines: BTreeMap<String, String> = unified
        .into_iter()
        .flatten()
        .filter(|(_, value)| has_lines(value))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if weight.is_none() && lines.is_empty() {
        return Ok(());
    }
    let mut wanted = Resources::default();
    if let Some(&weight) = weight {
        wanted.block_io = Given::Value(BlockIo {
            weight: Given::Value(weight),
            ..BlockIo::default()
        });
    }
    if !lines.is_empty() {
        wanted.unified = Given::Value(lines);
    }
    set(&wanted, &wanted, mode, cgroups)
}

/// Sets all limits of a new container, in a cgroup that is there and that libcontainer knows nothing of.
///
/// # Errors
/// As [`update`].
pub(crate) fn set_all(config: &Config, mode: CgroupMode, cgroups: &[PathBuf]) -> Result<()> {
    let resources = config.linux.value().and_then(|linux| linux.resources.value());
    let Some(resources) = resources.filter(|_| !cgroups.is_empty()) else {
        return Ok(());
    };
    set(resources, &Resources::default(), mode, cgroups)
}

/// Writes limits of a new container and looks whether the kernel has them. `before` is what its cgroups have already.
fn set(wanted: &Resources, before: &Resources, mode: CgroupMode, cgroups: &[PathBuf]) -> Result<()> {
    let change = Change::new(wanted, wanted, before, mode);
    change.validate()?;
    let mut files = Files::new(cgroups);
    change.write(&mut files)?;
    files.verify()
}

/// What the container is held against from now on. The old configuration stays if the new promise cannot be written.
fn remember(locked: &Locked, admitted: &Admitted, scope: Option<&Scope>) -> Result<()> {
    let mut promise = Promise::of(locked)?;
    promise.limits = limits::of(admitted.config(), scope);
    (promise.plan.processors, promise.plan.memory_nodes) = scheduling::sets(admitted.config())?;
    let path = locked.path().join(EFFECTIVE);
    let old = fs::read(&path).map_err(ContainerError::file("cannot read", &path))?;
    let new =
        serde_json::to_vec(admitted.document()).map_err(|error| ContainerError::Other(error.to_string()))?;
    write_atomically(&path, &new, 0o600)?;
    promise
        .save(locked.path())
        .map_err(|error| match write_atomically(&path, &old, 0o600) {
            Ok(()) => error,
            Err(also) => ContainerError::Other(format!("{error}; and {also}")),
        })
}

fn check_schemata(schemata: &Schemata, resctrl: &Path) -> Result<()> {
    let has = |resource: &str| resctrl.join("info").join(resource).is_dir();
    if schemata.l3_cache.is_some() && !has("L3") {
        return Err(ContainerError::Other(
            "Intel RDT/CAT: l3 cache schema is not enabled".to_owned(),
        ));
    }
    if schemata.memory_bandwidth.is_some() && !has("MB") {
        return Err(ContainerError::Other(
            "Intel RDT/MBA: memory bandwidth schema is not enabled".to_owned(),
        ));
    }
    Ok(())
}

/// The last to be written: the kernel takes all lines or none.
fn write_schemata(schemata: &Schemata, id: &ContainerId) -> Result<()> {
    let lines: Vec<&str> = [&schemata.l3_cache, &schemata.memory_bandwidth]
        .into_iter()
        .filter_map(|line| line.as_deref())
        .collect();
    if lines.is_empty() {
        return Ok(());
    }
    let path = Path::new(RESCTRL).join(id.as_str()).join("schemata");
    fs::write(&path, format!("{}\n", lines.join("\n"))).map_err(ContainerError::file(
        "cannot write the shares of cache and bandwidth to",
        path,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_of_a_new_container_is_that_of_an_update() {
        let set = |weight: u16, mode: CgroupMode, file: &str| {
            let cgroup = tempfile::tempdir().unwrap();
            fs::write(cgroup.path().join(file), "default 100\n").unwrap();
            let text = format!(
                r#"{{"ociVersion":"1.2.0","linux":{{"resources":{{"blockIO":{{"weight":{weight}}}}}}}}}"#
            );
            let config = gabion_baseline::Allegation::parse(text.as_bytes()).unwrap();
            set_left_out(config.config(), mode, &[cgroup.path().to_owned()])
                .map_err(|error| error.to_string())?;
            Ok::<_, String>(fs::read_to_string(cgroup.path().join(file)).unwrap())
        };
        for (weight, wanted) in [(10, "default 1"), (200, "default 1920"), (1000, "default 10000")] {
            assert_eq!(set(weight, CgroupMode::Unified, "io.weight").unwrap(), wanted);
        }
        assert_eq!(
            set(200, CgroupMode::Unified, "io.bfq.weight").unwrap(),
            "default 200"
        );
        // Version 1 is libcontainer's, and 0 asks for nothing.
        assert_eq!(
            set(200, CgroupMode::Legacy, "io.weight").unwrap(),
            "default 100\n"
        );
        assert_eq!(set(0, CgroupMode::Unified, "io.weight").unwrap(), "default 100\n");
        assert!(
            set(9, CgroupMode::Unified, "io.weight")
                .unwrap_err()
                .contains("from 10 to 1000")
        );
        assert!(
            set(200, CgroupMode::Unified, "other")
                .unwrap_err()
                .contains("/linux/resources/blockIO/weight")
        );
    }

    #[test]
    fn shares_of_the_cache_need_a_kernel_that_has_them() {
        let l3 = Schemata {
            l3_cache: Some("L3:0=f".to_owned()),
            memory_bandwidth: None,
        };
        let bandwidth = Schemata {
            l3_cache: None,
            memory_bandwidth: Some("MB:0=20".to_owned()),
        };
        let directory = tempfile::tempdir().unwrap();
        let check = |schemata: &Schemata| {
            check_schemata(schemata, directory.path()).map_err(|error| error.to_string())
        };
        assert_eq!(
            check(&l3).unwrap_err(),
            "Intel RDT/CAT: l3 cache schema is not enabled"
        );
        assert_eq!(
            check(&bandwidth).unwrap_err(),
            "Intel RDT/MBA: memory bandwidth schema is not enabled"
        );
        fs::create_dir_all(directory.path().join("info/L3")).unwrap();
        assert_eq!(check(&l3), Ok(()));
        assert!(check(&bandwidth).is_err());
        assert_eq!(check(&Schemata::default()), Ok(()));
    }
}
