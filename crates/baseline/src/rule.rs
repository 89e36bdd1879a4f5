//! What a rule is: data that explains it, and one function that decides it.

use crate::change::Change;
use crate::config::Config;
use crate::facts::{FactKind, Facts};
use crate::finding::Finding;
use crate::judge::Operation;
use crate::pointer::Pointer;
use crate::policy::Policy;
use crate::profile::{Level, Levels, Profile};

/// One rule of the baseline. The statics of this type, one beside each rule's function, are the catalogue:
/// `gabion explain`, the documentation and every report are made from them.
#[derive(Debug)]
pub struct Rule {
    /// The stable id, such as `CAP-03`.
    pub id: &'static str,
    /// A few words: "no capability that takes over the host".
    pub title: &'static str,
    /// What is violated when, in one or two sentences.
    pub meaning: &'static str,
    /// Why it matters: what an attacker does with it.
    pub why: &'static str,
    /// Attacks and CVEs that the rule stops.
    pub stops: &'static [&'static str],
    /// The JSON pointers it looks at, `*` for any element; none if it looks at the runtime itself.
    pub fields: &'static [&'static str],
    /// What happens when it is violated.
    pub levels: Levels,
    /// What is added where the level is [`Level::Harden`], in words; empty if nothing can be.
    pub hardening: &'static str,
    /// How to fix a bundle that violates it.
    pub remedies: Remedies,
    /// Where it comes from.
    pub mappings: Mappings,
    /// The facts of the host that it asks for.
    pub facts: &'static [FactKind],
    /// Decides it.
    pub check: fn(&Case<'_>, &mut Violations),
}

impl Rule {
    /// True for rules that are denied in every profile: they guard the runtime itself, and no policy and no
    /// waiver changes their level.
    pub fn is_immutable(&self) -> bool {
        self.levels == Levels::new(Level::Deny, Level::Deny, Level::Deny)
    }
}

/// How to fix a violation, for each way in which people write containers.
#[derive(Debug, Clone, Copy)]
pub struct Remedies {
    /// With `docker run` or a compose file; nerdctl is called in the same way.
    pub docker: &'static str,
    /// With podman, where that is not called as Docker is; empty otherwise.
    pub podman: &'static str,
    /// With `ctr run`, where that has a flag for it; empty otherwise: `ctr run --config` takes a whole config.json.
    pub ctr: &'static str,
    /// In a pod's manifest.
    pub kubernetes: &'static str,
    /// In config.json itself.
    pub config: &'static str,
}

impl Remedies {
    /// Where nothing else differs from Docker: the rest of a value.
    pub const AS_DOCKER: Remedies = Remedies {
        docker: "",
        podman: "",
        ctr: "",
        kubernetes: "",
        config: "",
    };

    /// Those that there are, each under the name of what it is for.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &'static str)> + use<> {
        [
            ("Docker", self.docker),
            ("podman", self.podman),
            ("ctr", self.ctr),
            ("Kubernetes", self.kubernetes),
            ("config.json", self.config),
        ]
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
    }
}

/// What other catalogues call the same thing; empty where they do not have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mappings {
    /// The control in Kubernetes' Pod Security Standards, and its level.
    pub pss: &'static str,
    /// Section of the CIS Docker Benchmark (1.5 to 1.7).
    pub cis_docker: &'static str,
    /// Topic of the NSA/CISA Kubernetes Hardening Guide 1.2.
    pub nsa: &'static str,
    /// Section of NIST SP 800-190.
    pub nist_800_190: &'static str,
}

impl Mappings {
    /// As lines for people: `CIS Docker Benchmark 5.4`.
    pub fn lines(&self) -> impl Iterator<Item = String> + use<> {
        [
            ("Pod Security Standards: ", self.pss),
            ("CIS Docker Benchmark ", self.cis_docker),
            ("NSA/CISA Kubernetes Hardening Guide: ", self.nsa),
            ("NIST SP 800-190 ", self.nist_800_190),
        ]
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(source, text)| format!("{source}{text}"))
    }
}

/// What a rule looks at.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The configuration as alleged.
    pub config: &'a Config,
    /// The same as a document, for what only others can read.
    pub document: &'a serde_json::Value,
    /// What is known of the host.
    pub facts: &'a Facts,
    /// The site's policy.
    pub policy: &'a Policy,
    /// The profile in force.
    pub profile: Profile,
    /// What is to be done with the bundle.
    pub operation: &'a Operation,
    /// What the rules before this one found, in the catalogue's order.
    pub findings: &'a [Finding],
}

impl Case<'_> {
    /// The bounding set that the container will have, as far as the rules before this one decide about it.
    pub fn bounding_after_hardening(&self) -> Vec<String> {
        let sets = self
            .config
            .process
            .value()
            .and_then(|process| process.capabilities.value());
        let mut bounding = sets.map_or_else(Vec::new, |sets| sets.bounding.items().to_vec());
        for change in self.findings.iter().flat_map(|finding| &finding.changes) {
            match change {
                Change::FillCapabilities { capabilities } => bounding.clone_from(capabilities),
                Change::DropCapability { set, capability } if *set == "bounding" => {
                    bounding.retain(|name| name != capability);
                }
                _ => {}
            }
        }
        bounding
    }
}

/// A violation as a rule's function reports it, before its level is looked up.
#[derive(Debug)]
pub struct Violation {
    pub(crate) sub_key: Option<String>,
    pub(crate) pointer: Pointer,
    pub(crate) found: String,
    pub(crate) accepted: String,
    pub(crate) levels: Option<Levels>,
    pub(crate) changes: Vec<Change>,
    pub(crate) undecided: bool,
}

impl Violation {
    /// The value it is about, for a rule whose values are addressed one by one: `SYS_ADMIN`.
    pub fn sub_key(&mut self, key: impl Into<String>) -> &mut Self {
        self.sub_key = Some(key.into());
        self
    }

    /// What hardening would add.
    pub fn fix(&mut self, change: Change) -> &mut Self {
        self.changes.push(change);
        self
    }

    /// Levels for this violation that differ from those of the rule.
    pub fn levels(&mut self, levels: Levels) -> &mut Self {
        self.levels = Some(levels);
        self
    }
}

/// Collects the violations of one rule.
#[derive(Debug, Default)]
pub struct Violations {
    pub(crate) list: Vec<Violation>,
}

impl Violations {
    /// Reports a violation: its place, what was found there, what would be accepted.
    /// Text that comes from the bundle is quoted with `{:?}`, so that it cannot write to a terminal.
    pub fn report(
        &mut self,
        pointer: impl Into<Pointer>,
        found: impl Into<String>,
        accepted: impl Into<String>,
    ) -> &mut Violation {
        self.push(Violation {
            sub_key: None,
            pointer: pointer.into(),
            found: found.into(),
            accepted: accepted.into(),
            levels: None,
            changes: Vec::new(),
            undecided: false,
        })
    }

    /// Reports that the rule cannot be decided because a fact of the host is not known.
    pub fn undecided(&mut self, pointer: impl Into<Pointer>, why: impl Into<String>) -> &mut Violation {
        self.push(Violation {
            sub_key: None,
            pointer: pointer.into(),
            found: why.into(),
            accepted: "a host on which this can be determined".to_owned(),
            levels: None,
            changes: Vec::new(),
            undecided: true,
        })
    }

    fn push(&mut self, violation: Violation) -> &mut Violation {
        self.list.push(violation);
        let last = self.list.len() - 1;
        &mut self.list[last]
    }
}
