//! A search for a number over runs of numbers with one outcome.
//!
//! A binary tree of few leaves: where some runs lie in the midst of one outcome, as a few denied calls among allowed
//! ones, asking for each of them takes fewer instructions than cutting between all runs.

use crate::assembler::{Assembler, Place};
use crate::compile::CompileError;
use crate::program::{MAX_INSTRUCTIONS, code};
use crate::verdict::Verdict;

/// Numbers from `start` up to the next run's, or to the last number of all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run<T> {
    pub(crate) start: u32,
    pub(crate) outcome: T,
    /// How near to the root it should be, relative to the others.
    pub(crate) weight: u64,
}

/// How many runs a leaf asks for, one after the other.
const LEAF: usize = 4;

/// Writes the search over runs in order, the first of which starts with 0; gives the place where it begins, with the
/// number in the accumulator. `place` writes what an outcome leads to.
///
/// # Errors
/// The program is too long, or `place` failed.
pub(crate) fn write<T: Copy + PartialEq>(
    assembler: &mut Assembler,
    runs: &[Run<T>],
    place: &mut impl FnMut(&mut Assembler, T) -> Result<Place, CompileError>,
) -> Result<Place, CompileError> {
    node(assembler, runs, None, place)
}

/// The part of a search that is reached by numbers from the first run's start up to `end`, exclusive.
fn node<T: Copy + PartialEq>(
    assembler: &mut Assembler,
    runs: &[Run<T>],
    end: Option<u32>,
    place: &mut impl FnMut(&mut Assembler, T) -> Result<Place, CompileError>,
) -> Result<Place, CompileError> {
    if assembler.len() > MAX_INSTRUCTIONS {
        return Err(CompileError::TooLong);
    }
    match runs {
        [] => Ok(assembler.returning(Verdict::KillProcess.encode())),
        [only] => place(assembler, only.outcome),
        _ => {
            if let Some((common, others)) = leaf(runs, end) {
                return chain(assembler, common, others, place);
            }
            let middle = balance(runs);
            let (left, right) = runs.split_at(middle);
            let cut = right.first().map_or(0, |run| run.start);
            // The further one first, since the program is written from its end.
            let no_less = node(assembler, right, end, place)?;
            let less = node(assembler, left, Some(cut), place)?;
            Ok(assembler.branch(code::JGE_K, cut, no_less, less))
        }
    }
}

/// A run that a leaf asks for, and how.
#[derive(Debug, Clone, Copy)]
struct Asked<T> {
    run: Run<T>,
    question: Question,
}

#[derive(Debug, Clone, Copy)]
enum Question {
    /// One number.
    Is,
    /// The last run of the leaf.
    FromHere,
    /// The first run of the leaf: not from this number on.
    Below(u32),
    /// From here, and not from this number on.
    Between(u32),
}

impl Question {
    /// In instructions.
    fn cost(self) -> usize {
        match self {
            Question::Is | Question::FromHere | Question::Below(_) => 1,
            Question::Between(_) => 2,
        }
    }
}

/// The outcome that is left when the other runs were asked for, where that is shorter than cutting.
fn leaf<T: Copy + PartialEq>(runs: &[Run<T>], end: Option<u32>) -> Option<(T, Vec<Asked<T>>)> {
    if runs.len() > 2 * LEAF + 1 {
        return None;
    }
    let last = runs.len() - 1;
    let asked = |common: T| -> Vec<Asked<T>> {
        runs.iter()
            .enumerate()
            .filter(|(_, run)| run.outcome != common)
            .map(|(index, run)| {
                let behind = runs.get(index + 1).map_or(end, |next| Some(next.start));
                let question = match behind {
                    Some(behind) if run.start.checked_add(1) == Some(behind) => Question::Is,
                    Some(behind) if index == 0 => Question::Below(behind),
                    Some(behind) if index != last => Question::Between(behind),
                    _ => Question::FromHere,
                };
                Asked { run: *run, question }
            })
            .collect()
    };
    let cost = |asked: &[Asked<T>]| asked.iter().map(|one| one.question.cost()).sum::<usize>();
    let (common, mut others) = runs
        .iter()
        .map(|run| (run.outcome, asked(run.outcome)))
        .min_by_key(|(_, others)| cost(others))?;
    if others.len() > LEAF || cost(&others) > last {
        return None;
    }
    // Stable: the heaviest is asked for first.
    others.sort_by_key(|one| std::cmp::Reverse(one.run.weight));
    Some((common, others))
}

fn chain<T: Copy>(
    assembler: &mut Assembler,
    common: T,
    others: Vec<Asked<T>>,
    place: &mut impl FnMut(&mut Assembler, T) -> Result<Place, CompileError>,
) -> Result<Place, CompileError> {
    let mut next = place(assembler, common)?;
    for Asked { run, question } in others.into_iter().rev() {
        let hit = place(assembler, run.outcome)?;
        next = match question {
            Question::Is => assembler.branch(code::JEQ_K, run.start, hit, next),
            Question::FromHere => assembler.branch(code::JGE_K, run.start, hit, next),
            Question::Below(behind) => assembler.branch(code::JGE_K, behind, next, hit),
            Question::Between(behind) => {
                let below = assembler.branch(code::JGE_K, behind, next, hit);
                assembler.branch(code::JGE_K, run.start, below, next)
            }
        };
    }
    Ok(next)
}

/// Where to cut, so that both sides weigh about the same and neither is empty.
fn balance<T>(runs: &[Run<T>]) -> usize {
    let total: u64 = runs.iter().map(|run| run.weight).sum();
    let mut left = 0;
    let mut best = (u64::MAX, 1);
    for (index, run) in runs.iter().enumerate().take(runs.len().saturating_sub(1)) {
        left += run.weight;
        best = best.min((left.abs_diff(total - left), index + 1));
    }
    best.1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::interpret::{Data, run};

    proptest! {
        /// Whatever the runs: dense or far apart, alike or not, up to the last number there is.
        #[test]
        fn each_number_leads_where_its_run_says(
            starts in proptest::collection::btree_set(prop_oneof![0..40_u32, any::<u32>(), Just(u32::MAX)], 0..40),
            outcomes in proptest::collection::vec((0..4_u32, 1..65_u64), 41),
        ) {
            let mut runs: Vec<Run<u32>> = Vec::new();
            for (start, (outcome, weight)) in std::iter::once(0).chain(starts).zip(outcomes) {
                match runs.last_mut() {
                    Some(last) if last.start == start => *last = Run { start, outcome, weight },
                    _ => runs.push(Run { start, outcome, weight }),
                }
            }
            let mut assembler = Assembler::default();
            let begin = write(&mut assembler, &runs, &mut |assembler, outcome| Ok(assembler.returning(outcome))).unwrap();
            assembler.step(code::LD_DATA, 0, begin);
            let program = assembler.finish();
            prop_assert_eq!(program.check(), Ok(()));
            for (index, one) in runs.iter().enumerate() {
                let last = runs.get(index + 1).map_or(u32::MAX, |next| next.start - 1);
                for number in [one.start, one.start + (last - one.start) / 2, last] {
                    let data = Data { nr: number.cast_signed(), ..Data::default() };
                    prop_assert_eq!(run(&program, &data).unwrap().returned, one.outcome, "{}", number);
                }
            }
            // And no longer than a cut between each two of them would be.
            let branches = program.instructions.iter().filter(|one| [code::JEQ_K, code::JGE_K].contains(&one.code));
            prop_assert!(branches.count() < runs.len());
        }
    }
}
