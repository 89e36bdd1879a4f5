//! A container in the foreground: the caller waits, its signals are passed on, its exit status is the program's.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use gabion_baseline::Admitted;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::create::{CreateOptions, create};
use crate::delete::{self, Force};
use crate::error::{ContainerError, Result};
use crate::exec::{ExecOptions, exec};
use crate::id::ContainerId;
use crate::start::start_locked;
use crate::state::StateRoot;
use crate::terminal::{self, Console, Relay, Replaced};
use crate::watched::{Deadline, Step};
use crate::watchers;

/// What the caller of `run` asks for besides what `create` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Foreground {
    /// Leave the container, stopped, when it has ended.
    pub keep: bool,
    /// Take in the container's orphans, so that nothing of it outlives this process unseen.
    pub subreaper: bool,
}

/// Creates and starts a container, waits for its end, and deletes it; gives its exit status, 128 plus the
/// signal's number if a signal ended it.
///
/// Signals are blocked before the container is made and read from a descriptor: one that arrives at any time is
/// handled, and none interrupts anything. A program that ends at once is not missed.
///
/// `started` is called when the program runs, with whether somebody watches it; its error ends the container.
///
/// # Preconditions
/// As [`create`].
///
/// # Errors
/// As [`create`] and [`crate::start`]; nothing of the container is then left.
pub fn run_foreground(
    root: &StateRoot,
    admitted: &Admitted,
    mut options: CreateOptions,
    foreground: Foreground,
    started: impl FnOnce(bool) -> Result<()>,
) -> Result<i32> {
    let descriptor = block_signals()?;
    if foreground.subreaper {
        nix::sys::prctl::set_child_subreaper(true)
            .map_err(ContainerError::call("prctl(PR_SET_CHILD_SUBREAPER)"))?;
    }
    let console = own_console(root, admitted, &mut options.console_socket)?;
    let replaced = replaced(admitted)?;
    let created = create(root, admitted, &options)?;
    let ended = (|| {
        let relay = relay(console, replaced)?;
        let watched = watchers::tell_of_start(root, &created.record);
        start_locked(&created.locked, &created.record)?;
        started(watched)?;
        Ok(relay)
    })();
    let (locked, record) = (created.locked, created.record);
    let relay = match ended {
        Ok(relay) => relay,
        Err(error) => {
            delete::delete_locked(root, locked, &record, Force::Yes)?;
            return Err(error);
        }
    };
    // Others may look at it, and signal it, while it runs.
    drop(locked);
    let status = match record.init {
        Some(init) => wait(init.pid, &descriptor, relay, None),
        None => Err(ContainerError::Other("the container has no process".to_owned())),
    };
    if !foreground.keep {
        match root.lock(&options.id) {
            Ok(locked) => delete::delete_locked(root, locked, &record, Force::Yes)?,
            // Somebody deleted it already.
            Err(ContainerError::Missing(_)) => {}
            Err(error) => return Err(error),
        }
    }
    status
}

/// Starts a process in a container, waits for its end, and gives its exit status, as [`run_foreground`] does for a
/// container. `started` is called when its program runs.
///
/// # Preconditions
/// As [`crate::exec`].
///
/// # Errors
/// As [`crate::exec`].
pub fn exec_foreground(
    root: &StateRoot,
    id: &ContainerId,
    admitted: &Admitted,
    mut options: ExecOptions,
    started: impl FnOnce() -> Result<()>,
) -> Result<i32> {
    let descriptor = block_signals()?;
    let console = own_console(root, admitted, &mut options.console_socket)?;
    options.plain_lines = console.is_some() && terminal::wants_plain_lines();
    let replaced = replaced(admitted)?;
    let executed = exec(root, id, admitted, &options)?;
    let relay = relay(console, replaced)?;
    started()?;
    wait(executed.pid(), &descriptor, relay, None)
}

/// Has all signals come through a descriptor.
pub(crate) fn block_signals() -> Result<SignalFd> {
    let signals = SigSet::all();
    signals
        .thread_block()
        .map_err(ContainerError::call("sigprocmask(SIG_BLOCK)"))?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(ContainerError::call("signalfd()"))
}

/// A console socket of our own for a terminal; with one of the caller's, the terminal is the caller's business.
pub(crate) fn own_console(
    root: &StateRoot,
    admitted: &Admitted,
    socket: &mut Option<PathBuf>,
) -> Result<Option<Console>> {
    if !has_terminal(admitted) || socket.is_some() {
        return Ok(None);
    }
    let console = Console::new(root.path())?;
    *socket = Some(console.path());
    Ok(Some(console))
}

/// Pipes in the place of the caller's terminal, for a process that has none of its own.
fn replaced(admitted: &Admitted) -> Result<Option<Replaced>> {
    (!has_terminal(admitted)).then(Replaced::new).transpose()
}

fn has_terminal(admitted: &Admitted) -> bool {
    let process = admitted.config().process.value();
    process.is_some_and(|process| process.terminal.is_true())
}

pub(crate) fn relay(console: Option<Console>, replaced: Option<Replaced>) -> Result<Option<Relay>> {
    match (console, replaced) {
        (Some(console), _) => console.receive().and_then(Relay::new).map(Some),
        (None, Some(mut replaced)) => Relay::of_pipes(&mut replaced).map(Some),
        (None, None) => Ok(None),
    }
}

/// Waits for a child, passing on signals and, with a terminal, bytes; until the deadline, if there is one.
pub(crate) fn wait(
    pid: i32,
    signals: &SignalFd,
    mut relay: Option<Relay>,
    mut deadline: Option<&mut Deadline>,
) -> Result<i32> {
    // A child's number is given to nobody else before it is reaped, and that happens here alone.
    let process = gabion_sys::process::open(Pid::from_raw(pid)).ok();
    // It may have ended before anyone looked; its SIGCHLD is waiting in the descriptor either way.
    if let Some(status) = reap(pid)? {
        return finish(relay, status);
    }
    loop {
        let mut wanted = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        let input = std::io::stdin();
        let mut input_at = None;
        let mut output_from = wanted.len();
        if let Some(relay) = &relay {
            if relay.wants_input() {
                input_at = Some(wanted.len());
                wanted.push(PollFd::new(input.as_fd(), PollFlags::POLLIN));
            }
            wanted.extend(relay.sink().map(|sink| PollFd::new(sink, PollFlags::POLLOUT)));
            output_from = wanted.len();
            wanted.extend(
                relay
                    .sources()
                    .map(|source| PollFd::new(source, PollFlags::POLLIN)),
            );
        }
        // Rounded up, so as not to come back just before.
        let remaining = deadline.as_ref().and_then(|deadline| deadline.remaining());
        let timeout = remaining.map_or(PollTimeout::NONE, |remaining| {
            PollTimeout::try_from(remaining + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut wanted, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(ContainerError::call("poll()")(errno)),
        }
        if let (Some(step), Some(process)) = (deadline.as_mut().and_then(|deadline| deadline.due()), &process)
        {
            let signal = match step {
                Step::Ask => Signal::SIGTERM,
                Step::Insist => Signal::SIGKILL,
            };
            pass_on(process, signal as i32)?;
        }
        let is_ready = |one: &PollFd<'_>| one.revents().is_some_and(|events| !events.is_empty());
        let input_ready = input_at.is_some_and(|at| is_ready(&wanted[at]));
        let output_ready = wanted[output_from..].iter().any(is_ready);
        if let Some(relay) = &mut relay {
            if input_ready {
                relay.take_input()?;
            }
            relay.give_input()?;
            if output_ready {
                relay.carry_output()?;
            }
        }
        while let Some(information) = signals
            .read_signal()
            .map_err(ContainerError::call("read(signalfd)"))?
        {
            let number = information.ssi_signo.cast_signed();
            match Signal::try_from(number) {
                Ok(Signal::SIGCHLD) => {
                    if let Some(status) = reap(pid)? {
                        return finish(relay, status);
                    }
                }
                Ok(Signal::SIGWINCH) => {
                    if let Some(relay) = &relay {
                        relay.resize();
                    }
                }
                // What the kernel tells this process about its own reading and writing is not for the program.
                Ok(Signal::SIGPIPE | Signal::SIGTTIN | Signal::SIGTTOU | Signal::SIGURG) => {}
                _ => {
                    let ends = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];
                    if let Some(deadline) = deadline
                        .as_mut()
                        .filter(|_| ends.iter().any(|one| *one as i32 == number))
                    {
                        deadline.signalled();
                    }
                    if let Some(process) = &process {
                        pass_on(process, number)?;
                    }
                }
            }
        }
    }
}

/// Sends a signal to a process, which may be gone.
fn pass_on(process: impl AsFd, number: i32) -> Result<()> {
    match gabion_sys::process::signal(process, number) {
        Ok(()) => Ok(()),
        Err(error) if error.errno == Errno::ESRCH => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Carries the rest of the output, and turns the wait status into an exit status.
fn finish(relay: Option<Relay>, status: i32) -> Result<i32> {
    if let Some(mut relay) = relay {
        relay.carry_output()?;
    }
    Ok(status)
}

/// Reaps whoever has ended: the builder's helpers and orphans of the container; gives init's status if it is
/// among them.
fn reap(init: i32) -> Result<Option<i32>> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) if pid.as_raw() == init => return Ok(Some(status)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid.as_raw() == init => {
                return Ok(Some(128 + signal as i32));
            }
            Ok(WaitStatus::StillAlive) => return Ok(None),
            Ok(_) => {}
            Err(Errno::ECHILD) => {
                return Err(ContainerError::Other(
                    "the container's init process is no child of this one".to_owned(),
                ));
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(ContainerError::call("waitpid(-1)")(errno)),
        }
    }
}
