//! How gabion is to be called: what containerd's configuration says of a runtime handler.
//!
//! Two messages carry it. A handler that is configured for runc's shim, and `ctr --runc-binary`, send runc's
//! options. For any other runtime containerd sends a file's path, or (1.7 and later) the handler's `options` table
//! as TOML; both have the keys of [`Table`].

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use containerd_shim_protos::protobuf::{CodedInputStream, Message, well_known_types::any::Any};
use containerd_shim_protos::shim::oci;
use serde::{Deserialize, Serialize};

/// Where containers' state is kept unless the configuration says otherwise; a directory for each namespace.
const ROOT: &str = "/run/containerd/gabion";

/// The name under which the shim keeps the options in a bundle, for `delete` after a crash.
pub(crate) const FILE: &str = "gabion-shim.json";

/// The keys of `options` in containerd's configuration, or of the file that `ConfigPath` names. runc's have runc's
/// names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
#[allow(non_snake_case)]
pub(crate) struct Table {
    /// The runtime's program [default: gabion beside the shim].
    BinaryName: String,
    /// The state directory, to which the namespace is added.
    Root: String,
    /// Let systemd make cgroups [default: if the container's cgroup is written as systemd's].
    SystemdCgroup: Option<bool>,
    NoPivotRoot: bool,
    NoNewKeyring: bool,
    /// Owner and group of the pipes of standard streams.
    IoUid: u32,
    IoGid: u32,
    /// A cgroup for the shim itself, such as `/system.slice/shims`.
    ShimCgroup: String,
    /// The profile by which gabion judges: privileged, baseline or restricted.
    Profile: String,
    /// The policy instead of /etc/gabion/policy.toml.
    Policy: String,
    /// Accepted from configurations that were made for runc; gabion looks for criu itself.
    CriuPath: String,
    CriuImagePath: String,
    CriuWorkPath: String,
    /// containerd's own, accepted and not used.
    TypeUrl: String,
    ConfigPath: String,
}

/// The options of one container.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Options {
    pub(crate) program: PathBuf,
    /// The state directory, with the namespace.
    pub(crate) root: PathBuf,
    /// Before a container is known, nothing may have been said of it.
    pub(crate) systemd_cgroup: Option<bool>,
    pub(crate) no_pivot: bool,
    pub(crate) no_new_keyring: bool,
    pub(crate) io_owner: Option<(u32, u32)>,
    pub(crate) shim_cgroup: Option<String>,
    pub(crate) profile: Option<String>,
    pub(crate) policy: Option<PathBuf>,
}

impl Options {
    /// Reads what containerd sent with a container, if anything.
    ///
    /// # Errors
    /// A sentence, if it is of an unknown kind, or has unknown keys: an option that is not understood may be one
    /// that protects.
    pub(crate) fn new(any: Option<&Any>, namespace: &str, called: &OsStr) -> Result<Self, String> {
        let table = match any {
            Some(any) if !any.value.is_empty() => table(any)?,
            _ => Table::default(),
        };
        Ok(Options::of(table, namespace, called))
    }

    fn of(table: Table, namespace: &str, called: &OsStr) -> Self {
        let some = |text: String| (!text.is_empty()).then_some(text);
        let program = some(table.BinaryName).map_or_else(beside, PathBuf::from);
        let root = some(table.Root).unwrap_or_else(|| ROOT.to_owned());
        Options {
            program,
            root: Path::new(&root).join(namespace),
            systemd_cgroup: table.SystemdCgroup,
            no_pivot: table.NoPivotRoot,
            no_new_keyring: table.NoNewKeyring,
            io_owner: (table.IoUid != 0 || table.IoGid != 0).then_some((table.IoUid, table.IoGid)),
            shim_cgroup: some(table.ShimCgroup),
            profile: some(table.Profile).or_else(|| profile_of_name(called)),
            policy: some(table.Policy).map(PathBuf::from),
        }
    }

    /// Settles who makes a container's cgroup. Docker tells it to runc's shim alone, and containerd before 1.7 cannot tell
    /// it in a table; but the form of the path says it, `slice:prefix:name`, which an engine writes for systemd only.
    pub(crate) fn settle_cgroup(&mut self, config: Option<&serde_json::Value>) {
        let path = config.and_then(|config| config["linux"]["cgroupsPath"].as_str());
        let parts: Vec<&str> = path.unwrap_or_default().split(':').collect();
        let is_unit = matches!(parts[..], [slice, _, _] if slice.ends_with(".slice"));
        self.systemd_cgroup.get_or_insert(is_unit);
    }

    /// The words before the runtime's command.
    pub(crate) fn globals(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["--root".into(), self.root.clone().into()];
        if self.systemd_cgroup == Some(true) {
            words.push("--systemd-cgroup".into());
        }
        if let Some(profile) = &self.profile {
            words.extend(["--profile".into(), profile.into()]);
        }
        if let Some(policy) = &self.policy {
            words.extend(["--policy".into(), policy.into()]);
        }
        words
    }

    /// Keeps the options in a bundle.
    pub(crate) fn save(&self, bundle: &Path) -> Result<(), String> {
        let path = bundle.join(FILE);
        let text = serde_json::to_vec(self).map_err(|error| format!("cannot encode {path:?}: {error}"))?;
        std::fs::write(&path, text).map_err(|error| format!("cannot write {path:?}: {error}"))
    }

    /// The options that a bundle's container was made with.
    pub(crate) fn saved(bundle: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(bundle.join(FILE)).ok()?).ok()
    }
}

fn table(any: &Any) -> Result<Table, String> {
    // With or without a host before the message's name.
    match any.type_url.rsplit('/').next().unwrap_or_default() {
        "containerd.runc.v1.Options" => runc(&any.value),
        "runtimeoptions.v1.Options" | "cri.runtimeoptions.v1.Options" => generic(&any.value),
        "containerd.linux.runc.CreateOptions" | "containerd.linux.runc.RuncOptions" => Ok(Table::default()),
        other => Err(format!(
            "options of the kind {other:?} are not understood; containerd.runc.v1.Options and \
             runtimeoptions.v1.Options are"
        )),
    }
}

fn runc(bytes: &[u8]) -> Result<Table, String> {
    let options = oci::Options::parse_from_bytes(bytes)
        .map_err(|error| format!("runc's options cannot be read: {error}"))?;
    Ok(Table {
        BinaryName: options.binary_name,
        Root: options.root,
        // A message cannot tell "no" from nothing.
        SystemdCgroup: options.systemd_cgroup.then_some(true),
        NoPivotRoot: options.no_pivot_root,
        NoNewKeyring: options.no_new_keyring,
        IoUid: options.io_uid,
        IoGid: options.io_gid,
        ShimCgroup: options.shim_cgroup,
        ..Table::default()
    })
}

/// `runtimeoptions.v1.Options`: 1 type_url, 2 config_path, 3 config_body.
fn generic(bytes: &[u8]) -> Result<Table, String> {
    let wrong = |error| format!("runtimeoptions.v1.Options cannot be read: {error}");
    let (mut path, mut body) = (String::new(), Vec::new());
    let mut stream = CodedInputStream::from_bytes(bytes);
    while let Some(tag) = stream.read_raw_tag_or_eof().map_err(wrong)? {
        match tag {
            18 => path = stream.read_string().map_err(wrong)?,
            26 => body = stream.read_bytes().map_err(wrong)?,
            other => {
                containerd_shim_protos::protobuf::rt::skip_field_for_tag(other, &mut stream)
                    .map_err(wrong)?;
            }
        }
    }
    let (name, text) = if path.is_empty() {
        let text = String::from_utf8(body).map_err(|_| "the handler's options are not UTF-8".to_owned())?;
        ("the handler's options".to_owned(), text)
    } else {
        let path = Path::new(&path);
        trusted(path)?;
        let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {path:?}: {error}"))?;
        (format!("{path:?}"), text)
    };
    toml::from_str(&text).map_err(|error| format!("{name}: {}", error.to_string().trim().replace('\n', " ")))
}

/// Whoever may write the file chooses the program that runs as root.
fn trusted(path: &Path) -> Result<(), String> {
    let found = std::fs::metadata(path).map_err(|error| format!("cannot read {path:?}: {error}"))?;
    if found.uid() != 0 || found.mode() & 0o022 != 0 {
        return Err(format!(
            "{path:?} is not used: it has to belong to root and be writable by nobody else (it has owner {}, mode \
             {:o})",
            found.uid(),
            found.mode() & 0o7777
        ));
    }
    Ok(())
}

/// gabion as it is installed: in the shim's own directory; else by PATH.
fn beside() -> PathBuf {
    std::env::current_exe()
        .ok()
        .and_then(|shim| Some(shim.parent()?.join("gabion")))
        .filter(|program| program.exists())
        .unwrap_or_else(|| PathBuf::from("gabion"))
}

/// A handler's `runtime_type` can choose the profile: `io.containerd.gabion-restricted.v2` is the program
/// containerd-shim-gabion-restricted-v2, a link to this one.
fn profile_of_name(called: &OsStr) -> Option<String> {
    let name = Path::new(called).file_name()?.to_str()?;
    let profile = name
        .strip_prefix("containerd-shim-gabion-")?
        .strip_suffix("-v2")?;
    Some(profile.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIM: &str = "/usr/local/bin/containerd-shim-gabion-v2";

    fn of(kind: &str, value: Vec<u8>) -> Result<Options, String> {
        let any = Any {
            type_url: kind.to_owned(),
            value,
            ..Any::default()
        };
        Options::new(Some(&any), "k8s.io", OsStr::new(SHIM))
    }

    fn field(number: u8, text: &str) -> Vec<u8> {
        [&[number << 3 | 2, text.len() as u8], text.as_bytes()].concat()
    }

    #[test]
    fn nothing_is_gabion_with_its_own_root() {
        let options = Options::new(None, "moby", OsStr::new(SHIM)).unwrap();
        assert_eq!(options.root, PathBuf::from("/run/containerd/gabion/moby"));
        assert!(options.program.ends_with("gabion"));
        assert_eq!(options.globals(), ["--root", "/run/containerd/gabion/moby"]);
    }

    #[test]
    fn runcs_options_are_understood() {
        let mut runc = oci::Options::new();
        runc.binary_name = "/usr/bin/gabion".to_owned();
        runc.root = "/run/x".to_owned();
        runc.systemd_cgroup = true;
        runc.io_uid = 7;
        let options = of("containerd.runc.v1.Options", runc.write_to_bytes().unwrap()).unwrap();
        assert_eq!(options.program, PathBuf::from("/usr/bin/gabion"));
        assert_eq!(options.globals(), ["--root", "/run/x/k8s.io", "--systemd-cgroup"]);
        assert_eq!(options.io_owner, Some((7, 0)));
    }

    #[test]
    fn the_handlers_table_chooses_profile_and_policy() {
        let body = "Profile = \"restricted\"\nPolicy = \"/etc/gabion/pods.toml\"\nSystemdCgroup = true\n";
        let options = of(
            "runtimeoptions.v1.Options",
            [field(1, "x"), field(3, body)].concat(),
        )
        .unwrap();
        assert_eq!(
            options.globals()[2..],
            [
                "--systemd-cgroup",
                "--profile",
                "restricted",
                "--policy",
                "/etc/gabion/pods.toml"
            ]
        );
    }

    #[test]
    fn who_makes_the_cgroup_is_told_by_its_path_unless_an_option_says_it() {
        let settled = |body: &str, path: &str| {
            let mut options = of("runtimeoptions.v1.Options", field(3, body)).unwrap();
            options.settle_cgroup(Some(&serde_json::json!({"linux": {"cgroupsPath": path}})));
            options.globals().contains(&"--systemd-cgroup".into())
        };
        for (path, expected) in [
            ("system.slice:docker:ab", true),
            ("kubepods-pod1.slice:cri-containerd:ab", true),
            ("/docker/ab", false),
            ("a:b:c", false),
            ("/system.slice/docker-ab.scope", false),
            ("", false),
        ] {
            assert_eq!(settled("", path), expected, "{path:?}");
        }
        assert!(settled("SystemdCgroup = true\n", "/docker/ab"));
        assert!(!settled("SystemdCgroup = false\n", "system.slice:docker:ab"));
        let mut options = Options::new(None, "n", OsStr::new(SHIM)).unwrap();
        options.settle_cgroup(None);
        assert_eq!(options.systemd_cgroup, Some(false));
    }

    #[test]
    fn an_option_that_is_not_understood_is_an_error() {
        let error = of("runtimeoptions.v1.Options", field(3, "Profil = \"restricted\"\n")).unwrap_err();
        assert!(error.starts_with("the handler's options: "), "{error}");
        assert!(error.contains("unknown field `Profil`"), "{error}");
        let error = of("example.Options", vec![1]).unwrap_err();
        assert!(
            error.starts_with("options of the kind \"example.Options\" are not understood"),
            "{error}"
        );
    }

    #[test]
    fn a_file_that_others_may_write_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shim.toml");
        std::fs::write(&path, "Profile = \"privileged\"\n").unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        let error = of("runtimeoptions.v1.Options", field(2, path.to_str().unwrap())).unwrap_err();
        assert!(error.contains("is not used: it has to belong to root"), "{error}");
    }

    #[test]
    fn the_programs_name_chooses_the_profile() {
        let called = |name: &str| Options::new(None, "n", OsStr::new(name)).unwrap().profile;
        assert_eq!(called(SHIM), None);
        assert_eq!(
            called("/usr/local/bin/containerd-shim-gabion-restricted-v2"),
            Some("restricted".to_owned())
        );
    }

    #[test]
    fn what_was_saved_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let options = Options::new(None, "n", OsStr::new(SHIM)).unwrap();
        assert_eq!(Options::saved(directory.path()), None);
        options.save(directory.path()).unwrap();
        assert_eq!(Options::saved(directory.path()), Some(options));
    }
}
