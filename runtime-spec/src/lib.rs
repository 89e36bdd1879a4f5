//! What the OCI runtime-spec demands of a runtime, as tests that any runtime can be put to.
//!
//! Each demand that can be observed from outside is one [`Clause`], named by its document and section.
//! The runtime is only ever used through its command line, and a container is only ever observed the way
//! its users would: from inside by its own program, from outside through `/proc`, the cgroup filesystems
//! and the runtime's answers. Nothing here knows which runtime it is talking to.
//!
//! A clause passes, fails, or is skipped with the reason why this machine cannot tell. After each clause
//! the [`Stage`] ends whatever containers it made, and a clause that leaves a cgroup, a mount, a process or
//! a state directory behind has failed, whatever else it found.
#![forbid(unsafe_code)]

pub mod bundle;
pub mod clause;
pub mod clauses;
pub mod container;
pub mod expect;
pub mod host;
pub mod known;
pub mod report;
pub mod runtime;
pub mod stage;

pub use clause::{Clause, Level, Outcome, Stop, Verdict};
pub use container::Container;
pub use runtime::Runtime;
pub use stage::Stage;
