//! `gabion learn --watch`: a container that an engine runs.

use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use gabion_container::watchers::{Post, Told};
use gabion_container::{Container, ContainerId, Guard, StateRoot, Status, effective, processes};
use gabion_learn::files::Output;
use gabion_learn::{Attached, Run, Trace};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use super::{InForce, Options, directory, lacks, write};
use crate::context::Context;
use crate::failure::Failure;
use crate::print;

/// How long the trace is left alone at most.
const GLANCE: Duration = Duration::from_millis(20);

/// Directories whose entries are state roots that engines give to gabion: one for each of their namespaces.
const ENGINES: [&str; 2] = ["/run/containerd/runc", "/run/containerd/gabion"];
/// Docker's have one more level, for the runtime's name.
const DOCKER: &str = "/run/docker";

pub(super) fn run(options: &Options, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let output = match (&options.output, &options.id) {
        (Some(output), _) => output.clone(),
        (None, Some(id)) => directory(options, id),
        (None, None) => {
            return Err(Failure::error(
                "which container it will be is not known yet: --output has to say where to write",
            ));
        }
    };
    let mut output = Output::prepare(&output, options.merge)?;
    let trace = Trace::new(&format!("gabion-learn-watch-{}", std::process::id())).map_err(|why| {
        Failure::error(format!(
            "an engine's container is watched by the kernel's trace alone, and {why}. Its bundle can be run by gabion learn \
             without --watch"
        ))
    })?;
    let post = Post::open().map_err(anyhow::Error::from)?;
    let guard = Guard::new(|| {
        trace.remove();
        drop(fs::remove_file(post.path()));
    })
    .map_err(anyhow::Error::from)?;
    let outcome = watch(options, context, &trace, &post, &mut output);
    drop(post);
    trace.remove();
    guard.done();
    let text = outcome?;
    print::out(&format!("{text}\nWritten to {}.\n", output.directory().display()))
}

/// Waits for the container, watches it, and writes what was seen; gives the report.
fn watch(
    options: &Options,
    context: &Context<'_>,
    trace: &Trace,
    post: &Post,
    output: &mut Output,
) -> Result<String, Failure> {
    let mut signals = SigSet::empty();
    signals.extend([Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM]);
    signals.thread_block().context("cannot block signals")?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .context("signalfd()")?;
    let wanted = Wanted {
        id: options.id.as_deref(),
        annotations: &options.annotations,
    };
    let found = match running(&wanted, &state_roots(context))? {
        Some(found) => found,
        None => started(&wanted, post, &signals)?,
    };

    let document = effective(&found.root, &found.id).map_err(anyhow::Error::from)?;
    let in_force = InForce::of(&document)?;
    let force = in_force.force.clone();
    let pid = found
        .container
        .pid()
        .with_context(|| format!("container {} has ended", found.id))?;
    let process = gabion_sys::process::open(Pid::from_raw(pid)).map_err(anyhow::Error::from)?;
    let is_from_start = found.container.status == Status::Created;
    let attached = if is_from_start {
        Attached::before_start(pid, force, trace)
    } else {
        let processes = || processes(&found.root, &found.id).map_err(|error| error.to_string());
        Attached::running(processes, force, trace)
    };
    let mut attached = attached?;
    let began = gabion_ledger::Timestamp::now().to_string();
    let clock = Instant::now();
    if let Some(told) = found.told {
        told.watched();
    }
    say(&format!("Watching container {}.\n", found.id));

    let end = options.time.map(|time| clock + time);
    let container = (&found.root, &found.id);
    let end = wait(&mut attached, &process, post, &signals, container, end)?;
    let seen = attached.finish();
    let start = match is_from_start {
        true => "watched from its start",
        false => "watched when it ran already, so that what it called before is missing",
    };
    let run = Run {
        began,
        seconds: clock.elapsed().as_secs(),
        ended: format!("{start}, until {}", end.words()),
        traced: trace.tells_capabilities(),
        lost: seen.lost,
        attached: true,
        new: Vec::new(),
    };
    let name = output
        .directory()
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let name = name.strip_suffix(".learnt").unwrap_or(&name);
    write(
        output,
        options,
        name,
        &in_force,
        (seen, run),
        lacks(trace).as_deref(),
    )
}

/// Which container is meant.
struct Wanted<'a> {
    id: Option<&'a str>,
    annotations: &'a [(String, String)],
}

impl Wanted<'_> {
    fn is(&self, id: &str, container: &Container) -> bool {
        let has = |(key, value): &(String, String)| container.record.annotations.get(key) == Some(value);
        self.id.is_none_or(|wanted| is_called(id, wanted)) && self.annotations.iter().all(has)
    }

    fn words(&self) -> String {
        let mut words = match self.id {
            Some(id) => format!("container {id}"),
            None => "a container".to_owned(),
        };
        for (index, (key, value)) in self.annotations.iter().enumerate() {
            words.push_str(&format!(
                " {} {key}={value}",
                if index == 0 { "with" } else { "and" }
            ));
        }
        words
    }
}

/// Docker's ids are 64 digits, of which people see the first twelve.
fn is_called(id: &str, wanted: &str) -> bool {
    const SHORT: usize = 12;
    let is_short = wanted.len() >= SHORT && wanted.bytes().all(|byte| byte.is_ascii_hexdigit());
    id == wanted || (is_short && id.len() == 64 && id.starts_with(wanted))
}

struct Found {
    root: StateRoot,
    id: ContainerId,
    container: Container,
    /// Who waits with its start, if anybody does.
    told: Option<Told>,
}

/// Where gabion's containers may be: below `--root`, or in the usual places.
fn state_roots(context: &Context<'_>) -> Vec<PathBuf> {
    if context.globals().root.is_some() {
        return vec![context.root()];
    }
    let below = |directory: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.path())
            .filter(|path| path.is_dir())
            .collect()
    };
    let mut roots = vec![context.root()];
    roots.extend(ENGINES.iter().flat_map(|directory| below(Path::new(directory))));
    let runtimes = below(Path::new(DOCKER)).into_iter().filter(|path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("runtime-"))
    });
    roots.extend(runtimes.flat_map(|runtime| below(&runtime)));
    roots
}

/// A container that is there already, if its id is known.
fn running(wanted: &Wanted<'_>, roots: &[PathBuf]) -> Result<Option<Found>, Failure> {
    let Some(name) = wanted.id else { return Ok(None) };
    let mut all = Vec::new();
    for root in roots.iter().filter(|root| root.is_dir()) {
        // Other runtimes' roots are there as well, with what gabion cannot read.
        let Ok(root) = StateRoot::open(root) else { continue };
        for id in root.ids().unwrap_or_default() {
            if !is_called(id.as_str(), name) {
                continue;
            }
            let Ok(container) = Container::find(&root, &id) else {
                continue;
            };
            if container.pid().is_some() && wanted.is(id.as_str(), &container) {
                all.push(Found {
                    root: root.clone(),
                    id,
                    container,
                    told: None,
                });
            }
        }
    }
    if let [first, second, ..] = all.as_slice() {
        return Err(Failure::error(format!(
            "there are several containers {name}: one below {:?}, one below {:?}; --root chooses",
            first.root.path(),
            second.root.path()
        )));
    }
    Ok(all.pop())
}

/// The next one that is started.
fn started(wanted: &Wanted<'_>, post: &Post, signals: &SignalFd) -> Result<Found, Failure> {
    say(&format!("Waiting for {} to be started.\n", wanted.words()));
    loop {
        let [told, signalled] = ready([post.as_fd(), signals.as_fd()], PollTimeout::NONE)?;
        if signalled {
            return Err(Failure::error(format!(
                "ended by a signal before {} was started; nothing is written",
                wanted.words()
            )));
        }
        if !told {
            continue;
        }
        while let Some(told) = post.next().map_err(anyhow::Error::from)? {
            let Ok((root, id)) = told.container() else {
                continue;
            };
            let Ok(container) = Container::find(&root, &id) else {
                continue;
            };
            if told.news.is_first && wanted.is(id.as_str(), &container) {
                let told = Some(told);
                return Ok(Found {
                    root,
                    id,
                    container,
                    told,
                });
            }
        }
    }
}

/// What ended the watching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Container,
    Time,
    Signal,
}

impl End {
    fn words(self) -> &'static str {
        match self {
            End::Container => "it ended",
            End::Time => "the time was over; it runs on",
            End::Signal => "a signal ended that; it runs on",
        }
    }
}

/// Takes down what the container calls, until it or something else ends that.
fn wait(
    attached: &mut Attached<'_>,
    process: &OwnedFd,
    post: &Post,
    signals: &SignalFd,
    (root, id): (&StateRoot, &ContainerId),
    until: Option<Instant>,
) -> Result<End, Failure> {
    let glance = PollTimeout::try_from(GLANCE).unwrap_or(PollTimeout::MAX);
    loop {
        let [ended, told, signalled] = ready([process.as_fd(), post.as_fd(), signals.as_fd()], glance)?;
        attached.look();
        if told {
            while let Some(told) = post.next().map_err(anyhow::Error::from)? {
                let is_ours = told
                    .container()
                    .is_ok_and(|(its, name)| its.path() == root.path() && name == *id);
                // The first one may have been found while it waited to be told of.
                if is_ours && !told.news.is_first {
                    attached.joined(told.news.pid)?;
                }
                if is_ours {
                    told.watched();
                }
            }
        }
        if ended {
            return Ok(End::Container);
        }
        if signalled {
            return Ok(End::Signal);
        }
        if until.is_some_and(|until| until <= Instant::now()) {
            return Ok(End::Time);
        }
    }
}

/// Which of these can be read.
fn ready<const N: usize>(
    descriptors: [std::os::fd::BorrowedFd<'_>; N],
    timeout: PollTimeout,
) -> Result<[bool; N], Failure> {
    let mut wanted = descriptors.map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN));
    match poll(&mut wanted, timeout) {
        Ok(_) => Ok(wanted.map(|one| one.revents().is_some_and(|events| !events.is_empty()))),
        Err(Errno::EINTR) => Ok([false; N]),
        Err(errno) => Err(anyhow::Error::from(errno).context("poll()").into()),
    }
}

/// To whoever waits with it; the report alone goes to standard output.
fn say(text: &str) {
    drop(std::io::stderr().write_all(text.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_called_by_its_id_or_by_what_docker_shows_of_it() {
        let long = "0123456789abcdef".repeat(4);
        assert!(is_called("web", "web") && !is_called("web-2", "web"));
        assert!(is_called(&long, "0123456789ab") && is_called(&long, &long));
        assert!(!is_called(&long, "0123456789a") && !is_called(&long, "1123456789ab"));
        assert!(!is_called("0123456789abc", "0123456789ab"), "no id of Docker's");
    }

    #[test]
    fn what_is_waited_for_is_said() {
        let annotations = [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())];
        let wanted = Wanted {
            id: None,
            annotations: &annotations,
        };
        assert_eq!(wanted.words(), "a container with a=1 and b=2");
    }
}
