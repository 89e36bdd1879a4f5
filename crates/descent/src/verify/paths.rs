//! Paths of the container: where the process is and what its root is (V-07, V-12), what is masked and read-only
//! (V-08, V-09), and the directories and nodes that everything else relies on (V-11).

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gabion_sys::CallError;
use gabion_sys::mount::{self, Place};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, TMPFS_MAGIC, fstatfs};
use nix::sys::statvfs::{FsFlags, fstatvfs};

use crate::plan::Plan;
use crate::procfs::Procfs;
use crate::report::Failure;

/// Paths that are covered by a mount of their own, each with that mount's id, in the order of the bundle.
#[derive(Debug, Default)]
pub(crate) struct Covered {
    pub(crate) masked: Vec<(String, u64)>,
    pub(crate) readonly: Vec<(String, u64)>,
}

/// V-07: the working directory is the one that was asked for, and lies in the container's root: walking up from
/// it arrives there (CVE-2024-21626 began in a directory of the host).
pub(crate) fn working_directory(plan: &Plan) -> Result<(), Failure> {
    let path = nix::unistd::getcwd().map_err(|errno| {
        Failure::mismatch(
            "V-07",
            format!("the working directory has no path: {}", errno.desc()),
        )
    })?;
    if !path.is_absolute() {
        return Err(Failure::mismatch(
            "V-07",
            format!("the working directory {path:?} is outside the container"),
        ));
    }
    let open_directory = |at: BorrowedFd<'_>, name: &CStr| {
        openat(
            at,
            name,
            OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .map_err(|errno| CallError::new(format!("openat({name:?})"), errno))
    };
    let root = mount::place(open_directory(nix::fcntl::AT_FDCWD, c"/")?)?;
    let mut directory = open_directory(nix::fcntl::AT_FDCWD, c".")?;
    let mut here = mount::place(&directory)?;
    let asked = mount::place(open_directory(nix::fcntl::AT_FDCWD, &plan.directory)?)?;
    if !same(&here, &asked) {
        return Err(Failure::mismatch(
            "V-07",
            format!("the working directory is {path:?}, not {:?}", plan.directory),
        ));
    }
    // Deeper than PATH_MAX allows is no honest directory.
    for _ in 0..4096 {
        if same(&here, &root) {
            return Ok(());
        }
        directory = open_directory(directory.as_fd(), c"..")?;
        let above = mount::place(&directory)?;
        if same(&above, &here) {
            break;
        }
        here = above;
    }
    Err(Failure::mismatch(
        "V-07",
        format!("the way up from the working directory {path:?} does not lead to the root"),
    ))
}

fn same(one: &Place, other: &Place) -> bool {
    (one.mount_id, one.inode) == (other.mount_id, other.inode)
}

/// Opens a path of the container for looking at; `None` if nothing is there.
fn look(check: &str, path: &CStr) -> Result<Option<OwnedFd>, Failure> {
    match openat(
        nix::fcntl::AT_FDCWD,
        path,
        OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
        Mode::empty(),
    ) {
        Ok(file) => Ok(Some(file)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(errno) => Err(Failure::mismatch(
            check,
            format!("{path:?} cannot be looked at: {}", errno.desc()),
        )),
    }
}

/// V-08: each masked path is covered: a directory by an empty read-only tmpfs, anything else by a null device
/// (CVE-2025-31133 put other files there). A path that does not exist needs no cover.
///
/// All are looked at, whatever is found, and noted in `covered`; the first difference is the error.
pub(crate) fn masked(plan: &Plan, covered: &mut Covered) -> Result<(), Failure> {
    let mut first = Ok(());
    for path in &plan.masked_paths {
        let Some(file) = look("V-08", path)? else { continue };
        let place = mount::place(&file)?;
        let is_masked = if place.file_type == nix::libc::S_IFDIR {
            let system =
                fstatfs(&file).map_err(|errno| CallError::new(format!("fstatfs({path:?})"), errno))?;
            place.is_mount_root && system.filesystem_type() == TMPFS_MAGIC && is_readonly(&file, path)?
        } else {
            // The device's number alone would be true of a bound regular file only by accident of rdev 0:0.
            place.is_mount_root && place.file_type == nix::libc::S_IFCHR && place.device == (1, 3)
        };
        if place.is_mount_root {
            covered
                .masked
                .push((path.to_string_lossy().into_owned(), place.mount_id));
        }
        if !is_masked {
            first = first.and(Err(Failure::mismatch("V-08", format!("{path:?} is not masked"))));
        }
    }
    first
}

/// V-09: each read-only path is a read-only mount of its own, or is masked. As [`masked`].
pub(crate) fn readonly(plan: &Plan, covered: &mut Covered) -> Result<(), Failure> {
    let mut first = Ok(());
    for path in &plan.readonly_paths {
        let Some(file) = look("V-09", path)? else { continue };
        let place = mount::place(&file)?;
        // The root is no mount of its own for being read-only: it is one anyway.
        if path.as_c_str() != c"/" && place.is_mount_root {
            covered
                .readonly
                .push((path.to_string_lossy().into_owned(), place.mount_id));
        }
        if plan.masked_paths.contains(path) {
            continue;
        }
        let system = fstatfs(&file).map_err(|errno| CallError::new(format!("fstatfs({path:?})"), errno))?;
        let why = if !is_readonly(&file, path)? {
            "read-only"
        } else if !place.is_mount_root {
            "a mount of its own"
        } else if path.to_bytes().starts_with(b"/proc/") && system.filesystem_type() != PROC_SUPER_MAGIC {
            "on a procfs"
        } else {
            continue;
        };
        first = first.and(Err(Failure::mismatch("V-09", format!("{path:?} is not {why}"))));
    }
    first
}

fn is_readonly(file: impl AsFd, path: &CStr) -> Result<bool, Failure> {
    let flags = fstatvfs(file)
        .map_err(|errno| CallError::new(format!("fstatvfs({path:?})"), errno))?
        .flags();
    Ok(flags.contains(FsFlags::ST_RDONLY))
}

/// The nodes that every container has (config-linux.md, "Default Devices").
const NODES: [(&CStr, (u32, u32)); 6] = [
    (c"/dev/null", (1, 3)),
    (c"/dev/zero", (1, 5)),
    (c"/dev/full", (1, 7)),
    (c"/dev/random", (1, 8)),
    (c"/dev/urandom", (1, 9)),
    (c"/dev/tty", (5, 0)),
];

/// V-11, the directories that other checks and every program rely on: none is a link, by which the image could lead
/// elsewhere (CVE-2026-41579), and /proc is the procfs of this very pid namespace.
pub(crate) fn directories(plan: &Plan, procfs: &Procfs) -> Result<(), Failure> {
    for path in [c"/dev", c"/proc", c"/sys"] {
        let Some(file) = look("V-11", path)? else { continue };
        let place = mount::place(&file)?;
        if place.file_type != nix::libc::S_IFDIR {
            return Err(Failure::mismatch("V-11", format!("{path:?} is not a directory")));
        }
    }
    let is_expected = plan.mounts.as_ref().is_some_and(|table| {
        table
            .mounts
            .iter()
            .any(|mount| mount.destination.as_c_str() == c"/proc")
    });
    if !is_expected || procfs.process() != nix::unistd::getpid() {
        return Ok(());
    }
    let own = nix::unistd::getpid().to_string();
    match nix::fcntl::readlink(c"/proc/self") {
        Ok(target) if target.to_string_lossy() == own => Ok(()),
        Ok(target) => Err(Failure::mismatch(
            "V-11",
            format!(
                "/proc is the procfs of another pid namespace: this process is {target:?} there, and {own} here"
            ),
        )),
        Err(errno) => Err(Failure::mismatch(
            "V-11",
            format!("/proc does not know this process: {}", errno.desc()),
        )),
    }
}

/// V-11, the nodes: what is called a null device is one.
pub(crate) fn nodes() -> Result<(), Failure> {
    for (path, number) in NODES {
        let Some(file) = look("V-11", path)? else {
            return Err(Failure::mismatch("V-11", format!("{path:?} is not there")));
        };
        let place = mount::place(&file)?;
        if place.file_type != nix::libc::S_IFCHR || place.device != number {
            return Err(Failure::mismatch(
                "V-11",
                format!("{path:?} is not the character device {}:{}", number.0, number.1),
            ));
        }
    }
    Ok(())
}

/// V-12: the root is that of the mount namespace, and nothing is above it. A process whose root is only changed
/// (chroot(2)) can leave it, or be led out of it through any directory that lies outside.
///
/// Entering a mount namespace, also the one that a process is in, moves it to that namespace's root (setns(2)): if it
/// is then where it was, there is no other.
pub(crate) fn root(procfs: &Procfs) -> Result<(), Failure> {
    let open = |path: &'static CStr, flags| {
        openat(AT_FDCWD, path, flags | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|errno| CallError::new(format!("open({path:?})"), errno))
    };
    let directory = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let before = mount::place(open(c"/", directory)?)?;
    let working_directory = open(c".", directory)?;
    let namespace = procfs.open_namespace("mnt")?;
    setns(&namespace, CloneFlags::CLONE_NEWNS)
        .map_err(|errno| CallError::new("setns(the own mount namespace)", errno))?;
    let after = mount::place(open(c"/", directory)?)?;
    if !same(&before, &after) {
        return Err(Failure::mismatch(
            "V-12",
            "the root is not that of the mount namespace: what is outside of it is within reach",
        ));
    }
    nix::unistd::fchdir(&working_directory)
        .map_err(|errno| CallError::new("fchdir(the working directory)", errno))?;
    Ok(())
}
