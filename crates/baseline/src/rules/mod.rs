//! The catalogue: a file for each topic, in it each rule's text, levels and function.
//!
//! To add a rule, add its static and its function to the file of its topic, and the static to that file's
//! `RULES`. Nothing else lists rules.

use crate::rule::Rule;

pub mod capabilities;

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
pub static TOPICS: &[(&str, &[&Rule])] = &[("Capabilities", capabilities::RULES)];
