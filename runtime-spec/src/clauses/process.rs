//! config.md: the process: terminal, working directory, environment, arguments, limits, capabilities, user.

use crate::bundle::{push, remove};
use crate::clause::{Clause, Stop, Verdict};
use crate::expect::{fail, holds, same, skip};
use crate::runtime::{PATIENCE, read};
use crate::stage::{Seen, Stage};
use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::{Value, json};
use std::fs;
use std::io::{ErrorKind, IoSliceMut};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

pub(super) const CLAUSES: &[Clause] = &[
    Clause::must(
        "config.md#process/terminal",
        "with terminal the standard streams are a pseudoterminal, and /dev/console is it",
        |stage| {
            let seen = on_a_terminal(
                stage,
                "tty; readlink /proc/self/fd/0; [ -c /dev/console ] && echo console; grep -c ' /dev/console ' /proc/mounts",
                |_| {},
            )?;
            let lines: Vec<&str> = seen.lines().collect();
            holds(lines.first().is_some_and(|tty| tty.starts_with("/dev/")), || {
                format!("tty says {lines:?}")
            })?;
            same("console", lines.get(2..), Some(&["console", "1"][..]))
        },
    ),
    Clause::must(
        "config.md#process/console-size",
        "consoleSize is the size of the terminal",
        |stage| {
            let seen = on_a_terminal(stage, "stty size", |config| {
                config["process"]["consoleSize"] = json!({"height": 31, "width": 97})
            })?;
            same("size", seen.trim(), "31 97")
        },
    ),
    Clause::must(
        "config.md#process/console-size-without-terminal",
        "consoleSize is ignored without terminal",
        |stage| {
            let seen = stage.observe("echo ran", |config| {
                config["process"]["consoleSize"] = json!({"height": 31, "width": 97})
            })?;
            same("output", seen.text(), "ran")
        },
    ),
    Clause::must(
        "config.md#process/no-terminal",
        "without terminal there is none",
        |stage| {
            let seen = stage.observe("tty; true", |config| remove(config, "/process/terminal"))?;
            same("tty", seen.text(), "not a tty")
        },
    ),
    Clause::must(
        "config.md#process/cwd",
        "cwd is the working directory of the program",
        |stage| {
            let seen = stage.observe("pwd; readlink /proc/self/cwd", |config| {
                config["process"]["cwd"] = json!("/root")
            })?;
            same("directory", seen.out, "/root\n/root\n")
        },
    ),
    Clause::must(
        "config.md#process/cwd-is-absolute",
        "a cwd that is not absolute is an error",
        |stage| stage.refuses(|config| config["process"]["cwd"] = json!("root")),
    ),
    Clause::must(
        "config.md#process/cwd-is-required",
        "a process without cwd is an error",
        |stage| stage.refuses(|config| remove(config, "/process/cwd")),
    ),
    Clause::must(
        "config.md#process/env",
        "the program's environment is env, and no variable of the runtime's",
        |stage| {
            let mut container = stage.container()?;
            container.config["process"]["env"] = json!(["PATH=/bin", "ONE=1", "EMPTY=", "SPACE=a b"]);
            container.config["process"]["args"] = json!(["/bin/cat", "/proc/self/environ"]);
            let seen = container.run_to_end()?;
            let mut words: Vec<&str> = seen.out.split_terminator('\0').collect();
            // HOME is added by all runtimes, after the user's entry in /etc/passwd.
            words.retain(|word| !word.starts_with("HOME="));
            words.sort_unstable();
            same(
                "environment",
                words,
                vec!["EMPTY=", "ONE=1", "PATH=/bin", "SPACE=a b"],
            )
        },
    ),
    Clause::must(
        "config.md#process/args-required",
        "a process without args, or with none in them, is an error",
        |stage| {
            stage.refuses(|config| config["process"]["args"] = json!([]))?;
            stage.refuses(|config| remove(config, "/process/args"))
        },
    ),
    Clause::must(
        "config.md#process/args-path-search",
        "the first argument is looked up along PATH, as execvp does",
        |stage| {
            let mut container = stage.container()?;
            fs::create_dir(container.rootfs().join("opt"))?;
            fs::copy(crate::bundle::BUSYBOX, container.rootfs().join("opt/echo"))?;
            container.config["process"]["env"] = json!(["PATH=/nowhere:/opt"]);
            container.config["process"]["args"] = json!(["echo", "found"]);
            same("output", container.run_to_end()?.out, "found\n")
        },
    ),
    Clause::must(
        "config.md#process/args-relative-path",
        "a first argument with a slash is taken from cwd, not from PATH",
        |stage| {
            let mut container = stage.container()?;
            container.config["process"]["cwd"] = json!("/bin");
            container.config["process"]["args"] = json!(["./echo", "found"]);
            same("output", container.run_to_end()?.out, "found\n")
        },
    ),
    Clause::must(
        "config.md#process/no-such-program",
        "a program that does not exist is an error",
        |stage| stage.refuses(|config| config["process"]["args"] = json!(["/nonexistent/program"])),
    ),
    Clause::must(
        "config.md#process/not-executable",
        "a program that may not be executed is an error",
        |stage| {
            let mut container = stage.container()?;
            fs::write(container.rootfs().join("plain"), "#!/bin/sh\n")?;
            container.config["process"]["args"] = json!(["/plain"]);
            if container.create()?.ok() {
                holds(!container.start()?.ok(), || "start succeeded".into())?;
            }
            Ok(())
        },
    ),
    Clause::must(
        "config.md#rlimits/values",
        "soft and hard limits are as configured",
        |stage| {
            let seen = stage.observe(
                "grep -e 'Max open files' -e 'Max core file' -e 'Max stack' /proc/self/limits",
                |config| {
                    config["process"]["rlimits"] = json!([
                        {"type": "RLIMIT_NOFILE", "soft": 321, "hard": 654},
                        {"type": "RLIMIT_CORE", "soft": 1024, "hard": 4096},
                        {"type": "RLIMIT_STACK", "soft": 1_048_576, "hard": 4_194_304}
                    ]);
                },
            )?;
            let words: Vec<Vec<&str>> = seen
                .out
                .lines()
                .map(|line| line.split_whitespace().collect())
                .collect();
            let pairs: Vec<(&str, &str)> = words
                .iter()
                .filter(|line| line.len() > 3)
                .map(|line| (line[line.len() - 3], line[line.len() - 2]))
                .collect();
            same(
                "limits",
                pairs,
                vec![("1048576", "4194304"), ("1024", "4096"), ("321", "654")],
            )
        },
    ),
    Clause::must(
        "config.md#rlimits/unknown-type",
        "a limit that does not exist is an error",
        |stage| {
            stage.refuses(|config| {
                config["process"]["rlimits"] = json!([{"type": "RLIMIT_CONFORMANCE", "soft": 1, "hard": 1}])
            })
        },
    ),
    Clause::must(
        "config.md#rlimits/duplicate-type",
        "two limits of the same type are an error",
        |stage| {
            stage.refuses(|config| config["process"]["rlimits"] = json!([
            {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 100}, {"type": "RLIMIT_NOFILE", "soft": 200, "hard": 200}
        ]))
        },
    ),
    Clause::must(
        "config.md#rlimits/soft-above-hard",
        "a soft limit above the hard one cannot be set, and is an error",
        |stage| {
            stage.refuses(|config| {
                config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 200, "hard": 100}])
            })
        },
    ),
    Clause::must(
        "config.md#capabilities/bounding",
        "bounding is the bounding set",
        |stage| capability_set(stage, "bounding", "CapBnd"),
    ),
    Clause::must(
        "config.md#capabilities/permitted",
        "permitted is the permitted set",
        |stage| capability_set(stage, "permitted", "CapPrm"),
    ),
    Clause::must(
        "config.md#capabilities/effective",
        "effective is the effective set",
        |stage| capability_set(stage, "effective", "CapEff"),
    ),
    Clause::must(
        "config.md#capabilities/inheritable",
        "inheritable is the inheritable set",
        |stage| {
            let status = status(stage, "CapInh", |config| {
                config["process"]["capabilities"] = json!({
                    "bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"], "inheritable": ["CAP_KILL"]
                })
            })?;
            same("CapInh", status, bits(&[5]))
        },
    ),
    Clause::must(
        "config.md#capabilities/ambient",
        "ambient is the ambient set, and survives execve by an ordinary user",
        |stage| {
            let kill = json!(["CAP_KILL"]);
            let sets = json!({"bounding": kill, "permitted": kill, "effective": kill, "inheritable": kill, "ambient": kill});
            for line in ["CapAmb", "CapEff", "CapPrm"] {
                let status = status(stage, line, |config| {
                    config["process"]["capabilities"] = sets.clone();
                    config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
                })?;
                same(line, status, bits(&[5]))?;
            }
            Ok(())
        },
    ),
    Clause::must(
        "config.md#capabilities/ordinary-user",
        "an ordinary user has no capabilities after execve without ambient ones",
        |stage| {
            let status = status(stage, "CapEff", |config| {
                config["process"]["user"] = json!({"uid": 1000, "gid": 1000})
            })?;
            same("CapEff", status, bits(&[]))
        },
    ),
    Clause::must(
        "config.md#capabilities/empty",
        "an empty object leaves no capability",
        |stage| {
            for line in ["CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb"] {
                same(
                    line,
                    status(stage, line, |config| {
                        config["process"]["capabilities"] = json!({})
                    })?,
                    bits(&[]),
                )?;
            }
            Ok(())
        },
    ),
    Clause::should(
        "config.md#capabilities/unknown",
        "a capability that does not exist is a warning and no error",
        |stage| {
            let seen = stage.observe("echo ran", |config| {
                push(config, "/process/capabilities/bounding", json!("CAP_CONFORMANCE"))
            })?;
            same("output", seen.text(), "ran")
        },
    ),
    Clause::must(
        "config.md#no-new-privileges/true",
        "noNewPrivileges true sets no_new_privs",
        |stage| {
            same(
                "NoNewPrivs",
                status(stage, "NoNewPrivs", |config| {
                    config["process"]["noNewPrivileges"] = json!(true)
                })?,
                "1",
            )
        },
    ),
    Clause::must(
        "config.md#no-new-privileges/false",
        "noNewPrivileges false, or absent, does not",
        |stage| {
            same(
                "NoNewPrivs",
                status(stage, "NoNewPrivs", |config| {
                    config["process"]["noNewPrivileges"] = json!(false)
                })?,
                "0",
            )?;
            same(
                "NoNewPrivs",
                status(stage, "NoNewPrivs", |config| {
                    remove(config, "/process/noNewPrivileges")
                })?,
                "0",
            )
        },
    ),
    Clause::must("config.md#oom-score-adj/set", "oomScoreAdj is set", |stage| {
        let seen = stage.observe("cat /proc/self/oom_score_adj", |config| {
            config["process"]["oomScoreAdj"] = json!(421)
        })?;
        same("oom_score_adj", seen.text(), "421")
    }),
    Clause::must(
        "config.md#oom-score-adj/not-set",
        "without oomScoreAdj the value of the runtime is left as it is",
        |stage| {
            let seen = stage.observe("cat /proc/self/oom_score_adj", |_| {})?;
            same(
                "oom_score_adj",
                seen.text(),
                read(Path::new("/proc/self/oom_score_adj")).trim(),
            )
        },
    ),
    Clause::must(
        "config.md#user/uid-and-gid",
        "the program runs as the user and group",
        |stage| {
            let seen = stage.observe("grep -e ^Uid -e ^Gid /proc/self/status", |config| {
                config["process"]["user"] = json!({"uid": 1234, "gid": 5678})
            })?;
            same(
                "ids",
                seen.out,
                "Uid:\t1234\t1234\t1234\t1234\nGid:\t5678\t5678\t5678\t5678\n",
            )
        },
    ),
    Clause::must(
        "config.md#user/additional-gids",
        "additionalGids are the supplementary groups",
        |stage| {
            same(
                "Groups",
                status(stage, "Groups", |config| {
                    config["process"]["user"] = json!({"uid": 1234, "gid": 5678, "additionalGids": [77, 99]})
                })?,
                "77 99",
            )
        },
    ),
    Clause::must(
        "config.md#user/no-additional-gids",
        "without additionalGids no group of the runtime's is left",
        |stage| {
            let groups = status(stage, "Groups", |config| {
                config["process"]["user"] = json!({"uid": 1234, "gid": 5678})
            })?;
            let foreign: Vec<&str> = groups
                .split_whitespace()
                .filter(|group| *group != "5678")
                .collect();
            same("groups", foreign, Vec::<&str>::new())
        },
    ),
    Clause::must("config.md#user/umask", "umask is set", |stage| {
        let seen = stage.observe("umask", |config| {
            config["process"]["user"] = json!({"uid": 0, "gid": 0, "umask": 63})
        })?;
        same("umask", seen.text(), "0077")
    }),
    Clause::must(
        "config.md#hostname/set",
        "hostname is the name in the container's UTS namespace, and the host's stays",
        |stage| {
            let before = read(Path::new("/proc/sys/kernel/hostname"));
            let seen = stage.observe("hostname; cat /proc/sys/kernel/hostname", |config| {
                config["hostname"] = json!("mrs-dalloway")
            })?;
            same("hostname", seen.out, "mrs-dalloway\nmrs-dalloway\n")?;
            same(
                "the host's name",
                read(Path::new("/proc/sys/kernel/hostname")),
                before,
            )
        },
    ),
    Clause::must(
        "config.md#hostname/host-uts",
        "a hostname without a UTS namespace of its own must not change the host's",
        |stage| {
            let before = read(Path::new("/proc/sys/kernel/hostname"));
            let mut container = stage.container()?;
            crate::bundle::keep_namespaces(&mut container.config, |kind| kind != "uts");
            container.config["hostname"] = json!(before.trim());
            // Asked for the very name it has already, so that nothing is lost if a runtime obeys.
            let created = container.create()?;
            if created.ok() {
                container.must_start()?;
                container.wait()?;
            }
            same(
                "the host's name",
                read(Path::new("/proc/sys/kernel/hostname")),
                before,
            )
        },
    ),
    Clause::must(
        "config.md#domainname/set",
        "domainname is the domain in the container's UTS namespace",
        |stage| {
            let seen = stage.observe("cat /proc/sys/kernel/domainname", |config| {
                config["domainname"] = json!("conformance.test")
            })?;
            same("domainname", seen.text(), "conformance.test")
        },
    ),
    Clause::must(
        "config.md#scheduler/policy-and-nice",
        "scheduler sets the policy and the nice value",
        |stage| {
            let seen = stage.observe("cat /proc/self/stat", |config| {
                config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 5})
            })?;
            let fields: Vec<&str> = seen
                .text()
                .rsplit(") ")
                .next()
                .unwrap_or_default()
                .split(' ')
                .collect();
            // Counted from the state: field 3 of proc(5) is 0 here, so nice (19) is 16 and policy (41) is 38.
            same(
                "nice and policy (SCHED_BATCH is 3)",
                (fields.get(16), fields.get(38)),
                (Some(&"5"), Some(&"3")),
            )
        },
    ),
    Clause::must(
        "config.md#scheduler/unknown-policy",
        "a scheduling policy that does not exist is an error",
        |stage| {
            stage.refuses(|config| config["process"]["scheduler"] = json!({"policy": "SCHED_CONFORMANCE"}))
        },
    ),
    Clause::must(
        "config.md#io-priority/set",
        "ioPriority sets the class and the priority",
        |stage| {
            let seen = stage.observe("ionice", |config| {
                config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6})
            })?;
            same("ionice", seen.text(), "best-effort: prio 6")
        },
    ),
    Clause::must(
        "config.md#io-priority/unknown-class",
        "an I/O class that does not exist is an error",
        |stage| {
            stage.refuses(|config| {
                config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_CONFORMANCE", "priority": 1})
            })
        },
    ),
    Clause::must(
        "config.md#linux-process/apparmor-missing",
        "an AppArmor profile that is not loaded is an error",
        |stage| {
            stage.refuses(|config| config["process"]["apparmorProfile"] = json!("conformance-not-loaded"))
        },
    ),
    Clause::must(
        "config.md#linux-process/selinux-label",
        "selinuxLabel is the label of the process",
        |stage| {
            if !Path::new("/sys/fs/selinux/enforce").exists() {
                return skip("SELinux is not active on this host");
            }
            let label = "system_u:system_r:container_t:s0:c1,c2";
            let seen = stage.observe("cat /proc/self/attr/current", |config| {
                config["process"]["selinuxLabel"] = json!(label)
            })?;
            same("label", seen.text().trim_end_matches('\0'), label)
        },
    ),
];

/// The capability mask with these bits, as /proc shows it.
fn bits(capabilities: &[u32]) -> String {
    format!(
        "{:016x}",
        capabilities.iter().fold(0_u64, |mask, bit| mask | 1 << bit)
    )
}

/// The value of a line of the program's own /proc/self/status. The program is not a shell, so that nothing
/// stands between the runtime's execve and the reading.
fn status(stage: &Stage, line: &str, change: impl FnOnce(&mut Value)) -> Result<String, Stop> {
    let mut container = stage.container()?;
    container.config["process"]["args"] = json!(["/bin/cat", "/proc/self/status"]);
    change(&mut container.config);
    let Seen { out, .. } = container.run_to_end()?;
    let value = out
        .lines()
        .find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    match value {
        Some(value) => Ok(value.trim().to_owned()),
        None => fail(format!("no line {line} in {out:?}")),
    }
}

/// The set is the configured one, where a neighbour set has more: CAP_KILL is 5, CAP_NET_BIND_SERVICE is 10.
fn capability_set(stage: &Stage, set: &str, line: &str) -> Verdict {
    let (more, less) = (json!(["CAP_KILL", "CAP_NET_BIND_SERVICE"]), json!(["CAP_KILL"]));
    let sets = match set {
        "bounding" => json!({"bounding": more, "permitted": less, "effective": less}),
        _ => json!({"bounding": more, "permitted": more, "effective": more}),
    };
    // Root gets all of the bounding set at execve, whatever permitted and effective were before.
    same(
        line,
        status(stage, line, |config| config["process"]["capabilities"] = sets)?,
        bits(&[5, 10]),
    )?;
    let sets = json!({"bounding": less, "permitted": less, "effective": less});
    same(
        line,
        status(stage, line, |config| config["process"]["capabilities"] = sets)?,
        bits(&[5]),
    )
}

/// Runs a script on a terminal whose other end is received over a console socket, and says what it wrote
/// to a file.
fn on_a_terminal(stage: &Stage, script: &str, change: impl FnOnce(&mut Value)) -> Result<String, Stop> {
    let path = stage.directory.join("console.sock");
    let listener = UnixListener::bind(&path)?;
    listener.set_nonblocking(true)?;
    let mut container = stage.container()?;
    container.script(&format!("{{ {script}; }} >/tmp/seen 2>&1"));
    container.config["process"]["terminal"] = json!(true);
    change(&mut container.config);
    container.create_arguments = vec!["--console-socket".into(), path.to_string_lossy().into_owned()];
    // The shell's stdout is the file, so tty and stty look at stdin, which is the terminal.
    let (created, received) = std::thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(&listener));
        let created = container.create();
        (created, receiver.join())
    });
    let created = created?;
    holds(created.ok(), || format!("create failed: {}", created.complaint()))?;
    let received = match received {
        Ok(received) => received?,
        Err(_) => return fail("the receiver panicked"),
    };
    let outcome = container.must_start().and_then(|()| container.wait());
    for descriptor in received {
        nix::unistd::close(descriptor).map_err(std::io::Error::from)?;
    }
    outcome?;
    Ok(read(&container.rootfs().join("tmp/seen")))
}

/// Takes one connection and the descriptors sent over it.
fn receive(listener: &UnixListener) -> Result<Vec<RawFd>, Stop> {
    let begun = Instant::now();
    let connection = loop {
        match listener.accept() {
            Ok((connection, _)) => break connection,
            Err(error) if error.kind() == ErrorKind::WouldBlock && begun.elapsed() < PATIENCE / 4 => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(error) => return fail(format!("nobody connected to the console socket: {error}")),
        }
    };
    connection.set_nonblocking(false)?;
    connection.set_read_timeout(Some(PATIENCE / 4))?;
    let mut bytes = [0; 4096];
    let mut space = cmsg_space!([RawFd; 4]);
    let mut buffers = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<()>(
        connection.as_raw_fd(),
        &mut buffers,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )
    .map_err(std::io::Error::from)?;
    let mut received = Vec::new();
    for control in message.cmsgs().map_err(std::io::Error::from)? {
        if let ControlMessageOwned::ScmRights(descriptors) = control {
            received.extend(descriptors);
        }
    }
    holds(received.len() == 1, || {
        format!("{} descriptors were sent over the console socket", received.len())
    })?;
    Ok(received)
}
