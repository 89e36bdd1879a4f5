//! Where engines keep the bundles of the containers that run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use gabion_baseline::facts::Engine;
use serde_json::Value;

/// Directories that engines make their bundles below.
const BUNDLES: [&str; 8] = [
    "/run/containerd/io.containerd.runtime.v2.task",
    "/run/docker/containerd",
    "/run/k3s/containerd/io.containerd.runtime.v2.task",
    "/var/lib/containers/storage/overlay-containers",
    "/var/lib/containers/storage/vfs-containers",
    "/run/containers/storage/overlay-containers",
    "/var/lib/docker/buildkit/executor",
    "/var/lib/buildkit",
];

/// State directories of runtimes, whose files name the bundle.
const STATES: [&str; 6] = [
    "/run/runc",
    "/run/crun",
    "/run/youki",
    "/run/containerd/runc",
    "/run/docker/runtime-runc",
    "/run/docker/runtime-crun",
];

/// The deepest that a directory is looked into.
const MAX_DEPTH: usize = 8;

/// The largest state file that is read, in bytes.
const MAX_STATE: u64 = 4 * 1024 * 1024;

/// A bundle, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub id: String,
    pub engine: Option<Engine>,
    pub bundle: PathBuf,
}

/// The bundles in the engines' places and in those that were named, each once. `stopped`: those without a live process
/// as well, where the engine keeps them.
pub(crate) fn bundles(all: bool, named: &[PathBuf], stopped: bool) -> anyhow::Result<Vec<Place>> {
    let mut found = BTreeMap::new();
    for directory in named {
        fs::metadata(directory).with_context(|| format!("cannot look into {directory:?}"))?;
        walk(directory, 0, stopped, &mut found)?;
    }
    if all {
        for directory in BUNDLES.map(Path::new).into_iter().chain(STATES.map(Path::new)) {
            if directory.exists() {
                walk(directory, 0, stopped, &mut found)?;
            }
        }
    }
    Ok(found.into_values().collect())
}

fn walk(
    directory: &Path,
    depth: usize,
    stopped: bool,
    found: &mut BTreeMap<PathBuf, Place>,
) -> anyhow::Result<()> {
    if directory.join("config.json").is_file() {
        if stopped || !has_ended(directory) {
            add(directory, found);
        }
        // What lies below is the container's.
        return Ok(());
    }
    for name in ["state.json", "status"] {
        if let Some(bundle) = bundle_of_state(&directory.join(name)) {
            if bundle.join("config.json").is_file() {
                add(&bundle, found);
            }
            return Ok(());
        }
    }
    if depth >= MAX_DEPTH {
        return Ok(());
    }
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        // Containers come and go while they are looked for.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot look into {directory:?}")),
    };
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot look into {directory:?}"))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), depth + 1, stopped, found)?;
        }
    }
    Ok(())
}

fn add(bundle: &Path, found: &mut BTreeMap<PathBuf, Place>) {
    // One bundle may be reached through a state directory too.
    let Ok(bundle) = fs::canonicalize(bundle) else {
        return;
    };
    let named = match bundle.file_name() {
        Some(name) if name == "userdata" => bundle.parent().and_then(Path::file_name),
        name => name,
    };
    let id = named.unwrap_or_default().to_string_lossy().into_owned();
    let engine = gabion_host::engine_by_bundle(&bundle);
    found.insert(bundle.clone(), Place { id, engine, bundle });
}

/// Where podman and CRI-O keep bundles, and where the process ids of those that run.
const STORAGE: [&str; 2] = ["/var/lib/containers/storage", "/run/containers/storage"];

/// True if podman or CRI-O, which keep the bundles of stopped containers, have written down a process that is gone, or
/// none at the place that belongs to their storage. Where that place is not known, the container counts as running.
fn has_ended(bundle: &Path) -> bool {
    if bundle.file_name().is_none_or(|name| name != "userdata") {
        return false;
    }
    let [storage, running] = STORAGE.map(Path::new);
    let elsewhere = bundle.strip_prefix(storage).ok().map(|below| running.join(below));
    let pid = [Some(bundle), elsewhere.as_deref()]
        .into_iter()
        .flatten()
        .find_map(|place| fs::read_to_string(place.join("pidfile")).ok());
    match pid.and_then(|pid| pid.trim().parse::<u32>().ok()) {
        Some(pid) => !Path::new(&format!("/proc/{pid}")).exists(),
        None => elsewhere.is_some(),
    }
}

/// The bundle that a runtime's state file names: runc among its labels, crun and youki as a property.
fn bundle_of_state(file: &Path) -> Option<PathBuf> {
    if fs::metadata(file).ok()?.len() > MAX_STATE {
        return None;
    }
    let state: Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    let label = state["config"]["labels"].as_array().and_then(|labels| {
        labels
            .iter()
            .filter_map(Value::as_str)
            .find_map(|label| label.strip_prefix("bundle="))
    });
    label.or(state["bundle"].as_str()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundles_are_found_once_by_place_and_by_state() {
        let tree = tempfile::tempdir().unwrap();
        let task = tree.path().join("io.containerd.runtime.v2.task/moby/web");
        fs::create_dir_all(task.join("rootfs/etc")).unwrap();
        fs::write(task.join("config.json"), "{}").unwrap();
        // What an image brings is no bundle.
        fs::write(task.join("rootfs/config.json"), "{}").unwrap();
        let state = tree.path().join("runc/web");
        fs::create_dir_all(&state).unwrap();
        let label = serde_json::json!({"config": {"labels": ["a=b", format!("bundle={}", task.display())]}});
        fs::write(state.join("state.json"), label.to_string()).unwrap();
        let pod = tree.path().join("overlay-containers/abc/userdata");
        fs::create_dir_all(&pod).unwrap();
        fs::write(pod.join("config.json"), "{}").unwrap();
        fs::write(pod.join("pidfile"), "4194304").unwrap();
        let ids = |stopped| {
            let places = bundles(false, &[tree.path().to_owned()], stopped).unwrap();
            places
                .into_iter()
                .map(|place| (place.id, place.engine))
                .collect::<Vec<_>>()
        };
        assert_eq!(ids(false), [("web".to_owned(), Some(Engine::Docker))]);
        assert_eq!(ids(true).len(), 2);
        assert!(ids(true).iter().any(|(id, _)| id == "abc"));
        assert!(bundles(false, &[tree.path().join("none")], false).is_err());
    }

    #[test]
    fn a_container_whose_process_is_written_down_nowhere_we_know_counts_as_running() {
        let tree = tempfile::tempdir().unwrap();
        let bundle = tree.path().join("overlay-containers/abc/userdata");
        fs::create_dir_all(&bundle).unwrap();
        assert!(!has_ended(&bundle));
        fs::write(bundle.join("pidfile"), std::process::id().to_string()).unwrap();
        assert!(!has_ended(&bundle));
        fs::write(bundle.join("pidfile"), "4194304").unwrap();
        assert!(has_ended(&bundle));
        // Its own storage, where podman would have written it below /run.
        assert!(has_ended(Path::new(
            "/var/lib/containers/storage/overlay-containers/none/userdata"
        )));
    }
}
