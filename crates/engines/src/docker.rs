//! Docker: daemon.json.

use serde_json::{Map, Value, json};

use crate::{EditError, RUNTIMES, Wanted};

/// Adds gabion's runtimes.
///
/// # Errors
/// [`EditError`].
pub fn install(text: &str, wanted: &Wanted) -> Result<String, EditError> {
    let mut root = parse(text)?;
    let before = root.clone();
    let runtimes = root.entry("runtimes").or_insert_with(|| json!({}));
    let Value::Object(runtimes) = runtimes else {
        return Err(conflict("runtimes", runtimes, "an object"));
    };
    for name in RUNTIMES {
        let entry = json!({"path": wanted.program_of(name)});
        match runtimes.get(name) {
            None => drop(runtimes.insert(name.to_owned(), entry)),
            Some(found) if found["path"] == entry["path"] => {}
            Some(found) => return Err(conflict(&format!("runtimes.{name}"), found, &entry.to_string())),
        }
    }
    if wanted.default {
        root.insert("default-runtime".to_owned(), json!("gabion"));
    }
    Ok(written(text, &before, &root))
}

/// Takes gabion's runtimes out, and the choice of one as the default.
///
/// # Errors
/// [`EditError::Format`].
pub fn uninstall(text: &str) -> Result<String, EditError> {
    let mut root = parse(text)?;
    let before = root.clone();
    if let Some(Value::Object(runtimes)) = root.get_mut("runtimes") {
        let had = runtimes.len();
        for name in RUNTIMES {
            // `remove` would put the last entry in its place.
            runtimes.shift_remove(name);
        }
        if had > 0 && runtimes.is_empty() {
            root.shift_remove("runtimes");
        }
    }
    if root
        .get("default-runtime")
        .and_then(Value::as_str)
        .is_some_and(|name| RUNTIMES.contains(&name))
    {
        root.shift_remove("default-runtime");
    }
    Ok(written(text, &before, &root))
}

fn parse(text: &str) -> Result<Map<String, Value>, EditError> {
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(root)) => Ok(root),
        Ok(_) => Err(EditError::Format {
            format: "JSON object",
            why: "its top is something else".to_owned(),
        }),
        Err(error) => Err(EditError::Format {
            format: "JSON",
            why: error.to_string(),
        }),
    }
}

fn conflict(place: &str, found: &Value, accepted: &str) -> EditError {
    EditError::Conflict {
        place: place.to_owned(),
        found: found.to_string(),
        accepted: accepted.to_owned(),
    }
}

/// The object in the text's own indentation; the text itself if nothing changed.
fn written(text: &str, before: &Map<String, Value>, root: &Map<String, Value>) -> String {
    if before == root {
        return text.to_owned();
    }
    let indent: String = text
        .lines()
        .find(|line| line.trim_start().starts_with('"'))
        .map(|line| line.chars().take_while(|c| c.is_whitespace()).collect())
        .filter(|indent: &String| !indent.is_empty())
        .unwrap_or_else(|| "    ".to_owned());
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    // Writing a map with text for keys into memory does not fail.
    if serde::Serialize::serialize(root, &mut serializer).is_err() {
        return text.to_owned();
    }
    bytes.push(b'\n');
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(default: bool) -> Wanted {
        Wanted {
            program: "/usr/local/bin/gabion".into(),
            default,
        }
    }

    const BEFORE: &str = "{\n  \"log-driver\": \"json-file\",\n  \"runtimes\": {\n    \"kata\": {\n      \"path\": \"/k\"\n    }\n  },\n  \"unknown-key\": [\n    1\n  ]\n}\n";

    #[test]
    fn runtimes_are_added_and_everything_else_stays_in_its_order() {
        let after = install(BEFORE, &wanted(true)).unwrap();
        let expected = "{\n  \"log-driver\": \"json-file\",\n  \"runtimes\": {\n    \"kata\": {\n      \"path\": \"/k\"\n    },\n    \
                        \"gabion\": {\n      \"path\": \"/usr/local/bin/gabion\"\n    },\n    \"gabion-restricted\": {\n      \
                        \"path\": \"/usr/local/bin/gabion-restricted\"\n    }\n  },\n  \"unknown-key\": [\n    1\n  ],\n  \
                        \"default-runtime\": \"gabion\"\n}\n";
        assert_eq!(after, expected);
        assert_eq!(install(&after, &wanted(true)).unwrap(), after);
        assert_eq!(uninstall(&after).unwrap(), BEFORE);
    }

    #[test]
    fn an_empty_file_begins_an_object() {
        let after = install("", &wanted(false)).unwrap();
        assert!(
            after.starts_with("{\n    \"runtimes\": {\n        \"gabion\": {"),
            "{after}"
        );
        assert_eq!(uninstall(&after).unwrap(), "{}\n");
    }

    #[test]
    fn what_another_wrote_is_not_overwritten() {
        let text = r#"{"runtimes": {"gabion": {"path": "/opt/other"}}}"#;
        assert_eq!(
            install(text, &wanted(false)).unwrap_err().to_string(),
            r#"runtimes.gabion is {"path":"/opt/other"}, and not {"path":"/usr/local/bin/gabion"}; it stays as it is"#
        );
        assert!(install(r#"{"runtimes": 3}"#, &wanted(false)).is_err());
        assert_eq!(
            install("{", &wanted(false)).unwrap_err().to_string(),
            "it is no JSON: EOF while parsing an object at line 1 column 1"
        );
    }

    #[test]
    fn anothers_default_stays() {
        let text = r#"{"default-runtime": "kata"}"#;
        assert_eq!(uninstall(text).unwrap(), text);
    }
}
