//! The session keyring (session-keyring(7)).

use std::ffi::CStr;

use crate::error::{Result, check};

/// `KEYCTL_JOIN_SESSION_KEYRING` of linux/keyctl.h.
const JOIN_SESSION: libc::c_long = 1;

/// Leaves the inherited session keyring for a new one with this name, and gives its serial number.
///
/// Without it, a container shares the session keyring, and the keys in it, of whoever called the runtime.
///
/// # Errors
/// `ENOSYS` on a kernel without keyrings, `EDQUOT` where the user's quota is used up.
pub fn join_new_session(name: &CStr) -> Result<i64> {
    // SAFETY: keyctl(KEYCTL_JOIN_SESSION_KEYRING) reads a NUL-terminated name, which CStr guarantees, and
    // writes nothing.
    let outcome = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION, name.as_ptr()) };
    check(outcome, || {
        format!("keyctl(KEYCTL_JOIN_SESSION_KEYRING, {name:?})")
    })
}
