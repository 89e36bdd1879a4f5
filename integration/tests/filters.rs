//! Filters are loaded last, and made once.

#![allow(clippy::unwrap_used, clippy::panic)] // a test file, its functions beside the tests included

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use gabion_integration::{Container, Site, wait_until};
use serde_json::{Value, json};

const DOCKER: &str = include_str!("../../crates/seccomp/profiles/docker-20.10.json");

/// What busybox calls as `true` and as `sleep`, from execve on, and nothing more: no clone, setns, mount, capset, openat
/// or seccomp, which a runtime calls on its way there.
const WORKLOAD: [&str; 27] = [
    "execve",
    "prctl",
    "setgid",
    "setuid",
    "execveat",
    "brk",
    "arch_prctl",
    "set_tid_address",
    "set_robust_list",
    "rseq",
    "prlimit64",
    "readlink",
    "readlinkat",
    "getrandom",
    "mprotect",
    "exit_group",
    "exit",
    "getuid",
    "geteuid",
    "getgid",
    "nanosleep",
    "clock_nanosleep",
    "uname",
    "newfstatat",
    "mmap",
    "munmap",
    "write",
];

/// Calls that pass while a process waits for start with a listener's filter loaded; see docs/seccomp.md.
const WAITING: [&str; 7] = [
    "read", "getpid", "close", "sendmsg", "recvfrom", "accept4", "mremap",
];

fn allowing(calls: &[&str]) -> Value {
    json!({"defaultAction": "SCMP_ACT_KILL_PROCESS",
           "syscalls": [{"names": calls, "action": "SCMP_ACT_ALLOW"}]})
}

/// A container whose profile allows its program's calls alone, for an ordinary user or for root.
fn minimal(site: &Site, no_new_privileges: bool, user: u32) -> Container<'_> {
    let mut container = site.container();
    container.arguments = vec!["--profile".into(), "privileged".into()];
    container.config["linux"]["seccomp"] = allowing(&WORKLOAD);
    container.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
    container.config["process"]["user"] = json!({"uid": user, "gid": user});
    container
}

#[test]
fn a_profile_needs_what_its_program_calls_and_nothing_of_the_runtime() {
    let site = Site::new();
    for (no_new_privileges, user) in [(true, 0), (true, 1000), (false, 0), (false, 1000)] {
        let mut container = minimal(&site, no_new_privileges, user);
        container.config["process"]["args"] = json!(["/bin/true"]);
        let answer = container.run();
        assert_eq!(answer.status, 0, "init, {no_new_privileges} {user}: {answer:?}");
        // The control: one call less, and the program dies of SIGSYS.
        let less: Vec<&str> = WORKLOAD
            .into_iter()
            .filter(|call| *call != "exit_group")
            .collect();
        container.config["linux"]["seccomp"] = allowing(&less);
        let answer = container.run();
        assert_eq!(
            answer.status,
            128 + 31,
            "init, {no_new_privileges} {user}: {answer:?}"
        );
    }
}

#[test]
fn a_further_process_is_under_the_profile_and_needs_no_more() {
    let site = Site::new();
    for (no_new_privileges, user) in [(true, 0), (true, 1000), (false, 0), (false, 1000)] {
        let mut container = minimal(&site, no_new_privileges, user);
        container.config["process"]["args"] = json!(["/bin/sleep", "600"]);
        container.create().ok();
        container.start().ok();
        let exec = |program: &str| site.gabion(&["--profile", "privileged", "exec", &container.id, program]);
        let answer = exec("/bin/true");
        assert_eq!(answer.status, 0, "exec, {no_new_privileges} {user}: {answer:?}");
        // What needs another call dies, so the filter is there.
        let answer = exec("/bin/ls");
        assert_eq!(
            answer.status,
            128 + 31,
            "exec, {no_new_privileges} {user}: {answer:?}"
        );
        site.gabion(&["delete", "--force", &container.id]).ok();
    }
}

/// With a listener the process waits for start behind its filter, so what it then calls has to be allowed too.
#[test]
fn with_a_listener_too_init_and_further_processes_with_and_without_no_new_privs() {
    let site = Site::new();
    let path = site.path().join("agent.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    for no_new_privileges in [true, false] {
        let mut container = minimal(&site, no_new_privileges, 1000);
        container.config["process"]["args"] = json!(["/bin/sleep", "600"]);
        let mut profile = allowing(&[&WORKLOAD[..], &WAITING].concat());
        profile["listenerPath"] = json!(path);
        profile["syscalls"]
            .as_array_mut()
            .unwrap()
            .push(json!({"names": ["chmod"], "action": "SCMP_ACT_NOTIFY"}));
        container.config["linux"]["seccomp"] = profile;
        // An agent that takes what comes and lets go of it.
        let heard = std::thread::scope(|scope| {
            let agent = scope.spawn(|| {
                let mut taken = 0;
                wait_until(|| {
                    if let Ok((mut stream, _)) = listener.accept() {
                        stream.set_nonblocking(false).unwrap();
                        taken += usize::from(std::io::copy(&mut stream, &mut std::io::sink()).unwrap() > 0);
                    }
                    taken == 2
                })
            });
            container.create().ok();
            container.start().ok();
            let answer = site.gabion(&["--profile", "privileged", "exec", &container.id, "/bin/true"]);
            assert_eq!(answer.status, 0, "{no_new_privileges}: {answer:?}");
            agent.join().unwrap()
        });
        assert!(heard);
        let status = fs::read_to_string(format!("/proc/{}/status", container.pid())).unwrap();
        let nnp = format!("NoNewPrivs:\t{}", u8::from(no_new_privileges));
        assert!(
            status.contains(&nnp) && status.contains("Seccomp:\t2"),
            "{status}"
        );
        site.gabion(&["delete", "--force", &container.id]).ok();
    }
}

fn kept(site: &Site) -> Vec<PathBuf> {
    let entries = fs::read_dir(site.root().join("~filters")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// A container with Docker's profile and its floor: what it may not do, and how many filters it has.
fn confined(site: &Site) -> Container<'_> {
    let mut container = site.container();
    let mut profile: Value = serde_json::from_str(DOCKER).unwrap();
    // Docker's own is built in.
    let rule = json!({"names": ["read"], "action": "SCMP_ACT_ALLOW"});
    profile["syscalls"].as_array_mut().unwrap().push(rule);
    container.config["linux"]["seccomp"] = profile;
    container.script("( unshare -U true; grep Seccomp_filters: /proc/self/status ) > /tmp/out 2>&1; true");
    container
}

#[track_caller]
fn was_confined(container: &Container<'_>) {
    let said = container.file("tmp/out");
    assert!(
        said.contains("Operation not permitted") && said.contains("Seccomp_filters:\t2"),
        "{said}"
    );
}

#[track_caller]
fn runs_confined(site: &Site) {
    let container = confined(site);
    container.run().ok();
    was_confined(&container);
}

#[test]
fn a_filter_is_kept_for_the_next_container_and_what_was_poisoned_is_made_anew() {
    let site = Site::new();
    runs_confined(&site);
    let [file] = kept(&site).try_into().unwrap();
    let whole = fs::read(&file).unwrap();
    let made = fs::metadata(&file).unwrap().modified().unwrap();
    runs_confined(&site);
    assert_eq!(
        fs::metadata(&file).unwrap().modified().unwrap(),
        made,
        "it was taken as it is"
    );
    let directory = site.root().join("~filters");
    let poisons: [&dyn Fn(); 5] = [
        &|| fs::write(&file, &whole[..whole.len() / 2]).unwrap(),
        &|| fs::write(&file, "poison").unwrap(),
        &|| fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap(),
        &|| std::os::unix::fs::chown(&file, Some(1000), None).unwrap(),
        &|| {
            fs::remove_file(&file).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", &file).unwrap();
        },
    ];
    for (number, poison) in poisons.into_iter().enumerate() {
        poison();
        runs_confined(&site);
        let log = fs::read_to_string(site.log()).unwrap_or_default();
        assert_eq!(
            log.matches("is not used, and made anew").count(),
            number + 1,
            "{log}"
        );
        assert_eq!(fs::read(&file).unwrap(), whole);
    }
    // A directory that somebody else could have written to is left alone.
    fs::set_permissions(&directory, Permissions::from_mode(0o777)).unwrap();
    runs_confined(&site);
    let log = fs::read_to_string(site.log()).unwrap();
    assert!(log.contains("which is not for its owner alone"), "{log}");
    // And where there is no place for it, containers run as well.
    fs::remove_dir_all(&directory).unwrap();
    fs::write(&directory, "").unwrap();
    runs_confined(&site);
}

#[test]
fn containers_that_start_at_once_share_what_is_kept() {
    let site = Site::new();
    let containers: Vec<Container<'_>> = (0..20).map(|_| confined(&site)).collect();
    let mut started: Vec<_> = containers
        .iter()
        .map(|container| {
            container.write();
            container.building("run").spawn().unwrap()
        })
        .collect();
    for (container, process) in containers.iter().zip(&mut started) {
        assert!(process.wait().unwrap().success());
        was_confined(container);
    }
    assert_eq!(kept(&site).len(), 1, "{:?}", kept(&site));
    runs_confined(&site);
    let log = fs::read_to_string(site.log()).unwrap_or_default();
    assert!(!log.contains("made anew"), "{log}");
}

#[test]
fn the_ledger_has_one_finding_for_a_filter_with_what_it_lets_through() {
    let site = Site::new();
    runs_confined(&site);
    let decisions = site.decisions();
    let found: Vec<&Value> = decisions[0]["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| {
            finding["rule"]
                .as_str()
                .is_some_and(|rule| rule.starts_with("SEC-03"))
        })
        .collect();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["action"], "harden");
    let values = found[0]["values"].as_array().unwrap();
    assert!(
        values.len() > 10 && values.contains(&json!("AF_ALG")),
        "{values:?}"
    );
}
