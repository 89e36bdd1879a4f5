//! Calls a program on a kernel that lies: chosen system calls succeed and do nothing.
//!
//! ```text
//! lying-kernel LIE... -- PROGRAM ARGUMENT...
//! ```
//!
//! A lie is the name of a call, and on what condition: `setgroups`, `prctl:0=24` if argument 0 is 24,
//! `mount:3&33=33` if argument 3 has these bits. A seccomp filter tells it; everything that the program starts
//! inherits it, so it counts as one filter more in a container.
#![forbid(unsafe_code)]

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use gabion_sys::seccomp::{Instruction, install};
use nix::libc;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
const SUCCESS: u32 = libc::SECCOMP_RET_ERRNO; // with errno 0

/// One lie; see the program's text.
struct Lie {
    number: u32,
    condition: Option<Condition>,
}

struct Condition {
    argument: u32,
    mask: u32,
    value: u32,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some(end) = words.iter().position(|word| word == "--") else {
        return failed("usage: lying-kernel LIE... -- PROGRAM ARGUMENT...");
    };
    let mut program = Vec::new();
    for word in &words[..end] {
        match parse(word) {
            Some(lie) => program.extend(instructions(&lie)),
            None => return failed(&format!("{word:?} is no lie")),
        }
    }
    program.push(instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    let Some(name) = words.get(end + 1) else {
        return failed("there is no program to lie to");
    };
    if let Err(error) = install(&program, 0) {
        return failed(&error.to_string());
    }
    let error = Command::new(name).args(&words[end + 2..]).exec();
    failed(&format!("{name:?}: {error}"))
}

fn failed(text: &str) -> ExitCode {
    use std::io::Write;
    // Nobody is left to be told if this fails.
    drop(writeln!(std::io::stderr(), "lying-kernel: {text}"));
    ExitCode::from(125)
}

fn parse(word: &str) -> Option<Lie> {
    let (name, condition) = match word.split_once(':') {
        Some((name, condition)) => (name, Some(condition)),
        None => (word, None),
    };
    let number = match name {
        "capset" => libc::SYS_capset,
        "chdir" => libc::SYS_chdir,
        "close_range" => libc::SYS_close_range,
        "keyctl" => libc::SYS_keyctl,
        "mount" => libc::SYS_mount,
        "mount_setattr" => libc::SYS_mount_setattr,
        "personality" => libc::SYS_personality,
        "prctl" => libc::SYS_prctl,
        "prlimit64" => libc::SYS_prlimit64,
        "sched_setaffinity" => libc::SYS_sched_setaffinity,
        "seccomp" => libc::SYS_seccomp,
        "setns" => libc::SYS_setns,
        "setgroups" => libc::SYS_setgroups,
        "setresgid" => libc::SYS_setresgid,
        "setresuid" => libc::SYS_setresuid,
        "unshare" => libc::SYS_unshare,
        _ => return None,
    };
    let condition = match condition {
        None => None,
        Some(text) => {
            let (left, value) = text.split_once('=')?;
            let (argument, mask) = match left.split_once('&') {
                Some((argument, mask)) => (argument, mask.parse().ok()?),
                None => (left, u32::MAX),
            };
            let argument = argument.parse().ok().filter(|argument| *argument < 6)?;
            Some(Condition {
                argument,
                mask,
                value: value.parse().ok()?,
            })
        }
    };
    Some(Lie {
        number: u32::try_from(number).ok()?,
        condition,
    })
}

/// The instructions for one lie; whoever it is not for goes on behind them. The words of `struct seccomp_data`: the
/// number at 0, the low half of argument n at 16 + 8 n.
fn instructions(lie: &Lie) -> Vec<Instruction> {
    let success = instruction(RETURN, 0, 0, SUCCESS);
    let load_number = instruction(LOAD, 0, 0, 0);
    match &lie.condition {
        None => vec![load_number, instruction(JUMP_IF_EQUAL, 0, 1, lie.number), success],
        Some(condition) => vec![
            load_number,
            instruction(JUMP_IF_EQUAL, 0, 4, lie.number),
            instruction(LOAD, 0, 0, 16 + 8 * condition.argument),
            instruction(AND, 0, 0, condition.mask),
            instruction(JUMP_IF_EQUAL, 0, 1, condition.value),
            success,
        ],
    }
}

fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code, jt, jf, k }
}
