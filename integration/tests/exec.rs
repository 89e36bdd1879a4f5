//! A further process of a container: confined as the first one is, and judged before it begins.

#![allow(clippy::unwrap_used, clippy::panic)] // a test file, its functions beside the tests included

use std::fs;
use std::os::fd::AsRawFd;
use std::process::Command;

use gabion_integration::{Answer, Container, Site, edit_array, gabion, is_alive, run, wait_until};
use serde_json::{Value, json};

/// A running container whose program only waits.
fn running(site: &Site) -> Container<'_> {
    let mut container = site.container();
    container.script("exec sleep 600");
    start(&container);
    container
}

fn start(container: &Container<'_>) {
    container.create().ok();
    container.start().ok();
    container.wait_for("tmp/ran", "ran");
}

#[track_caller]
fn exec(container: &Container<'_>, words: &[&str]) -> Answer {
    container.site.gabion(&[&["exec"], words].concat())
}

/// Runs a shell script in the container and gives what it printed.
#[track_caller]
fn printed(container: &Container<'_>, flags: &[&str], script: &str) -> String {
    let words = [flags, &[&container.id, "sh", "-c", script]].concat();
    exec(container, &words).ok().stdout
}

#[test]
fn a_process_is_in_every_namespace_of_the_container_and_in_its_cgroup() {
    let site = Site::new();
    let container = running(&site);
    for name in ["mnt", "net", "pid", "ipc", "uts", "user", "cgroup"] {
        let of_init = fs::read_link(format!("/proc/{}/ns/{name}", container.pid())).unwrap();
        let of_process = printed(&container, &[], &format!("readlink /proc/self/ns/{name}"));
        assert_eq!(of_process.trim(), of_init.to_str().unwrap(), "{name}");
    }
    // The control: the test's own are others.
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    assert_ne!(
        printed(&container, &[], "readlink /proc/self/ns/net").trim(),
        own.to_str().unwrap()
    );

    let pid_file = site.path().join("exec.pid");
    let path = pid_file.to_str().unwrap();
    exec(
        &container,
        &["--detach", "--pid-file", path, &container.id, "sleep", "600"],
    )
    .ok();
    let pid: i32 = fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    let cgroups = |pid: i32| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(cgroups(pid), cgroups(container.pid()));
    assert!(cgroups(pid).contains(&container.id), "{}", cgroups(pid));
    let listed: Vec<i32> = serde_json::from_str(
        &site
            .gabion(&["ps", "--format", "json", &container.id])
            .ok()
            .stdout,
    )
    .unwrap();
    assert!(
        listed.contains(&pid) && listed.contains(&container.pid()),
        "{listed:?}"
    );
    site.gabion(&["delete", "--force", &container.id]).ok();
    assert!(
        wait_until(|| !is_alive(pid)),
        "the process outlived its container"
    );
}

#[test]
fn a_process_is_under_the_containers_filter_and_has_no_more_capabilities() {
    let site = Site::new();
    let container = running(&site);
    let interesting = [
        "CapInh:",
        "CapPrm:",
        "CapEff:",
        "CapBnd:",
        "CapAmb:",
        "NoNewPrivs:",
        "Seccomp:",
        "Seccomp_filters:",
    ];
    let chosen = |status: &str| -> Vec<String> {
        status
            .lines()
            .filter(|line| interesting.iter().any(|name| line.starts_with(name)))
            .map(str::to_owned)
            .collect()
    };
    let of_init = chosen(&fs::read_to_string(format!("/proc/{}/status", container.pid())).unwrap());
    let of_process = chosen(&printed(&container, &[], "cat /proc/self/status"));
    assert_eq!(of_process, of_init);
    assert!(of_init.contains(&"Seccomp:\t2".to_owned()), "{of_init:?}");
    let refused = exec(&container, &[&container.id, "unshare", "-r", "true"]);
    assert_ne!(refused.status, 0, "the filter let unshare through: {refused:?}");
}

#[test]
fn a_process_that_asks_for_more_than_the_container_has_is_refused_and_does_not_run() {
    let site = Site::new();
    let container = running(&site);
    let answer = exec(
        &container,
        &["--cap", "CAP_SYS_ADMIN", &container.id, "touch", "/tmp/more"],
    );
    assert_eq!(answer.status, 255, "{answer:?}");
    assert!(
        answer.stderr.contains("CAP-03:SYS_ADMIN") && answer.stderr.contains("OPS-01:SYS_ADMIN"),
        "{answer:?}"
    );
    assert!(!container.rootfs().join("tmp/more").exists());
    let decision = site.decisions().pop().unwrap();
    assert_eq!(
        (&decision["operation"], &decision["verdict"]),
        (&json!("exec"), &json!("refused"))
    );

    // A capability that the baseline tolerates, and this container does not have.
    let file = site.path().join("process.json");
    let process = json!({"args": ["touch", "/tmp/more"], "cwd": "/", "env": ["PATH=/bin"],
        "capabilities": {"bounding": ["CAP_FOWNER"], "effective": ["CAP_FOWNER"], "permitted": ["CAP_FOWNER"]}});
    fs::write(&file, process.to_string()).unwrap();
    let mut poor = site.container();
    poor.config["process"]["capabilities"] = json!({});
    poor.script("exec sleep 600");
    start(&poor);
    let answer = exec(&poor, &["--process", file.to_str().unwrap(), &poor.id]);
    assert!(
        answer.stderr.contains("OPS-01:FOWNER") && answer.status == 255,
        "{answer:?}"
    );
    assert!(!poor.rootfs().join("tmp/more").exists());
    // The control: without them it runs.
    let mut process = process;
    process.as_object_mut().unwrap().remove("capabilities");
    fs::write(&file, process.to_string()).unwrap();
    exec(&poor, &["--process", file.to_str().unwrap(), &poor.id]).ok();
    assert!(poor.rootfs().join("tmp/more").exists());
}

#[test]
fn a_bundle_that_is_edited_after_create_changes_nothing_for_a_process() {
    let site = Site::new();
    let mut container = running(&site);
    container.config["process"]["capabilities"] =
        json!({"bounding": ["CAP_SYS_ADMIN"], "permitted": ["CAP_SYS_ADMIN"]});
    container.config["linux"]["seccomp"] = Value::Null;
    edit_array(&mut container.config, "/linux/namespaces", Vec::clear);
    container.write();
    let of_init = fs::read_link(format!("/proc/{}/ns/mnt", container.pid())).unwrap();
    assert_eq!(
        printed(&container, &[], "readlink /proc/self/ns/mnt").trim(),
        of_init.to_str().unwrap()
    );
    let status = printed(&container, &[], "cat /proc/self/status");
    assert!(status.contains("Seccomp:\t2"), "{status}");
}

#[test]
fn the_exit_status_and_the_words_are_those_that_engines_know() {
    let site = Site::new();
    let container = running(&site);
    assert_eq!(
        exec(&container, &[&container.id, "sh", "-c", "exit 42"]).status,
        42
    );
    assert_eq!(
        exec(&container, &[&container.id, "sh", "-c", "kill -9 $$"]).status,
        137
    );
    for (program, words) in [
        ("nowhere", "executable file not found in $PATH"),
        ("/nowhere", "no such file or directory"),
        ("/tmp", "permission denied"),
    ] {
        let answer = exec(&container, &[&container.id, program]);
        assert_eq!(answer.status, 255, "{answer:?}");
        assert!(answer.stderr.contains(words), "{answer:?}");
    }
    let stopped = site.container();
    stopped.run().ok();
    let answer = exec(&stopped, &[&stopped.id, "true"]);
    assert!(
        answer.status == 255 && answer.stderr.contains("container does not exist"),
        "{answer:?}"
    );
}

#[test]
fn a_paused_container_takes_no_process_unless_told_so() {
    let site = Site::new();
    let container = running(&site);
    site.gabion(&["pause", &container.id]).ok();
    assert_eq!(container.status().unwrap(), "paused");
    let answer = exec(&container, &[&container.id, "true"]);
    assert!(
        answer.stderr.contains("cannot exec in a paused container"),
        "{answer:?}"
    );
    site.gabion(&["resume", &container.id]).ok();
    assert_eq!(container.status().unwrap(), "running");
    exec(&container, &[&container.id, "true"]).ok();
    let again = site.gabion(&["resume", &container.id]);
    assert!(
        again
            .stderr
            .contains("cannot resume a container in the running state"),
        "{again:?}"
    );
    // A paused container can be deleted by force.
    site.gabion(&["pause", &container.id]).ok();
    site.gabion(&["delete", "--force", &container.id]).ok();
    container.assert_gone();
}

#[test]
fn user_groups_directory_and_environment_are_the_ones_asked_for() {
    let site = Site::new();
    let container = running(&site);
    let script = "id -u; id -g; id -G; pwd; echo $ONE; echo $HOME";
    let flags = [
        "--user",
        "1000:1001",
        "-g",
        "7",
        "--cwd",
        "/tmp",
        "--env",
        "ONE=1",
    ];
    assert_eq!(
        printed(&container, &flags, script),
        "1000\n1001\n1001 7\n/tmp\n1\n/\n"
    );
    let nowhere = exec(&container, &["--cwd", "/tmp/nowhere", &container.id, "true"]);
    assert!(
        nowhere.status == 255 && nowhere.stderr.contains("chdir to cwd (\"/tmp/nowhere\")"),
        "{nowhere:?}"
    );
    assert!(!container.rootfs().join("tmp/nowhere").exists());
    let wrong = exec(&container, &["--user", "1e3", &container.id, "true"]);
    assert!(
        wrong.status == 255 && wrong.stderr.contains("is no id"),
        "{wrong:?}"
    );
}

#[test]
fn a_process_of_a_user_namespace_has_its_root_and_not_the_hosts() {
    let site = Site::new();
    let mut container = site.container();
    edit_array(&mut container.config, "/linux/namespaces", |list| {
        list.push(json!({"type": "user"}))
    });
    let mappings = json!([{"containerID": 0, "hostID": 1_000_000, "size": 65536}]);
    container.config["linux"]["uidMappings"] = mappings.clone();
    container.config["linux"]["gidMappings"] = mappings;
    container.script("exec sleep 600");
    // The test's directory is the host's root's: the container's must be let through, and own its /tmp.
    open_for_others(&container);
    start(&container);
    let of_init = fs::read_link(format!("/proc/{}/ns/user", container.pid())).unwrap();
    assert_eq!(
        printed(&container, &[], "readlink /proc/self/ns/user").trim(),
        of_init.to_str().unwrap()
    );
    let map = printed(&container, &[], "cat /proc/self/uid_map; id -u");
    assert_eq!(
        map.split_whitespace().collect::<Vec<_>>(),
        ["0", "1000000", "65536", "0"]
    );
}

fn open_for_others(container: &Container<'_>) {
    use std::os::unix::fs::{PermissionsExt, chown};
    for directory in container
        .rootfs()
        .ancestors()
        .take_while(|path| path.starts_with("/tmp/") || path.starts_with(container.site.path()))
    {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let tmp = container.rootfs().join("tmp");
    fs::set_permissions(&tmp, fs::Permissions::from_mode(0o777)).unwrap();
    chown(container.rootfs(), Some(1_000_000), Some(1_000_000)).unwrap();
}

#[test]
fn a_terminal_is_one_of_the_containers_own() {
    let site = Site::new();
    let container = running(&site);
    let line = format!(
        "{} --root {} --policy {} exec --tty {} sh -c 'tty; test -t 0 && test -t 1 && echo all; ls -l /proc/self/fd/0'",
        gabion().display(),
        site.root().display(),
        site.policy().display(),
        container.id
    );
    let answer = run(
        Command::new("script").args(["-qec", &line, "/dev/null"]),
        site.path(),
    )
    .ok();
    assert!(
        answer.stdout.contains("/dev/pts/0") && answer.stdout.contains("all"),
        "{answer:?}"
    );
}

#[test]
fn descriptors_of_the_caller_do_not_reach_a_process() {
    let site = Site::new();
    let container = running(&site);
    let open = fs::File::open("/etc/hostname").unwrap();
    nix::fcntl::fcntl(&open, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let listed = printed(&container, &[], "ls /proc/self/fd");
    let numbers: Vec<&str> = listed.split_whitespace().collect();
    // ls has the directory it lists as 3.
    assert_eq!(
        numbers,
        ["0", "1", "2", "3"],
        "{} is the caller's",
        open.as_raw_fd()
    );
}

#[test]
fn namespaces_that_were_not_joined_are_noticed_and_the_process_does_not_run() {
    let site = Site::new();
    let container = running(&site);
    for (lie, runs) in [(false, true), (true, false)] {
        let mut command = match lie {
            true => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_lying-kernel"));
                command.args(["setns", "--"]).arg(gabion());
                command
            }
            false => Command::new(gabion()),
        };
        command
            .arg("--root")
            .arg(site.root())
            .arg("--policy")
            .arg(site.policy());
        command.args(["exec", &container.id, "touch", "/tmp/joined"]);
        let answer = run(&mut command, site.path());
        assert_eq!(answer.status == 0, runs, "{answer:?}");
        let there = container.rootfs().join("tmp/joined");
        assert_eq!(there.exists(), runs, "{answer:?}");
        if runs {
            fs::remove_file(there).unwrap();
        } else {
            assert!(answer.stderr.contains("V-04"), "{answer:?}");
            assert!(!fs::exists("/tmp/joined").unwrap(), "it ran on the host");
            assert_eq!(site.decisions().pop().unwrap()["verdict"], "mismatch");
        }
    }
}

/// As Docker sends it: its own profile, under which the floor goes.
#[test]
fn a_process_has_the_engines_filter_and_the_floor() {
    const DOCKER: &str = include_str!("../../crates/seccomp/profiles/docker-20.10.json");
    let filters = |policy: &str| {
        let site = Site::new();
        site.write_policy(policy);
        let mut container = site.container();
        container.config["linux"]["seccomp"] = serde_json::from_str(DOCKER).unwrap();
        container.script("exec sleep 600");
        start(&container);
        let script = "grep Seccomp_filters: /proc/self/status; unshare -U true && echo made";
        let said = printed(&container, &[], &format!("{script}; true"));
        let of_init = fs::read_to_string(format!("/proc/{}/status", container.pid())).unwrap();
        let line = said.lines().next().unwrap().to_owned();
        assert!(of_init.contains(&line), "{line} {of_init}");
        assert!(!said.contains("made"), "{said}");
        line.split_whitespace().last().unwrap().to_owned()
    };
    assert_eq!(filters(""), "2");
    // The control: one of them alone.
    assert_eq!(filters("[rules]\n\"SEC-03\" = \"off\"\n"), "1");
}

/// The name tells judgement (PRV-10); what the workload has put at a name is seen from inside (V-19).
#[test]
fn cve_2019_5736_a_process_whose_program_is_the_runtime_is_not_executed() {
    let site = Site::new();
    let mut container = site.container();
    container.script("ln -s /proc/self/exe /tmp/entry; ln -s /tmp/entry /tmp/again; exec sleep 600");
    container.create().ok();
    container.start().ok();
    assert!(wait_until(|| container
        .rootfs()
        .join("tmp/again")
        .symlink_metadata()
        .is_ok()));
    for program in [
        "/proc/self/exe",
        "/tmp/entry",
        "/tmp/again",
        "/proc/1/exe",
        "/proc/thread-self/exe",
    ] {
        let answer = exec(&container, &[&container.id, program, "--version"]);
        assert_ne!(answer.status, 0, "{program}: {answer:?}");
        assert_eq!(answer.stdout, "", "{program}");
        let check = if program.starts_with("/proc") {
            "PRV-10"
        } else {
            "V-19"
        };
        assert!(answer.stderr.contains(check), "{program}: {answer:?}");
        assert_ne!(site.decisions().pop().unwrap()["verdict"], "started", "{program}");
    }
    exec(&container, &[&container.id, "/bin/busybox", "true"]).ok();
}

#[test]
fn processors_that_were_not_set_are_noticed_and_the_process_does_not_run() {
    let site = Site::new();
    let mut container = site.container();
    container.script("exec sleep 600");
    start(&container);
    let own = fs::read_to_string("/proc/self/status").unwrap();
    if own.contains("Cpus_allowed_list:\t0\n") {
        return gabion_integration::skip("there is one processor, which everything runs on");
    }
    let file = site.path().join("process.json");
    let process = json!({
        "cwd": "/", "user": {"uid": 0, "gid": 0}, "noNewPrivileges": true, "capabilities": {}, "env": ["PATH=/bin"],
        "args": ["touch", "/tmp/joined"], "execCPUAffinity": {"initial": "0", "final": "0"}
    });
    fs::write(&file, process.to_string()).unwrap();
    for (lies, runs) in [(&["sched_setaffinity"][..], false), (&[], true)] {
        let words: Vec<&std::ffi::OsStr> = std::iter::once(env!("CARGO_BIN_EXE_lying-kernel").as_ref())
            .chain(lies.iter().map(|lie| lie.as_ref()))
            .chain(["--".as_ref(), gabion().as_os_str()])
            .collect();
        let mut command = site.command_by(&words);
        command.args(["exec", "--process", file.to_str().unwrap(), &container.id]);
        let answer = run(&mut command, site.path());
        assert_eq!(answer.status == 0, runs, "{answer:?}");
        assert_eq!(container.rootfs().join("tmp/joined").exists(), runs, "{answer:?}");
        if !runs {
            assert!(
                answer
                    .stderr
                    .contains("V-16: reality is not what was judged: the processors"),
                "{answer:?}"
            );
            assert_eq!(site.decisions().pop().unwrap()["verdict"], "mismatch");
        }
    }
}

#[test]
fn roots_process_does_not_get_into_a_container_where_the_site_refuses_root() {
    let site = Site::new();
    site.write_policy("[rules]\n\"PRV-02\" = \"deny\"\n");
    let mut container = site.container();
    container.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    container.config["process"]["args"] = json!(["/bin/sleep", "600"]);
    container.create().ok();
    container.start().ok();
    let root = exec(&container, &["--user", "0:0", &container.id, "id"]);
    assert!(root.status == 255 && root.stderr.contains("PRV-02"), "{root:?}");
    // The control: the container's own user.
    assert_eq!(printed(&container, &[], "id -u"), "1000\n");
}

#[test]
fn a_terminal_has_the_size_that_the_process_file_asks_for() {
    let site = Site::new();
    let mut container = site.container();
    container.script("sleep 1000");
    container.create().ok();
    container.start().ok();
    let file = site.path().join("process.json");
    let process = json!({"terminal": true, "consoleSize": {"height": 10, "width": 110}, "cwd": "/",
        "env": ["PATH=/bin"], "args": ["stty", "size"]});
    fs::write(&file, process.to_string()).unwrap();
    let answer = site
        .gabion(&["exec", "--process", file.to_str().unwrap(), &container.id])
        .ok();
    assert_eq!(answer.stdout.trim_end(), "10 110");
}

#[test]
fn a_process_is_scheduled_as_its_file_says_in_a_user_namespace_too() {
    let site = Site::new();
    let mut container = site.container();
    container.script("exec sleep 600");
    edit_array(&mut container.config, "/linux/namespaces", |namespaces| {
        namespaces.push(json!({"type": "user"}));
    });
    let range = json!([{"containerID": 0, "hostID": 1_000_000, "size": 65536}]);
    container.config["linux"]["uidMappings"] = range.clone();
    container.config["linux"]["gidMappings"] = range;
    container.config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 3});
    container.config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_INTERLEAVE", "nodes": "0"});
    open_for_others(&container);
    start(&container);
    // Fields 19 and 41 of proc_pid_stat(5): nice value and policy.
    let scheduled = |stat: &str| {
        let fields: Vec<String> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        (fields[16].clone(), fields[38].clone())
    };
    let of_init = fs::read_to_string(format!("/proc/{}/stat", container.pid())).unwrap();
    assert_eq!(scheduled(&of_init), ("3".to_owned(), "3".to_owned()));

    let file = site.path().join("process.json");
    let process = json!({
        "cwd": "/",
        "user": {"uid": 0, "gid": 0},
        "noNewPrivileges": true,
        "capabilities": {},
        "env": ["PATH=/bin"],
        "args": ["sh", "-c", "cat /proc/self/stat; grep Cpus_allowed_list /proc/self/status; \
                  grep -c interleave:0 /proc/self/numa_maps"],
        "scheduler": {"policy": "SCHED_IDLE"},
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 6},
        "execCPUAffinity": {"initial": "0", "final": "0"}
    });
    fs::write(&file, process.to_string()).unwrap();
    let said = exec(&container, &["--process", file.to_str().unwrap(), &container.id])
        .ok()
        .stdout;
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(scheduled(lines[0]).1, "5");
    assert_eq!(lines[1].split_whitespace().last(), Some("0"));
    assert_ne!(lines[2], "0", "the memory policy is the container's");

    let mut wrong = process;
    wrong["execCPUAffinity"] = json!({"final": "4000"});
    fs::write(&file, wrong.to_string()).unwrap();
    let answer = exec(&container, &["--process", file.to_str().unwrap(), &container.id]);
    assert!(answer.stderr.contains("execCPUAffinity"), "{}", answer.stderr);
}
