//! Standard streams: what containerd names for a process, and the bytes between.
//!
//! A process gets pipes, or a terminal; it never gets containerd's own FIFOs, which are files of the host. The shim
//! carries the bytes. A name is a FIFO's path, or a URI: `fifo`, `file`, or `binary`, a program that logs.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long a logger may take to say that it is ready.
const LOGGER_MILLISECONDS: u16 = 10_000;

/// What containerd asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Streams {
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) terminal: bool,
}

/// Whom a logger is told that it logs for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whose<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) id: &'a str,
    /// Owner and group of the pipes.
    pub(crate) owner: Option<(u32, u32)>,
}

/// Bytes on their way from one descriptor to another. Neither end blocks.
#[derive(Debug)]
pub(crate) struct Pump {
    pub(crate) from: OwnedFd,
    pub(crate) to: OwnedFd,
    /// It goes to a FIFO, whose reader may come late, or go away and come back.
    fifo: bool,
    /// There has been a reader: it took something, or was there at the end.
    heard: bool,
    pending: Vec<u8>,
    direction: Direction,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Into the container.
    In,
    /// Out of it.
    Out,
}

/// What a pump waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Readable,
    Writable,
    /// Somebody who opens the FIFO to read from it.
    Reader,
    Done,
}

impl Pump {
    fn new(from: OwnedFd, to: OwnedFd, fifo: bool, direction: Direction) -> io::Result<Self> {
        for end in [&from, &to] {
            let flags = OFlag::from_bits_retain(fcntl(end, FcntlArg::F_GETFL)?);
            fcntl(end, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        }
        Ok(Pump {
            from,
            to,
            fifo,
            heard: false,
            pending: Vec::new(),
            direction,
        })
    }

    pub(crate) fn direction(&self) -> Direction {
        self.direction
    }

    /// True if there is output, and nobody has been there yet who could read it.
    pub(crate) fn unheard(&self) -> bool {
        self.fifo && !self.heard && !self.pending.is_empty()
    }

    /// Where the kernel tells of a reader (inotify(7)): the FIFO itself, by whatever name it has now.
    pub(crate) fn reader_opens(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.to.as_raw_fd()))
    }

    /// What follows the last byte: while nobody reads, a FIFO whose last writer goes away forgets what is in it, and
    /// whoever opens it afterwards waits for a writer for ever.
    fn ended(&mut self) -> Next {
        let mut polled = [PollFd::new(self.to.as_fd(), PollFlags::empty())];
        let alone = self.fifo
            && poll(&mut polled, PollTimeout::ZERO).is_ok()
            && polled[0]
                .revents()
                .is_some_and(|events| events.contains(PollFlags::POLLERR));
        match alone {
            true => Next::Reader,
            false => Next::Done,
        }
    }

    /// Carries what there is, for a while: others have a turn too.
    pub(crate) fn run(&mut self, buffer: &mut [u8]) -> Next {
        for _ in 0..16 {
            if !self.pending.is_empty() {
                match nix::unistd::write(&self.to, &self.pending) {
                    Ok(count) => {
                        self.heard = true;
                        match count == self.pending.len() {
                            true => self.pending = Vec::new(),
                            false => drop(self.pending.drain(..count)),
                        }
                    }
                    Err(Errno::EAGAIN) => return Next::Writable,
                    Err(Errno::EINTR) => {}
                    Err(Errno::EPIPE) if self.fifo => return Next::Reader,
                    // Nobody is there to read what was typed.
                    Err(_) if self.direction == Direction::In => return Next::Done,
                    // A full disk must not stop the container: what cannot be written is lost.
                    Err(_) => self.pending = Vec::new(),
                }
                continue;
            }
            match nix::unistd::read(&self.from, buffer) {
                Ok(0) => return self.ended(),
                Ok(count) => match nix::unistd::write(&self.to, &buffer[..count]) {
                    Ok(written) => {
                        self.heard = true;
                        self.pending.extend_from_slice(&buffer[written..count]);
                    }
                    Err(Errno::EAGAIN | Errno::EINTR) => self.pending.extend_from_slice(&buffer[..count]),
                    Err(Errno::EPIPE) if self.fifo => {
                        self.pending.extend_from_slice(&buffer[..count]);
                        return Next::Reader;
                    }
                    Err(_) if self.direction == Direction::In => return Next::Done,
                    Err(_) => {}
                },
                Err(Errno::EAGAIN) => return Next::Readable,
                Err(Errno::EINTR) => {}
                // A terminal whose last process has gone says EIO.
                Err(_) => return self.ended(),
            }
        }
        match self.pending.is_empty() {
            true => Next::Readable,
            false => Next::Writable,
        }
    }
}

/// Streams, opened.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The process' own ends, for a process without a terminal.
    pub(crate) child: [Stdio; 3],
    pub(crate) pumps: Vec<Pump>,
    /// The writing end of the standard input's FIFO: the input has no end before this is dropped.
    pub(crate) input: Option<OwnedFd>,
}

/// Opens the streams of a process without a terminal.
///
/// # Errors
/// A sentence that names the stream.
pub(crate) fn open(streams: &Streams, whose: Whose<'_>) -> Result<Opened, String> {
    let mut opened = Opened {
        child: [Stdio::null(), Stdio::null(), Stdio::null()],
        pumps: Vec::new(),
        input: None,
    };
    if !streams.stdin.is_empty() {
        let wrong = in_stream("stdin", &streams.stdin);
        let path = fifo_path(&streams.stdin).ok_or_else(|| wrong("it is no FIFO".to_owned()))?;
        let (from, keep) = input(&path).map_err(|error| wrong(error.to_string()))?;
        let (theirs, ours) = pipe(whose.owner).map_err(|error| wrong(error.to_string()))?;
        let pump = Pump::new(from, ours, false, Direction::In).map_err(|error| wrong(error.to_string()))?;
        opened.child[0] = theirs.into();
        opened.pumps.push(pump);
        opened.input = Some(keep);
    }
    if let Some(logger) = Logger::of(&streams.stdout)? {
        let (out, out_end) = pipe(whose.owner).map_err(in_logger(&logger.program))?;
        let (err, err_end) = pipe(whose.owner).map_err(in_logger(&logger.program))?;
        logger.start(out, err, whose)?;
        opened.child[1] = out_end.into();
        opened.child[2] = err_end.into();
        return Ok(opened);
    }
    let outputs = [("stdout", &streams.stdout), ("stderr", &streams.stderr)];
    for (place, (name, target)) in outputs.into_iter().enumerate() {
        if target.is_empty() {
            continue;
        }
        let wrong = in_stream(name, target);
        let (to, fifo) = output(target).map_err(|error| wrong(error.to_string()))?;
        let (ours, theirs) = pipe(whose.owner).map_err(|error| wrong(error.to_string()))?;
        let pump = Pump::new(ours, to, fifo, Direction::Out).map_err(|error| wrong(error.to_string()))?;
        opened.child[1 + place] = theirs.into();
        opened.pumps.push(pump);
    }
    Ok(opened)
}

/// Connects the streams of a process to its terminal, whose master side this is.
///
/// # Errors
/// A sentence that names the stream.
pub(crate) fn open_terminal(streams: &Streams, master: &OwnedFd, whose: Whose<'_>) -> Result<Opened, String> {
    let mut opened = Opened {
        child: [Stdio::null(), Stdio::null(), Stdio::null()],
        pumps: Vec::new(),
        input: None,
    };
    let copy =
        |wrong: &dyn Fn(String) -> String| master.try_clone().map_err(|error| wrong(error.to_string()));
    if !streams.stdin.is_empty() {
        let wrong = in_stream("stdin", &streams.stdin);
        let path = fifo_path(&streams.stdin).ok_or_else(|| wrong("it is no FIFO".to_owned()))?;
        let (from, keep) = input(&path).map_err(|error| wrong(error.to_string()))?;
        let pump =
            Pump::new(from, copy(&wrong)?, false, Direction::In).map_err(|error| wrong(error.to_string()))?;
        opened.pumps.push(pump);
        opened.input = Some(keep);
    }
    if !streams.stdout.is_empty() {
        let wrong = in_stream("stdout", &streams.stdout);
        let (to, fifo) = match Logger::of(&streams.stdout)? {
            Some(logger) => {
                let (out, to) = pipe(None).map_err(in_logger(&logger.program))?;
                let (err, _) = pipe(None).map_err(in_logger(&logger.program))?;
                logger.start(out, err, whose)?;
                (to, false)
            }
            None => output(&streams.stdout).map_err(|error| wrong(error.to_string()))?,
        };
        let pump =
            Pump::new(copy(&wrong)?, to, fifo, Direction::Out).map_err(|error| wrong(error.to_string()))?;
        opened.pumps.push(pump);
    }
    Ok(opened)
}

fn in_stream<'a>(name: &'a str, target: &'a str) -> impl Fn(String) -> String + 'a {
    move |error| format!("cannot open {name} {target:?}: {error}")
}

/// A pipe: the end to read from, and the one to write to.
fn pipe(owner: Option<(u32, u32)>) -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    if let Some((user, group)) = owner {
        for end in [&read, &write] {
            nix::unistd::fchown(end, Some(user.into()), Some(group.into()))?;
        }
    }
    Ok((read, write))
}

fn fifo_path(target: &str) -> Option<PathBuf> {
    match target.split_once("://") {
        None => Some(PathBuf::from(target)),
        Some(("fifo", path)) => Some(PathBuf::from(path)),
        Some(_) => None,
    }
}

/// A FIFO to read from, and its writing end, opened in the order in which neither waits for the other.
fn input(path: &Path) -> io::Result<(OwnedFd, OwnedFd)> {
    let read = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)?;
    let write = OpenOptions::new()
        .write(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)?;
    Ok((read.into(), write.into()))
}

/// Where output goes: a FIFO (true), which may be without a reader, or a file.
fn output(target: &str) -> io::Result<(OwnedFd, bool)> {
    let path = match target.split_once("://") {
        Some(("file", path)) => {
            let path = Path::new(path);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            let file = OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o644)
                .open(path)?;
            return Ok((file.into(), false));
        }
        Some(("fifo", path)) => Path::new(path),
        Some((scheme, _)) => {
            return Err(io::Error::other(format!(
                "there is no stream of the kind {scheme:?}; there are fifo, file and binary"
            )));
        }
        None => Path::new(target),
    };
    if !std::fs::metadata(path)?.file_type().is_fifo() {
        return Ok((OpenOptions::new().append(true).open(path)?.into(), false));
    }
    // Only with a reading end can it be opened without waiting for one.
    let (_, write) = input(path)?;
    Ok((write, true))
}

/// A program that takes the output: `binary:///path?key=value`.
#[derive(Debug)]
struct Logger {
    program: PathBuf,
    arguments: Vec<OsString>,
}

fn in_logger(program: &Path) -> impl Fn(io::Error) -> String + '_ {
    move |error| format!("cannot start the logger {program:?}: {error}")
}

impl Logger {
    fn of(target: &str) -> Result<Option<Self>, String> {
        let Some(rest) = target.strip_prefix("binary://") else {
            return Ok(None);
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut arguments = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            arguments.push(unescaped(key)?);
            if !value.is_empty() {
                arguments.push(unescaped(value)?);
            }
        }
        Ok(Some(Logger {
            program: unescaped(path)?.into(),
            arguments,
        }))
    }

    /// Starts it with the streams as its descriptors 3 and 4, and waits until it closes 5: then it is ready.
    fn start(&self, stdout: OwnedFd, stderr: OwnedFd, whose: Whose<'_>) -> Result<(), String> {
        let wrong = in_logger(&self.program);
        let (ready, waits) = pipe(None).map_err(&wrong)?;
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env("CONTAINER_ID", whose.id)
            .env("CONTAINER_NAMESPACE", whose.namespace)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let handed = [stdout.as_fd(), stderr.as_fd(), waits.as_fd()];
        gabion_sys::process::hand_on(&mut command, &handed)
            .map_err(|error| wrong(io::Error::other(error)))?;
        // The main loop reaps it, as every child.
        command.spawn().map_err(&wrong)?;
        // The command has copies of the descriptors, and its end of the last one must be the only one.
        drop((command, waits));
        let mut polled = [PollFd::new(ready.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, PollTimeout::from(LOGGER_MILLISECONDS)) {
            Ok(0) => Err(wrong(io::Error::other(format!(
                "it was not ready after {} s (it has to close its descriptor 5)",
                LOGGER_MILLISECONDS / 1000
            )))),
            Ok(_) => Ok(()),
            Err(errno) => Err(wrong(errno.into())),
        }
    }
}

/// Text of a URI, with its `%2F` and `+` undone.
fn unescaped(text: &str) -> Result<OsString, String> {
    let wrong = || format!("{text:?} is not how a URI is written");
    let (mut bytes, mut rest) = (Vec::new(), text.bytes());
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().ok_or_else(wrong)?, rest.next().ok_or_else(wrong)?];
                let digits = std::str::from_utf8(&digits).map_err(|_| wrong())?;
                u8::from_str_radix(digits, 16).map_err(|_| wrong())?
            }
            other => other,
        });
    }
    Ok(std::os::unix::ffi::OsStringExt::from_vec(bytes))
}

/// A file of the bundle that holds what a program of ours reads from its standard input.
pub(crate) fn in_memory(bytes: &[u8]) -> io::Result<Stdio> {
    use std::io::{Seek, Write};
    let memory = nix::sys::memfd::memfd_create("gabion-shim", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?;
    let mut file = File::from(memory);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    const WHOSE: Whose<'static> = Whose {
        namespace: "n",
        id: "c1",
        owner: None,
    };

    fn fifo(directory: &Path, name: &str) -> PathBuf {
        let path = directory.join(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        path
    }

    fn drive(pump: &mut Pump) -> Next {
        pump.run(&mut [0; 4096])
    }

    #[test]
    fn output_survives_a_reader_that_comes_late() {
        let directory = tempfile::tempdir().unwrap();
        let path = fifo(directory.path(), "out");
        let streams = Streams {
            stdout: path.to_str().unwrap().to_owned(),
            ..Streams::default()
        };
        let Opened {
            child: [_, stdout, _],
            mut pumps,
            ..
        } = open(&streams, WHOSE).unwrap();
        let mut command = Command::new("echo");
        assert!(command.arg("word").stdout(stdout).status().unwrap().success());
        drop(command);
        assert_eq!(drive(&mut pumps[0]), Next::Reader);
        assert!(pumps[0].unheard());
        let mut reader = File::open(&path).unwrap();
        assert_eq!(drive(&mut pumps[0]), Next::Done);
        assert!(!pumps[0].unheard());
        drop(pumps);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "word\n");
    }

    #[test]
    fn a_reader_that_goes_away_and_comes_back_misses_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = fifo(directory.path(), "out");
        let (to, fifo) = output(path.to_str().unwrap()).unwrap();
        let (from, mut source) = std::io::pipe().unwrap();
        let mut pump = Pump::new(from.into(), to, fifo, Direction::Out).unwrap();
        let mut text = [0; 3];
        let mut reader = File::open(&path).unwrap();
        source.write_all(b"one").unwrap();
        assert_eq!(drive(&mut pump), Next::Readable);
        reader.read_exact(&mut text).unwrap();
        source.write_all(b"two").unwrap();
        assert_eq!(drive(&mut pump), Next::Readable);
        drop(reader);
        source.write_all(b"six").unwrap();
        assert_eq!(drive(&mut pump), Next::Reader);
        drop(source);
        assert_eq!(drive(&mut pump), Next::Reader);
        // It had its reader once; nobody waits for this one.
        assert!(!pump.unheard());
        let mut reader = File::open(&path).unwrap();
        assert_eq!(drive(&mut pump), Next::Done);
        drop(pump);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!((&text, rest.as_str()), (b"one", "twosix"));
    }

    #[test]
    fn an_output_that_stayed_empty_has_its_end_for_a_late_reader_too() {
        let directory = tempfile::tempdir().unwrap();
        let path = fifo(directory.path(), "out");
        let (to, fifo) = output(path.to_str().unwrap()).unwrap();
        let (from, source) = std::io::pipe().unwrap();
        let mut pump = Pump::new(from.into(), to, fifo, Direction::Out).unwrap();
        drop(source);
        assert_eq!((drive(&mut pump), pump.unheard()), (Next::Reader, false));
        let mut reader = File::open(&path).unwrap();
        assert_eq!(drive(&mut pump), Next::Done);
        drop(pump);
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);
    }

    #[test]
    fn a_full_fifo_waits_and_nothing_is_lost() {
        let directory = tempfile::tempdir().unwrap();
        let path = fifo(directory.path(), "out");
        let (to, fifo) = output(path.to_str().unwrap()).unwrap();
        let (from, mut source) = std::io::pipe().unwrap();
        let mut pump = Pump::new(from.into(), to, fifo, Direction::Out).unwrap();
        let writer = std::thread::spawn(move || source.write_all(&[7; 300_000]).unwrap());
        let mut reader = File::open(&path).unwrap();
        let counter = std::thread::spawn(move || {
            let mut all = Vec::new();
            std::thread::sleep(std::time::Duration::from_millis(50));
            reader.read_to_end(&mut all).unwrap();
            all.len()
        });
        let mut waited = false;
        loop {
            match drive(&mut pump) {
                Next::Done => break,
                next => waited |= next == Next::Writable,
            }
        }
        drop(pump);
        writer.join().unwrap();
        assert_eq!((counter.join().unwrap(), waited), (300_000, true));
    }

    #[test]
    fn input_ends_when_it_is_closed_and_not_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = fifo(directory.path(), "in");
        let (from, keep) = input(&path).unwrap();
        let (mut sink, to) = std::io::pipe().unwrap();
        let mut pump = Pump::new(from, to.into(), false, Direction::In).unwrap();
        let mut client = OpenOptions::new().write(true).open(&path).unwrap();
        client.write_all(b"typed").unwrap();
        drop(client);
        assert_eq!(drive(&mut pump), Next::Readable);
        drop(keep);
        assert_eq!(drive(&mut pump), Next::Done);
        drop(pump);
        let mut text = String::new();
        sink.read_to_string(&mut text).unwrap();
        assert_eq!(text, "typed");
    }

    #[test]
    fn a_file_is_appended_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logs/out.log");
        for _ in 0..2 {
            let (to, _) = output(&format!("file://{}", path.display())).unwrap();
            File::from(to).write_all(b"line\n").unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "line\nline\n");
    }

    #[test]
    fn a_logger_has_the_streams_and_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let script = directory.path().join("logger");
        std::fs::write(
            &script,
            format!(
                "#!/bin/sh\necho \"$CONTAINER_NAMESPACE $CONTAINER_ID $*\" >{0}\nexec 5>&-\ncat <&3 >>{0}\n",
                log.display()
            ),
        )
        .unwrap();
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let streams = Streams {
            stdout: format!("binary://{}?--tag=a%20b", script.display()),
            ..Streams::default()
        };
        let Opened {
            child: [_, stdout, _],
            ..
        } = open(&streams, WHOSE).unwrap();
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "n c1 --tag a b\n");
        assert!(
            Command::new("echo")
                .arg("out")
                .stdout(stdout)
                .status()
                .unwrap()
                .success()
        );
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while std::fs::read_to_string(&log).unwrap() != "n c1 --tag a b\nout\n" {
            assert!(std::time::Instant::now() < end);
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_kind_of_stream_that_is_none_is_an_error() {
        let streams = Streams {
            stdout: "npipe://x".to_owned(),
            ..Streams::default()
        };
        assert_eq!(
            open(&streams, WHOSE).unwrap_err(),
            "cannot open stdout \"npipe://x\": there is no stream of the kind \"npipe\"; there are fifo, file and binary"
        );
    }
}
