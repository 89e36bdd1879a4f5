#!/usr/bin/env bash
# Every relative link of the documentation leads to a file, and so does every docs/*.md that code or scripts name.
set -euo pipefail
cd "$(dirname "$0")/.."
broken=0
count=0
check() { # FILE TARGET
    count=$((count + 1))
    if [ ! -e "$2" ]; then
        echo "$1: $2 does not exist" >&2
        broken=$((broken + 1))
    fi
}
while IFS= read -r file; do
    while IFS= read -r target; do
        check "$file" "$(dirname "$file")/$target"
    done < <(grep -oE '\]\([^):#]+(#[^)]*)?\)' "$file" | sed -E 's/^\]\(//; s/(#[^)]*)?\)$//')
done < <(git ls-files --cached --others --exclude-standard '*.md')
while IFS=: read -r file target; do
    check "$file" "$target"
done < <(git ls-files '*.rs' '*.toml' '*.sh' Makefile | xargs grep -oE 'docs/[a-z0-9/-]+\.md' | sort -u)
[ "$broken" = 0 ] || exit 1
echo "$count links lead to files"
