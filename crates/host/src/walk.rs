//! Following a path one component at a time, by descriptor, and remembering the way.
//!
//! The kernel resolves a path in one call and tells only where it ended. Judgement needs to know what lay on
//! the way: which directories (they are compared by device and inode, since a bind mount gives one directory
//! many names), which symbolic links and who could have placed them, and whether procfs was asked to jump
//! somewhere else altogether. So every component is opened with `O_PATH | O_NOFOLLOW` below the descriptor of
//! the one before it: what was looked at is what the next step starts from, and renaming a directory in
//! between changes nothing.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use gabion_baseline::facts::{FileKind, Identity};
use gabion_sys::mount::{FileSystem, file_system};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, major, minor};
use nix::sys::statfs::{FsType, PROC_SUPER_MAGIC};

use crate::owner::is_hosts_root;

/// As many symbolic links as the kernel follows in one path (path_resolution(7)).
pub(crate) const MAX_LINKS: usize = 40;

/// Directories remembered between two walks. Each holds a descriptor open, so there is a bound.
const MAX_REMEMBERED: usize = 256;

/// What fstat(2) says of a file, as far as anyone here asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meta {
    pub(crate) identity: Identity,
    pub(crate) uid: u32,
    mode: u32,
    rdev: u64,
}

impl Meta {
    pub(crate) fn of(stat: &FileStat) -> Self {
        Meta {
            identity: Identity {
                device: stat.st_dev,
                inode: stat.st_ino,
            },
            uid: stat.st_uid,
            mode: stat.st_mode,
            rdev: stat.st_rdev,
        }
    }

    /// The kind of file.
    pub(crate) fn kind(&self) -> FileKind {
        let device = (major(self.rdev) as u32, minor(self.rdev) as u32);
        match SFlag::from_bits_truncate(self.mode) & SFlag::S_IFMT {
            SFlag::S_IFDIR => FileKind::Directory,
            SFlag::S_IFLNK => FileKind::Symlink,
            SFlag::S_IFSOCK => FileKind::Socket,
            SFlag::S_IFIFO => FileKind::Fifo,
            SFlag::S_IFCHR => FileKind::CharDevice {
                major: device.0,
                minor: device.1,
            },
            SFlag::S_IFBLK => FileKind::BlockDevice {
                major: device.0,
                minor: device.1,
            },
            // Anonymous inodes (epoll, eventfd) have no type at all before Linux 6.16, and this one since.
            _ => FileKind::Regular,
        }
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.kind() == FileKind::Directory
    }

    /// Group or everyone may write. Where a POSIX ACL lets someone else write, the group's bits show its mask.
    pub(crate) fn is_writable_by_others(&self) -> bool {
        self.mode & 0o022 != 0
    }

    /// In a sticky directory only the owner of an entry, and of the directory, removes or renames it.
    fn is_sticky(&self) -> bool {
        self.mode & 0o1000 != 0
    }

    pub(crate) fn is_executable(&self) -> bool {
        self.kind() == FileKind::Regular && self.mode & 0o111 != 0
    }
}

/// A file on the way, held by a descriptor opened with `O_PATH`.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) descriptor: OwnedFd,
    pub(crate) meta: Meta,
    file_system: OnceCell<FileSystem>,
}

impl Node {
    pub(crate) fn new(descriptor: OwnedFd) -> nix::Result<Self> {
        let meta = Meta::of(&fstat(&descriptor)?);
        Ok(Node {
            descriptor,
            meta,
            file_system: OnceCell::new(),
        })
    }

    /// The type of the file system it is on.
    pub(crate) fn file_system(&self) -> nix::Result<FsType> {
        Ok(FsType(self.ask()?.kind))
    }

    /// Attributes of the mount it was reached through ([`gabion_sys::mount::attribute`]).
    pub(crate) fn mount_attributes(&self) -> nix::Result<u64> {
        Ok(self.ask()?.attributes)
    }

    fn ask(&self) -> nix::Result<FileSystem> {
        if let Some(known) = self.file_system.get() {
            return Ok(*known);
        }
        let answer = file_system(&self.descriptor).map_err(|error| error.errno)?;
        Ok(*self.file_system.get_or_init(|| answer))
    }
}

/// A symbolic link that was followed.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    /// Where it is; the directories above it are canonical.
    pub(crate) path: PathBuf,
    /// Someone other than root could have placed it, by its owner and the directory's permissions.
    pub(crate) foreign: bool,
}

/// Where a path leads.
#[derive(Debug)]
pub(crate) struct Found {
    /// The path after all links were followed.
    pub(crate) path: PathBuf,
    /// From the root directory to the file itself. Behind a magic link that leads to another mount namespace,
    /// or to something that has no path, it begins where the link led.
    pub(crate) chain: Vec<Rc<Node>>,
    /// The links that were followed, in order.
    pub(crate) links: Vec<Link>,
    /// The first magic link of procfs that was followed.
    pub(crate) magic: Option<PathBuf>,
}

impl Found {
    /// The file itself.
    pub(crate) fn node(&self) -> &Node {
        &self.chain[self.chain.len() - 1]
    }

    /// The file's device and inode.
    pub(crate) fn identity(&self) -> Identity {
        self.node().meta.identity
    }

    /// The directories above the file, the nearest first.
    pub(crate) fn above(&self) -> impl Iterator<Item = Identity> + '_ {
        self.chain.iter().rev().skip(1).map(|node| node.meta.identity)
    }

    /// The first directory on the way, or the file, that someone other than root may write to or replace.
    ///
    /// Sticky directories such as /tmp are no such place for an entry that root owns.
    pub(crate) fn open_to_others(&self) -> Option<PathBuf> {
        self.open_to_others_than(0)
    }

    /// The same, where this user is trusted as root is.
    pub(crate) fn open_to_others_than(&self, user: u32) -> Option<PathBuf> {
        self.open_to_all_but(|_, node| node.meta.uid == 0 || node.meta.uid == user)
    }

    /// The same, where the host's root is trusted too if it has no id here, in the places that are root's on every host.
    pub(crate) fn open_to_others_than_roots(&self) -> Option<PathBuf> {
        self.open_to_all_but(|place, node| {
            node.meta.uid == 0 || is_hosts_root(place, node.descriptor.as_fd())
        })
    }

    fn open_to_all_but(&self, trusted: impl Fn(&Path, &Node) -> bool) -> Option<PathBuf> {
        let place = |index: usize| self.path.ancestors().nth(self.chain.len() - 1 - index);
        let trusted = |index: usize, node: &Node| place(index).is_some_and(|place| trusted(place, node));
        if let Some(link) = self.links.iter().find(|link| link.foreign) {
            return Some(link.path.clone());
        }
        let at = self.chain.iter().enumerate().position(|(index, node)| {
            let guarded = node.meta.is_sticky()
                && self
                    .chain
                    .get(index + 1)
                    .is_some_and(|next| trusted(index + 1, next));
            !trusted(index, node) || (node.meta.is_writable_by_others() && !guarded)
        })?;
        place(at).map(Path::to_path_buf)
    }
}

/// Why a path leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Astray {
    /// How far it could be followed.
    pub(crate) at: PathBuf,
    /// What the kernel said there.
    pub(crate) errno: Errno,
}

impl Astray {
    /// Nothing is there.
    pub(crate) fn is_missing(&self) -> bool {
        self.errno == Errno::ENOENT
    }
}

impl fmt::Display for Astray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.errno {
            Errno::ENOENT => write!(f, "{:?} does not exist", self.at),
            Errno::ENOTDIR => write!(f, "{:?} is not in a directory", self.at),
            Errno::ELOOP => write!(f, "more than {MAX_LINKS} symbolic links lead to {:?}", self.at),
            errno => write!(f, "{:?}: {}", self.at, errno.desc()),
        }
    }
}

/// Follows paths from this process's root directory, remembering directories between walks.
#[derive(Debug, Default)]
pub(crate) struct Walker {
    root: Option<Rc<Node>>,
    remembered: HashMap<PathBuf, Rc<Node>>,
    /// Which device numbers are those of a procfs.
    procfs: Vec<(u64, bool)>,
}

/// A file that was looked at where it is and not opened.
#[derive(Debug)]
pub(crate) struct Glimpse {
    pub(crate) meta: Meta,
    /// The directories above it, the nearest first.
    pub(crate) above: Vec<Identity>,
}

impl Walker {
    /// The root directory of this process: the host's.
    pub(crate) fn root(&mut self) -> Result<Rc<Node>, Astray> {
        if let Some(root) = &self.root {
            return Ok(Rc::clone(root));
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = open("/", flags, Mode::empty())
            .and_then(Node::new)
            .map(Rc::new)
            .map_err(|errno| Astray {
                at: PathBuf::from("/"),
                errno,
            })?;
        self.root = Some(Rc::clone(&root));
        Ok(root)
    }

    /// Follows an absolute path to its end, the last component's links included.
    pub(crate) fn walk(&mut self, path: &Path) -> Result<Found, Astray> {
        if !path.is_absolute() {
            return Err(Astray {
                at: path.to_path_buf(),
                errno: Errno::EINVAL,
            });
        }
        let mut found = Found {
            path: PathBuf::from("/"),
            chain: vec![self.root()?],
            links: Vec::new(),
            magic: None,
        };
        let mut pending = Vec::new();
        pending.extend(steps(path).map(Cow::Borrowed));
        let mut detached = false;
        while let Some(name) = pending.pop() {
            if *name == *".." {
                if found.chain.len() > 1 {
                    found.chain.pop();
                    found.path.pop();
                } else if detached {
                    // What lies above a directory of another mount namespace is not ours to guess.
                    return Err(Astray {
                        at: found.path.join(".."),
                        errno: Errno::EXDEV,
                    });
                }
                continue;
            }
            let directory = Rc::clone(&found.chain[found.chain.len() - 1]);
            found.path.push(&name);
            let node = self
                .child(&directory, &name, &found.path)
                .map_err(|errno| Astray {
                    at: found.path.clone(),
                    errno,
                })?;
            if node.meta.kind() != FileKind::Symlink {
                found.chain.push(node);
                continue;
            }
            // What a link says begins where the link lies.
            let here = found.path.clone();
            found.path.pop();
            let astray = |errno| Astray {
                at: here.clone(),
                errno,
            };
            if found.links.len() >= MAX_LINKS {
                return Err(astray(Errno::ELOOP));
            }
            if self.is_magic(&directory, &name).map_err(astray)? {
                found.links.push(Link {
                    path: here.clone(),
                    foreign: false,
                });
                found.magic.get_or_insert_with(|| here.clone());
                detached = self.jump(&mut found, &directory, &name, &here).map_err(astray)?;
                continue;
            }
            let foreign = node.meta.uid != 0
                || directory.meta.uid != 0
                || (directory.meta.is_writable_by_others() && !directory.meta.is_sticky());
            found.links.push(Link {
                path: here.clone(),
                foreign,
            });
            // Read through the link's own descriptor: a link put in its place meanwhile is not read.
            let target = PathBuf::from(readlinkat(&node.descriptor, "").map_err(astray)?);
            if target.is_absolute() {
                found.chain = vec![self.root()?];
                found.path = PathBuf::from("/");
                detached = false;
            }
            pending.extend(steps(&target).map(|name| Cow::Owned(name.to_owned())));
        }
        Ok(found)
    }

    /// Follows an absolute path of the host's own, as [`Walker::walk`] does, for a third of the price: the file
    /// itself is not opened, and so may be another one by the time someone uses the answer.
    pub(crate) fn glimpse(&mut self, path: &Path) -> Result<Glimpse, Astray> {
        let mut path = path.to_path_buf();
        for _ in 0..=MAX_LINKS {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                // The root directory, or a path that ends in `..`.
                let found = self.walk(&path)?;
                return Ok(Glimpse {
                    meta: found.node().meta,
                    above: found.above().collect(),
                });
            };
            let parent = self.walk(parent)?;
            let astray = |errno| Astray {
                at: parent.path.join(name),
                errno,
            };
            let directory = parent.node();
            let stat = fstatat(&directory.descriptor, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(astray)?;
            let meta = Meta::of(&stat);
            if meta.kind() != FileKind::Symlink {
                return Ok(Glimpse {
                    meta,
                    above: parent.chain.iter().rev().map(|node| node.meta.identity).collect(),
                });
            }
            if self.is_magic(directory, name).map_err(astray)? {
                let found = self.walk(&path)?;
                return Ok(Glimpse {
                    meta: found.node().meta,
                    above: found.above().collect(),
                });
            }
            let target = readlinkat(&directory.descriptor, name).map_err(astray)?;
            path = parent.path.join(target);
        }
        Err(Astray {
            at: path,
            errno: Errno::ELOOP,
        })
    }

    /// As [`is_magic`], asking once for each file system.
    fn is_magic(&mut self, directory: &Node, name: &OsStr) -> nix::Result<bool> {
        let device = directory.meta.identity.device;
        if let Some((_, procfs)) = self.procfs.iter().find(|(known, _)| *known == device) {
            return Ok(*procfs && !is_by_text(name));
        }
        let procfs = directory.file_system()? == PROC_SUPER_MAGIC;
        self.procfs.push((device, procfs));
        Ok(procfs && !is_by_text(name))
    }

    /// Opens an entry of a directory, or remembers it.
    fn child(&mut self, directory: &Node, name: &OsStr, path: &Path) -> nix::Result<Rc<Node>> {
        if let Some(node) = self.remembered.get(path) {
            return Ok(Rc::clone(node));
        }
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let node = Rc::new(Node::new(openat(
            &directory.descriptor,
            name,
            flags,
            Mode::empty(),
        )?)?);
        if node.meta.is_directory() && self.remembered.len() < MAX_REMEMBERED {
            self.remembered.insert(path.to_path_buf(), Rc::clone(&node));
        }
        Ok(node)
    }

    /// Goes where a magic link leads. True if that is not what its text names in this mount namespace.
    fn jump(&mut self, found: &mut Found, directory: &Node, name: &OsStr, link: &Path) -> nix::Result<bool> {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let node = Rc::new(Node::new(openat(
            &directory.descriptor,
            name,
            flags,
            Mode::empty(),
        )?)?);
        // The text is for people: it may name a file that was removed, or one in another mount namespace. It
        // is believed only if it leads to the same file. A path with a magic link in it is no such text.
        let text = PathBuf::from(readlinkat(&directory.descriptor, name)?);
        if let Ok(named) = self.walk_plain(&text)
            && named.identity() == node.meta.identity
        {
            found.path = named.path;
            found.chain = named.chain;
            return Ok(false);
        }
        found.path = link.to_path_buf();
        found.chain = vec![node];
        Ok(true)
    }

    /// Follows a path that has no links at all.
    fn walk_plain(&mut self, path: &Path) -> Result<Found, Astray> {
        let astray = |errno| Astray {
            at: path.to_path_buf(),
            errno,
        };
        if !path.is_absolute() {
            return Err(astray(Errno::EINVAL));
        }
        let mut found = Found {
            path: PathBuf::from("/"),
            chain: vec![self.root()?],
            links: Vec::new(),
            magic: None,
        };
        for name in path.iter().skip(1) {
            let directory = Rc::clone(&found.chain[found.chain.len() - 1]);
            found.path.push(name);
            let node = self.child(&directory, name, &found.path).map_err(astray)?;
            if node.meta.kind() == FileKind::Symlink {
                return Err(astray(Errno::ELOOP));
            }
            found.chain.push(node);
        }
        Ok(found)
    }
}

/// True for the links of procfs that the kernel does not follow by their text: `/proc/<pid>/` `root`, `cwd`,
/// `exe`, `fd/*`, `map_files/*`, `ns/*`.
pub(crate) fn is_magic(directory: &Node, name: &OsStr) -> nix::Result<bool> {
    Ok(directory.file_system()? == PROC_SUPER_MAGIC && !is_by_text(name))
}

/// The few links of procfs that are like any other.
fn is_by_text(name: &OsStr) -> bool {
    ["self", "thread-self", "mounts", "net"]
        .iter()
        .any(|plain| name == *plain)
}

/// A path's components, the last one first: on a stack of what is still to be walked, the first comes off first.
fn steps(path: &Path) -> impl Iterator<Item = &OsStr> {
    path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        Component::ParentDir => Some(OsStr::new("..")),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

    use super::*;
    use crate::testing::needs_root;

    fn temporary() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        (directory, path)
    }

    fn identity(path: &Path) -> Identity {
        let metadata = fs::metadata(path).unwrap();
        Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }

    #[test]
    fn the_walk_ends_where_the_kernel_would_end() {
        let (_keep, top) = temporary();
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::write(top.join("a/b/file"), "").unwrap();
        symlink("a/b", top.join("relative")).unwrap();
        symlink(top.join("a"), top.join("absolute")).unwrap();
        symlink("../absolute/b/../b/./file", top.join("a/twisted")).unwrap();
        let mut walker = Walker::default();
        for path in [
            "relative/file",
            "absolute/b/file",
            "a/twisted",
            "relative/../b//file",
            "a/../a/b/file",
        ] {
            let found = walker.walk(&top.join(path)).unwrap();
            assert_eq!(found.path, top.join("a/b/file"), "{path}");
            assert_eq!(found.identity(), identity(&top.join("a/b/file")), "{path}");
            let above: Vec<_> = found.above().collect();
            assert_eq!(above[0], identity(&top.join("a/b")), "{path}");
            assert_eq!(above[above.len() - 1], identity(Path::new("/")), "{path}");
            assert_eq!(found.magic, None, "{path}");
            let glimpse = walker.glimpse(&top.join(path)).unwrap();
            assert_eq!(
                (glimpse.meta.identity, glimpse.above),
                (found.identity(), above),
                "{path}"
            );
        }
        assert!(walker.glimpse(&top.join("none")).unwrap_err().is_missing());
        assert_eq!(
            walker.glimpse(Path::new("/")).unwrap().meta.identity,
            identity(Path::new("/"))
        );
        let magic = walker.glimpse(Path::new("/proc/self/root")).unwrap();
        assert_eq!(magic.meta.identity, identity(Path::new("/")));
        symlink("loop", top.join("loop")).unwrap();
        assert_eq!(walker.glimpse(&top.join("loop")).unwrap_err().errno, Errno::ELOOP);
    }

    #[test]
    fn dot_dot_at_the_root_stays_at_the_root() {
        let found = Walker::default().walk(Path::new("/../../proc/..")).unwrap();
        assert_eq!(found.path, Path::new("/"));
        assert_eq!(found.identity(), identity(Path::new("/")));
    }

    #[test]
    fn what_is_missing_is_named_where_it_is_missing() {
        let (_keep, top) = temporary();
        fs::write(top.join("file"), "").unwrap();
        symlink("gone/x", top.join("dangling")).unwrap();
        let mut walker = Walker::default();
        let astray = walker.walk(&top.join("dangling")).unwrap_err();
        assert!(astray.is_missing());
        assert_eq!(
            astray.to_string(),
            format!("{:?} does not exist", top.join("gone"))
        );
        let astray = walker.walk(&top.join("file/x")).unwrap_err();
        assert_eq!(
            astray.to_string(),
            format!("{:?} is not in a directory", top.join("file/x"))
        );
    }

    #[test]
    fn the_41st_link_is_not_followed() {
        let (_keep, top) = temporary();
        fs::write(top.join("0"), "").unwrap();
        for number in 1..=41 {
            symlink((number - 1).to_string(), top.join(number.to_string())).unwrap();
        }
        let mut walker = Walker::default();
        assert_eq!(walker.walk(&top.join("40")).unwrap().links.len(), 40);
        assert_eq!(walker.walk(&top.join("41")).unwrap_err().errno, Errno::ELOOP);
        symlink("loop", top.join("loop")).unwrap();
        assert_eq!(walker.walk(&top.join("loop")).unwrap_err().errno, Errno::ELOOP);
    }

    #[test]
    fn a_magic_link_is_noticed_wherever_it_hides() {
        let (_keep, top) = temporary();
        symlink("/proc/self/root", top.join("innocent")).unwrap();
        let mut walker = Walker::default();
        let pid = std::process::id();
        for (path, magic) in [
            (top.join("innocent/etc"), format!("/proc/{pid}/root")),
            (PathBuf::from("/proc/self/root/etc"), format!("/proc/{pid}/root")),
            (
                PathBuf::from("/proc/self/task/../cwd"),
                format!("/proc/{pid}/cwd"),
            ),
        ] {
            let found = walker.walk(&path).unwrap();
            assert_eq!(found.magic, Some(PathBuf::from(magic)), "{path:?}");
            assert_eq!(found.identity(), identity(&path), "{path:?}");
        }
        // Control: links of procfs that have a text like any other.
        let found = walker.walk(Path::new("/proc/self/status")).unwrap();
        assert_eq!(
            (found.magic, found.path),
            (None, PathBuf::from(format!("/proc/{pid}/status")))
        );
        assert_eq!(walker.walk(Path::new("/proc/net/unix")).unwrap().magic, None);
    }

    #[test]
    fn behind_a_magic_link_the_real_place_is_found() {
        let found = Walker::default().walk(Path::new("/proc/self/root/proc")).unwrap();
        assert_eq!(found.path, Path::new("/proc"));
        assert_eq!(found.chain.len(), 2);
    }

    #[test]
    fn a_removed_file_behind_a_magic_link_does_not_borrow_a_name() {
        let (_keep, top) = temporary();
        let file = fs::File::create(top.join("gone")).unwrap();
        fs::remove_file(top.join("gone")).unwrap();
        fs::write(top.join("gone (deleted)"), "another").unwrap();
        use std::os::fd::AsRawFd;
        let link = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let found = Walker::default().walk(&link).unwrap();
        assert_eq!(found.chain.len(), 1);
        assert_eq!(
            found.path,
            Path::new(&format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()))
        );
    }

    #[test]
    fn a_link_is_foreign_by_its_owner_and_by_its_directory() {
        needs_root!();
        let (_keep, top) = temporary();
        fs::write(top.join("file"), "").unwrap();
        let place = |name: &str, mode: u32, owner: u32, link_owner: u32| {
            let directory = top.join(name);
            fs::create_dir(&directory).unwrap();
            symlink(top.join("file"), directory.join("link")).unwrap();
            std::os::unix::fs::lchown(directory.join("link"), Some(link_owner), Some(link_owner)).unwrap();
            chown(&directory, Some(owner), Some(0)).unwrap();
            fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
            Walker::default().walk(&directory.join("link")).unwrap().links[0].foreign
        };
        assert!(!place("roots", 0o755, 0, 0));
        assert!(!place("sticky", 0o1777, 0, 0));
        assert!(place("open", 0o777, 0, 0));
        assert!(place("group", 0o775, 0, 0));
        assert!(place("users", 0o755, 1000, 0));
        assert!(place("users-link", 0o755, 0, 1000));
        assert!(place("sticky-users-link", 0o1777, 0, 1000));
    }

    #[test]
    fn the_place_that_others_may_write_to_is_named() {
        needs_root!();
        let (_keep, top) = temporary();
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::write(top.join("a/b/file"), "").unwrap();
        let open = || {
            Walker::default()
                .walk(&top.join("a/b/file"))
                .unwrap()
                .open_to_others()
        };
        assert_eq!(open(), None);
        fs::set_permissions(top.join("a"), fs::Permissions::from_mode(0o770)).unwrap();
        assert_eq!(open(), Some(top.join("a")));
        fs::set_permissions(top.join("a"), fs::Permissions::from_mode(0o1777)).unwrap();
        assert_eq!(open(), None);
        chown(top.join("a/b"), Some(7), None).unwrap();
        assert_eq!(open(), Some(top.join("a")));
        fs::set_permissions(top.join("a"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(open(), Some(top.join("a/b")));
        chown(top.join("a/b"), Some(0), None).unwrap();
        fs::set_permissions(top.join("a/b/file"), fs::Permissions::from_mode(0o646)).unwrap();
        assert_eq!(open(), Some(top.join("a/b/file")));
    }

    #[test]
    fn a_directory_swapped_for_a_link_while_walking_never_gives_a_mixed_answer() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let (_keep, top) = temporary();
        fs::create_dir_all(top.join("good/leaf")).unwrap();
        fs::create_dir_all(top.join("evil/leaf")).unwrap();
        symlink(top.join("evil"), top.join("link")).unwrap();
        let (good, evil) = (identity(&top.join("good/leaf")), identity(&top.join("evil/leaf")));
        fs::rename(top.join("good"), top.join("swap")).unwrap();
        let stop = AtomicBool::new(false);
        let mut seen = (0, 0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // The directory and the link take turns under the one name.
                let exchange = |a: &str, b: &str| {
                    nix::fcntl::renameat2(
                        nix::fcntl::AT_FDCWD,
                        &top.join(a),
                        nix::fcntl::AT_FDCWD,
                        &top.join(b),
                        nix::fcntl::RenameFlags::RENAME_EXCHANGE,
                    )
                };
                while !stop.load(Ordering::Relaxed) {
                    exchange("swap", "link").unwrap();
                }
            });
            for _ in 0..3000 {
                match Walker::default().walk(&top.join("swap/leaf")) {
                    Ok(found) if found.identity() == good => {
                        assert!(found.links.is_empty(), "the directory was reached through a link");
                        assert_eq!(found.path, top.join("swap/leaf"));
                        seen.0 += 1;
                    }
                    Ok(found) => {
                        assert_eq!(found.identity(), evil);
                        assert_eq!(found.links.len(), 1, "the link was followed unnoticed");
                        assert_eq!(found.path, top.join("evil/leaf"));
                        seen.1 += 1;
                    }
                    Err(_) => seen.2 += 1,
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(seen.2, 0, "an exchange leaves no moment without the name");
        println!(
            "reached the directory {} times, the link {} times",
            seen.0, seen.1
        );
    }
}
