"""What gabion's own shim promises to containerd beyond what `ctr run` shows: added to the suite by suite.py."""

import concurrent.futures
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

from harness.checks import Failed, Skip, contains, equal, in_terminal, run, succeed, until
from harness.host import CGROUPS, SYSTEMD, cgroup_value
from harness.site import decisions, policy
from images import busybox

CHECKS = []
KEY = "/var/lib/gabion/checkpoint.key"
# Of the options of a checkpoint: that it is the container's end.
EXIT = b"\x08\x01"
BUNDLES = "/run/containerd/io.containerd.runtime.v2.task/gabion-ctr"


def add(suite):
    """Registers the checks of this file."""
    for function in CHECKS:
        suite.check(function)


def check(function):
    CHECKS.append(function)
    return function


def script(ctr, name, text):
    """An executable file of the host."""
    path = ctr.host.path(name)
    with open(path, "w", encoding="utf-8") as file:
        file.write("#!/bin/sh\n" + text)
    os.chmod(path, 0o755)
    return path


def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def shim_of(name):
    """The process id of a container's shim."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        words = read(f"/proc/{pid}/cmdline").split("\0")
        if "containerd-shim-" in words[0] and "gabion-ctr" in words and name in words:
            return int(pid)
    raise Failed(f"no shim of {name}")


def init_of(ctr, name):
    """The process id of a container's first process."""
    return int(next(line.split()[1] for line in ctr.ctr("task", "ls").splitlines() if line.split()[0] == name))


def is_alive(pid):
    return " Z" not in (read(f"/proc/{pid}/stat") or " Z").rpartition(")")[2][:3]


def message(*fields):
    """A message of protobuf whose fields are text or bytes, by number."""
    coded = b""
    for number, value in fields:
        value = value.encode() if isinstance(value, str) else value
        length = b""
        size = len(value)
        while size > 127:
            length += bytes([size & 127 | 128])
            size >>= 7
        coded += bytes([number << 3 | 2]) + length + bytes([size]) + value
    return coded


class Direct:
    """Calls of a container's shim without containerd (ttrpc)."""

    def __init__(self, name):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(read(f"{BUNDLES}/{name}/address").removeprefix("unix://"))
        self.stream = -1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, method, *fields):
        self.stream += 2
        body = message((1, "containerd.task.v2.Task"), (2, method), (3, message(*fields)))
        self.socket.sendall(struct.pack(">IIBB", len(body), self.stream, 1, 0) + body)
        return self.stream

    def take(self, count):
        taken = b""
        while len(taken) < count:
            part = self.socket.recv(count - len(taken))
            if not part:
                raise Failed("the shim hung up")
            taken += part
        return taken

    def answer(self, stream):
        """The payload of the answer, which is the next one."""
        length, answered, _, _ = struct.unpack(">IIBB", self.take(10))
        body = self.take(length)
        equal(answered, stream, "the stream of the answer")
        # The status comes first: its code alone, 0, is not in the message.
        if body[:2] != b"\x0a\x00":
            raise Failed(f"the shim's answer: {body!r}")
        return body[4:]

    def call(self, method, *fields):
        return self.answer(self.send(method, *fields))


class Events:
    """containerd's events while a check runs."""

    def __init__(self, ctr):
        self.path = ctr.host.path("events")
        self.file = open(self.path, "wb")
        self.process = subprocess.Popen(["ctr", "-n", "gabion-ctr", "events"], stdout=self.file,
                                        stderr=subprocess.STDOUT)
        time.sleep(0.3)

    def topics(self, name):
        """The topics of a container's events, in order, with the event's fields."""
        found = []
        for line in read(self.path).splitlines():
            words = line.split(" ")
            topic = next((word for word in words if word.startswith("/tasks/")), None)
            if topic:
                fields = json.loads(line[line.index("{"):])
                if fields.get("container_id") == name:
                    found.append((topic, fields))
        return found

    def end(self):
        self.process.terminate()
        self.process.wait()
        self.file.close()


@check
def events_are_told_in_order(ctr):
    events = Events(ctr)
    try:
        name = ctr.name()
        ctr.run("sh", "-c", "exit 9", name=name)
        until(lambda: "/tasks/delete" in [topic for topic, _ in events.topics(name)], "the last event")
        found = events.topics(name)
    finally:
        events.end()
    equal([topic for topic, _ in found], ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"], "events")
    equal({fields.get("exit_status") for _, fields in found[2:]}, {9}, "exit status in the events")
    equal(len({fields["pid"] for _, fields in found}), 1, "process ids in the events")


@check
def a_process_killed_for_lack_of_memory_is_an_oom_event(ctr):
    events = Events(ctr)
    try:
        name = ctr.name()
        output = ctr.run("sh", "-c", "a=x; while :; do a=$a$a$a$a; done", name=name,
                         options=["--memory-limit", "16777216"])
        until(lambda: "/tasks/exit" in [topic for topic, _ in events.topics(name)], "the exit event")
        found = [topic for topic, _ in events.topics(name)]
    finally:
        events.end()
    equal(output.status, 137, f"{output}; exit status")
    contains(found, "/tasks/oom")


@check
def a_resized_terminal(ctr):
    # ctr tells the size after the start: the program may have been faster.
    slow = " ".join(ctr.words("sh", "-c", "'sleep 1; stty size'", options=["--rm", "--tty"]))
    output = in_terminal("sh", "-c", f"stty rows 33 cols 101; {slow}")
    equal((output.status, output.out), (0, "33 101\n"), "status, size")


@check
def exec_on_a_terminal(ctr):
    name = ctr.detach("sleep", "1000")
    output = in_terminal("ctr", "-n", "gabion-ctr", "task", "exec", "--tty", "--exec-id", "t1", name, "sh", "-c",
                         "test -t 0 && echo terminal; exit 6")
    ctr.remove_killed(name)
    equal((output.status, output.out), (6, "terminal\n"), "status, out")


@check
def exec_of_what_is_not_there(ctr):
    name = ctr.detach("sleep", "1000")
    output = run("ctr", "-n", "gabion-ctr", "task", "exec", "--exec-id", "e1", name, "no-such-command")
    again = run("ctr", "-n", "gabion-ctr", "task", "exec", "--exec-id", "e2", name, "echo", "fine")
    ctr.remove_killed(name)
    equal(output.status, 1, f"{output}; exit status")
    contains(output.err, "OCI runtime exec failed: ")
    contains(output.err, "executable file not found in $PATH")
    equal((again.status, again.out), (0, "fine\n"), f"{again}; the next one")
    ctr.nothing_left()


@check
def twenty_execs_at_once(ctr):
    name = ctr.detach("sleep", "1000")
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        outputs = list(pool.map(lambda n: run("ctr", "-n", "gabion-ctr", "task", "exec", "--exec-id", f"e{n}", name, "sh",
                                              "-c", f"echo {n}; exit {n}"), range(20)))
    ctr.remove_killed(name)
    equal([(output.status, output.out) for output in outputs], [(n, f"{n}\n") for n in range(20)], "status, out")


@check
def output_waits_for_a_reader_that_comes_late(ctr):
    name = ctr.detach("sleep", "1000")
    fifo = ctr.host.path("late")
    os.mkfifo(fifo)
    process = {"args": ["sh", "-c", "echo late; exit 3"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}
    with Direct(name) as shim:
        shim.call("Exec", (1, name), (2, "e1"), (5, fifo), (7, message((1, "process"), (2, json.dumps(process)))))
        shim.call("Start", (1, name), (2, "e1"))
        waiting = shim.send("Wait", (1, name), (2, "e1"))
        time.sleep(0.7)
        reader, text = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), b""
        for _ in range(200):
            try:
                part = os.read(reader, 100)
            except BlockingIOError:
                time.sleep(0.01)
                continue
            if not part:
                break
            text += part
        os.close(reader)
        answer = shim.answer(waiting)
        shim.call("Delete", (1, name), (2, "e1"))
    ctr.remove_killed(name)
    os.unlink(fifo)
    equal((text, answer[:2]), (b"late\n", b"\x08\x03"), "out, status")


@check
def processes_of_execs_are_listed_with_their_ids(ctr):
    name = ctr.detach("sleep", "1000")
    ctr.ctr("task", "exec", "-d", "--exec-id", "known", name, "sleep", "1000")
    lines = ctr.ctr("task", "ps", name)
    ctr.remove_killed(name)
    equal(len(lines.splitlines()), 3, f"{lines!r}; lines with the heading")
    contains(lines, "known")


@check
def a_megabyte_of_output_arrives(ctr):
    output = ctr.run("sh", "-c", "head -c 1048576 /dev/zero | tr '\\0' x; echo; echo end >&2")
    equal((output.status, len(output.out), output.err), (0, 1048577, "end\n"), "status, length of out, err")


@check
def output_to_a_file(ctr):
    path = ctr.host.path("logs", "out.log")
    name = ctr.detach("sh", "-c", "echo to the file; sleep 1000", options=["--log-uri", f"file://{path}"])
    until(lambda: read(path) == "to the file\n", "the line in the file")
    ctr.remove_killed(name)


@check
def output_to_a_program(ctr):
    log = ctr.host.path("logger.out")
    program = script(ctr, "logger", f"""exec 6>>{log}
echo "$CONTAINER_NAMESPACE $CONTAINER_ID $1 $2" >&6
exec 5>&-
cat <&3 >&6
echo ended >&6
""")
    name = ctr.detach("sh", "-c", "echo to the program", options=["--log-uri", f"binary://{program}?--tag=a%20b"])
    until(lambda: read(log) == f"gabion-ctr {name} --tag a b\nto the program\nended\n", f"the log, {read(log)!r}")
    until(lambda: ctr.status(name) == "STOPPED", f"the end of {name}")
    ctr.ctr("task", "rm", name)
    ctr.ctr("container", "rm", name)
    ctr.nothing_left()


@check
def a_program_for_output_that_is_not_there(ctr):
    name = ctr.name()
    output = run(*ctr.words("true", options=["-d", "--log-uri", "binary:///no/such/logger"], name=name))
    run("ctr", "-n", "gabion-ctr", "container", "rm", name)
    equal(output.status, 1, "exit status")
    contains(output.err, 'cannot start the logger "/no/such/logger"')
    ctr.nothing_left()


def cleaned_up(name):
    """Waits until containerd has cleaned up after a shim: the bundle goes last. The task is gone from the list before."""
    until(lambda: not os.path.exists(os.path.join(BUNDLES, name)), f"the end of the bundle of {name}")


@check
def a_killed_shim_leaves_no_container_and_no_false_status(ctr):
    name = ctr.detach("sh", "-c", "sleep 1000 & sleep 1000")
    init = init_of(ctr, name)
    os.kill(shim_of(name), signal.SIGKILL)
    until(lambda: ctr.status(name) != "RUNNING", "a status that is not RUNNING")
    until(lambda: not is_alive(init), "the end of the container's first process")
    cleaned_up(name)
    ctr.ctr("container", "rm", name)
    ctr.nothing_left()
    equal(os.listdir("/run/containerd/s"), [], "sockets of shims")


@check
def a_killed_shim_of_a_paused_container_leaves_nothing(ctr):
    name = ctr.detach("sleep", "1000")
    ctr.ctr("task", "pause", name)
    os.kill(shim_of(name), signal.SIGKILL)
    cleaned_up(name)
    equal(ctr.status(name), None, "status")
    ctr.ctr("container", "rm", name)
    ctr.nothing_left()


@check
def a_killed_shims_cleanup_that_takes_long_is_done_to_its_end(ctr):
    # containerd kills it after five seconds.
    called = ctr.host.path("slow-delete")
    program = script(ctr, "slow", f'case " $* " in *" delete "*) echo >{called}; sleep 8;; esac\nexec {ctr.runtime.path} "$@"\n')
    name = ctr.detach("sleep", "1000", options=options_of(ctr, f'BinaryName = "{program}"\n'))
    init = init_of(ctr, name)
    os.kill(shim_of(name), signal.SIGKILL)
    until(lambda: os.path.exists(called), "the deletion")
    until(lambda: not is_alive(init), "the end of the container's first process", 60)
    ctr.ctr("container", "rm", name)
    ctr.nothing_left()
    equal(os.listdir("/run/containerd/s"), [], "sockets of shims")
    shutil.rmtree(os.path.join(BUNDLES, name), ignore_errors=True)


def detach_in_group(ctr, group, kind="io.kubernetes.cri.sandbox-id"):
    return ctr.detach("sleep", "1000", options=["--annotation", f"{kind}={group}"])


@check
def a_pods_containers_share_a_shim(ctr):
    for kind in ["io.kubernetes.cri.sandbox-id", "io.containerd.runc.v2.group"]:
        names = [detach_in_group(ctr, "pod-1", kind) for _ in range(3)]
        other = detach_in_group(ctr, "pod-2", kind)
        equal(len(ctr.host.processes()), 2, "shims of two pods")
        first = names.pop()
        ctr.remove_killed(first)
        equal([ctr.status(name) for name in names], ["RUNNING", "RUNNING"], "status of the others")
        output = run("ctr", "-n", "gabion-ctr", "task", "exec", "--exec-id", "e1", names[0], "echo", "in")
        equal((output.status, output.out), (0, "in\n"), f"{output}; status, out")
        for name in [*names, other]:
            ctr.remove_killed(name)
        ctr.nothing_left()
        equal(os.listdir("/run/containerd/s"), [], "sockets of shims")


@check
def a_killed_shim_takes_its_whole_pod_and_no_other(ctr):
    names = [detach_in_group(ctr, "pod-1") for _ in range(3)]
    other = detach_in_group(ctr, "pod-2")
    inits = [init_of(ctr, name) for name in names]
    os.kill(shim_of(names[0]), signal.SIGKILL)
    until(lambda: not any(is_alive(init) for init in inits), "the end of the pod's processes")
    until(lambda: all(ctr.status(name) != "RUNNING" for name in names), "statuses that are not RUNNING")
    equal(ctr.status(other), "RUNNING", "status of the other pod's")
    ctr.remove_killed(other)
    for name in names:
        ctr.ctr("container", "rm", name)
    ctr.nothing_left()


def restart(ctr, number, meanwhile=lambda: None):
    ctr.daemon.send_signal(number)
    ctr.daemon.wait()
    meanwhile()
    ctr.start_daemon()


@check
def containerd_is_restarted_under_a_container(ctr):
    for number in [signal.SIGTERM, signal.SIGKILL]:
        name = ctr.detach("sleep", "1000")
        shim, init = shim_of(name), init_of(ctr, name)
        restart(ctr, number)
        equal(ctr.status(name), "RUNNING", "status")
        equal((shim_of(name), init_of(ctr, name)), (shim, init), "shim and first process")
        output = run("ctr", "-n", "gabion-ctr", "task", "exec", "--exec-id", "e1", name, "echo", "in")
        equal((output.status, output.out), (0, "in\n"), f"{output}; status, out")
        ctr.remove_killed(name)
        ctr.nothing_left()


@check
def a_container_that_ends_while_containerd_is_away(ctr):
    name = ctr.detach("sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.1; done")
    init = init_of(ctr, name)
    time.sleep(0.3)

    def end():
        os.kill(init, signal.SIGTERM)
        until(lambda: not is_alive(init), "its end")

    restart(ctr, signal.SIGTERM, end)
    equal(ctr.status(name), "STOPPED", "status")
    contains(run("ctr", "-n", "gabion-ctr", "task", "rm", name).err, "exit code 5")
    ctr.ctr("container", "rm", name)
    ctr.nothing_left()


@check
def a_shim_that_is_killed_while_containerd_is_away(ctr):
    name = ctr.detach("sleep", "1000")
    shim, init = shim_of(name), init_of(ctr, name)
    restart(ctr, signal.SIGTERM, lambda: os.kill(shim, signal.SIGKILL))
    until(lambda: ctr.status(name) is None, "the end of the task")
    until(lambda: not is_alive(init), "the end of the container's first process")
    ctr.ctr("container", "rm", name)
    ctr.nothing_left()


def options_of(ctr, text, mode=0o644):
    """The words by which ctr hands the shim a file of options."""
    path = ctr.host.path("options.toml")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, mode)
    return ["--runtime-config-path", path]


def configured(ctr, text, mode=0o644):
    """Runs a container with a file of options for the shim."""
    return ctr.run("true", options=options_of(ctr, text, mode))


@check
def options_choose_profile_policy_and_root(ctr):
    policy = ctr.host.path("policy.toml")
    with open(policy, "w", encoding="utf-8") as file:
        file.write('profile = "restricted"\n')
    for text in ['Profile = "restricted"\n', f'Policy = "{policy}"\n', 'Profile = "restricted"\nRoot = "/run/elsewhere"\n']:
        output = configured(ctr, text)
        equal(output.status, 1, f"{text!r}: {output}; exit status")
        contains(output.err, "profile restricted")
    equal(configured(ctr, 'Root = "/run/elsewhere"\n').status, 0, "exit status with another root")
    equal(os.listdir("/run/elsewhere"), ["gabion-ctr"], "what is in the other root")
    name = ctr.detach("sleep", "1000", options=options_of(ctr, 'Root = "/run/elsewhere"\n'))
    # What comes later finds it there too: the options are the container's.
    output = run("ctr", "-n", "gabion-ctr", "task", "exec", "--exec-id", "e1", name, "echo", "in")
    there = (os.path.exists(f"/run/elsewhere/gabion-ctr/{name}"), os.path.exists(f"/run/containerd/gabion/gabion-ctr/{name}"))
    ctr.remove_killed(name)
    equal((output.status, output.out, there), (0, "in\n", (True, False)), f"{output}; status, out, in the other root, in the usual")


@check
def options_choose_who_makes_cgroups(ctr):
    name = ctr.name()
    slice_name = ctr.host.cgroup_parent if SYSTEMD else "system.slice"
    options = [*options_of(ctr, "SystemdCgroup = true\n"), "--cgroup", f"{slice_name}:ctr:{name}"]
    script = "cat /proc/1/cgroup; sleep 1000"
    if not os.path.isdir("/run/systemd/system"):
        # Without systemd nobody can, and it says so: the option has arrived.
        output = ctr.run("sh", "-c", script, options=options, name=name)
        equal(output.status, 1, f"{output}; exit status")
        contains(output.err, "systemd")
        return ctr.nothing_left()
    succeed(*ctr.words("sh", "-c", script, options=["-d", *options], name=name))
    init = init_of(ctr, name)
    scope = succeed("systemctl", "show", "--value", "-p", "ActiveState", f"ctr-{name}.scope")
    inside = read(f"/proc/{init}/cgroup")
    ctr.remove_killed(name)
    equal(scope, "active", "state of the scope")
    contains(inside, f"/ctr-{name}.scope")
    equal(succeed("systemctl", "show", "--value", "-p", "LoadState", f"ctr-{name}.scope"), "not-found", "the scope afterwards")
    ctr.nothing_left()


@check
def options_choose_the_program_and_who_owns_streams(ctr):
    calls = ctr.host.path("calls")
    program = script(ctr, "another", f'echo "$@" >>{calls}\nexec {ctr.runtime.path} "$@"\n')
    text = f'BinaryName = "{program}"\nIoUid = 1000\nIoGid = 1001\nNoPivotRoot = false\n'
    output = ctr.run("stat", "-L", "-c", "%F %u %g", "/proc/self/fd/1", "/proc/self/fd/2", options=options_of(ctr, text))
    # The runtime gives them to the container's user then, as runc does; the group stays.
    equal((output.status, output.out), (0, "fifo 0 1001\n" * 2), f"{output}; status, kind and owners of the streams")
    called = [command for command in ["create", "start", "delete"]
              if any(command in line.split() for line in read(calls).splitlines())]
    equal(called, ["create", "start", "delete"], "calls of the program")
    # Not beside the shim, nor anywhere: that is said, and nothing is left.
    output = configured(ctr, 'BinaryName = "/no/such/runtime"\n')
    equal(output.status, 1, "exit status")
    contains(output.err, 'cannot start the runtime "/no/such/runtime"')
    ctr.nothing_left()


@check
def options_choose_the_root_and_the_keyring(ctr):
    found = {}
    for text in ["", "NoNewKeyring = true\n", "NoPivotRoot = true\n"]:
        name = ctr.detach("sleep", "1000", options=options_of(ctr, text))
        init = str(init_of(ctr, name))
        keyring = f"_ses.{name}" in read("/proc/keys")
        # Under a root that was moved and not exchanged lies the host's, which has this program.
        run("nsenter", "-t", init, "-m", "umount", "-l", "/")
        below = run("nsenter", "-t", init, "-m", sys.executable, "-c", "").status == 0
        ctr.remove_killed(name)
        found[text] = (keyring, below)
    shown = os.path.exists("/proc/keys")
    equal(list(found.values()), [(shown, False), (False, False), (shown, True)], "a keyring of its own, the host's root below")
    ctr.nothing_left()


@check
def options_choose_the_shims_cgroup(ctr):
    name = ctr.detach("sleep", "1000", options=options_of(ctr, 'ShimCgroup = "/gabion-shims"\n'))
    places, inside = read(f"/proc/{shim_of(name)}/cgroup").splitlines(), read(f"/proc/{init_of(ctr, name)}/cgroup")
    ctr.remove_killed(name)
    ctr.nothing_left()
    # Nobody removes what the site names; here it is the check's.
    for top in [CGROUPS, *(os.path.join(CGROUPS, entry) for entry in os.listdir(CGROUPS))]:
        if os.path.isdir(os.path.join(top, "gabion-shims")):
            os.rmdir(os.path.join(top, "gabion-shims"))
    contains("\n".join(places) + "\n", ":/gabion-shims\n")
    # Where there is no controller, nobody makes a cgroup for the container.
    with_memory = [line for line in inside.splitlines() if ":memory:" in line or line == inside.strip()]
    equal([("gabion-shims" in line) for line in with_memory], [False], f"{inside!r}; the container is in the shim's cgroup")


@check
def options_that_are_wrong_are_named(ctr):
    output = configured(ctr, 'Profil = "restricted"\n')
    equal(output.status, 1, "exit status")
    contains(output.err, "unknown field `Profil`")
    output = configured(ctr, 'Profile = "privileged"\n', mode=0o666)
    equal(output.status, 1, "exit status")
    contains(output.err, "it has to belong to root and be writable by nobody else")
    ctr.nothing_left()


def needs_checkpoints():
    if not os.path.exists(f"{CGROUPS}/cgroup.controllers"):
        raise Skip("checkpoints take cgroup version 2 alone")
    if not shutil.which("criu"):
        raise Skip("there is no criu on this host")


# What is in its memory alone, with a number that grows: in a file of the container's own, and on its output.
COUNTING = ("id=$(cat /proc/sys/kernel/random/uuid); n=0; "
            "while :; do n=$((n+1)); echo $id $n >/new; mv /new /count; echo $id $n; sleep 0.3; done")


def counted(ctr, name):
    """How far a container has counted, as it says in its own file system: its identity and the number."""
    output = run("ctr", "-n", "gabion-ctr", "task", "exec", "--exec-id", f"count{time.monotonic_ns()}", name, "cat", "/count")
    identity, number = output.out.split() or ("", "0")
    return identity, int(number)


def detached_counter(ctr):
    name = ctr.detach("sh", "-c", COUNTING, options=["--memory-limit", "67108864"])
    until(lambda: counted(ctr, name)[1] > 1, "a first number", 60)
    return name


def restore(name, image):
    """Makes a container of an image that has a checkpoint, and starts it; ctr does not stay."""
    return run("ctr", "-n", "gabion-ctr", "container", "restore", "--rw", "--live", name, image)


@check
def a_container_is_checkpointed_and_restored(ctr):
    needs_checkpoints()
    events = Events(ctr)
    try:
        name = detached_counter(ctr)
        ctr.ctr("container", "checkpoint", "--rw", "--image", "--task", name, "first")
        # It runs on, and then comes to its end.
        equal(ctr.status(name), "RUNNING", "status after the checkpoint")
        identity, before = counted(ctr, name)
        until(lambda: counted(ctr, name)[1] > before, "the next number", 60)
        ctr.remove_killed(name)
        ctr.nothing_left()
        output = restore(name, "first")
        equal(output.status, 0, f"{output}; exit status")
        equal(ctr.status(name), "RUNNING", "status after the restore")
        init = init_of(ctr, name)
        # Its memory, its file system and its streams are there again.
        with subprocess.Popen(["ctr", "-n", "gabion-ctr", "task", "attach", name], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, text=True) as attached:
            lines = [attached.stdout.readline().split() for _ in range(3)]
            in_file = counted(ctr, name)
            limit = cgroup_value("memory", ctr.host.group(name, "ctr", bare=True), "memory.limit_in_bytes", "memory.max")
            metrics = ctr.ctr("task", "metrics", name)
            ctr.ctr("task", "pause", name)
            paused = ctr.status(name)
            ctr.ctr("task", "resume", name)
            ctr.ctr("task", "kill", "-s", "SIGKILL", name)
            attached.communicate(timeout=60)
        run("ctr", "-n", "gabion-ctr", "task", "rm", name)
        until(lambda: [topic for topic, _ in events.topics(name)].count("/tasks/delete") == 2, "the last event")
        found = events.topics(name)
    finally:
        events.end()
    ctr.ctr("container", "rm", name)
    ctr.ctr("image", "rm", "first")
    numbers = [int(line[1]) for line in lines]
    equal({line[0] for line in lines}, {identity}, "identity in its output")
    equal(numbers, list(range(numbers[0], numbers[0] + 3)), "numbers")
    equal((in_file[0], in_file[1] >= numbers[-1], limit), (identity, True, "67108864"), f"{in_file}; identity, number, limit")
    contains(metrics, "pids.current")
    equal(paused, "PAUSED", "status when paused")
    topics = [topic for topic, _ in found]
    contains(topics, "/tasks/checkpointed")
    again = [(topic, fields) for topic, fields in found[topics.index("/tasks/delete") + 1:]
             if topic in ("/tasks/create", "/tasks/start", "/tasks/delete") or fields.get("id") == name]
    equal([topic for topic, _ in again], ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"], "its second life")
    equal([fields.get("pid", 0) for _, fields in again], [0, init, init, init], "process ids in the events")
    equal(again[2][1]["exit_status"], 137, "exit status in the event")
    contains(again[0][1], "checkpoint")
    ctr.nothing_left()


def checkpointed(name, path, *options):
    """Asks the shim for a checkpoint with options, which ctr sends to runc's alone."""
    kind = "containerd.runc.v1.CheckpointOptions"
    with Direct(name) as shim:
        shim.call("Checkpoint", (1, name), (2, path), (3, message((1, kind), (2, b"".join(options)))))


@check
def a_checkpoint_can_end_a_container(ctr):
    needs_checkpoints()
    name = detached_counter(ctr)
    bundle, images = os.path.join(BUNDLES, name), ctr.host.path("images")
    # A path beside that of the call: containerd before 1.7 would make an image of nothing.
    try:
        checkpointed(name, images, message((8, ctr.host.path("elsewhere"))))
        raise Failed("a second path was taken")
    except Failed as failed:
        contains(str(failed), "a path for images is not supported by this containerd")
    equal(ctr.status(name), "RUNNING", "status")
    checkpointed(name, images, EXIT)
    until(lambda: ctr.status(name) == "STOPPED", f"the end of {name}", 60)
    equal([os.path.exists(os.path.join(images, file)) for file in ["inventory.img", "gabion.list", "dump.log"]],
          [True, True, False], "images, their list, CRIU's log beside them")
    left = [entry for entry in os.listdir(bundle) if entry.startswith(("criu", "dump"))]
    ctr.ctr("task", "rm", name)
    ctr.ctr("container", "rm", name)
    equal(left, [], "what the checkpoint left in the bundle")
    ctr.nothing_left()


@check
def a_foreign_checkpoint_is_not_restored_where_that_is_denied(ctr):
    needs_checkpoints()
    name = detached_counter(ctr)
    ctr.ctr("container", "checkpoint", "--rw", "--image", "--task", name, "foreign")
    ctr.remove_killed(name)
    # As on another host: the key that the list of images was signed with is not here.
    os.rename(KEY, KEY + ".kept")
    try:
        with policy('[rules]\n"OPS-03" = "deny"\n'):
            output = restore(name, "foreign")
            equal(output.status, 1, f"{output}; exit status")
            contains(output.err, f"OCI runtime restore failed: gabion refused {name}: ")
            contains(output.err, "OPS-03")
            equal((ctr.status(name), decisions(name)[-1]["verdict"]), ("CREATED", "refused"), "status, last verdict")
            ctr.ctr("task", "rm", "--force", name)
            ctr.ctr("container", "rm", name)
            ctr.nothing_left()
        # And where it is not denied, it is recorded.
        output = restore(name, "foreign")
        equal((output.status, ctr.status(name)), (0, "RUNNING"), f"{output}; exit status, status")
        admitted = [line for line in decisions(name) if line["verdict"] == "admitted"][-1]
        contains([finding["rule"] for finding in admitted["findings"]], "OPS-03:foreign")
        ctr.remove_killed(name)
    finally:
        os.rename(KEY + ".kept", KEY)
    ctr.ctr("image", "rm", "foreign")
    ctr.nothing_left()


@check
def the_shim_describes_itself(ctr):
    output = subprocess.run([ctr.shim, "-info"], stdin=subprocess.DEVNULL, capture_output=True, check=True)
    contains(output.stdout, b"io.containerd.gabion.v2")
    contains(output.stdout, b'"ociVersionMin"')
    contains(succeed(ctr.shim, "-v"), "Version:")
    contains(run(ctr.shim).err, "there is no action")


@check
def memory_of_a_shim_is_a_third_of_runcs(ctr):
    name, other = ctr.detach("sleep", "1000"), ctr.name()
    succeed("ctr", "-n", "gabion-ctr", "run", "-d", "--runc-binary", ctr.runtime.path, busybox.NAME, other, "sleep", "1000")
    ours, runcs = resident(shim_of(name)), resident(shim_of(other))
    ctr.remove_killed(name)
    ctr.remove_killed(other)
    if ours * 3 > runcs:
        raise Failed(f"{ours} kB resident, and runc's shim has {runcs} kB")


def resident(pid):
    return next(int(line.split()[1]) for line in read(f"/proc/{pid}/status").splitlines() if line.startswith("VmRSS:"))


@check
def fifty_at_once_and_nothing_is_left(ctr):
    names = [ctr.name() for _ in range(50)]
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        outputs = list(pool.map(lambda name: ctr.run("sh", "-c", f"echo {name}; exit 3", name=name), names))
    equal([(output.status, output.out) for output in outputs], [(3, name + "\n") for name in names], "status, out")
    equal(ctr.ctr("task", "ls", "-q"), "", "tasks")
    ctr.nothing_left()
    equal(os.listdir("/run/containerd/s"), [], "sockets of shims")
