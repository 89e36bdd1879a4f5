//! Whether a filter can let a call through, whatever the parts of its arguments that are not fixed.
//!
//! The interpreter answers for one call. A floor needs to know about all calls of a kind: "socket(2) with 38 in the
//! low half of the first argument, and anything else". This runs a filter on words of which some bits are known, and
//! follows both ways where a jump depends on a bit that is not. So it errs on one side alone: what it calls denied is
//! denied, for every value of the rest; what it calls let through may not be.
//!
//! A filter has no backward jumps, so this ends; where ways part it goes on once for each value that arrives there.

use std::collections::HashSet;

use crate::interpret::Data;
use crate::program::{Instruction, Program, code};
use crate::verdict::Verdict;

/// A 32-bit word of which some bits are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Word {
    /// The bits that are known.
    pub known: u32,
    /// What they are; 0 where they are not known.
    pub value: u32,
}

impl Word {
    /// Nothing is known.
    pub const ANY: Word = Word { known: 0, value: 0 };

    /// All is known.
    pub const fn exactly(value: u32) -> Word {
        Word {
            known: u32::MAX,
            value,
        }
    }

    /// These bits are set, and the others may be.
    pub const fn with_bits(bits: u32) -> Word {
        Word {
            known: bits,
            value: bits,
        }
    }

    fn least(self) -> u32 {
        self.value
    }

    fn most(self) -> u32 {
        self.value | !self.known
    }

    fn number(self) -> Option<u32> {
        (self.known == u32::MAX).then_some(self.value)
    }

    fn and(self, other: Word) -> Word {
        // Known where both are, and where one is known to be 0.
        let known = (self.known & other.known) | (self.known & !self.value) | (other.known & !other.value);
        Word {
            known,
            value: self.value & other.value & known,
        }
    }

    fn or(self, other: Word) -> Word {
        let known = (self.known & other.known) | self.value | other.value;
        Word {
            known,
            value: (self.value | other.value) & known,
        }
    }

    /// Whether it equals another: `None` if that depends.
    fn equals(self, other: Word) -> Option<bool> {
        if (self.value ^ other.value) & self.known & other.known != 0 {
            return Some(false);
        }
        (self.known & other.known == u32::MAX).then_some(true)
    }
}

/// A kind of call: its number and architecture, and what is known of the low halves of its arguments. Of the high
/// halves, and of where it was made from, nothing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// As in [`Data`].
    pub nr: u32,
    /// As in [`Data`].
    pub arch: u32,
    /// Low halves.
    pub args: [Word; 6],
}

impl Kind {
    fn word(&self, offset: u32) -> Word {
        match offset {
            0 => Word::exactly(self.nr),
            4 => Word::exactly(self.arch),
            16.. => {
                let low = offset.is_multiple_of(8) == cfg!(target_endian = "little");
                match usize::try_from((offset - 16) / 8)
                    .ok()
                    .and_then(|index| self.args.get(index))
                {
                    Some(word) if low => *word,
                    _ => Word::ANY,
                }
            }
            _ => Word::ANY,
        }
    }

    /// One call of this kind: what is not known is 0.
    pub fn example(&self) -> Data {
        Data {
            nr: self.nr.cast_signed(),
            arch: self.arch,
            instruction_pointer: 0,
            args: self.args.map(|word| u64::from(word.value)),
        }
    }
}

/// The verdicts that a filter may give to calls of a kind. A filter that is not understood may give any, and says
/// [`Verdict::Allow`]; so does one that the kernel would not take.
pub fn possible(program: &Program, kind: &Kind) -> HashSet<Verdict> {
    if program.check().is_err() {
        return HashSet::from([Verdict::Allow]);
    }
    follow(program, kind)
}

/// [`possible`] for a filter that [`Program::check`] accepts.
fn follow(program: &Program, kind: &Kind) -> HashSet<Verdict> {
    let mut verdicts = HashSet::new();
    let mut seen = HashSet::new();
    let mut open = vec![(0_usize, Word::exactly(0))];
    while let Some((at, a)) = open.pop() {
        // Filters of a few thousand instructions with a few values each; beyond that nobody waits for an answer.
        let Some(&Instruction { code, jt, jf, k }) =
            program.instructions.get(at).filter(|_| seen.len() < 65_536)
        else {
            verdicts.insert(Verdict::Allow);
            return verdicts;
        };
        let next = at + 1;
        let operand = Word::exactly(k);
        let mut branch = |holds: Option<bool>| {
            // Ways part here and nowhere else, so this is where one that was gone before is noticed.
            if holds.is_none() && !seen.insert((at, a)) {
                return;
            }
            if holds != Some(false) {
                open.push((next + usize::from(jt), a));
            }
            if holds != Some(true) {
                open.push((next + usize::from(jf), a));
            }
        };
        match code {
            code::LD_DATA => open.push((next, kind.word(k))),
            code::LD_IMMEDIATE => open.push((next, operand)),
            code::AND_K => open.push((next, a.and(operand))),
            code::OR_K => open.push((next, a.or(operand))),
            code::JEQ_K => branch(a.equals(operand)),
            code::JGT_K => branch(ordered(a.least() > k, a.most() <= k)),
            code::JGE_K => branch(ordered(a.least() >= k, a.most() < k)),
            code::JSET_K => branch(ordered(a.value & k != 0, a.most() & k == 0)),
            code::JEQ_X | code::JGT_X | code::JGE_X | code::JSET_X => branch(None),
            code::JA => match usize::try_from(k) {
                Ok(skip) => open.push((next + skip, a)),
                Err(_) => drop(verdicts.insert(Verdict::Allow)),
            },
            code::RET_K => drop(verdicts.insert(Verdict::decode(k))),
            code::RET_A => drop(verdicts.insert(a.number().map_or(Verdict::Allow, Verdict::decode))),
            // The second register and the scratch memory are not followed: what comes from there is not known.
            code::ST | code::STX | code::TAX | code::LDX_LENGTH | code::LDX_IMMEDIATE | code::LDX_MEMORY => {
                open.push((next, a));
            }
            code::DIV_X => {
                // A division by zero returns 0.
                verdicts.insert(Verdict::KillThread);
                open.push((next, Word::ANY));
            }
            _ => open.push((next, Word::ANY)),
        }
    }
    verdicts
}

fn ordered(yes: bool, no: bool) -> Option<bool> {
    match (yes, no) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    }
}

/// True if a filter may let a call of this kind be made without a listener having been asked: it allows, records,
/// or hands it to a tracer, which the workload itself may be.
pub fn may_pass(program: &Program, kind: &Kind) -> bool {
    passes(possible(program, kind))
}

/// [`may_pass`] for a filter that [`Program::check`] accepts; for whoever asks about many kinds.
pub(crate) fn may_pass_checked(program: &Program, kind: &Kind) -> bool {
    passes(follow(program, kind))
}

fn passes(verdicts: HashSet<Verdict>) -> bool {
    verdicts
        .into_iter()
        .any(|verdict| matches!(verdict, Verdict::Allow | Verdict::Log | Verdict::Trace(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Abi, Profile, Target, compile, interpret};
    use proptest::prelude::*;
    use serde_json::json;

    fn program(value: &serde_json::Value) -> Program {
        compile(&Profile::from_value(value).unwrap().unwrap(), &Target::native())
            .unwrap()
            .program
    }

    fn socket(first: Word) -> Kind {
        let mut args = [Word::ANY; 6];
        args[0] = first;
        Kind {
            nr: 41,
            arch: 0xc000_003e,
            args,
        }
    }

    fn no_family_38(second: Option<u64>) -> Program {
        let mut args = vec![json!({"index": 0, "value": 38, "op": "SCMP_CMP_EQ"})];
        args.extend(second.map(|kind| json!({"index": 1, "value": kind, "op": "SCMP_CMP_EQ"})));
        program(&json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": args}
        ]}))
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_call_that_is_denied_whatever_the_rest_is_denied_and_one_that_depends_may_pass() {
        assert!(!may_pass(&no_family_38(None), &socket(Word::exactly(38))));
        assert!(may_pass(&no_family_38(None), &socket(Word::exactly(40))));
        assert!(may_pass(&no_family_38(None), &socket(Word::ANY)));
        // One kind of socket alone: a sample with that kind would have been denied.
        assert!(may_pass(&no_family_38(Some(5)), &socket(Word::exactly(38))));
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_comparison_of_64_bits_is_seen_through() {
        // ld arg0.high; jeq 0 else allow; ld arg0.low; jeq 38: errno; allow: what libseccomp makes of it.
        let ins = |code, jt, jf, k| Instruction { code, jt, jf, k };
        let program = Program {
            instructions: vec![
                ins(code::LD_DATA, 0, 0, 20),
                ins(code::JEQ_K, 0, 3, 0),
                ins(code::LD_DATA, 0, 0, 16),
                ins(code::JEQ_K, 0, 1, 38),
                ins(code::RET_K, 0, 0, Verdict::Errno(1).encode()),
                ins(code::RET_K, 0, 0, Verdict::Allow.encode()),
            ],
        };
        let kind = socket(Word::exactly(38));
        assert_eq!(interpret(&program, &kind.example()).unwrap(), Verdict::Errno(1));
        assert!(may_pass(&program, &kind), "garbage in the high half passes");
    }

    #[test]
    fn a_broken_filter_may_do_anything() {
        assert!(may_pass(&Program::default(), &socket(Word::ANY)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
        /// What the interpreter answers for a call is among what is possible for every kind that the call is of.
        #[test]
        fn what_happens_was_possible(
            which in 0_usize..2, nr in 0_u32..470, args in prop::array::uniform6(any::<u64>()), known in any::<u32>(),
            small in any::<bool>(),
        ) {
            let text = [include_str!("../profiles/docker-20.10.json"), include_str!("../profiles/podman-5.4.json")][which];
            let program = program(&serde_json::from_str(text).unwrap());
            let args = args.map(|arg| if small { arg & 0x3f } else { arg });
            let low = |arg: u64| u32::try_from(arg & 0xffff_ffff).unwrap();
            let kind = Kind {
                nr,
                arch: Abi::NATIVE.audit_architecture(),
                args: args.map(|arg| Word { known, value: low(arg) & known }),
            };
            let data = Data { nr: nr.cast_signed(), arch: kind.arch, instruction_pointer: 7, args };
            let answer = interpret(&program, &data).unwrap();
            prop_assert!(possible(&program, &kind).contains(&answer), "{answer:?} to {data:x?}");
        }
    }
}
