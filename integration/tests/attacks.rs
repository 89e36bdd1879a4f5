//! The attacks in integration/attacks: bundles that try to slip through. Each is refused, fails, or is shown to be
//! harmless; in every case what it says of itself is held against what happens.
//!
//! A file has `tries` and `fails` (why it does) in words, what is laid out in the image (`rootfs`) and in a directory
//! of the host that the bundle may name (`volume`): links, or files if the text begins with "#!"; `edits` of an ordinary
//! configuration; and what is expected: `refused` by these rules, an `error` that has these words, or that it `ran`, and
//! a `script` in it `prints` this; under `baseline` unless a `profile` is named. `VOLUME`, `ROOTFS` and `STATE` stand for directories.

#![allow(clippy::unwrap_used, clippy::panic)] // a test file, its functions beside the tests included

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use gabion_integration::{Answer, Container, Site, edit_array};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::{Value, json};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("attacks")
}

fn attacks() -> Vec<(String, Value)> {
    let mut attacks: Vec<(String, Value)> = fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let value = serde_json::from_slice(&fs::read(&path).unwrap());
            (
                name.clone(),
                value.unwrap_or_else(|error| panic!("{name}: {error}")),
            )
        })
        .collect();
    attacks.sort_by(|one, other| one.0.cmp(&other.0));
    attacks
}

/// Links and files below a directory.
fn lay_out(top: &Path, files: &Value, replace: &dyn Fn(&str) -> String) {
    for (name, text) in files.as_object().into_iter().flatten() {
        let path = top.join(name);
        let text = replace(text.as_str().unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(&path).unwrap();
        }
        if text.starts_with("#!") {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        } else {
            symlink(text, &path).unwrap();
        }
    }
}

/// Changes the configuration; what no value can express is changed in its text.
fn edited(config: &Value, edits: &Value) -> String {
    let mut config = config.clone();
    let mut texts: Vec<(String, String)> = Vec::new();
    for edit in edits.as_array().unwrap() {
        let word = |index: usize| edit[index].as_str().unwrap();
        match word(0) {
            "set" => set(&mut config, word(1), edit[2].clone()),
            "append" => {
                if config.pointer(word(1)).is_none() {
                    set(&mut config, word(1), json!([]));
                }
                edit_array(&mut config, word(1), |array| array.push(edit[2].clone()));
            }
            "remove" => {
                let (parent, key) = word(1).rsplit_once('/').unwrap();
                match config.pointer_mut(parent).unwrap() {
                    Value::Array(array) => drop(array.remove(key.parse().unwrap())),
                    parent => drop(parent.as_object_mut().unwrap().remove(key)),
                }
            }
            "namespace" => edit_array(&mut config, "/linux/namespaces", |list| {
                let entry = list.iter_mut().find(|entry| entry["type"] == word(1));
                entry.unwrap()["path"] = edit[2].clone();
            }),
            "raw" => {
                set(&mut config, word(1), json!("RAW"));
                texts.push(("\"RAW\"".to_owned(), word(2).to_owned()));
            }
            "duplicate" => texts.push((
                "{\"ociVersion\"".to_owned(),
                format!("{{{:?}:{},\"ociVersion\"", word(1), word(2)),
            )),
            other => panic!("{other:?} is no edit"),
        }
    }
    let text = config.to_string();
    texts.into_iter().fold(text, |text, (from, to)| {
        assert!(text.contains(&from), "{from}");
        text.replacen(&from, &to, 1)
    })
}

fn set(config: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = config.pointer_mut(parent).unwrap();
    match parent {
        Value::Array(array) => array[key.parse::<usize>().unwrap()] = value,
        _ => parent[key] = value,
    }
}

/// The rules that refuse, of the last decision.
fn refusing(site: &Site) -> BTreeSet<String> {
    let decision = site.decisions().pop().unwrap_or_default();
    let findings = decision["findings"].as_array().cloned().unwrap_or_default();
    findings
        .iter()
        .filter(|finding| finding["action"] == "deny" && decision["verdict"] == "refused")
        .map(|finding| {
            finding["rule"]
                .as_str()
                .unwrap()
                .split(':')
                .next()
                .unwrap()
                .to_owned()
        })
        .collect()
}

/// What must be the same afterwards.
fn host() -> [String; 3] {
    [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/hostname",
        "/proc/sys/net/ipv4/ip_forward",
    ]
    .map(|path| fs::read_to_string(path).unwrap())
}

fn tried(attack: &Value) -> Result<(), String> {
    let site = Site::new();
    let mut container = site.container();
    if let Some(profile) = attack["expect"]["profile"].as_str() {
        site.write_policy(&format!("profile = {profile:?}\n"));
    }
    let volume = site.path().join("volume");
    fs::create_dir_all(&volume).unwrap();
    fs::create_dir_all(site.root()).unwrap();
    fs::set_permissions(site.root(), Permissions::from_mode(0o700)).unwrap();
    fs::write(volume.join("kept"), "").unwrap();
    let rootfs = container.rootfs();
    let replace = |text: &str| {
        text.replace("VOLUME", volume.to_str().unwrap())
            .replace("ROOTFS", rootfs.to_str().unwrap())
            .replace("STATE", site.root().to_str().unwrap())
    };
    lay_out(&rootfs, &attack["rootfs"], &replace);
    lay_out(&volume, &attack["volume"], &replace);
    let expected = &attack["expect"];
    container.script(expected["script"].as_str().unwrap_or("true"));
    let text = replace(&edited(&container.config, &attack["edits"]));
    fs::write(container.bundle.join("config.json"), text).unwrap();

    let before = host();
    let answer: Answer = gabion_integration::run(&mut container.building("run"), site.path());
    let (refused, ran) = (refusing(&site), container.ran());
    if host() != before {
        return Err("the host is not what it was".to_owned());
    }
    if !volume.join("kept").exists() {
        return Err("what was in the volume is gone".to_owned());
    }
    container.assert_gone();
    let found = || format!("refused by {refused:?}, ran: {ran}, {answer:?}");
    if let Some(rules) = expected["refused"].as_array() {
        let by = rules.iter().all(|rule| refused.contains(rule.as_str().unwrap()));
        return if by && !ran && !rules.is_empty() {
            Ok(())
        } else {
            Err(found())
        };
    }
    if let Some(error) = expected["error"].as_str() {
        let said = answer.stderr.contains(error) && answer.status != 0;
        return if said && !ran { Ok(()) } else { Err(found()) };
    }
    if let Some(prints) = expected["prints"].as_str() {
        let said = answer.stdout.trim() == prints;
        return if said && ran { Ok(()) } else { Err(found()) };
    }
    if expected["ran"] == true && ran {
        return Ok(());
    }
    Err(found())
}

#[test]
fn every_attack_fails_as_it_says_that_it_does() {
    let attacks = attacks();
    assert!(attacks.len() >= 140, "there are {} attacks", attacks.len());
    let mut wrong = Vec::new();
    for (name, attack) in &attacks {
        for property in ["tries", "fails"] {
            assert!(
                attack[property].as_str().is_some_and(|text| text.len() > 10),
                "{name}: {property}"
            );
        }
        if attack["needs"] == "cgroup version 1" && Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            gabion_integration::skip(&format!("{name}: there is no cgroup of version 1 here"));
            continue;
        }
        if let Err(why) = tried(attack) {
            wrong.push(format!("{name}: {why}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What needs a race or a hook is a test of its own, and documented like the others.
#[test]
fn every_attack_that_is_a_test_of_its_own_is_documented_and_there() {
    let source = include_str!("attacks.rs");
    let mut count = 0;
    for entry in fs::read_dir(directory()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "md") || path.ends_with("README.md") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let test = text
            .lines()
            .find_map(|line| line.strip_prefix("test: "))
            .unwrap_or_default();
        assert!(
            source.contains(&format!("\nfn {test}()")),
            "{path:?} names the test {test:?}"
        );
        count += 1;
    }
    assert_eq!(count, 8);
}

/// The control: what the attacks are changes of runs, and what an ordinary volume has in it can be read.
#[test]
fn what_the_attacks_are_changes_of_runs() {
    let attack = json!({
        "edits": [["append", "/mounts", {"destination": "/data", "type": "bind", "source": "VOLUME",
            "options": ["rbind", "rprivate", "nosuid", "nodev"]}]],
        "expect": {"script": "ls /data", "prints": "kept"}
    });
    assert_eq!(tried(&attack), Ok(()));
    // And one that is expected to be refused and is not, is noticed.
    let mut attack = attack;
    attack["expect"] = json!({"refused": ["MNT-01"]});
    assert!(tried(&attack).unwrap_err().contains("ran: true"));
}

/// A directory that is exchanged for another, again and again, until it goes out of scope.
struct Exchanged {
    stop: std::sync::Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<u64>>,
}

impl Exchanged {
    fn begin(one: PathBuf, other: PathBuf) -> Self {
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut count = 0;
            while !seen.load(Ordering::Relaxed) {
                renameat2(AT_FDCWD, &one, AT_FDCWD, &other, RenameFlags::RENAME_EXCHANGE).unwrap();
                count += 1;
                std::thread::sleep(std::time::Duration::from_micros(50));
            }
            count
        });
        Exchanged {
            stop,
            thread: Some(thread),
        }
    }

    fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

/// What became of many containers, each with a volume that somebody exchanges for a link to /etc meanwhile, or for a
/// directory that was not judged.
fn raced(setup: &dyn Fn(&Path, &mut Container<'_>) -> (PathBuf, PathBuf), secret: &str) -> [u32; 3] {
    raced_for(60, setup, secret)
}

fn raced_for(
    times: u32,
    setup: &dyn Fn(&Path, &mut Container<'_>) -> (PathBuf, PathBuf),
    secret: &str,
) -> [u32; 3] {
    let site = Site::new();
    let (mut ran, mut refused, mut mismatched) = (0, 0, 0);
    let top = site.path().join("race");
    fs::create_dir_all(&top).unwrap();
    let mut container = site.container();
    let (one, other) = setup(&top, &mut container);
    let exchanged = Exchanged::begin(one, other);
    for _ in 0..times {
        let answer = container.run();
        assert!(!answer.stdout.contains(secret), "the attack worked: {answer:?}");
        let verdict = site.decisions().pop().unwrap()["verdict"].clone();
        match verdict.as_str().unwrap() {
            "started" => ran += 1,
            "refused" => refused += 1,
            "mismatch" => mismatched += 1,
            "failed" => {}
            other => panic!("{other}: {answer:?}"),
        }
    }
    assert!(exchanged.end() > 100);
    [ran, refused, mismatched]
}

/// Documented in attacks/race-source-for-a-link.md.
#[test]
fn a_source_that_is_exchanged_for_a_link_never_shows_what_was_not_judged() {
    let [ran, refused, mismatched] = raced(
        &|top, container| {
            fs::create_dir(top.join("volume")).unwrap();
            symlink("/etc", top.join("link")).unwrap();
            edit_array(&mut container.config, "/mounts", |mounts| {
                mounts.push(
                    json!({"destination": "/data", "type": "bind", "source": top.join("volume"),
                    "options": ["rbind", "rprivate", "nosuid", "nodev"]}),
                );
            });
            container.script("busybox cat /data/passwd");
            (top.join("volume"), top.join("link"))
        },
        "root:",
    );
    assert!(
        refused + mismatched > 0 && ran + refused + mismatched > 0,
        "{ran} {refused} {mismatched}"
    );
}

/// Documented in attacks/race-source-for-a-directory.md.
#[test]
fn a_source_that_is_exchanged_for_another_directory_is_found_or_is_the_one_that_was_judged() {
    let [ran, _, mismatched] = raced(
        &|top, container| {
            fs::create_dir_all(top.join("volume")).unwrap();
            // Judged by what it is when it is looked at: the other one is the state of the runtime's own.
            fs::create_dir_all(top.join("other")).unwrap();
            edit_array(&mut container.config, "/mounts", |mounts| {
                mounts.push(
                    json!({"destination": "/data", "type": "bind", "source": top.join("volume"),
                    "options": ["rbind", "rprivate", "nosuid", "nodev"]}),
                );
            });
            (top.join("volume"), top.join("other"))
        },
        "never",
    );
    assert!(ran + mismatched > 0, "{ran} ran, {mismatched} were found");
}

/// Documented in attacks/race-source-for-another-kind.md.
#[test]
fn a_source_that_is_exchanged_for_a_socket_a_device_or_a_file_is_never_there_unjudged() {
    let listening = tempfile::tempdir().unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(listening.path().join("docker.sock")).unwrap();
    type Lay<'a> = &'a dyn Fn(&Path, &Path);
    // What takes the place of an ordinary file: each is refused if it is what is judged.
    let kinds: [(&str, &str, Lay<'_>); 3] = [
        ("a control socket", "-S", &|_, other| {
            fs::hard_link(listening.path().join("docker.sock"), other).unwrap();
        }),
        ("the memory", "-c", &|_, other| {
            let mode = Mode::from_bits_truncate(0o666);
            mknod(other, SFlag::S_IFCHR, mode, makedev(1, 1)).unwrap();
        }),
        ("gabion's policy", "-s", &|site, other| {
            fs::hard_link(site.join("policy.toml"), other).unwrap();
        }),
    ];
    let mut found = 0;
    for (what, test, lay) in kinds {
        // From its descriptor, as nearly all are; and from its path, as libcontainer makes those that it has to make.
        for (option, by_descriptor) in [("rw", true), ("strictatime", false)] {
            let [ran, refused, mismatched] = raced_for(
                24,
                &|top, container| {
                    let (one, other) = (top.join("volume"), top.join("other"));
                    fs::write(&one, "").unwrap();
                    lay(top.parent().unwrap(), &other);
                    edit_array(&mut container.config, "/mounts", |mounts| {
                        mounts.push(json!({"destination": "/data", "type": "bind", "source": one,
                            "options": ["bind", "rprivate", "nosuid", "nodev", option]}));
                    });
                    container.script(&format!("test {test} /data && echo not judged"));
                    (one, other)
                },
                "not judged",
            );
            println!("{what}, {option}: {ran} ran, {refused} were refused, {mismatched} found");
            assert!(
                ran + mismatched > 0 && refused > 0,
                "{what}: {ran} {refused} {mismatched}"
            );
            if by_descriptor {
                assert_eq!(
                    mismatched, 0,
                    "{what}: another file than the one that was judged was mounted"
                );
            }
            found += mismatched;
        }
    }
    // The control: whoever mounts by path is led astray, and V-10 sees it.
    assert!(found > 0, "nothing was exchanged in time to matter");
}

/// Documented in attacks/race-destination-for-a-link.md.
#[test]
fn cve_2021_30465_a_destination_that_is_exchanged_for_a_link_leads_nowhere_outside() {
    let canary = tempfile::tempdir().unwrap();
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let inside = canary.path().to_owned();
    let [ran, refused, mismatched] = raced(
        &|top, container| {
            let volume = top.join("volume");
            fs::create_dir_all(volume.join("x")).unwrap();
            let climbing = format!("../../../../../../../../../..{}", inside.display());
            symlink(climbing, volume.join("link")).unwrap();
            edit_array(&mut container.config, "/mounts", |mounts| {
                mounts.push(json!({"destination": "/shared", "type": "bind", "source": volume,
                    "options": ["rbind", "rprivate", "nosuid", "nodev"]}));
                mounts.push(
                    json!({"destination": "/shared/x/below", "type": "tmpfs", "source": "tmpfs",
                    "options": ["nosuid", "nodev"]}),
                );
            });
            (volume.join("x"), volume.join("link"))
        },
        "never",
    );
    // Nothing was made there, and nothing is mounted there (CVE-2024-45310 made empty directories).
    assert_eq!(fs::read_dir(canary.path()).unwrap().count(), 0);
    let after = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let name = canary.path().to_str().unwrap();
    assert!(!before.contains(name) && !after.contains(name));
    assert!(ran + refused + mismatched <= 60);
}

/// Documented in attacks/hook-that-mounts-where-it-may.md.
#[test]
fn a_hook_mounts_where_the_policy_lets_it_and_nowhere_else() {
    let (listed, privileged) = ("baseline", "privileged");
    for (profile, script, outcome) in [
        (listed, "mount --bind /usr ROOTFS/mnt", None),
        (
            listed,
            "mount -t tmpfs none ROOTFS/opt/one && touch ROOTFS/opt/one/made",
            None,
        ),
        // Beside what it may, over what was judged, over a mask, and seen on the host.
        (listed, "mount --bind /usr ROOTFS/work", Some("V-10")),
        (listed, "mount -t tmpfs none ROOTFS/dev/shm", Some("V-10")),
        (
            listed,
            "mount -t tmpfs none ROOTFS/mnt && mount --make-shared ROOTFS/mnt",
            Some("V-10"),
        ),
        (
            listed,
            "mkdir -p ROOTFS/opt/one/two && mount -t tmpfs none ROOTFS/opt/one/two",
            Some("V-10"),
        ),
        // That profile lets hooks mount where they like, and not over what was judged.
        (privileged, "mount --bind /usr ROOTFS/work", None),
        (privileged, "mount -t tmpfs none ROOTFS/dev/shm", Some("V-10")),
    ] {
        let site = Site::new();
        let mut container = site.container();
        fs::create_dir_all(container.rootfs().join("opt/one")).unwrap();
        fs::create_dir_all(container.rootfs().join("mnt")).unwrap();
        fs::create_dir_all(container.rootfs().join("work")).unwrap();
        let script = script.replace("ROOTFS", container.rootfs().to_str().unwrap());
        let shell = fs::canonicalize("/bin/sh").unwrap();
        site.write_policy(&format!(
            "[[allow.hooks]]\npoint = \"createContainer\"\npath = {shell:?}\n\
             mounts = [\"/mnt\", \"/opt/*\", \"/dev/shm\"]\n"
        ));
        container.arguments = vec!["--profile".into(), profile.into()];
        container.config["hooks"] = json!({"createContainer": [
            {"path": shell, "args": ["sh", "-c", script], "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}
        ]});
        container.script("ls /mnt /opt/one; exec sleep 600");
        let created = container.create();
        created.ok();
        let started = container.start();
        match outcome {
            None => {
                started.ok();
                container.wait_for("tmp/ran", "ran");
                // It stays so: for further processes, and for whoever looks.
                site.gabion(&["exec", &container.id, "true"]).ok();
                site.gabion(&["verify", &container.id]).ok();
            }
            Some(check) => {
                assert!(
                    started.stderr.contains(&format!("{check}: reality is not")),
                    "{script}: {started:?}"
                );
                assert!(!container.ran());
            }
        }
    }
}

/// Documented in attacks/hook-that-mounts.md, hook-that-unmounts.md, hook-that-changes-a-node.md.
#[test]
fn a_hook_that_changes_the_world_between_the_gates_is_found() {
    for (script, check) in [
        ("mount --bind /etc ROOTFS/mnt", "V-10"),
        ("mount --bind /etc ROOTFS/work", "V-10"),
        ("umount ROOTFS/dev/shm", "V-10"),
        ("mount -t tmpfs none ROOTFS/dev/shm", "V-10"),
        ("rm ROOTFS/dev/zero && mknod ROOTFS/dev/zero c 1 1", "V-11"),
        ("mount -t tmpfs none ROOTFS/sys/fs/cgroup", "V-10"),
        ("mount -o remount,bind,suid ROOTFS/dev/shm", "V-10"),
        ("mount --make-shared ROOTFS/dev/shm", "V-10"),
    ] {
        let site = Site::new();
        site.write_policy("[[allow.hooks]]\npoint = \"createContainer\"\npath = \"/bin/sh\"\n");
        let mut container = site.container();
        let hook = |container: &mut Container<'_>, script: &str| {
            let script = script.replace("ROOTFS", container.rootfs().to_str().unwrap());
            let shell = fs::canonicalize("/bin/sh").unwrap();
            container.config["hooks"] = json!({"createContainer": [
                {"path": shell, "args": ["sh", "-c", script], "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}
            ]});
        };
        hook(&mut container, script);
        let answer = container.run();
        assert!(!container.ran(), "{script}: {answer:?}");
        assert!(
            answer.stderr.contains(&format!("{check}: reality is not")),
            "{script}: {answer:?}"
        );
        container.assert_gone();
        hook(&mut container, "true");
        container.run().ok();
        assert!(container.ran());
    }
}
