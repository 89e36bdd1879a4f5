//! The runtime under test, seen as what it is to its callers: a command.

use crate::clause::Stop;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long any command of the runtime, and any container, may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How the runtime is called.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// The binary.
    pub path: PathBuf,
    /// Global arguments given before the command, besides `--root`.
    pub arguments: Vec<String>,
    /// What is given to `--root`: where the runtime keeps its containers.
    pub root: PathBuf,
    /// Where the output of commands is kept until it is read.
    pub scratch: PathBuf,
}

/// What a command came to.
#[derive(Debug, Clone)]
pub struct Called {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Called {
    /// True if the command ended with status 0.
    pub fn ok(&self) -> bool {
        self.status.success()
    }

    /// The last line it complained with, short enough for a report.
    pub fn complaint(&self) -> String {
        let line = self
            .err
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("(no message)");
        line.chars().take(300).collect()
    }
}

static CALLS: AtomicU64 = AtomicU64::new(0);

impl Runtime {
    /// True if it lets systemd make the cgroups.
    pub fn asks_systemd(&self) -> bool {
        self.arguments.iter().any(|word| word == "--systemd-cgroup")
    }

    /// Runs one command of the runtime and waits for it.
    ///
    /// Output goes through files: a container keeps the streams of the `create` that made it, and a pipe
    /// would not end before the container does.
    pub fn call<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Result<Called, Stop> {
        let number = CALLS.fetch_add(1, Ordering::Relaxed);
        let out = self.scratch.join(format!("{number}.out"));
        let err = self.scratch.join(format!("{number}.err"));
        self.call_into(arguments, &out, &err, None)
    }

    /// Like [`Runtime::call`], with the files for output chosen by the caller, and a working directory.
    pub fn call_into<S: AsRef<std::ffi::OsStr>>(
        &self,
        arguments: &[S],
        out: &Path,
        err: &Path,
        directory: Option<&Path>,
    ) -> Result<Called, Stop> {
        let mut command = Command::new(&self.path);
        command
            .args(&self.arguments)
            .arg("--root")
            .arg(&self.root)
            .args(arguments);
        command
            .stdin(Stdio::null())
            .stdout(File::create(out)?)
            .stderr(File::create(err)?);
        if let Some(directory) = directory {
            command.current_dir(directory);
        }
        let status = finish(&mut command, &describe(arguments))?;
        Ok(Called {
            status,
            out: read(out),
            err: read(err),
        })
    }
}

/// Runs a command until it ends or patience does.
pub fn finish(command: &mut Command, what: &str) -> Result<ExitStatus, Stop> {
    let mut child = command
        .spawn()
        .map_err(|error| Stop::Fail(format!("cannot run {:?}: {error}", command.get_program())))?;
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if begun.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Err(Stop::Fail(format!(
                "{what} did not end within {} s",
                PATIENCE.as_secs()
            )));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Repeats a question until it is answered or the time is up.
pub fn wait_until(limit: Duration, mut question: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    loop {
        if question() {
            return true;
        }
        if begun.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A file's text, with what is not UTF-8 replaced; empty if it cannot be read.
pub fn read(path: &Path) -> String {
    fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

fn describe<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> String {
    arguments
        .iter()
        .map(|argument| argument.as_ref().to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
