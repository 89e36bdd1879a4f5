//! Types, destinations, options and id mappings of mounts: MNT-04, MNT-05, MNT-10, MNT-11, MNT-13 to MNT-16.

use super::{Bind, entry, has, is_offline, is_writable, kind, lies_in, place, with_option};
use crate::change::Change;
use crate::config::{IdMapping, Mount};
use crate::facts::{DestinationFact, Fact, FactKind};
use crate::pointer::Pointer;
use crate::profile::{Level, Levels};
use crate::rule::{Case, Mappings, Remedies, Rule, Violations};
use crate::rules::namespaces::{Standing, standing};

fn mounts<'a>(case: &Case<'a>) -> impl Iterator<Item = (usize, &'a Mount)> {
    case.config.mounts.items().iter().enumerate()
}

pub(super) static MNT_04: Rule = Rule {
    id: "MNT-04",
    title: "mounts do not spread to the host",
    meaning: "A mount has the propagation shared or rshared, or linux.rootfsPropagation says so. slave and rslave, by \
              which the host's later mounts appear in the container, are recorded.",
    why: "With shared propagation, what a process mounts in the container appears on the host at the same moment: \
          over a directory that programs of the host trust.",
    stops: &["mounting over directories of the host from inside a container"],
    fields: &["/mounts/*/options", "/linux/rootfsPropagation"],
    levels: Levels::new(Level::Audit, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Remove :shared and :rshared from -v, or bind-propagation=rshared from --mount. To see the host's \
                 later mounts, use :rslave.",
        ctr: "Remove shared and rshared from the options of --mount, and --rootfs-propagation.",
        kubernetes: "Remove mountPropagation: Bidirectional from volumeMounts; HostToContainer shows the host's later \
                     mounts. Storage drivers do need Bidirectional: have the site's policy allow MNT-04 for their \
                     namespace.",
        config: "Replace \"shared\" and \"rshared\" by \"rprivate\" in options, and let linux.rootfsPropagation be \
                 \"rprivate\".",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "HostPath Volumes (baseline)",
        cis_docker: "5.20",
        nsa: "",
        nist_800_190: "3.5.5",
    },
    facts: &[],
    check: nothing_shared,
};

fn nothing_shared(case: &Case<'_>, violations: &mut Violations) {
    const RECORDED: Levels = Levels::new(Level::Audit, Level::Audit, Level::Audit);
    let mut judge = |place: &dyn Fn() -> Pointer, propagation: &str| match propagation {
        "shared" | "rshared" => {
            violations.report(
                place(),
                format!("{propagation:?}, so that mounts made inside appear on the host"),
                "rprivate",
            );
        }
        "slave" | "rslave" => {
            let found = format!("{propagation:?}, so that later mounts of the host appear inside");
            violations.report(place(), found, "rprivate").levels(RECORDED);
        }
        _ => {}
    };
    for (index, mount) in mounts(case) {
        // The kernel is asked for one after the other, so one that is later overruled still counts.
        for (option, text) in mount.options.items().iter().enumerate() {
            judge(&|| entry(index).key("options").index(option), text);
        }
    }
    let propagation = case
        .config
        .linux
        .value()
        .and_then(|linux| linux.rootfs_propagation.value());
    match propagation.map_or("", String::as_str) {
        "" | "private" | "rprivate" | "unbindable" | "runbindable" => {}
        known @ ("shared" | "rshared" | "slave" | "rslave") => {
            judge(&|| "/linux/rootfsPropagation".into(), known)
        }
        unknown => {
            violations.report(
                "/linux/rootfsPropagation",
                format!("{unknown:?} is no propagation"),
                "private, slave, shared or unbindable, or one of them with an r in front",
            );
        }
    }
}

pub(super) static MNT_05: Rule = Rule {
    id: "MNT-05",
    title: "no setuid programs and no devices on volumes",
    meaning: "A bind mount or a tmpfs lacks nosuid or nodev. /dev, which must hold devices, and devices that are \
              bound in are left alone.",
    why: "A volume outlives the container and is shared. A setuid program or a device node that one container left \
          in it works in the next one, with that one's privileges. No engine sets these options on the volumes it \
          mounts.",
    stops: &["setuid programs and device nodes planted on a volume"],
    fields: &["/mounts/*/options"],
    levels: Levels::new(Level::Off, Level::Harden, Level::Harden),
    // Never noexec: programs that are unpacked to an emptyDir and run from there are common and not wrong.
    hardening: "nosuid and nodev are added",
    remedies: Remedies {
        docker: "Nothing to do: they are added. To write them down: --mount \
                 type=volume,src=data,dst=/data,volume-opt=o=nosuid or --tmpfs /x:nosuid,nodev.",
        ctr: "Nothing to do: they are added. To write them down: options=rbind:nosuid:nodev in --mount.",
        kubernetes: "Nothing to do: they are added. A pod cannot ask for them.",
        config: "Add \"nosuid\" and \"nodev\" to the options of the mount.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.4.3",
    },
    facts: &[FactKind::Mounts],
    check: nosuid_nodev,
};

fn nosuid_nodev(case: &Case<'_>, violations: &mut Violations) {
    for (index, mount) in mounts(case) {
        if !mount.is_bind() && kind(mount) != "tmpfs" {
            continue;
        }
        let place = place(case, index);
        let needs_devices =
            place == "/dev" || Bind::of(case, index, mount).is_some_and(|bind| holds_devices(&bind));
        let mut missing = lacking(mount, NOSUID);
        if !needs_devices {
            missing.extend(lacking(mount, NODEV));
        }
        if missing.is_empty() {
            continue;
        }
        let violation = violations.report(
            entry(index).key("options"),
            format!("the mount at {place:?} lacks {}", missing.join(", ")),
            "nosuid and nodev",
        );
        violation.sub_key(place);
        // With the first option of this kind, the mount would no longer be as its source's.
        if !mount.rewrites_attributes()
            && let Some(Ok(source)) = Bind::of(case, index, mount).map(|bind| bind.fact)
        {
            let kept = source.restrictions.iter().filter(|word| !missing.contains(word));
            let kept: Vec<&'static str> = kept.copied().collect();
            missing.extend(kept);
        }
        for option in missing {
            violation.fix(with_option(index, option));
        }
    }
}

/// An option that restricts, its opposite, and both for all mounts below.
type Words = [&'static str; 4];

const NOSUID: Words = ["nosuid", "suid", "rnosuid", "rsuid"];
const NODEV: Words = ["nodev", "dev", "rnodev", "rdev"];

/// All of them.
const RESTRICTIONS: [Words; 5] = [
    ["ro", "rw", "rro", "rrw"],
    NOSUID,
    NODEV,
    ["noexec", "exec", "rnoexec", "rexec"],
    ["nosymfollow", "symfollow", "rnosymfollow", "rsymfollow"],
];

/// What must be added for a mount to have an option. The engine applies the latter last, and of two that contradict each other the one that sets.
fn lacking(mount: &Mount, [wanted, opposite, recursive, recursive_opposite]: Words) -> Vec<&'static str> {
    if has(mount, recursive) {
        return Vec::new();
    }
    let mut missing = Vec::new();
    if mount.last_of(&[wanted], &[opposite]) != Some(true) {
        missing.push(wanted);
    }
    if has(mount, recursive_opposite) {
        missing.push(recursive);
    }
    missing
}

/// True if the source is a device, or a directory of them: with nodev nothing could be opened there.
fn holds_devices(bind: &Bind<'_>) -> bool {
    bind.device().is_some() || (lies_in(&bind.path(), "/dev") && !bind.is_host_shm())
}

pub(super) static MNT_16: Rule = Rule {
    id: "MNT-16",
    title: "what the host restricts stays restricted",
    meaning: "The source of a bind mount lies on a mount that is ro, nosuid, nodev, noexec or nosymfollow, and the \
              options of the bind mount lift that: by the opposite word, or by leaving it out beside another one \
              of them. With rbind, an opposite word for all mounts below the source, such as rrw, is refused.",
    why: "Whoever mounted a file system read-only or without setuid programs meant everybody. To the kernel, a bind \
          mount with options is a mount of its own with just these: rw, which several engines write for every volume \
          without being asked, makes a read-only one writable in the container and takes noexec and nosuid away.",
    stops: &["writing to, or executing from, what the host's administrator has closed for that"],
    fields: &["/mounts/*/options"],
    levels: Levels::new(Level::Off, Level::Harden, Level::Harden),
    hardening: "what the source's mount restricts is added",
    remedies: Remedies {
        docker: "Nothing to do: it is kept. If the container is to have more, remount the source on the host, or have \
                 the site's policy set MNT-16 with the mount's destination to \"off\".",
        kubernetes: "Nothing to do: it is kept. If the pod is to have more, remount the hostPath on the node.",
        config: "Let the options of the mount name what the source's mount restricts, or none of ro, rw, suid, dev, exec \
                 and their like.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.5.5",
    },
    facts: &[FactKind::Mounts],
    check: nothing_lifted,
};

fn nothing_lifted(case: &Case<'_>, violations: &mut Violations) {
    let lifts_below = |option: &str| RESTRICTIONS.iter().any(|[.., word]| *word == option);
    for (index, mount) in mounts(case).filter(|(_, mount)| mount.is_bind()) {
        let below = mount.options.items().iter().enumerate();
        let mut below = below.filter(|(_, option)| lifts_below(option));
        if has(mount, "rbind")
            && let Some((at, word)) = below.next()
        {
            // Of these no fact is known, and what would be added is for all of them.
            violations
                .report(
                    entry(index).key("options").index(at),
                    format!("{word:?} lifts what the host restricts of the mounts below the source"),
                    "no such option together with \"rbind\"",
                )
                .sub_key(place(case, index));
            continue;
        }
        if !mount.rewrites_attributes() && below.next().is_none() {
            continue;
        }
        // What cannot be looked at is MNT-12's.
        let Some(Ok(source)) = Bind::of(case, index, mount).map(|bind| bind.fact) else {
            continue;
        };
        let there = RESTRICTIONS
            .iter()
            .filter(|[word, ..]| source.restrictions.contains(word));
        let lifted: Vec<&'static str> = there.flat_map(|words| lacking(mount, *words)).collect();
        if lifted.is_empty() {
            continue;
        }
        let place = place(case, index);
        let found = format!(
            "the mount at {place:?} lifts {} of its source's mount",
            lifted.join(", ")
        );
        let violation = violations.report(entry(index).key("options"), found, lifted.join(", "));
        violation.sub_key(place);
        for option in lifted {
            violation.fix(with_option(index, option));
        }
    }
}

pub(super) static MNT_10: Rule = Rule {
    id: "MNT-10",
    title: "file systems that containers are made of, and no other",
    meaning: "A mount has a type other than proc, sysfs, tmpfs, devpts, mqueue, cgroup, cgroup2, overlay, hugetlbfs, \
              bind, or none with the option bind; or it has a type that contradicts its option bind. In every \
              profile: an option that begins with a dash.",
    why: "debugfs, tracefs, bpf, configfs, securityfs, efivarfs and binfmt_misc are not file systems of a container \
          but switchboards of the kernel: with binfmt_misc root in a container has the host run a program of its \
          choice. ext4, xfs and fuse parse what the image's author wrote, in the kernel. What a bind mount really \
          is must not depend on whether the reader looks at type or at options.",
    stops: &[
        "binfmt_misc and tracefs as ways to the host",
        "kernel holes in the code that reads file system images",
    ],
    fields: &["/mounts/*/type", "/mounts/*/options"],
    levels: Levels::new(Level::Audit, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Remove the --mount with that type. Network and fuse file systems are mounted by the host or a \
                 volume driver, and given to the container as a volume.",
        ctr: "Remove the --mount with that type.",
        kubernetes: "Use a persistentVolumeClaim: the storage driver mounts the file system on the node and the \
                     container gets a bind mount of it.",
        config: "Mount the file system on the host and bind it: {\"type\": \"bind\", \"source\": \"/srv/data\", \
                 \"options\": [\"bind\"]}. A type is one of those named above.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "HostPath Volumes (baseline)",
        cis_docker: "5.6",
        nsa: "",
        nist_800_190: "3.5.2",
    },
    facts: &[],
    check: known_types,
};

/// The types that containers are made of, but for bind mounts.
const TYPES: [&str; 9] = [
    "proc",
    "sysfs",
    "tmpfs",
    "devpts",
    "mqueue",
    "cgroup",
    "cgroup2",
    "overlay",
    "hugetlbfs",
];

fn known_types(case: &Case<'_>, violations: &mut Violations) {
    /// No engine writes one, and what it would mean is up to whoever takes it for an argument.
    const NEVER: Levels = Levels::new(Level::Deny, Level::Deny, Level::Deny);
    for (index, mount) in mounts(case) {
        for (option, text) in mount
            .options
            .items()
            .iter()
            .enumerate()
            .filter(|(_, text)| text.starts_with('-'))
        {
            violations
                .report(
                    entry(index).key("options").index(option),
                    format!("the option {text:?} begins with a dash"),
                    "options as mount(8) has them after -o",
                )
                .levels(NEVER);
        }
        let pointer = || entry(index).key("type");
        match kind(mount) {
            // A bind mount by its option; by its type alone; or what the spec calls a dummy.
            "" | "none" if mount.is_bind() => {}
            "bind" => {}
            known if TYPES.contains(&known) && !mount.is_bind() => {}
            contradiction if mount.is_bind() => {
                violations
                    .report(
                        pointer(),
                        format!("type {contradiction:?} together with the option bind"),
                        "type \"bind\", or no option \"bind\" or \"rbind\"",
                    )
                    .sub_key(contradiction);
            }
            "" => {
                let presence = if mount.kind.is_missing() {
                    mount.kind.presence()
                } else {
                    "empty"
                };
                let found = format!("{presence}, and there is no option bind either");
                violations.report(pointer(), found, "a type, or the option \"bind\"");
            }
            "none" => {
                violations
                    .report(
                        pointer(),
                        "\"none\" without the option bind",
                        "a type, or the option \"bind\"",
                    )
                    .sub_key("none");
            }
            unknown => {
                violations
                    .report(
                        pointer(),
                        format!("file systems of type {unknown:?} are not mounted"),
                        format!("bind, or one of {}", TYPES.join(", ")),
                    )
                    .sub_key(unknown);
            }
        }
    }
}

pub(super) static MNT_11: Rule = Rule {
    id: "MNT-11",
    title: "destinations lie in the container",
    meaning: "The destination of a mount is empty, relative, the root itself, contains \"..\" or a NUL, or leads \
              through a magic link or through something that is no directory; or where it leads cannot be known, \
              since it lies in an earlier mount that cannot be looked into, such as an overlay.",
    why: "The image is the attacker's and may hold a link wherever a mount is to go. A destination that is more than \
          a path downwards from the root invites the runtime, which is root on the host, to mount or create files \
          outside. This rule guards the runtime itself: it is the same in every profile.",
    stops: &[
        "CVE-2021-30465 (exchanging a mount's destination for a link)",
        "CVE-2019-18837 (crun follows a link out of the root)",
        "CVE-2025-52565 (/dev/console as a link)",
        "CVE-2024-0132 and CVE-2025-23359 (NVIDIA's toolkit, the same by hooks)",
    ],
    fields: &["/mounts/*/destination"],
    levels: Levels::new(Level::Deny, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Let the target of -v or --mount be an absolute path without \"..\", other than /.",
        ctr: "Let dst in --mount be an absolute path without \"..\", other than /.",
        kubernetes: "Let mountPath be an absolute path without \"..\", other than /.",
        config: "Let destination be an absolute path without \"..\", such as \"/data\". If the path itself is right, \
                 look what is in the image at that place.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.4.1",
    },
    facts: &[FactKind::Mounts],
    check: destinations_inside,
};

fn destinations_inside(case: &Case<'_>, violations: &mut Violations) {
    for (index, mount) in mounts(case) {
        let pointer = || entry(index).key("destination");
        let text = mount.destination.as_str();
        let wrong = if text.is_empty() {
            Some("is empty")
        } else if text.contains('\0') {
            Some("contains a NUL, at which the kernel stops reading")
        } else if !text.starts_with('/') {
            // The spec tolerates it in old configurations; what it is relative to is then the reader's choice.
            Some("is relative")
        } else if text.split('/').any(|component| component == "..") {
            Some("contains \"..\"")
        } else if text
            .split('/')
            .all(|component| component.is_empty() || component == ".")
        {
            Some("is the root itself, which comes from root.path")
        } else {
            None
        };
        if let Some(wrong) = wrong {
            violations.report(
                pointer(),
                format!("{text:?} {wrong}"),
                "an absolute path such as \"/data\"",
            );
            continue;
        }
        match case.facts.mount_destinations.get(index) {
            // A link that would lead out is followed inside the root when mounting, and leads nowhere else.
            Some(Fact::Known(
                DestinationFact::Inside(path) | DestinationFact::LinkOut { inside: path, .. },
            )) if path.as_os_str() == "/" => {
                let found = format!("{text:?} leads to the root itself, through a link");
                violations.report(pointer(), found, "a path that is not the root");
            }
            Some(Fact::Known(DestinationFact::Inside(_) | DestinationFact::LinkOut { .. })) => {}
            Some(Fact::Known(DestinationFact::Broken(why))) => {
                violations.report(
                    pointer(),
                    why.clone(),
                    "a path of directories, or one that is not there yet",
                );
            }
            // The image of another host's bundle is never here; its text was judged.
            _ if is_offline(case) => {}
            Some(Fact::Unknown(why)) => {
                violations.undecided(
                    pointer(),
                    format!("where {text:?} leads in the image is not known: {why}"),
                );
            }
            None => {
                violations.undecided(
                    pointer(),
                    format!("where {text:?} leads in the image was not looked at"),
                );
            }
        }
    }
}

pub(super) static MNT_13: Rule = Rule {
    id: "MNT-13",
    title: "read-only means all of it",
    meaning: "A bind mount with rbind is ro and not rro.",
    why: "rbind brings along what is mounted below the source, and ro applies to the uppermost mount alone: the rest \
          stays writable. rro makes all of it read-only (Linux 5.12, mount_setattr).",
    stops: &["writing to a file system that is mounted below a read-only volume"],
    fields: &["/mounts/*/options"],
    levels: Levels::new(Level::Off, Level::Off, Level::Harden),
    hardening: "rro is added",
    remedies: Remedies {
        docker: "Nothing to do: it is added. Docker from 25 on asks for it itself where the kernel can.",
        podman: "Nothing to do: it is added.",
        ctr: "Nothing to do: it is added. To write it down: options=rbind:rro in --mount.",
        kubernetes: "Nothing to do: it is added. To ask for it: recursiveReadOnly: Enabled in volumeMounts.",
        config: "Write \"rro\" in place of \"ro\".",
    },
    mappings: Mappings {
        pss: "HostPath Volumes (baseline)",
        cis_docker: "5.6",
        nsa: "immutable container file systems",
        nist_800_190: "3.5.5",
    },
    facts: &[],
    check: readonly_throughout,
};

fn readonly_throughout(case: &Case<'_>, violations: &mut Violations) {
    for (index, mount) in mounts(case) {
        if mount.is_bind() && has(mount, "rbind") && !is_writable(mount) && !has(mount, "rro") {
            let place = place(case, index);
            violations
                .report(
                    entry(index).key("options"),
                    format!("{place:?} is read-only, and what is mounted below its source is not"),
                    "the option \"rro\"",
                )
                .sub_key(place)
                .fix(with_option(index, "rro"));
        }
    }
}

pub(super) static MNT_14: Rule = Rule {
    id: "MNT-14",
    title: "a tmpfs has a limit",
    meaning: "A mount of type tmpfs has no size, one of 0, or one of more than half of the memory.",
    why: "A tmpfs without a size takes half of the machine's memory, one of size 0 takes all of it. Where the \
          container has no memory limit nothing stops a workload that fills it, and the kernel then kills others.",
    stops: &["exhausting the host's memory by writing files"],
    fields: &["/mounts/*/options"],
    levels: Levels::new(Level::Off, Level::Audit, Level::Harden),
    hardening: "size=256m is added",
    remedies: Remedies {
        docker: "Write the size: --tmpfs /tmp:size=64m, or tmpfs-size=64m in --mount.",
        ctr: "Write the size: options=size=64m in the --mount of the tmpfs.",
        kubernetes: "Set sizeLimit on the emptyDir with medium: Memory.",
        config: "Add \"size=64m\" to the options of the mount.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "5.11",
        nsa: "resource policies",
        nist_800_190: "3.4.3",
    },
    facts: &[],
    check: tmpfs_limited,
};

/// Ample for what a program with a read-only root writes to /tmp and /run, and little for a node.
const TMPFS_SIZE: &str = "size=256m";

fn tmpfs_limited(case: &Case<'_>, violations: &mut Violations) {
    for (index, mount) in mounts(case) {
        if kind(mount) != "tmpfs" || mount.is_bind() {
            continue;
        }
        // tmpfs(5): the last one counts, and both limit the same thing.
        let limit = mount
            .options
            .items()
            .iter()
            .flat_map(|option| option.split(','))
            .rev()
            .find_map(|option| {
                option
                    .strip_prefix("size=")
                    .or_else(|| option.strip_prefix("nr_blocks="))
            });
        let wrong = match limit {
            None => "has no size",
            Some(size) if is_zero(size) => "has a size of 0, which is no limit",
            Some(size)
                if size
                    .strip_suffix('%')
                    .is_some_and(|share| share.parse::<u64>().is_ok_and(|s| s > 50)) =>
            {
                "may take more than half of the memory"
            }
            Some(_) => continue,
        };
        let place = place(case, index);
        violations
            .report(
                entry(index).key("options"),
                format!("the tmpfs at {place:?} {wrong}"),
                "an option such as \"size=64m\"",
            )
            .sub_key(place)
            .fix(Change::AddMountOption {
                mount: index,
                option: TMPFS_SIZE.to_owned(),
            });
    }
}

fn is_zero(size: &str) -> bool {
    let digits = size.trim_end_matches(|c: char| !c.is_ascii_digit());
    !digits.is_empty() && digits.chars().all(|digit| digit == '0')
}

pub(super) static MNT_15: Rule = Rule {
    id: "MNT-15",
    title: "id mappings of mounts do not lead to root",
    meaning: "The uidMappings or gidMappings of a mount map an id to 0 of the host, and the container has no user \
              namespace of its own.",
    why: "An idmapped mount translates owners on the way. Without a user namespace, the 0 it maps to is the host's \
          root: files of others become root's inside, and what the workload writes is stored under an id of \
          somebody's choice.",
    stops: &["writing files under another owner through an idmapped mount"],
    fields: &["/mounts/*/uidMappings", "/mounts/*/gidMappings"],
    levels: Levels::new(Level::Audit, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Docker does not ask for idmapped mounts without a user namespace; find out what changed the bundle.",
        kubernetes: "Set hostUsers: false on the pod; the container engine then maps to the pod's own range.",
        config: "Add {\"type\": \"user\"} to linux.namespaces with mappings of its own, or let hostID be an id that \
                 is not 0.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.5.5",
    },
    facts: &[FactKind::Namespaces],
    check: no_map_to_root,
};

fn no_map_to_root(case: &Case<'_>, violations: &mut Violations) {
    for (index, mount) in mounts(case) {
        for (key, mappings) in [
            ("uidMappings", &mount.uid_mappings),
            ("gidMappings", &mount.gid_mappings),
        ] {
            let reaches_root = |mapping: &IdMapping| mapping.host_id == 0 && mapping.size > 0;
            let Some(at) = mappings.items().iter().position(reaches_root) else {
                continue;
            };
            let place = entry(index).key(key).index(at);
            match standing(case, "user") {
                // NS-08 judges what a user namespace maps, and NS-09 what is no namespace.
                Standing::New | Standing::Joined | Standing::Nothing => {}
                Standing::Absent | Standing::Host { .. } => {
                    violations.report(
                        place.key("hostID"),
                        "0, which is the host's root: the container has no user namespace of its own",
                        "a user namespace, or an id that is not 0",
                    );
                }
                Standing::Unknown { why, .. } => {
                    violations.undecided(
                        place.key("hostID"),
                        format!("whose 0 this is, is not known: {why}"),
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::{Value, json};

    use super::super::ground::{bind, directory, mounts as document, sensitive};
    use super::*;
    use crate::facts::{FileKind, HostMatch, Identity, NamespaceFact, Relation, SourceFact};
    use crate::profile::Profile;
    use crate::rules::table::{Table, set, with};

    fn verdicts(rule: &str, document: &Value) -> [String; 3] {
        Profile::ALL.map(|profile| Table::of(profile).verdicts(rule, document).join(", "))
    }

    fn refused(rule: &str, place: &str) -> [String; 3] {
        ["audit", "deny", "deny"].map(|action| format!("{action} {rule} {place}"))
    }

    fn mount(kind: Value, options: Value) -> Value {
        document(json!([{"destination": "/x", "type": kind, "source": "/s", "options": options}]))
    }

    const CLEAN: [&str; 3] = ["", "", ""];

    #[test]
    fn a_shared_mount_is_refused_and_a_slave_recorded() {
        for (options, expected) in [
            (json!(["rbind", "rprivate"]), CLEAN.map(str::to_owned)),
            (json!(["sharedx", "unbindable"]), CLEAN.map(str::to_owned)),
            (json!(null), CLEAN.map(str::to_owned)),
            (json!([]), CLEAN.map(str::to_owned)),
            (
                json!(["rbind", "rshared"]),
                refused("MNT-04", "/mounts/0/options/1"),
            ),
            (
                json!(["shared", "private"]),
                refused("MNT-04", "/mounts/0/options/0"),
            ),
            (
                json!(["rslave"]),
                ["audit MNT-04 /mounts/0/options/0"; 3].map(str::to_owned),
            ),
        ] {
            assert_eq!(
                verdicts("MNT-04", &mount(json!("bind"), options.clone())),
                expected,
                "{options}"
            );
        }
        let place = "/linux/rootfsPropagation";
        for (propagation, expected) in [
            (json!("rprivate"), CLEAN.map(str::to_owned)),
            (json!(""), CLEAN.map(str::to_owned)),
            (json!(null), CLEAN.map(str::to_owned)),
            (json!("shared"), refused("MNT-04", place)),
            (json!("Shared"), refused("MNT-04", place)),
            (
                json!("slave"),
                ["audit MNT-04 /linux/rootfsPropagation"; 3].map(str::to_owned),
            ),
        ] {
            assert_eq!(
                verdicts("MNT-04", &with(place, propagation.clone())),
                expected,
                "{propagation}"
            );
        }
    }

    /// The mount with these options, whose source's mount has these restrictions.
    fn on(restrictions: &[&'static str], options: Value, profile: Profile) -> (Table, Value) {
        let mut fact = directory("/s");
        fact.restrictions = restrictions.to_vec();
        let table = Table::of(profile).knowing(|facts| facts.mount_sources = vec![Fact::Known(Some(fact))]);
        (table, mount(json!("bind"), options))
    }

    #[test]
    fn what_the_sources_mount_restricts_is_kept() {
        for (restrictions, options, expected) in [
            (
                &["ro"][..],
                json!(["rbind", "rw"]),
                Some(json!(["rbind", "rw", "ro"])),
            ),
            (
                &["ro", "noexec"],
                json!(["rbind", "nodev"]),
                Some(json!(["rbind", "nodev", "ro", "noexec"])),
            ),
            (
                &["nosuid", "nodev"],
                json!(["suid", "dev"]),
                Some(json!(["suid", "dev", "nosuid", "nodev"])),
            ),
            (
                &["noexec"],
                json!(["rw", "noexec", "rexec"]),
                Some(json!(["rw", "noexec", "rexec", "rnoexec"])),
            ),
            (
                &["nosymfollow"],
                json!(["noatime"]),
                Some(json!(["noatime", "nosymfollow"])),
            ),
            // All of it is named; there is nothing to lift; no option makes it another mount than its source's.
            (&["ro", "noexec"], json!(["ro", "noexec"]), None),
            (&["ro"], json!(["rw", "rro"]), None),
            (
                &["ro"],
                json!(["bind", "rrw"]),
                Some(json!(["bind", "rrw", "ro", "rro"])),
            ),
            (&[], json!(["rbind", "rw"]), None),
            (&["ro", "noexec"], json!(["rbind", "rprivate"]), None),
        ] {
            let found = Profile::ALL.map(|profile| {
                let (table, config) = on(restrictions, options.clone(), profile);
                table.verdicts("MNT-16", &config).join(", ")
            });
            let Some(expected) = expected else {
                assert_eq!(found, CLEAN, "{restrictions:?} {options}");
                continue;
            };
            let hardened = "harden MNT-16:/x /mounts/0/options";
            assert_eq!(found, ["", hardened, hardened], "{restrictions:?} {options}");
            let (table, config) = on(restrictions, options.clone(), Profile::Baseline);
            let result = table.hardened("MNT-16", &config);
            assert_eq!(
                result["mounts"][0]["options"], expected,
                "{restrictions:?} {options}"
            );
        }
    }

    #[test]
    fn a_word_for_the_mounts_below_is_refused_where_there_may_be_some() {
        for word in ["rrw", "rsuid", "rdev", "rexec", "rsymfollow"] {
            let found = Profile::ALL.map(|profile| {
                let (table, config) = on(&[], json!(["rbind", word]), profile);
                table.verdicts("MNT-16", &config).join(", ")
            });
            let refused = "deny MNT-16:/x /mounts/0/options/1";
            assert_eq!(found, ["", refused, refused], "{word}");
            let (table, config) = on(&[], json!(["bind", word]), Profile::Baseline);
            assert!(table.verdicts("MNT-16", &config).is_empty(), "{word}");
        }
    }

    #[test]
    fn hardening_lifts_nothing_of_a_mount_that_was_as_its_sources() {
        let (table, config) = on(&["ro", "noexec"], json!(["rbind"]), Profile::Baseline);
        let result = table.hardened("MNT-05", &config);
        assert_eq!(
            result["mounts"][0]["options"],
            json!(["rbind", "nosuid", "nodev", "ro", "noexec"])
        );
        // Of one with options of its own, it is MNT-16 that says so.
        let (table, config) = on(&["ro", "noexec"], json!(["rbind", "exec"]), Profile::Baseline);
        let result = table.hardened("MNT-05", &config);
        assert_eq!(
            result["mounts"][0]["options"],
            json!(["rbind", "exec", "nosuid", "nodev"])
        );
    }

    #[test]
    fn nosuid_and_nodev_are_added_and_noexec_is_not() {
        for (kind, options, expected) in [
            (
                "bind",
                json!(["rbind", "rw"]),
                Some(json!(["rbind", "rw", "nosuid", "nodev"])),
            ),
            ("bind", json!(null), Some(json!(["nosuid", "nodev"]))),
            ("bind", json!([]), Some(json!(["nosuid", "nodev"]))),
            ("tmpfs", json!(["nosuid"]), Some(json!(["nosuid", "nodev"]))),
            ("tmpfs", json!(["nosuid", "nodev"]), None),
            ("bind", json!(["rnosuid", "rnodev", "suid"]), None),
            ("bind", json!(["nosuid", "nodev", "exec"]), None),
            // Of two that contradict each other the last one counts, so what is added comes last.
            (
                "bind",
                json!(["nosuid", "suid", "nodev"]),
                Some(json!(["suid", "nodev", "nosuid"])),
            ),
            (
                "bind",
                json!(["suid", "dev"]),
                Some(json!(["suid", "dev", "nosuid", "nodev"])),
            ),
            (
                "bind",
                json!(["rsuid", "nosuid", "nodev"]),
                Some(json!(["rsuid", "nosuid", "nodev", "rnosuid"])),
            ),
            ("proc", json!([]), None),
            ("devpts", json!([]), None),
        ] {
            let config = mount(json!(kind), options.clone());
            let found = verdicts("MNT-05", &config);
            let Some(expected) = expected else {
                assert_eq!(found, CLEAN, "{kind} {options}");
                continue;
            };
            let hardened = "harden MNT-05:/x /mounts/0/options";
            assert_eq!(found, ["", hardened, hardened], "{kind} {options}");
            let result = Table::of(Profile::Baseline).hardened("MNT-05", &config);
            assert_eq!(result["mounts"][0]["options"], expected, "{kind} {options}");
            assert_eq!(verdicts("MNT-05", &result), CLEAN, "{kind} {options}");
        }
    }

    #[test]
    fn devices_stay_devices() {
        let dev = document(json!([{"destination": "/dev", "type": "tmpfs", "options": ["mode=755"]}]));
        let result = Table::of(Profile::Baseline).hardened("MNT-05", &dev);
        assert_eq!(result["mounts"][0]["options"], json!(["mode=755", "nosuid"]));

        let fuse = SourceFact {
            kind: FileKind::CharDevice {
                major: 10,
                minor: 229,
            },
            ..directory("/dev/fuse")
        };
        let shm = SourceFact {
            is_host_shm: true,
            ..sensitive("/dev/shm", Relation::Inside, "/dev")
        };
        for (source, fact, expected) in [
            ("/dev/fuse", Some(fuse), json!(["nosuid"])),
            (
                "/dev/dri",
                Some(sensitive("/dev/dri", Relation::Inside, "/dev")),
                json!(["nosuid"]),
            ),
            ("/dev/fuse", None, json!(["nosuid"])),
            ("/dev/shm", Some(shm), json!(["nosuid", "nodev"])),
            ("/device", None, json!(["nosuid", "nodev"])),
        ] {
            let table = Table::of(Profile::Baseline).knowing(|facts| {
                facts.mount_sources = fact.map(|fact| Fact::Known(Some(fact))).into_iter().collect();
            });
            let result = table.hardened("MNT-05", &document(json!([bind(source, "/x", &[])])));
            assert_eq!(result["mounts"][0]["options"], expected, "{source}");
        }
    }

    #[test]
    fn only_file_systems_that_containers_are_made_of_are_mounted() {
        let place = "/mounts/0/type";
        for kind in TYPES {
            assert_eq!(
                verdicts("MNT-10", &mount(json!(kind), json!(["ro"]))),
                CLEAN,
                "{kind}"
            );
        }
        for (kind, options, expected) in [
            (json!("bind"), json!([]), None),
            (json!("none"), json!(["rbind"]), None),
            (json!(""), json!(["bind"]), None),
            (json!(null), json!(["bind"]), None),
            (json!(null), json!(null), Some("MNT-10")),
            (json!(""), json!([]), Some("MNT-10")),
            (json!("none"), json!([]), Some("MNT-10:none")),
            (json!("binfmt_misc"), json!([]), Some("MNT-10:binfmt_misc")),
            (json!("fuse.sshfs"), json!([]), Some("MNT-10:fuse.sshfs")),
            (json!("ext4"), json!([]), Some("MNT-10:ext4")),
            (json!("Proc"), json!([]), Some("MNT-10:Proc")),
            (json!("cgroup"), json!(["bind"]), Some("MNT-10:cgroup")),
            (json!("ext4"), json!(["rbind"]), Some("MNT-10:ext4")),
        ] {
            let found = verdicts("MNT-10", &mount(kind.clone(), options.clone()));
            match expected {
                Some(rule) => assert_eq!(found, refused(rule, place), "{kind} {options}"),
                None => assert_eq!(found, CLEAN, "{kind} {options}"),
            }
        }
        let absent = document(json!([{"destination": "/x"}]));
        let found = &Table::of(Profile::Baseline).findings("MNT-10", &absent)[0];
        assert_eq!(found.found, "absent, and there is no option bind either");
        assert_eq!(verdicts("MNT-10", &document(json!(null))), CLEAN);
    }

    #[test]
    fn an_option_that_begins_with_a_dash_is_refused_in_every_profile() {
        let found = verdicts(
            "MNT-10",
            &mount(json!("bind"), json!(["rbind", "-o", "x-mount.mkdir"])),
        );
        assert_eq!(found, ["deny MNT-10 /mounts/0/options/1"; 3]);
    }

    #[test]
    fn destinations_lie_in_the_container_by_their_text() {
        let table = |profile| {
            Table::of(profile).knowing(|facts| {
                facts.mount_destinations = vec![Fact::Known(DestinationFact::Inside(PathBuf::from("/x")))];
            })
        };
        for (destination, wrong) in [
            ("", "is empty"),
            ("data", "is relative"),
            ("./data", "is relative"),
            ("/", "is the root itself, which comes from root.path"),
            ("//./", "is the root itself, which comes from root.path"),
            ("/a/../b", "contains \"..\""),
            ("/a/..", "contains \"..\""),
            ("/a\0b", "contains a NUL, at which the kernel stops reading"),
        ] {
            let config = document(json!([{"destination": destination, "type": "tmpfs"}]));
            for profile in Profile::ALL {
                let verdict = table(profile).verdicts("MNT-11", &config);
                assert_eq!(
                    verdict,
                    ["deny MNT-11 /mounts/0/destination"],
                    "{destination:?} {profile}"
                );
                let found = &table(profile).findings("MNT-11", &config)[0].found;
                assert_eq!(found, &format!("{destination:?} {wrong}"));
            }
        }
        for destination in ["/data", "/a/..b", "/a/b..", "/data/", "/dev/shm"] {
            let config = document(json!([{"destination": destination, "type": "tmpfs"}]));
            assert_eq!(
                table(Profile::Restricted).findings("MNT-11", &config),
                [],
                "{destination:?}"
            );
        }
        for none in [json!([]), json!(null)] {
            assert_eq!(verdicts("MNT-11", &document(none)), CLEAN);
        }
    }

    #[test]
    fn destinations_lie_in_the_container_by_where_they_lead() {
        let config = document(json!([{"destination": "/data", "type": "tmpfs"}]));
        let known = |fact| Some(Fact::Known(fact));
        let link = |inside: &str| DestinationFact::LinkOut {
            link: PathBuf::from("/data"),
            inside: PathBuf::from(inside),
        };
        for (fact, expected, offline) in [
            (known(DestinationFact::Inside(PathBuf::from("/data"))), 0, 0),
            // As /var/run in Debian's images. Whether /proc is a place for it is MNT-06's.
            (known(link("/run")), 0, 0),
            (known(link("/proc")), 0, 0),
            (known(link("/")), 1, 1),
            (known(DestinationFact::Inside(PathBuf::from("/"))), 1, 1),
            (
                known(DestinationFact::Broken(
                    "\"/data\" leads through a file".to_owned(),
                )),
                1,
                1,
            ),
            (Some(Fact::Unknown("permission denied".to_owned())), 1, 0),
            (None, 1, 0),
        ] {
            let table = |profile| {
                Table::of(profile)
                    .knowing(|facts| facts.mount_destinations = fact.clone().into_iter().collect())
            };
            for profile in Profile::ALL {
                let denied = vec!["deny MNT-11 /mounts/0/destination"; expected];
                assert_eq!(
                    table(profile).verdicts("MNT-11", &config),
                    denied,
                    "{fact:?} {profile}"
                );
            }
            let found = table(Profile::Baseline).offline().findings("MNT-11", &config);
            assert_eq!(found.len(), offline, "{fact:?}");
        }
    }

    #[test]
    fn a_readonly_tree_is_made_so_throughout_in_restricted() {
        for (options, expected) in [
            (json!(["rbind", "ro"]), true),
            (json!(["ro", "rbind", "rprivate"]), true),
            (json!(["rbind", "rro"]), false),
            (json!(["bind", "ro"]), false),
            (json!(["rbind", "ro", "rw"]), false),
            (json!(["rbind"]), false),
            (json!([]), false),
            (json!(null), false),
        ] {
            let config = mount(json!("bind"), options.clone());
            let line = if expected {
                "harden MNT-13:/x /mounts/0/options"
            } else {
                ""
            };
            assert_eq!(verdicts("MNT-13", &config), ["", "", line], "{options}");
        }
        let result =
            Table::of(Profile::Restricted).hardened("MNT-13", &mount(json!("bind"), json!(["rbind", "ro"])));
        assert_eq!(result["mounts"][0]["options"], json!(["rbind", "ro", "rro"]));
    }

    #[test]
    fn a_tmpfs_without_a_limit_gets_one_in_restricted() {
        for (kind, options, expected) in [
            ("tmpfs", json!(["size=64m"]), false),
            ("tmpfs", json!(["mode=755,size=65536k"]), false),
            ("tmpfs", json!(["nr_blocks=100"]), false),
            ("tmpfs", json!(["size=50%"]), false),
            ("tmpfs", json!(["size=51%"]), true),
            ("tmpfs", json!(["size=0"]), true),
            ("tmpfs", json!(["size=0k"]), true),
            ("tmpfs", json!(["size=64m", "size=0"]), true),
            ("tmpfs", json!(["size=0", "size=64m"]), false),
            ("tmpfs", json!(["nr_inodes=9"]), true),
            ("tmpfs", json!([]), true),
            ("tmpfs", json!(null), true),
            ("bind", json!([]), false),
        ] {
            let config = mount(json!(kind), options.clone());
            let lines = match expected {
                true => [
                    "",
                    "audit MNT-14:/x /mounts/0/options",
                    "harden MNT-14:/x /mounts/0/options",
                ],
                false => CLEAN,
            };
            assert_eq!(verdicts("MNT-14", &config), lines, "{kind} {options}");
        }
        let result =
            Table::of(Profile::Restricted).hardened("MNT-14", &mount(json!("tmpfs"), json!(["size=0"])));
        assert_eq!(result["mounts"][0]["options"], json!(["size=0", "size=256m"]));
    }

    #[test]
    fn a_mapping_to_root_needs_a_user_namespace() {
        let user = json!([{"type": "user"}]);
        let joined = json!([{"type": "user", "path": "/proc/7/ns/user"}]);
        let root = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
        let fact = |host| {
            Fact::Known(NamespaceFact::Existing {
                identity: Identity { device: 4, inode: 5 },
                host,
            })
        };
        let denied = ["deny MNT-15 /mounts/0/uidMappings/0/hostID"];
        for (mappings, namespaces, host, expected) in [
            (&root, json!([]), None, &denied[..]),
            (&root, json!(null), None, &denied),
            (&root, user.clone(), None, &[]),
            (&root, joined.clone(), None, &[]),
            (&root, joined.clone(), Some(HostMatch::Initial), &denied),
            (
                &json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]),
                json!([]),
                None,
                &[],
            ),
            (
                &json!([{"containerID": 0, "hostID": 0, "size": 0}]),
                json!([]),
                None,
                &[],
            ),
            (&json!([]), json!([]), None, &[]),
            (&json!(null), json!([]), None, &[]),
        ] {
            let mut config =
                document(json!([{"destination": "/x", "type": "bind", "uidMappings": mappings}]));
            set(&mut config, "/linux/namespaces", namespaces.clone());
            let table = Table::of(Profile::Baseline).knowing(|facts| facts.namespaces = vec![fact(host)]);
            assert_eq!(
                table.verdicts("MNT-15", &config),
                expected,
                "{mappings} {namespaces}"
            );
        }
        let mut config = document(json!([{"destination": "/x", "type": "bind", "gidMappings": root}]));
        assert_eq!(
            verdicts("MNT-15", &config),
            refused("MNT-15", "/mounts/0/gidMappings/0/hostID")
        );
        set(&mut config, "/linux/namespaces", joined);
        assert!(Table::of(Profile::Baseline).findings("MNT-15", &config)[0].undecided);
    }
}
