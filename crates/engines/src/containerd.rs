//! containerd: config.toml of versions 1, 2 and 3.

use toml_edit::{DocumentMut, Item, Table, value};

use crate::{EditError, RUNTIMES, Wanted, remove, table, toml};

/// Adds gabion's runtimes to the CRI plugin, for Kubernetes.
///
/// They are called through gabion's own shim. Where runc's handler lets systemd make cgroups, so must gabion's; a
/// containerd that reads version 1 or 2 may be too old to hand such an option to a shim that is not runc's
/// (before 1.7), so there runc's shim calls gabion.
///
/// # Errors
/// [`EditError`].
pub fn install(text: &str, wanted: &Wanted) -> Result<String, EditError> {
    let mut document = toml(text)?;
    let version = version(&document)?;
    let systemd = lets_systemd(&document, version);
    if text.trim().is_empty() {
        document.insert("version", value(version));
    }
    let path = path(version);
    for name in RUNTIMES {
        let mut entry = Table::new();
        if systemd && version < 3 {
            entry.insert("runtime_type", value("io.containerd.runc.v2"));
            let mut options = Table::new();
            options.insert("BinaryName", value(wanted.program_of(name)));
            options.insert("SystemdCgroup", value(true));
            entry.insert("options", Item::Table(options));
        } else {
            entry.insert("runtime_type", value(format!("io.containerd.{name}.v2")));
            if systemd {
                let mut options = Table::new();
                options.insert("SystemdCgroup", value(true));
                entry.insert("options", Item::Table(options));
            }
        }
        let runtimes = table(document.as_table_mut(), &[&path[..], &["runtimes"]].concat())?;
        match runtimes.get(name) {
            None => drop(runtimes.insert(name, Item::Table(entry))),
            Some(found) if same(found, &entry) => {}
            Some(found) => {
                return Err(EditError::Conflict {
                    place: [&path[..], &["runtimes", name]].concat().join("."),
                    found: one_line(found),
                    accepted: one_line(&Item::Table(entry)),
                });
            }
        }
    }
    if wanted.default {
        let cri = table(document.as_table_mut(), &path)?;
        if cri.get("default_runtime_name").and_then(Item::as_str) != Some("gabion") {
            cri.insert("default_runtime_name", value("gabion"));
        }
    }
    Ok(document.to_string())
}

/// Takes gabion's runtimes out, and the choice of one as the default.
///
/// # Errors
/// [`EditError`].
pub fn uninstall(text: &str) -> Result<String, EditError> {
    let mut document = toml(text)?;
    let path = path(version(&document)?);
    for name in RUNTIMES {
        remove(
            document.as_table_mut(),
            &[&path[..], &["runtimes", name]].concat(),
        );
    }
    let default = get(&document, &[&path[..], &["default_runtime_name"]].concat()).and_then(Item::as_str);
    if default.is_some_and(|name| RUNTIMES.contains(&name)) {
        remove(
            document.as_table_mut(),
            &[&path[..], &["default_runtime_name"]].concat(),
        );
    }
    Ok(document.to_string())
}

/// A file without a version has version 1, as containerd reads it; a new file gets 2, which all containerds since
/// 1.3 read.
fn version(document: &DocumentMut) -> Result<i64, EditError> {
    match document
        .get("version")
        .map(|item| item.as_integer().unwrap_or(-1))
    {
        None if document.is_empty() => Ok(2),
        None => Ok(1),
        Some(version @ 1..=3) => Ok(version),
        Some(other) => Err(EditError::Version(other)),
    }
}

fn path(version: i64) -> [&'static str; 3] {
    match version {
        1 => ["plugins", "cri", "containerd"],
        2 => ["plugins", "io.containerd.grpc.v1.cri", "containerd"],
        _ => ["plugins", "io.containerd.cri.v1.runtime", "containerd"],
    }
}

fn get<'a>(document: &'a DocumentMut, path: &[&str]) -> Option<&'a Item> {
    path.iter().try_fold(document.as_item(), |at, name| at.get(name))
}

fn lets_systemd(document: &DocumentMut, version: i64) -> bool {
    let path = path(version);
    let runc = [&path[..], &["runtimes", "runc", "options", "SystemdCgroup"]].concat();
    get(document, &runc).and_then(Item::as_bool).unwrap_or_default()
}

/// Whether an entry has what it should, whatever else it has.
fn same(found: &Item, entry: &Table) -> bool {
    entry.iter().all(|(name, wanted)| {
        let found = found.get(name);
        match wanted {
            Item::Table(below) => found.is_some_and(|found| same(found, below)),
            _ => match (found.and_then(Item::as_str), wanted.as_str()) {
                (Some(found), Some(wanted)) => found == wanted,
                _ => found.and_then(Item::as_bool) == wanted.as_bool() && found.is_some(),
            },
        }
    })
}

fn one_line(item: &Item) -> String {
    let text = item.to_string();
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    format!("{{ {} }}", lines.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(default: bool) -> Wanted {
        Wanted {
            program: "/usr/local/bin/gabion".into(),
            default,
        }
    }

    const BEFORE: &str = "# the site's own words\nversion = 2\n\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"p:1\" # pinned\n";

    #[test]
    fn runtimes_are_added_and_comments_stay() {
        let after = install(BEFORE, &wanted(false)).unwrap();
        assert_eq!(
            after,
            format!(
                "{BEFORE}\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.gabion]\nruntime_type = \
                 \"io.containerd.gabion.v2\"\n\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.gabion-restricted]\n\
                 runtime_type = \"io.containerd.gabion-restricted.v2\"\n"
            )
        );
        assert_eq!(install(&after, &wanted(false)).unwrap(), after);
        assert_eq!(uninstall(&after).unwrap(), BEFORE);
    }

    #[test]
    fn every_version_has_its_own_place() {
        for (text, place) in [
            ("oom_score = -999\n", "[plugins.cri.containerd.runtimes.gabion]"),
            (
                "",
                "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.gabion]",
            ),
            (
                "version = 3\n",
                "[plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.gabion]",
            ),
        ] {
            let after = install(text, &wanted(true)).unwrap();
            assert!(after.contains(place), "{after}");
            assert!(after.contains("default_runtime_name = \"gabion\"\n"), "{after}");
            assert_eq!(install(&after, &wanted(true)).unwrap(), after);
        }
        assert_eq!(
            install("version = 9\n", &wanted(false)),
            Err(EditError::Version(9))
        );
    }

    #[test]
    fn systemds_cgroups_are_asked_for_where_runc_asks() {
        let runc = |version, plugin| {
            format!(
                "version = {version}\n[plugins.\"{plugin}\".containerd.runtimes.runc.options]\nSystemdCgroup = true\n"
            )
        };
        let old = install(&runc(2, "io.containerd.grpc.v1.cri"), &wanted(false)).unwrap();
        assert!(old.contains("runtime_type = \"io.containerd.runc.v2\""), "{old}");
        assert!(
            old.contains("BinaryName = \"/usr/local/bin/gabion-restricted\"\nSystemdCgroup = true"),
            "{old}"
        );
        let new = install(&runc(3, "io.containerd.cri.v1.runtime"), &wanted(false)).unwrap();
        assert!(
            new.contains("runtime_type = \"io.containerd.gabion.v2\""),
            "{new}"
        );
        assert_eq!(new.matches("SystemdCgroup = true").count(), 3);
    }

    #[test]
    fn anothers_entry_and_default_stay() {
        let text = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.gabion]\nruntime_type = \"x\"\n";
        let error = install(text, &wanted(false)).unwrap_err().to_string();
        assert!(error.ends_with("; it stays as it is"), "{error}");
        assert!(error.contains("runtime_type = \"x\""), "{error}");
        let text = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\ndefault_runtime_name = \"runc\"\n";
        assert_eq!(uninstall(text).unwrap(), text);
    }
}
