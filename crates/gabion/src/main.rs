//! gabion's command line: parse, wire, print.
//!
//! Engines call it as they call runc: the same flags, the same exit statuses, the same last line of the log.
//! What is decided is decided in `gabion-baseline`, what is done is done in `gabion-container`; nothing here is
//! worth a test but the words.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};

mod audit;
mod cli;
mod commands;
mod context;
mod failure;
mod gate;
mod log;
mod policy;
mod print;

use cli::{Cli, Command};
use context::Context;
use failure::Failure;
use log::Log;

fn main() -> ExitCode {
    if let Some(status) = trampoline() {
        return status;
    }
    let arguments: Vec<OsString> = std::env::args_os().collect();
    // As early as can be, since the sealed copy reads the command line again. The command itself insists on it, and
    // tells the error if there is one.
    if cli::names_command_that_enters(&arguments)
        && let Err(error) = gabion_container::seal::ensure()
    {
        tracing::debug!(%error, "the program is not sealed yet");
    }
    let arguments = cli::with_double_dashes(arguments);
    let cli = match Cli::read(&arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &arguments),
    };
    let log = match Log::open(cli.globals.log.as_deref(), cli.globals.log_format) {
        Ok(log) => log,
        Err(failure) => return failure.report(&Log::to_stderr(cli.globals.log_format)),
    };
    log::diagnose(&log, cli.globals.debug);
    let program = arguments.first().cloned().unwrap_or_default();
    let context = Context::new(&cli.globals, &program, &log);
    run(cli.command, &context).unwrap_or_else(|failure| failure.report(&log))
}

/// The program's other life: libcontainer calls it in the place of a bundle's hooks. No user does, and no flag of
/// the command line is looked at.
fn trampoline() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != gabion_container::hooks::TRAMPOLINE {
        return None;
    }
    let errand = arguments
        .next()
        .and_then(|errand| errand.into_string().ok())
        .unwrap_or_default();
    // What went wrong is told on a channel of its own.
    Some(match gabion_container::hooks::trampoline(&errand) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    })
}

fn run(command: Option<Command>, context: &Context<'_>) -> Result<ExitCode, Failure> {
    use commands::audit;
    use commands::{
        check, checkpoint, doctor, events, explain, features, install, lifecycle, manual, policy, spec,
        update, verify,
    };
    match command {
        None => print::out(&cli::help()),
        Some(Command::Create(options)) => lifecycle::create(&options, context),
        Some(Command::Start(options)) => lifecycle::start(&options, context),
        Some(Command::State(options)) => lifecycle::state(&options, context),
        Some(Command::Exec(options)) => lifecycle::exec(&options, context),
        Some(Command::Kill(options)) => lifecycle::kill(&options, context),
        Some(Command::Delete(options)) => lifecycle::delete(&options, context),
        Some(Command::Run(options)) => lifecycle::run(&options, context),
        Some(Command::List(options)) => lifecycle::list(&options, context),
        Some(Command::Pause(options)) => lifecycle::pause(&options, context),
        Some(Command::Resume(options)) => lifecycle::resume(&options, context),
        Some(Command::Checkpoint(options)) => checkpoint::dump(&options, context),
        Some(Command::Restore(options)) => checkpoint::restore(&options, context),
        Some(Command::Ps(options)) => lifecycle::ps(&options, context),
        Some(Command::Verify(options)) => verify::run(&options, context),
        Some(Command::Install(options)) => install::install(&options),
        Some(Command::Uninstall(options)) => install::uninstall(&options),
        Some(Command::Doctor(options)) => doctor::run(&options, context),
        Some(Command::Manual(options)) => manual::run(&options),
        Some(Command::Update(options)) => update::run(&options, context),
        Some(Command::Events(options)) => events::run(&options, context),
        Some(Command::Spec(options)) => spec::run(&options),
        Some(Command::Features(_)) => features::run(),
        Some(Command::Audit(options)) => audit::run(&options, context),
        Some(Command::Check(options)) => check::run(&options, context),
        Some(Command::Explain(options)) => explain::run(&options),
        Some(Command::Seccomp(options)) => commands::seccomp::run(&options),
        Some(Command::Learn(options)) => commands::learn::run(&options, context),
        Some(Command::Policy(options)) => policy::run(&options, context),
    }
}

/// A command line that is none: help and versions are what was asked for, the rest is an error like any other,
/// with runc's exit status and in the log, where engines look.
fn usage(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    if !error.use_stderr() {
        return print::out(&error.render().to_string()).unwrap_or(ExitCode::FAILURE);
    }
    let mut text = error.render().to_string();
    if error.kind() == ErrorKind::InvalidSubcommand
        && let Some(ContextValue::String(name)) = error.get(ContextKind::InvalidSubcommand)
    {
        // runc's words, which callers know.
        text = format!("No help topic for '{name}'\n{text}");
    }
    let (path, format) = cli::log_of_broken(arguments);
    let log = Log::open(path.as_deref(), format).unwrap_or_else(|_| Log::to_stderr(format));
    Failure::Usage(text).report(&log)
}
