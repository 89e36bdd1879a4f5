"""`gabion learn --watch`, while an engine runs the container."""

import json
import os
import select
import subprocess
import time

from harness.checks import SECONDS, Failed, Output, Skip, contains, equal
from harness.site import decisions

# What a runtime calls on the way to the program, and the program of the checks does not.
RUNTIMES_OWN = ["capset", "mount", "pivot_root", "seccomp", "sethostname", "setgroups"]


class Learning:
    """A `gabion learn --watch` that has said that it waits for a container, or watches one."""

    def __init__(self, runtime, directory, *words):
        if not runtime.is_gabion:
            raise Skip("a promise of gabion alone")
        self.directory = directory
        self.words = [runtime.path, "learn", "--watch", "--output", directory, *words]
        self.process = subprocess.Popen(self.words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)
        self.said = ""
        self.hears()

    def hears(self):
        """Waits until it says the next thing."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            readable, _, _ = select.select([self.process.stderr], [], [], 0.1)
            if readable:
                text = os.read(self.process.stderr.fileno(), 65536).decode()
                self.said += text
                if "watched by the kernel's trace alone" in text:
                    self.process.wait(SECONDS)
                    raise Skip(text.strip())
                if not text:
                    raise Failed(f"{self.words} ended with {self.process.wait(SECONDS)}: {self.said}")
                return
        raise Failed(f"{self.words} says nothing")

    def end(self):
        """Waits for its end; what it printed."""
        out, err = self.process.communicate(timeout=SECONDS)
        output = Output(self.words, self.process.returncode, out.decode(), self.said + err.decode())
        if output.status != 0:
            raise Failed(str(output))
        return output.out

    def kill(self):
        """Ends it without notice, if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=SECONDS)

    def json(self, name):
        with open(os.path.join(self.directory, name), encoding="utf-8") as file:
            return json.load(file)

    def path(self, name):
        return os.path.join(self.directory, name)

    def expect(self, report, name, wanted):
        """It saw these calls and none of the runtime's, and the ledger says that the container was watched."""
        seen = self.json("observations.json")
        for call in wanted:
            if call not in seen["calls"]:
                raise Failed(f"no {call} in {sorted(seen['calls'])}; {report}")
        equal([call for call in RUNTIMES_OWN if call in seen["calls"]], [], "calls of the runtime's own")
        equal(seen["runs"][-1]["lost"], 0, "events that were lost")
        contains(report, "watched from its start, until it ended")
        started = [line for line in decisions(name) if line["verdict"] == "started" and line["operation"] == "start"]
        equal([line.get("message") for line in started], ["watched by gabion learn"], "what the ledger says of the start")

    def capabilities(self):
        """Those that were used, or None where the kernel does not tell."""
        seen = self.json("observations.json")
        if not all(run["traced"] for run in seen["runs"]):
            return None
        return self.json("oci.json")["process"]["capabilities"]["bounding"]
