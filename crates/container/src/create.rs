//! `create`: an admitted bundle becomes a container that waits for `start`.

use std::fs::{self, DirBuilder};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use gabion_baseline::Admitted;
use gabion_baseline::facts::{CgroupMode, LsmFact};
use gabion_filters::Filters;
use gabion_sys::process;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

use crate::builder::{self, Building, ReportChannel};
use crate::cgroup;
use crate::cgroup_entry::{self, Entry};
use crate::delegation;
use crate::delete::{self, Force};
use crate::destinations;
use crate::devices::{self, DeviceRules};
use crate::error::{ContainerError, Result};
use crate::executor::Descent;
use crate::finish;
use crate::hooks::{self, HookState};
use crate::id::ContainerId;
use crate::idmap;
use crate::limits;
use crate::listener;
use crate::normalize;
use crate::owned_cgroup::OwnedCgroup;
use crate::plan;
use crate::promise::{Promise, Surroundings};
use crate::rewrite;
use crate::rootless::{self, Rootless};
use crate::scheduling::{self, Scheduling};
use crate::state::{EFFECTIVE, Init, LateHooks, Locked, Record, StateRoot, write_atomically};
use crate::status::{self, START_FIFO};
use crate::systemd::{self, Scope, Told, Unit, Whose};
use crate::trees;
use crate::update;
use crate::watched::Watch;

/// What the caller of `create` asks for besides the bundle.
#[derive(Debug)]
pub struct CreateOptions {
    /// The container's id.
    pub id: ContainerId,
    /// The engine's bundle, absolute: relative paths of the configuration begin here, and `state` reports it.
    pub bundle: PathBuf,
    /// A unix socket that receives the terminal's master descriptor.
    pub console_socket: Option<PathBuf>,
    /// A file that receives the init process' id, written last.
    pub pid_file: Option<PathBuf>,
    /// A unix socket that receives a descriptor of the init process.
    pub pidfd_socket: Option<PathBuf>,
    /// chroot instead of pivot_root.
    pub no_pivot: bool,
    /// Leave the caller's session keyring.
    pub new_keyring: bool,
    /// Descriptors after the three standard ones that the program is to get.
    pub preserved_descriptors: u32,
    /// Ask systemd to make the cgroup.
    pub systemd_cgroup: bool,
    /// What was looked at for judgement, by descriptor: what is built is what was judged.
    pub held: gabion_host::Held,
    /// The Linux security modules of this host.
    pub lsm: LsmFact,
    /// The seccomp filters that judgement looked at.
    pub filters: Arc<Filters>,
    /// Do without what only root of the host may do: cgroups above all.
    pub rootless: bool,
}

/// A created container.
#[derive(Debug)]
pub struct Created {
    pub(crate) locked: Locked,
    pub(crate) record: Record,
}

impl Created {
    /// The init process' id.
    pub fn pid(&self) -> Option<i32> {
        self.record.init.map(|init| init.pid)
    }

    /// What is recorded of it, which others may change from now on.
    pub fn into_record(self) -> Record {
        self.record
    }
}

/// Creates a container. When this returns an error, nothing of it is left: no directory, cgroup, mount, process.
///
/// # Preconditions
/// One thread; no other children that were not reaped.
///
/// # Errors
/// [`ContainerError::Exists`], [`ContainerError::Unsupported`], [`ContainerError::Process`] with what the init
/// process reports, [`ContainerError::Build`] with libcontainer's words.
pub fn create(root: &StateRoot, admitted: &Admitted, options: &CreateOptions) -> Result<Created> {
    create_watched(root, admitted, options, None)
}

/// As [`create`], with a filter over the container's own that asks a watcher.
pub(crate) fn create_watched(
    root: &StateRoot,
    admitted: &Admitted,
    options: &CreateOptions,
    watch: Option<Watch>,
) -> Result<Created> {
    let config = admitted.config();
    let id = options.id.as_str();
    check_console(config, options)?;
    let cgroup_mode = gabion_host::cgroup::mode().map_err(ContainerError::Other)?;
    let unit = unit(config, options, cgroup_mode)?;
    let OwnedCgroup {
        cgroup: owned,
        is_in,
        why_not,
    } = match (options.rootless, &unit, cgroup_mode) {
        (true, None, CgroupMode::Unified) => OwnedCgroup::of(&normalize::default_cgroups_path(config, id)),
        _ => OwnedCgroup::default(),
    };
    if options.rootless {
        rootless::check(config, unit.is_some() || owned.is_some(), why_not.as_deref())?;
    }
    let rootfs = rootfs(config, &options.bundle)?;
    limits::check_unified(config, cgroup_mode)?;
    let uid = config
        .process
        .value()
        .and_then(|p| p.user.value())
        .map_or(0, gabion_baseline::config::User::uid);
    let home = home(&rootfs, uid)?;
    let channel = ReportChannel::new()?;
    let trampolines = hooks::trampolines(config, id, &options.bundle, channel.number())?;
    let user_namespace = idmap::user_namespace(config)?;
    let trees = trees::make(config, &options.bundle, &options.held)?;
    let destinations = destinations::of(config, &rootfs);
    let rewrites = rewrite::of(config, &options.held)?;
    let own_dev = normalize::has_own_dev(config, &rootfs);
    let normalize = normalize::Context {
        id,
        bundle: &options.bundle,
        home: &home,
        hooks: trampolines.document.clone(),
        // Without root, libcontainer does without a cgroup.
        unit: unit.as_ref().filter(|_| !options.rootless),
        namespaces: &options.held.namespaces,
        user_namespace: user_namespace.as_ref(),
        rootless: options.rootless,
        rootfs: &rootfs,
        destinations: &destinations,
        trees: &trees,
        own_dev,
        is_in: is_in.as_deref(),
    };
    let document = normalize::normalize(admitted.document(), config, &normalize)?;
    let cgroups_path = normalize::cgroups_path(config, &normalize);
    let listen_descriptors = listen_descriptors();
    let mut plan = plan::plan(
        admitted,
        &plan::Context {
            id,
            home: &home,
            own_namespaces: &plan::own_namespaces()?,
            namespaces: &options.held.namespaces,
            new_keyring: options.new_keyring,
            filters: &options.filters,
            preserved_descriptors: options.preserved_descriptors,
            listen_descriptors,
            lsm: &options.lsm,
            surroundings: Some(Surroundings {
                of_hooks: admitted.hook_mounts(),
                bundle: &options.bundle,
                rootfs: &rootfs,
                held: &options.held,
            }),
        },
    )?;
    let scope = unit
        .as_ref()
        .map(|unit| Scope::new(unit, id, &root.of(&options.id)));
    let scheduling = config
        .process
        .value()
        .map_or(Ok(Scheduling::default()), Scheduling::of)?;
    // Without what is for this one process alone.
    let promised = plan.clone();
    let agent = listener::connect(config, &mut plan)?;
    if let Some(watch) = watch {
        watch.join(&mut plan)?;
    }
    // One with a listener sets its limits itself, and is somebody else by now.
    let has_agent = agent.is_some();
    let rlimits = match has_agent {
        true => Vec::new(),
        false => plan.limits.clone(),
    };
    let mut promise = Promise {
        filters: plan.filters.len() as u64,
        limits: match options.rootless && scope.is_none() && owned.is_none() {
            true => Vec::new(),
            false => limits::of(config, scope.as_ref()),
        },
        devices: match options.rootless {
            // Guarding them takes root. The user namespace is stricter.
            true => None,
            false => Some(devices::of(config)?),
        },
        plan: promised,
    };
    let late = config.hooks.value().cloned().unwrap_or_default();
    let mut record = Record {
        version: 1,
        oci_version: config.oci_version.clone(),
        id: id.to_owned(),
        bundle: options.bundle.clone(),
        rootfs_identity: identity(&rootfs)?,
        rootfs,
        created: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or((0, 0), |now| (now.as_secs(), now.subsec_nanos())),
        owner: nix::unistd::geteuid().as_raw(),
        annotations: config.annotations.value().cloned().unwrap_or_default(),
        profile: admitted.profile().name().to_owned(),
        // What systemd has not made yet is not ours: a unit of that name may be somebody else's.
        cgroups: match options.rootless || unit.is_some() {
            true => owned.iter().cloned().collect(),
            false => gabion_host::cgroup::locate(cgroup_mode, &cgroups_path),
        },
        scope,
        init: None,
        hooks: LateHooks {
            poststart: late.poststart.items().to_vec(),
            poststop: late.poststop.items().to_vec(),
        },
    };

    cgroup::refuse_frozen(&record.cgroups)?;
    let mut locked = root.make(&options.id, &record)?;
    let rootless = Rootless::of(options.rootless, user_namespace.as_ref(), &cgroups_path)?;
    let network = normalize::network_to_enter(config, options.rootless)
        .and_then(|index| options.held.namespaces.get(index)?.as_ref())
        .map(|namespace| namespace.try_clone())
        .transpose()
        .map_err(ContainerError::file("cannot keep", "the network namespace"))?;
    let state = HookState::creating(config, id, &options.bundle);
    let place = match (&unit, &owned) {
        (Some(unit), _) => enter_scope(unit, &mut locked, &mut record).map(Some),
        (None, Some(cgroup)) => cgroup_entry::make_handed_down(cgroup).map(|()| None),
        (None, None) => Ok(None),
    };
    let mut prepared = Ok(None);
    let mut handed_over = Ok(true);
    let built = place.and_then(|place| {
        let entry = match options.rootless {
            true => None,
            false => Entry::make(config, cgroup_mode, &record.cgroups),
        };
        let built = build(
            &locked,
            &Building {
                id: id.to_owned(),
                bundle: locked.path().join("bundle"),
                engine: locked.path().join("engine"),
                console_socket: options.console_socket.clone(),
                no_pivot: options.no_pivot,
                preserved_descriptors: options.preserved_descriptors,
                cgroup: entry,
                owned_cgroup: owned,
                network,
                scope: record.scope.clone().filter(|_| options.rootless),
                rootless,
            },
            &document,
            channel,
            |to_create, to_start| {
                let mounts = finish::Prepared {
                    trees,
                    destinations: &destinations,
                    rewrites: &rewrites,
                    own_dev,
                };
                Descent::new(plan, config, mounts, state, to_create, to_start)
            },
            || {
                prepared = prepare(locked.path(), admitted, promise.devices.as_ref(), cgroup_mode);
                if let Some(agent) = agent {
                    let state = HookState::creating(config, id, &options.bundle);
                    handed_over = agent.hand_over(|pid| state.with("creating", Some(pid.as_raw())));
                }
            },
        );
        // The container's own process is there by now.
        drop(place);
        built
    });
    // Of a listener that nobody takes, the process itself says only that.
    let built = handed_over.and_then(|is_handed_over| match (built, is_handed_over) {
        (Ok(_), false) => Err(ContainerError::Build(
            "the init process loaded no filter with a listener".to_owned(),
        )),
        (built, _) => built,
    });
    let finished = built.and_then(|pid| {
        root.claim(record.rootfs_identity(), &options.id)?;
        // Known from here on, so that whatever fails next is cleaned up by what was built, not by guesses.
        let (_, start_time) = status::stat(pid.as_raw()).ok_or_else(|| {
            ContainerError::Build("the init process ended while it was being built".to_owned())
        })?;
        record.init = Some(Init {
            pid: pid.as_raw(),
            start_time,
        });
        locked.save(&record)?;
        let device_program = prepared?;
        scheduling::release_processors(pid);
        scheduling.apply(pid)?;
        for limit in &rlimits {
            process::set_limit(pid, limit.resource, limit.soft, limit.hard).map_err(|error| {
                ContainerError::Build(format!("process.rlimits: {} cannot be set: {error}", limit.name))
            })?;
        }
        if !has_agent {
            set_oom_score(config, pid)?;
        }
        disable_oom_killer(config, &record.cgroups)?;
        if options.rootless {
            update::set_all(config, cgroup_mode, &record.cgroups)?;
        } else {
            limits::set_pids(config, &record.cgroups)?;
            update::set_left_out(config, cgroup_mode, &record.cgroups)?;
        }
        if let Some(scope) = &record.scope {
            systemd::tell(scope, &record.cgroups, &Told::nothing())?;
        }
        if let Some(rules) = &promise.devices {
            devices::restrict(rules, device_program, &record.cgroups)?;
        }
        if !options.rootless {
            delegation::hand_over(config, cgroup_mode, pid, &record.cgroups)?;
        }
        cgroup::verify(&promise, pid, &record.cgroups)?;
        // The kernel shows an ordinary user nothing of a process that is not dumpable.
        if nix::unistd::geteuid().is_root() {
            promise.settle(pid)?;
        }
        promise.save(locked.path())?;
        if let Some(path) = &options.pidfd_socket {
            send_descriptor(path, process::open(pid)?.as_fd())?;
        }
        announce(options.pid_file.as_deref(), pid)
    });
    match finished {
        Ok(()) => Ok(Created { locked, record }),
        Err(error) => Err(undone(
            root,
            locked,
            &record,
            options.pid_file.as_deref(),
            ("built", error),
        )),
    }
}

/// Removes what there is of a container that was to be built, or restored, and did not come to be; why it did not, and what
/// could not be removed.
pub(crate) fn undone(
    root: &StateRoot,
    locked: Locked,
    record: &Record,
    pid_file: Option<&Path>,
    (how, error): (&str, ContainerError),
) -> ContainerError {
    if let Some(path) = pid_file {
        // Whether it was there is of no interest any more.
        drop(fs::remove_file(path));
    }
    if let Err(left) = delete::delete_locked(root, locked, record, Force::Yes) {
        return ContainerError::Other(format!(
            "{error}; and what was {how} could not be removed: {left}"
        ));
    }
    builder::reap();
    error
}

/// The scope that systemd is asked for, if it is. Version 1 has nothing that it could hand over to an ordinary user.
fn unit(config: &gabion_baseline::Config, options: &CreateOptions, mode: CgroupMode) -> Result<Option<Unit>> {
    if !options.systemd_cgroup || (options.rootless && mode != CgroupMode::Unified) {
        return Ok(None);
    }
    let whose = Whose::of_caller(options.rootless);
    unit_of(config, options.id.as_str(), mode, whose).map(Some)
}

/// The scope that systemd is to make for a container.
pub(crate) fn unit_of(
    config: &gabion_baseline::Config,
    id: &str,
    mode: CgroupMode,
    whose: Whose,
) -> Result<Unit> {
    systemd::check(mode)?;
    let mut unit = Unit::of(normalize::written_cgroups_path(config), id, whose)?;
    let resources = config.linux.value().and_then(|linux| linux.resources.value());
    let unified = resources.and_then(|resources| resources.unified.value());
    let group = unified.and_then(|unified| unified.get("memory.oom.group"));
    unit.ends_as_one = group.is_some_and(|group| group.trim() == "1");
    match config.annotations.value() {
        Some(annotations) => unit.asking(annotations),
        None => Ok(unit),
    }
}

/// Has systemd make the scope, and remembers its cgroup as the container's.
pub(crate) fn enter_scope(
    unit: &Unit,
    locked: &mut Locked,
    record: &mut Record,
) -> Result<systemd::Placeholder> {
    let scope = record
        .scope
        .as_ref()
        .ok_or_else(|| ContainerError::Other("there is a unit without a scope".to_owned()))?;
    let (place, cgroup) = systemd::start(unit, scope)?;
    record.cgroups = vec![cgroup];
    locked.save(record)?;
    Ok(place)
}

/// What takes nothing of the container and is not needed by it yet, done while it is being built: writes down what is
/// built, and loads the program that will guard its devices, where one does.
fn prepare(
    directory: &Path,
    admitted: &Admitted,
    devices: Option<&DeviceRules>,
    mode: CgroupMode,
) -> Result<Option<OwnedFd>> {
    let text =
        serde_json::to_vec(admitted.document()).map_err(|error| ContainerError::Other(error.to_string()))?;
    write_atomically(&directory.join(EFFECTIVE), &text, 0o600)?;
    match (devices, mode) {
        (Some(rules), CgroupMode::Unified) => devices::load_program(rules).map(Some),
        _ => Ok(None),
    }
}

fn build(
    locked: &Locked,
    building: &Building,
    document: &serde_json::Value,
    channel: ReportChannel,
    descent: impl FnOnce(OwnedFd, OwnedFd) -> Descent,
    meanwhile: impl FnOnce(),
) -> Result<Pid> {
    for path in [&building.bundle, &building.engine] {
        DirBuilder::new()
            .mode(0o700)
            .create(path)
            .map_err(ContainerError::file("cannot make", path))?;
    }
    let text = serde_json::to_vec(document).map_err(|error| ContainerError::Other(error.to_string()))?;
    write_atomically(&building.bundle.join("config.json"), &text, 0o600)?;
    let fifo = locked.path().join(START_FIFO);
    mkfifo(&fifo, Mode::from_bits_truncate(0o600))
        .map_err(ContainerError::call(format!("mkfifo({fifo:?})")))?;
    // For reading too: init counts as the reader whose absence says that the program has begun, and a FIFO
    // opened so needs no partner.
    let to_start = open(&fifo, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(ContainerError::call(format!("open({fifo:?}, O_RDWR)")))?;
    builder::build(
        building,
        channel,
        |to_create| descent(to_create, to_start),
        meanwhile,
    )
    .map_err(|error| match error {
        ContainerError::Build(text) => ContainerError::Build(clearer(text, document)),
        other => other,
    })
}

/// libcontainer says only that it could not read its configuration; the reader it uses says where.
fn clearer(text: String, document: &serde_json::Value) -> String {
    if text.contains("subpath in procfs")
        && let Some(name) = unknown_parameter(document)
    {
        return format!("config.json#/linux/sysctl: this kernel has no {name:?}: {text}");
    }
    if text.contains("dev_change_net_namespace")
        && let Some(name) = unknown_interface(document)
    {
        return format!("config.json#/linux/netDevices: this host has no interface {name:?}: {text}");
    }
    match serde_json::from_value::<libcontainer::oci_spec::runtime::Spec>(document.clone()) {
        Ok(_) => text,
        Err(error) => format!("config.json: {error}"),
    }
}

/// A kernel parameter that is asked for and is not there. Those of a single interface may be the container's alone, so
/// one that this host has is not the culprit, and one that it has not is only likely to be.
fn unknown_parameter(document: &serde_json::Value) -> Option<&String> {
    let parameters = document.get("linux")?.get("sysctl")?.as_object()?;
    let is_here = |name: &str| Path::new("/proc/sys").join(name.replace('.', "/")).exists();
    let mut missing = parameters.keys().filter(|name| !is_here(name));
    missing.next()
}

/// A network interface that is to be moved and is not there.
fn unknown_interface(document: &serde_json::Value) -> Option<&String> {
    let interfaces = document.get("linux")?.get("netDevices")?.as_object()?;
    let mut missing = interfaces
        .keys()
        .filter(|name| !Path::new("/sys/class/net").join(name).exists());
    missing.next()
}

fn check_console(config: &gabion_baseline::Config, options: &CreateOptions) -> Result<()> {
    let terminal = config
        .process
        .value()
        .is_some_and(|process| process.terminal.is_true());
    match (&options.console_socket, terminal) {
        (None, true) => Err(ContainerError::Other(
            "cannot allocate tty if the container is detached without setting console socket: process.terminal is \
             true. Pass --console-socket, or set it to false"
                .to_owned(),
        )),
        (Some(_), false) => Err(ContainerError::Other(
            "cannot use console socket if the container does not allocate a tty: process.terminal is not true".to_owned(),
        )),
        _ => Ok(()),
    }
}

pub(crate) fn rootfs(config: &gabion_baseline::Config, bundle: &Path) -> Result<PathBuf> {
    let path = normalize::rootfs_path(config, bundle);
    let unusable = |text: &str| {
        Err(ContainerError::Unsupported {
            pointer: "/root/path".to_owned(),
            text: format!("{path:?} {text}"),
        })
    };
    if config.root.is_missing() {
        return Err(ContainerError::Unsupported {
            pointer: "/root".to_owned(),
            text: "is missing: a container needs a root file system".to_owned(),
        });
    }
    match fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => {
            fs::canonicalize(&path).map_err(ContainerError::file("cannot resolve root.path", &path))
        }
        Ok(_) => unusable("is not a directory"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            unusable("does not exist; it is where the container's root file system should be")
        }
        Err(error) => Err(ContainerError::file("cannot look at root.path", &path)(error)),
    }
}

pub(crate) fn identity(path: &Path) -> Result<(u64, u64)> {
    let metadata = fs::metadata(path).map_err(ContainerError::file("cannot look at", path))?;
    Ok((metadata.dev(), metadata.ino()))
}

/// HOME for a user, from the image's own passwd file, read as text.
pub(crate) fn home(rootfs: &Path, uid: u32) -> Result<String> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let rootfs =
        open(rootfs, flags, Mode::empty()).map_err(ContainerError::call(format!("open({rootfs:?})")))?;
    Ok(gabion_host::passwd::home(rootfs, uid))
}

/// How many descriptors a socket-activated caller hands on (sd_listen_fds(3)).
pub fn listen_descriptors() -> u32 {
    std::env::var("LISTEN_FDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

pub(crate) fn set_oom_score(config: &gabion_baseline::Config, pid: Pid) -> Result<()> {
    let Some(score) = config
        .process
        .value()
        .and_then(|process| process.oom_score_adj.value())
    else {
        return Ok(());
    };
    let path = format!("/proc/{pid}/oom_score_adj");
    fs::write(&path, score.to_string()).map_err(|error| {
        ContainerError::Build(format!(
            "process.oomScoreAdj {score} cannot be set: {error}; lowering it takes CAP_SYS_RESOURCE"
        ))
    })
}

/// `memory.disableOOMKiller`, which libcontainer ignores. Version 1 alone has it: processes over the limit wait.
pub(crate) fn disable_oom_killer(config: &gabion_baseline::Config, cgroups: &[PathBuf]) -> Result<()> {
    let memory = config
        .linux
        .value()
        .and_then(|linux| linux.resources.value())
        .and_then(|resources| resources.memory.value());
    if !memory.is_some_and(|memory| memory.disable_oom_killer.is_true()) {
        return Ok(());
    }
    let control = cgroups
        .iter()
        .map(|cgroup| cgroup.join("memory.oom_control"))
        .find(|path| path.exists());
    match control {
        Some(path) => fs::write(&path, "1").map_err(ContainerError::file("cannot write", path)),
        None => Err(ContainerError::Unsupported {
            pointer: "/linux/resources/memory/disableOOMKiller".to_owned(),
            text: "cgroup v2 always ends a process that is over the limit. Remove the property".to_owned(),
        }),
    }
}

/// Tells the caller which process it is: what engines wait for.
pub(crate) fn announce(pid_file: Option<&Path>, pid: Pid) -> Result<()> {
    match pid_file {
        Some(path) => write_atomically(path, pid.to_string().as_bytes(), 0o644),
        None => Ok(()),
    }
}

/// Sends a descriptor to whoever listens on a unix socket.
pub(crate) fn send_descriptor(path: &Path, descriptor: BorrowedFd<'_>) -> Result<()> {
    let socket = UnixStream::connect(path).map_err(ContainerError::file("cannot connect to", path))?;
    send_over(&socket, descriptor)
}

/// Sends a descriptor over a connected unix socket (unix(7), `SCM_RIGHTS`).
pub(crate) fn send_over(socket: &UnixStream, descriptor: BorrowedFd<'_>) -> Result<()> {
    let numbers = [descriptor.as_raw_fd()];
    let name = [std::io::IoSlice::new(b"descriptor")];
    let rights = [ControlMessage::ScmRights(&numbers)];
    sendmsg::<()>(socket.as_raw_fd(), &name, &rights, MsgFlags::empty(), None)
        .map(drop)
        .map_err(ContainerError::call("sendmsg(SCM_RIGHTS)"))
}
