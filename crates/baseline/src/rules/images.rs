//! Images: which one a container was made from, as far as the engine says so.

use crate::pointer::Pointer;
use crate::profile::{Level, Levels};
use crate::rule::{Case, Mappings, Remedies, Rule, Violations};

/// The rules of this topic.
pub static RULES: &[&Rule] = &[&IMG_01];

/// Annotations in which engines name the image.
const NAMES: [&str; 2] = [
    "io.kubernetes.cri.image-name",
    "org.opencontainers.image.ref.name",
];

static IMG_01: Rule = Rule {
    id: "IMG-01",
    title: "the image is named by its digest",
    meaning: "The annotation io.kubernetes.cri.image-name or org.opencontainers.image.ref.name names an image \
              by a tag, without a digest. The annotation is the engine's word; gabion does not see the image.",
    why: "A tag can be moved. What was scanned and approved under it need not be what runs.",
    stops: &["CVE-2026-50195 (tag poisoning)"],
    fields: &[
        "/annotations/io.kubernetes.cri.image-name",
        "/annotations/org.opencontainers.image.ref.name",
    ],
    levels: Levels::new(Level::Off, Level::Audit, Level::Audit),
    hardening: "",
    remedies: Remedies {
        docker: "Run NAME@sha256:… instead of NAME:TAG.",
        kubernetes: "Write image: NAME@sha256:… in the pod, or have an admission controller resolve tags.",
        config: "Nothing in config.json: the engine writes the annotation.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "4.2",
        nsa: "image provenance",
        nist_800_190: "3.1.5",
    },
    facts: &[],
    check: digest,
};

fn digest(case: &Case<'_>, violations: &mut Violations) {
    let Some(annotations) = case.config.annotations.value() else {
        return;
    };
    for (key, name) in NAMES
        .into_iter()
        .filter_map(|key| Some((key, annotations.get(key)?)))
    {
        // An engine that knows an image by its id alone writes that.
        let id = name.rsplit_once('@').map_or(name.as_str(), |(_, digest)| digest);
        let named = id.strip_prefix("sha256:").is_some_and(|hex| is_hex(hex, 64))
            || id.strip_prefix("sha512:").is_some_and(|hex| is_hex(hex, 128));
        if !named {
            violations.report(
                Pointer::at("/annotations").key(key),
                format!("{name:?} has no digest"),
                "a name that ends in @sha256: and the image's digest",
            );
        }
    }
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::table::{Table, with};
    use crate::profile::Profile;

    #[test]
    fn a_tag_is_recorded_and_a_digest_passes() {
        let digest = "ab".repeat(32);
        for key in super::NAMES {
            for name in [
                "docker.io/library/busybox:latest",
                "busybox",
                "",
                "a@sha256:abcd",
                "a@md5:00",
                "sha256:x",
            ] {
                let document = with("/annotations", json!({key: name}));
                let verdict = [format!("audit IMG-01 /annotations/{key}")];
                assert!(
                    Table::of(Profile::Privileged)
                        .findings("IMG-01", &document)
                        .is_empty()
                );
                assert_eq!(
                    Table::of(Profile::Baseline).verdicts("IMG-01", &document),
                    verdict,
                    "{name}"
                );
                assert_eq!(
                    Table::of(Profile::Restricted).verdicts("IMG-01", &document),
                    verdict
                );
            }
            for name in [
                format!("busybox@sha256:{digest}"),
                format!("sha256:{digest}"),
                format!("b:1@sha256:{digest}"),
            ] {
                let document = with("/annotations", json!({key: name}));
                assert!(
                    Table::of(Profile::Restricted)
                        .findings("IMG-01", &document)
                        .is_empty(),
                    "{name}"
                );
            }
        }
        for nothing in [
            Value::Null,
            json!({}),
            json!({"io.kubernetes.cri.podsandbox.image-name": "pause:1"}),
        ] {
            assert!(
                Table::of(Profile::Restricted)
                    .findings("IMG-01", &with("/annotations", nothing))
                    .is_empty()
            );
        }
    }
}
