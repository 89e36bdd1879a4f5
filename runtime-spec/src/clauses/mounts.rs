//! config.md: mounts and their options.

use crate::bundle::push;
use crate::clause::{Clause, Stop, Verdict};
use crate::expect::{holds, same, skip};
use crate::stage::Stage;
use serde_json::{Value, json};
use std::fs;

pub(super) const CLAUSES: &[Clause] = &[
    Clause::must(
        "config.md#mounts/listed-order",
        "mounts are made in the listed order",
        |stage| {
            let seen = stage.observe(
                "cd /mnt/a && mount | grep -c ' /mnt/a/b '; mount | grep ' /mnt/a ' | cut -d' ' -f1",
                |config| {
                    push(config, "/mounts", tmpfs("/mnt/a", "first", &[]));
                    push(config, "/mounts", tmpfs("/mnt/a", "second", &[]));
                    push(config, "/mounts", tmpfs("/mnt/a/b", "third", &[]));
                },
            )?;
            same("mounts", seen.out, "1\nfirst\nsecond\n")?;
            // The later of two mounts at one place is the one that is seen.
            let seen = stage.observe("stat -f -c %b /mnt/a", |config| {
                push(config, "/mounts", tmpfs("/mnt/a", "first", &["size=1m"]));
                push(config, "/mounts", tmpfs("/mnt/a", "second", &["size=2m"]));
            })?;
            same("pages of the filesystem that is seen", seen.text(), "512")
        },
    ),
    Clause::must(
        "config.md#mounts/relative-bind-source",
        "a bind source that is not absolute is taken from the bundle",
        |stage| {
            let mut container = stage.container()?;
            fs::create_dir(container.bundle.join("data"))?;
            fs::write(container.bundle.join("data/file"), "found")?;
            push(
                &mut container.config,
                "/mounts",
                json!({"destination": "/mnt", "type": "bind", "source": "data", "options": ["bind"]}),
            );
            container.script("cat /mnt/file");
            same("file", container.run_to_end()?.out, "found")
        },
    ),
    Clause::must(
        "config.md#mounts/relative-destination",
        "a destination that is not absolute is taken from /",
        |stage| {
            let seen = stage.observe("grep -c ' /mnt/relative tmpfs' /proc/mounts", |config| {
                push(config, "/mounts", tmpfs("mnt/relative", "x", &[]))
            })?;
            same("mounts at /mnt/relative", seen.text(), "1")
        },
    ),
    Clause::described(
        "config.md#mounts/missing-destination",
        "a destination that does not exist is made (what all runtimes do)",
        |stage| {
            let seen = stage.observe("grep -c ' /new/place tmpfs' /proc/mounts", |config| {
                push(config, "/mounts", tmpfs("/new/place", "x", &[]))
            })?;
            same("mounts at /new/place", seen.text(), "1")
        },
    ),
    Clause::must(
        "config.md#mounts/no-such-filesystem",
        "a filesystem type the kernel does not know is an error",
        |stage| {
            stage.refuses(|config| {
                push(
                    config,
                    "/mounts",
                    json!({"destination": "/mnt", "type": "no-such-filesystem", "source": "x"}),
                )
            })
        },
    ),
    Clause::must(
        "config.md#mounts/missing-bind-source",
        "a bind source that does not exist is an error",
        |stage| {
            stage.refuses(|config| push(config, "/mounts", json!({"destination": "/mnt", "type": "bind", "source": "/nonexistent/source", "options": ["bind"]})))
        },
    ),
    Clause::must(
        "config.md#mounts/bind-without-type",
        "a mount is a bind mount by its options alone",
        |stage| {
            let data = data(stage)?;
            for option in ["bind", "rbind"] {
                let seen = stage.observe("cat /mnt/file", |config| {
                    push(
                        config,
                        "/mounts",
                        json!({"destination": "/mnt", "source": data, "options": [option]}),
                    )
                })?;
                same(option, seen.out, "data")?;
            }
            Ok(())
        },
    ),
    Clause::must(
        "config.md#mounts/bind-of-a-file",
        "a file can be bound",
        |stage| {
            let data = data(stage)?;
            let seen = stage.observe("cat /mnt/one", |config| push(config, "/mounts", json!({"destination": "/mnt/one", "type": "bind", "source": format!("{data}/file"), "options": ["bind"]})))?;
            same("file", seen.out, "data")
        },
    ),
    Clause::must(
        "config.md#linux-mount-options/bind",
        "bind takes the mount alone, without those below it",
        |stage| bound_submount(stage, "bind", "0"),
    ),
    Clause::must(
        "config.md#linux-mount-options/rbind",
        "rbind takes the mounts below too",
        |stage| bound_submount(stage, "rbind", "1"),
    ),
    Clause::must(
        "config.md#linux-mount-options/accepts-async",
        "the option async is implemented",
        |stage| accepted(stage, "async"),
    ),
    Clause::must(
        "config.md#linux-mount-options/accepts-atime",
        "the option atime is implemented",
        |stage| accepted(stage, "atime"),
    ),
    Clause::must(
        "config.md#linux-mount-options/accepts-defaults",
        "the option defaults is implemented",
        |stage| accepted(stage, "defaults"),
    ),
    Clause::must(
        "config.md#linux-mount-options/accepts-dev",
        "the option dev is implemented",
        |stage| accepted(stage, "dev"),
    ),
    Clause::must(
        "config.md#linux-mount-options/accepts-diratime",
        "the option diratime is implemented",
        |stage| accepted(stage, "diratime"),
    ),
    Clause::must(
        "config.md#linux-mount-options/accepts-dirsync",
        "the option dirsync is implemented",
        |stage| accepted(stage, "dirsync"),
    ),
    Clause::must(
        "config.md#linux-mount-options/accepts-exec",
        "the option exec is implemented",
        |stage| accepted(stage, "exec"),
    ),
    Clause::must(
        "config.md#linux-mount-options/accepts-iversion",
        "the option iversion is implemented",
        |stage| accepted(stage, "iversion"),
    ),
    Clause::must(
        "config.md#linux-mount-options/accepts-lazytime",
        "the option lazytime is implemented",
        |stage| accepted(stage, "lazytime"),
    ),
    Clause::must(
        "config.md#linux-mount-options/accepts-loud",
        "the option loud is implemented",
        |stage| accepted(stage, "loud"),
    ),
    Clause::must(
        "config.md#linux-mount-options/accepts-noatime",
        "the option noatime is implemented",
        |stage| accepted(stage, "noatime"),
    ),
    Clause::must(
        "config.md#linux-mount-options/accepts-nodev",
        "the option nodev is implemented",
        |stage| accepted(stage, "nodev"),
    ),
    Clause::must(
        "config.md#linux-mount-options/accepts-nodiratime",
        "the option nodiratime is implemented",
        |stage| accepted(stage, "nodiratime"),
    ),
    Clause::must(
        "config.md#linux-mount-options/accepts-noexec",
        "the option noexec is implemented",
        |stage| accepted(stage, "noexec"),
    ),
    Clause::must(
        "config.md#linux-mount-options/accepts-noiversion",
        "the option noiversion is implemented",
        |stage| accepted(stage, "noiversion"),
    ),
    Clause::must(
        "config.md#linux-mount-options/accepts-nolazytime",
        "the option nolazytime is implemented",
        |stage| accepted(stage, "nolazytime"),
    ),
    Clause::must(
        "config.md#linux-mount-options/accepts-norelatime",
        "the option norelatime is implemented",
        |stage| accepted(stage, "norelatime"),
    ),
    Clause::must(
        "config.md#linux-mount-options/accepts-nostrictatime",
        "the option nostrictatime is implemented",
        |stage| accepted(stage, "nostrictatime"),
    ),
    Clause::must(
        "config.md#linux-mount-options/accepts-nosuid",
        "the option nosuid is implemented",
        |stage| accepted(stage, "nosuid"),
    ),
    Clause::must(
        "config.md#linux-mount-options/accepts-relatime",
        "the option relatime is implemented",
        |stage| accepted(stage, "relatime"),
    ),
    Clause::must(
        "config.md#linux-mount-options/accepts-ro",
        "the option ro is implemented",
        |stage| accepted(stage, "ro"),
    ),
    Clause::must(
        "config.md#linux-mount-options/accepts-rw",
        "the option rw is implemented",
        |stage| accepted(stage, "rw"),
    ),
    Clause::must(
        "config.md#linux-mount-options/accepts-silent",
        "the option silent is implemented",
        |stage| accepted(stage, "silent"),
    ),
    Clause::must(
        "config.md#linux-mount-options/accepts-strictatime",
        "the option strictatime is implemented",
        |stage| accepted(stage, "strictatime"),
    ),
    Clause::must(
        "config.md#linux-mount-options/accepts-suid",
        "the option suid is implemented",
        |stage| accepted(stage, "suid"),
    ),
    Clause::must(
        "config.md#linux-mount-options/accepts-sync",
        "the option sync is implemented",
        |stage| accepted(stage, "sync"),
    ),
    Clause::must(
        "config.md#linux-mount-options/ro",
        "ro mounts read-only",
        |stage| shown(stage, &["ro"], "ro", true),
    ),
    Clause::must(
        "config.md#linux-mount-options/rw",
        "rw mounts writable",
        |stage| shown(stage, &["rw"], "rw", true),
    ),
    Clause::must("config.md#linux-mount-options/nosuid", "nosuid is set", |stage| {
        shown(stage, &["nosuid"], "nosuid", true)
    }),
    Clause::must("config.md#linux-mount-options/nodev", "nodev is set", |stage| {
        shown(stage, &["nodev"], "nodev", true)
    }),
    Clause::must("config.md#linux-mount-options/noexec", "noexec is set", |stage| {
        shown(stage, &["noexec"], "noexec", true)
    }),
    Clause::must(
        "config.md#linux-mount-options/later-wins",
        "of two options that contradict each other the later one counts",
        |stage| {
            shown(
                stage,
                &["noexec", "exec", "nosuid", "suid", "nodev", "dev", "ro", "rw"],
                "rw",
                true,
            )?;
            shown(stage, &["noexec", "exec"], "noexec", false)?;
            shown(stage, &["nosuid", "suid"], "nosuid", false)?;
            shown(stage, &["nodev", "dev"], "nodev", false)
        },
    ),
    Clause::must(
        "config.md#linux-mount-options/noatime",
        "noatime is set",
        |stage| shown(stage, &["noatime"], "noatime", true),
    ),
    Clause::must(
        "config.md#linux-mount-options/relatime",
        "relatime is set",
        |stage| shown(stage, &["relatime"], "relatime", true),
    ),
    Clause::must(
        "config.md#linux-mount-options/strictatime",
        "strictatime leaves neither relatime nor noatime",
        |stage| {
            shown(stage, &["strictatime"], "relatime", false)?;
            shown(stage, &["strictatime"], "noatime", false)
        },
    ),
    Clause::must(
        "config.md#linux-mount-options/nodiratime",
        "nodiratime is set",
        |stage| shown(stage, &["nodiratime"], "nodiratime", true),
    ),
    Clause::must("config.md#linux-mount-options/sync", "sync is set", |stage| {
        shown(stage, &["sync"], "sync", true)
    }),
    Clause::must(
        "config.md#linux-mount-options/dirsync",
        "dirsync is set",
        |stage| shown(stage, &["dirsync"], "dirsync", true),
    ),
    Clause::must(
        "config.md#linux-mount-options/lazytime",
        "lazytime is set",
        |stage| shown(stage, &["lazytime"], "lazytime", true),
    ),
    Clause::should(
        "config.md#linux-mount-options/nosymfollow",
        "nosymfollow is set",
        |stage| shown(stage, &["nosymfollow"], "nosymfollow", true),
    ),
    Clause::must(
        "config.md#linux-mount-options/bind-ro",
        "a read-only bind cannot be written",
        |stage| {
            bound_refuses(
                stage,
                &["bind", "ro"],
                "echo x 2>/dev/null >/mnt/new && echo allowed; true",
            )
        },
    ),
    Clause::must(
        "config.md#linux-mount-options/bind-noexec",
        "nothing can be run from a noexec bind",
        |stage| {
            bound_refuses(
                stage,
                &["bind", "noexec"],
                "/mnt/busybox echo allowed 2>/dev/null; true",
            )
        },
    ),
    Clause::must(
        "config.md#linux-mount-options/bind-flags",
        "nosuid, nodev and noatime are set on a bind",
        |stage| {
            for option in ["nosuid", "nodev", "noatime"] {
                let data = data(stage)?;
                let flags = mount_flags(
                    stage,
                    json!({"destination": "/mnt", "type": "bind", "source": data, "options": ["bind", option]}),
                )?;
                holds(flags.split(',').any(|flag| flag == option), || {
                    format!("{option}: flags are {flags}")
                })?;
            }
            Ok(())
        },
    ),
    Clause::must(
        "config.md#linux-mount-options/private",
        "private binds neither give nor receive mounts",
        |stage| propagation(stage, "private", ""),
    ),
    Clause::must(
        "config.md#linux-mount-options/rprivate",
        "rprivate binds neither give nor receive mounts",
        |stage| propagation(stage, "rprivate", ""),
    ),
    Clause::must(
        "config.md#linux-mount-options/shared",
        "shared binds are in a peer group",
        |stage| propagation(stage, "shared", "shared"),
    ),
    Clause::must(
        "config.md#linux-mount-options/rshared",
        "rshared binds are in a peer group",
        |stage| propagation(stage, "rshared", "shared"),
    ),
    Clause::must(
        "config.md#linux-mount-options/slave",
        "slave binds are not shared",
        |stage| propagation(stage, "slave", ""),
    ),
    Clause::must(
        "config.md#linux-mount-options/rslave",
        "rslave binds are not shared",
        |stage| propagation(stage, "rslave", ""),
    ),
    Clause::must(
        "config.md#linux-mount-options/unbindable",
        "unbindable binds are unbindable",
        |stage| propagation(stage, "unbindable", "unbindable"),
    ),
    Clause::must(
        "config.md#linux-mount-options/runbindable",
        "runbindable binds are unbindable",
        |stage| propagation(stage, "runbindable", "unbindable"),
    ),
    Clause::must(
        "config.md#linux-mount-options/remount",
        "remount changes the options of what is mounted already",
        |stage| {
            let seen = stage.observe("awk '$5 == \"/mnt\" {print $6}' /proc/self/mountinfo", |config| {
                push(config, "/mounts", tmpfs("/mnt", "x", &[]));
                push(config, "/mounts", tmpfs("/mnt", "x", &["remount", "noexec"]));
            })?;
            same("mounts at /mnt", seen.out.lines().count(), 1)?;
            holds(seen.text().split(',').any(|flag| flag == "noexec"), || {
                format!("flags are {}", seen.text())
            })
        },
    ),
    Clause::should(
        "config.md#linux-mount-options/rro",
        "rro makes the mounts below read-only too",
        |stage| recursive(stage, "rro", "ro"),
    ),
    Clause::should(
        "config.md#linux-mount-options/rnosuid",
        "rnosuid sets nosuid on the mounts below too",
        |stage| recursive(stage, "rnosuid", "nosuid"),
    ),
    Clause::should(
        "config.md#linux-mount-options/rnoexec",
        "rnoexec sets noexec on the mounts below too",
        |stage| recursive(stage, "rnoexec", "noexec"),
    ),
    Clause::should(
        "config.md#linux-mount-options/rnodev",
        "rnodev sets nodev on the mounts below too",
        |stage| recursive(stage, "rnodev", "nodev"),
    ),
    Clause::should(
        "config.md#linux-mount-options/filesystem-options",
        "options that are not known are given to the filesystem",
        |stage| {
            let seen = stage.observe("grep ' /mnt ' /proc/mounts; stat -c %a /mnt", |config| {
                push(
                    config,
                    "/mounts",
                    tmpfs("/mnt", "x", &["size=1m", "mode=711", "uid=12"]),
                )
            })?;
            for part in ["size=1024k", "uid=12", "\n711"] {
                holds(seen.out.contains(part), || {
                    format!("{part:?} is not in {:?}", seen.out)
                })?;
            }
            Ok(())
        },
    ),
    Clause::should(
        "config.md#linux-mount-options/unknown-option",
        "an option the filesystem does not know either is an error of the mount",
        |stage| {
            stage.refuses(|config| push(config, "/mounts", tmpfs("/mnt", "x", &["conformance-unknown=1"])))
        },
    ),
    Clause::described(
        "config.md#linux-mount-options/tmpcopyup",
        "tmpcopyup copies what was at the destination into the tmpfs (MAY)",
        |stage| {
            let mut container = stage.container()?;
            fs::write(container.rootfs().join("mnt/file"), "below")?;
            push(
                &mut container.config,
                "/mounts",
                tmpfs("/mnt", "x", &["tmpcopyup"]),
            );
            container.script("cat /mnt/file; grep -c ' /mnt tmpfs' /proc/mounts");
            let created = container.create()?;
            if !created.ok() {
                return skip(format!(
                    "not implemented, which it MAY be: {}",
                    created.complaint()
                ));
            }
            container.must_start()?;
            container.wait()?;
            same("file and mounts", container.out(), "below1\n")
        },
    ),
    Clause::must(
        "config.md#linux-mount-options/idmap-without-mapping",
        "idmap without a mapping of its own or of the container is an error",
        |stage| {
            let data = data(stage)?;
            stage.refuses(|config| push(config, "/mounts", json!({"destination": "/mnt", "type": "bind", "source": data, "options": ["bind", "idmap"]})))
        },
    ),
    Clause::must(
        "config.md#posix-platform-mounts/one-mapping-alone",
        "uidMappings without gidMappings, or the other way round, is an error",
        |stage| {
            let data = data(stage)?;
            for property in ["uidMappings", "gidMappings"] {
                stage.refuses(|config| {
                let mut mount = json!({"destination": "/mnt", "type": "bind", "source": data, "options": ["bind", "idmap"]});
                mount[property] = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]);
                push(config, "/mounts", mount);
            })?;
            }
            Ok(())
        },
    ),
    Clause::should(
        "config.md#posix-platform-mounts/idmapped",
        "a mount with mappings shows mapped owners",
        |stage| {
            let data = data(stage)?;
            let mapping = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
            let seen = stage.observe("stat -c %u:%g /mnt/file", |config| {
            let mount = json!({"destination": "/mnt", "type": "bind", "source": data, "options": ["bind", "idmap"],
                               "uidMappings": mapping, "gidMappings": mapping});
            push(config, "/mounts", mount);
        })?;
            same("owner of a file of root's", seen.text(), "100000:100000")
        },
    ),
];

/// A tmpfs.
fn tmpfs(destination: &str, source: &str, options: &[&str]) -> Value {
    json!({"destination": destination, "type": "tmpfs", "source": source, "options": options})
}

/// A directory of the host with a file and a busybox in it.
fn data(stage: &Stage) -> Result<String, Stop> {
    let data = stage.directory.join("data");
    if !data.exists() {
        fs::create_dir(&data)?;
        fs::write(data.join("file"), "data")?;
        fs::copy(crate::bundle::BUSYBOX, data.join("busybox"))?;
    }
    Ok(data.to_string_lossy().into_owned())
}

/// All flags of the mount at /mnt: those of the mount, and those of the filesystem.
fn mount_flags(stage: &Stage, mount: Value) -> Result<String, Stop> {
    let script = "awk '$5 == \"/mnt\" {print $6 \",\" $NF}' /proc/self/mountinfo";
    let seen = stage.observe(script, |config| push(config, "/mounts", mount))?;
    Ok(seen.text().to_owned())
}

/// Passes if a tmpfs can be mounted with the option.
fn accepted(stage: &Stage, option: &str) -> Verdict {
    let seen = stage.observe("grep -c ' /mnt tmpfs' /proc/mounts", |config| {
        push(config, "/mounts", tmpfs("/mnt", "x", &[option]))
    })?;
    same("mounts", seen.text(), "1")
}

/// Passes if the flag is shown, or is not, at a tmpfs with these options.
fn shown(stage: &Stage, options: &[&str], flag: &str, wanted: bool) -> Verdict {
    let flags = mount_flags(stage, tmpfs("/mnt", "x", options))?;
    holds(!flags.is_empty(), || "there is no mount".into())?;
    // The filesystem's own rw is shown even where the mount is ro.
    let own = if flag == "rw" || flag == "ro" {
        flags.split(',').next().unwrap_or_default()
    } else {
        &flags
    };
    let is = own.split(',').any(|shown| shown == flag);
    holds(is == wanted, || {
        format!("options {options:?} gave the flags {flags}")
    })
}

fn bound_refuses(stage: &Stage, options: &[&str], script: &str) -> Verdict {
    let data = data(stage)?;
    let seen = stage.observe(script, |config| {
        push(
            config,
            "/mounts",
            json!({"destination": "/mnt", "type": "bind", "source": data, "options": options}),
        )
    })?;
    same("output", seen.out, "")
}

/// Binds a directory that has a mount below it, made by an earlier entry of the same configuration.
fn bound_submount(stage: &Stage, option: &str, wanted: &str) -> Verdict {
    let seen = stage.observe("grep -c ' /mnt/pts devpts' /proc/mounts; true", |config| {
        push(
            config,
            "/mounts",
            json!({"destination": "/mnt", "type": "bind", "source": "/dev", "options": [option]}),
        );
    })?;
    same("mounts of the source that are seen", seen.text().min("1"), wanted)
}

fn propagation(stage: &Stage, option: &str, wanted: &str) -> Verdict {
    let data = data(stage)?;
    let seen = stage.observe("grep ' /mnt ' /proc/self/mountinfo", |config| {
        push(
            config,
            "/mounts",
            json!({"destination": "/mnt", "type": "bind", "source": data, "options": ["bind", option]}),
        );
    })?;
    let optional = seen.text().split(" - ").next().unwrap_or_default();
    let fields: Vec<&str> = optional.split(' ').skip(6).collect();
    let has = |word: &str| fields.iter().any(|field| field.starts_with(word));
    holds(!optional.is_empty(), || "there is no mount".into())?;
    let right = has("shared:") == (wanted == "shared") && has("unbindable") == (wanted == "unbindable");
    holds(right, || format!("the mount is {fields:?}"))
}

fn recursive(stage: &Stage, option: &str, flag: &str) -> Verdict {
    let seen = stage.observe("awk '$5 ~ \"^/mnt\" {print $5, $6}' /proc/self/mountinfo", |config| {
        push(config, "/mounts", json!({"destination": "/mnt", "type": "bind", "source": "/dev", "options": ["rbind", option]}));
    })?;
    let lines: Vec<&str> = seen.out.lines().collect();
    if lines.len() < 2 {
        return skip("the host has no mount below /dev to look at");
    }
    let without: Vec<&&str> = lines
        .iter()
        .filter(|line| !line.split([' ', ',']).any(|word| word == flag))
        .collect();
    holds(without.is_empty(), || format!("without {flag}: {without:?}"))
}
