//! The listener's side of a seccomp filter: calls that wait, and letting them go on (seccomp_unotify(2)).

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

use crate::error::{CallError, Result};

/// A call that waits for the listener, as the kernel saw it when it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// What the answer has to name.
    pub id: u64,
    /// The thread that made it, in the pid namespace of whoever reads this.
    pub thread: i32,
    /// The call's number.
    pub number: i32,
    /// `AUDIT_ARCH_*`: which table the number is from.
    pub architecture: u32,
    /// All six argument registers, whether the call has so many or not.
    pub arguments: [u64; 6],
}

/// `struct seccomp_data`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    nr: i32,
    arch: u32,
    instruction_pointer: u64,
    args: [u64; 6],
}

/// `struct seccomp_notif`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Notification {
    id: u64,
    pid: u32,
    flags: u32,
    data: Data,
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// `SECCOMP_USER_NOTIF_FLAG_CONTINUE` (Linux 5.5).
const CONTINUE: u32 = 1;
/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP` (Linux 6.6).
const SYNC_WAKE_UP: u64 = 1;

mod raw {
    use super::{Notification, Response};
    nix::ioctl_readwrite!(receive, b'!', 0, Notification);
    nix::ioctl_readwrite!(send, b'!', 1, Response);
    // The kernel takes the flags in the place of a pointer.
    nix::ioctl_write_int_bad!(set_flags, nix::request_code_write!(b'!', 4, 8));
}

/// Takes the next call that waits. It blocks until there is one; poll(2) tells when it would not, and with POLLHUP that
/// there will be none any more.
///
/// `Ok(None)` if the one that woke this process has gone meanwhile: its thread was killed, or a signal interrupted it.
///
/// # Errors
/// What ioctl(2) answers.
pub fn receive(listener: impl AsFd) -> Result<Option<Waiting>> {
    // The kernel insists on zeroes.
    let mut notification = Notification::default();
    let number = listener.as_fd().as_raw_fd();
    // SAFETY: the request writes one struct seccomp_notif, whose layout Notification has and whose size is part of the
    // request's number, to a local that lives until the call returns.
    match unsafe { raw::receive(number, &raw mut notification) } {
        Ok(_) => Ok(Some(Waiting {
            id: notification.id,
            thread: notification.pid.cast_signed(),
            number: notification.data.nr,
            architecture: notification.data.arch,
            arguments: notification.data.args,
        })),
        Err(Errno::ENOENT | Errno::EINTR) => Ok(None),
        Err(errno) => Err(CallError::new("ioctl(SECCOMP_IOCTL_NOTIF_RECV)", errno)),
    }
}

/// Lets a call go on, as if nobody had been asked.
///
/// This decides nothing: other threads may change what the call's pointers point to, after anybody has looked. A filter
/// that has to hold has to deny by itself.
///
/// # Errors
/// What ioctl(2) answers, but for a call that has gone meanwhile.
pub fn go_on(listener: impl AsFd, id: u64) -> Result<()> {
    let mut response = Response {
        id,
        value: 0,
        error: 0,
        flags: CONTINUE,
    };
    let number = listener.as_fd().as_raw_fd();
    // SAFETY: the request reads one struct seccomp_notif_resp, whose layout Response has and whose size is part of the
    // request's number, from a local that lives until the call returns.
    match unsafe { raw::send(number, &raw mut response) } {
        Ok(_) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(CallError::new("ioctl(SECCOMP_IOCTL_NOTIF_SEND)", errno)),
    }
}

/// Has the listener and the calls that wait for it run on one processor, as each waits for the other. False where the
/// kernel is too old for it.
pub fn wake_on_one_processor(listener: impl AsFd) -> bool {
    let number = listener.as_fd().as_raw_fd();
    // SAFETY: the request takes an integer and no pointer; the descriptor is open while `listener` is borrowed.
    unsafe { raw::set_flags(number, SYNC_WAKE_UP as _) }.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!(size_of::<Notification>(), 80);
        assert_eq!(size_of::<Response>(), 24);
    }
}
