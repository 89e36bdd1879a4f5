//! `gabion policy`: what is in force here, and who decided it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use gabion_baseline::facts::Engine;
use gabion_baseline::policy_file::Site;
use gabion_baseline::profile::Level;
use gabion_baseline::rules;
use gabion_baseline::waiver::Waiver;
use serde_json::{Value, json};

use crate::commands::policy_test;
use crate::context::Context;
use crate::failure::Failure;
use crate::policy::{self, ChosenBy, places};
use crate::print::{self, Format};

/// Show, check and test a site's policy
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    Show(Show),
    Check(Check),
    Test(policy_test::Options),
}

/// Read a policy file, and say what is wrong with it
///
/// The file is read as it would be in force, and nothing else is. Ends with status 0 if
/// it is a policy, and with 1, and the place in the file, if it is none.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct Check {
    /// The file, wherever it is and whoever it belongs to
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Show profile, levels, permissions and limits, and which file says so
///
/// What the site made weaker than the profile has it is marked.
#[derive(Debug, Args)]
struct Show {
    #[command(flatten)]
    format: Format,
}

pub(crate) fn run(options: &Options, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let show = match &options.command {
        PolicyCommand::Show(show) => show,
        PolicyCommand::Check(check) => return read_one(&check.file),
        PolicyCommand::Test(options) => return policy_test::run(options, context),
    };
    let (site, by) = context.site()?;
    match show.format.is_json() {
        true => print::json(&json(&site, by)),
        false => {
            let (file, drop_ins) = places(context.globals().policy.as_deref());
            let read = format!("{} and {}/*.toml", file.display(), drop_ins.display());
            print::out(&text(&site, by, &read))
        }
    }
}

/// `gabion policy check`.
fn read_one(file: &Path) -> Result<ExitCode, Failure> {
    let site = policy::load_untrusted(file)?;
    let policy = &site.policy;
    let over = policy
        .waivers
        .iter()
        .filter(|waiver| days_left(&site, waiver).is_none_or(|days| days < 0));
    let mut out = format!(
        "{} is a policy: profile {}; levels changed: {}; waivers: {}; rules of its own: {}\n",
        file.display(),
        policy.profile,
        policy.levels.len(),
        policy.waivers.len(),
        policy.site_rules.len(),
    );
    for waiver in over {
        out.push_str(&format!(
            "  the waiver for {} ({}) does not apply: it expired on {}\n",
            waiver.rule, waiver.origin, waiver.expires
        ));
    }
    print::out(&out)
}

/// Days on which a waiver still applies, today not counted; `None` if the date is not known.
fn days_left(site: &Site, waiver: &Waiver) -> Option<i64> {
    site.policy.today.map(|today| waiver.expires.since(today))
}

fn left(days: Option<i64>) -> String {
    match days {
        None => "does not apply: the date is not known".to_owned(),
        Some(0) => "applies today for the last time".to_owned(),
        Some(1) => "1 day left".to_owned(),
        Some(days) if days > 0 => format!("{days} days left"),
        Some(days) => format!("EXPIRED {} days ago; does not apply", -days),
    }
}

/// A level that the site gave, beside the one that the profile has.
struct Changed<'a> {
    /// A rule's id, or one value of it.
    id: &'a str,
    level: Level,
    built_in: Level,
    origin: &'a str,
}

impl Changed<'_> {
    fn is_weaker(&self) -> bool {
        self.level < self.built_in
    }
}

fn changed(site: &Site) -> Vec<Changed<'_>> {
    let levels = site.policy.levels.iter();
    let changed = levels.filter_map(|(id, level)| {
        let built_in = rules::find(id)?.levels.of(site.policy.profile);
        Some(Changed {
            id,
            level: *level,
            built_in,
            origin: origin(site, id).unwrap_or_default(),
        })
    });
    changed.collect()
}

fn origin<'a>(site: &'a Site, setting: &str) -> Option<&'a str> {
    site.origins.get(setting).map(String::as_str)
}

fn text(site: &Site, by: ChosenBy, read: &str) -> String {
    let policy = &site.policy;
    let mut out = Lines::default();
    let chosen = match (by, origin(site, "profile")) {
        (ChosenBy::Policy, Some(place)) => place.to_owned(),
        (ChosenBy::Policy, None) => "built in".to_owned(),
        (by, _) => format!("chosen by {}", by.describe()),
    };
    out.add("profile", policy.profile.name(), &chosen);
    out.add(
        "policy files",
        read,
        if site.origins.is_empty() {
            "none of them says anything"
        } else {
            ""
        },
    );
    out.title("Levels changed here");
    let changed = changed(site);
    for change in &changed {
        let Changed {
            id, level, built_in, ..
        } = change;
        let weaker = if change.is_weaker() { "; WEAKER" } else { "" };
        out.add(
            id,
            &format!("{} (profile: {}{weaker})", word(*level), word(*built_in)),
            change.origin,
        );
    }
    out.nothing_if(changed.is_empty());
    out.title("Waivers");
    for waiver in &policy.waivers {
        let Waiver {
            rule,
            owner,
            reason,
            expires,
            scope,
            origin,
        } = waiver;
        out.add(
            rule,
            &format!(
                "until {expires} ({}) for {scope}; {owner}: {reason}",
                left(days_left(site, waiver))
            ),
            origin,
        );
    }
    out.nothing_if(policy.waivers.is_empty());
    out.title("Rules of this site");
    for rule in &policy.site_rules {
        out.add(
            &rule.id,
            &format!("{} ({})", rule.message, word(rule.levels.of(policy.profile))),
            &rule.origin,
        );
    }
    out.nothing_if(policy.site_rules.is_empty());
    out.title("Allowed here");
    let built_in = |setting: String| origin(site, &setting).unwrap_or("built in").to_owned();
    for path in &policy.devices {
        out.add("device", path, &built_in(format!("allow.devices {path}")));
    }
    for root in &policy.engine_roots {
        out.add(
            "engine root",
            root,
            &built_in(format!("allow.engine-roots {root}")),
        );
    }
    for hook in &policy.hooks {
        let arg0 = hook
            .arg0
            .as_ref()
            .map(|arg0| format!(" as {arg0:?}"))
            .unwrap_or_default();
        let mounts = match hook.mounts.as_slice() {
            [] => String::new(),
            mounts => format!(", mounts at {}", mounts.join(", ")),
        };
        let place = built_in(format!("allow.hooks {} {}", hook.point, hook.path));
        out.add(
            "hook",
            &format!("{} {}{arg0}{mounts}", hook.point, hook.path),
            &place,
        );
    }
    out.title("Limits");
    out.add(
        "pids",
        &policy.pids_limit.to_string(),
        &built_in("limits.pids".to_owned()),
    );
    out.title("Ledger");
    out.add(
        "path",
        &site.ledger.path.display().to_string(),
        &built_in("ledger.path".to_owned()),
    );
    let required = if site.ledger.required {
        "true"
    } else {
        "false; what cannot be recorded runs all the same"
    };
    out.add("required", required, &built_in("ledger.required".to_owned()));
    out.text
        .push_str("\ngabion explain lists every rule with its level in each profile.\n");
    out.text
}

/// Settings under titles: name, value, and where it was decided.
#[derive(Default)]
struct Lines {
    text: String,
}

impl Lines {
    fn title(&mut self, title: &str) {
        self.text.push_str(&format!("\n{title}\n"));
    }

    fn add(&mut self, name: &str, value: &str, place: &str) {
        let place = if place.is_empty() {
            String::new()
        } else {
            format!("  [{place}]")
        };
        self.text.push_str(&format!("  {name:<12}  {value}{place}\n"));
    }

    fn nothing_if(&mut self, nothing: bool) {
        if nothing {
            self.text.push_str("  none\n");
        }
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Off => "off",
        Level::Audit => "audit",
        Level::Harden => "harden",
        Level::Deny => "deny",
    }
}

fn json(site: &Site, by: ChosenBy) -> Value {
    let policy = &site.policy;
    let levels: Vec<Value> = changed(site)
        .iter()
        .map(|change| {
            json!({
                "rule": change.id,
                "level": change.level,
                "profileLevel": change.built_in,
                "weaker": change.is_weaker(),
                "origin": change.origin,
            })
        })
        .collect();
    let hooks: Vec<Value> = policy
        .hooks
        .iter()
        .map(|hook| json!({"point": hook.point, "path": hook.path, "arg0": hook.arg0, "mounts": hook.mounts}))
        .collect();
    let waivers: Vec<Value> = policy
        .waivers
        .iter()
        .map(|waiver| {
            let days = days_left(site, waiver);
            json!({
                "rule": waiver.rule,
                "owner": waiver.owner,
                "reason": waiver.reason,
                "expires": waiver.expires.to_string(),
                "daysLeft": days,
                "applies": days.is_some_and(|days| days >= 0),
                "match": {
                    "engine": waiver.scope.engine.map(Engine::name),
                    "namespace": waiver.scope.namespace,
                    "image": waiver.scope.image,
                    "bundle": waiver.scope.bundle,
                },
                "origin": waiver.origin,
            })
        })
        .collect();
    let site_rules: Vec<Value> = policy
        .site_rules
        .iter()
        .map(|rule| {
            json!({"id": rule.id, "message": rule.message, "levels": rule.levels, "origin": rule.origin})
        })
        .collect();
    json!({
        "version": 1,
        "waivers": waivers,
        "siteRules": site_rules,
        "profile": policy.profile,
        "chosenBy": by.describe(),
        "rules": levels,
        "allow": {"devices": policy.devices, "engineRoots": policy.engine_roots, "hooks": hooks},
        "limits": {"pids": policy.pids_limit},
        "ledger": {"path": site.ledger.path, "required": site.ledger.required},
        "origins": site.origins,
    })
}

#[cfg(test)]
mod tests {
    use gabion_baseline::policy_file::PolicyText;

    use super::*;

    fn site(text: &str) -> Site {
        let file = PolicyText {
            name: "p.toml".to_owned(),
            text: text.to_owned(),
        };
        Site::read(&[file], |_| Value::Null).unwrap()
    }

    #[test]
    fn what_a_site_made_weaker_is_marked() {
        let site = site("[rules]\nCAP-03 = \"audit\"\n\"CAP-03:BPF\" = \"deny\"\n");
        let text = text(&site, ChosenBy::Policy, "p.toml");
        assert!(text.contains(
            "\n  CAP-03        audit (profile: deny; WEAKER)  [p.toml, line 2 column 1]\n  \
             CAP-03:BPF    deny (profile: deny)  [p.toml, line 3 column 1]\n"
        ));
        let json = json(&site, ChosenBy::Policy);
        assert_eq!(
            json["rules"][0],
            json!({"rule": "CAP-03", "level": "audit", "profileLevel": "deny", "weaker": true,
                   "origin": "p.toml, line 2 column 1"})
        );
        assert_eq!(json["rules"][1]["weaker"], false);
    }

    #[test]
    fn the_built_in_policy_says_that_it_is() {
        let text = text(&Site::builtin(|_| Value::Null), ChosenBy::Policy, "p.toml");
        assert!(
            text.starts_with("  profile       baseline  [built in]\n"),
            "{text}"
        );
        assert!(text.contains("\nLevels changed here\n  none\n"), "{text}");
        assert!(
            text.contains("\n  path          /var/log/gabion/decisions.jsonl  [built in]\n"),
            "{text}"
        );
    }

    #[test]
    fn everything_a_site_decided_is_shown() {
        let site = site(
            "profile = \"restricted\"\nallow.devices = [\"/dev/fuse\"]\nledger.required = false\n\
             [[allow.hooks]]\npoint = \"prestart\"\npath = \"/h\"\narg0 = \"a\"\n",
        );
        let text = text(&site, ChosenBy::Flag, "p.toml");
        assert!(
            text.starts_with("  profile       restricted  [chosen by --profile]\n"),
            "{text}"
        );
        assert!(
            text.contains("\n  device        /dev/fuse  [p.toml, line 2 column 7]\n"),
            "{text}"
        );
        assert!(
            text.contains("\n  hook          prestart /h as \"a\"  [p.toml, line 4 column 1]\n"),
            "{text}"
        );
        assert!(
            text.contains("\n  required      false; what cannot be recorded runs all the same  ["),
            "{text}"
        );
        let json = json(&site, ChosenBy::Flag);
        assert_eq!(json["profile"], "restricted");
        assert_eq!(json["chosenBy"], "--profile");
        assert_eq!(
            json["allow"]["hooks"][0],
            json!({"point": "prestart", "path": "/h", "arg0": "a", "mounts": []})
        );
        assert_eq!(json["ledger"]["required"], false);
    }

    #[test]
    fn waivers_are_shown_with_the_days_that_are_left() {
        let mut site = site(
            "[[waiver]]\nrule = \"CAP-03:NET_ADMIN\"\nowner = \"net\"\nreason = \"routes\"\nexpires = 2027-01-31\n\
             match = { engine = \"docker\" }\n",
        );
        for (today, expected, applies) in [
            ("2027-01-01", "30 days left", true),
            ("2027-01-30", "1 day left", true),
            ("2027-01-31", "applies today for the last time", true),
            ("2027-02-03", "EXPIRED 3 days ago; does not apply", false),
            ("never", "does not apply: the date is not known", false),
        ] {
            site.policy.today = gabion_baseline::waiver::Day::parse(today);
            let line = format!(
                "\nWaivers\n  CAP-03:NET_ADMIN  until 2027-01-31 ({expected}) for engine docker; net: routes  [p.toml, line 1 column 1]\n"
            );
            let text = text(&site, ChosenBy::Policy, "p.toml");
            assert!(text.contains(&line), "{text}");
            assert_eq!(
                json(&site, ChosenBy::Policy)["waivers"][0]["applies"],
                applies,
                "{today}"
            );
        }
    }
}
