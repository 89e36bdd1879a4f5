//! Which values of a rule have levels and waivers of their own, so that a policy that names one which cannot occur is
//! answered instead of being passed over.

use super::capabilities::KNOWN;
use super::host::{MODULES, parameter_names};
use crate::nearest::nearest;

/// What stands after the colon in `CAP-03:NET_ADMIN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubKeys {
    /// The rule has no values of its own.
    None,
    /// A capability, without `CAP_`.
    Capability,
    /// One of these words.
    Words(Vec<&'static str>),
    /// An absolute path: what kind of one.
    Path(&'static str),
    /// Any text of this kind.
    Text(&'static str),
}

/// The values of a rule.
pub fn of(rule: &str) -> SubKeys {
    use SubKeys::{Capability, Path, Text, Words};
    match rule {
        "CAP-02" | "CAP-03" | "CAP-04" | "CAP-05" | "CAP-06" | "CAP-07" | "CAP-08" | "CAP-09" | "OPS-01" => {
            Capability
        }
        "MNT-01" | "MNT-02" | "MNT-03" | "DEV-04" => Path("the source of a mount, such as /var/log"),
        "MNT-05" | "MNT-13" | "MNT-14" => Path("the destination of a mount, such as /data"),
        "DEV-02" => Path("a device, such as /dev/fuse"),
        "PTH-01" | "PTH-02" | "PTH-03" => Path("a path of the container, such as /proc/kcore"),
        "ROOT-03" => Words(vec!["/dev", "/etc", "/proc", "/sys"]),
        "ROOT-04" => Words(vec!["nodev", "nosuid"]),
        "HOST-01" => Words(parameter_names().collect()),
        "HOST-03" => Words(vec!["own", "sealed", "binary", "policy"]),
        "HOST-04" => Words(MODULES.to_vec()),
        "LSM-04" => Words(vec!["apparmorProfile", "selinuxLabel"]),
        "NS-10" => Words(vec!["pid", "mount", "user"]),
        "OPS-03" => Words(vec!["foreign", "unverified"]),
        "OPS-04" => Words(vec!["no-pivot", "no-new-keyring", "preserve-fds"]),
        "OPS-02" => Text("pids, memory, devices or a file of linux.resources.unified"),
        "MNT-10" => Text("a type of file system, such as fuse"),
        "DEV-03" => Text("type and numbers of a device, such as c:10:229"),
        "ENV-01" | "ENV-02" => Text("the name of a variable"),
        "ANN-01" | "ANN-03" => Text("the key of an annotation"),
        "NET-01" => Text("the name of a network device"),
        "PRV-03" => Text("the number of a group"),
        "RES-04" => Text("a file of linux.resources.unified"),
        "SYS-01" | "SYS-02" => Text("a kernel parameter, such as net.ipv4.ip_forward"),
        "TTY-02" => Text("the number of a descriptor"),
        // Those of seccomp have a vocabulary of their own.
        "SEC-02" | "SEC-03" | "SEC-04" | "SEC-05" | "SEC-06" | "SEC-07" | "TTY-01" => {
            Text("a value of the rule")
        }
        _ => SubKeys::None,
    }
}

/// Why a value is none of the rule's, and which one may have been meant.
///
/// # Errors
/// A sentence that begins with the rule's id.
pub fn check(rule: &str, value: &str) -> Result<(), String> {
    let one_of = |what: &str, known: &[&'static str]| {
        if known.contains(&value) {
            return Ok(());
        }
        let near = nearest(value.strip_prefix("CAP_").unwrap_or(value), known.iter().copied());
        Err(match near {
            Some(near) => format!(
                "{rule} has no {what} {value:?}; did you mean {:?}?",
                format!("{rule}:{near}")
            ),
            None if known.len() <= 14 => {
                format!("{rule} has no {what} {value:?}; known are {}", known.join(", "))
            }
            None => format!("{rule} has no {what} {value:?}"),
        })
    };
    match of(rule) {
        SubKeys::None => Err(format!("{rule} has no values of its own; write {rule:?}")),
        SubKeys::Capability => one_of("capability", &KNOWN),
        SubKeys::Words(words) => one_of("value", &words),
        SubKeys::Path(what) if !value.starts_with('/') => {
            Err(format!("{rule} is about {what}; {value:?} is no absolute path"))
        }
        SubKeys::Path(_) | SubKeys::Text(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_cannot_occur_is_answered_with_the_one_that_was_meant() {
        for (rule, value, expected) in [
            (
                "CAP-03",
                "NET_ADMN",
                "CAP-03 has no capability \"NET_ADMN\"; did you mean \"CAP-03:NET_ADMIN\"?",
            ),
            (
                "CAP-03",
                "CAP_NET_ADMIN",
                "CAP-03 has no capability \"CAP_NET_ADMIN\"; did you mean \"CAP-03:NET_ADMIN\"?",
            ),
            ("CAP-03", "everything", "CAP-03 has no capability \"everything\""),
            ("NS-01", "x", "NS-01 has no values of its own; write \"NS-01\""),
            (
                "OPS-04",
                "no-pivott",
                "OPS-04 has no value \"no-pivott\"; did you mean \"OPS-04:no-pivot\"?",
            ),
            (
                "ROOT-04",
                "x",
                "ROOT-04 has no value \"x\"; known are nodev, nosuid",
            ),
            (
                "MNT-01",
                "var/log",
                "MNT-01 is about the source of a mount, such as /var/log; \"var/log\" is no absolute path",
            ),
        ] {
            assert_eq!(check(rule, value), Err(expected.to_owned()));
        }
        for (rule, value) in [
            ("CAP-03", "NET_ADMIN"),
            ("MNT-01", "/var/log"),
            ("DEV-03", "c:1:3"),
            ("ROOT-03", "/dev"),
        ] {
            assert_eq!(check(rule, value), Ok(()), "{rule}");
        }
    }
}
