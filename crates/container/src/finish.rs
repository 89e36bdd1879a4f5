//! What libcontainer leaves undone, done in the init process after pivot_root and before any code of the container
//! has run: bind mounts of its own, the image's own /dev, the files of a tmpfs with `tmpcopyup`, the propagation of single mounts,
//! attributes of mounts, devices outside /dev, the loopback interface, and the size of the terminal.

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use gabion_baseline::config::{Config, ConsoleSize, Device, Mount};
use gabion_descent::Failure;
use gabion_sys::mount::{Propagation, attribute, change_attributes, set_attributes};
use gabion_sys::{CallError, file, mount, network, terminal};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::mount::{MntFlags, umount2};
use nix::sys::socket::SockaddrStorage;
use nix::sys::stat::{Mode, SFlag, fchmodat, fstat, makedev, mkdirat, mknodat};
use nix::unistd::{Gid, Uid, fchownat};

use crate::copy_up::copy_up;
use crate::mount_options::{copies_up, is_remount};
use crate::normalize::is_below_dev;
use crate::rewrite::Rewrite;
use crate::trees::{self, Tree};

/// Everything there is to do.
#[derive(Debug)]
pub(crate) struct Finish {
    /// In the order of `mounts`.
    mounts: Vec<MountStep>,
    devices: Vec<Device>,
    /// What was to be masked or made read-only: the list's name in `linux`, the place in it, and the path.
    covered: Vec<(&'static str, usize, PathBuf)>,
    /// What is mounted below /dev, if /dev itself is the image's: see [`own_dev`].
    own_dev: Option<Vec<String>>,
    console: Option<ConsoleSize>,
    /// The network namespace is new: without its loopback interface even 127.0.0.1 is out of reach.
    new_network: bool,
    broadcasts: Vec<Broadcast>,
}

/// The broadcast address of an interface that is moved into the container. libcontainer gives an interface its IP addresses
/// back there, each with what is computed of its prefix; the specification has them preserved.
#[derive(Debug)]
struct Broadcast {
    /// Its name in the container.
    interface: String,
    address: Option<Ipv4Addr>,
}

/// What there is to do with one mount.
#[derive(Debug)]
struct MountStep {
    destination: String,
    /// What is to be mounted there first.
    tree: RefCell<Option<Attached>>,
    /// What the image has there is to be copied to it first.
    copy_up: Option<CopyUp>,
    attributes: u64,
    rewrite: Rewrite,
    propagation: Option<Propagation>,
    recursive: bool,
}

/// A tree that is to be mounted, and what is there already and has to lie upon it.
#[derive(Debug)]
struct Attached {
    tree: OwnedFd,
    /// Destinations of later mounts, in their order.
    above: Vec<String>,
    /// Something else was mounted there for libcontainer to make its devices in.
    instead: bool,
}

/// What a mount's own options say of its directory, so that the image's does not count.
#[derive(Debug)]
struct CopyUp {
    mode: bool,
    owner: bool,
}

/// What is known of a configuration's mounts before it is built.
#[derive(Debug)]
pub(crate) struct Prepared<'a> {
    /// Those that libcontainer is not to make ([`crate::trees::make`]).
    pub(crate) trees: Vec<Tree>,
    /// Where each mount goes ([`crate::destinations`]).
    pub(crate) destinations: &'a [String],
    /// What there is to change about each mount ([`crate::rewrite::of`]).
    pub(crate) rewrites: &'a [Rewrite],
    /// /dev is the image's ([`crate::normalize::has_own_dev`]).
    pub(crate) own_dev: bool,
}

/// What has to be done for a configuration.
pub(crate) fn plan(config: &Config, prepared: Prepared<'_>) -> Finish {
    let Prepared {
        mut trees,
        destinations,
        rewrites,
        own_dev,
    } = prepared;
    let all = config.mounts.items();
    let has_tree: Vec<bool> = (0..all.len())
        .map(|index| trees.iter().any(|tree| tree.index == index))
        .collect();
    // What lies upon a mount and was made by libcontainer.
    let above = |place: &Path, from: usize| {
        let is_above = |index: &usize| {
            let path = Path::new("/").join(&destinations[*index]);
            !has_tree[*index] && !is_remount(&all[*index]) && path != place && path.starts_with(place)
        };
        let mut above: Vec<String> = (from..all.len())
            .filter(is_above)
            .map(|index| destinations[index].clone())
            .collect();
        let mut process = config.process.value().into_iter();
        if place == Path::new("/dev") && process.any(|process| process.terminal.is_true()) {
            above.push("/dev/console".to_owned());
        }
        above
    };
    let mut mounts = Vec::new();
    for (index, mount) in all.iter().enumerate() {
        let tree = trees
            .iter()
            .position(|tree| tree.index == index)
            .map(|place| Attached {
                tree: trees.swap_remove(place).tree,
                above: above(&Path::new("/").join(&destinations[index]), index + 1),
                instead: trees::is_dev(mount),
            });
        mounts.extend(of_mount(mount, &destinations[index], tree, rewrites[index]));
    }
    let own_dev = own_dev.then(|| above(Path::new("/dev"), 0));
    let process = config.process.value();
    Finish {
        mounts,
        covered: covered(config),
        devices: config
            .linux
            .value()
            .map(|linux| linux.devices.items().to_vec())
            .unwrap_or_default(),
        own_dev,
        new_network: config.linux.value().is_some_and(|linux| {
            let mut entries = linux.namespaces.items().iter();
            entries.any(|entry| entry.kind == "network" && entry.joins().is_none())
        }),
        broadcasts: broadcasts(config),
        console: process
            .filter(|process| process.terminal.is_true())
            .and_then(|process| process.console_size.value().copied()),
    }
}

/// The broadcast addresses of `linux.netDevices`, while they still are here. Of an interface with several IPv4 addresses they
/// stay the computed ones: the kernel changes that of the first one alone, and some of them may not come along.
fn broadcasts(config: &Config) -> Vec<Broadcast> {
    let devices = config.linux.value().and_then(|linux| linux.net_devices.value());
    let Some(devices) = devices.filter(|devices| !devices.is_empty()) else {
        return Vec::new();
    };
    let all: Vec<InterfaceAddress> = match getifaddrs() {
        Ok(all) => all.collect(),
        Err(errno) => {
            tracing::warn!(%errno, "the broadcast addresses of network interfaces are not known");
            return Vec::new();
        }
    };
    let ip = |address: &Option<SockaddrStorage>| {
        address
            .as_ref()
            .and_then(|address| Some(address.as_sockaddr_in()?.ip()))
    };
    devices
        .iter()
        .filter_map(|(name, device)| {
            let mut addresses = all
                .iter()
                .filter(|one| one.interface_name == *name && ip(&one.address).is_some());
            let (only, None) = (addresses.next()?, addresses.next()) else {
                return None;
            };
            let renamed = device.get("name").and_then(serde_json::Value::as_str);
            Some(Broadcast {
                interface: renamed.filter(|name| !name.is_empty()).unwrap_or(name).to_owned(),
                // getifaddrs(3) gives the address itself for one that has none.
                address: ip(&only.broadcast).filter(|address| Some(*address) != ip(&only.address)),
            })
        })
        .collect()
}

/// The paths that are to be masked or read-only, as [`Finish::covered`].
fn covered(config: &Config) -> Vec<(&'static str, usize, PathBuf)> {
    let Some(linux) = config.linux.value() else {
        return Vec::new();
    };
    [
        ("maskedPaths", &linux.masked_paths),
        ("readonlyPaths", &linux.readonly_paths),
    ]
    .into_iter()
    .flat_map(|(name, list)| {
        let paths = list.items().iter().enumerate();
        paths.map(move |(index, path)| (name, index, PathBuf::from(path)))
    })
    .collect()
}

fn of_mount(mount: &Mount, destination: &str, tree: Option<Attached>, rewrite: Rewrite) -> Vec<MountStep> {
    let propagation = mount.options.items().iter().rev().find_map(|option| {
        let (kind, recursive) = match option.as_str() {
            "private" => (Propagation::Private, false),
            "rprivate" => (Propagation::Private, true),
            "slave" => (Propagation::Slave, false),
            "rslave" => (Propagation::Slave, true),
            "shared" => (Propagation::Shared, false),
            "rshared" => (Propagation::Shared, true),
            "unbindable" => (Propagation::Unbindable, false),
            "runbindable" => (Propagation::Unbindable, true),
            _ => return None,
        };
        Some((kind, recursive))
    });
    // libcontainer mounts each hierarchy of version 1 with options of its own, and writable.
    let is_cgroup = mount.kind.value().is_some_and(|kind| kind == "cgroup");
    // It leaves /dev writable, to make devices in it, and does not come back to it.
    let is_dev = trees::is_at_dev(mount);
    let attributes = if is_cgroup || is_remount(mount) || copies_up(mount) {
        attributes_of(mount).0
    } else if is_dev {
        attributes_of(mount).0 & (attribute::NOSYMFOLLOW | attribute::RDONLY)
    } else {
        attributes_of(mount).0 & attribute::NOSYMFOLLOW
    };
    let step = |attributes, propagation: Option<Propagation>, recursive| MountStep {
        destination: destination.to_owned(),
        tree: RefCell::new(None),
        copy_up: None,
        attributes,
        rewrite: Rewrite::default(),
        propagation,
        recursive,
    };
    let is_made_here = tree.is_some();
    let mut steps = Vec::new();
    if let Some(tree) = tree {
        let mut first = step(0, None, false);
        first.tree = RefCell::new(Some(tree));
        steps.push(first);
    }
    if copies_up(mount) {
        let given = |names: &[&str]| {
            let mut options = mount.options.items().iter();
            options.any(|option| names.iter().any(|name| option.starts_with(name)))
        };
        let mut first = step(0, None, false);
        first.copy_up = Some(CopyUp {
            mode: given(&["mode="]),
            owner: given(&["uid=", "gid="]),
        });
        steps.push(first);
    }
    if !is_made_here && attributes != 0 {
        steps.push(step(attributes, None, is_cgroup));
    }
    if rewrite != Rewrite::default() {
        let mut last = step(0, None, false);
        last.rewrite = rewrite;
        steps.push(last);
    }
    if let Some((kind, recursive)) = propagation {
        steps.push(step(0, Some(kind), recursive));
    }
    steps
}

/// Makes the root read-only: after the working directory was made in it, which libcontainer's own remount would
/// come before.
///
/// # Preconditions
/// As [`carry_out`].
pub(crate) fn make_root_readonly() -> Result<(), Failure> {
    Ok(set_attributes(root()?, attribute::RDONLY, None, false)?)
}

/// The attributes that a mount's options ask for: for the mount, and with the mounts below it.
pub(crate) fn attributes_of(mount: &Mount) -> (u64, u64) {
    let asked = |yes: &[&str], no: &[&str]| mount.last_of(yes, no).unwrap_or(false);
    let table: [(&[&str], &[&str], u64); 7] = [
        (&["ro"], &["rw"], attribute::RDONLY),
        (&["nosuid"], &["suid"], attribute::NOSUID),
        (&["nodev"], &["dev"], attribute::NODEV),
        (&["noexec"], &["exec"], attribute::NOEXEC),
        (&["nosymfollow"], &["symfollow"], attribute::NOSYMFOLLOW),
        (
            &["noatime"],
            &["atime", "relatime", "strictatime"],
            attribute::NOATIME,
        ),
        (&["nodiratime"], &["diratime"], attribute::NODIRATIME),
    ];
    let recursive = |words: &[&str]| words.iter().map(|word| format!("r{word}")).collect::<Vec<_>>();
    let (mut single, mut all) = (0, 0);
    for (yes, no, attribute) in table {
        if asked(yes, no) {
            single |= attribute;
        }
        let (yes, no) = (recursive(yes), recursive(no));
        let borrowed = |words: &'_ [String]| words.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        let (yes, no) = (borrowed(&yes), borrowed(&no));
        if asked(
            &yes.split(' ').collect::<Vec<_>>(),
            &no.split(' ').collect::<Vec<_>>(),
        ) {
            all |= attribute;
        }
    }
    (single, all)
}

/// Does it.
///
/// # Preconditions
/// The calling process is in the container's mount namespace and root, with all privileges that it was built with.
///
/// # Errors
/// What could not be done; a device that is not the one that was asked for.
pub(crate) fn carry_out(work: &Finish) -> Result<(), Failure> {
    if let Some(above) = &work.own_dev {
        own_dev(above, &work.devices)?;
    }
    for step in &work.mounts {
        mount_step(step)?;
    }
    for device in &work.devices {
        finish_device(device)?;
    }
    for (list, index, path) in &work.covered {
        // libcontainer covers what a link leads to, and passes over one that leads nowhere. The reality gate wants the
        // path itself (V-08, V-09), but only `start` would tell.
        if path.is_symlink() {
            return Err(Failure::Other(format!(
                "config.json#/linux/{list}/{index}: {path:?} is a symbolic link in this image, which cannot be covered \
                 itself. Name what it leads to, or remove it"
            )));
        }
    }
    if work.new_network {
        network::raise_loopback()
            .map_err(|error| Failure::Other(format!("cannot bring up the loopback interface: {error}")))?;
    }
    for broadcast in &work.broadcasts {
        match network::set_broadcast(&broadcast.interface, broadcast.address) {
            // Addresses that are good for the host alone do not come along.
            Err(error) if error.errno == Errno::EADDRNOTAVAIL => {}
            done => done.map_err(|error| {
                Failure::Other(format!(
                    "the broadcast address of the network interface {:?} cannot be set: {error}",
                    broadcast.interface
                ))
            })?,
        }
    }
    if let Some(size) = work.console {
        terminal::resize(std::io::stdin(), size.height, size.width)?;
    }
    Ok(())
}

/// In a root of our own the last component may be a link of the image; it was resolved inside when the mount was
/// made, and is so here.
fn root() -> Result<OwnedFd, CallError> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::open("/", flags, Mode::empty()).map_err(|errno| CallError::new("open(/)", errno))
}

fn mount_step(step: &MountStep) -> Result<(), Failure> {
    let destination = Path::new(&step.destination);
    // Closed when it is mounted: whoever has it open keeps it from being unmounted.
    if let Some(attached) = step.tree.take() {
        let lifted = lift(&attached.above)?;
        if attached.instead {
            detach(Path::new("/dev"))?;
        }
        mount_tree(&attached.tree, destination)?;
        return lifted.iter().try_for_each(|(path, copy)| mount_tree(copy, path));
    }
    if let Some(given) = &step.copy_up {
        return copy_up(&root()?, destination, given.mode, given.owner);
    }
    let place = file::find_in_root(root()?, destination)?;
    let rewrite = step.rewrite;
    let changed = if rewrite == Rewrite::default() {
        set_attributes(&place, step.attributes, step.propagation, step.recursive)
    } else {
        change_attributes(&place, rewrite.set, rewrite.clear)
    };
    match changed {
        Ok(()) => Ok(()),
        // Locked by a user namespace that gabion itself is in: stricter than what nobody has asked for.
        Err(error) if error.errno == Errno::EPERM && rewrite.clear != 0 && !rewrite.is_asked_for => Ok(()),
        // Covered by a later mount of the list: what lies beneath is out of reach. Or a remount of nothing.
        Err(error) if error.errno == Errno::EINVAL => Err(Failure::Other(format!(
            "mount {destination:?} cannot be found to set its options: {error}"
        ))),
        Err(error) => Err(error.into()),
    }
}

fn mount_tree(tree: &OwnedFd, destination: &Path) -> Result<(), Failure> {
    let place = make_destination(destination, tree)?;
    mount::attach(tree, &place)
        .map_err(|error| Failure::Other(format!("cannot mount {destination:?}: {error}")))
}

/// Takes mounts away to mount them again upon something else. What is not there, or lies upon one of them, is left out.
fn lift(paths: &[String]) -> Result<Vec<(PathBuf, OwnedFd)>, Failure> {
    let mut lifted: Vec<(PathBuf, OwnedFd)> = Vec::new();
    for path in paths.iter().map(PathBuf::from) {
        let place = match file::find_in_root(root()?, &path) {
            Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ENOTDIR) => continue,
            found => found?,
        };
        let comes_along = lifted.iter().any(|(other, _)| path.starts_with(other));
        if mount::place(&place)?.is_mount_root && !comes_along {
            lifted.push((path, mount::copy_tree(&place, true)?));
        }
    }
    for (path, _) in lifted.iter().rev() {
        detach(path)?;
    }
    Ok(lifted)
}

fn detach(path: &Path) -> Result<(), CallError> {
    umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
        .map_err(|errno| CallError::new(format!("umount2({path:?}, MNT_DETACH)"), errno))
}

/// Devices that every container has (config-linux.md, "Default Devices").
pub(crate) const DEVICES: [(&str, (u64, u64)); 6] = [
    ("null", (1, 3)),
    ("zero", (1, 5)),
    ("full", (1, 7)),
    ("random", (1, 8)),
    ("urandom", (1, 9)),
    ("tty", (5, 0)),
];

/// Links that every container has (runtime-linux.md, "Dev symbolic links"), and the one to its terminals.
pub(crate) const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Lets the image's own /dev be seen, in place of what libcontainer made its devices in, and makes there what the image has
/// not got. What it has got is looked at later: a null device that is none is an error (V-11).
fn own_dev(above: &[String], devices: &[Device]) -> Result<(), Failure> {
    let lifted = lift(above)?;
    detach(Path::new("/dev"))?;
    let root = root()?;
    let directory = directory(&root, Path::new("/dev"))?;
    let is_there = |outcome: nix::Result<()>, name: &str| match outcome {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(CallError::new(format!("make /dev/{name}"), errno)),
    };
    let mode = Mode::from_bits_truncate(0o666);
    for (name, (major, minor)) in DEVICES {
        let made = mknodat(&directory, name, SFlag::S_IFCHR, mode, makedev(major, minor));
        // The umask took some of it.
        let made = made.and_then(|()| {
            fchmodat(
                &directory,
                name,
                mode,
                nix::sys::stat::FchmodatFlags::FollowSymlink,
            )
        });
        is_there(made, name)?;
    }
    for (name, target) in LINKS {
        is_there(nix::unistd::symlinkat(target, &directory, name), name)?;
    }
    for device in devices.iter().filter(|device| is_below_dev(&device.path)) {
        make_device(&root, Path::new(&device.path), device)?;
    }
    lifted.iter().try_for_each(|(path, copy)| mount_tree(copy, path))
}

/// Finds where a tree is to be mounted, and makes it if it is not there: a directory for a directory, an empty file
/// for anything else.
fn make_destination(destination: &Path, tree: &OwnedFd) -> Result<OwnedFd, Failure> {
    let root = root()?;
    match file::find_in_root(&root, destination) {
        Err(error) if error.errno == Errno::ENOENT => {}
        found => return Ok(found?),
    }
    let stat = fstat(tree).map_err(|errno| CallError::new("fstat(tree)", errno))?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR {
        return directory(&root, destination);
    }
    empty_file(&root, destination)?;
    Ok(file::find_in_root(&root, destination)?)
}

/// Makes an empty file in the root, and the directories above it that are missing.
pub(crate) fn empty_file(root: &OwnedFd, path: &Path) -> Result<(), Failure> {
    let (parent, name) = parent_and_name(root, path)?;
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    nix::fcntl::openat(&parent, &name, flags, Mode::from_bits_truncate(0o644))
        .map_err(|errno| CallError::new(format!("openat({path:?}, O_CREAT)"), errno))?;
    Ok(())
}

/// Finds a directory in the root, making what is missing of it.
pub(crate) fn directory(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Failure> {
    let mut place = root
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| Failure::Other(error.to_string()))?;
    let mut walked = PathBuf::from("/");
    for component in path.components() {
        let name = match component {
            Component::Normal(name) => name,
            Component::RootDir | Component::CurDir => continue,
            _ => {
                return Err(Failure::Other(format!("{path:?} has \"..\" in it")));
            }
        };
        walked.push(name);
        place = match file::find_in_root(root, &walked) {
            Err(error) if error.errno == Errno::ENOENT => {
                // Beneath what was just found: a link that leads nowhere is an error (EEXIST), not followed.
                mkdirat(&place, name, Mode::from_bits_truncate(0o755))
                    .map_err(|errno| CallError::new(format!("mkdirat({walked:?})"), errno))?;
                file::find_in_root(root, &walked)?
            }
            found => found?,
        };
    }
    Ok(place)
}

fn parent_and_name(root: &OwnedFd, path: &Path) -> Result<(OwnedFd, PathBuf), Failure> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Failure::Other(format!("{path:?} is no path of a file")));
    };
    Ok((directory(root, parent)?, PathBuf::from(name)))
}

/// Makes a device that libcontainer does not make, and sees that each one is what was judged: kind and numbers, as
/// they are in the finished container. Its path alone says nothing.
fn finish_device(device: &Device) -> Result<(), Failure> {
    // Without a slash at its end, which would ask for a directory.
    let path: PathBuf = Path::new(&device.path).components().collect();
    let path = path.as_path();
    let root = root()?;
    if !is_below_dev(&device.path) {
        make_device(&root, path, device)?;
    }
    let found = mount::place(file::find_in_root(&root, path)?)?;
    let number = |given: Option<&i64>| given.and_then(|&number| u32::try_from(number).ok()).unwrap_or(0);
    let wanted = (number(device.major.value()), number(device.minor.value()));
    let kind = kind_of(device)?;
    if found.file_type != kind.bits() || (kind != SFlag::S_IFIFO && found.device != wanted) {
        return Err(Failure::Other(format!(
            "linux.devices: {path:?} is not the {:?} device {}:{} that was asked for: another file is there",
            device.kind, wanted.0, wanted.1
        )));
    }
    Ok(())
}

fn make_device(root: &OwnedFd, path: &Path, device: &Device) -> Result<(), Failure> {
    let (parent, name) = parent_and_name(root, path)?;
    let number = |given: Option<&i64>| given.and_then(|&number| u64::try_from(number).ok()).unwrap_or(0);
    let numbers = makedev(number(device.major.value()), number(device.minor.value()));
    let mode = Mode::from_bits_truncate(device.file_mode.value().copied().unwrap_or(0o666));
    match mknodat(&parent, &name, kind_of(device)?, mode, numbers) {
        Ok(()) => {}
        // What it is, is looked at by the caller.
        Err(Errno::EEXIST) => return Ok(()),
        Err(errno) => return Err(CallError::new(format!("mknodat({path:?}, {numbers:#x})"), errno).into()),
    }
    // The umask took some of it.
    fchmodat(&parent, &name, mode, nix::sys::stat::FchmodatFlags::FollowSymlink)
        .map_err(|errno| CallError::new(format!("fchmodat({path:?})"), errno))?;
    let (uid, gid) = (device.uid.value(), device.gid.value());
    fchownat(
        &parent,
        &name,
        uid.map(|&id| Uid::from_raw(id)),
        gid.map(|&id| Gid::from_raw(id)),
        nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW,
    )
    .map_err(|errno| CallError::new(format!("fchownat({path:?})"), errno).into())
}

fn kind_of(device: &Device) -> Result<SFlag, Failure> {
    match device.kind.as_str() {
        "c" | "u" => Ok(SFlag::S_IFCHR),
        "b" => Ok(SFlag::S_IFBLK),
        "p" => Ok(SFlag::S_IFIFO),
        other => Err(Failure::Other(format!(
            "linux.devices: {:?} has the type {other:?}; types are \"c\", \"u\", \"b\" and \"p\"",
            device.path
        ))),
    }
}

#[cfg(test)]
mod tests {
    use gabion_baseline::Allegation;

    use super::*;

    fn mount(text: &str) -> Mount {
        let text = format!(r#"{{"ociVersion":"1.0.2","mounts":[{text}]}}"#);
        Allegation::parse(text.as_bytes())
            .unwrap()
            .config()
            .mounts
            .items()[0]
            .clone()
    }

    /// Attributes, propagation, and whether the mounts below are meant, for each step.
    fn planned(text: &str) -> Vec<(u64, Option<Propagation>, bool)> {
        of_mount(&mount(text), "/v", None, Rewrite::default())
            .into_iter()
            .map(|step| (step.attributes, step.propagation, step.recursive))
            .collect()
    }

    #[test]
    fn the_last_propagation_option_counts() {
        assert_eq!(
            planned(
                r#"{"destination":"/v","type":"bind","source":"/s","options":["rbind","rslave","rprivate"]}"#
            ),
            [(0, Some(Propagation::Private), true)]
        );
        assert_eq!(
            planned(r#"{"destination":"/v","type":"bind","source":"/s","options":["bind","slave"]}"#),
            [(0, Some(Propagation::Slave), false)]
        );
    }

    #[test]
    fn a_cgroup_mount_gets_the_options_it_asks_for_with_all_its_hierarchies() {
        assert_eq!(
            planned(
                r#"{"destination":"/sys/fs/cgroup","type":"cgroup","source":"cgroup","options":["ro","nosuid","dev"]}"#
            ),
            [(attribute::RDONLY | attribute::NOSUID, None, true)]
        );
        assert_eq!(
            planned(r#"{"destination":"/sys/fs/cgroup","type":"cgroup","options":["rw"]}"#),
            []
        );
    }

    #[test]
    fn other_mounts_get_only_what_the_engine_does_not_do() {
        assert_eq!(
            planned(r#"{"destination":"/v","type":"tmpfs","options":["ro","nosuid"]}"#),
            []
        );
        assert_eq!(
            planned(r#"{"destination":"/v","type":"tmpfs","options":["ro","nosymfollow","rprivate"]}"#),
            [
                (attribute::NOSYMFOLLOW, None, false),
                (0, Some(Propagation::Private), true)
            ]
        );
        assert_eq!(
            planned(r#"{"destination":"/v","type":"tmpfs","options":["nosymfollow","symfollow"]}"#),
            []
        );
        assert_eq!(
            planned(r#"{"destination":"/v","type":"tmpfs","options":["remount","noexec","ro"]}"#),
            [(attribute::RDONLY | attribute::NOEXEC, None, false)]
        );
    }

    #[test]
    fn recursive_attributes_are_told_from_single_ones() {
        let options =
            r#"{"destination":"/v","type":"bind","options":["rbind","rro","nosuid","rnodev","rdev"]}"#;
        assert_eq!(
            attributes_of(&mount(options)),
            (attribute::NOSUID, attribute::RDONLY)
        );
    }
}
