//! The last steps inside the container.
//!
//! Called by the container's init process (and by `exec`ed ones) when everything has been built: mounts,
//! namespaces, cgroup. It gives up the last privileges, reads the kernel's own state back and compares it
//! with what was promised, and replaces itself by the workload. It never returns to a half-privileged caller:
//! it executes the workload, or reports why not and ends the process.
//!
//! The order, which the rest depends on:
//!
//! ```text
//! prepare   (create)  the program is looked up, the working directory entered or made
//! ── start ──
//! procfs of our own   the container's /proc may be anything; it is not asked
//! V-04 V-18 V-20 V-12 V-08 V-09 V-10 V-11 V-15 V-16
//!                     what was built, with every privilege to look at it
//! LSM label, session keyring
//! V-17
//! personality, groups, user
//! V-07
//! capabilities, no_new_privs
//! V-06 V-01 V-02 V-03 V-20 V-13 V-19
//! "going" is written to whoever called start
//! seccomp filters     last, so that a profile need allow only what the workload calls
//! V-05                as far as the filters let this process look
//! execve              closes the report channel: the caller of start knows that it happened
//! ```
//!
//! This crate knows system calls and plain data, nothing of JSON, rules or engines, and has the fewest
//! dependencies of all: it runs between fork and execve in a process that is about to be the container's.
#![forbid(unsafe_code)]

mod drop;
pub mod mount_table;
pub mod outside;
mod plan;
mod procfs;
mod program;
pub mod report;
mod status;
mod verify;

use std::os::fd::AsFd;

use gabion_sys::exec::Program;
use gabion_sys::process;

pub use gabion_sys::capability::CapabilitySets;
pub use gabion_sys::seccomp::Instruction;
pub use plan::{
    Canary, DeviceNumber, ExpectedMount, ExpectedNamespace, FileIdentity, Filter, IdMaps, Limit, MountKind,
    MountTable, NamespaceIdentity, Plan, SecurityLabel, Sysctl, User,
};
pub use procfs::{Extent, Procfs};
pub use report::{Failure, Report};
pub use status::Status;

/// A plan whose program was found and whose working directory was entered.
#[derive(Debug)]
pub struct Prepared {
    plan: Plan,
    path: std::ffi::CString,
    entered: program::Entered,
}

/// Looks the program up and enters the working directory, while the caller of `create` still listens.
///
/// # Preconditions
/// The calling process is in the container's root, with all privileges that it was built with.
///
/// # Errors
/// [`Failure::Program`] in the words that engines look for, [`Failure::Call`], [`Failure::Mismatch`].
pub fn prepare(plan: Plan) -> Result<Prepared, Failure> {
    let entered = program::enter_directory(&plan)?;
    let path = program::find(&plan)?;
    drop::check_available(&plan)?;
    Ok(Prepared { plan, path, entered })
}

/// Gives up privileges, verifies, and executes the program; reports on the channel and ends the process if
/// anything is not as planned.
///
/// # Preconditions
/// One thread, in the container's namespaces and root, after `start`.
pub fn descend(prepared: Prepared, report: impl AsFd) -> Failure {
    match try_descend(prepared, &report) {
        Ok(never) => match never {},
        Err(failure) => {
            // The caller ends the process whatever becomes of the report; a lost report reads as "ended
            // before the program was executed", which is an error as well.
            if report::write(&report, &Report::Failed(failure.clone())).is_err() {
                return failure;
            }
            failure
        }
    }
}

fn try_descend(prepared: Prepared, report: impl AsFd) -> Result<std::convert::Infallible, Failure> {
    let Prepared { plan, path, entered } = prepared;
    let mut gate = verify::Gate::open(&plan)?;
    gate.built(&plan)?;

    drop::set_label(&plan, gate.procfs())?;
    drop::join_keyring(&plan)?;
    gate.keyring(&plan)?;
    drop::set_personality(&plan)?;
    drop::become_user(&plan)?;
    program::enter_directory_as_user(&plan, entered)?;
    gate.directory(&plan)?;
    drop::drop_capabilities(&plan)?;
    drop::close_descriptors(&plan)?;
    gate.reduced(&plan)?;
    gate.program(&path, &plan)?;

    process::reset_signals()?;
    let program = Program::new(path, plan.arguments.clone(), plan.environment.clone());
    let status = verify::FilterStatus::open(gate.procfs())?;
    report::write(&report, &Report::Going(gate.spent())).map_err(Failure::Call)?;
    drop::load_filters(&plan)?;
    verify::filters(&plan, &status)?;
    Err(Failure::execution(&plan.arguments, &program.execute()))
}
