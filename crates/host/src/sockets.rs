//! Sockets of runtimes, orchestrators and init: whoever can connect to one commands the host.
//!
//! Where they are and how they are called is judgement's to say ([`CONTROL_SOCKETS`], [`CONTROL_SOCKET_NAMES`]);
//! whether a path leads to one is found out here, by device and inode.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use gabion_baseline::facts::{FileKind, Identity};
use gabion_baseline::rules::mounts::landmarks::{CONTROL_SOCKET_NAMES, CONTROL_SOCKETS};

use crate::text;
use crate::walk::{Found, Walker};

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
        let known = match &self.known {
            Some(known) => known,
            None => self.known.insert(known(walker, &CONTROL_SOCKETS)?),
        };
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

/// The sockets of a list that are there.
fn known(walker: &mut Walker, list: &[(&str, &'static str)]) -> Result<Vec<Socket>, String> {
    let directory = |walker: &mut Walker, path| {
        walker
            .glimpse(Path::new(path))
            .ok()
            .map(|found| found.meta.identity)
    };
    // The list has /run alone. There are hosts on which /var/run is another directory.
    let apart = directory(walker, "/var/run") != directory(walker, "/run");
    let mut sockets = Vec::new();
    for (pattern, what) in list {
        let other = pattern.starts_with("/run/").then(|| format!("/var{pattern}"));
        for pattern in [Some(*pattern), other.as_deref().filter(|_| apart)]
            .into_iter()
            .flatten()
        {
            let paths = places(pattern)?;
            sockets.extend(paths.iter().filter_map(|path| socket(walker, path, what)));
        }
    }
    Ok(sockets)
}

/// The paths that a pattern means: one `*` stands for every entry of the directory before it.
///
/// # Errors
/// A sentence, if the directory is there and cannot be read: a socket in it must not pass for harmless.
fn places(pattern: &str) -> Result<Vec<PathBuf>, String> {
    let Some((directory, rest)) = pattern.split_once("/*/") else {
        return Ok(vec![PathBuf::from(pattern)]);
    };
    let refused = |error: std::io::Error| format!("{directory}: {error}");
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(refused(error)),
    };
    entries
        .map(|entry| Ok(entry.map_err(refused)?.path().join(rest)))
        .collect()
}

fn held(sockets: &[Socket], found: &Found, kind: FileKind) -> Option<String> {
    let identity = found.identity();
    if kind == FileKind::Socket {
        let socket = sockets.iter().find(|socket| socket.identity == identity)?;
        return Some(socket.what.to_owned());
    }
    let socket = sockets.iter().find(|socket| socket.above.contains(&identity))?;
    Some(format!("where {} is", socket.what))
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
    let (_, what) = CONTROL_SOCKET_NAMES.iter().find(|(known, _)| *known == name)?;
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
            "where the Docker daemon's socket is"
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
    fn a_star_in_a_place_stands_for_every_entry() {
        let top = tempfile::tempdir().unwrap();
        let top = top.path().canonicalize().unwrap();
        for user in ["0", "1000"] {
            std::fs::create_dir_all(top.join(user).join("podman")).unwrap();
        }
        std::fs::write(top.join("file"), "").unwrap();
        let _socket = UnixListener::bind(top.join("1000/podman/podman.sock")).unwrap();
        std::fs::write(top.join("0/podman/podman.sock"), "").unwrap();
        let pattern = format!("{}/*/podman/podman.sock", top.display());
        let mut walker = Walker::default();
        let found = known(&mut walker, &[(&pattern, "a user's podman socket")]).unwrap();
        assert_eq!(found.len(), 1);
        let mut sockets = ControlSockets {
            known: Some(found),
            listening: Some(Vec::new()),
        };
        let mut held = |path: &str| {
            let found = walker.walk(&top.join(path)).unwrap();
            sockets.held_by(&mut walker, &found, true).unwrap()
        };
        assert_eq!(held("1000/podman/podman.sock").unwrap(), "a user's podman socket");
        assert_eq!(held("1000").unwrap(), "where a user's podman socket is");
        assert_eq!(held("0"), None);
        let missing = format!("{}/none/*/x", top.display());
        assert_eq!(places(&missing), Ok(Vec::new()));
        let file = format!("{}/file/*/x", top.display());
        assert_eq!(places(&file), Ok(Vec::new()));
        assert_eq!(places("/run/x.sock"), Ok(vec![PathBuf::from("/run/x.sock")]));
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
        assert_eq!(held(&top.join("run")).unwrap(), "where a test's socket is");
        assert_eq!(held(&top).unwrap(), "where a test's socket is");
    }
}
