//! Engines' configurations, edited: gabion is added as a runtime, or taken out again.
//!
//! Text in, text out; no file is opened here. Whatever is not gabion's stays as it was written: comments, order, keys
//! that are not known. What is there already is not written a second time, so that an edit of its own outcome changes
//! nothing.
#![forbid(unsafe_code)]

pub mod containerd;
pub mod diff;
pub mod docker;
pub mod podman;

/// The names under which engines know gabion: its profile is the policy's, and `restricted`.
pub const RUNTIMES: [&str; 2] = ["gabion", "gabion-restricted"];

/// What is to be in a configuration.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The program; its link `gabion-restricted` lies beside it.
    pub program: std::path::PathBuf,
    /// Whether it runs what names no runtime.
    pub default: bool,
}

impl Wanted {
    /// The program of a runtime's name.
    fn program_of(&self, name: &str) -> String {
        match name {
            "gabion" => self.program.display().to_string(),
            other => self.program.with_file_name(other).display().to_string(),
        }
    }
}

/// Why a configuration is not edited.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// It cannot be read as what it should be.
    #[error("it is no {format}: {why}")]
    Format {
        /// JSON or TOML.
        format: &'static str,
        /// The parser's words.
        why: String,
    },
    /// Something else stands where an entry of gabion's should.
    #[error("{place} is {found}, and not {accepted}; it stays as it is")]
    Conflict {
        /// Where, as the format writes it.
        place: String,
        /// What stands there.
        found: String,
        /// What could.
        accepted: String,
    },
    /// A version that is not known.
    #[error(
        "version = {0} is not a version of containerd's configuration that is known: those are 1, 2 and 3"
    )]
    Version(i64),
}

fn toml(text: &str) -> Result<toml_edit::DocumentMut, EditError> {
    text.parse()
        .map_err(|error: toml_edit::TomlError| EditError::Format {
            format: "TOML",
            why: error.to_string().trim().replace('\n', " "),
        })
}

/// The table at a path, made where it is missing, without headers for the tables above it.
fn table<'a>(
    root: &'a mut toml_edit::Table,
    path: &[&str],
) -> Result<&'a mut dyn toml_edit::TableLike, EditError> {
    let mut at: &mut dyn toml_edit::TableLike = root;
    for (depth, name) in path.iter().enumerate() {
        if at.get(name).is_none() {
            let mut made = toml_edit::Table::new();
            made.set_implicit(true);
            at.insert(name, toml_edit::Item::Table(made));
        }
        at = at
            .get_mut(name)
            .and_then(toml_edit::Item::as_table_like_mut)
            .ok_or_else(|| EditError::Conflict {
                place: path[..=depth].join("."),
                found: "no table".to_owned(),
                accepted: "a table".to_owned(),
            })?;
    }
    Ok(at)
}

/// Removes a key of the table at a path, and the tables on the way that are empty then.
fn remove(at: &mut dyn toml_edit::TableLike, path: &[&str]) {
    let Some((name, rest)) = path.split_first() else {
        return;
    };
    if rest.is_empty() {
        at.remove(name);
        return;
    }
    let Some(below) = at.get_mut(name).and_then(toml_edit::Item::as_table_like_mut) else {
        return;
    };
    let before = below.iter().count();
    remove(below, rest);
    if before > 0 && below.is_empty() {
        at.remove(name);
    }
}
