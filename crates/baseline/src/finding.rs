//! What judgement reports: one finding for each violation of a rule.

use serde::Serialize;

use crate::change::Change;
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
    pub stops: Vec<&'static str>,
    /// Where the rule comes from: PSS, CIS Docker Benchmark, NSA/CISA, NIST SP 800-190.
    pub references: Vec<String>,
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

impl Finding {
    /// The id of the rule alone: `CAP-03` of `CAP-03:SYS_ADMIN`.
    pub fn rule_id(&self) -> &str {
        self.rule.split(':').next().unwrap_or(&self.rule)
    }
}
