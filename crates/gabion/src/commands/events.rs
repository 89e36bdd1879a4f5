//! `gabion events`.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use gabion_container::{ContainerError, Event};
use serde::Serialize;

use super::lifecycle::place;
use crate::context::Context;
use crate::failure::Failure;

/// Print what a container uses, and when it runs out of memory
///
/// One line of JSON for each event, until the container has ended: "stats" at every
/// interval, "oom" when the kernel ends a process of it for want of memory.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// Name of the container
    #[arg(value_name = "CONTAINER_ID")]
    pub id: String,

    /// Time between two looks: 500ms, 5s, 1m30s
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "5s",
        allow_hyphen_values = true
    )]
    pub interval: String,

    /// Print what it uses now, and end
    #[arg(long)]
    pub stats: bool,
}

/// A line, in runc's form.
#[derive(Debug, Serialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<gabion_container::Stats>,
}

pub(crate) fn run(options: &Options, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let (root, id) = place(&options.id, context)?;
    let interval = duration(&options.interval)
        .ok_or_else(|| Failure::error(format!("invalid value for interval: {:?}", options.interval)))?;
    if interval.is_zero() {
        return Err(Failure::error("duration interval must be greater than 0"));
    }
    let print = |event| {
        let (kind, data) = match event {
            Event::Stats(stats) => ("stats", Some(*stats)),
            Event::Oom => ("oom", None),
        };
        let line = Line {
            kind,
            id: id.as_str(),
            data,
        };
        let mut text = serde_json::to_vec(&line).map_err(|error| ContainerError::Other(error.to_string()))?;
        text.push(b'\n');
        let mut stdout = std::io::stdout().lock();
        stdout
            .write_all(&text)
            .and_then(|()| stdout.flush())
            .map_err(ContainerError::file("cannot write to", "standard output"))
    };
    let told = if options.stats {
        gabion_container::statistics(&root, &id).and_then(|stats| print(Event::Stats(Box::new(stats))))
    } else {
        gabion_container::watch(&root, &id, interval, print)
    };
    match told {
        // A reader that went away has seen enough.
        Err(ContainerError::File { source, .. }) if source.kind() == ErrorKind::BrokenPipe => {
            Ok(ExitCode::SUCCESS)
        }
        other => other.map(|()| ExitCode::SUCCESS).map_err(Failure::from),
    }
}

/// A duration as Go writes it: numbers with units, `1m30s`, `1.5h`, `100ms`; zero for one that is negative.
fn duration(text: &str) -> Option<Duration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest
            .find(|letter: char| letter.is_ascii_digit() || letter == '.')
            .unwrap_or(rest.len());
        let seconds = match &rest[..end] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        rest = &rest[end..];
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
    }
    Some(if negative { Duration::ZERO } else { total })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, milliseconds) in [
            ("5s", 5000),
            ("100ms", 100),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            ("500us", 0),
            ("0", 0),
            ("-5s", 0),
        ] {
            assert_eq!(duration(text).unwrap().as_millis(), milliseconds, "{text}");
        }
        for text in ["", "5", "s", "5 s", "5d", "1.2.3s", "-", "1e3s"] {
            assert_eq!(duration(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_line_is_in_the_form_that_programs_read() {
        let oom = Line {
            kind: "oom",
            id: "web",
            data: None,
        };
        assert_eq!(
            serde_json::to_string(&oom).unwrap(),
            r#"{"type":"oom","id":"web"}"#
        );
        let stats = Line {
            kind: "stats",
            id: "web",
            data: Some(gabion_container::Stats::default()),
        };
        assert!(
            serde_json::to_string(&stats)
                .unwrap()
                .starts_with(r#"{"type":"stats","id":"web","data":{"cpu":{"usage":{"kernel":0,"user":0}"#)
        );
    }
}
