//! Linux security modules: AppArmor (apparmor(7)) and SELinux (selinux(8)).
//!
//! Both are asked for by a label in config.json and only mean something if the kernel has the module and, for
//! AppArmor, the profile. Which modules there are is a fact ([`LsmFact`]).

use crate::change::Change;
use crate::config::Process;
use crate::facts::{Fact, FactKind, LsmFact, SelinuxMode};
use crate::pointer::Pointer;
use crate::profile::{Level, Levels};
use crate::rule::{Case, Mappings, Remedies, Rule, Violations};

/// The rules of this topic.
pub static RULES: &[&Rule] = &[&LSM_01, &LSM_02, &LSM_03, &LSM_04];

/// The AppArmor profiles that engines load for their containers, the most common first; podman's ends with
/// its version.
const ENGINE_PROFILES: [&str; 3] = ["docker-default", "cri-containerd.apparmor.d", "crio-default"];
const PODMAN_PROFILES: &str = "containers-default-";

/// The SELinux types of processes in containers (container_selinux(8)).
pub const CONTAINER_TYPES: [&str; 4] = [
    "container_t",
    "container_init_t",
    "container_kvm_t",
    "container_engine_t",
];

static LSM_01: Rule = Rule {
    id: "LSM-01",
    title: "confined by AppArmor where there is AppArmor",
    meaning: "The kernel has AppArmor enabled, and process.apparmorProfile is absent, null, empty or \
              \"unconfined\".",
    why: "An engine's default profile forbids mounting and writing to the parts of /proc and /sys that \
          control the host, and it still stands when a seccomp filter or a mask has a hole.",
    stops: &[
        "CVE-2022-0492 (release_agent)",
        "writing to /proc/sys and /sys by way of a hole in the masks",
    ],
    fields: &["/process/apparmorProfile"],
    levels: Levels::new(Level::Audit, Level::Harden, Level::Deny),
    hardening: "an engine's default profile (docker-default, cri-containerd.apparmor.d, crio-default, \
                containers-default-*) is filled in where one is loaded and enforced; gabion has no profile \
                of its own yet, so where none is, baseline records the violation and restricted refuses",
    remedies: Remedies {
        docker: "Remove --security-opt apparmor=unconfined and --privileged; if Docker sets no profile by \
                 itself, install the package apparmor and restart the daemon, which then loads \
                 docker-default.",
        podman: "Remove --security-opt apparmor=unconfined and --privileged; if podman sets no profile by \
                 itself, install the package apparmor: podman then loads its own.",
        ctr: "Add --apparmor-default-profile cri-containerd.apparmor.d.",
        kubernetes: "Set securityContext.appArmorProfile.type: RuntimeDefault on the pod (before 1.30 the \
                     annotation container.apparmor.security.beta.kubernetes.io/NAME: runtime/default), and \
                     install apparmor on the node.",
        config: "Set process.apparmorProfile to a profile that `aa-status` lists in enforce mode.",
    },
    mappings: Mappings {
        pss: "AppArmor (baseline)",
        cis_docker: "5.2",
        nsa: "pod security enforcement",
        nist_800_190: "4.4.3",
    },
    facts: &[FactKind::Lsm],
    check: apparmor_confines,
};

fn apparmor_confines(case: &Case<'_>, violations: &mut Violations) {
    let Some(process) = case.config.process.value() else {
        return;
    };
    let found = match process.apparmor_profile.value().map(String::as_str) {
        None => process.apparmor_profile.presence().to_owned(),
        Some("") => "empty".to_owned(),
        Some("unconfined") => "\"unconfined\"".to_owned(),
        Some(_) => return,
    };
    let place = "/process/apparmorProfile";
    let lsm = match &case.facts.lsm {
        Fact::Known(lsm) if lsm.apparmor => lsm,
        Fact::Known(_) => return,
        Fact::Unknown(why) => {
            violations.undecided(
                place,
                format!("{found}; whether the host has AppArmor is not known: {why}"),
            );
            return;
        }
    };
    let accepted = "a loaded profile in enforce mode, such as \"docker-default\"";
    match engine_profile(lsm) {
        Some(profile) => {
            violations
                .report(place, format!("{found}, on a host with AppArmor"), accepted)
                .fix(Change::SetApparmorProfile {
                    profile: profile.to_owned(),
                });
        }
        None => {
            violations
                .report(
                    place,
                    format!(
                        "{found}, on a host with AppArmor where no engine's profile is known to be enforced"
                    ),
                    accepted,
                )
                .levels(Levels::new(Level::Audit, Level::Audit, Level::Deny));
        }
    }
}

/// The default profile of an engine that is loaded and enforced.
fn engine_profile(lsm: &LsmFact) -> Option<&str> {
    let profiles = lsm.apparmor_profiles.as_ref()?;
    ENGINE_PROFILES
        .into_iter()
        .find(|name| lsm.is_enforced(name) == Some(true))
        .or_else(|| {
            let names = profiles.keys().map(String::as_str);
            names
                .rev()
                .find(|name| name.starts_with(PODMAN_PROFILES) && lsm.is_enforced(name) == Some(true))
        })
}

static LSM_02: Rule = Rule {
    id: "LSM-02",
    title: "the AppArmor profile is loaded and enforced",
    meaning: "process.apparmorProfile names a profile that is not loaded, or one in a mode that forbids \
              nothing, such as complain. \"unconfined\" is LSM-01's.",
    why: "A misspelt or unloaded profile, or one left in complain mode after a debugging session, reads like \
          confinement in every manifest and confines nothing.",
    stops: &["profiles that protect on paper only"],
    fields: &["/process/apparmorProfile"],
    levels: Levels::new(Level::Audit, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Load the profile with apparmor_parser -r FILE, set it to enforce with aa-enforce, or name \
                 another with --security-opt apparmor=NAME.",
        ctr: "Load the profile with apparmor_parser -r FILE, set it to enforce with aa-enforce, or name \
              another with --apparmor-profile.",
        kubernetes: "Load the profile on every node the pod can run on, or use \
                     securityContext.appArmorProfile.type: RuntimeDefault.",
        config: "Set process.apparmorProfile to a profile that `aa-status` lists in enforce mode.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "AppArmor (baseline)",
        cis_docker: "5.2",
        nsa: "",
        nist_800_190: "4.4.3",
    },
    facts: &[FactKind::Lsm],
    check: apparmor_enforces,
};

fn apparmor_enforces(case: &Case<'_>, violations: &mut Violations) {
    let Some(profile) = case.config.process.value().and_then(named_profile) else {
        return;
    };
    let place = "/process/apparmorProfile";
    let lsm = match &case.facts.lsm {
        Fact::Known(lsm) if lsm.apparmor => lsm,
        // A name without a module is LSM-04's.
        Fact::Known(_) => return,
        Fact::Unknown(why) => {
            violations.undecided(
                place,
                format!("whether {profile:?} is loaded is not known: {why}"),
            );
            return;
        }
    };
    let Some(profiles) = &lsm.apparmor_profiles else {
        violations.undecided(
            place,
            format!(
                "whether {profile:?} is loaded is not known: the kernel's list of profiles cannot be read"
            ),
        );
        return;
    };
    let accepted = "a loaded profile in enforce mode";
    match profiles.get(profile) {
        None => {
            violations.report(place, format!("{profile:?} is not loaded"), accepted);
        }
        Some(mode) if lsm.is_enforced(profile) != Some(true) => {
            violations.report(
                place,
                format!("{profile:?} is loaded in mode {mode:?}, which forbids nothing"),
                accepted,
            );
        }
        Some(_) => {}
    }
}

/// The AppArmor profile that is asked for, if one is.
fn named_profile(process: &Process) -> Option<&str> {
    process
        .apparmor_profile
        .value()
        .map(String::as_str)
        .filter(|name| !name.is_empty() && *name != "unconfined")
}

static LSM_03: Rule = Rule {
    id: "LSM-03",
    title: "confined by SELinux where SELinux enforces",
    meaning: "SELinux is enforcing, and process.selinuxLabel is absent, null or empty, or its type is not \
              one of container_t, container_init_t, container_kvm_t and container_engine_t; or it is set \
              without linux.mountLabel.",
    why: "A type such as spc_t or unconfined_t is SELinux turned off for this workload. With container_t the \
          policy stands between the workload and every file of the host that is not labelled for it, \
          whatever else fails. A label cannot be filled in: its categories are given out by the engine, so \
          that two containers differ. Docker without selinux-enabled and `ctr` send no label at all; \
          baseline records that and refuses types that were chosen.",
    stops: &[
        "CVE-2019-5736 on hosts that enforce",
        "files of the host opened through any escape",
    ],
    fields: &["/process/selinuxLabel", "/linux/mountLabel"],
    levels: Levels::new(Level::Audit, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Set \"selinux-enabled\": true in /etc/docker/daemon.json, and remove --security-opt \
                 label=disable, label=type:spc_t and --privileged.",
        podman: "Remove --security-opt label=disable, label=type:spc_t and --privileged: podman labels \
                 containers by itself.",
        kubernetes: "Remove securityContext.seLinuxOptions.type, or set it to container_t; set \
                     enable_selinux = true in containerd's CRI configuration.",
        config: "Set process.selinuxLabel to a label such as system_u:system_r:container_t:s0:c1,c2 and \
                 linux.mountLabel to system_u:object_r:container_file_t:s0:c1,c2.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "SELinux (baseline)",
        cis_docker: "5.3",
        nsa: "pod security enforcement",
        nist_800_190: "4.4.3",
    },
    facts: &[FactKind::Lsm],
    check: selinux_confines,
};

fn selinux_confines(case: &Case<'_>, violations: &mut Violations) {
    let Some(process) = case.config.process.value() else {
        return;
    };
    let place = "/process/selinuxLabel";
    match &case.facts.lsm {
        Fact::Known(lsm) if lsm.selinux == SelinuxMode::Enforcing => {}
        Fact::Known(_) => return,
        Fact::Unknown(why) => {
            // A label that is right needs no enforcing to be right.
            if !selinux_type(process).is_some_and(|kind| CONTAINER_TYPES.contains(&kind)) {
                violations.undecided(
                    place,
                    format!("whether SELinux enforces on the host is not known: {why}"),
                );
            }
            return;
        }
    }
    let accepted =
        "a label whose type is container_t, container_init_t, container_kvm_t or container_engine_t";
    let Some(label) = process.selinux_label.value().filter(|label| !label.is_empty()) else {
        let found = match process.selinux_label.value() {
            Some(_) => "empty",
            None => process.selinux_label.presence(),
        };
        violations
            .report(
                place,
                format!("{found}, on a host where SELinux enforces"),
                accepted,
            )
            .levels(Levels::new(Level::Audit, Level::Audit, Level::Deny));
        return;
    };
    if !selinux_type(process).is_some_and(|kind| CONTAINER_TYPES.contains(&kind)) {
        violations.report(place, format!("{label:?} has no type of a container"), accepted);
    }
    let mount_label = case
        .config
        .linux
        .value()
        .and_then(|linux| linux.mount_label.value());
    if mount_label.is_none_or(String::is_empty) {
        violations.report(
            "/linux/mountLabel",
            "missing, so the container's files have the label of the host's or none",
            "a label such as \"system_u:object_r:container_file_t:s0:c1,c2\"",
        );
    }
}

/// The type in the process' SELinux label, `user:role:type:level`.
fn selinux_type(process: &Process) -> Option<&str> {
    process.selinux_label.value()?.split(':').nth(2)
}

static LSM_04: Rule = Rule {
    id: "LSM-04",
    title: "no label for a security module that is not there",
    meaning: "process.apparmorProfile or process.selinuxLabel is set, and the kernel does not have that \
              module active.",
    why: "The author counts on a confinement that this host cannot give. A runtime that writes the label \
          into the void reports success.",
    stops: &["labels lost without a message, as in CVE-2019-16884, CVE-2023-28642 and CVE-2025-52881"],
    fields: &["/process/apparmorProfile", "/process/selinuxLabel"],
    levels: Levels::new(Level::Audit, Level::Audit, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Boot the host with the module (apparmor=1 security=apparmor, or selinux=1), or remove the \
                 --security-opt apparmor or label.",
        ctr: "Remove --apparmor-profile and --apparmor-default-profile, or boot the host with the module.",
        kubernetes: "Run the pod on nodes that have the module (a nodeSelector), or remove appArmorProfile \
                     or seLinuxOptions from its securityContext.",
        config: "Remove the property, or enable the module on the host.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "5.2, 5.3",
        nsa: "",
        nist_800_190: "4.4.3",
    },
    facts: &[FactKind::Lsm],
    check: module_is_there,
};

fn module_is_there(case: &Case<'_>, violations: &mut Violations) {
    let Some(process) = case.config.process.value() else {
        return;
    };
    let selinux_label = process
        .selinux_label
        .value()
        .map(String::as_str)
        .filter(|label| !label.is_empty());
    for (key, module, label) in [
        ("apparmorProfile", "AppArmor", named_profile(process)),
        ("selinuxLabel", "SELinux", selinux_label),
    ] {
        let Some(label) = label else { continue };
        let place = Pointer::at("/process").key(key);
        match &case.facts.lsm {
            Fact::Known(lsm) if module == "AppArmor" && lsm.apparmor => {}
            Fact::Known(lsm) if module == "SELinux" && lsm.selinux != SelinuxMode::Off => {}
            Fact::Known(_) => {
                violations
                    .report(
                        place,
                        format!("{label:?}, on a host without {module}"),
                        format!("a host with {module}, or no label for it"),
                    )
                    .sub_key(key);
            }
            Fact::Unknown(why) => {
                violations
                    .undecided(
                        place,
                        format!("whether the host has {module} is not known: {why}"),
                    )
                    .sub_key(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{findings, hardened, host, offline, table};
    use super::*;
    use crate::facts::Facts;
    use crate::profile::Profile;

    fn apparmor(profiles: Option<&[(&str, &str)]>) -> Facts {
        let profiles = profiles.map(|list| {
            list.iter()
                .map(|(name, mode)| ((*name).to_owned(), (*mode).to_owned()))
                .collect()
        });
        Facts {
            lsm: Fact::Known(LsmFact {
                apparmor: true,
                apparmor_profiles: profiles,
                ..LsmFact::default()
            }),
            ..host()
        }
    }

    fn selinux(mode: SelinuxMode) -> Facts {
        Facts {
            lsm: Fact::Known(LsmFact {
                selinux: mode,
                ..LsmFact::default()
            }),
            ..host()
        }
    }

    fn unknown() -> Facts {
        Facts {
            lsm: Fact::Unknown("sysfs is not mounted".to_owned()),
            ..host()
        }
    }

    fn profile(name: Value) -> Value {
        json!({"process": {"cwd": "/", "apparmorProfile": name}})
    }

    const AT: &str = "/process/apparmorProfile";

    fn columns(levels: [&str; 3], place: &str) -> [String; 3] {
        levels.map(|level| {
            if level.is_empty() {
                String::new()
            } else {
                format!("{level} {place}")
            }
        })
    }

    #[test]
    fn an_engines_enforced_profile_is_filled_in_where_apparmor_is_on() {
        let loaded = apparmor(Some(&[("docker-default", "enforce"), ("firefox", "enforce")]));
        let violated = columns(["audit", "harden", "deny"], AT);
        let violated = violated.each_ref().map(String::as_str);
        table(
            "LSM-01",
            &loaded,
            &[
                ("absent", json!({"process": {"cwd": "/"}}), violated),
                ("null", profile(json!(null)), violated),
                ("empty", profile(json!("")), violated),
                ("unconfined", profile(json!("unconfined")), violated),
                ("a profile", profile(json!("docker-default")), ["", "", ""]),
                ("no process", json!({}), ["", "", ""]),
            ],
        );
        let filled = |facts: &Facts| {
            let after = hardened("LSM-01", Profile::Baseline, &profile(json!("unconfined")), facts);
            after["process"]["apparmorProfile"].clone()
        };
        assert_eq!(filled(&loaded), "docker-default");
        let later = [
            ("containers-default-0.44.4", "enforce"),
            ("containers-default-0.62.2", "complain"),
            ("x", "enforce"),
        ];
        assert_eq!(filled(&apparmor(Some(&later))), "containers-default-0.44.4");
        let both = [
            ("cri-containerd.apparmor.d", "kill"),
            ("docker-default", "complain"),
        ];
        assert_eq!(filled(&apparmor(Some(&both))), "cri-containerd.apparmor.d");
    }

    #[test]
    fn without_an_enforced_profile_to_fill_in_baseline_records_and_restricted_refuses() {
        let violated = columns(["audit", "audit", "deny"], AT);
        for facts in [
            apparmor(None),
            apparmor(Some(&[])),
            apparmor(Some(&[("docker-default", "complain"), ("firefox", "enforce")])),
        ] {
            let row = (
                "unconfined",
                profile(json!("unconfined")),
                violated.each_ref().map(String::as_str),
            );
            table("LSM-01", &facts, &[row]);
        }
        table(
            "LSM-01",
            &host(),
            &[("no AppArmor", profile(json!("unconfined")), ["", "", ""])],
        );
        let undecided = columns(["audit", "deny", "deny"], &format!("{AT} undecided"));
        table(
            "LSM-01",
            &unknown(),
            &[
                (
                    "not known",
                    profile(json!(null)),
                    undecided.each_ref().map(String::as_str),
                ),
                (
                    "not known and not needed",
                    profile(json!("docker-default")),
                    ["", "", ""],
                ),
            ],
        );
        let elsewhere = offline("LSM-01", Profile::Restricted, &profile(json!(null)), &unknown());
        assert_eq!(elsewhere, format!("audit {AT} undecided"));
    }

    #[test]
    fn a_named_profile_must_be_loaded_and_must_forbid() {
        let facts = apparmor(Some(&[
            ("mine", "enforce"),
            ("draft", "complain"),
            ("open", "unconfined"),
            ("hard", "kill"),
        ]));
        let violated = columns(["audit", "deny", "deny"], AT);
        let violated = violated.each_ref().map(String::as_str);
        table(
            "LSM-02",
            &facts,
            &[
                ("absent", json!({"process": {"cwd": "/"}}), ["", "", ""]),
                ("null", profile(json!(null)), ["", "", ""]),
                ("empty", profile(json!("")), ["", "", ""]),
                (
                    "unconfined is another rule's",
                    profile(json!("unconfined")),
                    ["", "", ""],
                ),
                ("enforced", profile(json!("mine")), ["", "", ""]),
                ("enforced by killing", profile(json!("hard")), ["", "", ""]),
                ("misspelt", profile(json!("Mine")), violated),
                ("complain", profile(json!("draft")), violated),
                ("a profile that is unconfined", profile(json!("open")), violated),
            ],
        );
        let found = findings("LSM-02", Profile::Baseline, &profile(json!("draft")), &facts);
        assert_eq!(
            found[0].found,
            "\"draft\" is loaded in mode \"complain\", which forbids nothing"
        );
        table(
            "LSM-02",
            &host(),
            &[(
                "no AppArmor is another rule's",
                profile(json!("mine")),
                ["", "", ""],
            )],
        );
        let undecided = columns(["audit", "deny", "deny"], &format!("{AT} undecided"));
        for facts in [unknown(), apparmor(None)] {
            table(
                "LSM-02",
                &facts,
                &[(
                    "not known",
                    profile(json!("mine")),
                    undecided.each_ref().map(String::as_str),
                )],
            );
        }
    }

    fn labels(process: Value, mount: Value) -> Value {
        json!({"process": {"cwd": "/", "selinuxLabel": process}, "linux": {"mountLabel": mount}})
    }

    const CONTAINER: &str = "system_u:system_r:container_t:s0:c1,c2";
    const FILES: &str = "system_u:object_r:container_file_t:s0:c1,c2";

    #[test]
    fn where_selinux_enforces_the_label_is_a_containers() {
        let at = "/process/selinuxLabel";
        let missing = columns(["audit", "audit", "deny"], at);
        let missing = missing.each_ref().map(String::as_str);
        let wrong = columns(["audit", "deny", "deny"], at);
        let wrong = wrong.each_ref().map(String::as_str);
        let files = columns(["audit", "deny", "deny"], "/linux/mountLabel");
        let files = files.each_ref().map(String::as_str);
        let enforcing = selinux(SelinuxMode::Enforcing);
        table(
            "LSM-03",
            &enforcing,
            &[
                ("absent", json!({"process": {"cwd": "/"}}), missing),
                ("null", labels(json!(null), json!(null)), missing),
                ("empty", labels(json!(""), json!("")), missing),
                (
                    "a container's",
                    labels(json!(CONTAINER), json!(FILES)),
                    ["", "", ""],
                ),
                (
                    "spc_t",
                    labels(json!("system_u:system_r:spc_t:s0"), json!(FILES)),
                    wrong,
                ),
                (
                    "a near miss",
                    labels(json!("system_u:system_r:container_t2:s0"), json!(FILES)),
                    wrong,
                ),
                (
                    "a type in the role's place",
                    labels(json!("u:container_t:spc_t:s0"), json!(FILES)),
                    wrong,
                ),
                (
                    "no label at all",
                    labels(json!("container_t"), json!(FILES)),
                    wrong,
                ),
                (
                    "files without a label",
                    labels(json!(CONTAINER), json!(null)),
                    files,
                ),
                (
                    "files with an empty one",
                    labels(json!(CONTAINER), json!("")),
                    files,
                ),
            ],
        );
        for mode in [SelinuxMode::Off, SelinuxMode::Permissive] {
            table(
                "LSM-03",
                &selinux(mode),
                &[("not enforcing", labels(json!(null), json!(null)), ["", "", ""])],
            );
        }
        let undecided = columns(["audit", "deny", "deny"], &format!("{at} undecided"));
        table(
            "LSM-03",
            &unknown(),
            &[
                (
                    "not known",
                    labels(json!(null), json!(null)),
                    undecided.each_ref().map(String::as_str),
                ),
                (
                    "a container's is right anyway",
                    labels(json!(CONTAINER), json!(FILES)),
                    ["", "", ""],
                ),
            ],
        );
    }

    #[test]
    fn a_label_for_a_module_that_is_not_there_is_recorded_and_refused_by_restricted() {
        let apparmor_row =
            columns(["audit", "audit", "deny"], AT).map(|text| format!("apparmorProfile {text}"));
        let selinux_row = columns(["audit", "audit", "deny"], "/process/selinuxLabel")
            .map(|text| format!("selinuxLabel {text}"));
        table(
            "LSM-04",
            &host(),
            &[
                ("absent", json!({"process": {"cwd": "/"}}), ["", "", ""]),
                ("null", labels(json!(null), json!(null)), ["", "", ""]),
                ("empty", labels(json!(""), json!("")), ["", "", ""]),
                (
                    "unconfined asks for nothing",
                    profile(json!("unconfined")),
                    ["", "", ""],
                ),
                (
                    "a profile",
                    profile(json!("docker-default")),
                    apparmor_row.each_ref().map(String::as_str),
                ),
                (
                    "a label",
                    labels(json!(CONTAINER), json!(FILES)),
                    selinux_row.each_ref().map(String::as_str),
                ),
            ],
        );
        let permissive = selinux(SelinuxMode::Permissive);
        table(
            "LSM-04",
            &permissive,
            &[("active", labels(json!(CONTAINER), json!(FILES)), ["", "", ""])],
        );
        let loaded = apparmor(Some(&[]));
        table(
            "LSM-04",
            &loaded,
            &[("active", profile(json!("docker-default")), ["", "", ""])],
        );
        let undecided = [
            format!("apparmorProfile audit {AT} undecided"),
            format!("apparmorProfile audit {AT} undecided"),
            format!("apparmorProfile deny {AT} undecided"),
        ];
        let row = (
            "not known",
            profile(json!("docker-default")),
            undecided.each_ref().map(String::as_str),
        );
        table("LSM-04", &unknown(), &[row]);
    }
}
