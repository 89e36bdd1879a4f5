//! Watching a container: a thread that answers the listener of its last filter, and keeps what it hears.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gabion_sys::listener::{self, Waiting};
use gabion_sys::process;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use crate::error::{LearnError, Result};
use crate::notes::{Force, Notes, Seen};
use crate::trace::{Event, Reader, Trace};

/// How long the thread sleeps at most, where the trace has to be looked at.
const GLANCE: Duration = Duration::from_millis(50);

/// What is watched.
#[derive(Debug)]
pub struct Subject {
    /// The container's first process.
    pub pid: i32,
    /// Where that process tells the number of its listener, and waits to hear that it was taken.
    pub channel: UnixStream,
    /// What is in force in it.
    pub force: Force,
}

/// A thread that watches.
#[derive(Debug)]
pub struct Watcher {
    thread: JoinHandle<Result<Seen>>,
}

impl Watcher {
    /// Begins to watch: the process is traced when this returns, and may be started.
    ///
    /// # Errors
    /// If the trace cannot be begun, or no thread be made.
    pub fn start(subject: Subject, trace: Option<&Trace>) -> Result<Watcher> {
        let notes = Notes::new(subject.force);
        let reader = trace
            .map(|trace| trace.begin(&[subject.pid], &notes.errnos(), None))
            .transpose()?;
        let watching = Watching {
            notes,
            pid: subject.pid,
            reader,
            executing: false,
            executed: false,
        };
        let channel = subject.channel;
        std::thread::Builder::new()
            .name("watcher".to_owned())
            .spawn(move || watching.run(channel))
            .map(|thread| Watcher { thread })
            .map_err(|error| LearnError::Other(format!("no thread can be made: {error}")))
    }

    /// Waits for the end of all that is watched, and gives what was seen.
    ///
    /// # Errors
    /// What kept the thread from going on.
    pub fn join(self, trace: Option<&Trace>) -> Result<Seen> {
        let seen = self
            .thread
            .join()
            .map_err(|_| LearnError::Other("the thread that watches ended by a bug in gabion".to_owned()))?;
        seen.map(|seen| Seen {
            lost: trace.map_or(0, Trace::lost),
            ..seen
        })
    }
}

struct Watching {
    notes: Notes,
    pid: i32,
    reader: Option<Reader>,
    /// The first process was seen to call execve: what it called before was the runtime's.
    executing: bool,
    /// The trace has told of that execve.
    executed: bool,
}

impl Watching {
    fn run(self, mut channel: UnixStream) -> Result<Seen> {
        let mut number = [0; 4];
        // Ended before it loaded its filters: whoever starts it is told why.
        if channel.read_exact(&mut number).is_err() {
            return Ok(Seen::default());
        }
        let process = process::open(Pid::from_raw(self.pid))?;
        self.watch(&process, i32::from_ne_bytes(number), channel)
            .inspect_err(|_| {
                // Until execve it holds its listener itself, and would wait for itself for ever; after that it would go on
                // with calls that fail. If it is gone, so be it.
                drop(process::signal(&process, libc::SIGKILL));
            })
    }

    fn watch(mut self, process: &OwnedFd, number: i32, mut channel: UnixStream) -> Result<Seen> {
        let listener = process::descriptor_of(process, number)?;
        listener::wake_on_one_processor(&listener);
        // If it is gone by now, the listener says so.
        drop(channel.write_all(b"t"));
        drop(channel);
        let timeout = match self.reader {
            Some(_) => PollTimeout::try_from(GLANCE).unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        };
        let mut looked = Instant::now();
        loop {
            let mut wanted = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
            let events = match poll(&mut wanted, timeout) {
                Ok(_) => wanted[0].revents().unwrap_or(PollFlags::empty()),
                Err(nix::errno::Errno::EINTR) => continue,
                Err(errno) => return Err(gabion_sys::CallError::new("poll(listener)", errno).into()),
            };
            if events.contains(PollFlags::POLLIN) {
                if let Some(call) = listener::receive(&listener)? {
                    // First of all, since it waits.
                    listener::go_on(&listener, call.id)?;
                    self.heard(&call);
                }
            } else if events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL) {
                break;
            }
            if looked.elapsed() >= GLANCE {
                self.look();
                looked = Instant::now();
            }
        }
        self.look();
        Ok(Seen {
            began: self.executing,
            observations: self.notes.finish(),
            lost: 0,
        })
    }

    fn heard(&mut self, call: &Waiting) {
        let number = call.number.cast_unsigned();
        if self.executing {
            self.notes.called(call.architecture, number, &call.arguments);
        } else {
            let is_execve = self.notes.name(call.architecture, number) == Some("execve");
            self.executing = is_execve && call.thread == self.pid;
        }
    }

    fn look(&mut self) {
        let Some(reader) = &mut self.reader else { return };
        for event in reader.events() {
            match event {
                Event::Exit {
                    thread,
                    number,
                    outcome,
                } if !self.executed => {
                    self.executed = thread == self.pid && number == libc::SYS_execve && outcome == 0;
                }
                _ if !self.executed => {}
                Event::Exit { number, outcome, .. } => self.notes.came_back(number, outcome),
                Event::Capability {
                    thread,
                    credentials,
                    number,
                    granted,
                } => self.notes.asked(thread, credentials, number, granted),
                // The listener tells of them.
                Event::Enter { .. } => {}
            }
        }
    }
}
