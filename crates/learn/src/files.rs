//! The directory that learning writes: all of it, or nothing.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::error::{LearnError, Result};
use crate::observations::Observations;

/// What further runs are added to.
pub const OBSERVATIONS: &str = "observations.json";
/// Names that are written; a directory with others in it is somebody's, and is left alone.
pub const NAMES: [&str; 7] = [
    "seccomp.json",
    "docker.json",
    "kubernetes.yaml",
    "oci.json",
    OBSERVATIONS,
    "report.txt",
    "diff.txt",
];

/// A place that was found fit to be written to, before anything ran.
#[derive(Debug)]
pub struct Output {
    directory: PathBuf,
    /// Beside it, where everything is written before it gets its name.
    draft: PathBuf,
    before: Option<Observations>,
}

impl Output {
    /// Looks at a directory before anything runs. With `merge` it may be there, with what an earlier run wrote; without,
    /// it must not.
    ///
    /// # Errors
    /// If it could not be written in the end.
    pub fn prepare(directory: &Path, merge: bool) -> Result<Output> {
        let directory = std::path::absolute(directory).map_err(LearnError::file("resolve", directory))?;
        let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) else {
            return Err(LearnError::Other(format!(
                "{directory:?} is no directory that can be made"
            )));
        };
        let mut draft = std::ffi::OsString::from(".");
        draft.push(name);
        draft.push(format!(".{}", std::process::id()));
        let output = Output {
            draft: parent.join(draft),
            before: before(&directory, merge)?,
            directory,
        };
        // Made once already, so that a place that cannot be written to is found before the workload has run.
        output.make()?;
        output.discard();
        Ok(output)
    }

    /// What earlier runs saw.
    pub fn take_before(&mut self) -> Observations {
        self.before.take().unwrap_or_default()
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where it is written before it gets its name.
    pub fn draft(&self) -> &Path {
        &self.draft
    }

    /// Writes all files, and then gives the directory its name. If anything fails, what was there before is still there.
    ///
    /// # Errors
    /// What could not be written.
    pub fn write(&self, files: &[(&str, Vec<u8>)]) -> Result<()> {
        let written = self.make().and_then(|()| {
            for (name, bytes) in files {
                let path = self.draft.join(name);
                let mut file = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o644)
                    .open(&path)
                    .map_err(LearnError::file("make", &path))?;
                file.write_all(bytes)
                    .and_then(|()| file.sync_all())
                    .map_err(LearnError::file("write", &path))?;
            }
            File::open(&self.draft)
                .and_then(|directory| directory.sync_all())
                .map_err(LearnError::file("write", &self.draft))?;
            self.name()
        });
        self.discard();
        written
    }

    fn make(&self) -> Result<()> {
        DirBuilder::new()
            .mode(0o755)
            .create(&self.draft)
            .map_err(LearnError::file("make", &self.draft))
    }

    /// Gives the draft its name; what had it is the draft then, and goes with it.
    fn name(&self) -> Result<()> {
        let exists = self.directory.symlink_metadata().is_ok();
        let flags = match exists {
            true => RenameFlags::RENAME_EXCHANGE,
            false => RenameFlags::RENAME_NOREPLACE,
        };
        renameat2(AT_FDCWD, &self.draft, AT_FDCWD, &self.directory, flags)
            .map_err(std::io::Error::from)
            .map_err(LearnError::file("rename the new files to", &self.directory))
    }

    /// Removes a draft, if there is one.
    pub fn discard(&self) {
        discard(&self.draft);
    }
}

/// Removes a draft: the files that learning writes, and their directory.
pub fn discard(draft: &Path) {
    for name in NAMES {
        drop(fs::remove_file(draft.join(name)));
    }
    drop(fs::remove_dir(draft));
}

fn before(directory: &Path, merge: bool) -> Result<Option<Observations>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(LearnError::file("read", directory)(error)),
    };
    if !merge {
        return Err(LearnError::Other(format!(
            "{directory:?} is there already; --merge adds to what it has, --output names another"
        )));
    }
    for entry in entries {
        let name = entry.map_err(LearnError::file("read", directory))?.file_name();
        if !NAMES.iter().any(|known| name == *known) {
            return Err(LearnError::Other(format!(
                "{directory:?} has {name:?} in it, which is none of the files that are written here; all of them are \
                 replaced at once, so it has to have a directory of its own. Move it away"
            )));
        }
    }
    let path = directory.join(OBSERVATIONS);
    let text = fs::read_to_string(&path).map_err(LearnError::file("read", &path))?;
    Observations::parse(&text).map(Some).map_err(|error| {
        LearnError::Other(format!(
            "{path:?} cannot be added to: {error}. Learn from the beginning, into another directory"
        ))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn entries(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn observations() -> Vec<u8> {
        serde_json::to_vec(&Observations::default()).unwrap()
    }

    #[test]
    fn files_appear_together_and_are_replaced_together() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("web");
        let output = Output::prepare(&directory, false).unwrap();
        assert_eq!(entries(place.path()), [""; 0]);
        output
            .write(&[("seccomp.json", b"1".to_vec()), (OBSERVATIONS, observations())])
            .unwrap();
        assert_eq!(entries(&directory), [OBSERVATIONS, "seccomp.json"]);
        let error = Output::prepare(&directory, false).unwrap_err().to_string();
        assert!(error.contains("is there already; --merge"), "{error}");
        let output = Output::prepare(&directory, true).unwrap();
        output
            .write(&[("docker.json", b"2".to_vec()), (OBSERVATIONS, observations())])
            .unwrap();
        assert_eq!(entries(&directory), ["docker.json", OBSERVATIONS]);
        assert_eq!(entries(place.path()), ["web"]);
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("web");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("notes.txt"), "mine").unwrap();
        let error = Output::prepare(&directory, true).unwrap_err().to_string();
        assert!(error.contains("has \"notes.txt\" in it"), "{error}");
        fs::rename(directory.join("notes.txt"), directory.join(OBSERVATIONS)).unwrap();
        let error = Output::prepare(&directory, true).unwrap_err().to_string();
        assert!(error.contains("cannot be added to"), "{error}");
        assert_eq!(fs::read_to_string(directory.join(OBSERVATIONS)).unwrap(), "mine");
    }

    #[test]
    fn a_failure_leaves_what_was_there() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("web");
        let output = Output::prepare(&directory, false).unwrap();
        output.write(&[(OBSERVATIONS, observations())]).unwrap();
        let output = Output::prepare(&directory, true).unwrap();
        let twice = [("seccomp.json", Vec::new()), ("seccomp.json", Vec::new())];
        assert!(output.write(&twice).is_err());
        assert_eq!(entries(&directory), [OBSERVATIONS]);
        assert_eq!(entries(place.path()), ["web"]);
        let nowhere = Output::prepare(&place.path().join("none/web"), false).unwrap_err();
        assert!(nowhere.to_string().contains("No such file"), "{nowhere}");
    }
}
