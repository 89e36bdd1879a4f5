//! Seccomp (seccomp(2)): that there is a filter, that it can be built as written, and that it lists what is
//! allowed rather than what is not.
//!
//! An absent filter, a null one and `{}` all mean the same to runtimes: none. The runtime-spec cannot say
//! whether the author forgot it or chose it.

use std::collections::BTreeSet;

use crate::change::Change;
use crate::config::Seccomp;
use crate::pointer::Pointer;
use crate::profile::{Level, Levels};
use crate::rule::{Case, Mappings, Remedies, Rule, Violations};

/// The rules of this topic.
pub static RULES: &[&Rule] = &[&SEC_01, &SEC_02];

/// The actions of the runtime-spec (config-linux.md, "Seccomp").
pub const ACTIONS: [&str; 9] = [
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
];

/// The operators of the runtime-spec.
pub const OPERATORS: [&str; 7] = [
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
];

/// The architectures of the runtime-spec.
pub const ARCHITECTURES: [&str; 23] = [
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_RISCV64",
];

/// The filter flags of the runtime-spec.
pub const FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

/// The highest argument of a system call that a filter sees; they count from 0.
const LAST_ARGUMENT: u32 = 5;

static SEC_01: Rule = Rule {
    id: "SEC-01",
    title: "there is a seccomp filter, and all of it is understood",
    meaning: "linux.seccomp is absent, null or empty, which all mean that no filter is loaded; or it has an \
              action, operator, architecture, flag or argument number that the runtime-spec does not have.",
    why: "Without a filter the workload may call all of the kernel, and it is in the rarely used calls that \
          holes are found year after year. A word that is not understood is a part of the filter that its \
          author counts on and nobody loads, so it is refused in every profile.",
    stops: &[
        "most local ways to root in the kernel: io_uring, nf_tables, bpf, AF_ALG (CVE-2026-31431)",
        "builders that turn the filter off behind one's back (GHSA-7236-3392-c5c6)",
        "filters that load with a part missing",
    ],
    fields: &["/linux/seccomp"],
    levels: Levels::new(Level::Audit, Level::Harden, Level::Harden),
    hardening: "gabion's default filter is filled in, made for the capabilities that remain; a filter that \
                the engine sent is never changed",
    remedies: Remedies {
        docker: "Remove --security-opt seccomp=unconfined and --privileged. Where a debugger or builder must \
                 run unconfined, give it a profile of its own with --security-opt seccomp=FILE, or have the \
                 site's policy allow SEC-01 for it.",
        kubernetes: "Set securityContext.seccompProfile.type: RuntimeDefault on the pod; seccompDefault: \
                     true in the kubelet's configuration does so for all.",
        config: "Add linux.seccomp with \"defaultAction\": \"SCMP_ACT_ERRNO\" and the system calls that are \
                 allowed; write actions, operators and architectures as config-linux.md has them, such as \
                 SCMP_ACT_ALLOW.",
    },
    mappings: Mappings {
        pss: "Seccomp (baseline, restricted)",
        cis_docker: "5.22",
        nsa: "pod security enforcement",
        nist_800_190: "4.4.3, 3.5.2",
    },
    facts: &[],
    check: filtered,
};

fn filtered(case: &Case<'_>, violations: &mut Violations) {
    let seccomp = case.config.linux.value().map(|linux| &linux.seccomp);
    let presence = match seccomp {
        None => "absent",
        Some(given) => match given.value() {
            Some(filter) if !filter.is_empty() => {
                understood(filter, violations);
                return;
            }
            Some(_) => "empty",
            None => given.presence(),
        },
    };
    violations
        .report(
            "/linux/seccomp",
            format!("{presence}, so no filter would be loaded"),
            "a filter",
        )
        .fix(Change::FillSeccomp);
}

/// Reports each word of the filter that is not one of the runtime-spec's, at the first place where it is.
fn understood(filter: &Seccomp, violations: &mut Violations) {
    let root = || Pointer::at("/linux/seccomp");
    let mut words = Words {
        seen: BTreeSet::new(),
        violations,
    };
    match filter.default_action.value() {
        Some(action) => words.check("action", action, &ACTIONS, || root().key("defaultAction")),
        None => words.check("action", "", &ACTIONS, || root().key("defaultAction")),
    }
    for (index, name) in filter.architectures.items().iter().enumerate() {
        words.check("architecture", name, &ARCHITECTURES, || {
            root().key("architectures").index(index)
        });
    }
    for (index, flag) in filter.flags.items().iter().enumerate() {
        words.check("flag", flag, &FLAGS, || root().key("flags").index(index));
    }
    for (index, rule) in filter.syscalls.items().iter().enumerate() {
        let place = || root().key("syscalls").index(index);
        words.check("action", &rule.action, &ACTIONS, || place().key("action"));
        for (number, arg) in rule.args.items().iter().enumerate() {
            let place = || place().key("args").index(number);
            words.check("operator", &arg.op, &OPERATORS, || place().key("op"));
            if arg.index > LAST_ARGUMENT {
                words
                    .violations
                    .report(
                        place().key("index"),
                        format!(
                            "{}, and system calls have arguments 0 to {LAST_ARGUMENT}",
                            arg.index
                        ),
                        format!("0 to {LAST_ARGUMENT}"),
                    )
                    .levels(EVERYWHERE);
            }
        }
    }
}

/// What is not understood is refused in every profile.
const EVERYWHERE: Levels = Levels::new(Level::Deny, Level::Deny, Level::Deny);

struct Words<'a, 'v> {
    seen: BTreeSet<(&'static str, &'a str)>,
    violations: &'v mut Violations,
}

impl<'a> Words<'a, '_> {
    fn check(&mut self, what: &'static str, word: &'a str, known: &[&str], place: impl FnOnce() -> Pointer) {
        if known.contains(&word) || !self.seen.insert((what, word)) {
            return;
        }
        self.violations
            .report(
                place(),
                format!("{word:?} is no {what} that gabion knows"),
                known.join(", "),
            )
            .levels(EVERYWHERE);
    }
}

static SEC_02: Rule = Rule {
    id: "SEC-02",
    title: "the seccomp filter lists what is allowed",
    meaning: "linux.seccomp.defaultAction lets a system call happen that the filter does not name: \
              SCMP_ACT_ALLOW, SCMP_ACT_LOG, SCMP_ACT_TRACE or SCMP_ACT_NOTIFY.",
    why: "A list of what is forbidden ages badly: each kernel brings new system calls, and the filter lets \
          them all through until someone adds them.",
    stops: &["system calls that are newer than the filter"],
    fields: &["/linux/seccomp/defaultAction"],
    levels: Levels::new(Level::Off, Level::Audit, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Use Docker's own profile by removing --security-opt seccomp=FILE, or begin a profile from \
                 it.",
        kubernetes: "Use securityContext.seccompProfile.type: RuntimeDefault, or a localhost profile that \
                     lists what is allowed.",
        config: "Set linux.seccomp.defaultAction to SCMP_ACT_ERRNO, and list the system calls that the \
                 workload needs with SCMP_ACT_ALLOW.",
    },
    mappings: Mappings {
        pss: "Seccomp (restricted)",
        cis_docker: "5.22",
        nsa: "",
        nist_800_190: "3.5.2",
    },
    facts: &[],
    check: lists_what_is_allowed,
};

fn lists_what_is_allowed(case: &Case<'_>, violations: &mut Violations) {
    let Some(linux) = case.config.linux.value() else {
        return;
    };
    let Some(action) = linux
        .seccomp
        .value()
        .and_then(|filter| filter.default_action.value())
    else {
        return;
    };
    let passes = [
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_LOG",
        "SCMP_ACT_TRACE",
        "SCMP_ACT_NOTIFY",
    ];
    if passes.contains(&action.as_str()) {
        violations.report(
            "/linux/seccomp/defaultAction",
            format!("{action:?} lets calls happen that the filter does not name"),
            "SCMP_ACT_ERRNO, or one of the actions that kill or trap",
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{findings, hardened, host, table};
    use super::*;
    use crate::profile::Profile;

    fn with(seccomp: Value) -> Value {
        json!({"linux": {"seccomp": seccomp}})
    }

    const NONE: [&str; 3] = [
        "audit /linux/seccomp",
        "harden /linux/seccomp",
        "harden /linux/seccomp",
    ];

    #[test]
    fn no_filter_is_no_filter_whether_absent_null_or_empty() {
        table(
            "SEC-01",
            &host(),
            &[
                ("no linux", json!({}), NONE),
                ("absent", json!({"linux": {}}), NONE),
                ("null", with(json!(null)), NONE),
                ("empty", with(json!({})), NONE),
                (
                    "architectures alone",
                    with(json!({"architectures": ["SCMP_ARCH_X86_64"]})),
                    NONE,
                ),
                (
                    "an empty action and no rule",
                    with(json!({"defaultAction": "", "syscalls": []})),
                    NONE,
                ),
                (
                    "a filter without rules",
                    with(json!({"defaultAction": "SCMP_ACT_ERRNO"})),
                    ["", "", ""],
                ),
            ],
        );
        let found = |config: &Value| {
            findings("SEC-01", Profile::Baseline, config, &host())[0]
                .found
                .clone()
        };
        assert_eq!(found(&json!({})), "absent, so no filter would be loaded");
        assert_eq!(found(&with(json!(null))), "null, so no filter would be loaded");
        assert_eq!(found(&with(json!({}))), "empty, so no filter would be loaded");
        let after = hardened("SEC-01", Profile::Baseline, &with(json!(null)), &host());
        assert_eq!(
            after["linux"]["seccomp"],
            json!({"defaultAction": "SCMP_ACT_ERRNO"})
        );
    }

    #[test]
    fn a_filter_with_a_word_that_is_not_understood_is_refused_in_every_profile() {
        let rule = |rule: Value| with(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]}));
        let everywhere = |place: &str| format!("deny /linux/seccomp/{place}");
        for (name, config, place) in [
            (
                "default action",
                with(json!({"defaultAction": "SCMP_ACT_DENY"})),
                "defaultAction",
            ),
            (
                "rules without a default action",
                with(json!({"syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]})),
                "defaultAction",
            ),
            (
                "architecture",
                with(json!({"defaultAction": "SCMP_ACT_ERRNO",
                            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_VAX", "SCMP_ARCH_VAX"]})),
                "architectures/1",
            ),
            (
                "flag",
                with(json!({"defaultAction": "SCMP_ACT_ERRNO", "flags": ["SECCOMP_FILTER_FLAG_NEW"]})),
                "flags/0",
            ),
            (
                "action",
                rule(json!({"names": ["read"], "action": "ALLOW"})),
                "syscalls/0/action",
            ),
            (
                "operator",
                rule(json!({"names": ["clone"], "action": "SCMP_ACT_ALLOW",
                            "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_LIKE"}]})),
                "syscalls/0/args/0/op",
            ),
            (
                "argument",
                rule(json!({"names": ["clone"], "action": "SCMP_ACT_ALLOW",
                            "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]})),
                "syscalls/0/args/0/index",
            ),
        ] {
            let expected = everywhere(place);
            table(
                "SEC-01",
                &host(),
                &[(name, config, [&expected, &expected, &expected])],
            );
        }
        let fine = rule(
            json!({"names": ["clone", "not_yet_a_call"], "action": "SCMP_ACT_NOTIFY",
                               "args": [{"index": 5, "value": 1, "valueTwo": 0,
                                         "op": "SCMP_CMP_MASKED_EQ"}]}),
        );
        table("SEC-01", &host(), &[("all understood", fine, ["", "", ""])]);
    }

    #[test]
    fn a_filter_that_allows_by_default_is_recorded_and_refused_by_restricted() {
        let at = "/linux/seccomp/defaultAction";
        for action in ACTIONS {
            let passes = ["ALLOW", "LOG", "TRACE", "NOTIFY"]
                .iter()
                .any(|end| action == format!("SCMP_ACT_{end}"));
            let (audit, deny) = (format!("audit {at}"), format!("deny {at}"));
            let expected = if passes {
                ["", &audit[..], &deny[..]]
            } else {
                ["", "", ""]
            };
            table(
                "SEC-02",
                &host(),
                &[(action, with(json!({"defaultAction": action})), expected)],
            );
        }
        table(
            "SEC-02",
            &host(),
            &[
                ("absent", json!({}), ["", "", ""]),
                ("null", with(json!(null)), ["", "", ""]),
                ("empty", with(json!({})), ["", "", ""]),
            ],
        );
    }
}
