//! Where the destinations of mounts lead in the rootfs.
//!
//! The rootfs is an image's: every link in it was placed by its author, and may wait for a runtime that follows
//! it on the host (CVE-2021-30465 and its kind). Here each destination is followed as the container would
//! follow it, and a link that would lead out on the host is remembered.
//!
//! The mounts of a bundle are made one after the other, and each is looked up among those before it. So a link in
//! a volume that is already mounted is followed as one of the image is, and whoever could write to the volume may
//! have placed it: a volume at /a with a link `x` to /proc puts what is meant for /a/x over /proc. A lookup here
//! therefore goes on in the source of an earlier bind mount, by the descriptor that was held when the source was
//! looked at. What cannot be looked into is not guessed: below a mount of type overlay, or a bind mount whose
//! source is not known, a destination is unknown, and a bundle with one is not run.
//!
//! This is where a destination leads now. A container that shares a volume can change it until the mount is made;
//! that the mount then stays in the root is for the one who makes it to see to.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use gabion_baseline::config::Mount;
use gabion_baseline::facts::{DestinationFact, Fact, FileKind};
use gabion_sys::file::find_without_links;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::Mode;

use crate::walk::{MAX_LINKS, Node, is_magic};

/// Follows the destinations of a bundle's mounts, in their order.
#[derive(Debug)]
pub(crate) struct Destinations<'a> {
    root: &'a Node,
    /// The mounts so far that a path can still reach, by the places where they are, without `.`, `..` and doubled `/`:
    /// so that comparing bytes compares places.
    mounted: BTreeMap<OsString, View<'a>>,
}

/// What a lookup finds in a mount.
#[derive(Debug, Clone, Copy)]
enum View<'a> {
    /// A file system that the kernel has just made. There is no link in it, or none but the kernel's own, and of
    /// those only magic ones lead out, which nobody follows here.
    Fresh,
    /// A tree of the host.
    Tree {
        source: BorrowedFd<'a>,
        /// What is mounted below the source comes along (`rbind`).
        recursive: bool,
    },
    /// Something that cannot be looked into.
    Unseen,
}

impl<'a> View<'a> {
    fn of(mount: &Mount, source: Option<BorrowedFd<'a>>) -> Self {
        /// The types that begin empty, or with what the kernel alone puts there.
        const FRESH: [&str; 8] = [
            "tmpfs",
            "proc",
            "sysfs",
            "devpts",
            "mqueue",
            "cgroup",
            "cgroup2",
            "hugetlbfs",
        ];
        let has = |wanted: &str| mount.options.items().iter().any(|option| option == wanted);
        match (mount.is_bind(), source) {
            (true, Some(source)) => View::Tree {
                source,
                recursive: has("rbind"),
            },
            (true, None) => View::Unseen,
            // With tmpcopyup as well: it is filled when everything is mounted.
            (false, _)
                if mount
                    .kind
                    .value()
                    .is_some_and(|kind| FRESH.contains(&kind.as_str())) =>
            {
                View::Fresh
            }
            (false, _) => View::Unseen,
        }
    }
}

impl<'a> Destinations<'a> {
    pub(crate) fn new(root: &'a Node) -> Self {
        Destinations {
            root,
            mounted: BTreeMap::new(),
        }
    }

    /// Follows the next destination. `source` is what a bind mount's source led to, if that is known.
    pub(crate) fn look(&mut self, mount: &Mount, source: Option<BorrowedFd<'a>>) -> Fact<DestinationFact> {
        let destination = Path::new(&mount.destination);
        let fact = match self.lead(destination) {
            Ok(fact) => Fact::Known(fact),
            Err(why) => Fact::Unknown(format!("{destination:?} in the rootfs: {why}")),
        };
        // It changes a mount that is there, and makes none.
        if mount.options.items().iter().any(|option| option == "remount") {
            return fact;
        }
        let place = match &fact {
            Fact::Known(DestinationFact::Inside(path) | DestinationFact::LinkOut { inside: path, .. }) => {
                path.clone()
            }
            // No such bundle is run; what is said of the rest of its mounts is for people.
            Fact::Known(DestinationFact::Broken(_)) | Fact::Unknown(_) => lexical(destination),
        };
        // A mount on the root itself covers everything, and is refused elsewhere.
        if place != Path::new("/") {
            // What is mounted below is out of reach from now on.
            let place = place.into_os_string();
            let mut inside = place.clone();
            inside.push("/");
            let covered = self
                .mounted
                .range(inside.clone()..)
                .take_while(|(path, _)| path.as_encoded_bytes().starts_with(inside.as_encoded_bytes()));
            for path in covered.map(|(path, _)| path.clone()).collect::<Vec<_>>() {
                self.mounted.remove(&path);
            }
            self.mounted.insert(place, View::of(mount, source));
        }
        fact
    }

    /// Follows a path without putting anything there.
    pub(crate) fn lead(&self, destination: &Path) -> Result<DestinationFact, String> {
        let lexical = lexical(destination);
        if lexical
            .ancestors()
            .any(|path| self.mounted.contains_key(path.as_os_str()))
        {
            return self.follow(destination);
        }
        match find_without_links(&self.root.descriptor, destination) {
            // A missing mount point is made later. The kernel looks from left to right: up to what is missing
            // there was no link.
            Ok(_) | Err(Errno::ENOENT) => Ok(DestinationFact::Inside(lexical)),
            Err(Errno::ELOOP) => self.follow(destination),
            Err(Errno::ENOTDIR) => Ok(DestinationFact::Broken(format!(
                "{destination:?} leads through something that is not a directory"
            ))),
            Err(errno) => Err(errno.desc().to_owned()),
        }
    }

    /// Follows a path with links or mounts in it, staying in the root as the container would.
    fn follow(&self, destination: &Path) -> Result<DestinationFact, String> {
        let broken = |why: String| Ok(DestinationFact::Broken(why));
        let mut path = PathBuf::from("/");
        // What stands at each component of `path`.
        let mut stack: Vec<Stand> = Vec::new();
        let mut links: Vec<PathBuf> = Vec::new();
        let mut out: Option<PathBuf> = None;
        let mut pending = Vec::new();
        put_ahead(&mut pending, destination, None);
        while let Some(step) = pending.pop() {
            if step.name == ".." {
                let at_root = stack.pop().is_none();
                path.pop();
                if at_root && let Some(link) = step.link {
                    out.get_or_insert_with(|| links[link].clone());
                }
                continue;
            }
            let here = path.join(&step.name);
            let described = |errno: Errno| format!("{here:?}: {}", errno.desc());
            if let Some(view) = self.mounted.get(here.as_os_str()) {
                stack.push(Stand::in_view(*view).map_err(described)?);
                path = here;
                continue;
            }
            let (directory, recursive) = match stack.last() {
                None => (self.root, true),
                Some(Stand::File { node, recursive }) => (node, *recursive),
                Some(Stand::Nothing) => {
                    stack.push(Stand::Nothing);
                    path = here;
                    continue;
                }
                Some(Stand::Unseen) => {
                    return Err(format!(
                        "what will be found in the mount at {path:?} is not known"
                    ));
                }
            };
            let node = match open(directory.descriptor.as_fd(), &step.name, recursive) {
                Ok(descriptor) => Node::new(descriptor).map_err(described)?,
                Err(Errno::ENOENT) => {
                    // From here on there is nothing that could be a link, but for what earlier mounts bring to
                    // places that are made for them.
                    stack.push(Stand::Nothing);
                    path = here;
                    continue;
                }
                Err(Errno::ENOTDIR) => return broken(format!("{path:?} in the rootfs is not a directory")),
                Err(Errno::EXDEV) => {
                    return Err(format!(
                        "what is mounted on the host at {here:?} of the volume hides what the container will see"
                    ));
                }
                Err(errno) => return Err(described(errno)),
            };
            if node.meta.kind() != FileKind::Symlink {
                stack.push(Stand::File { node, recursive });
                path = here;
                continue;
            }
            if links.len() >= MAX_LINKS {
                return broken(format!(
                    "more than {MAX_LINKS} symbolic links lead to {here:?} in the rootfs"
                ));
            }
            if is_magic(directory, &step.name).map_err(described)? {
                return broken(format!("{here:?} in the rootfs is a magic link of procfs"));
            }
            let target = PathBuf::from(readlinkat(&node.descriptor, "").map_err(described)?);
            links.push(here.clone());
            if target.is_absolute() {
                out.get_or_insert(here);
                stack.clear();
                path = PathBuf::from("/");
            }
            put_ahead(&mut pending, &target, Some(links.len() - 1));
        }
        Ok(match out {
            Some(link) => DestinationFact::LinkOut { link, inside: path },
            None => DestinationFact::Inside(path),
        })
    }
}

/// What stands at a place while a path is followed.
enum Stand {
    /// A file that is there.
    File {
        node: Node,
        /// Mounts of the host below it will be seen in the container too.
        recursive: bool,
    },
    /// Nothing yet: directories are made there for this mount, or were for an earlier one.
    Nothing,
    /// What cannot be looked into.
    Unseen,
}

impl Stand {
    fn in_view(view: View<'_>) -> nix::Result<Self> {
        Ok(match view {
            View::Fresh => Stand::Nothing,
            View::Tree { source, recursive } => {
                let descriptor = source.try_clone_to_owned().map_err(|_| Errno::EMFILE)?;
                Stand::File {
                    node: Node::new(descriptor)?,
                    recursive,
                }
            }
            View::Unseen => Stand::Unseen,
        })
    }
}

/// The path without `.` and `..`, from the root of the container.
fn lexical(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    plain
}

/// What is still to be followed: a component, and whether a link brought it (which one).
struct Step {
    name: OsString,
    link: Option<usize>,
}

fn put_ahead(pending: &mut Vec<Step>, path: &Path, link: Option<usize>) {
    pending.extend(path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(Step {
            name: name.to_owned(),
            link,
        }),
        Component::ParentDir => Some(Step {
            name: OsString::from(".."),
            link,
        }),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    }));
}

/// Opens an entry of a directory, itself if it is a link. If mounts below are not to be crossed (`bind` leaves
/// them behind), one in the way is answered with `EXDEV`.
fn open(directory: BorrowedFd<'_>, name: &OsStr, recursive: bool) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    if recursive {
        return openat(directory, name, flags, Mode::empty());
    }
    openat2(
        directory,
        name,
        OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_XDEV),
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::testing::config;
    use crate::walk::Walker;

    fn rootfs() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("run/lock")).unwrap();
        fs::create_dir_all(at("var/lib/real")).unwrap();
        fs::create_dir(at("etc")).unwrap();
        fs::write(at("etc/hosts"), "").unwrap();
        symlink("../run", at("var/run")).unwrap();
        symlink("/run", at("var/absolute")).unwrap();
        symlink("../../../../etc", at("var/climber")).unwrap();
        symlink("lib/real", at("var/near")).unwrap();
        symlink("loop", at("loop")).unwrap();
        symlink("etc/hosts/x", at("through-file")).unwrap();
        symlink("missing/deep", at("dangling")).unwrap();
        symlink("missing/../var/run", at("beside")).unwrap();
        symlink("/", at("all")).unwrap();
        // To /proc: directly, by a chain, and by a link in the middle that climbs.
        symlink("/proc", at("data")).unwrap();
        symlink("var/second", at("chain")).unwrap();
        symlink("../data", at("var/second")).unwrap();
        symlink("../../sys", at("var/lib/kernel")).unwrap();
        root
    }

    /// Looks at mounts: a destination, a type, and for `bind` and `rbind` the source's directory.
    fn look_at(root: &Path, mounts: &[(&str, &str, Option<&Path>)]) -> Vec<Fact<DestinationFact>> {
        let list: Vec<_> = mounts
            .iter()
            .map(|(destination, kind, _)| match *kind {
                "bind" | "rbind" => serde_json::json!({"destination": destination, "options": [kind]}),
                "remount" => serde_json::json!({"destination": destination, "options": ["remount", "ro"]}),
                _ => serde_json::json!({"destination": destination, "type": kind}),
            })
            .collect();
        let config = config(&serde_json::json!({ "mounts": list }).to_string());
        let found = Walker::default().walk(root).unwrap();
        let sources: Vec<_> = mounts
            .iter()
            .map(|(_, _, source)| source.map(|source| Walker::default().walk(source).unwrap()))
            .collect();
        let mut state = Destinations::new(found.node());
        config
            .mounts
            .items()
            .iter()
            .zip(&sources)
            .map(|(mount, source)| {
                state.look(
                    mount,
                    source.as_ref().map(|found| found.node().descriptor.as_fd()),
                )
            })
            .collect()
    }

    fn look(root: &Path, destinations: &[&str]) -> Vec<Fact<DestinationFact>> {
        look_at(
            root,
            &destinations
                .iter()
                .map(|place| (*place, "tmpfs", None))
                .collect::<Vec<_>>(),
        )
    }

    fn inside(path: &str) -> Fact<DestinationFact> {
        Fact::Known(DestinationFact::Inside(PathBuf::from(path)))
    }

    fn out(link: &str, inside: &str) -> Fact<DestinationFact> {
        Fact::Known(DestinationFact::LinkOut {
            link: PathBuf::from(link),
            inside: PathBuf::from(inside),
        })
    }

    #[test]
    fn destinations_lead_where_the_container_would_go() {
        let root = rootfs();
        for (destination, expected) in [
            ("/etc/hosts", inside("/etc/hosts")),
            ("etc/hosts", inside("/etc/hosts")),
            ("/new/dir", inside("/new/dir")),
            ("/var/near/x", inside("/var/lib/real/x")),
            ("/var/run/lock", inside("/run/lock")),
            ("/var/near/../..", inside("/var")),
            ("/dangling/x", inside("/missing/deep/x")),
            ("/beside/lock", inside("/run/lock")),
            ("/../../etc", inside("/etc")),
            ("/", inside("/")),
            ("/var/absolute/x", out("/var/absolute", "/run/x")),
            ("/var/climber", out("/var/climber", "/etc")),
            ("/all", out("/all", "/")),
            ("/data", out("/data", "/proc")),
            ("/data/self/attr", out("/data", "/proc/self/attr")),
            ("/chain", out("/data", "/proc")),
            ("/var/second/sys", out("/data", "/proc/sys")),
            ("/var/lib/kernel/fs/cgroup", inside("/sys/fs/cgroup")),
            ("/all/var/near/../kernel", out("/all", "/sys")),
        ] {
            assert_eq!(look(root.path(), &[destination]), [expected], "{destination}");
        }
    }

    #[test]
    fn what_cannot_be_a_mount_point_is_broken() {
        let root = rootfs();
        let why = |destination: &str| match look(root.path(), &[destination]).remove(0) {
            Fact::Known(DestinationFact::Broken(why)) => why,
            other => panic!("{destination}: {other:?}"),
        };
        assert_eq!(
            why("/etc/hosts/x"),
            "\"/etc/hosts/x\" leads through something that is not a directory"
        );
        assert_eq!(
            why("/through-file"),
            "\"/etc/hosts\" in the rootfs is not a directory"
        );
        assert_eq!(
            why("/loop"),
            "more than 40 symbolic links lead to \"/loop\" in the rootfs"
        );
    }

    #[test]
    fn magic_links_of_a_procfs_in_the_rootfs_lead_nowhere() {
        let facts = look(Path::new("/"), &["/proc/self/root/etc"]);
        let expected = format!(
            "\"/proc/{}/root\" in the rootfs is a magic link of procfs",
            std::process::id()
        );
        assert_eq!(facts, [Fact::Known(DestinationFact::Broken(expected))]);
    }

    #[test]
    fn below_an_earlier_new_file_system_the_rootfs_does_not_count() {
        let root = rootfs();
        assert_eq!(
            look(root.path(), &["/var", "/var/climber/x", "/variety", "/etc/hosts"]),
            [
                inside("/var"),
                inside("/var/climber/x"),
                inside("/variety"),
                inside("/etc/hosts")
            ]
        );
        // In the other order the link is the image's, and is noticed.
        assert_eq!(
            look(root.path(), &["/var/climber/x", "/var"]),
            [out("/var/climber", "/etc/x"), inside("/var")]
        );
        // Where a link led counts, not its name: the image's run/lock is covered by the tmpfs on its run.
        symlink("/proc", root.path().join("run/trap")).unwrap();
        assert_eq!(
            look(root.path(), &["/var/absolute", "/run/trap", "/var/run/trap"]),
            [
                out("/var/absolute", "/run"),
                inside("/run/trap"),
                inside("/run/trap")
            ]
        );
    }

    #[test]
    fn a_link_in_a_volume_that_is_mounted_earlier_is_followed_in_the_container() {
        let root = rootfs();
        let volume = tempfile::tempdir().unwrap();
        let at = |name: &str| volume.path().join(name);
        fs::create_dir_all(at("deep/er")).unwrap();
        fs::write(at("file"), "").unwrap();
        symlink("/proc", at("x")).unwrap();
        symlink("../../proc", at("deep/climber")).unwrap();
        symlink("../../../proc/sys", at("deep/higher")).unwrap();
        symlink("er", at("deep/plain")).unwrap();
        symlink("/var/run", at("to-image")).unwrap();
        let after = |destination: &str| {
            let facts = look_at(
                root.path(),
                &[("/a", "rbind", Some(volume.path())), (destination, "tmpfs", None)],
            );
            assert_eq!(facts[0], inside("/a"), "{destination}");
            facts.into_iter().nth(1).unwrap()
        };
        for (destination, expected) in [
            ("/a", inside("/a")),
            ("/a/deep/er", inside("/a/deep/er")),
            ("/a/new/dir", inside("/a/new/dir")),
            ("/a/x", out("/a/x", "/proc")),
            ("/a/x/self/attr", out("/a/x", "/proc/self/attr")),
            // One step up from the volume is the container's root, which is not out of it.
            ("/a/deep/climber", inside("/proc")),
            ("/a/deep/higher", out("/a/deep/higher", "/proc/sys")),
            ("/a/deep/plain/z", inside("/a/deep/er/z")),
            ("/a/to-image/lock", out("/a/to-image", "/run/lock")),
        ] {
            assert_eq!(after(destination), expected, "{destination}");
        }
        assert_eq!(
            after("/a/file/z"),
            Fact::Known(DestinationFact::Broken(
                "\"/a/file\" in the rootfs is not a directory".to_owned()
            ))
        );
    }

    #[test]
    fn the_last_mount_at_a_place_is_the_one_that_is_seen() {
        let root = rootfs();
        let volume = tempfile::tempdir().unwrap();
        fs::create_dir(volume.path().join("in")).unwrap();
        symlink("/proc", volume.path().join("x")).unwrap();
        let bind = |place| (place, "bind", Some(volume.path()));
        let tmpfs = |place| (place, "tmpfs", None);
        let led = |mounts: &[(&str, &str, Option<&Path>)]| look_at(root.path(), mounts).pop().unwrap();
        let trap = |link| out(link, "/proc");
        // A volume in a tmpfs, and at a place that the image does not have.
        assert_eq!(
            led(&[tmpfs("/new"), bind("/new/v"), tmpfs("/new/v/x")]),
            trap("/new/v/x")
        );
        assert_eq!(
            led(&[bind("/no/such/v"), tmpfs("/no/such/v/x")]),
            trap("/no/such/v/x")
        );
        // A volume in a volume.
        assert_eq!(
            led(&[bind("/a"), bind("/a/in"), tmpfs("/a/in/x")]),
            trap("/a/in/x")
        );
        // Reached by a link of the image.
        assert_eq!(led(&[bind("/run"), tmpfs("/var/run/x")]), trap("/run/x"));
        // Covered again, at the place and above it.
        assert_eq!(led(&[bind("/a"), tmpfs("/a"), tmpfs("/a/x")]), inside("/a/x"));
        assert_eq!(
            led(&[bind("/new/v"), tmpfs("/new"), tmpfs("/new/v/x")]),
            inside("/new/v/x")
        );
        // A remount covers nothing.
        assert_eq!(
            led(&[bind("/a"), ("/a", "remount", None), tmpfs("/a/x")]),
            trap("/a/x")
        );
        // A neighbour is not below.
        assert_eq!(
            led(&[bind("/run"), bind("/run-x"), tmpfs("/run/x")]),
            trap("/run/x")
        );
    }

    #[test]
    fn below_what_cannot_be_looked_into_nothing_is_known() {
        let root = rootfs();
        for kind in ["overlay", "ext4", "bind"] {
            let facts = look_at(
                root.path(),
                &[("/a", kind, None), ("/a", "tmpfs", None), ("/a/x", "tmpfs", None)],
            );
            assert_eq!(facts, [inside("/a"), inside("/a"), inside("/a/x")], "{kind}");
            let facts = look_at(root.path(), &[("/a", kind, None), ("/a/x", "tmpfs", None)]);
            let why = "\"/a/x\" in the rootfs: what will be found in the mount at \"/a\" is not known";
            assert_eq!(facts, [inside("/a"), Fact::Unknown(why.to_owned())], "{kind}");
        }
    }

    #[test]
    fn what_a_mount_of_the_host_hides_from_a_plain_bind_is_not_guessed() {
        let root = rootfs();
        let led = |kind| {
            look_at(
                root.path(),
                &[
                    ("/host", kind, Some(Path::new("/"))),
                    ("/host/proc/x", "tmpfs", None),
                ],
            )
        };
        assert_eq!(led("rbind")[1], inside("/host/proc/x"));
        let why = "\"/host/proc/x\" in the rootfs: what is mounted on the host at \"/host/proc\" of the volume \
                   hides what the container will see";
        assert_eq!(led("bind")[1], Fact::Unknown(why.to_owned()));
    }
}
