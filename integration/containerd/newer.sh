#!/usr/bin/env bash
# A newer containerd than this Debian's, from another suite's packages, without installing anything:
#
#   PATH=$(integration/containerd/newer.sh trixie):$PATH GABION=… scripts/engines.sh containerd kubernetes
#
# Prints a directory with containerd and ctr, which run with their own C library. trixie has 1.7, sid has 2.
set -euo pipefail
cd "$(dirname "$0")/../.."

suite=${1:?names a suite of Debian: trixie, sid}
place=$PWD/target/containerd-$suite
if [ ! -x "$place/bin/ctr" ]; then
    rm -rf "$place"
    mkdir -p "$place"/{lists/partial,cache/archives/partial,state,root,bin}
    : >"$place/state/status"
    mirror=$(apt-cache policy | sed -nE 's/.* (https?:[^ ]*) bookworm\/main .*/\1/p' | head -n 1)
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$place/sources.list"
    cat >"$place/apt.conf" <<CONF
Dir::State "$place/state";
Dir::State::Lists "$place/lists";
Dir::State::status "$place/state/status";
Dir::Cache "$place/cache";
Dir::Etc::sourcelist "$place/sources.list";
Dir::Etc::sourceparts "/dev/null";
APT::Sandbox::User "root";
CONF
    export APT_CONFIG=$place/apt.conf
    apt-get update -qq >&2
    (cd "$place/cache" && apt-get download -qq containerd libc6 libseccomp2 >&2)
    for package in "$place"/cache/*.deb; do
        dpkg -x "$package" "$place/root"
    done
    loader=$(find "$place/root/usr" -name 'ld-linux-*.so.*' | head -n 1)
    libraries=$(dirname "$(find "$place/root/usr/lib" -name libc.so.6 | head -n 1)")
    for program in containerd ctr; do
        printf '#!/bin/sh\nexec %s --library-path %s --argv0 %s %s "$@"\n' \
            "$loader" "$libraries" "$program" "$place/root/usr/bin/$program" >"$place/bin/$program"
        chmod 0755 "$place/bin/$program"
    done
fi
echo "$place/bin"
