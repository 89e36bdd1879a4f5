//! The runtime's own files: its binary, and the policy it obeys.

use std::fs;
use std::path::{Path, PathBuf};

use gabion_baseline::facts::{Fact, RuntimeFact};

use crate::sensitive::own_name;
use crate::walk::Walker;

/// Looks at the runtime's files. `sealed` says how the running program is protected from being written;
/// `binary` is where the program was installed, if /proc/self/exe no longer says so.
pub(crate) fn look(
    walker: &mut Walker,
    sealed: Option<&str>,
    binary: Option<&Path>,
    policy_files: &[PathBuf],
    own_files: &[PathBuf],
) -> Fact<RuntimeFact> {
    match examine(walker, sealed, binary, policy_files, own_files) {
        Ok(fact) => Fact::Known(fact),
        Err(why) => Fact::Unknown(why),
    }
}

fn examine(
    walker: &mut Walker,
    sealed: Option<&str>,
    binary: Option<&Path>,
    policy_files: &[PathBuf],
    own_files: &[PathBuf],
) -> Result<RuntimeFact, String> {
    let binary = match binary {
        Some(path) => path.to_path_buf(),
        None => fs::read_link("/proc/self/exe").map_err(|error| format!("/proc/self/exe: {error}"))?,
    };
    let writable_binary = open_to_others(walker, &binary)?;
    let mut writable_policy = None;
    for file in policy_files {
        if open_to_others(walker, file)?.is_some() {
            writable_policy = Some(file.clone());
            break;
        }
    }
    Ok(RuntimeFact {
        sealed: sealed.map(str::to_owned),
        writable_binary: writable_binary.map(|_| binary),
        writable_policy,
        own_files: own_files.iter().map(|path| own_name(path)).collect(),
    })
}

/// A place on the way to a file that someone other than root may write to. Of a file that does not exist, the
/// directory in which it would be is asked: whoever may write there can make it.
fn open_to_others(walker: &mut Walker, path: &Path) -> Result<Option<PathBuf>, String> {
    for ancestor in path.ancestors() {
        match walker.walk(ancestor) {
            Ok(found) => {
                let place = found.open_to_others_than_roots();
                // Nobody but root replaces what root has in a sticky directory; but everyone may make there
                // what does not exist yet.
                let makeable = ancestor != path && found.node().meta.is_writable_by_others();
                return Ok(place.or_else(|| makeable.then_some(found.path)));
            }
            Err(astray) if astray.is_missing() => {}
            Err(astray) => return Err(astray.to_string()),
        }
    }
    Err(format!("{path:?} is not an absolute path"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;
    use crate::testing::needs_root;

    #[test]
    fn files_that_others_may_write_or_replace_are_named() {
        needs_root!();
        let keep = tempfile::tempdir().unwrap();
        let top = keep.path().canonicalize().unwrap();
        let mode =
            |name: &str, mode| fs::set_permissions(top.join(name), fs::Permissions::from_mode(mode)).unwrap();
        fs::create_dir(top.join("policy.d")).unwrap();
        for name in ["gabion", "policy.toml", "policy.d/a.toml"] {
            fs::write(top.join(name), "").unwrap();
        }
        let policy = [
            top.join("none.toml"),
            top.join("policy.toml"),
            top.join("policy.d/a.toml"),
        ];
        let look = || {
            look(
                &mut Walker::default(),
                Some("how"),
                Some(&top.join("gabion")),
                &policy,
                &[],
            )
        };
        let fact = |binary: bool, policy: Option<&str>| {
            Fact::Known(RuntimeFact {
                sealed: Some("how".to_owned()),
                writable_binary: binary.then(|| top.join("gabion")),
                writable_policy: policy.map(|name| top.join(name)),
                own_files: Vec::new(),
            })
        };
        assert_eq!(look(), fact(false, None));
        mode("gabion", 0o757);
        assert_eq!(look(), fact(true, None));
        mode("gabion", 0o755);
        chown(top.join("policy.toml"), Some(1000), None).unwrap();
        assert_eq!(look(), fact(false, Some("policy.toml")));
        chown(top.join("policy.toml"), Some(0), None).unwrap();
        mode("policy.d", 0o775);
        assert_eq!(look(), fact(false, Some("policy.d/a.toml")));
        mode("policy.d", 0o755);
        // Everyone may make the file that is not there.
        fs::set_permissions(&top, fs::Permissions::from_mode(0o1777)).unwrap();
        assert_eq!(look(), fact(false, Some("none.toml")));
    }

    #[test]
    fn without_a_name_for_the_binary_the_running_one_is_meant() {
        let Fact::Known(fact) = look(&mut Walker::default(), None, None, &[], &[]) else {
            panic!()
        };
        let own = fs::read_link("/proc/self/exe").unwrap();
        assert!(fact.writable_binary.is_none_or(|binary| binary == own));
        assert_eq!((fact.sealed, fact.writable_policy), (None, None));
    }
}
