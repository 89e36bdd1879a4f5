//! Hooks: programs of the host that run as root at points of a container's life (config.md, "POSIX-platform
//! Hooks").

use std::path::Path;

use crate::config::Hook;
use crate::facts::{Fact, FactKind, HookFact, RootfsFact};
use crate::pointer::Pointer;
use crate::policy::HookPermit;
use crate::profile::{Level, Levels, Profile};
use crate::rule::{Case, Mappings, Remedies, Rule, Violations};
use crate::rules::environment;

/// The rules of this topic.
pub static RULES: &[&Rule] = &[&HOOK_01, &HOOK_02, &HOOK_03];

/// Where packages install the Docker daemon. Up to version 27 it sets the network namespace up in a prestart
/// hook that is itself: `/proc/<pid of dockerd>/exe`, with [`SETKEY`] as its name.
const DOCKERD: [&str; 3] = ["/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/local/bin/dockerd"];

const SETKEY: &str = "libnetwork-setkey";

static HOOK_01: Rule = Rule {
    id: "HOOK-01",
    title: "only hooks that the policy permits",
    meaning: "hooks has a program that the policy does not permit at that hook point, or one that does not exist, \
              cannot be executed, or can be written or replaced by others than root. The hook of Docker's own \
              daemon (prestart, libnetwork-setkey) is recorded and never refused.",
    why: "A hook runs as root on the host, outside the container. Whoever edits the bundle (a plugin, a device \
          description, an annotation) and may name a hook is root.",
    stops: &[
        "CVE-2026-53492 (hooks smuggled through CDI annotations)",
        "hooks injected by NRI plugins",
    ],
    fields: &["/hooks/*/*/path", "/hooks/*/*/args"],
    levels: Levels::new(Level::Audit, Level::Audit, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Find out what adds the hook (a wrapper runtime, an NRI plugin, CDI) and remove it, or permit it \
                 in /etc/gabion/policy.toml by hook point and path.",
        podman: "Find out what adds the hook (a file in /usr/share/containers/oci/hooks.d or \
                 /etc/containers/oci/hooks.d, CDI) and remove it, or permit it in /etc/gabion/policy.toml by \
                 hook point and path.",
        ctr: "Remove --gpus, which adds a hook, or permit that hook in /etc/gabion/policy.toml by hook point \
              and path.",
        kubernetes: "Find out what adds the hook (an NRI plugin, CDI, the NVIDIA runtime) and remove it, or have \
                     the node's policy permit it by hook point and path.",
        config: "Remove the hook, or permit it by hook point and path; chown root:root and chmod go-w its file \
                 and the directories above.",
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.4.1",
    },
    facts: &[FactKind::Hooks],
    check: permitted,
};

static HOOK_02: Rule = Rule {
    id: "HOOK-02",
    title: "hooks run as the spec has it, in a clean environment",
    meaning: "A hook's env has a variable that makes programs load code (LD_*, GCONV_PATH, BASH_ENV, PYTHON* and \
              their like), or a PATH with a relative entry or one in the root file system; its path is relative; \
              its timeout is zero or negative; or one of its strings has a NUL.",
    why: "The hook is root on the host. A variable that an image could set, or a PATH that leads into the image, \
          makes the image's code root on the host.",
    stops: &["CVE-2025-23266 (NVIDIAScape: LD_PRELOAD reaches a hook)"],
    fields: &["/hooks/*/*/env/*", "/hooks/*/*/path", "/hooks/*/*/timeout"],
    levels: Levels::new(Level::Deny, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Correct what writes the hook: it is not Docker.",
        podman: "Correct what writes the hook: a file in /usr/share/containers/oci/hooks.d or \
                 /etc/containers/oci/hooks.d, or a CDI description.",
        kubernetes: "Correct what writes the hook, such as a CDI description or an NRI plugin on the node.",
        config: "Write an absolute path, a PATH of absolute directories of the host, a timeout above zero, and no \
                 variable for a loader or an interpreter: {\"path\": \"/usr/libexec/x\", \"env\": \
                 [\"PATH=/usr/bin:/bin\"], \"timeout\": 10}.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.4.1",
    },
    facts: &[FactKind::Rootfs],
    check: clean,
};

static HOOK_03: Rule = Rule {
    id: "HOOK-03",
    title: "no hook of the image's own",
    meaning: "A hook's program lies in the root file system: any startContainer hook, whose path the \
              runtime-spec resolves in the container, and a createContainer hook that leads there.",
    why: "Such a hook is code of the image besides its program. At createContainer it runs before the container is \
          confined; at startContainer with what the program has, as soon as that is settled.",
    stops: &["code of the image that runs with the runtime's privileges"],
    fields: &["/hooks/startContainer/*/path", "/hooks/createContainer/*/path"],
    levels: Levels::new(Level::Off, Level::Audit, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Do it in the image's entrypoint instead.",
        kubernetes: "Do it in an init container or the image's entrypoint instead.",
        config: "Remove the hook; run its program as the first step of process.args.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.4.1",
    },
    facts: &[FactKind::Hooks],
    check: of_the_image,
};

/// A hook with its point, its place and what is known of its file.
struct Placed<'a> {
    point: &'static str,
    hook: &'a Hook,
    place: Pointer,
    fact: Option<&'a Fact<HookFact>>,
}

impl Placed<'_> {
    /// What is known of the file, or why nothing is.
    fn known(&self) -> Result<&HookFact, &str> {
        match self.fact {
            Some(Fact::Known(fact)) => Ok(fact),
            Some(Fact::Unknown(why)) => Err(why),
            None => Err("not collected"),
        }
    }

    fn arg0(&self) -> Option<&str> {
        self.hook.args.items().first().map(String::as_str)
    }
}

fn hooks<'a>(case: &Case<'a>) -> impl Iterator<Item = Placed<'a>> {
    let facts = &case.facts.hooks;
    let points = case
        .config
        .hooks
        .value()
        .map(|hooks| hooks.points())
        .into_iter()
        .flatten();
    points.flat_map(move |(point, hooks)| {
        let facts = facts.get(point);
        hooks.iter().enumerate().map(move |(index, hook)| Placed {
            point,
            hook,
            place: Pointer::at("/hooks").key(point).index(index),
            fact: facts.and_then(|facts| facts.get(index)),
        })
    })
}

fn permitted(case: &Case<'_>, violations: &mut Violations) {
    const ACCEPTED: &str = "no hook, or one that the policy permits";
    for placed in hooks(case) {
        let place = placed.place.clone().key("path");
        let path = &placed.hook.path;
        // The path of a startContainer hook is resolved in the container: what the host has there is no
        // matter, and the name is all there is to permit. HOOK-03 has its own word on it.
        if placed.point == "startContainer" {
            if !is_permitted(case, &placed, Path::new(path)) {
                violations.report(
                    place,
                    format!("the policy does not permit the hook {path:?}"),
                    ACCEPTED,
                );
            }
            continue;
        }
        let fact = match placed.known() {
            Ok(fact) => fact,
            Err(why) => {
                let who = if placed.arg0() == Some(SETKEY) {
                    ", by its name the Docker daemon's,"
                } else {
                    ""
                };
                violations.undecided(
                    place,
                    format!("where the hook {path:?}{who} leads to is not known: {why}"),
                );
                continue;
            }
        };
        let canonical = &fact.canonical;
        if !fact.executable {
            violations
                .report(
                    place,
                    format!("the hook {path:?} leads to {canonical:?}, which cannot be executed"),
                    ACCEPTED,
                )
                .levels(UNTRUSTED);
        } else if !fact.trusted {
            violations
                .report(
                    place,
                    format!("the hook {path:?} leads to {canonical:?}, which others than root can write or replace"),
                    "a file of root's, in directories of root's, that nobody else may write",
                )
                .levels(UNTRUSTED);
        } else if is_dockerds(&placed, canonical) {
            violations
                .report(
                    place,
                    format!("the Docker daemon's own hook, {canonical:?}"),
                    "Docker 28 or newer has none",
                )
                .levels(Levels::new(Level::Audit, Level::Audit, Level::Audit));
        } else if !is_permitted(case, &placed, canonical) {
            violations.report(
                place,
                format!("the policy does not permit the hook {path:?}, which leads to {canonical:?}"),
                ACCEPTED,
            );
        }
    }
}

/// Levels of a hook whose file is not what root put there: no policy can have meant it.
const UNTRUSTED: Levels = Levels::new(Level::Audit, Level::Deny, Level::Deny);

fn is_dockerds(placed: &Placed<'_>, canonical: &Path) -> bool {
    placed.point == "prestart"
        && placed.arg0() == Some(SETKEY)
        && DOCKERD.iter().any(|path| Path::new(path) == canonical)
}

fn is_permitted(case: &Case<'_>, placed: &Placed<'_>, path: &Path) -> bool {
    let mut permits = case.policy.hooks.iter();
    permits.any(|permit| permits_hook(permit, placed, path))
}

fn permits_hook(permit: &HookPermit, placed: &Placed<'_>, path: &Path) -> bool {
    permit.point == placed.point
        && Path::new(&permit.path) == path
        && permit
            .arg0
            .as_deref()
            .is_none_or(|arg0| placed.arg0() == Some(arg0))
}

/// Where in the container the hooks of this one may mount something, as the policy has it for each of them. The profile
/// `privileged` lets hooks do what they like: anywhere.
pub(crate) fn mounts(case: &Case<'_>) -> Vec<String> {
    let mut mounts = Vec::new();
    for placed in hooks(case) {
        if case.profile == Profile::Privileged && is_before_the_gate(placed.point) {
            return vec!["/**".to_owned()];
        }
        let path = match placed.point {
            "startContainer" => Some(Path::new(&placed.hook.path)),
            _ => placed.known().ok().map(|fact| fact.canonical.as_path()),
        };
        let permits = case.policy.hooks.iter();
        let matching = permits.filter(|permit| path.is_some_and(|path| permits_hook(permit, &placed, path)));
        mounts.extend(matching.flat_map(|permit| permit.mounts.iter().cloned()));
    }
    mounts
}

fn is_before_the_gate(point: &str) -> bool {
    ["prestart", "createRuntime", "createContainer"].contains(&point)
}

fn clean(case: &Case<'_>, violations: &mut Violations) {
    for Placed { hook, place, .. } in hooks(case) {
        if hook.path.contains('\0') || !hook.path.starts_with('/') {
            violations.report(
                place.clone().key("path"),
                format!("{:?} is not an absolute path", hook.path),
                "an absolute path (runtime-spec, config.md)",
            );
        }
        if let Some(seconds) = hook.timeout.value().filter(|&&seconds| seconds <= 0) {
            violations.report(
                place.clone().key("timeout"),
                format!("{seconds}, which is no time"),
                "a number of seconds above zero (runtime-spec, config.md), or nothing",
            );
        }
        for (index, _) in hook
            .args
            .items()
            .iter()
            .enumerate()
            .filter(|(_, argument)| argument.contains('\0'))
        {
            violations.report(
                place.clone().key("args").index(index),
                "an argument with a NUL",
                "none",
            );
        }
        for (index, entry) in hook.env.items().iter().enumerate() {
            if let Some(found) = unclean(case, entry) {
                violations.report(
                    place.clone().key("env").index(index),
                    found,
                    "an environment that loads no code, with a PATH of directories of the host",
                );
            }
        }
    }
}

/// What is wrong with an entry of a hook's environment.
fn unclean(case: &Case<'_>, entry: &str) -> Option<String> {
    let name = environment::name(entry);
    if entry.contains('\0') {
        return Some(format!("the variable {name:?} has a NUL"));
    }
    if environment::loads_code(name) {
        return Some(format!("the variable {name:?} makes the hook load code"));
    }
    let path = entry.strip_prefix("PATH=")?;
    // An empty entry is the current directory (execvp(3)).
    let crooked = path.split(':').find(|directory| {
        !directory.starts_with('/')
            || directory.split('/').any(|name| name == "..")
            || in_rootfs(case, directory)
    })?;
    Some(format!(
        "PATH has {crooked:?}, which is relative or in the root file system"
    ))
}

/// True if a directory of the host lies in the container's root file system, as it is written or as it is.
fn in_rootfs(case: &Case<'_>, directory: &str) -> bool {
    // Compared by components, so that /x//rootfs/./bin is in /x/rootfs.
    let written = case
        .config
        .root
        .value()
        .map(|root| Path::new(&root.path))
        .filter(|path| path.is_absolute());
    let canonical = match case.facts.rootfs.known() {
        Some(RootfsFact::Directory { canonical, .. }) => Some(canonical.as_path()),
        Some(RootfsFact::Missing(_)) | None => None,
    };
    [written, canonical]
        .into_iter()
        .flatten()
        .any(|root| Path::new(directory).starts_with(root))
}

fn of_the_image(case: &Case<'_>, violations: &mut Violations) {
    for placed in hooks(case) {
        let place = placed.place.clone().key("path");
        let path = &placed.hook.path;
        let accepted = "a hook of the host, at another hook point";
        match placed.point {
            "startContainer" => {
                violations.report(
                    place,
                    format!("the hook {path:?} is a program of the container"),
                    accepted,
                );
            }
            "createContainer" => match placed.known() {
                Ok(fact) if fact.inside_rootfs => {
                    violations.report(
                        place,
                        format!(
                            "the hook {path:?} leads into the root file system, to {:?}",
                            fact.canonical
                        ),
                        accepted,
                    );
                }
                Ok(_) => {}
                Err(why) => {
                    violations.undecided(
                        place,
                        format!("where the hook {path:?} leads to is not known: {why}"),
                    );
                }
            },
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::super::table::{Table, known, set, with};
    use super::*;
    use crate::facts::Identity;
    use crate::profile::Profile;

    const POINTS: [&str; 6] = [
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    ];

    fn file(canonical: &str) -> HookFact {
        HookFact {
            canonical: canonical.into(),
            executable: true,
            trusted: true,
            inside_rootfs: false,
        }
    }

    fn table(profile: Profile, point: &str, fact: HookFact) -> Table {
        Table::of(profile).knowing(|facts| {
            facts.hooks.insert(point.to_owned(), vec![known(fact)]);
        })
    }

    fn bundle(point: &str, hook: Value) -> Value {
        with(&format!("/hooks/{point}"), json!([hook]))
    }

    fn setkey() -> Value {
        json!({"path": "/proc/670/exe", "args": ["libnetwork-setkey", "-exec-root=/var/run/docker", "1", "2"]})
    }

    #[test]
    fn no_hook_is_nothing_to_say() {
        for nothing in [
            Value::Null,
            json!({}),
            json!({"prestart": null}),
            json!({"prestart": []}),
        ] {
            for rule in ["HOOK-01", "HOOK-02", "HOOK-03"] {
                let document = with("/hooks", nothing.clone());
                assert!(
                    Table::of(Profile::Restricted)
                        .findings(rule, &document)
                        .is_empty()
                );
            }
        }
    }

    #[test]
    fn a_hook_that_nobody_permitted_is_recorded_and_in_restricted_denied() {
        for point in POINTS {
            let document = bundle(point, json!({"path": "/opt/hook"}));
            let verdict = |action| [format!("{action} HOOK-01 /hooks/{point}/0/path")];
            for (profile, action) in Profile::ALL.into_iter().zip(["audit", "audit", "deny"]) {
                let table = table(profile, point, file("/opt/hook"));
                assert_eq!(table.verdicts("HOOK-01", &document), verdict(action));
            }
        }
    }

    #[test]
    fn a_permit_names_point_file_and_if_it_likes_the_name() {
        let document = bundle("poststop", json!({"path": "/opt/link", "args": ["hook", "x"]}));
        let permit = |point: &str, path: &str, arg0: Option<&str>| {
            let mut table = table(Profile::Restricted, "poststop", file("/opt/hook"));
            table.policy.hooks = vec![HookPermit {
                point: point.into(),
                path: path.into(),
                arg0: arg0.map(Into::into),
                mounts: Vec::new(),
            }];
            table.findings("HOOK-01", &document).is_empty()
        };
        assert!(permit("poststop", "/opt/hook", None));
        assert!(permit("poststop", "/opt/hook", Some("hook")));
        assert!(!permit("poststop", "/opt/hook", Some("other")));
        assert!(!permit("prestart", "/opt/hook", None));
        // The file that the path leads to counts, not the path.
        assert!(!permit("poststop", "/opt/link", None));
    }

    #[test]
    fn a_file_that_others_can_write_is_denied_even_if_permitted() {
        let document = bundle("prestart", json!({"path": "/opt/hook"}));
        for (fact, what) in [
            (
                HookFact {
                    trusted: false,
                    ..file("/opt/hook")
                },
                "which others than root can write or replace",
            ),
            (
                HookFact {
                    executable: false,
                    ..file("/opt/hook")
                },
                "which cannot be executed",
            ),
        ] {
            for (profile, action) in Profile::ALL.into_iter().zip(["audit", "deny", "deny"]) {
                let mut table = table(profile, "prestart", fact.clone());
                let permit = HookPermit {
                    point: "prestart".into(),
                    path: "/opt/hook".into(),
                    arg0: None,
                    mounts: Vec::new(),
                };
                table.policy.hooks.push(permit);
                assert_eq!(
                    table.verdicts("HOOK-01", &document),
                    [format!("{action} HOOK-01 /hooks/prestart/0/path")]
                );
                let found = &table.findings("HOOK-01", &document)[0].found;
                assert_eq!(
                    found,
                    &format!("the hook \"/opt/hook\" leads to \"/opt/hook\", {what}")
                );
            }
        }
    }

    #[test]
    fn the_docker_daemons_own_hook_is_recorded_and_nothing_that_resembles_it() {
        let verdicts = |fact: HookFact, point: &str, hook: Value| {
            table(Profile::Restricted, point, fact).verdicts("HOOK-01", &bundle(point, hook))
        };
        for path in DOCKERD {
            assert_eq!(
                verdicts(file(path), "prestart", setkey()),
                ["audit HOOK-01 /hooks/prestart/0/path"],
                "{path}"
            );
        }
        let denied = |point: &str| vec![format!("deny HOOK-01 /hooks/{point}/0/path")];
        assert_eq!(
            verdicts(file("/tmp/dockerd"), "prestart", setkey()),
            denied("prestart")
        );
        assert_eq!(
            verdicts(file("/usr/bin/dockerd"), "poststop", setkey()),
            denied("poststop")
        );
        let untrusted = HookFact {
            trusted: false,
            ..file("/usr/bin/dockerd")
        };
        assert_eq!(verdicts(untrusted, "prestart", setkey()), denied("prestart"));
        let other = json!({"path": "/proc/670/exe", "args": ["x", "libnetwork-setkey"]});
        assert_eq!(
            verdicts(file("/usr/bin/dockerd"), "prestart", other),
            denied("prestart")
        );
        let nameless = json!({"path": "/proc/670/exe"});
        assert_eq!(
            verdicts(file("/usr/bin/dockerd"), "prestart", nameless),
            denied("prestart")
        );
    }

    #[test]
    fn a_hook_whose_file_is_not_known_is_recorded_offline_and_not_run_in_restricted() {
        for hook in [setkey(), json!({"path": "/opt/hook"})] {
            let document = bundle("prestart", hook);
            let audit = ["audit HOOK-01 /hooks/prestart/0/path"];
            assert_eq!(
                Table::of(Profile::Restricted)
                    .offline()
                    .verdicts("HOOK-01", &document),
                audit
            );
            assert_eq!(Table::of(Profile::Baseline).verdicts("HOOK-01", &document), audit);
            let finding = &Table::of(Profile::Restricted).findings("HOOK-01", &document)[0];
            assert!(finding.undecided && finding.action == crate::Action::Deny);
        }
        let offline = Table::of(Profile::Restricted).offline();
        assert_eq!(
            offline.findings("HOOK-01", &bundle("prestart", setkey()))[0].found,
            "where the hook \"/proc/670/exe\", by its name the Docker daemon's, leads to is not known: not collected"
        );
    }

    #[test]
    fn a_hooks_environment_loads_no_code() {
        let verdicts = |entries: Value| {
            let mut document = bundle("createRuntime", json!({"path": "/opt/hook", "env": entries}));
            set(&mut document, "/root/path", json!("/var/lib/x/rootfs"));
            let table = Table::of(Profile::Privileged).knowing(|facts| {
                facts.rootfs = known(RootfsFact::Directory {
                    canonical: "/real/rootfs".into(),
                    identity: Identity { device: 1, inode: 2 },
                    is_host_root: false,
                    sensitive: None,
                    shared_with: None,
                    entries: BTreeMap::new(),
                });
            });
            table.verdicts("HOOK-02", &document)
        };
        for entry in [
            "LD_PRELOAD=/x.so",
            "LD_LIBRARY_PATH=/x",
            "LD_PRELOAD",
            "GCONV_PATH=/x",
            "BASH_ENV=/x",
            "ENV=/x",
            "PYTHONPATH=/x",
            "GLIBC_TUNABLES=glibc.x=1",
            "A=\0",
            "PATH=",
            "PATH=bin",
            "PATH=/bin:",
            "PATH=/bin:.",
            "PATH=/bin:/x/../var/lib/x/rootfs",
            "PATH=/var/lib/x/rootfs/bin",
            "PATH=/bin:/var//lib/x/./rootfs",
            "PATH=/real/rootfs/usr/bin",
        ] {
            assert_eq!(
                verdicts(json!(["A=b", entry])),
                ["deny HOOK-02 /hooks/createRuntime/0/env/1"],
                "{entry:?}"
            );
        }
        for fine in [
            json!([
                "PATH=/usr/bin:/bin",
                "NVIDIA_VISIBLE_DEVICES=all",
                "LDFLAGS=-x",
                "ENVIRONMENT=a",
                "MYPATH=x"
            ]),
            json!(["PATH=/var/lib/x/rootfs2/bin:/var/lib/x"]),
            json!([]),
            Value::Null,
        ] {
            assert!(verdicts(fine).is_empty());
        }
    }

    #[test]
    fn a_hook_is_an_absolute_path_with_time_to_run() {
        for (hook, place) in [
            (json!({"path": "hook"}), "path"),
            (json!({"path": ""}), "path"),
            (json!({"path": "/a\0b"}), "path"),
            (json!({"path": "/a", "timeout": 0}), "timeout"),
            (json!({"path": "/a", "timeout": -1}), "timeout"),
            (json!({"path": "/a", "args": ["a", "\0"]}), "args/1"),
        ] {
            for profile in Profile::ALL {
                let verdicts = Table::of(profile).verdicts("HOOK-02", &bundle("poststart", hook.clone()));
                assert_eq!(verdicts, [format!("deny HOOK-02 /hooks/poststart/0/{place}")]);
            }
        }
        for fine in [
            json!({"path": "/a", "timeout": 1}),
            json!({"path": "/a", "timeout": null, "args": []}),
        ] {
            assert!(
                Table::of(Profile::Privileged)
                    .findings("HOOK-02", &bundle("poststart", fine))
                    .is_empty()
            );
        }
    }

    #[test]
    fn a_program_of_the_image_is_no_hook() {
        let inside = HookFact {
            inside_rootfs: true,
            ..file("/rootfs/hook")
        };
        for (point, fact, verdict) in [
            ("startContainer", file("/opt/hook"), Some("startContainer")),
            ("startContainer", inside.clone(), Some("startContainer")),
            ("createContainer", inside.clone(), Some("createContainer")),
            ("createContainer", file("/opt/hook"), None),
            ("prestart", inside, None),
        ] {
            let document = bundle(point, json!({"path": "/opt/hook"}));
            for (profile, action) in [(Profile::Baseline, "audit"), (Profile::Restricted, "deny")] {
                let expected: Vec<_> = verdict
                    .iter()
                    .map(|point| format!("{action} HOOK-03 /hooks/{point}/0/path"))
                    .collect();
                assert_eq!(
                    table(profile, point, fact.clone()).verdicts("HOOK-03", &document),
                    expected
                );
            }
            assert!(
                table(Profile::Privileged, point, fact)
                    .findings("HOOK-03", &document)
                    .is_empty()
            );
        }
        let unknown = bundle("createContainer", json!({"path": "/opt/hook"}));
        assert!(Table::of(Profile::Restricted).findings("HOOK-03", &unknown)[0].undecided);
    }
}
