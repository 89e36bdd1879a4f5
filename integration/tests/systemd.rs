//! `--systemd-cgroup`: systemd makes the cgroup, knows the limits, and forgets the container with its end.
//!
//! On a host without systemd one test is left: that it is refused.

#![allow(clippy::unwrap_used, clippy::panic)] // a test file

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use gabion_integration::{Answer, Container, Site, has_systemd, is_alive, run, skip, wait_until};
use serde_json::json;

fn systemctl(site: &Site, arguments: &[&str]) -> Answer {
    run(Command::new("systemctl").args(arguments), site.path())
}

fn unit(container: &Container<'_>) -> String {
    format!("test-{}.scope", container.id)
}

fn cgroup(container: &Container<'_>) -> PathBuf {
    PathBuf::from("/sys/fs/cgroup/system.slice").join(unit(container))
}

/// Files of the container's cgroup that are there, with the first lines of what they say.
fn values(container: &Container<'_>, files: &[&str]) -> Vec<(String, String)> {
    let read = |file: &&str| {
        let text = fs::read_to_string(cgroup(container).join(file)).ok()?;
        Some(((*file).to_owned(), text.trim().to_owned()))
    };
    files.iter().filter_map(read).collect()
}

#[track_caller]
fn assert_forgotten(container: &Container<'_>) {
    let loaded = || {
        let pattern = format!("*{}*", container.id);
        let answer = systemctl(
            container.site,
            &["list-units", "--all", "--plain", "--no-legend", &pattern],
        );
        let files = fs::read_dir("/run/systemd/transient")
            .into_iter()
            .flatten()
            .flatten();
        let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
        answer.ok().stdout
            + &names
                .filter(|name| name.contains(&container.id))
                .collect::<String>()
    };
    assert!(wait_until(|| loaded().is_empty()), "{}", loaded());
    container.assert_gone();
}

/// All that systemd knows of too, and some that is the kernel's alone.
const FILES: [&str; 16] = [
    "memory.max",
    "memory.high",
    "memory.low",
    "memory.swap.max",
    "memory.oom.group",
    "cpu.weight",
    "cpu.max",
    "cpu.max.burst",
    "cpuset.cpus",
    "cpuset.mems",
    "pids.max",
    "io.weight",
    "io.max",
    "hugetlb.2MB.max",
    "cgroup.freeze",
    "cpu.idle",
];

#[test]
fn every_limit_is_the_kernels_and_systemds_and_stays_when_systemd_reads_its_units_again() {
    if !has_systemd() {
        return skip("no systemd here");
    }
    let site = Site::with_systemd();
    let mut container = site.container();
    container.script("sleep 1000");
    container.config["linux"]["resources"]["memory"] =
        json!({"limit": 134_217_728, "reservation": 67_108_864, "swap": 201_326_592});
    container.config["linux"]["resources"]["cpu"] =
        json!({"shares": 512, "quota": 12_345, "period": 50_000, "cpus": "0-1", "mems": "0"});
    container.config["linux"]["resources"]["pids"] = json!({"limit": 77});
    container.config["linux"]["resources"]["hugepageLimits"] =
        json!([{"pageSize": "2MB", "limit": 4_194_304}]);
    container.config["linux"]["resources"]["unified"] =
        json!({"memory.high": "100663296", "memory.oom.group": "1"});
    container.create().ok();
    container.start().ok();
    let set = values(&container, &FILES);
    println!("{set:?}");
    for (file, value) in [
        ("memory.max", "134217728"),
        ("memory.low", "67108864"),
        ("memory.high", "100663296"),
        ("memory.oom.group", "1"),
        ("cpu.weight", "59"),
        // Hundredths of a CPU, and never less than was asked for.
        ("cpu.max", "12500 50000"),
        ("cpuset.cpus", "0-1"),
        ("cpuset.mems", "0"),
        ("pids.max", "77"),
    ] {
        let found = set.iter().find(|(name, _)| name == file);
        assert_eq!(found.map(|(_, text)| text.as_str()), Some(value), "{file}");
    }
    for (file, value) in [("memory.swap.max", "67108864"), ("hugetlb.2MB.max", "4194304")] {
        if let Some((_, text)) = set.iter().find(|(name, _)| name == file) {
            assert_eq!(text, value, "{file}");
        }
    }
    let names = "MemoryMax,MemoryLow,MemoryHigh,CPUWeight,CPUQuotaPerSecUSec,AllowedCPUs,AllowedMemoryNodes,TasksMax,\
                 Delegate,Slice,Description";
    let shown = systemctl(&site, &["show", "-p", names, &unit(&container)])
        .ok()
        .stdout;
    for line in [
        "MemoryMax=134217728",
        "MemoryLow=67108864",
        "MemoryHigh=100663296",
        "CPUWeight=59",
        "CPUQuotaPerSecUSec=250ms",
        "AllowedCPUs=0-1",
        "AllowedMemoryNodes=0",
        "TasksMax=77",
        "Delegate=yes",
        "Slice=system.slice",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    assert!(
        shown.contains(&format!("Description=container {}", container.id)),
        "{shown}"
    );

    systemctl(&site, &["daemon-reload"]).ok();
    // Another property of the unit makes systemd write all of them.
    systemctl(
        &site,
        &["set-property", "--runtime", &unit(&container), "CPUWeight=60"],
    )
    .ok();
    let after = values(&container, &FILES);
    for ((file, before), (_, after)) in set.iter().zip(&after) {
        let expected = match file.as_str() {
            "cpu.weight" => "60",
            _ => before,
        };
        assert_eq!(after, expected, "{file}");
    }
    // Devices are still guarded, the limits still those that were judged, and a further process gets in.
    site.gabion(&["verify", &container.id]).ok();
    site.gabion(&["exec", &container.id, "/bin/true"]).ok();

    // It is rounded from what was asked for, not from what was rounded before.
    for (period, expected) in [("10000", "12400 10000"), ("50000", "12500 50000")] {
        site.gabion(&["update", "--cpu-period", period, &container.id])
            .ok();
        assert_eq!(values(&container, &["cpu.max"])[0].1, expected);
        site.gabion(&["verify", &container.id]).ok();
    }
    site.gabion(&[
        "update",
        "--cpu-quota",
        "30000",
        "--pids-limit",
        "50",
        "--memory",
        "160M",
        &container.id,
    ])
    .ok();
    site.gabion(&["update", "--cpuset-cpus", "1", &container.id]).ok();
    systemctl(&site, &["daemon-reload"]).ok();
    let expected = [
        ("cpu.max", "30000 50000"),
        ("cpuset.cpus", "1"),
        ("memory.max", "167772160"),
        ("pids.max", "50"),
    ];
    let found = values(&container, &expected.map(|(file, _)| file));
    assert_eq!(
        found,
        expected.map(|(file, value)| (file.to_owned(), value.to_owned()))
    );
    // What is lifted stays lifted.
    site.gabion(&[
        "update",
        "--memory",
        "-1",
        "--pids-limit",
        "-1",
        "--memory-swap",
        "-1",
        &container.id,
    ])
    .ok();
    systemctl(&site, &["daemon-reload"]).ok();
    systemctl(
        &site,
        &["set-property", "--runtime", &unit(&container), "CPUWeight=61"],
    )
    .ok();
    let found = values(&container, &["memory.max", "pids.max"]);
    assert!(found.iter().all(|(_, text)| text == "max"), "{found:?}");
    site.gabion(&["verify", &container.id]).ok();
    container.kill("KILL").ok();
    container.wait_until_stopped();
    container.delete().ok();
    assert_forgotten(&container);
}

#[test]
fn one_task_and_the_scope_of_systemd_with_what_it_leaves_out() {
    if !has_systemd() {
        return skip("no systemd here");
    }
    let site = Site::with_systemd();
    let mut container = site.container();
    // Those who build are tasks too.
    container.config["linux"]["resources"]["pids"] = json!({"limit": 1});
    container.config["process"]["args"] = json!(["/bin/sleep", "1000"]);
    // The unit is of the runtime's choice.
    container.config["linux"]
        .as_object_mut()
        .unwrap()
        .remove("cgroupsPath");
    container.create().ok();
    container.start().ok();
    let cgroup = format!("/system.slice/gabion-{}.scope", container.id);
    let line = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    assert_eq!(line.trim(), format!("0::{cgroup}"));
    assert_eq!(
        fs::read_to_string(format!("/sys/fs/cgroup{cgroup}/pids.max"))
            .unwrap()
            .trim(),
        "1"
    );
    site.gabion(&["delete", "--force", &container.id]).ok();
    assert_forgotten(&container);
}

#[test]
fn nothing_is_left_of_those_who_outlive_the_first_process() {
    if !has_systemd() {
        return skip("no systemd here");
    }
    let site = Site::with_systemd();
    let mut container = site.container();
    // With the host's process ids nobody ends with the first.
    container
        .arguments
        .extend(["--profile".into(), "privileged".into()]);
    gabion_integration::edit_array(&mut container.config, "/linux/namespaces", |list| {
        list.retain(|entry| entry["type"] != "pid");
    });
    container.script(
        "mkdir -p /tmp/x; (trap '' TERM HUP; sleep 1000) & (setsid nohup sleep 1001 >/tmp/out 2>&1) & echo on > /tmp/on",
    );
    container.create().ok();
    container.start().ok();
    container.wait_for("tmp/on", "on");
    container.wait_until_stopped();
    container.delete().ok();
    assert_forgotten(&container);
}

#[test]
fn what_annotations_say_of_the_scopes_end_is_so_and_what_else_they_say_is_not() {
    if !has_systemd() {
        return skip("no systemd here");
    }
    let site = Site::with_systemd();
    let mut container = site.container();
    container
        .arguments
        .extend(["--profile".into(), "privileged".into()]);
    container.config["process"]["args"] = json!(["/bin/sleep", "1000"]);
    container.config["annotations"] = json!({
        "org.systemd.property.RuntimeMaxSec": "15",
        "org.systemd.property.TimeoutStopUSec": "uint64 2000000",
        "org.systemd.property.KillSignal": "9",
        "org.systemd.property.Delegate": "false",
        "org.systemd.property.MemoryMax": "uint64 4096",
    });
    container.create().ok();
    container.start().ok();
    let names = "RuntimeMaxUSec,TimeoutStopUSec,KillSignal,Delegate,MemoryMax,CollectMode";
    let shown = systemctl(&site, &["show", "-p", names, &unit(&container)])
        .ok()
        .stdout;
    for line in [
        "RuntimeMaxUSec=15s",
        "TimeoutStopUSec=2s",
        "KillSignal=9",
        "Delegate=yes",
        "MemoryMax=infinity",
        "CollectMode=inactive",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    container.wait_until_stopped();
    // Why it ended is to be seen until it is deleted.
    let result = || systemctl(&site, &["show", "-p", "Result", "--value", &unit(&container)]).stdout;
    assert!(wait_until(|| result().trim() == "timeout"), "{}", result());
    container.delete().ok();
    assert_forgotten(&container);

    let mut container = site.container();
    container.config["annotations"] = json!({"org.systemd.property.TimeoutStopUSec": "soon"});
    assert_eq!(container.create().status, 1);
    let error = site.last_error();
    assert!(
        error.contains("\"soon\" is not a number of microseconds"),
        "{error}"
    );
    assert_forgotten(&container);
}

#[test]
fn a_unit_of_somebody_elses_is_left_alone() {
    if !has_systemd() {
        return skip("no systemd here");
    }
    let site = Site::with_systemd();
    let container = site.container();
    let mut other = Command::new("systemd-run")
        .args(["--quiet", "--scope", "--unit", &unit(&container), "sleep", "1000"])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    assert!(wait_until(|| cgroup(&container).is_dir()));
    let mut again = site.container();
    again.arguments.extend(["--profile".into(), "privileged".into()]);
    again.config["linux"]["cgroupsPath"] = json!(format!("system.slice:test:{}", container.id));
    let answer = again.create();
    assert_eq!(answer.status, 1);
    let error = site.last_error();
    assert!(
        error.contains("RES-05") || error.contains("container's cgroup is not empty"),
        "{error}"
    );
    site.gabion(&["delete", "--force", &again.id]).ok();
    assert!(is_alive(other.id().cast_signed()));
    let state = systemctl(&site, &["is-active", &unit(&container)]).stdout;
    assert_eq!(state.trim(), "active");
    other.kill().unwrap();
    other.wait().unwrap();
    assert_forgotten(&container);
}

#[test]
fn a_scope_whose_cgroup_is_there_and_frozen_is_refused() {
    if !has_systemd() {
        return skip("no systemd here");
    }
    let site = Site::with_systemd();
    let container = site.container();
    fs::create_dir(cgroup(&container)).unwrap();
    fs::write(cgroup(&container).join("cgroup.freeze"), "1").unwrap();
    let answer = container.create();
    assert_eq!(answer.status, 1);
    assert!(
        site.last_error()
            .contains("config.json#/linux/cgroupsPath: container's cgroup unexpectedly frozen"),
        "{}",
        site.last_error()
    );
    if cgroup(&container).exists() {
        fs::remove_dir(cgroup(&container)).unwrap();
    }
    assert_forgotten(&container);
}

#[test]
fn of_a_create_that_is_killed_no_unit_is_left() {
    if !has_systemd() {
        return skip("no systemd here");
    }
    let site = Site::with_systemd();
    let container = site.container();
    let begin = Instant::now();
    container.create().ok();
    let whole = begin.elapsed();
    site.gabion(&["delete", &container.id]).ok();
    for round in 0..12 {
        let mut child = container
            .building("create")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(whole * round / 10);
        child.kill().unwrap();
        child.wait().unwrap();
        site.gabion(&["delete", "--force", &container.id]).ok();
        // A builder whose caller was killed is told by a signal, and takes a moment to follow.
        let left = || gabion_integration::left(&container.id, &container.bundle);
        assert!(wait_until(|| left().is_empty()), "round {round}: {:?}", left());
        assert_forgotten(&container);
        assert!(!container.ran(), "round {round}");
    }
    container.run().ok();
    assert!(container.ran());
}

/// Runs `create` in a mount namespace where these are not to be reached.
fn create_without(container: &Container<'_>, sockets: &[&str]) -> Answer {
    container.write();
    let covers: Vec<String> = sockets
        .iter()
        .map(|socket| format!("mount --bind /dev/null {socket} && "))
        .collect();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c"]);
    command.arg(format!("{}exec \"$@\"", covers.concat())).arg("sh");
    let building = container.building("create");
    command.arg(building.get_program()).args(building.get_args());
    run(command.current_dir(container.site.path()), container.site.path())
}

#[test]
fn without_the_bus_systemds_own_socket_does_and_without_both_it_is_said() {
    if !has_systemd() {
        return skip("no systemd here");
    }
    let site = Site::with_systemd();
    let container = site.container();
    let (bus, own) = ("/run/dbus/system_bus_socket", "/run/systemd/private");
    create_without(&container, &[bus, own]);
    let error = site.last_error();
    assert!(
        error.contains("--systemd-cgroup: systemd cannot be reached: "),
        "{error}"
    );
    assert!(error.contains(bus) && error.contains(own), "{error}");
    assert_forgotten(&container);
    for hidden in [bus, own] {
        create_without(&container, &[hidden]).ok();
        site.gabion(&["delete", "--force", &container.id]).ok();
        assert_forgotten(&container);
    }
}

#[test]
fn paths_that_are_no_units_are_refused() {
    if !has_systemd() {
        return skip("no systemd here");
    }
    let site = Site::with_systemd();
    let mut container = site.container();
    for (path, words) in [
        (
            "/web",
            "expected cgroupsPath to be of format \"slice:prefix:name\"",
        ),
        (
            "a:b",
            "expected cgroupsPath to be of format \"slice:prefix:name\"",
        ),
        ("a--b.slice:c:d", "is no slice of systemd"),
        ("a.slice:b:c.slice", "gives no name of a scope"),
    ] {
        container.config["linux"]["cgroupsPath"] = json!(path);
        assert_eq!(container.create().status, 1, "{path}");
        assert!(site.last_error().contains(words), "{path}: {}", site.last_error());
        assert_forgotten(&container);
    }
}

#[test]
fn a_host_without_systemd_is_told_so() {
    if has_systemd() {
        return skip("systemd is here");
    }
    let site = Site::with_systemd();
    let container = site.container();
    assert_eq!(container.create().status, 1);
    assert!(
        site.last_error()
            .contains("--systemd-cgroup: this host does not run systemd (there is no /run/systemd/system)"),
        "{}",
        site.last_error()
    );
}
