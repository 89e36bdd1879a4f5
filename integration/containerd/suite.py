#!/usr/bin/env python3
"""containerd with ctr: what a person types, and what has to come of it.

    GABION=/path/to/gabion containerd/suite.py [WORD...]

A word chooses the checks with it in their names. `RUNTIME=runc` runs the control, see harness/checks.py.
`SHIM=/path/to/containerd-shim-gabion-v2` makes the same checks through gabion's own shim, which lies beside gabion, and
then those of shim.py; without it, containerd's shim for runc calls the runtime by `--runc-binary`.
"""

import concurrent.futures
import json
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from harness.checks import Failed, Runtime, Skip, Suite, contains, equal, has_apparmor, in_terminal, run, succeed, until
from harness.host import CGROUPS, SYSTEMD, Host, cgroup_value, enter
from harness.learning import Learning
from harness.site import decisions, expect_audit, expect_shown, expect_waived, policy, waiver
from images import busybox

NAMESPACE = "gabion-ctr"
SOCKET = "/run/containerd/containerd.sock"

suite = Suite("containerd")


class Containerd:
    """A containerd of our own, and ctr calls to it."""

    def __init__(self, runtime):
        self.runtime = runtime
        self.host = Host(NAMESPACE)
        self.count = 0
        self.shim = os.environ.get("SHIM") or None
        self.daemon = None

    def start(self):
        config = self.host.path("config.toml")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f"""version = 2
root = "{self.host.path('root')}"
state = "/run/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs"]
[plugins."io.containerd.internal.v1.opt"]
  path = "{self.host.path('opt')}"
[grpc]
  address = "{SOCKET}"
""")
        if self.shim:
            # containerd finds shims in its PATH.
            os.mkdir(self.host.path("bin"))
            os.symlink(self.shim, self.host.path("bin", "containerd-shim-gabion-v2"))
            os.symlink(self.shim, self.host.path("bin", "containerd-shim-gabion-restricted-v2"))
            os.environ["PATH"] = f"{self.host.path('bin')}:{os.environ['PATH']}"
            with open(self.host.path("systemd.toml"), "w", encoding="utf-8") as file:
                file.write("SystemdCgroup = true\n")
            # Where containerd unpacks checkpoints, and leaves them.
            os.environ["XDG_RUNTIME_DIR"] = self.host.directory
        self.start_daemon()
        image = self.host.path("image.tar")
        with open(image, "wb") as file:
            busybox.write(file)
        self.ctr("images", "import", image)

    def start_daemon(self):
        """Starts containerd, the first time or again."""
        arguments = ["containerd", "-c", self.host.path("config.toml")]
        self.daemon = self.host.daemon("containerd", arguments, lambda: run("ctr", "version").status == 0)

    def ctr(self, *arguments, **options):
        """Calls ctr, which has to succeed; what it printed."""
        return succeed("ctr", "-n", NAMESPACE, *arguments, **options)

    def name(self):
        """A new container id."""
        self.count += 1
        return f"c{self.count}"

    def words(self, *arguments, options=(), name=None, runtime=None):
        """The words of `ctr run` for a command in the image."""
        name = name or self.name()
        if "--runtime-config-path" not in options:
            options = [*options, *self.cgroups(name)]
        return ["ctr", "-n", NAMESPACE, "run", *self.choice(runtime), *options, busybox.NAME, name, *arguments]

    def cgroups(self, name):
        """The words by which systemd makes the cgroup, if it is to. gabion's own shim is told in its options."""
        if not SYSTEMD:
            return []
        how = ["--runtime-config-path", self.host.path("systemd.toml")] if self.shim else ["--runc-systemd-cgroup"]
        return [*how, "--cgroup", f"{self.host.parent_option}:ctr:{name}"]

    def choice(self, runtime=None):
        """The words that choose the runtime: a program for runc's shim, or the name of our own."""
        if self.shim:
            return ["--runtime", runtime or "io.containerd.gabion.v2"]
        return ["--runc-binary", runtime or self.runtime.path]

    def run(self, *arguments, options=(), name=None, runtime=None, **rest):
        """Runs a container to its end."""
        return run(*self.words(*arguments, options=["--rm", *options], name=name, runtime=runtime), **rest)

    def shell(self, script, options=(), **rest):
        """Runs a shell in a container that has to end with 0; what it printed."""
        output = self.run("sh", "-c", script, options=options, **rest)
        if output.status != 0:
            raise Failed(str(output))
        return output.out.rstrip("\n")

    def detach(self, *arguments, options=()):
        """Starts a container that goes on; its id."""
        name = self.name()
        succeed(*self.words(*arguments, options=["-d", *options], name=name))
        return name

    def status(self, name):
        """The status in `task ls`, None if there is no such task."""
        for line in self.ctr("task", "ls").splitlines()[1:]:
            if line.split()[0] == name:
                return line.split()[2]
        return None

    def remove_killed(self, name):
        """Kills and removes a container."""
        self.ctr("task", "kill", "-a", "-s", "SIGKILL", name)
        until(lambda: self.status(name) == "STOPPED", f"the end of {name}")
        self.ctr("task", "rm", name)
        self.ctr("container", "rm", name)

    def refused(self, rule, options, place):
        """A container with these options is refused: ctr's user reads the rule and the place, and nothing is left.
        On the control the same container runs."""
        name = self.name()
        output = self.run("true", options=options, name=name)
        if not self.runtime.is_gabion:
            equal(output.status, 0, f"the control has {output}; exit status")
            return
        equal(output.status, 1, f"{output}; exit status")
        contains(output.err, f"gabion refused {name}: ")
        contains(output.err, rule)
        contains(output.err, place)
        equal(self.status(name), None, "task")
        equal([line for line in self.ctr("container", "ls", "-q").splitlines() if line == name], [], "containers")
        last = decisions(name)
        equal([line["verdict"] for line in last], ["refused"], "verdicts in the ledger")
        self.nothing_left()

    def nothing_left(self):
        """Waits for shims to end, and fails if anything stays."""
        until(lambda: not self.host.processes(), "the end of the shims")
        self.host.expect_nothing_left([f"/run/containerd/runc/{NAMESPACE}", f"/run/containerd/gabion/{NAMESPACE}"],
                                      [f"/run/containerd/io.containerd.runtime.v2.task/{NAMESPACE}"])

    def gabion_only(self):
        if not self.runtime.is_gabion:
            raise Skip("a promise of gabion alone")


@suite.check
def the_default_apparmor_profile_confines(ctr):
    if not has_apparmor():
        raise Skip("no AppArmor here")
    name = "gabion-test.apparmor.d"
    label = ctr.shell("cat /proc/self/attr/apparmor/current", options=["--apparmor-default-profile", name])
    equal(label, f"{name} (enforce)", "label")


@suite.check
def output_and_exit_status_0(ctr):
    output = ctr.run("sh", "-c", "echo out; echo err >&2")
    equal((output.status, output.out, output.err), (0, "out\n", "err\n"), "status, out, err")


@suite.check
def exit_status_42(ctr):
    equal(ctr.run("sh", "-c", "exit 42").status, 42, "exit status")


@suite.check
def killed_is_137(ctr):
    name = ctr.name()
    process = subprocess.Popen(ctr.words("sleep", "1000", options=["--rm"], name=name), stdin=subprocess.DEVNULL)
    until(lambda: ctr.status(name) == "RUNNING", f"{name} running")
    ctr.ctr("task", "kill", "-s", "SIGKILL", name)
    equal(process.wait(20), 137, "exit status")


@suite.check
def standard_input_reaches_the_container(ctr):
    # ctr does not pass on the end of its own input, so the container must not wait for one.
    equal(ctr.run("sh", "-c", "read a; read b; echo $b $a", stdin="one\ntwo\n").out, "two one\n", "out")


@suite.check
def a_detached_task_is_listed_killed_and_deleted(ctr):
    name = ctr.detach("sleep", "1000")
    equal(ctr.status(name), "RUNNING", "status")
    ctr.ctr("task", "kill", "-s", "SIGKILL", name)
    until(lambda: ctr.status(name) == "STOPPED", f"the end of {name}")
    ctr.ctr("task", "rm", name)
    ctr.ctr("container", "rm", name)
    ctr.nothing_left()


@suite.check
def sigterm_can_be_handled(ctr):
    name = ctr.name()
    script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done"
    process = subprocess.Popen(ctr.words("sh", "-c", script, options=["--rm"], name=name), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE)
    equal(process.stdout.readline(), b"ready\n", "out")
    ctr.ctr("task", "kill", "-s", "SIGTERM", name)
    equal(process.wait(20), 7, "exit status")
    process.stdout.close()


@suite.check
def kill_all_ends_children_too(ctr):
    name = ctr.detach("sh", "-c", "sleep 1000 & sleep 1000 & wait")
    ctr.remove_killed(name)
    ctr.nothing_left()


@suite.check
def read_only_root(ctr):
    output = ctr.run("touch", "/new", options=["--read-only"])
    equal(output.status, 1, "exit status")
    contains(output.err, "Read-only file system")


@suite.check
def a_writable_root_is_the_containers_own(ctr):
    equal(ctr.shell("echo x >/new && cat /new"), "x")
    equal(ctr.run("cat", "/new").status, 1, "exit status of the next container")


@suite.check
def user_and_group(ctr):
    if "--user" not in succeed("ctr", "run", "--help"):
        raise Skip("this ctr has no --user")
    equal(ctr.shell("id -u; id -g", options=["--user", "1000:1000"]), "1000\n1000")


@suite.check
def environment_and_working_directory(ctr):
    equal(ctr.shell("echo $A; pwd", options=["--env", "A=b c", "--cwd", "/home/app"]), "b c\n/home/app")


@suite.check
def bind_mounts_read_only_and_writable(ctr):
    directory = ctr.host.path("bind")
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "file"), "w", encoding="utf-8") as file:
        file.write("from the host\n")
    source = f"type=bind,src={directory},dst=/mnt,options=rbind"
    equal(ctr.shell("cat /mnt/file; ! touch /mnt/x 2>/dev/null", options=["--mount", source + ":ro"]), "from the host")
    ctr.shell("echo back >/mnt/made", options=["--mount", source + ":rw"])
    with open(os.path.join(directory, "made"), encoding="utf-8") as file:
        equal(file.read(), "back\n")


@suite.check
def tmpfs_mount(ctr):
    options = ["--mount", "type=tmpfs,src=tmpfs,dst=/scratch,options=size=65536:noexec"]
    line = ctr.shell("grep ' /scratch ' /proc/self/mounts", options=options)
    contains(line, "tmpfs")
    contains(line, "size=64k")
    contains(line, "noexec")


@suite.check
def memory_and_cpu_limits_are_in_the_cgroup(ctr):
    name = ctr.detach("sleep", "1000", options=["--memory-limit", "67108864", "--cpus", "0.5"])
    path = ctr.host.group(name, "ctr", bare=True)
    equal(cgroup_value("memory", path, "memory.limit_in_bytes", "memory.max"), "67108864", "memory limit")
    quota = cgroup_value("cpu", path, "cpu.cfs_quota_us", "cpu.max").split()[0]
    equal(quota, "50000", "cpu quota")
    ctr.remove_killed(name)


@suite.check
def metrics_come_from_the_cgroup(ctr):
    # Work that all of them show: processor time, memory, a second process.
    script = "dd if=/dev/zero of=/dev/shm/x bs=1M count=8 2>/dev/null; sleep 1000 & touch /done; wait"
    name = ctr.detach("sh", "-c", script, options=["--memory-limit", "67108864"])
    ctr.runtime.needs("exec")
    words = ["ctr", "-n", NAMESPACE, "task", "exec", "--exec-id", "done", name, "sh", "-c", "until [ -e /done ]; do sleep 0.1; done"]
    succeed(*words)
    path = ctr.host.group(name, "ctr", bare=True)
    table = ctr.ctr("task", "metrics", name)
    found = dict(line.split()[:2] for line in table.splitlines() if line.startswith(("pids.", "memory.", "cpu")))
    metrics = json.loads(ctr.ctr("task", "metrics", "--format", "json", name))
    unified = os.path.exists(f"{CGROUPS}/cgroup.controllers")
    memory = metrics["memory"] if unified else metrics["memory"]["usage"]
    limit, usage = (memory["usage_limit"], memory["usage"]) if unified else (memory["limit"], memory["usage"])
    now = int(cgroup_value("memory", path, "memory.usage_in_bytes", "memory.current"))
    spent = metrics["cpu"]["usage_usec"] * 1000 if unified else metrics["cpu"]["usage"]["total"]
    ctr.remove_killed(name)
    contains(table, name)
    equal((found["pids.current"], metrics["pids"]["current"], limit), ("2", 2, 67108864), f"{found}; processes, limit")
    if not (8 << 20 <= usage <= limit and abs(usage - now) < 1 << 20):
        raise Failed(f"{usage} bytes of memory are told of, and the cgroup has {now}")
    if not 0 < spent < 60 * 10**9:
        raise Failed(f"{spent} ns of processor time are told of")


@suite.check
def a_terminal(ctr):
    script = "test -t 0 && test -t 1 && tty; ls -l /dev/console | cut -c1; exit 4"
    output = in_terminal(*ctr.words("sh", "-c", script, options=["--rm", "--tty"]))
    equal((output.status, output.out), (4, "/dev/pts/0\nc\n"), "status, out")


@suite.check
def a_command_that_is_not_there(ctr):
    output = ctr.run("no-such-command")
    equal(output.status, 1, "exit status")
    contains(output.err, "executable file not found in $PATH")


@suite.check
def a_path_that_is_not_there(ctr):
    output = ctr.run("/no/such/command")
    equal(output.status, 1, "exit status")
    contains(output.err, "no such file or directory")


@suite.check
def a_file_that_is_not_executable(ctr):
    output = ctr.run("/etc/not-executable")
    equal(output.status, 1, "exit status")
    contains(output.err, "permission denied")


@suite.check
def a_failed_start_leaves_nothing(ctr):
    name = ctr.name()
    ctr.run("no-such-command", name=name)
    equal(ctr.status(name), None, "task")
    ctr.nothing_left()


@suite.check
def a_container_is_watched_and_runs_under_what_it_taught(ctr):
    name = ctr.name()
    learning = Learning(ctr.runtime, ctr.host.path("learnt"), name)
    try:
        # ctr starts in one go what it creates: the watcher has to be there before.
        program = "touch /a; chown 5:5 /a; while ! test -e /go; do sleep 0.05; done"
        succeed(*ctr.words("sh", "-c", program, options=["-d"], name=name))
        ctr.ctr("task", "exec", "--exec-id", "probe", name, "sh", "-c", "mkdir /b; touch /go")
        report = learning.end()
    finally:
        learning.kill()
    until(lambda: ctr.status(name) == "STOPPED", f"the end of {name}")
    ctr.ctr("task", "rm", name)
    ctr.ctr("container", "rm", name)
    # Only exec's process made a directory.
    learning.expect(report, name, ["chown", "mkdir"])
    equal(learning.capabilities() in (["CAP_CHOWN"], None), True, f"{learning.capabilities()}, which")

    profile = ["--seccomp", "--seccomp-profile", learning.path("seccomp.json")]
    equal(ctr.shell("touch /a; chown 5:5 /a; mkdir /b; sleep 0.05; stat -c %u /a", options=profile), "5", "owner")
    narrow = ctr.run("sh", "-c", "touch /a; ln /a /c || echo narrow", options=profile)
    contains(narrow.err, "Operation not permitted")
    equal(narrow.out, "narrow\n", "out")
    ctr.nothing_left()


@suite.check
def what_the_kernel_says_inside(ctr):
    ctr.gabion_only()
    status = ctr.shell("grep -E '^(NoNewPrivs|Seccomp|CapEff|CapBnd|CapInh|CapAmb):' /proc/self/status")
    found = dict(line.split(":\t") for line in status.splitlines())
    # ctr sends no filter at all (SEC-01): the one that is there is gabion's.
    equal(found, {"CapInh": "0" * 16, "CapEff": "00000000a80425fb", "CapBnd": "00000000a80425fb", "CapAmb": "0" * 16,
                  "NoNewPrivs": "1", "Seccomp": "2"}, "status")


@suite.check
def own_namespaces(ctr):
    names = ["ipc", "mnt", "net", "pid", "uts"]
    inside = ctr.shell("for n in %s; do readlink /proc/self/ns/$n; done" % " ".join(names)).splitlines()
    shared = [name for name, link in zip(names, inside) if os.readlink(f"/proc/self/ns/{name}") == link]
    equal((len(inside), shared), (5, []), "namespaces, and those shared with the host")


@suite.check
def capabilities_dropped(ctr):
    options = [word for cap in ["CHOWN", "SETUID", "SETGID"] for word in ("--cap-drop", "CAP_" + cap)]
    equal(ctr.shell("grep CapBnd /proc/self/status", options=options), "CapBnd:\t00000000a804253a", "bounding set")


@suite.check
def a_root_file_system_that_is_a_directory(ctr):
    directory = ctr.host.path("rootfs")
    os.makedirs(directory + "/bin", exist_ok=True)
    for name in ["proc", "sys", "dev"]:
        os.makedirs(os.path.join(directory, name), exist_ok=True)
    subprocess.run(["cp", "/bin/busybox", directory + "/bin/sh"], check=True)
    output = run("ctr", "-n", NAMESPACE, "run", "--rm", *ctr.choice(), "--rootfs", directory, ctr.name(), "/bin/sh",
                 "-c", "echo inside")
    equal((output.status, output.out), (0, "inside\n"), f"{output}; status, out")


@suite.check
def refused_privileged(ctr):
    ctr.refused("PRV-05", ["--privileged"], "process/capabilities")


@suite.check
def refused_host_network(ctr):
    ctr.refused("NS-04", ["--net-host"], "linux/namespaces")


@suite.check
def refused_containerds_socket(ctr):
    ctr.refused("MNT-02", ["--mount", f"type=bind,src={SOCKET},dst={SOCKET},options=rbind"], "config.json#/mounts/")


@suite.check
def refused_the_hosts_root(ctr):
    ctr.refused("MNT-01", ["--mount", "type=bind,src=/,dst=/host,options=rbind:ro"], "config.json#/mounts/")


@suite.check
def refused_capability(ctr):
    ctr.refused("CAP-03:NET_ADMIN", ["--cap-add", "CAP_NET_ADMIN"], "process/capabilities")


@suite.check
def refused_a_disk(ctr):
    disk = next((f"/dev/{name}" for name in sorted(os.listdir("/sys/class/block")) if os.path.exists(f"/dev/{name}")),
                None)
    if not disk:
        raise Skip("this host shows no block device")
    ctr.refused("DEV-0", ["--device", disk], "linux/")


@suite.check
def the_links_name_chooses_the_profile(ctr):
    ctr.gabion_only()
    if ctr.shim:
        link = "io.containerd.gabion-restricted.v2"
    else:
        link = ctr.host.path("gabion-restricted")
        os.symlink(ctr.runtime.path, link)
    name = ctr.name()
    output = ctr.run("true", name=name, runtime=link)
    equal(output.status, 1, "exit status")
    contains(output.err, f"gabion refused {name}: ")
    contains(output.err, "profile restricted")
    contains(output.err, "PRV-02")


@suite.check
def runcs_options_choose_the_state_directory(ctr):
    if ctr.shim:
        raise Skip("ctr gives runc's options to runc's shim alone; shim.py has those of gabion's")
    name = ctr.detach("sleep", "1000", options=["--runc-root", "/run/elsewhere"])
    there, here = os.listdir("/run/elsewhere/" + NAMESPACE), f"/run/containerd/runc/{NAMESPACE}/{name}"
    inside = os.path.exists(here)
    ctr.remove_killed(name)
    equal((name in there, inside), (True, False), f"{there}; there, and in the usual place")
    equal([left for left in os.listdir("/run/elsewhere/" + NAMESPACE) if not left.startswith((".", "~"))], [], "left")


@suite.check
def every_run_is_in_the_ledger(ctr):
    ctr.gabion_only()
    name = ctr.name()
    ctr.run("true", name=name)
    verdicts = [line["verdict"] for line in decisions(name)]
    equal(verdicts[:1], ["admitted"], "verdicts")


@suite.check
def a_waiver_tolerates_one_value_for_containerd_and_is_recorded(ctr):
    ctr.gabion_only()
    rule, options = "CAP-03:NET_ADMIN", ["--cap-add", "CAP_NET_ADMIN"]
    with policy(waiver(rule, 'engine = "containerd"', 10)):
        expect_shown(ctr.runtime.path, rule, "(10 days left) for engine containerd", "net team: sets routes")
        name = ctr.name()
        output = ctr.run("grep", "CapBnd", "/proc/self/status", options=options, name=name)
        equal(output.out, "CapBnd:\t00000000a80435fb\n", f"{output}; bounding set with NET_ADMIN")
        expect_waived(name, rule)
        # One value, and no other.
        ctr.refused("CAP-03:SYS_ADMIN", ["--cap-add", "CAP_SYS_ADMIN", *options], "process/capabilities")


@suite.check
def a_waiver_by_bundle_tolerates_that_container_alone(ctr):
    ctr.gabion_only()
    name = ctr.name()
    bundle = f'bundle = "/run/containerd/io.containerd.runtime.v2.task/{NAMESPACE}/{name}"'
    with policy(waiver("CAP-03:NET_ADMIN", bundle, 0)):
        expect_shown(ctr.runtime.path, "(applies today for the last time)", f"/{name}")
        options = ["--cap-add", "CAP_NET_ADMIN"]
        equal(ctr.run("true", options=options, name=name).status, 0, "exit status")
        ctr.refused("CAP-03:NET_ADMIN", options, "process/capabilities")


@suite.check
def a_waiver_for_another_engine_and_one_that_expired_do_not_apply(ctr):
    ctr.gabion_only()
    options = ["--cap-add", "CAP_NET_ADMIN"]
    with policy(waiver("CAP-03:NET_ADMIN", 'engine = "docker"', 10)):
        ctr.refused("CAP-03:NET_ADMIN", options, "process/capabilities")
    with policy(waiver("CAP-03:NET_ADMIN", 'engine = "containerd"', -3)):
        expect_shown(ctr.runtime.path, "EXPIRED 3 days ago; does not apply")
        contains(ctr.run("true", options=options).err, "(the waiver of net team expired on ")
        ctr.refused("CAP-03:NET_ADMIN", options, "process/capabilities")


@suite.check
def an_audit_finds_what_runs_under_runc(ctr):
    ctr.gabion_only()
    runc = shutil.which("runc")
    if not runc:
        raise Skip("there is no runc on this host")
    names = []
    for options in [["--net-host"], []]:
        names.append(ctr.name())
        succeed("ctr", "-n", NAMESPACE, "run", "-d", "--runc-binary", runc, *options, busybox.NAME, names[-1], "sleep",
                "1000")
    try:
        expect_audit(ctr.runtime.path, "containerd", {names[0]: "NS-04"}, [names[1]])
    finally:
        for name in names:
            ctr.remove_killed(name)


@suite.check
def ten_at_once(ctr):
    names = [ctr.name() for _ in range(10)]
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        outputs = list(pool.map(lambda name: ctr.run("sh", "-c", f"echo {name}; exit 3", name=name), names))
    equal([(output.status, output.out) for output in outputs], [(3, name + "\n") for name in names], "status, out")
    ctr.nothing_left()


@suite.check
def exec_in_a_running_task(ctr):
    ctr.runtime.needs("exec")
    name = ctr.detach("sleep", "1000")
    output = run("ctr", "-n", NAMESPACE, "task", "exec", "--exec-id", "e1", name, "sh", "-c", "echo in; exit 5")
    ctr.remove_killed(name)
    equal((output.status, output.out), (5, "in\n"), f"{output}; status, out")


@suite.check
def pause_and_resume(ctr):
    ctr.runtime.needs("pause")
    name = ctr.detach("sleep", "1000")
    ctr.ctr("task", "pause", name)
    paused = ctr.status(name)
    ctr.ctr("task", "resume", name)
    resumed = ctr.status(name)
    ctr.remove_killed(name)
    equal((paused, resumed), ("PAUSED", "RUNNING"), "status")


@suite.check
def processes_are_listed(ctr):
    ctr.runtime.needs("ps")
    name = ctr.detach("sh", "-c", "sleep 1000 & wait")
    lines = ctr.ctr("task", "ps", name).splitlines()
    ctr.remove_killed(name)
    equal(len(lines), 3, f"{lines}; lines with the heading")


@suite.check
def nothing_is_left(ctr):
    equal(ctr.ctr("task", "ls", "-q"), "", "tasks")
    ctr.nothing_left()


def main():
    runtime = Runtime()
    enter(network=False)
    ctr = Containerd(runtime)
    try:
        ctr.start()
        print(f"# {succeed('containerd', '--version').split(' ', 2)[2]}, {succeed(runtime.path, '--version').splitlines()[0]}")
        if ctr.shim:
            import shim
            shim.add(suite)
        return suite.run(ctr, sys.argv[1:])
    finally:
        ctr.host.end()


if __name__ == "__main__":
    sys.exit(main())
