//! Replacing the program, prepared so that nothing is allocated at the last moment.

use std::ffi::CString;
use std::ptr;

use crate::error::{CallError, failed};

/// A program with its arguments and environment, ready for execve(2).
///
/// Everything the call needs is laid out when this is made: between the loading of a seccomp filter and the
/// call itself, no memory is asked of the kernel, so that a filter need allow no more than `execve`.
#[derive(Debug)]
pub struct Program {
    path: CString,
    argument_pointers: Vec<*const libc::c_char>,
    environment_pointers: Vec<*const libc::c_char>,
    // The pointers above lead into these; they are never touched again.
    _arguments: Vec<CString>,
    _environment: Vec<CString>,
}

impl Program {
    /// Lays out the call.
    pub fn new(path: CString, arguments: Vec<CString>, environment: Vec<CString>) -> Self {
        let pointers = |strings: &[CString]| {
            strings
                .iter()
                .map(|s| s.as_ptr())
                .chain(std::iter::once(ptr::null()))
                .collect()
        };
        Program {
            path,
            argument_pointers: pointers(&arguments),
            environment_pointers: pointers(&environment),
            _arguments: arguments,
            _environment: environment,
        }
    }

    /// Replaces the calling program. Returns only if the kernel refused.
    #[must_use]
    pub fn execute(&self) -> CallError {
        // SAFETY: path is NUL-terminated; both arrays end with a null pointer (made so in `new`), and each
        // other element leads into a CString that self owns and has not moved: a CString's bytes are on the
        // heap and stay where they are when the Vec that holds it moves.
        unsafe {
            libc::execve(
                self.path.as_ptr(),
                self.argument_pointers.as_ptr(),
                self.environment_pointers.as_ptr(),
            )
        };
        failed(format!("execve({:?})", self.path))
    }
}
