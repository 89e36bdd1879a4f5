#!/usr/bin/env bash
# Real engines on GABION: containerd with ctr, Docker, podman with buildah; first on runc as a control, if it is there.
#
#   GABION=/path/to/gabion scripts/engines.sh [containerd] [kubernetes] [docker] [podman]
#
# kubernetes is containerd again, as a node's: pods through the CRI, with a client that is built here.
# The engines are Debian's (apt-get install containerd docker.io podman buildah runc), daemons started by the suites with directories, mounts
# and a network of their own, and ended by them. What the control cannot do on this host is skipped, with its reason.
# The last line counts the checks on gabion; the control's are not among them.
set -euo pipefail
cd "$(dirname "$0")/.."

: "${GABION:?names the program to test}"
GABION=$(realpath "$GABION")
export GABION
# gabion's own shim lies beside it.
SHIM=$(dirname "$GABION")/containerd-shim-gabion-v2
[ $# -gt 0 ] || set -- containerd kubernetes docker podman

missing=()
for program in containerd ctr dockerd /usr/bin/docker podman buildah conmon catatonit iptables busybox script unshare ip python3; do
    command -v "$program" >/dev/null || missing+=("$program")
done
[ -x /usr/lib/cni/bridge ] || missing+=(/usr/lib/cni/bridge)
if [ ${#missing[@]} -gt 0 ]; then
    echo "missing: ${missing[*]}" >&2
    echo "apt-get install --no-install-recommends containerd containernetworking-plugins docker.io podman buildah catatonit iptables uidmap runc busybox-static bsdutils iproute2 python3" >&2
    exit 1
fi

case " $* " in *" kubernetes "*)
    # Not part of the product, nor of its workspace (docs/decisions/0018-a-client-for-the-cri.md).
    cargo build --quiet --locked --manifest-path integration/kubernetes/client/Cargo.toml --target-dir target/cri-client
    CRI=$(find "$PWD/target/cri-client" -path '*/debug/gabion-cri' -type f)
    export CRI
    ;;
esac

output=$(mktemp -d)
trap 'rm -rf "$output"' EXIT
failed=0
for engine in "$@"; do
    suite=integration/$engine/suite.py
    control=
    if command -v runc >/dev/null; then
        echo "== $engine on runc, the control"
        # Its failures are the host's: they are told, and are no failures of ours.
        RUNTIME=runc python3 -B "$suite" >"$output/$engine.control" || true
        if ! tail -n 1 "$output/$engine.control" | grep -q ' skipped$'; then
            echo "the control of $engine did not come to its end" >&2
            exit 1
        fi
        grep '^#\|^FAIL' "$output/$engine.control" | sed 's/^/  /' || true
        tail -n 1 "$output/$engine.control" | sed 's/^/  /'
        control=$output/$engine.control
    fi
    echo "== $engine on gabion"
    RUNTIME=gabion CONTROL=$control python3 -B "$suite" | tee "$output/$engine.gabion" | sed -u 's/^/  /' || failed=1
    if [ "$engine" = containerd ] || [ "$engine" = kubernetes ]; then
        echo "== $engine on gabion, through gabion's own shim"
        if [ -x "$SHIM" ]; then
            RUNTIME=gabion SHIM=$SHIM CONTROL=$control python3 -B "$suite" |
                tee "$output/$engine-shim.gabion" | sed -u 's/^/  /' || failed=1
        else
            echo "SKIPPED the shim's checks: there is no $SHIM (cargo build -p gabion-shim)" |
                tee "$output/$engine-shim.gabion"
            echo "0 passed, 0 failed, 1 skipped" >>"$output/$engine-shim.gabion"
        fi
    fi
done

cat "$output"/*.gabion | awk '
    / passed, .* failed, .* skipped$/ { passed += $1; failed += $3; skipped += $5 }
    END { printf "engines: %d passed, %d failed, %d skipped\n", passed, failed, skipped }'
exit $failed
