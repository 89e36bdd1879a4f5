//! The life of a container: create, start, state, kill, delete, and running it in the foreground.
//!
//! Building takes an [`gabion_baseline::Admitted`] and nothing else, so nothing is built that was not judged.
//! libcontainer builds the init container in a child process of its own; everything around it is ours,
//! because of what is written in docs/libcontainer.md:
//!
//! ```text
//! create            builder child            init (libcontainer)            start
//! ──────            ─────────────            ───────────────────            ─────
//! state directory
//! effective spec ─▶ fork ─────────▶ cgroup, namespaces, mounts, pivot
//!                                   finish: propagation, cgroup ro
//!                                   descent::prepare ──report──▶ create
//! pid file, state ◀──────────────── ready, waits
//!                                                              ◀── go ──── start
//!                                   startContainer hooks
//!                                   descent::descend ──FIFO──────────────▶ start
//!                                   execve
//! ```
#![forbid(unsafe_code)]

pub mod builder;
mod causes;
pub mod cgroup;
mod cgroup_entry;
mod checkpoint;
mod copy_up;
mod create;
mod delegation;
mod delete;
mod destinations;
mod devices;
pub mod error;
mod events;
mod exec;
mod exec_cgroup;
mod executor;
mod filters;
mod finish;
mod freeze;
pub mod hooks;
mod id;
mod idmap;
mod kill;
mod limits;
mod listener;
mod mount_options;
mod normalize;
mod owned_cgroup;
mod plan;
mod promise;
mod rewrite;
mod rootless;
mod run;
mod scheduling;
pub mod seal;
mod sources;
mod start;
mod state;
mod stats;
pub mod status;
mod systemd;
mod terminal;
mod trees;
mod update;
mod verify;
mod watched;
pub mod watchers;

pub use checkpoint::{
    CgroupsMode, CheckpointOptions, Images, RestoreOptions, Traits, checkpoint, restore, restore_foreground,
};
pub use create::{CreateOptions, Created, create, listen_descriptors};
pub use delete::{Force, delete};
pub use error::{ContainerError, Result};
pub use events::{Event, statistics, watch};
pub use exec::{ExecOptions, Executed, effective, exec};
pub use exec_cgroup::SubCgroup;
pub use freeze::{pause, processes, resume};
pub use id::ContainerId;
pub use kill::{Reach, kill};
pub use run::{Foreground, exec_foreground, run_foreground};
pub use scheduling::{MEMORY_POLICIES, MEMORY_POLICY_FLAGS};
pub use start::start;
pub use state::{Record, StateRoot};
pub use stats::Stats;
pub use status::{Container, Status, list};
pub use update::{Schemata, update};
pub use verify::{View, verify};
pub use watched::{By, Ended, Guard, Patience, Watch, remove, run_watched};
