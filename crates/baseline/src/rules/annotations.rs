//! Annotations: free text, set by engines and by everyone who may talk to them.
//!
//! Some runtimes take orders from them. gabion takes one, the choice of a stricter profile:
//!
//! ```json
//! "annotations": {"org.gabion.profile": "restricted"}
//! ```

use crate::config::Config;
use crate::pointer::Pointer;
use crate::profile::{Level, Levels, Profile};
use crate::rule::{Case, Mappings, Remedies, Rule, Violations};

/// The rules of this topic.
pub static RULES: &[&Rule] = &[&ANN_01, &ANN_02, &ANN_03];

/// The annotation by which a container asks for a stricter profile.
pub const PROFILE: &str = "org.gabion.profile";

/// All annotations with this prefix are gabion's own.
const OURS: &str = "org.gabion.";

/// Properties of a systemd unit that grant nothing: when and how its own processes end, or what engines set of their own
/// accord.
const HARMLESS_UNIT_PROPERTIES: [&str; 9] = [
    "CollectMode",
    "TimeoutStopUSec",
    "TimeoutStopSec",
    "RuntimeMaxUSec",
    "RuntimeMaxSec",
    "KillSignal",
    "DefaultDependencies",
    "After",
    "Requires",
];

static ANN_01: Rule = Rule {
    id: "ANN-01",
    title: "no annotation steers a runtime",
    meaning: "annotations has run.oci.*, module.wasm.*, org.criu.config, io.podman.annotations.seccomp with the value \
              unconfined, or org.systemd.property.* other than CollectMode, TimeoutStopUSec, TimeoutStopSec, RuntimeMaxUSec, \
              RuntimeMaxSec, KillSignal, DefaultDependencies, After and Requires.",
    why: "Other runtimes obey these: they replace the seccomp profile, choose another program as handler, or \
          set properties of the systemd unit, commands that run as root included. gabion obeys none of them, \
          and what their author wanted would silently not happen.",
    stops: &[
        "CVE-2024-3154 (org.systemd.property.*)",
        "CVE-2025-24965 (handlers)",
        "run.oci.seccomp_bpf_data",
    ],
    fields: &["/annotations/*"],
    levels: Levels::new(Level::Audit, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Remove the --annotation flag; use --security-opt, --runtime and the limits of docker run.",
        ctr: "Remove the --annotation flag; use --seccomp-profile, --apparmor-profile and the limits of ctr \
              run.",
        kubernetes: "Remove the annotation from the pod, and from the engine's allowed_annotations; use a \
                     RuntimeClass and securityContext.",
        config: "Remove the key from annotations; put seccomp into linux.seccomp.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.4.1",
    },
    facts: &[],
    check: steering,
};

static ANN_02: Rule = Rule {
    id: "ANN-02",
    title: "an annotation may ask for a stricter profile only",
    meaning: "The annotation org.gabion.profile names no profile, or one weaker than the policy's; or there is \
              another annotation that begins with org.gabion.",
    why: "Whoever may start containers may write annotations. If one could loosen the baseline, the baseline \
          would protect from nobody; if a misspelled one passed, its author would believe in a protection \
          that is not there.",
    stops: &["choosing a weaker profile from inside a pod or with docker run --annotation"],
    fields: &["/annotations/org.gabion.profile", "/annotations/*"],
    levels: Levels::new(Level::Deny, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Remove --annotation org.gabion.profile=…, or ask for restricted. A weaker profile is chosen in \
                 /etc/gabion/policy.toml.",
        kubernetes: "Remove the annotation org.gabion.profile, or ask for restricted. A weaker profile is chosen \
                     on the node, by the handler of a RuntimeClass.",
        config: "Remove the annotation, or write \"org.gabion.profile\": \"restricted\".",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.4.3",
    },
    facts: &[],
    check: selector,
};

static ANN_03: Rule = Rule {
    id: "ANN-03",
    title: "devices injected by annotation are recorded",
    meaning: "annotations has cdi.k8s.io/*, which asks the engine for devices by the Container Device Interface.",
    why: "What such a device brings along (nodes, mounts, hooks that run as root) is written in a file of the \
          host, not in the pod.",
    stops: &["CVE-2026-53492 (devices and hooks smuggled through annotations)"],
    fields: &["/annotations/*"],
    levels: Levels::new(Level::Off, Level::Audit, Level::Audit),
    hardening: "",
    remedies: Remedies {
        docker: "Ask with --device vendor.com/class=name, which leaves no annotation.",
        kubernetes: "Nothing to do if a device plugin set it; otherwise remove it.",
        config: "Remove the key from annotations.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "5.18",
        nsa: "",
        nist_800_190: "3.4.3",
    },
    facts: &[],
    check: injected_devices,
};

/// The profile that a configuration asks for by annotation, if it names one.
///
/// The caller honours it only where it is stricter than the policy's, by judging under it; a weaker one, and
/// one that does not exist, is refused by ANN-02.
pub fn requested_profile(config: &Config) -> Option<Profile> {
    config.annotations.value()?.get(PROFILE)?.parse().ok()
}

fn annotations<'a>(case: &Case<'a>) -> impl Iterator<Item = (&'a str, &'a str)> {
    let annotations = case.config.annotations.value();
    annotations
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value.as_str()))
}

fn place(key: &str) -> Pointer {
    Pointer::at("/annotations").key(key)
}

fn steering(case: &Case<'_>, violations: &mut Violations) {
    for (key, value) in annotations(case) {
        let what = if key.starts_with("run.oci.") {
            "steers crun"
        } else if key.starts_with("module.wasm.") {
            "chooses a WebAssembly handler"
        } else if key == "org.criu.config" {
            "names a configuration of CRIU's, with programs that CRIU runs as root"
        } else if key == "io.podman.annotations.seccomp" && value == "unconfined" {
            // Any other value is the file whose profile podman has put into linux.seccomp, where it is judged.
            "asks for no seccomp filter"
        } else if key
            .strip_prefix("org.systemd.property.")
            .is_some_and(|p| !HARMLESS_UNIT_PROPERTIES.contains(&p))
        {
            "sets a property of the container's systemd unit"
        } else {
            continue;
        };
        violations
            .report(
                place(key),
                format!("{key:?} ({value:?}) {what}"),
                "no such annotation",
            )
            .sub_key(key.escape_debug().to_string());
    }
}

fn selector(case: &Case<'_>, violations: &mut Violations) {
    for (key, value) in annotations(case).filter(|(key, _)| key.starts_with(OURS)) {
        if key != PROFILE {
            violations.report(
                place(key),
                format!("gabion knows no annotation {key:?}"),
                format!("{PROFILE:?}, the only one"),
            );
            continue;
        }
        let found = match value.parse::<Profile>() {
            Ok(profile) if profile >= case.profile => continue,
            Ok(profile) => format!(
                "asks for the profile {profile}, which is weaker than {}",
                case.profile
            ),
            Err(unknown) => unknown.to_string(),
        };
        violations.report(
            place(key),
            found,
            format!("{}, a stricter profile, or nothing", case.profile),
        );
    }
}

fn injected_devices(case: &Case<'_>, violations: &mut Violations) {
    for (key, value) in annotations(case).filter(|(key, _)| key.starts_with("cdi.k8s.io/")) {
        violations
            .report(
                place(key),
                format!("{key:?} asks for {value:?}"),
                "devices that linux.devices names",
            )
            .sub_key(key.escape_debug().to_string());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::table::{Table, with};
    use super::*;
    use crate::allegation::Allegation;

    fn bundle(key: &str, value: &str) -> Value {
        with("/annotations", json!({key: value}))
    }

    #[test]
    fn annotations_that_steer_other_runtimes_are_refused() {
        for key in [
            "run.oci.handler",
            "org.criu.config",
            "run.oci.seccomp_bpf_data",
            "run.oci.x",
            "module.wasm.image/variant",
            "org.systemd.property.ExecStopPost",
            "org.systemd.property.collectMode",
            "org.systemd.property.",
        ] {
            let verdict = |action| {
                vec![format!(
                    "{action} ANN-01:{key} /annotations/{}",
                    key.replace('/', "~1")
                )]
            };
            let document = bundle(key, "x");
            assert_eq!(
                Table::of(Profile::Privileged).verdicts("ANN-01", &document),
                verdict("audit")
            );
            assert_eq!(
                Table::of(Profile::Baseline).verdicts("ANN-01", &document),
                verdict("deny")
            );
            assert_eq!(
                Table::of(Profile::Restricted).verdicts("ANN-01", &document),
                verdict("deny")
            );
        }
    }

    #[test]
    fn podmans_word_of_no_filter_is_refused_and_its_note_of_a_profile_is_not() {
        let key = "io.podman.annotations.seccomp";
        let verdicts = |value| Table::of(Profile::Baseline).verdicts("ANN-01", &bundle(key, value));
        assert_eq!(
            verdicts("unconfined"),
            [format!("deny ANN-01:{key} /annotations/{key}")]
        );
        for file in ["/etc/seccomp/web.json", "unconfined.json", ""] {
            assert_eq!(verdicts(file), [""; 0], "{file}");
        }
    }

    #[test]
    fn what_engines_write_down_passes() {
        for key in [
            "org.systemd.property.CollectMode",
            "org.systemd.property.TimeoutStopUSec",
            "org.systemd.property.KillSignal",
            "org.systemd.property.RuntimeMaxSec",
            "io.kubernetes.cri.container-type",
            "io.podman.annotations.privileged",
            "io.podman.annotations.seccompx",
            "org.opencontainers.image.stopSignal",
            "run.ocix",
            "module.wasmer",
            "org.gabionx.profile",
        ] {
            for rule in ["ANN-01", "ANN-02", "ANN-03"] {
                assert!(
                    Table::of(Profile::Restricted)
                        .findings(rule, &bundle(key, "x"))
                        .is_empty(),
                    "{key}"
                );
            }
        }
        for nothing in [Value::Null, json!({})] {
            for rule in ["ANN-01", "ANN-02", "ANN-03"] {
                let document = with("/annotations", nothing.clone());
                assert!(
                    Table::of(Profile::Restricted)
                        .findings(rule, &document)
                        .is_empty()
                );
            }
        }
    }

    #[test]
    fn a_profile_may_be_asked_for_that_is_as_strict_or_stricter() {
        for policy in Profile::ALL {
            for asked in Profile::ALL {
                let verdicts = Table::of(policy).verdicts("ANN-02", &bundle(PROFILE, asked.name()));
                if asked >= policy {
                    assert!(verdicts.is_empty(), "{policy} {asked}");
                } else {
                    assert_eq!(
                        verdicts,
                        ["deny ANN-02 /annotations/org.gabion.profile"],
                        "{policy} {asked}"
                    );
                }
            }
            for unknown in ["", "Restricted", " restricted", "none"] {
                let verdicts = Table::of(policy).verdicts("ANN-02", &bundle(PROFILE, unknown));
                assert_eq!(verdicts, ["deny ANN-02 /annotations/org.gabion.profile"]);
            }
        }
        let findings = Table::of(Profile::Restricted).findings("ANN-02", &bundle(PROFILE, "baseline"));
        assert_eq!(
            findings[0].found,
            "asks for the profile baseline, which is weaker than restricted"
        );
    }

    #[test]
    fn a_misspelled_annotation_of_ours_is_denied() {
        for key in ["org.gabion.Profile", "org.gabion.profiles", "org.gabion."] {
            let findings = Table::of(Profile::Privileged).findings("ANN-02", &bundle(key, "restricted"));
            assert_eq!(findings[0].found, format!("gabion knows no annotation {key:?}"));
        }
    }

    #[test]
    fn the_requested_profile_is_the_one_that_was_named() {
        let requested =
            |document: Value| requested_profile(Allegation::from_document(document).unwrap().config());
        assert_eq!(
            requested(bundle(PROFILE, "restricted")),
            Some(Profile::Restricted)
        );
        assert_eq!(
            requested(bundle(PROFILE, "privileged")),
            Some(Profile::Privileged)
        );
        assert_eq!(requested(bundle(PROFILE, "strict")), None);
        assert_eq!(requested(bundle("org.gabion.profil", "restricted")), None);
        assert_eq!(requested(with("/annotations", Value::Null)), None);
    }

    #[test]
    fn injected_devices_are_recorded() {
        let document = bundle("cdi.k8s.io/vendor_gpu", "vendor.com/gpu=0");
        let verdict = ["audit ANN-03:cdi.k8s.io/vendor_gpu /annotations/cdi.k8s.io~1vendor_gpu"];
        assert!(
            Table::of(Profile::Privileged)
                .findings("ANN-03", &document)
                .is_empty()
        );
        assert_eq!(
            Table::of(Profile::Baseline).verdicts("ANN-03", &document),
            verdict
        );
        assert_eq!(
            Table::of(Profile::Restricted).verdicts("ANN-03", &document),
            verdict
        );
    }
}
