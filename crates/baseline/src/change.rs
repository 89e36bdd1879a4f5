//! What hardening adds to a configuration.
//!
//! Hardening only ever adds: a mask, a mount option, a namespace, a limit, a missing profile, a dropped
//! privilege. It never edits what the engine sent in any other way. Each change can be shown.

use serde::Serialize;
use serde_json::{Map, Value, json};

/// The member of `linux` that lists what is denied whatever `linux.seccomp` says. The runtime-spec does not have it; a
/// bundle that brings it is taken at its word, since it can only deny more.
pub const FLOOR: &str = "org.gabion.seccompFloor";

/// One addition to the document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "change")]
pub enum Change {
    /// Fills `process.capabilities`, which was absent or null, with these in the bounding, effective and
    /// permitted sets.
    FillCapabilities {
        /// Names such as `CAP_CHOWN`.
        capabilities: Vec<String>,
    },
    /// Drops a capability from one set.
    DropCapability {
        /// `bounding`, `effective`, `inheritable`, `permitted` or `ambient`.
        set: String,
        /// A name such as `CAP_MKNOD`.
        capability: String,
    },
    /// Adds a new namespace of this type.
    AddNamespace {
        /// `uts`, `cgroup`, …
        kind: String,
    },
    /// Fills `linux.seccomp` with gabion's default profile.
    FillSeccomp,
    /// Adds an entry to the filter that is loaded under `linux.seccomp`: to [`FLOOR`], a list of names.
    StackSeccomp {
        /// Such as `AF_ALG`.
        entry: String,
    },
    /// Sets `process.noNewPrivileges`.
    SetNoNewPrivileges,
    /// Sets `process.apparmorProfile`.
    SetApparmorProfile {
        /// A profile that is loaded.
        profile: String,
    },
    /// Appends an option to a mount.
    AddMountOption {
        /// Index in `mounts`.
        mount: usize,
        /// Such as `nosuid`.
        option: String,
    },
    /// Adds to `linux.maskedPaths`.
    AddMaskedPath {
        /// A path in the container.
        path: String,
    },
    /// Adds to `linux.readonlyPaths`.
    AddReadonlyPath {
        /// A path in the container.
        path: String,
    },
    /// Inserts a rule that denies all devices before the first of `linux.resources.devices`.
    DenyDevicesFirst,
    /// Sets `linux.resources.pids.limit`.
    SetPidsLimit {
        /// Number of tasks.
        limit: i64,
    },
    /// Sets `root.readonly`.
    SetRootReadonly,
    /// Inserts a tmpfs on /dev before the other mounts that lie in it.
    AddDevTmpfs,
    /// Lowers a resource limit, or sets it.
    SetRlimit {
        /// Such as `RLIMIT_CORE`.
        kind: String,
        /// Soft and hard limit.
        limit: u64,
    },
}

impl Change {
    /// When to apply it: changes that move others' places, or depend on their outcome, come later.
    pub(crate) fn phase(&self) -> u8 {
        match self {
            Change::AddDevTmpfs => 1,
            Change::FillSeccomp => 2,
            _ => 0,
        }
    }

    /// Applies the change to a document. Applying it twice is applying it once.
    ///
    /// `seccomp` makes gabion's default profile, as the value of `linux.seccomp`, for the capabilities in the
    /// bounding set of the document as it then is.
    pub fn apply(&self, document: &mut Value, seccomp: &dyn Fn(&[String]) -> Value) {
        match self {
            Change::FillCapabilities { capabilities } => {
                member(document, &["process"]).insert(
                    "capabilities".to_owned(),
                    json!({"bounding": capabilities, "effective": capabilities, "permitted": capabilities}),
                );
            }
            Change::DropCapability { set, capability } => {
                let sets = member(document, &["process", "capabilities"]);
                if let Some(Value::Array(names)) = sets.get_mut(set) {
                    names.retain(|name| name.as_str() != Some(capability));
                }
            }
            Change::AddNamespace { kind } => {
                let namespaces = list(document, &["linux"], "namespaces");
                if !namespaces.iter().any(|entry| entry["type"] == kind.as_str()) {
                    namespaces.push(json!({"type": kind}));
                }
            }
            Change::FillSeccomp => {
                let bounding: Vec<String> = document
                    .pointer("/process/capabilities/bounding")
                    .and_then(Value::as_array)
                    .map(|names| {
                        names
                            .iter()
                            .filter_map(Value::as_str)
                            .map(str::to_owned)
                            .collect()
                    })
                    .unwrap_or_default();
                let profile = seccomp(&bounding);
                member(document, &["linux"]).insert("seccomp".to_owned(), profile);
            }
            Change::StackSeccomp { entry } => {
                push_string(list(document, &["linux"], FLOOR), entry);
            }
            Change::SetNoNewPrivileges => {
                member(document, &["process"]).insert("noNewPrivileges".to_owned(), json!(true));
            }
            Change::SetApparmorProfile { profile } => {
                member(document, &["process"]).insert("apparmorProfile".to_owned(), json!(profile));
            }
            Change::AddMountOption { mount, option } => {
                if let Some(Value::Object(entry)) = document.get_mut("mounts").and_then(|m| m.get_mut(*mount))
                {
                    // Of two options that contradict each other the last one counts: one that is there already,
                    // before its opposite, would not do.
                    let options = array(entry, "options");
                    options.retain(|value| value.as_str() != Some(option));
                    options.push(Value::String(option.clone()));
                }
            }
            Change::AddMaskedPath { path } => push_string(list(document, &["linux"], "maskedPaths"), path),
            Change::AddReadonlyPath { path } => {
                push_string(list(document, &["linux"], "readonlyPaths"), path)
            }
            Change::DenyDevicesFirst => {
                let rules = list(document, &["linux", "resources"], "devices");
                let deny_all = json!({"allow": false, "access": "rwm"});
                if rules.first() != Some(&deny_all) {
                    rules.insert(0, deny_all);
                }
            }
            Change::SetPidsLimit { limit } => {
                member(document, &["linux", "resources", "pids"]).insert("limit".to_owned(), json!(limit));
            }
            Change::SetRootReadonly => {
                member(document, &["root"]).insert("readonly".to_owned(), json!(true));
            }
            Change::AddDevTmpfs => {
                let mounts = list(document, &[], "mounts");
                let first = mounts
                    .iter()
                    .position(|mount| {
                        mount["destination"]
                            .as_str()
                            .is_some_and(|d| d.starts_with("/dev/"))
                    })
                    .unwrap_or(mounts.len());
                mounts.insert(
                    first,
                    json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                           "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}),
                );
            }
            Change::SetRlimit { kind, limit } => {
                let limits = list(document, &["process"], "rlimits");
                limits.retain(|entry| entry["type"] != kind.as_str());
                limits.push(json!({"type": kind, "soft": limit, "hard": limit}));
            }
        }
    }
}

/// The object at a path of keys; made where it is missing or null.
fn member<'a>(document: &'a mut Value, keys: &[&str]) -> &'a mut Map<String, Value> {
    let mut value = document;
    for key in keys {
        value = object(value).entry(*key).or_insert(Value::Null);
    }
    object(value)
}

fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made an object just above"),
    }
}

fn array<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut Vec<Value> {
    let value = map.entry(key).or_insert(Value::Null);
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    match value {
        Value::Array(list) => list,
        _ => unreachable!("made an array just above"),
    }
}

fn list<'a>(document: &'a mut Value, keys: &[&str], key: &str) -> &'a mut Vec<Value> {
    array(member(document, keys), key)
}

fn push_string(list: &mut Vec<Value>, text: &str) {
    if !list.iter().any(|value| value.as_str() == Some(text)) {
        list.push(Value::String(text.to_owned()));
    }
}
