//! What the entries of `linux.namespaces` lead to.
//!
//! A path proves nothing: engines send `/proc/<pid>/ns/*` for a pod's own namespaces and for the host's alike,
//! and Docker bind-mounts the host's network namespace under a name of its own. Only the inode tells. So each
//! path is opened once, what was opened is judged, and the descriptor is kept for whoever joins it.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use gabion_baseline::config::Namespace;
use gabion_baseline::facts::{Fact, HostMatch, Identity, NamespaceFact};
use gabion_sys::file::reopen;
use gabion_sys::namespace::Kind;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, fstat, fstatat, stat};
use nix::sys::statfs::{NSFS_MAGIC, PROC_SUPER_MAGIC};

use crate::walk::{Meta, Node};

/// The inode number that the kernel gives the initial namespace of a kind (`include/linux/proc_ns.h`; those of
/// network and mount namespaces since Linux 6.18, before that they had one like any other). Numbers from
/// 0xF0000000 on are for namespaces made later, so no other namespace ever has one of these.
pub fn initial_inode(kind: Kind) -> u64 {
    match kind {
        Kind::Ipc => 0xEFFF_FFFF,
        Kind::Uts => 0xEFFF_FFFE,
        Kind::User => 0xEFFF_FFFD,
        Kind::Pid => 0xEFFF_FFFC,
        Kind::Cgroup => 0xEFFF_FFFB,
        Kind::Time => 0xEFFF_FFFA,
        Kind::Network => 0xEFFF_FFF9,
        Kind::Mount => 0xEFFF_FFF8,
    }
}

/// The cgroup of the process by whose entry in /proc a namespace is joined: `/proc/PID/ns/…` or one of its threads'.
/// `judged` is the namespace that the path led to.
///
/// The id alone says nothing: it may have become another process' meanwhile, and a path may go on from a process to
/// somebody else's (`/proc/PID/root/…`). So both files are read through one directory, which stays the same process'
/// even if the id is given again, and the process has to be in the namespace that was judged.
pub(crate) fn owner(entry: &Namespace, judged: Option<&OwnedFd>) -> Fact<Option<String>> {
    let Some(path) = entry.joins() else {
        return Fact::Known(None);
    };
    let pid = path
        .strip_prefix("/proc/")
        .and_then(|rest| rest.split('/').next())
        .filter(|pid| !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit()));
    let Some(pid) = pid else {
        return Fact::Known(None);
    };
    let (Some(kind), Some(judged)) = (Kind::of_spec(&entry.kind), judged) else {
        return Fact::Unknown(format!("{path:?} leads to no namespace"));
    };
    match cgroup_within(pid, kind, judged) {
        Ok(Some(text)) => match cgroup_of(&text) {
            Some(cgroup) => Fact::Known(Some(cgroup.to_owned())),
            None => Fact::Unknown(format!("/proc/{pid}/cgroup names no cgroup")),
        },
        Ok(None) => Fact::Unknown(format!(
            "process {pid} is not in the namespace that {path:?} led to"
        )),
        Err(error) => Fact::Unknown(format!("/proc/{pid}: {error}")),
    }
}

/// What /proc says of the cgroups of a process; `None` if it is not in this namespace.
fn cgroup_within(pid: &str, kind: Kind, judged: &OwnedFd) -> std::io::Result<Option<String>> {
    let directory = File::open(format!("/proc/{pid}"))?;
    let mut text = String::new();
    let file = openat(
        &directory,
        "cgroup",
        OFlag::O_RDONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    File::from(file).take(64 * 1024).read_to_string(&mut text)?;
    let link = format!("ns/{}", kind.proc_name());
    // Last: where the process has ended since, there is no such file any more.
    let theirs = Meta::of(&fstatat(&directory, link.as_str(), AtFlags::empty())?).identity;
    let judged = Meta::of(&fstat(judged)?).identity;
    Ok((theirs == judged).then_some(text))
}

/// The cgroup that a runtime would have made for a process: the longest path of all hierarchies, since processes are
/// left at the root of those that nobody manages.
fn cgroup_of(text: &str) -> Option<&str> {
    text.lines()
        .filter_map(|line| line.splitn(3, ':').nth(2))
        .max_by_key(|path| path.len())
}

/// Looks at one entry. The descriptor is of a namespace of the wanted kind, ready for setns(2).
pub(crate) fn look(entry: &Namespace) -> (Fact<NamespaceFact>, Option<OwnedFd>) {
    let Some(path) = entry.joins() else {
        return (Fact::Known(NamespaceFact::New), None);
    };
    let not_one = |what: &str| {
        (
            Fact::Known(NamespaceFact::NotOne(format!("{path:?} {what}"))),
            None,
        )
    };
    let Some(wanted) = Kind::of_spec(&entry.kind) else {
        return not_one("is for an unknown type of namespace");
    };
    if !Path::new(path).is_absolute() {
        return not_one("is not an absolute path");
    }
    let found = match find(Path::new(path)) {
        Ok(Some(node)) => node,
        Ok(None) => return not_one("is a symbolic link; name the namespace itself"),
        Err(Errno::ENOENT | Errno::ENOTDIR) => return not_one("does not exist"),
        Err(errno) => return (Fact::Unknown(format!("{path:?}: {}", errno.desc())), None),
    };
    match found.file_system() {
        Ok(NSFS_MAGIC) => {}
        Ok(_) => return not_one("is no namespace"),
        Err(errno) => {
            return (
                Fact::Unknown(format!("fstatfs({path:?}): {}", errno.desc())),
                None,
            );
        }
    }
    // Neither ioctl(2) nor setns(2) takes a descriptor opened with O_PATH.
    let namespace = match reopen(&found.descriptor) {
        Ok(file) => file,
        Err(error) => return (Fact::Unknown(format!("{path:?}: {error}")), None),
    };
    match gabion_sys::namespace::kind(&namespace) {
        Ok(kind) if kind == wanted => {}
        Ok(kind) => {
            return not_one(&format!(
                "is {}",
                gabion_baseline::rules::namespaces::one(kind.spec_name())
            ));
        }
        Err(error) => return (Fact::Unknown(format!("{path:?}: {error}")), None),
    }
    let identity = found.meta.identity;
    match host_match(wanted, identity) {
        Ok(host) => (
            Fact::Known(NamespaceFact::Existing { identity, host }),
            Some(namespace.into()),
        ),
        Err(errno) => {
            let name = wanted.proc_name();
            (
                Fact::Unknown(format!(
                    "/proc/self/ns/{name}: {}; is /proc mounted?",
                    errno.desc()
                )),
                None,
            )
        }
    }
}

/// Finds the file without opening it. `None` is a symbolic link that procfs did not make: whoever may write
/// where it lies chooses the namespace.
///
/// Between the two calls for a link of procfs the path may be swapped. That gains nothing: only what the second
/// finds is judged, and used.
fn find(path: &Path) -> nix::Result<Option<Node>> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let node = Node::new(open(path, flags | OFlag::O_NOFOLLOW, Mode::empty())?)?;
    if node.meta.kind() != gabion_baseline::facts::FileKind::Symlink {
        return Ok(Some(node));
    }
    if node.file_system()? != PROC_SUPER_MAGIC {
        return Ok(None);
    }
    Ok(Some(Node::new(open(path, flags, Mode::empty())?)?))
}

/// Whether a namespace is the host's: the runtime's own, or an initial one of the kernel.
///
/// In a container that runs containers (kind, Docker in Docker) the runtime's own namespaces are not initial,
/// and are the host's for everyone it starts. /proc/1/ns is asked last and its refusal is no error: it takes
/// CAP_SYS_PTRACE, which a runtime need not have, and on recent kernels the numbers say the same.
fn host_match(kind: Kind, identity: Identity) -> nix::Result<Option<HostMatch>> {
    let name = kind.proc_name();
    let own = Meta::of(&stat(format!("/proc/self/ns/{name}").as_str())?).identity;
    if own == identity {
        return Ok(Some(HostMatch::Runtime));
    }
    if identity.device == own.device && identity.inode == initial_inode(kind) {
        return Ok(Some(HostMatch::Initial));
    }
    let init = stat(format!("/proc/1/ns/{name}").as_str())
        .ok()
        .map(|stat| Meta::of(&stat).identity);
    Ok((init == Some(identity)).then_some(HostMatch::Initial))
}

/// True if this process is in a user namespace below the initial one; false too where procfs does not say.
pub fn is_in_user_namespace() -> bool {
    in_initial_user_namespace() == Ok(false)
}

/// Whether this process is in the initial user namespace.
pub(crate) fn in_initial_user_namespace() -> nix::Result<bool> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let own = open("/proc/self/ns/user", flags, Mode::empty())?;
    Ok(fstat(&own)?.st_ino == initial_inode(Kind::User))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::{Child, Command, Stdio};

    use gabion_baseline::Given;

    use super::*;
    use crate::testing::needs_root;

    fn entry(kind: &str, path: &str) -> Namespace {
        Namespace {
            kind: kind.to_owned(),
            path: Given::Value(path.to_owned()),
        }
    }

    fn not_one(kind: &str, path: &str) -> String {
        match look(&entry(kind, path)) {
            (Fact::Known(NamespaceFact::NotOne(text)), None) => text,
            other => panic!("{other:?}"),
        }
    }

    /// A process in namespaces of its own, ended with the test.
    struct Elsewhere(Child);

    impl Elsewhere {
        fn start(flags: &[&str]) -> Self {
            let child = Command::new("unshare")
                .args(flags)
                .args(["sh", "-c", "echo ready; exec sleep 60"])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut elsewhere = Elsewhere(child);
            let mut ready = [0; 6];
            std::io::Read::read_exact(elsewhere.0.stdout.as_mut().unwrap(), &mut ready).unwrap();
            elsewhere
        }

        fn path(&self, name: &str) -> String {
            format!("/proc/{}/ns/{name}", self.0.id())
        }
    }

    impl Drop for Elsewhere {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    #[test]
    fn the_owner_of_a_namespace_is_found_by_its_process() {
        let owner_of = |path: &str| {
            let entry = entry("pid", path);
            let (_, held) = look(&entry);
            owner(&entry, held.as_ref())
        };
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let cgroup = cgroup_of(&own).map(str::to_owned);
        let pid = std::process::id();
        assert_eq!(owner_of(&format!("/proc/{pid}/ns/pid")), Fact::Known(cgroup));
        for nobody in ["/var/run/netns/a", "/proc/self/ns/pid", "", "/proc//ns/pid"] {
            assert_eq!(owner_of(nobody), Fact::Known(None), "{nobody}");
        }
        assert!(matches!(owner_of("/proc/4194304/ns/pid"), Fact::Unknown(_)));
        // No process, and no namespace, of its own; the way leads on from this process to another one's.
        for way in ["cgroup", "root/proc/self/ns", "cwd"] {
            assert!(
                matches!(owner_of(&format!("/proc/{pid}/{way}")), Fact::Unknown(_)),
                "{way}"
            );
        }
        assert_eq!(cgroup_of("12:pids:/a/b\n1:name=systemd:/\n0::/\n"), Some("/a/b"));
        assert_eq!(cgroup_of(""), None);
    }

    /// What a process id that was given again looks like: the namespace that was judged is not the process' any more.
    #[test]
    fn a_process_that_took_the_id_of_another_one_does_not_own_its_namespace() {
        needs_root!();
        let (one, other) = (Elsewhere::start(&["--net"]), Elsewhere::start(&["--net"]));
        let (of_one, of_other) = (
            entry("network", &one.path("net")),
            entry("network", &other.path("net")),
        );
        let judged = look(&of_one).1.unwrap();
        assert!(matches!(owner(&of_one, Some(&judged)), Fact::Known(Some(_))));
        assert!(matches!(owner(&of_other, Some(&judged)), Fact::Unknown(_)));
        // And a way through the first one's root to the second one's namespace is not the first one's.
        let path = format!("/proc/{}/root/proc/{}/ns/net", one.0.id(), other.0.id());
        let through = entry("network", &path);
        let found = look(&through).1.unwrap();
        assert!(matches!(owner(&through, Some(&found)), Fact::Unknown(_)));
        // One that has ended owns nothing.
        drop(one);
        assert!(matches!(owner(&of_one, Some(&judged)), Fact::Unknown(_)));
    }

    #[test]
    fn no_path_and_an_empty_path_ask_for_a_new_namespace() {
        for path in [Given::Absent, Given::Null, Given::Value(String::new())] {
            let (fact, held) = look(&Namespace {
                kind: "pid".to_owned(),
                path,
            });
            assert_eq!(fact, Fact::Known(NamespaceFact::New));
            assert!(held.is_none());
        }
    }

    #[test]
    fn the_runtimes_own_namespaces_are_the_hosts() {
        for kind in Kind::ALL {
            let (fact, held) = look(&entry(
                kind.spec_name(),
                &format!("/proc/self/ns/{}", kind.proc_name()),
            ));
            let Fact::Known(NamespaceFact::Existing { host, identity }) = fact else {
                panic!("{fact:?}")
            };
            assert_eq!(host, Some(HostMatch::Runtime), "{kind:?}");
            assert_eq!(fstat(held.unwrap()).unwrap().st_ino, identity.inode);
        }
    }

    #[test]
    fn a_namespace_of_someone_else_is_not_the_hosts() {
        needs_root!();
        let elsewhere = Elsewhere::start(&["--net", "--uts", "--ipc"]);
        for (kind, name) in [("network", "net"), ("uts", "uts"), ("ipc", "ipc")] {
            let (fact, held) = look(&entry(kind, &elsewhere.path(name)));
            let Fact::Known(NamespaceFact::Existing { host: None, identity }) = fact else {
                panic!("{fact:?}")
            };
            let held = held.unwrap();
            assert_eq!(Meta::of(&fstat(&held).unwrap()).identity, identity);
            assert_eq!(gabion_sys::namespace::kind(&held).unwrap().spec_name(), kind);
        }
        // Control: what it did not unshare is still the host's.
        let (fact, _) = look(&entry("pid", &elsewhere.path("pid")));
        assert!(matches!(
            fact,
            Fact::Known(NamespaceFact::Existing {
                host: Some(HostMatch::Runtime),
                ..
            })
        ));
    }

    #[test]
    fn the_kept_descriptor_outlives_the_path() {
        needs_root!();
        let elsewhere = Elsewhere::start(&["--uts"]);
        let (fact, held) = look(&entry("uts", &elsewhere.path("uts")));
        let path = elsewhere.path("uts");
        drop(elsewhere);
        assert!(!Path::new(&path).exists());
        let Fact::Known(NamespaceFact::Existing { identity, .. }) = fact else {
            panic!("{fact:?}")
        };
        assert_eq!(Meta::of(&fstat(held.unwrap()).unwrap()).identity, identity);
    }

    #[test]
    fn an_initial_namespace_is_known_by_its_number() {
        let own = Meta::of(&stat("/proc/self/ns/uts").unwrap()).identity;
        let initial = Identity {
            device: own.device,
            inode: initial_inode(Kind::Ipc),
        };
        // Asked as another kind than this process's own, so that only the number can answer.
        let expected = if Meta::of(&stat("/proc/self/ns/ipc").unwrap()).identity == initial {
            HostMatch::Runtime
        } else {
            HostMatch::Initial
        };
        assert_eq!(host_match(Kind::Ipc, initial).unwrap(), Some(expected));
        let initial = Identity {
            device: own.device,
            inode: initial_inode(Kind::Uts),
        };
        assert_eq!(host_match(Kind::Ipc, initial).unwrap(), None);
        // The same number on another file system means nothing.
        let elsewhere = Identity {
            device: own.device + 1,
            inode: initial_inode(Kind::Ipc),
        };
        assert_eq!(host_match(Kind::Ipc, elsewhere).unwrap(), None);
    }

    #[test]
    fn what_is_no_namespace_of_the_wanted_kind_is_named() {
        assert_eq!(
            not_one("network", "/proc/self/ns/ipc"),
            "\"/proc/self/ns/ipc\" is an ipc namespace"
        );
        assert_eq!(not_one("pid", "/etc/passwd"), "\"/etc/passwd\" is no namespace");
        assert_eq!(
            not_one("pid", "/proc/self/exe"),
            "\"/proc/self/exe\" is no namespace"
        );
        assert_eq!(
            not_one("pid", "/nowhere/at/all"),
            "\"/nowhere/at/all\" does not exist"
        );
        assert_eq!(
            not_one("pid", "proc/self/ns/pid"),
            "\"proc/self/ns/pid\" is not an absolute path"
        );
        assert_eq!(
            not_one("sound", "/proc/self/ns/pid"),
            "\"/proc/self/ns/pid\" is for an unknown type of namespace"
        );
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("ns");
        symlink("/proc/self/ns/pid", &link).unwrap();
        let link = link.to_str().unwrap();
        assert_eq!(
            not_one("pid", link),
            format!("{link:?} is a symbolic link; name the namespace itself")
        );
    }

    #[test]
    fn a_fifo_in_place_of_a_namespace_does_not_hang() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("ns");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        assert!(not_one("pid", fifo.to_str().unwrap()).ends_with("is no namespace"));
    }
}
