//! How long it takes to collect every fact about a bundle as Docker writes it.
//!
//! The bundle is made in a temporary directory: a rootfs, the three files that Docker mounts into each container,
//! the hook, Docker's cgroup path. `cargo bench -p gabion-host`.

#![allow(clippy::expect_used)] // a bench, like a test, ends where its ground cannot be laid

use std::collections::BTreeSet;
use std::fs;
use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use gabion_baseline::facts::FactKind;
use gabion_baseline::policy::ENGINE_ROOTS;
use gabion_baseline::{Allegation, Config};
use gabion_host::Context;

const ALL: [FactKind; 9] = [
    FactKind::Namespaces,
    FactKind::Lsm,
    FactKind::Cgroup,
    FactKind::Kernel,
    FactKind::Mounts,
    FactKind::Rootfs,
    FactKind::Hooks,
    FactKind::Runtime,
    FactKind::Descriptors,
];

fn docker_bundle(top: &Path) -> Config {
    for directory in [
        "rootfs/etc",
        "rootfs/proc",
        "rootfs/dev",
        "rootfs/sys",
        "containers/ab902bdf",
    ] {
        fs::create_dir_all(top.join(directory)).expect("a temporary directory is writable");
    }
    let mount = |destination: &str, kind: &str, source: String, options: &[&str]| serde_json::json!({"destination": destination, "type": kind, "source": source, "options": options});
    let plain = |destination: &str, kind: &str| mount(destination, kind, kind.to_owned(), &["nosuid"]);
    let mut mounts = vec![
        plain("/proc", "proc"),
        plain("/dev", "tmpfs"),
        plain("/dev/pts", "devpts"),
        plain("/sys", "sysfs"),
        plain("/sys/fs/cgroup", "cgroup"),
        plain("/dev/mqueue", "mqueue"),
        plain("/dev/shm", "tmpfs"),
    ];
    for name in ["resolv.conf", "hostname", "hosts"] {
        let source = top.join("containers/ab902bdf").join(name);
        fs::write(&source, "").expect("a temporary directory is writable");
        fs::write(top.join("rootfs/etc").join(name), "").expect("a temporary directory is writable");
        let source = source.display().to_string();
        mounts.push(mount(
            &format!("/etc/{name}"),
            "bind",
            source,
            &["rbind", "rprivate"],
        ));
    }
    let document = serde_json::json!({
        "ociVersion": "1.0.2",
        "root": {"path": top.join("rootfs")},
        "mounts": mounts,
        "hooks": {"prestart": [{"path": "/proc/self/exe", "args": ["libnetwork-setkey"]}]},
        "linux": {
            "cgroupsPath": "/docker/ab902bdf",
            "namespaces": [
                {"type": "mount"},
                {"type": "network", "path": "/proc/self/ns/net"},
                {"type": "uts"},
                {"type": "pid"},
                {"type": "ipc"},
            ],
        },
    });
    Allegation::from_document(document)
        .expect("the document is a configuration")
        .config()
        .clone()
}

fn collect(criterion: &mut Criterion) {
    let bundle = tempfile::tempdir().expect("a temporary directory can be made");
    let config = docker_bundle(bundle.path());
    let context = Context {
        engine_roots: ENGINE_ROOTS.iter().map(|root| (*root).to_owned()).collect(),
        policy_files: vec!["/etc/gabion/policy.toml".into()],
        ..Context::default()
    };
    let mut measure = |name: &str, wanted: BTreeSet<FactKind>| {
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| gabion_host::collect(black_box(&config), bundle.path(), &wanted, &context));
        });
    };
    measure("all facts of a docker bundle", BTreeSet::from(ALL));
    for kind in ALL {
        measure(&format!("{kind:?}"), BTreeSet::from([kind]));
    }
}

criterion_group!(benches, collect);
criterion_main!(benches);
