//! Id mappings: user namespaces made for their mapping, and mounts whose owners are mapped.
//!
//! libcontainer writes a mapping of several ranges only with the help of newuidmap(1), which a host of root's has no
//! need of, and does not map the owners of mounts at all. Both need a user namespace with a given mapping: it is
//! made here, by a child that enters a new one and waits until the mapping was written and the namespace is held.

use std::fs::{self, File};
use std::os::fd::OwnedFd;

use gabion_baseline::config::{Config, IdMapping, Mount};
use gabion_sys::process;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::waitpid;
use nix::unistd::{pipe2, read, write};

use crate::error::{ContainerError, Result};
use crate::rootless;

/// True if the owners of a mount's files are to be mapped.
pub(crate) fn is_mapped(mount: &Mount) -> bool {
    let options = mount.options.items();
    !mount.uid_mappings.items().is_empty()
        || !mount.gid_mappings.items().is_empty()
        || options
            .iter()
            .any(|option| option == "idmap" || option == "ridmap")
}

/// The container's new user namespace, where libcontainer could not write its mapping alone.
///
/// # Errors
/// If the kernel refuses the mapping: the ranges overlap, or are not the caller's to give.
pub(crate) fn user_namespace(config: &Config) -> Result<Option<OwnedFd>> {
    let Some(linux) = config.linux.value() else {
        return Ok(None);
    };
    let is_new = linux
        .namespaces
        .items()
        .iter()
        .any(|entry| entry.kind == "user" && entry.joins().is_none());
    let (uids, gids) = (linux.uid_mappings.items(), linux.gid_mappings.items());
    // Without root the builder itself has to be in it.
    let is_root = nix::unistd::geteuid().is_root();
    if !is_new || (is_root && uids.len() <= 1 && gids.len() <= 1) {
        return Ok(None);
    }
    make(uids, gids, "/linux").map(Some)
}

/// The user namespace whose mapping a mount gets: its own, or with `idmap` alone the container's.
pub(crate) fn mapping(
    config: &Config,
    held: &gabion_host::Held,
    index: usize,
    entry: &Mount,
) -> Result<OwnedFd> {
    let pointer = format!("/mounts/{index}");
    let unsupported = |text: &str| {
        Err(ContainerError::Unsupported {
            pointer: pointer.clone(),
            text: text.to_owned(),
        })
    };
    let (uids, gids) = (entry.uid_mappings.items(), entry.gid_mappings.items());
    match (uids.is_empty(), gids.is_empty()) {
        (false, false) => return make(uids, gids, &pointer),
        (true, true) => {}
        _ => {
            return unsupported(
                "has only one of uidMappings and gidMappings. Write both, or neither for the container's own",
            );
        }
    }
    let Some(linux) = config.linux.value() else {
        return unsupported("asks for \"idmap\" without a mapping. Add uidMappings and gidMappings");
    };
    let user = linux
        .namespaces
        .items()
        .iter()
        .position(|entry| entry.kind == "user");
    if let Some(joined) = user.and_then(|index| held.namespaces.get(index).and_then(Option::as_ref)) {
        return joined
            .try_clone()
            .map_err(ContainerError::file("cannot keep", "the user namespace"));
    }
    let (uids, gids) = (linux.uid_mappings.items(), linux.gid_mappings.items());
    if user.is_none() || uids.is_empty() || gids.is_empty() {
        return unsupported(
            "asks for \"idmap\" without a mapping, and the container has none either. Add uidMappings and \
             gidMappings",
        );
    }
    make(uids, gids, "/linux")
}

/// A user namespace with this mapping, and nobody in it.
fn make(uids: &[IdMapping], gids: &[IdMapping], pointer: &str) -> Result<OwnedFd> {
    let (said, say) = pipe2(OFlag::O_CLOEXEC).map_err(ContainerError::call("pipe2()"))?;
    let child = gabion_sys::fork::fork(|| {
        // It stays until it is killed; if the caller is killed first, so is this process. Set after entering, which
        // may clear it.
        let entered = unshare(CloneFlags::CLONE_NEWUSER)
            .and_then(|()| nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL))
            .and_then(|()| write(&say, b"e"));
        if entered.is_err() {
            return 1;
        }
        loop {
            nix::unistd::pause();
        }
    })
    .map_err(|error| ContainerError::Build(error.to_string()))?;
    drop(say);
    let outcome = (|| {
        if read(&said, &mut [0]) != Ok(1) {
            return Err(ContainerError::Build(
                "no new user namespace: unshare(CLONE_NEWUSER) was refused".to_owned(),
            ));
        }
        let is_root = nix::unistd::geteuid().is_root();
        if !is_root {
            rootless::write_mappings(child, [uids, gids].map(|ranges| (ranges, text(ranges))), pointer)?;
        }
        let lists = [("uid_map", uids, "uidMappings"), ("gid_map", gids, "gidMappings")];
        for (file, ranges, property) in lists.into_iter().filter(|_| is_root) {
            let path = format!("/proc/{child}/{file}");
            fs::write(&path, text(ranges)).map_err(|error| ContainerError::Unsupported {
                pointer: format!("{pointer}/{property}"),
                text: format!(
                    "the kernel refuses this mapping: {error}. Its ranges must not overlap, and be the runtime's own"
                ),
            })?;
        }
        let path = format!("/proc/{child}/ns/user");
        File::open(&path)
            .map(OwnedFd::from)
            .map_err(ContainerError::file("cannot open", path))
    })();
    let ended = process::open(child).and_then(|process| process::signal(process, nix::libc::SIGKILL));
    waitpid(child, None).map_err(ContainerError::call(format!("waitpid({child})")))?;
    ended?;
    outcome
}

/// One line for each range: the first id inside, the first outside, how many (user_namespaces(7)).
fn text(ranges: &[IdMapping]) -> String {
    let line = |range: &IdMapping| format!("{} {} {}\n", range.container_id, range.host_id, range.size);
    ranges.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use gabion_baseline::Allegation;

    use super::*;

    fn config(text: &str) -> Config {
        let text = format!(r#"{{"ociVersion":"1.0.2",{text}}}"#);
        Allegation::parse(text.as_bytes()).unwrap().config().clone()
    }

    #[test]
    fn ranges_are_written_as_the_kernel_reads_them() {
        let ranges = [
            IdMapping {
                container_id: 0,
                host_id: 100_000,
                size: 1000,
            },
            IdMapping {
                container_id: 1000,
                host_id: 5000,
                size: 1,
            },
        ];
        assert_eq!(text(&ranges), "0 100000 1000\n1000 5000 1\n");
    }

    #[test]
    fn only_a_mapping_that_takes_a_second_program_is_written_here() {
        let one = r#"[{"containerID":0,"hostID":100000,"size":65536}]"#;
        for text in [
            r#""linux":{}"#.to_owned(),
            format!(
                r#""linux":{{"namespaces":[{{"type":"user"}}],"uidMappings":{one},"gidMappings":{one}}}"#
            ),
            format!(
                r#""linux":{{"namespaces":[{{"type":"user","path":"/proc/1/ns/user"}}],"uidMappings":{one}}}"#
            ),
        ] {
            assert!(user_namespace(&config(&text)).unwrap().is_none(), "{text}");
        }
    }
}
