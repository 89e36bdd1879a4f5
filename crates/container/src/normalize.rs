//! The effective configuration in the form in which libcontainer is given it: nothing is left to its defaults,
//! and what the descent does is taken out.
//!
//! | taken out or changed | because |
//! |---|---|
//! | `process.capabilities`, `noNewPrivileges`, `user`, labels, `linux.seccomp` | the descent does it, last, and verifies it |
//! | `process.cwd` is `/` | the descent makes it if need be, enters it, and verifies where it is |
//! | `root.readonly` | done after the working directory was made in it (see [`crate::finish`]), and verified |
//! | `process.scheduler`, `ioPriority`, `linux.memoryPolicy` | set as for a further process (see [`crate::scheduling`]) |
//! | `process.rlimits`, `oomScoreAdj` | set from outside when the container is built, so that a low limit cannot break the building |
//! | `HOME` is always set | otherwise the name service of the image is asked, by a privileged process |
//! | `hooks` lead to gabion | they get the state, environment and directory that the spec promises (see [`crate::hooks`]) |
//! | namespaces by path are `/proc/self/fd/N` | what was judged is what is joined |
//! | a network namespace that is joined with a user namespace is left out | the builder is in it already ([`network_to_enter`]) |
//! | `rootfsPropagation` is explicit | propagation of single mounts is done after (see [`crate::finish`]) |
//! | mount options it would drop take another way | see [`crate::mount_options`] |
//! | some bind mounts, and remounts | made and done after, with the mount API (see [`crate::trees`], [`crate::finish`]) |
//! | a tmpfs in place of a bind mount at /dev, or of the image's own /dev | links and devices are made in it, and it is taken away (see [`crate::finish`]) |
//! | destinations whose link leads nowhere are where it leads | see [`crate::destinations`] |
//! | a tmpfs gets the mode of the directory it covers | as every other runtime has it |
//! | devices outside /dev | made after (see [`crate::finish`]) |
//! | without root: `linux.resources`, a new user namespace | there is no cgroup, and the builder is in it already (see [`crate::rootless`]) |
//! | a user namespace of several ranges is joined | it was made for its mapping (see [`crate::idmap`]) |

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use gabion_baseline::config::{Config, Mount};
use gabion_baseline::facts::CgroupMode;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag};
use serde_json::{Map, Value, json};

use crate::error::{ContainerError, Result};
use crate::finish::{DEVICES, LINKS};
use crate::hooks;
use crate::mount_options;
use crate::systemd::Unit;
use crate::trees::{self, Tree};
use crate::update;

/// What normalizing needs to know besides the configuration.
pub(crate) struct Context<'a> {
    pub(crate) id: &'a str,
    pub(crate) bundle: &'a Path,
    pub(crate) home: &'a str,
    /// The `hooks` object that leads to gabion.
    pub(crate) hooks: Option<Value>,
    /// The scope that systemd makes for it.
    pub(crate) unit: Option<&'a Unit>,
    /// For each entry of `linux.namespaces`, the descriptor that was judged.
    pub(crate) namespaces: &'a [Option<OwnedFd>],
    /// The container's user namespace, if it was made beforehand.
    pub(crate) user_namespace: Option<&'a OwnedFd>,
    /// There are no cgroups for the container; an ordinary user's builder is in the user namespace already.
    pub(crate) rootless: bool,
    /// The root file system, canonical.
    pub(crate) rootfs: &'a Path,
    /// Where each mount goes (see [`crate::destinations`]).
    pub(crate) destinations: &'a [String],
    /// The mounts that gabion makes itself.
    pub(crate) trees: &'a [Tree],
    /// See [`has_own_dev`].
    pub(crate) own_dev: bool,
    /// The cgroup that the builder is in by then and libcontainer has to do nothing about ([`crate::owned_cgroup`]).
    pub(crate) is_in: Option<&'a Path>,
}

/// Makes the document for libcontainer.
///
/// # Errors
/// [`ContainerError::Unsupported`] for what neither libcontainer nor gabion does: it is never ignored in silence.
pub(crate) fn normalize(document: &Value, config: &Config, context: &Context<'_>) -> Result<Value> {
    refuse_unsupported(config)?;
    let mut document = without_filter(document);
    let Some(top) = document.as_object_mut() else {
        return Err(ContainerError::Other(
            "the configuration is not an object".to_owned(),
        ));
    };

    let root = object(top, "root");
    root.insert("path".to_owned(), json!(rootfs_path(config, context.bundle)));
    root.remove("readonly");

    let process = object(top, "process");
    for key in [
        "capabilities",
        "noNewPrivileges",
        "apparmorProfile",
        "selinuxLabel",
        "rlimits",
        "oomScoreAdj",
        "execCPUAffinity",
    ] {
        process.remove(key);
    }
    // Where a filter has a listener the gate looks at these before anything could be set from outside.
    if !notifies(config) {
        process.remove("scheduler");
        process.remove("ioPriority");
    }
    process.insert("user".to_owned(), json!({"uid": 0, "gid": 0}));
    process.insert("cwd".to_owned(), json!("/"));
    process.insert("env".to_owned(), json!([format!("HOME={}", context.home)]));

    let linux = object(top, "linux");
    linux.remove("memoryPolicy");
    linux.remove(gabion_baseline::change::FLOOR);
    linux.insert("rootfsPropagation".to_owned(), json!(initial_propagation(config)));
    let cgroups_path = cgroups_path(config, context);
    linux.insert("cgroupsPath".to_owned(), json!(cgroups_path));
    if let Some(Value::Object(resources)) = linux.get_mut("resources") {
        // Those who build count as tasks too: a limit of one would be none to build under. It is set when they are gone.
        resources.remove("pids");
        // Written once it is built (see `crate::update::set_left_out`): it computes another weight than the kernel's scale
        // has for it, and writes several lines at once, of which the kernel takes one each time.
        if let Some(Value::Object(unified)) = resources.get_mut("unified") {
            unified.retain(|_, value| !value.as_str().is_some_and(update::has_lines));
        }
        if gabion_host::cgroup::mode() == Ok(CgroupMode::Unified)
            && let Some(Value::Object(block_io)) = resources.get_mut("blockIO")
        {
            block_io.remove("weight");
        }
    }
    if let Some(Value::Array(entries)) = linux.get_mut("namespaces") {
        for (index, entry) in entries.iter_mut().enumerate() {
            let made = context
                .user_namespace
                .filter(|_| entry.get("type").is_some_and(|kind| kind == "user"));
            let judged = context.namespaces.get(index).and_then(Option::as_ref);
            if let (Some(descriptor), Some(entry)) = (judged.or(made), entry.as_object_mut()) {
                entry.insert(
                    "path".to_owned(),
                    json!(format!("/proc/self/fd/{}", descriptor.as_raw_fd())),
                );
            } else if let Some(entry) = entry.as_object_mut() {
                entry.remove("path");
            }
        }
        if let Some(index) = network_to_enter(config, context.rootless) {
            entries.remove(index);
        }
    }

    if context.user_namespace.is_some() {
        linux.remove("uidMappings");
        linux.remove("gidMappings");
    }
    if context.rootless {
        linux.remove("resources");
        // Root in a user namespace may join another one like root of the host.
        if context.user_namespace.is_some()
            && !nix::unistd::geteuid().is_root()
            && let Some(Value::Array(entries)) = linux.get_mut("namespaces")
        {
            entries.retain(|entry| entry.get("type").is_none_or(|kind| kind != "user"));
        }
    }
    if let Some(Value::Array(devices)) = linux.get_mut("devices") {
        devices.retain(|device| {
            device
                .get("path")
                .and_then(Value::as_str)
                .is_none_or(is_below_dev)
        });
    }

    if let Some(Value::Array(mounts)) = top.get_mut("mounts") {
        let entries = std::mem::take(mounts);
        mounts.extend(context.own_dev.then(placeholder));
        for (index, (mut value, mount)) in entries.into_iter().zip(config.mounts.items()).enumerate() {
            if context.trees.iter().any(|tree| tree.index == index) {
                mounts.extend(trees::is_dev(mount).then(placeholder));
            } else if !mount_options::is_remount(mount) {
                normalize_mount(&mut value, config, context, index)?;
                mounts.push(value);
            }
        }
    } else if context.own_dev {
        top.insert("mounts".to_owned(), json!([placeholder()]));
    }

    match &context.hooks {
        Some(hooks) => top.insert("hooks".to_owned(), hooks.clone()),
        None => top.remove("hooks"),
    };
    Ok(document)
}

/// A copy without `linux.seccomp`, which is most of a document, and would be taken out of the copy at once.
fn without_filter(document: &Value) -> Value {
    let Value::Object(top) = document else {
        return document.clone();
    };
    let copied = top.iter().map(|(key, value)| {
        let value = match value {
            Value::Object(linux) if key == "linux" => linux
                .iter()
                .filter(|(key, _)| *key != "seccomp")
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            _ => value.clone(),
        };
        (key.clone(), value)
    });
    copied.collect()
}

/// True if calls may be handed to a seccomp agent.
fn notifies(config: &Config) -> bool {
    let profile = config.linux.value().and_then(|linux| linux.seccomp.value());
    profile.is_some_and(|profile| {
        let mut rules = profile.syscalls.items().iter();
        rules.any(|rule| rule.action == "SCMP_ACT_NOTIFY")
    })
}

/// Where libcontainer makes devices; those elsewhere are made by [`crate::finish`].
pub(crate) fn is_below_dev(path: &str) -> bool {
    Path::new(path).starts_with("/dev")
}

/// The root file system's absolute path.
pub(crate) fn rootfs_path(config: &Config, bundle: &Path) -> PathBuf {
    config
        .root
        .value()
        .map_or_else(|| bundle.join("rootfs"), |root| bundle.join(&root.path))
}

/// Which of `linux.namespaces` the builder enters before it builds: a network namespace that is joined together with a
/// user namespace. libcontainer enters the user namespace first, and has no rights any more to join one that is
/// another's. Hooks that run in the runtime's namespaces would be in it too, and interfaces that are to be moved would not
/// be seen from there: with these it stays as it is.
pub(crate) fn network_to_enter(config: &Config, rootless: bool) -> Option<usize> {
    let linux = config.linux.value()?;
    let namespaces = linux.namespaces.items();
    let moves_interfaces = linux
        .net_devices
        .value()
        .is_some_and(|devices| !devices.is_empty());
    if rootless
        || moves_interfaces
        || hooks::are_in_runtime(config)
        || !namespaces.iter().any(|entry| entry.kind == "user")
    {
        return None;
    }
    namespaces
        .iter()
        .position(|entry| entry.kind == "network" && entry.joins().is_some())
}

/// `linux.cgroupsPath`, if it is given.
pub(crate) fn written_cgroups_path(config: &Config) -> Option<&str> {
    config
        .linux
        .value()
        .and_then(|linux| linux.cgroups_path.value())
        .map(String::as_str)
        .filter(|path| !path.is_empty())
}

/// `linux.cgroupsPath` as libcontainer takes it: absolute below each hierarchy. Where systemd makes the cgroup, that is
/// where it is.
pub(crate) fn cgroups_path(config: &Config, context: &Context<'_>) -> String {
    if let Some(unit) = context.unit {
        let cgroup = unit.cgroup();
        let below = cgroup.strip_prefix("/sys/fs/cgroup").unwrap_or(&cgroup);
        return format!("/{}", below.display());
    }
    match context
        .is_in
        .and_then(|there| there.strip_prefix("/sys/fs/cgroup").ok())
    {
        Some(below) => format!("/{}", below.display()),
        None => default_cgroups_path(config, context.id),
    }
}

/// The same without systemd, for whoever is root.
pub(crate) fn default_cgroups_path(config: &Config, id: &str) -> String {
    match written_cgroups_path(config) {
        // A name of its own at the top: the default of a bundle that leaves it to the runtime.
        None => format!("/gabion-{id}"),
        Some(path) if path.starts_with('/') => path.to_owned(),
        Some(path) => format!("/{path}"),
    }
}

/// How the whole mount tree propagates while it is being built.
///
/// `slave` is needed only where some mount is to receive events of the host later on; everything else is
/// private from the start, so that nothing mounted on the host meanwhile shows up.
pub(crate) fn initial_propagation(config: &Config) -> &'static str {
    let asked = config
        .linux
        .value()
        .and_then(|linux| linux.rootfs_propagation.value())
        .map(String::as_str);
    let wants_events = config.mounts.items().iter().any(|mount| {
        mount
            .options
            .items()
            .iter()
            .any(|option| matches!(option.as_str(), "slave" | "rslave" | "shared" | "rshared"))
    });
    match asked {
        Some("shared" | "rshared") => "shared",
        Some("unbindable" | "runbindable") => "unbindable",
        Some("slave" | "rslave") => "slave",
        _ if wants_events => "slave",
        _ => "private",
    }
}

/// What libcontainer makes its links and devices in, where they are not to stay.
fn placeholder() -> Value {
    json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]})
}

/// True if nothing is to be mounted at /dev and the image has something there that libcontainer would make anew, which is
/// an error then. In a user namespace no device can be made, so there it stays one.
pub(crate) fn has_own_dev(config: &Config, rootfs: &Path) -> bool {
    let linux = config.linux.value();
    let in_user_namespace =
        linux.is_some_and(|linux| linux.namespaces.items().iter().any(|entry| entry.kind == "user"));
    if in_user_namespace || config.mounts.items().iter().any(trees::is_at_dev) {
        return false;
    }
    let made = DEVICES
        .iter()
        .map(|(name, _)| *name)
        .chain(LINKS.map(|(name, _)| name));
    let asked = linux.map_or(&[][..], |linux| linux.devices.items());
    let asked = asked
        .iter()
        .map(|device| Path::new(&device.path).strip_prefix("/dev"));
    made.map(Path::new)
        .chain(asked.filter_map(std::result::Result::ok))
        .any(|name| rootfs.join("dev").join(name).symlink_metadata().is_ok())
}

fn normalize_mount(value: &mut Value, config: &Config, context: &Context<'_>, index: usize) -> Result<()> {
    let mount = &config.mounts.items()[index];
    let Some(entry) = value.as_object_mut() else {
        return Ok(());
    };
    entry.insert("destination".to_owned(), json!(context.destinations[index]));
    match mount.source.value() {
        Some(source) if mount.is_bind() => {
            entry.insert("source".to_owned(), json!(context.bundle.join(source)));
        }
        Some(_) => {}
        None => {
            let kind = mount.kind.value().map_or("none", String::as_str);
            entry.insert("source".to_owned(), json!(kind));
        }
    }
    if !mount.options.is_missing() {
        let options = mount_options::for_libcontainer(mount).map_err(|text| ContainerError::Unsupported {
            pointer: format!("/mounts/{index}/options"),
            text,
        })?;
        entry.insert("options".to_owned(), json!(options));
    }
    if let Some(mode) = covered_mode(config, context, index) {
        match entry.entry("options").or_insert_with(|| json!([])) {
            Value::Array(options) => options.push(json!(format!("mode={mode:o}"))),
            options => *options = json!([format!("mode={mode:o}")]),
        }
    }
    Ok(())
}

/// The mode of the image's directory that a tmpfs covers, where the bundle gives none. Open to everybody, as a new tmpfs
/// is, it would let more in than the image does.
fn covered_mode(config: &Config, context: &Context<'_>, index: usize) -> Option<u32> {
    let mounts = config.mounts.items();
    let mount = &mounts[index];
    let is_tmpfs = mount.kind.value().is_some_and(|kind| kind == "tmpfs") && !mount.is_bind();
    let mut options = mount.options.items().iter();
    if !is_tmpfs || mount_options::copies_up(mount) || options.any(|option| option.starts_with("mode=")) {
        return None;
    }
    // What an earlier mount brings covers the image's directory first.
    if mounts[..index].iter().any(|other| is_below(mount, other)) {
        return None;
    }
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = nix::fcntl::open(context.rootfs, flags, Mode::empty()).ok()?;
    let directory = gabion_sys::file::find_in_root(root, Path::new(&mount.destination)).ok()?;
    let stat = nix::sys::stat::fstat(directory).ok()?;
    let is_directory = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR;
    is_directory.then_some(stat.st_mode & 0o7777)
}

/// What is refused by name, because libcontainer would ignore it or fail without saying why.
fn refuse_unsupported(config: &Config) -> Result<()> {
    let unsupported = |pointer: String, text: &str| {
        Err(ContainerError::Unsupported {
            pointer,
            text: format!("{text} (docs/libcontainer.md)"),
        })
    };
    for (index, mount) in config.mounts.items().iter().enumerate() {
        let options = mount.options.items();
        if options.iter().any(|option| option == "tmpcopyup") && !mount_options::copies_up(mount) {
            return unsupported(
                format!("/mounts/{index}/options"),
                "\"tmpcopyup\" is an option of a mount of type \"tmpfs\" alone. Remove it",
            );
        }
        if mount_options::is_remount(mount)
            && let Err(text) = mount_options::check_remount(mount)
        {
            return unsupported(format!("/mounts/{index}/options"), &text);
        }
    }
    let Some(linux) = config.linux.value() else {
        return Ok(());
    };
    let propagation = linux.rootfs_propagation.value().map_or("", String::as_str);
    if !matches!(
        propagation,
        "" | "private"
            | "rprivate"
            | "slave"
            | "rslave"
            | "shared"
            | "rshared"
            | "unbindable"
            | "runbindable"
    ) {
        return Err(ContainerError::Unsupported {
            pointer: "/linux/rootfsPropagation".to_owned(),
            text: format!(
                "{propagation:?} is no propagation of mounts: write \"private\", \"slave\", \"shared\" or \
                 \"unbindable\""
            ),
        });
    }
    if let (Some(name), Some(sysctl)) = (config.domainname.value(), linux.sysctl.value())
        && let Some((parameter, other)) = sysctl
            .iter()
            .find(|(parameter, other)| parameter.replace('/', ".") == "kernel.domainname" && *other != name)
    {
        // Both would be written, and only the order in which they happen to be decides.
        return Err(ContainerError::Unsupported {
            pointer: format!("/linux/sysctl/{}", parameter.replace('/', "~1")),
            text: format!("is {other:?}, and the property domainname is {name:?}. Remove one of them"),
        });
    }
    let has_user_namespace = linux.namespaces.items().iter().any(|entry| entry.kind == "user");
    if linux
        .namespaces
        .items()
        .iter()
        .any(|entry| entry.kind == "user" && entry.joins().is_none())
    {
        for (name, ranges) in [
            ("uidMappings", linux.uid_mappings.items()),
            ("gidMappings", linux.gid_mappings.items()),
        ] {
            if !ranges.is_empty() && trees::root_of(ranges).is_none() {
                return unsupported(
                    format!("/linux/{name}"),
                    "nothing is mapped to 0, and a container is built by root of its user namespace. Map an id to 0; \
                     the program need not run as it",
                );
            }
        }
    }
    for (index, device) in linux.devices.items().iter().enumerate() {
        // Judged as it is written, so it must mean what is written whoever resolves it.
        let plain = Path::new(&device.path)
            .components()
            .all(|component| matches!(component, Component::RootDir | Component::Normal(_)));
        if !plain || !device.path.starts_with('/') {
            return Err(ContainerError::Unsupported {
                pointer: format!("/linux/devices/{index}/path"),
                text: format!("{:?} is not absolute and without \"..\"", device.path),
            });
        }
        if has_user_namespace && !is_below_dev(&device.path) {
            return unsupported(
                format!("/linux/devices/{index}/path"),
                "devices outside /dev are not supported in a user namespace, where none can be made. Choose a path \
                 below /dev",
            );
        }
    }
    let flags = linux
        .personality
        .value()
        .and_then(|personality| personality.get("flags"));
    if flags
        .and_then(Value::as_array)
        .is_some_and(|flags| !flags.is_empty())
    {
        return unsupported(
            "/linux/personality/flags".to_owned(),
            "personality flags are not supported. Remove them",
        );
    }
    Ok(())
}

/// True if a mount lies at or below another.
fn is_below(mount: &Mount, other: &Mount) -> bool {
    Path::new("/")
        .join(&mount.destination)
        .starts_with(Path::new("/").join(&other.destination))
}

fn object<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let value = map.entry(key).or_insert(Value::Null);
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made an object just above"),
    }
}

#[cfg(test)]
mod tests {
    use gabion_baseline::Allegation;

    use super::*;

    #[test]
    fn a_network_namespace_is_entered_first_unless_somebody_needs_the_hosts() {
        let network = r#"{"type":"network","path":"/run/netns/x"}"#;
        let user = r#"{"type":"user","path":"/run/userns/x"}"#;
        for (namespaces, linux, rest, expected) in [
            (format!("{user},{network}"), "", "", Some(1)),
            (format!(r#"{network},{{"type":"user"}}"#), "", "", Some(0)),
            (network.to_owned(), "", "", None),
            (format!(r#"{user},{{"type":"network"}}"#), "", "", None),
            (
                format!("{user},{network}"),
                r#","netDevices":{"eth1":{}}"#,
                "",
                None,
            ),
            (
                format!("{user},{network}"),
                "",
                r#","hooks":{"createRuntime":[{"path":"/bin/true"}]}"#,
                None,
            ),
        ] {
            let text =
                format!(r#"{{"ociVersion":"1.3.0","linux":{{"namespaces":[{namespaces}]{linux}}}{rest}}}"#);
            let config = Allegation::parse(text.as_bytes()).unwrap();
            assert_eq!(network_to_enter(config.config(), false), expected, "{text}");
            assert_eq!(network_to_enter(config.config(), true), None, "{text}");
        }
    }
}
