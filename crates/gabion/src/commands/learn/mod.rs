//! `gabion learn`: run a container, or watch one that an engine runs, and write the profile that it needs.

mod watch;

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use gabion_baseline::change::FLOOR;
use gabion_container::{By, ContainerError, Ended, Guard, Patience, Watch, remove, run_watched};
use gabion_learn::files::{OBSERVATIONS, Output, discard};
use gabion_learn::forms::{self, Sets};
use gabion_learn::report::Report;
use gabion_learn::{Force, Run, Seen, Subject, Trace, Watcher, profile};
use gabion_ledger::{Operation, Verdict};
use gabion_seccomp::{Profile, Target, compile, floor};
use serde_json::Value;

use super::create::Build;
use super::lifecycle::{WATCHED, note_failure, prepare};
use super::seccomp::differences;
use crate::context::Context;
use crate::failure::Failure;
use crate::gate::Admission;
use crate::print;

/// After this long a container that was asked to end is ended.
const GRACE: Duration = Duration::from_secs(10);

/// Run or watch a container, and write the seccomp profile that it needs
///
/// What it calls is watched, and which capabilities it uses. The container is judged and
/// runs as with `gabion run`, under the profile that it has anyway: what that denies stays
/// denied, and is told. Watching takes time at each system call. What is written allows what
/// was seen, and never more than the container had:
///
///   seccomp.json       for linux.seccomp of config.json, and `gabion seccomp`
///   docker.json        for Docker and podman: --security-opt seccomp=FILE; for nodes of
///                      Kubernetes (Localhost)
///   kubernetes.yaml    a SeccompProfile of the security-profiles-operator, and what a
///                      container's securityContext says
///   oci.json           capabilities and filter, as they stand in config.json
///   diff.txt           what is answered differently from gabion's default
///   report.txt         what is printed
///   observations.json  what was seen, for --merge
///
/// Ends with the program's exit status; with 0 where it was ended from here, by --for or a
/// signal. A second signal does not wait for it.
///
/// With --watch nothing is run: the container is one that an engine runs with gabion. It is
/// waited for, and watched from its program's first call, with the processes that exec puts
/// into it; one that runs already is watched from now on. Nothing about it is changed, and
/// it goes on when --for or a signal ends the watching. Then the exit status is 0.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// Name of the container (letters, digits, _ + - .); with --watch, its ID in the engine, of
    /// which the first twelve digits will do
    #[arg(
        value_name = "CONTAINER_ID",
        required_unless_present = "annotations",
        verbatim_doc_comment
    )]
    id: Option<String>,

    #[command(flatten)]
    build: Build,

    /// Watch a container that an engine runs
    #[arg(long, conflicts_with_all = BUILDING)]
    watch: bool,

    /// With --watch: the next container that is started with this annotation; may be repeated,
    /// and then all have to be there
    #[arg(
        long = "annotation",
        value_name = "KEY=VALUE",
        value_parser = annotation,
        requires = "watch",
        verbatim_doc_comment
    )]
    annotations: Vec<(String, String)>,

    /// Write into DIR, which must not be there yet [default: ./CONTAINER_ID.learnt]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,

    /// Add to what an earlier run wrote there: a profile only grows
    #[arg(long)]
    merge: bool,

    /// End the container after this time: 90s, 2m, 1h; with --watch, end the watching
    #[arg(long = "for", value_name = "TIME", value_parser = gabion_learn::duration::parse)]
    time: Option<Duration>,

    /// Allow ioctl, prctl, socket and personality with the values that were seen alone
    #[arg(long)]
    arguments: bool,

    /// Have docker.json and kubernetes.yaml allow what runc and crun call themselves after
    /// they have loaded the filter; gabion needs nothing there
    #[arg(long, verbatim_doc_comment)]
    any_runtime: bool,
}

/// Flags for building a container, by their names in [`Build`].
const BUILDING: [&str; 7] = [
    "bundle",
    "console_socket",
    "pidfd_socket",
    "pid_file",
    "no_pivot",
    "no_new_keyring",
    "preserve_fds",
];

fn annotation(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("this is not of the form KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Options {
    fn id(&self) -> Result<&str, Failure> {
        let id = self.id.as_deref();
        id.ok_or_else(|| Failure::error("the container's name is missing"))
    }
}

pub(crate) fn run(options: &Options, context: &Context<'_>) -> Result<ExitCode, Failure> {
    if context.is_rootless() {
        return Err(Failure::error(
            "learning takes root: the kernel gives nobody else the listener of a container's filter, or its trace. Learn as \
             root; the profile is good for containers of others as well",
        ));
    }
    if options.watch {
        return watch::run(options, context);
    }
    let name = options.id()?;
    let directory = directory(options, name);
    // Before anything runs: what cannot be written in the end is not worth watching.
    let mut output = Output::prepare(&directory, options.merge)?;
    let (root, id, admission, create) = prepare(name, &options.build, Operation::Run, context)?;
    let Admission {
        admitted, mut book, ..
    } = admission;
    let in_force = InForce::of(admitted.document())?;
    let (trace, untraced) = trace(id.as_str());

    let draft = output.draft().to_owned();
    let guard = Guard::new(|| {
        remove(&root, &id, &create.bundle);
        if let Some(trace) = &trace {
            trace.remove();
        }
        discard(&draft);
    })?;

    // After the guard, which would otherwise hold them open: their end tells that the process has ended.
    let (watcher_end, process_end) = UnixStream::pair().context("cannot make a pair of sockets")?;
    let watch = Watch {
        program: profile::watching(&in_force.force.profile)
            .map_err(gabion_learn::LearnError::from)?
            .program,
        channel: process_end.into(),
    };

    let began = gabion_ledger::Timestamp::now().to_string();
    let clock = Instant::now();
    let mut watcher = None;
    let created = |pid| {
        let subject = Subject {
            pid,
            channel: watcher_end,
            force: in_force.force.clone(),
        };
        watcher = Some(
            Watcher::start(subject, trace.as_ref())
                .map_err(|error| ContainerError::Other(error.to_string()))?,
        );
        Ok(())
    };
    let started = || {
        book.note(Verdict::Started, Some(WATCHED))
            .map_err(|failure| ContainerError::Other(failure.line()))
    };
    let patience = Patience {
        time: options.time,
        grace: GRACE,
    };
    let ended = run_watched(&root, admitted, create, watch, patience, created, started);
    let seconds = clock.elapsed().as_secs();
    // Every process of the container is gone by now, so the thread that watched them comes to its end.
    let seen = watcher.map(|watcher| watcher.join(trace.as_ref())).transpose();
    let traced = trace.as_ref().is_some_and(Trace::tells_capabilities);
    drop(trace);
    let learnt = (|| {
        let (ended, seen) = match (ended, seen) {
            // The container was ended because of it, and that says nothing.
            (_, Err(error)) => {
                let error = ContainerError::Other(format!("it could not be watched: {error}"));
                return Err(note_failure(&mut book, &id, error)?);
            }
            (Err(error), Ok(_)) => return Err(note_failure(&mut book, &id, error)?),
            (Ok(ended), Ok(seen)) => (ended, seen.unwrap_or_default()),
        };
        let run = Run {
            began,
            seconds,
            ended: words(ended),
            traced,
            lost: seen.lost,
            attached: false,
            new: Vec::new(),
        };
        let text = write(
            &mut output,
            options,
            name,
            &in_force,
            (seen, run),
            untraced.as_deref(),
        )?;
        Ok((ended, text))
    })();
    guard.done();
    let (ended, text) = learnt?;
    print::out(&format!("{text}\nWritten to {}.\n", output.directory().display()))?;
    Ok(match ended.by {
        By::Itself => ExitCode::from(u8::try_from(ended.status).unwrap_or(u8::MAX)),
        By::Time | By::Signal => ExitCode::SUCCESS,
    })
}

/// Where it is written.
fn directory(options: &Options, id: &str) -> PathBuf {
    match &options.output {
        Some(directory) => directory.clone(),
        None => PathBuf::from(format!("{id}.learnt")),
    }
}

/// What is in force in the container while it learns.
struct InForce {
    force: Force,
    /// All of its sets of capabilities.
    sets: Sets,
}

impl InForce {
    /// Of a container with this effective configuration.
    fn of(document: &Value) -> Result<InForce, Failure> {
        let value = document.pointer("/linux/seccomp").unwrap_or(&Value::Null);
        let profile = Profile::from_value(value)
            .with_context(|| "config.json#/linux/seccomp")?
            .ok_or_else(|| {
                Failure::error(
                    "the container has no seccomp profile, and none was filled in (SEC-01 is off, or the profile is \
                     privileged): what is learnt is a part of what is in force. Learn under baseline, or with a profile",
                )
            })?;
        let list = |pointer: &str| -> Vec<String> {
            let value = document.pointer(pointer).cloned();
            value
                .and_then(|value| serde_json::from_value(value).ok())
                .unwrap_or_default()
        };
        let bounding = list("/process/capabilities/bounding");
        let entries = list(&format!("/linux/{FLOOR}"));
        let mut filters = Vec::new();
        filters.extend(
            floor::filter(&entries, &bounding)
                .map_err(anyhow::Error::from)?
                .map(|floor| floor.program),
        );
        filters.push(
            compile(&profile, &Target::native())
                .context("config.json#/linux/seccomp")?
                .program,
        );
        let sets = ["bounding", "effective", "permitted", "inheritable", "ambient"]
            .into_iter()
            .map(|set| (set.to_owned(), list(&format!("/process/capabilities/{set}"))))
            .collect();
        let held = bounding.into_iter().collect();
        Ok(InForce {
            force: Force {
                profile,
                filters,
                held,
            },
            sets,
        })
    }
}

/// The kernel's trace, or why there is none.
fn trace(id: &str) -> (Option<Trace>, Option<String>) {
    match Trace::new(&format!("gabion-learn-{id}-{}", std::process::id())) {
        Ok(trace) => {
            let lacks = lacks(&trace);
            (Some(trace), lacks)
        }
        Err(why) => (None, Some(why)),
    }
}

/// What a trace cannot tell.
fn lacks(trace: &Trace) -> Option<String> {
    (!trace.tells_capabilities()).then(|| {
        "this kernel has no tracepoint capability:cap_capable (Linux 6.14), and capabilities were not told".to_owned()
    })
}

fn words(ended: Ended) -> String {
    match (ended.by, ended.status) {
        (By::Itself, 0) => "ended by itself with status 0".to_owned(),
        (By::Itself, status) => format!(
            "ended by itself with status {status}, which says that something failed: what would have come after that is \
             missing"
        ),
        (By::Time, _) => "ended when its time was over".to_owned(),
        (By::Signal, _) => "ended by a signal from outside".to_owned(),
    }
}

/// Adds what was seen to what was known, and writes everything; gives the report.
fn write(
    output: &mut Output,
    options: &Options,
    id: &str,
    in_force: &InForce,
    (seen, run): (Seen, Run),
    untraced: Option<&str>,
) -> Result<String, Failure> {
    if !seen.began {
        return Err(Failure::error(
            "the program was not seen to begin; nothing was learnt, and nothing is written",
        ));
    }
    let mut all = output.take_before();
    let mut observations = seen.observations;
    observations.runs.push(run);
    all.merge(observations);

    let learnt = profile::narrow(&in_force.force.profile, &all, options.arguments);
    let portable = if options.any_runtime {
        let wide = profile::with_runtimes(&all);
        profile::portable(
            &profile::narrow(&in_force.force.profile, &wide, options.arguments),
            &wide,
        )
    } else {
        profile::portable(&learnt, &all)
    };
    let sets = forms::needed(&in_force.sets, &all);
    let bounding = in_force.sets.get("bounding").cloned().unwrap_or_default();
    let default =
        Profile::from_value(&gabion_seccomp::default::profile(&bounding)).context("the default profile")?;
    let default_path = Path::new("default");
    let learnt_path = Path::new("seccomp.json");
    let diff = differences(
        (default_path, default.as_ref()),
        (learnt_path, Some(&learnt)),
        Some(110),
    )?;
    let (before, after) = (
        profile::allowed(&in_force.force.profile),
        profile::allowed(&learnt),
    );
    let report = |everything, width| {
        Report {
            seen: &all,
            before: &before,
            after: &after,
            held: &in_force.sets,
            untraced,
            everything,
            width,
        }
        .text()
    };
    let json = |value: &Value| print::indented(value, b"  ").map(String::into_bytes);
    let files = [
        ("seccomp.json", json(&serde_json::to_value(&learnt)?)?),
        ("docker.json", json(&profile::docker(&portable))?),
        (
            "kubernetes.yaml",
            forms::kubernetes(&forms::resource_name(id), &sets, &portable).into_bytes(),
        ),
        ("oci.json", json(&forms::oci(&sets, &learnt))?),
        ("diff.txt", diff.into_bytes()),
        ("report.txt", report(true, Some(110)).into_bytes()),
        (OBSERVATIONS, json(&serde_json::to_value(&all)?)?),
    ];
    output.write(&files)?;
    Ok(report(false, Some(print::prose_width())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_as_what_it_means() {
        let ended = |by, status| words(Ended { status, by });
        assert_eq!(ended(By::Itself, 0), "ended by itself with status 0");
        assert!(ended(By::Itself, 1).contains("with status 1, which says that something failed"));
        assert_eq!(ended(By::Time, 143), "ended when its time was over");
    }
}
