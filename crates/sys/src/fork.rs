//! Making a process that runs our own code.

use std::os::fd::{AsRawFd, BorrowedFd};

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

/// The members of `struct clone_args` up to `cgroup` (clone3(2); Linux 5.7 has them all).
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
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// As [`fork`], but the new process begins its life in a cgroup of version 2 (clone3(2), `CLONE_INTO_CGROUP`,
/// Linux 5.7). Joining one later makes the kernel wait for a grace period of RCU: some ten milliseconds.
///
/// `child` is told whether it is there. Where the kernel refuses (a threaded cgroup, one whose processes have to be in
/// those below it, no right to write to it), it is an ordinary fork, and the process has to join by itself.
///
/// # Preconditions
/// As [`fork`].
///
/// # Errors
/// [`ForkError`].
pub fn fork_into(
    cgroup: BorrowedFd<'_>,
    child: impl FnOnce(bool) -> i32,
) -> std::result::Result<Pid, ForkError> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(usize::MAX, Iterator::count);
    if threads != 1 {
        return Err(ForkError::Threads(threads));
    }
    let arguments = Arguments {
        flags: CLONE_INTO_CGROUP,
        exit_signal: libc::SIGCHLD as u64,
        cgroup: u64::from(cgroup.as_raw_fd().unsigned_abs()),
        ..Arguments::default()
    };
    // SAFETY: clone3 reads `size` bytes of a struct clone_args, whose first eleven members Arguments has; the
    // descriptor is open while `cgroup` is borrowed. Without CLONE_VM and with no stack given, the child goes on with a
    // copy of this one's memory, as after fork. This process has one thread (counted just above), so no lock is held by
    // another; the C library keeps no process id of its own to go stale.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<Arguments>()) } {
        -1 => fork(|| child(false)),
        0 => {
            let status = child(true);
            // SAFETY: _exit has no preconditions; see fork.
            unsafe { libc::_exit(status) }
        }
        pid => Ok(Pid::from_raw(pid as i32)),
    }
}

/// `CLONE_INTO_CGROUP` of linux/sched.h, which the C library's type of flags is too narrow for.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// As [`fork`], but the new process is a child of this one's parent (clone3(2), `CLONE_PARENT`): this one can end,
/// and the parent waits for it. Its id is in this process' own pid namespace.
///
/// # Preconditions
/// As [`fork`].
///
/// # Errors
/// [`ForkError`].
pub fn fork_sibling(child: impl FnOnce() -> i32) -> std::result::Result<Pid, ForkError> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads != 1 {
        return Err(ForkError::Threads(threads));
    }
    // With CLONE_PARENT the exit signal must be 0; the kernel gives the child that of this process.
    let arguments = Arguments {
        flags: libc::CLONE_PARENT as u64,
        ..Arguments::default()
    };
    // SAFETY: clone3 reads `size` bytes of a struct clone_args, whose first members Arguments has. Without
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
