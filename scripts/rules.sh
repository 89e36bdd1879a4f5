#!/usr/bin/env bash
# Writes docs/rules/ from the program: the catalogue that a reader sees is the one that judges.
#
#   scripts/rules.sh           writes docs/rules/*.md
#   scripts/rules.sh --check   fails, and shows the difference, if they are not what the program says
#
# GABION names the program.
set -euo pipefail
cd "$(dirname "$0")/.."
gabion=$(realpath "${GABION:?names the program}")
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
catalogue=$("$gabion" explain --format json)
case ${1:-} in
'' | --check) ;;
*)
    echo "scripts/rules.sh: there is no option ${1@Q}; known is --check" >&2
    exit 2
    ;;
esac

topics=$(jq -r '[.rules[].topic] | reduce .[] as $t ([]; if index($t) then . else . + [$t] end) | .[]' <<<"$catalogue")
file_of() { tr 'A-Z ' 'a-z-' <<<"$1" | tr -cd 'a-z0-9\n-'; }

while read -r topic; do
    jq -r --arg topic "$topic" '
        def text: gsub("(?<c>[<>*_|])"; "\\\(.c)");
        def list: map("- " + text) | join("\n");
        "# \($topic)\n\nWritten by `scripts/rules.sh`; edit the rules in `crates/baseline/src/rules/`.\n",
        (.rules[] | select(.topic == $topic)
            | "## \(.id): \(.title | text)\n",
            "| privileged | baseline | restricted |\n|---|---|---|\n| \(.levels.privileged) | \(.levels.baseline) | \(.levels.restricted) |\n",
            (if .immutable then "It guards the runtime itself: no policy changes its level.\n" else empty end),
            "**Violated when.** \(.meaning | text)\n",
            "**Why.** \(.why | text)\n",
            (if .hardening == "" then empty else "**Hardening.** \(.hardening | text)\n" end),
            "**Stops**\n\n\(.stops | list)\n",
            (.fields | map(select(. != "")) | if length == 0 then empty else "**Looks at** \(map("`\(.)`") | join(", "))\n" end),
            "**How to satisfy it**\n\n\(.remedies | [["Docker", .docker], ["podman", .podman], ["ctr", .ctr], ["Kubernetes", .kubernetes], ["config.json", .config]]
                | map(select(.[1] != "") | "- \(.[0]): \(.[1] | text)") | join("\n"))\n",
            (.mappings | [
                (if .pss == "" then empty else "Pod Security Standards: \(.pss)" end),
                (if .cisDocker == "" then empty else "CIS Docker Benchmark \(.cisDocker)" end),
                (if .nsa == "" then empty else "NSA/CISA Kubernetes Hardening Guide: \(.nsa)" end),
                (if .nist800190 == "" then empty else "NIST SP 800-190 \(.nist800190)" end)]
                | if length == 0 then empty else "**The same in other catalogues**\n\n\(list)\n" end))' \
        <<<"$catalogue" >"$place/$(file_of "$topic").md"
done <<<"$topics"

{
    cat <<'END'
# The rules

Written by `scripts/rules.sh` from what the program says of itself (`gabion explain --format json`); `gabion explain
RULE` shows one of them on a terminal.

What each profile does about a violation: `deny` refuses the bundle; `harden` adds a safe value, and refuses where none
can be added; `audit` records it; `off` does not look. A site changes levels in [its policy](../policy.md), except of
the rules marked with a star, which guard the runtime itself.

Each rule says how to satisfy it with Docker, with Kubernetes and in config.json. nerdctl is called as Docker is, and so
is podman where it has no line of its own. Where `ctr` has none, it has no flag for it: `ctr run --config` takes a whole
config.json.
END
    while read -r topic; do
        printf '\n## [%s](%s.md)\n\n| rule | | privileged | baseline | restricted |\n|---|---|---|---|---|\n' \
            "$topic" "$(file_of "$topic")"
        jq -r --arg topic "$topic" '.rules[] | select(.topic == $topic)
            | "| \(.id)\(if .immutable then "\\*" else "" end) | \(.title | gsub("\\|"; "\\|")) | \(.levels.privileged) | \(.levels.baseline) | \(.levels.restricted) |"' \
            <<<"$catalogue"
    done <<<"$topics"
} >"$place/README.md"

# No blank line at the end, as in files that people write.
for file in "$place"/*.md; do printf '%s\n' "$(cat "$file")" >"$file.new" && mv "$file.new" "$file"; done

if [ "${1:-}" = --check ]; then
    if ! diff -ru docs/rules "$place"; then
        echo "docs/rules is not what the program says; scripts/rules.sh writes it again" >&2
        exit 1
    fi
    echo "docs/rules is what the program says: $(jq '.rules | length' <<<"$catalogue") rules"
else
    rm -rf docs/rules
    mkdir -p docs/rules
    cp "$place"/*.md docs/rules/
fi
