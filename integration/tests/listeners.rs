//! Seccomp listeners: an agent of the host is given the listener of a container's filter.

#![allow(clippy::unwrap_used, clippy::panic)] // a test file, its functions beside the tests included

use std::collections::BTreeSet;
use std::fs;
use std::io::{IoSliceMut, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use gabion_integration::{Container, Site};
use gabion_sys::listener::{go_on, receive};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::{Value, json};

/// An agent that waits in a thread of its own for as many listeners as it is told.
struct Agent {
    path: PathBuf,
    listener: UnixListener,
}

impl Agent {
    fn new(site: &Site) -> Self {
        let path = site.path().join("agent.sock");
        let listener = UnixListener::bind(&path).unwrap();
        Agent { path, listener }
    }

    /// What the next connection says, and the descriptor that comes with it.
    fn next(&self) -> (Value, OwnedFd) {
        let (mut stream, _) = self.listener.accept().unwrap();
        let (text, descriptor) = first(&stream);
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        (
            serde_json::from_slice(&[text, rest].concat()).unwrap(),
            descriptor,
        )
    }
}

fn first(stream: &UnixStream) -> (Vec<u8>, OwnedFd) {
    let mut buffer = vec![0; 65536];
    let mut space = nix::cmsg_space!([i32; 4]);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let message = recvmsg::<()>(
        stream.as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )
    .unwrap();
    let numbers: Vec<i32> = message
        .cmsgs()
        .unwrap()
        .flat_map(|one| match one {
            ControlMessageOwned::ScmRights(numbers) => numbers,
            _ => Vec::new(),
        })
        .collect();
    let length = message.bytes;
    assert_eq!(numbers.len(), 1, "descriptors");
    let descriptor = gabion_sys::process::inherited(numbers[0]).unwrap();
    buffer.truncate(length);
    (buffer, descriptor)
}

/// A container whose calls of chmod wait for an agent.
fn listening<'s>(site: &'s Site, agent: &Agent, script: &str) -> Container<'s> {
    let mut container = site.container();
    // A filter that allows everything else is refused by the default profile.
    container.arguments = vec!["--profile".into(), "privileged".into()];
    container.script(script);
    container.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    container.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": agent.path,
        "listenerMetadata": "some metadata",
        "syscalls": [
            {"names": ["chmod", "fchmod", "fchmodat"], "action": "SCMP_ACT_NOTIFY"},
            {"names": ["keyctl", "add_key"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
        ]
    });
    fs::set_permissions(
        container.rootfs().join("tmp"),
        std::os::unix::fs::PermissionsExt::from_mode(0o1777),
    )
    .unwrap();
    container
}

/// Whoever waits for a listener that nobody holds any more is told ENOSYS (seccomp_unotify(2)).
const UNANSWERED: &str = "Function not implemented";

#[test]
fn the_agent_has_the_listener_before_the_container_starts_and_one_for_each_further_process() {
    let site = Site::new();
    let agent = Agent::new(&site);
    let mut container = listening(
        &site,
        &agent,
        "chmod 711 /tmp/ran 2>/tmp/said; echo end >>/tmp/said; exec sleep 600",
    );
    container.config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 99}]);
    container.config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH"});
    container.config["process"]["oomScoreAdj"] = json!(500);
    container.create().ok();
    let (state, listener) = agent.next();
    let init = container.pid();
    assert!(!container.ran());
    assert_eq!(state["fds"], json!(["seccompFd"]));
    assert_eq!(state["pid"], json!(init));
    assert_eq!(state["metadata"], json!("some metadata"));
    assert_eq!(state["state"]["id"], json!(container.id));
    assert_eq!(state["state"]["pid"], json!(init));
    assert_eq!(state["state"]["bundle"], json!(container.bundle));

    drop(listener);
    container.start().ok();
    container.wait_for("tmp/said", "end");
    assert!(
        container.file("tmp/said").contains(UNANSWERED),
        "{}",
        container.file("tmp/said")
    );
    let limits = fs::read_to_string(format!("/proc/{init}/limits")).unwrap();
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    assert!(files.split_whitespace().any(|word| word == "99"), "{files}");

    let (said, (state, listener)) = std::thread::scope(|scope| {
        let heard = scope.spawn(|| agent.next());
        let said = site
            .gabion(&[
                "--profile",
                "privileged",
                "exec",
                &container.id,
                "sh",
                "-c",
                "echo $$; grep Seccomp: /proc/self/status",
            ])
            .ok()
            .stdout;
        (said, heard.join().unwrap())
    });
    drop(listener);
    assert!(said.contains("Seccomp:\t2"), "{said}");
    assert_ne!(state["pid"], json!(init));
    assert_eq!(state["state"]["pid"], json!(init));
    assert_eq!(state["state"]["status"], json!("running"));
    site.gabion(&["delete", "--force", &container.id]).ok();
}

#[test]
fn an_agent_may_be_asked_about_nearly_all_that_the_process_does_until_its_program_runs() {
    let site = Site::new();
    let agent = Agent::new(&site);
    let mut container = listening(&site, &agent, "exec sleep 600");
    container.config["linux"]["seccomp"]["syscalls"][0]["names"] = json!([
        "execve", "openat", "read", "close", "fcntl", "mmap", "accept4", "recvfrom"
    ]);
    let asked = std::thread::scope(|scope| {
        let answering = scope.spawn(|| {
            let (_, listener) = agent.next();
            let mut asked = BTreeSet::new();
            loop {
                let mut wanted = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
                assert_eq!(poll(&mut wanted, 60_000_u16), Ok(1), "{asked:?}");
                // Nobody is left who could ask.
                if !wanted[0].revents().unwrap().contains(PollFlags::POLLIN) {
                    return asked;
                }
                if let Some(call) = receive(&listener).unwrap() {
                    asked.insert(i64::from(call.number));
                    go_on(&listener, call.id).unwrap();
                }
            }
        });
        container.create().ok();
        assert_eq!(container.state()["status"], "created");
        container.start().ok();
        container.wait_for("tmp/ran", "ran");
        site.gabion(&["delete", "--force", &container.id]).ok();
        answering.join().unwrap()
    });
    let (read, execve) = (nix::libc::SYS_read, nix::libc::SYS_execve);
    assert!(asked.contains(&read) && asked.contains(&execve), "{asked:?}");
}

#[test]
fn without_an_agent_there_is_no_container() {
    let site = Site::new();
    let agent = Agent::new(&site);
    let container = listening(&site, &agent, "true");
    fs::remove_file(&agent.path).unwrap();
    let answer = container.create();
    assert!(answer.status != 0);
    assert!(
        answer
            .stderr
            .contains("config.json#/linux/seccomp/listenerPath: failed to connect with seccomp agent: nobody can be reached at"),
        "{}",
        answer.stderr
    );
    container.assert_gone();
}

#[test]
fn a_filter_under_which_nobody_could_wait_for_start_is_refused_by_the_calls_that_it_lacks() {
    let site = Site::new();
    let agent = Agent::new(&site);
    let mut container = listening(&site, &agent, "true");
    container.config["linux"]["seccomp"]["syscalls"][1] =
        json!({"names": ["accept4", "recvfrom"], "action": "SCMP_ACT_ERRNO"});
    let answer = container.create();
    assert!(
        answer.stderr.contains(
            "config.json#/linux/seccomp/syscalls: SCMP_ACT_NOTIFY is used, and recvfrom, accept4 are not allowed"
        ),
        "{}",
        answer.stderr
    );
    container.assert_gone();
}
