#!/usr/bin/env python3
"""`docker run --rm`: gabion beside runc and crun, in pairs; and gabion's shim, where Docker takes one (from 23).

    GABION=/path/to/gabion bench/docker.py [ROUNDS]

One dockerd of its own for all; each round runs one container each way, in turn, and the ratios are medians over rounds.
The shim lies beside GABION. crun refuses a host with cgroups of both versions, so version 2 is hidden from all.
"""

import os
import shutil
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration")
sys.path.insert(0, ROOT)
sys.path.insert(0, os.path.join(ROOT, "docker"))

from harness.checks import Runtime
from harness.host import enter, second_version_hidden
from images import busybox

import suite
from pairs import run_all


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    runtime = Runtime()
    enter(network=True)
    docker = suite.Docker(runtime)
    # dockerd's containerd finds shims in its PATH.
    os.mkdir(docker.host.path("shims"))
    shim = os.path.join(os.path.dirname(runtime.path), "containerd-shim-gabion-v2")
    os.symlink(shim, docker.host.path("shims", "containerd-shim-gabion-v2"))
    os.environ["PATH"] = docker.host.path("shims") + ":" + os.environ["PATH"]
    ways = {"runc": "plain", "gabion": "gabion", "gabion, its own shim": "io.containerd.gabion.v2"}
    if shutil.which("crun"):
        ways["crun"] = "crun"
    try:
        with second_version_hidden():
            docker.start()
            print(f"# load {os.getloadavg()[0]:.1f} at the beginning", flush=True)
            run_all("docker run --rm", ways, rounds, lambda runtime: [
                suite.DOCKER, "run", "--rm", "--network", "none", "--runtime", runtime, busybox.NAME, "true"])
            print(f"# load {os.getloadavg()[0]:.1f} at the end", flush=True)
    finally:
        docker.host.end()


if __name__ == "__main__":
    main()
