#!/usr/bin/env python3
"""`ctr run --rm` and resident memory: gabion's shim beside runc's shim with runc and with crun, in pairs.

    GABION=/path/to/gabion bench/shim.py [ROUNDS]

One containerd of its own for all; each round runs one container each way, in turn, and the ratios are medians over
rounds, so that what else the machine does falls on all. The shim lies beside GABION. crun refuses a host with cgroups of
both versions, so version 2 is hidden from all.
"""

import os
import subprocess
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration")
sys.path.insert(0, ROOT)
sys.path.insert(0, os.path.join(ROOT, "containerd"))

from harness.checks import Runtime, succeed
from harness.host import enter, second_version_hidden
from images import busybox

import suite
from pairs import run_all


def memory(pid):
    """Resident and proportional memory of a process, in kB."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
        fields = dict(line.split()[:2] for line in file if line.startswith(("Rss", "Pss:")))
    return int(fields["Rss:"]), int(fields["Pss:"])


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    runtime = Runtime()
    os.environ.setdefault("SHIM", os.path.join(os.path.dirname(runtime.path), "containerd-shim-gabion-v2"))
    enter(network=False)
    ctr = suite.Containerd(runtime)
    crun = subprocess.run(["sh", "-c", "command -v crun"], capture_output=True, text=True, check=False).stdout.strip()
    runc = subprocess.run(["sh", "-c", "command -v runc"], capture_output=True, text=True, check=True).stdout.strip()
    ways = {"runc's shim, runc": ["--runc-binary", runc],
            "runc's shim, gabion": ["--runc-binary", runtime.path],
            "gabion's shim, gabion": ["--runtime", "io.containerd.gabion.v2"]}
    if crun:
        ways["runc's shim, crun"] = ["--runc-binary", crun]
    try:
        with second_version_hidden():
            ctr.start()
            print(f"# load {os.getloadavg()[0]:.1f} at the beginning", flush=True)
            broken = run_all("ctr run --rm", ways, rounds, lambda words: [
                "ctr", "-n", suite.NAMESPACE, "run", "--rm", *words, busybox.NAME, ctr.name(), "true"])
            print(f"# load {os.getloadavg()[0]:.1f} at the end", flush=True)
        resident(ctr, {way: words for way, words in ways.items() if way not in broken})
    finally:
        ctr.host.end()


def resident(ctr, ways):
    """The memory of a container's shim, and of a pod's."""
    for count, kind in [(1, "container"), (3, "pod of three")]:
        for way, words in ways.items():
            if way in ("runc's shim, gabion", "runc's shim, crun"):
                continue
            names = []
            for _ in range(count):
                names.append(ctr.name())
                succeed("ctr", "-n", suite.NAMESPACE, "run", "-d", *words, "--annotation",
                        "io.containerd.runc.v2.group=pod", busybox.NAME, names[-1], "sleep", "1000")
            shims = [memory(pid) for pid, _ in ctr.host.processes()]
            print(f"memory        {way:24} {kind}: {len(shims)} shim, RSS {sum(rss for rss, _ in shims)} kB, "
                  f"PSS {sum(pss for _, pss in shims)} kB")
            for name in names:
                ctr.remove_killed(name)
            ctr.nothing_left()


if __name__ == "__main__":
    main()
