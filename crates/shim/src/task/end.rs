//! `Wait`, `Delete`, and what happens when a process ends.

use std::time::{Duration, SystemTime};

use containerd_shim_protos::api;
use containerd_shim_protos::events::task as event;
use containerd_shim_protos::protobuf::MessageField;
use nix::sys::signal::Signal;

use super::{Outcome, failed, now, wait_answer, words};
use crate::events::timestamp;
use crate::process::{Exit, Key, Phase};
use crate::runtime::{self};
use crate::shim::{Due, Reply, Shim};
use crate::wire::{Fault, encode};

/// How long a deletion waits for output that somebody outside of the container still holds open, as runc's shim does;
/// and an exit, for somebody who reads the output.
const STREAMS: Duration = Duration::from_secs(2);

impl Shim {
    /// A process has ended.
    pub(crate) fn exited(&mut self, key: &Key, exit: Exit) {
        let Some(process) = self.process(key) else {
            return;
        };
        if process.phase == Phase::Starting {
            process.early = Some(exit);
            return;
        }
        // Not told yet, but it will not be asked to end again.
        process.early = Some(exit);
        let Some(container) = self.containers.get(&key.container) else {
            return;
        };
        if key.exec.is_empty() && !container.ends_together {
            let (options, bundle) = (container.options.clone(), container.bundle.clone());
            let (line, later) = (words(&["kill", "--all", &key.container, "KILL"]), key.clone());
            let begun = self.gabion(
                &options,
                &bundle,
                &line,
                runtime::nowhere(),
                move |shim, outcome| {
                    if let Err(error) = outcome {
                        shim.log(&format!(
                            "the rest of {:?} could not be ended: {error}",
                            later.container
                        ));
                    }
                    shim.tell_exit(&later, exit);
                },
            );
            if begun.is_ok() {
                return;
            }
        }
        self.tell_exit(key, exit);
    }

    /// Tells an exit, once somebody is there for the output: whoever is told may stop waiting for the FIFOs to open.
    /// runc's shim has them open before it starts a process.
    pub(super) fn tell_exit(&mut self, key: &Key, exit: Exit) {
        let Some(process) = self.process(key) else {
            return;
        };
        process.early = Some(exit);
        let outputs = process.outputs.clone();
        self.carry_all(&outputs);
        match self.unheard(&outputs) {
            true => self.later(STREAMS, Due::Exit(key.clone())),
            false => self.tell_exit_now(key, exit),
        }
    }

    /// A stream's reader has come; an exit may have waited for it.
    pub(crate) fn heard(&mut self, key: &Key) {
        let Some(process) = self.process(key) else {
            return;
        };
        let outputs = process.outputs.clone();
        if !self.unheard(&outputs) && self.waits_for_reader(key) {
            self.told_anyway(key);
        }
    }

    /// An exit that waited for a reader is told.
    pub(crate) fn told_anyway(&mut self, key: &Key) {
        if let Some(exit) = self.process(key).and_then(|process| process.early) {
            self.tell_exit_now(key, exit);
        }
    }

    fn tell_exit_now(&mut self, key: &Key, exit: Exit) {
        let Some(process) = self.process(key) else {
            return;
        };
        process.early = None;
        process.exit = Some(exit);
        process.phase = Phase::Stopped;
        process.input = None;
        let (pid, inputs) = (process.pid as u32, std::mem::take(&mut process.inputs));
        let waiters = std::mem::take(&mut process.waiters);
        self.cut(inputs);
        let mut told = event::TaskExit::new();
        told.container_id = key.container.clone();
        told.id = key.id().to_owned();
        told.pid = pid;
        told.exit_status = exit.status;
        told.exited_at = MessageField::some(timestamp(exit.at));
        self.event("/tasks/exit", "TaskExit", &told);
        for reply in waiters {
            self.answer(reply, wait_answer(exit));
        }
    }

    pub(super) fn wait(&mut self, reply: Reply, request: &api::WaitRequest) -> Outcome {
        let process = self.known(&Key::new(&request.id, &request.exec_id))?;
        match process.exit {
            Some(exit) => now(wait_answer(exit)),
            None => {
                process.waiters.push(reply);
                Ok(None)
            }
        }
    }

    pub(super) fn delete(&mut self, reply: Reply, request: &api::DeleteRequest) -> Outcome {
        let key = Key::new(&request.id, &request.exec_id);
        let process = self.known(&key)?;
        if matches!(process.phase, Phase::Running | Phase::Starting) {
            return Err(Fault::precondition(format!(
                "cannot delete {:?}: it is running",
                key.id()
            )));
        }
        if process.deleting.is_some() {
            return Err(Fault::precondition(format!("{:?} is being deleted", key.id())));
        }
        process.deleting = Some(reply);
        if !key.exec.is_empty() {
            self.finish_delete(&key);
            return Ok(None);
        }
        let stopped = process.phase == Phase::Stopped;
        let container = self.container(&key.container)?;
        let (options, bundle) = (container.options.clone(), container.bundle.clone());
        // Forced, it is no error if there is nothing to delete any more.
        let line = match stopped && !container.checkpointed {
            true => words(&["delete", &key.container]),
            false => words(&["delete", "--force", &key.container]),
        };
        let deleted = key.clone();
        let begun = self.gabion(
            &options,
            &bundle,
            &line,
            runtime::nowhere(),
            move |shim, outcome| match outcome {
                Ok(()) => shim.finish_delete(&deleted),
                // It went with its poststart hook, or somebody deleted it by hand.
                Err(error) if error.contains("container does not exist") => shim.finish_delete(&deleted),
                Err(error) => {
                    if let Some(process) = shim.process(&deleted) {
                        process.deleting = None;
                    }
                    shim.answer(reply, Err(failed("delete")(error)));
                }
            },
        );
        if begun.is_err()
            && let Some(process) = self.process(&key)
        {
            process.deleting = None;
        }
        begun.map(|()| None)
    }

    /// Ends a deletion once the output has been carried.
    pub(super) fn finish_delete(&mut self, key: &Key) {
        let Some(process) = self.process(key) else {
            return;
        };
        let outputs = process.outputs.clone();
        if self.nobody_reads(&outputs) {
            self.deleted(key);
        } else {
            self.later(STREAMS, Due::Streams(key.clone()));
        }
    }

    /// One stream of a process has come to its end.
    pub(crate) fn stream_ended(&mut self, token: u64, key: &Key) {
        let Some(process) = self.process(key) else {
            return;
        };
        process.inputs.retain(|other| *other != token);
        process.outputs.retain(|other| *other != token);
        self.stream_waits(key);
    }

    /// Nothing more is carried for a stream, until somebody reads it.
    pub(crate) fn stream_waits(&mut self, key: &Key) {
        let Some(process) = self.process(key) else {
            return;
        };
        let (outputs, deleting) = (process.outputs.clone(), process.deleting.is_some());
        // Whoever waits for output and not for gabion waits in `Due::Streams`.
        if deleting && self.nobody_reads(&outputs) && self.waits_for_streams(key) {
            self.deleted(key);
        }
    }

    /// Output that is still held open when a deletion is due is given up.
    pub(crate) fn give_up_streams(&mut self, key: &Key) {
        if self
            .process(key)
            .is_some_and(|process| process.deleting.is_some())
        {
            self.deleted(key);
        }
    }

    pub(super) fn deleted(&mut self, key: &Key) {
        let Some(process) = self.process(key) else {
            return;
        };
        let (pid, exit) = (process.pid as u32, process.exit);
        let (reply, outputs) = (process.deleting.take(), std::mem::take(&mut process.outputs));
        self.cut(outputs);
        let exit = exit.unwrap_or(Exit {
            status: 128 + Signal::SIGKILL as u32,
            at: SystemTime::now(),
        });
        if key.exec.is_empty() {
            if let Some(mut container) = self.containers.remove(&key.container) {
                self.let_go(&mut container);
                self.unmount(&container.bundle);
            }
            let mut told = event::TaskDelete::new();
            told.container_id = key.container.clone();
            told.pid = pid;
            told.exit_status = exit.status;
            told.exited_at = MessageField::some(timestamp(exit.at));
            self.event("/tasks/delete", "TaskDelete", &told);
        } else if let Some(container) = self.containers.get_mut(&key.container) {
            container.execs.remove(&key.exec);
        }
        if let Some(reply) = reply {
            let mut answer = api::DeleteResponse::new();
            answer.pid = pid;
            answer.exit_status = exit.status;
            answer.exited_at = MessageField::some(timestamp(exit.at));
            self.answer(reply, encode(&answer));
        }
    }
}
