//! The one door for `unsafe`: system calls that nix does not wrap, and entry conditions no type can hold.
//!
//! Every function here takes descriptors rather than paths where the kernel lets it, adds the careful flags
//! itself, makes one kernel request, and returns the error with what was asked. The thinking is elsewhere.
//! All other crates of gabion forbid `unsafe`.

pub mod bpf;
pub mod capability;
pub mod early;
pub mod error;
pub mod exec;
pub mod file;
pub mod fork;
pub mod keyring;
pub mod listener;
pub mod mount;
pub mod namespace;
pub mod network;
pub mod process;
pub mod schedule;
pub mod seccomp;
pub mod terminal;

pub use error::{CallError, Result};
