//! A refused `create`: what the engine reads, what the ledger keeps, and that nothing else is left.

#![allow(clippy::unwrap_used)] // a test file, its functions beside the tests included

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use common::{Answer, Site, grant_sys_admin, share_pids};
use serde_json::Value;

/// As containerd's shim calls.
fn create(site: &Site) -> Answer {
    let (root, log, bundle) = (site.path("state"), site.path("log.json"), site.bundle());
    site.gabion(&[
        "--root",
        root.to_str().unwrap(),
        "--log",
        log.to_str().unwrap(),
        "--log-format",
        "json",
        "create",
        "--bundle",
        bundle.to_str().unwrap(),
        "--pid-file",
        site.path("init.pid").to_str().unwrap(),
        "web-1",
    ])
}

/// The last error of the log, as the shim finds it.
fn last_error(site: &Site) -> String {
    let text = fs::read_to_string(site.path("log.json")).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let last = lines.rev().find(|line| line["level"] == "error").unwrap();
    last["msg"].as_str().unwrap().to_owned()
}

fn refused() -> (Site, Answer) {
    let site = Site::new();
    site.edit(share_pids);
    site.edit(grant_sys_admin);
    let answer = create(&site);
    (site, answer)
}

#[test]
fn the_engine_reads_one_line_with_every_id() {
    let (site, answer) = refused();
    assert_eq!((answer.status, answer.stdout.as_str()), (1, ""));
    let message = last_error(&site);
    assert!(message.starts_with("gabion refused web-1: "), "{message}");
    assert!(message.contains(" of profile baseline: "), "{message}");
    assert!(
        message.contains("NS-02 config.json#/linux/namespaces: "),
        "{message}"
    );
    assert!(
        message.contains("CAP-03:SYS_ADMIN config.json#/process/capabilities/bounding: "),
        "{message}"
    );
    assert!(message.contains("; gabion explain "), "{message}");
    assert!(message.len() < 1024 && !message.contains('\n'), "{message}");
    // Standard error is no terminal here: the same line.
    assert_eq!(answer.stderr, format!("{message}\n"));
}

#[test]
fn the_ledger_keeps_it() {
    let (site, _) = refused();
    let decisions = site.decisions();
    assert_eq!(decisions.len(), 1);
    let decision = &decisions[0];
    assert_eq!(decision["version"], 1);
    assert_eq!(decision["id"], "web-1");
    assert_eq!(decision["operation"], "create");
    assert_eq!(decision["verdict"], "refused");
    assert_eq!(decision["profile"], "baseline");
    assert_eq!(decision["bundle"], site.bundle().to_str().unwrap());
    assert_eq!(decision["message"], last_error(&site));
    let denied: Vec<&str> = decision["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["action"] == "deny")
        .map(|finding| finding["rule"].as_str().unwrap())
        .collect();
    assert!(
        denied.contains(&"NS-02") && denied.contains(&"CAP-03:SYS_ADMIN"),
        "{denied:?}"
    );
}

#[test]
fn nothing_is_left_of_it() {
    let (site, _) = refused();
    let left = fs::read_dir(site.path("state"))
        .map(|entries| entries.count())
        .unwrap_or(0);
    assert_eq!(left, 0);
    assert!(!site.path("init.pid").exists());
    assert_eq!(
        fs::read_dir(site.bundle()).unwrap().count(),
        2,
        "config.json and rootfs"
    );
}

#[test]
fn a_bundle_that_cannot_be_read_is_recorded_too() {
    let site = Site::new();
    fs::write(site.bundle().join("config.json"), "").unwrap();
    let answer = create(&site);
    assert_eq!(answer.status, 1);
    assert!(
        last_error(&site).starts_with("config.json is empty"),
        "{}",
        last_error(&site)
    );
    let decisions = site.decisions();
    assert_eq!(decisions.len(), 1);
    assert_eq!(decisions[0]["verdict"], "failed");
    assert_eq!(decisions[0]["message"], last_error(&site));
}

#[test]
fn where_no_decision_can_be_recorded_none_is_made() {
    let site = Site::new();
    fs::write(site.ledger(), "").unwrap();
    fs::set_permissions(site.ledger(), Permissions::from_mode(0o666)).unwrap();
    let answer = create(&site);
    assert_eq!(answer.status, 1);
    let message = last_error(&site);
    assert!(
        message.contains("may be written by others (mode 0666)"),
        "{message}"
    );
    assert!(message.contains("`chmod go-w "), "{message}");
    assert_eq!(fs::read_to_string(site.ledger()).unwrap(), "");
}

#[test]
fn a_site_that_does_without_the_ledger_is_warned() {
    let (site, _) = refused();
    fs::remove_file(site.ledger()).unwrap();
    fs::create_dir(site.ledger()).unwrap();
    site.write_whole_policy(&format!(
        "[ledger]\npath = {:?}\nrequired = false\n",
        site.ledger()
    ));
    let answer = create(&site);
    assert_eq!(answer.status, 1);
    assert!(
        last_error(&site).starts_with("gabion refused web-1: "),
        "{}",
        last_error(&site)
    );
    let log = fs::read_to_string(site.path("log.json")).unwrap();
    assert!(
        log.contains("\"level\":\"warning\",\"msg\":\"this decision is not recorded: "),
        "{log}"
    );
}

#[test]
fn a_policy_that_others_may_write_stops_everything() {
    let (site, _) = refused();
    fs::set_permissions(site.policy(), Permissions::from_mode(0o666)).unwrap();
    let answer = create(&site);
    assert_eq!(answer.status, 1);
    let message = last_error(&site);
    assert!(
        message.starts_with("nothing runs without a policy to trust: "),
        "{message}"
    );
    assert!(
        message.contains("may be written by others (mode 0666), who could change the policy"),
        "{message}"
    );
    assert_eq!(site.decisions().len(), 1, "the one before");
}

#[test]
fn a_command_line_that_is_none_is_in_the_log_too() {
    let site = Site::new();
    let log = site.path("log.json");
    let log = log.to_str().unwrap();
    let answer = site.gabion(&[
        "--log",
        log,
        "--log-format",
        "json",
        "create",
        "--frobnicate",
        "web-1",
    ]);
    assert_eq!(answer.status, 1);
    assert_eq!(last_error(&site), "unexpected argument '--frobnicate' found");
    assert!(
        answer.stderr.contains("Usage: gabion create"),
        "{}",
        answer.stderr
    );
}
