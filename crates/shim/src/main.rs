//! containerd-shim-gabion-v2: what containerd starts for each pod, or for a container without one.
//!
//! It is the parent of the containers' processes: it keeps their streams and takes their exit status, also while
//! containerd is not there, and calls the program `gabion` for everything that is done to a container. It decides
//! nothing that gabion decides. It has one thread, and memory for one pod.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use containerd_shim_protos::protobuf::Message;

mod arguments;
mod cgroup;
mod cleanup;
mod events;
mod info;
mod options;
mod process;
mod rootfs;
mod runtime;
mod shim;
mod start;
mod stdio;
mod task;
mod wire;

use arguments::{Action, Arguments};

const HELP: &str = "\
containerd-shim-gabion-v2 is started by containerd, for containers of the runtime
io.containerd.gabion.v2. It has no use at a prompt.

Usage: containerd-shim-gabion-v2 -namespace NAME -id ID [-address SOCKET] start | delete

  start      make a server for the container in the working directory, print its address
  delete     clean up after a server that is gone
  -info      describe the runtime, as protobuf
  -v         print the version

Called by a link such as containerd-shim-gabion-restricted-v2, which is the runtime
io.containerd.gabion-restricted.v2, it has gabion judge by the profile in the name.
";

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let called = words.next().unwrap_or_default();
    let outcome = arguments::parse(words).and_then(|arguments| run(arguments, called));
    match outcome {
        Ok(output) => match std::io::stdout().write_all(&output) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            // containerd shows its user what a shim says here.
            drop(writeln!(std::io::stderr(), "containerd-shim-gabion-v2: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Does what is asked; what is to be printed.
fn run(arguments: Arguments, called: OsString) -> Result<Vec<u8>, String> {
    let encoded =
        |bytes: containerd_shim_protos::protobuf::Result<Vec<u8>>| bytes.map_err(|error| error.to_string());
    match arguments.action {
        Action::Help => Ok(HELP.into()),
        Action::Version => Ok(format!(
            "{}:\n  Version:  {}\n",
            Path::new(&called).display(),
            env!("CARGO_PKG_VERSION")
        )
        .into()),
        Action::Info => encoded(info::info(&called)?.write_to_bytes()),
        Action::Start => start::start(&arguments, &called).map(String::into_bytes),
        Action::Delete => encoded(cleanup::delete(&arguments)?.write_to_bytes()),
    }
}
