//! Directories of the host that nothing in a container should hold, and how a path lies to them.
//!
//! Which ones there are is judgement's to say ([`SENSITIVE`]). They are compared by device and inode, never by
//! name: `/mnt/h` may be a bind mount of `/etc`, and `/var/run` is a link. Where two names are the same directory,
//! the first of the list is what a finding says.

use std::path::{Path, PathBuf};

use gabion_baseline::facts::{Identity, Relation, Sensitive};
use gabion_baseline::rules::mounts::landmarks::SENSITIVE;

use crate::walk::{Found, Walker};

/// The sensitive directories that this host has.
#[derive(Debug)]
pub(crate) struct Landmarks {
    list: Vec<Landmark>,
}

#[derive(Debug)]
struct Landmark {
    name: String,
    identity: Identity,
    /// The directories above it, the nearest first.
    above: Vec<Identity>,
}

impl Landmarks {
    /// Finds them.
    ///
    /// # Errors
    /// A sentence, if one of them cannot be looked at: what cannot be recognized must not pass for harmless.
    ///
    /// `own` are the runtime's own files and directories; where two names are one, theirs is the one that counts.
    pub(crate) fn find(walker: &mut Walker, own: &[PathBuf]) -> Result<Self, String> {
        let own = own.iter().map(|path| (own_name(path), path.clone()));
        let listed = SENSITIVE
            .iter()
            .map(|landmark| (landmark.path.to_owned(), PathBuf::from(landmark.path)));
        Self::find_all(walker, own.chain(listed))
    }

    fn find_all(
        walker: &mut Walker,
        directories: impl Iterator<Item = (String, PathBuf)>,
    ) -> Result<Self, String> {
        let mut list = Vec::with_capacity(SENSITIVE.len());
        for (name, path) in directories {
            match walker.glimpse(&path) {
                Ok(found) => list.push(Landmark {
                    name,
                    identity: found.meta.identity,
                    above: found.above,
                }),
                Err(astray) if astray.is_missing() => {}
                Err(astray) => return Err(format!("the host's {name}: {astray}")),
            }
        }
        Ok(Landmarks { list })
    }

    /// How a file lies to the nearest of them: it is one; or it contains one; or it lies in one.
    ///
    /// Containing counts more than lying inside, since it gives more away: `/var/lib` holds every engine's
    /// storage. That everything lies inside `/` is not worth saying and is not said.
    pub(crate) fn relation(&self, found: &Found) -> Option<Sensitive> {
        let sensitive = |name: &str, relation| {
            Some(Sensitive {
                directory: name.to_owned(),
                relation,
            })
        };
        let identity = found.identity();
        if let Some(landmark) = self.named(identity) {
            return sensitive(&landmark.name, Relation::Is);
        }
        if found.node().meta.is_directory() {
            let below = self.list.iter().filter_map(|landmark| {
                let distance = landmark.above.iter().position(|above| *above == identity)?;
                Some((distance, landmark.name.as_str()))
            });
            // The first of several at the same distance; min_by_key returns it.
            if let Some((_, name)) = below.min_by_key(|(distance, _)| *distance) {
                return sensitive(name, Relation::Contains);
            }
        }
        found
            .above()
            .filter_map(|above| self.named(above))
            .find(|landmark| Path::new(&landmark.name) != Path::new("/"))
            .and_then(|landmark| sensitive(&landmark.name, Relation::Inside))
    }

    fn named(&self, identity: Identity) -> Option<&Landmark> {
        self.list.iter().find(|landmark| landmark.identity == identity)
    }
}

/// What one of the runtime's own files is called in a fact.
pub(crate) fn own_name(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn relation(landmarks: &Landmarks, path: &Path) -> Option<(String, Relation)> {
        let found = Walker::default().walk(path).unwrap();
        landmarks
            .relation(&found)
            .map(|sensitive| (sensitive.directory, sensitive.relation))
    }

    #[test]
    fn directories_of_this_host_are_recognized_under_every_name() {
        let landmarks = Landmarks::find(&mut Walker::default(), &[]).unwrap();
        let named = |name: &str, relation| Some((name.to_owned(), relation));
        for (path, expected) in [
            ("/", named("/", Relation::Is)),
            ("/etc", named("/etc", Relation::Is)),
            ("/etc/../usr/../etc/", named("/etc", Relation::Is)),
            ("/proc/self/root/etc", named("/etc", Relation::Is)),
            ("/var", named("/var/log", Relation::Contains)),
            ("/etc/passwd", named("/etc", Relation::Inside)),
            ("/proc/self", named("/proc", Relation::Inside)),
            ("/proc/sys/kernel", named("/proc", Relation::Inside)),
            ("/dev/null", named("/dev", Relation::Inside)),
            ("/usr/share", named("/usr", Relation::Inside)),
            ("/tmp", None),
        ] {
            assert_eq!(relation(&landmarks, Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn what_contains_the_target_of_a_linked_directory_is_found() {
        // A host on which /var/lib/docker is a link to a large disk.
        let top = tempfile::tempdir().unwrap();
        let top = top.path().canonicalize().unwrap();
        fs::create_dir_all(top.join("disk/engines/docker/volumes/v")).unwrap();
        fs::create_dir_all(top.join("var/lib")).unwrap();
        symlink(top.join("disk/engines/docker"), top.join("var/lib/docker")).unwrap();
        let list = [
            ("/var/lib/docker", top.join("var/lib/docker")),
            ("/var/lib/none", top.join("none")),
        ];
        let landmarks = Landmarks::find_all(
            &mut Walker::default(),
            list.into_iter().map(|(name, path)| (name.to_owned(), path)),
        )
        .unwrap();
        assert_eq!(landmarks.list.len(), 1);
        let named = |relation| Some(("/var/lib/docker".to_owned(), relation));
        assert_eq!(
            relation(&landmarks, &top.join("disk/engines/docker")),
            named(Relation::Is)
        );
        assert_eq!(
            relation(&landmarks, &top.join("var/lib/docker")),
            named(Relation::Is)
        );
        assert_eq!(relation(&landmarks, &top.join("disk")), named(Relation::Contains));
        assert_eq!(
            relation(&landmarks, &top.join("var/lib/docker/volumes/v")),
            named(Relation::Inside)
        );
        assert_eq!(relation(&landmarks, &top.join("var/lib")), None);
    }

    #[test]
    fn the_nearest_one_counts() {
        let top = tempfile::tempdir().unwrap();
        let top = top.path().canonicalize().unwrap();
        fs::create_dir_all(top.join("a/near")).unwrap();
        fs::create_dir_all(top.join("a/b/c/far/inner/x")).unwrap();
        let list = [
            ("far", top.join("a/b/c/far")),
            ("near", top.join("a/near")),
            ("inner", top.join("a/b/c/far/inner")),
        ];
        let landmarks = Landmarks::find_all(
            &mut Walker::default(),
            list.into_iter().map(|(name, path)| (name.to_owned(), path)),
        )
        .unwrap();
        assert_eq!(
            relation(&landmarks, &top.join("a")),
            Some(("near".to_owned(), Relation::Contains))
        );
        assert_eq!(
            relation(&landmarks, &top.join("a/b")),
            Some(("far".to_owned(), Relation::Contains))
        );
        assert_eq!(
            relation(&landmarks, &top.join("a/b/c/far/inner/x")),
            Some(("inner".to_owned(), Relation::Inside))
        );
    }

    #[test]
    fn the_runtimes_own_files_are_recognized_from_above_and_from_inside() {
        let top = tempfile::tempdir().unwrap();
        let top = top.path().canonicalize().unwrap();
        let state = top.join("run/state");
        fs::create_dir_all(state.join("web")).unwrap();
        fs::write(top.join("ledger.jsonl"), "").unwrap();
        let own = [state.clone(), top.join("ledger.jsonl"), top.join("never-made")];
        let landmarks = Landmarks::find(&mut Walker::default(), &own).unwrap();
        let name = |path: &Path| path.display().to_string();
        assert_eq!(relation(&landmarks, &state), Some((name(&state), Relation::Is)));
        assert_eq!(
            relation(&landmarks, &state.join("web")),
            Some((name(&state), Relation::Inside))
        );
        assert_eq!(
            relation(&landmarks, &top.join("run")),
            Some((name(&state), Relation::Contains))
        );
        let ledger = top.join("ledger.jsonl");
        assert_eq!(relation(&landmarks, &ledger), Some((name(&ledger), Relation::Is)));
        assert_eq!(
            relation(&landmarks, &top),
            Some((name(&ledger), Relation::Contains))
        );
    }
}
