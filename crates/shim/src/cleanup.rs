//! `delete`: containerd calls it when a shim is gone, after its end or its death.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::MessageField;

use crate::arguments::Arguments;
use crate::events::timestamp;
use crate::options::Options;
use crate::{rootfs, runtime};

/// The status of a container whose end nobody saw: it is killed here, if it was not dead.
const KILLED: u32 = 128 + 9;

/// Ends a container and removes what its shim left: state, cgroups, mounts, the socket.
///
/// # Errors
/// A sentence, if something is left. The rest was removed.
pub(crate) fn delete(arguments: &Arguments) -> Result<DeleteResponse, String> {
    let bundle = match &arguments.bundle {
        Some(bundle) => bundle.clone(),
        None => {
            std::env::current_dir().map_err(|error| format!("the working directory is no bundle: {error}"))?
        }
    };
    let mut errors = Vec::new();
    let pid = runtime::read_pid(&bundle.join("init.pid")).unwrap_or_default();
    // Without the file there was no create, and nothing of gabion's.
    if let Some(options) = Options::saved(&bundle)
        // A process for nothing costs containerd's user time: after an orderly end, there is no state.
        && options.root.join(&arguments.id).exists()
    {
        errors.extend(runtime_delete(&options, &arguments.id).err());
    }
    errors.extend(rootfs::unmount_all(&bundle).err());
    remove_socket(&bundle);
    if !errors.is_empty() {
        return Err(errors.join("; "));
    }
    let mut answer = DeleteResponse::new();
    answer.pid = pid as u32;
    answer.exit_status = KILLED;
    answer.exited_at = MessageField::some(timestamp(SystemTime::now()));
    Ok(answer)
}

fn runtime_delete(options: &Options, id: &str) -> Result<(), String> {
    let output = Command::new(&options.program)
        .args(options.globals())
        .args(["delete", "--force", id])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start the runtime {:?}: {error}", options.program))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "cannot delete {id:?}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

/// Removes the socket of a shim that is dead; one that answers serves other containers of the pod.
fn remove_socket(bundle: &Path) {
    let Ok(address) = fs::read_to_string(bundle.join("address")) else {
        return;
    };
    let Some(path) = address.strip_prefix("unix://").map(Path::new) else {
        return;
    };
    if UnixStream::connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
        drop(fs::remove_file(path));
    }
}
