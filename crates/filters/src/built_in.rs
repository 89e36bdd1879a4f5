//! Filters that the build script made.

use crate::key::Key;

include!(concat!(env!("OUT_DIR"), "/built_in.rs"));

/// What is built in under this key.
pub(crate) fn find(key: &Key) -> Option<&'static [u8]> {
    let at = RECORDS.binary_search_by(|(other, _)| other.cmp(key)).ok()?;
    RECORDS.get(at).map(|(_, bytes)| *bytes)
}
