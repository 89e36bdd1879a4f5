//! config.json as its author wrote it, typed.
//!
//! Only what judgement looks at is typed here; every other property stays in the document and goes to the
//! engine as it came. Names are those of the runtime-spec 1.3 (config.md, config-linux.md). Values that the
//! spec enumerates stay strings: an unknown one is a finding with a place, never a parse error without one.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::given::Given;

/// The whole of config.json (config.md).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // each field is the spec's property of the same name
pub struct Config {
    pub oci_version: String,
    #[serde(default)]
    pub root: Given<Root>,
    #[serde(default)]
    pub process: Given<Process>,
    #[serde(default)]
    pub hostname: Given<String>,
    #[serde(default)]
    pub domainname: Given<String>,
    #[serde(default)]
    pub mounts: Given<Vec<Mount>>,
    #[serde(default)]
    pub hooks: Given<Hooks>,
    #[serde(default)]
    pub annotations: Given<BTreeMap<String, String>>,
    #[serde(default)]
    pub linux: Given<Linux>,
}

/// `root` (config.md, "Root").
#[derive(Debug, Clone, Deserialize)]
#[allow(missing_docs)]
pub struct Root {
    pub path: String,
    #[serde(default)]
    pub readonly: Given<bool>,
}

/// `process` (config.md, "Process").
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Process {
    #[serde(default)]
    pub terminal: Given<bool>,
    #[serde(default)]
    pub console_size: Given<ConsoleSize>,
    #[serde(default)]
    pub user: Given<User>,
    #[serde(default)]
    pub args: Given<Vec<String>>,
    #[serde(default)]
    pub env: Given<Vec<String>>,
    pub cwd: String,
    #[serde(default)]
    pub capabilities: Given<Capabilities>,
    #[serde(default)]
    pub rlimits: Given<Vec<Rlimit>>,
    #[serde(default)]
    pub no_new_privileges: Given<bool>,
    #[serde(default)]
    pub apparmor_profile: Given<String>,
    #[serde(default)]
    pub selinux_label: Given<String>,
    #[serde(default)]
    pub oom_score_adj: Given<i64>,
    #[serde(default)]
    pub scheduler: Given<serde_json::Value>,
    #[serde(default)]
    pub io_priority: Given<serde_json::Value>,
    #[serde(default, rename = "execCPUAffinity")]
    pub exec_cpu_affinity: Given<serde_json::Value>,
}

/// `process.consoleSize`, in characters.
#[derive(Debug, Clone, Copy, Deserialize)]
#[allow(missing_docs)]
pub struct ConsoleSize {
    pub height: u16,
    pub width: u16,
}

/// `process.user` (config.md, "User", POSIX).
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct User {
    #[serde(default)]
    pub uid: Given<u32>,
    #[serde(default)]
    pub gid: Given<u32>,
    #[serde(default)]
    pub umask: Given<u32>,
    #[serde(default)]
    pub additional_gids: Given<Vec<u32>>,
    #[serde(default)]
    pub username: Given<String>,
}

impl User {
    /// The user id; the spec requires it, and Go's engines omit it where it is 0.
    pub fn uid(&self) -> u32 {
        self.uid.value().copied().unwrap_or(0)
    }

    /// The group id; 0 where an engine omitted it.
    pub fn gid(&self) -> u32 {
        self.gid.value().copied().unwrap_or(0)
    }
}

/// `process.capabilities` (config.md, "Linux Process"). Names as written, such as `CAP_CHOWN`.
#[derive(Debug, Clone, Default, Deserialize)]
#[allow(missing_docs)]
pub struct Capabilities {
    #[serde(default)]
    pub bounding: Given<Vec<String>>,
    #[serde(default)]
    pub effective: Given<Vec<String>>,
    #[serde(default)]
    pub inheritable: Given<Vec<String>>,
    #[serde(default)]
    pub permitted: Given<Vec<String>>,
    #[serde(default)]
    pub ambient: Given<Vec<String>>,
}

impl Capabilities {
    /// The five sets under their names in the spec.
    pub fn sets(&self) -> [(&'static str, &Given<Vec<String>>); 5] {
        [
            ("bounding", &self.bounding),
            ("effective", &self.effective),
            ("inheritable", &self.inheritable),
            ("permitted", &self.permitted),
            ("ambient", &self.ambient),
        ]
    }
}

/// An element of `process.rlimits`.
#[derive(Debug, Clone, Deserialize)]
#[allow(missing_docs)]
pub struct Rlimit {
    #[serde(rename = "type")]
    pub kind: String,
    pub soft: u64,
    pub hard: u64,
}

/// An element of `mounts` (config.md, "Mounts").
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Mount {
    pub destination: String,
    #[serde(default, rename = "type")]
    pub kind: Given<String>,
    #[serde(default)]
    pub source: Given<String>,
    #[serde(default)]
    pub options: Given<Vec<String>>,
    #[serde(default)]
    pub uid_mappings: Given<Vec<IdMapping>>,
    #[serde(default)]
    pub gid_mappings: Given<Vec<IdMapping>>,
}

impl Mount {
    /// True if this is a bind mount: by its type, or by an option `bind` or `rbind` (config.md, "Mounts").
    pub fn is_bind(&self) -> bool {
        self.kind.value().is_some_and(|kind| kind == "bind")
            || self.options.items().iter().any(|o| o == "bind" || o == "rbind")
    }

    /// The last of several options that contradict each other wins, as mount(8) has it.
    /// `yes` and `no` list the spellings of both sides; the answer is `None` if none was written.
    pub fn last_of(&self, yes: &[&str], no: &[&str]) -> Option<bool> {
        self.options.items().iter().rev().find_map(|option| {
            if yes.contains(&option.as_str()) {
                Some(true)
            } else if no.contains(&option.as_str()) {
                Some(false)
            } else {
                None
            }
        })
    }

    /// Options that say something of one mount, and not of its file system (config.md, "Linux mount options"). With an `r` in
    /// front they are for the mounts below it, too.
    pub const ATTRIBUTES: [&'static str; 18] = [
        "ro",
        "rw",
        "suid",
        "nosuid",
        "dev",
        "nodev",
        "exec",
        "noexec",
        "symfollow",
        "nosymfollow",
        "atime",
        "noatime",
        "diratime",
        "nodiratime",
        "relatime",
        "norelatime",
        "strictatime",
        "nostrictatime",
    ];

    /// True if an option says something of the mount itself. Of a bind mount, what its options do not name is then
    /// taken away, as mount(2) does it with `MS_REMOUNT|MS_BIND`: `nosuid` of a source on a read-only mount makes it
    /// writable. A bind mount without any such option is as its source's mount.
    pub fn rewrites_attributes(&self) -> bool {
        let mut options = self.options.items().iter();
        options.any(|option| Mount::ATTRIBUTES.contains(&option.as_str()))
    }

    /// True if the mount is asked to be read-only, wherever in the list that is.
    ///
    /// The recursive options are applied after the plain ones, by a call of their own (mount_setattr(2) with
    /// `AT_RECURSIVE`): one `rro` or `rrw` decides, whatever `ro` and `rw` say and wherever they stand, and the last
    /// one if there are several. An engine that asks for both at once gets `rro` from the kernel in either
    /// order, so that this errs on the side of writable.
    pub fn is_readonly(&self) -> bool {
        self.last_of(&["rro"], &["rrw"])
            .or_else(|| self.last_of(&["ro"], &["rw"]))
            .unwrap_or(false)
    }
}

/// An element of `linux.uidMappings`, `linux.gidMappings`, or a mount's mappings.
#[derive(Debug, Clone, Copy, Deserialize)]
#[allow(missing_docs)]
pub struct IdMapping {
    #[serde(rename = "containerID")]
    pub container_id: u32,
    #[serde(rename = "hostID")]
    pub host_id: u32,
    pub size: u32,
}

/// `hooks` (config.md, "POSIX-platform Hooks").
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Hooks {
    #[serde(default)]
    pub prestart: Given<Vec<Hook>>,
    #[serde(default)]
    pub create_runtime: Given<Vec<Hook>>,
    #[serde(default)]
    pub create_container: Given<Vec<Hook>>,
    #[serde(default)]
    pub start_container: Given<Vec<Hook>>,
    #[serde(default)]
    pub poststart: Given<Vec<Hook>>,
    #[serde(default)]
    pub poststop: Given<Vec<Hook>>,
}

impl Hooks {
    /// The hooks of each point under the point's name in the spec, in the order they are run.
    pub fn points(&self) -> [(&'static str, &[Hook]); 6] {
        [
            ("prestart", self.prestart.items()),
            ("createRuntime", self.create_runtime.items()),
            ("createContainer", self.create_container.items()),
            ("startContainer", self.start_container.items()),
            ("poststart", self.poststart.items()),
            ("poststop", self.poststop.items()),
        ]
    }
}

/// One hook.
#[derive(Debug, Clone, Deserialize, serde::Serialize)]
#[allow(missing_docs)]
pub struct Hook {
    pub path: String,
    #[serde(default, skip_serializing_if = "Given::is_missing")]
    pub args: Given<Vec<String>>,
    #[serde(default, skip_serializing_if = "Given::is_missing")]
    pub env: Given<Vec<String>>,
    /// Seconds.
    #[serde(default, skip_serializing_if = "Given::is_missing")]
    pub timeout: Given<i64>,
}

impl<T: serde::Serialize> serde::Serialize for Given<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value().serialize(serializer)
    }
}

/// `linux` (config-linux.md).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Linux {
    #[serde(default)]
    pub namespaces: Given<Vec<Namespace>>,
    #[serde(default)]
    pub uid_mappings: Given<Vec<IdMapping>>,
    #[serde(default)]
    pub gid_mappings: Given<Vec<IdMapping>>,
    #[serde(default)]
    pub time_offsets: Given<BTreeMap<String, serde_json::Value>>,
    #[serde(default)]
    pub devices: Given<Vec<Device>>,
    #[serde(default)]
    pub net_devices: Given<BTreeMap<String, serde_json::Value>>,
    #[serde(default)]
    pub cgroups_path: Given<String>,
    #[serde(default)]
    pub resources: Given<Resources>,
    #[serde(default)]
    pub intel_rdt: Given<serde_json::Value>,
    #[serde(default)]
    pub memory_policy: Given<serde_json::Value>,
    #[serde(default)]
    pub sysctl: Given<BTreeMap<String, String>>,
    #[serde(default)]
    pub seccomp: Given<Seccomp>,
    #[serde(default)]
    pub rootfs_propagation: Given<String>,
    #[serde(default)]
    pub masked_paths: Given<Vec<String>>,
    #[serde(default)]
    pub readonly_paths: Given<Vec<String>>,
    #[serde(default)]
    pub mount_label: Given<String>,
    #[serde(default)]
    pub personality: Given<serde_json::Value>,
}

/// An element of `linux.namespaces`.
#[derive(Debug, Clone, Deserialize)]
#[allow(missing_docs)]
pub struct Namespace {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub path: Given<String>,
}

impl Namespace {
    /// The path to join, if one was written; an empty one asks for a new namespace, as no path does.
    pub fn joins(&self) -> Option<&str> {
        self.path
            .value()
            .map(String::as_str)
            .filter(|path| !path.is_empty())
    }
}

/// An element of `linux.devices`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Device {
    #[serde(rename = "type")]
    pub kind: String,
    pub path: String,
    #[serde(default)]
    pub major: Given<i64>,
    #[serde(default)]
    pub minor: Given<i64>,
    #[serde(default)]
    pub file_mode: Given<u32>,
    #[serde(default)]
    pub uid: Given<u32>,
    #[serde(default)]
    pub gid: Given<u32>,
}

/// `linux.resources`: what judgement looks at.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Resources {
    #[serde(default)]
    pub devices: Given<Vec<DeviceRule>>,
    #[serde(default)]
    pub pids: Given<Pids>,
    #[serde(default)]
    pub memory: Given<Memory>,
    #[serde(default)]
    pub cpu: Given<Cpu>,
    #[serde(default, rename = "blockIO")]
    pub block_io: Given<BlockIo>,
    #[serde(default)]
    pub hugepage_limits: Given<Vec<HugepageLimit>>,
    #[serde(default)]
    pub unified: Given<BTreeMap<String, String>>,
}

/// An element of `linux.resources.devices`.
#[derive(Debug, Clone, Deserialize)]
#[allow(missing_docs)]
pub struct DeviceRule {
    pub allow: bool,
    #[serde(default, rename = "type")]
    pub kind: Given<String>,
    #[serde(default)]
    pub major: Given<i64>,
    #[serde(default)]
    pub minor: Given<i64>,
    #[serde(default)]
    pub access: Given<String>,
}

/// `linux.resources.pids`.
#[derive(Debug, Clone, Default, Deserialize)]
#[allow(missing_docs)]
pub struct Pids {
    #[serde(default)]
    pub limit: Given<i64>,
}

/// `linux.resources.memory`. Sizes in bytes; -1 is no limit.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Memory {
    #[serde(default)]
    pub limit: Given<i64>,
    #[serde(default)]
    pub reservation: Given<i64>,
    /// Memory and swap together.
    #[serde(default)]
    pub swap: Given<i64>,
    #[serde(default)]
    pub check_before_update: Given<bool>,
    #[serde(default)]
    pub swappiness: Given<u64>,
    #[serde(default, rename = "disableOOMKiller")]
    pub disable_oom_killer: Given<bool>,
}

/// `linux.resources.cpu`. Times in microseconds.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Cpu {
    #[serde(default)]
    pub shares: Given<u64>,
    #[serde(default)]
    pub quota: Given<i64>,
    #[serde(default)]
    pub period: Given<u64>,
    #[serde(default)]
    pub burst: Given<u64>,
    #[serde(default)]
    pub realtime_runtime: Given<i64>,
    #[serde(default)]
    pub realtime_period: Given<u64>,
    #[serde(default)]
    pub cpus: Given<String>,
    #[serde(default)]
    pub mems: Given<String>,
    #[serde(default)]
    pub idle: Given<i64>,
}

/// `linux.resources.blockIO`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct BlockIo {
    #[serde(default)]
    pub weight: Given<u16>,
    #[serde(default)]
    pub throttle_read_bps_device: Given<Vec<Throttle>>,
    #[serde(default)]
    pub throttle_write_bps_device: Given<Vec<Throttle>>,
    #[serde(default, rename = "throttleReadIOPSDevice")]
    pub throttle_read_iops_device: Given<Vec<Throttle>>,
    #[serde(default, rename = "throttleWriteIOPSDevice")]
    pub throttle_write_iops_device: Given<Vec<Throttle>>,
}

/// A rate for one block device, in bytes or operations in a second.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[allow(missing_docs)]
pub struct Throttle {
    pub major: i64,
    pub minor: i64,
    pub rate: u64,
}

/// An element of `linux.resources.hugepageLimits`; the limit in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct HugepageLimit {
    /// Such as `2MB`.
    pub page_size: String,
    pub limit: u64,
}

/// `linux.seccomp` (config-linux.md, "Seccomp").
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Seccomp {
    #[serde(default)]
    pub default_action: Given<String>,
    #[serde(default)]
    pub default_errno_ret: Given<u32>,
    #[serde(default)]
    pub architectures: Given<Vec<String>>,
    #[serde(default)]
    pub flags: Given<Vec<String>>,
    #[serde(default)]
    pub listener_path: Given<String>,
    #[serde(default)]
    pub listener_metadata: Given<String>,
    #[serde(default)]
    pub syscalls: Given<Vec<SeccompRule>>,
}

impl Seccomp {
    /// True if nothing at all is denied: `linux.seccomp: {}` loads no filter, and one that allows everything and
    /// has no rules is a filter by name alone.
    pub fn is_empty(&self) -> bool {
        let allows = self
            .default_action
            .value()
            .is_none_or(|action| action.is_empty() || action == "SCMP_ACT_ALLOW");
        allows && self.syscalls.items().is_empty()
    }
}

/// An element of `linux.seccomp.syscalls`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct SeccompRule {
    pub names: Vec<String>,
    pub action: String,
    #[serde(default)]
    pub errno_ret: Given<u32>,
    #[serde(default)]
    pub args: Given<Vec<SeccompArg>>,
}

/// An element of a seccomp rule's `args`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct SeccompArg {
    pub index: u32,
    pub value: u64,
    #[serde(default)]
    pub value_two: Given<u64>,
    pub op: String,
}
