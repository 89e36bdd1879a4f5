//! Kernel parameters (sysctl(8), proc_sys(5)): which of them belong to the container and which to the host.
//!
//! The runtime writes `linux.sysctl` as root into /proc/sys. A handful of files there answer for a namespace
//! of the writer; all others are settings of the one kernel that every container shares.

use std::collections::BTreeMap;

use crate::facts::{Fact, FactKind, NamespaceFact};
use crate::pointer::Pointer;
use crate::profile::{Level, Levels};
use crate::rule::{Case, Mappings, Remedies, Rule, Violations};

/// The rules of this topic.
pub static RULES: &[&Rule] = &[&SYS_01, &SYS_02, &SYS_03];

/// Files of /proc/sys/kernel that answer for the IPC namespace (sysvipc(7)); all of fs/mqueue does too.
const IPC: [&str; 8] = [
    "msgmax",
    "msgmnb",
    "msgmni",
    "sem",
    "shmall",
    "shmmax",
    "shmmni",
    "shm_rmid_forced",
];

/// Limits of connection tracking that are the whole kernel's although they lie below net. Before Linux 5.13
/// root of any network namespace could write them; since then only the initial one can.
const CONNTRACK: [&str; 4] = [
    "net.nf_conntrack_max",
    "net.netfilter.nf_conntrack_max",
    "net.netfilter.nf_conntrack_expect_max",
    "net.netfilter.nf_conntrack_buckets",
];

/// Sysctls that Kubernetes calls safe: they touch neither another pod nor the node's health. The version is
/// the release of Kubernetes since which one is on the list of the Pod Security Standards.
const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",           // 1.18
    "net.ipv4.ip_unprivileged_port_start", // 1.22
    "net.ipv4.ip_local_reserved_ports",    // 1.27
    "net.ipv4.tcp_keepalive_time",         // 1.29
    "net.ipv4.tcp_fin_timeout",            // 1.29
    "net.ipv4.tcp_keepalive_intvl",        // 1.29
    "net.ipv4.tcp_keepalive_probes",       // 1.29
    "net.ipv4.tcp_rmem",                   // 1.32
    "net.ipv4.tcp_wmem",                   // 1.32
];

static SYS_01: Rule = Rule {
    id: "SYS-01",
    title: "a sysctl belongs to a namespace of the container's own",
    meaning: "linux.sysctl sets a parameter that is not namespaced, or one whose namespace the container \
              shares with the host. Namespaced are net.* (network), kernel.msg*, kernel.sem, kernel.shm* and \
              fs.mqueue.* (ipc), kernel.domainname (uts) and user.* (user). Whether a namespace is the \
              container's own is decided by what it is, not by there being a path.",
    why: "The runtime writes these as root of the host. kernel.core_pattern alone names a program that the \
          kernel runs as root outside all containers.",
    stops: &["CVE-2022-0811 (cr8escape): kernel.core_pattern set through a sysctl"],
    fields: &["/linux/sysctl/*", "/linux/namespaces"],
    levels: Levels::new(Level::Deny, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Remove the --sysctl flag, or drop --network host / --ipc host so that the container has a \
                 namespace of its own. Set parameters of the host on the host: /etc/sysctl.d/.",
        kubernetes: "Remove the entry from spec.securityContext.sysctls, or set hostNetwork / hostIPC to \
                     false. Set parameters of the node on the node.",
        config: "Remove the key from linux.sysctl, or give the container the namespace: \
                 {\"type\": \"network\"} in linux.namespaces. For the host name use the property hostname.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "Sysctls (baseline)",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.4.3",
    },
    facts: &[FactKind::Namespaces],
    check: namespaced,
};

static SYS_02: Rule = Rule {
    id: "SYS-02",
    title: "a sysctl is on the safe list",
    meaning: "linux.sysctl sets a namespaced parameter that the Pod Security Standards do not call safe.",
    why: "A namespaced parameter can still be used up at others' cost: buffers, table sizes and timeouts of \
          one network namespace take memory and time of the whole kernel.",
    stops: &["exhausting the kernel's memory through the limits of one namespace"],
    fields: &["/linux/sysctl/*"],
    levels: Levels::new(Level::Off, Level::Audit, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Remove the --sysctl flag, or have the policy permit this one: \"SYS-02:net.core.somaxconn\" \
                 = \"off\".",
        kubernetes: "Use only sysctls that Kubernetes calls safe in spec.securityContext.sysctls, or have \
                     the node's policy permit this one.",
        config: "Remove the key from linux.sysctl.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "Sysctls (baseline)",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.4.3",
    },
    facts: &[],
    check: safe,
};

static SYS_03: Rule = Rule {
    id: "SYS-03",
    title: "a sysctl's name and value are plain",
    meaning: "A key of linux.sysctl has an empty or relative component, a `+`, a control character, or mixes \
              `.` and `/` where no interface name stands; a value is empty or has a `+` or a control \
              character; or one parameter is set twice in two spellings.",
    why: "The key becomes a path below /proc/sys, and some tools join pairs with `+`. A key that two readers \
          split differently is judged as one parameter and written as another.",
    stops: &[
        "CVE-2022-0811 (cr8escape): a second pair hidden behind a +",
        "climbing out of /proc/sys with ..",
    ],
    fields: &["/linux/sysctl/*"],
    levels: Levels::new(Level::Deny, Level::Deny, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Write one --sysctl NAME=VALUE for each parameter, with dots: --sysctl net.ipv4.ip_forward=1.",
        kubernetes: "Write one {name, value} for each parameter in spec.securityContext.sysctls, with dots.",
        config: "Write \"net.ipv4.ip_forward\": \"1\". For an interface with a dot in its name, such as \
                 eth0.100, use slashes: \"net/ipv4/conf/eth0.100/forwarding\".",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "Sysctls (baseline)",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.4.1",
    },
    facts: &[],
    check: plain,
};

/// What a sysctl answers for.
#[derive(Debug, PartialEq, Eq)]
enum Scope {
    /// The namespace of this type.
    Namespace(&'static str),
    /// The uts namespace, but the spec has a property of its own for it.
    Hostname,
    /// The whole kernel, as far as is known.
    Kernel,
}

fn scope(components: &[String]) -> Scope {
    match components.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["net", ..] if CONNTRACK.contains(&components.join(".").as_str()) => Scope::Kernel,
        // Of what else below net is not namespaced, a namespace other than the initial one has no file, or
        // since Linux 5.13 one that cannot be written (net/sysctl_net.c, ensure_safe_net_sysctl).
        ["net", _, ..] => Scope::Namespace("network"),
        ["fs", "mqueue", _] => Scope::Namespace("ipc"),
        ["kernel", name] if IPC.contains(&name) => Scope::Namespace("ipc"),
        ["kernel", "domainname"] => Scope::Namespace("uts"),
        ["kernel", "hostname"] => Scope::Hostname,
        // Limits for each user of a user namespace (namespaces(7)); those of the parents go on counting.
        ["user", _] => Scope::Namespace("user"),
        _ => Scope::Kernel,
    }
}

/// Whose a namespace of the container is.
enum Owner {
    Container,
    /// Not the container's; the text says why.
    Host(String),
    /// The text says why it cannot be told.
    Unknown(String),
}

/// Whose the container's namespace of a type is. Every entry of the type must be the container's own: which
/// of two the engine honours is not for us to guess.
fn owner(case: &Case<'_>, kind: &str) -> Owner {
    let namespaces = case
        .config
        .linux
        .value()
        .map_or(&[][..], |linux| linux.namespaces.items());
    let mut found = Owner::Host(format!("the container has no {kind} namespace of its own"));
    for (index, namespace) in namespaces
        .iter()
        .enumerate()
        .filter(|(_, namespace)| namespace.kind == kind)
    {
        let Some(path) = namespace.joins() else {
            found = Owner::Container;
            continue;
        };
        match case.facts.namespaces.get(index) {
            Some(Fact::Known(NamespaceFact::New | NamespaceFact::Existing { host: None, .. })) => {
                found = Owner::Container;
            }
            Some(Fact::Known(NamespaceFact::Existing { host: Some(_), .. })) => {
                return Owner::Host(format!("the {kind} namespace {path:?} is the host's"));
            }
            Some(Fact::Known(NamespaceFact::NotOne(what))) => {
                return Owner::Host(format!("{path:?} is no {kind} namespace: {what}"));
            }
            Some(Fact::Unknown(why)) => {
                return Owner::Unknown(format!("whose {path:?} is, is not known: {why}"));
            }
            None => return Owner::Unknown(format!("whose {path:?} is, is not known")),
        }
    }
    found
}

/// The well-formed sysctls: key as written, components, value. SYS-03 reports the others.
fn sysctls<'a>(case: &Case<'a>) -> impl Iterator<Item = (&'a str, Vec<String>, &'a str)> {
    let settings = case.config.linux.value().and_then(|linux| linux.sysctl.value());
    settings.into_iter().flatten().filter_map(|(key, value)| {
        components(key)
            .ok()
            .map(|components| (key.as_str(), components, value.as_str()))
    })
}

fn place(key: &str) -> Pointer {
    Pointer::at("/linux/sysctl").key(key)
}

fn namespaced(case: &Case<'_>, violations: &mut Violations) {
    for (key, components, _) in sysctls(case) {
        let name = components.join(".");
        match scope(&components) {
            Scope::Namespace(kind) => match owner(case, kind) {
                Owner::Container => {}
                Owner::Host(why) => {
                    violations
                        .report(
                            place(key),
                            format!("{name:?} would be set for the host: {why}"),
                            format!("a private {kind} namespace, or no such sysctl"),
                        )
                        .sub_key(name);
                }
                Owner::Unknown(why) => {
                    violations
                        .undecided(place(key), format!("{name:?}: {why}"))
                        .sub_key(name);
                }
            },
            Scope::Hostname => {
                violations
                    .report(
                        place(key),
                        format!("{name:?} sets what the property hostname is for"),
                        "the property hostname",
                    )
                    .sub_key(name);
            }
            Scope::Kernel => {
                violations
                    .report(
                        place(key),
                        format!("{name:?} is not namespaced: it would be set for the whole host"),
                        "net.*, kernel.msg*, kernel.sem, kernel.shm*, fs.mqueue.*, kernel.domainname or user.*, \
                         in a namespace of the container's own",
                    )
                    .sub_key(name);
            }
        }
    }
}

fn safe(case: &Case<'_>, violations: &mut Violations) {
    for (key, components, value) in sysctls(case) {
        let name = components.join(".");
        // What SYS-01 refuses in any namespace is not said twice.
        if matches!(scope(&components), Scope::Namespace(_)) && !SAFE.contains(&name.as_str()) {
            violations
                .report(
                    place(key),
                    format!("{name:?} is set to {value:?} and is not on the safe list"),
                    "the safe sysctls of the Pod Security Standards, or one that the policy permits",
                )
                .sub_key(name);
        }
    }
}

fn plain(case: &Case<'_>, violations: &mut Violations) {
    let Some(settings) = case.config.linux.value().and_then(|linux| linux.sysctl.value()) else {
        return;
    };
    let mut seen: BTreeMap<Vec<String>, &str> = BTreeMap::new();
    for (key, value) in settings {
        match components(key) {
            Err(what) => {
                violations.report(
                    place(key),
                    format!("the key {key:?} {what}"),
                    "a name such as \"net.ipv4.ip_forward\" or \"net/ipv4/ip_forward\"",
                );
            }
            Ok(components) => {
                if let Some(first) = seen.insert(components, key) {
                    violations.report(
                        place(key),
                        format!("{key:?} and {first:?} are the same parameter"),
                        "each parameter once",
                    );
                }
            }
        }
        let what = if value.is_empty() {
            // A write of no bytes changes nothing, and nobody would notice.
            "is empty"
        } else if value.contains('+') {
            "has a \"+\""
        } else if value.chars().any(|c| c.is_control() && c != '\t') {
            "has a control character"
        } else {
            continue;
        };
        violations.report(
            place(key),
            format!("the value {value:?} {what}"),
            "a plain value, such as \"1\"",
        );
    }
}

/// The components of the path below /proc/sys that a key means, as sysctl(8) reads it: the first separator
/// is the one that separates, and the other one then stands for a dot inside a component.
///
/// # Errors
/// What is wrong with a malformed key, as the end of a sentence.
fn components(key: &str) -> Result<Vec<String>, &'static str> {
    if key.is_empty() {
        return Err("is empty");
    }
    if key.contains("..") || key.contains("//") {
        return Err("has an empty or relative component");
    }
    if key.contains('+') {
        return Err("has a \"+\"");
    }
    if !key.chars().all(|c| c.is_ascii_graphic()) {
        return Err("has more than printable ASCII characters");
    }
    let separator = key.chars().find(|&c| c == '/' || c == '.').unwrap_or('.');
    let components: Vec<String> = key
        .split(separator)
        .map(|component| component.replace('/', "."))
        .collect();
    if components
        .iter()
        .any(|component| component.is_empty() || component == ".")
    {
        return Err("has an empty or relative component");
    }
    // Only the name of a network interface may itself have a dot: net/ipv4/conf/eth0.100/forwarding.
    let interface = match &components[..] {
        [net, _, table, _, ..] if net == "net" && (table == "conf" || table == "neigh") => Some(3),
        _ => None,
    };
    if components
        .iter()
        .enumerate()
        .any(|(index, component)| component.contains('.') && Some(index) != interface)
    {
        return Err("mixes \".\" and \"/\"");
    }
    Ok(components)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::table::{Table, known, set, with};
    use super::*;
    use crate::facts::{HostMatch, Identity};
    use crate::profile::Profile;

    const ID: Identity = Identity { device: 4, inode: 77 };

    /// A bundle with one sysctl and these namespaces.
    fn bundle(key: &str, namespaces: Value) -> Value {
        let mut document = with("/linux/namespaces", namespaces);
        document["linux"]["sysctl"] = json!({key: "1"});
        document
    }

    #[test]
    fn a_sysctl_needs_the_namespace_it_answers_for() {
        let table = Table::of(Profile::Privileged);
        for (key, kind) in [
            ("net.ipv4.ip_forward", "network"),
            ("net/ipv4/conf/eth0.100/forwarding", "network"),
            ("net.ipv4.conf.eth0/100.forwarding", "network"),
            ("kernel.shmmax", "ipc"),
            ("kernel/sem", "ipc"),
            ("fs.mqueue.msg_max", "ipc"),
            ("kernel.domainname", "uts"),
            ("user.max_user_namespaces", "user"),
        ] {
            assert!(
                table
                    .findings("SYS-01", &bundle(key, json!([{"type": kind}])))
                    .is_empty(),
                "{key}"
            );
            assert!(
                table
                    .findings("SYS-01", &bundle(key, json!([{"type": kind, "path": ""}])))
                    .is_empty()
            );
            for others in [json!([{"type": "mount"}]), json!([]), Value::Null] {
                let findings = table.findings("SYS-01", &bundle(key, others));
                assert_eq!(findings.len(), 1, "{key}");
                assert_eq!(findings[0].action, crate::Action::Deny);
                let said = format!("the container has no {kind} namespace of its own");
                assert!(findings[0].found.contains(&said), "{}", findings[0].found);
            }
        }
    }

    #[test]
    fn what_is_not_namespaced_is_denied_in_every_profile_and_spelling() {
        let all = json!([{"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "user"}]);
        for profile in Profile::ALL {
            for key in [
                "kernel.core_pattern",
                "kernel/core_pattern",
                "vm.overcommit_memory",
                "fs.protected_symlinks",
                "fs.mqueue",
                "kernel.shmmax.x",
                "kernel.shm_next_id",
                "net",
                "network.ipv4.ip_forward",
                "net/netfilter/nf_conntrack_max",
                "user",
                "kernel.hostname",
            ] {
                let verdicts = Table::of(profile).verdicts("SYS-01", &bundle(key, all.clone()));
                let name = key.replace('/', ".");
                let place = key.replace('/', "~1");
                assert_eq!(
                    verdicts,
                    [format!("deny SYS-01:{name} /linux/sysctl/{place}")],
                    "{profile}"
                );
            }
        }
    }

    #[test]
    fn a_namespace_behind_a_path_is_judged_by_what_it_is() {
        let joined = bundle(
            "net.ipv4.ip_forward",
            json!([{"type": "network", "path": "/run/netns/a"}]),
        );
        let table = |fact: Fact<NamespaceFact>| {
            Table::of(Profile::Baseline).knowing(|facts| facts.namespaces = vec![fact])
        };
        let own = table(known(NamespaceFact::Existing {
            identity: ID,
            host: None,
        }));
        assert!(own.findings("SYS-01", &joined).is_empty());
        let host = table(known(NamespaceFact::Existing {
            identity: ID,
            host: Some(HostMatch::Initial),
        }));
        assert_eq!(
            host.findings("SYS-01", &joined)[0].found,
            "\"net.ipv4.ip_forward\" would be set for the host: \
             the network namespace \"/run/netns/a\" is the host's"
        );
        let not_one = table(known(NamespaceFact::NotOne("a regular file".to_owned())));
        assert_eq!(
            not_one.verdicts("SYS-01", &joined),
            ["deny SYS-01:net.ipv4.ip_forward /linux/sysctl/net.ipv4.ip_forward"]
        );
        let unknown = table(Fact::Unknown("permission denied".to_owned()));
        let finding = &unknown.findings("SYS-01", &joined)[0];
        assert!(finding.undecided && finding.action == crate::Action::Deny);
        let finding = &unknown.offline().findings("SYS-01", &joined)[0];
        assert!(finding.undecided);
    }

    #[test]
    fn one_of_two_namespaces_of_a_type_being_the_hosts_is_enough_to_deny() {
        let two = bundle(
            "net.ipv4.ip_forward",
            json!([{"type": "network"}, {"type": "network", "path": "/run/netns/a"}]),
        );
        let table = Table::of(Profile::Privileged).knowing(|facts| {
            let host = NamespaceFact::Existing {
                identity: ID,
                host: Some(HostMatch::Runtime),
            };
            facts.namespaces = vec![known(NamespaceFact::New), known(host)];
        });
        assert_eq!(table.findings("SYS-01", &two).len(), 1);
    }

    #[test]
    fn no_sysctl_is_nothing_to_say() {
        for value in [Value::Null, json!({})] {
            for rule in ["SYS-01", "SYS-02", "SYS-03"] {
                let document = with("/linux/sysctl", value.clone());
                assert!(
                    Table::of(Profile::Restricted)
                        .findings(rule, &document)
                        .is_empty()
                );
            }
        }
        let nothing = with("/hostname", json!("a"));
        assert!(
            Table::of(Profile::Restricted)
                .findings("SYS-01", &nothing)
                .is_empty()
        );
    }

    #[test]
    fn the_safe_list_is_audited_in_baseline_and_binding_in_restricted() {
        let own = json!([{"type": "network"}, {"type": "ipc"}, {"type": "uts"}]);
        for key in SAFE {
            let document = bundle(key, own.clone());
            assert!(
                Table::of(Profile::Restricted)
                    .findings("SYS-02", &document)
                    .is_empty(),
                "{key}"
            );
        }
        let near_miss = bundle("net/ipv4/tcp_fin_timeouts", own.clone());
        let verdict = |action: &str| {
            vec![format!(
                "{action} SYS-02:net.ipv4.tcp_fin_timeouts /linux/sysctl/net~1ipv4~1tcp_fin_timeouts"
            )]
        };
        assert!(
            Table::of(Profile::Privileged)
                .verdicts("SYS-02", &near_miss)
                .is_empty()
        );
        assert_eq!(
            Table::of(Profile::Baseline).verdicts("SYS-02", &near_miss),
            verdict("audit")
        );
        assert_eq!(
            Table::of(Profile::Restricted).verdicts("SYS-02", &near_miss),
            verdict("deny")
        );
        let mut permitted = Table::of(Profile::Restricted);
        permitted
            .policy
            .levels
            .insert("SYS-02:net.ipv4.tcp_fin_timeouts".to_owned(), Level::Off);
        assert!(permitted.findings("SYS-02", &near_miss).is_empty());
        // SYS-01 says it; once is enough.
        let shared = bundle("kernel.core_pattern", own);
        assert!(
            Table::of(Profile::Restricted)
                .findings("SYS-02", &shared)
                .is_empty()
        );
    }

    #[test]
    fn a_malformed_key_or_value_is_denied_and_says_what_is_wrong() {
        let said = |key: &str, value: &str| {
            let mut document = with("/linux/namespaces", json!([{"type": "network"}]));
            document["linux"]["sysctl"] = json!({key: value});
            let findings = Table::of(Profile::Privileged).findings("SYS-03", &document);
            findings
                .into_iter()
                .map(|finding| finding.found)
                .collect::<Vec<_>>()
        };
        for (key, what) in [
            ("", "is empty"),
            ("net/../kernel/core_pattern", "has an empty or relative component"),
            ("net..ipv4", "has an empty or relative component"),
            ("net//ipv4", "has an empty or relative component"),
            ("/net/ipv4/ip_forward", "has an empty or relative component"),
            ("net.ipv4.", "has an empty or relative component"),
            ("net/./ipv4", "has an empty or relative component"),
            ("net.ipv4+kernel.core_pattern", "has a \"+\""),
            ("net.ipv4\n", "has more than printable ASCII characters"),
            ("net\0ipv4", "has more than printable ASCII characters"),
            ("net.ipv4/ip_forward", "mixes \".\" and \"/\""),
            ("kernel/shm.max", "mixes \".\" and \"/\""),
            ("net/ipv4/conf.all/forwarding", "mixes \".\" and \"/\""),
        ] {
            assert_eq!(said(key, "1"), [format!("the key {key:?} {what}")]);
        }
        for (value, what) in [
            ("", "is empty"),
            ("1+kernel.core_pattern=x", "has a \"+\""),
            ("1\n2", "has a control character"),
            ("\0", "has a control character"),
        ] {
            assert_eq!(
                said("net.ipv4.ip_forward", value),
                [format!("the value {value:?} {what}")]
            );
        }
        // Near misses.
        for (key, value) in [
            ("net.ipv4.ip_local_port_range", "1024\t65000"),
            ("net.ipv4.ping_group_range", "0 2147483647"),
            ("net/ipv6/neigh/eth0.100/retrans_time_ms", "1"),
        ] {
            assert!(said(key, value).is_empty(), "{key}");
        }
    }

    #[test]
    fn one_parameter_in_two_spellings_is_denied() {
        let mut document = with(
            "/linux/sysctl",
            json!({"net.ipv4.ip_forward": "0", "net/ipv4/ip_forward": "1"}),
        );
        set(&mut document, "/linux/namespaces", json!([{"type": "network"}]));
        let findings = Table::of(Profile::Baseline).findings("SYS-03", &document);
        assert_eq!(
            findings[0].found,
            "\"net/ipv4/ip_forward\" and \"net.ipv4.ip_forward\" are the same parameter"
        );
    }
}
