//! What the shim knows of a container and its processes.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::SystemTime;

use containerd_shim_protos::api::{StateResponse, Status};
use containerd_shim_protos::protobuf::{EnumOrUnknown, MessageField};

use crate::cgroup::Cgroup;
use crate::events::timestamp;
use crate::options::Options;
use crate::shim::Reply;
use crate::stdio::Streams;

/// Names a process: the container, and the exec id, which is empty for its first process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) container: String,
    pub(crate) exec: String,
}

impl Key {
    pub(crate) fn new(container: &str, exec: &str) -> Self {
        Key {
            container: container.to_owned(),
            exec: exec.to_owned(),
        }
    }

    /// The id that events have.
    pub(crate) fn id(&self) -> &str {
        match self.exec.is_empty() {
            true => &self.container,
            false => &self.exec,
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    /// As shells have it: 128 and the signal's number, if it was killed.
    pub(crate) status: u32,
    pub(crate) at: SystemTime,
}

/// How far a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The first process waits for `start`; a further one is only known of.
    Created,
    /// gabion is starting it.
    Starting,
    Running,
    Stopped,
}

/// One process.
#[derive(Debug)]
pub(crate) struct Process {
    /// 0 until there is one.
    pub(crate) pid: i32,
    pub(crate) phase: Phase,
    pub(crate) exit: Option<Exit>,
    /// It ended while it was being started; told once that is answered.
    pub(crate) early: Option<Exit>,
    pub(crate) streams: Streams,
    /// The terminal's master side.
    pub(crate) terminal: Option<OwnedFd>,
    /// Keeps the standard input from ending.
    pub(crate) input: Option<OwnedFd>,
    pub(crate) inputs: Vec<u64>,
    pub(crate) outputs: Vec<u64>,
    pub(crate) waiters: Vec<Reply>,
    /// Whoever asked for its deletion, while its output is still on the way.
    pub(crate) deleting: Option<Reply>,
    /// What an exec runs, as JSON.
    pub(crate) spec: Vec<u8>,
}

impl Process {
    pub(crate) fn new(streams: Streams) -> Self {
        Process {
            pid: 0,
            phase: Phase::Created,
            exit: None,
            early: None,
            streams,
            terminal: None,
            input: None,
            inputs: Vec::new(),
            outputs: Vec::new(),
            waiters: Vec::new(),
            deleting: None,
            spec: Vec::new(),
        }
    }
}

/// One container.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) options: Options,
    pub(crate) init: Process,
    pub(crate) execs: BTreeMap<String, Process>,
    pub(crate) cgroup: Option<Cgroup>,
    pub(crate) paused: bool,
    /// The kernel ends its processes with the first one: it has a pid namespace of its own.
    pub(crate) ends_together: bool,
    /// The images of a checkpoint that `Start` restores it from; there is nothing of it before.
    pub(crate) images: Option<PathBuf>,
    /// gabion has deleted it already: its checkpoint was its end.
    pub(crate) checkpointed: bool,
    pub(crate) watch: Option<u64>,
}

impl Container {
    pub(crate) fn process(&mut self, exec: &str) -> Option<&mut Process> {
        match exec.is_empty() {
            true => Some(&mut self.init),
            false => self.execs.get_mut(exec),
        }
    }

    /// All processes, by exec id.
    pub(crate) fn processes(&self) -> impl Iterator<Item = (&str, &Process)> {
        let execs = self.execs.iter().map(|(id, process)| (id.as_str(), process));
        std::iter::once(("", &self.init)).chain(execs)
    }

    pub(crate) fn processes_mut(&mut self) -> impl Iterator<Item = &mut Process> {
        std::iter::once(&mut self.init).chain(self.execs.values_mut())
    }

    /// The state that containerd is told.
    pub(crate) fn state(&self, exec: &str) -> Option<StateResponse> {
        let process = match exec.is_empty() {
            true => &self.init,
            false => self.execs.get(exec)?,
        };
        let status = match process.phase {
            Phase::Created | Phase::Starting => Status::CREATED,
            Phase::Running if self.paused && exec.is_empty() => Status::PAUSED,
            Phase::Running => Status::RUNNING,
            Phase::Stopped => Status::STOPPED,
        };
        let mut state = StateResponse::new();
        state.id = self.id.clone();
        state.exec_id = exec.to_owned();
        state.bundle = self.bundle.to_string_lossy().into_owned();
        state.pid = process.pid as u32;
        state.status = EnumOrUnknown::new(status);
        state.stdin = process.streams.stdin.clone();
        state.stdout = process.streams.stdout.clone();
        state.stderr = process.streams.stderr.clone();
        state.terminal = process.streams.terminal;
        if let Some(exit) = process.exit {
            state.exit_status = exit.status;
            state.exited_at = MessageField::some(timestamp(exit.at));
        }
        Some(state)
    }
}
