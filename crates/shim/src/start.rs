//! `start`: a server for a container, or the one that its pod has.

use std::ffi::OsStr;
use std::fs;
use std::io::{IsTerminal, Read};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use containerd_shim_protos::protobuf::{Message, well_known_types::any::Any};
use sha2::{Digest, Sha256};

use crate::arguments::Arguments;
use crate::options::Options;
use crate::shim::{SOCKETS, Shim};
use crate::task::config;

/// Annotations that name a group of containers with one shim: the second is Kubernetes' pod.
const GROUPS: [&str; 2] = ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"];

/// Makes a server, unless the container's group has one, and gives its address.
///
/// # Errors
/// A sentence.
pub(crate) fn start(arguments: &Arguments, called: &OsStr) -> Result<String, String> {
    let bundle =
        std::env::current_dir().map_err(|error| format!("the working directory is no bundle: {error}"))?;
    let group = group(&bundle).unwrap_or_else(|| arguments.id.clone());
    let socket = socket(&arguments.address, &arguments.namespace, &group);
    let address = format!("unix://{}", socket.display());
    if UnixStream::connect(&socket).is_err() {
        match bind(&socket)? {
            Some(listener) => {
                let pid = spawn(arguments, called, listener, &socket)?;
                adjust(pid, arguments, called);
                let path = bundle.join("shim.pid");
                fs::write(&path, pid.to_string())
                    .map_err(|error| format!("cannot write {path:?}: {error}"))?;
            }
            // Another container of the pod was faster.
            None => drop(
                UnixStream::connect(&socket)
                    .map_err(|error| format!("the pod's shim at {socket:?}: {error}"))?,
            ),
        }
    }
    // containerd looks here when it is started again.
    let path = bundle.join("address");
    fs::write(&path, &address).map_err(|error| format!("cannot write {path:?}: {error}"))?;
    Ok(address)
}

/// The group that a bundle's annotations name.
fn group(bundle: &Path) -> Option<String> {
    let config = config(bundle)?;
    let annotations = &config["annotations"];
    GROUPS
        .iter()
        .find_map(|name| annotations[*name].as_str())
        .filter(|group| !group.is_empty())
        .map(str::to_owned)
}

/// The socket of a group: a name that fits into an address, from what tells groups apart.
fn socket(address: &str, namespace: &str, group: &str) -> PathBuf {
    let digest = Sha256::digest(format!("{address}/{namespace}/gabion/{group}"));
    let name: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Path::new(SOCKETS).join(name)
}

/// Listens; `None` if another shim does. A socket without a shim, after a crash, is replaced.
fn bind(socket: &Path) -> Result<Option<UnixListener>, String> {
    let wrong = |error| format!("cannot listen on {socket:?}: {error}");
    fs::create_dir_all(SOCKETS).map_err(wrong)?;
    // For root alone, from the beginning.
    let mask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let outcome = UnixListener::bind(socket).or_else(|error| {
        if error.kind() != std::io::ErrorKind::AddrInUse || UnixStream::connect(socket).is_ok() {
            return Err(error);
        }
        fs::remove_file(socket)?;
        UnixListener::bind(socket)
    });
    nix::sys::stat::umask(mask);
    match outcome {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Ok(None),
        Err(error) => Err(wrong(error)),
    }
}

/// The server: a copy of this process, which has one thread and has not done much yet. Executing the program once more
/// would take containerd's user longer.
fn spawn(
    arguments: &Arguments,
    called: &OsStr,
    listener: UnixListener,
    socket: &Path,
) -> Result<i32, String> {
    gabion_sys::fork::fork(|| i32::from(serve(arguments, called, listener, socket).is_err()))
        .map(nix::unistd::Pid::as_raw)
        .map_err(|error| format!("cannot start the server: {error}"))
}

fn serve(arguments: &Arguments, called: &OsStr, listener: UnixListener, socket: &Path) -> Result<(), String> {
    // containerd reads what `start` prints to its end, and waits for it.
    detach()?;
    let outcome = Shim::new(arguments.clone(), called.to_owned(), listener).and_then(|mut shim| shim.serve());
    drop(fs::remove_file(socket));
    outcome
}

/// Leaves containerd's pipes and process group.
///
/// # Errors
/// A sentence, if the kernel does not let it.
pub(crate) fn detach() -> Result<(), String> {
    let wrong = |errno: nix::errno::Errno| errno.desc().to_owned();
    let null = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(|error| format!("/dev/null: {error}"))?;
    nix::unistd::dup2_stdin(&null).map_err(wrong)?;
    nix::unistd::dup2_stdout(&null).map_err(wrong)?;
    nix::unistd::dup2_stderr(&null).map_err(wrong)?;
    drop(null);
    let here = nix::unistd::Pid::from_raw(0);
    nix::unistd::setpgid(here, here).map_err(wrong)
}

/// What the server's place on the host is. None of it is worth a container: what cannot be done is left.
fn adjust(pid: i32, arguments: &Arguments, called: &OsStr) {
    // Should memory run out, the shim goes after containerd and before its containers' own processes.
    let score = fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    if let Ok(score) = score.trim().parse::<i32>() {
        drop(fs::write(
            format!("/proc/{pid}/oom_score_adj"),
            (score + 1).min(1000).to_string(),
        ));
    }
    let Some(cgroup) = given().and_then(|any| {
        Options::new(Some(&any), &arguments.namespace, called)
            .ok()?
            .shim_cgroup
    }) else {
        return;
    };
    let below = cgroup.trim_start_matches('/');
    let mount = Path::new("/sys/fs/cgroup");
    let hierarchies: Vec<PathBuf> = match mount.join("cgroup.controllers").exists() {
        true => vec![mount.to_owned()],
        false => fs::read_dir(mount)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect(),
    };
    // Something else may lie beside them.
    let hierarchies = hierarchies
        .iter()
        .filter(|path| path.join("cgroup.procs").exists());
    for hierarchy in hierarchies {
        let path = hierarchy.join(below);
        drop(fs::create_dir_all(&path));
        drop(fs::write(path.join("cgroup.procs"), pid.to_string()));
    }
}

/// The handler's options, which containerd writes to the standard input of `start` and `-info`.
pub(crate) fn given() -> Option<Any> {
    let mut input = std::io::stdin();
    if input.is_terminal() {
        return None;
    }
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes).ok()?;
    Any::parse_from_bytes(&bytes)
        .ok()
        .filter(|any| !any.type_url.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_containers_have_one_group() {
        let directory = tempfile::tempdir().unwrap();
        let write = |text: &str| fs::write(directory.path().join("config.json"), text).unwrap();
        assert_eq!(group(directory.path()), None);
        write(r#"{"annotations": {"io.kubernetes.cri.sandbox-id": "pod"}}"#);
        assert_eq!(group(directory.path()), Some("pod".to_owned()));
        write(
            r#"{"annotations": {"io.kubernetes.cri.sandbox-id": "pod", "io.containerd.runc.v2.group": "g"}}"#,
        );
        assert_eq!(group(directory.path()), Some("g".to_owned()));
        write("{}");
        assert_eq!(group(directory.path()), None);
    }

    #[test]
    fn a_socket_is_told_by_containerd_namespace_and_group() {
        let base = socket("/a", "n", "g");
        assert_eq!(base, socket("/a", "n", "g"));
        for other in [
            socket("/b", "n", "g"),
            socket("/a", "m", "g"),
            socket("/a", "n", "h"),
        ] {
            assert_ne!(base, other);
        }
        // The kernel's limit for an address (unix(7)).
        assert!(base.as_os_str().len() < 108);
    }
}
