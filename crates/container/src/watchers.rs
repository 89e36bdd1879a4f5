//! Whoever waits on this host for a container to begin, in order to watch it.
//!
//! ```text
//! gabion learn --watch                          gabion start, gabion exec: called by an engine
//!   Post::open ── /run/gabion/~watchers/PID.sock ──▶ tell: "web, of this state root, process 4711"
//!   attaches itself to the process, which waits
//!              ◀─────────────────────────────── watched, or not
//!                                                    lets the process go
//! ```
//!
//! The place is the host's root's alone, and what is told there changes nothing about the container: it is started
//! whatever the answer, and whether there is one or not. Where nobody waits, it costs the start one failed open(2).

use std::fs::{self, DirBuilder};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{ContainerError, Result};
use crate::id::ContainerId;
use crate::state::{Record, StateRoot};

/// Where watchers have their sockets, whatever the state root.
const PLACE: &str = "/run/gabion/~watchers";
/// How long a start waits for a watcher that does not answer.
const PATIENCE: Duration = Duration::from_secs(5);
const WATCHED: &[u8] = b"watched";

/// A process that is about to execute its program, and waits until this was heard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct News {
    /// The state root of its container.
    pub root: PathBuf,
    /// The container.
    pub id: String,
    /// The process, as the host numbers it.
    pub pid: i32,
    /// Whether it is the container's first one.
    pub is_first: bool,
}

/// Tells all who wait that a container, whose first process waits for `start`, is about to be started, and says whether
/// somebody watches it from here on.
pub fn tell_of_start(root: &StateRoot, record: &Record) -> bool {
    record.init.is_some_and(|init| {
        tell(&News {
            root: root.path().to_owned(),
            id: record.id.clone(),
            pid: init.pid,
            is_first: true,
        })
    })
}

/// Tells all who wait, and says whether somebody watches from here on.
///
/// # Preconditions
/// The process of the news waits, and will until this returns.
pub fn tell(news: &News) -> bool {
    if !nix::unistd::geteuid().is_root() {
        return false;
    }
    match tell_at(Path::new(PLACE), news) {
        Ok(watched) => watched,
        // Root of a user namespace is not meant.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => false,
        Err(error) => {
            tracing::warn!(%error, "watchers could not be told of a start");
            false
        }
    }
}

fn tell_at(place: &Path, news: &News) -> std::io::Result<bool> {
    let entries = fs::read_dir(place)?;
    is_roots(place)?;
    let text = serde_json::to_vec(news)?;
    let mut watched = false;
    for entry in entries {
        let path = entry?.path();
        match ask(&path, &text) {
            Ok(answer) => watched |= answer,
            // It ended without removing it.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => {}
            Err(error) => tracing::warn!(%error, ?path, "a watcher does not answer"),
        }
    }
    Ok(watched)
}

fn ask(path: &Path, text: &[u8]) -> std::io::Result<bool> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(text)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.take(64).read_to_end(&mut answer)?;
    Ok(answer == WATCHED)
}

/// Whoever may write there hears of containers, and may hold up their starts.
fn is_roots(place: &Path) -> std::io::Result<()> {
    let metadata = fs::symlink_metadata(place)?;
    let own = nix::unistd::geteuid().as_raw();
    if metadata.is_dir() && metadata.uid() == own && metadata.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(std::io::Error::other(format!(
        "{place:?} is not a directory that only root may write to"
    )))
}

/// Where a watcher hears of starts. Its socket goes with it.
#[derive(Debug)]
pub struct Post {
    listener: UnixListener,
    path: PathBuf,
}

impl Post {
    /// Opens one. From here on, starts are told of.
    ///
    /// # Errors
    /// If the socket cannot be made.
    pub fn open() -> Result<Post> {
        // Its parent is the usual state root, and has to be as every state root is.
        let place = Path::new(PLACE);
        StateRoot::open(place.parent().unwrap_or(place))?;
        Post::open_at(place)
    }

    fn open_at(place: &Path) -> Result<Post> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(place)
            .map_err(ContainerError::file("cannot make", place))?;
        is_roots(place).map_err(ContainerError::file("cannot use", place))?;
        let path = place.join(format!("{}.sock", std::process::id()));
        // One with this process' number has ended.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(ContainerError::file("cannot remove", path)(error));
            }
            _ => {}
        }
        let listener = UnixListener::bind(&path)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(ContainerError::file("cannot make", &path))?;
        Ok(Post { listener, path })
    }

    /// Where it is, for whoever removes it if this process is killed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next one that waits for an answer, if there is any.
    ///
    /// # Errors
    /// If nothing can be heard there any more.
    pub fn next(&self) -> Result<Option<Told>> {
        let mut stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(None);
            }
            Err(error) => return Err(ContainerError::file("cannot listen at", &self.path)(error)),
        };
        let mut text = Vec::new();
        let heard = stream
            .set_nonblocking(false)
            .and_then(|()| stream.set_read_timeout(Some(PATIENCE)))
            .and_then(|()| (&mut stream).take(65536).read_to_end(&mut text))
            .map_err(in_words)
            .and_then(|_| serde_json::from_slice(&text).map_err(in_words));
        match heard {
            Ok(news) => Ok(Some(Told { news, stream })),
            // It ended half-way, or is another version of gabion: it starts its container without.
            Err(error) => {
                tracing::warn!(error, "a start was told of that cannot be understood");
                Ok(None)
            }
        }
    }
}

fn in_words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl AsFd for Post {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.path));
    }
}

/// News, and who waits for the answer. Dropped, it is that nobody watches.
#[derive(Debug)]
pub struct Told {
    /// The news.
    pub news: News,
    stream: UnixStream,
}

impl Told {
    /// The process is watched, and may go on.
    pub fn watched(mut self) {
        // If it has ended meanwhile, so has the process.
        drop(self.stream.write_all(WATCHED));
    }

    /// The container.
    ///
    /// # Errors
    /// If its id or its state root is none.
    pub fn container(&self) -> Result<(StateRoot, ContainerId)> {
        Ok((
            StateRoot::open(&self.news.root)?,
            ContainerId::new(&self.news.id)?,
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn news() -> News {
        News {
            root: "/run/x".into(),
            id: "web".to_owned(),
            pid: 7,
            is_first: true,
        }
    }

    #[test]
    fn a_start_is_told_and_answered_and_without_anybody_goes_on() {
        let tree = tempfile::tempdir().unwrap();
        let place = tree.path().join("watchers");
        assert_eq!(tell_at(&place, &news()).unwrap_err().kind(), ErrorKind::NotFound);
        let post = Post::open_at(&place).unwrap();
        for watched in [true, false] {
            let place = place.clone();
            let start = std::thread::spawn(move || tell_at(&place, &news()).unwrap());
            let told = loop {
                if let Some(told) = post.next().unwrap() {
                    break told;
                }
                std::thread::sleep(Duration::from_millis(1));
            };
            assert_eq!(told.news, news());
            if watched {
                told.watched();
            } else {
                drop(told);
            }
            assert_eq!(start.join().unwrap(), watched);
        }
        // One that was killed leaves its socket.
        let left = UnixListener::bind(place.join("1.sock")).unwrap();
        drop((left, post));
        assert!(place.join("1.sock").exists());
        assert!(!tell_at(&place, &news()).unwrap());
        fs::set_permissions(&place, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(tell_at(&place, &news()).is_err());
    }
}
