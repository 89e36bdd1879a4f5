//! The task service: containerd's calls, one by one.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use containerd_shim_protos::api;
use containerd_shim_protos::events::task as event;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::oci;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cgroup::Cgroup;
use crate::events::timestamp;
use crate::process::{Container, Exit, Key, Process};
use crate::runtime::{self};
use crate::shim::{Due, Reply, Shim};
use crate::stdio::{self};
use crate::wire::{Answer, Code, Fault, encode};

mod create;
mod end;
mod start;

/// Version 3, of containerd 2, has the same messages.
const SERVICES: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];

/// How long the end waits for containerd to take the last events.
const LAST_EVENTS: Duration = Duration::from_secs(1);

/// CRIU's directory for its log, in a bundle.
const CRIU: &str = "criu-work";

/// An answer now, or `None` for one that comes later.
type Outcome = Result<Option<Vec<u8>>, Fault>;

fn now(answer: Answer) -> Outcome {
    answer.map(Some)
}

fn done() -> Outcome {
    Ok(Some(Vec::new()))
}

fn parse<M: Message>(payload: &[u8]) -> Result<M, Fault> {
    M::parse_from_bytes(payload)
        .map_err(|error| Fault::invalid(format!("the request cannot be read: {error}")))
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

/// runc's shim has these words before the runtime's own, and docker reads them.
fn failed(what: &'static str) -> impl Fn(String) -> Fault {
    move |error| Fault::unknown(format!("OCI runtime {what} failed: {error}"))
}

/// Ids become names of files in the bundle.
fn check_id(id: &str) -> Result<(), Fault> {
    if id.is_empty() || id.contains('/') || id.starts_with('.') {
        return Err(Fault::invalid(format!("{id:?} is no id")));
    }
    Ok(())
}

impl Shim {
    /// Makes a call of containerd's.
    pub(crate) fn call(&mut self, reply: Reply, service: &str, method: &str, payload: &[u8]) {
        let outcome = match SERVICES.contains(&service) {
            true => self.method(reply, method, payload),
            false => Err(Fault::new(
                Code::UNIMPLEMENTED,
                format!("service {service} is not implemented"),
            )),
        };
        match outcome {
            Ok(None) => {}
            Ok(Some(bytes)) => self.answer(reply, Ok(bytes)),
            Err(fault) => self.answer(reply, Err(fault)),
        }
    }

    fn method(&mut self, reply: Reply, method: &str, payload: &[u8]) -> Outcome {
        match method {
            "State" => self.state(&parse(payload)?),
            "Create" => self.create(reply, parse(payload)?),
            "Start" => self.start(reply, &parse(payload)?),
            "Delete" => self.delete(reply, &parse(payload)?),
            "Pids" => self.pids(&parse(payload)?),
            "Pause" => {
                let request: api::PauseRequest = parse(payload)?;
                self.freeze(reply, &request.id, true)
            }
            "Resume" => {
                let request: api::ResumeRequest = parse(payload)?;
                self.freeze(reply, &request.id, false)
            }
            "Checkpoint" => self.checkpoint(reply, &parse(payload)?),
            "Kill" => self.kill(reply, &parse(payload)?),
            "Exec" => self.exec(parse(payload)?),
            "ResizePty" => self.resize(&parse(payload)?),
            "CloseIO" => self.close_io(&parse(payload)?),
            "Update" => self.update(reply, &parse(payload)?),
            "Wait" => self.wait(reply, &parse(payload)?),
            "Stats" => self.stats(&parse(payload)?),
            "Connect" => self.connect(&parse(payload)?),
            "Shutdown" => self.shutdown(),
            other => Err(Fault::new(
                Code::UNIMPLEMENTED,
                format!("method {other} is not implemented"),
            )),
        }
    }

    fn container(&mut self, id: &str) -> Result<&mut Container, Fault> {
        self.containers
            .get_mut(id)
            .ok_or_else(|| Fault::not_found(format!("no container {id:?} in this shim: not found")))
    }

    fn known(&mut self, key: &Key) -> Result<&mut Process, Fault> {
        self.container(&key.container)?.process(&key.exec).ok_or_else(|| {
            Fault::not_found(format!(
                "no process {:?} in {:?}: not found",
                key.exec, key.container
            ))
        })
    }

    fn event<M: Message>(&mut self, topic: &str, kind: &str, message: &M) {
        self.publisher.queue(topic, kind, message);
        self.publish();
    }

    fn state(&mut self, request: &api::StateRequest) -> Outcome {
        let container = self.container(&request.id)?;
        let state = container.state(&request.exec_id).ok_or_else(|| {
            Fault::not_found(format!(
                "no process {:?} in {:?}: not found",
                request.exec_id, request.id
            ))
        })?;
        now(encode(&state))
    }

    fn pids(&mut self, request: &api::PidsRequest) -> Outcome {
        let container = self.container(&request.id)?;
        let mut pids = container
            .cgroup
            .as_ref()
            .map(Cgroup::processes)
            .unwrap_or_default();
        // A first process whose end nobody has asked for yet is listed until it is deleted: containerd, started again,
        // takes a shim without processes for one that was left behind, and ends it, exit status and all (1.7 and later).
        if pids.is_empty() {
            pids.push(container.init.pid);
        }
        let mut answer = api::PidsResponse::new();
        for pid in pids {
            let mut info = api::ProcessInfo::new();
            info.pid = pid as u32;
            if let Some((exec, _)) = container.execs.iter().find(|(_, process)| process.pid == pid) {
                let mut details = oci::ProcessDetails::new();
                details.exec_id = exec.clone();
                info.info = MessageField::some(Any {
                    type_url: "containerd.runc.v1.ProcessDetails".to_owned(),
                    value: encode(&details)?,
                    ..Any::default()
                });
            }
            answer.processes.push(info);
        }
        now(encode(&answer))
    }

    /// Calls gabion for a container, and answers with nothing.
    fn simple(
        &mut self,
        reply: Reply,
        id: &str,
        line: &[OsString],
        what: &'static str,
        stdin: std::process::Stdio,
        then: impl FnOnce(&mut Shim, &str) + 'static,
    ) -> Outcome {
        let container = self.container(id)?;
        let (options, bundle, id) = (container.options.clone(), container.bundle.clone(), id.to_owned());
        let [_, stdout, stderr] = runtime::nowhere();
        self.gabion(
            &options,
            &bundle,
            line,
            [stdin, stdout, stderr],
            move |shim, outcome| match outcome {
                Ok(()) => {
                    then(shim, &id);
                    shim.answer(reply, Ok(Vec::new()));
                }
                Err(error) => shim.answer(reply, Err(failed(what)(error))),
            },
        )?;
        Ok(None)
    }

    fn freeze(&mut self, reply: Reply, id: &str, pause: bool) -> Outcome {
        let what = if pause { "pause" } else { "resume" };
        let stdin = std::process::Stdio::null();
        self.simple(reply, id, &words(&[what, id]), what, stdin, move |shim, id| {
            if let Some(container) = shim.containers.get_mut(id) {
                container.paused = pause;
            }
            if pause {
                let mut told = event::TaskPaused::new();
                told.container_id = id.to_owned();
                shim.event("/tasks/paused", "TaskPaused", &told);
            } else {
                let mut told = event::TaskResumed::new();
                told.container_id = id.to_owned();
                shim.event("/tasks/resumed", "TaskResumed", &told);
            }
        })
    }

    fn checkpoint(&mut self, reply: Reply, request: &api::CheckpointTaskRequest) -> Outcome {
        let options = match request.options.as_ref() {
            Some(any) => parse::<oci::CheckpointOptions>(&any.value)?,
            None => oci::CheckpointOptions::new(),
        };
        // Before 1.7, containerd minds it for runc's shim alone. Written there, nothing would be in the image that it makes.
        if !options.image_path.is_empty() && options.image_path != request.path {
            return Err(Fault::invalid(
                "a path for images is not supported by this containerd, but for runc's shim; without one, it makes an \
                 image of its own of them",
            ));
        }
        let mut line = words(&["checkpoint", "--image-path", &request.path]);
        for (on, flag) in [
            (!options.exit, "--leave-running"),
            (options.open_tcp, "--tcp-established"),
            (options.external_unix_sockets, "--ext-unix-sk"),
            (options.terminal, "--shell-job"),
            (options.file_locks, "--file-locks"),
        ] {
            line.extend(on.then(|| flag.into()));
        }
        for kind in &options.empty_namespaces {
            line.extend(["--empty-ns".into(), kind.into()]);
        }
        if !options.cgroups_mode.is_empty() {
            line.extend(["--manage-cgroups-mode".into(), options.cgroups_mode.into()]);
        }
        // Beside the images, CRIU's log would become a part of them. It is kept if it says why there are none.
        let log = self.container(&request.id)?.bundle.join(CRIU);
        let work = match options.work_path.is_empty() {
            true => log.clone().into(),
            false => options.work_path.into(),
        };
        line.extend(["--work-path".into(), work, (&request.id).into()]);
        let (path, stdin) = (request.path.clone(), std::process::Stdio::null());
        let ends = options.exit;
        self.simple(reply, &request.id, &line, "checkpoint", stdin, move |shim, id| {
            drop(std::fs::remove_dir_all(log));
            if let Some(container) = shim.containers.get_mut(id) {
                container.checkpointed = ends;
                container.paused &= !ends;
            }
            let mut told = event::TaskCheckpointed::new();
            (told.container_id, told.checkpoint) = (id.to_owned(), path);
            shim.event("/tasks/checkpointed", "TaskCheckpointed", &told);
        })
    }

    fn update(&mut self, reply: Reply, request: &api::UpdateTaskRequest) -> Outcome {
        let Some(resources) = request.resources.as_ref() else {
            return Err(Fault::invalid("an update without resources"));
        };
        let stdin = stdio::in_memory(&resources.value)
            .map_err(|error| Fault::system("cannot keep the resources", error))?;
        let line = words(&["update", "--resources", "-", &request.id]);
        self.simple(reply, &request.id, &line, "update", stdin, |_, _| {})
    }

    fn kill(&mut self, reply: Reply, request: &api::KillRequest) -> Outcome {
        let key = Key::new(&request.id, &request.exec_id);
        let paused = self.container(&request.id)?.paused;
        let process = self.known(&key)?;
        let finished = || Fault::not_found("process already finished: not found");
        if process.pid == 0 {
            return Err(Fault::precondition(format!("{:?} was not started", key.id())));
        }
        let ended = process.exit.is_some() || process.early.is_some();
        if ended && !request.all {
            return Err(finished());
        }
        let pid = process.pid;
        let frozen = paused && key.exec.is_empty();
        if !request.all && !frozen {
            // Its parent is this process, which has not taken its status yet: the number is still its own.
            return match signal_number(pid, request.signal) {
                Ok(()) => done(),
                Err(Errno::ESRCH) => Err(finished()),
                Err(Errno::EINVAL) => Err(Fault::invalid(format!("there is no signal {}", request.signal))),
                Err(errno) => Err(Fault::system("cannot send the signal", errno.desc())),
            };
        }
        let mut line = words(&["kill"]);
        line.extend(request.all.then(|| "--all".into()));
        line.extend([(&request.id).into(), request.signal.to_string().into()]);
        let container = self.container(&request.id)?;
        let (options, bundle) = (container.options.clone(), container.bundle.clone());
        self.gabion(
            &options,
            &bundle,
            &line,
            runtime::nowhere(),
            move |shim, outcome| {
                let ended = shim
                    .process(&key)
                    .is_none_or(|process| process.exit.is_some() || process.early.is_some());
                let answer = match outcome {
                    Ok(()) => Ok(Vec::new()),
                    Err(_) if ended => Err(Fault::not_found("process already finished: not found")),
                    Err(error) => Err(failed("kill")(error)),
                };
                shim.answer(reply, answer);
            },
        )?;
        Ok(None)
    }

    fn resize(&mut self, request: &api::ResizePtyRequest) -> Outcome {
        let process = self.known(&Key::new(&request.id, &request.exec_id))?;
        if let Some(terminal) = &process.terminal {
            let (rows, columns) = (request.height as u16, request.width as u16);
            gabion_sys::terminal::resize(terminal.as_fd(), rows, columns)
                .map_err(|error| Fault::system("cannot resize the terminal", error))?;
        }
        done()
    }

    fn close_io(&mut self, request: &api::CloseIORequest) -> Outcome {
        let process = self.known(&Key::new(&request.id, &request.exec_id))?;
        if request.stdin {
            process.input = None;
        }
        done()
    }

    fn stats(&mut self, request: &api::StatsRequest) -> Outcome {
        let container = self.container(&request.id)?;
        let cgroup = container.cgroup.as_ref().ok_or_else(|| {
            Fault::not_found(format!("{:?} has no cgroup of its own: not found", request.id))
        })?;
        let mut answer = api::StatsResponse::new();
        answer.stats = MessageField::some(cgroup.metrics().map_err(Fault::unknown)?);
        now(encode(&answer))
    }

    fn connect(&mut self, request: &api::ConnectRequest) -> Outcome {
        let mut answer = api::ConnectResponse::new();
        answer.shim_pid = std::process::id();
        answer.task_pid = self
            .containers
            .get(&request.id)
            .map_or(0, |container| container.init.pid as u32);
        answer.version = env!("CARGO_PKG_VERSION").to_owned();
        now(encode(&answer))
    }

    /// The end of the shim, unless it has containers: those of a pod are shut down one by one.
    fn shutdown(&mut self) -> Outcome {
        if self.containers.is_empty() {
            self.ending = true;
            self.later(LAST_EVENTS, Due::End);
        }
        done()
    }

    /// The kernel has killed for lack of memory.
    pub(crate) fn out_of_memory(&mut self, id: &str) {
        let mut told = event::TaskOOM::new();
        told.container_id = id.to_owned();
        self.event("/tasks/oom", "TaskOOM", &told);
    }
}

fn wait_answer(exit: Exit) -> Answer {
    let mut answer = api::WaitResponse::new();
    answer.exit_status = exit.status;
    answer.exited_at = MessageField::some(timestamp(exit.at));
    encode(&answer)
}

/// kill(2) by numbers, since real-time signals have no name.
fn signal_number(pid: i32, number: u32) -> nix::Result<()> {
    match Signal::try_from(number as i32) {
        Ok(signal) => kill(Pid::from_raw(pid), signal),
        Err(_) => {
            let process = gabion_sys::process::open(Pid::from_raw(pid)).map_err(|error| error.errno)?;
            gabion_sys::process::signal(process, number as i32).map_err(|error| error.errno)
        }
    }
}

/// A bundle's config.json, for what the shim itself has to know; gabion reads and judges it on its own.
pub(crate) fn config(bundle: &Path) -> Option<serde_json::Value> {
    serde_json::from_slice(&std::fs::read(bundle.join("config.json")).ok()?).ok()
}
