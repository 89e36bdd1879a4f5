//! What judgement needs to know of the host: plain values, collected by `gabion-host`.
//!
//! A fact is [`Fact::Known`] or it is [`Fact::Unknown`] with the reason. An unknown fact is never guessed:
//! a rule that needs it reports the violation as undecided (see [`crate::rule::Violations::undecided`]),
//! which is refused where the bundle is to be run and reported where a file from another host is checked.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// A value of the host, or the reason why it is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact<T> {
    /// It was read.
    Known(T),
    /// It could not be read, or belongs to another host.
    Unknown(String),
}

impl<T> Fact<T> {
    /// The value, if it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Fact::Known(value) => Some(value),
            Fact::Unknown(_) => None,
        }
    }
}

impl<T> Default for Fact<T> {
    fn default() -> Self {
        Fact::Unknown("not collected".to_owned())
    }
}

/// Which groups of facts are wanted: a fact is collected only if a rule in force asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FactKind {
    /// [`Facts::namespaces`].
    Namespaces,
    /// [`Facts::lsm`].
    Lsm,
    /// [`Facts::cgroup`].
    Cgroup,
    /// [`Facts::kernel`].
    Kernel,
    /// [`Facts::mount_sources`] and [`Facts::mount_destinations`].
    Mounts,
    /// [`Facts::rootfs`].
    Rootfs,
    /// [`Facts::hooks`].
    Hooks,
    /// [`Facts::runtime`].
    Runtime,
    /// [`Facts::descriptors`].
    Descriptors,
    /// [`Facts::entrypoint`].
    Entrypoint,
    /// [`Facts::host`]. A rule that asks for it is about the host alone.
    Host,
    /// [`Facts::caller`].
    Caller,
    /// [`Facts::program`].
    Program,
    /// [`Facts::listener`].
    Listener,
}

/// Everything known of the host that matters for one bundle.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// One element for each of `linux.namespaces`, in its order.
    pub namespaces: Vec<Fact<NamespaceFact>>,
    /// The Linux security modules.
    pub lsm: Fact<LsmFact>,
    /// Control groups, and those at `linux.cgroupsPath`.
    pub cgroup: Fact<CgroupFact>,
    /// The kernel.
    pub kernel: Fact<KernelFact>,
    /// One element for each of `mounts`, in its order: what the source really is. Only bind mounts have one
    /// that is [`Some`].
    pub mount_sources: Vec<Fact<Option<SourceFact>>>,
    /// One element for each of `mounts`, in its order: where the destination leads.
    pub mount_destinations: Vec<Fact<DestinationFact>>,
    /// What `root.path` really is.
    pub rootfs: Fact<RootfsFact>,
    /// For each hook point's name in the spec, one element for each hook.
    pub hooks: BTreeMap<String, Vec<Fact<HookFact>>>,
    /// The runtime's own binary and policy files.
    pub runtime: Fact<RuntimeFact>,
    /// The descriptors that this process was started with and would hand on.
    pub descriptors: Fact<Vec<DescriptorFact>>,
    /// The program of `process.args`.
    pub program: Fact<ProgramFact>,
    /// The socket at `linux.seccomp.listenerPath`.
    pub listener: Fact<ListenerFact>,
    /// What the caller asked for on the command line that makes the container weaker.
    pub flags: Vec<Flag>,
    /// One element for each of `linux.namespaces`, in its order: the cgroup of the process by whose entry in
    /// /proc a namespace is joined; `None` if it is not joined by one. Belongs to [`FactKind::Namespaces`].
    pub namespace_owners: Vec<Fact<Option<String>>>,
    /// How the file system that the rootfs is on is mounted. Belongs to [`FactKind::Rootfs`].
    pub rootfs_mount: Fact<RootfsMount>,
    /// Where `process.args[0]` leads in the container.
    pub entrypoint: Fact<EntrypointFact>,
    /// How the host as a whole is set up.
    pub host: Fact<HostFact>,
    /// Who calls, as far as the node knows.
    pub caller: Fact<CallerFact>,
}

/// A container engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Engine {
    Docker,
    /// `ctr`, nerdctl and other clients of containerd's own interface.
    Containerd,
    /// containerd, asked by a kubelet or another client of its CRI.
    ContainerdCri,
    Podman,
    CriO,
    Buildkit,
}

impl Engine {
    /// All of them.
    pub const ALL: [Engine; 6] = [
        Engine::Docker,
        Engine::Containerd,
        Engine::ContainerdCri,
        Engine::Podman,
        Engine::CriO,
        Engine::Buildkit,
    ];

    /// The name in policies and reports.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Docker => "docker",
            Engine::Containerd => "containerd",
            Engine::ContainerdCri => "containerd-cri",
            Engine::Podman => "podman",
            Engine::CriO => "cri-o",
            Engine::Buildkit => "buildkit",
        }
    }
}

/// Who calls, as far as the node knows.
///
/// The engine is known by the program that calls and by the place of the bundle it made, never by what the bundle says:
/// Docker since 24 lets every user of its API set any annotation. Namespace and image are known only where the engine
/// writes them itself, over whatever a user asked for: containerd's CRI does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallerFact {
    /// The engine; `None` if it is none that is known.
    pub engine: Option<Engine>,
    /// The Kubernetes namespace of the pod.
    pub namespace: Option<String>,
    /// The digest of the image, `sha256:…`, where it was asked for by digest.
    pub image: Option<String>,
    /// The bundle's directory, after links were followed.
    pub bundle: Option<String>,
}

/// Flags of the mount that the rootfs is on (statvfs(3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootfsMount {
    /// Set-user-id bits have no effect.
    pub nosuid: bool,
    /// Device nodes cannot be opened.
    pub nodev: bool,
}

/// Where the program of a container is, once its mounts are in place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntrypointFact {
    /// The path after links were followed as the container would, for each file that `process.args[0]` may mean: one
    /// if it is a path, and one for each directory of PATH otherwise. What does not exist is here too.
    pub paths: Vec<PathBuf>,
    /// Where the interpreter leads that the first line of such a file names (`#!`), for those that are of the image.
    pub interpreters: Vec<PathBuf>,
}

/// How the host is set up, as far as every container depends on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFact {
    /// Kernel parameters under their names, those that this kernel has.
    pub parameters: BTreeMap<String, String>,
    /// Modules that the kernel would load by itself when a process in a container asks for what they do, or that it
    /// has loaded already: with the state of each.
    pub modules: BTreeMap<String, ModuleState>,
}

/// See [`HostFact::modules`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModuleState {
    /// It is loaded.
    Loaded,
    /// It is there, and nothing in /etc/modprobe.d keeps it from being loaded.
    Loadable,
}

/// A flag of the command line that makes a container weaker than the same bundle without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flag {
    /// `--no-pivot`: the old root is moved away from instead of being unmounted.
    NoPivot,
    /// `--no-new-keyring`: the caller's session keyring is handed on.
    NoNewKeyring,
    /// `--preserve-fds N` with N above zero: descriptors of the caller are handed on.
    PreserveFds(u32),
}

/// Identity of a kernel object that lives in a file system: device and inode number (stat(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
}

/// What an entry of `linux.namespaces` leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamespaceFact {
    /// No path: a new namespace is made.
    New,
    /// The path is a namespace of the wanted type (ioctl_ns(2), `NS_GET_NSTYPE`).
    Existing {
        /// Which one.
        identity: Identity,
        /// Whether it is the host's, and how that was found out.
        host: Option<HostMatch>,
    },
    /// The path is not a namespace of the wanted type. The text says what it is.
    NotOne(String),
}

/// How a namespace was recognized as the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostMatch {
    /// It is the namespace that the runtime itself runs in.
    Runtime,
    /// It is the initial namespace of the kernel, by its well-known inode number or /proc/1/ns.
    Initial,
}

/// Linux security modules of the running kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LsmFact {
    /// AppArmor is enabled (`/sys/module/apparmor/parameters/enabled` is `Y`).
    pub apparmor: bool,
    /// Loaded AppArmor profiles and their modes (`enforce`, `complain`, …); unknown if securityfs is not readable.
    pub apparmor_profiles: Option<BTreeMap<String, String>>,
    /// SELinux.
    pub selinux: SelinuxMode,
}

impl LsmFact {
    /// True for a loaded AppArmor profile in a mode that forbids: `enforce`, and `kill`, which ends the process as well.
    /// `None` if the list of profiles cannot be read.
    pub fn is_enforced(&self, profile: &str) -> Option<bool> {
        let profiles = self.apparmor_profiles.as_ref()?;
        let mode = profiles.get(profile).map(String::as_str);
        Some(matches!(mode, Some("enforce" | "kill")))
    }
}

/// SELinux's mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SelinuxMode {
    /// Not active in this kernel.
    #[default]
    Off,
    /// Active, does not enforce.
    Permissive,
    /// Active and enforcing.
    Enforcing,
}

/// How cgroups are mounted on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupMode {
    /// Version 1 alone.
    Legacy,
    /// Version 1 controllers, and version 2 without controllers (or with a few) beside them.
    Hybrid,
    /// Version 2 alone.
    Unified,
}

/// Control groups of the host and at the bundle's `linux.cgroupsPath`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupFact {
    /// How they are mounted.
    pub mode: CgroupMode,
    /// A cgroup that exists already at `cgroupsPath` with processes in it: its path.
    pub occupied: Option<PathBuf>,
    /// The lowest `pids.max` of the ancestors of the cgroup to be made, the root excluded.
    pub ancestor_pids_limit: Option<u64>,
}

/// The running kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelFact {
    /// Version, major and minor.
    pub version: (u32, u32),
    /// `/proc/sys/kernel/cap_last_cap`.
    pub last_capability: u32,
    /// `dev.tty.legacy_tiocsti`; absent before Linux 6.2, where TIOCSTI always works.
    pub legacy_tiocsti: Option<bool>,
    /// The runtime itself runs as root of the initial user namespace: low ids that a container is given are the host's
    /// accounts. The kernel gives an ordinary user, and whoever is in a user namespace, their own ids alone.
    pub in_initial_user_namespace: bool,
}

/// What kind of file a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum FileKind {
    Directory,
    Regular,
    Symlink,
    Socket,
    Fifo,
    CharDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
}

/// What a bind mount's source really is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFact {
    /// The path after all symbolic links were followed.
    pub canonical: PathBuf,
    /// Its identity.
    pub identity: Identity,
    /// What it is.
    pub kind: FileKind,
    /// `f_type` of the file system it is on is procfs (statfs(2)).
    pub on_procfs: bool,
    /// The file system it is on is sysfs.
    pub on_sysfs: bool,
    /// The file system it is on is cgroup or cgroup2.
    pub on_cgroupfs: bool,
    /// It is on the file system mounted on the host's own /dev/shm, with `Identity` of the mount's root or below.
    pub is_host_shm: bool,
    /// The path led through a magic link of procfs: `/proc/*/{root,cwd,exe,fd/*,map_files/*}`.
    pub through_magic_link: Option<String>,
    /// The path led through a symbolic link that someone other than root could have placed: one owned by
    /// another user, or in a directory that others may write to. The link's path.
    pub through_foreign_link: Option<String>,
    /// A sensitive directory of the host that the source is, contains, or lies in. The nearest one counts.
    pub sensitive: Option<Sensitive>,
    /// It is a socket of a runtime, orchestrator or init, or a directory that holds one: what listens there,
    /// such as "the Docker daemon's socket".
    pub control_socket: Option<String>,
    /// It lies in one of the policy's engine-managed roots, such as /var/lib/docker/volumes.
    pub engine_managed: bool,
    /// What the mount it lies on restricts, as options of mounts: of `ro`, `nosuid`, `nodev`, `noexec` and `nosymfollow`.
    pub restrictions: Vec<&'static str>,
}

/// How a bind source and a sensitive directory of the host lie to each other, by device and inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sensitive {
    /// The directory, such as `/etc`.
    pub directory: String,
    /// How they lie to each other.
    pub relation: Relation,
}

/// See [`Sensitive`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// The source is the directory.
    Is,
    /// The source contains the directory.
    Contains,
    /// The source lies inside the directory.
    Inside,
}

/// Where a mount's destination leads in the rootfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DestinationFact {
    /// It stays in the rootfs. The path after links were followed as the container would: those of the image, and
    /// those in what the mounts before it bring.
    Inside(PathBuf),
    /// A symbolic link would lead out of the rootfs, were it followed on the host. It is resolved inside the
    /// rootfs when mounting, so that most are harmless: Debian's /var/run is a link to /run. But where it leads in
    /// the container is `inside`, and that is the mount's place.
    LinkOut {
        /// The link, as a path in the container.
        link: PathBuf,
        /// The path after all links were followed as the container would.
        inside: PathBuf,
    },
    /// It leads through procfs' magic links or to something that is no directory.
    Broken(String),
}

/// What `root.path` really is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootfsFact {
    /// Nothing is there. The text names what is missing.
    Missing(String),
    /// It is a directory.
    Directory {
        /// The path after all symbolic links were followed.
        canonical: PathBuf,
        /// Its identity.
        identity: Identity,
        /// It is the host's own root directory.
        is_host_root: bool,
        /// A system directory of the host that it is or contains.
        sensitive: Option<Sensitive>,
        /// The id of another live container whose rootfs it is.
        shared_with: Option<String>,
        /// What `dev`, `proc`, `sys` and `etc` in it are; absent if they are not there.
        entries: BTreeMap<String, FileKind>,
    },
}

/// What a hook's path really is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookFact {
    /// The path after all links were followed, magic links of procfs included.
    pub canonical: PathBuf,
    /// It exists and may be executed.
    pub executable: bool,
    /// Owner is root, and neither it nor any directory above it may be written by others.
    pub trusted: bool,
    /// It lies in the rootfs.
    pub inside_rootfs: bool,
}

/// The runtime's own files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeFact {
    /// The running program cannot be written through /proc/<pid>/exe: how that is ensured, or `None`.
    pub sealed: Option<String>,
    /// The runtime's binary, if someone other than root may write it or replace it.
    pub writable_binary: Option<PathBuf>,
    /// A policy file, if someone other than root may write it or replace it.
    pub writable_policy: Option<PathBuf>,
    /// The runtime's own files and directories (state, ledger, policy), under the names that
    /// [`Sensitive::directory`] has for them.
    pub own_files: Vec<String>,
}

/// The socket of an agent that is asked about system calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerFact {
    /// The first directory on the way to it, a link on the way, or the socket itself, that someone may replace or write
    /// to who is neither root nor the user that the runtime runs as; of what is not there, the part that is.
    pub open_to_others: Option<PathBuf>,
}

/// What `process.args[0]` leads to in the root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramFact {
    /// Its file is an ELF of the class for 32-bit programs.
    pub is_32_bit: bool,
}

/// An open descriptor of the calling process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescriptorFact {
    /// Its number.
    pub number: i32,
    /// What it is.
    pub kind: FileKind,
    /// What /proc/self/fd/N reads as.
    pub target: String,
}
