//! `/etc/gabion/policy.toml` and its drop-ins: texts in, a policy out.
//!
//! ```toml
//! profile = "baseline"
//!
//! [rules]
//! "MNT-03" = "deny"
//! "CAP-03:NET_ADMIN" = "audit"
//!
//! [allow]
//! devices = ["/dev/fuse"]
//! engine-roots = ["/srv/volumes/*"]
//!
//! [[allow.hooks]]
//! point = "prestart"
//! path = "/usr/bin/dockerd"
//! arg0 = "libnetwork-setkey"
//!
//! [limits]
//! pids = 4096
//!
//! [ledger]
//! path = "/var/log/gabion/decisions.jsonl"
//! required = true
//! ```
//!
//! A later file replaces the single values and the rules that it names, and adds to the lists. A key that is
//! not known is an error: a misspelt restriction that is passed over in silence is no restriction.
//!
//! Who may have written the files, and reading them, is the business of the crate that may open files.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::nearest::nearest;
use crate::policy::{DefaultSeccomp, HookPermit, Policy};
use crate::profile::{Level, Profile};
use crate::rules;

/// What a site decided.
#[derive(Debug, Clone)]
pub struct Site {
    /// What judgement is to follow.
    pub policy: Policy,
    /// Where decisions are recorded.
    pub ledger: LedgerSettings,
    /// Where each decision was written: `profile`, the ids of rules, `limits.pids`, `ledger.path` and so on, each
    /// with a place such as `/etc/gabion/policy.toml, line 3 column 1`. What is not there is built in.
    pub origins: BTreeMap<String, String>,
}

/// `[ledger]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerSettings {
    /// The file that decisions are appended to.
    pub path: PathBuf,
    /// Nothing runs if a decision cannot be recorded.
    pub required: bool,
}

impl Default for LedgerSettings {
    fn default() -> Self {
        LedgerSettings {
            path: PathBuf::from("/var/log/gabion/decisions.jsonl"),
            required: true,
        }
    }
}

/// One policy file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyText {
    /// Its path, for errors.
    pub name: String,
    /// What it says.
    pub text: String,
}

/// Why a policy file is none. Nothing runs until it is mended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}, line {line} column {column}: {what}")]
pub struct PolicyError {
    /// The file's path.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong, and what would be right.
    pub what: String,
}

impl Site {
    /// The built-in policy, for a host without policy files.
    pub fn builtin(default_seccomp: DefaultSeccomp) -> Self {
        Site {
            policy: Policy::builtin(Profile::Baseline, default_seccomp),
            ledger: LedgerSettings::default(),
            origins: BTreeMap::new(),
        }
    }

    /// Reads policy files, the main one first and the drop-ins in their order.
    ///
    /// # Errors
    /// The first [`PolicyError`]: syntax, an unknown key, rule, profile, level or hook point, a value of the
    /// wrong type or out of range, a rule whose level cannot be changed.
    pub fn read(files: &[PolicyText], default_seccomp: DefaultSeccomp) -> Result<Self, PolicyError> {
        let mut site = Site::builtin(default_seccomp);
        for file in files {
            Reader {
                file,
                site: &mut site,
            }
            .file()?;
        }
        Ok(site)
    }
}

const KEYS: [&str; 5] = ["profile", "rules", "allow", "limits", "ledger"];
const HOOK_POINTS: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

/// The largest number of tasks that a Linux kernel can be configured to have (`PID_MAX_LIMIT`).
const MAX_PIDS: i64 = 4 * 1024 * 1024;

/// A key of a table, with its place.
type Key<'t> = Spanned<std::borrow::Cow<'t, str>>;
type Node<'t> = Spanned<DeValue<'t>>;
type Outcome<T = ()> = Result<T, PolicyError>;

/// Reads one file into the site.
struct Reader<'a> {
    file: &'a PolicyText,
    site: &'a mut Site,
}

impl Reader<'_> {
    fn file(&mut self) -> Outcome {
        let table = DeTable::parse(&self.file.text)
            .map_err(|error| self.error(error.span().map_or(0, |span| span.start), error.message()))?;
        for (key, value) in table.get_ref() {
            match &**key.get_ref() {
                "profile" => {
                    let name = self.string(key, value)?;
                    self.site.policy.profile = name
                        .parse::<Profile>()
                        .map_err(|error| self.at(value, error.to_string()))?;
                    self.origin("profile", key);
                }
                "rules" => self.rules(self.table(key, value)?)?,
                "allow" => self.allow(self.table(key, value)?)?,
                "limits" => self.limits(self.table(key, value)?)?,
                "ledger" => self.ledger(self.table(key, value)?)?,
                "waiver" | "waivers" => {
                    return Err(self.at(
                        key,
                        "waivers are not supported by this version of gabion; \
                         give the rule, or one value of it, a level under [rules]",
                    ));
                }
                _ => return Err(self.unknown(key, "", &KEYS)),
            }
        }
        Ok(())
    }

    fn rules(&mut self, table: &DeTable<'_>) -> Outcome {
        for (key, value) in table {
            let id = &**key.get_ref();
            let (rule_id, sub_key) = match id.split_once(':') {
                Some((rule_id, sub_key)) => (rule_id, Some(sub_key)),
                None => (id, None),
            };
            let Some(rule) = rules::all().find(|rule| rule.id == rule_id) else {
                let near = nearest(rule_id, rules::all().map(|rule| rule.id));
                return Err(self.at(key, format!("there is no rule {rule_id:?}{}", hint(near))));
            };
            if sub_key.is_some_and(str::is_empty) {
                return Err(self.at(key, format!("{id:?} names no value after the colon")));
            }
            if rule.is_immutable() {
                let what =
                    "guards the runtime itself and is denied in every profile; its level cannot be changed";
                return Err(self.at(key, format!("{} {what}", rule.id)));
            }
            let name = self.string(key, value)?;
            let level = level(name).ok_or_else(|| {
                self.at(
                    value,
                    format!("{name:?} is no level; the levels are off, audit, harden, deny"),
                )
            })?;
            if level == Level::Harden && rule.hardening.is_empty() {
                let what = "cannot be hardened, since there is no safe value to add; use deny, audit or off";
                return Err(self.at(value, format!("{} {what}", rule.id)));
            }
            self.site.policy.levels.insert(id.to_owned(), level);
            self.origin(id, key);
        }
        Ok(())
    }

    fn allow(&mut self, table: &DeTable<'_>) -> Outcome {
        for (key, value) in table {
            match &**key.get_ref() {
                "devices" => {
                    for path in self.paths(key, value)? {
                        self.origin(&format!("allow.devices {path}"), key);
                        add(&mut self.site.policy.devices, path);
                    }
                }
                "engine-roots" => {
                    for path in self.paths(key, value)? {
                        self.origin(&format!("allow.engine-roots {path}"), key);
                        add(&mut self.site.policy.engine_roots, path);
                    }
                }
                "hooks" => {
                    for entry in self.array(key, value)? {
                        let permit = self.hook(key, entry)?;
                        self.origin(&format!("allow.hooks {} {}", permit.point, permit.path), entry);
                        add(&mut self.site.policy.hooks, permit);
                    }
                }
                _ => return Err(self.unknown(key, "allow.", &["devices", "engine-roots", "hooks"])),
            }
        }
        Ok(())
    }

    fn hook(&self, key: &Key<'_>, entry: &Node<'_>) -> Outcome<HookPermit> {
        let (mut point, mut path, mut arg0) = (None, None, None);
        for (name, value) in self.table(key, entry)? {
            match &**name.get_ref() {
                "point" => {
                    let text = self.string(name, value)?;
                    if !HOOK_POINTS.contains(&text) {
                        let near = hint(nearest(text, HOOK_POINTS));
                        let what = format!("there is no hook point {text:?}{near}");
                        return Err(self.at(value, what));
                    }
                    point = Some(text.to_owned());
                }
                "path" => path = Some(self.path(name, value)?),
                "arg0" => arg0 = Some(self.string(name, value)?.to_owned()),
                _ => return Err(self.unknown(name, "allow.hooks.", &["point", "path", "arg0"])),
            }
        }
        let missing = |name: &str| self.at(entry, format!("allow.hooks needs {name}"));
        Ok(HookPermit {
            point: point.ok_or_else(|| missing("point, such as \"prestart\""))?,
            path: path.ok_or_else(|| missing("path, such as \"/usr/bin/dockerd\""))?,
            arg0,
        })
    }

    fn limits(&mut self, table: &DeTable<'_>) -> Outcome {
        for (key, value) in table {
            match &**key.get_ref() {
                "pids" => {
                    let limit = match value.get_ref() {
                        DeValue::Integer(integer) => {
                            i64::from_str_radix(integer.as_str(), integer.radix()).ok()
                        }
                        _ => None,
                    };
                    self.site.policy.pids_limit = limit
                        .filter(|limit| (1..=MAX_PIDS).contains(limit))
                        .ok_or_else(|| {
                            self.at(value, format!("pids is a number of tasks from 1 to {MAX_PIDS}"))
                        })?;
                    self.origin("limits.pids", key);
                }
                _ => return Err(self.unknown(key, "limits.", &["pids"])),
            }
        }
        Ok(())
    }

    fn ledger(&mut self, table: &DeTable<'_>) -> Outcome {
        for (key, value) in table {
            match &**key.get_ref() {
                "path" => {
                    self.site.ledger.path = PathBuf::from(self.path(key, value)?);
                    self.origin("ledger.path", key);
                }
                "required" => {
                    let DeValue::Boolean(required) = value.get_ref() else {
                        return Err(self.wrong_type(key, value, "true or false"));
                    };
                    self.site.ledger.required = *required;
                    self.origin("ledger.required", key);
                }
                _ => return Err(self.unknown(key, "ledger.", &["path", "required"])),
            }
        }
        Ok(())
    }

    fn paths(&self, key: &Key<'_>, value: &Node<'_>) -> Outcome<Vec<String>> {
        self.array(key, value)?
            .iter()
            .map(|element| self.path(key, element))
            .collect()
    }

    /// An absolute path without `.`, `..`, empty components or a trailing slash, and not `/`: a permission for
    /// "the whole host" is never what was meant, and two spellings of one path must not differ in meaning.
    fn path(&self, key: &Key<'_>, value: &Node<'_>) -> Outcome<String> {
        let text = self.string(key, value)?;
        let plain = text.strip_prefix('/').is_some_and(|rest| {
            rest.split('/').all(|part| !matches!(part, "" | "." | "..")) && !text.contains('\0')
        });
        if !plain || text.split('/').all(|part| part.is_empty() || part == "*") {
            let what = "is no absolute path below / without \".\", \"..\", \"//\" or a slash at its end";
            return Err(self.at(value, format!("{text:?} {what}")));
        }
        Ok(text.to_owned())
    }

    fn string<'v>(&self, key: &Key<'_>, value: &'v Node<'_>) -> Outcome<&'v str> {
        match value.get_ref() {
            DeValue::String(text) => Ok(text),
            _ => Err(self.wrong_type(key, value, "a string")),
        }
    }

    fn table<'v, 't>(&self, key: &Key<'_>, value: &'v Node<'t>) -> Outcome<&'v DeTable<'t>> {
        match value.get_ref() {
            DeValue::Table(table) => Ok(table),
            _ => Err(self.wrong_type(key, value, "a table")),
        }
    }

    fn array<'v, 't>(&self, key: &Key<'_>, value: &'v Node<'t>) -> Outcome<&'v [Node<'t>]> {
        match value.get_ref() {
            DeValue::Array(elements) => Ok(elements),
            _ => Err(self.wrong_type(key, value, "an array")),
        }
    }

    fn wrong_type(&self, key: &Key<'_>, value: &Node<'_>, wanted: &str) -> PolicyError {
        let found = match value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) | DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        self.at(value, format!("{:?} holds {wanted}, not {found}", key.get_ref()))
    }

    fn unknown(&self, key: &Key<'_>, parent: &str, known: &[&str]) -> PolicyError {
        let name = format!("{parent}{}", key.get_ref());
        let what = match nearest(key.get_ref(), known.iter().copied()) {
            Some(near) => format!(
                "there is no key {name:?}; did you mean {:?}?",
                format!("{parent}{near}")
            ),
            None => format!("there is no key {name:?}; known are {}", known.join(", ")),
        };
        self.at(key, what)
    }

    fn origin<T>(&mut self, setting: &str, place: &Spanned<T>) {
        let PolicyError {
            file, line, column, ..
        } = self.at(place, "");
        self.site
            .origins
            .insert(setting.to_owned(), format!("{file}, line {line} column {column}"));
    }

    fn at<T>(&self, place: &Spanned<T>, what: impl Into<String>) -> PolicyError {
        self.error(place.span().start, what)
    }

    fn error(&self, offset: usize, what: impl Into<String>) -> PolicyError {
        let text = &self.file.text;
        let before = &text[..text.floor_char_boundary(offset)];
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        PolicyError {
            file: self.file.name.clone(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            what: what.into(),
        }
    }
}

fn level(name: &str) -> Option<Level> {
    let name: StrDeserializer<'_, ValueError> = name.into_deserializer();
    Level::deserialize(name).ok()
}

fn hint(near: Option<&str>) -> String {
    near.map(|near| format!("; did you mean {near:?}?"))
        .unwrap_or_default()
}

fn add<T: PartialEq>(list: &mut Vec<T>, element: T) {
    if !list.contains(&element) {
        list.push(element);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::policy::ENGINE_ROOTS;

    fn read(texts: &[&str]) -> Result<Site, PolicyError> {
        let file = |(i, text): (usize, &&str)| PolicyText {
            name: format!("{i}.toml"),
            text: (*text).to_owned(),
        };
        Site::read(&texts.iter().enumerate().map(file).collect::<Vec<_>>(), |_| {
            Value::Null
        })
    }

    fn error(text: &str) -> String {
        read(&[text]).unwrap_err().to_string()
    }

    /// A rule whose level a site may change and that can be hardened.
    const RULE: &str = "CAP-01";

    #[test]
    fn no_file_and_an_empty_file_are_the_built_in_baseline() {
        for site in [read(&[]).unwrap(), read(&["# nothing\n"]).unwrap()] {
            assert_eq!(site.policy.profile, Profile::Baseline);
            assert!(
                site.policy.levels.is_empty()
                    && site.policy.devices.is_empty()
                    && site.policy.hooks.is_empty()
            );
            assert_eq!(site.policy.engine_roots, ENGINE_ROOTS);
            assert_eq!(site.policy.pids_limit, 4096);
            assert_eq!(site.ledger, LedgerSettings::default());
            assert_eq!(site.ledger.path, PathBuf::from("/var/log/gabion/decisions.jsonl"));
            assert!(site.ledger.required && site.origins.is_empty());
        }
    }

    #[test]
    fn every_key_is_understood() {
        let site = read(&[r#"
profile = "restricted"
[rules]
"CAP-01" = "deny"
"CAP-01:X" = "audit"
[allow]
devices = ["/dev/fuse", "/dev/fuse"]
engine-roots = ["/srv/volumes/*"]
[[allow.hooks]]
point = "prestart"
path = "/usr/bin/dockerd"
arg0 = "libnetwork-setkey"
[[allow.hooks]]
point = "poststop"
path = "/usr/libexec/clean"
[limits]
pids = 1_000
[ledger]
path = "/var/log/g.jsonl"
required = false
"#])
        .unwrap();
        assert_eq!(site.policy.profile, Profile::Restricted);
        let levels = [
            ("CAP-01".to_owned(), Level::Deny),
            ("CAP-01:X".to_owned(), Level::Audit),
        ];
        assert_eq!(site.policy.levels, BTreeMap::from(levels));
        assert_eq!(site.policy.devices, ["/dev/fuse"]);
        assert_eq!(site.policy.engine_roots.last().unwrap(), "/srv/volumes/*");
        assert_eq!(site.policy.engine_roots.len(), ENGINE_ROOTS.len() + 1);
        assert_eq!(
            site.policy.hooks,
            [
                HookPermit {
                    point: "prestart".to_owned(),
                    path: "/usr/bin/dockerd".to_owned(),
                    arg0: Some("libnetwork-setkey".to_owned()),
                },
                HookPermit {
                    point: "poststop".to_owned(),
                    path: "/usr/libexec/clean".to_owned(),
                    arg0: None
                },
            ]
        );
        assert_eq!(site.policy.pids_limit, 1000);
        assert_eq!(
            site.ledger,
            LedgerSettings {
                path: PathBuf::from("/var/log/g.jsonl"),
                required: false
            }
        );
        assert_eq!(site.origins["profile"], "0.toml, line 2 column 1");
        assert_eq!(site.origins["CAP-01:X"], "0.toml, line 5 column 1");
        assert_eq!(site.origins["ledger.required"], "0.toml, line 20 column 1");
    }

    #[test]
    fn a_drop_in_replaces_values_and_adds_to_lists() {
        let site = read(&[
            "profile = \"privileged\"\nlimits.pids = 1\nrules.CAP-01 = \"audit\"\nallow.devices = [\"/dev/kvm\"]",
            "profile = \"restricted\"\nrules.CAP-01 = \"deny\"\nallow.devices = [\"/dev/fuse\"]",
        ])
        .unwrap();
        assert_eq!(site.policy.profile, Profile::Restricted);
        assert_eq!(site.policy.levels[RULE], Level::Deny);
        assert_eq!(site.policy.devices, ["/dev/kvm", "/dev/fuse"]);
        assert_eq!(site.policy.pids_limit, 1);
        assert_eq!(site.origins["profile"], "1.toml, line 1 column 1");
        assert_eq!(site.origins["limits.pids"], "0.toml, line 2 column 8");
    }

    #[test]
    fn an_unknown_key_is_an_error_with_its_place_and_the_nearest_known_one() {
        let cases = [
            (
                "profil = \"x\"",
                "0.toml, line 1 column 1: there is no key \"profil\"; did you mean \"profile\"?",
            ),
            (
                "# ü\n  zebra = 1",
                "0.toml, line 2 column 3: there is no key \"zebra\"; known are profile, rules, allow, limits, ledger",
            ),
            (
                "[allow]\ndevice = []",
                "0.toml, line 2 column 1: there is no key \"allow.device\"; did you mean \"allow.devices\"?",
            ),
            (
                "[[allow.hooks]]\npoint = \"prestart\"\npaths = \"/x\"",
                "0.toml, line 3 column 1: there is no key \"allow.hooks.paths\"; did you mean \"allow.hooks.path\"?",
            ),
            (
                "limits.pid = 1",
                "0.toml, line 1 column 8: there is no key \"limits.pid\"; did you mean \"limits.pids\"?",
            ),
            (
                "ledger.require = true",
                "0.toml, line 1 column 8: there is no key \"ledger.require\"; did you mean \"ledger.required\"?",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(error(text), expected);
        }
    }

    #[test]
    fn an_unknown_rule_level_or_profile_is_an_error_that_names_the_known_ones() {
        assert_eq!(
            error("[rules]\n\"CAP-1\" = \"deny\""),
            "0.toml, line 2 column 1: there is no rule \"CAP-1\"; did you mean \"CAP-01\"?"
        );
        assert_eq!(
            error("rules.ZEBRA = \"deny\""),
            "0.toml, line 1 column 7: there is no rule \"ZEBRA\""
        );
        assert_eq!(
            error("rules.cap-01 = \"deny\""),
            "0.toml, line 1 column 7: there is no rule \"cap-01\"; did you mean \"CAP-01\"?"
        );
        assert_eq!(
            error("rules.\"CAP-01:\" = \"deny\""),
            "0.toml, line 1 column 7: \"CAP-01:\" names no value after the colon"
        );
        assert_eq!(
            error("rules.CAP-01 = \"forbid\""),
            "0.toml, line 1 column 16: \"forbid\" is no level; the levels are off, audit, harden, deny"
        );
        assert_eq!(
            error("profile = \"Baseline\""),
            "0.toml, line 1 column 11: there is no profile \"Baseline\"; \
             the profiles are privileged, baseline, restricted"
        );
        assert_eq!(
            error("[[allow.hooks]]\npoint = \"prestrat\"\npath = \"/x\""),
            "0.toml, line 2 column 9: there is no hook point \"prestrat\"; did you mean \"prestart\"?"
        );
    }

    #[test]
    fn a_rule_that_guards_the_runtime_keeps_its_level_and_one_without_a_safe_value_is_not_hardened() {
        for rule in rules::all() {
            for level in ["off", "audit", "harden", "deny"] {
                let answer = read(&[&format!("rules.{} = {level:?}", rule.id)]);
                let what = match (rule.is_immutable(), level, rule.hardening) {
                    (true, _, _) => Some(format!(
                        "{} guards the runtime itself and is denied in every profile; its level cannot be changed",
                        rule.id
                    )),
                    (false, "harden", "") => Some(format!(
                        "{} cannot be hardened, since there is no safe value to add; use deny, audit or off",
                        rule.id
                    )),
                    _ => None,
                };
                assert_eq!(answer.err().map(|error| error.what), what);
            }
        }
    }

    #[test]
    fn a_value_keeps_its_own_level_where_its_rule_is_off() {
        let document = serde_json::json!({
            "ociVersion": "1.3.0",
            "process": {"cwd": "/", "capabilities": {"bounding": ["CAP_SYS_ADMIN", "CAP_SYS_BOOT"]}},
        });
        let allegation = crate::Allegation::from_document(document).unwrap();
        let found = |text: &str| {
            let policy = read(&[text]).unwrap().policy;
            let operation = crate::Operation::Check { offline: true };
            let judgement = crate::judge(&allegation, &crate::Facts::default(), &policy, &operation).unwrap();
            let rules = judgement.findings().iter().map(|finding| finding.rule.clone());
            rules
                .filter(|rule| rule.starts_with("CAP-03"))
                .collect::<Vec<_>>()
        };
        assert_eq!(found(""), ["CAP-03:SYS_ADMIN", "CAP-03:SYS_BOOT"]);
        assert!(found("rules.CAP-03 = \"off\"").is_empty());
        assert_eq!(
            found("rules.CAP-03 = \"off\"\nrules.\"CAP-03:SYS_ADMIN\" = \"deny\""),
            ["CAP-03:SYS_ADMIN"]
        );
    }

    #[test]
    fn waivers_are_refused_in_words() {
        for text in ["[[waiver]]\nrule = \"CAP-03\"", "waiver = 1", "[waivers]"] {
            assert!(
                error(text).contains("waivers are not supported by this version of gabion"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_value_of_the_wrong_type_or_out_of_range_is_an_error() {
        let cases = [
            (
                "profile = 1",
                "line 1 column 11: \"profile\" holds a string, not a number",
            ),
            (
                "rules = []",
                "line 1 column 9: \"rules\" holds a table, not an array",
            ),
            (
                "rules.CAP-01 = true",
                "line 1 column 16: \"CAP-01\" holds a string, not true or false",
            ),
            (
                "allow.devices = \"/dev/fuse\"",
                "line 1 column 17: \"devices\" holds an array, not a string",
            ),
            (
                "allow.devices = [1]",
                "line 1 column 18: \"devices\" holds a string, not a number",
            ),
            (
                "allow.hooks = [1]",
                "line 1 column 16: \"hooks\" holds a table, not a number",
            ),
            (
                "allow.hooks = [{point = \"prestart\"}]",
                "line 1 column 16: allow.hooks needs path, such as",
            ),
            (
                "allow.hooks = [{path = \"/x\"}]",
                "line 1 column 16: allow.hooks needs point, such as",
            ),
            (
                "limits.pids = 0",
                "line 1 column 15: pids is a number of tasks from 1 to 4194304",
            ),
            ("limits.pids = -1", "line 1 column 15: pids is a number of tasks"),
            (
                "limits.pids = 4194305",
                "line 1 column 15: pids is a number of tasks",
            ),
            ("limits.pids = 99999999999999999999", "line 1 column 15: "),
            (
                "limits.pids = \"many\"",
                "line 1 column 15: pids is a number of tasks",
            ),
            (
                "ledger.required = \"no\"",
                "line 1 column 19: \"required\" holds true or false, not a string",
            ),
            (
                "ledger = 2026-01-01",
                "line 1 column 10: \"ledger\" holds a table, not a date",
            ),
        ];
        for (text, expected) in cases {
            let error = error(text);
            assert!(
                error.starts_with(&format!("0.toml, {expected}")),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn a_path_has_one_spelling_and_never_means_the_whole_host() {
        for path in [
            "",
            "dev/fuse",
            "/",
            "//",
            "/*",
            "/*/*",
            "/dev/../etc",
            "/dev/./x",
            "/dev//x",
            "/dev/",
            "/a\\u0000",
        ] {
            let error = error(&format!("allow.engine-roots = [\"{path}\"]"));
            assert!(error.contains("is no absolute path below /"), "{path}: {error}");
        }
        assert!(read(&["allow.engine-roots = [\"/srv/*/volumes\"]"]).is_ok());
    }

    #[test]
    fn broken_toml_is_an_error_with_its_place() {
        let error = read(&["profile = \"baseline\"", "profile = \"baseline\"\n[rules\n"]).unwrap_err();
        assert_eq!((error.file.as_str(), error.line), ("1.toml", 2));
        let error = read(&["profile = \"baseline\"\nprofile = \"privileged\"\n"]).unwrap_err();
        assert_eq!(error.line, 2);
    }
}
