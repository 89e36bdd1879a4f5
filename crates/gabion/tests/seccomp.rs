//! `gabion seccomp`: what a person reads who has a profile and a question.

#![allow(clippy::unwrap_used)] // a test file

mod common;

use std::fs;

use common::{Answer, Site};

/// What dockerd 20.10 sends for `docker run`.
const DOCKER: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../baseline/tests/bundles/docker20-default.json"
);

fn seccomp(words: &[&str]) -> Answer {
    Site::new().gabion(&[&["seccomp"], words].concat())
}

/// The text without its line breaks.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn show_says_for_whom_and_in_which_order() {
    let answer = seccomp(&["show", DOCKER]);
    let text = flat(&answer.stdout);
    assert_eq!(answer.status, 0, "{answer:?}");
    for part in [
        "A call that is not named fails with EPERM; one that is newer than those that are named may fail with ENOSYS instead.",
        "For a container that may have CHOWN, DAC_OVERRIDE,",
        "Depends on arguments, which count from 0; the first line that holds is the answer clone allowed if argument 0 has none \
         of CLONE_NEWNS|",
        "(0x7e020000) else fails with EPERM personality allowed if argument 0 is PER_LINUX (0) allowed if argument 0 is",
        "Of the floor it lets through, and baseline denies with a second filter: AF_ALG,",
    ] {
        assert!(text.contains(part), "{part:?} in {}", answer.stdout);
    }
    assert!(!text.contains("Means something else"), "{}", answer.stdout);
    let text = flat(&seccomp(&["show"]).stdout);
    assert!(
        text.contains("For a container without capabilities (--cap)."),
        "{text}"
    );
    // What denies stands before what allows, as it is tried.
    let deny = text
        .find("fails with EPROTONOSUPPORT if argument 0 is AF_NETLINK (16)")
        .unwrap();
    assert!(
        deny < text.find("allowed if argument 0 is AF_NETLINK (16)").unwrap(),
        "{text}"
    );
    assert!(
        text.contains("argument 1 is TIOCSTI (0x5412) in its low 32 bits"),
        "{text}"
    );
}

#[test]
fn diff_is_for_the_container_whose_configuration_is_named() {
    let answer = seccomp(&["diff", DOCKER, "default"]);
    assert_eq!(answer.status, 2);
    // Docker's containers have SYS_CHROOT, and gabion's default allows it to those.
    assert!(!answer.stdout.contains("chroot"), "{}", answer.stdout);
    assert!(
        answer
            .stdout
            .contains("ioctl\n  - allowed\n  + fails with EPERM if argument 1 is TIOCSTI"),
        "{}",
        answer.stdout
    );
    let other = seccomp(&["diff", "--cap", "net_raw", DOCKER, "default"]);
    assert!(
        other
            .stdout
            .contains("chroot\n  - allowed\n  + fails with EPERM\n"),
        "{}",
        other.stdout
    );
    let same = seccomp(&["diff", DOCKER, DOCKER]);
    assert_eq!(
        (same.status, same.stdout.as_str()),
        (0, "No system call is answered differently.\n")
    );
}

#[test]
fn test_tells_of_the_floor_as_well() {
    let test = |words: &[&str]| {
        let answer = seccomp(&[&["test", "--filter", DOCKER], words].concat());
        (answer.status, answer.stdout)
    };
    let floor = "with the floor of baseline: fails with EAFNOSUPPORT\n";
    assert_eq!(
        test(&["socket", "AF_VSOCK"]),
        (0, format!("socket(AF_VSOCK): allowed\n{floor}"))
    );
    assert_eq!(
        test(&["--floor", "socket", "AF_VSOCK"]),
        (2, "socket(AF_VSOCK): fails with EAFNOSUPPORT\n".to_owned())
    );
    assert_eq!(test(&["mkdir"]), (0, "mkdir: allowed\n".to_owned()));
    let (status, text) = test(&["clone"]);
    assert_eq!(status, 3);
    assert!(
        text.starts_with("clone: fails with EPERM, or allowed; that depends on arguments"),
        "{text}"
    );
}

#[test]
fn what_cannot_be_understood_is_said() {
    let site = Site::new();
    let file = |name: &str, text: &str| {
        fs::write(site.path(name), text).unwrap();
        site.path(name).to_str().unwrap().to_owned()
    };
    let rules =
        r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["opennat"],"action":"SCMP_ACT_ALLOW"}]}"#;
    let mistyped = file("mistyped.json", rules);
    let shown = flat(&seccomp(&["show", &mistyped]).stdout);
    assert!(
        shown.contains("Not known, and without effect: opennat (openat?)."),
        "{shown}"
    );
    for (words, text) in [
        (
            &["show", "/nowhere/x.json"][..],
            "there is no file \"/nowhere/x.json\"; a profile is a file, or the word default",
        ),
        (&["show", &file("text", "no")], "is no JSON"),
        (
            &["show", &file("list.json", "[]")],
            "is no seccomp profile, which is an object with defaultAction and syscalls",
        ),
        (
            &["show", &file("other.json", r#"{"a":1}"#)],
            "is no seccomp profile: missing field `defaultAction`",
        ),
        (
            &["show", "--cap", "net_admn"],
            "there is no capability CAP_NET_ADMN; did you mean CAP_NET_ADMIN?",
        ),
        (
            &["test", "sokcet"],
            "there is no system call \"sokcet\" on this architecture; did you mean socket?",
        ),
        (&["test", "socket", "AF_VSCOK"], "did you mean AF_VSOCK?"),
    ] {
        let answer = seccomp(words);
        assert!(
            answer.status != 0 && answer.stderr.contains(text),
            "{words:?}: {answer:?}"
        );
    }
    let twice = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["socket"],"action":"SCMP_ACT_ERRNO","args":[
        {"index":0,"value":38,"op":"SCMP_CMP_EQ"},{"index":0,"value":40,"op":"SCMP_CMP_EQ"}]}]}"#;
    let shown = flat(&seccomp(&["show", &file("twice.json", twice)]).stdout);
    let words = "Means something else to other runtimes socket: a rule has several conditions on argument 0, and all have to \
                 hold: argument 0 is AF_ALG (38) and argument 0 is AF_VSOCK (40). runc and crun take each";
    assert!(shown.contains(words), "{shown}");
}
