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

/// As [`fork`], but the new process is a child of this one's parent (clone3(2), `CLONE_PARENT`): this one can end,
/// and the parent waits for it. Its id is in this process' own pid namespace.
///
/// # Preconditions
/// As [`fork`].
///
/// # Errors
/// [`ForkError`].
pub fn fork_sibling(child: impl FnOnce() -> i32) -> std::result::Result<Pid, ForkError> {
    #[repr(C)]
    #[derive(Default)]
    struct Arguments {
        flags: u64,
        pidfd: u64,
        child_tid: u64,
        parent_tid: u64,
        exit_signal: u64,
        stack: u64,
        stack_size: u64,
        tls: u64,
    }
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads != 1 {
        return Err(ForkError::Threads(threads));
    }
    // With CLONE_PARENT the exit signal must be 0; the kernel gives the child that of this process.
    let arguments = Arguments {
        flags: libc::CLONE_PARENT as u64,
        ..Arguments::default()
    };
    // SAFETY: clone3 reads `size` bytes of a struct clone_args, whose first eight members Arguments has. Without
    // CLONE_VM and with no stack given, the child goes on with a copy of this one's memory, as after fork. This
    // process has one thread (counted just above, or, where /proc is no longer to be seen, by the caller's
    // precondition), so no lock is held by another; the C library keeps no process id of its own to go stale.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<Arguments>()) } {
        -1 => Err(crate::error::failed("clone3(CLONE_PARENT)").into()),
        0 => {
            let status = child();
            // SAFETY: _exit has no preconditions; see fork.
            unsafe { libc::_exit(status) }
        }
        pid => Ok(Pid::from_raw(pid as i32)),
    }
}
