//! The command line as clap reads it. Flags and commands are runc's; `check`, `explain` and `policy` are ours.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use gabion_baseline::Profile;
use gabion_sys::early;

use crate::commands::{
    audit, check, checkpoint, create, delete, doctor, events, exec, explain, features, install, kill, learn,
    list, manual, pause, policy, run, seccomp, spec, start, state, update, verify,
};

/// The version of gabion.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit it was built from.
pub(crate) const COMMIT: &str = env!("GABION_COMMIT");

/// The version of the runtime-spec that is implemented.
pub(crate) const SPEC_VERSION: &str = "1.3.0";

/// After the program's name, in runc's form: dockerd reads name, version and commit from it.
const VERSION_TEXT: &str = concat!(
    "version ",
    env!("CARGO_PKG_VERSION"),
    "\ncommit: ",
    env!("GABION_COMMIT"),
    "\nspec: ",
    "1.3.0"
);

/// Runs OCI containers as runc does, and only those that its policy admits.
///
/// Every bundle is judged before anything is built. `gabion check` shows the judgement
/// without running anything; `gabion explain` says what a rule means and how to
/// satisfy it.
#[derive(Debug, Parser)]
#[command(name = "gabion", version = VERSION_TEXT, disable_version_flag = true)]
#[command(verbatim_doc_comment, subcommand_value_name = "COMMAND", after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub globals: Globals,

    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Where the flags that every command takes stand in its help.
const JUDGEMENT: &str = "Judgement";

const AFTER_HELP: &str = "\
Options stand before the command, as with runc; those of judgement stand anywhere.
Without root, the state is kept in $XDG_RUNTIME_DIR/gabion. Called by a link with the
name gabion-restricted, gabion judges by the profile restricted.";

/// Flags that stand before the command.
#[derive(Debug, Args)]
pub(crate) struct Globals {
    /// Keep the containers' state in DIR [default: /run/gabion]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,

    /// Write errors and warnings to FILE as well
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,

    /// Write the log as text or json
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        hide_possible_values = true
    )]
    pub log_format: LogFormat,

    /// Tell more in the log
    #[arg(long)]
    pub debug: bool,

    /// Let systemd make the cgroups (cgroupsPath is slice:prefix:name)
    #[arg(long)]
    pub systemd_cgroup: bool,

    /// Do without what only root may do: true, false or auto
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = true
    )]
    pub rootless: Rootless,

    /// Judge by this profile: privileged, baseline or restricted
    #[arg(long, value_name = "NAME", global = true, help_heading = JUDGEMENT)]
    pub profile: Option<Profile>,

    /// Read this policy instead of /etc/gabion/policy.toml
    #[arg(long, value_name = "FILE", global = true, help_heading = JUDGEMENT)]
    pub policy: Option<PathBuf>,

    /// Print the version
    #[arg(short = 'v', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
}

/// `--rootless`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rootless {
    True,
    False,
    Auto,
}

/// `--log-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Create(create::Options),
    Start(start::Options),
    State(state::Options),
    Exec(exec::Options),
    Kill(kill::Options),
    Delete(delete::Options),
    Run(run::Options),
    List(list::Options),
    Pause(pause::Pause),
    Resume(pause::Resume),
    Ps(pause::Ps),
    Checkpoint(checkpoint::Dump),
    Restore(checkpoint::Restore),
    Update(update::Options),
    Events(events::Options),
    Verify(verify::Options),
    Install(install::Install),
    Uninstall(install::Uninstall),
    Doctor(doctor::Options),
    #[command(hide = true)]
    Manual(manual::Options),
    Spec(spec::Options),
    Features(features::Options),
    Audit(audit::Options),
    Check(check::Options),
    Explain(explain::Options),
    Policy(policy::Options),
    Seccomp(seccomp::Options),
    Learn(learn::Options),
}

impl Cli {
    /// Reads a command line.
    ///
    /// All commands have hundreds of flags, which take clap longer to put up than it takes to read a line. So a line of
    /// an engine is first read as one of the command alone that it seems to be. If that fails, for help or for whatever
    /// reason, it is read as one of all commands.
    ///
    /// # Errors
    /// It is no command line of gabion's, or it asks for help.
    pub(crate) fn read(arguments: &[OsString]) -> Result<Cli, clap::Error> {
        let name_and_flags = arguments.iter().skip(1).find_map(|argument| {
            ENGINES_COMMANDS
                .iter()
                .find(|(name, _)| argument.as_os_str() == *name)
        });
        if let Some((name, flags)) = name_and_flags {
            let alone = Globals::augment_args(clap::Command::new("gabion"))
                .version(VERSION_TEXT)
                .disable_version_flag(true)
                .subcommand(flags(clap::Command::new(*name)));
            if let Ok(mut matches) = alone.try_get_matches_from(arguments) {
                return Cli::from_arg_matches_mut(&mut matches);
            }
        }
        Cli::try_parse_from(arguments)
    }
}

/// Puts up the flags of a command.
type Flags = fn(clap::Command) -> clap::Command;

/// The commands that engines call.
const ENGINES_COMMANDS: &[(&str, Flags)] = &[
    ("create", create::Options::augment_args),
    ("start", start::Options::augment_args),
    ("state", state::Options::augment_args),
    ("exec", exec::Options::augment_args),
    ("kill", kill::Options::augment_args),
    ("delete", delete::Options::augment_args),
    ("run", run::Options::augment_args),
    ("ps", pause::Ps::augment_args),
];

/// The help that is printed for a command line without a command.
pub(crate) fn help() -> String {
    Cli::command().render_long_help().to_string()
}

/// True if a command of this line may be one whose process enters a container.
pub(crate) fn names_command_that_enters(arguments: &[OsString]) -> bool {
    arguments
        .iter()
        .skip(1)
        .any(|argument| early::COMMANDS.iter().any(|command| argument == command))
}

/// runc reads `-bundle` as it reads `--bundle`, and some callers write it so.
///
/// Only names of known flags get their second dash, so short flags and values that begin with a dash stay as
/// they are; so does everything after `--`.
pub(crate) fn with_double_dashes(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let is_candidate = |argument: &OsString| {
        let bytes = argument.as_bytes();
        bytes.len() > 2 && bytes.starts_with(b"-") && !bytes.starts_with(b"--")
    };
    // Engines write two dashes; knowing all flags takes a while.
    if !arguments.iter().any(is_candidate) {
        return arguments;
    }
    let command = Cli::command();
    let flags = |command: &clap::Command| {
        command
            .get_arguments()
            .filter_map(clap::Arg::get_long)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let mut known: BTreeSet<String> = flags(&command).into_iter().chain(["help".to_owned()]).collect();
    for subcommand in command.get_subcommands() {
        known.extend(flags(subcommand));
        known.extend(subcommand.get_subcommands().flat_map(flags));
    }
    for argument in arguments
        .iter_mut()
        .skip(1)
        .take_while(|argument| *argument != "--")
    {
        let bytes = argument.as_bytes();
        let name = bytes.split(|byte| *byte == b'=').next().unwrap_or_default();
        let known = name
            .strip_prefix(b"-")
            .and_then(|name| std::str::from_utf8(name).ok())
            .is_some_and(|name| name.len() > 1 && known.contains(name));
        if known {
            *argument = OsString::from_vec([b"-", bytes].concat());
        }
    }
    arguments
}

/// Where a command line that cannot be read would have its errors logged: an engine that was upgraded past us
/// looks there for the reason.
pub(crate) fn log_of_broken(arguments: &[OsString]) -> (Option<PathBuf>, LogFormat) {
    let value = |flag: &str| {
        let (mut found, mut rest) = (None, arguments.iter().skip(1));
        while let Some(argument) = rest.next() {
            if argument == flag {
                found = rest.next().map(OsString::as_os_str);
            } else if let Some(value) = argument
                .as_bytes()
                .strip_prefix(flag.as_bytes())
                .and_then(|rest| rest.strip_prefix(b"="))
            {
                found = Some(OsStr::from_bytes(value));
            }
        }
        found
    };
    let format = match value("--log-format") {
        Some(format) if format == "json" => LogFormat::Json,
        _ => LogFormat::Text,
    };
    (value("--log").map(PathBuf::from), format)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    fn parse(line: &str) -> Cli {
        Cli::read(&with_double_dashes(words(line))).unwrap()
    }

    fn error(line: &str) -> String {
        Cli::read(&with_double_dashes(words(line)))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn ids_and_flags_come_in_any_order_and_either_spelling() {
        for line in [
            "gabion create --bundle /b --pid-file /p web-1",
            "gabion create web-1 --bundle=/b --pid-file=/p",
            "gabion create -b /b web-1 -pid-file /p",
            "gabion create -bundle=/b -pid-file=/p web-1",
        ] {
            let Some(Command::Create(create)) = parse(line).command else {
                panic!("{line}")
            };
            assert_eq!(create.id, "web-1", "{line}");
            assert_eq!(create.build.bundle, PathBuf::from("/b"), "{line}");
            assert_eq!(create.build.pid_file, Some(PathBuf::from("/p")), "{line}");
        }
    }

    #[test]
    fn the_calls_of_containerds_shim_podman_and_buildkit_are_understood() {
        let global = "gabion --root /run/containerd/runc/k8s.io --log /b/log.json --log-format json";
        for rest in [
            "--systemd-cgroup create --bundle /b --pid-file /b/init.pid --console-socket /s ID",
            "create --bundle /b --pid-file /b/init.pid --no-pivot --no-new-keyring --preserve-fds 3 ID",
            "create --bundle /b --pidfd-socket /s ID",
            "start ID",
            "kill ID 9",
            "kill --all ID 9",
            "kill -a ID SIGTERM",
            "delete ID",
            "delete --force ID",
            "state ID",
            "run --bundle /b --detach --keep --no-subreaper ID",
            "run -d -b /b ID",
            "checkpoint --image-path /i --work-path /w ID",
            "checkpoint --image-path /i --work-path /w --leave-running --tcp-established --ext-unix-sk --shell-job \
             --file-locks --empty-ns network ID",
            "checkpoint --image-path /i --parent-path ../p --pre-dump --manage-cgroups-mode soft ID",
            "restore --bundle /b --image-path /i --work-path /w --detach --pid-file /p --no-pivot ID",
            "restore -d -b /b --console-socket /s --no-subreaper --lsm-profile apparmor:a --lsm-mount-context b ID",
            "list -q",
            "list --format json",
            "list -f table",
            "features",
            "spec --rootless -b /b",
        ] {
            let cli = parse(&format!("{global} {rest}"));
            assert_eq!(
                cli.globals.root,
                Some(PathBuf::from("/run/containerd/runc/k8s.io")),
                "{rest}"
            );
            assert_eq!(cli.globals.log_format, LogFormat::Json, "{rest}");
            assert_eq!(
                cli.globals.systemd_cgroup,
                rest.contains("--systemd-cgroup"),
                "{rest}"
            );
            assert!(cli.command.is_some(), "{rest}");
        }
    }

    /// Whatever the short way makes of a line, the long one makes the same of it.
    #[test]
    fn a_line_of_an_engine_is_read_as_one_of_all_commands_would_be() {
        for line in [
            "gabion --root /r --log=/l --log-format json --systemd-cgroup create --bundle /b --pid-file /p ID",
            "gabion --rootless true --debug run -d -b /b ID --profile restricted",
            "gabion exec -t -e A=b --user 1:2 ID sh -c run",
            "gabion exec --process /p --detach ID",
            "gabion exec ID kill --policy /p 1",
            "gabion --root run create ID",
            "gabion --root create state ID",
            "gabion kill --all ID SIGTERM",
            "gabion delete --force ID",
            "gabion list start",
            "gabion start",
            "gabion start --help",
            "gabion start a b",
            "gabion creat ID",
            "gabion create --no-such-flag ID",
            "gabion --no-such-flag create ID",
            "gabion create --debug ID",
            "gabion --version create ID",
            "gabion ps --format json ID -ef",
            "gabion help run",
        ] {
            let arguments = words(line);
            let said = |outcome: Result<Cli, clap::Error>| match outcome {
                Ok(cli) => format!("{cli:?}"),
                Err(error) => error.render().to_string(),
            };
            assert_eq!(
                said(Cli::read(&arguments)),
                said(Cli::try_parse_from(&arguments)),
                "{line}"
            );
        }
    }

    #[test]
    fn the_profile_may_be_named_before_and_after_the_command() {
        for line in [
            "gabion --profile restricted check",
            "gabion check --profile restricted",
        ] {
            assert_eq!(parse(line).globals.profile, Some(Profile::Restricted));
        }
        assert!(
            error("gabion check --profile strict").contains(
                "there is no profile \"strict\"; the profiles are privileged, baseline, restricted"
            )
        );
    }

    #[test]
    fn only_known_flags_get_a_second_dash() {
        let untouched = words("gabion kill -a -9 -x -bundlex=/b id -- -bundle");
        assert_eq!(with_double_dashes(untouched.clone()), untouched);
        assert_eq!(
            with_double_dashes(words("gabion -root=/r -debug")),
            words("gabion --root=/r --debug")
        );
    }

    #[test]
    fn a_missing_id_and_an_unknown_flag_are_errors() {
        assert!(error("gabion create").contains("<CONTAINER_ID>"));
        assert!(error("gabion start a b").contains("unexpected argument 'b'"));
        assert!(error("gabion create --nope x").contains("unexpected argument '--nope'"));
        assert!(error("gabion bogus").contains("unrecognized subcommand 'bogus'"));
    }

    #[test]
    fn the_log_of_a_command_line_that_cannot_be_read_is_still_found() {
        let (path, format) = log_of_broken(&words("gabion --log=/l --log-format json frobnicate --zap"));
        assert_eq!((path, format), (Some(PathBuf::from("/l")), LogFormat::Json));
        let (path, format) = log_of_broken(&words("gabion --log /l --zap"));
        assert_eq!((path, format), (Some(PathBuf::from("/l")), LogFormat::Text));
        assert_eq!(log_of_broken(&words("gabion --log")), (None, LogFormat::Text));
    }
}
