//! Where the program of a container is, once its mounts are in place.
//!
//! Nobody has built the container yet, so the path is followed in the rootfs as the container would follow it: links
//! stay inside, and what a mount will cover does not count. Of a program that is a file of the image the first line is
//! read, for the interpreter that it may name.

use std::io::Read;
use std::path::{Path, PathBuf};

use gabion_baseline::Config;
use gabion_baseline::facts::{DestinationFact, EntrypointFact, Fact};
use gabion_sys::file::{find_without_links, reopen};

use crate::destinations::Destinations;
use crate::rootfs::NoRootfs;
use crate::walk::{Found, Node};

/// What execvp(3) and runtimes look through where the process has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The most directories of PATH that are looked through. A program that is found in none of them is still looked at
/// right before it is executed.
const MAX_DIRECTORIES: usize = 32;

/// The kernel reads no more of a script's first line (`BINPRM_BUF_SIZE` in include/uapi/linux/binfmts.h).
const MAX_LINE: u64 = 256;

/// Follows `process.args[0]`. `view` is the rootfs with all mounts in it.
pub(crate) fn look(
    config: &Config,
    rootfs: &Result<Found, NoRootfs>,
    view: Option<&Destinations<'_>>,
) -> Fact<EntrypointFact> {
    let Some(process) = config.process.value() else {
        return Fact::Known(EntrypointFact::default());
    };
    let Some(name) = process.args.items().first() else {
        return Fact::Known(EntrypointFact::default());
    };
    let (rootfs, view) = match (rootfs, view) {
        (Ok(found), Some(view)) => (found, view),
        (Ok(_), None) => return Fact::Unknown("the mounts were not looked at".to_owned()),
        (Err(none), _) => return Fact::Unknown(format!("no rootfs: {}", none.why())),
    };
    let mut fact = EntrypointFact::default();
    for path in candidates(name, &process.cwd, process.env.items()) {
        // What cannot be followed here is looked at again from inside, right before it is executed.
        let Some(inside) = follow(view, &path) else {
            continue;
        };
        if let Some(interpreter) = interpreter(rootfs.node(), &inside)
            && let Some(inside) = follow(view, &interpreter)
        {
            fact.interpreters.push(inside);
        }
        fact.paths.push(inside);
    }
    Fact::Known(fact)
}

/// The files that a name may mean, as absolute paths.
fn candidates(name: &str, cwd: &str, env: &[String]) -> Vec<PathBuf> {
    if name.is_empty() {
        return Vec::new();
    }
    if name.contains('/') {
        return vec![Path::new("/").join(cwd).join(name)];
    }
    let path = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH="));
    path.unwrap_or(DEFAULT_PATH)
        .split(':')
        .take(MAX_DIRECTORIES)
        .map(|directory| Path::new("/").join(cwd).join(directory).join(name))
        .collect()
}

fn follow(view: &Destinations<'_>, path: &Path) -> Option<PathBuf> {
    match view.lead(path) {
        Ok(DestinationFact::Inside(inside) | DestinationFact::LinkOut { inside, .. }) => Some(inside),
        Ok(DestinationFact::Broken(_)) | Err(_) => None,
    }
}

/// The interpreter that the first line of a file of the image names.
fn interpreter(rootfs: &Node, inside: &Path) -> Option<PathBuf> {
    let node = Node::new(find_without_links(&rootfs.descriptor, inside).ok()?).ok()?;
    // Nothing but a regular file is opened: opening a device or a FIFO does something.
    if node.meta.kind() != gabion_baseline::facts::FileKind::Regular {
        return None;
    }
    let mut line = Vec::new();
    reopen(&node.descriptor)
        .ok()?
        .take(MAX_LINE)
        .read_to_end(&mut line)
        .ok()?;
    named(&line)
}

fn named(line: &[u8]) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let rest = line.strip_prefix(b"#!")?;
    let rest = rest.split(|byte| *byte == b'\n').next()?;
    let name = rest
        .split(|byte| matches!(byte, b' ' | b'\t' | 0))
        .find(|word| !word.is_empty())?;
    Some(Path::new("/").join(std::ffi::OsStr::from_bytes(name)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::walk::Walker;

    fn config(args: &str, env: &str, cwd: &str) -> Config {
        let text = format!(
            r#"{{"ociVersion": "1.2.0", "root": {{"path": "rootfs"}}, "process": {{"cwd": "{cwd}", "args": ["{args}"],
                "env": ["{env}"]}}, "mounts": [{{"destination": "/proc", "type": "proc", "source": "proc"}}]}}"#
        );
        gabion_baseline::Allegation::parse(text.as_bytes())
            .unwrap()
            .config()
            .clone()
    }

    fn looked(bundle: &Path, config: &Config) -> (Vec<String>, Vec<String>) {
        let rootfs = crate::rootfs::find(&mut Walker::default(), config, bundle);
        let (_, view) = crate::destinations(config, &rootfs, &[None]);
        let Fact::Known(fact) = look(config, &rootfs, view.as_ref()) else {
            panic!("unknown")
        };
        let strings = |paths: Vec<PathBuf>| paths.iter().map(|path| path.display().to_string()).collect();
        (strings(fact.paths), strings(fact.interpreters))
    }

    #[test]
    fn links_and_scripts_of_an_image_lead_where_the_container_would_go() {
        let bundle = tempfile::tempdir().unwrap();
        let root = bundle.path().join("rootfs");
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::create_dir_all(root.join("proc/self")).unwrap();
        // What lies beneath a mount is not what the container sees.
        symlink("/bin/sh", root.join("proc/self/exe")).unwrap();
        fs::write(root.join("bin/sh"), "ELF").unwrap();
        symlink("/proc/self/exe", root.join("bin/runtime")).unwrap();
        symlink("runtime", root.join("bin/twice")).unwrap();
        fs::write(root.join("bin/script"), "#! /proc/self/exe -x\n").unwrap();
        fs::write(root.join("bin/harmless"), "#!/bin/sh\n# /proc/self/exe").unwrap();
        nix::unistd::mkfifo(&root.join("bin/fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        let look = |args: &str| looked(bundle.path(), &config(args, "A=b", "/"));
        let one = |path: &str, interpreter: Option<&str>| {
            (
                vec![path.to_owned()],
                interpreter.map(str::to_owned).into_iter().collect::<Vec<_>>(),
            )
        };
        assert_eq!(look("/bin/sh"), one("/bin/sh", None));
        assert_eq!(look("/bin/runtime"), one("/proc/self/exe", None));
        assert_eq!(look("/bin/twice"), one("/proc/self/exe", None));
        assert_eq!(look("/bin/script"), one("/bin/script", Some("/proc/self/exe")));
        assert_eq!(look("/bin/harmless"), one("/bin/harmless", Some("/bin/sh")));
        assert_eq!(look("/bin/fifo"), one("/bin/fifo", None));
        assert_eq!(look("/none/../bin/sh"), one("/bin/sh", None));
        let path = |args: &str, env: &str, cwd: &str| looked(bundle.path(), &config(args, env, cwd)).0;
        assert_eq!(
            path("runtime", "PATH=/sbin:/bin", "/"),
            ["/sbin/runtime", "/proc/self/exe"]
        );
        assert_eq!(path("./runtime", "PATH=/sbin", "/bin"), ["/proc/self/exe"]);
        assert!(path("sh", "X=y", "/").contains(&"/bin/sh".to_owned()));
    }

    #[test]
    fn the_interpreter_is_the_first_word_of_the_first_line() {
        for (line, expected) in [
            ("#!/bin/sh\n", Some("/bin/sh")),
            ("#!  \t/bin/env python\n", Some("/bin/env")),
            ("#!bin/sh", Some("/bin/sh")),
            ("#!\n/bin/sh", None),
            ("#!", None),
            (" #!/bin/sh", None),
            ("\u{7f}ELF", None),
        ] {
            assert_eq!(named(line.as_bytes()), expected.map(PathBuf::from), "{line:?}");
        }
    }
}
