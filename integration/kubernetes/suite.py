#!/usr/bin/env python3
"""Kubernetes' side of containerd: pods through the Container Runtime Interface, called as the kubelet calls it.

    GABION=/path/to/gabion CRI=/path/to/gabion-cri kubernetes/suite.py [WORD...]

A word chooses the checks with it in their names. `RUNTIME=runc` runs the control, see harness/checks.py.
`SHIM=/path/to/containerd-shim-gabion-v2` makes the same checks through gabion's own shim. The runtime handlers are what
RuntimeClasses name; the client is in client/. The network is CNI's bridge, in a network namespace of the suite's own.
"""

import base64
import concurrent.futures
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from harness.checks import SECONDS, Failed, Runtime, Skip, Suite, contains, equal, run, succeed, until
from harness.host import Host, cgroup_value, enter
from harness.learning import Learning
from images import busybox, pause
from streams import Streams

SOCKET = "/run/containerd/containerd.sock"
LEDGER = "/var/log/gabion/decisions.jsonl"
ELSEWHERE = "/run/elsewhere"
CGROUP = "gabion-cri"
PLUGINS = "/usr/lib/cni"
POD, CONTAINER, NODE, TARGET = "POD", "CONTAINER", "NODE", "TARGET"

# What the kubelet sends for procMount: Default.
MASKED = ["/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
          "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"]
READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]

# What a pod of the Pod Security level restricted says, and what the profile asks beyond it.
RESTRICTED = {"run_as_user": {"value": 1000}, "run_as_group": {"value": 1000}, "no_new_privs": True,
              "readonly_rootfs": True, "capabilities": {"drop_capabilities": ["ALL"]},
              "seccomp": {"profile_type": "RuntimeDefault"}}
LIMITS = {"memory_limit_in_bytes": 64 << 20, "cpu_period": 100000, "cpu_quota": 50000, "cpu_shares": 512}

suite = Suite("kubernetes")


class Refused(Exception):
    """containerd's answer, if it is an error: the text that the kubelet puts into a pod's events."""


class Cri:
    """A containerd of our own, and the kubelet's calls to it."""

    def __init__(self, runtime):
        self.runtime = runtime
        self.host = Host(CGROUP)
        self.numbers = itertools.count(1)
        self.shim = os.environ.get("SHIM") or None
        self.client = os.environ.get("CRI") or sys.exit("CRI names the client; it is not set")
        self.patience = SECONDS
        self.daemon = None

    def start(self):
        for directory in ["cni", "bin", "logs", "seccomp"]:
            os.mkdir(self.host.path(directory))
        with open(self.host.path("cni", "10-pods.conflist"), "w", encoding="utf-8") as file:
            json.dump({"cniVersion": "0.4.0", "name": "pods", "plugins": [
                {"type": "bridge", "bridge": "gabion0", "isGateway": True, "hairpinMode": True,
                 "ipam": {"type": "host-local", "dataDir": self.host.path("ipam"),
                          "ranges": [[{"subnet": "10.88.0.0/16"}]]}}]}, file)
        with open(self.host.path("config.toml"), "w", encoding="utf-8") as file:
            file.write(self.configuration())
        self.start_daemon()
        for number, image in enumerate([busybox, pause]):
            archive = self.host.path(f"image{number}.tar")
            with open(archive, "wb") as file:
                image.write(file)
            succeed("ctr", "-n", "k8s.io", "images", "import", archive)
        until(lambda: len(self.call("ListImages")["images"]) == 2, "the images in the CRI")

    def configuration(self):
        """containerd's, with a handler for each way to call the runtime."""
        cri = 'plugins."io.containerd.grpc.v1.cri"'
        text = f"""version = 2
root = "{self.host.path('root')}"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{self.host.path('opt')}"
[{cri}]
  sandbox_image = "{pause.NAME}"
  disable_apparmor = {str(not apparmor()).lower()}
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
[{cri}.cni]
  bin_dir = "{PLUGINS}"
  conf_dir = "{self.host.path('cni')}"
[{cri}.containerd]
  default_runtime_name = "plain"
"""
        for handler, kind in [("plain", "gabion"), ("restricted", "gabion-restricted")]:
            table = f"{cri}.containerd.runtimes.{handler}"
            if self.shim:
                # containerd finds shims in its PATH.
                os.symlink(self.shim, self.host.path("bin", f"containerd-shim-{kind}-v2"))
                text += f'[{table}]\n  runtime_type = "io.containerd.{kind}.v2"\n'
            else:
                os.symlink(self.runtime.path, self.host.path("bin", kind))
                text += (f'[{table}]\n  runtime_type = "io.containerd.runc.v2"\n[{table}.options]\n'
                         f'  BinaryName = "{self.host.path("bin", kind)}"\n')
        os.environ["PATH"] = f"{self.host.path('bin')}:{os.environ['PATH']}"
        return text + self.optioned(cri)

    def optioned(self, cri):
        """Handlers with options: a state directory elsewhere, and for gabion's shim a profile. It reads a file, and from
        containerd 1.7 the table itself."""
        table = f"{cri}.containerd.runtimes"
        if not self.shim:
            return (f'[{table}.optioned]\n  runtime_type = "io.containerd.runc.v2"\n[{table}.optioned.options]\n'
                    f'  BinaryName = "{self.host.path("bin", "gabion-restricted")}"\n  Root = "{ELSEWHERE}"\n')
        options = f'Profile = "restricted"\nRoot = "{ELSEWHERE}"\n'
        with open(self.host.path("options.toml"), "w", encoding="utf-8") as file:
            file.write(options)
        text = (f'[{table}.optioned]\n  runtime_type = "io.containerd.gabion.v2"\n[{table}.optioned.options]\n'
                f'  ConfigPath = "{self.host.path("options.toml")}"\n')
        if self.version() >= (1, 7):
            text += (f'[{table}.inline]\n  runtime_type = "io.containerd.gabion.v2"\n[{table}.inline.options]\n'
                     + options)
        return text

    @staticmethod
    def version():
        """containerd's."""
        return tuple(map(int, re.search(r"(\d+)\.(\d+)\.", succeed("containerd", "--version").split()[2]).groups()))

    def start_daemon(self):
        """Starts containerd, the first time or again."""
        arguments = ["containerd", "-c", self.host.path("config.toml")]
        self.daemon = self.host.daemon("containerd", arguments, self.is_ready)

    def is_ready(self):
        """What the kubelet asks before it takes a node for ready."""
        try:
            return all(condition["status"] for condition in self.call("Status")["status"]["conditions"])
        except Refused:
            return False

    def call(self, method, **request):
        """One call of the CRI."""
        output = run(self.client, SOCKET, method, stdin=json.dumps(request), timeout=self.patience)
        if output.status != 0:
            raise Refused(output.err.strip())
        return json.loads(output.out)

    def name(self):
        """A new name; checks ask for some in threads."""
        return f"k{next(self.numbers)}"

    def run_pod(self, handler="plain", namespaces=None, security=None, linux=None, **more):
        """Makes a pod; a `Pod`."""
        pod = Pod(self, self.name())
        pod.options = {"network": POD, "pid": CONTAINER, "ipc": POD, **(namespaces or {})}
        os.mkdir(self.host.path("logs", pod.name))
        pod.config = {
            "metadata": {"name": pod.name, "uid": f"uid-{pod.name}", "namespace": "default", "attempt": 0},
            # The node's own name is left as it is.
            "hostname": "" if pod.options["network"] == NODE else pod.name, "log_directory": self.host.path("logs", pod.name),
            "dns_config": {"servers": ["10.96.0.10"], "searches": ["default.svc.cluster.local"],
                           "options": ["ndots:5"]},
            "labels": {"app": pod.name},
            "linux": {"cgroup_parent": f"/{CGROUP}", **(linux or {}),
                      "security_context": {"namespace_options": pod.options,
                                           "seccomp": {"profile_type": "RuntimeDefault"}, **(security or {})}},
            **more,
        }
        pod.id = self.call("RunPodSandbox", config=pod.config, runtime_handler=handler)["pod_sandbox_id"]
        return pod

    def exec(self, container, *words, timeout=0):
        """A probe of the kind exec: output, errors, exit status."""
        answer = self.call("ExecSync", container_id=container, cmd=words, timeout=timeout)
        return (base64.b64decode(answer["stdout"]).decode(), base64.b64decode(answer["stderr"]).decode(),
                answer["exit_code"])

    def status(self, container):
        """A container's status."""
        return self.call("ContainerStatus", container_id=container)["status"]

    def ended(self, container, seconds=30):
        """Waits for a container's end; its status."""
        until(lambda: self.status(container)["state"] == "CONTAINER_EXITED", "the container's end", seconds)
        return self.status(container)

    def refused(self, rules, attempt):
        """An attempt is refused by gabion with rules; on the control it succeeds. What it made is removed."""
        try:
            attempt()
            refusal = None
        except Refused as error:
            refusal = str(error)
        finally:
            self.remove_all()
        if not self.runtime.is_gabion:
            equal(refusal, None, "the control's refusal")
            return
        if refusal is None:
            raise Failed(f"was not refused by {', '.join(rules)}")
        contains(refusal, "gabion refused ")
        for rule in rules:
            contains(refusal, rule)
        name = refusal.split("gabion refused ", 1)[1].split(":", 1)[0]
        with open(LEDGER, encoding="utf-8") as file:
            verdicts = [line["verdict"] for line in map(json.loads, file) if name in json.dumps(line)]
        equal(verdicts[-1:], ["refused"], "the last verdict in the ledger")
        self.nothing_left()

    def remove_all(self):
        """Removes every pod, as a node that is drained."""
        for pod in self.call("ListPodSandbox")["items"]:
            self.remove(pod["id"])

    def remove(self, pod):
        """Stops and removes a pod. containerd may find a container at its very end and lose the connection to its
        shim then; the kubelet tries again, and so does this, once."""
        try:
            self.call("StopPodSandbox", pod_sandbox_id=pod)
        except Refused as error:
            if "ttrpc: closed" not in str(error):
                raise
            self.call("StopPodSandbox", pod_sandbox_id=pod)
        self.call("RemovePodSandbox", pod_sandbox_id=pod)

    def nothing_left(self):
        """Waits for shims to end, and fails if anything stays."""
        equal(self.call("ListPodSandbox")["items"] + self.call("ListContainers")["containers"], [], "pods, containers")
        until(lambda: not self.host.processes(), "the end of the shims")
        self.host.expect_nothing_left(["/run/containerd/runc/k8s.io", "/run/containerd/gabion/k8s.io",
                                       f"{ELSEWHERE}/k8s.io"],
                                      ["/run/containerd/io.containerd.runtime.v2.task/k8s.io",
                                       "/run/containerd/io.containerd.grpc.v1.cri"])
        equal(os.listdir("/run/netns") if os.path.isdir("/run/netns") else [], [], "network namespaces")

    def gabion_only(self):
        if not self.runtime.is_gabion:
            raise Skip("a promise of gabion alone")


class Pod:
    """One pod; removed with all that is in it at the end of a `with`."""

    def __init__(self, cri, name):
        self.cri, self.name = cri, name
        self.id = self.config = self.options = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.cri.remove(self.id)

    def create(self, *command, name=None, security=None, resources=None, **more):
        """Makes a container; its id."""
        name = name or self.cri.name()
        config = {
            "metadata": {"name": name, "attempt": 0}, "image": {"image": busybox.NAME}, "command": command,
            "log_path": f"{name}.log", "labels": {"container": name},
            "linux": {"resources": resources or {},
                      "security_context": {"namespace_options": self.options, "masked_paths": MASKED,
                                           "readonly_paths": READ_ONLY,
                                           "seccomp": {"profile_type": "RuntimeDefault"}, **(security or {})}},
            **more,
        }
        return self.cri.call("CreateContainer", pod_sandbox_id=self.id, config=config,
                             sandbox_config=self.config)["container_id"]

    def run(self, *command, **options):
        """Makes and starts a container; its id."""
        container = self.create(*command, **options)
        self.cri.call("StartContainer", container_id=container)
        return container

    def output(self, script, **options):
        """Runs a script in a container of the pod to its end, which has to be 0; what it wrote."""
        container = self.run("sh", "-c", script, **options)
        status = self.cri.ended(container)
        lines = self.log(container)
        if status["exit_code"] != 0:
            raise Failed(f"{script!r} ended with {status['exit_code']} {status['message']!r}: {lines}")
        return "\n".join(text for _, text in lines)

    def log(self, container):
        """The lines of a container's log: stream and text."""
        path = self.cri.status(container)["log_path"]
        with open(path, encoding="utf-8") as file:
            lines = [line.rstrip("\n").split(" ", 3) for line in file]
        return [(stream, text) for _, stream, _, text in lines]

    def status(self):
        return self.cri.call("PodSandboxStatus", pod_sandbox_id=self.id)["status"]


def apparmor():
    return os.path.isdir("/sys/kernel/security/apparmor")


def volume_of(name, owner=0):
    """An emptyDir where the kubelet has it."""
    path = f"/var/lib/kubelet/pods/uid/volumes/kubernetes.io~empty-dir/{name}"
    os.makedirs(path)
    os.chown(path, owner, owner)
    return path


def mount_of(path, inside, **more):
    """A mount as the kubelet asks for it."""
    return {"container_path": inside, "host_path": path, **more}


@suite.check
def the_node_is_ready(cri):
    version = cri.call("Version")
    equal((version["runtime_name"], version["runtime_api_version"]), ("containerd", "v1"), "version")
    conditions = {condition["type"]: condition["status"] for condition in cri.call("Status")["status"]["conditions"]}
    equal((conditions["RuntimeReady"], conditions["NetworkReady"]), (True, True), "conditions")


@suite.check
def a_pod_is_made_stopped_and_removed(cri):
    for handler in ["plain", "restricted"]:
        with cri.run_pod(handler) as pod:
            status = pod.status()
            equal((status["state"], status["runtime_handler"], status["metadata"]["name"]),
                  ("SANDBOX_READY", handler, pod.name), "state, handler, name")
            contains(status["network"]["ip"], "10.88.")
            listed = cri.call("ListPodSandbox", filter={"label_selector": {"app": pod.name}})["items"]
            equal([item["id"] for item in listed], [pod.id], "pods with the label")
            cri.call("StopPodSandbox", pod_sandbox_id=pod.id)
            equal(pod.status()["state"], "SANDBOX_NOTREADY", "state")
            # Both may come again.
            cri.call("StopPodSandbox", pod_sandbox_id=pod.id)
        cri.call("RemovePodSandbox", pod_sandbox_id=pod.id)
        cri.nothing_left()


@suite.check
def a_handler_that_is_not_configured(cri):
    try:
        cri.run_pod("no-such-handler")
    except Refused as error:
        contains(str(error), "no-such-handler")
        return cri.nothing_left()
    raise Failed("a pod with an unknown handler runs")


@suite.check
def a_containers_way_from_created_to_exited(cri):
    with cri.run_pod() as pod:
        container = pod.create("sh", "-c", "sleep 0.5")
        status = cri.status(container)
        equal((status["state"], status["started_at"], status["finished_at"]), ("CONTAINER_CREATED", 0, 0), "created")
        cri.call("StartContainer", container_id=container)
        equal(cri.status(container)["state"], "CONTAINER_RUNNING", "state")
        status = cri.ended(container)
        equal((status["exit_code"], status["reason"]), (0, "Completed"), "exit code, reason")
        equal(status["created_at"] <= status["started_at"] < status["finished_at"], True, "order of the times")
        cri.call("RemoveContainer", container_id=container)
        cri.call("RemoveContainer", container_id=container)
        equal(cri.call("ListContainers", filter={"id": container})["containers"], [], "containers")
    cri.nothing_left()


@suite.check
def exit_codes_and_reasons(cri):
    with cri.run_pod() as pod:
        for script, code, reason in [("exit 42", 42, "Error"), ("kill -KILL $$; kill -TERM $$; sleep 9", 143, "Error")]:
            # The first process of a namespace is not killed by itself.
            command = script if code == 42 else "sh -c 'kill -TERM $$'; exit $?"
            status = cri.ended(pod.run("sh", "-c", command))
            equal((status["exit_code"], status["reason"]), (code, reason), f"{command!r}: exit code, reason")


@suite.check
def a_command_that_is_not_there(cri):
    with cri.run_pod() as pod:
        for command, why in [("no-such-command", "executable file not found in $PATH"),
                             ("/no/such/command", "no such file or directory"),
                             ("/etc/not-executable", "permission denied")]:
            container = pod.create(command)
            try:
                cri.call("StartContainer", container_id=container)
            except Refused as error:
                contains(str(error), why)
            else:
                raise Failed(f"{command} was started")
            status = cri.status(container)
            equal((status["state"], status["exit_code"], status["reason"]), ("CONTAINER_EXITED", 128, "StartError"),
                  "state, exit code, reason")
            contains(status["message"], why)


@suite.check
def stop_is_sigterm_then_sigkill(cri):
    with cri.run_pod() as pod:
        polite = pod.run("sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done")
        until(lambda: pod.log(polite), "its handler")
        cri.call("StopContainer", container_id=polite, timeout=20)
        equal(cri.status(polite)["exit_code"], 7, "exit code")
        deaf = pod.run("sleep", "1000")
        begin = time.monotonic()
        cri.call("StopContainer", container_id=deaf, timeout=1)
        equal(cri.status(deaf)["exit_code"], 137, "exit code")
        equal(time.monotonic() - begin < 20, True, "soon")
        # As the kubelet does for one that has ended.
        cri.call("StopContainer", container_id=deaf, timeout=1)


@suite.check
def the_log_has_both_streams_and_is_reopened(cri):
    with cri.run_pod() as pod:
        container = pod.run("sh", "-c", "echo out; echo err >&2; while ! test -e /go; do sleep 0.1; done; echo later")
        until(lambda: len(pod.log(container)) == 2, "two lines")
        equal(sorted(pod.log(container)), [("stderr", "err"), ("stdout", "out")], "lines")
        path = cri.status(container)["log_path"]
        os.rename(path, path + ".1")
        cri.call("ReopenContainerLog", container_id=container)
        cri.exec(container, "touch", "/go")
        cri.ended(container)
        equal(pod.log(container), [("stdout", "later")], "lines of the new file")


def sleepers(cri, container):
    """How many processes `sleep` a container sees."""
    return len(cri.exec(container, "pidof", "sleep")[0].split())


@suite.check
def probes_that_exec(cri):
    with cri.run_pod() as pod:
        container = pod.run("sleep", "1000")
        equal(cri.exec(container, "sh", "-c", "echo out; echo err >&2; exit 3"), ("out\n", "err\n", 3), "a probe")
        equal(cri.exec(container, "true", timeout=10), ("", "", 0), "a probe that succeeds")
        try:
            cri.exec(container, "sleep", "1000", timeout=1)
            raise Failed("a probe went on beyond its timeout")
        except Refused as error:
            contains(str(error), "context deadline exceeded")
        until(lambda: sleepers(cri, container) == 1, "the end of the late probe")
        try:
            cri.exec(container, "no-such-probe")
            raise Failed("a probe that is not there was run")
        except Refused as error:
            contains(str(error), "executable file not found in $PATH")
        with concurrent.futures.ThreadPoolExecutor(10) as pool:
            found = list(pool.map(lambda n: cri.exec(container, "sh", "-c", f"exit {n}")[2], range(10)))
        equal(found, list(range(10)), "ten probes at once")
    cri.nothing_left()


@suite.check
def a_container_is_watched_with_its_probes(cri):
    # Its id is known to nobody before it is created.
    name = cri.name()
    learning = Learning(cri.runtime, cri.host.path("learnt"),
                        "--annotation", f"io.kubernetes.cri.container-name={name}",
                        "--annotation", "io.kubernetes.cri.sandbox-namespace=default")
    try:
        with cri.run_pod() as pod:
            container = pod.run("sh", "-c", "touch /a; chown 5:5 /a; while ! test -e /go; do sleep 0.05; done", name=name)
            equal(cri.exec(container, "sh", "-c", "mkdir /b; touch /go"), ("", "", 0), "a probe")
            report = learning.end()
    finally:
        learning.kill()
    learning.expect(report, container, ["chown", "mkdir"])
    cri.nothing_left()


@suite.check
def an_exec_with_streams(cri):
    with cri.run_pod() as pod:
        container = pod.run("sleep", "1000")
        url = cri.call("Exec", container_id=container, cmd=["sh", "-c", "read a; echo $a; echo err >&2; exit 5"],
                       stdin=True, stdout=True, stderr=True)["url"]
        streams = Streams(url)
        streams.send(0, b"typed\n")
        equal(streams.process(), ("typed\n", "err\n", 5), "out, err, status")


@suite.check
def an_exec_on_a_terminal_that_is_resized(cri):
    with cri.run_pod() as pod:
        container = pod.run("sleep", "1000")
        script = "test -t 0 && echo terminal; read a; stty size; exit 6"
        url = cri.call("Exec", container_id=container, cmd=["sh", "-c", script], stdin=True, stdout=True,
                       tty=True)["url"]
        streams = Streams(url)
        streams.until(1, b"terminal")
        streams.send(4, json.dumps({"Width": 101, "Height": 33}).encode())
        time.sleep(0.3)
        streams.send(0, b"go\n")
        out, _, status = streams.process()
        contains(out, "33 101")
        equal(status, 6, "exit status")


@suite.check
def attach_to_a_running_container(cri):
    with cri.run_pod() as pod:
        container = pod.run("sh", "-c", "while read a; do echo got $a; done", stdin=True)
        url = cri.call("Attach", container_id=container, stdin=True, stdout=True, stderr=True)["url"]
        streams = Streams(url)
        for word in [b"one", b"two"]:
            streams.send(0, word + b"\n")
            streams.until(1, b"got " + word)
        streams.close()
        equal(cri.status(container)["state"], "CONTAINER_RUNNING", "state after the one who watched has left")
        # What was said is in the log too, and the next may come.
        equal(pod.log(container), [("stdout", "got one"), ("stdout", "got two")], "log")


@suite.check
def attach_to_a_terminal(cri):
    with cri.run_pod() as pod:
        container = pod.run("sh", "-c", "read a; stty size; exit 4", stdin=True, tty=True)
        streams = Streams(cri.call("Attach", container_id=container, stdin=True, stdout=True, tty=True)["url"])
        streams.send(4, json.dumps({"Width": 77, "Height": 22}).encode())
        time.sleep(0.3)
        streams.send(0, b"go\n")
        streams.until(1, b"22 77")
        streams.close()
        equal(cri.ended(container)["exit_code"], 4, "exit code")


@suite.check
def stdin_that_is_closed_once(cri):
    with cri.run_pod() as pod:
        container = pod.run("sh", "-c", "cat; echo the end", stdin=True, stdin_once=True)
        streams = Streams(cri.call("Attach", container_id=container, stdin=True, stdout=True, stderr=True)["url"])
        streams.send(0, b"typed\n")
        streams.until(1, b"typed")
        streams.close()
        equal(cri.ended(container)["exit_code"], 0, "exit code")
        equal(pod.log(container)[-1], ("stdout", "the end"), "the last line")


@suite.check
def a_port_is_forwarded(cri):
    with cri.run_pod() as pod:
        container = pod.run("sh", "-c", "echo served >/tmp/index.html; exec httpd -f -p 80 -h /tmp")
        until(lambda: cri.exec(container, "wget", "-q", "-O", "-", "http://127.0.0.1/")[0] == "served\n", "the server")
        url = cri.call("PortForward", pod_sandbox_id=pod.id, port=[80])["url"]
        streams = Streams(url, "port=80")
        streams.send(0, b"GET /index.html HTTP/1.0\r\n\r\n")
        contains(streams.until(0, b"served"), b"200 OK")
        streams.close()


@suite.check
def init_containers_one_after_the_other(cri):
    volume = volume_of("init")
    mounts = [mount_of(volume, "/shared")]
    with cri.run_pod() as pod:
        for step in ["one", "two"]:
            pod.output(f"echo {step} >>/shared/steps", name=f"init-{step}", mounts=mounts)
        equal(pod.output("cat /shared/steps", mounts=mounts), "one\ntwo", "what init containers left")


@suite.check
def sidecars_share_network_host_name_and_ipc(cri):
    with cri.run_pod() as pod:
        server = pod.run("sh", "-c", "echo served >/tmp/index.html; echo shared >/dev/shm/file; exec httpd -f -p 80 -h /tmp")
        until(lambda: cri.exec(server, "test", "-e", "/dev/shm/file")[2] == 0, "the server")
        links = "readlink /proc/1/ns/ipc; readlink /proc/1/ns/net"
        script = f"cat /dev/shm/file; hostname; wget -q -O - http://127.0.0.1/; {links}"
        found = pod.output(script).splitlines()
        equal(found[:3], ["shared", pod.name, "served"], "shared file, host name, answer")
        theirs = cri.exec(server, "sh", "-c", links)[0].splitlines()
        equal(found[3:], theirs, "namespaces")
        others = [os.readlink(f"/proc/self/ns/{name}") for name in ["ipc", "net"]]
        equal([name for name in theirs if name in others], [], "namespaces of the host")
        address = pod.status()["network"]["ip"]
        with cri.run_pod() as other:
            equal(other.output(f"wget -q -O - http://{address}/"), "served", "answer to another pod")


@suite.check
def processes_are_the_containers_own_or_the_pods(cri):
    with cri.run_pod() as pod:
        pod.run("sleep", "1001")
        equal(pod.output("pidof sleep | wc -w"), "0", "processes of others")
    with cri.run_pod(namespaces={"pid": POD}) as pod:
        pod.run("sleep", "1001")
        found = pod.output("tr '\\0' ' ' </proc/1/cmdline; echo; pidof sleep | wc -w").splitlines()
        equal(found, ["/pause -P ", "1"], "the first process, and the other container's")
    with cri.run_pod() as pod:
        target = pod.run("sleep", "1001")
        # What `kubectl debug --target` does.
        options = {**pod.options, "pid": TARGET, "target_id": target}
        equal(pod.output("tr '\\0' ' ' </proc/1/cmdline", security={"namespace_options": options}), "sleep 1001 ",
              "the target's first process")
    cri.nothing_left()


@suite.check
def orphans_of_a_shared_pid_namespace_are_reaped(cri):
    with cri.run_pod(namespaces={"pid": POD}) as pod:
        container = pod.run("sh", "-c", "sh -c 'sleep 0.2 & exit 0'; exec sleep 1000")
        time.sleep(1)
        equal(cri.exec(container, "sh", "-c", "grep -l '^State:.Z' /proc/[0-9]*/status | wc -l")[0], "0\n", "zombies")
        # All of a container ends with its first process, though the pause container's namespace stays.
        second = pod.run("sh", "-c", "setsid sleep 1003 & sleep 0.5")
        cri.ended(second)
        equal(sleepers(cri, container), 1, "processes `sleep` after the end of a container that had one more")


@suite.check
def what_a_pod_tells_its_containers(cri):
    with cri.run_pod() as pod:
        hosts = cri.host.path("hosts")
        with open(hosts, "w", encoding="utf-8") as file:
            file.write("127.0.0.1 localhost\n")
        script = "hostname; cat /etc/resolv.conf; cat /etc/hosts; echo $A; pwd"
        found = pod.output(script, envs=[{"key": "A", "value": "b c"}], working_dir="/home/app",
                           mounts=[mount_of(hosts, "/etc/hosts")])
        equal(found, f"{pod.name}\nsearch default.svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"
                     "127.0.0.1 localhost\nb c\n/home/app")


@suite.check
def volumes_writable_read_only_and_propagated(cri):
    volume = volume_of("volume")
    with cri.run_pod() as pod:
        pod.output("echo once >/data/file", mounts=[mount_of(volume, "/data")])
        equal(pod.output("cat /data/file; ! touch /data/x 2>/dev/null", mounts=[mount_of(volume, "/data", readonly=True)]),
              "once", "a read-only volume")
        watcher = pod.run("sh", "-c", "while ! test -e /data/mounted/late; do sleep 0.1; done",
                          mounts=[mount_of(volume, "/data", propagation="PROPAGATION_HOST_TO_CONTAINER")])
        os.mkdir(os.path.join(volume, "mounted"))
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", os.path.join(volume, "mounted")], check=True)
        try:
            with open(os.path.join(volume, "mounted", "late"), "w", encoding="utf-8"):
                pass
            equal(cri.ended(watcher)["exit_code"], 0, "exit code of the one that waited for a mount")
        finally:
            subprocess.run(["umount", os.path.join(volume, "mounted")], check=True)


@suite.check
def user_groups_and_read_only_root(cri):
    with cri.run_pod(security={"supplemental_groups": [77]}) as pod:
        security = {"run_as_user": {"value": 1000}, "run_as_group": {"value": 2000}, "supplemental_groups": [77]}
        equal(pod.output("id -u; id -g; id -G", security=security), "1000\n2000\n2000 77", "ids")
        equal(pod.output("id -un", security={"run_as_username": "app"}), "app", "name")
        equal(pod.output("touch /new 2>&1; true", security={"readonly_rootfs": True}),
              "touch: /new: Read-only file system", "a read-only root")


def status_lines(pod, fields, **options):
    """Fields of /proc/self/status in a container of a pod."""
    text = pod.output("cat /proc/self/status", **options)
    status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    return [status[field] for field in fields]


@suite.check
def capabilities_are_dropped_and_added(cri):
    with cri.run_pod() as pod:
        fields = ["CapEff", "CapBnd"]
        equal(status_lines(pod, fields), ["00000000a80425fb"] * 2, "the default")
        dropped = {"capabilities": {"drop_capabilities": ["ALL"]}}
        equal(status_lines(pod, fields, security=dropped), ["0000000000000000"] * 2, "without any")
        added = {"capabilities": {"drop_capabilities": ["ALL"], "add_capabilities": ["NET_BIND_SERVICE"]}}
        equal(status_lines(pod, fields, security=added), ["0000000000000400"] * 2, "with one")


@suite.check
def no_new_privileges_as_asked(cri):
    with cri.run_pod() as pod:
        equal(status_lines(pod, ["NoNewPrivs"], security={"no_new_privs": True}), ["1"], "allowPrivilegeEscalation: false")
    if cri.runtime.is_gabion:
        with cri.run_pod("restricted") as pod:
            asked = {**RESTRICTED, "no_new_privs": False}
            equal(status_lines(pod, ["NoNewPrivs"], security=asked, resources=LIMITS), ["1"], "hardened")


@suite.check
def seccomp_profiles(cri):
    profile = cri.host.path("seccomp", "no-mkdir.json")
    with open(profile, "w", encoding="utf-8") as file:
        json.dump({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}, file)
    with cri.run_pod() as pod:
        equal(status_lines(pod, ["Seccomp"]), ["2"], "RuntimeDefault")
        local = {"seccomp": {"profile_type": "Localhost", "localhost_ref": profile}}
        equal(pod.output("mkdir /tmp/x 2>&1; true", security=local),
              "mkdir: can't create directory '/tmp/x': Operation not supported", "Localhost")
        found = status_lines(pod, ["Seccomp"], security={"seccomp": {"profile_type": "Unconfined"}})
        # gabion has a filter of its own for what comes without one.
        equal(found, ["2" if cri.runtime.is_gabion else "0"], "Unconfined")


@suite.check
def apparmor_profiles(cri):
    if not apparmor():
        raise Skip("this kernel runs without AppArmor")
    with cri.run_pod() as pod:
        contains(pod.output("cat /proc/self/attr/current"), "cri-containerd.apparmor.d (enforce)")


@suite.check
def masked_and_read_only_paths(cri):
    with cri.run_pod() as pod:
        found = pod.output("wc -c </proc/keys; ls /sys/firmware; ! sh -c 'echo 1 >/proc/sys/vm/drop_caches' 2>&1")
        contains(found, "0\n")
        contains(found, "Read-only file system")


@suite.check
def sysctls_of_the_pod(cri):
    with cri.run_pod(linux={"sysctls": {"net.ipv4.ip_unprivileged_port_start": "80"}}) as pod:
        equal(pod.output("cat /proc/sys/net/ipv4/ip_unprivileged_port_start"), "80", "the sysctl")


@suite.check
def limits_are_set_and_updated(cri):
    with cri.run_pod() as pod:
        container = pod.run("sleep", "1000", resources=LIMITS)
        path = f"{CGROUP}/{container}"
        equal(cgroup_value("memory", path, "memory.limit_in_bytes", "memory.max"), str(64 << 20), "memory limit")
        equal(cgroup_value("cpu", path, "cpu.cfs_quota_us", "cpu.max").split()[0], "50000", "cpu quota")
        cri.call("UpdateContainerResources", container_id=container,
                 linux={"memory_limit_in_bytes": 128 << 20, "cpu_period": 100000, "cpu_quota": 70000})
        equal(cgroup_value("memory", path, "memory.limit_in_bytes", "memory.max"), str(128 << 20), "memory limit")
        equal(cgroup_value("cpu", path, "cpu.cfs_quota_us", "cpu.max").split()[0], "70000", "cpu quota")
        equal(cri.exec(container, "true")[2], 0, "a probe after it")


@suite.check
def out_of_memory_is_told(cri):
    with cri.run_pod() as pod:
        # The kernel's killer looks for the largest: a child of the first process, or that one itself.
        container = pod.run("sh", "-c", "a=x; while :; do a=$a$a$a$a; done",
                            resources={"memory_limit_in_bytes": 16 << 20})
        status = cri.ended(container)
        equal((status["exit_code"], status["reason"]), (137, "OOMKilled"), "exit code, reason")


@suite.check
def statistics_come_from_the_cgroup(cri):
    with cri.run_pod() as pod:
        containers = [pod.run("sh", "-c", "head -c 4000000 /dev/zero | tail -c 4000000 >/dev/null; exec sleep 1000",
                              resources=LIMITS) for _ in range(2)]
        # containerd asks the shim, and its own snapshotter every ten seconds.
        until(lambda: int(stats(cri, containers[0])["cpu"]["usage_core_nano_seconds"]["value"]) > 0, "use of the CPU")
        found = stats(cri, containers[0])
        equal(found["attributes"]["id"], containers[0], "id")
        equal(0 < found["memory"]["working_set_bytes"]["value"] < 64 << 20, True, "working set")
        listed = cri.call("ListContainerStats", filter={"pod_sandbox_id": pod.id})["stats"]
        equal(sorted(item["attributes"]["id"] for item in listed), sorted(containers), "containers with statistics")


def stats(cri, container):
    return cri.call("ContainerStats", container_id=container)["stats"]


@suite.check
def a_restricted_pod_runs(cri):
    mounts = [mount_of(volume_of("restricted", owner=1000), "/data")]
    with cri.run_pod("restricted", security={"run_as_user": {"value": 1000}}) as pod:
        pod.output("echo from init >/data/file", security=RESTRICTED, resources=LIMITS, mounts=mounts)
        sidecar = pod.run("sleep", "1000", security=RESTRICTED, resources=LIMITS)
        found = pod.output("cat /data/file; id -u; grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/self/status",
                           security=RESTRICTED, resources=LIMITS, mounts=mounts)
        equal(found, "from init\n1000\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2", "found")
        equal(cri.exec(sidecar, "id", "-u"), ("1000\n", "", 0), "a probe")
        cri.call("UpdateContainerResources", container_id=sidecar,
                 linux={"memory_limit_in_bytes": 96 << 20, "cpu_period": 100000, "cpu_quota": 60000})
    cri.nothing_left()


@suite.check
def a_handlers_options_reach_the_runtime(cri):
    for handler in ["optioned", "inline"] if cri.shim and cri.version() >= (1, 7) else ["optioned"]:
        with cri.run_pod(handler, security={"run_as_user": {"value": 1000}}) as pod:
            container = pod.run("sleep", "1000", security=RESTRICTED, resources=LIMITS)
            for name in [pod.id, container]:
                usual = [place for place in ["runc", "gabion"] if os.path.exists(f"/run/containerd/{place}/k8s.io/{name}")]
                equal((os.path.exists(f"{ELSEWHERE}/k8s.io/{name}"), usual), (True, []), f"{handler}: state there, in the usual")
            equal(cri.exec(container, "id", "-u"), ("1000\n", "", 0), "a probe, which finds it there")
            if cri.runtime.is_gabion:
                try:
                    pod.run("true")
                    raise Failed(f"{handler}: what restricted does not allow was not refused")
                except Refused as error:
                    contains(str(error), "profile restricted")
        cri.nothing_left()


def attempt(cri, handler="plain", pod_options=None, **options):
    """A pod, and a container in it."""
    def run_it():
        pod = cri.run_pod(handler, **(pod_options or {}))
        return pod.run("true", **options)
    return run_it


@suite.check
def refused_what_restricted_does_not_allow(cri):
    cases = [(["PRV-02", "CAP-04"], {"security": {**RESTRICTED, "run_as_user": {"value": 0}, "capabilities": {}}}),
             (["MNT-03"], {"security": RESTRICTED, "mounts": [mount_of("/srv", "/host")]})]
    for rules, options in cases:
        cri.refused(rules, attempt(cri, "restricted", **options))


@suite.check
def refused_privileged_pod(cri):
    # With containerd 2 the pod's sandbox is refused already: its /sys may be written to. With 1, the container is.
    cri.refused(["MNT-07"], attempt(cri, pod_options={"security": {"privileged": True}}, security={"privileged": True}))


@suite.check
def refused_namespaces_of_the_node(cri):
    for mode, rule in [("network", "NS-04"), ("pid", "NS-02"), ("ipc", "NS-03")]:
        for handler in ["plain", "restricted"]:
            options = {"namespaces": {mode: NODE}}
            cri.refused([rule], attempt(cri, handler, pod_options=options, security=RESTRICTED, resources=LIMITS))


@suite.check
def refused_sockets_and_directories_of_the_node(cri):
    for path, rule in [(SOCKET, "MNT-02"), ("/", "MNT-01"), ("/proc", "MNT-01")]:
        cri.refused([rule], attempt(cri, mounts=[mount_of(path, "/host")]))


@suite.check
def refused_capabilities_devices_and_sysctls(cri):
    cri.refused(["CAP-03:SYS_ADMIN"], attempt(cri, security={"capabilities": {"add_capabilities": ["SYS_ADMIN"]}}))
    device = {"container_path": "/dev/kmsg", "host_path": "/dev/kmsg", "permissions": "rwm"}
    cri.refused(["DEV-02"], attempt(cri, devices=[device]))
    cri.refused(["SYS-02"], attempt(cri, "restricted", pod_options={"linux": {"sysctls": {"net.ipv4.ip_forward": "1"}}}))


@suite.check
def proc_mount_unmasked_is_masked_all_the_same(cri):
    with cri.run_pod() as pod:
        found = pod.output("grep ' /proc/' /proc/self/mounts | wc -l", security={"masked_paths": [], "readonly_paths": []})
        equal(int(found) > 5, cri.runtime.is_gabion, f"{found} mounts over parts of /proc are many")


@suite.check
def refused_propagation_to_the_node(cri):
    bad = mount_of(volume_of("propagated"), "/data", propagation="PROPAGATION_BIDIRECTIONAL")
    cri.refused(["MNT-"], attempt(cri, mounts=[bad]))


@suite.check
def a_refused_container_leaves_its_pod(cri):
    cri.gabion_only()
    with cri.run_pod() as pod:
        good = pod.run("sleep", "1000")
        bad = pod.create("true", security={"capabilities": {"add_capabilities": ["SYS_ADMIN"]}})
        try:
            cri.call("StartContainer", container_id=bad)
            raise Failed("it was started")
        except Refused as error:
            contains(str(error), "CAP-03:SYS_ADMIN")
        status = cri.status(bad)
        # The kubelet shows reason and message of a container that could not be started.
        equal((status["state"], status["reason"]), ("CONTAINER_EXITED", "StartError"), "state, reason")
        contains(status["message"], "gabion refused ")
        equal((cri.status(good)["state"], cri.exec(good, "true")[2]), ("CONTAINER_RUNNING", 0), "the other container")
    cri.nothing_left()


def shims(cri):
    return [pid for pid, _ in cri.host.processes()]


@suite.check
def a_pods_containers_share_one_shim(cri):
    with cri.run_pod() as pod:
        for _ in range(3):
            pod.run("sleep", "1000")
        equal(len(shims(cri)), 1, "shims of a pod with three containers")


@suite.check
def containerd_is_restarted_under_a_pod(cri):
    for number in [signal.SIGTERM, signal.SIGKILL]:
        with cri.run_pod() as pod:
            stays = pod.run("sleep", "1000")
            ends = pod.run("sh", "-c", "while ! test -e /dev/shm/go; do sleep 0.1; done; exit 8")
            keepers = shims(cri)
            init = next(pid for pid in os.listdir("/proc") if pid.isdigit() and is_of(pid, stays))
            cri.daemon.send_signal(number)
            cri.daemon.wait()
            # Meanwhile one of them ends.
            with open(f"/proc/{init}/root/dev/shm/go", "w", encoding="utf-8"):
                pass
            time.sleep(0.5)
            cri.start_daemon()
            equal((pod.status()["state"], cri.status(stays)["state"]), ("SANDBOX_READY", "CONTAINER_RUNNING"), "states")
            equal(cri.ended(ends)["exit_code"], 8, "exit code of the one that ended meanwhile")
            equal(cri.exec(stays, "echo", "in"), ("in\n", "", 0), "a probe")
            equal(shims(cri), keepers, "shims")
            equal(pod.output("echo new"), "new", "a new container in the pod")
        cri.nothing_left()


def is_of(pid, container):
    """Whether a process is in a container's cgroup."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8") as file:
            return container in file.read()
    except OSError:
        return False


def processes_of(*containers):
    return [pid for pid in os.listdir("/proc") if pid.isdigit() and any(is_of(pid, one) for one in containers)]


@suite.check
def a_killed_shim_leaves_no_process_and_no_false_status(cri):
    with cri.run_pod() as pod:
        containers = [pod.run("sh", "-c", "sleep 1000 & sleep 1000") for _ in range(2)]
        with cri.run_pod() as other:
            unharmed = other.run("sleep", "1000")
            keeper = next(pid for pid, line in cri.host.processes() if pod.id in line)
            os.kill(keeper, signal.SIGKILL)
            for container in containers:
                equal(cri.ended(container)["exit_code"] != 0, True, "exit code is a failure's")
            until(lambda: pod.status()["state"] == "SANDBOX_NOTREADY", "a pod that is not ready")
            until(lambda: not processes_of(pod.id, *containers), "the end of the pod's processes")
            equal((other.status()["state"], cri.status(unharmed)["state"]), ("SANDBOX_READY", "CONTAINER_RUNNING"),
                  "the other pod")
    cri.nothing_left()


@suite.check
def a_pod_whose_pause_container_is_killed(cri):
    with cri.run_pod() as pod:
        container = pod.run("sleep", "1000")
        for pid in processes_of(pod.id):
            os.kill(int(pid), signal.SIGKILL)
        until(lambda: pod.status()["state"] == "SANDBOX_NOTREADY", "a pod that is not ready")
        # As the kubelet goes on: everything is stopped, and the pod made again.
        cri.call("StopPodSandbox", pod_sandbox_id=pod.id)
        equal(cri.ended(container)["exit_code"], 137, "exit code")
    cri.nothing_left()


@suite.check
def a_removed_pod_takes_running_containers_with_it(cri):
    pod = cri.run_pod()
    containers = [pod.run("sh", "-c", "trap '' TERM; sleep 1000 & wait; sleep 1000") for _ in range(3)]
    cri.call("StopPodSandbox", pod_sandbox_id=pod.id)
    cri.call("RemovePodSandbox", pod_sandbox_id=pod.id)
    equal(processes_of(pod.id, *containers), [], "processes")
    cri.nothing_left()


@suite.check
def twenty_pods_at_once(cri):
    def one(number):
        with cri.run_pod() as pod:
            return pod.output(f"echo {number}")
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        equal(list(pool.map(one, range(20))), [str(number) for number in range(20)], "output")
    cri.nothing_left()


@suite.check
def nothing_is_left(cri):
    cri.nothing_left()


def main():
    runtime = Runtime()
    enter(network=True)
    cri = Cri(runtime)
    try:
        cri.start()
        version = succeed("containerd", "--version").split()
        print(f"# containerd {version[2]}, CRI v1, {succeed(runtime.path, '--version').splitlines()[0]}")
        return suite.run(cri, sys.argv[1:])
    finally:
        cri.host.end()


if __name__ == "__main__":
    sys.exit(main())
