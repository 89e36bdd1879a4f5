//! What the descent is to do and what reality must look like: plain data, made from an admitted bundle.

use std::ffi::CString;

use gabion_sys::capability::CapabilitySets;
use gabion_sys::seccomp::Instruction;

/// Everything the descent needs. See the fields.
#[derive(Debug, Clone)]
pub struct Plan {
    /// `argv`; the first element names the program.
    pub arguments: Vec<CString>,
    /// The environment, `KEY=value`.
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
    pub filters: Vec<Filter>,
    /// System calls that those filters deny, made once to see that they do.
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
    /// How many descriptors after the three standard ones the program is to get.
    pub preserved_descriptors: u32,
}

/// Ids of the program's process.
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecurityLabel {
    /// An AppArmor profile.
    AppArmor(String),
    /// An SELinux context.
    Selinux(String),
}

/// Inode number in nsfs: the identity of a namespace (namespaces(7)).
pub type NamespaceIdentity = u64;

/// What a namespace of the container must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedNamespace {
    /// The file's name in /proc/self/ns: `mnt`, `net`, `pid`, …
    pub file: &'static str,
    /// Exactly this one: it was joined, or is shared with the host.
    pub exactly: Option<NamespaceIdentity>,
    /// None of these: it is a new one, and these are the host's.
    pub none_of: Vec<NamespaceIdentity>,
}

/// A resource limit.
#[derive(Debug, Clone, PartialEq, Eq)]
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
