//! Puts a runtime to the demands of the OCI runtime-spec.
//!
//! ```text
//! RUNTIME=/usr/sbin/runc gabion-conformance [--list] [--format markdown] [--known FILE] [--jobs N] [FILTER ...]
//! ```
//!
//! RUNTIME is the binary (by default the `gabion` beside this program); RUNTIME_ARGS holds global arguments
//! for it, separated by white space. A filter is a part of a clause's id. The status is 0 if every result was
//! expected, 1 if one was not, 2 if nothing could be run, which includes a runtime that cannot run a plain
//! container.
#![forbid(unsafe_code)]

use gabion_runtime_spec::clause::{Clause, Outcome};
use gabion_runtime_spec::known::Known;
use gabion_runtime_spec::report::{Line, Report, line};
use gabion_runtime_spec::stage::{CGROUP_PARENT, remove_cgroup};
use gabion_runtime_spec::{Runtime, Stage, bundle, clauses, host};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(reason) => {
            let told = writeln!(io::stderr(), "gabion-conformance: {reason}");
            ExitCode::from(if told.is_ok() { 2 } else { 3 })
        }
    }
}

const HELP: &str = "\
Puts a runtime to the demands of the OCI runtime-spec, a clause at a time. As root.

Usage: gabion-conformance [OPTIONS] [FILTER]...

Arguments:
  [FILTER]...  Only clauses whose id has one of these in it, such as config.md#mounts

Options:
      --list           Print the clauses, and run nothing
      --known FILE     What the runtime is known not to do: a clause, an environment and a reason a line. It is an error
                       if one of them passes
      --format FORMAT  text or markdown [default: text]
      --jobs N         How many clauses are tried at once
  -h, --help           Print help

Environment:
  RUNTIME              The runtime's binary [default: the gabion beside this program]
  RUNTIME_ARGS         Its global arguments, such as \"--profile privileged\"

The status is 0 if every result was expected, 1 if one was not, 2 if nothing could be run.";

/// What the command line asks for.
#[derive(Default)]
struct Wish {
    help: bool,
    list: bool,
    markdown: bool,
    known: Known,
    jobs: Option<usize>,
    filters: Vec<String>,
}

fn wish() -> Result<Wish, String> {
    let mut wish = Wish::default();
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "-h" | "--help" => wish.help = true,
            "--list" => wish.list = true,
            "--format" => match value()?.as_str() {
                "markdown" => wish.markdown = true,
                "text" => wish.markdown = false,
                other => return Err(format!("--format knows text and markdown, not {other:?}")),
            },
            "--known" => {
                let path = value()?;
                let text = fs::read_to_string(&path).map_err(|error| format!("{path:?}: {error}"))?;
                wish.known = Known::parse(&text).map_err(|error| format!("{path:?}, {error}"))?;
            }
            "--jobs" => {
                let number = value()?;
                let parsed = number.parse().ok().filter(|jobs| *jobs > 0);
                wish.jobs = Some(parsed.ok_or(format!("--jobs wants a number, not {number:?}"))?);
            }
            flag if flag.starts_with('-') => return Err(format!("no such flag: {flag:?}")),
            filter => wish.filters.push(filter.to_owned()),
        }
    }
    Ok(wish)
}

fn run() -> Result<bool, String> {
    let wish = wish()?;
    if wish.help {
        say(HELP)?;
        return Ok(true);
    }
    let all = clauses::all();
    if let Some(stranger) = wish
        .known
        .ids()
        .find(|id| !all.iter().any(|clause| clause.id == *id))
    {
        return Err(format!(
            "the list of known failures names {stranger:?}, which is no clause"
        ));
    }
    let fits = |clause: &Clause| {
        wish.filters.is_empty()
            || wish
                .filters
                .iter()
                .any(|filter| clause.id.contains(filter.as_str()))
    };
    let chosen: Vec<Clause> = all.into_iter().filter(fits).collect();
    if wish.list {
        for clause in &chosen {
            say(&format!(
                "{}\t{}\t{}",
                clause.id,
                clause.level.word(),
                clause.text
            ))?;
        }
        return Ok(true);
    }
    if chosen.is_empty() {
        return Err("no clause fits the filter".into());
    }
    let house = House::open()?;
    let lines = house.control().and_then(|()| house.play(&chosen, &wish));
    house.close()?;
    let report = Report {
        lines: lines?,
        known: &wish.known,
        mode: host::cgroup_mode(),
    };
    say("")?;
    say(if wish.markdown {
        report.markdown()
    } else {
        report.summary()
    }
    .trim_end())?;
    Ok(report.surprises() == 0)
}

/// The directory and the runtime of one run.
struct House {
    directory: PathBuf,
    runtime: Runtime,
    busybox: PathBuf,
}

impl House {
    fn open() -> Result<House, String> {
        // Containers whose `create` has ended become ours to wait for.
        nix::sys::prctl::set_child_subreaper(true)
            .map_err(|error| format!("PR_SET_CHILD_SUBREAPER: {error}"))?;
        let path = match env::var_os("RUNTIME") {
            Some(path) => PathBuf::from(path),
            None => env::current_exe()
                .map_err(|error| error.to_string())?
                .with_file_name("gabion"),
        };
        if !path.is_file() {
            return Err(format!(
                "no runtime at {path:?}; build it, or name one in RUNTIME"
            ));
        }
        let arguments = env::var("RUNTIME_ARGS").unwrap_or_default();
        let arguments = arguments.split_whitespace().map(str::to_owned).collect();
        let directory = env::temp_dir().join(format!("gabion-conformance-{}", std::process::id()));
        let (root, scratch) = (directory.join("state"), directory.join("scratch"));
        for place in [&directory, &root, &scratch] {
            fs::create_dir(place).map_err(|error| format!("{place:?}: {error}"))?;
        }
        let busybox = bundle::prepare_busybox(&directory).map_err(|error| error.to_string())?;
        Ok(House {
            directory,
            runtime: Runtime {
                path,
                arguments,
                root,
                scratch,
            },
            busybox,
        })
    }

    /// Finds out that the runtime can run a plain container at all. One that refuses everything would
    /// otherwise meet every clause that demands an error.
    fn control(&self) -> Result<(), String> {
        let directory = self.directory.join("control");
        let name = format!("conf-{}-control", std::process::id());
        let stage = Stage::new(self.runtime.clone(), directory, self.busybox.clone(), name);
        let (ran, left) = match &stage {
            Ok(stage) => (stage.observe("echo ran", |_| {}), stage.clear()),
            Err(stop) => return Err(format!("{stop:?}")),
        };
        match ran {
            Ok(seen) if seen.text() == "ran" && left.is_empty() => Ok(()),
            Ok(seen) => Err(format!(
                "a plain container wrote {:?} and left behind {left:?}",
                seen.out
            )),
            Err(stop) => Err(format!(
                "{:?} cannot run a plain container: {stop:?}",
                self.runtime.path
            )),
        }
    }

    /// Plays all chosen clauses, some at a time, and prints each result as it comes.
    fn play(&self, chosen: &[Clause], wish: &Wish) -> Result<Vec<Line>, String> {
        let mode = host::cgroup_mode();
        say(&format!(
            "{} on cgroup {mode}: {} clauses",
            self.runtime.path.display(),
            chosen.len()
        ))?;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let next = AtomicUsize::new(0);
        let done: Mutex<Vec<(usize, Line)>> = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            let worker = || -> Result<(), String> {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(clause) = chosen.get(index) else {
                        return Ok(());
                    };
                    let result = Line {
                        clause: *clause,
                        outcome: self.play_one(index, clause),
                    };
                    say(&line(&result, &wish.known, mode))?;
                    done.lock()
                        .map_err(|error| error.to_string())?
                        .push((index, result));
                }
            };
            let workers: Vec<_> = (0..wish.jobs.unwrap_or(processors))
                .map(|_| scope.spawn(worker))
                .collect();
            let ended = |worker: std::thread::ScopedJoinHandle<'_, Result<(), String>>| {
                worker.join().map_err(|_| "a worker panicked".to_owned())?
            };
            workers.into_iter().try_for_each(ended)
        })?;
        let mut done = done.into_inner().map_err(|error| error.to_string())?;
        done.sort_by_key(|(index, _)| *index);
        Ok(done.into_iter().map(|(_, line)| line).collect())
    }

    fn play_one(&self, index: usize, clause: &Clause) -> Outcome {
        let name = format!("conf-{}-{index}", std::process::id());
        let directory = self.directory.join(index.to_string());
        let stage = match Stage::new(self.runtime.clone(), directory, self.busybox.clone(), name) {
            Ok(stage) => stage,
            Err(stop) => return Err(stop).into(),
        };
        let outcome = Outcome::from((clause.run)(&stage));
        let left = stage.clear();
        match outcome {
            Outcome::Pass if !left.is_empty() => Outcome::Fail(format!("left behind: {}", left.join(", "))),
            other => other,
        }
    }

    fn close(self) -> Result<(), String> {
        for place in host::mounts_below(&self.directory) {
            nix::mount::umount2(&place, nix::mount::MntFlags::MNT_DETACH)
                .map_err(|error| format!("{place:?} cannot be unmounted: {error}"))?;
        }
        for directory in host::cgroup_directories(CGROUP_PARENT) {
            remove_if_empty(&directory);
        }
        fs::remove_dir_all(&self.directory).map_err(|error| format!("{:?}: {error}", self.directory))
    }
}

/// Removes the suite's own cgroup, unless another run of the suite has containers in it.
fn remove_if_empty(directory: &Path) {
    let used =
        fs::read_dir(directory).is_ok_and(|entries| entries.flatten().any(|entry| entry.path().is_dir()));
    if !used {
        remove_cgroup(directory);
    }
}

fn say(text: &str) -> Result<(), String> {
    writeln!(io::stdout(), "{text}").map_err(|error| error.to_string())
}
