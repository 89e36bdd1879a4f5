//! The demands, by document.

mod cgroups;
mod devices;
mod features;
mod hooks;
mod lifecycle;
mod linux;
mod mounts;
mod namespaces;
mod process;
mod seccomp;
mod version_and_root;

use crate::Clause;

/// Every clause, in the order of the documents.
pub fn all() -> Vec<Clause> {
    [
        lifecycle::CLAUSES,
        hooks::CLAUSES,
        version_and_root::CLAUSES,
        mounts::CLAUSES,
        process::CLAUSES,
        namespaces::CLAUSES,
        devices::CLAUSES,
        cgroups::CLAUSES,
        seccomp::CLAUSES,
        linux::CLAUSES,
        features::CLAUSES,
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_clause_has_a_name_of_its_own_that_begins_with_its_document() {
        let documents = [
            "runtime.md",
            "runtime-linux.md",
            "config.md",
            "config-linux.md",
            "features.md",
        ];
        let documents = [&documents[..], &["features-linux.md"]].concat();
        let mut seen = HashSet::new();
        for clause in all() {
            assert!(seen.insert(clause.id), "{} is there twice", clause.id);
            assert!(documents.contains(&clause.document()), "{}", clause.id);
            assert!(clause.section().contains('/'), "{}", clause.id);
            assert!(
                !clause.text.is_empty() && !clause.text.ends_with('.'),
                "{}",
                clause.id
            );
        }
    }
}
