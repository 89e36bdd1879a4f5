//! The ledger among several processes, and where there is no room: in processes of their own, since limits and
//! locks belong to a process.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test file, its functions beside the tests included

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use gabion_ledger::{Ledger, Operation, Record, RecordedFinding, Settings, Verdict};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal};

const PROCESSES: usize = 8;
const RECORDS: usize = 500;

fn open(path: &Path) -> Ledger {
    Ledger::open(&Settings {
        path: path.to_owned(),
        required: true,
    })
    .unwrap()
}

/// A record of about 3 KiB: lines that cross pages come apart first.
fn record(id: String) -> Record {
    let mut record = Record::now(id, Operation::Create, Verdict::Refused, "baseline");
    let finding = |i| RecordedFinding {
        rule: format!("CAP-03:CAPABILITY_{i}"),
        values: Vec::new(),
        action: "deny".to_owned(),
        pointer: "/process/capabilities/bounding".to_owned(),
        waiver: None,
    };
    record.findings = (0..30).map(finding).collect();
    record
}

/// Runs one of the ignored tests below in a process of its own, on this ledger.
fn command(part: &str, ledger: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", part, "--ignored", "--nocapture"])
        .env("LEDGER", ledger);
    command.stdout(Stdio::null());
    command
}

fn ledger_of_this_process() -> PathBuf {
    std::env::var_os("LEDGER")
        .map(PathBuf::from)
        .expect("run by another test of this file")
}

#[test]
fn lines_of_many_processes_never_interleave_and_none_is_lost() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("decisions.jsonl");
    let mut writers: Vec<_> = (0..PROCESSES)
        .map(|_| command("part_many_records", &path).spawn().unwrap())
        .collect();
    for writer in &mut writers {
        assert!(writer.wait().unwrap().success());
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let mut ids: Vec<String> = text
        .lines()
        .map(|line| {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(record["findings"].as_array().unwrap().len(), 30);
            record["id"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(ids.len(), PROCESSES * RECORDS);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), PROCESSES * RECORDS);
}

#[test]
#[ignore = "a part of lines_of_many_processes_never_interleave_and_none_is_lost"]
fn part_many_records() {
    let mut ledger = open(&ledger_of_this_process());
    for i in 0..RECORDS {
        ledger
            .record(&record(format!("{}-{i}", std::process::id())))
            .unwrap();
    }
}

#[test]
fn without_room_a_record_is_an_error_and_no_part_of_it_stays() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("decisions.jsonl");
    let status = command("part_without_room", &path).status().unwrap();
    assert!(status.success());
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 3);
    for line in text.lines() {
        let _: serde_json::Value = serde_json::from_str(line).unwrap();
    }
}

#[test]
#[ignore = "a part of without_room_a_record_is_an_error_and_no_part_of_it_stays"]
fn part_without_room() {
    let path = ledger_of_this_process();
    // RLIMIT_FSIZE ends a write where a full disk would: short at first, then an error. It also sends
    // SIGXFSZ, which a full disk does not.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    signals.thread_block().unwrap();
    let mut ledger = open(&path);
    ledger.record(&record("first".to_owned())).unwrap();
    let one = std::fs::metadata(&path).unwrap().len();
    setrlimit(Resource::RLIMIT_FSIZE, 3 * one + one / 2, 3 * one + one / 2).unwrap();
    ledger.record(&record("later".to_owned())).unwrap();
    ledger.record(&record("again".to_owned())).unwrap();
    let length = std::fs::metadata(&path).unwrap().len();
    let short = ledger
        .record(&record("short".to_owned()))
        .unwrap_err()
        .to_string();
    assert!(
        short.starts_with(&format!("cannot append to the ledger {path:?}: ")),
        "{short}"
    );
    assert!(short.contains(" bytes were written (taken back)"), "{short}");
    assert!(
        short.contains("Make room for it, or set `required = false` in [ledger]"),
        "{short}"
    );
    assert_eq!(std::fs::metadata(&path).unwrap().len(), length);
    setrlimit(Resource::RLIMIT_FSIZE, length, 3 * one + one / 2).unwrap();
    let none = ledger.record(&record("none".to_owned())).unwrap_err().to_string();
    assert!(none.contains("File too large"), "{none}");
    assert_eq!(std::fs::metadata(&path).unwrap().len(), length);
}
