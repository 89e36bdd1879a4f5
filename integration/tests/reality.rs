//! The reality gate: whatever makes the kernel's state differ from what was judged, the workload does not run, and
//! everybody who has to know learns which check found it.
//!
//! Each test has its control: the same set-up without the lie, the tampering or the trap runs.

#![allow(clippy::unwrap_used, clippy::panic)] // a test file, its functions beside the tests included

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use gabion_integration::{Answer, Container, Site, edit_array, run};
use serde_json::json;

/// Calls gabion, and so everything that it starts, on a kernel that lies.
fn lied_to(container: &mut Container<'_>, lies: &[&str]) {
    container.caller = [env!("CARGO_BIN_EXE_lying-kernel")]
        .iter()
        .chain(lies)
        .chain(&["--"])
        .map(Into::into)
        .collect();
}

/// The control: the set-up runs.
#[track_caller]
fn assert_runs(site: &Site, setup: &dyn Fn(&mut Container<'_>)) {
    let mut container = site.container();
    setup(&mut container);
    container.create().ok();
    assert!(!container.ran());
    container.start().ok();
    container.wait_until_stopped();
    assert!(container.ran());
}

/// A command failed because of a check, and said so everywhere; the workload did not run.
#[track_caller]
fn assert_mismatch(container: &Container<'_>, operation: &str, answer: &Answer, check: &str, text: &str) {
    let site = container.site;
    assert_eq!((answer.status, answer.stdout.as_str()), (1, ""), "{answer:?}");
    let message = format!(
        "container {}: unable to start container process: {check}: reality is not what was judged: ",
        container.id
    );
    let last = site.last_error();
    assert!(
        last.starts_with(&message),
        "{last:?} does not begin with {message:?}"
    );
    assert!(last.contains(text), "{last:?} does not say {text:?}");
    assert_eq!(answer.stderr, format!("gabion: error: {last}\n"));
    let decision = site.decisions().pop().unwrap();
    assert_eq!(decision["verdict"], "mismatch", "{decision}");
    assert_eq!(decision["operation"], operation);
    assert_eq!(decision["id"], container.id);
    assert_eq!(decision["message"], last);
    assert!(!container.ran(), "the workload ran");
}

/// The lies are found by `run`, and by `start` after a `create` that was lied to.
#[track_caller]
fn assert_lie_is_found(setup: &dyn Fn(&mut Container<'_>), lies: &[&str], check: &str, text: &str) {
    let site = Site::new();
    let mut container = site.container();
    setup(&mut container);
    lied_to(&mut container, lies);
    let answer = container.run();
    assert_mismatch(&container, "run", &answer, check, text);
    container.assert_gone();

    let mut container = site.container();
    setup(&mut container);
    lied_to(&mut container, lies);
    container.create().ok();
    let answer = container.start();
    assert_mismatch(&container, "start", &answer, check, text);
    container.wait_until_stopped();
    container.delete().ok();
    container.assert_gone();

    assert_runs(&site, setup);
}

/// What was changed from outside between create and start is found by start.
#[track_caller]
fn assert_tampering_is_found(
    setup: &dyn Fn(&mut Container<'_>),
    tamper: &dyn Fn(i32),
    check: &str,
    text: &str,
) {
    let site = Site::new();
    let mut container = site.container();
    setup(&mut container);
    container.create().ok();
    tamper(container.pid());
    let answer = container.start();
    assert_mismatch(&container, "start", &answer, check, text);
    container.wait_until_stopped();
    assert!(!container.ran());
    container.delete().ok();
    container.assert_gone();
    assert_runs(&site, setup);
}

fn plain(_: &mut Container<'_>) {}

fn as_a_user(container: &mut Container<'_>) {
    container.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
}

/// Runs one of the container's own programs in its mount namespace.
fn inside(pid: i32, arguments: &[&str]) {
    let pid = pid.to_string();
    let mut command = Command::new("nsenter");
    command
        .args(["-t", &pid, "-m", "-p", "/bin/busybox"])
        .args(arguments);
    run(&mut command, &std::env::temp_dir()).ok();
}

#[test]
fn v_01_a_bounding_set_that_was_not_reduced_is_found() {
    assert_lie_is_found(&plain, &["prctl:0=24"], "V-01", "bounding capabilities are 0x");
}

#[test]
fn v_01_sets_that_were_not_reduced_are_found() {
    assert_lie_is_found(&plain, &["capset"], "V-01", " capabilities are 0x");
    assert_lie_is_found(
        &as_a_user,
        &["prctl:0=24"],
        "V-01",
        "bounding capabilities are 0x",
    );
}

#[test]
fn v_01_a_user_without_the_sets_to_go_on_goes_nowhere() {
    let site = Site::new();
    let mut container = site.container();
    as_a_user(&mut container);
    lied_to(&mut container, &["capset"]);
    let answer = container.run();
    assert_eq!(answer.status, 1, "{answer:?}");
    assert!(answer.stderr.contains("prctl(24, "), "{answer:?}");
    assert_eq!(site.decisions().pop().unwrap()["verdict"], "failed");
    assert!(!container.ran());
    container.assert_gone();
    assert_runs(&site, &as_a_user);
}

#[test]
fn v_02_privileges_that_can_still_be_gained_are_found() {
    assert_lie_is_found(&plain, &["prctl:0=38"], "V-02", "no_new_privs is not set");
}

#[test]
fn v_02_an_init_process_that_others_can_look_into_is_found() {
    assert_lie_is_found(
        &plain,
        &["prctl:0=4"],
        "V-02",
        "the init process is dumpable before execve",
    );
}

#[test]
fn v_03_groups_of_the_caller_are_found() {
    let site = Site::new();
    let caller = |container: &mut Container<'_>, lies: &[&str]| {
        lied_to(container, lies);
        let setpriv = ["setpriv", "--groups", "4242"].map(Into::into);
        container.caller.splice(0..0, setpriv);
    };
    let mut container = site.container();
    caller(&mut container, &["setgroups"]);
    let answer = container.run();
    assert_mismatch(
        &container,
        "run",
        &answer,
        "V-03",
        "supplementary groups are {4242}, not {}",
    );
    let mut container = site.container();
    caller(&mut container, &["setgroups"]);
    container.create().ok();
    let answer = container.start();
    assert_mismatch(
        &container,
        "start",
        &answer,
        "V-03",
        "supplementary groups are {4242}, not {}",
    );
    let mut container = site.container();
    caller(&mut container, &[]);
    container.run().ok();
    assert!(container.ran());
}

#[test]
fn v_03_a_user_who_is_still_root_is_found() {
    assert_lie_is_found(
        &as_a_user,
        &["setresuid"],
        "V-03",
        "user ids are [0, 0, 0, 0] and group ids [1000, 1000, 1000, 1000], not 1000 and 1000",
    );
}

#[test]
fn v_03_a_group_that_is_still_root_is_found() {
    assert_lie_is_found(
        &as_a_user,
        &["setresgid"],
        "V-03",
        "user ids are [1000, 1000, 1000, 1000] and group ids [0, 0, 0, 0], not 1000 and 1000",
    );
}

#[test]
fn v_04_a_network_that_is_still_the_hosts_is_found() {
    assert_lie_is_found(
        &plain,
        &["unshare:0&1073741824=1073741824"],
        "V-04",
        "the net namespace is the host's (",
    );
}

#[test]
fn v_04_ipc_that_is_still_the_hosts_is_found() {
    assert_lie_is_found(
        &plain,
        &["unshare:0&134217728=134217728"],
        "V-04",
        "the ipc namespace is the host's (",
    );
}

#[test]
fn v_04_a_host_name_that_is_still_the_hosts_is_found() {
    // Nothing is to set the host's own name while the lie is told.
    let nameless = |container: &mut Container<'_>| {
        container.config.as_object_mut().unwrap().remove("hostname");
    };
    assert_lie_is_found(
        &nameless,
        &["unshare:0&67108864=67108864"],
        "V-04",
        "the uts namespace is the host's (",
    );
}

#[test]
fn v_05_a_filter_that_was_not_loaded_is_found() {
    // The lie is a filter itself: one, where there should be two.
    assert_lie_is_found(&plain, &["seccomp"], "V-05", "1 filters are loaded, not 2");
    assert_lie_is_found(&as_a_user, &["seccomp"], "V-05", "1 filters are loaded, not 2");
}

#[test]
fn v_07_a_working_directory_that_was_not_entered_is_found() {
    let in_work = |container: &mut Container<'_>| container.config["process"]["cwd"] = json!("/work");
    let site = Site::new();
    let mut container = site.container();
    in_work(&mut container);
    lied_to(&mut container, &["chdir"]);
    let answer = container.run();
    assert_eq!(answer.status, 1, "{answer:?}");
    assert!(!container.ran());
    container.assert_gone();
    assert_runs(&site, &in_work);
}

#[test]
fn v_07_a_directory_that_was_exchanged_since_is_found() {
    assert_tampering_is_found(
        &|container| container.config["process"]["cwd"] = json!("/work"),
        &|pid| inside(pid, &["sh", "-c", "busybox mv /work /old && busybox mkdir /work"]),
        "V-07",
        "the working directory is \"/old\", not \"/work\"",
    );
}

/// CVE-2024-21626: a working directory that leads through a descriptor of the runtime's to the host.
#[test]
fn v_07_no_descriptor_of_the_runtime_leads_out_of_the_container() {
    let site = Site::new();
    for number in 3..20 {
        let mut container = site.container();
        symlink(format!("/proc/self/fd/{number}"), container.rootfs().join("out")).unwrap();
        container.config["process"]["cwd"] = json!("/out");
        container.script("ls / > /tmp/listing");
        let answer = container.run();
        assert_eq!(answer.status, 1, "descriptor {number}: {answer:?}");
        assert!(!container.ran(), "descriptor {number}");
        container.assert_gone();
        let verdict = &site.decisions().pop().unwrap()["verdict"];
        assert!(
            verdict == "failed" || verdict == "mismatch",
            "descriptor {number}: {verdict}"
        );
    }
    // A link to an honest directory is none of this.
    assert_runs(&site, &|container| {
        symlink("/work", container.rootfs().join("in")).unwrap();
        container.config["process"]["cwd"] = json!("/in");
    });
}

#[test]
fn v_08_a_mask_that_was_taken_off_is_found() {
    assert_tampering_is_found(
        &plain,
        &|pid| inside(pid, &["umount", "/proc/timer_list"]),
        "V-08",
        "\"/proc/timer_list\" is not masked",
    );
}

#[test]
fn v_08_a_masked_directory_that_can_be_written_to_is_found() {
    assert_tampering_is_found(
        &plain,
        &|pid| inside(pid, &["mount", "-o", "remount,rw", "/sys/firmware"]),
        "V-08",
        "\"/sys/firmware\" is not masked",
    );
}

/// CVE-2025-31133: something else than the null device in a mask's place.
#[test]
fn v_08_a_mask_that_is_no_null_device_is_found() {
    assert_tampering_is_found(
        &plain,
        &|pid| inside(pid, &["mount", "-o", "bind", "/proc/meminfo", "/proc/timer_list"]),
        "V-08",
        "\"/proc/timer_list\" is not masked",
    );
}

#[test]
fn v_08_masks_that_were_never_mounted_are_found() {
    // A tmpfs that is read-only from the start is what covers a directory.
    assert_lie_is_found(&plain, &["mount:3=1"], "V-08", "is not masked");
}

#[test]
fn v_09_a_path_that_was_made_writable_is_found() {
    assert_tampering_is_found(
        &plain,
        &|pid| inside(pid, &["mount", "-o", "remount,bind,rw", "/proc/sys"]),
        "V-09",
        "\"/proc/sys\" is not read-only",
    );
}

#[test]
fn v_09_a_path_that_is_no_mount_of_its_own_is_found() {
    assert_tampering_is_found(
        &plain,
        &|pid| inside(pid, &["umount", "/proc/sys"]),
        "V-09",
        "\"/proc/sys\" is not ",
    );
}

/// CVE-2025-52881: what looks like /proc/sys and is none.
#[test]
fn v_09_a_path_that_is_on_no_procfs_is_found() {
    assert_tampering_is_found(
        &plain,
        &|pid| {
            inside(pid, &["mount", "-t", "tmpfs", "-o", "ro", "none", "/proc/sys"]);
        },
        "V-09",
        "\"/proc/sys\" is not on a procfs",
    );
}

#[test]
fn v_09_a_remount_that_was_never_made_is_found() {
    // MS_REMOUNT and MS_RDONLY together.
    assert_lie_is_found(&plain, &["mount:3&33=33"], "V-09", "is not read-only");
}

#[test]
fn v_09_a_root_that_was_never_made_read_only_is_found() {
    let read_only = |container: &mut Container<'_>| {
        let shared = container.rootfs().join("tmp");
        container.config["root"]["readonly"] = json!(true);
        edit_array(&mut container.config, "/mounts", |mounts| {
            mounts.push(
                json!({"destination": "/tmp", "type": "bind", "source": shared, "options": ["bind", "rw"]}),
            );
        });
    };
    assert_lie_is_found(&read_only, &["mount_setattr"], "V-09", "\"/\" is not read-only");
}

/// A directory of the site, bound at /data without anything that the gates would have to say.
fn with_data(container: &mut Container<'_>) {
    let data = container.bundle.join("data");
    fs::create_dir_all(&data).unwrap();
    edit_array(&mut container.config, "/mounts", |mounts| {
        mounts.push(json!({"destination": "/data", "type": "bind", "source": data,
            "options": ["rbind", "rprivate", "ro", "nosuid", "nodev"]}));
    });
}

#[test]
fn v_10_a_mount_that_was_not_judged_is_found() {
    assert_tampering_is_found(
        &plain,
        &|pid| inside(pid, &["mount", "-t", "tmpfs", "none", "/mnt"]),
        "V-10",
        "a tmpfs that was not judged is mounted at \"/mnt\"",
    );
    // On top of one that was judged, and of the same type.
    assert_tampering_is_found(
        &plain,
        &|pid| {
            inside(
                pid,
                &[
                    "mount",
                    "-t",
                    "tmpfs",
                    "-o",
                    "nosuid,nodev,noexec",
                    "none",
                    "/dev/shm",
                ],
            )
        },
        "V-10",
        "a tmpfs that was not judged is mounted at \"/dev/shm\"",
    );
    // Below one that was bound with what is mounted in it.
    assert_tampering_is_found(
        &|container| {
            with_data(container);
            fs::create_dir_all(container.bundle.join("data/below")).unwrap();
        },
        &|pid| inside(pid, &["mount", "-t", "tmpfs", "none", "/data/below"]),
        "V-10",
        "a tmpfs that was not judged is mounted at \"/data/below\"",
    );
}

#[test]
fn v_10_another_directory_than_was_judged_is_found() {
    assert_tampering_is_found(
        &with_data,
        &|pid| {
            let script =
                "umount /data && mount -o bind /work /data && mount -o remount,bind,ro,nosuid,nodev /data";
            inside(pid, &["sh", "-c", script]);
        },
        "V-10",
        "what is mounted at \"/data\" is inode ",
    );
}

#[test]
fn v_10_a_mount_that_is_not_there_is_found() {
    assert_tampering_is_found(
        &with_data,
        &|pid| inside(pid, &["umount", "/data"]),
        "V-10",
        "nothing is mounted at \"/data\"",
    );
}

#[test]
fn v_10_another_file_system_than_was_judged_is_found() {
    assert_tampering_is_found(
        &plain,
        &|pid| {
            inside(
                pid,
                &["sh", "-c", "umount /dev/shm && mount -t mqueue none /dev/shm"],
            )
        },
        "V-10",
        "a mqueue is mounted at \"/dev/shm\", not a tmpfs",
    );
}

#[test]
fn v_10_a_restriction_that_was_lifted_is_found() {
    for (options, text) in [
        ("remount,bind,rw,nosuid,nodev", "the mount at \"/data\" is not ro"),
        (
            "remount,bind,ro,suid,nodev",
            "the mount at \"/data\" is not nosuid",
        ),
        (
            "remount,bind,ro,nosuid,dev",
            "the mount at \"/data\" is not nodev",
        ),
    ] {
        assert_tampering_is_found(
            &with_data,
            &|pid| inside(pid, &["mount", "-o", options, "/data"]),
            "V-10",
            text,
        );
    }
}

#[test]
fn v_10_a_mount_that_would_be_seen_on_the_host_is_found() {
    assert_tampering_is_found(
        &with_data,
        &|pid| inside(pid, &["mount", "--make-shared", "/data"]),
        "V-10",
        "the mount at \"/data\" propagates: mounts made in it would be seen on the host",
    );
}

/// CVE-2025-52565: something else than the container's own terminal in the place of /dev/console.
#[test]
fn v_10_a_console_that_is_no_terminal_of_the_containers_is_found() {
    let with_terminal = |container: &mut Container<'_>| {
        let path = container.bundle.join("console.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        // It keeps what it is sent: without a master the terminal would be hung up.
        std::thread::spawn(move || {
            let streams: Vec<_> = listener.incoming().take(1).collect();
            std::thread::sleep(std::time::Duration::from_secs(20));
            drop(streams);
        });
        container.config["process"]["terminal"] = json!(true);
        container.arguments = vec!["--console-socket".into(), path.into()];
    };
    assert_tampering_is_found(
        &with_terminal,
        &|pid| {
            let script = "umount /dev/console && mount -o bind /dev/null /dev/console";
            inside(pid, &["sh", "-c", script]);
        },
        "V-10",
        "what is mounted at \"/dev/console\" is no terminal of the container's own devpts",
    );
    assert_tampering_is_found(
        &with_terminal,
        &|pid| inside(pid, &["umount", "/dev/console"]),
        "V-10",
        "no terminal is mounted at \"/dev/console\"",
    );
}

#[test]
fn v_10_restrictions_that_were_never_set_are_found() {
    assert_lie_is_found(&with_data, &["mount_setattr"], "V-10", " is not ");
}

/// What a mount may look like and still be as it was judged: covered by a later one, reached through links of the
/// image, given twice, above and below masked paths.
#[test]
fn v_10_mounts_in_every_lawful_shape_are_as_they_were_judged() {
    let site = Site::new();
    assert_runs(&site, &|container| {
        let at = |name: &str| container.bundle.join(name);
        fs::create_dir_all(at("one/two")).unwrap();
        fs::create_dir_all(at("other")).unwrap();
        fs::write(at("file"), "").unwrap();
        symlink("/mnt", container.rootfs().join("link")).unwrap();
        let bind = |destination: &str, source: &str, option: &str| {
            json!({"destination": destination, "type": "bind", "source": at(source),
                "options": [option, "rprivate", "nosuid", "nodev"]})
        };
        let tmpfs = |destination: &str| json!({"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev"]});
        let more = [
            bind("/mnt", "one", "rbind"),
            bind("/mnt/two", "other", "bind"),
            tmpfs("/dev/shm"),
            bind("/link/two", "one", "bind"),
            bind("/etc/file", "file", "bind"),
            bind("/work/", "other", "rbind"),
            tmpfs("/work/./below"),
            bind("/work", "one", "rbind"),
            tmpfs("/opt/with space"),
            bind("/proc/uptime", "file", "bind"),
        ];
        edit_array(&mut container.config, "/mounts", |mounts| mounts.extend(more));
        edit_array(&mut container.config, "/linux/maskedPaths", |paths| {
            paths.extend([json!("/mnt/two"), json!("/proc/timer_list"), json!("/etc/file")]);
        });
        edit_array(&mut container.config, "/linux/readonlyPaths", |paths| {
            paths.extend([
                json!("/work"),
                json!("/mnt"),
                json!("/proc/sys/kernel"),
                json!("/proc/sys"),
            ]);
        });
        container.script("test -z \"$(ls /mnt/two)\"");
    });
}

#[test]
fn v_11_a_node_that_is_another_device_is_found() {
    assert_tampering_is_found(
        &plain,
        &|pid| {
            inside(
                pid,
                &["sh", "-c", "busybox rm /dev/null && mknod /dev/null c 1 5"],
            )
        },
        "V-11",
        "\"/dev/null\" is not the character device 1:3",
    );
    assert_tampering_is_found(
        &plain,
        &|pid| {
            inside(
                pid,
                &["sh", "-c", "busybox rm /dev/tty && busybox ln -s null /dev/tty"],
            )
        },
        "V-11",
        "\"/dev/tty\" is not the character device 5:0",
    );
    assert_tampering_is_found(
        &plain,
        &|pid| inside(pid, &["busybox", "rm", "/dev/full"]),
        "V-11",
        "\"/dev/full\" is not there",
    );
}

/// The host's own processes, in the place of the container's.
#[test]
fn v_11_a_procfs_of_another_pid_namespace_is_found() {
    assert_tampering_is_found(
        &|container| {
            container.config["linux"]["maskedPaths"] = json!([]);
            container.config["linux"]["readonlyPaths"] = json!([]);
            container.site.write_policy("profile = \"privileged\"");
        },
        &|pid| {
            let script = "umount -l /proc && mount -t proc -o nosuid,nodev,noexec none /proc";
            let mut command = Command::new("nsenter");
            command.args(["-t", &pid.to_string(), "-m", "/bin/busybox", "sh", "-c", script]);
            run(&mut command, &std::env::temp_dir()).ok();
        },
        "V-11",
        "/proc ",
    );
}

#[test]
fn v_12_a_root_that_was_only_changed_is_found() {
    // MS_MOVE: the root is to be moved to the top of the mount namespace, and then entered.
    assert_lie_is_found(
        &|container| container.arguments = vec!["--no-pivot".into()],
        &["mount:3&8192=8192"],
        "V-12",
        "the root is not that of the mount namespace",
    );
}

#[test]
fn v_12_a_directory_of_the_host_that_is_handed_on_is_found() {
    let site = Site::new();
    let caller = |container: &mut Container<'_>, file: &str| {
        container.arguments = ["--preserve-fds", "1"].map(Into::into).to_vec();
        let open = format!("exec 3<{file}; exec \"$@\"");
        container.caller = ["sh", "-c", &open, "sh"].map(Into::into).to_vec();
    };
    let mut container = site.container();
    caller(&mut container, "/etc");
    let answer = container.run();
    assert_mismatch(
        &container,
        "run",
        &answer,
        "V-12",
        "descriptor 3 is a directory outside of the container",
    );
    container.assert_gone();
    let mut container = site.container();
    caller(&mut container, "/etc/hostname");
    container.run().ok();
    assert!(container.ran());
}

/// The directory of a container's cgroup in a hierarchy of version 1, or the only one.
fn cgroup(id: &str, controller: &str) -> std::path::PathBuf {
    let unified = std::path::PathBuf::from("/sys/fs/cgroup").join(id);
    let first = std::path::Path::new("/sys/fs/cgroup").join(controller).join(id);
    if first.is_dir() { first } else { unified }
}

fn id_of(pid: i32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = text.lines().find_map(|line| line.rsplit_once("/e2e-")).unwrap().1;
    format!("e2e-{path}")
}

#[test]
fn v_14_a_process_that_left_its_cgroup_is_found() {
    assert_tampering_is_found(
        &plain,
        &|pid| {
            let above = cgroup(&id_of(pid), "memory");
            let above = above.parent().unwrap();
            fs::write(above.join("cgroup.procs"), pid.to_string()).unwrap();
        },
        "V-14",
        "the process is not in the cgroup ",
    );
}

#[test]
fn v_14_a_limit_that_was_changed_is_found() {
    if !gabion_integration::limits_processes() {
        gabion_integration::skip("this host has no controller that limits processes");
        return;
    }
    assert_tampering_is_found(
        &|container| container.config["linux"]["resources"]["pids"] = json!({"limit": 64}),
        &|pid| fs::write(cgroup(&id_of(pid), "pids").join("pids.max"), "max").unwrap(),
        "V-14",
        "config.json#/linux/resources/pids/limit is 64, and the cgroup's is max",
    );
}

#[test]
fn v_14_a_device_that_was_not_judged_is_found() {
    if !std::path::Path::new("/sys/fs/cgroup/devices").is_dir() {
        gabion_integration::skip("version 2 keeps no list of devices that could be changed");
        return;
    }
    assert_tampering_is_found(
        &plain,
        &|pid| {
            let list = cgroup(&id_of(pid), "devices").join("devices.allow");
            fs::write(list, "c 10:200 rw").unwrap();
        },
        "V-14",
        "the devices \"c 10:200 rw\" may be used, which was not judged",
    );
}

#[test]
fn v_15_a_kernel_parameter_that_was_changed_is_found() {
    assert_tampering_is_found(
        &|container| {
            container.config["linux"]["sysctl"] = json!({
                "net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"
            });
        },
        &|pid| {
            let mut command = Command::new("nsenter");
            let script = "echo 80 > /proc/sys/net/ipv4/ip_unprivileged_port_start";
            command.args(["-t", &pid.to_string(), "-n", "sh", "-c", script]);
            run(&mut command, &std::env::temp_dir()).ok();
        },
        "V-15",
        "net.ipv4.ip_unprivileged_port_start is \"80\", not \"0\"",
    );
}

#[test]
fn v_17_a_session_keyring_of_the_callers_is_found() {
    // KEYCTL_JOIN_SESSION_KEYRING.
    assert_lie_is_found(&plain, &["keyctl:0=1"], "V-17", "the session keyring is ");
}

#[test]
fn v_20_an_execution_domain_of_the_callers_is_found() {
    let site = Site::new();
    // ADDR_NO_RANDOMIZE.
    let caller = |container: &mut Container<'_>, lies: &[&str]| {
        if !lies.is_empty() {
            lied_to(container, lies);
        }
        container.caller.splice(0..0, ["setarch", "-R"].map(Into::into));
    };
    let mut container = site.container();
    caller(&mut container, &["personality:0=0"]);
    let answer = container.run();
    assert_mismatch(&container, "run", &answer, "V-20", "the personality is ");
    container.assert_gone();
    let mut container = site.container();
    caller(&mut container, &[]);
    container.script("cat /proc/self/personality > /tmp/personality");
    container.run().ok();
    assert_eq!(container.file("tmp/personality"), "00000000\n");
}

#[test]
fn v_13_a_descriptor_that_would_stay_open_is_found() {
    let site = Site::new();
    // The caller has /etc open as descriptor 9, and nothing closes it at execve.
    let caller = |container: &mut Container<'_>, lies: &[&str]| {
        lied_to(container, lies);
        let shell = ["sh", "-c", "exec 9</etc; exec \"$@\"", "sh"].map(Into::into);
        container.caller.splice(0..0, shell);
    };
    let mut container = site.container();
    caller(&mut container, &["close_range"]);
    let answer = container.run();
    assert_mismatch(
        &container,
        "run",
        &answer,
        "V-13",
        " would stay open in the program",
    );
    container.assert_gone();
    let mut container = site.container();
    caller(&mut container, &["close_range"]);
    container.create().ok();
    let answer = container.start();
    assert_mismatch(
        &container,
        "start",
        &answer,
        "V-13",
        " would stay open in the program",
    );

    let mut container = site.container();
    caller(&mut container, &[]);
    container.script("ls /proc/self/fd > /tmp/descriptors");
    container.run().ok();
    // 3 is the listing's own.
    assert_eq!(container.file("tmp/descriptors"), "0\n1\n2\n3\n");
}

#[test]
fn v_16_a_limit_that_was_changed_is_found() {
    assert_tampering_is_found(
        &plain,
        &|pid| {
            let pid = pid.to_string();
            let mut command = Command::new("prlimit");
            run(
                command.args(["--pid", &pid, "--nofile=512:512"]),
                &std::env::temp_dir(),
            )
            .ok();
        },
        "V-16",
        "RLIMIT_NOFILE is 512 (hard 512), not 1024 (hard 1024)",
    );
}

#[test]
fn v_16_limits_that_were_never_set_are_found() {
    assert_lie_is_found(&plain, &["prlimit64"], "V-16", "not 1024 (hard 1024)");
}

#[test]
fn v_16_another_scheduling_is_found() {
    let tool = |program: &'static str, arguments: &'static [&'static str]| {
        move |pid: i32| {
            let mut command = Command::new(program);
            command.args(arguments).arg(pid.to_string());
            run(&mut command, &std::env::temp_dir()).ok();
        }
    };
    assert_tampering_is_found(
        &|container| container.config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 3}),
        &tool("chrt", &["-o", "-p", "0"]),
        "V-16",
        "the scheduler's policy is 0 (nice 3, priority 0), not 3 (nice 3, priority 0)",
    );
    assert_tampering_is_found(
        &|container| container.config["process"]["scheduler"] = json!({"policy": "SCHED_OTHER", "nice": 5}),
        &tool("renice", &["-n", "2", "-p"]),
        "V-16",
        "the scheduler's policy is 0 (nice 2, priority 0), not 0 (nice 5, priority 0)",
    );
    assert_tampering_is_found(
        &|container| {
            container.config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
        },
        &tool("ionice", &["-c", "2", "-n", "0", "-p"]),
        "V-16",
        "the class of input and output is 2 (level 0), not 2 (level 6)",
    );
}

#[test]
fn v_16_processors_that_were_not_judged_are_found() {
    let all = fs::read_to_string("/sys/fs/cgroup/cpuset/cpuset.cpus").unwrap_or_default();
    if !all.trim().starts_with("0-") {
        gabion_integration::skip("this host has no controller of version 1 for several processors");
        return;
    }
    let change =
        |pid: i32, cpus: &str| fs::write(cgroup(&id_of(pid), "cpuset").join("cpuset.cpus"), cpus).unwrap();
    assert_tampering_is_found(
        &|container| container.config["linux"]["resources"]["cpu"] = json!({"cpus": "0"}),
        &|pid| change(pid, all.trim()),
        "V-16",
        "and 1 is none of {0}",
    );
    // Those that were judged may become fewer.
    let site = Site::new();
    let mut container = site.container();
    container.config["linux"]["resources"]["cpu"] = json!({"cpus": "0-1", "mems": "0"});
    container.script("grep Cpus_allowed_list /proc/self/status > /tmp/cpus");
    container.create().ok();
    change(container.pid(), "1");
    container.start().ok();
    container.wait_until_stopped();
    assert_eq!(container.file("tmp/cpus"), "Cpus_allowed_list:\t1\n");
}

#[test]
fn v_16_another_out_of_memory_score_is_found() {
    assert_tampering_is_found(
        &|container| container.config["process"]["oomScoreAdj"] = json!(100),
        &|pid| fs::write(format!("/proc/{pid}/oom_score_adj"), "300").unwrap(),
        "V-16",
        "oom_score_adj is 300, not 100",
    );
}

/// The entry point was honest when the container was created.
#[test]
fn v_19_an_entry_point_that_was_exchanged_since_is_found() {
    let entry = |container: &mut Container<'_>| {
        symlink("busybox", container.rootfs().join("bin/entry")).unwrap();
        container.config["process"]["args"] = json!(["/bin/sh", "-c", "echo ran > /tmp/ran"]);
    };
    assert_tampering_is_found(
        &entry,
        &|pid| inside(pid, &["sh", "-c", "busybox ln -sf /proc/self/exe /bin/sh"]),
        "V-19",
        "\"/bin/sh\" leads into /proc",
    );
}

/// CVE-2019-5736: an entry point that leads to the runtime's own program. Judgement finds what is there then; V-19 finds
/// it afterwards, as above.
#[test]
fn v_19_a_program_that_is_the_runtime_itself_is_not_executed() {
    let site = Site::new();
    let direct = |container: &mut Container<'_>| {
        container.config["process"]["args"] = json!(["/proc/self/exe", "--version"])
    };
    let by_link = |container: &mut Container<'_>| {
        symlink("/proc/self/exe", container.rootfs().join("bin/entry")).unwrap();
        container.config["process"]["args"] = json!(["/bin/entry", "--version"]);
    };
    let by_path = |container: &mut Container<'_>| {
        symlink("/proc/self/exe", container.rootfs().join("bin/entry")).unwrap();
        container.config["process"]["args"] = json!(["entry", "--version"]);
    };
    let setups: [&dyn Fn(&mut Container<'_>); 3] = [&direct, &by_link, &by_path];
    for setup in setups {
        let mut container = site.container();
        setup(&mut container);
        let answer = container.run();
        assert_eq!((answer.status, answer.stdout.as_str()), (1, ""), "{answer:?}");
        assert!(
            answer.stderr.contains("PRV-10 config.json#/process/args/0: "),
            "{answer:?}"
        );
        container.assert_gone();
        let answer = container.create();
        assert_eq!(answer.status, 1, "{answer:?}");
        assert!(
            answer.stderr.contains("PRV-10 config.json#/process/args/0: "),
            "{answer:?}"
        );
        container.assert_gone();
    }
    let mut container = site.container();
    symlink("/bin/busybox", container.rootfs().join("bin/entry")).unwrap();
    container.config["process"]["args"] = json!(["/bin/entry", "true"]);
    // busybox goes by the name it is called by, and knows no applet of this one.
    assert_eq!(container.run().status, 127);
}

/// A hook runs as root in the container's mount namespace, after the mounts and before the masks.
#[test]
fn a_hook_that_changes_what_was_judged_is_found() {
    let site = Site::new();
    site.write_policy("[[allow.hooks]]\npoint = \"createContainer\"\npath = \"/usr/bin/mount\"\n");
    let hook = |container: &mut Container<'_>, covered: &str| {
        let path = container.rootfs().join(covered);
        container.config["hooks"] = json!({"createContainer": [
            {"path": "/usr/bin/mount", "args": ["mount", "-t", "tmpfs", "none", path]}
        ]});
    };
    let mut container = site.container();
    hook(&mut container, "proc/sys");
    let answer = container.run();
    assert_mismatch(
        &container,
        "run",
        &answer,
        "V-09",
        "\"/proc/sys\" is not on a procfs",
    );
    container.assert_gone();
    let mut container = site.container();
    hook(&mut container, "proc/sys");
    container.create().ok();
    let answer = container.start();
    assert_mismatch(
        &container,
        "start",
        &answer,
        "V-09",
        "\"/proc/sys\" is not on a procfs",
    );

    let mut container = site.container();
    hook(&mut container, "mnt");
    let answer = container.run();
    assert_mismatch(
        &container,
        "run",
        &answer,
        "V-10",
        "a tmpfs that was not judged is mounted at \"/mnt\"",
    );

    // A hook that mounts nothing is none of this.
    let mut container = site.container();
    let path = container.rootfs().join("mnt");
    container.config["hooks"] = json!({"createContainer": [
        {"path": "/usr/bin/mount", "args": ["mount", "--help"]}, {"path": "/usr/bin/mount", "args": ["mount", "-V", path]}
    ]});
    container.run().ok();
    assert!(container.ran());
}
