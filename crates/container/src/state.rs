//! What gabion remembers of a container: one directory each below the state root, readable by its owner alone.
//!
//! ```text
//! <root>/<id>/               0700, locked with flock(2) by whoever changes the container
//!   state.json               replaced, never edited
//!   maker                    while it is being built: by whom
//!   start.fifo               held open by init until execve: while it has a reader, the program has not begun
//!   effective.json           what was judged and hardened; further processes are judged against it
//!   bundle/config.json       the effective configuration, normalized: what was judged is what is built
//!   engine/<id>/             libcontainer's own
//! ```
//!
//! The lock belongs to an open file, not to a process: the builder and the init process, which are forked while it
//! is held, hold it too until they end or execute something else. That is as it should be while they build, and it
//! would be for ever if whoever locked it was killed: the init process waits for a start that cannot come. So
//! `maker` names the process that builds, and whoever waits for the lock of one that was killed ends what it left.
//!
//! `<root>/~filters/` holds seccomp filters that were made once, for all containers.
//!
//! A container's directory appears under its id by one rename(2), with `state.json` in it: it is there whole or
//! not at all. Other names that begin with `~` are on their way in or out; no id can begin with it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gabion_baseline::facts::Identity;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, RenameFlags, renameat2};
use nix::unistd::{UnlinkatFlags, unlinkat};
use serde::{Deserialize, Serialize};

use crate::cgroup;
use crate::error::{ContainerError, Result};
use crate::id::ContainerId;
use crate::kill;
use crate::status;
use crate::systemd::Scope;

/// The directory that holds the state of all containers.
#[derive(Debug, Clone)]
pub struct StateRoot {
    path: PathBuf,
}

/// What is remembered of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Version of this format.
    pub version: u32,
    /// `ociVersion` of the container's configuration.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// The engine's bundle, absolute.
    pub bundle: PathBuf,
    /// The root file system, absolute.
    pub rootfs: PathBuf,
    /// Device and inode number of the root file system.
    pub rootfs_identity: (u64, u64),
    /// When it was created: seconds and nanoseconds since 1970.
    pub created: (u64, u32),
    /// The user who created it.
    pub owner: u32,
    /// The configuration's annotations.
    pub annotations: std::collections::BTreeMap<String, String>,
    /// The profile it was judged under.
    pub profile: String,
    /// Its cgroups: one directory, or with version 1 one for each controller.
    pub cgroups: Vec<PathBuf>,
    /// The scope that systemd made for it, if it was asked to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Its init process; `None` while it is being built.
    pub init: Option<Init>,
    /// Hooks that are still to be run, after start and after deletion.
    pub hooks: LateHooks,
}

/// The init process, such that it cannot be mistaken for a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Init {
    /// Process id in the runtime's pid namespace.
    pub pid: i32,
    /// When it began, in clock ticks since boot: field 22 of /proc/<pid>/stat.
    pub start_time: u64,
}

/// Hooks that run after `create` has ended.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct LateHooks {
    pub poststart: Vec<gabion_baseline::config::Hook>,
    pub poststop: Vec<gabion_baseline::config::Hook>,
}

/// A container's directory, locked.
#[derive(Debug)]
pub struct Locked {
    path: PathBuf,
    lock: Flock<File>,
    /// There while the container is being built under this lock. It goes after the lock is let go, as fields are
    /// dropped in their order: whoever is killed between the two leaves a lock that nobody holds.
    maker: Option<Maker>,
}

/// The mark of the process that builds a container; gone when dropped.
#[derive(Debug)]
struct Maker {
    /// By descriptor: under the same name there may be another container by then.
    directory: File,
}

impl Record {
    /// Which directory its root is.
    pub fn rootfs_identity(&self) -> Identity {
        Identity {
            device: self.rootfs_identity.0,
            inode: self.rootfs_identity.1,
        }
    }
}

impl StateRoot {
    /// Opens the state root, making it if it is not there.
    ///
    /// # Errors
    /// If it cannot be made, is a symbolic link, belongs to someone else, or may be written by others: whoever
    /// can write there decides what runs.
    pub fn open(path: &Path) -> Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(ContainerError::file("cannot make the state directory", path))?;
        let metadata = fs::symlink_metadata(path).map_err(ContainerError::file("cannot look at", path))?;
        let own = nix::unistd::geteuid().as_raw();
        let why = if !metadata.is_dir() {
            "is not a directory"
        } else if metadata.uid() != own {
            "belongs to another user"
        } else if metadata.mode() & 0o022 != 0 {
            "may be written by others; chmod go-w would make it usable"
        } else {
            return Ok(StateRoot {
                path: path.to_owned(),
            });
        };
        Err(ContainerError::Other(format!(
            "the state directory {path:?} {why}"
        )))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where seccomp filters are kept that were made once: a name that no container's can be.
    pub fn filters(&self) -> PathBuf {
        self.path.join("~filters")
    }

    /// Where a container's directory is, or would be.
    pub fn of(&self, id: &ContainerId) -> PathBuf {
        self.path.join(id.as_str())
    }

    /// Makes a container's directory with its first record in it, and locks it.
    ///
    /// # Errors
    /// [`ContainerError::Exists`] if the id is taken; of two callers, one gets it.
    pub fn make(&self, id: &ContainerId, record: &Record) -> Result<Locked> {
        let path = self.of(id);
        if path.exists() {
            return Err(ContainerError::Exists(id.to_string()));
        }
        let draft = self.path.join(format!("~{id}.{}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&draft) {
            Ok(()) => {}
            // A caller with this pid was killed on the way, long ago.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                fs::remove_dir_all(&draft)
                    .map_err(ContainerError::file("cannot remove the stale", &draft))?;
                DirBuilder::new()
                    .mode(0o700)
                    .create(&draft)
                    .map_err(ContainerError::file("cannot make", &draft))?;
            }
            Err(error) => return Err(ContainerError::file("cannot make", &draft)(error)),
        }
        let finished = lock(&draft).and_then(|mut locked| {
            locked.save(record)?;
            let maker = Maker::new(&draft)?;
            match renameat2(AT_FDCWD, &draft, AT_FDCWD, &path, RenameFlags::RENAME_NOREPLACE) {
                Ok(()) => {
                    locked.path.clone_from(&path);
                    locked.maker = Some(maker);
                    Ok(locked)
                }
                Err(Errno::EEXIST) => Err(ContainerError::Exists(id.to_string())),
                Err(errno) => Err(ContainerError::call(format!("renameat2({draft:?}, {path:?})"))(
                    errno,
                )),
            }
        });
        if finished.is_err() {
            fs::remove_dir_all(&draft).map_err(ContainerError::file("cannot remove", &draft))?;
        }
        finished
    }

    /// Locks a container's directory, waiting for whoever holds it. If it was being built by someone who was
    /// killed, what is left of that is ended.
    ///
    /// # Errors
    /// [`ContainerError::Missing`]; if what was left does not end.
    pub fn lock(&self, id: &ContainerId) -> Result<Locked> {
        let path = self.of(id);
        while let Some(maker) = read_maker(&path) {
            if let Some(locked) = try_lock(&path).map_err(|error| missing(error, id))? {
                drop(locked);
                break;
            }
            // Time for one who lives to be through with it, and for those who were killed to let go of the lock:
            // some may have been on their way into the cgroup.
            match status::alive(maker)? {
                Some(process) => drop(cgroup::wait_for_end(process, Duration::from_millis(20))?),
                None => {
                    let record = read(&path).map_err(|error| missing(error, id))?;
                    kill::end(&record)?;
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
        let locked = lock(&path).map_err(|error| missing(error, id))?;
        // It may have been deleted, and even made anew, while we waited.
        let held = locked
            .lock
            .metadata()
            .map_err(ContainerError::file("cannot look at", &path))?;
        match fs::symlink_metadata(&path) {
            Ok(now) if (now.dev(), now.ino()) == (held.dev(), held.ino()) => {}
            _ => return Err(ContainerError::Missing(id.to_string())),
        }
        // The mark of one who was killed: nobody else removes it, and whoever holds the lock from here on builds
        // nothing.
        if let Some(maker) = read_maker(&path)
            && status::alive(maker)?.is_none()
        {
            let mark = path.join(MAKER);
            fs::remove_file(&mark).map_err(ContainerError::file("cannot remove", mark))?;
        }
        Ok(locked)
    }

    /// Removes what callers who were killed left on the way into or out of an id: names that hold the caller's process
    /// id, where no such process is.
    ///
    /// # Errors
    /// If the state root cannot be read, or one of them cannot be removed.
    pub fn sweep(&self, id: &ContainerId) -> Result<()> {
        let entries = fs::read_dir(&self.path).map_err(ContainerError::file("cannot read", &self.path))?;
        for entry in entries {
            let entry = entry.map_err(ContainerError::file("cannot read", &self.path))?;
            let name = entry.file_name();
            let pid = name
                .to_str()
                .and_then(|name| {
                    name.strip_prefix('~')?
                        .strip_prefix(id.as_str())?
                        .strip_prefix('.')
                })
                .and_then(|rest| rest.strip_suffix(LEAVING).unwrap_or(rest).parse::<u32>().ok());
            if pid.is_none_or(|pid| Path::new("/proc").join(pid.to_string()).exists()) {
                continue;
            }
            match fs::remove_dir_all(entry.path()) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(ContainerError::file("cannot remove", entry.path())(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Reads a container's record without locking it.
    ///
    /// # Errors
    /// [`ContainerError::Missing`], [`ContainerError::Damaged`].
    pub fn read(&self, id: &ContainerId) -> Result<Record> {
        read(&self.of(id)).map_err(|error| missing(error, id))
    }

    /// The container that was last made from this root directory and is still remembered, if any: alive or not.
    ///
    /// One look at one name, however many containers there are.
    pub fn holder(&self, rootfs: Identity) -> Option<ContainerId> {
        let target = fs::read_link(self.claim_path(rootfs)).ok()?;
        ContainerId::new(target.to_str()?).ok()
    }

    fn claim_path(&self, rootfs: Identity) -> PathBuf {
        self.path
            .join(format!("~rootfs-{}-{}", rootfs.device, rootfs.inode))
    }

    /// Remembers whose root directory this is. Of two that share one, as a policy may allow, the later counts.
    pub(crate) fn claim(&self, rootfs: Identity, id: &ContainerId) -> Result<()> {
        let path = self.claim_path(rootfs);
        let draft = self.path.join(format!("~{id}.{}", std::process::id()));
        symlink(id.as_str(), &draft)
            .and_then(|()| fs::rename(&draft, &path))
            .map_err(ContainerError::file("cannot write", path))
    }

    /// Forgets it, unless another container has claimed it since.
    pub(crate) fn release(&self, rootfs: Identity, id: &ContainerId) -> Result<()> {
        if self.holder(rootfs).as_ref() != Some(id) {
            return Ok(());
        }
        let path = self.claim_path(rootfs);
        fs::remove_file(&path).map_err(ContainerError::file("cannot remove", path))
    }

    /// The ids of all containers, in order. Whatever else lies in the state root is passed over.
    ///
    /// # Errors
    /// If the state root cannot be read.
    pub fn ids(&self) -> Result<Vec<ContainerId>> {
        let mut ids = Vec::new();
        let entries = fs::read_dir(&self.path).map_err(ContainerError::file("cannot read", &self.path))?;
        for entry in entries {
            let entry = entry.map_err(ContainerError::file("cannot read", &self.path))?;
            let is_ours = entry.file_type().is_ok_and(|kind| kind.is_dir())
                && entry.path().join(RECORD).symlink_metadata().is_ok();
            if let (true, Some(Ok(id))) = (is_ours, entry.file_name().to_str().map(ContainerId::new)) {
                ids.push(id);
            }
        }
        ids.sort();
        Ok(ids)
    }
}

const RECORD: &str = "state.json";

/// The configuration as it was judged and hardened: what further processes are judged against.
pub(crate) const EFFECTIVE: &str = "effective.json";

impl Locked {
    /// The directory's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the record.
    ///
    /// # Errors
    /// If it cannot be written; the old one is then still there.
    pub fn save(&mut self, record: &Record) -> Result<()> {
        let text = serde_json::to_vec(record).map_err(|error| ContainerError::Other(error.to_string()))?;
        write_atomically(&self.path.join(RECORD), &text, 0o600)
    }

    /// Reads the record.
    ///
    /// # Errors
    /// [`ContainerError::Damaged`].
    pub fn record(&self) -> Result<Record> {
        read(&self.path)
    }

    /// Removes the directory: first its name, so that the id is free or taken and nothing between.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(mut self) -> Result<()> {
        // Nothing is being built any more, and all that was has ended.
        drop(self.maker.take());
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let leaving = parent.join(format!("~{name}.{}{LEAVING}", std::process::id()));
        fs::rename(&self.path, &leaving).map_err(ContainerError::file("cannot remove", &self.path))?;
        fs::remove_dir_all(&leaving).map_err(ContainerError::file("cannot remove", &leaving))
    }
}

/// Writes a file such that a reader sees the old one or the new one, whole.
///
/// # Errors
/// If it cannot be written; nothing of the attempt is left.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}", std::process::id()));
    let draft = PathBuf::from(draft);
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(&draft)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&draft, path));
    written.map_err(|source| {
        // The first error is the one to report; a draft that was never made cannot be removed either.
        drop(fs::remove_file(&draft));
        ContainerError::File {
            what: "cannot write",
            path: path.to_owned(),
            source,
        }
    })
}

impl Maker {
    fn new(directory: &Path) -> Result<Self> {
        let pid = std::process::id().cast_signed();
        let start_time = status::stat(pid).map_or(0, |(_, start_time)| start_time);
        let text = serde_json::to_vec(&Init { pid, start_time })
            .map_err(|error| ContainerError::Other(error.to_string()))?;
        write_atomically(&directory.join(MAKER), &text, 0o600)?;
        Ok(Maker {
            directory: open(directory)?,
        })
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        match unlinkat(&self.directory, MAKER, UnlinkatFlags::NoRemoveDir) {
            // Whoever got the lock in between may have deleted it all.
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => tracing::warn!(%errno, "the mark of a finished build cannot be removed"),
        }
    }
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_DIRECTORY | nix::libc::O_NOFOLLOW)
        .open(path)
        .map_err(ContainerError::file("cannot open", path))
}

fn lock(path: &Path) -> Result<Locked> {
    let lock = Flock::lock(open(path)?, FlockArg::LockExclusive)
        .map_err(|(_, errno)| ContainerError::call(format!("flock({path:?}, LOCK_EX)"))(errno))?;
    Ok(Locked {
        path: path.to_owned(),
        lock,
        maker: None,
    })
}

/// Locks it unless somebody else holds it.
fn try_lock(path: &Path) -> Result<Option<Flock<File>>> {
    match Flock::lock(open(path)?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(ContainerError::call(format!(
            "flock({path:?}, LOCK_EX | LOCK_NB)"
        ))(errno)),
    }
}

/// Ends the name of a directory that is being removed.
const LEAVING: &str = ".deleted";

/// Who builds a container, while it is being built.
const MAKER: &str = "maker";

/// The process that builds a container, or was killed when it did; `None` if it is built.
pub(crate) fn read_maker(directory: &Path) -> Option<Init> {
    serde_json::from_slice(&fs::read(directory.join(MAKER)).ok()?).ok()
}

fn read(directory: &Path) -> Result<Record> {
    let path = directory.join(RECORD);
    let bytes = fs::read(&path).map_err(ContainerError::file("cannot read", &path))?;
    serde_json::from_slice(&bytes).map_err(|error| ContainerError::Damaged {
        path,
        text: error.to_string(),
    })
}

fn missing(error: ContainerError, id: &ContainerId) -> ContainerError {
    match error {
        ContainerError::File { source, .. } if source.kind() == ErrorKind::NotFound => {
            ContainerError::Missing(id.to_string())
        }
        other => other,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn record(id: &str) -> Record {
        Record {
            version: 1,
            oci_version: "1.3.0".to_owned(),
            id: id.to_owned(),
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            rootfs_identity: (1, 2),
            created: (1, 2),
            owner: 0,
            annotations: Default::default(),
            profile: "baseline".to_owned(),
            cgroups: Vec::new(),
            scope: None,
            init: None,
            hooks: LateHooks::default(),
        }
    }

    #[test]
    fn what_is_built_has_a_maker_until_it_is() {
        let root = tempfile::tempdir().unwrap();
        let root = StateRoot::open(root.path()).unwrap();
        let id = ContainerId::new("web").unwrap();
        let locked = root.make(&id, &record("web")).unwrap();
        let maker = read_maker(&root.of(&id)).unwrap();
        assert_eq!(maker.pid, std::process::id().cast_signed());
        assert!(status::alive(maker).unwrap().is_some());
        drop(locked);
        assert_eq!(read_maker(&root.of(&id)), None);
        root.lock(&id).unwrap().remove().unwrap();
    }

    #[test]
    fn what_the_dead_left_on_the_way_is_swept_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let root = StateRoot::open(directory.path()).unwrap();
        let own = std::process::id();
        // No process has the highest number there is.
        let stale = ["~web.4194304", "~web.4194304.deleted"].map(str::to_owned);
        let kept = [
            format!("~web.{own}"),
            "~web.1.4194304".to_owned(),
            "~webby.4194304".to_owned(),
            "web".to_owned(),
        ];
        for name in stale.iter().chain(&kept) {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        root.sweep(&ContainerId::new("web").unwrap()).unwrap();
        for name in &stale {
            assert!(!directory.path().join(name).exists(), "{name}");
        }
        for name in &kept {
            assert!(directory.path().join(name).exists(), "{name}");
        }
    }

    #[test]
    fn of_two_callers_one_gets_the_id() {
        let root = tempfile::tempdir().unwrap();
        let root = StateRoot::open(&root.path().join("state")).unwrap();
        let id = ContainerId::new("web").unwrap();
        let first = root.make(&id, &record("web")).unwrap();
        assert!(matches!(
            root.make(&id, &record("web")),
            Err(ContainerError::Exists(_))
        ));
        assert_eq!(root.ids().unwrap(), std::slice::from_ref(&id));
        assert_eq!(
            fs::read_dir(root.path()).unwrap().count(),
            1,
            "a draft was left behind"
        );
        first.remove().unwrap();
        assert!(matches!(root.read(&id), Err(ContainerError::Missing(_))));
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_root_directory_is_released_by_its_last_holder_alone() {
        let directory = tempfile::tempdir().unwrap();
        let root = StateRoot::open(&directory.path().join("state")).unwrap();
        let (one, two) = (ContainerId::new("one").unwrap(), ContainerId::new("two").unwrap());
        let rootfs = Identity { device: 5, inode: 6 };
        assert_eq!(root.holder(rootfs), None);
        root.claim(rootfs, &one).unwrap();
        root.claim(rootfs, &two).unwrap();
        root.release(rootfs, &one).unwrap();
        assert_eq!(root.holder(rootfs), Some(two.clone()));
        root.release(rootfs, &two).unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn foreign_and_half_made_directories_are_no_containers() {
        let directory = tempfile::tempdir().unwrap();
        let root = StateRoot::open(&directory.path().join("state")).unwrap();
        fs::create_dir(root.path().join("empty")).unwrap();
        fs::create_dir(root.path().join("~web.12")).unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        assert_eq!(root.ids().unwrap(), []);
    }

    #[test]
    fn a_state_root_that_others_may_write_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(
            StateRoot::open(&path)
                .unwrap_err()
                .to_string()
                .contains("may be written by others")
        );
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("/run", &link).unwrap();
        assert!(
            StateRoot::open(&link)
                .unwrap_err()
                .to_string()
                .contains("is not a directory")
        );
    }

    #[test]
    fn a_damaged_record_is_told_as_such() {
        let directory = tempfile::tempdir().unwrap();
        let root = StateRoot::open(&directory.path().join("state")).unwrap();
        let id = ContainerId::new("web").unwrap();
        let locked = root.make(&id, &record("web")).unwrap();
        fs::write(locked.path().join("state.json"), "{").unwrap();
        assert!(matches!(root.read(&id), Err(ContainerError::Damaged { .. })));
    }
}
