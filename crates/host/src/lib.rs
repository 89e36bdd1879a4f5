//! Facts: what this kernel, this host, and the paths of a bundle really are.
//!
//! Judgement is a pure function and opens nothing; what it has to know of the host is collected here, as the
//! plain values of [`gabion_baseline::facts`]. Called by whoever judges a bundle, once for each. It promises:
//!
//! - nothing is changed, and no file that a bundle names is opened for more than looking at it;
//! - what cannot be found out is [`Fact::Unknown`] with the reason, never a guess;
//! - what was looked at is held open in [`Held`], so that what is used later can be what was judged.
//!
//! It does not decide whether anything is allowed.
#![forbid(unsafe_code)]

pub mod bundle;
mod caller;
pub mod cgroup;
mod descriptors;
mod destinations;
mod entrypoint;
mod hooks;
mod host;
mod kernel;
mod listener;
mod lsm;
mod mounts;
pub mod namespaces;
mod overlay;
pub mod owner;
pub mod passwd;
mod program;
pub mod rootfs;
mod runtime;
mod sensitive;
mod sockets;
#[cfg(test)]
mod testing;
mod text;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use gabion_baseline::Config;
use gabion_baseline::facts::{DestinationFact, Fact, FactKind, Facts, Flag};

pub use bundle::{BundleError, BundleFile};
pub use caller::engine_by_bundle;
pub use rootfs::Live;

use crate::destinations::Destinations;
use crate::mounts::Sources;
use crate::rootfs::NoRootfs;
use crate::sensitive::Landmarks;
use crate::walk::{Found, Walker};

/// What the caller knows and this crate cannot find out.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// The other containers of this runtime that are alive.
    pub live: Live,
    /// The policy's directories that engines manage for containers; a `*` stands for one path component.
    pub engine_roots: Vec<String>,
    /// The files that the policy was read from, and those it would be read from if they existed.
    pub policy_files: Vec<PathBuf>,
    /// The runtime's own files and directories that exist: state, ledger, policy. Nothing of a container's may be,
    /// contain or lie in them.
    pub own_files: Vec<PathBuf>,
    /// How the running program is protected from being written through /proc/\<pid\>/exe, if it is.
    pub sealed: Option<String>,
    /// Where the runtime's binary is installed, if the running program is a sealed copy of it.
    pub binary: Option<PathBuf>,
    /// The `linux.cgroupsPath` that is used where the bundle names none.
    pub default_cgroups_path: Option<String>,
    /// What the caller asked for on the command line that makes the container weaker.
    pub flags: Vec<Flag>,
    /// The bundle's directory, if there is one, for telling the engine by it.
    pub bundle: Option<PathBuf>,
    /// The calling process is an engine's, so that it has to look like one. Otherwise somebody asks what would be.
    pub called: bool,
}

/// Descriptors of what was looked at.
///
/// A path that was judged may lead elsewhere a moment later. While a descriptor is held, its file keeps its device
/// and inode number, so comparing those is enough to notice.
#[derive(Debug, Default)]
#[must_use]
pub struct Held {
    /// One element for each of `linux.namespaces`: the namespace to join with setns(2), open for reading.
    pub namespaces: Vec<Option<OwnedFd>>,
    /// One element for each of `mounts`: what a bind mount's source led to, opened with `O_PATH`.
    pub sources: Vec<Option<OwnedFd>>,
    /// One element for each of `mounts`: where its destination led to in the container, after links.
    pub destinations: Vec<Option<PathBuf>>,
    /// The root directory, opened with `O_PATH`.
    pub rootfs: Option<OwnedFd>,
}

/// The facts, and what was held while they were collected.
#[derive(Debug)]
#[must_use]
pub struct Collected {
    /// For judgement.
    pub facts: Facts,
    /// For whoever builds the container.
    pub held: Held,
}

/// Collects the wanted facts about a configuration on this host. `bundle` is the bundle's directory, absolute.
pub fn collect(config: &Config, bundle: &Path, wanted: &BTreeSet<FactKind>, context: &Context) -> Collected {
    let mut facts = unknown(config, "not collected");
    facts.flags = context.flags.clone();
    let mut held = Held::default();
    let wants = |kind| wanted.contains(&kind);

    if wants(FactKind::Descriptors) {
        facts.descriptors = descriptors::collect();
    }
    if wants(FactKind::Kernel) {
        facts.kernel = kernel::collect();
    }
    if wants(FactKind::Lsm) {
        facts.lsm = lsm::collect();
    }
    if wants(FactKind::Cgroup) {
        let linux = config.linux.value();
        let path = linux
            .and_then(|linux| linux.cgroups_path.value())
            .filter(|path| !path.is_empty());
        facts.cgroup = cgroup::collect(path.or(context.default_cgroups_path.as_ref()).map(String::as_str));
    }
    if wants(FactKind::Namespaces) {
        let entries = config
            .linux
            .value()
            .map_or(&[][..], |linux| linux.namespaces.items());
        (facts.namespaces, held.namespaces) = entries.iter().map(namespaces::look).unzip();
        facts.namespace_owners = entries
            .iter()
            .zip(&held.namespaces)
            .map(|(entry, judged)| namespaces::owner(entry, judged.as_ref()))
            .collect();
    }

    if wants(FactKind::Caller) {
        facts.caller = Fact::Known(caller::look(config, context.bundle.as_deref(), context.called));
    }
    if wants(FactKind::Host) {
        facts.host = host::collect();
    }

    let mut walker = Walker::default();
    if wants(FactKind::Runtime) {
        facts.runtime = runtime::look(
            &mut walker,
            context.sealed.as_deref(),
            context.binary.as_deref(),
            &context.policy_files,
            &context.own_files,
        );
    }
    if wants(FactKind::Listener) {
        facts.listener = listener::look(&mut walker, config);
    }
    if [
        FactKind::Mounts,
        FactKind::Rootfs,
        FactKind::Hooks,
        FactKind::Entrypoint,
        FactKind::Program,
    ]
    .into_iter()
    .any(wants)
    {
        let rootfs = rootfs::find(&mut walker, config, bundle);
        let landmarks = landmarks(&mut walker, config, wanted, &context.own_files);
        if wants(FactKind::Rootfs) {
            facts.rootfs = rootfs::look(&mut walker, &landmarks, &rootfs, &context.live);
            facts.rootfs_mount = rootfs::mount(&rootfs);
        }
        // What a path leads to once all mounts are there.
        let mut view = None;
        if wants(FactKind::Mounts) || wants(FactKind::Entrypoint) {
            let mut sources = Sources::new(bundle, &context.engine_roots);
            let looked = config
                .mounts
                .items()
                .iter()
                .map(|mount| sources.look(&mut walker, &landmarks, mount));
            (facts.mount_sources, held.sources) = looked.unzip();
            (facts.mount_destinations, view) = destinations(config, &rootfs, &held.sources);
            let inside = |fact: &Fact<DestinationFact>| match fact.known()? {
                DestinationFact::Inside(path) | DestinationFact::LinkOut { inside: path, .. } => {
                    Some(path.clone())
                }
                DestinationFact::Broken(_) => None,
            };
            held.destinations = facts.mount_destinations.iter().map(inside).collect();
        }
        if wants(FactKind::Entrypoint) {
            facts.entrypoint = entrypoint::look(config, &rootfs, view.as_ref());
        }
        if wants(FactKind::Program) {
            facts.program = program::look(config, &rootfs);
        }
        if wants(FactKind::Hooks) {
            facts.hooks = hooks(&mut walker, config, &rootfs);
        }
        held.rootfs = rootfs
            .ok()
            .and_then(|found| found.node().descriptor.try_clone().ok());
    }
    Collected { facts, held }
}

/// The facts about a file that comes from another host: nothing is known of that one, and nothing of this one
/// would be true there.
#[must_use]
pub fn offline(config: &Config) -> Facts {
    unknown(config, "the file comes from another host")
}

/// Facts with elements for all that the configuration has, none of them known.
fn unknown(config: &Config, why: &str) -> Facts {
    fn none<T>(why: &str) -> Fact<T> {
        Fact::Unknown(why.to_owned())
    }
    let mounts = config.mounts.items().len();
    let namespaces = config
        .linux
        .value()
        .map_or(0, |linux| linux.namespaces.items().len());
    let hooks = points(config).map(|(point, hooks)| {
        (
            point.to_owned(),
            std::iter::repeat_with(|| none(why)).take(hooks.len()).collect(),
        )
    });
    Facts {
        namespaces: std::iter::repeat_with(|| none(why)).take(namespaces).collect(),
        lsm: none(why),
        cgroup: none(why),
        kernel: none(why),
        mount_sources: std::iter::repeat_with(|| none(why)).take(mounts).collect(),
        mount_destinations: std::iter::repeat_with(|| none(why)).take(mounts).collect(),
        rootfs: none(why),
        hooks: hooks.collect(),
        runtime: none(why),
        descriptors: none(why),
        program: none(why),
        listener: none(why),
        flags: Vec::new(),
        namespace_owners: std::iter::repeat_with(|| none(why)).take(namespaces).collect(),
        rootfs_mount: none(why),
        entrypoint: none(why),
        host: none(why),
        caller: none(why),
    }
}

/// The sensitive directories, looked for only if there is something to compare with them.
fn landmarks(
    walker: &mut Walker,
    config: &Config,
    wanted: &BTreeSet<FactKind>,
    own: &[PathBuf],
) -> Result<Landmarks, String> {
    let binds = || {
        config
            .mounts
            .items()
            .iter()
            .any(gabion_baseline::config::Mount::is_bind)
    };
    if wanted.contains(&FactKind::Rootfs) || (wanted.contains(&FactKind::Mounts) && binds()) {
        Landmarks::find(walker, own)
    } else {
        Err("not collected".to_owned())
    }
}

/// `sources` are what the sources of the mounts led to, as [`Held::sources`].
fn destinations<'a>(
    config: &Config,
    rootfs: &'a Result<Found, NoRootfs>,
    sources: &'a [Option<OwnedFd>],
) -> (Vec<Fact<DestinationFact>>, Option<Destinations<'a>>) {
    let mounts = config.mounts.items().iter();
    match rootfs {
        Ok(found) => {
            let mut destinations = Destinations::new(found.node());
            let sources = sources.iter().map(|source| source.as_ref().map(AsFd::as_fd));
            let facts = mounts
                .zip(sources)
                .map(|(mount, source)| destinations.look(mount, source))
                .collect();
            (facts, Some(destinations))
        }
        Err(none) => {
            let why = || format!("no rootfs: {}", none.why());
            (mounts.map(|_| Fact::Unknown(why())).collect(), None)
        }
    }
}

fn hooks(
    walker: &mut Walker,
    config: &Config,
    rootfs: &Result<Found, NoRootfs>,
) -> BTreeMap<String, Vec<Fact<gabion_baseline::facts::HookFact>>> {
    let rootfs = rootfs.as_ref().map_err(NoRootfs::why);
    points(config)
        .map(|(point, list)| {
            let facts = list
                .iter()
                .map(|hook| hooks::look(walker, rootfs, config, point, hook))
                .collect();
            (point.to_owned(), facts)
        })
        .collect()
}

/// The hook points at which the configuration has hooks.
fn points(config: &Config) -> impl Iterator<Item = (&'static str, &[gabion_baseline::config::Hook])> {
    config
        .hooks
        .value()
        .into_iter()
        .flat_map(|hooks| hooks.points())
        .filter(|(_, hooks)| !hooks.is_empty())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use gabion_baseline::facts::{NamespaceFact, RootfsFact};

    use super::*;
    use crate::testing::config;

    const CONFIG: &str = r#"{
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/data", "type": "bind", "source": "data", "options": ["rbind"]},
            {"destination": "/gone", "type": "bind", "source": "gone", "options": ["bind"]}
        ],
        "hooks": {"prestart": [{"path": "/proc/self/exe"}, {"path": "relative"}], "poststop": []},
        "linux": {
            "cgroupsPath": "/gabion-no-such-cgroup/x",
            "namespaces": [{"type": "pid"}, {"type": "network", "path": "/proc/self/ns/net"}]
        }
    }"#;

    const ALL: [FactKind; 10] = [
        FactKind::Program,
        FactKind::Namespaces,
        FactKind::Lsm,
        FactKind::Cgroup,
        FactKind::Kernel,
        FactKind::Mounts,
        FactKind::Rootfs,
        FactKind::Hooks,
        FactKind::Runtime,
        FactKind::Descriptors,
    ];

    fn bundle() -> tempfile::TempDir {
        let bundle = tempfile::tempdir().unwrap();
        fs::create_dir_all(bundle.path().join("rootfs/proc")).unwrap();
        fs::create_dir(bundle.path().join("data")).unwrap();
        bundle
    }

    #[test]
    fn every_list_has_an_element_for_each_entry_of_the_configuration() {
        let bundle = bundle();
        let config = config(CONFIG);
        let Collected { facts, held } =
            collect(&config, bundle.path(), &BTreeSet::from(ALL), &Context::default());
        assert_eq!(facts.namespaces[0], Fact::Known(NamespaceFact::New));
        assert!(matches!(
            facts.namespaces[1],
            Fact::Known(NamespaceFact::Existing { .. })
        ));
        assert_eq!(
            held.namespaces.iter().map(Option::is_some).collect::<Vec<_>>(),
            [false, true]
        );
        assert_eq!(facts.mount_sources[0], Fact::Known(None));
        assert!(matches!(facts.mount_sources[1], Fact::Known(Some(_))));
        assert!(matches!(facts.mount_sources[2], Fact::Unknown(_)));
        assert_eq!(
            held.sources.iter().map(Option::is_some).collect::<Vec<_>>(),
            [false, true, false]
        );
        let inside = |path: &str| Fact::Known(DestinationFact::Inside(path.into()));
        assert_eq!(
            facts.mount_destinations,
            [inside("/proc"), inside("/data"), inside("/gone")]
        );
        assert!(matches!(facts.rootfs, Fact::Known(RootfsFact::Directory { .. })));
        assert!(held.rootfs.is_some());
        assert_eq!(facts.hooks.keys().collect::<Vec<_>>(), ["prestart"]);
        assert_eq!(facts.hooks["prestart"].len(), 2);
        assert_eq!(facts.cgroup.known().unwrap().occupied, None);
        assert!(facts.kernel.known().is_some());
        assert!(facts.lsm.known().is_some());
        assert!(facts.runtime.known().is_some());
        assert!(facts.descriptors.known().is_some());
    }

    #[test]
    fn what_is_not_wanted_is_not_collected_and_offline_nothing_is() {
        let bundle = bundle();
        let config = config(CONFIG);
        let none = collect(&config, bundle.path(), &BTreeSet::new(), &Context::default());
        for (facts, reason) in [
            (none.facts, "not collected"),
            (offline(&config), "the file comes from another host"),
        ] {
            let why = || reason.to_owned();
            assert_eq!(facts.namespaces, [Fact::Unknown(why()), Fact::Unknown(why())]);
            assert_eq!(facts.mount_sources, vec![Fact::Unknown(why()); 3]);
            assert_eq!(facts.mount_destinations, vec![Fact::Unknown(why()); 3]);
            assert_eq!(facts.hooks["prestart"], vec![Fact::Unknown(why()); 2]);
            assert_eq!(facts.lsm, Fact::Unknown(why()));
            assert_eq!(facts.cgroup, Fact::Unknown(why()));
            assert_eq!(facts.kernel, Fact::Unknown(why()));
            assert_eq!(facts.rootfs, Fact::Unknown(why()));
            assert_eq!(facts.runtime, Fact::Unknown(why()));
            assert_eq!(facts.descriptors, Fact::Unknown(why()));
        }
        assert!(
            none.held.namespaces.is_empty() && none.held.sources.is_empty() && none.held.rootfs.is_none()
        );
    }

    #[test]
    fn without_a_rootfs_the_destinations_are_unknown_and_the_sources_are_not() {
        let bundle = bundle();
        fs::remove_dir_all(bundle.path().join("rootfs")).unwrap();
        let config = config(CONFIG);
        let Collected { facts, held } =
            collect(&config, bundle.path(), &BTreeSet::from(ALL), &Context::default());
        let rootfs = bundle.path().canonicalize().unwrap().join("rootfs");
        assert_eq!(
            facts.rootfs,
            Fact::Known(RootfsFact::Missing(format!("{rootfs:?} does not exist")))
        );
        assert_eq!(
            facts.mount_destinations[0],
            Fact::Unknown(format!("no rootfs: {rootfs:?} does not exist"))
        );
        assert!(matches!(facts.mount_sources[1], Fact::Known(Some(_))));
        assert!(held.rootfs.is_none());
    }

    /// What is refused of a bundle with these mounts, whose image has a link /data to `target`, and whose directory
    /// `volume` has a link x to it.
    fn refused(target: &str, mounts: &serde_json::Value) -> Vec<String> {
        use gabion_baseline::{Allegation, Judgement, Operation, Policy, Profile, judge};
        use std::os::unix::fs::symlink;

        let bundle = tempfile::tempdir().unwrap();
        let at = |name: &str| bundle.path().join(name);
        for directory in [
            "rootfs/proc",
            "rootfs/sys",
            "rootfs/dev",
            "rootfs/run",
            "rootfs/var",
            "volume/plain",
        ] {
            fs::create_dir_all(at(directory)).unwrap();
        }
        symlink("/run", at("rootfs/var/run")).unwrap();
        symlink(target, at("rootfs/data")).unwrap();
        symlink("../data", at("rootfs/var/chain")).unwrap();
        symlink(target, at("volume/x")).unwrap();
        let mut list = vec![
            serde_json::json!({"destination": "/proc", "type": "proc", "options": ["nosuid", "noexec", "nodev"]}),
            serde_json::json!({"destination": "/dev", "type": "tmpfs"}),
        ];
        list.extend(mounts.as_array().unwrap().iter().cloned());
        let document = serde_json::json!({
            "ociVersion": "1.2.0", "process": {"cwd": "/"}, "root": {"path": "rootfs"}, "mounts": list,
        });
        let allegation = Allegation::from_document(document).unwrap();
        let wanted = BTreeSet::from([FactKind::Mounts, FactKind::Cgroup, FactKind::Namespaces]);
        let collected = collect(allegation.config(), bundle.path(), &wanted, &Context::default());
        let policy = Policy::builtin(Profile::Baseline, |_| serde_json::json!({}));
        let operation = Operation::Create {
            id: "web-1".to_owned(),
        };
        let Judgement::Refused(refusal) = judge(&allegation, &collected.facts, &policy, &operation).unwrap()
        else {
            panic!("a bundle without namespaces is admitted")
        };
        refusal
            .denials()
            .filter(|finding| ["MNT-06", "MNT-07", "MNT-08", "MNT-09", "MNT-11"].contains(&finding.rule_id()))
            .map(|finding| format!("{} {}", finding.rule_id(), finding.pointer))
            .collect()
    }

    #[test]
    fn a_link_does_not_hide_that_a_mount_goes_over_a_kernel_file_system() {
        let tmpfs = |place: &str| serde_json::json!({"destination": place, "type": "tmpfs"});
        let bind = |place: &str| serde_json::json!({"destination": place, "type": "bind", "source": "volume", "options": ["rbind"]});
        for (target, rule) in [
            ("/proc", "MNT-06 /mounts/2/type"),
            ("/proc/sys", "MNT-06 /mounts/2/destination"),
            ("../../proc", "MNT-06 /mounts/2/type"),
            ("/sys", "MNT-07 /mounts/2/type"),
            ("/dev", ""),
            ("/", "MNT-11 /mounts/2/destination"),
            ("/run", ""),
        ] {
            let expected: Vec<&str> = [rule].into_iter().filter(|rule| !rule.is_empty()).collect();
            for place in ["/data", "/var/chain"] {
                assert_eq!(
                    refused(target, &serde_json::json!([tmpfs(place)])),
                    expected,
                    "{place} to {target}"
                );
            }
        }
        for (target, rule) in [
            ("/proc", "MNT-06 /mounts/2/type"),
            ("/sys", "MNT-07 /mounts/2/options"),
            ("/sys/fs/cgroup", "MNT-08 /mounts/2/options"),
            ("/dev", "MNT-09 /mounts/2/type"),
        ] {
            assert_eq!(
                refused(target, &serde_json::json!([bind("/data")])),
                [rule],
                "a volume on {target}"
            );
        }
        // A new one at the right place, though written by another name.
        assert_eq!(
            refused(
                "/run",
                &serde_json::json!([tmpfs("/var/run"), tmpfs("/var/run/lock")])
            ),
            [""; 0]
        );
    }

    #[test]
    fn a_link_in_a_volume_does_not_hide_where_the_next_mount_goes() {
        let volume = serde_json::json!(
            {"destination": "/a", "type": "bind", "source": "volume", "options": ["rbind"]}
        );
        let tmpfs = |place: &str| serde_json::json!({"destination": place, "type": "tmpfs"});
        for (target, place, rule) in [
            ("/proc", "/a/x", "MNT-06 /mounts/3/type"),
            ("../../../proc", "/a/x/self", "MNT-06 /mounts/3/destination"),
            ("../sys", "/a/x", "MNT-07 /mounts/3/type"),
            ("/", "/a/x", "MNT-11 /mounts/3/destination"),
            ("/run", "/a/x", ""),
            ("/proc", "/a/plain", ""),
            ("/proc", "/a/new", ""),
        ] {
            let expected: Vec<&str> = [rule].into_iter().filter(|rule| !rule.is_empty()).collect();
            let mounts = serde_json::json!([volume, tmpfs(place)]);
            assert_eq!(refused(target, &mounts), expected, "{place} to {target}");
        }
        let overlay =
            serde_json::json!({"destination": "/a", "type": "overlay", "options": ["lowerdir=/x:/y"]});
        assert_eq!(
            refused("/run", &serde_json::json!([overlay, tmpfs("/a/x")])),
            ["MNT-11 /mounts/3/destination"]
        );
    }

    #[test]
    fn nothing_that_was_opened_survives_execve() {
        let bundle = bundle();
        let collected = collect(
            &config(CONFIG),
            bundle.path(),
            &BTreeSet::from(ALL),
            &Context::default(),
        );
        assert_eq!(collected.held.sources.iter().flatten().count(), 1);
        for descriptor in collected
            .held
            .namespaces
            .iter()
            .chain(&collected.held.sources)
            .flatten()
        {
            use std::os::fd::AsRawFd;
            assert!(!gabion_sys::file::survives_exec(descriptor.as_raw_fd()).unwrap());
        }
    }
}
