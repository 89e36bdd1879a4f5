//! `checkpoint` and `restore`: a container's processes as files, and processes from such files, by CRIU.
//!
//! libcontainer's own checkpoint reads the bundle again, which may have changed since it was judged, leaves out what is
//! not in it, and has no way back. So CRIU is asked directly (see [`criu`]); what it is told of mounts and namespaces is
//! of the effective configuration, and of the kernel.
//!
//! What is restored never passed the descent: CRIU puts filters, capabilities and no_new_privs back by itself, as the
//! image says. So the reality gate is asked from outside, as `verify` does, of every process and before any of them runs
//! on:
//!
//! ```text
//! restore                         CRIU, in the container's cgroup           the container
//! ───────                         ───────────────────────────────           ─────────────
//! judge the configuration anew
//! cgroup, limits, devices
//! guard: ends it all if we end
//! RESTORE ──────────────────────▶ namespaces, mounts, files, memory
//!          ◀─── setup-namespaces
//! hooks prestart, createRuntime
//!                                 filters, capabilities, no_new_privs ────▶ stopped, traced
//!          ◀────────── pre-resume
//! reality gate ── differs ──────▶ everybody in the cgroup is killed
//!       │
//!       └─ holds ───────────────▶ lets go ────────────────────────────────▶ runs on
//! state, pid file
//! ```
//!
//! CRIU does not listen to what is said at `pre-resume`; killing is what it cannot overlook.

mod criu;
mod dump;
mod external;
mod guard;
mod images;
mod reality;
mod restore;

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use gabion_baseline::Config;
use gabion_baseline::facts::CgroupMode;
use rust_criu::rust_criu_protobuf::rpc::{Criu_cg_mode, Criu_network_lock_method, Criu_opts};

pub use dump::{CheckpointOptions, checkpoint};
pub use images::Images;
pub use restore::{RestoreOptions, restore, restore_foreground};

use crate::error::{ContainerError, Result};
use crate::idmap;

/// What CRIU is to make of a container's connections, files and cgroups: the same when it is restored as when it was
/// checkpointed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traits {
    /// Established TCP connections are kept.
    pub tcp_established: bool,
    /// Unix sockets may be connected to processes outside.
    pub external_unix_sockets: bool,
    /// It is part of a session that began outside.
    pub shell_job: bool,
    /// File locks are kept.
    pub file_locks: bool,
    /// What is done about cgroups below the container's own.
    pub cgroups: CgroupsMode,
    /// The network namespace is restored empty: somebody else fills it.
    pub empty_network: bool,
}

/// `--manage-cgroups-mode` (criu(8), `--manage-cgroups`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CgroupsMode {
    /// Cgroups that are not there are made with their properties; those that are there stay as they are.
    #[default]
    Soft,
    /// Properties are restored in all.
    Full,
    /// As full, and no cgroup may be there.
    Strict,
    /// Nothing: all processes are in the container's own cgroup.
    Ignore,
}

impl Traits {
    /// The options that both requests have.
    fn options(&self, images: &OwnedFd, work: &OwnedFd, log: &str) -> Criu_opts {
        let mut options = Criu_opts::new();
        // CRIU opens these through /proc of the process that made the socket.
        options.set_images_dir_fd(images.as_raw_fd());
        options.set_work_dir_fd(work.as_raw_fd());
        options.set_log_file(log.to_owned());
        options.set_log_level(4);
        options.set_notify_scripts(true);
        options.set_evasive_devices(true);
        options.set_orphan_pts_master(true);
        options.set_tcp_established(self.tcp_established);
        options.set_ext_unix_sk(self.external_unix_sockets);
        options.set_shell_job(self.shell_job);
        options.set_file_locks(self.file_locks);
        options.set_manage_cgroups(true);
        options.set_manage_cgroups_mode(match self.cgroups {
            CgroupsMode::Soft => Criu_cg_mode::SOFT,
            CgroupsMode::Full => Criu_cg_mode::FULL,
            CgroupsMode::Strict => Criu_cg_mode::STRICT,
            CgroupsMode::Ignore => Criu_cg_mode::IGNORE,
        });
        if self.empty_network {
            options.set_empty_ns(nix::libc::CLONE_NEWNET.unsigned_abs());
        }
        // The lock keeps the other ends of connections from noticing. Without connections it would only take programs
        // that a host need not have.
        if !self.tcp_established {
            options.set_network_lock(Criu_network_lock_method::SKIP);
        } else if !Path::new("/usr/sbin/iptables-restore").exists() {
            options.set_network_lock(Criu_network_lock_method::NFTABLES);
        }
        options
    }
}

/// What is refused by name: what CRIU does not carry, or gabion could not verify afterwards.
fn refuse_unsupported(config: &Config) -> Result<()> {
    let unsupported = |pointer: String, text: &str| {
        Err(ContainerError::Unsupported {
            pointer,
            text: format!("{text} (docs/checkpoint.md)"),
        })
    };
    if nix::unistd::geteuid().as_raw() != 0 {
        return Err(ContainerError::Other(
            "a container that was made without root cannot be checkpointed or restored: CRIU takes root, and a cgroup \
             with a freezer"
                .to_owned(),
        ));
    }
    if gabion_host::cgroup::mode().map_err(ContainerError::Other)? != CgroupMode::Unified {
        return Err(ContainerError::Other(
            "checkpoint and restore take cgroup version 2 alone: mount it at /sys/fs/cgroup (with systemd: \
             systemd.unified_cgroup_hierarchy=1)"
                .to_owned(),
        ));
    }
    for (index, mount) in config.mounts.items().iter().enumerate() {
        if idmap::is_mapped(mount) {
            return unsupported(
                format!("/mounts/{index}"),
                "a mount with mapped owners cannot be checkpointed: CRIU does not keep the mapping",
            );
        }
    }
    let Some(linux) = config.linux.value() else {
        return Ok(());
    };
    for (index, entry) in linux.namespaces.items().iter().enumerate() {
        if entry.kind == "user" {
            return unsupported(
                format!("/linux/namespaces/{index}"),
                "a container in a user namespace cannot be checkpointed or restored: its devices and masks are the \
                 host's nodes, which CRIU does not find",
            );
        }
        let can_be_joined = matches!(entry.kind.as_str(), "network" | "ipc" | "uts");
        if entry.joins().is_some() && !can_be_joined {
            return unsupported(
                format!("/linux/namespaces/{index}/path"),
                "a container that joined a namespace of this type cannot be checkpointed or restored",
            );
        }
    }
    if let Some(profile) = linux.seccomp.value()
        && profile
            .syscalls
            .items()
            .iter()
            .any(|rule| rule.action == "SCMP_ACT_NOTIFY")
    {
        return unsupported(
            "/linux/seccomp/syscalls".to_owned(),
            "a filter with SCMP_ACT_NOTIFY cannot be checkpointed: its agent's end is outside",
        );
    }
    Ok(())
}
