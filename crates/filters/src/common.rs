//! What engines and gabion itself ask for on ordinary hosts: read by the build script, which makes their filters, and
//! by the tests, which hold them against the profiles that engines send.

/// What engines send for a container that asks for nothing else, by the engine's version.
pub(crate) const ENGINES_PROFILES: [(&str, &str); 7] = [
    (
        "docker-20.10",
        include_str!("../../seccomp/profiles/docker-20.10.json"),
    ),
    (
        "docker-26.1",
        include_str!("../../seccomp/profiles/docker-26.1.json"),
    ),
    (
        "containerd-1.6-cri",
        include_str!("../../seccomp/profiles/containerd-1.6-cri.json"),
    ),
    (
        "containerd-2-kubernetes",
        include_str!("../../seccomp/profiles/containerd-2-kubernetes.json"),
    ),
    (
        "podman-4.3",
        include_str!("../../seccomp/profiles/podman-4.3.json"),
    ),
    (
        "podman-5.4",
        include_str!("../../seccomp/profiles/podman-5.4.json"),
    ),
    ("buildah", include_str!("../../seccomp/profiles/buildah.json")),
];

/// Capabilities of ordinary containers that the default profile looks at: it is built in for each choice of these.
pub(crate) const COMMON_CAPABILITIES: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_NET_RAW", "CAP_SYS_CHROOT"];

/// Each choice of them, as a bounding set.
pub(crate) fn common_bounding_sets() -> Vec<Vec<String>> {
    let choices = 0_u32..1 << COMMON_CAPABILITIES.len();
    choices
        .map(|choice| {
            let has = |(bit, name): (usize, &&str)| (choice >> bit & 1 == 1).then(|| (*name).to_owned());
            COMMON_CAPABILITIES.iter().enumerate().filter_map(has).collect()
        })
        .collect()
}

/// The families that all of them let through.
const FAMILIES: [&str; 12] = [
    "AF_ALG",
    "AF_VSOCK",
    "AF_RXRPC",
    "AF_KEY",
    "AF_TIPC",
    "AF_CAN",
    "AF_SMC",
    "AF_QIPCRTR",
    "AF_XDP",
    "AF_BLUETOOTH",
    "AF_OTHER",
    "netlink",
];

/// What profiles let through besides, under `baseline` and what `restricted` adds: those of Docker 26 and containerd 2,
/// those of Docker 20 and containerd 1, and those of podman.
const ENGINES: [(&[&str], &[&str]); 3] = [
    (
        &["terminal-input"],
        &[
            "debugging",
            "vmsplice",
            "futex-requeue-pi",
            "memfd_secret",
            "file-handles",
            "segments",
        ],
    ),
    (
        &["io_uring", "terminal-input"],
        &[
            "debugging",
            "vmsplice",
            "futex-requeue-pi",
            "memfd_secret",
            "segments",
        ],
    ),
    (
        &["keyring", "nested", "administration", "terminal-input"],
        &[
            "debugging",
            "futex-requeue-pi",
            "memfd_secret",
            "file-handles",
            "segments",
        ],
    ),
];

/// What the default profile lets through of the floor under `restricted`.
const DEFAULT: &[&str] = &[
    "debugging",
    "vmsplice",
    "futex-requeue-pi",
    "memfd_secret",
    "file-handles",
];

/// The floors that are built in, as entries.
pub(crate) fn common_floors() -> Vec<Vec<String>> {
    let owned = |names: &[&[&str]]| names.concat().iter().map(|name| (*name).to_owned()).collect();
    let mut floors = vec![owned(&[DEFAULT])];
    for (baseline, restricted) in ENGINES {
        floors.push(owned(&[&FAMILIES, baseline]));
        floors.push(owned(&[&FAMILIES, baseline, restricted]));
        floors.push(owned(&[&FAMILIES, baseline, restricted, &["compatibility"]]));
    }
    floors
}
