//! Places of a host that judgement knows by name.
//!
//! On this host they are recognized by device and inode, which is a fact; the names serve for a file that comes
//! from another host, and say what may lie inside.

/// A directory of the host that is not to come into a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Landmark {
    /// Its path.
    pub path: &'static str,
    /// What of its content may be bound in.
    pub inside: Inside,
    /// Why the directory is on the list, and what made the choice for its content.
    pub reason: &'static str,
}

/// What of a sensitive directory's content may be bound into a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inside {
    /// Everything: the directory as a whole is what must not come in.
    Everything,
    /// Everything that the container cannot write to.
    Readonly,
    /// What [`READABLE_IN_ETC`] lists, read-only.
    Listed,
    /// Nothing.
    Nothing,
}

/// The sensitive directories. `/var/run` is `/run` by another name, and listed for hosts where it is not.
pub const SENSITIVE: [Landmark; 23] = [
    at(
        "/",
        Inside::Everything,
        "holds everything; its directories are named one by one below",
    ),
    at(
        "/bin",
        Inside::Readonly,
        "programs that root runs; engines bind single ones read-only, as docker-init",
    ),
    at(
        "/boot",
        Inside::Nothing,
        "kernel, initial ramdisk and their keys: written once, run at the next start",
    ),
    at(
        "/dev",
        Inside::Nothing,
        "disks and kernel memory; a single device is DEV-04's, shared memory is NS-03's",
    ),
    at(
        "/etc",
        Inside::Listed,
        "accounts, keys and what root runs; engines bind hosts and resolv.conf read-only",
    ),
    at(
        "/etc/kubernetes",
        Inside::Nothing,
        "the cluster's keys and the manifests that the kubelet starts",
    ),
    at(
        "/home",
        Inside::Everything,
        "people's keys and login scripts; a project in it is what people work on",
    ),
    at(
        "/lib",
        Inside::Readonly,
        "libraries that every program of the host loads",
    ),
    at(
        "/lib/modules",
        Inside::Readonly,
        "kernel code; reading it is needed to load a module and for little else",
    ),
    at(
        "/lib64",
        Inside::Readonly,
        "libraries that every program of the host loads",
    ),
    at(
        "/proc",
        Inside::Nothing,
        "every process of the host, and the kernel's switches",
    ),
    at("/root", Inside::Nothing, "root's keys and login scripts"),
    at(
        "/run",
        Inside::Everything,
        "sockets and state of all daemons; engines keep sandboxes in it, and the sockets \
                                    are MNT-02's",
    ),
    at("/sbin", Inside::Readonly, "programs that root runs"),
    at(
        "/sys",
        Inside::Nothing,
        "the kernel's devices and switches, and all control groups",
    ),
    at("/usr", Inside::Readonly, "programs and libraries of the host"),
    at(
        "/var/lib/containerd",
        Inside::Nothing,
        "files of all containers; what is this container's is in an engine root",
    ),
    at(
        "/var/lib/containers",
        Inside::Nothing,
        "files of all containers; what is this container's is in an engine root",
    ),
    at(
        "/var/lib/docker",
        Inside::Nothing,
        "files of all containers; what is this container's is in an engine root",
    ),
    at(
        "/var/lib/etcd",
        Inside::Nothing,
        "every object and secret of the cluster",
    ),
    at(
        "/var/lib/kubelet",
        Inside::Nothing,
        "volumes and tokens of all pods; this pod's are in an engine root",
    ),
    at(
        "/var/log",
        Inside::Readonly,
        "a link planted here makes the kubelet's log service read any file of the host",
    ),
    at("/var/run", Inside::Everything, "as /run"),
];

const fn at(path: &'static str, inside: Inside, reason: &'static str) -> Landmark {
    Landmark { path, inside, reason }
}

/// What in /etc everyone on the host may read and programs in containers are given: files, and directories with
/// public certificates.
pub const READABLE_IN_ETC: [&str; 17] = [
    // ctr run --net-host binds these two.
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/hostname",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/protocols",
    "/etc/services",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/os-release",
    "/etc/machine-id",
    // Names of accounts, without passwords.
    "/etc/passwd",
    "/etc/group",
    "/etc/ssl/certs",
    "/etc/ca-certificates",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust",
];

/// Sockets through which whoever can connect commands the host, and what listens there.
/// A `*` stands for one component, at most once in a path.
pub const CONTROL_SOCKETS: [(&str, &str); 21] = [
    ("/run/docker.sock", "the Docker daemon's socket"),
    (
        "/run/docker/containerd/containerd.sock",
        "the socket of Docker's containerd",
    ),
    ("/run/user/*/docker.sock", "a user's Docker daemon's socket"),
    ("/run/cri-dockerd.sock", "cri-dockerd's socket"),
    ("/run/containerd/containerd.sock", "containerd's socket"),
    ("/run/containerd/containerd.sock.ttrpc", "containerd's socket"),
    (
        "/run/k3s/containerd/containerd.sock",
        "the socket of k3s' containerd",
    ),
    ("/run/crio/crio.sock", "CRI-O's socket"),
    ("/run/podman/podman.sock", "podman's socket"),
    ("/run/user/*/podman/podman.sock", "a user's podman socket"),
    ("/run/buildkit/buildkitd.sock", "BuildKit's socket"),
    ("/run/nri/nri.sock", "the NRI socket of the container runtime"),
    (
        "/var/lib/kubelet/device-plugins/kubelet.sock",
        "the kubelet's socket for device plugins",
    ),
    (
        "/var/lib/kubelet/pod-resources/kubelet.sock",
        "the kubelet's socket for pod resources",
    ),
    ("/run/systemd/private", "systemd's private socket"),
    ("/run/systemd/notify", "systemd's notification socket"),
    ("/run/systemd/io.systemd.Manager", "systemd's Varlink socket"),
    ("/run/systemd/journal/socket", "the journal's socket"),
    ("/run/systemd/journal/stdout", "the journal's socket"),
    ("/run/dbus/system_bus_socket", "the system D-Bus socket"),
    ("/run/user/*/bus", "a user's D-Bus socket"),
];

/// File names that say what listens, wherever an administrator put the socket.
pub const CONTROL_SOCKET_NAMES: [(&str, &str); 9] = [
    ("docker.sock", "the Docker daemon's socket"),
    ("cri-dockerd.sock", "cri-dockerd's socket"),
    ("containerd.sock", "containerd's socket"),
    ("containerd.sock.ttrpc", "containerd's socket"),
    ("crio.sock", "CRI-O's socket"),
    ("podman.sock", "podman's socket"),
    ("buildkitd.sock", "BuildKit's socket"),
    ("nri.sock", "the NRI socket of the container runtime"),
    ("system_bus_socket", "the system D-Bus socket"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_landmark_is_there_once_with_a_reason() {
        for (index, landmark) in SENSITIVE.iter().enumerate() {
            assert!(
                landmark.path.starts_with('/') && landmark.reason.len() > 4,
                "{landmark:?}"
            );
            assert!(
                SENSITIVE[..index].iter().all(|other| other.path < landmark.path),
                "{landmark:?}"
            );
        }
        for path in READABLE_IN_ETC {
            assert!(path.starts_with("/etc/"), "{path}");
        }
    }
}
