//! `gabion install` and `gabion uninstall`: gabion among an engine's runtimes.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use gabion_engines::{Wanted, containerd, diff, docker, podman};

use crate::failure::Failure;
use crate::print;

/// Add gabion to an engine's runtimes
///
/// The engine's configuration is edited: comments, order and everything unknown
/// stay, and a copy of the file as it was is kept beside it. Nothing is restarted.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Install {
    /// docker, containerd or podman
    #[arg(value_name = "ENGINE", hide_possible_values = true)]
    pub engine: Engine,

    /// Make it the runtime of containers that name none
    #[arg(long)]
    pub default: bool,

    /// The program that the engine is to call [default: this one]
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,

    #[command(flatten)]
    pub edit: Edit,
}

/// Take gabion out of an engine's runtimes
#[derive(Debug, Args)]
pub(crate) struct Uninstall {
    /// docker, containerd or podman
    #[arg(value_name = "ENGINE", hide_possible_values = true)]
    pub engine: Engine,

    #[command(flatten)]
    pub edit: Edit,
}

/// How a configuration is edited.
#[derive(Debug, Args)]
pub(crate) struct Edit {
    /// The engine's configuration [default: the engine's own place]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Show what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// An engine whose configuration can be edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    Docker,
    Containerd,
    Podman,
}

impl Engine {
    pub(crate) const ALL: [Engine; 3] = [Engine::Docker, Engine::Containerd, Engine::Podman];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Engine::Docker => "docker",
            Engine::Containerd => "containerd",
            Engine::Podman => "podman",
        }
    }

    /// The program whose being there means that the engine is.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Engine::Docker => "dockerd",
            Engine::Containerd => "containerd",
            Engine::Podman => "podman",
        }
    }

    /// Where the engine looks for its configuration.
    pub(crate) fn config(self) -> &'static Path {
        Path::new(match self {
            Engine::Docker => "/etc/docker/daemon.json",
            Engine::Containerd => "/etc/containerd/config.toml",
            Engine::Podman => "/etc/containers/containers.conf",
        })
    }

    pub(crate) fn installed(self, text: &str, wanted: &Wanted) -> Result<String, gabion_engines::EditError> {
        match self {
            Engine::Docker => docker::install(text, wanted),
            Engine::Containerd => containerd::install(text, wanted),
            Engine::Podman => podman::install(text, wanted),
        }
    }

    fn uninstalled(self, text: &str) -> Result<String, gabion_engines::EditError> {
        match self {
            Engine::Docker => docker::uninstall(text),
            Engine::Containerd => containerd::uninstall(text),
            Engine::Podman => podman::uninstall(text),
        }
    }

    /// What makes the engine read its configuration.
    fn restart(self) -> &'static str {
        match self {
            Engine::Docker => "systemctl reload docker (a new default: systemctl restart docker)",
            Engine::Containerd => "systemctl restart containerd (containers go on)",
            Engine::Podman => "nothing: podman reads it at each call",
        }
    }

    /// The command with which the engine itself reads a file, where it has one.
    fn validation(self, file: &Path) -> Option<Command> {
        let mut command = Command::new(self.program());
        match self {
            Engine::Containerd => command.arg("--config").arg(file).args(["config", "dump"]),
            Engine::Docker => command.arg("--validate").arg("--config-file").arg(file),
            Engine::Podman => return None,
        };
        Some(command)
    }
}

pub(crate) fn install(options: &Install) -> Result<ExitCode, Failure> {
    let program = match &options.program {
        Some(program) => program.clone(),
        None => std::env::current_exe().context("cannot find this program; name it with --program")?,
    };
    check_program(&program)?;
    let wanted = Wanted {
        program,
        default: options.default,
    };
    apply(options.engine, &options.edit, |text| {
        options.engine.installed(text, &wanted)
    })
}

pub(crate) fn uninstall(options: &Uninstall) -> Result<ExitCode, Failure> {
    apply(options.engine, &options.edit, |text| {
        options.engine.uninstalled(text)
    })
}

/// What an engine will run as root: nobody else's, and with the link that chooses the profile.
fn check_program(program: &Path) -> Result<(), Failure> {
    if !program.is_absolute() {
        return Err(Failure::error(format!(
            "{program:?} is not absolute; engines do not look for it where you stand"
        )));
    }
    for path in [program.to_owned(), program.with_file_name("gabion-restricted")] {
        let found = fs::metadata(&path).with_context(|| {
            format!("{path:?} is not there; `make install` puts both programs into one directory")
        })?;
        if found.uid() != 0 || found.mode() & 0o022 != 0 {
            return Err(Failure::error(format!(
                "{path:?} has owner {} and mode {:o}; it has to be root's, and writable by nobody else",
                found.uid(),
                found.mode() & 0o7777
            )));
        }
    }
    Ok(())
}

/// Edits a file: shown, validated by the engine, a copy kept, then replaced in one step.
fn apply(
    engine: Engine,
    edit: &Edit,
    change: impl FnOnce(&str) -> Result<String, gabion_engines::EditError>,
) -> Result<ExitCode, Failure> {
    let named = edit.config.as_deref().unwrap_or(engine.config());
    // A link is followed: what it leads to is replaced, and the link stays.
    let path = fs::canonicalize(named).unwrap_or_else(|_| named.to_owned());
    let before = match fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            return Err(anyhow::Error::from(error)
                .context(format!("cannot read {path:?}"))
                .into());
        }
    };
    let text = before.as_deref().unwrap_or_default();
    let after = change(text).with_context(|| format!("{path:?}"))?;
    if after == text {
        return print::out(&format!(
            "{} is as it should be; nothing was changed\n",
            path.display()
        ));
    }
    let shown = format!("{}:\n{}", path.display(), diff::lines(text, &after));
    if edit.dry_run {
        let note = match validated(engine, &path, &after)? {
            Some(note) => note,
            None => format!("{} accepts it", engine.program()),
        };
        return print::out(&format!("{shown}{note}; nothing was changed (--dry-run)\n"));
    }
    let note = validated(engine, &path, &after)?.map_or_else(String::new, |note| format!("{note}\n"));
    let kept = match before {
        Some(_) => {
            let backup = backup_of(&path);
            fs::copy(&path, &backup).with_context(|| format!("cannot keep {path:?} as {backup:?}"))?;
            format!("as it was: {}\n", backup.display())
        }
        None => String::new(),
    };
    let written = write_beside(&path, &after)?;
    fs::rename(&written, &path).with_context(|| format!("cannot replace {path:?}"))?;
    print::out(&format!(
        "{shown}{note}{kept}to have it read: {}\n",
        engine.restart()
    ))
}

/// A name for the copy that no copy has yet.
fn backup_of(path: &Path) -> PathBuf {
    let name = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".before-gabion-{number}"));
        PathBuf::from(name)
    };
    (1..)
        .map(name)
        .find(|name| !name.exists())
        .unwrap_or_else(|| name(0))
}

/// Writes a file beside another, with its owner and mode.
fn write_beside(path: &Path, text: &str) -> Result<PathBuf, Failure> {
    let directory = path.parent().context("the configuration has no directory")?;
    fs::create_dir_all(directory).with_context(|| format!("cannot make {directory:?}"))?;
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".gabion-{}", std::process::id()));
    let new = PathBuf::from(name);
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&new)?;
        match fs::metadata(path) {
            Ok(old) => {
                file.set_permissions(old.permissions())?;
                std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
            }
            Err(_) => file.set_permissions(fs::Permissions::from_mode(0o644))?,
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    if let Err(error) = write() {
        drop(fs::remove_file(&new));
        return Err(anyhow::Error::from(error)
            .context(format!("cannot write {new:?}"))
            .into());
    }
    Ok(new)
}

/// Has the engine read what is about to be its configuration; a note, if it cannot.
fn validated(engine: Engine, path: &Path, text: &str) -> Result<Option<String>, Failure> {
    let directory = path.parent().filter(|directory| directory.is_dir());
    let trial = match directory {
        Some(_) => write_beside(path, text)?,
        None => {
            return Ok(Some(format!(
                "not tried by {}: its directory is missing",
                engine.program()
            )));
        }
    };
    let outcome = engine
        .validation(&trial)
        .map(|mut command| command.stdin(Stdio::null()).output());
    drop(fs::remove_file(&trial));
    match outcome {
        None => Ok(Some(format!(
            "not tried by {}: it has no command for that",
            engine.name()
        ))),
        Some(Err(error)) => Ok(Some(format!("not tried by {}: {error}", engine.program()))),
        Some(Ok(output)) if output.status.success() => Ok(None),
        Some(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            // dockerd has it since 23.
            if said.contains("unknown flag") {
                return Ok(Some(format!(
                    "not tried by {}: this version cannot",
                    engine.program()
                )));
            }
            Err(Failure::error(format!(
                "{} does not accept it, and nothing was changed: {said}",
                engine.program()
            )))
        }
    }
}
