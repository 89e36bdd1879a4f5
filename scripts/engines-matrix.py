#!/usr/bin/env python3
"""What engines were run, and what came of it, from the output of scripts/engines.sh into docs/engines.md.

    scripts/engines.sh | tee LOG; scripts/engines-matrix.py LOG

Between the marks of the document stands one row for each suite, with the versions that it named.
"""

import collections
import os
import platform
import re
import sys

DOCUMENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "docs", "engines.md")
BEGIN, END = "<!-- engines.sh: begin -->\n", "<!-- engines.sh: end -->\n"
ENGINES = {
    "containerd": "containerd with ctr",
    "kubernetes": "containerd's CRI, as the kubelet calls it",
    "docker": "Docker",
    "podman": "podman with buildah",
}


class Section:
    """The output of one suite on one runtime."""

    def __init__(self, engine, runtime):
        self.engine = engine
        self.runtime = runtime
        self.versions = ""
        self.skipped = collections.Counter()
        self.counts = None

    def read(self, line):
        counts = re.fullmatch(r"(\d+) passed, (\d+) failed, (\d+) skipped", line)
        if counts:
            self.counts = [int(number) for number in counts.groups()]
        elif line.startswith("# "):
            self.versions = re.split(r", (?:gabion|runc) version ", line[2:])[0]
        elif line.startswith("SKIPPED "):
            _, _, why = line.partition(": ")
            self.skipped["what runc cannot do here either" if why.startswith("the control fails too") else why] += 1

    def said(self):
        """The counts, with the reasons of what was skipped."""
        passed, failed, skipped = self.counts
        text = f"{passed} passed"
        if failed:
            text += f"; {failed} failed"
        if skipped:
            text += f"; {skipped} skipped"
        if self.skipped:
            text += ": " + "; ".join(f"{why} ({count})" if count > 1 else why for why, count in self.skipped.items())
        return text.replace("|", "\\|")


def sections(lines):
    """Those of all suites in some output, in their order."""
    found = []
    for line in lines:
        line = line.strip()
        header = re.fullmatch(r"== (\w+) on (.+)", line)
        if header and header[1] in ENGINES:
            found.append(Section(*header.groups()))
        elif line.startswith("== "):
            found.append(None)
        elif found and found[-1]:
            found[-1].read(line)
    found = [section for section in found if section]
    unfinished = [section for section in found if not section.counts]
    if not found or unfinished:
        sys.exit(f"{sys.argv[0]}: {len(found)} suites, of which {len(unfinished)} did not come to their end")
    return found


def table(found):
    controls = {section.engine: section for section in found if "control" in section.runtime}
    yield "| engine | runtime | gabion | runc, the control |\n"
    yield "|---|---|---|---|\n"
    for section in found:
        if section is controls.get(section.engine):
            continue
        control = controls.get(section.engine)
        runtime = section.runtime.replace("gabion, through gabion's own shim", "gabion's own shim")
        said = "{} passed; {} failed; {} skipped".format(*control.counts) if control else ""
        yield f"| {ENGINES[section.engine]}: {section.versions} | {runtime} | {section.said()} | {said} |\n"


def main():
    with open(sys.argv[1], encoding="utf-8", errors="replace") as file:
        found = sections(file)
    with open(DOCUMENT, encoding="utf-8") as file:
        before, rest = file.read().split(BEGIN)
    _, after = rest.split(END)
    where = f"Linux {platform.release()}, {platform.freedesktop_os_release()['PRETTY_NAME']}:\n\n"
    with open(DOCUMENT, "w", encoding="utf-8") as file:
        file.write(before + BEGIN + where + "".join(table(found)) + END + after)


if __name__ == "__main__":
    main()
