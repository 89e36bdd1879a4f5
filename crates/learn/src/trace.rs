//! The kernel's own trace of a container: calls that came back with an errno, and capabilities that were asked for.
//!
//! A listener is not asked about what another filter denies, and capabilities are no business of filters. Both are told by
//! tracepoints, `raw_syscalls:sys_exit` and `capability:cap_capable` (Linux 6.14), in an instance of our own
//! (Documentation/trace/ftrace.rst, "Instances"), for the container's processes and what they fork. Where there is no
//! listener, `raw_syscalls:sys_enter` tells of the calls that are made: the kernel asks the filters first, and comes to it
//! only if they let the call through.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc;

use crate::error::{LearnError, Result};

/// Where it is mounted as a rule.
const USUAL: &str = "/sys/kernel/tracing";
/// For each processor. The reader comes by many times in a second.
const BUFFER: &str = "4096";
/// The inode of the host's own PID namespace (`PROC_PID_INIT_INO`, linux/proc_ns.h).
const HOSTS_PROCESSES: u64 = 0xefff_fffc;
/// What may be enabled in an instance.
const EVENTS: [&str; 3] = [
    "raw_syscalls/sys_enter",
    "raw_syscalls/sys_exit",
    "capability/cap_capable",
];

/// An instance of the kernel's trace. It is removed by [`Trace::remove`], or when this is dropped.
#[derive(Debug)]
pub struct Trace {
    directory: PathBuf,
    /// Of a tracefs that is mounted nowhere.
    _mount: Option<OwnedFd>,
    capabilities: bool,
}

/// Something that was traced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A thread makes a call, which the filters let through.
    Enter {
        thread: i32,
        number: i64,
        arguments: [u64; 6],
    },
    /// A thread came back from a call.
    Exit { thread: i32, number: i64, outcome: i64 },
    /// The kernel asked whether a thread has a capability: by its own credentials, or those of somebody else for whom it
    /// acts, as in an overlay file system by those of who mounted it.
    Capability {
        thread: i32,
        /// Which credentials: the kernel's own name for them, which says nothing but whether two are the same.
        credentials: u64,
        number: u32,
        granted: bool,
    },
}

impl Trace {
    /// Makes an instance by this name. Where there is no tracefs, or none for this process, it says why.
    ///
    /// # Errors
    /// What is missing, in words.
    pub fn new(name: &str) -> std::result::Result<Trace, String> {
        // Processes are numbered as the host numbers them, which nobody else can know.
        let processes =
            fs::metadata("/proc/self/ns/pid").map_err(|error| format!("there is no /proc: {error}"))?;
        if processes.ino() != HOSTS_PROCESSES {
            return Err(
                "gabion runs in a PID namespace, and the kernel's trace counts as the host does".to_owned(),
            );
        }
        let (base, mount) = place()?;
        let directory = base.join("instances").join(name);
        DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .map_err(|error| format!("an instance of tracefs cannot be made: {error}"))?;
        let capabilities = directory.join("events/capability/cap_capable").is_dir();
        Ok(Trace {
            directory,
            _mount: mount,
            capabilities,
        })
    }

    /// Whether capabilities are told, beside calls.
    pub fn tells_capabilities(&self) -> bool {
        self.capabilities
    }

    /// Begins to trace these threads and all that they fork. Of calls, those that come back with one of these errnos are
    /// told, and execve; with `entered`, also each that is made, but for these numbers.
    ///
    /// # Errors
    /// If the kernel does not take one of the settings.
    pub(crate) fn begin(
        &self,
        threads: &[i32],
        errnos: &BTreeSet<u16>,
        entered: Option<&BTreeSet<u32>>,
    ) -> Result<Reader> {
        let mut filter = format!("id == {}", libc::SYS_execve);
        for errno in errnos {
            filter.push_str(&format!(" || ret == -{errno}"));
        }
        self.write("buffer_size_kb", BUFFER)?;
        self.write("options/event-fork", "1")?;
        for thread in threads {
            self.follow(*thread)?;
        }
        self.write("events/raw_syscalls/sys_exit/filter", &filter)?;
        let path = self.directory.join("trace_pipe");
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path)
            .map_err(LearnError::file("open", path))?;
        if let Some(but_for) = entered {
            let others: Vec<String> = but_for.iter().map(|number| format!("id != {number}")).collect();
            self.write("events/raw_syscalls/sys_enter/filter", &others.join(" && "))?;
            self.write("events/raw_syscalls/sys_enter/enable", "1")?;
        }
        self.write("events/raw_syscalls/sys_exit/enable", "1")?;
        if self.capabilities {
            self.write("events/capability/cap_capable/enable", "1")?;
        }
        Ok(Reader {
            file,
            rest: Vec::new(),
        })
    }

    /// Traces one more thread, and all that it forks from now on.
    ///
    /// # Errors
    /// If the kernel does not take it.
    pub(crate) fn follow(&self, thread: i32) -> Result<()> {
        let path = self.directory.join("set_event_pid");
        // Without O_TRUNC, which would have it forget the others.
        OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(format!("{thread}\n").as_bytes()))
            .map_err(LearnError::file("write", path))
    }

    /// How many events came when there was no room for them.
    pub(crate) fn lost(&self) -> u64 {
        let Ok(processors) = fs::read_dir(self.directory.join("per_cpu")) else {
            return 0;
        };
        processors
            .flatten()
            .filter_map(|processor| fs::read_to_string(processor.path().join("stats")).ok())
            .flat_map(|text| {
                text.lines()
                    .filter_map(|line| {
                        line.strip_prefix("overrun: ")
                            .or_else(|| line.strip_prefix("dropped events: "))
                    })
                    .filter_map(|number| number.trim().parse::<u64>().ok())
                    .collect::<Vec<_>>()
            })
            .sum()
    }

    /// Removes it. Nobody may read it any more.
    pub fn remove(&self) {
        for event in EVENTS {
            // What was never enabled, or is gone, needs no word.
            drop(self.write(&format!("events/{event}/enable"), "0"));
        }
        drop(fs::remove_dir(&self.directory));
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.directory.join(file);
        fs::write(&path, text).map_err(LearnError::file("write", path))
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.remove();
    }
}

/// tracefs where it is mounted, or one of our own that is mounted nowhere.
fn place() -> std::result::Result<(PathBuf, Option<OwnedFd>), String> {
    if Path::new(USUAL).join("instances").is_dir() {
        return Ok((PathBuf::from(USUAL), None));
    }
    let mount = gabion_sys::mount::detached(c"tracefs", &[], &[], 0)
        .map_err(|error| format!("there is no tracefs: {error}"))?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()));
    Ok((path, Some(mount)))
}

/// Reads what was traced, line by line.
#[derive(Debug)]
pub(crate) struct Reader {
    file: File,
    rest: Vec<u8>,
}

impl Reader {
    /// What has come since it was last asked.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let mut buffer = [0; 65536];
        loop {
            match self.file.read(&mut buffer) {
                Ok(count) if count > 0 => {
                    self.rest.extend_from_slice(&buffer[..count]);
                    let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else {
                        continue;
                    };
                    let lines: Vec<u8> = self.rest.drain(..=end).collect();
                    events.extend(String::from_utf8_lossy(&lines).lines().filter_map(event));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Nothing more yet, or nothing more ever: what was told stays told.
                Ok(_) | Err(_) => return events,
            }
        }
    }
}

/// Reads a line: `NAME-THREAD [CPU] FLAGS TIME: EVENT: FIELDS`. The name is the workload's to choose, so what is looked
/// for is looked for from behind.
fn event(line: &str) -> Option<Event> {
    let kinds = [": sys_enter: NR ", ": sys_exit: NR ", ": cap_capable: cred "];
    let (at, kind) = kinds
        .iter()
        .filter_map(|kind| Some((line.rfind(kind)?, *kind)))
        .max()?;
    let thread = thread(&line[..at])?;
    let fields = &line[at + kind.len()..];
    if kind.starts_with(": sys_exit") {
        let (number, outcome) = fields.split_once(" = ")?;
        return Some(Event::Exit {
            thread,
            number: number.parse().ok()?,
            outcome: outcome.trim().parse().ok()?,
        });
    }
    if kind.starts_with(": sys_enter") {
        let (number, values) = fields.trim_end().strip_suffix(')')?.split_once(" (")?;
        let mut arguments = [0; 6];
        let mut values = values.split(", ");
        for argument in &mut arguments {
            *argument = u64::from_str_radix(values.next()?, 16).ok()?;
        }
        return Some(Event::Enter {
            thread,
            number: number.parse().ok()?,
            arguments,
        });
    }
    let (rest, outcome) = fields.rsplit_once(", ret ")?;
    let (rest, number) = rest.rsplit_once(", cap ")?;
    let credentials = rest.split(',').next()?;
    Some(Event::Capability {
        thread,
        credentials: u64::from_str_radix(credentials.trim_start_matches("0x"), 16).ok()?,
        number: number.parse().ok()?,
        granted: outcome.trim() == "0",
    })
}

/// The number in front of the last ` [`.
fn thread(head: &str) -> Option<i32> {
    let (before, _) = head.rsplit_once(" [")?;
    let (_, number) = before.trim_end().rsplit_once('-')?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_whatever_a_program_calls_itself() {
        assert_eq!(
            event("           nginx-4711    [001] ..... 123.456789: sys_exit: NR 41 = -97"),
            Some(Event::Exit {
                thread: 4711,
                number: 41,
                outcome: -97
            })
        );
        assert_eq!(
            event("  : sys_exit: NR -7 [000]-12 [000] ..... 1.0: sys_exit: NR 59 = 0"),
            Some(Event::Exit {
                thread: 12,
                number: 59,
                outcome: 0
            })
        );
        assert_eq!(
            event(
                ": sys_exit: NR -4711    [001] ..... 1.5: sys_enter: NR 41 (1, 80001, 0, ffffffffffffffff, 0, 7ffe)"
            ),
            Some(Event::Enter {
                thread: 4711,
                number: 41,
                arguments: [1, 0x80001, 0, u64::MAX, 0, 0x7ffe]
            })
        );
        let line = " a-b-9  [000] ..... 1.0: cap_capable: cred 00000000aa, target_ns 00000000bb, capable_ns \
                    00000000bb, cap 10, ret ";
        for (end, granted) in [("0", true), ("-1", false)] {
            assert_eq!(
                event(&format!("{line}{end}")),
                Some(Event::Capability {
                    thread: 9,
                    credentials: 0xaa,
                    number: 10,
                    granted
                })
            );
        }
        for line in [
            "",
            "CPU:1 [LOST 12 EVENTS]",
            "x-1 [0] 1.0: sys_exit: NR a = b",
            "x-1 [0] 1.0: sys_enter: NR 1 (0, 0)",
            "# tracer: nop",
        ] {
            assert_eq!(event(line), None, "{line}");
        }
    }
}
