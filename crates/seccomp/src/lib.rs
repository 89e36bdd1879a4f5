//! Seccomp without libseccomp's code generator: from the OCI object to a filter, and back to an answer.
//!
//! ```text
//! linux.seccomp ──Profile::from_value──▶ Profile ──compile(…, target)──▶ Compiled { program, flags, … }
//!                                                                             │
//!                    what would the kernel answer? ◀──interpret, strictest────┘
//! ```
//!
//! - [`profile`]: the OCI object as types. A word that the runtime-spec does not have is an error here.
//! - [`mod@compile`]: the code generator. What it decides, and where it differs from libseccomp on purpose, is in
//!   its module text. System call numbers are libseccomp's, written down ([`syscalls`]); the code is ours.
//! - [`interpret`](mod@interpret): runs any filter as the kernel would, for one system call.
//! - [`default`]: gabion's own profile, as reviewed data with a reason beside each group.
//! - [`floor`]: what no container may do, as a small filter to stack under an engine's.
//! - [`reach`]: what a filter may answer to all calls of a kind, rather than to one.
//! - [`words`]: a profile in human words, and the symbolic names of arguments.
//! - [`written`]: what was made of a profile as bytes, to be kept.
//! - [`canary`]: calls that a set of filters answers with an errno, so that making them is harmless.
//!
//! Everything is a pure function of its arguments. Loading a filter is the business of the crate that may make
//! system calls. Nothing here knows another crate of gabion.
#![forbid(unsafe_code)]

pub mod abi;
mod assembler;
pub mod canary;
pub mod compile;
pub mod default;
pub mod floor;
pub mod interpret;
pub mod profile;
pub mod program;
pub mod reach;
mod rules;
mod search;
pub mod syscalls;
mod tables;
pub mod verdict;
mod widths;
pub mod words;
pub mod written;

pub use abi::Abi;
pub use canary::{Canary, canaries, permits, verdict};
pub use compile::{CompileError, Compiled, Target, compile};
pub use interpret::{Data, interpret, strictest};
pub use profile::{Profile, ProfileError};
pub use program::{Instruction, InvalidProgram, Program};
pub use verdict::Verdict;
