//! A refused bundle: who learns of it, in which words, and that nothing of it is left.

#![allow(clippy::unwrap_used, clippy::panic)] // a test file, its functions beside the tests included

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use gabion_integration::{Container, Site, edit_array, gabion, run};
use serde_json::{Value, json};

fn grant(container: &mut Container<'_>, capabilities: &[&str]) {
    for set in ["bounding", "effective", "permitted"] {
        edit_array(
            &mut container.config,
            &format!("/process/capabilities/{set}"),
            |list| {
                list.extend(capabilities.iter().map(|&name| json!(name)));
            },
        );
    }
}

fn share(container: &mut Container<'_>, kind: &str) {
    edit_array(&mut container.config, "/linux/namespaces", |list| {
        list.retain(|entry| entry["type"] != kind)
    });
}

/// What an engine sends for a container that is to have everything.
fn privileged(container: &mut Container<'_>) {
    grant(
        container,
        &[
            "CAP_SYS_ADMIN",
            "CAP_SYS_MODULE",
            "CAP_SYS_PTRACE",
            "CAP_SYS_RAWIO",
        ],
    );
    let linux = &mut container.config["linux"];
    linux["maskedPaths"] = Value::Null;
    linux["readonlyPaths"] = Value::Null;
    linux["resources"]["devices"] = json!([{"allow": true, "access": "rwm"}]);
}

fn bind(container: &mut Container<'_>, source: &str, destination: &str) {
    edit_array(&mut container.config, "/mounts", |mounts| {
        mounts.push(json!({
            "destination": destination, "type": "bind", "source": source, "options": ["rbind", "rprivate"]
        }));
    });
}

/// Both `create` and `run` refuse it: with status 1, with these rules in one line on standard error and in the log,
/// with a record; and nothing is left.
#[track_caller]
fn assert_refused(site: &Site, setup: &dyn Fn(&mut Container<'_>), profile: &str, rules: &[&str]) {
    for operation in ["create", "run"] {
        let mut container = site.container();
        setup(&mut container);
        let answer = match operation {
            "create" => container.create(),
            _ => container.run(),
        };
        assert_eq!((answer.status, answer.stdout.as_str()), (1, ""), "{answer:?}");
        let line = answer.stderr.strip_suffix('\n').unwrap();
        assert!(
            line.starts_with(&format!("gabion refused {}: ", container.id)),
            "{line}"
        );
        assert!(line.contains(&format!(" of profile {profile}: ")), "{line}");
        assert!(line.contains("; gabion explain "), "{line}");
        assert!(!line.contains('\n'), "{line}");
        for rule in rules {
            assert!(line.contains(rule), "{rule} is not in {line}");
        }
        assert_log_line(site, line);
        let decision = site.decisions().pop().unwrap();
        assert_eq!(decision["id"], container.id);
        assert_eq!(decision["operation"], operation);
        assert_eq!(decision["verdict"], "refused");
        assert_eq!(decision["profile"], profile);
        assert_eq!(decision["bundle"], container.bundle.to_str().unwrap());
        assert_eq!(decision["message"], line);
        let denied: Vec<&str> = decision["findings"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|finding| finding["action"] == "deny")
            .filter_map(|finding| finding["rule"].as_str())
            .collect();
        for rule in rules {
            let is_it = |denied: &&str| {
                denied
                    .strip_prefix(rule)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
            };
            assert!(denied.iter().any(is_it), "{rule} is not in {denied:?}");
        }
        assert!(!container.ran());
        assert!(!container.pid_file().exists());
        assert_eq!(site.state_entries(), [""; 0]);
        assert_eq!(
            fs::read_dir(&container.bundle).unwrap().count(),
            2,
            "config.json and rootfs"
        );
        container.assert_gone();
    }
}

/// The log's last line is this message in the form that containerd's shim reads, below 1 KiB.
#[track_caller]
fn assert_log_line(site: &Site, message: &str) {
    let text = fs::read_to_string(site.log()).unwrap();
    let last = text.lines().last().unwrap();
    assert!(last.len() < 1024, "{} bytes: {last}", last.len());
    let line: Value = serde_json::from_str(last).unwrap();
    let keys: Vec<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["level", "msg", "time"]);
    assert_eq!(line["level"], "error");
    assert_eq!(line["msg"], message);
    let time = line["time"].as_str().unwrap();
    assert!(
        time.len() == 20 && time.ends_with('Z') && time.as_bytes()[10] == b'T',
        "{time}"
    );
}

#[track_caller]
fn assert_runs(site: &Site, setup: &dyn Fn(&mut Container<'_>)) {
    let mut container = site.container();
    setup(&mut container);
    container.run().ok();
    assert!(container.ran());
}

#[test]
fn a_privileged_container_is_refused_with_all_its_reasons() {
    let site = Site::new();
    assert_refused(
        &site,
        &privileged,
        "baseline",
        &[
            "CAP-03:SYS_ADMIN",
            "CAP-03:SYS_MODULE",
            "CAP-03:SYS_PTRACE",
            "CAP-03:SYS_RAWIO",
            "DEV-01",
        ],
    );
    assert_runs(&site, &|_| {});
}

#[test]
fn the_docker_socket_is_refused_by_any_path() {
    let site = Site::new();
    // A socket of the test's own under the well-known name: it is the name and the kind that count.
    let sockets = tempfile::tempdir().unwrap();
    let path = sockets.path().join("docker.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let link = sockets.path().join("harmless");
    symlink(&path, &link).unwrap();
    for source in [&path, &link] {
        let source = source.to_str().unwrap().to_owned();
        assert_refused(
            &site,
            &move |container| bind(container, &source, "/mnt/socket"),
            "baseline",
            &["MNT-02"],
        );
    }
    let honest = sockets.path().join("data");
    fs::create_dir(&honest).unwrap();
    let honest = honest.to_str().unwrap().to_owned();
    assert_runs(&site, &move |container| bind(container, &honest, "/mnt"));
}

#[test]
fn the_hosts_root_is_refused() {
    assert_refused(
        &Site::new(),
        &|container| bind(container, "/", "/mnt"),
        "baseline",
        &["MNT-01"],
    );
}

#[test]
fn the_hosts_namespaces_are_refused() {
    let site = Site::new();
    for (kind, rule) in [
        ("pid", "NS-02"),
        ("ipc", "NS-03"),
        ("network", "NS-04"),
        ("mount", "NS-01"),
    ] {
        assert_refused(&site, &|container| share(container, kind), "baseline", &[rule]);
    }
}

#[test]
fn a_namespace_of_a_host_process_by_path_is_refused() {
    let joining = |container: &mut Container<'_>| {
        share(container, "pid");
        edit_array(&mut container.config, "/linux/namespaces", |list| {
            list.push(json!({"type": "pid", "path": "/proc/1/ns/pid"}));
        });
    };
    assert_refused(&Site::new(), &joining, "baseline", &["NS-02"]);
}

/// CVE-2024-21626 began with a descriptor of a directory of the host.
#[test]
fn a_directory_of_the_host_as_a_standard_stream_is_refused() {
    let site = Site::new();
    let mut container = site.container();
    let by = |from: &str| {
        ["sh", "-c", &format!("exec \"$@\" 0<{from}"), "sh"]
            .map(Into::into)
            .to_vec()
    };
    container.caller = by("/etc");
    let answer = container.run();
    assert_eq!(answer.status, 1, "{answer:?}");
    assert!(
        answer
            .stderr
            .contains("TTY-02:0 descriptor 0 leads to a directory of the host, \"/etc\""),
        "{answer:?}"
    );
    assert!(!container.ran());
    container.assert_gone();
    container.caller = by("/etc/passwd");
    container.run().ok();
    assert!(container.ran());
}

#[test]
fn the_restricted_profile_refuses_what_the_baseline_admits() {
    let site = Site::new();
    assert_runs(&site, &|_| {});
    let by_flag = |container: &mut Container<'_>| {
        container.arguments = vec!["--profile".into(), "restricted".into()];
    };
    assert_refused(
        &site,
        &by_flag,
        "restricted",
        &["PRV-02", "CAP-04:CHOWN", "ROOT-01"],
    );
    site.write_policy("profile = \"restricted\"");
    assert_refused(
        &site,
        &|_| {},
        "restricted",
        &["PRV-02", "CAP-04:CHOWN", "ROOT-01"],
    );
}

#[test]
fn the_name_gabion_restricted_chooses_the_profile_and_no_flag_weakens_it() {
    let site = Site::new();
    let link = site.path().join("gabion-restricted");
    symlink(gabion(), &link).unwrap();
    let container = site.container();
    container.write();
    for arguments in [&[][..], &["--profile", "privileged"][..]] {
        let mut command = site.command_by(&[link.as_os_str()]);
        command
            .args(["create", "--bundle"])
            .arg(&container.bundle)
            .args(arguments)
            .arg(&container.id);
        let answer = run(&mut command, site.path());
        assert_eq!(answer.status, 1, "{answer:?}");
        assert!(answer.stderr.contains(" of profile restricted: "), "{answer:?}");
        assert_eq!(site.decisions().pop().unwrap()["profile"], "restricted");
        container.assert_gone();
    }
}

#[test]
fn an_annotation_may_ask_for_more_and_never_for_less() {
    let site = Site::new();
    let annotate = |profile: &'static str| {
        move |container: &mut Container<'_>| {
            container.config["annotations"] = json!({"org.gabion.profile": profile});
        }
    };
    assert_refused(
        &site,
        &annotate("restricted"),
        "restricted",
        &["PRV-02", "CAP-04:CHOWN", "ROOT-01"],
    );
    assert_refused(&site, &annotate("privileged"), "baseline", &["ANN-02"]);
    assert_refused(&site, &annotate("stict"), "baseline", &["ANN-02"]);
    assert_runs(&site, &annotate("baseline"));
}

#[test]
fn a_refused_id_is_free() {
    let site = Site::new();
    let mut container = site.container();
    let admitted = container.config.clone();
    privileged(&mut container);
    assert_eq!(container.create().status, 1);
    container.config = admitted;
    container.run().ok();
    assert!(container.ran());
    let verdicts: Vec<Value> = site
        .decisions()
        .into_iter()
        .map(|decision| decision["verdict"].clone())
        .collect();
    assert_eq!(verdicts, ["refused", "admitted", "started"]);
}

#[test]
fn the_profile_privileged_admits_and_still_records_what_it_sees() {
    let site = Site::new();
    let mut container = site.container();
    privileged(&mut container);
    container.arguments = vec!["--profile".into(), "privileged".into()];
    container.run().ok();
    assert!(container.ran());
    let decisions = site.decisions();
    assert_eq!(decisions[0]["verdict"], "admitted");
    let audited = decisions[0]["findings"].as_array().unwrap().iter();
    assert!(
        audited
            .clone()
            .any(|finding| finding["rule"] == "CAP-03:SYS_ADMIN" && finding["action"] == "audit"),
        "{decisions:?}"
    );
}

#[test]
fn check_says_the_same_without_running_anything() {
    let site = Site::new();
    let mut container = site.container();
    privileged(&mut container);
    container.write();
    let bundle = container.bundle.to_str().unwrap().to_owned();
    let answer = site.gabion(&["check", "--bundle", &bundle, "--format", "json"]);
    assert_eq!(answer.status, 2, "{answer:?}");
    let report: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(report["verdict"], "refused");
    let rules: Vec<&str> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|finding| finding["rule"].as_str())
        .collect();
    assert!(rules.contains(&"CAP-03:SYS_ADMIN"), "{rules:?}");
    assert_eq!(site.state_entries(), [""; 0]);
}

#[test]
fn gabions_own_state_ledger_and_policy_are_no_volumes_in_any_profile() {
    let site = Site::new();
    for (own, profile) in [
        (site.root(), "baseline"),
        (site.root(), "privileged"),
        (site.ledger().parent().unwrap().to_owned(), "privileged"),
        (site.policy(), "privileged"),
    ] {
        fs::create_dir_all(site.root()).unwrap();
        let mut container = site.container();
        bind(&mut container, own.to_str().unwrap(), "/mnt");
        container.arguments = vec!["--profile".into(), profile.into()];
        let answer = container.run();
        assert!(
            answer.status == 1 && answer.stderr.contains("HOST-03:own"),
            "{own:?} {profile}: {answer:?}"
        );
        assert!(!container.ran());
    }
    // The control: a directory beside them.
    let volume = site.path().join("volume");
    fs::create_dir(&volume).unwrap();
    let mut container = site.container();
    bind(&mut container, volume.to_str().unwrap(), "/mnt");
    container.run().ok();
    assert!(container.ran());
}

#[test]
fn flags_that_weaken_a_container_are_recorded_and_refused_under_restricted() {
    for (flags, rule) in [
        (&["--no-pivot"][..], "OPS-04:no-pivot"),
        (&["--no-new-keyring"], "OPS-04:no-new-keyring"),
        (&["--preserve-fds", "1"], "OPS-04:preserve-fds"),
    ] {
        for (profile, action) in [("baseline", "audit"), ("restricted", "deny")] {
            let site = Site::new();
            let judged = |flags: &[&str]| {
                let mut container = site.container();
                container.arguments = ["--profile", profile]
                    .iter()
                    .chain(flags)
                    .map(Into::into)
                    .collect();
                // A descriptor that can be handed on.
                container.caller = ["sh", "-c", "exec 3</dev/null; exec \"$@\"", "sh"]
                    .map(Into::into)
                    .to_vec();
                // Whether it can be built so is not what is asked: what becomes of it is in the record.
                drop(container.create());
                let decisions = site.decisions();
                let findings = decisions.last().unwrap()["findings"].as_array().unwrap().clone();
                let found = findings.into_iter().find(|finding| finding["rule"] == rule);
                found.map(|finding| finding["action"].clone())
            };
            assert_eq!(judged(flags), Some(json!(action)), "{rule} {profile}");
            assert_eq!(judged(&[]), None, "the control: {profile} without {flags:?}");
        }
    }
}
