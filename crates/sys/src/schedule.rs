//! When and where a process gets its turn: the processor, the disk, and memory's nodes.

use nix::unistd::Pid;

use crate::error::{Result, check};

/// `struct sched_attr` as Linux 3.14 defined it; later fields are taken as zero by the kernel.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Bytes of this structure. Set by [`set`].
    size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// Nice value, for the policies that have one.
    pub nice: i32,
    /// Static priority, for the real-time policies.
    pub priority: u32,
    /// Nanoseconds, for the deadline policy, as the next two.
    pub runtime: u64,
    /// Nanoseconds.
    pub deadline: u64,
    /// Nanoseconds.
    pub period: u64,
}

/// The policy of what runs when nothing else does (sched(7)). It has no niceness.
pub const IDLE: u32 = libc::SCHED_IDLE as u32;

/// Sets how the kernel schedules a process (sched_setattr(2)).
///
/// # Errors
/// `EINVAL` for values that do not belong together, `EPERM` without CAP_SYS_NICE where that is needed, `EBUSY` where the
/// deadline cannot be promised.
pub fn set(pid: Pid, attributes: Attributes) -> Result<()> {
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        ..attributes
    };
    // SAFETY: sched_setattr reads `size` bytes of a struct sched_attr, whose first version Attributes is, a live local.
    let outcome = unsafe { libc::syscall(libc::SYS_sched_setattr, pid.as_raw(), &raw const attributes, 0) };
    check(outcome, || format!("sched_setattr({pid}, {attributes:?})")).map(drop)
}

/// Sets the class and priority with which a process reads and writes (ioprio_set(2)).
///
/// # Errors
/// `EINVAL` for a priority that there is not, `EPERM` for the real-time class without CAP_SYS_NICE or CAP_SYS_ADMIN.
pub fn set_io_priority(pid: Pid, class: u16, priority: u16) -> Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    let value = libc::c_int::from(class) << 13 | libc::c_int::from(priority);
    // SAFETY: ioprio_set takes three integers.
    let outcome = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, pid.as_raw(), value) };
    check(outcome, || {
        format!("ioprio_set({pid}, class {class}, {priority})")
    })
    .map(drop)
}

/// Sets from which nodes the calling thread gets its memory (set_mempolicy(2)). `nodes` is a bit mask, the first node
/// lowest; empty for modes that take none.
///
/// # Errors
/// `EINVAL` for a mode, flags and nodes that do not belong together, or nodes that there are not; `ENOSYS` on a kernel
/// without NUMA.
pub fn set_memory_policy(mode: i32, nodes: &[u64]) -> Result<()> {
    let (mask, bits) = if nodes.is_empty() {
        (std::ptr::null(), 0)
    } else {
        // The kernel takes one less than it is told (mm/mempolicy.c, get_nodes).
        (nodes.as_ptr(), nodes.len() * 64 + 1)
    };
    // SAFETY: the kernel reads `bits - 1` bits from the mask, which are those of `nodes`, borrowed until the call
    // returns; with no bits it reads nothing.
    let outcome = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) };
    check(outcome, || format!("set_mempolicy({mode:#x}, {nodes:x?})")).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_gets_the_policy_that_was_set_and_nonsense_is_refused() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_raw(child.id() as i32);
        let batch = Attributes {
            policy: libc::SCHED_BATCH as u32,
            nice: 5,
            ..Attributes::default()
        };
        set(pid, batch).unwrap();
        set_io_priority(pid, 2, 7).unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        // Fields 19 and 41 of proc_pid_stat(5), the first here being the third there.
        assert_eq!((fields[16], fields[38]), ("5", "3"));
        let unknown = Attributes { policy: 77, ..batch };
        assert_eq!(set(pid, unknown).unwrap_err().errno, nix::errno::Errno::EINVAL);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
