//! What the sources of bind mounts really are.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use gabion_baseline::config::Mount;
use gabion_baseline::facts::{Fact, Identity, SourceFact};
use gabion_sys::mount::attribute;
use nix::errno::Errno;
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, PROC_SUPER_MAGIC, SYSFS_MAGIC, TMPFS_MAGIC};

use crate::overlay;
use crate::sensitive::Landmarks;
use crate::sockets::ControlSockets;
use crate::walk::{Found, Walker};

/// Looks at the sources of a bundle's mounts.
pub(crate) struct Sources<'a> {
    bundle: &'a Path,
    engine_roots: &'a [String],
    /// Directories that the engine roots without a `*` lead to; found when first asked for.
    engine_directories: Option<Vec<Identity>>,
    sockets: ControlSockets,
    host_shm: Option<Option<HostShm>>,
}

/// The host's /dev/shm.
#[derive(Debug, Clone, Copy)]
struct HostShm {
    root: Identity,
    /// It is a file system of its own, so that every file with its device number is on it.
    is_mount: bool,
}

impl<'a> Sources<'a> {
    pub(crate) fn new(bundle: &'a Path, engine_roots: &'a [String]) -> Self {
        Sources {
            bundle,
            engine_roots,
            engine_directories: None,
            sockets: ControlSockets::default(),
            host_shm: None,
        }
    }

    /// Looks at one mount. The descriptor, opened with `O_PATH`, is of what the source led to: while it is held,
    /// no other file gets the same device and inode, so that whoever mounts can tell a swap by comparing them.
    pub(crate) fn look(
        &mut self,
        walker: &mut Walker,
        landmarks: &Result<Landmarks, String>,
        mount: &Mount,
    ) -> (Fact<Option<SourceFact>>, Option<OwnedFd>) {
        if !mount.is_bind() {
            return (Fact::Known(None), None);
        }
        match self.source(walker, landmarks, mount) {
            Ok((fact, descriptor)) => (Fact::Known(Some(fact)), Some(descriptor)),
            Err(why) => (Fact::Unknown(why), None),
        }
    }

    fn source(
        &mut self,
        walker: &mut Walker,
        landmarks: &Result<Landmarks, String>,
        mount: &Mount,
    ) -> Result<(SourceFact, OwnedFd), String> {
        let Some(source) = mount.source.value().filter(|source| !source.is_empty()) else {
            return Err("a bind mount without a source".to_owned());
        };
        // A relative one is relative to the bundle (config.md, "Mounts").
        let found = walker
            .walk(&self.bundle.join(source))
            .map_err(|astray| astray.to_string())?;
        let landmarks = landmarks.as_ref().map_err(Clone::clone)?;
        let node = found.node();
        let unknown = |errno: Errno| format!("fstatfs({:?}): {}", found.path, errno.desc());
        let file_system = node.file_system().map_err(unknown)?;
        let engine_managed = self.is_engine_managed(walker, &found);
        let through_foreign_link = found
            .links
            .iter()
            // Root in a container owns what it writes to its volume: below an engine's root, a link that
            // belongs to root may be the container's.
            .find(|link| link.foreign || self.matches_engine_root(&link.path))
            .map(|link| link.path.display().to_string());
        let fact = SourceFact {
            identity: found.identity(),
            kind: node.meta.kind(),
            on_procfs: file_system == PROC_SUPER_MAGIC,
            on_sysfs: file_system == SYSFS_MAGIC,
            on_cgroupfs: [CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC].contains(&file_system),
            is_host_shm: self.is_host_shm(walker, &found),
            through_magic_link: found.magic.as_ref().map(|link| link.display().to_string()),
            through_foreign_link,
            sensitive: overlay::relation(walker, landmarks, &found)?,
            control_socket: self.sockets.held_by(walker, &found, engine_managed)?,
            engine_managed,
            restrictions: restrictions(node.mount_attributes().map_err(unknown)?),
            canonical: found.path.clone(),
        };
        let descriptor = node
            .descriptor
            .try_clone()
            .map_err(|error| format!("no descriptor left to hold {:?} with: {error}", found.path))?;
        Ok((fact, descriptor))
    }

    /// True inside one of the engine roots; the root itself holds everybody's volumes, and is not inside.
    fn is_engine_managed(&mut self, walker: &mut Walker, found: &Found) -> bool {
        if found.magic.is_some() {
            return false;
        }
        // The path found has no links in it, so if it starts as a root is written, the root has none either.
        if self.matches_engine_root(&found.path) {
            return true;
        }
        let directories = self.engine_directories.get_or_insert_with(|| {
            let plain = self.engine_roots.iter().filter(|root| !root.contains('*'));
            plain
                .filter_map(|root| walker.glimpse(Path::new(root)).ok())
                .map(|found| found.meta.identity)
                .collect()
        });
        found.above().any(|above| directories.contains(&above))
    }

    fn matches_engine_root(&self, path: &Path) -> bool {
        self.engine_roots.iter().any(|root| lies_in(path, root))
    }

    /// True if the file is on the host's own /dev/shm.
    fn is_host_shm(&mut self, walker: &mut Walker, found: &Found) -> bool {
        let shm = *self.host_shm.get_or_insert_with(|| host_shm(walker));
        let Some(shm) = shm else { return false };
        let identity = found.identity();
        (shm.is_mount && identity.device == shm.root.device)
            || identity == shm.root
            || found.above().any(|above| above == shm.root)
    }
}

/// Attributes of a mount as the options that ask for them.
fn restrictions(attributes: u64) -> Vec<&'static str> {
    const TABLE: [(u64, &str); 5] = [
        (attribute::RDONLY, "ro"),
        (attribute::NOSUID, "nosuid"),
        (attribute::NODEV, "nodev"),
        (attribute::NOEXEC, "noexec"),
        (attribute::NOSYMFOLLOW, "nosymfollow"),
    ];
    let set = TABLE.iter().filter(|(attribute, _)| attributes & attribute != 0);
    set.map(|(_, option)| *option).collect()
}

/// True if a path lies inside a directory, in whose name a `*` stands for one component.
fn lies_in(path: &Path, directory: &str) -> bool {
    let mut components = path.components();
    let inside = Path::new(directory).components().all(|wanted| {
        components
            .next()
            .is_some_and(|found| wanted.as_os_str() == "*" || wanted == found)
    });
    inside && components.next().is_some()
}

fn host_shm(walker: &mut Walker) -> Option<HostShm> {
    let found = walker.walk(&PathBuf::from("/dev/shm")).ok()?;
    let root = found.identity();
    // Where /dev/shm is only a directory of /dev or of the root file system, the device number says nothing.
    let alone = found.above().all(|above| above.device != root.device);
    let is_mount = alone && found.node().file_system() == Ok(TMPFS_MAGIC);
    Some(HostShm { root, is_mount })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{lchown, symlink};
    use std::os::unix::net::UnixListener;

    use gabion_baseline::facts::{FileKind, Relation};
    use nix::sys::stat::{Mode, SFlag, fstat, makedev, mknod};

    use super::*;
    use crate::testing::{config, needs_root};
    use crate::walk::Meta;

    struct Ground {
        _keep: tempfile::TempDir,
        top: PathBuf,
        roots: Vec<String>,
    }

    impl Ground {
        fn new() -> Self {
            let keep = tempfile::tempdir().unwrap();
            let top = keep.path().canonicalize().unwrap();
            Ground {
                _keep: keep,
                top,
                roots: Vec::new(),
            }
        }

        fn look(&self, source: &str) -> (Fact<Option<SourceFact>>, Option<OwnedFd>) {
            let config = config(&format!(
                r#"{{"mounts":[{{"destination":"/x","type":"bind","source":{source:?},"options":["rbind"]}}]}}"#
            ));
            let mut walker = Walker::default();
            let landmarks = Landmarks::find(&mut walker, &[]);
            Sources::new(&self.top, &self.roots).look(&mut walker, &landmarks, &config.mounts.items()[0])
        }

        fn source(&self, source: &str) -> SourceFact {
            match self.look(source) {
                (Fact::Known(Some(fact)), Some(held)) => {
                    assert_eq!(Meta::of(&fstat(held).unwrap()).identity, fact.identity);
                    fact
                }
                other => panic!("{other:?}"),
            }
        }

        fn path(&self, name: &str) -> String {
            self.top.join(name).to_str().unwrap().to_owned()
        }
    }

    #[test]
    fn an_ordinary_volume_is_nothing_special() {
        let ground = Ground::new();
        fs::create_dir(ground.top.join("volume")).unwrap();
        let fact = ground.source(&ground.path("volume"));
        assert_eq!(fact.kind, FileKind::Directory);
        assert_eq!(fact.canonical, ground.top.join("volume"));
        assert_eq!(
            (fact.on_procfs, fact.on_sysfs, fact.on_cgroupfs, fact.is_host_shm),
            (false, false, false, false)
        );
        assert_eq!(
            (fact.sensitive, fact.control_socket, fact.engine_managed),
            (None, None, false)
        );
        assert_eq!((fact.through_magic_link, fact.through_foreign_link), (None, None));
    }

    #[test]
    fn a_relative_source_is_relative_to_the_bundle() {
        let ground = Ground::new();
        fs::write(ground.top.join("file"), "").unwrap();
        assert_eq!(ground.source("file").canonical, ground.top.join("file"));
        assert_eq!(ground.source("./file").kind, FileKind::Regular);
    }

    #[test]
    fn what_cannot_be_found_is_unknown_and_nothing_is_held() {
        let ground = Ground::new();
        let (fact, held) = ground.look("nothing\n");
        let path = ground.top.join("nothing\n");
        assert_eq!(fact, Fact::Unknown(format!("{path:?} does not exist")));
        assert!(held.is_none());
        assert_eq!(
            ground.look("").0,
            Fact::Unknown("a bind mount without a source".to_owned())
        );
    }

    #[test]
    fn only_bind_mounts_have_a_source() {
        let ground = Ground::new();
        let config = config(
            r#"{"mounts":[{"destination":"/proc","type":"proc","source":"proc"},
                          {"destination":"/a","type":"none","source":"/etc","options":["bind"]},
                          {"destination":"/b","type":"bind","source":null}]}"#,
        );
        let mut walker = Walker::default();
        let landmarks = Landmarks::find(&mut walker, &[]);
        let mut sources = Sources::new(&ground.top, &[]);
        let facts: Vec<_> = config
            .mounts
            .items()
            .iter()
            .map(|m| sources.look(&mut walker, &landmarks, m).0)
            .collect();
        assert_eq!(facts[0], Fact::Known(None));
        let sensitive = facts[1]
            .known()
            .unwrap()
            .as_ref()
            .unwrap()
            .sensitive
            .as_ref()
            .unwrap();
        assert_eq!(
            (sensitive.directory.as_str(), sensitive.relation),
            ("/etc", Relation::Is)
        );
        assert!(matches!(facts[2], Fact::Unknown(_)));
    }

    #[test]
    fn what_a_sources_mount_restricts_is_told_in_words_of_mounts() {
        let attributes = attribute::RDONLY | attribute::NOEXEC | attribute::NOATIME;
        assert_eq!(restrictions(attributes), ["ro", "noexec"]);
        let found = Ground::new().source("/proc/version").restrictions;
        let procfs = gabion_sys::mount::file_system(fs::File::open("/proc/version").unwrap()).unwrap();
        assert_eq!(found, restrictions(procfs.attributes));
    }

    #[test]
    fn kernel_file_systems_are_recognized_wherever_they_are_reached_from() {
        let ground = Ground::new();
        symlink("/proc/sys", ground.top.join("a")).unwrap();
        let fact = ground.source(&ground.path("a/kernel"));
        assert!(fact.on_procfs);
        assert_eq!(fact.through_magic_link, None);
        assert!(ground.source("/sys/kernel").on_sysfs);
        assert!(ground.source("/dev/shm").is_host_shm);
        assert!(!ground.source("/dev").is_host_shm);
    }

    #[test]
    fn a_file_on_the_hosts_shared_memory_is_recognized_through_a_link() {
        let ground = Ground::new();
        let inside = tempfile::tempdir_in("/dev/shm").unwrap();
        symlink(inside.path(), ground.top.join("link")).unwrap();
        assert!(ground.source(&ground.path("link")).is_host_shm);
    }

    #[test]
    fn sockets_fifos_and_device_nodes_are_told_apart_without_opening_them() {
        needs_root!();
        let ground = Ground::new();
        let _listener = UnixListener::bind(ground.top.join("socket")).unwrap();
        nix::unistd::mkfifo(&ground.top.join("fifo"), Mode::S_IRWXU).unwrap();
        // A device number that no driver has: opening it would fail, looking at it does not.
        mknod(
            &ground.top.join("block"),
            SFlag::S_IFBLK,
            Mode::S_IRWXU,
            makedev(511, 77),
        )
        .unwrap();
        mknod(
            &ground.top.join("character"),
            SFlag::S_IFCHR,
            Mode::S_IRWXU,
            makedev(1, 3),
        )
        .unwrap();
        for (name, kind) in [
            ("socket", FileKind::Socket),
            ("fifo", FileKind::Fifo),
            (
                "block",
                FileKind::BlockDevice {
                    major: 511,
                    minor: 77,
                },
            ),
            ("character", FileKind::CharDevice { major: 1, minor: 3 }),
        ] {
            assert_eq!(ground.source(&ground.path(name)).kind, kind, "{name}");
        }
    }

    #[test]
    fn engine_roots_are_matched_by_where_they_lead() {
        let mut ground = Ground::new();
        fs::create_dir_all(ground.top.join("disk/volumes/v1/_data")).unwrap();
        fs::create_dir_all(ground.top.join("pods/7/volumes/x")).unwrap();
        fs::create_dir_all(ground.top.join("volumes-not/x")).unwrap();
        symlink(ground.top.join("disk/volumes"), ground.top.join("volumes")).unwrap();
        ground.roots = vec![ground.path("volumes"), ground.path("pods/*/volumes")];
        let managed = |name: &str| ground.source(&ground.path(name)).engine_managed;
        assert!(managed("volumes/v1/_data"));
        assert!(managed("disk/volumes/v1"));
        assert!(managed("pods/7/volumes/x"));
        assert!(!managed("volumes"));
        assert!(!managed("pods/7"));
        assert!(!managed("pods/7/volumes"));
        assert!(!managed("volumes-not/x"));
        assert!(!managed("disk/volumes/../../volumes-not"));
    }

    #[test]
    fn a_link_that_a_container_put_into_its_volume_is_foreign_though_root_owns_it() {
        needs_root!();
        let mut ground = Ground::new();
        fs::create_dir_all(ground.top.join("volumes/v1/_data")).unwrap();
        symlink("/etc", ground.top.join("volumes/v1/_data/sub")).unwrap();
        assert_eq!(
            ground
                .source(&ground.path("volumes/v1/_data/sub"))
                .through_foreign_link,
            None
        );
        ground.roots = vec![ground.path("volumes")];
        let fact = ground.source(&ground.path("volumes/v1/_data/sub"));
        assert_eq!(
            fact.through_foreign_link,
            Some(ground.path("volumes/v1/_data/sub"))
        );
        assert_eq!(fact.canonical, Path::new("/etc"));
        assert!(!fact.engine_managed);
        // A link of a user, anywhere.
        symlink("/etc", ground.top.join("users")).unwrap();
        lchown(ground.top.join("users"), Some(1000), Some(1000)).unwrap();
        assert_eq!(
            ground.source(&ground.path("users")).through_foreign_link,
            Some(ground.path("users"))
        );
    }

    #[test]
    fn a_magic_link_makes_nothing_engine_managed() {
        let mut ground = Ground::new();
        fs::create_dir_all(ground.top.join("volumes/v1")).unwrap();
        ground.roots = vec![ground.path("volumes")];
        let fact = ground.source(&format!("/proc/self/root{}", ground.path("volumes/v1")));
        assert_eq!(
            fact.through_magic_link,
            Some(format!("/proc/{}/root", std::process::id()))
        );
        assert!(!fact.engine_managed);
    }
}
