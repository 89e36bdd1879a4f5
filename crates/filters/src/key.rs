//! What decides about a filter, as one number: read by the build script too.

use sha2::{Digest, Sha256};

/// A SHA-256 digest.
pub(crate) type Key = [u8; 32];

/// What is kept under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What comes of a profile: its filter, and what that lets through of the floor.
    Study,
    /// The filter of a selection of the floor.
    Floor,
}

/// The key of something: the compiler, which includes its tables of system calls, the architecture, and what it is given.
/// Each part is preceded by its length, so that no two different lists of parts read the same.
pub(crate) fn key(compiler: &Key, kind: Kind, content: &[u8]) -> Key {
    let kind: &[u8] = match kind {
        Kind::Study => b"study",
        Kind::Floor => b"floor",
    };
    let mut digest = Sha256::new();
    for part in [
        b"gabion filter 1".as_slice(),
        compiler,
        std::env::consts::ARCH.as_bytes(),
        kind,
        content,
    ] {
        digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}
