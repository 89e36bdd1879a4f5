#!/usr/bin/env bash
# Every test that docs/cves.md names exists, and every row names one or says why there is none.
set -euo pipefail
cd "$(dirname "$0")/.."
broken=0
count=0
while IFS= read -r name; do
    suite=${name%%::*} test=${name##*::}
    count=$((count + 1))
    for place in "integration/tests/$suite.rs" "integration/tests/$suite" "crates/$suite"; do
        if [ -e "$place" ] && grep -rqE "fn $test\(\)" --include=*.rs "$place"; then continue 2; fi
    done
    echo "docs/cves.md: there is no test $name" >&2
    broken=$((broken + 1))
done < <(grep -oE '[a-z_]+::[a-z0-9_]+' docs/cves.md | sort -u)
rows=0
while IFS= read -r row; do
    rows=$((rows + 1))
    if [[ $row == *'| – |' ]] && ! [[ $row =~ (out\ of\ reach|nothing\ is\ claimed|nothing\ of\ it\ is\ in\ a\ bundle) ]]; then
        echo "docs/cves.md: no test and no reason: $row" >&2
        broken=$((broken + 1))
    fi
done < <(grep -E '^\| ' docs/cves.md | grep -v '^| hole ')
[ "$broken" = 0 ] || exit 1
echo "$rows rows name $count tests, which exist"
