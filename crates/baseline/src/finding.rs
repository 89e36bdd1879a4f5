//! What judgement reports: one finding for each violation of a rule.

use serde::{Serialize, Serializer};

use crate::change::Change;
use crate::rule::Mappings;
use crate::waiver::WaiverUse;

/// What was done about a violation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It was recorded.
    Audit,
    /// A safe value was added.
    Harden,
    /// The bundle is refused.
    Deny,
}

/// One violation of one rule: where, what, what would be accepted, and what the rule stops.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// The rule's id, with the value it is about where the rule has sub-keys: `CAP-03:SYS_ADMIN`.
    pub rule: String,
    /// What was done about it.
    pub action: Action,
    /// Where in config.json: a JSON pointer (RFC 6901).
    pub pointer: String,
    /// What was found there.
    pub found: String,
    /// What would be accepted.
    pub accepted: String,
    /// Attacks and CVEs that the rule stops.
    pub stops: &'static [&'static str],
    /// Where the rule comes from.
    pub references: References,
    /// True if the rule could not be decided because a fact of the host is not known.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub undecided: bool,
    /// The waiver by which it is tolerated, or the one that is over and would have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiver: Option<WaiverUse>,
    /// What was added, for [`Action::Harden`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
}

/// Where a rule comes from. Written out as a list of lines, and only then made into lines: most findings are never shown.
#[derive(Debug, Clone, PartialEq)]
pub enum References {
    /// Other catalogues: PSS, CIS Docker Benchmark, NSA/CISA, NIST SP 800-190.
    Catalogues(Mappings),
    /// The place in the site's policy, for a rule of the site's own.
    Policy(String),
}

impl Serialize for References {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            References::Catalogues(mappings) => serializer.collect_seq(mappings.lines()),
            References::Policy(place) => serializer.collect_seq([place]),
        }
    }
}

impl Finding {
    /// The id of the rule alone: `CAP-03` of `CAP-03:SYS_ADMIN`.
    pub fn rule_id(&self) -> &str {
        self.rule.split(':').next().unwrap_or(&self.rule)
    }
}
