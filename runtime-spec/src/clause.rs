//! A clause: one demand of the specification, and how to find out whether a runtime meets it.

use crate::Stage;

/// One demand of the runtime-spec that can be observed.
#[derive(Clone, Copy)]
pub struct Clause {
    /// `document.md#section/what`, for example `runtime.md#create/duplicate-id`.
    pub id: &'static str,
    /// How strongly the specification asks.
    pub level: Level,
    /// The demand, in our own words.
    pub text: &'static str,
    /// Finds out.
    pub run: fn(&Stage) -> Verdict,
}

impl Clause {
    /// A demand the specification words as MUST, MUST NOT or REQUIRED.
    pub const fn must(id: &'static str, text: &'static str, run: fn(&Stage) -> Verdict) -> Self {
        Clause {
            id,
            level: Level::Must,
            text,
            run,
        }
    }

    /// A demand the specification words as SHOULD or SHOULD NOT.
    pub const fn should(id: &'static str, text: &'static str, run: fn(&Stage) -> Verdict) -> Self {
        Clause {
            id,
            level: Level::Should,
            text,
            run,
        }
    }

    /// Something the specification describes without a key word, and that users rely on all the same.
    pub const fn described(id: &'static str, text: &'static str, run: fn(&Stage) -> Verdict) -> Self {
        Clause {
            id,
            level: Level::Described,
            text,
            run,
        }
    }

    /// The document the clause is in: the part of the id before `#`.
    pub fn document(&self) -> &'static str {
        self.id.split('#').next().unwrap_or(self.id)
    }

    /// The part of the id after `#`.
    pub fn section(&self) -> &'static str {
        self.id.split_once('#').map_or("", |(_, section)| section)
    }
}

/// How strongly the specification asks for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// MUST, MUST NOT, REQUIRED.
    Must,
    /// SHOULD, SHOULD NOT.
    Should,
    /// Described as what happens, without a key word.
    Described,
}

impl Level {
    /// The level as the tables print it.
    pub fn word(self) -> &'static str {
        match self {
            Level::Must => "MUST",
            Level::Should => "SHOULD",
            Level::Described => "described",
        }
    }
}

/// What running a clause came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The runtime does what the clause demands.
    Pass,
    /// It does not; the reason says what was seen instead.
    Fail(String),
    /// This machine cannot tell; the reason says what is missing.
    Skip(String),
}

/// Why a clause stopped before it could pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The runtime was seen to do something else.
    Fail(String),
    /// The machine lacks what it takes to tell.
    Skip(String),
}

/// What a clause's function returns: `Ok` when the demand is met.
pub type Verdict = Result<(), Stop>;

impl From<Verdict> for Outcome {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Ok(()) => Outcome::Pass,
            Err(Stop::Fail(reason)) => Outcome::Fail(reason),
            Err(Stop::Skip(reason)) => Outcome::Skip(reason),
        }
    }
}

/// Trouble of our own counts as a failure, so that it is looked into, and says that it is ours.
impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Stop::Fail(format!("the test itself could not go on: {error}"))
    }
}
