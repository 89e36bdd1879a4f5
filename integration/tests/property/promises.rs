//! What a profile promises, and a bundle: of a configuration, and of what an observer sees.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use gabion_baseline::Profile;
use serde_json::{Value, json};

use crate::spec::{ALLOWED, EVIL, MASKED, READ_ONLY};

pub(crate) fn mask(names: &[Value]) -> u64 {
    let number = |name: &Value| {
        let known = ALLOWED.iter().chain(&EVIL);
        known
            .clone()
            .find(|(known, _)| name == known)
            .map(|(_, number)| *number)
    };
    names
        .iter()
        .filter_map(number)
        .fold(0, |mask, number| mask | 1 << number)
}

pub(crate) fn list<'v>(value: &'v Value, pointer: &str) -> &'v [Value] {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// What every container may have at most.
pub(crate) fn at_most(profile: Profile) -> u64 {
    match profile {
        Profile::Restricted => 1 << 10,
        _ => ALLOWED.iter().fold(0, |mask, (_, number)| mask | 1 << number),
    }
}

macro_rules! demand {
    ($holds:expr, $($words:tt)*) => {
        if !$holds {
            return Err(format!($($words)*));
        }
    };
}

/// The promises of a profile, of the configuration that is to be built.
pub(crate) fn effective_keeps(profile: Profile, effective: &Value) -> Result<(), String> {
    for set in ["bounding", "permitted", "effective", "inheritable", "ambient"] {
        let names = list(effective, &format!("/process/capabilities/{set}"));
        let unknown = names
            .iter()
            .filter(|name| !ALLOWED.iter().any(|(known, _)| *name == known));
        demand!(unknown.count() == 0, "{set} grants {names:?}");
        demand!(
            mask(names) & !at_most(profile) == 0,
            "{set} grants {names:?} under {profile:?}"
        );
    }
    demand!(
        effective
            .pointer("/process/capabilities")
            .is_some_and(Value::is_object),
        "no capabilities are named, which means all"
    );
    // Ambient capabilities, which a user who is not root may be given, have to be inheritable as well.
    let inheritable = mask(list(effective, "/process/capabilities/inheritable"));
    let ambient = mask(list(effective, "/process/capabilities/ambient"));
    demand!(
        inheritable & !ambient == 0 && (inheritable == 0 || effective["process"]["user"]["uid"] != 0),
        "capabilities can be inherited: {inheritable:#x}"
    );
    for kind in ["mount", "pid", "ipc", "network", "uts", "cgroup"] {
        let entry = list(effective, "/linux/namespaces")
            .iter()
            .find(|entry| entry["type"] == kind);
        demand!(
            entry.is_some_and(|entry| entry.get("path").is_none()),
            "no new {kind} namespace"
        );
    }
    demand!(
        effective
            .pointer("/linux/seccomp")
            .is_some_and(|filter| filter.is_object()),
        "no seccomp filter"
    );
    let masked = list(effective, "/linux/maskedPaths");
    let readonly = list(effective, "/linux/readonlyPaths");
    for path in MASKED {
        demand!(masked.iter().any(|masked| masked == path), "{path} is not masked");
    }
    for path in READ_ONLY {
        demand!(
            readonly.iter().any(|readonly| readonly == path),
            "{path} is not read-only"
        );
    }
    let sysctls = effective.pointer("/linux/sysctl").and_then(Value::as_object);
    for name in sysctls.into_iter().flat_map(serde_json::Map::keys) {
        demand!(name != "kernel.core_pattern", "{name} is set");
    }
    let devices = list(effective, "/linux/resources/devices");
    demand!(
        devices
            .first()
            .is_some_and(|rule| rule["allow"] == false && rule.get("major").is_none()),
        "devices are not denied first: {devices:?}"
    );
    demand!(
        devices
            .iter()
            .all(|rule| rule["allow"] == false || rule["major"] == 1),
        "devices are allowed: {devices:?}"
    );
    for mount in list(effective, "/mounts") {
        demand!(
            !list(mount, "/options").iter().any(|option| option == "rshared"),
            "{mount} propagates to the host"
        );
    }
    demand!(
        effective["linux"]
            .get("rootfsPropagation")
            .is_none_or(|kind| kind != "shared"),
        "the root propagates to the host"
    );
    demand!(
        !effective["process"]["cwd"]
            .as_str()
            .unwrap_or_default()
            .starts_with("/proc"),
        "the working directory is below /proc"
    );
    if profile == Profile::Restricted {
        demand!(
            effective["process"]["noNewPrivileges"] == true,
            "privileges can be gained"
        );
        demand!(effective["process"]["user"]["uid"] != 0, "it runs as root");
        demand!(
            effective["root"]["readonly"] == true,
            "the root can be written to"
        );
    }
    Ok(())
}

/// The promises of a profile and of the bundle, as the observer in the container sees them.
pub(crate) fn observed_keeps(profile: Profile, config: &Value, seen: &Value) -> Result<(), String> {
    let set = |name: &str| seen["capabilities"][name].as_u64().unwrap_or(u64::MAX);
    let given = config.pointer("/process/capabilities/bounding");
    let wanted = given.map_or_else(|| at_most(profile), |names| mask(names.as_array().unwrap()));
    demand!(
        set("bounding") & !(wanted & at_most(profile)) == 0,
        "the bounding set is {:#x}, of {wanted:#x}",
        set("bounding")
    );
    // What a user who is not root can never use is taken away without a loss.
    let inert = config["process"]["user"]["uid"] != 0 && config["process"]["noNewPrivileges"] == true;
    if profile == Profile::Baseline && !inert {
        demand!(
            set("bounding") == wanted,
            "the bounding set is {:#x}, not {wanted:#x}",
            set("bounding")
        );
    }
    let uid = &config["process"]["user"]["uid"];
    demand!(
        set("inheritable") & !set("ambient") == 0 && (set("inheritable") == 0 || *uid != 0),
        "capabilities are inherited: {:#x}",
        set("inheritable")
    );
    for name in ["permitted", "effective", "ambient"] {
        demand!(set(name) & !set("bounding") == 0, "{name} is {:#x}", set(name));
        demand!(
            *uid == 0 || name == "ambient" || set(name) == set("ambient"),
            "a user has {:#x}",
            set(name)
        );
    }
    let asked = config["process"]["noNewPrivileges"] == true || profile == Profile::Restricted;
    demand!(
        !asked || seen["noNewPrivileges"] == true,
        "no_new_privs is {}",
        seen["noNewPrivileges"]
    );
    let user = &config["process"]["user"];
    demand!(
        seen["uids"] == json!([uid, uid, uid]),
        "user ids are {}",
        seen["uids"]
    );
    demand!(
        seen["gids"] == json!([user["gid"], user["gid"], user["gid"]]),
        "group ids are {}",
        seen["gids"]
    );
    let numbers = |value: &Value| -> BTreeSet<u64> {
        value
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_u64)
            .collect()
    };
    demand!(
        numbers(&seen["groups"]) == numbers(&user["additionalGids"]),
        "groups are {}",
        seen["groups"]
    );
    let umask = user.get("umask").and_then(Value::as_u64).unwrap_or(0o022);
    demand!(seen["umask"] == umask, "the umask is {}", seen["umask"]);
    // A filter of the bundle's is the bundle's; where there is none, the default one answers.
    if config.pointer("/linux/seccomp").is_none_or(Value::is_null) {
        for (call, answer) in seen["calls"].as_object().unwrap() {
            // Raw packets are what CAP_NET_RAW is for, which the baseline leaves to containers.
            if call == "socket(AF_PACKET)" && profile != Profile::Restricted {
                continue;
            }
            demand!(
                ["EPERM", "ENOSYS", "EAFNOSUPPORT", "EPROTONOSUPPORT"]
                    .iter()
                    .any(|errno| answer == errno),
                "{call} is answered by {answer}"
            );
        }
    } else if config.pointer("/linux/seccomp/syscalls").is_some() {
        demand!(
            seen["calls"]["kexec_load"] == "ENOSYS",
            "the bundle's filter is not there"
        );
    }
    for (name, link) in seen["namespaces"].as_object().unwrap() {
        let host = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        let is_host = link.as_str() == host.to_str();
        let own = ["mnt", "pid", "ipc", "net", "uts", "cgroup", "pid_for_children"];
        demand!(
            !own.contains(&name.as_str()) || !is_host,
            "the {name} namespace is the host's"
        );
    }
    demand!(
        seen["descriptors"] == json!([0, 1, 2]),
        "descriptors are {}",
        seen["descriptors"]
    );
    demand!(seen["pid"] == 1, "it is process {}", seen["pid"]);
    for limit in list(config, "/process/rlimits") {
        let name = limit["type"].as_str().unwrap();
        demand!(
            seen["limits"][name] == json!([limit["soft"], limit["hard"]]),
            "{name} is {}",
            seen["limits"][name]
        );
    }
    if let Some(score) = config["process"].get("oomScoreAdj") {
        demand!(
            seen["oomScoreAdj"] == json!(score.to_string()),
            "oom_score_adj is {}",
            seen["oomScoreAdj"]
        );
    }
    paths_keep(config, seen)
}

pub(crate) fn paths_keep(config: &Value, seen: &Value) -> Result<(), String> {
    let paths = &seen["paths"];
    let listed = list(config, "/linux/maskedPaths")
        .iter()
        .filter_map(Value::as_str);
    for path in MASKED.into_iter().chain(listed) {
        let found = &paths[format!("read:{path}")];
        let hidden = found["error"].is_string() || found["text"] == "" || found["entries"] == 0;
        demand!(hidden, "{path} can be read: {found}");
    }
    let listed = list(config, "/linux/readonlyPaths")
        .iter()
        .filter_map(Value::as_str);
    let known = [
        "/proc/sys/kernel/hostname",
        "/proc/sysrq-trigger",
        "/proc/irq",
        "/sys/kernel",
    ];
    for path in known.into_iter().chain(listed) {
        let found = &paths[format!("write:{path}")];
        demand!(found != "written", "{path} can be written to");
    }
    if config["root"]["readonly"] == true {
        demand!(paths["write:/"] != "written", "the root can be written to");
    }
    for (path, rdev) in [
        ("/dev/null", [1, 3]),
        ("/dev/zero", [1, 5]),
        ("/dev/urandom", [1, 9]),
    ] {
        let found = &paths[format!("stat:{path}")];
        demand!(
            found["character"] == true && found["rdev"] == json!(rdev),
            "{path} is {found}"
        );
    }
    let mounts = list(config, "/mounts");
    for (index, mount) in mounts
        .iter()
        .enumerate()
        .filter(|(_, mount)| mount["type"] == "bind")
    {
        let destination = mount["destination"].as_str().unwrap();
        let covered = mounts[index + 1..].iter().any(|later| {
            let later = later["destination"].as_str().unwrap();
            Path::new(destination).starts_with(later)
        });
        if covered {
            continue;
        }
        let source = Path::new(mount["source"].as_str().unwrap()).file_name().unwrap();
        let found = &paths[format!("read:{destination}/name")]["text"];
        demand!(
            found.as_str() == source.to_str(),
            "at {destination} is {found}, not {source:?}"
        );
        let options: Vec<&str> = list(mount, "/options").iter().filter_map(Value::as_str).collect();
        let readonly = options.iter().rev().find(|option| ["ro", "rw"].contains(option)) == Some(&"ro");
        if readonly || options.contains(&"rro") {
            let found = &paths[format!("write:{destination}")];
            demand!(found != "written", "{destination} can be written to");
        }
        let point = destination.replace("/link/", "/mnt/").replace(' ', "\\040");
        let held = list(&seen["mounts"][&point], "/options");
        for option in ["nosuid", "nodev", "noexec"] {
            demand!(
                !options.contains(&option) || held.iter().any(|held| held == option),
                "{destination} is not {option}: {held:?}"
            );
        }
    }
    for (name, value) in config
        .pointer("/linux/sysctl")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let path = format!("read:/proc/sys/{}", name.replace('.', "/"));
        let found = paths[&path]["text"]
            .as_str()
            .unwrap_or_default()
            .replace('\t', " ");
        demand!(value == found.as_str(), "{name} is {found:?}");
    }
    Ok(())
}

/// What the observer is asked of a configuration.
pub(crate) fn questions(config: &Value) -> Vec<String> {
    let mut words: BTreeSet<String> = BTreeSet::new();
    let strings = |pointer: &str| {
        list(config, pointer)
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
    };
    words.extend(MASKED.iter().map(|path| format!("read:{path}")));
    words.extend(strings("/linux/maskedPaths").map(|path| format!("read:{path}")));
    words.extend(strings("/linux/readonlyPaths").map(|path| format!("write:{path}")));
    for path in [
        "/proc/sys/kernel/hostname",
        "/proc/sysrq-trigger",
        "/proc/irq",
        "/sys/kernel",
        "/",
    ] {
        words.insert(format!("write:{path}"));
    }
    for path in ["/dev/null", "/dev/zero", "/dev/urandom"] {
        words.insert(format!("stat:{path}"));
    }
    for mount in list(config, "/mounts")
        .iter()
        .filter(|mount| mount["type"] == "bind")
    {
        let destination = mount["destination"].as_str().unwrap();
        words.insert(format!("read:{destination}/name"));
        words.insert(format!("write:{destination}"));
    }
    for name in config
        .pointer("/linux/sysctl")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        words.insert(format!("read:/proc/sys/{}", name.0.replace('.', "/")));
    }
    words.into_iter().collect()
}
