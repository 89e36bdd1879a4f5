#!/usr/bin/env bash
# How long the two gates take: judgement, with the facts of this host collected and every rule of the catalogue on, and
# all checks of the reality gate together. Judgement is measured twice: by itself, in a benchmark that repeats it
# (crates/host/benches/judge.rs), and as the processes that pass it measure it, each of which has just been started and
# does everything for the first time.
#
#   bench/gate.sh [CONFIG.json]     GABION names the program; RUNS (default 100), and in microseconds LIMIT_JUDGEMENT
#                                   (500), LIMIT_STARTED (1000) and LIMIT_REALITY (1000); REPEATED=no leaves the
#                                   benchmark out
#
# The configuration is one that Docker wrote, with its filter and its masks, or CONFIG.json; made to fit: its root,
# sources of bind mounts, cgroup and hooks. Fails if a median is over its limit. Takes root, and changes nothing outside
# a mount namespace of its own.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" != --measure ]; then
    gabion=$(realpath "${GABION:?names the program; \`make bench\` sets it}")
    failed=0
    if [ "${REPEATED:-yes}" = yes ]; then
        name="facts and judgement, every rule"
        said=$(cargo bench --quiet --package gabion-host --bench judge -- --noplot "$name" 2>&1) || {
            echo "$said" >&2
            exit 1
        }
        median=$(jq '.median.point_estimate / 1000 | round' "${CARGO_TARGET_DIR:-target}/criterion/$name/new/estimates.json")
        echo "judgement, every rule on and facts collected, repeated: median $median µs"
        [ "$median" -le "${LIMIT_JUDGEMENT:-500}" ] || { echo "the median is over ${LIMIT_JUDGEMENT:-500} µs" >&2; failed=1; }
    fi
    FAILED=$failed GABION=$gabion exec unshare --mount --propagation private "$0" --measure "$@"
fi
shift
runs=${RUNS:-100}
config=${1:-crates/baseline/tests/bundles/docker20-default.json}
place=$(mktemp -d)
mount -t tmpfs -o mode=0755 gabion-bench "$place"
trap 'umount -l "$place" && rmdir "$place"' EXIT

mkdir -p "$place/bundle/rootfs"/{bin,dev,etc,proc,sys,tmp} "$place/volume"
cp /bin/busybox "$place/bundle/rootfs/bin/busybox"
ln -s busybox "$place/bundle/rootfs/bin/true"
touch "$place"/{hosts,hostname,resolv.conf}
# Rules that baseline leaves off are asked too, and change nothing.
"$GABION" explain --format json | jq -r --arg place "$place" '"profile = \"baseline\"\n[ledger]\npath = \"\($place)/ledger/decisions.jsonl\"\n[rules]",
    (.rules[] | select(.levels.baseline == "off") | "\"\(.id)\" = \"audit\"")' >"$place/policy.toml"
jq --arg place "$place" '.hooks = {} | .root.path = "rootfs"
    | .linux.cgroupsPath = "/gabion-bench-gate" | .linux.namespaces |= map(del(.path))
    | .mounts |= map(if (.options // []) | any(. == "bind" or . == "rbind")
        then .source = $place + "/" + (if .destination | startswith("/etc/") then .destination[5:] else "volume" end)
        else . end)
    | .process.terminal = false | .process.args = ["/bin/true"] | .process.cwd = "/" | .ociVersion = "1.0.2"' \
    "$config" >"$place/bundle/config.json"

for _ in $(seq "$runs"); do
    "$GABION" --root "$place/state" --policy "$place/policy.toml" --debug --log "$place/log" --log-format json \
        run --bundle "$place/bundle" gabion-bench-gate </dev/null
done
failed=${FAILED:-0}
# A passage's name, what the log says of it, and its limit.
passage() {
    jq -r --arg says "$2" 'select(.msg | contains($says)) | .microseconds // (.msg | capture("microseconds=(?<n>[0-9]+)").n)' \
        "$place/log" | sort -n >"$place/times"
    count=$(wc -l <"$place/times")
    [ "$count" -eq "$runs" ] || { echo "of $runs containers, $count said how long this took: $1" >&2; exit 1; }
    at() { sed -n "$((count * $1 / 100 + 1))p" "$place/times"; }
    echo "$1: median $(at 50) µs, 95th percentile $(at 95) µs, of $count containers"
    [ "$(at 50)" -le "$3" ] || { echo "the median is over $3 µs" >&2; failed=1; }
}
passage "judgement, the same in a process just started" "the bundle is judged" "${LIMIT_STARTED:-1000}"
passage "reality gate" "the reality gate is passed" "${LIMIT_REALITY:-1000}"
exit "$failed"
