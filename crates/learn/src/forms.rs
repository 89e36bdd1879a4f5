//! What was learnt, in the words of those who are to use it.

use std::collections::{BTreeMap, BTreeSet};

use gabion_seccomp::Profile;
use serde_json::{Value, json};

use crate::observations::Observations;

/// The five sets of a bundle's process, by their names in config.json.
pub type Sets = BTreeMap<String, Vec<String>>;

/// Those capabilities of the sets that were seen to be needed; all, where that was not seen.
pub fn needed(held: &Sets, seen: &Observations) -> Sets {
    if !seen.knows_capabilities() {
        return held.clone();
    }
    held.iter()
        .map(|(set, names)| {
            let names = names.iter().filter(|name| seen.capabilities.contains_key(*name));
            (set.clone(), names.cloned().collect())
        })
        .collect()
}

/// What is different from a container's config.json: the process' capabilities, and the filter.
pub fn oci(sets: &Sets, profile: &Profile) -> Value {
    json!({"process": {"capabilities": sets}, "linux": {"seccomp": profile}})
}

/// A resource for the security-profiles-operator, and what a container says to use it. `name` has been checked by
/// [`resource_name`].
pub fn kubernetes(name: &str, sets: &Sets, portable: &Profile) -> String {
    let mut spec = json!({
        "defaultAction": portable.default_action.as_str(),
        "architectures": portable.architectures,
        "syscalls": [],
    });
    // The resource has no errno of the default action: it is EPERM there, as it is without one.
    spec["syscalls"] = json!(portable.syscalls);
    let resource = json!({
        "apiVersion": "security-profiles-operator.x-k8s.io/v1beta1",
        "kind": "SeccompProfile",
        "metadata": {"name": name},
        "spec": spec,
    });
    let empty = Vec::new();
    let add: BTreeSet<&str> = sets
        .get("bounding")
        .unwrap_or(&empty)
        .iter()
        .map(|name| name.trim_start_matches("CAP_"))
        .collect();
    let context = json!({
        "seccompProfile": {"type": "Localhost", "localhostProfile": format!("operator/{name}.json")},
        "capabilities": {"drop": ["ALL"], "add": add},
    });
    let mut text = String::from("# For the security-profiles-operator:\n");
    write_yaml(&mut text, &resource, 0);
    text.push_str(
        "---\n# In the container's securityContext. Without the operator, docker.json is put below the kubelet's\n\
         # directory of seccomp profiles on each node, and localhostProfile says where.\n",
    );
    let mut context_text = String::new();
    write_yaml(&mut context_text, &context, 0);
    text.push_str(
        &context_text
            .lines()
            .map(|line| format!("# {line}\n"))
            .collect::<String>(),
    );
    text
}

/// A name for a resource (RFC 1123, a label), made of a container's id.
pub fn resource_name(id: &str) -> String {
    let mut name: String = id
        .to_ascii_lowercase()
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter
            } else {
                '-'
            }
        })
        .take(63)
        .collect();
    name = name.trim_matches('-').to_owned();
    if name.is_empty() {
        "learnt".to_owned()
    } else {
        name
    }
}

/// Block style; scalars as in JSON, which YAML reads as well.
fn write_yaml(out: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                out.push_str(&format!("{indent}{key}:"));
                write_nested(out, value, depth);
            }
        }
        Value::Array(items) => {
            for item in items {
                match item {
                    Value::Object(_) => {
                        let mut text = String::new();
                        write_yaml(&mut text, item, depth + 1);
                        // The first line of an element stands behind its dash.
                        out.push_str(&format!("{indent}- {}", text.trim_start()));
                    }
                    scalar => out.push_str(&format!("{indent}- {scalar}\n")),
                }
            }
        }
        scalar => out.push_str(&format!("{indent}{scalar}\n")),
    }
}

fn write_nested(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(object) if object.is_empty() => out.push_str(" {}\n"),
        Value::Array(items) if items.is_empty() => out.push_str(" []\n"),
        Value::Object(_) => {
            out.push('\n');
            write_yaml(out, value, depth + 1);
        }
        Value::Array(_) => {
            out.push('\n');
            write_yaml(out, value, depth);
        }
        scalar => out.push_str(&format!(" {scalar}\n")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_of_resources_are_labels() {
        for (id, name) in [("web-1", "web-1"), ("Web_1.a+b", "web-1-a-b"), ("___", "learnt")] {
            assert_eq!(resource_name(id), name);
        }
        assert!(resource_name(&"x".repeat(100)).len() <= 63);
    }

    #[test]
    fn yaml_is_what_it_looks_like() {
        let mut out = String::new();
        let value = json!({"a": "x: y", "b": [1, {"c": ["d"], "e": {}}], "f": {"g": []}});
        write_yaml(&mut out, &value, 0);
        assert_eq!(
            out,
            "a: \"x: y\"\nb:\n- 1\n- c:\n  - \"d\"\n  e: {}\nf:\n  g: []\n"
        );
    }

    #[test]
    fn capabilities_that_were_not_used_go_only_if_that_could_be_seen() {
        let held = Sets::from([(
            "bounding".to_owned(),
            vec!["CAP_CHOWN".to_owned(), "CAP_KILL".to_owned()],
        )]);
        let mut seen = Observations::default();
        seen.capabilities.insert("CAP_KILL".to_owned(), 1);
        assert_eq!(needed(&held, &seen), held);
        seen.runs.push(crate::Run {
            began: String::new(),
            seconds: 1,
            ended: String::new(),
            traced: true,
            lost: 0,
            attached: false,
            new: Vec::new(),
        });
        assert_eq!(needed(&held, &seen)["bounding"], ["CAP_KILL"]);
    }
}
