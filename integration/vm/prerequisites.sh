#!/usr/bin/env bash
# Installs QEMU and mmdebstrap where they are missing. Debian 12 and its like; root.
#
# QEMU's packages want one version of each other. Where qemu-utils of the backports is installed already, the rest is
# taken from the backports too: nothing that is installed is replaced. The place of the backports is read from apt.
set -euo pipefail

wanted=()
command -v mmdebstrap >/dev/null || wanted+=(mmdebstrap)
command -v qemu-system-x86_64 >/dev/null || wanted+=(qemu-system-x86)
command -v mke2fs >/dev/null || wanted+=(e2fsprogs)
command -v xz >/dev/null || wanted+=(xz-utils)
[ ${#wanted[@]} -gt 0 ] || exit 0
echo "installing: ${wanted[*]}"
if [ "$(id -u)" != 0 ]; then
    echo "this takes root; or install them yourself and try again" >&2
    exit 1
fi

own=$(mktemp -d /var/tmp/gabion-apt.XXXXXX)
trap 'rm -rf "$own"' EXIT
options=()
if dpkg-query -W -f '${Version}\n' qemu-utils 2>/dev/null | grep -q '~bpo'; then
    # Lists and sources of our own: the machine's stay as they are.
    mkdir -p "$own/sources" "$own/lists/partial"
    # shellcheck disable=SC2016 # apt's own placeholders
    apt-get indextargets 'Created-By: Packages' 'Component: main' --format '$(SITE) $(CODENAME)' | sort -u |
        awk '{ print "deb", $1, $2, "main" }
             $2 !~ /-/ { print "deb", $1, $2 "-backports", "main" }' >"$own/sources/all.list"
    suite=$(awk '$3 ~ /-backports$/ { print $3; exit }' "$own/sources/all.list")
    options=(-o "Dir::Etc::SourceParts=$own/sources" -o Dir::Etc::SourceList=/dev/null
        -o "Dir::State::Lists=$own/lists" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
        -o APT::Sandbox::User=root -t "$suite")
    apt-get "${options[@]}" update -qq
else
    apt-get update -qq
fi
DEBIAN_FRONTEND=noninteractive apt-get "${options[@]}" -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${wanted[@]}" >/dev/null
