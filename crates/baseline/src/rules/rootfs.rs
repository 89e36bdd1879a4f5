//! The root directory of the container: what it is on the host, and what of it is the image's.
//!
//! A root directory that is missing is nobody's violation: the bundle cannot be run, and whoever runs it says so.

use crate::change::Change;
use crate::config::Root;
use crate::facts::{Fact, FactKind, FileKind, Relation, RootfsFact};
use crate::profile::{Level, Levels};
use crate::rule::{Case, Mappings, Remedies, Rule, Violations};
use crate::rules::mounts::{kind, on_host, place, sensitive_by_name};

/// The rules of this topic.
pub static RULES: &[&Rule] = &[&ROOT_01, &ROOT_02, &ROOT_03, &ROOT_04];

static ROOT_01: Rule = Rule {
    id: "ROOT-01",
    title: "the root file system is read-only",
    meaning: "root.readonly is false, null or absent.",
    why: "Whoever breaks into a program replaces it or another one in its image, and is there after the next \
          restart. With a read-only root only what was set aside for data can be changed, and it can be watched.",
    stops: &["changing programs in the container and staying there"],
    fields: &["/root/readonly"],
    levels: Levels::new(Level::Off, Level::Audit, Level::Deny),
    // Most programs write to /tmp or /run. Where neither is a tmpfs they would fail, and not say why.
    hardening: "where the site's policy sets the level harden, and /tmp and /run are tmpfs: it is set",
    remedies: Remedies {
        docker: "Add --read-only, and --tmpfs /tmp --tmpfs /run if the program writes there.",
        podman: "Add --read-only: podman then mounts a tmpfs at /tmp and /run by itself.",
        ctr: "Add --read-only, and --mount type=tmpfs,src=tmpfs,dst=/tmp,options=size=64m if the program \
              writes there.",
        kubernetes: "Set securityContext.readOnlyRootFilesystem: true on the container, and mount an emptyDir at /tmp \
                     if the program writes there.",
        config: "Set \"readonly\": true in root, and mount a tmpfs at /tmp and /run.",
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "5.13",
        nsa: "immutable container file systems",
        nist_800_190: "4.4.4",
    },
    facts: &[],
    check: readonly,
};

fn readonly(case: &Case<'_>, violations: &mut Violations) {
    let Some(root) = case.config.root.value() else {
        return;
    };
    if root.readonly.is_true() {
        return;
    }
    let found = match root.readonly.value() {
        Some(_) => "false, so that the workload may change the image's files".to_owned(),
        None => format!(
            "{}, so that the workload may change the image's files",
            root.readonly.presence()
        ),
    };
    let violation = violations.report("/root/readonly", found, "true");
    if ["/tmp", "/run"].iter().all(|wanted| is_tmpfs(case, wanted)) {
        violation.fix(Change::SetRootReadonly);
    }
}

/// True if what is seen at a place of the container is a tmpfs.
fn is_tmpfs(case: &Case<'_>, wanted: &str) -> bool {
    let mounts = case.config.mounts.items().iter().enumerate();
    mounts
        .rev()
        .find(|(index, _)| place(case, *index) == wanted)
        .is_some_and(|(_, mount)| kind(mount) == "tmpfs" && !mount.is_bind())
}

static ROOT_02: Rule = Rule {
    id: "ROOT-02",
    title: "a root directory of its own",
    meaning: "root.path leads to the host's root directory, to a system directory of the host or one that contains \
              one, or to an overlay over such a directory; or to the root of another container that is alive. The last \
              of these is recorded and not refused in the profile privileged.",
    why: "A container whose root is the host's is no container: every file of the host is in it. Two that share one \
          root can exchange files and links under the runtime while it builds the other: who starts both on purpose, \
          and trusts both, says so with the profile privileged. This rule guards the runtime itself: no policy \
          changes its levels.",
    stops: &[
        "containers made of the host's own files",
        "CVE-2024-1753 and its kind, where a build ends up with the host's root",
        "races between two containers on one root",
    ],
    fields: &["/root/path"],
    levels: Levels::new(Level::Deny, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Docker always makes one; find out what changed the bundle.",
        podman: "Run an image, or give --rootfs a directory with an unpacked one. An overlay over / \
                 (--rootfs /:O) shows the host's files all the same.",
        ctr: "Run an image, or give --rootfs a directory with an unpacked one, for this container alone.",
        kubernetes: "The container engine always makes one; find out what changed the bundle.",
        config: "Let root.path be a directory with an unpacked image, one for each container.",
    },
    mappings: Mappings {
        pss: "HostPath Volumes (baseline)",
        cis_docker: "5.6",
        nsa: "",
        nist_800_190: "3.5.5",
    },
    facts: &[FactKind::Rootfs],
    check: own_root,
};

fn own_root(case: &Case<'_>, violations: &mut Violations) {
    /// Unlike the rest, it gives nothing of the host away, and what is mounted is looked up inside the root by
    /// descriptor. Test suites start several containers from one bundle.
    const SHARED: Levels = Levels::new(Level::Audit, Level::Deny, Level::Deny);
    const ACCEPTED: &str = "a directory with an unpacked image, of this container alone";
    let Some(root) = case.config.root.value() else {
        return;
    };
    let written = root.path.as_str();
    let mut refuse = |what: String| {
        violations.report("/root/path", format!("{written:?} {what}"), ACCEPTED);
    };
    match &case.facts.rootfs {
        Fact::Known(RootfsFact::Missing(_)) => {}
        Fact::Known(RootfsFact::Directory {
            is_host_root: true, ..
        }) => {
            refuse("is the host's own root directory".to_owned());
        }
        Fact::Known(RootfsFact::Directory {
            sensitive,
            shared_with,
            ..
        }) => {
            match sensitive.as_ref().map(|found| (found.relation, &found.directory)) {
                Some((Relation::Is, directory)) => refuse(format!("is the host's {directory}")),
                Some((Relation::Contains, directory)) => refuse(format!("contains the host's {directory}")),
                // Where images are unpacked is the engine's choice, and most choose /var/lib.
                Some((Relation::Inside, _)) | None => {}
            }
            if let Some(other) = shared_with {
                let found = format!("{written:?} is the root of container {other:?} too, which is alive");
                violations.report("/root/path", found, ACCEPTED).levels(SHARED);
            }
        }
        Fact::Unknown(why) => match by_name(root) {
            Some(what) => refuse(what),
            None => {
                violations.undecided("/root/path", format!("what {written:?} is, is not known: {why}"));
            }
        },
    }
}

/// What is wrong with a root directory by its name, on whatever host it may be.
fn by_name(root: &Root) -> Option<String> {
    match sensitive_by_name(&on_host(&root.path)?)? {
        (directory, Relation::Is) => Some(format!("is the host's {directory}")),
        (directory, Relation::Contains) => Some(format!("contains the host's {directory}")),
        (_, Relation::Inside) => None,
    }
}

static ROOT_03: Rule = Rule {
    id: "ROOT-03",
    title: "dev, proc, sys and etc of the image are directories",
    meaning: "dev, proc, sys or etc in the root directory is a symbolic link, or something else that is no directory. \
              That one is missing is no harm: it is made.",
    why: "The runtime mounts there and makes files there, as root of the host and before the container is closed. A \
          link that the image's author put in that place leads its hand. No image needs one. This rule guards the \
          runtime itself: it is the same in every profile.",
    stops: &[
        "CVE-2026-41579 (runc, /dev as a link)",
        "CVE-2023-27561 and CVE-2019-19921 (runc, /proc as a link)",
        "CVE-2025-54867 (youki, /proc and /sys as links)",
        "CVE-2024-45310 (runc makes files on the host)",
    ],
    fields: &["/root/path"],
    levels: Levels::new(Level::Deny, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Find out who built the image: it has a link in place of /dev, /proc, /sys or /etc. Rebuild it \
                 without.",
        kubernetes: "Find out who built the image: it has a link in place of /dev, /proc, /sys or /etc. Rebuild it \
                     without.",
        config: "Replace the link in the root directory by an empty directory.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.4.1",
    },
    facts: &[FactKind::Rootfs],
    check: real_directories,
};

fn real_directories(case: &Case<'_>, violations: &mut Violations) {
    if case.config.root.is_missing() {
        return;
    }
    match &case.facts.rootfs {
        Fact::Known(RootfsFact::Missing(_)) => {}
        Fact::Known(RootfsFact::Directory { entries, .. }) => {
            for (name, kind) in entries.iter().filter(|(_, kind)| **kind != FileKind::Directory) {
                let what = match kind {
                    FileKind::Symlink => "a symbolic link",
                    _ => "not a directory",
                };
                // runc's words, for those who look for them.
                let why = match name.as_str() {
                    "etc" => String::new(),
                    mounted => {
                        format!("; what is mounted at /{mounted} must be mounted on ordinary directory")
                    }
                };
                violations
                    .report(
                        "/root/path",
                        format!("{name:?} in it is {what}{why}"),
                        "a directory, or nothing",
                    )
                    .sub_key(format!("/{name}"));
            }
        }
        Fact::Unknown(why) => {
            violations.undecided(
                "/root/path",
                format!("what dev, proc, sys and etc in it are, is not known: {why}"),
            );
        }
    }
}

static ROOT_04: Rule = Rule {
    id: "ROOT-04",
    title: "the root file system is mounted nodev and nosuid",
    meaning: "The file system that the root directory is on is mounted without nodev, or, where the process has \
              noNewPrivileges and so no use for set-user-id programs, without nosuid.",
    why: "A layer of an image can hold device nodes and set-user-id programs. In the container the cgroup of devices and \
          noNewPrivileges make them useless, but the same files can be reached on the host through the directory that \
          the layer is unpacked in.",
    stops: &[
        "device nodes in layers",
        "set-user-id programs of a layer, used from the host",
    ],
    fields: &["/root/path"],
    levels: Levels::new(Level::Off, Level::Off, Level::Audit),
    hardening: "",
    remedies: Remedies {
        docker: "Put /var/lib/docker on a file system of its own, mounted with nodev.",
        podman: "Put /var/lib/containers on a file system of its own, mounted with nodev.",
        ctr: "Put /var/lib/containerd on a file system of its own, mounted with nodev.",
        kubernetes: "Put the engine's storage, such as /var/lib/containerd, on a file system of its own, mounted with \
                     nodev.",
        config: "Mount what root.path leads to with nodev and nosuid.",
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "4.8",
        nsa: "",
        nist_800_190: "3.1.2",
    },
    facts: &[FactKind::Rootfs],
    check: mounted_strictly,
};

fn mounted_strictly(case: &Case<'_>, violations: &mut Violations) {
    let (Some(_), Fact::Known(mount)) = (case.config.root.value(), &case.facts.rootfs_mount) else {
        return;
    };
    let inert = case
        .config
        .process
        .value()
        .is_some_and(|process| process.no_new_privileges.is_true());
    for (option, missing) in [("nodev", !mount.nodev), ("nosuid", !mount.nosuid && inert)] {
        if missing {
            violations
                .report(
                    "/root/path",
                    format!("the root file system is mounted without {option}"),
                    format!("a mount with {option}"),
                )
                .sub_key(option);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use serde_json::{Value, json};

    use super::*;
    use crate::facts::{Identity, Sensitive};
    use crate::profile::Profile;
    use crate::rules::table::{Table, set, with};

    fn directory() -> RootfsFact {
        RootfsFact::Directory {
            canonical: PathBuf::from("/var/lib/c/rootfs"),
            identity: Identity { device: 1, inode: 2 },
            is_host_root: false,
            sensitive: None,
            shared_with: None,
            entries: BTreeMap::new(),
        }
    }

    fn verdicts(rule: &str, document: &Value, fact: Fact<RootfsFact>) -> [String; 3] {
        Profile::ALL.map(|profile| {
            Table::of(profile)
                .knowing(|facts| facts.rootfs = fact.clone())
                .verdicts(rule, document)
                .join(", ")
        })
    }

    const CLEAN: [&str; 3] = ["", "", ""];

    #[test]
    fn a_writable_root_is_recorded_and_refused_in_restricted() {
        let expected = ["", "audit ROOT-01 /root/readonly", "deny ROOT-01 /root/readonly"];
        for (root, expected) in [
            (json!({"path": "rootfs", "readonly": true}), CLEAN),
            (json!({"path": "rootfs", "readonly": false}), expected),
            (json!({"path": "rootfs", "readonly": null}), expected),
            (json!({"path": "rootfs"}), expected),
            (json!(null), CLEAN),
        ] {
            assert_eq!(
                verdicts("ROOT-01", &with("/root", root.clone()), Fact::Known(directory())),
                expected,
                "{root}"
            );
        }
    }

    #[test]
    fn a_site_may_have_the_root_made_readonly_where_tmp_and_run_are_tmpfs() {
        let tmpfs = |place: &str| json!({"destination": place, "type": "tmpfs"});
        let over = json!({"destination": "/run", "type": "bind", "source": "/srv/run"});
        for (mounts, expected) in [
            (json!([tmpfs("/tmp"), tmpfs("/run/")]), "harden"),
            (json!([tmpfs("/tmp"), tmpfs("/run"), over]), "deny"),
            (json!([tmpfs("/tmp"), tmpfs("/runner")]), "deny"),
            (json!([tmpfs("/tmp")]), "deny"),
            (json!([]), "deny"),
            (json!(null), "deny"),
        ] {
            let document = with("/mounts", mounts.clone());
            let mut table = Table::of(Profile::Baseline);
            table.policy.levels.insert("ROOT-01".to_owned(), Level::Harden);
            assert_eq!(
                table.verdicts("ROOT-01", &document),
                [format!("{expected} ROOT-01 /root/readonly")],
                "{mounts}"
            );
            let readonly = &table.hardened("ROOT-01", &document)["root"]["readonly"];
            assert_eq!(
                readonly,
                &if expected == "harden" {
                    json!(true)
                } else {
                    json!(null)
                },
                "{mounts}"
            );
        }
    }

    fn like(change: impl Fn(&mut bool, &mut Option<Sensitive>, &mut Option<String>)) -> Fact<RootfsFact> {
        let mut fact = directory();
        if let RootfsFact::Directory {
            is_host_root,
            sensitive,
            shared_with,
            ..
        } = &mut fact
        {
            change(is_host_root, sensitive, shared_with);
        }
        Fact::Known(fact)
    }

    #[test]
    fn the_root_is_the_containers_own_in_every_profile() {
        let near = |relation| {
            like(move |_, sensitive, _| {
                *sensitive = Some(Sensitive {
                    directory: "/etc".to_owned(),
                    relation,
                })
            })
        };
        let document = with("/root/path", json!("rootfs"));
        for (fact, expected) in [
            (Fact::Known(directory()), None),
            (near(Relation::Inside), None),
            (
                Fact::Known(RootfsFact::Missing("nothing is there".to_owned())),
                None,
            ),
            (
                like(|host, _, _| *host = true),
                Some("\"rootfs\" is the host's own root directory"),
            ),
            (near(Relation::Is), Some("\"rootfs\" is the host's /etc")),
            (
                near(Relation::Contains),
                Some("\"rootfs\" contains the host's /etc"),
            ),
            (
                like(|_, _, other| *other = Some("web-1".to_owned())),
                Some("\"rootfs\" is the root of container \"web-1\" too, which is alive"),
            ),
        ] {
            let table = Table::of(Profile::Privileged).knowing(|facts| facts.rootfs = fact.clone());
            let found: Vec<String> = table
                .findings("ROOT-02", &document)
                .into_iter()
                .map(|finding| finding.found)
                .collect();
            assert_eq!(
                found,
                expected.map(str::to_owned).into_iter().collect::<Vec<_>>(),
                "{fact:?}"
            );
            let (refused, recorded) = ("deny ROOT-02 /root/path", "audit ROOT-02 /root/path");
            let verdict = match expected {
                Some(found) if found.contains("which is alive") => [recorded, refused, refused],
                Some(_) => [refused; 3],
                None => CLEAN,
            };
            assert_eq!(verdicts("ROOT-02", &document, fact.clone()), verdict, "{fact:?}");
        }
    }

    #[test]
    fn a_shared_root_does_not_excuse_what_else_is_wrong_with_it() {
        let document = with("/root/path", json!("rootfs"));
        let both = like(|_, sensitive, other| {
            *other = Some("web-1".to_owned());
            *sensitive = Some(Sensitive {
                directory: "/etc".to_owned(),
                relation: Relation::Contains,
            });
        });
        let (refused, recorded) = ("deny ROOT-02 /root/path", "audit ROOT-02 /root/path");
        assert_eq!(
            verdicts("ROOT-02", &document, both),
            [
                format!("{refused}, {recorded}"),
                format!("{refused}, {refused}"),
                format!("{refused}, {refused}")
            ]
        );
    }

    #[test]
    fn no_policy_changes_what_is_said_of_a_shared_root() {
        let document = with("/root/path", json!("rootfs"));
        let shared = like(|_, _, other| *other = Some("web-1".to_owned()));
        for (profile, expected) in Profile::ALL.into_iter().zip(["audit", "deny", "deny"]) {
            for level in [Level::Off, Level::Audit, Level::Harden, Level::Deny] {
                let mut table = Table::of(profile).knowing(|facts| facts.rootfs = shared.clone());
                table.policy.levels.insert("ROOT-02".to_owned(), level);
                assert_eq!(
                    table.verdicts("ROOT-02", &document),
                    [format!("{expected} ROOT-02 /root/path")],
                    "{profile} {level:?}"
                );
            }
        }
    }

    #[test]
    fn the_root_is_judged_by_its_name_where_nothing_is_known() {
        let unknown = || Fact::Unknown("it belongs to another host".to_owned());
        for (path, undecided) in [
            ("/", false),
            ("/srv/..", false),
            ("/usr/", false),
            ("/var", false),
            ("rootfs", true),
            ("/var/lib/docker/overlay2/x/merged", true),
            ("", true),
        ] {
            let document = with("/root/path", json!(path));
            assert_eq!(
                verdicts("ROOT-02", &document, unknown()),
                ["deny ROOT-02 /root/path"; 3],
                "{path}"
            );
            let offline = Table::of(Profile::Baseline)
                .offline()
                .findings("ROOT-02", &document);
            assert_eq!((offline.len(), offline[0].undecided), (1, undecided), "{path}");
        }
        let mut document = with("/root", json!(null));
        assert_eq!(verdicts("ROOT-02", &document, unknown()), CLEAN);
        assert_eq!(verdicts("ROOT-03", &document, unknown()), CLEAN);
        set(&mut document, "/root", json!({"path": "rootfs"}));
        assert_eq!(
            verdicts("ROOT-03", &document, unknown()),
            ["deny ROOT-03 /root/path"; 3]
        );
    }

    #[test]
    fn links_in_place_of_directories_are_refused_in_every_profile() {
        let document = with("/root/path", json!("rootfs"));
        for (list, expected) in [
            (&[][..], ""),
            (&[("dev", FileKind::Directory), ("etc", FileKind::Directory)], ""),
            (&[("dev", FileKind::Symlink)], "deny ROOT-03:/dev /root/path"),
            (
                &[("proc", FileKind::Symlink), ("sys", FileKind::Directory)],
                "deny ROOT-03:/proc /root/path",
            ),
            (&[("etc", FileKind::Regular)], "deny ROOT-03:/etc /root/path"),
        ] {
            let mut fact = directory();
            if let RootfsFact::Directory { entries, .. } = &mut fact {
                entries.extend(list.iter().map(|(name, kind)| ((*name).to_owned(), *kind)));
            }
            assert_eq!(
                verdicts("ROOT-03", &document, Fact::Known(fact)),
                [expected; 3],
                "{list:?}"
            );
        }
        let missing = Fact::Known(RootfsFact::Missing("nothing is there".to_owned()));
        assert_eq!(verdicts("ROOT-03", &document, missing), CLEAN);
    }

    #[test]
    fn how_the_root_is_mounted_is_recorded_under_restricted() {
        use crate::facts::RootfsMount;
        let verdicts = |profile, nodev, nosuid, nnp: Value| {
            let table = Table::of(profile)
                .knowing(|facts| facts.rootfs_mount = Fact::Known(RootfsMount { nosuid, nodev }));
            table.verdicts("ROOT-04", &with("/process/noNewPrivileges", nnp))
        };
        let (nodev, nosuid) = (
            "audit ROOT-04:nodev /root/path",
            "audit ROOT-04:nosuid /root/path",
        );
        assert_eq!(verdicts(Profile::Restricted, true, true, json!(true)), [""; 0]);
        assert_eq!(verdicts(Profile::Restricted, false, true, json!(true)), [nodev]);
        assert_eq!(
            verdicts(Profile::Restricted, false, false, json!(true)),
            [nodev, nosuid]
        );
        assert_eq!(verdicts(Profile::Restricted, true, false, json!(false)), [""; 0]);
        assert_eq!(verdicts(Profile::Restricted, true, false, json!(null)), [""; 0]);
        assert_eq!(verdicts(Profile::Baseline, false, false, json!(true)), [""; 0]);
        let unknown = Table::of(Profile::Restricted);
        assert_eq!(
            unknown.verdicts("ROOT-04", &with("/process/noNewPrivileges", json!(true))),
            [""; 0]
        );
    }
}
