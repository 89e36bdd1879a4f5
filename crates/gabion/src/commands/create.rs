//! `gabion create`.

use std::path::PathBuf;

use clap::Args;
use gabion_baseline::Flag;

/// Judge a bundle, and create a container from it
///
/// The container is built, and waits for `gabion start`. Of a bundle that the policy
/// refuses, nothing is left behind.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// Name of the container (letters, digits, _ + - .)
    #[arg(value_name = "CONTAINER_ID")]
    pub id: String,

    #[command(flatten)]
    pub build: Build,
}

/// The flags that `create` and `run` have in common.
#[derive(Debug, Args)]
pub(crate) struct Build {
    /// Directory with config.json and the root file system [default: .]
    #[arg(
        short,
        long,
        value_name = "DIR",
        default_value = ".",
        hide_default_value = true
    )]
    pub bundle: PathBuf,

    /// Send the terminal's other end to this AF_UNIX socket
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,

    /// Send a pidfd of the init process to this AF_UNIX socket
    #[arg(long, value_name = "SOCKET")]
    pub pidfd_socket: Option<PathBuf>,

    /// Write the init process' id to FILE
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,

    /// Use MS_MOVE and chroot(2), for a root on a ramdisk
    #[arg(long)]
    pub no_pivot: bool,

    /// Keep the caller's session keyring instead of a new one
    #[arg(long)]
    pub no_new_keyring: bool,

    /// Hand on N descriptors after those of $LISTEN_FDS
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub preserve_fds: u32,
}

impl Build {
    /// The flags that make the container weaker, for judgement (OPS-04).
    pub(crate) fn weakening(&self) -> Vec<Flag> {
        [
            self.no_pivot.then_some(Flag::NoPivot),
            self.no_new_keyring.then_some(Flag::NoNewKeyring),
            (self.preserve_fds > 0).then_some(Flag::PreserveFds(self.preserve_fds)),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
