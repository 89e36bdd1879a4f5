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
//! Where a filter has a listener, everything up to V-05 is done in `create` ([`settle`]): agents expect the listener
//! then, as other runtimes hand it over then.
//!
//! This crate knows system calls and plain data, nothing of JSON, rules or engines, and has the fewest
//! dependencies of all: it runs between fork and execve in a process that is about to be the container's.
#![forbid(unsafe_code)]

pub mod checks;
mod drop;
pub mod mount_table;
pub mod outside;
mod plan;
mod procfs;
mod program;
pub mod report;
pub mod status;
mod verify;

use std::os::fd::AsFd;

use gabion_sys::exec::Program;
use gabion_sys::process;

pub use gabion_sys::capability::CapabilitySets;
pub use gabion_sys::seccomp::Instruction;
pub use plan::{
    Canary, DeviceNumber, ExpectedMount, ExpectedNamespace, FileIdentity, Filter, Handover, IdMaps, Limit,
    MemoryPolicy, MountKind, MountTable, NamespaceIdentity, Plan, SecurityLabel, Sysctl, User,
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
    drop::set_memory_policy(&plan)?;
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
    let mut gate = verify::Gate::open(&prepared.plan)?;
    let reduced = reduce(prepared, &mut gate)?;
    report::write(&report, &Report::Going(gate.spent())).map_err(Failure::Call)?;
    reduced.load()?;
    Err(reduced.execute())
}

/// A process that has given up everything and has its filters loaded: execve is all that is left.
///
/// It is for containers whose filters have a listener: agents expect to be given it while the container is created,
/// and a filter can be loaded by the process itself alone. And for those with `startContainer` hooks, which are not to
/// have more than the program.
#[derive(Debug)]
pub struct Settled {
    reduced: Reduced,
    spent: std::time::Duration,
}

/// Gives up privileges, verifies, and loads the filters, while the caller of `create` still listens. The process' limits
/// are set here, since from outside they could be only by the user that it has now become.
///
/// # Preconditions
/// As [`descend`], but for `start`. What follows up to execve has to do with the calls that the filters allow.
///
/// # Errors
/// As [`prepare`].
pub fn settle(prepared: Prepared) -> Result<Settled, Failure> {
    let gate = verify::Gate::open(&prepared.plan)?;
    drop::set_own_limits(&prepared.plan, gate.procfs())?;
    settle_through(prepared, gate)
}

/// The same after `start`, when the process' limits are set: for what has to run before the program, with no more than it.
///
/// # Preconditions
/// As [`descend`]. What follows up to execve has to do with the calls that the filters allow.
///
/// # Errors
/// As [`prepare`].
pub fn settle_after_start(prepared: Prepared) -> Result<Settled, Failure> {
    let gate = verify::Gate::open(&prepared.plan)?;
    settle_through(prepared, gate)
}

fn settle_through(prepared: Prepared, mut gate: verify::Gate) -> Result<Settled, Failure> {
    let reduced = reduce(prepared, &mut gate)?;
    reduced.load()?;
    let spent = gate.spent();
    Ok(Settled { reduced, spent })
}

impl Settled {
    /// Executes the program, after `start`; reports on the channel if that fails.
    pub fn execute(self, report: impl AsFd) -> Failure {
        let failure = match report::write(&report, &Report::Going(self.spent)) {
            Ok(()) => self.reduced.execute(),
            Err(error) => Failure::Call(error),
        };
        match report::write(&report, &Report::Failed(failure.clone())) {
            // As in `descend`: a lost report is an error to whoever waits for it.
            Ok(()) | Err(_) => failure,
        }
    }
}

/// A process that has given up everything but the right to load its filters.
#[derive(Debug)]
struct Reduced {
    plan: Plan,
    program: Program,
    status: verify::FilterStatus,
}

fn reduce(prepared: Prepared, gate: &mut verify::Gate) -> Result<Reduced, Failure> {
    let Prepared { plan, path, entered } = prepared;
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
    Ok(Reduced {
        plan,
        program,
        status,
    })
}

impl Reduced {
    fn load(&self) -> Result<(), Failure> {
        drop::load_filters(&self.plan)?;
        verify::filters(&self.plan, &self.status)
    }

    fn execute(&self) -> Failure {
        Failure::execution(&self.plan.arguments, &self.program.execute())
    }
}
