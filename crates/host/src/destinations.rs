//! Where the destinations of mounts lead in the rootfs.
//!
//! The rootfs is an image's: every link in it was placed by its author, and may wait for a runtime that follows
//! it on the host (CVE-2021-30465 and its kind). Here each destination is followed as the container would
//! follow it, and a link that would lead out on the host is remembered.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use gabion_baseline::facts::{DestinationFact, Fact, FileKind};
use gabion_sys::file::find_without_links;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::Mode;

use crate::walk::{MAX_LINKS, Node, is_magic};

/// Follows the destinations of a bundle's mounts, in their order.
#[derive(Debug)]
pub(crate) struct Destinations<'a> {
    root: &'a Node,
    /// Where the mounts so far are; below them the rootfs is covered.
    covered: Vec<PathBuf>,
}

impl<'a> Destinations<'a> {
    pub(crate) fn new(root: &'a Node) -> Self {
        Destinations {
            root,
            covered: Vec::new(),
        }
    }

    /// Follows the next destination.
    pub(crate) fn look(&mut self, destination: &str) -> Fact<DestinationFact> {
        let lexical = lexical(Path::new(destination));
        if self.covered.iter().any(|mount| lexical.starts_with(mount)) {
            // What an earlier mount brings is not there yet, and is not the image's.
            return Fact::Known(DestinationFact::Inside(lexical));
        }
        let fact = match find_without_links(&self.root.descriptor, Path::new(destination)) {
            // A missing mount point is made later. The kernel looks from left to right: up to what is missing
            // there was no link.
            Ok(_) | Err(Errno::ENOENT) => Ok(DestinationFact::Inside(lexical.clone())),
            Err(Errno::ELOOP) => follow(self.root, Path::new(destination)),
            Err(Errno::ENOTDIR) => Ok(DestinationFact::Broken(not_a_directory(destination))),
            Err(errno) => Err(errno),
        };
        let fact = match fact {
            Ok(fact) => fact,
            Err(errno) => return Fact::Unknown(format!("{destination:?} in the rootfs: {}", errno.desc())),
        };
        // A mount on the root itself covers everything, and is refused elsewhere.
        let place = match &fact {
            DestinationFact::Inside(path) => path.clone(),
            DestinationFact::LinkOut { .. } | DestinationFact::Broken(_) => lexical,
        };
        if place != Path::new("/") {
            self.covered.push(place);
        }
        Fact::Known(fact)
    }
}

fn not_a_directory(destination: &str) -> String {
    format!("{destination:?} leads through something that is not a directory")
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

/// Follows a path with links in it, staying in the root as the container would.
fn follow(root: &Node, destination: &Path) -> nix::Result<DestinationFact> {
    let broken = |why: String| Ok(DestinationFact::Broken(why));
    let mut path = PathBuf::from("/");
    let mut stack: Vec<Node> = Vec::new();
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
        let directory = stack.last().unwrap_or(root);
        let node = match open(directory.descriptor.as_fd(), &step.name) {
            Ok(descriptor) => Node::new(descriptor)?,
            Err(Errno::ENOENT) => {
                // From here on there is nothing that could be a link.
                let rest = pending
                    .iter()
                    .rev()
                    .fold(here, |path, step| path.join(&step.name));
                path = lexical(&rest);
                break;
            }
            Err(Errno::ENOTDIR) => return broken(format!("{path:?} in the rootfs is not a directory")),
            Err(errno) => return Err(errno),
        };
        if node.meta.kind() != FileKind::Symlink {
            stack.push(node);
            path = here;
            continue;
        }
        if links.len() >= MAX_LINKS {
            return broken(format!(
                "more than {MAX_LINKS} symbolic links lead to {here:?} in the rootfs"
            ));
        }
        if is_magic(directory, &step.name)? {
            return broken(format!("{here:?} in the rootfs is a magic link of procfs"));
        }
        let target = PathBuf::from(readlinkat(&node.descriptor, "")?);
        links.push(here.clone());
        if target.is_absolute() {
            out.get_or_insert(here);
            stack.clear();
            path = PathBuf::from("/");
        }
        put_ahead(&mut pending, &target, Some(links.len() - 1));
    }
    Ok(match out {
        Some(link) => DestinationFact::LinkOut { link },
        None => DestinationFact::Inside(path),
    })
}

fn open(directory: std::os::fd::BorrowedFd<'_>, name: &OsString) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(directory, name.as_os_str(), flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
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
        root
    }

    fn look(root: &Path, destinations: &[&str]) -> Vec<Fact<DestinationFact>> {
        let found = Walker::default().walk(root).unwrap();
        let mut state = Destinations::new(found.node());
        destinations
            .iter()
            .map(|destination| state.look(destination))
            .collect()
    }

    fn inside(path: &str) -> Fact<DestinationFact> {
        Fact::Known(DestinationFact::Inside(PathBuf::from(path)))
    }

    fn out(path: &str) -> Fact<DestinationFact> {
        Fact::Known(DestinationFact::LinkOut {
            link: PathBuf::from(path),
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
            ("/../../etc", inside("/etc")),
            ("/", inside("/")),
            ("/var/absolute/x", out("/var/absolute")),
            ("/var/climber", out("/var/climber")),
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
    fn below_an_earlier_mount_the_rootfs_does_not_count() {
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
            [out("/var/climber"), inside("/var")]
        );
    }
}
