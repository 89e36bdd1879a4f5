//! The file: opened with care, appended to whole lines at a time.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, openat};
use nix::sys::stat::Mode;

use crate::record::Record;

/// Where decisions are recorded, and what happens if they cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The file.
    pub path: PathBuf,
    /// Nothing runs if a decision cannot be recorded.
    pub required: bool,
}

/// An open ledger.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    file: File,
}

/// Why a decision could not be recorded. Each names the file and the way out.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum LedgerError {
    #[error("cannot make the ledger's directory {path:?}: {source}; `install -d -m 0700 {shown}` as root makes it", shown = path.display())]
    MakeDirectory { path: PathBuf, source: io::Error },
    #[error("cannot open the ledger {path:?}: {source}")]
    Open { path: PathBuf, source: io::Error },
    #[error(
        "the ledger {path:?} is a symbolic link, or lies in a directory that is one; name the real path in [ledger] of the policy"
    )]
    Symlink { path: PathBuf },
    #[error("the ledger {path:?} is not a regular file; move it away, gabion makes a new one")]
    NotAFile { path: PathBuf },
    #[error("{path:?} belongs to user {owner}, who could rewrite the ledger; `chown root: {shown}` as root repairs it", shown = path.display())]
    Owner { path: PathBuf, owner: u32 },
    #[error("{path:?} may be written by others (mode {mode:04o}), who could rewrite the ledger; `chmod go-w {shown}` repairs it", shown = path.display())]
    Writable { path: PathBuf, mode: u32 },
    #[error("cannot lock the ledger {path:?}: {source}")]
    Lock { path: PathBuf, source: io::Error },
    #[error(
        "cannot append to the ledger {path:?}: {source}; nothing runs that is not recorded. Make room for it, or set `required = false` in [ledger] of the policy"
    )]
    Append { path: PathBuf, source: io::Error },
}

impl Ledger {
    /// Opens the ledger for appending; makes it, and the directory it is in, if they are not there.
    ///
    /// The directory is made with mode 0700 and the file with 0600. Neither may be a symbolic link, belong to
    /// someone else than root (or, for a runtime that does not run as root, its user), or be writable by others.
    /// The directories above are the administrator's.
    ///
    /// # Errors
    /// [`LedgerError`]. Whether that stops the operation is [`Settings::required`]'s to say.
    pub fn open(settings: &Settings) -> Result<Self, LedgerError> {
        let path = settings.path.clone();
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(LedgerError::NotAFile { path });
        };
        let directory = directory(parent, &path)?;
        // Opened below the directory that was checked, not by its path again: no rename in between can lead
        // elsewhere. O_NONBLOCK: a FIFO in the file's place would block the open until someone reads it.
        // Read as well, to see whether the last line has its end.
        let flags = OFlag::O_RDWR
            | OFlag::O_APPEND
            | OFlag::O_CREAT
            | OFlag::O_CLOEXEC
            | OFlag::O_NOFOLLOW
            | OFlag::O_NONBLOCK
            | OFlag::O_NOCTTY;
        let file = match openat(&directory, name, flags, Mode::S_IRUSR | Mode::S_IWUSR) {
            Ok(descriptor) => File::from(descriptor),
            Err(Errno::ELOOP) => return Err(LedgerError::Symlink { path }),
            // What open(2) says of a directory, a socket, and a device without a driver.
            Err(Errno::EISDIR | Errno::ENXIO | Errno::ENODEV) => return Err(LedgerError::NotAFile { path }),
            Err(errno) => {
                return Err(LedgerError::Open {
                    path,
                    source: errno.into(),
                });
            }
        };
        let metadata = file.metadata().map_err(|source| LedgerError::Open {
            path: path.clone(),
            source,
        })?;
        if !metadata.is_file() {
            return Err(LedgerError::NotAFile { path });
        }
        only_ours(&path, &metadata)?;
        Ok(Ledger { path, file })
    }

    /// Appends a record, whole or not at all.
    ///
    /// # Errors
    /// [`LedgerError::Lock`] or [`LedgerError::Append`]; the record is not there.
    pub fn record(&mut self, record: &Record) -> Result<(), LedgerError> {
        let line = record
            .to_line()
            .map_err(|source| self.append_error(source.into()))?;
        // O_APPEND alone keeps writers apart on the file systems of one host. The lock also holds on network
        // file systems, and while a line that was cut short is taken back. Only who can open the file can hold
        // it: root.
        let copy = self.file.try_clone().map_err(|source| self.lock_error(source))?;
        // A duplicate shares its open file description, and so its lock, with the original; the lock ends with
        // `locked`, which is its only holder.
        let mut locked =
            Flock::lock(copy, FlockArg::LockExclusive).map_err(|(_, errno)| self.lock_error(errno.into()))?;
        append(&mut locked, line).map_err(|source| self.append_error(source))
    }

    fn lock_error(&self, source: io::Error) -> LedgerError {
        LedgerError::Lock {
            path: self.path.clone(),
            source,
        }
    }

    fn append_error(&self, source: io::Error) -> LedgerError {
        LedgerError::Append {
            path: self.path.clone(),
            source,
        }
    }
}

/// Appends a line to a file that is locked.
fn append(file: &mut File, mut line: Vec<u8>) -> io::Result<()> {
    let length = file.metadata()?.len();
    // A write(2) can stop in the middle: the disk is full, or a fatal signal came between two pages. If a
    // writer could not take its half line back, end it here, so that this one is not part of it.
    let mut last = [b'\n'];
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    if last != [b'\n'] {
        line.insert(0, b'\n');
    }
    // write(2) once, not `write_all`: a second write after a short one could come minutes later, and a line
    // would be there that nobody acknowledged.
    let outcome = loop {
        match file.write(&line) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other,
        }
    };
    match outcome {
        Ok(written) if written == line.len() => Ok(()),
        Ok(written) => {
            // With `chattr +a` this fails; then the half line stays, and the next writer ends it.
            let taken_back = if file.set_len(length).is_ok() {
                "taken back"
            } else {
                "left without its end"
            };
            let what = format!("{written} of {} bytes were written ({taken_back})", line.len());
            Err(io::Error::new(io::ErrorKind::WriteZero, what))
        }
        Err(error) => Err(error),
    }
}

/// Opens the directory of the ledger, made if it is not there.
fn directory(parent: &Path, ledger: &Path) -> Result<File, LedgerError> {
    let parent = if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    match DirBuilder::new().mode(0o700).create(parent) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            return Err(LedgerError::MakeDirectory {
                path: parent.to_owned(),
                source,
            });
        }
        _ => {}
    }
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let directory = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(parent)
        .map_err(|source| {
            // O_DIRECTORY is looked at before O_NOFOLLOW: a link that is not followed is no directory.
            let link = parent
                .symlink_metadata()
                .is_ok_and(|metadata| metadata.is_symlink());
            match link {
                true => LedgerError::Symlink {
                    path: ledger.to_owned(),
                },
                false => LedgerError::Open {
                    path: parent.to_owned(),
                    source,
                },
            }
        })?;
    let metadata = directory.metadata().map_err(|source| LedgerError::Open {
        path: parent.to_owned(),
        source,
    })?;
    only_ours(parent, &metadata)?;
    Ok(directory)
}

/// A file or directory that belongs to root or to us, and that nobody else may write.
fn only_ours(path: &Path, metadata: &std::fs::Metadata) -> Result<(), LedgerError> {
    let owner = metadata.uid();
    if owner != 0 && owner != nix::unistd::geteuid().as_raw() {
        return Err(LedgerError::Owner {
            path: path.to_owned(),
            owner,
        });
    }
    let mode = Permissions::mode(&metadata.permissions()) & 0o7777;
    if mode & 0o022 != 0 {
        return Err(LedgerError::Writable {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::record::{Operation, Verdict};

    fn settings(path: PathBuf) -> Settings {
        Settings { path, required: true }
    }

    fn refused(path: PathBuf) -> String {
        Ledger::open(&settings(path)).unwrap_err().to_string()
    }

    fn record(id: &str) -> Record {
        Record::now(id, Operation::Create, Verdict::Admitted, "baseline")
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn the_directory_and_the_file_are_made_for_us_alone() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("log/decisions.jsonl");
        let mut ledger = Ledger::open(&settings(path.clone())).unwrap();
        ledger.record(&record("a")).unwrap();
        ledger.record(&record("b")).unwrap();
        assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o700, 0o600));
        let text = fs::read_to_string(&path).unwrap();
        let ids: Vec<String> = text
            .lines()
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(line).unwrap()["id"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        assert_eq!(ids, ["a", "b"]);
    }

    #[test]
    fn a_file_that_is_there_is_appended_to() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("decisions.jsonl");
        for id in ["a", "b"] {
            Ledger::open(&settings(path.clone()))
                .unwrap()
                .record(&record(id))
                .unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);
    }

    #[test]
    fn a_symbolic_link_is_refused_in_place_of_the_file_and_of_its_directory() {
        let base = tempfile::tempdir().unwrap();
        let (real, link) = (base.path().join("real"), base.path().join("link"));
        fs::write(&real, "").unwrap();
        symlink(&real, &link).unwrap();
        assert!(refused(link).contains("is a symbolic link"));
        assert_eq!(fs::read_to_string(&real).unwrap(), "");
        fs::create_dir(base.path().join("dir")).unwrap();
        symlink(base.path().join("dir"), base.path().join("dirlink")).unwrap();
        assert!(refused(base.path().join("dirlink/decisions.jsonl")).contains("is a symbolic link"));
        assert!(!base.path().join("dir/decisions.jsonl").exists());
        symlink(base.path().join("nowhere"), base.path().join("dangling")).unwrap();
        assert!(refused(base.path().join("dangling")).contains("is a symbolic link"));
        assert!(!base.path().join("nowhere").exists());
    }

    #[test]
    fn what_others_may_write_is_refused_with_the_command_that_repairs_it() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("decisions.jsonl");
        fs::write(&path, "").unwrap();
        for bits in [0o620, 0o602, 0o666] {
            fs::set_permissions(&path, Permissions::from_mode(bits)).unwrap();
            assert_eq!(
                refused(path.clone()),
                format!(
                    "{path:?} may be written by others (mode {bits:04o}), who could rewrite the ledger; \
                     `chmod go-w {}` repairs it",
                    path.display()
                )
            );
        }
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        Ledger::open(&settings(path.clone())).unwrap();
        fs::set_permissions(base.path(), Permissions::from_mode(0o777)).unwrap();
        assert!(
            refused(path).starts_with(&format!("{:?} may be written by others (mode 0777)", base.path()))
        );
    }

    #[test]
    fn what_belongs_to_someone_else_is_refused() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: only root can give a file away");
            return;
        }
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("decisions.jsonl");
        fs::write(&path, "").unwrap();
        std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
        assert_eq!(
            refused(path.clone()),
            format!(
                "{path:?} belongs to user 65534, who could rewrite the ledger; `chown root: {}` as root repairs it",
                path.display()
            )
        );
    }

    #[test]
    fn only_a_regular_file_is_a_ledger() {
        let base = tempfile::tempdir().unwrap();
        let fifo = base.path().join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        assert!(refused(fifo).contains("is not a regular file"));
        fs::create_dir(base.path().join("dir")).unwrap();
        assert!(refused(base.path().join("dir")).contains("is not a regular file"));
        let socket = base.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(refused(socket).contains("is not a regular file"));
        assert!(refused(PathBuf::from("/")).contains("is not a regular file"));
    }

    #[test]
    fn a_directory_whose_parent_is_missing_is_not_guessed() {
        let base = tempfile::tempdir().unwrap();
        let error = refused(base.path().join("a/b/decisions.jsonl"));
        assert!(error.starts_with("cannot make the ledger's directory"), "{error}");
        assert!(error.contains("install -d -m 0700"), "{error}");
        assert!(!base.path().join("a").exists());
    }

    #[test]
    fn a_half_line_that_was_left_behind_does_not_swallow_the_next_record() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("decisions.jsonl");
        fs::write(&path, "{\"half").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        Ledger::open(&settings(path.clone()))
            .unwrap()
            .record(&record("whole"))
            .unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[0]), (2, "{\"half"));
        assert!(serde_json::from_str::<serde_json::Value>(lines[1]).is_ok());
    }
}
