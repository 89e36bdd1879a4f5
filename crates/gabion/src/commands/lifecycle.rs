//! The life of a container, wired to `gabion-container`.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use anyhow::Context as _;

use gabion_baseline::facts::LsmFact;
use gabion_container::watchers;
use gabion_container::{
    Container, ContainerError, ContainerId, CreateOptions, ExecOptions, Force, Foreground, Reach, StateRoot,
    SubCgroup, seal,
};
use gabion_descent::Failure as DescentFailure;
use gabion_ledger::{Operation, Verdict};
use serde::Serialize;

use crate::commands::{create, delete, exec, kill, list, pause, run, start, state};
use crate::context::Context;
use crate::failure::Failure;
use crate::gate::{self, Admission, Book};
use crate::print;

pub(crate) fn create(options: &create::Options, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let (root, id, mut admission, create) = prepare(&options.id, &options.build, Operation::Create, context)?;
    match gabion_container::create(&root, admission.admitted, &create) {
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(error) => Err(note_failure(&mut admission.book, &id, error)?),
    }
}

pub(crate) fn run(options: &run::Options, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let (root, id, admission, create) = prepare(&options.id, &options.build, Operation::Run, context)?;
    let Admission {
        admitted, mut book, ..
    } = admission;
    if options.detach {
        let mut watched = false;
        let outcome = gabion_container::create(&root, admitted, &create).and_then(|created| {
            watched = watchers::tell_of_start(&root, &created.into_record());
            gabion_container::start(&root, &id).inspect_err(|_| {
                if let Err(left) = gabion_container::delete(&root, &id, Force::Yes) {
                    context.warn(&format!("{id} could not be started, and not be removed: {left}"));
                }
            })
        });
        return match outcome {
            Ok(()) => {
                book.note(Verdict::Started, watched.then_some(WATCHED))?;
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => Err(note_failure(&mut book, &id, error)?),
        };
    }
    let foreground = Foreground {
        keep: options.keep,
        subreaper: !options.no_subreaper,
    };
    let started = |watched: bool| {
        book.note(Verdict::Started, watched.then_some(WATCHED))
            .map_err(|failure| ContainerError::Other(failure.line()))
    };
    match gabion_container::run_foreground(&root, admitted, create, foreground, started) {
        Ok(status) => Ok(ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX))),
        Err(error) => Err(note_failure(&mut book, &id, error)?),
    }
}

pub(crate) fn start(options: &start::Options, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let (root, id) = place(&options.id, context)?;
    let record = root.read(&id)?;
    let mut book = Book::of(
        context,
        id.as_str(),
        Operation::Start,
        &record.profile,
        &record.bundle,
    )?;
    let watched = watchers::tell_of_start(&root, &record);
    match gabion_container::start(&root, &id) {
        Ok(()) => {
            book.note(Verdict::Started, watched.then_some(WATCHED))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Err(note_failure(&mut book, &id, error)?),
    }
}

/// What is recorded with the start of a container that is watched.
pub(super) const WATCHED: &str = "watched by gabion learn";

pub(crate) fn exec(options: &exec::Options, context: &Context<'_>) -> Result<ExitCode, Failure> {
    start_process(options, context).map_err(|failure| Failure::Exec(Box::new(failure)))
}

fn start_process(options: &exec::Options, context: &Context<'_>) -> Result<ExitCode, Failure> {
    seal::ensure()?;
    seal::name_process()?;
    check_preserved(0, options.preserve_fds)?;
    let (root, id) = place(&options.id, context)?;
    context.filters().keep_in(root.filters());
    let record = root.read(&id)?;
    let effective = gabion_container::effective(&root, &id)?;
    let process = options.process(&effective)?;
    let host = gabion_host::Context {
        sealed: seal::sealed()?.map(str::to_owned),
        binary: seal::installed(),
        flags: match options.preserve_fds {
            0 => Vec::new(),
            number => vec![gabion_baseline::Flag::PreserveFds(number)],
        },
        ..gabion_host::Context::default()
    };
    let (admitted, lsm, mut book) = gate::admit_process(
        context,
        id.as_str(),
        &effective,
        process,
        &record.profile,
        &record.bundle,
        host,
    )?;
    let exec = ExecOptions {
        console_socket: absolute(&options.console_socket)?,
        plain_lines: false,
        pid_file: absolute(&options.pid_file)?,
        pidfd_socket: absolute(&options.pidfd_socket)?,
        preserved_descriptors: options.preserve_fds,
        cgroups: options
            .cgroup
            .iter()
            .map(|text| SubCgroup::parse(text))
            .collect::<Result<_, _>>()?,
        ignore_paused: options.ignore_paused,
        lsm: lsm.unwrap_or_default(),
        filters: Arc::clone(context.filters()),
    };
    let mut started = || {
        book.note(Verdict::Started, None)
            .map_err(|failure| ContainerError::Other(failure.line()))
    };
    let outcome = if options.detach {
        gabion_container::exec(&root, &id, admitted, &exec)
            .and_then(|_| started())
            .map(|()| 0)
    } else {
        gabion_container::exec_foreground(&root, &id, admitted, exec, &mut started)
    };
    match outcome {
        Ok(status) => Ok(ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX))),
        Err(error) => Err(note_failure(&mut book, &id, error)?),
    }
}

pub(crate) fn state(options: &state::Options, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let (root, id) = place(&options.id, context)?;
    print::json(&Entry::of(&Container::find(&root, &id)?))
}

pub(crate) fn kill(options: &kill::Options, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let (root, id) = place(&options.id, context)?;
    let reach = if options.all { Reach::All } else { Reach::Init };
    gabion_container::kill(&root, &id, options.signal.0, reach)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn delete(options: &delete::Options, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let (root, id) = place(&options.id, context)?;
    let force = if options.force { Force::Yes } else { Force::No };
    gabion_container::delete(&root, &id, force)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn list(options: &list::Options, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let root = StateRoot::open(&context.root())?;
    let mut entries = Vec::new();
    for container in gabion_container::list(&root)? {
        match container {
            Ok(container) => entries.push(Entry::of(&container)),
            // One that is damaged does not hide the others.
            Err(error) => context.warn(&error.to_string()),
        }
    }
    if options.quiet {
        return print::out(
            &entries
                .iter()
                .map(|entry| format!("{}\n", entry.id))
                .collect::<String>(),
        );
    }
    match options.format {
        list::Format::Json => print::line(&entries),
        list::Format::Table => print::out(&table(&entries)),
    }
}

pub(crate) fn pause(options: &pause::Pause, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let (root, id) = place(&options.id, context)?;
    gabion_container::pause(&root, &id)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn resume(options: &pause::Resume, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let (root, id) = place(&options.id, context)?;
    gabion_container::resume(&root, &id)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn ps(options: &pause::Ps, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let (root, id) = place(&options.id, context)?;
    let pids = gabion_container::processes(&root, &id)?;
    if options.format == list::Format::Json {
        return print::line(&pids);
    }
    let wanted = if options.options.is_empty() {
        vec!["-ef".to_owned()]
    } else {
        options.options.clone()
    };
    let output = Command::new("ps")
        .args(&wanted)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run ps")?;
    if !output.status.success() {
        return Err(Failure::error(format!(
            "ps {}: {}",
            wanted.join(" "),
            output.status
        )));
    }
    print::out(&of_container(&String::from_utf8_lossy(&output.stdout), &pids)?)
}

/// The header and those lines of a table of ps(1) that are about these processes.
fn of_container(table: &str, pids: &[i32]) -> Result<String, Failure> {
    let header = table.lines().next().unwrap_or_default();
    let Some(column) = header.split_whitespace().position(|title| title == "PID") else {
        return Err(Failure::error(
            "the options for ps give a table without a column PID",
        ));
    };
    let about = |line: &&str| {
        let pid = line
            .split_whitespace()
            .nth(column)
            .and_then(|cell| cell.parse().ok());
        pid.is_some_and(|pid: i32| pids.contains(&pid))
    };
    let lines = std::iter::once(header).chain(table.lines().skip(1).filter(about));
    Ok(lines.map(|line| format!("{line}\n")).collect())
}

/// Descriptors that are to be handed on have to be the caller's: a number that is free could be taken by a file of our
/// own, which closes when a program is executed and the caller's do not.
fn check_preserved(after: u32, count: u32) -> Result<(), Failure> {
    for index in 0..count {
        let number = i32::try_from(u64::from(index) + u64::from(after) + 3)?;
        if gabion_sys::process::closes_on_exec(number)? != Some(false) {
            return Err(Failure::error(format!(
                "please check that preserved-fd {index} (of {count}) is present: descriptor {number} was not handed to \
                 gabion"
            )));
        }
    }
    Ok(())
}

/// What judging a container that is to be made here takes: which root file systems are in use, and how this program runs.
pub(super) fn host_for(root: &StateRoot) -> Result<gabion_host::Context, Failure> {
    let holders = root.clone();
    Ok(gabion_host::Context {
        live: gabion_host::Live::by(move |identity| {
            let holder = holders.holder(identity)?;
            let container = Container::find(&holders, &holder).ok()?;
            container.pid().map(|_| holder.to_string())
        }),
        sealed: seal::sealed()?.map(str::to_owned),
        binary: seal::installed(),
        ..gabion_host::Context::default()
    })
}

/// Judges a bundle, and gathers what building takes.
pub(crate) fn prepare(
    id: &str,
    build: &create::Build,
    operation: Operation,
    context: &Context<'_>,
) -> Result<(StateRoot, ContainerId, Admission, CreateOptions), Failure> {
    // First of all, so that nothing is done twice.
    seal::ensure()?;
    seal::name_process()?;
    check_preserved(gabion_container::listen_descriptors(), build.preserve_fds)?;
    let (root, id) = place(id, context)?;
    context.filters().keep_in(root.filters());
    if root.of(&id).exists() {
        return Err(ContainerError::Exists(id.to_string()).into());
    }
    let host = gabion_host::Context {
        flags: build.weakening(),
        ..host_for(&root)?
    };
    let create = gabion_baseline::Operation::Create { id: id.to_string() };
    let mut admission = gate::admit(context, id.as_str(), &build.bundle, (operation, create), host)
        .map_err(|failure| or_taken(failure, &root, &id))?;
    let options = CreateOptions {
        id: id.clone(),
        bundle: admission.bundle.clone(),
        console_socket: absolute(&build.console_socket)?,
        pid_file: absolute(&build.pid_file)?,
        pidfd_socket: absolute(&build.pidfd_socket)?,
        no_pivot: build.no_pivot,
        new_keyring: !build.no_new_keyring,
        preserved_descriptors: build.preserve_fds,
        systemd_cgroup: context.globals().systemd_cgroup,
        held: std::mem::take(&mut admission.held),
        lsm: admission.lsm.clone().unwrap_or_else(LsmFact::default),
        rootless: context.is_rootless(),
        filters: Arc::clone(context.filters()),
    };
    Ok((root, id, admission, options))
}

/// Of two that make a container of one id at once, the later one may find the other's processes in the cgroup (RES-05),
/// or its root in use. What is wrong is that the id is taken.
pub(super) fn or_taken(failure: Failure, root: &StateRoot, id: &ContainerId) -> Failure {
    match failure {
        Failure::Refused { .. } if root.of(id).exists() => ContainerError::Exists(id.to_string()).into(),
        other => other,
    }
}

pub(crate) fn absolute(path: &Option<PathBuf>) -> std::io::Result<Option<PathBuf>> {
    path.as_ref().map(std::path::absolute).transpose()
}

pub(crate) fn place(id: &str, context: &Context<'_>) -> Result<(StateRoot, ContainerId), Failure> {
    let id = ContainerId::new(id)?;
    let root = std::path::absolute(context.root())?;
    let opened = StateRoot::open(&root);
    if opened.is_err() && context.is_rootless() && context.globals().root.is_none() {
        let state = opened.map_err(anyhow::Error::from);
        return Ok((
            state.context(
                "without root, XDG_RUNTIME_DIR or --root names a directory of yours for the state",
            )?,
            id,
        ));
    }
    Ok((opened?, id))
}

/// Records why a container does not run: a mismatch is a verdict of its own.
pub(crate) fn note_failure(
    book: &mut Book,
    id: &ContainerId,
    error: ContainerError,
) -> Result<Failure, Failure> {
    let verdict = match &error {
        ContainerError::Process(DescentFailure::Mismatch { .. }) => Verdict::Mismatch,
        _ => Verdict::Failed,
    };
    let failure = Failure::from(anyhow::Error::from(error).context(format!("container {id}")));
    book.note(verdict, Some(&failure.line()))?;
    Ok(failure)
}

/// A container as `state` and `list` print it: what the spec asks for, and what runc adds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    oci_version: String,
    id: String,
    pid: i32,
    status: &'static str,
    bundle: String,
    rootfs: String,
    created: String,
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    annotations: std::collections::BTreeMap<String, String>,
    owner: String,
}

impl Entry {
    fn of(container: &Container) -> Self {
        let record = &container.record;
        Entry {
            oci_version: record.oci_version.clone(),
            id: record.id.clone(),
            pid: container.pid().unwrap_or(0),
            status: container.status.name(),
            bundle: record.bundle.display().to_string(),
            rootfs: record.rootfs.display().to_string(),
            created: gabion_ledger::Timestamp::at(record.created.0, record.created.1).to_string(),
            annotations: record.annotations.clone(),
            owner: owner(record.owner),
        }
    }
}

/// A user's name, or the number where it has none. The host's own /etc/passwd is read, as text: a static
/// program loads no name service.
fn owner(uid: u32) -> String {
    let file = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = file.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("#{uid}"))
}

fn table(entries: &[Entry]) -> String {
    let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let rows = entries.iter().map(|entry| {
        [
            &entry.id,
            &entry.pid.to_string(),
            entry.status,
            &entry.bundle,
            &entry.created,
            &entry.owner,
        ]
        .map(|cell: &str| cell.to_owned())
    });
    let rows: Vec<[String; 6]> = std::iter::once(header).chain(rows).collect();
    let mut text = String::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            let width = rows
                .iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0);
            let last = column + 1 == row.len();
            text.push_str(cell);
            if !last {
                text.extend(std::iter::repeat_n(' ', width + 3 - cell.chars().count()));
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_ps_is_cut_to_the_containers_processes() {
        let table =
            "UID   PID  PPID CMD\nroot    1     0 init\nroot   17     1 sleep 17\nroot  170    17 sh\n";
        assert_eq!(
            of_container(table, &[17]).unwrap(),
            "UID   PID  PPID CMD\nroot   17     1 sleep 17\n"
        );
        assert!(of_container("USER CMD\n", &[17]).is_err());
    }
}
