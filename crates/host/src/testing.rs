//! What tests share.

/// Ends a test that cannot run without root, loudly. The line is counted by the one who runs the tests:
/// `grep -c 'SKIPPED needs root'`.
macro_rules! needs_root {
    () => {
        if !nix::unistd::geteuid().is_root() {
            println!("SKIPPED needs root: {}:{}", file!(), line!());
            return;
        }
    };
}

pub(crate) use needs_root;

use gabion_baseline::Config;

/// A configuration from its JSON text, without `ociVersion`.
pub(crate) fn config(text: &str) -> Config {
    let mut document: serde_json::Value = serde_json::from_str(text).unwrap();
    document["ociVersion"] = "1.0.2".into();
    gabion_baseline::Allegation::from_document(document)
        .unwrap()
        .config()
        .clone()
}
