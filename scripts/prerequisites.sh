#!/usr/bin/env bash
# Installs what building and testing need and the machine lacks. Debian and its like; says what it does.
set -euo pipefail

missing=()
need() { # PACKAGE TEST...
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}

libraries=/usr/lib/$(uname -m)-linux-gnu
need gcc command -v cc
# Without its recommendations, gcc comes without the C library's files for linking.
need libc6-dev test -e "$libraries/libc.a"
need file command -v file
need jq command -v jq
need make command -v make
need pkg-config command -v pkg-config
need libseccomp-dev test -e "$libraries/libseccomp.a"
need busybox-static test -x /bin/busybox
need iproute2 command -v ip
need procps command -v ps
need util-linux command -v nsenter
if [ "${GABION_PREREQUISITES:-}" = all ]; then
    need runc command -v runc
    need crun command -v crun
    need bsdextrautils command -v column
    need hyperfine command -v hyperfine
    need python3 command -v python3
    need shellcheck command -v shellcheck
    need containerd command -v containerd
    need containernetworking-plugins test -x /usr/lib/cni/bridge
    need docker.io command -v dockerd
    need docker-compose command -v docker-compose
    need podman command -v podman
    need buildah command -v buildah
    need catatonit command -v catatonit
    need iptables command -v iptables
    need uidmap command -v newuidmap
    need kubernetes-client command -v kubectl
    need mmdebstrap command -v mmdebstrap
fi

if [ ${#missing[@]} -gt 0 ]; then
    echo "installing: ${missing[*]}"
    if [ "$(id -u)" != 0 ]; then
        echo "this takes root; or install them yourself and try again" >&2
        exit 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

if ! command -v cargo >/dev/null; then
    echo "there is no cargo: gabion is built with Rust $(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml) or newer" >&2
    echo "install it with rustup, or with your distribution's package, and try again" >&2
    exit 1
fi
