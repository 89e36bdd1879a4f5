//! A filter as the kernel takes it: classic BPF, and the rules that the kernel has for it.

/// One instruction, with the fields of `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Instruction {
    /// What it does.
    pub code: u16,
    /// How many instructions to skip if true.
    pub jt: u8,
    /// How many instructions to skip if false.
    pub jf: u8,
    /// Its operand.
    pub k: u32,
}

/// A filter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Program {
    /// Its instructions, in order.
    pub instructions: Vec<Instruction>,
}

/// The most instructions that the kernel accepts in one filter (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;
/// The size of `struct seccomp_data`, from which a filter loads.
pub(crate) const DATA_SIZE: u32 = 64;
/// The scratch memory of a filter, in words (`BPF_MEMWORDS`).
pub(crate) const MEMORY_WORDS: u32 = 16;
/// The size of one `struct sock_filter`.
const INSTRUCTION_SIZE: usize = 8;

/// The instructions that seccomp allows, by their codes (linux/bpf_common.h). Everything is on 32-bit words.
pub(crate) mod code {
    pub(crate) const LD_DATA: u16 = 0x20;
    pub(crate) const LD_LENGTH: u16 = 0x80;
    pub(crate) const LD_IMMEDIATE: u16 = 0x00;
    pub(crate) const LD_MEMORY: u16 = 0x60;
    pub(crate) const LDX_LENGTH: u16 = 0x81;
    pub(crate) const LDX_IMMEDIATE: u16 = 0x01;
    pub(crate) const LDX_MEMORY: u16 = 0x61;
    pub(crate) const ST: u16 = 0x02;
    pub(crate) const STX: u16 = 0x03;
    pub(crate) const ADD_K: u16 = 0x04;
    pub(crate) const ADD_X: u16 = 0x0c;
    pub(crate) const SUB_K: u16 = 0x14;
    pub(crate) const SUB_X: u16 = 0x1c;
    pub(crate) const MUL_K: u16 = 0x24;
    pub(crate) const MUL_X: u16 = 0x2c;
    pub(crate) const DIV_K: u16 = 0x34;
    pub(crate) const DIV_X: u16 = 0x3c;
    pub(crate) const OR_K: u16 = 0x44;
    pub(crate) const OR_X: u16 = 0x4c;
    pub(crate) const AND_K: u16 = 0x54;
    pub(crate) const AND_X: u16 = 0x5c;
    pub(crate) const LSH_K: u16 = 0x64;
    pub(crate) const LSH_X: u16 = 0x6c;
    pub(crate) const RSH_K: u16 = 0x74;
    pub(crate) const RSH_X: u16 = 0x7c;
    pub(crate) const NEG: u16 = 0x84;
    pub(crate) const XOR_K: u16 = 0xa4;
    pub(crate) const XOR_X: u16 = 0xac;
    pub(crate) const JA: u16 = 0x05;
    pub(crate) const JEQ_K: u16 = 0x15;
    pub(crate) const JEQ_X: u16 = 0x1d;
    pub(crate) const JGT_K: u16 = 0x25;
    pub(crate) const JGT_X: u16 = 0x2d;
    pub(crate) const JGE_K: u16 = 0x35;
    pub(crate) const JGE_X: u16 = 0x3d;
    pub(crate) const JSET_K: u16 = 0x45;
    pub(crate) const JSET_X: u16 = 0x4d;
    pub(crate) const RET_K: u16 = 0x06;
    pub(crate) const RET_A: u16 = 0x16;
    pub(crate) const TAX: u16 = 0x07;
    pub(crate) const TXA: u16 = 0x87;

    pub(crate) fn is_conditional_jump(code: u16) -> bool {
        matches!(
            code,
            JEQ_K | JEQ_X | JGT_K | JGT_X | JGE_K | JGE_X | JSET_K | JSET_X
        )
    }

    pub(crate) fn is_return(code: u16) -> bool {
        matches!(code, RET_K | RET_A)
    }

    pub(crate) fn is_allowed(code: u16) -> bool {
        is_conditional_jump(code)
            || is_return(code)
            || matches!(
                code,
                LD_DATA | LD_LENGTH | LD_IMMEDIATE | LD_MEMORY | LDX_LENGTH | LDX_IMMEDIATE | LDX_MEMORY
            )
            || matches!(code, ST | STX | JA | TAX | TXA | NEG)
            || matches!(
                code,
                ADD_K | ADD_X | SUB_K | SUB_X | MUL_K | MUL_X | DIV_K | DIV_X | OR_K | OR_X
            )
            || matches!(
                code,
                AND_K | AND_X | LSH_K | LSH_X | RSH_K | RSH_X | XOR_K | XOR_X
            )
    }
}

/// Why the kernel would not take a filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProgram {
    /// It has no instructions, or too many.
    #[error("a filter has between 1 and 4096 instructions; this one has {0}")]
    Length(usize),
    /// The bytes are no whole number of instructions.
    #[error("{0} bytes are no whole number of 8-byte instructions")]
    Bytes(usize),
    /// An instruction that seccomp does not allow.
    #[error("instruction {at}: code {code:#06x} is none that seccomp allows")]
    Code {
        /// Its place.
        at: usize,
        /// Its code.
        code: u16,
    },
    /// An operand that is out of range: an offset, a memory word, a shift, a division by zero.
    #[error("instruction {at}: operand {k:#x} is out of range")]
    Operand {
        /// Its place.
        at: usize,
        /// The operand.
        k: u32,
    },
    /// A jump behind the end.
    #[error("instruction {0}: it jumps behind the end of the filter")]
    Jump(usize),
    /// A word of memory that is read before anything is written to it.
    #[error("instruction {at}: memory word {word} is read, but not written on every way to here")]
    Memory {
        /// Its place.
        at: usize,
        /// The word.
        word: u32,
    },
    /// The last instruction is no return.
    #[error("the last instruction is no return")]
    NoReturn,
}

impl Program {
    /// How many instructions it has.
    pub fn len(&self) -> usize {
        self.instructions.len()
    }

    /// True without instructions; the kernel takes no such filter.
    pub fn is_empty(&self) -> bool {
        self.instructions.is_empty()
    }

    /// As an array of `struct sock_filter` in this machine's byte order.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len() * INSTRUCTION_SIZE);
        for instruction in &self.instructions {
            bytes.extend_from_slice(&instruction.code.to_ne_bytes());
            bytes.extend_from_slice(&[instruction.jt, instruction.jf]);
            bytes.extend_from_slice(&instruction.k.to_ne_bytes());
        }
        bytes
    }

    /// From an array of `struct sock_filter` in this machine's byte order; checked as by [`Program::check`].
    ///
    /// # Errors
    /// What the kernel would not take.
    pub fn from_bytes(bytes: &[u8]) -> Result<Program, InvalidProgram> {
        let (chunks, rest) = bytes.as_chunks::<INSTRUCTION_SIZE>();
        if !rest.is_empty() {
            return Err(InvalidProgram::Bytes(bytes.len()));
        }
        let instructions = chunks
            .iter()
            .map(|&[c0, c1, jt, jf, k0, k1, k2, k3]| Instruction {
                code: u16::from_ne_bytes([c0, c1]),
                jt,
                jf,
                k: u32::from_ne_bytes([k0, k1, k2, k3]),
            })
            .collect();
        let program = Program { instructions };
        program.check()?;
        Ok(program)
    }

    /// Applies the kernel's rules for seccomp filters: its general ones for classic BPF (`bpf_check_classic`)
    /// and those of `seccomp_check_filter`, which allows fewer instructions and only aligned loads of words.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), InvalidProgram> {
        let length = self.len();
        if length == 0 || length > MAX_INSTRUCTIONS {
            return Err(InvalidProgram::Length(length));
        }
        for (at, instruction) in self.instructions.iter().enumerate() {
            let Instruction { code, jt, jf, k } = *instruction;
            let behind = length - at - 1;
            let operand_is_good = match code {
                _ if !code::is_allowed(code) => return Err(InvalidProgram::Code { at, code }),
                code::LD_DATA => k < DATA_SIZE && k.is_multiple_of(4),
                code::DIV_K => k != 0,
                code::LSH_K | code::RSH_K => k < 32,
                code::LD_MEMORY | code::LDX_MEMORY | code::ST | code::STX => k < MEMORY_WORDS,
                code::JA if usize::try_from(k).is_ok_and(|k| k < behind) => true,
                code::JA => return Err(InvalidProgram::Jump(at)),
                _ if code::is_conditional_jump(code) => {
                    if usize::from(jt.max(jf)) >= behind {
                        return Err(InvalidProgram::Jump(at));
                    }
                    true
                }
                _ => true,
            };
            if !operand_is_good {
                return Err(InvalidProgram::Operand { at, k });
            }
        }
        match self.instructions.last() {
            Some(last) if code::is_return(last.code) => self.check_memory(),
            _ => Err(InvalidProgram::NoReturn),
        }
    }

    /// A word of memory is written before it is read, on every way (`check_load_and_stores`).
    fn check_memory(&self) -> Result<(), InvalidProgram> {
        // Which words are written, on every way to an instruction that is jumped to.
        let mut at_target = vec![u16::MAX; self.len()];
        let mut written: u16 = 0;
        for (at, instruction) in self.instructions.iter().enumerate() {
            let Instruction { code, jt, jf, k } = *instruction;
            written &= at_target.get(at).copied().unwrap_or(0);
            let mut reaches = |offset: usize, written: u16| {
                if let Some(target) = at_target.get_mut(at + 1 + offset) {
                    *target &= written;
                }
            };
            match code {
                code::ST | code::STX => written |= 1 << k,
                code::LD_MEMORY | code::LDX_MEMORY if written & (1 << k) == 0 => {
                    return Err(InvalidProgram::Memory { at, word: k });
                }
                code::JA => {
                    reaches(usize::try_from(k).map_err(|_| InvalidProgram::Jump(at))?, written);
                    written = u16::MAX;
                }
                _ if code::is_conditional_jump(code) => {
                    reaches(usize::from(jt), written);
                    reaches(usize::from(jf), written);
                    written = u16::MAX;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ins(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
        Instruction { code, jt, jf, k }
    }

    fn check(instructions: &[Instruction]) -> Result<(), InvalidProgram> {
        Program {
            instructions: instructions.to_vec(),
        }
        .check()
    }

    #[test]
    fn the_kernels_rules_are_applied() {
        let ret = ins(code::RET_K, 0, 0, 0);
        assert_eq!(check(&[ret]), Ok(()));
        assert_eq!(check(&[]), Err(InvalidProgram::Length(0)));
        assert_eq!(check(&vec![ret; 4096]), Ok(()));
        assert_eq!(check(&vec![ret; 4097]), Err(InvalidProgram::Length(4097)));
        assert_eq!(
            check(&[ins(code::LD_DATA, 0, 0, 60)]),
            Err(InvalidProgram::NoReturn)
        );
        let then_return = |instruction| check(&[instruction, ret]);
        assert_eq!(then_return(ins(code::LD_DATA, 0, 0, 60)), Ok(()));
        for k in [2, 61, 64, u32::MAX] {
            let refused = Err(InvalidProgram::Operand { at: 0, k });
            assert_eq!(then_return(ins(code::LD_DATA, 0, 0, k)), refused, "{k}");
        }
        assert_eq!(
            then_return(ins(code::DIV_K, 0, 0, 0)),
            Err(InvalidProgram::Operand { at: 0, k: 0 })
        );
        assert_eq!(
            then_return(ins(code::LSH_K, 0, 0, 32)),
            Err(InvalidProgram::Operand { at: 0, k: 32 })
        );
        assert_eq!(
            then_return(ins(code::ST, 0, 0, 16)),
            Err(InvalidProgram::Operand { at: 0, k: 16 })
        );
        // Loads of bytes and half-words, loads at an index, and MOD are classic BPF, but not for seccomp.
        for code in [0x28, 0x30, 0x40, 0x94, 0x9c, 0xffff] {
            assert_eq!(
                then_return(ins(code, 0, 0, 1)),
                Err(InvalidProgram::Code { at: 0, code })
            );
        }
    }

    #[test]
    fn a_jump_behind_the_end_is_found() {
        let ret = ins(code::RET_K, 0, 0, 0);
        assert_eq!(
            check(&[ins(code::JA, 0, 0, 1), ret]),
            Err(InvalidProgram::Jump(0))
        );
        assert_eq!(
            check(&[ins(code::JA, 0, 0, u32::MAX), ret]),
            Err(InvalidProgram::Jump(0))
        );
        assert_eq!(
            check(&[ins(code::JEQ_K, 1, 0, 0), ret]),
            Err(InvalidProgram::Jump(0))
        );
        assert_eq!(
            check(&[ins(code::JEQ_K, 0, 1, 0), ret]),
            Err(InvalidProgram::Jump(0))
        );
        assert_eq!(check(&[ins(code::JEQ_K, 0, 1, 0), ret, ret]), Ok(()));
    }

    #[test]
    fn memory_is_written_before_it_is_read_on_every_way() {
        let ret = ins(code::RET_A, 0, 0, 0);
        let (store, load) = (ins(code::ST, 0, 0, 3), ins(code::LD_MEMORY, 0, 0, 3));
        assert_eq!(check(&[store, load, ret]), Ok(()));
        assert_eq!(
            check(&[load, ret]),
            Err(InvalidProgram::Memory { at: 0, word: 3 })
        );
        let branch = ins(code::JEQ_K, 1, 0, 0);
        assert_eq!(
            check(&[branch, store, load, ret]),
            Err(InvalidProgram::Memory { at: 2, word: 3 })
        );
        assert_eq!(check(&[store, branch, ret, load, ret]), Ok(()));
    }

    #[test]
    fn bytes_written_are_the_program_read() {
        let program = Program {
            instructions: vec![
                ins(code::LD_DATA, 0, 0, 4),
                ins(code::JEQ_K, 0, 1, 0xc000_003e),
                ins(6, 0, 0, 1),
                ins(6, 0, 0, 2),
            ],
        };
        let bytes = program.to_bytes();
        assert_eq!(bytes.len(), 32);
        assert_eq!(Program::from_bytes(&bytes).unwrap(), program);
        assert_eq!(Program::from_bytes(&bytes[..31]), Err(InvalidProgram::Bytes(31)));
        assert_eq!(Program::from_bytes(&[]), Err(InvalidProgram::Length(0)));
        assert!(Program::from_bytes(&bytes[..8]).is_err());
    }
}
