//! Writes classic BPF from its end to its beginning.
//!
//! All jumps of classic BPF are forward. Written backwards, every target is already in its place when a jump to it
//! is written, so the distance is known and a jump that is too far for its 8-bit field can be given a stepping
//! stone at once. Places are counted from the end and never move.

use std::collections::HashMap;

use crate::program::{Instruction, Program, code};

/// A place in the program, counted from its end.
pub(crate) type Place = usize;

/// A piece of code that may begin with a load: where to enter it if that word is in the accumulator already.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) at: Place,
    /// The offset that the first instruction loads, and the place behind it.
    loads: Option<(u32, Place)>,
}

impl Entry {
    pub(crate) fn plain(at: Place) -> Entry {
        Entry { at, loads: None }
    }

    pub(crate) fn loading(at: Place, offset: u32, behind: Place) -> Entry {
        Entry {
            at,
            loads: Some((offset, behind)),
        }
    }

    /// Where to enter with this word in the accumulator.
    pub(crate) fn holding(&self, offset: u32) -> Place {
        match self.loads {
            Some((loads, behind)) if loads == offset => behind,
            _ => self.at,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Assembler {
    reversed: Vec<Instruction>,
    returns: HashMap<u32, Place>,
}

/// The furthest that a conditional jump goes.
const FAR: usize = 255;
/// A return further away than this is written again: what jumps to it may stand some way before this place.
const NEAR: usize = 192;

impl Assembler {
    pub(crate) fn len(&self) -> usize {
        self.reversed.len()
    }

    pub(crate) fn finish(mut self) -> Program {
        self.reversed.reverse();
        Program {
            instructions: self.reversed,
        }
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Place {
        self.reversed.push(Instruction { code, jt, jf, k });
        self.reversed.len() - 1
    }

    /// How many instructions are between the next one to be written and a place.
    fn distance(&self, to: Place) -> usize {
        self.reversed.len() - to - 1
    }

    /// A return of this value, near enough to be jumped to.
    pub(crate) fn returning(&mut self, value: u32) -> Place {
        match self.returns.get(&value) {
            Some(place) if self.distance(*place) <= NEAR => *place,
            _ => {
                let place = self.push(code::RET_K, 0, 0, value);
                self.returns.insert(value, place);
                place
            }
        }
    }

    /// An instruction that goes on at a place.
    pub(crate) fn step(&mut self, code: u16, k: u32, then: Place) -> Place {
        self.fall_into(then);
        self.push(code, 0, 0, k)
    }

    /// A conditional jump. The places may be the same, and as far away as they like.
    pub(crate) fn branch(&mut self, code: u16, k: u32, mut yes: Place, mut no: Place) -> Place {
        loop {
            match (u8::try_from(self.distance(yes)), u8::try_from(self.distance(no))) {
                (Ok(jt), Ok(jf)) => return self.push(code, jt, jf, k),
                (Err(_), _) => yes = self.jump(yes),
                (_, Err(_)) => no = self.jump(no),
            }
        }
    }

    fn fall_into(&mut self, place: Place) {
        if self.distance(place) > 0 {
            self.jump(place);
        }
    }

    fn jump(&mut self, to: Place) -> Place {
        let distance = self.distance(to);
        self.push(code::JA, 0, 0, u32::try_from(distance).unwrap_or(u32::MAX))
    }
}

const _: () = assert!(NEAR < FAR);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interpret::{Data, run};

    #[test]
    fn a_jump_that_is_too_far_gets_a_stepping_stone() {
        for filling in [0, 1, 253, 254, 255, 256, 257, 1000] {
            let mut assembler = Assembler::default();
            let yes = assembler.returning(1);
            let no = assembler.returning(2);
            for k in 0..filling {
                assembler.push(code::RET_K, 0, 0, 1000 + k);
            }
            let branch = assembler.branch(code::JEQ_K, 7, yes, no);
            assembler.step(code::LD_DATA, 0, branch);
            let program = assembler.finish();
            assert_eq!(program.check(), Ok(()), "{filling}");
            let of = |nr| {
                run(
                    &program,
                    &Data {
                        nr,
                        ..Data::default()
                    },
                )
                .unwrap()
                .returned
            };
            assert_eq!((of(7), of(8)), (1, 2), "{filling}");
        }
    }
}
