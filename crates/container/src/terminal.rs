//! A container in the foreground and the caller's terminal: made raw, with the master side of the container's own; or
//! kept out of a container that has none.

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
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, pipe2};

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

/// Pipes in the place of those of the caller's standard streams that are terminals, for a container without a terminal of
/// its own.
///
/// A terminal is more than a stream: whoever has it open can type in it, change its settings, and own it; the descent
/// gives a program's streams to its user. Pipes and files of the caller's are the container's as they are.
#[derive(Debug)]
pub(crate) struct Replaced {
    streams: Vec<ReplacedStream>,
}

#[derive(Debug)]
struct ReplacedStream {
    number: i32,
    /// The caller's.
    terminal: OwnedFd,
    /// The pipe's other end.
    pipe: OwnedFd,
}

impl Replaced {
    /// Replaces them, until [`Relay::of_pipes`] or the end of this value.
    pub(crate) fn new() -> Result<Self> {
        let mut replaced = Replaced { streams: Vec::new() };
        let (input, output, error) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        for (number, stream) in [(0, input.as_fd()), (1, output.as_fd()), (2, error.as_fd())] {
            if !stream.is_terminal() {
                continue;
            }
            let terminal = stream
                .try_clone_to_owned()
                .map_err(ContainerError::file("cannot keep", "the terminal"))?;
            let (reader, writer) = pipe2(OFlag::O_CLOEXEC).map_err(ContainerError::call("pipe2()"))?;
            let (theirs, pipe) = match number {
                0 => (reader, writer),
                _ => (writer, reader),
            };
            become_standard(number, &theirs)?;
            replaced.streams.push(ReplacedStream {
                number,
                terminal,
                pipe,
            });
        }
        Ok(replaced)
    }

    /// Gives the caller its own streams back. What was written to the pipes is still in there.
    fn restore(&mut self) -> Result<Vec<ReplacedStream>> {
        let streams = std::mem::take(&mut self.streams);
        for stream in &streams {
            become_standard(stream.number, &stream.terminal)?;
        }
        Ok(streams)
    }
}

impl Drop for Replaced {
    fn drop(&mut self) {
        // Nothing was started, but there may be something to read: diagnostics, or what a hook wrote.
        let rest = Relay::of_pipes(self).and_then(|mut relay| relay.carry_output());
        if let Err(error) = rest {
            tracing::warn!(%error, "the caller's standard streams were not given back as they were");
        }
    }
}

fn become_standard(number: i32, descriptor: &OwnedFd) -> Result<()> {
    let done = match number {
        0 => dup2_stdin(descriptor),
        1 => dup2_stdout(descriptor),
        _ => dup2_stderr(descriptor),
    };
    done.map_err(ContainerError::call(format!("dup2({number})")))
}

/// Carries bytes between the caller's standard streams and a container's: its terminal, or the pipes that are there for
/// the caller's.
#[derive(Debug)]
pub(crate) struct Relay {
    /// Where the caller's input goes.
    sink: Option<fs::File>,
    /// What the caller typed and the container has not taken yet.
    pending: Vec<u8>,
    input_ended: bool,
    sources: Vec<Source>,
    is_terminal: bool,
    _raw: Option<Raw>,
}

/// Where a container's output comes from.
#[derive(Debug)]
struct Source {
    file: fs::File,
    /// It goes to standard error.
    is_error: bool,
    ended: bool,
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
        let sink = master
            .try_clone()
            .map_err(ContainerError::file("cannot keep", "the container's terminal"))?;
        let relay = Relay {
            sink: Some(fs::File::from(sink)),
            pending: Vec::new(),
            input_ended: false,
            sources: vec![Source {
                file: fs::File::from(master),
                is_error: false,
                ended: false,
            }],
            is_terminal: true,
            _raw: raw,
        };
        relay.resize();
        Ok(relay)
    }

    /// Begins with pipes: the caller has its own streams back.
    pub(crate) fn of_pipes(replaced: &mut Replaced) -> Result<Self> {
        let mut relay = Relay {
            sink: None,
            pending: Vec::new(),
            input_ended: true,
            sources: Vec::new(),
            is_terminal: false,
            _raw: None,
        };
        for stream in replaced.restore()? {
            let access = match stream.number {
                0 => OFlag::O_WRONLY,
                _ => OFlag::O_RDONLY,
            };
            fcntl(&stream.pipe, FcntlArg::F_SETFL(access | OFlag::O_NONBLOCK))
                .map_err(ContainerError::call("fcntl(pipe, O_NONBLOCK)"))?;
            let file = fs::File::from(stream.pipe);
            if stream.number == 0 {
                relay.sink = Some(file);
                relay.input_ended = false;
            } else {
                relay.sources.push(Source {
                    file,
                    is_error: stream.number == 2,
                    ended: false,
                });
            }
        }
        Ok(relay)
    }

    /// Gives the container's terminal the size of the caller's.
    pub(crate) fn resize(&self) {
        if let Some(master) = self.sink.as_ref().filter(|_| self.is_terminal)
            && let Err(error) = gabion_sys::terminal::copy_size(std::io::stdin(), master)
        {
            tracing::debug!(%error, "the terminal's size was not carried over");
        }
    }

    /// True if the caller's input is wanted now.
    pub(crate) fn wants_input(&self) -> bool {
        !self.input_ended && self.pending.is_empty()
    }

    /// Where what is pending goes, if anything is.
    pub(crate) fn sink(&self) -> Option<BorrowedFd<'_>> {
        let sink = self.sink.as_ref().filter(|_| !self.pending.is_empty());
        sink.map(|file| file.as_fd())
    }

    /// Where the container may still write.
    pub(crate) fn sources(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let open = self.sources.iter().filter(|source| !source.ended);
        open.map(|source| source.file.as_fd())
    }

    fn end_input(&mut self) {
        self.input_ended = true;
        self.pending.clear();
        if !self.is_terminal {
            // The container sees that there is no more.
            self.sink = None;
        }
    }

    /// Reads what the caller typed.
    pub(crate) fn take_input(&mut self) -> Result<()> {
        let mut buffer = [0; 16 * 1024];
        match nix::unistd::read(std::io::stdin(), &mut buffer) {
            Ok(0) | Err(Errno::EIO) => self.end_input(),
            Ok(count) => self.pending.extend_from_slice(&buffer[..count]),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(errno) => return Err(ContainerError::call("read(stdin)")(errno)),
        }
        Ok(())
    }

    /// Writes what is pending, as much as the container takes.
    pub(crate) fn give_input(&mut self) -> Result<()> {
        let Some(sink) = self.sink.as_mut().filter(|_| !self.pending.is_empty()) else {
            return Ok(());
        };
        match sink.write(&self.pending) {
            Ok(count) => {
                self.pending.drain(..count);
                Ok(())
            }
            Err(error) if matches!(error.raw_os_error(), Some(nix::libc::EAGAIN | nix::libc::EINTR)) => {
                Ok(())
            }
            // Nobody has the other side open any more.
            Err(error) if matches!(error.raw_os_error(), Some(nix::libc::EIO | nix::libc::EPIPE)) => {
                self.end_input();
                Ok(())
            }
            Err(error) => Err(ContainerError::file("cannot write to", "the container's input")(
                error,
            )),
        }
    }

    /// Carries what the container wrote, until there is no more at the moment.
    pub(crate) fn carry_output(&mut self) -> Result<()> {
        self.sources.iter_mut().try_for_each(Source::carry)
    }
}

impl Source {
    fn carry(&mut self) -> Result<()> {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.file.read(&mut buffer) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    let (mut output, name): (Box<dyn Write>, _) = match self.is_error {
                        true => (Box::new(std::io::stderr()), "standard error"),
                        false => (Box::new(std::io::stdout()), "standard output"),
                    };
                    output
                        .write_all(&buffer[..count])
                        .and_then(|()| output.flush())
                        .map_err(ContainerError::file("cannot write to", name))?;
                    continue;
                }
                Err(error) if error.raw_os_error() == Some(nix::libc::EINTR) => continue,
                Err(error) if error.raw_os_error() == Some(nix::libc::EAGAIN) => {}
                // The other side was closed for the last time (pty(7)).
                Err(error) if error.raw_os_error() == Some(nix::libc::EIO) => self.ended = true,
                Err(error) => {
                    return Err(ContainerError::file("cannot read from", "the container's output")(error));
                }
            }
            return Ok(());
        }
    }
}
