//! What it costs to come by the filters of a container: made, and taken from where they were kept.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark of inputs that are known to be good"
)]

use criterion::{Criterion, criterion_group, criterion_main};
use gabion_filters::{Filters, Source};
use gabion_seccomp::{Profile, Target, compile, default, floor};
use serde_json::{Value, json};

fn coming_by(criterion: &mut Criterion) {
    let built_in: Value =
        serde_json::from_str(include_str!("../../seccomp/profiles/docker-20.10.json")).unwrap();
    // As a site may have it.
    let mut docker = built_in.clone();
    let rule = json!({"names": ["read"], "action": "SCMP_ACT_ALLOW"});
    docker["syscalls"].as_array_mut().unwrap().push(rule);
    let place = tempfile::tempdir_in("/dev/shm").unwrap();
    let kept = || {
        let filters = Filters::new();
        filters.keep_in(place.path().join("filters"));
        filters
    };
    let profile = Profile::from_value(&docker).unwrap().unwrap();
    criterion.bench_function("docker: compile alone", |bencher| {
        bencher.iter(|| compile(&profile, &Target::native()));
    });
    criterion.bench_function("docker: compile and judge", |bencher| {
        bencher.iter(|| floor::study(&docker))
    });
    assert_eq!(kept().study_from(&docker).unwrap().1, Source::Made);
    assert_eq!(kept().study_from(&docker).unwrap().1, Source::Kept);
    criterion.bench_function("docker: take it from its file", |bencher| {
        bencher.iter(|| kept().study(&docker));
    });
    assert_eq!(kept().study_from(&built_in).unwrap().1, Source::BuiltIn);
    criterion.bench_function("docker: built in", |bencher| {
        bencher.iter(|| kept().study(&built_in));
    });
    let entries: Vec<String> = floor::study(&docker)
        .unwrap()
        .gaps(&[])
        .iter()
        .map(|gap| gap.entry.to_owned())
        .collect();
    criterion.bench_function("floor: compile", |bencher| {
        bencher.iter(|| floor::filter(&entries, &[]))
    });
    criterion.bench_function("floor: built in or kept", |bencher| {
        bencher.iter(|| kept().floor(&entries, &[]));
    });
    let value = default::profile(&[]);
    criterion.bench_function("default: compile and judge", |bencher| {
        bencher.iter(|| floor::study(&value))
    });
    assert_eq!(kept().study_from(&value).unwrap().1, Source::BuiltIn);
    criterion.bench_function("default: built in", |bencher| {
        bencher.iter(|| kept().study(&value))
    });
    let first = kept();
    drop(first.study(&docker).unwrap());
    criterion.bench_function("docker: the second time in a process", |bencher| {
        bencher.iter(|| first.study(&docker));
    });
}

criterion_group!(benches, coming_by);
criterion_main!(benches);
