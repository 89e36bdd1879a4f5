//! What it takes to judge a bundle: the facts of this host collected, and all rules asked.
//!
//! The configuration is one that Docker 20.10 wrote, with paths that exist here. `cargo bench -p gabion-host --bench
//! judge`; `bench/judgement.sh` measures the same in the program as it is called.

#![allow(clippy::expect_used)] // a bench, like a test, ends where its ground cannot be laid

use std::fs;
use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use gabion_baseline::judge::wanted_facts;
use gabion_baseline::policy::SeccompGap;
use gabion_baseline::{Allegation, Level, Operation, Policy, Profile, judge, rules};
use gabion_host::Context;
use gabion_seccomp::{Profile as Filter, Target, compile, default, floor};
use serde_json::{Value, json};

const DOCKER: &str = include_str!("../../baseline/tests/bundles/docker20-default.json");

/// Lays the bundle out in a directory.
fn bundle(top: &Path) -> Allegation {
    for directory in [
        "rootfs/bin",
        "rootfs/etc",
        "rootfs/proc",
        "rootfs/dev",
        "rootfs/sys",
        "containers",
    ] {
        fs::create_dir_all(top.join(directory)).expect("a temporary directory is writable");
    }
    fs::write(top.join("rootfs/bin/sh"), "").expect("a temporary directory is writable");
    let mut document: Value = serde_json::from_str(DOCKER).expect("the captured file is JSON");
    document["root"]["path"] = json!(top.join("rootfs"));
    for mount in document["mounts"].as_array_mut().into_iter().flatten() {
        if mount["type"] == "bind" {
            let destination = mount["destination"].as_str().unwrap_or_default().to_owned();
            let source = top.join("containers").join(&destination["/etc/".len()..]);
            fs::write(&source, "").expect("a temporary directory is writable");
            fs::write(top.join("rootfs").join(&destination[1..]), "")
                .expect("a temporary directory is writable");
            mount["source"] = json!(source);
        }
    }
    document["hooks"]["prestart"][0]["path"] = json!("/proc/self/exe");
    Allegation::from_document(document).expect("the document is a configuration")
}

fn gaps(filter: &Value, bounding: &[String]) -> Result<Vec<SeccompGap>, String> {
    let gaps = floor::gaps(filter, bounding).map_err(|error| error.to_string())?;
    let gap = |gap: floor::Gap| SeccompGap {
        entry: gap.entry.to_owned(),
        restricted: gap.restricted,
        calls: gap.calls,
    };
    Ok(gaps.into_iter().map(gap).collect())
}

/// A built-in profile, as the program has it; with every rule on that it leaves off.
fn policy(profile: Profile, everything: bool) -> Policy {
    let mut policy = Policy::builtin(profile, default::profile);
    policy.seccomp_gaps = std::sync::Arc::new(gaps);
    if everything {
        for rule in rules::all().filter(|rule| rule.levels.of(profile) == Level::Off) {
            policy.levels.insert(rule.id.to_owned(), Level::Audit);
        }
    }
    policy
}

fn bench(criterion: &mut Criterion) {
    let place = tempfile::tempdir().expect("a temporary directory can be made");
    let allegation = bundle(place.path());
    let operation = Operation::Create {
        id: "web-1".to_owned(),
    };
    for (name, policy) in [
        ("baseline", policy(Profile::Baseline, false)),
        ("restricted", policy(Profile::Restricted, false)),
        ("every rule", policy(Profile::Restricted, true)),
    ] {
        let context = Context {
            engine_roots: policy.engine_roots.clone(),
            policy_files: vec!["/etc/gabion/policy.toml".into()],
            ..Context::default()
        };
        let wanted = wanted_facts(&policy, &operation);
        let collect =
            || gabion_host::collect(black_box(allegation.config()), place.path(), &wanted, &context);
        criterion.bench_function(&format!("facts and judgement, {name}"), |bencher| {
            bencher.iter(|| judge(&allegation, &collect().facts, &policy, &operation));
        });
        criterion.bench_function(&format!("facts alone, {name}"), |bencher| bencher.iter(collect));
    }
    let filter = allegation.document()["linux"]["seccomp"].clone();
    let bounding: Vec<String> =
        serde_json::from_value(allegation.document()["process"]["capabilities"]["bounding"].clone())
            .expect("the captured file has capabilities");
    criterion.bench_function("of it, holding the filter against the floor", |bencher| {
        bencher.iter(|| gaps(black_box(&filter), &bounding));
    });
    criterion.bench_function("of that, compiling the filter", |bencher| {
        bencher.iter(|| {
            let profile = Filter::from_value(black_box(&filter)).ok().flatten()?;
            compile(&profile, &Target::native()).ok()
        });
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
