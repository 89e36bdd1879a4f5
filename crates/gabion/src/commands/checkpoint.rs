//! `gabion checkpoint` and `gabion restore`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use gabion_baseline::Checkpoint;
use gabion_baseline::facts::LsmFact;
use gabion_container::{
    CgroupsMode, CheckpointOptions, ContainerError, Images, RestoreOptions, Traits, seal,
};
use gabion_ledger::{Operation, Verdict};

use crate::commands::lifecycle::{absolute, host_for, note_failure, or_taken, place};
use crate::context::Context;
use crate::failure::Failure;
use crate::gate::{self, Admission, Book};

/// Where the images are unless the caller says so.
const IMAGES: &str = "checkpoint";

/// Write a running container's processes to files, and end it
///
/// CRIU writes the images; gabion adds a list by which it knows them again. Takes root
/// and cgroup version 2. `gabion restore` makes a container of them.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Dump {
    /// Name of the container
    #[arg(value_name = "CONTAINER_ID")]
    id: String,

    #[command(flatten)]
    common: Common,

    /// Build on the images of an earlier --pre-dump, relative to --image-path
    #[arg(long, value_name = "DIR")]
    parent_path: Option<PathBuf>,

    /// Let the container run on
    #[arg(long)]
    leave_running: bool,

    /// Write memory only, and let the container run on
    #[arg(long)]
    pre_dump: bool,

    /// Leave out TCP connections that are being made
    #[arg(long)]
    tcp_skip_in_flight: bool,

    /// Give open files without a name one for the time being
    #[arg(long)]
    link_remap: bool,

    /// Refused: see docs/checkpoint.md
    #[arg(long, value_name = "ADDRESS:PORT", hide_short_help = true)]
    page_server: Option<String>,

    /// Refused: see docs/checkpoint.md
    #[arg(long, value_name = "FD", hide_short_help = true)]
    status_fd: Option<i32>,
}

/// Make a running container from the images of a checkpoint
///
/// The bundle is judged as for `create`, and the images as well (OPS-03). Before any of
/// the restored processes runs on, the kernel's state is compared with what was judged;
/// if it differs, all of them are killed, and the error names the checks.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Restore {
    /// Name of the new container (letters, digits, _ + - .)
    #[arg(value_name = "CONTAINER_ID")]
    id: String,

    #[command(flatten)]
    common: Common,

    /// Directory with config.json and the root file system [default: .]
    #[arg(
        short,
        long,
        value_name = "DIR",
        default_value = ".",
        hide_default_value = true
    )]
    bundle: PathBuf,

    /// Send the terminal's other end to this AF_UNIX socket
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,

    /// Do not wait for the container
    #[arg(short, long)]
    detach: bool,

    /// Write the init process' id to FILE
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,

    /// Leave orphans of the container to the system's init
    #[arg(long)]
    no_subreaper: bool,

    /// Accepted without effect: CRIU always uses pivot_root(2)
    #[arg(long)]
    no_pivot: bool,

    /// Restore with this security label: apparmor:NAME or selinux:LABEL
    #[arg(long, value_name = "TYPE:LABEL")]
    lsm_profile: Option<String>,

    /// Mount with this SELinux label, where an image has another
    #[arg(long, value_name = "LABEL")]
    lsm_mount_context: Option<String>,
}

/// The flags that both have.
#[derive(Debug, Args)]
struct Common {
    /// Directory of the images [default: checkpoint]
    #[arg(
        long,
        value_name = "DIR",
        default_value = IMAGES,
        hide_default_value = true
    )]
    image_path: PathBuf,

    /// Directory of CRIU's log [default: that of the images]
    #[arg(long, value_name = "DIR")]
    work_path: Option<PathBuf>,

    /// Keep established TCP connections
    #[arg(long)]
    tcp_established: bool,

    /// Allow unix sockets that are connected to processes outside
    #[arg(long)]
    ext_unix_sk: bool,

    /// Allow a session or terminal that began outside
    #[arg(long)]
    shell_job: bool,

    /// Keep file locks
    #[arg(long)]
    file_locks: bool,

    /// Cgroups below the container's own: soft, full, strict or ignore
    #[arg(
        long,
        value_name = "MODE",
        default_value = "soft",
        hide_possible_values = true
    )]
    manage_cgroups_mode: CgroupsWord,

    /// Leave a namespace's contents out: network
    #[arg(long, value_name = "TYPE")]
    empty_ns: Vec<EmptyNamespace>,

    /// Refused: see docs/checkpoint.md
    #[arg(long, hide_short_help = true)]
    lazy_pages: bool,

    /// Refused: see docs/checkpoint.md
    #[arg(long, hide_short_help = true)]
    auto_dedup: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CgroupsWord {
    Soft,
    Full,
    Strict,
    Ignore,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EmptyNamespace {
    Network,
}

impl Common {
    fn traits(&self) -> Traits {
        Traits {
            tcp_established: self.tcp_established,
            external_unix_sockets: self.ext_unix_sk,
            shell_job: self.shell_job,
            file_locks: self.file_locks,
            cgroups: match self.manage_cgroups_mode {
                CgroupsWord::Soft => CgroupsMode::Soft,
                CgroupsWord::Full => CgroupsMode::Full,
                CgroupsWord::Strict => CgroupsMode::Strict,
                CgroupsWord::Ignore => CgroupsMode::Ignore,
            },
            empty_network: self.empty_ns.contains(&EmptyNamespace::Network),
        }
    }

    /// Flags that are known, and not carried out.
    fn refuse(&self) -> Result<(), Failure> {
        if self.lazy_pages {
            return Err(refused(
                "lazy-pages",
                "memory that is fetched later, from who serves it, cannot be held against the list of what was written",
            ));
        }
        if self.auto_dedup {
            return Err(refused(
                "auto-dedup",
                "CRIU would punch holes into images, which are then not what the list says",
            ));
        }
        Ok(())
    }
}

fn refused(flag: &str, why: &str) -> Failure {
    Failure::error(format!("--{flag} is not supported: {why} (docs/checkpoint.md)"))
}

pub(crate) fn dump(options: &Dump, context: &Context<'_>) -> Result<ExitCode, Failure> {
    options.common.refuse()?;
    if options.page_server.is_some() {
        return Err(refused(
            "page-server",
            "memory would go to another host, unencrypted, and be no part of the image that is listed here",
        ));
    }
    if options.status_fd.is_some() {
        return Err(refused(
            "status-fd",
            "it tells when --lazy-pages can be asked for memory",
        ));
    }
    let (root, id) = place(&options.id, context)?;
    let record = root.read(&id)?;
    let mut book = Book::of(
        context,
        id.as_str(),
        Operation::Checkpoint,
        &record.profile,
        &record.bundle,
    )?;
    let checkpoint = CheckpointOptions {
        images: std::path::absolute(&options.common.image_path)?,
        work: absolute(&options.common.work_path)?,
        parent: options.parent_path.clone(),
        leave_running: options.leave_running,
        pre_dump: options.pre_dump,
        skip_in_flight: options.tcp_skip_in_flight,
        link_remap: options.link_remap,
        traits: options.common.traits(),
    };
    match gabion_container::checkpoint(&root, &id, &checkpoint) {
        Ok(()) => {
            book.note(Verdict::Done, None)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Err(note_failure(&mut book, &id, error)?),
    }
}

pub(crate) fn restore(options: &Restore, context: &Context<'_>) -> Result<ExitCode, Failure> {
    options.common.refuse()?;
    if options.common.manage_cgroups_mode == CgroupsWord::Strict {
        return Err(refused(
            "manage-cgroups-mode strict",
            "CRIU would refuse a cgroup that is there, and the container's is made before, with its limits and devices",
        ));
    }
    seal::ensure()?;
    seal::name_process()?;
    let (root, id) = place(&options.id, context)?;
    if root.of(&id).exists() {
        return Err(ContainerError::Exists(id.to_string()).into());
    }
    context.filters().keep_in(root.filters());
    let images = Images::open(&std::path::absolute(&options.common.image_path)?)?;
    let host = host_for(&root)?;
    let operation = gabion_baseline::Operation::Restore {
        id: id.to_string(),
        checkpoint: Checkpoint {
            foreign: images.foreign().map(str::to_owned),
            verified: true,
        },
    };
    let admission = gate::admit(
        context,
        id.as_str(),
        &options.bundle,
        (Operation::Restore, operation),
        host,
    )
    .map_err(|failure| or_taken(failure, &root, &id))?;
    let Admission {
        admitted,
        bundle,
        held,
        lsm,
        mut book,
    } = admission;
    let restore = RestoreOptions {
        id: id.clone(),
        bundle,
        images,
        work: absolute(&options.common.work_path)?,
        console_socket: absolute(&options.console_socket)?,
        pid_file: absolute(&options.pid_file)?,
        systemd_cgroup: context.globals().systemd_cgroup,
        label: options.lsm_profile.clone(),
        mount_label: options.lsm_mount_context.clone(),
        traits: options.common.traits(),
        held,
        lsm: lsm.unwrap_or_else(LsmFact::default),
        filters: Arc::clone(context.filters()),
    };
    let mut started = || {
        book.note(Verdict::Started, None)
            .map_err(|failure| ContainerError::Other(failure.line()))
    };
    let outcome = if options.detach {
        gabion_container::restore(&root, admitted, &restore).and_then(|()| started().map(|()| 0))
    } else {
        gabion_container::restore_foreground(&root, admitted, restore, !options.no_subreaper, &mut started)
    };
    match outcome {
        Ok(status) => Ok(ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX))),
        Err(error) => Err(note_failure(&mut book, &id, error)?),
    }
}
