#!/usr/bin/env bash
# A container under the profile baseline, looked at from inside; three bundles that are refused; one that was built
# otherwise than judged; the ledger.
#
# GABION names the program. Every line that is shown was checked: the exit status is 0 only if the hardening was
# there and the refusals were refusals. Nothing is left behind.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
gabion=$(realpath "${GABION:?names the program; \`make demo\` sets it}")

place=$(mktemp -d)
trap 'rm -rf --one-file-system "$place"' EXIT
failures=0

if [ -t 1 ]; then
    bold=$'\e[1m' good=$'\e[32m' bad=$'\e[31m' dim=$'\e[2m' plain=$'\e[0m'
else
    bold='' good='' bad='' dim='' plain=''
fi

title() { printf '\n%s%s%s\n' "$bold" "$1" "$plain"; }
note() { printf '  %s%s%s\n' "$dim" "$1" "$plain"; }
shown() { fold -s -w 76 | sed 's/ *$//; s/^/  /'; }
missed() {
    failures=$((failures + 1))
    printf '  %sNOT AS PROMISED: %s%s\n' "$bad" "$1" "$plain"
}
# expect WHAT FOUND TEST...: a line of what was found, green if the test holds.
expect() {
    local what=$1 found=$2
    shift 2
    if "$@"; then
        printf '  %-26s %s%s%s\n' "$what" "$good" "$found" "$plain"
    else
        printf '  %-26s %s\n' "$what" "$found"
        missed "$what"
    fi
}

names=(CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
    NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT
    SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP
    MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE)
decoded() { # MASK: the capabilities in a mask of /proc/PID/status
    local mask=$((16#$1)) index found=()
    for index in "${!names[@]}"; do
        if ((mask >> index & 1)); then found+=("${names[index]}"); fi
    done
    echo "${found[*]:-none}"
}

# A bundle: Debian's static busybox, and what `gabion spec` writes without the parts that harden it.
rootfs=$place/rootfs
mkdir -p "$rootfs"/{bin,dev,etc,proc,sys,tmp}
cp /bin/busybox "$rootfs/bin/busybox"
for applet in cat sh true umount unshare wc; do ln -s busybox "$rootfs/bin/$applet"; done
mkdir "$place/spec"
"$gabion" spec --bundle "$place/spec" || exit 1
bundle() { # NAME FILTER [OPTION...]: a bundle, with the configuration changed by a jq filter
    local name=$1 filter=$2
    shift 2
    mkdir -p "$place/$name"
    jq "$@" --arg rootfs "$rootfs" '
        .process.terminal = false | .root.path = $rootfs
        | del(.linux.seccomp, .linux.maskedPaths, .linux.readonlyPaths) | '"$filter" \
        "$place/spec/config.json" >"$place/$name/config.json" || exit 1
}
printf '[ledger]\npath = "%s"\n' "$place/ledger/decisions.jsonl" >"$place/policy.toml"
chmod 0644 "$place/policy.toml"
run() { # NAME [OPTION...]
    local name=$1
    shift
    "$gabion" --root "$place/state" --policy "$place/policy.toml" "$@" run --bundle "$place/$name" "$name"
}

# Something of the host's kernel that a container is not to read; which ones there are depends on the kernel.
secret=
for path in /proc/timer_list /proc/keys /proc/interrupts /proc/kcore; do
    if [ -n "$(head -c 1 "$path" 2>/dev/null | tr '\0' x)" ]; then
        secret=$path
        break
    fi
done

# shellcheck disable=SC2016 # the container's shell expands it
look='
    while read -r name value rest; do
        case $name in CapEff: | CapBnd: | NoNewPrivs: | Seccomp: | Seccomp_filters:) echo "$name $value" ;; esac
    done </proc/self/status
    echo "secret: $(cat "$MASKED" 2>/dev/null | wc -c)"
    echo "sysctl: $( (echo pwned >/proc/sys/kernel/hostname) 2>&1 && echo written)"
    echo "unshare: $(unshare -U true 2>&1 && echo done)"
'

printf '%sgabion%s: nothing runs that was not judged, or that is not as it was judged.\n' "$bold" "$plain"

title "1. A bundle without hardening is admitted, and hardened"
# shellcheck disable=SC2016 # jq expands it
bundle demo '.process.args = ["sh", "-c", $look] | .process.env += ["MASKED=" + $secret]' \
    --arg look "$look" --arg secret "$secret"
"$gabion" --policy "$place/policy.toml" check --bundle "$place/demo" --format json |
    jq -r 'def ids($a): [.findings[] | select(.action == $a) | .rule | split(":")[0]] | unique | join(" ");
        "judged under \(.profile): \(.verdict)", "added: \(ids("harden"))", "recorded: \(ids("audit"))"' | shown

title "2. What the kernel says inside"
inside=$(run demo 2>&1)
status=$?
value() { sed -n "s/^$1: *//p" <<<"$inside"; }
if [ "$status" != 0 ]; then
    missed "the container ended with status $status"
    shown <<<"$inside"
fi
expect "capabilities" "$(decoded "$(value CapEff)")" test "$(decoded "$(value CapEff)")" = \
    "KILL NET_BIND_SERVICE AUDIT_WRITE"
expect "  can ever be gained" "$(decoded "$(value CapBnd)")" test "$(value CapBnd)" = "$(value CapEff)"
expect "no_new_privs" "$(value NoNewPrivs)" test "$(value NoNewPrivs)" = 1
expect "seccomp" "filter mode, filters: $(value Seccomp_filters)" \
    test "$(value Seccomp) $(value Seccomp_filters)" = "2 1"
expect "${secret:-a secret of the host}" "masked: $(value secret) bytes" test -n "$secret" -a "$(value secret)" = 0
sysctl=$(value sysctl)
expect "write to /proc/sys" "${sysctl##*: }" test "${sysctl##*: }" = "Read-only file system"
unshare=$(value unshare)
expect "a new user namespace" "${unshare##*: }" test "${unshare##*: }" = "Operation not permitted"

title "3. Three that are refused"
refused() { # NAME RULE...: runs it, and expects a refusal that names the rules
    local name=$1 text status rule id found stops
    shift
    text=$(run "$name" 2>&1)
    status=$?
    printf '  %s%s%s\n' "$bad" "$(grep -oE '^gabion refused [a-z]+: [0-9]+ rules? of profile [a-z]+' <<<"$text")" "$plain"
    # The same judgement, in the form for programs: each rule's first finding, and the first thing that it stops.
    while IFS=$'\t' read -r id found stops; do
        fold -s -w 67 <<<"$found" | sed "1s/^/  $(printf %-9s "$id")/; 2,\$s/^/           /; s/ *\$//"
        fold -s -w 67 <<<"stops: $stops" | sed "s/^/           $dim/; s/ *\$/$plain/"
    done < <("$gabion" --policy "$place/policy.toml" check --bundle "$place/$name" --format json |
        jq -r '[.findings[] | select(.action == "deny") | .id = (.rule | split(":")[0])] | group_by(.id)[]
            | [.[0].id, .[0].found + (if length > 1 then " (and \(length - 1) more)" else "" end), .[0].stops[0]]
            | @tsv')
    [ "$status" = 1 ] || missed "$name was not refused (status $status)"
    for rule in "$@"; do
        case $text in
        *"gabion refused $name: "*"$rule"*) ;;
        *) missed "the refusal of $name does not name $rule: $text" ;;
        esac
    done
}
printf '  %s$ gabion run --bundle privileged%s   (docker run --privileged)\n' "$bold" "$plain"
# shellcheck disable=SC2016 # jq expands it
bundle privileged '.process.capabilities |= {bounding: $all, effective: $all, permitted: $all}
    | .process.noNewPrivileges = false | .linux.resources.devices = [{allow: true, access: "rwm"}]' \
    --argjson all "$(printf '%s\n' "${names[@]}" | jq -R '"CAP_" + .' | jq -s .)"
refused privileged PRV-05 CAP-03 DEV-01
printf '\n  %s$ gabion run --bundle socket%s   (docker run -v /var/run/docker.sock)\n' "$bold" "$plain"
bundle socket '.mounts += [{destination: "/var/run/docker.sock", type: "bind", source: "/var/run/docker.sock",
    options: ["rbind", "rprivate"]}]'
refused socket MNT-02
printf '\n  %s$ gabion run --bundle host%s   (docker run --pid host --network host --ipc host)\n' "$bold" "$plain"
bundle host '.linux.namespaces = [{type: "mount"}, {type: "uts"}]'
refused host NS-02 NS-03 NS-04

title "4. One that is not as it was judged"
note "a hook of the bundle mounts the host's /etc into the container"
mkdir -p "$rootfs/srv"
# shellcheck disable=SC2016 # jq expands it
bundle injected '.process.args = ["true"] | .hooks = {createContainer: [{path: $mount,
    args: ["mount", "--bind", "/etc", $rootfs + "/srv"]}]}' --arg mount "$(realpath "$(command -v mount)")"
text=$(run injected 2>&1)
status=$?
printf '  %s$ gabion run --bundle injected%s\n' "$bold" "$plain"
shown <<<"$text"
case $status$text in
1*"V-10: reality is not what was judged: "*" that was not judged is mounted at \"/srv\"; gabion explain V-10 says more") ;;
*) missed "the mount was not found (status $status)" ;;
esac

title "5. The ledger has them all"
jq -r '"\(.time[11:19])  \(.operation) \(.id)  \(.verdict)  \([.findings[] | select(.action == "deny") | .rule
    | split(":")[0]] | unique | join(" "))"' "$place/ledger/decisions.jsonl" | shown
recorded=$(jq -r '"\(.id) \(.verdict)"' "$place/ledger/decisions.jsonl" | paste -sd,)
expected="demo admitted,demo started,privileged refused,socket refused,host refused"
expected+=",injected admitted,injected mismatch"
[ "$recorded" = "$expected" ] || missed "the ledger has $recorded"
left=$(ls -A "$place/state" 2>/dev/null)
[ -z "$left" ] || missed "left behind: $left"

echo
if [ "$failures" != 0 ]; then
    printf '%s%s of what was promised did not hold%s\n' "$bad" "$failures" "$plain"
    exit 1
fi
printf 'gabion explain MNT-02 says what a rule stops, and how to satisfy it.\n'
