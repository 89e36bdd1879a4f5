//! The container's root file system, which containerd describes and the shim mounts.

use std::io;
use std::path::{Path, PathBuf};

use containerd_shim_protos::api::Mount;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// mount(2) reads at most one page of options, its end included.
const PAGE: usize = 4096;

/// Mounts what containerd sent onto `bundle/rootfs`. What was mounted is unmounted again if the rest fails.
///
/// # Errors
/// A sentence that names the mount.
pub(crate) fn mount_all(mounts: &[Mount], bundle: &Path) -> Result<(), String> {
    if mounts.is_empty() {
        return Ok(());
    }
    let target = bundle.join("rootfs");
    let outcome = std::fs::create_dir(&target)
        .or_else(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Ok(()),
            _ => Err(error),
        })
        .map_err(|error| format!("cannot make {target:?}: {error}"))
        .and_then(|()| mounts.iter().try_for_each(|entry| mount_one(entry, &target)));
    if let Err(error) = outcome {
        return Err(match unmount_all(bundle) {
            Ok(()) => error,
            Err(also) => format!("{error}; and then {also}"),
        });
    }
    Ok(())
}

/// Unmounts everything at `bundle/rootfs`.
///
/// # Errors
/// A sentence.
pub(crate) fn unmount_all(bundle: &Path) -> Result<(), String> {
    let target = bundle.join("rootfs");
    loop {
        match umount2(&target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            // Not a mount point, or not there.
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(format!("cannot unmount {target:?}: {}", errno.desc())),
        }
    }
}

fn mount_one(entry: &Mount, target: &Path) -> Result<(), String> {
    let (flags, data) = options(&entry.options);
    let outcome = if entry.type_ == "overlay" && data.len() >= PAGE {
        with_short_layers(&entry.options, |data| call(entry, target, flags, data))?
    } else {
        call(entry, target, flags, &data)
    };
    outcome.map_err(|errno| {
        format!(
            "cannot mount the root file system, {} {:?} at {target:?}: {}",
            entry.type_,
            entry.source,
            errno.desc()
        )
    })
}

fn call(entry: &Mount, target: &Path, flags: MsFlags, data: &str) -> nix::Result<()> {
    let data = (!data.is_empty()).then_some(data);
    mount(
        Some(entry.source.as_str()),
        target,
        Some(entry.type_.as_str()),
        flags,
        data,
    )?;
    // A bind mount takes its flags in a second call (mount(2)).
    if flags.contains(MsFlags::MS_BIND) && flags.contains(MsFlags::MS_RDONLY) {
        let flags = flags | MsFlags::MS_REMOUNT;
        mount(None::<&str>, target, None::<&str>, flags, None::<&str>)?;
    }
    Ok(())
}

/// Options as mount(8) writes them: flags, and the file system's own.
fn options(words: &[String]) -> (MsFlags, String) {
    let (mut flags, mut data) = (MsFlags::empty(), Vec::new());
    for word in words {
        match word.as_str() {
            "ro" => flags |= MsFlags::MS_RDONLY,
            "rw" => flags &= !MsFlags::MS_RDONLY,
            "bind" => flags |= MsFlags::MS_BIND,
            "rbind" => flags |= MsFlags::MS_BIND | MsFlags::MS_REC,
            "nosuid" => flags |= MsFlags::MS_NOSUID,
            "suid" => flags &= !MsFlags::MS_NOSUID,
            "nodev" => flags |= MsFlags::MS_NODEV,
            "dev" => flags &= !MsFlags::MS_NODEV,
            "noexec" => flags |= MsFlags::MS_NOEXEC,
            "exec" => flags &= !MsFlags::MS_NOEXEC,
            "noatime" => flags |= MsFlags::MS_NOATIME,
            "atime" => flags &= !MsFlags::MS_NOATIME,
            "nodiratime" => flags |= MsFlags::MS_NODIRATIME,
            "relatime" => flags |= MsFlags::MS_RELATIME,
            "strictatime" => flags |= MsFlags::MS_STRICTATIME,
            "sync" => flags |= MsFlags::MS_SYNCHRONOUS,
            "dirsync" => flags |= MsFlags::MS_DIRSYNC,
            "defaults" | "async" => {}
            other => data.push(other),
        }
    }
    (flags, data.join(","))
}

/// An image of many layers has more than a page of names. They share a directory: from there, they are short.
///
/// The working directory is this program's, and it has one thread: nothing else can see the change.
fn with_short_layers<T>(words: &[String], act: impl FnOnce(&str) -> T) -> Result<T, String> {
    let (common, short) = short_layers(words);
    let (_, data) = options(&short);
    if data.len() >= PAGE {
        return Err(format!(
            "the root file system has too many layers: {} bytes of names, {PAGE} may be",
            data.len()
        ));
    }
    let before =
        std::env::current_dir().map_err(|error| format!("cannot read the working directory: {error}"))?;
    std::env::set_current_dir(&common).map_err(|error| format!("cannot enter {common:?}: {error}"))?;
    let outcome = act(&data);
    std::env::set_current_dir(&before).map_err(|error| format!("cannot return to {before:?}: {error}"))?;
    Ok(outcome)
}

fn short_layers(words: &[String]) -> (PathBuf, Vec<String>) {
    let lower = |word: &String| word.strip_prefix("lowerdir=").map(str::to_owned);
    let layers: Vec<PathBuf> = words
        .iter()
        .filter_map(lower)
        .flat_map(|list| list.split(':').map(PathBuf::from).collect::<Vec<_>>())
        .collect();
    let mut common = layers
        .first()
        .and_then(|path| path.parent())
        .map(Path::to_owned)
        .unwrap_or_default();
    while !layers.iter().all(|layer| layer.starts_with(&common)) {
        if !common.pop() {
            break;
        }
    }
    let short = words
        .iter()
        .map(|word| match lower(word) {
            None => word.clone(),
            Some(list) => {
                let names: Vec<&str> = list
                    .split(':')
                    .map(|layer| {
                        Path::new(layer)
                            .strip_prefix(&common)
                            .ok()
                            .and_then(Path::to_str)
                            .unwrap_or(layer)
                    })
                    .collect();
                format!("lowerdir={}", names.join(":"))
            }
        })
        .collect();
    (common, short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_data_are_told_apart() {
        let words = ["ro", "nosuid", "index=off", "workdir=/w"].map(str::to_owned);
        assert_eq!(
            options(&words),
            (
                MsFlags::MS_RDONLY | MsFlags::MS_NOSUID,
                "index=off,workdir=/w".to_owned()
            )
        );
    }

    #[test]
    fn layers_are_named_from_the_directory_that_they_share() {
        let words = ["workdir=/s/9/work", "lowerdir=/s/1/fs:/s/20/fs"].map(str::to_owned);
        let (common, short) = short_layers(&words);
        assert_eq!(common, PathBuf::from("/s"));
        assert_eq!(short, ["workdir=/s/9/work", "lowerdir=1/fs:20/fs"]);
    }
}
