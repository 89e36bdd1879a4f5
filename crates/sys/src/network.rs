//! Network interfaces (netdevice(7)).

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::error::{CallError, Result, check};

/// Brings up `lo` of the network namespace that this process is in. It is there from the beginning, and down.
///
/// # Errors
/// `EPERM` without CAP_NET_ADMIN over the network namespace.
pub fn raise_loopback() -> Result<()> {
    let control = control()?;
    let mut request = libc::ifreq {
        ifr_name: name_of("lo")?,
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

/// Changes the broadcast address of an interface's only IPv4 address, in the network namespace that this process is in.
/// Without one it is taken away.
///
/// # Errors
/// `EADDRNOTAVAIL` for an interface without an IPv4 address, `ENODEV` for one that is not there, `EPERM` without
/// CAP_NET_ADMIN over the network namespace.
pub fn set_broadcast(interface: &str, address: Option<Ipv4Addr>) -> Result<()> {
    let control = control()?;
    let mut broadcast = libc::sockaddr {
        sa_family: libc::AF_INET as libc::sa_family_t,
        sa_data: [0; 14],
    };
    // After the port, as in struct sockaddr_in (ip(7)); both have the bytes in their order on the wire.
    let octets = address.unwrap_or(Ipv4Addr::UNSPECIFIED).octets();
    for (place, octet) in broadcast.sa_data[2..].iter_mut().zip(octets) {
        *place = octet as libc::c_char;
    }
    let request = libc::ifreq {
        ifr_name: name_of(interface)?,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_broadaddr: broadcast,
        },
    };
    // SAFETY: SIOCSIFBRDADDR reads the name, which ends with a zero, and the address from one struct ifreq, which the
    // pointer leads to: a live local of that type, in which the address is the member that was written. It writes nothing.
    let outcome = unsafe { libc::ioctl(control.as_raw_fd(), libc::SIOCSIFBRDADDR, &raw const request) };
    check(outcome.into(), || {
        format!("ioctl(SIOCSIFBRDADDR, {interface:?}, {address:?})")
    })
    .map(drop)
}

/// A socket to ask through.
fn control() -> Result<OwnedFd> {
    socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .map_err(|errno| CallError::new("socket(AF_INET)", errno))
}

/// An interface's name as the kernel takes it: with a zero at the end.
fn name_of(interface: &str) -> Result<[libc::c_char; libc::IFNAMSIZ]> {
    let mut name: [libc::c_char; libc::IFNAMSIZ] = [0; libc::IFNAMSIZ];
    if interface.len() >= name.len() {
        return Err(CallError::new(
            format!("name of an interface {interface:?}"),
            Errno::ENAMETOOLONG,
        ));
    }
    for (place, byte) in name.iter_mut().zip(interface.bytes()) {
        *place = byte as libc::c_char;
    }
    Ok(name)
}
