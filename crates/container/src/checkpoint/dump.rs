//! `checkpoint`: the images are written, and the container ends, unless it is to run on.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use gabion_baseline::Allegation;
use gabion_sys::process;
use nix::errno::Errno;
use nix::sys::stat::Mode;
use rust_criu::rust_criu_protobuf::rpc::Criu_req_type;

use super::criu::{self, Criu, LogFile};
use super::guard::Guard;
use super::images::{self, Claims};
use super::{Traits, external, reality, refuse_unsupported};
use crate::cgroup;
use crate::delete::{self, Force};
use crate::error::{ContainerError, Result};
use crate::exec::effective;
use crate::freeze;
use crate::id::ContainerId;
use crate::state::{Record, StateRoot};
use crate::status::{self, Status};

const LOG: &str = "dump.log";

/// How long CRIU is waited for by who cleans up after gabion.
const PATIENCE: Duration = Duration::from_secs(600);

/// What the caller of `checkpoint` asks for.
#[derive(Debug)]
pub struct CheckpointOptions {
    /// The directory that the images are written to; made if it is not there.
    pub images: PathBuf,
    /// Where CRIU's log goes; with the images if `None`.
    pub work: Option<PathBuf>,
    /// Images of an earlier pre-dump that these build on, relative to their directory.
    pub parent: Option<PathBuf>,
    /// The container runs on afterwards.
    pub leave_running: bool,
    /// Only memory is written, and the container runs on: a later checkpoint builds on it.
    pub pre_dump: bool,
    /// Connections that are being made are left out.
    pub skip_in_flight: bool,
    /// Files that are open and have no name any more get one for the time being.
    pub link_remap: bool,
    /// What is kept how.
    pub traits: Traits,
}

/// Checkpoints a container.
///
/// # Preconditions
/// One thread; no other children that were not reaped.
///
/// # Errors
/// [`ContainerError::WrongState`] unless it is running or paused, [`ContainerError::Unsupported`] for what cannot be
/// checkpointed, CRIU's own words if it fails. The container is then as before, and no image is left.
pub fn checkpoint(root: &StateRoot, id: &ContainerId, options: &CheckpointOptions) -> Result<()> {
    let locked = root.lock(id)?;
    let record = locked.record()?;
    let status = status::of(&record, locked.path())?;
    let wrong = || ContainerError::WrongState {
        operation: "checkpoint",
        status: status.name(),
    };
    if !matches!(status, Status::Running | Status::Paused) {
        return Err(wrong());
    }
    let init = record.init.ok_or_else(wrong)?;
    let _alive = status::alive(init)?.ok_or_else(wrong)?;
    let allegation = Allegation::from_document(effective(root, id)?)
        .map_err(|error| ContainerError::Other(error.to_string()))?;
    let config = allegation.config();
    refuse_unsupported(config)?;
    let [freezer] = &record.cgroups[..] else {
        return Err(ContainerError::Other(
            "the container has no cgroup of version 2: it cannot be stopped as a whole".to_owned(),
        ));
    };
    let program = criu::find()?;
    warn_of_others(&record, init.pid)?;

    let directory = images::writable(&options.images)?;
    let work = match &options.work {
        Some(path) => images::working(path)?,
        None => directory
            .try_clone()
            .map_err(ContainerError::file("cannot keep", &options.images))?,
    };
    let work_path = options.work.as_ref().unwrap_or(&options.images);
    let parent = options
        .parent
        .as_deref()
        .map(|parent| check_parent(&options.images, parent))
        .transpose()?;
    let before = images::names(&directory, &options.images)?;

    let mut request = options.traits.options(&directory, &work, LOG);
    request.set_pid(init.pid);
    request.set_leave_running(options.leave_running);
    request.set_root(text(&record.rootfs)?);
    request.set_freeze_cgroup(text(freezer)?);
    request.set_link_remap(options.link_remap);
    request.set_tcp_skip_in_flight(options.skip_in_flight);
    request.set_track_mem(options.pre_dump || parent.is_some());
    if let Some(parent) = &parent {
        request.set_parent_img(parent.clone());
    }
    external::dumped_mounts(&mut request, config, init.pid)?;
    external::dumped_namespaces(&mut request, config, init.pid)?;
    let streams = external::dumped_streams(&mut request, init.pid)?;
    let claims = || Claims {
        id: record.id.clone(),
        profile: record.profile.clone(),
        pre_dump: options.pre_dump,
        streams: streams.clone(),
        ..Claims::default()
    };

    let log = LogFile {
        directory: work_path.clone(),
        name: LOG,
    };
    let criu = Criu::start(&program, log, &[], || {
        // What the images hold, passwords included, is root's alone, wherever they are moved.
        nix::sys::stat::umask(Mode::from_bits_truncate(0o077));
        Ok(())
    })?;
    let guard = let_go_in_time(&record, status, &criu)?;
    let mut is_signed = false;
    let kind = if options.pre_dump {
        Criu_req_type::PRE_DUMP
    } else {
        Criu_req_type::DUMP
    };
    let outcome = criu.request(kind, request, |point| {
        // All images are written, and the processes are still there: if the list cannot be, they run on.
        if point.name == "post-dump" {
            images::sign(&directory, &options.images, claims())?;
            is_signed = true;
        }
        Ok(())
    });
    let outcome = outcome.and_then(|()| match is_signed {
        true => Ok(()),
        // A pre-dump comes to no such point.
        false => images::sign(&directory, &options.images, claims()),
    });
    match outcome {
        Ok(()) => guard.release(),
        Err(error) => {
            // Lets the container go, should CRIU have been killed with it in its hands.
            drop(guard);
            images::remove_but(&directory, &options.images, &before);
            return Err(error);
        }
    }
    if !options.leave_running && !options.pre_dump {
        delete::delete_locked(root, locked, &record, Force::Yes)?;
    }
    Ok(())
}

/// CRIU writes the first process and all that descend from it. Those that `exec` has started descend from somebody outside.
fn warn_of_others(record: &Record, init: i32) -> Result<()> {
    // In this order: what was forked meanwhile is not taken for somebody else's.
    let all = cgroup::processes(&record.cgroups)?;
    let family = reality::family(init)?;
    let is_there = |pid: &&i32| status::stat(**pid).is_some_and(|(state, _)| state != 'Z');
    let others = all.difference(&family).filter(is_there).count();
    if others > 0 {
        tracing::warn!(
            "{others} processes that were started by exec, or descend from such, are no part of the checkpoint"
        );
    }
    Ok(())
}

/// Whoever is killed in between does not leave the container frozen: CRIU lets it go when nobody answers it, and if CRIU
/// was killed too, the guard does.
fn let_go_in_time(record: &Record, status: Status, criu: &Criu) -> Result<Guard> {
    let process = match process::open(criu.pid()) {
        Ok(process) => Some(process),
        Err(error) if error.errno == Errno::ESRCH => None,
        Err(error) => return Err(error.into()),
    };
    let record = record.clone();
    Guard::new(&[criu.socket_number()], move || {
        if let Some(process) = process {
            drop(cgroup::wait_for_end(process, PATIENCE));
        }
        if status == Status::Running && cgroup::is_frozen(&record.cgroups).unwrap_or(true) {
            drop(freeze::thaw(&record));
        }
    })
}

/// The images that these build on: CRIU's link to them is relative, so that both can be moved together.
fn check_parent(images: &Path, parent: &Path) -> Result<String> {
    let is_relative = parent.components().all(|part| {
        matches!(
            part,
            Component::Normal(_) | Component::ParentDir | Component::CurDir
        )
    });
    if !is_relative {
        return Err(ContainerError::Other(format!(
            "--parent-path {parent:?} has to be relative to the directory of the images"
        )));
    }
    let place = images.join(parent);
    if !place.join("inventory.img").exists() && !place.join("pagemap-1.img").exists() {
        return Err(ContainerError::Other(format!(
            "--parent-path {parent:?}: {place:?} holds no images of a checkpoint --pre-dump"
        )));
    }
    drop(images::writable(&place)?);
    text(parent)
}

fn text(path: &Path) -> Result<String> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| ContainerError::Other(format!("{path:?} is not UTF-8, and CRIU cannot be told of it")))
}
