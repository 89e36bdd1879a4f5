//! What callers of other runtimes rely on, and would notice the lack of.

#![allow(clippy::unwrap_used, clippy::panic)] // a test file, its functions beside the tests included

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use gabion_integration::{Container, Site, edit_array, gabion, run, skip, wait_until};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::json;

/// What a script prints in a further process.
#[track_caller]
fn printed(container: &Container<'_>, flags: &[&str], script: &str) -> String {
    let words = [&["exec"], flags, &[&container.id, "sh", "-c", script]].concat();
    container.site.gabion(&words).ok().stdout
}

/// A process in namespaces of its own, for a container to join them; ended when it is dropped.
struct Holder(std::process::Child);

impl Holder {
    fn new(namespaces: &[&str]) -> Self {
        let holder = Command::new("unshare")
            .args(namespaces)
            .args(["sleep", "600"])
            // Nobody is to wait for the end of its output.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Holder(holder.unwrap())
    }

    /// A file of its directory in /proc.
    fn path(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.0.id())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[track_caller]
fn start(container: &Container<'_>) {
    container.create().ok();
    container.start().ok();
    container.wait_for("tmp/ran", "ran");
}

#[test]
fn of_a_variable_that_is_there_twice_the_program_gets_the_last() {
    let site = Site::new();
    let mut container = site.container();
    container.config["process"]["env"] = json!(["ONE=1", "HOME=/x", "PATH=/bin", "ONE=2", "HOME="]);
    // No shell in between, which would add variables of its own.
    container.config["process"]["args"] = json!(["/bin/busybox", "sleep", "600"]);
    container.create().ok();
    container.start().ok();
    // An empty HOME is none, and comes from the image's passwd file, which is not there.
    let script = "tr '\\0' '\\n' < /proc/1/environ; tr '\\0' '\\n' < /proc/$$/environ; true";
    let seen = printed(&container, &["-e", "ONE=3"], script);
    assert!(
        seen.starts_with("PATH=/bin\nONE=2\nHOME=/\n") && seen.ends_with("PATH=/bin\nONE=3\nHOME=/\n"),
        "{seen}"
    );
}

#[test]
fn a_further_process_is_scheduled_as_the_containers_own() {
    let site = Site::new();
    let mut container = site.container();
    container.config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
    container.config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH"});
    container.config["process"]["execCPUAffinity"] = json!({"final": "0"});
    container.script("exec sleep 600");
    start(&container);
    let script = "busybox ionice; cut -d ' ' -f 41 /proc/self/stat; grep Cpus_allowed_list /proc/self/status";
    assert_eq!(
        printed(&container, &[], script),
        "best-effort: prio 6\n3\nCpus_allowed_list:\t0\n"
    );
    // A process file without them says nothing of them either.
    let file = site.path().join("process.json");
    let process = json!({"cwd": "/", "user": {"uid": 0, "gid": 0}, "capabilities": {}, "env": ["PATH=/bin"],
        "noNewPrivileges": true, "args": ["busybox", "ionice"]});
    fs::write(&file, process.to_string()).unwrap();
    let words = ["exec", "--process", file.to_str().unwrap(), &container.id];
    assert_eq!(site.gabion(&words).ok().stdout, "best-effort: prio 6\n");
}

#[test]
fn the_processors_of_the_caller_are_not_the_containers() {
    let site = Site::new();
    let mut container = site.container();
    container.script("grep Cpus_allowed_list /proc/self/status > /tmp/processors; exec sleep 600");
    let own = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let number = (0..CpuSet::count()).find(|&number| own.is_set(number) == Ok(true));
    let mut one = CpuSet::new();
    one.set(number.unwrap()).unwrap();
    // Of this thread alone, and of what it starts.
    sched_setaffinity(Pid::from_raw(0), &one).unwrap();
    start(&container);
    let of_process = printed(&container, &[], "grep Cpus_allowed_list /proc/self/status");
    sched_setaffinity(Pid::from_raw(0), &own).unwrap();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let all = status
        .lines()
        .find(|line| line.starts_with("Cpus_allowed_list"))
        .unwrap();
    container.wait_for("tmp/processors", "Cpus");
    assert_eq!(container.file("tmp/processors").trim(), all);
    assert_eq!(of_process.trim(), all);
}

#[test]
fn a_kernel_parameter_that_is_not_there_is_named() {
    let site = Site::new();
    let mut container = site.container();
    container.config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1", "net.ipv4.conformance": "1"});
    let answer = container.create();
    assert!(
        answer.status == 1
            && answer
                .stderr
                .contains("this kernel has no \"net.ipv4.conformance\""),
        "{answer:?}"
    );
    container.assert_gone();
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    let site = Site::new();
    let mut container = site.container();
    by_privileged(&mut container);
    container.config["linux"]["netDevices"] = json!({"conformance0": {}});
    let answer = container.create();
    assert!(
        answer.status == 1
            && answer
                .stderr
                .contains("this host has no interface \"conformance0\""),
        "{answer:?}"
    );
    container.assert_gone();
}

#[test]
fn a_domain_name_that_is_asked_for_in_two_ways_is_an_error() {
    let site = Site::new();
    let mut container = site.container();
    container.config["domainname"] = json!("one.example");
    for parameter in ["kernel.domainname", "kernel/domainname"] {
        container.config["linux"]["sysctl"] = json!({parameter: "other.example"});
        let answer = container.create();
        let wanted = "is \"other.example\", and the property domainname is \"one.example\"";
        assert!(answer.status == 1 && answer.stderr.contains(wanted), "{answer:?}");
        container.assert_gone();
    }
    // Twice the same is no contradiction.
    container.config["linux"]["sysctl"] = json!({"kernel.domainname": "one.example"});
    container.script("cat /proc/sys/kernel/domainname > /tmp/name");
    container.run().ok();
    assert_eq!(container.file("tmp/name"), "one.example\n");
}

#[test]
fn a_user_namespace_without_root_is_named() {
    let site = Site::new();
    let mut container = site.container();
    by_privileged(&mut container);
    edit_array(&mut container.config, "/linux/namespaces", |entries| {
        entries.push(json!({"type": "user"}));
    });
    let mapping = json!([{"containerID": 1000, "hostID": 100_000, "size": 1}]);
    container.config["linux"]["uidMappings"] = mapping.clone();
    container.config["linux"]["gidMappings"] = mapping;
    let answer = container.create();
    assert!(
        answer.status == 1
            && answer
                .stderr
                .contains("config.json#/linux/uidMappings: nothing is mapped to 0"),
        "{answer:?}"
    );
    container.assert_gone();
}

#[test]
fn a_container_whose_poststart_hook_fails_is_gone() {
    let site = Site::new();
    let mut container = site.container();
    by_privileged(&mut container);
    container.script("while :; do sleep 0.05; done");
    let mark = site.path().join("mark");
    let hook = |script: &str| json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}]);
    container.config["hooks"] = json!({
        "poststart": hook("exit 3"),
        "poststop": hook(&format!("cat > {}", mark.display()))
    });
    container.create().ok();
    let answer = container.start();
    assert!(
        answer.status == 1 && answer.stderr.contains("error running poststart hook #0"),
        "{answer:?}"
    );
    container.assert_gone();
    let state: serde_json::Value = serde_json::from_str(&fs::read_to_string(&mark).unwrap()).unwrap();
    assert_eq!(
        (&state["id"], &state["status"]),
        (&json!(container.id), &json!("stopped"))
    );
}

#[test]
fn an_interface_keeps_the_broadcast_address_that_it_had() {
    let site = Site::new();
    let mut container = site.container();
    by_privileged(&mut container);
    container.config["linux"]["netDevices"] = json!({
        "outer0": {"name": "with0"},
        "outer1": {"name": "without0"}
    });
    container.script("for i in with0 without0; do ip addr show $i | grep 'inet '; done > /tmp/addresses");
    container.write();
    // In a network namespace of its own, so that the host's interfaces are left alone.
    let script = "ip link add outer0 type veth peer name outer1 || exit 77
        ip addr add 10.77.0.3/24 brd 10.77.0.254 dev outer0 && ip addr add 10.78.0.3/24 dev outer1 && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", script, "sh"]);
    command.arg(gabion()).arg("--root").arg(site.root());
    command.arg("--policy").arg(site.policy());
    command.args(["--profile", "privileged", "run", "--bundle"]);
    command.arg(&container.bundle).arg(&container.id);
    let answer = run(&mut command, site.path());
    if answer.status == 77 {
        return skip("no veth interface can be made here");
    }
    answer.ok();
    let addresses = container.file("tmp/addresses");
    let lines: Vec<&str> = addresses.lines().map(str::trim).collect();
    assert!(
        lines.len() == 2
            && lines[0].contains("10.77.0.3/24 brd 10.77.0.254 ")
            && lines[1].contains("10.78.0.3/24 ")
            && !lines[1].contains(" brd "),
        "{addresses}"
    );
}

#[test]
fn the_containers_hierarchies_lie_over_those_of_a_sys_that_is_bound() {
    let site = Site::new();
    let mut container = site.container();
    by_privileged(&mut container);
    // As Podman has it without a network namespace of the container's own.
    edit_array(&mut container.config, "/linux/namespaces", |entries| {
        entries.retain(|entry| entry["type"] != "network");
    });
    edit_array(&mut container.config, "/mounts", |mounts| {
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/sys"));
        let restricted = ["rprivate", "nosuid", "noexec", "nodev", "ro"];
        let bound = [&restricted[..], &["rbind"]].concat();
        mounts.push(json!({"destination": "/sys", "type": "bind", "source": "/sys", "options": bound}));
        mounts.push(
            json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": restricted}),
        );
    });
    container.run().ok();
    assert!(container.ran());
}

#[test]
fn a_caller_that_is_nice_can_have_an_idle_container() {
    let site = Site::new();
    let mut container = site.container();
    container.config["process"]["scheduler"] = json!({"policy": "SCHED_IDLE"});
    container.write();
    let mut command = Command::new("nice");
    command
        .args(["-n", "7"])
        .arg(gabion())
        .arg("--root")
        .arg(site.root());
    command.arg("--policy").arg(site.policy()).arg("run");
    command.arg("--bundle").arg(&container.bundle).arg(&container.id);
    run(&mut command, site.path()).ok();
    assert!(container.ran());
}

fn by_privileged(container: &mut Container<'_>) {
    container.arguments = vec!["--profile".into(), "privileged".into()];
}

#[test]
fn a_tmpfs_has_the_mode_of_the_directory_that_it_covers() {
    let site = Site::new();
    let mut container = site.container();
    fs::set_permissions(container.rootfs().join("root"), Permissions::from_mode(0o710)).unwrap();
    edit_array(&mut container.config, "/mounts", |list| {
        list.push(json!({"destination": "/root", "type": "tmpfs", "source": "tmpfs"}));
        list.push(
            json!({"destination": "/work", "type": "tmpfs", "source": "tmpfs", "options": ["mode=0705"]}),
        );
        list.push(json!({"destination": "/new", "type": "tmpfs", "source": "tmpfs", "options": []}));
    });
    container.script("busybox stat -c %a /root /work /new > /tmp/modes");
    container.run().ok();
    assert_eq!(container.file("tmp/modes"), "710\n705\n1777\n");
}

#[test]
fn a_link_of_the_image_that_leads_nowhere_leads_into_the_image() {
    let site = Site::new();
    let mut container = site.container();
    let outside = site.path().join("outside");
    let volume = site.path().join("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("file"), "of the host").unwrap();
    symlink(
        "../run/resolve/stub.conf",
        container.rootfs().join("etc/resolv.conf"),
    )
    .unwrap();
    symlink(&outside, container.rootfs().join("data")).unwrap();
    edit_array(&mut container.config, "/mounts", |list| {
        list.push(
            json!({"destination": "/etc/resolv.conf", "type": "bind", "source": volume.join("file"),
            "options": ["bind", "ro"]}),
        );
        list.push(json!({"destination": "/data", "type": "bind", "source": volume, "options": ["bind"]}));
    });
    container.script("cat /etc/resolv.conf /run/resolve/stub.conf /data/file > /tmp/seen");
    container.run().ok();
    assert_eq!(container.file("tmp/seen"), "of the host".repeat(3));
    assert!(!outside.exists());
}

#[test]
fn the_hosts_dev_can_be_bound_and_stays_as_it_is() {
    let names = || {
        let entries = fs::read_dir("/dev").unwrap();
        entries
            .map(|entry| entry.unwrap().file_name())
            .collect::<BTreeSet<_>>()
    };
    let before = names();
    let dev =
        json!({"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind", "rprivate"]});
    for in_place in [true, false] {
        let site = Site::new();
        let mut container = site.container();
        by_privileged(&mut container);
        edit_array(&mut container.config, "/mounts", |list| {
            // Where this host has no such directory, it would be made.
            list.retain(|mount| mount["destination"] != "/dev/mqueue");
            // In place of the container's own, with mounts upon it; and over all of them.
            match list.iter_mut().find(|mount| mount["destination"] == "/dev") {
                Some(own) if in_place => *own = dev.clone(),
                _ => list.push(dev.clone()),
            }
        });
        container
            .script("ls /dev > /tmp/names; grep -c ' /dev/pts ' /proc/mounts > /tmp/pts; echo yes > /tmp/done; exec sleep 600");
        start(&container);
        container.wait_for("tmp/done", "yes");
        let seen: BTreeSet<OsString> = container.file("tmp/names").lines().map(OsString::from).collect();
        assert_eq!(seen, before);
        // Its devices are the host's, and those that the cgroup gives it.
        assert_eq!(printed(&container, &[], "echo > /dev/null && echo yes"), "yes\n");
        assert_ne!(container.file("tmp/pts").trim(), "0");
        site.gabion(&["verify", &container.id]).ok();
        site.gabion(&["delete", "--force", &container.id]).ok();
        container.assert_gone();
    }
    assert_eq!(names(), before);
}

#[test]
fn a_bind_mount_with_options_is_no_more_restricted_than_they_say_unless_the_policy_keeps_it() {
    for (profile, host, options, in_user_namespace, expected) in [
        ("privileged", "ro,noexec", "rw", false, Ok("rw")),
        ("privileged", "ro,noexec", "nosuid", false, Ok("rw,nosuid")),
        ("privileged", "nodev,noatime", "ro,exec", false, Ok("ro,noatime")),
        (
            "privileged",
            "noatime",
            "nodiratime",
            false,
            Ok("rw,nodiratime,relatime"),
        ),
        // Without a word of this kind it is as its source.
        ("privileged", "ro,noexec", "rprivate", false, Ok("ro,noexec")),
        ("privileged", "ro,noexec", "nosuid", true, Ok("ro,nosuid,noexec")),
        (
            "privileged",
            "ro,noexec",
            "rw",
            true,
            Err("#/mounts/7/options: rw cannot be had"),
        ),
        ("privileged", "ro,noexec", "rrw", false, Ok("rw,noexec")),
        (
            "baseline",
            "ro,noexec",
            "rrw",
            false,
            Ok("ro,nosuid,nodev,noexec"),
        ),
        ("baseline", "ro,noexec", "rw", false, Ok("ro,nosuid,nodev,noexec")),
        (
            "baseline",
            "ro,noexec",
            "rprivate",
            false,
            Ok("ro,nosuid,nodev,noexec"),
        ),
    ] {
        let site = Site::new();
        let mut container = site.container();
        container.arguments = vec!["--profile".into(), profile.into()];
        let source = site.path().join("volume");
        fs::create_dir(&source).unwrap();
        fs::create_dir(container.rootfs().join("volume")).unwrap();
        edit_array(&mut container.config, "/mounts", |mounts| {
            let options: Vec<&str> = ["bind"].into_iter().chain(options.split(',')).collect();
            mounts.push(
                json!({"destination": "/volume", "type": "bind", "source": source, "options": options}),
            );
        });
        if in_user_namespace {
            edit_array(&mut container.config, "/linux/namespaces", |namespaces| {
                namespaces.push(json!({"type": "user"}));
            });
            for ids in ["uidMappings", "gidMappings"] {
                container.config["linux"][ids] =
                    json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
            }
        }
        container.config["process"]["args"] = json!([
            "/bin/busybox",
            "awk",
            "$2 == \"/volume\" { print $4 }",
            "/proc/self/mounts"
        ]);
        // The mount is there for the caller alone. Its attributes are its own, not its file system's.
        let script = format!(
            "mount -t tmpfs -o strictatime none '{0}'; mount -o remount,bind,{host} '{0}'; exec \"$@\"",
            source.display()
        );
        container.caller = [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-ec",
            &script,
            "sh",
        ]
        .map(OsString::from)
        .to_vec();
        let answer = container.run();
        match expected {
            Ok(found) => assert_eq!(answer.ok().stdout.trim(), found, "{profile} {host} {options}"),
            Err(words) => assert!(answer.status == 1 && answer.stderr.contains(words), "{answer:?}"),
        }
    }
}

#[test]
fn an_image_without_a_mount_at_dev_keeps_its_own_nodes() {
    let site = Site::new();
    let mut container = site.container();
    by_privileged(&mut container);
    edit_array(&mut container.config, "/mounts", |list| {
        list.retain(|mount| mount["destination"] != "/dev" && mount["destination"] != "/dev/mqueue");
    });
    let dev = container.rootfs().join("dev");
    symlink("/proc/self/fd", dev.join("fd")).unwrap();
    let number = nix::sys::stat::makedev(1, 3);
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
    nix::sys::stat::mknod(&dev.join("null"), nix::sys::stat::SFlag::S_IFCHR, mode, number).unwrap();
    fs::write(dev.join("own"), "the image's").unwrap();
    container.script(
        "ls /dev > /tmp/names; cat /dev/own > /tmp/own; echo > /dev/null; busybox head -c 2 /dev/zero > /tmp/zeros; \
         grep -c ' /dev/pts devpts' /proc/mounts > /tmp/pts",
    );
    container.run().ok();
    assert_eq!(container.file("tmp/own"), "the image's");
    assert_eq!(container.file("tmp/zeros"), "\0\0");
    assert_eq!(container.file("tmp/pts"), "1\n");
    for name in [
        "fd", "full", "null", "own", "ptmx", "pts", "random", "stdin", "tty", "urandom", "zero",
    ] {
        assert!(
            container.file("tmp/names").lines().any(|line| line == name),
            "{name}"
        );
    }

    // What is called a null device and is none is not covered up.
    fs::remove_file(dev.join("null")).unwrap();
    fs::write(dev.join("null"), "").unwrap();
    fs::remove_file(container.rootfs().join("tmp/ran")).unwrap();
    let answer = container.run();
    assert!(answer.status == 1 && answer.stderr.contains("V-11"), "{answer:?}");
    assert!(!container.ran());
}

#[test]
fn a_source_that_root_of_the_user_namespace_cannot_reach_is_mounted_as_it_was_judged() {
    let site = Site::new();
    let mut container = site.container();
    // Its cgroup is gabion's to choose, too.
    container.config["linux"]
        .as_object_mut()
        .unwrap()
        .remove("cgroupsPath");
    let mapping = json!([{"containerID": 0, "hostID": 1_000_000, "size": 65536}]);
    container.config["linux"]["uidMappings"] = mapping.clone();
    container.config["linux"]["gidMappings"] = mapping;
    edit_array(&mut container.config, "/linux/namespaces", |list| {
        list.push(json!({"type": "user"}));
    });
    // All the way to the root file system is open, as an engine has it; the way to the volume is not.
    for directory in container
        .rootfs()
        .ancestors()
        .filter(|path| path.starts_with("/tmp/"))
    {
        fs::set_permissions(directory, Permissions::from_mode(0o755)).unwrap();
    }
    fs::set_permissions(container.rootfs().join("tmp"), Permissions::from_mode(0o777)).unwrap();
    chown(container.rootfs(), Some(1_000_000), Some(1_000_000)).unwrap();
    let volume = site.path().join("closed/volume");
    fs::create_dir_all(&volume).unwrap();
    fs::write(volume.join("file"), "reached").unwrap();
    fs::set_permissions(site.path().join("closed"), Permissions::from_mode(0o700)).unwrap();
    edit_array(&mut container.config, "/mounts", |list| {
        list.push(
            json!({"destination": "/mnt", "type": "bind", "source": volume, "options": ["rbind", "ro"]}),
        );
    });
    container.script("cat /mnt/file > /tmp/seen; touch /mnt/new || echo no > /tmp/written; exec sleep 600");
    start(&container);
    container.wait_for("tmp/written", "no");
    assert_eq!(container.file("tmp/seen"), "reached");
    site.gabion(&["verify", &container.id]).ok();
}

#[test]
fn a_bundle_without_capabilities_does_not_have_them_all() {
    let site = Site::new();
    let mut container = site.container();
    container.config["process"]
        .as_object_mut()
        .unwrap()
        .remove("capabilities");
    container.script("grep Cap /proc/self/status > /tmp/capabilities");
    container.run().ok();
    let seen = container.file("tmp/capabilities");
    let set = |name: &str| {
        let line = seen.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    // Those of an ordinary container, as Docker has them.
    for name in ["CapBnd:", "CapPrm:", "CapEff:"] {
        assert_eq!(set(name) & !0xa804_25fb, 0, "{name} {seen}");
    }
    assert_eq!((set("CapInh:"), set("CapAmb:")), (0, 0));
}

#[test]
fn a_label_that_nobody_would_enforce_is_an_error() {
    let active = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    let labels = [
        ("apparmor", "apparmorProfile", "docker-default"),
        (
            "selinux",
            "selinuxLabel",
            "system_u:system_r:container_t:s0:c1,c2",
        ),
    ];
    // What is active is verified instead (V-06), and has tests where it is.
    let inactive = labels
        .iter()
        .filter(|(module, ..)| !active.split(',').any(|name| name == *module));
    let site = Site::new();
    let mut tried = 0;
    for (_, property, label) in inactive {
        let mut container = site.container();
        container.config["process"][property] = json!(label);
        let answer = container.create();
        assert!(
            answer.status == 1 && answer.stderr.contains("is not active on this host"),
            "{answer:?}"
        );
        container.assert_gone();
        tried += 1;
    }
    assert!(tried > 0, "no kernel has both of them active");
}

#[test]
fn a_signal_that_ends_nothing_leaves_a_created_container_to_be_started() {
    let site = Site::new();
    let mut container = site.container();
    container.script("exec sleep 600");
    container.create().ok();
    for signal in ["0", "CONT", "USR1", "WINCH"] {
        container.kill(signal).ok();
        assert_eq!(container.state()["status"], "created", "{signal}");
    }
    container.start().ok();
    container.wait_for("tmp/ran", "ran");
    assert_eq!(container.state()["status"], "running");
}

#[test]
fn a_created_container_ends_when_it_is_asked_to() {
    let site = Site::new();
    for (signal, ignored) in [
        ("HUP", false),
        ("INT", false),
        ("QUIT", false),
        ("TERM", false),
        ("HUP", true),
    ] {
        let mut container = site.container();
        container.script("exec sleep 600");
        // Whoever runs this test may ignore some of them.
        let caller = match ignored {
            true => ["env", "--ignore-signal=HUP"],
            false => ["env", "--default-signal"],
        };
        container.caller = caller.map(OsString::from).to_vec();
        container.create().ok();
        container.kill(signal).ok();
        if ignored {
            assert_eq!(container.state()["status"], "created");
        } else {
            container.wait_until_stopped();
        }
        container.delete().ok();
    }
}

#[test]
fn a_user_namespace_that_denies_groups_can_be_joined_and_none_come_along() {
    let site = Site::new();
    let mut container = site.container();
    by_privileged(&mut container);
    // It maps root to root, and denies setgroups(2).
    let holder = Holder::new(&["--user", "--map-root-user"]);
    assert!(wait_until(|| {
        fs::read_to_string(holder.path("setgroups")).is_ok_and(|text| text.trim() == "deny")
    }));
    edit_array(&mut container.config, "/linux/namespaces", |list| {
        list.push(json!({"type": "user", "path": holder.path("ns/user")}));
    });
    // Version 2 cannot be mounted in a user namespace that does not own the cgroup namespace: it is bound.
    container.script(
        "ls /sys/fs/cgroup > /tmp/cgroups && grep Groups: /proc/self/status > /tmp/groups; exec sleep 600",
    );
    // The caller has groups.
    container.caller = ["setpriv", "--groups", "0,7,8"].map(OsString::from).to_vec();
    start(&container);
    container.wait_for("tmp/groups", "Groups:");
    assert_eq!(container.file("tmp/groups").trim(), "Groups:");
    assert_eq!(
        printed(&container, &[], "grep Groups: /proc/self/status").trim(),
        "Groups:"
    );
    let refused = site.gabion(&["exec", "-g", "7", &container.id, "true"]);
    assert_eq!(refused.status, 255, "{refused:?}");
}

#[test]
fn a_network_namespace_of_another_user_namespace_is_joined_with_one() {
    let site = Site::new();
    let mut container = site.container();
    by_privileged(&mut container);
    let user = Holder::new(&["--user", "--map-root-user"]);
    let network = Holder::new(&["--net"]);
    let identity = |path: String| fs::read_link(path).unwrap().display().to_string();
    for (holder, kind) in [(&user, "ns/user"), (&network, "ns/net")] {
        let own = identity(format!("/proc/self/{kind}"));
        assert!(wait_until(|| identity(holder.path(kind)) != own));
    }
    edit_array(&mut container.config, "/linux/namespaces", |list| {
        list.retain(|entry| entry["type"] != "network");
        list.push(json!({"type": "user", "path": user.path("ns/user")}));
        list.push(json!({"type": "network", "path": network.path("ns/net")}));
    });
    // A new sysfs is for the owner of the network namespace alone.
    edit_array(&mut container.config, "/mounts", |list| {
        list.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/sys"));
        list.push(
            json!({"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "rro"]}),
        );
    });
    let script = "for one in user net; do busybox readlink /proc/self/ns/$one; done";
    container.script(&format!("({script}) > /tmp/joined; exec sleep 600"));
    start(&container);
    let expected = [user.path("ns/user"), network.path("ns/net")]
        .map(|path| identity(path) + "\n")
        .concat();
    container.wait_for("tmp/joined", "net:");
    assert_eq!(container.file("tmp/joined"), expected);
    assert_eq!(printed(&container, &[], script), expected);
}

#[test]
fn lines_of_a_terminal_that_go_to_a_file_end_plainly() {
    let site = Site::new();
    let mut container = site.container();
    container.config["process"]["terminal"] = json!(true);
    container.script("echo one; echo two; test -t 1 && echo terminal");
    assert_eq!(container.run().ok().stdout, "one\ntwo\nterminal\n");

    let mut container = site.container();
    container.script("exec sleep 600");
    start(&container);
    // The first line is as plain as the last one.
    assert_eq!(
        printed(&container, &["--tty"], "echo one; test -t 1 && echo terminal"),
        "one\nterminal\n"
    );
}

#[test]
fn killing_ends_all_processes_without_a_pid_namespace_of_their_own() {
    let site = Site::new();
    let mut container = site.container();
    by_privileged(&mut container);
    edit_array(&mut container.config, "/linux/namespaces", |list| {
        list.retain(|entry| entry["type"] != "pid");
    });
    container.script("exec sleep 600");
    start(&container);
    let others = |count: usize| {
        wait_until(|| {
            let cgroups = gabion_integration::cgroups(&container.id);
            let text = cgroups
                .iter()
                .map(|path| fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default());
            let most = text.map(|text| text.lines().count()).max().unwrap_or(0);
            most == count
        })
    };
    // A signal that does not end it is for the first process alone.
    let further = ["exec", "--detach", &container.id, "sleep", "600"];
    site.gabion(&further).ok();
    assert!(others(2));
    container.kill("CONT").ok();
    container.kill("KILL").ok();
    container.wait_until_stopped();
    assert!(others(0), "a further process goes on");
    container.delete().ok();

    // Those that are left of a container whose first process is gone.
    let mut container = site.container();
    by_privileged(&mut container);
    edit_array(&mut container.config, "/linux/namespaces", |list| {
        list.retain(|entry| entry["type"] != "pid");
    });
    container.script("sleep 600 & echo begun > /tmp/begun");
    start(&container);
    container.wait_for("tmp/begun", "begun");
    container.wait_until_stopped();
    assert_eq!(container.kill("TERM").status, 1);
    container.kill("KILL").ok();
    assert!(wait_until(|| {
        let cgroups = gabion_integration::cgroups(&container.id);
        let mut text = cgroups
            .iter()
            .map(|path| fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default());
        text.all(|text| text.is_empty())
    }));
    // Now there is nobody to be killed.
    let answer = container.kill("KILL");
    assert!(
        answer.status == 1
            && answer
                .stderr
                .contains("cannot kill a container in the stopped state"),
        "{answer:?}"
    );
}

#[test]
fn an_ambient_capability_that_cannot_be_raised_is_named_in_the_log() {
    let site = Site::new();
    let mut container = site.container();
    by_privileged(&mut container);
    container.config["process"]["capabilities"]["inheritable"] = json!(["CAP_KILL"]);
    container.config["process"]["capabilities"]["ambient"] = json!(["CAP_KILL", "CAP_CHOWN"]);
    container.script("exec sleep 600");
    start(&container);
    let log = fs::read_to_string(site.log()).unwrap();
    assert!(
        log.contains("can't raise ambient capability CAP_CHOWN: ") && !log.contains("capability CAP_KILL"),
        "{log}"
    );
    let sets = printed(&container, &[], "grep CapAmb /proc/self/status");
    assert_eq!(sets, "CapAmb:\t0000000000000020\n");
}

/// Some callers tell an error by this word alone.
#[test]
fn an_error_says_that_it_is_one() {
    let site = Site::new();
    for (words, text) in [
        (&["kill", "", "9"][..], "invalid container ID format"),
        (&["kill", "nobody", "9"], "container does not exist"),
        (&["delete", "nobody"], "container does not exist"),
    ] {
        let answer = site.gabion(words);
        assert!(
            answer.status == 1 && answer.stderr.starts_with(&format!("gabion: error: {text}")),
            "{answer:?}"
        );
    }
}

#[test]
fn whether_a_further_process_has_a_terminal_is_for_its_file_to_say() {
    let site = Site::new();
    let mut container = site.container();
    container.script("exec sleep 600");
    start(&container);
    let file = site.path().join("process.json");
    let process = json!({"cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["PATH=/bin"],
        "args": ["sh", "-c", "test -t 1 && echo terminal || echo none"]});
    fs::write(&file, process.to_string()).unwrap();
    let words = [
        "exec",
        "--tty",
        "--process",
        file.to_str().unwrap(),
        &container.id,
    ];
    assert_eq!(site.gabion(&words).ok().stdout, "none\n");
}

#[test]
fn the_processors_that_a_further_process_begins_on_are_in_the_debug_log() {
    let site = Site::new();
    let mut container = site.container();
    container.config["process"]["execCPUAffinity"] = json!({"initial": "0"});
    container.script("exec sleep 600");
    start(&container);
    site.gabion(&["--debug", "exec", &container.id, "true"]).ok();
    let log = fs::read_to_string(site.log()).unwrap();
    assert!(
        log.contains("\"level\":\"debug\",\"msg\":\"affinity: 0x1\""),
        "{log}"
    );
}

#[test]
fn a_link_that_is_to_be_covered_is_an_error_of_create() {
    let site = Site::new();
    let mut container = site.container();
    symlink("../secret", container.rootfs().join("secret")).unwrap();
    symlink("/etc", container.rootfs().join("settings")).unwrap();
    let original = container.config.clone();
    for (list, path) in [
        ("maskedPaths", "/secret"),
        ("maskedPaths", "/settings"),
        ("readonlyPaths", "/settings"),
    ] {
        container.config = original.clone();
        by_privileged(&mut container);
        container.config["linux"][list] = json!([path]);
        let answer = container.create();
        let said = format!("config.json#/linux/{list}/0: {path:?} is a symbolic link in this image");
        assert!(answer.status == 1 && answer.stderr.contains(&said), "{answer:?}");
        container.assert_gone();
    }
    // What is not there needs no cover.
    container.config["linux"]["maskedPaths"] = json!(["/no/such"]);
    container.config["linux"]["readonlyPaths"] = json!(["/no/such"]);
    container.run().ok();
    assert!(container.ran());
}

#[test]
fn a_capability_that_is_none_is_left_out_with_a_warning_for_whoever_watches() {
    let site = Site::new();
    let mut container = site.container();
    by_privileged(&mut container);
    for set in ["bounding", "effective", "permitted"] {
        container.config["process"]["capabilities"][set] = json!(["CAP_KILL", "CAP_CONFORMANCE", "kill"]);
    }
    container.write();
    // Nobody asked for a file to log to.
    let mut command = Command::new(gabion());
    command.arg("--root").arg(site.root());
    command.arg("--policy").arg(site.policy());
    command.args(["--profile", "privileged", "run", "--bundle"]);
    command.arg(&container.bundle).arg(&container.id);
    let answer = run(&mut command, site.path()).ok();
    let warning =
        "level=warning msg=\"ignoring unknown or unavailable capabilities: [CAP_CONFORMANCE kill]: ";
    assert!(
        answer.stderr.contains(warning) && answer.stderr.lines().count() == 1,
        "{answer:?}"
    );
    assert!(container.ran());
}

#[test]
fn a_capability_that_is_inheritable_beyond_the_bounding_set_is_an_error_of_create() {
    let site = Site::new();
    let mut container = site.container();
    by_privileged(&mut container);
    let capabilities = &mut container.config["process"]["capabilities"];
    capabilities["inheritable"] = json!(["CAP_KILL", "CAP_SYS_ADMIN"]);
    for sets in [json!(["CAP_KILL"]), json!(null)] {
        container.config["process"]["capabilities"]["bounding"] = sets;
        let answer = container.create();
        assert!(
            answer.status == 1
                && answer
                    .stderr
                    .contains("config.json#/process/capabilities/inheritable: CAP_")
                && answer.stderr.contains(" is not in bounding, ")
                && answer.stderr.contains("operation not permitted"),
            "{answer:?}"
        );
        container.assert_gone();
    }
}

#[test]
fn the_callers_terminal_is_kept_from_a_container_that_has_none() {
    let site = Site::new();
    let kinds = "for n in 0 1 2; do test -t $n && echo $n:terminal; test -p /proc/self/fd/$n && echo $n:pipe; done; \
                 echo told >&2; read line; echo \"got $line\"; read line || echo end";
    let mut first = site.container();
    first.config["process"]["user"] = json!({"uid": 7, "gid": 7});
    first.config["process"]["args"] = json!(["/bin/sh", "-c", format!("{kinds}; exit 5")]);
    first.write();
    let mut second = site.container();
    second.script("exec sleep 600");
    start(&second);
    let gabion = format!(
        "{} --root {} --policy {}",
        gabion().display(),
        site.root().display(),
        site.policy().display()
    );
    for (line, status) in [
        (format!("run --bundle {} {}", first.bundle.display(), first.id), 5),
        (format!("exec --user 7 {} sh -c '{kinds}'", second.id), 0),
    ] {
        let file = site.path().join("line.sh");
        fs::write(
            &file,
            format!("{gabion} {line}\necho status $?\nstat -c 'owner %u' $(tty)\n"),
        )
        .unwrap();
        // Control-D, so that the terminal has an end.
        let script = format!(
            "(sleep 1; echo typed; sleep 1; printf '\\004'; sleep 1) | script -qec 'sh {}' /dev/null",
            file.display()
        );
        let answer = run(Command::new("sh").args(["-c", &script]), site.path());
        let lines: Vec<&str> = answer.stdout.lines().map(str::trim).collect();
        let mut wanted = vec![
            "0:pipe",
            "1:pipe",
            "2:pipe",
            "told",
            "got typed",
            "end",
            "owner 0",
        ];
        let status = format!("status {status}");
        wanted.push(&status);
        assert!(
            wanted.iter().all(|line| lines.contains(line)) && !answer.stdout.contains(":terminal"),
            "{line}: {answer:#?}"
        );
    }
}

#[test]
fn what_cannot_be_executed_is_said_as_ever() {
    let site = Site::new();
    let mut container = site.container();
    let program = container.rootfs().join("run.sh");
    fs::write(&program, "#!/no/such/shell\n").unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    container.config["process"]["args"] = json!(["/run.sh"]);
    let answer = container.run();
    assert!(
        answer.stderr.contains("exec /run.sh: no such file or directory"),
        "{answer:?}"
    );
    container.script("exec sleep 600");
    start(&container);
    let answer = site.gabion(&["exec", "--cgroup", "../..", &container.id, "true"]);
    assert!(
        answer.status == 255
            && answer
                .stderr
                .contains("bad sub cgroup path: ../.. is not a sub cgroup path"),
        "{answer:?}"
    );
}

#[test]
fn a_frozen_cgroup_is_an_error_and_stays_as_it_is() {
    let site = Site::new();
    let mut container = site.container();
    let path = container.config["linux"]["cgroupsPath"]
        .as_str()
        .unwrap()
        .to_owned();
    let version_1 = Path::new("/sys/fs/cgroup/freezer");
    let (root, file, frozen, thawed) = match version_1.is_dir() {
        true => (version_1, "freezer.state", "FROZEN", "THAWED"),
        false => (Path::new("/sys/fs/cgroup"), "cgroup.freeze", "1", "0"),
    };
    let cgroup = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(&cgroup).unwrap();
    fs::write(cgroup.join(file), frozen).unwrap();
    // It, and one below it that is not there yet.
    let answers = ["", "/below"].map(|below| {
        container.config["linux"]["cgroupsPath"] = json!(format!("{path}{below}"));
        container.create()
    });
    let stays = fs::read_to_string(cgroup.join(file));
    fs::write(cgroup.join(file), thawed).unwrap();
    fs::remove_dir(&cgroup).unwrap();
    for answer in answers {
        assert!(
            answer.status == 1
                && answer
                    .stderr
                    .contains("config.json#/linux/cgroupsPath: container's cgroup unexpectedly frozen: "),
            "{answer:?}"
        );
    }
    assert_eq!(stays.unwrap().trim(), frozen);
    container.assert_gone();
}

#[test]
fn a_start_container_hook_has_what_the_program_has() {
    let site = Site::new();
    let mut container = site.container();
    by_privileged(&mut container);
    let script = "{ id -u; grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status; env; } > /tmp/$0; \
                  mkdir /tmp/made 2>> /tmp/$0; grep -c web /dev/stdin >> /tmp/$0";
    let hook = |name: &str, env: Option<serde_json::Value>| {
        let mut hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script, name]});
        if let Some(env) = env {
            hook["env"] = env;
        }
        hook
    };
    container.config["annotations"] = json!({"a": "web"});
    container.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    container.config["process"]["env"] = json!(["PATH=/bin", "ONE=two"]);
    container.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]});
    container.config["hooks"] = json!({"startContainer": [
        hook("first", None), hook("second", Some(json!(["PATH=/bin", "THREE=four"])))]});
    container.script("exec sleep 600");
    start(&container);
    let seen = |name: &str| {
        let text = container.file(&format!("tmp/{name}"));
        let kept = |line: &&str| {
            !line.starts_with("PWD=") && !line.starts_with("SHLVL=") && !line.starts_with("OLDPWD=")
        };
        let mut lines: Vec<String> = text.lines().filter(kept).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let common = [
        "1",
        "1000",
        "CapEff:\t0000000000000000",
        "NoNewPrivs:\t1",
        "PATH=/bin",
        "Seccomp:\t2",
    ];
    let with = |more: &[&str]| {
        let mut lines: Vec<String> = [&common, more].concat().into_iter().map(str::to_owned).collect();
        lines.push("mkdir: can't create directory '/tmp/made': No space left on device".to_owned());
        lines.sort();
        lines
    };
    assert_eq!(seen("first"), with(&["HOME=/", "ONE=two"]));
    assert_eq!(seen("second"), with(&["THREE=four"]));

    // One that fails is an error, and the program does not run.
    let mut container = site.container();
    by_privileged(&mut container);
    container.config["hooks"] = json!({"startContainer": [
        {"path": "/bin/sh", "args": ["sh", "-c", "mount -t tmpfs none /mnt"]}]});
    let answer = container.run();
    assert!(
        answer.status == 1
            && answer.stderr.contains(
                "error running startContainer hook #0: \"/bin/sh\" failed with exit status 1: mount: "
            ),
        "{answer:?}"
    );
    assert!(!container.ran());
    // So is one that its filter ends.
    container.config["hooks"] =
        json!({"startContainer": [{"path": "/bin/busybox", "args": ["mkdir", "/tmp/made"]}]});
    container.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}]});
    let answer = container.run();
    assert!(
        answer
            .stderr
            .contains("was ended by a signal: bad system call (SIGSYS)"),
        "{answer:?}"
    );
    assert!(!container.ran());
}
