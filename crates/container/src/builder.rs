//! The builder: a child process in which libcontainer builds the init container.
//!
//! libcontainer changes the process it runs in (dumpable flag, working directory, out-of-memory score) and
//! forks from it. A child of its own, with one thread, keeps the caller clean; the init process becomes the
//! caller's child, not the builder's.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use gabion_descent::report;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::fcntl::{FcntlArg, FdFlag, OFlag};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, pipe2};

use crate::causes;
use crate::cgroup_entry::Entry;
use crate::error::{ContainerError, Result};
use crate::executor::Descent;
use crate::owned_cgroup;
use crate::rootless::Rootless;
use crate::systemd::{self, Scope};

/// What the builder needs.
pub(crate) struct Building {
    /// The container's id.
    pub(crate) id: String,
    /// The private bundle with the normalized configuration.
    pub(crate) bundle: PathBuf,
    /// Where libcontainer keeps its own state.
    pub(crate) engine: PathBuf,
    pub(crate) console_socket: Option<PathBuf>,
    pub(crate) no_pivot: bool,
    pub(crate) preserved_descriptors: u32,
    /// The container's cgroup, where the builder can begin in it.
    pub(crate) cgroup: Option<Entry>,
    /// The container's cgroup that the builder moves to, without root ([`crate::owned_cgroup`]).
    pub(crate) owned_cgroup: Option<PathBuf>,
    /// The network namespace that the builder enters ([`crate::normalize::network_to_enter`]).
    pub(crate) network: Option<OwnedFd>,
    /// Where systemd moves the builder, without root.
    pub(crate) scope: Option<Scope>,
    /// What the builder enters first, without root.
    pub(crate) rootless: Option<Rootless>,
}

/// The way from the builder, its hooks and the init process back to `create`.
#[derive(Debug)]
pub(crate) struct ReportChannel {
    read_end: OwnedFd,
    write_end: OwnedFd,
}

impl ReportChannel {
    /// Makes one. The write end is inherited by what the builder executes, so that a hook's trampoline can say
    /// what went wrong; the trampoline keeps it from the hook.
    pub(crate) fn new() -> Result<Self> {
        let (read_end, write_end) = pipe2(OFlag::empty()).map_err(ContainerError::call("pipe2()"))?;
        nix::fcntl::fcntl(&read_end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .and_then(|_| nix::fcntl::fcntl(&read_end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)))
            .map_err(ContainerError::call("fcntl(pipe)"))?;
        Ok(ReportChannel { read_end, write_end })
    }

    /// The number that a trampoline is told.
    pub(crate) fn number(&self) -> i32 {
        self.write_end.as_raw_fd()
    }
}

/// Forks the builder and waits until the container is built: its init process then waits for start.
///
/// `descent` makes the work of the init process from the descriptor on which it reports to us.
///
/// # Preconditions
/// One thread; the calling process has no other children that it has not reaped.
///
/// # Errors
/// What the init process or libcontainer reported. Processes may still be there: the caller kills the cgroup.
pub(crate) fn build(
    building: &Building,
    channel: ReportChannel,
    descent: impl FnOnce(OwnedFd) -> Descent,
    meanwhile: impl FnOnce(),
) -> Result<Pid> {
    let ReportChannel { read_end, write_end } = channel;
    let work = |is_in_cgroup: bool| {
        if let Some(cgroup) = building.cgroup.as_ref().filter(|_| is_in_cgroup) {
            cgroup.cover();
        }
        let outcome = match write_end.try_clone() {
            Ok(causes) => causes::collect(causes, || inside(building, &write_end, descent)),
            Err(error) => Err(format!("dup(report): {error}")),
        };
        let line = match &outcome {
            Ok(pid) => format!("I{pid}\n"),
            Err(text) => format!("E{}\n", limited(&text.replace('\n', " "))),
        };
        let written = nix::unistd::write(&write_end, line.as_bytes());
        i32::from(outcome.is_err() || written != Ok(line.len()))
    };
    let builder = match &building.cgroup {
        Some(cgroup) => gabion_sys::fork::fork_into(cgroup.directory().as_fd(), work),
        None => gabion_sys::fork::fork(|| work(false)),
    }
    .map_err(|error| ContainerError::Build(error.to_string()))?;
    meanwhile();
    let status = waitpid(builder, None).map_err(ContainerError::call(format!("waitpid({builder})")))?;
    // The init process holds the other end too, so there is no end of file to wait for: what the builder wrote
    // is there when the builder has ended.
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let mut reader = File::from(read_end);
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(ContainerError::file("cannot read the builder's report", "pipe")(
                    error,
                ));
            }
        }
    }
    outcome(&bytes, status)
}

/// What was reported: a failure of the init process says more than libcontainer's error about it.
fn outcome(bytes: &[u8], status: WaitStatus) -> Result<Pid> {
    let text = String::from_utf8_lossy(bytes);
    if text.lines().any(|line| line.starts_with('F'))
        && let Err(failure) = report::outcome(bytes)
    {
        return Err(ContainerError::Process(failure));
    }
    let line = text.lines().find(|line| line.starts_with(['I', 'E']));
    match (line.and_then(|line| line.split_at_checked(1)), status) {
        (Some(("I", pid)), WaitStatus::Exited(_, 0)) => pid
            .parse()
            .map(Pid::from_raw)
            .map_err(|_| ContainerError::Build(format!("the builder reported {pid:?} as a process id"))),
        (Some(("E", engine)), _) => Err(ContainerError::Build(
            causes::told(&text).unwrap_or_else(|| engine.to_owned()),
        )),
        (_, status) => Err(ContainerError::Build(format!(
            "the builder ended without a report: {status:?}"
        ))),
    }
}

/// In the builder.
fn inside(
    building: &Building,
    report: &OwnedFd,
    descent: impl FnOnce(OwnedFd) -> Descent,
) -> std::result::Result<i32, String> {
    // Whoever kills the caller means the builder too.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)
        .map_err(|errno| format!("prctl(PR_SET_PDEATHSIG): {errno}"))?;
    nix::unistd::chdir("/").map_err(|errno| format!("chdir(/): {errno}"))?;
    // Outside of any user namespace that might deny it. An ordinary user keeps theirs (see the module `rootless`).
    if nix::unistd::geteuid().is_root() {
        nix::unistd::setgroups(&[]).map_err(|errno| format!("setgroups([]): {errno}"))?;
    }
    if let Some(scope) = &building.scope {
        systemd::attach(scope, "", nix::unistd::getpid()).map_err(|error| error.to_string())?;
    }
    if let Some(cgroup) = &building.owned_cgroup {
        owned_cgroup::enter(cgroup).map_err(|error| error.to_string())?;
    }
    if let Some(network) = &building.network {
        setns(network, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| format!("setns(the network namespace): {errno}"))?;
    }
    if let Some(rootless) = &building.rootless {
        rootless.enter()?;
    }
    let to_create = report
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| error.to_string())?;
    let preserved = i32::try_from(building.preserved_descriptors).map_err(|error| error.to_string())?;
    let container = ContainerBuilder::new(building.id.clone(), SyscallType::default())
        .with_root_path(&building.engine)
        .map_err(|error| chain(&error))?
        .with_console_socket(building.console_socket.as_ref())
        .with_preserved_fds(preserved)
        .with_executor(descent(to_create))
        .as_init(&building.bundle)
        .with_systemd(false)
        .with_detach(true)
        .with_no_pivot(building.no_pivot)
        .as_sibling(true)
        .build()
        .map_err(|error| chain(&error))?;
    let pid = container.pid().ok_or("libcontainer built no process")?;
    Ok(pid.as_raw())
}

/// An error with its causes: libcontainer's own sentence often names none.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

fn limited(text: &str) -> &str {
    let mut end = text.len().min(3800);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Reaps every child that has ended.
pub(crate) fn reap() {
    while let Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) =
        waitpid(None, Some(WaitPidFlag::WNOHANG))
    {}
}
