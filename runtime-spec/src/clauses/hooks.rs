//! runtime.md and config.md: the six hooks, when and where they run, what they are told, and what follows
//! when one fails.

use crate::bundle::push;
use crate::clause::{Clause, Stop, Verdict};
use crate::container::Container;
use crate::expect::{contains, fail, holds, same};
use crate::host;
use crate::runtime::read;
use crate::stage::Stage;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The points at which hooks run, in order.
const POINTS: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

pub(super) const CLAUSES: &[Clause] = &[
    Clause::must(
        "runtime.md#lifecycle/hooks-in-order",
        "the six kinds of hook and the program run in the order of the lifecycle",
        |stage| {
            let (mut container, log) = logged(stage)?;
            for point in POINTS {
                // A runtime that does not wait for the startContainer hooks is found out by the pause.
                let pause = if point == "startContainer" {
                    "sleep 0.2; "
                } else {
                    ""
                };
                add(
                    &mut container,
                    point,
                    &format!("{pause}echo {point} >>{}/log", place(point, &log)),
                );
            }
            container.script("echo program >>/log/log");
            container.must_create()?;
            same(
                "after create",
                read(&log.join("log")),
                "prestart\ncreateRuntime\ncreateContainer\n",
            )?;
            container.must_start()?;
            container.wait()?;
            container.must_delete()?;
            let seen = read(&log.join("log"));
            // The program runs beside the poststart hooks: either may write first.
            let rest: Vec<&str> = seen.lines().filter(|line| *line != "program").collect();
            same("hooks", rest, POINTS.to_vec())?;
            let at = |word: &str| seen.lines().position(|line| line == word);
            holds(
                at("program") > at("startContainer") && at("program") < at("poststop"),
                || format!("the log: {seen:?}"),
            )
        },
    ),
    Clause::must(
        "config.md#hooks/listed-order",
        "hooks of one kind are called in the listed order",
        |stage| {
            let (mut container, log) = logged(stage)?;
            for point in POINTS {
                for number in 1..=3 {
                    add(
                        &mut container,
                        point,
                        &format!("echo {point}{number} >>{}/log", place(point, &log)),
                    );
                }
            }
            container.run_to_end()?;
            container.must_delete()?;
            // In what order the kinds come is another clause.
            let seen = read(&log.join("log"));
            for point in POINTS {
                let numbers: Vec<&str> = seen.lines().filter_map(|line| line.strip_prefix(point)).collect();
                same(point, numbers, vec!["1", "2", "3"])?;
            }
            Ok(())
        },
    ),
    Clause::must(
        "config.md#hooks/prestart-state",
        "prestart hooks get the state on stdin, with status creating (or created)",
        |stage| state_on_stdin(stage, "prestart", "creating"),
    ),
    Clause::must(
        "config.md#hooks/createRuntime-state",
        "createRuntime hooks get the state on stdin, with status creating (or created)",
        |stage| state_on_stdin(stage, "createRuntime", "creating"),
    ),
    Clause::must(
        "config.md#hooks/createContainer-state",
        "createContainer hooks get the state on stdin, with status creating (or created)",
        |stage| state_on_stdin(stage, "createContainer", "creating"),
    ),
    Clause::must(
        "config.md#hooks/startContainer-state",
        "startContainer hooks get the state on stdin, with status created",
        |stage| state_on_stdin(stage, "startContainer", "created"),
    ),
    Clause::must(
        "config.md#hooks/poststart-state",
        "poststart hooks get the state on stdin, with status running",
        |stage| state_on_stdin(stage, "poststart", "running"),
    ),
    Clause::must(
        "config.md#hooks/poststop-state",
        "poststop hooks get the state on stdin, with status stopped",
        |stage| state_on_stdin(stage, "poststop", "stopped"),
    ),
    Clause::must(
        "config.md#hooks/prestart-namespace",
        "prestart hooks run in the runtime's namespaces",
        |stage| namespace_of(stage, "prestart", false),
    ),
    Clause::must(
        "config.md#hooks/createRuntime-namespace",
        "createRuntime hooks run in the runtime's namespaces",
        |stage| namespace_of(stage, "createRuntime", false),
    ),
    Clause::must(
        "config.md#hooks/createContainer-namespace",
        "createContainer hooks run in the container's namespaces",
        |stage| namespace_of(stage, "createContainer", true),
    ),
    Clause::must(
        "config.md#hooks/startContainer-namespace",
        "startContainer hooks run in the container's namespaces",
        |stage| namespace_of(stage, "startContainer", true),
    ),
    Clause::must(
        "config.md#hooks/poststart-namespace",
        "poststart hooks run in the runtime's namespaces",
        |stage| namespace_of(stage, "poststart", false),
    ),
    Clause::must(
        "config.md#hooks/poststop-namespace",
        "poststop hooks run in the runtime's namespaces",
        |stage| namespace_of(stage, "poststop", false),
    ),
    Clause::must(
        "config.md#hooks/createRuntime-namespaces-exist",
        "createRuntime hooks run after the container's namespaces were made",
        |stage| {
            let (mut container, log) = logged(stage)?;
            let script = format!(
                "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/' | head -n1); for n in net mnt; do readlink /proc/$pid/ns/$n; done >{}/ns",
                log.display()
            );
            add(&mut container, "createRuntime", &script);
            container.must_create()?;
            let pid = container.pid()?.to_string();
            same(
                "namespaces",
                read(&log.join("ns")),
                format!(
                    "{}\n{}\n",
                    host::namespace(&pid, "net")?,
                    host::namespace(&pid, "mnt")?
                ),
            )
        },
    ),
    Clause::must(
        "config.md#hooks/createContainer-before-pivot",
        "createContainer hooks run when the mounts are made and before pivot_root",
        |stage| {
            let (mut container, log) = logged(stage)?;
            push(
                &mut container.config,
                "/mounts",
                json!({"destination": "/mnt", "type": "tmpfs", "source": "seen-by-hook"}),
            );
            add(
                &mut container,
                "createContainer",
                &format!("cat /proc/self/mountinfo >{}/mounts", log.display()),
            );
            container.must_create()?;
            let table = read(&log.join("mounts"));
            holds(!table.is_empty(), || {
                "the hook could not write to the host's path: it ran after pivot_root, or not at all".into()
            })?;
            contains("mounts seen by the hook", &table, " seen-by-hook ")
        },
    ),
    Clause::must(
        "config.md#hooks/startContainer-path",
        "the path of startContainer hooks resolves in the container",
        |stage| {
            let mut container = stage.container()?;
            fs::copy(
                container.rootfs().join("bin/busybox"),
                container.rootfs().join("bin/only-inside"),
            )?;
            let hook = json!({"path": "/bin/only-inside", "args": ["sh", "-c", "echo hooked >/hooked"]});
            container.config["hooks"] = json!({"startContainer": [hook]});
            container.must_create()?;
            let marker = container.rootfs().join("hooked");
            holds(!marker.exists(), || "the hook ran at create".into())?;
            container.must_start()?;
            container.wait()?;
            same("what the hook wrote", read(&marker), "hooked\n")
        },
    ),
    Clause::must(
        "config.md#hooks/poststart-before-start-returns",
        "poststart hooks have run when start returns",
        |stage| {
            let (mut container, log) = logged(stage)?;
            add(
                &mut container,
                "poststart",
                &format!("sleep 0.2; echo done >{}/log", log.display()),
            );
            container.must_run()?;
            same("log", read(&log.join("log")), "done\n")
        },
    ),
    Clause::must(
        "config.md#hooks/poststop-after-delete",
        "poststop hooks run after the container is deleted and before delete returns",
        |stage| {
            let (mut container, log) = logged(stage)?;
            let cgroups: Vec<String> = host::hierarchies()
                .iter()
                .map(|hierarchy| format!("{}{}", hierarchy.mount.display(), container.cgroup()))
                .collect();
            add(
                &mut container,
                "poststop",
                &format!(
                    "for d in {}; do [ -d $d ] && echo $d; done; sleep 0.1; echo done",
                    cgroups.join(" ")
                ),
            );
            redirect(&mut container, "poststop", &log);
            container.run_to_end()?;
            same("log before delete", read(&log.join("log")), "")?;
            container.must_delete()?;
            same(
                "log: cgroups still there, and the end",
                read(&log.join("log")),
                "done\n",
            )
        },
    ),
    Clause::must(
        "config.md#hooks/args",
        "a hook's args are its argv, the first one included",
        |stage| {
            let (mut container, log) = logged(stage)?;
            let args = json!([
                "sh",
                "-c",
                format!("cat >/dev/null; cp /proc/$$/cmdline {}/log; true", log.display()),
                "zero",
                "one two",
                ""
            ]);
            container.config["hooks"] =
                json!({"createRuntime": [{"path": crate::bundle::BUSYBOX, "args": args}]});
            container.must_create()?;
            let seen = read(&log.join("log"));
            holds(
                seen.starts_with("sh\0-c\0") && seen.ends_with("\0zero\0one two\0\0"),
                || format!("argv: {seen:?}"),
            )
        },
    ),
    Clause::must(
        "config.md#hooks/env",
        "a hook's env is its environment",
        |stage| {
            let (mut container, log) = logged(stage)?;
            let hook = json!({"path": crate::bundle::BUSYBOX, "args": ["sh", "-c", own_environment(&log)], "env": ["ONE=1", "TWO=a b"]});
            container.config["hooks"] = json!({"createRuntime": [hook]});
            container.must_create()?;
            let seen = read(&log.join("log"));
            let mut words: Vec<&str> = seen.split_terminator('\0').collect();
            words.sort_unstable();
            same("environment", words, vec!["ONE=1", "TWO=a b"])
        },
    ),
    Clause::described(
        "config.md#hooks/no-env",
        "a hook without env gets an empty environment, and none of the runtime's",
        |stage| {
            let (mut container, log) = logged(stage)?;
            let hook = json!({"path": crate::bundle::BUSYBOX, "args": ["sh", "-c", own_environment(&log)]});
            container.config["hooks"] = json!({"createRuntime": [hook]});
            container.must_create()?;
            let seen = read(&log.join("log"));
            holds(log.join("log").exists(), || "the hook did not run".into())?;
            holds(seen.is_empty(), || {
                format!(
                    "{} variables of the runtime's",
                    seen.split_terminator('\0').count()
                )
            })
        },
    ),
    Clause::described(
        "config.md#hooks/stdin-not-read",
        "a hook that does not read its stdin has not failed by that",
        |stage| {
            let mut container = stage.container()?;
            // More than a pipe holds, so that writing it to a hook that is gone cannot go unnoticed.
            container.config["annotations"] = json!({"com.example.long": "x".repeat(200_000)});
            let hook = json!({"path": crate::bundle::BUSYBOX, "args": ["true"]});
            container.config["hooks"] = json!({"createRuntime": vec![hook; 8]});
            container.must_create()
        },
    ),
    Clause::must(
        "config.md#hooks/timeout",
        "a hook that exceeds its timeout is aborted, which is a failure",
        |stage| {
            let mut container = stage.container()?;
            // exec, so that no child of the shell keeps running after the hook was ended.
            let hook = json!({"path": crate::bundle::BUSYBOX, "args": ["sleep", "15"], "timeout": 1});
            container.config["hooks"] = json!({"createRuntime": [hook]});
            let begun = Instant::now();
            let created = container.create()?;
            let took = begun.elapsed();
            holds(took < Duration::from_secs(8), || format!("create took {took:?}"))?;
            holds(!created.ok(), || "create succeeded".into())
        },
    ),
    Clause::must(
        "config.md#hooks/timeout-is-positive",
        "a timeout that is not greater than zero is an error",
        |stage| {
            for timeout in [0, -1] {
                let hook = json!({"path": crate::bundle::BUSYBOX, "args": ["sh", "-c", "cat >/dev/null"], "timeout": timeout});
                stage
                    .refuses(|config| config["hooks"] = json!({"createRuntime": [hook]}))
                    .map_err(|stop| named(&format!("timeout {timeout}"), stop))?;
            }
            Ok(())
        },
    ),
    Clause::must(
        "config.md#hooks/path-is-absolute",
        "a hook's path that is not absolute is an error",
        |stage| {
            stage.refuses(|config| {
                config["hooks"] = json!({"createRuntime": [{"path": "bin/busybox", "args": ["true"]}]})
            })
        },
    ),
    Clause::must(
        "config.md#hooks/path-does-not-exist",
        "a hook that cannot be run is a hook that fails",
        |stage| {
            stage
                .refuses(|config| config["hooks"] = json!({"createRuntime": [{"path": "/nonexistent/hook"}]}))
        },
    ),
    Clause::must(
        "runtime.md#lifecycle/prestart-failure",
        "a prestart hook that fails is an error, and the container is destroyed",
        |stage| failure(stage, "prestart"),
    ),
    Clause::must(
        "runtime.md#lifecycle/createRuntime-failure",
        "a createRuntime hook that fails is an error, and the container is destroyed",
        |stage| failure(stage, "createRuntime"),
    ),
    Clause::must(
        "runtime.md#lifecycle/createContainer-failure",
        "a createContainer hook that fails is an error, and the container is destroyed",
        |stage| failure(stage, "createContainer"),
    ),
    Clause::must(
        "runtime.md#lifecycle/startContainer-failure",
        "a startContainer hook that fails is an error, and the container is stopped before the program runs",
        |stage| failure(stage, "startContainer"),
    ),
    Clause::must(
        "runtime.md#lifecycle/poststart-failure",
        "a poststart hook that fails is an error, and the container is stopped (only a warning in older versions)",
        |stage| {
            let mut container = stage.container()?;
            container.script("while :; do sleep 0.05; done");
            add(&mut container, "poststart", "exit 3");
            container.must_create()?;
            let pid = container.pid()?;
            holds(!container.start()?.ok(), || "start succeeded".into())?;
            let ended = crate::runtime::wait_until(Duration::from_secs(3), || !host::is_alive(pid));
            holds(ended, || {
                format!("start gave an error, but process {pid} runs on")
            })
        },
    ),
    Clause::must(
        "runtime.md#lifecycle/poststop-failure",
        "a poststop hook that fails is a warning: the other hooks run and delete succeeds",
        |stage| {
            let (mut container, log) = logged(stage)?;
            add(&mut container, "poststop", "exit 3");
            add(
                &mut container,
                "poststop",
                &format!("echo second >{}/log", log.display()),
            );
            container.run_to_end()?;
            let deleted = container.delete()?;
            same("log", read(&log.join("log")), "second\n")?;
            holds(deleted.ok(), || format!("delete failed: {}", deleted.complaint()))?;
            match stage.state(&container.id)? {
                None => Ok(()),
                Some(state) => fail(format!("there still is a container: {state}")),
            }
        },
    ),
    Clause::must(
        "runtime.md#lifecycle/poststop-after-failed-create",
        "when a createRuntime hook fails the poststop hooks are still called",
        |stage| {
            let (mut container, log) = logged(stage)?;
            add(&mut container, "createRuntime", "exit 3");
            add(
                &mut container,
                "poststop",
                &format!("echo stopped >{}/log", log.display()),
            );
            holds(!container.create()?.ok(), || "create succeeded".into())?;
            same("log", read(&log.join("log")), "stopped\n")
        },
    ),
];

/// A container with a directory of the host bound to /log, for hooks on both sides to write into.
fn logged(stage: &Stage) -> Result<(Container<'_>, PathBuf), Stop> {
    let log = stage.directory.join("log");
    fs::create_dir(&log)?;
    let mut container = stage.container()?;
    push(
        &mut container.config,
        "/mounts",
        json!({"destination": "/log", "type": "bind", "source": log, "options": ["bind", "rw"]}),
    );
    Ok((container, log))
}

/// Where a hook of this kind finds the log directory.
fn place(point: &str, log: &std::path::Path) -> String {
    if point == "startContainer" {
        "/log".into()
    } else {
        log.to_string_lossy().into_owned()
    }
}

/// Adds a hook that runs a shell script. Busybox is at the same path on both sides.
///
/// The script reads its stdin to the end if it has not: some runtimes fail when a hook does not, which is
/// a clause of its own.
fn add(container: &mut Container<'_>, point: &str, script: &str) {
    let script = if script.contains("cat >") || script.contains("$(sed") {
        script.to_owned()
    } else {
        format!("cat >/dev/null; {script}")
    };
    let hook = json!({"path": crate::bundle::BUSYBOX, "args": ["sh", "-c", script]});
    match container.config["hooks"][point].as_array_mut() {
        Some(list) => list.push(hook),
        None => container.config["hooks"][point] = json!([hook]),
    }
}

/// A script that keeps the environment its shell was started with, which is not the one a shell gives to
/// its children.
fn own_environment(log: &std::path::Path) -> String {
    format!("cat >/dev/null; cp /proc/$$/environ {}/log; true", log.display())
}

/// Lets the hook's own output go to the log.
fn redirect(container: &mut Container<'_>, point: &str, log: &std::path::Path) {
    let script = &mut container.config["hooks"][point][0]["args"][2];
    *script = json!(format!(
        "{{ {}; }} >{}/log",
        script.as_str().unwrap_or_default(),
        log.display()
    ));
}

fn named(what: &str, stop: Stop) -> Stop {
    match stop {
        Stop::Fail(reason) => Stop::Fail(format!("{what}: {reason}")),
        skip => skip,
    }
}

fn state_on_stdin(stage: &Stage, point: &str, status: &str) -> Verdict {
    let (mut container, log) = logged(stage)?;
    container.config["annotations"] = json!({"com.example.key": "value"});
    container.script("sleep 0.3");
    add(
        &mut container,
        point,
        &format!("cat >{}/state", place(point, &log)),
    );
    container.run_to_end()?;
    let pid = container.pid()?;
    container.must_delete()?;
    let text = read(&log.join("state"));
    let state: Value = match serde_json::from_str(&text) {
        Ok(state) => state,
        Err(error) => return fail(format!("stdin was not JSON ({error}): {text:?}")),
    };
    same("id", &state["id"], container.id.as_str())?;
    // The prestart, createRuntime and createContainer hooks are part of create, and yet come after the step
    // of the lifecycle that ends `creating`: the specification can be read both ways.
    holds(
        state["status"] == status || status == "creating" && state["status"] == "created",
        || format!("status is {}, wanted {status:?}", state["status"]),
    )?;
    same("bundle", &state["bundle"], &*container.bundle.to_string_lossy())?;
    same("annotation", &state["annotations"]["com.example.key"], "value")?;
    holds(state["ociVersion"].is_string(), || {
        format!("ociVersion is {}", state["ociVersion"])
    })?;
    // REQUIRED only of created and running containers; where a runtime tells it, it must be true.
    match (&state["pid"], status) {
        (Value::Null, _) if state["status"] != "created" && state["status"] != "running" => Ok(()),
        (told, _) if *told == json!(0) && state["status"] != "created" && state["status"] != "running" => {
            Ok(())
        }
        // Inside its pid namespace the process has another number.
        (told, "created") if *told == json!(1) => Ok(()),
        (told, _) if point == "createContainer" && *told == json!(1) => Ok(()),
        (told, _) => same("pid", told, pid),
    }
}

fn namespace_of(stage: &Stage, point: &str, inside: bool) -> Verdict {
    let (mut container, log) = logged(stage)?;
    let script = format!(
        "for n in net mnt uts; do readlink /proc/self/ns/$n; done >{}/ns",
        place(point, &log)
    );
    add(&mut container, point, &script);
    container.must_create()?;
    let process = if inside {
        container.pid()?.to_string()
    } else {
        "self".to_owned()
    };
    let mut wanted = String::new();
    for kind in ["net", "mnt", "uts"] {
        wanted += &format!("{}\n", host::namespace(&process, kind)?);
    }
    container.must_start()?;
    container.wait()?;
    container.must_delete()?;
    same("namespaces", read(&log.join("ns")), wanted)
}

fn failure(stage: &Stage, point: &str) -> Verdict {
    let (mut container, log) = logged(stage)?;
    container.script("echo ran >/log/ran");
    add(&mut container, point, "exit 3");
    let created = container.create()?;
    if point == "startContainer" {
        holds(created.ok(), || {
            format!("create failed already: {}", created.complaint())
        })?;
        let pid = container.pid()?;
        let started = container.start()?;
        let ended = crate::runtime::wait_until(Duration::from_secs(3), || !host::is_alive(pid));
        holds(ended, || format!("process {pid} runs on"))?;
        // How an error is told is left open: some runtimes return from start before the hooks have run, and
        // complain on the container's own stderr.
        let told = !started.ok() || !read(&container.bundle.join("err")).is_empty();
        holds(told, || "start succeeded, and nobody complained".into())?;
    } else {
        holds(!created.ok(), || "create succeeded".into())?;
        if let Some(state) = stage.state(&container.id)? {
            return fail(format!("there is a container: {state}"));
        }
    }
    holds(!log.join("ran").exists(), || "the program ran".into())
}
