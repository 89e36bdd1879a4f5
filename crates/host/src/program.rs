//! What the container's program is: the class of its ELF file.
//!
//! It is looked for in the root file system as it is on the host; what mounts will cover is not known here. Whoever
//! starts the program looks again, in the container.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use gabion_baseline::Config;
use gabion_baseline::facts::{Fact, ProgramFact};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{SFlag, fstat};

use crate::rootfs::NoRootfs;
use crate::walk::Found;

/// Looks for `process.args[0]`, by its path or in the directories of `PATH`.
pub(crate) fn look(config: &Config, rootfs: &Result<Found, NoRootfs>) -> Fact<ProgramFact> {
    let root = match rootfs {
        Ok(found) => &found.node().descriptor,
        Err(none) => return Fact::Unknown(format!("no rootfs: {}", none.why())),
    };
    let process = config.process.value();
    let Some(name) = process.and_then(|process| process.args.items().first()) else {
        return Fact::Unknown("there is no program to run".to_owned());
    };
    for path in candidates(config, name) {
        match open(root, &path) {
            Ok(file) => {
                return class(file).map_or_else(|why| Fact::Unknown(format!("{path:?}: {why}")), Fact::Known);
            }
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(errno) => return Fact::Unknown(format!("{path:?}: {}", errno.desc())),
        }
    }
    Fact::Unknown(format!("{name:?} is not in the root file system"))
}

fn candidates(config: &Config, name: &str) -> Vec<PathBuf> {
    let process = config.process.value();
    let directory = process.map_or("/", |process| &process.cwd);
    if name.contains('/') {
        return vec![Path::new(directory).join(name)];
    }
    let environment = process.map_or(&[][..], |process| process.env.items());
    let path = environment.iter().find_map(|entry| entry.strip_prefix("PATH="));
    path.unwrap_or("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .split(':')
        .map(|entry| Path::new(directory).join(entry).join(name))
        .collect()
}

/// Opens a file of the root file system, following links as the container would. A file that is none, such as a FIFO,
/// is not waited for.
fn open(root: &OwnedFd, path: &Path) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = openat2(root, path, how)?;
    let kind = SFlag::from_bits_truncate(fstat(&file)?.st_mode) & SFlag::S_IFMT;
    if kind == SFlag::S_IFREG {
        Ok(file)
    } else {
        Err(Errno::ENOENT)
    }
}

/// The fifth byte of an ELF file: `ELFCLASS32` is 1 (elf(5)). A script is run by another program, and counts as native.
fn class(file: OwnedFd) -> Result<ProgramFact, String> {
    const CLASS_32: u8 = 1;
    let mut head = Vec::new();
    File::from(file)
        .take(5)
        .read_to_end(&mut head)
        .map_err(|error| error.to_string())?;
    Ok(ProgramFact {
        is_32_bit: head.starts_with(b"\x7fELF") && head.get(4) == Some(&CLASS_32),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::config;
    use crate::walk::Walker;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_class_of_the_program_is_read_where_the_container_would_find_it() {
        let bundle = tempfile::tempdir().unwrap();
        let root = bundle.path().join("rootfs");
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::write(root.join("bin/old"), b"\x7fELF\x01rest").unwrap();
        fs::write(root.join("bin/new"), b"\x7fELF\x02rest").unwrap();
        fs::write(root.join("bin/script"), b"#!/bin/old").unwrap();
        symlink("/bin/old", root.join("link")).unwrap();
        let said = |name: &str| {
            let text = format!(
                r#"{{"root": {{"path": "rootfs"}}, "process": {{"cwd": "/", "args": ["{name}"], "env": ["PATH=/sbin:/bin"]}}}}"#
            );
            let config = config(&text);
            let rootfs = crate::rootfs::find(&mut Walker::default(), &config, bundle.path());
            look(&config, &rootfs)
        };
        let known = |is_32_bit| Fact::Known(ProgramFact { is_32_bit });
        assert_eq!(said("old"), known(true));
        assert_eq!(said("/bin/old"), known(true));
        assert_eq!(said("/link"), known(true));
        assert_eq!(said("bin/new"), known(false));
        assert_eq!(said("script"), known(false));
        assert_eq!(
            said("nothing"),
            Fact::Unknown("\"nothing\" is not in the root file system".to_owned())
        );
        assert_eq!(
            said("/bin"),
            Fact::Unknown("\"/bin\" is not in the root file system".to_owned())
        );
    }
}
