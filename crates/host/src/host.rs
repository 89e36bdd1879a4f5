//! How the host as a whole is set up: kernel parameters, and modules that the kernel loads by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use gabion_baseline::facts::{Fact, HostFact, ModuleState};
use gabion_baseline::rules::host::{MODULES, parameter_names};

use crate::text::{read, read_if_there};

/// The largest of these files that is read, in bytes: modules.dep of a distribution's kernel is below 1 MiB.
const LIMIT: usize = 8 * 1024 * 1024;

/// Where modprobe(8) is configured, the directories that modprobe.d(5) names.
const CONFIGURATION: [&str; 5] = [
    "/etc/modprobe.d",
    "/run/modprobe.d",
    "/usr/local/lib/modprobe.d",
    "/usr/lib/modprobe.d",
    "/lib/modprobe.d",
];

/// Asks the host about itself.
pub(crate) fn collect() -> Fact<HostFact> {
    match ask() {
        Ok(fact) => Fact::Known(fact),
        Err(why) => Fact::Unknown(why),
    }
}

fn ask() -> Result<HostFact, String> {
    let mut parameters = BTreeMap::new();
    for name in parameter_names() {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        match read_if_there(&path, 256) {
            Ok(Some(text)) => drop(parameters.insert(name.to_owned(), text.trim().to_owned())),
            Ok(None) => {}
            Err(error) => return Err(format!("{path}: {error}")),
        }
    }
    let told = |path: &str| read_if_there(path, LIMIT).map_err(|error| format!("{path}: {error}"));
    // A kernel without modules has no such file.
    let loaded = told("/proc/modules")?.unwrap_or_default();
    let disabled = told("/proc/sys/kernel/modules_disabled")?.is_some_and(|text| text.trim() == "1");
    let release = read("/proc/sys/kernel/osrelease", 256).map_err(|error| format!("osrelease: {error}"))?;
    let directory = format!("/lib/modules/{}", release.trim());
    // No directory for this kernel: there is nothing that could be loaded.
    let there = told(&format!("{directory}/modules.dep"))?.unwrap_or_default();
    Ok(HostFact {
        parameters,
        modules: states(
            &loaded,
            disabled,
            &there,
            &blocked(&CONFIGURATION.map(Path::new))?,
        ),
    })
}

fn states(
    loaded: &str,
    disabled: bool,
    there: &str,
    blocked: &BTreeSet<String>,
) -> BTreeMap<String, ModuleState> {
    let loaded: BTreeSet<&str> = loaded.lines().filter_map(|line| line.split(' ').next()).collect();
    let there: BTreeSet<String> = there
        .lines()
        .filter_map(|line| line.split(':').next()?.rsplit('/').next()?.split(".ko").next())
        .map(plain)
        .collect();
    let state = |name: &str| {
        if loaded.contains(name) {
            Some(ModuleState::Loaded)
        } else if there.contains(name) && !disabled && !blocked.contains(name) {
            Some(ModuleState::Loadable)
        } else {
            None
        }
    };
    MODULES
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), state(name)?)))
        .collect()
}

/// The modules that are not loaded on demand: `install NAME /bin/false`, or a blacklist. The latter keeps the kernel
/// from loading a module by an alias, which is how it asks for those of a socket.
fn blocked(directories: &[&Path]) -> Result<BTreeSet<String>, String> {
    let mut blocked = BTreeSet::new();
    for directory in directories {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(format!("{directory:?}: {error}")),
        };
        for entry in entries {
            let path = entry.map_err(|error| format!("{directory:?}: {error}"))?.path();
            if path.extension().is_none_or(|extension| extension != "conf") {
                continue;
            }
            let text = fs::read_to_string(&path).map_err(|error| format!("{path:?}: {error}"))?;
            for line in text.lines() {
                let words: Vec<&str> = line.split_whitespace().collect();
                match words[..] {
                    ["blacklist", name, ..] => drop(blocked.insert(plain(name))),
                    ["install", name, command, ..]
                        if ["false", "true"].contains(&command.rsplit('/').next().unwrap_or_default()) =>
                    {
                        blocked.insert(plain(name));
                    }
                    _ => {}
                }
            }
        }
    }
    Ok(blocked)
}

/// Modules are named with dashes in files and underscores in the kernel.
fn plain(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_loaded_loadable_or_neither() {
        let there = "kernel/crypto/algif_aead.ko.xz: kernel/crypto/af_alg.ko.xz\nkernel/net/rxrpc/rxrpc.ko:\nkernel/net/n-hdlc.ko.zst:\n";
        let blocked: BTreeSet<String> = ["rxrpc".to_owned()].into();
        let states = |disabled| states("vsock 1 0 - Live 0x0\n", disabled, there, &blocked);
        assert_eq!(
            states(false),
            [
                ("algif_aead".to_owned(), ModuleState::Loadable),
                ("n_hdlc".to_owned(), ModuleState::Loadable),
                ("vsock".to_owned(), ModuleState::Loaded),
            ]
            .into()
        );
        assert_eq!(states(true), [("vsock".to_owned(), ModuleState::Loaded)].into());
    }

    #[test]
    fn what_modprobe_is_told_not_to_load_is_blocked() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(
            directory.path().join("a.conf"),
            "# install esp4 /bin/false\nblacklist n-hdlc\ninstall rxrpc /usr/bin/false\ninstall sctp /sbin/modprobe x\n",
        )
        .unwrap();
        fs::write(directory.path().join("b.txt"), "blacklist esp6\n").unwrap();
        let expected: BTreeSet<String> = ["n_hdlc".to_owned(), "rxrpc".to_owned()].into();
        assert_eq!(blocked(&[directory.path(), Path::new("/none")]), Ok(expected));
    }

    #[test]
    fn this_host_is_known() {
        let Fact::Known(host) = collect() else {
            panic!("{:?}", collect())
        };
        assert!(host.parameters.contains_key("kernel.kptr_restrict"), "{host:?}");
    }
}
