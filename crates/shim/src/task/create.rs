//! `Create`: a root file system, streams, and gabion.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use containerd_shim_protos::api;
use containerd_shim_protos::events::task as event;
use containerd_shim_protos::protobuf::MessageField;

use super::{Outcome, check_id, config, failed, now, words};
use crate::cgroup::Cgroup;
use crate::options::Options;
use crate::process::{Container, Key, Process};
use crate::rootfs;
use crate::runtime::{self, Console};
use crate::shim::{Reply, SOCKETS, Shim};
use crate::stdio::{self, Opened, Streams, Whose};
use crate::wire::{Answer, Code, Fault, encode};

/// The shim's ends of the streams of a process that is about to be started, or where its terminal arrives.
pub(super) struct Ends {
    pumps: Vec<stdio::Pump>,
    input: Option<OwnedFd>,
    console: Option<Console>,
}

impl Ends {
    /// What gabion is told of them.
    pub(super) fn flags(&self) -> impl Iterator<Item = OsString> {
        let console = self.console.iter();
        console.flat_map(|console| ["--console-socket".into(), console.path().into()])
    }
}

impl Shim {
    pub(super) fn create(&mut self, reply: Reply, request: api::CreateTaskRequest) -> Outcome {
        check_id(&request.id)?;
        if self.containers.contains_key(&request.id) {
            return Err(Fault::new(
                Code::ALREADY_EXISTS,
                format!("container {:?} exists: already exists", request.id),
            ));
        }
        let bundle = PathBuf::from(&request.bundle);
        let mut options = Options::new(request.options.as_ref(), &self.arguments.namespace, &self.called)
            .map_err(Fault::invalid)?;
        let spec = config(&bundle);
        options.settle_cgroup(spec.as_ref());
        Cgroup::prepare_to_move();
        options.save(&bundle).map_err(Fault::unknown)?;
        rootfs::mount_all(&request.rootfs, &bundle).map_err(Fault::unknown)?;
        let streams = Streams {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            terminal: request.terminal,
        };
        let images = (!request.checkpoint.is_empty()).then(|| PathBuf::from(&request.checkpoint));
        let container = Container {
            id: request.id.clone(),
            ends_together: has_own_processes(spec.as_ref()),
            bundle: bundle.clone(),
            options: options.clone(),
            init: Process::new(streams.clone()),
            execs: std::collections::BTreeMap::new(),
            cgroup: None,
            paused: false,
            watch: None,
            images,
            checkpointed: false,
        };
        if container.images.is_some() {
            // CRIU makes and starts a container at once, so there is nothing to call before `Start`.
            self.containers.insert(request.id.clone(), container);
            return now(self.tell_created(&request, 0));
        }
        let key = Key::new(&request.id, "");
        let pid_file = bundle.join("init.pid");
        let prepared = self.prepare(&key, &streams, options.io_owner);
        let begun = prepared.and_then(|(child, ends)| {
            let mut line = words(&["create", "--bundle"]);
            line.extend([
                bundle.clone().into(),
                "--pid-file".into(),
                pid_file.clone().into(),
            ]);
            line.extend(options.no_pivot.then(|| "--no-pivot".into()));
            line.extend(options.no_new_keyring.then(|| "--no-new-keyring".into()));
            line.extend(ends.flags());
            line.push((&request.id).into());
            self.gabion(&options, &bundle, &line, child, move |shim, outcome| {
                let bundle = container.bundle.clone();
                let outcome = outcome.map_err(failed("create")).and_then(|()| {
                    shim.containers.insert(key.container.clone(), container);
                    shim.begun(&key, ends, &pid_file)
                });
                match outcome {
                    Ok(pid) => {
                        let answer = shim.tell_created(&request, pid);
                        shim.answer(reply, answer);
                    }
                    Err(fault) => shim.uncreate(reply, &key.container, &bundle, fault),
                }
            })
        });
        if let Err(fault) = begun {
            self.unmount(&bundle);
            return Err(fault);
        }
        Ok(None)
    }

    /// Tells of a container that is there; what the call is answered with. The process id is 0 if there is no process yet.
    fn tell_created(&mut self, request: &api::CreateTaskRequest, pid: u32) -> Answer {
        let mut told = event::TaskCreate::new();
        told.container_id = request.id.clone();
        told.bundle = request.bundle.clone();
        told.rootfs = request.rootfs.clone();
        told.io = MessageField::some(event::TaskIO {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            terminal: request.terminal,
            ..event::TaskIO::default()
        });
        told.checkpoint = request.checkpoint.clone();
        told.pid = pid;
        self.event("/tasks/create", "TaskCreate", &told);
        let mut answer = api::CreateTaskResponse::new();
        answer.pid = pid;
        encode(&answer)
    }

    /// Streams for a process that is about to be started, or the socket on which its terminal arrives.
    pub(super) fn prepare(
        &mut self,
        key: &Key,
        streams: &Streams,
        owner: Option<(u32, u32)>,
    ) -> Result<([Stdio; 3], Ends), Fault> {
        if streams.terminal {
            let number = self.number();
            let console = Console::new(Path::new(SOCKETS), number).map_err(Fault::unknown)?;
            let ends = Ends {
                pumps: Vec::new(),
                input: None,
                console: Some(console),
            };
            return Ok((runtime::nowhere(), ends));
        }
        let whose = Whose {
            namespace: &self.arguments.namespace,
            id: &key.container,
            owner,
        };
        let Opened { child, pumps, input } = stdio::open(streams, whose).map_err(Fault::unknown)?;
        let ends = Ends {
            pumps,
            input,
            console: None,
        };
        Ok((child, ends))
    }

    /// gabion has made the container, or restored it: there is a first process.
    pub(super) fn begun(&mut self, key: &Key, ends: Ends, pid_file: &Path) -> Result<u32, Fault> {
        let pid = runtime::read_pid(pid_file).map_err(Fault::unknown)?;
        let cgroup = Cgroup::of(pid);
        let watch = cgroup
            .as_ref()
            .and_then(Cgroup::watch)
            .and_then(|watch| self.watch(watch, &key.container));
        let container = self.container(&key.container)?;
        container.init.pid = pid;
        (container.cgroup, container.watch) = (cgroup, watch);
        self.connect_streams(key, ends)?;
        if let Some(exit) = self.stray(pid) {
            self.exited(key, exit);
        }
        Ok(pid as u32)
    }

    pub(super) fn connect_streams(&mut self, key: &Key, ends: Ends) -> Result<(), Fault> {
        let (mut pumps, mut input) = (ends.pumps, ends.input);
        let mut terminal = None;
        if let Some(console) = ends.console {
            let master = console.receive().map_err(Fault::unknown)?;
            let streams = self.known(key)?.streams.clone();
            let whose = Whose {
                namespace: &self.arguments.namespace,
                id: &key.container,
                owner: None,
            };
            let opened = stdio::open_terminal(&streams, &master, whose).map_err(Fault::unknown)?;
            (pumps, input, terminal) = (opened.pumps, opened.input, Some(master));
        }
        let process = self.known(key)?;
        (process.input, process.terminal) = (input, terminal);
        self.pump(pumps, key)
    }

    /// Nothing is left of a container that could not be made.
    pub(super) fn uncreate(&mut self, reply: Reply, id: &str, bundle: &Path, fault: Fault) {
        let known = self.containers.remove(id);
        let options = match &known {
            Some(container) => container.options.clone(),
            None => {
                // gabion cleans up behind itself; if it was killed, there is something to delete.
                match Options::saved(bundle).filter(|options| options.root.join(id).exists()) {
                    Some(options) => options,
                    None => {
                        self.unmount(bundle);
                        return self.answer(reply, Err(fault));
                    }
                }
            }
        };
        if let Some(mut container) = known {
            self.let_go(&mut container);
        }
        let (line, at, told) = (
            words(&["delete", "--force", id]),
            bundle.to_owned(),
            fault.clone(),
        );
        let begun = self.gabion(
            &options,
            bundle,
            &line,
            runtime::nowhere(),
            move |shim, outcome| {
                if let Err(error) = outcome {
                    shim.log(&format!(
                        "what was left of a failed create cannot be deleted: {error}"
                    ));
                }
                shim.unmount(&at);
                shim.answer(reply, Err(told));
            },
        );
        if begun.is_err() {
            self.unmount(bundle);
            self.answer(reply, Err(fault));
        }
    }

    pub(super) fn unmount(&self, bundle: &Path) {
        if let Err(error) = rootfs::unmount_all(bundle) {
            self.log(&error);
        }
    }

    /// Closes what the shim holds for a container.
    pub(super) fn let_go(&mut self, container: &mut Container) {
        if let Some(token) = container.watch.take() {
            self.unwatch(token);
        }
        let tokens = container
            .processes_mut()
            .flat_map(|process| {
                process
                    .inputs
                    .drain(..)
                    .chain(process.outputs.drain(..))
                    .collect::<Vec<_>>()
            })
            .collect();
        self.cut(tokens);
    }
}

/// Whether the container has a pid namespace of its own; then the kernel ends all of it with its first process.
fn has_own_processes(config: Option<&serde_json::Value>) -> bool {
    let Some(config) = config else {
        return false;
    };
    config["linux"]["namespaces"]
        .as_array()
        .is_some_and(|namespaces| {
            namespaces.iter().any(|namespace| {
                namespace["type"] == "pid" && namespace["path"].as_str().unwrap_or_default().is_empty()
            })
        })
}
