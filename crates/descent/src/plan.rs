//! What the descent is to do and what reality must look like: plain data, made from an admitted bundle.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use gabion_sys::capability::CapabilitySets;
use gabion_sys::process::Scheduling;
use gabion_sys::seccomp::Instruction;
use serde::{Deserialize, Serialize};

/// Everything the descent needs. See the fields.
///
/// It can be written down, so that a running container can be held against it later on. What only execve needs is
/// left out then: the environment, which may hold secrets, and the filters' instructions.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Plan {
    /// Whether this is the container's first process: nothing of the workload has run before it.
    pub is_first: bool,
    /// `argv`; the first element names the program.
    #[serde(skip)]
    pub arguments: Vec<CString>,
    /// The environment, `KEY=value`.
    #[serde(skip)]
    pub environment: Vec<CString>,
    /// The working directory, absolute in the container.
    pub directory: CString,
    /// Who the program runs as.
    pub user: User,
    /// The five sets, as the program's profile grants them.
    pub capabilities: CapabilitySets,
    /// Whether no_new_privs is set (prctl(2)).
    pub no_new_privileges: bool,
    /// Seccomp filters in the order in which they are loaded.
    #[serde(skip)]
    pub filters: Vec<Filter>,
    /// System calls that those filters deny, made once to see that they do.
    #[serde(skip)]
    pub canaries: Vec<Canary>,
    /// Whether the filters let this process read its own status and report what it finds:
    /// prctl, pread64 and write are allowed.
    pub filters_can_be_read_back: bool,
    /// The LSM label that execve is to change to.
    pub label: Option<SecurityLabel>,
    /// The name of the new session keyring; `None` keeps the caller's.
    pub session_keyring: Option<CString>,
    /// What each namespace must be.
    pub namespaces: Vec<ExpectedNamespace>,
    /// Paths that must be covered.
    pub masked_paths: Vec<CString>,
    /// Paths that must be read-only mounts of their own.
    pub readonly_paths: Vec<CString>,
    /// Resource limits that must be in force.
    pub limits: Vec<Limit>,
    /// `oom_score_adj` that must be in force.
    pub oom_score_adj: Option<i64>,
    /// How it must be scheduled, if the bundle says.
    pub scheduling: Option<Scheduling>,
    /// Class and level of input and output, if the bundle says.
    pub io_priority: Option<(u32, u32)>,
    /// No processors but these may run it, if the bundle says.
    #[serde(default)]
    pub processors: Option<BTreeSet<u32>>,
    /// It may have memory of no nodes but these, if the bundle says.
    #[serde(default)]
    pub memory_nodes: Option<BTreeSet<u32>>,
    /// How many descriptors after the three standard ones the program is to get.
    pub preserved_descriptors: u32,
    /// The process execution domain and its flags (personality(2)).
    pub personality: u32,
    /// From which nodes it gets its memory; `None` leaves the caller's choice.
    pub memory_policy: Option<MemoryPolicy>,
    /// Where the filters' listener is handed over, if they have one.
    #[serde(skip)]
    pub handover: Option<Arc<Handover>>,
    /// What is mounted; `None` if it is not for this container to say: it joins a mount namespace that is there.
    pub mounts: Option<MountTable>,
    /// Kernel parameters that must be in force.
    pub sysctls: Vec<Sysctl>,
    /// The mapping of the container's own new user namespace.
    pub id_maps: Option<IdMaps>,
    /// Offsets of the container's own new time namespace, by clock: seconds and nanoseconds.
    pub time_offsets: Option<BTreeMap<String, (i64, u32)>>,
}

/// The memory policy of a process (set_mempolicy(2)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPolicy {
    /// `MPOL_*` with its flags.
    pub mode: i32,
    /// A bit for each node, the first node lowest.
    pub nodes: Vec<u64>,
}

/// The way to the runtime, which gives the filters' listener to the agent that the bundle names.
#[derive(Debug)]
pub struct Handover {
    /// A stream: the number of the listener's descriptor goes out, and a byte comes back when it was taken.
    pub channel: OwnedFd,
    /// Whether that is before `start`, while the container is created: agents expect the listener by then.
    pub before_start: bool,
}

/// Ids of the program's process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User id, in the container's user namespace.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups, exactly these.
    pub groups: Vec<u32>,
    /// False in a user namespace where setgroups(2) is denied (user_namespaces(7)): the groups are then left
    /// as they are, and not verified.
    pub can_set_groups: bool,
    /// The file mode creation mask.
    pub umask: u32,
}

/// A seccomp filter.
#[derive(Debug, Clone)]
pub struct Filter {
    /// Its instructions.
    pub instructions: Vec<Instruction>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u64,
}

/// A denied system call.
#[derive(Debug, Clone)]
pub struct Canary {
    /// Such as `socket(AF_ALG)`.
    pub name: String,
    /// Its number.
    pub number: i64,
    /// Its arguments.
    pub arguments: [u64; 6],
    /// What the filter answers.
    pub errno: i32,
}

/// An LSM and the label that the program gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecurityLabel {
    /// An AppArmor profile.
    AppArmor {
        /// Its name.
        profile: String,
        /// It was judged as one that forbids; in a mode that only complains it is another.
        enforced: bool,
    },
    /// An SELinux context.
    Selinux(String),
}

impl SecurityLabel {
    /// True if what the kernel shows is this label. AppArmor has the mode after the name: `docker-default (enforce)`.
    pub(crate) fn is(&self, found: &str) -> bool {
        match self {
            SecurityLabel::AppArmor { profile, enforced } => {
                let parts = found.strip_suffix(')').and_then(|found| found.rsplit_once(" ("));
                let (name, mode) = parts.unwrap_or((found, ""));
                name == profile && (!enforced || matches!(mode, "enforce" | "kill"))
            }
            SecurityLabel::Selinux(label) => found == label,
        }
    }

    /// The label without what is known of it.
    pub(crate) fn name(&self) -> &str {
        match self {
            SecurityLabel::AppArmor { profile: name, .. } | SecurityLabel::Selinux(name) => name,
        }
    }
}

/// Inode number in nsfs: the identity of a namespace (namespaces(7)).
pub type NamespaceIdentity = u64;

/// What a namespace of the container must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectedNamespace {
    /// The file's name in /proc/self/ns: `mnt`, `net`, `pid`, …
    pub file: String,
    /// Exactly this one: it was joined, or is shared with the host.
    pub exactly: Option<NamespaceIdentity>,
    /// None of these: it is a new one, and these are the host's.
    pub none_of: Vec<NamespaceIdentity>,
}

/// A resource limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Such as `RLIMIT_NOFILE`.
    pub name: String,
    /// Its number.
    pub resource: u32,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// What is mounted in a container: this, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountTable {
    /// The root.
    pub root: ExpectedMount,
    /// The others, in the order in which they are made: a later one may cover an earlier one.
    pub mounts: Vec<ExpectedMount>,
    /// Device nodes that are bound from the host, as in a user namespace: each may be a mount of its own.
    pub bound_devices: Vec<CString>,
    /// Whether /dev/console is a mount: a terminal of the container's own.
    pub console: bool,
    /// File systems of the host of which the container must have instances of its own: device numbers of its tmpfs
    /// and devpts.
    pub of_the_host: Vec<DeviceNumber>,
    /// Where hooks may have mounted what nobody judged, as the site's policy says; a `*` stands for one path component.
    #[serde(default)]
    pub of_hooks: Vec<String>,
}

/// Major and minor number.
pub type DeviceNumber = (u32, u32);

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectedMount {
    /// Where, absolute in the container, as the bundle has it: links of the image may be on the way.
    pub destination: CString,
    /// What.
    pub kind: MountKind,
    /// Restrictions that it must have ([`gabion_sys::mount::attribute`]). It may have more.
    pub attributes: u64,
    /// Restrictions that it and everything mounted below it must have.
    pub recursive_attributes: u64,
    /// Whether mounts made here may be seen elsewhere.
    pub may_be_shared: bool,
    /// Whether mounts made elsewhere may be seen here.
    pub may_be_slave: bool,
}

/// What is mounted at a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// A file or directory of the host.
    Bind {
        /// Which one, as it was judged.
        source: FileIdentity,
        /// What was mounted below it on the host, if that is bound as well: file systems, each with the path in it.
        below: Vec<(DeviceNumber, String)>,
    },
    /// A new instance of a file system, of one of these types.
    FileSystem(Vec<String>),
    /// The hierarchies of cgroup version 1, each in a directory of a new tmpfs.
    CgroupHierarchies,
}

/// Which file something is, under whatever name (stat(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    /// Device of the file system.
    pub device: DeviceNumber,
    /// Inode number.
    pub inode: u64,
}

/// A kernel parameter (sysctl(8)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sysctl {
    /// As the bundle has it.
    pub name: String,
    /// Its file below /proc/sys.
    pub file: String,
    /// What is written to it.
    pub value: String,
}

/// Mappings of a user namespace (user_namespaces(7)): first id inside, first id outside, how many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct IdMaps {
    pub uids: Vec<(u32, u32, u32)>,
    pub gids: Vec<(u32, u32, u32)>,
}
