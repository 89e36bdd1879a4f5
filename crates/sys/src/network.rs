//! Network interfaces (netdevice(7)).

use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::error::{CallError, Result, check};

/// Brings up `lo` of the network namespace that this process is in. It is there from the beginning, and down.
///
/// # Errors
/// `EPERM` without CAP_NET_ADMIN over the network namespace.
pub fn raise_loopback() -> Result<()> {
    let control = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .map_err(|errno| CallError::new("socket(AF_INET)", errno))?;
    let mut name: [libc::c_char; libc::IFNAMSIZ] = [0; libc::IFNAMSIZ];
    name[0] = b'l' as libc::c_char;
    name[1] = b'o' as libc::c_char;
    let mut request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: 0 },
    };
    // SAFETY: SIOCGIFFLAGS reads the name, which ends with a zero, and writes the flags, both inside of one struct
    // ifreq, which the pointer leads to: a live local of that type.
    let outcome = unsafe { libc::ioctl(control.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) };
    check(outcome.into(), || "ioctl(SIOCGIFFLAGS, lo)".to_owned())?;
    // SAFETY: the call above succeeded, so that the flags are the member that was written last; every value of an
    // integer is one of it.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    // IFF_UP is bit 0: it fits.
    request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads name and flags from the same live local, and writes nothing.
    let outcome = unsafe { libc::ioctl(control.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    check(outcome.into(), || "ioctl(SIOCSIFFLAGS, lo, IFF_UP)".to_owned()).map(drop)
}
