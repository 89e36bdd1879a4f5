//! Containers of other runtimes, judged where they run.

use std::collections::BTreeMap;

use gabion_baseline::facts::Engine;
use gabion_baseline::policy_file::Site;
use gabion_baseline::{Action, Finding, rules};
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::Failure;
use crate::gate;

pub(crate) mod find;
pub(crate) mod html;
pub(crate) mod text;

/// All that was looked at.
#[derive(Debug)]
pub(crate) struct Audit {
    /// The host's name.
    pub host: String,
    /// When, in RFC 3339.
    pub time: String,
    /// The policy's profile.
    pub profile: &'static str,
    /// What was found of the host alone.
    pub findings: Vec<Finding>,
    pub containers: Vec<Audited>,
}

/// One container.
#[derive(Debug)]
pub(crate) struct Audited {
    pub id: String,
    pub engine: Option<Engine>,
    pub bundle: String,
    /// What was found; or why it cannot be judged, so that it would not run.
    pub outcome: Result<Vec<Finding>, String>,
}

impl Audited {
    pub(crate) fn is_refused(&self) -> bool {
        match &self.outcome {
            Ok(findings) => findings.iter().any(|finding| finding.action == Action::Deny),
            Err(_) => true,
        }
    }

    pub(crate) fn engine_name(&self) -> &'static str {
        self.engine.map_or("other", Engine::name)
    }
}

impl Audit {
    pub(crate) fn refused(&self) -> usize {
        self.containers
            .iter()
            .filter(|container| container.is_refused())
            .count()
    }

    /// The rules that refuse, with the containers that each refuses: the most first.
    pub(crate) fn by_rule(&self) -> Vec<(&str, Vec<&str>)> {
        let mut by_rule: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for container in &self.containers {
            for finding in container
                .outcome
                .iter()
                .flatten()
                .filter(|finding| finding.action == Action::Deny)
            {
                let ids = by_rule.entry(finding.rule_id()).or_default();
                if ids.last() != Some(&container.id.as_str()) {
                    ids.push(&container.id);
                }
            }
        }
        let mut list: Vec<_> = by_rule.into_iter().collect();
        list.sort_by_key(|(_, ids)| std::cmp::Reverse(ids.len()));
        list
    }
}

/// So many containers, in words.
pub(crate) fn containers(count: usize) -> String {
    match count {
        1 => "1 container".to_owned(),
        _ => format!("{count} containers"),
    }
}

/// What a rule is about, in a few words.
pub(crate) fn title(rule: &str) -> &'static str {
    rules::find(rule).map_or("a rule of this site", |rule| rule.title)
}

/// Judges each bundle.
///
/// # Errors
/// If gabion itself cannot judge: bundles that cannot be read are part of the outcome.
pub(crate) fn of(context: &Context<'_>, site: &Site, places: Vec<find::Place>) -> Result<Audit, Failure> {
    let containers = places
        .into_iter()
        .map(|place| Audited {
            outcome: gate::audit_bundle(context, site, &place.bundle).map_err(|failure| failure.line()),
            id: place.id,
            engine: place.engine,
            bundle: place.bundle.display().to_string(),
        })
        .collect();
    Ok(Audit {
        host: nix::unistd::gethostname()
            .map_or_else(|_| String::new(), |name| name.to_string_lossy().into_owned()),
        time: gabion_ledger::Timestamp::now().to_string(),
        profile: site.policy.profile.name(),
        findings: gate::audit_host(site)?,
        containers,
    })
}

/// The report for a program. As with `gabion check`, properties are added without a new version.
pub(crate) fn json(audit: &Audit) -> Value {
    let containers: Vec<Value> = audit
        .containers
        .iter()
        .map(|container| {
            json!({
                "id": container.id,
                "engine": container.engine.map(Engine::name),
                "bundle": container.bundle,
                "verdict": if container.is_refused() { "refused" } else { "admitted" },
                "error": container.outcome.as_ref().err(),
                "findings": container.outcome.as_deref().unwrap_or_default(),
            })
        })
        .collect();
    let by_rule: Vec<Value> = audit
        .by_rule()
        .into_iter()
        .map(|(rule, ids)| json!({"rule": rule, "title": title(rule), "containers": ids}))
        .collect();
    json!({
        "version": 1,
        "host": audit.host,
        "time": audit.time,
        "profile": audit.profile,
        "hostFindings": audit.findings,
        "rules": by_rule,
        "containers": containers,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn finding(rule: &str, action: Action, found: &str) -> Finding {
        let text = json!({"ociVersion": "1.2.0"}).to_string();
        let allegation = gabion_baseline::Allegation::parse(text.as_bytes()).unwrap();
        let policy = gabion_baseline::Policy::builtin(gabion_baseline::Profile::Restricted, |_| Value::Null);
        let operation = gabion_baseline::Operation::Check { offline: true };
        let judgement = gabion_baseline::judge(
            &allegation,
            &gabion_baseline::Facts::default(),
            &policy,
            &operation,
        )
        .unwrap();
        let mut finding = judgement.findings()[0].clone();
        finding.rule = rule.to_owned();
        finding.action = action;
        finding.found = found.to_owned();
        finding.pointer = "/mounts/0/source".to_owned();
        finding
    }

    pub(crate) fn audit(id: &str, found: &str) -> Audit {
        let container = |id: &str, outcome| Audited {
            id: id.to_owned(),
            engine: Some(Engine::Docker),
            bundle: format!("/run/b/{id}"),
            outcome,
        };
        Audit {
            host: "node-1".to_owned(),
            time: "2026-11-26T12:00:00Z".to_owned(),
            profile: "baseline",
            findings: vec![finding(
                "HOST-02",
                Action::Audit,
                "control groups of version 1 are mounted",
            )],
            containers: vec![
                container(
                    id,
                    Ok(vec![finding("MNT-02:/run/docker.sock", Action::Deny, found)]),
                ),
                container("fine", Ok(vec![finding("PRV-01", Action::Audit, "absent")])),
                container("broken", Err("config.json is empty".to_owned())),
            ],
        }
    }

    #[test]
    fn one_container_is_one() {
        assert_eq!(
            [0, 1, 2].map(containers),
            ["0 containers", "1 container", "2 containers"]
        );
    }

    #[test]
    fn what_cannot_be_judged_would_not_run() {
        let audit = audit("web", "the socket");
        assert_eq!(audit.refused(), 2);
        assert_eq!(audit.by_rule(), [("MNT-02", vec!["web"])]);
        let json = json(&audit);
        assert_eq!(json["containers"][1]["verdict"], "admitted");
        assert_eq!(json["containers"][2]["error"], "config.json is empty");
        assert_eq!(json["rules"][0]["containers"][0], "web");
    }
}
