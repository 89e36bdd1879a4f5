//! Filters in files: one for each key, in a directory of their owner's alone.
//!
//! ```text
//! <directory>/             0700
//!   <key in hexadecimal>   0600: magic │ key │ what is kept │ SHA-256 of all before
//! ```
//!
//! A file appears under its name by one rename(2) and is never changed, so whoever reads has all of it, whatever others
//! do meanwhile; of several who make the same filter at once, the last one's file stays, which holds the same.
//!
//! What protects from somebody else is who may write here: the directory and the file are looked at by the descriptors
//! that are then used. The digest finds what is cut off, damaged, or another filter under this name. It does not find a
//! forgery by root, who could replace gabion itself.

use std::ffi::{CStr, CString};
use std::fs::{DirBuilder, File};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};
use sha2::{Digest, Sha256};

use crate::key::Key;
use crate::{MOST_BYTES, MOST_FILTERS};

const MAGIC: &[u8; 16] = b"gabion filter 1\n";
const AROUND: usize = MAGIC.len() + 32 + 32;
/// More than any filter takes: 4096 instructions and the words around them.
const LONGEST: usize = 128 * 1024;

/// Something was looked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// There is none, or no directory.
    Nothing,
    /// What is kept under this key, whole.
    Record(Vec<u8>),
    /// There is something that is not to be used: why.
    Unusable(String),
}

/// A directory of filters, opened when it is first asked.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    opened: OnceLock<OwnedFd>,
}

impl Directory {
    pub(crate) fn new(path: PathBuf) -> Directory {
        Directory {
            path,
            opened: OnceLock::new(),
        }
    }

    /// What is kept under a key.
    pub(crate) fn find(&self, key: &Key) -> Found {
        match self.open() {
            Ok(Some(directory)) => read(directory, key).unwrap_or_else(Found::Unusable),
            Ok(None) => Found::Nothing,
            Err(why) => {
                tracing::warn!("kept seccomp filters in {:?} are not used: {why}", self.path);
                Found::Nothing
            }
        }
    }

    /// Says what is wrong with what is kept; it will be made anew.
    pub(crate) fn complain(&self, key: &Key, why: &str) {
        tracing::warn!(
            "the seccomp filter {:?} is not used, and made anew: {why}",
            self.path.join(name(key).to_string_lossy().as_ref())
        );
    }

    /// Keeps something. What keeps it from being kept is no reason not to go on.
    pub(crate) fn keep(&self, key: &Key, bytes: &[u8]) {
        if let Err(why) = self.try_to_keep(key, bytes) {
            tracing::debug!("a seccomp filter is not kept in {:?}: {why}", self.path);
        }
    }

    fn try_to_keep(&self, key: &Key, bytes: &[u8]) -> Result<(), String> {
        if bytes.len() + AROUND > LONGEST {
            return Err(format!("it has {} bytes", bytes.len()));
        }
        if self.opened.get().is_none() {
            match DirBuilder::new().mode(0o700).create(&self.path) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(format!("it cannot be made: {error}"));
                }
                _ => {}
            }
        }
        let directory = self.open()?.ok_or("it is gone again")?;
        write(directory, key, bytes)?;
        trim(directory).map_err(|errno| format!("the oldest cannot be removed: {errno}"))
    }

    /// The directory; `None` if there is none.
    fn open(&self) -> Result<Option<&OwnedFd>, String> {
        if let Some(directory) = self.opened.get() {
            return Ok(Some(directory));
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let directory = match open(&self.path, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(format!("it cannot be opened: {errno}")),
        };
        let stat = fstat(&directory).map_err(|errno| format!("fstat: {errno}"))?;
        belongs_to_us_alone(&stat)?;
        Ok(Some(self.opened.get_or_init(|| directory)))
    }
}

fn belongs_to_us_alone(stat: &FileStat) -> Result<(), String> {
    if stat.st_uid != geteuid().as_raw() {
        return Err(format!("it belongs to user {}", stat.st_uid));
    }
    if stat.st_mode & 0o077 != 0 {
        return Err(format!(
            "it has mode {:04o}, which is not for its owner alone",
            stat.st_mode & 0o7777
        ));
    }
    Ok(())
}

fn name(key: &Key) -> CString {
    let hexadecimal: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    CString::new(hexadecimal).unwrap_or_default()
}

fn read(directory: &OwnedFd, key: &Key) -> Result<Found, String> {
    // Without O_NONBLOCK a FIFO of this name would be waited for.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = match openat(directory, name(key).as_c_str(), flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::ENOENT) => return Ok(Found::Nothing),
        Err(Errno::ELOOP) => return Err("it is a symbolic link".to_owned()),
        Err(errno) => return Err(format!("it cannot be opened: {errno}")),
    };
    let stat = fstat(&file).map_err(|errno| format!("fstat: {errno}"))?;
    if stat.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
        return Err("it is no file".to_owned());
    }
    belongs_to_us_alone(&stat)?;
    if stat.st_nlink > 1 {
        return Err("it has a second name".to_owned());
    }
    let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
    if !(AROUND..=LONGEST).contains(&size) {
        return Err(format!("it has {size} bytes"));
    }
    let mut bytes = Vec::with_capacity(size);
    let limit = u64::try_from(LONGEST).unwrap_or(u64::MAX);
    File::from(file)
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("it cannot be read: {error}"))?;
    content(bytes, key).map(Found::Record)
}

/// What is kept, out of a file's bytes.
fn content(mut bytes: Vec<u8>, key: &Key) -> Result<Vec<u8>, String> {
    let (rest, digest) = bytes.split_last_chunk::<32>().ok_or("it is cut off")?;
    if Sha256::digest(rest).as_slice() != digest {
        return Err("it is damaged: its digest is another".to_owned());
    }
    match rest.strip_prefix(MAGIC).map(|rest| rest.starts_with(key)) {
        Some(true) => {}
        Some(false) => return Err("it is another filter".to_owned()),
        None => return Err("it is no filter".to_owned()),
    }
    bytes.truncate(bytes.len() - 32);
    bytes.drain(..MAGIC.len() + key.len());
    Ok(bytes)
}

fn write(directory: &OwnedFd, key: &Key, kept: &[u8]) -> Result<(), String> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut bytes = Vec::with_capacity(kept.len() + AROUND);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(kept);
    let digest = Sha256::digest(&bytes);
    bytes.extend_from_slice(&digest);

    let draft = format!("~{}.{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let draft = CString::new(draft).unwrap_or_default();
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let make = || openat(directory, draft.as_c_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR);
    let file = match make() {
        // Of a process with this id that was killed on the way.
        Err(Errno::EEXIST) => remove(directory, &draft).and_then(|()| make()),
        other => other,
    }
    .map_err(|errno| format!("a file cannot be made: {errno}"))?;
    let target = name(key);
    let finished = File::from(file)
        .write_all(&bytes)
        .map_err(|error| format!("it cannot be written: {error}"))
        .and_then(|()| {
            match renameat(directory, draft.as_c_str(), directory, target.as_c_str()) {
                // A directory has taken its place.
                Err(Errno::EISDIR | Errno::ENOTEMPTY | Errno::EEXIST) => remove(directory, &target)
                    .and_then(|()| renameat(directory, draft.as_c_str(), directory, target.as_c_str())),
                other => other,
            }
            .map_err(|errno| format!("it cannot be given its name: {errno}"))
        });
    if finished.is_err()
        && let Err(left) = remove(directory, &draft)
    {
        return finished.map_err(|why| format!("{why}; and {draft:?} is left: {left}"));
    }
    finished
}

/// Removes a name, or an empty directory; that it is gone already is as good.
fn remove(directory: &OwnedFd, name: &CStr) -> nix::Result<()> {
    match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(Errno::EISDIR) => unlinkat(directory, name, UnlinkatFlags::RemoveDir),
        Err(errno) => Err(errno),
    }
}

/// Removes the oldest beyond the bounds, and what others left who were killed on the way.
fn trim(directory: &OwnedFd) -> nix::Result<()> {
    let mut kept = Vec::new();
    let here = openat(
        directory,
        c".",
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    for entry in Dir::from_fd(here)?.iter() {
        let entry = entry?;
        let name = entry.file_name().to_owned();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match fstatat(directory.as_fd(), name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => kept.push(((stat.st_mtime, stat.st_mtime_nsec), stat.st_size, name)),
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    kept.sort_by_key(|(time, _, _)| std::cmp::Reverse(*time));
    let mut bytes: u64 = 0;
    for (index, (_, size, name)) in kept.iter().enumerate() {
        bytes += u64::try_from(*size).unwrap_or(0);
        if index >= MOST_FILTERS || bytes > MOST_BYTES {
            remove(directory, name)?;
        }
    }
    Ok(())
}
