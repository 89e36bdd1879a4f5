//! The reality gate: the kernel's own state, read back and compared with what was promised.
//!
//! Each function is one check of the catalogue (docs/verification.md). A difference is a
//! [`Failure::Mismatch`] with the check's id; a state that cannot be read is a failure as well.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gabion_sys::capability::{self, CapabilitySets};
use gabion_sys::mount::{self, Place};
use gabion_sys::{CallError, process, seccomp};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, openat};
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, TMPFS_MAGIC, fstatfs};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::{getgroups, getresgid, getresuid};

use crate::drop::final_sets;
use crate::plan::{Plan, SecurityLabel};
use crate::procfs::Procfs;
use crate::report::Failure;

/// V-01: the capability sets are the plan's, and so will be what execve makes of them.
pub(crate) fn capabilities(plan: &Plan) -> Result<(), Failure> {
    let wanted = final_sets(plan);
    let found = capability::read()?;
    let differs = |name: &str, wanted: u64, found: u64| {
        if wanted == found {
            return Ok(());
        }
        Err(Failure::mismatch(
            "V-01",
            format!("{name} capabilities are {found:#x}, not {wanted:#x}"),
        ))
    };
    differs("bounding", wanted.bounding, found.bounding)?;
    differs("inheritable", wanted.inheritable, found.inheritable)?;
    differs("permitted", wanted.permitted, found.permitted)?;
    differs("effective", wanted.effective, found.effective)?;
    differs("ambient", wanted.ambient, found.ambient)?;
    let after = after_execve(&found, plan);
    let allowed = plan.capabilities.bounding | plan.capabilities.permitted | plan.capabilities.ambient;
    if after & !allowed != 0 {
        return Err(Failure::mismatch(
            "V-01",
            format!(
                "execve would give {after:#x}, of which {:#x} was not granted",
                after & !allowed
            ),
        ));
    }
    Ok(())
}

/// What execve of a file without capabilities makes of `permitted` (capabilities(7)): for root, everything
/// inheritable or in the bounding set, and with no_new_privs no more than before; for others, the ambient set.
fn after_execve(sets: &CapabilitySets, plan: &Plan) -> u64 {
    if plan.user.uid != 0 {
        return sets.ambient;
    }
    let gained = sets.inheritable | sets.bounding;
    if plan.no_new_privileges {
        gained & sets.permitted
    } else {
        gained
    }
}

/// V-02: no_new_privs is as promised, no securebits change what root means, and no other process of this user
/// can look into this one while it is still the runtime.
pub(crate) fn privileges(plan: &Plan) -> Result<(), Failure> {
    let found = nix::sys::prctl::get_no_new_privs()
        .map_err(|errno| CallError::new("prctl(PR_GET_NO_NEW_PRIVS)", errno))?;
    // More is not less: a runtime that was itself started with no_new_privs cannot take it off.
    if plan.no_new_privileges && !found {
        return Err(Failure::mismatch("V-02", "no_new_privs is not set"));
    }
    // SECBIT_KEEP_CAPS (bit 4) is ours, and execve clears it.
    let bits = capability::securebits()? & !(1 << 4);
    if bits != 0 {
        return Err(Failure::mismatch(
            "V-02",
            format!("securebits are {bits:#x}, not 0"),
        ));
    }
    if nix::sys::prctl::get_dumpable().map_err(|errno| CallError::new("prctl(PR_GET_DUMPABLE)", errno))? {
        return Err(Failure::mismatch(
            "V-02",
            "the init process is dumpable before execve",
        ));
    }
    Ok(())
}

/// V-03: real, effective and saved ids, and the supplementary groups.
pub(crate) fn user(plan: &Plan) -> Result<(), Failure> {
    let user = &plan.user;
    let uids = getresuid().map_err(|errno| CallError::new("getresuid()", errno))?;
    let gids = getresgid().map_err(|errno| CallError::new("getresgid()", errno))?;
    let uids = [uids.real, uids.effective, uids.saved].map(nix::unistd::Uid::as_raw);
    let gids = [gids.real, gids.effective, gids.saved].map(nix::unistd::Gid::as_raw);
    if uids != [user.uid; 3] || gids != [user.gid; 3] {
        return Err(Failure::mismatch(
            "V-03",
            format!(
                "user ids are {uids:?} and group ids {gids:?}, not {} and {}",
                user.uid, user.gid
            ),
        ));
    }
    if user.can_set_groups {
        let groups = getgroups().map_err(|errno| CallError::new("getgroups()", errno))?;
        let found: BTreeSet<u32> = groups.into_iter().map(nix::unistd::Gid::as_raw).collect();
        let wanted: BTreeSet<u32> = user.groups.iter().copied().collect();
        if found != wanted {
            return Err(Failure::mismatch(
                "V-03",
                format!("supplementary groups are {found:?}, not {wanted:?}"),
            ));
        }
    }
    Ok(())
}

/// V-04: every namespace is the one that was judged: exactly that one, or a new one that is not the host's.
pub(crate) fn namespaces(plan: &Plan, procfs: &Procfs) -> Result<(), Failure> {
    for expected in &plan.namespaces {
        let file = expected.file;
        let Some(found) = procfs.namespace(file)? else {
            return Err(Failure::mismatch(
                "V-04",
                format!("this kernel has no {file} namespace"),
            ));
        };
        if let Some(wanted) = expected.exactly {
            if found != wanted {
                return Err(Failure::mismatch(
                    "V-04",
                    format!("the {file} namespace is {found}, not {wanted}"),
                ));
            }
        } else if expected.none_of.contains(&found) {
            return Err(Failure::mismatch(
                "V-04",
                format!("the {file} namespace is the host's ({found})"),
            ));
        }
    }
    Ok(())
}

/// The filters' state as the kernel shows it, opened while opening is still allowed.
#[derive(Debug)]
pub(crate) struct FilterStatus {
    file: OwnedFd,
    before: u64,
}

impl FilterStatus {
    pub(crate) fn open(procfs: &Procfs) -> Result<Self, Failure> {
        let file = procfs.open_self("status", OFlag::O_RDONLY)?;
        let before = status_field(file.as_fd(), b"Seccomp_filters:")?;
        Ok(FilterStatus { file, before })
    }
}

/// V-05: filter mode, one more filter for each that was loaded, and denied calls that are denied.
///
/// Where a filter does not let this process read its status or report, the kernel's answers to seccomp(2) are
/// all there is, and they were not errors.
pub(crate) fn filters(plan: &Plan, status: &FilterStatus) -> Result<(), Failure> {
    if plan.filters.is_empty() || !plan.filters_can_be_read_back {
        return Ok(());
    }
    let mode = seccomp::mode()?;
    if mode != 2 {
        return Err(Failure::mismatch(
            "V-05",
            format!("seccomp mode is {mode}, not 2"),
        ));
    }
    let found = status_field(status.file.as_fd(), b"Seccomp_filters:")?;
    let wanted = status.before + plan.filters.len() as u64;
    if found != wanted {
        return Err(Failure::mismatch(
            "V-05",
            format!("{found} filters are loaded, not {wanted}"),
        ));
    }
    for canary in &plan.canaries {
        let found = seccomp::probe(canary.number, canary.arguments)?;
        if found.map(|errno| errno as i32) != Some(canary.errno) {
            return Err(Failure::mismatch(
                "V-05",
                format!(
                    "{} gave {found:?}, not {:?}",
                    canary.name,
                    Errno::from_raw(canary.errno)
                ),
            ));
        }
    }
    Ok(())
}

/// Reads a number from /proc/self/status without allocating: a filter may already be loaded.
fn status_field(file: BorrowedFd<'_>, name: &[u8]) -> Result<u64, Failure> {
    let mut buffer = [0_u8; 4096];
    let length = nix::sys::uio::pread(file, &mut buffer, 0)
        .map_err(|errno| CallError::new("pread(procfs, status)", errno))?;
    let text = &buffer[..length];
    let value = text
        .split(|&byte| byte == b'\n')
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| std::str::from_utf8(rest).ok())
        .and_then(|rest| rest.trim().parse().ok());
    // Linux 5.9 is the first to count filters.
    value.ok_or_else(|| Failure::mismatch("V-05", "the kernel does not show how many filters are loaded"))
}

/// V-06, the part that needs no privilege: the label that was asked for is the one that execve will set.
pub(crate) fn label(plan: &Plan, procfs: &Procfs) -> Result<(), Failure> {
    let (path, wanted) = match &plan.label {
        None => return Ok(()),
        Some(SecurityLabel::AppArmor(profile)) => ("attr/apparmor/exec", profile),
        Some(SecurityLabel::Selinux(label)) => ("attr/exec", label),
    };
    let text = procfs
        .read_self(path)
        .or_else(|_| procfs.read_self("attr/exec"))?;
    let found = text.trim_end_matches(['\0', '\n']);
    // AppArmor shows the mode after the name: `docker-default (enforce)`.
    let name = found.split_once(" (").map_or(found, |(name, _)| name);
    if name != wanted && found != wanted {
        return Err(Failure::mismatch(
            "V-06",
            format!("the label at execve is {found:?}, not {wanted:?}"),
        ));
    }
    Ok(())
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
pub(crate) fn masked_paths(plan: &Plan) -> Result<(), Failure> {
    for path in &plan.masked_paths {
        let Some(file) = look("V-08", path)? else { continue };
        let place = mount::place(&file)?;
        let covered = if place.file_type == nix::libc::S_IFDIR {
            let system =
                fstatfs(&file).map_err(|errno| CallError::new(format!("fstatfs({path:?})"), errno))?;
            place.is_mount_root && system.filesystem_type() == TMPFS_MAGIC && is_readonly(&file, path)?
        } else {
            // The device's number alone would be true of a bound regular file only by accident of rdev 0:0.
            place.is_mount_root && place.file_type == nix::libc::S_IFCHR && place.device == (1, 3)
        };
        if !covered {
            return Err(Failure::mismatch("V-08", format!("{path:?} is not masked")));
        }
    }
    Ok(())
}

/// V-09: each read-only path is a read-only mount of its own, or is masked.
pub(crate) fn readonly_paths(plan: &Plan) -> Result<(), Failure> {
    for path in &plan.readonly_paths {
        if plan.masked_paths.contains(path) {
            continue;
        }
        let Some(file) = look("V-09", path)? else { continue };
        if !is_readonly(&file, path)? {
            return Err(Failure::mismatch("V-09", format!("{path:?} is not read-only")));
        }
        let place = mount::place(&file)?;
        if !place.is_mount_root {
            return Err(Failure::mismatch(
                "V-09",
                format!("{path:?} is not a mount of its own"),
            ));
        }
        let system = fstatfs(&file).map_err(|errno| CallError::new(format!("fstatfs({path:?})"), errno))?;
        if path.to_bytes().starts_with(b"/proc/") && system.filesystem_type() != PROC_SUPER_MAGIC {
            return Err(Failure::mismatch("V-09", format!("{path:?} is not on a procfs")));
        }
    }
    Ok(())
}

fn is_readonly(file: impl AsFd, path: &CStr) -> Result<bool, Failure> {
    let flags = fstatvfs(file)
        .map_err(|errno| CallError::new(format!("fstatvfs({path:?})"), errno))?
        .flags();
    Ok(flags.contains(FsFlags::ST_RDONLY))
}

/// V-13: no descriptor reaches the program but the standard three and those it is meant to get, and none of
/// the three is a directory (CVE-2024-21626, CVE-2016-9962).
pub(crate) fn descriptors(plan: &Plan, procfs: &Procfs) -> Result<(), Failure> {
    let directory = procfs.open_self("fd", OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
    let mut listing =
        nix::dir::Dir::from_fd(directory).map_err(|errno| CallError::new("fdopendir(procfs, fd)", errno))?;
    let kept = 3 + plan.preserved_descriptors as i32;
    for entry in listing.iter() {
        let entry = entry.map_err(|errno| CallError::new("readdir(procfs, fd)", errno))?;
        let Some(number) = entry
            .file_name()
            .to_str()
            .ok()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        if number < kept {
            continue;
        }
        let closes = gabion_sys::process::closes_on_exec(number)?;
        if closes == Some(false) {
            return Err(Failure::mismatch(
                "V-13",
                format!("descriptor {number} would stay open in the program"),
            ));
        }
    }
    for (number, stream) in [
        (0, std::io::stdin().as_fd()),
        (1, std::io::stdout().as_fd()),
        (2, std::io::stderr().as_fd()),
    ] {
        // A closed standard stream is the caller's choice.
        if fcntl(stream, FcntlArg::F_GETFD).is_err() {
            continue;
        }
        let place = mount::place(stream)?;
        if place.file_type == nix::libc::S_IFDIR {
            return Err(Failure::mismatch(
                "V-13",
                format!("descriptor {number} is a directory"),
            ));
        }
    }
    Ok(())
}

/// V-16: resource limits and the out-of-memory score.
pub(crate) fn limits(plan: &Plan, procfs: &Procfs) -> Result<(), Failure> {
    for limit in &plan.limits {
        let found = process::limit(limit.resource)?;
        if found != (limit.soft, limit.hard) {
            return Err(Failure::mismatch(
                "V-16",
                format!(
                    "{} is {} (hard {}), not {} (hard {})",
                    limit.name, found.0, found.1, limit.soft, limit.hard
                ),
            ));
        }
    }
    if let Some(wanted) = plan.oom_score_adj {
        let text = procfs.read_self("oom_score_adj")?;
        let found: i64 = text
            .trim()
            .parse()
            .map_err(|_| Failure::mismatch("V-16", format!("oom_score_adj reads {text:?}")))?;
        if found != wanted {
            return Err(Failure::mismatch(
                "V-16",
                format!("oom_score_adj is {found}, not {wanted}"),
            ));
        }
    }
    Ok(())
}
