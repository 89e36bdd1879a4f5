//! Which program is tested.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The program: what `GABION` names, or what was built last below the workspace's target directory.
///
/// # Panics
/// If there is none, or this is not root: an end-to-end suite that tests nothing must not pass.
pub fn gabion() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        assert!(
            nix::unistd::geteuid().is_root(),
            "the end-to-end tests make containers, and need root for it"
        );
        if let Some(named) = env::var_os("GABION") {
            let path = std::path::absolute(PathBuf::from(named)).unwrap();
            assert!(path.is_file(), "GABION is {path:?}, where there is no program");
            return path;
        }
        let target = target_directory();
        let built = candidates(&target)
            .into_iter()
            .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
            .max();
        let Some((_, path)) = built else {
            panic!(
                "there is no gabion below {target:?}: build one (cargo build --profile quick -p gabion), or name it \
                 with the environment variable GABION"
            );
        };
        path
    })
}

/// Where cargo put this very test: `<target>/<triple>/<profile>/deps/<test>`.
fn target_directory() -> PathBuf {
    let test = env::current_exe().unwrap();
    test.ancestors().nth(4).unwrap().to_path_buf()
}

fn candidates(target: &Path) -> Vec<PathBuf> {
    let triples = std::fs::read_dir(target).into_iter().flatten().flatten();
    triples
        .flat_map(|triple| {
            ["release", "quick", "debug"].map(|profile| triple.path().join(profile).join("gabion"))
        })
        .filter(|path| path.is_file())
        .collect()
}
