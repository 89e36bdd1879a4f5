//! Properties of a container's scope that its annotations ask for: `org.systemd.property.NAME`, as runc and crun have them.
//!
//! Most properties of a unit are not for a container to choose: commands that run as root, dependencies that start other
//! units, other limits than those that were judged. So there is a list of those that are about the scope's own end, and
//! whatever else is asked for is left alone; that somebody did is ANN-01's to tell.

use std::collections::BTreeMap;

use super::message::{Property, Value};
use crate::error::{ContainerError, Result};

const PREFIX: &str = "org.systemd.property.";
const SECOND: u64 = 1_000_000;

/// The properties that annotations ask for, of those that they may; each at most once.
///
/// # Errors
/// [`ContainerError::Unsupported`] for a value that such a property does not have.
pub(super) fn properties(annotations: &BTreeMap<String, String>) -> Result<Vec<Property>> {
    let mut properties: Vec<Property> = Vec::new();
    for (key, text) in annotations {
        let Some(name) = key.strip_prefix(PREFIX) else {
            continue;
        };
        let microseconds = || number(text).ok_or("a number of microseconds");
        let seconds = || seconds(text).ok_or("a number of seconds");
        let found = match name {
            "TimeoutStopUSec" => microseconds().map(|time| ("TimeoutStopUSec", Value::Number(time))),
            "TimeoutStopSec" => seconds().map(|time| ("TimeoutStopUSec", Value::Number(time))),
            "RuntimeMaxUSec" => microseconds().map(|time| ("RuntimeMaxUSec", Value::Number(time))),
            "RuntimeMaxSec" => seconds().map(|time| ("RuntimeMaxUSec", Value::Number(time))),
            "KillSignal" => signal(text)
                .map(|signal| ("KillSignal", Value::Signed(signal)))
                .ok_or("the number of a signal"),
            "CollectMode" => match unquoted(text) {
                mode @ ("inactive" | "inactive-or-failed") => {
                    Ok(("CollectMode", Value::Text(mode.to_owned())))
                }
                _ => Err("'inactive' or 'inactive-or-failed'"),
            },
            _ => continue,
        };
        let (name, value) = found.map_err(|expected| ContainerError::Unsupported {
            pointer: format!("/annotations/{key}"),
            text: format!("{text:?} is not {expected}"),
        })?;
        if properties.iter().any(|(other, _)| *other == name) {
            return Err(ContainerError::Unsupported {
                pointer: format!("/annotations/{key}"),
                text: format!("{name} is asked for twice"),
            });
        }
        properties.push((name, value));
    }
    Ok(properties)
}

/// GVariant's text of a number: digits, behind the name of a type at will.
fn number(text: &str) -> Option<u64> {
    digits(text)?.parse().ok()
}

/// The same, or a fraction, as microseconds.
fn seconds(text: &str) -> Option<u64> {
    let text = digits(text)?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction: u64 = format!("{fraction:0<6}")[..6].parse().ok()?;
    whole
        .parse::<u64>()
        .ok()?
        .checked_mul(SECOND)?
        .checked_add(fraction)
}

fn signal(text: &str) -> Option<i32> {
    let number = i32::try_from(number(text)?).ok()?;
    (1..=nix::libc::SIGRTMAX()).contains(&number).then_some(number)
}

fn digits(text: &str) -> Option<&str> {
    const TYPES: [&str; 8] = [
        "byte", "int16", "uint16", "int32", "uint32", "int64", "uint64", "double",
    ];
    let text = text.trim();
    let digits = match text.split_once(' ') {
        Some((kind, rest)) if TYPES.contains(&kind) => rest.trim_start(),
        Some(_) => return None,
        None => text,
    };
    digits
        .starts_with(|first: char| first.is_ascii_digit())
        .then_some(digits)
}

fn unquoted(text: &str) -> &str {
    let text = text.trim();
    ['\'', '"']
        .into_iter()
        .find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, text: &str) -> std::result::Result<Vec<Property>, String> {
        let annotations = [(format!("{PREFIX}{name}"), text.to_owned())];
        properties(&annotations.into()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_about_the_scopes_own_end_is_passed_on() {
        for (name, text, property) in [
            (
                "TimeoutStopUSec",
                "uint64 123456789",
                ("TimeoutStopUSec", Value::Number(123_456_789)),
            ),
            ("TimeoutStopUSec", "7", ("TimeoutStopUSec", Value::Number(7))),
            (
                "TimeoutStopSec",
                "uint32 3",
                ("TimeoutStopUSec", Value::Number(3_000_000)),
            ),
            (
                "RuntimeMaxSec",
                "2.5",
                ("RuntimeMaxUSec", Value::Number(2_500_000)),
            ),
            ("RuntimeMaxSec", "0.0000019", ("RuntimeMaxUSec", Value::Number(1))),
            ("RuntimeMaxUSec", "int64 5", ("RuntimeMaxUSec", Value::Number(5))),
            ("KillSignal", "37", ("KillSignal", Value::Signed(37))),
            (
                "CollectMode",
                "'inactive'",
                ("CollectMode", Value::Text("inactive".to_owned())),
            ),
            (
                "CollectMode",
                "\"inactive-or-failed\"",
                ("CollectMode", Value::Text("inactive-or-failed".to_owned())),
            ),
        ] {
            assert_eq!(of(name, text), Ok(vec![property]), "{name}={text}");
        }
    }

    #[test]
    fn what_is_not_for_a_container_to_choose_is_left_alone() {
        for name in [
            "ExecStopPost",
            "Requires",
            "After",
            "MemoryMax",
            "Delegate",
            "Slice",
            "timeoutstopusec",
            "",
        ] {
            assert_eq!(of(name, "'x'"), Ok(Vec::new()), "{name}");
        }
        let foreign = [("run.oci.x".to_owned(), "1".to_owned())];
        assert_eq!(properties(&foreign.into()).ok(), Some(Vec::new()));
    }

    #[test]
    fn a_value_that_the_property_does_not_have_is_an_error() {
        for (name, text) in [
            ("TimeoutStopUSec", ""),
            ("TimeoutStopUSec", "-1"),
            ("TimeoutStopUSec", "1.5"),
            ("TimeoutStopUSec", "'1'"),
            ("TimeoutStopUSec", "string 1"),
            ("RuntimeMaxSec", "99999999999999999999"),
            ("RuntimeMaxSec", "18446744073709551615"),
            ("RuntimeMaxSec", "1.x"),
            ("RuntimeMaxSec", "1."),
            ("KillSignal", "0"),
            ("KillSignal", "65"),
            ("KillSignal", "'SIGTERM'"),
            ("CollectMode", "'never'"),
        ] {
            let error = of(name, text).unwrap_err();
            assert!(error.contains("is not "), "{name}={text}: {error}");
        }
        let twice =
            ["TimeoutStopSec", "TimeoutStopUSec"].map(|name| (format!("{PREFIX}{name}"), "1".to_owned()));
        assert!(
            properties(&twice.into())
                .unwrap_err()
                .to_string()
                .contains("twice")
        );
    }
}
