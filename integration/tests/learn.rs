//! `gabion learn`: what a container calls becomes its profile, and the profile holds.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // a test file; what is skipped is told

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use gabion_integration::{Answer, Container, Site, run, wait_until};
use serde_json::{Value, json};

/// The files that learning writes.
const FILES: [&str; 7] = [
    "diff.txt",
    "docker.json",
    "kubernetes.yaml",
    "observations.json",
    "oci.json",
    "report.txt",
    "seccomp.json",
];

fn output(container: &Container<'_>) -> PathBuf {
    container.site.path().join(format!("{}.learnt", container.id))
}

fn learning(container: &Container<'_>, options: &[&str]) -> Command {
    container.write();
    let mut command = container.command();
    command.arg("learn").arg("--bundle").arg(&container.bundle);
    command
        .arg("--output")
        .arg(output(container))
        .args(options)
        .arg(&container.id);
    command
}

#[track_caller]
fn learn(container: &Container<'_>, options: &[&str]) -> Answer {
    run(&mut learning(container, options), container.site.path())
}

fn json(container: &Container<'_>, name: &str) -> Value {
    serde_json::from_slice(&fs::read(output(container).join(name)).unwrap()).unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Calls that were seen.
fn calls(container: &Container<'_>) -> BTreeSet<String> {
    let seen = json(container, "observations.json");
    seen["calls"].as_object().unwrap().keys().cloned().collect()
}

/// Calls with an allowing rule.
fn allowed(profile: &Value) -> BTreeSet<String> {
    let rules = profile["syscalls"].as_array().unwrap().iter();
    rules
        .filter(|rule| rule["action"] == "SCMP_ACT_ALLOW")
        .flat_map(|rule| rule["names"].as_array().unwrap())
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

/// What another container with the learnt filter and capabilities does with a script.
fn under(learnt: &Container<'_>, form: &str, script: &str) -> (Answer, String) {
    let mut container = learnt.site.container();
    container.script(script);
    let value = json(learnt, form);
    if form == "oci.json" {
        container.config["process"]["capabilities"] = value["process"]["capabilities"].clone();
        container.config["linux"]["seccomp"] = value["linux"]["seccomp"].clone();
    } else {
        container.config["linux"]["seccomp"] = value;
    }
    let answer = container.run();
    let said = container.file("tmp/said");
    (answer, said)
}

/// Whether tracefs can be had here; what is told by it alone is not looked for where not.
fn traced(container: &Container<'_>) -> bool {
    let seen = json(container, "observations.json");
    let traced = seen["runs"]
        .as_array()
        .unwrap()
        .iter()
        .all(|run| run["traced"] == true && run["lost"] == 0);
    if !traced {
        println!("SKIPPED: capabilities and denied calls, as there is no tracepoint here");
    }
    traced
}

/// What runc does with a script under a learnt filter, if it is here.
fn under_runc(learnt: &Container<'_>, script: &str) -> Option<(Answer, String)> {
    let mut container = learnt.site.container();
    container.script(script);
    container.config["linux"]["seccomp"] = json(learnt, "docker.json");
    container.write();
    let mut command = Command::new("runc");
    command
        .arg("--root")
        .arg(learnt.site.path().join("runc"))
        .arg("run")
        .arg("--bundle");
    command.arg(&container.bundle).arg(&container.id);
    if Command::new("runc").arg("--version").output().is_err() {
        println!("SKIPPED: runc, which is not here");
        return None;
    }
    let answer = run(&mut command, learnt.site.path());
    Some((answer, container.file("tmp/said")))
}

/// The last words of a script that did what it was to.
const SAY: &str = "&& echo well > /tmp/said";

#[test]
fn a_container_runs_under_what_it_taught_and_cannot_do_more() {
    let site = Site::new();
    let mut teacher = site.container();
    let script =
        format!("touch /tmp/a && busybox chown 5:5 /tmp/a && (echo in a child | cat) > /tmp/b {SAY}");
    teacher.script(&script);
    let answer = learn(&teacher, &[]).ok();
    assert!(
        teacher.ran() && answer.stdout.contains("Written to"),
        "{answer:#?}"
    );
    teacher.assert_gone();
    assert_eq!(names(&output(&teacher)), FILES);

    for form in ["oci.json", "seccomp.json", "docker.json"] {
        let (answer, said) = under(&teacher, form, &script);
        assert_eq!(
            (answer.status, said.as_str()),
            (0, "well\n"),
            "{form}: {answer:#?}"
        );
        let (answer, said) = under(&teacher, form, &format!("mkdir /tmp/c {SAY}"));
        assert!(answer.status != 0 && said.is_empty(), "{form}: {answer:#?}");
        assert!(
            answer
                .stderr
                .contains("mkdir: can't create directory '/tmp/c': Operation not permitted"),
            "{answer:#?}"
        );
    }
    let profile = json(&teacher, "seccomp.json");
    let default = allowed(&Value::from_iter([("syscalls", json!([]))]));
    assert!(
        default.is_empty() && !allowed(&profile).contains("mkdir") && !allowed(&profile).contains("socket")
    );
    // What runtimes call before the program is not what the program calls.
    for name in ["setgroups", "capset", "sethostname", "pivot_root", "seccomp"] {
        assert!(!calls(&teacher).contains(name), "{name}");
    }
    if traced(&teacher) {
        let capabilities = &json(&teacher, "oci.json")["process"]["capabilities"];
        assert_eq!(capabilities["bounding"], json!(["CAP_CHOWN"]));
        assert_eq!(capabilities["permitted"], json!(["CAP_CHOWN"]));
    }
}

/// runc makes its filter with libseccomp, and has calls of its own to make under it.
#[test]
fn another_runtime_runs_it_too_if_it_is_asked_for() {
    let site = Site::new();
    let mut teacher = site.container();
    let script = format!("touch /tmp/a && (echo in a child | cat) > /tmp/b {SAY}");
    teacher.script(&script);
    learn(&teacher, &["--any-runtime"]).ok();
    let Some((answer, said)) = under_runc(&teacher, &script) else {
        return;
    };
    assert_eq!((answer.status, said.as_str()), (0, "well\n"), "{answer:#?}");
    let (answer, said) = under_runc(&teacher, &format!("mkdir /tmp/c {SAY}")).unwrap();
    assert!(answer.status != 0 && said.is_empty(), "{answer:#?}");
    assert!(
        answer.stderr.contains("mkdir: can't create directory '/tmp/c'"),
        "{answer:#?}"
    );
    assert!(!allowed(&json(&teacher, "seccomp.json")).contains("setresuid"));
}

#[test]
fn the_floor_and_the_profile_hold_while_it_learns_and_what_they_deny_is_told() {
    let site = Site::new();
    let mut container = site.container();
    container.script("busybox unshare -r true; busybox mount -t tmpfs none /mnt; echo end > /tmp/said");
    let answer = learn(&container, &[]).ok();
    assert!(answer.stderr.contains("Operation not permitted"), "{answer:#?}");
    assert_eq!(container.file("tmp/said"), "end\n");
    let profile = json(&container, "seccomp.json");
    assert!(!allowed(&profile).contains("unshare") && !allowed(&profile).contains("mount"));
    if traced(&container) {
        let denied = &json(&container, "observations.json")["denied"];
        for name in ["unshare", "mount"] {
            assert_eq!(denied[name]["answer"], "fails with EPERM", "{denied}");
            assert_eq!(denied[name]["certain"], true, "{denied}");
        }
        assert!(
            answer.stdout.contains("unshare fails with EPERM (1 times)"),
            "{answer:#?}"
        );
    }
    let started = site.decisions();
    assert!(
        started
            .iter()
            .any(|line| line["verdict"] == "started" && line["message"] == "watched by gabion learn")
    );
}

#[test]
fn further_runs_add_and_nothing_gets_less() {
    let site = Site::new();
    let mut container = site.container();
    container.script("touch /tmp/a; true");
    learn(&container, &[]).ok();
    let (before, first) = (calls(&container), allowed(&json(&container, "seccomp.json")));
    container.script("mkdir /tmp/b; true");
    let refused = learn(&container, &[]);
    assert_eq!(refused.status, 1);
    assert!(
        site.last_error()
            .contains("is there already; --merge adds to what it has"),
        "{}",
        site.last_error()
    );
    assert_eq!(calls(&container), before);
    assert!(!container.rootfs().join("tmp/b").exists());

    let answer = learn(&container, &["--merge"]).ok();
    assert!(
        answer.stdout.contains("Run 2 of 2") && answer.stdout.contains("new: mkdir"),
        "{answer:#?}"
    );
    let second = allowed(&json(&container, "seccomp.json"));
    assert!(second.is_superset(&first) && second.contains("mkdir") && !first.contains("mkdir"));
    assert!(calls(&container).is_superset(&before));
    assert_eq!(names(&output(&container)), FILES);
    let (answer, said) = under(
        &container,
        "oci.json",
        &format!("touch /tmp/a && mkdir /tmp/b {SAY}"),
    );
    assert_eq!(said, "well\n", "{answer:#?}");
}

#[test]
fn time_and_signals_end_it_and_what_was_seen_is_written() {
    let site = Site::new();
    let mut container = site.container();
    // The first process of a container ends by SIGTERM only if it handles it.
    container.script("trap 'mkdir /tmp/last; exit 7' TERM; while true; do sleep 0.1; done");
    let answer = learn(&container, &["--for", "1s"]).ok();
    assert!(
        answer.stdout.contains("ended when its time was over"),
        "{answer:#?}"
    );
    assert!(calls(&container).contains("mkdir"), "what it did on its way out");
    container.assert_gone();

    let mut stubborn = site.container();
    stubborn.script("touch /tmp/there; while true; do sleep 0.1; done");
    let mut child = learning(&stubborn, &[]).stdout(Stdio::piped()).spawn().unwrap();
    stubborn.wait_for("tmp/ran", "ran");
    assert!(wait_until(|| stubborn.rootfs().join("tmp/there").exists()));
    signal(&child, "INT");
    std::thread::sleep(std::time::Duration::from_millis(300));
    signal(&child, "INT");
    let mut text = String::new();
    std::io::Read::read_to_string(child.stdout.as_mut().unwrap(), &mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{text}");
    assert!(text.contains("ended by a signal from outside"), "{text}");
    assert!(calls(&stubborn).contains("openat"));
    stubborn.assert_gone();
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-s", name, &pid])
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn killed_half_way_nothing_is_left() {
    let site = Site::new();
    let mut container = site.container();
    container.script("while true; do sleep 0.1; done");
    let mut child = learning(&container, &[]).stdout(Stdio::piped()).spawn().unwrap();
    container.wait_for("tmp/ran", "ran");
    signal(&child, "KILL");
    // Open until the guard has ended as well.
    let mut text = String::new();
    std::io::Read::read_to_string(child.stdout.as_mut().unwrap(), &mut text).unwrap();
    child.wait().unwrap();
    assert!(
        wait_until(|| container.status().is_none()),
        "{:?}",
        container.status()
    );
    container.assert_gone();
    assert!(!output(&container).exists());
    let leftovers: Vec<String> = names(site.path())
        .into_iter()
        .filter(|name| name.contains("learnt"))
        .collect();
    assert_eq!(leftovers, [""; 0]);
    assert_eq!(instances(&container.id), [""; 0]);
}

/// Instances of the kernel's trace that are for this container.
fn instances(id: &str) -> Vec<String> {
    let Ok(mount) = gabion_sys::mount::detached(c"tracefs", &[], &[], 0) else {
        println!("SKIPPED: instances of tracefs, as there is none");
        return Vec::new();
    };
    let path = PathBuf::from(format!("/proc/self/fd/{}/instances", mount.as_raw_fd()));
    names(&path)
        .into_iter()
        .filter(|name| name.contains(id))
        .collect()
}

#[test]
fn a_program_that_cannot_start_teaches_nothing() {
    let site = Site::new();
    let mut container = site.container();
    container.config["process"]["args"] = json!(["/bin/nothing"]);
    assert_eq!(learn(&container, &[]).status, 1);
    assert!(site.last_error().contains("nothing"), "{}", site.last_error());
    // Found, and then not executable.
    fs::write(container.rootfs().join("bin/text"), "no program").unwrap();
    Command::new("chmod")
        .arg("755")
        .arg(container.rootfs().join("bin/text"))
        .status()
        .unwrap();
    container.config["process"]["args"] = json!(["/bin/text"]);
    assert_eq!(learn(&container, &[]).status, 1);
    assert!(site.last_error().contains("/bin/text"), "{}", site.last_error());
    // Ended on its way to the program, before any filter.
    site.write_policy("[[allow.hooks]]\npoint = \"startContainer\"\npath = \"/bin/false\"\n");
    container.script("true");
    container.config["hooks"] = json!({"startContainer": [{"path": "/bin/false"}]});
    assert_eq!(learn(&container, &[]).status, 1);
    assert!(
        site.last_error().contains("startContainer"),
        "{}",
        site.last_error()
    );
    assert!(!container.ran());
    container.assert_gone();
    assert!(!output(&container).exists());
    assert_eq!(instances(&container.id), [""; 0]);
}

#[test]
fn where_nothing_can_be_written_nothing_runs() {
    let site = Site::new();
    let mut container = site.container();
    container.script("true");
    container.write();
    for place in ["none/web", "policy.toml/web"] {
        let mut command = container.command();
        command.arg("learn").arg("--bundle").arg(&container.bundle);
        command
            .arg("--output")
            .arg(site.path().join(place))
            .arg(&container.id);
        assert_eq!(run(&mut command, site.path()).status, 1, "{place}");
        assert!(
            site.last_error().contains(place.split('/').next().unwrap()),
            "{}",
            site.last_error()
        );
    }
    fs::create_dir(output(&container)).unwrap();
    fs::write(output(&container).join("notes"), "mine").unwrap();
    assert_eq!(learn(&container, &["--merge"]).status, 1);
    assert!(
        site.last_error().contains("has \"notes\" in it"),
        "{}",
        site.last_error()
    );
    assert!(!container.ran());
    assert_eq!(names(&output(&container)), ["notes"]);
}

#[test]
fn without_a_profile_there_is_nothing_to_learn_a_part_of() {
    let site = Site::new();
    let mut container = site.container();
    container.arguments = vec!["--profile".into(), "privileged".into()];
    let answer = learn(&container, &["--profile", "privileged"]);
    assert_eq!(answer.status, 1);
    assert!(
        site.last_error()
            .contains("has no seccomp profile, and none was filled in"),
        "{}",
        site.last_error()
    );
    assert!(!container.ran());
    let mut listening = site.container();
    listening.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "listenerPath": "/nowhere",
        "syscalls": [{"names": ["chmod"], "action": "SCMP_ACT_NOTIFY"}]
    });
    assert_eq!(learn(&listening, &[]).status, 1);
    assert!(!listening.ran());
}

#[test]
fn an_engines_own_filter_is_narrowed_and_values_of_arguments_are_kept() {
    let site = Site::new();
    let mut container = site.container();
    container.config["linux"]["seccomp"] = engines_profile(&site);
    container.script("busybox stty -F /dev/ptmx; touch /tmp/x; true");
    learn(&container, &["--arguments"]).ok();
    let learnt = json(&container, "seccomp.json");
    let ioctl: Vec<&Value> = learnt["syscalls"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|rule| {
            rule["names"].as_array().unwrap().contains(&json!("ioctl")) && rule["action"] == "SCMP_ACT_ALLOW"
        })
        .collect();
    assert!(
        !ioctl.is_empty() && ioctl.iter().all(|rule| rule["args"][0]["index"] == 1),
        "{ioctl:?}"
    );
    let test = |request: &str| {
        let file = output(&container).join("docker.json");
        let file = file.to_str().unwrap();
        site.gabion(&["seccomp", "test", "--filter", file, "ioctl", "_", request])
            .status
    };
    assert_eq!((test("TCGETS"), test("TIOCSTI")), (0, 2));
}

/// A list of calls without conditions, as engines' profiles mostly are.
fn engines_profile(site: &Site) -> Value {
    let shown = site.gabion(&["seccomp", "show"]).ok().stdout;
    let (_, rest) = shown.split_once("\nAllowed (").unwrap();
    let (list, _) = rest.split_once("\n\n").unwrap();
    let mut names: Vec<String> = list
        .split_once('\n')
        .unwrap()
        .1
        .split(',')
        .map(|name| name.trim().to_owned())
        .collect();
    names.extend(["ioctl", "clone", "socket"].map(str::to_owned));
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            {"names": names, "action": "SCMP_ACT_ALLOW"},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
        ]
    })
}
