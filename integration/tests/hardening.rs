//! What the kernel says from inside: under the baseline, and without it.

#![allow(clippy::unwrap_used, clippy::panic)] // a test file, its functions beside the tests included

use std::path::Path;

use gabion_integration::{Container, Site, edit_array};
use serde_json::{Value, json};

/// What a script of the container's wrote.
#[track_caller]
fn inside(container: &mut Container<'_>, script: &str) -> String {
    container.script(&format!("( {script} ) > /tmp/out 2>&1; true"));
    container.run().ok();
    assert!(container.ran());
    container.file("tmp/out")
}

/// The value of a line of /proc/self/status.
#[track_caller]
fn status<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).trim()
}

/// Lets everything through that judgement can let through, and fills nothing in.
fn by_privileged(container: &mut Container<'_>) {
    container.arguments = vec!["--profile".into(), "privileged".into()];
    container
        .site
        .write_policy("[rules]\n\"SEC-01\" = \"off\"\n\"SEC-02\" = \"off\"\n");
}

#[test]
fn the_kernel_shows_the_capabilities_that_were_granted_and_no_other() {
    let site = Site::new();
    let text = inside(&mut site.container(), "cat /proc/self/status");
    // chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, net_raw, sys_chroot,
    // mknod, audit_write, setfcap
    for (name, mask) in [
        ("CapBnd:", "00000000a80425fb"),
        ("CapEff:", "00000000a80425fb"),
        ("CapPrm:", "00000000a80425fb"),
        ("CapInh:", "0000000000000000"),
        ("CapAmb:", "0000000000000000"),
    ] {
        assert_eq!(status(&text, name), mask, "{name}");
    }
}

#[test]
fn a_user_who_is_not_root_has_no_capabilities_but_a_bound() {
    let site = Site::new();
    let mut container = site.container();
    container.config["process"]["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [2000]});
    let text = inside(&mut container, "cat /proc/self/status");
    assert_eq!(status(&text, "Uid:"), "1000\t1000\t1000\t1000");
    assert_eq!(status(&text, "Gid:"), "1000\t1000\t1000\t1000");
    assert_eq!(status(&text, "Groups:"), "2000");
    assert_eq!(status(&text, "CapEff:"), "0000000000000000");
    assert_eq!(status(&text, "CapPrm:"), "0000000000000000");
    let bound = u64::from_str_radix(status(&text, "CapBnd:"), 16).unwrap();
    assert_eq!(bound & !0xa804_25fb, 0, "{bound:x}");
}

#[test]
fn a_bundle_without_a_filter_gets_one() {
    let site = Site::new();
    let text = inside(&mut site.container(), "cat /proc/self/status");
    assert_eq!(status(&text, "Seccomp:"), "2");
    assert_eq!(status(&text, "Seccomp_filters:"), "1");
    assert_eq!(status(&text, "NoNewPrivs:"), "1");
    let mut container = site.container();
    by_privileged(&mut container);
    let text = inside(&mut container, "cat /proc/self/status");
    assert_eq!(status(&text, "Seccomp:"), "0");
    assert_eq!(status(&text, "Seccomp_filters:"), "0");
}

#[test]
fn no_new_privs_is_the_bundles_choice_and_the_filter_is_there_without_it() {
    let site = Site::new();
    for user in [0, 1000] {
        let mut container = site.container();
        container.config["process"]["noNewPrivileges"] = json!(false);
        container.config["process"]["user"] = json!({"uid": user, "gid": user});
        let text = inside(&mut container, "cat /proc/self/status");
        assert_eq!(status(&text, "NoNewPrivs:"), "0", "user {user}");
        assert_eq!(status(&text, "Seccomp:"), "2", "user {user}");
        assert_eq!(status(&text, "Seccomp_filters:"), "1", "user {user}");
        // CAP_SYS_ADMIN was needed to load it, and is gone.
        let effective = u64::from_str_radix(status(&text, "CapEff:"), 16).unwrap();
        assert_eq!(effective, if user == 0 { 0xa804_25fb } else { 0 }, "user {user}");
    }
}

#[test]
fn a_new_user_namespace_cannot_be_made() {
    let site = Site::new();
    let script = "unshare -U true && echo made";
    assert!(inside(&mut site.container(), script).contains("Operation not permitted"));
    let mut container = site.container();
    by_privileged(&mut container);
    assert_eq!(inside(&mut container, script), "made\n");
}

#[test]
fn nothing_can_be_mounted() {
    let site = Site::new();
    let script = "mount -t tmpfs none /mnt && echo mounted";
    assert!(!inside(&mut site.container(), script).contains("mounted\n"));
    let mut container = site.container();
    by_privileged(&mut container);
    for set in ["bounding", "effective", "permitted"] {
        edit_array(
            &mut container.config,
            &format!("/process/capabilities/{set}"),
            |list| {
                list.push(json!("CAP_SYS_ADMIN"));
            },
        );
    }
    assert_eq!(inside(&mut container, script), "mounted\n");
}

#[test]
fn masked_paths_show_nothing() {
    let site = Site::new();
    let script = "cat /proc/keys /proc/timer_list; ls /sys/firmware /proc/acpi; \
                  for p in /proc/keys /proc/timer_list; do [ -c $p ] && echo null $p; done; \
                  touch /sys/firmware/x || echo read-only";
    let text = inside(&mut site.container(), script);
    assert!(
        text.contains("null /proc/keys\nnull /proc/timer_list\n"),
        "{text}"
    );
    assert!(text.ends_with("read-only\n"), "{text}");
    assert!(text.contains("/proc/acpi:\n\n/sys/firmware:\nnull "), "{text}");
    let mut container = site.container();
    by_privileged(&mut container);
    container.config["linux"]["maskedPaths"] = Value::Null;
    site.write_policy("[rules]\n\"PTH-01\" = \"off\"\n");
    let text = inside(
        &mut container,
        "[ -c /proc/keys ] || echo there; ls /sys/firmware",
    );
    assert!(text.starts_with("there\n") && text.lines().count() > 1, "{text}");
}

#[test]
fn a_bundle_that_masks_nothing_gets_masks() {
    let site = Site::new();
    let mut container = site.container();
    let linux = container.config["linux"].as_object_mut().unwrap();
    linux.remove("maskedPaths");
    linux.remove("readonlyPaths");
    let text = inside(
        &mut container,
        "[ -c /proc/keys ] && echo masked; echo 1 > /proc/irq/default_smp_affinity",
    );
    assert!(
        text.starts_with("masked\n") && text.contains("Read-only file system"),
        "{text}"
    );
}

#[test]
fn read_only_paths_cannot_be_written() {
    let site = Site::new();
    let script = "echo web > /proc/sys/kernel/hostname; echo 1 > /proc/irq/default_smp_affinity";
    let text = inside(&mut site.container(), script);
    assert_eq!(text.matches("Read-only file system").count(), 2, "{text}");
    let mut container = site.container();
    by_privileged(&mut container);
    container.config["linux"]["readonlyPaths"] = json!([]);
    site.write_policy("[rules]\n\"PTH-01\" = \"off\"\n\"PTH-02\" = \"off\"\n\"PTH-03\" = \"off\"\n");
    assert_eq!(inside(&mut container, "echo web > /proc/sys/kernel/hostname"), "");
}

#[test]
fn cgroups_are_seen_and_not_changed() {
    let site = Site::new();
    let text = inside(&mut site.container(), "grep /sys/fs/cgroup /proc/self/mountinfo");
    assert!(!text.is_empty());
    for line in text.lines() {
        let options = line.split(' ').nth(5).unwrap();
        assert!(options.split(',').any(|option| option == "ro"), "{line}");
        for option in ["nosuid", "nodev", "noexec"] {
            assert!(options.contains(option), "{option} is missing: {line}");
        }
    }
    let text = inside(
        &mut site.container(),
        "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/x && echo made $d; done",
    );
    assert!(!text.contains("made"), "{text}");
}

#[test]
fn the_container_has_namespaces_of_its_own() {
    let site = Site::new();
    let text = inside(
        &mut site.container(),
        "for n in mnt net uts pid ipc; do readlink /proc/self/ns/$n; done",
    );
    let own: Vec<String> = ["mnt", "net", "uts", "pid", "ipc"]
        .map(|name| {
            std::fs::read_link(format!("/proc/self/ns/{name}"))
                .unwrap()
                .display()
                .to_string()
        })
        .to_vec();
    assert_eq!(text.lines().count(), 5, "{text}");
    for (inside, outside) in text.lines().zip(&own) {
        assert_ne!(inside, outside);
        assert_eq!(inside.split(':').next(), outside.split(':').next());
    }
}

#[test]
fn a_read_only_root_stays_so() {
    let site = Site::new();
    let mut container = site.container();
    container.config["root"]["readonly"] = json!(true);
    let source = container.rootfs().join("tmp");
    edit_array(&mut container.config, "/mounts", |mounts| {
        mounts.push(
            json!({"destination": "/tmp", "type": "bind", "source": source, "options": ["bind", "rw"]}),
        );
    });
    let text = inside(
        &mut container,
        "touch /etc/x; mount -o remount,bind,rw /; touch /etc/y",
    );
    assert_eq!(text.matches("Read-only file system").count(), 2, "{text}");
}

#[test]
fn the_number_of_processes_is_limited() {
    let site = Site::new();
    let mut container = site.container();
    container.config["linux"]["resources"]["pids"] = json!({"limit": 8});
    if !has_pids_controller() {
        // Then it is not run without the limit either.
        let answer = container.run();
        assert!(answer.status == 1 && answer.stderr.contains("pids"), "{answer:?}");
        assert!(!container.ran());
        return;
    }
    let text = inside(
        &mut container,
        "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 5 & done; echo all; kill $(ps -o pid | grep -v PID)",
    );
    assert!(
        text.contains("Resource temporarily unavailable") || text.contains("can't fork"),
        "{text}"
    );
    assert!(!text.contains("all\n"), "{text}");
}

fn has_pids_controller() -> bool {
    let unified = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    std::path::Path::new("/sys/fs/cgroup/pids").exists()
        || unified.split_whitespace().any(|name| name == "pids")
}

#[test]
fn the_hosts_devices_are_not_there() {
    let site = Site::new();
    let text = inside(
        &mut site.container(),
        "mknod /dev/mem c 1 1 && cat /dev/mem > /tmp/mem; mknod /tmp/kmsg c 1 11 && cat /tmp/kmsg; ls /dev",
    );
    assert!(!text.contains("sda") && !text.contains("vda"), "{text}");
    let readable = container_file_is_empty(&site);
    assert!(text.contains("Operation not permitted") && readable, "{text}");
}

/// True if nothing was read of the host's memory.
fn container_file_is_empty(site: &Site) -> bool {
    let bundles = std::fs::read_dir(site.path()).unwrap().flatten();
    bundles
        .map(|entry| entry.path().join("rootfs/tmp/mem"))
        .all(|path| std::fs::metadata(path).map_or(true, |metadata| metadata.len() == 0))
}

#[test]
fn a_tmpfs_begins_with_the_images_files() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let site = Site::new();
    let mut container = site.container();
    let image = container.rootfs().join("srv");
    std::fs::create_dir_all(image.join("deep")).unwrap();
    std::fs::write(image.join("deep/file"), "of the image\n").unwrap();
    let mode = std::fs::Permissions::from_mode(0o2751);
    std::fs::set_permissions(image.join("deep/file"), mode).unwrap();
    std::os::unix::fs::chown(image.join("deep"), Some(7), Some(8)).unwrap();
    // Not followed while it is copied; and a mount below is made where a link leads in the container, never outside.
    symlink("/etc", image.join("link")).unwrap();
    symlink("/etc/gabion-of-the-image", image.join("bound")).unwrap();
    let source = site.path().join("source");
    std::fs::write(&source, "of the volume\n").unwrap();
    edit_array(&mut container.config, "/mounts", |mounts| {
        mounts.push(json!({"destination": "/srv", "type": "tmpfs", "source": "tmpfs",
            "options": ["ro", "nosuid", "nodev", "tmpcopyup"]}));
        mounts.push(
            json!({"destination": "/srv/bound", "type": "bind", "source": source,
            "options": ["bind", "ro", "nosuid", "nodev"]}),
        );
    });
    let text = inside(
        &mut container,
        "cat /srv/deep/file /srv/bound; ls -ln /srv/deep/file | cut -c1-10; ls -lnd /srv/deep | tr -s ' ' | cut -d' ' -f3,4; \
         readlink /srv/link; touch /srv/new 2>/dev/null || echo read-only; grep -c ' /srv tmpfs ' /proc/mounts; \
         cat /etc/gabion-of-the-image",
    );
    assert_eq!(
        text,
        "of the image\nof the volume\n-rwxr-s--x\n7 8\n/etc\nread-only\n1\nof the volume\n"
    );
    assert!(!Path::new("/etc/gabion-of-the-image").exists());
}

#[test]
fn a_new_network_namespace_can_talk_to_itself() {
    let site = Site::new();
    let mut container = site.container();
    // IFF_UP is bit 0.
    assert_eq!(inside(&mut container, "cat /sys/class/net/lo/flags"), "0x9\n");
}
