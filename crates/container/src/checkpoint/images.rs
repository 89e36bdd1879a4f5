//! The directory with a checkpoint's images: who may have written it, and whether gabion did.
//!
//! CRIU puts processes together as its images say. So a directory that somebody else than root could write to is not
//! read, whatever the policy says; nor is one with links in it, which would lead CRIU's reading, or the writing of its
//! log, elsewhere. That gabion wrote an image on this host is shown by a list of its files and what they hold, which
//! carries a code that takes a key of the host's root to make (HMAC-SHA-256). Nothing else about an image is evidence,
//! and what the list of another host says is no more than a claim.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hmac::{Hmac, Mac};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{ContainerError, Result};
use crate::state::write_atomically;

/// gabion's list, beside the images.
const LIST: &str = "gabion.list";

/// What runc and others write beside theirs.
const DESCRIPTORS: &str = "descriptors.json";

/// CRIU's link to the images of an earlier pre-dump.
const PARENT: &str = "parent";

/// Where the host's key is.
const KEY: &str = "/var/lib/gabion/checkpoint.key";

/// A block of the digest: a key of this length is used as it is.
const KEY_SIZE: usize = 64;

/// Pre-dumps behind one another.
const DEEPEST: usize = 64;

/// Files of ours are small.
const LARGEST: u64 = 4 << 20;

/// An image's directory, open.
#[derive(Debug)]
pub struct Images {
    path: PathBuf,
    directory: OwnedFd,
    claims: Claims,
    foreign: Option<String>,
}

/// What the list beside an image says.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Claims {
    /// The container's id when it was checkpointed.
    pub(crate) id: String,
    /// The profile that it had been judged under.
    pub(crate) profile: String,
    /// Nobody can be restored from it alone.
    pub(crate) pre_dump: bool,
    /// By which key CRIU is given each standard stream when it restores.
    pub(crate) streams: Vec<Option<String>>,
    /// SHA-256 of each file.
    pub(crate) files: BTreeMap<String, String>,
}

impl Images {
    /// Opens the directory of an image that is to be restored, and looks through it.
    ///
    /// # Errors
    /// If it is not there or holds no image; if others than root could have written it.
    pub fn open(path: &Path) -> Result<Self> {
        let missing = |why: &str| {
            ContainerError::Other(format!(
                "{path:?} {why}: --image-path names the directory that gabion checkpoint wrote"
            ))
        };
        let directory = match open_directory(AT_FDCWD, path) {
            Ok(directory) => directory,
            Err(Errno::ENOENT) => return Err(missing("does not exist")),
            Err(errno) => {
                return Err(ContainerError::file("cannot open", path)(errno.into()));
            }
        };
        let entries = inspect(&directory, path)?;
        if !entries.iter().any(|entry| entry == "inventory.img") {
            return Err(missing("holds no image of a checkpoint"));
        }
        let (claims, foreign) = match check(&directory, path, &entries, DEEPEST)? {
            Ok(claims) => (claims, None),
            Err(why) => (foreign_claims(&directory), Some(why)),
        };
        if claims.pre_dump {
            return Err(missing(
                "holds a pre-dump, which no container can be restored from",
            ));
        }
        Ok(Images {
            path: path.to_owned(),
            directory,
            claims,
            foreign,
        })
    }

    /// Why it cannot be taken for one that gabion wrote on this host; `None` if it can.
    pub fn foreign(&self) -> Option<&str> {
        self.foreign.as_deref()
    }

    /// Its path, as the caller gave it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    pub(crate) fn claims(&self) -> &Claims {
        &self.claims
    }
}

/// A directory to write images, or logs, to: made if it is not there, for root alone.
///
/// # Errors
/// If it cannot be made, or others than root can write to it.
pub(crate) fn writable(path: &Path) -> Result<OwnedFd> {
    let directory = made(path)?;
    inspect(&directory, path)?;
    Ok(directory)
}

/// Makes a directory for CRIU's log, or opens one. Engines give one of their own, with sockets and pipes in it: of what
/// is there, that has to be root's which CRIU writes.
///
/// # Errors
/// As [`writable`].
pub(crate) fn working(path: &Path) -> Result<OwnedFd> {
    let directory = made(path)?;
    inspect_some(&directory, path, is_written)?;
    Ok(directory)
}

fn made(path: &Path) -> Result<OwnedFd> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(ContainerError::file("cannot make", path))?;
    open_directory(AT_FDCWD, path).map_err(|errno| ContainerError::file("cannot open", path)(errno.into()))
}

/// Writes the list of what is there by now.
///
/// # Errors
/// If a file cannot be read, or the list not be written.
pub(crate) fn sign(directory: &OwnedFd, path: &Path, mut claims: Claims) -> Result<()> {
    for name in inspect(directory, path)? {
        if is_image(&name) {
            let digest = digest(directory, path, &name)?;
            claims.files.insert(name, digest);
        }
    }
    let text = serde_json::to_vec(&claims).map_err(|error| ContainerError::Other(error.to_string()))?;
    let code = hex(&code(&make_key()?, &text).finalize().into_bytes());
    let mut bytes = format!("{code}\n").into_bytes();
    bytes.extend(&text);
    write_atomically(&path.join(LIST), &bytes, 0o600)
}

/// The images that are there.
pub(crate) fn names(directory: &OwnedFd, path: &Path) -> Result<Vec<String>> {
    let names = entries(directory, path)?;
    Ok(names.into_iter().filter(|name| is_image(name)).collect())
}

/// Removes what a checkpoint that failed has written: images that were not there before.
pub(crate) fn remove_but(directory: &OwnedFd, path: &Path, before: &[String]) {
    let names = match names(directory, path) {
        Ok(names) => names,
        Err(error) => return tracing::warn!(%error, "images of a failed checkpoint are left"),
    };
    for name in names.iter().filter(|name| !before.contains(name)) {
        if let Err(errno) = unlinkat(directory, name.as_str(), UnlinkatFlags::NoRemoveDir) {
            tracing::warn!(%errno, name, "an image of a failed checkpoint is left");
        }
    }
}

fn is_image(name: &str) -> bool {
    name.ends_with(".img")
}

/// Names that CRIU gives to files in its working directory: logs, statistics, what it knows of inodes, process ids.
fn is_written(name: &str) -> bool {
    is_image(name) || name.starts_with("stats-") || name.ends_with(".log") || name.ends_with(".pid")
}

fn open_directory(at: impl AsFd, path: &Path) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(at, path, flags, Mode::empty())
}

fn entries(directory: &OwnedFd, path: &Path) -> Result<Vec<String>> {
    let unreadable = |errno: Errno| ContainerError::file("cannot read", path)(errno.into());
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut listing = Dir::openat(directory, ".", flags, Mode::empty()).map_err(unreadable)?;
    let mut names = Vec::new();
    for entry in listing.iter() {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The names in a directory, which, with all that is in it, is root's alone to write.
fn inspect(directory: &OwnedFd, path: &Path) -> Result<Vec<String>> {
    inspect_some(directory, path, |_| true)
}

/// The same, where of what is in it only files with some names matter.
fn inspect_some(directory: &OwnedFd, path: &Path, matters: fn(&str) -> bool) -> Result<Vec<String>> {
    let own = nix::unistd::geteuid().as_raw();
    let refuse = |what: &Path, why: &str| {
        Err(ContainerError::Other(format!(
            "{} {why}: images of a checkpoint are not used that others than root could have written",
            what.display()
        )))
    };
    let metadata = File::from(
        directory
            .try_clone()
            .map_err(ContainerError::file("cannot keep", path))?,
    )
    .metadata()
    .map_err(ContainerError::file("cannot look at", path))?;
    if metadata.uid() != own {
        return refuse(path, "belongs to another user");
    }
    if metadata.mode() & 0o022 != 0 {
        return refuse(path, "may be written by others; chmod go-w if nobody has");
    }
    let names = entries(directory, path)?;
    for name in names.iter().filter(|name| matters(name)) {
        let place = path.join(name);
        let stat =
            nix::sys::stat::fstatat(directory, name.as_str(), nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW)
                .map_err(|errno| ContainerError::file("cannot look at", &place)(errno.into()))?;
        let kind = stat.st_mode & nix::libc::S_IFMT;
        match kind {
            nix::libc::S_IFLNK if name == PARENT => {}
            nix::libc::S_IFREG if stat.st_uid == own && stat.st_mode & 0o022 == 0 => {}
            nix::libc::S_IFREG => return refuse(&place, "may be written by others"),
            // Nothing of the image: earlier pre-dumps may be kept below.
            nix::libc::S_IFDIR if name != PARENT => {}
            _ => return refuse(&place, "is no file"),
        }
    }
    Ok(names)
}

/// Holds an image and those it builds on against their lists. The inner error says why it is no image of this host.
fn check(
    directory: &OwnedFd,
    path: &Path,
    entries: &[String],
    depth: usize,
) -> Result<std::result::Result<Claims, String>> {
    let Some(bytes) = read_small(directory, LIST).map_err(ContainerError::file("cannot read", path))? else {
        return Ok(Err(format!("{path:?} has no list that gabion checkpoint wrote")));
    };
    let Some(key) = read_key()? else {
        return Ok(Err(
            "this host has no key for checkpoints: none was made on it".to_owned()
        ));
    };
    let Some(claims) = authentic(&key, &bytes) else {
        return Ok(Err(format!(
            "the list in {path:?} was not written by gabion on this host, or was changed"
        )));
    };
    for name in entries.iter().filter(|name| is_image(name)) {
        let is_as_written = match claims.files.get(name) {
            Some(digest) => *digest == self::digest(directory, path, name)?,
            None => false,
        };
        if !is_as_written {
            return Ok(Err(format!(
                "{:?} is not what gabion checkpoint wrote",
                path.join(name)
            )));
        }
    }
    if let Some(name) = claims.files.keys().find(|name| !entries.contains(name)) {
        return Ok(Err(format!("{:?} is missing", path.join(name))));
    }
    if entries.iter().any(|name| name == PARENT) {
        if depth == 0 {
            return Err(ContainerError::Other(format!(
                "{path:?} builds on more than {DEEPEST} pre-dumps"
            )));
        }
        let place = path.join(PARENT);
        let parent = open_directory(directory, Path::new(PARENT))
            .map_err(|errno| ContainerError::file("cannot open", &place)(errno.into()))?;
        let entries = inspect(&parent, &place)?;
        if let Err(why) = check(&parent, &place, &entries, depth - 1)? {
            return Ok(Err(why));
        }
    }
    Ok(Ok(claims))
}

/// The list's text, if its code was made with this key.
fn authentic(key: &[u8; KEY_SIZE], bytes: &[u8]) -> Option<Claims> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let (code_text, text) = (&bytes[..end], &bytes[end + 1..]);
    // Compared in constant time.
    code(key, text).verify_slice(&unhex(code_text)?).ok()?;
    serde_json::from_slice(text).ok()
}

fn code(key: &[u8; KEY_SIZE], text: &[u8]) -> Hmac<Sha256> {
    let mut code = <Hmac<Sha256> as Mac>::new(key.into());
    code.update(b"gabion checkpoint 1\n");
    code.update(text);
    code
}

/// What can be known of an image that another runtime, or another host, made: the streams that it names.
fn foreign_claims(directory: &OwnedFd) -> Claims {
    let mut claims = Claims::default();
    if let Ok(Some(bytes)) = read_small(directory, LIST)
        && let Some(end) = bytes.iter().position(|&byte| byte == b'\n')
        && let Ok(list) = serde_json::from_slice::<Claims>(&bytes[end + 1..])
    {
        claims.streams = list.streams;
        claims.pre_dump = list.pre_dump;
    } else if let Ok(Some(bytes)) = read_small(directory, DESCRIPTORS)
        && let Ok(links) = serde_json::from_slice::<Vec<String>>(&bytes)
    {
        let pipe = |link: String| link.starts_with("pipe:[").then_some(link);
        claims.streams = links.into_iter().map(pipe).collect();
    }
    claims.streams.truncate(3);
    claims
}

fn open_file(directory: &OwnedFd, name: &str) -> nix::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let name = CString::new(OsStr::new(name).as_bytes()).map_err(|_| Errno::EINVAL)?;
    openat(directory, name.as_c_str(), flags, Mode::empty()).map(File::from)
}

/// `None` if there is no such file.
fn read_small(directory: &OwnedFd, name: &str) -> std::io::Result<Option<Vec<u8>>> {
    let file = match open_file(directory, name) {
        Ok(file) => file,
        Err(Errno::ENOENT) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn digest(directory: &OwnedFd, path: &Path, name: &str) -> Result<String> {
    let unreadable = |error: std::io::Error| ContainerError::file("cannot read", path.join(name))(error);
    let mut file = open_file(directory, name).map_err(|errno| unreadable(errno.into()))?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => digest.update(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(error)),
        }
    }
    Ok(hex(&digest.finalize()))
}

/// The host's key, if it has one.
///
/// # Errors
/// If it cannot be read, or others than root could.
fn read_key() -> Result<Option<[u8; KEY_SIZE]>> {
    let mut file = match OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(KEY)
    {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ContainerError::file("cannot open", KEY)(error)),
    };
    let metadata = file
        .metadata()
        .map_err(ContainerError::file("cannot look at", KEY))?;
    let mut key = [0; KEY_SIZE];
    let unusable = |why: &str| {
        Err(ContainerError::Other(format!(
            "{KEY} {why}. Remove it: a new one is made, and images that were made before count as foreign"
        )))
    };
    if metadata.uid() != nix::unistd::geteuid().as_raw() || metadata.mode() & 0o077 != 0 {
        return unusable("may be read or written by others");
    }
    if file.read_exact(&mut key).is_err() || metadata.len() != KEY_SIZE as u64 {
        return unusable("is no key");
    }
    Ok(Some(key))
}

/// The host's key; made if there is none.
fn make_key() -> Result<[u8; KEY_SIZE]> {
    if let Some(key) = read_key()? {
        return Ok(key);
    }
    let directory = Path::new(KEY).parent().unwrap_or(Path::new("/"));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(ContainerError::file("cannot make", directory))?;
    let mut key = [0; KEY_SIZE];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut key))
        .map_err(ContainerError::file("cannot read", "/dev/urandom"))?;
    // Of two that make one at the same time, the first counts: a link is made only where there is nothing.
    let draft = PathBuf::from(format!("{KEY}.{}", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(&draft)
        .and_then(|mut file| file.write_all(&key).and_then(|()| file.sync_all()))
        .and_then(|()| match fs::hard_link(&draft, KEY) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        });
    drop(fs::remove_file(&draft));
    written.map_err(ContainerError::file("cannot write", KEY))?;
    read_key()?.ok_or_else(|| ContainerError::Other(format!("{KEY} was removed just now")))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(digits).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn image() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for name in ["inventory.img", "pages-1.img"] {
            write(directory.path(), name, name);
        }
        directory
    }

    fn write(directory: &Path, name: &str, text: &str) {
        fs::write(directory.join(name), text).unwrap();
        fs::set_permissions(directory.join(name), Permissions::from_mode(0o600)).unwrap();
    }

    #[test]
    fn a_list_holds_with_its_key_and_its_text_alone() {
        let (key, other) = ([7; KEY_SIZE], [8; KEY_SIZE]);
        let text = serde_json::to_vec(&Claims::default()).unwrap();
        let mut bytes = hex(&code(&key, &text).finalize().into_bytes()).into_bytes();
        bytes.push(b'\n');
        bytes.extend(&text);
        assert!(authentic(&key, &bytes).is_some());
        assert!(authentic(&other, &bytes).is_none());
        let changed = String::from_utf8(bytes).unwrap().replace("false", "true");
        assert!(authentic(&key, changed.as_bytes()).is_none());
        assert!(authentic(&key, b"00\n{}").is_none());
        assert!(authentic(&key, b"").is_none());
    }

    #[test]
    fn an_image_without_a_list_is_foreign() {
        let directory = image();
        let images = Images::open(directory.path()).unwrap();
        assert!(images.foreign().unwrap().contains("has no list"));
        write(
            directory.path(),
            DESCRIPTORS,
            r#"["/dev/null","pipe:[5]","pipe:[6]"]"#,
        );
        let images = Images::open(directory.path()).unwrap();
        let streams = &images.claims().streams;
        assert_eq!(
            streams,
            &[None, Some("pipe:[5]".to_owned()), Some("pipe:[6]".to_owned())]
        );
    }

    #[test]
    fn a_directory_that_others_may_write_or_with_links_is_not_read() {
        let refused = |spoil: &dyn Fn(&Path), why: &str| {
            let directory = image();
            spoil(directory.path());
            let error = Images::open(directory.path()).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        refused(&|path| mode(path, 0o777), "may be written by others");
        refused(&|path| mode(path, 0o770), "may be written by others");
        refused(
            &|path| mode(&path.join("pages-1.img"), 0o666),
            "pages-1.img may be written",
        );
        refused(
            &|path| symlink("/etc/passwd", path.join("restore.log")).unwrap(),
            "restore.log is no file",
        );
        refused(
            &|path| symlink("/dev/zero", path.join("core-1.img")).unwrap(),
            "core-1.img is no file",
        );
        refused(
            &|path| nix::unistd::mkfifo(&path.join("core-1.img"), Mode::from_bits_truncate(0o600)).unwrap(),
            "core-1.img is no file",
        );
        if nix::unistd::geteuid().is_root() {
            let other = nix::unistd::Uid::from_raw(1000);
            refused(
                &|path| nix::unistd::chown(path, Some(other), None).unwrap(),
                "belongs to another user",
            );
        }
    }

    #[test]
    fn an_empty_directory_and_none_are_no_images() {
        let directory = tempfile::tempdir().unwrap();
        let error = Images::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("holds no image of a checkpoint"), "{error}");
        let error = Images::open(&directory.path().join("not"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("does not exist"), "{error}");
    }

    #[test]
    fn an_engines_directory_takes_the_log_unless_others_have_a_hand_in_what_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str| directory.path().join(name);
        let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        mode(directory.path(), 0o700);
        // As podman's: a terminal's socket, a pipe to conmon, files of its own.
        symlink("/run/elsewhere", place("attach")).unwrap();
        nix::unistd::mkfifo(&place("ctl"), Mode::from_bits_truncate(0o666)).unwrap();
        write(directory.path(), "config.json", "");
        working(directory.path()).unwrap();
        assert!(writable(directory.path()).is_err());
        let refused = |words: &str| {
            let error = working(directory.path()).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        // CRIU would follow it.
        symlink("/etc/passwd", place("dump.log")).unwrap();
        refused("dump.log is no file");
        fs::remove_file(place("dump.log")).unwrap();
        write(directory.path(), "stats-dump", "");
        mode(&place("stats-dump"), 0o666);
        refused("stats-dump may be written by others");
        mode(&place("stats-dump"), 0o600);
        working(directory.path()).unwrap();
        mode(directory.path(), 0o722);
        refused("may be written by others");
    }

    #[test]
    fn what_a_failed_checkpoint_wrote_is_removed_and_nothing_else() {
        let directory = image();
        let open = writable(directory.path()).unwrap();
        let before = names(&open, directory.path()).unwrap();
        write(directory.path(), "core-1.img", "");
        write(directory.path(), "dump.log", "");
        remove_but(&open, directory.path(), &before);
        assert_eq!(names(&open, directory.path()).unwrap(), before);
        assert!(directory.path().join("dump.log").exists());
    }
}
