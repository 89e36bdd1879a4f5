//! V-05: the seccomp filters are loaded, and do what they say.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gabion_sys::{CallError, seccomp};
use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::plan::Plan;
use crate::procfs::Procfs;
use crate::report::Failure;

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
