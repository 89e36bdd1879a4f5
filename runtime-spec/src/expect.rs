//! The few ways in which a clause says what it expects.

use crate::clause::{Stop, Verdict};
use std::fmt::Debug;

/// Passes if what was seen is what was wanted.
pub fn same<A: PartialEq<B> + Debug, B: Debug>(what: &str, seen: A, wanted: B) -> Verdict {
    holds(seen == wanted, || {
        format!("{what}: found {seen:?}, wanted {wanted:?}")
    })
}

/// Passes if the condition holds; the closure says what was found if it does not.
pub fn holds(condition: bool, found: impl FnOnce() -> String) -> Verdict {
    if condition { Ok(()) } else { fail(found()) }
}

/// Stops the clause as failed.
pub fn fail<T>(reason: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Fail(reason.into()))
}

/// Stops the clause as one that this machine cannot tell.
pub fn skip<T>(reason: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Skip(reason.into()))
}

/// Passes if the text contains each of the parts.
pub fn contains(what: &str, text: &str, part: &str) -> Verdict {
    holds(text.contains(part), || {
        format!("{what}: {part:?} is not in {text:?}")
    })
}
