//! The runtime's own program, out of the container's reach (CVE-2019-5736, rule HOST-03).
//!
//! While the init process is still the runtime, `/proc/<pid>/exe` leads to the runtime's file. A container that
//! shares its pid namespace, or that makes its own entry point lead there, could open it and, once it no longer
//! runs, write to it: the next container's runtime would be the attacker's. So whatever enters a container runs
//! from a copy that nobody can write:
//!
//! - a read-only overlay mounted nowhere, whose only use is to execute the file in it: writing through it is
//!   refused by the overlay itself, whatever is done to mounts (Linux 5.2);
//! - where that cannot be made (no CAP_SYS_ADMIN, no overlayfs), a sealed memfd (memfd_create(2)), which costs
//!   copying the file.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use gabion_sys::CallError;
use gabion_sys::early::MARKER;
use gabion_sys::mount::{self, attribute};
use nix::fcntl::{FcntlArg, OFlag, OpenHow, ResolveFlag, SealFlag, fcntl, openat2};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::fstat;
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, fstatfs};
use nix::sys::statvfs::{FsFlags, fstatvfs};

use crate::error::{ContainerError, Result};

/// How the running program is sealed, if it is.
///
/// # Errors
/// If /proc/self/exe cannot be looked at.
pub fn sealed() -> Result<Option<&'static str>> {
    let path = Path::new("/proc/self/exe");
    let program = File::open(path).map_err(ContainerError::file("cannot open", path))?;
    if let Ok(seals) = fcntl(&program, FcntlArg::F_GET_SEALS)
        && SealFlag::from_bits_truncate(seals).contains(seals_wanted())
    {
        return Ok(Some("a sealed memfd"));
    }
    let system = fstatfs(&program).map_err(ContainerError::call("fstatfs(/proc/self/exe)"))?;
    let flags = fstatvfs(&program)
        .map_err(ContainerError::call("fstatvfs(/proc/self/exe)"))?
        .flags();
    // The host's own root may be an overlay: ours is read-only and its file lies right at its root.
    let at_root = fs::read_link(path).is_ok_and(|target| target.parent() == Some(Path::new("/")));
    if system.filesystem_type() == OVERLAYFS_SUPER_MAGIC && flags.contains(FsFlags::ST_RDONLY) && at_root {
        return Ok(Some("a read-only overlay"));
    }
    Ok(None)
}

fn seals_wanted() -> SealFlag {
    SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE
}

/// Where the program is installed, if it is the sealed copy that runs: whoever can write there replaces it.
pub fn installed() -> Option<PathBuf> {
    std::env::var_os(MARKER).map(PathBuf::from)
}

/// Returns if the running program is sealed; otherwise executes it again from a sealed copy.
///
/// # Errors
/// If no sealed copy can be made: then no container is.
pub fn ensure() -> Result<()> {
    if sealed()?.is_some() {
        return Ok(());
    }
    if std::env::var_os(MARKER).is_some() {
        return Err(ContainerError::Other(format!(
            "the runtime's program is not sealed although it was executed from a sealed copy; if {MARKER} was set by \
             the caller, unset it"
        )));
    }
    let path =
        fs::read_link("/proc/self/exe").map_err(ContainerError::file("cannot read", "/proc/self/exe"))?;
    let copy = match overlay(&path) {
        Ok(copy) => copy,
        Err(error) => {
            tracing::debug!(%error, "no overlay for the runtime's program; copying it");
            memfd()?
        }
    };
    let text = |value: OsString| {
        CString::new(value.into_vec())
            .map_err(|_| ContainerError::Other("an argument holds a NUL byte".to_owned()))
    };
    let arguments = std::env::args_os().map(text).collect::<Result<Vec<_>>>()?;
    let mut environment = std::env::vars_os()
        .map(|(mut key, value)| {
            key.push("=");
            key.push(value);
            text(key)
        })
        .collect::<Result<Vec<_>>>()?;
    let mut marker = OsString::from(MARKER);
    marker.push("=");
    marker.push(&path);
    environment.push(text(marker)?);
    match nix::unistd::fexecve(copy.as_fd(), &arguments, &environment) {
        Ok(never) => match never {},
        Err(errno) => Err(ContainerError::call("fexecve(sealed copy)")(errno)),
    }
}

/// The program in a read-only overlay over its directory, mounted nowhere.
fn overlay(program: &Path) -> Result<OwnedFd> {
    let (Some(directory), Some(name)) = (program.parent(), program.file_name()) else {
        return Err(ContainerError::Other(format!("{program:?} has no directory")));
    };
    // An overlay without an upper layer needs two lower ones; the second is any directory that neither holds the
    // first nor lies in it. Nobody ever looks into it.
    let second = ["/etc", "/run", "/usr"]
        .into_iter()
        .map(Path::new)
        .find(|other| other.is_dir() && !directory.starts_with(other) && !other.starts_with(directory))
        .ok_or_else(|| ContainerError::Other("there is no second directory for an overlay".to_owned()))?;
    let layers = format!("{}:{}", escaped(directory)?, escaped(second)?);
    let layers =
        CString::new(layers).map_err(|_| ContainerError::Other("a path holds a NUL byte".to_owned()))?;
    let attributes = attribute::RDONLY | attribute::NOSUID | attribute::NODEV;
    let root = mount::detached(c"overlay", &[], &[(c"lowerdir", &layers)], attributes)?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV);
    let copy = openat2(&root, Path::new(name), how)
        .map_err(|errno| CallError::new(format!("openat2(overlay, {name:?})"), errno))?;
    same_content(&copy)?;
    Ok(copy)
}

/// The layers' separators in a path are escaped (Documentation/filesystems/overlayfs.rst).
fn escaped(path: &Path) -> Result<String> {
    let text = path
        .to_str()
        .ok_or_else(|| ContainerError::Other(format!("{path:?} is not UTF-8")))?;
    Ok(text.replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,"))
}

/// The path may have been replaced since this program was started: what is sealed must be what runs.
fn same_content(copy: &OwnedFd) -> Result<()> {
    let running =
        File::open("/proc/self/exe").map_err(ContainerError::file("cannot open", "/proc/self/exe"))?;
    let running = fstat(&running).map_err(ContainerError::call("fstat(/proc/self/exe)"))?;
    let copied = fstat(copy).map_err(ContainerError::call("fstat(overlay)"))?;
    let identity =
        |stat: &nix::sys::stat::FileStat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec, stat.st_ino);
    if identity(&running) == identity(&copied) {
        return Ok(());
    }
    Err(ContainerError::Other(
        "the runtime's file was replaced while it was being started".to_owned(),
    ))
}

/// The program in memory that nobody can write.
fn memfd() -> Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let memory = memfd_create(c"gabion", flags | MFdFlags::from_bits_retain(nix::libc::MFD_EXEC))
        // MFD_EXEC is of Linux 6.3; before it, every memfd could be executed.
        .or_else(|_| memfd_create(c"gabion", flags))
        .map_err(ContainerError::call("memfd_create()"))?;
    let mut source =
        File::open("/proc/self/exe").map_err(ContainerError::file("cannot open", "/proc/self/exe"))?;
    let mut target = File::from(memory);
    std::io::copy(&mut source, &mut target).map_err(ContainerError::file("cannot copy", "/proc/self/exe"))?;
    fcntl(&target, FcntlArg::F_ADD_SEALS(seals_wanted()))
        .map_err(ContainerError::call("fcntl(F_ADD_SEALS)"))?;
    // A descriptor that is open for writing cannot be executed (ETXTBSY does not apply to memfds, but a
    // read-only one is what should be held from here on).
    let again = PathBuf::from(format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&target)
    ));
    File::open(&again)
        .map(OwnedFd::from)
        .map_err(ContainerError::file("cannot reopen", again))
}

/// The program's name for lists of processes: executed by descriptor, it would be called by a number.
///
/// # Errors
/// None is known.
pub fn name_process() -> Result<()> {
    let name = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&name)
        .file_name()
        .unwrap_or(OsStr::new("gabion"))
        .as_bytes()
        .to_vec();
    let name = CString::new(name).unwrap_or_default();
    nix::sys::prctl::set_name(&name).map_err(ContainerError::call("prctl(PR_SET_NAME)"))
}
