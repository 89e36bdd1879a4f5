//! `gabion state`.

use clap::Args;

/// Print a container's state as JSON
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Name of the container
    #[arg(value_name = "CONTAINER_ID")]
    pub id: String,
}
