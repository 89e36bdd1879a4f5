#!/usr/bin/env bash
# Makes a root file system with the software that must run: root.sh DIRECTORY [PACKAGE...]
# With packages, these alone are installed. The mirror is the host's.
set -euo pipefail

root=${1:?usage: root.sh DIRECTORY [PACKAGE...]}
shift
packages=("$@")
if [ ${#packages[@]} = 0 ]; then
    packages=(
        postgresql mariadb-server redis-server nginx-light rabbitmq-server
        default-jre-headless nodejs python3 golang-go gcc libc6-dev
        git curl iputils-ping tcpdump procps ca-certificates
    )
fi
mirror=$(grep -rhoE '^(URIs:|deb) +https?://[^ ]+debian/? ?' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null \
    | awk 'NR == 1 { print $2 }' || true)
. /etc/os-release
joined=$(IFS=,; echo "${packages[*]}")
# Services are started by the tests and by nobody else.
mmdebstrap --quiet --variant=apt --include="$joined" --aptopt='APT::Install-Recommends "false"' \
    --essential-hook='printf "#!/bin/sh\nexit 101\n" > "$1/usr/sbin/policy-rc.d"; chmod 755 "$1/usr/sbin/policy-rc.d"' \
    --customize-hook='chroot "$1" sh -c "cd /var/cache && apt-get download -qq hello"' \
    "${VERSION_CODENAME:-bookworm}" "$root" "${mirror:-http://deb.debian.org/debian}"
