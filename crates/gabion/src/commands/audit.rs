//! `gabion audit`: what would have been refused, before gabion is switched on.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::audit::{self, find};
use crate::context::Context;
use crate::failure::Failure;
use crate::print;

/// Judge the containers that run under other runtimes, without touching them
///
/// Reads the bundles of containerd, Docker, podman, CRI-O, runc and crun on this host,
/// judges each with the facts of this host, and reports what would have been refused.
/// Ends with status 0 if all would be admitted, 2 if one would be refused or cannot be
/// judged, and 1 if it cannot look.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// Look where engines keep their bundles by default
    #[arg(long)]
    all: bool,

    /// Look for bundles in DIR too, however deep; may be given several times
    #[arg(long = "in", value_name = "DIR")]
    directories: Vec<PathBuf>,

    /// Judge the containers of engines that have stopped as well
    #[arg(long)]
    stopped: bool,

    /// Print text, json, or html: one page that needs nothing else
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        default_value = "text",
        hide_possible_values = true
    )]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
    Html,
}

pub(crate) fn run(options: &Options, context: &Context<'_>) -> Result<ExitCode, Failure> {
    if !options.all && options.directories.is_empty() {
        return Err(Failure::error(
            "audit needs --all, or --in DIR for bundles elsewhere",
        ));
    }
    let (site, _) = context.site()?;
    let places = find::bundles(options.all, &options.directories, options.stopped)?;
    let audit = audit::of(context, &site, places)?;
    match options.format {
        Format::Text => drop(print::out(&audit::text::page(&audit))?),
        Format::Json => drop(print::json(&audit::json(&audit))?),
        Format::Html => drop(print::out(&audit::html::page(&audit))?),
    }
    Ok(if audit.refused() == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(2)
    })
}
