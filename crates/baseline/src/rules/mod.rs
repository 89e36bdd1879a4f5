//! The catalogue: a file for each topic, in it each rule's text, levels and function.
//!
//! To add a rule, add its static and its function to the file of its topic, and the static to that file's
//! `RULES`. Nothing else lists rules.

use crate::rule::Rule;

pub mod annotations;
pub mod capabilities;
pub mod devices;
pub mod environment;
pub mod hooks;
pub mod host;
pub mod images;
pub mod lsm;
pub mod mounts;
#[cfg(test)]
pub(crate) mod mutation;
pub mod namespaces;
pub mod network;
pub mod operations;
pub mod paths;
pub mod privileges;
pub mod resources;
pub mod rootfs;
pub mod seccomp;
pub mod sub_keys;
pub mod sysctl;
#[cfg(test)]
pub(crate) mod table;
pub mod terminal;
#[cfg(test)]
mod testing;

/// Every rule, in the catalogue's order.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    TOPICS.iter().flat_map(|(_, rules)| rules.iter().copied())
}

/// The rule with this id, such as `CAP-03`; a sub-key after a colon is ignored.
pub fn find(id: &str) -> Option<&'static Rule> {
    let id = id.split(':').next().unwrap_or(id);
    all().find(|rule| rule.id.eq_ignore_ascii_case(id))
}

/// The topics under their titles, each with its rules.
pub static TOPICS: &[(&str, &[&Rule])] = &[
    ("Capabilities", capabilities::RULES),
    ("Namespaces", namespaces::RULES),
    ("Seccomp", seccomp::RULES),
    ("Linux security modules", lsm::RULES),
    ("Privileges and identity", privileges::RULES),
    ("Mounts", mounts::RULES),
    ("Devices", devices::RULES),
    ("Root file system", rootfs::RULES),
    ("Kernel parameters", sysctl::RULES),
    ("Masked and read-only paths", paths::RULES),
    ("Resources and limits", resources::RULES),
    ("Hooks", hooks::RULES),
    ("Annotations", annotations::RULES),
    ("Network devices", network::RULES),
    ("Terminal and descriptors", terminal::RULES),
    ("Host", host::RULES),
    ("Environment and secrets", environment::RULES),
    ("Images", images::RULES),
    ("Operations on a container", operations::RULES),
];
