//! Mounts: what of the host comes into a container, where it is put, and with which options.
//!
//! Three questions, a file each: where a bind mount's source leads on the host ([`sources`]), what stands where
//! programs expect the kernel's own file systems ([`kernel`]), and the rest of what can be written in an entry of
//! `mounts` ([`options`]). The places of the host that they know by name are in [`landmarks`].
//!
//! A source is judged by what it is, which is a fact ([`SourceFact`]): device and inode, not its name, because
//! names are what a link, a bind mount or a second path changes. The name is judged where the fact is not known,
//! and then it can only refuse: that nothing is wrong with a name proves nothing, and MNT-12, which no policy
//! changes, refuses to run a bundle with a source of which nothing is known.
//!
//! A destination is judged by where it leads in the image, links followed, for the image is the attacker's.

use crate::change::Change;
use crate::config::Mount;
use crate::facts::{DestinationFact, Fact, FileKind, SourceFact};
use crate::judge::Operation;
use crate::pointer::Pointer;
use crate::rule::{Case, Rule};

mod kernel;
pub mod landmarks;
mod options;
mod sources;

pub(super) use sources::by_name as sensitive_by_name;

/// The rules of this topic.
pub static RULES: &[&Rule] = &[
    &sources::MNT_01,
    &sources::MNT_02,
    &sources::MNT_03,
    &options::MNT_04,
    &options::MNT_05,
    &kernel::MNT_06,
    &kernel::MNT_07,
    &kernel::MNT_08,
    &kernel::MNT_09,
    &options::MNT_10,
    &options::MNT_11,
    &sources::MNT_12,
    &options::MNT_13,
    &options::MNT_14,
    &options::MNT_15,
    &options::MNT_16,
];

/// A mount of the list with one more option, which comes last and so counts.
fn with_option(mount: usize, option: &str) -> Change {
    Change::AddMountOption {
        mount,
        option: option.to_owned(),
    }
}

/// A bind mount, with what is known of its source.
pub(super) struct Bind<'a> {
    case: Case<'a>,
    /// Its index in `mounts`.
    pub(super) index: usize,
    pub(super) mount: &'a Mount,
    /// The source as it is written; empty if there is none.
    pub(super) written: &'a str,
    /// What the source is, or why that is not known.
    pub(super) fact: Result<&'a SourceFact, &'a str>,
}

/// The bind mounts of the configuration.
pub(super) fn binds<'a>(case: &Case<'a>) -> impl Iterator<Item = Bind<'a>> {
    let case = *case;
    let mounts = case.config.mounts.items().iter().enumerate();
    mounts.filter_map(move |(index, mount)| Bind::of(&case, index, mount))
}

impl<'a> Bind<'a> {
    /// The mount as a bind mount, if it is one.
    pub(super) fn of(case: &Case<'a>, index: usize, mount: &'a Mount) -> Option<Self> {
        let fact = match case.facts.mount_sources.get(index) {
            _ if !mount.is_bind() => return None,
            Some(Fact::Known(Some(fact))) => Ok(fact),
            Some(Fact::Unknown(why)) => Err(why.as_str()),
            // Facts that contradict the configuration are facts about something else.
            Some(Fact::Known(None)) | None => Err("the source was not looked at"),
        };
        let written = mount.source.value().map_or("", String::as_str);
        Some(Bind {
            case: *case,
            index,
            mount,
            written,
            fact,
        })
    }

    /// The source without `.`, `..` and doubled slashes, if it is absolute.
    pub(super) fn plain(&self) -> Option<String> {
        on_host(self.written)
    }

    /// Where it is put, as a path in the container.
    pub(super) fn place(&self) -> String {
        place(&self.case, self.index)
    }

    /// Where the source is written.
    pub(super) fn pointer(&self) -> Pointer {
        entry(self.index).key("source")
    }

    /// The source's path: where it leads if that is known, else as it is written, without detours.
    pub(super) fn path(&self) -> String {
        match self.fact {
            Ok(fact) => fact.canonical.to_string_lossy().into_owned(),
            Err(_) => self.plain().unwrap_or_else(|| self.written.to_owned()),
        }
    }

    /// The source as people should read it, quoted: as it is written, and where it leads if that differs.
    pub(super) fn shown(&self) -> String {
        match self.fact {
            Ok(fact) if fact.canonical.to_str() != Some(self.written) => {
                format!("{:?} (which leads to {:?})", self.written, fact.canonical)
            }
            _ => format!("{:?}", self.written),
        }
    }

    /// True if the source lies where an engine keeps what it mounts into containers.
    pub(super) fn is_engine_managed(&self) -> bool {
        match self.fact {
            Ok(fact) => fact.engine_managed,
            Err(_) => self
                .plain()
                .as_deref()
                .is_some_and(|path| in_engine_root(&self.case, path)),
        }
    }

    /// The numbers of the device that the source is, with `true` for a block device.
    pub(super) fn device(&self) -> Option<(bool, u32, u32)> {
        match self.fact.ok()?.kind {
            FileKind::CharDevice { major, minor } => Some((false, major, minor)),
            FileKind::BlockDevice { major, minor } => Some((true, major, minor)),
            _ => None,
        }
    }

    /// True if the source is the host's shared memory or a part of it, which is NS-03's.
    pub(super) fn is_host_shm(&self) -> bool {
        match self.fact {
            Ok(fact) => fact.is_host_shm,
            Err(_) => self
                .plain()
                .as_deref()
                .is_some_and(|path| lies_at_or_in(path, "/dev/shm")),
        }
    }
}

/// True if a path lies inside one of the directories that the policy names as an engine's. The directory itself
/// does not: it holds what belongs to everybody.
pub(super) fn in_engine_root(case: &Case<'_>, path: &str) -> bool {
    case.policy.engine_roots.iter().any(|root| {
        let mut found = path.split('/').skip(1);
        let root = on_host(root).unwrap_or_default();
        !root.is_empty()
            && root
                .split('/')
                .skip(1)
                .all(|wanted| found.next().is_some_and(|f| wanted == "*" || wanted == f))
            && found.next().is_some()
    })
}

/// The pointer to an element of `mounts`.
pub(super) fn entry(index: usize) -> Pointer {
    Pointer::at("/mounts").index(index)
}

/// Where a mount is put, as an absolute path in the container: links in the image, and in the mounts before it,
/// followed where that is known.
pub(super) fn place(case: &Case<'_>, index: usize) -> String {
    if let Some(Fact::Known(DestinationFact::Inside(path) | DestinationFact::LinkOut { inside: path, .. })) =
        case.facts.mount_destinations.get(index)
    {
        return without_detours(&path.to_string_lossy());
    }
    let mount = case.config.mounts.items().get(index);
    without_detours(mount.map_or("", |mount| mount.destination.as_str()))
}

/// A path of the host as it would be without links, `None` if it is not absolute: no `.`, no `..`, no doubled
/// slash; and `/var/run` is `/run`, as on every host with systemd and most others.
///
/// The kernel reads `a/../b` differently where `a` is a link. Where that matters the fact says so.
pub(super) fn on_host(path: &str) -> Option<String> {
    if !path.starts_with('/') {
        return None;
    }
    let plain = without_detours(path);
    Some(match plain.strip_prefix("/var/run") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("/run{rest}"),
        _ => plain,
    })
}

fn without_detours(path: &str) -> String {
    // Almost every path has none.
    if path.len() > 1
        && path.starts_with('/')
        && path
            .split('/')
            .skip(1)
            .all(|name| !["", ".", ".."].contains(&name))
    {
        return path.to_owned();
    }
    let mut plain: Vec<&str> = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." => {
                plain.pop();
            }
            name => plain.push(name),
        }
    }
    format!("/{}", plain.join("/"))
}

/// True if a path is a directory or lies in it. Both without detours.
pub(super) fn lies_at_or_in(path: &str, directory: &str) -> bool {
    path == directory || lies_in(path, directory)
}

/// True if a path lies in a directory. Both without detours.
pub(super) fn lies_in(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory.trim_end_matches('/'))
        .is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
}

/// True if the mount could be written to.
pub(super) fn is_writable(mount: &Mount) -> bool {
    !mount.is_readonly()
}

/// True if neither the mount nor one below it, which `rbind` brings along, could be written to.
pub(super) fn is_readonly_throughout(mount: &Mount) -> bool {
    !is_writable(mount) && (!has(mount, "rbind") || has(mount, "rro"))
}

/// True if one of the mount's options is this one.
pub(super) fn has(mount: &Mount, option: &str) -> bool {
    mount.options.items().iter().any(|o| o == option)
}

/// The mount's type; empty if there is none.
pub(super) fn kind(mount: &Mount) -> &str {
    mount.kind.value().map_or("", String::as_str)
}

/// True if the file comes from another host, so that nothing can be known of this one.
pub(super) fn is_offline(case: &Case<'_>) -> bool {
    matches!(case.operation, Operation::Check { offline: true })
}

/// What the tests of these files are written with.
#[cfg(test)]
pub(super) mod ground {
    use std::path::PathBuf;

    use serde_json::{Value, json};

    use crate::facts::{Fact, FileKind, Identity, Relation, Sensitive, SourceFact};
    use crate::profile::Profile;
    use crate::rules::table::{Table, with};

    /// A directory that is nothing in particular.
    pub(crate) fn directory(path: &str) -> SourceFact {
        SourceFact {
            canonical: PathBuf::from(path),
            identity: Identity { device: 1, inode: 2 },
            kind: FileKind::Directory,
            on_procfs: false,
            on_sysfs: false,
            on_cgroupfs: false,
            is_host_shm: false,
            through_magic_link: None,
            through_foreign_link: None,
            sensitive: None,
            restrictions: Vec::new(),
            control_socket: None,
            engine_managed: false,
        }
    }

    /// A directory that lies so to a sensitive one.
    pub(crate) fn sensitive(path: &str, relation: Relation, to: &str) -> SourceFact {
        SourceFact {
            sensitive: Some(Sensitive {
                directory: to.to_owned(),
                relation,
            }),
            ..directory(path)
        }
    }

    /// A bind mount.
    pub(crate) fn bind(source: &str, destination: &str, options: &[&str]) -> Value {
        json!({"destination": destination, "type": "bind", "source": source, "options": options})
    }

    /// A document with these mounts.
    pub(crate) fn mounts(list: Value) -> Value {
        with("/mounts", list)
    }

    /// What a rule says of one bind mount in privileged, baseline and restricted; the pointer must be that of its
    /// source. `fact` is what is known of the source.
    pub(crate) fn of_source(
        rule: &str,
        source: &str,
        options: &[&str],
        fact: Option<SourceFact>,
    ) -> [String; 3] {
        let document = mounts(json!([bind(source, "/mnt", options)]));
        Profile::ALL.map(|profile| {
            let table = Table::of(profile).knowing(|facts| {
                facts.mount_sources = vec![match &fact {
                    Some(fact) => Fact::Known(Some(fact.clone())),
                    None => Fact::Unknown("it belongs to another host".to_owned()),
                }];
            });
            let found = table.verdicts(rule, &document);
            assert!(
                found.iter().all(|line| line.ends_with(" /mounts/0/source")),
                "{found:?}"
            );
            found.join(", ").replace(" /mounts/0/source", "")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detours_of_a_path_lead_to_the_same_place() {
        for (written, plain) in [
            ("/", Some("/")),
            ("//", Some("/")),
            ("/etc/", Some("/etc")),
            ("/x/../etc/./ssl//", Some("/etc/ssl")),
            ("/../..", Some("/")),
            ("/var/run", Some("/run")),
            ("/var//run/docker.sock", Some("/run/docker.sock")),
            ("/var/runner", Some("/var/runner")),
            ("etc", None),
            ("", None),
        ] {
            assert_eq!(on_host(written).as_deref(), plain, "{written:?}");
        }
    }

    #[test]
    fn lying_in_a_directory_goes_by_components() {
        for (path, directory, inside) in [
            ("/etc/x", "/etc", true),
            ("/etc", "/etc", false),
            ("/etcetera", "/etc", false),
            ("/etc", "/", true),
            ("/", "/", false),
        ] {
            assert_eq!(lies_in(path, directory), inside, "{path} in {directory}");
        }
    }

    #[test]
    fn read_only_is_what_the_engine_makes_of_the_options() {
        for (options, writable, throughout) in [
            (&["ro"][..], false, true),
            (&["rbind", "ro"], false, false),
            (&["rbind", "rro"], false, true),
            (&["ro", "rw"], true, false),
            (&["rrw", "ro"], true, false),
            (&["ro", "rrw"], true, false),
            (&["rro", "rrw"], true, false),
            (&["rrw", "rro"], false, true),
            (&["rbind", "rro", "rw"], false, true),
            (&["rbind", "rrw", "rro"], false, true),
            (&["rw", "ro"], false, true),
            (&[], true, false),
        ] {
            let mount: Mount =
                serde_json::from_value(serde_json::json!({"destination": "/x", "options": options})).unwrap();
            assert_eq!(
                (is_writable(&mount), is_readonly_throughout(&mount)),
                (writable, throughout),
                "{options:?}"
            );
        }
    }
}
