//! Compiles the filters that ordinary containers get, with the compiler that the program itself has, and says which
//! compiler that is: the digest of its source.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use gabion_seccomp::{default, floor};
use serde_json::Value;
use sha2::{Digest, Sha256};

#[path = "src/common.rs"]
mod common;
#[path = "src/key.rs"]
mod key;

use key::{Key, Kind, key};

fn main() -> Outcome<()> {
    let source = Path::new("../seccomp/src");
    println!("cargo::rerun-if-changed={}", source.display());
    for file in ["build.rs", "src/common.rs", "src/key.rs", "../seccomp/profiles"] {
        println!("cargo::rerun-if-changed={file}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let compiler = digest_of(source)?;
    let mut code = format!("pub(crate) const COMPILER: Key = {compiler:?};\n");
    code.push_str("pub(crate) static RECORDS: &[(Key, &[u8])] = &[\n");
    // A program for another architecture has other numbers than this script: it compiles at run time.
    if env::var("CARGO_CFG_TARGET_ARCH")? == env::consts::ARCH {
        for (index, (key, bytes)) in records(&compiler)?.iter().enumerate() {
            let file = out.join(format!("{index}.filter"));
            fs::write(&file, bytes)?;
            writeln!(code, "    ({key:?}, include_bytes!({file:?})),")?;
        }
    }
    code.push_str("];\n");
    fs::write(out.join("built_in.rs"), code)?;
    Ok(())
}

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn records(compiler: &Key) -> Outcome<Vec<(Key, Vec<u8>)>> {
    let mut records = Vec::new();
    for (engine, text) in common::ENGINES_PROFILES {
        let profile: Value = serde_json::from_str(text).map_err(|error| format!("{engine}: {error}"))?;
        records.push((
            key(compiler, Kind::Study, &profile)?,
            floor::study(&profile)?.to_bytes(),
        ));
    }
    for bounding in common::common_bounding_sets() {
        let profile = default::profile(&bounding);
        records.push((
            key(compiler, Kind::Study, &profile)?,
            floor::study(&profile)?.to_bytes(),
        ));
        for entries in common::common_floors() {
            let selection = floor::Selection::new(&entries, &bounding)?;
            let key = key(
                compiler,
                Kind::Floor,
                &(&selection.entries, &selection.capabilities),
            )?;
            if let Some(filter) = selection.filter()?
                && records.iter().all(|(other, _)| *other != key)
            {
                records.push((key, filter.to_bytes()));
            }
        }
    }
    records.sort();
    Ok(records)
}

/// The digest of every file below a directory, names included.
fn digest_of(directory: &Path) -> Outcome<Key> {
    let mut open = vec![directory.to_owned()];
    let mut files = Vec::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            for entry in fs::read_dir(&path)? {
                open.push(entry?.path());
            }
        } else {
            files.push(path);
        }
    }
    files.sort();
    let mut digest = Sha256::new();
    for file in files {
        let bytes = fs::read(&file)?;
        let name = file.strip_prefix(directory)?.to_string_lossy().into_owned();
        for part in [name.as_bytes(), &bytes] {
            digest.update(u64::try_from(part.len())?.to_le_bytes());
            digest.update(part);
        }
    }
    Ok(digest.finalize().into())
}
