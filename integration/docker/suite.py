#!/usr/bin/env python3
"""Docker: what a person types at `docker run`, and what has to come of it.

    GABION=/path/to/gabion docker/suite.py [WORD...]

A word chooses the checks with it in their names. `RUNTIME=runc` runs the control, see harness/checks.py.
`SHIM=/path/to/containerd-shim-gabion-v2` makes the same checks through gabion's own shim, which Docker takes from 23.
"""

import json
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from harness.checks import Failed, Runtime, Skip, Suite, contains, equal, has_apparmor, in_terminal, run, succeed, until
from harness.host import SYSTEMD, Host, cgroup_value, enter, mount
from harness.learning import Learning
from harness.site import LEDGER, decisions, expect_audit, expect_shown, expect_waived, policy, waiver
from images import busybox

DOCKER = "/usr/bin/docker"
SOCKET = "/var/run/docker.sock"
DATA = "/var/lib/docker"
CGROUP = "gabion-docker"
DEFAULT_CAPABILITIES = "00000000a80425fb"

suite = Suite("docker")


class Docker:
    """A dockerd of our own, and docker calls to it."""

    def __init__(self, runtime):
        self.runtime = runtime
        self.host = Host(CGROUP, inner_parents=["buildkit"])
        self.count = 0
        self.shim = os.environ.get("SHIM") or None

    def start(self):
        # runc is known to dockerd anyway, by the name that gabion would take from it.
        runtime = ["--default-runtime", self.runtime.name]
        if self.shim:
            # By name, as an operator would: Docker's containerd looks for shims in its PATH.
            os.makedirs(self.host.path("shims"))
            configured = {}
            for name in ["gabion", "gabion-restricted"]:
                os.symlink(self.shim, self.host.path("shims", f"containerd-shim-{name}-v2"))
                configured[name] = {"runtimeType": f"io.containerd.{name}.v2"}
            os.environ["PATH"] = self.host.path("shims") + ":" + os.environ["PATH"]
            with open(self.host.path("daemon.json"), "w", encoding="utf-8") as file:
                json.dump({"runtimes": configured}, file)
            runtime += ["--config-file", self.host.path("daemon.json")]
        elif self.runtime.name != "runc":
            runtime += ["--add-runtime", f"{self.runtime.name}={self.runtime.path}"]
        if self.runtime.is_gabion:
            restricted = self.host.path("gabion-restricted")
            os.symlink(self.runtime.path, restricted)
            if not self.shim:
                runtime += ["--add-runtime", f"gabion-restricted={restricted}"]
            for name, program in [("plain", "runc"), ("crun", "crun")]:
                if shutil.which(program):
                    runtime += ["--add-runtime", f"{name}={shutil.which(program)}"]
        # In its usual place, where rules know Docker's own files, and yet on the suite's disk.
        os.makedirs(self.host.path("data"))
        mount("--bind", self.host.path("data"), DATA)
        # BuildKit asks for no runtime by name: it calls the runc of dockerd's PATH.
        os.makedirs(self.host.path("bin"))
        os.symlink(self.runtime.path, self.host.path("bin", "runc"))
        os.environ["PATH"] = self.host.path("bin") + ":" + os.environ["PATH"]
        os.environ.update(DOCKER_HOST=f"unix://{SOCKET}", DOCKER_CONFIG=self.host.path("client"), DOCKER_BUILDKIT="0")
        os.makedirs(os.environ["DOCKER_CONFIG"])
        self.host.daemon("dockerd", [
            "dockerd", "--data-root", DATA, "--exec-root", "/run/docker",
            "--pidfile", "/run/docker.pid", "-H", f"unix://{SOCKET}", "--storage-driver", "overlay2",
            *self.cgroups(),
            # The network is a namespace of the suite's own: what Docker changes there, the host does not see.
            "--bip", "172.31.7.1/24", "--iptables=false", "--ip6tables=false", "--ip-masq=false",
            *runtime,
        ], lambda: run(DOCKER, "version").status == 0)
        image = self.host.path("image.tar")
        with open(image, "wb") as file:
            busybox.write(file)
        self.docker("load", "-i", image)

    def cgroups(self):
        """What dockerd is told of cgroups: who makes them, and where."""
        return ["--exec-opt", f"native.cgroupdriver={'systemd' if SYSTEMD else 'cgroupfs'}",
                "--cgroup-parent", self.host.parent_option]

    def group(self, long_id):
        """Where a container's cgroup is."""
        return self.host.group(long_id, "docker", bare=True)

    def docker(self, *arguments, **options):
        """Calls docker, which has to succeed; what it printed."""
        return succeed(DOCKER, *arguments, **options)

    def name(self):
        """A new container's name."""
        self.count += 1
        return f"d{self.count}"

    def run(self, *arguments, options=(), **rest):
        """Runs a container to its end."""
        return run(DOCKER, "run", "--rm", *options, busybox.NAME, *arguments, **rest)

    def shell(self, script, options=(), **rest):
        """Runs a shell in a container that has to end with 0; what it printed."""
        output = self.run("sh", "-c", script, options=options, **rest)
        if output.status != 0:
            raise Failed(str(output))
        return output.out.rstrip("\n")

    def detach(self, *arguments, options=()):
        """Starts a container that goes on; its name and id."""
        name = self.name()
        return name, self.docker("run", "-d", "--name", name, *options, busybox.NAME, *arguments)

    def inspect(self, name, template):
        return self.docker("inspect", "--format", template, name)

    def status_file(self, *fields, options=()):
        """Fields of /proc/self/status inside."""
        lines = self.shell("cat /proc/self/status", options=options).splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        return {field: status[field] for field in fields}

    def refused(self, rule, options, place, control=True):
        """A container with these options is refused: the rule and the place stand at the prompt, with docker's exit
        status for a container that could not be made, and nothing is left. On the control the same container runs,
        if this host can run it."""
        output = self.run("true", options=options)
        if not self.runtime.is_gabion:
            if not control:
                raise Skip("the control cannot run it on this host either")
            equal(output.status, 0, f"the control has {output}; exit status")
            return
        equal(output.status, 125, f"{output}; exit status")
        contains(output.err, "gabion refused ")
        contains(output.err, rule)
        contains(output.err, place)
        name = output.err.split("gabion refused ", 1)[1].split(":", 1)[0]
        equal(self.docker("ps", "-aq", "--no-trunc", "--filter", f"id={name}"), "", "containers")
        equal([line["verdict"] for line in decisions(name)], ["refused"], "verdicts in the ledger")
        self.nothing_left()

    def nothing_left(self):
        """Waits for shims to end, and fails if anything stays."""
        until(lambda: not self.host.processes(), "the end of the shims")
        self.host.expect_nothing_left(
            ["/run/docker/runtime-runc/moby", "/run/containerd/gabion/moby", f"/run/docker/runtime-{self.runtime.name}/moby"],
            [DATA + "/overlay2", "/run/docker/containerd/daemon/io.containerd.runtime.v2.task"])

    def gabion_only(self):
        if not self.runtime.is_gabion:
            raise Skip("a promise of gabion alone")


@suite.check
def the_runtime_is_listed_and_is_the_default(docker):
    info = json.loads(docker.docker("info", "--format", "{{json .}}"))
    equal(info["DefaultRuntime"], docker.runtime.name, "default runtime")
    equal(docker.runtime.name in info["Runtimes"], True, "listed")


@suite.check
def who_makes_cgroups_is_as_it_was_asked(docker):
    equal(docker.docker("info", "--format", "{{.CgroupDriver}}"), "systemd" if SYSTEMD else "cgroupfs", "driver")
    name, long_id = docker.detach("sleep", "1000")
    try:
        found = [path for path in docker.host.cgroups() if long_id in path]
        contains(" ".join(found) + " ", f"/{docker.group(long_id)} ")
        if SYSTEMD:
            equal(succeed("systemctl", "is-active", f"docker-{long_id}.scope"), "active", "the scope")
    finally:
        docker.docker("rm", "-f", name)


@suite.check
def dockers_apparmor_profile_confines(docker):
    if not has_apparmor():
        raise Skip("no AppArmor here")
    label = "cat /proc/self/attr/apparmor/current"
    equal(docker.shell(label), "docker-default (enforce)", "label")
    name, _ = docker.detach("sleep", "1000")
    try:
        equal(docker.docker("exec", name, "sh", "-c", label), "docker-default (enforce)", "label of exec")
    finally:
        docker.docker("rm", "-f", name)
    # Who asks for none gets it under gabion (LSM-01).
    equal(docker.shell(label, options=["--security-opt", "apparmor=unconfined"]),
          "docker-default (enforce)" if docker.runtime.is_gabion else "unconfined", "label of who asks for none")


@suite.check
def output_and_exit_status_0(docker):
    output = docker.run("sh", "-c", "echo out; echo err >&2")
    equal((output.status, output.out, output.err), (0, "out\n", "err\n"), "status, out, err")


@suite.check
def exit_status_42(docker):
    equal(docker.run("sh", "-c", "exit 42").status, 42, "exit status")


@suite.check
def a_command_that_is_not_there_is_127(docker):
    output = docker.run("no-such-command")
    equal(output.status, 127, f"{output}; exit status")
    contains(output.err, "executable file not found in $PATH")


@suite.check
def a_path_that_is_not_there_is_127(docker):
    output = docker.run("/no/such/command")
    equal(output.status, 127, f"{output}; exit status")
    contains(output.err, "no such file or directory")


@suite.check
def a_file_that_is_not_executable_is_126(docker):
    output = docker.run("/etc/not-executable")
    equal(output.status, 126, f"{output}; exit status")
    contains(output.err, "permission denied")


@suite.check
def a_failed_start_leaves_nothing(docker):
    docker.run("no-such-command")
    equal(docker.docker("ps", "-aq"), "", "containers")
    docker.nothing_left()


@suite.check
def a_detached_container_logs_waits_and_is_inspected(docker):
    name, long_id = docker.detach("sh", "-c", "echo one; echo two >&2; read x </dev/null; exit 9")
    equal(docker.docker("wait", name), "9", "status that wait prints")
    logs = run(DOCKER, "logs", name)
    equal((logs.out, logs.err), ("one\n", "two\n"), "logs")
    equal(docker.inspect(name, "{{.Id}} {{.State.Status}} {{.State.ExitCode}} {{.HostConfig.Runtime}}"),
          f"{long_id} exited 9 {docker.runtime.name}", "inspect")
    docker.docker("rm", name)


# Does what its profile is to allow, and what the check does by exec.
TEACHER = "touch /a; chown 5:5 /a; while ! test -e /go; do sleep 0.05; done"


def learn(docker, directory, program, *words, options=()):
    """Has docker run a program that gabion watches from its start, with an exec in it; the watcher, its report and the
    program's output."""
    name = docker.name()
    long_id = docker.docker("create", "--name", name, *options, busybox.NAME, "sh", "-c", program)
    learning = Learning(docker.runtime, directory, *words, long_id[:12])
    try:
        docker.docker("start", name)
        run(DOCKER, "exec", name, "sh", "-c", "mkdir /b; touch /go")
        report = learning.end()
        output = run(DOCKER, "logs", name)
    finally:
        learning.kill()
        docker.docker("rm", "-f", name)
    return learning, report, output, long_id


@suite.check
def a_container_is_watched_and_runs_under_what_it_taught(docker):
    learning, report, _, long_id = learn(docker, docker.host.path("learnt"), TEACHER)
    learning.expect(report, long_id, ["chown", "mkdir"])
    capabilities = learning.capabilities() or ["CAP_CHOWN"]
    equal(capabilities, ["CAP_CHOWN"], "capabilities")

    options = ["--security-opt", f"seccomp={learning.path('docker.json')}", "--cap-drop", "ALL"]
    options += [word for name in capabilities for word in ("--cap-add", name.removeprefix("CAP_"))]
    equal(docker.shell("touch /a; chown 5:5 /a; mkdir /b; sleep 0.05; stat -c %u /a", options=options), "5", "owner")
    narrow = docker.run("sh", "-c", "touch /a; ln /a /c || echo narrow", options=options)
    contains(narrow.err, "Operation not permitted")
    equal(narrow.out, "narrow\n", "out")
    docker.nothing_left()


@suite.check
def a_learnt_profile_that_is_too_narrow_is_told_and_widened(docker):
    first = docker.host.path("narrow")
    learning, _, _, _ = learn(docker, first, TEACHER)
    wider = TEACHER + "; ln /a /c || echo narrow"
    under = ["--security-opt", f"seccomp={learning.path('docker.json')}"]
    # Watched under the narrow profile, it is told what that denied.
    told, report, output, _ = learn(docker, docker.host.path("told"), wider, options=under)
    equal(output.out, "narrow\n", "out")
    denied = told.json("observations.json")["denied"]
    equal({name: one["answer"] for name, one in denied.items() if one["certain"]}.get("link"), "fails with EPERM",
          f"{denied}; answer to link")
    contains(" ".join(report.split()), "link fails with EPERM (1 times)")
    # Under the profile that it had at first, a further run adds what was missing.
    again, report, output, _ = learn(docker, first, wider, "--merge")
    equal(output.out, "", "out")
    contains(" ".join(report.split()), "Run 2 of 2")
    contains(report, "new: link")
    under = ["--security-opt", f"seccomp={again.path('docker.json')}"]
    docker.shell("touch /a; ln /a /c", options=under)
    docker.nothing_left()


@suite.check
def a_container_that_runs_is_watched_for_a_while_and_goes_on(docker):
    name, long_id = docker.detach("sh", "-c", "mkdir /early; while :; do touch /a; rm /a; sleep 0.05; done")
    try:
        until(lambda: run(DOCKER, "exec", name, "test", "-d", "/early").status == 0, "the directory")
        learning = Learning(docker.runtime, docker.host.path("late"), "--for", "1s", long_id[:12])
        report = " ".join(learning.end().split())
        contains(report, "watched when it ran already, so that what it called before is missing, until the time was over")
        calls = learning.json("observations.json")["calls"]
        equal(("unlink" in calls, "mkdir" in calls), (True, False), f"unlink and mkdir in {sorted(calls)}")
        equal(docker.inspect(name, "{{.State.Status}}"), "running", "status")
        # Killed, it leaves the container as it is, too.
        learning = Learning(docker.runtime, docker.host.path("killed"), long_id)
        learning.kill()
        equal(os.path.exists(docker.host.path("killed")), False, "files of a watcher that was killed")
        equal(docker.run("true").status, 0, "exit status of another container")
        equal(docker.inspect(name, "{{.State.Status}}"), "running", "status")
    finally:
        docker.docker("rm", "-f", name)
    docker.nothing_left()


@suite.check
def stop_is_sigterm_then_sigkill(docker):
    name, _ = docker.detach("sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done")
    until(lambda: docker.docker("logs", name) == "ready", "ready")
    docker.docker("stop", name)
    equal(docker.inspect(name, "{{.State.ExitCode}}"), "7", "exit status")
    docker.docker("rm", name)
    # The first process of a namespace ignores a SIGTERM that it has no handler for.
    name, _ = docker.detach("sleep", "1000")
    docker.docker("stop", "-t", "1", name)
    equal(docker.inspect(name, "{{.State.ExitCode}}"), "137", "exit status")
    docker.docker("rm", name)


@suite.check
def kill_sends_any_signal(docker):
    name, _ = docker.detach("sh", "-c", "trap 'exit 5' USR1; echo ready; while :; do sleep 0.1; done")
    until(lambda: docker.docker("logs", name) == "ready", "ready")
    docker.docker("kill", "-s", "USR1", name)
    equal(docker.docker("wait", name), "5", "status that wait prints")
    docker.docker("rm", name)
    name, _ = docker.detach("sleep", "1000")
    docker.docker("kill", name)
    equal(docker.docker("wait", name), "137", "status that wait prints")
    docker.docker("rm", name)


@suite.check
def rm_force_ends_a_running_container(docker):
    name, _ = docker.detach("sh", "-c", "sleep 1000 & sleep 1000")
    docker.docker("rm", "-f", name)
    equal(docker.docker("ps", "-aq"), "", "containers")
    docker.nothing_left()


@suite.check
def restart_starts_the_same_container_again(docker):
    name, _ = docker.detach("sh", "-c", "echo run >>/runs; cat /runs; exec sleep 1000")
    until(lambda: docker.docker("logs", name) == "run", "the first run")
    docker.docker("restart", "-t", "0", name)
    until(lambda: docker.docker("logs", name) == "run\nrun\nrun", "the second run")
    equal(docker.inspect(name, "{{.State.Running}}"), "true", "running")
    docker.docker("rm", "-f", name)


@suite.check
def a_restart_policy_starts_it_again(docker):
    name, _ = docker.detach("sh", "-c", "exit 3", options=["--restart", "on-failure:2"])
    until(lambda: docker.inspect(name, "{{.RestartCount}} {{.State.Status}}") == "2 exited", "two restarts")
    docker.docker("rm", name)


@suite.check
def create_and_start_apart(docker):
    name = docker.name()
    docker.docker("create", "--name", name, busybox.NAME, "echo", "later")
    output = run(DOCKER, "start", "-a", name)
    equal((output.status, output.out), (0, "later\n"), f"{output}; status, out")
    docker.docker("rm", name)


@suite.check
def standard_input_reaches_the_container(docker):
    equal(docker.run("cat", options=["-i"], stdin="one\ntwo\n").out, "one\ntwo\n", "out")


@suite.check
def a_terminal(docker):
    output = in_terminal(DOCKER, "run", "--rm", "-t", busybox.NAME, "sh", "-c",
                         "test -t 0 && test -t 1 && tty; ls -l /dev/console | cut -c1; exit 4")
    equal((output.status, output.out), (4, "/dev/pts/0\nc\n"), "status, out")


@suite.check
def a_terminal_with_input(docker):
    output = in_terminal(DOCKER, "run", "--rm", "-it", busybox.NAME, "sh", "-c", "test -t 0 && echo yes; exit 4")
    equal((output.status, output.out), (4, "yes\n"), "status, out")


@suite.check
def user_by_number_and_name(docker):
    equal(docker.shell("id -u; id -g", options=["--user", "1234:5678"]), "1234\n5678")
    equal(docker.shell("id -un; echo $HOME", options=["--user", "app"]), "app\n/home/app")


@suite.check
def supplementary_groups(docker):
    equal(docker.shell("id -G", options=["--user", "1000:1000", "--group-add", "77"]), "1000 77")


@suite.check
def environment_working_directory_and_host_name(docker):
    equal(docker.shell("echo $A; pwd; hostname", options=["-e", "A=b c", "-w", "/home/app", "--hostname", "name"]),
          "b c\n/home/app\nname")


@suite.check
def a_working_directory_is_made(docker):
    equal(docker.shell("pwd", options=["-w", "/made/for/it"]), "/made/for/it")


@suite.check
def read_only_root(docker):
    output = docker.run("touch", "/new", options=["--read-only"])
    equal(output.status, 1, "exit status")
    contains(output.err, "Read-only file system")


@suite.check
def tmpfs(docker):
    line = docker.shell("touch /scratch/x && grep ' /scratch ' /proc/self/mounts",
                        options=["--read-only", "--tmpfs", "/scratch:size=64k"])
    for part in ["tmpfs /scratch", "size=64k", "nosuid", "nodev", "noexec"]:
        contains(line, part)


@suite.check
def bind_mounts_read_only_and_writable(docker):
    directory = docker.host.path("bind")
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "file"), "w", encoding="utf-8") as file:
        file.write("from the host\n")
    equal(docker.shell("cat /mnt/file; ! touch /mnt/x 2>/dev/null", options=["-v", f"{directory}:/mnt:ro"]),
          "from the host")
    docker.shell("echo back >/mnt/made", options=["-v", f"{directory}:/mnt"])
    with open(os.path.join(directory, "made"), encoding="utf-8") as file:
        equal(file.read(), "back\n")


@suite.check
def a_named_volume_keeps_its_files(docker):
    docker.docker("volume", "create", "kept")
    docker.shell("echo once >/data/file", options=["-v", "kept:/data"])
    equal(docker.shell("cat /data/file", options=["-v", "kept:/data"]), "once")
    docker.docker("volume", "rm", "kept")


@suite.check
def own_namespaces(docker):
    names = ["ipc", "mnt", "net", "pid", "uts"]
    inside = docker.shell("for n in %s; do readlink /proc/self/ns/$n; done" % " ".join(names)).splitlines()
    shared = [name for name, link in zip(names, inside) if os.readlink(f"/proc/self/ns/{name}") == link]
    equal((len(inside), shared), (5, []), "namespaces, and those shared with the host")


@suite.check
def the_prestart_hook_gives_a_network(docker):
    # dockerd sends a hook, /proc/<dockerd's pid>/exe libnetwork-setkey; without it there is no eth0.
    name, _ = docker.detach("sh", "-c", "echo served >/tmp/index.html; exec httpd -f -p 80 -h /tmp")
    address = docker.inspect(name, "{{.NetworkSettings.IPAddress}}")
    contains(docker.docker("run", "--rm", busybox.NAME, "ip", "address", "show", "eth0"), "172.31.7.")
    equal(docker.shell(f"wget -q -O - http://{address}/index.html"), "served")
    docker.docker("rm", "-f", name)


@suite.check
def a_network_of_ones_own(docker):
    docker.docker("network", "create", "--subnet", "172.31.8.0/24", "own")
    name, _ = docker.detach("sh", "-c", "echo served >/tmp/index.html; exec httpd -f -p 80 -h /tmp",
                            options=["--network", "own"])
    # The name is looked up at Docker's own server, which a second hook of the network puts into the container.
    output = docker.run("wget", "-q", "-O", "-", f"http://{name}/index.html", options=["--network", "own"])
    docker.docker("rm", "-f", name)
    docker.docker("network", "rm", "own")
    equal((output.status, output.out), (0, "served\n"), f"{output}; status, out")


@suite.check
def no_network(docker):
    equal(docker.shell("ls /sys/class/net", options=["--network", "none"]), "lo")


@suite.check
def the_network_of_another_container(docker):
    name, _ = docker.detach("sleep", "1000")
    first = docker.docker("run", "--rm", "--network", f"container:{name}", busybox.NAME, "ip", "address", "show", "eth0")
    address = docker.inspect(name, "{{.NetworkSettings.IPAddress}}")
    docker.docker("rm", "-f", name)
    contains(first, address)


@suite.check
def all_capabilities_dropped(docker):
    equal(docker.status_file("CapEff", "CapBnd", options=["--cap-drop", "ALL"]),
          {"CapEff": "0" * 16, "CapBnd": "0" * 16}, "capabilities")


@suite.check
def what_the_kernel_says_inside(docker):
    equal(docker.status_file("CapInh", "CapEff", "CapBnd", "CapAmb", "Seccomp"),
          {"CapInh": "0" * 16, "CapEff": DEFAULT_CAPABILITIES, "CapBnd": DEFAULT_CAPABILITIES, "CapAmb": "0" * 16,
           "Seccomp": "2"}, "status")


@suite.check
def no_new_privileges(docker):
    equal(docker.status_file("NoNewPrivs", options=["--security-opt", "no-new-privileges"]), {"NoNewPrivs": "1"},
          "status")


@suite.check
def masked_and_read_only_paths(docker):
    script = """
        for path in /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list /proc/sched_debug; do
            [ ! -e $path ] || [ -c $path ] || echo bare $path
        done
        ls -A /sys/firmware
        for path in /proc/sys /proc/sysrq-trigger /proc/irq /proc/bus; do
            [ ! -e $path ] || grep -q " $path ro" /proc/self/mountinfo || echo writable $path
        done"""
    equal(docker.shell(script), "", "bare and writable paths, files of the firmware")


@suite.check
def an_unconfined_container_gets_a_filter(docker):
    docker.gabion_only()
    equal(docker.status_file("Seccomp", options=["--security-opt", "seccomp=unconfined"]), {"Seccomp": "2"}, "status")


@suite.check
def an_init_process(docker):
    equal(docker.shell("cat /proc/1/comm", options=["--init"]), "docker-init")


@suite.check
def limits_are_in_the_cgroup(docker):
    name, long_id = docker.detach("sleep", "1000",
                                  options=["--memory", "64m", "--cpus", "0.5", "--pids-limit", "77"])
    path = docker.group(long_id)
    found = (cgroup_value("memory", path, "memory.limit_in_bytes", "memory.max"),
             cgroup_value("cpu", path, "cpu.cfs_quota_us", "cpu.max").split()[0],
             cgroup_value("pids", path, "pids.max", "pids.max"))
    docker.docker("rm", "-f", name)
    equal(found, ("67108864", "50000", "77"), "memory, cpu quota, pids")


@suite.check
def too_much_memory_is_told_as_such(docker):
    name, _ = docker.detach("sh", "-c", "x=a; while :; do x=$x$x; done", options=["--memory", "16m"])
    equal(docker.docker("wait", name), "137", "status that wait prints")
    equal(docker.inspect(name, "{{.State.OOMKilled}}"), "true", "OOMKilled")
    docker.docker("rm", name)


@suite.check
def ulimits(docker):
    equal(docker.shell("ulimit -n", options=["--ulimit", "nofile=512:1024"]), "512")


@suite.check
def sysctls(docker):
    equal(docker.shell("cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
                       options=["--sysctl", "net.ipv4.ip_unprivileged_port_start=77"]), "77")


@suite.check
def shared_memory_size(docker):
    contains(docker.shell("grep ' /dev/shm ' /proc/self/mounts", options=["--shm-size", "1m"]), "size=1024k")


@suite.check
def a_health_check_needs_exec(docker):
    docker.runtime.needs("exec")
    name, _ = docker.detach("sleep", "1000", options=["--health-cmd", "true", "--health-interval", "1s"])
    until(lambda: docker.inspect(name, "{{.State.Health.Status}}") == "healthy", "health")
    docker.docker("rm", "-f", name)


@suite.check
def a_health_check_that_fails(docker):
    name, _ = docker.detach("sleep", "1000", options=["--health-cmd", "echo ill; exit 1", "--health-interval", "1s",
                                                      "--health-retries", "1"])
    until(lambda: docker.inspect(name, "{{.State.Health.Status}}") == "unhealthy", "health")
    found = docker.inspect(name, "{{with index .State.Health.Log 0}}{{.ExitCode}} {{.Output}}{{end}}")
    docker.docker("rm", "-f", name)
    equal(found.strip(), "1 ill", "the first try")


@suite.check
def attach_to_a_running_container(docker):
    name, _ = docker.detach("sh", "-c", "while read a; do echo got $a; done", options=["-i"])
    with subprocess.Popen([DOCKER, "attach", "--sig-proxy=false", name], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as client:
        # What is typed before the streams are connected waits.
        client.stdin.write(b"typed\n")
        client.stdin.flush()
        equal(client.stdout.readline(), b"got typed\n", "out")
        client.terminate()
    equal(docker.inspect(name, "{{.State.Running}}"), "true", "running after the one who watched has left")
    docker.docker("rm", "-f", name)


@suite.check
def a_seccomp_profile_of_ones_own(docker):
    profile = docker.host.path("no-mkdir.json")
    with open(profile, "w", encoding="utf-8") as file:
        json.dump({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}, file)
    found = docker.shell("mkdir /tmp/x 2>&1; true", options=["--security-opt", f"seccomp={profile}"])
    equal(found, "mkdir: can't create directory '/tmp/x': Operation not supported", "out")


COMPOSE = f"""version: "2.4"
services:
  database:
    image: {busybox.NAME}
    command: ["sh", "-c", "echo rows >/data/index.html; exec httpd -f -p 80 -h /data"]
    volumes: ["rows:/data"]
    healthcheck: {{test: ["CMD", "wget", "-q", "-O", "-", "http://127.0.0.1/"], interval: 1s}}
  web:
    image: {busybox.NAME}
    command: ["sh", "-c", "wget -q -O /tmp/seen http://database/ && exec sleep 1000"]
    environment: {{NAME: web}}
    user: "1000:1000"
    read_only: true
    tmpfs: [/tmp]
    mem_limit: 64m
    depends_on: {{database: {{condition: service_healthy}}}}
volumes: {{rows: {{}}}}
networks: {{default: {{ipam: {{config: [{{subnet: 172.31.9.0/24}}]}}}}}}
"""


@suite.check
def a_compose_file_with_two_services(docker):
    if not shutil.which("docker-compose"):
        raise Skip("there is no docker-compose")
    file = docker.host.path("compose.yaml")
    with open(file, "w", encoding="utf-8") as text:
        text.write(COMPOSE)
    compose = ["docker-compose", "-p", "two", "-f", file]
    try:
        succeed(*compose, "up", "-d")
        until(lambda: run(*compose, "exec", "-T", "web", "cat", "/tmp/seen").out == "rows\n", "an answer of the database")
        equal(succeed(*compose, "exec", "-T", "web", "sh", "-c", "id -u; echo $NAME; touch /x 2>&1 || true"),
              "1000\nweb\ntouch: /x: Read-only file system", "in the second service")
        succeed(*compose, "restart", "-t", "0", "database")
        database = succeed(*compose, "ps", "-q", "database")
        until(lambda: docker.inspect(database, "{{.State.Health.Status}}") == "healthy", "health after a restart")
    finally:
        output = run(*compose, "down", "-v", "-t", "0")
    equal(output.status, 0, f"{output}; exit status")
    equal(docker.docker("ps", "-aq"), "", "containers")
    docker.nothing_left()


class Remapped:
    """A second dockerd, whose containers have users of their own."""

    FIRST = 231072

    def __init__(self, docker):
        for name in ["subuid", "subgid"]:
            # The suite's mount namespace has its own.
            path = docker.host.path(name)
            with open(path, "w", encoding="utf-8") as file:
                file.write(f"nobody:{self.FIRST}:65536\n")
            mount("--bind", path, f"/etc/{name}")
        os.chmod(docker.host.directory, 0o711)
        self.docker, self.socket = docker, "unix:///run/remapped.sock"
        runtimes = ["--default-runtime", docker.runtime.name]
        if docker.runtime.is_gabion:
            runtimes += ["--add-runtime", f"gabion={docker.runtime.path}",
                         "--add-runtime", f"gabion-restricted={docker.host.path('gabion-restricted')}"]
        self.daemon = docker.host.daemon("remapped", [
            # A network namespace of its own, in which it finds no bridge to remove.
            "unshare", "--net", "dockerd", "--userns-remap", "nobody:nogroup", "--data-root", docker.host.path("remapped"),
            "--exec-root", "/run/remapped", "--pidfile", "/run/remapped.pid", "-H", self.socket,
            "--storage-driver", "overlay2", *docker.cgroups(),
            "--bridge=none", "--iptables=false", "--ip6tables=false", *runtimes,
        ], lambda: self.call("version").status == 0)
        equal(self.call("load", "-i", docker.host.path("image.tar")).status, 0, "status of load")

    def call(self, *arguments):
        return run(DOCKER, "-H", self.socket, *arguments)

    def shell(self, script, *options):
        output = self.call("run", "--rm", "--network", "none", *options, busybox.NAME, "sh", "-c", script)
        equal(output.status, 0, f"{output}; exit status")
        return output.out.rstrip("\n")

    def end(self):
        self.daemon.terminate()
        self.daemon.wait(30)
        self.docker.host.daemons.remove(self.daemon)
        for name in ["subuid", "subgid"]:
            subprocess.run(["umount", f"/etc/{name}"], check=True)


@suite.check
def users_that_are_remapped(docker):
    remapped = Remapped(docker)
    policy = "/etc/gabion/policy.toml"
    try:
        if docker.runtime.is_gabion and docker.docker("info", "--format", "{{.CgroupVersion}}") == "1":
            # With remapped users Docker mounts the cgroups writable, which gabion mends if it is told to.
            output = remapped.call("run", "--rm", "--network", "none", busybox.NAME, "true")
            equal(output.status, 125, f"{output}; exit status")
            contains(output.err, "MNT-08")
            with open(policy, "w", encoding="utf-8") as file:
                file.write('[rules]\n"MNT-08" = "harden"\n')
        directory = docker.host.path("remapped-volume")
        os.makedirs(directory)
        os.chown(directory, remapped.FIRST, remapped.FIRST)
        found = remapped.shell("id -u; cat /proc/self/uid_map; touch /v/file; cat /proc/self/setgroups", "-v",
                               f"{directory}:/v")
        equal(found.split(), ["0", "0", str(remapped.FIRST), "65536", "allow"], "user, mapping, groups")
        equal(os.stat(os.path.join(directory, "file")).st_uid, remapped.FIRST, "owner on the host")
        equal(remapped.shell("id -u", "--user", "1000"), "1000", "an ordinary user")
        remapped.call("run", "-d", "--name", "u1", "--network", "none", busybox.NAME, "sleep", "1000")
        output = remapped.call("exec", "u1", "cat", "/proc/self/uid_map")
        remapped.call("rm", "-f", "u1")
        equal(output.out.split(), ["0", str(remapped.FIRST), "65536"], f"{output}; the mapping of an exec")
        if docker.runtime.is_gabion:
            # Root in the container is nobody's root on the host, which is what the profile asks for.
            hardened = ["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--read-only", "--memory", "64m",
                        "--pids-limit", "100"]
            equal(remapped.shell("id -u", "--runtime", "gabion-restricted", *hardened), "0", "under restricted")
    finally:
        remapped.end()
        if os.path.exists(policy):
            os.remove(policy)
    docker.nothing_left()


@suite.check
def copying_in_and_out(docker):
    name, _ = docker.detach("sleep", "1000")
    file = docker.host.path("copied")
    with open(file, "w", encoding="utf-8") as text:
        text.write("carried\n")
    docker.docker("cp", file, f"{name}:/tmp/file")
    docker.docker("cp", f"{name}:/tmp/file", file + ".back")
    docker.docker("rm", "-f", name)
    with open(file + ".back", encoding="utf-8") as text:
        equal(text.read(), "carried\n")


@suite.check
def a_build_runs_its_commands(docker):
    context = docker.host.path("context")
    os.makedirs(context, exist_ok=True)
    with open(os.path.join(context, "Dockerfile"), "w", encoding="utf-8") as file:
        file.write(f"FROM {busybox.NAME}\nRUN id -u >/made\nUSER app\n"
                   "CMD [\"sh\", \"-c\", \"cat /made; id -un\"]\n")
    docker.docker("build", "-q", "-t", "built:1", context)
    equal(docker.docker("run", "--rm", "built:1"), "0\napp")
    docker.docker("rmi", "built:1")
    docker.nothing_left()


@suite.check
def a_failing_build_has_its_status(docker):
    output = run(DOCKER, "build", "-q", "-", stdin=f"FROM {busybox.NAME}\nRUN exit 9\n")
    equal(output.status, 9, f"{output}; exit status")
    docker.docker("container", "prune", "-f")


@suite.check
def a_build_with_buildkit(docker):
    text = f"FROM {busybox.NAME}\nRUN grep Seccomp: /proc/self/status >/made\nUSER app\nCMD [\"cat\", \"/made\"]\n"
    docker.docker("build", "-q", "-t", "built:2", "-", stdin=text, env={"DOCKER_BUILDKIT": "1"})
    equal(docker.docker("run", "--rm", "built:2"), "Seccomp:\t2")
    docker.docker("rmi", "built:2")
    if docker.runtime.is_gabion:
        with open(LEDGER, encoding="utf-8") as file:
            contains(file.read(), DATA + "/buildkit/executor")


@suite.check
def a_build_with_buildkit_is_refused_the_hosts_network(docker):
    text = f"FROM {busybox.NAME}\nRUN true # {docker.name()}\n"
    output = run(DOCKER, "build", "--progress", "plain", "--network", "host", "-", stdin=text,
                 env={"DOCKER_BUILDKIT": "1"})
    if not docker.runtime.is_gabion:
        equal(output.status, 0, f"the control has {output}; exit status")
        return
    equal(output.status, 1, f"{output}; exit status")
    contains(output.err, "gabion refused ")
    contains(output.err, "NS-04")


@suite.check
def the_restricted_profile_as_a_second_runtime(docker):
    docker.gabion_only()
    output = docker.run("true", options=["--runtime", "gabion-restricted"])
    equal(output.status, 125, f"{output}; exit status")
    for part in ["gabion refused ", "profile restricted", "PRV-02", "CAP-04"]:
        contains(output.err, part)
    hardened = ["--user", "1000:1000", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--read-only",
                "--memory", "64m", "--pids-limit", "100"]
    equal(docker.shell("id -u", options=["--runtime", "gabion-restricted", *hardened]), "1000")


@suite.check
def refused_privileged(docker):
    # Without CAP_SYS_RESOURCE on the host no runtime can give it away.
    with open("/proc/self/status", encoding="utf-8") as file:
        bounding = int(next(line for line in file if line.startswith("CapBnd")).split()[1], 16)
    docker.refused("PRV-05", ["--privileged"], "process/capabilities", control=bool(bounding >> 24 & 1))


@suite.check
def refused_capability(docker):
    docker.refused("CAP-03:NET_ADMIN", ["--cap-add", "NET_ADMIN"], "process/capabilities/bounding")


@suite.check
def refused_host_network(docker):
    docker.refused("NS-04", ["--network", "host"], "linux/namespaces")


@suite.check
def refused_host_processes(docker):
    docker.refused("NS-02", ["--pid", "host"], "linux/namespaces")


@suite.check
def refused_host_ipc(docker):
    docker.refused("NS-03", ["--ipc", "host"], "config.json#/")


@suite.check
def refused_dockers_socket(docker):
    docker.refused("MNT-02", ["-v", f"{SOCKET}:{SOCKET}"], "config.json#/mounts/")


@suite.check
def refused_dockers_socket_by_its_directory(docker):
    docker.refused("MNT-0", ["-v", "/run:/host-run:ro"], "config.json#/mounts/")


@suite.check
def refused_the_hosts_root(docker):
    docker.refused("MNT-01", ["-v", "/:/host:ro"], "config.json#/mounts/")


@suite.check
def refused_a_disk(docker):
    disk = next((f"/dev/{name}" for name in sorted(os.listdir("/sys/class/block")) if os.path.exists(f"/dev/{name}")),
                None)
    if not disk:
        raise Skip("this host shows no block device")
    docker.refused("DEV-0", ["--device", disk], "linux/")


@suite.check
def several_reasons_are_told_at_once(docker):
    docker.gabion_only()
    output = docker.run("true", options=["--pid", "host", "--cap-add", "SYS_PTRACE", "-v", f"{SOCKET}:{SOCKET}"])
    for rule in ["NS-02", "CAP-03:SYS_PTRACE", "MNT-02"]:
        contains(output.err, rule)


@suite.check
def a_refused_detached_container_keeps_the_reason(docker):
    docker.gabion_only()
    name = docker.name()
    output = run(DOCKER, "run", "-d", "--name", name, "--pid", "host", busybox.NAME, "true")
    equal(output.status, 125, f"{output}; exit status")
    contains(docker.inspect(name, "{{.State.Error}}"), "NS-02")
    equal(docker.inspect(name, "{{.State.Status}}"), "created", "status")
    docker.docker("rm", name)
    docker.nothing_left()


@suite.check
def every_run_is_in_the_ledger(docker):
    docker.gabion_only()
    name, long_id = docker.detach("true")
    docker.docker("wait", name)
    docker.docker("rm", name)
    equal([line["verdict"] for line in decisions(long_id)][:1], ["admitted"], "verdicts")


@suite.check
def ten_at_once(docker):
    processes = [subprocess.Popen([DOCKER, "run", "--rm", busybox.NAME, "sh", "-c", f"echo {n}; exit 3"],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) for n in range(10)]
    found = []
    for process in processes:
        out, _ = process.communicate(timeout=90)
        found.append((process.returncode, out))
    equal(found, [(3, b"%d\n" % n) for n in range(10)], "status, out")
    docker.nothing_left()


@suite.check
def exec_in_a_running_container(docker):
    docker.runtime.needs("exec")
    name, _ = docker.detach("sleep", "1000")
    output = run(DOCKER, "exec", name, "sh", "-c", "echo in; exit 5")
    docker.docker("rm", "-f", name)
    equal((output.status, output.out), (5, "in\n"), f"{output}; status, out")


@suite.check
def exec_has_the_containers_filter_and_capabilities(docker):
    docker.runtime.needs("exec")
    name, _ = docker.detach("sleep", "1000", options=["--cap-drop", "ALL"])
    status = docker.docker("exec", name, "grep", "-E", "^(CapBnd|Seccomp):", "/proc/self/status")
    docker.docker("rm", "-f", name)
    equal(status, "CapBnd:\t0000000000000000\nSeccomp:\t2", "status")


@suite.check
def exec_takes_its_options(docker):
    docker.runtime.needs("exec")
    name, _ = docker.detach("sleep", "1000")
    found = docker.docker("exec", "-u", "1000:1000", "-w", "/home/app", "-e", "A=b", "-i", name, "sh", "-c",
                          "id -u; id -g; pwd; echo $A; cat", stdin="typed\n")
    typed = in_terminal(DOCKER, "exec", "-t", name, "sh", "-c", "test -t 0 && tty; exit 4")
    docker.docker("exec", "-d", name, "sh", "-c", "echo later >/tmp/later")
    until(lambda: run(DOCKER, "exec", name, "cat", "/tmp/later").out == "later\n", "a detached exec")
    docker.docker("rm", "-f", name)
    equal(found, "1000\n1000\n/home/app\nb\ntyped", "out")
    equal((typed.status, typed.out[:9]), (4, "/dev/pts/"), "status, terminal")


@suite.check
def exec_that_fails_says_why(docker):
    docker.runtime.needs("exec")
    name, _ = docker.detach("sleep", "1000")
    for command, why in [("no-such-command", "executable file not found in $PATH"),
                         ("/etc/not-executable", "permission denied")]:
        output = run(DOCKER, "exec", name, command)
        # Docker 20.10 has one status for every exec that did not start.
        equal(output.status, 126, f"{output}; exit status")
        contains(output.out, why)
    docker.docker("rm", "-f", name)


@suite.check
def exec_ends_with_its_container(docker):
    docker.runtime.needs("exec")
    name, _ = docker.detach("sleep", "1000")
    process = subprocess.Popen([DOCKER, "exec", name, "sleep", "1000"], stdin=subprocess.DEVNULL)
    until(lambda: docker.inspect(name, "{{len .ExecIDs}}") == "1", "the exec")
    subprocess.run(["sleep", "0.5"], check=True)
    docker.docker("rm", "-f", name)
    equal(process.wait(20), 137, "exit status")
    docker.nothing_left()


@suite.check
def refused_privileged_exec(docker):
    docker.runtime.needs("exec")
    name, _ = docker.detach("sleep", "1000")
    output = run(DOCKER, "exec", "--privileged", name, "grep", "CapEff", "/proc/self/status")
    docker.docker("rm", "-f", name)
    if not docker.runtime.is_gabion:
        raise Skip("what the control does with it depends on the host's capabilities")
    equal(output.status, 126, f"{output}; exit status")
    contains(output.out + output.err, "OPS-01")


@suite.check
def pause_and_unpause(docker):
    docker.runtime.needs("pause")
    name, _ = docker.detach("sleep", "1000")
    docker.docker("pause", name)
    paused = docker.inspect(name, "{{.State.Status}}")
    docker.docker("unpause", name)
    resumed = docker.inspect(name, "{{.State.Status}}")
    docker.docker("rm", "-f", name)
    equal((paused, resumed), ("paused", "running"), "status")


@suite.check
def update_changes_limits(docker):
    docker.runtime.needs("update")
    name, long_id = docker.detach("sleep", "1000", options=["--memory", "64m", "--memory-swap", "64m"])
    docker.docker("update", "--memory", "128m", "--memory-swap", "128m", name)
    found = cgroup_value("memory", docker.group(long_id), "memory.limit_in_bytes", "memory.max")
    docker.docker("rm", "-f", name)
    equal(found, str(128 << 20), "memory limit")


@suite.check
def top_lists_processes(docker):
    docker.runtime.needs("ps")
    name, _ = docker.detach("sh", "-c", "sleep 1000 & wait")
    lines = docker.docker("top", name).splitlines()
    docker.docker("rm", "-f", name)
    equal(len(lines), 3, f"{lines}; lines with the heading")


@suite.check
def stats_come_from_the_cgroup(docker):
    name, _ = docker.detach("sleep", "1000", options=["--memory", "64m"])
    line = docker.docker("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}} {{.PIDs}}", name)
    docker.docker("rm", "-f", name)
    contains(line, "/ 64MiB 1")


@suite.check
def a_waiver_tolerates_one_value_for_docker_and_is_recorded(docker):
    docker.gabion_only()
    rule, options = "CAP-03:NET_ADMIN", ["--cap-add", "NET_ADMIN"]
    with policy(waiver(rule, 'engine = "docker"', 10)):
        expect_shown(docker.runtime.path, rule, "(10 days left) for engine docker", "net team: sets routes")
        name, long_id = docker.detach("sleep", "1000", options=options)
        with open(f"/proc/{docker.inspect(name, '{{.State.Pid}}')}/status", encoding="utf-8") as file:
            bounding = next(line.split()[1] for line in file if line.startswith("CapBnd:"))
        docker.docker("rm", "-f", name)
        equal(bounding, f"{int(DEFAULT_CAPABILITIES, 16) | 1 << 12:016x}", "bounding set with NET_ADMIN")
        expect_waived(long_id, rule)
        # One value, and no other.
        docker.refused("CAP-03:SYS_ADMIN", ["--cap-add", "SYS_ADMIN", *options], "process/capabilities")


@suite.check
def a_waiver_by_bundle_tolerates_those_of_docker(docker):
    docker.gabion_only()
    bundles = 'bundle = "/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby/*"'
    with policy(waiver("NS-02", bundles, 0)):
        expect_shown(docker.runtime.path, "(applies today for the last time)", "/moby/*")
        equal(docker.run("true", options=["--pid", "host"]).status, 0, "exit status")


@suite.check
def a_waiver_for_another_engine_and_one_that_expired_do_not_apply(docker):
    docker.gabion_only()
    options = ["--cap-add", "NET_ADMIN"]
    with policy(waiver("CAP-03:NET_ADMIN", 'engine = "podman"', 10)):
        docker.refused("CAP-03:NET_ADMIN", options, "process/capabilities")
    with policy(waiver("CAP-03:NET_ADMIN", 'engine = "docker"', -3)):
        expect_shown(docker.runtime.path, "EXPIRED 3 days ago; does not apply")
        contains(docker.run("true", options=options).err, "(the waiver of net team expired on ")
        docker.refused("CAP-03:NET_ADMIN", options, "process/capabilities")


@suite.check
def an_audit_finds_what_runs_under_runc(docker):
    docker.gabion_only()
    if not shutil.which("runc"):
        raise Skip("there is no runc on this host")
    plain = ["--runtime", "plain"]
    names, ids = zip(*(docker.detach("sleep", "1000", options=[*plain, *options]) for options in
                       [["--pid", "host"], ["-v", f"{SOCKET}:/socket"], []]))
    try:
        expect_audit(docker.runtime.path, "docker", {ids[0]: "NS-02", ids[1]: f"MNT-02:{os.path.realpath(SOCKET)}"},
                     [ids[2]])
    finally:
        docker.docker("rm", "-f", *names)


@suite.check
def nothing_is_left(docker):
    equal(docker.docker("ps", "-aq"), "", "containers")
    docker.nothing_left()


def main():
    runtime = Runtime()
    enter(network=True)
    docker = Docker(runtime)
    try:
        docker.start()
        print(f"# {succeed('dockerd', '--version')}, {succeed(runtime.path, '--version').splitlines()[0]}")
        return suite.run(docker, sys.argv[1:])
    finally:
        docker.host.end()


if __name__ == "__main__":
    sys.exit(main())
