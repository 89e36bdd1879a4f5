//! A judgement for a code scanner: SARIF 2.1.0 (OASIS), one run, a result for each finding.
//!
//! `deny` is an error, `audit` a warning, `harden` a note: what is hardened needs no one's work. The JSON
//! pointer is the logical location; there is no line, since judgement reads values and not text.

use serde_json::{Value, json};

use super::{Report, distinct};
use crate::finding::{Action, Finding};
use crate::rules;

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

impl Report<'_> {
    /// The report as a SARIF log. `version` is that of the program that speaks.
    pub fn sarif(&self, version: &str) -> Value {
        let ids = distinct(self.findings.iter().map(Finding::rule_id));
        let uri = uri(self.subject.file);
        let results: Vec<Value> = self
            .findings
            .iter()
            .map(|finding| result(finding, &ids, &uri))
            .collect();
        json!({
            "$schema": SCHEMA,
            "version": "2.1.0",
            "runs": [{
                "tool": {"driver": {
                    "name": "gabion",
                    "semanticVersion": version,
                    "rules": ids.iter().map(|id| descriptor(id)).collect::<Vec<_>>(),
                }},
                "columnKind": "utf16CodeUnits",
                "properties": {"profile": self.profile, "verdict": self.verdict.name()},
                "results": results,
            }],
        })
    }
}

/// A `reportingDescriptor` for a rule; one that the catalogue does not have is described by its id alone.
fn descriptor(id: &str) -> Value {
    let Some(rule) = rules::find(id) else {
        return json!({"id": id});
    };
    let mut help = format!("{}\n", rule.why);
    for (name, remedy) in rule.remedies.named() {
        help.push_str(&format!("\n{name}: {remedy}"));
    }
    json!({
        "id": rule.id,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.meaning},
        "help": {"text": help},
        "properties": {"tags": ["security"], "stops": rule.stops, "references": rule.mappings.lines().collect::<Vec<_>>()},
    })
}

fn result(finding: &Finding, ids: &[&str], uri: &str) -> Value {
    let level = match finding.action {
        Action::Deny => "error",
        Action::Audit => "warning",
        Action::Harden => "note",
    };
    json!({
        "ruleId": finding.rule_id(),
        "ruleIndex": ids.iter().position(|id| *id == finding.rule_id()),
        "level": level,
        "message": {"text": format!("{}: {}. Accepted: {}.", finding.rule, finding.found, finding.accepted)},
        "locations": [{
            "physicalLocation": {"artifactLocation": {"uri": uri}},
            "logicalLocations": [{"fullyQualifiedName": finding.pointer}],
        }],
        "partialFingerprints": {"rulePointer/v1": format!("{}#{}", finding.rule, finding.pointer)},
    })
}

/// A path as a URI reference (RFC 3986): absolute ones as `file:`, relative ones as they are.
fn uri(path: &str) -> String {
    let mut out = String::from(if path.starts_with('/') { "file://" } else { "" });
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(byte.into())
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::tests::{finding, refused};
    use super::*;

    #[test]
    fn the_log_of_a_refusal_is_exactly_this() {
        let findings = [
            finding("CAP-01:X", Action::Deny, "/process/capabilities", "absent"),
            finding("CAP-01:Y", Action::Audit, "/process/capabilities", "absent"),
            finding("ZZZ-99", Action::Harden, "/a", "b"),
        ];
        let mut report = refused(&findings);
        report.subject.file = "/run/a b/config.json";
        let log = report.sarif("0.1.0");
        assert_eq!(log["$schema"], SCHEMA);
        assert_eq!(log["version"], "2.1.0");
        assert_eq!(log["runs"].as_array().unwrap().len(), 1);
        let driver = &log["runs"][0]["tool"]["driver"];
        assert_eq!(driver["name"], "gabion");
        assert_eq!(driver["semanticVersion"], "0.1.0");
        let rules = driver["rules"].as_array().unwrap();
        assert_eq!(
            rules
                .iter()
                .map(|r| r["id"].as_str().unwrap())
                .collect::<Vec<_>>(),
            ["CAP-01", "ZZZ-99"]
        );
        let catalogue = rules::find("CAP-01").unwrap();
        assert_eq!(rules[0]["shortDescription"]["text"], catalogue.title);
        assert_eq!(rules[0]["fullDescription"]["text"], catalogue.meaning);
        let help = rules[0]["help"]["text"].as_str().unwrap();
        assert!(help.contains(catalogue.why) && help.contains(catalogue.remedies.kubernetes));
        assert!(!driver.to_string().contains("helpUri"));
        assert_eq!(
            log["runs"][0]["properties"],
            json!({"profile": "baseline", "verdict": "refused"})
        );
        let results = log["runs"][0]["results"].as_array().unwrap();
        assert_eq!(
            results[0],
            json!({
                "ruleId": "CAP-01",
                "ruleIndex": 0,
                "level": "error",
                "message": {"text": "CAP-01:X: absent. Accepted: something else."},
                "locations": [{
                    "physicalLocation": {"artifactLocation": {"uri": "file:///run/a%20b/config.json"}},
                    "logicalLocations": [{"fullyQualifiedName": "/process/capabilities"}],
                }],
                "partialFingerprints": {"rulePointer/v1": "CAP-01:X#/process/capabilities"},
            })
        );
        let levels: Vec<_> = results.iter().map(|r| (&r["level"], &r["ruleIndex"])).collect();
        assert_eq!(levels[1], (&json!("warning"), &json!(0)));
        assert_eq!(levels[2], (&json!("note"), &json!(1)));
    }

    #[test]
    fn nothing_found_is_an_empty_list_of_results() {
        let log = refused(&[]).sarif("0.1.0");
        assert_eq!(log["runs"][0]["results"], json!([]));
        assert_eq!(log["runs"][0]["tool"]["driver"]["rules"], json!([]));
    }

    #[test]
    fn paths_become_uri_references() {
        assert_eq!(uri("config.json"), "config.json");
        assert_eq!(uri("b/ü?#.json"), "b/%C3%BC%3F%23.json");
        assert_eq!(uri("/a/b"), "file:///a/b");
    }
}
