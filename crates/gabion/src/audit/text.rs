//! An audit for a person at a terminal.

use gabion_baseline::Action;
use gabion_baseline::report::printable;

use super::{Audit, title};

pub(crate) fn page(audit: &Audit) -> String {
    let mut out = format!(
        "{} on {} under profile {}: {} would be refused\n",
        super::containers(audit.containers.len()),
        printable(&audit.host),
        audit.profile,
        audit.refused(),
    );
    let by_rule = audit.by_rule();
    if !by_rule.is_empty() {
        out.push_str("\nBy rule\n");
    }
    for (rule, ids) in by_rule {
        out.push_str(&format!(
            "  {:<8} {:>4}  {}\n",
            printable(rule),
            ids.len(),
            title(rule)
        ));
    }
    if !audit.containers.is_empty() {
        out.push_str("\nBy container\n");
    }
    for container in &audit.containers {
        let verdict = if container.is_refused() {
            "refused"
        } else {
            "admitted"
        };
        out.push_str(&format!(
            "  {verdict:<8}  {}  ({})\n",
            printable(&container.id),
            container.engine_name()
        ));
        match &container.outcome {
            Err(error) => out.push_str(&format!("            {}\n", printable(error))),
            Ok(findings) => {
                for finding in findings.iter().filter(|finding| finding.action == Action::Deny) {
                    out.push_str(&format!(
                        "            {}  config.json#{}: {}\n",
                        printable(&finding.rule),
                        printable(&finding.pointer),
                        printable(&finding.found)
                    ));
                }
            }
        }
    }
    if !audit.findings.is_empty() {
        out.push_str("\nThe host itself (nothing is refused because of it)\n");
    }
    for finding in &audit.findings {
        out.push_str(&format!(
            "  {}  {}\n",
            printable(&finding.rule),
            printable(&finding.found)
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::tests::audit;

    #[test]
    fn the_page_tells_rules_and_containers_and_cannot_be_written_to() {
        let page = super::page(&audit("we\u{1b}[2Jb\nfine", "the \u{202e}socket"));
        assert!(
            page.starts_with("3 containers on node-1 under profile baseline: 2 would be refused\n"),
            "{page}"
        );
        assert!(
            page.contains("  refused   we\\u{1b}[2Jb\\nfine  (docker)\n"),
            "{page}"
        );
        assert!(
            page.contains("MNT-02:/run/docker.sock  config.json#/mounts/0/source: the \\u{202e}socket\n"),
            "{page}"
        );
        assert!(page.contains("  admitted  fine  (docker)\n"));
        assert!(page.contains("            config.json is empty\n"));
    }
}
