//! The three built-in profiles, and what a rule does in each.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A built-in set of levels for the rules, named after Kubernetes' Pod Security Standards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Audit only, but for what attacks the runtime itself.
    Privileged,
    /// The default: runs default Docker, podman, `ctr` and Kubernetes pods unchanged, fills in safe
    /// defaults, refuses host takeover.
    Baseline,
    /// Pod Security "restricted", and beyond.
    Restricted,
}

impl Profile {
    /// All profiles, weakest first; [`Ord`] follows this order.
    pub const ALL: [Profile; 3] = [Profile::Privileged, Profile::Baseline, Profile::Restricted];

    /// The profile's name as it is written in policies, flags and reports.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Privileged => "privileged",
            Profile::Baseline => "baseline",
            Profile::Restricted => "restricted",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A profile was named that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no profile {0:?}; the profiles are privileged, baseline, restricted")]
pub struct UnknownProfile(pub String);

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(name: &str) -> Result<Self, UnknownProfile> {
        Profile::ALL
            .into_iter()
            .find(|profile| profile.name() == name)
            .ok_or_else(|| UnknownProfile(name.to_owned()))
    }
}

/// What happens when a rule is violated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The rule is not evaluated.
    Off,
    /// The violation is recorded, and that is all.
    Audit,
    /// A safe value is added; where none can be, the bundle is refused.
    Harden,
    /// The bundle is refused.
    Deny,
}

/// A rule's level in each profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Levels {
    /// In the profile `privileged`.
    pub privileged: Level,
    /// In the profile `baseline`.
    pub baseline: Level,
    /// In the profile `restricted`.
    pub restricted: Level,
}

impl Levels {
    /// The three levels, in the order of [`Profile::ALL`].
    pub const fn new(privileged: Level, baseline: Level, restricted: Level) -> Self {
        Levels {
            privileged,
            baseline,
            restricted,
        }
    }

    /// The level in one profile.
    pub fn of(&self, profile: Profile) -> Level {
        match profile {
            Profile::Privileged => self.privileged,
            Profile::Baseline => self.baseline,
            Profile::Restricted => self.restricted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_ordered_from_weak_to_strict() {
        assert!(Profile::Privileged < Profile::Baseline && Profile::Baseline < Profile::Restricted);
    }

    #[test]
    fn an_unknown_profile_is_answered_with_the_known_ones() {
        let error = "Restricted".parse::<Profile>().unwrap_err().to_string();
        assert!(error.contains("\"Restricted\"") && error.contains("privileged, baseline, restricted"));
    }
}
