#!/usr/bin/env python3
"""Software that has to run: Debian's own packages, in containers under the default profile.

    GABION=/path/to/gabion software/suite.py [--core] [--learn] [--write FILE] [WORD...]

One root file system has all packages; it is made with mmdebstrap from the mirrors that this machine's apt has, and kept
below target/software until the list of packages changes. Each row of rows.py gets an overlay over it, a container in the
shape that Docker gives one by default, and a shell script whose output has to say something.

`--core` takes the rows of the core list, which have a smaller root file system of their own. `--learn` runs each row twice
more: watched by `gabion learn`, and under what that wrote. `--write` writes the table of docs/software.md. A word chooses
the rows with it in their names.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from harness.checks import Failed, Runtime, Suite, run, succeed
from software.rows import ROWS

TOP = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
CACHE = os.path.join(os.environ.get("CARGO_TARGET_DIR") or os.path.join(TOP, "target"), "software")
INSIDE = "GABION_SOFTWARE_INSIDE"
# For every row: a shell is there, and apt has something to install without a network.
ALWAYS = ["ca-certificates", "iproute2"]
REPOSITORY_PACKAGE = "hello"
SECONDS = 300
# A program whose threads or timers decide what it calls needs more than one.
LEARNING_RUNS = 3
CGROUP = f"gabion-software-{os.getpid()}"

# What Docker grants by default.
CAPABILITIES = [
    "CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
]
DEVICES = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2)]


def configuration(name, row, rootfs):
    """config.json as Docker writes it for `docker run`, without a seccomp profile: gabion fills in its own."""
    capabilities = [one for one in CAPABILITIES if one not in row.get("drop", ())]
    grants = {"bounding": capabilities, "effective": capabilities, "permitted": capabilities}
    uid = row.get("uid", 0)
    if uid:
        grants = {"bounding": capabilities}
    devices = [{"allow": False, "access": "rwm"}]
    devices += [{"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"} for major, minor in DEVICES]
    devices.append({"allow": True, "type": "c", "major": 136, "access": "rwm"})
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": uid, "gid": uid},
            "args": ["/bin/bash", "-c", row["script"]],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8",
                    "HOSTNAME=software"],
            "cwd": "/",
            "capabilities": grants,
            "noNewPrivileges": False,
        },
        "root": {"path": rootfs},
        "hostname": "software",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["ro", "nosuid", "noexec", "nodev"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]},
        ],
        "linux": {
            "sysctl": row.get("sysctl", {}),
            "resources": {"devices": devices},
            "cgroupsPath": f"/{CGROUP}/{name}",
            "namespaces": [{"type": kind} for kind in ("mount", "network", "uts", "pid", "ipc")],
            "maskedPaths": ["/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                            "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }


def sources():
    """Debian's archives as this machine's apt has them, and the release."""
    wanted = "$(REPO_URI)\t$(RELEASE)\t$(CODENAME)\t$(COMPONENT)\t$(ORIGIN)"
    listed = succeed("apt-get", "indextargets", "--format", wanted, "Created-By: Packages")
    archives = [line.split("\t") for line in listed.splitlines()]
    archives = [fields for fields in archives if fields[4] == "Debian" and fields[3] == "main"]
    if not archives:
        sys.exit("apt knows no archive of Debian; run apt-get update, or this is no Debian")
    lines = [f"deb {uri} {release} {component}" for uri, release, _, component, _ in archives]
    return sorted(set(lines)), archives[0][2].split("-")[0]


def root_file_system(rows):
    """Where the packages of these rows are installed; made if it is not there."""
    packages = sorted(set(ALWAYS + [package for row in rows.values() for package in row["packages"]]))
    lines, codename = sources()
    key = hashlib.sha256("\n".join(packages + lines).encode()).hexdigest()[:16]
    directory = os.path.join(CACHE, key)
    if os.path.isdir(directory):
        return directory
    os.makedirs(CACHE, exist_ok=True)
    for left in os.listdir(CACHE):
        if left.startswith("draft-"):
            shutil.rmtree(os.path.join(CACHE, left))
    draft = tempfile.mkdtemp(prefix="draft-", dir=CACHE)
    print(f"# {len(packages)} packages and what they need, below {CACHE}", flush=True)
    # Without what no program reads; services are not started by their packages.
    options = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale", "info")]
    # Waiting for the disk after each file takes most of the time, and what is not whole is made anew in any case.
    options.append("--dpkgopt=force-unsafe-io")
    hook = ('mkdir -p "$1/srv/repository" && chroot "$1" sh -c "cd /srv/repository && '
            f'apt-get -o APT::Sandbox::User=root download {REPOSITORY_PACKAGE}"')
    done = subprocess.run(
        ["mmdebstrap", "--quiet", "--mode=root", "--variant=apt", "--include=" + ",".join(packages), *options,
         "--customize-hook=" + hook, codename, draft, "-"],
        input="\n".join(lines) + "\n", text=True, check=False)
    if done.returncode != 0:
        shutil.rmtree(draft)
        sys.exit("the root file system could not be made")
    os.chmod(draft, 0o755)
    os.rename(draft, directory)
    return directory


class Software:
    """The root file system, and containers over it."""

    def __init__(self, runtime, rows, learn):
        self.runtime, self.learn = runtime, learn
        self.lower = root_file_system(rows)
        self.place = tempfile.mkdtemp(prefix="gabion-software-")
        self.results = {}
        # Overlays of one kind of file system keep each other's extended attributes; /tmp may be another one.
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", self.place], check=True)
        with open(os.path.join(self.place, "policy.toml"), "w", encoding="utf-8") as file:
            file.write(f'[ledger]\npath = "{self.place}/decisions.jsonl"\n')

    def end(self):
        subprocess.run(["umount", "-l", self.place], check=True)
        os.rmdir(self.place)
        # The containers' own are gone; runtimes leave the parent to others.
        for top in ["/sys/fs/cgroup", *(entry.path for entry in os.scandir("/sys/fs/cgroup") if entry.is_dir())]:
            parent = os.path.join(top, CGROUP)
            if os.path.isdir(parent):
                os.rmdir(parent)

    def gabion(self, *arguments, **options):
        words = [self.runtime.path, "--root", os.path.join(self.place, "state"), "--policy",
                 os.path.join(self.place, "policy.toml"), *arguments]
        if not self.runtime.is_gabion:
            words = [self.runtime.path, "--root", os.path.join(self.place, "state"), *arguments]
        return run(*words, timeout=SECONDS, **options)

    def container(self, name, row, command, changes=None):
        """A container of its own over the common root, to its end."""
        bundle = os.path.join(self.place, name)
        rootfs = os.path.join(bundle, "rootfs")
        for directory in ("upper", "work", "rootfs"):
            os.makedirs(os.path.join(bundle, directory), mode=0o755)
        options = f"lowerdir={self.lower},upperdir={bundle}/upper,workdir={bundle}/work"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, rootfs], check=True)
        try:
            config = configuration(name, row, rootfs)
            if changes:
                config["process"]["capabilities"] = changes["process"]["capabilities"]
                config["linux"]["seccomp"] = changes["linux"]["seccomp"]
            with open(os.path.join(bundle, "config.json"), "w", encoding="utf-8") as file:
                json.dump(config, file)
            try:
                return self.gabion(*command, "--bundle", bundle, name)
            finally:
                self.gabion("delete", "--force", name)
        finally:
            subprocess.run(["umount", "-l", rootfs], check=True)
            shutil.rmtree(bundle)

    def check(self, name, row):
        """Runs a row; with `learn`, watched and under what was learnt as well."""
        self.results[name] = "FAILED"
        judge(row, self.container(name, row, ["run"]))
        self.results[name] = "runs"
        if not self.learn:
            return
        learnt = os.path.join(self.place, name + ".learnt")
        changes, runs = self.learnt(name, row, learnt)
        with open(os.path.join(learnt, "observations.json"), encoding="utf-8") as file:
            seen = json.load(file)
        judge(row, self.container(name, row, ["run"], changes), "under what it taught, ")
        granted = [one.replace("CAP_", "") for one in changes["process"]["capabilities"]["bounding"]]
        denied = sorted(call for call, one in seen["denied"].items() if one["certain"])
        self.results[name] = f"{len(seen['calls'])} | {', '.join(granted) or '-'} | {', '.join(denied) or '-'}"
        print(f"# {name}: {len(seen['calls'])} calls; {', '.join(granted) or 'no capability'}; "
              f"denied: {', '.join(denied) or 'nothing'}" + (f"; of {runs} runs" if runs > 1 else ""), flush=True)

    def learnt(self, name, row, directory):
        """Watches a row and runs it under what was seen. What one run does another need not do, so a further one is added
        where that was not enough; and how many it were."""
        for runs in range(1, LEARNING_RUNS + 1):
            command = ["learn", "--output", directory] + (["--merge"] if runs > 1 else [])
            judge(row, self.container(name, row, command), "watched, ")
            with open(os.path.join(directory, "oci.json"), encoding="utf-8") as file:
                changes = json.load(file)
            try:
                judge(row, self.container(name, row, ["run"], changes), "under what it taught, ")
                return changes, runs
            except Failed:
                if runs == LEARNING_RUNS:
                    raise
        raise Failed("nothing was learnt")

    def version(self, package):
        """A package's version, without what Debian added to it."""
        version = succeed("chroot", self.lower, "dpkg-query", "--showformat=${Version}", "--show", package)
        return re.sub(r"^\d+:|[-+~][^-]*$", "", version)


def judge(row, output, how=""):
    """What a row prints has to be what it says."""
    if output.status == row.get("status", 0) and re.search(row["answer"], output.out + output.err, re.MULTILINE):
        return
    raise Failed(f"{how}status {output.status}, out ...{output.out[-600:]!r}, err ...{output.err[-600:]!r}")


def document(path, software, rows):
    """Writes the table between the marks of a document."""
    learnt = software.learn
    lines = ["| software | version | what it does here |" + (" calls | capabilities used | denied, and done without |" if learnt else " result |"),
             "|---|---|---|" + ("---|---|---|" if learnt else "---|")]
    for name, row in rows.items():
        version = software.version(row["packages"][0]) if row["packages"] else ""
        lines.append(f"| {row['title']} | {version} | {row['does']} | {software.results.get(name, 'not run')} |")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    begin, end = "<!-- begin of the table -->\n", "<!-- end of the table -->\n"
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    with open(path, "w", encoding="utf-8") as file:
        file.write(before + begin + "\n".join(lines) + "\n" + end + after)


def enter():
    """Runs this program again in a mount namespace of its own: overlays end with it."""
    if os.environ.get(INSIDE) == "yes":
        return
    if os.geteuid() != 0:
        sys.exit("root file systems are made and mounted as root")
    os.environ[INSIDE] = "yes"
    os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, "-B", *sys.argv])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--core", action="store_true")
    parser.add_argument("--learn", action="store_true")
    parser.add_argument("--write", metavar="FILE")
    parser.add_argument("words", nargs="*")
    options = parser.parse_args()
    enter()
    runtime = Runtime()
    rows = {name: row for name, row in ROWS.items() if row.get("core") or not options.core}
    software = Software(runtime, rows, options.learn)
    suite = Suite("software")
    for name, row in rows.items():
        suite.checks.append((name, lambda software, name=name, row=row: software.check(name, row)))
    try:
        status = suite.run(software, options.words)
        if options.write and status == 0:
            document(options.write, software, rows)
    finally:
        software.end()
    sys.exit(status)


if __name__ == "__main__":
    main()
