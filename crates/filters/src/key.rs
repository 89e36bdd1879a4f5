//! What decides about a filter, as one number: read by the build script too.

use std::io::BufWriter;

use serde::Serialize;
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

/// The key of something: the compiler, which includes its tables of system calls, the architecture, and what it is given,
/// as JSON. Each part is preceded by its length, so that no two different lists of parts read the same.
///
/// # Errors
/// What is given cannot be written as JSON.
pub(crate) fn key(compiler: &Key, kind: Kind, given: &impl Serialize) -> serde_json::Result<Key> {
    let kind: &[u8] = match kind {
        Kind::Study => b"study",
        Kind::Floor => b"floor",
    };
    let mut digest = Sha256::new();
    for part in [
        b"gabion filter 2".as_slice(),
        compiler,
        std::env::consts::ARCH.as_bytes(),
        kind,
    ] {
        digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        digest.update(part);
    }
    // The last part: where it ends, everything does. It is digested as it is written; a profile is some 20 KiB.
    let mut written = BufWriter::with_capacity(1024, digest);
    serde_json::to_writer(&mut written, given)?;
    let digest = written
        .into_inner()
        .map_err(|error| serde_json::Error::io(error.into_error()))?;
    Ok(digest.finalize().into())
}
