"""A place for daemons that leaves the host as it was.

The suite runs in a mount namespace of its own: /run, /var/log/gabion and the other places that engines write to are
tmpfs there and end with it, so that the daemons may have their usual paths (rules know those) beside others that run
on the host. Its root is a shared mount, as on a host with systemd. The network namespace is another one on request.

With `GABION_SYSTEMD` in the environment the host's systemd makes the containers' cgroups.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from harness.checks import Failed

INSIDE = "GABION_ENGINES_INSIDE"
CGROUPS = "/sys/fs/cgroup"

# Where engines, shims and gabion write however they are configured, and where a site's own configuration would
# change what is tested.
PLACES = ["/run", "/etc/containerd", "/etc/containers", "/etc/docker", "/etc/gabion", "/opt/containerd",
          "/var/lib/cni", "/var/lib/containers", "/var/lib/docker", "/var/lib/kubelet", "/var/log/gabion"]
# What goes on beside a container for as long as it runs.
KEEPERS = ("shim", "conmon")
MADE = []
# Where systemd and its bus are talked to.
TALKED_TO = ["/run/systemd", "/run/dbus"]
SYSTEMD = "GABION_SYSTEMD" in os.environ


def enter(network):
    """Runs this program again in namespaces of its own, unless that has happened; does not return then."""
    if os.environ.get(INSIDE) == "yes":
        prepare()
        return
    if os.geteuid() != 0:
        sys.exit("engines are started as root")
    flags = ["--mount", "--propagation", "slave"] + (["--net"] if network else [])
    os.environ[INSIDE] = "yes"
    os.execvp("unshare", ["unshare", *flags, sys.executable, *sys.argv])


def prepare():
    # An interrupted suite ends its daemons too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    mount("--make-rshared", "/")
    kept = tempfile.mkdtemp(prefix="gabion-run-")
    mount("--rbind", "/run", kept)
    # What is mounted over /run is not to be seen there.
    mount("--make-rprivate", kept)
    for place in PLACES:
        if not os.path.isdir(place):
            os.mkdir(place)
            MADE.append(place)
        mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", place)
    os.mkdir("/run/lock")
    for place in TALKED_TO if SYSTEMD else []:
        os.mkdir(place)
        mount("--rbind", kept + place.removeprefix("/run"), place)
    subprocess.run(["umount", "-l", kept], check=True)
    os.rmdir(kept)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


@contextlib.contextmanager
def second_version_hidden():
    """Shows cgroups of version 1 alone in the mount namespace of this program: crun refuses a host with both. What it
    then takes for a cgroup of version 2 is a directory, and goes with the cover."""
    both = os.path.join(CGROUPS, "unified")
    covered = os.path.ismount(both)
    if covered:
        mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", both)
    try:
        yield
    finally:
        if covered:
            subprocess.run(["umount", "--lazy", both], check=True)


def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)


class Host:
    """What the suite made on the host, and that it is gone afterwards."""

    def __init__(self, cgroup_parent, inner_parents=(), container_cgroups=("",)):
        """Containers are below one cgroup, or below `inner_parents` in it; runtimes make parents that are missing,
        and leave them to the others in there. A container's cgroup begins with one of `container_cgroups`; others
        are the engine's own."""
        self.directory = tempfile.mkdtemp(prefix="gabion-engines-")
        # Without a dash: podman looks for a slice's cgroup by its name alone, and systemd makes parents of the dashes.
        slice_name = cgroup_parent.replace("-", "") + ".slice"
        # What engines take as the parent, and where that is.
        self.parent_option = slice_name if SYSTEMD else "/" + cgroup_parent
        self.cgroup_parent = slice_name if SYSTEMD else cgroup_parent
        self.inner_parents = inner_parents
        self.container_cgroups = container_cgroups
        self.daemons = []

    def path(self, *names):
        """A path below the suite's own directory."""
        return os.path.join(self.directory, *names)

    def daemon(self, name, arguments, ready, seconds=60):
        """Starts a daemon and waits until it answers. Its output is kept in the directory."""
        log = open(self.path(name + ".log"), "wb")
        process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self.daemons.append(process)
        end = time.monotonic() + seconds
        while not ready():
            if process.poll() is not None or time.monotonic() > end:
                with open(self.path(name + ".log"), encoding="utf-8", errors="replace") as file:
                    sys.exit(f"{name} did not start: {file.read()[-3000:]}")
            time.sleep(0.1)
        return process

    def group(self, name, prefix, bare=False):
        """Where a container's cgroup is. systemd's scopes have the engine's prefix; others only where not `bare`."""
        if SYSTEMD:
            return f"{self.cgroup_parent}/{prefix}-{name}.scope"
        return f"{self.cgroup_parent}/{name}" if bare else f"{self.cgroup_parent}/{prefix}-{name}"

    def cgroups(self):
        """The cgroups below the suite's parent, in every hierarchy."""
        found = []
        for top in [CGROUPS, *(os.path.join(CGROUPS, name) for name in sorted(os.listdir(CGROUPS)))]:
            parent = os.path.join(top, self.cgroup_parent)
            for directory, names, _ in os.walk(parent):
                found.extend(os.path.join(directory, name) for name in names)
        return found

    def processes(self):
        """Programs that run in the suite's mount namespace, but for itself and the daemons: shims and conmon."""
        ours, found = os.readlink("/proc/self/ns/mnt"), []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.readlink(f"/proc/{name}/ns/mnt") != ours:
                    continue
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    line = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:
                continue  # it has ended, or is the kernel's
            if line and any(keeper in line.split(" ")[0] for keeper in KEEPERS):
                found.append((int(name), line))
        return found

    def mounts(self, part):
        """Mount points with a part of a path in them."""
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            return [line.split(" ")[4] for line in file if part in line.split(" ")[4]]

    def expect_nothing_left(self, state_directories, mount_parts):
        """Fails if a container left a cgroup, a shim, a mount, or state of its runtime."""
        inner = tuple(f"/{self.cgroup_parent}/{name}" for name in self.inner_parents)
        left = {
            "cgroups": [path for path in self.cgroups()
                        if os.path.basename(path).startswith(self.container_cgroups) and not path.endswith(inner)],
            "shims": [line for _, line in self.processes()],
            "mounts": [path for part in mount_parts for path in self.mounts(part)],
            "state": [os.path.join(directory, name) for directory in state_directories if os.path.isdir(directory)
                      for name in os.listdir(directory)
                      if not name.startswith(".") and name not in ("~filters", "~watchers")],
        }
        left = {what: items for what, items in left.items() if items}
        if left:
            raise Failed(f"left behind: {left}")

    def end(self):
        """Ends the daemons and what they started, and removes what is left."""
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(30)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for pid, _ in self.processes():
            os.kill(pid, signal.SIGKILL)
        for directory in sorted(self.cgroups(), key=len, reverse=True):
            end_cgroup(directory)
        if SYSTEMD:
            subprocess.run(["systemctl", "stop", self.parent_option], check=False)
        for top in [CGROUPS, *(os.path.join(CGROUPS, name) for name in os.listdir(CGROUPS))]:
            parent = os.path.join(top, self.cgroup_parent)
            if os.path.isdir(parent) and not SYSTEMD:
                os.rmdir(parent)
        for path in sorted(self.mounts(self.directory), key=len, reverse=True):
            subprocess.run(["umount", "-l", path], check=False, capture_output=True)
        for place in PLACES:
            while place in self.mounts(place):
                subprocess.run(["umount", "-R", "-l", place], check=True)
        shutil.rmtree(self.directory)
        for place in MADE:
            os.rmdir(place)


def end_cgroup(directory):
    """Ends the processes of a cgroup that was left behind, and removes it."""
    for _ in range(100):
        try:
            with open(os.path.join(directory, "cgroup.procs"), encoding="utf-8") as file:
                for pid in file.read().split():
                    os.kill(int(pid), signal.SIGKILL)
            os.rmdir(directory)
            return
        except FileNotFoundError:
            return
        except (OSError, ProcessLookupError):
            time.sleep(0.05)


def cgroup_value(controller, path, name, unified_name):
    """A limit as the kernel has it, of cgroup version 1 or 2."""
    for file in [f"{CGROUPS}/{controller}/{path}/{name}", f"{CGROUPS}/{path}/{unified_name}"]:
        if os.path.exists(file):
            with open(file, encoding="utf-8") as text:
                return text.read().strip()
    raise Failed(f"no cgroup {path!r} with a {name} or {unified_name}")
