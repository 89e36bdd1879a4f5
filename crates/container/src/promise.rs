//! What was promised of a container, and what is mounted in it: made when it is created, kept in its directory, and held
//! against reality by whoever looks later: `start`, `exec`, `verify`.

use std::ffi::CString;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use gabion_baseline::config::{Config, Mount, Process};
use gabion_descent::mount_table::{Mounted, Table};
use gabion_descent::{ExpectedMount, FileIdentity, IdMaps, MountKind, MountTable, Plan, Sysctl};
use gabion_sys::mount;
use gabion_sys::process::Scheduling;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::devices::DeviceRules;
use crate::error::{ContainerError, Result};
use crate::finish::attributes_of;
use crate::limits::Limit;
use crate::mount_options::is_remount;
use crate::normalize::initial_propagation;
use crate::plan;
use crate::state::{Locked, write_atomically};

/// Its file in the container's directory.
pub(crate) const PROMISE: &str = "promise.json";

/// The devices that libcontainer makes in every container; in a user namespace it binds the host's.
const DEFAULT_DEVICES: [&str; 6] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/tty",
    "/dev/urandom",
    "/dev/random",
];

/// What reality must look like.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Promise {
    /// The first process, and all around it.
    pub(crate) plan: Plan,
    /// How many seccomp filters it has loaded.
    pub(crate) filters: u64,
    /// Limits of its cgroups.
    pub(crate) limits: Vec<Limit>,
    /// Which devices its cgroups let it use; none if they guard no devices, without root.
    pub(crate) devices: Option<DeviceRules>,
}

impl Promise {
    /// Notes which namespaces the container really got: new ones then, these and no others from now on.
    pub(crate) fn settle(&mut self, pid: Pid) -> Result<()> {
        let theirs = plan::namespaces_of(&format!("/proc/{pid}/ns"))?;
        for expected in &mut self.plan.namespaces {
            expected.exactly = theirs.get(expected.file.as_str()).copied().or(expected.exactly);
        }
        Ok(())
    }

    /// Writes it into a container's directory.
    pub(crate) fn save(&self, directory: &Path) -> Result<()> {
        let bytes = serde_json::to_vec(self).map_err(|error| ContainerError::Other(error.to_string()))?;
        write_atomically(&directory.join(PROMISE), &bytes, 0o600)
    }

    /// Reads it again.
    ///
    /// # Errors
    /// [`ContainerError::Damaged`] if it cannot be read: what was promised is not known, so nothing can hold.
    pub(crate) fn read(directory: &Path) -> Result<Self> {
        let path = directory.join(PROMISE);
        let bytes = fs::read(&path).map_err(ContainerError::file("cannot read", &path))?;
        serde_json::from_slice(&bytes).map_err(|error| ContainerError::Damaged {
            path,
            text: error.to_string(),
        })
    }

    /// Of a container that is locked.
    pub(crate) fn of(locked: &Locked) -> Result<Self> {
        Self::read(locked.path())
    }
}

/// What the mount table is predicted from besides the configuration.
pub(crate) struct Surroundings<'a> {
    /// Where the policy lets its hooks mount something.
    pub(crate) of_hooks: &'a [String],
    /// The engine's bundle: relative sources begin here.
    pub(crate) bundle: &'a Path,
    /// The root file system, canonical.
    pub(crate) rootfs: &'a Path,
    /// What was judged, by descriptor.
    pub(crate) held: &'a gabion_host::Held,
}

/// What will be mounted in the container, for its own new mount namespace.
///
/// # Errors
/// If the host's own mount table cannot be read.
pub(crate) fn mount_table(config: &Config, around: &Surroundings<'_>) -> Result<Option<MountTable>> {
    let linux = config.linux.value();
    let namespaces = linux.map_or(&[][..], |linux| linux.namespaces.items());
    let is_new = |kind: &str| {
        namespaces
            .iter()
            .any(|entry| entry.kind == kind && entry.joins().is_none())
    };
    if !is_new("mount") {
        return Ok(None);
    }
    let host = host_table()?;
    let whole = initial_propagation(config);
    let root = match &around.held.rootfs {
        Some(judged) => identity(judged)?,
        None => identity(&look(around.rootfs)?)?,
    };
    let root = ExpectedMount {
        destination: c"/".to_owned(),
        kind: MountKind::Bind {
            source: root,
            below: mounted_below(&host, around.rootfs),
        },
        attributes: 0,
        recursive_attributes: 0,
        may_be_shared: whole == "shared",
        may_be_slave: matches!(whole, "slave" | "shared"),
    };
    let mut mounts: Vec<ExpectedMount> = Vec::new();
    for (index, entry) in config.mounts.items().iter().enumerate() {
        let destination = absolute(&entry.destination)?;
        let (attributes, recursive_attributes) = attributes_of(entry);
        if is_remount(entry) {
            // It takes something away from what is there.
            if let Some(mount) = mounts.iter_mut().rfind(|mount| mount.destination == destination) {
                mount.attributes |= attributes;
            }
            continue;
        }
        let (may_be_shared, may_be_slave) = propagation(entry, whole);
        mounts.push(ExpectedMount {
            destination,
            kind: kind(entry, index, around, &host)?,
            attributes,
            recursive_attributes,
            may_be_shared,
            may_be_slave,
        });
    }
    let in_user_namespace = namespaces.iter().any(|entry| entry.kind == "user") || !maps_every_id();
    Ok(Some(MountTable {
        root,
        mounts,
        bound_devices: if in_user_namespace {
            bound_devices(config)?
        } else {
            Vec::new()
        },
        console: config
            .process
            .value()
            .is_some_and(|process| process.terminal.is_true()),
        of_the_host: host
            .rows()
            .iter()
            .filter(|row| matches!(row.kind.as_str(), "tmpfs" | "devpts"))
            // Deeper ones are engines' for single containers: they come and go, and the kernel gives their numbers again.
            .filter(|row| Path::new(&row.point).components().count() <= 4)
            .map(|row| row.device)
            .collect(),
        of_hooks: around.of_hooks.to_vec(),
    }))
}

fn kind(entry: &Mount, index: usize, around: &Surroundings<'_>, host: &Table) -> Result<MountKind> {
    if !entry.is_bind() {
        let written = entry.kind.value().map_or("", String::as_str);
        return Ok(match written {
            "cgroup" if gabion_host::cgroup::mode() == Ok(gabion_baseline::facts::CgroupMode::Unified) => {
                MountKind::FileSystem(vec!["cgroup2".to_owned()])
            }
            "cgroup" => MountKind::CgroupHierarchies,
            other => MountKind::FileSystem(vec![other.to_owned()]),
        });
    }
    let looked_at;
    let source = match around.held.sources.get(index).and_then(Option::as_ref) {
        Some(judged) => judged,
        None => {
            let path = around
                .bundle
                .join(entry.source.value().map_or("", String::as_str));
            looked_at = look(&path)?;
            &looked_at
        }
    };
    let recursive = entry.options.items().iter().any(|option| option == "rbind");
    let below = if recursive {
        mounted_below(host, &path_of(source)?)
    } else {
        Vec::new()
    };
    Ok(MountKind::Bind {
        source: identity(source)?,
        below,
    })
}

/// Finds a file of the host without opening it.
pub(crate) fn look(path: &Path) -> Result<OwnedFd> {
    open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| ContainerError::file("cannot look at", path)(errno.into()))
}

fn identity(file: &OwnedFd) -> Result<FileIdentity> {
    let place = mount::place(file)?;
    Ok(FileIdentity {
        device: place.on,
        inode: place.inode,
    })
}

/// Where an open file lies on the host.
pub(crate) fn path_of(file: &OwnedFd) -> Result<PathBuf> {
    use std::os::fd::AsRawFd;
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    fs::read_link(&link).map_err(ContainerError::file("cannot read", link))
}

fn host_table() -> Result<Table> {
    let path = "/proc/self/mountinfo";
    let text = fs::read(path).map_err(ContainerError::file("cannot read", path))?;
    Table::parse(&String::from_utf8_lossy(&text)).map_err(ContainerError::Process)
}

/// What is mounted below a directory of the host: it comes along where the directory is bound with it.
fn mounted_below(host: &Table, directory: &Path) -> Vec<((u32, u32), String)> {
    let is_below = |row: &&Mounted| {
        let point = Path::new(&row.point);
        point != directory && point.starts_with(directory)
    };
    host.rows()
        .iter()
        .filter(is_below)
        .map(|row| (row.device, row.root.clone()))
        .collect()
}

/// Whether mounts may be seen elsewhere, and others seen here.
fn propagation(entry: &Mount, whole: &str) -> (bool, bool) {
    let asked = entry.options.items().iter().rev().find_map(|option| {
        Some(match option.as_str() {
            "private" | "rprivate" | "unbindable" | "runbindable" => (false, false),
            "slave" | "rslave" => (false, true),
            "shared" | "rshared" => (true, true),
            _ => return None,
        })
    });
    asked.unwrap_or(match whole {
        "shared" => (true, true),
        "slave" => (false, true),
        _ => (false, false),
    })
}

fn absolute(destination: &str) -> Result<CString> {
    let path = Path::new("/").join(destination);
    // Without what changes nothing, so that places can be compared.
    let plain: PathBuf = path.components().collect();
    text(&plain.to_string_lossy())
}

fn text(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| ContainerError::Other(format!("{text:?} holds a NUL byte")))
}

fn bound_devices(config: &Config) -> Result<Vec<CString>> {
    let linux = config.linux.value();
    let own = linux.map_or(&[][..], |linux| linux.devices.items());
    let own = own.iter().map(|device| device.path.as_str());
    own.chain(DEFAULT_DEVICES).map(text).collect()
}

/// False if the runtime itself is in a user namespace.
fn maps_every_id() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Kernel parameters, by the files that libcontainer writes.
pub(crate) fn sysctls(config: &Config) -> Vec<Sysctl> {
    let given = config.linux.value().and_then(|linux| linux.sysctl.value());
    given
        .into_iter()
        .flatten()
        .map(|(name, value)| Sysctl {
            name: name.clone(),
            file: name.replace('.', "/"),
            value: value.clone(),
        })
        .collect()
}

/// The mapping of the container's own new user namespace.
pub(crate) fn id_maps(config: &Config) -> Option<IdMaps> {
    let linux = config.linux.value()?;
    let mut namespaces = linux.namespaces.items().iter();
    if !namespaces.any(|entry| entry.kind == "user" && entry.joins().is_none()) {
        return None;
    }
    let ranges = |list: &gabion_baseline::given::Given<Vec<gabion_baseline::config::IdMapping>>| {
        list.items()
            .iter()
            .map(|range| (range.container_id, range.host_id, range.size))
            .collect()
    };
    Some(IdMaps {
        uids: ranges(&linux.uid_mappings),
        gids: ranges(&linux.gid_mappings),
    })
}

/// Offsets of the container's own new time namespace.
pub(crate) fn time_offsets(config: &Config) -> Option<std::collections::BTreeMap<String, (i64, u32)>> {
    let linux = config.linux.value()?;
    let mut namespaces = linux.namespaces.items().iter();
    if !namespaces.any(|entry| entry.kind == "time" && entry.joins().is_none()) {
        return None;
    }
    let offsets = linux.time_offsets.value();
    Some(
        offsets
            .into_iter()
            .flatten()
            .map(|(clock, offset)| {
                let seconds = offset
                    .get("secs")
                    .and_then(serde_json::Value::as_i64)
                    .unwrap_or(0);
                let nanoseconds = offset.get("nanosecs").and_then(serde_json::Value::as_u64);
                let nanoseconds = u32::try_from(nanoseconds.unwrap_or(0)).unwrap_or(u32::MAX);
                (clock.clone(), (seconds, nanoseconds))
            })
            .collect(),
    )
}

/// The execution domain: what the configuration names, and nothing of the caller's.
pub(crate) fn personality(config: &Config) -> u32 {
    const PER_LINUX32: u32 = 8;
    let domain = config
        .linux
        .value()
        .and_then(|linux| linux.personality.value())
        .and_then(|personality| personality.get("domain")?.as_str());
    match domain {
        Some("LINUX32") => PER_LINUX32,
        _ => 0,
    }
}

/// How the process is to be scheduled. A deadline has more to it than is compared here.
pub(crate) fn scheduling(process: &Process) -> Option<Scheduling> {
    let given = process.scheduler.value()?;
    let number = |key: &str| given.get(key).and_then(serde_json::Value::as_i64).unwrap_or(0);
    let policy = match given.get("policy")?.as_str()? {
        "SCHED_OTHER" => nix::libc::SCHED_OTHER,
        "SCHED_FIFO" => nix::libc::SCHED_FIFO,
        "SCHED_RR" => nix::libc::SCHED_RR,
        "SCHED_BATCH" => nix::libc::SCHED_BATCH,
        "SCHED_IDLE" => nix::libc::SCHED_IDLE,
        _ => return None,
    };
    // The kernel shows a niceness only for policies that have one, and of an idle one its own.
    let is_fair = matches!(
        policy,
        nix::libc::SCHED_OTHER | nix::libc::SCHED_BATCH | nix::libc::SCHED_IDLE
    );
    Some(Scheduling {
        policy: u32::try_from(policy).ok()?,
        nice: if is_fair {
            i32::try_from(number("nice")).ok()?
        } else {
            0
        },
        priority: u32::try_from(number("priority")).ok()?,
    })
}

/// Class and level of the process' input and output.
pub(crate) fn io_priority(process: &Process) -> Option<(u32, u32)> {
    let given = process.io_priority.value()?;
    let class = match given.get("class")?.as_str()? {
        "IOPRIO_CLASS_RT" => 1,
        "IOPRIO_CLASS_BE" => 2,
        "IOPRIO_CLASS_IDLE" => 3,
        _ => return None,
    };
    let level = given
        .get("priority")
        .and_then(serde_json::Value::as_u64)
        .unwrap_or(0);
    Some((class, u32::try_from(level).ok()?))
}
