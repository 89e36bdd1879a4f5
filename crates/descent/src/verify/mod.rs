//! The reality gate: the kernel's own state, read back and compared with what was promised.
//!
//! Each function is one check of the catalogue (docs/verification.md). A difference is a
//! [`crate::report::Failure::Mismatch`] with the check's id; a state that cannot be read is a failure as well.

mod descriptors;
mod filters;
pub(crate) mod mounts;
pub(crate) mod namespaces;
pub(crate) mod paths;
pub(crate) mod process;
pub(crate) mod sysctls;

use std::ffi::CStr;
use std::time::{Duration, Instant};

use crate::mount_table::Table;
use crate::plan::Plan;
use crate::procfs::{Extent, Procfs};
use crate::report::Failure;
use crate::status::Status;

pub(crate) use filters::{FilterStatus, filters};

/// The gate at work, in the process that is about to become the program.
#[derive(Debug)]
pub(crate) struct Gate {
    procfs: Procfs,
    /// The session keyring that the process came with.
    outside: Option<i64>,
    spent: Duration,
}

impl Gate {
    /// Opens it.
    ///
    /// # Errors
    /// As [`Procfs::open`].
    pub(crate) fn open(plan: &Plan) -> Result<Self, Failure> {
        let begun = Instant::now();
        let extent = if plan.sysctls.is_empty() {
            Extent::Processes
        } else {
            Extent::Whole
        };
        Ok(Gate {
            procfs: Procfs::open(extent)?,
            outside: gabion_sys::keyring::session().ok(),
            spent: begun.elapsed(),
        })
    }

    pub(crate) fn procfs(&self) -> &Procfs {
        &self.procfs
    }

    /// How long all checks took together until now.
    pub(crate) fn spent(&self) -> Duration {
        self.spent
    }

    /// What was built, while the process has every privilege to look at it: V-04, V-18, V-20, V-08, V-09, V-10, V-11,
    /// V-12, V-15, V-16.
    pub(crate) fn built(&mut self, plan: &Plan) -> Result<(), Failure> {
        self.timed(|gate| {
            let procfs = &gate.procfs;
            namespaces::namespaces(plan, procfs)?;
            namespaces::id_maps(plan, procfs)?;
            namespaces::clocks(plan, procfs)?;
            paths::root(procfs)?;
            mounted(plan, procfs)?;
            paths::directories(plan, procfs)?;
            if plan.is_first {
                paths::nodes()?;
            }
            sysctls::parameters(plan, procfs)?;
            process::limits(plan, procfs)
        })
    }

    /// V-17, after the keyring was joined.
    pub(crate) fn keyring(&mut self, plan: &Plan) -> Result<(), Failure> {
        self.timed(|gate| process::session_keyring(plan, gate.outside))
    }

    /// V-07, after the change of user and before capabilities are gone: the user may not be let into the directories
    /// above.
    pub(crate) fn directory(&mut self, plan: &Plan) -> Result<(), Failure> {
        self.timed(|_| paths::working_directory(plan))
    }

    /// The process itself, when it has given up everything but the filters: V-01, V-02, V-03, V-06, V-13, V-16,
    /// V-20.
    pub(crate) fn reduced(&mut self, plan: &Plan) -> Result<(), Failure> {
        self.timed(|gate| {
            let status = Status::read(&gate.procfs)?;
            process::label(plan, &gate.procfs)?;
            process::capabilities(plan, &status)?;
            process::privileges(plan, &status)?;
            process::user(plan, &status)?;
            process::domain(plan)?;
            process::processors(plan, &status)?;
            descriptors::descriptors(plan, &gate.procfs)
        })
    }

    /// V-19.
    pub(crate) fn program(&mut self, path: &CStr, plan: &Plan) -> Result<(), Failure> {
        self.timed(|gate| crate::program::verify(path, plan, gate.procfs.program()))
    }

    fn timed(&mut self, check: impl FnOnce(&mut Self) -> Result<(), Failure>) -> Result<(), Failure> {
        let begun = Instant::now();
        let outcome = check(self);
        self.spent += begun.elapsed();
        outcome
    }
}

/// V-08, V-09, V-10, which look at the same paths.
fn mounted(plan: &Plan, procfs: &Procfs) -> Result<(), Failure> {
    let mut covered = paths::Covered::default();
    paths::masked(plan, &mut covered)?;
    paths::readonly(plan, &mut covered)?;
    match &plan.mounts {
        Some(expected) => {
            let table = Table::parse(&procfs.read_self("mountinfo")?)?;
            mounts::table(expected, &covered, &table)
        }
        None => Ok(()),
    }
}
