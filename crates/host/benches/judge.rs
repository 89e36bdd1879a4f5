//! What it takes to judge a bundle: the facts of this host collected, and all rules asked.
//!
//! The configuration is one that Docker 20.10 wrote, with paths that exist here, and its filter is kept from an earlier
//! start, as on a node where it is not the first container: it is read and verified each time. `cargo bench -p gabion-host
//! --bench judge`; `bench/gate.sh` runs this, and measures the same in the program as it is called.

#![allow(clippy::expect_used)] // a bench, like a test, ends where its ground cannot be laid

use std::fs;
use std::hint::black_box;
use std::path::Path;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use gabion_baseline::judge::wanted_facts;
use gabion_baseline::policy::SeccompGap;
use gabion_baseline::{Allegation, Judgement, Level, Operation, Policy, Profile, judge, rules};
use gabion_filters::Filters;
use gabion_host::Context;
use gabion_seccomp::{Profile as Filter, Target, compile, default};
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

/// What a filter lets through of the floor, as a process that has just started finds it out.
fn gaps(kept: &Path, filter: &Value, bounding: &[String]) -> Result<Vec<SeccompGap>, String> {
    let filters = Filters::new();
    filters.keep_in(kept.to_owned());
    let study = filters.study(filter).map_err(|error| error.to_string())?;
    let gap = |gap: gabion_seccomp::floor::Gap| SeccompGap {
        entry: gap.entry.to_owned(),
        restricted: gap.restricted,
        calls: gap.calls,
    };
    Ok(study.gaps(bounding).into_iter().map(gap).collect())
}

/// A built-in profile, as the program has it; with every rule on that it leaves off. `engine` is where the engine has what
/// it gives containers.
fn policy(profile: Profile, everything: bool, kept: &Path, engine: &Path) -> Policy {
    let mut policy = Policy::builtin(profile, default::profile);
    let kept = kept.to_owned();
    policy.engine_roots.push(engine.display().to_string());
    policy.seccomp_gaps = std::sync::Arc::new(move |filter, bounding| gaps(&kept, filter, bounding));
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
    let kept = place.path().join("filters");
    let engine = place.path().join("containers");
    let operation = Operation::Create {
        id: "web-1".to_owned(),
    };
    for (name, policy) in [
        ("baseline", policy(Profile::Baseline, false, &kept, &engine)),
        ("restricted", policy(Profile::Restricted, false, &kept, &engine)),
        ("every rule", policy(Profile::Baseline, true, &kept, &engine)),
    ] {
        let context = Context {
            engine_roots: policy.engine_roots.clone(),
            policy_files: vec!["/etc/gabion/policy.toml".into()],
            sealed: Some("a copy that nobody can write to".to_owned()),
            ..Context::default()
        };
        let wanted = wanted_facts(&policy, &operation);
        let collect =
            || gabion_host::collect(black_box(allegation.config()), place.path(), &wanted, &context);
        // What is measured is the way of a container that is run.
        let judged =
            judge(&allegation, &collect().facts, &policy, &operation).expect("it stays a configuration");
        assert!(
            policy.profile != Profile::Baseline || matches!(judged, Judgement::Admitted(_)),
            "{name}: {:#?}",
            judged.findings()
        );
        criterion.bench_function(&format!("facts and judgement, {name}"), |bencher| {
            bencher.iter_batched(
                || allegation.clone(),
                |allegation| judge(allegation, &collect().facts, &policy, &operation),
                BatchSize::SmallInput,
            );
        });
        criterion.bench_function(&format!("facts alone, {name}"), |bencher| bencher.iter(collect));
    }
    let filter = allegation.document()["linux"]["seccomp"].clone();
    let bounding: Vec<String> =
        serde_json::from_value(allegation.document()["process"]["capabilities"]["bounding"].clone())
            .expect("the captured file has capabilities");
    criterion.bench_function("of it, holding the filter against the floor", |bencher| {
        bencher.iter(|| gaps(&kept, black_box(&filter), &bounding));
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
