//! `gabion start`.

use clap::Args;

/// Start the program of a created container
///
/// Right before the program runs, the kernel's state is compared with what was
/// judged. If it differs, the program does not run, and the error names the check.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// Name of the container
    #[arg(value_name = "CONTAINER_ID")]
    pub id: String,
}
