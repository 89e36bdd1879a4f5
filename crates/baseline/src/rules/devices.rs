//! Devices: which nodes a container has, and which ones its control group lets it open.
//!
//! A device is a type and two numbers; its path is a name that whoever writes config.json chose. So a node is
//! judged by its numbers: `/dev/xnull` with 1:3 is the null device, and `/dev/null` with 1:1 is the memory of
//! the machine. The site's policy allows devices by the names they have on the host (`allow.devices`); where the
//! kernel gave a name its numbers for good, the numbers count.
//!
//! A control group's list is ordered, as config-linux.md has it: each rule changes what the ones before it made,
//! and one for all devices makes them as if they had not been. What counts is what is left at the end.

use crate::change::Change;
use crate::config::{Device, DeviceRule};
use crate::facts::FactKind;
use crate::pointer::Pointer;
use crate::profile::{Level, Levels};
use crate::rule::{Case, Mappings, Remedies, Rule, Violations};
use crate::rules::mounts::{Bind, binds, lies_at_or_in, on_host};

/// The rules of this topic.
pub static RULES: &[&Rule] = &[&DEV_01, &DEV_02, &DEV_03, &DEV_04];

/// A character device by name and numbers.
type Named = (&'static str, i64, i64);

/// The nodes that every container has (config-linux.md, "Default Devices").
const DEFAULT: [Named; 8] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
    ("/dev/console", 5, 1),
    ("/dev/ptmx", 5, 2),
];

/// The major number of the pseudoterminals below /dev/pts.
const PSEUDOTERMINALS: i64 = 136;

/// Character devices whose numbers are the same on every host (admin-guide/devices.txt), as far as somebody asks
/// for them: to allow one by its name, and so that the name of another does not do.
const WELL_KNOWN: [Named; 19] = [
    // Memory, ports and log of the kernel.
    ("/dev/mem", 1, 1),
    ("/dev/kmem", 1, 2),
    ("/dev/port", 1, 4),
    ("/dev/kmsg", 1, 11),
    ("/dev/nvram", 10, 144),
    ("/dev/hwrng", 10, 183),
    ("/dev/vfio/vfio", 10, 196),
    ("/dev/net/tun", 10, 200),
    ("/dev/cuse", 10, 203),
    ("/dev/uinput", 10, 223),
    ("/dev/hpet", 10, 228),
    ("/dev/fuse", 10, 229),
    ("/dev/snapshot", 10, 231),
    ("/dev/kvm", 10, 232),
    ("/dev/btrfs-control", 10, 234),
    ("/dev/autofs", 10, 235),
    ("/dev/mapper/control", 10, 236),
    ("/dev/loop-control", 10, 237),
    ("/dev/vhost-net", 10, 238),
];

static DEV_01: Rule = Rule {
    id: "DEV-01",
    title: "devices are denied before any is allowed",
    meaning: "linux.resources.devices ends up allowing all devices; or no rule in it denies all of them, because the \
              list is absent, empty, or begins with something else.",
    why: "With all devices allowed, root in the container makes a node for the host's disk and reads and writes it \
          below every file system: passwords, keys, other containers. On cgroup version 1 what no rule mentions is \
          as the parent group has it, which may be everything.",
    stops: &[
        "reading and writing the host's disks",
        "kernel memory through /dev/mem",
    ],
    fields: &["/linux/resources/devices"],
    levels: Levels::new(Level::Audit, Level::Deny, Level::Deny),
    hardening: "where no rule denies all devices, one is put first; a list that allows all is refused",
    remedies: Remedies {
        docker: "Remove --privileged and --device-cgroup-rule 'a *:* rwm'; give single devices with --device.",
        ctr: "Remove --privileged; give single devices with --device.",
        kubernetes: "Remove privileged: true from securityContext; devices are given by a device plugin through \
                     resources.limits.",
        config: "Let the first element of linux.resources.devices be {\"allow\": false, \"access\": \"rwm\"}, and \
                 remove {\"allow\": true, \"access\": \"rwm\"}.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "Privileged Containers (baseline)",
        cis_docker: "5.18",
        nsa: "",
        nist_800_190: "3.4.3",
    },
    facts: &[],
    check: denied_first,
};

fn denied_first(case: &Case<'_>, violations: &mut Violations) {
    /// Putting the denial first takes nothing away that a rule in the list gives, so nothing speaks for refusing:
    /// podman sends no list at all with a user namespace, and the engine adds the default devices either way.
    const MISSING: Levels = Levels::new(Level::Audit, Level::Harden, Level::Harden);
    const ACCEPTED: &str = "a list whose first rule is {\"allow\": false, \"access\": \"rwm\"}";
    let rules = device_rules(case);
    let place = Pointer::at("/linux/resources/devices");
    match rules.iter().rposition(is_all) {
        Some(index) if rules[index].allow => {
            violations.report(place.index(index), "all devices are allowed", ACCEPTED);
        }
        Some(_) => {}
        None => {
            let found = match case
                .config
                .linux
                .value()
                .and_then(|linux| linux.resources.value())
            {
                Some(resources) if resources.devices.value().is_some_and(|list| !list.is_empty()) => {
                    "no rule denies all devices".to_owned()
                }
                Some(resources) if resources.devices.value().is_some() => "the list is empty".to_owned(),
                Some(resources) => format!("the list is {}", resources.devices.presence()),
                None => "there are no resources, and no list of devices in them".to_owned(),
            };
            violations
                .report(place, found, ACCEPTED)
                .levels(MISSING)
                .fix(Change::DenyDevicesFirst);
        }
    }
}

fn device_rules<'a>(case: &Case<'a>) -> &'a [DeviceRule] {
    case.config
        .linux
        .value()
        .and_then(|linux| linux.resources.value())
        .map_or(&[], |resources| resources.devices.items())
}

/// True if the rule is for all devices. A denial must be a full one to count, and what it leaves open may be
/// read differently; for an allowance the least sign will do.
fn is_all(rule: &DeviceRule) -> bool {
    let kind = rule.kind.value().map_or("", String::as_str);
    let access = rule.access.value().map_or("", String::as_str);
    let any = |number: Option<&i64>| number.is_none_or(|number| *number < 0);
    let numbers = any(rule.major.value()) && any(rule.minor.value());
    match kind {
        // The kernel does not look at the numbers of a rule of type a (cgroup-v1/devices.rst).
        "" | "a" if rule.allow => numbers || kind == "a",
        "" | "a" => numbers && ["r", "w", "m"].iter().all(|wanted| access.contains(wanted)),
        _ => false,
    }
}

static DEV_02: Rule = Rule {
    id: "DEV-02",
    title: "no device nodes beyond the default ones",
    meaning: "linux.devices has a node other than null, zero, full, random, urandom, tty, console and ptmx, by its \
              numbers, and the policy does not allow it (allow.devices). In every profile: a node whose path is \
              relative, contains \"..\", or lies in /proc or /sys.",
    why: "Disks, memory, loop and mapper devices are the host below its file systems; kmsg is its log, uinput its \
          keyboard, and many a driver behind the rest was never meant for hostile callers.",
    stops: &[
        "the host's disks (sd*, nvme*, dm-*, loop*)",
        "/dev/mem, /dev/kmsg, /dev/cpu/*/msr, /dev/uinput, /dev/vfio",
        "CVE-2026-53492 (devices that a checkpoint's CDI annotations bring along)",
    ],
    fields: &["/linux/devices"],
    levels: Levels::new(Level::Audit, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Remove the --device, or have the site's policy allow the device for all containers \
                 (allow.devices = [\"/dev/fuse\"]) or for this one, such as DEV-02:/dev/fuse.",
        ctr: "Remove the --device, or have the site's policy allow it: allow.devices = [\"/dev/fuse\"].",
        kubernetes: "Remove the resource of the device plugin from resources.limits, or have the site's policy allow \
                     its devices: allow.devices = [\"/dev/nvidia0\", \"/dev/nvidiactl\"].",
        config: "Remove the element from linux.devices; the default devices need not be listed.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "HostPath Volumes (baseline)",
        cis_docker: "5.18",
        nsa: "",
        nist_800_190: "3.4.3",
    },
    facts: &[],
    check: default_nodes,
};

fn default_nodes(case: &Case<'_>, violations: &mut Violations) {
    /// The runtime, which is root on the host, makes the node: its path is as dangerous as a mount's destination.
    const NEVER: Levels = Levels::new(Level::Deny, Level::Deny, Level::Deny);
    for (index, device) in devices(case).iter().enumerate() {
        let place = Pointer::at("/linux/devices").index(index);
        let climbs = device.path.split('/').any(|component| component == "..");
        let plain = on_host(&device.path).filter(|_| !climbs && !device.path.contains('\0'));
        match plain {
            Some(path) if path != "/" && !["/proc", "/sys"].iter().any(|of| lies_at_or_in(&path, of)) => {
                if !is_permitted(case, device) {
                    violations
                        .report(
                            place,
                            format!("{:?} is {}", device.path, described(device)),
                            "the default devices, and those of allow.devices in the policy",
                        )
                        .sub_key(path);
                }
            }
            _ => {
                violations
                    .report(
                        place.key("path"),
                        format!("{:?} is no place for a device", device.path),
                        "an absolute path without \"..\", outside /proc and /sys",
                    )
                    .levels(NEVER);
            }
        }
    }
}

fn devices<'a>(case: &Case<'a>) -> &'a [Device] {
    case.config
        .linux
        .value()
        .map_or(&[], |linux| linux.devices.items())
}

/// A device in words: `the character device 10:229 (/dev/fuse)`.
fn described(device: &Device) -> String {
    let number = |number: Option<&i64>| number.map_or("?".to_owned(), i64::to_string);
    let (major, minor) = (device.major.value(), device.minor.value());
    let numbers = format!("{}:{}", number(major), number(minor));
    match device.kind.as_str() {
        "c" | "u" => {
            let known = DEFAULT
                .iter()
                .chain(&WELL_KNOWN)
                .find(|k| Some(&k.1) == major && Some(&k.2) == minor);
            let name = known.map(|(name, _, _)| format!(" ({name})")).unwrap_or_default();
            format!("the character device {numbers}{name}")
        }
        "b" => format!("the block device {numbers}"),
        "p" => "a named pipe".to_owned(),
        other => format!("a device of unknown type {other:?}, {numbers}"),
    }
}

/// True if the container may have this node: it is a default one, or one that the policy names.
fn is_permitted(case: &Case<'_>, device: &Device) -> bool {
    let (Some(major), Some(minor)) = (device.major.value(), device.minor.value()) else {
        return false;
    };
    let is_char = ["c", "u"].contains(&device.kind.as_str());
    if is_char && is_permitted_number(case, *major, *minor) {
        return true;
    }
    if !is_char && device.kind != "b" {
        return false;
    }
    let Some(path) = on_host(&device.path) else {
        return false;
    };
    // A name whose numbers are known stands for these alone, and known numbers for their own name alone: a name
    // that is allowed does not bring in the machine's memory.
    let is_of_another_name = WELL_KNOWN.iter().any(|(name, known_major, known_minor)| {
        *name == path || (is_char && (known_major, known_minor) == (major, minor))
    });
    !is_of_another_name && is_named_by_policy(case, &path)
}

/// True if the character device with these numbers is a default one, or has a name that the policy allows.
fn is_permitted_number(case: &Case<'_>, major: i64, minor: i64) -> bool {
    let same = |known: &&Named| (known.1, known.2) == (major, minor);
    DEFAULT.iter().any(|known| same(&known))
        || WELL_KNOWN
            .iter()
            .filter(same)
            .any(|(name, _, _)| is_named_by_policy(case, name))
}

fn is_named_by_policy(case: &Case<'_>, path: &str) -> bool {
    case.policy
        .devices
        .iter()
        .any(|allowed| on_host(allowed).as_deref() == Some(path))
}

static DEV_03: Rule = Rule {
    id: "DEV-03",
    title: "no device may be opened or made beyond the default ones",
    meaning: "A rule of linux.resources.devices that takes effect allows a block device, a whole range of devices, or \
              a device that is neither a default one nor allowed by the policy (allow.devices). What denies is never \
              wrong.",
    why: "The node is not needed: with the right to make device nodes, which containers have by default, root in the \
          container makes one for whatever the control group lets it open. So the list is the boundary.",
    stops: &[
        "mknod(2) of the host's disk",
        "devices by ranges that name no device",
    ],
    fields: &["/linux/resources/devices"],
    levels: Levels::new(Level::Audit, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Remove the --device or --device-cgroup-rule, or have the site's policy allow the device: \
                 allow.devices = [\"/dev/fuse\"]. For a range, allow the rule itself, such as DEV-03:c:195:*.",
        ctr: "Remove the --device, or have the site's policy allow it: allow.devices = [\"/dev/fuse\"].",
        kubernetes: "Have the site's policy allow the devices of the device plugin: allow.devices = [\"/dev/kvm\"].",
        config: "Remove the rule, or let it name one character device with major and minor.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "5.18",
        nsa: "",
        nist_800_190: "3.4.3",
    },
    facts: &[],
    check: default_numbers,
};

fn default_numbers(case: &Case<'_>, violations: &mut Violations) {
    let rules = device_rules(case);
    // What stands before a rule for all devices has no effect.
    let effective = rules.iter().rposition(is_all).map_or(0, |last| last + 1);
    for (index, rule) in rules
        .iter()
        .enumerate()
        .skip(effective)
        .filter(|(_, rule)| rule.allow)
    {
        let kind = rule.kind.value().map_or("a", String::as_str);
        let number = |number: Option<&i64>| number.copied().filter(|number| *number >= 0);
        let (major, minor) = (number(rule.major.value()), number(rule.minor.value()));
        let permitted = match (kind, major, minor) {
            ("c", Some(PSEUDOTERMINALS), _) => true,
            ("c", Some(major), Some(minor)) if is_permitted_number(case, major, minor) => true,
            ("c" | "b", Some(major), Some(minor)) => devices(case).iter().any(|device| {
                let same = (device.major.value(), device.minor.value()) == (Some(&major), Some(&minor));
                same && (device.kind == "b") == (kind == "b") && is_permitted(case, device)
            }),
            _ => false,
        };
        if permitted {
            continue;
        }
        let shown = |number: Option<i64>| number.map_or("*".to_owned(), |number| number.to_string());
        let numbers = format!("{}:{}", shown(major), shown(minor));
        let access = rule.access.value().map_or("", String::as_str);
        let found = match (kind, major, minor) {
            ("c", Some(_), Some(_)) => format!("the character device {numbers} is allowed ({access:?})"),
            ("b", Some(_), Some(_)) => format!("the block device {numbers} is allowed ({access:?})"),
            ("c" | "b" | "a", _, _) => {
                format!("the range {kind} {numbers} of devices is allowed ({access:?})")
            }
            _ => format!("a device of unknown type {kind:?}, {numbers}, is allowed ({access:?})"),
        };
        violations
            .report(
                Pointer::at("/linux/resources/devices").index(index),
                found,
                "the default devices, pseudoterminals, and those of allow.devices in the policy",
            )
            .sub_key(format!("{kind}:{numbers}"));
    }
}

static DEV_04: Rule = Rule {
    id: "DEV-04",
    title: "no device nodes bound in",
    meaning: "The source of a bind mount is a device other than null, zero, full, random, urandom, tty, console and \
              ptmx, and the policy does not allow it (allow.devices).",
    why: "A device that is bound in is not in linux.devices and passes by whoever looks there. Whether it can be \
          opened is then up to the control group alone.",
    stops: &["-v /dev/sda:/x, a disk given as a volume"],
    fields: &["/mounts/*/source"],
    levels: Levels::new(Level::Audit, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Remove the -v of the device, or use --device and have the site's policy allow it: \
                 allow.devices = [\"/dev/fuse\"].",
        ctr: "Remove the --mount of the device, or use --device and have the site's policy allow it: \
              allow.devices = [\"/dev/fuse\"].",
        kubernetes: "Use a device plugin instead of hostPath, and volumeDevices for block volumes; have the site's \
                     policy allow the device: allow.devices = [\"/dev/fuse\"].",
        config: "Remove the entry from mounts.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "HostPath Volumes (baseline)",
        cis_docker: "5.18",
        nsa: "",
        nist_800_190: "3.4.3",
    },
    facts: &[FactKind::Mounts],
    check: no_bound_devices,
};

fn no_bound_devices(case: &Case<'_>, violations: &mut Violations) {
    for bind in binds(case) {
        let Some(found) = bound_device(case, &bind) else {
            continue;
        };
        violations
            .report(
                bind.pointer(),
                found,
                "the default devices, and those of allow.devices in the policy",
            )
            .sub_key(bind.path());
    }
}

/// The device that a bind mount brings in and that is not allowed, in words.
fn bound_device(case: &Case<'_>, bind: &Bind<'_>) -> Option<String> {
    let path = bind.path();
    if bind.fact.is_ok() {
        let (is_block, major, minor) = bind.device()?;
        // What is looked at here is the host's own node, so that its name can be trusted.
        let is_permitted = (!is_block && is_permitted_number(case, major.into(), minor.into()))
            || is_named_by_policy(case, &path);
        let kind = if is_block { "block" } else { "character" };
        return (!is_permitted).then(|| format!("{} is the {kind} device {major}:{minor}", bind.shown()));
    }
    let name = bind.plain().filter(|path| path.starts_with("/dev/"))?;
    let name = name.as_str();
    // The host's shared memory is NS-03's, and /dev/log is a socket.
    let is_permitted = ["/dev/shm", "/dev/log"]
        .iter()
        .any(|other| lies_at_or_in(name, other))
        || DEFAULT.iter().any(|(known, _, _)| *known == name)
        || is_named_by_policy(case, name);
    (!is_permitted).then(|| format!("{} is a device by its name", bind.shown()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::facts::{FileKind, Relation, SourceFact};
    use crate::profile::Profile;
    use crate::rules::mounts::ground::{directory, of_source, sensitive};
    use crate::rules::table::{Table, set, with};

    const CLEAN: [&str; 3] = ["", "", ""];

    fn verdicts(rule: &str, document: &Value) -> [String; 3] {
        Profile::ALL.map(|profile| Table::of(profile).verdicts(rule, document).join(", "))
    }

    fn refused(rule: &str, place: &str) -> [String; 3] {
        ["audit", "deny", "deny"].map(|action| format!("{action} {rule} {place}"))
    }

    fn list(rules: Value) -> Value {
        with("/linux/resources/devices", rules)
    }

    fn deny_all() -> Value {
        json!({"allow": false, "access": "rwm"})
    }

    fn allow_all() -> Value {
        json!({"allow": true, "access": "rwm"})
    }

    fn char(major: i64, minor: i64) -> Value {
        json!({"allow": true, "type": "c", "major": major, "minor": minor, "access": "rwm"})
    }

    #[test]
    fn what_counts_is_what_the_list_comes_to() {
        let place = "/linux/resources/devices";
        let hardened = ["audit", "harden", "harden"].map(|action| format!("{action} DEV-01 {place}"));
        let clean = CLEAN.map(str::to_owned);
        let a = |allow: bool| json!({"allow": allow, "type": "a", "major": -1, "minor": -1, "access": "rwm"});
        for (rules, expected) in [
            (json!([deny_all()]), clean.clone()),
            (json!([a(false)]), clean.clone()),
            (
                json!([deny_all(), char(1, 3), deny_all(), char(1, 5)]),
                clean.clone(),
            ),
            // A rule for all makes those before it as if they had not been.
            (json!([char(8, 0), deny_all()]), clean.clone()),
            (json!([allow_all(), deny_all(), char(1, 3)]), clean.clone()),
            (
                json!([allow_all()]),
                refused("DEV-01", "/linux/resources/devices/0"),
            ),
            (
                json!([deny_all(), a(true)]),
                refused("DEV-01", "/linux/resources/devices/1"),
            ),
            (
                json!([deny_all(), allow_all(), {"allow": false, "type": "c", "major": 10, "minor": 229, "access": "rwm"}]),
                refused("DEV-01", "/linux/resources/devices/1"),
            ),
            (
                json!([{"allow": true, "type": "a", "major": 1, "minor": 3}]),
                refused("DEV-01", "/linux/resources/devices/0"),
            ),
            (
                json!([{"allow": true, "access": "r"}]),
                refused("DEV-01", "/linux/resources/devices/0"),
            ),
            // No denial of all, or not a full one.
            (json!([char(1, 3)]), hardened.clone()),
            (json!([{"allow": false, "access": "rw"}]), hardened.clone()),
            (json!([{"allow": false}]), hardened.clone()),
            (
                json!([{"allow": false, "type": "c", "access": "rwm"}]),
                hardened.clone(),
            ),
            (
                json!([{"allow": false, "type": "a", "major": 1, "access": "rwm"}]),
                hardened.clone(),
            ),
            (json!([]), hardened.clone()),
            (json!(null), hardened.clone()),
        ] {
            assert_eq!(verdicts("DEV-01", &list(rules.clone())), expected, "{rules}");
        }
        for absent in [
            with("/linux/resources", json!({})),
            with("/linux", json!({})),
            with("/linux", json!(null)),
        ] {
            assert_eq!(verdicts("DEV-01", &absent), hardened, "{absent}");
        }
    }

    #[test]
    fn the_missing_denial_is_put_first() {
        for (rules, expected) in [
            (json!([char(1, 3)]), json!([deny_all(), char(1, 3)])),
            (json!(null), json!([deny_all()])),
        ] {
            let result = Table::of(Profile::Baseline).hardened("DEV-01", &list(rules));
            assert_eq!(result["linux"]["resources"]["devices"], expected);
            assert_eq!(verdicts("DEV-01", &result), CLEAN);
        }
    }

    fn node(path: &str, kind: &str, major: i64, minor: i64) -> Value {
        json!({"path": path, "type": kind, "major": major, "minor": minor})
    }

    #[test]
    fn a_node_is_judged_by_its_numbers() {
        for (device, expected) in [
            (node("/dev/null", "c", 1, 3), None),
            (node("/dev/xnull", "c", 1, 3), None),
            (node("/dev/ptmx", "u", 5, 2), None),
            (node("/dev/null", "c", 1, 1), Some("DEV-02:/dev/null")),
            (node("/dev/null", "b", 1, 3), Some("DEV-02:/dev/null")),
            (node("/dev/null", "p", 1, 3), Some("DEV-02:/dev/null")),
            (node("/dev/fuse", "c", 10, 229), Some("DEV-02:/dev/fuse")),
            (node("/dev//./fuse", "c", 10, 229), Some("DEV-02:/dev/fuse")),
            (node("/dev/sda", "b", 8, 0), Some("DEV-02:/dev/sda")),
            (node("/dev/x", "z", 1, 3), Some("DEV-02:/dev/x")),
            (
                json!({"path": "/dev/null", "type": "c"}),
                Some("DEV-02:/dev/null"),
            ),
            (
                json!({"path": "/dev/null", "type": "c", "major": 1, "minor": null}),
                Some("DEV-02:/dev/null"),
            ),
        ] {
            let found = verdicts("DEV-02", &with("/linux/devices", json!([device])));
            match expected {
                Some(rule) => assert_eq!(found, refused(rule, "/linux/devices/0"), "{device}"),
                None => assert_eq!(found, CLEAN, "{device}"),
            }
        }
        for none in [json!([]), json!(null)] {
            assert_eq!(verdicts("DEV-02", &with("/linux/devices", none)), CLEAN);
        }
        let found = Table::of(Profile::Baseline).findings(
            "DEV-02",
            &with("/linux/devices", json!([node("/dev/null", "c", 1, 1)])),
        );
        assert_eq!(
            found[0].found,
            "\"/dev/null\" is the character device 1:1 (/dev/mem)"
        );
    }

    #[test]
    fn a_node_elsewhere_than_a_nodes_place_is_refused_in_every_profile() {
        for path in [
            "",
            "dev/null",
            "/dev/../etc/null",
            "/",
            "/proc/sys/x",
            "/sys/x",
            "/dev/a\0b",
        ] {
            let found = verdicts("DEV-02", &with("/linux/devices", json!([node(path, "c", 1, 3)])));
            assert_eq!(found, ["deny DEV-02 /linux/devices/0/path"; 3], "{path:?}");
        }
        assert_eq!(
            verdicts(
                "DEV-02",
                &with("/linux/devices", json!([node("/processes/null", "c", 1, 3)]))
            ),
            CLEAN
        );
    }

    #[test]
    fn the_policy_allows_a_device_and_not_its_name() {
        let allowing = |devices: &[&str]| {
            let mut table = Table::of(Profile::Restricted);
            table.policy.devices = devices.iter().map(|path| (*path).to_owned()).collect();
            table
        };
        for (allowed, device, number) in [
            ("/dev/fuse", node("/dev/fuse", "c", 10, 229), true),
            ("/dev/fuse", node("/dev/other", "c", 10, 229), true),
            ("/dev/fuse", node("/dev/fuse", "c", 1, 1), false),
            ("/dev/fuse", node("/dev/fuse", "b", 8, 0), false),
            ("/dev/nvidia0", node("/dev/nvidia0", "c", 195, 0), true),
            ("/dev/nvidia0", node("/dev/nvidia0", "c", 1, 11), false),
            ("/dev/nvidia0", node("/dev/nvidia1", "c", 195, 1), false),
            ("/dev/sdz", node("/dev/sdz", "b", 65, 144), true),
            ("/dev/sdz", node("/dev/sdz", "p", 65, 144), false),
        ] {
            let rule = json!({"allow": true, "type": device["type"], "major": device["major"], "minor": device["minor"], "access": "rw"});
            let mut document = list(json!([deny_all(), rule]));
            set(&mut document, "/linux/devices", json!([device]));
            for id in ["DEV-02", "DEV-03"] {
                let found = allowing(&[allowed]).findings(id, &document);
                assert_eq!(found.is_empty(), number, "{id} {allowed} {device}");
            }
        }
    }

    #[test]
    fn only_default_devices_may_be_opened() {
        let rule = |kind: &str, major: Value, minor: Value, access: &str| json!({"allow": true, "type": kind, "major": major, "minor": minor, "access": access});
        let any = || Value::Null;
        for (allowed, expected) in [
            (char(1, 3), None),
            (char(5, 2), None),
            (char(136, 7), None),
            (rule("c", json!(136), any(), "rwm"), None),
            (rule("c", json!(136), json!(-1), "rwm"), None),
            (
                json!({"allow": false, "type": "c", "major": 10, "minor": 229, "access": "rwm"}),
                None,
            ),
            (char(10, 229), Some("c:10:229")),
            (char(10, 200), Some("c:10:200")),
            (char(1, 1), Some("c:1:1")),
            (rule("c", json!(1), any(), "rw"), Some("c:1:*")),
            (rule("c", any(), any(), "m"), Some("c:*:*")),
            (rule("c", any(), json!(3), "r"), Some("c:*:3")),
            (rule("b", any(), any(), "m"), Some("b:*:*")),
            (rule("b", json!(1), json!(3), "r"), Some("b:1:3")),
            (rule("b", json!(136), any(), "r"), Some("b:136:*")),
            (rule("x", json!(1), json!(3), "r"), Some("x:1:3")),
            (json!({"allow": true, "major": 1, "minor": 3}), Some("a:1:3")),
        ] {
            let found = verdicts("DEV-03", &list(json!([deny_all(), allowed])));
            match expected {
                Some(key) => {
                    assert_eq!(
                        found,
                        refused(&format!("DEV-03:{key}"), "/linux/resources/devices/1"),
                        "{allowed}"
                    );
                }
                None => assert_eq!(found, CLEAN, "{allowed}"),
            }
        }
        for none in [
            json!([]),
            json!(null),
            json!([char(8, 0), deny_all()]),
            json!([allow_all()]),
        ] {
            assert_eq!(verdicts("DEV-03", &list(none)), CLEAN);
        }
    }

    #[test]
    fn a_device_that_is_bound_in_is_recognized_by_what_it_is() {
        let device = |path: &str, kind| {
            Some(SourceFact {
                kind,
                ..sensitive(path, Relation::Inside, "/dev")
            })
        };
        let refused = |rule: &str| {
            [
                format!("audit {rule}"),
                format!("deny {rule}"),
                format!("deny {rule}"),
            ]
        };
        for (source, fact, expected) in [
            (
                "/x",
                device("/dev/sda", FileKind::BlockDevice { major: 8, minor: 0 }),
                Some("DEV-04:/dev/sda"),
            ),
            (
                "/srv/disk",
                device("/srv/disk", FileKind::CharDevice { major: 1, minor: 1 }),
                Some("DEV-04:/srv/disk"),
            ),
            (
                "/dev/null",
                device("/dev/null", FileKind::CharDevice { major: 1, minor: 3 }),
                None,
            ),
            (
                "/dev/null",
                device("/dev/null", FileKind::BlockDevice { major: 1, minor: 3 }),
                Some("DEV-04:/dev/null"),
            ),
            ("/dev/dri", Some(directory("/dev/dri")), None),
            ("/dev/sda", None, Some("DEV-04:/dev/sda")),
            ("/dev/../dev//sda", None, Some("DEV-04:/dev/sda")),
            ("/dev/disk/by-id/x", None, Some("DEV-04:/dev/disk/by-id/x")),
            ("/dev/net/tun", None, Some("DEV-04:/dev/net/tun")),
            ("/dev/pts", None, Some("DEV-04:/dev/pts")),
            ("/dev/urandom", None, None),
            ("/dev/shm", None, None),
            ("/dev/log", None, None),
            ("/dev", None, None),
            ("/device/sda", None, None),
            ("", None, None),
        ] {
            let found = of_source("DEV-04", source, &["ro"], fact.clone());
            match expected {
                Some(rule) => assert_eq!(found, refused(rule), "{source} {fact:?}"),
                None => assert_eq!(found, CLEAN, "{source} {fact:?}"),
            }
        }
    }

    #[test]
    fn the_policy_allows_a_device_that_is_bound_in() {
        let document = with(
            "/mounts",
            json!([{"destination": "/d", "type": "bind", "source": "/dev/kvm"}]),
        );
        let mut table = Table::of(Profile::Restricted);
        assert_eq!(
            table.verdicts("DEV-04", &document),
            ["deny DEV-04:/dev/kvm /mounts/0/source"]
        );
        table.policy.devices = vec!["/dev/kvm".to_owned()];
        assert_eq!(table.findings("DEV-04", &document), []);
    }
}
