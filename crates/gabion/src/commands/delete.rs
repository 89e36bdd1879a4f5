//! `gabion delete`.

use clap::Args;

/// Delete a container and everything that was made for it
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Name of the container
    #[arg(value_name = "CONTAINER_ID")]
    pub id: String,

    /// Kill it first if it runs; it is no error if it is not there
    #[arg(short, long)]
    pub force: bool,
}
