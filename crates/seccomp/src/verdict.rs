//! What a filter answers: the kernel's `SECCOMP_RET_*` values.

/// The answer to one system call, strictest first: `a < b` if the kernel prefers `a` among stacked filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// The process dies. Also the meaning of an action that the kernel does not know.
    KillProcess,
    /// The thread dies.
    KillThread,
    /// SIGSYS, with this number in `si_errno`.
    Trap(u16),
    /// The call fails with this errno; 0 makes it look as if it had succeeded.
    Errno(u16),
    /// Whoever holds the listener decides.
    Notify,
    /// A tracer decides and is given this number.
    Trace(u16),
    /// Made, and recorded.
    Log,
    /// Made.
    Allow,
}

/// The part of a filter's answer that is the action (`SECCOMP_RET_ACTION_FULL`).
pub(crate) const ACTION: u32 = 0xffff_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const KILL_THREAD: u32 = 0x0000_0000;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
const USER_NOTIF: u32 = 0x7fc0_0000;
const TRACE: u32 = 0x7ff0_0000;
const LOG: u32 = 0x7ffc_0000;
const ALLOW: u32 = 0x7fff_0000;

impl Verdict {
    /// As a filter returns it.
    pub fn encode(self) -> u32 {
        match self {
            Verdict::KillProcess => KILL_PROCESS,
            Verdict::KillThread => KILL_THREAD,
            Verdict::Trap(data) => TRAP | u32::from(data),
            Verdict::Errno(errno) => ERRNO | u32::from(errno),
            Verdict::Notify => USER_NOTIF,
            Verdict::Trace(data) => TRACE | u32::from(data),
            Verdict::Log => LOG,
            Verdict::Allow => ALLOW,
        }
    }

    /// From what a filter returned. The kernel kills the process for an action that it does not know.
    pub fn decode(returned: u32) -> Verdict {
        let [_, _, high, low] = returned.to_be_bytes();
        let data = u16::from_be_bytes([high, low]);
        match returned & ACTION {
            KILL_THREAD => Verdict::KillThread,
            TRAP => Verdict::Trap(data),
            // The kernel clamps to MAX_ERRNO.
            ERRNO => Verdict::Errno(data.min(4095)),
            USER_NOTIF => Verdict::Notify,
            TRACE => Verdict::Trace(data),
            LOG => Verdict::Log,
            ALLOW => Verdict::Allow,
            _ => Verdict::KillProcess,
        }
    }

    /// True if the call is made without anybody being asked.
    pub fn lets_through(self) -> bool {
        matches!(self, Verdict::Allow | Verdict::Log)
    }
}

/// The rank that the kernel compares: the action as a signed number, so that `KILL_PROCESS` is below all others.
pub(crate) fn rank(returned: u32) -> i32 {
    (returned & ACTION).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_encoded_is_the_answer_decoded_and_ranks_as_the_kernel_ranks_it() {
        let strictest_first = [
            Verdict::KillProcess,
            Verdict::KillThread,
            Verdict::Trap(7),
            Verdict::Errno(97),
            Verdict::Notify,
            Verdict::Trace(1),
            Verdict::Log,
            Verdict::Allow,
        ];
        for pair in strictest_first.windows(2) {
            assert!(
                rank(pair[0].encode()) < rank(pair[1].encode()) && pair[0] < pair[1],
                "{pair:?}"
            );
        }
        for verdict in strictest_first {
            assert_eq!(Verdict::decode(verdict.encode()), verdict);
        }
    }

    #[test]
    fn an_unknown_action_kills_and_an_errno_is_clamped() {
        assert_eq!(Verdict::decode(0x1234_0000), Verdict::KillProcess);
        assert_eq!(Verdict::decode(0x0005_ffff), Verdict::Errno(4095));
    }
}
