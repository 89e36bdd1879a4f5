#!/usr/bin/env python3
"""The manifests, read by kubectl without a server.

    kubernetes/check.py

kubectl asks a server for the schema, and there is none here. But `kubectl set --local` reads workloads into its own
types and prints them again: a key that the types do not have is lost on the way, and that is what is looked for.
Kinds that no `set` takes are held against their required keys.
"""

import json
import os
import subprocess
import sys

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "manifests")
WORKLOADS = ["Pod", "DaemonSet"]
# Top-level keys of the kinds that are not workloads.
OTHERS = {"RuntimeClass": {"apiVersion", "kind", "metadata", "handler", "scheduling"},
          "Namespace": {"apiVersion", "kind", "metadata"}}


def kubectl(*arguments, stdin=None):
    done = subprocess.run(["kubectl", *arguments], input=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ValueError(done.stderr.strip())
    return done.stdout


def documents(text):
    return [part for part in text.split("\n---\n") if part.strip()]


def lost(before, after, at=""):
    """Keys and values of one tree that another lacks or has otherwise."""
    if isinstance(before, dict):
        if not isinstance(after, dict):
            return [at]
        return [path for key, value in before.items() for path in lost(value, after.get(key), f"{at}/{key}")]
    if isinstance(before, list):
        if not isinstance(after, list) or len(before) != len(after):
            return [at]
        return [path for place, pair in enumerate(zip(before, after)) for path in lost(*pair, f"{at}/{place}")]
    return [] if before == after else [at]


def check(document):
    # `label --local` prints what was read as it is.
    raw = json.loads(kubectl("label", "--local", "-f", "-", "checked=yes", "-o", "json", stdin=document))
    kind = raw["kind"]
    if kind in WORKLOADS:
        typed = json.loads(kubectl("set", "env", "--local", "-f", "-", "CHECKED=yes", "-o", "json", stdin=document))
        del raw["metadata"]["labels"]["checked"]
        if not raw["metadata"]["labels"]:
            del raw["metadata"]["labels"]
        gone = lost(raw, typed)
        if gone:
            raise ValueError(f"keys that kubectl does not know: {', '.join(gone)}")
    elif kind in OTHERS:
        if set(raw) - OTHERS[kind] or not raw["metadata"].get("name"):
            raise ValueError(f"unknown keys {sorted(set(raw) - OTHERS[kind])}, or no name")
        if kind == "RuntimeClass" and raw["handler"] not in ("gabion", "gabion-restricted"):
            raise ValueError(f"no handler of gabion's: {raw['handler']}")
    else:
        raise ValueError(f"a kind that is not expected: {kind}")
    return kind


def main():
    failed = passed = 0
    for name in sorted(os.listdir(HERE)):
        with open(os.path.join(HERE, name), encoding="utf-8") as file:
            text = file.read()
        for document in documents(text):
            try:
                print(f"ok {name} {check(document)}")
                passed += 1
            except ValueError as error:
                print(f"FAIL {name}: {error}")
                failed += 1
    # The check must be able to fail.
    with open(os.path.join(HERE, "example.yaml"), encoding="utf-8") as file:
        broken = file.read().replace("readOnlyRootFilesystem", "readOnlyRootFileSystem")
    try:
        check(broken)
        print("FAIL a misspelled key was not noticed")
        failed += 1
    except ValueError as error:
        print(f"ok a misspelled key is noticed: {error}")
        passed += 1
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
