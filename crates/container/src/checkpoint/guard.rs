//! What happens if gabion is killed while CRIU works: a process of its own waits for that.
//!
//! It holds one end of a pipe whose other end only gabion has. If the pipe ends before it is told that all is well,
//! gabion is gone, and it does what gabion would have done.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};

use gabion_sys::process;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::SigSet;
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, pipe2, setsid};

use crate::error::{ContainerError, Result};

/// The process that waits. Dropped without [`Guard::release`], it acts.
#[derive(Debug)]
pub(crate) struct Guard {
    pid: Pid,
    alive: Option<OwnedFd>,
}

impl Guard {
    /// Begins: `act` is what is to be done if this process ends, or drops the guard. `closed` are descriptors whose
    /// other ends are to notice it when this process ends: the guard does not keep them open.
    ///
    /// # Preconditions
    /// One thread.
    ///
    /// # Errors
    /// If there can be no further process.
    pub(crate) fn new(closed: &[i32], act: impl FnOnce()) -> Result<Self> {
        let (watched, alive) = pipe2(OFlag::O_CLOEXEC).map_err(ContainerError::call("pipe2()"))?;
        let number = alive.as_raw_fd();
        let child = || {
            // What ends the caller's process group, or its terminal, is not for this one.
            if let Err(errno) = setsid().and_then(|_| SigSet::all().thread_block()) {
                tracing::warn!(%errno, "the guard may be ended with its caller");
            }
            // The end that is watched must be held by the caller alone.
            for &number in closed.iter().chain([&number]) {
                drop(process::inherited(number));
            }
            let mut word = [0];
            match File::from(watched).read(&mut word) {
                Ok(1) => {}
                _ => act(),
            }
            0
        };
        let pid = gabion_sys::fork::fork(child).map_err(|error| ContainerError::Other(error.to_string()))?;
        Ok(Guard {
            pid,
            alive: Some(alive),
        })
    }

    /// All is well.
    pub(crate) fn release(mut self) {
        if let Some(alive) = &self.alive
            && let Err(errno) = nix::unistd::write(alive, b"1")
        {
            tracing::warn!(%errno, "the process that guards a restore cannot be told that all is well");
        }
        self.end();
    }

    fn end(&mut self) {
        if self.alive.take().is_some()
            && let Err(errno) = waitpid(self.pid, None)
            // Reaped with others that had ended.
            && errno != Errno::ECHILD
        {
            tracing::warn!(%errno, "the guard cannot be waited for");
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.end();
    }
}
