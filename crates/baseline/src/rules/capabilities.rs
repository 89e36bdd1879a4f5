//! Capabilities (capabilities(7)): which ones, in which sets.

use crate::change::Change;
use crate::pointer::Pointer;
use crate::profile::{Level, Levels};
use crate::rule::{Case, Mappings, Remedies, Rule, Violations};

/// The rules of this topic.
pub static RULES: &[&Rule] = &[&CAP_01];

/// The fourteen capabilities that Docker, containerd and CRI give by default.
pub const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

static CAP_01: Rule = Rule {
    id: "CAP-01",
    title: "capabilities are named",
    meaning: "process.capabilities is absent or null.",
    why: "The runtimes people use then give the workload every capability that the runtime itself has. \
          An empty object gives none, and is accepted.",
    stops: &["hand-made and mutated bundles that mean drop-all and get keep-all"],
    fields: &["/process/capabilities"],
    levels: Levels::new(Level::Audit, Level::Harden, Level::Harden),
    hardening: "the capabilities that the profile allows are filled in",
    remedies: Remedies {
        docker: "Docker always names them; nothing to do.",
        kubernetes: "The container engine always names them; nothing to do.",
        config: "Add \"capabilities\": {} for none, or the five sets with the names that are needed.",
    },
    mappings: Mappings {
        pss: "Capabilities (baseline)",
        cis_docker: "5.4",
        nsa: "pod security enforcement",
        nist_800_190: "3.4.3",
    },
    facts: &[],
    check: named,
};

fn named(case: &Case<'_>, violations: &mut Violations) {
    let Some(process) = case.config.process.value() else { return };
    if process.capabilities.is_missing() {
        let filled: &[&str] = match case.profile {
            crate::Profile::Restricted => &["CAP_NET_BIND_SERVICE"],
            _ => &DEFAULT,
        };
        violations
            .report(
                Pointer::at("/process/capabilities"),
                format!("{}, which gives the workload all capabilities", process.capabilities.presence()),
                "an object with the five sets; {} for no capability",
            )
            .fix(Change::FillCapabilities { capabilities: filled.iter().map(|&c| c.to_owned()).collect() });
    }
}
