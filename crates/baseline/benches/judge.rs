//! What the bundle gate costs: reading a captured Docker configuration, and judging it.
//!
//! The goal is a judgement below 200 microseconds. The facts are made up, and known: collecting them is the
//! host's cost, measured elsewhere.
#![allow(missing_docs, clippy::unwrap_used)] // criterion's macros; a benchmark has nobody to report to

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use gabion_baseline::facts::{
    CgroupFact, CgroupMode, DescriptorFact, DestinationFact, Fact, Facts, FileKind, HookFact, Identity,
    KernelFact, LsmFact, NamespaceFact, RootfsFact, RuntimeFact, SourceFact,
};
use gabion_baseline::{Allegation, Config, Operation, Policy, Profile, judge};
use serde_json::json;

const DOCKER: &[u8] = include_bytes!("../tests/bundles/docker20-default.json");

fn facts(config: &Config) -> Facts {
    let linux = config.linux.value().unwrap();
    let identity = Identity {
        device: 64,
        inode: 1234,
    };
    let source = |path: &str| SourceFact {
        canonical: path.into(),
        identity,
        kind: FileKind::Regular,
        on_procfs: false,
        on_sysfs: false,
        on_cgroupfs: false,
        is_host_shm: false,
        through_magic_link: None,
        through_foreign_link: None,
        sensitive: None,
        restrictions: Vec::new(),
        control_socket: None,
        engine_managed: true,
    };
    let mounts = config.mounts.items();
    let dockerd = HookFact {
        canonical: "/usr/bin/dockerd".into(),
        executable: true,
        trusted: true,
        inside_rootfs: false,
    };
    let descriptor = |number| DescriptorFact {
        number,
        kind: FileKind::Fifo,
        target: "pipe:[1]".to_owned(),
    };
    Facts {
        namespaces: linux
            .namespaces
            .items()
            .iter()
            .map(|_| Fact::Known(NamespaceFact::New))
            .collect(),
        lsm: Fact::Known(LsmFact::default()),
        cgroup: Fact::Known(CgroupFact {
            mode: CgroupMode::Unified,
            occupied: None,
            ancestor_pids_limit: None,
        }),
        kernel: Fact::Known(KernelFact {
            version: (6, 12),
            last_capability: 40,
            legacy_tiocsti: Some(false),
            in_initial_user_namespace: true,
        }),
        mount_sources: mounts
            .iter()
            .map(|mount| {
                let path = mount.source.value().filter(|_| mount.is_bind());
                Fact::Known(path.map(|path| source(path)))
            })
            .collect(),
        mount_destinations: mounts
            .iter()
            .map(|mount| Fact::Known(DestinationFact::Inside(mount.destination.as_str().into())))
            .collect(),
        rootfs: Fact::Known(RootfsFact::Directory {
            canonical: config.root.value().unwrap().path.as_str().into(),
            identity,
            is_host_root: false,
            sensitive: None,
            shared_with: None,
            entries: ["dev", "etc", "proc", "sys"]
                .map(|name| (name.to_owned(), FileKind::Directory))
                .into(),
        }),
        hooks: BTreeMap::from([("prestart".to_owned(), vec![Fact::Known(dockerd)])]),
        runtime: Fact::Known(RuntimeFact {
            sealed: Some("a sealed memfd".to_owned()),
            writable_binary: None,
            writable_policy: None,
            own_files: Vec::new(),
        }),
        descriptors: Fact::Known((0..3).map(descriptor).collect()),
        namespace_owners: linux
            .namespaces
            .items()
            .iter()
            .map(|_| Fact::Known(None))
            .collect(),
        entrypoint: Fact::Known(Default::default()),
        ..Facts::default()
    }
}

fn bench(criterion: &mut Criterion) {
    criterion.bench_function("parse docker20-default", |b| {
        b.iter(|| Allegation::parse(black_box(DOCKER)).unwrap())
    });
    let allegation = Allegation::parse(DOCKER).unwrap();
    let facts = facts(allegation.config());
    let operation = Operation::Create {
        id: "web-1".to_owned(),
    };
    for profile in Profile::ALL {
        // Docker sends a seccomp profile, so none is filled in.
        let policy = Policy::builtin(profile, |_| json!({}));
        criterion.bench_function(&format!("judge docker20-default under {profile}"), |b| {
            b.iter(|| judge(black_box(&allegation), &facts, &policy, &operation).unwrap());
        });
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
