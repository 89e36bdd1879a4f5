//! Loading filters, and asking the kernel about them (seccomp(2)).

use crate::error::{Result, check};

/// One instruction of classic BPF, in the kernel's layout (`struct sock_filter`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// What it does.
    pub code: u16,
    /// How far to jump if true.
    pub jt: u8,
    /// How far to jump if false.
    pub jf: u8,
    /// Its operand.
    pub k: u32,
}

/// `SECCOMP_FILTER_FLAG_NEW_LISTENER` (linux/seccomp.h).
pub const NEW_LISTENER: u64 = 1 << 3;

/// Installs a filter on the calling thread: from here on, every system call passes it, and nothing takes it
/// off again.
///
/// `flags` are `SECCOMP_FILTER_FLAG_*`. With `SECCOMP_FILTER_FLAG_NEW_LISTENER` the answer is the listener's
/// descriptor, otherwise 0.
///
/// # Errors
/// `EACCES` without no_new_privs and without CAP_SYS_ADMIN, `EINVAL` for a filter that the kernel's checker
/// refuses or that is longer than 4096 instructions.
pub fn install(program: &[Instruction], flags: u64) -> Result<i64> {
    const SECCOMP_SET_MODE_FILTER: libc::c_uint = 1;
    #[repr(C)]
    struct Program {
        length: u16,
        instructions: *const Instruction,
    }
    let length = u16::try_from(program.len())
        .map_err(|_| crate::CallError::new("seccomp(SET_MODE_FILTER)", nix::errno::Errno::E2BIG))?;
    let argument = Program {
        length,
        instructions: program.as_ptr(),
    };
    // SAFETY: seccomp reads a struct sock_fprog, whose layout Program has, and through it `length`
    // instructions, whose layout Instruction has; both live until the call returns, and the kernel copies.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const argument,
        )
    };
    check(outcome, || {
        format!(
            "seccomp(SET_MODE_FILTER, {flags:#x}, {} instructions)",
            program.len()
        )
    })
}

/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV` (linux/seccomp.h): a call that a listener has taken can be interrupted by a
/// fatal signal only.
pub const WAIT_KILLABLE: u64 = 1 << 5;

/// True if the kernel knows all of these `SECCOMP_FILTER_FLAG_*` and lets them stand together. Nothing is loaded.
pub fn knows_flags(flags: u64) -> bool {
    const SECCOMP_SET_MODE_FILTER: libc::c_uint = 1;
    // The call takes 32 bits and would not see others.
    let Ok(flags) = libc::c_uint::try_from(flags) else {
        return false;
    };
    // SAFETY: flags are looked at first; then the kernel would read a struct sock_fprog, and a null pointer is no
    // address of one: EFAULT, whatever the memory of this process.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SECCOMP_SET_MODE_FILTER,
            flags,
            std::ptr::null::<libc::c_void>(),
        )
    };
    outcome == -1 && nix::errno::Errno::last() == nix::errno::Errno::EFAULT
}

/// The seccomp mode of the calling thread: 0 none, 2 filter (prctl(2), `PR_GET_SECCOMP`).
///
/// # Errors
/// `EINVAL` on a kernel without seccomp. A filter that forbids prctl(2) answers in its own way.
pub fn mode() -> Result<i64> {
    // SAFETY: PR_GET_SECCOMP takes no further argument and touches no memory.
    let outcome = unsafe { libc::prctl(libc::PR_GET_SECCOMP, 0, 0, 0, 0) };
    check(outcome.into(), || "prctl(PR_GET_SECCOMP)".to_owned())
}

/// System calls that [`probe`] will make: none of them reads or writes this process' memory if every
/// argument that is a pointer is null, and none has an effect that outlives this process or is worth undoing: a process
/// in which one of them goes through has no filter as it should, and ends.
const PROBES: &[i64] = &[
    libc::SYS_socket,
    libc::SYS_ioctl,
    libc::SYS_mount,
    libc::SYS_clone3,
    libc::SYS_setns,
    libc::SYS_init_module,
    libc::SYS_open_by_handle_at,
    libc::SYS_ptrace,
    libc::SYS_vmsplice,
    libc::SYS_memfd_secret,
    libc::SYS_fanotify_init,
    libc::SYS_name_to_handle_at,
    libc::SYS_io_uring_setup,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_unshare,
    libc::SYS_kexec_load,
    libc::SYS_socketpair,
    libc::SYS_personality,
    libc::SYS_futex,
    libc::SYS_swapon,
    libc::SYS_quotactl,
    libc::SYS_clock_settime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    600,
];

/// True if [`probe`] may make this call.
pub fn can_probe(number: i64) -> bool {
    PROBES.contains(&number)
}

/// Makes a system call that a filter is expected to deny, to see that it does; gives the errno.
///
/// # Errors
/// The errno is the expected outcome, so it is in the `Ok`; `Ok(None)` means that the call went through.
/// `EINVAL` in `Err` is for a number that [`can_probe`] does not know.
pub fn probe(number: i64, arguments: [u64; 6]) -> Result<Option<nix::errno::Errno>> {
    if !can_probe(number) {
        return Err(crate::CallError::new(
            format!("probe({number})"),
            nix::errno::Errno::EINVAL,
        ));
    }
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the number is one of PROBES. Each of these takes integers, or pointers that the kernel checks
    // and answers with EFAULT when they are null or wild; none lets the kernel write to an address that was
    // not passed, and the addresses passed are the small constants of the canary list.
    let outcome = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    Ok((outcome == -1).then(nix::errno::Errno::last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_known_or_not() {
        assert!(knows_flags(0) && knows_flags(NEW_LISTENER));
        assert!(!knows_flags(1 << 40));
    }

    #[test]
    fn only_harmless_calls_can_be_probed() {
        assert!(can_probe(libc::SYS_socket) && !can_probe(libc::SYS_munmap) && !can_probe(335));
        assert!(probe(libc::SYS_munmap, [0; 6]).is_err());
        assert_eq!(probe(600, [0; 6]).unwrap(), Some(nix::errno::Errno::ENOSYS));
    }
}
