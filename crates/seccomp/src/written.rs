//! What was made of a profile, as bytes: for filters that are made once and used again.
//!
//! ```text
//! length of the header (4 bytes, little-endian) │ header (JSON) │ the program, as the kernel takes it
//! ```
//!
//! Reading checks the form: the program is one that the kernel takes, entries of the floor exist. Whether the bytes are
//! those that were written is for whoever keeps them to know.

use serde::{Deserialize, Serialize};

use crate::compile::Compiled;
use crate::floor::{ENTRIES, Passing, Study};
use crate::profile::Architecture;
use crate::program::{InvalidProgram, Program};

/// Why bytes are nothing that was written here. Displays as the reason.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// They end too early.
    #[error("it is cut off")]
    Short,
    /// The header is none.
    #[error("its header cannot be read: {0}")]
    Header(#[from] serde_json::Error),
    /// The program is none that the kernel takes.
    #[error("its filter is none: {0}")]
    Program(#[from] InvalidProgram),
    /// It is about an entry that the floor does not have, or one without calls.
    #[error("it is about an entry that the floor does not have")]
    Entry,
    /// There is a program and no filter that it is of, or the other way round.
    #[error("its header and its filter do not belong together")]
    Mixed,
}

/// A filter without its program.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Around {
    flags: u64,
    ignored_names: Vec<String>,
    ignored_architectures: Vec<Architecture>,
    listener: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    filter: Option<Around>,
    /// Entry by name, part, calls; of a study alone.
    passing: Vec<(String, usize, Vec<String>)>,
}

impl Study {
    /// Writes it down.
    pub fn to_bytes(&self) -> Vec<u8> {
        let passing = self.passing.iter().filter_map(|passing| {
            let entry = ENTRIES.get(passing.entry)?;
            Some((entry.name.to_owned(), passing.part, passing.calls.clone()))
        });
        write(self.compiled.as_ref(), passing.collect())
    }

    /// Reads what [`Study::to_bytes`] wrote.
    ///
    /// # Errors
    /// The bytes are nothing of the kind.
    pub fn from_bytes(bytes: &[u8]) -> Result<Study, Unreadable> {
        let (compiled, passing) = read(bytes)?;
        let passing = passing.into_iter().map(|(name, part, calls)| {
            let entry = ENTRIES.iter().position(|entry| entry.name == name);
            let entry = entry.ok_or(Unreadable::Entry)?;
            let exists = ENTRIES.get(entry).is_some_and(|entry| part < entry.parts.len());
            match exists && !calls.is_empty() {
                true => Ok(Passing { entry, part, calls }),
                false => Err(Unreadable::Entry),
            }
        });
        let passing = passing.collect::<Result<_, _>>()?;
        Ok(Study { compiled, passing })
    }
}

impl Compiled {
    /// Writes it down.
    pub fn to_bytes(&self) -> Vec<u8> {
        write(Some(self), Vec::new())
    }

    /// Reads what [`Compiled::to_bytes`] wrote.
    ///
    /// # Errors
    /// The bytes are nothing of the kind.
    pub fn from_bytes(bytes: &[u8]) -> Result<Compiled, Unreadable> {
        match read(bytes)? {
            (Some(compiled), passing) if passing.is_empty() => Ok(compiled),
            _ => Err(Unreadable::Mixed),
        }
    }
}

fn write(compiled: Option<&Compiled>, passing: Vec<(String, usize, Vec<String>)>) -> Vec<u8> {
    let header = Header {
        filter: compiled.map(|compiled| Around {
            flags: compiled.flags,
            ignored_names: compiled.ignored_names.clone(),
            ignored_architectures: compiled.ignored_architectures.clone(),
            listener: compiled.listener,
        }),
        passing,
    };
    // Strings, numbers and lists: there is nothing in it that JSON does not have.
    let header = serde_json::to_vec(&header).unwrap_or_default();
    let mut bytes = u32::try_from(header.len()).unwrap_or(0).to_le_bytes().to_vec();
    bytes.extend_from_slice(&header);
    if let Some(compiled) = compiled {
        bytes.extend_from_slice(&compiled.program.to_bytes());
    }
    bytes
}

type Read = (Option<Compiled>, Vec<(String, usize, Vec<String>)>);

fn read(bytes: &[u8]) -> Result<Read, Unreadable> {
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or(Unreadable::Short)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| Unreadable::Short)?;
    let (header, program) = rest.split_at_checked(length).ok_or(Unreadable::Short)?;
    let header: Header = serde_json::from_slice(header)?;
    let compiled = match header.filter {
        Some(around) => Some(Compiled {
            program: Program::from_bytes(program)?,
            flags: around.flags,
            ignored_names: around.ignored_names,
            ignored_architectures: around.ignored_architectures,
            listener: around.listener,
        }),
        None if program.is_empty() => None,
        None => return Err(Unreadable::Mixed),
    };
    Ok((compiled, header.passing))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::floor::{Selection, study};
    use serde_json::{Value, json};

    #[test]
    fn what_is_written_is_what_is_read_and_is_consistent() {
        let docker: Value = serde_json::from_str(include_str!("../profiles/docker-20.10.json")).unwrap();
        let odd = json!({"defaultAction": "SCMP_ACT_ERRNO", "listenerPath": "/run/l",
            "architectures": ["SCMP_ARCH_S390X"], "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "syscalls": [{"names": ["mount", "frobnicate"], "action": "SCMP_ACT_NOTIFY"}]});
        for value in [
            docker,
            odd,
            json!({"defaultAction": "SCMP_ACT_ALLOW"}),
            Value::Null,
        ] {
            let study = study(&value).unwrap();
            assert!(study.is_consistent());
            assert_eq!(Study::from_bytes(&study.to_bytes()).unwrap(), study);
        }
        let every: Vec<String> = ENTRIES.iter().map(|entry| entry.name.to_owned()).collect();
        let selection = Selection::new(&every, &[]).unwrap();
        let floor = selection.filter().unwrap().unwrap();
        assert!(selection.is_denied_by(&floor));
        assert_eq!(Compiled::from_bytes(&floor.to_bytes()).unwrap(), floor);
    }

    #[test]
    fn nothing_is_read_of_what_is_cut_off_or_does_not_fit() {
        let denies = json!({"defaultAction": "SCMP_ACT_ERRNO"});
        let whole = study(&denies).unwrap().to_bytes();
        for length in 0..whole.len() {
            let cut = Study::from_bytes(&whole[..length]);
            // Whole instructions may be missing without the kernel minding; the digest of the whole is for that.
            assert!(
                cut.is_err() || (whole.len() - length).is_multiple_of(8),
                "{length}"
            );
        }
        let header = |text: &str, program: &[u8]| {
            let mut bytes = u32::try_from(text.len()).unwrap().to_le_bytes().to_vec();
            bytes.extend_from_slice(text.as_bytes());
            bytes.extend_from_slice(program);
            Study::from_bytes(&bytes).unwrap_err().to_string()
        };
        assert_eq!(
            header(r#"{"filter":null,"passing":[["AF_ALGG",0,["socket(38)"]]]}"#, &[]),
            "it is about an entry that the floor does not have"
        );
        assert_eq!(
            header(r#"{"filter":null,"passing":[["AF_ALG",1,["socket(38)"]]]}"#, &[]),
            "it is about an entry that the floor does not have"
        );
        assert_eq!(
            header(r#"{"filter":null,"passing":[]}"#, &[0; 8]),
            "its header and its filter do not belong together"
        );
        assert!(
            Compiled::from_bytes(
                &study(&json!({"defaultAction": "SCMP_ACT_ALLOW"}))
                    .unwrap()
                    .to_bytes()
            )
            .is_err()
        );
    }

    #[test]
    fn a_study_that_says_denied_of_a_filter_that_lets_through_is_not_consistent() {
        let strict = study(&json!({"defaultAction": "SCMP_ACT_ERRNO"})).unwrap();
        let open = study(&json!({"defaultAction": "SCMP_ACT_ALLOW"})).unwrap();
        let forged = Study {
            compiled: open.compiled.clone(),
            passing: strict.passing.clone(),
        };
        assert!(strict.is_consistent() && open.is_consistent() && !forged.is_consistent());
        let nothing = Study {
            compiled: None,
            passing: Vec::new(),
        };
        assert!(!nothing.is_consistent());
        let selection = Selection::new(&["bpf".to_owned()], &[]).unwrap();
        assert!(selection.is_denied_by(strict.compiled.as_ref().unwrap()));
        assert!(!selection.is_denied_by(open.compiled.as_ref().unwrap()));
    }
}
