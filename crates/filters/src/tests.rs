use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use gabion_seccomp::floor::{ENTRIES, Gap};
use gabion_seccomp::{Profile, Target, compile, default};
use serde_json::json;
use tempfile::TempDir;

use super::*;

/// Docker's profile with a rule more, as a site may have it: nothing of it is built in.
fn docker() -> Value {
    let mut profile = engines()[0].1.clone();
    let rule = json!({"names": ["read"], "action": "SCMP_ACT_ALLOW"});
    profile["syscalls"].as_array_mut().unwrap().push(rule);
    profile
}

fn engines() -> Vec<(&'static str, Value)> {
    let read = |(name, text): (&'static str, &str)| (name, serde_json::from_str(text).unwrap());
    common::ENGINES_PROFILES.into_iter().map(read).collect()
}

/// A profile that is like no other: nothing of it is built in.
fn profile(number: usize) -> Value {
    json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": number, "syscalls": [
        {"names": ["read", "write", "exit_group"], "action": "SCMP_ACT_ALLOW"}]})
}

/// Filters of a process of its own, kept in this directory.
fn process(place: &TempDir) -> Filters {
    let filters = Filters::new();
    filters.keep_in(place.path().join("filters"));
    filters
}

#[track_caller]
fn comes_from(filters: &Filters, profile: &Value, source: Source) {
    let (study, found) = filters.study_from(profile).unwrap();
    assert_eq!(
        *study,
        floor::study(profile).unwrap(),
        "whatever it comes from, it is the same"
    );
    assert_eq!(found, source);
}

fn files(place: &TempDir) -> Vec<PathBuf> {
    let entries = fs::read_dir(place.path().join("filters"));
    let mut files: Vec<PathBuf> = entries.map_or(Vec::new(), |entries| {
        entries.map(|entry| entry.unwrap().path()).collect()
    });
    files.sort();
    files
}

/// The one file of a directory in which the filter of [`docker`] is kept.
fn kept(place: &TempDir) -> PathBuf {
    comes_from(&process(place), &docker(), Source::Made);
    let [file] = files(place).try_into().unwrap();
    file
}

/// What was done to the file is noticed, the filter made anew and kept again.
#[track_caller]
fn is_made_anew(place: &TempDir) {
    comes_from(&process(place), &docker(), Source::Made);
    comes_from(&process(place), &docker(), Source::Kept);
}

#[test]
fn a_filter_is_made_once_for_all_processes_and_looked_up_once_in_each() {
    let place = TempDir::new().unwrap();
    let first = process(&place);
    comes_from(&first, &docker(), Source::Made);
    comes_from(&first, &docker(), Source::Memory);
    let second = process(&place);
    comes_from(&second, &docker(), Source::Kept);
    comes_from(&second, &docker(), Source::Memory);
    let directory = fs::metadata(place.path().join("filters")).unwrap();
    let file = fs::metadata(&files(&place)[0]).unwrap();
    assert_eq!((directory.mode() & 0o7777, file.mode() & 0o7777), (0o700, 0o600));
    // Without a directory nothing is written, and the answer is the same.
    comes_from(&Filters::new(), &docker(), Source::Made);
    let floor = ["bpf".to_owned(), "nested".to_owned()];
    let source = |filters: &Filters, bounding: &[&str]| {
        let bounding: Vec<String> = bounding.iter().map(|name| (*name).to_owned()).collect();
        let found = filters.floor_from(&floor, &bounding).unwrap();
        assert_eq!(
            found.as_ref().map(|(filter, _)| filter),
            floor::filter(&floor, &bounding).unwrap().as_ref()
        );
        found.map(|(_, source)| source)
    };
    assert_eq!(source(&first, &[]), Some(Source::Made));
    assert_eq!(source(&second, &[]), Some(Source::Kept));
    // A capability that has to do with none of its entries changes nothing, one that has does.
    assert_eq!(source(&second, &["CAP_NET_RAW"]), Some(Source::Kept));
    assert_eq!(source(&second, &["CAP_BPF"]), Some(Source::Made));
    assert_eq!(source(&second, &["CAP_SYS_ADMIN"]), None);
    assert_eq!(files(&place).len(), 3);
}

#[test]
fn what_is_no_profile_is_an_error_each_time_and_is_not_kept() {
    let place = TempDir::new().unwrap();
    let filters = process(&place);
    for _ in 0..2 {
        assert!(filters.study(&json!({"defaultAction": "SCMP_ACT_DENY"})).is_err());
        assert_eq!(
            filters.floor(&["nestled".to_owned()], &[]),
            Err(FloorError::Unknown("nestled".to_owned()))
        );
    }
    assert!(files(&place).is_empty());
}

#[test]
fn a_file_with_another_content_is_noticed_and_made_anew() {
    let place = TempDir::new().unwrap();
    let file = kept(&place);
    let whole = fs::read(&file).unwrap();
    // Cut off anywhere, a few bytes at a time; and a bit turned everywhere.
    for length in (0..whole.len()).step_by(97) {
        fs::write(&file, &whole[..length]).unwrap();
        let (study, source) = process(&place).study_from(&docker()).unwrap();
        assert_eq!(
            (source, study.compiled.is_some()),
            (Source::Made, true),
            "{length}"
        );
    }
    for at in (0..whole.len()).step_by(61) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(&file, &damaged).unwrap();
        assert_eq!(
            process(&place).study_from(&docker()).unwrap().1,
            Source::Made,
            "{at}"
        );
    }
    for content in [
        Vec::new(),
        [whole.as_slice(), b"x"].concat(),
        vec![0; 2 << 20],
        b"gabion filter 1\n".to_vec(),
    ] {
        fs::write(&file, content).unwrap();
        is_made_anew(&place);
    }
}

#[test]
fn another_filter_under_this_name_is_noticed() {
    let place = TempDir::new().unwrap();
    let file = kept(&place);
    let open = json!({"defaultAction": "SCMP_ACT_ALLOW"});
    comes_from(&process(&place), &open, Source::Made);
    let other = files(&place).into_iter().find(|other| *other != file).unwrap();
    // Whole, with a digest that is right, and about another profile.
    fs::copy(other, &file).unwrap();
    is_made_anew(&place);
}

#[test]
fn a_forgery_with_a_digest_that_is_right_is_noticed_by_what_it_lets_through() {
    let place = TempDir::new().unwrap();
    let file = kept(&place);
    let mut forged = floor::study(&docker()).unwrap();
    forged.compiled = floor::study(&json!({"defaultAction": "SCMP_ACT_ALLOW"}))
        .unwrap()
        .compiled;
    let mut bytes = fs::read(&file).unwrap()[..48].to_vec();
    bytes.extend_from_slice(&forged.to_bytes());
    let digest = Sha256::digest(&bytes);
    bytes.extend_from_slice(&digest);
    fs::write(&file, &bytes).unwrap();
    is_made_anew(&place);
    // The control: the same with what it was is taken.
    let mut bytes = fs::read(&file).unwrap()[..48].to_vec();
    bytes.extend_from_slice(&floor::study(&docker()).unwrap().to_bytes());
    let digest = Sha256::digest(&bytes);
    bytes.extend_from_slice(&digest);
    fs::write(&file, &bytes).unwrap();
    comes_from(&process(&place), &docker(), Source::Kept);
}

#[test]
fn a_file_that_others_may_touch_is_not_used() {
    let place = TempDir::new().unwrap();
    let file = kept(&place);
    let whole = fs::read(&file).unwrap();
    for mode in [0o640, 0o604, 0o620, 0o602, 0o644, 0o700 | 0o011] {
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        is_made_anew(&place);
    }
    // A link, to the very same content.
    let elsewhere = place.path().join("elsewhere");
    fs::write(&elsewhere, &whole).unwrap();
    fs::set_permissions(&elsewhere, Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(&file).unwrap();
    symlink(&elsewhere, &file).unwrap();
    is_made_anew(&place);
    assert_eq!(
        fs::read(&elsewhere).unwrap(),
        whole,
        "and what it led to is left alone"
    );
    fs::remove_file(&file).unwrap();
    fs::hard_link(&elsewhere, &file).unwrap();
    is_made_anew(&place);
    // Nobody waits for a FIFO, and a directory goes.
    fs::remove_file(&file).unwrap();
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRUSR).unwrap();
    is_made_anew(&place);
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    is_made_anew(&place);
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&file, Some(12345), Some(0)).unwrap();
        is_made_anew(&place);
    } else {
        println!("not root: a foreign owner is not tried");
    }
}

#[test]
fn a_directory_that_others_may_touch_is_not_used_and_left_as_it_is() {
    let place = TempDir::new().unwrap();
    let file = kept(&place);
    let directory = place.path().join("filters");
    let is_unused = || {
        let before = fs::read(&file).unwrap();
        comes_from(&process(&place), &docker(), Source::Made);
        comes_from(&process(&place), &profile(1), Source::Made);
        assert_eq!((files(&place).len(), fs::read(&file).unwrap()), (1, before));
    };
    for mode in [0o755, 0o750, 0o701, 0o777, 0o1777] {
        fs::set_permissions(&directory, Permissions::from_mode(mode)).unwrap();
        is_unused();
    }
    fs::set_permissions(&directory, Permissions::from_mode(0o700)).unwrap();
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&directory, Some(12345), Some(0)).unwrap();
        is_unused();
        std::os::unix::fs::chown(&directory, Some(0), Some(0)).unwrap();
    } else {
        println!("not root: a foreign owner is not tried");
    }
    comes_from(&process(&place), &docker(), Source::Kept);
    let moved = place.path().join("moved");
    fs::rename(&directory, &moved).unwrap();
    symlink(&moved, &directory).unwrap();
    comes_from(&process(&place), &docker(), Source::Made);
    fs::remove_file(&directory).unwrap();
    fs::write(&directory, "a file").unwrap();
    comes_from(&process(&place), &docker(), Source::Made);
}

#[test]
fn twenty_starts_at_once_all_have_the_right_filter_and_leave_whole_files() {
    let place = TempDir::new().unwrap();
    let wanted = floor::study(&docker()).unwrap();
    for _ in 0..5 {
        std::thread::scope(|scope| {
            for number in 0..20 {
                let (place, wanted) = (&place, &wanted);
                scope.spawn(move || {
                    let filters = process(place);
                    assert_eq!(*filters.study(&docker()).unwrap(), *wanted);
                    assert_eq!(
                        *filters.study(&profile(number % 4)).unwrap(),
                        floor::study(&profile(number % 4)).unwrap()
                    );
                    // Somebody poisons it meanwhile.
                    if number == 7 {
                        let named = |file: &PathBuf| file.file_name().unwrap().len() == 64;
                        for file in files(place).into_iter().filter(named) {
                            fs::write(file, "poison").unwrap();
                        }
                    }
                });
            }
        });
    }
    // Those that were poisoned last are made anew; then all are whole, and no draft is left.
    for profile in [docker(), profile(0), profile(1), profile(2), profile(3)] {
        drop(process(&place).study(&profile).unwrap());
        comes_from(&process(&place), &profile, Source::Kept);
    }
    let names = files(&place);
    assert!(
        names.iter().all(|file| file.file_name().unwrap().len() == 64),
        "{names:?}"
    );
}

#[test]
fn no_more_is_kept_than_the_bounds_and_the_oldest_go_first() {
    let place = TempDir::new().unwrap();
    comes_from(&process(&place), &profile(0), Source::Made);
    let oldest = files(&place).remove(0);
    let long_ago = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000);
    fs::File::open(&oldest).unwrap().set_modified(long_ago).unwrap();
    // What somebody left who was killed on the way.
    let draft = place.path().join("filters/~4194304.0");
    fs::write(&draft, "half").unwrap();
    fs::File::open(&draft).unwrap().set_modified(long_ago).unwrap();
    for number in 1..MOST_FILTERS + 10 {
        comes_from(&process(&place), &profile(number), Source::Made);
    }
    assert_eq!(files(&place).len(), MOST_FILTERS);
    assert!(!oldest.exists() && !draft.exists());
    comes_from(&process(&place), &profile(MOST_FILTERS + 9), Source::Kept);
    comes_from(&process(&place), &profile(0), Source::Made);
    // By size: filters of some 30 kB each.
    let long = |number: usize| {
        let rules: Vec<Value> = (0..900)
            .map(|value| {
                json!({"names": ["mmap"], "action": "SCMP_ACT_ALLOW", "args": [
                    {"index": 0, "value": 3 * value + number, "op": "SCMP_CMP_EQ"}]})
            })
            .collect();
        json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules})
    };
    for number in 0..40 {
        drop(process(&place).study(&long(number)).unwrap());
    }
    let sizes: Vec<u64> = files(&place)
        .iter()
        .map(|file| fs::metadata(file).unwrap().len())
        .collect();
    assert!(sizes.iter().any(|size| *size > 20_000), "{sizes:?}");
    assert!(
        sizes.iter().sum::<u64>() <= MOST_BYTES && sizes.len() <= MOST_FILTERS,
        "{sizes:?}"
    );
    comes_from(&process(&place), &long(39), Source::Kept);
}

#[test]
fn where_nothing_can_be_kept_filters_are_made_each_time() {
    let place = TempDir::new().unwrap();
    // There is no directory above it.
    let filters = Filters::new();
    filters.keep_in(place.path().join("not/there"));
    comes_from(&filters, &docker(), Source::Made);
    assert!(!place.path().join("not").exists());
    if !nix::unistd::geteuid().is_root() {
        println!("not root: full and read-only file systems are not tried");
        return;
    }
    // Read-only, and full: in a mount namespace of this thread's own.
    let made = |options: &'static str, fill: bool| {
        let path = place.path().join("mounted");
        let work = move || {
            use nix::mount::{MsFlags, mount};
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS | nix::sched::CloneFlags::CLONE_FS)
                .unwrap();
            let none: Option<&Path> = None;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            fs::create_dir_all(&path).unwrap();
            mount(
                Some("tmpfs"),
                &path,
                Some("tmpfs"),
                MsFlags::empty(),
                Some(options),
            )
            .unwrap();
            if fill {
                let mut bytes = vec![0; 4096];
                let mut number = 0;
                while fs::write(path.join(format!("filling{number}")), &bytes).is_ok() {
                    number += 1;
                    bytes.push(0);
                }
            } else {
                mount(none, &path, none, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none).unwrap();
            }
            let filters = Filters::new();
            filters.keep_in(path.join("filters"));
            comes_from(&filters, &docker(), Source::Made);
            let left: Vec<PathBuf> = fs::read_dir(path.join("filters"))
                .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
                .unwrap_or_default();
            assert!(left.is_empty(), "nothing half-written is left: {left:?}");
        };
        std::thread::spawn(work).join().unwrap();
    };
    made("size=16k,mode=700", true);
    made("size=1m,mode=700", false);
}

#[test]
fn the_key_has_everything_that_decides() {
    let other = {
        let mut other = built_in::COMPILER;
        other[0] ^= 1;
        other
    };
    let of = |compiler: &Key, kind, given: &str| key(compiler, kind, &given).unwrap();
    let one = of(&built_in::COMPILER, Kind::Study, "given");
    assert_ne!(one, of(&other, Kind::Study, "given"), "the compiler");
    assert_ne!(
        one,
        of(&built_in::COMPILER, Kind::Floor, "given"),
        "what is asked"
    );
    assert_ne!(one, of(&built_in::COMPILER, Kind::Study, "given "), "the profile");
    assert_ne!(one, on_this_kernel(&one), "the kernel");
    assert_eq!(one, of(&built_in::COMPILER, Kind::Study, "given"));
    // A file of another compiler is another file.
    let place = TempDir::new().unwrap();
    let file = kept(&place);
    let hexadecimal = |key: Key| key.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let ours = on_this_kernel(&key(&built_in::COMPILER, Kind::Study, &docker()).unwrap());
    let theirs = on_this_kernel(&key(&other, Kind::Study, &docker()).unwrap());
    assert_eq!(file.file_name().unwrap().to_str().unwrap(), hexadecimal(ours));
    fs::rename(&file, file.with_file_name(hexadecimal(theirs))).unwrap();
    is_made_anew(&place);
    // Architectures and flags are part of the profile.
    let mut value = docker();
    value["architectures"] = json!(["SCMP_ARCH_X86_64"]);
    comes_from(&process(&place), &value, Source::Made);
    value["flags"] = json!(["SECCOMP_FILTER_FLAG_LOG"]);
    comes_from(&process(&place), &value, Source::Made);
}

#[test]
fn what_is_built_in_is_what_the_compiler_makes() {
    let filters = Filters::new();
    let mut found = 0;
    for bounding in common::common_bounding_sets() {
        let value = default::profile(&bounding);
        comes_from(&filters, &value, Source::BuiltIn);
        let profile = Profile::from_value(&value).unwrap().unwrap();
        let made = compile(&profile, &Target::native()).unwrap();
        assert_eq!(filters.study(&value).unwrap().compiled.as_ref(), Some(&made));
        found += 1;
        for entries in common::common_floors() {
            let (filter, source) = filters.floor_from(&entries, &bounding).unwrap().unwrap();
            assert_eq!(source, Source::BuiltIn);
            assert_eq!(Some(filter), floor::filter(&entries, &bounding).unwrap());
        }
    }
    assert_eq!(found, 8);
    assert!(built_in::RECORDS.is_sorted_by(|a, b| a.0 < b.0));
}

/// The profiles that engines send, and the floors under them for the capabilities that they give to ordinary containers.
#[test]
fn what_engines_need_is_built_in() {
    let docker = [
        "CAP_CHOWN",
        "CAP_NET_RAW",
        "CAP_SYS_CHROOT",
        "CAP_AUDIT_WRITE",
        "CAP_MKNOD",
    ];
    let podman = ["CAP_CHOWN", "CAP_SYS_CHROOT"];
    let mut missing = Vec::new();
    for (name, value) in engines().into_iter().chain([("default", default::profile(&[]))]) {
        comes_from(&Filters::new(), &value, Source::BuiltIn);
        let study = Filters::new().study(&value).unwrap();
        for capabilities in [&docker[..], &podman, &[]] {
            let bounding: Vec<String> = capabilities.iter().map(|name| (*name).to_owned()).collect();
            for restricted in [false, true] {
                let gaps = study.gaps(&bounding);
                let in_force = |gap: &&Gap| restricted || !gap.restricted;
                let mut entries: Vec<String> = gaps
                    .iter()
                    .filter(in_force)
                    .map(|gap| gap.entry.to_owned())
                    .collect();
                if restricted && name != "default" {
                    entries.push(floor::COMPATIBILITY.to_owned());
                }
                match Filters::new().floor_from(&entries, &bounding).unwrap() {
                    None | Some((_, Source::BuiltIn)) => {}
                    Some(_) => missing.push((name, restricted, entries.join(" "))),
                }
            }
        }
    }
    missing.dedup();
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(ENTRIES.len() > 20);
}
