#!/usr/bin/env bash
# Everything that is checked, in order, counted. GABION names the release program.
#
# The last line counts all tests of all parts; any failure makes the exit status 1.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT
failed=0
passed_total=0
failed_total=0
skipped_total=0

part() { # NAME COMMAND...
    local name=$1 output="$log/$1"
    shift
    printf '\n== %s\n' "$name"
    local begin=$SECONDS
    "$@" 2>&1 | tee "$output"
    local status=${PIPESTATUS[0]}
    # Runners close with "test result: ok. 3 passed; 0 failed; 1 ignored; …" or "3 passed, 0 failed, 1 skipped".
    local counts
    counts=$(sed -nE \
        -e 's/^test result: [A-Za-z]+\. ([0-9]+) passed; ([0-9]+) failed; ([0-9]+) ignored.*/\1 \2 \3/p' \
        -e 's/^([a-z]+: )?([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\2 \3 \4/p' "$output" |
        awk '{p += $1; f += $2; s += $3} END {print p + 0, f + 0, s + 0}')
    local p f s loud
    read -r p f s <<<"$counts"
    # A test that finds that it cannot run here says so; a skip is never a pass.
    loud=$(grep -c '^SKIPPED' "$output")
    passed_total=$((passed_total + p - loud))
    failed_total=$((failed_total + f))
    skipped_total=$((skipped_total + s + loud))
    if [ "$status" = 0 ] && [ "$f" != 0 ]; then
        # A suite that knows what fails, with a reason for each, and found nothing else: skipped, until one passes.
        failed_total=$((failed_total - f))
        skipped_total=$((skipped_total + f))
        echo "== $f known failures count as skipped"
    fi
    if [ "$status" != 0 ]; then
        failed=1
        # A part that fails without a failed test of its own (it does not compile, say) still counts as one.
        [ "$f" != 0 ] || failed_total=$((failed_total + 1))
        printf '== %s FAILED with status %s\n' "$name" "$status"
    elif [ "$p" = 0 ] && [ "$f" = 0 ]; then
        # A check that has nothing to count, such as the formatter, is one check.
        passed_total=$((passed_total + 1))
    fi
    printf '== %s took %d s\n' "$name" $((SECONDS - begin))
}

# shellcheck disable=SC2317 # called by way of `part`
in_cgroup2() { # COMMAND...: in a mount namespace of its own, with version 2 over /sys/fs/cgroup
    unshare --mount --propagation private sh -ec '
        # What lies there would still be in the list of mounts, if it were only covered.
        umount --recursive --lazy /sys/fs/cgroup
        mount -t cgroup2 none /sys/fs/cgroup
        exec "$@"' sh "$@"
}

part format cargo fmt --check
part clippy cargo clippy --workspace --all-targets --locked -- -D warnings
# A workspace of its own.
client=(--manifest-path integration/kubernetes/client/Cargo.toml)
part format-client cargo fmt "${client[@]}" --check
part clippy-client cargo clippy "${client[@]}" --target-dir target/cri-client --locked -- -D warnings
if ! command -v cargo-deny >/dev/null && ! [ -x target/tools/bin/cargo-deny ]; then
    echo "installing cargo-deny below target/tools"
    cargo install --quiet --locked --root target/tools --target-dir target/tools/build cargo-deny
fi
PATH="$PATH:$PWD/target/tools/bin"
part deny cargo deny --all-features check bans licenses sources
part scripts shellcheck scripts/*.sh bench/*.sh .ci/run integration/vm/*.sh integration/vm/guest/run integration/vm/inside/*
part static scripts/check-static.sh "$GABION"
part static-shim scripts/check-static.sh "$(dirname "$GABION")/containerd-shim-gabion-v2"
part links scripts/check-links.sh
part cves scripts/check-cves.sh
part rules scripts/rules.sh --check
part unit cargo test --workspace --locked --no-fail-fast --exclude gabion-integration -- --show-output
part end-to-end env GABION="$GABION" cargo test --locked --no-fail-fast -p gabion-integration -- --show-output
part end-to-end-cgroup2 in_cgroup2 env GABION="$GABION" cargo test --locked --no-fail-fast -p gabion-integration -- --show-output
part conformance-hybrid scripts/conformance.sh
part conformance-cgroup2 in_cgroup2 scripts/conformance.sh
part kubernetes-manifests python3 -B integration/kubernetes/check.py
part kubernetes-node env GABION="$GABION" python3 -B integration/kubernetes/node.py
part software env GABION="$GABION" python3 -B integration/software/suite.py --core
if [ -x scripts/engines.sh ]; then part engines scripts/engines.sh; fi
# What takes systemd, cgroup version 2 with its controllers, or AppArmor: in a machine that has them.
part vm env GABION="$GABION" integration/vm/suite.sh --timeout 900 \
    systemd session apparmor limits limits+systemd conformance+systemd
part demo scripts/demo.sh

echo
echo "total: $passed_total passed, $failed_total failed, $skipped_total skipped"
exit $failed
