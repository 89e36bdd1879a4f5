//! An ordinary user's containers whose cgroups the user's own systemd makes: limits, and everything that takes a cgroup.
//!
//! They need an account that is logged in as far as systemd knows, so they are made in the virtual machine alone.

#![allow(clippy::unwrap_used, clippy::panic)] // a test file, its functions beside the tests included

use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use gabion_integration::{User, has_systemd, make_rootfs, run, skip, wait_until};
use serde_json::json;

const USER: u32 = 1321;
const MANAGER: &str = "/sys/fs/cgroup/user.slice/user-1321.slice/user@1321.service";
const RUNTIME: &str = "/run/user/1321";

/// The account, whose systemd runs without a login; what is wrong if it does not.
static ACCOUNT: LazyLock<Result<(), String>> = LazyLock::new(|| {
    let call = |words: &[&str]| {
        let answer = run(Command::new(words[0]).args(&words[1..]), Path::new("/"));
        match answer.status {
            0 => Ok(()),
            _ => Err(format!("{words:?}: {}", answer.stderr.trim())),
        }
    };
    call(&["useradd", "--uid", "1321", "--user-group", "session"])?;
    call(&["loginctl", "enable-linger", "session"])?;
    let is_up =
        || Path::new(RUNTIME).join("systemd/private").exists() && Path::new(RUNTIME).join("bus").exists();
    if wait_until(is_up) {
        Ok(())
    } else {
        Err("the user's systemd does not come up".to_owned())
    }
});

/// While a systemd reads its units again, its own socket answers nobody, and one test has it do that.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A user whose systemd runs, with a bundle of `gabion spec --rootless` and a container of this name.
struct Session {
    user: User,
    id: String,
    _alone: MutexGuard<'static, ()>,
}

impl Deref for Session {
    type Target = User;

    fn deref(&self) -> &User {
        &self.user
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut User {
        &mut self.user
    }
}

impl Session {
    /// `None`, and a line that says so, elsewhere than in the virtual machine.
    fn new(id: &str) -> Option<Self> {
        if std::env::var_os("GABION_VM").is_none() || !has_systemd() {
            skip("an account is made in the virtual machine alone");
            return None;
        }
        ACCOUNT.as_ref().unwrap();
        let mut session = Session {
            user: User::new(USER, "gabion-session."),
            id: id.to_owned(),
            _alone: ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner),
        };
        session.runtime = RUNTIME.into();
        session.flags = "--systemd-cgroup --root run";
        session.make_bundle();
        Some(session)
    }

    fn unit(&self) -> String {
        format!("gabion-{}.scope", self.id)
    }

    fn cgroup(&self) -> PathBuf {
        Path::new(MANAGER).join("user.slice").join(self.unit())
    }

    #[track_caller]
    fn says(&self, file: &str) -> String {
        let text = fs::read_to_string(self.cgroup().join(file)).unwrap();
        text.trim().to_owned()
    }

    /// What the user's systemd says of the container.
    #[track_caller]
    fn shown(&self, properties: &str) -> String {
        let line = format!("systemctl --user show -p {properties} {}", self.unit());
        self.call(&line).ok().stdout
    }

    #[track_caller]
    fn assert_nothing_left(&self) {
        let left: Vec<_> = fs::read_dir(self.path("run"))
            .map(|entries| entries.map(|entry| entry.unwrap().file_name()).collect())
            .unwrap_or_default();
        assert!(left.is_empty(), "{left:?}");
        let state = || self.shown("LoadState");
        assert!(
            wait_until(|| state().trim() == "LoadState=not-found"),
            "{}",
            state()
        );
        assert!(!self.cgroup().exists());
    }
}

#[test]
fn a_users_limits_are_the_kernels_from_create_to_delete() {
    let Some(mut user) = Session::new("limits") else {
        return;
    };
    user.config["linux"]["resources"] = json!({
        "memory": {"limit": 134_217_728, "reservation": 67_108_864},
        "cpu": {"shares": 512, "quota": 50_000, "period": 100_000},
        "pids": {"limit": 60},
        "unified": {"memory.high": "100663296"}
    });
    user.script("exec sleep 1000");
    user.gabion("create --bundle bundle --pid-file pid limits").ok();
    let check = |expected: &[(&str, &str)]| {
        for (file, value) in expected {
            assert_eq!(user.says(file), *value, "{file}");
        }
    };
    check(&[
        ("memory.max", "134217728"),
        ("memory.low", "67108864"),
        ("memory.high", "100663296"),
        ("cpu.weight", "59"),
        ("cpu.max", "50000 100000"),
        ("pids.max", "60"),
    ]);
    let shown = user.shown("MemoryMax,TasksMax,CPUQuotaPerSecUSec,Slice");
    for line in [
        "MemoryMax=134217728",
        "TasksMax=60",
        "CPUQuotaPerSecUSec=500ms",
        "Slice=user.slice",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    user.gabion("start limits").ok();
    let pid = fs::read_to_string(user.path("pid")).unwrap();
    let place = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(place.trim().ends_with(&user.unit()), "{place}");

    // A further process is in it too, and sees no other.
    let answer = user.gabion("exec limits /bin/sh -c 'cat /proc/self/cgroup; exit 5'");
    assert_eq!((answer.status, answer.stdout.trim()), (5, "0::/"), "{answer:?}");

    user.gabion("pause limits").ok();
    assert_eq!(user.says("cgroup.freeze"), "1");
    assert!(user.gabion("state limits").ok().stdout.contains("\"paused\""));
    user.gabion("resume limits").ok();
    assert!(user.gabion("ps limits").ok().stdout.contains("sleep 1000"));

    user.gabion("update --memory 160M --pids-limit 50 --cpu-quota 30000 limits")
        .ok();
    check(&[
        ("memory.max", "167772160"),
        ("pids.max", "50"),
        ("cpu.max", "30000 100000"),
    ]);
    user.call("systemctl --user daemon-reload").ok();
    check(&[("memory.max", "167772160"), ("pids.max", "50")]);

    user.gabion("kill limits KILL").ok();
    let is_stopped = || user.gabion("state limits").stdout.contains("\"stopped\"");
    assert!(wait_until(is_stopped));
    user.gabion("delete limits").ok();
    user.assert_nothing_left();
}

#[test]
fn a_scope_with_somebody_in_it_is_left_alone() {
    let Some(mut user) = Session::new("taken") else {
        return;
    };
    user.script("exec sleep 1000");
    user.gabion("create --bundle bundle taken").ok();
    // In another root, which is of no other container's.
    make_rootfs(&user.path("bundle/second"));
    user.own();
    user.config["root"]["path"] = json!("second");
    user.config["linux"]["cgroupsPath"] = json!("user.slice:gabion:taken");
    let answer = user.gabion("create --bundle bundle other");
    assert_eq!(answer.status, 1, "{answer:?}");
    assert!(
        answer
            .stderr
            .contains("config.json#/linux/cgroupsPath: container's cgroup is not empty: "),
        "{answer:?}"
    );
    assert!(user.gabion("state taken").ok().stdout.contains("\"created\""));
    user.gabion("delete --force taken").ok();
    user.assert_nothing_left();
}

#[test]
fn a_run_ends_and_its_scope_with_it() {
    let Some(mut user) = Session::new("run") else {
        return;
    };
    user.config["linux"]["resources"] = json!({"pids": {"limit": 7}});
    user.script("cat /proc/self/cgroup; exit 3");
    let answer = user.gabion("run --bundle bundle run");
    assert_eq!((answer.status, answer.stdout.trim()), (3, "0::/"), "{answer:?}");
    user.assert_nothing_left();

    // What cannot be built leaves nothing either.
    user.config["process"]["args"] = json!(["/not/there"]);
    assert_ne!(user.gabion("run --bundle bundle run").status, 0);
    user.assert_nothing_left();
}

#[test]
fn those_who_outlive_the_first_process_are_ended_with_the_scope() {
    let Some(mut user) = Session::new("others") else {
        return;
    };
    let namespaces = user.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|entry| entry["type"] != "pid");
    user.config["mounts"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .filter(|mount| mount["destination"] == "/proc")
        .for_each(|mount| {
            *mount = json!({"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]})
        });
    user.script("(setsid sleep 1000 >/dev/null 2>&1 &); exec sleep 1001");
    user.prelude = "mkdir -p /etc/gabion && mount -t tmpfs -o mode=755 none /etc/gabion && \
                    echo 'profile = \"privileged\"' > /etc/gabion/policy.toml"
        .to_owned();
    user.gabion("create --bundle bundle others").ok();
    user.gabion("start others").ok();
    assert!(wait_until(|| user.says("cgroup.procs").lines().count() == 2));
    user.gabion("delete --force others").ok();
    user.assert_nothing_left();
}

#[test]
fn a_limit_whose_controller_the_user_has_not_got_is_refused_by_its_place() {
    let Some(mut user) = Session::new("cpuset") else {
        return;
    };
    let controllers = fs::read_to_string(Path::new(MANAGER).join("cgroup.controllers")).unwrap();
    assert!(!controllers.contains("cpuset"), "{controllers}");
    user.config["linux"]["resources"] = json!({"cpu": {"cpus": "0"}});
    let answer = user.gabion("create --bundle bundle cpuset");
    assert_eq!(answer.status, 1, "{answer:?}");
    assert!(
        answer
            .stderr
            .contains("config.json#/linux/resources/cpu/cpus: 0 cannot be set: the container's cgroup has no cpuset.cpus"),
        "{answer:?}"
    );
    user.assert_nothing_left();
}

#[test]
fn without_the_bus_the_users_systemd_is_asked_itself_and_without_a_session_it_is_said() {
    let Some(mut user) = Session::new("ways") else {
        return;
    };
    user.script("cat /proc/self/cgroup");
    user.prelude = format!("mount --bind /dev/null {RUNTIME}/bus");
    let answer = user.gabion("run --bundle bundle ways").ok();
    assert_eq!(answer.stdout.trim(), "0::/");
    user.prelude = format!("mount --bind /dev/null {RUNTIME}/systemd/private");
    user.gabion("run --bundle bundle ways").ok();
    // As with su(1): the session is where it always is.
    user.prelude = "true".to_owned();
    user.runtime = PathBuf::new();
    user.gabion("run --bundle bundle ways").ok();

    user.runtime = user.path("elsewhere");
    let answer = user.gabion("run --bundle bundle ways");
    assert_eq!(answer.status, 1, "{answer:?}");
    for words in [
        "--systemd-cgroup: the user's own systemd cannot be reached: ",
        "elsewhere/bus",
        "loginctl enable-linger 1321",
    ] {
        assert!(answer.stderr.contains(words), "{words}: {answer:?}");
    }
    user.runtime = RUNTIME.into();
    user.assert_nothing_left();
}
