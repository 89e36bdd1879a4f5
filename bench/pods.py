#!/usr/bin/env python3
"""A hundred pods at once through the CRI: how long until all run, what their shims hold, how long until all are gone.

    GABION=/path/to/gabion CRI=/path/to/gabion-cri bench/pods.py [PODS]

First runc's shim with runc, then runc's shim with gabion, then gabion's shim, each with a containerd of its own. CRI is
the client of integration/kubernetes, which scripts/engines.sh builds. It fails if a pod does not run, or leaves anything.
"""

import concurrent.futures
import os
import subprocess
import sys
import time

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration")
sys.path.insert(0, ROOT)
sys.path.insert(0, os.path.join(ROOT, "kubernetes"))

from harness.checks import Runtime
from harness.host import enter

import suite

# Calls that are on their way at a time: each is a program of its own, and a node's kubelet does not ask for more.
AT_ONCE = 25


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    if os.environ.get("WAY"):
        return measure(count)
    shim = os.path.join(os.path.dirname(os.path.realpath(os.environ["GABION"])), "containerd-shim-gabion-v2")
    for way, more in [("runc's shim, runc", {"RUNTIME": "runc"}),
                      ("runc's shim, gabion", {"RUNTIME": "gabion"}),
                      ("gabion's shim, gabion", {"RUNTIME": "gabion", "SHIM": shim})]:
        environment = {name: value for name, value in os.environ.items() if name != "SHIM"}
        subprocess.run([sys.executable, "-B", __file__, str(count)], check=True,
                       env={**environment, **more, "WAY": way})
    return 0


def measure(count):
    runtime = Runtime()
    enter(network=True)
    cri = suite.Cri(runtime)
    try:
        cri.start()
        load = os.getloadavg()[0]
        begin = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            pods = list(pool.map(lambda _: one(cri), range(count)))
        up = time.monotonic() - begin
        shims = [memory(pid) for pid, _ in cri.host.processes()]
        begin = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda pod: cri.remove(pod.id), pods))
        down = time.monotonic() - begin
        cri.nothing_left()
        print(f"{count} pods  {os.environ['WAY']:22} up in {up:.1f} s, gone in {down:.1f} s, {len(shims)} shims, "
              f"RSS {sum(rss for rss, _ in shims) // 1024} MB, PSS {sum(pss for _, pss in shims) // 1024} MB "
              f"(load {load:.1f} before)", flush=True)
    finally:
        cri.host.end()
    return 0


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
