//! What the hooks of a bundle lead to: programs that run as root on the host.

use std::path::{Path, PathBuf};

use gabion_baseline::config::{Config, Hook};
use gabion_baseline::facts::{Fact, HookFact};
use gabion_sys::file::find_in_root;
use nix::errno::Errno;

use crate::walk::{Found, Node, Walker};

/// Looks at one hook of a hook point.
pub(crate) fn look(
    walker: &mut Walker,
    rootfs: Result<&Found, &str>,
    config: &Config,
    point: &str,
    hook: &Hook,
) -> Fact<HookFact> {
    let path = Path::new(&hook.path);
    if !path.is_absolute() {
        return Fact::Unknown(format!("the hook's path {path:?} is not absolute"));
    }
    // The only ones whose path is meant as the container sees it (config.md, "POSIX-platform Hooks").
    if point == "startContainer" {
        return in_container(rootfs, config, path);
    }
    let found = match walker.walk(path) {
        Ok(found) => found,
        Err(astray) if matches!(astray.errno, Errno::ENOENT | Errno::ENOTDIR) => {
            let inside_rootfs = rootfs.is_ok_and(|rootfs| path.starts_with(&rootfs.path));
            return Fact::Known(HookFact {
                canonical: path.to_path_buf(),
                executable: false,
                trusted: false,
                inside_rootfs,
            });
        }
        Err(astray) => return Fact::Unknown(astray.to_string()),
    };
    // Docker up to 27 names its own binary as /proc/<pid>/exe. If that file was replaced since the daemon was
    // started it has no place any more at which it could be trusted, and the chain is the file alone.
    let has_place = found.chain.len() > 1;
    let inside_rootfs = rootfs.is_ok_and(|rootfs| found.above().any(|above| above == rootfs.identity()));
    Fact::Known(HookFact {
        executable: found.node().meta.is_executable(),
        trusted: has_place && found.open_to_others().is_none(),
        inside_rootfs,
        canonical: found.path,
    })
}

fn in_container(rootfs: Result<&Found, &str>, config: &Config, path: &Path) -> Fact<HookFact> {
    let rootfs = match rootfs {
        Ok(rootfs) => rootfs,
        Err(why) => return Fact::Unknown(why.to_owned()),
    };
    let mounts = config.mounts.items();
    if mounts
        .iter()
        .any(|mount| mount.destination != "/" && path.starts_with(&mount.destination))
    {
        return Fact::Unknown(format!(
            "{path:?} lies on a mount of the container, which is not there yet"
        ));
    }
    let executable = match find_in_root(&rootfs.node().descriptor, path) {
        Ok(file) => match Node::new(file) {
            Ok(node) => node.meta.is_executable(),
            Err(errno) => return Fact::Unknown(format!("{path:?} in the rootfs: {}", errno.desc())),
        },
        Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => false,
        Err(error) => return Fact::Unknown(error.to_string()),
    };
    // Whoever owns a file in an image was decided by the image.
    let canonical: PathBuf = rootfs.path.join(path.strip_prefix("/").unwrap_or(path));
    Fact::Known(HookFact {
        canonical,
        executable,
        trusted: false,
        inside_rootfs: true,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;
    use crate::testing::{config, needs_root};

    fn program(path: &Path, mode: u32) {
        fs::write(path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn hook(point: &str, path: &Path, rootfs: &Path) -> Fact<HookFact> {
        let config = config(r#"{"mounts":[{"destination":"/mnt/tools"}]}"#);
        let hook = Hook {
            path: path.to_str().unwrap().to_owned(),
            args: Default::default(),
            env: Default::default(),
            timeout: Default::default(),
        };
        let mut walker = Walker::default();
        let rootfs = walker.walk(rootfs).unwrap();
        look(&mut walker, Ok(&rootfs), &config, point, &hook)
    }

    fn known(path: &Path) -> (PathBuf, bool, bool, bool) {
        let Fact::Known(fact) = hook("prestart", path, Path::new("/usr/share")) else {
            panic!()
        };
        (fact.canonical, fact.executable, fact.trusted, fact.inside_rootfs)
    }

    #[test]
    fn a_program_of_root_is_trusted_until_others_may_write_to_its_way() {
        needs_root!();
        let keep = tempfile::tempdir().unwrap();
        let top = keep.path().canonicalize().unwrap();
        fs::create_dir(top.join("bin")).unwrap();
        let path = top.join("bin/hook");
        program(&path, 0o755);
        symlink(&path, top.join("link")).unwrap();
        assert_eq!(known(&path), (path.clone(), true, true, false));
        assert_eq!(known(&top.join("link")), (path.clone(), true, true, false));
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(&path, 0o775);
        assert!(!known(&path).2);
        mode(&path, 0o644);
        assert_eq!(known(&path), (path.clone(), false, true, false));
        mode(&path, 0o755);
        mode(&top.join("bin"), 0o757);
        assert!(!known(&path).2);
        mode(&top.join("bin"), 0o755);
        chown(&path, Some(1000), None).unwrap();
        assert!(!known(&path).2);
        chown(&path, Some(0), None).unwrap();
        // The link could be turned elsewhere, though the program is fine.
        std::os::unix::fs::lchown(top.join("link"), Some(1000), None).unwrap();
        assert!(!known(&top.join("link")).2);
    }

    #[test]
    fn a_daemon_that_names_itself_by_its_process_is_resolved_to_its_file() {
        let keep = tempfile::tempdir().unwrap();
        let own = fs::read_link("/proc/self/exe").unwrap();
        let (canonical, executable, ..) = known(Path::new("/proc/self/exe"));
        assert_eq!((canonical, executable), (own, true));
        // Replaced while it runs: the old file has no name that can be trusted.
        let copy = keep.path().join("daemon");
        fs::copy("/bin/sleep", &copy).unwrap();
        let mut child = std::process::Command::new(&copy).arg("60").spawn().unwrap();
        let link = PathBuf::from(format!("/proc/{}/exe", child.id()));
        assert_eq!(known(&link).0, copy.canonicalize().unwrap());
        fs::remove_file(&copy).unwrap();
        fs::copy("/bin/sleep", &copy).unwrap();
        let replaced = known(&link);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(replaced, (link, true, false, false));
    }

    #[test]
    fn what_is_missing_is_not_executable() {
        let path = Path::new("/nowhere/hook");
        assert_eq!(known(path), (path.to_path_buf(), false, false, false));
        let unknown = hook("prestart", Path::new("bin/hook"), Path::new("/usr"));
        assert_eq!(
            unknown,
            Fact::Unknown("the hook's path \"bin/hook\" is not absolute".to_owned())
        );
    }

    #[test]
    fn a_hook_of_the_image_is_recognized_from_both_sides() {
        let keep = tempfile::tempdir().unwrap();
        let root = keep.path().canonicalize().unwrap().join("rootfs");
        fs::create_dir_all(root.join("bin")).unwrap();
        program(&root.join("bin/hook"), 0o755);
        symlink("/bin/hook", root.join("alias")).unwrap();
        let outside = keep.path().join("outside");
        symlink(root.join("bin/hook"), &outside).unwrap();
        let Fact::Known(fact) = hook("createRuntime", &outside, &root) else {
            panic!()
        };
        assert!(fact.inside_rootfs);
        assert_eq!(fact.canonical, root.join("bin/hook"));
        for path in ["/bin/hook", "/alias"] {
            let Fact::Known(fact) = hook("startContainer", Path::new(path), &root) else {
                panic!()
            };
            assert_eq!(
                (fact.executable, fact.trusted, fact.inside_rootfs),
                (true, false, true),
                "{path}"
            );
        }
        let Fact::Known(fact) = hook("startContainer", Path::new("/none"), &root) else {
            panic!()
        };
        assert!(!fact.executable);
        let unknown = hook("startContainer", Path::new("/mnt/tools/x"), &root);
        assert!(matches!(unknown, Fact::Unknown(why) if why.contains("lies on a mount")));
    }
}
