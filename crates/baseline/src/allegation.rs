//! A configuration that was read and not yet judged.
//!
//! An [`Allegation`] establishes that the bytes are one JSON document of bounded size and depth, in UTF-8,
//! without duplicate keys, whose known properties have the types of the runtime-spec and whose `ociVersion`
//! is one that gabion knows. It establishes nothing else: every value in it is what its author alleges.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::change::Change;
use crate::config::Config;
use crate::given::Given;
use crate::pointer::Pointer;

/// The largest config.json that is read, in bytes. The largest captured from a real engine is 17 KiB;
/// a seccomp profile that names every system call one by one stays below 200 KiB.
pub const MAX_CONFIG_BYTES: usize = 4 * 1024 * 1024;

/// A parsed, unjudged configuration. See the module's text for what holding one establishes.
#[derive(Debug, Clone)]
pub struct Allegation {
    document: Value,
    config: Config,
}

/// Why a file is no configuration. Every variant names the place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum AllegationError {
    #[error(
        "config.json is empty; an OCI bundle needs one (runtime-spec, bundle.md). `gabion spec` writes a first one"
    )]
    Empty,
    #[error("config.json is {size} bytes; at most {MAX_CONFIG_BYTES} are read")]
    TooLarge { size: u64 },
    #[error("config.json is not UTF-8: invalid byte at offset {offset}")]
    NotUtf8 { offset: usize },
    #[error("config.json, line {line} column {column}: {what}")]
    Syntax {
        line: usize,
        column: usize,
        what: String,
    },
    #[error(
        "config.json#{pointer} is there twice; which of the two would count depends on the reader. Remove one"
    )]
    DuplicateKey { pointer: String },
    #[error("config.json#{pointer}: {what}")]
    Type { pointer: String, what: String },
    #[error("config.json#/ociVersion is {found:?}; gabion knows versions 1.x of the runtime-spec")]
    Version { found: String },
}

impl From<Allegation> for Cow<'_, Allegation> {
    fn from(allegation: Allegation) -> Self {
        Cow::Owned(allegation)
    }
}

impl<'a> From<&'a Allegation> for Cow<'a, Allegation> {
    fn from(allegation: &'a Allegation) -> Self {
        Cow::Borrowed(allegation)
    }
}

impl Allegation {
    /// Reads a configuration.
    ///
    /// # Errors
    /// [`AllegationError`], naming the place: size, encoding, syntax, nesting deeper than 128 levels,
    /// a duplicate key, a property of the wrong type, an unknown `ociVersion`, an annotation without a key.
    pub fn parse(bytes: &[u8]) -> Result<Self, AllegationError> {
        if bytes.len() > MAX_CONFIG_BYTES {
            return Err(AllegationError::TooLarge {
                size: bytes.len() as u64,
            });
        }
        let text = std::str::from_utf8(bytes).map_err(|error| AllegationError::NotUtf8 {
            offset: error.valid_up_to(),
        })?;
        if text.trim_matches([' ', '\t', '\r', '\n']).is_empty() {
            return Err(AllegationError::Empty);
        }
        let mut duplicate = None;
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let document = Strict {
            path: None,
            duplicate: &mut duplicate,
        }
        .deserialize(&mut deserializer)
        .and_then(|document| deserializer.end().map(|()| document))
        .map_err(|error| syntax(&error))?;
        if let Some(pointer) = duplicate {
            return Err(AllegationError::DuplicateKey { pointer });
        }
        Self::from_document(document)
    }

    /// Types a document that is already free of duplicate keys.
    ///
    /// # Errors
    /// As [`Allegation::parse`], but for the errors of the text.
    pub fn from_document(document: Value) -> Result<Self, AllegationError> {
        let config = typed(&document)?;
        let version = &config.oci_version;
        let major = version.split('.').next().unwrap_or_default();
        if major != "1" || version.split('.').count() < 3 {
            return Err(AllegationError::Version {
                found: version.clone(),
            });
        }
        if let Some(value) = config
            .annotations
            .value()
            .and_then(|annotations| annotations.get(""))
        {
            return Err(AllegationError::Type {
                pointer: Pointer::default().key("annotations").key("").into(),
                what: format!(
                    "the annotation {value:?} has an empty key (config.md, \"Annotations\"). Name or remove it"
                ),
            });
        }
        Ok(Allegation { document, config })
    }

    /// The configuration with these changes made to it, in this order; `seccomp` is as for [`Change::apply`].
    ///
    /// It is typed anew, so that there is one truth: what the document says. The filter is most of what engines write,
    /// and is typed again only if a change fills it; no other one touches it.
    ///
    /// # Errors
    /// The changes made a document that is no configuration any more.
    pub(crate) fn changed(
        mut self,
        changes: &[&Change],
        seccomp: &dyn Fn(&[String]) -> Value,
    ) -> Result<Self, AllegationError> {
        if changes.is_empty() {
            return Ok(self);
        }
        for change in changes {
            change.apply(&mut self.document, seccomp);
        }
        if changes.iter().any(|change| matches!(change, Change::FillSeccomp)) {
            return Self::from_document(self.document);
        }
        let filter = self.document.pointer_mut("/linux/seccomp").map(Value::take);
        let mut changed = Self::from_document(self.document)?;
        if let Some(place) = changed.document.pointer_mut("/linux/seccomp")
            && let Some(filter) = filter
        {
            *place = filter;
        }
        if let Given::Value(linux) = &mut changed.config.linux
            && let Given::Value(before) = self.config.linux
        {
            linux.seccomp = before.seccomp;
        }
        Ok(changed)
    }

    /// The document as it was written, unknown properties included.
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// The typed view of the same document.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Both, for judgement to keep.
    pub(crate) fn into_parts(self) -> (Value, Config) {
        (self.document, self.config)
    }
}

/// Types a document; a second, slower reading finds the place of an error.
fn typed(document: &Value) -> Result<Config, AllegationError> {
    Config::deserialize(document).or_else(|_| {
        serde_path_to_error::deserialize(document).map_err(|error| {
            let mut pointer = Pointer::default();
            for segment in error.path() {
                use serde_path_to_error::Segment;
                pointer = match segment {
                    Segment::Seq { index } => pointer.index(*index),
                    Segment::Map { key } => pointer.key(key),
                    Segment::Enum { variant } => pointer.key(variant),
                    Segment::Unknown => pointer.key("?"),
                };
            }
            AllegationError::Type {
                pointer: pointer.into(),
                what: error.inner().to_string(),
            }
        })
    })
}

fn syntax(error: &serde_json::Error) -> AllegationError {
    let text = error.to_string();
    // serde_json ends its sentence with the place, which we say first.
    let what = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(what, _)| what)
        .to_owned();
    AllegationError::Syntax {
        line: error.line(),
        column: error.column(),
        what,
    }
}

/// Builds a [`Value`], remembering the first duplicate key on the way.
///
/// JSON leaves the meaning of duplicate keys to the reader; two readers that differ (an admission
/// controller's and ours) are how a judged configuration and an executed one come apart.
struct Strict<'a> {
    path: Option<&'a Link<'a>>,
    duplicate: &'a mut Option<String>,
}

/// The way from the root to the value being read; turned into text only for an error.
struct Link<'a> {
    parent: Option<&'a Link<'a>>,
    step: Step<'a>,
}

enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

impl Link<'_> {
    fn pointer(&self) -> Pointer {
        let parent = self.parent.map(Link::pointer).unwrap_or_default();
        match self.step {
            Step::Key(key) => parent.key(key),
            Step::Index(index) => parent.index(index),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let Strict { path, duplicate } = self;
        let mut list = Vec::new();
        loop {
            let link = Link {
                parent: path,
                step: Step::Index(list.len()),
            };
            match elements.next_element_seed(Strict {
                path: Some(&link),
                duplicate,
            })? {
                Some(value) => list.push(value),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let Strict { path, duplicate } = self;
        let mut map = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            let link = Link {
                parent: path,
                step: Step::Key(&key),
            };
            if map.contains_key(&key) && duplicate.is_none() {
                *duplicate = Some(link.pointer().into());
            }
            let value = members.next_value_seed(Strict {
                path: Some(&link),
                duplicate,
            })?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Allegation::parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_changed_configuration_is_what_its_document_says() {
        let given = include_bytes!("../tests/bundles/docker20-default.json");
        let default = |_: &[String]| serde_json::json!({"defaultAction": "SCMP_ACT_ERRNO"});
        let mask = Change::AddMaskedPath {
            path: "/proc/own".to_owned(),
        };
        for changes in [
            vec![],
            vec![&mask, &Change::SetNoNewPrivileges],
            vec![&mask, &Change::FillSeccomp],
        ] {
            let filled = changes.contains(&&Change::FillSeccomp);
            let changed = Allegation::parse(given)
                .unwrap()
                .changed(&changes, &default)
                .unwrap();
            let mut document = Allegation::parse(given).unwrap().document;
            for change in &changes {
                change.apply(&mut document, &default);
            }
            assert_eq!(changed.document, document);
            let anew = Allegation::from_document(document).unwrap();
            assert_eq!(format!("{:?}", changed.config), format!("{:?}", anew.config));
            let linux = changed.config.linux.value().unwrap();
            let calls = linux.seccomp.value().unwrap().syscalls.items().len();
            assert_eq!(calls == 0, filled, "{calls}");
        }
    }

    #[test]
    fn every_kind_of_bad_file_is_answered_with_its_place() {
        assert!(refused("").contains("empty"));
        assert!(refused(" \n").contains("empty"));
        assert_eq!(
            refused("{\n  \"a\": ]"),
            "config.json, line 2 column 8: expected value"
        );
        assert!(refused("{} x").contains("line 1 column 4: trailing characters"));
        assert!(
            refused(r#"{"ociVersion":"1.0.2","linux":{"sysctl":{"a":"1","a":"2"}}}"#)
                .starts_with("config.json#/linux/sysctl/a is there twice")
        );
        assert!(
            refused(r#"{"ociVersion":"1.0.2","mounts":[{"destination":"/x","destination":"/y"}]}"#)
                .starts_with("config.json#/mounts/0/destination is there twice")
        );
        assert!(
            refused(r#"{"ociVersion":"1.0.2","process":{"cwd":"/","user":{"uid":-1}}}"#)
                .starts_with("config.json#/process/user/uid: invalid value: integer `-1`, expected u32")
        );
        assert!(refused(r#"{"ociVersion":"1.0.2","process":{}}"#).contains("/process: missing field `cwd`"));
        assert!(refused(r#"{"ociVersion":"2.0.0"}"#).contains("#/ociVersion is \"2.0.0\""));
        assert!(refused(r#"{"ociVersion":"1"}"#).contains("#/ociVersion"));
        assert!(refused("{}").contains("missing field `ociVersion`"));
        assert_eq!(
            refused(r#"{"ociVersion":"1.0.2","annotations":{"a":"1","":"x"}}"#),
            "config.json#/annotations/: the annotation \"x\" has an empty key (config.md, \"Annotations\"). Name or remove it"
        );
        assert!(refused("[]").contains("config.json#"));
        let deep = "[".repeat(100_000);
        assert!(refused(&deep).contains("recursion limit exceeded"));
        let error = Allegation::parse(b"{\"a\":\"\xff\"}").unwrap_err();
        assert_eq!(
            error.to_string(),
            "config.json is not UTF-8: invalid byte at offset 6"
        );
        let large = vec![b' '; MAX_CONFIG_BYTES + 1];
        assert!(matches!(
            Allegation::parse(&large),
            Err(AllegationError::TooLarge { .. })
        ));
    }

    #[test]
    fn unknown_properties_are_kept() {
        let text = r#"{"ociVersion":"1.3.0","vendor":{"x":[1,2]}}"#;
        let allegation = Allegation::parse(text.as_bytes()).unwrap();
        assert_eq!(allegation.document()["vendor"]["x"][1], 2);
    }
}
