//! Making a process that runs our own code.

use nix::unistd::{ForkResult, Pid};

use crate::error::CallError;

/// Why no process was made.
#[derive(Debug, thiserror::Error)]
pub enum ForkError {
    /// The caller has threads: a lock that one of them holds would stay locked in the child for ever.
    #[error(
        "this process has {0} threads; only a single-threaded one may fork and go on running its own code"
    )]
    Threads(usize),
    /// The kernel refused.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// Forks, runs `child` in the new process, and ends that process with its result as exit status.
///
/// # Preconditions
/// The calling process has one thread. It is checked by counting /proc/self/task, and refused otherwise.
///
/// # Errors
/// [`ForkError`].
pub fn fork(child: impl FnOnce() -> i32) -> std::result::Result<Pid, ForkError> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(usize::MAX, Iterator::count);
    if threads != 1 {
        return Err(ForkError::Threads(threads));
    }
    // SAFETY: fork is unsafe because in a multi-threaded process the child may only make async-signal-safe
    // calls: locks of other threads, the allocator's included, stay as they were. This process has one thread
    // (counted just above; no code of ours makes one from a signal handler), so nothing is held by another.
    match unsafe { nix::unistd::fork() } {
        Ok(ForkResult::Parent { child }) => Ok(child),
        Ok(ForkResult::Child) => {
            let status = child();
            // SAFETY: _exit has no preconditions. It is used instead of exit so that nothing of the parent's
            // (buffers, exit handlers) is flushed or run a second time.
            unsafe { libc::_exit(status) }
        }
        Err(errno) => Err(CallError::new("fork()", errno).into()),
    }
}
