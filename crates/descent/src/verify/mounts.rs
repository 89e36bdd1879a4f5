//! V-10: everything that is mounted is what was judged, and nothing else is mounted.
//!
//! A mount is recognized by what lies at its destination: the mount's id there leads to its line in the mount table.
//! Whatever of the table is then left over is there without having been judged: a hook mounted it, or somebody else.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::Path;

use gabion_sys::mount::{self, Place};
use gabion_sys::{CallError, file};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;

use crate::mount_table::{Mounted, Table, words};
use crate::plan::{ExpectedMount, FileIdentity, MountKind, MountTable};
use crate::report::Failure;
use crate::verify::paths::Covered;

const ID: &str = "V-10";

/// Where an expected mount was found.
enum Found<'t> {
    /// It, or one that was made later at the same place.
    At(&'t Mounted, Place),
    /// Covered by a later mount further up.
    Below,
}

/// See the module. `covered` are the masked and the read-only paths, as they were found.
pub(crate) fn table(expected: &MountTable, covered: &Covered, table: &Table) -> Result<(), Failure> {
    let mut left = Left::of(table);
    let directory = open_root()?;
    let root = root(&directory, &expected.root, table)?;
    left.account(&root.point);
    let mut places: Vec<(&ExpectedMount, &Mounted)> = Vec::new();
    let mut tops: BTreeMap<&str, (usize, Place)> = BTreeMap::new();
    for (index, mount) in expected.mounts.iter().enumerate() {
        match find(&directory, mount, &expected.mounts[index + 1..], table)? {
            Found::At(row, place) => {
                left.account(&row.point);
                tops.insert(&row.point, (index, place));
                places.push((mount, row));
            }
            Found::Below => left.account(&mount.destination.to_string_lossy()),
        }
    }
    for (path, id) in covered.masked.iter().chain(&covered.readonly) {
        match table.with_id(*id) {
            Some(row) => left.account(&row.point),
            None => left.account(path),
        }
    }
    // A read-only path is bound onto itself with what is mounted below it: that is there a second time, beneath.
    for (index, (_, id)) in covered.readonly.iter().enumerate() {
        let Some(top) = table.with_id(*id) else { continue };
        let earlier = covered.readonly[..index]
            .iter()
            .filter_map(|(_, id)| table.with_id(*id));
        for row in places.iter().map(|(_, row)| *row).chain(earlier) {
            if is_below(&row.point, &top.point) {
                left.allow(&row.point);
            }
        }
    }
    for (point, (index, place)) in &tops {
        let is_masked = covered
            .masked
            .iter()
            .any(|(_, id)| table.with_id(*id).is_some_and(|row| row.point == **point));
        if let Some(row) = table.with_id(place.mount_id)
            && !is_masked
        {
            compare(&expected.mounts[*index], row, place, expected)?;
        }
    }
    for device in &expected.bound_devices {
        left.allow(&device.to_string_lossy());
    }
    if expected.console {
        console(table)?;
        left.account("/dev/console");
    }
    let came_with =
        |row: &Mounted| is_explained(row, &expected.root, root, &places) || is_of_a_hook(row, expected);
    if let Some(row) = left.unaccounted(came_with) {
        return Err(Failure::mismatch(
            ID,
            // As they are said: an ext4, an xfs, a tmpfs.
            format!(
                "{} {} that was not judged is mounted at {:?}",
                if row.kind.starts_with(['a', 'e', 'i', 'o', 'x']) {
                    "an"
                } else {
                    "a"
                },
                row.kind,
                row.point
            ),
        ));
    }
    restricted_below(&places, table)
}

/// The table's lines that nothing accounts for yet, by where they are mounted.
struct Left<'t> {
    table: &'t Table,
    expected: BTreeMap<String, usize>,
}

impl<'t> Left<'t> {
    fn of(table: &'t Table) -> Self {
        Left {
            table,
            expected: BTreeMap::new(),
        }
    }

    /// One mount has to be here.
    fn account(&mut self, point: &str) {
        *self.expected.entry(point.to_owned()).or_default() += 1;
    }

    /// One mount may be here.
    fn allow(&mut self, point: &str) {
        self.account(point);
    }

    /// The first mount beyond that which did not come with another. A mount may lie upon one that came along, as a new
    /// devpts does in a /dev that is bound with the mounts below it.
    fn unaccounted(mut self, came_with: impl Fn(&Mounted) -> bool) -> Option<&'t Mounted> {
        self.table
            .rows()
            .iter()
            .filter(|row| !came_with(row))
            .find(|row| match self.expected.get_mut(&row.point) {
                Some(count) if *count > 0 => {
                    *count -= 1;
                    false
                }
                _ => true,
            })
    }
}

fn open_root() -> Result<OwnedFd, Failure> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(openat(AT_FDCWD, c"/", flags, Mode::empty()).map_err(|errno| CallError::new("open(/)", errno))?)
}

fn root<'t>(directory: &OwnedFd, expected: &ExpectedMount, table: &'t Table) -> Result<&'t Mounted, Failure> {
    let place = mount::place(directory)?;
    let row = table.with_id(place.mount_id);
    let Some(row) = row.filter(|row| place.is_mount_root && row.point == "/") else {
        return Err(Failure::mismatch(ID, "the root is not a mount of its own"));
    };
    if let MountKind::Bind { source, .. } = &expected.kind
        && identity(&place) != *source
    {
        return Err(Failure::mismatch(
            ID,
            format!("the root is {}, not {}", shown(identity(&place)), shown(*source)),
        ));
    }
    propagation(expected, row)?;
    Ok(row)
}

fn find<'t>(
    root: &OwnedFd,
    expected: &ExpectedMount,
    later: &[ExpectedMount],
    table: &'t Table,
) -> Result<Found<'t>, Failure> {
    let path = path(&expected.destination);
    let covering = || {
        later.iter().any(|mount| {
            is_below(
                &expected.destination.to_string_lossy(),
                &mount.destination.to_string_lossy(),
            )
        })
    };
    let missing = |why: &str| Failure::mismatch(ID, format!("nothing is mounted at {path:?}{why}"));
    let place = match file::find_in_root(root, path) {
        Ok(place) => mount::place(place)?,
        Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ENOTDIR) && covering() => {
            return Ok(Found::Below);
        }
        Err(error) => return Err(missing(&format!(": {}", error.errno.desc()))),
    };
    match table.with_id(place.mount_id) {
        Some(row) if place.is_mount_root && came_with_a_later(row, expected, later) => Ok(Found::Below),
        Some(row) if place.is_mount_root => Ok(Found::At(row, place)),
        _ if covering() => Ok(Found::Below),
        _ => Err(missing("")),
    }
}

/// True if what is seen at a place is no mount of its own any more: a later bind mount further up brought another along.
fn came_with_a_later(row: &Mounted, expected: &ExpectedMount, later: &[ExpectedMount]) -> bool {
    let destination = expected.destination.to_string_lossy();
    later.iter().any(|mount| match &mount.kind {
        MountKind::Bind { below, .. } => {
            is_below(&destination, &mount.destination.to_string_lossy())
                && below
                    .iter()
                    .any(|(device, root)| (*device, root.as_str()) == (row.device, row.root.as_str()))
        }
        _ => false,
    })
}

/// The topmost mount of a place against the last entry of the bundle that is for this place.
fn compare(expected: &ExpectedMount, row: &Mounted, place: &Place, all: &MountTable) -> Result<(), Failure> {
    let point = &row.point;
    match &expected.kind {
        MountKind::Bind { source, .. } => {
            if identity(place) != *source {
                return Err(Failure::mismatch(
                    ID,
                    format!(
                        "what is mounted at {point:?} is {}, not {}, which was judged",
                        shown(identity(place)),
                        shown(*source)
                    ),
                ));
            }
        }
        MountKind::FileSystem(kinds) => {
            if !kinds.contains(&row.kind) {
                return Err(Failure::mismatch(
                    ID,
                    format!(
                        "a {} is mounted at {point:?}, not a {}",
                        row.kind,
                        kinds.join(" or a ")
                    ),
                ));
            }
            fresh(row, all)?;
        }
        MountKind::CgroupHierarchies => {
            if row.kind != "tmpfs" {
                return Err(Failure::mismatch(
                    ID,
                    format!(
                        "a {} is mounted at {point:?}, not a tmpfs of hierarchies",
                        row.kind
                    ),
                ));
            }
            fresh(row, all)?;
        }
    }
    let wanted = expected.attributes | expected.recursive_attributes;
    let missing = wanted & !row.attributes;
    if !words(missing).is_empty() {
        return Err(Failure::mismatch(
            ID,
            format!("the mount at {point:?} is not {}", words(missing)),
        ));
    }
    propagation(expected, row)
}

/// A new instance shows its whole self, and is none of the host's. Of a procfs, a sysfs or a cgroup the kernel shows
/// everybody in the same namespace the same one.
fn fresh(row: &Mounted, all: &MountTable) -> Result<(), Failure> {
    let shared_by_design = matches!(row.kind.as_str(), "cgroup" | "cgroup2");
    if row.root != "/" && !shared_by_design {
        return Err(Failure::mismatch(
            ID,
            format!(
                "the {} at {:?} is a part of another one: {:?}",
                row.kind, row.point, row.root
            ),
        ));
    }
    if matches!(row.kind.as_str(), "tmpfs" | "devpts") && all.of_the_host.contains(&row.device) {
        return Err(Failure::mismatch(
            ID,
            format!("the {} at {:?} is the host's", row.kind, row.point),
        ));
    }
    Ok(())
}

fn propagation(expected: &ExpectedMount, row: &Mounted) -> Result<(), Failure> {
    for (found, allowed, text) in [
        (
            row.shared,
            expected.may_be_shared,
            "mounts made in it would be seen on the host",
        ),
        (
            row.slave,
            expected.may_be_slave,
            "mounts made on the host would be seen in it",
        ),
    ] {
        if found && !allowed {
            return Err(Failure::mismatch(
                ID,
                format!("the mount at {:?} propagates: {text}", row.point),
            ));
        }
    }
    Ok(())
}

/// The terminal's device, on the container's own devpts (CVE-2025-52565 had it elsewhere).
fn console(table: &Table) -> Result<(), Failure> {
    let last = |point: &str| table.rows().iter().rev().find(|row| row.point == point);
    let Some(console) = last("/dev/console") else {
        return Err(Failure::mismatch(
            ID,
            "no terminal is mounted at \"/dev/console\"",
        ));
    };
    let own = last("/dev/pts").map(|row| row.device);
    if console.kind != "devpts" || own.is_some_and(|own| own != console.device) {
        return Err(Failure::mismatch(
            ID,
            "what is mounted at \"/dev/console\" is no terminal of the container's own devpts",
        ));
    }
    Ok(())
}

/// True if a mount came with another: below a tree that was bound with what is mounted in it, or as a hierarchy of
/// cgroups.
fn is_explained(
    row: &Mounted,
    expected_root: &ExpectedMount,
    root: &Mounted,
    places: &[(&ExpectedMount, &Mounted)],
) -> bool {
    let owners = places.iter().map(|(mount, row)| (*mount, *row));
    owners
        .chain(std::iter::once((expected_root, root)))
        .filter(|(_, top)| is_below(&row.point, &top.point))
        .any(|(mount, _)| match &mount.kind {
            MountKind::Bind { below, .. } => {
                let came_with = below
                    .iter()
                    .any(|(device, root)| (*device, root.as_str()) == (row.device, row.root.as_str()));
                // What propagates from the host may come at any time, and was judged to.
                (came_with || mount.may_be_slave || mount.may_be_shared)
                    && (!row.shared || mount.may_be_shared)
                    && (!row.slave || mount.may_be_slave)
            }
            MountKind::CgroupHierarchies => row.kind == "cgroup" && !row.shared,
            MountKind::FileSystem(_) => false,
        })
}

/// True if a hook may mount something here, whatever it is. Nothing that was judged is covered by it: what is
/// on top at such a place was compared before.
fn is_of_a_hook(row: &Mounted, all: &MountTable) -> bool {
    (!row.shared || all.root.may_be_shared)
        && (!row.slave || all.root.may_be_slave)
        && all.of_hooks.iter().any(|place| is_place(place, &row.point))
}

/// True if a path is this one, in which a `*` stands for one component, and a `**` at the end for all that follow.
fn is_place(pattern: &str, path: &str) -> bool {
    let (mut wanted, mut found) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return true,
            (Some("**"), Some(_)) if wanted.clone().next().is_none() => return true,
            (Some("*"), Some(_)) => {}
            (Some(wanted), Some(found)) if wanted == found => {}
            _ => return false,
        }
    }
}

/// What was to be restricted with everything below it.
fn restricted_below(places: &[(&ExpectedMount, &Mounted)], table: &Table) -> Result<(), Failure> {
    for (mount, top) in places {
        let wanted = match mount.kind {
            MountKind::CgroupHierarchies => mount.attributes | mount.recursive_attributes,
            _ => mount.recursive_attributes,
        };
        if wanted == 0 {
            continue;
        }
        let entries = |row: &Mounted| places.iter().any(|(_, own)| own.id == row.id);
        for row in table.rows() {
            let missing = words(wanted & !row.attributes);
            // Of the host's /sys, say, the hierarchies came along that the container's are mounted over.
            if table.is_on(row, top.id) && !entries(row) && !missing.is_empty() {
                return Err(Failure::mismatch(
                    ID,
                    format!("the mount at {:?} is not {missing}", row.point),
                ));
            }
        }
    }
    Ok(())
}

fn identity(place: &Place) -> FileIdentity {
    FileIdentity {
        device: place.on,
        inode: place.inode,
    }
}

fn shown(file: FileIdentity) -> String {
    format!(
        "inode {} of device {}:{}",
        file.inode, file.device.0, file.device.1
    )
}

fn path(text: &CStr) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(text.to_bytes()))
}

/// True if a path lies strictly below a directory.
fn is_below(path: &str, directory: &str) -> bool {
    path != directory && Path::new(path).starts_with(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_one_component_and_two_at_the_end_are_all_that_follow() {
        for (pattern, path, is) in [
            ("/dev/nvidia0", "/dev/nvidia0", true),
            ("/dev/nvidia0", "/dev/nvidia01", false),
            ("/opt/*", "/opt/a", true),
            ("/opt/*", "/opt", false),
            ("/opt/*", "/opt/a/b", false),
            ("/opt/*/c", "/opt/a/c", true),
            ("/opt/*/c", "/opt/a/b/c", false),
            ("/opt/**", "/opt/a/b/c", true),
            ("/opt/**", "/opt", false),
            ("/opt/**/c", "/opt/a/c", false),
            ("/**", "/a", true),
        ] {
            assert_eq!(is_place(pattern, path), is, "{pattern} {path}");
        }
    }
}
