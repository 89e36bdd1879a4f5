//! podman and buildah: containers.conf.

use toml_edit::{Array, Item, value};

use crate::{EditError, RUNTIMES, Wanted, remove, table, toml};

/// Adds gabion's runtimes.
///
/// # Errors
/// [`EditError`].
pub fn install(text: &str, wanted: &Wanted) -> Result<String, EditError> {
    let mut document = toml(text)?;
    for name in RUNTIMES {
        let program = wanted.program_of(name);
        let runtimes = table(document.as_table_mut(), &["engine", "runtimes"])?;
        match runtimes.get(name) {
            None => {
                let mut programs = Array::new();
                programs.push(program);
                runtimes.insert(name, value(programs));
            }
            Some(found) if names(found).any(|found| found == program) => {}
            Some(found) => {
                return Err(EditError::Conflict {
                    place: format!("engine.runtimes.{name}"),
                    found: found.to_string().trim().to_owned(),
                    accepted: format!("[{program:?}]"),
                });
            }
        }
    }
    if wanted.default {
        let engine = table(document.as_table_mut(), &["engine"])?;
        if engine.get("runtime").and_then(Item::as_str) != Some("gabion") {
            engine.insert("runtime", value("gabion"));
        }
    }
    Ok(document.to_string())
}

/// Takes gabion's runtimes out, and the choice of one as the default.
///
/// # Errors
/// [`EditError::Format`].
pub fn uninstall(text: &str) -> Result<String, EditError> {
    let mut document = toml(text)?;
    for name in RUNTIMES {
        remove(document.as_table_mut(), &["engine", "runtimes", name]);
    }
    let default = document
        .get("engine")
        .and_then(|engine| engine.get("runtime"))
        .and_then(Item::as_str);
    if default.is_some_and(|name| RUNTIMES.contains(&name)) {
        remove(document.as_table_mut(), &["engine", "runtime"]);
    }
    Ok(document.to_string())
}

fn names(item: &Item) -> impl Iterator<Item = &str> {
    item.as_array()
        .into_iter()
        .flatten()
        .filter_map(toml_edit::Value::as_str)
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

    #[test]
    fn runtimes_are_added_and_taken_out_again() {
        let before = "# ours\n[containers]\npids_limit = 100\n";
        let after = install(before, &wanted(false)).unwrap();
        assert_eq!(
            after,
            format!(
                "{before}\n[engine.runtimes]\ngabion = [\"/usr/local/bin/gabion\"]\ngabion-restricted = \
                 [\"/usr/local/bin/gabion-restricted\"]\n"
            )
        );
        assert_eq!(install(&after, &wanted(false)).unwrap(), after);
        assert_eq!(uninstall(&after).unwrap(), before);
    }

    #[test]
    fn the_default_is_chosen_and_given_back() {
        let after = install("[engine]\nevents_logger = \"file\"\n", &wanted(true)).unwrap();
        assert!(
            after.starts_with("[engine]\nevents_logger = \"file\"\nruntime = \"gabion\"\n"),
            "{after}"
        );
        assert_eq!(uninstall(&after).unwrap(), "[engine]\nevents_logger = \"file\"\n");
    }

    #[test]
    fn what_another_wrote_is_not_overwritten() {
        let error = install("[engine.runtimes]\ngabion = [\"/opt/x\"]\n", &wanted(false)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "engine.runtimes.gabion is [\"/opt/x\"], and not [\"/usr/local/bin/gabion\"]; it stays as it is"
        );
    }
}
