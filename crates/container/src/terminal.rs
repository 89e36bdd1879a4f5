//! A terminal for a container in the foreground: the caller's own terminal, made raw, and the master side of the
//! container's.

use std::fs;
use std::io::{IoSliceMut, IsTerminal, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::sys::termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::error::{ContainerError, Result};

/// Where the init process delivers the master side of its terminal.
#[derive(Debug)]
pub(crate) struct Console {
    directory: PathBuf,
    listener: UnixListener,
}

impl Console {
    /// Makes a socket that only the owner of `root` can reach.
    pub(crate) fn new(root: &Path) -> Result<Self> {
        let directory = root.join(format!("~console.{}", std::process::id()));
        fs::create_dir(&directory).map_err(ContainerError::file("cannot make", &directory))?;
        // A socket's name has at most 108 bytes; the state directory may be deeper.
        let handle = fs::File::open(&directory).map_err(ContainerError::file("cannot open", &directory))?;
        let short = format!("/proc/self/fd/{}/console.sock", handle.as_raw_fd());
        match UnixListener::bind(&short) {
            Ok(listener) => Ok(Console { directory, listener }),
            Err(error) => {
                fs::remove_dir_all(&directory).map_err(ContainerError::file("cannot remove", &directory))?;
                Err(ContainerError::file(
                    "cannot bind",
                    directory.join("console.sock"),
                )(error))
            }
        }
    }

    /// The socket's path, for the builder.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.join("console.sock")
    }

    /// Takes the master side, which the init process has sent by the time the container is created.
    pub(crate) fn receive(&self) -> Result<OwnedFd> {
        let (socket, _) = self
            .listener
            .accept()
            .map_err(ContainerError::file("cannot accept on", self.path()))?;
        let mut bytes = [0; 128];
        let mut space = cmsg_space!([i32; 1]);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let message = recvmsg::<()>(
            socket.as_raw_fd(),
            &mut parts,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        )
        .map_err(ContainerError::call("recvmsg(console socket)"))?;
        let controls = message
            .cmsgs()
            .map_err(ContainerError::call("recvmsg(console socket)"))?;
        for control in controls {
            if let ControlMessageOwned::ScmRights(descriptors) = control
                && let [descriptor] = descriptors[..]
            {
                return Ok(gabion_sys::process::inherited(descriptor)?);
            }
        }
        Err(ContainerError::Other("the container sent no terminal".to_owned()))
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            tracing::warn!(%error, directory = ?self.directory, "cannot remove the console socket");
        }
    }
}

/// True if what a container writes to its terminal goes to a pipe or a file of the caller's.
pub(crate) fn wants_plain_lines() -> bool {
    !std::io::stdout().is_terminal()
}

/// Has a container's terminal end its lines with a line feed alone.
///
/// A terminal writes carriage returns for the device behind it. In a pipe or a file nobody wants any; runc has none
/// there either.
pub(crate) fn end_lines_plainly(terminal: impl AsFd) -> Result<()> {
    let mut settings = tcgetattr(&terminal).map_err(ContainerError::call("tcgetattr(terminal)"))?;
    settings.output_flags.remove(OutputFlags::ONLCR);
    tcsetattr(&terminal, SetArg::TCSANOW, &settings).map_err(ContainerError::call("tcsetattr(terminal)"))
}

/// Carries bytes between the caller's standard streams and a container's terminal.
#[derive(Debug)]
pub(crate) struct Relay {
    master: fs::File,
    /// What the caller typed and the container has not taken yet.
    pending: Vec<u8>,
    input_ended: bool,
    output_ended: bool,
    _raw: Option<Raw>,
}

/// The caller's terminal in raw mode; as before when dropped.
#[derive(Debug)]
struct Raw {
    before: Termios,
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Err(errno) = tcsetattr(std::io::stdin(), SetArg::TCSANOW, &self.before) {
            tracing::warn!(%errno, "the terminal could not be set back");
        }
    }
}

impl Relay {
    /// Begins: the caller's terminal, if standard input is one, becomes raw, and the container's gets its size.
    pub(crate) fn new(master: OwnedFd) -> Result<Self> {
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK))
            .map_err(ContainerError::call("fcntl(terminal, O_NONBLOCK)"))?;
        if wants_plain_lines() {
            end_lines_plainly(&master)?;
        }
        let raw = match tcgetattr(std::io::stdin()) {
            Ok(before) => {
                let mut raw = before.clone();
                cfmakeraw(&mut raw);
                tcsetattr(std::io::stdin(), SetArg::TCSANOW, &raw)
                    .map_err(ContainerError::call("tcsetattr(stdin)"))?;
                Some(Raw { before })
            }
            // Input from a file or a pipe is carried as it is.
            Err(_) => None,
        };
        let relay = Relay {
            master: fs::File::from(master),
            pending: Vec::new(),
            input_ended: false,
            output_ended: false,
            _raw: raw,
        };
        relay.resize();
        Ok(relay)
    }

    /// Gives the container's terminal the size of the caller's.
    pub(crate) fn resize(&self) {
        if let Err(error) = gabion_sys::terminal::copy_size(std::io::stdin(), &self.master) {
            tracing::debug!(%error, "the terminal's size was not carried over");
        }
    }

    /// True if the caller's input is wanted now.
    pub(crate) fn wants_input(&self) -> bool {
        !self.input_ended && self.pending.is_empty()
    }

    /// True if there is something to be written to the container.
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// True if the container may still write.
    pub(crate) fn wants_output(&self) -> bool {
        !self.output_ended
    }

    /// The master side.
    pub(crate) fn master(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }

    /// Reads what the caller typed.
    pub(crate) fn take_input(&mut self) -> Result<()> {
        let mut buffer = [0; 16 * 1024];
        match nix::unistd::read(std::io::stdin(), &mut buffer) {
            Ok(0) | Err(Errno::EIO) => self.input_ended = true,
            Ok(count) => self.pending.extend_from_slice(&buffer[..count]),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(errno) => return Err(ContainerError::call("read(stdin)")(errno)),
        }
        Ok(())
    }

    /// Writes what is pending, as much as the container takes.
    pub(crate) fn give_input(&mut self) -> Result<()> {
        match self.master.write(&self.pending) {
            Ok(count) => {
                self.pending.drain(..count);
                Ok(())
            }
            Err(error) if matches!(error.raw_os_error(), Some(nix::libc::EAGAIN | nix::libc::EINTR)) => {
                Ok(())
            }
            // Nobody has the other side open any more.
            Err(error) if error.raw_os_error() == Some(nix::libc::EIO) => {
                self.pending.clear();
                self.input_ended = true;
                Ok(())
            }
            Err(error) => Err(ContainerError::file(
                "cannot write to",
                "the container's terminal",
            )(error)),
        }
    }

    /// Carries what the container wrote to standard output, until there is no more at the moment.
    pub(crate) fn carry_output(&mut self) -> Result<()> {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.master.read(&mut buffer) {
                Ok(0) => self.output_ended = true,
                Ok(count) => {
                    let mut output = std::io::stdout();
                    output
                        .write_all(&buffer[..count])
                        .and_then(|()| output.flush())
                        .map_err(ContainerError::file("cannot write to", "standard output"))?;
                    continue;
                }
                Err(error) if error.raw_os_error() == Some(nix::libc::EINTR) => continue,
                Err(error) if error.raw_os_error() == Some(nix::libc::EAGAIN) => {}
                // The other side was closed for the last time (pty(7)).
                Err(error) if error.raw_os_error() == Some(nix::libc::EIO) => self.output_ended = true,
                Err(error) => {
                    return Err(ContainerError::file(
                        "cannot read from",
                        "the container's terminal",
                    )(error));
                }
            }
            return Ok(());
        }
    }
}
