//! `gabion policy test`: the verdicts that a site expects, for its CI.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use clap::Args;
use gabion_baseline::facts::{CallerFact, Engine};
use gabion_baseline::report::printable;
use gabion_baseline::{Action, Judgement, Profile};
use serde::Deserialize;

use crate::context::Context;
use crate::failure::Failure;
use crate::{gate, print};

/// The deepest that directories are looked into.
const MAX_DEPTH: usize = 16;

/// Compare verdicts with those that are expected
///
/// Beside each DIR/**/NAME.json there is a NAME.expect.toml:
///
///   verdict = "refused"             # or "admitted"
///   rules = ["CAP-03:SYS_ADMIN"]    # all that refuse it, and nothing else
///   profile = "restricted"          # optional: instead of the policy's
///   engine = "containerd-cri"       # optional: who calls, for waivers; so are
///   namespace = "kube-system"       #   namespace, image and bundle
///
/// The files are judged as by check --offline. Ends with status 0 if all verdicts are as
/// expected, 2 if one is not or a config.json has no expectation, and 1 if something
/// cannot be read or there is nothing to compare.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// Where the files are
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expectation {
    verdict: Verdict,
    rules: Option<BTreeSet<String>>,
    profile: Option<Profile>,
    engine: Option<String>,
    namespace: Option<String>,
    image: Option<String>,
    bundle: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Admitted,
    Refused,
}

pub(crate) fn run(options: &Options, context: &Context<'_>) -> Result<ExitCode, Failure> {
    let mut files = Vec::new();
    walk(&options.directory, 0, &mut files)?;
    files.sort();
    let expected: Vec<&PathBuf> = files.iter().filter(|path| is_expectation(path)).collect();
    if expected.is_empty() {
        return Err(Failure::error(format!(
            "there is no *.expect.toml in {:?}",
            options.directory
        )));
    }
    let (mut out, mut wrong) = (String::new(), 0);
    for path in &expected {
        let config = config_of(path);
        let outcome = compare(path, &config, context)?;
        match outcome {
            None => out.push_str(&format!("ok    {}\n", config.display())),
            Some(why) => {
                wrong += 1;
                out.push_str(&format!("WRONG {}: {}\n", config.display(), printable(&why)));
            }
        }
    }
    // A bundle of which nothing is expected is one that somebody believes to be tested.
    for path in files
        .iter()
        .filter(|path| path.file_name().is_some_and(|name| name == "config.json"))
    {
        if !expected
            .iter()
            .any(|expectation| config_of(expectation) == **path)
        {
            wrong += 1;
            out.push_str(&format!(
                "WRONG {}: there is no config.expect.toml beside it\n",
                path.display()
            ));
        }
    }
    out.push_str(&format!("{} compared, {wrong} wrong\n", expected.len()));
    print::out(&out)?;
    Ok(if wrong == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(2)
    })
}

fn is_expectation(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.ends_with(".expect.toml"))
}

fn config_of(expectation: &Path) -> PathBuf {
    expectation.with_extension("").with_extension("json")
}

fn walk(directory: &Path, depth: usize, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if depth > MAX_DEPTH {
        return Err(anyhow!("{directory:?} is nested too deeply"));
    }
    let what = || format!("cannot read the directory {directory:?}");
    for entry in std::fs::read_dir(directory).with_context(what)? {
        let entry = entry.with_context(what)?;
        let kind = entry.file_type().with_context(what)?;
        if kind.is_dir() {
            walk(&entry.path(), depth + 1, files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// What is not as expected.
fn compare(path: &Path, config: &Path, context: &Context<'_>) -> Result<Option<String>, Failure> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path:?}"))?;
    let expectation: Expectation = toml::from_str(&text)
        .map_err(|error| anyhow!("{}: {}", path.display(), error.to_string().trim_end()))?;
    let engine = match expectation.engine.as_deref() {
        None => None,
        Some(name) => Some(
            Engine::ALL
                .into_iter()
                .find(|engine| engine.name() == name)
                .ok_or_else(|| anyhow!("{}: {name:?} is no engine", path.display()))?,
        ),
    };
    let (mut site, _) = context.site()?;
    if let Some(profile) = expectation.profile {
        site.policy.profile = profile;
    }
    let bytes = gabion_host::bundle::read_config(config)?;
    let caller = CallerFact {
        engine,
        namespace: expectation.namespace,
        image: expectation.image,
        bundle: expectation.bundle,
    };
    let judgement = match gate::judge_words(&site, &bytes, caller) {
        Ok(judgement) => judgement,
        Err(failure) => return Ok(Some(failure.line())),
    };
    let found = match judgement {
        Judgement::Admitted(_) => Verdict::Admitted,
        Judgement::Refused(_) => Verdict::Refused,
    };
    let denied: BTreeSet<String> = judgement
        .findings()
        .iter()
        .filter(|finding| finding.action == Action::Deny)
        .map(|finding| finding.rule.clone())
        .collect();
    let list = |rules: &BTreeSet<String>| rules.iter().cloned().collect::<Vec<_>>().join(" ");
    Ok(match expectation.rules {
        _ if found != expectation.verdict => Some(match found {
            Verdict::Admitted => "admitted, and expected to be refused".to_owned(),
            Verdict::Refused => format!("refused by {}, and expected to be admitted", list(&denied)),
        }),
        Some(rules) if rules != denied => {
            let name = |rules: &BTreeSet<String>| {
                if rules.is_empty() {
                    "nothing".to_owned()
                } else {
                    list(rules)
                }
            };
            Some(format!(
                "refused by {}, and expected to be by {}",
                name(&denied),
                name(&rules)
            ))
        }
        _ => None,
    })
}
