//! What `root.path` really is.

use std::fmt;
use std::path::Path;
use std::rc::Rc;

use gabion_baseline::Config;
use gabion_baseline::facts::{Fact, FileKind, Identity, Relation, RootfsFact, RootfsMount, Sensitive};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;
use nix::sys::statvfs::{FsFlags, fstatvfs};

use crate::overlay;
use crate::sensitive::Landmarks;
use crate::walk::{Found, Meta, Walker};

/// Tells whose root directory a directory is, among the containers of this runtime that are alive.
///
/// A question rather than a list: a node with hundreds of containers must not look at all of them for each new one.
#[derive(Clone, Default)]
pub struct Live(Option<Rc<dyn Fn(Identity) -> Option<String>>>);

impl Live {
    /// Asks this function for the id of the live container with that root directory.
    pub fn by(holder: impl Fn(Identity) -> Option<String> + 'static) -> Self {
        Live(Some(Rc::new(holder)))
    }

    fn holder(&self, rootfs: Identity) -> Option<String> {
        self.0.as_ref().and_then(|holder| holder(rootfs))
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "Live(known)"
        } else {
            "Live(nobody)"
        })
    }
}

/// Why there is no rootfs to look at.
#[derive(Debug, Clone)]
pub(crate) enum NoRootfs {
    /// There is none; that is a fact.
    Missing(String),
    /// It could not be looked at.
    Unknown(String),
}

impl NoRootfs {
    pub(crate) fn why(&self) -> &str {
        match self {
            NoRootfs::Missing(why) | NoRootfs::Unknown(why) => why,
        }
    }
}

/// Finds the rootfs. A relative path is relative to the bundle (config.md, "Root").
pub(crate) fn find(walker: &mut Walker, config: &Config, bundle: &Path) -> Result<Found, NoRootfs> {
    let Some(root) = config.root.value() else {
        return Err(NoRootfs::Missing(format!("root is {}", config.root.presence())));
    };
    if root.path.is_empty() {
        return Err(NoRootfs::Missing("root.path is empty".to_owned()));
    }
    match walker.walk(&bundle.join(&root.path)) {
        Ok(found) if found.node().meta.is_directory() => Ok(found),
        Ok(found) => Err(NoRootfs::Missing(format!("{:?} is not a directory", found.path))),
        Err(astray) if matches!(astray.errno, Errno::ENOENT | Errno::ENOTDIR) => {
            Err(NoRootfs::Missing(astray.to_string()))
        }
        Err(astray) => Err(NoRootfs::Unknown(astray.to_string())),
    }
}

/// Looks at the rootfs that was found.
pub(crate) fn look(
    walker: &mut Walker,
    landmarks: &Result<Landmarks, String>,
    rootfs: &Result<Found, NoRootfs>,
    live: &Live,
) -> Fact<RootfsFact> {
    let found = match rootfs {
        Ok(found) => found,
        Err(NoRootfs::Missing(why)) => return Fact::Known(RootfsFact::Missing(why.clone())),
        Err(NoRootfs::Unknown(why)) => return Fact::Unknown(why.clone()),
    };
    let landmarks = match landmarks {
        Ok(landmarks) => landmarks,
        Err(why) => return Fact::Unknown(why.clone()),
    };
    let host_root = match walker.root() {
        Ok(root) => root.meta.identity,
        Err(astray) => return Fact::Unknown(astray.to_string()),
    };
    let mut entries = std::collections::BTreeMap::new();
    for name in ["dev", "etc", "proc", "sys"] {
        match entry(found, name) {
            Ok(Some(kind)) => {
                entries.insert(name.to_owned(), kind);
            }
            Ok(None) => {}
            Err(errno) => return Fact::Unknown(format!("{:?}: {}", found.path.join(name), errno.desc())),
        }
    }
    let identity = found.identity();
    let sensitive: Option<Sensitive> = match overlay::relation(walker, landmarks, found) {
        Ok(sensitive) => sensitive.filter(|sensitive| sensitive.relation != Relation::Inside),
        Err(why) => return Fact::Unknown(why),
    };
    Fact::Known(RootfsFact::Directory {
        canonical: found.path.clone(),
        identity,
        is_host_root: identity == host_root,
        sensitive,
        shared_with: live.holder(identity),
        entries,
    })
}

/// How the file system is mounted that the rootfs is on.
pub(crate) fn mount(rootfs: &Result<Found, NoRootfs>) -> Fact<RootfsMount> {
    let found = match rootfs {
        Ok(found) => found,
        Err(none) => return Fact::Unknown(none.why().to_owned()),
    };
    match fstatvfs(&found.node().descriptor) {
        Ok(answer) => Fact::Known(RootfsMount {
            nosuid: answer.flags().contains(FsFlags::ST_NOSUID),
            nodev: answer.flags().contains(FsFlags::ST_NODEV),
        }),
        Err(errno) => Fact::Unknown(format!("fstatvfs({:?}): {}", found.path, errno.desc())),
    }
}

/// What an entry of the rootfs is, itself: a link is a link.
fn entry(rootfs: &Found, name: &str) -> nix::Result<Option<FileKind>> {
    match fstatat(&rootfs.node().descriptor, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(Meta::of(&stat).kind())),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::testing::config;

    fn rootfs(bundle: &Path, root: &str, live: &Live) -> Fact<RootfsFact> {
        let config = config(&format!(r#"{{"root":{root}}}"#));
        let mut walker = Walker::default();
        let landmarks = Landmarks::find(&mut walker, &[]);
        let found = find(&mut walker, &config, bundle);
        look(&mut walker, &landmarks, &found, live)
    }

    fn missing(bundle: &Path, root: &str) -> String {
        match rootfs(bundle, root, &Live::default()) {
            Fact::Known(RootfsFact::Missing(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_images_directory_is_described_with_its_links() {
        let bundle = tempfile::tempdir().unwrap();
        let path = bundle.path().canonicalize().unwrap();
        fs::create_dir_all(path.join("rootfs/proc")).unwrap();
        fs::create_dir(path.join("rootfs/etc")).unwrap();
        symlink("/tmp/elsewhere", path.join("rootfs/dev")).unwrap();
        let Fact::Known(RootfsFact::Directory {
            canonical,
            identity,
            is_host_root,
            sensitive,
            shared_with,
            entries,
        }) = rootfs(&path, r#"{"path":"rootfs"}"#, &Live::default())
        else {
            panic!()
        };
        assert_eq!(canonical, path.join("rootfs"));
        assert_eq!((is_host_root, sensitive, shared_with), (false, None, None));
        let entries: Vec<_> = entries
            .iter()
            .map(|(name, kind)| (name.as_str(), *kind))
            .collect();
        assert_eq!(
            entries,
            [
                ("dev", FileKind::Symlink),
                ("etc", FileKind::Directory),
                ("proc", FileKind::Directory)
            ]
        );
        let live = Live::by(move |asked| (asked == identity).then(|| "web-1".to_owned()));
        symlink(path.join("rootfs"), path.join("alias")).unwrap();
        let Fact::Known(RootfsFact::Directory { shared_with, .. }) =
            rootfs(&path, r#"{"path":"alias"}"#, &live)
        else {
            panic!()
        };
        assert_eq!(shared_with.as_deref(), Some("web-1"));
    }

    #[test]
    fn the_hosts_root_is_recognized_behind_a_link() {
        let bundle = tempfile::tempdir().unwrap();
        symlink("/", bundle.path().join("rootfs")).unwrap();
        for root in [
            r#"{"path":"rootfs"}"#,
            r#"{"path":"/"}"#,
            r#"{"path":"/proc/self/root"}"#,
        ] {
            let Fact::Known(RootfsFact::Directory {
                is_host_root,
                sensitive,
                ..
            }) = rootfs(bundle.path(), root, &Live::default())
            else {
                panic!("{root}")
            };
            assert!(is_host_root, "{root}");
            let sensitive = sensitive.unwrap();
            assert_eq!(
                (sensitive.directory.as_str(), sensitive.relation),
                ("/", Relation::Is)
            );
        }
    }

    #[test]
    fn a_system_directory_as_rootfs_is_named_and_one_inside_it_is_not() {
        let relation = |root: &str| match rootfs(Path::new("/tmp"), root, &Live::default()) {
            Fact::Known(RootfsFact::Directory {
                sensitive,
                is_host_root: false,
                ..
            }) => sensitive.map(|sensitive| (sensitive.directory, sensitive.relation)),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            relation(r#"{"path":"/usr"}"#),
            Some(("/usr".to_owned(), Relation::Is))
        );
        assert_eq!(
            relation(r#"{"path":"/var"}"#),
            Some(("/var/log".to_owned(), Relation::Contains))
        );
        assert_eq!(relation(r#"{"path":"/usr/share"}"#), None);
    }

    #[test]
    fn what_is_missing_is_named() {
        let bundle = tempfile::tempdir().unwrap();
        let path = bundle.path().canonicalize().unwrap();
        fs::write(path.join("file"), "").unwrap();
        assert_eq!(
            missing(&path, r#"{"path":"none"}"#),
            format!("{:?} does not exist", path.join("none"))
        );
        assert_eq!(
            missing(&path, r#"{"path":"file"}"#),
            format!("{:?} is not a directory", path.join("file"))
        );
        assert_eq!(missing(&path, r#"{"path":""}"#), "root.path is empty");
        assert_eq!(missing(&path, "null"), "root is null");
    }
}
