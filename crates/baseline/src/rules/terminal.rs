//! Terminal and descriptors: what a container inherits of the process that creates it.

use super::seccomp;
use crate::change::Change;
use crate::facts::{Fact, FactKind, FileKind};
use crate::profile::{Level, Levels};
use crate::rule::{Case, Mappings, Remedies, Rule, Violations};

/// The rules of this topic.
pub static RULES: &[&Rule] = &[&TTY_01, &TTY_02];

static TTY_01: Rule = Rule {
    id: "TTY-01",
    title: "nobody types into the operator's terminal",
    meaning: "process.terminal is true, the kernel allows TIOCSTI (before Linux 6.2, or dev.tty.legacy_tiocsti is 1), and \
              linux.seccomp may let the ioctls TIOCSTI or TIOCLINUX through.",
    why: "The terminal of docker run -it and exec -it is one that the operator's shell goes on with. What a program \
          types into it is read by that shell once the container has ended.",
    stops: &["CVE-2023-28100 and its kind: commands typed into the operator's shell"],
    fields: &["/process/terminal"],
    levels: Levels::new(Level::Off, Level::Harden, Level::Harden),
    hardening: "a second filter, loaded under the engine's, denies the two ioctls",
    remedies: Remedies {
        docker: "Nothing has to be done.",
        kubernetes: "Nothing has to be done.",
        config: "Deny the ioctls 0x5412 and 0x541c in linux.seccomp with a comparison of the low 32 bits \
                 (SCMP_CMP_MASKED_EQ), or set dev.tty.legacy_tiocsti to 0 on the host.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.4.3",
    },
    facts: &[FactKind::Kernel],
    check: typing,
};

fn typing(case: &Case<'_>, violations: &mut Violations) {
    let terminal = case
        .config
        .process
        .value()
        .is_some_and(|process| process.terminal.is_true());
    if !terminal {
        return;
    }
    let closed = match &case.facts.kernel {
        Fact::Known(kernel) => kernel.version >= (6, 2) && kernel.legacy_tiocsti == Some(false),
        // The filter is harmless where the kernel denies it as well.
        Fact::Unknown(_) => false,
    };
    if closed {
        return;
    }
    match seccomp::lets_terminal_input(case) {
        None | Some(Ok(false)) => {}
        Some(Ok(true)) => {
            violations
                .report(
                    "/process/terminal",
                    "true, and a program may type into the terminal (TIOCSTI)",
                    "a filter that denies the ioctls TIOCSTI and TIOCLINUX",
                )
                .fix(Change::StackSeccomp {
                    entry: seccomp::TERMINAL_INPUT.to_owned(),
                });
        }
        Some(Err(why)) => {
            violations.undecided("/process/terminal", format!("the filter cannot be judged: {why}"));
        }
    }
}

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
        podman: "podman hands on pipes or a terminal; look at what wraps the runtime.",
        kubernetes: "The container engine hands on pipes or a terminal; look at what wraps the runtime.",
        config: "Nothing in config.json: call gabion with files, pipes or a terminal as standard streams, as in \
                 gabion run web-1 </dev/null.",
        ..Remedies::AS_DOCKER
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

    #[test]
    fn typing_into_the_terminal_is_denied_where_kernel_and_filter_let_it() {
        fn lets(filter: &serde_json::Value, _: &[String]) -> Result<Vec<crate::policy::SeccompGap>, String> {
            let gap = crate::policy::SeccompGap {
                entry: seccomp::TERMINAL_INPUT.to_owned(),
                restricted: false,
                calls: Vec::new(),
            };
            Ok(if filter.get("lets").is_some() {
                vec![gap]
            } else {
                Vec::new()
            })
        }
        let table = |profile, version, legacy_tiocsti| {
            let mut table = Table::of(profile).knowing(|facts| {
                facts.kernel = known(crate::facts::KernelFact {
                    version,
                    last_capability: 40,
                    legacy_tiocsti,
                    in_initial_user_namespace: true,
                });
            });
            table.policy.seccomp_gaps = std::sync::Arc::new(lets);
            table
        };
        let mut document = with("/process/terminal", json!(true));
        document["linux"] = json!({"seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "lets": 1}});
        let hardened = ["harden TTY-01 /process/terminal"];
        for (version, legacy, expected) in [
            ((6, 12), Some(true), &hardened[..]),
            ((6, 1), None, &hardened),
            ((6, 12), Some(false), &[]),
        ] {
            assert_eq!(
                table(Profile::Baseline, version, legacy).verdicts("TTY-01", &document),
                expected
            );
            assert!(
                table(Profile::Privileged, version, legacy)
                    .verdicts("TTY-01", &document)
                    .is_empty()
            );
        }
        let old = table(Profile::Restricted, (5, 15), None);
        assert_eq!(
            old.hardened("TTY-01", &document)["linux"][crate::change::FLOOR],
            json!([seccomp::TERMINAL_INPUT])
        );
        document["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ERRNO"});
        assert!(
            old.verdicts("TTY-01", &document).is_empty(),
            "the filter denies it"
        );
        document["linux"]["seccomp"] = json!(null);
        assert!(
            old.verdicts("TTY-01", &document).is_empty(),
            "the default filter denies it"
        );
        document["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ERRNO", "lets": 1});
        document["process"]["terminal"] = json!(false);
        assert!(old.verdicts("TTY-01", &document).is_empty());
    }
}
