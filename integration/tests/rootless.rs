//! An ordinary user's containers: without root, below a user namespace, under the same judgement.

#![allow(clippy::unwrap_used, clippy::panic)] // a test file, its functions beside the tests included

use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::process::Command;

use gabion_integration::{User, run, skip};
use serde_json::{Value, json};

/// Nobody's id on a usual host, and above what engines give to user namespaces.
const USER: u32 = 64_321;

/// A user with a bundle of `gabion spec --rootless`.
struct Rootless(User);

impl Deref for Rootless {
    type Target = User;

    fn deref(&self) -> &User {
        &self.0
    }
}

impl DerefMut for Rootless {
    fn deref_mut(&mut self) -> &mut User {
        &mut self.0
    }
}

impl Rootless {
    /// `None`, and a line that says so, where the host lets no ordinary user make a user namespace.
    fn new() -> Option<Self> {
        let mut user = User::new(USER, "gabion-user.");
        let probe = user.call("unshare --user --map-root-user true");
        if probe.status != 0 {
            skip(&format!(
                "an ordinary user gets no user namespace here: {}",
                probe.stderr.trim()
            ));
            return None;
        }
        fs::create_dir_all(user.path("run")).unwrap();
        user.make_bundle();
        Some(Rootless(user))
    }

    /// The verdicts in the user's own ledger.
    fn verdicts(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path(".local/state/gabion/decisions.jsonl")).unwrap_or_default();
        text.lines()
            .map(|line| {
                serde_json::from_str::<Value>(line).unwrap()["verdict"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect()
    }

    #[track_caller]
    fn assert_nothing_left(&self) {
        let state = self.path("run/gabion");
        let left: Vec<_> = fs::read_dir(&state)
            .map(|entries| entries.map(|entry| entry.unwrap().file_name()).collect())
            .unwrap_or_default();
        assert!(left.is_empty(), "{left:?} in {state:?}");
    }
}

#[test]
fn an_ordinary_user_runs_a_container_and_is_root_in_it_alone() {
    let Some(mut user) = Rootless::new() else { return };
    user.script(
        "id -u; cat /proc/self/uid_map; grep -E '^(NoNewPrivs|Seccomp|CapBnd):' /proc/self/status; exit 7",
    );
    let answer = user.gabion("run --bundle bundle web");
    assert_eq!(answer.status, 7, "{answer:?}");
    let words: Vec<&str> = answer.stdout.split_whitespace().collect();
    assert_eq!(
        words,
        [
            "0",
            "0",
            "64321",
            "1",
            "CapBnd:",
            "0000000020000420",
            "NoNewPrivs:",
            "1",
            "Seccomp:",
            "2"
        ]
    );
    assert_eq!(user.verdicts().first().map(String::as_str), Some("admitted"));
    user.assert_nothing_left();
}

#[test]
fn learning_takes_root() {
    let Some(mut user) = Rootless::new() else { return };
    user.script("true");
    let answer = user.gabion("learn --bundle bundle --output web.learnt web");
    assert_eq!(answer.status, 1, "{answer:?}");
    assert!(
        answer
            .stderr
            .contains("learning takes root: the kernel gives nobody else"),
        "{answer:?}"
    );
    assert!(!user.path("web.learnt").exists());
    user.assert_nothing_left();
}

#[test]
fn a_users_container_lives_from_create_to_delete() {
    let Some(mut user) = Rootless::new() else { return };
    user.script("exec sleep 1000");
    user.gabion("create --bundle bundle --pid-file pid web").ok();
    let state: Value = serde_json::from_str(&user.gabion("state web").ok().stdout).unwrap();
    assert_eq!(state["status"], "created");
    user.gabion("start web").ok();
    let answer = user.gabion("exec web /bin/sh -c 'id -u; grep Seccomp: /proc/self/status; exit 5'");
    assert_eq!(
        (answer.status, answer.stdout.as_str()),
        (5, "0\nSeccomp:\t2\n"),
        "{answer:?}"
    );
    let paused = user.gabion("pause web");
    assert_ne!(paused.status, 0);
    user.gabion("kill web KILL").ok();
    let stopped = gabion_integration::wait_until(|| user.gabion("state web").stdout.contains("\"stopped\""));
    assert!(stopped);
    user.gabion("delete web").ok();
    user.assert_nothing_left();
}

/// A cgroup of version 2 that root has handed over to the user, who is in one below it; removed when it is dropped.
struct Owned(PathBuf);

impl Owned {
    const MOUNT: &str = "umount --recursive --lazy /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup";

    fn hand_over(user: &mut Rootless) -> Self {
        let path = PathBuf::from(format!("/sys/fs/cgroup/gabion-e2e-owned-{}", std::process::id()));
        let mount = Self::MOUNT;
        let own = path.display();
        user.prelude = format!(
            "{mount}; mkdir -p {own}/session; chown -R {USER} {own}; echo $$ > {own}/session/cgroup.procs"
        );
        Owned(path)
    }

    /// What root sees of it.
    fn root(&self, script: &str) -> String {
        let script = format!("{}; cd {}; {script}", Self::MOUNT, self.0.display());
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec", &script]);
        run(&mut command, std::path::Path::new("/")).ok().stdout
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.root("cd /; find \"$OLDPWD\" -mindepth 0 -depth -type d -exec rmdir {} +");
    }
}

#[test]
fn a_cgroup_that_belongs_to_the_user_is_the_containers() {
    let Some(mut user) = Rootless::new() else { return };
    let owned = Owned::hand_over(&mut user);
    let name = owned.0.file_name().unwrap().to_str().unwrap().to_owned();
    user.config["linux"]["cgroupsPath"] = json!(format!("/{name}/deep/web"));
    user.script("sleep 1000 & sleep 1000 & wait");
    user.gabion("create --bundle bundle --pid-file pid web").ok();
    let pid = fs::read_to_string(user.path("pid")).unwrap();
    assert_eq!(owned.root("cat deep/web/cgroup.procs").trim(), pid);
    user.gabion("start web").ok();
    let count = || owned.root("wc -l < deep/web/cgroup.procs").trim().to_owned();
    assert!(gabion_integration::wait_until(|| count() == "3"));
    // A further process is there as well.
    user.gabion("exec --detach web sleep 1000").ok();
    assert!(gabion_integration::wait_until(|| count() == "4"));
    let processes = user.gabion("ps --format json web").ok().stdout;
    assert_eq!(processes.split(',').count(), 4, "{processes}");
    user.gabion("pause web").ok();
    assert_eq!(owned.root("cat deep/web/cgroup.freeze").trim(), "1");
    user.gabion("resume web").ok();
    user.gabion("delete --force web").ok();
    user.assert_nothing_left();
    assert_eq!(owned.root("ls -d deep/*/ 2>/dev/null || true"), "");
    // A limit that has no controller here is an error, and one that has is the kernel's.
    user.config["linux"]["resources"] = json!({"pids": {"limit": 77}});
    let limited = user.gabion("create --bundle bundle web");
    let has_controller = owned.root("cat cgroup.controllers").contains("pids");
    if has_controller {
        limited.ok();
        assert_eq!(owned.root("cat deep/web/pids.max").trim(), "77");
        user.gabion("delete --force web").ok();
    } else {
        assert!(limited.stderr.contains("/linux/resources/pids"), "{limited:?}");
    }
    assert_eq!(owned.root("ls -d deep/*/ 2>/dev/null || true"), "");
    // From outside nobody may be moved there, and nothing is made.
    user.prelude = user.prelude.replace("echo $$", ": $$");
    let outside = user.gabion("create --bundle bundle web");
    assert!(
        outside.stderr.contains("nobody may be moved there from"),
        "{outside:?}"
    );
    user.config["linux"]["resources"] = json!({});
    user.gabion("create --bundle bundle web").ok();
    user.gabion("delete --force web").ok();
    assert_eq!(owned.root("ls -d deep/*/ 2>/dev/null || true"), "");
    user.assert_nothing_left();
}

#[test]
fn a_mask_that_is_taken_off_is_found_without_root_too() {
    let Some(mut user) = Rootless::new() else { return };
    user.script("echo ran > /tmp/ran");
    user.gabion("create --bundle bundle --pid-file pid web").ok();
    let pid = fs::read_to_string(user.path("pid")).unwrap();
    let mut tamper = Command::new("nsenter");
    tamper.args(["--target", pid.trim(), "--mount", "umount", "/proc/timer_list"]);
    run(&mut tamper, &std::env::temp_dir()).ok();
    let answer = user.gabion("start web");
    assert_eq!(answer.status, 1, "{answer:?}");
    assert!(answer.stderr.contains("V-08"), "{answer:?}");
    assert!(!user.path("bundle/rootfs/tmp/ran").exists());
    assert_eq!(user.verdicts().last().map(String::as_str), Some("mismatch"));
    user.gabion("delete --force web").ok();
    user.assert_nothing_left();
}

#[test]
fn what_takes_root_is_refused_with_its_place_and_the_way_out() {
    let Some(mut user) = Rootless::new() else { return };
    let whole = user.config.clone();
    user.config["linux"]["resources"] = json!({"memory": {"limit": 1 << 30}});
    let answer = user.gabion("run --bundle bundle web");
    assert_eq!(answer.status, 1);
    assert!(
        answer.stderr.contains(
            "config.json#/linux/resources/memory: cannot limit anything without root: there is no cgroup for the \
             container"
        ) && answer.stderr.contains("have the user's own systemd make one (cgroup version 2, --systemd-cgroup), or"),
        "{answer:?}"
    );
    user.config = whole;
    let linux = user.config["linux"].as_object_mut().unwrap();
    linux.remove("uidMappings");
    linux.remove("gidMappings");
    linux["namespaces"]
        .as_array_mut()
        .unwrap()
        .retain(|entry| entry["type"] != "user");
    let answer = user.gabion("run --bundle bundle web");
    assert_eq!(answer.status, 1);
    assert!(
        answer.stderr.contains(
            "config.json#/linux/namespaces: cannot make a container without root that has no user namespace of its own"
        ),
        "{answer:?}"
    );
    user.assert_nothing_left();
}

#[test]
fn nothing_runs_for_a_user_whose_ledger_cannot_be_written() {
    let Some(mut user) = Rootless::new() else { return };
    user.script("echo ran > /tmp/ran");
    fs::write(user.path(".local"), "in the way").unwrap();
    let answer = user.gabion("run --bundle bundle web");
    assert_eq!(answer.status, 1);
    assert!(
        answer.stderr.contains("where decisions are recorded"),
        "{answer:?}"
    );
    assert!(!user.path("bundle/rootfs/tmp/ran").exists());
    user.assert_nothing_left();
}

#[test]
fn several_ranges_are_those_that_subuid_gives() {
    let Some(mut user) = Rootless::new() else { return };
    if !PathBuf::from("/usr/bin/newuidmap").exists() {
        skip("newuidmap(1) is not installed");
        return;
    }
    for key in ["uidMappings", "gidMappings"] {
        user.config["linux"][key] = json!([
            {"containerID": 0, "hostID": USER, "size": 1},
            {"containerID": 1, "hostID": 2_000_000, "size": 65_536}
        ]);
    }
    user.config["process"]["user"] = json!({"uid": 5, "gid": 6});
    user.script("id -u; id -g; cat /proc/self/uid_map");
    let answer = user.gabion("run --bundle bundle web");
    assert_eq!(answer.status, 1, "{answer:?}");
    assert!(
        answer
            .stderr
            .contains("config.json#/linux/uidMappings: cannot be mapped without root: newuidmap: "),
        "{answer:?}"
    );
    // An account, and ids for it, in a mount namespace of this test's.
    for (name, line) in [
        ("passwd", format!("tester:x:{USER}:{USER}::/:/bin/sh\n")),
        ("group", format!("tester:x:{USER}:\n")),
        ("subuid", "tester:2000000:65536\n".to_owned()),
        ("subgid", "tester:2000000:65536\n".to_owned()),
    ] {
        let text = fs::read_to_string(format!("/etc/{name}")).unwrap_or_default() + &line;
        fs::write(user.path(name), text).unwrap();
        let bind = format!("mount --bind {} /etc/{name}\n", user.path(name).display());
        user.prelude += &bind;
    }
    let answer = user.gabion("run --bundle bundle web").ok();
    let words: Vec<&str> = answer.stdout.split_whitespace().collect();
    assert_eq!(words, ["5", "6", "0", "64321", "1", "1", "2000000", "65536"]);
    user.assert_nothing_left();
}
