#!/usr/bin/env bash
# Boots a virtual machine with systemd, cgroup v2 and AppArmor, runs a script in it as root, brings back what it left.
#
#   run.sh [--image thin|engines] --script FILE [--add PATH[=NAME]]... [--output DIRECTORY] [--timeout SECONDS]
#
#   --script FILE       what is run in the guest, in the directory with what was added; its output is printed here
#   --add PATH[=NAME]   a file or directory that the guest gets, under NAME or its own; what lies in bin/ is in the PATH
#   --output DIRECTORY  where the files go that the script wrote to $OUTPUT (default: nowhere)
#   --timeout SECONDS   from boot to the end (default: 900)
#   --image NAME        thin (default; runc, crun, criu) or engines (containerd, Docker, podman as well)
#
# The exit status is the script's; 125 if the machine did not come up, or did not come to its end. One machine at a
# time: a second caller waits for the first.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

image=thin
script=
output=
timeout=900
added=()
while [ $# -gt 0 ]; do
    case $1 in
    --image | --script | --add | --output | --timeout)
        [ $# -ge 2 ] || { echo "run.sh: $1 needs a value" >&2; exit 125; }
        case $1 in
        --image) image=$2 ;;
        --script) script=$2 ;;
        --add) added+=("$2") ;;
        --output) output=$2 ;;
        --timeout) timeout=$2 ;;
        esac
        shift 2
        ;;
    -h | --help)
        sed -n '2,/^set -/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    *)
        echo "run.sh: unknown argument $1; --help says which there are" >&2
        exit 125
        ;;
    esac
done
if [ ! -f "$script" ]; then
    echo "run.sh: --script names no file: \"$script\"" >&2
    exit 125
fi
memory=2048
[ "$image" = thin ] || memory=4096

exec 9>"${TMPDIR:-/tmp}/gabion-vm.lock"
if ! flock -n 9; then
    echo "vm: another virtual machine of this kind is running; waiting for it"
    flock 9
fi
directory=$("$here/image.sh" "$image") || exit 125
"$here/prerequisites.sh" || exit 125

work=$(mktemp -d /var/tmp/gabion-vm.XXXXXX)
machine=
follower=
# shellcheck disable=SC2317 # called by the trap
finish() {
    [ -z "$machine" ] || kill "$machine" 2>/dev/null || true
    [ -z "$follower" ] || kill "$follower" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

# The guest's second disk is an archive; its third takes one.
mkdir "$work/in"
install -m 0755 "$script" "$work/in/script"
for entry in "${added[@]}"; do
    path=${entry%%=*}
    name=$(basename "$path")
    [ "$entry" = "$path" ] || name=${entry#*=}
    mkdir -p "$work/in/$(dirname "$name")"
    cp -a --reflink=auto "$path" "$work/in/$name"
done
tar -C "$work/in" -cf "$work/in.tar" .
rm -rf "$work/in"
truncate -s %512 "$work/in.tar"
truncate -s 256M "$work/out.tar"

begin=$SECONDS
start() {
    : >"$work/console"
    : >"$work/output"
    nice -n "${GABION_VM_NICE:-10}" qemu-system-x86_64 -accel tcg,thread=multi,tb-size=512 -cpu max -smp 2 -m "$memory" \
        -nodefaults -no-user-config -display none -monitor none -nic none -no-reboot \
        -kernel "$directory/vmlinuz" -initrd "$directory/initrd" \
        -append "root=/dev/vda rw console=ttyS0 quiet security=apparmor apparmor=1 mitigations=off panic=-1 \
systemd.unified_cgroup_hierarchy=1 systemd.show_status=false systemd.journald.forward_to_console=0 net.ifnames=0 no_timer_check" \
        -drive "file=$directory/root.raw,format=raw,if=virtio,snapshot=on,cache=unsafe" \
        -drive "file=$work/in.tar,format=raw,if=virtio,readonly=on" \
        -drive "file=$work/out.tar,format=raw,if=virtio,cache=unsafe" \
        -serial "file:$work/console" -serial "file:$work/output" \
        -device virtio-rng-pci 2>"$work/qemu" 9>&- &
    machine=$!
    tail -n +1 -f --pid "$machine" "$work/output" 9>&- 2>/dev/null | grep --line-buffered -v '^gabion-vm: status' &
    follower=$!
}

fail() {
    echo "vm: FAILED: $1" >&2
    sed 's/^/vm: qemu: /' "$work/qemu" >&2
    tail -n 40 "$work/console" | sed 's/^/vm: console: /' >&2
    exit 125
}

start
up=
again=yes
while true; do
    if ! kill -0 "$machine" 2>/dev/null; then
        ended=0
        wait "$machine" || ended=$?
        machine=
        wait "$follower" || true
        follower=
        [ "$ended" != 0 ] || break
        # QEMU's emulation of several processors loses a race at times, while the guest sets up its devices. Nothing has
        # been tested by then.
        if [ -z "$again" ] || grep -q '^gabion-vm: up' "$work/output"; then
            fail "QEMU ended with status $ended"
        fi
        again=
        sed 's/^/vm: qemu: /' "$work/qemu" >&2
        echo "vm: QEMU ended with status $ended before the machine was up; once more"
        start
    fi
    if [ -z "$up" ] && grep -q '^gabion-vm: up' "$work/output"; then
        up=yes
        echo "vm: up after $((SECONDS - begin)) s"
    fi
    if [ -z "$up" ] && [ $((SECONDS - begin)) -ge 360 ]; then
        fail "it did not come up within 360 s"
    fi
    if [ $((SECONDS - begin)) -ge "$timeout" ]; then
        fail "it did not come to its end within $timeout s"
    fi
    sleep 0.2
done
grep -q '^gabion-vm: up' "$work/output" || fail "it did not come up"
status=$(sed -n 's/^gabion-vm: status \([0-9]*\)\r*$/\1/p' "$work/output" | tail -n 1)
[ -n "$status" ] || fail "it ended before the script did"
if [ -n "$output" ]; then
    mkdir -p "$output"
    tar -C "$output" -xf "$work/out.tar" || fail "what the script left cannot be read"
fi
echo "vm: ended after $((SECONDS - begin)) s, status $status"
exit "$status"
