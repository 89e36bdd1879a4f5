//! `gabion run`.

use clap::Args;

use super::create::Build;

/// Judge a bundle, create a container from it and start it
///
/// Waits for the container and ends with its exit status, unless detached.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Name of the container (letters, digits, _ + - .)
    #[arg(value_name = "CONTAINER_ID")]
    pub id: String,

    #[command(flatten)]
    pub build: Build,

    /// Do not wait for the container
    #[arg(short, long)]
    pub detach: bool,

    /// Keep the container after it has ended, until `gabion delete`
    #[arg(long)]
    pub keep: bool,

    /// Leave orphans of the container to the system's init
    #[arg(long)]
    pub no_subreaper: bool,
}
