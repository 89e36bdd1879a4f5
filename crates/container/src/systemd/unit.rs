//! Which unit of systemd a container is, by its `linux.cgroupsPath`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::message::Property;
use super::{Whose, annotations};
use crate::error::{ContainerError, Result};

const SCOPE: &str = ".scope";
const SLICE: &str = ".slice";
const ROOT: &str = "/sys/fs/cgroup";

/// Where a container is made that does not say where: beside the services, or below a user's systemd in the one slice
/// that is there for what is no session's.
fn default_slice(whose: Whose) -> &'static str {
    match whose {
        Whose::Host => "system.slice",
        Whose::User => "user.slice",
    }
}

/// A scope, and the slice it lies in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) name: String,
    pub(crate) slice: String,
    /// The kernel ends all of it when it ends one for want of memory (`memory.oom.group`).
    pub(crate) ends_as_one: bool,
    /// What its annotations ask for.
    pub(crate) asked: Vec<Property>,
    /// Whose systemd makes it.
    pub(crate) whose: Whose,
}

impl Unit {
    /// Reads `slice:prefix:name`, the form in which engines ask for a unit; none is `system.slice:gabion:<id>`, or a user's
    /// `user.slice:gabion:<id>`.
    ///
    /// # Errors
    /// [`ContainerError::Unsupported`] if it is of another form, or the names are none that systemd has.
    pub(crate) fn of(cgroups_path: Option<&str>, id: &str, whose: Whose) -> Result<Self> {
        let written = cgroups_path.unwrap_or_default();
        let default_slice = default_slice(whose);
        let own = format!("{default_slice}:gabion:{id}");
        let path = if written.is_empty() { &own } else { written };
        let parts: Vec<&str> = path.split(':').collect();
        let [slice, prefix, name] = parts[..] else {
            return refuse(format!(
                "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {written:?} instead. \
                 Write such as {own:?}, or leave out --systemd-cgroup"
            ));
        };
        let slice = if slice.is_empty() { default_slice } else { slice };
        let unit = Unit {
            name: format!("{prefix}-{name}{SCOPE}"),
            slice: slice.to_owned(),
            ends_as_one: false,
            asked: Vec::new(),
            whose,
        };
        if name.is_empty() || name.ends_with(SLICE) || !is_name(&unit.name) {
            return refuse(format!(
                "{written:?} gives no name of a scope: prefix and name are letters, digits, and : - _ . \\ and the scope's \
                 name has up to 255 of them"
            ));
        }
        if !is_slice(slice) {
            return refuse(format!(
                "{slice:?} is no slice of systemd: it is one such as \"a-b.slice\", which lies in \"a.slice\""
            ));
        }
        Ok(unit)
    }

    /// With the properties that annotations ask for, as far as they may.
    ///
    /// # Errors
    /// [`ContainerError::Unsupported`] for a value that such a property does not have.
    pub(crate) fn asking(mut self, given: &BTreeMap<String, String>) -> Result<Self> {
        self.asked = annotations::properties(given)?;
        Ok(self)
    }

    /// Its cgroup, with version 2, if systemd is the host's.
    pub(crate) fn cgroup(&self) -> PathBuf {
        gabion_host::cgroup::slice(&self.slice).join(&self.name)
    }

    /// Its cgroup below that of a user's systemd, as that one names its own: `/user.slice/…/user@1000.service`.
    pub(crate) fn cgroup_below(&self, managers: &str) -> PathBuf {
        let cgroup = self.cgroup();
        let below = cgroup.strip_prefix(ROOT).unwrap_or(&cgroup);
        Path::new(ROOT).join(managers.trim_start_matches('/')).join(below)
    }
}

fn refuse<T>(text: String) -> Result<T> {
    Err(ContainerError::Unsupported {
        pointer: "/linux/cgroupsPath".to_owned(),
        text,
    })
}

/// systemd.unit(5); "@" is for templates, which a scope cannot be made from.
fn is_name(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\".contains(&byte);
    name.len() <= 255 && name.bytes().all(known)
}

/// systemd.slice(5): the dashes are the way down from the root, whose own name is one.
fn is_slice(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(SLICE) else {
        return false;
    };
    let is_path = stem
        .split('-')
        .all(|part| !part.is_empty() && !part.starts_with('.'));
    is_name(name) && (stem == "-" || is_path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> std::result::Result<String, String> {
        Unit::of(Some(path), "web", Whose::Host)
            .map(|unit| format!("{}", unit.cgroup().display()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn what_engines_write_leads_to_the_cgroup_that_systemd_makes() {
        for (path, cgroup) in [
            ("system.slice:docker:ab", "system.slice/docker-ab.scope"),
            (":gabion:ab", "system.slice/gabion-ab.scope"),
            ("", "system.slice/gabion-web.scope"),
            ("machine.slice:libpod:ab", "machine.slice/libpod-ab.scope"),
            ("-.slice:a:b", "a-b.scope"),
            (
                "kubepods-besteffort-pod1.slice:cri-containerd:ab",
                "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1.slice/cri-containerd-ab.scope",
            ),
        ] {
            assert_eq!(of(path), Ok(format!("/sys/fs/cgroup/{cgroup}")), "{path}");
        }
        let unit = |path| Unit::of(path, "web", Whose::Host).unwrap();
        assert_eq!(unit(None), unit(Some("")));
    }

    #[test]
    fn a_users_scope_lies_below_the_users_systemd() {
        let managers = "/user.slice/user-7.slice/user@7.service";
        for (path, below) in [
            ("", "user.slice/gabion-web.scope"),
            (":a:b", "user.slice/a-b.scope"),
            ("user.slice:libpod:ab", "user.slice/libpod-ab.scope"),
            ("a-b.slice:c:d", "a.slice/a-b.slice/c-d.scope"),
        ] {
            let unit = Unit::of(Some(path), "web", Whose::User).unwrap();
            let cgroup = PathBuf::from(format!("/sys/fs/cgroup{managers}/{below}"));
            assert_eq!(unit.cgroup_below(managers), cgroup, "{path}");
        }
    }

    #[test]
    fn another_form_is_refused_with_the_one_that_would_do() {
        for path in ["/docker/ab", "docker:ab", "a.slice:b:c:d", "web"] {
            let error = of(path).unwrap_err();
            assert!(
                error.starts_with(
                    "config.json#/linux/cgroupsPath: expected cgroupsPath to be of format \"slice:prefix:name\" for \
                     systemd cgroups, got "
                ),
                "{error}"
            );
            assert!(error.contains("\"system.slice:gabion:web\""), "{error}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_none() {
        for path in [
            "a.slice:b:../c",
            "a.slice:b/c:d",
            "a.slice:b:",
            "a.slice:b:c.slice",
            "a.slice:b:c d",
            "a.slice:b:c@d",
            "a.slice:b:c\n",
        ] {
            assert!(
                of(path).unwrap_err().contains("gives no name of a scope"),
                "{path}"
            );
        }
        for slice in [
            "a",
            "a.scope",
            ".slice",
            "a--b.slice",
            "-a.slice",
            "a-.slice",
            "../a.slice",
            "a/b.slice",
            "...slice",
            "a-..slice",
        ] {
            let error = of(&format!("{slice}:b:c")).unwrap_err();
            assert!(error.contains("is no slice of systemd"), "{slice}: {error}");
        }
        assert!(of(&format!("a.slice:b:{}", "c".repeat(248))).is_err());
        assert!(of(&format!("a.slice:b:{}", "c".repeat(247))).is_ok());
    }
}
