//! Calls of gabion: a program for each, since what it does is not for a process with a socket and other containers.

use std::ffi::OsString;
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use crate::options::Options;

/// Starts gabion with a command; its errors go to `log`.
///
/// # Errors
/// A sentence, if there is no such program.
pub(crate) fn spawn(
    options: &Options,
    bundle: &Path,
    log: &Path,
    words: &[OsString],
    stdio: [Stdio; 3],
) -> Result<Child, String> {
    let [stdin, stdout, stderr] = stdio;
    Command::new(&options.program)
        .args(options.globals())
        .args([
            OsString::from("--log"),
            log.into(),
            "--log-format".into(),
            "json".into(),
        ])
        .args(words)
        .current_dir(bundle)
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .map_err(|error| format!("cannot start the runtime {:?}: {error}", options.program))
}

/// No streams.
pub(crate) fn nowhere() -> [Stdio; 3] {
    [Stdio::null(), Stdio::null(), Stdio::null()]
}

/// What the runtime said last in its log, which is removed.
pub(crate) fn last_error(log: &Path) -> Option<String> {
    let text = fs::read_to_string(log).ok()?;
    // A log that stays is a file too many in a directory that containerd removes.
    drop(fs::remove_file(log));
    text.lines().rev().find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        (line["level"] == "error").then(|| line["msg"].as_str().map(str::to_owned))?
    })
}

/// The process id in a file that the runtime wrote.
pub(crate) fn read_pid(path: &Path) -> Result<i32, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("cannot read {path:?}: {error}"))?;
    text.trim()
        .parse()
        .map_err(|_| format!("there is no process id in {path:?}"))
}

/// A socket on which the runtime delivers a terminal.
#[derive(Debug)]
pub(crate) struct Console {
    path: PathBuf,
    listener: UnixListener,
}

impl Console {
    /// Makes the socket, in the directory of the shims' own sockets.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn new(directory: &Path, number: u64) -> Result<Self, String> {
        let path = directory.join(format!("gabion-console-{}-{number}", std::process::id()));
        let wrong = |error| format!("cannot make the console's socket {path:?}: {error}");
        let listener = UnixListener::bind(&path).map_err(wrong)?;
        // The runtime has connected and sent by the time it ends; nothing here waits for it.
        listener.set_nonblocking(true).map_err(wrong)?;
        Ok(Console { path, listener })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the terminal's master side from a runtime that has ended.
    ///
    /// # Errors
    /// A sentence, if it sent none.
    pub(crate) fn receive(&self) -> Result<OwnedFd, String> {
        let nothing = |error: &dyn std::fmt::Display| format!("the runtime sent no terminal: {error}");
        let (socket, _) = self.listener.accept().map_err(|error| nothing(&error))?;
        let mut bytes = [0; 128];
        let mut space = nix::cmsg_space!([i32; 1]);
        let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)
            .map_err(|errno| nothing(&errno.desc()))?;
        for control in message.cmsgs().map_err(|errno| nothing(&errno.desc()))? {
            if let ControlMessageOwned::ScmRights(descriptors) = control
                && let [descriptor] = descriptors[..]
            {
                return gabion_sys::process::inherited(descriptor).map_err(|error| nothing(&error));
            }
        }
        Err(nothing(&"its message has no descriptor"))
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_what_people_see() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        fs::write(
            &log,
            "{\"level\":\"error\",\"msg\":\"first\"}\n{\"level\":\"error\",\"msg\":\"gabion refused c1: NS-02\"}\n\
             {\"level\":\"warning\",\"msg\":\"later\"}\nno json\n",
        )
        .unwrap();
        assert_eq!(last_error(&log), Some("gabion refused c1: NS-02".to_owned()));
        assert!(!log.exists());
        assert_eq!(last_error(&log), None);
    }

    #[test]
    fn a_pid_file_is_read_or_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("init.pid");
        fs::write(&path, "42").unwrap();
        assert_eq!(read_pid(&path), Ok(42));
        fs::write(&path, "").unwrap();
        assert_eq!(
            read_pid(&path),
            Err(format!("there is no process id in {path:?}"))
        );
    }
}
