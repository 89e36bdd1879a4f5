//! A container's cgroups as the kernel shows them: who is in there, what they use, and who ran out of memory.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use containerd_shim_protos::protobuf::{Message, MessageField, well_known_types::any::Any};
use containerd_shim_protos::{cgroups::metrics as v1, cgroups_v2::metrics as v2};
use nix::sys::epoll::EpollFlags;
use nix::sys::eventfd::{EfdFlags, EventFd};

const MOUNT: &str = "/sys/fs/cgroup";

/// Where a container's processes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cgroup {
    /// Version 1, alone or beside version 2: a directory for each controller.
    Split(BTreeMap<String, PathBuf>),
    /// Version 2 alone.
    Unified(PathBuf),
}

impl Cgroup {
    /// The cgroups that a process is in; `None` if it is gone, or in none of its own.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let unified = Path::new(MOUNT).join("cgroup.controllers").exists();
        Cgroup::parse(&text, Path::new(MOUNT), unified)
    }

    /// Makes the kernel's lock for cgroups ready to be taken for writing. Where nobody has taken it for a while, that waits
    /// for a grace period of RCU, some ten milliseconds; then it is quick for as long again. gabion has to take it when it
    /// moves a process, and judges the bundle before; so a child of this process takes it meanwhile, moving itself to
    /// where it is. With version 2 alone, processes begin in their cgroup and nobody is moved.
    pub(crate) fn prepare_to_move() {
        let Some(file) = fs::read_to_string("/proc/self/cgroup")
            .ok()
            .and_then(|text| own_processes(&text, Path::new(MOUNT)))
        else {
            return;
        };
        // Without it all works as well. The main loop reaps the child, as every one.
        drop(gabion_sys::fork::fork(|| {
            i32::from(fs::write(&file, "0").is_err())
        }));
    }

    fn parse(text: &str, mount: &Path, unified: bool) -> Option<Self> {
        let mut split = BTreeMap::new();
        for line in text.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            let below = path.trim_start_matches('/');
            // The root is the host's, and a path with `..` is of another cgroup namespace.
            if below.is_empty() || below.split('/').any(|part| part == "..") {
                continue;
            }
            if unified && controllers.is_empty() {
                return Some(Cgroup::Unified(mount.join(below)));
            }
            for controller in controllers.split(',').filter(|name| !name.is_empty()) {
                let name = controller.strip_prefix("name=").unwrap_or(controller);
                // Joined ones have a link for each name, on most hosts.
                let joined = mount.join(controllers).join(below);
                let own = mount.join(name).join(below);
                split.insert(name.to_owned(), if own.exists() { own } else { joined });
            }
        }
        (!split.is_empty()).then_some(Cgroup::Split(split))
    }

    /// The processes in it and in those below it.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let top = match self {
            Cgroup::Unified(path) => Some(path),
            Cgroup::Split(paths) => ["pids", "devices", "memory", "systemd"]
                .iter()
                .find_map(|name| paths.get(*name))
                .or_else(|| paths.values().next()),
        };
        let mut found = Vec::new();
        let mut open: Vec<PathBuf> = top.into_iter().cloned().collect();
        while let Some(directory) = open.pop() {
            let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
            let below = fs::read_dir(&directory).into_iter().flatten().flatten();
            open.extend(
                below
                    .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                    .map(|entry| entry.path()),
            );
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// What the container uses, in the message that containerd knows for the version.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn metrics(&self) -> Result<Any, String> {
        let (name, value) = match self {
            Cgroup::Split(paths) => (
                "io.containerd.cgroups.v1.Metrics",
                metrics_v1(paths).write_to_bytes(),
            ),
            Cgroup::Unified(path) => (
                "io.containerd.cgroups.v2.Metrics",
                metrics_v2(path).write_to_bytes(),
            ),
        };
        let value = value.map_err(|error| format!("the metrics cannot be encoded: {error}"))?;
        Ok(Any {
            type_url: name.to_owned(),
            value,
            ..Any::default()
        })
    }

    /// Watches for processes that are killed for lack of memory; `None` if the host does not tell.
    pub(crate) fn watch(&self) -> Option<OomWatch> {
        match self {
            Cgroup::Split(paths) => {
                let memory = paths.get("memory")?;
                let control = fs::File::open(memory.join("memory.oom_control")).ok()?;
                let event =
                    EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).ok()?;
                use std::os::fd::AsRawFd;
                let line = format!("{} {}", event.as_fd().as_raw_fd(), control.as_raw_fd());
                fs::write(memory.join("cgroup.event_control"), line).ok()?;
                Some(OomWatch::Event(event, memory.clone()))
            }
            Cgroup::Unified(path) => {
                let mut counter = Counter::of(&path.join("memory.events"), "oom_kill").ok()?;
                counter.grown().ok()?;
                Some(OomWatch::Counter(counter))
            }
        }
    }
}

/// The file that lists the processes of the cgroup of version 1 that /proc/self/cgroup has for this process.
fn own_processes(text: &str, mount: &Path) -> Option<PathBuf> {
    text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let file = mount
            .join(controllers.split(',').next()?)
            .join(path.trim_start_matches('/'))
            .join("cgroup.procs");
        (!controllers.is_empty() && file.exists()).then_some(file)
    })
}

/// A descriptor that becomes readable when memory ran out.
#[derive(Debug)]
pub(crate) enum OomWatch {
    /// Version 1: an eventfd that the kernel counts up, also when the cgroup is removed.
    Event(EventFd, PathBuf),
    /// Version 2: the kills in memory.events.
    Counter(Counter),
}

/// A number in a file of a cgroup of version 2, whose changes the kernel tells whoever polls the file. inotify tells them
/// too, but a user may have no more than 128 instances of it, unless the host says otherwise.
#[derive(Debug)]
pub(crate) struct Counter {
    file: fs::File,
    name: &'static str,
    seen: u64,
}

impl Counter {
    fn of(path: &Path, name: &'static str) -> std::io::Result<Self> {
        let file = fs::File::open(path)?;
        Ok(Counter { file, name, seen: 0 })
    }

    /// Whether it has grown since the last time. Reading it here is what makes the kernel tell of the next change.
    fn grown(&mut self) -> std::io::Result<bool> {
        let mut text = [0; 1024];
        let length = self.file.read_at(&mut text, 0)?;
        let now = numbers(&String::from_utf8_lossy(&text[..length]))
            .get(self.name)
            .copied()
            .unwrap_or_default();
        let before = std::mem::replace(&mut self.seen, now);
        Ok(now > before)
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            OomWatch::Event(event, _) => event.as_fd(),
            OomWatch::Counter(counter) => counter.file.as_fd(),
        }
    }
}

/// What a readable [`OomWatch`] meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    Killed,
    Nothing,
    /// The cgroup is gone; there is nothing to watch any more.
    Gone,
}

impl OomWatch {
    /// Takes what is there to read.
    pub(crate) fn take(&mut self) -> Seen {
        match self {
            OomWatch::Event(event, memory) => match event.read() {
                Ok(_) if memory.join("memory.oom_control").exists() => Seen::Killed,
                Ok(_) => Seen::Gone,
                Err(_) => Seen::Nothing,
            },
            OomWatch::Counter(counter) => match counter.grown() {
                Ok(true) => Seen::Killed,
                Ok(false) => Seen::Nothing,
                // The kernel says ENODEV of a file whose cgroup was removed.
                Err(_) => Seen::Gone,
            },
        }
    }

    /// What is to be polled for.
    pub(crate) fn flags(&self) -> EpollFlags {
        match self {
            OomWatch::Event(..) => EpollFlags::EPOLLIN,
            OomWatch::Counter(_) => EpollFlags::EPOLLPRI,
        }
    }
}

/// One number; `max` is the largest, and what cannot be read is 0: a controller may be missing.
fn number(path: &Path) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    match text.trim() {
        "max" => u64::MAX,
        text => text.parse().unwrap_or_default(),
    }
}

/// Lines of a name and a number.
fn table(path: &Path) -> BTreeMap<String, u64> {
    numbers(&fs::read_to_string(path).unwrap_or_default())
}

fn numbers(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

/// CPU time of version 1's cpuacct.stat is counted in ticks of a hundredth of a second (time(7), `USER_HZ`).
const TICK_NANOSECONDS: u64 = 10_000_000;

fn metrics_v1(paths: &BTreeMap<String, PathBuf>) -> v1::Metrics {
    let mut metrics = v1::Metrics::new();
    if let Some(pids) = paths.get("pids") {
        let mut stat = v1::PidsStat::new();
        stat.current = number(&pids.join("pids.current"));
        // No limit is 0 here, as containerd's own reader has it.
        stat.limit = Some(number(&pids.join("pids.max")))
            .filter(|limit| *limit != u64::MAX)
            .unwrap_or_default();
        metrics.pids = MessageField::some(stat);
    }
    if let Some(accounting) = paths.get("cpuacct") {
        let ticks = table(&accounting.join("cpuacct.stat"));
        let mut usage = v1::CPUUsage::new();
        usage.total = number(&accounting.join("cpuacct.usage"));
        usage.user = ticks.get("user").copied().unwrap_or_default() * TICK_NANOSECONDS;
        usage.kernel = ticks.get("system").copied().unwrap_or_default() * TICK_NANOSECONDS;
        usage.per_cpu = fs::read_to_string(accounting.join("cpuacct.usage_percpu"))
            .unwrap_or_default()
            .split_whitespace()
            .filter_map(|value| value.parse().ok())
            .collect();
        let mut cpu = v1::CPUStat::new();
        cpu.usage = MessageField::some(usage);
        if let Some(path) = paths.get("cpu") {
            let stat = table(&path.join("cpu.stat"));
            let get = |name: &str| stat.get(name).copied().unwrap_or_default();
            let mut throttle = v1::Throttle::new();
            throttle.periods = get("nr_periods");
            throttle.throttled_periods = get("nr_throttled");
            throttle.throttled_time = get("throttled_time");
            cpu.throttling = MessageField::some(throttle);
        }
        metrics.cpu = MessageField::some(cpu);
    }
    if let Some(memory) = paths.get("memory") {
        metrics.memory = MessageField::some(memory_v1(memory));
        let control = table(&memory.join("memory.oom_control"));
        let get = |name: &str| control.get(name).copied().unwrap_or_default();
        let mut oom = v1::MemoryOomControl::new();
        oom.oom_kill_disable = get("oom_kill_disable");
        oom.under_oom = get("under_oom");
        oom.oom_kill = get("oom_kill");
        metrics.memory_oom_control = MessageField::some(oom);
    }
    if let Some(blkio) = paths.get("blkio") {
        let mut stat = v1::BlkIOStat::new();
        stat.io_service_bytes_recursive = block_v1(&blkio.join("blkio.throttle.io_service_bytes_recursive"));
        stat.io_serviced_recursive = block_v1(&blkio.join("blkio.throttle.io_serviced_recursive"));
        metrics.blkio = MessageField::some(stat);
    }
    metrics
}

fn memory_v1(memory: &Path) -> v1::MemoryStat {
    let stat = table(&memory.join("memory.stat"));
    let get = |name: &str| stat.get(name).copied().unwrap_or_default();
    let entry = |name: &str| {
        let file = |what: &str| number(&memory.join(format!("memory.{name}{what}")));
        MessageField::some(v1::MemoryEntry {
            limit: file("limit_in_bytes"),
            usage: file("usage_in_bytes"),
            max: file("max_usage_in_bytes"),
            failcnt: file("failcnt"),
            ..v1::MemoryEntry::default()
        })
    };
    v1::MemoryStat {
        cache: get("cache"),
        rss: get("rss"),
        rss_huge: get("rss_huge"),
        mapped_file: get("mapped_file"),
        dirty: get("dirty"),
        writeback: get("writeback"),
        pg_pg_in: get("pgpgin"),
        pg_pg_out: get("pgpgout"),
        pg_fault: get("pgfault"),
        pg_maj_fault: get("pgmajfault"),
        inactive_anon: get("inactive_anon"),
        active_anon: get("active_anon"),
        inactive_file: get("inactive_file"),
        active_file: get("active_file"),
        unevictable: get("unevictable"),
        hierarchical_memory_limit: get("hierarchical_memory_limit"),
        hierarchical_swap_limit: get("hierarchical_memsw_limit"),
        total_cache: get("total_cache"),
        total_rss: get("total_rss"),
        total_rss_huge: get("total_rss_huge"),
        total_mapped_file: get("total_mapped_file"),
        total_dirty: get("total_dirty"),
        total_writeback: get("total_writeback"),
        total_pg_pg_in: get("total_pgpgin"),
        total_pg_pg_out: get("total_pgpgout"),
        total_pg_fault: get("total_pgfault"),
        total_pg_maj_fault: get("total_pgmajfault"),
        total_inactive_anon: get("total_inactive_anon"),
        total_active_anon: get("total_active_anon"),
        total_inactive_file: get("total_inactive_file"),
        total_active_file: get("total_active_file"),
        total_unevictable: get("total_unevictable"),
        usage: entry(""),
        swap: entry("memsw."),
        kernel: entry("kmem."),
        kernel_tcp: entry("kmem.tcp."),
        ..v1::MemoryStat::default()
    }
}

/// Lines such as `8:0 Read 4096`; the last one is a total without a device.
fn block_v1(path: &Path) -> Vec<v1::BlkIOEntry> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (major, minor) = words.next()?.split_once(':')?;
            Some(v1::BlkIOEntry {
                major: major.parse().ok()?,
                minor: minor.parse().ok()?,
                op: words.next()?.to_owned(),
                value: words.next()?.parse().ok()?,
                ..v1::BlkIOEntry::default()
            })
        })
        .collect()
}

fn metrics_v2(path: &Path) -> v2::Metrics {
    let mut metrics = v2::Metrics::new();
    metrics.pids = MessageField::some(v2::PidsStat {
        current: number(&path.join("pids.current")),
        limit: Some(number(&path.join("pids.max")))
            .filter(|limit| *limit != u64::MAX)
            .unwrap_or_default(),
        ..v2::PidsStat::default()
    });
    let cpu = table(&path.join("cpu.stat"));
    let get = |name: &str| cpu.get(name).copied().unwrap_or_default();
    metrics.cpu = MessageField::some(v2::CPUStat {
        usage_usec: get("usage_usec"),
        user_usec: get("user_usec"),
        system_usec: get("system_usec"),
        nr_periods: get("nr_periods"),
        nr_throttled: get("nr_throttled"),
        throttled_usec: get("throttled_usec"),
        nr_bursts: get("nr_bursts"),
        burst_usec: get("burst_usec"),
        ..v2::CPUStat::default()
    });
    metrics.memory = MessageField::some(memory_v2(path));
    let events = table(&path.join("memory.events"));
    let get = |name: &str| events.get(name).copied().unwrap_or_default();
    metrics.memory_events = MessageField::some(v2::MemoryEvents {
        low: get("low"),
        high: get("high"),
        max: get("max"),
        oom: get("oom"),
        oom_kill: get("oom_kill"),
        oom_group_kill: get("oom_group_kill"),
        ..v2::MemoryEvents::default()
    });
    metrics.io = MessageField::some(v2::IOStat {
        usage: io_v2(&path.join("io.stat")),
        ..v2::IOStat::default()
    });
    metrics
}

fn memory_v2(path: &Path) -> v2::MemoryStat {
    let stat = table(&path.join("memory.stat"));
    let get = |name: &str| stat.get(name).copied().unwrap_or_default();
    v2::MemoryStat {
        anon: get("anon"),
        file: get("file"),
        kernel_stack: get("kernel_stack"),
        slab: get("slab"),
        sock: get("sock"),
        shmem: get("shmem"),
        file_mapped: get("file_mapped"),
        file_dirty: get("file_dirty"),
        file_writeback: get("file_writeback"),
        anon_thp: get("anon_thp"),
        inactive_anon: get("inactive_anon"),
        active_anon: get("active_anon"),
        inactive_file: get("inactive_file"),
        active_file: get("active_file"),
        unevictable: get("unevictable"),
        slab_reclaimable: get("slab_reclaimable"),
        slab_unreclaimable: get("slab_unreclaimable"),
        pgfault: get("pgfault"),
        pgmajfault: get("pgmajfault"),
        // Two since 5.9, for anonymous and file pages.
        workingset_refault: get("workingset_refault_anon") + get("workingset_refault_file"),
        workingset_activate: get("workingset_activate_anon") + get("workingset_activate_file"),
        workingset_nodereclaim: get("workingset_nodereclaim"),
        pgrefill: get("pgrefill"),
        pgscan: get("pgscan"),
        pgsteal: get("pgsteal"),
        pgactivate: get("pgactivate"),
        pgdeactivate: get("pgdeactivate"),
        pglazyfree: get("pglazyfree"),
        pglazyfreed: get("pglazyfreed"),
        thp_fault_alloc: get("thp_fault_alloc"),
        thp_collapse_alloc: get("thp_collapse_alloc"),
        usage: number(&path.join("memory.current")),
        usage_limit: number(&path.join("memory.max")),
        swap_usage: number(&path.join("memory.swap.current")),
        swap_limit: number(&path.join("memory.swap.max")),
        max_usage: number(&path.join("memory.peak")),
        swap_max_usage: number(&path.join("memory.swap.peak")),
        ..v2::MemoryStat::default()
    }
}

/// Lines such as `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`.
fn io_v2(path: &Path) -> Vec<v2::IOEntry> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (major, minor) = words.next()?.split_once(':')?;
            let mut entry = v2::IOEntry::new();
            entry.major = major.parse().ok()?;
            entry.minor = minor.parse().ok()?;
            for (name, value) in words.filter_map(|word| word.split_once('=')) {
                let value = value.parse().unwrap_or_default();
                match name {
                    "rbytes" => entry.rbytes = value,
                    "wbytes" => entry.wbytes = value,
                    "rios" => entry.rios = value,
                    "wios" => entry.wios = value,
                    _ => {}
                }
            }
            Some(entry)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollTimeout};

    use super::*;

    #[test]
    fn a_process_place_is_found_in_both_versions() {
        let mount = Path::new("/nowhere");
        let text = "3:memory:/k8s/c1\n2:cpu,cpuacct:/k8s/c1\n1:name=systemd:/\n0::/k8s/c1\n";
        let Some(Cgroup::Split(paths)) = Cgroup::parse(text, mount, false) else {
            panic!("not split")
        };
        assert_eq!(paths["memory"], PathBuf::from("/nowhere/memory/k8s/c1"));
        assert_eq!(paths["cpu"], PathBuf::from("/nowhere/cpu,cpuacct/k8s/c1"));
        assert!(!paths.contains_key("systemd"));
        assert_eq!(
            Cgroup::parse("0::/k8s/c1\n", mount, true),
            Some(Cgroup::Unified(PathBuf::from("/nowhere/k8s/c1")))
        );
    }

    #[test]
    fn a_number_that_grows_is_seen_by_polling_its_file() {
        let mount = ["/sys/fs/cgroup/unified", MOUNT].map(Path::new);
        let Some(mount) = mount.into_iter().find(|path| path.join("cgroup.procs").exists()) else {
            return println!("SKIPPED no cgroup of version 2 here");
        };
        let place = mount.join(format!("gabion-shim-test-{}", std::process::id()));
        if fs::create_dir(&place).is_err() {
            return println!("SKIPPED no cgroup can be made here");
        }
        let mut watch = OomWatch::Counter(Counter::of(&place.join("cgroup.events"), "populated").unwrap());
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let flags = watch.flags();
        assert_eq!(watch.take(), Seen::Nothing);
        epoll.add(&watch, EpollEvent::new(flags, 0)).unwrap();
        let mut events = [EpollEvent::empty()];
        assert_eq!(epoll.wait(&mut events, EpollTimeout::ZERO), Ok(0));
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let moved = fs::write(place.join("cgroup.procs"), child.id().to_string());
        let told = epoll.wait(&mut events, EpollTimeout::from(5000_u16));
        let seen = [watch.take(), watch.take()];
        child.kill().unwrap();
        child.wait().unwrap();
        fs::remove_dir(&place).unwrap();
        moved.unwrap();
        assert_eq!(
            (told, seen, watch.take()),
            (Ok(1), [Seen::Killed, Seen::Nothing], Seen::Gone)
        );
    }

    #[test]
    fn the_lock_for_cgroups_is_taken_where_this_process_is_with_version_1_alone() {
        let mount = tempfile::tempdir().unwrap();
        for place in ["cpu/pod", "unified/pod"] {
            let place = mount.path().join(place);
            fs::create_dir_all(&place).unwrap();
            fs::write(place.join("cgroup.procs"), "").unwrap();
        }
        let own = |text: &str| own_processes(text, mount.path());
        let both = "9:name=systemd:/pod\n4:cpu,cpuacct:/pod\n0::/pod\n";
        assert_eq!(own(both), Some(mount.path().join("cpu/pod/cgroup.procs")));
        assert_eq!(own("0::/pod\n"), None);
    }

    #[test]
    fn the_hosts_root_and_places_outside_are_nobodys() {
        for text in ["0::/\n", "0::/../../x\n", ""] {
            assert_eq!(Cgroup::parse(text, Path::new("/nowhere"), true), None, "{text:?}");
        }
    }

    #[test]
    fn version_2_is_read_into_containerds_message() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write("pids.current", "3\n");
        write("pids.max", "max\n");
        write("cpu.stat", "usage_usec 12\nuser_usec 7\nsystem_usec 5\n");
        write("memory.current", "4096\n");
        write("memory.max", "max\n");
        write(
            "memory.stat",
            "anon 11\nworkingset_refault_anon 2\nworkingset_refault_file 3\n",
        );
        write("memory.events", "oom 1\noom_kill 2\n");
        write(
            "io.stat",
            "8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n",
        );
        let any = Cgroup::Unified(directory.path().to_owned()).metrics().unwrap();
        assert_eq!(any.type_url, "io.containerd.cgroups.v2.Metrics");
        let metrics = v2::Metrics::parse_from_bytes(&any.value).unwrap();
        assert_eq!((metrics.pids.current, metrics.pids.limit), (3, 0));
        assert_eq!((metrics.cpu.usage_usec, metrics.cpu.system_usec), (12, 5));
        assert_eq!(
            (metrics.memory.usage, metrics.memory.usage_limit),
            (4096, u64::MAX)
        );
        assert_eq!((metrics.memory.anon, metrics.memory.workingset_refault), (11, 5));
        assert_eq!(metrics.memory_events.oom_kill, 2);
        let io = &metrics.io.usage[0];
        assert_eq!((io.major, io.minor, io.rbytes, io.wios), (8, 16, 1, 4));
    }

    #[test]
    fn version_1_is_read_into_containerds_message() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write("cpuacct.usage", "50000000\n");
        write("cpuacct.stat", "user 2\nsystem 3\n");
        write("cpuacct.usage_percpu", "20000000 30000000 \n");
        write("memory.usage_in_bytes", "4096\n");
        write("memory.limit_in_bytes", "67108864\n");
        write("memory.stat", "rss 11\ntotal_inactive_file 5\n");
        write("pids.current", "1\n");
        write("blkio.throttle.io_serviced_recursive", "8:0 Read 6\nTotal 6\n");
        let paths = ["cpuacct", "memory", "pids", "blkio"]
            .map(|name| (name.to_owned(), directory.path().to_owned()))
            .into();
        let any = Cgroup::Split(paths).metrics().unwrap();
        assert_eq!(any.type_url, "io.containerd.cgroups.v1.Metrics");
        let metrics = v1::Metrics::parse_from_bytes(&any.value).unwrap();
        assert_eq!(
            (metrics.cpu.usage.total, metrics.cpu.usage.kernel),
            (50_000_000, 30_000_000)
        );
        assert_eq!(metrics.cpu.usage.per_cpu, [20_000_000, 30_000_000]);
        assert_eq!(
            (metrics.memory.usage.usage, metrics.memory.usage.limit),
            (4096, 67_108_864)
        );
        assert_eq!((metrics.memory.rss, metrics.memory.total_inactive_file), (11, 5));
        assert_eq!(metrics.blkio.io_serviced_recursive.len(), 1);
    }

    #[test]
    fn every_process_below_is_listed_once() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("below")).unwrap();
        fs::write(directory.path().join("cgroup.procs"), "7\n3\n").unwrap();
        fs::write(directory.path().join("below/cgroup.procs"), "5\n3\n").unwrap();
        assert_eq!(
            Cgroup::Unified(directory.path().to_owned()).processes(),
            [3, 5, 7]
        );
    }
}
