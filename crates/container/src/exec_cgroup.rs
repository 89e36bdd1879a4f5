//! The cgroups that a further process of a container begins in.
//!
//! They are the container's own. With version 2 these may be closed to processes: a container that hands controllers
//! down to cgroups below its own may have none above them. The process then goes where the first one is, as with other
//! runtimes; unless the caller has said where it is to be.

use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use gabion_host::namespaces::is_in_user_namespace;
use nix::errno::Errno;
use nix::unistd::{geteuid, getpid};

use crate::error::{ContainerError, Result};
use crate::state::Record;
use crate::systemd::{self, Scope};

/// A cgroup below a container's, as `--cgroup` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubCgroup {
    /// The controllers of version 1 that it is meant for; none: all of them, and version 2.
    pub controllers: Vec<String>,
    /// Where it is, seen from the container's cgroup.
    pub path: PathBuf,
}

impl SubCgroup {
    /// Reads `PATH` or `CONTROLLER[,CONTROLLER]:PATH`.
    ///
    /// # Errors
    /// [`ContainerError::Other`] for a path that leads out of the container's cgroup.
    pub fn parse(text: &str) -> Result<Self> {
        let (controllers, path) = match text.split_once(':') {
            Some((controllers, path)) => (controllers.split(',').map(str::to_owned).collect(), path),
            None => (Vec::new(), text),
        };
        let mut inside = PathBuf::new();
        for component in Path::new(path).components() {
            match component {
                Component::Normal(name) => inside.push(name),
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => {
                    return Err(ContainerError::Other(format!(
                        "bad sub cgroup path: {} is not a sub cgroup path: it leads out of the container's cgroup",
                        path.escape_debug()
                    )));
                }
            }
        }
        Ok(SubCgroup {
            controllers,
            path: inside,
        })
    }
}

/// Where to begin.
#[derive(Debug)]
pub(crate) struct Places {
    cgroups: Vec<PathBuf>,
    /// The first process, unless the caller has chosen a place.
    init: Option<i32>,
    /// What systemd has made of the container, and where in it the place is.
    scope: Option<(Scope, PathBuf)>,
}

const ROOT: &str = "/sys/fs/cgroup";

impl Places {
    /// The container's cgroups, or what was chosen below them.
    ///
    /// # Errors
    /// [`ContainerError::Other`] for a controller that the container has no cgroup of.
    pub(crate) fn of(record: &Record, chosen: &[SubCgroup]) -> Result<Self> {
        let mut cgroups = record.cgroups.clone();
        for choice in chosen {
            let named = |cgroup: &PathBuf, controller: &String| {
                cgroup
                    .strip_prefix(ROOT)
                    .is_ok_and(|path| path.starts_with(controller))
                    && cgroup.is_dir()
            };
            let unknown = choice
                .controllers
                .iter()
                .find(|controller| !record.cgroups.iter().any(|cgroup| named(cgroup, controller)));
            if let Some(unknown) = unknown {
                return Err(ContainerError::Other(format!(
                    "unknown controller {unknown:?}: the container has no cgroup of it"
                )));
            }
            for (place, own) in cgroups.iter_mut().zip(&record.cgroups) {
                let is_meant = choice.controllers.is_empty()
                    || choice.controllers.iter().any(|controller| named(own, controller));
                if is_meant {
                    *place = own.join(&choice.path);
                }
            }
        }
        // A hierarchy that this host does not have, or that the container is not in.
        let there = record.cgroups.iter().map(|own| own.is_dir());
        let cgroups = cgroups
            .into_iter()
            .zip(there)
            .filter_map(|(cgroup, there)| there.then_some(cgroup))
            .collect();
        Ok(Places {
            cgroups,
            init: if chosen.is_empty() {
                record.init.map(|init| init.pid)
            } else {
                None
            },
            scope: record.scope.clone().map(|scope| {
                let below = chosen.last().map(|choice| choice.path.clone());
                (scope, below.unwrap_or_default())
            }),
        })
    }

    /// True if nothing was chosen.
    pub(crate) fn are_the_containers(&self) -> bool {
        self.init.is_some()
    }

    /// Joins them.
    ///
    /// # Errors
    /// [`ContainerError::Other`] with the kernel's answer.
    pub(crate) fn join(&self) -> Result<()> {
        let own = std::process::id();
        for cgroup in &self.cgroups {
            let mut answer = enter(cgroup, own);
            let is_closed = answer.is_err_and(|errno| matches!(errno, Errno::EBUSY | Errno::EOPNOTSUPP));
            let of_init = self
                .init
                .filter(|_| is_closed)
                .and_then(|init| beside(init, cgroup));
            if let Some(of_init) = of_init {
                answer = enter(&of_init, own);
            }
            // An ordinary user may write there, and still not move a process out of what is the host's: systemd may.
            if answer == Err(Errno::EACCES)
                && let Some((scope, below)) = self
                    .scope
                    .as_ref()
                    .filter(|_| !geteuid().is_root() || is_in_user_namespace())
            {
                return systemd::attach(scope, &format!("/{}", below.display()), getpid());
            }
            answer.map_err(|errno| {
                ContainerError::Other(format!(
                    "error adding pid {own} to cgroups: {}/cgroup.procs: {}",
                    cgroup.display().to_string().escape_debug(),
                    errno.desc().to_lowercase()
                ))
            })?;
        }
        Ok(())
    }
}

fn enter(cgroup: &Path, pid: u32) -> std::result::Result<(), Errno> {
    fs::write(cgroup.join("cgroup.procs"), pid.to_string()).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Errno::ENOENT,
        _ => Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO)),
    })
}

/// The cgroup of version 2 that a process is in, if it is below this one.
fn beside(pid: i32, cgroup: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    [Path::new(ROOT).to_owned(), Path::new(ROOT).join("unified")]
        .into_iter()
        .map(|root| root.join(path))
        .find(|place| place.starts_with(cgroup))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::record;

    #[test]
    fn a_place_below_the_containers_cgroup_is_read_and_none_outside() {
        let read = |text: &str| SubCgroup::parse(text).map_err(|error| error.to_string());
        assert_eq!(
            read("cpu,cpuacct:below/deeper"),
            Ok(SubCgroup {
                controllers: vec!["cpu".to_owned(), "cpuacct".to_owned()],
                path: "below/deeper".into(),
            })
        );
        assert_eq!(read("/").unwrap().path, PathBuf::new());
        assert_eq!(read("/./x").unwrap().path, Path::new("x"));
        for text in ["..", "a/../..", "memory:..", "a/../b"] {
            assert!(
                read(text).unwrap_err().starts_with("bad sub cgroup path"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_controller_that_the_container_has_no_cgroup_of_is_named() {
        let record = record("web");
        let choice = SubCgroup::parse("whaaat:/").unwrap();
        assert_eq!(
            Places::of(&record, &[choice]).unwrap_err().to_string(),
            "unknown controller \"whaaat\": the container has no cgroup of it"
        );
    }
}
