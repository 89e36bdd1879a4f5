//! `gabion doctor`: what is wrong with a host, and what that costs.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Args;
use gabion_engines::Wanted;
use serde::Serialize;

use super::install::Engine;
use super::list::Format;
use crate::context::Context;
use crate::failure::Failure;
use crate::print;

/// Tell what is wrong with this host
///
/// Kernel features and what protection is lost without them, engines and whether
/// they know gabion, ways around it, the policy. Status 2 if something is wrong.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// Print a table or json
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        default_value = "table",
        hide_possible_values = true
    )]
    pub format: Format,
}

/// How a thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Standing {
    Ok,
    /// Good to know; nothing that gabion promises is lost.
    Note,
    /// Something should be done.
    Wrong,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    area: &'static str,
    subject: String,
    standing: Standing,
    text: String,
}

/// The exit status if something is wrong; `check` has it for refusals.
const WRONG: u8 = 2;

pub(crate) fn run(options: &Options, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let mut findings = Vec::new();
    kernel(&mut findings);
    policy(&mut findings, context);
    engines(&mut findings);
    others(&mut findings);
    let wrong = findings
        .iter()
        .filter(|finding| finding.standing == Standing::Wrong)
        .count();
    match options.format {
        Format::Json => print::json(&serde_json::json!({"wrong": wrong, "findings": findings}))?,
        Format::Table => print::out(&text(&findings, wrong))?,
    };
    Ok(match wrong {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(WRONG),
    })
}

fn text(findings: &[Finding], wrong: usize) -> String {
    let (mut text, mut area) = (String::new(), "");
    for finding in findings {
        if finding.area != area {
            area = finding.area;
            // Writing into a String does not fail.
            writeln!(text, "{area}").unwrap_or_default();
        }
        let mark = match finding.standing {
            Standing::Ok => "ok   ",
            Standing::Note => "note ",
            Standing::Wrong => "WRONG",
        };
        writeln!(text, "  {mark} {}: {}", finding.subject, finding.text).unwrap_or_default();
    }
    let end = match wrong {
        0 => "nothing is wrong".to_owned(),
        1 => "1 thing is wrong".to_owned(),
        wrong => format!("{wrong} things are wrong"),
    };
    text.push_str(&end);
    text.push('\n');
    text
}

fn add(
    findings: &mut Vec<Finding>,
    area: &'static str,
    subject: impl Into<String>,
    standing: Standing,
    text: String,
) {
    findings.push(Finding {
        area,
        subject: subject.into(),
        standing,
        text,
    });
}

/// The version of Linux, and what each one that is missing would have given.
fn kernel(findings: &mut Vec<Finding>) {
    const AREA: &str = "kernel";
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release
        .trim()
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    let version = match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (0, 0),
    };
    match version >= (5, 12) {
        true => add(findings, AREA, "Linux", Standing::Ok, release.trim().to_owned()),
        false => add(
            findings,
            AREA,
            "Linux",
            Standing::Wrong,
            format!(
                "{}; 5.12 is needed: nothing runs, since what runs could not be verified",
                release.trim()
            ),
        ),
    }
    for (since, what, lost) in [
        (
            (5, 14),
            "cgroup.kill",
            "processes of a container are ended one by one",
        ),
        (
            (6, 2),
            "dev.tty.legacy_tiocsti",
            "TIOCSTI is taken to work; the default filter refuses it",
        ),
    ] {
        if version < since {
            let lost = format!("needs Linux {}.{}; without it, {lost}", since.0, since.1);
            add(findings, AREA, what, Standing::Note, lost);
        }
    }
    let has = |path: &str| Path::new(path).exists();
    let labels = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    let active: Vec<&str> = labels
        .trim()
        .split(',')
        .filter(|name| ["apparmor", "selinux"].contains(name))
        .collect();
    match active.is_empty() {
        true => add(
            findings,
            AREA,
            "AppArmor, SELinux",
            Standing::Note,
            "neither is active; bundles that name a label do not start, others have no mandatory confinement"
                .to_owned(),
        ),
        false => add(
            findings,
            AREA,
            active.join(", "),
            Standing::Ok,
            "active".to_owned(),
        ),
    }
    match gabion_host::cgroup::mode() {
        Ok(mode) => add(
            findings,
            AREA,
            "cgroups",
            Standing::Ok,
            format!("{mode:?}").to_lowercase(),
        ),
        Err(error) => add(findings, AREA, "cgroups", Standing::Wrong, error),
    }
    let overlay = fs::read_to_string("/proc/filesystems")
        .unwrap_or_default()
        .contains("\toverlay");
    if !overlay {
        let lost =
            "missing; the program is sealed in memory instead, a copy of 9 MB at each start".to_owned();
        add(findings, AREA, "overlayfs", Standing::Note, lost);
    }
    for (path, subject, lost) in [
        (
            "/proc/sys/kernel/seccomp/actions_avail",
            "seccomp",
            "missing; there are no filters, and a bundle that has or gets one does not start",
        ),
        (
            "/proc/self/ns/user",
            "user namespaces",
            "missing; bundles that ask for one do not start",
        ),
        (
            "/proc/self/ns/cgroup",
            "cgroup namespaces",
            "missing; bundles that get one added do not start (NS-06)",
        ),
    ] {
        match has(path) {
            true => add(findings, AREA, subject, Standing::Ok, "there".to_owned()),
            false => add(findings, AREA, subject, Standing::Wrong, lost.to_owned()),
        }
    }
}

fn policy(findings: &mut Vec<Finding>, context: &Context<'_>) {
    const AREA: &str = "gabion";
    match context.site() {
        Ok((site, _)) => {
            add(
                findings,
                AREA,
                "policy",
                Standing::Ok,
                format!("profile {}", site.policy.profile),
            );
            match context.ledger(&site) {
                Ok(Some(_)) => add(
                    findings,
                    AREA,
                    "ledger",
                    Standing::Ok,
                    site.ledger.path.display().to_string(),
                ),
                Ok(None) => add(
                    findings,
                    AREA,
                    "ledger",
                    Standing::Wrong,
                    "decisions are not recorded, and the policy does without".to_owned(),
                ),
                Err(failure) => add(
                    findings,
                    AREA,
                    "ledger",
                    Standing::Wrong,
                    format!("nothing runs: {}", failure.line()),
                ),
            }
        }
        Err(failure) => add(
            findings,
            AREA,
            "policy",
            Standing::Wrong,
            format!("nothing runs: {}", failure.line()),
        ),
    }
    if let Ok(program) = std::env::current_exe() {
        let writable = program.ancestors().find(|path| {
            fs::metadata(path).is_ok_and(|found| {
                let sticky = found.mode() & 0o1000 != 0;
                found.uid() != 0 || (found.mode() & 0o022 != 0 && !sticky)
            })
        });
        match writable {
            None => add(
                findings,
                AREA,
                "program",
                Standing::Ok,
                program.display().to_string(),
            ),
            Some(path) => add(
                findings,
                AREA,
                "program",
                Standing::Wrong,
                format!(
                    "{} can be replaced: {path:?} is not root's alone",
                    program.display()
                ),
            ),
        }
        let shim = program.with_file_name("containerd-shim-gabion-v2");
        if !shim.exists() {
            let lost = format!(
                "not beside {}; containerd needs its own shim, by BinaryName",
                program.display()
            );
            add(findings, AREA, "shim", Standing::Note, lost);
        }
    }
}

/// A program by name, in the usual places and in PATH.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(
            [
                "/usr/local/sbin",
                "/usr/local/bin",
                "/usr/sbin",
                "/usr/bin",
                "/sbin",
                "/bin",
            ]
            .map(PathBuf::from),
        )
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
}

fn engines(findings: &mut Vec<Finding>) {
    const AREA: &str = "engines";
    for engine in Engine::ALL {
        let Some(program) = find(engine.program()) else {
            add(
                findings,
                AREA,
                engine.name(),
                Standing::Note,
                "not here".to_owned(),
            );
            continue;
        };
        let version = Command::new(&program)
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
            .unwrap_or_default();
        let text = fs::read_to_string(engine.config()).unwrap_or_default();
        let (standing, how) = configured(engine, &text);
        add(
            findings,
            AREA,
            engine.name(),
            standing,
            format!("{version}; {}: {how}", engine.config().display()),
        );
    }
}

/// Whether an engine's configuration has gabion, and as the default: an install that changes nothing says so.
fn configured(engine: Engine, text: &str) -> (Standing, String) {
    let hint = format!("`gabion install {}`", engine.name());
    if !text.contains("gabion") {
        return (Standing::Wrong, format!("does not know gabion; {hint}"));
    }
    let Ok(program) = std::env::current_exe() else {
        return (Standing::Note, "names gabion".to_owned());
    };
    let installed = |default| {
        engine.installed(
            text,
            &Wanted {
                program: program.clone(),
                default,
            },
        )
    };
    match (installed(true), installed(false)) {
        (Err(error), _) | (_, Err(error)) => (Standing::Wrong, error.to_string()),
        (Ok(after), _) if after == text => (
            Standing::Ok,
            "runs gabion, for whatever names no runtime".to_owned(),
        ),
        (_, Ok(after)) if after == text => (
            Standing::Note,
            format!("knows gabion, and runs another runtime where none is named; {hint} --default"),
        ),
        _ => (Standing::Wrong, format!("knows gabion by half; {hint}")),
    }
}

/// Whoever may talk to an engine may ask for another runtime, if there is one.
fn others(findings: &mut Vec<Finding>) {
    const AREA: &str = "ways around gabion";
    let mut found = false;
    for name in [
        "runc",
        "crun",
        "youki",
        "runsc",
        "kata-runtime",
        "lxc-start",
        "systemd-nspawn",
    ] {
        let Some(program) = find(name) else {
            continue;
        };
        // BuildKit looks for a runc, and a site may have put gabion there.
        let is_gabion = fs::canonicalize(&program).is_ok_and(|target| target.ends_with("gabion"));
        if is_gabion {
            add(
                findings,
                AREA,
                name,
                Standing::Ok,
                format!("{} is gabion", program.display()),
            );
            continue;
        }
        found = true;
        add(
            findings,
            AREA,
            name,
            Standing::Note,
            format!(
                "{}: whoever may choose a runtime may choose this one, which judges nothing",
                program.display()
            ),
        );
    }
    for socket in [
        "/run/docker.sock",
        "/run/containerd/containerd.sock",
        "/run/podman/podman.sock",
        "/run/crio/crio.sock",
    ] {
        let Ok(metadata) = fs::metadata(socket) else {
            continue;
        };
        if metadata.mode() & 0o006 != 0 {
            found = true;
            let text = format!(
                "anyone may talk to it (mode {:o}), and so choose a runtime",
                metadata.mode() & 0o7777
            );
            add(findings, AREA, socket, Standing::Wrong, text);
        } else if metadata.gid() != 0 && metadata.mode() & 0o060 != 0 {
            found = true;
            let text = format!(
                "the group {} may talk to it, and so choose a runtime",
                metadata.gid()
            );
            add(findings, AREA, socket, Standing::Note, text);
        }
    }
    if !found {
        add(
            findings,
            AREA,
            "none",
            Standing::Ok,
            "no other runtime was found".to_owned(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_without_gabion_is_wrong_and_says_what_to_do() {
        let (standing, how) = configured(Engine::Docker, "{}");
        assert_eq!(standing, Standing::Wrong);
        assert_eq!(how, "does not know gabion; `gabion install docker`");
    }

    #[test]
    fn an_engine_with_gabion_says_whether_it_is_the_default() {
        let program = std::env::current_exe().unwrap();
        for (default, expected) in [(true, Standing::Ok), (false, Standing::Note)] {
            for engine in Engine::ALL {
                let wanted = Wanted {
                    program: program.clone(),
                    default,
                };
                let text = engine.installed("", &wanted).unwrap();
                assert_eq!(configured(engine, &text).0, expected, "{engine:?} {default}");
            }
        }
    }

    #[test]
    fn findings_are_set_by_area_and_counted() {
        let finding = |area, standing| Finding {
            area,
            subject: "x".to_owned(),
            standing,
            text: "y".to_owned(),
        };
        let findings = [
            finding("kernel", Standing::Ok),
            finding("engines", Standing::Wrong),
        ];
        assert_eq!(
            text(&findings, 1),
            "kernel\n  ok    x: y\nengines\n  WRONG x: y\n1 thing is wrong\n"
        );
    }
}
