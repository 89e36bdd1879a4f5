//! What can go wrong with a container, sorted by who must act.

use std::path::PathBuf;

use gabion_descent::Failure;
use gabion_sys::CallError;
use nix::errno::Errno;

/// The result of an operation on a container.
pub type Result<T> = std::result::Result<T, ContainerError>;

/// Why an operation on a container failed. The first words are those that users and engines of runc know.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ContainerError {
    #[error("invalid container ID format: {0:?}: use letters, digits, and _ + - . and nothing else")]
    Id(String),
    #[error("container with given ID already exists: {0}")]
    Exists(String),
    #[error("container does not exist: {0}")]
    Missing(String),
    #[error(
        "{}cannot {operation} a container in the {status} state",
        known_words(operation, status)
    )]
    WrongState {
        operation: &'static str,
        status: &'static str,
    },
    #[error("container not running: {0}")]
    NotRunning(String),
    #[error(
        "cannot delete container {id} that is not stopped: it is {status}; kill it first, or delete --force"
    )]
    NotStopped { id: String, status: &'static str },
    /// The bundle asks for something that gabion does not do: never ignored in silence.
    #[error("config.json#{pointer}: {text}")]
    Unsupported { pointer: String, text: String },
    #[error("unable to start container process: {0}")]
    Process(Failure),
    #[error("unable to create the container: {0}")]
    Build(String),
    #[error("{what} {path:?}: {source}")]
    File {
        what: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(transparent)]
    Call(#[from] CallError),
    /// What was found on disk is not what gabion wrote: someone should look.
    #[error(
        "{path:?} is damaged: {text}. Nothing was done; `gabion delete --force` removes what can be found of it"
    )]
    Damaged { path: PathBuf, text: String },
    #[error("error running {point} hook #{index}: {path:?} {text}")]
    Hook {
        point: &'static str,
        index: usize,
        path: String,
        text: String,
    },
    #[error("{0}")]
    Other(String),
}

/// What callers of runc look for, in front of our own words: containerd's shim takes a container that is "not running" for
/// one that has ended already.
fn known_words(operation: &str, status: &str) -> &'static str {
    match (operation, status) {
        ("kill" | "pause", _) => "container not running: ",
        ("resume", _) => "container not paused: ",
        ("exec in", "stopped") => "cannot exec in a stopped container: ",
        ("start", "stopped") => "cannot start a container that has stopped: ",
        ("start", "running" | "paused") => "cannot start an already running container: ",
        _ => "",
    }
}

impl ContainerError {
    /// An error of the file system, with what was being done.
    pub fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| ContainerError::File { what, path, source }
    }

    /// An error of a call that nix made.
    pub fn call(call: impl Into<String>) -> impl FnOnce(Errno) -> Self {
        let call = call.into();
        move |errno| ContainerError::Call(CallError::new(call, errno))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_words_are_those_that_engines_know() {
        let text = |operation, status| ContainerError::WrongState { operation, status }.to_string();
        assert_eq!(
            text("kill", "stopped"),
            "container not running: cannot kill a container in the stopped state"
        );
        assert_eq!(
            text("exec in", "stopped"),
            "cannot exec in a stopped container: cannot exec in a container in the stopped state"
        );
        assert_eq!(
            text("verify", "stopped"),
            "cannot verify a container in the stopped state"
        );
    }
}
