#!/usr/bin/env bash
# The Debian package, installed and removed in a small Debian of its own.
#
#   GABION=/path/to/gabion integration/debian/suite.sh
#
# mmdebstrap makes the Debian, below target/. Nothing runs in there but dpkg, its scripts, and gabion where it needs no host.
set -euo pipefail
cd "$(dirname "$0")/../.."

: "${GABION:?names the program to package}"
command -v mmdebstrap >/dev/null || { echo "missing: mmdebstrap (apt-get install mmdebstrap)" >&2; exit 1; }
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
passed=0 failed=0

check() { # NAME COMMAND...
    local name=$1
    shift
    if "$@" >"$place/output" 2>&1; then
        echo "ok $name"
        passed=$((passed + 1))
    else
        echo "FAIL $name: $(tail -n 5 "$place/output" | tr '\n' '|')"
        failed=$((failed + 1))
    fi
}
# shellcheck disable=SC2317 # called by way of `check`
absent() { ! test -e "$1"; }
inside() { # COMMAND...: in there, with a /proc
    # shellcheck disable=SC2016 # the inner shell's
    unshare --mount --propagation private sh -ec \
        'mount -t proc proc "$0/proc"; exec chroot "$0" "$@"' "$place/root" "$@"
}
# shellcheck disable=SC2317
says() { # TEXT COMMAND...
    local text=$1
    shift
    "$@" 2>&1 | tee /dev/stderr | grep -F -- "$text" >/dev/null
}

if [ ! -e target/debian/base.tar ]; then
    mkdir -p target/debian
    mmdebstrap --quiet --format=tar --variant=essential bookworm target/debian/base.tar.new
    mv target/debian/base.tar.new target/debian/base.tar
fi
mkdir "$place/root"
tar -C "$place/root" -xf target/debian/base.tar
scripts/deb.sh "$place/root/tmp" >/dev/null
package=$(cd "$place/root" && echo tmp/gabion_*.deb)

check the_package_is_for_somebody_to_ask says ' <' dpkg-deb -f "$place/root/$package" Maintainer
check it_installs inside dpkg -i "/$package"
check nothing_is_missing_after_it inside dpkg --verify gabion
check the_program_runs says 'gabion version' inside gabion --version
check the_links_name_the_profile says 'gabion version' inside gabion-restricted --version
check the_shim_runs says 'Version:' inside containerd-shim-gabion-restricted-v2 -v
check the_policy_is_read says 'baseline' inside gabion policy show
check pages_and_completions test -e "$place/root/usr/share/man/man8/containerd-shim-gabion-v2.8.gz" \
    -a -e "$place/root/usr/share/man/man8/gabion.8.gz" -a -e "$place/root/usr/share/bash-completion/completions/gabion"
check files_are_roots_alone says '0 files' sh -c \
    "echo \$(dpkg-deb -c '$place/root/$package' | awk '\$1 ~ /^[-d].....(w|.w)/ || \$2 != \"root/root\"' | grep -v '^l' | wc -l) files"

# An engine is told, and the package says so when it goes.
mkdir -p "$place/root/etc/docker"
echo '{"log-level": "warn"}' >"$place/root/etc/docker/daemon.json"
check a_dry_run_shows_the_difference says '+' inside gabion install docker --dry-run
check a_dry_run_changes_nothing grep -qx '{"log-level": "warn"}' "$place/root/etc/docker/daemon.json"
check install_docker inside gabion install docker
check docker_is_told grep -q /usr/bin/gabion "$place/root/etc/docker/daemon.json"
cp "$place/root/etc/docker/daemon.json" "$place/first"
check install_docker_again inside gabion install docker
check the_second_time_changes_nothing cmp "$place/first" "$place/root/etc/docker/daemon.json"
check install_podman inside gabion install podman
# containerd is not there to try it, which is said.
mkdir -p "$place/root/etc/containerd"
printf '# the site says\nversion = 2\n' >"$place/root/etc/containerd/config.toml"
cp "$place/root/etc/containerd/config.toml" "$place/containerd"
check install_containerd says 'not tried by containerd' inside gabion install containerd
check containerd_is_told grep -q 'runtime_type = "io.containerd.gabion-restricted.v2"' "$place/root/etc/containerd/config.toml"
cp "$place/root/etc/containerd/config.toml" "$place/first"
check install_containerd_again says 'nothing was changed' inside gabion install containerd
check the_second_time_changes_containerd_no_more cmp "$place/first" "$place/root/etc/containerd/config.toml"
check removal_warns_of_what_still_names_it says 'daemon.json still names it' inside dpkg -r gabion
check the_policy_stays_with_its_owner test -e "$place/root/etc/gabion/policy.toml"
check install_after_removal inside dpkg -i "/$package"
check uninstall_docker inside gabion uninstall docker
check uninstall_podman inside gabion uninstall podman
check uninstall_containerd inside gabion uninstall containerd
check containerd_is_as_it_was cmp "$place/containerd" "$place/root/etc/containerd/config.toml"
check docker_is_as_it_was sh -c "! grep -q gabion '$place/root/etc/docker/daemon.json' && grep -q log-level '$place/root/etc/docker/daemon.json'"
check purge inside dpkg -P gabion
check no_program_is_left absent "$place/root/usr/bin/gabion"
check no_policy_is_left absent "$place/root/etc/gabion"

echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
