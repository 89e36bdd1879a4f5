//! `events`: what a container uses, every so often, and when the kernel ends processes of it for want of memory.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::error::{ContainerError, Result};
use crate::id::ContainerId;
use crate::state::{Record, StateRoot};
use crate::stats::{self, Stats};
use crate::status::{self, Status};

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The interval is over: this is what the container uses.
    Stats(Box<Stats>),
    /// The kernel found no memory within the container's limit, and ended a process.
    Oom,
}

/// What a container uses now.
///
/// # Errors
/// [`ContainerError::Missing`]; [`ContainerError::NotRunning`] if it is stopped.
pub fn statistics(root: &StateRoot, id: &ContainerId) -> Result<Stats> {
    let (record, _) = running(root, id)?;
    stats::read(&record.cgroups)
}

/// Tells what happens in a container until it has ended.
///
/// # Errors
/// As [`statistics`]; what `tell` answers.
pub fn watch(
    root: &StateRoot,
    id: &ContainerId,
    interval: Duration,
    mut tell: impl FnMut(Event) -> Result<()>,
) -> Result<()> {
    let (record, process) = running(root, id)?;
    let mut memory = MemoryWatch::new(&record.cgroups)?;
    let mut next = Instant::now() + interval;
    loop {
        let mut wanted = vec![PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        if let Some(memory) = &memory {
            wanted.push(PollFd::new(memory.as_fd(), PollFlags::POLLIN));
        }
        let left = next.saturating_duration_since(Instant::now());
        // Rounded up: the kernel's milliseconds are whole, and a look before the time is one too many.
        let left = Duration::from_millis(
            u64::try_from(left.as_millis())
                .unwrap_or(u64::MAX)
                .saturating_add(1),
        );
        match poll(
            &mut wanted,
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX),
        ) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(ContainerError::call("poll()")(errno)),
        }
        let ready = |at: usize| {
            wanted
                .get(at)
                .and_then(PollFd::revents)
                .is_some_and(|events| !events.is_empty())
        };
        let (ended, memory_ready) = (ready(0), ready(1));
        if let Some(watch) = &mut memory
            && (memory_ready || ended)
        {
            for _ in 0..watch.take()? {
                tell(Event::Oom)?;
            }
        }
        if ended {
            return Ok(());
        }
        if Instant::now() >= next {
            match stats::read(&record.cgroups) {
                Ok(stats) => tell(Event::Stats(Box::new(stats)))?,
                // It may have been deleted since.
                Err(error) if record.cgroups.iter().any(|cgroup| cgroup.exists()) => return Err(error),
                Err(_) => return Ok(()),
            }
            next += interval;
            // Whoever was stopped meanwhile does not catch up.
            next = next.max(Instant::now());
        }
    }
}

fn running(root: &StateRoot, id: &ContainerId) -> Result<(Record, OwnedFd)> {
    let record = root.read(id)?;
    let stopped = || ContainerError::Other(format!("container with id {id} is not running"));
    if status::of(&record, &root.of(id))? == Status::Stopped {
        return Err(stopped());
    }
    let process = record.init.map(status::alive).transpose()?.flatten();
    Ok((record, process.ok_or_else(stopped)?))
}

/// Learns from the kernel that memory ran out.
enum MemoryWatch {
    /// Version 1 signals an eventfd that was registered with `cgroup.event_control`.
    Notified { event: EventFd, _control: File },
    /// Version 2 changes `memory.events`, where it counts.
    Counted {
        watch: Inotify,
        path: PathBuf,
        known: u64,
    },
}

impl MemoryWatch {
    /// `None` where there is no controller of memory that could tell.
    fn new(cgroups: &[PathBuf]) -> Result<Option<Self>> {
        for cgroup in cgroups {
            let control = cgroup.join("memory.oom_control");
            if control.exists() {
                return Self::notified(cgroup, &control).map(Some);
            }
            let events = cgroup.join("memory.events");
            if events.exists() {
                return Self::counted(events).map(Some);
            }
        }
        Ok(None)
    }

    fn notified(cgroup: &Path, path: &Path) -> Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(ContainerError::call("eventfd()"))?;
        let control = File::open(path).map_err(ContainerError::file("cannot open", path))?;
        let registry = cgroup.join("cgroup.event_control");
        let line = format!("{} {}", event.as_fd().as_raw_fd(), control.as_raw_fd());
        fs::write(&registry, line).map_err(ContainerError::file("cannot write to", registry))?;
        Ok(MemoryWatch::Notified {
            event,
            _control: control,
        })
    }

    fn counted(path: PathBuf) -> Result<Self> {
        let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
            .map_err(ContainerError::call("inotify_init()"))?;
        watch
            .add_watch(&path, AddWatchFlags::IN_MODIFY)
            .map_err(ContainerError::call(format!("inotify_add_watch({path:?})")))?;
        // Read after the watch began: what happens in between is seen twice rather than not at all.
        let known = count(&path)?;
        Ok(MemoryWatch::Counted { watch, path, known })
    }

    /// How often it happened since it was last asked.
    fn take(&mut self) -> Result<u64> {
        match self {
            MemoryWatch::Notified { event, .. } => {
                let mut bytes = [0; 8];
                match nix::unistd::read(event.as_fd(), &mut bytes) {
                    // However often it was: one that waits is woken once.
                    Ok(8) => Ok(1),
                    Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
                    Err(errno) => Err(ContainerError::call("read(eventfd)")(errno)),
                }
            }
            MemoryWatch::Counted { watch, path, known } => {
                match watch.read_events() {
                    Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {}
                    Err(errno) => return Err(ContainerError::call("read(inotify)")(errno)),
                }
                let now = count(path)?.max(*known);
                let new = now - *known;
                *known = now;
                Ok(new)
            }
        }
    }
}

impl AsFd for MemoryWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            MemoryWatch::Notified { event, .. } => event.as_fd(),
            MemoryWatch::Counted { watch, .. } => watch.as_fd(),
        }
    }
}

/// `oom_kill` of a `memory.events`; 0 if the cgroup is gone.
fn count(path: &Path) -> Result<u64> {
    let mut text = String::new();
    match File::open(path).and_then(|mut file| file.read_to_string(&mut text)) {
        Ok(_) => {}
        Err(error)
            if error.kind() == std::io::ErrorKind::NotFound
                || error.raw_os_error() == Some(nix::libc::ENODEV) => {}
        Err(error) => return Err(ContainerError::file("cannot read", path)(error)),
    }
    let number = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    Ok(number.and_then(|number| number.trim().parse().ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_that_the_kernel_counts_is_told_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("memory.events");
        fs::write(&path, "oom 1\noom_kill 1\n").unwrap();
        let mut watch = MemoryWatch::new(&["/nowhere".into(), directory.path().to_owned()])
            .unwrap()
            .unwrap();
        assert_eq!(watch.take().unwrap(), 0, "what was before is no news");
        fs::write(&path, "oom 3\noom_kill 3\n").unwrap();
        let mut ready = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut ready, PollTimeout::from(1000_u16)).unwrap(), 1);
        assert_eq!(watch.take().unwrap(), 2);
        assert_eq!(watch.take().unwrap(), 0);
    }

    #[test]
    fn a_host_without_the_controller_tells_nothing() {
        assert!(MemoryWatch::new(&["/nowhere".into()]).unwrap().is_none());
    }
}
