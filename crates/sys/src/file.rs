//! Opening files in places that someone else may write to.
//!
//! A path is only a wish. These functions give descriptors, opened with `O_PATH` first: that finds a file
//! without opening it, so a FIFO does not block, a tape does not rewind and a socket does not answer. Look at
//! the descriptor with fstat(2), and [`reopen`] what is to be read.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, fstat};

use crate::error::{CallError, Result, check};

/// `openat2(2)` answers `EAGAIN` when something was renamed or mounted during a lookup that has to stay in a
/// root. Each try needs another rename in a window of microseconds, so this bound is met only by someone who
/// tries to.
const TRIES: usize = 64;

/// Finds a path as a process whose root directory is `root` would, without opening the file (`O_PATH`).
///
/// Absolute links and `..` stay in the root; magic links of procfs are refused; a final link is followed.
///
/// # Errors
/// `ENOENT`, `ENOTDIR`, `EACCES` as in open(2); `ELOOP` for a magic link or more than 40 links; `EAGAIN` if
/// directories are being moved all the time; `ENOSYS` before Linux 5.6.
pub fn find_in_root(root: impl AsFd, path: &Path) -> Result<OwnedFd> {
    let flags = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    resolve(root.as_fd(), path, OFlag::O_PATH, flags).map_err(|errno| {
        CallError::new(
            format!(
                "openat2([{}], {path:?}, O_PATH, IN_ROOT|NO_MAGICLINKS)",
                root.as_fd().as_raw_fd()
            ),
            errno,
        )
    })
}

/// As [`find_in_root`], but a link anywhere in the path is refused.
///
/// The answer is a bare errno: it is asked for in numbers, and most often answered with `ENOENT`.
///
/// # Errors
/// As [`find_in_root`]; `ELOOP` for any link.
pub fn find_without_links(root: impl AsFd, path: &Path) -> nix::Result<OwnedFd> {
    let flags = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS;
    resolve(root.as_fd(), path, OFlag::O_PATH, flags)
}

fn resolve(root: BorrowedFd<'_>, path: &Path, flags: OFlag, resolve: ResolveFlag) -> nix::Result<OwnedFd> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
    for _ in 1..TRIES {
        match openat2(root, path, how) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            other => return other,
        }
    }
    openat2(root, path, how)
}

/// Opens for reading what a descriptor opened with `O_PATH` refers to, through /proc/self/fd.
///
/// # Errors
/// `ENOENT` if /proc is not mounted; `ESTALE` if what is mounted there is no procfs that tells the truth: the
/// file that was opened is not the one asked for. Otherwise as open(2).
pub fn reopen(file: impl AsFd) -> Result<File> {
    let number = file.as_fd().as_raw_fd();
    let call = || format!("open(\"/proc/self/fd/{number}\", O_RDONLY)");
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let again = openat(
        nix::fcntl::AT_FDCWD,
        format!("/proc/self/fd/{number}").as_str(),
        flags,
        Mode::empty(),
    )
    .map_err(|errno| CallError::new(call(), errno))?;
    let identity = |stat: nix::sys::stat::FileStat| (stat.st_dev, stat.st_ino);
    let wanted = fstat(&file).map_err(|errno| CallError::new(call(), errno))?;
    let found = fstat(&again).map_err(|errno| CallError::new(call(), errno))?;
    if identity(wanted) != identity(found) {
        return Err(CallError::new(call(), Errno::ESTALE));
    }
    Ok(File::from(again))
}

/// True if a descriptor of this process would stay open across execve(2): close-on-exec is not set.
///
/// It takes a number, since it is asked of descriptors that nobody here owns: those the process came with.
///
/// # Errors
/// `EBADF` if no such descriptor is open.
pub fn survives_exec(number: i32) -> Result<bool> {
    // SAFETY: F_GETFD takes no argument and touches no memory. Any number is allowed: of one that is not open,
    // or belongs to someone else, it reads a flag or answers EBADF, and changes nothing.
    let outcome = unsafe { libc::fcntl(number, libc::F_GETFD) };
    let flags = check(outcome.into(), || format!("fcntl({number}, F_GETFD)"))?;
    Ok(flags & libc::c_long::from(libc::FD_CLOEXEC) == 0)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    fn temporary_root() -> (tempfile::TempDir, File) {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join("etc/name"), "inside").unwrap();
        symlink("/etc/name", root.path().join("absolute")).unwrap();
        symlink("../../../../etc/name", root.path().join("etc/climbing")).unwrap();
        symlink("/proc/self/root", root.path().join("magic")).unwrap();
        let descriptor = File::open(root.path()).unwrap();
        (root, descriptor)
    }

    #[test]
    fn links_that_would_leave_the_root_stay_in_it() {
        let (_root, descriptor) = temporary_root();
        for path in ["/etc/name", "absolute", "etc/climbing", "../etc/name"] {
            let found = find_in_root(&descriptor, Path::new(path)).unwrap();
            let mut text = String::new();
            reopen(&found).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "inside", "{path}");
        }
    }

    #[test]
    fn a_link_is_refused_where_links_are_not_wanted() {
        let (_root, descriptor) = temporary_root();
        assert_eq!(
            find_without_links(&descriptor, Path::new("absolute")).unwrap_err(),
            Errno::ELOOP
        );
        assert!(find_without_links(&descriptor, Path::new("/etc/name")).is_ok());
        assert_eq!(
            find_without_links(&descriptor, Path::new("/etc/none")).unwrap_err(),
            Errno::ENOENT
        );
    }

    #[test]
    fn what_rust_opens_does_not_survive_execve() {
        let file = File::open("/proc/self/status").unwrap();
        assert!(!survives_exec(file.as_raw_fd()).unwrap());
        let kept = nix::unistd::dup(&file).unwrap();
        assert!(survives_exec(kept.as_raw_fd()).unwrap());
        assert_eq!(survives_exec(-1).unwrap_err().errno, Errno::EBADF);
    }

    #[test]
    fn magic_links_are_refused() {
        let proc = File::open("/proc").unwrap();
        let error = find_in_root(&proc, Path::new("self/root")).unwrap_err();
        assert_eq!(error.errno, Errno::ELOOP);
        assert!(error.to_string().contains("\"self/root\""), "{error}");
    }
}
