//! Hooks (config.md, "POSIX-platform Hooks"), run as the spec and the baseline have it.
//!
//! A hook gets the container's state on its standard input, exactly the environment that its entry names (a startContainer
//! hook that names none: the program's),
//! `/` as working directory, and no descriptor but the standard three (rule HOOK-02). Its time is limited by
//! its `timeout`; when that is over it is killed. What it writes to its standard error is passed on when it has ended,
//! and the end of it stands in the error if it failed.
//!
//! | point | run by | in the namespaces of |
//! |---|---|---|
//! | prestart, createRuntime | libcontainer through [`trampolines`] | the runtime |
//! | createContainer | libcontainer through [`trampolines`] | the container, before pivot_root |
//! | startContainer | the init process, with what the program will have | the container |
//! | poststart, poststop | `start`, `delete` | the runtime |
//!
//! A trampoline is this program, called by libcontainer in the hook's place: it knows the engine's bundle, the
//! status and the process id that the spec promises, which libcontainer does not.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use gabion_baseline::config::{Config, Hook};
use gabion_descent::{Failure, Report, report};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{ContainerError, Result};
use crate::state::Record;

/// The hidden first argument with which this program is called as a trampoline.
pub const TRAMPOLINE: &str = "hook-trampoline";

/// The state that a hook reads (runtime.md, "State").
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct HookState {
    pub oci_version: String,
    pub id: String,
    pub status: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pid: Option<i32>,
    pub bundle: PathBuf,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub annotations: BTreeMap<String, String>,
}

/// What a trampoline is told: the descriptor of this text is its last argument.
#[derive(Debug, Serialize, Deserialize)]
struct Errand {
    point: String,
    hooks: Vec<Hook>,
    state: HookState,
    /// The descriptor on which `create` hears what went wrong.
    report: i32,
}

impl HookState {
    /// The state of a container that is being made from this configuration.
    pub fn creating(config: &Config, id: &str, bundle: &Path) -> Self {
        HookState {
            oci_version: config.oci_version.clone(),
            id: id.to_owned(),
            status: "creating".to_owned(),
            pid: None,
            bundle: bundle.to_owned(),
            annotations: config.annotations.value().cloned().unwrap_or_default(),
        }
    }

    /// The state of a container that is remembered.
    pub(crate) fn of(record: &Record, status: &str, pid: Option<i32>) -> Self {
        HookState {
            oci_version: record.oci_version.clone(),
            id: record.id.clone(),
            status: status.to_owned(),
            pid,
            bundle: record.bundle.clone(),
            annotations: record.annotations.clone(),
        }
    }

    /// The same with another status and process.
    #[must_use]
    pub fn with(mut self, status: &str, pid: Option<i32>) -> Self {
        self.status = status.to_owned();
        self.pid = pid;
        self
    }
}

/// What libcontainer is given in the place of a bundle's hooks.
#[derive(Debug)]
pub(crate) struct Trampolines {
    /// The `hooks` object, if there is anything for libcontainer to run.
    pub(crate) document: Option<Value>,
    /// Held open while the container is built: the trampolines read them, by number.
    pub(crate) _errands: Vec<OwnedFd>,
}

/// True if hooks run in the runtime's own namespaces while the container is built (config.md, "Hooks").
pub(crate) fn are_in_runtime(config: &Config) -> bool {
    let hooks = config.hooks.value();
    hooks.is_some_and(|hooks| !hooks.prestart.items().is_empty() || !hooks.create_runtime.items().is_empty())
}

/// Makes one trampoline for each point that libcontainer has to run.
///
/// What it has to do is written to memory that it inherits: it may be longer than an argument of a program can be
/// (128 KiB), and must be readable where the container's root is not the host's.
pub(crate) fn trampolines(config: &Config, id: &str, bundle: &Path, report: i32) -> Result<Trampolines> {
    let mut object = serde_json::Map::new();
    let mut errands = Vec::new();
    let points = config.hooks.value().map(gabion_baseline::config::Hooks::points);
    for (point, list) in points.into_iter().flatten() {
        if list.is_empty() || !matches!(point, "prestart" | "createRuntime" | "createContainer") {
            continue;
        }
        let errand = Errand {
            point: point.to_owned(),
            hooks: list.to_vec(),
            state: HookState::creating(config, id, bundle),
            report,
        };
        let text = serde_json::to_vec(&errand).map_err(|error| ContainerError::Other(error.to_string()))?;
        // Not close-on-exec: libcontainer executes the trampoline.
        let memory = memfd_create(c"gabion-hooks", MFdFlags::empty())
            .map_err(ContainerError::call("memfd_create()"))?;
        let mut file = File::from(memory);
        file.write_all(&text)
            .map_err(ContainerError::file("cannot write", "memfd"))?;
        object.insert(
            point.to_owned(),
            json!([{
                "path": "/proc/self/exe",
                "args": ["gabion", TRAMPOLINE, file.as_raw_fd().to_string()],
                "env": []
            }]),
        );
        errands.push(file.into());
    }
    Ok(Trampolines {
        document: (!object.is_empty()).then(|| Value::Object(object)),
        _errands: errands,
    })
}

/// The program's life as a trampoline: runs the hooks of one point, and tells `create` if one fails.
///
/// # Errors
/// As [`run`]; the caller ends with a failing exit status, which libcontainer takes as the hook's.
pub fn trampoline(errand: &str) -> Result<()> {
    let unusable =
        |what: String| ContainerError::Other(format!("the trampoline was called with no errand: {what}"));
    let number = errand
        .parse()
        .map_err(|_| unusable(format!("{errand:?} is no descriptor")))?;
    let mut file = File::from(gabion_sys::process::inherited(number)?);
    let mut text = String::new();
    // Its maker left it at its end.
    file.seek(SeekFrom::Start(0))
        .and_then(|_| file.read_to_string(&mut text))
        .map_err(|error| unusable(error.to_string()))?;
    drop(file);
    let errand: Errand = serde_json::from_str(&text).map_err(|error| unusable(error.to_string()))?;
    let channel = gabion_sys::process::inherited(errand.report)?;
    let outcome = carry_out(errand);
    if let Err(error) = &outcome {
        report::write(&channel, &Report::Failed(Failure::Other(error.to_string())))?;
    }
    outcome
}

fn carry_out(errand: Errand) -> Result<()> {
    let mut input = String::new();
    std::io::stdin()
        .read_to_string(&mut input)
        .map_err(ContainerError::file(
            "cannot read the state from",
            "standard input",
        ))?;
    let told: Value = serde_json::from_str(&input).unwrap_or(Value::Null);
    // In the runtime's namespaces libcontainer knows the pid. In the container's it does not; but /proc is
    // still the host's, and shows who started this process.
    let pid = match told
        .get("pid")
        .and_then(Value::as_i64)
        .and_then(|pid| i32::try_from(pid).ok())
    {
        Some(pid) if pid > 0 => Some(pid),
        _ => parent_in_procfs(),
    };
    let state = errand.state.with("creating", pid);
    let point = POINTS
        .into_iter()
        .find(|point| *point == errand.point)
        .unwrap_or("unknown");
    run(point, &errand.hooks, &state)
}

const POINTS: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

fn parent_in_procfs() -> Option<i32> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // pid (comm) state ppid: the name may hold anything, parentheses included.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Runs hooks in order.
///
/// # Errors
/// [`ContainerError::Hook`] for the first one that cannot be run, fails, or takes too long; those after it are
/// not run.
pub fn run(point: &'static str, hooks: &[Hook], state: &HookState) -> Result<()> {
    let state = serde_json::to_vec(state).map_err(|error| ContainerError::Other(error.to_string()))?;
    for (index, hook) in hooks.iter().enumerate() {
        run_one(hook, &state).map_err(|text| ContainerError::Hook {
            point,
            index,
            path: hook.path.clone(),
            text,
        })?;
    }
    Ok(())
}

fn run_one(hook: &Hook, state: &[u8]) -> std::result::Result<(), String> {
    let mut command = Command::new(&hook.path);
    if let Some((name, arguments)) = hook.args.items().split_first() {
        command.arg0(name).args(arguments);
    }
    command
        .env_clear()
        .current_dir("/")
        .stdin(match in_memory(state) {
            Ok(memory) => memory.into(),
            Err(_) => Stdio::piped(),
        })
        .stdout(Stdio::null());
    for entry in hook.env.items() {
        match entry.split_once('=') {
            Some((key, value)) if !key.is_empty() => command.env(key, value),
            _ => {
                return Err(format!(
                    "has an environment entry that is not KEY=value: {entry:?}"
                ));
            }
        };
    }
    // Descriptors that are not close-on-exec would reach a program that does not know what it holds.
    gabion_sys::process::close_on_exec_from(3).map_err(|error| error.to_string())?;
    let complaints = match Complaints::new() {
        Ok(complaints) => Some(complaints),
        // A container's filter may not let a startContainer hook's: it writes to the container's own then.
        Err(error) => {
            tracing::debug!(%error, "what a hook writes to standard error is not kept");
            None
        }
    };
    if let Some(Complaints(memory)) = &complaints {
        command.stderr(memory.try_clone().map_err(|error| error.to_string())?);
    }
    let mut child = command
        .spawn()
        .map_err(|error| format!("cannot be run: {error}"))?;
    let fed = feed(&mut child, state);
    let waited = wait(&mut child, *hook.timeout.value().unwrap_or(&0));
    let written = complaints.map(Complaints::pass_on).unwrap_or_default();
    let with_complaints = |text: String| match ending(&written) {
        Some(ending) => format!("{text}: {ending}"),
        None => text,
    };
    let status = waited.map_err(with_complaints)?;
    if status.success() {
        // A hook that ended well without reading its state did not want it.
        return Ok(());
    }
    fed?;
    Err(with_complaints(match status.code() {
        Some(code) => format!("failed with exit status {code}"),
        None if status.signal() == Some(nix::libc::SIGSYS) => {
            "was ended by a signal: bad system call (SIGSYS): a seccomp filter does not allow it".to_owned()
        }
        None => format!("was ended by a signal: {status}"),
    }))
}

/// What a hook writes to its standard error, in memory.
///
/// Not a pipe: what a hook leaves running would keep its end open, so nobody could wait for the end of it, and be killed
/// by writing to it afterwards. The memory cannot grow, so that none is used up by what nobody reads.
struct Complaints(File);

impl Complaints {
    const ROOM: u64 = 1 << 20;

    fn new() -> Result<Self> {
        let call = |name: &'static str| ContainerError::call(name);
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let memory =
            File::from(memfd_create(c"gabion-hook", flags).map_err(call("memfd_create(hook's errors)"))?);
        memory
            .set_len(Self::ROOM)
            .map_err(ContainerError::file("cannot make room in", "memfd"))?;
        fcntl(&memory, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_GROW))
            .map_err(call("fcntl(memfd, F_SEAL_GROW)"))?;
        Ok(Complaints(memory))
    }

    /// Passes it on to this process' standard error; and gives the last of it, as text.
    fn pass_on(mut self) -> String {
        let mut read = || -> std::io::Result<Vec<u8>> {
            // Whoever writes shares this file's position.
            let length = self.0.stream_position()?;
            self.0.seek(SeekFrom::Start(0))?;
            let mut bytes = Vec::new();
            (&mut self.0).take(length).read_to_end(&mut bytes)?;
            std::io::stderr().write_all(&bytes)?;
            Ok(bytes)
        };
        match read() {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => {
                tracing::debug!(%error, "what a hook wrote to standard error was not passed on");
                String::new()
            }
        }
    }
}

/// The last of what a hook wrote, in one line that leaves room for the rest of an error.
fn ending(written: &str) -> Option<String> {
    const LENGTH: usize = 400;
    let line = written.split_whitespace().collect::<Vec<_>>().join(" ");
    let line: String = line.chars().filter(|character| !character.is_control()).collect();
    let start = line.char_indices().rev().nth(LENGTH).map(|(place, _)| place);
    match start {
        Some(place) => line.get(place..).map(|rest| format!("…{rest}")),
        None => (!line.is_empty()).then_some(line),
    }
}

/// The state to be read, in memory: whoever wrote to a pipe whose other end is closed would be ended by it (SIGPIPE), and
/// the process of a container has the signals as its program will.
fn in_memory(state: &[u8]) -> std::io::Result<File> {
    let mut memory = File::from(memfd_create(c"gabion-state", MFdFlags::MFD_CLOEXEC)?);
    memory.write_all(state)?;
    memory.seek(SeekFrom::Start(0))?;
    Ok(memory)
}

/// Where there is no memory for it (a container's filter may not let its startContainer hooks have any), by a pipe.
fn feed(child: &mut Child, state: &[u8]) -> std::result::Result<(), String> {
    let Some(mut input) = child.stdin.take() else {
        return Ok(());
    };
    match input.write_all(state) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(format!("could not be given the state: {error}")),
    }
}

/// Waits for a hook, `seconds` at most if that is positive, and kills it when they are over.
fn wait(child: &mut Child, seconds: i64) -> std::result::Result<std::process::ExitStatus, String> {
    if seconds > 0 {
        let pid = Pid::from_raw(child.id().cast_signed());
        let process = gabion_sys::process::open(pid).map_err(|error| error.to_string())?;
        let milliseconds = i32::try_from(seconds.saturating_mul(1000)).unwrap_or(i32::MAX);
        let timeout = PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX);
        let ended = poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], timeout)
            .map_err(|errno| format!("could not be waited for: {}", errno.desc()))?;
        if ended == 0 {
            child
                .kill()
                .map_err(|error| format!("ran longer than {seconds} s and could not be killed: {error}"))?;
            child
                .wait()
                .map_err(|error| format!("could not be waited for: {error}"))?;
            return Err(format!(
                "ran longer than its timeout of {seconds} s and was killed"
            ));
        }
    }
    child
        .wait()
        .map_err(|error| format!("could not be waited for: {error}"))
}

#[cfg(test)]
mod tests {
    use gabion_baseline::Given;

    use super::*;

    fn hook(script: &str, timeout: Option<i64>) -> Hook {
        Hook {
            path: "/bin/sh".to_owned(),
            args: Given::Value(vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()]),
            env: Given::Value(vec!["ONLY=this".to_owned()]),
            timeout: timeout.map_or(Given::Absent, Given::Value),
        }
    }

    fn state() -> HookState {
        HookState {
            oci_version: "1.3.0".to_owned(),
            id: "web".to_owned(),
            status: "created".to_owned(),
            pid: Some(7),
            bundle: "/b".into(),
            annotations: BTreeMap::new(),
        }
    }

    #[test]
    fn a_hook_gets_the_state_its_environment_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        let script = format!(
            "{{ cat; echo; pwd; /usr/bin/env; ls /proc/self/fd | wc -l; }} > {}",
            out.display()
        );
        run("poststop", &[hook(&script, None)], &state()).unwrap();
        let text = std::fs::read_to_string(&out).unwrap();
        let mut lines = text.lines();
        let told: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
        assert_eq!(
            told,
            json!({"ociVersion": "1.3.0", "id": "web", "status": "created", "pid": 7, "bundle": "/b"})
        );
        assert_eq!(lines.next(), Some("/"));
        let rest: Vec<&str> = lines.collect();
        assert!(
            rest.contains(&"ONLY=this")
                && !rest
                    .iter()
                    .any(|line| line.starts_with("PATH=/") && line.contains("cargo"))
        );
        // ls has the three standard ones and the directory it lists.
        assert_eq!(rest.last().unwrap().trim(), "4");
    }

    #[test]
    fn a_failing_hook_is_named_and_ends_the_row() {
        let directory = tempfile::tempdir().unwrap();
        let after = directory.path().join("after");
        let second = format!("touch {}", after.display());
        let error = run(
            "poststart",
            &[hook("exit 3", None), hook(&second, None)],
            &state(),
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "error running poststart hook #0: \"/bin/sh\" failed with exit status 3"
        );
        assert!(!after.exists());
    }

    #[test]
    fn the_last_of_what_a_failing_hook_wrote_stands_in_the_error() {
        let told = |script: &str, timeout| {
            run("poststart", &[hook(script, timeout)], &state())
                .unwrap_err()
                .to_string()
        };
        let begin = "error running poststart hook #0: \"/bin/sh\"";
        assert_eq!(
            told(
                "echo ignored; echo no  such >&2; printf 'thing \\033[1m\\n' >&2; exit 3",
                None
            ),
            format!("{begin} failed with exit status 3: no such thing [1m")
        );
        let long = told("yes 0123456789 | head -c 88000 >&2; echo end >&2; exit 1", None);
        assert!(
            long.contains(": …") && long.ends_with(" 0123456789 end") && long.len() < 512,
            "{long}"
        );
        assert_eq!(
            told("echo waiting >&2; exec sleep 600", Some(1)),
            format!("{begin} ran longer than its timeout of 1 s and was killed: waiting")
        );
    }

    #[test]
    fn what_a_hook_leaves_running_is_not_waited_for_and_has_a_limit() {
        let directory = tempfile::tempdir().unwrap();
        let after = directory.path().join("after");
        let script = format!(
            "{{ sleep 1; yes | head -c 9000000 >&2; touch {}; }} & exit 0",
            after.display()
        );
        let begun = std::time::Instant::now();
        run("poststart", &[hook(&script, None)], &state()).unwrap();
        assert!(begun.elapsed() < std::time::Duration::from_millis(900));
        while !after.exists() {
            assert!(begun.elapsed() < std::time::Duration::from_secs(20));
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    #[test]
    fn a_hook_that_takes_too_long_is_killed() {
        let error = run("poststart", &[hook("exec sleep 600", Some(1))], &state()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("ran longer than its timeout of 1 s and was killed")
        );
    }

    #[test]
    fn a_hook_that_does_not_read_its_state_is_no_error() {
        run("poststart", &[hook("exec 0<&-; exit 0", None)], &state()).unwrap();
    }
}
