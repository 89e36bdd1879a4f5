//! Null, absent and empty are three different things in the runtime-spec.
//!
//! An absent `process.capabilities` means *every* capability to the runtimes people use, `{}` means none.
//! [`Given`] keeps the first two apart; an empty value is `Given::Value` of something empty.

use serde::{Deserialize, Deserializer};

/// What the author of a configuration wrote for an optional property.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Given<T> {
    /// The key is not there.
    #[default]
    Absent,
    /// The key is there and its value is `null`.
    Null,
    /// The key is there with a value, which may be empty.
    Value(T),
}

impl<T> Given<T> {
    /// The value, if one was written.
    pub fn value(&self) -> Option<&T> {
        match self {
            Given::Value(value) => Some(value),
            Given::Absent | Given::Null => None,
        }
    }

    /// True if no value was written: the key is absent, or null.
    pub fn is_missing(&self) -> bool {
        self.value().is_none()
    }

    /// How the missing value reads in a finding: "absent", "null"; or "present".
    pub fn presence(&self) -> &'static str {
        match self {
            Given::Absent => "absent",
            Given::Null => "null",
            Given::Value(_) => "present",
        }
    }
}

impl<T> Given<Vec<T>> {
    /// The elements; none if the list is absent or null.
    pub fn items(&self) -> &[T] {
        self.value().map_or(&[], Vec::as_slice)
    }
}

impl Given<bool> {
    /// True only if `true` was written.
    pub fn is_true(&self) -> bool {
        matches!(self, Given::Value(true))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Given<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Option::<T>::deserialize(deserializer)? {
            Some(value) => Given::Value(value),
            None => Given::Null,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Holder {
        #[serde(default)]
        list: Given<Vec<u8>>,
    }

    #[test]
    fn absent_null_and_empty_stay_three_different_things() {
        let read = |text: &str| serde_json::from_str::<Holder>(text).unwrap().list;
        assert_eq!(read("{}"), Given::Absent);
        assert_eq!(read(r#"{"list":null}"#), Given::Null);
        assert_eq!(read(r#"{"list":[]}"#), Given::Value(vec![]));
        assert_eq!(read(r#"{"list":[1]}"#), Given::Value(vec![1]));
    }
}
