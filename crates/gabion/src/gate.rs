//! The bundle gate, wired: read once, facts, judge, record.
//!
//! Everything that is to run goes through [`admit`]. The ledger is opened before the bundle is read: where a
//! decision could not be recorded, none is made.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::anyhow;
use gabion_baseline::facts::{CallerFact, Fact, FactKind, LsmFact, RootfsFact};
use gabion_baseline::judge::wanted_facts;
use gabion_baseline::policy_file::Site;
use gabion_baseline::report::{Report, Subject};
use gabion_baseline::rules::annotations::requested_profile;
use gabion_baseline::{
    Admitted, Allegation, Config, Facts, Finding, Judgement, Operation, Policy, Profile, judge,
};
use gabion_host::{Held, bundle};
use gabion_ledger::{Ledger, Record, RecordedFinding, Verdict};
use serde_json::Value;

use crate::context::Context;
use crate::failure::Failure;
use crate::policy::{self, ChosenBy};

/// A bundle that was admitted, and all that was learned on the way.
#[derive(Debug)]
pub(crate) struct Admission {
    /// What is to be built.
    pub admitted: &'static Admitted,
    /// The bundle's directory, absolute.
    pub bundle: PathBuf,
    /// Descriptors of what was judged.
    pub held: Held,
    /// The Linux security modules, if they are known.
    pub lsm: Option<LsmFact>,
    /// Where what comes of it is recorded.
    pub book: Book,
}

/// Judges a bundle that is to run, and records the judgement.
///
/// `operation` is what the ledger calls it, and what it is judged as. `host` is what the caller knows of the host; the
/// policy's part of it is filled in here.
///
/// # Errors
/// [`Failure::Refused`] if a rule refuses it; otherwise what kept it from being judged or recorded.
pub(crate) fn admit(
    context: &Context<'_>,
    id: &str,
    bundle: &Path,
    (operation, judged_as): (gabion_ledger::Operation, Operation),
    host: gabion_host::Context,
) -> Result<Admission, Failure> {
    let (site, _) = context.site()?;
    let mut book = Book::open(context, &site, id, operation)?;
    book.record.bundle = std::path::absolute(bundle)
        .ok()
        .map(|path| path.display().to_string());
    let judged = book.or_failed(judge_bundle(context, &site, bundle, &judged_as, host))?;
    let path = judged.bundle.display().to_string();
    let file = judged.bundle.join("config.json").display().to_string();
    let subject = Subject {
        name: id,
        file: &file,
        bundle: Some(&path),
    };
    let admitted = conclude(&mut book, judged.judgement, judged.profile, subject)?;
    Ok(Admission {
        admitted,
        bundle: judged.bundle,
        held: judged.held,
        lsm: judged.lsm,
        book,
    })
}

/// Judges a further process of a container, and records the judgement.
///
/// `effective` is what the container was built from, `profile` what it was judged under: so is the process, or
/// stricter if the caller says so.
///
/// # Errors
/// As [`admit`].
pub(crate) fn admit_process(
    context: &Context<'_>,
    id: &str,
    effective: &Value,
    process: Value,
    profile: &str,
    bundle: &Path,
    host: gabion_host::Context,
) -> Result<(&'static Admitted, Option<LsmFact>, Book), Failure> {
    let (site, by) = context.site()?;
    let mut book = Book::open(context, &site, id, gabion_ledger::Operation::Exec)?;
    let mut policy = site.policy.clone();
    policy.profile = of_container(policy.profile, by, profile)?;
    let mut document = effective.clone();
    document["process"] = process;
    let container = book.or_failed(Allegation::from_document(effective.clone()).map_err(Failure::from))?;
    let allegation = book.or_failed(Allegation::from_document(document).map_err(Failure::from))?;
    let operation = Operation::Exec {
        id: id.to_owned(),
        container: Box::new(container.config().clone()),
    };
    let mut wanted = wanted_facts(&policy, &operation);
    wanted.insert(FactKind::Lsm);
    wanted.remove(&FactKind::Entrypoint);
    let host = gabion_host::Context {
        policy_files: policy_files(context),
        bundle: Some(bundle.to_owned()),
        called: true,
        ..host
    };
    let collected = gabion_host::collect(allegation.config(), Path::new("/"), &wanted, &host);
    let judgement = judge(allegation, &collected.facts, &policy, &operation).map_err(our_bug)?;
    let subject = Subject {
        name: id,
        file: "process",
        bundle: None,
    };
    let admitted = conclude(&mut book, judgement, policy.profile.name(), subject)?;
    Ok((admitted, collected.facts.lsm.known().cloned(), book))
}

/// Judges other limits for a container, and records the judgement.
///
/// `effective` is what the container was built from, `resources` its `linux.resources` as they would be. Gives the old
/// configuration beside the new one.
///
/// # Errors
/// As [`admit`].
pub(crate) fn admit_update(
    context: &Context<'_>,
    id: &str,
    effective: &Value,
    resources: Value,
    profile: &str,
    bundle: &Path,
) -> Result<(&'static Admitted, Box<Config>, Book), Failure> {
    let (site, by) = context.site()?;
    let mut book = Book::open(context, &site, id, gabion_ledger::Operation::Update)?;
    book.record.bundle = Some(bundle.display().to_string());
    let mut policy = site.policy.clone();
    policy.profile = of_container(policy.profile, by, profile)?;
    let mut document = effective.clone();
    match document.get_mut("linux") {
        Some(Value::Object(linux)) => {
            linux.insert("resources".to_owned(), resources);
        }
        _ => document["linux"] = serde_json::json!({"resources": resources}),
    }
    let container = book.or_failed(Allegation::from_document(effective.clone()).map_err(Failure::from))?;
    let allegation = book.or_failed(Allegation::from_document(document).map_err(Failure::from))?;
    let container = Box::new(container.config().clone());
    let operation = Operation::Update {
        id: id.to_owned(),
        container: container.clone(),
    };
    let wanted = wanted_facts(&policy, &operation);
    let host = gabion_host::Context::default();
    let collected = gabion_host::collect(allegation.config(), Path::new("/"), &wanted, &host);
    let judgement = judge(allegation, &collected.facts, &policy, &operation).map_err(our_bug)?;
    let subject = Subject {
        name: id,
        file: "resources",
        bundle: None,
    };
    let admitted = conclude(&mut book, judgement, policy.profile.name(), subject)?;
    Ok((admitted, container, book))
}

/// The profile for an operation on a container: the one it was judged under. The policy's own is for containers that are
/// created; who calls may ask for a stricter one.
fn of_container(chosen: Profile, by: ChosenBy, profile: &str) -> Result<Profile, Failure> {
    let of_container: Profile = profile.parse()?;
    Ok(match by {
        ChosenBy::Policy => of_container,
        ChosenBy::Flag | ChosenBy::Name => chosen.max(of_container),
    })
}

/// Records a judgement; a refusal becomes the failure that is told.
fn conclude(
    book: &mut Book,
    judgement: Judgement,
    profile: &str,
    subject: Subject<'_>,
) -> Result<&'static Admitted, Failure> {
    book.record.profile = profile.to_owned();
    book.record.findings = all_recorded(judgement.findings());
    let report = Report::of(&judgement, subject);
    match judgement {
        Judgement::Refused(_) => {
            let failure = Failure::refused(&report);
            book.note(Verdict::Refused, Some(&failure.line()))?;
            Err(failure)
        }
        Judgement::Admitted(admitted) => {
            book.note(Verdict::Admitted, None)?;
            // One is judged in a life of this program, and needed to its end: thousands of values are not freed one
            // by one before it.
            Ok(Box::leak(admitted))
        }
    }
}

/// The ledger, open at one container: what becomes of it is recorded with the same particulars.
#[derive(Debug)]
pub(crate) struct Book {
    ledger: Option<Ledger>,
    record: Record,
}

impl Book {
    fn open(
        context: &Context<'_>,
        site: &Site,
        id: &str,
        operation: gabion_ledger::Operation,
    ) -> Result<Self, Failure> {
        let profile = site.policy.profile.name();
        let record = Record::now(id, operation, Verdict::Failed, profile);
        Ok(Book {
            ledger: context.ledger(site)?,
            record,
        })
    }

    /// Records what kept something from being judged.
    fn or_failed<T>(&mut self, outcome: Result<T, Failure>) -> Result<T, Failure> {
        if let Err(failure) = &outcome {
            let line = failure.line();
            self.note(Verdict::Failed, Some(&line))?;
        }
        outcome
    }

    /// For an operation on a container that was judged before.
    pub(crate) fn of(
        context: &Context<'_>,
        id: &str,
        operation: gabion_ledger::Operation,
        profile: &str,
        bundle: &Path,
    ) -> Result<Self, Failure> {
        let (site, _) = context.site()?;
        let mut record = Record::now(id, operation, Verdict::Failed, profile);
        record.bundle = Some(bundle.display().to_string());
        Ok(Book {
            ledger: context.ledger(&site)?,
            record,
        })
    }

    /// Records what became of it, now.
    ///
    /// # Errors
    /// If it cannot be recorded, and the ledger could be opened: whoever made room for one record and not for
    /// the next has a full disk.
    pub(crate) fn note(&mut self, verdict: Verdict, message: Option<&str>) -> Result<(), Failure> {
        let Some(ledger) = &mut self.ledger else {
            return Ok(());
        };
        self.record.time = gabion_ledger::Timestamp::now();
        self.record.verdict = verdict;
        self.record.message = message.map(str::to_owned);
        Ok(ledger.record(&self.record)?)
    }
}

/// What is recorded of findings. A filter lets a dozen entries of the floor through, to which the same happens: these are
/// one finding with a dozen values.
fn all_recorded(findings: &[Finding]) -> Vec<RecordedFinding> {
    let mut all: Vec<RecordedFinding> = Vec::new();
    for finding in findings {
        let mut recorded = recorded(finding);
        if let Some(value) = recorded.rule.strip_prefix("SEC-03:") {
            let value = value.to_owned();
            recorded.rule = "SEC-03".to_owned();
            let like = |other: &&mut RecordedFinding| {
                !other.values.is_empty()
                    && (&other.rule, &other.action, &other.pointer, &other.waiver)
                        == (
                            &recorded.rule,
                            &recorded.action,
                            &recorded.pointer,
                            &recorded.waiver,
                        )
            };
            if let Some(other) = all.iter_mut().find(like) {
                other.values.push(value);
                continue;
            }
            recorded.values.push(value);
        }
        all.push(recorded);
    }
    all
}

fn recorded(finding: &Finding) -> RecordedFinding {
    let action = match finding.action {
        gabion_baseline::Action::Audit => "audit",
        gabion_baseline::Action::Harden => "harden",
        gabion_baseline::Action::Deny => "deny",
    };
    RecordedFinding {
        rule: finding.rule.clone(),
        values: Vec::new(),
        action: action.to_owned(),
        pointer: finding.pointer.clone(),
        waiver: finding
            .waiver
            .as_ref()
            .filter(|waiver| !waiver.expired)
            .map(|waiver| format!("{} until {} ({})", waiver.owner, waiver.expires, waiver.origin)),
    }
}

/// A judgement, and what was learned on the way to it.
#[derive(Debug)]
pub(crate) struct Judged {
    pub judgement: Judgement,
    /// The profile's name.
    pub profile: &'static str,
    /// The bundle's directory, absolute.
    pub bundle: PathBuf,
    /// Descriptors of what was judged.
    pub held: Held,
    /// The Linux security modules, if they are known.
    pub lsm: Option<LsmFact>,
}

/// Reads a bundle once and judges it with the facts of this host.
pub(crate) fn judge_bundle(
    context: &Context<'_>,
    site: &Site,
    bundle: &Path,
    operation: &Operation,
    mut host: gabion_host::Context,
) -> Result<Judged, Failure> {
    let file = bundle::read(bundle)?;
    let allegation = Allegation::parse(&file.config)?;
    let policy = stricter_if_asked(&site.policy, &allegation);
    host.engine_roots = policy.engine_roots.clone();
    host.policy_files = policy_files(context);
    host.own_files = own_files(context, site);
    host.bundle = Some(file.path.clone());
    host.called = operation.starts_a_process();
    let mut wanted = wanted_facts(&policy, operation);
    // Whatever the rules ask for: building joins what was looked at, and asks the module that is there.
    wanted.extend([FactKind::Namespaces, FactKind::Lsm]);
    let begun = Instant::now();
    let collected = gabion_host::collect(allegation.config(), &file.path, &wanted, &host);
    let facts = begun.elapsed();
    demand_rootfs(&collected.facts, "")?;
    let judgement = judge(allegation, &collected.facts, &policy, operation).map_err(our_bug)?;
    let both = begun.elapsed();
    tracing::debug!(
        microseconds = both.as_micros(),
        facts = facts.as_micros(),
        "the bundle is judged"
    );
    Ok(Judged {
        judgement,
        profile: policy.profile.name(),
        bundle: file.path,
        held: collected.held,
        lsm: collected.facts.lsm.known().cloned(),
    })
}

/// Without a root file system there is nothing to judge the mounts against: one clear error, rather than a finding
/// for each of them.
fn demand_rootfs(facts: &Facts, way_out: &str) -> Result<(), Failure> {
    match &facts.rootfs {
        Fact::Known(RootfsFact::Missing(why)) => Err(Failure::error(format!(
            "config.json#/root/path: there is no root file system: {why}{way_out}"
        ))),
        _ => Ok(()),
    }
}

/// Judges a file without a bundle around it: with `offline` by its words alone, otherwise with the facts of this
/// host and the file's directory as its bundle.
pub(crate) fn judge_file(
    context: &Context<'_>,
    site: &Site,
    bytes: &[u8],
    directory: &Path,
    offline: bool,
) -> Result<Judgement, Failure> {
    let allegation = Allegation::parse(bytes)?;
    let policy = stricter_if_asked(&site.policy, &allegation);
    let operation = Operation::Check { offline };
    let facts = if offline {
        gabion_host::offline(allegation.config())
    } else {
        let host = gabion_host::Context {
            engine_roots: policy.engine_roots.clone(),
            policy_files: policy_files(context),
            own_files: own_files(context, site),
            bundle: Some(directory.to_owned()),
            ..gabion_host::Context::default()
        };
        let wanted = wanted_facts(&policy, &operation);
        let collected = gabion_host::collect(allegation.config(), directory, &wanted, &host);
        demand_rootfs(
            &collected.facts,
            "; --offline judges a file from another host by its words alone",
        )?;
        collected.facts
    };
    Ok(judge(allegation, &facts, &policy, &operation).map_err(our_bug)?)
}

/// What judgement finds in the bundle of a container that runs under another runtime.
pub(crate) fn audit_bundle(
    context: &Context<'_>,
    site: &Site,
    bundle: &Path,
) -> Result<Vec<Finding>, Failure> {
    let file = bundle::read(bundle)?;
    let allegation = Allegation::parse(&file.config)?;
    let policy = stricter_if_asked(&site.policy, &allegation);
    let operation = Operation::Check { offline: false };
    let host = gabion_host::Context {
        engine_roots: policy.engine_roots.clone(),
        policy_files: policy_files(context),
        own_files: own_files(context, site),
        bundle: Some(file.path.clone()),
        ..gabion_host::Context::default()
    };
    let wanted = wanted_facts(&policy, &operation);
    let mut facts = gabion_host::collect(allegation.config(), &file.path, &wanted, &host).facts;
    demand_rootfs(&facts, "")?;
    // The container itself is in its cgroup.
    if let Fact::Known(cgroup) = &mut facts.cgroup {
        cgroup.occupied = None;
    }
    let judgement = judge(allegation, &facts, &policy, &operation).map_err(our_bug)?;
    Ok(judgement.findings().to_vec())
}

/// What judgement finds of the host alone.
pub(crate) fn audit_host(site: &Site) -> Result<Vec<Finding>, Failure> {
    let nothing = Allegation::parse(br#"{"ociVersion": "1.0.0"}"#)?;
    let wanted = wanted_facts(&site.policy, &Operation::Host);
    let host = gabion_host::Context::default();
    let facts = gabion_host::collect(nothing.config(), Path::new("/"), &wanted, &host).facts;
    let judgement = judge(nothing, &facts, &site.policy, &Operation::Host).map_err(our_bug)?;
    Ok(judgement.findings().to_vec())
}

/// Judges a file by its words alone, as if this caller had asked for it.
pub(crate) fn judge_words(site: &Site, bytes: &[u8], caller: CallerFact) -> Result<Judgement, Failure> {
    let allegation = Allegation::parse(bytes)?;
    let policy = stricter_if_asked(&site.policy, &allegation);
    let mut facts = gabion_host::offline(allegation.config());
    facts.caller = Fact::Known(caller);
    Ok(judge(allegation, &facts, &policy, &Operation::Check { offline: true }).map_err(our_bug)?)
}

/// A container may ask for a stricter profile by annotation, never for a weaker one.
fn stricter_if_asked(policy: &Policy, allegation: &Allegation) -> Policy {
    let mut policy = policy.clone();
    if let Some(requested) = requested_profile(allegation.config()) {
        policy.profile = policy.profile.max(requested);
    }
    policy
}

fn policy_files(context: &Context<'_>) -> Vec<PathBuf> {
    let (file, drop_ins) = policy::places(context.globals().policy.as_deref());
    // A relative one stays as it is where there is no working directory to begin at, and is then refused.
    [file, drop_ins]
        .map(|path| std::path::absolute(&path).unwrap_or(path))
        .to_vec()
}

/// What no container may get at, whatever the policy says: state, ledger, policy.
fn own_files(context: &Context<'_>, site: &Site) -> Vec<PathBuf> {
    let mut files = policy_files(context);
    files.push(site.ledger.path.clone());
    files.extend(std::path::absolute(context.root()));
    files
}

fn our_bug(error: gabion_baseline::AllegationError) -> anyhow::Error {
    anyhow!("hardening made a configuration that is none ({error}); nothing ran. This is a bug in gabion")
}
