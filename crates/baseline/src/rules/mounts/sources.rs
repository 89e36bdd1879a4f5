//! Where the sources of bind mounts lead: MNT-01, MNT-02, MNT-03, MNT-12.

use super::landmarks::{CONTROL_SOCKET_NAMES, CONTROL_SOCKETS, Inside, READABLE_IN_ETC, SENSITIVE};
use super::{
    Bind, binds, entry, in_engine_root, is_offline, is_writable, kind, lies_at_or_in, lies_in, on_host,
};
use crate::config::Mount;
use crate::facts::{FactKind, FileKind, Relation};
use crate::profile::{Level, Levels};
use crate::rule::{Case, Mappings, Remedies, Rule, Violations};

pub(super) static MNT_01: Rule = Rule {
    id: "MNT-01",
    title: "no system directory of the host",
    meaning: "The source of a bind mount is a system directory of the host, contains one, or lies in one whose \
              content is no better: /, /etc, /root, /home, /boot, /proc, /sys, /dev, /run, /usr, /bin, /sbin, /lib, \
              /var/log, and the state of Docker, containerd, podman, the kubelet and etcd. Single files that \
              programs expect, such as /etc/hosts and what lies in /usr, are accepted read-only. What engines keep \
              for a container is not meant.",
    why: "Whoever writes to the host's /etc, /root or /usr is root on the host a minute later, and whoever reads \
          /etc, /proc or the engines' state has its keys and everyone's secrets. No isolation of the container \
          applies to what was handed in from outside. Directories are compared by device and inode, so that \
          another name for one does not help.",
    stops: &[
        "host path escapes: cron jobs, ssh keys and programs written from the container",
        "links in /var/log that the kubelet's log service follows",
        "volumes and tokens of other pods in the kubelet's directory",
        "CVE-2021-43816 and CVE-2024-1753, whose bundles bind a directory of the host",
    ],
    fields: &["/mounts/*/source", "/mounts/*/options"],
    levels: Levels::new(Level::Audit, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Replace -v /etc/app:/etc/app by a directory of its own (-v /srv/app:/etc/app:ro), a named volume \
                 (-v app:/data) or docker config. For /etc/localtime and certificates add :ro. An agent that must \
                 see a directory needs the site's policy to allow that one, such as MNT-01:/var/log.",
        ctr: "Remove the --mount with that src, or give it a directory of its own below /srv.",
        kubernetes: "Replace the hostPath volume by a configMap, secret, emptyDir or persistentVolumeClaim. A node \
                     agent that must see a directory needs the site's policy to allow that one for its namespace, \
                     such as MNT-01:/var/log, and readOnly: true in its volumeMounts.",
        config: "Remove the entry from mounts, or let source be a directory that belongs to this container, such as \
                 {\"source\": \"/srv/app\", \"options\": [\"bind\", \"ro\"]}.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "HostPath Volumes (baseline)",
        cis_docker: "5.6",
        nsa: "pod security enforcement",
        nist_800_190: "3.5.5",
    },
    facts: &[FactKind::Mounts],
    check: no_system_directory,
};

fn no_system_directory(case: &Case<'_>, violations: &mut Violations) {
    for bind in binds(case).filter(|bind| !bind.is_engine_managed()) {
        if let Some((directory, how)) = system_directory(&bind) {
            violations
                .report(
                    bind.pointer(),
                    format!("{} {how}", bind.shown()),
                    accepted(&directory),
                )
                .sub_key(bind.path());
        }
    }
    for (index, mount) in case.config.mounts.items().iter().enumerate() {
        if kind(mount) == "overlay" && !mount.is_bind() {
            no_system_layer(case, violations, index, mount);
        }
    }
}

/// The system directory that a source is not to be, contain, or lie in, and which of that it does, in words.
fn system_directory(bind: &Bind<'_>) -> Option<(String, String)> {
    let (directory, relation) = match bind.fact {
        Ok(fact) => fact
            .sensitive
            .as_ref()
            .map(|found| (found.directory.clone(), found.relation))?,
        Err(_) => by_name(&bind.plain()?)?,
    };
    // Each has a rule of its own, which says more about it: NS-03; DEV-04, for what has the name of a device or is
    // one; and where /proc is put at /proc, and /sys at /sys, those that know when it is right.
    let is_device = bind.device().is_some() || (bind.fact.is_err() && directory == "/dev");
    if bind.is_host_shm()
        || (relation == Relation::Inside && is_device)
        || is_judged_by_destination(bind, &directory)
    {
        return None;
    }
    let path = bind.path();
    let how = match relation {
        Relation::Is => format!("is the host's {directory}"),
        Relation::Contains => format!("contains the host's {directory}"),
        Relation::Inside => {
            let readable = match inside(&directory) {
                Inside::Everything => return None,
                Inside::Readonly => true,
                Inside::Listed => is_readable_in_etc(&path),
                Inside::Nothing => false,
            };
            match (readable, is_writable(bind.mount)) {
                (true, false) => return None,
                (true, true) => format!("lies in the host's {directory} and may be written to"),
                (false, _) => format!("lies in the host's {directory}"),
            }
        }
    };
    Some((directory, how))
}

fn accepted(directory: &str) -> &'static str {
    match inside(directory) {
        Inside::Readonly => "a volume; or a single file or directory in it, read-only",
        Inside::Listed => "a volume; or, read-only, a file that everyone may read, such as /etc/hosts",
        Inside::Everything | Inside::Nothing => "a volume, or a directory that belongs to this container",
    }
}

/// What may be bound of a directory's content. A directory that the facts name and the list does not know is
/// one that somebody thought sensitive.
fn inside(directory: &str) -> Inside {
    SENSITIVE
        .iter()
        .find(|landmark| landmark.path == directory)
        .map_or(Inside::Nothing, |found| found.inside)
}

fn is_readable_in_etc(path: &str) -> bool {
    READABLE_IN_ETC.iter().any(|listed| lies_at_or_in(path, listed))
}

/// /proc at /proc is MNT-06's, /sys at /sys and in it MNT-07's and MNT-08's.
fn is_judged_by_destination(bind: &Bind<'_>, directory: &str) -> bool {
    match directory {
        "/proc" => bind.place() == "/proc",
        "/sys" => bind.place() == "/sys" || lies_at_or_in(&bind.place(), "/sys/fs/cgroup"),
        _ => false,
    }
}

/// How a path without detours lies to the nearest sensitive directory.
pub(in crate::rules) fn by_name(path: &str) -> Option<(String, Relation)> {
    let all = || SENSITIVE.iter().map(|landmark| landmark.path);
    let found = |directory: &str, relation| Some((directory.to_owned(), relation));
    if let Some(directory) = all().find(|directory| *directory == path) {
        return found(directory, Relation::Is);
    }
    if let Some(directory) = all()
        .filter(|d| lies_in(d, path))
        .min_by_key(|d| d.split('/').count())
    {
        return found(directory, Relation::Contains);
    }
    all()
        .filter(|directory| *directory != "/" && lies_in(path, directory))
        .max_by_key(|directory| directory.len())
        .and_then(|directory| found(directory, Relation::Inside))
}

/// The layers of an overlay are directories of the host, named in options: a bind mount by another name.
/// No facts are collected for them, so what their names do not settle is undecided.
fn no_system_layer(case: &Case<'_>, violations: &mut Violations, index: usize, mount: &Mount) {
    let options = mount.options.items().iter().flat_map(|option| option.split(','));
    for (key, value) in options.filter_map(|option| option.split_once('=')) {
        if !["lowerdir", "upperdir", "workdir", "lowerdir+", "datadir+"].contains(&key) {
            continue;
        }
        for layer in value.split(':').filter(|layer| !layer.is_empty()) {
            let plain = on_host(layer);
            if plain.as_deref().is_some_and(|path| in_engine_root(case, path)) {
                continue;
            }
            let place = entry(index).key("options");
            let sensitive = plain
                .as_deref()
                .and_then(by_name)
                .filter(|(directory, relation)| {
                    *relation != Relation::Inside || inside(directory) != Inside::Everything
                });
            match sensitive {
                Some((directory, relation)) => {
                    let how = match relation {
                        Relation::Is => "is",
                        Relation::Contains => "contains",
                        Relation::Inside => "lies in",
                    };
                    violations.report(
                        place,
                        format!("the layer {layer:?} of an overlay {how} the host's {directory}"),
                        "layers that an engine keeps for this container",
                    )
                }
                None => violations.undecided(
                    place,
                    format!("what the layer {layer:?} of an overlay leads to is not looked at"),
                ),
            }
            .sub_key(plain.unwrap_or_else(|| layer.to_owned()));
        }
    }
}

pub(super) static MNT_02: Rule = Rule {
    id: "MNT-02",
    title: "no control socket",
    meaning: "The source of a bind mount is a socket of a container engine, a runtime, an orchestrator, init or the \
              message bus, or a directory that holds one.",
    why: "These sockets take orders and ask no further questions. Whoever can connect to Docker's or containerd's \
          starts a privileged container with the host's root in it: holding the socket is being root on the host. \
          A read-only mount changes nothing, for connecting is not writing. With the directory comes the socket, \
          and every later one.",
    stops: &[
        "the docker.sock escape, and the same with containerd, CRI-O, podman, BuildKit and NRI",
        "registering a device plugin with the kubelet",
        "starting units through systemd or D-Bus",
        "what is left of CVE-2024-41110 and CVE-2026-34040, which need a way to the daemon",
    ],
    fields: &["/mounts/*/source"],
    levels: Levels::new(Level::Audit, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Remove -v /var/run/docker.sock:/var/run/docker.sock. To build images use a rootless BuildKit or \
                 kaniko; for metrics or a reverse proxy use a filtering proxy of the API on its own host. A trusted \
                 agent needs the site's policy to allow this one, such as MNT-02:/run/docker.sock.",
        ctr: "Remove the --mount with that src.",
        kubernetes: "Remove the hostPath volume of the socket or its directory. Device plugins and network plugins \
                     need theirs: have the site's policy allow this one for their namespace, such as \
                     MNT-02:/var/lib/kubelet/device-plugins.",
        config: "Remove the entry from mounts.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "HostPath Volumes (baseline)",
        cis_docker: "5.32",
        nsa: "pod security enforcement",
        nist_800_190: "3.4.3",
    },
    facts: &[FactKind::Mounts],
    check: no_control_socket,
};

fn no_control_socket(case: &Case<'_>, violations: &mut Violations) {
    for bind in binds(case) {
        let what = match bind.fact {
            Ok(fact) => fact
                .control_socket
                .clone()
                // A socket that nobody listens at right now has no owner that could be found out.
                .or_else(|| {
                    (fact.kind == FileKind::Socket)
                        .then(|| socket_by_name(&bind.path()))
                        .flatten()
                }),
            Err(_) => bind.plain().as_deref().and_then(socket_by_name),
        };
        let Some(what) = what else { continue };
        violations
            .report(
                bind.pointer(),
                format!(
                    "{} is {what}; whoever holds it is root on this host",
                    bind.shown()
                ),
                "no socket that commands the host",
            )
            .sub_key(bind.path());
    }
}

/// What a path without detours says of a socket: it is one, or it is a directory that holds one.
fn socket_by_name(path: &str) -> Option<String> {
    let name = path.rsplit('/').next().unwrap_or_default();
    let exact = CONTROL_SOCKETS
        .iter()
        .find(|(socket, _)| leads(socket, path) == Some(true));
    if let Some((_, what)) = exact.or_else(|| CONTROL_SOCKET_NAMES.iter().find(|(known, _)| *known == name)) {
        return Some((*what).to_owned());
    }
    let below = CONTROL_SOCKETS
        .iter()
        .find(|(socket, _)| leads(socket, path) == Some(false));
    below.map(|(_, what)| format!("where {what} is"))
}

/// Whether a path is the one of a pattern (`true`), or one of the directories above it (`false`).
fn leads(pattern: &str, path: &str) -> Option<bool> {
    let mut wanted = pattern.split('/').skip(1);
    let same = path.split('/').skip(1).filter(|component| !component.is_empty());
    for component in same {
        let next = wanted.next()?;
        if next != "*" && next != component {
            return None;
        }
    }
    Some(wanted.next().is_none())
}

pub(super) static MNT_03: Rule = Rule {
    id: "MNT-03",
    title: "nothing of the host is writable",
    meaning: "A bind mount may be written to, and its source lies outside the directories in which engines keep \
              what belongs to containers (allow.engine-roots in the policy).",
    why: "What a workload writes to a directory of the host outlives it, is read by others, and may be what they \
          run. Volumes have an owner and an end; a directory of the host has neither.",
    stops: &[
        "leaving programs and data behind on the host",
        "CVE-2022-23648 and CVE-2026-53492, where an image or a checkpoint brought mounts along",
    ],
    fields: &["/mounts/*/source", "/mounts/*/options"],
    levels: Levels::new(Level::Off, Level::Audit, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Use a named volume (-v data:/data), or add :ro to the -v that names a path. For a path that is set \
                 aside for containers, add it to allow.engine-roots in the site's policy.",
        ctr: "Let the options of the --mount have ro: options=rbind:ro.",
        kubernetes: "Use a persistentVolumeClaim or emptyDir instead of hostPath, or set readOnly: true in \
                     volumeMounts.",
        config: "Add \"ro\" to the options of the mount, or take the source from the engine's volumes.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "HostPath Volumes (baseline), Volume Types (restricted)",
        cis_docker: "5.6",
        nsa: "",
        nist_800_190: "3.5.5",
    },
    facts: &[FactKind::Mounts],
    check: nothing_writable,
};

fn nothing_writable(case: &Case<'_>, violations: &mut Violations) {
    for bind in binds(case) {
        // Writing to a device leaves nothing in a directory; which ones may be had is DEV-04's.
        if !is_writable(bind.mount) || bind.is_engine_managed() || bind.device().is_some() {
            continue;
        }
        let violation = violations.report(
            bind.pointer(),
            format!("{} may be written to and is no volume of an engine", bind.shown()),
            "a volume, or the option \"ro\"",
        );
        if !bind.written.is_empty() {
            violation.sub_key(bind.path());
        }
    }
}

pub(super) static MNT_12: Rule = Rule {
    id: "MNT-12",
    title: "sources are reached on a way that nobody else controls",
    meaning: "The source of a bind mount leads through a magic link of procfs (/proc/<pid>/root, cwd, exe, fd, \
              map_files), or through a symbolic link that someone other than root could have placed, such as one in \
              a volume. Also where it cannot be found out where the source leads.",
    why: "A link that the workload can change decides at the last moment what of the host is mounted: it shows a \
          harmless directory while it is looked at, and / when it is mounted. A magic link leads out of every root \
          directory and namespace at once. No container needs either, and this rule guards the runtime itself: it is \
          the same in every profile.",
    stops: &[
        "CVE-2017-1002101 and CVE-2021-25741 (links in a volume, mounted as subPath)",
        "CVE-2022-23648 (containerd, volumes of an image)",
        "CVE-2026-42306 (exchanging a source while it is mounted)",
        "binding in directories of other processes through /proc",
    ],
    fields: &["/mounts/*/source"],
    levels: Levels::new(Level::Deny, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Name the directory itself in -v (readlink -f PATH shows it). If a link is wanted, let root own it \
                 and the directory that it is in, and nobody else write there.",
        ctr: "Name the directory itself as src in --mount (readlink -f PATH shows it).",
        kubernetes: "Name the directory itself in hostPath.path. The kubelet hands over subPath already resolved: \
                     if this refuses one, a link was placed in the volume since.",
        config: "Let source be the path that readlink -f prints, outside /proc.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "HostPath Volumes (baseline)",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.4.1",
    },
    facts: &[FactKind::Mounts],
    check: no_foreign_way,
};

fn no_foreign_way(case: &Case<'_>, violations: &mut Violations) {
    const ACCEPTED: &str = "a path without links that others can change";
    for bind in binds(case) {
        if let Some(way) = magic_by_name(bind.written) {
            violations.report(
                bind.pointer(),
                format!("{:?} leads through {way}", bind.written),
                "a path outside /proc",
            );
            continue;
        }
        match bind.fact {
            Ok(fact) => {
                if let Some(link) = &fact.through_magic_link {
                    violations.report(
                        bind.pointer(),
                        format!("{} leads through {link:?}, a magic link of procfs", bind.shown()),
                        ACCEPTED,
                    );
                } else if let Some(link) = &fact.through_foreign_link {
                    violations.report(
                        bind.pointer(),
                        format!(
                            "{} leads through the link {link:?}, which others than root can place",
                            bind.shown()
                        ),
                        ACCEPTED,
                    );
                }
            }
            Err(why) => {
                // A report on a file from elsewhere stays readable: the name settled it, for good or ill.
                if is_offline(case) && (bind.is_engine_managed() || is_settled_by_name(&bind)) {
                    continue;
                }
                violations.undecided(
                    bind.pointer(),
                    format!("where {:?} leads is not known: {why}", bind.written),
                );
            }
        }
    }
}

/// True if another rule refuses the source by its name alone.
fn is_settled_by_name(bind: &Bind<'_>) -> bool {
    system_directory(bind).is_some()
        || bind.is_host_shm()
        || bind.plain().as_deref().and_then(socket_by_name).is_some()
}

/// The part of procfs through which a path leads where it likes, if its name says so.
fn magic_by_name(path: &str) -> Option<&'static str> {
    if !path.starts_with('/') {
        return None;
    }
    let mut components = path
        .split('/')
        .filter(|component| !component.is_empty() && *component != ".");
    match components.next()? {
        "proc" => {
            let rest: Vec<&str> = components.collect();
            let magic = ["root", "cwd", "exe", "fd", "map_files"];
            match rest
                .iter()
                .skip(1)
                .find_map(|found| magic.iter().find(|name| *name == found))
            {
                Some(_) => Some("a magic link of procfs"),
                // What is above /proc/self depends on who asks.
                None if rest.contains(&"..") => Some("/proc and out of it again"),
                None => None,
            }
        }
        // Links to /proc/self/fd.
        "dev" => match components.next()? {
            "fd" | "stdin" | "stdout" | "stderr" => Some("the runtime's own descriptors"),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::ground::{bind, directory, mounts, of_source, sensitive};
    use super::*;
    use crate::facts::{Fact, SourceFact};
    use crate::finding::Action;
    use crate::profile::Profile;
    use crate::rules::table::Table;

    const NOTHING: [&str; 3] = ["", "", ""];

    fn refused(rule: &str) -> [String; 3] {
        [
            format!("audit {rule}"),
            format!("deny {rule}"),
            format!("deny {rule}"),
        ]
    }

    fn regular(fact: SourceFact) -> SourceFact {
        SourceFact {
            kind: FileKind::Regular,
            ..fact
        }
    }

    #[test]
    fn a_system_directory_is_refused_by_what_it_is() {
        use Relation::{Contains, Inside, Is};
        for (fact, options, expected) in [
            // Its name says nothing, and the fact everything.
            (
                sensitive("/mnt/h", Is, "/etc"),
                &["ro"][..],
                Some("MNT-01:/mnt/h"),
            ),
            (sensitive("/", Is, "/"), &["rbind", "rro"], Some("MNT-01:/")),
            (
                sensitive("/var", Contains, "/var/log"),
                &["ro"],
                Some("MNT-01:/var"),
            ),
            (sensitive("/home", Is, "/home"), &[], Some("MNT-01:/home")),
            (sensitive("/run", Is, "/run"), &[], Some("MNT-01:/run")),
            (
                sensitive("/etc/kubernetes/pki", Inside, "/etc/kubernetes"),
                &["ro"],
                Some("MNT-01:/etc/kubernetes/pki"),
            ),
            (
                sensitive("/root/.ssh", Inside, "/root"),
                &["ro"],
                Some("MNT-01:/root/.ssh"),
            ),
            (
                sensitive("/dev/dri", Inside, "/dev"),
                &[],
                Some("MNT-01:/dev/dri"),
            ),
            (
                sensitive("/proc/sys", Inside, "/proc"),
                &["ro"],
                Some("MNT-01:/proc/sys"),
            ),
            (
                sensitive("/var/lib/docker/overlay2/x", Inside, "/var/lib/docker"),
                &["ro"],
                Some("MNT-01:/var/lib/docker/overlay2/x"),
            ),
            (
                sensitive("/var/log/pods", Inside, "/var/log"),
                &[],
                Some("MNT-01:/var/log/pods"),
            ),
            (sensitive("/var/log/pods", Inside, "/var/log"), &["ro"], None),
            (
                sensitive("/usr/share/x", Inside, "/usr"),
                &[],
                Some("MNT-01:/usr/share/x"),
            ),
            (sensitive("/usr/share/x", Inside, "/usr"), &["rbind", "ro"], None),
            (
                sensitive("/usr/share/x", Inside, "/usr"),
                &["rrw", "ro"],
                Some("MNT-01:/usr/share/x"),
            ),
            // docker run --init, where /bin is a link to /usr/bin.
            (
                regular(sensitive("/usr/bin/docker-init", Inside, "/bin")),
                &["bind", "ro"],
                None,
            ),
            // ctr run --net-host.
            (
                regular(sensitive("/etc/hosts", Inside, "/etc")),
                &["rbind", "ro"],
                None,
            ),
            (
                regular(sensitive("/etc/hosts", Inside, "/etc")),
                &["rbind"],
                Some("MNT-01:/etc/hosts"),
            ),
            (sensitive("/etc/ssl/certs", Inside, "/etc"), &["ro"], None),
            (
                sensitive("/etc/ssl/private", Inside, "/etc"),
                &["ro"],
                Some("MNT-01:/etc/ssl/private"),
            ),
            (
                regular(sensitive("/etc/shadow", Inside, "/etc")),
                &["ro"],
                Some("MNT-01:/etc/shadow"),
            ),
            (
                regular(sensitive("/etc/hosts.allow", Inside, "/etc")),
                &["ro"],
                Some("MNT-01:/etc/hosts.allow"),
            ),
            // Near misses: a project, a sandbox, nothing in particular, an engine's.
            (sensitive("/home/ada/project", Inside, "/home"), &[], None),
            (sensitive("/run/containerd/x", Inside, "/run"), &[], None),
            (directory("/srv/data"), &[], None),
            (
                SourceFact {
                    engine_managed: true,
                    ..sensitive("/var/lib/docker/volumes/v/_data", Inside, "/var/lib/docker")
                },
                &[],
                None,
            ),
            // Others' business: NS-03 and DEV-04.
            (
                SourceFact {
                    is_host_shm: true,
                    ..sensitive("/dev/shm", Inside, "/dev")
                },
                &[],
                None,
            ),
            (
                SourceFact {
                    kind: FileKind::BlockDevice { major: 8, minor: 0 },
                    ..sensitive("/dev/sda", Inside, "/dev")
                },
                &[],
                None,
            ),
            // A directory that only the facts know.
            (
                sensitive("/opt/keys/x", Inside, "/opt/keys"),
                &["ro"],
                Some("MNT-01:/opt/keys/x"),
            ),
        ] {
            let found = of_source("MNT-01", "/some/name", options, Some(fact.clone()));
            match expected {
                Some(rule) => assert_eq!(found, refused(rule), "{fact:?} {options:?}"),
                None => assert_eq!(found, NOTHING, "{fact:?} {options:?}"),
            }
        }
    }

    #[test]
    fn a_system_directory_is_refused_by_its_name_where_nothing_is_known() {
        for (source, options, expected) in [
            ("/", &[][..], Some("MNT-01:/")),
            ("//", &["ro"], Some("MNT-01:/")),
            ("/srv/..", &["ro"], Some("MNT-01:/")),
            ("/etc/", &["ro"], Some("MNT-01:/etc")),
            ("/srv/../etc/./cron.d", &[], Some("MNT-01:/etc/cron.d")),
            ("/etc/localtime", &["ro"], None),
            ("/etc/localtime", &[], Some("MNT-01:/etc/localtime")),
            ("/var/run", &[], Some("MNT-01:/run")),
            ("/var/lib", &["ro"], Some("MNT-01:/var/lib")),
            (
                "/var/lib/docker/volumes",
                &[],
                Some("MNT-01:/var/lib/docker/volumes"),
            ),
            ("/var/lib/docker/volumes/v/_data", &[], None),
            (
                "/var/lib/docker/volumes/../overlay2",
                &[],
                Some("MNT-01:/var/lib/docker/overlay2"),
            ),
            ("/var/lib/kubelet/pods/u/volumes/x", &[], None),
            // podman's and CRI-O's: files of a container and volumes, not layers of images and roots of others.
            (
                "/var/lib/containers/storage/overlay-containers/c/userdata/shm",
                &[],
                None,
            ),
            (
                "/var/lib/containers/storage/vfs-containers/c/userdata/hosts",
                &[],
                None,
            ),
            ("/var/lib/containers/storage/volumes/v/_data", &[], None),
            (
                "/var/lib/containers/storage/overlay/l/diff",
                &[],
                Some("MNT-01:/var/lib/containers/storage/overlay/l/diff"),
            ),
            (
                "/var/lib/containers/storage/overlay-containers/../vfs/dir",
                &["ro"],
                Some("MNT-01:/var/lib/containers/storage/vfs/dir"),
            ),
            (
                "/var/lib/containers/storage/overlay-containers",
                &[],
                Some("MNT-01:/var/lib/containers/storage/overlay-containers"),
            ),
            ("/etcetera", &[], None),
            ("/srv/etc", &[], None),
            ("/dev", &[], Some("MNT-01:/dev")),
            // NS-03's and DEV-04's.
            ("/dev/shm", &[], None),
            ("/dev/null", &[], None),
            ("/dev/sda", &[], None),
            ("rootfs/../data", &[], None),
            ("", &[], None),
        ] {
            let found = of_source("MNT-01", source, options, None);
            match expected {
                Some(rule) => assert_eq!(found, refused(rule), "{source:?}"),
                None => assert_eq!(found, NOTHING, "{source:?}"),
            }
        }
    }

    #[test]
    fn a_refusal_names_the_source_and_where_it_leads() {
        let document = mounts(json!([bind("/mnt/h", "/x", &["ro"])]));
        let table = Table::of(Profile::Baseline).knowing(|facts| {
            facts.mount_sources = vec![Fact::Known(Some(sensitive("/etc/ssh", Relation::Inside, "/etc")))];
        });
        let found = &table.findings("MNT-01", &document)[0];
        assert_eq!(
            found.found,
            "\"/mnt/h\" (which leads to \"/etc/ssh\") lies in the host's /etc"
        );
        assert_eq!(
            found.accepted,
            "a volume; or, read-only, a file that everyone may read, such as /etc/hosts"
        );
    }

    #[test]
    fn layers_of_an_overlay_are_sources_too() {
        for (options, expected) in [
            (
                json!(["lowerdir=/srv/a:/etc"]),
                vec!["deny MNT-01:/srv/a", "deny MNT-01:/etc"],
            ),
            (json!(["userxattr,lowerdir=/root"]), vec!["deny MNT-01:/root"]),
            (json!(["lowerdir+=/"]), vec!["deny MNT-01:/"]),
            (
                json!(["lowerdir=/var/lib/containers/storage/overlay-containers/c/userdata/o"]),
                vec![],
            ),
            (json!(["upper=/etc", "lowerdir="]), vec![]),
            (json!(null), vec![]),
        ] {
            let document = mounts(json!([{"destination": "/x", "type": "overlay", "options": options}]));
            let found = Table::of(Profile::Baseline).verdicts("MNT-01", &document);
            let expected: Vec<String> = expected
                .iter()
                .map(|line| format!("{line} /mounts/0/options"))
                .collect();
            assert_eq!(found, expected, "{options}");
        }
        let document =
            mounts(json!([{"destination": "/x", "type": "overlay", "options": ["lowerdir=/srv/a"]}]));
        let found = Table::of(Profile::Baseline)
            .offline()
            .findings("MNT-01", &document);
        assert!(found[0].undecided && found.len() == 1);
    }

    #[test]
    fn a_control_socket_is_refused_by_what_it_is() {
        let held = |path: &str, what: &str| SourceFact {
            control_socket: Some(what.to_owned()),
            ..directory(path)
        };
        let dead = |path: &str| SourceFact {
            kind: FileKind::Socket,
            ..directory(path)
        };
        for (fact, expected) in [
            (
                held("/srv/innocent", "the Docker daemon's socket"),
                Some("MNT-02:/srv/innocent"),
            ),
            (held("/run", "where containerd's socket is"), Some("MNT-02:/run")),
            // An engine's root is no excuse.
            (
                SourceFact {
                    engine_managed: true,
                    ..held("/run/containers/x", "podman's socket")
                },
                Some("MNT-02:/run/containers/x"),
            ),
            (dead("/run/docker.sock"), Some("MNT-02:/run/docker.sock")),
            (dead("/srv/app.sock"), None),
            // The name alone is not held against what is known to be something else.
            (directory("/srv/docker.sock"), None),
        ] {
            let found = of_source("MNT-02", "/some/name", &["ro"], Some(fact.clone()));
            match expected {
                Some(rule) => assert_eq!(found, refused(rule), "{fact:?}"),
                None => assert_eq!(found, NOTHING, "{fact:?}"),
            }
        }
    }

    #[test]
    fn a_control_socket_is_refused_by_its_name_where_nothing_is_known() {
        for (source, expected) in [
            ("/var/run/docker.sock", Some("MNT-02:/run/docker.sock")),
            ("/run//./docker.sock", Some("MNT-02:/run/docker.sock")),
            (
                "/srv/../run/containerd/containerd.sock",
                Some("MNT-02:/run/containerd/containerd.sock"),
            ),
            ("/run/containerd", Some("MNT-02:/run/containerd")),
            ("/run/user/1000/podman", Some("MNT-02:/run/user/1000/podman")),
            (
                "/run/user/1000/docker.sock",
                Some("MNT-02:/run/user/1000/docker.sock"),
            ),
            (
                "/var/lib/kubelet/device-plugins",
                Some("MNT-02:/var/lib/kubelet/device-plugins"),
            ),
            ("/home/ada/docker.sock", Some("MNT-02:/home/ada/docker.sock")),
            ("/", Some("MNT-02:/")),
            ("/run/containerd/io.containerd.grpc.v1.cri/sandboxes/s/shm", None),
            ("/run/docker.sock.d", None),
            ("/run/containers", None),
            ("/srv/docker", None),
            ("docker.sock/x", None),
            ("", None),
        ] {
            let found = of_source("MNT-02", source, &["ro"], None);
            match expected {
                Some(rule) => assert_eq!(found, refused(rule), "{source:?}"),
                None => assert_eq!(found, NOTHING, "{source:?}"),
            }
        }
        let document = mounts(json!([bind("/var/run/docker.sock", "/var/run/docker.sock", &[])]));
        let found = &Table::of(Profile::Baseline)
            .offline()
            .findings("MNT-02", &document)[0];
        assert_eq!(
            found.found,
            "\"/var/run/docker.sock\" is the Docker daemon's socket; whoever holds it is root on this host"
        );
    }

    #[test]
    fn what_may_be_written_to_belongs_to_an_engine() {
        let managed = |path: &str| SourceFact {
            engine_managed: true,
            ..directory(path)
        };
        let null = SourceFact {
            kind: FileKind::CharDevice { major: 1, minor: 3 },
            ..directory("/dev/null")
        };
        for (source, options, fact, expected) in [
            (
                "/srv/d",
                &["rbind"][..],
                Some(directory("/srv/d")),
                ["", "audit MNT-03:/srv/d", "deny MNT-03:/srv/d"],
            ),
            (
                "/srv/d",
                &["ro", "rw"],
                Some(directory("/srv/d")),
                ["", "audit MNT-03:/srv/d", "deny MNT-03:/srv/d"],
            ),
            ("/srv/d", &["rw", "ro"], Some(directory("/srv/d")), NOTHING),
            ("/srv/d", &["rro"], Some(directory("/srv/d")), NOTHING),
            ("/disk/volumes/v", &[], Some(managed("/disk/volumes/v")), NOTHING),
            // A name in an engine's root, and a link that leads elsewhere.
            (
                "/var/lib/docker/volumes/v",
                &[],
                Some(directory("/srv/d")),
                ["", "audit MNT-03:/srv/d", "deny MNT-03:/srv/d"],
            ),
            ("/dev/null", &[], Some(null), NOTHING),
            (
                "/srv/d",
                &[],
                None,
                ["", "audit MNT-03:/srv/d", "deny MNT-03:/srv/d"],
            ),
            ("/var/lib/docker/volumes/v/_data", &[], None, NOTHING),
            (
                "/var/lib/docker/volumes",
                &[],
                None,
                [
                    "",
                    "audit MNT-03:/var/lib/docker/volumes",
                    "deny MNT-03:/var/lib/docker/volumes",
                ],
            ),
        ] {
            assert_eq!(
                of_source("MNT-03", source, options, fact),
                expected,
                "{source} {options:?}"
            );
        }
    }

    #[test]
    fn an_engine_root_may_have_any_component_in_it() {
        let document = mounts(json!([
            bind("/srv/teams/a/data", "/x", &[]),
            bind("/srv/teams/a", "/y", &[])
        ]));
        let mut table = Table::of(Profile::Restricted);
        table.policy.engine_roots = vec!["/srv/teams/*".to_owned()];
        assert_eq!(
            table.verdicts("MNT-03", &document),
            ["deny MNT-03:/srv/teams/a /mounts/1/source"]
        );
    }

    #[test]
    fn a_way_that_others_control_is_refused_in_every_profile() {
        let magic = SourceFact {
            through_magic_link: Some("/proc/7/root".to_owned()),
            ..directory("/x")
        };
        let foreign = SourceFact {
            through_foreign_link: Some("/tmp/l".to_owned()),
            ..directory("/x")
        };
        // An engine's own directory is where containers place links.
        let volume = SourceFact {
            engine_managed: true,
            ..foreign.clone()
        };
        let denied = ["deny MNT-12"; 3];
        let known = || Some(directory("/x"));
        for (source, fact, expected) in [
            ("/a", Some(magic), denied),
            ("/a", Some(foreign), denied),
            ("/a", Some(volume), denied),
            ("/proc/self/root/etc", known(), denied),
            ("/proc/1/task/1/cwd", known(), denied),
            ("//proc//self/./fd/7", known(), denied),
            ("/proc/self/map_files/1-2", known(), denied),
            ("/proc/self/../1", known(), denied),
            ("/dev/fd/7", known(), denied),
            ("/dev/stdin", known(), denied),
            ("/proc/1/ns/net", known(), NOTHING),
            ("/proc/root", known(), NOTHING),
            ("/srv/proc/1/root", known(), NOTHING),
            ("/dev/null", known(), NOTHING),
            ("/srv/data", known(), NOTHING),
        ] {
            assert_eq!(
                of_source("MNT-12", source, &[], fact.clone()),
                expected,
                "{source} {fact:?}"
            );
        }
    }

    #[test]
    fn a_source_of_which_nothing_is_known_is_not_mounted() {
        for source in ["/srv/d", "/var/lib/docker/volumes/v/_data", "/etc", ""] {
            assert_eq!(
                of_source("MNT-12", source, &[], None),
                ["deny MNT-12"; 3],
                "{source:?}"
            );
        }
        // In a file from another host, what the name settles is said once, or not at all.
        let offline = |source: &str| -> Vec<(Action, bool)> {
            let document = mounts(json!([bind(source, "/x", &[])]));
            let found = Table::of(Profile::Baseline)
                .offline()
                .findings("MNT-12", &document);
            found
                .iter()
                .map(|finding| (finding.action, finding.undecided))
                .collect()
        };
        assert_eq!(offline("/srv/d"), [(Action::Audit, true)]);
        assert_eq!(offline("data"), [(Action::Audit, true)]);
        for source in [
            "/var/lib/docker/volumes/v/_data",
            "/etc/shadow",
            "/",
            "/dev/shm",
            "/run/docker.sock",
        ] {
            assert_eq!(offline(source), [], "{source}");
        }
    }

    #[test]
    fn what_is_no_bind_mount_has_no_source_to_judge() {
        let tmpfs: Value = json!({"destination": "/etc", "type": "tmpfs", "source": "/etc"});
        for list in [json!([tmpfs]), json!([]), json!(null)] {
            for rule in ["MNT-01", "MNT-02", "MNT-03", "MNT-12"] {
                assert_eq!(
                    Table::of(Profile::Restricted).findings(rule, &mounts(list.clone())),
                    [],
                    "{rule} {list}"
                );
            }
        }
    }
}
