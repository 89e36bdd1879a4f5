//! Where mounts of the image's own links lead, when nothing is there yet.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

use gabion_baseline::config::Config;

/// As many links as the kernel follows (path_resolution(7)).
const LINKS: usize = 40;

/// The destination of each mount as it is given to libcontainer, which makes no file where a link leads that leads
/// nowhere: images have such a link in the place of /etc/resolv.conf. What was judged is where it leads, too.
///
/// Only the text is chosen here, and it has no link in it that was there now. Whoever mounts stays in the root.
pub(crate) fn of(config: &Config, rootfs: &Path) -> Vec<String> {
    let mounts = config.mounts.items();
    let absolute = |destination: &str| Path::new("/").join(destination);
    mounts
        .iter()
        .map(|mount| {
            let written = absolute(&mount.destination);
            let led = led(rootfs, &written).filter(|led| {
                // What another mount brings is not there yet, and decides where a link leads.
                let mut others = mounts.iter().map(|other| absolute(&other.destination));
                !others.any(|other| other != written && led.starts_with(&other))
            });
            led.and_then(|path| path.into_os_string().into_string().ok())
                .unwrap_or_else(|| mount.destination.clone())
        })
        .collect()
}

/// Where a path leads in a root if there is a link on the way and nothing at its end; `None` otherwise.
fn led(rootfs: &Path, path: &Path) -> Option<PathBuf> {
    let mut todo: VecDeque<OsString> = names(path);
    let mut done = PathBuf::new();
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            done.pop();
            continue;
        }
        let next = done.join(&name);
        match fs::read_link(rootfs.join(&next)) {
            Ok(target) => {
                links += 1;
                if links > LINKS {
                    return None;
                }
                if target.is_absolute() {
                    done.clear();
                }
                for name in names(&target).into_iter().rev() {
                    todo.push_front(name);
                }
            }
            Err(_) => done = next,
        }
    }
    let is_missing = fs::symlink_metadata(rootfs.join(&done)).is_err();
    (links > 0 && is_missing).then(|| Path::new("/").join(done))
}

fn names(path: &Path) -> VecDeque<OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_that_leads_nowhere_leads_into_the_root() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("etc")).unwrap();
        fs::create_dir_all(at("real")).unwrap();
        symlink("../run/stub.conf", at("etc/resolv.conf")).unwrap();
        symlink("../../../../up", at("etc/up")).unwrap();
        symlink("/real", at("etc/real")).unwrap();
        symlink("loop", at("etc/loop")).unwrap();
        let led = |path: &str| led(root.path(), Path::new(path));
        assert_eq!(led("/etc/resolv.conf"), Some("/run/stub.conf".into()));
        assert_eq!(led("/etc/up/x"), Some("/up/x".into()));
        assert_eq!(led("/etc/real/new"), Some("/real/new".into()));
        for stays in ["/etc/real", "/etc/new", "/etc", "/etc/loop"] {
            assert_eq!(led(stays), None, "{stays}");
        }
    }

    #[test]
    fn what_another_mount_brings_decides_itself() {
        let root = tempfile::tempdir().unwrap();
        symlink("/proc/1/x", root.path().join("in-proc")).unwrap();
        symlink("/elsewhere", root.path().join("alone")).unwrap();
        let text = r#"{"ociVersion":"1.0.2","mounts":[{"destination":"/proc"},{"destination":"/in-proc"},
            {"destination":"/alone"}]}"#;
        let allegation = gabion_baseline::Allegation::parse(text.as_bytes()).unwrap();
        assert_eq!(
            of(allegation.config(), root.path()),
            ["/proc", "/in-proc", "/elsewhere"]
        );
    }
}
