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
//! [[waiver]]
//! rule = "CAP-03:NET_ADMIN"
//! owner = "net team"
//! reason = "the router sets routes in its own namespace"
//! expires = 2027-01-31
//! match = { engine = "containerd-cri", namespace = "kube-system" }
//!
//! [[rule]]
//! id = "SITE-01"
//! expression = "spec.process.args[0] != \"/bin/sh\""
//! message = "a shell is started"
//! remedy = "start the program itself"
//! level = { baseline = "audit", restricted = "deny" }
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

use crate::facts::Engine;
use crate::nearest::nearest;
use crate::policy::{DefaultSeccomp, HookPermit, Policy};
use crate::profile::{Level, Levels, Profile};
use crate::rule::Rule;
use crate::rules;
use crate::rules::sub_keys::{self, SubKeys};
use crate::site_rule::{Expression, SiteRule};
use crate::waiver::{Day, Scope, Waiver};

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
    /// Waivers for rules of the site's own: the place, and the id that has to be there once all files are read.
    waived_site_rules: Vec<(usize, usize, String)>,
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
            waived_site_rules: Vec::new(),
        }
    }

    /// Reads policy files, the main one first and the drop-ins in their order.
    ///
    /// # Errors
    /// The first [`PolicyError`]: syntax, an unknown key, rule, profile, level or hook point, a value of the
    /// wrong type or out of range, a rule whose level cannot be changed.
    pub fn read(files: &[PolicyText], default_seccomp: DefaultSeccomp) -> Result<Self, PolicyError> {
        let mut site = Site::builtin(default_seccomp);
        for (number, file) in files.iter().enumerate() {
            Reader {
                file,
                number,
                site: &mut site,
            }
            .file()?;
        }
        // A rule may be in a later file than its waiver.
        for (file, offset, rule) in std::mem::take(&mut site.waived_site_rules) {
            if !site.policy.site_rules.iter().any(|known| known.id == rule) {
                let near = nearest(
                    &rule,
                    site.policy.site_rules.iter().map(|known| known.id.as_str()),
                );
                let what = format!("there is no rule {rule:?}{}", hint(near));
                if let Some(file) = files.get(file) {
                    return Err(Reader {
                        file,
                        number: 0,
                        site: &mut site.clone(),
                    }
                    .error(offset, what));
                }
            }
        }
        Ok(site)
    }
}

const KEYS: [&str; 7] = ["profile", "rules", "allow", "limits", "ledger", "waiver", "rule"];
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
    number: usize,
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
                "waiver" => {
                    for entry in self.array(key, value)? {
                        let waiver = self.waiver(key, entry)?;
                        self.site.policy.waivers.push(waiver);
                    }
                }
                "rule" => {
                    for entry in self.array(key, value)? {
                        let rule = self.site_rule(key, entry)?;
                        if self
                            .site
                            .policy
                            .site_rules
                            .iter()
                            .any(|known| known.id == rule.id)
                        {
                            return Err(self.at(entry, format!("there are two rules {:?}", rule.id)));
                        }
                        self.site.policy.site_rules.push(rule);
                    }
                }
                _ => return Err(self.unknown(key, "", &KEYS)),
            }
        }
        Ok(())
    }

    fn rules(&mut self, table: &DeTable<'_>) -> Outcome {
        for (key, value) in table {
            let id = &**key.get_ref();
            let rule = self.rule_of(key, id)?;
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

    /// The rule that an id is of, with its value if there is one.
    fn rule_of<T>(&self, place: &Spanned<T>, id: &str) -> Outcome<&'static Rule> {
        let (rule_id, sub_key) = match id.split_once(':') {
            Some((rule_id, sub_key)) => (rule_id, Some(sub_key)),
            None => (id, None),
        };
        let Some(rule) = rules::all().find(|rule| rule.id == rule_id) else {
            let near = nearest(rule_id, rules::all().map(|rule| rule.id));
            return Err(self.at(place, format!("there is no rule {rule_id:?}{}", hint(near))));
        };
        match sub_key {
            Some("") => Err(self.at(place, format!("{id:?} names no value after the colon"))),
            Some(sub_key) => match sub_keys::check(rule.id, sub_key) {
                Ok(()) => Ok(rule),
                Err(why) => Err(self.at(place, why)),
            },
            None => Ok(rule),
        }
    }

    fn waiver(&mut self, key: &Key<'_>, entry: &Node<'_>) -> Outcome<Waiver> {
        let mut own_rule = None;
        let (mut rule, mut owner, mut reason, mut expires, mut scope) = (None, None, None, None, None);
        for (name, value) in self.table(key, entry)? {
            match &**name.get_ref() {
                "rule" => {
                    let id = self.string(name, value)?;
                    if id.starts_with("SITE-") {
                        own_rule = Some((value.span().start, id.to_owned()));
                        rule = Some(id.to_owned());
                        continue;
                    }
                    let found = self.rule_of(value, id)?;
                    if found.is_immutable() {
                        let what =
                            "guards the runtime itself and is denied in every profile; it cannot be waived";
                        return Err(self.at(value, format!("{} {what}", found.id)));
                    }
                    if !id.contains(':')
                        && matches!(sub_keys::of(found.id), SubKeys::Capability | SubKeys::Path(_))
                    {
                        let what =
                            "has a value for each of what it is about; a waiver names one of them, as in";
                        let example = match sub_keys::of(found.id) {
                            SubKeys::Capability => "NET_ADMIN",
                            _ => "/dev/fuse",
                        };
                        return Err(self.at(value, format!("{} {what} \"{}:{example}\"", found.id, found.id)));
                    }
                    rule = Some(id.to_owned());
                }
                "owner" => owner = Some(self.text(name, value)?),
                "reason" => reason = Some(self.text(name, value)?),
                "expires" => expires = Some(self.day(value)?),
                "match" => scope = Some(self.scope(name, value)?),
                _ => {
                    return Err(self.unknown(
                        name,
                        "waiver.",
                        &["rule", "owner", "reason", "expires", "match"],
                    ));
                }
            }
        }
        if let Some((offset, id)) = own_rule {
            let file = self.number;
            self.site.waived_site_rules.push((file, offset, id));
        }
        let missing = |name: &str| self.at(entry, format!("a waiver needs {name}"));
        let PolicyError {
            file, line, column, ..
        } = self.at(entry, "");
        Ok(Waiver {
            rule: rule.ok_or_else(|| missing("rule, such as \"CAP-03:NET_ADMIN\""))?,
            owner: owner.ok_or_else(|| missing("owner: who answers for it"))?,
            reason: reason.ok_or_else(|| missing("reason: why it has to be"))?,
            expires: expires.ok_or_else(|| missing("expires, a date such as 2027-01-31"))?,
            scope: scope
                .ok_or_else(|| missing("match, such as { engine = \"docker\" }: the containers it is for"))?,
            origin: format!("{file}, line {line} column {column}"),
        })
    }

    fn site_rule(&self, key: &Key<'_>, entry: &Node<'_>) -> Outcome<SiteRule> {
        let (mut id, mut expression, mut message, mut remedy, mut field) =
            (None, None, None, None, String::new());
        let mut levels = None;
        for (name, value) in self.table(key, entry)? {
            match &**name.get_ref() {
                "id" => {
                    let text = self.string(name, value)?;
                    let plain = text.strip_prefix("SITE-").is_some_and(|rest| {
                        (1..=40).contains(&rest.len())
                            && rest.bytes().all(|byte| {
                                byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-'
                            })
                    });
                    if !plain {
                        let what = "is no id of a site's rule: SITE- and capital letters, digits or dashes, as SITE-01";
                        return Err(self.at(value, format!("{text:?} {what}")));
                    }
                    id = Some(text.to_owned());
                }
                "expression" => {
                    let text = self.string(name, value)?;
                    expression = Some(Expression::compile(text).map_err(|why| self.at(value, why))?);
                }
                "message" => message = Some(self.text(name, value)?),
                "remedy" => remedy = Some(self.text(name, value)?),
                "field" => {
                    let text = self.string(name, value)?;
                    if !text.starts_with('/') {
                        return Err(self.at(
                            value,
                            format!("{text:?} is no JSON pointer, such as /process/user/uid"),
                        ));
                    }
                    field = text.to_owned();
                }
                "level" => levels = Some(self.site_levels(name, value)?),
                _ => {
                    let known = ["id", "expression", "message", "remedy", "field", "level"];
                    return Err(self.unknown(name, "rule.", &known));
                }
            }
        }
        let missing = |name: &str| self.at(entry, format!("a rule needs {name}"));
        let PolicyError {
            file, line, column, ..
        } = self.at(entry, "");
        Ok(SiteRule {
            id: id.ok_or_else(|| missing("id, such as \"SITE-01\""))?,
            expression: expression.ok_or_else(|| missing("expression: what has to be so"))?,
            message: message.ok_or_else(|| missing("message: what is told when it is not so"))?,
            remedy: remedy.ok_or_else(|| missing("remedy: what to do then"))?,
            field,
            levels: levels.ok_or_else(|| missing("level, such as \"deny\""))?,
            origin: format!("{file}, line {line} column {column}"),
        })
    }

    /// One level for all profiles, or a table with one for each.
    fn site_levels(&self, key: &Key<'_>, value: &Node<'_>) -> Outcome<Levels> {
        let one = |value: &Node<'_>, name: &str| match level(name) {
            Some(Level::Harden) | None => Err(self.at(
                value,
                format!("{name:?} is no level of a site's rule; the levels are off, audit, deny"),
            )),
            Some(level) => Ok(level),
        };
        if let DeValue::String(name) = value.get_ref() {
            let level = one(value, name)?;
            return Ok(Levels::new(level, level, level));
        }
        let mut levels = Levels::new(Level::Off, Level::Off, Level::Off);
        for (name, value) in self.table(key, value)? {
            let level = one(value, self.string(name, value)?)?;
            match &**name.get_ref() {
                "privileged" => levels.privileged = level,
                "baseline" => levels.baseline = level,
                "restricted" => levels.restricted = level,
                _ => {
                    return Err(self.unknown(name, "rule.level.", &["privileged", "baseline", "restricted"]));
                }
            }
        }
        Ok(levels)
    }

    fn scope(&self, key: &Key<'_>, value: &Node<'_>) -> Outcome<Scope> {
        let mut scope = Scope::default();
        for (name, value) in self.table(key, value)? {
            match &**name.get_ref() {
                "engine" => {
                    let text = self.string(name, value)?;
                    let engine = Engine::ALL.into_iter().find(|engine| engine.name() == text);
                    scope.engine = Some(engine.ok_or_else(|| {
                        let known = Engine::ALL.map(Engine::name);
                        let near = hint(nearest(text, known));
                        self.at(
                            value,
                            format!("{text:?} is no engine{near}; known are {}", known.join(", ")),
                        )
                    })?);
                }
                "namespace" => scope.namespace = Some(self.text(name, value)?),
                "image" => {
                    let text = self.string(name, value)?;
                    let digest = text.strip_prefix("sha256:").is_some_and(|hex| {
                        hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
                    });
                    if !digest {
                        return Err(self.at(
                            value,
                            format!("{text:?} is no digest; write sha256: and 64 digits of it"),
                        ));
                    }
                    scope.image = Some(text.to_owned());
                }
                "bundle" => scope.bundle = Some(self.path(name, value)?),
                "annotation" | "annotations" => {
                    let what = "a waiver matches nothing that a workload can write, and so no annotation";
                    return Err(self.at(name, what));
                }
                _ => {
                    return Err(self.unknown(
                        name,
                        "waiver.match.",
                        &["engine", "namespace", "image", "bundle"],
                    ));
                }
            }
        }
        if scope == Scope::default() {
            let what = "match is empty; a waiver is for some containers. What holds for all is a level under [rules]";
            return Err(self.at(value, what));
        }
        Ok(scope)
    }

    /// A string that says something.
    fn text(&self, key: &Key<'_>, value: &Node<'_>) -> Outcome<String> {
        let text = self.string(key, value)?;
        if text.trim().is_empty() {
            return Err(self.at(value, format!("{:?} is empty", key.get_ref())));
        }
        Ok(text.to_owned())
    }

    fn day(&self, value: &Node<'_>) -> Outcome<Day> {
        let day = match value.get_ref() {
            DeValue::Datetime(datetime) => datetime
                .date
                .filter(|_| datetime.time.is_none())
                .and_then(|date| Day::new(date.year, date.month, date.day)),
            DeValue::String(text) => Day::parse(text),
            _ => None,
        };
        day.ok_or_else(|| self.at(value, "expires is a day, such as 2027-01-31"))
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
        let (mut point, mut path, mut arg0, mut mounts) = (None, None, None, Vec::new());
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
                "mounts" => mounts = self.paths(name, value)?,
                _ => return Err(self.unknown(name, "allow.hooks.", &["point", "path", "arg0", "mounts"])),
            }
        }
        let missing = |name: &str| self.at(entry, format!("allow.hooks needs {name}"));
        Ok(HookPermit {
            point: point.ok_or_else(|| missing("point, such as \"prestart\""))?,
            path: path.ok_or_else(|| missing("path, such as \"/usr/bin/dockerd\""))?,
            arg0,
            mounts,
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
"CAP-03:BPF" = "audit"
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
mounts = ["/proc/driver/nvidia/params", "/opt/*"]
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
            ("CAP-03:BPF".to_owned(), Level::Audit),
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
                    mounts: Vec::new(),
                },
                HookPermit {
                    point: "poststop".to_owned(),
                    path: "/usr/libexec/clean".to_owned(),
                    arg0: None,
                    mounts: vec!["/proc/driver/nvidia/params".to_owned(), "/opt/*".to_owned()],
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
        assert_eq!(site.origins["CAP-03:BPF"], "0.toml, line 5 column 1");
        assert_eq!(site.origins["ledger.required"], "0.toml, line 21 column 1");
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
                "0.toml, line 2 column 3: there is no key \"zebra\"; known are profile, rules, allow, limits, ledger, waiver, rule",
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

    const WAIVER: &str = "[[waiver]]\nrule = \"CAP-03:NET_ADMIN\"\nowner = \"net\"\nreason = \"routes\"\nexpires = 2027-01-31\n";

    #[test]
    fn a_waiver_has_a_rule_an_owner_a_reason_an_end_and_a_scope() {
        let site = read(&[&format!(
            "{WAIVER}match = {{ engine = \"containerd-cri\", namespace = \"a\" }}"
        )])
        .unwrap();
        let [waiver] = &site.policy.waivers[..] else {
            panic!()
        };
        assert_eq!(
            (
                waiver.rule.as_str(),
                waiver.expires.to_string(),
                waiver.origin.as_str()
            ),
            (
                "CAP-03:NET_ADMIN",
                "2027-01-31".to_owned(),
                "0.toml, line 1 column 1"
            )
        );
        assert_eq!(waiver.scope.to_string(), "engine containerd-cri, namespace a");
        assert!(site.policy.levels.is_empty() && site.policy.today.is_none());
    }

    #[test]
    fn a_waiver_that_is_too_wide_or_incomplete_or_misspelt_is_none() {
        let of = |lines: &str| error(&format!("[[waiver]]\n{lines}"));
        for (lines, expected) in [
            (
                "rule = \"CAP-03:NET_ADMN\"",
                "line 2 column 8: CAP-03 has no capability \"NET_ADMN\"; did you mean \"CAP-03:NET_ADMIN\"?",
            ),
            (
                "rule = \"CAP-03\"",
                "line 2 column 8: CAP-03 has a value for each of what it is about; a waiver names one of them, as in \"CAP-03:NET_ADMIN\"",
            ),
            (
                "rule = \"PRV-09\"",
                "line 2 column 8: PRV-09 guards the runtime itself",
            ),
            (
                "rule = \"CAP-3\"",
                "line 2 column 8: there is no rule \"CAP-3\"; did you mean \"CAP-03\"?",
            ),
            (
                "onwer = \"x\"",
                "line 2 column 1: there is no key \"waiver.onwer\"; did you mean \"waiver.owner\"?",
            ),
            ("owner = \" \"", "line 2 column 9: \"owner\" is empty"),
            ("expires = 2027-02-30", "line 2 column 11: "),
            (
                "expires = \"2027-02-30\"",
                "line 2 column 11: expires is a day, such as 2027-01-31",
            ),
            (
                "expires = 2027-01-31T10:00:00Z",
                "line 2 column 11: expires is a day",
            ),
            ("match = {}", "line 2 column 9: match is empty"),
            (
                "match = { engine = \"dokcer\" }",
                "line 2 column 20: \"dokcer\" is no engine; did you mean \"docker\"?",
            ),
            (
                "match = { image = \"sha256:00\" }",
                "line 2 column 19: \"sha256:00\" is no digest",
            ),
            (
                "match = { annotation = \"x\" }",
                "line 2 column 11: a waiver matches nothing that a workload can write",
            ),
            (
                "match = { bundle = \"*\" }",
                "line 2 column 20: \"*\" is no absolute path",
            ),
            ("rule = \"NS-04\"", "line 1 column 1: a waiver needs owner"),
        ] {
            let told = of(lines);
            assert!(told.contains(expected), "{lines}: {told}");
        }
        assert!(
            error(WAIVER).contains("line 1 column 1: a waiver needs match"),
            "{}",
            error(WAIVER)
        );
        assert!(error("waivers = []").contains("did you mean \"waiver\"?"));
    }

    const OWN: &str = "[[rule]]\nid = \"SITE-01\"\nexpression = 'spec.process.user.uid != 0'\nmessage = \"root\"\nremedy = \"another user\"\nfield = \"/process/user/uid\"\n";

    #[test]
    fn a_sites_rule_judges_as_a_built_in_one() {
        use crate::facts::{CallerFact, Engine, Fact};
        let judged = |text: &str, uid: u64, caller: CallerFact| {
            let mut site = read(&[text]).unwrap();
            site.policy.today = Day::parse("2027-01-01");
            let document = serde_json::json!({"ociVersion": "1.2.0", "process": {"cwd": "/", "user": {"uid": uid, "gid": 0}}});
            let allegation = crate::Allegation::from_document(document).unwrap();
            let facts = crate::Facts {
                caller: Fact::Known(caller),
                ..Default::default()
            };
            let operation = crate::Operation::Check { offline: true };
            let judgement = crate::judge(&allegation, &facts, &site.policy, &operation).unwrap();
            let own = judgement
                .findings()
                .iter()
                .filter(|finding| finding.rule.starts_with("SITE"));
            own.map(|finding| format!("{:?} {} {}", finding.action, finding.pointer, finding.found))
                .collect::<Vec<_>>()
        };
        let nobody = CallerFact::default;
        let deny = format!("{OWN}level = \"deny\"\n");
        assert_eq!(judged(&deny, 1, nobody()), [""; 0]);
        assert_eq!(judged(&deny, 0, nobody()), ["Deny /process/user/uid root"]);
        let levels = format!("{OWN}level = {{ baseline = \"audit\", restricted = \"deny\" }}\n");
        assert_eq!(judged(&levels, 0, nobody()), ["Audit /process/user/uid root"]);
        let strict = format!("profile = \"restricted\"\n{levels}");
        assert_eq!(judged(&strict, 0, nobody()), ["Deny /process/user/uid root"]);
        let waived = format!(
            "{deny}[[waiver]]\nrule = \"SITE-01\"\nowner = \"o\"\nreason = \"r\"\nexpires = 2027-01-01\nmatch = {{ engine = \"podman\" }}\n"
        );
        let podman = CallerFact {
            engine: Some(Engine::Podman),
            ..nobody()
        };
        assert_eq!(judged(&waived, 0, podman), ["Audit /process/user/uid root"]);
        assert_eq!(judged(&waived, 0, nobody()), ["Deny /process/user/uid root"]);
        let broken = deny.replace("spec.process.user.uid != 0", "spec.process.user.name != 0");
        assert_eq!(
            judged(&broken, 0, nobody()),
            ["Deny /process/user/uid root (it cannot be evaluated: No such key: name)"]
        );
    }

    #[test]
    fn a_sites_rule_that_is_incomplete_or_misspelt_is_none() {
        for (text, expected) in [
            (OWN.to_owned(), "line 1 column 1: a rule needs level"),
            (
                format!("{OWN}level = \"harden\""),
                "line 7 column 9: \"harden\" is no level of a site's rule",
            ),
            (
                format!("{OWN}level = {{ strict = \"deny\" }}"),
                "line 7 column 11: there is no key \"rule.level.strict\"",
            ),
            (
                format!("{OWN}levle = 1"),
                "line 7 column 1: there is no key \"rule.levle\"; did you mean \"rule.level\"?",
            ),
            (
                OWN.replace("SITE-01", "MNT-01"),
                "line 2 column 6: \"MNT-01\" is no id of a site's rule",
            ),
            (
                OWN.replace("spec.", "sepc."),
                "line 3 column 14: there is no variable \"sepc\"",
            ),
            (
                OWN.replace("/process/user", "process/user"),
                "line 6 column 9: \"process/user/uid\" is no JSON pointer",
            ),
            (
                format!("{OWN}level = \"deny\"\n{OWN}level = \"deny\"\n"),
                "there are two rules \"SITE-01\"",
            ),
            (
                format!("{WAIVER}match = {{ engine = \"docker\" }}").replace("CAP-03:NET_ADMIN", "SITE-09"),
                "line 2 column 8: there is no rule \"SITE-09\"",
            ),
        ] {
            let told = error(&text);
            assert!(told.contains(expected), "{text}: {told}");
        }
    }
}
