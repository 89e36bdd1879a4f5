//! The log that engines read.
//!
//! containerd's shim looks for the last line of level `error` in a file of JSON lines and shows its `msg` to the
//! user; nobody else reads more of it. So gabion writes one such line, last, and never one of another's making:
//! libraries log errors and return them as well, and their events are written as warnings.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use gabion_ledger::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::cli::LogFormat;
use crate::failure::Failure;

/// A log: a file, or standard error.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    file: Option<Arc<File>>,
    format: LogFormat,
}

/// How bad it is, in logrus' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    Error,
    Warning,
    Info,
    Debug,
}

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "info",
            Severity::Debug => "debug",
        }
    }
}

impl Log {
    /// Opens the file for appending, made if it is not there; without one, the log is standard error.
    pub(crate) fn open(path: Option<&Path>, format: LogFormat) -> Result<Self, Failure> {
        let open = |path: &Path| {
            let file = OpenOptions::new().append(true).create(true).open(path);
            file.with_context(|| format!("cannot open the log {path:?}"))
                .map(Arc::new)
        };
        Ok(Log {
            file: path.map(open).transpose()?,
            format,
        })
    }

    pub(crate) fn to_stderr(format: LogFormat) -> Self {
        Log { file: None, format }
    }

    /// True if the log is a file that was asked for.
    pub(crate) fn is_file(&self) -> bool {
        self.file.is_some()
    }

    pub(crate) fn format(&self) -> LogFormat {
        self.format
    }

    /// Writes a line; one write(2), so that lines of several processes stay whole. Nobody is left to be told
    /// if it fails.
    pub(crate) fn write(&self, severity: Severity, message: &str) {
        let line = line(self.format, severity, message, Timestamp::now());
        drop(match &self.file {
            Some(file) => (&**file).write_all(line.as_bytes()),
            None => std::io::stderr().write_all(line.as_bytes()),
        });
    }
}

fn line(format: LogFormat, severity: Severity, message: &str, time: Timestamp) -> String {
    let (level, time) = (severity.name(), time.to_seconds());
    match format {
        LogFormat::Json => {
            format!(
                "{}\n",
                serde_json::json!({"level": level, "msg": message, "time": time})
            )
        }
        LogFormat::Text => {
            // As logrus quotes: a word of these characters stands as it is.
            let plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
            if !message.is_empty() && message.chars().all(plain) {
                return format!("time={time:?} level={level} msg={message}\n");
            }
            format!("time={time:?} level={level} msg={message:?}\n")
        }
    }
}

/// Sends diagnostics to the log, which is standard error if no file is asked for: warnings of gabion's own, and
/// everything with `--debug`.
pub(crate) fn diagnose(log: &Log, debug: bool) {
    let subscriber = Registry::default().with(Diagnostics {
        log: log.clone(),
        debug,
    });
    // Fails only if there is one already, and this is the only place that sets one.
    drop(tracing::subscriber::set_global_default(subscriber));
}

struct Diagnostics {
    log: Log,
    debug: bool,
}

impl<S: Subscriber> Layer<S> for Diagnostics {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        let level = *metadata.level();
        match self.debug {
            true => level <= tracing::Level::DEBUG,
            false => level <= tracing::Level::WARN && metadata.target().starts_with("gabion"),
        }
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let severity = match *event.metadata().level() {
            // See the module's text: the error line is written once, by whoever reports the failure.
            tracing::Level::ERROR | tracing::Level::WARN => Severity::Warning,
            tracing::Level::INFO => Severity::Info,
            _ => Severity::Debug,
        };
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.log
            .write(severity, &format!("{}{}", fields.message, fields.others));
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    others: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message.push_str(&format!("{value:?}")),
            name => self.others.push_str(&format!(" {name}={value:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_what_the_shim_reads() {
        let time = Timestamp::now();
        assert_eq!(
            line(LogFormat::Json, Severity::Error, "a \"b\"\nc", time),
            format!(
                "{{\"level\":\"error\",\"msg\":\"a \\\"b\\\"\\nc\",\"time\":\"{}\"}}\n",
                time.to_seconds()
            )
        );
    }

    #[test]
    fn text_is_as_logrus_has_it() {
        let time = Timestamp::now();
        let at = time.to_seconds();
        assert_eq!(
            line(LogFormat::Text, Severity::Warning, "a \"b\"\nc", time),
            format!("time=\"{at}\" level=warning msg=\"a \\\"b\\\"\\nc\"\n")
        );
        assert_eq!(
            line(LogFormat::Text, Severity::Info, "word", time),
            format!("time=\"{at}\" level=info msg=word\n")
        );
        assert_eq!(
            line(LogFormat::Text, Severity::Debug, "", time),
            format!("time=\"{at}\" level=debug msg=\"\"\n")
        );
    }

    #[test]
    fn an_error_of_a_library_is_a_warning_in_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let log = Log::open(Some(&path), LogFormat::Json).unwrap();
        let subscriber = Registry::default().with(Diagnostics { log, debug: false });
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!(target: "gabion_container", path = "/x", "cannot");
            tracing::error!(target: "libcontainer", "not ours, not with --log alone");
            tracing::info!(target: "gabion_container", "chatter");
        });
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 1);
        assert_eq!(
            (&lines[0]["level"], &lines[0]["msg"]),
            (&"warning".into(), &"cannot path=\"/x\"".into())
        );
    }
}
