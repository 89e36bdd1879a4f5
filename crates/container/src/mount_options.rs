//! Options of mounts: which of them libcontainer is given, and in what form.
//!
//! The words are those of the runtime-spec (config.md, "Linux mount options"). libcontainer 0.7.0 drops some of
//! them, hands others to a file system that refuses them, and drops every word of a bind mount that it does not
//! know: the container would run without what was asked for, and nobody would hear of it.

use gabion_baseline::config::Mount;

/// Options that make or change a mount, besides those that are about what it is ([`Mount::ATTRIBUTES`]).
const MOUNT: [&str; 14] = [
    "defaults",
    "bind",
    "rbind",
    "private",
    "rprivate",
    "slave",
    "rslave",
    "shared",
    "rshared",
    "unbindable",
    "runbindable",
    "remount",
    "idmap",
    "ridmap",
];

/// Options that are about a whole file system. A bind mount shares it with the host, and mount(2) ignores them
/// there.
const FILE_SYSTEM: &[&str] = &[
    "sync",
    "async",
    "dirsync",
    "lazytime",
    "nolazytime",
    "mand",
    "nomand",
    "silent",
    "loud",
    "iversion",
    "noiversion",
];

/// What an entry with `remount` may say: it can take something away from a mount, and give nothing back.
const REMOUNT: &[&str] = &[
    "remount",
    "bind",
    "defaults",
    "ro",
    "nosuid",
    "nodev",
    "noexec",
    "noatime",
    "relatime",
    "strictatime",
    "nodiratime",
    "nosymfollow",
    "silent",
    "loud",
];

/// The options as libcontainer takes them.
///
/// # Errors
/// What is wrong with one of them.
pub(crate) fn for_libcontainer(mount: &Mount) -> Result<Vec<String>, String> {
    let bind = mount.is_bind();
    let mut options = Vec::new();
    for option in mount.options.items() {
        match option.as_str() {
            // Done when everything is mounted (see `crate::finish`).
            "symfollow" | "nosymfollow" => {}
            // Also then, and read-only after it.
            "tmpcopyup" if copies_up(mount) => {}
            "ro" if copies_up(mount) => {}
            // About messages in the kernel's log, and about a counter of changes that file systems that have one
            // keep without being asked.
            "silent" | "loud" | "iversion" | "noiversion" => {}
            known if bind && FILE_SYSTEM.contains(&known) => {}
            // As a key without a value they get past libcontainer, which would drop them, to fsconfig(2), which
            // looks at the key alone.
            "sync" | "async" | "dirsync" => options.push(format!("{option}=")),
            unknown if bind && !is_of_mounts(unknown) => {
                return Err(format!(
                    "{unknown:?} is no option of a bind mount, and there is no new file system that could take it. \
                     Remove it"
                ));
            }
            other => options.push(other.to_owned()),
        }
    }
    Ok(options)
}

fn is_of_mounts(option: &str) -> bool {
    let is_attribute = |option: &str| Mount::ATTRIBUTES.contains(&option);
    MOUNT.contains(&option) || is_attribute(option) || option.strip_prefix('r').is_some_and(is_attribute)
}

/// True for a tmpfs that is to begin with what the image has at its place (see `crate::copy_up`).
pub(crate) fn copies_up(mount: &Mount) -> bool {
    mount.kind.value().is_some_and(|kind| kind == "tmpfs")
        && !mount.is_bind()
        && mount.options.items().iter().any(|option| option == "tmpcopyup")
}

/// True if the entry changes a mount that is there already.
pub(crate) fn is_remount(mount: &Mount) -> bool {
    mount.options.items().iter().any(|option| option == "remount")
}

/// Says what an entry with `remount` asks for that is not done.
pub(crate) fn check_remount(mount: &Mount) -> Result<(), String> {
    match mount
        .options
        .items()
        .iter()
        .find(|option| !REMOUNT.contains(&option.as_str()))
    {
        None => Ok(()),
        Some(option) => Err(format!(
            "{option:?} together with \"remount\" is not supported: a remount can only restrict. Write the options \
             at the mount itself"
        )),
    }
}

#[cfg(test)]
mod tests {
    use gabion_baseline::Allegation;
    use gabion_baseline::config::Mount;

    use super::*;

    fn mount(text: &str) -> Mount {
        let text = format!(r#"{{"ociVersion":"1.0.2","mounts":[{text}]}}"#);
        Allegation::parse(text.as_bytes())
            .unwrap()
            .config()
            .mounts
            .items()[0]
            .clone()
    }

    fn with(kind: &str, options: &[&str]) -> Mount {
        let options = serde_json::to_string(options).unwrap();
        mount(&format!(
            r#"{{"destination":"/m","type":"{kind}","source":"s","options":{options}}}"#
        ))
    }

    #[test]
    fn what_the_engine_would_drop_goes_another_way() {
        let table: &[(&str, &[&str], &[&str])] = &[
            ("tmpfs", &["ro", "size=1m"], &["ro", "size=1m"]),
            (
                "tmpfs",
                &["sync", "dirsync", "async"],
                &["sync=", "dirsync=", "async="],
            ),
            ("tmpfs", &["silent", "loud", "iversion", "noiversion"], &[]),
            ("tmpfs", &["nosymfollow", "lazytime"], &["lazytime"]),
            ("bind", &["rbind", "rprivate", "ro"], &["rbind", "rprivate", "ro"]),
            ("bind", &["bind", "sync", "lazytime", "mand"], &["bind"]),
            ("none", &["bind", "rro"], &["bind", "rro"]),
            ("tmpfs", &["tmpcopyup", "ro", "size=1m"], &["size=1m"]),
            ("tmpfs", &[], &[]),
        ];
        for (kind, options, wanted) in table {
            assert_eq!(
                for_libcontainer(&with(kind, options)).unwrap(),
                *wanted,
                "{options:?}"
            );
        }
        assert_eq!(
            for_libcontainer(&mount(r#"{"destination":"/m"}"#)).unwrap(),
            [""; 0]
        );
    }

    #[test]
    fn an_unknown_option_of_a_bind_mount_is_named() {
        for kind in ["bind", "none"] {
            let error = for_libcontainer(&with(kind, &["rbind", "size=1m"])).unwrap_err();
            assert!(
                error.starts_with("\"size=1m\" is no option of a bind mount"),
                "{error}"
            );
        }
        let error = for_libcontainer(&with("bind", &["RO"])).unwrap_err();
        assert!(
            error.starts_with("\"RO\" is no option of a bind mount"),
            "{error}"
        );
    }

    #[test]
    fn a_remount_cannot_give_anything_back() {
        assert_eq!(
            check_remount(&with("tmpfs", &["remount", "noexec", "ro"])),
            Ok(())
        );
        for option in ["rw", "exec", "suid", "dev", "size=1m"] {
            let error = check_remount(&with("tmpfs", &["remount", option])).unwrap_err();
            assert!(error.starts_with(&format!("{option:?} together with")), "{error}");
        }
    }
}
