#!/usr/bin/env bash
# A Debian package of the built programs: binaries, links, man pages, completions, an annotated default policy.
#
#   GABION=/path/to/gabion scripts/deb.sh [OUTPUT_DIRECTORY]
#
# Who stands behind the package is who builds it: DEBFULLNAME and DEBEMAIL, as Debian's tools have it.
# The shim lies beside GABION. The package changes no engine's configuration: `gabion install ENGINE` does, and the
# package says so and refuses nothing when it goes, but tells which engines still name gabion.
set -euo pipefail
cd "$(dirname "$0")/.."

: "${GABION:?names the program to package}"
output=${1:-target/debian}
shim=$(dirname "$GABION")/containerd-shim-gabion-v2
version=$("$GABION" --version | sed -n '1s/.*version //p')
architecture=$(dpkg --print-architecture)

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
chmod 0755 "$tree"
install -D -m 0755 "$GABION" "$tree/usr/bin/gabion"
install -D -m 0755 "$shim" "$tree/usr/bin/containerd-shim-gabion-v2"
ln -s gabion "$tree/usr/bin/gabion-restricted"
ln -s containerd-shim-gabion-v2 "$tree/usr/bin/containerd-shim-gabion-restricted-v2"

manual=$(mktemp -d)
"$GABION" manual "$manual"
for page in "$manual"/man/man8/*; do
    install -D -m 0644 "$page" "$tree/usr/share/man/man8/$(basename "$page")"
done
install -m 0644 crates/shim/containerd-shim-gabion-v2.8 "$tree/usr/share/man/man8/"
gzip -9n "$tree"/usr/share/man/man8/*
ln -s containerd-shim-gabion-v2.8.gz "$tree/usr/share/man/man8/containerd-shim-gabion-restricted-v2.8.gz"
install -D -m 0644 "$manual/bash-completion/gabion" "$tree/usr/share/bash-completion/completions/gabion"
install -D -m 0644 "$manual/zsh/_gabion" "$tree/usr/share/zsh/vendor-completions/_gabion"
install -D -m 0644 "$manual/fish/gabion.fish" "$tree/usr/share/fish/vendor_completions.d/gabion.fish"
rm -rf "$manual"

install -D -m 0644 LICENSE "$tree/usr/share/doc/gabion/copyright"
install -D -m 0644 CHANGELOG.md "$tree/usr/share/doc/gabion/CHANGELOG.md"
gzip -9n "$tree/usr/share/doc/gabion/CHANGELOG.md"
for page in policy engines kubernetes kernel-features security-model; do
    install -D -m 0644 "docs/$page.md" "$tree/usr/share/doc/gabion/$page.md"
done
install -d -m 0755 "$tree/etc/gabion/policy.d"
cat >"$tree/etc/gabion/policy.toml" <<'POLICY'
# gabion's policy: what a container may be on this host. /usr/share/doc/gabion/policy.md says what can stand here;
# `gabion policy show` prints what holds. What is not written has its built-in value, as shown.

# profile = "baseline"    # or "restricted", or "privileged", which only records
POLICY
chmod 0644 "$tree/etc/gabion/policy.toml"

install -d "$tree/DEBIAN"
size=$(du -sk --exclude=DEBIAN "$tree" | cut -f1)
cat >"$tree/DEBIAN/control" <<CONTROL
Package: gabion
Version: $version
Architecture: $architecture
Maintainer: ${DEBFULLNAME:-$(id -un)} <${DEBEMAIL:-$(id -un)@$(hostname)}>
Installed-Size: $size
Section: admin
Priority: optional
Enhances: containerd, docker.io, podman
Description: OCI container runtime that judges, hardens and verifies
 gabion stands where runc stands. It judges each bundle against a policy before it
 builds anything, adds the hardening that is missing, and reads the kernel's own state
 back before it executes the program. With it comes containerd-shim-gabion-v2.
 .
 No engine is told of it by the package: gabion install docker|containerd|podman does.
CONTROL
echo /etc/gabion/policy.toml >"$tree/DEBIAN/conffiles"
cat >"$tree/DEBIAN/prerm" <<'PRERM'
#!/bin/sh
# An engine that names a program that is gone starts no container: it is said before that happens.
set -e
if [ "$1" = remove ]; then
    for file in /etc/docker/daemon.json /etc/containerd/config.toml /etc/containers/containers.conf; do
        if grep -qs /usr/bin/gabion "$file" || grep -qs io.containerd.gabion "$file"; then
            echo "gabion: $file still names it; gabion uninstall docker|containerd|podman takes it out" >&2
        fi
    done
fi
PRERM
cat >"$tree/DEBIAN/postrm" <<'POSTRM'
#!/bin/sh
# The ledger stays: it says what was run. It goes with whoever removes the logs.
set -e
if [ "$1" = purge ]; then
    rm -rf /run/gabion
    if [ -d /etc/gabion ]; then
        rmdir --ignore-fail-on-non-empty /etc/gabion/policy.d /etc/gabion 2>/dev/null || true
    fi
fi
POSTRM
chmod 0755 "$tree/DEBIAN/prerm" "$tree/DEBIAN/postrm"
mkdir -p "$output"
dpkg-deb --root-owner-group --build "$tree" "$output/gabion_${version}_$architecture.deb"
