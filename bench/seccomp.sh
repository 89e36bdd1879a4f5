#!/usr/bin/env bash
# What Docker's full seccomp profile adds to a start: `run` with it and without any filter, in pairs, of gabion beside
# runc and crun; and what a filter then costs each system call.
#
#   bench/seccomp.sh     GABION names the program; ROUNDS (default 15) of RUNS (default 6); LIMIT in ms (default 0.5)
#
# gabion loads its floor under the profile; "gabion-" is without the floor, which is what the others do, and "gabion~"
# with a profile that has a rule more, so that its filter is not built in, but kept from the first start. Fails if the
# median difference for gabion is over the limit. Takes root, and changes nothing outside a mount namespace of its own.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" != --measure ]; then
    gabion=$(realpath "${GABION:?names the program; \`make bench\` sets it}")
    for tool in hyperfine jq runc; do
        command -v "$tool" >/dev/null || { echo "bench/seccomp.sh needs $tool" >&2; exit 1; }
    done
    if [ "${LOOKUP:-yes}" = yes ]; then cargo bench --quiet --package gabion-seccomp --bench lookup; fi
    GABION=$gabion exec unshare --mount --propagation private "$0" --measure
fi

rounds=${ROUNDS:-15}
runs=${RUNS:-6}
limit=${LIMIT:-0.5}
place=$(mktemp -d)
mount -t tmpfs -o mode=0755 gabion-bench "$place"
trap 'umount -l "$place" && rmdir "$place"' EXIT
# crun refuses a host with both versions of cgroups.
if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ]; then mount -t cgroup2 gabion-bench /sys/fs/cgroup; fi

rootfs=$place/rootfs
mkdir -p "$rootfs"/{bin,dev,etc,proc,sys,tmp} "$place"/{spec,with,site,without}
cp /bin/busybox "$rootfs/bin/busybox"
ln -s busybox "$rootfs/bin/true"
ledger="[ledger]
path = \"$place/ledger/decisions.jsonl\""
printf '%s\n' "$ledger" >"$place/with.toml"
printf '[rules]\nSEC-03 = "off"\n%s\n' "$ledger" >"$place/no-floor.toml"
printf '[rules]\nSEC-01 = "off"\nSEC-03 = "off"\n%s\n' "$ledger" >"$place/without.toml"

"$GABION" spec --bundle "$place/spec"
jq --arg rootfs "$rootfs" '.process.terminal = false | .process.args = ["/bin/true"] | .root.path = $rootfs
    | .ociVersion = "1.0.2" | .linux.cgroupsPath = "/gabion-bench-seccomp" | del(.linux.seccomp)' \
    "$place/spec/config.json" >"$place/without/config.json"
jq --slurpfile profile crates/seccomp/profiles/docker-20.10.json '.linux.seccomp = $profile[0]' \
    "$place/without/config.json" >"$place/with/config.json"
jq '.linux.seccomp.syscalls += [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]' \
    "$place/with/config.json" >"$place/site/config.json"

bundle_of() { # RUNTIME with|without
    if [ "$*" = "gabion~ with" ]; then echo "$place/site"; else echo "$place/$2"; fi
}

command_of() { # RUNTIME with|without
    local policy=$2 bundle
    bundle=$(bundle_of "$@")
    case $1 in
    gabion | gabion~) echo "$GABION --root $place/state --policy $place/$policy.toml run --bundle $bundle gabion-bench" ;;
    gabion-)
        if [ "$policy" = with ]; then policy=no-floor; fi
        echo "$GABION --root $place/state --policy $place/$policy.toml run --bundle $place/$2 gabion-bench"
        ;;
    crun-) echo "crun --cgroup-manager=disabled --root $place/state-crun run --bundle $place/$2 gabion-bench" ;;
    *) echo "$1 --root $place/state-$1 run --bundle $place/$2 gabion-bench" ;;
    esac
}

able=()
for runtime in gabion gabion~ gabion- runc crun crun-; do
    if [ "$runtime" = crun- ] && [ "${able[-1]}" = crun ]; then continue; fi
    for which in with without; do
        if ! sh -c "$(command_of "$runtime" "$which")" >"$place/once.txt" 2>&1 </dev/null; then
            echo "$runtime cannot do it here ($which): $(tail -1 "$place/once.txt")" >&2
            continue 2
        fi
    done
    able+=("$runtime")
done
[ "${able[0]:-}" = gabion ]

# What was asked for is what runs: the number of filters in each case.
for runtime in "${able[@]}"; do
    for which in with without; do
        config=$(bundle_of "$runtime" "$which")/config.json
        cp "$config" "$place/kept.json"
        jq '.process.args = ["/bin/busybox", "grep", "-E", "^Seccomp_filters", "/proc/self/status"]' \
            "$place/kept.json" >"$config"
        echo "$runtime, $which: $(sh -c "$(command_of "$runtime" "$which")" </dev/null)"
        cp "$place/kept.json" "$config"
    done
done

for round in $(seq "$rounds"); do
    commands=()
    for runtime in "${able[@]}"; do
        # Each of the pair is first in every second round.
        if [ $((round % 2)) = 0 ]; then pair="with without"; else pair="without with"; fi
        for which in $pair; do
            commands+=(--command-name "$runtime $which" "$(command_of "$runtime" "$which")")
        done
    done
    hyperfine --shell none --style none --warmup 1 --runs "$runs" --export-json "$place/round-$round.json" \
        "${commands[@]}" >"$place/hyperfine.txt" 2>&1 || { cat "$place/hyperfine.txt" >&2; exit 1; }
done
jq -s 'def median: sort | if length % 2 == 1 then .[length / 2 | floor] else (.[length / 2 - 1] + .[length / 2]) / 2 end;
    [.[].results | map({key: .command, value: (.times | median * 1000)}) | from_entries] as $rounds
    | [$rounds[0] | keys[] | split(" ")[0]] | unique | map(. as $runtime | {runtime: .,
        with: ([$rounds[][$runtime + " with"]] | median), without: ([$rounds[][$runtime + " without"]] | median),
        differences: ([$rounds[] | .[$runtime + " with"] - .[$runtime + " without"]] | sort)}
        | .difference = (.differences | median))' "$place"/round-*.json >"$place/measured.json"
echo "run of /bin/true in ms: medians of $rounds rounds of $runs; difference: the median of the rounds' differences, and"
echo "their quarters; Linux $(uname -r), $(nproc) CPUs, load $(cut -d' ' -f1 /proc/loadavg)"
jq -r 'def fixed: . * 100 | round / 100 | tostring;
    ["runtime", "without", "Docker profile", "difference", "quarters"], (.[] | [.runtime, (.without | fixed),
        (.with | fixed), (.difference | fixed), ((.differences | [.[length / 4 | floor], .[length * 3 / 4 | floor]])
        | map(fixed) | join(" to "))]) | @tsv' "$place/measured.json" | column -t -s $'\t'
jq -e --argjson limit "$limit" '.[] | select(.runtime == "gabion") | .difference <= $limit' "$place/measured.json" >/dev/null ||
    { echo "gabion's difference is over $limit ms" >&2; exit 1; }
