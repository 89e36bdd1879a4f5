//! What an overlay shows of the host: a file system of its own, with directories of other ones beneath.
//!
//! An overlay over / has another device and other inodes than /, and every file of it. Who mounts one is root, as
//! podman is for whoever may use its socket: `--rootfs /:O` and `-v /etc:/data:O` are such overlays.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use gabion_baseline::facts::{Relation, Sensitive};
use gabion_baseline::rules::mounts::landmarks::{Inside, SENSITIVE};
use nix::errno::Errno;
use nix::sys::statfs::OVERLAYFS_SUPER_MAGIC;

use crate::sensitive::Landmarks;
use crate::text;
use crate::walk::{Found, Walker};

/// Overlays over overlays that the kernel allows (`FILESYSTEM_MAX_STACK_DEPTH`).
const DEPTH: usize = 2;

/// Of 10,000 mounts.
const MAX_TABLE_BYTES: usize = 16 * 1024 * 1024;

/// How a file lies to the sensitive directories: by itself, or by what the overlay shows that it is on.
///
/// # Errors
/// A sentence, if it is on an overlay of which it cannot be told what it shows.
pub(crate) fn relation(
    walker: &mut Walker,
    landmarks: &Landmarks,
    found: &Found,
) -> Result<Option<Sensitive>, String> {
    let own = landmarks.relation(found);
    if own.as_ref().is_some_and(|own| own.relation != Relation::Inside) {
        return Ok(own);
    }
    Ok(shown(walker, landmarks, found, DEPTH)?.or(own))
}

/// What a directory of the host below an overlay is.
fn shown(
    walker: &mut Walker,
    landmarks: &Landmarks,
    found: &Found,
    depth: usize,
) -> Result<Option<Sensitive>, String> {
    let on = found.node().file_system();
    let on = on.map_err(|errno| format!("fstatfs({:?}): {}", found.path, errno.desc()))?;
    if depth == 0 || on != OVERLAYFS_SUPER_MAGIC {
        return Ok(None);
    }
    let root = walker.root().map_err(|astray| astray.to_string())?;
    let mount_of = |descriptor| {
        gabion_sys::mount::place(descriptor)
            .map(|place| place.mount_id)
            .map_err(|error| error.to_string())
    };
    let mount = mount_of(&found.node().descriptor)?;
    // Where the host's own root is an overlay, its directories are known by themselves, and the layers are of the
    // machine around it.
    if mount == mount_of(&root.descriptor)? {
        return Ok(None);
    }
    // The directories between the overlay's root and the file are the same in each of its layers.
    let mut inside = 0;
    for node in found.chain.iter().rev().skip(1) {
        if mount_of(&node.descriptor)? != mount {
            break;
        }
        inside += 1;
    }
    let names: Vec<&OsStr> = found.path.iter().collect();
    let below: PathBuf = names[names.len().saturating_sub(inside)..].iter().collect();
    for layer in layers(found, mount)? {
        // One that is relative is so to a directory that nobody knows any more. Engines write them to keep the line
        // short, and they lead downwards.
        if !layer.is_absolute() {
            continue;
        }
        let Ok(layer) = walker.walk(&layer.join(&below)) else {
            // It is not there any more, or not here.
            continue;
        };
        if let Some(relation) = landmarks.relation(&layer).filter(counts) {
            return Ok(Some(relation));
        }
        if let Some(deeper) = shown(walker, landmarks, &layer, depth - 1)? {
            return Ok(Some(deeper));
        }
    }
    Ok(None)
}

/// What lies inside /etc must not be shown; what lies inside /usr may be read, and is not written to through an
/// overlay; and engines keep the layers of images inside their own directories.
fn counts(layer: &Sensitive) -> bool {
    layer.relation != Relation::Inside
        || (!layer.directory.starts_with("/var/lib/")
            && SENSITIVE.iter().any(|landmark| {
                landmark.path == layer.directory
                    && matches!(landmark.inside, Inside::Nothing | Inside::Listed)
            }))
}

/// The directories that an overlay is made of, the one that is written to included.
fn layers(found: &Found, mount: u64) -> Result<Vec<PathBuf>, String> {
    let options = match gabion_sys::mount::options(&found.node().descriptor) {
        Ok(options) => options,
        Err(error) if error.errno == Errno::ENOSYS => {
            let table = text::read("/proc/self/mountinfo", MAX_TABLE_BYTES)
                .map_err(|error| format!("/proc/self/mountinfo: {error}"))?;
            let id = mount.to_string();
            let line = table.lines().find(|line| line.split(' ').next() == Some(&id));
            let last = line.and_then(|line| line.rsplit(' ').next());
            let options =
                last.ok_or_else(|| format!("{:?} is on a mount that is in no table", found.path))?;
            options.as_bytes().to_vec()
        }
        Err(error) => return Err(error.to_string()),
    };
    Ok(named(&options))
}

/// The directories in the options of an overlay. `lowerdir` has them between colons, a colon in a name after a
/// backslash; `lowerdir+` has one.
fn named(options: &[u8]) -> Vec<PathBuf> {
    let mut layers = Vec::new();
    for option in options.split(|byte| *byte == b',') {
        let Some(at) = option.iter().position(|byte| *byte == b'=') else {
            continue;
        };
        let value = unescaped(&option[at + 1..]);
        match &option[..at] {
            b"lowerdir" => layers.extend(split(&value)),
            b"lowerdir+" | b"datadir+" | b"upperdir" => layers.push(PathBuf::from(OsString::from_vec(value))),
            _ => {}
        }
    }
    layers
}

/// The kernel writes what would end an option as a backslash and three octal digits.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [byte, tail @ ..] = rest {
        let digits = tail.get(..3).filter(|_| *byte == b'\\');
        let code = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                out.push(code);
                rest = &tail[3..];
            }
            None => {
                out.push(*byte);
                rest = tail;
            }
        }
    }
    out
}

fn split(value: &[u8]) -> Vec<PathBuf> {
    let mut layers = vec![Vec::new()];
    let mut bytes = value.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => layers
                .last_mut()
                .into_iter()
                .for_each(|last| last.extend(bytes.next())),
            b':' => layers.push(Vec::new()),
            other => layers.last_mut().into_iter().for_each(|last| last.push(*other)),
        }
    }
    let paths = layers.into_iter().filter(|layer| !layer.is_empty());
    paths
        .map(|layer| PathBuf::from(OsStr::from_bytes(&layer)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use nix::mount::{MntFlags, MsFlags, mount, umount2};

    use super::*;
    use crate::testing::needs_root;

    #[test]
    fn the_layers_of_every_way_of_writing_them_are_read() {
        let names = |options: &str| {
            let layers = named(options.as_bytes());
            let names: Vec<_> = layers
                .iter()
                .map(|layer| layer.to_str().unwrap().to_owned())
                .collect();
            names
        };
        assert_eq!(
            names("rw,lowerdir=/a:/b,upperdir=/u,workdir=/w"),
            ["/a", "/b", "/u"]
        );
        assert_eq!(names("lowerdir+=/a,lowerdir+=/b,xino=off"), ["/a", "/b"]);
        assert_eq!(names("lowerdir=/a::/data"), ["/a", "/data"]);
        assert_eq!(names("lowerdir=/with\\134:colon:/b"), ["/with:colon", "/b"]);
        assert_eq!(names("lowerdir=/a\\040b\\054c:l/AB"), ["/a b,c", "l/AB"]);
        assert_eq!(names("rw,size=1"), [""; 0]);
        // What is cut off is as it stands.
        assert_eq!(names("lowerdir=/a\\04"), ["/a04"]);
    }

    /// An overlay over a directory of the host.
    struct Overlay(tempfile::TempDir);

    impl Overlay {
        fn over(lower: &str) -> Self {
            let top = tempfile::tempdir().unwrap();
            for name in ["upper", "work", "merged"] {
                fs::create_dir(top.path().join(name)).unwrap();
            }
            let path = |name| top.path().join(name).display().to_string();
            let lower = lower.replace("TOP", top.path().to_str().unwrap());
            let options = format!(
                "lowerdir={lower},upperdir={},workdir={}",
                path("upper"),
                path("work")
            );
            mount(
                Some("overlay"),
                path("merged").as_str(),
                Some("overlay"),
                MsFlags::empty(),
                Some(options.as_str()),
            )
            .unwrap();
            Overlay(top)
        }

        fn merged(&self) -> PathBuf {
            self.0.path().join("merged")
        }
    }

    impl Drop for Overlay {
        fn drop(&mut self) {
            umount2(&self.merged(), MntFlags::MNT_DETACH).unwrap();
        }
    }

    fn seen(path: &Path) -> Option<(String, Relation)> {
        let mut walker = Walker::default();
        let landmarks = Landmarks::find(&mut walker, &[]).unwrap();
        let found = walker.walk(path).unwrap();
        relation(&mut walker, &landmarks, &found)
            .unwrap()
            .map(|found| (found.directory, found.relation))
    }

    #[test]
    fn an_overlay_is_what_it_shows_of_the_host() {
        needs_root!();
        let is = |name: &str| Some((name.to_owned(), Relation::Is));
        let root = Overlay::over("/");
        assert_eq!(seen(&root.merged()), is("/"));
        assert_eq!(seen(&root.merged().join("etc")), is("/etc"));
        // A file, and a directory in which programs may be.
        let inside = Some(("/etc".to_owned(), Relation::Inside));
        assert_eq!(seen(&root.merged().join("etc/passwd")), inside);
        assert_eq!(seen(&root.merged().join("usr/share")), None);
        let etc = Overlay::over("/etc");
        assert_eq!(seen(&etc.merged()), is("/etc"));
        let above = Overlay::over("/var");
        assert_eq!(
            seen(&above.merged()),
            Some(("/var/log".to_owned(), Relation::Contains))
        );
        // One over another one.
        let nested = Overlay::over(etc.merged().to_str().unwrap());
        assert_eq!(seen(&nested.merged()), is("/etc"));
    }

    #[test]
    fn an_overlay_of_what_is_the_engines_is_nobody_elses() {
        needs_root!();
        let image = tempfile::tempdir().unwrap();
        fs::create_dir(image.path().join("etc")).unwrap();
        let overlay = Overlay::over(image.path().to_str().unwrap());
        assert_eq!(seen(&overlay.merged()), None);
        assert_eq!(seen(&overlay.merged().join("etc")), None);
    }
}
