//! Commands with a limit to their time.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gabion_sys::process;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

/// How long a command may take before the test fails. A machine under load is slow; a hang lasts for ever.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// What a command printed, and its exit status: 128 plus the signal's number if one ended it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Exit status.
    pub status: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Answer {
    /// Itself, if the command succeeded.
    ///
    /// # Panics
    /// If it failed.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.status, 0, "{self:#?}");
        self
    }
}

/// Runs a command to its end. Its output goes to files in `directory`: a container that it leaves running may hold
/// them open as long as it likes.
///
/// # Panics
/// If it does not end in time; it is killed then.
#[track_caller]
pub fn run(command: &mut Command, directory: &Path) -> Answer {
    run_within(PATIENCE, command, directory)
}

/// The same with another limit.
///
/// # Panics
/// As [`run`].
#[track_caller]
pub fn run_within(patience: Duration, command: &mut Command, directory: &Path) -> Answer {
    let output = tempfile::Builder::new()
        .prefix("output.")
        .tempdir_in(directory)
        .unwrap();
    let (out, err) = (output.path().join("out"), output.path().join("err"));
    command
        .stdout(File::create(&out).unwrap())
        .stderr(File::create(&err).unwrap());
    let shown = format!("{command:?}");
    let mut child = command.stdin(Stdio::null()).spawn().unwrap();
    let status = finish_within(patience, &mut child, &shown);
    let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    Answer {
        status,
        stdout: text(&out),
        stderr: text(&err),
    }
}

/// Waits for a child's end, and gives its exit status as a shell counts it.
///
/// # Panics
/// If it does not end in time; it is killed then.
#[track_caller]
pub fn finish(child: &mut Child, shown: &str) -> i32 {
    finish_within(PATIENCE, child, shown)
}

#[track_caller]
fn finish_within(patience: Duration, child: &mut Child, shown: &str) -> i32 {
    let process = process::open(Pid::from_raw(child.id().cast_signed())).unwrap();
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap();
        match poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("after {} s there was no end of {shown}", patience.as_secs());
            }
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(errno) => panic!("poll: {errno}"),
        }
    }
    let status = child.wait().unwrap();
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// Looks again and again until it is so; false if it is not in time.
pub fn wait_until(mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}
