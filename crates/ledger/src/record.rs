//! What a line of the ledger says.

use serde::Serialize;

use crate::timestamp::Timestamp;

/// The version of the format. It changes when a property changes its meaning or goes away; new ones come
/// without.
pub const VERSION: u32 = 1;

/// One decision. Each field is the property of the same name; those that are `None` or empty are left out,
/// except `findings`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Record {
    /// When it was made.
    pub time: Timestamp,
    /// [`VERSION`].
    pub version: u32,
    /// The container's id.
    pub id: String,
    /// What was asked for.
    pub operation: Operation,
    /// What came of it.
    pub verdict: Verdict,
    /// The profile that it was judged under, such as `baseline`.
    pub profile: String,
    /// The bundle's directory as the engine gave it, made absolute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
    /// The name of the process that called gabion, from `/proc/<ppid>/comm`. A hint for the reader: any program
    /// can give itself any name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// What judgement found, whatever the verdict.
    pub findings: Vec<RecordedFinding>,
    /// The error, for the verdicts `refused`, `mismatch` and `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Record {
    /// A record of this moment; the rest is filled in by whoever decided.
    pub fn now(
        id: impl Into<String>,
        operation: Operation,
        verdict: Verdict,
        profile: impl Into<String>,
    ) -> Self {
        Record {
            time: Timestamp::now(),
            version: VERSION,
            id: id.into(),
            operation,
            verdict,
            profile: profile.into(),
            bundle: None,
            engine: calling_program(),
            findings: Vec::new(),
            message: None,
        }
    }

    /// The record as a line, line end included.
    ///
    /// JSON escapes every control character in a string, so no text of a bundle can end the line early and
    /// write a decision of its own.
    pub(crate) fn to_line(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line)
    }
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// A container was to be created.
    Create,
    /// A created container was to be started.
    Start,
    /// A container was to be created and started at once.
    Run,
    /// A process was to be started in a running container.
    Exec,
    /// The limits of a container were to be changed.
    Update,
    /// A container was to be written to files.
    Checkpoint,
    /// A container was to be made from such files.
    Restore,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Judged and admitted.
    Admitted,
    /// Judged and refused; nothing ran.
    Refused,
    /// The kernel's state was not what was judged; nothing ran.
    Mismatch,
    /// The workload's program was started.
    Started,
    /// It was admitted and is done; nothing was started.
    Done,
    /// It was admitted and could not be done.
    Failed,
}

/// One finding, as much as the ledger keeps of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordedFinding {
    /// `CAP-03:SYS_ADMIN`.
    pub rule: String,
    /// Of several findings of one rule that differ in their value alone, the values: `AF_ALG`, `io_uring`. `rule` is
    /// then without one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// `deny`, `harden` or `audit`.
    pub action: String,
    /// A JSON pointer into config.json.
    pub pointer: String,
    /// The waiver by which it was tolerated: its owner and last day, and where the policy has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiver: Option<String>,
}

fn calling_program() -> Option<String> {
    let path = format!("/proc/{}/comm", nix::unistd::getppid());
    let name = std::fs::read(path).ok()?;
    let name = String::from_utf8_lossy(&name).trim_end_matches('\n').to_owned();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_exactly_this() {
        let mut record = Record::now("web-1", Operation::Create, Verdict::Refused, "baseline");
        record.bundle = Some("/run/b/web-1".to_owned());
        record.engine = Some("containerd-shim".to_owned());
        record.message = Some("gabion refused web-1: …".to_owned());
        record.findings = vec![RecordedFinding {
            rule: "MNT-02".to_owned(),
            values: Vec::new(),
            action: "deny".to_owned(),
            pointer: "/mounts/9/source".to_owned(),
            waiver: None,
        }];
        let expected = format!(
            "{{\"time\":\"{}\",\"version\":1,\"id\":\"web-1\",\"operation\":\"create\",\"verdict\":\"refused\",\
             \"profile\":\"baseline\",\"bundle\":\"/run/b/web-1\",\"engine\":\"containerd-shim\",\
             \"findings\":[{{\"rule\":\"MNT-02\",\"action\":\"deny\",\"pointer\":\"/mounts/9/source\"}}],\
             \"message\":\"gabion refused web-1: …\"}}\n",
            record.time
        );
        assert_eq!(String::from_utf8(record.to_line().unwrap()).unwrap(), expected);
    }

    #[test]
    fn a_bundle_cannot_write_a_line_of_its_own() {
        let mut record = Record::now(
            "x\n{\"verdict\":\"admitted\"}",
            Operation::Run,
            Verdict::Refused,
            "p",
        );
        record.message = Some("\r\n\u{0}\n".to_owned());
        let line = record.to_line().unwrap();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(line.last(), Some(&b'\n'));
    }

    #[test]
    fn the_calling_program_is_named() {
        assert!(calling_program().is_some_and(|name| !name.is_empty() && !name.contains('\n')));
    }
}
