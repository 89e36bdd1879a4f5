//! The host: the runtime's own files.

use crate::facts::{Fact, FactKind};
use crate::judge::Operation;
use crate::profile::{Level, Levels};
use crate::rule::{Case, Mappings, Remedies, Rule, Violations};

/// The rules of this topic.
pub static RULES: &[&Rule] = &[&HOST_03];

static HOST_03: Rule = Rule {
    id: "HOST-03",
    title: "the runtime and its policy are root's alone",
    meaning: "The running gabion could be written through /proc/<pid>/exe, or its binary or a policy file can \
              be written or replaced by someone other than root.",
    why: "While a container is created, the runtime is a process in it, and /proc/<pid>/exe leads to its \
          binary. Who writes that binary, or the policy, is root at the next start of any container.",
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
    facts: &[FactKind::Runtime],
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
    // A check runs nothing, so there is nobody who could reach the program through /proc.
    if runtime.sealed.is_none() && matches!(case.operation, Operation::Create { .. } | Operation::Exec { .. })
    {
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
}
