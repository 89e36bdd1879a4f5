//! `Start` and `Exec`: the first process goes on, a further one is made.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use containerd_shim_protos::api;
use containerd_shim_protos::events::task as event;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::create::Ends;
use super::{CRIU, Outcome, check_id, done, failed, wait_answer, words};
use crate::cgroup::Cgroup;
use crate::process::{Exit, Key, Phase, Process};
use crate::runtime;
use crate::shim::{Reply, Shim};
use crate::stdio::Streams;
use crate::wire::{Code, Fault, encode};

impl Shim {
    pub(super) fn start(&mut self, reply: Reply, request: &api::StartRequest) -> Outcome {
        let key = Key::new(&request.id, &request.exec_id);
        let process = self.known(&key)?;
        if process.phase != Phase::Created {
            return Err(Fault::precondition(format!(
                "{:?} cannot be started: it was started before",
                key.id()
            )));
        }
        process.phase = Phase::Starting;
        let begun = match key.exec.is_empty() {
            true => self.start_init(reply, &key),
            false => self.start_exec(reply, &key),
        };
        if begun.is_err()
            && let Some(process) = self.process(&key)
        {
            process.phase = Phase::Created;
        }
        begun.map(|()| None)
    }

    pub(super) fn start_init(&mut self, reply: Reply, key: &Key) -> Result<(), Fault> {
        let container = self.container(&key.container)?;
        if let Some(images) = container.images.clone() {
            return self.restore(reply, key, images);
        }
        let (options, bundle) = (container.options.clone(), container.bundle.clone());
        let (line, key) = (words(&["start", &key.container]), key.clone());
        self.gabion(
            &options,
            &bundle,
            &line,
            runtime::nowhere(),
            move |shim, outcome| {
                let outcome = outcome.map_err(failed("start"));
                shim.started(reply, &key, outcome);
            },
        )
    }

    /// Starts a container that was created from a checkpoint: there is nothing of it before.
    fn restore(&mut self, reply: Reply, key: &Key, images: PathBuf) -> Result<(), Fault> {
        let container = self.container(&key.container)?;
        let (options, bundle) = (container.options.clone(), container.bundle.clone());
        let streams = container.init.streams.clone();
        let (child, ends) = self.prepare(key, &streams, options.io_owner)?;
        let pid_file = bundle.join("init.pid");
        // Locks are kept, as ctr has them kept by a checkpoint; containerd has no words for what a restore is to keep.
        let mut line = words(&["restore", "--detach", "--file-locks", "--bundle"]);
        line.extend([
            bundle.clone().into(),
            "--image-path".into(),
            images.into(),
            "--work-path".into(),
            bundle.join(CRIU).into(),
            "--pid-file".into(),
            pid_file.clone().into(),
        ]);
        line.extend(options.no_pivot.then(|| "--no-pivot".into()));
        line.extend(ends.flags());
        line.push((&key.container).into());
        let key = key.clone();
        self.gabion(&options, &bundle, &line, child, move |shim, outcome| {
            let outcome = outcome
                .map_err(failed("restore"))
                .and_then(|()| shim.restored(&key, ends, &pid_file));
            shim.started(reply, &key, outcome);
        })
    }

    /// gabion has restored the container.
    fn restored(&mut self, key: &Key, ends: Ends, pid_file: &Path) -> Result<(), Fault> {
        let outcome = self.begun(key, ends, pid_file);
        let container = self.container(&key.container)?;
        container.images = None;
        if outcome.is_err() && container.init.pid != 0 {
            // It runs, but without its streams. Its end is told as any other.
            kill(Pid::from_raw(container.init.pid), Signal::SIGKILL).unwrap_or_default();
        }
        outcome.map(drop)
    }

    pub(super) fn start_exec(&mut self, reply: Reply, key: &Key) -> Result<(), Fault> {
        let container = self.container(&key.container)?;
        if container.init.exit.is_some() {
            return Err(Fault::precondition(format!(
                "cannot exec in {:?}: it has stopped",
                key.container
            )));
        }
        let (options, bundle) = (container.options.clone(), container.bundle.clone());
        let process = self.known(key)?;
        let (spec, streams) = (process.spec.clone(), process.streams.clone());
        Cgroup::prepare_to_move();
        let (child, ends) = self.prepare(key, &streams, options.io_owner)?;
        let number = self.number();
        let spec_file = bundle.join(format!("exec-{number}.json"));
        let pid_file = bundle.join(format!("exec-{number}.pid"));
        std::fs::write(&spec_file, spec).map_err(|error| Fault::system("cannot write the process", error))?;
        let mut line = words(&["exec", "--process"]);
        line.extend([
            spec_file.clone().into(),
            "--detach".into(),
            "--pid-file".into(),
            pid_file.clone().into(),
        ]);
        line.extend(ends.flags());
        line.push((&key.container).into());
        let (key, file) = (key.clone(), spec_file.clone());
        let begun = self.gabion(&options, &bundle, &line, child, move |shim, outcome| {
            let outcome = outcome
                .map_err(failed("exec"))
                .and_then(|()| shim.executed(&key, ends, &pid_file));
            for path in [file, pid_file] {
                drop(std::fs::remove_file(path));
            }
            shim.started(reply, &key, outcome);
        });
        if begun.is_err() {
            drop(std::fs::remove_file(spec_file));
        }
        begun
    }

    /// gabion has started a further process.
    pub(super) fn executed(&mut self, key: &Key, ends: Ends, pid_file: &Path) -> Result<(), Fault> {
        let pid = runtime::read_pid(pid_file).map_err(Fault::unknown)?;
        let early = self.stray(pid);
        let process = self.known(key)?;
        (process.pid, process.early) = (pid, early);
        self.connect_streams(key, ends)
    }

    /// A start is over: it is told, and then what happened meanwhile.
    pub(super) fn started(&mut self, reply: Reply, key: &Key, outcome: Result<(), Fault>) {
        let Some(process) = self.process(key) else {
            return self.answer(
                reply,
                Err(Fault::not_found(format!("{:?} was deleted: not found", key.id()))),
            );
        };
        let (pid, early) = (process.pid as u32, process.early.take());
        match outcome {
            Ok(()) => {
                process.phase = Phase::Running;
                if key.exec.is_empty() {
                    let mut told = event::TaskStart::new();
                    (told.container_id, told.pid) = (key.container.clone(), pid);
                    self.event("/tasks/start", "TaskStart", &told);
                } else {
                    let mut told = event::TaskExecStarted::new();
                    (told.container_id, told.exec_id, told.pid) =
                        (key.container.clone(), key.exec.clone(), pid);
                    self.event("/tasks/exec-started", "TaskExecStarted", &told);
                }
                let mut answer = api::StartResponse::new();
                answer.pid = pid;
                self.answer(reply, encode(&answer));
            }
            Err(fault) => {
                process.phase = Phase::Created;
                self.answer(reply, Err(fault));
                if !key.exec.is_empty() {
                    return self.never_ran(key);
                }
            }
        }
        if let Some(exit) = early {
            self.exited(key, exit);
        }
    }

    /// A further process that could not be started has ended, with what shells have for that. There is no event: it
    /// never was.
    pub(super) fn never_ran(&mut self, key: &Key) {
        let Some(process) = self.process(key) else {
            return;
        };
        let exit = Exit {
            status: 127,
            at: SystemTime::now(),
        };
        if process.pid != 0 {
            // It runs, but without its streams.
            kill(Pid::from_raw(process.pid), Signal::SIGKILL).unwrap_or_default();
        }
        (process.phase, process.exit, process.input) = (Phase::Stopped, Some(exit), None);
        let tokens = process
            .inputs
            .drain(..)
            .chain(process.outputs.drain(..))
            .collect();
        let waiters = std::mem::take(&mut process.waiters);
        self.cut(tokens);
        for reply in waiters {
            self.answer(reply, wait_answer(exit));
        }
    }

    pub(super) fn exec(&mut self, request: api::ExecProcessRequest) -> Outcome {
        check_id(&request.exec_id)?;
        let container = self.container(&request.id)?;
        if container.execs.contains_key(&request.exec_id) {
            return Err(Fault::new(
                Code::ALREADY_EXISTS,
                format!("process {:?} exists: already exists", request.exec_id),
            ));
        }
        if container.init.exit.is_some() {
            return Err(Fault::precondition(format!(
                "cannot exec in {:?}: it has stopped",
                request.id
            )));
        }
        let mut process = Process::new(Streams {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        });
        process.spec = request
            .spec
            .into_option()
            .map(|any| any.value)
            .unwrap_or_default();
        container.execs.insert(request.exec_id.clone(), process);
        let mut told = event::TaskExecAdded::new();
        (told.container_id, told.exec_id) = (request.id, request.exec_id);
        self.event("/tasks/exec-added", "TaskExecAdded", &told);
        done()
    }
}
