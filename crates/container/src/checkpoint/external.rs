//! What of a container lies outside of it, by the names under which CRIU is told of it when it writes an image and when
//! it reads one.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use gabion_baseline::Config;
use gabion_descent::mount_table::Table;
use gabion_sys::{file, mount};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, FcntlArg, OFlag, fcntl, openat};
use nix::sys::stat::{Mode, major, stat};
use rust_criu::rust_criu_protobuf::rpc::{Criu_opts, Ext_mount_map, Inherit_fd, Join_namespace};

use crate::error::{ContainerError, Result};

/// The key of a network namespace that was joined; CRIU has a meaning for it.
const NETWORK: &str = "extRootNetNS";

/// Tells CRIU of the bind mounts of a running container: what is at their places, under their destinations' names.
///
/// # Errors
/// If the container's mount table cannot be read.
pub(crate) fn dumped_mounts(options: &mut Criu_opts, config: &Config, pid: i32) -> Result<()> {
    let table = mount_table(pid)?;
    let root = root_of(pid)?;
    for entry in config.mounts.items().iter().filter(|entry| entry.is_bind()) {
        // A destination may lead through links of the image; CRIU knows the place where it really is.
        let place = file::find_in_root(&root, Path::new(&entry.destination)).and_then(mount::place);
        let row = match place {
            Ok(place) if place.is_mount_root => table.with_id(place.mount_id),
            // Covered by a later one: nobody sees it, and CRIU finds it in the table.
            Ok(_) => None,
            Err(error) if error.errno == Errno::ENOENT => None,
            Err(error) => return Err(error.into()),
        };
        let point = row.map_or(entry.destination.as_str(), |row| row.point.as_str());
        options.ext_mnt.push(mapping(point, &entry.destination));
    }
    Ok(())
}

/// Tells CRIU where the bind mounts of a container that is restored come from: what was judged, by the path where it
/// is. That it still is there is what the reality gate looks at afterwards (V-10).
pub(crate) fn restored_mounts(
    options: &mut Criu_opts,
    config: &Config,
    bundle: &Path,
    held: &gabion_host::Held,
) -> Result<()> {
    for (index, entry) in config.mounts.items().iter().enumerate() {
        if !entry.is_bind() {
            continue;
        }
        let source = match held.sources.get(index).and_then(Option::as_ref) {
            Some(judged) => path_of(judged)?,
            None => bundle.join(entry.source.value().map_or("", String::as_str)),
        };
        let source = source.to_str().ok_or_else(|| {
            ContainerError::Other(format!("{source:?} is not UTF-8, and CRIU cannot be told of it"))
        })?;
        options.ext_mnt.push(mapping(&entry.destination, source));
    }
    Ok(())
}

fn mapping(key: &str, value: &str) -> Ext_mount_map {
    let mut mapping = Ext_mount_map::new();
    mapping.set_key(key.to_owned());
    mapping.set_val(value.to_owned());
    mapping
}

/// Tells CRIU which namespaces of a running container are not its own.
pub(crate) fn dumped_namespaces(options: &mut Criu_opts, config: &Config, pid: i32) -> Result<()> {
    if joined(config, "network").is_some() {
        let path = format!("/proc/{pid}/ns/net");
        let found = stat(path.as_str()).map_err(ContainerError::call(format!("stat({path:?})")))?;
        options.external.push(format!("net[{}]:{NETWORK}", found.st_ino));
    }
    Ok(())
}

/// Tells CRIU which namespaces a container that is restored is to join: those that were judged. Gives the descriptors
/// that it has to inherit.
pub(crate) fn restored_namespaces(
    options: &mut Criu_opts,
    config: &Config,
    held: &gabion_host::Held,
) -> Result<Vec<OwnedFd>> {
    let mut inherited = Vec::new();
    for kind in ["network", "ipc", "uts"] {
        let Some(index) = joined(config, kind) else {
            continue;
        };
        let Some(judged) = held.namespaces.get(index).and_then(Option::as_ref) else {
            return Err(ContainerError::Other(format!(
                "the {kind} namespace to join was not looked at"
            )));
        };
        if kind == "network" {
            inherited.push(inherit(options, NETWORK, judged)?);
        } else {
            let mut join = Join_namespace::new();
            join.set_ns(kind.to_owned());
            join.set_ns_file(format!("/proc/{}/fd/{}", std::process::id(), judged.as_raw_fd()));
            options.join_ns.push(join);
        }
    }
    Ok(inherited)
}

fn joined(config: &Config, kind: &str) -> Option<usize> {
    let linux = config.linux.value()?;
    let mut entries = linux.namespaces.items().iter();
    entries.position(|entry| entry.kind == kind && entry.joins().is_some())
}

/// Tells CRIU which standard streams lead outside, and gives their keys: with these they are given when it is restored.
///
/// A pipe's other end may be anybody's. A file that was opened by who called gabion lies on a mount that the container
/// does not have.
pub(crate) fn dumped_streams(options: &mut Criu_opts, pid: i32) -> Result<Vec<Option<String>>> {
    let table = mount_table(pid)?;
    let mut keys = Vec::new();
    for number in 0..3 {
        let path = format!("/proc/{pid}/fd/{number}");
        let link = match fs::read_link(&path) {
            Ok(link) => link.to_string_lossy().into_owned(),
            // Closed by the program.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                keys.push(None);
                continue;
            }
            Err(error) => return Err(ContainerError::file("cannot read", path)(error)),
        };
        if link.starts_with("pipe:[") {
            keys.push(Some(link));
            continue;
        }
        let found = stat(path.as_str()).map_err(ContainerError::call(format!("stat({path:?})")))?;
        let mount = mount_of(pid, number)?;
        let is_outside = table.with_id(mount).is_none();
        let kind = found.st_mode & nix::libc::S_IFMT;
        let key = match kind {
            _ if !is_outside => None,
            nix::libc::S_IFCHR if is_terminal(found.st_rdev) => {
                Some(format!("tty[{:x}:{:x}]", found.st_rdev, found.st_dev))
            }
            nix::libc::S_IFCHR | nix::libc::S_IFREG => Some(format!("file[{mount:x}:{:x}]", found.st_ino)),
            _ => None,
        };
        if let Some(key) = &key
            && !options.external.contains(key)
        {
            options.external.push(key.clone());
        }
        keys.push(key);
    }
    Ok(keys)
}

/// Gives CRIU this process' standard streams in the place of those that the container had. Gives the descriptors that
/// it has to inherit.
pub(crate) fn restored_streams(options: &mut Criu_opts, keys: &[Option<String>]) -> Result<Vec<OwnedFd>> {
    let mut inherited = Vec::new();
    let mut given: Vec<&str> = Vec::new();
    for (number, key) in keys.iter().enumerate() {
        let Some(key) = key.as_deref() else { continue };
        // Two streams of one pipe are one pipe again.
        if given.contains(&key) {
            continue;
        }
        given.push(key);
        inherited.push(match number {
            0 => inherit(options, key, std::io::stdin())?,
            1 => inherit(options, key, std::io::stdout())?,
            _ => inherit(options, key, std::io::stderr())?,
        });
    }
    Ok(inherited)
}

/// A copy of a descriptor that CRIU inherits, by a number above the standard ones.
fn inherit(options: &mut Criu_opts, key: &str, descriptor: impl AsFd) -> Result<OwnedFd> {
    let number = fcntl(descriptor, FcntlArg::F_DUPFD_CLOEXEC(3))
        .map_err(ContainerError::call("fcntl(F_DUPFD_CLOEXEC)"))?;
    let copy = gabion_sys::process::inherited(number)?;
    let mut entry = Inherit_fd::new();
    entry.set_key(key.to_owned());
    entry.set_fd(copy.as_raw_fd());
    options.inherit_fd.push(entry);
    Ok(copy)
}

fn is_terminal(device: u64) -> bool {
    // Consoles, /dev/tty and the two sides of pseudoterminals (admin-guide/devices.txt).
    matches!(major(device), 4 | 5 | 128..=143)
}

/// The mount through which a descriptor was opened (proc_pid_fdinfo(5)).
fn mount_of(pid: i32, number: i32) -> Result<u64> {
    let path = format!("/proc/{pid}/fdinfo/{number}");
    let text = fs::read_to_string(&path).map_err(ContainerError::file("cannot read", &path))?;
    text.lines()
        .find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
        .ok_or_else(|| ContainerError::Other(format!("{path} names no mount")))
}

fn mount_table(pid: i32) -> Result<Table> {
    let path = format!("/proc/{pid}/mountinfo");
    let text = fs::read(&path).map_err(ContainerError::file("cannot read", path))?;
    Table::parse(&String::from_utf8_lossy(&text)).map_err(ContainerError::Process)
}

fn root_of(pid: i32) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/root");
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(AT_FDCWD, path.as_str(), flags, Mode::empty())
        .map_err(ContainerError::call(format!("open({path:?})")))
}

/// Where an open file lies on the host.
fn path_of(file: &OwnedFd) -> Result<PathBuf> {
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    fs::read_link(&link).map_err(ContainerError::file("cannot read", link))
}
