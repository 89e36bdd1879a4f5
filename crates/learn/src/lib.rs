//! What a container calls, and the profile that allows that much.
//!
//! ```text
//! the profile in force ──filter──▶ loaded last in the container: asks us about every call that the others let through
//!                                                  │
//!                      Watcher: a thread ◀─────────┘       Trace: what the others denied, and capabilities
//!                          │                                  │
//!                          └───────▶ Observations ◀───────────┘  merged over runs
//!                                        │
//!                      narrow, portable ─┴─▶ files, report
//! ```
//!
//! Watching decides nothing. The filters that a container has anyway stay loaded and deny what they deny; of all filters
//! of a process the strictest answer counts, so the listener is asked about the rest alone, and lets every call go on. If
//! the watcher ends, calls that ask it fail with ENOSYS.
//!
//! A container that somebody else runs is watched by the trace alone, which is told there of each call as well
//! ([`Attached`]): nothing about it is changed.
//!
//! What is learnt is a part of what was in force: [`profile::narrow`] takes rules away and adds none that allows more.
#![forbid(unsafe_code)]

mod attached;
mod capabilities;
pub mod duration;
pub mod error;
pub mod files;
pub mod forms;
mod notes;
pub mod observations;
pub mod profile;
pub mod report;
pub mod trace;
pub mod watch;

pub use attached::Attached;
pub use error::{LearnError, Result};
pub use notes::{Force, Seen};
pub use observations::{Observations, Run};
pub use trace::Trace;
pub use watch::{Subject, Watcher};
