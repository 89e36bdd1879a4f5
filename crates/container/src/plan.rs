//! From an admitted configuration to the descent's plan: what the init process gives up, and what reality
//! must look like.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use gabion_baseline::Admitted;
use gabion_baseline::config::{Config, Process};
use gabion_baseline::facts::{LsmFact, SelinuxMode};
use gabion_baseline::given::Given;
use gabion_descent::{
    CapabilitySets, ExpectedNamespace, Limit, NamespaceIdentity, Plan, SecurityLabel, User,
};
use gabion_filters::Filters;
use gabion_sys::process::resource_number;

use crate::error::{ContainerError, Result};
use crate::filters;
use crate::promise::{self, Surroundings};
use crate::scheduling;

/// What the plan needs to know besides the configuration.
pub(crate) struct Context<'a> {
    pub(crate) id: &'a str,
    pub(crate) home: &'a str,
    /// The runtime's own namespaces: inode numbers by file name in /proc/self/ns.
    pub(crate) own_namespaces: &'a BTreeMap<&'static str, NamespaceIdentity>,
    /// The namespaces to join, as they were judged: one element for each of `linux.namespaces`.
    pub(crate) namespaces: &'a [Option<OwnedFd>],
    pub(crate) new_keyring: bool,
    pub(crate) filters: &'a Filters,
    pub(crate) preserved_descriptors: u32,
    pub(crate) listen_descriptors: u32,
    pub(crate) lsm: &'a LsmFact,
    /// For the container's first process, what its mounts are predicted from.
    pub(crate) surroundings: Option<Surroundings<'a>>,
}

/// Makes the plan.
///
/// # Errors
/// [`ContainerError::Unsupported`] with the place of what cannot be carried out.
pub(crate) fn plan(admitted: &Admitted, context: &Context<'_>) -> Result<Plan> {
    let config = admitted.config();
    let Some(process) = config.process.value() else {
        return unsupported("/process", "is missing: there is no program to run");
    };
    let (filters, canaries, readable) = filters::filters(admitted, context.filters)?;
    let (mounts, sysctls, id_maps, time_offsets) = match &context.surroundings {
        Some(around) => (
            promise::mount_table(config, around)?,
            promise::sysctls(config),
            promise::id_maps(config),
            promise::time_offsets(config),
        ),
        None => (None, Vec::new(), None, None),
    };
    let (mut processors, memory_nodes) = scheduling::sets(config)?;
    if context.surroundings.is_none() {
        // The specification has it for further processes alone.
        processors = scheduling::within(processors, process)?;
    }
    Ok(Plan {
        is_first: context.surroundings.is_some(),
        arguments: strings("/process/args", process.args.items())?,
        environment: environment(process, context)?,
        directory: text("/process/cwd", &process.cwd)?,
        user: user(config, process),
        capabilities: capabilities(process)?,
        no_new_privileges: process.no_new_privileges.is_true(),
        filters,
        canaries,
        filters_can_be_read_back: readable,
        label: label(process, context)?,
        session_keyring: context
            .new_keyring
            .then(|| CString::new(format!("_ses.{}", context.id)).unwrap_or_default()),
        namespaces: namespaces(config, context)?,
        masked_paths: linux_paths(config, |linux| &linux.masked_paths, "/linux/maskedPaths")?,
        readonly_paths: readonly_paths(config)?,
        limits: limits(process)?,
        scheduling: promise::scheduling(process),
        io_priority: promise::io_priority(process),
        processors,
        memory_nodes,
        oom_score_adj: process.oom_score_adj.value().copied(),
        preserved_descriptors: context.preserved_descriptors + context.listen_descriptors,
        personality: promise::personality(config),
        memory_policy: scheduling::memory_policy(config)?,
        handover: None,
        mounts,
        sysctls,
        id_maps,
        time_offsets,
    })
}

pub(crate) fn unsupported<T>(pointer: &str, text: impl Into<String>) -> Result<T> {
    Err(ContainerError::Unsupported {
        pointer: pointer.to_owned(),
        text: text.into(),
    })
}

fn text(pointer: &str, value: &str) -> Result<CString> {
    CString::new(value).or_else(|_| unsupported(pointer, format!("{value:?} holds a NUL byte")))
}

fn strings(pointer: &str, values: &[String]) -> Result<Vec<CString>> {
    values
        .iter()
        .enumerate()
        .map(|(index, value)| text(&format!("{pointer}/{index}"), value))
        .collect()
}

fn environment(process: &Process, context: &Context<'_>) -> Result<Vec<CString>> {
    let mut entries = last_of_each(strings("/process/env", process.env.items())?);
    let has_home = entries
        .iter()
        .any(|entry| entry.as_bytes().starts_with(b"HOME=") && entry.as_bytes().len() > 5);
    if !has_home {
        entries.retain(|entry| entry.as_bytes() != b"HOME=");
        entries.push(text("/process/env", &format!("HOME={}", context.home))?);
    }
    if context.listen_descriptors > 0 {
        // Socket activation (sd_listen_fds(3)): the program is process 1 of its namespace.
        entries.push(text(
            "/process/env",
            &format!("LISTEN_FDS={}", context.listen_descriptors),
        )?);
        entries.push(text("/process/env", "LISTEN_PID=1")?);
    }
    Ok(entries)
}

/// Of variables that are there more than once, the last one: getenv(3) would find the first, shells take the last, and
/// engines and `exec --env` append what is to count.
fn last_of_each(entries: Vec<CString>) -> Vec<CString> {
    let name = |entry: &CString| {
        let bytes = entry.as_bytes();
        let end = bytes.iter().position(|&byte| byte == b'=');
        bytes[..end.unwrap_or(bytes.len())].to_vec()
    };
    let mut seen = BTreeSet::new();
    let mut kept: Vec<CString> = entries
        .into_iter()
        .rev()
        .filter(|entry| seen.insert(name(entry)))
        .collect();
    kept.reverse();
    kept
}

fn user(config: &Config, process: &Process) -> User {
    let user = process.user.value();
    let new_user_namespace = config.linux.value().is_some_and(|linux| {
        linux
            .namespaces
            .items()
            .iter()
            .any(|entry| entry.kind == "user" && entry.joins().is_none())
    });
    User {
        uid: user.map_or(0, gabion_baseline::config::User::uid),
        gid: user.map_or(0, gabion_baseline::config::User::gid),
        groups: user
            .map(|user| user.additional_gids.items().to_vec())
            .unwrap_or_default(),
        // An ordinary user's mapping is accepted only after setgroups(2) was denied for good.
        can_set_groups: nix::unistd::geteuid().is_root() || !new_user_namespace,
        umask: user.and_then(|user| user.umask.value().copied()).unwrap_or(0o022),
    }
}

fn capabilities(process: &Process) -> Result<CapabilitySets> {
    let Given::Value(sets) = &process.capabilities else {
        // Judgement fills this in unless a policy tolerates it; then it means what runtimes make of it.
        let all = gabion_sys::capability::read()?.permitted;
        return Ok(CapabilitySets {
            bounding: all,
            effective: all,
            permitted: all,
            inheritable: 0,
            ambient: 0,
        });
    };
    let mut unknown = BTreeSet::new();
    let mut mask = |list: &Given<Vec<String>>| {
        let mut mask: u64 = 0;
        for capability in list.items() {
            match capability.parse::<caps::Capability>() {
                Ok(known) => mask |= 1 << known.index(),
                Err(_) => drop(unknown.insert(capability.clone())),
            }
        }
        mask
    };
    let bounding = mask(&sets.bounding);
    let permitted = mask(&sets.permitted);
    let effective = mask(&sets.effective) & permitted;
    let inheritable = mask(&sets.inheritable);
    // The kernel raises an ambient capability only if it is permitted and inheritable (capabilities(7)); engines
    // list them without, and expect that those have no effect.
    let ambient = mask(&sets.ambient) & permitted & inheritable;
    if !unknown.is_empty() {
        // What the kernel does not have cannot be given (config.md, "Linux Process", asks for a warning). Judgement has
        // seen it: rule CAP-07. runc's words, before ours.
        let names = unknown.into_iter().collect::<Vec<_>>().join(" ");
        tracing::warn!(
            "ignoring unknown or unavailable capabilities: [{names}]: config.json#/process/capabilities names what is no \
             capability of Linux"
        );
    }
    // The descent drops what is not in the bounding set first, and capset(2) would give EPERM then.
    let unbound = inheritable & !bounding;
    if let Some(capability) = caps::all()
        .into_iter()
        .find(|known| unbound & known.bitmask() != 0)
    {
        return unsupported(
            "/process/capabilities/inheritable",
            format!(
                "{capability} is not in bounding, and what is not cannot be inheritable: operation not permitted. Add it \
                 there, or remove it here"
            ),
        );
    }
    for (index, name) in sets.ambient.items().iter().enumerate() {
        let is_raised = |known: caps::Capability| ambient & (1 << known.index()) != 0;
        if name.parse().is_ok_and(|known| !is_raised(known)) {
            tracing::warn!(
                "can't raise ambient capability {name}: config.json#/process/capabilities/ambient/{index}: it is not both \
                 permitted and inheritable"
            );
        }
    }
    Ok(CapabilitySets {
        bounding,
        effective,
        inheritable,
        permitted,
        ambient,
    })
}

fn label(process: &Process, context: &Context<'_>) -> Result<Option<SecurityLabel>> {
    let written = |given: &Given<String>| given.value().filter(|text| !text.is_empty()).cloned();
    if let Some(profile) = written(&process.apparmor_profile) {
        if !context.lsm.apparmor {
            return unsupported(
                "/process/apparmorProfile",
                format!("{profile:?}: AppArmor is not active on this host"),
            );
        }
        if profile == "unconfined" {
            return Ok(None);
        }
        // Where the list of profiles is not to be seen, nobody has judged one that only complains.
        let enforced = context.lsm.is_enforced(&profile).unwrap_or(true);
        return Ok(Some(SecurityLabel::AppArmor { profile, enforced }));
    }
    if let Some(label) = written(&process.selinux_label) {
        if context.lsm.selinux == SelinuxMode::Off {
            return unsupported(
                "/process/selinuxLabel",
                format!("{label:?}: SELinux is not active on this host"),
            );
        }
        return Ok(Some(SecurityLabel::Selinux(label)));
    }
    Ok(None)
}

fn limits(process: &Process) -> Result<Vec<Limit>> {
    let mut limits: Vec<Limit> = Vec::new();
    for (index, entry) in process.rlimits.items().iter().enumerate() {
        let pointer = format!("/process/rlimits/{index}");
        let Some(resource) = resource_number(&entry.kind) else {
            return unsupported(
                &format!("{pointer}/type"),
                format!("{:?} is no resource limit of Linux", entry.kind),
            );
        };
        if limits.iter().any(|limit| limit.resource == resource) {
            return unsupported(
                &pointer,
                format!("{} is limited twice; the spec calls for an error", entry.kind),
            );
        }
        limits.push(Limit {
            name: entry.kind.clone(),
            resource,
            soft: entry.soft,
            hard: entry.hard,
        });
    }
    Ok(limits)
}

fn linux_paths(
    config: &Config,
    list: impl Fn(&gabion_baseline::config::Linux) -> &Given<Vec<String>>,
    pointer: &str,
) -> Result<Vec<CString>> {
    config
        .linux
        .value()
        .map_or(Ok(Vec::new()), |linux| strings(pointer, list(linux).items()))
}

fn readonly_paths(config: &Config) -> Result<Vec<CString>> {
    let mut paths = linux_paths(config, |linux| &linux.readonly_paths, "/linux/readonlyPaths")?;
    if config.root.value().is_some_and(|root| root.readonly.is_true()) {
        paths.push(text("/root/readonly", "/")?);
    }
    Ok(paths)
}

/// The files of /proc/self/ns, under the names that the spec has for their types.
pub(crate) const NAMESPACE_FILES: [(&str, &str); 8] = [
    ("mount", "mnt"),
    ("network", "net"),
    ("pid", "pid"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("user", "user"),
    ("cgroup", "cgroup"),
    ("time", "time"),
];

fn namespaces(config: &Config, context: &Context<'_>) -> Result<Vec<ExpectedNamespace>> {
    let entries = config
        .linux
        .value()
        .map_or(&[][..], |linux| linux.namespaces.items());
    let mut expected = Vec::new();
    for (kind, file) in NAMESPACE_FILES {
        // A kernel without this type has nothing to compare; where it is asked for, building fails.
        let Some(&own) = context.own_namespaces.get(file) else {
            continue;
        };
        let joined = match entries.iter().position(|entry| entry.kind == kind) {
            None => Some(own),
            Some(index) => match context.namespaces.get(index).and_then(Option::as_ref) {
                Some(descriptor) => {
                    let stat = nix::sys::stat::fstat(descriptor)
                        .map_err(ContainerError::call("fstat(namespace)"))?;
                    Some(stat.st_ino)
                }
                None => None,
            },
        };
        let none_of = if joined.is_none() { vec![own] } else { Vec::new() };
        expected.push(ExpectedNamespace {
            file: file.to_owned(),
            exactly: joined,
            none_of,
        });
    }
    Ok(expected)
}

/// The runtime's own namespaces, by file name in /proc/self/ns.
pub(crate) fn own_namespaces() -> Result<BTreeMap<&'static str, NamespaceIdentity>> {
    namespaces_of("/proc/self/ns")
}

/// The namespaces of a process, by file name in its `ns` directory of /proc.
pub(crate) fn namespaces_of(directory: &str) -> Result<BTreeMap<&'static str, NamespaceIdentity>> {
    let mut own = BTreeMap::new();
    for (_, file) in NAMESPACE_FILES {
        let path = format!("{directory}/{file}");
        match std::fs::read_link(&path) {
            Ok(link) => {
                let bytes = link.as_os_str().as_bytes().to_vec();
                let number = String::from_utf8(bytes).ok().and_then(|text| {
                    text.split_once(":[")
                        .and_then(|(_, rest)| rest.strip_suffix(']')?.parse().ok())
                });
                match number {
                    Some(number) => own.insert(file, number),
                    None => return Err(ContainerError::Other(format!("{path} reads {link:?}"))),
                };
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(ContainerError::file("cannot read", path)(error)),
        }
    }
    Ok(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_variable_that_is_there_twice_the_last_counts() {
        let entries = ["A=1", "B=2", "A=", "C", "B", "C"].map(|entry| CString::new(entry).unwrap());
        let kept = last_of_each(entries.to_vec());
        assert_eq!(kept, [c"A=".to_owned(), c"B".to_owned(), c"C".to_owned()]);
    }
}
