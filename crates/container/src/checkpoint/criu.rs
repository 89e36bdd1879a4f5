//! Talking to CRIU: one program, one request, its questions on the way, its answer.
//!
//! `criu swrk N` serves one request on the socket N, which it inherits. Messages are protobuf (CRIU's `rpc.proto`),
//! one to a packet. While it works it tells at which point it is, and goes on when it is answered:
//!
//! ```text
//! gabion                              criu swrk
//! ──────                              ─────────
//! DUMP, RESTORE with options ───────▶
//!                            ◀─────── NOTIFY "pre-resume", and such
//! NOTIFY, success or not ───────────▶
//!                            ◀─────── DUMP, RESTORE: success or not
//! ```

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{IoSliceMut, Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use gabion_sys::exec::Program;
use gabion_sys::process;
use nix::cmsg_space;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, Shutdown, SockFlag, SockType, recvmsg, send, shutdown,
    socketpair,
};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout};
use protobuf::{Message, MessageField};
use rust_criu::rust_criu_protobuf::rpc::{Criu_opts, Criu_req, Criu_req_type, Criu_resp};

use crate::error::{ContainerError, Result};

/// Where CRIU is looked for, in this order. Not in the PATH: that is the caller's, and CRIU runs as root.
const PLACES: [&str; 3] = ["/usr/sbin/criu", "/usr/bin/criu", "/usr/local/sbin/criu"];

/// What CRIU itself starts (tar, ip, nft) is found here.
const ENVIRONMENT: [&str; 2] = [
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG=C",
];

/// No message of CRIU's is longer.
const LONGEST: usize = 64 << 10;

/// Finds CRIU.
///
/// # Errors
/// If it is not there, with the package that has it; if it, or a directory above it, could be replaced by others than
/// root.
pub(crate) fn find() -> Result<PathBuf> {
    for place in PLACES {
        let path = match fs::canonicalize(place) {
            Ok(path) => path,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(ContainerError::file("cannot look at", place)(error)),
        };
        for part in path.ancestors() {
            let metadata = fs::metadata(part).map_err(ContainerError::file("cannot look at", part))?;
            if metadata.uid() != 0 || metadata.mode() & 0o022 != 0 {
                return Err(ContainerError::Other(format!(
                    "{part:?} may be written by others than root, and CRIU is not run from there: chown root, chmod go-w"
                )));
            }
        }
        return Ok(path);
    }
    Err(ContainerError::Other(format!(
        "CRIU is not installed: it is none of {}. It is in the package criu of your distribution",
        PLACES.join(", ")
    )))
}

/// A point that CRIU has come to.
#[derive(Debug)]
pub(crate) struct Point {
    /// Its name, such as `pre-resume`.
    pub(crate) name: String,
    /// The container's first process, where CRIU names it.
    pub(crate) pid: Option<i32>,
    /// What came along: the master side of a terminal.
    pub(crate) descriptor: Option<OwnedFd>,
}

/// Where CRIU writes its log.
#[derive(Debug)]
pub(crate) struct LogFile {
    /// The directory, for whoever reads the error.
    pub(crate) directory: PathBuf,
    /// `dump.log`, `restore.log`.
    pub(crate) name: &'static str,
}

/// CRIU, started and waiting for a request.
#[derive(Debug)]
pub(crate) struct Criu {
    pid: Pid,
    socket: OwnedFd,
    /// What it says before it has a log.
    output: File,
    log: LogFile,
    ended: bool,
}

impl Criu {
    /// Starts it. `inherited` are descriptors that it has under the same numbers; `before` runs in the new process, and
    /// what it changes there is for CRIU alone.
    ///
    /// # Preconditions
    /// One thread.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn start(
        program: &Path,
        log: LogFile,
        inherited: &[&OwnedFd],
        before: impl FnOnce() -> std::result::Result<(), String>,
    ) -> Result<Self> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .map_err(ContainerError::call("socketpair()"))?;
        let output = memfd_create(c"criu-output", MFdFlags::MFD_CLOEXEC)
            .map_err(ContainerError::call("memfd_create()"))?;
        let nothing = File::open("/dev/null").map_err(ContainerError::file("cannot open", "/dev/null"))?;
        let text = |text: &[u8]| CString::new(text).map_err(|error| ContainerError::Other(error.to_string()));
        let path = text(program.as_os_str().as_bytes())?;
        let number = theirs.as_raw_fd().to_string();
        let arguments = ["criu", "swrk", &number].map(|word| text(word.as_bytes()));
        let environment = ENVIRONMENT.map(|word| text(word.as_bytes()));
        let arguments = arguments.into_iter().collect::<Result<_>>()?;
        let environment = environment.into_iter().collect::<Result<_>>()?;
        let program = Program::new(path, arguments, environment);
        let child = || {
            let called = |errno: Errno| errno.to_string();
            let outcome = before()
                .and_then(|()| process::reset_signals().map_err(|error| error.to_string()))
                .and_then(|()| process::close_on_exec_from(3).map_err(|error| error.to_string()))
                .and_then(|()| {
                    for descriptor in inherited.iter().copied().chain([&theirs]) {
                        fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty())).map_err(called)?;
                    }
                    dup2_stdin(&nothing).map_err(called)?;
                    dup2_stdout(&output).map_err(called)?;
                    dup2_stderr(&output).map_err(called)
                });
            let why = match outcome {
                Ok(()) => program.execute().to_string(),
                Err(why) => why,
            };
            // Where its own last words would be.
            match nix::unistd::write(&output, why.as_bytes()) {
                Ok(_) => 127,
                Err(_) => 126,
            }
        };
        let pid = gabion_sys::fork::fork(child).map_err(|error| ContainerError::Other(error.to_string()))?;
        Ok(Criu {
            pid,
            socket: ours,
            output: output.into(),
            log,
            ended: false,
        })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// The socket on which it is talked to, for who must not keep it open.
    pub(crate) fn socket_number(&self) -> i32 {
        self.socket.as_raw_fd()
    }

    /// Makes a request, and answers what CRIU asks on the way; an error of `at` is told to CRIU, which then fails.
    ///
    /// # Errors
    /// That of `at`; otherwise what CRIU's log says last.
    pub(crate) fn request(
        mut self,
        kind: Criu_req_type,
        options: Criu_opts,
        mut at: impl FnMut(Point) -> Result<()>,
    ) -> Result<()> {
        let mut request = Criu_req::new();
        request.set_type(kind);
        request.opts = MessageField::some(options);
        self.send(&request)?;
        let mut ours: Option<ContainerError> = None;
        let answer = loop {
            let Some((answer, descriptor)) = self.receive()? else {
                break None;
            };
            if answer.type_() != Criu_req_type::NOTIFY {
                break Some(answer);
            }
            let point = Point {
                name: answer.notify.script().to_owned(),
                pid: answer.notify.pid,
                descriptor,
            };
            tracing::debug!(point = point.name, "CRIU");
            // After an error of ours nothing more is done, whatever CRIU does until it ends.
            let outcome = match ours {
                None => at(point),
                Some(_) => Ok(()),
            };
            ours = ours.or(outcome.err());
            let mut reply = Criu_req::new();
            reply.set_type(Criu_req_type::NOTIFY);
            reply.set_notify_success(ours.is_none());
            self.send(&reply)?;
        };
        // After a pre-dump it would wait for more.
        if let Err(errno) = shutdown(self.socket.as_raw_fd(), Shutdown::Both) {
            tracing::debug!(%errno, "CRIU has hung up already");
        }
        let ended = self.end();
        if let Some(error) = ours {
            return Err(error);
        }
        let status = ended?;
        match answer {
            Some(answer) if answer.success() && answer.type_() == kind => Ok(()),
            Some(answer) => Err(self.failed(kind, answer.cr_errmsg())),
            None => Err(self.failed(kind, &format!("it ended without an answer ({})", shown(status)))),
        }
    }

    fn send(&self, message: &Criu_req) -> Result<()> {
        let bytes = message
            .write_to_bytes()
            .map_err(|error| ContainerError::Other(error.to_string()))?;
        // One that has ended is noticed where its answer is missing.
        match send(self.socket.as_raw_fd(), &bytes, MsgFlags::MSG_NOSIGNAL) {
            Ok(_) | Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
            Err(errno) => Err(ContainerError::call("send(criu)")(errno)),
        }
    }

    fn receive(&self) -> Result<Option<(Criu_resp, Option<OwnedFd>)>> {
        let mut bytes = vec![0; LONGEST];
        let mut space = cmsg_space!([i32; 1]);
        let (count, numbers) = loop {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            let message = match recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, Some(&mut space), flags) {
                Ok(message) => message,
                Err(Errno::EINTR) => continue,
                Err(Errno::ECONNRESET) => return Ok(None),
                Err(errno) => return Err(ContainerError::call("recvmsg(criu)")(errno)),
            };
            let mut numbers = Vec::new();
            for control in message.cmsgs().map_err(ContainerError::call("recvmsg(criu)"))? {
                if let ControlMessageOwned::ScmRights(rights) = control {
                    numbers.extend(rights);
                }
            }
            break (message.bytes, numbers);
        };
        if count == 0 {
            return Ok(None);
        }
        let answer = Criu_resp::parse_from_bytes(&bytes[..count])
            .map_err(|error| ContainerError::Other(format!("what CRIU says cannot be read: {error}")))?;
        let descriptor = numbers.first().map(|&number| process::inherited(number));
        Ok(Some((answer, descriptor.transpose()?)))
    }

    /// Waits for its end. `None` if somebody else did: whoever ends a container's processes reaps all that have ended.
    fn end(&mut self) -> Result<Option<WaitStatus>> {
        let status = loop {
            match waitpid(self.pid, None) {
                Ok(status) => break Some(status),
                Err(Errno::ECHILD) => break None,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(ContainerError::call(format!("waitpid({})", self.pid))(errno)),
            }
        };
        self.ended = true;
        Ok(status)
    }

    /// What went wrong, as its log has it.
    fn failed(&mut self, kind: Criu_req_type, message: &str) -> ContainerError {
        let path = self.log.directory.join(self.log.name);
        let mut text = fs::read(&path)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default();
        if text.is_empty() {
            let read = self.output.seek(SeekFrom::Start(0));
            drop(read.and_then(|_| self.output.read_to_string(&mut text)));
        }
        let what = match kind {
            Criu_req_type::RESTORE => "restore",
            Criu_req_type::PRE_DUMP => "pre-dump",
            _ => "dump",
        };
        ContainerError::Other(sentence(what, message, &text, &path))
    }
}

/// Whatever goes wrong, CRIU is not left behind: it goes on with nobody to ask, and its own cleaning up is worth
/// waiting for.
impl Drop for Criu {
    fn drop(&mut self) {
        if !self.ended {
            let (nobody, _) = match socketpair(
                AddressFamily::Unix,
                SockType::SeqPacket,
                None,
                SockFlag::SOCK_CLOEXEC,
            ) {
                Ok(pair) => pair,
                Err(_) => return,
            };
            // Closes ours: every question of CRIU's from here on fails.
            self.socket = nobody;
            drop(self.end());
        }
    }
}

fn shown(status: Option<WaitStatus>) -> String {
    match status {
        Some(WaitStatus::Exited(_, code)) => format!("exit status {code}"),
        Some(WaitStatus::Signaled(_, signal, _)) => signal.to_string(),
        Some(other) => format!("{other:?}"),
        None => "it was killed".to_owned(),
    }
}

/// CRIU's own words: the last errors of its log, or its last lines if it calls none an error.
fn sentence(what: &str, message: &str, log: &str, path: &Path) -> String {
    const LINES: usize = 4;
    let errors = log.lines().filter(|line| line.contains("Error ("));
    let mut lines: Vec<&str> = errors.rev().take(LINES).collect();
    if lines.is_empty() {
        lines = log
            .lines()
            .rev()
            .filter(|line| !line.trim().is_empty())
            .take(LINES)
            .collect();
    }
    lines.reverse();
    let mut text = format!("criu failed: {what}");
    let short = |line: &str| -> String { line.trim().escape_debug().take(200).collect() };
    // Its message is the first error of the log once more.
    let message = message.trim();
    if !message.is_empty() && !lines.iter().any(|line| line.contains(message)) {
        text.push_str(&format!(": {}", short(message)));
    }
    for line in lines {
        text.push_str(&format!("; {}", short(line)));
    }
    text.push_str(&format!(". Its log is {}", path.display()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_errors_of_the_log_are_told_with_its_place() {
        let log =
            "(00.1) Dumping\n(00.2) Error (criu/a.c:1): one\n(00.3) Error (criu/b.c:2): two\n(00.4) Unlock\n";
        assert_eq!(
            sentence("dump", "", log, Path::new("/i/dump.log")),
            "criu failed: dump; (00.2) Error (criu/a.c:1): one; (00.3) Error (criu/b.c:2): two. Its log is /i/dump.log"
        );
        assert_eq!(
            sentence("dump", "Error (criu/b.c:2): two\n", log, Path::new("/l")),
            sentence("dump", "", log, Path::new("/l"))
        );
        assert_eq!(
            sentence("restore", "no", "only this\n", Path::new("/l")),
            "criu failed: restore: no; only this. Its log is /l"
        );
    }
}
