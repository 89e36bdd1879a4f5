//! What real engines send, judged as on the hosts where it was captured.
//!
//! The files in `bundles/` are config.json files as Docker, podman, ctr and containerd's CRI wrote them: their
//! defaults, and shapes that are deliberately bad or hardened. The names say where: `docker20`, `podman4`,
//! `ctr16`, `cri16`, `host` and `host15` on a host with cgroup version 1 in hybrid mode and no security module;
//! `vmtrixie` on one with cgroup version 2 and AppArmor. What cannot be seen in a file (whose namespace a path
//! leads to, what a source is) is made here from what is known of the capture.
#![allow(
    clippy::unwrap_used,
    reason = "a fixture that cannot be read fails the test that reads it"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use gabion_baseline::config::{Config, Mount};
use gabion_baseline::facts::{
    CgroupFact, CgroupMode, DescriptorFact, DestinationFact, EntrypointFact, Fact, Facts, FileKind, HookFact,
    HostMatch, Identity, KernelFact, LsmFact, NamespaceFact, Relation, RootfsFact, RuntimeFact, SelinuxMode,
    Sensitive, SourceFact,
};
use gabion_baseline::policy::{ENGINE_ROOTS, SeccompGap};
use gabion_baseline::rules;
use gabion_baseline::{Action, Allegation, Judgement, Operation, Policy, Profile, judge};

/// The bundles with a column in [`CELLS`].
const COLUMNS: [&str; 13] = [
    "docker20-default",
    "docker20-it",
    "docker20-build-legacy",
    "docker20-vol",
    "podman4-default",
    "ctr16-default",
    "cri16-sandbox",
    "cri16-ctr",
    "cri16-ctr-restricted",
    "docker20-readonly",
    "docker20-hostnet",
    "docker20-dockersock",
    "docker20-privileged",
];

/// For each rule a cell for each column: what baseline does, and what restricted does. `.` nothing, `A` recorded,
/// `H` hardened, `X` refused.
const CELLS: &str = "
CAP-01  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..
CAP-02  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  XX
CAP-03  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  XX
CAP-04  .X  .X  .X  .X  .X  .X  .H  .X  ..  ..  .X  .X  .X
CAP-05  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..
CAP-06  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..
CAP-08  AX  AX  AX  AX  ..  AX  HH  AX  ..  ..  AX  AX  AX
CAP-09  AX  AX  AX  AX  ..  AX  HH  AX  ..  ..  AX  AX  AX
NS-01   ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..
NS-02   ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..
NS-03   ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..
NS-04   ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  XX  ..  ..
NS-05   ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..
NS-06   HH  HH  HH  HH  HH  HH  HH  HH  HH  HH  HH  HH  HH
NS-07   .A  .A  .A  .A  .A  .A  .A  .A  .A  .A  .A  .A  .A
NS-08   ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..
SEC-01  ..  ..  ..  ..  ..  HH  ..  HH  ..  ..  ..  ..  HH
SEC-02  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..
SEC-03  HH  HH  HH  HH  HH  ..  HH  ..  HH  HH  HH  HH  ..
SEC-04  .H  .H  .H  .H  .H  ..  .H  ..  .H  .H  .H  .H  ..
PRV-01  AH  AH  AH  AH  AH  ..  ..  AH  ..  ..  AH  AH  AH
PRV-02  AX  AX  AX  AX  AX  AX  ..  AX  ..  ..  AX  AX  AX
PRV-03  .A  .A  .A  .A  .A  .A  .A  .A  .A  ..  .A  .A  .A
PRV-05  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  XX
PRV-06  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..
PRV-07  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..
MNT-01  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..
MNT-02  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  XX  ..
MNT-03  ..  ..  ..  AX  ..  ..  ..  ..  ..  ..  ..  AX  ..
MNT-04  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..
MNT-05  HH  HH  HH  HH  HH  ..  HH  HH  HH  HH  HH  HH  HH
MNT-06  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..
MNT-07  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  XX
MNT-08  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  XX
MNT-09  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..
MNT-10  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..
MNT-13  ..  ..  ..  ..  ..  ..  .H  .H  .H  .H  ..  ..  ..
DEV-01  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  XX
DEV-02  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  XX
ROOT-01 AX  AX  AX  AX  AX  AX  ..  AX  ..  ..  AX  AX  AX
SYS-01  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..
SYS-02  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..
PTH-01  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  HH
PTH-02  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  HH
PTH-03  .H  .H  .H  .H  .H  .H  .H  .H  .H  .H  .H  .H  .H
RES-01  AH  AH  AH  AH  ..  AH  AH  AH  AH  ..  AH  AH  AH
RES-02  .A  .A  .A  .A  .A  .A  .A  .A  ..  ..  .A  .A  .A
RES-04  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..
RES-06  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..
RLM-01  .H  .H  .H  .H  .H  .H  .H  .H  .H  .H  .H  .H  .H
HOOK-01 AA  AA  AA  AA  ..  ..  ..  ..  ..  AA  ..  AA  AA
ANN-01  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..
NET-01  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..
TTY-01  ..  HH  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..  ..
";

/// The cells were measured with a first draft of the rules. These are what the rules do now, and why.
const OTHERWISE: [(&str, &str, &str); 1] = [
    // The draft looked at bind mounts alone; a tmpfs at /run without nodev is what the rule is about as well.
    ("MNT-05", "ctr16-default", "HH"),
];

/// Rules with a row in [`CELLS`] that are not in the catalogue yet.
const NOT_YET: [&str; 0] = [];

/// For every bundle the verdicts of the three profiles, `+` admitted and `X` refused, and the rules that refuse it
/// under baseline.
const VERDICTS: &str = "
++X cri16-ctr
+++ cri16-ctr-restricted
+++ cri16-sandbox
+XX cri16-sandbox-host NS-02 NS-03 NS-04
++X ctr16-default
+XX ctr16-privileged CAP-02 CAP-03 DEV-01 DEV-02 MNT-07 PRV-05
++X docker20-build-legacy
++X docker20-default
++X docker20-device
+XX docker20-dockersock MNT-02
+XX docker20-hostnet NS-04
+XX docker20-hostpid NS-02
++X docker20-it
+XX docker20-privileged CAP-02 CAP-03 DEV-01 DEV-02 MNT-07 MNT-08 PRV-05
+++ docker20-readonly
++X docker20-vol
++X host-docker-docker_build_buildkit_needs_default_ru
+XX host-podman-rmp-buildah MNT-08
+++ host15-cri-runp_runtime_x
++X host15-cri-start
+XX host15-k8s-hostNetwork_hostPID_pod NS-02 NS-04 NS-05
+++ host15-k8s-pod_Ready
++X host15-k8s-user_namespace_pod_hostUsers_false
++X podman4-default
+XX podman4-hostpid NS-02
+XX podman4-privileged CAP-02 CAP-03 DEV-01 DEV-02 MNT-07 MNT-08 PRV-05
+++ podman4-readonly
++X podman4-ulimithost
++X vmtrixie-ctr-run_d
++X vmtrixie-ctr-run_rm
++X vmtrixie-docker-cap_drop_ALL
+XX vmtrixie-docker-net_host NS-04
+XX vmtrixie-docker-privileged CAP-02 CAP-03 DEV-01 DEV-02 MNT-07 PRV-05
++X vmtrixie-docker-read_only_root
++X vmtrixie-docker-run_it_tty
++X vmtrixie-docker-run_rm
++X vmtrixie-docker-seccomp_unconfined
+XX vmtrixie-podman-pid_host NS-02
++X vmtrixie-podman-run_it
++X vmtrixie-podman-run_rm
++X vmtrixie-podman-userns_auto_map
";

fn bundles() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory())
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    names.sort();
    names
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bundles")
}

fn allegation(name: &str) -> Allegation {
    let file = directory().join(format!("{name}.json"));
    Allegation::parse(&fs::read(file).unwrap()).unwrap()
}

/// What the real floor says of a filter.
fn gaps(filter: &serde_json::Value, bounding: &[String]) -> Result<Vec<SeccompGap>, String> {
    let gaps = gabion_seccomp::floor::gaps(filter, bounding).map_err(|error| error.to_string())?;
    Ok(gaps
        .into_iter()
        .map(|gap| SeccompGap {
            entry: gap.entry.to_owned(),
            restricted: gap.restricted,
            calls: gap.calls,
        })
        .collect())
}

fn judged(name: &str, profile: Profile) -> Judgement {
    let allegation = allegation(name);
    let facts = facts(name, allegation.config());
    let mut policy = Policy::builtin(
        profile,
        |_| serde_json::json!({"defaultAction": "SCMP_ACT_ERRNO"}),
    );
    policy.seccomp_gaps = std::sync::Arc::new(gaps);
    judge(
        &allegation,
        &facts,
        &policy,
        &Operation::Create {
            id: "captured".to_owned(),
        },
    )
    .unwrap()
}

/// What was so on the host where the bundle was captured.
fn facts(name: &str, config: &Config) -> Facts {
    let trixie = name.starts_with("vmtrixie");
    let linux = config.linux.value().unwrap();
    let mounts = config.mounts.items();
    Facts {
        namespaces: linux
            .namespaces
            .items()
            .iter()
            .enumerate()
            .map(|(index, entry)| {
                Fact::Known(match entry.joins() {
                    None => NamespaceFact::New,
                    Some(_) => NamespaceFact::Existing {
                        identity: Identity {
                            device: 4,
                            inode: 4_026_532_000 + index as u64,
                        },
                        host: is_hosts(name, &entry.kind).then_some(HostMatch::Runtime),
                    },
                })
            })
            .collect(),
        lsm: Fact::Known(LsmFact {
            apparmor: trixie,
            apparmor_profiles: Some(if trixie {
                [
                    "docker-default",
                    "containers-default-0.62.2",
                    "cri-containerd.apparmor.d",
                ]
                .map(|profile| (profile.to_owned(), "enforce".to_owned()))
                .into()
            } else {
                BTreeMap::new()
            }),
            selinux: SelinuxMode::Off,
        }),
        cgroup: Fact::Known(CgroupFact {
            mode: if trixie {
                CgroupMode::Unified
            } else {
                CgroupMode::Hybrid
            },
            occupied: None,
            ancestor_pids_limit: None,
        }),
        kernel: Fact::Known(KernelFact {
            version: if trixie { (6, 12) } else { (6, 18) },
            last_capability: 40,
            legacy_tiocsti: Some(true),
            in_initial_user_namespace: true,
        }),
        mount_sources: mounts
            .iter()
            .map(|mount| Fact::Known(mount.is_bind().then(|| source(mount))))
            .collect(),
        mount_destinations: mounts
            .iter()
            .map(|mount| Fact::Known(DestinationFact::Inside(PathBuf::from(&mount.destination))))
            .collect(),
        rootfs: Fact::Known(RootfsFact::Directory {
            canonical: PathBuf::from("/var/lib/captured/rootfs"),
            identity: Identity { device: 1, inode: 77 },
            is_host_root: false,
            sensitive: None,
            shared_with: None,
            entries: ["dev", "etc", "proc", "sys"]
                .map(|entry| (entry.to_owned(), FileKind::Directory))
                .into(),
        }),
        hooks: config
            .hooks
            .value()
            .map(|hooks| {
                hooks
                    .points()
                    .into_iter()
                    .map(|(point, list)| {
                        (
                            point.to_owned(),
                            list.iter().map(|hook| Fact::Known(program(&hook.path))).collect(),
                        )
                    })
                    .collect()
            })
            .unwrap_or_default(),
        runtime: Fact::Known(RuntimeFact {
            sealed: Some("a sealed memfd".to_owned()),
            writable_binary: None,
            writable_policy: None,
            own_files: Vec::new(),
        }),
        descriptors: Fact::Known(
            (0..3)
                .map(|number| DescriptorFact {
                    number,
                    kind: FileKind::Fifo,
                    target: format!("pipe:[{number}]"),
                })
                .collect(),
        ),
        namespace_owners: linux
            .namespaces
            .items()
            .iter()
            .map(|_| Fact::Known(None))
            .collect(),
        entrypoint: Fact::Known(EntrypointFact::default()),
        ..Facts::default()
    }
}

/// Whether a namespace that is joined by its path is the host's: `--network host` and hostNetwork, hostPID.
/// Without a path the entry is not there at all, and that is in the file.
fn is_hosts(name: &str, kind: &str) -> bool {
    match name {
        "docker20-hostnet" => kind == "network",
        // The kubelet gives a pod on the host's network the host's name as well.
        "host15-k8s-hostNetwork_hostPID_pod" => ["network", "pid", "uts"].contains(&kind),
        _ => false,
    }
}

/// What the sources in the bundles are, by their names.
fn source(mount: &Mount) -> SourceFact {
    let written = mount.source.value().unwrap().as_str();
    let path = written.replacen("/var/run/", "/run/", 1);
    let file_names = [
        ".containerenv",
        "etc-hosts",
        "group",
        "hostname",
        "hosts",
        "passwd",
        "resolv.conf",
        "9c1d2e3f",
        "042071b3",
        "088ce898",
        "hosts.u9joc86addsa53mee1xf5ema3",
    ];
    let is_file = path
        .rsplit('/')
        .next()
        .is_some_and(|last| file_names.contains(&last));
    let inside = [
        "/var/lib/docker",
        "/var/lib/containerd",
        "/var/lib/containers",
        "/var/lib/kubelet",
        "/run",
        "/dev",
    ]
    .into_iter()
    .find(|directory| path.starts_with(&format!("{directory}/")));
    SourceFact {
        identity: Identity { device: 1, inode: 9 },
        kind: match path.as_str() {
            "/run/docker.sock" => FileKind::Socket,
            _ if is_file => FileKind::Regular,
            _ => FileKind::Directory,
        },
        on_procfs: false,
        on_sysfs: false,
        on_cgroupfs: false,
        is_host_shm: path == "/dev/shm",
        through_magic_link: None,
        through_foreign_link: None,
        sensitive: inside.map(|directory| Sensitive {
            directory: directory.to_owned(),
            relation: Relation::Inside,
        }),
        restrictions: Vec::new(),
        control_socket: (path == "/run/docker.sock").then(|| "the Docker daemon's socket".to_owned()),
        // podman of vmtrixie and buildah ran with their state elsewhere, where no policy expects it.
        engine_managed: ENGINE_ROOTS
            .iter()
            .any(|root| path.starts_with(&format!("{root}/"))),
        canonical: PathBuf::from(path),
    }
}

/// The hooks in the bundles are all of Docker up to version 27: `/proc/<pid of dockerd>/exe`.
fn program(path: &str) -> HookFact {
    assert!(path.starts_with("/proc/") && path.ends_with("/exe"), "{path}");
    HookFact {
        canonical: PathBuf::from("/usr/bin/dockerd"),
        executable: true,
        trusted: true,
        inside_rootfs: false,
    }
}

/// What a rule does about a bundle: the gravest of its findings.
fn cell(judgement: &Judgement, rule: &str) -> char {
    let gravest = judgement
        .findings()
        .iter()
        .filter(|finding| finding.rule_id() == rule)
        .map(|found| found.action);
    match gravest.max() {
        None => '.',
        Some(Action::Audit) => 'A',
        Some(Action::Harden) => 'H',
        Some(Action::Deny) => 'X',
    }
}

#[test]
fn each_rule_does_with_what_engines_send_what_the_catalogue_says() {
    let judged: Vec<(Judgement, Judgement)> = COLUMNS
        .iter()
        .map(|name| (judged(name, Profile::Baseline), judged(name, Profile::Restricted)))
        .collect();
    let mut skipped = Vec::new();
    let mut wrong = Vec::new();
    for row in CELLS.lines().filter(|line| !line.is_empty()) {
        let (rule, cells) = row.split_once(' ').unwrap();
        if rules::find(rule).is_none() {
            skipped.push(rule);
            continue;
        }
        let cells: Vec<&str> = cells.split_whitespace().collect();
        assert_eq!(cells.len(), COLUMNS.len(), "{rule}");
        for ((name, expected), (baseline, restricted)) in COLUMNS.iter().zip(cells).zip(&judged) {
            let otherwise = OTHERWISE
                .iter()
                .find(|(r, n, _)| (r, n) == (&rule, name))
                .map(|(_, _, cell)| *cell);
            let expected = otherwise.unwrap_or(expected);
            let found: String = [cell(baseline, rule), cell(restricted, rule)].iter().collect();
            if found != expected {
                wrong.push(format!("{rule} on {name}: expected {expected}, found {found}"));
            }
        }
    }
    println!("not in the catalogue: {}", skipped.join(", "));
    assert_eq!(wrong, Vec::<String>::new(), "\n{}", wrong.join("\n"));
    assert_eq!(skipped, NOT_YET);
}

#[test]
fn every_bundle_gets_its_verdict_under_every_profile() {
    let mut found = String::from("\n");
    for name in bundles() {
        let judgements = Profile::ALL.map(|profile| judged(&name, profile));
        for judgement in &judgements {
            found.push(if matches!(judgement, Judgement::Admitted(_)) {
                '+'
            } else {
                'X'
            });
        }
        found.push(' ');
        found.push_str(&name);
        let [_, baseline, _] = &judgements;
        let denied = baseline
            .findings()
            .iter()
            .filter(|finding| finding.action == Action::Deny);
        let rules: BTreeSet<&str> = denied.map(|finding| finding.rule_id()).collect();
        for rule in rules {
            found.push(' ');
            found.push_str(rule);
        }
        found.push('\n');
    }
    assert_eq!(found, VERDICTS, "found:\n{found}");
}

#[test]
fn a_file_from_another_host_is_reported_without_a_line_for_each_mount_of_the_engine() {
    for name in bundles() {
        let allegation = allegation(&name);
        let policy = Policy::builtin(
            Profile::Baseline,
            |_| serde_json::json!({"defaultAction": "SCMP_ACT_ERRNO"}),
        );
        let judgement = judge(
            &allegation,
            &Facts::default(),
            &policy,
            &Operation::Check { offline: true },
        )
        .unwrap();
        let undecided: Vec<&str> = judgement
            .findings()
            .iter()
            .filter(|finding| finding.undecided && finding.rule_id() == "MNT-12")
            .map(|finding| finding.rule.as_str())
            .collect();
        // Sources that no policy expects: a user's directory, and engines with their state elsewhere.
        let expected = match name.as_str() {
            "docker20-vol" | "host15-cri-start" => 1,
            "host-podman-rmp-buildah" => 4,
            "vmtrixie-podman-pid_host" | "vmtrixie-podman-run_it" | "vmtrixie-podman-run_rm" => 4,
            "vmtrixie-podman-userns_auto_map" => 4,
            _ => 0,
        };
        assert_eq!(undecided, vec!["MNT-12"; expected], "{name}");
    }
}

#[test]
fn the_docker_socket_is_recognized_in_a_file_from_another_host() {
    let policy = Policy::builtin(
        Profile::Baseline,
        |_| serde_json::json!({"defaultAction": "SCMP_ACT_ERRNO"}),
    );
    let operation = Operation::Check { offline: true };
    let judgement = judge(
        allegation("docker20-dockersock"),
        &Facts::default(),
        &policy,
        &operation,
    )
    .unwrap();
    let denied: Vec<(&str, &str)> = judgement
        .findings()
        .iter()
        .filter(|finding| finding.action == Action::Deny)
        .map(|finding| (finding.rule.as_str(), finding.pointer.as_str()))
        .collect();
    assert_eq!(denied, [("MNT-02:/run/docker.sock", "/mounts/10/source")]);
}
