//! `install`, `uninstall`, `doctor`, as a person at the prompt sees them.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

const GABION: &str = env!("CARGO_BIN_EXE_gabion");

fn gabion(arguments: &[&str]) -> Output {
    Command::new(GABION).args(arguments).output().unwrap()
}

fn out(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A directory with the program and its link, as `make install` leaves one.
fn installed() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("gabion");
    symlink(GABION, &program).unwrap();
    symlink("gabion", directory.path().join("gabion-restricted")).unwrap();
    (directory, program.to_str().unwrap().to_owned())
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// What an engine runs as root has to be root's, and so has the test's copy.
fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("SKIPPED: files of root's are made as root");
    }
    root
}

#[test]
fn an_install_is_shown_kept_repeated_and_undone() {
    if !is_root() {
        return;
    }
    let (directory, program) = installed();
    let config = directory.path().join("daemon.json");
    let before = "{\n  \"log-driver\": \"json-file\"\n}\n";
    fs::write(&config, before).unwrap();
    let config_name = config.to_str().unwrap();
    let install = [
        "install",
        "docker",
        "--config",
        config_name,
        "--program",
        &program,
    ];

    let shown = out(&gabion(&[&install[..], &["--dry-run"]].concat()));
    assert!(shown.contains("+    \"gabion\": {\n"), "{shown}");
    assert!(shown.ends_with("nothing was changed (--dry-run)\n"), "{shown}");
    assert_eq!(fs::read_to_string(&config).unwrap(), before);

    let shown = out(&gabion(&install));
    assert!(shown.contains("as it was: "), "{shown}");
    let after: serde_json::Value = serde_json::from_str(&fs::read_to_string(&config).unwrap()).unwrap();
    assert_eq!(after["runtimes"]["gabion"]["path"], program.as_str());
    let kept = directory.path().join("daemon.json.before-gabion-1");
    assert_eq!(fs::read_to_string(&kept).unwrap(), before);

    let shown = out(&gabion(&install));
    assert!(
        shown.ends_with(" is as it should be; nothing was changed\n"),
        "{shown}"
    );
    out(&gabion(&["uninstall", "docker", "--config", config_name]));
    assert_eq!(fs::read_to_string(&config).unwrap(), before);
    assert_eq!(
        names(directory.path()),
        [
            "daemon.json",
            "daemon.json.before-gabion-1",
            "daemon.json.before-gabion-2",
            "gabion",
            "gabion-restricted"
        ]
    );
}

#[test]
fn a_configuration_that_cannot_be_read_is_left_alone() {
    if !is_root() {
        return;
    }
    let (directory, program) = installed();
    let config = directory.path().join("config.toml");
    fs::write(&config, "version = 2\n[plugins\n").unwrap();
    let config_name = config.to_str().unwrap();
    let output = gabion(&[
        "install",
        "containerd",
        "--config",
        config_name,
        "--program",
        &program,
    ]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("it is no TOML: "), "{error}");
    assert_eq!(fs::read_to_string(&config).unwrap(), "version = 2\n[plugins\n");
    assert_eq!(
        names(directory.path()),
        ["config.toml", "gabion", "gabion-restricted"]
    );
}

#[test]
fn a_link_is_followed_and_stays() {
    if !is_root() {
        return;
    }
    let (directory, program) = installed();
    let (real, link) = (
        directory.path().join("real.conf"),
        directory.path().join("containers.conf"),
    );
    fs::write(&real, "# the site's\n").unwrap();
    symlink("real.conf", &link).unwrap();
    let link_name = link.to_str().unwrap();
    out(&gabion(&[
        "install",
        "podman",
        "--config",
        link_name,
        "--program",
        &program,
    ]));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    let text = fs::read_to_string(&real).unwrap();
    assert!(text.contains("# the site's\n"), "{text}");
    assert!(text.contains("gabion-restricted = [\""), "{text}");
}

#[test]
fn a_program_that_others_could_replace_is_not_installed() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("gabion");
    fs::write(&program, "").unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let output = gabion(&["install", "docker", "--program", program.to_str().unwrap()]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        error.contains("it has to be root's, and writable by nobody else"),
        "{error}"
    );
}

#[test]
fn doctor_counts_what_is_wrong_and_says_it_by_its_status() {
    let output = gabion(&["doctor", "--format", "json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let wrong = findings
        .iter()
        .filter(|finding| finding["standing"] == "wrong")
        .count();
    assert_eq!(report["wrong"], wrong);
    assert_eq!(output.status.code(), Some(if wrong == 0 { 0 } else { 2 }));
    for area in ["kernel", "gabion", "engines", "ways around gabion"] {
        assert!(findings.iter().any(|finding| finding["area"] == area), "{area}");
    }
}

#[test]
fn a_policy_that_cannot_be_read_is_what_doctor_finds() {
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("policy.toml");
    fs::write(&policy, "profil = \"baseline\"\n").unwrap();
    let output = gabion(&["--policy", policy.to_str().unwrap(), "doctor"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text.contains("WRONG policy: nothing runs: "), "{text}");
}

#[test]
fn every_command_has_a_page_and_completions_know_them() {
    let directory = tempfile::tempdir().unwrap();
    out(&gabion(&["manual", directory.path().to_str().unwrap()]));
    let page = fs::read_to_string(directory.path().join("man/man8/gabion-exec.8")).unwrap();
    assert!(page.contains("gabion\\-exec"), "{page}");
    assert!(!directory.path().join("man/man8/gabion-manual.8").exists());
    let completion = fs::read_to_string(directory.path().join("bash-completion/gabion")).unwrap();
    assert!(
        completion.contains("uninstall"),
        "no uninstall in bash's completions"
    );
}
