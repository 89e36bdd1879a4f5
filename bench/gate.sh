#!/usr/bin/env bash
# How long the reality gate takes: all checks of one start together, as the init process itself measures them.
#
#   bench/gate.sh [CONFIG.json]     GABION names the program; RUNS (default 100), LIMIT in microseconds (default 1000)
#
# The container is the one of `gabion spec`, with what engines add: parameters, bind mounts, masked paths and a filter;
# or CONFIG.json, made to fit (its root, sources of bind mounts, cgroup and hooks). Fails if the median is over the
# limit. Takes root, and changes nothing outside a mount namespace of its own.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" != --measure ]; then
    gabion=$(realpath "${GABION:?names the program; \`make bench\` sets it}")
    GABION=$gabion exec unshare --mount --propagation private "$0" --measure "$@"
fi
shift
runs=${RUNS:-100}
limit=${LIMIT:-1000}
place=$(mktemp -d)
mount -t tmpfs -o mode=0755 gabion-bench "$place"
trap 'umount -l "$place" && rmdir "$place"' EXIT

mkdir -p "$place/bundle/rootfs"/{bin,dev,etc,proc,sys,tmp} "$place/volume"
cp /bin/busybox "$place/bundle/rootfs/bin/busybox"
ln -s busybox "$place/bundle/rootfs/bin/true"
touch "$place"/{hosts,hostname,resolv.conf}
printf '[ledger]\npath = "%s"\n' "$place/ledger/decisions.jsonl" >"$place/policy.toml"
if [ -n "${1:-}" ]; then
    jq --arg place "$place" '.hooks = {} | .root.path = "rootfs"
        | .linux.cgroupsPath = "/gabion-bench-gate" | .linux.namespaces |= map(del(.path))
        | .mounts |= map(if (.options // []) | any(. == "bind" or . == "rbind")
            then .source = $place + "/" + (if .destination | startswith("/etc/") then .destination[5:] else "volume" end)
            else . end)' "$1" >"$place/bundle/config.json"
else
    "$GABION" spec --bundle "$place/bundle"
    jq --arg place "$place" '.linux.cgroupsPath = "/gabion-bench-gate"
        | .linux.sysctl = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
        | .mounts += (["hosts", "hostname", "resolv.conf"] | map({destination: ("/etc/" + .), type: "bind",
            source: ($place + "/" + .), options: ["rbind", "rprivate"]}))' "$place/bundle/config.json" >"$place/config.json"
    mv "$place/config.json" "$place/bundle/config.json"
fi
jq '.process.terminal = false | .process.args = ["/bin/true"] | .process.cwd = "/" | .ociVersion = "1.0.2"' \
    "$place/bundle/config.json" >"$place/config.json"
mv "$place/config.json" "$place/bundle/config.json"

for _ in $(seq "$runs"); do
    "$GABION" --root "$place/state" --policy "$place/policy.toml" --debug --log "$place/log" --log-format json \
        run --bundle "$place/bundle" gabion-bench-gate </dev/null
done
jq -r 'select(.msg | contains("the reality gate is passed")) | .microseconds // (.msg | capture("microseconds=(?<n>[0-9]+)").n)' \
    "$place/log" | sort -n >"$place/times"
count=$(wc -l <"$place/times")
[ "$count" -eq "$runs" ] || { echo "of $runs starts, $count said how long the gate took" >&2; exit 1; }
at() { sed -n "$((count * $1 / 100 + 1))p" "$place/times"; }
echo "reality gate: median $(at 50) µs, 95th percentile $(at 95) µs, of $count starts; mounts in the bundle: $(jq '.mounts | length' "$place/bundle/config.json")"
[ "$(at 50)" -le "$limit" ] || { echo "the median is over $limit µs" >&2; exit 1; }
