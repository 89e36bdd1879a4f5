//! Why nothing could be learnt.

use std::path::{Path, PathBuf};

/// The result of learning.
pub type Result<T> = std::result::Result<T, LearnError>;

/// Why nothing could be learnt, or not be written.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// The kernel refused something.
    #[error(transparent)]
    Call(#[from] gabion_sys::CallError),
    /// A file or directory.
    #[error("cannot {what} {path:?}: {error}")]
    File {
        /// What was to be done, as a verb.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// A profile that cannot be made into a filter.
    #[error("the profile cannot be watched: {0}")]
    Profile(#[from] gabion_seccomp::CompileError),
    /// What was found does not do, with the way out.
    #[error("{0}")]
    Other(String),
}

impl LearnError {
    /// Makes an error about a file.
    pub(crate) fn file(what: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |error| LearnError::File { what, path, error }
    }
}
