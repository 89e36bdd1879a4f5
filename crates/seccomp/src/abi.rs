//! The ways into the kernel that a filter tells apart: each has its own numbers for system calls.

use crate::profile::Architecture;

/// A system call interface for which this crate has numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Abi {
    /// x86-64.
    X86_64,
    /// i386, also reachable from a 64-bit program by `int $0x80`.
    X86,
    /// x86-64 with 32-bit pointers. The kernel reports x86-64 for it, and bit 30 in the number.
    X32,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM.
    Arm,
}

/// What x32 adds to its numbers (`__X32_SYSCALL_BIT`).
pub const X32_BIT: u32 = 0x4000_0000;

impl Abi {
    /// Every one of them.
    pub const ALL: [Abi; 5] = [Abi::X86_64, Abi::X86, Abi::X32, Abi::Aarch64, Abi::Arm];

    /// The one that this program was built for.
    pub const NATIVE: Abi = NATIVE;

    /// What the kernel reports in `seccomp_data.arch` (linux/audit.h).
    pub fn audit_architecture(self) -> u32 {
        match self {
            Abi::X86_64 | Abi::X32 => 0xc000_003e,
            Abi::X86 => 0x4000_0003,
            Abi::Aarch64 => 0xc000_00b7,
            Abi::Arm => 0x4000_0028,
        }
    }

    /// The spec's word for it.
    pub fn architecture(self) -> Architecture {
        match self {
            Abi::X86_64 => Architecture::X86_64,
            Abi::X86 => Architecture::X86,
            Abi::X32 => Architecture::X32,
            Abi::Aarch64 => Architecture::Aarch64,
            Abi::Arm => Architecture::Arm,
        }
    }

    /// The others that a kernel of this one may offer.
    pub fn compatible(self) -> &'static [Abi] {
        match self {
            Abi::X86_64 => &[Abi::X86, Abi::X32],
            Abi::Aarch64 => &[Abi::Arm],
            Abi::X86 | Abi::X32 | Abi::Arm => &[],
        }
    }

    /// True if arguments are 32 bits wide: the high half of what a filter sees is always 0.
    pub fn has_narrow_registers(self) -> bool {
        matches!(self, Abi::X86 | Abi::Arm)
    }

    /// What all its numbers have in common.
    pub(crate) fn base(self) -> u32 {
        if self == Abi::X32 { X32_BIT } else { 0 }
    }
}

#[cfg(target_arch = "x86_64")]
const NATIVE: Abi = Abi::X86_64;
#[cfg(target_arch = "x86")]
const NATIVE: Abi = Abi::X86;
#[cfg(target_arch = "aarch64")]
const NATIVE: Abi = Abi::Aarch64;
#[cfg(target_arch = "arm")]
const NATIVE: Abi = Abi::Arm;
#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "x86",
    target_arch = "aarch64",
    target_arch = "arm"
)))]
compile_error!("there are no numbers of system calls for this architecture in abi.rs and syscalls.rs");
