//! Which bind mounts are made from the descriptor that was judged, and not from their path once more.
//!
//! libcontainer takes paths alone, and opens them long after they were judged. What may be mounted after all that it
//! mounts is kept from it: a copy of the judged place, mounted nowhere yet ([`crate::trees`]), goes to the init process
//! by descriptor, and [`crate::finish`] mounts it there. Whoever exchanges the source meanwhile changes nothing any more.
//!
//! Not every mount may come last. Those that have to be there for somebody before that are left to libcontainer, and
//! for them V-10 finds another file than the one that was judged.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use gabion_baseline::config::{Config, Mount};
use gabion_sys::mount::Propagation;

use crate::idmap::is_mapped;
use crate::mount_options::is_remount;
use crate::normalize::initial_propagation;

/// Options that [`crate::trees`] and [`crate::finish`] carry out; a mount with any other is left to libcontainer.
const OPTIONS: [&str; 27] = [
    "bind",
    "rbind",
    "defaults",
    "rw",
    "suid",
    "dev",
    "exec",
    "ro",
    "nosuid",
    "nodev",
    "noexec",
    "noatime",
    "nosymfollow",
    "rro",
    "rnosuid",
    "rnodev",
    "rnoexec",
    "rnoatime",
    "rnosymfollow",
    "private",
    "rprivate",
    "slave",
    "rslave",
    "shared",
    "rshared",
    "unbindable",
    "runbindable",
];

/// What libcontainer puts into /dev when everything is mounted.
const MADE_LATER: [&str; 13] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/tty",
    "/dev/urandom",
    "/dev/random",
    "/dev/core",
    "/dev/fd",
    "/dev/stdin",
    "/dev/stdout",
    "/dev/stderr",
    "/dev/ptmx",
    "/dev/console",
];

/// Which of `mounts` are made from what was judged, and how their copies propagate to begin with: as what libcontainer
/// makes would.
pub(crate) fn chosen(config: &Config, held: &gabion_host::Held) -> (BTreeSet<usize>, Propagation) {
    let propagation = match initial_propagation(config) {
        "private" => Propagation::Private,
        "slave" => Propagation::Slave,
        _ => return (BTreeSet::new(), Propagation::Private),
    };
    let chosen = by_descriptor(config, |index| {
        held.sources.get(index)?.as_ref()?;
        held.destinations.get(index)?.clone()
    });
    (chosen, propagation)
}

/// Which of `mounts` are made from descriptors: bind mounts whose source and destination `known` has looked at, but for
///
/// - all of a container with hooks that run before its root is entered: they find the mounts in place;
/// - all of one with a user namespace, where mounts are locked by being taken over from the host's;
/// - all of one that joins a mount namespace, in which paths mean something else;
/// - all of one that masks what is no part of the kernel's file systems, or makes it read-only;
/// - one with options that only libcontainer knows;
/// - one that overlaps what libcontainer makes after it: a later mount of its, a path that is covered, a device.
fn by_descriptor(config: &Config, known: impl Fn(usize) -> Option<PathBuf>) -> BTreeSet<usize> {
    let mut chosen = BTreeSet::new();
    let hooks = config.hooks.value();
    if hooks.is_some_and(|hooks| {
        [&hooks.prestart, &hooks.create_runtime, &hooks.create_container]
            .iter()
            .any(|list| !list.items().is_empty())
    }) {
        return chosen;
    }
    let Some(linux) = config.linux.value() else {
        return chosen;
    };
    let namespaces = linux.namespaces.items();
    let is_new = |kind: &str| {
        namespaces
            .iter()
            .any(|entry| entry.kind == kind && entry.joins().is_none())
    };
    if !is_new("mount") || namespaces.iter().any(|entry| entry.kind == "user") {
        return chosen;
    }
    let covered = [&linux.masked_paths, &linux.readonly_paths];
    let covered = covered
        .iter()
        .flat_map(|list| list.items())
        .map(|path| absolute(path));
    let mut later: Vec<PathBuf> = covered.collect();
    // Elsewhere a link of the image may lead from one name to another.
    if !later
        .iter()
        .all(|path| path.starts_with("/proc") || path.starts_with("/sys"))
    {
        return chosen;
    }
    let devices = linux.devices.items().iter().map(|device| device.path.as_str());
    later.extend(devices.chain(MADE_LATER).map(absolute));
    let mounts = config.mounts.items();
    // Made read-only at the end, in the order of the list: nothing could be made in them after.
    let made_readonly = |mount: &&Mount| {
        mount.kind.value().is_some_and(|kind| kind == "cgroup")
            || (absolute(&mount.destination) == Path::new("/dev")
                && mount.last_of(&["ro"], &["rw"]).unwrap_or(false))
    };
    later.extend(
        mounts
            .iter()
            .filter(made_readonly)
            .map(|mount| absolute(&mount.destination)),
    );
    for (index, mount) in mounts.iter().enumerate().rev() {
        let written = absolute(&mount.destination);
        let mut options = mount.options.items().iter();
        if is_remount(mount) || is_mapped(mount) {
            // Both are made at the end anyway, in the order of the list.
        } else if mount.is_bind()
            && options.all(|option| OPTIONS.contains(&option.as_str()))
            && let Some(real) = known(index)
            && !later
                .iter()
                .any(|other| overlap(&written, other) || overlap(&real, other))
        {
            chosen.insert(index);
        } else {
            later.extend(known(index));
            later.push(written);
        }
    }
    chosen
}

fn absolute(path: &str) -> PathBuf {
    // Without what changes nothing, so that places can be compared.
    Path::new("/").join(path).components().collect()
}

/// True if one lies at or below the other.
fn overlap(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

#[cfg(test)]
mod tests {
    use gabion_baseline::Allegation;
    use serde_json::json;

    use super::*;

    fn chosen(change: impl FnOnce(&mut serde_json::Value)) -> Vec<usize> {
        let mut document = json!({
            "ociVersion": "1.0.2",
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"]},
                {"destination": "/data", "type": "bind", "source": "/a", "options": ["rbind", "rprivate", "ro"]},
                {"destination": "/dev/shm", "type": "bind", "source": "/b", "options": ["rbind"]},
                {"destination": "/data/below", "type": "bind", "source": "/c", "options": ["bind", "nosuid"]},
            ],
            "linux": {
                "namespaces": [{"type": "mount"}],
                "maskedPaths": ["/proc/kcore"],
                "readonlyPaths": ["/proc/sys"],
                "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}],
            },
        });
        change(&mut document);
        let config = Allegation::from_document(document).unwrap().config().clone();
        let destinations: Vec<PathBuf> = config
            .mounts
            .items()
            .iter()
            .map(|mount| absolute(&mount.destination.replace("/link", "/data")))
            .collect();
        by_descriptor(&config, |index| Some(destinations[index].clone()))
            .into_iter()
            .collect()
    }

    #[test]
    fn what_nobody_needs_before_is_mounted_at_the_end() {
        assert_eq!(chosen(|_| {}), [2, 3, 4]);
    }

    #[test]
    fn what_others_are_to_be_mounted_on_is_left_where_it_is() {
        // The tmpfs is libcontainer's, so what is below it and what it covers is as well.
        let tmpfs = |destination: &'static str| {
            move |document: &mut serde_json::Value| {
                let mounts = document["mounts"].as_array_mut().unwrap();
                mounts.push(json!({"destination": destination, "type": "tmpfs", "source": "x"}));
            }
        };
        assert_eq!(chosen(tmpfs("/data/below/deep")), [3]);
        assert_eq!(chosen(tmpfs("/data/other")), [3, 4]);
        assert_eq!(chosen(tmpfs("/dev")), [2, 4]);
        assert_eq!(chosen(tmpfs("//data/./")), [3]);
        assert_eq!(chosen(tmpfs("/elsewhere")), [2, 3, 4]);
        // By another name, too.
        assert_eq!(chosen(tmpfs("/link/below")), [3]);
        let linked = |document: &mut serde_json::Value| {
            document["mounts"][4]["destination"] = json!("/link/below");
            tmpfs("/data/below/deep")(document);
        };
        assert_eq!(chosen(linked), [3]);
        // The same for devices, and for what covers a path; elsewhere links could lead from one to the other.
        let device =
            |document: &mut serde_json::Value| document["linux"]["devices"][0]["path"] = json!("/dev/shm/x");
        assert_eq!(chosen(device), [2, 4]);
        let below =
            |document: &mut serde_json::Value| document["mounts"][4]["destination"] = json!("/proc/sys/x");
        assert_eq!(chosen(below), [2, 3]);
        let masked = |document: &mut serde_json::Value| document["linux"]["maskedPaths"] = json!(["/etc/x"]);
        assert_eq!(chosen(masked), [0_usize; 0]);
    }

    #[test]
    fn a_mount_that_only_libcontainer_can_make_is_left_to_it() {
        let with = |option: &'static str| {
            move |document: &mut serde_json::Value| {
                document["mounts"][3]["options"] = json!(["rbind", option]);
            }
        };
        assert_eq!(chosen(with("strictatime")), [2, 4]);
        assert_eq!(chosen(with("rrw")), [2, 4]);
        assert_eq!(chosen(with("rslave")), [2, 3, 4]);
        let readonly = |document: &mut serde_json::Value| document["mounts"][1]["options"] = json!(["ro"]);
        assert_eq!(chosen(readonly), [2, 4]);
    }

    #[test]
    fn hooks_find_their_mounts_and_a_user_namespace_locks_them() {
        for point in ["prestart", "createRuntime", "createContainer"] {
            let hook =
                |document: &mut serde_json::Value| document["hooks"][point] = json!([{"path": "/bin/true"}]);
            assert_eq!(chosen(hook), [0_usize; 0], "{point}");
        }
        let hook =
            |document: &mut serde_json::Value| document["hooks"]["poststop"] = json!([{"path": "/bin/true"}]);
        assert_eq!(chosen(hook), [2, 3, 4]);
        for namespaces in [
            json!([{"type": "mount"}, {"type": "user"}]),
            json!([{"type": "mount", "path": "/proc/1/ns/mnt"}]),
            json!([]),
        ] {
            assert_eq!(
                chosen(|document| document["linux"]["namespaces"] = namespaces),
                [0_usize; 0]
            );
        }
    }
}
