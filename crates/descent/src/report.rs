//! What the descent says to whoever called `start`, and how.
//!
//! The channel is a FIFO that the init process holds open and that execve closes:
//!
//! ```text
//! "G321" …               everything was verified but for what can be seen only with the filters loaded,
//!                        in so many microseconds
//! end of file after it   execve happened: success
//! "G321" then "F…"       a filter is not as promised, or execve was refused
//! "F…"                   a mismatch, or a call that failed
//! end of file alone      the process ended before: a hook or a signal
//! ```
//!
//! A report is one write of less than PIPE_BUF bytes, so it arrives whole (pipe(7)).

use std::ffi::CString;
use std::fmt;
use std::os::fd::AsFd;
use std::time::Duration;

use gabion_sys::CallError;
use nix::errno::Errno;

/// Longest text of a report, in bytes; with the header it stays below PIPE_BUF (4096).
const MAX_TEXT: usize = 3800;

/// One report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The filters and execve are all that is left; how long the checks took that led here.
    Going(Duration),
    /// The program is not executed.
    Failed(Failure),
}

/// Why the program is not executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The kernel's state is not what was judged.
    Mismatch {
        /// The check, such as `V-04`.
        check: String,
        /// What was expected and what was found.
        text: String,
    },
    /// The program cannot be executed, in the words that engines look for.
    Program(String),
    /// A system call failed.
    Call(CallError),
    /// Anything else, from a report that was read back.
    Other(String),
}

impl Failure {
    /// A mismatch found by a check.
    pub fn mismatch(check: &str, text: impl Into<String>) -> Self {
        Failure::Mismatch {
            check: check.to_owned(),
            text: text.into(),
        }
    }

    /// execve refused. The words after the name are those that Docker's client knows.
    pub(crate) fn execution(arguments: &[CString], error: &CallError) -> Self {
        let name = arguments
            .first()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let reason = match error.errno {
            Errno::ENOENT => "no such file or directory".to_owned(),
            Errno::EACCES | Errno::EPERM => "permission denied".to_owned(),
            Errno::ENOEXEC => "exec format error".to_owned(),
            other => other.desc().to_lowercase(),
        };
        // Without quotes, as kernels' and runtimes' users have always read it.
        Failure::Program(format!("exec {}: {reason}", name.escape_debug()))
    }

    fn parts(&self) -> (u8, &str, String) {
        match self {
            Failure::Mismatch { check, text } => (b'M', check, text.clone()),
            Failure::Program(text) => (b'P', "", text.clone()),
            Failure::Call(error) => (b'C', "", error.to_string()),
            Failure::Other(text) => (b'C', "", text.clone()),
        }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Failure::Call(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Mismatch { check, text } => {
                write!(
                    f,
                    "{check}: reality is not what was judged: {text}; gabion explain {check} says more"
                )
            }
            Failure::Program(text) | Failure::Other(text) => f.write_str(text),
            Failure::Call(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for Failure {}

/// Writes one report.
///
/// # Errors
/// Whatever write(2) answers; a short write is reported as `EIO`.
pub fn write(channel: impl AsFd, report: &Report) -> Result<(), CallError> {
    let bytes = encode(report);
    let call = || format!("write(report, {} bytes)", bytes.len());
    match nix::unistd::write(channel, &bytes) {
        Ok(written) if written == bytes.len() => Ok(()),
        Ok(_) => Err(CallError::new(call(), Errno::EIO)),
        Err(errno) => Err(CallError::new(call(), errno)),
    }
}

fn encode(report: &Report) -> Vec<u8> {
    match report {
        Report::Going(spent) => format!("G{}\n", spent.as_micros()).into_bytes(),
        Report::Failed(failure) => {
            let (kind, check, mut text) = failure.parts();
            let mut end = text.len().min(MAX_TEXT);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
            let line = text.replace('\n', " ");
            let mut bytes = vec![b'F', kind];
            bytes.extend_from_slice(format!("{check}\t{line}\n").as_bytes());
            bytes
        }
    }
}

/// Reads what arrived until the end of the channel: the outcome of the descent, and how long the reality gate's checks
/// took.
///
/// # Errors
/// The failure that was reported; [`Failure::Other`] if the process ended without a word.
pub fn outcome(bytes: &[u8]) -> Result<Duration, Failure> {
    let text = String::from_utf8_lossy(bytes);
    let mut going = None;
    for line in text.lines() {
        if let Some(spent) = line.strip_prefix('G') {
            going = Some(Duration::from_micros(spent.parse().unwrap_or(0)));
        } else if let Some(rest) = line.strip_prefix('F') {
            return Err(decode(rest));
        }
    }
    going.ok_or_else(|| {
        Failure::Other("the container's init process ended before it executed the program".to_owned())
    })
}

fn decode(rest: &str) -> Failure {
    let mut characters = rest.chars();
    let kind = characters.next();
    let (check, text) = characters
        .as_str()
        .split_once('\t')
        .unwrap_or(("", characters.as_str()));
    match kind {
        Some('M') => Failure::mismatch(check, text),
        Some('P') => Failure::Program(text.to_owned()),
        _ => Failure::Other(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_is_going_and_then_the_end_of_the_channel() {
        let spent = Duration::from_micros(321);
        assert_eq!(outcome(&encode(&Report::Going(spent))), Ok(spent));
    }

    #[test]
    fn an_end_without_a_word_is_a_failure() {
        assert!(matches!(outcome(b""), Err(Failure::Other(_))));
    }

    #[test]
    fn a_failure_after_going_is_still_a_failure() {
        let failure = Failure::mismatch("V-05", "expected 1 filter, found 0");
        let mut bytes = encode(&Report::Going(Duration::ZERO));
        bytes.extend(encode(&Report::Failed(failure.clone())));
        assert_eq!(outcome(&bytes), Err(failure));
    }

    #[test]
    fn a_long_or_multi_line_text_arrives_as_one_short_line() {
        let long = "é\n".repeat(4000);
        let bytes = encode(&Report::Failed(Failure::mismatch("V-10", long)));
        assert!(bytes.len() < 4096);
        assert!(matches!(outcome(&bytes), Err(Failure::Mismatch { check, .. }) if check == "V-10"));
    }
}
