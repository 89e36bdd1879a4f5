//! What the program does before the C library has started: execute itself again from its sealed copy.
//!
//! Each start of the C library costs relocating the program and asking the processor what it is, and CPUID is slow where
//! a hypervisor answers it: together more than a tenth of a whole `run` (docs/decisions/0023-sealed-before-it-starts.md).
//! A first execution that only ends in the second one needs neither. So where the linker was told so, the kernel enters
//! here:
//!
//! ```text
//! execve(gabion) ─▶ gabion_entry ─▶ a command that enters a container? ── no ──────────────▶ _start, main
//!                                   yes: an overlay of its directory; execveat(copy) ─▶ gabion_entry ─▶ _start, main
//! ```
//!
//! It decides nothing. Whether the program is sealed is looked at again by `gabion_container::seal`, which does the
//! same with a library under it; whatever is unusual or fails here is left to it, and no word is said.
//!
//! # What must hold of the code here
//!
//! There is no relocated address yet, no thread-local storage, and no function of the C library can be called, not even
//! memcpy(3), which is chosen for the processor later on. So bytes are read and written one by one and as volatile,
//! which keeps the compiler from putting a library's function in the place of a loop; no table of pointers is made; and
//! there is no slice, whose bounds would be checked. A mistake is no subtle one: no command would start any more.

#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "every line here is a pointer or a system call, and what makes one of them sound makes its neighbours"
)]

use core::arch::{asm, global_asm};
use core::mem::MaybeUninit;
use core::ptr::null;

/// [`super::MARKER`], as it stands in the environment.
const MARKER_ENTRY: &[u8; 15] = b"_GABION_SEALED=";

/// As long as a path may be (`PATH_MAX`), with the NUL byte.
const PATH: usize = 4096;
/// As many variables as are handed on from here.
const VARIABLES: usize = 1000;

// The kernel enters with the stack as the ABI has it, and with nothing in rdx; `_start` is to find both as they were.
global_asm!(
    ".globl gabion_entry",
    ".type gabion_entry, @function",
    "gabion_entry:",
    "xor %ebp, %ebp",
    "mov %rsp, %rbx",
    "mov %rdx, %r12",
    "mov %rsp, %rdi",
    "and $-16, %rsp",
    "call {execute}",
    "mov %rbx, %rsp",
    "mov %r12, %rdx",
    "jmp _start",
    ".size gabion_entry, . - gabion_entry",
    execute = sym execute_sealed_copy,
    options(att_syntax)
);

unsafe extern "C" {
    /// Not to be called: named so that the linker finds the object that has it.
    fn gabion_entry();
}

/// Keeps the entry in programs that use this crate.
#[used]
static KEEP: unsafe extern "C" fn() = gabion_entry;

/// Returns if there is nothing to do, or if it cannot be done here.
///
/// # Safety
/// `stack` is the stack as the kernel hands it to a program: the number of arguments, pointers to them, a null pointer,
/// pointers to the environment's variables, a null pointer; all of them to strings that end with a NUL byte.
unsafe extern "C" fn execute_sealed_copy(stack: *const usize) {
    // SAFETY: what is read here is what the kernel has put there, by the condition on `stack`; the rest are buffers
    // of this function, which is in no loop and returns to nobody but the entry.
    unsafe {
        let count = *stack;
        let arguments: *const *const u8 = stack.add(1).cast();
        let environment = arguments.add(count + 1);
        if !one_enters(arguments, count) {
            return;
        }
        // One more for the marker, and one for the null pointer.
        let mut handed_on = MaybeUninit::<[*const u8; VARIABLES + 2]>::uninit();
        let handed_on: *mut *const u8 = handed_on.as_mut_ptr().cast();
        let mut variables = 0;
        while !(*environment.add(variables)).is_null() {
            let variable = *environment.add(variables);
            if variables == VARIABLES || begins_with(variable, MARKER_ENTRY.as_ptr(), MARKER_ENTRY.len()) {
                return;
            }
            handed_on.add(variables).write_volatile(variable);
            variables += 1;
        }
        let mut marker = MaybeUninit::<[u8; MARKER_ENTRY.len() + PATH]>::uninit();
        let marker: *mut u8 = marker.as_mut_ptr().cast();
        copy(MARKER_ENTRY.as_ptr(), MARKER_ENTRY.len(), marker);
        let path = marker.add(MARKER_ENTRY.len());
        let own = c"/proc/self/exe".as_ptr() as usize;
        let length = call(libc::SYS_readlink, [own, path as usize, PATH - 1, 0, 0]);
        if length <= 1 || length >= PATH as isize - 1 {
            return;
        }
        path.offset(length).write_volatile(0);
        handed_on.add(variables).write_volatile(marker);
        handed_on.add(variables + 1).write_volatile(null());

        let Some((copy, root, context)) = sealed_copy(path, length as usize, own) else {
            return;
        };
        let none = c"".as_ptr() as usize;
        let empty_path = libc::AT_EMPTY_PATH as usize;
        call(
            libc::SYS_execveat,
            [copy, none, arguments as usize, handed_on as usize, empty_path],
        );
        // It was not executed. None of the descriptors is to be found by who looks for those of the caller.
        close(copy);
        close(root);
        close(context);
    }
}

/// The program at `path`, in a read-only overlay over its directory: as `gabion_container::seal` makes it, which says why.
/// With it the descriptors of the overlay's root and context.
///
/// # Safety
/// `path` has `length` bytes and is absolute; `own` points to a path of the running program.
unsafe fn sealed_copy(path: *const u8, length: usize, own: usize) -> Option<(usize, usize, usize)> {
    // SAFETY: `path` is read within `length`, the layers are written within PATH bytes and the second one's few; all
    // else are descriptors, numbers and strings with a NUL byte for the kernel.
    unsafe {
        let mut slash = 0;
        let mut at = 0;
        while at < length {
            match path.add(at).read_volatile() {
                b'/' => slash = at,
                // The kernel's separators of layers and options.
                b':' | b',' | b'\\' => return None,
                _ => {}
            }
            at += 1;
        }
        // At the top there is no directory that neither holds the other layer nor lies in it.
        if slash == 0 {
            return None;
        }
        let mut second = c"/etc".as_ptr();
        if begins_with(path, c"/etc/".as_ptr().cast(), 5) {
            second = c"/run".as_ptr();
        }
        let mut layers = MaybeUninit::<[u8; PATH + 6]>::uninit();
        let layers: *mut u8 = layers.as_mut_ptr().cast();
        copy(path, slash, layers);
        layers.add(slash).write_volatile(b':');
        // With its NUL byte.
        copy(second.cast(), 5, layers.add(slash + 1));

        let context = descriptor(call(
            libc::SYS_fsopen,
            [c"overlay".as_ptr() as usize, FSOPEN_CLOEXEC, 0, 0, 0],
        ))?;
        let key = c"lowerdir".as_ptr() as usize;
        let made = call(
            libc::SYS_fsconfig,
            [context, FSCONFIG_SET_STRING, key, layers as usize, 0],
        ) == 0
            && call(libc::SYS_fsconfig, [context, FSCONFIG_CMD_CREATE, 0, 0, 0]) == 0;
        let root = match made {
            true => descriptor(call(
                libc::SYS_fsmount,
                [context, FSMOUNT_CLOEXEC, ATTRIBUTES, 0, 0],
            )),
            false => None,
        };
        let Some(root) = root else {
            close(context);
            return None;
        };
        let how = [
            (libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NOFOLLOW) as u64,
            0,
            libc::RESOLVE_BENEATH | libc::RESOLVE_NO_XDEV,
        ];
        let name = path.add(slash + 1) as usize;
        let copy = descriptor(call(
            libc::SYS_openat2,
            [root, name, how.as_ptr() as usize, size_of_val(&how), 0],
        ));
        match copy {
            Some(copy) if is_the_same(copy, own) => Some((copy, root, context)),
            other => {
                if let Some(copy) = other {
                    close(copy);
                }
                close(root);
                close(context);
                None
            }
        }
    }
}

/// The path may have been replaced since this program was started: what is sealed must be what runs.
///
/// # Safety
/// `own` points to a path of the running program.
unsafe fn is_the_same(copy: usize, own: usize) -> bool {
    // SAFETY: statx(2) writes the whole structure if it succeeds, and it is read only then.
    unsafe {
        let mut of_copy = MaybeUninit::<libc::statx>::uninit();
        let mut of_own = MaybeUninit::<libc::statx>::uninit();
        let wanted = (libc::STATX_SIZE | libc::STATX_MTIME | libc::STATX_INO) as usize;
        let empty_path = libc::AT_EMPTY_PATH as usize;
        let none = c"".as_ptr() as usize;
        let here = libc::AT_FDCWD as usize;
        if call(
            libc::SYS_statx,
            [copy, none, empty_path, wanted, of_copy.as_mut_ptr() as usize],
        ) != 0
            || call(
                libc::SYS_statx,
                [here, own, 0, wanted, of_own.as_mut_ptr() as usize],
            ) != 0
        {
            return false;
        }
        let (of_copy, of_own) = (of_copy.as_ptr(), of_own.as_ptr());
        (*of_copy).stx_size == (*of_own).stx_size
            && (*of_copy).stx_ino == (*of_own).stx_ino
            && (*of_copy).stx_mtime.tv_sec == (*of_own).stx_mtime.tv_sec
            && (*of_copy).stx_mtime.tv_nsec == (*of_own).stx_mtime.tv_nsec
    }
}

const FSOPEN_CLOEXEC: usize = 1;
const FSMOUNT_CLOEXEC: usize = 1;
const FSCONFIG_SET_STRING: usize = 1;
const FSCONFIG_CMD_CREATE: usize = 6;
const ATTRIBUTES: usize = {
    use crate::mount::attribute::{NODEV, NOSUID, RDONLY};
    (RDONLY | NOSUID | NODEV) as usize
};

/// True if this argument is one of [`super::COMMANDS`].
///
/// # Safety
/// `argument` points to a string that ends with a NUL byte.
unsafe fn enters(argument: *const u8) -> bool {
    // SAFETY: each is compared with its NUL byte, and no further than where they differ.
    unsafe {
        begins_with(argument, c"create".as_ptr().cast(), 7)
            || begins_with(argument, c"run".as_ptr().cast(), 4)
            || begins_with(argument, c"exec".as_ptr().cast(), 5)
            || begins_with(argument, c"restore".as_ptr().cast(), 8)
            || begins_with(argument, c"learn".as_ptr().cast(), 6)
    }
}

/// # Safety
/// As [`execute_sealed_copy`] has them.
unsafe fn one_enters(arguments: *const *const u8, count: usize) -> bool {
    let mut at = 1;
    while at < count {
        // SAFETY: there are `count` arguments.
        if unsafe { enters(*arguments.add(at)) } {
            return true;
        }
        at += 1;
    }
    false
}

/// # Safety
/// `text` is readable up to its NUL byte, `prefix` for `length` bytes.
#[inline(always)]
unsafe fn begins_with(text: *const u8, prefix: *const u8, length: usize) -> bool {
    let mut at = 0;
    while at < length {
        // SAFETY: where the text has ended its NUL byte differs from the prefix, unless that ends there too.
        if unsafe { text.add(at).read_volatile() != prefix.add(at).read_volatile() } {
            return false;
        }
        at += 1;
    }
    true
}

/// # Safety
/// `length` bytes can be read and written there.
#[inline(always)]
unsafe fn copy(from: *const u8, length: usize, to: *mut u8) {
    let mut at = 0;
    while at < length {
        // SAFETY: the condition on the caller.
        unsafe { to.add(at).write_volatile(from.add(at).read_volatile()) };
        at += 1;
    }
}

#[inline(always)]
fn descriptor(returned: isize) -> Option<usize> {
    if returned < 0 {
        None
    } else {
        Some(returned as usize)
    }
}

/// # Safety
/// The descriptor was opened here.
#[inline(always)]
unsafe fn close(descriptor: usize) {
    // SAFETY: nobody else knows it.
    unsafe { call(libc::SYS_close, [descriptor, 0, 0, 0, 0]) };
}

/// A system call; what it returns, or the negated error.
///
/// # Safety
/// That of the call.
#[inline(always)]
unsafe fn call(number: libc::c_long, arguments: [usize; 5]) -> isize {
    let [first, second, third, fourth, fifth] = arguments;
    let returned: isize;
    // SAFETY: the kernel's calling convention (syscall(2)); it changes rcx, r11 and the memory that it is given.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => returned,
            in("rdi") first, in("rsi") second, in("rdx") third, in("r10") fourth, in("r8") fifth,
            lateout("rcx") _, lateout("r11") _,
            options(nostack)
        );
    }
    returned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_and_the_marker_are_those_that_all_agree_upon() {
        let enters = |argument: &str| {
            let argument = std::ffi::CString::new(argument).unwrap();
            // SAFETY: a CString ends with a NUL byte.
            unsafe { enters(argument.as_ptr().cast()) }
        };
        for command in crate::early::COMMANDS {
            assert!(enters(command), "{command}");
            assert!(
                !enters(&command[1..]) && !enters(&format!("{command}s")),
                "{command}"
            );
        }
        for other in ["", "c", "state", "--exec", "start"] {
            assert!(!enters(other), "{other}");
        }
        let marker = MARKER_ENTRY.strip_suffix(b"=").unwrap();
        assert_eq!(marker, crate::early::MARKER.as_bytes());
    }
}
