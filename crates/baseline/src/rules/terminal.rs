//! Terminal and descriptors: what a container inherits of the process that creates it.

use crate::facts::{Fact, FactKind, FileKind};
use crate::profile::{Level, Levels};
use crate::rule::{Case, Mappings, Remedies, Rule, Violations};

/// The rules of this topic.
pub static RULES: &[&Rule] = &[&TTY_02];

static TTY_02: Rule = Rule {
    id: "TTY-02",
    title: "the standard streams are streams",
    meaning: "Standard input, output or error of the process that creates the container leads to a directory \
              or a block device. All descriptors above 2 are closed when the container's program starts, but for \
              those that --preserve-fds or LISTEN_FDS hands on; V-13 verifies it from inside.",
    why: "A descriptor needs no path: a directory of the host in descriptor 0 is a way out of the root file \
          system, and a block device is the host's disk.",
    stops: &["CVE-2024-21626 (Leaky Vessels)", "CVE-2016-9962"],
    fields: &[],
    levels: Levels::new(Level::Deny, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Docker hands on pipes or a terminal; look at what wraps the runtime.",
        kubernetes: "The container engine hands on pipes or a terminal; look at what wraps the runtime.",
        config: "Nothing in config.json: call gabion with files, pipes or a terminal as standard streams, as in \
                 gabion run web-1 </dev/null.",
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.4.1",
    },
    facts: &[FactKind::Descriptors],
    check: streams,
};

fn streams(case: &Case<'_>, violations: &mut Violations) {
    // A check starts nothing that could inherit the streams.
    if !case.operation.starts_a_process() {
        return;
    }
    let descriptors = match &case.facts.descriptors {
        Fact::Known(descriptors) => descriptors,
        Fact::Unknown(why) => {
            violations.undecided(
                "",
                format!("what the container would inherit is not known: {why}"),
            );
            return;
        }
    };
    for descriptor in descriptors
        .iter()
        .filter(|descriptor| (0..=2).contains(&descriptor.number))
    {
        let what = match descriptor.kind {
            FileKind::Directory => "a directory",
            FileKind::BlockDevice { .. } => "a block device",
            _ => continue,
        };
        violations
            .report(
                "",
                format!(
                    "descriptor {} leads to {what} of the host, {:?}",
                    descriptor.number, descriptor.target
                ),
                "a file, pipe, socket or terminal",
            )
            .sub_key(descriptor.number.to_string());
    }
}

#[cfg(test)]
mod tests {
    use crate::judge::Operation;
    use serde_json::json;

    use super::super::table::{Table, known, with};
    use super::*;
    use crate::facts::DescriptorFact;
    use crate::profile::Profile;

    fn table(profile: Profile, number: i32, kind: FileKind) -> Table {
        Table::of(profile).knowing(|facts| {
            facts.descriptors = known(vec![DescriptorFact {
                number,
                kind,
                target: "/srv\n".to_owned(),
            }]);
        })
    }

    #[test]
    fn a_directory_or_disk_as_a_standard_stream_is_denied_everywhere() {
        let document = with("/hostname", json!("a"));
        for profile in Profile::ALL {
            for number in 0..=2 {
                let found = table(profile, number, FileKind::Directory).findings("TTY-02", &document);
                assert_eq!(found.len(), 1);
                assert_eq!(found[0].action, crate::Action::Deny);
                assert_eq!(
                    found[0].found,
                    format!("descriptor {number} leads to a directory of the host, \"/srv\\n\"")
                );
                let disk = FileKind::BlockDevice { major: 8, minor: 0 };
                assert_eq!(
                    table(profile, number, disk).findings("TTY-02", &document).len(),
                    1
                );
            }
        }
    }

    #[test]
    fn streams_and_descriptors_that_are_closed_pass() {
        let document = with("/hostname", json!("a"));
        for kind in [
            FileKind::Regular,
            FileKind::Fifo,
            FileKind::Socket,
            FileKind::CharDevice { major: 5, minor: 0 },
        ] {
            assert!(
                table(Profile::Restricted, 0, kind)
                    .findings("TTY-02", &document)
                    .is_empty()
            );
        }
        assert!(
            table(Profile::Restricted, 3, FileKind::Directory)
                .findings("TTY-02", &document)
                .is_empty()
        );
        let none = Table::of(Profile::Restricted).knowing(|facts| facts.descriptors = known(Vec::new()));
        assert!(none.findings("TTY-02", &document).is_empty());
    }

    #[test]
    fn not_knowing_them_refuses_to_create_and_says_nothing_to_a_check() {
        let document = with("/hostname", json!("a"));
        let finding = &Table::of(Profile::Privileged).findings("TTY-02", &document)[0];
        assert!(finding.undecided && finding.action == crate::Action::Deny);
        assert!(
            Table::of(Profile::Privileged)
                .offline()
                .findings("TTY-02", &document)
                .is_empty()
        );
        let mut check = table(Profile::Privileged, 0, FileKind::Directory);
        check.operation = Operation::Check { offline: false };
        assert!(check.findings("TTY-02", &document).is_empty());
    }
}
