//! A site's policy at work: waivers that apply and waivers that are over, `gabion policy test`, and the examples of the
//! documentation.

#![allow(clippy::unwrap_used)] // a test file, its functions beside the tests included

mod common;

use std::fs;
use std::path::Path;

use common::{Answer, Site, grant_sys_admin, share_pids};
use serde_json::Value;

/// A waiver of NS-02 for the site's own bundle.
fn waiver(site: &Site, expires: &str) -> String {
    format!(
        "[[waiver]]\nrule = \"NS-02\"\nowner = \"net team\"\nreason = \"looks at the host\"\nexpires = {expires}\n\
         match = {{ bundle = {:?} }}\n",
        fs::canonicalize(site.bundle()).unwrap()
    )
}

/// A create that CAP-03 refuses, whatever becomes of NS-02: nothing is built.
fn create(site: &Site) -> Answer {
    site.edit(share_pids);
    site.edit(grant_sys_admin);
    let (root, bundle) = (site.path("state"), site.bundle());
    site.gabion(&[
        "--root",
        root.to_str().unwrap(),
        "create",
        "--bundle",
        bundle.to_str().unwrap(),
        "web-1",
    ])
}

/// What the ledger's only line says of NS-02.
fn recorded(site: &Site) -> Value {
    let decisions = site.decisions();
    assert_eq!(decisions.len(), 1, "{decisions:?}");
    let findings = decisions[0]["findings"].as_array().unwrap();
    let mut of_rule = findings.iter().filter(|finding| finding["rule"] == "NS-02");
    let finding = of_rule.next().unwrap().clone();
    assert!(of_rule.next().is_none(), "{findings:?}");
    finding
}

#[test]
fn a_waiver_that_applies_is_in_the_ledger() {
    let site = Site::new();
    site.write_policy(&waiver(&site, "2999-12-31"));
    let answer = create(&site);
    assert_eq!(answer.status, 1);
    assert!(
        answer.stderr.contains("CAP-03:SYS_ADMIN") && !answer.stderr.contains("NS-02"),
        "{}",
        answer.stderr
    );
    let finding = recorded(&site);
    assert_eq!(finding["action"], "audit");
    let waiver = finding["waiver"].as_str().unwrap();
    assert!(
        waiver.starts_with("net team until 2999-12-31 (") && waiver.contains("policy.toml, line 1 "),
        "{waiver}"
    );
}

#[test]
fn a_waiver_that_is_over_does_not_apply_and_the_refusal_says_so() {
    let site = Site::new();
    site.write_policy(&waiver(&site, "2001-01-31"));
    let answer = create(&site);
    assert_eq!(answer.status, 1);
    assert!(answer.stderr.contains("NS-02"), "{}", answer.stderr);
    assert!(
        answer
            .stderr
            .contains("(the waiver of net team expired on 2001-01-31)"),
        "{}",
        answer.stderr
    );
    let finding = recorded(&site);
    assert_eq!(finding["action"], "deny");
    assert_eq!(finding.get("waiver").unwrap_or(&Value::Null), &Value::Null);
}

#[test]
fn a_waiver_for_another_bundle_does_not_apply() {
    let site = Site::new();
    let text = waiver(&site, "2999-12-31").replace("/bundle\"", "/another\"");
    assert!(text.contains("/another\""), "{text}");
    site.write_policy(&text);
    assert!(create(&site).stderr.contains("NS-02"));
    assert_eq!(recorded(&site)["action"], "deny");
}

/// Runs `policy test` on a directory with the site's bundle and this expectation.
fn expect(site: &Site, expectation: Option<&str>) -> Answer {
    let directory = site.path("verdicts");
    fs::create_dir_all(&directory).unwrap();
    fs::copy(site.bundle().join("config.json"), directory.join("config.json")).unwrap();
    if let Some(text) = expectation {
        fs::write(directory.join("config.expect.toml"), text).unwrap();
    }
    site.gabion(&["policy", "test", directory.to_str().unwrap()])
}

#[test]
fn policy_test_compares_verdicts_and_tells_by_its_status() {
    let site = Site::new();
    site.edit(share_pids);
    for (expectation, status, line) in [
        (
            "verdict = \"refused\"\nrules = [\"NS-02\"]\n",
            0,
            "1 compared, 0 wrong\n",
        ),
        ("verdict = \"refused\"\n", 0, "1 compared, 0 wrong\n"),
        (
            "verdict = \"admitted\"\n",
            2,
            "config.json: refused by NS-02, and expected to be admitted\n1 compared, 1 wrong\n",
        ),
        (
            "verdict = \"refused\"\nrules = [\"NS-04\"]\n",
            2,
            "config.json: refused by NS-02, and expected to be by NS-04\n1 compared, 1 wrong\n",
        ),
        (
            "verdict = \"refused\"\nprofile = \"privileged\"\n",
            2,
            "config.json: admitted, and expected to be refused\n1 compared, 1 wrong\n",
        ),
    ] {
        let answer = expect(&site, Some(expectation));
        assert_eq!(
            (answer.status, answer.stderr.as_str()),
            (status, ""),
            "{expectation}"
        );
        assert!(answer.stdout.ends_with(line), "{expectation}: {}", answer.stdout);
    }
}

#[test]
fn policy_test_does_not_pass_over_what_it_cannot_compare() {
    let site = Site::new();
    let answer = expect(&site, None);
    assert_eq!((answer.status, answer.stdout.as_str()), (1, ""));
    assert!(
        answer.stderr.contains("there is no *.expect.toml in "),
        "{}",
        answer.stderr
    );
    let answer = expect(&site, Some("verdict = \"admited\"\n"));
    assert_eq!((answer.status, answer.stdout.as_str()), (1, ""));
    assert!(
        answer.stderr.contains("config.expect.toml: "),
        "{}",
        answer.stderr
    );
    expect(&site, Some("verdict = \"admitted\"\n"));
    let another = site.path("verdicts/another");
    fs::create_dir(&another).unwrap();
    fs::copy(site.bundle().join("config.json"), another.join("config.json")).unwrap();
    let answer = expect(&site, None);
    assert_eq!(answer.status, 2);
    assert!(
        answer
            .stdout
            .contains("another/config.json: there is no config.expect.toml beside it\n"),
        "{}",
        answer.stdout
    );
}

#[test]
fn the_examples_of_the_documentation_are_policies() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/policy.md");
    let page = fs::read_to_string(page).unwrap();
    let examples: Vec<&str> = page
        .split("```toml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert_eq!(examples.len(), 2, "the pattern above finds them all");
    let site = Site::new();
    for example in examples {
        let file = site.path("example.toml");
        fs::write(&file, example).unwrap();
        let answer = site.gabion(&["policy", "check", file.to_str().unwrap()]);
        assert_eq!((answer.status, answer.stderr.as_str()), (0, ""), "{example}");
        assert!(answer.stdout.contains(" is a policy: "), "{}", answer.stdout);
    }
}
