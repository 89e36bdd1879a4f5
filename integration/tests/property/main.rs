//! Whatever the gate admits, and the engine then runs, is what the profile demands, measured from inside by an observer
//! that shares no code with the gates.
//!
//! Bundles are generated: most of them honest, with a grain of everything that a profile has something to say of. A
//! bundle that is admitted must keep the profile's promises twice: in the configuration that judgement made of it
//! (thousands, without running anything), and in a container (some hundred). What breaks a promise is shrunk and
//! written to integration/fixtures/property, where it is tried again by every run from then on.
//!
//! `GABION_PROPERTY_CASES` and `GABION_PROPERTY_CONTAINERS` are how many.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test file, its functions beside the tests included
#![allow(clippy::print_stdout)] // how many there were

mod promises;
mod spec;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use gabion_baseline::facts::FactKind;
use gabion_baseline::policy::SeccompGap;
use gabion_baseline::{Allegation, Judgement, Operation, Policy, Profile, judge};
use gabion_integration::{Container, Site, base_config, edit_array, limits_processes, skip};
use proptest::prelude::*;
use proptest::test_runner::{Config as Runs, TestCaseError, TestError, TestRunner};
use serde_json::{Value, json};

use crate::promises::{effective_keeps, observed_keeps, questions};
use crate::spec::{Spec, spec};

fn number(variable: &str, default: u32) -> u32 {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/property")
}

fn volumes(directory: &Path) -> PathBuf {
    let volumes = directory.join("volumes");
    for index in 0..4 {
        let volume = volumes.join(index.to_string());
        // Destinations of other mounts: in a volume that is read-only they could not be made.
        for name in ["below", "x"] {
            fs::create_dir_all(volume.join(name)).unwrap();
        }
        fs::write(volume.join("name"), index.to_string()).unwrap();
    }
    volumes
}

/// What a filter lets through of the floor. Thousands of bundles have the same few filters.
fn gaps(filter: &Value, bounding: &[String]) -> Result<Vec<SeccompGap>, String> {
    static KNOWN: Mutex<BTreeMap<String, Vec<SeccompGap>>> = Mutex::new(BTreeMap::new());
    let key = format!("{bounding:?} {filter}");
    if let Some(known) = KNOWN.lock().unwrap().get(&key) {
        return Ok(known.clone());
    }
    let gaps: Vec<SeccompGap> = gabion_seccomp::floor::gaps(filter, bounding)
        .map_err(|error| error.to_string())?
        .into_iter()
        .map(|gap| SeccompGap {
            entry: gap.entry.to_owned(),
            restricted: gap.restricted,
            calls: gap.calls,
        })
        .collect();
    KNOWN.lock().unwrap().insert(key, gaps.clone());
    Ok(gaps)
}

/// Judges as `create` would, with the facts of this host.
fn judged(profile: Profile, config: &Value, bundle: &Path) -> Judgement {
    let allegation = Allegation::parse(config.to_string().as_bytes()).unwrap();
    let mut policy = Policy::builtin(profile, gabion_seccomp::default::profile);
    policy.seccomp_gaps = Arc::new(gaps);
    let operation = Operation::Create {
        id: "property".to_owned(),
    };
    let wanted: BTreeSet<FactKind> = gabion_baseline::judge::wanted_facts(&policy, &operation);
    let host = gabion_host::Context {
        sealed: Some("a sealed copy".to_owned()),
        ..gabion_host::Context::default()
    };
    let collected = gabion_host::collect(allegation.config(), bundle, &wanted, &host);
    judge(&allegation, &collected.facts, &policy, &operation).unwrap()
}

#[test]
fn what_is_admitted_is_what_the_profile_demands() {
    let directory = tempfile::tempdir().unwrap();
    let bundle = directory.path();
    for name in ["proc", "sys", "dev", "etc", "bin"] {
        fs::create_dir_all(bundle.join("rootfs").join(name)).unwrap();
    }
    fs::write(bundle.join("rootfs/bin/true"), "").unwrap();
    let volumes = volumes(bundle);
    let cases = number("GABION_PROPERTY_CASES", 2000);
    for profile in [Profile::Baseline, Profile::Restricted] {
        let admitted = Cell::new(0);
        let outcome = runner(cases).run(&spec().prop_map(move |spec| spec.towards(profile)), |spec| {
            let config = spec.config("/gabion-property", &volumes);
            if let Judgement::Admitted(judged) = judged(profile, &config, bundle) {
                admitted.set(admitted.get() + 1);
                effective_keeps(profile, judged.document()).map_err(TestCaseError::fail)?;
            }
            Ok(())
        });
        conclude(outcome, profile, &volumes);
        println!(
            "{profile:?}: {cases} bundles judged, {} of them admitted",
            admitted.get()
        );
        // A generator that makes nothing that is admitted shows nothing.
        assert!(
            admitted.get() >= cases / 20,
            "only {} were admitted",
            admitted.get()
        );
    }
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Runs {
        cases,
        failure_persistence: None,
        max_shrink_iters: 500,
        ..Runs::default()
    })
}

/// Writes down what broke a promise, in its smallest form.
fn conclude(outcome: Result<(), TestError<Spec>>, profile: Profile, volumes: &Path) {
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(why, spec)) => {
            let config = spec.config("/CGROUP", Path::new("/VOLUMES"));
            let text =
                serde_json::to_string_pretty(&json!({"profile": profile.name(), "config": config})).unwrap();
            let path = fixtures().join(format!("found-{:08x}.json", std::process::id()));
            fs::write(&path, text).unwrap();
            panic!(
                "{why}\nfound with {spec:?}, volumes in {volumes:?}; kept as {}",
                path.display()
            );
        }
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}

/// A container with the observer in it.
fn observed(site: &Site) -> Container<'_> {
    let container = site.container();
    let rootfs = container.rootfs();
    fs::copy(env!("CARGO_BIN_EXE_observer"), rootfs.join("bin/observer")).unwrap();
    std::os::unix::fs::symlink("/mnt", rootfs.join("link")).unwrap();
    container
}

/// Runs a configuration; `None` if it is not admitted. Otherwise what the observer saw.
fn run_observed(container: &mut Container<'_>, config: &Value) -> Result<Option<Value>, String> {
    container.config = config.clone();
    let words = questions(config);
    let mut arguments = vec!["/bin/observer".to_owned()];
    arguments.extend(words);
    container.config["process"]["args"] = json!(arguments);
    // A ledger of its own: with a thousand containers, reading all of it each time would take most of the time.
    drop(fs::remove_file(container.site.ledger()));
    let answer = container.run();
    let decisions = container.site.decisions();
    let verdict = decisions
        .last()
        .map_or(Value::Null, |decision| decision["verdict"].clone());
    match verdict.as_str() {
        Some("refused") => Ok(None),
        Some("started") => serde_json::from_str(&answer.stdout)
            .map(Some)
            .map_err(|error| format!("the observer said {answer:?}: {error}")),
        // Asked for and not to be had here is told by name, and nothing ran.
        Some("failed") if answer.stdout.is_empty() && answer.stderr.contains("config.json#") => Ok(None),
        Some("failed") if answer.stdout.is_empty() && answer.stderr.contains("chdir") => Ok(None),
        // It was admitted, and then it was not what was judged: the gate's answer to a container that is built wrong,
        // which is right only if that was wrong.
        _ => Err(format!("{verdict}: {answer:?}")),
    }
}

#[test]
fn what_runs_is_what_the_profile_demands() {
    let cases = number("GABION_PROPERTY_CONTAINERS", 100);
    for profile in [Profile::Baseline, Profile::Restricted] {
        if profile == Profile::Restricted && !limits_processes() {
            skip("restricted limits processes, for which this host has no controller");
            continue;
        }
        let site = Site::new();
        site.write_policy(&format!("profile = {:?}\n", profile.name()));
        let volumes = volumes(site.path());
        let container = std::cell::RefCell::new(observed(&site));
        let (tried, ran) = (Cell::new(0), Cell::new(0));
        // Those that are refused cost little: only what is likely to be admitted is worth a container.
        let wanted = if profile == Profile::Restricted {
            cases / 5
        } else {
            cases
        };
        let bundle = site.path().to_path_buf();
        for name in ["proc", "sys", "dev", "etc", "bin"] {
            fs::create_dir_all(bundle.join("rootfs").join(name)).unwrap();
        }
        let test = |spec: Spec| {
            let container = &mut *container.borrow_mut();
            let config = spec.config(&format!("/{}", container.id), &volumes);
            tried.set(tried.get() + 1);
            if !matches!(
                judged(profile, &config, &container.bundle),
                Judgement::Admitted(_)
            ) {
                return Ok(());
            }
            if let Some(seen) = run_observed(container, &config).map_err(TestCaseError::fail)? {
                ran.set(ran.get() + 1);
                observed_keeps(profile, &config, &seen).map_err(TestCaseError::fail)?;
            }
            Ok(())
        };
        let (mut runner, specs) = (runner(1), spec().prop_map(move |spec| spec.towards(profile)));
        let mut outcome = Ok(());
        while outcome.is_ok() && ran.get() < wanted {
            assert!(
                tried.get() < 100 * wanted,
                "of {} bundles {} ran",
                tried.get(),
                ran.get()
            );
            let tree = specs.new_tree(&mut runner).unwrap();
            outcome = runner.run_one(tree, test).map(drop);
        }
        conclude(outcome, profile, &volumes);
        println!(
            "{profile:?}: {} bundles, {} containers observed",
            tried.get(),
            ran.get()
        );
    }
}

/// What once broke a promise, and shapes of which somebody thought that they might.
#[test]
fn what_once_broke_a_promise_keeps_it() {
    let mut count = 0;
    for entry in fs::read_dir(fixtures()).unwrap() {
        let path = entry.unwrap().path();
        let fixture: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let profile: Profile = fixture["profile"].as_str().unwrap().parse().unwrap();
        let site = Site::new();
        site.write_policy(&format!("profile = {:?}\n", profile.name()));
        let mut container = observed(&site);
        let volumes = volumes(site.path());
        let text = fixture["config"]
            .to_string()
            .replace("/CGROUP", &format!("/{}", container.id))
            .replace("/VOLUMES", volumes.to_str().unwrap());
        let config: Value = serde_json::from_str(&text).unwrap();
        let seen = run_observed(&mut container, &config).unwrap_or_else(|why| panic!("{path:?}: {why}"));
        let expected = fixture["admitted"].as_bool();
        assert!(
            expected.is_none_or(|expected| expected == seen.is_some()),
            "{path:?}"
        );
        if let Some(seen) = seen {
            observed_keeps(profile, &config, &seen).unwrap_or_else(|why| panic!("{path:?}: {why}"));
        }
        count += 1;
    }
    assert!(count > 0, "there are no fixtures");
}

/// The controls: what the observer's words are held against notices a difference.
#[test]
fn a_container_that_breaks_a_promise_is_noticed() {
    let site = Site::new();
    let mut container = observed(&site);
    let volumes = volumes(site.path());
    let mut config = base_config(&format!("/{}", container.id));
    edit_array(&mut config, "/mounts", |mounts| {
        mounts.push(
            json!({"destination": "/data", "type": "bind", "source": volumes.join("1"),
            "options": ["rbind", "ro", "nosuid", "nodev"]}),
        );
    });
    config["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "0"});
    let seen = run_observed(&mut container, &config).unwrap().unwrap();
    observed_keeps(Profile::Baseline, &config, &seen).unwrap();
    let broken = |pointer: &str, value: Value, why: &str| {
        let mut seen = seen.clone();
        *seen.pointer_mut(pointer).unwrap() = value;
        let found = observed_keeps(Profile::Baseline, &config, &seen).unwrap_err();
        assert!(found.contains(why), "{pointer}: {found}");
    };
    broken("/capabilities/bounding", json!(1 << 21), "the bounding set is");
    broken(
        "/capabilities/inheritable",
        json!(1),
        "capabilities are inherited",
    );
    broken("/capabilities/effective", json!(1_u64 << 21), "effective is");
    broken("/noNewPrivileges", json!(false), "no_new_privs is");
    broken("/uids/1", json!(7), "user ids are");
    broken("/gids/2", json!(7), "group ids are");
    broken("/groups", json!([7]), "groups are");
    broken("/umask", json!(0), "the umask is");
    broken("/calls/bpf", Value::Null, "bpf is answered by");
    let host = fs::read_link("/proc/self/ns/net").unwrap();
    broken("/namespaces/net", json!(host), "the net namespace is the host's");
    broken("/descriptors", json!([0, 1, 2, 5]), "descriptors are");
    broken("/limits/RLIMIT_NOFILE/1", json!(4096), "RLIMIT_NOFILE is");
    broken("/oomScoreAdj", json!("-1"), "oom_score_adj is");
    broken(
        "/paths/read:~1proc~1timer_list",
        json!({"text": "Timer List"}),
        "/proc/timer_list can be read",
    );
    broken(
        "/paths/write:~1proc~1sys~1kernel~1hostname",
        json!("written"),
        "can be written to",
    );
    broken("/paths/write:~1data", json!("written"), "/data can be written to");
    broken("/paths/read:~1data~1name/text", json!("2"), "at /data is");
    broken("/mounts/~1data/options", json!(["rw"]), "/data is not nosuid");
    broken("/paths/stat:~1dev~1null/rdev/1", json!(5), "/dev/null is");
    broken(
        "/paths/read:~1proc~1sys~1net~1ipv4~1ip_unprivileged_port_start/text",
        json!("1024"),
        "net.ipv4.ip_unprivileged_port_start is",
    );
}
