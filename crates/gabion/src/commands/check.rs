//! `gabion check`: judgement without running anything.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use gabion_baseline::Operation;
use gabion_baseline::report::{Report, Subject, Verdict};

use crate::cli::VERSION;
use crate::context::Context;
use crate::failure::Failure;
use crate::{gate, print};

/// Judge a bundle without running anything
///
/// Prints what would be refused, hardened and recorded, on this host and under its
/// policy. Ends with status 0 if the bundle is admitted, 2 if it is refused, and 1 if
/// it cannot be judged.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// Directory of the bundle [default: .]
    #[arg(short, long, value_name = "DIR", conflicts_with = "config")]
    bundle: Option<PathBuf>,

    /// Judge this file instead of a bundle's config.json; - is standard input
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The file comes from another host: ask nothing of this one
    #[arg(long)]
    offline: bool,

    /// Print text, json, or sarif for code scanners
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        default_value = "text",
        hide_possible_values = true
    )]
    format: Format,

    /// Print the configuration as it would run as well
    #[arg(long)]
    effective: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
    Sarif,
}

pub(crate) fn run(options: &Options, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let (site, _) = context.site()?;
    let bundle = options.bundle.as_deref().unwrap_or(Path::new("."));
    let (judgement, name, file) = match &options.config {
        Some(path) => {
            let bytes = gabion_host::bundle::read_config(path)?;
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let directory = std::path::absolute(directory.unwrap_or(Path::new(".")))?;
            let judgement = gate::judge_file(context, &site, &bytes, &directory, options.offline)?;
            let name = if path == Path::new("-") {
                Path::new("standard input")
            } else {
                path
            };
            (judgement, name, path.clone())
        }
        None if options.offline => {
            let file = gabion_host::bundle::read(bundle)?;
            let judgement = gate::judge_file(context, &site, &file.config, &file.path, true)?;
            (judgement, bundle, bundle.join("config.json"))
        }
        None => {
            let operation = Operation::Check { offline: false };
            let host = gabion_host::Context::default();
            let judged = gate::judge_bundle(context, &site, bundle, &operation, host)?;
            (judged.judgement, bundle, bundle.join("config.json"))
        }
    };
    let (name, file) = (name.display().to_string(), file.display().to_string());
    let report = Report::of(
        &judgement,
        Subject {
            name: &name,
            file: &file,
            bundle: None,
        },
    );
    match options.format {
        Format::Text => {
            print::out(&report.text(print::style(&std::io::stdout(), true)))?;
            if let (true, Some(effective)) = (options.effective, report.effective()) {
                print::json(effective)?;
            }
        }
        Format::Json => drop(print::json(&report.json(options.effective))?),
        Format::Sarif => drop(print::json(&report.sarif(VERSION))?),
    }
    Ok(match report.verdict() {
        Verdict::Admitted => ExitCode::SUCCESS,
        Verdict::Refused => ExitCode::from(2),
    })
}
