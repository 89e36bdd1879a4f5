//! Seccomp filters that are made once and used again.
//!
//! ```text
//! linux.seccomp ──key──▶ this process' own ──▶ built into the program ──▶ kept in a directory ──▶ made now, and kept
//! ```
//!
//! Judgement asks what a profile lets through, and building asks for its filter: one [`Filters`] serves both, so that
//! what was judged is what is loaded. Called by the commands that judge and start something. It promises:
//!
//! - the key has everything that decides: the profile, or the entries and capabilities of a floor; the architecture; the
//!   compiler, by the digest of its source; the tables of system calls; and, for what is kept, the running kernel;
//! - what is kept is used only from a directory, and in a file, that nobody else can write to or read; it has to be
//!   whole, to be about this key, to be a filter that the kernel takes, and to deny what it is said to deny;
//! - whatever is wrong with what is kept, the filter is made anew. A directory that cannot be used costs time alone.
//!
//! It does not load filters, and does not decide what has to be denied.
#![forbid(unsafe_code)]

mod built_in;
#[cfg(test)]
mod common;
mod directory;
mod key;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use gabion_seccomp::Compiled;
use gabion_seccomp::floor::{self, FloorError, Selection, Study};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::directory::{Directory, Found};
use crate::key::{Key, Kind, key};

/// Filters, and where they come from.
#[derive(Debug, Default)]
pub struct Filters {
    directory: OnceLock<Directory>,
    studies: Mutex<Vec<(Key, Arc<Study>)>>,
}

/// Where a filter came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// This process had it already.
    Memory,
    /// It is part of the program.
    BuiltIn,
    /// It was kept in the directory.
    Kept,
    /// It was made just now.
    Made,
}

/// How many filters are kept; the oldest go first.
pub const MOST_FILTERS: usize = 64;
/// How many bytes they may have together.
pub const MOST_BYTES: u64 = 1 << 20;

impl Filters {
    /// Those of this process and of the program alone.
    pub fn new() -> Filters {
        Filters::default()
    }

    /// From now on, also those in this directory, which is made when there is something to keep. The directory above it
    /// has to be one where nobody else can put another in its place.
    pub fn keep_in(&self, directory: PathBuf) {
        self.directory.get_or_init(|| Directory::new(directory));
    }

    /// What comes of a profile, the value of `linux.seccomp`.
    ///
    /// # Errors
    /// The value is no profile, or it cannot be compiled.
    pub fn study(&self, seccomp: &Value) -> Result<Arc<Study>, FloorError> {
        self.study_from(seccomp).map(|(study, _)| study)
    }

    /// The same, and where it came from.
    ///
    /// # Errors
    /// As [`Filters::study`].
    pub fn study_from(&self, seccomp: &Value) -> Result<(Arc<Study>, Source), FloorError> {
        let Ok(key) = key(&built_in::COMPILER, Kind::Study, seccomp) else {
            return floor::study(seccomp).map(|study| (Arc::new(study), Source::Made));
        };
        let mut studies = self.studies.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, study)) = studies.iter().find(|(other, _)| *other == key) {
            return Ok((Arc::clone(study), Source::Memory));
        }
        let read = |bytes: &[u8]| Study::from_bytes(bytes).map_err(|error| error.to_string());
        let (study, source) = self.get(&key, read, Study::is_consistent, Study::to_bytes, || {
            floor::study(seccomp)
        })?;
        let study = Arc::new(study);
        studies.push((key, Arc::clone(&study)));
        Ok((study, source))
    }

    /// The filter of these entries of the floor, for a container with these capabilities in its bounding set; `None` if
    /// there is nothing to load.
    ///
    /// # Errors
    /// A name that is no entry.
    pub fn floor(&self, entries: &[String], bounding: &[String]) -> Result<Option<Compiled>, FloorError> {
        Ok(self.floor_from(entries, bounding)?.map(|(compiled, _)| compiled))
    }

    /// The same, and where it came from.
    ///
    /// # Errors
    /// As [`Filters::floor`].
    pub fn floor_from(
        &self,
        entries: &[String],
        bounding: &[String],
    ) -> Result<Option<(Compiled, Source)>, FloorError> {
        let selection = Selection::new(entries, bounding)?;
        if selection.is_empty() {
            return Ok(None);
        }
        let made = || selection.filter();
        let given = (&selection.entries, &selection.capabilities);
        let Ok(key) = key(&built_in::COMPILER, Kind::Floor, &given) else {
            return Ok(made()?.map(|compiled| (compiled, Source::Made)));
        };
        let read = |bytes: &[u8]| {
            Compiled::from_bytes(bytes)
                .map(Some)
                .map_err(|error| error.to_string())
        };
        let denies = |compiled: &Option<Compiled>| {
            compiled
                .as_ref()
                .is_some_and(|compiled| selection.is_denied_by(compiled))
        };
        let write =
            |compiled: &Option<Compiled>| compiled.as_ref().map(Compiled::to_bytes).unwrap_or_default();
        let (compiled, source) = self.get(&key, read, denies, write, made)?;
        Ok(compiled.map(|compiled| (compiled, source)))
    }

    fn get<T>(
        &self,
        key: &Key,
        read: impl Fn(&[u8]) -> Result<T, String>,
        holds: impl Fn(&T) -> bool,
        write: impl Fn(&T) -> Vec<u8>,
        make: impl FnOnce() -> Result<T, FloorError>,
    ) -> Result<(T, Source), FloorError> {
        // The program's own bytes are as good as its code.
        if let Some(bytes) = built_in::find(key)
            && let Ok(found) = read(bytes)
        {
            return Ok((found, Source::BuiltIn));
        }
        let Some(directory) = self.directory.get() else {
            return make().map(|made| (made, Source::Made));
        };
        let key = on_this_kernel(key);
        match directory.find(&key) {
            Found::Record(bytes) => {
                let found = read(&bytes).and_then(|found| match holds(&found) {
                    true => Ok(found),
                    false => Err("it lets through what it is said to deny".to_owned()),
                });
                match found {
                    Ok(found) => return Ok((found, Source::Kept)),
                    Err(why) => directory.complain(&key, &why),
                }
            }
            Found::Unusable(why) => directory.complain(&key, &why),
            Found::Nothing => {}
        }
        let made = make()?;
        directory.keep(&key, &write(&made));
        Ok((made, Source::Made))
    }
}

/// What is kept is for one kernel: it decides which actions and flags there are (`actions_avail`), and a directory may
/// outlive it.
fn on_this_kernel(key: &Key) -> Key {
    let mut digest = Sha256::new();
    digest.update(key);
    // It cannot fail but for a wild pointer; then what is kept is for a kernel without a name.
    if let Ok(kernel) = nix::sys::utsname::uname() {
        for part in [kernel.release(), kernel.version()] {
            digest.update(part.as_encoded_bytes());
            digest.update([0]);
        }
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests;
