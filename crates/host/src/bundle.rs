//! Reading config.json, once.
//!
//! What was judged must be what is built, so the file is opened one time, by descriptor, and its bytes are all
//! that anyone sees afterwards. An engine's bundle directory is its own, but `gabion check` may be pointed at a
//! stranger's: a FIFO there must not hang us, a device must not be opened at all, and a link must not make us
//! read (and quote in an error) a file that its owner could not read.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use gabion_baseline::allegation::MAX_CONFIG_BYTES;
use gabion_baseline::facts::FileKind;
use gabion_sys::file::reopen;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open, openat};
use nix::sys::stat::{Mode, fstat};

use crate::text::read_from;
use crate::walk::Meta;

/// A bundle's configuration as it was read, and the directory it came from.
#[derive(Debug)]
#[must_use]
pub struct BundleFile {
    /// The bundle's directory as it was named, made absolute.
    pub path: PathBuf,
    /// The same directory, held open (`O_PATH`).
    pub directory: OwnedFd,
    /// The bytes of config.json.
    pub config: Vec<u8>,
}

/// Why there is no configuration. Each says what to do.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum BundleError {
    #[error("the bundle directory {path:?} does not exist. Name one with --bundle")]
    NoBundle { path: PathBuf },
    #[error("the bundle {path:?} is not a directory. --bundle takes the directory that holds config.json")]
    NotADirectory { path: PathBuf },
    #[error(
        "{path:?} does not exist. An OCI bundle needs one (runtime-spec, bundle.md); `gabion spec` writes a first one"
    )]
    NoConfig { path: PathBuf },
    #[error("{path:?} is a symbolic link, which could lead anywhere. Put the file itself there")]
    Link { path: PathBuf },
    #[error("{path:?} is {what}, not a regular file. Put a JSON file there")]
    NotRegular { path: PathBuf, what: &'static str },
    #[error(
        "{path:?} is {size} bytes; at most {MAX_CONFIG_BYTES} are read. Take out what the container does not need"
    )]
    TooLarge { path: PathBuf, size: u64 },
    #[error(
        "{path:?} grew beyond {MAX_CONFIG_BYTES} bytes while it was being read. Try again when nobody writes to it"
    )]
    Growing { path: PathBuf },
    #[error("cannot read {path:?}: {what}")]
    Unreadable { path: PathBuf, what: String },
}

/// Opens a bundle and reads its config.json. Links on the way to the bundle are followed, the last component's
/// too; config.json itself must be a regular file.
///
/// # Errors
/// [`BundleError`]: what is missing, or what is there instead.
pub fn read(bundle: &Path) -> Result<BundleFile, BundleError> {
    let path = std::path::absolute(bundle).map_err(|error| unreadable(bundle, error))?;
    let directory = open(
        &path,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    );
    let directory = directory.map_err(|errno| match errno {
        Errno::ENOENT => BundleError::NoBundle { path: path.clone() },
        Errno::ENOTDIR => BundleError::NotADirectory { path: path.clone() },
        errno => unreadable(&path, errno.desc()),
    })?;
    let config = regular(
        directory.as_fd(),
        Path::new("config.json"),
        OFlag::O_NOFOLLOW,
        &path.join("config.json"),
    )?;
    Ok(BundleFile {
        path,
        directory,
        config,
    })
}

/// Reads a configuration that a person named: a path, whose links they may be trusted to mean, or `-` for
/// standard input.
///
/// # Errors
/// As [`read`].
pub fn read_config(path: &Path) -> Result<Vec<u8>, BundleError> {
    if path == Path::new("-") {
        return bounded(io::stdin().lock(), Path::new("standard input"));
    }
    regular(AT_FDCWD, path, OFlag::empty(), path)
}

/// Finds a file without opening it, makes sure that it is a regular one, and reads it.
fn regular(
    directory: BorrowedFd<'_>,
    name: &Path,
    nofollow: OFlag,
    path: &Path,
) -> Result<Vec<u8>, BundleError> {
    let found = openat(
        directory,
        name,
        OFlag::O_PATH | OFlag::O_CLOEXEC | nofollow,
        Mode::empty(),
    );
    let found = found.map_err(|errno| match errno {
        Errno::ENOENT | Errno::ENOTDIR => BundleError::NoConfig {
            path: path.to_path_buf(),
        },
        errno => unreadable(path, errno.desc()),
    })?;
    let stat = fstat(&found).map_err(|errno| unreadable(path, errno.desc()))?;
    let what = match Meta::of(&stat).kind() {
        FileKind::Regular => {
            let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
            if size > MAX_CONFIG_BYTES as u64 {
                return Err(BundleError::TooLarge {
                    path: path.to_path_buf(),
                    size,
                });
            }
            let file: File = reopen(&found).map_err(|error| unreadable(path, error))?;
            return bounded(file, path);
        }
        FileKind::Symlink => {
            return Err(BundleError::Link {
                path: path.to_path_buf(),
            });
        }
        FileKind::Directory => "a directory",
        FileKind::Socket => "a socket",
        FileKind::Fifo => "a FIFO",
        FileKind::CharDevice { .. } | FileKind::BlockDevice { .. } => "a device node",
    };
    Err(BundleError::NotRegular {
        path: path.to_path_buf(),
        what,
    })
}

/// Reads to the end, which must come before the bound: a file can grow after it was measured.
fn bounded(file: impl io::Read, path: &Path) -> Result<Vec<u8>, BundleError> {
    let mut bytes = Vec::with_capacity(16 * 1024);
    match read_from(file, MAX_CONFIG_BYTES, &mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(BundleError::Growing {
            path: path.to_path_buf(),
        }),
        Err(error) => Err(unreadable(path, error)),
    }
}

fn unreadable(path: &Path, what: impl ToString) -> BundleError {
    BundleError::Unreadable {
        path: path.to_path_buf(),
        what: what.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use nix::sys::stat::{SFlag, makedev, mknod};

    use super::*;
    use crate::testing::needs_root;

    fn bundle() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn refused(path: &Path) -> String {
        read(path).unwrap_err().to_string()
    }

    #[test]
    fn a_bundle_is_read_with_its_directory_held() {
        let bundle = bundle();
        fs::write(bundle.path().join("config.json"), "{}").unwrap();
        let file = read(bundle.path()).unwrap();
        assert_eq!(file.config, b"{}");
        assert_eq!(file.path, bundle.path());
        fs::rename(bundle.path().join("config.json"), bundle.path().join("moved")).unwrap();
        assert!(gabion_sys::file::find_in_root(&file.directory, Path::new("moved")).is_ok());
        // A link to the bundle is the caller's choice.
        fs::rename(bundle.path().join("moved"), bundle.path().join("config.json")).unwrap();
        let link = bundle.path().join("link");
        symlink(bundle.path(), &link).unwrap();
        assert_eq!(read(&link).unwrap().path, link);
    }

    #[test]
    fn what_is_missing_is_said_with_the_way_out() {
        let bundle = bundle();
        let none = bundle.path().join("none");
        assert_eq!(
            refused(&none),
            format!("the bundle directory {none:?} does not exist. Name one with --bundle")
        );
        let file = bundle.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(
            refused(&file).contains("is not a directory. --bundle takes the directory"),
            "{}",
            refused(&file)
        );
        let config = bundle.path().join("config.json");
        assert!(refused(bundle.path()).starts_with(&format!("{config:?} does not exist.")));
    }

    #[test]
    fn a_symlink_in_place_of_config_json_is_refused_wherever_it_leads() {
        for target in ["/etc/passwd", "real.json", "none"] {
            let bundle = bundle();
            fs::write(bundle.path().join("real.json"), "{}").unwrap();
            let config = bundle.path().join("config.json");
            symlink(target, &config).unwrap();
            assert_eq!(
                refused(bundle.path()),
                format!(
                    "{config:?} is a symbolic link, which could lead anywhere. Put the file itself there"
                )
            );
        }
    }

    #[test]
    fn a_fifo_a_socket_and_a_directory_are_refused_at_once() {
        let bundle = bundle();
        let config = bundle.path().join("config.json");
        let said = |what: &str| format!("{config:?} is {what}, not a regular file. Put a JSON file there");
        nix::unistd::mkfifo(&config, Mode::S_IRWXU).unwrap();
        let start = std::time::Instant::now();
        assert_eq!(refused(bundle.path()), said("a FIFO"));
        assert!(read_config(&config).is_err());
        assert!(start.elapsed() < std::time::Duration::from_secs(1));
        fs::remove_file(&config).unwrap();
        let _listener = UnixListener::bind(&config).unwrap();
        assert_eq!(refused(bundle.path()), said("a socket"));
        fs::remove_file(&config).unwrap();
        fs::create_dir(&config).unwrap();
        assert_eq!(refused(bundle.path()), said("a directory"));
    }

    #[test]
    fn a_device_is_refused_without_being_opened() {
        needs_root!();
        let bundle = bundle();
        let config = bundle.path().join("config.json");
        // Opening this one would answer ENXIO; that we say what it is shows that it was not opened.
        mknod(&config, SFlag::S_IFCHR, Mode::S_IRWXU, makedev(511, 77)).unwrap();
        assert!(refused(bundle.path()).contains("is a device node, not a regular file"));
        fs::remove_file(&config).unwrap();
        // Control: an endless one.
        mknod(&config, SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 5)).unwrap();
        assert!(refused(bundle.path()).contains("is a device node"));
    }

    #[test]
    fn a_file_of_100_mib_is_refused_by_its_size_and_one_at_the_bound_is_read() {
        let bundle = bundle();
        let config = bundle.path().join("config.json");
        let file = File::create(&config).unwrap();
        file.set_len(100 * 1024 * 1024).unwrap();
        assert!(refused(bundle.path()).contains("is 104857600 bytes; at most 4194304 are read."));
        file.set_len(MAX_CONFIG_BYTES as u64).unwrap();
        assert_eq!(read(bundle.path()).unwrap().config.len(), MAX_CONFIG_BYTES);
        file.set_len(MAX_CONFIG_BYTES as u64 + 1).unwrap();
        assert!(matches!(read(bundle.path()), Err(BundleError::TooLarge { .. })));
    }

    #[test]
    fn a_file_whose_size_says_nothing_is_bounded_while_it_is_read() {
        let endless = bounded(io::repeat(b' '), Path::new("x")).unwrap_err();
        assert!(matches!(endless, BundleError::Growing { .. }));
    }

    #[test]
    fn a_person_may_name_a_link() {
        let bundle = bundle();
        fs::write(bundle.path().join("real.json"), "{ }").unwrap();
        symlink("real.json", bundle.path().join("link.json")).unwrap();
        assert_eq!(read_config(&bundle.path().join("link.json")).unwrap(), b"{ }");
        assert!(matches!(
            read_config(Path::new("/nowhere.json")),
            Err(BundleError::NoConfig { .. })
        ));
    }

    #[test]
    fn a_link_swapped_in_while_reading_is_never_followed() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let bundle = bundle();
        let top = bundle.path();
        fs::write(top.join("config.json"), "honest").unwrap();
        fs::write(top.join("secret"), "secret").unwrap();
        symlink("secret", top.join("trap")).unwrap();
        let stop = AtomicBool::new(false);
        let mut seen = [0, 0];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    nix::fcntl::renameat2(
                        AT_FDCWD,
                        &top.join("config.json"),
                        AT_FDCWD,
                        &top.join("trap"),
                        nix::fcntl::RenameFlags::RENAME_EXCHANGE,
                    )
                    .unwrap();
                }
            });
            for _ in 0..3000 {
                match read(top) {
                    Ok(file) => {
                        assert_eq!(file.config, b"honest");
                        seen[0] += 1;
                    }
                    Err(BundleError::Link { .. }) => seen[1] += 1,
                    Err(other) => panic!("{other}"),
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        println!("read {} times, refused {} times", seen[0], seen[1]);
    }
}
