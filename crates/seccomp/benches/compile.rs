//! What compiling costs on the way of `create`, and how long the filters are.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark of inputs that are known to be good"
)]

use criterion::{Criterion, criterion_group, criterion_main};
use gabion_seccomp::{Profile, Target, compile, default};
use serde_json::Value;

fn compiling(criterion: &mut Criterion) {
    let docker: Value = serde_json::from_str(include_str!("../profiles/docker-20.10.json")).unwrap();
    let kubernetes: Value =
        serde_json::from_str(include_str!("../profiles/containerd-2-kubernetes.json")).unwrap();
    for (name, value) in [
        ("docker-20.10", docker),
        ("containerd-2-kubernetes", kubernetes),
        ("default", default::profile(&[])),
    ] {
        criterion.bench_function(&format!("read {name}"), |bencher| {
            bencher.iter(|| Profile::from_value(&value));
        });
        let profile = Profile::from_value(&value).unwrap().unwrap();
        criterion.bench_function(&format!("compile {name}"), |bencher| {
            bencher.iter(|| compile(&profile, &Target::native()));
        });
    }
    criterion.bench_function("make default", |bencher| bencher.iter(|| default::profile(&[])));
}

criterion_group!(benches, compiling);
criterion_main!(benches);
