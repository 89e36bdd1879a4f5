//! `gabion learn --watch`: a container that somebody else runs teaches its profile, and does not notice.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // a test file; what is skipped is told

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

use gabion_integration::{Container, Site, skip, wait_until};
use serde_json::{Value, json};

/// A watcher that has begun.
struct Watcher {
    child: Child,
    stderr: BufReader<ChildStderr>,
    directory: PathBuf,
}

impl Watcher {
    /// Begins one below a site, and gives what it says first; none where the kernel's trace cannot be had.
    fn new(site: &Site, name: &str, words: &[&str]) -> Option<(Watcher, String)> {
        let directory = site.path().join(name);
        let mut command = site.command();
        command
            .args(["learn", "--watch", "--output"])
            .arg(&directory)
            .args(words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let mut watcher = Watcher {
            child,
            stderr,
            directory,
        };
        let said = watcher.says();
        if said.contains("watched by the kernel's trace alone") {
            watcher.child.wait().unwrap();
            skip(&said);
            return None;
        }
        Some((watcher, said))
    }

    /// What it says next.
    fn says(&mut self) -> String {
        let mut line = String::new();
        self.stderr.read_line(&mut line).unwrap();
        line
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let mut kill = Command::new("kill");
        assert!(kill.args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Its status, and what it printed.
    fn end(&mut self) -> (Option<i32>, String) {
        let mut text = String::new();
        let stdout = self.child.stdout.as_mut().unwrap();
        stdout.read_to_string(&mut text).unwrap();
        (self.child.wait().unwrap().code(), text)
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.directory.join(name)).unwrap()).unwrap()
    }

    fn calls(&self) -> BTreeSet<String> {
        let seen = self.json("observations.json");
        seen["calls"].as_object().unwrap().keys().cloned().collect()
    }
}

/// Whether the socket of a watcher is there.
fn listens(watcher: &Watcher) -> bool {
    Path::new("/run/gabion/~watchers")
        .join(format!("{}.sock", watcher.child.id()))
        .exists()
}

fn exists(container: &Container<'_>, path: &str) -> bool {
    container.rootfs().join(path).exists()
}

#[test]
fn a_container_is_waited_for_and_watched_from_its_programs_first_call() {
    let site = Site::new();
    let mut container = site.container();
    container.script(
        "touch /tmp/a; busybox unshare -r true; while ! test -e /tmp/go; do sleep 0.05; done; rmdir /tmp/b",
    );
    // Another one's start is none of it.
    let mut other = site.container();
    other.script("true");
    let Some((mut watcher, said)) = Watcher::new(&site, "learnt", &[&container.id]) else {
        return;
    };
    assert_eq!(
        said,
        format!("Waiting for container {} to be started.\n", container.id)
    );
    other.create().ok();
    other.start().ok();
    other.wait_for("tmp/ran", "ran");
    container.create().ok();
    container.start().ok();
    assert_eq!(watcher.says(), format!("Watching container {}.\n", container.id));
    // A process of exec's is watched as well, and not what the runtime does on its way there.
    let exec = [
        "exec",
        &container.id,
        "/bin/sh",
        "-c",
        "mkdir /tmp/b; touch /tmp/go",
    ];
    site.gabion(&exec).ok();
    container.wait_until_stopped();
    let (status, report) = watcher.end();
    assert_eq!(status, Some(0), "{report}");
    assert!(
        report.contains("watched from its start, until it ended"),
        "{report}"
    );
    let calls = watcher.calls();
    for name in ["mkdir", "rmdir"] {
        assert!(calls.contains(name), "{name} in {calls:?}");
    }
    for name in [
        "setgroups",
        "capset",
        "sethostname",
        "pivot_root",
        "seccomp",
        "mount",
        "unshare",
    ] {
        assert!(!calls.contains(name), "{name}");
    }
    let seen = watcher.json("observations.json");
    assert_eq!(seen["denied"]["unshare"]["answer"], "fails with EPERM", "{seen}");
    assert_eq!(
        (&seen["runs"][0]["lost"], &seen["runs"][0]["attached"]),
        (&json!(0), &json!(true))
    );
    let noted: Vec<Value> = site
        .decisions()
        .into_iter()
        .filter(|line| line["verdict"] == "started" && line["operation"] == "start")
        .map(|line| line["message"].clone())
        .collect();
    assert_eq!(noted, [Value::Null, json!("watched by gabion learn")]);
    for container in [&container, &other] {
        container.delete().ok();
        container.assert_gone();
    }

    // What it taught is enough, and no more.
    let mut taught = site.container();
    let learnt = watcher.json("oci.json");
    taught.config["process"]["capabilities"] = learnt["process"]["capabilities"].clone();
    taught.config["linux"]["seccomp"] = learnt["linux"]["seccomp"].clone();
    taught.script("touch /tmp/a && mkdir /tmp/b && rmdir /tmp/b && echo well > /tmp/said; ln /tmp/a /tmp/c");
    let answer = taught.run();
    assert_eq!(taught.file("tmp/said"), "well\n", "{answer:#?}");
    assert!(
        answer.status != 0 && answer.stderr.contains("Operation not permitted"),
        "{answer:#?}"
    );
}

#[test]
fn one_that_runs_in_the_foreground_is_watched_as_well() {
    let site = Site::new();
    let mut container = site.container();
    container.script("mkdir /tmp/a; rmdir /tmp/a");
    let Some((mut watcher, _)) = Watcher::new(&site, "learnt", &[&container.id]) else {
        return;
    };
    container.run().ok();
    assert_eq!(watcher.says(), format!("Watching container {}.\n", container.id));
    let (status, report) = watcher.end();
    assert_eq!(status, Some(0), "{report}");
    let calls = watcher.calls();
    assert!(calls.contains("mkdir") && calls.contains("rmdir"), "{calls:?}");
    let started = site
        .decisions()
        .into_iter()
        .find(|line| line["verdict"] == "started")
        .unwrap();
    assert_eq!(
        (&started["operation"], &started["message"]),
        (&json!("run"), &json!("watched by gabion learn"))
    );
}

#[test]
fn one_that_waits_for_start_and_one_with_an_annotation_are_found() {
    let site = Site::new();
    let mut container = site.container();
    container.script("touch /tmp/a");
    container.create().ok();
    let Some((mut watcher, said)) = Watcher::new(&site, "created", &[&container.id]) else {
        return;
    };
    assert_eq!(said, format!("Watching container {}.\n", container.id));
    container.start().ok();
    let (status, report) = watcher.end();
    assert!(
        status == Some(0) && report.contains("watched from its start"),
        "{report}"
    );
    container.delete().ok();

    let mut container = site.container();
    container.config["annotations"] = json!({"app": "web", "tier": "front"});
    container.script("touch /tmp/a");
    let words = ["--annotation", "app=web", "--annotation", "tier=front"];
    let (mut watcher, said) = Watcher::new(&site, "shop.learnt", &words).unwrap();
    assert_eq!(
        said,
        "Waiting for a container with app=web and tier=front to be started.\n"
    );
    let mut other = site.container();
    other.config["annotations"] = json!({"app": "web"});
    other.script("true");
    for container in [&other, &container] {
        container.create().ok();
        container.start().ok();
        container.wait_until_stopped();
        container.delete().ok();
    }
    assert_eq!(watcher.says(), format!("Watching container {}.\n", container.id));
    assert_eq!(watcher.end().0, Some(0));
    let resource = fs::read_to_string(watcher.directory.join("kubernetes.yaml")).unwrap();
    assert!(resource.contains("name: \"shop\""), "{resource}");
}

#[test]
fn one_that_runs_is_watched_from_now_on_and_goes_on_whatever_becomes_of_the_watcher() {
    let site = Site::new();
    let mut container = site.container();
    container
        .script("mkdir /tmp/early; touch /tmp/x; while true; do touch /tmp/a; rm /tmp/a; sleep 0.05; done");
    container.create().ok();
    container.start().ok();
    assert!(wait_until(|| exists(&container, "tmp/early")));
    let Some((mut watcher, said)) = Watcher::new(&site, "timed", &["--for", "1s", &container.id]) else {
        return;
    };
    assert_eq!(said, format!("Watching container {}.\n", container.id));
    let (status, report) = watcher.end();
    assert_eq!(status, Some(0), "{report}");
    assert!(report.contains("what it called before is"), "{report}");
    let calls = watcher.calls();
    assert!(calls.contains("unlink") && !calls.contains("mkdir"), "{calls:?}");
    assert_eq!(container.status().as_deref(), Some("running"));

    for (name, expected, written) in [("INT", Some(0), true), ("KILL", None, false)] {
        let (mut watcher, _) = Watcher::new(&site, name, &[&container.id]).unwrap();
        watcher.signal(name);
        // Open until the guard has ended as well.
        let (status, report) = watcher.end();
        assert_eq!(
            (status, watcher.directory.exists()),
            (expected, written),
            "{report}"
        );
        assert_eq!(container.status().as_deref(), Some("running"));
        assert_eq!(
            (instances(&watcher), listens(&watcher)),
            (Vec::new(), false),
            "{name}"
        );
    }
    assert_eq!((instances(&watcher), listens(&watcher)), (Vec::new(), false));
    container.kill("KILL").ok();
    container.wait_until_stopped();
    container.delete().ok();
}

/// Instances of the kernel's trace that a watcher made.
fn instances(watcher: &Watcher) -> Vec<String> {
    use std::os::fd::AsRawFd;
    let mount = gabion_sys::mount::detached(c"tracefs", &[], &[], 0).unwrap();
    let path = format!("/proc/self/fd/{}/instances", mount.as_raw_fd());
    let entries = fs::read_dir(Path::new(&path)).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(&format!("-watch-{}", watcher.child.id())))
        .collect()
}

#[test]
fn what_cannot_be_watched_is_said_and_started_all_the_same() {
    let site = Site::new();
    // A signal before it came.
    let Some((mut watcher, _)) = Watcher::new(&site, "never", &["never"]) else {
        return;
    };
    watcher.signal("TERM");
    assert!(
        watcher
            .says()
            .contains("ended by a signal before container never was started; nothing is written")
    );
    assert_eq!((watcher.end().0, watcher.directory.exists()), (Some(1), false));
    // No profile, so nothing to take a part of.
    let mut container = site.container();
    container.arguments = vec!["--profile".into(), "privileged".into()];
    container.script("true");
    let (mut watcher, _) = Watcher::new(&site, "without", &[&container.id]).unwrap();
    container.create().ok();
    container.start().ok();
    container.wait_until_stopped();
    assert!(container.ran());
    assert!(watcher.says().contains("has no seccomp profile"));
    assert_eq!(watcher.end().0, Some(1));
    container.delete().ok();
    // Flags that make no sense together.
    for (words, text) in [
        (
            &["learn", "--watch", "--bundle", "/x", "web"][..],
            "cannot be used with",
        ),
        (&["learn", "--annotation", "a=b", "web"], "--watch"),
        (&["learn", "--watch", "--annotation", "a", "web"], "KEY=VALUE"),
        (&["learn", "--watch", "--annotation", "a=b"], "--output"),
        (&["learn", "--watch"], "CONTAINER_ID"),
    ] {
        let answer = site.gabion(words);
        assert!(
            answer.status != 0 && answer.stderr.contains(text),
            "{words:?}: {answer:#?}"
        );
    }
}
