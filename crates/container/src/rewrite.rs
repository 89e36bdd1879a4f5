//! Bind mounts whose options say something of the mount itself ([`Mount::rewrites_attributes`]): such a mount has what they
//! name, and not what its source's mount has besides. libcontainer only adds to that. The default profiles let nothing
//! be lifted so (MNT-16), and then there is nothing to do here.
//!
//! In a user namespace the kernel locks what came from outside of it (mount_namespaces(7)). There, as everywhere else where
//! it is locked, what is merely not named stays, and a word that would lift it is an error.

use gabion_baseline::config::{Config, Mount};
use gabion_sys::mount::{attribute, file_system};

use crate::error::{ContainerError, Result};
use crate::finish::attributes_of;
use crate::mount_options::is_remount;

/// What a user namespace has locked.
const LOCKED: u64 = attribute::RDONLY | attribute::NOSUID | attribute::NODEV | attribute::NOEXEC;

/// What there is to change about a mount, over what it has from its source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rewrite {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    /// A word asks for it: that it cannot be had is an error.
    pub(crate) is_asked_for: bool,
}

/// For each of `mounts`, what there is to change.
///
/// # Errors
/// [`ContainerError::Unsupported`] if a word lifts what the container's user namespace has locked.
pub(crate) fn of(config: &Config, held: &gabion_host::Held) -> Result<Vec<Rewrite>> {
    let has_user_namespace = config
        .linux
        .value()
        .is_some_and(|linux| linux.namespaces.items().iter().any(|entry| entry.kind == "user"));
    let mounts = config.mounts.items().iter().enumerate();
    mounts
        .map(|(index, mount)| {
            if !mount.is_bind() || is_remount(mount) || !mount.rewrites_attributes() {
                return Ok(Rewrite::default());
            }
            let source = match held.sources.get(index).and_then(Option::as_ref) {
                Some(source) => file_system(source)?.attributes,
                // It may have anything.
                None => u64::MAX,
            };
            rewrite(mount, source, has_user_namespace).map_err(|words| ContainerError::Unsupported {
                pointer: format!("/mounts/{index}/options"),
                text: format!(
                    "{words} cannot be had: the source's mount on the host does not have it, and a container with a user \
                     namespace cannot lift that (operation not permitted). Remove the word, or remount the source on \
                     the host"
                ),
            })
        })
        .collect()
}

/// The same for one mount, whose source's mount has the attributes `source`; or the words that cannot be carried out.
fn rewrite(mount: &Mount, source: u64, has_user_namespace: bool) -> std::result::Result<Rewrite, String> {
    const OPPOSITES: [(u64, &str, &str); 5] = [
        (attribute::RDONLY, "ro", "rw"),
        (attribute::NOSUID, "nosuid", "suid"),
        (attribute::NODEV, "nodev", "dev"),
        (attribute::NOEXEC, "noexec", "exec"),
        (attribute::NOSYMFOLLOW, "nosymfollow", "symfollow"),
    ];
    let (set, _) = attributes_of(mount);
    let all = OPPOSITES.iter().fold(0, |all, (attribute, ..)| all | attribute);
    let lifted = all & source & !set;
    let asked: Vec<(u64, &str)> = OPPOSITES
        .iter()
        .filter(|(attribute, word, opposite)| {
            lifted & attribute != 0 && mount.last_of(&[word], &[opposite]) == Some(false)
        })
        .map(|(attribute, _, opposite)| (*attribute, *opposite))
        .collect();
    let (times, cleared_times) = access_times(mount, source);
    if has_user_namespace {
        const TIMES: u64 = attribute::NOATIME | attribute::NODIRATIME;
        let refused = asked.iter().filter(|(attribute, _)| LOCKED & attribute != 0);
        let mut refused: Vec<&str> = refused.map(|(_, word)| *word).collect();
        if cleared_times != 0 && times != source & TIMES {
            refused.push("what it says of times of access");
        }
        // What is not known may be all of them, or none.
        if !refused.is_empty() && source != u64::MAX {
            return Err(refused.join(", "));
        }
        return Ok(Rewrite {
            clear: lifted & !LOCKED,
            ..Rewrite::default()
        });
    }
    Ok(Rewrite {
        set: times,
        clear: lifted | cleared_times,
        is_asked_for: !asked.is_empty() && source != u64::MAX,
    })
}

/// What is to be set and cleared about times of access: they stay as they are unless a word sets one of them, which then
/// is the only one (mount(2)).
fn access_times(mount: &Mount, source: u64) -> (u64, u64) {
    let has = |word: &str, opposite: &str| mount.last_of(&[word], &[opposite]) == Some(true);
    let (none, strict) = (has("noatime", "atime"), has("strictatime", "nostrictatime"));
    let no_directories = has("nodiratime", "diratime");
    let is_named = none || strict || no_directories || has("relatime", "norelatime");
    if !is_named || source & (attribute::NOATIME | attribute::NODIRATIME) == 0 {
        return (0, 0);
    }
    let mut set = match (strict, none) {
        (true, _) => attribute::STRICTATIME,
        (false, true) => attribute::NOATIME,
        (false, false) => 0,
    };
    if no_directories {
        set |= attribute::NODIRATIME;
    }
    (set, attribute::ACCESS_TIME | attribute::NODIRATIME)
}

#[cfg(test)]
mod tests {
    use gabion_baseline::Allegation;

    use super::*;

    const RO_NOEXEC: u64 = attribute::RDONLY | attribute::NOEXEC;

    fn bind(options: &str) -> Mount {
        let options: Vec<&str> = options.split(',').collect();
        let document = serde_json::json!({
            "ociVersion": "1.3.0",
            "mounts": [{"destination": "/v", "source": "/s", "type": "bind", "options": options}],
        });
        let text = document.to_string();
        let allegation = Allegation::parse(text.as_bytes()).unwrap();
        allegation.config().mounts.items()[0].clone()
    }

    #[test]
    fn what_is_not_named_is_lifted_and_what_is_named_is_not() {
        for (options, source, lifted, asked) in [
            ("bind,dev", RO_NOEXEC, RO_NOEXEC, false),
            ("bind,ro", RO_NOEXEC, attribute::NOEXEC, false),
            ("bind,rw", RO_NOEXEC, RO_NOEXEC, true),
            ("bind,ro,noexec", RO_NOEXEC, 0, false),
            ("bind,rw", attribute::NOSUID, attribute::NOSUID, false),
            ("bind,noexec,exec,nosuid", RO_NOEXEC, RO_NOEXEC, true),
            ("bind,ro", 0, 0, false),
        ] {
            let expected = Rewrite {
                set: 0,
                clear: lifted,
                is_asked_for: asked,
            };
            assert_eq!(rewrite(&bind(options), source, false), Ok(expected), "{options}");
        }
    }

    #[test]
    fn in_a_user_namespace_what_is_locked_stays_or_is_an_error() {
        for (options, source, expected) in [
            ("bind,dev", RO_NOEXEC, Ok(0)),
            ("bind,rw", RO_NOEXEC, Err("rw")),
            ("bind,exec,rw", RO_NOEXEC, Err("rw, exec")),
            ("bind,rw", attribute::NOSUID, Ok(0)),
            (
                "bind,ro",
                RO_NOEXEC | attribute::NOSYMFOLLOW,
                Ok(attribute::NOSYMFOLLOW),
            ),
            ("bind,rw", u64::MAX, Ok(attribute::NOSYMFOLLOW)),
            ("bind,noatime,nosuid", attribute::NOATIME, Ok(0)),
            (
                "bind,strictatime",
                attribute::NODIRATIME,
                Err("what it says of times of access"),
            ),
        ] {
            let found = rewrite(&bind(options), source, true).map(|rewrite| rewrite.clear);
            assert_eq!(found, expected.map_err(str::to_owned), "{options}");
        }
    }

    #[test]
    fn a_word_about_times_of_access_replaces_all_of_them() {
        let all = attribute::ACCESS_TIME | attribute::NODIRATIME;
        for (options, source, set, clear) in [
            ("bind,rw", attribute::NOATIME, 0, 0),
            ("bind,atime", attribute::NOATIME, 0, 0),
            ("bind,norelatime", attribute::NOATIME, 0, 0),
            ("bind,relatime", attribute::NOATIME, 0, all),
            ("bind,nodiratime", attribute::NOATIME, attribute::NODIRATIME, all),
            (
                "bind,strictatime",
                attribute::NODIRATIME,
                attribute::STRICTATIME,
                all,
            ),
            ("bind,noatime", attribute::NODIRATIME, attribute::NOATIME, all),
            ("bind,noatime", 0, 0, 0),
        ] {
            let found = rewrite(&bind(options), source, false).unwrap();
            assert_eq!((found.set, found.clear), (set, clear), "{options}");
        }
    }
}
