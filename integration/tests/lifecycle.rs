//! The life of a container, and what tries to end it at a bad time.

#![allow(clippy::unwrap_used, clippy::panic)] // a test file, its functions beside the tests included

use std::fs;
use std::io::{IoSliceMut, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use gabion_integration::{
    Container, Site, edit_array, finish, gabion, is_alive, processes_of, run, skip, wait_until,
};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::Pid;
use serde_json::{Value, json};

#[test]
fn a_container_goes_from_created_to_running_to_stopped_to_nothing() {
    let site = Site::new();
    let mut container = site.container();
    container.config["annotations"] = json!({"com.example.key": "value"});
    container.script("exec sleep 60");
    let answer = container.create().ok();
    assert_eq!((answer.stdout.as_str(), answer.stderr.as_str()), ("", ""));
    let state = container.state();
    assert_eq!(state["status"], "created");
    assert_eq!(state["id"], container.id);
    assert_eq!(state["ociVersion"], "1.0.2");
    assert_eq!(state["bundle"], container.bundle.to_str().unwrap());
    assert_eq!(state["rootfs"], container.rootfs().to_str().unwrap());
    assert_eq!(state["annotations"], json!({"com.example.key": "value"}));
    assert_eq!(state["pid"], container.pid());
    assert!(!container.ran());

    let started = container.start().ok();
    assert_eq!((started.stdout.as_str(), started.stderr.as_str()), ("", ""));
    container.wait_for("tmp/ran", "ran");
    assert_eq!(container.status().unwrap(), "running");
    let again = container.start();
    assert_eq!(
        (
            again.status,
            again
                .stderr
                .contains("cannot start a container in the running state")
        ),
        (1, true)
    );
    let early = container.delete();
    assert_eq!(
        (
            early.status,
            early.stderr.contains("that is not stopped: it is running")
        ),
        (1, true)
    );
    assert_eq!(container.status().unwrap(), "running");

    container.kill("KILL").ok();
    container.wait_until_stopped();
    assert_eq!(container.state()["pid"], 0);
    let late = container.kill("TERM");
    assert_eq!(
        (
            late.status,
            late.stderr
                .contains("cannot kill a container in the stopped state")
        ),
        (1, true)
    );
    container.delete().ok();
    assert_eq!(container.status(), None);
    container.assert_gone();
    let verdicts: Vec<Value> = site
        .decisions()
        .into_iter()
        .map(|decision| decision["verdict"].clone())
        .collect();
    assert_eq!(verdicts, ["admitted", "started", "failed"]);
}

#[test]
fn a_created_container_can_be_deleted_and_killed() {
    let site = Site::new();
    let container = site.container();
    container.create().ok();
    container.delete().ok();
    container.assert_gone();
    container.create().ok();
    container.kill("KILL").ok();
    container.wait_until_stopped();
    container.delete().ok();
    container.assert_gone();
    assert!(!container.ran());
}

#[test]
fn run_ends_as_the_program_ends() {
    let site = Site::new();
    for (script, status) in [
        ("exit 0", 0),
        ("exit 42", 42),
        ("exit 255", 255),
        // Process 1 of a pid namespace can be ended by no signal that it does not handle; its parent's kind can.
        ("exec 2>/tmp/err; sh -c 'kill -TERM $$'; exit $?", 143),
    ] {
        let mut container = site.container();
        container.script(script);
        let answer = container.run();
        assert_eq!((answer.status, answer.stderr.as_str()), (status, ""), "{script}");
        assert!(container.ran());
        container.assert_gone();
        // Whoever asked for it may read it after the end, as with other runtimes.
        assert!(container.pid_file().exists());
    }
}

#[test]
fn run_ends_with_128_and_the_signal_that_ended_the_program() {
    let site = Site::new();
    let mut container = site.container();
    container.script("exec sleep 60");
    container.write();
    let mut child = container.building("run").stdin(Stdio::null()).spawn().unwrap();
    container.wait_for("tmp/ran", "ran");
    // Process 1 of a pid namespace that handles no signal is ended from outside by this one alone.
    container.kill("KILL").ok();
    assert_eq!(finish(&mut child, "run"), 128 + 9);
    container.assert_gone();
}

#[test]
fn standard_streams_are_the_callers() {
    let site = Site::new();
    let mut container = site.container();
    container.script("echo out; echo err >&2");
    let answer = container.run().ok();
    assert_eq!(
        (answer.stdout.as_str(), answer.stderr.as_str()),
        ("out\n", "err\n")
    );
}

#[test]
fn a_program_that_ends_at_once_is_not_missed_300_times() {
    let site = Site::new();
    let mut container = site.container();
    container.config["process"]["args"] = json!(["/bin/true"]);
    container.write();
    let begin = Instant::now();
    for round in 0..300 {
        let answer = run(&mut container.building("run"), site.path());
        assert_eq!((answer.status, answer.stderr.as_str()), (0, ""), "round {round}");
    }
    println!("300 runs took {:?}", begin.elapsed());
    container.assert_gone();
    assert_eq!(site.decisions().len(), 600);
}

#[test]
fn signals_reach_a_container_in_the_foreground() {
    let site = Site::new();
    let mut container = site.container();
    container.script(
        "trap 'echo got > /tmp/got; exit 7' TERM; echo ready > /tmp/ready; while :; do sleep 0.05; done",
    );
    container.write();
    let mut child = container.building("run").stdin(Stdio::null()).spawn().unwrap();
    container.wait_for("tmp/ready", "ready");
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(finish(&mut child, "run"), 7);
    assert_eq!(container.file("tmp/got"), "got\n");
    container.assert_gone();
}

#[test]
fn a_detached_container_outlives_its_caller() {
    let site = Site::new();
    let mut container = site.container();
    container.arguments = vec!["--detach".into()];
    container.script("exec sleep 60");
    container.run().ok();
    assert_eq!(container.status().unwrap(), "running");
    assert_eq!(container.state()["pid"], container.pid());
    let listed = site.gabion(&["list", "--format", "json"]).ok();
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(listed[0]["id"], container.id);
    assert_eq!(
        site.gabion(&["list", "-q"]).ok().stdout,
        format!("{}\n", container.id)
    );
    container.kill("KILL").ok();
    container.wait_until_stopped();
    container.delete().ok();
    container.assert_gone();
}

#[test]
fn keep_leaves_the_container_to_be_deleted() {
    let site = Site::new();
    let mut container = site.container();
    container.arguments = vec!["--keep".into()];
    container.run().ok();
    assert_eq!(container.status().unwrap(), "stopped");
    container.delete().ok();
    container.assert_gone();
}

/// Takes one descriptor out of a message.
fn receive(listener: &UnixListener) -> OwnedFd {
    let (socket, _) = listener.accept().unwrap();
    let mut bytes = [0; 256];
    let mut space = nix::cmsg_space!([i32; 1]);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )
    .unwrap();
    for control in message.cmsgs().unwrap() {
        if let ControlMessageOwned::ScmRights(descriptors) = control {
            assert_eq!(descriptors.len(), 1);
            return gabion_sys::process::inherited(descriptors[0]).unwrap();
        }
    }
    panic!("no descriptor was sent")
}

#[test]
fn the_pidfd_socket_gets_the_init_process() {
    let site = Site::new();
    let mut container = site.container();
    let path = site.path().join("pidfd.sock");
    let listener = UnixListener::bind(&path).unwrap();
    container.arguments = vec!["--pidfd-socket".into(), path.into()];
    container.create().ok();
    let process = receive(&listener);
    let information = fs::read_to_string(format!("/proc/self/fdinfo/{}", process.as_raw_fd())).unwrap();
    assert!(
        information.contains(&format!("Pid:\t{}\n", container.pid())),
        "{information}"
    );
    gabion_sys::process::signal(&process, nix::libc::SIGKILL).unwrap();
    container.wait_until_stopped();
}

#[test]
fn the_console_socket_gets_the_terminal() {
    let site = Site::new();
    let mut container = site.container();
    let path = site.path().join("console.sock");
    let listener = UnixListener::bind(&path).unwrap();
    container.config["process"]["terminal"] = json!(true);
    container.config["process"]["consoleSize"] = json!({"height": 31, "width": 97});
    container.script("stty size; tty; echo done");
    container.arguments = vec!["--console-socket".into(), path.into()];
    container.create().ok();
    let master = receive(&listener);
    container.start().ok();
    let mut text = String::new();
    let mut bytes = [0; 1024];
    let mut master = fs::File::from(master);
    while !text.contains("done") {
        match master.read(&mut bytes) {
            Ok(count) if count > 0 => text.push_str(&String::from_utf8_lossy(&bytes[..count])),
            _ => break,
        }
    }
    assert!(text.starts_with("31 97\r\n"), "{text:?}");
    assert!(text.contains("done\r\n"), "{text:?}");
    container.wait_until_stopped();
}

#[test]
fn a_terminal_needs_a_socket_unless_it_is_in_the_foreground() {
    let site = Site::new();
    let mut container = site.container();
    container.config["process"]["terminal"] = json!(true);
    let answer = container.create();
    assert_eq!(answer.status, 1);
    assert!(
        answer
            .stderr
            .contains("cannot allocate tty if the container is detached without"),
        "{answer:?}"
    );
    container.assert_gone();
    container.config["process"]["terminal"] = json!(false);
    container.arguments = vec!["--console-socket".into(), "/nowhere.sock".into()];
    let answer = container.create();
    assert_eq!(answer.status, 1);
    assert!(answer.stderr.contains("cannot use console socket"), "{answer:?}");
    container.assert_gone();
}

#[test]
fn a_terminal_in_the_foreground_is_the_callers() {
    let site = Site::new();
    let mut container = site.container();
    container.config["process"]["terminal"] = json!(true);
    container.script("[ -t 0 ] && [ -t 1 ] && echo terminal; exit 5");
    container.write();
    let words: Vec<String> = std::iter::once(container.building("run"))
        .flat_map(|command| {
            let arguments: Vec<String> = command
                .get_args()
                .map(|word| format!("'{}'", word.display()))
                .collect();
            std::iter::once(command.get_program().display().to_string()).chain(arguments)
        })
        .collect();
    let typescript = site.path().join("typescript");
    let answer = run(
        Command::new("script")
            .args(["-q", "-e", "-c", &words.join(" ")])
            .arg(&typescript)
            .env("SHELL", "/bin/sh"),
        site.path(),
    );
    assert_eq!(answer.status, 5, "{answer:?}");
    let text = fs::read_to_string(&typescript).unwrap();
    assert!(text.contains("terminal\r\n"), "{text:?}");
    container.assert_gone();
    assert!(site.state_entries().is_empty(), "{:?}", site.state_entries());
}

/// However far `create` got when it was killed, `delete --force` removes what there is, and the id can be used.
#[test]
fn create_can_be_killed_at_any_moment() {
    let site = Site::new();
    let container = site.container();
    container.write();
    let begin = Instant::now();
    container.create().ok();
    let whole = begin.elapsed();
    site.gabion(&["delete", &container.id]).ok();
    let mut ended = 0;
    for round in 0..80 {
        let mut command = container.building("create");
        // A container that is left must not hold on to the tests' own output.
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        // From its first moment to a little after its last.
        std::thread::sleep(whole * round / 70);
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL).unwrap();
        if finish(&mut child, "create") == 0 {
            ended += 1;
        }
        site.gabion(&["delete", "--force", &container.id]).ok();
        // A builder whose caller was killed is told by a signal, and takes a moment to follow.
        assert!(
            wait_until(|| processes_of(&container.id).is_empty()),
            "round {round}: processes {:?} are left",
            processes_of(&container.id)
        );
        let left = gabion_integration::left(&container.id, &container.bundle);
        assert_eq!(left, [""; 0], "round {round}");
        assert_eq!(site.state_entries(), [""; 0], "round {round}");
        assert!(!container.ran(), "round {round}");
    }
    println!("a create takes {whole:?}; {ended} of 80 ended before they were killed");
    container.run().ok();
    assert!(container.ran());
    container.assert_gone();
    assert_eq!(site.state_entries(), [""; 0]);
}

#[test]
fn of_two_that_create_one_id_one_wins() {
    let site = Site::new();
    let container = site.container();
    container.write();
    for round in 0..20 {
        let spawn = || {
            let mut command = container.building("create");
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            command.spawn().unwrap()
        };
        let mut pair = [spawn(), spawn()];
        let mut statuses = pair.each_mut().map(|child| finish(child, "create"));
        statuses.sort_unstable();
        assert_eq!(statuses, [0, 1], "round {round}");
        assert_eq!(container.status().unwrap(), "created");
        assert!(is_alive(container.pid()));
        let error = site.last_error();
        assert!(
            error.starts_with("container") && error.contains("container with given ID already exists"),
            "round {round}: {error}"
        );
        container.delete().ok();
        container.assert_gone();
    }
}

#[test]
fn a_container_whose_init_was_killed_is_stopped() {
    let site = Site::new();
    let mut container = site.container();
    container.script("exec sleep 60");
    container.create().ok();
    kill(Pid::from_raw(container.pid()), Signal::SIGKILL).unwrap();
    container.wait_until_stopped();
    let answer = container.start();
    assert_eq!(answer.status, 1);
    assert!(
        answer
            .stderr
            .contains("cannot start a container in the stopped state"),
        "{answer:?}"
    );
    container.delete().ok();
    container.assert_gone();
}

/// The number of a process that has ended is given to another one day.
#[test]
fn a_later_process_with_the_same_number_is_not_hit() {
    let site = Site::new();
    let mut container = site.container();
    container.script("exec sleep 60");
    container.create().ok();
    container.start().ok();
    let path = site.root().join(&container.id).join("state.json");
    let text = fs::read_to_string(&path).unwrap();
    let mut state: Value = serde_json::from_str(&text).unwrap();
    let mut bystander = Command::new("sleep").arg("60").spawn().unwrap();
    state["init"]["pid"] = json!(bystander.id());
    fs::write(&path, state.to_string()).unwrap();
    assert_eq!(container.status().unwrap(), "stopped");
    let answer = container.kill("TERM");
    assert_eq!(answer.status, 1, "{answer:?}");
    assert!(
        answer
            .stderr
            .contains("cannot kill a container in the stopped state"),
        "{answer:?}"
    );
    // This one is for whoever is in its cgroup, and for nobody else.
    container.kill("KILL").ok();
    let alive = is_alive(bystander.id().cast_signed());
    // Even delete, which ends whoever is left, keeps to the container's own.
    container.delete().ok();
    let still = is_alive(bystander.id().cast_signed());
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    assert!(alive && still);
    container.assert_gone();
}

#[test]
fn what_was_judged_is_what_runs_whatever_becomes_of_the_bundles_file() {
    let site = Site::new();
    let mut container = site.container();
    container.create().ok();
    container.script("echo other > /tmp/other");
    container.config["process"]["capabilities"]["bounding"] = json!(["CAP_SYS_ADMIN"]);
    container.write();
    container.start().ok();
    container.wait_until_stopped();
    assert!(container.ran());
    assert_eq!(container.file("tmp/other"), "");
}

#[test]
fn home_is_the_images_and_never_the_hosts() {
    let site = Site::new();
    let home = |passwd: Option<&str>, uid: u32| {
        let mut container = site.container();
        if let Some(text) = passwd {
            fs::write(container.rootfs().join("etc/passwd"), text).unwrap();
        }
        container.config["process"]["user"] = json!({"uid": uid, "gid": 0});
        container.script("echo $HOME > /tmp/home");
        container.run().ok();
        container.file("tmp/home").trim().to_owned()
    };
    let image = "root:x:0:0::/image/root:/bin/sh\nbin:x:2:2::/image/bin:/bin/sh\n";
    assert_eq!(home(Some(image), 0), "/image/root");
    assert_eq!(home(Some(image), 2), "/image/bin");
    assert_eq!(home(Some(image), 77), "/");
    // The host has a user 2 with a home; the image does not know it.
    assert_eq!(home(None, 2), "/");
}

#[test]
fn groups_of_the_caller_are_not_inherited() {
    let site = Site::new();
    let mut container = site.container();
    container.caller = ["setpriv", "--groups", "4242,27"].map(Into::into).to_vec();
    container.script("grep Groups /proc/self/status > /tmp/groups");
    container.run().ok();
    assert_eq!(container.file("tmp/groups").trim(), "Groups:");
}

#[test]
fn the_session_keyring_is_a_new_one() {
    if !Path::new("/proc/keys").exists() {
        return skip("this kernel does not show keyrings in /proc/keys");
    }
    let site = Site::new();
    let mut container = site.container();
    container.script("exec sleep 60");
    container.create().ok();
    container.start().ok();
    container.wait_for("tmp/ran", "ran");
    let keys = fs::read_to_string("/proc/keys").unwrap();
    let name = format!("_ses.{}", container.id);
    assert!(
        keys.lines()
            .any(|line| line.contains(" keyring ") && line.contains(&name)),
        "{keys}"
    );
}

/// CVE-2019-5736: while the init process is still the runtime, its /proc/<pid>/exe must lead to nothing that
/// whoever can open it could change.
#[test]
fn cve_2019_5736_the_runtimes_program_cannot_be_rewritten() {
    let site = Site::new();
    let container = site.container();
    container.create().ok();
    let exe = format!("/proc/{}/exe", container.pid());
    let error = fs::OpenOptions::new().write(true).open(&exe).unwrap_err();
    // EROFS of the overlay, ETXTBSY of a memfd that runs, EPERM of its seals.
    let errno = error.raw_os_error().unwrap();
    let expected = [nix::libc::EROFS, nix::libc::ETXTBSY, nix::libc::EPERM];
    assert!(expected.contains(&errno), "{error}");
    let installed = fs::metadata(gabion()).unwrap();
    let copy = fs::File::open(&exe).unwrap();
    let system = nix::sys::statfs::fstatfs(&copy).unwrap().filesystem_type();
    let flags = nix::sys::statvfs::fstatvfs(&copy).unwrap().flags();
    let overlay = system == nix::sys::statfs::OVERLAYFS_SUPER_MAGIC
        && flags.contains(nix::sys::statvfs::FsFlags::ST_RDONLY);
    let seals = nix::fcntl::fcntl(&copy, nix::fcntl::FcntlArg::F_GET_SEALS);
    let sealed = seals.is_ok_and(|seals| {
        nix::fcntl::SealFlag::from_bits_truncate(seals).contains(nix::fcntl::SealFlag::F_SEAL_WRITE)
    });
    assert!(
        overlay || sealed,
        "{exe} is neither on a read-only overlay nor a sealed memfd"
    );
    assert_eq!(copy.metadata().unwrap().len(), installed.len());
    // The installed file itself can be written by root, as any can.
    assert!(fs::OpenOptions::new().append(true).open(gabion()).is_ok() || is_busy(gabion()));
}

#[test]
fn the_program_is_sealed_wherever_it_is_installed() {
    let site = Site::new();
    // Of these directories the second has what separates an overlay's layers and options.
    for name in ["plain", "a:b,c\\d"] {
        let directory = site.path().join(name);
        fs::create_dir(&directory).unwrap();
        let program = directory.join("gabion");
        fs::copy(gabion(), &program).unwrap();
        let mut container = site.container();
        container.caller = ["sh", "-c", "own=$1; shift 2; exec \"$own\" \"$@\"", "sh"]
            .map(Into::into)
            .to_vec();
        container.caller.push(program.into());
        container.create().ok();
        let exe = format!("/proc/{}/exe", container.pid());
        let copy = fs::File::open(&exe).unwrap();
        let flags = nix::sys::statvfs::fstatvfs(&copy).unwrap().flags();
        assert!(flags.contains(nix::sys::statvfs::FsFlags::ST_RDONLY), "{name}");
        let error = fs::OpenOptions::new().write(true).open(&exe).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::libc::EROFS), "{name}: {error}");
    }
}

#[test]
fn who_says_that_the_program_is_sealed_is_not_believed() {
    let site = Site::new();
    let mut container = site.container();
    container.caller = ["env", "_GABION_SEALED=/usr/bin/gabion"].map(Into::into).to_vec();
    let output = container.create();
    assert_ne!(output.status, 0);
    let error = output.stderr;
    assert!(
        error.contains("not sealed although it was executed from a sealed copy"),
        "{error}"
    );
    assert!(error.contains("unset it"), "{error}");
}

/// True if a file is being executed.
fn is_busy(path: &Path) -> bool {
    let error = fs::OpenOptions::new().append(true).open(path).err();
    error.and_then(|error| error.raw_os_error()) == Some(nix::libc::ETXTBSY)
}

#[test]
fn descriptors_of_the_caller_are_not_inherited() {
    let site = Site::new();
    let mut container = site.container();
    container.caller = [
        "sh",
        "-c",
        "exec 5</etc 6</etc/passwd 8</dev/null; exec \"$@\"",
        "sh",
    ]
    .map(Into::into)
    .to_vec();
    container.script("ls /proc/self/fd > /tmp/fds");
    container.run().ok();
    assert_eq!(container.file("tmp/fds"), "0\n1\n2\n3\n");
    // Those that the program is meant to get are there.
    container.caller = [
        "sh",
        "-c",
        "exec 3</dev/null 4</dev/null 6</etc; exec \"$@\"",
        "sh",
    ]
    .map(Into::into)
    .to_vec();
    container.arguments = vec!["--preserve-fds".into(), "2".into()];
    container.run().ok();
    assert_eq!(container.file("tmp/fds"), "0\n1\n2\n3\n4\n5\n");
}

#[test]
fn without_a_pid_namespace_delete_ends_whoever_is_left() {
    let site = Site::new();
    let mut container = site.container();
    container.arguments = vec!["--profile".into(), "privileged".into(), "--detach".into()];
    edit_array(&mut container.config, "/linux/namespaces", |list| {
        list.retain(|entry| entry["type"] != "pid")
    });
    container.script("setsid sleep 61 & setsid sleep 62 & echo ready > /tmp/ready");
    container.run().ok();
    container.wait_for("tmp/ready", "ready");
    container.wait_until_stopped();
    let left = processes_of(&container.id);
    assert_eq!(left.len(), 2, "{left:?}");
    container.delete().ok();
    assert_eq!(processes_of(&container.id), [0; 0]);
    container.assert_gone();
}

#[test]
fn two_containers_of_one_site_do_not_mind_each_other() {
    let site = Site::new();
    let (mut one, mut other): (Container<'_>, Container<'_>) = (site.container(), site.container());
    one.script("exec sleep 60");
    other.script("exec sleep 60");
    one.create().ok();
    other.create().ok();
    one.start().ok();
    one.kill("KILL").ok();
    one.wait_until_stopped();
    one.delete().ok();
    one.assert_gone();
    assert_eq!(other.status().unwrap(), "created");
    other.start().ok();
    assert_eq!(other.status().unwrap(), "running");
}

#[test]
fn a_state_root_deeper_than_a_sockets_name_is_no_hindrance() {
    let site = Site::new();
    let container = site.container();
    container.write();
    let deep = site.path().join("d".repeat(200)).join("state");
    assert!(deep.as_os_str().as_bytes().len() > 108);
    let answer = run(
        Command::new(gabion())
            .arg("--root")
            .arg(&deep)
            .arg("--policy")
            .arg(site.policy())
            .args(["run", "--bundle"])
            .arg(&container.bundle)
            .arg(&container.id),
        site.path(),
    );
    answer.ok();
    assert!(container.ran());
}
