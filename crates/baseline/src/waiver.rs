//! Waivers: one violation, tolerated for a while, where somebody answers for it.
//!
//! A waiver is bound to what the *node* knows of a container: which engine calls, which bundle it made, and what that
//! engine vouches for. Nothing that a workload's author can write carries one. See [`CallerFact`] for who says what.

use std::fmt;

use serde::Serialize;

use crate::facts::{CallerFact, Engine};

/// A day of the Gregorian calendar, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day {
    year: u16,
    month: u8,
    day: u8,
}

impl Day {
    /// A day that there is, from the year 1970 on.
    pub fn new(year: u16, month: u8, day: u8) -> Option<Self> {
        let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let length = match month {
            1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
            4 | 6 | 9 | 11 => 30,
            2 if leap => 29,
            2 => 28,
            _ => return None,
        };
        (year >= 1970 && (1..=length).contains(&day)).then_some(Day { year, month, day })
    }

    /// Reads `2027-01-31`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '-');
        let mut number = |length: usize| {
            parts
                .next()
                .filter(|part| part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let (year, month, day) = (number(4)?, number(2)?, number(2)?);
        Day::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?)
    }

    /// The day that is this many days after 1970-01-01.
    pub fn after_epoch(days: u64) -> Option<Self> {
        // Eras of 400 years that begin in March, so that the leap day is the last of its year.
        let days = days.checked_add(719_468)?;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        Day::new(
            year.try_into().ok()?,
            month.try_into().ok()?,
            day.try_into().ok()?,
        )
    }

    /// Days since 1970-01-01.
    fn number(self) -> i64 {
        let (month, day) = (i64::from(self.month), i64::from(self.day));
        let year = i64::from(self.year) - i64::from(month <= 2);
        let (era, of_era) = (year / 400, year % 400);
        let shifted = if month > 2 { month - 3 } else { month + 9 };
        let of_year = (153 * shifted + 2) / 5 + day - 1;
        era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
    }

    /// The days from `other` to this one; negative if this one is earlier.
    pub fn since(self, other: Day) -> i64 {
        self.number() - other.number()
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

/// `[[waiver]]` of a policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiver {
    /// The rule, or one value of it: `CAP-03:NET_ADMIN`.
    pub rule: String,
    /// Who answers for it.
    pub owner: String,
    /// Why it has to be.
    pub reason: String,
    /// The last day on which it applies.
    pub expires: Day,
    /// The containers that it is for.
    pub scope: Scope,
    /// The place in the policy.
    pub origin: String,
}

/// What a container has to be for a waiver to apply: all that is there. At least one is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// The engine that calls.
    pub engine: Option<Engine>,
    /// The Kubernetes namespace of its pod.
    pub namespace: Option<String>,
    /// The digest of its image, `sha256:…`.
    pub image: Option<String>,
    /// The bundle's directory; a `*` stands for one component, or the end of one.
    pub bundle: Option<String>,
}

impl Scope {
    /// True if what is known of the caller is what the waiver is for. What is not known matches nothing.
    fn covers(&self, caller: &CallerFact) -> bool {
        let equal = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || (wanted == found);
        (self.engine.is_none() || self.engine == caller.engine)
            && equal(&self.namespace, &caller.namespace)
            && equal(&self.image, &caller.image)
            && self
                .bundle
                .as_ref()
                .is_none_or(|pattern| caller.bundle.as_ref().is_some_and(|path| glob(pattern, path)))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let engine = self.engine.map(|engine| engine.name().to_owned());
        let parts: Vec<String> = [
            ("engine", &engine),
            ("namespace", &self.namespace),
            ("image", &self.image),
            ("bundle", &self.bundle),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name} {}", value.as_ref()?)))
        .collect();
        f.write_str(&parts.join(", "))
    }
}

/// A pattern of the same number of components; a `*` in one stands for any text without a slash.
fn glob(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), path.split('/').collect());
    pattern.len() == path.len()
        && pattern
            .iter()
            .zip(path)
            .all(|(pattern, part)| match pattern.split_once('*') {
                None => *pattern == part,
                Some((start, end)) => {
                    part.len() >= start.len() + end.len() && part.starts_with(start) && part.ends_with(end)
                }
            })
}

/// That a waiver was there for a violation, as reports tell it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WaiverUse {
    /// Who answers for it.
    pub owner: String,
    /// Why it has to be.
    pub reason: String,
    /// The last day on which it applies, or applied.
    pub expires: String,
    /// It does not apply any more.
    pub expired: bool,
    /// The place in the policy.
    pub origin: String,
}

/// The waiver for a violation: one that applies before one that is over.
pub(crate) fn find(
    waivers: &[Waiver],
    today: Option<Day>,
    caller: Option<&CallerFact>,
    rule: &str,
    sub_key: Option<&str>,
) -> Option<WaiverUse> {
    let caller = caller?;
    let value = sub_key.map(|sub_key| format!("{rule}:{sub_key}"));
    let about = |waiver: &&Waiver| waiver.rule == rule || Some(&waiver.rule) == value.as_ref();
    // Without a date, none applies.
    let expired = |waiver: &Waiver| today.is_none_or(|today| today > waiver.expires);
    let waiver = waivers
        .iter()
        .filter(about)
        .filter(|waiver| waiver.scope.covers(caller))
        .min_by_key(|waiver| expired(waiver))?;
    Some(WaiverUse {
        owner: waiver.owner.clone(),
        reason: waiver.reason.clone(),
        expires: waiver.expires.to_string(),
        expired: expired(waiver),
        origin: waiver.origin.clone(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::facts::Fact;
    use crate::profile::Profile;
    use crate::rules::table::{Table, with};

    #[test]
    fn days_are_those_of_the_calendar() {
        for (text, number) in [
            ("1970-01-01", 0),
            ("1970-03-01", 59),
            ("2000-02-29", 11_016),
            ("2000-03-01", 11_017),
            ("2026-11-26", 20_783),
            ("2100-02-28", 47_540),
            ("2100-03-01", 47_541),
        ] {
            let day = Day::parse(text).unwrap();
            assert_eq!((day.number(), day.to_string().as_str()), (number, text));
            assert_eq!(Day::after_epoch(number as u64), Some(day), "{text}");
        }
        for none in [
            "2026-02-29",
            "2026-13-01",
            "2026-00-01",
            "2026-1-1",
            "26-01-01",
            "2026-01-32",
            "1969-12-31",
            "x",
            "",
        ] {
            assert_eq!(Day::parse(none), None, "{none}");
        }
        assert_eq!(
            Day::parse("2027-01-01")
                .unwrap()
                .since(Day::parse("2026-12-30").unwrap()),
            2
        );
    }

    #[test]
    fn a_star_stands_for_text_without_a_slash() {
        for (pattern, path, expected) in [
            ("/run/a/*", "/run/a/b", true),
            ("/run/a/*", "/run/a/b/c", false),
            ("/run/a/*", "/run/a", false),
            ("/run/web-*/x", "/run/web-1/x", true),
            ("/run/web-*/x", "/run/we/x", false),
            ("/run/a", "/run/a", true),
            ("/run/a", "/run/ab", false),
        ] {
            assert_eq!(glob(pattern, path), expected, "{pattern} {path}");
        }
    }

    fn waiver(rule: &str, scope: Scope) -> Waiver {
        Waiver {
            rule: rule.to_owned(),
            owner: "net team".to_owned(),
            reason: "the router needs it".to_owned(),
            expires: Day::parse("2027-01-31").unwrap(),
            scope,
            origin: "p.toml, line 1 column 1".to_owned(),
        }
    }

    fn caller() -> CallerFact {
        CallerFact {
            engine: Some(Engine::ContainerdCri),
            namespace: Some("kube-system".to_owned()),
            image: None,
            bundle: Some("/run/containerd/x/web-1".to_owned()),
        }
    }

    fn table(today: &str, waiver: Waiver, caller: Fact<CallerFact>) -> Table {
        let mut table = Table::of(Profile::Baseline).knowing(|facts| facts.caller = caller);
        table.policy.today = Day::parse(today);
        table.policy.waivers = vec![waiver];
        table
    }

    fn two() -> Value {
        with(
            "/process/capabilities",
            json!({"bounding": ["CAP_NET_ADMIN", "CAP_SYS_ADMIN"]}),
        )
    }

    const REFUSED: [&str; 2] = [
        "deny CAP-03:SYS_ADMIN /process/capabilities/bounding",
        "deny CAP-03:NET_ADMIN /process/capabilities/bounding",
    ];

    fn verdicts(table: &Table) -> Vec<String> {
        let mut lines = table.verdicts("CAP-03", &two());
        lines.sort();
        lines
    }

    #[test]
    fn a_waiver_tolerates_its_own_value_and_no_other() {
        let scope = || Scope {
            namespace: Some("kube-system".to_owned()),
            ..Scope::default()
        };
        let table = table(
            "2027-01-31",
            waiver("CAP-03:NET_ADMIN", scope()),
            Fact::Known(caller()),
        );
        assert_eq!(
            verdicts(&table),
            [
                "audit CAP-03:NET_ADMIN /process/capabilities/bounding",
                "deny CAP-03:SYS_ADMIN /process/capabilities/bounding",
            ]
        );
        let findings = table.findings("CAP-03", &two());
        let used = findings
            .iter()
            .find_map(|finding| finding.waiver.as_ref())
            .unwrap();
        assert_eq!(
            (used.owner.as_str(), used.expires.as_str(), used.expired),
            ("net team", "2027-01-31", false)
        );
    }

    #[test]
    fn a_waiver_that_is_over_or_for_others_or_not_dated_does_not_apply() {
        let scope = |namespace: &str| Scope {
            namespace: Some(namespace.to_owned()),
            ..Scope::default()
        };
        let mut refused = REFUSED.map(str::to_owned);
        refused.sort();
        let own = || waiver("CAP-03:NET_ADMIN", scope("kube-system"));
        let over = table("2027-02-01", own(), Fact::Known(caller()));
        assert_eq!(verdicts(&over), refused);
        let told = over.findings("CAP-03", &two());
        assert!(
            told.iter()
                .any(|finding| finding.waiver.as_ref().is_some_and(|used| used.expired))
        );
        assert_eq!(verdicts(&table("never", own(), Fact::Known(caller()))), refused);
        assert_eq!(
            verdicts(&table("2026-01-01", own(), Fact::Unknown("x".to_owned()))),
            refused
        );
        let other = table(
            "2026-01-01",
            waiver("CAP-03:NET_ADMIN", scope("web")),
            Fact::Known(caller()),
        );
        assert_eq!(verdicts(&other), refused);
        assert!(
            other
                .findings("CAP-03", &two())
                .iter()
                .all(|finding| finding.waiver.is_none())
        );
    }

    #[test]
    fn all_of_a_scope_has_to_be_so() {
        let all = Scope {
            engine: Some(Engine::ContainerdCri),
            namespace: Some("kube-system".to_owned()),
            image: None,
            bundle: Some("/run/containerd/x/*".to_owned()),
        };
        assert!(all.covers(&caller()));
        for change in [
            |scope: &mut Scope| scope.engine = Some(Engine::Docker),
            |scope: &mut Scope| scope.namespace = Some("default".to_owned()),
            |scope: &mut Scope| scope.image = Some("sha256:00".to_owned()),
            |scope: &mut Scope| scope.bundle = Some("/run/other/*".to_owned()),
        ] {
            let mut scope = all.clone();
            change(&mut scope);
            assert!(!scope.covers(&caller()), "{scope}");
        }
        assert_eq!(
            all.to_string(),
            "engine containerd-cri, namespace kube-system, bundle /run/containerd/x/*"
        );
    }

    #[test]
    fn what_guards_the_runtime_is_not_waived_and_annotations_carry_nothing() {
        let scope = Scope {
            bundle: caller().bundle,
            ..Scope::default()
        };
        let document = with("/process/cwd", json!("../.."));
        let table = table("2026-01-01", waiver("PRV-09", scope), Fact::Known(caller()));
        assert_eq!(table.verdicts("PRV-09", &document), ["deny PRV-09 /process/cwd"]);
        // The same document with annotations that claim a namespace, an engine and a waiver.
        let mut asking = two();
        asking["annotations"] = json!({
            "io.kubernetes.cri.sandbox-namespace": "kube-system",
            "org.gabion.waiver": "CAP-03:NET_ADMIN",
        });
        let claimed = Scope {
            namespace: Some("kube-system".to_owned()),
            ..Scope::default()
        };
        let stranger = CallerFact {
            namespace: None,
            engine: Some(Engine::Docker),
            ..caller()
        };
        let mut judged = Table::of(Profile::Baseline).knowing(|facts| facts.caller = Fact::Known(stranger));
        judged.policy.today = Day::parse("2026-01-01");
        judged.policy.waivers = vec![waiver("CAP-03:NET_ADMIN", claimed)];
        assert_eq!(judged.verdicts("CAP-03", &asking).len(), 2);
        assert!(
            judged
                .verdicts("CAP-03", &asking)
                .iter()
                .all(|line| line.starts_with("deny"))
        );
    }
}
