//! `gabion manual DIR`: man pages and completions, written when it is packaged. It is no command for people.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::failure::Failure;

/// Write man pages and completions for shells below a directory
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Gets man/man8, bash-completion, zsh and fish
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let man = options.directory.join("man/man8");
    write(&man.join("gabion.8"), &page(&command, "gabion")?)?;
    for subcommand in command
        .get_subcommands()
        .filter(|subcommand| !subcommand.is_hide_set())
    {
        let name = format!("gabion-{}", subcommand.get_name());
        write(&man.join(format!("{name}.8")), &page(subcommand, &name)?)?;
    }
    for (shell, path) in [
        (Shell::Bash, "bash-completion/gabion"),
        (Shell::Zsh, "zsh/_gabion"),
        (Shell::Fish, "fish/gabion.fish"),
    ] {
        let mut bytes = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "gabion", &mut bytes);
        write(&options.directory.join(path), &bytes)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One page, in section 8: for the system's administration.
fn page(command: &clap::Command, name: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    clap_mangen::Man::new(command.clone())
        .section("8")
        .title(name.to_uppercase())
        .render(&mut bytes)
        .with_context(|| format!("cannot write the page of {name}"))?;
    Ok(bytes)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory).with_context(|| format!("cannot make {directory:?}"))?;
    fs::write(path, bytes).with_context(|| format!("cannot write {path:?}"))?;
    Ok(())
}
