//! JSON pointers (RFC 6901): how a finding names its place in config.json.

/// A pointer under construction, such as `/process/capabilities/bounding`.
///
/// Cheap to make: a rule builds one only for a violation it reports.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pointer(String);

impl Pointer {
    /// Starts at an absolute pointer known when the rule was written.
    pub fn at(absolute: &str) -> Self {
        debug_assert!(absolute.is_empty() || absolute.starts_with('/'));
        Pointer(absolute.to_owned())
    }

    /// Descends into a member of an object; `/` and `~` in the key are escaped.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        self.0.push('/');
        for c in key.chars() {
            match c {
                '~' => self.0.push_str("~0"),
                '/' => self.0.push_str("~1"),
                other => self.0.push(other),
            }
        }
        self
    }

    /// Descends into an element of an array.
    #[must_use]
    pub fn index(mut self, index: usize) -> Self {
        self.0.push('/');
        self.0.push_str(&index.to_string());
        self
    }

    /// The pointer as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Pointer> for String {
    fn from(pointer: Pointer) -> String {
        pointer.0
    }
}

impl From<&str> for Pointer {
    fn from(absolute: &str) -> Pointer {
        Pointer::at(absolute)
    }
}

impl std::fmt::Display for Pointer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_with_slashes_and_tildes_are_escaped() {
        let pointer = Pointer::at("/linux/sysctl").key("net/ipv4~x").index(3);
        assert_eq!(pointer.as_str(), "/linux/sysctl/net~1ipv4~0x/3");
    }
}
