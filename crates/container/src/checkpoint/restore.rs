//! `restore`: a judged configuration and the images of a checkpoint become a running container, if it then is what was
//! judged.

use std::ffi::CString;
use std::fs::{self, DirBuilder, File};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use gabion_baseline::Admitted;
use gabion_baseline::config::{Config, Hook};
use gabion_baseline::facts::{CgroupMode, LsmFact};
use gabion_descent::Failure;
use gabion_filters::Filters;
use gabion_sys::{file, keyring, mount, process};
use libcgroups::common::{CgroupManager, ControllerOpt};
use libcontainer::oci_spec::runtime::LinuxResources;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, pipe2};
use rust_criu::rust_criu_protobuf::rpc::{Cgroup_root, Criu_opts, Criu_req_type};
use serde_json::Value;

use super::criu::{self, Criu, LogFile, Point};
use super::guard::Guard;
use super::images::{self, Images};
use super::{CgroupsMode, Traits, external, reality, refuse_unsupported};
use crate::cgroup;
use crate::create::{
    announce, disable_oom_killer, enter_scope, home, identity, rootfs, send_descriptor, undone, unit_of,
};
use crate::delete::{self, Force};
use crate::destinations;
use crate::devices;
use crate::error::{ContainerError, Result};
use crate::finish;
use crate::hooks::{self, HookState};
use crate::id::ContainerId;
use crate::limits;
use crate::normalize;
use crate::plan;
use crate::promise::{self, Promise};
use crate::run;
use crate::state::{EFFECTIVE, Init, LateHooks, Locked, Record, StateRoot, write_atomically};
use crate::status;
use crate::systemd::{self, Scope, Told, Unit, Whose};

const LOG: &str = "restore.log";

/// What the caller of `restore` asks for besides the bundle.
#[derive(Debug)]
pub struct RestoreOptions {
    /// The container's id.
    pub id: ContainerId,
    /// The engine's bundle, absolute.
    pub bundle: PathBuf,
    /// The images, looked through.
    pub images: Images,
    /// Where CRIU's log goes; with the images if `None`.
    pub work: Option<PathBuf>,
    /// A unix socket that receives the terminal's master descriptor.
    pub console_socket: Option<PathBuf>,
    /// A file that receives the init process' id, written last.
    pub pid_file: Option<PathBuf>,
    /// Ask systemd to make the cgroup.
    pub systemd_cgroup: bool,
    /// The security label, as CRIU takes it, if another than the image's: `apparmor:NAME`, `selinux:LABEL`.
    pub label: Option<String>,
    /// The label of mounts that take one.
    pub mount_label: Option<String>,
    /// What is kept how.
    pub traits: Traits,
    /// What was looked at for judgement.
    pub held: gabion_host::Held,
    /// The Linux security modules of this host.
    pub lsm: LsmFact,
    /// The seccomp filters that judgement looked at.
    pub filters: Arc<Filters>,
}

/// Restores a container, which runs when this returns.
///
/// # Preconditions
/// One thread; no other children that were not reaped.
///
/// # Errors
/// [`ContainerError::Exists`]; [`ContainerError::Unsupported`] for what cannot be restored; [`ContainerError::Process`]
/// with a mismatch if what was restored is not what was judged; CRIU's own words if it fails. Nothing of the container
/// is then left.
pub fn restore(root: &StateRoot, admitted: &Admitted, options: &RestoreOptions) -> Result<()> {
    build(root, admitted, options).map(drop)
}

/// Restores a container, waits for its end, and deletes it; gives its exit status.
///
/// # Preconditions
/// As [`restore`].
///
/// # Errors
/// As [`restore`].
pub fn restore_foreground(
    root: &StateRoot,
    admitted: &Admitted,
    mut options: RestoreOptions,
    subreaper: bool,
    started: impl FnOnce() -> Result<()>,
) -> Result<i32> {
    let descriptor = run::block_signals()?;
    if subreaper {
        nix::sys::prctl::set_child_subreaper(true)
            .map_err(ContainerError::call("prctl(PR_SET_CHILD_SUBREAPER)"))?;
    }
    let console = run::own_console(root, admitted, &mut options.console_socket)?;
    let (locked, record) = build(root, admitted, &options)?;
    let relay = match run::relay(console, None).and_then(|relay| started().map(|()| relay)) {
        Ok(relay) => relay,
        Err(error) => {
            delete::delete_locked(root, locked, &record, Force::Yes)?;
            return Err(error);
        }
    };
    drop(locked);
    let status = match record.init {
        Some(init) => run::wait(init.pid, &descriptor, relay, None),
        None => Err(ContainerError::Other("the container has no process".to_owned())),
    };
    match root.lock(&options.id) {
        Ok(locked) => delete::delete_locked(root, locked, &record, Force::Yes)?,
        // Somebody deleted it already.
        Err(ContainerError::Missing(_)) => {}
        Err(error) => return Err(error),
    }
    status
}

/// What is known of the container before there is anything of it.
struct Planned {
    promise: Promise,
    record: Record,
    /// The configuration as libcontainer would be given it: its cgroup is made from it.
    document: Value,
    cgroups_path: String,
    /// The scope that systemd is to make.
    unit: Option<Unit>,
}

fn build(root: &StateRoot, admitted: &Admitted, options: &RestoreOptions) -> Result<(Locked, Record)> {
    let config = admitted.config();
    refuse_unsupported(config)?;
    check_console(config, options)?;
    let program = criu::find()?;
    let work_path = options
        .work
        .clone()
        .unwrap_or_else(|| options.images.path().to_owned());
    let work = images::working(&work_path)?;
    let planned = plan(root, admitted, options)?;
    let Planned {
        mut promise,
        mut record,
        document,
        cgroups_path,
        unit,
    } = planned;
    keep_clocks(&mut promise);
    let mut locked = root.make(&options.id, &record)?;
    let log = LogFile {
        directory: work_path,
        name: LOG,
    };
    let outcome = (|| {
        let text = serde_json::to_vec(admitted.document())
            .map_err(|error| ContainerError::Other(error.to_string()))?;
        write_atomically(&locked.path().join(EFFECTIVE), &text, 0o600)?;
        make_mount_points(config, &record.rootfs, &options.held)?;
        let scope = unit
            .as_ref()
            .map(|unit| enter_scope(unit, &mut locked, &mut record))
            .transpose()?;
        let mut request = options.traits.options(options.images.directory(), &work, LOG);
        let inherited = request_of(&mut request, config, options)?;
        let inherited: Vec<&OwnedFd> = inherited.iter().collect();

        let place = locked.path().join("root");
        DirBuilder::new()
            .mode(0o700)
            .create(&place)
            .map_err(ContainerError::file("cannot make", &place))?;
        request.set_root(utf8(&place)?);
        // Open until CRIU is through.
        let mut theirs = None;
        // Before there is a pipe: whoever waits for the end of one waits for all who have it.
        let guard = Guard::new(&[], {
            let cgroups = record.cgroups.clone();
            move || drop(cgroup::kill_all(&cgroups))
        })?;
        let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(ContainerError::call("pipe2()"));
        let (ready, go) = pipe()?;
        let (told, tell) = pipe()?;
        let surroundings = Surroundings {
            tree: root_tree(config, &record.rootfs, &options.held)?,
            place: place.clone(),
            directories: [
                (
                    options.images.path().to_owned(),
                    options.images.directory().try_clone(),
                ),
                (log.directory.clone(), work.try_clone()),
            ]
            .map(|(path, open)| open.map(|open| (path, open)))
            .into_iter()
            .collect::<std::io::Result<_>>()
            .map_err(ContainerError::file("cannot keep", "the images"))?,
            session: promise.plan.session_keyring.clone(),
            cgroup_namespace: options.traits.cgroups == CgroupsMode::Ignore
                && has_own_cgroup_namespace(config),
            tell,
            ready,
            go: go.as_raw_fd(),
        };
        let criu = Criu::start(&program, log, &inherited, || surroundings.enter())?;
        // Let go of before CRIU is waited for, whatever fails: it waits for this.
        let go = go;
        // If they are not told, it has ended, and its last words are the answer to the request.
        if let Some([images, work]) = directories_of(&criu, told)? {
            request.set_images_dir_fd(images.as_raw_fd());
            request.set_work_dir_fd(work.as_raw_fd());
            theirs = Some([images, work]);
            make_cgroup(&document, &cgroups_path, options, criu.pid())?;
            if let Some(rules) = &promise.devices {
                devices::restrict(rules, Some(devices::load_program(rules)?), &record.cgroups)?;
            }
            request.cg_root.push(cgroup_root(criu.pid())?);
            // CRIU is in it by now.
            drop(scope);
            // It may begin: it is where it has to be.
            nix::unistd::write(&go, b"1").map_err(ContainerError::call("write(criu)"))?;
        }
        drop(go);

        let mut restored = Restored {
            config,
            options,
            promise: &mut promise,
            record: &mut record,
            locked: &mut locked,
            guard: Some(guard),
            pid: None,
        };
        criu.request(Criu_req_type::RESTORE, request, |point| restored.at(point))?;
        drop(theirs);
        if restored.guard.is_some() {
            return Err(ContainerError::Other(
                "CRIU let the container run on without a moment to look at it: its version is not supported"
                    .to_owned(),
            ));
        }
        let pid = restored.pid.unwrap_or_default();
        root.claim(record.rootfs_identity(), &options.id)?;
        fs::remove_dir(&place).map_err(ContainerError::file("cannot remove", &place))?;
        announce(options.pid_file.as_deref(), Pid::from_raw(pid))
    })();
    match outcome {
        Ok(()) => Ok((locked, record)),
        Err(error) => Err(undone(
            root,
            locked,
            &record,
            options.pid_file.as_deref(),
            ("restored", error),
        )),
    }
}

/// The container while CRIU makes it.
struct Restored<'a> {
    config: &'a Config,
    options: &'a RestoreOptions,
    promise: &'a mut Promise,
    record: &'a mut Record,
    locked: &'a mut Locked,
    /// There until everything was verified.
    guard: Option<Guard>,
    pid: Option<i32>,
}

impl Restored<'_> {
    fn at(&mut self, point: Point) -> Result<()> {
        self.pid = point.pid.filter(|&pid| pid > 0).or(self.pid);
        match point.name.as_str() {
            "setup-namespaces" => self.run_hooks(),
            "orphan-pts-master" => match (point.descriptor, &self.options.console_socket) {
                (Some(master), Some(socket)) => send_descriptor(socket, master.as_fd()),
                (None, _) => Err(ContainerError::Other("CRIU sent no terminal".to_owned())),
                (_, None) => Err(ContainerError::Other(
                    "the image has a terminal, and config.json has none: process.terminal is not true"
                        .to_owned(),
                )),
            },
            "pre-resume" => self.verify().inspect_err(|_| {
                // CRIU lets them go whatever it is told, so nobody may be left to be let go.
                if let Err(error) = cgroup::kill_all(&self.record.cgroups) {
                    tracing::error!(%error, "a container that is not as it was judged could not be ended");
                }
            }),
            _ => Ok(()),
        }
    }

    /// As other runtimes have it, those that prepare the surroundings, and no others: the program began long ago.
    fn run_hooks(&self) -> Result<()> {
        let Some(given) = self.config.hooks.value() else {
            return Ok(());
        };
        let state =
            HookState::creating(self.config, &self.record.id, &self.record.bundle).with("creating", self.pid);
        let run = |point, list: &[Hook]| hooks::run(point, list, &state);
        run("prestart", given.prestart.items())?;
        run("createRuntime", given.create_runtime.items())
    }

    /// Everything is there, with all that was taken from it, and nothing runs.
    fn verify(&mut self) -> Result<()> {
        let gone = || ContainerError::Build("the restored process ended at once".to_owned());
        let pid = self
            .pid
            .ok_or_else(|| ContainerError::Other("CRIU did not say which process it restored".to_owned()))?;
        let (_, start_time) = status::stat(pid).ok_or_else(gone)?;
        let init = Init { pid, start_time };
        let process = status::alive(init)?.ok_or_else(gone)?;
        limits::set_pids(self.config, &self.record.cgroups)?;
        if let Some(scope) = &self.record.scope {
            systemd::tell(scope, &self.record.cgroups, &Told::nothing())?;
        }
        disable_oom_killer(self.config, &self.record.cgroups)?;
        reality::verify(self.promise, self.record, pid, &process)?;
        self.promise.settle(Pid::from_raw(pid))?;
        self.promise.save(self.locked.path())?;
        let mut record = self.record.clone();
        record.init = Some(init);
        self.locked.save(&record)?;
        *self.record = record;
        if let Some(guard) = self.guard.take() {
            guard.release();
        }
        Ok(())
    }
}

fn plan(root: &StateRoot, admitted: &Admitted, options: &RestoreOptions) -> Result<Planned> {
    let config = admitted.config();
    let id = options.id.as_str();
    let rootfs = rootfs(config, &options.bundle)?;
    let uid = config
        .process
        .value()
        .and_then(|p| p.user.value())
        .map_or(0, gabion_baseline::config::User::uid);
    let home = home(&rootfs, uid)?;
    limits::check_unified(config, CgroupMode::Unified)?;
    let destinations = destinations::of(config, &rootfs);
    let unit = match options.systemd_cgroup {
        true => Some(unit_of(config, id, CgroupMode::Unified, Whose::Host)?),
        false => None,
    };
    let normalize = normalize::Context {
        id,
        bundle: &options.bundle,
        home: &home,
        hooks: None,
        unit: unit.as_ref(),
        namespaces: &options.held.namespaces,
        user_namespace: None,
        rootless: false,
        rootfs: &rootfs,
        destinations: &destinations,
        trees: &[],
        own_dev: false,
        is_in: None,
    };
    let document = normalize::normalize(admitted.document(), config, &normalize)?;
    let cgroups_path = normalize::cgroups_path(config, &normalize);
    let plan = plan::plan(
        admitted,
        &plan::Context {
            id,
            home: &home,
            own_namespaces: &plan::own_namespaces()?,
            namespaces: &options.held.namespaces,
            new_keyring: true,
            preserved_descriptors: 0,
            listen_descriptors: 0,
            lsm: &options.lsm,
            filters: &options.filters,
            surroundings: Some(promise::Surroundings {
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
    let late = config.hooks.value().cloned().unwrap_or_default();
    Ok(Planned {
        promise: Promise {
            filters: plan.filters.len() as u64,
            limits: limits::of(config, scope.as_ref()),
            devices: Some(devices::of(config)?),
            plan,
        },
        record: Record {
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
            // What systemd has not made yet is not ours.
            cgroups: match unit {
                Some(_) => Vec::new(),
                None => gabion_host::cgroup::locate(CgroupMode::Unified, &cgroups_path),
            },
            scope,
            init: None,
            hooks: LateHooks {
                poststart: late.poststart.items().to_vec(),
                poststop: late.poststop.items().to_vec(),
            },
        },
        document,
        cgroups_path,
        unit,
    })
}

/// CRIU has clocks go on where they stood, by a time namespace of the container's own, whatever it had before. Its offsets
/// are the image's; a clock gives nobody a right.
fn keep_clocks(promise: &mut Promise) {
    for expected in promise
        .plan
        .namespaces
        .iter_mut()
        .filter(|entry| entry.file == "time")
    {
        expected.exactly = None;
        expected.none_of.clear();
    }
    promise.plan.time_offsets = None;
}

/// The options of a restore, and the descriptors that CRIU inherits with them.
fn request_of(request: &mut Criu_opts, config: &Config, options: &RestoreOptions) -> Result<Vec<OwnedFd>> {
    // The restored process is our child, as CRIU is.
    request.set_rst_sibling(true);
    external::restored_mounts(request, config, &options.bundle, &options.held)?;
    let mut inherited = external::restored_namespaces(request, config, &options.held)?;
    inherited.extend(external::restored_streams(
        request,
        &options.images.claims().streams,
    )?);
    if let Some(label) = &options.label {
        request.set_lsm_profile(label.clone());
    }
    if let Some(label) = &options.mount_label {
        request.set_lsm_mount_context(label.clone());
    }
    Ok(inherited)
}

fn check_console(config: &Config, options: &RestoreOptions) -> Result<()> {
    let terminal = config
        .process
        .value()
        .is_some_and(|process| process.terminal.is_true());
    match (&options.console_socket, terminal) {
        (None, true) => Err(ContainerError::Other(
            "cannot allocate tty if the container is detached without setting console socket: process.terminal is \
             true. Pass --console-socket"
                .to_owned(),
        )),
        (Some(_), false) => Err(ContainerError::Other(
            "cannot use console socket if the container does not allocate a tty: process.terminal is not true".to_owned(),
        )),
        _ => Ok(()),
    }
}

/// The container's root, as it was judged, mounted nowhere yet. CRIU makes the root of it as it is, and sets none of its
/// attributes.
fn root_tree(config: &Config, rootfs: &Path, held: &gabion_host::Held) -> Result<OwnedFd> {
    let tree = match &held.rootfs {
        Some(judged) => mount::copy_tree(judged, true)?,
        None => mount::copy_tree(open_directory(rootfs)?, true)?,
    };
    if config.root.value().is_some_and(|root| root.readonly.is_true()) {
        mount::set_attributes(&tree, mount::attribute::RDONLY, None, false)?;
    }
    Ok(tree)
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(AT_FDCWD, path, flags, Mode::empty()).map_err(ContainerError::call(format!("open({path:?})")))
}

/// What CRIU's process has around it. Whatever is restored begins with these.
struct Surroundings {
    /// The container's root, mounted nowhere, and where it is to be mounted for CRIU.
    tree: OwnedFd,
    place: PathBuf,
    /// The directories of images and log: where, and which.
    directories: Vec<(PathBuf, OwnedFd)>,
    /// The name of the session keyring.
    session: Option<CString>,
    /// CRIU makes none for a container whose cgroups it is to ignore.
    cgroup_namespace: bool,
    /// Where it is told how the directories are called here.
    tell: OwnedFd,
    /// Where it is said that the cgroup is made, and the number of the other end.
    ready: OwnedFd,
    go: i32,
}

impl Surroundings {
    /// In CRIU's process, before it is CRIU.
    fn enter(self) -> std::result::Result<(), String> {
        if let Some(name) = &self.session {
            match keyring::join_new_session(name) {
                Ok(_) => {}
                Err(error) if error.errno == Errno::ENOSYS => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        let nothing: Option<&str> = None;
        let private = || {
            let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            nix::mount::mount(nothing, "/", nothing, flags, nothing)
                .map_err(|errno| format!("mount(/, MS_PRIVATE): {errno}"))
        };
        // CRIU needs a mount of its own to make the container's root of; it goes with this namespace.
        unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| format!("unshare(CLONE_NEWNS): {errno}"))?;
        private()?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let place = openat(AT_FDCWD, &self.place, flags, Mode::empty())
            .map_err(|errno| format!("open({:?}): {errno}", self.place))?;
        mount::attach(&self.tree, &place).map_err(|error| error.to_string())?;
        private()?;
        // What was opened before is of the other namespace, where this one cannot mount. CRIU does, in its working
        // directory. So they are opened once more, and have to be the same.
        let mut opened = Vec::new();
        let mut numbers = Vec::new();
        for (path, known) in &self.directories {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let again = openat(AT_FDCWD, path, flags, Mode::empty())
                .map_err(|errno| format!("open({path:?}): {errno}"))?;
            let which = |file: &OwnedFd| mount::place(file).map(|place| (place.on, place.inode));
            let (again_is, known_is) = (which(&again), which(known));
            if again_is.map_err(|error| error.to_string())? != known_is.map_err(|error| error.to_string())? {
                return Err(format!("{path:?} is another directory than it was a moment ago"));
            }
            numbers.extend(again.as_raw_fd().to_ne_bytes());
            opened.push(again);
        }
        nix::unistd::write(&self.tell, &numbers).map_err(|errno| format!("write(): {errno}"))?;
        // If gabion ends, this end is the last one.
        drop(process::inherited(self.go).map_err(|error| error.to_string())?);
        let mut word = [0];
        match nix::unistd::read(&self.ready, &mut word) {
            Ok(1) => {}
            // Nobody is left who would want it.
            _ => return Err("it was not let go".to_owned()),
        }
        // It is in the container's cgroup by now, which becomes this one's root.
        if self.cgroup_namespace {
            unshare(CloneFlags::CLONE_NEWCGROUP)
                .map_err(|errno| format!("unshare(CLONE_NEWCGROUP): {errno}"))?;
        }
        Ok(())
    }
}

fn has_own_cgroup_namespace(config: &Config) -> bool {
    let namespaces = config.linux.value().map(|linux| linux.namespaces.items());
    namespaces
        .into_iter()
        .flatten()
        .any(|entry| entry.kind == "cgroup" && entry.joins().is_none())
}

/// The directories of images and log, as CRIU's process has them open; `None` if it has ended.
fn directories_of(criu: &Criu, told: OwnedFd) -> Result<Option<[OwnedFd; 2]>> {
    let mut numbers = Vec::new();
    File::from(told)
        .take(8)
        .read_to_end(&mut numbers)
        .map_err(ContainerError::file("cannot read", "pipe"))?;
    let [a, b, c, d, e, f, g, h] = numbers[..] else {
        return Ok(None);
    };
    let process = process::open(criu.pid())?;
    let take = |bytes| process::descriptor_of(&process, i32::from_ne_bytes(bytes));
    Ok(Some([take([a, b, c, d])?, take([e, f, g, h])?]))
}

/// Makes the cgroup with its limits as libcontainer does for a created container, and puts CRIU into it.
fn make_cgroup(document: &Value, cgroups_path: &str, options: &RestoreOptions, criu: Pid) -> Result<()> {
    let failed =
        |error: &dyn std::error::Error| ContainerError::Build(format!("the cgroup cannot be made: {error}"));
    let manager = libcgroups::common::create_cgroup_manager(libcgroups::common::CgroupConfig {
        cgroup_path: PathBuf::from(cgroups_path),
        systemd_cgroup: false,
        container_name: options.id.to_string(),
    })
    .map_err(|error| failed(&error))?;
    manager
        .add_task(libcgroups_nix::unistd::Pid::from_raw(criu.as_raw()))
        .map_err(|error| failed(&error))?;
    let resources = document
        .pointer("/linux/resources")
        .cloned()
        .unwrap_or(Value::Null);
    if resources.is_null() {
        return Ok(());
    }
    let resources: LinuxResources = serde_json::from_value(resources)
        .map_err(|error| ContainerError::Build(format!("config.json#/linux/resources: {error}")))?;
    manager
        .apply(&ControllerOpt {
            resources: &resources,
            disable_oom_killer: false,
            oom_score_adj: None,
            freezer_state: None,
        })
        .map_err(|error| failed(&error))
}

/// Where CRIU is: what an image says of cgroups begins here.
fn cgroup_root(criu: Pid) -> Result<Cgroup_root> {
    let path = format!("/proc/{criu}/cgroup");
    let text = fs::read_to_string(&path).map_err(ContainerError::file("cannot read", &path))?;
    let place = text.lines().find_map(|line| line.strip_prefix("0::"));
    let mut root = Cgroup_root::new();
    root.set_path(
        place
            .ok_or_else(|| ContainerError::Other(format!("{path} names no cgroup of version 2")))?
            .to_owned(),
    );
    Ok(root)
}

/// Makes the places of mounts that a fresh root file system, or a bind mount's source, does not have, as they are made for
/// a created container.
fn make_mount_points(config: &Config, rootfs: &Path, held: &gabion_host::Held) -> Result<()> {
    let root = open_directory(rootfs)?;
    let mounts = config.mounts.items();
    let absolute = |entry: &gabion_baseline::config::Mount| Path::new("/").join(&entry.destination);
    for (index, entry) in mounts.iter().enumerate() {
        let destination = absolute(entry);
        // The last one is what there is to see.
        let covering = mounts[..index].iter().rposition(|other| {
            let other = absolute(other);
            other != destination && destination.starts_with(other)
        });
        let (root, below) = match covering {
            None => (&root, destination.clone()),
            Some(covering) => match held.sources.get(covering).and_then(Option::as_ref) {
                Some(source) if mounts[covering].is_bind() && !mounts[covering].is_readonly() => {
                    let below = destination.strip_prefix(absolute(&mounts[covering]));
                    (source, Path::new("/").join(below.unwrap_or(&destination)))
                }
                // It is in its images, or nothing may be made there.
                _ => continue,
            },
        };
        match file::find_in_root(root, &below) {
            Ok(_) => continue,
            Err(error) if error.errno == Errno::ENOENT => {}
            Err(error) => return Err(error.into()),
        }
        let is_file = match held.sources.get(index).and_then(Option::as_ref) {
            Some(source) if entry.is_bind() => mount::place(source)?.file_type != nix::libc::S_IFDIR,
            _ => false,
        };
        if is_file {
            finish::empty_file(root, &below)
        } else {
            finish::directory(root, &below).map(drop)
        }
        .map_err(|failure: Failure| {
            ContainerError::Build(format!("config.json#/mounts/{index}/destination: {failure}"))
        })?;
    }
    Ok(())
}

fn utf8(path: &Path) -> Result<String> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| ContainerError::Other(format!("{path:?} is not UTF-8, and CRIU cannot be told of it")))
}
