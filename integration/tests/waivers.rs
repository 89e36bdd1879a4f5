//! Waivers, with containers that run: one value of one rule is tolerated, for the containers that the policy names, as
//! long as it says, and the ledger has who answers for it.

#![allow(clippy::unwrap_used)] // a test file, its functions beside the tests included

use std::fs;

use gabion_integration::{Container, Site, edit_array};
use serde_json::{Value, json};

/// `printf %s` of the bounding set, with these capabilities granted beside the usual ones.
fn granted(container: &mut Container<'_>, names: &[&str]) {
    for set in ["bounding", "effective", "permitted"] {
        let pointer = format!("/process/capabilities/{set}");
        edit_array(&mut container.config, &pointer, |list| {
            list.extend(names.iter().map(|name| json!(name)));
        });
    }
    container.script("grep CapBnd /proc/self/status");
}

fn waiver(rule: &str, pattern: &str, expires: &str) -> String {
    format!(
        "[[waiver]]\nrule = {rule:?}\nowner = \"net team\"\nreason = \"sets routes\"\nexpires = {expires}\n\
         match = {{ {pattern} }}\n"
    )
}

fn bundle_of(container: &Container<'_>) -> String {
    format!("bundle = {:?}", fs::canonicalize(&container.bundle).unwrap())
}

/// What the ledger's last judgement says of a rule.
fn recorded(site: &Site, rule: &str) -> (Value, Value) {
    let decisions = site.decisions();
    let judged = |decision: &&Value| decision["verdict"] == "admitted" || decision["verdict"] == "refused";
    let decision = decisions.iter().rfind(judged).unwrap();
    let findings = decision["findings"].as_array().unwrap();
    let finding = findings.iter().find(|finding| finding["rule"] == rule).unwrap();
    (decision["verdict"].clone(), finding.clone())
}

#[test]
fn a_container_runs_under_a_waiver_and_the_ledger_names_it() {
    let site = Site::new();
    let mut container = site.container();
    granted(&mut container, &["CAP_NET_ADMIN"]);
    let plain = container.run();
    assert!(
        plain.stderr.contains("CAP-03:NET_ADMIN"),
        "the control: {plain:?}"
    );
    site.write_policy(&waiver("CAP-03:NET_ADMIN", &bundle_of(&container), "2999-12-31"));
    let output = container.run().ok().stdout;
    let bounding = u64::from_str_radix(output.trim().rsplit('\t').next().unwrap(), 16).unwrap();
    assert!(bounding & 1 << 12 != 0, "{output}");
    let (verdict, finding) = recorded(&site, "CAP-03:NET_ADMIN");
    assert_eq!(
        (verdict, &finding["action"]),
        (json!("admitted"), &json!("audit"))
    );
    let waiver = finding["waiver"].as_str().unwrap();
    assert!(waiver.starts_with("net team until 2999-12-31 ("), "{waiver}");
}

#[test]
fn a_waiver_is_for_one_value_one_container_and_its_time() {
    let site = Site::new();
    let mut container = site.container();
    let mut other = site.container();
    for container in [&mut container, &mut other] {
        granted(container, &["CAP_NET_ADMIN"]);
    }
    let rule = "CAP-03:NET_ADMIN";
    let own = bundle_of(&container);
    // The other container.
    site.write_policy(&waiver(rule, &own, "2999-12-31"));
    assert!(other.run().stderr.contains(rule));
    assert!(!other.ran());
    // Another value.
    let mut more = site.container();
    granted(&mut more, &["CAP_NET_ADMIN", "CAP_SYS_ADMIN"]);
    site.write_policy(&waiver(rule, &bundle_of(&more), "2999-12-31"));
    let answer = more.run();
    assert!(
        answer.stderr.contains("CAP-03:SYS_ADMIN") && !answer.stderr.contains(rule),
        "{answer:?}"
    );
    // Another engine, and a time that is over.
    for (pattern, expires) in [
        ("engine = \"docker\"", "2999-12-31"),
        (own.as_str(), "2001-01-31"),
    ] {
        site.write_policy(&waiver(rule, pattern, expires));
        let answer = container.run();
        assert!(answer.stderr.contains(rule) && !container.ran(), "{answer:?}");
        let over = answer
            .stderr
            .contains("(the waiver of net team expired on 2001-01-31)");
        assert_eq!(over, expires == "2001-01-31", "{answer:?}");
        let (verdict, finding) = recorded(&site, rule);
        assert_eq!((verdict, &finding["action"]), (json!("refused"), &json!("deny")));
        assert_eq!(finding.get("waiver").unwrap_or(&Value::Null), &Value::Null);
    }
}

/// A workload writes annotations, and they claim what a waiver matches.
#[test]
fn annotations_match_no_waiver() {
    let site = Site::new();
    let rule = "CAP-03:NET_ADMIN";
    for pattern in [
        "engine = \"containerd-cri\", namespace = \"kube-system\"",
        "namespace = \"kube-system\"",
        "image = \"sha256:0000000000000000000000000000000000000000000000000000000000000000\"",
    ] {
        site.write_policy(&waiver(rule, pattern, "2999-12-31"));
        let mut container = site.container();
        granted(&mut container, &["CAP_NET_ADMIN"]);
        let digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
        container.config["annotations"] = json!({
            "io.kubernetes.cri.sandbox-namespace": "kube-system",
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.image-name": format!("example.org/router@{digest}"),
        });
        let answer = container.run();
        assert!(
            answer.stderr.contains(rule) && !container.ran(),
            "{pattern}: {answer:?}"
        );
    }
}
