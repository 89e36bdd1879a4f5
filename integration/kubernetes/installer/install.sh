#!/bin/sh
# Configures one node, or takes it back: install.sh install|uninstall. The node's root is at /host, and this runs in
# the host's pid namespace.
set -eu

on_host() {
    nsenter --target 1 --mount --uts --ipc --net -- "$@"
}

# Edits containerd's configuration. containerd goes away for a moment to read it; containers go on. Not for nothing, so
# that a restart of this pod is none; and not if the edit failed, which ends this script.
edit() { # install|uninstall
    changes=$(on_host /usr/local/bin/gabion "$1" containerd)
    echo "$changes"
    case $changes in *'nothing was changed'*) ;; *) on_host systemctl restart containerd ;; esac
}

case ${1:-} in
install)
    for program in gabion containerd-shim-gabion-v2; do
        # Replaced in one step: a container may be starting.
        cp "/$program" "/host/usr/local/bin/.$program.new"
        chmod 0755 "/host/usr/local/bin/.$program.new"
        mv "/host/usr/local/bin/.$program.new" "/host/usr/local/bin/$program"
    done
    ln -sf gabion /host/usr/local/bin/gabion-restricted
    ln -sf containerd-shim-gabion-v2 /host/usr/local/bin/containerd-shim-gabion-restricted-v2
    edit install
    on_host /usr/local/bin/gabion doctor || true
    ;;
uninstall)
    if [ -x /host/usr/local/bin/gabion ]; then
        edit uninstall
    fi
    # A container that still runs has its shim in memory, but needs gabion to be ended: then the programs stay.
    if on_host sh -c 'ls -A /run/containerd/gabion/*/ 2>/dev/null | grep -q "^[^/~.]"'; then
        echo "containers of gabion still run on this node; /usr/local/bin/gabion stays" >&2
    else
        for program in gabion gabion-restricted containerd-shim-gabion-v2 containerd-shim-gabion-restricted-v2; do
            rm -f "/host/usr/local/bin/$program"
        done
    fi
    ;;
*)
    echo "install.sh install|uninstall" >&2
    exit 1
    ;;
esac
# The DaemonSet's pod stays, so that it is not started again and again.
trap 'exit 0' TERM INT
while :; do
    sleep 3600 &
    wait $!
done
