//! config-linux.md: seccomp.
//!
//! The system calls looked at are chmod, in its variants, and kill, because a shell makes them with arguments
//! that the test chooses: `kill -N 1`, sent by process 1 to itself, is harmless for every N, and N is
//! the system call's second argument.

use crate::clause::{Clause, Stop, Verdict};
use crate::expect::{contains, fail, holds, same, skip};
use crate::runtime::PATIENCE;
use crate::stage::Stage;
use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::{Value, json};
use std::io::{ErrorKind, IoSliceMut, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

const CHMOD: [&str; 4] = ["chmod", "fchmod", "fchmodat", "fchmodat2"];

pub(super) const CLAUSES: &[Clause] = &[
    Clause::must(
        "config-linux.md#seccomp/allow",
        "a filter that allows all stops nothing",
        |stage| {
            let seen = chmod(stage, json!({"defaultAction": "SCMP_ACT_ALLOW"}))?;
            same("output", seen.as_str(), "changed\nend\n")?;
            let mode = stage.observe("grep ^Seccomp: /proc/self/status", |config| filter(config, json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": CHMOD, "action": "SCMP_ACT_ERRNO"}]})))?;
            same("mode", mode.text(), "Seccomp:\t2")
        },
    ),
    Clause::must(
        "config-linux.md#seccomp/errno",
        "SCMP_ACT_ERRNO makes the call fail, with EPERM if nothing else is said",
        |stage| {
            let seen = chmod(
                stage,
                json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": CHMOD, "action": "SCMP_ACT_ERRNO"}]}),
            )?;
            contains("output", &seen, "Operation not permitted")
        },
    ),
    Clause::must(
        "config-linux.md#seccomp/errno-ret",
        "errnoRet is the error the call gives",
        |stage| {
            let seen = chmod(
                stage,
                json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": CHMOD, "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}),
            )?;
            contains("output", &seen, "No space left on device")
        },
    ),
    Clause::must(
        "config-linux.md#seccomp/default-action",
        "the default action is taken for calls that are not listed",
        |stage| {
            // Everything a static busybox needs is listed by what it is not: chmod.
            let seen = chmod(
                stage,
                json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 28, "syscalls": [{"names": all_but_chmod(), "action": "SCMP_ACT_ALLOW"}]}),
            )?;
            contains("output", &seen, "No space left on device")
        },
    ),
    Clause::must(
        "config-linux.md#seccomp/default-errno-is-eperm",
        "without defaultErrnoRet the default action gives EPERM",
        |stage| {
            let seen = chmod(
                stage,
                json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": all_but_chmod(), "action": "SCMP_ACT_ALLOW"}]}),
            )?;
            contains("output", &seen, "Operation not permitted")
        },
    ),
    Clause::must(
        "config-linux.md#seccomp/kill-process",
        "SCMP_ACT_KILL_PROCESS ends the process by SIGSYS",
        |stage| killed(stage, "SCMP_ACT_KILL_PROCESS"),
    ),
    Clause::must(
        "config-linux.md#seccomp/kill-thread",
        "SCMP_ACT_KILL_THREAD ends the thread by SIGSYS",
        |stage| killed(stage, "SCMP_ACT_KILL_THREAD"),
    ),
    Clause::must(
        "config-linux.md#seccomp/kill",
        "SCMP_ACT_KILL ends the thread by SIGSYS",
        |stage| killed(stage, "SCMP_ACT_KILL"),
    ),
    Clause::must(
        "config-linux.md#seccomp/trap",
        "SCMP_ACT_TRAP sends SIGSYS",
        |stage| killed(stage, "SCMP_ACT_TRAP"),
    ),
    Clause::must(
        "config-linux.md#seccomp/log",
        "SCMP_ACT_LOG lets the call through",
        |stage| {
            let seen = chmod(
                stage,
                json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": CHMOD, "action": "SCMP_ACT_LOG"}]}),
            )?;
            same("output", seen.as_str(), "changed\nend\n")
        },
    ),
    Clause::must(
        "config-linux.md#seccomp/trace",
        "SCMP_ACT_TRACE without a tracer fails the call with ENOSYS",
        |stage| {
            let seen = chmod(
                stage,
                json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": CHMOD, "action": "SCMP_ACT_TRACE"}]}),
            )?;
            contains("output", &seen, "Function not implemented")
        },
    ),
    Clause::must(
        "config-linux.md#seccomp/op-eq",
        "SCMP_CMP_EQ matches the value alone",
        |stage| operator(stage, "SCMP_CMP_EQ", &[18]),
    ),
    Clause::must(
        "config-linux.md#seccomp/op-ne",
        "SCMP_CMP_NE matches all but the value",
        |stage| operator(stage, "SCMP_CMP_NE", &[10, 17, 20, 23]),
    ),
    Clause::must(
        "config-linux.md#seccomp/op-lt",
        "SCMP_CMP_LT matches what is less",
        |stage| operator(stage, "SCMP_CMP_LT", &[10, 17]),
    ),
    Clause::must(
        "config-linux.md#seccomp/op-le",
        "SCMP_CMP_LE matches what is less or equal",
        |stage| operator(stage, "SCMP_CMP_LE", &[10, 17, 18]),
    ),
    Clause::must(
        "config-linux.md#seccomp/op-ge",
        "SCMP_CMP_GE matches what is greater or equal",
        |stage| operator(stage, "SCMP_CMP_GE", &[18, 20, 23]),
    ),
    Clause::must(
        "config-linux.md#seccomp/op-gt",
        "SCMP_CMP_GT matches what is greater",
        |stage| operator(stage, "SCMP_CMP_GT", &[20, 23]),
    ),
    Clause::must(
        "config-linux.md#seccomp/op-masked-eq",
        "SCMP_CMP_MASKED_EQ masks by value and compares with valueTwo",
        |stage| {
            // 17 and 23 have bits 0 and 4 set; 10, 18 and 20 have one of them at most.
            let denied = kills(
                stage,
                json!([{"index": 1, "value": 17, "valueTwo": 17, "op": "SCMP_CMP_MASKED_EQ"}]),
            )?;
            same("signals that were denied", denied, vec![17, 23])
        },
    ),
    Clause::must(
        "config-linux.md#seccomp/all-args",
        "of several args on different arguments all must match",
        |stage| {
            let both = json!([{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 18, "op": "SCMP_CMP_GE"}]);
            same("signals that were denied", kills(stage, both)?, vec![18, 20, 23])?;
            let never = json!([{"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 18, "op": "SCMP_CMP_GE"}]);
            same(
                "signals that were denied",
                kills(stage, never)?,
                Vec::<u32>::new(),
            )
        },
    ),
    Clause::must(
        "config-linux.md#seccomp/architectures",
        "the listed architectures are accepted and filtered",
        |stage| {
            let seen = chmod(
                stage,
                json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": native(), "syscalls": [{"names": CHMOD, "action": "SCMP_ACT_ERRNO"}]}),
            )?;
            contains("output", &seen, "Operation not permitted")
        },
    ),
    Clause::must(
        "config-linux.md#seccomp/flags",
        "the flags of the list are accepted",
        |stage| {
            for flag in ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"] {
                let seen = chmod(stage, json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": [flag], "syscalls": [{"names": CHMOD, "action": "SCMP_ACT_ERRNO"}]}))
                .map_err(|stop| match stop { Stop::Fail(reason) => Stop::Fail(format!("{flag}: {reason}")), other => other })?;
                contains(flag, &seen, "Operation not permitted")?;
            }
            Ok(())
        },
    ),
    Clause::must(
        "config-linux.md#seccomp/without-no-new-privileges",
        "the filter is in force without noNewPrivileges too, and for an ordinary user",
        |stage| {
            let seen = stage.observe("touch /tmp/f; chmod 600 /tmp/f 2>&1; true", |config| {
            config["process"]["noNewPrivileges"] = json!(false);
            config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
            filter(config, json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": CHMOD, "action": "SCMP_ACT_ERRNO"}]}));
        })?;
            contains("output", &seen.out, "Operation not permitted")
        },
    ),
    Clause::must(
        "config-linux.md#seccomp/unknown-action",
        "an action that does not exist is an error",
        |stage| {
            stage.refuses(|config| filter(config, json!({"defaultAction": "SCMP_ACT_CONFORMANCE"})))?;
            stage.refuses(|config| filter(config, json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": CHMOD, "action": "SCMP_ACT_CONFORMANCE"}]})))
        },
    ),
    Clause::must(
        "config-linux.md#seccomp/unknown-operator",
        "an operator that does not exist is an error",
        |stage| {
            stage.refuses(|config| filter(config, json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "value": 1, "op": "SCMP_CMP_CONFORMANCE"}]}
        ]})))
        },
    ),
    Clause::must(
        "config-linux.md#seccomp/unknown-architecture",
        "an architecture that does not exist is an error",
        |stage| {
            stage.refuses(|config| filter(config, json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_CONFORMANCE"], "syscalls": [{"names": CHMOD, "action": "SCMP_ACT_ERRNO"}]})))
        },
    ),
    Clause::must(
        "config-linux.md#seccomp/unknown-flag",
        "a flag that does not exist is an error",
        |stage| {
            stage.refuses(|config| filter(config, json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_CONFORMANCE"], "syscalls": [{"names": CHMOD, "action": "SCMP_ACT_ERRNO"}]})))
        },
    ),
    Clause::must(
        "config-linux.md#seccomp/names-required",
        "a rule without names is an error",
        |stage| {
            stage.refuses(|config| filter(config, json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_ERRNO"}]})))
        },
    ),
    Clause::must(
        "config-linux.md#seccomp/errno-ret-not-supported",
        "errnoRet for an action that has none is an error",
        |stage| {
            stage.refuses(|config| filter(config, json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": CHMOD, "action": "SCMP_ACT_KILL", "errnoRet": 1}]})))
        },
    ),
    Clause::must(
        "config-linux.md#seccomp/default-errno-ret-not-supported",
        "defaultErrnoRet for an action that has none is an error",
        |stage| {
            stage.refuses(|config| filter(config, json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1, "syscalls": [{"names": CHMOD, "action": "SCMP_ACT_ERRNO"}]})))
        },
    ),
    Clause::must(
        "config-linux.md#seccomp/metadata-without-listener",
        "listenerMetadata without listenerPath is an error",
        |stage| {
            stage.refuses(|config| filter(config, json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x", "syscalls": [{"names": CHMOD, "action": "SCMP_ACT_NOTIFY"}]})))
        },
    ),
    Clause::must(
        "config-linux.md#seccomp/listener-is-not-there",
        "a listener that cannot be reached is an error when SCMP_ACT_NOTIFY is used",
        |stage| {
            stage.refuses(|config| filter(config, json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/nonexistent/listener.sock", "syscalls": [{"names": CHMOD, "action": "SCMP_ACT_NOTIFY"}]})))
        },
    ),
    Clause::must(
        "config-linux.md#seccomp/listener-is-ignored",
        "listenerPath is ignored when SCMP_ACT_NOTIFY is not used",
        |stage| {
            let seen = chmod(
                stage,
                json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/nonexistent/listener.sock", "syscalls": [{"names": CHMOD, "action": "SCMP_ACT_ERRNO"}]}),
            )?;
            contains("output", &seen, "Operation not permitted")
        },
    ),
    Clause::must(
        "config-linux.md#the-container-process-state/sent",
        "the listener gets one container process state with the filter's descriptor, and the connection is closed",
        listener,
    ),
];

fn filter(config: &mut Value, seccomp: Value) {
    config["linux"]["seccomp"] = seccomp;
}

fn native() -> Value {
    if cfg!(target_arch = "x86_64") {
        json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"])
    } else {
        json!(["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"])
    }
}

/// What runtimes, a static busybox and ash need up to the chmod, and a good deal more.
fn all_but_chmod() -> Vec<&'static str> {
    "access arch_prctl brk capget capset chdir clock_gettime clock_nanosleep clone clone3 close close_range dup dup2 \
     dup3 epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_wait eventfd2 execve execveat exit exit_group \
     faccessat faccessat2 fchdir fchown fcntl fork fstat fstatfs fsync ftruncate futex getcwd getdents getdents64 getegid \
     geteuid getgid getgroups getpgrp getpid getppid getpriority getrandom getresgid getresuid getrlimit gettid getuid \
     ioctl kill lseek lstat madvise membarrier mmap mprotect mremap munmap nanosleep newfstatat open openat openat2 \
     personality pipe pipe2 poll ppoll prctl pread64 prlimit64 pwrite64 read readlink readlinkat readv rseq \
     rt_sigaction rt_sigprocmask rt_sigreturn rt_sigsuspend sched_getaffinity sched_setaffinity sched_yield seccomp \
     sendmsg set_robust_list set_tid_address setgid setgroups setitimer setpgid setresgid setresuid setsid setuid \
     sigaltstack socket stat statfs statx sysinfo tgkill time tkill umask uname unlink utimensat vfork wait4 waitid \
     write writev utimes utime futimesat getpgid keyctl fchownat chown lchown mkdirat unlinkat sendto recvfrom recvmsg \
     connect"
        .split_whitespace()
        .collect()
}

/// Changes a mode under the filter.
fn chmod(stage: &Stage, seccomp: Value) -> Result<String, Stop> {
    let seen = stage.observe("chmod 711 /root 2>&1 && echo changed; echo end", |config| {
        filter(config, seccomp)
    })?;
    holds(seen.out.ends_with("end\n"), || {
        format!("the shell did not get to its end: {:?} {:?}", seen.out, seen.err)
    })?;
    Ok(seen.out)
}

fn killed(stage: &Stage, action: &str) -> Verdict {
    let mut container = stage.container()?;
    filter(
        &mut container.config,
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": CHMOD, "action": action}]}),
    );
    // A child makes the call: a process 1 of its namespace is not ended by a signal it could catch.
    container.script("/bin/busybox chmod 711 /root; echo code $?");
    let seen = container.run_to_end()?;
    // 128 and SIGSYS, which is 31.
    same("exit of the child", seen.text(), "code 159")
}

/// Which of some signals cannot be sent under a rule that denies kill for these arguments.
fn kills(stage: &Stage, args: Value) -> Result<Vec<u32>, Stop> {
    let seen = stage.observe("for s in 10 17 18 20 23; do kill -$s 1 2>/dev/null || echo $s; done", |config| {
        filter(config, json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": args}]}));
    })?;
    Ok(seen.out.lines().filter_map(|line| line.parse().ok()).collect())
}

fn operator(stage: &Stage, operator: &str, wanted: &[u32]) -> Verdict {
    let denied = kills(stage, json!([{"index": 1, "value": 18, "op": operator}]))?;
    same("signals that were denied", denied.as_slice(), wanted)
}

/// What came over one connection of the listener.
struct Received {
    text: String,
    descriptors: usize,
    closed: bool,
}

fn listener(stage: &Stage) -> Verdict {
    let path = stage.directory.join("listener.sock");
    let listener = UnixListener::bind(&path)?;
    listener.set_nonblocking(true)?;
    let mut container = stage.container()?;
    container.script("chmod 711 /root");
    container.config["annotations"] = json!({"com.example.key": "value"});
    filter(
        &mut container.config,
        json!({
            "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "some metadata",
            "syscalls": [{"names": CHMOD, "action": "SCMP_ACT_NOTIFY"}]
        }),
    );
    let (run, received) = std::thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(&listener));
        let run = container.create().and_then(|created| {
            if created.ok() {
                container.start()
            } else {
                Ok(created)
            }
        });
        (run, receiver.join())
    });
    let run = run?;
    if !run.ok() && run.complaint().contains("not supported") {
        return skip(format!("not supported here: {}", run.complaint()));
    }
    let received = match received {
        Ok(received) => received?,
        Err(_) => return fail("the receiver panicked"),
    };
    let state: Value = match serde_json::from_str(&received.text) {
        Ok(state) => state,
        Err(error) => {
            return fail(format!(
                "the payload is not one JSON object ({error}): {:?}",
                received.text
            ));
        }
    };
    same("fds", state["fds"].clone(), json!(["seccompFd"]))?;
    same("descriptors", received.descriptors, 1)?;
    same("metadata", &state["metadata"], "some metadata")?;
    same("state.id", &state["state"]["id"], container.id.as_str())?;
    same(
        "state.annotations",
        &state["state"]["annotations"]["com.example.key"],
        "value",
    )?;
    holds(state["ociVersion"].is_string(), || {
        format!("ociVersion is {}", state["ociVersion"])
    })?;
    same("pid", &state["pid"], container.pid()?)?;
    holds(received.closed, || "the connection was not closed".into())
}

fn receive(listener: &UnixListener) -> Result<Received, Stop> {
    let begun = Instant::now();
    let mut connection = loop {
        match listener.accept() {
            Ok((connection, _)) => break connection,
            Err(error) if error.kind() == ErrorKind::WouldBlock && begun.elapsed() < PATIENCE / 4 => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(error) => return fail(format!("nobody connected to the listener: {error}")),
        }
    };
    connection.set_nonblocking(false)?;
    connection.set_read_timeout(Some(PATIENCE / 4))?;
    let mut bytes = [0; 65_536];
    let mut space = cmsg_space!([RawFd; 8]);
    let mut buffers = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<()>(
        connection.as_raw_fd(),
        &mut buffers,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )
    .map_err(std::io::Error::from)?;
    let mut descriptors = 0;
    for control in message.cmsgs().map_err(std::io::Error::from)? {
        if let ControlMessageOwned::ScmRights(received) = control {
            for descriptor in received {
                descriptors += 1;
                // Closing it lets every notified call fail, which ends the container's program.
                nix::unistd::close(descriptor).map_err(std::io::Error::from)?;
            }
        }
    }
    let length = message.bytes;
    let mut text = bytes[..length].to_vec();
    // The rest of the payload, and the end: only a connection that was closed has one.
    let closed = connection.read_to_end(&mut text).is_ok();
    Ok(Received {
        text: String::from_utf8_lossy(&text).into_owned(),
        descriptors,
        closed,
    })
}
