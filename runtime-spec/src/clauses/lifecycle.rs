//! runtime.md: the state of a container, and the five operations.

use crate::bundle::{push, remove};
use crate::clause::{Clause, Stop, Verdict};
use crate::expect::{fail, holds, same};
use crate::host;
use crate::runtime::read;
use crate::stage::{CGROUP_PARENT, Stage};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// A program that says it is there and stays.
const STAY: &str = "echo ready; while :; do sleep 0.05; done";

pub(super) const CLAUSES: &[Clause] = &[
    Clause::must(
        "runtime.md#state/required-properties",
        "state has ociVersion, id, status, pid and bundle, with the right types",
        |stage| {
            let container = stage.container()?;
            container.must_create()?;
            let state = container.state()?;
            same("id", &state["id"], container.id.as_str())?;
            same("status", &state["status"], "created")?;
            holds(state["pid"].is_u64() || state["pid"].is_i64(), || {
                format!("pid is {}", state["pid"])
            })?;
            same("bundle", &state["bundle"], &*container.bundle.to_string_lossy())?;
            let version = state["ociVersion"].as_str().unwrap_or_default();
            holds(version.split('.').count() >= 3, || {
                format!("ociVersion is {version:?}")
            })
        },
    ),
    Clause::must(
        "runtime.md#state/bundle-is-absolute",
        "the bundle is told as an absolute path, even when it was given as a relative one",
        |stage| {
            let container = stage.container()?;
            container.write_config()?;
            let name = container
                .bundle
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let created = container.create_from(&name, Some(&stage.directory))?;
            holds(created.ok(), || format!("create failed: {}", created.complaint()))?;
            same(
                "bundle",
                &container.state()?["bundle"],
                &*container.bundle.to_string_lossy(),
            )
        },
    ),
    Clause::must(
        "runtime.md#state/pid-is-the-main-process",
        "pid is the main process as seen from the host",
        |stage| {
            let mut container = stage.container()?;
            container.config["process"]["args"] = json!(["/bin/sh", "-c", STAY, "conformance-argument"]);
            container.must_run()?;
            container.wait_for("ready")?;
            let pid = container.state()?["pid"].as_i64().unwrap_or(0);
            let line = read(Path::new(&format!("/proc/{pid}/cmdline")));
            holds(line.ends_with("conformance-argument\0"), || {
                format!("process {pid} is {line:?}")
            })
        },
    ),
    Clause::must(
        "runtime.md#state/annotations",
        "annotations of the configuration are in the state as they were given",
        |stage| {
            let mut container = stage.container()?;
            container.config["annotations"] = json!({"com.example.one": "1", "com.example.empty": ""});
            container.must_create()?;
            let state = container.state()?;
            same("com.example.one", &state["annotations"]["com.example.one"], "1")?;
            same(
                "com.example.empty",
                &state["annotations"]["com.example.empty"],
                "",
            )
        },
    ),
    Clause::must(
        "runtime.md#state/no-annotations",
        "without annotations the property is absent or an empty map",
        |stage| {
            let container = stage.container()?;
            container.must_create()?;
            let annotations = container.state()?.get("annotations").cloned();
            holds(annotations.is_none() || annotations == Some(json!({})), || {
                format!("annotations: {annotations:?}")
            })
        },
    ),
    Clause::must(
        "runtime.md#state/stopped-after-exit",
        "once the process has ended by itself the status is stopped",
        |stage| {
            let container = stage.container()?;
            container.run_to_end()?;
            container.has_status("stopped")
        },
    ),
    Clause::must(
        "runtime.md#query-state/no-id",
        "state without an id is an error",
        |stage| stage.errors(&["state"]).map(drop),
    ),
    Clause::must(
        "runtime.md#query-state/no-such-container",
        "state of a container that does not exist is an error",
        |stage| stage.errors(&["state", "conf-nobody"]).map(drop),
    ),
    Clause::must(
        "runtime.md#create/no-id",
        "create without an id is an error",
        |stage| {
            let container = stage.container()?;
            container.write_config()?;
            stage
                .errors(&["create", "--bundle", &container.bundle.to_string_lossy()])
                .map(drop)
        },
    ),
    Clause::must(
        "runtime.md#create/bundle-does-not-exist",
        "create of a bundle that does not exist is an error and makes no container",
        |stage| {
            let container = stage.container()?;
            let created = container.create_from("/nonexistent/bundle", None)?;
            holds(!created.ok(), || "create succeeded".into())?;
            no_container(stage, &container.id)
        },
    ),
    Clause::must(
        "runtime.md#create/no-config",
        "create of a bundle without config.json is an error and makes no container",
        |stage| {
            let container = stage.container()?;
            let created = container.create_from(&container.bundle.to_string_lossy(), None)?;
            holds(!created.ok(), || "create succeeded".into())?;
            no_container(stage, &container.id)
        },
    ),
    Clause::must(
        "runtime.md#create/duplicate-id",
        "create with an id in use is an error, and the first container is not touched",
        |stage| {
            let first = stage.container()?;
            first.must_create()?;
            let before = first.state()?;
            let mut second = stage.container()?;
            second.id.clone_from(&first.id);
            let created = second.create()?;
            holds(!created.ok(), || "the second create succeeded".into())?;
            same("the first container's state", first.state()?, before)?;
            first.must_start()
        },
    ),
    Clause::must(
        "runtime.md#create/invalid-id",
        "create with an id that is not valid is an error",
        |stage| {
            let mut container = stage.container()?;
            for id in ["../conf-escape", "conf/slash", ".."] {
                container.id = id.to_owned();
                let created = container.create()?;
                if created.ok() {
                    stage.runtime.call(&["delete", "--force", id])?;
                    return fail(format!("create with id {id:?} succeeded"));
                }
            }
            let outside = stage.runtime.root.with_file_name("conf-escape");
            holds(!outside.exists(), || {
                format!("{outside:?} was made, outside the state directory")
            })
        },
    ),
    Clause::must(
        "runtime.md#create/program-is-not-run",
        "create does not run the program",
        |stage| {
            let mut container = stage.container()?;
            container.script("echo ran");
            container.must_create()?;
            // There is no event for what must not happen: the program gets time to be run wrongly.
            std::thread::sleep(Duration::from_millis(100));
            same("output after create", container.out(), "")?;
            container.has_status("created")
        },
    ),
    Clause::must(
        "runtime.md#create/status-is-created",
        "after create the status is created and the process exists",
        |stage| {
            let container = stage.container()?;
            container.must_create()?;
            container.has_status("created")?;
            let pid = container.pid()?;
            holds(host::is_alive(pid), || format!("process {pid} is not there"))
        },
    ),
    Clause::must(
        "runtime.md#create/resources-exist",
        "after create the namespaces and mounts of the configuration exist",
        |stage| {
            let mut container = stage.container()?;
            push(
                &mut container.config,
                "/mounts",
                json!({"destination": "/mnt/made", "type": "tmpfs", "source": "made-at-create"}),
            );
            container.must_create()?;
            let pid = container.pid()?;
            for kind in ["pid", "net", "ipc", "uts", "mnt"] {
                let (inside, outside) = (
                    host::namespace(&pid.to_string(), kind)?,
                    host::namespace("self", kind)?,
                );
                holds(inside != outside, || {
                    format!("{kind} namespace is still the host's")
                })?;
            }
            let table = read(Path::new(&format!("/proc/{pid}/mountinfo")));
            holds(table.contains(" /mnt/made "), || {
                "the tmpfs is not mounted".into()
            })
        },
    ),
    Clause::must(
        "runtime.md#create/config-changes-have-no-effect",
        "what is written to config.json after create has no effect",
        |stage| {
            let mut container = stage.container()?;
            container.script("echo first; hostname");
            container.config["hostname"] = json!("first");
            container.must_create()?;
            container.script("echo second; hostname");
            container.config["hostname"] = json!("second");
            container.write_config()?;
            container.must_start()?;
            container.wait()?;
            same("output", container.out(), "first\nfirst\n")
        },
    ),
    Clause::must(
        "runtime.md#errors/failed-create-leaves-nothing",
        "a create that fails leaves no container, and the id can be used",
        |stage| {
            let mut container = stage.container()?;
            push(
                &mut container.config,
                "/mounts",
                json!({"destination": "/mnt/x", "type": "no-such-filesystem", "source": "x"}),
            );
            let created = container.create()?;
            holds(!created.ok(), || {
                "a filesystem that does not exist was mounted".into()
            })?;
            no_container(stage, &container.id)?;
            let cgroups = host::cgroup_directories(&container.cgroup());
            same("cgroups left", cgroups, Vec::<std::path::PathBuf>::new())?;
            if let Some(list) = container.config["mounts"].as_array_mut() {
                list.pop();
            }
            container.must_run()?;
            container.wait().map(drop)
        },
    ),
    Clause::must(
        "runtime.md#start/no-id",
        "start without an id is an error",
        |stage| stage.errors(&["start"]).map(drop),
    ),
    Clause::must(
        "runtime.md#start/no-such-container",
        "start of a container that does not exist is an error",
        |stage| stage.errors(&["start", "conf-nobody"]).map(drop),
    ),
    Clause::must(
        "runtime.md#start/runs-the-program",
        "start runs the program with its arguments",
        |stage| {
            let mut container = stage.container()?;
            container.config["process"]["args"] = json!(["/bin/echo", "one", "two words", ""]);
            let seen = container.run_to_end()?;
            same("output", seen.out, "one two words \n")?;
            same("exit code", seen.code, Some(0))
        },
    ),
    Clause::must(
        "runtime.md#start/status-is-running",
        "after start the status is running while the program runs",
        |stage| {
            let mut container = stage.container()?;
            container.script(STAY);
            container.must_run()?;
            container.has_status("running")
        },
    ),
    Clause::must(
        "runtime.md#start/running-container",
        "start of a running container is an error and has no effect",
        |stage| {
            let mut container = stage.container()?;
            container.script(STAY);
            container.must_run()?;
            container.wait_for("ready")?;
            let before = container.state()?;
            holds(!container.start()?.ok(), || "the second start succeeded".into())?;
            same("state", container.state()?, before)?;
            same("output", container.out(), "ready\n")
        },
    ),
    Clause::must(
        "runtime.md#start/stopped-container",
        "start of a stopped container is an error and does not run the program again",
        |stage| {
            let mut container = stage.container()?;
            container.script("echo once");
            container.run_to_end()?;
            holds(!container.start()?.ok(), || "the second start succeeded".into())?;
            container.has_status("stopped")?;
            same("output", container.out(), "once\n")
        },
    ),
    Clause::must(
        "runtime.md#start/no-process",
        "a configuration without process cannot be started",
        |stage| {
            let mut container = stage.container()?;
            remove(&mut container.config, "/process");
            if container.create()?.ok() {
                holds(!container.start()?.ok(), || "start succeeded".into())?;
            }
            Ok(())
        },
    ),
    Clause::must(
        "runtime.md#kill/no-id",
        "kill without an id is an error",
        |stage| stage.errors(&["kill"]).map(drop),
    ),
    Clause::must(
        "runtime.md#kill/no-such-container",
        "kill of a container that does not exist is an error",
        |stage| stage.errors(&["kill", "conf-nobody", "KILL"]).map(drop),
    ),
    Clause::must(
        "runtime.md#kill/sends-the-signal",
        "kill sends the signal that was asked for to the container's process",
        |stage| {
            let mut container = stage.container()?;
            container.script("trap 'echo usr1' USR1; trap 'echo term; exit 7' TERM; echo ready; while :; do sleep 0.02; done");
            container.must_run()?;
            container.wait_for("ready")?;
            for (signal, word) in [("USR1", "usr1"), ("TERM", "term")] {
                let killed = container.kill(signal)?;
                holds(killed.ok(), || {
                    format!("kill {signal} failed: {}", killed.complaint())
                })?;
                container.wait_for(word)?;
            }
            container.wait()?;
            same("output", container.out(), "ready\nusr1\nterm\n")
        },
    ),
    Clause::must(
        "runtime.md#kill/only-the-process",
        "kill sends the signal to the main process and not to its children",
        |stage| {
            let mut container = stage.container()?;
            container.script(
            "trap 'echo main' USR1; (trap 'echo child' USR1; echo child-ready; while :; do sleep 0.02; done) & \
             echo main-ready; while :; do sleep 0.02; done",
        );
            container.must_run()?;
            container.wait_for("child-ready")?;
            container.wait_for("main-ready")?;
            holds(container.kill("USR1")?.ok(), || "kill USR1 failed".into())?;
            container.wait_for("main\n")?;
            std::thread::sleep(Duration::from_millis(60));
            holds(!container.out().contains("child\n"), || {
                "the child got the signal".into()
            })
        },
    ),
    Clause::must(
        "runtime.md#kill/stops",
        "after a kill that ends the process the status is stopped",
        |stage| {
            let mut container = stage.container()?;
            container.script(STAY);
            container.must_run()?;
            container.must_kill()?;
            container.has_status("stopped")
        },
    ),
    Clause::must(
        "runtime.md#kill/created-container",
        "a created container can be sent a signal, and is stopped when that ends it",
        |stage| {
            let mut container = stage.container()?;
            container.script("echo ran");
            container.must_create()?;
            container.must_kill()?;
            container.has_status("stopped")?;
            same("output", container.out(), "")
        },
    ),
    Clause::must(
        "runtime.md#kill/stopped-container",
        "kill of a stopped container is an error",
        |stage| {
            let container = stage.container()?;
            container.run_to_end()?;
            holds(!container.kill("KILL")?.ok(), || "kill succeeded".into())?;
            container.has_status("stopped")
        },
    ),
    Clause::must(
        "runtime.md#kill/unknown-signal",
        "a signal that does not exist is an error and has no effect",
        |stage| {
            let mut container = stage.container()?;
            container.script(STAY);
            container.must_run()?;
            for signal in ["NOSUCH", "999"] {
                holds(!container.kill(signal)?.ok(), || {
                    format!("kill {signal} succeeded")
                })?;
            }
            container.has_status("running")
        },
    ),
    Clause::must(
        "runtime.md#delete/no-id",
        "delete without an id is an error",
        |stage| stage.errors(&["delete"]).map(drop),
    ),
    Clause::must(
        "runtime.md#delete/no-such-container",
        "delete of a container that does not exist is an error",
        |stage| stage.errors(&["delete", "conf-nobody"]).map(drop),
    ),
    Clause::must(
        "runtime.md#delete/running-container",
        "delete of a running container is an error and has no effect",
        |stage| {
            let mut container = stage.container()?;
            container.script(STAY);
            container.must_run()?;
            holds(!container.delete()?.ok(), || "delete succeeded".into())?;
            container.has_status("running")
        },
    ),
    Clause::must(
        "runtime.md#delete/created-container",
        "delete of a container that is created, and so not stopped, is an error and has no effect",
        |stage| {
            let container = stage.container()?;
            container.must_create()?;
            let pid = container.pid()?;
            let deleted = container.delete()?;
            if deleted.ok() {
                container.wait()?;
                return fail(format!("delete succeeded, and process {pid} was ended"));
            }
            container.has_status("created")
        },
    ),
    Clause::must(
        "runtime.md#delete/removes-what-create-made",
        "delete removes the container: its state, its cgroups, its mounts",
        |stage| {
            let container = stage.container()?;
            container.run_to_end()?;
            container.must_delete()?;
            no_container(stage, &container.id)?;
            let cgroups = host::cgroup_directories(&container.cgroup());
            same("cgroups left", cgroups, Vec::<std::path::PathBuf>::new())?;
            let directory = stage.runtime.root.join(&container.id);
            holds(!directory.exists(), || format!("{directory:?} is left"))?;
            same(
                "mounts left",
                host::mounts_below(&container.bundle),
                Vec::<std::path::PathBuf>::new(),
            )
        },
    ),
    Clause::must(
        "runtime.md#delete/id-can-be-used-again",
        "once a container is deleted its id can be used for another",
        |stage| {
            let mut container = stage.container()?;
            container.script("echo first");
            container.run_to_end()?;
            container.must_delete()?;
            let mut again = stage.container()?;
            again.id.clone_from(&container.id);
            again.script("echo second");
            same("output", again.run_to_end()?.out, "second\n")
        },
    ),
    Clause::must(
        "runtime.md#delete/keeps-what-create-did-not-make",
        "delete does not remove the bundle, what was bound into the container, or the cgroup above",
        |stage| {
            stage.needs_paths()?;
            let bound = stage.directory.join("bound");
            fs::create_dir(&bound)?;
            fs::write(bound.join("file"), "kept")?;
            let mut container = stage.container()?;
            push(
                &mut container.config,
                "/mounts",
                json!({"destination": "/mnt", "type": "bind", "source": bound, "options": ["bind"]}),
            );
            let parent = format!("{CGROUP_PARENT}/{}-above", container.id);
            container.config["linux"]["cgroupsPath"] = json!(format!("{parent}/below"));
            let mut above = Vec::new();
            for hierarchy in host::hierarchies() {
                let place = hierarchy.mount.join(parent.trim_start_matches('/'));
                fs::create_dir_all(&place)?;
                above.push(place);
            }
            let result = container.run_to_end().and_then(|_| container.must_delete());
            let lost: Vec<_> = above.iter().filter(|place| !place.is_dir()).collect();
            let verdict = same(
                "cgroups above that are gone",
                &lost,
                &Vec::<&std::path::PathBuf>::new(),
            );
            for place in &above {
                crate::stage::remove_cgroup(place);
            }
            result?;
            verdict?;
            same("the bound file", read(&bound.join("file")), "kept")?;
            holds(container.rootfs().join("bin/busybox").exists(), || {
                "the root filesystem is gone".into()
            })?;
            holds(container.bundle.join("config.json").exists(), || {
                "config.json is gone".into()
            })
        },
    ),
    Clause::described(
        "runtime.md#create/pid-file",
        "the pid file that callers ask for holds the main process's pid (a convention of all runtimes)",
        |stage| {
            let container = stage.container()?;
            container.must_create()?;
            let written = read(&container.bundle.join("pid"));
            same("pid", container.state()?["pid"].to_string(), written.trim())
        },
    ),
    Clause::must(
        "runtime-linux.md#file-descriptors/only-three",
        "the program gets its three standard streams and no other descriptor",
        |stage| {
            // Asked one by one: listing the directory would open another.
            let seen = stage.observe(
                "for n in $(seq 0 99); do [ -L /proc/$$/fd/$n ] && echo $n $(readlink /proc/$$/fd/$n); done",
                |_| {},
            )?;
            let numbers: Vec<&str> = seen
                .out
                .lines()
                .filter_map(|line| line.split(' ').next())
                .collect();
            holds(numbers == ["0", "1", "2"], || {
                format!("descriptors: {:?}", seen.out)
            })
        },
    ),
    Clause::must(
        "runtime-linux.md#dev-symbolic-links/four",
        "/dev/fd, stdin, stdout and stderr are links to /proc/self/fd",
        |stage| {
            let seen = stage.observe(
                "for l in fd stdin stdout stderr; do readlink /dev/$l; done",
                |_| {},
            )?;
            same(
                "links",
                seen.out,
                "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\n",
            )
        },
    ),
];

/// Passes if the runtime knows no container of this id.
fn no_container(stage: &Stage, id: &str) -> Verdict {
    match stage.state(id)? {
        None => Ok(()),
        Some(state) => Err(Stop::Fail(format!("there is a container: {state}"))),
    }
}
