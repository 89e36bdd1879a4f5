//! End-to-end tests: the real program with real containers, as root.
//!
//! Each test has a [`Site`] of its own: a directory with a state root, a policy, a ledger, a log, and the bundles
//! of its containers. A [`Container`] is deleted when it goes out of scope, and the test fails if anything of it is
//! left then: a directory, a cgroup, a mount, a process.
//!
//! A workload proves that it ran by a file in its root, so "it did not run" is that file's absence.
//!
//! The environment variable `GABION` names the program; without it, the one that was built last in the workspace's
//! target directory is taken.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what helps tests fails as tests do

mod bundle;
mod command;
mod container;
mod left;
mod program;
mod site;
mod user;

pub use bundle::{base_config, edit_array, make_rootfs};
pub use command::{Answer, PATIENCE, finish, run, run_within, wait_until};
pub use container::Container;
pub use left::{cgroups, is_alive, left, mounts_below, processes_of};
pub use program::gabion;
pub use site::Site;
pub use user::User;

/// True if this host can limit how many processes a container has: in version 1, or handed down in version 2.
pub fn limits_processes() -> bool {
    let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    std::path::Path::new("/sys/fs/cgroup/pids").is_dir() || controllers.contains("pids")
}

/// True if systemd is this host's first program.
pub fn has_systemd() -> bool {
    std::path::Path::new("/run/systemd/system").is_dir()
}

/// True if the kernel has AppArmor.
pub fn has_apparmor() -> bool {
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    enabled.is_ok_and(|text| text.trim() == "Y")
}

/// Says that a test cannot run here, in the form that the test runner counts.
#[allow(clippy::print_stdout)] // a line of the test's output is what is counted
pub fn skip(reason: &str) {
    println!("SKIPPED {reason}");
}
