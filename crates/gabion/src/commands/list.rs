//! `gabion list`.

use clap::{Args, ValueEnum};

/// List the containers of this state directory
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Print a table or json
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        default_value = "table",
        hide_possible_values = true
    )]
    pub format: Format,

    /// Print names alone
    #[arg(short, long)]
    pub quiet: bool,
}

/// `--format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}
