//! Watching a container that somebody else runs, an engine say: by the kernel's trace alone.
//!
//! Nothing about the container is changed for it, and it goes on when the watcher does not. What has its price: the trace
//! can lose events, and says so; and it does not tell the calls of 32-bit programs from others.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;

use gabion_seccomp::abi::Abi;
use gabion_seccomp::syscalls::{Resolved, resolve};
use nix::libc;

use crate::error::{LearnError, Result};
use crate::notes::{Force, Notes, Seen};
use crate::profile;
use crate::trace::{Event, Reader, Trace};

/// How often the threads of a container are counted before they are taken for complete.
const COUNTS: usize = 100;

/// A container that is watched.
#[derive(Debug)]
pub struct Attached<'a> {
    trace: &'a Trace,
    reader: Reader,
    notes: Notes,
    began: bool,
    /// Processes that have not executed their program yet: what they call before is the runtime's.
    waiting: BTreeSet<i32>,
}

impl<'a> Attached<'a> {
    /// Watches a container whose first process waits for start: from its program on.
    ///
    /// # Errors
    /// If the kernel does not trace it.
    pub fn before_start(pid: i32, force: Force, trace: &'a Trace) -> Result<Attached<'a>> {
        let mut attached = Attached::begin(&[pid], force, trace)?;
        attached.waiting.insert(pid);
        Ok(attached)
    }

    /// Watches a container that runs, from now on: all threads of `processes`, which is asked until there are no more.
    ///
    /// # Errors
    /// If the kernel does not trace it, or it makes processes faster than they are counted.
    pub fn running(
        processes: impl Fn() -> std::result::Result<Vec<i32>, String>,
        force: Force,
        trace: &'a Trace,
    ) -> Result<Attached<'a>> {
        let mut known = threads(&processes().map_err(LearnError::Other)?);
        let first: Vec<i32> = known.iter().copied().collect();
        if first.is_empty() {
            return Err(LearnError::Other("the container has no process".to_owned()));
        }
        let mut attached = Attached::begin(&first, force, trace)?;
        attached.began = true;
        // What a thread forks is followed once the thread is. Others may have forked while they were counted.
        for _ in 0..COUNTS {
            let now = threads(&processes().map_err(LearnError::Other)?);
            let new: Vec<i32> = now.difference(&known).copied().collect();
            if new.is_empty() {
                return Ok(attached);
            }
            for thread in new {
                attached.trace.follow(thread)?;
                known.insert(thread);
            }
        }
        Err(LearnError::Other(
            "the container makes processes faster than they can be counted; watch it from its start"
                .to_owned(),
        ))
    }

    fn begin(threads: &[i32], force: Force, trace: &'a Trace) -> Result<Attached<'a>> {
        let notes = Notes::new(force);
        let unwatched = profile::unwatched().filter_map(|name| match resolve(name, Abi::NATIVE) {
            Resolved::Number(number) => Some(number),
            _ => None,
        });
        let reader = trace.begin(threads, &notes.errnos(), Some(&unwatched.collect()))?;
        Ok(Attached {
            trace,
            reader,
            notes,
            began: false,
            waiting: BTreeSet::new(),
        })
    }

    /// A further process of the container, which exec made, is about to execute its program: watched from there on.
    ///
    /// # Errors
    /// If the kernel does not trace it.
    pub fn joined(&mut self, pid: i32) -> Result<()> {
        self.waiting.insert(pid);
        self.trace.follow(pid)
    }

    /// Takes down what has come since it was last asked. It has to be asked many times in a second.
    pub fn look(&mut self) {
        for event in self.reader.events() {
            self.heard(event);
        }
    }

    fn heard(&mut self, event: Event) {
        let (Event::Enter { thread, .. } | Event::Exit { thread, .. } | Event::Capability { thread, .. }) =
            event;
        let executed = matches!(event, Event::Exit { number, outcome: 0, .. } if number == libc::SYS_execve);
        if executed && is_32_bit(thread) {
            self.notes
                .unnamed("what a 32-bit program called, which is told with the numbers of others".to_owned());
        }
        if self.waiting.contains(&thread) {
            if executed {
                self.waiting.remove(&thread);
                self.began = true;
            }
            return;
        }
        // Hooks, on the way of the first process to its program.
        if !self.began {
            return;
        }
        match event {
            Event::Enter {
                number, arguments, ..
            } => {
                // Not a call: what a debugger, or a filter, made of one (-1).
                if let Ok(number) = u32::try_from(number) {
                    self.notes
                        .called(Abi::NATIVE.audit_architecture(), number, &arguments);
                }
            }
            Event::Exit { number, outcome, .. } => self.notes.came_back(number, outcome),
            Event::Capability {
                credentials,
                number,
                granted,
                ..
            } => self.notes.asked(thread, credentials, number, granted),
        }
    }

    /// Ends it, and gives what was seen.
    pub fn finish(mut self) -> Seen {
        self.look();
        Seen {
            began: self.began,
            observations: self.notes.finish(),
            lost: self.trace.lost(),
        }
    }
}

/// The threads of processes. Those that have ended meanwhile have none.
fn threads(processes: &[i32]) -> BTreeSet<i32> {
    let tasks = processes
        .iter()
        .filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok());
    tasks
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// Whether a thread runs a program for 32 bits; false if it has ended.
fn is_32_bit(thread: i32) -> bool {
    const CLASS_32: u8 = 1;
    let mut start = [0; 5];
    File::open(format!("/proc/{thread}/exe"))
        .and_then(|mut file| file.read_exact(&mut start))
        .is_ok_and(|()| start == [0x7f, b'E', b'L', b'F', CLASS_32])
}
