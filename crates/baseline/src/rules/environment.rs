//! The environment of the workload, and the secrets in it (environ(7)).
//!
//! Findings name variables and never repeat their values: what looks like a secret may be one, and findings
//! are written to logs.

use std::collections::BTreeMap;

use crate::facts::FactKind;
use crate::pointer::Pointer;
use crate::profile::{Level, Levels};
use crate::rule::{Case, Mappings, Remedies, Rule, Violations};
use crate::rules::mounts;

/// The rules of this topic.
pub static RULES: &[&Rule] = &[&ENV_01, &ENV_02, &ENV_03, &ENV_04];

/// Variables by which a loader, an interpreter or a library is told to run code from elsewhere.
const LOADS_CODE: [&str; 22] = [
    "BASH_ENV",
    "ENV",
    "GCONV_PATH",
    "GETCONF_DIR",
    "GIO_EXTRA_MODULES",
    "GLIBC_TUNABLES",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "LOCPATH",
    "NODE_OPTIONS",
    "NODE_PATH",
    "OPENSSL_CONF",
    "OPENSSL_ENGINES",
    "OPENSSL_MODULES",
    "PERL5DB",
    "PERL5LIB",
    "PERL5OPT",
    "PERLLIB",
    "PROMPT_COMMAND",
    "RUBYLIB",
    "RUBYOPT",
    "SHELLOPTS",
];

/// Beginnings of such variables: the dynamic loader's, Python's, and functions that bash imports.
const LOADS_CODE_PREFIXES: [&str; 3] = ["LD_", "PYTHON", "BASH_FUNC_"];

/// True if a variable of this name makes a program load code that its own file does not name.
pub(super) fn loads_code(name: &str) -> bool {
    LOADS_CODE.contains(&name) || LOADS_CODE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The name of a variable: what is before the first `=`.
pub(super) fn name(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}

static ENV_01: Rule = Rule {
    id: "ENV-01",
    title: "no secrets in the environment",
    meaning: "A variable of process.env is named like a secret (…_TOKEN, …_PASSWORD, AWS_SECRET_ACCESS_KEY), \
              or its value is a private key or a JSON web token.",
    why: "The environment is inherited by every child, printed by crash reporters, and shown by docker inspect \
          and /proc/<pid>/environ.",
    stops: &["secrets that leak with the environment"],
    fields: &["/process/env/*"],
    levels: Levels::new(Level::Off, Level::Audit, Level::Audit),
    hardening: "",
    remedies: Remedies {
        docker: "Mount the secret as a file: docker secret, or --mount type=bind,src=…,dst=/run/secrets/name,ro.",
        podman: "Use podman secret create, and --secret NAME, which is a file.",
        ctr: "Mount the secret as a file: --mount type=bind,src=…,dst=/run/secrets/name,options=rbind:ro.",
        kubernetes: "Mount the Secret as a volume instead of env.valueFrom.secretKeyRef.",
        config: "Remove the variable from process.env and mount a file.",
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "4.10",
        nsa: "tokens",
        nist_800_190: "3.1.4",
    },
    facts: &[],
    check: secrets,
};

static ENV_02: Rule = Rule {
    id: "ENV-02",
    title: "the environment loads no code",
    meaning: "process.env sets a variable that makes programs load code: LD_*, GCONV_PATH, BASH_ENV, PYTHON* \
              and their like. Refused in restricted if the configuration also has hooks.",
    why: "Such a variable of an image is the image's own business, until a hook of the host inherits it: then \
          the image's code runs as root on the host. gabion gives hooks no variable of process.env.",
    stops: &["CVE-2025-23266 (NVIDIAScape: LD_PRELOAD of an image in a hook)"],
    fields: &["/process/env/*", "/hooks"],
    levels: Levels::new(Level::Off, Level::Audit, Level::Audit),
    hardening: "",
    remedies: Remedies {
        docker: "Remove --env and the image's ENV; install libraries where the loader looks for them (ldconfig).",
        kubernetes: "Remove it from env of the container, and from the image.",
        config: "Remove the variable from process.env.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.1.2",
    },
    facts: &[],
    check: loaders,
};

static ENV_03: Rule = Rule {
    id: "ENV-03",
    title: "the environment is well-formed",
    meaning: "An entry of process.env has no `=` or no name, has a NUL, names a variable a second time, or is \
              HOME or USER with a newline.",
    why: "Readers disagree about such entries: which of two values counts, where a name ends, and how many \
          lines an /etc/passwd has that was made from them.",
    stops: &["two programs reading two environments out of one list"],
    fields: &["/process/env/*"],
    levels: Levels::new(Level::Off, Level::Audit, Level::Deny),
    hardening: "",
    remedies: Remedies {
        docker: "Correct --env NAME=VALUE, the env file, or the image's ENV.",
        kubernetes: "Correct env of the container, or the image's ENV.",
        config: "Write each entry of process.env as NAME=VALUE, each name once.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "",
        nsa: "",
        nist_800_190: "3.4.1",
    },
    facts: &[],
    check: well_formed,
};

static ENV_04: Rule = Rule {
    id: "ENV-04",
    title: "service account tokens are recorded",
    meaning: "A mount brings a Kubernetes service account token to \
              /var/run/secrets/kubernetes.io/serviceaccount.",
    why: "Who breaks into the container speaks to the API server with it. Most workloads never do.",
    stops: &["theft of service account tokens"],
    fields: &["/mounts/*/destination"],
    levels: Levels::new(Level::Off, Level::Off, Level::Audit),
    hardening: "",
    remedies: Remedies {
        docker: "Remove the mount.",
        kubernetes: "Set automountServiceAccountToken: false in the pod, unless the workload uses the API.",
        config: "Remove the mount; if it stays, give it the option ro.",
        ..Remedies::AS_DOCKER
    },
    mappings: Mappings {
        pss: "",
        cis_docker: "",
        nsa: "tokens",
        nist_800_190: "3.4.5",
    },
    facts: &[FactKind::Mounts],
    check: tokens,
};

/// The entries of `process.env` with their places.
fn entries<'a>(case: &Case<'a>) -> impl Iterator<Item = (usize, &'a str)> {
    let entries = case
        .config
        .process
        .value()
        .map_or(&[][..], |process| process.env.items());
    entries.iter().map(String::as_str).enumerate()
}

fn place(index: usize) -> Pointer {
    Pointer::at("/process/env").index(index)
}

fn secrets(case: &Case<'_>, violations: &mut Violations) {
    for (index, entry) in entries(case) {
        let Some((name, value)) = entry.split_once('=') else {
            continue;
        };
        let what = if !value.is_empty() && names_secret(name) {
            "is named like a secret"
        } else if value.contains("-----BEGIN ") && value.contains("PRIVATE KEY-----") {
            "holds a private key"
        } else if is_web_token(value) {
            "holds a JSON web token"
        } else {
            continue;
        };
        violations
            .report(
                place(index),
                format!("the variable {name:?} {what}"),
                "a file, mounted read-only",
            )
            .sub_key(name.escape_debug().to_string());
    }
}

/// True if people who name a variable like this put a secret into it. A name that ends in _FILE or _PATH
/// says where the secret is, which is how it should be.
fn names_secret(name: &str) -> bool {
    const WORDS: [&str; 8] = [
        "TOKEN",
        "PASSWORD",
        "PASSWD",
        "SECRET",
        "APIKEY",
        "API_KEY",
        "ACCESS_KEY",
        "PRIVATE_KEY",
    ];
    let name = name.to_ascii_uppercase();
    WORDS.iter().any(|word| {
        name.strip_suffix(word)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('_'))
    })
}

/// True for three parts of base64url, the first of which is a JSON object (RFC 7519: `{"` reads `eyJ`).
fn is_web_token(value: &str) -> bool {
    let parts: Vec<&str> = value.split('.').collect();
    let base64url = |part: &&str| {
        part.len() >= 8
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    parts.len() == 3 && parts[0].starts_with("eyJ") && parts.iter().all(base64url)
}

fn loaders(case: &Case<'_>, violations: &mut Violations) {
    let hooks = case
        .config
        .hooks
        .value()
        .is_some_and(|hooks| hooks.points().iter().any(|(_, hooks)| !hooks.is_empty()));
    for (index, entry) in entries(case).filter(|(_, entry)| loads_code(name(entry))) {
        let name = name(entry);
        let violation = violations
            .report(
                place(index),
                format!("the variable {name:?} makes programs load code"),
                "no such variable",
            )
            .sub_key(name.escape_debug().to_string());
        if hooks {
            violation.levels(Levels::new(Level::Off, Level::Audit, Level::Deny));
        }
    }
}

fn well_formed(case: &Case<'_>, violations: &mut Violations) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, entry) in entries(case) {
        let found = if entry.contains('\0') {
            format!("the variable {:?} has a NUL", name(entry))
        } else if let Some((name, value)) = entry.split_once('=') {
            if name.is_empty() {
                "an entry without a name".to_owned()
            } else if matches!(name, "HOME" | "USER") && value.contains('\n') {
                format!("the variable {name:?} has a newline")
            } else if let Some(first) = seen.insert(name, index) {
                format!("the variable {name:?} is there already, at {first}")
            } else {
                continue;
            }
        } else {
            // Not repeated: without a name, it may be all value.
            "an entry without \"=\"".to_owned()
        };
        violations.report(place(index), found, "NAME=VALUE, each name once");
    }
}

fn tokens(case: &Case<'_>, violations: &mut Violations) {
    for (index, mount) in case.config.mounts.items().iter().enumerate() {
        let place = mounts::place(case, index);
        // /var/run is a link to /run in most images.
        let place = place.strip_prefix("/var").unwrap_or(&place);
        if mounts::lies_at_or_in(place, "/run/secrets/kubernetes.io/serviceaccount") {
            let how = if mount.is_readonly() {
                "read-only"
            } else {
                "writable"
            };
            violations.report(
                Pointer::at("/mounts").index(index).key("destination"),
                format!(
                    "a service account token is mounted at {:?}, {how}",
                    mount.destination
                ),
                "no token, unless the workload speaks to the API server; then read-only",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::table::{Table, set, with};
    use super::*;
    use crate::profile::Profile;

    fn env(entries: Value) -> Value {
        with("/process/env", entries)
    }

    fn restricted() -> Table {
        Table::of(Profile::Restricted)
    }

    #[test]
    fn no_environment_is_nothing_to_say() {
        for nothing in [
            Value::Null,
            json!([]),
            json!(["PATH=/usr/bin", "HOSTNAME=ab", "EMPTY="]),
        ] {
            for rule in ["ENV-01", "ENV-02", "ENV-03"] {
                assert!(restricted().findings(rule, &env(nothing.clone())).is_empty());
            }
        }
    }

    #[test]
    fn secrets_are_recorded_by_name_and_never_by_value() {
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJlX29m";
        for entry in [
            "AWS_SECRET_ACCESS_KEY=hunter2",
            "GITHUB_TOKEN=hunter2",
            "token=hunter2",
            "DB_PASSWORD=hunter2",
            "X=-----BEGIN RSA PRIVATE KEY-----hunter2",
            &format!("X={token}"),
        ] {
            let document = env(json!(["A=b", entry]));
            let findings = restricted().findings("ENV-01", &document);
            assert_eq!(findings.len(), 1, "{entry}");
            assert_eq!(findings[0].action, crate::Action::Audit);
            assert_eq!(findings[0].rule, format!("ENV-01:{}", name(entry)));
            assert_eq!(findings[0].pointer, "/process/env/1");
            let all = format!("{findings:?}");
            assert!(!all.contains("hunter2") && !all.contains(token));
            assert_eq!(
                Table::of(Profile::Baseline).findings("ENV-01", &document).len(),
                1
            );
            assert!(
                Table::of(Profile::Privileged)
                    .findings("ENV-01", &document)
                    .is_empty()
            );
        }
        for near_miss in [
            "DB_PASSWORD_FILE=/run/x",
            "TOKENIZER=a",
            "MY_TOKENS=3",
            "KEY=v",
            "DB_PASSWORD=",
            "X=eyJ.a.b",
            "X=1.2.3",
            "XTOKEN=a",
        ] {
            assert!(
                restricted()
                    .findings("ENV-01", &env(json!([near_miss])))
                    .is_empty(),
                "{near_miss}"
            );
        }
    }

    #[test]
    fn variables_that_load_code_are_recorded_and_with_hooks_denied_in_restricted() {
        for variable in [
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "GCONV_PATH",
            "BASH_ENV",
            "PYTHONPATH",
            "BASH_FUNC_x%%",
        ] {
            let mut document = env(json!([format!("{variable}=/x")]));
            let audit = [format!("audit ENV-02:{variable} /process/env/0")];
            assert_eq!(Table::of(Profile::Baseline).verdicts("ENV-02", &document), audit);
            assert_eq!(restricted().verdicts("ENV-02", &document), audit);
            set(&mut document, "/hooks", json!({"poststop": []}));
            assert_eq!(restricted().verdicts("ENV-02", &document), audit);
            set(
                &mut document,
                "/hooks",
                json!({"poststop": [{"path": "/bin/true"}]}),
            );
            let deny = [format!("deny ENV-02:{variable} /process/env/0")];
            assert_eq!(restricted().verdicts("ENV-02", &document), deny);
            assert_eq!(Table::of(Profile::Baseline).verdicts("ENV-02", &document), audit);
            assert!(
                Table::of(Profile::Privileged)
                    .findings("ENV-02", &document)
                    .is_empty()
            );
        }
        for near_miss in ["LDFLAGS=-lm", "ENVIRONMENT=test", "ld_preload=/x"] {
            assert!(
                restricted()
                    .findings("ENV-02", &env(json!([near_miss])))
                    .is_empty(),
                "{near_miss}"
            );
        }
    }

    #[test]
    fn malformed_entries_are_recorded_and_in_restricted_denied() {
        for (entries, index, found) in [
            (json!(["hunter2"]), 0, "an entry without \"=\""),
            (json!([""]), 0, "an entry without \"=\""),
            (json!(["=x"]), 0, "an entry without a name"),
            (json!(["A=1", "B\u{0}=2"]), 1, "the variable \"B\\0\" has a NUL"),
            (
                json!(["A=1", "B=1", "A=1"]),
                2,
                "the variable \"A\" is there already, at 0",
            ),
            (
                json!(["HOME=/root\nroot::0"]),
                0,
                "the variable \"HOME\" has a newline",
            ),
        ] {
            let findings = restricted().findings("ENV-03", &env(entries.clone()));
            assert_eq!(findings.len(), 1);
            assert_eq!(findings[0].found, found);
            assert_eq!(findings[0].pointer, format!("/process/env/{index}"));
            assert_eq!(findings[0].action, crate::Action::Deny);
            let recorded = Table::of(Profile::Baseline).verdicts("ENV-03", &env(entries));
            assert_eq!(recorded, [format!("audit ENV-03 /process/env/{index}")]);
        }
        assert!(
            restricted()
                .findings("ENV-03", &env(json!(["A=1\n2", "a=1", "B==", "HOMES=\n"])))
                .is_empty()
        );
    }

    #[test]
    fn service_account_tokens_are_recorded_in_restricted() {
        let mount = |destination: &str, options: Value| {
            with(
                "/mounts",
                json!([{"destination": destination, "type": "bind", "source": "/s", "options": options}]),
            )
        };
        for (destination, options, how) in [
            (
                "/var/run/secrets/kubernetes.io/serviceaccount",
                json!(["rbind", "ro"]),
                "read-only",
            ),
            (
                "/run/secrets/kubernetes.io/serviceaccount/",
                json!(["rbind"]),
                "writable",
            ),
            (
                "//var/run/secrets/kubernetes.io/serviceaccount/token",
                Value::Null,
                "writable",
            ),
        ] {
            let document = mount(destination, options);
            let findings = restricted().findings("ENV-04", &document);
            assert_eq!(
                findings[0].found,
                format!("a service account token is mounted at {destination:?}, {how}")
            );
            assert_eq!(findings[0].action, crate::Action::Audit);
            assert!(
                Table::of(Profile::Baseline)
                    .findings("ENV-04", &document)
                    .is_empty()
            );
        }
        let near_miss = mount("/var/run/secrets/kubernetes.io/serviceaccounts", json!(["rbind"]));
        assert!(restricted().findings("ENV-04", &near_miss).is_empty());
        assert!(
            restricted()
                .findings("ENV-04", &with("/mounts", json!([])))
                .is_empty()
        );
    }
}
