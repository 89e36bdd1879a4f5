//! `update` and `events`: limits of a container that exists, and what it uses.

#![allow(clippy::unwrap_used, clippy::panic)] // a test file

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use gabion_integration::{Answer, Container, Site, finish, run, skip};
use serde_json::{Value, json};

/// Where a file of the container's cgroups is; `None` where this host has no such controller.
fn file(container: &Container<'_>, names: &[&str]) -> Option<PathBuf> {
    gabion_integration::cgroups(&container.id)
        .iter()
        .flat_map(|cgroup| names.iter().map(move |name| cgroup.join(name)))
        .find(|path| path.exists())
}

fn value(path: &Path) -> String {
    fs::read_to_string(path).unwrap().trim().to_owned()
}

fn running(site: &Site) -> Container<'_> {
    let mut container = site.container();
    container.script("sleep 1000");
    container.create().ok();
    container.start().ok();
    container
}

fn update(container: &Container<'_>, arguments: &[&str]) -> Answer {
    container
        .site
        .gabion(&[&["update", container.id.as_str()], arguments].concat())
}

/// `update -r -`, with this on standard input.
fn update_with(container: &Container<'_>, resources: &Value) -> i32 {
    let mut command = container.site.command();
    command.args(["update", "--resources=-", &container.id]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(resources.to_string().as_bytes()).unwrap();
    drop(input);
    finish(&mut child, "update")
}

#[test]
fn every_limit_that_is_updated_is_the_kernels() {
    let site = Site::new();
    let container = running(&site);
    // Flags, names of files, and what they then hold: of the first that is there.
    let cases: [(&[&str], &[&str], &[&str]); 8] = [
        (&["--pids-limit", "7"], &["pids.max"], &["7"]),
        (
            &["--memory", "64M"],
            &["memory.limit_in_bytes", "memory.max"],
            &["67108864"],
        ),
        (
            &["--memory-reservation=32M"],
            &["memory.soft_limit_in_bytes", "memory.low"],
            &["33554432"],
        ),
        (
            &["--cpu-quota", "50000", "--cpu-period", "200000"],
            &["cpu.cfs_quota_us", "cpu.max"],
            &["50000", "50000 200000"],
        ),
        (
            &["--cpu-share", "512"],
            &["cpu.shares", "cpu.weight"],
            &["512", "59"],
        ),
        (&["--cpu-idle", "1"], &["cpu.idle"], &["1"]),
        (&["--cpuset-cpus", "0"], &["cpuset.cpus"], &["0"]),
        (&["--cpuset-mems", "0"], &["cpuset.mems"], &["0"]),
    ];
    for (flags, names, expected) in cases {
        let Some(path) = file(&container, names) else {
            let answer = update(&container, flags);
            assert_eq!(answer.status, 1, "{flags:?}");
            assert!(
                site.last_error()
                    .contains("cannot be set: the container's cgroup has no"),
                "{}",
                site.last_error()
            );
            continue;
        };
        update(&container, flags).ok();
        assert!(
            expected.contains(&value(&path).as_str()),
            "{flags:?}: {}",
            value(&path)
        );
    }
    // What was remembered is what the container is held against.
    site.gabion(&["verify", &container.id]).ok();
}

#[test]
fn resources_on_standard_input_are_taken_as_engines_send_them() {
    let site = Site::new();
    let container = running(&site);
    let Some(pids) = file(&container, &["pids.max"]) else {
        return skip("no controller of cgroup version 1 or 2 limits processes here");
    };
    // Docker's form: what is not changed is zero, empty or null.
    let resources = json!({"memory": {"limit": 0, "swap": 0}, "cpu": {"shares": 0, "cpus": "", "mems": ""},
        "pids": {"limit": 9}, "blockIO": {"weight": 0}, "hugepageLimits": null});
    assert_eq!(update_with(&container, &resources), 0);
    assert_eq!(value(&pids), "9");
    // Kubernetes' form: all that the container was made with, and new limits in it.
    let mut resources = container.config["linux"]["resources"].clone();
    resources["pids"] = json!({"limit": 11});
    assert_eq!(update_with(&container, &resources), 0);
    assert_eq!(value(&pids), "11");
    assert_eq!(
        update_with(&container, &json!({"CPU": {}, "Pids": {"Limit": 12}})),
        0
    );
    assert_eq!(value(&pids), "12");
    let device = json!({"devices": [{"allow": true, "type": "b", "major": 8, "minor": 0, "access": "rwm"}]});
    assert_eq!(update_with(&container, &device), 1);
    assert_eq!(update_with(&container, &json!([])), 1);
    assert_eq!(value(&pids), "12");
}

#[test]
fn of_limits_of_which_one_cannot_be_none_is_changed() {
    let site = Site::new();
    let container = running(&site);
    let Some(pids) = file(&container, &["pids.max"]) else {
        return skip("no controller of cgroup version 1 or 2 limits processes here");
    };
    update(&container, &["--pids-limit", "20"]).ok();
    // Bandwidth is written before processes, CPUs and memory; a period of 1 is none.
    for bad in [["--cpu-period", "1"], ["--cpuset-cpus", "9999"]] {
        let answer = update(
            &container,
            &[&["--pids-limit", "30", "--memory", "64M"], &bad[..]].concat(),
        );
        assert_eq!(answer.status, 1, "{bad:?}");
    }
    assert_eq!(value(&pids), "20");
    if let Some(memory) = file(&container, &["memory.limit_in_bytes"]) {
        assert_ne!(value(&memory), "67108864");
    }
    assert_eq!(update(&container, &["--memory", "lots"]).status, 1);
    assert_eq!(
        site.last_error(),
        "invalid value for memory: \"lots\" is not a size, such as 512M"
    );
    site.gabion(&["verify", &container.id]).ok();
}

#[test]
fn an_update_that_takes_a_limit_away_is_refused_where_the_profile_says_so() {
    let site = Site::new();
    let mut container = site.container();
    container.config["linux"]["resources"]["pids"] = json!({"limit": 20});
    container.script("sleep 1000");
    let created = container.create();
    if created.status != 0 {
        return skip("no controller of cgroup version 1 or 2 limits processes here");
    }
    container.start().ok();
    let answer = site.gabion(&[
        "--profile",
        "restricted",
        "update",
        "--pids-limit",
        "-1",
        &container.id,
    ]);
    assert_eq!(answer.status, 1);
    assert!(site.last_error().contains("OPS-02:pids"), "{}", site.last_error());
    assert_eq!(value(&file(&container, &["pids.max"]).unwrap()), "20");
    let last = site.decisions().pop().unwrap();
    assert_eq!(
        (&last["operation"], &last["verdict"]),
        (&json!("update"), &json!("refused"))
    );
    update(&container, &["--pids-limit", "10"]).ok();
    let last = site.decisions().pop().unwrap();
    assert_eq!(
        (&last["operation"], &last["verdict"]),
        (&json!("update"), &json!("done"))
    );
}

#[test]
fn a_stopped_container_is_not_updated_and_has_no_events() {
    let site = Site::new();
    let container = running(&site);
    container.kill("KILL").ok();
    container.wait_until_stopped();
    assert_eq!(update(&container, &["--pids-limit", "10"]).status, 1);
    assert!(
        site.last_error().contains("container not running"),
        "{}",
        site.last_error()
    );
    assert_eq!(site.gabion(&["events", "--stats", &container.id]).status, 1);
    assert_eq!(
        site.last_error(),
        format!("container with id {} is not running", container.id)
    );
    assert_eq!(site.gabion(&["events", "--stats", "nobody"]).status, 1);
    assert!(site.last_error().contains("container does not exist"));
}

#[test]
fn statistics_are_printed_once_and_at_every_interval_until_the_container_ends() {
    let site = Site::new();
    let container = running(&site);
    let once: Value =
        serde_json::from_str(&site.gabion(&["events", "--stats", &container.id]).ok().stdout).unwrap();
    assert_eq!(
        (&once["type"], &once["id"]),
        (&json!("stats"), &json!(container.id))
    );
    if file(&container, &["pids.current"]).is_some() {
        assert!(once["data"]["pids"]["current"].as_u64().unwrap() >= 1, "{once}");
    }
    let mut command = site.command();
    command.args(["events", "--interval", "20ms", &container.id]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(line["type"], "stats");
    }
    container.kill("KILL").ok();
    assert_eq!(finish(&mut child, "events"), 0);
    assert_eq!(
        site.gabion(&["events", "--interval", "0s", &container.id]).status,
        1
    );
    assert_eq!(site.last_error(), "duration interval must be greater than 0");
}

#[test]
fn a_process_that_the_kernel_ends_for_want_of_memory_is_told() {
    let site = Site::new();
    let mut container = site.container();
    container.config["linux"]["resources"]["memory"] = json!({"limit": 33_554_432, "swap": 33_554_432});
    container.script("sleep 1000");
    if container.create().status != 0 {
        return skip("no controller of cgroup version 1 or 2 limits memory here");
    }
    container.start().ok();
    let mut command = site.command();
    command.args(["events", "--interval", "50ms", &container.id]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // It watches by then.
    lines.next().unwrap().unwrap();
    let hog = "x=$(cat /dev/zero | tr '\\0' x | head -c 100000000)";
    let mut exec = site.command();
    exec.args(["exec", &container.id, "/bin/busybox", "sh", "-c", hog]);
    assert_ne!(run(&mut exec, site.path()).status, 0);
    let oom = format!(r#"{{"type":"oom","id":"{}"}}"#, container.id);
    let told = lines.by_ref().take(600).any(|line| line.unwrap() == oom);
    container.kill("KILL").ok();
    assert_eq!(finish(&mut child, "events"), 0);
    assert!(told);
}

#[test]
fn cgroups_below_the_containers_are_counted_stopped_and_removed() {
    let site = Site::new();
    let container = running(&site);
    let tops = gabion_integration::cgroups(&container.id);
    for top in &tops {
        fs::create_dir_all(top.join("below/deeper")).unwrap();
        fs::write(top.join("below/deeper/cgroup.procs"), container.pid().to_string()).unwrap_or(());
    }
    let pids: Vec<i32> = serde_json::from_str(
        &site
            .gabion(&["ps", "--format", "json", &container.id])
            .ok()
            .stdout,
    )
    .unwrap();
    assert!(pids.contains(&container.pid()), "{pids:?}");
    let table = site.gabion(&["ps", &container.id, "-e", "-x"]).ok().stdout;
    assert!(table.lines().next().unwrap().contains("PID"), "{table}");
    site.gabion(&["pause", &container.id]).ok();
    assert_eq!(container.status().as_deref(), Some("paused"));
    site.gabion(&["resume", &container.id]).ok();
    // A further process is let in although the first has moved.
    site.gabion(&["exec", &container.id, "/bin/true"]).ok();
    site.gabion(&["kill", "--all", &container.id, "KILL"]).ok();
    container.wait_until_stopped();
    container.delete().ok();
    for top in tops {
        assert!(!top.exists(), "{top:?}");
    }
}

#[test]
fn a_further_process_begins_in_the_cgroup_that_its_caller_names() {
    let site = Site::new();
    let container = running(&site);
    let exec = |arguments: &[&str]| {
        let mut command = site.command();
        command.arg("exec").args(arguments);
        command.args([container.id.as_str(), "/bin/cat", "/proc/self/cgroup"]);
        run(&mut command, site.path())
    };
    for (place, words) in [
        ("..", "bad sub cgroup path"),
        ("nonexistent", "no such file or directory"),
        ("whaaat:/", "unknown controller \"whaaat\""),
    ] {
        let answer = exec(&["--cgroup", place]);
        assert_eq!(answer.status, 255, "{place}");
        assert!(answer.stderr.contains(words), "{}", answer.stderr);
        assert!(site.last_error().contains(words));
    }
    let own = exec(&["--cgroup", "/"]).ok().stdout;
    assert_eq!(own, exec(&[]).ok().stdout);
    for top in gabion_integration::cgroups(&container.id) {
        fs::create_dir_all(top.join("below")).unwrap();
        for list in ["cpuset.cpus", "cpuset.mems"] {
            if top.join(list).exists() && top.join("cpuset.effective_cpus").exists() {
                fs::write(top.join("below").join(list), value(&top.join(list))).unwrap();
            }
        }
    }
    let below = exec(&["--cgroup", "below"]).ok().stdout;
    assert_ne!(own, below);
    assert!(below.lines().any(|line| line.ends_with("/below")), "{below}");
}

/// The kernel takes one line each time.
#[test]
fn limits_of_several_devices_are_lines_of_one_value() {
    let site = Site::new();
    // RES-04: a value of one line, elsewhere.
    site.write_policy("profile = \"privileged\"");
    let mut container = site.container();
    container.script("sleep 1000");
    container.create().ok();
    if file(&container, &["io.max"]).is_none() {
        return skip("version 2 has no controller of block devices here");
    }
    container.start().ok();
    let disks: Vec<String> = fs::read_dir("/sys/block")
        .unwrap()
        .map(|entry| value(&entry.unwrap().path().join("dev")))
        .take(2)
        .collect();
    let [first, second] = &disks[..] else {
        return skip("this host has not got two disks");
    };
    let lines = |rate: u32| format!("{first} riops={rate} wiops=444\n{second} riops=555 wiops={rate}\n");
    let holds = |container: &Container<'_>, rate: u32| {
        let text = value(&file(container, &["io.max"]).unwrap());
        let wanted = [
            format!("{first} rbps=max wbps=max riops={rate} wiops=444"),
            format!("{second} rbps=max wbps=max riops=555 wiops={rate}"),
        ];
        wanted.iter().all(|line| text.lines().any(|found| found == line))
    };
    assert_eq!(
        update_with(&container, &json!({"unified": {"io.max": lines(222)}})),
        0
    );
    assert!(holds(&container, 222));
    let mut container = site.container();
    container.script("sleep 1000");
    container.config["linux"]["resources"]["unified"] = json!({"io.max": lines(333)});
    container.create().ok();
    assert!(holds(&container, 333));
}

/// config-linux.md, "Cgroup ownership"
#[test]
fn a_cgroup_that_a_container_may_write_to_is_its_users_and_its_limits_are_not() {
    let site = Site::new();
    for (options, owner) in [
        (json!(["nosuid", "nodev", "noexec"]), 4321),
        (json!(["nosuid", "ro"]), 0),
    ] {
        let mut container = site.container();
        container.config["process"]["user"] = json!({"uid": 4321, "gid": 0});
        gabion_integration::edit_array(&mut container.config, "/mounts", |mounts| {
            mounts.retain(|mount| mount["destination"] != "/sys/fs/cgroup");
            mounts.push(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options}));
        });
        gabion_integration::edit_array(&mut container.config, "/linux/namespaces", |list| {
            list.retain(|entry| entry["type"] != "cgroup");
            list.push(json!({"type": "cgroup"}));
        });
        container
            .script("mkdir /sys/fs/cgroup/below && echo made; echo 9 > /sys/fs/cgroup/pids.max; sleep 1000");
        container
            .arguments
            .extend(["--profile".into(), "privileged".into()]);
        container.create().ok();
        let Some(file) = file(&container, &["cgroup.subtree_control"])
            .filter(|_| !Path::new("/sys/fs/cgroup/unified").exists())
        else {
            return skip("there is no cgroup version 2, or version 1 beside it");
        };
        let top = file.parent().unwrap();
        let owner_of = |name: &str| fs::metadata(top.join(name)).unwrap().uid();
        for name in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
            assert_eq!(owner_of(name), owner, "{name}");
        }
        for name in ["cgroup.freeze", "cgroup.max.depth", "cgroup.kill"] {
            assert_eq!(owner_of(name), 0, "{name}");
        }
        container.start().ok();
        let below = || top.join("below").is_dir();
        if owner == 0 {
            site.gabion(&["exec", &container.id, "/bin/true"]).ok();
            assert!(!below());
        } else {
            assert!(gabion_integration::wait_until(below));
        }
        site.gabion(&["delete", "--force", &container.id]).ok();
        assert!(!top.exists());
    }
}

/// Only where version 2 has a controller that is not taken by version 1.
#[test]
fn where_the_containers_cgroup_is_closed_a_further_process_goes_to_the_first_one() {
    let site = Site::new();
    let container = running(&site);
    let tops = gabion_integration::cgroups(&container.id);
    let Some(top) = tops.iter().find(|top| top.join("cgroup.controllers").exists()) else {
        return skip("there is no cgroup version 2");
    };
    let controllers = value(&top.join("cgroup.controllers"));
    // Of a cgroup that hands down a controller, the processes are below.
    let Some(controller) = controllers.split(' ').find(|name| !name.is_empty()) else {
        return skip("version 2 has no controller here that could be handed down");
    };
    fs::create_dir(top.join("below")).unwrap();
    fs::write(top.join("below/cgroup.procs"), container.pid().to_string()).unwrap();
    if fs::write(top.join("cgroup.subtree_control"), format!("+{controller}")).is_err() {
        return skip("a controller of version 2 cannot be handed down here");
    }
    site.gabion(&["exec", &container.id, "/bin/true"]).ok();
    let answer = site.gabion(&["exec", "--cgroup", "/", &container.id, "/bin/true"]);
    assert_eq!(answer.status, 255);
    assert!(answer.stderr.is_empty() || answer.stderr.contains("resource busy"));
    assert!(
        site.last_error().contains(" adding pid "),
        "{}",
        site.last_error()
    );
    assert!(
        site.last_error().contains("device or resource busy"),
        "{}",
        site.last_error()
    );
}

#[test]
fn a_descriptor_that_is_not_there_cannot_be_handed_on() {
    let site = Site::new();
    let mut container = site.container();
    container.script("true");
    container.arguments = vec!["--preserve-fds=90".into()];
    assert_eq!(container.run().status, 1);
    assert!(
        site.last_error().starts_with("please check that preserved-fd"),
        "{}",
        site.last_error()
    );
    assert!(!container.ran());
}

#[test]
fn words_that_callers_know_come_first() {
    let site = Site::new();
    let container = running(&site);
    let error = |arguments: &[&str]| {
        assert_ne!(site.gabion(arguments).status, 0, "{arguments:?}");
        site.last_error()
    };
    let id = container.id.as_str();
    assert!(error(&["start", id]).contains("cannot start an already running container"));
    assert!(error(&["resume", id]).starts_with("container not paused"));
    assert!(error(&["delete", id]).contains(&format!("cannot delete container {id} that is not stopped: ")));
    assert!(error(&["kill", id, "NOPE"]).contains("unknown signal \"NOPE\""));
    assert_eq!(error(&["frobnicate", "-h"]), "No help topic for 'frobnicate'");
    container.kill("KILL").ok();
    container.wait_until_stopped();
    assert!(error(&["kill", id, "9"]).starts_with("container not running"));
    assert!(error(&["pause", id]).starts_with("container not running"));
    assert!(error(&["exec", id, "true"]).contains("cannot exec in a stopped container"));
    assert!(error(&["start", id]).contains("cannot start a container that has stopped"));
    // What is left of it can still be asked for.
    let list = site.gabion(&["list", "--format", "json"]).ok().stdout;
    assert!(list.starts_with("[{\"ociVersion\":"), "{list}");
    assert_eq!(site.gabion(&["ps", "--format", "json", id]).ok().stdout, "[]\n");
    assert!(site.gabion(&["ps", id]).ok().stdout.contains("PID"));
}

#[test]
fn the_runtimes_help_names_every_command() {
    let help = Command::new(gabion_integration::gabion())
        .arg("--help")
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for command in [
        "create", "start", "run", "exec", "state", "kill", "delete", "list", "ps", "pause", "resume",
        "update", "events", "spec", "features",
    ] {
        assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
    }
}
