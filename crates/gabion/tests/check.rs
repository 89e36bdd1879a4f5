//! `gabion check`: exit statuses, formats, profiles.

#![allow(clippy::unwrap_used)] // a test file, its functions beside the tests included

mod common;

use std::os::unix::fs::symlink;
use std::process::Command;

use common::{Site, grant_sys_admin, program, run, share_pids};
use serde_json::{Value, json};

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn the_first_configuration_is_admitted_with_status_0() {
    let site = Site::new();
    let answer = site.gabion(&["check"]);
    assert_eq!((answer.status, answer.stderr.as_str()), (0, ""));
    assert!(
        answer
            .stdout
            .starts_with("gabion admitted . under profile baseline\n"),
        "{}",
        answer.stdout
    );
    assert!(
        answer
            .stdout
            .contains("hardened: safe values where the bundle has none\n  SEC-01  "),
        "{}",
        answer.stdout
    );
}

#[test]
fn a_refused_bundle_is_told_with_status_2() {
    let site = Site::new();
    site.edit(share_pids);
    let bundle = site.bundle().display().to_string();
    let answer = site.gabion(&["check", "--bundle", &bundle]);
    assert_eq!((answer.status, answer.stderr.as_str()), (2, ""));
    let expected = format!(
        "gabion refused {bundle}: 1 rule of profile baseline\n  NS-02  config.json#/linux/namespaces: "
    );
    assert!(answer.stdout.starts_with(&expected), "{}", answer.stdout);
    assert!(
        answer
            .stdout
            .ends_with("\n  gabion explain NS-02 says more; without a name it lists the rules.\n")
    );
    assert!(site.decisions().is_empty(), "a check decides nothing");
}

#[test]
fn what_cannot_be_judged_has_status_1_and_says_why() {
    let site = Site::new();
    std::fs::write(site.bundle().join("config.json"), "{").unwrap();
    let answer = site.gabion(&["check"]);
    assert_eq!((answer.status, answer.stdout.as_str()), (1, ""));
    assert_eq!(
        answer.stderr,
        "gabion: error: config.json, line 1 column 1: EOF while parsing an object\n"
    );
    let answer = site.gabion(&["check", "--config", "/nonexistent/config.json"]);
    assert_eq!(answer.status, 1);
    assert!(
        answer
            .stderr
            .starts_with("gabion: error: \"/nonexistent/config.json\" does not exist."),
        "{}",
        answer.stderr
    );
    assert_eq!(
        site.gabion(&["check", "--config", "x", "--bundle", "."]).status,
        1
    );
}

#[test]
fn json_is_versioned_and_has_every_finding() {
    let site = Site::new();
    site.edit(share_pids);
    site.edit(grant_sys_admin);
    let answer = site.gabion(&["check", "--format", "json"]);
    assert_eq!(answer.status, 2);
    let report = json_of(&answer.stdout);
    assert_eq!(report["version"], 1);
    assert_eq!(report["verdict"], "refused");
    assert_eq!(report["profile"], "baseline");
    assert!(report.get("effective").is_none());
    let findings = report["findings"].as_array().unwrap();
    let denied: Vec<&str> = findings
        .iter()
        .filter(|finding| finding["action"] == "deny")
        .map(|finding| finding["rule"].as_str().unwrap())
        .collect();
    assert_eq!(denied, ["CAP-03:SYS_ADMIN", "NS-02"]);
    for finding in findings {
        for text in ["rule", "action", "found", "accepted"] {
            assert!(!finding[text].as_str().unwrap().is_empty(), "{finding}");
        }
        assert!(
            finding["pointer"].is_string() && finding["stops"].is_array() && finding["references"].is_array()
        );
    }
}

#[test]
fn effective_adds_the_hardened_configuration() {
    let site = Site::new();
    let report = json_of(&site.gabion(&["check", "--format", "json", "--effective"]).stdout);
    assert_eq!(report["verdict"], "admitted");
    assert_eq!(report["effective"]["hostname"], "gabion");
    assert!(report["effective"]["linux"]["seccomp"]["defaultAction"].is_string());
    let text = site.gabion(&["check", "--effective"]).stdout;
    let document = json_of(&text[text.find("\n{").unwrap()..]);
    assert_eq!(document, report["effective"]);
    site.edit(share_pids);
    let report = json_of(&site.gabion(&["check", "--format", "json", "--effective"]).stdout);
    assert_eq!(report["effective"], Value::Null);
}

#[test]
fn sarif_names_the_file_and_the_rule() {
    let site = Site::new();
    site.edit(share_pids);
    let answer = site.gabion(&["check", "--format", "sarif", "--config", "config.json"]);
    assert_eq!(answer.status, 2);
    let log = json_of(&answer.stdout);
    assert_eq!(log["version"], "2.1.0");
    let results = log["runs"][0]["results"].as_array().unwrap();
    let error = results.iter().find(|result| result["level"] == "error").unwrap();
    assert_eq!(error["ruleId"], "NS-02");
    assert_eq!(
        error["locations"][0]["physicalLocation"],
        json!({"artifactLocation": {"uri": "config.json"}})
    );
    let rule = &log["runs"][0]["tool"]["driver"]["rules"][error["ruleIndex"].as_u64().unwrap() as usize];
    assert_eq!(rule["id"], "NS-02");
}

#[test]
fn a_file_of_another_host_is_judged_by_its_words() {
    let site = Site::new();
    site.edit(|document| {
        let namespaces = document["linux"]["namespaces"].as_array_mut().unwrap();
        let network = namespaces
            .iter_mut()
            .find(|namespace| namespace["type"] == "network")
            .unwrap();
        network["path"] = json!("/var/run/netns/of-another-host");
    });
    let here = site.gabion(&["check", "--format", "json"]);
    assert_eq!(here.status, 2, "{}", here.stdout);
    let there = site.gabion(&["check", "--format", "json", "--offline"]);
    assert_eq!(there.status, 0, "{}", there.stdout);
    let report = json_of(&there.stdout);
    let unknown: Vec<&Value> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["undecided"] == true)
        .collect();
    assert!(
        unknown
            .iter()
            .any(|finding| finding["rule"] == "NS-09" && finding["action"] == "audit"),
        "{unknown:?}"
    );
    site.edit(share_pids);
    assert_eq!(site.gabion(&["check", "--offline"]).status, 2);
}

#[test]
fn a_configuration_may_come_from_standard_input() {
    let site = Site::new();
    let text = std::fs::read_to_string(site.bundle().join("config.json")).unwrap();
    let policy = site.policy();
    let mut command = Command::new(program());
    command
        .args(["check", "--offline", "--config", "-", "--policy"])
        .arg(&policy);
    let answer = run(&mut command, &text);
    assert_eq!((answer.status, answer.stderr.as_str()), (0, ""));
    assert!(
        answer
            .stdout
            .starts_with("gabion admitted standard input under profile baseline\n")
    );
}

#[test]
fn the_profile_comes_from_the_policy_the_flag_or_the_name_of_the_program() {
    let site = Site::new();
    let profile = |answer: common::Answer| json_of(&answer.stdout)["profile"].clone();
    site.write_policy("profile = \"privileged\"");
    assert_eq!(profile(site.gabion(&["check", "--format", "json"])), "privileged");
    assert_eq!(
        profile(site.gabion(&["check", "--format", "json", "--profile", "baseline"])),
        "baseline"
    );
    let link = site.path("gabion-restricted");
    symlink(program(), &link).unwrap();
    for flags in [&[][..], &["--profile", "privileged"]] {
        let mut command = Command::new(&link);
        command
            .args(["check", "--format", "json", "--policy"])
            .arg(site.policy())
            .args(flags);
        assert_eq!(profile(run(command.current_dir(site.bundle()), "")), "restricted");
    }
}

#[test]
fn a_container_may_ask_for_a_stricter_profile_and_not_for_a_weaker_one() {
    let site = Site::new();
    let profile = |asked: &str| {
        site.edit(|document| document["annotations"] = json!({"org.gabion.profile": asked}));
        json_of(&site.gabion(&["check", "--format", "json"]).stdout)["profile"].clone()
    };
    assert_eq!(profile("restricted"), "restricted");
    assert_eq!(profile("privileged"), "baseline");
}

#[test]
fn a_level_that_the_site_changed_is_obeyed() {
    let site = Site::new();
    site.edit(share_pids);
    site.write_policy("rules.NS-02 = \"audit\"");
    let answer = site.gabion(&["check"]);
    assert_eq!(answer.status, 0);
    assert!(
        answer.stdout.contains("recorded: tolerated by this profile\n"),
        "{}",
        answer.stdout
    );
    assert!(
        answer
            .stdout
            .contains("\n  NS-02  config.json#/linux/namespaces: "),
        "{}",
        answer.stdout
    );
}
