//! Judges an OCI bundle against gabion's hardening baseline.
//!
//! The way through this crate is one direction, and each step demands the value that only the step
//! before it can make:
//!
//! ```text
//! bytes ──Allegation::parse──▶ Allegation ──judge(…, facts, policy, operation)──▶ Judgement
//!                                                         ├─ Refusal   every violated rule, nothing runs
//!                                                         └─ Admitted  the effective configuration
//! ```
//!
//! Everything here is a pure function of its arguments: no file is opened, no clock is read, no system
//! call is made, and `unsafe` is forbidden. What judgement needs to know of the host arrives as
//! [`facts::Facts`], collected by the crate that may touch the kernel (`gabion-host`).
//!
//! Where to look: a rule is in `rules/<topic>.rs`, once, with its text, its levels and its function.
#![forbid(unsafe_code)]

pub mod allegation;
pub mod change;
pub mod config;
pub mod facts;
pub mod finding;
pub mod given;
pub mod judge;
pub mod nearest;
pub mod pointer;
pub mod policy;
pub mod policy_file;
pub mod profile;
pub mod report;
pub mod rule;
pub mod rules;
pub mod site_rule;
pub mod waiver;

pub use allegation::{Allegation, AllegationError};
pub use config::Config;
pub use facts::{Facts, Flag};
pub use finding::{Action, Finding};
pub use given::Given;
pub use judge::{Admitted, Checkpoint, Judgement, Operation, Refusal, judge};
pub use policy::Policy;
pub use profile::{Level, Profile};
pub use rule::{Case, Rule, Violation, Violations};
