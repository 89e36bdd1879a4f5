//! A procfs that nothing in the container can have put there.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use gabion_sys::CallError;
use gabion_sys::mount::{self, attribute};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::unistd::Pid;

use crate::report::Failure;

/// The root of a procfs for this pid namespace, mounted nowhere.
///
/// Its `/proc` may be covered, bound, or absent in the container (CVE-2025-52881 wrote labels through a
/// covered one); this one is asked of the kernel and belongs to this process alone.
#[derive(Debug)]
pub struct Procfs {
    root: OwnedFd,
    /// Whose files are read.
    process: Pid,
}

/// How much of a procfs is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Processes alone.
    Processes,
    /// Kernel parameters as well.
    Whole,
}

impl Procfs {
    /// Makes one: fsopen(2) where the kernel lets us; in a user namespace whose visible procfs is masked it
    /// does not (`mount_too_revealing`), and then the container's own /proc is used after it has been
    /// established that it is the root of a procfs, with every file below it opened without crossing a mount.
    ///
    /// # Errors
    /// [`Failure::Mismatch`] with V-06 if neither is to be had: nothing could be verified.
    pub fn open(extent: Extent) -> Result<Self, Failure> {
        // Not read-only: the security label is written through it. It is never mounted anywhere.
        let attributes = attribute::NOSUID | attribute::NODEV | attribute::NOEXEC;
        let options: &[(&CStr, &CStr)] = match extent {
            Extent::Processes => &[(c"subset", c"pid")],
            Extent::Whole => &[],
        };
        match mount::detached(c"proc", &[], options, attributes) {
            Ok(root) => Ok(Procfs {
                root,
                process: nix::unistd::getpid(),
            }),
            Err(error) if error.errno == Errno::EPERM => Self::of_the_container(),
            Err(error) => Err(error.into()),
        }
    }

    fn of_the_container() -> Result<Self, Failure> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
        let root = openat2(nix::fcntl::AT_FDCWD, "/proc", how).map_err(|errno| {
            Failure::mismatch(
                "V-06",
                format!("there is no procfs to verify with: /proc: {}", errno.desc()),
            )
        })?;
        let system = nix::sys::statfs::fstatfs(&root)
            .map_err(|errno| CallError::new("fstatfs(/proc)", errno))?
            .filesystem_type();
        let place = mount::place(&root)?;
        // 1 is the inode number of a procfs' root (fs/proc/root.c).
        if system != nix::sys::statfs::PROC_SUPER_MAGIC || !place.is_mount_root || place.inode != 1 {
            return Err(Failure::mismatch(
                "V-06",
                "/proc in the container is not the root of a procfs",
            ));
        }
        Ok(Procfs {
            root,
            process: nix::unistd::getpid(),
        })
    }

    /// The same procfs, for the files of another process in its pid namespace.
    #[must_use]
    pub fn of(mut self, process: Pid) -> Self {
        self.process = process;
        self
    }

    /// Whose files are read.
    pub fn process(&self) -> Pid {
        self.process
    }

    /// Opens a file of the process, crossing neither a mount nor a symbolic link other than `self`.
    ///
    /// # Errors
    /// [`Failure::Call`]; `EXDEV` if something is mounted over it.
    pub fn open_self(&self, path: &str, flags: OFlag) -> Result<OwnedFd, Failure> {
        let full = format!("{}/{path}", self.process);
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(
            ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS,
        );
        openat2(self.root.as_fd(), full.as_str(), how)
            .map_err(|errno| CallError::new(format!("openat2(procfs, {full:?})"), errno).into())
    }

    /// Reads a small file of the process.
    ///
    /// # Errors
    /// As [`Procfs::open_self`].
    pub fn read_self(&self, path: &str) -> Result<String, Failure> {
        let bytes = read_all(&self.open_self(path, OFlag::O_RDONLY)?)
            .map_err(|errno| CallError::new(format!("read(procfs, {path:?})"), errno))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Reads a kernel parameter, by its file's path below /proc/sys; `None` if it can only be written.
    ///
    /// # Errors
    /// [`Failure::Call`], and `ENOENT` in it if there is no such parameter.
    pub fn read_parameter(&self, path: &str) -> Result<Option<String>, Failure> {
        let full = format!("sys/{path}");
        let failed = |errno| CallError::new(format!("read(procfs, {full:?})"), errno);
        // Mounts may be crossed: where the container's own procfs has to do, /proc/sys is a read-only one.
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        let file = match openat2(self.root.as_fd(), full.as_str(), how) {
            Ok(file) => file,
            // The kernel asks for the permission to read whoever is asking (proc_sys_permission).
            Err(Errno::EACCES) => return Ok(None),
            Err(errno) => return Err(failed(errno).into()),
        };
        let system = nix::sys::statfs::fstatfs(&file).map_err(failed)?;
        if system.filesystem_type() != nix::sys::statfs::PROC_SUPER_MAGIC {
            return Err(Failure::mismatch(
                "V-15",
                format!("/proc/sys/{path} is not on a procfs"),
            ));
        }
        let bytes = read_all(&file).map_err(failed)?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Opens the process' root directory, to be looked at.
    ///
    /// # Errors
    /// As [`Procfs::open_self`].
    pub fn open_root(&self) -> Result<OwnedFd, Failure> {
        let directory = self.open_self("", OFlag::O_PATH | OFlag::O_DIRECTORY)?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        nix::fcntl::openat(&directory, "root", flags, nix::sys::stat::Mode::empty())
            .map_err(|errno| CallError::new("openat(procfs, root)", errno).into())
    }

    /// Which file the process' own program is, if the kernel says.
    pub fn program(&self) -> Option<(u64, u64)> {
        let directory = self.open_self("", OFlag::O_PATH | OFlag::O_DIRECTORY).ok()?;
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let program = nix::fcntl::openat(&directory, "exe", flags, nix::sys::stat::Mode::empty()).ok()?;
        let stat = nix::sys::stat::fstat(&program).ok()?;
        Some((stat.st_dev, stat.st_ino))
    }

    /// Opens one of the process' namespaces, by its file's name in /proc/self/ns, for setns(2).
    ///
    /// # Errors
    /// As [`Procfs::open_self`].
    pub fn open_namespace(&self, file: &str) -> Result<OwnedFd, Failure> {
        let directory = self.open_self("ns", OFlag::O_PATH | OFlag::O_DIRECTORY)?;
        // A magic link, and nothing else can be there: the directory is a procfs' own.
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        nix::fcntl::openat(&directory, file, flags, nix::sys::stat::Mode::empty())
            .map_err(|errno| CallError::new(format!("openat(ns/{file})"), errno).into())
    }

    /// The inode number of one of the process' namespaces, by its file's name in /proc/self/ns.
    ///
    /// # Errors
    /// As [`Procfs::open_self`]; `None` if the kernel has no such namespace type.
    pub fn namespace(&self, file: &str) -> Result<Option<u64>, Failure> {
        let directory = self.open_self("ns", OFlag::O_PATH | OFlag::O_DIRECTORY)?;
        let link = match nix::fcntl::readlinkat(&directory, file) {
            Ok(link) => link,
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(CallError::new(format!("readlinkat(ns/{file})"), errno).into()),
        };
        // The link reads `net:[4026531840]`.
        let text = link.to_string_lossy();
        let number = text
            .split_once(":[")
            .and_then(|(_, rest)| rest.strip_suffix(']'))
            .and_then(|n| n.parse().ok());
        match number {
            Some(number) => Ok(Some(number)),
            None => Err(Failure::mismatch(
                "V-04",
                format!("namespace {file} reads {text:?}"),
            )),
        }
    }
}

fn read_all(file: &OwnedFd) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16384];
    loop {
        match nix::unistd::read(file, &mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_shows_this_process_and_nothing_below_sys() {
        if !nix::unistd::geteuid().is_root() {
            println!("SKIPPED: needs root for fsopen");
            return;
        }
        let procfs = Procfs::open(Extent::Processes).unwrap();
        assert!(procfs.read_self("status").unwrap().contains("Seccomp_filters:"));
        let link = std::fs::read_link("/proc/self/ns/net").unwrap();
        let number = procfs.namespace("net").unwrap().unwrap();
        assert_eq!(link.to_str().unwrap(), format!("net:[{number}]"));
        assert_eq!(procfs.namespace("nonsense").unwrap(), None);
    }
}
