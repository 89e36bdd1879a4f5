#!/usr/bin/env bash
# The program is one static file: it has no interpreter to load it and needs no library of the host.
set -euo pipefail
program=$1
headers=$(readelf --program-headers "$program")
dynamic=$(readelf --dynamic "$program")
if grep -q INTERP <<<"$headers"; then
    echo "$program has a dynamic loader" >&2
    exit 1
fi
if grep -q NEEDED <<<"$dynamic"; then
    echo "$program needs shared libraries" >&2
    exit 1
fi
grep -q 'Type:.*DYN' <<<"$(readelf --file-header "$program")" || {
    echo "$program is not position-independent: it would be loaded at a fixed address" >&2
    exit 1
}
if readelf --sections "$program" | grep -q '\.symtab'; then
    echo "$program is not stripped" >&2
    exit 1
fi
echo "$program: static, position-independent, stripped, $(stat -c %s "$program") bytes"
