//! Printing, for terminals and for pipes.

use std::io::{ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};
use gabion_baseline::report::Style;
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};

use crate::failure::Failure;

/// Lines of prose that are longer than this are hard to read, however wide the terminal.
const MAX_WIDTH: usize = 110;

/// `--format`, of commands whose answer is for a person or for a program.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Format {
    /// Print text or json
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        default_value = "text",
        hide_possible_values = true
    )]
    format: TextOrJson,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TextOrJson {
    Text,
    Json,
}

impl Format {
    /// The answer is for a program.
    pub(crate) fn is_json(self) -> bool {
        self.format == TextOrJson::Json
    }
}

/// Prints to standard output. A reader that went away (`gabion explain | head`) is no failure.
pub(crate) fn out(text: &str) -> Result<ExitCode, Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(anyhow::Error::from(error)
            .context("cannot write to standard output")
            .into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Prints a value as indented JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<ExitCode, Failure> {
    out(&indented(value, b"  ")?)
}

/// Prints a value as JSON in one line.
pub(crate) fn line(value: &impl Serialize) -> Result<ExitCode, Failure> {
    let text = serde_json::to_string(value).context("cannot write JSON")?;
    out(&format!("{text}\n"))
}

/// A value as JSON with this indentation, ending in a line end.
pub(crate) fn indented(value: &impl Serialize, indent: &[u8]) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(indent));
    value.serialize(&mut serializer).context("cannot write JSON")?;
    bytes.push(b'\n');
    Ok(String::from_utf8(bytes)?)
}

/// How to set a report on this stream: in the terminal's width if it is one, in colour unless `NO_COLOR` is set.
pub(crate) fn style(stream: &(impl AsFd + IsTerminal), everything: bool) -> Style {
    let terminal = stream.is_terminal();
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    Style {
        width: terminal.then(|| columns(stream)),
        colour: terminal && !plain && std::env::var_os("TERM").is_none_or(|term| term != "dumb"),
        everything,
    }
}

/// The width to set prose in: the terminal's, or 80 columns where there is none.
pub(crate) fn prose_width() -> usize {
    let stdout = std::io::stdout();
    if stdout.is_terminal() {
        columns(&stdout)
    } else {
        80
    }
}

fn columns(stream: &impl AsFd) -> usize {
    gabion_sys::terminal::columns(stream).unwrap_or(80).min(MAX_WIDTH)
}
