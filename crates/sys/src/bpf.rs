//! Programs of eBPF that guard a cgroup's devices (bpf(2), `BPF_PROG_TYPE_CGROUP_DEVICE`).

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use crate::error::{Result, check};

/// One instruction of eBPF, in the kernel's layout (`struct bpf_insn`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// What it does.
    pub code: u8,
    /// Destination register in the low four bits, source in the high four.
    pub registers: u8,
    /// Offset of a jump or of a memory access.
    pub offset: i16,
    /// Immediate value.
    pub immediate: i32,
}

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_QUERY: libc::c_int = 16;
/// `BPF_PROG_TYPE_CGROUP_DEVICE` (Linux 4.15).
const TYPE_CGROUP_DEVICE: u32 = 15;
/// `BPF_CGROUP_DEVICE`.
const ATTACH_DEVICE: u32 = 6;
/// `BPF_F_ALLOW_MULTI`: programs of the cgroups above, and others attached here, are asked as well, and every one
/// of them can refuse.
const ALLOW_MULTI: u32 = 2;

/// Loads a program that decides about devices. It needs no GPL-only helper.
///
/// # Errors
/// `EPERM` without CAP_BPF (CAP_SYS_ADMIN before Linux 5.8), `EINVAL` or `EACCES` for a program that the verifier
/// refuses, `EPERM` on kernels before 5.11 if `RLIMIT_MEMLOCK` is too low.
pub fn load_device_program(program: &[Instruction]) -> Result<OwnedFd> {
    #[repr(C)]
    struct Load {
        program_type: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buffer: u64,
        kernel_version: u32,
        flags: u32,
    }
    let license: &std::ffi::CStr = c"Apache-2.0";
    let arguments = Load {
        program_type: TYPE_CGROUP_DEVICE,
        count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: bpf(BPF_PROG_LOAD) reads the first `size` bytes of union bpf_attr, whose leading members are those
    // of Load in this order; through it `count` instructions and a NUL-terminated string, all live until it
    // returns. Without a log buffer nothing is written.
    let outcome = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const arguments, size_of::<Load>()) };
    let descriptor = check(outcome, || {
        format!(
            "bpf(BPF_PROG_LOAD, cgroup_device, {} instructions)",
            program.len()
        )
    })?;
    // SAFETY: the kernel just returned it as a new descriptor (always close-on-exec), and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as i32) })
}

/// Attaches a device program to a cgroup of version 2, for as long as the cgroup exists.
///
/// # Errors
/// `EPERM` without CAP_NET_ADMIN, or if a program above forbids others; `EBADF` if it is no cgroup2 directory.
pub fn attach_device_program(cgroup: impl AsFd, program: impl AsFd) -> Result<()> {
    #[repr(C)]
    struct Attach {
        target: u32,
        program: u32,
        attach_type: u32,
        flags: u32,
        replaced: u32,
    }
    let arguments = Attach {
        target: cgroup.as_fd().as_raw_fd() as u32,
        program: program.as_fd().as_raw_fd() as u32,
        attach_type: ATTACH_DEVICE,
        flags: ALLOW_MULTI,
        replaced: 0,
    };
    // SAFETY: bpf(BPF_PROG_ATTACH) reads the leading members of union bpf_attr, which Attach has in this order;
    // both descriptors are open for the whole call.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            PROG_ATTACH,
            &raw const arguments,
            size_of::<Attach>(),
        )
    };
    check(outcome, || "bpf(BPF_PROG_ATTACH, cgroup_device)".to_owned()).map(drop)
}

/// How many device programs are attached to a cgroup itself.
///
/// # Errors
/// As [`attach_device_program`].
pub fn count_device_programs(cgroup: impl AsFd) -> Result<u32> {
    #[repr(C)]
    struct Query {
        target: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        program_ids: u64,
        count: u32,
        padding: u32,
    }
    let mut arguments = Query {
        target: cgroup.as_fd().as_raw_fd() as u32,
        attach_type: ATTACH_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        program_ids: 0,
        count: 0,
        padding: 0,
    };
    // SAFETY: bpf(BPF_PROG_QUERY) reads and writes the leading members of union bpf_attr, which Query has in this
    // order, within the size passed; with no room for ids it writes the count alone.
    let outcome = unsafe { libc::syscall(libc::SYS_bpf, PROG_QUERY, &raw mut arguments, size_of::<Query>()) };
    check(outcome, || "bpf(BPF_PROG_QUERY, cgroup_device)".to_owned())?;
    Ok(arguments.count)
}
