//! What gabion prints about itself: versions, features, rules, policy, a first configuration.

#![allow(clippy::unwrap_used)] // a test file, its functions beside the tests included

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use common::{Site, program, run};
use serde_json::Value;

#[test]
fn the_version_is_in_the_form_that_engines_read() {
    for flag in ["--version", "-v"] {
        let answer = run(Command::new(program()).arg(flag), "");
        assert_eq!((answer.status, answer.stderr.as_str()), (0, ""));
        let lines: Vec<&str> = answer.stdout.lines().collect();
        assert_eq!(lines[0], concat!("gabion version ", env!("CARGO_PKG_VERSION")));
        assert!(
            lines[1].starts_with("commit: ") && lines[2] == "spec: 1.3.0",
            "{lines:?}"
        );
    }
}

#[test]
fn without_a_command_there_is_help() {
    let answer = run(&mut Command::new(program()), "");
    assert_eq!((answer.status, answer.stderr.as_str()), (0, ""));
    for command in [
        "create",
        "start",
        "state",
        "kill",
        "delete",
        "run",
        "list",
        "spec",
        "features",
        "check",
        "checkpoint",
        "restore",
    ] {
        assert!(answer.stdout.contains(&format!("\n  {command} ")), "{command}");
    }
}

#[test]
fn features_are_json_with_the_properties_of_the_spec() {
    let site = Site::new();
    let answer = site.gabion(&["features"]);
    assert_eq!(answer.status, 0);
    let features: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(features["ociVersionMin"], "1.0.0");
    assert_eq!(features["ociVersionMax"], "1.3.0");
    for pointer in [
        "/hooks",
        "/mountOptions",
        "/linux/namespaces",
        "/linux/capabilities",
        "/linux/seccomp/archs",
    ] {
        assert!(
            !features.pointer(pointer).unwrap().as_array().unwrap().is_empty(),
            "{pointer}"
        );
    }
    assert_eq!(
        features["annotations"]["org.gabion.version"],
        env!("CARGO_PKG_VERSION")
    );
}

#[test]
fn spec_writes_nothing_over_a_file_that_is_there() {
    let site = Site::new();
    let config = site.bundle().join("config.json");
    let before = fs::read_to_string(&config).unwrap();
    let answer = site.gabion(&["spec"]);
    assert_eq!(answer.status, 1);
    assert_eq!(
        answer.stderr,
        "gabion: error: \"./config.json\" exists; remove it first, or choose another --bundle\n"
    );
    assert_eq!(fs::read_to_string(&config).unwrap(), before);
    fs::remove_file(&config).unwrap();
    symlink(site.path("elsewhere"), &config).unwrap();
    assert_eq!(site.gabion(&["spec"]).status, 1);
    assert!(!site.path("elsewhere").exists());
}

#[test]
fn explain_answers_an_unknown_rule_with_the_nearest() {
    let site = Site::new();
    let answer = site.gabion(&["explain", "NS-2"]);
    assert_eq!((answer.status, answer.stdout.as_str()), (1, ""));
    assert_eq!(
        answer.stderr,
        "gabion: error: there is no rule or check \"NS-2\"; did you mean NS-02? `gabion explain` lists all of them\n"
    );
    let answer = site.gabion(&["explain", "ns-02"]);
    assert_eq!(answer.status, 0);
    assert!(answer.stdout.starts_with("NS-02  "), "{}", answer.stdout);
    let list: Value = serde_json::from_str(&site.gabion(&["explain", "--format", "json"]).stdout).unwrap();
    assert!(
        list["rules"]
            .as_array()
            .unwrap()
            .iter()
            .any(|rule| rule["id"] == "NS-02")
    );
}

#[test]
fn policy_show_tells_what_the_site_weakened() {
    let site = Site::new();
    site.write_policy("rules.NS-02 = \"audit\"");
    let answer = site.gabion(&["policy", "show"]);
    assert_eq!(answer.status, 0);
    let place = format!("[{}, line 1 column 7]", site.policy().display());
    assert!(answer.stdout.contains(&format!(
        "\n  NS-02         audit (profile: deny; WEAKER)  {place}\n"
    )));
    let json: Value =
        serde_json::from_str(&site.gabion(&["policy", "show", "--format", "json"]).stdout).unwrap();
    assert_eq!(json["rules"][0]["weaker"], true);
    site.write_policy("rules.NS-2 = \"audit\"");
    let answer = site.gabion(&["policy", "show"]);
    assert_eq!(answer.status, 1);
    assert_eq!(
        answer.stderr,
        format!(
            "gabion: error: {}, line 1 column 7: there is no rule \"NS-2\"; did you mean \"NS-02\"?\n",
            site.policy().display()
        )
    );
}
