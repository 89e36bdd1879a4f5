//! `gabion seccomp`: what a profile allows, in human words.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use gabion_baseline::nearest::nearest;
use gabion_baseline::policy::SeccompGap;
use gabion_baseline::report::wrap;
use gabion_filters::Filters;
use gabion_seccomp::{Profile, Program, Target, Verdict, compile, default, floor, words};
use serde_json::Value;

use crate::failure::Failure;
use crate::print;

/// Say what a seccomp profile allows
///
/// A profile is a file with the value of linux.seccomp, a bundle's config.json, or one
/// in Docker's form; `default` is gabion's own.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, subcommand_value_name = "COMMAND")]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Show(Show),
    Diff(Diff),
    Test(Test),
    Floor(Floor),
}

/// Print what becomes of each system call
#[derive(Debug, Args)]
struct Show {
    /// File, or default
    #[arg(value_name = "FILE", default_value = "default")]
    filter: PathBuf,

    #[command(flatten)]
    container: Container,
}

/// Print the system calls that two profiles answer differently
///
/// Ends with status 0 if there are none, and 2 if there are.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct Diff {
    /// File, or default
    #[arg(value_name = "OLD")]
    old: PathBuf,

    /// File, or default
    #[arg(value_name = "NEW")]
    new: PathBuf,

    #[command(flatten)]
    container: Container,
}

/// Say whether a system call would be let through
///
/// Arguments are numbers, names such as AF_ALG, TIOCSTI or CLONE_NEWUSER|CLONE_NEWNET,
/// and _ for any; those that are left out are any. Ends with status 0 if the call is
/// made, 2 if it is not, and 3 if that depends on what was left out.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct Test {
    /// Seccomp profile: file, or default
    #[arg(long, value_name = "FILE", default_value = "default")]
    filter: PathBuf,

    /// Stack the floor under it, as for a container under baseline or restricted
    #[arg(long)]
    floor: bool,

    #[command(flatten)]
    container: Container,

    /// Name or number of the system call
    #[arg(value_name = "CALL")]
    call: String,

    /// Its arguments
    #[arg(value_name = "ARGUMENT", allow_hyphen_values = true, num_args = 0..=6)]
    arguments: Vec<String>,
}

/// List what no container may do, whatever its profile
///
/// With a filter, list what that lets through of it.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct Floor {
    /// Seccomp profile: file, or default
    #[arg(long, value_name = "FILE")]
    filter: Option<PathBuf>,

    #[command(flatten)]
    container: Container,
}

/// What a profile may depend on.
#[derive(Debug, Args)]
struct Container {
    /// The container keeps this capability, such as NET_ADMIN; may be repeated [default: those
    /// of the config.json that is named, if one is]
    #[arg(long = "cap", value_name = "NAME", value_parser = capability, verbatim_doc_comment)]
    capabilities: Vec<String>,
}

/// `net_admin`, `CAP_NET_ADMIN`: the full name of a capability.
fn capability(name: &str) -> Result<String, String> {
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("CAP_") {
        upper
    } else {
        format!("CAP_{upper}")
    };
    let known: Vec<String> = caps::all().into_iter().map(|one| one.to_string()).collect();
    if known.contains(&full) {
        return Ok(full);
    }
    let near = nearest(&full, known.iter().map(String::as_str));
    Err(format!("there is no capability {full}{}", or_meant(near)))
}

fn or_meant(near: Option<&str>) -> String {
    near.map(|near| format!("; did you mean {near}?"))
        .unwrap_or_default()
}

impl Container {
    /// The bounding set of the container in question: what was named, or what the first config.json among `files` has.
    fn bounding(&self, files: &[&Path]) -> Result<Vec<String>, Failure> {
        if !self.capabilities.is_empty() {
            return Ok(self.capabilities.clone());
        }
        for file in files.iter().filter(|file| **file != Path::new(DEFAULT)) {
            let document = document(file)?;
            if let Some(set) = document.pointer("/process/capabilities/bounding") {
                return Ok(strings(set));
            }
        }
        Ok(Vec::new())
    }
}

/// gabion's own profile, in the place of a file.
const DEFAULT: &str = "default";

fn strings(value: &Value) -> Vec<String> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// What a filter may let through of the floor: what judgement asks.
pub(crate) fn gaps(
    filters: &Filters,
    filter: &Value,
    bounding: &[String],
) -> Result<Vec<SeccompGap>, String> {
    let study = filters.study(filter).map_err(|error| error.to_string())?;
    let gaps = study.gaps(bounding).into_iter();
    Ok(gaps
        .map(|gap| SeccompGap {
            entry: gap.entry.to_owned(),
            restricted: gap.restricted,
            calls: gap.calls,
        })
        .collect())
}

pub(crate) fn run(options: &Options) -> Result<ExitCode, Failure> {
    match &options.command {
        Command::Show(options) => show(options),
        Command::Diff(options) => diff(options),
        Command::Test(options) => test(options),
        Command::Floor(options) => list_floor(options),
    }
}

/// A file as JSON.
fn document(path: &Path) -> Result<Value, Failure> {
    let missing = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    if let Err(error) = std::fs::metadata(path)
        && missing(&error)
    {
        return Err(Failure::error(format!(
            "there is no file {path:?}; a profile is a file, or the word default for gabion's own"
        )));
    }
    let bytes = gabion_host::bundle::read_config(path)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::error(format!("{}: is no JSON: {error}", path.display())))
}

/// Reads a profile; `None` if the file says that there is no filter.
pub(crate) fn read(path: &Path, bounding: &[String]) -> Result<(Value, Option<Profile>), Failure> {
    let value = if path == Path::new(DEFAULT) {
        default::profile(bounding)
    } else {
        oci(document(path)?, bounding)
    };
    let shown = path.display();
    if !value.is_null() && !value.is_object() {
        return Err(Failure::error(format!(
            "{shown}: is no seccomp profile, which is an object with defaultAction and syscalls"
        )));
    }
    let profile = Profile::from_value(&value).map_err(|error| match error.pointer() {
        "" => Failure::error(format!("{shown}: is no seccomp profile: {error}")),
        pointer => Failure::error(format!("{shown}#{pointer}: {error}")),
    })?;
    Ok((value, profile))
}

/// The value of `linux.seccomp`, from a config.json, from Docker's form, or as it is.
///
/// Docker's form has the same rules, each with the containers it is for: `includes` and `excludes`, by capability,
/// architecture and kernel. The kernel is taken to be new.
fn oci(document: Value, bounding: &[String]) -> Value {
    if document.get("ociVersion").is_some() {
        return document.pointer("/linux/seccomp").cloned().unwrap_or(Value::Null);
    }
    let Some(map) = document
        .get("archMap")
        .or_else(|| document.get("archmap"))
        .cloned()
    else {
        return document;
    };
    let (docker_arch, native) = if cfg!(target_arch = "x86_64") {
        ("amd64", "SCMP_ARCH_X86_64")
    } else {
        ("arm64", "SCMP_ARCH_AARCH64")
    };
    let names = |value: &Value, key: &str| strings(&value[key]);
    let has_capability = |list: &[String]| list.iter().any(|one| bounding.contains(one));
    let mut oci = document;
    let mut architectures = vec![native.to_owned()];
    for entry in map.as_array().into_iter().flatten() {
        if entry["architecture"] == native {
            architectures.extend(names(entry, "subArchitectures"));
        }
    }
    if let Some(rules) = oci.get_mut("syscalls").and_then(Value::as_array_mut) {
        rules.retain(|rule| {
            let (includes, excludes) = (&rule["includes"], &rule["excludes"]);
            let (wanted, unwanted) = (names(includes, "caps"), names(excludes, "caps"));
            let (arches, not_arches) = (names(includes, "arches"), names(excludes, "arches"));
            (wanted.is_empty() || has_capability(&wanted))
                && !has_capability(&unwanted)
                && (arches.is_empty() || arches.iter().any(|arch| arch == docker_arch))
                && !not_arches.iter().any(|arch| arch == docker_arch)
        });
    }
    if let Some(object) = oci.as_object_mut() {
        object.insert("architectures".to_owned(), architectures.into());
        object.remove("archMap");
    }
    oci
}

fn compiled(path: &Path, profile: &Profile) -> Result<gabion_seccomp::Compiled, Failure> {
    compile(profile, &Target::native())
        .map_err(|error| Failure::error(format!("{}: {error}", path.display())))
}

fn outcomes(path: &Path, profile: Option<&Profile>) -> Result<BTreeMap<String, String>, Failure> {
    match profile {
        Some(profile) => {
            words::outcomes(profile).map_err(|error| Failure::error(format!("{}: {error}", path.display())))
        }
        None => Ok(gabion_seccomp::syscalls::all(gabion_seccomp::Abi::NATIVE)
            .into_iter()
            .map(|(name, _)| (name, words::said(Verdict::Allow)))
            .collect()),
    }
}

fn show(options: &Show) -> Result<ExitCode, Failure> {
    let path = &options.filter;
    let bounding = options.container.bounding(&[path])?;
    let (value, profile) = read(path, &bounding)?;
    let Some(profile) = profile else {
        return print::out("There is no filter: every system call is made.\n");
    };
    let width = Some(print::prose_width());
    let compiled = compiled(path, &profile)?;
    let mut out = String::new();
    let architectures: Vec<&str> = profile.architectures.iter().map(|one| one.as_str()).collect();
    let sentence = format!(
        "A call that is not named {}; one that is newer than those that are named may fail with ENOSYS instead. For {}. \
         Architectures: {}. {} instructions.",
        words::action(profile.default_action, profile.default_errno_ret),
        container_in_words(&bounding),
        if architectures.is_empty() {
            "the native one".to_owned()
        } else {
            architectures.join(", ")
        },
        compiled.program.instructions.len(),
    );
    out.push_str(&wrap(&sentence, 0, 0, width));
    out.push('\n');
    let mut by_answer: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (call, words) in words::outcomes(&profile).map_err(|error| Failure::error(error.to_string()))? {
        by_answer.entry(words).or_default().push(call);
    }
    let (plain, conditional): (Vec<_>, Vec<_>) = by_answer
        .into_iter()
        .partition(|(answer, _)| words::answers_in_order(answer).len() == 1);
    for (answer, calls) in plain {
        out.push_str(&format!("\n{} ({})\n", capitalized(&answer), calls.len()));
        out.push_str(&wrap(&calls.join(", "), 2, 2, width));
        out.push('\n');
    }
    if !conditional.is_empty() {
        let title = "Depends on arguments, which count from 0; the first line that holds is the answer";
        out.push_str(&format!("\n{}\n", wrap(title, 0, 2, width)));
    }
    for (answer, calls) in conditional {
        out.push_str(&wrap(&calls.join(", "), 2, 4, width));
        out.push('\n');
        for answer in words::answers_in_order(&answer) {
            out.push_str(&wrap(answer, 4, 6, width));
            out.push('\n');
        }
    }
    let elsewhere = words::read_otherwise_elsewhere(&profile);
    if !elsewhere.is_empty() {
        out.push_str("\nMeans something else to other runtimes\n");
    }
    for words in elsewhere {
        out.push_str(&wrap(&words, 2, 4, width));
        out.push('\n');
    }
    if !compiled.ignored_names.is_empty() {
        let all = native_calls();
        let names: Vec<String> = compiled
            .ignored_names
            .iter()
            .map(|name| match nearest(name, all.iter().map(String::as_str)) {
                Some(near) => format!("{name} ({near}?)"),
                None => name.clone(),
            })
            .collect();
        let names = format!("Not known, and without effect: {}.", names.join(", "));
        out.push_str(&format!("\n{}\n", wrap(&names, 0, 0, width)));
    }
    out.push_str(&format!(
        "\n{}\n",
        wrap(&floor_sentence(&value, &bounding)?, 0, 0, width)
    ));
    print::out(&out)
}

/// The names of all calls of this architecture.
fn native_calls() -> Vec<String> {
    let all = gabion_seccomp::syscalls::all(gabion_seccomp::Abi::NATIVE);
    all.into_iter().map(|(name, _)| name).collect()
}

fn container_in_words(bounding: &[String]) -> String {
    let names: Vec<&str> = bounding
        .iter()
        .map(|name| name.trim_start_matches("CAP_"))
        .collect();
    match names.as_slice() {
        [] => "a container without capabilities (--cap)".to_owned(),
        names => format!("a container that may have {}", names.join(", ")),
    }
}

fn floor_sentence(value: &Value, bounding: &[String]) -> Result<String, Failure> {
    let gaps = floor::gaps(value, bounding).map_err(|error| Failure::error(error.to_string()))?;
    let names: Vec<&str> = gaps
        .iter()
        .filter(|gap| !gap.restricted)
        .map(|gap| gap.entry)
        .collect();
    Ok(if names.is_empty() {
        "It lets nothing through of the floor under baseline.".to_owned()
    } else {
        format!(
            "Of the floor it lets through, and baseline denies with a second filter: {}.",
            names.join(", ")
        )
    })
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn diff(options: &Diff) -> Result<ExitCode, Failure> {
    let bounding = options.container.bounding(&[&options.old, &options.new])?;
    let (_, old) = read(&options.old, &bounding)?;
    let (_, new) = read(&options.new, &bounding)?;
    let width = Some(print::prose_width());
    let text = differences((&options.old, old.as_ref()), (&options.new, new.as_ref()), width)?;
    if text.is_empty() {
        return print::out("No system call is answered differently.\n");
    }
    print::out(&text)?;
    Ok(ExitCode::from(2))
}

/// The calls that two profiles answer differently, in words; nothing if there are none.
pub(crate) fn differences(
    (old_path, old): (&Path, Option<&Profile>),
    (new_path, new): (&Path, Option<&Profile>),
    width: Option<usize>,
) -> Result<String, Failure> {
    let (old, new) = (outcomes(old_path, old)?, outcomes(new_path, new)?);
    let mut changes: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for (call, before) in &old {
        let after = new.get(call).map_or("", String::as_str);
        if before != after {
            changes.entry((before, after)).or_default().push(call);
        }
    }
    let mut out = String::new();
    for ((before, after), calls) in changes {
        out.push_str(&wrap(&calls.join(", "), 0, 0, width));
        out.push('\n');
        for (sign, answers) in [('-', before), ('+', after)] {
            for answer in words::answers_in_order(answers) {
                out.push_str(&wrap(&format!("{sign} {answer}"), 2, 6, width));
                out.push('\n');
            }
        }
    }
    Ok(out)
}

fn test(options: &Test) -> Result<ExitCode, Failure> {
    let bounding = options.container.bounding(&[&options.filter])?;
    let (value, profile) = read(&options.filter, &bounding)?;
    let mut arguments = Vec::new();
    for text in &options.arguments {
        let value = words::argument(text).map_err(|part| {
            let near = or_meant(nearest(&part, words::known_names()));
            Failure::error(format!(
                "{part:?} is neither a number nor a name that is known{near}"
            ))
        })?;
        arguments.push(value);
    }
    let mut own = Vec::new();
    if let Some(profile) = &profile {
        own.push(compiled(&options.filter, profile)?.program);
    }
    let mut with_floor = own.clone();
    with_floor.extend(floor_of(&value, &bounding)?);
    let ask = |programs: &[Program]| {
        words::answers(programs, &options.call, &arguments).ok_or_else(|| {
            let all = native_calls();
            let near = or_meant(nearest(&options.call, all.iter().map(String::as_str)));
            Failure::error(format!(
                "there is no system call {:?} on this architecture{near}",
                options.call
            ))
        })
    };
    let (answers, stacked) = (ask(&own)?, ask(&with_floor)?);
    let shown = match options.arguments.as_slice() {
        [] => options.call.clone(),
        arguments => format!("{}({})", options.call, arguments.join(", ")),
    };
    let asked = if options.floor { &stacked } else { &answers };
    let mut out = format!("{shown}: {}\n", in_words(asked));
    if !options.floor && stacked != answers {
        out.push_str(&format!("with the floor of baseline: {}\n", in_words(&stacked)));
    }
    print::out(&out)?;
    Ok(match asked.as_slice() {
        [answer] if answer.lets_through() => ExitCode::SUCCESS,
        [_] => ExitCode::from(2),
        _ => ExitCode::from(3),
    })
}

/// Answers of which one is given.
fn in_words(answers: &[Verdict]) -> String {
    let words: Vec<String> = answers.iter().map(|answer| words::said(*answer)).collect();
    match words.as_slice() {
        [answer] => answer.clone(),
        several => format!(
            "{}; that depends on arguments, and gabion seccomp show has the conditions",
            several.join(", or ")
        ),
    }
}

/// The filter that baseline loads under a profile, if it needs one.
fn floor_of(value: &Value, bounding: &[String]) -> Result<Option<Program>, Failure> {
    let gaps = floor::gaps(value, bounding).map_err(|error| Failure::error(error.to_string()))?;
    let entries: Vec<String> = gaps
        .iter()
        .filter(|gap| !gap.restricted)
        .map(|gap| gap.entry.to_owned())
        .collect();
    let filter = floor::filter(&entries, bounding).map_err(|error| Failure::error(error.to_string()))?;
    Ok(filter.map(|filter| filter.program))
}

fn list_floor(options: &Floor) -> Result<ExitCode, Failure> {
    let width = Some(print::prose_width());
    let named: Vec<&Path> = options.filter.iter().map(PathBuf::as_path).collect();
    let bounding = options.container.bounding(&named)?;
    let mut out = String::new();
    match &options.filter {
        None => {
            for entry in floor::ENTRIES {
                let only = if entry.restricted {
                    " (restricted only)"
                } else {
                    ""
                };
                out.push_str(&wrap(
                    &format!("{}{only}: {}", entry.name, entry.reason),
                    0,
                    4,
                    width,
                ));
                out.push('\n');
            }
        }
        Some(path) => {
            let (value, _) = read(path, &bounding)?;
            let gaps = floor::gaps(&value, &bounding).map_err(|error| Failure::error(error.to_string()))?;
            if gaps.is_empty() {
                return print::out("It lets nothing through of the floor.\n");
            }
            for gap in gaps {
                let only = if gap.restricted { " (restricted only)" } else { "" };
                out.push_str(&wrap(
                    &format!("{}{only}: {}", gap.entry, gap.calls.join(", ")),
                    0,
                    4,
                    width,
                ));
                out.push('\n');
            }
        }
    }
    print::out(&out)
}
