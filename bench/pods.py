#!/usr/bin/env python3
"""A hundred pods at once through the CRI: how long until all run, what their shims hold, how long until all are gone.

    GABION=/path/to/gabion CRI=/path/to/gabion-cri bench/pods.py [PODS [AT_ONCE]]

First runc's shim with runc, then runc's shim with gabion, then gabion's shim, each with a containerd of its own. CRI is
the client of integration/kubernetes, which scripts/engines.sh builds. It fails if a pod does not run, or leaves anything.
All calls are made at the same time, unless AT_ONCE says how many are on their way at most. A pod's own time is from the
beginning of all until its container runs: the median, and the last one's.
"""

import concurrent.futures
import os
import statistics
import subprocess
import sys
import threading
import time

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration")
sys.path.insert(0, ROOT)
sys.path.insert(0, os.path.join(ROOT, "kubernetes"))

from harness.checks import Runtime
from harness.host import enter

import suite


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    at_once = int(sys.argv[2]) if len(sys.argv) > 2 else count
    if os.environ.get("WAY"):
        return measure(count, at_once)
    shim = os.path.join(os.path.dirname(os.path.realpath(os.environ["GABION"])), "containerd-shim-gabion-v2")
    for way, more in [("runc's shim, runc", {"RUNTIME": "runc"}),
                      ("runc's shim, gabion", {"RUNTIME": "gabion"}),
                      ("gabion's shim, gabion", {"RUNTIME": "gabion", "SHIM": shim})]:
        environment = {name: value for name, value in os.environ.items() if name != "SHIM"}
        subprocess.run([sys.executable, "-B", __file__, str(count), str(at_once)], check=True,
                       env={**environment, **more, "WAY": way})
    return 0


def measure(count, at_once):
    runtime = Runtime()
    enter(network=True)
    cri = suite.Cri(runtime)
    try:
        cri.start()
        # Two processors take their time over a hundred calls.
        cri.patience = 600
        load = os.getloadavg()[0]
        pods, up = together(at_once, [None] * count, lambda _: one(cri))
        states = [item["state"] for item in cri.call("ListContainers")["containers"]]
        if states != ["CONTAINER_RUNNING"] * count:
            raise SystemExit(f"not all run: {states}")
        shims = [memory(pid) for pid, _ in cri.host.processes()]
        _, down = together(at_once, pods, lambda pod: cri.remove(pod.id))
        cri.nothing_left()
        print(f"{count} pods, {at_once} at once  {os.environ['WAY']:22} up in {up[-1]:.1f} s (median {statistics.median(up):.1f}), "
              f"gone in {down[-1]:.1f} s (median {statistics.median(down):.1f}), {len(shims)} shims, "
              f"RSS {sum(rss for rss, _ in shims) // 1024} MB, PSS {sum(pss for _, pss in shims) // 1024} MB "
              f"(load {load:.1f} before)", flush=True)
    finally:
        cri.host.end()
    return 0


def together(at_once, items, work):
    """Does the work for each, so many at a time, all threads there before the first begins. What it gave, and the seconds
    at which each was done, in order."""
    gate = threading.Barrier(min(at_once, len(items)) + 1)
    begin, done = 0.0, []

    def timed(item):
        outcome = work(item)
        done.append(time.monotonic() - begin)
        return outcome

    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        waiting = [pool.submit(gate.wait) for _ in range(gate.parties - 1)]
        outcomes = [pool.submit(timed, item) for item in items]
        begin = time.monotonic()
        gate.wait()
        concurrent.futures.wait(waiting)
        return [outcome.result() for outcome in outcomes], sorted(done)


def one(cri):
    pod = cri.run_pod()
    pod.run("sleep", "1000")
    return pod


def memory(pid):
    """Resident and proportional memory of a process, in kB."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
        fields = dict(line.split()[:2] for line in file if line.startswith(("Rss", "Pss:")))
    return int(fields["Rss:"]), int(fields["Pss:"])


if __name__ == "__main__":
    sys.exit(main())
