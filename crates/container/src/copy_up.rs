//! `tmpcopyup`: a tmpfs that begins with what the image has at its place.
//!
//! It happens when everything is mounted, so that the lookups of later mounts found an empty file system, and no link
//! that the image's author placed. What is there by then, such as the file that a later mount is on, stays as it is.
//!
//! The image's files are read through a copy of the root's mount alone, in which nothing is mounted, and every
//! component is opened without following links. Directories, regular files and links are copied, with mode and owner;
//! devices, FIFOs, sockets and extended attributes are not.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use gabion_descent::Failure;
use gabion_sys::{CallError, file, mount};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, fchown, fchownat, symlinkat};

/// Directories in directories, before it is taken for an attempt to exhaust the runtime.
const DEPTH: usize = 64;

/// Fills the tmpfs at `destination` of `root`.
///
/// `keep_mode` and `keep_owner` say that the mount's own options set those of its directory.
///
/// # Preconditions
/// The calling process is in the container's mount namespace and root, with all privileges that it was built with.
///
/// # Errors
/// What could not be copied; another mount that lies over the tmpfs.
pub(crate) fn copy_up(
    root: &OwnedFd,
    destination: &Path,
    keep_mode: bool,
    keep_owner: bool,
) -> Result<(), Failure> {
    let image = mount::copy_tree(root, false)?;
    let source = match file::find_in_root(&image, destination) {
        Ok(source) => source,
        Err(error) if error.errno == Errno::ENOENT => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let stat = stat_of(&source)?;
    if kind(&stat) != SFlag::S_IFDIR {
        return Ok(());
    }
    let target = file::find_in_root(root, destination)?;
    let system = nix::sys::statfs::fstatfs(&target)
        .map_err(|errno| CallError::new(format!("fstatfs({destination:?})"), errno))?;
    if system.filesystem_type() != nix::sys::statfs::TMPFS_MAGIC {
        return Err(Failure::Other(format!(
            "mounts: the tmpfs at {destination:?} cannot be filled (tmpcopyup): another mount lies over it"
        )));
    }
    let (source, target) = (opened(&source, c".")?, opened(&target, c".")?);
    let device = stat_of(&target)?.st_dev;
    let copied = copy_directory(source, &target, device, 0).and_then(|()| {
        if !keep_owner {
            own(&target, &stat)?;
        }
        if keep_mode {
            Ok(())
        } else {
            set_mode(&target, &stat)
        }
    });
    copied.map_err(|failure| match failure {
        Failure::Other(text) => Failure::Other(text),
        other => Failure::Other(format!(
            "mounts: the tmpfs at {destination:?} cannot be filled (tmpcopyup): {other}"
        )),
    })
}

/// Copies what is in a directory. `device` is the tmpfs: what is on another one was mounted there meanwhile.
fn copy_directory(source: OwnedFd, target: &OwnedFd, device: u64, depth: usize) -> Result<(), Failure> {
    if depth > DEPTH {
        return Err(Failure::Other(format!(
            "mounts: tmpcopyup: the image has more than {DEPTH} directories in one another"
        )));
    }
    let mut entries = Dir::from_fd(source).map_err(|errno| CallError::new("fdopendir(image)", errno))?;
    let names = entries
        .iter()
        .map(|entry| entry.map(|entry| entry.file_name().to_owned()))
        .filter(|name| !matches!(name, Ok(name) if name.as_c_str() == c"." || name.as_c_str() == c".."))
        .collect::<Result<Vec<CString>, Errno>>()
        .map_err(|errno| CallError::new("getdents64(image)", errno))?;
    let directory = entries.as_fd();
    for name in &names {
        let stat = fstatat(directory, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(|errno| CallError::new(format!("fstatat({name:?})"), errno))?;
        match kind(&stat) {
            SFlag::S_IFDIR => {
                match mkdirat(target, name.as_c_str(), Mode::S_IRWXU) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(errno) => return Err(CallError::new(format!("mkdirat({name:?})"), errno).into()),
                }
                let below = opened(target, name)?;
                if stat_of(&below)?.st_dev == device {
                    copy_directory(opened(&directory, name)?, &below, device, depth + 1)?;
                    own(&below, &stat)?;
                    set_mode(&below, &stat)?;
                }
            }
            SFlag::S_IFREG => copy_file(&directory, target, name, &stat)?,
            SFlag::S_IFLNK => copy_link(&directory, target, name, &stat)?,
            _ => {}
        }
    }
    Ok(())
}

fn copy_file(directory: &impl AsFd, target: &OwnedFd, name: &CStr, stat: &FileStat) -> Result<(), Failure> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let create = flags | OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    let new = match openat(target, name, create, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(new) => new,
        Err(Errno::EEXIST) => return Ok(()),
        Err(errno) => return Err(CallError::new(format!("openat({name:?}, O_CREAT)"), errno).into()),
    };
    let old = openat(
        directory,
        name,
        flags | OFlag::O_RDONLY | OFlag::O_NONBLOCK,
        Mode::empty(),
    )
    .map_err(|errno| CallError::new(format!("openat({name:?})"), errno))?;
    let mut new = File::from(new);
    std::io::copy(&mut File::from(old), &mut new)
        .map_err(|error| Failure::Other(format!("mounts: tmpcopyup: {name:?} cannot be copied: {error}")))?;
    own(&new, stat)?;
    set_mode(&new, stat)
}

fn copy_link(directory: &impl AsFd, target: &OwnedFd, name: &CStr, stat: &FileStat) -> Result<(), Failure> {
    let link = readlinkat(directory, name)
        .map_err(|errno| CallError::new(format!("readlinkat({name:?})"), errno))?;
    match symlinkat(link.as_os_str(), target, name) {
        Ok(()) => {}
        Err(Errno::EEXIST) => return Ok(()),
        Err(errno) => return Err(CallError::new(format!("symlinkat({name:?})"), errno).into()),
    }
    let (user, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    unless_unmapped(fchownat(
        target,
        name,
        Some(user),
        Some(group),
        AtFlags::AT_SYMLINK_NOFOLLOW,
    ))
}

fn own(file: &impl AsFd, stat: &FileStat) -> Result<(), Failure> {
    unless_unmapped(fchown(
        file,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    ))
}

/// In a user namespace some owner of the image may have no id: the copy then belongs to the container's root.
fn unless_unmapped(outcome: nix::Result<()>) -> Result<(), Failure> {
    match outcome {
        Ok(()) | Err(Errno::EINVAL) => Ok(()),
        Err(errno) => Err(CallError::new("fchown(copy)", errno).into()),
    }
}

/// After the owner was set, which takes set-user-ID away.
fn set_mode(file: &impl AsFd, stat: &FileStat) -> Result<(), Failure> {
    fchmod(file, Mode::from_bits_truncate(stat.st_mode))
        .map_err(|errno| CallError::new("fchmod(copy)", errno).into())
}

fn opened(directory: &impl AsFd, name: &CStr) -> Result<OwnedFd, CallError> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(directory, name, flags, Mode::empty())
        .map_err(|errno| CallError::new(format!("openat({name:?}, O_DIRECTORY)"), errno))
}

fn stat_of(file: &impl AsFd) -> Result<FileStat, CallError> {
    fstat(file).map_err(|errno| CallError::new("fstat(copy)", errno))
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}
