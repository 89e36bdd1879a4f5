//! What a site decided: the profile, the levels of single rules, and what its engines may do.
//!
//! Reading `/etc/gabion/policy.toml` is the business of the crate that may open files; this is the value.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::profile::{Level, Profile};
use crate::rule::Rule;
use crate::site_rule::SiteRule;
use crate::waiver::{Day, Waiver};

/// Makes the default seccomp profile, as the value of `linux.seccomp`, for a bounding set.
pub type DefaultSeccomp = fn(&[String]) -> Value;

/// Says what a filter, the value of `linux.seccomp` or null, may let through of what no container may do, for a bounding
/// set; or why that cannot be said.
pub type SeccompGaps = Arc<dyn Fn(&Value, &[String]) -> Result<Vec<SeccompGap>, String> + Send + Sync>;

/// Something that no container may do, and that a filter may let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeccompGap {
    /// What a policy calls it: `AF_ALG` in `SEC-03:AF_ALG`.
    pub entry: String,
    /// It matters under `restricted` alone.
    pub restricted: bool,
    /// Some of the calls that may pass, such as `socket(38)`.
    pub calls: Vec<String>,
}

/// Who knows filters was not told to judgement: what is asked of them stays open, and is then refused.
fn nobody_knows(_: &Value, _: &[String]) -> Result<Vec<SeccompGap>, String> {
    Err("nothing that understands filters was given to judgement".to_owned())
}

/// The policy in force.
#[derive(Clone)]
pub struct Policy {
    /// The built-in profile that everything else refines.
    pub profile: Profile,
    /// Levels that the site gave to single rules (`MNT-03`) or single values (`CAP-03:NET_ADMIN`).
    pub levels: BTreeMap<String, Level>,
    /// Devices beyond the default ones that containers may have, by their path on the host: `/dev/fuse`.
    pub devices: Vec<String>,
    /// Directories of the host that engines manage for containers: volumes, sandboxes, pods. A `*` stands for
    /// one path component.
    pub engine_roots: Vec<String>,
    /// Hooks that may run, by the file they lead to and by hook point.
    pub hooks: Vec<HookPermit>,
    /// The default of `linux.resources.pids.limit`, in tasks.
    pub pids_limit: i64,
    /// Violations that are tolerated for a while.
    pub waivers: Vec<Waiver>,
    /// Rules of the site's own.
    pub site_rules: Vec<SiteRule>,
    /// The date, for waivers. Judgement reads no clock: without it no waiver applies.
    pub today: Option<Day>,
    /// Makes the default seccomp profile.
    pub default_seccomp: DefaultSeccomp,
    /// Says what a filter may let through.
    pub seccomp_gaps: SeccompGaps,
}

/// A hook that a site trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookPermit {
    /// The hook point's name in the spec, such as `prestart`.
    pub point: String,
    /// The file that the hook's path leads to, such as `/usr/bin/dockerd`.
    pub path: String,
    /// What `args[0]` must be, if that is to be restricted.
    pub arg0: Option<String>,
    /// Where in the container it may mount something, which nobody judges then; a `*` stands for one path component.
    pub mounts: Vec<String>,
}

impl Policy {
    /// A built-in profile with nothing changed.
    pub fn builtin(profile: Profile, default_seccomp: DefaultSeccomp) -> Self {
        let strings = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Policy {
            profile,
            levels: BTreeMap::new(),
            devices: Vec::new(),
            engine_roots: strings(&ENGINE_ROOTS),
            hooks: Vec::new(),
            pids_limit: 4096,
            waivers: Vec::new(),
            site_rules: Vec::new(),
            today: None,
            default_seccomp,
            seccomp_gaps: Arc::new(nobody_knows),
        }
    }

    /// The level of a rule, or of one value of it, as the site has it; `built_in` where it says nothing.
    ///
    /// A rule that guards the runtime itself, [`Rule::is_immutable`], keeps its level.
    pub fn level(&self, rule: &Rule, sub_key: Option<&str>, built_in: Level) -> Level {
        if rule.is_immutable() || self.levels.is_empty() {
            return built_in;
        }
        sub_key
            .and_then(|sub_key| self.levels.get(&format!("{}:{sub_key}", rule.id)))
            .or_else(|| self.levels.get(rule.id))
            .copied()
            .unwrap_or(built_in)
    }

    /// True if the rule is off in this policy's profile, and no value of it was given a level of its own: a site
    /// that turns `CAP-03` off and `CAP-03:SYS_ADMIN` to deny means the latter.
    pub fn is_off(&self, rule: &Rule) -> bool {
        let value_of = |id: &String| id.strip_prefix(rule.id).is_some_and(|rest| rest.starts_with(':'));
        self.level(rule, None, rule.levels.of(self.profile)) == Level::Off
            && !self.levels.keys().any(value_of)
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("profile", &self.profile)
            .field("levels", &self.levels)
            .finish_non_exhaustive()
    }
}

/// Where Docker, containerd, podman, CRI-O and the kubelet keep what they mount into containers.
///
/// Not the storage of podman and CRI-O as a whole: beside the files of each container it holds the layers of all
/// images and the roots of all containers.
pub const ENGINE_ROOTS: [&str; 12] = [
    "/var/lib/docker/containers",
    "/var/lib/docker/volumes",
    "/var/lib/docker/buildkit",
    "/var/lib/containers/storage/overlay-containers",
    "/var/lib/containers/storage/vfs-containers",
    "/var/lib/containers/storage/volumes",
    "/run/containers",
    "/var/lib/kubelet/pods",
    "/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes",
    "/run/containerd/io.containerd.grpc.v1.cri/sandboxes",
    "/var/lib/containerd/io.containerd.grpc.v1.cri/containers",
    "/run/containerd/io.containerd.grpc.v1.cri/containers",
];
