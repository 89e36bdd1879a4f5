#!/usr/bin/env bash
# Builds an image of the virtual machine, unless the one of this recipe is there already; prints its directory.
#
#   image.sh thin|engines
#
# The directory holds root.raw (a file system, no partitions), vmlinuz, initrd and packages.txt. Images are kept below
# GABION_VM_CACHE (default: ~/.cache/gabion-vm) under a name that has the recipe's hash: this file, its lists of packages
# and what is put into the guest. Messages go to standard error.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

suite=trixie
# Beside Debian's smallest set (minbase).
base=(systemd systemd-sysv dbus udev kmod iproute2 procps linux-image-cloud-amd64 apparmor runc crun criu busybox-static
    python3-minimal jq uidmap util-linux dbus-user-session libpam-systemd)
case ${1:-} in
thin) packages=("${base[@]}") room=1024 ;;
engines)
    packages=("${base[@]}" python3 apparmor-utils containerd docker.io docker-cli docker-buildx docker-compose podman
        buildah skopeo conmon netavark aardvark-dns iptables nftables slirp4netns passt fuse-overlayfs catatonit
        containernetworking-plugins ca-certificates strace socat curl bsdutils)
    room=4096
    ;;
*)
    echo "usage: image.sh thin|engines" >&2
    exit 1
    ;;
esac

cache=${GABION_VM_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/gabion-vm}
hash=$(cat "$here/image.sh" "$here"/guest/* | sha256sum | cut -c1-16)
image=$cache/$1-$hash
mkdir -p "$cache"
exec 8>"$cache/lock"
flock 8
if [ -e "$image/root.raw" ]; then
    echo "$image"
    exit 0
fi
begin=$SECONDS
echo "vm: building the image \"$1\" with Debian $suite, ${#packages[@]} packages and what they need" >&2
"$here/prerequisites.sh" >&2

work=$(mktemp -d "$cache/building.XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root

# Where this machine's own Debian comes from has this suite too.
# shellcheck disable=SC2016 # apt's own placeholders
site=$(apt-get indextargets 'Created-By: Packages' 'Component: main' --format '$(CODENAME) $(SITE)' |
    awk '$1 !~ /-/ { print $2; exit }')
if [ -z "$site" ]; then
    echo "vm: apt knows no Debian suite with a component main; \"apt-get update\" first" >&2
    exit 1
fi
# Whoever tells apt not to mind a clock or to use a proxy means it here as well.
apt-config dump | grep -E '^Acquire::(Check-|http|https|ForceIPv|Retries)' >"$work/apt.conf" || true
# The host's temporary directory may not be writable for apt's own user.
echo 'APT::Sandbox::User "root";' >>"$work/apt.conf"

mmdebstrap --quiet --mode=root --variant=minbase --aptopt="$work/apt.conf" \
    --include="$(IFS=,; echo "${packages[*]}")" \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/info/*' \
    "$suite" "$root" "deb $site $suite main" >&2

# The guest's unit, and what it runs.
install -D -m 0755 "$here/guest/run" "$root/usr/local/sbin/gabion-vm-run"
install -D -m 0644 "$here/guest/gabion-vm.service" "$root/etc/systemd/system/gabion-vm.service"
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -sf ../gabion-vm.service "$root/etc/systemd/system/multi-user.target.wants/gabion-vm.service"
ln -sf /usr/lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
echo gabion-vm >"$root/etc/hostname"
printf '127.0.0.1 localhost gabion-vm\n::1 localhost\n' >"$root/etc/hosts"
echo '/dev/vda / ext4 rw,relatime 0 1' >"$root/etc/fstab"
# Nobody logs in, nothing is to happen by itself, and daemons are started by who tests them.
for unit in getty@tty1.service getty-static.service serial-getty@ttyS0.service console-getty.service \
    systemd-firstboot.service systemd-timesyncd.service systemd-networkd.service systemd-resolved.service \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer logrotate.timer \
    containerd.service docker.service docker.socket podman.service podman.socket podman-restart.service \
    podman-auto-update.service podman-auto-update.timer e2scrub_reap.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
# Profiles of programs that are not tested cost half a minute of each boot.
if [ -d "$root/etc/apparmor.d" ]; then
    find "$root/etc/apparmor.d" -maxdepth 1 -type f -delete
fi

# The kernel, and a small first file system of our own: what the disk needs, and nothing that looks for it.
version=$(basename "$root"/lib/modules/*)
first=$work/first
mkdir -p "$first/bin" "$first/modules" "$first/proc" "$first/sys" "$first/dev" "$first/root"
install -m 0755 "$root/bin/busybox" "$first/bin/busybox"
number=100
for module in virtio_pci virtio_blk ext4; do
    while read -r verb path _; do
        [ "$verb" = insmod ] || continue
        name=$(basename "${path%.xz}")
        [ -z "$(find "$first/modules" -name "*-$name")" ] || continue
        number=$((number + 1))
        case $path in
        *.xz) xz -dc "$root$path" >"$first/modules/$number-$name" ;;
        *) cp "$root$path" "$first/modules/$number-$name" ;;
        esac
    done < <(chroot "$root" modprobe -S "$version" --show-depends "$module")
done
install -m 0755 "$here/guest/init" "$first/init"
(cd "$first" && find . | busybox cpio -o -H newc 2>/dev/null) | gzip -1 >"$work/initrd"
cp "$root/boot/vmlinuz-$version" "$work/vmlinuz"
# shellcheck disable=SC2016 # dpkg's own placeholders
chroot "$root" dpkg-query -W -f '${Package} ${Version}\n' >"$work/packages.txt"
rm -rf "${root:?}"/boot/* "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*

size=$(($(du -sm "$root" | cut -f1) * 11 / 10 + room))
mke2fs -q -t ext4 -O ^has_journal -m 0 -d "$root" "$work/root.raw" "${size}M" >&2
rm -rf "$root" "$first" "$work/apt.conf"
# Images of older recipes are of no use to anybody.
find "$cache" -maxdepth 1 -type d -name "$1-*" -mtime +7 -exec rm -rf {} +
chmod 0755 "$work"
mv "$work" "$image"
trap - EXIT
echo "vm: built in $((SECONDS - begin)) s: $(du -sm "$image" | cut -f1) MiB, Linux $version" >&2
echo "$image"
