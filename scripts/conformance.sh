#!/usr/bin/env bash
# The runtime-spec's clauses against RUNTIME (default: GABION, under the profile that does not decide).
# What gabion is known not to do is in runtime-spec/known/gabion.txt, with the reason.
set -euo pipefail
cd "$(dirname "$0")/.."
known=()
if [ -z "${RUNTIME:-}" ]; then
    RUNTIME=$GABION
    RUNTIME_ARGS=${RUNTIME_ARGS:---profile privileged}
    known=(--known runtime-spec/known/gabion.txt)
fi
export RUNTIME RUNTIME_ARGS=${RUNTIME_ARGS:-}
exec cargo run --locked -q -p gabion-runtime-spec --bin gabion-conformance -- "${known[@]}" "$@"
