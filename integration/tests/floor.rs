//! The floor: a second filter under whatever profile the engine sent.

#![allow(clippy::unwrap_used, clippy::panic)] // a test file, its functions beside the tests included

use gabion_integration::{Container, Site};
use serde_json::json;

const DOCKER: &str = include_str!("../../crates/seccomp/profiles/docker-20.10.json");

/// What a script of the container's wrote.
#[track_caller]
fn inside(container: &mut Container<'_>, script: &str) -> String {
    container.script(&format!("( {script} ) > /tmp/out 2>&1; true"));
    container.run().ok();
    assert!(container.ran());
    container.file("tmp/out")
}

fn filters(text: &str) -> &str {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Seccomp_filters:"));
    line.unwrap_or_else(|| panic!("{text}")).trim()
}

#[test]
fn dockers_profile_stays_and_gets_a_floor_with_and_without_no_new_privs() {
    let site = Site::new();
    for (no_new_privileges, user) in [(true, 0), (false, 0), (false, 1000), (true, 1000)] {
        let mut container = site.container();
        container.config["linux"]["seccomp"] = serde_json::from_str(DOCKER).unwrap();
        container.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        container.config["process"]["user"] = json!({"uid": user, "gid": user});
        let text = inside(&mut container, "cat /proc/self/status");
        assert_eq!(filters(&text), "2", "{no_new_privileges} {user}");
    }
}

#[test]
fn a_profile_that_allows_nearly_everything_does_not_bring_back_what_the_floor_denies() {
    let site = Site::new();
    let script = "unshare -U true && echo made; mount -t tmpfs none /mnt && echo mounted";
    let open = json!({"defaultAction": "SCMP_ACT_ALLOW",
                      "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]});
    let mut container = site.container();
    container.config["linux"]["seccomp"] = open.clone();
    let said = inside(&mut container, script);
    assert!(!said.contains("made") && !said.contains("mounted"), "{said}");
    // The control: the same profile without the floor.
    site.write_policy("[rules]\n\"SEC-03\" = \"off\"\n");
    let mut container = site.container();
    container.config["linux"]["seccomp"] = open.clone();
    assert!(inside(&mut container, script).contains("made"));
    // And with one entry waived by its name, the others stay.
    site.write_policy("[rules]\n\"SEC-03:nested\" = \"off\"\n");
    let mut container = site.container();
    container.config["linux"]["seccomp"] = open;
    let said = inside(&mut container, &format!("{script}; cat /proc/self/status"));
    assert!(said.contains("made") && filters(&said) == "2", "{said}");
}

#[test]
fn a_container_that_is_let_go_without_a_filter_still_has_the_floor() {
    let site = Site::new();
    site.write_policy("[rules]\n\"SEC-01\" = \"audit\"\n");
    let text = inside(&mut site.container(), "unshare -U true; cat /proc/self/status");
    assert!(
        text.contains("Operation not permitted") && filters(&text) == "1",
        "{text}"
    );
}

#[test]
fn a_bundle_can_add_to_the_floor_and_a_name_that_it_does_not_have_is_an_error() {
    let site = Site::new();
    let mut container = site.container();
    container.config["linux"]["org.gabion.seccompFloor"] = json!(["vmsplice"]);
    assert_eq!(filters(&inside(&mut container, "cat /proc/self/status")), "2");
    let mut container = site.container();
    container.config["linux"]["org.gabion.seccompFloor"] = json!(["vmsplices"]);
    container.script("true");
    let answer = container.run();
    assert!(!container.ran());
    assert!(format!("{answer:?}").contains("there is no entry"), "{answer:?}");
}
