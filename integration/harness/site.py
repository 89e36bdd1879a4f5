"""A site's policy, and what is judged before gabion is switched on: the same checks for every engine."""

import contextlib
import datetime
import json
import os

from harness.checks import contains, equal, run, succeed

POLICY = "/etc/gabion/policy.toml"
LEDGER = "/var/log/gabion/decisions.jsonl"


@contextlib.contextmanager
def policy(text):
    """A policy for a while."""
    with open(POLICY, "w", encoding="utf-8") as file:
        file.write(text)
    try:
        yield
    finally:
        os.remove(POLICY)


def waiver(rule, match, days):
    """A waiver that has so many days left, or expired so many days ago."""
    expires = datetime.datetime.now(datetime.timezone.utc).date() + datetime.timedelta(days=days)
    return (f'[[waiver]]\nrule = "{rule}"\nowner = "net team"\nreason = "sets routes"\nexpires = {expires}\n'
            f"match = {{ {match} }}\n")


def decisions(name):
    """The ledger's lines on a container."""
    with open(LEDGER, encoding="utf-8") as file:
        return [line for line in map(json.loads, file) if name in json.dumps(line)]


def expect_waived(name, rule):
    """The ledger has the container admitted, and for the rule a record that names the waiver."""
    admitted = [line for line in decisions(name) if line["verdict"] == "admitted"]
    equal(len(admitted), 1, f"{decisions(name)}; admitted")
    found = [finding for finding in admitted[0]["findings"] if finding["rule"] == rule]
    equal([finding["action"] for finding in found], ["audit"], f"{found}; actions")
    contains(found[0]["waiver"], "net team until ")
    contains(found[0]["waiver"], f"{POLICY}, line 1 ")


def expect_shown(gabion, *parts):
    """What `gabion policy show` says of the waivers in force."""
    text = succeed(gabion, "policy", "show")
    for part in parts:
        contains(text, part)


def expect_audit(gabion, engine, refused, admitted):
    """`gabion audit --all` finds the containers of an engine that run under runc, and tells of each which rules would
    refuse it; `refused` has a rule for each id. In all three forms, and with the exit status that says so."""
    output = run(gabion, "audit", "--all", "--format", "json")
    equal(output.status, 2 if refused else 0, f"{output}; exit status")
    containers = {container["id"]: container for container in json.loads(output.out)["containers"]}
    for name, rule in [*refused.items(), *((name, None) for name in admitted)]:
        container = containers[name]
        equal((container["engine"], container["verdict"]), (engine, "refused" if rule else "admitted"),
              f"engine and verdict of {container}")
        rules = sorted({finding["rule"] for finding in container["findings"] if finding["action"] == "deny"})
        equal(rules, [rule] if rule else [], "rules that refuse")
    text = run(gabion, "audit", "--all").out
    for name, rule in refused.items():
        contains(text, f"  refused   {name}  ({engine})\n            {rule}  config.json#")
    for name in admitted:
        contains(text, f"  admitted  {name}  ({engine})\n")
    page = run(gabion, "audit", "--all", "--format", "html").out
    for name in [*refused, *admitted]:
        contains(page, f"<code>{name}</code>")
    contains(page, f"{len(refused)} would be refused")
