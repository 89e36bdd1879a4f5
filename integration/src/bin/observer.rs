//! The independent observer: a program that says, from inside a container, what it has and what it can do.
//!
//! ```text
//! observer read:PATH write:PATH stat:PATH ...
//! ```
//!
//! It prints one line of JSON. It is a workload like any other, asks the kernel itself, tries things rather than reading
//! that they are forbidden, and shares no code with the gates: what these believe is not repeated here.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout)] // it is what the program is for

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use gabion_sys::capability;
use gabion_sys::seccomp::probe;
use nix::errno::Errno;
use nix::libc;
use nix::sys::resource::{Resource, getrlimit};
use serde_json::{Map, Value, json};

fn main() {
    // First: whatever is asked later on may open some.
    let descriptors = descriptors();
    let mut paths = Map::new();
    for word in std::env::args().skip(1) {
        let outcome = match word.split_once(':') {
            Some(("read", path)) => read(path),
            Some(("write", path)) => write(path),
            Some(("stat", path)) => stat(path),
            _ => json!("no question"),
        };
        paths.insert(word, outcome);
    }
    let sets = capability::read().map(|sets| {
        json!({
            "bounding": sets.bounding, "effective": sets.effective, "inheritable": sets.inheritable,
            "permitted": sets.permitted, "ambient": sets.ambient
        })
    });
    let uids = nix::unistd::getresuid().map(|ids| [ids.real, ids.effective, ids.saved].map(|id| id.as_raw()));
    let gids = nix::unistd::getresgid().map(|ids| [ids.real, ids.effective, ids.saved].map(|id| id.as_raw()));
    let groups = nix::unistd::getgroups().map(|ids| ids.iter().map(|id| id.as_raw()).collect::<Vec<_>>());
    let umask = nix::sys::stat::umask(nix::sys::stat::Mode::empty()).bits();
    let limit = |resource| getrlimit(resource).map(|(soft, hard)| [soft, hard]).ok();
    println!(
        "{}",
        json!({
            "capabilities": sets.ok(),
            "noNewPrivileges": nix::sys::prctl::get_no_new_privs().ok(),
            "dumpable": nix::sys::prctl::get_dumpable().ok(),
            "uids": uids.ok(), "gids": gids.ok(), "groups": groups.ok(), "umask": umask,
            "calls": calls(),
            "namespaces": namespaces(),
            "mounts": mounts(),
            "limits": {
                "RLIMIT_NOFILE": limit(Resource::RLIMIT_NOFILE),
                "RLIMIT_CORE": limit(Resource::RLIMIT_CORE),
                "RLIMIT_NPROC": limit(Resource::RLIMIT_NPROC),
            },
            "oomScoreAdj": text("/proc/self/oom_score_adj"),
            "hostname": nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()),
            "directory": std::env::current_dir().ok(),
            "descriptors": descriptors,
            "pid": std::process::id(),
            "paths": paths,
        })
    );
}

fn text(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn name(error: &std::io::Error) -> String {
    error.raw_os_error().map_or_else(
        || error.to_string(),
        |number| format!("{:?}", Errno::from_raw(number)),
    )
}

/// What a file begins with, or what is in a directory.
fn read(path: &str) -> Value {
    if fs::metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
        return match fs::read_dir(path) {
            Ok(entries) => json!({"entries": entries.count()}),
            Err(error) => json!({"error": name(&error)}),
        };
    }
    let mut buffer = [0; 64];
    match fs::File::open(path).and_then(|mut file| file.read(&mut buffer)) {
        Ok(count) => json!({"text": String::from_utf8_lossy(&buffer[..count]).trim()}),
        Err(error) => json!({"error": name(&error)}),
    }
}

/// Whether a file can be opened for writing, or a file be made in a directory; nothing is changed by it.
fn write(path: &str) -> Value {
    let outcome = if fs::metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
        let inside = format!("{path}/.observer");
        fs::write(&inside, "").and_then(|()| fs::remove_file(&inside))
    } else {
        fs::OpenOptions::new().write(true).open(path).map(drop)
    };
    match outcome {
        Ok(()) => json!("written"),
        Err(error) if error.kind() == ErrorKind::NotFound => json!("nothing there"),
        Err(error) => json!(name(&error)),
    }
}

fn stat(path: &str) -> Value {
    match fs::symlink_metadata(path) {
        Ok(metadata) => json!({
            "device": metadata.dev(), "inode": metadata.ino(), "character": metadata.file_type().is_char_device(),
            "rdev": [libc::major(metadata.rdev()), libc::minor(metadata.rdev())]
        }),
        Err(error) => json!({"error": name(&error)}),
    }
}

/// Calls that a container has no need of, and the kernel's answers; `null` if one went through.
fn calls() -> BTreeMap<&'static str, Option<String>> {
    const NEW_USER: u64 = 0x1000_0000;
    let table: [(&str, i64, [u64; 6]); 16] = [
        ("socket(AF_ALG)", libc::SYS_socket, [38, 5, 0, 0, 0, 0]),
        ("socket(AF_VSOCK)", libc::SYS_socket, [40, 1, 0, 0, 0, 0]),
        ("socket(AF_RXRPC)", libc::SYS_socket, [33, 2, 0, 0, 0, 0]),
        ("socket(AF_KEY)", libc::SYS_socket, [15, 3, 2, 0, 0, 0]),
        ("socket(AF_PACKET)", libc::SYS_socket, [17, 3, 0, 0, 0, 0]),
        (
            "socket(NETLINK_NETFILTER)",
            libc::SYS_socket,
            [16, 3, 12, 0, 0, 0],
        ),
        ("socket(NETLINK_XFRM)", libc::SYS_socket, [16, 3, 6, 0, 0, 0]),
        (
            "unshare(CLONE_NEWUSER)",
            libc::SYS_unshare,
            [NEW_USER, 0, 0, 0, 0, 0],
        ),
        ("io_uring_setup", libc::SYS_io_uring_setup, [0; 6]),
        ("bpf", libc::SYS_bpf, [0; 6]),
        ("userfaultfd", libc::SYS_userfaultfd, [0; 6]),
        ("perf_event_open", libc::SYS_perf_event_open, [0; 6]),
        ("keyctl", libc::SYS_keyctl, [0; 6]),
        ("add_key", libc::SYS_add_key, [0; 6]),
        ("open_by_handle_at", libc::SYS_open_by_handle_at, [0; 6]),
        ("kexec_load", libc::SYS_kexec_load, [0; 6]),
    ];
    table
        .into_iter()
        .map(|(name, number, arguments)| {
            let answer = probe(number, arguments).ok().flatten();
            (name, answer.map(|errno| format!("{errno:?}")))
        })
        .collect()
}

fn namespaces() -> BTreeMap<String, String> {
    let entries = fs::read_dir("/proc/self/ns").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let link = fs::read_link(entry.path()).ok()?;
            Some((
                entry.file_name().to_string_lossy().into_owned(),
                link.to_string_lossy().into_owned(),
            ))
        })
        .collect()
}

/// Mount point, options, type: of each line of /proc/self/mounts, the last one of a place.
fn mounts() -> BTreeMap<String, Value> {
    let text = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            let (point, kind, options) = (words.next()?, words.next()?, words.next()?);
            let options: Vec<&str> = options.split(',').collect();
            Some((point.to_owned(), json!({"type": kind, "options": options})))
        })
        .collect()
}

fn descriptors() -> Vec<i32> {
    let entries = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let mut numbers: Vec<i32> = entries
        .filter(|entry| fs::read_link(entry.path()).is_ok_and(|target| !target.ends_with("fd")))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers
}
