#!/usr/bin/env python3
"""podman and buildah as root: what a person types at `podman run`, and what has to come of it.

    GABION=/path/to/gabion podman/suite.py [WORD...]

A word chooses the checks with it in their names. `RUNTIME=runc` runs the control, see harness/checks.py.
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
from harness.site import decisions, expect_audit, expect_shown, expect_waived, policy, waiver
from images import busybox

PODMAN = "/usr/bin/podman"
BUILDAH = "/usr/bin/buildah"
STORAGE = "/var/lib/containers"
CGROUP = "gabion-podman"
# podman 4's own default: Docker's without AUDIT_WRITE, MKNOD and NET_RAW.
DEFAULT_CAPABILITIES = "00000000800405fb"
# The ids that --userns=auto gives away; podman looks for a user of this name in /etc/subuid.
SUBORDINATE = "containers:2000000:1000000\n"

CONFIGURATION = """
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=4096:8192"]
cgroups = "enabled"
init_path = "{init}"
log_driver = "k8s-file"

[engine]
cgroup_manager = "{driver}"
events_logger = "file"
runtime = "{name}"
infra_image = "{image}"

[engine.runtimes]
{runtimes}
"""

# Where cgroups are of version 1, buildah mounts them writable: refused, unless the site has gabion add ro.
BUILD_POLICY = '[rules]\n"MNT-08" = "harden"\n'

suite = Suite("podman")


class Podman:
    """podman with a configuration of the suite's own, and calls to it."""

    def __init__(self, runtime):
        self.runtime = runtime
        self.host = Host(CGROUP, container_cgroups=("libpod-", "buildah"))
        self.count = 0

    def start(self):
        # conmon leaves a file where it was called when memory ran out.
        os.chdir(self.host.directory)
        # In their usual places, where rules know podman's own files, and yet on the suite's disk.
        for place in [STORAGE, "/etc/containers"]:
            os.makedirs(self.host.path("own" + place))
            mount("--bind", self.host.path("own" + place), place)
        runtimes = {self.runtime.name: self.runtime.path}
        if self.runtime.is_gabion:
            runtimes["gabion-restricted"] = self.host.path("gabion-restricted")
            os.symlink(self.runtime.path, runtimes["gabion-restricted"])
        self.write("/etc/containers/containers.conf", CONFIGURATION.format(
            driver="systemd" if SYSTEMD else "cgroupfs", init="/usr/bin/catatonit", name=self.runtime.name,
            image=busybox.NAME,
            runtimes="\n".join(f'{name} = ["{path}"]' for name, path in runtimes.items())))
        self.write("/etc/containers/policy.json", '{"default": [{"type": "insecureAcceptAnything"}]}')
        self.write("/etc/containers/registries.conf", "unqualified-search-registries = []\n")
        self.write("/etc/containers/storage.conf", '[storage]\ndriver = "overlay"\nrunroot = "/run/containers/storage"\n'
                   f'graphroot = "{STORAGE}/storage"\n')
        for name in ["subuid", "subgid"]:
            self.write(self.host.path(name), SUBORDINATE)
            mount("--bind", self.host.path(name), "/etc/" + name)
        image = self.host.path("image.tar")
        with open(image, "wb") as file:
            busybox.write(file)
        self.podman("load", "-i", image)

    def write(self, path, text):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    def podman(self, *arguments, **options):
        """Calls podman, which has to succeed; what it printed."""
        return succeed(PODMAN, *arguments, **options)

    def name(self):
        """A new container's name."""
        self.count += 1
        return f"p{self.count}"

    def options(self, options):
        """What each container is given: a network only where it is asked for, and the suite's cgroup."""
        options = list(options)
        if not any(option in ("--network", "--pod") or option.startswith("--network=") for option in options):
            options += ["--network", "none"]
        return options if "--pod" in options else options + ["--cgroup-parent", self.host.parent_option]

    def run(self, *arguments, options=(), **rest):
        """Runs a container to its end."""
        return run(PODMAN, "run", "--rm", *self.options(options), busybox.NAME, *arguments, **rest)

    def shell(self, script, options=(), **rest):
        """Runs a shell in a container that has to end with 0; what it printed."""
        output = self.run("sh", "-c", script, options=options, **rest)
        if output.status != 0:
            raise Failed(str(output))
        return output.out.rstrip("\n")

    def detach(self, *arguments, options=()):
        """Starts a container that goes on; its name and id."""
        name = self.name()
        return name, self.podman("run", "-d", "--name", name, *self.options(options), busybox.NAME, *arguments)

    def remove(self, *names):
        self.podman("rm", "-f", "-t", "0", *names)

    def inspect(self, name, template):
        return self.podman("inspect", "--format", template, name)

    def status_file(self, *fields, options=()):
        """Fields of /proc/self/status inside."""
        lines = self.shell("cat /proc/self/status", options=options).splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        return {field: status[field] for field in fields}

    def refused(self, rule, options, place, control=True):
        """A container with these options is refused: the rule and the place stand at the prompt, with podman's exit
        status for a container that could not be made, and nothing is left. On the control the same container runs,
        if this host can run it."""
        output = self.run("true", options=options)
        if not self.runtime.is_gabion:
            if not control:
                raise Skip("the control cannot run it on this host either")
            equal(output.status, 0, f"the control has {output}; exit status")
            return
        equal(output.status, 126, f"{output}; exit status")
        contains(output.err, "gabion refused ")
        contains(output.err, rule)
        contains(output.err, place)
        name = output.err.split("gabion refused ", 1)[1].split(":", 1)[0]
        equal([line["verdict"] for line in decisions(name)], ["refused"], "verdicts in the ledger")
        self.podman("rm", "-f", "-a", "-t", "0")
        self.nothing_left()

    def nothing_left(self):
        """Waits for conmon to end, and fails if anything stays."""
        until(lambda: not self.host.processes(), "the end of conmon")
        self.host.expect_nothing_left(["/run/gabion", "/run/runc"], [STORAGE + "/storage/overlay/"])

    def gabion_only(self):
        if not self.runtime.is_gabion:
            raise Skip("a promise of gabion alone")


class Ordinary:
    """A user who is not root, with subordinate ids, and podman calls by that user. gabion lies where root installs it."""

    USER, NAME, PLACE = 64322, "gabion-podman", "/opt/containerd"

    def __init__(self, podman):
        self.podman, self.home = podman, "/run/gabion-podman"
        self.program = podman.runtime.path
        if podman.runtime.is_gabion:
            self.program = os.path.join(self.PLACE, "gabion")
            shutil.copy(podman.runtime.path, self.program)
        line = f"{self.NAME}:x:{self.USER}:{self.USER}::{self.home}:/bin/sh\n"
        for name, text in [("passwd", line), ("group", f"{self.NAME}:x:{self.USER}:\n")]:
            with open("/etc/" + name, encoding="utf-8") as file:
                podman.write(podman.host.path(name), file.read() + text)
            mount("--bind", podman.host.path(name), "/etc/" + name)
        for name in ["subuid", "subgid"]:
            podman.write(podman.host.path(name), f"{SUBORDINATE}{self.NAME}:720000000:65536\n")
        os.makedirs(self.home + "/.config/containers")
        os.mkdir(self.home + "/run", mode=0o700)
        podman.write(self.home + "/.config/containers/storage.conf", '[storage]\ndriver = "vfs"\n')
        image = self.home + "/image.tar"
        with open(image, "wb") as file:
            busybox.write(file)
        succeed("chown", "-R", f"{self.USER}:{self.USER}", self.home)
        succeed(*self.words("load", "-i", image))

    def words(self, *arguments):
        return ["setpriv", "--reuid", str(self.USER), "--regid", str(self.USER), "--init-groups", "--inh-caps=-all",
                "env", "-i", "-C", self.home, f"HOME={self.home}", f"XDG_RUNTIME_DIR={self.home}/run",
                "PATH=/usr/bin:/bin:/usr/sbin:/sbin", PODMAN, "--runtime", self.program, *arguments]

    def run(self, *arguments, options=()):
        return run(*self.words("run", "--rm", "--network", "none", *options, busybox.NAME, *arguments))

    def verdicts(self):
        """The user's own ledger: operations and verdicts."""
        with open(self.home + "/.local/state/gabion/decisions.jsonl", encoding="utf-8") as file:
            return [(line["operation"], line["verdict"]) for line in map(json.loads, file)]

    def end(self):
        run(*self.words("rm", "--all", "--force", "--time", "0"))
        # Ends the process that keeps the user's namespace.
        run(*self.words("system", "migrate"))
        for name in ["subuid", "subgid"]:
            self.podman.write(self.podman.host.path(name), SUBORDINATE)
        # Files of the user's subordinate ids are the suite's to remove: root's.
        shutil.rmtree(self.home)
        for name in ["passwd", "group"]:
            succeed("umount", "/etc/" + name)
        if self.podman.runtime.is_gabion:
            os.unlink(self.program)


def as_ordinary_user(check):
    """A check that gets an `Ordinary` too."""
    def wrapped(podman):
        user = Ordinary(podman)
        try:
            check(podman, user)
        finally:
            user.end()
    wrapped.__name__ = check.__name__
    return suite.check(wrapped)


@as_ordinary_user
def an_ordinary_user_runs_containers(podman, user):
    output = user.run("sh", "-c", "id -u; cat /proc/self/uid_map; exit 7")
    equal((output.status, output.out.split()), (7, ["0", "0", str(user.USER), "1", "1", "720000000", "65536"]),
          str(output))
    equal(user.run("id", "-u", options=["--user", "1000", "--cap-drop", "ALL"]).out, "1000\n", "user inside")
    equal(user.run("no-such-command").status, 127, "exit status")
    if podman.runtime.is_gabion:
        equal(("create", "admitted") in user.verdicts(), True, f"{user.verdicts()}; admitted")
        equal(("start", "started") in user.verdicts(), True, f"{user.verdicts()}; started")


@as_ordinary_user
def an_ordinary_user_execs_stops_and_removes(_, user):
    succeed(*user.words("run", "-d", "--name", "one", "--network", "none", busybox.NAME, "sh", "-c",
                        "trap 'exit 4' TERM; while :; do sleep 0.1; done"))
    output = run(*user.words("exec", "one", "sh", "-c", "echo inside; exit 5"))
    equal((output.status, output.out), (5, "inside\n"), str(output))
    succeed(*user.words("stop", "one"))
    equal(succeed(*user.words("inspect", "--format", "{{.State.ExitCode}}", "one")), "4", "exit status")
    succeed(*user.words("rm", "one"))


@as_ordinary_user
def an_ordinary_user_is_refused_what_takes_the_host(podman, user):
    podman.gabion_only()
    output = user.run("true", options=["-v", "/:/host"])
    equal(output.status, 126, str(output))
    contains(output.err, "MNT-01:/ ")


@as_ordinary_user
def gabion_where_anybody_could_have_placed_it_is_refused(podman, user):
    podman.gabion_only()
    for directory, owner in [("/run/elsewhere", 0), (user.PLACE + "/other", 720000000 + 65533)]:
        # Root's, but not where everything is root's; and of a container's nobody, whose number stands for root's too.
        os.mkdir(directory)
        shutil.copy(user.program, directory)
        for path in [directory, directory + "/gabion"]:
            os.chown(path, owner, owner)
        there, user.program = user.program, directory + "/gabion"
        output = user.run("true")
        user.program = there
        shutil.rmtree(directory)
        equal(output.status, 126, str(output))
        contains(output.err, "HOST-03:binary")


@suite.check
def the_runtime_is_the_default(podman):
    equal(podman.podman("info", "--format", "{{.Host.OCIRuntime.Name}} {{.Host.OCIRuntime.Path}}"),
          f"{podman.runtime.name} {podman.runtime.path}", "runtime")
    contains(podman.podman("info", "--format", "{{.Host.OCIRuntime.Version}}"), podman.runtime.name)


@suite.check
def who_makes_cgroups_is_as_it_was_asked(podman):
    name, long_id = podman.detach("sleep", "1000")
    try:
        found = [path for path in podman.host.cgroups() if long_id in path]
        contains(" ".join(found) + " ", "/" + podman.host.group(long_id, "libpod"))
        if SYSTEMD:
            equal(succeed("systemctl", "is-active", f"libpod-{long_id}.scope"), "active", "the scope")
    finally:
        podman.remove(name)


@suite.check
def podmans_apparmor_profile_confines(podman):
    if not has_apparmor():
        raise Skip("no AppArmor here")
    label = "cat /proc/self/attr/apparmor/current"
    found = podman.shell(label)
    equal((found.startswith("containers-default-"), found.endswith(" (enforce)")), (True, True), found)
    name, _ = podman.detach("sleep", "1000")
    try:
        equal(podman.podman("exec", name, "sh", "-c", label), found, "label of exec")
    finally:
        podman.remove(name)


@suite.check
def a_container_is_checkpointed_and_restored(podman):
    if not os.path.exists("/usr/sbin/criu") or not os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        raise Skip("no CRIU, or no cgroup version 2")
    name, _ = podman.detach("sh", "-c", "i=0; while :; do i=$((i+1)); echo $i >/count; sleep 0.1; done")
    count = lambda: int(podman.podman("exec", name, "cat", "/count") or 0)
    try:
        until(lambda: count() > 2, "counting")
        podman.podman("container", "checkpoint", name)
        equal(podman.inspect(name, "{{.State.Status}} {{.State.Checkpointed}}"), "exited true", "status")
        podman.podman("container", "restore", name)
        equal(podman.inspect(name, "{{.State.Status}}"), "running", "status")
        stood = count()
        equal(stood > 2, True, f"it began anew, at {stood}; going on")
        until(lambda: count() > stood, "counting on")
    finally:
        podman.remove(name)


@suite.check
def output_and_exit_status_0(podman):
    output = podman.run("sh", "-c", "echo out; echo err >&2")
    equal((output.status, output.out, output.err), (0, "out\n", "err\n"), "status, out, err")


@suite.check
def exit_status_42(podman):
    equal(podman.run("sh", "-c", "exit 42").status, 42, "exit status")


@suite.check
def a_command_that_is_not_there_is_127(podman):
    output = podman.run("no-such-command")
    equal(output.status, 127, f"{output}; exit status")
    contains(output.err, "executable file not found in $PATH")


@suite.check
def a_path_that_is_not_there_is_127(podman):
    output = podman.run("/no/such/command")
    equal(output.status, 127, f"{output}; exit status")
    contains(output.err, "no such file or directory")


@suite.check
def a_file_that_is_not_executable_is_126(podman):
    output = podman.run("/etc/not-executable")
    equal(output.status, 126, f"{output}; exit status")
    contains(output.err, "permission denied")


@suite.check
def a_failed_start_leaves_nothing(podman):
    podman.run("no-such-command")
    podman.podman("rm", "-f", "-a", "-t", "0")
    podman.nothing_left()


@suite.check
def a_detached_container_logs_waits_and_is_inspected(podman):
    name, long_id = podman.detach("sh", "-c", "echo one; echo two >&2; read x </dev/null; exit 9")
    equal(podman.podman("wait", name), "9", "status that wait prints")
    logs = run(PODMAN, "logs", name)
    equal((logs.out, logs.err), ("one\n", "two\n"), "logs")
    equal(podman.inspect(name, "{{.Id}} {{.State.Status}} {{.State.ExitCode}} {{.OCIRuntime}}"),
          f"{long_id} exited 9 {podman.runtime.name}", "inspect")
    podman.podman("rm", name)


@suite.check
def stop_is_sigterm_then_sigkill(podman):
    name, _ = podman.detach("sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done")
    until(lambda: podman.podman("logs", name) == "ready", "ready")
    podman.podman("stop", name)
    equal(podman.inspect(name, "{{.State.ExitCode}}"), "7", "exit status")
    podman.podman("rm", name)
    # The first process of a namespace ignores a SIGTERM that it has no handler for.
    name, _ = podman.detach("sleep", "1000")
    podman.podman("stop", "-t", "1", name)
    equal(podman.inspect(name, "{{.State.ExitCode}}"), "137", "exit status")
    podman.podman("rm", name)


@suite.check
def kill_sends_any_signal(podman):
    name, _ = podman.detach("sh", "-c", "trap 'exit 5' USR1; echo ready; while :; do sleep 0.1; done")
    until(lambda: podman.podman("logs", name) == "ready", "ready")
    podman.podman("kill", "-s", "USR1", name)
    equal(podman.podman("wait", name), "5", "status that wait prints")
    podman.podman("rm", name)
    name, _ = podman.detach("sleep", "1000")
    podman.podman("kill", name)
    equal(podman.podman("wait", name), "137", "status that wait prints")
    podman.podman("rm", name)


@suite.check
def rm_force_ends_a_running_container(podman):
    name, _ = podman.detach("sh", "-c", "sleep 1000 & sleep 1000")
    podman.remove(name)
    equal(podman.podman("ps", "-aq"), "", "containers")
    podman.nothing_left()


@suite.check
def restart_starts_the_same_container_again(podman):
    name, _ = podman.detach("sh", "-c", "echo run >>/runs; cat /runs; exec sleep 1000")
    until(lambda: podman.podman("logs", name) == "run", "the first run")
    podman.podman("restart", "-t", "0", name)
    until(lambda: podman.podman("logs", name).split() == ["run"] * 3, "the second run")
    equal(podman.inspect(name, "{{.State.Running}}"), "true", "running")
    podman.remove(name)


@suite.check
def a_restart_policy_starts_it_again(podman):
    name, _ = podman.detach("sh", "-c", "exit 3", options=["--restart", "on-failure:2"])
    until(lambda: podman.inspect(name, "{{.RestartCount}} {{.State.Status}}") == "2 exited", "two restarts")
    podman.podman("rm", name)


@suite.check
def create_and_start_apart(podman):
    name = podman.name()
    podman.podman("create", "--name", name, *podman.options([]), busybox.NAME, "echo", "later")
    output = run(PODMAN, "start", "-a", name)
    equal((output.status, output.out), (0, "later\n"), f"{output}; status, out")
    podman.podman("rm", name)


@suite.check
def init_makes_a_container_that_was_not_started(podman):
    name = podman.name()
    podman.podman("create", "--name", name, *podman.options([]), busybox.NAME, "sleep", "1000")
    podman.podman("init", name)
    equal(podman.inspect(name, "{{.State.Status}}"), "initialized", "status")
    podman.podman("start", name)
    equal(podman.inspect(name, "{{.State.Status}}"), "running", "status")
    podman.remove(name)


@suite.check
def standard_input_reaches_the_container(podman):
    equal(podman.run("cat", options=["-i"], stdin="one\ntwo\n").out, "one\ntwo\n", "out")


@suite.check
def a_terminal(podman):
    output = in_terminal(PODMAN, "run", "--rm", "-t", *podman.options([]), busybox.NAME, "sh", "-c",
                         "test -t 0 && test -t 1 && tty; ls -l /dev/console | cut -c1; exit 4")
    equal((output.status, output.out), (4, "/dev/pts/0\nc\n"), "status, out")


@suite.check
def a_terminal_with_input(podman):
    output = in_terminal(PODMAN, "run", "--rm", "-it", *podman.options([]), busybox.NAME, "sh", "-c",
                         "test -t 0 && echo yes; exit 4")
    equal((output.status, output.out), (4, "yes\n"), "status, out")


@suite.check
def user_by_number_and_name(podman):
    equal(podman.shell("id -u; id -g", options=["--user", "1234:5678"]), "1234\n5678")
    equal(podman.shell("id -un; echo $HOME", options=["--user", "app"]), "app\n/home/app")


@suite.check
def supplementary_groups(podman):
    equal(podman.shell("id -G", options=["--user", "1000:1000", "--group-add", "77"]), "1000 77")


@suite.check
def environment_working_directory_and_host_name(podman):
    equal(podman.shell("echo $A; pwd; hostname", options=["-e", "A=b c", "-w", "/home/app", "--hostname", "name"]),
          "b c\n/home/app\nname")


@suite.check
def read_only_root(podman):
    output = podman.run("touch", "/new", options=["--read-only"])
    equal(output.status, 1, "exit status")
    contains(output.err, "Read-only file system")


@suite.check
def tmpfs(podman):
    line = podman.shell("touch /scratch/x && grep ' /scratch ' /proc/self/mounts",
                        options=["--read-only", "--tmpfs", "/scratch:size=64k"])
    for part in ["tmpfs /scratch", "size=64k", "nosuid", "nodev"]:
        contains(line, part)


@suite.check
def a_tmpfs_over_a_directory_of_the_image_keeps_its_files(podman):
    # podman asks for it with the option tmpcopyup.
    equal(podman.shell("cat /etc/passwd | head -n 1 | cut -d: -f1; touch /etc/new && grep -c ' /etc tmpfs ' /proc/mounts",
                       options=["--tmpfs", "/etc"]), "root\n1")


@suite.check
def bind_mounts_read_only_and_writable(podman):
    directory = podman.host.path("bind")
    os.makedirs(directory, exist_ok=True)
    podman.write(os.path.join(directory, "file"), "from the host\n")
    equal(podman.shell("cat /mnt/file; ! touch /mnt/x 2>/dev/null", options=["-v", f"{directory}:/mnt:ro"]),
          "from the host")
    podman.shell("echo back >/mnt/made", options=["-v", f"{directory}:/mnt"])
    with open(os.path.join(directory, "made"), encoding="utf-8") as file:
        equal(file.read(), "back\n")


@suite.check
def a_named_volume_keeps_its_files(podman):
    podman.podman("volume", "create", "kept")
    podman.shell("echo once >/data/file", options=["-v", "kept:/data"])
    equal(podman.shell("cat /data/file", options=["-v", "kept:/data"]), "once")
    podman.podman("volume", "rm", "kept")


@suite.check
def own_namespaces(podman):
    names = ["ipc", "mnt", "net", "pid", "uts"]
    inside = podman.shell("for n in %s; do readlink /proc/self/ns/$n; done" % " ".join(names)).splitlines()
    shared = [name for name, link in zip(names, inside) if os.readlink(f"/proc/self/ns/{name}") == link]
    equal((len(inside), shared), (5, []), "namespaces, and those shared with the host")


@suite.check
def no_network(podman):
    equal(podman.shell("ls /sys/class/net"), "lo")


@suite.check
def the_default_network(podman):
    name, _ = podman.detach("sh", "-c", "echo served >/tmp/index.html; exec httpd -f -p 80 -h /tmp",
                            options=["--network", "podman"])
    address = podman.inspect(name, "{{.NetworkSettings.Networks.podman.IPAddress}}")
    try:
        equal(podman.shell(f"wget -q -O - http://{address}/index.html", options=["--network", "podman"]), "served")
    finally:
        podman.remove(name)


@suite.check
def the_network_of_another_container(podman):
    name, _ = podman.detach("sh", "-c", "echo served >/tmp/index.html; exec httpd -f -p 80 -h /tmp")
    try:
        until(lambda: podman.run("wget", "-q", "-O", "-", "http://127.0.0.1/index.html",
                                 options=["--network", f"container:{name}"]).out == "served\n", "an answer")
    finally:
        podman.remove(name)


@suite.check
def all_capabilities_dropped(podman):
    equal(podman.status_file("CapEff", "CapBnd", options=["--cap-drop", "ALL"]),
          {"CapEff": "0" * 16, "CapBnd": "0" * 16}, "capabilities")


@suite.check
def what_the_kernel_says_inside(podman):
    found = podman.status_file("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "Seccomp")
    equal(found, {"CapInh": "0" * 16, "CapPrm": DEFAULT_CAPABILITIES, "CapEff": DEFAULT_CAPABILITIES,
                  "CapBnd": DEFAULT_CAPABILITIES, "CapAmb": "0" * 16, "Seccomp": "2"}, "status")


@suite.check
def no_new_privileges(podman):
    equal(podman.status_file("NoNewPrivs", options=["--security-opt", "no-new-privileges"]), {"NoNewPrivs": "1"},
          "status")


@suite.check
def masked_and_read_only_paths(podman):
    script = """
        for path in /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list /proc/sched_debug; do
            [ ! -e $path ] || [ -c $path ] || echo bare $path
        done
        ls -A /sys/firmware
        for path in /proc/sys /proc/sysrq-trigger /proc/irq /proc/bus; do
            [ ! -e $path ] || grep -q " $path ro" /proc/self/mountinfo || echo writable $path
        done"""
    equal(podman.shell(script), "", "bare and writable paths, files of the firmware")


@suite.check
def an_init_process(podman):
    equal(podman.shell("cat /proc/1/comm", options=["--init"]), "podman-init")


@suite.check
def limits_are_in_the_cgroup(podman):
    name, long_id = podman.detach("sleep", "1000",
                                  options=["--memory", "64m", "--cpus", "0.5", "--pids-limit", "77"])
    path = podman.host.group(long_id, "libpod")
    try:
        found = (cgroup_value("memory", path, "memory.limit_in_bytes", "memory.max"),
                 cgroup_value("cpu", path, "cpu.cfs_quota_us", "cpu.max").split()[0],
                 cgroup_value("pids", path, "pids.max", "pids.max"))
    finally:
        podman.remove(name)
    equal(found, ("67108864", "50000", "77"), "memory, cpu quota, pids")


@suite.check
def too_much_memory_is_the_end_of_it(podman):
    name, _ = podman.detach("sh", "-c", "x=a; while :; do x=$x$x; done", options=["--memory", "16m"])
    equal(podman.podman("wait", name), "137", "status that wait prints")
    podman.podman("rm", name)


@suite.check
def ulimits(podman):
    # Left alone, podman raises nproc as far as the host has it, which takes CAP_SYS_RESOURCE.
    options = ["--ulimit", "nofile=512:1024", "--ulimit", "nproc=4096:8192"]
    equal(podman.shell("ulimit -n; ulimit -Hn", options=options), "512\n1024")


@suite.check
def sysctls(podman):
    equal(podman.shell("cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
                       options=["--sysctl", "net.ipv4.ip_unprivileged_port_start=77"]), "77")


@suite.check
def shared_memory_size(podman):
    contains(podman.shell("grep ' /dev/shm ' /proc/self/mounts", options=["--shm-size", "1m"]), "size=1024k")


@suite.check
def a_health_check_needs_exec(podman):
    name, _ = podman.detach("sleep", "1000", options=["--health-cmd", "test -e /healthy", "--health-retries", "1",
                                                      "--health-interval", "disable"])
    try:
        equal(run(PODMAN, "healthcheck", "run", name).status, 1, "exit status of a check that fails")
        podman.podman("exec", name, "touch", "/healthy")
        podman.podman("healthcheck", "run", name)
        equal(podman.inspect(name, "{{.State.Health.Status}}"), "healthy", "health")
    finally:
        podman.remove(name)


@suite.check
def copying_in_and_out(podman):
    name, _ = podman.detach("sleep", "1000")
    file = podman.host.path("copied")
    podman.write(file, "carried\n")
    try:
        podman.podman("cp", file, f"{name}:/tmp/file")
        podman.podman("cp", f"{name}:/tmp/file", file + ".back")
        equal(podman.podman("exec", name, "cat", "/tmp/file"), "carried")
    finally:
        podman.remove(name)
    with open(file + ".back", encoding="utf-8") as text:
        equal(text.read(), "carried\n")


@suite.check
def a_user_namespace_of_its_own(podman):
    script = "head -n 1 /proc/self/uid_map | tr -s ' '; id -u; stat -c %u /etc/passwd; touch /new && stat -c %u /new"
    found = podman.shell(script, options=["--userns=auto:size=65536"])
    equal(found.splitlines()[0].split()[0::2], ["0", "65536"], "first id inside and length")
    equal(int(found.splitlines()[0].split()[1]) >= 2000000, True, "the first id outside is a subordinate one")
    equal(found.splitlines()[1:], ["0", "0", "0"], "user, owner of the image's files, owner of a new file")


@suite.check
def ids_mapped_by_hand_in_two_ranges(podman):
    ranges = [option for kind in ["--uidmap", "--gidmap"]
              for option in (kind, "0:2100000:1000", kind, "1000:2300000:64536")]
    equal(podman.shell("cat /proc/self/uid_map | tr -s ' '; id -u; stat -c %u /home/app",
                       options=["--user", "app", *ranges]),
          " 0 2100000 1000\n 1000 2300000 64536\n1000\n1000")


@suite.check
def exec_into_a_user_namespace(podman):
    name, _ = podman.detach("sleep", "1000", options=["--userns=auto:size=65536"])
    try:
        inner = podman.podman("exec", name, "readlink", "/proc/self/ns/user")
        equal(inner == os.readlink("/proc/self/ns/user"), False, "the host's user namespace")
        equal(inner, podman.podman("exec", name, "readlink", "/proc/1/ns/user"), "user namespace")
    finally:
        podman.remove(name)


@suite.check
def a_pod_shares_its_network_and_host_name(podman):
    podman.podman("pod", "create", "--name", "pod", "--network", "none", "--cgroup-parent", podman.host.parent_option,
                  "--hostname", "shared", "--infra-command", "/bin/sleep 1000")
    try:
        first, _ = podman.detach("sh", "-c", "echo served >/tmp/index.html; exec httpd -f -p 80 -h /tmp",
                                 options=["--pod", "pod"])
        until(lambda: podman.run("wget", "-q", "-O", "-", "http://127.0.0.1/index.html",
                                 options=["--pod", "pod"]).out == "served\n", "an answer")
        equal(podman.shell("hostname", options=["--pod", "pod"]), "shared", "host name")
        equal(podman.podman("exec", first, "readlink", "/proc/self/ns/net")
              == podman.shell("readlink /proc/self/ns/net", options=["--pod", "pod"]), True, "the same network")
        podman.podman("pod", "pause", "pod")
        equal(podman.inspect(first, "{{.State.Status}}"), "paused", "status")
        podman.podman("pod", "unpause", "pod")
        equal(len(podman.podman("pod", "top", "pod").splitlines()), 3, "heading, sleep and httpd")
    finally:
        podman.podman("pod", "rm", "-f", "-t", "0", "pod")
    podman.nothing_left()


@suite.check
def a_pod_may_share_its_processes(podman):
    podman.podman("pod", "create", "--name", "pod", "--network", "none", "--cgroup-parent", podman.host.parent_option,
                  "--share", "net,ipc,uts,pid", "--infra-command", "/bin/sleep 1000")
    try:
        contains(podman.shell("cat /proc/1/comm; ps", options=["--pod", "pod"]), "sleep 1000")
    finally:
        podman.podman("pod", "rm", "-f", "-t", "0", "pod")


@suite.check
def a_build_runs_its_commands(podman):
    context = podman.host.path("context")
    os.makedirs(context, exist_ok=True)
    podman.write(os.path.join(context, "Dockerfile"),
                 f"FROM {busybox.NAME}\nRUN grep Seccomp: /proc/self/status >/made\nUSER app\n"
                 "CMD [\"sh\", \"-c\", \"cat /made; id -un\"]\n")
    with policy(BUILD_POLICY):
        podman.podman("build", "-q", "--no-cache", "--isolation", "oci", "--network", "none", "-t", "built:1", context)
    equal(podman.podman("run", "--rm", *podman.options([]), "built:1"), "Seccomp:\t2\napp")
    podman.podman("rmi", "built:1")
    if podman.runtime.is_gabion:
        equal([line["verdict"] for line in decisions("buildah-buildah")][:1], ["admitted"], "verdicts")


@suite.check
def a_failing_build_has_its_status(podman):
    with policy(BUILD_POLICY):
        output = run(PODMAN, "build", "-q", "--no-cache", "--isolation", "oci", "--network", "none", "-f", "-",
                     podman.host.path("context"), stdin=f"FROM {busybox.NAME}\nRUN exit 9\n")
    equal(output.status, 9, f"{output}; exit status")
    podman.podman("image", "prune", "-f")


@suite.check
def a_build_is_refused_the_hosts_network(podman):
    output = run(PODMAN, "build", "--no-cache", "--isolation", "oci", "--network", "host", "-f", "-",
                 podman.host.path("context"), stdin=f"FROM {busybox.NAME}\nRUN true\n")
    if not podman.runtime.is_gabion:
        equal(output.status, 0, f"the control has {output}; exit status")
        return
    equal(output.status != 0, True, f"{output}; failed")
    contains(output.err, "gabion refused ")
    contains(output.err, "NS-04")


@suite.check
def buildah_runs_a_command_and_commits(podman):
    runtime = ["--runtime", podman.runtime.path, "--isolation", "oci", "--network", "none"]
    container = succeed(BUILDAH, "from", busybox.NAME)
    try:
        with policy(BUILD_POLICY):
            equal(succeed(BUILDAH, "run", *runtime, container, "sh", "-c", "echo run >/made; id -u"), "0")
            equal(run(BUILDAH, "run", *runtime, container, "sh", "-c", "exit 7").status, 7, "exit status")
        succeed(BUILDAH, "commit", "-q", container, "built:2")
        equal(podman.podman("run", "--rm", *podman.options([]), "built:2", "cat", "/made"), "run")
    finally:
        succeed(BUILDAH, "rm", container)
    podman.podman("rmi", "built:2")
    podman.nothing_left()


@suite.check
def the_restricted_profile_as_a_second_runtime(podman):
    podman.gabion_only()
    runtime = ["--runtime", "gabion-restricted"]
    output = run(PODMAN, *runtime, "run", "--rm", *podman.options([]), busybox.NAME, "true")
    equal(output.status, 126, f"{output}; exit status")
    for part in ["gabion refused ", "profile restricted", "PRV-02", "CAP-04"]:
        contains(output.err, part)
    hardened = ["--user", "1000:1000", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--read-only",
                "--memory", "64m", "--pids-limit", "100"]
    equal(podman.podman(*runtime, "run", "--rm", *podman.options(hardened), busybox.NAME, "id", "-u"), "1000")


@suite.check
def refused_privileged(podman):
    # Without CAP_SYS_RESOURCE on the host no runtime can give it away.
    with open("/proc/self/status", encoding="utf-8") as file:
        bounding = int(next(line for line in file if line.startswith("CapBnd")).split()[1], 16)
    podman.refused("PRV-05", ["--privileged"], "process/capabilities", control=bool(bounding >> 24 & 1))


@suite.check
def refused_capability(podman):
    podman.refused("CAP-03:NET_ADMIN", ["--cap-add", "NET_ADMIN"], "process/capabilities/bounding")


@suite.check
def refused_to_be_unconfined(podman):
    # podman says so in an annotation too, which other runtimes obey.
    podman.refused("ANN-01", ["--security-opt", "seccomp=unconfined"], "config.json#/annotations/io.podman")


@suite.check
def refused_host_network(podman):
    podman.refused("NS-04", ["--network", "host"], "linux/namespaces")


@suite.check
def refused_host_processes(podman):
    podman.refused("NS-02", ["--pid", "host"], "linux/namespaces")


@suite.check
def refused_host_ipc(podman):
    podman.refused("NS-03", ["--ipc", "host"], "config.json#/")


@suite.check
def refused_podmans_storage(podman):
    podman.refused("MNT-0", ["-v", f"{STORAGE}:/storage:ro"], "config.json#/mounts/")


@suite.check
def refused_the_hosts_root(podman):
    podman.refused("MNT-01", ["-v", "/:/host:ro"], "config.json#/mounts/")


@suite.check
def refused_a_disk(podman):
    disk = next((f"/dev/{name}" for name in sorted(os.listdir("/sys/class/block")) if os.path.exists(f"/dev/{name}")),
                None)
    if not disk:
        raise Skip("this host shows no block device")
    podman.refused("DEV-0", ["--device", disk], "linux/")


@suite.check
def several_reasons_are_told_at_once(podman):
    podman.gabion_only()
    output = podman.run("true", options=["--pid", "host", "--cap-add", "SYS_PTRACE", "-v", "/:/host"])
    for rule in ["NS-02", "CAP-03:SYS_PTRACE", "MNT-01"]:
        contains(output.err, rule)
    podman.podman("rm", "-f", "-a", "-t", "0")


@suite.check
def a_refused_detached_container_tells_the_reason(podman):
    podman.gabion_only()
    name = podman.name()
    output = run(PODMAN, "run", "-d", "--name", name, *podman.options(["--pid", "host"]), busybox.NAME, "true")
    equal(output.status, 126, f"{output}; exit status")
    contains(output.err, "NS-02")
    equal(podman.inspect(name, "{{.State.Status}}"), "created", "status")
    podman.podman("rm", name)
    podman.nothing_left()


@suite.check
def every_run_is_in_the_ledger(podman):
    podman.gabion_only()
    name, long_id = podman.detach("true")
    podman.podman("wait", name)
    podman.podman("rm", name)
    equal([line["verdict"] for line in decisions(long_id)][:1], ["admitted"], "verdicts")


@suite.check
def five_at_once(podman):
    processes = [subprocess.Popen([PODMAN, "run", "--rm", *podman.options([]), busybox.NAME, "sh", "-c",
                                   f"echo {n}; exit 3"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
                 for n in range(5)]
    found = []
    for process in processes:
        out, _ = process.communicate(timeout=90)
        found.append((process.returncode, out))
    equal(found, [(3, b"%d\n" % n) for n in range(5)], "status, out")
    podman.nothing_left()


@suite.check
def exec_in_a_running_container(podman):
    name, _ = podman.detach("sleep", "1000")
    output = run(PODMAN, "exec", name, "sh", "-c", "echo in; exit 5")
    podman.remove(name)
    equal((output.status, output.out), (5, "in\n"), f"{output}; status, out")


@suite.check
def exec_has_the_containers_filter_and_capabilities(podman):
    name, _ = podman.detach("sleep", "1000", options=["--cap-drop", "ALL"])
    try:
        status = podman.podman("exec", name, "grep", "-E", "^(CapBnd|Seccomp):", "/proc/self/status")
    finally:
        podman.remove(name)
    equal(status, "CapBnd:\t0000000000000000\nSeccomp:\t2", "status")


@suite.check
def exec_takes_its_options(podman):
    name, _ = podman.detach("sleep", "1000")
    try:
        found = podman.podman("exec", "-u", "1000:1000", "-w", "/home/app", "-e", "A=b", "-i", name, "sh", "-c",
                              "id -u; id -g; pwd; echo $A; cat", stdin="typed\n")
        typed = in_terminal(PODMAN, "exec", "-t", name, "sh", "-c", "test -t 0 && tty; exit 4")
        podman.podman("exec", "-d", name, "sh", "-c", "echo later >/tmp/later")
        until(lambda: run(PODMAN, "exec", name, "cat", "/tmp/later").out == "later\n", "a detached exec")
    finally:
        podman.remove(name)
    equal(found, "1000\n1000\n/home/app\nb\ntyped", "out")
    equal((typed.status, typed.out[:9]), (4, "/dev/pts/"), "status, terminal")


@suite.check
def exec_that_fails_says_why(podman):
    name, _ = podman.detach("sleep", "1000")
    try:
        for command, status, why in [("no-such-command", 127, "executable file not found in $PATH"),
                                     ("/etc/not-executable", 126, "permission denied")]:
            output = run(PODMAN, "exec", name, command)
            equal(output.status, status, f"{output}; exit status")
            contains(output.err, why)
    finally:
        podman.remove(name)


@suite.check
def refused_privileged_exec(podman):
    name, _ = podman.detach("sleep", "1000")
    output = run(PODMAN, "exec", "--privileged", name, "grep", "CapEff", "/proc/self/status")
    podman.remove(name)
    if not podman.runtime.is_gabion:
        raise Skip("what the control does with it depends on the host's capabilities")
    equal(output.status, 255, f"{output}; exit status")
    contains(output.out + output.err, "OPS-01")


@suite.check
def pause_and_unpause(podman):
    name, _ = podman.detach("sleep", "1000")
    try:
        podman.podman("pause", name)
        paused = podman.inspect(name, "{{.State.Status}}")
        podman.podman("unpause", name)
        resumed = podman.inspect(name, "{{.State.Status}}")
    finally:
        podman.remove(name)
    equal((paused, resumed), ("paused", "running"), "status")


@suite.check
def update_changes_limits(podman):
    podman.runtime.needs("update")
    name, long_id = podman.detach("sleep", "1000", options=["--pids-limit", "77", "--memory", "64m"])
    path = podman.host.group(long_id, "libpod")
    try:
        podman.podman("update", "--memory", "128m", "--cpus", "0.25", name)
        found = (cgroup_value("memory", path, "memory.limit_in_bytes", "memory.max"),
                 cgroup_value("cpu", path, "cpu.cfs_quota_us", "cpu.max").split()[0])
    finally:
        podman.remove(name)
    equal(found, (str(128 << 20), "25000"), "memory limit, cpu quota")


@suite.check
def top_lists_processes(podman):
    name, _ = podman.detach("sh", "-c", "sleep 1000 & wait")
    try:
        lines = podman.podman("top", name).splitlines()
    finally:
        podman.remove(name)
    equal(len(lines), 3, f"{lines}; lines with the heading")


@suite.check
def stats_come_from_the_cgroup(podman):
    name, _ = podman.detach("sleep", "1000", options=["--memory", "64m"])
    try:
        line = podman.podman("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}} {{.PIDs}}", name)
    finally:
        podman.remove(name)
    contains(line, "/ 67.11MB 1")


@suite.check
def a_waiver_tolerates_one_value_for_podman_and_is_recorded(podman):
    podman.gabion_only()
    rule, options = "CAP-03:NET_ADMIN", ["--cap-add", "NET_ADMIN"]
    with policy(waiver(rule, 'engine = "podman"', 10)):
        expect_shown(podman.runtime.path, rule, "(10 days left) for engine podman", "net team: sets routes")
        name, long_id = podman.detach("sleep", "1000", options=options)
        podman.remove(name)
        expect_waived(long_id, rule)
        # One value, and no other.
        podman.refused("CAP-03:SYS_ADMIN", ["--cap-add", "SYS_ADMIN", *options], "process/capabilities")
    with policy(waiver(rule, 'engine = "docker"', 10)):
        podman.refused(rule, options, "process/capabilities")
    with policy(waiver(rule, 'engine = "podman"', -3)):
        expect_shown(podman.runtime.path, "EXPIRED 3 days ago; does not apply")
        contains(podman.run("true", options=options).err, "(the waiver of net team expired on ")


@suite.check
def refused_an_overlay_over_the_host(podman):
    podman.gabion_only()
    output = run(PODMAN, "run", "--rm", *podman.options([]), "--rootfs", "/:O", "true")
    contains(output.err, "gabion refused ")
    contains(output.err, "ROOT-02")
    podman.podman("rm", "-f", "-a", "-t", "0")
    podman.refused("MNT-01", ["-v", "/etc:/data:O"], "config.json#/mounts/")


@suite.check
def an_audit_finds_what_runs_under_runc(podman):
    podman.gabion_only()
    runc = shutil.which("runc")
    if not runc:
        raise Skip("there is no runc on this host")
    names, ids = [], []
    for options in [["--pid", "host"], []]:
        names.append(podman.name())
        ids.append(podman.podman("--runtime", runc, "run", "-d", "--name", names[-1], *podman.options(options),
                                 busybox.NAME, "sleep", "1000"))
    try:
        expect_audit(podman.runtime.path, "podman", {ids[0]: "NS-02"}, [ids[1]])
    finally:
        podman.remove(*names)


@suite.check
def a_container_is_watched_and_runs_under_what_it_taught(podman):
    # Not in /, where podman lets root write by CAP_DAC_OVERRIDE alone.
    name = podman.name()
    long_id = podman.podman("create", "--name", name, *podman.options([]), busybox.NAME, "sh", "-c",
                            "touch /dev/shm/a; chown 5:5 /dev/shm/a; while ! test -e /dev/shm/go; do sleep 0.05; done")
    learning = Learning(podman.runtime, podman.host.path("learnt"), long_id)
    try:
        podman.podman("start", name)
        podman.podman("exec", name, "sh", "-c", "mkdir /dev/shm/b; touch /dev/shm/go")
        report = learning.end()
    finally:
        learning.kill()
        podman.remove(name)
    learning.expect(report, long_id, ["chown", "mkdir"])
    capabilities = learning.capabilities() or ["CAP_CHOWN"]
    equal(capabilities, ["CAP_CHOWN"], "capabilities")

    options = ["--security-opt", f"seccomp={learning.path('docker.json')}", "--cap-drop", "ALL", "--cap-add", "CHOWN"]
    well = "d=/dev/shm; touch $d/a; chown 5:5 $d/a; mkdir $d/b; sleep 0.05; stat -c %u $d/a"
    equal(podman.shell(well, options=options), "5", "owner")
    narrow = podman.run("sh", "-c", "touch /dev/shm/a; ln /dev/shm/a /dev/shm/c || echo narrow", options=options)
    # What podman's own profile answers for what it does not name.
    contains(narrow.err, "Function not implemented")
    equal(narrow.out, "narrow\n", "out")
    podman.nothing_left()


@suite.check
def nothing_is_left(podman):
    equal(podman.podman("ps", "-aq"), "", "containers")
    podman.nothing_left()


def main():
    runtime = Runtime()
    enter(network=True)
    podman = Podman(runtime)
    try:
        podman.start()
        print(f"# {succeed(PODMAN, '--version')}, {succeed(BUILDAH, '--version')}, "
              f"{succeed(runtime.path, '--version').splitlines()[0]}")
        return suite.run(podman, sys.argv[1:])
    finally:
        run(PODMAN, "rm", "-f", "-a", "-t", "0")
        podman.host.end()


if __name__ == "__main__":
    sys.exit(main())
