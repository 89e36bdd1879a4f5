//! AppArmor (apparmor(7)): a profile is applied at execve, verified right before it (V-06), and judged (LSM-01, LSM-02).
//!
//! It takes a kernel with AppArmor, and root who may load profiles. Profiles are the whole host's: each test has its own,
//! but for the one that is about a name that engines use.

#![allow(clippy::unwrap_used, clippy::panic)] // a test file

use std::fs;
use std::process::Command;

use gabion_integration::{Answer, Container, Site, has_apparmor, run, skip};
use serde_json::json;

/// A profile that is loaded, and removed with the test.
struct Profile<'site> {
    site: &'site Site,
    name: String,
}

impl<'site> Profile<'site> {
    /// Loads one that forbids a file of the root file system and nothing else.
    fn load(site: &'site Site, name: &str, flags: &str) -> Self {
        let profile = Profile {
            site,
            name: name.to_owned(),
        };
        profile.again(flags);
        profile
    }

    fn own(site: &'site Site, container: &Container<'_>) -> Self {
        Self::load(site, &format!("test-{}", container.id), "")
    }

    fn again(&self, flags: &str) {
        let Profile { site, name } = self;
        let text = format!(
            "profile {name} flags=(attach_disconnected{flags}) {{\n file,\n capability,\n network,\n signal,\n \
             ptrace,\n mount,\n umount,\n pivot_root,\n unix,\n deny /work/secret rwklmx,\n}}\n"
        );
        let path = site.path().join(name);
        fs::write(&path, text).unwrap();
        self.parser("-rK");
    }

    fn parser(&self, how: &str) {
        let path = self.site.path().join(&self.name);
        run(
            Command::new("apparmor_parser").arg(how).arg(path),
            self.site.path(),
        )
        .ok();
    }
}

impl Drop for Profile<'_> {
    fn drop(&mut self) {
        let path = self.site.path().join(&self.name);
        // One that a test has removed already is gone.
        drop(Command::new("apparmor_parser").arg("-R").arg(path).output());
    }
}

/// A container that says what it is confined by, and whether it can read what the profiles forbid.
fn telling(site: &Site) -> Container<'_> {
    let mut container = site.container();
    fs::write(container.rootfs().join("work/secret"), "secret").unwrap();
    container.script(
        "cat /proc/self/attr/apparmor/current > /tmp/label; cat /work/secret > /tmp/read 2>/tmp/why; \
         echo on > /tmp/on; sleep 1000",
    );
    container
}

fn confined_by(container: &mut Container<'_>, profile: &str) {
    container.config["process"]["apparmorProfile"] = json!(profile);
}

fn started(container: &Container<'_>) {
    container.create().ok();
    container.start().ok();
    container.wait_for("tmp/on", "on");
}

fn exec(container: &Container<'_>, flags: &[&str], command: &[&str]) -> Answer {
    let words = [&["exec"], flags, &[container.id.as_str()], command].concat();
    container.site.gabion(&words)
}

const LABEL: [&str; 2] = ["cat", "/proc/self/attr/apparmor/current"];

#[test]
fn a_caller_that_has_unmounted_the_list_of_profiles_does_not_keep_them_from_being_known() {
    if !has_apparmor() {
        return skip("no AppArmor here");
    }
    let site = Site::new();
    let mut container = telling(&site);
    let profile = Profile::own(&site, &container);
    confined_by(&mut container, &profile.name);
    // As podman calls a runtime for a container in a user namespace.
    let wrapper = "umount --lazy --recursive /sys/kernel/security; exec \"$0\" \"$@\"";
    container.caller = ["unshare", "-m", "--propagation", "private", "sh", "-ec", wrapper]
        .map(std::ffi::OsString::from)
        .to_vec();
    started(&container);
    let label = format!("{} (enforce)", profile.name);
    assert_eq!(container.file("tmp/label").trim(), label);
}

#[test]
fn a_profile_holds_for_the_first_process_and_for_further_ones() {
    if !has_apparmor() {
        return skip("no AppArmor here");
    }
    let site = Site::new();
    let mut container = telling(&site);
    let profile = Profile::own(&site, &container);
    let label = format!("{} (enforce)", profile.name);
    confined_by(&mut container, &profile.name);
    started(&container);
    assert_eq!(container.file("tmp/label").trim(), label);
    assert_eq!(container.file("tmp/read"), "");
    assert!(container.file("tmp/why").contains("Permission denied"));
    site.gabion(&["verify", &container.id]).ok();

    assert_eq!(exec(&container, &[], &LABEL).ok().stdout.trim(), label);
    assert_ne!(exec(&container, &[], &["cat", "/work/secret"]).status, 0);
    let same = ["--apparmor", profile.name.as_str()];
    assert_eq!(exec(&container, &same, &LABEL).ok().stdout.trim(), label);
    // Another one would be a way out.
    for other in ["unconfined", "no-such-profile"] {
        let answer = exec(&container, &["--apparmor", other], &LABEL);
        assert_ne!(answer.status, 0, "{other}");
        assert!(site.last_error().contains("OPS-01"), "{}", site.last_error());
    }

    // Where the profile leaves it to the caller, it is what was asked for.
    let mut container = telling(&site);
    confined_by(&mut container, &profile.name);
    container
        .arguments
        .extend(["--profile".into(), "privileged".into()]);
    started(&container);
    let second = Profile::load(&site, &format!("{}-second", profile.name), "");
    let asked = ["--profile", "privileged", "--apparmor", second.name.as_str()];
    assert_eq!(
        exec(&container, &asked, &LABEL).ok().stdout.trim(),
        format!("{} (enforce)", second.name)
    );
    let missing = ["--profile", "privileged", "--apparmor", "no-such-profile"];
    assert_ne!(exec(&container, &missing, &LABEL).status, 0);
    let error = site.last_error();
    assert!(
        error.contains("the AppArmor profile \"no-such-profile\" is not loaded"),
        "{error}"
    );
}

#[test]
fn a_profile_that_is_not_loaded_or_only_complains_is_refused() {
    if !has_apparmor() {
        return skip("no AppArmor here");
    }
    let site = Site::new();
    let mut container = telling(&site);
    let name = format!("test-{}", container.id);
    confined_by(&mut container, &name);
    assert_eq!(container.create().status, 1);
    let error = site.last_error();
    assert!(
        error.contains("LSM-02") && error.contains(&format!("{name:?} is not loaded")),
        "{error}"
    );
    container.assert_gone();

    let profile = Profile::load(&site, &name, ",complain");
    assert_eq!(container.create().status, 1);
    let error = site.last_error();
    assert!(
        error.contains("LSM-02") && error.contains("is loaded in mode \"complain\""),
        "{error}"
    );
    container.assert_gone();
    drop(profile);

    // Nobody has judged, and still nothing runs under less than was asked for.
    container
        .arguments
        .extend(["--profile".into(), "privileged".into()]);
    if container.create().status == 0 {
        assert_ne!(container.start().status, 0);
    }
    let error = site.last_error();
    assert!(
        error.contains(&format!("the AppArmor profile {name:?} is not loaded")),
        "{error}"
    );
    assert!(!container.ran());
}

#[test]
fn v_06_a_profile_that_changed_between_judgement_and_execve_is_found() {
    if !has_apparmor() {
        return skip("no AppArmor here");
    }
    let site = Site::new();
    let mut container = telling(&site);
    let profile = Profile::own(&site, &container);
    confined_by(&mut container, &profile.name);

    // It only complains by now.
    container.create().ok();
    profile.again(",complain");
    assert_ne!(container.start().status, 0);
    let error = site.last_error();
    assert!(error.contains("V-06") && error.contains("(complain)"), "{error}");
    assert!(!container.ran());
    site.gabion(&["delete", "--force", &container.id]).ok();

    // It is gone.
    profile.again("");
    container.create().ok();
    profile.parser("-R");
    assert_ne!(container.start().status, 0);
    let error = site.last_error();
    assert!(
        error.contains("the AppArmor profile") && error.contains("is not loaded"),
        "{error}"
    );
    assert!(!container.ran());
    site.gabion(&["delete", "--force", &container.id]).ok();

    // And afterwards: a running container whose profile was taken the teeth of has drifted.
    profile.again("");
    started(&container);
    site.gabion(&["verify", &container.id]).ok();
    profile.again(",complain");
    let answer = site.gabion(&["verify", &container.id]);
    assert_eq!(answer.status, 2, "{answer:?}");
    assert!(answer.stdout.contains("V-06  DRIFT"), "{answer:?}");
    // A further process is held to the same.
    assert_ne!(exec(&container, &[], &LABEL).status, 0);
    profile.again("");
    site.gabion(&["verify", &container.id]).ok();
    assert_eq!(
        exec(&container, &[], &LABEL).ok().stdout.trim(),
        format!("{} (enforce)", profile.name)
    );
}

#[test]
fn without_a_profile_an_engines_enforced_one_is_filled_in() {
    if !has_apparmor() {
        return skip("no AppArmor here");
    }
    let site = Site::new();
    let mut container = telling(&site);
    // None is loaded: the strictest profile refuses, the default one runs it and writes it down.
    container.arguments = vec!["--profile".into(), "restricted".into()];
    assert_eq!(container.create().status, 1);
    assert!(site.last_error().contains("LSM-01"), "{}", site.last_error());
    container.arguments.clear();
    started(&container);
    assert_eq!(container.file("tmp/label").trim(), "unconfined");
    assert!(fs::read_to_string(site.ledger()).unwrap().contains("LSM-01"));
    site.gabion(&["delete", "--force", &container.id]).ok();
    fs::remove_file(container.rootfs().join("tmp/on")).unwrap();

    let profile = Profile::load(&site, "docker-default", "");
    for written in [json!(null), json!(""), json!("unconfined")] {
        container.config["process"]["apparmorProfile"] = written;
        started(&container);
        assert_eq!(container.file("tmp/label").trim(), "docker-default (enforce)");
        assert_eq!(container.file("tmp/read"), "");
        site.gabion(&["verify", &container.id]).ok();
        assert_eq!(
            exec(&container, &[], &LABEL).ok().stdout.trim(),
            "docker-default (enforce)"
        );
        site.gabion(&["delete", "--force", &container.id]).ok();
        fs::remove_file(container.rootfs().join("tmp/on")).unwrap();
    }
    // One that only complains is not filled in.
    profile.again(",complain");
    container.config["process"]["apparmorProfile"] = json!(null);
    started(&container);
    assert_eq!(container.file("tmp/label").trim(), "unconfined");
}

#[test]
fn a_policy_without_the_rules_still_applies_the_profile_that_is_asked_for() {
    if !has_apparmor() {
        return skip("no AppArmor here");
    }
    let site = Site::new();
    site.write_policy("[rules]\nLSM-01 = \"off\"\nLSM-02 = \"off\"\nLSM-03 = \"off\"\nLSM-04 = \"off\"\n");
    let mut container = telling(&site);
    let profile = Profile::own(&site, &container);
    confined_by(&mut container, &profile.name);
    started(&container);
    assert_eq!(
        container.file("tmp/label").trim(),
        format!("{} (enforce)", profile.name)
    );
}
