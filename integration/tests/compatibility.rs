//! What callers of other runtimes rely on, and would notice the lack of.

#![allow(clippy::unwrap_used, clippy::panic)] // a test file, its functions beside the tests included

use gabion_integration::{Container, Site};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::json;

/// What a script prints in a further process.
#[track_caller]
fn printed(container: &Container<'_>, flags: &[&str], script: &str) -> String {
    let words = [&["exec"], flags, &[&container.id, "sh", "-c", script]].concat();
    container.site.gabion(&words).ok().stdout
}

#[track_caller]
fn start(container: &Container<'_>) {
    container.create().ok();
    container.start().ok();
    container.wait_for("tmp/ran", "ran");
}

#[test]
fn of_a_variable_that_is_there_twice_the_program_gets_the_last() {
    let site = Site::new();
    let mut container = site.container();
    container.config["process"]["env"] = json!(["ONE=1", "HOME=/x", "PATH=/bin", "ONE=2", "HOME="]);
    // No shell in between, which would add variables of its own.
    container.config["process"]["args"] = json!(["/bin/busybox", "sleep", "600"]);
    container.create().ok();
    container.start().ok();
    // An empty HOME is none, and comes from the image's passwd file, which is not there.
    let script = "tr '\\0' '\\n' < /proc/1/environ; tr '\\0' '\\n' < /proc/$$/environ; true";
    let seen = printed(&container, &["-e", "ONE=3"], script);
    assert!(
        seen.starts_with("PATH=/bin\nONE=2\nHOME=/\n") && seen.ends_with("PATH=/bin\nONE=3\nHOME=/\n"),
        "{seen}"
    );
}

#[test]
fn a_further_process_is_scheduled_as_the_containers_own() {
    let site = Site::new();
    let mut container = site.container();
    container.config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
    container.config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH"});
    container.config["process"]["execCPUAffinity"] = json!({"final": "0"});
    container.script("exec sleep 600");
    start(&container);
    let script = "busybox ionice; cut -d ' ' -f 41 /proc/self/stat; grep Cpus_allowed_list /proc/self/status";
    assert_eq!(
        printed(&container, &[], script),
        "best-effort: prio 6\n3\nCpus_allowed_list:\t0\n"
    );
    // A process file without them says nothing of them either.
    let file = site.path().join("process.json");
    let process = json!({"cwd": "/", "user": {"uid": 0, "gid": 0}, "capabilities": {}, "env": ["PATH=/bin"],
        "noNewPrivileges": true, "args": ["busybox", "ionice"]});
    std::fs::write(&file, process.to_string()).unwrap();
    let words = ["exec", "--process", file.to_str().unwrap(), &container.id];
    assert_eq!(site.gabion(&words).ok().stdout, "best-effort: prio 6\n");
}

#[test]
fn the_processors_of_the_caller_are_not_the_containers() {
    let site = Site::new();
    let mut container = site.container();
    container.script("grep Cpus_allowed_list /proc/self/status > /tmp/processors; exec sleep 600");
    let own = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let number = (0..CpuSet::count()).find(|&number| own.is_set(number) == Ok(true));
    let mut one = CpuSet::new();
    one.set(number.unwrap()).unwrap();
    // Of this thread alone, and of what it starts.
    sched_setaffinity(Pid::from_raw(0), &one).unwrap();
    start(&container);
    let of_process = printed(&container, &[], "grep Cpus_allowed_list /proc/self/status");
    sched_setaffinity(Pid::from_raw(0), &own).unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let all = status
        .lines()
        .find(|line| line.starts_with("Cpus_allowed_list"))
        .unwrap();
    container.wait_for("tmp/processors", "Cpus");
    assert_eq!(container.file("tmp/processors").trim(), all);
    assert_eq!(of_process.trim(), all);
}

#[test]
fn a_kernel_parameter_that_is_not_there_is_named() {
    let site = Site::new();
    let mut container = site.container();
    container.config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1", "net.ipv4.conformance": "1"});
    let answer = container.create();
    assert!(
        answer.status == 1
            && answer
                .stderr
                .contains("this kernel has no \"net.ipv4.conformance\""),
        "{answer:?}"
    );
    container.assert_gone();
}
