#!/usr/bin/env bash
# Whole commands of gabion beside runc and crun, side by side in one run, as ratios of medians.
#
#   bench/run.sh [RESULTS.json]     GABION names the program; RUNS (default 40) and ROUNDS (default 4)
#
# bench/README.md says how to read it. Takes root, and changes nothing outside mount namespaces of its own.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" != --measure ]; then
    gabion=$(realpath "${GABION:?names the program; \`make bench\` sets it}")
    for tool in hyperfine jq; do
        command -v "$tool" >/dev/null || { echo "bench/run.sh needs $tool" >&2; exit 1; }
    done
    results=$(realpath -m "${1:-target/bench.json}")
    mkdir -p "$(dirname "$results")"
    GABION=$gabion exec unshare --mount --propagation private "$0" --measure "$results"
fi

# From here on in a mount namespace of our own. State, bundles and ledger are on a tmpfs: a journal's commits would
# drown what is to be measured.
results=$2
runs=${RUNS:-40}
rounds=${ROUNDS:-4}
place=$(mktemp -d)
mount -t tmpfs -o mode=0755 gabion-bench "$place"
trap 'umount -l "$place" && rmdir "$place"' EXIT

rootfs=$place/rootfs
mkdir -p "$rootfs"/{bin,dev,etc,proc,sys,tmp}
cp /bin/busybox "$rootfs/bin/busybox"
ln -s busybox "$rootfs/bin/true"
for policy in hardened open; do
    {
        if [ "$policy" = open ]; then printf '[rules]\nSEC-01 = "off"\n\n'; fi
        printf '[ledger]\npath = "%s"\n' "$place/ledger/decisions.jsonl"
    } >"$place/$policy.toml"
done

# What gabion is given has no filter and no masked paths; what the others are given has all that gabion adds to it.
mkdir "$place/spec" "$place"/{gabion,hardened,open}
"$GABION" spec --bundle "$place/spec"
jq --arg rootfs "$rootfs" '.process.terminal = false | .process.args = ["/bin/true"] | .root.path = $rootfs
    | .ociVersion = "1.0.2" | del(.linux.seccomp, .linux.maskedPaths, .linux.readonlyPaths)' "$place/spec/config.json" >"$place/gabion/config.json"
for policy in hardened open; do
    "$GABION" --policy "$place/$policy.toml" check --bundle "$place/gabion" --effective --format json |
        jq -e .effective >"$place/$policy/config.json"
done
jq -e .linux.seccomp "$place/hardened/config.json" >/dev/null
jq -e '.linux | has("seccomp") | not' "$place/open/config.json" >/dev/null

command_of() { # RUNTIME WORK POLICY
    local runtime=$1 work=$2 policy=$3 call bundle
    case $runtime in
    gabion) call="$GABION --root $place/state-gabion --policy $place/$policy.toml" bundle=$place/gabion ;;
    # Where crun cannot make the cgroup: without one, so it does less than the others.
    crun-) call="crun --cgroup-manager=disabled --root $place/state-crun" bundle=$place/$policy ;;
    *) call="$runtime --root $place/state-$runtime" bundle=$place/$policy ;;
    esac
    case $work in
    run) echo "$call run --bundle $bundle bench-$runtime" ;;
    stages) echo "sh -ec '$call create --bundle $bundle bench-$runtime </dev/null >/dev/null 2>&1; \
$call start bench-$runtime; $call delete --force bench-$runtime'" ;;
    esac
}

measure() { # CGROUPS PAUSE WORK POLICY RUNTIME...
    local cgroups=$1 pause=$2 work=$3 policy=$4 runtime round options=(--shell none --style none)
    shift 4
    if [ "$pause" != 0 ]; then options+=(--prepare "sleep 0.0$pause"); fi
    local commands=()
    for runtime in "$@"; do commands+=(--command-name "$runtime" "$(command_of "$runtime" "$work" "$policy")"); done
    # In rounds, so that whatever else the machine does meanwhile falls on all of them.
    for round in $(seq "$rounds"); do
        hyperfine "${options[@]}" --warmup 2 --runs $((runs / rounds)) --export-json "$place/round-$round.json" \
            "${commands[@]}" >"$place/hyperfine.txt" 2>&1 || { cat "$place/hyperfine.txt" >&2; return 1; }
    done
    jq -s --arg cgroups "$cgroups" --argjson pause "$pause" --arg work "$work" --arg policy "$policy" '
        def median: sort | if length % 2 == 1 then .[length / 2 | floor] else (.[length / 2 - 1] + .[length / 2]) / 2 end;
        {cgroups: $cgroups, pauseMs: $pause, work: $work, seccomp: ($policy == "hardened"),
         runtimes: ([.[].results[]] | group_by(.command) | map({key: .[0].command, value: ([.[].times[]] | {
            median: median, min: min, times: .})}) | from_entries)}' "$place"/round-*.json >>"$place/measured.json"
}

# Those of the runtimes that can do it here, into `able`; the others are named with what they say.
able_of() { # CGROUPS RUNTIME...
    local cgroups=$1 runtime
    shift
    able=()
    while [ $# -gt 0 ]; do
        runtime=$1
        shift
        if sh -c "$(command_of "$runtime" run hardened)" >"$place/once.txt" 2>&1 </dev/null; then
            able+=("$runtime")
        else
            echo "cgroups $cgroups: $runtime cannot do it here: $(tail -1 "$place/once.txt")" >&2
            # What it could not make it may not have taken away again.
            for left in /sys/fs/cgroup/"bench-$runtime" /sys/fs/cgroup/*/"bench-$runtime"; do
                if [ -d "$left" ]; then rmdir "$left"; fi
            done
            if [ "$runtime" = crun ]; then set -- "$@" crun-; fi
        fi
    done
    # Without gabion there is nothing to compare.
    [ "${able[0]:-}" = gabion ]
}

all_of() { # CGROUPS RUNTIME...
    local cgroups=$1 pause able
    able_of "$@" || return 1
    set -- "${able[@]}"
    for pause in 0 50; do
        measure "$cgroups" "$pause" run hardened "$@"
        measure "$cgroups" "$pause" run open "$@"
        measure "$cgroups" "$pause" stages hardened "$@"
    done
}

runtimes=(gabion runc)
if command -v crun >/dev/null; then runtimes+=(crun); fi
if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ]; then
    # crun does without the hybrid mode: in our own mount namespace, version 1 alone is seen.
    if mountpoint -q /sys/fs/cgroup/unified; then
        all_of hybrid gabion runc
        umount /sys/fs/cgroup/unified
    fi
    all_of v1 "${runtimes[@]}"
fi
mount -t cgroup2 gabion-bench /sys/fs/cgroup
all_of "v2" "${runtimes[@]}"
umount /sys/fs/cgroup

jq -s --arg gabion "$("$GABION" --version | paste -sd' ')" --arg kernel "$(uname -r)" --arg cpus "$(nproc)" \
    --arg load "$(cut -d' ' -f1-3 /proc/loadavg)" --arg others "$(for r in "${runtimes[@]:1}"; do "$r" --version | head -1; done | paste -sd,)" \
    '{gabion: $gabion, others: $others, kernel: $kernel, cpus: ($cpus | tonumber), loadAtEnd: $load, measurements: .}' \
    "$place/measured.json" >"$results"
jq -r '"\(.gabion)", "beside \(.others); Linux \(.kernel), \(.cpus) CPUs, load at the end \(.loadAtEnd)",
    "medians in ms; x is gabion divided by the other, so below 1 gabion is faster; crun-: crun without a cgroup", ""' "$results"
jq -r '
    def fixed($places): . * pow(10; $places) | round / pow(10; $places) | tostring;
    ["cgroups", "pause", "work", "gabion", "runc", "x", "crun", "x", "crun-", "x"],
    (.measurements[] | .runtimes as $r
        | [.cgroups, "\(.pauseMs) ms", (if .work == "run" then "run" else "create+start+delete" end)
            + (if .seccomp then "" else ", no seccomp" end), ($r.gabion.median * 1000 | fixed(1))]
            + ([$r.runc, $r.crun, $r["crun-"]] | map(if . then (.median * 1000 | fixed(1)),
                ($r.gabion.median / .median | fixed(2)) else "-", "-" end)))
    | @tsv' "$results" | column -t -s $'\t'
echo "every single time is in $results"
