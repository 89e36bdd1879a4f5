//! Without root of the host: an ordinary user's container, and one that is made inside of a user namespace.
//!
//! An ordinary user may make a user namespace and is root in it, over nothing but itself. So the builder enters the
//! container's user namespace before it builds, and libcontainer, which would ask for root of the host in several
//! places, finds itself to be root. The mapping is written from outside: the user's own id by gabion, more by
//! newuidmap(1) and newgidmap(1), which give what /etc/subuid and /etc/subgid say. setgroups(2) is denied for good
//! before that, so that nobody gets rid of a group that takes rights away (CVE-2014-8989).
//!
//! There is no cgroup for the container, unless the caller owns a part of the hierarchy ([`crate::owned_cgroup`]) or the user's
//! own systemd is asked for one (`--systemd-cgroup`, version 2). What
//! it makes is the user's, below what the host's systemd has handed over: its files take the limits, once the container
//! is built, and systemd moves into it whoever has to be there, as the session's own cgroup is the host's.
//! libcontainer knows nothing of it. With version 1 libcontainer insists on one, so its writes go to a tmpfs that lies
//! over /sys/fs/cgroup in the builder's own mount namespace. What would have to be limited there is refused first.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use gabion_baseline::config::{Config, IdMapping};
use gabion_baseline::facts::CgroupMode;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Gid, Pid, Uid, setresgid, setresuid};

use crate::error::{ContainerError, Result};

const CGROUPS: &str = "/sys/fs/cgroup";

/// What the builder enters.
pub(crate) struct Rootless {
    /// The container's user namespace, for a user who is not root.
    user_namespace: Option<OwnedFd>,
    /// Where libcontainer would put the container, below each hierarchy.
    cgroups_path: PathBuf,
}

impl Rootless {
    pub(crate) fn of(
        rootless: bool,
        user_namespace: Option<&OwnedFd>,
        cgroups_path: &str,
    ) -> Result<Option<Self>> {
        if !rootless {
            return Ok(None);
        }
        let user_namespace = user_namespace
            .filter(|_| !nix::unistd::geteuid().is_root())
            .map(|namespace| namespace.try_clone())
            .transpose()
            .map_err(ContainerError::file("cannot keep", "the user namespace"))?;
        Ok(Some(Rootless {
            user_namespace,
            cgroups_path: PathBuf::from(cgroups_path.trim_start_matches('/')),
        }))
    }

    /// Becomes root of the user namespace, and covers the cgroups.
    ///
    /// # Preconditions
    /// In the builder, which has one thread and ends after building.
    pub(crate) fn enter(&self) -> std::result::Result<(), String> {
        if let Some(namespace) = &self.user_namespace {
            setns(namespace, CloneFlags::CLONE_NEWUSER)
                .map_err(|errno| format!("setns(the user namespace): {errno}"))?;
            let (user, group) = (Uid::from_raw(0), Gid::from_raw(0));
            setresgid(group, group, group)
                .and_then(|()| setresuid(user, user, user))
                .map_err(|errno| {
                    format!(
                        "config.json#/linux/uidMappings: cannot become root of the user namespace: {errno}; id 0 has \
                         to be mapped, for users and for groups"
                    )
                })?;
        }
        unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| format!("unshare(CLONE_NEWNS): {errno}"))?;
        let nothing: Option<&str> = None;
        mount(
            nothing,
            "/",
            nothing,
            MsFlags::MS_REC | MsFlags::MS_SLAVE,
            nothing,
        )
        .map_err(|errno| format!("mount(/, MS_SLAVE): {errno}"))?;
        // With version 2 libcontainer goes on where it may not make a cgroup.
        if gabion_host::cgroup::mode()? == CgroupMode::Unified {
            return Ok(());
        }
        let hierarchies = hierarchies()?;
        mount(
            Some("tmpfs"),
            CGROUPS,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("mode=700,size=1m"),
        )
        .map_err(|errno| format!("mount(tmpfs, {CGROUPS}): {errno}"))?;
        for hierarchy in hierarchies {
            self.pretend(&hierarchy)
                .map_err(|error| format!("cannot make files in {hierarchy:?}, over the cgroups: {error}"))?;
        }
        Ok(())
    }

    /// The files that libcontainer writes to when a process joins a cgroup, all the way down.
    fn pretend(&self, hierarchy: &Path) -> std::io::Result<()> {
        let files = [
            ("cgroup.procs", ""),
            ("tasks", ""),
            ("cpuset.cpus", "0"),
            ("cpuset.mems", "0"),
        ];
        let mut directory = hierarchy.to_owned();
        for name in std::iter::once(None).chain(self.cgroups_path.components().map(Some)) {
            directory.extend(name);
            fs::create_dir_all(&directory)?;
            for (file, text) in files {
                fs::write(directory.join(file), text)?;
            }
        }
        Ok(())
    }
}

/// Where the hierarchies of version 1 are mounted: they stay in the mount table, covered.
fn hierarchies() -> std::result::Result<Vec<PathBuf>, String> {
    let table = fs::read_to_string("/proc/self/mountinfo")
        .map_err(|error| format!("cannot read /proc/self/mountinfo: {error}"))?;
    let mounts = table.lines().filter(|line| line.contains(" - cgroup "));
    Ok(mounts
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|place| Path::new(place).starts_with(CGROUPS))
        .map(PathBuf::from)
        .collect())
}

/// Refuses what cannot be had without root; and without a cgroup, unless there is one. `why_not`: why one that the caller
/// could make is none.
///
/// # Errors
/// [`ContainerError::Unsupported`] with the place and the way out.
pub(crate) fn check(config: &Config, has_cgroup: bool, why_not: Option<&str>) -> Result<()> {
    let refused = |pointer: &str, text: &str| {
        Err(ContainerError::Unsupported {
            pointer: pointer.to_owned(),
            text: text.to_owned(),
        })
    };
    let linux = config.linux.value();
    let entries = linux.map_or(&[][..], |linux| linux.namespaces.items());
    let has_user = entries
        .iter()
        .any(|entry| entry.kind == "user" && entry.joins().is_none());
    // The kernel ends everyone in a pid namespace with its first process; otherwise a cgroup says who belongs to it.
    if !has_cgroup && !entries.iter().any(|entry| entry.kind == "pid") {
        return refused(
            "/linux/namespaces",
            "cannot make a container without root that has no pid namespace: without a cgroup nothing would say which \
             processes are its own. Add {\"type\": \"pid\"}",
        );
    }
    if !nix::unistd::geteuid().is_root() && !has_user {
        return refused(
            "/linux/namespaces",
            "cannot make a container without root that has no user namespace of its own. Add {\"type\": \"user\"} with \
             uidMappings and gidMappings; `gabion spec --rootless` writes such a config.json",
        );
    }
    let resources = linux.and_then(|linux| linux.resources.value());
    if let Some(resources) = resources.filter(|_| !has_cgroup) {
        for (name, is_given) in [
            ("pids", !resources.pids.is_missing()),
            ("memory", !resources.memory.is_missing()),
            ("cpu", !resources.cpu.is_missing()),
            ("blockIO", !resources.block_io.is_missing()),
            ("unified", !resources.unified.is_missing()),
        ] {
            if is_given {
                let why_not = why_not.map(|text| format!(" ({text})")).unwrap_or_default();
                return refused(
                    &format!("/linux/resources/{name}"),
                    &format!(
                        "cannot limit anything without root: there is no cgroup for the container{why_not}. Remove it, or \
                         have the user's own systemd make one (cgroup version 2, --systemd-cgroup), or let cgroupsPath \
                         name one below a cgroup that belongs to the user and that the caller is in, or run the \
                         container as root"
                    ),
                );
            }
        }
    }
    Ok(())
}

/// Writes the mappings of a new user namespace, in which `child` is, as an ordinary user.
///
/// # Errors
/// [`ContainerError::Unsupported`] with the mapping's place and the way out.
pub(crate) fn write_mappings(child: Pid, lists: [(&[IdMapping], String); 2], pointer: &str) -> Result<()> {
    let denied = format!("/proc/{child}/setgroups");
    fs::write(&denied, "deny").map_err(ContainerError::file("cannot write", &denied))?;
    let own = [nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()];
    let kinds = [
        ("uid_map", "uidMappings", "newuidmap", "/etc/subuid"),
        ("gid_map", "gidMappings", "newgidmap", "/etc/subgid"),
    ];
    for (((ranges, text), own), (file, property, program, table)) in lists.into_iter().zip(own).zip(kinds) {
        let refused = |text: String| ContainerError::Unsupported {
            pointer: format!("{pointer}/{property}"),
            text,
        };
        if matches!(ranges, [range] if range.size == 1 && range.host_id == own) {
            fs::write(format!("/proc/{child}/{file}"), text)
                .map_err(|error| refused(format!("cannot map id {own}: {error}")))?;
            continue;
        }
        let mut command = Command::new(program);
        command.arg(child.to_string()).args(text.split_whitespace());
        let output = command.stdin(Stdio::null()).output().map_err(|error| {
            refused(format!(
                "cannot map more than the own id {own} without root: {program}(1) cannot be run: {error}. Debian has \
                 it in the package uidmap"
            ))
        })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(refused(format!(
                "cannot be mapped without root: {}. Map the own id {own}, and ids that {table} gives this user",
                said.trim().replace('\n', "; ")
            )));
        }
    }
    Ok(())
}
