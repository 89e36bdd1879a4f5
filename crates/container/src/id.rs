//! A container's id.

use std::fmt;

use crate::error::ContainerError;

/// An id that is safe as the name of a directory: letters, digits, `_`, `+`, `-` and `.`, and neither `.` nor
/// `..` (the same set as other runtimes accept). At most 255 bytes, the longest name a directory can hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerId(String);

impl ContainerId {
    /// Checks an id.
    ///
    /// # Errors
    /// [`ContainerError::Id`].
    pub fn new(id: &str) -> Result<Self, ContainerError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
        if id.is_empty() || id.len() > 255 || id == "." || id == ".." || !id.bytes().all(allowed) {
            return Err(ContainerError::Id(id.to_owned()));
        }
        Ok(ContainerId(id.to_owned()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_cannot_leave_its_directory() {
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "a b",
            "a\0",
            "é",
            "~x",
            &"a".repeat(256),
        ] {
            assert!(ContainerId::new(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "web-1", "A_b+c.d", "...", &"a".repeat(255)] {
            assert_eq!(ContainerId::new(good).unwrap().as_str(), good);
        }
    }
}
