//! What engines and people hand on to CRIU, one flag at a time: what happens without it, and that it works with it.

use std::fs::{self, File, Permissions};
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use gabion_integration::{Answer, Container, Site, edit_array, has_apparmor, run, wait_until};
use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::json;

use crate::{
    COUNT, assert_not_restored, begin, checkpoint, count, counting, has_criu, images, patiently, restore,
    wait_beyond,
};

/// Gives the image more of busybox.
fn applets(container: &Container<'_>, names: &[&str]) {
    let bin = container.rootfs().join("bin");
    for name in names {
        std::os::unix::fs::symlink("busybox", bin.join(name)).unwrap();
    }
}

/// CRIU does not write it, and says why; the container runs on.
#[track_caller]
fn assert_not_dumped(container: &Container<'_>, arguments: &[&str], words: &str) {
    let answer = checkpoint(container, arguments);
    assert_eq!(answer.status, 1, "{answer:#?}");
    assert!(
        answer.stderr.contains("criu failed: dump") && answer.stderr.contains(words),
        "{answer:#?}"
    );
    assert_eq!(container.status().unwrap(), "running");
    wait_beyond(container, count(container));
}

/// It goes on, and is what it was judged to be.
#[track_caller]
fn assert_goes_on(container: &Container<'_>, arguments: &[&str]) {
    let stood = count(container);
    restore(container, arguments).ok();
    wait_beyond(container, stood);
    container.site.gabion(&["verify", &container.id]).ok();
}

fn exec(container: &Container<'_>, command: &[&str]) -> Answer {
    let words = [&["exec", container.id.as_str()], command].concat();
    container.site.gabion(&words)
}

/// Numbers that one end of a connection has got of the other: none is missing, and none came twice.
#[track_caller]
fn got(text: &str) -> usize {
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let numbers: Vec<usize> = whole.lines().map(|line| line.parse().unwrap()).collect();
    let expected: Vec<usize> = (1..=numbers.len()).collect();
    assert_eq!(numbers, expected);
    numbers.len()
}

/// A program that holds on to what a shell cannot hold.
fn keeper(container: &Container<'_>) {
    fs::copy(
        env!("CARGO_BIN_EXE_keeper"),
        container.rootfs().join("bin/keeper"),
    )
    .unwrap();
}

/// Port 7777, listened at, as /proc/net/tcp has it.
const LISTENING: &str = "until grep -q ':1E61 .* 0A ' /proc/net/tcp /proc/net/tcp6; do sleep 0.05; done";

#[test]
fn established_connections_go_on_where_they_were() {
    if !has_criu() {
        return;
    }
    let site = Site::new();
    let mut container = counting(&site);
    keeper(&container);
    container.script(&format!("keeper tcp /tmp/got & {COUNT}"));
    begin(&container);
    let arrived = || got(&container.file("tmp/got"));
    assert!(wait_until(|| arrived() > 3), "nobody is connected");
    assert_not_dumped(&container, &[], "--tcp-established");
    let flag = ["--tcp-established"];
    checkpoint(&container, &flag).ok();
    let until = arrived();
    assert_goes_on(&container, &flag);
    assert!(wait_until(|| arrived() > until + 3), "{until} was the last");
}

#[test]
fn connections_that_nobody_has_accepted_can_be_left_out() {
    if !has_criu() {
        return;
    }
    let site = Site::new();
    let mut container = counting(&site);
    applets(&container, &["nc"]);
    // It listens, and never gets to accept.
    container.script(&format!(
        "nc -l -p 7777 </dev/null >/tmp/got & {LISTENING}; kill -STOP $!; {COUNT}"
    ));
    begin(&container);
    let mut client = Command::new("nsenter")
        .args(["--net", "--target", &container.pid().to_string()])
        .args(["busybox", "nc", "127.0.0.1", "7777"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let table = || {
        let path = format!("/proc/{}/net/tcp", container.pid());
        fs::read_to_string(path).unwrap()
    };
    assert!(wait_until(|| table().contains(":1E61 01 ")), "{}", table());
    assert_not_dumped(&container, &["--tcp-established"], "In-flight connection");
    let answer = checkpoint(&container, &["--tcp-established", "--tcp-skip-in-flight"]);
    client.kill().unwrap();
    client.wait().unwrap();
    answer.ok();
    assert_goes_on(&container, &["--tcp-established"]);
}

#[test]
fn a_socket_of_somebody_outside_is_connected_to_again() {
    if !has_criu() {
        return;
    }
    let site = Site::new();
    // CRIU finds the other end in the container's network namespace alone: it is a pod's.
    let pod = Pod::make(&site);
    let mut container = counting(&site);
    keeper(&container);
    join(&mut container, &pod, &["network"]);
    // CRIU connects by the name that the socket has for its owner: it is the same inside and outside.
    let place = site.path().join("sockets");
    fs::create_dir(&place).unwrap();
    let (socket, heard) = (place.join("log"), site.path().join("heard"));
    let mut other = Command::new("nsenter")
        .arg(format!("--net={}", pod.file("net").display()))
        .arg(env!("CARGO_BIN_EXE_keeper"))
        .arg("hear")
        .arg(&socket)
        .arg(&heard)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert!(wait_until(|| heard.exists()));
    edit_array(&mut container.config, "/mounts", |mounts| {
        mounts.push(json!({"destination": place, "type": "bind", "source": place,
            "options": ["rbind", "rprivate", "ro", "nosuid", "nodev"]}));
    });
    container.script(&format!("keeper send {} & {COUNT}", socket.display()));
    let arrived = || got(&fs::read_to_string(&heard).unwrap());
    begin(&container);
    assert!(wait_until(|| arrived() > 3), "nobody is heard");
    assert_not_dumped(&container, &[], "xternal");
    let flag = ["--ext-unix-sk"];
    checkpoint(&container, &flag).ok();
    let until = arrived();
    assert_goes_on(&container, &flag);
    assert!(wait_until(|| arrived() > until + 3), "{until} was the last");
    container.kill("KILL").ok();
    container.wait_until_stopped();
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn locks_of_files_are_held_again() {
    if !has_criu() {
        return;
    }
    let site = Site::new();
    let mut container = counting(&site);
    keeper(&container);
    container.script(&format!("keeper lock /tmp/lock & {COUNT}"));
    begin(&container);
    assert_not_dumped(&container, &[], "file locks");
    let flag = ["--file-locks"];
    checkpoint(&container, &flag).ok();
    assert_goes_on(&container, &flag);
    let answer = exec(&container, &["/bin/keeper", "lock", "/tmp/lock"]);
    assert_eq!(answer.status, 1, "{answer:#?}");
}

#[test]
fn an_open_file_whose_name_is_gone_but_not_its_last_gets_one_for_the_time_being() {
    if !has_criu() {
        return;
    }
    let site = Site::new();
    let mut container = counting(&site);
    applets(&container, &["ln", "rm"]);
    container.script(&format!(
        "echo kept >/tmp/one; ln /tmp/one /tmp/two; exec 9</tmp/one; rm /tmp/one; {COUNT}"
    ));
    begin(&container);
    assert_not_dumped(&container, &[], "link-remap");
    checkpoint(&container, &["--link-remap"]).ok();
    let remaps = || {
        let entries = fs::read_dir(container.rootfs().join("tmp")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with("link_remap")).count()
    };
    assert_eq!(remaps(), 1);
    assert_goes_on(&container, &[]);
    assert_eq!(remaps(), 0);
    let answer = exec(&container, &["/bin/cat", "/proc/1/fd/9"]).ok();
    assert_eq!(answer.stdout, "kept\n");
}

#[test]
fn a_network_that_others_fill_is_left_to_them() {
    if !has_criu() {
        return;
    }
    let site = Site::new();
    let mut container = counting(&site);
    let hook = format!(
        "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); nsenter --net --target $pid \
         ip link add outer type dummy 2>{0}/why && nsenter --net --target $pid ip link set outer address 02:00:00:00:00:07",
        site.path().display()
    );
    container.config["hooks"] = json!({"createRuntime": [
        {"path": "/bin/sh", "args": ["sh", "-c", hook], "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}
    ]});
    begin(&container);
    let links = || exec(&container, &["/bin/ls", "/sys/class/net"]).ok().stdout;
    assert_eq!(links(), "lo\nouter\n");
    // Else the interface that the hook makes would be there twice.
    let flag = ["--empty-ns", "network"];
    checkpoint(&container, &flag).ok();
    assert_goes_on(&container, &flag);
    assert_eq!(links(), "lo\nouter\n");
    let answer = exec(&container, &["/bin/cat", "/sys/class/net/outer/address"]).ok();
    assert_eq!(answer.stdout, "02:00:00:00:00:07\n");
}

#[track_caller]
fn receive(listener: &UnixListener) -> OwnedFd {
    let (stream, _) = listener.accept().unwrap();
    let mut bytes = [0; 4096];
    let mut space = cmsg_space!([i32; 1]);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), flags).unwrap();
    for control in message.cmsgs().unwrap() {
        if let ControlMessageOwned::ScmRights(descriptors) = control {
            return gabion_sys::process::inherited(descriptors[0]).unwrap();
        }
    }
    panic!("no descriptor was sent")
}

/// Reads from a terminal until it has said a word.
#[track_caller]
fn read_until(master: &mut File, word: &str) -> String {
    let mut text = String::new();
    let mut bytes = [0; 1024];
    while !text.contains(word) {
        match master.read(&mut bytes) {
            Ok(count) if count > 0 => text.push_str(&String::from_utf8_lossy(&bytes[..count])),
            other => panic!("{other:?} after {text:?}, without {word:?}"),
        }
    }
    text
}

#[test]
fn a_terminal_is_sent_anew_and_both_ends_of_it_work() {
    if !has_criu() {
        return;
    }
    let site = Site::new();
    let mut container = counting(&site);
    let path = site.path().join("console.sock");
    let listener = UnixListener::bind(&path).unwrap();
    container.config["process"]["terminal"] = json!(true);
    container.config["process"]["consoleSize"] = json!({"height": 31, "width": 97});
    container.script(&format!(
        "({COUNT}) & while read word; do echo said $word $(stty size); done"
    ));
    container.arguments = vec!["--console-socket".into(), path.clone().into()];
    container.create().ok();
    let mut master = File::from(receive(&listener));
    container.start().ok();
    wait_beyond(&container, 2);
    master.write_all(b"one\n").unwrap();
    read_until(&mut master, "said one 31 97\r\n");
    let flag = ["--shell-job"];
    checkpoint(&container, &flag).ok();
    drop(master);
    let socket = path.to_str().unwrap();
    let answer = restore(&container, &flag);
    assert!(answer.stderr.contains("Pass --console-socket"), "{answer:#?}");
    let stood = count(&container);
    restore(&container, &["--shell-job", "--console-socket", socket]).ok();
    let mut master = File::from(receive(&listener));
    wait_beyond(&container, stood);
    master.write_all(b"two\n").unwrap();
    read_until(&mut master, "said two 31 97\r\n");
    site.gabion(&["verify", &container.id]).ok();
}

#[test]
fn cgroups_below_the_containers_own_are_kept_as_it_is_said() {
    if !has_criu() {
        return;
    }
    for mode in ["soft", "full", "ignore"] {
        let site = Site::new();
        let mut container = counting(&site);
        // Its own, which it may write to.
        edit_array(&mut container.config, "/linux/namespaces", |list| {
            list.push(json!({"type": "cgroup"}));
        });
        edit_array(&mut container.config, "/mounts", |mounts| {
            let mount = mounts.iter_mut().find(|mount| mount["type"] == "cgroup").unwrap();
            mount["options"] = json!(["nosuid", "noexec", "nodev"]);
        });
        container.script(&format!(
            "mkdir /sys/fs/cgroup/inner; echo 1 > /sys/fs/cgroup/inner/cgroup.procs; {COUNT}"
        ));
        begin(&container);
        let place = || {
            let path = format!("/proc/{}/cgroup", container.pid());
            fs::read_to_string(path).unwrap().trim().to_owned()
        };
        assert!(place().ends_with("/inner"), "{}", place());
        let flag = ["--manage-cgroups-mode", mode];
        checkpoint(&container, &flag).ok();
        assert_goes_on(&container, &flag);
        // With `ignore` all of it is in the container's own, which is the root of its own namespace all the same.
        assert_eq!(
            place().ends_with("/inner"),
            mode != "ignore",
            "{mode}: {}",
            place()
        );
        let seen = exec(&container, &["cat", "/proc/self/cgroup"]).ok().stdout;
        assert_eq!(seen.trim(), "0::/", "{mode}");
    }
    // Without a namespace of its own as well.
    let site = Site::new();
    site.write_policy("[rules]\n\"NS-06\" = \"audit\"");
    let container = counting(&site);
    begin(&container);
    let flag = ["--manage-cgroups-mode", "ignore"];
    checkpoint(&container, &flag).ok();
    assert_goes_on(&container, &flag);
}

#[test]
fn a_cgroup_is_made_before_a_restore_and_cannot_be_a_new_one_for_criu() {
    let site = Site::new();
    let container = site.container();
    assert_not_restored(
        &container,
        &["--manage-cgroups-mode", "strict"],
        "--manage-cgroups-mode strict is not supported: ",
    );
}

#[test]
fn another_confinement_is_given_as_it_is_said_and_verified() {
    if !has_criu() {
        return;
    }
    if !has_apparmor() {
        return gabion_integration::skip("no AppArmor here");
    }
    let site = Site::new();
    let mut container = counting(&site);
    let names = ["first", "second"].map(|which| format!("test-{which}-{}", container.id));
    let parser = |how: &str, name: &str| {
        let path: PathBuf = site.path().join(name);
        let text = format!(
            "profile {name} flags=(attach_disconnected) {{\n file,\n capability,\n network,\n signal,\n ptrace,\n \
             mount,\n umount,\n pivot_root,\n unix,\n}}\n"
        );
        fs::write(&path, text).unwrap();
        run(Command::new("apparmor_parser").arg(how).arg(&path), site.path())
    };
    for name in &names {
        parser("-rK", name).ok();
    }
    container.config["process"]["apparmorProfile"] = json!(names[0]);
    begin(&container);
    checkpoint(&container, &[]).ok();
    container.config["process"]["apparmorProfile"] = json!(names[1]);
    assert_not_restored(&container, &[], "V-06");
    let label = format!("apparmor:{}", names[1]);
    assert_goes_on(&container, &["--lsm-profile", &label]);
    let path = format!("/proc/{}/attr/apparmor/current", container.pid());
    assert_eq!(
        fs::read_to_string(path).unwrap(),
        format!("{} (enforce)\n", names[1])
    );
    container.kill("KILL").ok();
    container.wait_until_stopped();
    for name in &names {
        parser("-R", name).ok();
    }
}

#[test]
fn a_container_in_a_user_namespace_is_refused_by_name() {
    if !has_criu() {
        return;
    }
    let site = Site::new();
    let mut container = counting(&site);
    let mapping = json!([{"containerID": 0, "hostID": 300_000, "size": 65_536}]);
    edit_array(&mut container.config, "/linux/namespaces", |list| {
        list.push(json!({"type": "user"}));
    });
    container.config["linux"]["uidMappings"] = mapping.clone();
    container.config["linux"]["gidMappings"] = mapping;
    fs::set_permissions(site.path(), Permissions::from_mode(0o755)).unwrap();
    begin(&container);
    let answer = checkpoint(&container, &[]);
    assert!(
        answer.stderr.contains(
            "config.json#/linux/namespaces/5: a container in a user namespace cannot be checkpointed"
        ),
        "{answer:#?}"
    );
    assert!(!images(&container).exists());
    wait_beyond(&container, count(&container));
}

/// Namespaces that outlive the container, as an engine makes them for a pod.
struct Pod {
    directory: PathBuf,
}

const KINDS: [(&str, &str); 3] = [("network", "net"), ("ipc", "ipc"), ("uts", "uts")];

impl Pod {
    fn make(site: &Site) -> Self {
        let pod = Pod {
            directory: site.path().join("pod"),
        };
        fs::create_dir(&pod.directory).unwrap();
        let mut command = Command::new("unshare");
        for (_, file) in KINDS {
            fs::write(pod.file(file), "").unwrap();
            command.arg(format!("--{file}={}", pod.file(file).display()));
        }
        command.args([
            "sh",
            "-c",
            "ip link set lo up; ip address add 127.0.9.9/32 dev lo; hostname pod",
        ]);
        run(&mut command, site.path()).ok();
        pod
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        for (_, file) in KINDS {
            drop(Command::new("umount").arg(self.file(file)).status());
        }
    }
}

/// Has a container join namespaces of a pod.
fn join(container: &mut Container<'_>, pod: &Pod, kinds: &[&str]) {
    edit_array(&mut container.config, "/linux/namespaces", |list| {
        for (kind, file) in KINDS.iter().filter(|(kind, _)| kinds.contains(kind)) {
            let entry = list.iter_mut().find(|entry| entry["type"] == *kind).unwrap();
            entry["path"] = json!(pod.file(file));
        }
    });
}

#[test]
fn namespaces_of_a_pod_are_joined_again() {
    if !has_criu() {
        return;
    }
    let site = Site::new();
    let pod = Pod::make(&site);
    let mut container = counting(&site);
    join(&mut container, &pod, &["network", "ipc", "uts"]);
    container.config.as_object_mut().unwrap().remove("hostname");
    begin(&container);
    checkpoint(&container, &[]).ok();
    assert_goes_on(&container, &[]);
    for (_, file) in KINDS {
        let theirs = fs::metadata(format!("/proc/{}/ns/{file}", container.pid())).unwrap();
        assert_eq!(
            theirs.ino(),
            fs::metadata(pod.file(file)).unwrap().ino(),
            "{file}"
        );
    }
    container.kill("KILL").ok();
    container.wait_until_stopped();
    container.delete().ok();
}

#[test]
fn memory_can_be_written_beforehand_more_than_once() {
    if !has_criu() {
        return;
    }
    let site = Site::new();
    let container = counting(&site);
    begin(&container);
    for (name, parent) in [("one", None), ("two", Some("../one"))] {
        let mut command = container.command();
        command
            .args(["checkpoint", "--pre-dump", "--image-path"])
            .arg(site.path().join(name));
        if let Some(parent) = parent {
            command.args(["--parent-path", parent]);
        }
        patiently(command.arg(&container.id), &site).ok();
        assert_eq!(container.status().unwrap(), "running");
    }
    checkpoint(&container, &["--parent-path", "../two"]).ok();
    assert!(images(&container).join("parent").is_symlink());
    site.write_policy("[rules]\n\"OPS-03\" = \"deny\"");
    // The first of the row counts as the last does.
    let pages = site.path().join("one/pages-1.img");
    let bytes = fs::read(&pages).unwrap();
    let mut changed = bytes.clone();
    changed[0] ^= 1;
    fs::write(&pages, changed).unwrap();
    assert_not_restored(&container, &[], "OPS-03:foreign");
    fs::write(&pages, bytes).unwrap();
    let work = site.path().join("work");
    assert_goes_on(&container, &["--work-path", work.to_str().unwrap()]);
    assert!(work.join("restore.log").exists());
}
