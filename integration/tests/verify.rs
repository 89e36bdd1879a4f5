//! `gabion verify`: a running container is held against what was judged, and what has drifted is named.

#![allow(clippy::unwrap_used, clippy::panic)] // a test file, its functions beside the tests included

use std::fs;
use std::process::Command;

use gabion_integration::{Container, Site, edit_array, limits_processes, run, skip};
use serde_json::{Value, json};

/// A container that runs until it is deleted.
fn running<'site>(site: &'site Site, setup: &dyn Fn(&mut Container<'site>)) -> Container<'site> {
    let mut container = site.container();
    container.script("sleep 1000");
    setup(&mut container);
    container.create().ok();
    container.start().ok();
    container.wait_for("tmp/ran", "ran");
    container
}

fn full(container: &mut Container<'_>) {
    let data = container.bundle.join("data");
    fs::create_dir_all(&data).unwrap();
    edit_array(&mut container.config, "/mounts", |mounts| {
        mounts.push(json!({"destination": "/data", "type": "bind", "source": data,
            "options": ["rbind", "rprivate", "ro", "nosuid", "nodev"]}));
    });
    container.config["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "0"});
    if limits_processes() {
        container.config["linux"]["resources"]["pids"] = json!({"limit": 64});
    }
    container.config["process"]["oomScoreAdj"] = json!(100);
}

fn verified(container: &Container<'_>) -> (i32, Value) {
    let answer = container
        .site
        .gabion(&["verify", "--format", "json", &container.id]);
    let value = serde_json::from_str(&answer.stdout).unwrap_or_else(|_| panic!("{answer:?}"));
    (answer.status, value)
}

/// The checks with this outcome.
fn with_outcome(value: &Value, outcome: &str) -> Vec<String> {
    let checks = value["containers"][0]["checks"].as_array().unwrap();
    checks
        .iter()
        .filter(|check| check["outcome"] == outcome)
        .map(|check| check["id"].as_str().unwrap().to_owned())
        .collect()
}

#[track_caller]
fn assert_holds(container: &Container<'_>) {
    let (status, value) = verified(container);
    assert_eq!((status, &value["drift"]), (0, &json!(0)), "{value:#}");
}

/// After the tampering exactly these checks do not hold, and the first one says this.
#[track_caller]
fn assert_drift(tamper: &dyn Fn(&Container<'_>), checks: &[&str], text: &str) {
    let site = Site::new();
    let container = running(&site, &full);
    assert_holds(&container);
    tamper(&container);
    let (status, value) = verified(&container);
    assert_eq!(status, 2, "{value:#}");
    assert_eq!(with_outcome(&value, "drift"), checks, "{value:#}");
    assert!(value.to_string().contains(text), "{value:#}");
    let answer = site.gabion(&["verify", &container.id]);
    assert_eq!(answer.status, 2);
    assert!(
        answer.stdout.contains(&format!("  {}  DRIFT", checks[0])),
        "{answer:?}"
    );
}

fn nsenter(container: &Container<'_>, flags: &[&str], words: &[&str]) {
    let pid = container.pid().to_string();
    let mut command = Command::new("nsenter");
    command.args(["-t", &pid]).args(flags).args(words);
    run(&mut command, &std::env::temp_dir()).ok();
}

#[test]
fn a_container_that_is_as_it_was_judged_is_said_to_be() {
    let site = Site::new();
    let container = running(&site, &full);
    let (status, value) = verified(&container);
    assert_eq!(status, 0, "{value:#}");
    let holds = with_outcome(&value, "holds");
    for check in [
        "V-01", "V-02", "V-04", "V-05", "V-08", "V-09", "V-10", "V-11", "V-12", "V-14", "V-15", "V-16",
    ] {
        assert!(holds.iter().any(|id| id == check), "{check}: {value:#}");
    }
    assert_eq!(value["containers"][0]["status"], "running");
    assert_eq!(value["containers"][0]["profile"], "baseline");
    let answer = site.gabion(&["verify", &container.id]).ok();
    assert!(
        answer.stdout.starts_with(&format!(
            "{} (running, process {}, profile baseline): as it was judged\n",
            container.id,
            container.pid()
        )),
        "{answer:?}"
    );
}

#[test]
fn a_created_container_is_verified_but_for_its_process() {
    let site = Site::new();
    let mut container = site.container();
    full(&mut container);
    container.create().ok();
    let (status, value) = verified(&container);
    assert_eq!(status, 0, "{value:#}");
    assert!(
        with_outcome(&value, "not-asked").contains(&"V-01".to_owned()),
        "{value:#}"
    );
    assert!(
        with_outcome(&value, "holds").contains(&"V-10".to_owned()),
        "{value:#}"
    );
}

#[test]
fn a_container_in_a_user_namespace_is_verified() {
    let site = Site::new();
    let container = running(&site, &|container: &mut Container<'_>| {
        edit_array(&mut container.config, "/linux/namespaces", |list| {
            list.push(json!({"type": "user"}));
        });
        let map = json!([{"containerID": 0, "hostID": 200_000, "size": 65536}]);
        container.config["linux"]["uidMappings"] = map.clone();
        container.config["linux"]["gidMappings"] = map;
        let status = Command::new("chown")
            .args(["-R", "200000:200000"])
            .arg(container.rootfs())
            .status();
        assert!(status.unwrap().success());
    });
    let (status, value) = verified(&container);
    assert_eq!(status, 0, "{value:#}");
    assert!(
        with_outcome(&value, "holds").contains(&"V-18".to_owned()),
        "{value:#}"
    );
}

#[test]
fn v_08_a_mask_that_was_taken_off_later_is_named() {
    assert_drift(
        &|container| {
            nsenter(
                container,
                &["-m", "-p"],
                &["/bin/busybox", "umount", "/proc/timer_list"],
            )
        },
        &["V-08"],
        "\\\"/proc/timer_list\\\" is not masked",
    );
}

#[test]
fn v_09_and_v_10_a_mount_that_was_made_later_is_named() {
    assert_drift(
        &|container| {
            let words = ["/bin/busybox", "mount", "-t", "tmpfs", "none", "/mnt"];
            nsenter(container, &["-m", "-p"], &words);
        },
        &["V-10"],
        "a tmpfs that was not judged is mounted at \\\"/mnt\\\"",
    );
    assert_drift(
        &|container| {
            let words = ["/bin/busybox", "mount", "-o", "remount,bind,rw", "/proc/sys"];
            nsenter(container, &["-m", "-p"], &words);
        },
        &["V-09"],
        "\\\"/proc/sys\\\" is not read-only",
    );
    assert_drift(
        &|container| {
            let words = [
                "/bin/busybox",
                "mount",
                "-o",
                "remount,bind,rw,nosuid,nodev",
                "/data",
            ];
            nsenter(container, &["-m", "-p"], &words);
        },
        &["V-10"],
        "the mount at \\\"/data\\\" is not ro",
    );
}

#[test]
fn v_14_a_limit_that_was_lifted_later_is_named() {
    if !limits_processes() {
        skip("this host has no controller that limits processes");
        return;
    }
    assert_drift(
        &|container| {
            let cgroups = gabion_integration::cgroups(&container.id);
            let mut files = cgroups.iter().map(|cgroup| cgroup.join("pids.max"));
            let limit = files.find(|file| file.exists()).unwrap();
            fs::write(limit, "max").unwrap();
        },
        &["V-14"],
        "/linux/resources/pids/limit is 64, and the cgroup's is max",
    );
}

#[test]
fn v_15_a_kernel_parameter_that_was_changed_later_is_named() {
    assert_drift(
        &|container| {
            let script = "echo 80 > /proc/sys/net/ipv4/ip_unprivileged_port_start";
            nsenter(container, &["-n"], &["sh", "-c", script]);
        },
        &["V-15"],
        "net.ipv4.ip_unprivileged_port_start is",
    );
}

#[test]
fn v_16_limits_that_were_raised_later_are_named() {
    assert_drift(
        &|container| {
            let pid = container.pid();
            fs::write(format!("/proc/{pid}/oom_score_adj"), "50").unwrap();
        },
        &["V-16"],
        "oom_score_adj is 50, below 100",
    );
    assert_drift(
        &|container| {
            let mut command = Command::new("prlimit");
            command.args(["--pid", &container.pid().to_string(), "--nofile=1024:1000"]);
            let lower = run(&mut command, &std::env::temp_dir());
            assert_ne!(lower.status, 0, "soft above hard");
            let mut command = Command::new("prlimit");
            command.args(["--pid", &container.pid().to_string(), "--nofile=512:512"]);
            run(&mut command, &std::env::temp_dir()).ok();
            assert_holds(container);
            fs::write(format!("/proc/{}/oom_score_adj", container.pid()), "99").unwrap();
        },
        &["V-16"],
        "oom_score_adj is 99, below 100",
    );
}

#[test]
fn all_containers_are_verified_at_once_and_one_that_stopped_is_left_out() {
    let site = Site::new();
    let first = running(&site, &full);
    let second = running(&site, &full);
    let mut third = site.container();
    third.script("true");
    third.create().ok();
    third.start().ok();
    third.wait_until_stopped();
    let all = || {
        let answer = site.gabion(&["verify", "--all", "--format", "json"]);
        let value: Value = serde_json::from_str(&answer.stdout).unwrap();
        (answer.status, value)
    };
    let (status, value) = all();
    assert_eq!(
        (status, value["containers"].as_array().unwrap().len()),
        (0, 2),
        "{value:#}"
    );
    nsenter(&second, &["-m", "-p"], &["/bin/busybox", "umount", "/data"]);
    let (status, value) = all();
    assert_eq!((status, &value["drift"]), (2, &json!(1)), "{value:#}");
    assert_holds(&first);

    let answer = site.gabion(&["verify", &third.id]);
    assert_eq!(
        (answer.status, answer.stderr.as_str()),
        (
            1,
            "gabion: error: cannot verify a container in the stopped state\n"
        )
    );
    let answer = site.gabion(&["verify", "nobody"]);
    assert_eq!(answer.status, 1, "{answer:?}");
    assert_eq!(site.gabion(&["verify"]).status, 1);
}

/// What was promised is not known any more: nothing is said to hold.
#[test]
fn a_promise_that_is_lost_is_an_error() {
    let site = Site::new();
    let container = running(&site, &full);
    let promise = site.root().join(&container.id).join("promise.json");
    fs::write(&promise, "{").unwrap();
    let answer = site.gabion(&["verify", &container.id]);
    assert_eq!(answer.status, 1, "{answer:?}");
    assert!(answer.stderr.contains("promise.json"), "{answer:?}");
    let answer = site.gabion(&["verify", "--all"]);
    assert_eq!(answer.status, 1, "{answer:?}");
    assert!(answer.stdout.contains("cannot be verified"), "{answer:?}");
}
