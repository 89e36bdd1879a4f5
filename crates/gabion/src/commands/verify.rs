//! `gabion verify`: what the kernel says of a running container, against what was judged.

use std::process::ExitCode;

use clap::Args;
use gabion_container::{ContainerError, ContainerId, StateRoot, View};
use gabion_descent::outside::{Check, Outcome};
use serde_json::json;

use crate::context::Context;
use crate::failure::Failure;
use crate::print::{self, Format};

/// Hold running containers against what was judged
///
/// The checks that were made before a container's program began are made again, from
/// outside and with the container as it is now. Ends with status 0 if everything is
/// as it was judged, 2 if something has drifted, and 1 if it cannot be told.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// Name of the container
    #[arg(
        value_name = "CONTAINER_ID",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    id: Option<String>,

    /// All containers of this state directory that have a process
    #[arg(short, long)]
    all: bool,

    #[command(flatten)]
    format: Format,
}

pub(crate) fn run(options: &Options, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let root = StateRoot::open(&context.root())?;
    let (mut views, mut errors) = (Vec::new(), Vec::new());
    match &options.id {
        Some(id) => views.push(gabion_container::verify(&root, &ContainerId::new(id)?)?),
        None => {
            for id in root.ids()? {
                match gabion_container::verify(&root, &id) {
                    Ok(view) => views.push(view),
                    // Nothing runs in it, or it is gone meanwhile.
                    Err(ContainerError::WrongState { .. } | ContainerError::Missing { .. }) => {}
                    Err(error) => errors.push((id.to_string(), error.to_string())),
                }
            }
        }
    }
    let drifted = views.iter().any(|view| view.drift().next().is_some());
    match options.format.is_json() {
        false => drop(print::out(&text(&views, &errors))?),
        true => drop(print::json(&value(&views, &errors))?),
    }
    Ok(if !errors.is_empty() {
        ExitCode::FAILURE
    } else if drifted {
        ExitCode::from(2)
    } else {
        ExitCode::SUCCESS
    })
}

fn text(views: &[View], errors: &[(String, String)]) -> String {
    let mut text = String::new();
    let mut line = |arguments: std::fmt::Arguments<'_>| {
        text.push_str(&arguments.to_string());
        text.push('\n');
    };
    for view in views {
        let drift = view.drift().count();
        let verdict = match drift {
            0 => "as it was judged".to_owned(),
            1 => "1 check does not hold any more".to_owned(),
            more => format!("{more} checks do not hold any more"),
        };
        line(format_args!(
            "{} ({}, process {}, profile {}): {verdict}",
            view.id, view.status, view.pid, view.profile
        ));
        for check in &view.checks {
            let Check {
                id,
                about,
                found,
                outcome,
                ..
            } = check;
            match outcome {
                Outcome::Holds => line(format_args!("  {id}  holds    {about:<24} {found}")),
                Outcome::NotAsked(why) => line(format_args!("  {id}  -        {about:<24} {why}")),
                Outcome::Drift(why) => line(format_args!("  {id}  DRIFT    {about:<24} {why}")),
            }
        }
    }
    for (id, error) in errors {
        line(format_args!("{id}: cannot be verified: {error}"));
    }
    if views.is_empty() && errors.is_empty() {
        line(format_args!("no container runs here"));
    }
    text
}

fn value(views: &[View], errors: &[(String, String)]) -> serde_json::Value {
    let errors: Vec<_> = errors
        .iter()
        .map(|(id, error)| json!({"id": id, "error": error}))
        .collect();
    let drift = views.iter().map(|view| view.drift().count()).sum::<usize>();
    json!({"version": 1, "drift": drift, "containers": views, "errors": errors})
}
