//! Masked and read-only paths: what of procfs and sysfs a container does not see, or may not write.
//!
//! procfs and sysfs are the kernel's own, not the container's: most files below /proc/sys and /sys speak for
//! the whole host. The lists are united with what the engine sent and never shortened. A mount over /proc
//! that would take the masks away is the business of the rules on mounts.

use crate::change::Change;
use crate::pointer::Pointer;
use crate::profile::{Level, Levels};
use crate::rule::{Case, Mappings, Remedies, Rule, Violations};

/// The rules of this topic.
pub static RULES: &[&Rule] = &[&PTH_01, &PTH_02, &PTH_03];

/// What Docker, containerd, podman and CRI-O mask by default.
const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];

/// What they make read-only.
const READONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// What leaks, or steers the host, and is masked by the newest engines only, or by none.
const ALSO_MASKED: [&str; 7] = [
    // Counts of interrupts tell when keys are pressed elsewhere on the host.
    "/proc/interrupts",
    // With kptr_restrict 0 and perf_event_paranoid 1, the kernel's addresses for everyone.
    "/proc/kallsyms",
    // Energy counters: a side channel on other processes' secrets (PLATYPUS).
    "/sys/devices/virtual/powercap",
    // Mount points of kernel file systems; a sysfs bound from the host brings what is mounted there along.
    "/sys/kernel/debug",
    "/sys/kernel/tracing",
    "/sys/kernel/security",
    "/sys/fs/bpf",
];

const DOCKER: &str =
    "Drop --security-opt systempaths=unconfined (and --privileged); Docker then masks them itself.";
const KUBERNETES: &str = "Leave securityContext.procMount unset or set it to Default; \
                          the container engine then sends both lists.";

static PTH_01: Rule = Rule {
    id: "PTH-01",
    title: "the kernel's memory, keys and hardware are masked",
    meaning: "linux.maskedPaths lacks one of the ten paths that every engine masks: /proc/acpi, /proc/asound, \
              /proc/kcore, /proc/keys, /proc/latency_stats, /proc/timer_list, /proc/timer_stats, \
              /proc/sched_debug, /proc/scsi, /sys/firmware. A masked parent counts; for /proc/asound being \
              read-only is enough. An empty list is treated as a missing one.",
    why: "/proc/kcore is the kernel's memory, /proc/keys lists everybody's keys, and the others tell about \
          or steer the hardware of the host.",
    stops: &[
        "reading kernel memory and keys through procfs",
        "CVE-2018-10892 (/proc/acpi)",
    ],
    fields: &["/linux/maskedPaths", "/linux/readonlyPaths"],
    levels: Levels::new(Level::Audit, Level::Harden, Level::Harden),
    hardening: "the missing paths are added to linux.maskedPaths; those that the kernel does not have are \
                skipped when the container is built",
    remedies: Remedies {
        docker: DOCKER,
        podman: "Drop --security-opt unmask=… and --privileged; podman masks them by itself.",
        ctr: "Remove --privileged: ctr masks them by itself.",
        kubernetes: KUBERNETES,
        config: "Add the paths to linux.maskedPaths: \"maskedPaths\": [\"/proc/acpi\", \"/proc/asound\", \
                 \"/proc/kcore\", \"/proc/keys\", \"/proc/latency_stats\", \"/proc/timer_list\", \
                 \"/proc/timer_stats\", \"/proc/sched_debug\", \"/proc/scsi\", \"/sys/firmware\"].",
    },
    mappings: Mappings {
        pss: "/proc Mount Type (baseline)",
        cis_docker: "",
        nsa: "pod security enforcement",
        nist_800_190: "3.4.3",
    },
    facts: &[],
    check: masked,
};

static PTH_02: Rule = Rule {
    id: "PTH-02",
    title: "the kernel's settings are read-only",
    meaning: "linux.readonlyPaths lacks one of /proc/bus, /proc/fs, /proc/irq, /proc/sys, \
              /proc/sysrq-trigger. A read-only or masked parent counts. An empty list is treated as a missing \
              one.",
    why: "Whoever writes /proc/sys/kernel/core_pattern or modprobe names a program that the kernel runs as \
          root on the host; sysrq-trigger reboots it.",
    stops: &["core_pattern, modprobe and sysrq gadgets"],
    fields: &["/linux/readonlyPaths", "/linux/maskedPaths"],
    levels: Levels::new(Level::Audit, Level::Harden, Level::Harden),
    hardening: "the missing paths are added to linux.readonlyPaths",
    remedies: Remedies {
        docker: DOCKER,
        podman: "Drop --security-opt unmask=… and --privileged; podman makes them read-only by itself.",
        ctr: "Remove --privileged: ctr makes them read-only by itself.",
        kubernetes: KUBERNETES,
        config: "Add the paths to linux.readonlyPaths: \"readonlyPaths\": [\"/proc/bus\", \"/proc/fs\", \
                 \"/proc/irq\", \"/proc/sys\", \"/proc/sysrq-trigger\"].",
    },
    mappings: Mappings {
        pss: "/proc Mount Type (baseline)",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.4.3",
    },
    facts: &[],
    check: readonly,
};

static PTH_03: Rule = Rule {
    id: "PTH-03",
    title: "side channels and kernel file systems are masked",
    meaning: "linux.maskedPaths lacks one of /proc/interrupts, /proc/kallsyms, /sys/devices/virtual/powercap, \
              /sys/kernel/debug, /sys/kernel/tracing, /sys/kernel/security, /sys/fs/bpf. A masked parent \
              counts. The thermal counters of each CPU are left to the engine, which knows how many there are.",
    why: "Power and interrupt counters leak what other processes on the host compute and type; debugfs, \
          tracefs and bpffs speak for the whole kernel.",
    stops: &[
        "PLATYPUS, CVE-2020-8694 (powercap)",
        "GHSA-6fw5-f8r9-fgfm (thermal and interrupt counters)",
    ],
    fields: &["/linux/maskedPaths"],
    levels: Levels::new(Level::Off, Level::Off, Level::Harden),
    hardening: "the missing paths are added to linux.maskedPaths",
    remedies: Remedies {
        docker: "Nothing to do: no Docker masks all of them, and gabion adds the missing ones.",
        kubernetes: "Nothing to do: no engine masks all of them, and gabion adds the missing ones.",
        config: "Add the paths to linux.maskedPaths, or leave it to the hardening.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.4.3",
    },
    facts: &[],
    check: also_masked,
};

/// The lists of a bundle, absent and null as empty: all three protect nothing.
fn lists<'a>(case: &Case<'a>) -> (&'a [String], &'a [String]) {
    case.config.linux.value().map_or((&[], &[]), |linux| {
        (linux.masked_paths.items(), linux.readonly_paths.items())
    })
}

/// True if a list protects a path: it has the path or a directory above it.
///
/// `/` protects nothing: what is mounted over the root directory of a process is not what that process
/// sees, for its root stays the one below (path_resolution(7)).
fn covers(list: &[String], path: &str) -> bool {
    // As every engine writes it; the paths that are asked for are plain.
    let as_it_is = list.iter().any(|entry| entry == path);
    as_it_is
        || list.iter().any(|entry| {
            let mut wanted = names(path);
            let mut given = names(entry).peekable();
            given.peek().is_some() && given.all(|name| wanted.next() == Some(name)) && is_plain(entry)
        })
}

/// The names of a path, without empty ones and `.`: `/proc//acpi/` is `/proc/acpi`.
fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty() && *name != ".")
}

/// True if the path says where it is: absolute, without `..` and NUL.
fn is_plain(path: &str) -> bool {
    path.starts_with('/') && !path.contains('\0') && path.split('/').all(|name| name != "..")
}

/// Reports the entries of a list that could be about another path than they seem to.
fn report_crooked(list: &[String], property: &str, violations: &mut Violations) {
    for (index, path) in list.iter().enumerate().filter(|(_, path)| !is_plain(path)) {
        violations
            .report(
                Pointer::at("/linux").key(property).index(index),
                format!("{path:?} is not an absolute path without \"..\""),
                "an absolute path in the container (runtime-spec, config-linux.md)",
            )
            .levels(Levels::new(Level::Deny, Level::Deny, Level::Deny));
    }
}

fn report_unmasked(path: &str, violations: &mut Violations) {
    violations
        .report(
            "/linux/maskedPaths",
            format!("{path:?} is not masked"),
            format!("{path:?} in the list"),
        )
        .sub_key(path)
        .fix(Change::AddMaskedPath {
            path: path.to_owned(),
        });
}

fn masked(case: &Case<'_>, violations: &mut Violations) {
    let (masked, readonly) = lists(case);
    report_crooked(masked, "maskedPaths", violations);
    for path in MASKED {
        // podman has it among the read-only ones.
        let or_readonly = path == "/proc/asound" && covers(readonly, path);
        if !covers(masked, path) && !or_readonly {
            report_unmasked(path, violations);
        }
    }
}

fn readonly(case: &Case<'_>, violations: &mut Violations) {
    let (masked, readonly) = lists(case);
    report_crooked(readonly, "readonlyPaths", violations);
    for path in READONLY
        .into_iter()
        .filter(|path| !covers(readonly, path) && !covers(masked, path))
    {
        violations
            .report(
                "/linux/readonlyPaths",
                format!("{path:?} may be written"),
                format!("{path:?} in the list"),
            )
            .sub_key(path)
            .fix(Change::AddReadonlyPath {
                path: path.to_owned(),
            });
    }
}

fn also_masked(case: &Case<'_>, violations: &mut Violations) {
    let (masked, _) = lists(case);
    for path in ALSO_MASKED.into_iter().filter(|path| !covers(masked, path)) {
        report_unmasked(path, violations);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::table::{Table, with};
    use super::*;
    use crate::profile::Profile;

    fn bundle(masked: Value, readonly: Value) -> Value {
        let mut document = with("/linux/maskedPaths", masked);
        document["linux"]["readonlyPaths"] = readonly;
        document
    }

    fn effective(document: &Value, property: &str) -> Value {
        let rule = if property == "maskedPaths" {
            "PTH-01"
        } else {
            "PTH-02"
        };
        Table::of(Profile::Baseline).hardened(rule, document)["linux"][property].clone()
    }

    #[test]
    fn the_lists_that_engines_send_pass() {
        let table = Table::of(Profile::Baseline);
        let docker = bundle(json!(MASKED), json!(READONLY));
        assert!(table.findings("PTH-01", &docker).is_empty() && table.findings("PTH-02", &docker).is_empty());
        let podman: Vec<_> = MASKED
            .into_iter()
            .filter(|path| *path != "/proc/asound")
            .collect();
        let mut readonly = READONLY.to_vec();
        readonly.push("/proc/asound");
        assert!(
            table
                .findings("PTH-01", &bundle(json!(podman), json!(readonly)))
                .is_empty()
        );
        // Of the others being read-only is not enough.
        let near_miss = bundle(json!(podman), json!(["/proc/kcore", "/proc/asounds"]));
        assert_eq!(
            table.verdicts("PTH-01", &near_miss),
            ["harden PTH-01:/proc/asound /linux/maskedPaths"]
        );
    }

    #[test]
    fn absent_null_and_empty_lists_are_filled() {
        for value in [Value::Null, json!([])] {
            let document = bundle(value.clone(), value);
            assert_eq!(effective(&document, "maskedPaths"), json!(MASKED));
            assert_eq!(effective(&document, "readonlyPaths"), json!(READONLY));
        }
        let absent = with("/hostname", json!("a"));
        assert_eq!(effective(&absent, "maskedPaths"), json!(MASKED));
        assert_eq!(effective(&absent, "readonlyPaths"), json!(READONLY));
        let privileged = Table::of(Profile::Privileged);
        assert_eq!(privileged.findings("PTH-01", &absent).len(), MASKED.len());
        assert!(
            privileged
                .findings("PTH-01", &absent)
                .iter()
                .all(|f| f.action == crate::Action::Audit)
        );
        assert!(
            privileged
                .findings("PTH-02", &absent)
                .iter()
                .all(|f| f.action == crate::Action::Audit)
        );
    }

    #[test]
    fn hardening_adds_what_is_missing_and_keeps_what_was_sent() {
        let document = bundle(
            json!(["/opt/secret", "/proc/kcore"]),
            json!(["/proc/sys", "/etc/x"]),
        );
        let masked = effective(&document, "maskedPaths");
        assert_eq!(masked[0], "/opt/secret");
        assert_eq!(masked.as_array().unwrap().len(), 11);
        assert_eq!(
            effective(&document, "readonlyPaths"),
            json!([
                "/proc/sys",
                "/etc/x",
                "/proc/bus",
                "/proc/fs",
                "/proc/irq",
                "/proc/sysrq-trigger"
            ])
        );
    }

    #[test]
    fn a_path_is_recognized_however_it_is_written() {
        for (entry, path, covered) in [
            ("/proc/acpi", "/proc/acpi", true),
            ("/proc/acpi/", "/proc/acpi", true),
            ("//proc//./acpi", "/proc/acpi", true),
            ("/sys", "/sys/firmware", true),
            ("/proc/", "/proc/sys", true),
            ("/proc/acp", "/proc/acpi", false),
            ("/proc/acpi/x", "/proc/acpi", false),
            ("/proc/acpi2", "/proc/acpi", false),
            ("proc/acpi", "/proc/acpi", false),
            ("/proc/x/../acpi", "/proc/acpi", false),
            ("/proc/acpi\0", "/proc/acpi", false),
            // Mounted over the root directory, the mask would be where nobody looks.
            ("/", "/proc/acpi", false),
            ("//.", "/proc/acpi", false),
            ("", "/proc/acpi", false),
        ] {
            assert_eq!(covers(&[entry.to_owned()], path), covered, "{entry:?}");
        }
    }

    #[test]
    fn an_entry_that_may_mean_another_path_is_denied_everywhere() {
        for profile in Profile::ALL {
            for path in ["proc/kcore", "/proc/../etc", "", "/a\0b", ".."] {
                let mut masked = MASKED.to_vec();
                masked.push(path);
                let found = Table::of(profile).verdicts("PTH-01", &bundle(json!(masked), json!([])));
                assert_eq!(found, ["deny PTH-01 /linux/maskedPaths/10"], "{path:?}");
                let mut readonly = READONLY.to_vec();
                readonly.push(path);
                let found = Table::of(profile).verdicts("PTH-02", &bundle(json!([]), json!(readonly)));
                assert_eq!(found, ["deny PTH-02 /linux/readonlyPaths/5"], "{path:?}");
            }
            let near_miss = bundle(json!(MASKED.map(|p| format!("{p}/..x"))), json!(READONLY));
            assert!(
                Table::of(profile)
                    .verdicts("PTH-01", &near_miss)
                    .iter()
                    .all(|v| !v.starts_with("deny"))
            );
        }
    }

    #[test]
    fn the_newer_masks_are_added_in_restricted_alone() {
        let document = bundle(json!(["/sys/kernel"]), json!([]));
        assert!(
            Table::of(Profile::Baseline)
                .findings("PTH-03", &document)
                .is_empty()
        );
        assert_eq!(
            Table::of(Profile::Restricted).verdicts("PTH-03", &document),
            [
                "harden PTH-03:/proc/interrupts /linux/maskedPaths",
                "harden PTH-03:/proc/kallsyms /linux/maskedPaths",
                "harden PTH-03:/sys/devices/virtual/powercap /linux/maskedPaths",
                "harden PTH-03:/sys/fs/bpf /linux/maskedPaths",
            ]
        );
        let all = bundle(json!(ALSO_MASKED), json!([]));
        assert!(Table::of(Profile::Restricted).findings("PTH-03", &all).is_empty());
    }
}
