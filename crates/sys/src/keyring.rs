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

/// The serial number of the calling thread's session keyring, without making one (keyctl_get_keyring_ID(3)).
///
/// # Errors
/// `ENOKEY` if it has none, `ENOSYS` on a kernel without keyrings.
pub fn session() -> Result<i64> {
    const GET_KEYRING_ID: libc::c_long = 0;
    const SESSION: libc::c_long = -3; // KEY_SPEC_SESSION_KEYRING
    // SAFETY: keyctl(KEYCTL_GET_KEYRING_ID) takes integers alone.
    let outcome = unsafe { libc::syscall(libc::SYS_keyctl, GET_KEYRING_ID, SESSION, 0) };
    check(outcome, || "keyctl(KEYCTL_GET_KEYRING_ID, session)".to_owned())
}

/// What the kernel says of a key: `type;uid;gid;permissions;description` (keyctl_describe(3)).
///
/// # Errors
/// `EACCES` if it may not be looked at, `ENOKEY` if it is gone.
pub fn describe(key: i64) -> Result<String> {
    const DESCRIBE: libc::c_long = 6;
    let mut buffer = [0_u8; 512];
    // SAFETY: keyctl(KEYCTL_DESCRIBE) writes at most the number of bytes passed to the buffer, a live local of that
    // length, and answers how many it would have written.
    let outcome =
        unsafe { libc::syscall(libc::SYS_keyctl, DESCRIBE, key, buffer.as_mut_ptr(), buffer.len()) };
    let length = check(outcome, || format!("keyctl(KEYCTL_DESCRIBE, {key})"))?;
    let length = usize::try_from(length).unwrap_or(0).min(buffer.len());
    let text = String::from_utf8_lossy(&buffer[..length]);
    Ok(text.trim_end_matches('\0').to_owned())
}

/// How many keys are linked in a keyring (keyctl_read(3)).
///
/// # Errors
/// `EACCES` if it may not be read.
pub fn count(keyring: i64) -> Result<u64> {
    const READ: libc::c_long = 11;
    // SAFETY: keyctl(KEYCTL_READ) with no buffer writes nothing, and answers how many bytes there are to read.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            READ,
            keyring,
            std::ptr::null_mut::<u8>(),
            0_usize,
        )
    };
    let bytes = check(outcome, || format!("keyctl(KEYCTL_READ, {keyring})"))?;
    // Each key is one serial number of four bytes.
    Ok(bytes.unsigned_abs() / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_session_keyring_has_its_name_and_nothing_in_it() {
        // Of this thread alone: the keyring of the others stays what it is.
        std::thread::spawn(|| match join_new_session(c"gabion-test-session") {
            Ok(serial) => {
                assert_eq!(session().unwrap(), serial);
                assert!(
                    describe(serial).unwrap().starts_with("keyring;"),
                    "{}",
                    describe(serial).unwrap()
                );
                assert!(describe(serial).unwrap().ends_with(";gabion-test-session"));
                assert_eq!(count(serial).unwrap(), 0);
            }
            Err(error) => assert_eq!(error.errno, nix::errno::Errno::ENOSYS, "{error}"),
        })
        .join()
        .unwrap();
    }
}
