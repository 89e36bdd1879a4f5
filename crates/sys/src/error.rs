//! An error that remembers which call failed, on what.

use nix::errno::Errno;

/// The result of a system call.
pub type Result<T> = std::result::Result<T, CallError>;

/// A system call that the kernel refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call}: {}", .errno.desc())]
pub struct CallError {
    /// The call with its arguments, as strace would show it.
    pub call: String,
    /// What the kernel answered.
    pub errno: Errno,
}

/// The errno of the last call, with the call's name and arguments.
pub(crate) fn failed(call: impl Into<String>) -> CallError {
    CallError {
        call: call.into(),
        errno: Errno::last(),
    }
}

/// Turns the kernel's -1 into an error; the text is made only then.
pub(crate) fn check(outcome: libc::c_long, call: impl FnOnce() -> String) -> Result<libc::c_long> {
    if outcome == -1 {
        Err(failed(call()))
    } else {
        Ok(outcome)
    }
}

impl CallError {
    /// An error of a call that nix made, with its arguments.
    pub fn new(call: impl Into<String>, errno: Errno) -> Self {
        CallError {
            call: call.into(),
            errno,
        }
    }
}
