//! A container that is watched while it learns: in the foreground, and gone when its watcher is.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gabion_baseline::Admitted;
use gabion_descent::{Filter, Handover, Instruction, Plan};
use gabion_seccomp::Program;
use gabion_sys::seccomp;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::create::{CreateOptions, create_watched};
use crate::delete::{self, Force, delete};
use crate::error::{ContainerError, Result};
use crate::id::ContainerId;
use crate::run::{block_signals, own_console, relay, wait};
use crate::start::start_locked;
use crate::state::StateRoot;

/// A filter that asks about calls, to be loaded over all others.
#[derive(Debug)]
pub struct Watch {
    /// The filter.
    pub program: Program,
    /// Where the process tells the number of its listener, and waits to hear that it was taken.
    pub channel: OwnedFd,
}

impl Watch {
    /// Adds it to what the process is to do.
    ///
    /// # Errors
    /// [`ContainerError::Unsupported`] if the profile has a listener: a process has one at most.
    pub(crate) fn join(self, plan: &mut Plan) -> Result<()> {
        if plan.handover.is_some() {
            return Err(ContainerError::Unsupported {
                pointer: "/linux/seccomp".to_owned(),
                text: "has a listener (SCMP_ACT_NOTIFY), and a process can have only one: nothing can be learnt here. \
                       Use a profile without"
                    .to_owned(),
            });
        }
        let instructions = self.program.instructions.iter().map(|instruction| Instruction {
            code: instruction.code,
            jt: instruction.jt,
            jf: instruction.jf,
            k: instruction.k,
        });
        // Since Linux 5.19 signals do not interrupt what is being answered.
        let killable = seccomp::NEW_LISTENER | seccomp::WAIT_KILLABLE;
        let flags = if seccomp::knows_flags(killable) {
            killable
        } else {
            seccomp::NEW_LISTENER
        };
        plan.filters.push(Filter {
            instructions: instructions.collect(),
            flags,
        });
        plan.handover = Some(Arc::new(Handover {
            channel: self.channel,
            before_start: false,
        }));
        Ok(())
    }
}

/// How long a watched container may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Then it is asked to end.
    pub time: Option<Duration>,
    /// How long after that, or after a signal of the caller's user, it is made to.
    pub grace: Duration,
}

/// How a watched container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// The program's exit status; 128 plus the number of the signal that ended it.
    pub status: i32,
    /// Who wanted it to end.
    pub by: By,
}

/// Who ended a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// It ended by itself.
    Itself,
    /// Its time was over.
    Time,
    /// A signal to the caller, which was passed on.
    Signal,
}

/// When a container has to end, kept while it is waited for.
#[derive(Debug)]
pub(crate) struct Deadline {
    patience: Patience,
    /// What comes next, and when.
    next: Option<(Instant, Step)>,
    by: By,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// SIGTERM.
    Ask,
    /// SIGKILL.
    Insist,
}

impl Deadline {
    fn new(patience: Patience) -> Self {
        Deadline {
            patience,
            next: patience.time.map(|time| (Instant::now() + time, Step::Ask)),
            by: By::Itself,
        }
    }

    /// How long until the next step.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        let (at, _) = self.next?;
        Some(at.saturating_duration_since(Instant::now()))
    }

    /// The next step, if its time has come.
    pub(crate) fn due(&mut self) -> Option<Step> {
        let (_, step) = self.next.filter(|(at, _)| *at <= Instant::now())?;
        self.next = match step {
            Step::Ask => {
                self.by = By::Time;
                Some((Instant::now() + self.patience.grace, Step::Insist))
            }
            Step::Insist => None,
        };
        Some(step)
    }

    /// The caller's user wants it to end: a first signal gives it time, a second one does not.
    pub(crate) fn signalled(&mut self) {
        let is_second = self.by != By::Itself;
        if !is_second {
            self.by = By::Signal;
        }
        let grace = if is_second {
            Duration::ZERO
        } else {
            self.patience.grace
        };
        self.next = Some((Instant::now() + grace, Step::Insist));
    }
}

/// As [`crate::run_foreground`], with a filter that asks over those of the container. `created` is called with the init
/// process when it waits for start: it has to be ready for the listener when it returns.
///
/// # Preconditions
/// As [`crate::create`]; `created` may make threads, which must block all signals.
///
/// # Errors
/// As [`crate::run_foreground`]; nothing of the container is then left.
pub fn run_watched(
    root: &StateRoot,
    admitted: &Admitted,
    mut options: CreateOptions,
    watch: Watch,
    patience: Patience,
    created: impl FnOnce(i32) -> Result<()>,
    started: impl FnOnce() -> Result<()>,
) -> Result<Ended> {
    let descriptor = block_signals()?;
    nix::sys::prctl::set_child_subreaper(true)
        .map_err(ContainerError::call("prctl(PR_SET_CHILD_SUBREAPER)"))?;
    let console = own_console(root, admitted, &mut options.console_socket)?;
    let built = create_watched(root, admitted, &options, Some(watch))?;
    let (locked, record) = (built.locked, built.record);
    let running = (|| {
        let pid = record
            .init
            .map(|init| init.pid)
            .ok_or_else(|| ContainerError::Other("the container has no process".to_owned()))?;
        let relay = relay(console, None)?;
        created(pid)?;
        start_locked(&locked, &record)?;
        started()?;
        Ok((pid, relay))
    })();
    let (pid, relay) = match running {
        Ok(running) => running,
        Err(error) => {
            delete::delete_locked(root, locked, &record, Force::Yes)?;
            return Err(error);
        }
    };
    drop(locked);
    let mut deadline = Deadline::new(patience);
    let status = wait(pid, &descriptor, relay, Some(&mut deadline));
    delete(root, &options.id, Force::Yes)?;
    Ok(Ended {
        status: status?,
        by: deadline.by,
    })
}

/// A process that cleans up if its caller ends before it said that it is done: killed, say.
#[derive(Debug)]
pub struct Guard {
    channel: UnixStream,
    process: Pid,
}

impl Guard {
    /// Makes one: if the caller ends without [`Guard::done`], `clean` is called.
    ///
    /// # Preconditions
    /// One thread, and all files that `clean` needs are open.
    ///
    /// # Errors
    /// If no process can be made.
    pub fn new(clean: impl FnOnce()) -> Result<Guard> {
        let (channel, theirs) =
            UnixStream::pair().map_err(ContainerError::file("cannot make", "a pair of sockets"))?;
        // The end of the caller, and not that of its socket: this process has a copy of it, and others may.
        let caller = gabion_sys::process::open(nix::unistd::getpid())?;
        let process = gabion_sys::fork::fork(move || {
            if !is_done(&caller, &theirs) {
                clean();
            }
            0
        })
        .map_err(|error| ContainerError::Other(error.to_string()))?;
        Ok(Guard { channel, process })
    }

    /// Nothing is left that would have to be removed.
    pub fn done(mut self) {
        // If it is gone, so be it.
        drop(self.channel.write_all(b"d"));
        if let Err(error) = waitpid(self.process, None) {
            tracing::debug!(%error, "the guard of a container was not waited for");
        }
    }
}

/// Waits until the caller says that it is done, or has ended without.
fn is_done(caller: &OwnedFd, mut channel: &UnixStream) -> bool {
    // What ends the caller by way of its terminal or its process group must not end this.
    if SigSet::all().thread_block().is_err() || nix::unistd::setsid().is_err() {
        tracing::warn!("signals cannot be blocked: a container may be left if this program is killed");
    }
    loop {
        let mut wanted = [
            PollFd::new(channel.as_fd(), PollFlags::POLLIN),
            PollFd::new(caller.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut wanted, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(_) => return false,
        }
        let ready = |index: usize| {
            wanted
                .get(index)
                .and_then(PollFd::revents)
                .is_some_and(|events| !events.is_empty())
        };
        // It may have said so right before it ended.
        if ready(0) {
            return channel.read(&mut [0]).is_ok_and(|count| count == 1);
        }
        if ready(1) {
            return false;
        }
    }
}

/// Deletes a container that was made from `bundle`, whatever it is doing: for a [`Guard`].
pub fn remove(root: &StateRoot, id: &ContainerId, bundle: &Path) {
    // The builder is killed with the caller; what it built in the meantime is known when it is gone.
    for _ in 0..50 {
        match root.read(id) {
            Ok(record) if record.bundle != bundle => return,
            Ok(_) => match delete(root, id, Force::Yes) {
                Ok(()) => return,
                Err(error) => {
                    tracing::debug!(%error, "a container without its watcher cannot be deleted yet")
                }
            },
            Err(ContainerError::Missing(_)) => return,
            Err(error) => tracing::debug!(%error, "a container without its watcher cannot be read"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_asked_and_then_made_to_end() {
        let mut deadline = Deadline::new(Patience {
            time: Some(Duration::ZERO),
            grace: Duration::ZERO,
        });
        assert_eq!(deadline.due(), Some(Step::Ask));
        assert_eq!(deadline.due(), Some(Step::Insist));
        assert_eq!((deadline.due(), deadline.remaining()), (None, None));
        assert_eq!(deadline.by, By::Time);
    }

    #[test]
    fn a_second_signal_does_not_wait() {
        let mut deadline = Deadline::new(Patience {
            time: None,
            grace: Duration::from_secs(3600),
        });
        assert_eq!((deadline.due(), deadline.remaining()), (None, None));
        deadline.signalled();
        assert!(deadline.due().is_none() && deadline.remaining() > Some(Duration::from_secs(3000)));
        deadline.signalled();
        assert_eq!(deadline.due(), Some(Step::Insist));
        assert_eq!(deadline.by, By::Signal);
    }
}
