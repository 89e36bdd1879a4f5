#!/usr/bin/env python3
"""The DaemonSet's script on a node: what it makes of one, and that it can be taken back.

    GABION=/path/to/gabion kubernetes/node.py [WORD...]

The node is this host's own file system below an overlay, with a process 1 and a containerd of its own. The script runs
beside it as in its pod: in the image's root (busybox, the two programs, the script) with the node's root at /host and
the node's process ids. The one stand-in is the node's `systemctl`: it writes down what it is asked for, and restarts
containerd as the unit does, processes of containers left alone.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from harness.checks import Failed, Runtime, Suite, contains, equal, run, succeed, until
from images import busybox

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "installer", "install.sh")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROGRAMS = ["gabion", "gabion-restricted", "containerd-shim-gabion-v2", "containerd-shim-gabion-restricted-v2"]
# As a site may have it: what is not gabion's has to stay, comments too.
CONFIG = """# the site's
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  disable_apparmor = true  # no module here
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd-opt"
"""
SYSTEMCTL = """#!/bin/sh
echo "$*" >>/run/systemctl.calls
[ "$*" = "restart containerd" ] || exit 1
if [ -e /run/containerd.pid ]; then
    kill "$(cat /run/containerd.pid)"
    while kill -0 "$(cat /run/containerd.pid)" 2>/dev/null; do sleep 0.1; done
fi
setsid containerd >>/run/containerd.log 2>&1 </dev/null &
echo $! >/run/containerd.pid
for _ in $(seq 300); do
    ctr version >/dev/null 2>&1 && exit 0
    sleep 0.2
done
exit 1
"""
# Process 1: it has the node's root for its own, and reaps.
INIT = """
node=$1
mount --rbind /sys "$node/sys"
mount --rbind /dev "$node/dev"
for place in run tmp var/lib/containerd var/log/gabion etc/gabion etc/containerd; do
    mkdir -p "$node/$place"
    mount -t tmpfs -o mode=0755 tmpfs "$node/$place"
done
cd "$node"
mkdir -p .before
pivot_root . .before
mount -t proc proc /proc
umount -l /.before
trap : TERM
echo ready >/run/ready
while :; do sleep 1000 & wait $!; done
"""
IN_POD = """
mount --rbind "$2" "$1/host"
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
exec chroot "$1" /bin/sh /install.sh "$3"
"""

suite = Suite("node")


class Node:
    """The node, and pods of the DaemonSets on it."""

    def __init__(self, runtime):
        self.shim = os.path.join(os.path.dirname(os.path.realpath(runtime.path)), "containerd-shim-gabion-v2")
        self.directory = tempfile.mkdtemp(prefix="gabion-node-")
        self.runtime = runtime
        self.init = None
        self.pid = None

    def start(self):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", self.directory], check=True)
        for name in ["upper", "work", "root", "image"]:
            os.mkdir(self.path(name))
        subprocess.run(["mount", "-t", "overlay", "-o", f"lowerdir=/,upperdir={self.path('upper')},"
                        f"workdir={self.path('work')}", "overlay", self.path("root")], check=True)
        for name in PROGRAMS:
            if os.path.lexists(self.path("root/usr/local/bin", name)):
                os.remove(self.path("root/usr/local/bin", name))
        os.makedirs(self.path("root/usr/local/sbin"), exist_ok=True)
        write(self.path("root/usr/local/sbin/systemctl"), SYSTEMCTL, 0o755)
        self.init = subprocess.Popen(["unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--propagation",
                                      "private", "sh", "-ec", INIT, "sh", self.path("root")], stdin=subprocess.DEVNULL)
        until(lambda: self.init.poll() is not None or children(self.init.pid), "process 1")
        self.pid = children(self.init.pid)[0]
        until(lambda: self.init.poll() is not None or os.path.exists(f"/proc/{self.pid}/root/run/ready"), "the node")
        write(self.inside("etc/containerd/config.toml"), CONFIG)
        image = self.path("image")
        for name in ["bin", "host", "proc", "dev", "tmp"]:
            os.mkdir(os.path.join(image, name))
        shutil.copy("/bin/busybox", os.path.join(image, "bin", "busybox"))
        succeed("chroot", image, "/bin/busybox", "--install", "-s", "/bin")
        for path in [self.runtime.path, self.shim, SCRIPT]:
            shutil.copy(path, image)
        self.on_node("systemctl", "restart", "containerd")
        archive = self.inside("tmp/image.tar")
        with open(archive, "wb") as file:
            busybox.write(file)
        self.on_node("ctr", "images", "import", "/tmp/image.tar")
        os.remove(self.inside("run/systemctl.calls"))

    def path(self, *names):
        return os.path.join(self.directory, *names)

    def inside(self, path):
        """A path of the node, its own mounts included."""
        return f"/proc/{self.pid}/root/{path}"

    def words(self, *arguments):
        return ["nsenter", "--target", str(self.pid), "--mount", "--pid", "--net", "--uts", "--ipc", "--root", "--wd",
                "env", f"PATH={PATH}", *arguments]

    def on_node(self, *arguments):
        """Runs a command on the node, which has to succeed; what it printed."""
        return succeed(*self.words(*arguments))

    def config(self):
        return read(self.inside("etc/containerd/config.toml"))

    def restarts(self):
        """What systemctl was asked for since the last time."""
        calls = read(self.inside("run/systemctl.calls")).splitlines()
        if calls:
            os.remove(self.inside("run/systemctl.calls"))
        return calls

    def programs(self):
        """gabion's programs on the node, as the installer's /host shows them."""
        return [name for name in PROGRAMS if os.path.lexists(self.path("root/usr/local/bin", name))]

    def pod(self, what):
        """Runs a DaemonSet's pod until it rests or ends: its output, and its exit status or None. One that rests is
        then ended as the kubelet ends it, and has to go at once."""
        log = self.path("log")
        with open(log, "wb") as file:
            process = subprocess.Popen(
                ["nsenter", "--target", str(self.pid), "--pid", "--uts", "unshare", "--mount", "--propagation", "private",
                 "env", "-i", f"PATH={PATH}", "sh", "-ec", IN_POD, "sh", self.path("image"), self.path("root"), what],
                stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        until(lambda: process.poll() is not None or self.resting(), f"the end of {what}", 120)
        status = process.poll()
        if status is None:
            os.kill(self.resting(), signal.SIGTERM)
            equal(process.wait(10), 0, "exit status of a pod that is ended")
        return read(log), status

    @staticmethod
    def resting():
        """The script's process, if it has nothing left to do."""
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            if read(f"/proc/{pid}/cmdline").startswith("/bin/sh\0/install.sh\0"):
                if any(read(f"/proc/{child}/cmdline") == "sleep\x003600\0" for child in children(pid)):
                    return pid
        return None

    def run(self, *arguments, kind="gabion", options=()):
        """Runs a container on the node through a runtime type."""
        name = f"c{time.monotonic_ns()}"
        return run(*self.words("ctr", "run", "--runtime", f"io.containerd.{kind}.v2", *options, busybox.NAME, name, *arguments))

    def end(self):
        if self.init:
            for pid in children(self.init.pid):
                os.kill(pid, signal.SIGKILL)
            self.init.wait(30)
        for place in ["root", ""]:
            subprocess.run(["umount", "--recursive", "--lazy", self.path(place).rstrip("/")], check=False)
        os.rmdir(self.directory)


def read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def write(path, text, mode=0o644):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, mode)


def children(pid):
    return [int(word) for word in read(f"/proc/{pid}/task/{pid}/children").split()]


@suite.check
def a_configuration_that_is_broken_is_left_and_nothing_is_restarted(node):
    broken = CONFIG + "[unfinished\n"
    write(node.inside("etc/containerd/config.toml"), broken)
    output, status = node.pod("install")
    write(node.inside("etc/containerd/config.toml"), CONFIG)
    equal((status, node.restarts()), (1, []), f"{output}; exit status, restarts")
    contains(output, "config.toml")


@suite.check
def the_node_is_configured(node):
    output, status = node.pod("install")
    equal((status, node.restarts()), (None, ["restart containerd"]), f"{output}; exit status, restarts")
    equal(node.programs(), PROGRAMS, "programs")
    found = [os.stat(node.path("root/usr/local/bin", name)) for name in PROGRAMS]
    equal([(stat.st_uid, oct(stat.st_mode)) for stat in found], [(0, "0o100755")] * 4, "owner and mode")
    kept = [line for line in node.config().splitlines() if line in CONFIG.splitlines()]
    equal(kept, CONFIG.splitlines(), f"{node.config()}; the site's lines")
    handlers = node.on_node("containerd", "config", "dump")
    for handler in ["gabion", "gabion-restricted"]:
        contains(handlers, f"containerd.runtimes.{handler}]")
        contains(handlers, f'runtime_type = "io.containerd.{handler}.v2"')
    # containerd, restarted, finds the shim in its PATH, and the shim finds gabion.
    output = node.run("echo", "in")
    equal((output.status, output.out), (0, "in\n"), f"{output}; status, out")
    output = node.run("true", kind="gabion-restricted")
    equal(output.status, 1, "exit status")
    contains(output.err, "profile restricted")


@suite.check
def a_second_time_changes_nothing_and_restarts_nothing(node):
    before = (node.config(), sorted(os.listdir(node.inside("etc/containerd"))), node.programs())
    output, status = node.pod("install")
    equal((status, node.restarts()), (None, []), f"{output}; exit status, restarts")
    equal((node.config(), sorted(os.listdir(node.inside("etc/containerd"))), node.programs()), before, "the node")
    contains(output, "nothing was changed")


@suite.check
def programs_are_replaced_under_a_container_that_runs(node):
    program = os.stat(node.path("root/usr/local/bin/gabion")).st_ino
    node.on_node("ctr", "run", "-d", "--runtime", "io.containerd.gabion.v2", busybox.NAME, "kept", "sleep", "1000")
    output, status = node.pod("install")
    equal((status, node.restarts()), (None, []), f"{output}; exit status, restarts")
    equal(os.stat(node.path("root/usr/local/bin/gabion")).st_ino == program, False, "the same file as before")
    contains(node.on_node("ctr", "task", "exec", "--exec-id", "e1", "kept", "echo", "in"), "in")


@suite.check
def taken_back_under_a_container_that_runs(node):
    output, status = node.pod("uninstall")
    equal((status, node.restarts()), (None, ["restart containerd"]), f"{output}; exit status, restarts")
    equal(node.config(), CONFIG, "the configuration")
    # What ends it has to stay.
    contains(output, "containers of gabion still run on this node")
    equal(node.programs(), PROGRAMS, "programs")
    contains(node.on_node("ctr", "task", "ls"), "RUNNING")
    node.on_node("ctr", "task", "kill", "-s", "SIGKILL", "kept")
    until(lambda: "STOPPED" in node.on_node("ctr", "task", "ls"), "its end")
    node.on_node("ctr", "task", "rm", "kept")


@suite.check
def taken_back_for_good(node):
    output, status = node.pod("uninstall")
    equal((status, node.restarts()), (None, []), f"{output}; exit status, restarts")
    equal((node.config(), node.programs()), (CONFIG, []), "configuration, programs")
    equal(node.run("true").status, 1, "exit status without a shim")
    # And once more, as a pod that is restarted does.
    output, status = node.pod("uninstall")
    equal((status, node.restarts(), node.config()), (None, [], CONFIG), f"{output}; exit status, restarts, configuration")


@suite.check
def a_node_without_a_configuration(node):
    os.remove(node.inside("etc/containerd/config.toml"))
    output, status = node.pod("install")
    equal((status, node.restarts()), (None, ["restart containerd"]), f"{output}; exit status, restarts")
    equal(node.run("echo", "in").out, "in\n", "out")
    contains(node.on_node("containerd", "config", "dump"), "containerd.runtimes.gabion-restricted]")
    output, status = node.pod("uninstall")
    equal((status, node.programs()), (None, []), f"{output}; exit status, programs")
    if "gabion" in node.config():
        raise Failed(f"it is still in the configuration: {node.config()}")


def main():
    if os.environ.get("GABION_NODE_INSIDE") != "yes":
        os.environ["GABION_NODE_INSIDE"] = "yes"
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    node = Node(Runtime())
    try:
        node.start()
        return suite.run(node, sys.argv[1:])
    finally:
        node.end()


if __name__ == "__main__":
    sys.exit(main())
