//! Watching a container: a thread that answers the listener of its last filter, and keeps what it hears.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gabion_seccomp::abi::Abi;
use gabion_seccomp::words;
use gabion_seccomp::{Profile, Program, Verdict};
use gabion_sys::listener::{self, Waiting};
use gabion_sys::process;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use crate::capabilities::Asked;
use crate::error::{LearnError, Result};
use crate::observations::{Denied, Observations};
use crate::profile;
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
    /// The profile in force.
    pub profile: Profile,
    /// All filters in force, the floor among them.
    pub filters: Vec<Program>,
    /// The container's capabilities: its bounding set.
    pub held: BTreeSet<String>,
}

/// A thread that watches.
#[derive(Debug)]
pub struct Watcher {
    thread: JoinHandle<Result<Seen>>,
}

/// What a watcher saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// All of it; its list of runs is empty.
    pub observations: Observations,
    /// How many events of the trace were lost.
    pub lost: u64,
    /// Whether the program was executed.
    pub began: bool,
}

impl Watcher {
    /// Begins to watch: the process is traced when this returns, and may be started.
    ///
    /// # Errors
    /// If the trace cannot be begun, or no thread be made.
    pub fn start(subject: Subject, trace: Option<&Trace>) -> Result<Watcher> {
        let denials = profile::denials(&subject.filters);
        let errnos: BTreeSet<u16> = denials
            .values()
            .flat_map(|one| one.errnos.iter().copied())
            .collect();
        let reader = trace.map(|trace| trace.begin(subject.pid, &errnos)).transpose()?;
        let watching = Watching {
            names: names(&subject.profile),
            arguments: profile::watched_arguments(&subject.profile),
            pid: subject.pid,
            denials,
            reader,
            executing: false,
            executed: false,
            asked: Asked::default(),
            held: subject.held,
            seen: Observations::default(),
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

/// Names of system calls by architecture and number.
fn names(profile: &Profile) -> HashMap<(u32, u32), String> {
    let listed = |abi: &&Abi| profile.architectures.contains(&abi.architecture());
    std::iter::once(&Abi::NATIVE)
        .chain(Abi::NATIVE.compatible().iter().filter(listed))
        .flat_map(|abi| {
            gabion_seccomp::syscalls::all(*abi)
                .into_iter()
                .map(|(name, number)| ((abi.audit_architecture(), number), name))
        })
        .collect()
}

struct Watching {
    names: HashMap<(u32, u32), String>,
    arguments: BTreeMap<String, BTreeSet<u8>>,
    pid: i32,
    denials: BTreeMap<u32, profile::Denial>,
    reader: Option<Reader>,
    /// The first process was seen to call execve: what it called before was the runtime's.
    executing: bool,
    /// The trace has told of that execve.
    executed: bool,
    asked: Asked,
    held: BTreeSet<String>,
    seen: Observations,
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
        (self.seen.capabilities, self.seen.missing) = self.asked.counts(&self.held);
        Ok(Seen {
            began: self.executing,
            observations: self.seen,
            lost: 0,
        })
    }

    fn heard(&mut self, call: &Waiting) {
        let number = call.number.cast_unsigned();
        let Some(name) = self.names.get(&(call.architecture, number)) else {
            if self.executing {
                self.seen
                    .unnamed
                    .insert(format!("{number} of architecture {:#x}", call.architecture));
            }
            return;
        };
        if !self.executing {
            self.executing = name == "execve" && call.thread == self.pid;
            return;
        }
        let arguments = self
            .arguments
            .get(name)
            .into_iter()
            .flatten()
            .filter_map(|index| {
                let value = call.arguments.get(usize::from(*index))?;
                Some((*index, profile::kept(name, *index, *value)))
            });
        let arguments = arguments.collect();
        match self.seen.calls.get_mut(name) {
            Some(seen) => seen.add(arguments),
            None => self.seen.calls.entry(name.clone()).or_default().add(arguments),
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
                Event::Exit { number, outcome, .. } => denied(&mut self.seen, &self.denials, number, outcome),
                Event::Capability {
                    thread,
                    credentials,
                    number,
                    granted,
                } => self.asked.note(thread, credentials, number, granted),
            }
        }
    }
}

fn denied(seen: &mut Observations, denials: &BTreeMap<u32, profile::Denial>, number: i64, outcome: i64) {
    let Some(denial) = u32::try_from(number).ok().and_then(|number| denials.get(&number)) else {
        return;
    };
    let Some(errno) = outcome
        .checked_neg()
        .and_then(|errno| u16::try_from(errno).ok())
        .filter(|errno| denial.errnos.contains(errno))
    else {
        return;
    };
    let answer = words::said(Verdict::Errno(errno));
    let denied = seen.denied.entry(denial.name.clone()).or_insert(Denied {
        answer,
        count: 0,
        certain: denial.certain,
    });
    denied.count += 1;
}
