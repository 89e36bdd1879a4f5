//! Who may be behind the socket at `linux.seccomp.listenerPath`.

use std::path::Path;

use gabion_baseline::Config;
use gabion_baseline::facts::{Fact, ListenerFact};
use nix::errno::Errno;
use nix::unistd::geteuid;

use crate::walk::Walker;

/// Looks at the socket, or where it would be.
pub(crate) fn look(walker: &mut Walker, config: &Config) -> Fact<ListenerFact> {
    let linux = config.linux.value();
    let path = linux
        .and_then(|linux| linux.seccomp.value())
        .and_then(|filter| filter.listener_path.value())
        .map(|path| Path::new(path.as_str()));
    let Some(path) = path.filter(|path| path.is_absolute()) else {
        return Fact::Unknown("there is no absolute path".to_owned());
    };
    // The agent may not be there yet, and then nobody can be asked. Whoever may make it is known all the same.
    for path in path.ancestors() {
        match walker.walk(path) {
            Ok(found) => {
                return Fact::Known(ListenerFact {
                    open_to_others: found.open_to_others_than(geteuid().as_raw()),
                });
            }
            Err(astray) if matches!(astray.errno, Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(astray) => return Fact::Unknown(astray.to_string()),
        }
    }
    Fact::Unknown(format!("{path:?} leads nowhere"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    use super::*;
    use crate::testing::{config, needs_root};

    fn open(path: &Path) -> Option<PathBuf> {
        let config = config(&format!(
            r#"{{"linux":{{"seccomp":{{"listenerPath":{:?}}}}}}}"#,
            path.to_str().unwrap()
        ));
        match look(&mut Walker::default(), &config) {
            Fact::Known(fact) => fact.open_to_others,
            Fact::Unknown(why) => panic!("{why}"),
        }
    }

    #[test]
    fn a_socket_is_trusted_until_others_could_be_behind_it() {
        needs_root!();
        let top = tempfile::tempdir_in("/run").unwrap();
        let directory = top.path().canonicalize().unwrap().join("agent");
        fs::create_dir(&directory).unwrap();
        let socket = directory.join("s");
        // Before there is one, and once there is.
        assert_eq!(open(&socket), None);
        let _listener = UnixListener::bind(&socket).unwrap();
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(open(&socket), None);
        // A socket of somebody else's, one in a directory of theirs, one that anybody can exchange.
        chown(&socket, Some(1000), None).unwrap();
        assert_eq!(open(&socket), Some(socket.clone()));
        chown(&socket, Some(0), None).unwrap();
        chown(&directory, Some(1000), None).unwrap();
        assert_eq!(open(&socket), Some(directory.clone()));
        assert_eq!(open(&directory.join("none/yet")), Some(directory.clone()));
        chown(&directory, Some(0), None).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(open(&socket), Some(directory.clone()));
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        // A way that leads through somebody else's link.
        let link = directory.join("link");
        symlink(&socket, &link).unwrap();
        assert_eq!(open(&link), None);
        nix::unistd::fchownat(
            nix::fcntl::AT_FDCWD,
            &link,
            Some(1000.into()),
            None,
            nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW,
        )
        .unwrap();
        assert_eq!(open(&link), Some(link.clone()));
    }
}
