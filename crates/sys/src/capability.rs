//! Capability sets as the kernel holds them: bit masks (capabilities(7)).
//!
//! The descent *sets* capabilities through the `caps` crate and *verifies* them through this module, so that
//! one mistake cannot hide in both.

use crate::error::{Result, check};

/// The five sets of the calling thread, one bit a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct CapabilitySets {
    /// What may ever be gained at execve.
    pub bounding: u64,
    /// What the kernel checks.
    pub effective: u64,
    /// What survives execve of a file with inheritable capabilities.
    pub inheritable: u64,
    /// What may be made effective.
    pub permitted: u64,
    /// What survives execve for a user that is not root.
    pub ambient: u64,
}

/// `_LINUX_CAPABILITY_VERSION_3`: two 32-bit words for each set.
const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Words {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Reads the sets of the calling thread: capget(2), and prctl(2) for the bounding and ambient sets.
///
/// The kernel is asked for each capability up to the first that it does not know.
///
/// # Errors
/// None is known on a kernel of the last ten years; whatever comes is returned.
pub fn read() -> Result<CapabilitySets> {
    let mut header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let mut words = [Words::default(); 2];
    // SAFETY: capget reads one header and, for version 3, writes exactly two Words structures; both are live
    // locals with the kernel's layout (three u32 each, `struct __user_cap_data_struct`).
    let outcome = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, words.as_mut_ptr()) };
    check(outcome, || "capget(self)".to_owned())?;
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let mut sets = CapabilitySets {
        effective: join(words[0].effective, words[1].effective),
        permitted: join(words[0].permitted, words[1].permitted),
        inheritable: join(words[0].inheritable, words[1].inheritable),
        ..CapabilitySets::default()
    };
    for capability in 0..64_u32 {
        match prctl(libc::PR_CAPBSET_READ, capability.into(), 0) {
            Ok(0) => {}
            Ok(_) => sets.bounding |= 1 << capability,
            Err(error) if error.errno == nix::errno::Errno::EINVAL => break,
            Err(error) => return Err(error),
        }
        if prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_IS_SET as libc::c_ulong,
            capability.into(),
        )? != 0
        {
            sets.ambient |= 1 << capability;
        }
    }
    Ok(sets)
}

/// Drops one capability from the bounding set (prctl(2), `PR_CAPBSET_DROP`), known to `caps` or not.
///
/// # Errors
/// `EPERM` without CAP_SETPCAP, `EINVAL` for a capability that the kernel does not have.
pub fn drop_bounding(capability: u32) -> Result<()> {
    prctl(libc::PR_CAPBSET_DROP, capability.into(), 0).map(drop)
}

/// The securebits flags of the calling thread (capabilities(7), "The securebits flags").
///
/// # Errors
/// None is known.
pub fn securebits() -> Result<u32> {
    prctl(libc::PR_GET_SECUREBITS, 0, 0).map(|bits| bits as u32)
}

fn prctl(option: i32, second: libc::c_ulong, third: libc::c_ulong) -> Result<libc::c_long> {
    // SAFETY: the options this module passes take integers alone; no memory of ours is read or written.
    let outcome = unsafe { libc::prctl(option, second, third, 0, 0) };
    check(outcome.into(), || format!("prctl({option}, {second}, {third})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_masks_are_those_of_proc_self_status() {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let mask = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
        };
        let sets = read().unwrap();
        assert_eq!(sets.bounding, mask("CapBnd:"));
        assert_eq!(sets.effective, mask("CapEff:"));
        assert_eq!(sets.permitted, mask("CapPrm:"));
        assert_eq!(sets.inheritable, mask("CapInh:"));
        assert_eq!(sets.ambient, mask("CapAmb:"));
    }
}
