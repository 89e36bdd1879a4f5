//! The server's one loop: sockets, signals, streams, and programs that end.
//!
//! Nothing in here waits. A call that needs gabion starts it, leaves a closure behind, and is answered when the
//! program has ended; so one container's slow hook delays no other container of the pod.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::ttrpc::proto;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use crate::arguments::Arguments;
use crate::cgroup::{OomWatch, Seen};
use crate::events::Publisher;
use crate::options::Options;
use crate::process::{Container, Exit, Key, Process};
use crate::runtime;
use crate::stdio::{Direction, Next, Pump};
use crate::wire::{self, Answer, Connection, Fault};

/// Where shims have their sockets; containerd's own directory for them.
pub(crate) const SOCKETS: &str = "/run/containerd/s";

/// How long containerd may be away before the next attempt to tell it something.
const RETRY: Duration = Duration::from_secs(1);

/// Whom to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reply {
    peer: u64,
    stream: u32,
}

/// What a descriptor is for.
#[derive(Debug)]
enum Source {
    Listener(UnixListener),
    Signals(SignalFd),
    Peer(Connection),
    /// The publisher has the descriptor.
    Events,
    Pump(Pump, Key),
    Oom(OomWatch, String),
    /// FIFOs that somebody opened.
    Readers,
}

/// What to do when gabion has ended.
type Then = Box<dyn FnOnce(&mut Shim, Result<(), String>)>;

/// A call of gabion that has not ended.
struct Call {
    log: PathBuf,
    then: Then,
}

/// What is due at a time.
#[derive(Debug)]
pub(crate) enum Due {
    /// Streams that somebody still holds open are given up.
    Streams(Key),
    /// An exit is told although nobody has come for the output.
    Exit(Key),
    /// Another attempt to reach containerd.
    Publish,
    /// Another look for readers, where the kernel cannot tell of them.
    Readers,
    /// The end of the shim, whatever containerd has been told.
    End,
}

/// One shim: the containers of a pod, or one container.
pub(crate) struct Shim {
    pub(crate) arguments: Arguments,
    /// The name it was called by.
    pub(crate) called: OsString,
    pub(crate) containers: HashMap<String, Container>,
    pub(crate) publisher: Publisher,
    pub(crate) ending: bool,
    epoll: Epoll,
    sources: HashMap<u64, Source>,
    number: u64,
    events: Option<u64>,
    calls: HashMap<i32, Call>,
    /// Processes that ended while a call could still tell whose they were.
    strays: HashMap<i32, Exit>,
    deadlines: Vec<(Instant, Due)>,
    buffer: Vec<u8>,
    readers: Readers,
}

/// Output that waits for a reader. The inotify instance is there while some does: a user has few of them.
#[derive(Debug, Default)]
struct Readers {
    notify: Option<(Inotify, u64)>,
    waiting: HashMap<u64, Key>,
}

impl Shim {
    /// A shim that serves on a socket.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn new(
        arguments: Arguments,
        called: OsString,
        listener: UnixListener,
    ) -> Result<Self, String> {
        let wrong = |what: &'static str| move |errno: Errno| format!("{what}: {}", errno.desc());
        nix::sys::prctl::set_child_subreaper(true).map_err(wrong("prctl(PR_SET_CHILD_SUBREAPER)"))?;
        // A shim outlives containerd and is ended by it, through its socket.
        let ours = [
            Signal::SIGCHLD,
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGUSR1,
        ];
        let mask = ours.into_iter().collect::<SigSet>();
        mask.thread_block().map_err(wrong("sigprocmask"))?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(wrong("signalfd"))?;
        listener
            .set_nonblocking(true)
            .map_err(|error| format!("the shim's socket: {error}"))?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(wrong("epoll_create"))?;
        let publisher = Publisher::new(&arguments.namespace);
        let mut shim = Shim {
            arguments,
            called,
            containers: HashMap::new(),
            publisher,
            ending: false,
            epoll,
            sources: HashMap::new(),
            number: 0,
            events: None,
            calls: HashMap::new(),
            strays: HashMap::new(),
            deadlines: Vec::new(),
            buffer: vec![0; 16 << 10],
            readers: Readers::default(),
        };
        shim.add(Source::Listener(listener), EpollFlags::EPOLLIN)?;
        shim.add(Source::Signals(signals), EpollFlags::EPOLLIN)?;
        Ok(shim)
    }

    /// Serves until containerd asks for the end.
    ///
    /// # Errors
    /// A sentence, if the kernel ends the loop.
    pub(crate) fn serve(&mut self) -> Result<(), String> {
        let mut ready = [EpollEvent::empty(); 32];
        while !(self.ending && self.publisher.is_idle()) {
            let timeout = self.timeout();
            let count = match self.epoll.wait(&mut ready, timeout) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(errno) => return Err(format!("epoll_wait: {}", errno.desc())),
            };
            for event in &ready[..count] {
                self.turn(event.data(), event.events());
            }
            let now = Instant::now();
            while let Some(place) = self.deadlines.iter().position(|(time, _)| *time <= now) {
                match self.deadlines.swap_remove(place).1 {
                    Due::Streams(key) => self.give_up_streams(&key),
                    Due::Exit(key) => self.told_anyway(&key),
                    Due::Publish => self.publish(),
                    Due::Readers => self.look_for_readers(),
                    Due::End => return Ok(()),
                }
            }
        }
        Ok(())
    }

    fn timeout(&self) -> EpollTimeout {
        let now = Instant::now();
        match self.deadlines.iter().map(|(time, _)| *time).min() {
            None => EpollTimeout::NONE,
            // Rounded up, so that it is due when the wait is over.
            Some(time) => {
                EpollTimeout::try_from(time.saturating_duration_since(now) + Duration::from_millis(1))
                    .unwrap_or(EpollTimeout::MAX)
            }
        }
    }

    /// Remembers something to do later.
    pub(crate) fn later(&mut self, after: Duration, due: Due) {
        self.deadlines.push((Instant::now() + after, due));
    }

    /// True if a deletion waits for the streams of a process, and no longer after that.
    pub(crate) fn waits_for_streams(&mut self, key: &Key) -> bool {
        let before = self.deadlines.len();
        self.deadlines
            .retain(|(_, due)| !matches!(due, Due::Streams(other) if other == key));
        self.deadlines.len() < before
    }

    /// True if an exit waits for a reader of the output, and no longer after that.
    pub(crate) fn waits_for_reader(&mut self, key: &Key) -> bool {
        let before = self.deadlines.len();
        self.deadlines
            .retain(|(_, due)| !matches!(due, Due::Exit(other) if other == key));
        self.deadlines.len() < before
    }

    /// A number that was not given before.
    pub(crate) fn number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn add(&mut self, source: Source, flags: EpollFlags) -> Result<u64, String> {
        let token = self.number();
        let event = EpollEvent::new(flags, token);
        let outcome = match &source {
            Source::Listener(listener) => self.epoll.add(listener, event),
            Source::Signals(signals) => self.epoll.add(signals, event),
            Source::Peer(connection) => self.epoll.add(connection, event),
            Source::Events => match self.publisher.descriptor() {
                Some(descriptor) => self.epoll.add(descriptor, event),
                None => Err(Errno::EBADF),
            },
            Source::Pump(pump, _) => self.epoll.add(&pump.from, event),
            Source::Oom(watch, _) => self.epoll.add(watch, event),
            Source::Readers => match &self.readers.notify {
                Some((notify, _)) => self.epoll.add(notify, event),
                None => Err(Errno::EBADF),
            },
        };
        outcome.map_err(|errno| format!("epoll_ctl: {}", errno.desc()))?;
        self.sources.insert(token, source);
        Ok(token)
    }

    /// Takes a descriptor out of the set; of a pump's two, only one is in there.
    fn unset(&self, descriptor: impl AsFd) {
        if let Err(errno) = self.epoll.delete(descriptor)
            && errno != Errno::ENOENT
        {
            self.log(&format!("epoll_ctl: {}", errno.desc()));
        }
    }

    /// One descriptor's turn. Its source is out of the table meanwhile, and goes back unless it has ended.
    fn turn(&mut self, token: u64, flags: EpollFlags) {
        let Some(source) = self.sources.remove(&token) else {
            return;
        };
        let back = match source {
            Source::Listener(listener) => {
                self.accept(&listener);
                Some(Source::Listener(listener))
            }
            Source::Signals(signals) => {
                while let Ok(Some(_)) = signals.read_signal() {}
                self.reap();
                Some(Source::Signals(signals))
            }
            Source::Peer(connection) => self.peer(token, connection, flags),
            Source::Events => {
                let alive = self.publisher.receive().is_ok();
                self.sources.insert(token, Source::Events);
                match alive {
                    true => self.publish(),
                    false => self.publisher_lost(),
                }
                return;
            }
            Source::Pump(pump, key) => {
                self.carry(token, pump, &key);
                return;
            }
            Source::Readers => {
                self.sources.insert(token, Source::Readers);
                if let Some((notify, _)) = &self.readers.notify {
                    // Which of them it was is found out by trying.
                    while notify.read_events().is_ok_and(|events| !events.is_empty()) {}
                }
                self.look_for_readers();
                return;
            }
            Source::Oom(mut watch, id) => match watch.take() {
                Seen::Killed => {
                    self.out_of_memory(&id);
                    Some(Source::Oom(watch, id))
                }
                Seen::Nothing => Some(Source::Oom(watch, id)),
                Seen::Gone => {
                    self.unset(&watch);
                    None
                }
            },
        };
        if let Some(source) = back {
            self.sources.insert(token, source);
        }
    }

    fn accept(&mut self, listener: &UnixListener) {
        while let Ok((socket, _)) = listener.accept() {
            // The socket is root's alone; this is for a host on which its directory was opened up.
            let peer = getsockopt(&socket, sockopt::PeerCredentials).map(|peer| peer.uid());
            if peer != Ok(nix::unistd::geteuid().as_raw()) {
                self.log(&format!("a connection of another user was refused: {peer:?}"));
                continue;
            }
            match Connection::new(socket) {
                Ok(connection) => {
                    if let Err(error) = self.add(Source::Peer(connection), EpollFlags::EPOLLIN) {
                        self.log(&error);
                    }
                }
                Err(error) => self.log(&format!("a connection: {error}")),
            }
        }
    }

    fn peer(&mut self, token: u64, mut connection: Connection, flags: EpollFlags) -> Option<Source> {
        if flags.contains(EpollFlags::EPOLLOUT) {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, token);
            match connection.flush() {
                Ok(true) => {}
                Ok(false) => change(&self.epoll, &connection, event),
                Err(_) => return self.hung_up(token, &connection),
            }
        }
        let (frames, ended) = match connection.read() {
            Ok(read) => read,
            Err(error) => {
                self.log(&format!("a connection was closed: {error}"));
                return self.hung_up(token, &connection);
            }
        };
        self.sources.insert(token, Source::Peer(connection));
        for frame in frames {
            if frame.kind != proto::MESSAGE_TYPE_REQUEST {
                continue;
            }
            let reply = Reply {
                peer: token,
                stream: frame.stream,
            };
            match proto::Request::parse_from_bytes(&frame.body) {
                Ok(request) => self.call(reply, &request.service, &request.method, &request.payload),
                Err(error) => self.answer(reply, Err(Fault::invalid(format!("no request: {error}")))),
            }
        }
        let Some(Source::Peer(connection)) = self.sources.remove(&token) else {
            return None;
        };
        match ended {
            true => self.hung_up(token, &connection),
            false => Some(Source::Peer(connection)),
        }
    }

    fn hung_up(&mut self, token: u64, connection: &Connection) -> Option<Source> {
        self.unset(connection);
        for container in self.containers.values_mut() {
            for process in container.processes_mut() {
                process.waiters.retain(|reply| reply.peer != token);
            }
        }
        None
    }

    /// Answers a call. Whoever has hung up is not told.
    pub(crate) fn answer(&mut self, reply: Reply, answer: Answer) {
        let Some(Source::Peer(connection)) = self.sources.get_mut(&reply.peer) else {
            return;
        };
        let frame = wire::response(reply.stream, answer);
        match connection.send(&frame) {
            Ok(false) => {}
            Ok(true) => {
                let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT;
                let event = EpollEvent::new(flags, reply.peer);
                change(&self.epoll, &*connection, event);
            }
            // Its end is seen when it is read.
            Err(_) => {}
        }
    }

    /// Starts gabion for a container; `then` is called when it has ended, with its last error if it failed.
    pub(crate) fn gabion(
        &mut self,
        options: &Options,
        bundle: &Path,
        words: &[OsString],
        stdio: [Stdio; 3],
        then: impl FnOnce(&mut Shim, Result<(), String>) + 'static,
    ) -> Result<(), Fault> {
        let log = bundle.join(format!("gabion-{}.log", self.number()));
        let child = runtime::spawn(options, bundle, &log, words, stdio).map_err(Fault::unknown)?;
        let call = Call {
            log,
            then: Box::new(then),
        };
        self.calls.insert(child.id() as i32, call);
        Ok(())
    }

    /// Takes the status of every child that has ended.
    fn reap(&mut self) {
        loop {
            let (pid, status) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid.as_raw(), code as u32),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid.as_raw(), 128 + signal as u32),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => break,
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(errno) => {
                    self.log(&format!("waitpid: {}", errno.desc()));
                    break;
                }
            };
            let exit = Exit {
                status,
                at: SystemTime::now(),
            };
            if let Some(call) = self.calls.remove(&pid) {
                let outcome = match (status, runtime::last_error(&call.log)) {
                    (0, _) => Ok(()),
                    (_, Some(error)) => Err(error),
                    (status, None) => Err(format!("the runtime ended with status {status} and said nothing")),
                };
                (call.then)(self, outcome);
            } else if let Some(key) = self.whose(pid) {
                self.exited(&key, exit);
            } else if !self.calls.is_empty() {
                self.strays.insert(pid, exit);
            }
        }
        if self.calls.is_empty() {
            self.strays = HashMap::new();
        }
    }

    fn whose(&self, pid: i32) -> Option<Key> {
        self.containers.values().find_map(|container| {
            container
                .processes()
                .find(|(_, process)| process.pid == pid && process.exit.is_none() && process.early.is_none())
                .map(|(exec, _)| Key::new(&container.id, exec))
        })
    }

    /// How a process ended before it was known whose it is.
    pub(crate) fn stray(&mut self, pid: i32) -> Option<Exit> {
        self.strays.remove(&pid)
    }

    /// A process, by container and exec id.
    pub(crate) fn process(&mut self, key: &Key) -> Option<&mut Process> {
        self.containers.get_mut(&key.container)?.process(&key.exec)
    }

    /// Begins to carry bytes for a process.
    pub(crate) fn pump(&mut self, pumps: Vec<Pump>, key: &Key) -> Result<(), Fault> {
        for pump in pumps {
            let direction = pump.direction();
            let token = self
                .add(Source::Pump(pump, key.clone()), EpollFlags::EPOLLIN)
                .map_err(Fault::unknown)?;
            if let Some(process) = self.process(key) {
                match direction {
                    Direction::In => process.inputs.push(token),
                    Direction::Out => process.outputs.push(token),
                }
            }
        }
        Ok(())
    }

    /// A pump's turn; it goes back into the table unless its stream has ended.
    fn carry(&mut self, token: u64, mut pump: Pump, key: &Key) {
        let mut next = pump.run(&mut self.buffer);
        if next == Next::Reader && !self.readers.waiting.contains_key(&token) {
            self.drop_pump(&pump);
            self.wait_for_reader(token, &pump, key);
            // Somebody may have come before the kernel was asked to tell.
            next = pump.run(&mut self.buffer);
        }
        if next == Next::Reader {
            self.sources.insert(token, Source::Pump(pump, key.clone()));
            self.stream_waits(key);
            return;
        }
        let came = self.readers.waiting.remove(&token).is_some();
        match next {
            Next::Done => {
                self.drop_pump(&pump);
                self.stream_ended(token, key);
            }
            next => {
                self.poll_pump(token, &pump, next);
                self.sources.insert(token, Source::Pump(pump, key.clone()));
            }
        }
        if came {
            self.heard(key);
            self.forget_readers();
        }
    }

    fn wait_for_reader(&mut self, token: u64, pump: &Pump, key: &Key) {
        self.readers.waiting.insert(token, key.clone());
        if self.readers.notify.is_none()
            && let Ok(notify) = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
        {
            self.readers.notify = Some((notify, 0));
            match self.add(Source::Readers, EpollFlags::EPOLLIN) {
                Ok(number) => self
                    .readers
                    .notify
                    .iter_mut()
                    .for_each(|(_, token)| *token = number),
                Err(_) => self.readers.notify = None,
            }
        }
        let told = self.readers.notify.as_ref().is_some_and(|(notify, _)| {
            notify
                .add_watch(&pump.reader_opens(), AddWatchFlags::IN_OPEN)
                .is_ok()
        });
        // A host on which root's inotify instances are all in use.
        if !told {
            self.later(RETRY, Due::Readers);
        }
    }

    /// Gives every output that waits for a reader a turn.
    fn look_for_readers(&mut self) {
        for token in self.readers.waiting.keys().copied().collect::<Vec<_>>() {
            if let Some(Source::Pump(pump, key)) = self.sources.remove(&token) {
                self.carry(token, pump, &key);
            }
        }
        if self.readers.notify.is_none() && !self.readers.waiting.is_empty() {
            self.later(RETRY, Due::Readers);
        }
    }

    fn forget_readers(&mut self) {
        if self.readers.waiting.is_empty()
            && let Some((notify, token)) = self.readers.notify.take()
        {
            self.unset(&notify);
            self.sources.remove(&token);
        }
    }

    /// True if all of these streams wait for a reader.
    pub(crate) fn nobody_reads(&self, tokens: &[u64]) -> bool {
        tokens
            .iter()
            .all(|token| self.readers.waiting.contains_key(token))
    }

    /// True if one of these streams has output, and nobody has been there yet who could read it.
    pub(crate) fn unheard(&self, tokens: &[u64]) -> bool {
        tokens
            .iter()
            .any(|token| matches!(self.sources.get(token), Some(Source::Pump(pump, _)) if pump.unheard()))
    }

    /// Carries what these streams have to carry now.
    pub(crate) fn carry_all(&mut self, tokens: &[u64]) {
        for token in tokens {
            if let Some(Source::Pump(pump, key)) = self.sources.remove(token) {
                self.carry(*token, pump, &key);
            }
        }
    }

    fn poll_pump(&mut self, token: u64, pump: &Pump, next: Next) {
        // One of the two descriptors is in the set at a time, the one that is waited for.
        let (wanted, other, flags) = match next {
            Next::Writable => (&pump.to, &pump.from, EpollFlags::EPOLLOUT),
            _ => (&pump.from, &pump.to, EpollFlags::EPOLLIN),
        };
        match self.epoll.add(wanted, EpollEvent::new(flags, token)) {
            Err(Errno::EEXIST) => {}
            Ok(()) => self.unset(other),
            Err(errno) => self.log(&format!("epoll_ctl: {}", errno.desc())),
        }
    }

    /// A descriptor's copies keep it in the set, so it is taken out before it is closed.
    fn drop_pump(&mut self, pump: &Pump) {
        self.unset(&pump.from);
        self.unset(&pump.to);
    }

    /// Ends streams before their end.
    pub(crate) fn cut(&mut self, tokens: Vec<u64>) {
        for token in tokens {
            if let Some(Source::Pump(mut pump, _)) = self.sources.remove(&token) {
                // What is there already is still carried.
                if pump.direction() == Direction::Out {
                    pump.run(&mut self.buffer);
                }
                self.drop_pump(&pump);
                self.readers.waiting.remove(&token);
            }
        }
        self.forget_readers();
    }

    /// Watches a container's memory.
    pub(crate) fn watch(&mut self, watch: OomWatch, id: &str) -> Option<u64> {
        let flags = watch.flags();
        self.add(Source::Oom(watch, id.to_owned()), flags).ok()
    }

    pub(crate) fn unwatch(&mut self, token: u64) {
        if let Some(Source::Oom(watch, _)) = self.sources.remove(&token) {
            self.unset(&watch);
        }
    }

    /// Sends events to containerd, or tries again later.
    pub(crate) fn publish(&mut self) {
        if self.publisher.connect() {
            match self.add(Source::Events, EpollFlags::EPOLLIN) {
                Ok(token) => self.events = Some(token),
                Err(_) => return self.publisher_lost(),
            }
        }
        match self.publisher.send() {
            Err(_) => self.publisher_lost(),
            Ok(blocked) => {
                if let (Some(token), Some(descriptor)) = (self.events, self.publisher.descriptor()) {
                    let mut flags = EpollFlags::EPOLLIN;
                    flags.set(EpollFlags::EPOLLOUT, blocked);
                    change(&self.epoll, descriptor, EpollEvent::new(flags, token));
                } else if !self.publisher.is_idle() {
                    self.publish_later();
                }
            }
        }
    }

    fn publisher_lost(&mut self) {
        if let Some(token) = self.events.take() {
            self.sources.remove(&token);
        }
        self.publisher.lost();
        if !self.publisher.is_idle() {
            self.publish_later();
        }
    }

    fn publish_later(&mut self) {
        if !self.deadlines.iter().any(|(_, due)| matches!(due, Due::Publish)) {
            self.later(RETRY, Due::Publish);
        }
    }

    /// Says something in containerd's log, through the FIFO that it keeps for that in the bundle.
    pub(crate) fn log(&self, text: &str) {
        let pipe = std::fs::OpenOptions::new()
            .write(true)
            .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
            .open("log");
        if let Ok(mut pipe) = pipe {
            let line = format!(
                "level=warning msg={text:?} namespace={} runtime=io.containerd.gabion.v2\n",
                self.arguments.namespace
            );
            // Nobody may be reading; then nobody wants to know.
            drop(pipe.write_all(line.as_bytes()));
        }
    }
}

/// Changes what a descriptor in the set is waited for. The kernel has no reason to refuse that, and if it does, the
/// connection is found dead when it is read.
fn change(epoll: &Epoll, descriptor: impl AsFd, mut event: EpollEvent) {
    epoll.modify(descriptor, &mut event).unwrap_or_default();
}
