//! Sockets of runtimes, orchestrators and init: whoever can connect to one commands the host.

use std::path::Path;

use gabion_baseline::facts::{FileKind, Identity};

use crate::text;
use crate::walk::{Found, Walker};

/// Where they are by default, and what listens there.
///
/// Both /run and /var/run are named, for the hosts on which they are two directories.
const KNOWN: [(&str, &str); 24] = [
    ("/run/docker.sock", "the Docker daemon's socket"),
    ("/var/run/docker.sock", "the Docker daemon's socket"),
    ("/run/cri-dockerd.sock", "cri-dockerd's socket"),
    ("/run/containerd/containerd.sock", "containerd's socket"),
    ("/var/run/containerd/containerd.sock", "containerd's socket"),
    (
        "/run/docker/containerd/containerd.sock",
        "the socket of Docker's containerd",
    ),
    (
        "/run/k3s/containerd/containerd.sock",
        "the socket of k3s' containerd",
    ),
    ("/run/crio/crio.sock", "CRI-O's socket"),
    ("/var/run/crio/crio.sock", "CRI-O's socket"),
    ("/run/podman/podman.sock", "podman's socket"),
    ("/var/run/podman/podman.sock", "podman's socket"),
    ("/run/buildkit/buildkitd.sock", "BuildKit's socket"),
    ("/run/nri/nri.sock", "the NRI socket of the container runtime"),
    ("/var/run/nri/nri.sock", "the NRI socket of the container runtime"),
    (
        "/var/lib/kubelet/device-plugins/kubelet.sock",
        "the kubelet's socket for device plugins",
    ),
    (
        "/var/lib/kubelet/pod-resources/kubelet.sock",
        "the kubelet's socket for pod resources",
    ),
    ("/run/dbus/system_bus_socket", "the system D-Bus socket"),
    ("/var/run/dbus/system_bus_socket", "the system D-Bus socket"),
    ("/run/systemd/private", "systemd's private socket"),
    ("/run/systemd/notify", "systemd's notification socket"),
    ("/run/systemd/io.systemd.Manager", "systemd's Varlink socket"),
    ("/run/systemd/journal/socket", "the journal's socket"),
    ("/run/systemd/journal/stdout", "the journal's socket"),
    (
        "/run/systemd/journal/io.systemd.journal",
        "the journal's Varlink socket",
    ),
];

/// The file names that say what listens, wherever an administrator put the socket.
const NAMES: [(&str, &str); 8] = [
    ("docker.sock", "the Docker daemon's socket"),
    ("cri-dockerd.sock", "cri-dockerd's socket"),
    ("containerd.sock", "containerd's socket"),
    ("crio.sock", "CRI-O's socket"),
    ("podman.sock", "podman's socket"),
    ("buildkitd.sock", "BuildKit's socket"),
    ("nri.sock", "the NRI socket of the container runtime"),
    ("system_bus_socket", "a D-Bus socket"),
];

/// A host with 100,000 sockets has a list of some 10 MiB.
const MAX_LIST_BYTES: usize = 32 * 1024 * 1024;

/// The control sockets that this host has.
#[derive(Debug, Default)]
pub(crate) struct ControlSockets {
    known: Option<Vec<Socket>>,
    listening: Option<Vec<Socket>>,
}

#[derive(Debug)]
struct Socket {
    what: &'static str,
    identity: Identity,
    /// The directories above it, the nearest first.
    above: Vec<Identity>,
}

impl ControlSockets {
    /// What listens at a file, or at the nearest socket in a directory. `expected` says that the directory is an
    /// engine's own storage, for which the list of all sockets is not searched.
    ///
    /// # Errors
    /// A sentence, if the sockets of this host cannot be listed.
    pub(crate) fn held_by(
        &mut self,
        walker: &mut Walker,
        found: &Found,
        expected: bool,
    ) -> Result<Option<String>, String> {
        let kind = found.node().meta.kind();
        if !matches!(kind, FileKind::Socket | FileKind::Directory) {
            return Ok(None);
        }
        let known = self.known.get_or_insert_with(|| {
            KNOWN
                .iter()
                .filter_map(|(path, what)| socket(walker, Path::new(path), what))
                .collect()
        });
        if let Some(what) = held(known, found, kind) {
            return Ok(Some(what));
        }
        if kind == FileKind::Directory && expected {
            return Ok(None);
        }
        let listening = match &self.listening {
            Some(listening) => listening,
            None => {
                let list = text::read("/proc/net/unix", MAX_LIST_BYTES)
                    .map_err(|error| format!("/proc/net/unix: {error}"))?;
                let found = list
                    .lines()
                    .filter_map(listening)
                    .filter_map(|(path, what)| socket(walker, Path::new(path), what))
                    .collect();
                self.listening.insert(found)
            }
        };
        Ok(held(listening, found, kind))
    }
}

fn held(sockets: &[Socket], found: &Found, kind: FileKind) -> Option<String> {
    let identity = found.identity();
    if kind == FileKind::Socket {
        let socket = sockets.iter().find(|socket| socket.identity == identity)?;
        return Some(socket.what.to_owned());
    }
    let socket = sockets.iter().find(|socket| socket.above.contains(&identity))?;
    Some(format!("a directory that holds {}", socket.what))
}

/// A socket by its path, if one is there now.
fn socket(walker: &mut Walker, path: &Path, what: &'static str) -> Option<Socket> {
    let found = walker.glimpse(path).ok()?;
    (found.meta.kind() == FileKind::Socket).then_some(Socket {
        what,
        identity: found.meta.identity,
        above: found.above,
    })
}

/// The path in a line of /proc/net/unix, if the socket listens and has a telling name (proc_net_unix(5)):
/// `Num RefCount Protocol Flags Type St Inode Path`.
fn listening(line: &str) -> Option<(&str, &'static str)> {
    /// `__SO_ACCEPTCON`: listen(2) was called.
    const LISTENS: &str = "00010000";
    let mut fields = line.split_ascii_whitespace();
    if fields.nth(3)? != LISTENS {
        return None;
    }
    let start = line.find(" /")? + 1;
    let path = &line[start..];
    let name = Path::new(path).file_name()?.to_str()?;
    let (_, what) = NAMES.iter().find(|(known, _)| *known == name)?;
    Some((path, what))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixListener};

    use super::*;

    fn what(path: &Path) -> Option<String> {
        let mut walker = Walker::default();
        let found = walker.walk(path).unwrap();
        ControlSockets::default()
            .held_by(&mut walker, &found, false)
            .unwrap()
    }

    #[test]
    fn a_line_of_the_kernels_list_is_read_by_its_columns() {
        let line = "000000009fd1dc9a: 00000002 00000000 00010000 0001 01   135 /srv/my docker/docker.sock";
        assert_eq!(
            listening(line),
            Some(("/srv/my docker/docker.sock", "the Docker daemon's socket"))
        );
        assert_eq!(listening(&line.replace("00010000", "00000000")), None);
        assert_eq!(listening(&line.replace("docker.sock", "app.sock")), None);
        assert_eq!(
            listening("000000009fd1dc9a: 00000003 00000000 00000000 0001 03   135"),
            None
        );
        assert_eq!(
            listening("000000009fd1dc9a: 00000002 00000000 00010000 0001 01 9 @/run/x/docker.sock"),
            None
        );
        assert_eq!(
            listening("Num       RefCount Protocol Flags    Type St Inode Path"),
            None
        );
    }

    #[test]
    fn a_daemons_socket_in_an_unusual_place_is_recognized_while_it_listens() {
        let top = tempfile::tempdir().unwrap();
        let top = top.path().canonicalize().unwrap();
        std::fs::create_dir_all(top.join("deep/er")).unwrap();
        std::fs::create_dir(top.join("other")).unwrap();
        let path = top.join("deep/er/docker.sock");
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(what(&path).unwrap(), "the Docker daemon's socket");
        assert_eq!(
            what(&top.join("deep")).unwrap(),
            "a directory that holds the Docker daemon's socket"
        );
        assert_eq!(what(&top.join("other")), None);
        // Another name for the same socket changes nothing.
        std::fs::hard_link(&path, top.join("other/innocent")).unwrap();
        assert_eq!(
            what(&top.join("other/innocent")).unwrap(),
            "the Docker daemon's socket"
        );
        drop(listener);
        assert_eq!(what(&path), None);
    }

    #[test]
    fn an_applications_own_socket_is_no_control_socket() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("app.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let datagram = top.path().join("docker.sock");
        let _datagram = UnixDatagram::bind(&datagram).unwrap();
        assert_eq!(what(&path), None);
        assert_eq!(what(&datagram), None);
        assert_eq!(what(top.path()), None);
    }

    #[test]
    fn known_sockets_are_compared_by_identity() {
        let top = tempfile::tempdir().unwrap();
        let top = top.path().canonicalize().unwrap();
        std::fs::create_dir(top.join("run")).unwrap();
        let _datagram = UnixDatagram::bind(top.join("run/notify")).unwrap();
        let mut walker = Walker::default();
        let known = vec![socket(&mut walker, &top.join("run/notify"), "a test's socket").unwrap()];
        let mut sockets = ControlSockets {
            known: Some(known),
            listening: Some(Vec::new()),
        };
        let mut held = |path: &Path| {
            let found = walker.walk(path).unwrap();
            sockets.held_by(&mut walker, &found, true).unwrap()
        };
        assert_eq!(held(&top.join("run/notify")).unwrap(), "a test's socket");
        assert_eq!(
            held(&top.join("run")).unwrap(),
            "a directory that holds a test's socket"
        );
        assert_eq!(held(&top).unwrap(), "a directory that holds a test's socket");
    }
}
