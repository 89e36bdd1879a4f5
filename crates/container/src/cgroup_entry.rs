//! Beginning in the cgroup instead of joining it, where that can be done: with version 2 alone.
//!
//! A process that is moved into a cgroup takes the kernel's lock for cgroups for writing, and where nobody has taken it
//! for a while, that costs a grace period of RCU: eight to twelve milliseconds, longer than all the rest of `create`. A
//! process that is cloned into a cgroup (`CLONE_INTO_CGROUP`, Linux 5.7) does not take it. So the builder begins there,
//! and its children, the container's first process among them, are there as well.
//!
//! libcontainer still writes the builder's child into `cgroup.procs`, and the kernel takes the lock before it sees that
//! nobody moves. So in the builder's own mount namespace that one file is covered by /dev/null; and so is `cgroup.kill`, by
//! which libcontainer would end the builder when something goes wrong, before it could say what. Nothing of it is left
//! in the container, whose root is another; where a bind mount could bring it along, or a hook would run in the builder's
//! namespace instead of the runtime's, the builder joins as ever. So it does for a user namespace that shows the host's cgroups:
//! they are bound there, since the kernel mounts them for none but the owner of the cgroup namespace, and it binds
//! nothing from beneath a cover that belongs to another user namespace (EINVAL). That a container is in its cgroup is verified from
//! outside either way (V-14).

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use gabion_baseline::config::Config;
use gabion_baseline::facts::CgroupMode;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;

use crate::error::{ContainerError, Result};
use crate::hooks;

const ROOT: &str = "/sys/fs/cgroup";

/// Below this limit of memory, the builder itself could be what does not fit.
const ROOM_FOR_THE_BUILDER: i64 = 32 << 20;

/// A running container's cgroup, for a further process to begin in.
pub(crate) fn existing(cgroups: &[PathBuf]) -> Option<OwnedFd> {
    let [path] = cgroups else { return None };
    // Version 1 has no such file.
    if !path.join("cgroup.controllers").exists() {
        return None;
    }
    open_directory(path).ok()
}

/// A cgroup that a process can begin in.
#[derive(Debug)]
pub(crate) struct Entry {
    directory: OwnedFd,
    path: PathBuf,
}

impl Entry {
    /// Makes a container's cgroup, if its builder can begin there. If not, or if it cannot be made, the builder makes
    /// and joins it, and says what is wrong.
    pub(crate) fn make(config: &Config, mode: CgroupMode, cgroups: &[PathBuf]) -> Option<Self> {
        let [path] = cgroups else { return None };
        if mode != CgroupMode::Unified || !is_possible(config) {
            return None;
        }
        match make(path) {
            Ok(directory) => Some(Entry {
                directory,
                path: path.clone(),
            }),
            Err(error) => {
                tracing::debug!(%error, "the cgroup cannot be made beforehand");
                None
            }
        }
    }

    /// What clone3(2) takes.
    pub(crate) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// In the builder, which has begun here: what libcontainer writes to join is not needed any more.
    pub(crate) fn cover(&self) {
        let none = None::<&str>;
        let covered = unshare(CloneFlags::CLONE_NEWNS)
            // For this namespace alone: what is covered must not be so for the host.
            .and_then(|()| mount(none, ROOT, none, MsFlags::MS_PRIVATE, none))
            .and_then(|()| {
                ["cgroup.procs", "cgroup.kill"].iter().try_for_each(|name| {
                    let file = self.path.join(name);
                    match mount(Some("/dev/null"), &file, none, MsFlags::MS_BIND, none) {
                        // Linux before 5.14 has no cgroup.kill.
                        Err(Errno::ENOENT) => Ok(()),
                        done => done,
                    }
                })
            });
        if let Err(errno) = covered {
            // Joining once more is slow, and a reason may be lost; it does no other harm.
            tracing::debug!(%errno, "the cgroup's files cannot be covered for the builder");
        }
    }
}

fn is_possible(config: &Config) -> bool {
    let memory = config
        .linux
        .value()
        .and_then(|linux| linux.resources.value())
        .and_then(|resources| resources.memory.value())
        .and_then(|memory| memory.limit.value())
        .copied()
        .unwrap_or(0);
    let is_tight = (1..ROOM_FOR_THE_BUILDER).contains(&memory);
    !hooks::are_in_runtime(config) && !is_tight && !binds_cgroups(config) && !has_cgroups_bound(config)
}

/// True if a mount of the cgroups may come about as a bind mount from within a user namespace: the cgroup namespace is
/// the host's, or another one that the user namespace need not own.
fn has_cgroups_bound(config: &Config) -> bool {
    let Some(linux) = config.linux.value() else {
        return false;
    };
    let namespaces = linux.namespaces.items();
    let is_in_user_namespace = namespaces.iter().any(|entry| entry.kind == "user");
    let has_own = namespaces
        .iter()
        .any(|entry| entry.kind == "cgroup" && entry.path.value().is_none_or(String::is_empty));
    let is_of_cgroups = |kind: &String| kind == "cgroup" || kind == "cgroup2";
    is_in_user_namespace
        && !has_own
        && config
            .mounts
            .items()
            .iter()
            .any(|mount| mount.kind.value().is_some_and(is_of_cgroups))
}

/// True if a bind mount may bring the host's cgroups along: it shows a directory that holds them, or a part of them.
fn binds_cgroups(config: &Config) -> bool {
    config
        .mounts
        .items()
        .iter()
        .filter(|mount| mount.is_bind())
        .filter_map(|mount| mount.source.value())
        .any(|source| match fs::canonicalize(source) {
            Ok(source) => source.starts_with(ROOT) || Path::new(ROOT).starts_with(&source),
            // Relative to the bundle, or not there: not the cgroups, which are at an absolute path.
            Err(_) => Path::new(source).is_absolute(),
        })
}

/// Makes a cgroup for a builder that joins it.
pub(crate) fn make_handed_down(path: &Path) -> Result<()> {
    make(path)
        .map(drop)
        .map_err(ContainerError::file("cannot make", path))
}

/// Makes a cgroup with all controllers that there are handed down to it, as far as the kernel lets us: a limit that
/// then has no controller is an error of its own, with its place in the configuration.
fn make(path: &Path) -> std::io::Result<OwnedFd> {
    let below = path
        .strip_prefix(ROOT)
        .map_err(|error| std::io::Error::other(format!("{path:?}: {error}")))?;
    let mut parent = PathBuf::from(ROOT);
    for component in below.components() {
        hand_down(&parent);
        parent.push(component);
        match fs::create_dir(&parent) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(open_directory(path)?)
}

fn open_directory(path: &Path) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty())
}

fn hand_down(parent: &Path) {
    let words = |file: &str| fs::read_to_string(parent.join(file)).unwrap_or_default();
    let (there, given) = (words("cgroup.controllers"), words("cgroup.subtree_control"));
    for controller in there.split_whitespace() {
        if given.split_whitespace().any(|given| given == controller) {
            continue;
        }
        // One by one: one that cannot be handed down (a cgroup with processes of its own) must not keep the others.
        if let Err(error) = fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}")) {
            tracing::debug!(%error, controller, ?parent, "a controller cannot be handed down");
        }
    }
}

#[cfg(test)]
mod tests {
    use gabion_baseline::Allegation;

    use super::*;

    fn possible(rest: &str) -> bool {
        let text = format!(r#"{{"ociVersion":"1.2.0"{rest}}}"#);
        is_possible(Allegation::parse(text.as_bytes()).unwrap().config())
    }

    #[test]
    fn the_builder_begins_in_the_cgroup_unless_something_would_notice() {
        let bind = |source: &str| {
            format!(
                r#","mounts":[{{"destination":"/v","type":"bind","source":"{source}","options":["rbind"]}}]"#
            )
        };
        assert!(possible(""));
        assert!(possible(&bind("/etc")));
        assert!(possible(&bind("relative")));
        for source in ["/", "/sys", "/sys/fs/../fs", "/sys/fs/cgroup", "/not/there"] {
            assert!(!possible(&bind(source)), "{source}");
        }
        assert!(possible(
            r#","hooks":{"poststop":[{"path":"/bin/true"}],"createRuntime":[]}"#
        ));
        for point in ["prestart", "createRuntime"] {
            assert!(
                !possible(&format!(r#","hooks":{{"{point}":[{{"path":"/bin/true"}}]}}"#)),
                "{point}"
            );
        }
        let namespaces = |kinds: &str, mount: &str| {
            format!(
                r#","linux":{{"namespaces":[{kinds}]}},"mounts":[{{"destination":"/c","type":"{mount}","source":"c"}}]"#
            )
        };
        let user = r#"{"type":"user"}"#;
        for own in ["", r#"{"type":"cgroup"}"#] {
            assert!(possible(&namespaces(own, "cgroup")), "{own}");
        }
        assert!(possible(&namespaces(user, "tmpfs")));
        assert!(possible(&namespaces(
            &format!(r#"{user},{{"type":"cgroup"}}"#),
            "cgroup2"
        )));
        for kind in ["cgroup", "cgroup2"] {
            assert!(!possible(&namespaces(user, kind)), "{kind}");
            let joined = format!(r#"{user},{{"type":"cgroup","path":"/proc/1/ns/cgroup"}}"#);
            assert!(!possible(&namespaces(&joined, kind)), "{kind}");
        }
        let memory = |limit: i64| format!(r#","linux":{{"resources":{{"memory":{{"limit":{limit}}}}}}}"#);
        assert!(possible(&memory(-1)));
        assert!(possible(&memory(ROOM_FOR_THE_BUILDER)));
        assert!(!possible(&memory(6 << 20)));
    }
}
