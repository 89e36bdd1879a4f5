//! The host: the runtime's own files, and what of the kernel every container depends on.
//!
//! HOST-01, HOST-02 and HOST-04 are about the host alone: `gabion audit` tells them once, and no container is refused
//! because of them.

use crate::facts::{CgroupMode, Fact, FactKind, ModuleState};
use crate::judge::Operation;
use crate::pointer::Pointer;
use crate::profile::{Level, Levels};
use crate::rule::{Case, Mappings, Remedies, Rule, Violations};

/// The rules of this topic.
pub static RULES: &[&Rule] = &[&HOST_01, &HOST_02, &HOST_03, &HOST_04];

static HOST_01: Rule = Rule {
    id: "HOST-01",
    title: "kernel parameters that leave little to attack",
    meaning: "A parameter of the kernel has a value that opens more to a process in a container than it needs: see gabion audit for which. A parameter that this kernel does not have is passed over. Every container is judged as if the value were the weak one.",
    why: "Most ways from a container to the host lead through a bug of the kernel, and many of these bugs are in parts that an unprivileged process needs only if it was given them: user namespaces, bpf(2), io_uring, userfaultfd(2). Pointers and symbols that the kernel tells anybody make the rest easier.",
    stops: &[
        "holes of the kernel that begin in a user namespace",
        "CVE-2023-2598 and other holes of io_uring",
        "leaks of kernel addresses",
    ],
    fields: &[],
    levels: Levels::new(Level::Audit, Level::Audit, Level::Audit),
    hardening: "",
    remedies: Remedies {
        docker: "On the host: set the parameter in /etc/sysctl.d, and run sysctl --system.",
        kubernetes: "On the node: set the parameter in /etc/sysctl.d, and run sysctl --system.",
        config: "Nothing in config.json: set the parameter in /etc/sysctl.d, and run sysctl --system.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "1.1",
        nsa: "hardening container environments",
        nist_800_190: "4.5.1",
    },
    facts: &[FactKind::Host],
    check: parameters,
};

/// A name, whether a value of it is weak, and what would be accepted.
type Parameter = (&'static str, fn(i64) -> bool, &'static str);

/// Parameters whose value matters, what their weak values are, and what would be accepted.
static PARAMETERS: &[Parameter] = &[
    (
        "user.max_user_namespaces",
        |value| value > 0,
        "0, where no container or service makes user namespaces",
    ),
    ("kernel.unprivileged_bpf_disabled", |value| value == 0, "1 or 2"),
    ("kernel.io_uring_disabled", |value| value == 0, "1 or 2"),
    ("vm.unprivileged_userfaultfd", |value| value != 0, "0"),
    ("dev.tty.legacy_tiocsti", |value| value != 0, "0"),
    ("kernel.yama.ptrace_scope", |value| value == 0, "1 or more"),
    ("kernel.kptr_restrict", |value| value == 0, "1 or 2"),
    ("kernel.dmesg_restrict", |value| value == 0, "1"),
    ("fs.protected_symlinks", |value| value == 0, "1"),
    ("fs.protected_hardlinks", |value| value == 0, "1"),
    ("fs.protected_fifos", |value| value == 0, "1 or 2"),
    ("fs.protected_regular", |value| value == 0, "1 or 2"),
];

/// The kernel parameters that HOST-01 looks at.
pub fn parameter_names() -> impl Iterator<Item = &'static str> {
    PARAMETERS.iter().map(|(name, _, _)| *name)
}

fn parameters(case: &Case<'_>, violations: &mut Violations) {
    let host = match &case.facts.host {
        Fact::Known(host) => host,
        Fact::Unknown(why) => {
            violations.undecided("", format!("the kernel's parameters are not known: {why}"));
            return;
        }
    };
    for (name, weak, accepted) in PARAMETERS {
        let Some(text) = host.parameters.get(*name) else {
            continue;
        };
        match text.trim().parse::<i64>() {
            Ok(value) if weak(value) => {
                violations
                    .report("", format!("{name} is {value}"), *accepted)
                    .sub_key(*name);
            }
            Ok(_) => {}
            Err(_) => {
                violations
                    .undecided("", format!("{name} is {text:?}, which is no number"))
                    .sub_key(*name);
            }
        }
    }
}

static HOST_02: Rule = Rule {
    id: "HOST-02",
    title: "control groups of version 2",
    meaning: "Control groups of version 1 are mounted, alone or beside version 2.",
    why: "A hierarchy of version 1 has a release_agent: a path of a program that the kernel runs as root of the host when a group becomes empty. Who can write it is root on the host. Version 2 has nothing like it, and limits what version 1 does not.",
    stops: &["CVE-2022-0492 (release_agent)"],
    fields: &[],
    levels: Levels::new(Level::Audit, Level::Audit, Level::Audit),
    hardening: "",
    remedies: Remedies {
        docker: "On the host: boot with systemd.unified_cgroup_hierarchy=1, which has been the default of systemd since version 247.",
        kubernetes: "On the node: boot with systemd.unified_cgroup_hierarchy=1, which has been the default of systemd since version 247.",
        config: "Nothing in config.json: boot with systemd.unified_cgroup_hierarchy=1, which has been the default of systemd since version 247.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "",
        nsa: "",
        nist_800_190: "4.5.2",
    },
    facts: &[FactKind::Host, FactKind::Cgroup],
    check: legacy_cgroups,
};

fn legacy_cgroups(case: &Case<'_>, violations: &mut Violations) {
    match &case.facts.cgroup {
        Fact::Known(cgroup) if cgroup.mode == CgroupMode::Unified => {}
        Fact::Known(cgroup) => {
            let found = match cgroup.mode {
                CgroupMode::Hybrid => "control groups of version 1 are mounted beside version 2",
                _ => "control groups of version 1 are mounted",
            };
            violations.report("", found, "control groups of version 2 alone");
        }
        Fact::Unknown(why) => {
            violations.undecided("", format!("how control groups are mounted is not known: {why}"));
        }
    }
}

static HOST_03: Rule = Rule {
    id: "HOST-03",
    title: "the runtime and its policy are root's alone",
    meaning: "The running gabion could be written through /proc/<pid>/exe, or its binary or a policy file can \
              be written or replaced by someone other than root. In a user namespace in which the host's root has \
              no id (podman without root), a file of an owner without an id is taken for root's below /usr, /opt \
              and /etc alone. Or a bind mount's source is, contains or lies \
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
        ..Remedies::AS_DOCKER
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
                    "a file of root's, in directories of root's, that nobody else may write; in a user namespace \
                     without the host's root, such as podman's without root, below /usr, /opt or /etc",
                )
                .sub_key(sub_key);
        }
    }
}

static HOST_04: Rule = Rule {
    id: "HOST-04",
    title: "modules that containers have no use for cannot be loaded",
    meaning: "A module of a rarely used protocol or cipher is loaded, or nothing keeps the kernel from loading it when a process asks for its socket: algif_aead, algif_hash, algif_skcipher, algif_rng, rxrpc, esp4, esp6, af_key, vsock, n_hdlc, sctp, dccp, tipc, rds.",
    why: "The kernel loads such a module as soon as any process in any container opens a socket of its kind, and most of the recent ways from a container to root were holes in one of them. The default seccomp profile forbids the sockets; a container that runs without a filter has them.",
    stops: &[
        "CVE-2026-31431 (Copy Fail, algif_aead)",
        "CVE-2026-43284 and CVE-2026-43500 (ESP and RxRPC)",
    ],
    fields: &[],
    levels: Levels::new(Level::Audit, Level::Audit, Level::Audit),
    hardening: "",
    remedies: Remedies {
        docker: "On the host: write install NAME /bin/false into a file in /etc/modprobe.d for each module that is not in use.",
        kubernetes: "On the node: write install NAME /bin/false into a file in /etc/modprobe.d for each module that is not in use.",
        config: "Nothing in config.json: write install NAME /bin/false into a file in /etc/modprobe.d for each module that is not in use.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "1.1",
        nsa: "",
        nist_800_190: "4.5.1",
    },
    facts: &[FactKind::Host],
    check: modules,
};

/// The modules that HOST-04 looks at.
pub const MODULES: [&str; 14] = [
    "algif_aead",
    "algif_hash",
    "algif_skcipher",
    "algif_rng",
    "rxrpc",
    "esp4",
    "esp6",
    "af_key",
    "vsock",
    "n_hdlc",
    "sctp",
    "dccp",
    "tipc",
    "rds",
];

fn modules(case: &Case<'_>, violations: &mut Violations) {
    match &case.facts.host {
        Fact::Known(host) => {
            for name in MODULES {
                let found = match host.modules.get(name) {
                    Some(ModuleState::Loaded) => format!("the module {name} is loaded"),
                    Some(ModuleState::Loadable) => format!("the kernel may load the module {name} by itself"),
                    None => continue,
                };
                violations
                    .report(
                        "",
                        found,
                        format!("install {name} /bin/false in /etc/modprobe.d, unless it is in use"),
                    )
                    .sub_key(name);
            }
        }
        Fact::Unknown(why) => {
            violations.undecided("", format!("the kernel's modules are not known: {why}"));
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
            restrictions: Vec::new(),
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

    fn of_the_host(tell: impl FnOnce(&mut crate::facts::Facts)) -> Table {
        let mut table = Table::of(Profile::Restricted).knowing(tell);
        table.operation = Operation::Host;
        table
    }

    fn nothing() -> serde_json::Value {
        json!({"ociVersion": "1.2.0"})
    }

    #[test]
    fn weak_parameters_are_recorded_one_by_one_and_refuse_nothing() {
        let host = |parameters: &[(&str, &str)]| crate::facts::HostFact {
            parameters: parameters
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            ..Default::default()
        };
        for (name, weak, strong) in [
            ("user.max_user_namespaces", "31000", "0"),
            ("kernel.unprivileged_bpf_disabled", "0", "2"),
            ("kernel.io_uring_disabled", "0", "1"),
            ("vm.unprivileged_userfaultfd", "1", "0"),
            ("dev.tty.legacy_tiocsti", "1", "0"),
            ("kernel.yama.ptrace_scope", "0", "3"),
            ("kernel.kptr_restrict", "0", "1"),
            ("kernel.dmesg_restrict", "0", "1"),
            ("fs.protected_symlinks", "0", "1"),
            ("fs.protected_hardlinks", "0", "1"),
            ("fs.protected_fifos", "0", "2"),
            ("fs.protected_regular", "0", "1"),
        ] {
            let verdicts = |value: &str| {
                of_the_host(|facts| facts.host = known(host(&[(name, value)])))
                    .verdicts("HOST-01", &nothing())
            };
            assert_eq!(verdicts(weak), [format!("audit HOST-01:{name} ")]);
            assert_eq!(verdicts(strong), [""; 0], "{name}");
            assert_eq!(verdicts("x"), [format!("audit HOST-01:{name} ")], "not a number");
        }
        let none = of_the_host(|facts| facts.host = known(host(&[])));
        assert_eq!(none.verdicts("HOST-01", &nothing()), [""; 0]);
        assert!(of_the_host(|_| ()).findings("HOST-01", &nothing())[0].undecided);
    }

    #[test]
    fn what_is_true_of_the_host_is_not_told_with_each_container() {
        let create = Table::of(Profile::Restricted).knowing(|facts| facts.host = known(Default::default()));
        for rule in ["HOST-01", "HOST-02", "HOST-04"] {
            assert_eq!(create.verdicts(rule, &nothing()), [""; 0]);
        }
        // And nothing but the host is looked at where there is no bundle.
        let host = of_the_host(|_| ());
        let allegation = crate::Allegation::from_document(nothing()).unwrap();
        let judgement = crate::judge(&allegation, &host.facts, &host.policy, &host.operation).unwrap();
        assert!(
            judgement
                .findings()
                .iter()
                .all(|finding| finding.rule.starts_with("HOST-0"))
        );
        assert_eq!(judgement.findings().len(), 3);
    }

    #[test]
    fn control_groups_of_version_1_are_recorded() {
        let verdicts = |mode| {
            of_the_host(|facts| {
                facts.cgroup = known(crate::facts::CgroupFact {
                    mode,
                    occupied: None,
                    ancestor_pids_limit: None,
                })
            })
            .verdicts("HOST-02", &nothing())
        };
        assert_eq!(verdicts(CgroupMode::Unified), [""; 0]);
        assert_eq!(verdicts(CgroupMode::Hybrid), ["audit HOST-02 "]);
        assert_eq!(verdicts(CgroupMode::Legacy), ["audit HOST-02 "]);
        assert!(of_the_host(|_| ()).findings("HOST-02", &nothing())[0].undecided);
    }

    #[test]
    fn modules_are_recorded_if_they_are_or_could_be_loaded() {
        let verdicts = |modules: &[(&str, ModuleState)]| {
            of_the_host(|facts| {
                facts.host = known(crate::facts::HostFact {
                    modules: modules
                        .iter()
                        .map(|(name, state)| ((*name).to_owned(), *state))
                        .collect(),
                    ..Default::default()
                })
            })
            .verdicts("HOST-04", &nothing())
        };
        assert_eq!(verdicts(&[]), [""; 0]);
        assert_eq!(verdicts(&[("ext4", ModuleState::Loaded)]), [""; 0]);
        assert_eq!(
            verdicts(&[("rxrpc", ModuleState::Loaded), ("esp4", ModuleState::Loadable)]),
            ["audit HOST-04:rxrpc ", "audit HOST-04:esp4 "]
        );
        assert!(of_the_host(|_| ()).findings("HOST-04", &nothing())[0].undecided);
    }
}
