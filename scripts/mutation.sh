#!/usr/bin/env bash
# Takes away one rule at a time, and looks whether a test of the catalogue turns red. A rule that nothing misses is
# not tested.
#
#   scripts/mutation.sh          lists each rule with the number of tests that notice
#   scripts/mutation.sh --list   and with their names
set -euo pipefail
cd "$(dirname "$0")/.."
names=false
case ${1:-} in
'') ;;
--list) names=true ;;
*)
    echo "scripts/mutation.sh: there is no option ${1@Q}; known is --list" >&2
    exit 2
    ;;
esac

# The tests are compiled once: the switch is in the environment, and only tests know it (crates/baseline/src/judge.rs).
tests=$(cargo test -q --locked -p gabion-baseline --lib --no-run --message-format=json |
    jq -r 'select(.profile.test == true and .target.name == "gabion_baseline") | .executable' | tail -1)
[ -x "$tests" ] || { echo "scripts/mutation.sh: the tests of gabion-baseline were not built" >&2; exit 1; }
cd crates/baseline
export RUST_BACKTRACE=0
if ! "$tests" -q >/dev/null 2>&1; then
    echo "scripts/mutation.sh: the tests fail with all rules there" >&2
    exit 1
fi

rules=$(grep -rhoE '^ +id: "[A-Z]+-[0-9]{2}"' src/rules | grep -oE '[A-Z]+-[0-9]{2}' | sort -u)
count=0
missed=()
for rule in $rules; do
    count=$((count + 1))
    red=$(GABION_TEST_WITHOUT_RULE=$rule "$tests" 2>/dev/null |
        sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' | sort -u || true)
    if [ -z "$red" ]; then
        missed+=("$rule")
        printf '%s  nothing notices\n' "$rule"
        continue
    fi
    printf '%s  %s tests\n' "$rule" "$(wc -l <<<"$red")"
    if $names; then awk '{ print "        " $0 }' <<<"$red"; fi
done
if [ ${#missed[@]} -gt 0 ]; then
    echo "scripts/mutation.sh: of $count rules ${#missed[@]} can be taken away unnoticed: ${missed[*]}" >&2
    exit 1
fi
echo "$count rules, each missed by a test when it is taken away"
