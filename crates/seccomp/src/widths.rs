//! Which arguments of which system calls the kernel takes as 32 bits.
//!
//! A filter sees whole registers. The kernel takes an `int` or `unsigned int` parameter from the low half and does
//! not look at the high one, so a rule "the first argument of socket(2) is not 38" that compares 64 bits lets
//! socket(0x1_0000_0026, …) pass, and the kernel makes an AF_ALG socket of it. Here such parameters are compared
//! on their low half, for every operator.
//!
//! The table has the calls that profiles put conditions on, and others where it would matter. An argument that is
//! not in it is compared on 64 bits: right for a `long`, a pointer or a size, and too strict for an `int` under a
//! rule that allows one value. A call whose `int` parameters a profile compares belongs here.
//!
//! Widths are those of the kernel's `SYSCALL_DEFINE`s, not of the C library's prototypes: ioctl(2) takes an
//! `unsigned int` command. clone(2) takes a `long`, of which the kernel keeps the low half.

/// Calls and their parameters: `i` for one of 32 bits, `l` for one of 64.
const WIDTHS: &[(&str, &str)] = &[
    ("accept", "ill"),
    ("accept4", "illi"),
    ("add_key", "lllli"),
    ("arch_prctl", "il"),
    ("bind", "ili"),
    ("bpf", "ili"),
    ("clock_adjtime", "il"),
    ("clock_settime", "il"),
    ("clone", "i"),
    ("close_range", "iii"),
    ("connect", "ili"),
    ("epoll_create1", "i"),
    ("eventfd2", "ii"),
    ("execveat", "illli"),
    ("fallocate", "iill"),
    ("fanotify_init", "ii"),
    ("fchmodat", "ili"),
    ("fcntl", "iil"),
    ("finit_module", "ili"),
    ("flock", "ii"),
    ("fsconfig", "iilli"),
    ("fsmount", "iii"),
    ("fsopen", "li"),
    ("fspick", "ili"),
    ("futex", "liilli"),
    ("getrandom", "lli"),
    ("getsockopt", "iiill"),
    ("inotify_init1", "i"),
    ("io_uring_enter", "iiiill"),
    ("io_uring_register", "iili"),
    ("io_uring_setup", "il"),
    ("ioctl", "iil"),
    ("ioperm", "lli"),
    ("iopl", "i"),
    ("ioprio_set", "iii"),
    ("ipc", "iillll"),
    ("kcmp", "iiill"),
    ("keyctl", "illll"),
    ("kill", "ii"),
    ("landlock_create_ruleset", "lli"),
    ("landlock_restrict_self", "ii"),
    ("listen", "ii"),
    ("madvise", "lli"),
    ("membarrier", "iii"),
    ("memfd_create", "li"),
    ("memfd_secret", "i"),
    ("mknod", "lii"),
    ("mknodat", "ilii"),
    ("modify_ldt", "ill"),
    ("mount_setattr", "ilill"),
    ("move_mount", "ilili"),
    ("name_to_handle_at", "illli"),
    ("open", "lii"),
    ("open_by_handle_at", "ili"),
    ("open_tree", "ili"),
    ("openat", "ilii"),
    ("perf_event_open", "liiil"),
    ("personality", "i"),
    ("pidfd_getfd", "iii"),
    ("pidfd_open", "ii"),
    ("pidfd_send_signal", "iili"),
    ("pipe2", "li"),
    ("prctl", "illll"),
    ("prlimit64", "iill"),
    ("process_madvise", "illii"),
    ("quotactl", "ilil"),
    ("quotactl_fd", "iiil"),
    ("reboot", "iiil"),
    ("recvfrom", "illill"),
    ("recvmsg", "ili"),
    ("renameat2", "ilili"),
    ("request_key", "llli"),
    ("rt_sigqueueinfo", "iil"),
    ("rt_tgsigqueueinfo", "iiil"),
    ("sched_setattr", "ili"),
    ("sched_setscheduler", "iil"),
    ("seccomp", "iil"),
    ("semctl", "iiil"),
    ("sendmsg", "ili"),
    ("sendto", "illili"),
    ("setns", "ii"),
    ("setpriority", "iii"),
    ("setrlimit", "il"),
    ("setsockopt", "iiili"),
    ("shmctl", "iil"),
    ("shutdown", "ii"),
    ("signalfd4", "illi"),
    ("socket", "iii"),
    ("socketcall", "il"),
    ("socketpair", "iiil"),
    ("splice", "ililli"),
    ("statx", "iliil"),
    ("syslog", "ili"),
    ("tgkill", "iii"),
    ("timerfd_create", "ii"),
    ("tkill", "ii"),
    ("umount2", "li"),
    ("userfaultfd", "i"),
    ("vmsplice", "illi"),
    ("wait4", "ilil"),
    ("waitid", "iilil"),
];

/// True if the kernel takes this argument of this call from the low half of the register.
pub(crate) fn is_narrow(name: &str, argument: u32) -> bool {
    let Ok(position) = WIDTHS.binary_search_by(|(call, _)| (*call).cmp(name)) else {
        return false;
    };
    let parameters = WIDTHS.get(position).map_or("", |(_, parameters)| *parameters);
    usize::try_from(argument).is_ok_and(|argument| parameters.as_bytes().get(argument) == Some(&b'i'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::Abi;
    use crate::syscalls::{Resolved, resolve};

    #[test]
    fn the_table_is_sorted_and_about_calls_that_exist() {
        assert!(WIDTHS.is_sorted_by(|a, b| a.0 < b.0));
        for (name, parameters) in WIDTHS {
            assert_ne!(resolve(name, Abi::X86_64), Resolved::Unknown, "{name}");
            assert!(
                parameters.chars().all(|width| matches!(width, 'i' | 'l')),
                "{name}"
            );
        }
    }

    #[test]
    fn ints_are_narrow_and_everything_else_is_wide() {
        assert!(is_narrow("socket", 0) && is_narrow("socket", 2) && !is_narrow("socket", 3));
        assert!(is_narrow("ioctl", 1) && !is_narrow("ioctl", 2));
        assert!(is_narrow("clone", 0) && !is_narrow("clone", 1));
        assert!(!is_narrow("unshare", 0), "a long that the kernel checks whole");
        assert!(!is_narrow("frobnicate", 0) && !is_narrow("socket", u32::MAX));
    }
}
