//! Who calls: which engine, and what it vouches for.
//!
//! An engine is told by the program that calls (the parent of this process) and by the place of the bundle, which the
//! engine chose. Both are out of a workload's reach. What the bundle says of itself is not: Docker since 24 passes on any
//! annotation that a user of its API asks for, podman and `ctr` always have, and CRI-O passes on a pod's. containerd's CRI
//! passes on those that its configuration allows, and then writes its own over them.

use std::path::Path;

use gabion_baseline::Config;
use gabion_baseline::facts::{CallerFact, Engine};

/// The directory in which containerd's shims have their bundles, each below its containerd namespace.
const TASKS: &str = "io.containerd.runtime.v2.task";

/// Looks at the bundle's place, and at the calling program if it is one that `called`.
pub(crate) fn look(config: &Config, bundle: Option<&Path>, called: bool) -> CallerFact {
    // /var/run is a link on every distribution, and Docker writes its bundles' paths with it.
    let path = bundle.and_then(|bundle| std::fs::canonicalize(bundle).ok());
    let program = called.then(calling_program);
    let engine = path
        .as_deref()
        .and_then(engine_by_bundle)
        .filter(|engine| match &program {
            Some(program) => program.as_deref().is_some_and(|name| is_called_by(*engine, name)),
            None => true,
        });
    let vouched = |key: &str| {
        let annotations = config
            .annotations
            .value()
            .filter(|_| engine == Some(Engine::ContainerdCri))?;
        annotations.get(key)
    };
    CallerFact {
        engine,
        namespace: vouched("io.kubernetes.cri.sandbox-namespace").cloned(),
        image: vouched("io.kubernetes.cri.image-name").and_then(|name| digest(name)),
        bundle: path.map(|path| path.display().to_string()),
    }
}

/// The engine that makes bundles at such a place.
pub fn engine_by_bundle(path: &Path) -> Option<Engine> {
    let parts: Vec<&str> = path
        .iter()
        .map(|part| part.to_str().unwrap_or_default())
        .collect();
    if !path.is_absolute() || parts.contains(&"..") {
        return None;
    }
    match parts[..] {
        // …/io.containerd.runtime.v2.task/NAMESPACE/ID
        [.., tasks, namespace, _id] if tasks == TASKS => Some(match namespace {
            "moby" | "plugins.moby" => Engine::Docker,
            "k8s.io" => Engine::ContainerdCri,
            _ => Engine::Containerd,
        }),
        // …/DRIVER-containers/ID/userdata: podman's in its storage, CRI-O's in the directory for the time it runs.
        [_, first, .., driver, _id, "userdata"] if driver.ends_with("-containers") => match first {
            "run" => Some(Engine::CriO),
            _ => Some(Engine::Podman),
        },
        [.., "executor", _id] if parts.iter().any(|part| part.contains("buildkit")) => Some(Engine::Buildkit),
        _ => None,
    }
}

/// True if an engine's containers are created by a program of this name.
fn is_called_by(engine: Engine, program: &str) -> bool {
    match engine {
        Engine::Docker | Engine::Containerd | Engine::ContainerdCri => program.starts_with("containerd-shim"),
        Engine::Podman | Engine::CriO => ["conmon", "conmonrs", "podman", "crio"].contains(&program),
        Engine::Buildkit => ["buildkitd", "dockerd"].contains(&program),
    }
}

/// The name of the parent's program, by its file: a process can give itself any other name.
fn calling_program() -> Option<String> {
    let link = std::fs::read_link(format!("/proc/{}/exe", nix::unistd::getppid())).ok()?;
    let name = link.file_name()?.to_str()?;
    // After an upgrade of the engine its file is gone from the directory.
    Some(name.trim_end_matches(" (deleted)").to_owned())
}

/// The digest in a name such as `docker.io/library/busybox@sha256:…`.
fn digest(name: &str) -> Option<String> {
    let (_, digest) = name.rsplit_once('@')?;
    let hex = digest.strip_prefix("sha256:")?;
    (hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| digest.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_told_by_the_place_of_their_bundles() {
        for (path, expected) in [
            (
                "/run/containerd/io.containerd.runtime.v2.task/k8s.io/a",
                Some(Engine::ContainerdCri),
            ),
            (
                "/run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io/a",
                Some(Engine::ContainerdCri),
            ),
            (
                "/run/containerd/io.containerd.runtime.v2.task/default/a",
                Some(Engine::Containerd),
            ),
            (
                "/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby/a",
                Some(Engine::Docker),
            ),
            (
                "/var/lib/containers/storage/overlay-containers/a/userdata",
                Some(Engine::Podman),
            ),
            (
                "/run/containers/storage/overlay-containers/a/userdata",
                Some(Engine::CriO),
            ),
            ("/var/lib/docker/buildkit/executor/a", Some(Engine::Buildkit)),
            ("/run/containerd/io.containerd.runtime.v2.task/k8s.io", None),
            ("/run/containerd/io.containerd.runtime.v2.task/k8s.io/a/b", None),
            ("io.containerd.runtime.v2.task/k8s.io/a", None),
            ("/srv/a", None),
            ("/", None),
        ] {
            assert_eq!(engine_by_bundle(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn a_namespace_is_believed_of_containerds_cri_alone() {
        let tree = tempfile::tempdir().unwrap();
        let text = format!(
            r#"{{"ociVersion": "1.2.0", "annotations": {{"io.kubernetes.cri.sandbox-namespace": "kube-system",
                "io.kubernetes.cri.image-name": "a@sha256:{}"}}}}"#,
            "Ab".repeat(32)
        );
        let config = gabion_baseline::Allegation::parse(text.as_bytes())
            .unwrap()
            .config()
            .clone();
        let asked = |namespace: &str, called| {
            let bundle = tree.path().join(TASKS).join(namespace).join("a");
            std::fs::create_dir_all(&bundle).unwrap();
            look(&config, Some(&bundle), called)
        };
        let cri = asked("k8s.io", false);
        assert_eq!(
            (cri.engine, cri.namespace.as_deref()),
            (Some(Engine::ContainerdCri), Some("kube-system"))
        );
        assert_eq!(cri.image, Some(format!("sha256:{}", "ab".repeat(32))));
        for namespace in ["moby", "default"] {
            let other = asked(namespace, false);
            assert!(
                other.engine.is_some() && other.namespace.is_none() && other.image.is_none(),
                "{namespace}"
            );
        }
        // Whoever calls is no shim: this test is not.
        let forged = asked("k8s.io", true);
        assert_eq!(
            (forged.engine, forged.namespace, forged.image),
            (None, None, None)
        );
        assert!(forged.bundle.is_some());
        assert_eq!(look(&config, None, false), CallerFact::default());
    }

    #[test]
    fn programs_are_those_of_the_engine() {
        assert!(is_called_by(Engine::Docker, "containerd-shim-runc-v2"));
        assert!(is_called_by(Engine::Podman, "conmon"));
        assert!(!is_called_by(Engine::Docker, "bash") && !is_called_by(Engine::Podman, "containerd-shim"));
    }
}
