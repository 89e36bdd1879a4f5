//! Generated bundles.

use std::path::Path;

use gabion_baseline::Profile;
use gabion_integration::{base_config, edit_array, limits_processes};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

/// What the profile `baseline` lets a container have, by number: PSS baseline's thirteen, and NET_RAW.
pub(crate) const ALLOWED: [(&str, u32); 14] = [
    ("CAP_CHOWN", 0),
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_FOWNER", 3),
    ("CAP_FSETID", 4),
    ("CAP_KILL", 5),
    ("CAP_SETGID", 6),
    ("CAP_SETUID", 7),
    ("CAP_SETPCAP", 8),
    ("CAP_NET_BIND_SERVICE", 10),
    ("CAP_NET_RAW", 13),
    ("CAP_SYS_CHROOT", 18),
    ("CAP_MKNOD", 27),
    ("CAP_AUDIT_WRITE", 29),
    ("CAP_SETFCAP", 31),
];

/// What no container of `baseline` has, whatever the bundle says.
pub(crate) const EVIL: [(&str, u32); 6] = [
    ("CAP_SYS_ADMIN", 21),
    ("CAP_SYS_MODULE", 16),
    ("CAP_SYS_PTRACE", 19),
    ("CAP_DAC_READ_SEARCH", 2),
    ("CAP_NET_ADMIN", 12),
    ("CAP_BPF", 39),
];

pub(crate) const MASKED: [&str; 8] = [
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];

pub(crate) const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// What a generated bundle is made of.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    /// `None`: no key at all, which means every capability.
    pub(crate) bounding: Option<Vec<&'static str>>,
    pub(crate) evil: Vec<&'static str>,
    pub(crate) inheritable: bool,
    pub(crate) ambient: bool,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) umask: Option<u32>,
    pub(crate) no_new_privileges: Option<bool>,
    pub(crate) files: u64,
    pub(crate) processes: Option<u64>,
    pub(crate) oom: Option<i64>,
    pub(crate) pids: Option<i64>,
    pub(crate) readonly_root: bool,
    /// Destinations of the bind mounts, and their options.
    pub(crate) binds: Vec<(&'static str, Vec<&'static str>)>,
    pub(crate) masked: Option<Vec<&'static str>>,
    pub(crate) readonly: Option<Vec<&'static str>>,
    /// Namespaces that are left out.
    pub(crate) missing: Vec<&'static str>,
    pub(crate) sysctl: Vec<(&'static str, &'static str)>,
    pub(crate) seccomp: Filter,
    pub(crate) devices: Option<Vec<&'static str>>,
    pub(crate) propagation: Option<&'static str>,
    pub(crate) directory: &'static str,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Filter {
    Absent,
    Null,
    AllowsAll,
    DeniesOne,
}

pub(crate) fn often<T: Clone + std::fmt::Debug + 'static>(
    usual: T,
    others: &'static [T],
) -> BoxedStrategy<T> {
    prop_oneof![4 => Just(usual), 1 => select(others)].boxed()
}

pub(crate) fn spec() -> impl Strategy<Value = Spec> {
    let names: Vec<&'static str> = ALLOWED.iter().map(|(name, _)| *name).collect();
    let evil: Vec<&'static str> = EVIL.iter().map(|(name, _)| *name).collect();
    let destinations = vec![
        "/data",
        "/data/below",
        "/mnt",
        "/link/x",
        "/work",
        "/etc/file",
        "/opt/with space",
        "/dév",
    ];
    let options = subsequence(
        vec![
            "ro",
            "nosuid",
            "nodev",
            "noexec",
            "rprivate",
            "rslave",
            "nosymfollow",
            "rro",
            "rw",
            "rshared",
        ],
        0..4,
    );
    let binds = subsequence(destinations, 0..4).prop_flat_map(move |chosen| {
        let options = proptest::collection::vec(options.clone(), chosen.len());
        (Just(chosen), options)
            .prop_map(|(chosen, options)| chosen.into_iter().zip(options).collect::<Vec<_>>())
    });
    let process = (
        prop_oneof![12 => subsequence(names, 0..14).prop_map(Some), 1 => Just(None)],
        prop_oneof![9 => Just(Vec::new()), 1 => subsequence(evil, 1..3)],
        proptest::bool::weighted(0.1),
        proptest::bool::weighted(0.1),
        prop_oneof![Just(0_u32), Just(1000), Just(65534), 1..60_000_u32],
        prop_oneof![Just(0_u32), Just(1000), 1..60_000_u32],
        proptest::collection::vec(prop_oneof![Just(0_u32), 1..60_000_u32], 0..4),
        select(vec![None, None, Some(0o22), Some(0o77), Some(0o27)]),
        select(vec![None, Some(true), Some(false)]),
        64..2048_u64,
        select(vec![None, Some(64), Some(4096)]),
        select(vec![None, Some(0), Some(100), Some(1000)]),
    );
    let around = (
        select(vec![None, Some(32), Some(1000), Some(-1)]),
        any::<bool>(),
        binds,
        prop_oneof![2 => Just(None), 3 => subsequence(MASKED.to_vec(), 0..8).prop_map(Some)],
        prop_oneof![2 => Just(None), 3 => subsequence(READ_ONLY.to_vec(), 0..5).prop_map(Some)],
        prop_oneof![
            6 => Just(Vec::new()),
            1 => Just(vec!["uts"]),
            1 => subsequence(vec!["network", "pid", "ipc", "mount", "uts"], 1..3)
        ],
        subsequence(
            vec![
                ("net.ipv4.ip_unprivileged_port_start", "0"),
                ("net.ipv4.ping_group_range", "0 2147483647"),
                ("kernel.shm_rmid_forced", "1"),
                ("net.ipv4.tcp_syncookies", "1"),
                ("kernel.core_pattern", "|/bin/sh"),
                ("net/ipv4/ip_forward", "1"),
            ],
            0..2,
        ),
        select(vec![
            Filter::Absent,
            Filter::Null,
            Filter::AllowsAll,
            Filter::DeniesOne,
        ]),
        prop_oneof![
            2 => Just(Some(vec!["deny"])), 1 => Just(None), 1 => Just(Some(vec![])),
            1 => subsequence(vec!["deny", "null", "all", "disk"], 1..4).prop_map(Some)
        ],
        often(None, &[Some("private"), Some("rslave"), Some("shared")]),
        often(
            "/",
            &["/work", "/tmp", "/new/directory", "/proc/self/fd/5", "/link"],
        ),
    );
    (process, around).prop_map(|(process, around)| {
        let (bounding, evil, inheritable, ambient, uid, gid, groups, umask, nnp, files, processes, oom) =
            process;
        let (
            pids,
            readonly_root,
            binds,
            masked,
            readonly,
            missing,
            sysctl,
            seccomp,
            devices,
            propagation,
            directory,
        ) = around;
        Spec {
            bounding,
            evil,
            inheritable,
            ambient,
            uid,
            gid,
            groups,
            umask,
            no_new_privileges: nnp,
            files,
            processes,
            oom,
            pids,
            readonly_root,
            binds,
            masked,
            readonly,
            missing,
            sysctl,
            seccomp,
            devices,
            propagation,
            directory,
        }
    })
}

impl Spec {
    /// Most of them as the profile asks: it has a word about so much that next to nothing would be admitted otherwise.
    pub(crate) fn towards(mut self, profile: Profile) -> Self {
        if profile == Profile::Restricted && !self.files.is_multiple_of(4) {
            self.uid = self.uid.max(1);
            self.readonly_root = true;
            self.evil.clear();
            if let Some(names) = &mut self.bounding {
                names.retain(|name| *name == "CAP_NET_BIND_SERVICE");
            }
            self.binds.retain(|(_, options)| options.contains(&"ro"));
        }
        self
    }

    /// The bundle's configuration. `volumes` has a directory for each bind mount, with a file of its name in it.
    pub(crate) fn config(&self, cgroup: &str, volumes: &Path) -> Value {
        let mut config = base_config(cgroup);
        let process = &mut config["process"];
        process["user"] = json!({"uid": self.uid, "gid": self.gid, "additionalGids": self.groups});
        if let Some(umask) = self.umask {
            process["user"]["umask"] = json!(umask);
        }
        process["cwd"] = json!(self.directory);
        match &self.bounding {
            None => drop(process.as_object_mut().unwrap().remove("capabilities")),
            Some(names) => {
                let all: Vec<&str> = names.iter().chain(&self.evil).copied().collect();
                let mut sets = json!({"bounding": all, "permitted": all, "effective": all});
                if self.inheritable {
                    sets["inheritable"] = json!(all);
                }
                if self.ambient {
                    sets["ambient"] = json!(all);
                }
                process["capabilities"] = sets;
            }
        }
        match self.no_new_privileges {
            None => drop(process.as_object_mut().unwrap().remove("noNewPrivileges")),
            Some(value) => process["noNewPrivileges"] = json!(value),
        }
        let mut limits = vec![json!({"type": "RLIMIT_NOFILE", "soft": self.files, "hard": self.files})];
        limits.extend(
            self.processes
                .map(|count| json!({"type": "RLIMIT_NPROC", "soft": count, "hard": count})),
        );
        process["rlimits"] = json!(limits);
        match self.oom {
            None => drop(process.as_object_mut().unwrap().remove("oomScoreAdj")),
            Some(score) => process["oomScoreAdj"] = json!(score),
        }
        config["root"]["readonly"] = json!(self.readonly_root);
        edit_array(&mut config, "/mounts", |mounts| {
            for (index, (destination, options)) in self.binds.iter().enumerate() {
                let mut options = options.clone();
                options.push("rbind");
                mounts.push(
                    json!({"destination": destination, "type": "bind", "options": options,
                    "source": volumes.join(index.to_string())}),
                );
            }
        });
        let linux = &mut config["linux"];
        for (key, list) in [("maskedPaths", &self.masked), ("readonlyPaths", &self.readonly)] {
            match list {
                None => drop(linux.as_object_mut().unwrap().remove(key)),
                Some(list) => linux[key] = json!(list),
            }
        }
        linux["namespaces"]
            .as_array_mut()
            .unwrap()
            .retain(|entry| !self.missing.contains(&entry["type"].as_str().unwrap()));
        if self.missing.contains(&"uts") {
            linux.as_object_mut().unwrap().remove("hostname");
        }
        let sysctl: serde_json::Map<String, Value> = self
            .sysctl
            .iter()
            .map(|(key, value)| ((*key).to_owned(), json!(value)))
            .collect();
        linux["sysctl"] = Value::Object(sysctl);
        match self.seccomp {
            Filter::Absent => {}
            Filter::Null => linux["seccomp"] = Value::Null,
            Filter::AllowsAll => linux["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW"}),
            Filter::DeniesOne => {
                linux["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
                    "syscalls": [{"names": ["kexec_load"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]});
            }
        }
        match &self.devices {
            None => drop(linux["resources"].as_object_mut().unwrap().remove("devices")),
            Some(rules) => {
                let rules: Vec<Value> = rules
                    .iter()
                    .map(|rule| match *rule {
                        "deny" => json!({"allow": false, "access": "rwm"}),
                        "null" => json!({"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"}),
                        "disk" => json!({"allow": true, "type": "b", "major": 8, "minor": 0, "access": "r"}),
                        _ => json!({"allow": true, "access": "rwm"}),
                    })
                    .collect();
                linux["resources"]["devices"] = json!(rules);
            }
        }
        if let Some(limit) = self.pids.filter(|&limit| limit < 0 || limits_processes()) {
            linux["resources"]["pids"] = json!({"limit": limit});
        }
        if let Some(propagation) = self.propagation {
            linux["rootfsPropagation"] = json!(propagation);
        }
        if self.missing.contains(&"uts") {
            config.as_object_mut().unwrap().remove("hostname");
        }
        config
    }
}
