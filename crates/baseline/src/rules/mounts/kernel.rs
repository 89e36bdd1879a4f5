//! The kernel's own file systems, at the places where programs expect them: MNT-06, MNT-07, MNT-08, MNT-09.
//!
//! /proc, /sys and /dev are what a runtime itself works with while it builds a container: it writes security
//! labels and kernel parameters below /proc, and opens devices in /dev. Who can put something of his own there
//! has the runtime's hand guided. And what masks and read-only paths protect, they protect at these places
//! alone: a second procfs or sysfs elsewhere has no masks.

use super::{
    Bind, binds, entry, has, is_readonly_throughout, is_writable, kind, lies_at_or_in, lies_in, place,
    with_option,
};
use crate::change::Change;
use crate::config::Mount;
use crate::facts::{CgroupMode, Fact, FactKind, FileKind};
use crate::profile::{Level, Levels};
use crate::rule::{Case, Mappings, Remedies, Rule, Violations};
use crate::rules::namespaces::{Standing, standing};

/// Files that lxcfs puts over those of /proc, so that programs see the container's share of the machine.
const LXCFS: [&str; 8] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
];

/// The mounts with their indices and places in the container.
fn placed<'a>(case: &Case<'a>) -> impl Iterator<Item = (usize, &'a Mount, String)> {
    let case = *case;
    case.config
        .mounts
        .items()
        .iter()
        .enumerate()
        .map(move |(index, mount)| (index, mount, place(&case, index)))
}

pub(super) static MNT_06: Rule = Rule {
    id: "MNT-06",
    title: "/proc is a procfs of the container, and nothing else",
    meaning: "What is mounted at /proc is not a new procfs; there is a second procfs; procfs of the host is \
              bind-mounted; or something is mounted below /proc, other than regular files over those that lxcfs \
              replaces (cpuinfo, meminfo, stat, uptime, ...). Destinations are judged by where links in the image \
              lead. The options nosuid, noexec and nodev are added where they are missing.",
    why: "A runtime sets the AppArmor or SELinux label of a container by writing to /proc/self/attr, and kernel \
          parameters by writing to /proc/sys. If something else is mounted there, the write succeeds and nothing is \
          confined, or it lands in another file. A second procfs shows all that is masked in the first one.",
    stops: &[
        "CVE-2019-16884 (a volume over /proc swallows the security label)",
        "CVE-2019-19921 and CVE-2023-27561 (exchanging /proc while it is mounted)",
        "CVE-2025-52881 (label and parameter writes redirected)",
        "reading masked files through a second procfs",
    ],
    fields: &[
        "/mounts/*/destination",
        "/mounts/*/type",
        "/mounts/*/source",
        "/mounts/*/options",
    ],
    levels: Levels::new(Level::Audit, Level::Deny, Level::Deny),
    hardening: "nosuid, noexec and nodev are added to the procfs at /proc where they are missing",
    remedies: Remedies {
        docker: "Remove the -v or --mount whose target is /proc or below it, and any VOLUME /proc of the image. To \
                 look at processes of the host, run the tool on the host.",
        ctr: "Remove the --mount whose dst is /proc or below it.",
        kubernetes: "Remove the volumeMount whose mountPath is /proc or below it. For a node agent, which wants \
                     hostPath /proc at /host/proc, have the site's policy allow MNT-01:/proc for its namespace.",
        config: "Keep one entry {\"destination\": \"/proc\", \"type\": \"proc\", \"source\": \"proc\", \"options\": \
                 [\"nosuid\", \"noexec\", \"nodev\"]} and remove the others.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "/proc Mount Type (baseline)",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.4.1",
    },
    facts: &[FactKind::Mounts],
    check: proc_is_proc,
};

fn proc_is_proc(case: &Case<'_>, violations: &mut Violations) {
    /// Options are filled in where they are missing, unlike the rest of the rule, which has nothing to fill in:
    /// adding one takes nothing from a workload, since procfs holds no programs and no device nodes.
    const MISSING_OPTION: Levels = Levels::new(Level::Audit, Level::Harden, Level::Harden);
    const ACCEPTED: &str = "one mount of type \"proc\" at /proc";

    let mut seen = false;
    for (index, mount, place) in placed(case) {
        let is_procfs = kind(mount) == "proc" && !mount.is_bind();
        if is_procfs && place == "/proc" && !seen {
            seen = true;
            let missing: Vec<&str> = [("nosuid", "suid"), ("noexec", "exec"), ("nodev", "dev")]
                .into_iter()
                .filter(|(wanted, opposite)| mount.last_of(&[wanted], &[opposite]) != Some(true))
                .map(|(wanted, _)| wanted)
                .collect();
            if !missing.is_empty() {
                let violation = violations.report(
                    entry(index).key("options"),
                    format!("the procfs at /proc lacks {}", missing.join(", ")),
                    "nosuid, noexec and nodev",
                );
                violation.levels(MISSING_OPTION);
                for option in missing {
                    violation.fix(with_option(index, option));
                }
            }
        } else if is_procfs {
            let found = format!("a second procfs, at {place:?}");
            violations.report(entry(index).key("destination"), found, ACCEPTED);
        } else if place == "/proc" {
            let found = format!("{} at /proc", what(mount));
            violations.report(entry(index).key("type"), found, ACCEPTED);
        } else if lies_in(&place, "/proc") && !is_lxcfs(case, index, mount, &place) {
            violations.report(
                entry(index).key("destination"),
                format!("{} below /proc, at {place:?}", what(mount)),
                "nothing below /proc but regular files over those that lxcfs replaces",
            );
        }
    }
    // The host's procfs by another name. What lies in the host's own /proc is said by MNT-01.
    for bind in binds(case) {
        let Ok(fact) = bind.fact else { continue };
        if fact.on_procfs && !lies_at_or_in(&bind.place(), "/proc") && !is_in(&bind, "/proc") {
            violations.report(
                bind.pointer(),
                format!("{} lies on a procfs of the host", bind.shown()),
                ACCEPTED,
            );
        }
    }
}

/// The mount in a few words.
fn what(mount: &Mount) -> String {
    if mount.is_bind() {
        return format!(
            "a bind mount of {:?}",
            mount.source.value().map_or("", String::as_str)
        );
    }
    match kind(mount) {
        "" => "a mount without a type".to_owned(),
        kind => format!("a mount of type {kind:?}"),
    }
}

/// True if the source is the sensitive directory of this name, or in it: then MNT-01 speaks of it.
fn is_in(bind: &Bind<'_>, directory: &str) -> bool {
    bind.fact
        .ok()
        .and_then(|fact| fact.sensitive.as_ref())
        .is_some_and(|found| found.directory == directory)
}

fn is_lxcfs(case: &Case<'_>, index: usize, mount: &Mount, place: &str) -> bool {
    if !mount.is_bind() || !LXCFS.contains(&place) {
        return false;
    }
    Bind::of(case, index, mount).is_some_and(|bind| match bind.fact {
        Ok(fact) => fact.kind == FileKind::Regular && !fact.on_procfs,
        // MNT-12 says that it is not known what this is.
        Err(_) => !bind.plain().is_some_and(|path| lies_at_or_in(&path, "/proc")),
    })
}

pub(super) static MNT_07: Rule = Rule {
    id: "MNT-07",
    title: "/sys is a read-only sysfs",
    meaning: "What is mounted at /sys is a sysfs that may be written to, or a bind mount of the host's that is not \
              read-only throughout (rro), or something else; or there is a second sysfs.",
    why: "sysfs belongs to the kernel, not to the container. Root in the container writes a program's name to \
          /sys/kernel/uevent_helper and the kernel runs it on the host as root; other files switch devices and \
          security modules off. ro applies to one mount, and what is mounted below it stays writable: rro covers \
          that too.",
    stops: &[
        "the uevent_helper escape",
        "switches below /sys/kernel, /sys/module and /sys/firmware",
    ],
    fields: &["/mounts/*/destination", "/mounts/*/type", "/mounts/*/options"],
    levels: Levels::new(Level::Audit, Level::Deny, Level::Deny),
    // Denied all the same, for the engines leave /sys writable for --privileged alone: who asks for that would
    // get a container that starts and does not do what he wanted.
    hardening: "where the site's policy sets the level harden: ro is added to a sysfs",
    remedies: Remedies {
        docker: "Remove --privileged; Docker then mounts /sys read-only. A single device is given by --device.",
        ctr: "Remove --privileged; /sys is then read-only.",
        kubernetes: "Remove privileged: true from securityContext; the container engine then mounts /sys read-only.",
        config: "Let the entry be {\"destination\": \"/sys\", \"type\": \"sysfs\", \"source\": \"sysfs\", \"options\": \
                 [\"nosuid\", \"noexec\", \"nodev\", \"ro\"]}.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "Privileged Containers (baseline)",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.4.3",
    },
    facts: &[FactKind::Mounts],
    check: sys_is_readonly,
};

fn sys_is_readonly(case: &Case<'_>, violations: &mut Violations) {
    const ACCEPTED: &str = "one mount of type \"sysfs\" at /sys with the option \"ro\"";
    for (index, mount, place) in placed(case) {
        let is_sysfs = kind(mount) == "sysfs" && !mount.is_bind();
        if is_sysfs && place != "/sys" {
            let found = format!("a second sysfs, at {place:?}");
            violations.report(entry(index).key("destination"), found, ACCEPTED);
        } else if is_sysfs && is_writable(mount) {
            violations
                .report(
                    entry(index).key("options"),
                    "the sysfs at /sys may be written to",
                    ACCEPTED,
                )
                .fix(with_option(index, "ro"));
        } else if mount.is_bind() && place == "/sys" && !is_readonly_throughout(mount) {
            violations.report(
                entry(index).key("options"),
                format!(
                    "{} at /sys may be written to, or what is mounted below it may",
                    what(mount)
                ),
                "the option \"rro\"; or a mount of type \"sysfs\"",
            );
        } else if place == "/sys" && !is_sysfs && !mount.is_bind() {
            violations.report(
                entry(index).key("type"),
                format!("{} at /sys", what(mount)),
                ACCEPTED,
            );
        }
    }
    for bind in binds(case) {
        let Ok(fact) = bind.fact else { continue };
        let elsewhere = !lies_at_or_in(&bind.place(), "/sys") && !is_in(&bind, "/sys");
        if fact.on_sysfs && elsewhere && !is_readonly_throughout(bind.mount) {
            let found = format!(
                "{} lies on a sysfs of the host and may be written to",
                bind.shown()
            );
            violations.report(bind.pointer(), found, ACCEPTED);
        }
    }
}

pub(super) static MNT_08: Rule = Rule {
    id: "MNT-08",
    title: "control groups are read-only, or the container's own",
    meaning: "A cgroup file system may be written to, on a host with cgroups of version 1; or on one with version 2, \
              by a container without a cgroup namespace of its own.",
    why: "On version 1, root in the container writes a program's name to release_agent, and the kernel runs it on the \
          host when a group becomes empty. On version 2 there is no such file, but without a namespace the whole \
          tree is there, with the groups of everyone else: their limits, their freezer and their kill switch.",
    stops: &[
        "the release_agent escape (CVE-2022-0492)",
        "CVE-2023-25809 (the user's slice, writable without root)",
        "lifting one's own limits, and freezing or killing other containers",
    ],
    fields: &["/mounts/*/destination", "/mounts/*/type", "/mounts/*/options"],
    levels: Levels::new(Level::Audit, Level::Deny, Level::Deny),
    hardening: "where the site's policy sets the level harden: ro is added",
    remedies: Remedies {
        docker: "Remove --privileged, and -v /sys/fs/cgroup:/sys/fs/cgroup. For systemd in a container use a host \
                 with cgroup version 2, and --cgroupns private.",
        podman: "Remove --privileged, and -v /sys/fs/cgroup:/sys/fs/cgroup; for systemd in a container \
                 (--systemd) use a host with cgroup version 2. podman build mounts them writable on version \
                 1: there let the site's policy set MNT-08 = \"harden\", which adds ro.",
        ctr: "Remove --privileged, and any --mount of /sys/fs/cgroup.",
        kubernetes: "Remove privileged: true and any hostPath volume of /sys/fs/cgroup. For systemd in a container \
                     use nodes with cgroup version 2 and containerd's cgroup_writable.",
        config: "Add \"ro\" to the options of the mount at /sys/fs/cgroup; on cgroup version 2, {\"type\": \
                 \"cgroup\"} in linux.namespaces does as well.",
    },
    mappings: Mappings {
        pss: "Privileged Containers (baseline)",
        cis_docker: "5.25",
        nsa: "",
        nist_800_190: "3.4.3",
    },
    facts: &[FactKind::Mounts, FactKind::Cgroup, FactKind::Namespaces],
    check: cgroups_are_readonly,
};

fn cgroups_are_readonly(case: &Case<'_>, violations: &mut Violations) {
    for (index, mount, place) in placed(case) {
        let here = lies_at_or_in(&place, "/sys/fs/cgroup");
        let is_cgroup = ["cgroup", "cgroup2"].contains(&kind(mount));
        // Those of the host by another name. What lies in the host's own /sys is said by MNT-01.
        let is_bound = Bind::of(case, index, mount).is_some_and(|bind| {
            here || (bind.fact.is_ok_and(|fact| fact.on_cgroupfs) && !is_in(&bind, "/sys"))
        });
        if !(is_cgroup || is_bound) || is_readonly_throughout(mount) {
            continue;
        }
        let place = entry(index).key("options");
        let found = |why: &str| format!("{} may be written to, {why}", what(mount));
        let accepted = match mount.is_bind() && has(mount, "rbind") {
            true => "the option \"rro\"",
            false => "the option \"ro\"",
        };
        let refused = match (&case.facts.cgroup, standing(case, "cgroup")) {
            (Fact::Known(cgroup), _) if cgroup.mode != CgroupMode::Unified => {
                found("and this host has cgroups of version 1")
            }
            // Without a namespace it is wrong on every host.
            (_, Standing::Absent | Standing::Host { .. }) => found("and the cgroup namespace is the host's"),
            (Fact::Known(_), Standing::New | Standing::Joined) => continue,
            // NS-09 refuses what is no namespace.
            (Fact::Known(_), Standing::Nothing) => continue,
            (Fact::Known(_), Standing::Unknown { why, .. }) => {
                violations.undecided(
                    place,
                    found(&format!("and whose cgroup namespace it has is not known: {why}")),
                );
                continue;
            }
            (Fact::Unknown(why), _) => {
                violations.undecided(
                    place,
                    found(&format!(
                        "and the version of the host's cgroups is not known: {why}"
                    )),
                );
                continue;
            }
        };
        // rro, not ro, where mounts below come along.
        let option = if mount.is_bind() && has(mount, "rbind") {
            "rro"
        } else {
            "ro"
        };
        violations
            .report(place, refused, accepted)
            .fix(with_option(index, option));
    }
}

pub(super) static MNT_09: Rule = Rule {
    id: "MNT-09",
    title: "/dev is a new tmpfs",
    meaning: "No tmpfs is mounted at /dev, or something else is mounted over it.",
    why: "Without one, /dev is what the image brings: a link, or nodes and files of its author's choice. The runtime \
          creates devices there, opens the terminal there, and binds /dev/null over what is to be masked. An image \
          whose /dev is a link to elsewhere makes it do all that elsewhere.",
    stops: &[
        "CVE-2026-41579 (runc)",
        "CVE-2026-88264 and CVE-2026-88265 (crun)",
        "CVE-2025-31133 and CVE-2025-52565, which need a /dev that others can change",
    ],
    fields: &["/mounts/*/destination", "/mounts/*/type"],
    levels: Levels::new(Level::Audit, Level::Deny, Level::Deny),
    // Every engine mounts one. Who leaves it out wants the image's /dev, and would be surprised by another.
    hardening: "where the site's policy sets the level harden: a tmpfs at /dev is added before the mounts in it",
    remedies: Remedies {
        docker: "Docker always mounts one; remove any -v whose target is /dev.",
        podman: "podman always mounts one; remove any -v whose target is /dev.",
        ctr: "ctr always mounts one; remove any --mount whose dst is /dev.",
        kubernetes: "The container engine always mounts one; remove any volumeMount whose mountPath is /dev.",
        config: "Add {\"destination\": \"/dev\", \"type\": \"tmpfs\", \"source\": \"tmpfs\", \"options\": [\"nosuid\", \
                 \"strictatime\", \"mode=755\", \"size=65536k\"]} before the mounts below /dev.",
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "5.18",
        nsa: "",
        nist_800_190: "3.4.1",
    },
    facts: &[FactKind::Mounts],
    check: dev_is_new,
};

fn dev_is_new(case: &Case<'_>, violations: &mut Violations) {
    const ACCEPTED: &str = "a mount of type \"tmpfs\" at /dev";
    // Of several mounts at one place the last one is what is seen.
    match placed(case).filter(|(_, _, place)| place == "/dev").last() {
        None => {
            violations
                .report(
                    "/mounts",
                    "nothing is mounted at /dev, so it is the image's",
                    ACCEPTED,
                )
                .fix(Change::AddDevTmpfs);
        }
        Some((_, mount, _)) if kind(mount) == "tmpfs" && !mount.is_bind() => {}
        Some((index, mount, _)) => {
            violations.report(
                entry(index).key("type"),
                format!("{} at /dev", what(mount)),
                ACCEPTED,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::{Value, json};

    use super::super::ground::{bind, directory, mounts, sensitive};
    use super::*;
    use crate::facts::{
        CgroupFact, DestinationFact, Facts, HostMatch, Identity, NamespaceFact, Relation, SourceFact,
    };
    use crate::profile::Profile;
    use crate::rules::table::{Table, set};

    fn at(destination: &str, kind: &str, options: &[&str]) -> Value {
        json!({"destination": destination, "type": kind, "source": kind, "options": options})
    }

    fn verdicts(rule: &str, list: Value, tell: impl Fn(&mut Facts)) -> [String; 3] {
        Profile::ALL.map(|profile| {
            Table::of(profile)
                .knowing(&tell)
                .verdicts(rule, &mounts(list.clone()))
                .join(", ")
        })
    }

    fn nothing(_: &mut Facts) {}

    fn refused(rule: &str, place: &str) -> [String; 3] {
        ["audit", "deny", "deny"].map(|action| format!("{action} {rule} {place}"))
    }

    const CLEAN: [&str; 3] = ["", "", ""];
    const SAFE: [&str; 3] = ["nosuid", "noexec", "nodev"];

    #[test]
    fn proc_is_one_procfs_with_safe_options() {
        let proc = at("/proc", "proc", &SAFE);
        for (list, expected) in [
            (json!([proc]), None),
            (json!([]), None),
            (json!(null), None),
            (json!([at("//proc/./", "proc", &SAFE)]), None),
            (json!([at("/procfs", "tmpfs", &[])]), None),
            (json!([at("/proc", "tmpfs", &SAFE)]), Some("/mounts/0/type")),
            (
                json!([bind("/proc", "/proc", &["rbind"])]),
                Some("/mounts/0/type"),
            ),
            // The engine goes by the option, whatever the type says.
            (json!([at("/proc", "proc", &["rbind"])]), Some("/mounts/0/type")),
            (
                json!([proc, at("/proc", "proc", &SAFE)]),
                Some("/mounts/1/destination"),
            ),
            (
                json!([proc, at("/mnt/proc", "proc", &SAFE)]),
                Some("/mounts/1/destination"),
            ),
            (
                json!([proc, at("/proc/self/attr", "tmpfs", &[])]),
                Some("/mounts/1/destination"),
            ),
            (
                json!([proc, at("/x/../proc/sys", "tmpfs", &[])]),
                Some("/mounts/1/destination"),
            ),
            (
                json!([proc, at("proc/sys", "tmpfs", &[])]),
                Some("/mounts/1/destination"),
            ),
            (json!([proc, {"destination": "/proc"}]), Some("/mounts/1/type")),
        ] {
            let found = verdicts("MNT-06", list.clone(), nothing);
            match expected {
                Some(place) => assert_eq!(found, refused("MNT-06", place), "{list}"),
                None => assert_eq!(found, CLEAN, "{list}"),
            }
        }
    }

    #[test]
    fn missing_options_of_proc_are_added() {
        let document = mounts(json!([at("/proc", "proc", &["nosuid", "suid", "nodev"])]));
        let hardened =
            ["audit", "harden", "harden"].map(|action| format!("{action} MNT-06 /mounts/0/options"));
        let table = |profile| Table::of(profile);
        assert_eq!(
            Profile::ALL.map(|p| table(p).verdicts("MNT-06", &document).join(", ")),
            hardened
        );
        assert_eq!(
            table(Profile::Baseline).hardened("MNT-06", &document)["mounts"][0]["options"],
            json!(["suid", "nodev", "nosuid", "noexec"])
        );
        for empty in [json!(null), json!([])] {
            let document = mounts(json!([{"destination": "/proc", "type": "proc", "options": empty}]));
            let found = table(Profile::Baseline).findings("MNT-06", &document);
            assert_eq!(found[0].found, "the procfs at /proc lacks nosuid, noexec, nodev");
        }
    }

    #[test]
    fn lxcfs_may_put_regular_files_over_those_of_proc() {
        let file = |fact: SourceFact| SourceFact {
            kind: FileKind::Regular,
            ..fact
        };
        for (destination, fact, expected) in [
            (
                "/proc/meminfo",
                Some(file(directory("/var/lib/lxcfs/proc/meminfo"))),
                None,
            ),
            ("/proc/uptime", None, None),
            ("/proc/meminfo", Some(directory("/srv/d")), Some("destination")),
            (
                "/proc/stat",
                Some(SourceFact {
                    on_procfs: true,
                    ..file(directory("/proc/1/stat"))
                }),
                Some("destination"),
            ),
            (
                "/proc/version",
                Some(file(directory("/srv/version"))),
                Some("destination"),
            ),
            (
                "/proc/meminfo/x",
                Some(file(directory("/srv/x"))),
                Some("destination"),
            ),
            // Elsewhere, but the host's procfs: by the fact, since its path is not below /proc.
            (
                "/mnt",
                Some(SourceFact {
                    on_procfs: true,
                    ..directory("/srv/jail/proc")
                }),
                Some("source"),
            ),
            (
                "/mnt",
                Some(SourceFact {
                    on_procfs: true,
                    ..sensitive("/proc", Relation::Is, "/proc")
                }),
                None,
            ),
        ] {
            let found = verdicts("MNT-06", json!([bind("/src", destination, &["ro"])]), |facts| {
                facts.mount_sources =
                    vec![fact.clone().map_or(Fact::Unknown("offline".to_owned()), |fact| {
                        Fact::Known(Some(fact))
                    })];
            });
            match expected {
                Some(key) => assert_eq!(
                    found,
                    refused("MNT-06", &format!("/mounts/0/{key}")),
                    "{destination}"
                ),
                None => assert_eq!(found, CLEAN, "{destination} {fact:?}"),
            }
        }
    }

    #[test]
    fn a_link_in_the_image_does_not_hide_where_a_mount_goes() {
        let list = json!([at("/data", "tmpfs", &[])]);
        let leads = |to: &str| {
            let to = PathBuf::from(to);
            move |facts: &mut Facts| {
                facts.mount_destinations = vec![Fact::Known(DestinationFact::Inside(to.clone()))];
            }
        };
        assert_eq!(
            verdicts("MNT-06", list.clone(), leads("/proc/self")),
            refused("MNT-06", "/mounts/0/destination")
        );
        assert_eq!(verdicts("MNT-06", list.clone(), leads("/data")), CLEAN);
        assert_eq!(
            verdicts("MNT-07", list, leads("/sys")),
            refused("MNT-07", "/mounts/0/type")
        );
    }

    #[test]
    fn a_link_that_would_lead_out_on_the_host_does_not_hide_where_a_mount_goes() {
        let led = |rule: &str, mount: Value, to: &str| {
            let to = PathBuf::from(to);
            verdicts(rule, json!([mount]), |facts| {
                facts.mount_destinations = vec![Fact::Known(DestinationFact::LinkOut {
                    link: PathBuf::from("/data"),
                    inside: to.clone(),
                })];
                facts.cgroup = Fact::Known(CgroupFact {
                    mode: CgroupMode::Legacy,
                    occupied: None,
                    ancestor_pids_limit: None,
                });
            })
        };
        let tmpfs = || at("/data", "tmpfs", &[]);
        let volume = || bind("/srv/v", "/data", &["rbind"]);
        for (rule, mount, to, place) in [
            ("MNT-06", tmpfs(), "/proc", "/mounts/0/type"),
            ("MNT-06", volume(), "/proc/self/attr", "/mounts/0/destination"),
            ("MNT-07", tmpfs(), "/sys", "/mounts/0/type"),
            ("MNT-07", volume(), "/sys", "/mounts/0/options"),
            ("MNT-08", volume(), "/sys/fs/cgroup", "/mounts/0/options"),
            ("MNT-09", volume(), "/dev", "/mounts/0/type"),
        ] {
            assert_eq!(
                led(rule, mount.clone(), to),
                refused(rule, place),
                "{mount} to {to}"
            );
            // Debian's /var/run is such a link, and leads to a place of nobody's.
            let harmless = if rule == "MNT-09" {
                refused(rule, "/mounts")
            } else {
                CLEAN.map(str::to_owned)
            };
            assert_eq!(led(rule, mount.clone(), "/run"), harmless, "{mount} to /run");
        }
        // The right thing at the right place, by another name.
        assert_eq!(led("MNT-06", at("/data", "proc", &SAFE), "/proc"), CLEAN);
        assert_eq!(led("MNT-09", tmpfs(), "/dev"), CLEAN);
    }

    #[test]
    fn sys_is_a_readonly_sysfs() {
        for (list, expected) in [
            (json!([at("/sys", "sysfs", &["nosuid", "ro"])]), None),
            (json!([]), None),
            (json!(null), None),
            (json!([at("/sysroot", "tmpfs", &[])]), None),
            (json!([at("/sys/fs/cgroup", "cgroup", &[])]), None),
            (json!([at("/sys", "sysfs", &["nosuid"])]), Some("options")),
            (json!([at("/sys", "sysfs", &["ro", "rw"])]), Some("options")),
            (json!([{"destination": "/sys", "type": "sysfs"}]), Some("options")),
            (json!([at("/host/sys", "sysfs", &["ro"])]), Some("destination")),
            (json!([at("/sys", "tmpfs", &["ro"])]), Some("type")),
            // What containerd sends for a pod with a user namespace on the host's network.
            (json!([bind("/sys", "/sys", &["rbind", "rro"])]), None),
            (json!([bind("/sys", "/sys", &["bind", "ro"])]), None),
            (json!([bind("/sys", "/sys", &["rbind", "ro"])]), Some("options")),
            (json!([bind("/sys", "/sys", &["rbind"])]), Some("options")),
        ] {
            let found = verdicts("MNT-07", list.clone(), nothing);
            match expected {
                Some(key) => assert_eq!(found, refused("MNT-07", &format!("/mounts/0/{key}")), "{list}"),
                None => assert_eq!(found, CLEAN, "{list}"),
            }
        }
        let jail = SourceFact {
            on_sysfs: true,
            ..directory("/srv/jail/sys")
        };
        for (options, expected) in [
            (&["ro"][..], CLEAN.map(str::to_owned)),
            (&[], refused("MNT-07", "/mounts/0/source")),
        ] {
            let found = verdicts("MNT-07", json!([bind("/srv/jail/sys", "/x", options)]), |facts| {
                facts.mount_sources = vec![Fact::Known(Some(jail.clone()))];
            });
            assert_eq!(found, expected, "{options:?}");
        }
    }

    #[test]
    fn a_site_may_have_sys_cgroups_and_dev_repaired_instead() {
        let document = mounts(json!([
            at("/sys", "sysfs", &[]),
            at("/sys/fs/cgroup", "cgroup", &["rw"]),
            at("/dev/pts", "devpts", &[])
        ]));
        for (rule, pointer, expected) in [
            ("MNT-07", "/mounts/0/options", json!(["ro"])),
            ("MNT-08", "/mounts/1/options", json!(["rw", "ro"])),
            ("MNT-09", "/mounts/2/destination", json!("/dev")),
        ] {
            let mut table = Table::of(Profile::Baseline);
            table.policy.levels.insert(rule.to_owned(), Level::Harden);
            assert_eq!(table.findings(rule, &document).len(), 1, "{rule}");
            assert_eq!(
                table.hardened(rule, &document).pointer(pointer),
                Some(&expected),
                "{rule}"
            );
        }
    }

    fn cgroup(mode: CgroupMode) -> Fact<CgroupFact> {
        Fact::Known(CgroupFact {
            mode,
            occupied: None,
            ancestor_pids_limit: None,
        })
    }

    fn said_of_cgroup(
        options: &[&str],
        namespaces: Value,
        mode: Fact<CgroupFact>,
        host: Option<HostMatch>,
    ) -> String {
        let mut document = mounts(json!([at("/sys/fs/cgroup", "cgroup", options)]));
        set(&mut document, "/linux/namespaces", namespaces);
        let table = Table::of(Profile::Baseline).knowing(|facts| {
            facts.cgroup = mode;
            let identity = Identity { device: 4, inode: 5 };
            facts.namespaces = vec![Fact::Known(NamespaceFact::Existing { identity, host })];
        });
        let found = table.findings("MNT-08", &document);
        found
            .iter()
            .map(|finding| format!("{:?} {} {}", finding.action, finding.pointer, finding.undecided))
            .collect()
    }

    #[test]
    fn a_writable_cgroup_is_refused_unless_it_is_the_containers_own() {
        use CgroupMode::{Hybrid, Legacy, Unified};
        let new = json!([{"type": "cgroup"}]);
        let joined = json!([{"type": "cgroup", "path": "/proc/7/ns/cgroup"}]);
        let none = json!([]);
        let refused = "Deny /mounts/0/options false";
        let unknown = || Fact::Unknown("offline".to_owned());
        for (options, namespaces, mode, host, expected) in [
            (&["ro"][..], &none, cgroup(Legacy), None, ""),
            (&["ro"], &none, unknown(), None, ""),
            (&["rw"], &new, cgroup(Legacy), None, refused),
            (&[], &new, cgroup(Hybrid), None, refused),
            (&["rw"], &new, cgroup(Unified), None, ""),
            (&["rw"], &joined, cgroup(Unified), None, ""),
            (
                &["rw"],
                &joined,
                cgroup(Unified),
                Some(HostMatch::Runtime),
                refused,
            ),
            (&["rw"], &none, cgroup(Unified), None, refused),
            (&["rw"], &none, unknown(), None, refused),
            (&["rw"], &new, unknown(), None, "Deny /mounts/0/options true"),
        ] {
            let found = said_of_cgroup(options, namespaces.clone(), mode.clone(), host);
            assert_eq!(found, expected, "{options:?} {namespaces} {mode:?} {host:?}");
        }
        let mut document = mounts(json!([at("/sys/fs/cgroup", "cgroup", &["rw"])]));
        set(&mut document, "/linux/namespaces", joined);
        let table = Table::of(Profile::Baseline).knowing(|facts| facts.cgroup = cgroup(Unified));
        assert!(table.findings("MNT-08", &document)[0].undecided);
    }

    #[test]
    fn cgroups_are_recognized_wherever_they_are_put() {
        let v1 = |facts: &mut Facts| facts.cgroup = cgroup(CgroupMode::Hybrid);
        let place = "/mounts/0/options";
        for (list, expected) in [
            (json!([at("/mnt", "cgroup2", &[])]), Some(place)),
            (
                json!([bind(
                    "/sys/fs/cgroup/systemd",
                    "/sys/fs/cgroup/systemd",
                    &["bind", "rw"]
                )]),
                Some(place),
            ),
            // The controllers are mounts of their own below, which ro does not reach.
            (
                json!([bind("/sys/fs/cgroup", "/sys/fs/cgroup", &["rbind", "ro"])]),
                Some(place),
            ),
            (
                json!([bind("/sys/fs/cgroup", "/sys/fs/cgroup", &["rbind", "rro"])]),
                None,
            ),
            (json!([at("/sys/fs/cgroup", "tmpfs", &[])]), None),
            (json!([at("/sys/fs/cgroups", "tmpfs", &[])]), None),
            (json!([]), None),
            (json!(null), None),
        ] {
            let found = verdicts("MNT-08", list.clone(), v1);
            match expected {
                Some(place) => assert_eq!(found, refused("MNT-08", place), "{list}"),
                None => assert_eq!(found, CLEAN, "{list}"),
            }
        }
        let hidden = verdicts("MNT-08", json!([bind("/srv/cg", "/x", &[])]), |facts| {
            v1(facts);
            facts.mount_sources = vec![Fact::Known(Some(SourceFact {
                on_cgroupfs: true,
                ..directory("/srv/cg")
            }))];
        });
        assert_eq!(hidden, refused("MNT-08", place));
    }

    #[test]
    fn dev_is_a_tmpfs_that_nothing_covers() {
        let tmpfs = at("/dev", "tmpfs", &[]);
        for (list, expected) in [
            (json!([tmpfs]), None),
            (
                json!([bind("/dev", "/dev", &[]), at("/dev/", "tmpfs", &[])]),
                None,
            ),
            (json!([tmpfs, at("/dev/shm", "tmpfs", &[])]), None),
            (json!([]), Some("/mounts")),
            (json!(null), Some("/mounts")),
            (json!([at("/dev/pts", "devpts", &[])]), Some("/mounts")),
            (
                json!([tmpfs, bind("/dev", "/dev", &["rbind"])]),
                Some("/mounts/1/type"),
            ),
            (json!([at("/dev", "tmpfs", &["bind"])]), Some("/mounts/0/type")),
            (json!([at("/dev", "devtmpfs", &[])]), Some("/mounts/0/type")),
        ] {
            let found = verdicts("MNT-09", list.clone(), nothing);
            match expected {
                Some(place) => assert_eq!(found, refused("MNT-09", place), "{list}"),
                None => assert_eq!(found, CLEAN, "{list}"),
            }
        }
        let mut absent = mounts(json!(null));
        absent.as_object_mut().unwrap().remove("mounts");
        assert_eq!(
            Table::of(Profile::Baseline).verdicts("MNT-09", &absent),
            ["deny MNT-09 /mounts"]
        );
    }
}
