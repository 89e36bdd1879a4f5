//! `exec`: another process in a running container, judged like the first and confined like the first.
//!
//! libcontainer's own way in leaves out the container's filter and its user namespace, and reads the bundle again;
//! so this one is ours:
//!
//! ```text
//! exec                    joiner                      the process
//! ────                    ──────                      ───────────
//! judged effective spec
//! fork ─────────────────▶ not dumpable
//!                         cgroups of the container
//!                         setns(pidfd of init, every namespace that is not ours)
//!                         clone(CLONE_PARENT) ──────▶ session, terminal, limits
//! ◀──── its pid ───────── ends                        descent: program, privileges, reality gate, filters
//! oom score, pid file                                 ◀── waits for "go"
//! ────────────────────── go ────────────────────────▶
//! ◀──── end of the channel ─────────────────────────  execve
//! ```

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use gabion_baseline::Admitted;
use gabion_baseline::config::ConsoleSize;
use gabion_baseline::facts::LsmFact;
use gabion_descent::{ExpectedNamespace, Failure, Limit, Plan, Report, report};
use gabion_filters::Filters;
use gabion_sys::process;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, pipe2, setsid};

use crate::builder;
use crate::cgroup;
use crate::cgroup_entry;
use crate::create::{announce, home, send_descriptor};
use crate::error::{ContainerError, Result};
use crate::exec_cgroup::{self, SubCgroup};
use crate::hooks::HookState;
use crate::id::ContainerId;
use crate::listener::{self, Agent};
use crate::plan::{self, NAMESPACE_FILES};
use crate::promise::Promise;
use crate::scheduling::Scheduling;
use crate::state::{Record, StateRoot};
use crate::status::{self, Status};
use crate::watchers::{self, News};

const CAP_SYS_ADMIN: u64 = 1 << 21;

/// What the caller of `exec` asks for besides the process.
#[derive(Debug)]
pub struct ExecOptions {
    /// A unix socket that receives the terminal's master descriptor.
    pub console_socket: Option<PathBuf>,
    /// The terminal's lines end plainly, as [`crate::exec_foreground`] wants them for a pipe or a file.
    pub plain_lines: bool,
    /// A file that receives the process' id.
    pub pid_file: Option<PathBuf>,
    /// A unix socket that receives a descriptor of the process.
    pub pidfd_socket: Option<PathBuf>,
    /// Descriptors after the three standard ones that the program is to get.
    pub preserved_descriptors: u32,
    /// Cgroups below the container's to begin in, instead of the container's own.
    pub cgroups: Vec<SubCgroup>,
    /// Begin although the container is paused: the process then waits with the others.
    pub ignore_paused: bool,
    /// The Linux security modules of this host.
    pub lsm: LsmFact,
    /// The seccomp filters that judgement looked at.
    pub filters: Arc<Filters>,
}

/// A process that was started in a container.
#[derive(Debug)]
pub struct Executed {
    pid: Pid,
}

impl Executed {
    /// Its id in the runtime's pid namespace.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }
}

/// The configuration that a container was built from, as it was judged: what a further process of it is judged
/// against.
///
/// # Errors
/// [`ContainerError::Missing`], [`ContainerError::Damaged`].
pub fn effective(root: &StateRoot, id: &ContainerId) -> Result<serde_json::Value> {
    root.read(id)?;
    let path = root.of(id).join(crate::state::EFFECTIVE);
    let bytes = fs::read(&path).map_err(ContainerError::file("cannot read", &path))?;
    serde_json::from_slice(&bytes).map_err(|error| ContainerError::Damaged {
        path,
        text: error.to_string(),
    })
}

/// Starts a process in a container; when this returns, its program runs.
///
/// # Preconditions
/// One thread; no other children that were not reaped. `admitted` is the container's effective configuration with
/// `process` replaced.
///
/// # Errors
/// [`ContainerError::WrongState`] unless the container is created or running; [`ContainerError::Process`] with the
/// reality gate's mismatch, or with what kept the program from being executed. Nothing of it is then left.
pub fn exec(
    root: &StateRoot,
    id: &ContainerId,
    admitted: &Admitted,
    options: &ExecOptions,
) -> Result<Executed> {
    let record = root.read(id)?;
    let status = status::of(&record, &root.of(id))?;
    match status {
        Status::Created | Status::Running => {}
        Status::Paused if options.ignore_paused => {}
        Status::Paused => {
            return Err(ContainerError::Other(
                "cannot exec in a paused container (use --ignore-paused to override)".to_owned(),
            ));
        }
        Status::Creating | Status::Stopped => {
            return Err(ContainerError::WrongState {
                operation: "exec in",
                status: status.name(),
            });
        }
    }
    let stopped = || ContainerError::WrongState {
        operation: "exec in",
        status: Status::Stopped.name(),
    };
    let init = record.init.ok_or_else(stopped)?;
    let process = status::alive(init)?.ok_or_else(stopped)?;
    let namespaces = Joining::of(init.pid)?;
    let promise = Promise::read(&root.of(id))?;
    let mut plan = plan(admitted, &record, &promise, options, &namespaces)?;
    let terminal = admitted
        .config()
        .process
        .value()
        .is_some_and(|process| process.terminal.is_true());
    let console = console(terminal, options)?;
    let console = console.map(|socket| Terminal {
        socket,
        size: admitted
            .config()
            .process
            .value()
            .and_then(|process| process.console_size.value().copied()),
        plain_lines: options.plain_lines,
    });
    let config = admitted.config();
    let scheduling = config
        .process
        .value()
        .map_or(Ok(Scheduling::default()), Scheduling::of)?;
    let agent = listener::connect(config, &mut plan)?.map(|agent| Answering {
        agent,
        state: HookState::of(&record, status.name(), Some(init.pid)),
    });
    let begun = Beginning {
        plan,
        console,
        scheduling,
        agent,
    };
    let started = begin(root, &record, &process, &namespaces, begun, options);
    started.inspect_err(|_| builder::reap())
}

fn plan(
    admitted: &Admitted,
    record: &Record,
    promise: &Promise,
    options: &ExecOptions,
    namespaces: &Joining,
) -> Result<Plan> {
    let config = admitted.config();
    let uid = config
        .process
        .value()
        .and_then(|p| p.user.value())
        .map_or(0, gabion_baseline::config::User::uid);
    let mut plan = plan::plan(
        admitted,
        &plan::Context {
            id: &record.id,
            home: &home(&record.rootfs, uid)?,
            own_namespaces: &plan::own_namespaces()?,
            namespaces: &[],
            // The container's keyring is the init process'; a further process gets one of its own, as it gets
            // none of the caller's.
            new_keyring: true,
            filters: &options.filters,
            preserved_descriptors: options.preserved_descriptors,
            listen_descriptors: 0,
            lsm: &options.lsm,
            surroundings: None,
        },
    )?;
    plan.namespaces = namespaces.expected.clone();
    // A workload that may mount has changed what was built as it was allowed to.
    if promise.plan.capabilities.bounding & CAP_SYS_ADMIN == 0 {
        plan.mounts = promise.plan.mounts.clone();
    }
    Ok(plan)
}

/// The namespaces of a container's init process, and which of them are not the caller's.
pub(crate) struct Joining {
    pub(crate) flags: CloneFlags,
    expected: Vec<ExpectedNamespace>,
}

impl Joining {
    pub(crate) fn of(init: i32) -> Result<Self> {
        let own = plan::own_namespaces()?;
        let theirs = plan::namespaces_of(&format!("/proc/{init}/ns"))?;
        let mut flags = CloneFlags::empty();
        let mut expected = Vec::new();
        for (kind, file) in NAMESPACE_FILES {
            let (Some(&own), Some(&theirs)) = (own.get(file), theirs.get(file)) else {
                continue;
            };
            // Joining one's own user namespace is an error, and joining any other again is in vain.
            if own != theirs {
                flags |= flag(kind);
            }
            expected.push(ExpectedNamespace {
                file: file.to_owned(),
                exactly: Some(theirs),
                none_of: Vec::new(),
            });
        }
        Ok(Joining { flags, expected })
    }
}

fn flag(kind: &str) -> CloneFlags {
    match kind {
        "mount" => CloneFlags::CLONE_NEWNS,
        "network" => CloneFlags::CLONE_NEWNET,
        "pid" => CloneFlags::CLONE_NEWPID,
        "ipc" => CloneFlags::CLONE_NEWIPC,
        "uts" => CloneFlags::CLONE_NEWUTS,
        "user" => CloneFlags::CLONE_NEWUSER,
        "cgroup" => CloneFlags::CLONE_NEWCGROUP,
        _ => CloneFlags::from_bits_retain(nix::libc::CLONE_NEWTIME),
    }
}

/// Connects to the console socket while its path still means what the caller meant.
fn console(terminal: bool, options: &ExecOptions) -> Result<Option<UnixStream>> {
    match (&options.console_socket, terminal) {
        (Some(path), true) => UnixStream::connect(path)
            .map(Some)
            .map_err(ContainerError::file("cannot connect to", path)),
        (None, false) => Ok(None),
        (None, true) => Err(ContainerError::Other(
            "cannot allocate tty if the process is detached without setting console socket".to_owned(),
        )),
        (Some(_), false) => Err(ContainerError::Other(
            "cannot use console socket if the process does not allocate a tty".to_owned(),
        )),
    }
}

/// A terminal that is asked for.
struct Terminal {
    /// Where its master side is sent.
    socket: UnixStream,
    size: Option<ConsoleSize>,
    /// See [`crate::terminal::end_lines_plainly`].
    plain_lines: bool,
}

/// What a process begins with.
struct Beginning {
    plan: Plan,
    console: Option<Terminal>,
    scheduling: Scheduling,
    agent: Option<Answering>,
}

/// The agent that is to have the listener of the process' filter, and what it is told of the container.
struct Answering {
    agent: Agent,
    state: HookState,
}

fn begin(
    root: &StateRoot,
    record: &Record,
    init: &OwnedFd,
    namespaces: &Joining,
    beginning: Beginning,
    options: &ExecOptions,
) -> Result<Executed> {
    let Beginning {
        plan,
        console,
        scheduling,
        agent,
    } = beginning;
    let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(ContainerError::call("pipe2()"));
    let (outcome, to_caller) = pipe()?;
    let (go, let_go) = pipe()?;
    let (pid_here, to_pid) = pipe()?;
    let score = plan.oom_score_adj;
    let places = exec_cgroup::Places::of(record, &options.cgroups)?;
    let work = |is_in_cgroup: bool| {
        let joined = scheduling
            .begin()
            .and_then(|()| join(&places, init, namespaces, is_in_cgroup))
            .and_then(|()| {
                let pid = gabion_sys::fork::fork_sibling(|| {
                    let failure = inside(plan, console, &go, &to_caller);
                    drop(report::write(&to_caller, &Report::Failed(failure)));
                    255
                })
                .map_err(|error| ContainerError::Build(error.to_string()))?;
                let bytes = pid.as_raw().to_ne_bytes();
                nix::unistd::write(&to_pid, &bytes)
                    .map(drop)
                    .map_err(ContainerError::call("write(pid)"))
            });
        match joined {
            Ok(()) => 0,
            Err(error) => {
                let failure = Failure::Other(format!("the container could not be joined: {error}"));
                drop(report::write(&to_caller, &Report::Failed(failure)));
                1
            }
        }
    };
    let existing = places
        .are_the_containers()
        .then(|| cgroup_entry::existing(&record.cgroups))
        .flatten();
    let joiner = match existing {
        Some(cgroup) => gabion_sys::fork::fork_into(cgroup.as_fd(), work),
        None => gabion_sys::fork::fork(|| work(false)),
    }
    .map_err(|error| ContainerError::Build(error.to_string()))?;
    drop((to_caller, go, to_pid));
    waitpid(joiner, None).map_err(ContainerError::call(format!("waitpid({joiner})")))?;
    let mut bytes = [0; 4];
    let pid = match File::from(pid_here).read_exact(&mut bytes) {
        Ok(()) => Pid::from_raw(i32::from_ne_bytes(bytes)),
        // There is no process; the channel says why.
        Err(_) => {
            return Err(hear(outcome)
                .err()
                .unwrap_or_else(|| ContainerError::Build("no process was made".to_owned())));
        }
    };
    let announced = score
        .map_or(Ok(()), |score| set_score(pid, score))
        .and_then(|()| cgroup::verify_membership(pid, &record.cgroups))
        .and_then(|()| scheduling.settle(pid))
        .and_then(|()| scheduling.apply(pid))
        .and_then(|()| announce_exec(options, pid));
    let heard = announced.and_then(|()| {
        watchers::tell(&News {
            root: root.path().to_owned(),
            id: record.id.clone(),
            pid: pid.as_raw(),
            is_first: false,
        });
        match nix::unistd::write(&let_go, b"g") {
            // It has ended already, and says why.
            Ok(_) | Err(Errno::EPIPE) => {
                if let Some(Answering { agent, state }) = agent {
                    // False is a process that ended before: what it reports says why.
                    agent.hand_over(|_| state)?;
                }
                hear(outcome)
            }
            Err(errno) => Err(ContainerError::call("write(go)")(errno)),
        }
    });
    match heard {
        Ok(()) => Ok(Executed { pid }),
        Err(error) => {
            // Whatever is left of it: the closed channel has it end by itself, this has it end now.
            if let Ok(process) = process::open(pid) {
                drop(process::signal(&process, Signal::SIGKILL as i32));
            }
            if let Err(errno) = waitpid(pid, None) {
                tracing::debug!(%errno, "a process that was not to be could not be waited for");
            }
            if let Some(path) = &options.pid_file {
                drop(fs::remove_file(path));
            }
            Err(error)
        }
    }
}

fn hear(outcome: OwnedFd) -> Result<()> {
    let mut bytes = Vec::new();
    File::from(outcome)
        .read_to_end(&mut bytes)
        .map_err(ContainerError::file("cannot read", "the process' report"))?;
    let spent = report::outcome(&bytes).map_err(ContainerError::Process)?;
    tracing::debug!(microseconds = spent.as_micros(), "the reality gate is passed");
    Ok(())
}

fn set_score(pid: Pid, score: i64) -> Result<()> {
    let path = format!("/proc/{pid}/oom_score_adj");
    fs::write(&path, score.to_string()).map_err(ContainerError::file("cannot write", path))
}

fn announce_exec(options: &ExecOptions, pid: Pid) -> Result<()> {
    if let Some(path) = &options.pidfd_socket {
        send_descriptor(path, process::open(pid)?.as_fd())?;
    }
    announce(options.pid_file.as_deref(), pid)
}

/// In the joiner: everything that can be left behind of the host is left behind.
fn join(
    places: &exec_cgroup::Places,
    init: &OwnedFd,
    namespaces: &Joining,
    is_in_cgroup: bool,
) -> Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)
        .map_err(ContainerError::call("prctl(PR_SET_PDEATHSIG)"))?;
    // Before any namespace: a process of the container must never be able to look into this one, which still
    // holds descriptors of the host (CVE-2016-9962).
    nix::sys::prctl::set_dumpable(false).map_err(ContainerError::call("prctl(PR_SET_DUMPABLE)"))?;
    if !is_in_cgroup {
        places.join()?;
    }
    // Also before: the container's user namespace may deny it.
    if nix::unistd::geteuid().is_root() {
        nix::unistd::setgroups(&[]).map_err(ContainerError::call("setgroups([])"))?;
    }
    setns(init, namespaces.flags).map_err(ContainerError::call(format!(
        "setns(init, {:?})",
        namespaces.flags
    )))
}

/// In the process.
fn inside(plan: Plan, console: Option<Terminal>, go: &OwnedFd, to_caller: &OwnedFd) -> Failure {
    match enter(&plan, console, go).and_then(|()| gabion_descent::prepare(plan)) {
        Ok(prepared) => gabion_descent::descend(prepared, to_caller),
        Err(failure) => failure,
    }
}

fn enter(plan: &Plan, console: Option<Terminal>, go: &OwnedFd) -> std::result::Result<(), Failure> {
    let call =
        |name: &'static str| move |errno: Errno| Failure::Call(gabion_sys::CallError::new(name, errno));
    setsid().map_err(call("setsid()"))?;
    if plan.user.uid != 0 || nix::unistd::getuid().as_raw() != 0 {
        // In a user namespace that was joined, one begins without an id that means anything there.
        nix::unistd::setresgid(0.into(), 0.into(), 0.into()).map_err(call("setresgid(0)"))?;
        nix::unistd::setresuid(0.into(), 0.into(), 0.into()).map_err(call("setresuid(0)"))?;
    }
    if let Some(Terminal {
        socket,
        size,
        plain_lines,
    }) = console
    {
        let (master, slave) = gabion_sys::terminal::open_in_container()?;
        if let Some(size) = size {
            gabion_sys::terminal::resize(&slave, size.height, size.width)?;
        }
        if plain_lines {
            crate::terminal::end_lines_plainly(&slave).map_err(|error| Failure::Other(error.to_string()))?;
        }
        crate::create::send_over(&socket, master.as_fd())
            .map_err(|error| Failure::Other(error.to_string()))?;
        gabion_sys::terminal::become_controlling(slave)?;
    }
    for Limit {
        resource, soft, hard, ..
    } in &plan.limits
    {
        process::set_limit(Pid::from_raw(0), *resource, *soft, *hard)?;
    }
    // The caller has something to say to the process' entry in /proc first.
    let mut byte = [0];
    loop {
        match nix::unistd::read(go, &mut byte) {
            Ok(1) => return Ok(()),
            Err(Errno::EINTR) => {}
            Ok(_) => {
                return Err(Failure::Other(
                    "the caller ended before the process began".to_owned(),
                ));
            }
            Err(errno) => return Err(call("read(go)")(errno)),
        }
    }
}
