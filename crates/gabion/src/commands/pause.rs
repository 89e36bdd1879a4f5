//! `gabion pause`, `gabion resume`, `gabion ps`.

use clap::Args;

use super::list::Format;

/// Stop all processes of a container where they stand
#[derive(Debug, Args)]
pub(crate) struct Pause {
    /// Name of the container
    #[arg(value_name = "CONTAINER_ID")]
    pub id: String,
}

/// Let a paused container go on
#[derive(Debug, Args)]
pub(crate) struct Resume {
    /// Name of the container
    #[arg(value_name = "CONTAINER_ID")]
    pub id: String,
}

/// List the processes of a container
#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Name of the container
    #[arg(value_name = "CONTAINER_ID")]
    pub id: String,

    /// Print a table or json, which has the process ids alone
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        default_value = "table",
        hide_possible_values = true
    )]
    pub format: Format,

    /// Options for ps(1), which makes the table [default: -ef]
    #[arg(value_name = "PS_OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    pub options: Vec<String>,
}
