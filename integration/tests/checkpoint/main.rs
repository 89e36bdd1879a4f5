//! `gabion checkpoint` and `gabion restore`: with CRIU where it works (the virtual machine), and what is to be seen of
//! them without it, or with one that fails.

#![allow(clippy::unwrap_used, clippy::panic)] // a test file, its functions beside the tests included

mod flags;

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::time::Duration;

use gabion_integration::{Answer, Container, Site, edit_array, finish, run, run_within, skip, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// True if CRIU is here and can do its work.
fn has_criu() -> bool {
    let here =
        Path::new("/usr/sbin/criu").exists() && Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    if !here {
        skip("there is no CRIU, or no cgroup version 2: integration/vm has both");
        return false;
    }
    // Once after boot CRIU finds out what the kernel can, which takes half a minute on an emulated processor.
    static ASKED: Once = Once::new();
    ASKED.call_once(|| {
        let output = Command::new("/usr/sbin/criu").arg("check").output().unwrap();
        assert!(output.status.success(), "{output:#?}");
    });
    true
}

/// A program that counts on, in memory, and tells where it is.
const COUNT: &str =
    "i=0; while :; do i=$((i+1)); echo $i > /tmp/count.new; mv /tmp/count.new /tmp/count; sleep 0.05; done";

fn counting(site: &Site) -> Container<'_> {
    let mut container = site.container();
    fs::copy(
        container.rootfs().join("bin/busybox"),
        container.rootfs().join("bin/mv"),
    )
    .unwrap();
    container.script(COUNT);
    container
}

fn begin(container: &Container<'_>) {
    container.create().ok();
    container.start().ok();
    wait_beyond(container, 2);
}

fn count(container: &Container<'_>) -> u64 {
    container.file("tmp/count").trim().parse().unwrap_or(0)
}

#[track_caller]
fn wait_beyond(container: &Container<'_>, number: u64) {
    assert!(
        wait_until(|| count(container) > number),
        "it stands at {}, and not above {number}",
        count(container)
    );
}

fn images(container: &Container<'_>) -> PathBuf {
    container.site.path().join(format!("images-{}", container.id))
}

fn checkpoint(container: &Container<'_>, arguments: &[&str]) -> Answer {
    let mut command = container.command();
    command
        .arg("checkpoint")
        .arg("--image-path")
        .arg(images(container));
    command.args(arguments).arg(&container.id);
    patiently(&mut command, container.site)
}

/// CRIU asks the kernel for a great deal, which takes its time where the processor is emulated.
fn patiently(command: &mut Command, site: &Site) -> Answer {
    run_within(Duration::from_secs(180), command, site.path())
}

fn restoring(container: &Container<'_>, arguments: &[&str]) -> Command {
    container.write();
    let mut command = container.command();
    command.arg("restore").arg("--image-path").arg(images(container));
    command.arg("--bundle").arg(&container.bundle);
    command.arg("--pid-file").arg(container.pid_file());
    command.args(arguments).arg(&container.id);
    command
}

fn restore(container: &Container<'_>, arguments: &[&str]) -> Answer {
    let mut command = restoring(container, &["--detach"]);
    command.args(arguments);
    patiently(&mut command, container.site)
}

/// A line that the ledger has of a container.
fn recorded(site: &Site, operation: &str, verdict: &str) -> bool {
    let text = fs::read_to_string(site.ledger()).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .any(|record| record["operation"] == operation && record["verdict"] == verdict)
}

/// The restore fails with these words, and nothing of the container is there or goes on.
#[track_caller]
fn assert_not_restored(container: &Container<'_>, arguments: &[&str], words: &str) {
    let stood = count(container);
    let answer = restore(container, arguments);
    assert_eq!(answer.status, 1, "{answer:#?}");
    assert!(answer.stderr.contains(words), "{answer:#?}");
    assert_eq!(container.status(), None);
    container.assert_gone();
    assert_eq!(count(container), stood, "it ran on");
}

#[test]
fn a_container_goes_on_where_it_was() {
    if !has_criu() {
        return;
    }
    let site = Site::new();
    let container = counting(&site);
    begin(&container);
    checkpoint(&container, &[]).ok();
    assert_eq!(container.status(), None);
    container.assert_gone();
    let stood = count(&container);
    let mode = fs::metadata(images(&container)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);

    restore(&container, &[]).ok();
    wait_beyond(&container, stood);
    assert_eq!(container.status().unwrap(), "running");
    let answer = site.gabion(&["verify", &container.id]).ok();
    assert!(answer.stdout.contains("as it was judged"), "{answer:#?}");
    let answer = site.gabion(&["exec", &container.id, "/bin/cat", "/tmp/ran"]).ok();
    assert_eq!(answer.stdout, "ran\n");
    for (operation, verdict) in [
        ("checkpoint", "done"),
        ("restore", "admitted"),
        ("restore", "started"),
    ] {
        assert!(recorded(&site, operation, verdict), "{operation} {verdict}");
    }
    // And once more: nothing of the first round is in the way.
    fs::remove_dir_all(images(&container)).unwrap();
    checkpoint(&container, &[]).ok();
    restore(&container, &[]).ok();
    wait_beyond(&container, count(&container));
}

#[test]
fn a_root_that_is_not_for_writing_is_so_again() {
    if !has_criu() {
        return;
    }
    let site = Site::new();
    let mut container = site.container();
    container.config["root"]["readonly"] = json!(true);
    edit_array(&mut container.config, "/mounts", |mounts| {
        mounts.push(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}));
    });
    container.script("echo kept > /tmp/word; while :; do sleep 0.1; done");
    container.create().ok();
    container.start().ok();
    for _ in 0..2 {
        checkpoint(&container, &[]).ok();
        restore(&container, &[]).ok();
        fs::remove_dir_all(images(&container)).unwrap();
        site.gabion(&["verify", &container.id]).ok();
        let answer = site.gabion(&["exec", &container.id, "/bin/sh", "-c", "cat /tmp/word; echo > /x"]);
        assert_eq!(
            (answer.status, answer.stdout.as_str()),
            (1, "kept\n"),
            "{answer:?}"
        );
        assert!(!container.rootfs().join("x").exists());
    }
}

#[test]
fn a_container_may_run_on_and_a_second_one_is_made_of_it() {
    if !has_criu() {
        return;
    }
    let site = Site::new();
    let container = counting(&site);
    begin(&container);
    checkpoint(&container, &["--leave-running"]).ok();
    assert_eq!(container.status().unwrap(), "running");
    wait_beyond(&container, count(&container));
    let answer = restore(&container, &[]);
    assert!(
        answer.stderr.contains("container with given ID already exists"),
        "{answer:#?}"
    );
    // The list is gabion's, and what is not one cannot be restored.
    container.delete();
    container.kill("KILL").ok();
    container.wait_until_stopped();
    let answer = checkpoint(&container, &[]);
    assert!(
        answer
            .stderr
            .contains("cannot checkpoint a container in the stopped state"),
        "{answer:#?}"
    );
    container.delete().ok();
    let stood = count(&container);
    restore(&container, &[]).ok();
    wait_beyond(&container, stood);
}

#[test]
fn a_paused_container_is_checkpointed_and_stays_paused() {
    if !has_criu() {
        return;
    }
    let site = Site::new();
    let container = counting(&site);
    begin(&container);
    site.gabion(&["pause", &container.id]).ok();
    checkpoint(&container, &["--leave-running"]).ok();
    assert_eq!(container.status().unwrap(), "paused");
    site.gabion(&["resume", &container.id]).ok();
    wait_beyond(&container, count(&container));
}

#[test]
fn memory_can_be_written_beforehand() {
    if !has_criu() {
        return;
    }
    let site = Site::new();
    let container = counting(&site);
    begin(&container);
    let before = site.path().join("before");
    let mut command = container.command();
    command
        .args(["checkpoint", "--pre-dump", "--image-path"])
        .arg(&before);
    patiently(command.arg(&container.id), &site).ok();
    assert_eq!(container.status().unwrap(), "running");
    wait_beyond(&container, count(&container));
    let answer = checkpoint(&container, &["--parent-path", "../not"]);
    assert!(
        answer
            .stderr
            .contains("holds no images of a checkpoint --pre-dump"),
        "{answer:#?}"
    );
    checkpoint(&container, &["--parent-path", "../before"]).ok();
    assert!(images(&container).join("parent").is_symlink());
    site.write_policy("[rules]\n\"OPS-03\" = \"deny\"");
    // What it builds on counts as much as what is in the directory.
    let pages = before.join("pages-1.img");
    let bytes = fs::read(&pages).unwrap();
    let mut changed = bytes.clone();
    changed[0] ^= 1;
    fs::write(&pages, changed).unwrap();
    assert_not_restored(&container, &[], "OPS-03:foreign");
    fs::write(&pages, bytes).unwrap();
    let stood = count(&container);
    restore(&container, &[]).ok();
    wait_beyond(&container, stood);
}

#[test]
fn streams_lead_to_the_caller_again_and_its_status_comes_back() {
    if !has_criu() {
        return;
    }
    let site = Site::new();
    let mut container = site.container();
    container.script(
        "i=0; until [ -e /tmp/end ]; do i=$((i+1)); echo $i; echo $i > /tmp/count; sleep 0.05; done; exit 7",
    );
    container.write();
    let mut first = container.building("run");
    first
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let first = first.spawn().unwrap();
    container.wait_for("tmp/ran", "ran");
    checkpoint(&container, &[]).ok();
    let output = first.wait_with_output().unwrap();
    let last: u64 = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.parse().ok())
        .next_back()
        .unwrap();

    let mut second = restoring(&container, &[]);
    second
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let second = second.spawn().unwrap();
    assert!(
        wait_until(|| container.status().as_deref() == Some("running")),
        "it does not run"
    );
    // It is said to run a moment before it is let go.
    wait_beyond(&container, last);
    fs::write(container.rootfs().join("tmp/end"), "").unwrap();
    let output = second.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{output:#?}");
    let numbers: Vec<u64> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| line.parse().unwrap())
        .collect();
    assert_eq!(numbers.first(), Some(&(last + 1)), "{numbers:?}");
    container.assert_gone();
}

#[test]
fn mounts_hooks_limits_and_filters_are_there_again() {
    if !has_criu() {
        return;
    }
    let site = Site::new();
    let mut container = counting(&site);
    let data = site.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), "of the host\n").unwrap();
    fs::write(site.path().join("hostname"), "web\n").unwrap();
    let hostname = site.path().join("hostname");
    edit_array(&mut container.config, "/mounts", |mounts| {
        mounts.push(json!({"destination": "/data", "type": "bind", "source": data,
            "options": ["rbind", "rprivate", "ro", "nosuid", "nodev"]}));
        mounts.push(
            json!({"destination": "/etc/hostname", "type": "bind", "source": hostname,
            "options": ["bind", "ro", "nosuid", "nodev"]}),
        );
        mounts.push(json!({"destination": "/run", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "nodev", "noexec", "mode=755"]}));
    });
    let seen = site.path().join("seen");
    let tell = |point: &str| {
        json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("echo {point} $(cat) >> {}", seen.display())],
            "env": ["PATH=/usr/bin:/bin"]}])
    };
    container.config["hooks"] = json!({"createRuntime": tell("createRuntime"), "poststop": tell("poststop"),
        "startContainer": []});
    container.config["linux"]["resources"]["pids"] = json!({"limit": 64});
    container.config["linux"]["resources"]["memory"] = json!({"limit": 128 << 20});
    container.script(&format!("echo kept > /run/kept; {COUNT}"));
    begin(&container);
    checkpoint(&container, &[]).ok();
    let stood = count(&container);
    fs::remove_file(&seen).unwrap();
    restore(&container, &[]).ok();
    wait_beyond(&container, stood);
    let told = fs::read_to_string(&seen).unwrap();
    assert!(
        told.starts_with("createRuntime {") && told.contains(&format!("\"id\":\"{}\"", container.id)),
        "{told}"
    );
    assert!(told.contains(&format!("\"pid\":{}", container.pid())), "{told}");
    site.gabion(&["verify", &container.id]).ok();
    let answer = site
        .gabion(&["exec", &container.id, "/bin/cat", "/run/kept", "/data/file"])
        .ok();
    assert_eq!(answer.stdout, "kept\nof the host\n");
    let status = fs::read_to_string(format!("/proc/{}/status", container.pid())).unwrap();
    assert!(
        status.contains("Seccomp:\t2") && status.contains("NoNewPrivs:\t1"),
        "{status}"
    );
    let group = &gabion_integration::cgroups(&container.id)[0];
    assert_eq!(fs::read_to_string(group.join("pids.max")).unwrap(), "64\n");
    assert_eq!(
        fs::read_to_string(group.join("memory.max")).unwrap(),
        format!("{}\n", 128 << 20)
    );
}

#[test]
fn the_places_of_mounts_in_another_ones_source_are_made_again() {
    if !has_criu() {
        return;
    }
    let site = Site::new();
    let mut container = counting(&site);
    let [outer, inner] = ["outer", "inner"].map(|name| site.path().join(name));
    for directory in [&outer, &inner] {
        fs::create_dir(directory).unwrap();
    }
    fs::write(inner.join("file"), "inner").unwrap();
    edit_array(&mut container.config, "/mounts", |mounts| {
        for (destination, source) in [("/data", &outer), ("/data/for/inner", &inner)] {
            mounts.push(
                json!({"destination": destination, "type": "bind", "source": source,
                "options": ["bind", "nosuid", "nodev"]}),
            );
        }
    });
    begin(&container);
    checkpoint(&container, &[]).ok();
    // As on another host, which has never seen the container.
    fs::remove_dir_all(outer.join("for")).unwrap();
    let stood = count(&container);
    restore(&container, &[]).ok();
    wait_beyond(&container, stood);
    let answer = site
        .gabion(&["exec", &container.id, "/bin/cat", "/data/for/inner/file"])
        .ok();
    assert_eq!(answer.stdout, "inner");
    site.gabion(&["verify", &container.id]).ok();
}

/// The image has more than the configuration grants: nobody of it runs on.
#[track_caller]
fn assert_differs(before: &dyn Fn(&mut Container<'_>), after: &dyn Fn(&mut Container<'_>), check: &str) {
    let site = Site::new();
    let mut container = counting(&site);
    before(&mut container);
    begin(&container);
    checkpoint(&container, &[]).ok();
    after(&mut container);
    assert_not_restored(&container, &[], check);
    assert!(
        recorded(&site, "restore", "mismatch"),
        "{check} is not in the ledger"
    );
}

#[test]
fn what_is_more_than_the_configuration_grants_is_killed_before_it_runs_on() {
    if !has_criu() {
        return;
    }
    let capabilities = |container: &mut Container<'_>| {
        for set in ["bounding", "effective", "permitted"] {
            edit_array(
                &mut container.config,
                &format!("/process/capabilities/{set}"),
                |list| list.retain(|name| name != "CAP_NET_RAW"),
            );
        }
    };
    assert_differs(
        &|_| {},
        &capabilities,
        "V-01: reality is not what was judged: the bounding set has NET_RAW, which was not granted; V-01: process ",
    );
    let masked = |container: &mut Container<'_>| {
        edit_array(&mut container.config, "/linux/maskedPaths", |list| {
            list.push(json!("/proc/version"))
        });
    };
    assert_differs(&|_| {}, &masked, "V-08");
}

#[test]
fn an_image_that_was_changed_is_foreign() {
    if !has_criu() {
        return;
    }
    let site = Site::new();
    site.write_policy("[rules]\n\"OPS-03\" = \"deny\"");
    let container = counting(&site);
    begin(&container);
    checkpoint(&container, &[]).ok();
    let place = images(&container);
    let file = |name: &str| place.join(name);
    // A byte of memory, a file more, a file less, a list that was made elsewhere, and none.
    let pages = fs::read(file("pages-1.img")).unwrap();
    let mut changed = pages.clone();
    changed[100] ^= 1;
    fs::write(file("pages-1.img"), changed).unwrap();
    assert_not_restored(
        &container,
        &[],
        "pages-1.img\" is not what gabion checkpoint wrote",
    );
    fs::write(file("pages-1.img"), pages).unwrap();
    fs::write(file("core-99.img"), "").unwrap();
    assert_not_restored(
        &container,
        &[],
        "core-99.img\" is not what gabion checkpoint wrote",
    );
    fs::remove_file(file("core-99.img")).unwrap();
    fs::rename(file("stats.img"), file("kept")).ok();
    let list = fs::read_to_string(file("gabion.list")).unwrap();
    fs::write(file("gabion.list"), list.replace("baseline", "baselinf")).unwrap();
    assert_not_restored(
        &container,
        &[],
        "was not written by gabion on this host, or was changed",
    );
    fs::write(file("gabion.list"), list).unwrap();
    // Under the same policy, as it was, it is one of ours.
    let stood = count(&container);
    restore(&container, &[]).ok();
    wait_beyond(&container, stood);
}

#[test]
fn a_directory_that_others_could_write_or_with_links_in_it_is_not_read() {
    let site = Site::new();
    let container = site.container();
    let place = images(&container);
    fs::create_dir(&place).unwrap();
    fs::set_permissions(&place, Permissions::from_mode(0o700)).unwrap();
    let image = |name: &str| {
        fs::write(place.join(name), "").unwrap();
        fs::set_permissions(place.join(name), Permissions::from_mode(0o600)).unwrap();
    };
    assert_not_restored(&container, &[], "holds no image of a checkpoint");
    image("inventory.img");
    let victim = site.path().join("victim");
    fs::write(&victim, "whole").unwrap();
    // CRIU would empty the file that its log leads to.
    symlink(&victim, place.join("restore.log")).unwrap();
    assert_not_restored(&container, &[], "restore.log is no file");
    fs::remove_file(place.join("restore.log")).unwrap();
    symlink(&victim, place.join("pages-1.img")).unwrap();
    assert_not_restored(&container, &[], "pages-1.img is no file");
    fs::remove_file(place.join("pages-1.img")).unwrap();
    for mode in [0o777, 0o720] {
        fs::set_permissions(&place, Permissions::from_mode(mode)).unwrap();
        assert_not_restored(&container, &[], "may be written by others");
    }
    fs::set_permissions(&place, Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(place.join("inventory.img"), Permissions::from_mode(0o666)).unwrap();
    assert_not_restored(&container, &[], "inventory.img may be written by others");
    fs::set_permissions(place.join("inventory.img"), Permissions::from_mode(0o600)).unwrap();
    nix::unistd::chown(&place, Some(nix::unistd::Uid::from_raw(1000)), None).unwrap();
    assert_not_restored(&container, &[], "belongs to another user");
    nix::unistd::chown(&place, Some(nix::unistd::Uid::from_raw(0)), None).unwrap();
    fs::remove_dir_all(&place).unwrap();
    assert_not_restored(&container, &[], "does not exist");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "whole");
}

#[test]
fn a_restore_is_judged_like_a_create() {
    let site = Site::new();
    let mut container = site.container();
    let place = images(&container);
    fs::create_dir(&place).unwrap();
    fs::set_permissions(&place, Permissions::from_mode(0o700)).unwrap();
    fs::write(place.join("inventory.img"), "").unwrap();
    edit_array(&mut container.config, "/mounts", |mounts| {
        mounts.push(json!({"destination": "/host", "type": "bind", "source": "/", "options": ["rbind"]}));
    });
    assert_not_restored(&container, &[], "gabion refused");
    assert!(recorded(&site, "restore", "refused"));
    // What is not of this host is refused by the strict profile, and its image counts.
    let plain = site.container();
    fs::rename(&place, images(&plain)).unwrap();
    let mut command = plain.command();
    plain.write();
    command.args(["--profile", "restricted", "restore", "--detach", "--image-path"]);
    command
        .arg(images(&plain))
        .arg("--bundle")
        .arg(&plain.bundle)
        .arg(&plain.id);
    let answer = run(&mut command, site.path());
    assert!(answer.stderr.contains("OPS-03:foreign"), "{answer:#?}");
    plain.assert_gone();
}

#[test]
fn flags_that_are_not_carried_out_are_refused_by_name() {
    let site = Site::new();
    let container = site.container();
    for flags in [
        &["--lazy-pages"][..],
        &["--auto-dedup"],
        &["--page-server", "127.0.0.1:9"],
        &["--status-fd", "3"],
    ] {
        let answer = checkpoint(&container, flags);
        assert!(
            answer
                .stderr
                .contains(&format!("{} is not supported: ", flags[0])),
            "{answer:#?}"
        );
    }
    for flag in ["--lazy-pages", "--auto-dedup"] {
        assert_not_restored(&container, &[flag], &format!("{flag} is not supported: "));
    }
    let answer = checkpoint(&container, &[]);
    assert!(answer.stderr.contains("container does not exist"), "{answer:#?}");
    container.write();
    container.create().ok();
    let answer = checkpoint(&container, &[]);
    assert!(
        answer
            .stderr
            .contains("cannot checkpoint a container in the created state"),
        "{answer:#?}"
    );
    assert_eq!(container.status().unwrap(), "created");
    assert!(!images(&container).exists());
}

/// Has gabion see cgroup version 2, and in the place where CRIU is looked for this script alone, or nothing.
fn with_instead_of_criu(container: &mut Container<'_>, script: Option<&str>) {
    let place = container.site.path().join("sbin");
    fs::create_dir_all(&place).unwrap();
    fs::set_permissions(&place, Permissions::from_mode(0o755)).unwrap();
    if let Some(script) = script {
        fs::write(place.join("criu"), format!("#!/bin/busybox sh\n{script}\n")).unwrap();
        fs::set_permissions(place.join("criu"), Permissions::from_mode(0o755)).unwrap();
    }
    let wrapper = "[ -e /sys/fs/cgroup/cgroup.controllers ] || mount -t cgroup2 none /sys/fs/cgroup; \
                   mount --bind \"$0\" /usr/sbin; exec \"$@\"";
    container.caller = ["unshare", "-m", "--propagation", "private", "sh", "-c", wrapper]
        .iter()
        .map(OsString::from)
        .chain([place.into_os_string()])
        .collect();
}

fn frozen(container: &Container<'_>) -> bool {
    let mut command = Command::new("sh");
    let look = format!(
        "[ -e /sys/fs/cgroup/cgroup.controllers ] || mount -t cgroup2 none /sys/fs/cgroup; \
         cat /sys/fs/cgroup/{}/cgroup.freeze",
        container.site.cgroup(&container.id)
    );
    command.args([
        "-c",
        &format!("exec unshare -m --propagation private sh -c '{look}'"),
    ]);
    run(&mut command, container.site.path()).stdout == "1\n"
}

fn begin_by_caller(container: &mut Container<'_>) {
    container.create().ok();
    let mut command = container.command();
    run(command.args(["start", &container.id]), container.site.path()).ok();
    wait_beyond(container, 2);
}

fn delete_by_caller(container: &Container<'_>) {
    let mut command = container.command();
    run(
        command.args(["delete", "--force", &container.id]),
        container.site.path(),
    )
    .ok();
}

#[test]
fn without_criu_the_package_is_named_and_nothing_is_left() {
    let site = Site::new();
    let mut container = counting(&site);
    with_instead_of_criu(&mut container, None);
    begin_by_caller(&mut container);
    let answer = checkpoint(&container, &[]);
    assert_eq!(answer.status, 1);
    assert!(
        answer.stderr.contains("CRIU is not installed") && answer.stderr.contains("in the package criu"),
        "{answer:#?}"
    );
    wait_beyond(&container, count(&container));
    assert!(!images(&container).exists());
    delete_by_caller(&container);
    fs::create_dir(images(&container)).unwrap();
    fs::set_permissions(images(&container), Permissions::from_mode(0o700)).unwrap();
    fs::write(images(&container).join("inventory.img"), "").unwrap();
    assert_not_restored(&container, &[], "CRIU is not installed");
}

#[test]
fn a_criu_that_others_could_write_is_not_run() {
    let site = Site::new();
    let mut container = counting(&site);
    with_instead_of_criu(&mut container, Some("exit 0"));
    let criu = site.path().join("sbin/criu");
    fs::set_permissions(&criu, Permissions::from_mode(0o757)).unwrap();
    begin_by_caller(&mut container);
    let answer = checkpoint(&container, &[]);
    assert!(
        answer
            .stderr
            .contains("\"/usr/sbin/criu\" may be written by others than root"),
        "{answer:#?}"
    );
    delete_by_caller(&container);
}

#[test]
fn when_criu_fails_its_words_are_told_and_nothing_is_left() {
    let site = Site::new();
    let mut container = counting(&site);
    with_instead_of_criu(
        &mut container,
        Some("echo \"Error (some.c:1): out of order\" >&2; exit 3"),
    );
    begin_by_caller(&mut container);
    let answer = checkpoint(&container, &[]);
    let words =
        "criu failed: dump: it ended without an answer (exit status 3); Error (some.c:1): out of order";
    assert!(answer.stderr.contains(words), "{answer:#?}");
    assert!(answer.stderr.contains("dump.log"), "{answer:#?}");
    wait_beyond(&container, count(&container));
    delete_by_caller(&container);
    fs::write(images(&container).join("inventory.img"), "").unwrap();
    fs::set_permissions(
        images(&container).join("inventory.img"),
        Permissions::from_mode(0o600),
    )
    .unwrap();
    let words =
        "criu failed: restore: it ended without an answer (exit status 3); Error (some.c:1): out of order";
    assert_not_restored(&container, &[], words);
    assert!(recorded(&site, "restore", "failed"));
}

/// The process of the script that stands in CRIU's place, once it says that it is there.
fn stand_in(place: &Path) -> Pid {
    let pid = place.join("pid");
    let read = || fs::read_to_string(&pid).ok()?.trim().parse::<i32>().ok();
    assert!(wait_until(|| read().is_some()), "CRIU was not started");
    Pid::from_raw(read().unwrap())
}

fn killed(mut child: Child) {
    child.kill().unwrap();
    finish(&mut child, "gabion");
}

#[test]
fn a_checkpoint_that_is_killed_does_not_leave_the_container_frozen() {
    let site = Site::new();
    let mut container = counting(&site);
    let script = format!(
        "echo 1 > /sys/fs/cgroup/{}/cgroup.freeze; echo $$ > {}/pid; exec sleep 1000",
        site.cgroup(&container.id),
        site.path().display()
    );
    with_instead_of_criu(&mut container, Some(&script));
    begin_by_caller(&mut container);
    let mut command = container.command();
    command
        .arg("checkpoint")
        .arg("--image-path")
        .arg(images(&container))
        .arg(&container.id);
    let child = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let criu = stand_in(site.path());
    assert!(frozen(&container));
    killed(child);
    kill(criu, Signal::SIGKILL).unwrap();
    assert!(wait_until(|| !frozen(&container)), "it stays frozen");
    wait_beyond(&container, count(&container));
    delete_by_caller(&container);
}

#[test]
fn of_a_restore_that_is_killed_nobody_runs_and_what_is_left_can_be_deleted() {
    let site = Site::new();
    let mut container = counting(&site);
    // In its cgroup by then, as what it would restore.
    let script = format!(
        "sleep 1001 & echo $! > {0}/child; echo $$ > {0}/pid; wait",
        site.path().display()
    );
    with_instead_of_criu(&mut container, Some(&script));
    fs::create_dir(images(&container)).unwrap();
    fs::set_permissions(images(&container), Permissions::from_mode(0o700)).unwrap();
    fs::write(images(&container).join("inventory.img"), "").unwrap();
    let mut command = restoring(&container, &["--detach"]);
    let child = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let criu = stand_in(site.path());
    killed(child);
    assert!(
        wait_until(|| !gabion_integration::is_alive(criu.as_raw())),
        "what was being restored goes on"
    );
    let further: i32 = fs::read_to_string(site.path().join("child"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(wait_until(|| !gabion_integration::is_alive(further)));
    assert_eq!(container.status().unwrap(), "stopped");
    delete_by_caller(&container);
    container.assert_gone();
}

#[test]
fn an_image_that_criu_cannot_read_leaves_nothing() {
    if !has_criu() {
        return;
    }
    let site = Site::new();
    let container = counting(&site);
    begin(&container);
    checkpoint(&container, &[]).ok();
    for name in ["inventory.img", "pstree.img"] {
        let path = images(&container).join(name);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert_not_restored(&container, &[], "criu failed: restore");
        fs::write(&path, bytes).unwrap();
    }
    let answer = restore(&container, &["--manage-cgroups-mode", "sideways"]);
    assert!(answer.stderr.contains("sideways"), "{answer:#?}");
    restore(&container, &[]).ok();
    wait_beyond(&container, count(&container));
}

#[test]
fn a_container_that_criu_cannot_dump_runs_on() {
    if !has_criu() {
        return;
    }
    let site = Site::new();
    let mut container = counting(&site);
    // A file without a name, larger than CRIU copies into its images.
    container.script(&format!(
        "head -c 2000000 /dev/zero >/tmp/large; exec 9</tmp/large; rm /tmp/large; {COUNT}"
    ));
    for applet in ["head", "rm"] {
        symlink("busybox", container.rootfs().join("bin").join(applet)).unwrap();
    }
    begin(&container);
    let answer = checkpoint(&container, &[]);
    assert!(answer.stderr.contains("criu failed: dump"), "{answer:#?}");
    let left: Vec<PathBuf> = fs::read_dir(images(&container))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "img"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(container.status().unwrap(), "running");
    wait_beyond(&container, count(&container));
}
