//! config.md: the version, the root filesystem, annotations, and what is unknown or not valid.

use crate::bundle::remove;
use crate::clause::Clause;
use crate::expect::{holds, same};
use serde_json::json;
use std::fs;

pub(super) const CLAUSES: &[Clause] = &[
    Clause::must(
        "config.md#version/missing",
        "a configuration without ociVersion is an error",
        |stage| stage.refuses(|config| remove(config, "/ociVersion")),
    ),
    Clause::must(
        "config.md#version/not-semver",
        "an ociVersion that is not a semantic version is an error",
        |stage| stage.refuses(|config| config["ociVersion"] = json!("one.two")),
    ),
    Clause::must(
        "config.md#version/other-major",
        "an ociVersion of another major version is an error",
        |stage| stage.refuses(|config| config["ociVersion"] = json!("2.0.0")),
    ),
    Clause::must(
        "config.md#version/same-major",
        "every released version of the same major, up to the runtime's own, is accepted",
        |stage| {
            let version = {
                let probe = stage.container()?;
                probe.must_create()?;
                probe.state()?["ociVersion"]
                    .as_str()
                    .unwrap_or("1.0.0")
                    .to_owned()
            };
            let minor: u32 = version
                .split('.')
                .nth(1)
                .and_then(|part| part.parse().ok())
                .unwrap_or(0);
            for version in (0..=minor).map(|minor| format!("1.{minor}.0")) {
                let seen = stage.observe("echo ran", |config| config["ociVersion"] = json!(version))?;
                same(&version, seen.text(), "ran")?;
            }
            Ok(())
        },
    ),
    Clause::must(
        "config.md#root/missing",
        "a configuration without root is an error",
        |stage| stage.refuses(|config| remove(config, "/root")),
    ),
    Clause::must(
        "config.md#root/relative-path",
        "a relative root path is taken from the bundle",
        |stage| {
            let mut container = stage.container()?;
            fs::rename(container.rootfs(), container.bundle.join("elsewhere"))?;
            container.config["root"]["path"] = json!("elsewhere");
            container.script("echo ran >/ran");
            container.run_to_end()?;
            holds(container.bundle.join("elsewhere/ran").exists(), || {
                "the program did not run there".into()
            })
        },
    ),
    Clause::must(
        "config.md#root/absolute-path",
        "an absolute root path is taken as it is",
        |stage| {
            let mut container = stage.container()?;
            let place = stage.directory.join("apart");
            fs::rename(container.rootfs(), &place)?;
            container.config["root"]["path"] = json!(place);
            container.script("echo ran >/ran");
            container.run_to_end()?;
            holds(place.join("ran").exists(), || {
                "the program did not run there".into()
            })
        },
    ),
    Clause::must(
        "config.md#root/does-not-exist",
        "a root path at which there is nothing is an error",
        |stage| stage.refuses(|config| config["root"]["path"] = json!("nowhere")),
    ),
    Clause::must(
        "config.md#root/not-a-directory",
        "a root path at which there is a file is an error",
        |stage| {
            let mut container = stage.container()?;
            fs::write(container.bundle.join("file"), "")?;
            container.config["root"]["path"] = json!("file");
            holds(!container.create()?.ok(), || "create succeeded".into())
        },
    ),
    Clause::must(
        "config.md#root/readonly",
        "with readonly the root filesystem cannot be written",
        |stage| {
            let seen = stage.observe("echo x 2>/dev/null >/x && echo written; echo done", |config| {
                config["root"]["readonly"] = json!(true)
            })?;
            same("output", seen.out, "done\n")
        },
    ),
    Clause::must(
        "config.md#root/writable-by-default",
        "without readonly the root filesystem can be written",
        |stage| {
            let seen = stage.observe("echo x >/x && cat /x", |config| remove(config, "/root/readonly"))?;
            same("output", seen.out, "x\n")
        },
    ),
    Clause::must(
        "config.md#annotations/empty-key",
        "an annotation with an empty key is an error",
        |stage| stage.refuses(|config| config["annotations"] = json!({"": "value"})),
    ),
    Clause::must(
        "config.md#annotations/value-is-a-string",
        "an annotation that is not a string is an error",
        |stage| stage.refuses(|config| config["annotations"] = json!({"com.example.key": 1})),
    ),
    Clause::must(
        "config.md#annotations/unknown-reserved-key",
        "an unknown key of the org.opencontainers namespace is no error",
        |stage| {
            let seen = stage.observe("echo ran", |config| {
                config["annotations"] = json!({"org.opencontainers.conformance": "x"})
            })?;
            same("output", seen.text(), "ran")
        },
    ),
    Clause::must(
        "config.md#extensibility/unknown-properties",
        "properties that are not known are no error",
        |stage| {
            let seen = stage.observe("echo ran", |config| {
                let strange = json!({"deep": [1, {"er": null}]});
                config["conformanceUnknown"] = strange.clone();
                for pointer in [
                    "/process",
                    "/process/user",
                    "/root",
                    "/mounts/0",
                    "/linux",
                    "/linux/namespaces/0",
                ] {
                    if let Some(object) = config.pointer_mut(pointer) {
                        object["conformanceUnknown"] = strange.clone();
                    }
                }
            })?;
            same("output", seen.text(), "ran")
        },
    ),
    Clause::must(
        "config.md#valid-values/args-is-a-list",
        "args that are a string are an error",
        |stage| stage.refuses(|config| config["process"]["args"] = json!("/bin/true")),
    ),
    Clause::must(
        "config.md#valid-values/readonly-is-a-bool",
        "readonly that is a string is an error",
        |stage| stage.refuses(|config| config["root"]["readonly"] = json!("yes")),
    ),
    Clause::must(
        "config.md#valid-values/uid-is-not-negative",
        "a uid below zero is an error",
        |stage| stage.refuses(|config| config["process"]["user"]["uid"] = json!(-1)),
    ),
    Clause::must(
        "config.md#valid-values/uid-fits",
        "a uid that does not fit 32 bits is an error, and not another user",
        |stage| stage.refuses(|config| config["process"]["user"]["uid"] = json!(4_294_967_296_u64)),
    ),
    Clause::must(
        "config.md#valid-values/not-json",
        "a config.json that is not JSON is an error",
        |stage| {
            let container = stage.container()?;
            for text in ["", "{", "[]", "\"config\""] {
                fs::write(container.bundle.join("config.json"), text)?;
                let created = container.create_from(&container.bundle.to_string_lossy(), None)?;
                holds(!created.ok(), || format!("create succeeded with {text:?}"))?;
            }
            Ok(())
        },
    ),
];
