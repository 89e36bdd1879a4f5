"""Checks, and how they are told.

A check is a function with a name that says what holds. It passes by returning, fails by raising, and says that it
cannot be made here by raising `Skip`. Each prints one line:

    ok NAME
    FAIL NAME: what was seen
    SKIPPED NAME: why

and the last line counts them. The same checks run on another runtime (`RUNTIME=runc`), as a control: what that one
cannot do on this host either says nothing about gabion. Its output, named by `CONTROL`, turns such a failure into a
skip that gives the control's reason. What gabion alone promises is marked: on the control, the same command has to
*succeed*, which shows that the refusal is gabion's and not the host's.
"""

import os
import re
import shlex
import subprocess
import sys
import threading
import time
import traceback

SECONDS = 90


class Skip(Exception):
    """The check cannot be made here; the text says why."""


class Failed(Exception):
    """The check does not hold; the text says what was seen."""


class Output:
    """What a command left behind."""

    def __init__(self, arguments, status, out, err):
        self.arguments, self.status, self.out, self.err = arguments, status, out, err

    def __str__(self):
        return f"{' '.join(self.arguments)!r} ended with {self.status}, out {self.out!r}, err {self.err!r}"


def run(*arguments, stdin="", timeout=SECONDS, env=None):
    """Runs a command to its end."""
    arguments = [str(argument) for argument in arguments]
    environment = dict(os.environ, **(env or {}))
    try:
        done = subprocess.run(arguments, input=stdin.encode(), capture_output=True, timeout=timeout, env=environment,
                              check=False)
    except subprocess.TimeoutExpired as late:
        raise Failed(f"{' '.join(arguments)!r} took more than {timeout} s, out {late.stdout!r}, "
                     f"err {late.stderr!r}") from None
    return Output(arguments, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def in_terminal(*words, timeout=SECONDS):
    """Runs a command on a terminal; its standard output and error are one there. The terminal is script(1)'s, whose
    own input stays open: at its end it would type an end of file into the container."""
    command = shlex.join(str(word) for word in words)
    with subprocess.Popen(["script", "-qec", command, "/dev/null"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT) as process:
        timer = threading.Timer(timeout, process.kill)
        timer.start()
        text = process.stdout.read()
        status = process.wait()
        timer.cancel()
    return Output(["script", "-qec", command], status, text.decode(errors="replace").replace("\r", ""), "")


def succeed(*arguments, **options):
    """Runs a command that has to end with 0, and gives what it printed, without the last newline."""
    output = run(*arguments, **options)
    if output.status != 0:
        raise Failed(str(output))
    return output.out.rstrip("\n")


def equal(found, expected, what="found"):
    """Two things that have to be the same."""
    if found != expected:
        raise Failed(f"{what} {found!r} instead of {expected!r}")


def contains(text, part):
    """A text that has to have another in it."""
    if part not in text:
        raise Failed(f"no {part!r} in {text!r}")


def until(condition, what, seconds=20):
    """Waits for something that happens soon."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.05)
    raise Failed(f"{what} did not happen within {seconds} s")


def has_apparmor():
    """True if the kernel has AppArmor, which engines then have a profile for."""
    try:
        with open("/sys/module/apparmor/parameters/enabled", encoding="ascii") as file:
            return file.read().strip() == "Y"
    except OSError:
        return False


class Suite:
    """The checks of one engine, in the order in which they are written down."""

    def __init__(self, title):
        self.title = title
        self.checks = []

    def check(self, function):
        """Registers a check; its name is the function's."""
        self.checks.append((function.__name__, function))
        return function

    def run(self, engine, only=()):
        """Makes all checks, or those whose names have one of the given words in them; the exit status."""
        control = control_failures(os.environ.get("CONTROL"))
        counts = {"ok": 0, "FAIL": 0, "SKIPPED": 0}
        if only and not any(word in name for word in only for name, _ in self.checks):
            sys.exit(f"no check of {self.title} has one of these in its name: {' '.join(only)}")
        for name, function in self.checks:
            if only and not any(word in name for word in only):
                continue
            word, text = outcome(function, engine)
            if word == "FAIL" and name in control:
                word, text = "SKIPPED", f"the control fails too on this host: {control[name]}"
            counts[word] += 1
            print(f"{word} {name}" + (f": {text}" if text else ""), flush=True)
        print(f"{counts['ok']} passed, {counts['FAIL']} failed, {counts['SKIPPED']} skipped", flush=True)
        return 1 if counts["FAIL"] else 0


def outcome(function, engine):
    try:
        function(engine)
    except Skip as skip:
        return "SKIPPED", str(skip)
    except Failed as failed:
        return "FAIL", one_line(str(failed))
    except Exception:  # a check that breaks is a check that failed
        return "FAIL", one_line(traceback.format_exc())
    return "ok", ""


def one_line(text):
    return " | ".join(line.strip() for line in text.splitlines() if line.strip())[:1500]


def control_failures(path):
    """What failed in an earlier run, and why."""
    if not path:
        return {}
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = [re.match(r"FAIL (\w+): (.*)", line) for line in file]
    return {line[1]: line[2] for line in lines if line}


class Runtime:
    """The runtime that the engine is given: `RUNTIME` is a name or path, `gabion` by default, found by `GABION`."""

    def __init__(self):
        name = os.environ.get("RUNTIME", "gabion")
        if name == "gabion":
            path = os.environ.get("GABION")
            if not path:
                sys.exit("GABION names the program to test; it is not set")
        else:
            path = subprocess.run(["sh", "-c", 'command -v -- "$1"', "sh", name], capture_output=True, text=True,
                                  check=False).stdout.strip()
        if not path or not os.access(path, os.X_OK):
            sys.exit(f"there is no runtime {path or name!r}")
        self.name, self.path = os.path.basename(name), os.path.abspath(path)
        self.is_gabion = name == "gabion"

    def needs(self, command):
        """Skips a check for which the runtime lacks a command."""
        if self.is_gabion and "unrecognized subcommand" in run(self.path, command, "--help").err:
            raise Skip(f"not built in yet: gabion {command}")
