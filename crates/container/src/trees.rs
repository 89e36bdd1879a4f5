//! Bind mounts that gabion makes itself: copied in `create`, which sees the host as root does, from the source that was
//! judged, and attached when everything else is mounted (see [`crate::finish`]).
//!
//! | which | because libcontainer |
//! |---|---|
//! | those with mapped owners | does not map |
//! | one at /dev | would make links and devices in the source |
//! | those that may come last ([`crate::sources`]) | would open the source once more |
//! | in a user namespace, those whose source its root cannot reach | looks for sources when it is in there already |

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use gabion_baseline::config::{Config, IdMapping, Mount};
use gabion_sys::mount::{self, Propagation};
use nix::errno::Errno;

use crate::error::{ContainerError, Result};
use crate::finish;
use crate::idmap;
use crate::promise::{look, path_of};
use crate::sources;

/// A copy of a bind mount's source, mounted nowhere yet.
#[derive(Debug)]
pub(crate) struct Tree {
    /// Which of `mounts` it is for.
    pub(crate) index: usize,
    pub(crate) tree: OwnedFd,
}

/// True if a mount is a bind mount at /dev.
pub(crate) fn is_dev(mount: &Mount) -> bool {
    mount.is_bind() && is_at_dev(mount)
}

/// True for a mount at /dev, of whatever kind.
pub(crate) fn is_at_dev(mount: &Mount) -> bool {
    Path::new("/").join(&mount.destination) == Path::new("/dev")
}

/// Makes the trees of all mounts that libcontainer is not to make.
///
/// # Errors
/// [`ContainerError::Unsupported`] with the mount's place: half a mapping, none at all, a file system that cannot be
/// mapped, or mapped owners of a mount that is no bind mount.
pub(crate) fn make(config: &Config, bundle: &Path, held: &gabion_host::Held) -> Result<Vec<Tree>> {
    let mut trees = Vec::new();
    let (chosen, propagation) = sources::chosen(config, held);
    let linux = config.linux.value();
    // Without root there is no copying what is out of reach.
    let may_be_out_of_reach = nix::unistd::geteuid().is_root()
        && linux.is_some_and(|linux| linux.namespaces.items().iter().any(|entry| entry.kind == "user"));
    for (index, entry) in config.mounts.items().iter().enumerate() {
        let is_mapped = idmap::is_mapped(entry);
        let is_chosen = chosen.contains(&index);
        let is_ours = is_mapped || is_dev(entry) || is_chosen;
        let is_in_question = entry.is_bind() && may_be_out_of_reach;
        if !is_ours && !is_in_question {
            continue;
        }
        let pointer = format!("/mounts/{index}");
        let unsupported = |text: String| ContainerError::Unsupported {
            pointer: pointer.clone(),
            text,
        };
        let Some(source) = entry.source.value().filter(|_| entry.is_bind()) else {
            return Err(unsupported(
                "id mappings are supported for bind mounts only. Remove them".to_owned(),
            ));
        };
        let mapping = is_mapped
            .then(|| idmap::mapping(config, held, index, entry))
            .transpose()?;
        let place = match held.sources.get(index).and_then(Option::as_ref) {
            Some(judged) => judged
                .try_clone()
                .map_err(ContainerError::file("cannot keep", source))?,
            None => look(&bundle.join(source))?,
        };
        if is_ours || !is_reachable(config, &path_of(&place)?) {
            let propagation = if is_chosen {
                propagation
            } else {
                Propagation::Private
            };
            let tree = tree(&place, entry, propagation, mapping).map_err(|error| match error {
                ContainerError::Call(error) if error.errno == Errno::EINVAL && is_mapped => {
                    unsupported(format!(
                        "the file system of source {source:?} cannot map owners, or does so already: {error}"
                    ))
                }
                other => other,
            })?;
            trees.push(Tree { index, tree });
        }
    }
    Ok(trees)
}

fn tree(
    place: &OwnedFd,
    entry: &Mount,
    propagation: Propagation,
    mapping: Option<OwnedFd>,
) -> Result<OwnedFd> {
    let has = |name: &str| entry.options.items().iter().any(|option| option == name);
    let recursive = has("rbind");
    let tree = mount::copy_tree(place, recursive)?;
    // A copy is a peer of what it was copied from: nothing mounted in the container is to show on the host.
    mount::set_attributes(&tree, 0, Some(propagation), true)?;
    if let Some(namespace) = mapping {
        mount::map_owners(&tree, &namespace, recursive && has("ridmap"))?;
    }
    let (attributes, recursive_attributes) = finish::attributes_of(entry);
    if attributes != 0 {
        mount::set_attributes(&tree, attributes, None, false)?;
    }
    if recursive_attributes != 0 {
        mount::set_attributes(&tree, recursive_attributes, None, true)?;
    }
    Ok(tree)
}

/// False if root of the container's user namespace would be kept from a path of the host by a directory on the way. In
/// doubt it would.
fn is_reachable(config: &Config, path: &Path) -> bool {
    let Some(linux) = config.linux.value() else {
        return true;
    };
    let user = linux.namespaces.items().iter().find(|entry| entry.kind == "user");
    let Some(user) = user else {
        return true;
    };
    // Of a namespace that is joined, the mapping is somebody else's.
    let (uids, gids) = match user.joins() {
        Some(_) => (&[][..], &[][..]),
        None => (linux.uid_mappings.items(), linux.gid_mappings.items()),
    };
    let is_open = |directory: &Path| {
        let Ok(metadata) = fs::metadata(directory) else {
            return false;
        };
        let (uid, gid) = (metadata.uid(), metadata.gid());
        if maps(uids, uid) && maps(gids, gid) {
            // Root's privileges are good for what belongs to its namespace (capable_wrt_inode_uidgid).
            return true;
        }
        let bit = if root_of(uids) == Some(uid) {
            0o100
        } else if root_of(gids) == Some(gid) {
            0o010
        } else {
            0o001
        };
        metadata.mode() & bit != 0
    };
    path.ancestors().skip(1).all(is_open)
}

/// What the id 0 of a namespace is outside.
pub(crate) fn root_of(ranges: &[IdMapping]) -> Option<u32> {
    let first = ranges
        .iter()
        .find(|range| range.container_id == 0 && range.size > 0);
    first.map(|range| range.host_id)
}

fn maps(ranges: &[IdMapping], id: u32) -> bool {
    let mut ranges = ranges.iter();
    ranges.any(|range| {
        id.checked_sub(range.host_id)
            .is_some_and(|distance| distance < range.size)
    })
}

#[cfg(test)]
mod tests {
    use gabion_baseline::Allegation;

    use super::*;

    fn config(text: &str) -> Config {
        let text = format!(r#"{{"ociVersion":"1.0.2",{text}}}"#);
        Allegation::parse(text.as_bytes()).unwrap().config().clone()
    }

    #[test]
    fn a_directory_on_the_way_decides_who_reaches_a_source() {
        use std::os::unix::fs::PermissionsExt;

        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("closed/volume");
        fs::create_dir_all(&inner).unwrap();
        let close = |mode| {
            let permissions = fs::Permissions::from_mode(mode);
            fs::set_permissions(directory.path().join("closed"), permissions).unwrap();
        };
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let namespace = |mapping: &str| {
            config(&format!(
                r#""linux":{{"namespaces":[{{"type":"user"}}],"uidMappings":[{mapping}],"gidMappings":[{mapping}]}}"#
            ))
        };
        let of_others = namespace(r#"{"containerID":0,"hostID":100000,"size":65536}"#);
        let of_root = namespace(r#"{"containerID":0,"hostID":0,"size":10}"#);
        let joined = config(r#""linux":{"namespaces":[{"type":"user","path":"/proc/1/ns/user"}]}"#);
        let none = config(r#""linux":{"namespaces":[{"type":"mount"}]}"#);
        close(0o711);
        for config in [&of_others, &of_root, &joined, &none] {
            assert!(is_reachable(config, &inner));
        }
        close(0o700);
        assert!(!is_reachable(&of_others, &inner) && !is_reachable(&joined, &inner));
        assert!(is_reachable(&none, &inner));
        // What belongs to the namespace is open to its root, whatever the mode says.
        let own = nix::unistd::geteuid().is_root();
        assert_eq!(is_reachable(&of_root, &inner), own);
    }

    #[test]
    fn half_a_mapping_and_none_at_all_are_refused() {
        let one = r#"[{"containerID":0,"hostID":100000,"size":65536}]"#;
        let held = gabion_host::Held::default();
        for (mount, wanted) in [
            (
                format!(r#""type":"bind","source":"/tmp","options":["bind"],"uidMappings":{one}"#),
                "config.json#/mounts/0: has only one of uidMappings and gidMappings.",
            ),
            (
                r#""type":"bind","source":"/tmp","options":["bind","idmap"]"#.to_owned(),
                "config.json#/mounts/0: asks for \"idmap\" without a mapping",
            ),
            (
                format!(r#""type":"tmpfs","source":"x","uidMappings":{one},"gidMappings":{one}"#),
                "config.json#/mounts/0: id mappings are supported for bind mounts only.",
            ),
        ] {
            let config = config(&format!(r#""mounts":[{{"destination":"/m",{mount}}}]"#));
            let error = make(&config, Path::new("/"), &held).unwrap_err().to_string();
            assert!(error.starts_with(wanted), "{error}");
        }
    }
}
