//! The judgement: every rule in force, on one allegation, at once.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::Value;

use crate::allegation::{Allegation, AllegationError};
use crate::change::Change;
use crate::config::Config;
use crate::facts::{FactKind, Facts};
use crate::finding::{Action, Finding, References};
use crate::policy::Policy;
use crate::profile::{Level, Profile};
use crate::rule::{Case, Rule, Violation, Violations};
use crate::rules;
use crate::site_rule::{self, Input, SiteRule};
use crate::waiver;

/// What is to be done with the bundle if it is admitted.
#[derive(Debug, Clone)]
pub enum Operation {
    /// A container is to be created from it on this host.
    Create {
        /// The container's id.
        id: String,
    },
    /// A further process is to be started in a container of this host. The allegation is the container's effective
    /// configuration with `process` replaced.
    Exec {
        /// The container's id.
        id: String,
        /// The container's effective configuration, as it was judged.
        container: Box<Config>,
    },
    /// Limits of a container of this host are to be changed. The allegation is the container's effective
    /// configuration with `linux.resources` as they would be afterwards, what was not asked for included.
    Update {
        /// The container's id.
        id: String,
        /// The container's configuration as it is now.
        container: Box<Config>,
    },
    /// A container is to be made from the image of a checkpoint. The allegation is the configuration that it is to
    /// run with.
    Restore {
        /// The container's id.
        id: String,
        /// Where the image comes from.
        checkpoint: Checkpoint,
    },
    /// Nothing, and there is no bundle: the host itself is looked at.
    Host,
    /// Nothing: someone wants to know. With `offline`, the file comes from another host.
    Check {
        /// Facts of this host are not asked for, and not knowing them refuses nothing.
        offline: bool,
    },
}

/// The image of a checkpoint, as far as its origin is known. Both are what the runtime knows by itself: nothing in
/// the image is evidence of where the image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Why it cannot be taken for one that this runtime made, on this host, of a container that it had judged;
    /// `None` if it can.
    pub foreign: Option<String>,
    /// The reality gate looks at the restored processes before any of them runs on.
    pub verified: bool,
}

/// The outcome of judgement.
#[derive(Debug)]
#[must_use]
pub enum Judgement {
    /// No rule refuses it.
    Admitted(Box<Admitted>),
    /// At least one does.
    Refused(Refusal),
}

impl Judgement {
    /// All findings, whatever the verdict.
    pub fn findings(&self) -> &[Finding] {
        match self {
            Judgement::Admitted(admitted) => admitted.findings(),
            Judgement::Refused(refusal) => refusal.findings(),
        }
    }
}

/// A judged and hardened configuration.
///
/// The only way to get one is [`judge`]; building a container asks for one. So nothing is built that was
/// not judged.
#[derive(Debug)]
pub struct Admitted {
    document: Value,
    config: Config,
    profile: Profile,
    findings: Vec<Finding>,
    hook_mounts: Vec<String>,
}

impl Admitted {
    /// The effective configuration, as a document: what was sent, and what hardening added.
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// The effective configuration, typed.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The profile it was judged under.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// What was found and tolerated, and what was hardened.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Where in the container its hooks may mount something that nobody judged, as the policy has it; a `*` stands for
    /// one path component.
    pub fn hook_mounts(&self) -> &[String] {
        &self.hook_mounts
    }

    /// What hardening added, in the order it was applied.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.findings.iter().flat_map(|finding| finding.changes.iter())
    }
}

/// A configuration that is not run, and why.
#[derive(Debug)]
pub struct Refusal {
    profile: Profile,
    findings: Vec<Finding>,
}

impl Refusal {
    /// The profile it was judged under.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Everything that was found: what refuses the bundle first, then the rest.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The findings that refuse the bundle.
    pub fn denials(&self) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(|finding| finding.action == Action::Deny)
    }
}

impl Operation {
    /// True if a process of the workload is to run.
    pub fn starts_a_process(&self) -> bool {
        matches!(
            self,
            Operation::Create { .. } | Operation::Exec { .. } | Operation::Restore { .. }
        )
    }

    /// True if a rule has something to say about it. The container of a further process was judged when it was
    /// created; of the new process, what is its own is judged, and what the runtime hands on.
    fn concerns(&self, rule: &Rule) -> bool {
        // What is true of the host is told once, not with each of its containers.
        let about_the_host = rule.facts.contains(&FactKind::Host);
        match self {
            Operation::Host => about_the_host,
            _ if about_the_host => false,
            Operation::Create { .. } | Operation::Restore { .. } | Operation::Check { .. } => true,
            // What was judged when the container was created is not judged again because of a limit.
            Operation::Update { .. } => rule
                .fields
                .iter()
                .any(|field| field.starts_with("/linux/resources")),
            // A rule that looks at nothing in config.json looks at the runtime itself. One that looks at other parts as
            // well, as PRV-02 does at mappings, finds the container's there.
            Operation::Exec { .. } => {
                rule.fields.is_empty() || rule.fields.iter().any(|field| field.starts_with("/process"))
            }
        }
    }
}

/// The groups of facts that the rules in force under a policy ask for.
pub fn wanted_facts(policy: &Policy, operation: &Operation) -> BTreeSet<FactKind> {
    let mut wanted: BTreeSet<FactKind> = rules::all()
        .filter(|rule| !policy.is_off(rule) && operation.concerns(rule))
        .flat_map(|rule| rule.facts.iter().copied())
        .collect();
    if !policy.waivers.is_empty() {
        wanted.insert(FactKind::Caller);
    }
    if policy.site_rules.iter().any(|rule| rule.expression.wants_facts()) {
        wanted.extend([
            FactKind::Caller,
            FactKind::Kernel,
            FactKind::Cgroup,
            FactKind::Lsm,
            FactKind::Mounts,
        ]);
    }
    wanted
}

/// Judges an allegation. One that is given away becomes what is admitted; one that is lent is copied for it.
///
/// # Errors
/// Only if gabion's own hardening made a document that is no configuration any more: a bug, reported with the
/// place, and nothing runs.
pub fn judge<'a>(
    allegation: impl Into<Cow<'a, Allegation>>,
    facts: &Facts,
    policy: &Policy,
    operation: &Operation,
) -> Result<Judgement, AllegationError> {
    let allegation = allegation.into();
    let mut findings: Vec<Finding> = Vec::new();
    let case = Case {
        config: allegation.config(),
        document: allegation.document(),
        facts,
        policy,
        profile: policy.profile,
        operation,
        findings: &[],
    };
    for rule in rules::all() {
        // A violation may bring levels of its own, so a rule that is off is skipped only if its function
        // has nothing to say in this profile at all: `Level::Off` in the catalogue means exactly that.
        if policy.is_off(rule) || !operation.concerns(rule) {
            continue;
        }
        let mut violations = Violations::default();
        let case = Case {
            findings: &findings,
            ..case
        };
        (rule.check)(&case, &mut violations);
        #[cfg(test)]
        rules::mutation::change(rule, &mut violations);
        let found: Vec<Finding> = violations
            .list
            .into_iter()
            .filter_map(|violation| finding(rule, violation, &case))
            .collect();
        findings.extend(found);
    }
    if !policy.site_rules.is_empty() && !matches!(operation, Operation::Host) {
        findings.extend(of_the_site(allegation.document(), &case));
    }
    if findings.iter().any(|finding| finding.action == Action::Deny) {
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.action));
        return Ok(Judgement::Refused(Refusal {
            profile: policy.profile,
            findings,
        }));
    }
    let hook_mounts = rules::hooks::mounts(&case);
    let mut changes: Vec<&Change> = findings
        .iter()
        .flat_map(|finding| finding.changes.iter())
        .collect();
    changes.sort_by_key(|change| change.phase());
    let (document, config) = allegation
        .into_owned()
        .changed(&changes, &policy.default_seccomp)?
        .into_parts();
    Ok(Judgement::Admitted(Box::new(Admitted {
        document,
        config,
        profile: policy.profile,
        findings,
        hook_mounts,
    })))
}

/// What the site's own rules find.
fn of_the_site(document: &Value, case: &Case<'_>) -> Vec<Finding> {
    let policy = case.policy;
    let in_force = |rule: &&SiteRule| rule.levels.of(policy.profile) != Level::Off;
    let mut rules = policy.site_rules.iter().filter(in_force).peekable();
    if rules.peek().is_none() {
        return Vec::new();
    }
    let spec = Input::of(document);
    let facts = Input::of(&site_rule::facts(case.facts));
    let offline = matches!(case.operation, Operation::Check { offline: true });
    let finding = |rule: &SiteRule| {
        let why = rule.expression.violated(&spec, &facts)?;
        let waiver = waiver::find(
            &policy.waivers,
            policy.today,
            case.facts.caller.known(),
            &rule.id,
            None,
        );
        // What needs facts of a host that is not this one cannot be decided, as with the built-in rules.
        let undecided = offline && !why.is_empty() && rule.expression.wants_facts();
        let action = match rule.levels.of(policy.profile) {
            Level::Deny | Level::Harden
                if !undecided && waiver.as_ref().is_none_or(|waiver| waiver.expired) =>
            {
                Action::Deny
            }
            _ => Action::Audit,
        };
        Some(Finding {
            rule: rule.id.clone(),
            action,
            pointer: rule.field.clone(),
            found: if why.is_empty() {
                rule.message.clone()
            } else {
                format!("{} ({why})", rule.message)
            },
            accepted: rule.remedy.clone(),
            stops: &[],
            references: References::Policy(rule.origin.clone()),
            undecided,
            waiver,
            changes: Vec::new(),
        })
    };
    rules.filter_map(finding).collect()
}

/// Gives a violation its action.
fn finding(rule: &Rule, violation: Violation, case: &Case<'_>) -> Option<Finding> {
    let (policy, operation) = (case.policy, case.operation);
    let built_in = violation.levels.unwrap_or(rule.levels).of(policy.profile);
    let level = policy.level(rule, violation.sub_key.as_deref(), built_in);
    let offline = matches!(operation, Operation::Check { offline: true });
    let waiver = match level {
        Level::Deny | Level::Harden if !rule.is_immutable() && !policy.waivers.is_empty() => waiver::find(
            &policy.waivers,
            policy.today,
            case.facts.caller.known(),
            rule.id,
            violation.sub_key.as_deref(),
        ),
        _ => None,
    };
    let (action, changes) = match level {
        _ if waiver.as_ref().is_some_and(|waiver| !waiver.expired) => (Action::Audit, Vec::new()),
        Level::Off => return None,
        Level::Audit => (Action::Audit, Vec::new()),
        // What cannot be decided cannot be relied upon: refused where it is to run, reported where the
        // file belongs to another host.
        _ if violation.undecided && offline => (Action::Audit, Vec::new()),
        _ if violation.undecided => (Action::Deny, Vec::new()),
        Level::Harden if violation.changes.is_empty() => (Action::Deny, Vec::new()),
        Level::Harden => (Action::Harden, violation.changes),
        Level::Deny => (Action::Deny, Vec::new()),
    };
    Some(Finding {
        rule: match violation.sub_key {
            Some(sub_key) => format!("{}:{sub_key}", rule.id),
            None => rule.id.to_owned(),
        },
        action,
        pointer: violation.pointer.into(),
        found: violation.found,
        accepted: violation.accepted,
        stops: rule.stops,
        references: References::Catalogues(rule.mappings),
        undecided: violation.undecided,
        waiver,
        changes,
    })
}
