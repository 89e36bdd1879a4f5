//! Descriptors that the program would inherit (V-12, V-13).

use std::os::fd::AsFd;

use gabion_sys::{CallError, mount};
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::plan::Plan;
use crate::procfs::Procfs;
use crate::report::Failure;

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
            // What the caller hands on on purpose may be any file but a way out of the container.
            if number > 2 && mount::place_of(number)?.file_type == nix::libc::S_IFDIR {
                return Err(Failure::mismatch(
                    "V-12",
                    format!("descriptor {number} is a directory outside of the container"),
                ));
            }
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
