//! What libcontainer leaves undone of the mounts, done in the init process after pivot_root and before any
//! code of the container has run: the propagation of single mounts, and attributes of cgroup mounts.

use gabion_baseline::config::{Config, Mount};
use gabion_descent::Failure;
use gabion_sys::CallError;
use gabion_sys::mount::{Propagation, attribute, set_attributes};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finish {
    destination: String,
    attributes: u64,
    propagation: Option<Propagation>,
    recursive: bool,
}

/// What has to be done for a configuration.
pub(crate) fn plan(config: &Config) -> Vec<Finish> {
    config.mounts.items().iter().filter_map(of_mount).collect()
}

fn of_mount(mount: &Mount) -> Option<Finish> {
    let propagation = mount.options.items().iter().rev().find_map(|option| {
        let (kind, recursive) = match option.as_str() {
            "private" => (Propagation::Private, false),
            "rprivate" => (Propagation::Private, true),
            "slave" => (Propagation::Slave, false),
            "rslave" => (Propagation::Slave, true),
            "shared" => (Propagation::Shared, false),
            "rshared" => (Propagation::Shared, true),
            "unbindable" => (Propagation::Unbindable, false),
            "runbindable" => (Propagation::Unbindable, true),
            _ => return None,
        };
        Some((kind, recursive))
    });
    // libcontainer mounts each hierarchy of version 1 with options of its own, and writable.
    let is_cgroup = mount.kind.value().is_some_and(|kind| kind == "cgroup");
    let attributes = if is_cgroup { attributes_of(mount) } else { 0 };
    if attributes == 0 && propagation.is_none() {
        return None;
    }
    Some(Finish {
        destination: mount.destination.clone(),
        attributes,
        propagation: propagation.map(|(kind, _)| kind),
        recursive: attributes != 0 || propagation.is_some_and(|(_, recursive)| recursive),
    })
}

/// Makes the root read-only: after the working directory was made in it, which libcontainer's own remount would
/// come before.
///
/// # Preconditions
/// As [`carry_out`].
pub(crate) fn make_root_readonly() -> Result<(), Failure> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = nix::fcntl::open("/", flags, nix::sys::stat::Mode::empty())
        .map_err(|errno| CallError::new("open(/)", errno))?;
    Ok(set_attributes(&root, attribute::RDONLY, None, false)?)
}

/// The attributes that a mount's options ask for.
fn attributes_of(mount: &Mount) -> u64 {
    let asked = |yes: &[&str], no: &[&str]| mount.last_of(yes, no).unwrap_or(false);
    let mut attributes = 0;
    for (wanted, attribute) in [
        (mount.is_readonly(), attribute::RDONLY),
        (asked(&["nosuid"], &["suid"]), attribute::NOSUID),
        (asked(&["nodev"], &["dev"]), attribute::NODEV),
        (asked(&["noexec"], &["exec"]), attribute::NOEXEC),
    ] {
        if wanted {
            attributes |= attribute;
        }
    }
    attributes
}

/// Does it.
///
/// # Preconditions
/// The calling process is in the container's mount namespace and root.
pub(crate) fn carry_out(work: &[Finish]) -> Result<(), Failure> {
    for item in work {
        let destination = &item.destination;
        // In a root of our own the last component may be a link of the image; it was resolved inside when the
        // mount was made, and is so here.
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let root = nix::fcntl::open(
            "/",
            OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            nix::sys::stat::Mode::empty(),
        )
        .map_err(|errno| CallError::new("open(/)", errno))?;
        let mount = openat2(&root, destination.as_str(), how)
            .map_err(|errno| CallError::new(format!("openat2({destination:?})"), errno))?;
        match set_attributes(&mount, item.attributes, item.propagation, item.recursive) {
            Ok(()) => {}
            // Covered by a later mount of the list: what lies beneath is out of reach.
            Err(error) if error.errno == Errno::EINVAL => {
                return Err(Failure::Other(format!(
                    "mount {destination:?} cannot be found again to finish it"
                )));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use gabion_baseline::Allegation;

    use super::*;

    fn planned(mount: &str) -> Vec<Finish> {
        let text = format!(r#"{{"ociVersion":"1.0.2","mounts":[{mount}]}}"#);
        plan(Allegation::parse(text.as_bytes()).unwrap().config())
    }

    #[test]
    fn the_last_propagation_option_counts() {
        let finish = planned(
            r#"{"destination":"/v","type":"bind","source":"/s","options":["rbind","rslave","rprivate"]}"#,
        );
        assert_eq!(finish[0].propagation, Some(Propagation::Private));
        assert!(finish[0].recursive);
    }

    #[test]
    fn a_cgroup_mount_gets_the_options_it_asks_for_with_all_its_hierarchies() {
        let finish = planned(
            r#"{"destination":"/sys/fs/cgroup","type":"cgroup","source":"cgroup","options":["ro","nosuid","dev"]}"#,
        );
        assert_eq!(
            (finish[0].attributes, finish[0].recursive),
            (attribute::RDONLY | attribute::NOSUID, true)
        );
        assert_eq!(
            planned(r#"{"destination":"/sys/fs/cgroup","type":"cgroup","options":["rw"]}"#),
            []
        );
    }
}
