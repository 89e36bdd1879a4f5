//! `delete`: containerd calls it when a shim is gone, after its end or its death.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::MessageField;
use nix::sys::wait::{WaitStatus, waitpid};

use crate::arguments::Arguments;
use crate::events::timestamp;
use crate::options::Options;
use crate::start::detach;
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
    let pid = runtime::read_pid(&bundle.join("init.pid")).unwrap_or_default();
    // Without the file there was no create, and nothing of gabion's.
    match Options::saved(&bundle) {
        // A process for nothing costs containerd's user time: after an orderly end, there is no state.
        Some(options) if options.root.join(&arguments.id).exists() => {
            to_its_end(|| clean(&bundle, Some((&options, &arguments.id))))
        }
        _ => clean(&bundle, None),
    }?;
    let mut answer = DeleteResponse::new();
    answer.pid = pid as u32;
    answer.exit_status = KILLED;
    answer.exited_at = MessageField::some(timestamp(SystemTime::now()));
    Ok(answer)
}

/// Removes what is there, by gabion first if it has a state; all of it is tried.
fn clean(bundle: &Path, state: Option<(&Options, &str)>) -> Result<(), String> {
    let mut errors = Vec::new();
    errors.extend(state.and_then(|(options, id)| runtime_delete(options, id).err()));
    errors.extend(rootfs::unmount_all(bundle).err());
    remove_socket(bundle);
    match errors.is_empty() {
        true => Ok(()),
        false => Err(errors.join("; ")),
    }
}

/// Does something in a process of its own, and waits for it.
///
/// containerd kills `delete` after five seconds (its timeout `io.containerd.timeout.shim.cleanup`), which a busy host or a
/// hook may need, and does not call it again before its own next start. The root file system would stay mounted, without
/// anybody who knew of it. So the process that is killed is only the one that waits.
fn to_its_end(act: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let wrong = |error: &dyn std::fmt::Display| format!("cannot start the cleanup: {error}");
    let (mut reader, mut writer) = std::io::pipe().map_err(|error| wrong(&error))?;
    let child = gabion_sys::fork::fork(|| {
        // containerd waits for the end of the output of what it killed; that is no reason to leave something.
        let detached = detach().map_err(|error| wrong(&error));
        match act().and(detached) {
            Ok(()) => 0,
            Err(error) => {
                // Nobody may be there any more; then nobody is told.
                drop(writer.write_all(error.as_bytes()));
                1
            }
        }
    })
    .map_err(|error| wrong(&error))?;
    drop(writer);
    let mut error = String::new();
    reader
        .read_to_string(&mut error)
        .map_err(|error| format!("the cleanup's outcome cannot be read: {error}"))?;
    match waitpid(child, None) {
        Ok(WaitStatus::Exited(_, 0)) => Ok(()),
        Ok(_) if !error.is_empty() => Err(error),
        Ok(status) => Err(format!("the cleanup did not come to its end: {status:?}")),
        Err(errno) => Err(format!("waitpid: {}", errno.desc())),
    }
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
