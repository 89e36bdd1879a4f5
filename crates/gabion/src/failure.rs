//! How a command fails, and how that is told.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use gabion_baseline::report::Report;

use crate::cli::LogFormat;
use crate::log::{Log, Severity};
use crate::print;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Judgement refused the bundle.
    Refused {
        /// In one line, for logs.
        line: String,
        /// For a person at a terminal.
        text: String,
    },
    /// The command line is none; clap's words, several lines.
    Usage(String),
    /// Anything else.
    Error(anyhow::Error),
    /// A further process of a container was not started.
    Exec(Box<Failure>),
}

/// An error and its causes, each said once: some sentences have their cause in them already, at the end or before what
/// to do about it.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
    }
    text
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Error(error.into())
    }
}

impl Failure {
    pub(crate) fn error(message: impl Into<String>) -> Self {
        Failure::Error(anyhow::Error::msg(message.into()))
    }

    pub(crate) fn refused(report: &Report<'_>) -> Self {
        Failure::Refused {
            line: report.line(),
            text: report.text(print::style(&std::io::stderr(), false)),
        }
    }

    /// The failure in one line.
    pub(crate) fn line(&self) -> String {
        match self {
            Failure::Refused { line, .. } => line.clone(),
            Failure::Usage(text) => {
                let first = text.lines().next().unwrap_or_default();
                first.strip_prefix("error: ").unwrap_or(first).to_owned()
            }
            Failure::Error(error) => sentence(error),
            Failure::Exec(failure) => format!("exec failed: {}", failure.line()),
        }
    }

    /// Tells it, once in the log and once to whoever watches standard error, and gives the exit status: 1, and 255
    /// for a process that `exec` did not start, as runc has them.
    pub(crate) fn report(self, log: &Log) -> ExitCode {
        let line = self.line();
        if log.is_file() || log.format() == LogFormat::Json {
            log.write(Severity::Error, &line);
        }
        if log.is_file() || log.format() == LogFormat::Text {
            let mut stderr = std::io::stderr();
            let text = match self.innermost() {
                Failure::Refused { text, .. } if stderr.is_terminal() => text.clone(),
                Failure::Refused { .. } => format!("{line}\n"),
                Failure::Usage(text) => text.clone(),
                Failure::Error(_) | Failure::Exec(_) => format!("gabion: error: {line}\n"),
            };
            // Standard error may be closed; then the log and the exit status say it.
            drop(stderr.write_all(text.as_bytes()));
        }
        match self {
            Failure::Exec(_) => ExitCode::from(255),
            _ => ExitCode::FAILURE,
        }
    }

    fn innermost(&self) -> &Failure {
        match self {
            Failure::Exec(failure) => failure.innermost(),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_cause_is_said_once_wherever_the_sentence_has_it() {
        let full = || io::Error::from_raw_os_error(28);
        let ledger = gabion_ledger::LedgerError::Append {
            path: "/var/log/gabion/decisions.jsonl".into(),
            source: full(),
        };
        let line = Failure::from(ledger).line();
        assert_eq!(line.matches("No space left on device").count(), 1, "{line}");
        assert!(line.ends_with("in [ledger] of the policy"), "{line}");
        let plain = anyhow::Error::from(full()).context("cannot write to standard output");
        assert_eq!(
            Failure::from(plain).line(),
            "cannot write to standard output: No space left on device (os error 28)"
        );
    }
}
