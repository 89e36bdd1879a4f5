//! Input that is none: each is a clear error that names the place, and nothing is left behind.

#![allow(clippy::unwrap_used, clippy::panic)] // a test file, its functions beside the tests included

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use gabion_integration::{Answer, Container, Site, edit_array, run};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;
use serde_json::{Value, json};

/// `create` and `run` with what lies in the bundle fail with this error, on standard error and in the log.
#[track_caller]
fn assert_error(container: &Container<'_>, text: &str) {
    for operation in ["create", "run"] {
        let answer = run(&mut container.building(operation), container.site.path());
        assert_says(container, &answer, text);
    }
}

#[track_caller]
fn assert_says(container: &Container<'_>, answer: &Answer, text: &str) {
    assert_eq!((answer.status, answer.stdout.as_str()), (1, ""), "{answer:?}");
    assert!(
        answer.stderr.contains(text),
        "{:?} does not say {text:?}",
        answer.stderr
    );
    assert!(
        answer.stderr.len() < 1024 && answer.stderr.lines().count() == 1,
        "{:?}",
        answer.stderr
    );
    let last = container.site.last_error();
    let told = if last.starts_with("gabion refused ") {
        format!("{last}\n")
    } else {
        format!("gabion: error: {last}\n")
    };
    assert_eq!(answer.stderr, told);
    assert!(!container.ran());
    assert!(!container.pid_file().exists());
    assert_eq!(container.site.state_entries(), [""; 0]);
    container.assert_gone();
}

/// The same with this text as config.json.
#[track_caller]
fn assert_config_error(bytes: &[u8], text: &str) {
    let site = Site::new();
    let container = site.container();
    fs::write(container.bundle.join("config.json"), bytes).unwrap();
    assert_error(&container, text);
    let decisions = site.decisions();
    assert_eq!(decisions.len(), 2);
    assert!(
        decisions.iter().all(|decision| decision["verdict"] == "failed"),
        "{decisions:?}"
    );
}

#[test]
fn an_empty_file() {
    assert_config_error(b"", "config.json is empty");
    assert_config_error(b" \n\t", "config.json is empty");
}

#[test]
fn a_file_of_100_mib() {
    let site = Site::new();
    let container = site.container();
    let file = File::create(container.bundle.join("config.json")).unwrap();
    file.set_len(100 * 1024 * 1024).unwrap();
    assert_error(
        &container,
        "config.json\" is 104857600 bytes; at most 4194304 are read",
    );
}

#[test]
fn nesting_that_would_exhaust_the_stack() {
    let deep = format!(
        "{{\"ociVersion\":\"1.0.2\",\"x\":{}1{}}}",
        "[".repeat(1_000_000),
        "]".repeat(1_000_000)
    );
    assert_config_error(
        deep.as_bytes(),
        "config.json, line 1 column 153: recursion limit exceeded",
    );
}

#[test]
fn bytes_that_are_no_utf_8() {
    assert_config_error(
        b"{\"ociVersion\":\"1.0.2\xff\"}",
        "config.json is not UTF-8: invalid byte at offset 20",
    );
}

#[test]
fn a_key_that_is_there_twice() {
    assert_config_error(
        br#"{"ociVersion":"1.0.2","process":{"cwd":"/","noNewPrivileges":true,"noNewPrivileges":false}}"#,
        "config.json#/process/noNewPrivileges is there twice",
    );
}

#[test]
fn json_that_ends_early_and_json_that_goes_on() {
    assert_config_error(
        br#"{"ociVersion":"1.0.2","#,
        "config.json, line 1 column 22: EOF while parsing",
    );
    assert_config_error(
        br#"{"ociVersion":"1.0.2"} {}"#,
        "config.json, line 1 column 24: trailing characters",
    );
}

#[test]
fn a_version_that_is_not_known() {
    for version in ["2.0.0", "0.9.0", "banana", ""] {
        assert_config_error(
            format!("{{\"ociVersion\":{version:?}}}").as_bytes(),
            &format!("config.json#/ociVersion is {version:?}; gabion knows versions 1.x"),
        );
    }
    assert_config_error(b"{}", "ociVersion");
}

#[test]
fn a_value_of_the_wrong_type() {
    let site = Site::new();
    let mut container = site.container();
    container.config["process"]["args"] = json!("sh");
    container.write();
    assert_error(&container, "config.json#/process/args");
}

#[test]
fn something_else_in_the_place_of_the_configuration() {
    let site = Site::new();
    let mut container = site.container();
    let path = container.bundle.join("config.json");
    assert_error(
        &container,
        "config.json\" does not exist. An OCI bundle needs one",
    );

    mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap();
    assert_error(&container, "config.json\" is a FIFO, not a regular file");
    fs::remove_file(&path).unwrap();

    container.write();
    let real = container.bundle.join("real.json");
    fs::rename(&path, &real).unwrap();
    symlink(&real, &path).unwrap();
    assert_error(&container, "config.json\" is a symbolic link");
    fs::remove_file(&path).unwrap();

    fs::create_dir(&path).unwrap();
    assert_error(&container, "config.json\" is a directory, not a regular file");
    fs::remove_dir(&path).unwrap();

    mknod(
        &path,
        SFlag::S_IFCHR,
        Mode::from_bits_truncate(0o600),
        makedev(1, 5),
    )
    .unwrap();
    assert_error(&container, "config.json\" is a device node, not a regular file");
    fs::remove_file(&path).unwrap();

    // The file itself is all right.
    fs::rename(&real, &path).unwrap();
    container.script("true");
    run(&mut container.building("run"), site.path()).ok();
    assert!(container.ran());
}

#[test]
fn a_bundle_that_is_none() {
    let site = Site::new();
    let mut container = site.container();
    let rootfs = container.bundle.clone();
    container.bundle = site.path().join("nowhere");
    assert_error(&container, "nowhere\" does not exist");
    container.bundle = site.policy();
    assert_error(&container, "policy.toml\" is not a directory");
    container.bundle = rootfs;
}

#[test]
fn a_root_file_system_that_is_none() {
    let site = Site::new();
    let mut container = site.container();
    container.config["root"]["path"] = json!("nowhere");
    container.write();
    assert_error(&container, "nowhere\"");
    container.config["root"]["path"] = json!("config.json");
    container.write();
    assert_error(&container, "config.json\"");
    container.config.as_object_mut().unwrap().remove("root");
    container.write();
    assert_error(&container, "root is absent");
}

#[test]
fn no_process_and_no_program() {
    let site = Site::new();
    let mut container = site.container();
    let whole = container.config.clone();
    container.config["process"]["args"] = json!([]);
    container.write();
    assert_error(&container, "process");
    container.config = whole.clone();
    container.config["process"]["args"] = json!(["/bin/nowhere"]);
    container.write();
    assert_error(
        &container,
        "exec: \"/bin/nowhere\": stat /bin/nowhere: no such file or directory",
    );
    container.config["process"]["args"] = json!(["nowhere"]);
    container.write();
    assert_error(
        &container,
        "exec: \"nowhere\": executable file not found in $PATH",
    );
    container.config["process"]["args"] = json!(["/etc"]);
    container.write();
    assert_error(&container, "permission denied");
    container.config = whole;
    container.config.as_object_mut().unwrap().remove("process");
    container.write();
    assert_error(&container, "config.json#/process");
}

#[test]
fn a_mount_that_cannot_be_made() {
    let site = Site::new();
    let mut container = site.container();
    edit_array(&mut container.config, "/mounts", |mounts| {
        mounts.push(
            json!({"destination": "/mnt", "type": "bind", "source": "/nowhere/at/all", "options": ["bind"]}),
        );
    });
    container.write();
    assert_error(&container, "/nowhere/at/all");
    edit_array(&mut container.config, "/mounts", |mounts| {
        mounts.pop();
        mounts.push(json!({"destination": "/mnt", "type": "nosuchfs", "source": "none"}));
    });
    container.write();
    for operation in ["create", "run"] {
        let answer = run(&mut container.building(operation), site.path());
        assert_eq!(answer.status, 1, "{answer:?}");
        assert!(!container.ran());
        container.assert_gone();
    }
}

#[test]
fn an_id_that_is_a_path_or_nothing() {
    let site = Site::new();
    let container = site.container();
    container.write();
    let long = "x".repeat(256);
    for id in [
        "../escape",
        "..",
        ".",
        "",
        "a/b",
        "/abs",
        "a b",
        "a\nb",
        "~x",
        "ä",
        &long,
    ] {
        for operation in ["create", "run"] {
            let mut command = container.command();
            command
                .arg(operation)
                .arg("--bundle")
                .arg(&container.bundle)
                .args(["--", id]);
            let answer = run(&mut command, site.path());
            assert_says(
                &container,
                &answer,
                &format!("invalid container ID format: {id:?}")[..30],
            );
        }
        for operation in ["start", "state", "kill", "delete"] {
            assert_eq!(
                site.gabion(&[operation, "--", id]).status,
                1,
                "{operation} {id:?}"
            );
        }
    }
    assert!(!site.path().join("escape").exists());
}

#[test]
fn an_id_that_exists() {
    let site = Site::new();
    let container = site.container();
    container.create().ok();
    let before = container.state();
    for operation in ["create", "run"] {
        let answer = run(
            container
                .command()
                .arg(operation)
                .arg("--bundle")
                .arg(&container.bundle)
                .arg(&container.id),
            site.path(),
        );
        assert_eq!(answer.status, 1, "{answer:?}");
        assert_eq!(
            answer.stderr,
            format!(
                "gabion: error: container with given ID already exists: {}\n",
                container.id
            )
        );
    }
    // The one that was there is as it was, and runs.
    assert_eq!(container.state(), before);
    container.start().ok();
    container.wait_until_stopped();
    assert!(container.ran());
}

#[test]
fn an_id_that_does_not_exist() {
    let site = Site::new();
    for arguments in [&["start"][..], &["state"], &["kill"], &["delete"]] {
        let answer = site.gabion(&[arguments, &["nobody"]].concat());
        assert_eq!(
            (answer.status, answer.stderr.as_str()),
            (1, "gabion: error: container does not exist: nobody\n")
        );
    }
    site.gabion(&["delete", "--force", "nobody"]).ok();
}

#[test]
fn a_state_root_that_others_could_write_to() {
    let site = Site::new();
    let container = site.container();
    container.write();
    fs::create_dir(site.root()).unwrap();
    fs::set_permissions(site.root(), Permissions::from_mode(0o777)).unwrap();
    assert_error(
        &container,
        "state\" may be written by others; chmod go-w would make it usable",
    );
    fs::set_permissions(site.root(), Permissions::from_mode(0o700)).unwrap();
    nix::unistd::chown(&site.root(), Some(1000.into()), None).unwrap();
    assert_error(&container, "state\" belongs to another user");
    fs::remove_dir(site.root()).unwrap();
    fs::write(site.root(), "").unwrap();
    assert_error(&container, "state\"");
    fs::remove_file(site.root()).unwrap();
    let elsewhere = site.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, site.root()).unwrap();
    assert_error(&container, "state\" is not a directory");
    fs::remove_file(site.root()).unwrap();
}

#[test]
fn a_policy_that_cannot_be_trusted() {
    let site = Site::new();
    let container = site.container();
    container.write();
    let policy = site.policy();
    let text = fs::read_to_string(&policy).unwrap();

    fs::set_permissions(&policy, Permissions::from_mode(0o666)).unwrap();
    assert_error(&container, "policy.toml\" may be written by others (mode 0666)");
    fs::set_permissions(&policy, Permissions::from_mode(0o644)).unwrap();

    nix::unistd::chown(&policy, Some(1000.into()), None).unwrap();
    assert_error(&container, "policy.toml\" belongs to user 1000");
    nix::unistd::chown(&policy, Some(0.into()), None).unwrap();

    let real = site.path().join("real.toml");
    fs::rename(&policy, &real).unwrap();
    assert_error(&container, "there is no policy \"");
    symlink(&real, &policy).unwrap();
    assert_error(&container, "policy.toml\" is a symbolic link");
    fs::remove_file(&policy).unwrap();
    fs::create_dir(&policy).unwrap();
    assert_error(&container, "policy.toml\" is not a regular file");
    fs::remove_dir(&policy).unwrap();
    mkfifo(&policy, Mode::from_bits_truncate(0o600)).unwrap();
    assert_error(&container, "policy.toml\" is not a regular file");
    fs::remove_file(&policy).unwrap();

    site.write_whole_policy(&format!("{text}\nprofil = \"restricted\"\n"));
    assert_error(&container, "policy.toml, line ");
    site.write_whole_policy("profile = \"strict\"\n");
    assert_error(&container, "policy.toml, line 1 column 11: ");
    site.write_whole_policy("profile = ");
    assert_error(&container, "policy.toml, line 1 column ");
    fs::write(&policy, b"profile = \"\xff\"").unwrap();
    assert_error(&container, "cannot read the policy ");
    // Without its policy, nothing is decided, so nothing is recorded.
    assert_eq!(site.decisions(), [Value::Null; 0]);
}

/// Makes a ledger that cannot be appended to, whoever asks: a directory in its place.
fn block_ledger(path: &Path) {
    fs::create_dir(path).unwrap();
}

#[test]
fn a_ledger_that_cannot_be_written() {
    let site = Site::new();
    let mut container = site.container();
    container.write();
    block_ledger(&site.ledger());
    assert_error(&container, "decisions.jsonl\" is not a regular file");

    site.write_whole_policy("[ledger]\npath = \"/dev/full\"\n");
    assert_error(&container, "\"/dev/full\" is not a regular file");

    site.write_whole_policy(&format!(
        "[ledger]\npath = {:?}\nrequired = false\n",
        site.ledger()
    ));
    container.script("true");
    container.run().ok();
    assert!(container.ran());
    let log = fs::read_to_string(site.log()).unwrap();
    let warned = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .any(|line| {
            line["level"] == "warning"
                && line["msg"]
                    .as_str()
                    .is_some_and(|text| text.starts_with("this decision is not recorded: "))
        });
    assert!(warned, "{log}");
}

#[test]
fn a_ledger_on_a_full_disk() {
    let site = Site::new();
    let container = site.container();
    container.write();
    let disk = site.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mount = run(
        std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4k,mode=700", "none"])
            .arg(&disk),
        site.path(),
    );
    mount.ok();
    // The one page that there is, is taken.
    fs::write(disk.join("decisions.jsonl"), "x".repeat(4095) + "\n").unwrap();
    fs::set_permissions(disk.join("decisions.jsonl"), Permissions::from_mode(0o600)).unwrap();
    site.write_whole_policy(&format!("[ledger]\npath = {:?}\n", disk.join("decisions.jsonl")));
    let answer = run(&mut container.building("run"), site.path());
    let length = fs::metadata(disk.join("decisions.jsonl")).unwrap().len();
    run(std::process::Command::new("umount").arg(&disk), site.path()).ok();
    assert_says(&container, &answer, "nothing runs that is not recorded");
    assert_eq!(length, 4096);
}
