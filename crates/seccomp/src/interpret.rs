//! Runs a filter as the kernel would, for one system call.
//!
//! The kernel translates classic BPF before it runs it (net/core/filter.c); what a filter can observe of that is
//! reproduced: registers start at 0, a division by zero returns 0, a shift by a register uses its low five bits.

use crate::program::{DATA_SIZE, Instruction, InvalidProgram, MEMORY_WORDS, Program, code};
use crate::verdict::{Verdict, rank};

/// What a filter sees of a system call: `struct seccomp_data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Data {
    /// The number of the call, as the architecture counts.
    pub nr: i32,
    /// The architecture (`AUDIT_ARCH_*`).
    pub arch: u32,
    /// Where the call was made from.
    pub instruction_pointer: u64,
    /// The registers of the arguments, whole, whatever the call takes of them.
    pub args: [u64; 6],
}

impl Data {
    /// The word at an offset, as this machine's byte order places it.
    fn word(&self, offset: u32) -> Option<u32> {
        let half = |value: u64, second: bool| {
            if cfg!(target_endian = "little") == second {
                high(value)
            } else {
                low(value)
            }
        };
        match offset {
            0 => Some(self.nr.cast_unsigned()),
            4 => Some(self.arch),
            8 | 12 => Some(half(self.instruction_pointer, offset == 12)),
            16.. if offset.is_multiple_of(4) => {
                let index = usize::try_from((offset - 16) / 8).ok()?;
                Some(half(*self.args.get(index)?, offset % 8 == 4))
            }
            _ => None,
        }
    }
}

fn low(value: u64) -> u32 {
    let [_, _, _, _, bytes @ ..] = value.to_be_bytes();
    u32::from_be_bytes(bytes)
}

fn high(value: u64) -> u32 {
    low(value >> 32)
}

/// What the kernel would answer to this call under this filter.
///
/// # Errors
/// The kernel would not take the filter ([`Program::check`]).
pub fn interpret(program: &Program, data: &Data) -> Result<Verdict, InvalidProgram> {
    program.check()?;
    run(program, data).map(|run| Verdict::decode(run.returned))
}

/// What the kernel would answer under stacked filters, given in the order in which they were loaded.
///
/// The strictest action wins; among equals, that of the filter loaded last, with its errno. Without filters
/// the call is made.
///
/// # Errors
/// The kernel would not take one of the filters.
pub fn strictest(programs: &[Program], data: &Data) -> Result<Verdict, InvalidProgram> {
    programs.iter().try_for_each(Program::check)?;
    strictest_checked(programs, data)
}

/// [`strictest`] for filters that [`Program::check`] accepts; for whoever asks about many calls.
pub(crate) fn strictest_checked(programs: &[Program], data: &Data) -> Result<Verdict, InvalidProgram> {
    let mut strictest = Verdict::Allow.encode();
    for program in programs.iter().rev() {
        let returned = run(program, data)?.returned;
        if rank(returned) < rank(strictest) {
            strictest = returned;
        }
    }
    Ok(Verdict::decode(strictest))
}

/// What came of running a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// What the filter returned (`SECCOMP_RET_*`).
    pub returned: u32,
    /// How many instructions it took.
    pub instructions: usize,
}

/// Runs a filter that [`Program::check`] accepts, without checking all of it again.
///
/// # Errors
/// What is wrong with the first instruction that cannot be run.
pub fn run(program: &Program, data: &Data) -> Result<Run, InvalidProgram> {
    let mut a: u32 = 0;
    let mut x: u32 = 0;
    let mut memory = [0u32; MEMORY_WORDS as usize];
    let mut at = 0;
    let mut instructions = 0;
    loop {
        let Some(&Instruction { code, jt, jf, k }) = program.instructions.get(at) else {
            return Err(InvalidProgram::NoReturn);
        };
        instructions += 1;
        let operand = || InvalidProgram::Operand { at, k };
        let word = usize::try_from(k).ok().filter(|word| *word < memory.len());
        let mut skip = 0;
        let mut branch = |taken: bool| skip = usize::from(if taken { jt } else { jf });
        match code {
            code::LD_DATA => a = data.word(k).ok_or_else(operand)?,
            code::LD_LENGTH => a = DATA_SIZE,
            code::LDX_LENGTH => x = DATA_SIZE,
            code::LD_IMMEDIATE => a = k,
            code::LDX_IMMEDIATE => x = k,
            code::LD_MEMORY => a = memory[word.ok_or_else(operand)?],
            code::LDX_MEMORY => x = memory[word.ok_or_else(operand)?],
            code::ST => memory[word.ok_or_else(operand)?] = a,
            code::STX => memory[word.ok_or_else(operand)?] = x,
            code::ADD_K => a = a.wrapping_add(k),
            code::ADD_X => a = a.wrapping_add(x),
            code::SUB_K => a = a.wrapping_sub(k),
            code::SUB_X => a = a.wrapping_sub(x),
            code::MUL_K => a = a.wrapping_mul(k),
            code::MUL_X => a = a.wrapping_mul(x),
            code::DIV_K => a = a.checked_div(k).ok_or_else(operand)?,
            code::DIV_X => match a.checked_div(x) {
                Some(quotient) => a = quotient,
                None => {
                    return Ok(Run {
                        returned: 0,
                        instructions,
                    });
                }
            },
            code::OR_K => a |= k,
            code::OR_X => a |= x,
            code::AND_K => a &= k,
            code::AND_X => a &= x,
            code::XOR_K => a ^= k,
            code::XOR_X => a ^= x,
            code::LSH_K => a = a.wrapping_shl(k),
            code::LSH_X => a = a.wrapping_shl(x),
            code::RSH_K => a = a.wrapping_shr(k),
            code::RSH_X => a = a.wrapping_shr(x),
            code::NEG => a = a.wrapping_neg(),
            code::JA => skip = usize::try_from(k).map_err(|_| InvalidProgram::Jump(at))?,
            code::JEQ_K => branch(a == k),
            code::JEQ_X => branch(a == x),
            code::JGT_K => branch(a > k),
            code::JGT_X => branch(a > x),
            code::JGE_K => branch(a >= k),
            code::JGE_X => branch(a >= x),
            code::JSET_K => branch(a & k != 0),
            code::JSET_X => branch(a & x != 0),
            code::RET_K => {
                return Ok(Run {
                    returned: k,
                    instructions,
                });
            }
            code::RET_A => {
                return Ok(Run {
                    returned: a,
                    instructions,
                });
            }
            code::TAX => x = a,
            code::TXA => a = x,
            _ => return Err(InvalidProgram::Code { at, code }),
        }
        at += 1 + skip;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ins(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
        Instruction { code, jt, jf, k }
    }

    fn returns(instructions: &[Instruction], data: &Data) -> u32 {
        let program = Program {
            instructions: instructions.to_vec(),
        };
        assert_eq!(program.check(), Ok(()));
        run(&program, data).unwrap().returned
    }

    const RET_A: Instruction = Instruction {
        code: code::RET_A,
        jt: 0,
        jf: 0,
        k: 0,
    };

    #[test]
    fn every_word_of_the_call_can_be_loaded() {
        let data = Data {
            nr: -1,
            arch: 0xc000_003e,
            instruction_pointer: 0x1111_2222_3333_4444,
            args: [0xa1_0000_00a0, 0xb1_0000_00b0, 3, 4, 5, 0xf1_0000_00f0],
        };
        let word = |offset| returns(&[ins(code::LD_DATA, 0, 0, offset), RET_A], &data);
        assert_eq!((word(0), word(4)), (u32::MAX, 0xc000_003e));
        let pair = if cfg!(target_endian = "little") {
            (0, 4)
        } else {
            (4, 0)
        };
        assert_eq!((word(8 + pair.0), word(8 + pair.1)), (0x3333_4444, 0x1111_2222));
        assert_eq!((word(16 + pair.0), word(16 + pair.1)), (0xa0, 0xa1));
        assert_eq!((word(24 + pair.0), word(24 + pair.1)), (0xb0, 0xb1));
        assert_eq!((word(56 + pair.0), word(56 + pair.1)), (0xf0, 0xf1));
    }

    #[test]
    fn arithmetic_is_the_kernels() {
        let data = Data::default();
        let of = |a: u32, x: u32, code: u16, k: u32| {
            let load = [
                ins(code::LD_IMMEDIATE, 0, 0, a),
                ins(code::LDX_IMMEDIATE, 0, 0, x),
            ];
            returns(&[load[0], load[1], ins(code, 0, 0, k), RET_A], &data)
        };
        assert_eq!(of(u32::MAX, 2, code::ADD_X, 0), 1);
        assert_eq!(of(1, 0, code::SUB_K, 2), u32::MAX);
        assert_eq!(of(0x8000_0001, 2, code::MUL_X, 0), 2);
        assert_eq!(of(7, 2, code::DIV_X, 0), 3);
        assert_eq!(
            of(7, 0, code::DIV_X, 0),
            0,
            "a division by zero ends the filter with 0"
        );
        assert_eq!(
            of(1, 33, code::LSH_X, 0),
            2,
            "a shift by a register takes its low five bits"
        );
        assert_eq!(of(0xf0, 0, code::RSH_K, 4), 0xf);
        assert_eq!(of(0xf0, 0x3c, code::AND_X, 0), 0x30);
        assert_eq!(of(0xf0, 0x0f, code::OR_X, 0), 0xff);
        assert_eq!(of(0xff, 0, code::XOR_K, 0x0f), 0xf0);
        assert_eq!(of(1, 0, code::NEG, 0), u32::MAX);
        assert_eq!(of(1, 9, code::TXA, 0), 9);
        assert_eq!(of(1, 9, code::LD_LENGTH, 0), 64);
        let memory = [
            ins(code::LDX_IMMEDIATE, 0, 0, 5),
            ins(code::STX, 0, 0, 15),
            ins(code::LD_MEMORY, 0, 0, 15),
            RET_A,
        ];
        assert_eq!(returns(&memory, &data), 5);
    }

    #[test]
    fn jumps_compare_without_sign() {
        let data = Data::default();
        let taken = |a: u32, code: u16, k: u32| {
            let program = [
                ins(code::LD_IMMEDIATE, 0, 0, a),
                ins(code, 0, 1, k),
                ins(code::RET_K, 0, 0, 1),
                ins(code::RET_K, 0, 0, 0),
            ];
            returns(&program, &data) == 1
        };
        assert!(taken(u32::MAX, code::JGT_K, 1) && !taken(1, code::JGT_K, 1));
        assert!(taken(1, code::JGE_K, 1) && !taken(0, code::JGE_K, 1));
        assert!(taken(6, code::JSET_K, 2) && !taken(6, code::JSET_K, 9));
        assert!(taken(6, code::JEQ_K, 6) && !taken(6, code::JEQ_K, 7));
    }

    #[test]
    fn the_strictest_filter_wins_and_the_last_among_equals() {
        let answer = |verdict: Verdict| Program {
            instructions: vec![ins(code::RET_K, 0, 0, verdict.encode())],
        };
        let of = |verdicts: &[Verdict]| {
            strictest(
                &verdicts
                    .iter()
                    .map(|verdict| answer(*verdict))
                    .collect::<Vec<_>>(),
                &Data::default(),
            )
        };
        assert_eq!(of(&[]), Ok(Verdict::Allow));
        assert_eq!(
            of(&[Verdict::Errno(1), Verdict::Errno(38)]),
            Ok(Verdict::Errno(38))
        );
        assert_eq!(of(&[Verdict::Errno(1), Verdict::Allow]), Ok(Verdict::Errno(1)));
        assert_eq!(
            of(&[Verdict::KillThread, Verdict::KillProcess, Verdict::Allow]),
            Ok(Verdict::KillProcess)
        );
        assert_eq!(
            of(&[Verdict::Notify, Verdict::Errno(2), Verdict::Log]),
            Ok(Verdict::Errno(2))
        );
        assert!(strictest(&[Program::default()], &Data::default()).is_err());
    }
}
