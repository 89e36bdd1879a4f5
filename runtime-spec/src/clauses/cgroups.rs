//! config-linux.md: the cgroup and its limits, read back where the kernel keeps them.

use crate::bundle::remove;
use crate::clause::{Clause, Stop, Verdict};
use crate::container::Container;
use crate::expect::{fail, holds, same, skip};
use crate::host::{self, Hierarchy, Version, controller};
use crate::runtime::read;
use crate::stage::Stage;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const MIB: u64 = 1024 * 1024;

pub(super) const CLAUSES: &[Clause] = &[
    Clause::must(
        "config-linux.md#cgroups-path/absolute",
        "an absolute cgroupsPath is taken from the cgroup mount point, and made if it is not there",
        |stage| {
            stage.needs_paths()?;
            let container = stage.container()?;
            container.must_create()?;
            let path = stage.cgroup(&container.id);
            let found = host::cgroup_directories(&path);
            holds(!found.is_empty(), || format!("no hierarchy has {path}"))?;
            let pid = container.pid()?;
            for directory in found {
                let members = read(&directory.join("cgroup.procs"));
                holds(members.lines().any(|member| member == pid.to_string()), || {
                    format!("process {pid} is not in {directory:?}")
                })?;
            }
            Ok(())
        },
    ),
    Clause::must(
        "config-linux.md#cgroups-path/relative-is-consistent",
        "the same relative cgroupsPath leads to the same cgroup",
        |stage| {
            stage.needs_paths()?;
            let mut places = Vec::new();
            for _ in 0..2 {
                let mut container = stage.container()?;
                container.config["linux"]["cgroupsPath"] =
                    json!(format!("conf-relative-{}", std::process::id()));
                container.must_create()?;
                places.push(read(Path::new(&format!("/proc/{}/cgroup", container.pid()?))));
                container.must_kill()?;
                container.must_delete()?;
            }
            same("cgroups", &places[0], &places[1])
        },
    ),
    Clause::must(
        "config-linux.md#cgroups-path/absent",
        "without cgroupsPath a container works, and its cgroup goes when it goes",
        |stage| {
            let mut container = stage.container()?;
            remove(&mut container.config, "/linux/cgroupsPath");
            container.must_create()?;
            let table = read(Path::new(&format!("/proc/{}/cgroup", container.pid()?)));
            container.must_kill()?;
            container.must_delete()?;
            let of_its_own = table
                .lines()
                .filter_map(|line| line.rsplit(':').next())
                .filter(|path| path.contains(&container.id));
            let left: Vec<PathBuf> = of_its_own.flat_map(host::cgroup_directories).collect();
            same("cgroups left", left, Vec::<PathBuf>::new())
        },
    ),
    Clause::must(
        "config-linux.md#memory/limit",
        "memory.limit is the limit",
        |stage| {
            memory(
                stage,
                json!({"limit": 64 * MIB}),
                "memory.limit_in_bytes",
                "memory.max",
                &(64 * MIB).to_string(),
            )
        },
    ),
    Clause::must(
        "config-linux.md#memory/reservation",
        "memory.reservation is the soft limit",
        |stage| {
            memory(
                stage,
                json!({"reservation": 32 * MIB}),
                "memory.soft_limit_in_bytes",
                "memory.low",
                &(32 * MIB).to_string(),
            )
        },
    ),
    Clause::must(
        "config-linux.md#memory/swap",
        "memory.swap limits memory and swap together",
        |stage| {
            // In v2 the file holds the swap alone.
            let wanted = match controller("memory")?.version {
                Version::V1 => 96 * MIB,
                Version::V2 => 32 * MIB,
            };
            memory(
                stage,
                json!({"limit": 64 * MIB, "swap": 96 * MIB}),
                "memory.memsw.limit_in_bytes",
                "memory.swap.max",
                &wanted.to_string(),
            )
        },
    ),
    Clause::must(
        "config-linux.md#memory/unlimited",
        "a memory limit of -1 is no limit",
        |stage| {
            let (seen, hierarchy) = limited(
                stage,
                "memory",
                json!({"memory": {"limit": -1}}),
                "memory.limit_in_bytes",
                "memory.max",
            )?;
            match hierarchy.version {
                Version::V2 => same("memory.max", seen.as_str(), "max"),
                Version::V1 => holds(seen.parse::<u64>().is_ok_and(|limit| limit > 1 << 62), || {
                    format!("limit is {seen}")
                }),
            }
        },
    ),
    Clause::must(
        "config-linux.md#memory/swappiness",
        "memory.swappiness is set",
        |stage| {
            only_v1("memory", "v2 has no swappiness")?;
            memory(stage, json!({"swappiness": 7}), "memory.swappiness", "", "7")
        },
    ),
    Clause::must(
        "config-linux.md#memory/disable-oom-killer",
        "disableOOMKiller is set",
        |stage| {
            only_v1("memory", "v2 cannot disable the OOM killer")?;
            let (seen, _) = limited(
                stage,
                "memory",
                json!({"memory": {"limit": 64 * MIB, "disableOOMKiller": true}}),
                "memory.oom_control",
                "",
            )?;
            holds(seen.contains("oom_kill_disable 1"), || {
                format!("memory.oom_control is {seen:?}")
            })
        },
    ),
    Clause::must(
        "config-linux.md#cpu/shares",
        "cpu.shares is the weight",
        |stage| {
            let (seen, hierarchy) = limited(
                stage,
                "cpu",
                json!({"cpu": {"shares": 512}}),
                "cpu.shares",
                "cpu.weight",
            )?;
            match hierarchy.version {
                Version::V1 => same("cpu.shares", seen.as_str(), "512"),
                // 512 of 1024 shares: half of the default weight of 100, or 20 by the older linear formula.
                Version::V2 => holds((15..=60).contains(&seen.parse().unwrap_or(0)), || {
                    format!("cpu.weight is {seen}")
                }),
            }
        },
    ),
    Clause::must(
        "config-linux.md#cpu/quota-and-period",
        "cpu.quota and cpu.period are set",
        |stage| {
            let resources = json!({"cpu": {"quota": 50_000, "period": 200_000}});
            let (quota, hierarchy) = limited(stage, "cpu", resources.clone(), "cpu.cfs_quota_us", "cpu.max")?;
            if hierarchy.version == Version::V2 {
                return same("cpu.max", quota.as_str(), "50000 200000");
            }
            same("cpu.cfs_quota_us", quota.as_str(), "50000")?;
            same(
                "cpu.cfs_period_us",
                limited(stage, "cpu", resources, "cpu.cfs_period_us", "")?
                    .0
                    .as_str(),
                "200000",
            )
        },
    ),
    Clause::must("config-linux.md#cpu/burst", "cpu.burst is set", |stage| {
        let resources = json!({"cpu": {"quota": 50_000, "period": 200_000, "burst": 10_000}});
        same(
            "burst",
            limited(stage, "cpu", resources, "cpu.cfs_burst_us", "cpu.max.burst")?
                .0
                .as_str(),
            "10000",
        )
    }),
    Clause::must("config-linux.md#cpu/idle", "cpu.idle is set", |stage| {
        same(
            "idle",
            limited(stage, "cpu", json!({"cpu": {"idle": 1}}), "cpu.idle", "cpu.idle")?
                .0
                .as_str(),
            "1",
        )
    }),
    Clause::must(
        "config-linux.md#cpu/cpus",
        "cpu.cpus are the processors the container runs on",
        |stage| {
            controller("cpuset")?;
            let mut container = stage.container()?;
            container.config["linux"]["resources"] = json!({"cpu": {"cpus": "0", "mems": "0"}});
            container.script("grep Cpus_allowed_list /proc/self/status");
            let seen = container.run_to_end()?;
            same("processors", seen.text().rsplit('\t').next(), Some("0"))
        },
    ),
    Clause::must(
        "config-linux.md#cpu/mems",
        "cpu.mems are the memory nodes",
        |stage| {
            same(
                "nodes",
                limited(
                    stage,
                    "cpuset",
                    json!({"cpu": {"cpus": "0", "mems": "0"}}),
                    "cpuset.mems",
                    "cpuset.mems",
                )?
                .0
                .as_str(),
                "0",
            )
        },
    ),
    Clause::must(
        "config-linux.md#cpu/impossible",
        "processors that do not exist are an error",
        |stage| {
            controller("cpuset")?;
            stage.refuses(|config| config["linux"]["resources"] = json!({"cpu": {"cpus": "4000"}}))
        },
    ),
    Clause::must(
        "config-linux.md#block-io/weight",
        "blockIO.weight is set",
        |stage| {
            let hierarchy = controller("blkio")?;
            let resources = json!({"blockIO": {"weight": 200}});
            let mut container = stage.container()?;
            container.config["linux"]["resources"] = resources;
            let directory = of(&container, &hierarchy);
            let created = container.create()?;
            let files = ["blkio.weight", "blkio.bfq.weight", "io.weight", "io.bfq.weight"];
            let seen: Vec<String> = files
                .iter()
                .map(|file| read(&directory.join(file)))
                .filter(|text| !text.is_empty())
                .collect();
            if seen.is_empty() {
                return skip("the block I/O controller of this kernel has no weight");
            }
            holds(created.ok(), || format!("create failed: {}", created.complaint()))?;
            // Without BFQ, version 2 has weights from 1 to 10000 for those from 10 to 1000.
            let is_weight = |text: &String| text.contains("200") || text.trim() == "default 1920";
            holds(seen.iter().any(is_weight), || format!("weights are {seen:?}"))
        },
    ),
    Clause::must(
        "config-linux.md#block-io/throttle",
        "throttleReadBpsDevice is set",
        |stage| {
            let hierarchy = controller("blkio")?;
            let Some(disk) = a_disk() else {
                return skip("no block device with a throttle here");
            };
            let (major, minor) = disk;
            let mut container = stage.container()?;
            container.config["linux"]["resources"] = json!({"blockIO": {"throttleReadBpsDevice": [{"major": major, "minor": minor, "rate": 1_048_576}]}});
            container.must_create()?;
            let file = if hierarchy.version == Version::V1 {
                "blkio.throttle.read_bps_device"
            } else {
                "io.max"
            };
            let seen = read(&of(&container, &hierarchy).join(file));
            let line = seen
                .lines()
                .find(|line| line.starts_with(&format!("{major}:{minor} ")));
            holds(line.is_some_and(|line| line.contains("1048576")), || {
                format!("{file} is {seen:?}")
            })
        },
    ),
    Clause::must(
        "config-linux.md#pids/limit",
        "pids.limit is the number of tasks",
        |stage| {
            same(
                "pids.max",
                limited(
                    stage,
                    "pids",
                    json!({"pids": {"limit": 23}}),
                    "pids.max",
                    "pids.max",
                )?
                .0
                .as_str(),
                "23",
            )
        },
    ),
    Clause::must(
        "config-linux.md#pids/enforced",
        "no more tasks than pids.limit can be made",
        |stage| {
            controller("pids")?;
            let seen = stage.observe(
                "for i in 1 2 3 4 5 6 7 8; do sleep 0.3 & done; echo not-refused; wait",
                |config| {
                    config["linux"]["resources"] = json!({"pids": {"limit": 4}});
                },
            )?;
            let text = format!("{}{}", seen.out, seen.err);
            holds(text.contains("can't fork"), || {
                format!("nine tasks under a limit of four: {text:?}")
            })
        },
    ),
    Clause::must(
        "config-linux.md#hugepage-limits/limit",
        "hugepageLimits are set",
        |stage| {
            let resources = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]});
            let files = ("hugetlb.2MB.rsvd.limit_in_bytes", "hugetlb.2MB.max");
            same(
                "limit",
                limited(stage, "hugetlb", resources, files.0, files.1)?.0.as_str(),
                "4194304",
            )
        },
    ),
    Clause::must(
        "config-linux.md#network/class-id",
        "network.classID is set",
        |stage| {
            only_v1("net_cls", "v2 has no net_cls")?;
            same(
                "classID",
                limited(
                    stage,
                    "net_cls",
                    json!({"network": {"classID": 1_048_577}}),
                    "net_cls.classid",
                    "",
                )?
                .0
                .as_str(),
                "1048577",
            )
        },
    ),
    Clause::must(
        "config-linux.md#unified/set",
        "unified writes the files of cgroup v2",
        |stage| {
            let hierarchy = on_v2()?;
            // cgroup.max.depth is there without any controller.
            let mut container = stage.container()?;
            container.config["linux"]["resources"] = json!({"unified": {"cgroup.max.depth": "7"}});
            container.must_create()?;
            same(
                "cgroup.max.depth",
                read(&of(&container, &hierarchy).join("cgroup.max.depth")).trim(),
                "7",
            )
        },
    ),
    Clause::must(
        "config-linux.md#unified/controller-missing",
        "unified for a controller that is not there is an error",
        |stage| {
            on_v2()?;
            stage
                .refuses(|config| config["linux"]["resources"] = json!({"unified": {"conformance.max": "1"}}))
        },
    ),
    Clause::must(
        "config-linux.md#unified/without-version-2",
        "unified where the controllers are version 1's is an error",
        |stage| {
            if host::cgroup_mode() == "v2" {
                return skip("needs controllers of version 1");
            }
            stage.refuses(|config| {
                config["linux"]["resources"] = json!({"unified": {"memory.low": "1048576"}})
            })
        },
    ),
    Clause::must(
        "config-linux.md#unified/no-conversion",
        "a limit for a controller that is not there is an error",
        |stage| {
            let hierarchy = on_v2()?;
            if hierarchy.controllers.iter().any(|name| name == "memory") {
                return skip("the memory controller is there");
            }
            stage.refuses(|config| config["linux"]["resources"] = json!({"memory": {"limit": 64 * MIB}}))
        },
    ),
];

/// Where the container's cgroup is in a hierarchy.
fn of(container: &Container<'_>, hierarchy: &Hierarchy) -> PathBuf {
    hierarchy.mount.join(container.cgroup().trim_start_matches('/'))
}

/// Creates a container with these resources, and reads one file of its cgroup.
fn limited(
    stage: &Stage,
    name: &str,
    resources: Value,
    v1: &str,
    v2: &str,
) -> Result<(String, Hierarchy), Stop> {
    let hierarchy = controller(name)?;
    let mut container = stage.container()?;
    container.config["linux"]["resources"] = resources;
    container.must_create()?;
    let file = if hierarchy.version == Version::V1 { v1 } else { v2 };
    let path = of(&container, &hierarchy).join(file);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok((text.trim().to_owned(), hierarchy)),
        Err(_) if !hierarchy_has(&hierarchy, file) => skip(format!("this kernel has no {file}")),
        Err(error) => fail(format!("{path:?}: {error}")),
    }
}

/// True unless the root of the hierarchy, or any child of it, shows that there is no such file.
fn hierarchy_has(hierarchy: &Hierarchy, file: &str) -> bool {
    // v2 has no limits at the root, so what is missing there says nothing.
    hierarchy.version == Version::V2 || hierarchy.mount.join(file).exists()
}

fn memory(stage: &Stage, memory: Value, v1: &str, v2: &str, wanted: &str) -> Verdict {
    let (seen, _) = limited(stage, "memory", json!({"memory": memory}), v1, v2)?;
    same("limit", seen.as_str(), wanted)
}

fn only_v1(name: &str, why: &str) -> Verdict {
    if controller(name)?.version == Version::V2 {
        skip(why)
    } else {
        Ok(())
    }
}

/// The v2 hierarchy, on a host that has no other.
fn on_v2() -> Result<Hierarchy, Stop> {
    match host::hierarchies()
        .into_iter()
        .find(|hierarchy| hierarchy.version == Version::V2)
    {
        Some(hierarchy) if host::cgroup_mode() == "v2" => Ok(hierarchy),
        _ => skip(format!("needs cgroup v2 alone; this is {}", host::cgroup_mode())),
    }
}

/// The numbers of a whole disk.
fn a_disk() -> Option<(u64, u64)> {
    for entry in std::fs::read_dir("/sys/block").ok()?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("loop") || name.starts_with("ram") {
            continue;
        }
        let numbers = read(&entry.path().join("dev"));
        if let Some((major, minor)) = numbers.trim().split_once(':') {
            return Some((major.parse().ok()?, minor.parse().ok()?));
        }
    }
    None
}
