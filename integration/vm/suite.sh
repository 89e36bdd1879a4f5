#!/usr/bin/env bash
# The end-to-end tests, the tests of what reads the host, and the runtime-spec's clauses, in the virtual machine.
#
#   GABION=/path/to/gabion integration/vm/suite.sh [--output DIRECTORY] [--filter TEST] [--timeout SECONDS] [PART...]
#
# PARTS: unit, a file of integration/tests without .rs, conformance, peers (runc and crun; or one of them: peers:runc),
# engines (docker, containerd, shim, podman, the Debian package; or one of them: engines:docker; shim is containerd with
# gabion's own). With "+systemd" behind it:
# with cgroups that systemd makes. Without any: all but peers, engines and what is with systemd. Everything runs in one
# boot; engines take another image than the rest. TEST is a part of a test's name, one in each line; of engines' checks
# it replaces the choice that is made in inside/suite. Seconds in brackets are the guest's.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
: "${GABION:?names the program to test}"

output=()
filter=
timeout=1500
while [ $# -ge 2 ]; do
    case $1 in
    --output) output=(--output "$2") ;;
    --filter) filter=$2 ;;
    --timeout) timeout=$2 ;;
    *) break ;;
    esac
    shift 2
done

work=$(mktemp -d /var/tmp/gabion-vm-suite.XXXXXX)
trap 'rm -rf "$work"' EXIT
mkdir "$work/tests" "$work/bin"
# What cargo built: tests by name, and the programs that they know by their place.
packages=(-p gabion-integration)
image=thin
added=()
case " $*" in *" engines"*)
    image=engines
    for name in harness images containerd docker podman; do
        added+=(--add "integration/$name=engines/$name")
    done
    for link in gabion-restricted containerd-shim-gabion-restricted-v2; do
        ln -s "${link/-restricted/}" "$work/bin/$link"
    done
    install -s -m 0755 "$(dirname "$GABION")/containerd-shim-gabion-v2" "$work/bin/containerd-shim-gabion-v2"
    scripts/deb.sh "$work/package" >/dev/null
    added+=(--add "$work/package")
    ;;
esac
[[ $# != 0 && " $* " != *" unit "* ]] || packages+=(-p gabion-host -p gabion-container)
# Engines alone need none of these.
tests=
[ $# != 0 ] || tests=yes
for one in "$@"; do [[ $one == engines* ]] || tests=yes; done
if [ -n "$tests" ]; then
    {
        cargo test --locked -q --no-run --message-format json "${packages[@]}"
        cargo build --locked -q --message-format json -p gabion-runtime-spec
    } | jq -r 'select(.executable) | select(.profile.test and .target.kind == ["bin"] | not)
            | [(if .profile.test then "test" else "bin" end), .target.name, .executable] | @tsv' >"$work/built"
    [ "$(grep -c . "$work/built")" -ge 4 ] || { echo "suite.sh: cargo built no tests" >&2; exit 1; }
else
    : >"$work/built"
fi
while IFS=$'\t' read -r kind name path; do
    case $kind in
    test) install -s -m 0755 "$path" "$work/tests/$name" ;;
    bin)
        install -s -m 0755 "$path" "$work/bin/$name"
        printf 'bin/%s\t%s\n' "$name" "$path" >>"$work/places"
        ;;
    esac
done <"$work/built"
# And files of the tests.
for name in attacks fixtures; do
    printf '%s\t%s\n' "$name" "$PWD/integration/$name" >>"$work/places"
done
install -s -m 0755 "$GABION" "$work/bin/gabion"
printf '%s\n' "$@" >"$work/parts"
printf '%s\n' "$filter" >"$work/filter"
"$here/run.sh" --script "$here/inside/suite" --add "$work/tests" --add "$work/bin" --add "$work/places" \
    --add "$work/parts" --add "$work/filter" --add runtime-spec/known --add integration/attacks \
    --add integration/fixtures "${added[@]}" --image "$image" "${output[@]}" --timeout "$timeout"
