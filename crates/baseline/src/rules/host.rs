//! The host: the runtime's own files.

use crate::facts::{Fact, FactKind};
use crate::judge::Operation;
use crate::pointer::Pointer;
use crate::profile::{Level, Levels};
use crate::rule::{Case, Mappings, Remedies, Rule, Violations};

/// The rules of this topic.
pub static RULES: &[&Rule] = &[&HOST_03];

static HOST_03: Rule = Rule {
    id: "HOST-03",
    title: "the runtime and its policy are root's alone",
    meaning: "The running gabion could be written through /proc/<pid>/exe, or its binary or a policy file can \
              be written or replaced by someone other than root. Or a bind mount's source is, contains or lies \
              in gabion's own state directory, ledger or policy.",
    why: "While a container is created, the runtime is a process in it, and /proc/<pid>/exe leads to its \
          binary. Who writes that binary, or the policy, is root at the next start of any container; who writes the \
          state decides what a further process in any container may have; and who writes the ledger decides what \
          is known of it.",
    stops: &[
        "CVE-2019-5736 (overwriting the runtime)",
        "editing the policy that is to refuse",
    ],
    fields: &[],
    levels: Levels::new(Level::Deny, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "On the host: chown root:root and chmod go-w the binary, /etc/gabion and the directories above \
                 them.",
        kubernetes: "On the node: chown root:root and chmod go-w the binary, /etc/gabion and the directories \
                     above them.",
        config: "Nothing in config.json: chown root:root and chmod go-w the binary, /etc/gabion and the \
                 directories above them.",
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "3",
        nsa: "",
        nist_800_190: "4.4.1",
    },
    facts: &[FactKind::Runtime, FactKind::Mounts],
    check: runtime,
};

fn runtime(case: &Case<'_>, violations: &mut Violations) {
    if matches!(case.operation, Operation::Check { offline: true }) {
        return;
    }
    let runtime = match &case.facts.runtime {
        Fact::Known(runtime) => runtime,
        Fact::Unknown(why) => {
            violations.undecided(
                "",
                format!("who may write the runtime and its policy is not known: {why}"),
            );
            return;
        }
    };
    for (index, fact) in case.facts.mount_sources.iter().enumerate() {
        // A source of which nothing is known is refused by MNT-12.
        let Some(sensitive) = fact
            .known()
            .and_then(Option::as_ref)
            .and_then(|source| source.sensitive.as_ref())
        else {
            continue;
        };
        if runtime.own_files.contains(&sensitive.directory) {
            violations
                .report(
                    Pointer::at("/mounts").index(index).key("source"),
                    format!("leads to gabion's own {:?}", sensitive.directory),
                    "a volume, or a directory that belongs to this container",
                )
                .sub_key("own");
        }
    }
    // A check runs nothing, so there is nobody who could reach the program through /proc.
    if runtime.sealed.is_none() && case.operation.starts_a_process() {
        violations
            .report(
                "",
                "the running gabion is not protected from being written through /proc/<pid>/exe",
                "a sealed copy, or a read-only mount, of the binary",
            )
            .sub_key("sealed");
    }
    for (sub_key, what, path) in [
        ("binary", "gabion's binary", &runtime.writable_binary),
        ("policy", "the policy file", &runtime.writable_policy),
    ] {
        if let Some(path) = path {
            violations
                .report(
                    "",
                    format!("{what} {path:?} can be written or replaced by others than root"),
                    "a file of root's, in directories of root's, that nobody else may write",
                )
                .sub_key(sub_key);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::table::{Table, known, with};
    use super::*;
    use crate::facts::RuntimeFact;
    use crate::profile::Profile;

    fn table(sealed: bool, binary: Option<&str>, policy: Option<&str>) -> Table {
        Table::of(Profile::Privileged).knowing(|facts| {
            facts.runtime = known(RuntimeFact {
                sealed: sealed.then(|| "a sealed memfd".to_owned()),
                writable_binary: binary.map(Into::into),
                writable_policy: policy.map(Into::into),
                own_files: Vec::new(),
            });
        })
    }

    #[test]
    fn the_runtime_is_sealed_and_nobody_elses() {
        let document = with("/hostname", json!("a"));
        let verdicts = |table: Table| table.verdicts("HOST-03", &document);
        assert!(verdicts(table(true, None, None)).is_empty());
        assert_eq!(verdicts(table(false, None, None)), ["deny HOST-03:sealed "]);
        assert_eq!(
            verdicts(table(true, Some("/usr/bin/gabion"), None)),
            ["deny HOST-03:binary "]
        );
        assert_eq!(
            verdicts(table(true, None, Some("/etc/gabion/policy.toml"))),
            ["deny HOST-03:policy "]
        );
        assert_eq!(
            table(true, Some("/tmp/gabion"), None).findings("HOST-03", &document)[0].found,
            "gabion's binary \"/tmp/gabion\" can be written or replaced by others than root"
        );
        assert_eq!(verdicts(Table::of(Profile::Restricted)), ["deny HOST-03 "]);
    }

    #[test]
    fn a_check_asks_for_less() {
        let document = with("/hostname", json!("a"));
        let check = |offline: bool, mut table: Table| {
            table.operation = Operation::Check { offline };
            table.verdicts("HOST-03", &document)
        };
        assert!(check(false, table(false, None, None)).is_empty());
        assert_eq!(
            check(false, table(false, Some("/x"), None)),
            ["deny HOST-03:binary "]
        );
        assert!(check(true, table(false, Some("/x"), Some("/y"))).is_empty());
        assert!(check(true, Table::of(Profile::Restricted)).is_empty());
    }

    #[test]
    fn a_mount_of_the_runtimes_own_files_is_refused_in_every_profile() {
        use crate::facts::{FileKind, Identity, Relation, Sensitive, SourceFact};
        let source = |directory: &str| SourceFact {
            canonical: directory.into(),
            identity: Identity { device: 1, inode: 2 },
            kind: FileKind::Directory,
            on_procfs: false,
            on_sysfs: false,
            on_cgroupfs: false,
            is_host_shm: false,
            through_magic_link: None,
            through_foreign_link: None,
            sensitive: Some(Sensitive {
                directory: directory.to_owned(),
                relation: Relation::Contains,
            }),
            control_socket: None,
            engine_managed: false,
        };
        for profile in Profile::ALL {
            for (directory, expected) in [
                ("/run/gabion", &["deny HOST-03:own /mounts/0/source"][..]),
                ("/home", &[]),
            ] {
                let mut table = Table::of(profile);
                table.facts.mount_sources = vec![Fact::Known(Some(source(directory)))];
                table.facts.runtime = Fact::Known(RuntimeFact {
                    sealed: Some("how".to_owned()),
                    writable_binary: None,
                    writable_policy: None,
                    own_files: vec!["/run/gabion".to_owned()],
                });
                let document = json!({"ociVersion": "1.2.0", "mounts": [{"destination": "/x", "type": "bind", "source": directory}]});
                assert_eq!(
                    table.verdicts("HOST-03", &document),
                    expected,
                    "{profile} {directory}"
                );
            }
        }
    }
}
