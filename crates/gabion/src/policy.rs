//! Reads the site's policy files, and only if nobody but root could have written them.
//!
//! A policy decides what may run as root on this host, so whoever can write one is root. If that could be someone
//! else, nothing runs until it is mended: going on with the built-in policy would let an attacker who damages the
//! files choose the weaker one.
//!
//! There is no environment variable for the place: callers that pass on an environment would then pass on the
//! choice of policy. `--policy` is given by who starts the runtime, who could start any other.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use gabion_baseline::policy::DefaultSeccomp;
use gabion_baseline::policy_file::{PolicyText, Site};
use gabion_baseline::waiver::Day;
use gabion_host::owner::is_hosts_root;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;

/// Where the policy is, if nobody says otherwise. Drop-ins are in the directory of the same name with `.d`.
pub(crate) const PATH: &str = "/etc/gabion/policy.toml";

/// The largest policy file that is read, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// Reads the policy and its drop-ins: `/etc/gabion/policy.toml` and `/etc/gabion/policy.d/*.toml` in the order of
/// their names. A file that was asked for has to be there; the default one need not.
pub(crate) fn load(asked_for: Option<&Path>, default_seccomp: DefaultSeccomp) -> anyhow::Result<Site> {
    let path = asked_for.unwrap_or(Path::new(PATH));
    let texts =
        read(path, nix::unistd::geteuid().as_raw()).context("nothing runs without a policy to trust")?;
    if texts.is_empty() && asked_for.is_some() {
        bail!("there is no policy {path:?}");
    }
    let mut site = Site::read(&texts, default_seccomp)?;
    site.policy.today = today();
    Ok(site)
}

/// Reads one file as a policy, whoever it belongs to: nothing is judged by it.
pub(crate) fn load_untrusted(path: &Path) -> anyhow::Result<Site> {
    let file = File::open(path).with_context(|| format!("cannot open {path:?}"))?;
    let mut text = String::new();
    file.take(MAX_BYTES + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read {path:?}"))?;
    if text.len() as u64 > MAX_BYTES {
        bail!("{path:?} is larger than {MAX_BYTES} bytes");
    }
    let name = path.display().to_string();
    let mut site = Site::read(&[PolicyText { name, text }], gabion_seccomp::default::profile)?;
    site.policy.today = today();
    Ok(site)
}

/// The date, in UTC. `None` if the clock stands before 1970: no waiver applies then.
fn today() -> Option<Day> {
    let since = std::time::UNIX_EPOCH.elapsed().ok()?;
    Day::after_epoch(since.as_secs() / 86_400)
}

/// The texts of the files that are there. `user` is trusted beside root: without root, gabion can only hurt who
/// runs it.
fn read(path: &Path, user: u32) -> anyhow::Result<Vec<PolicyText>> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = path
        .file_name()
        .ok_or_else(|| anyhow!("the policy {path:?} is not a file"))?;
    let Some(directory) = open(None, parent.as_os_str(), parent, OFlag::O_DIRECTORY)? else {
        return Ok(Vec::new());
    };
    trusted(parent, &directory, user)?;
    let mut texts = Vec::new();
    if let Some(file) = open(Some(&directory), name, path, OFlag::empty())? {
        texts.push(text(path, file, user)?);
    }
    let drop_ins = path.with_extension("d");
    let drop_in_name = drop_ins.file_name().unwrap_or_default().to_owned();
    if let Some(directory) = open(Some(&directory), &drop_in_name, &drop_ins, OFlag::O_DIRECTORY)? {
        trusted(&drop_ins, &directory, user)?;
        for name in names(&drop_ins)? {
            let path = drop_ins.join(&name);
            if let Some(file) = open(Some(&directory), &name, &path, OFlag::empty())? {
                texts.push(text(&path, file, user)?);
            }
        }
    }
    Ok(texts)
}

/// The names of the drop-ins, in order.
fn names(directory: &Path) -> anyhow::Result<Vec<OsString>> {
    let what = || format!("cannot read the directory {directory:?}");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(what)? {
        let name = entry.with_context(what)?.file_name();
        if Path::new(&name)
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Opens a file or directory below one that was checked, without following a link; `None` if nothing is there.
fn open(
    directory: Option<&File>,
    name: &std::ffi::OsStr,
    path: &Path,
    kind: OFlag,
) -> anyhow::Result<Option<File>> {
    // O_NONBLOCK: a FIFO in the file's place would block the open for ever.
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | kind;
    let opened = match directory {
        Some(directory) => openat(directory, name, flags, Mode::empty()),
        None => openat(AT_FDCWD, name, flags, Mode::empty()),
    };
    match opened {
        Ok(descriptor) => Ok(Some(File::from(descriptor))),
        Err(Errno::ENOENT) => Ok(None),
        // O_DIRECTORY is looked at before O_NOFOLLOW: a link in a directory's place is no directory.
        Err(Errno::ELOOP) => Err(link(path)),
        Err(Errno::ENOTDIR) if path.is_symlink() => Err(link(path)),
        Err(errno) => Err(anyhow!("cannot open the policy {path:?}: {}", errno.desc())),
    }
}

fn link(path: &Path) -> anyhow::Error {
    anyhow!("the policy {path:?} is a symbolic link; put the file itself there")
}

fn text(path: &Path, mut file: File, user: u32) -> anyhow::Result<PolicyText> {
    let metadata = file
        .metadata()
        .with_context(|| format!("cannot look at the policy {path:?}"))?;
    if !metadata.is_file() {
        bail!("the policy {path:?} is not a regular file");
    }
    trusted(path, &file, user)?;
    let mut text = String::new();
    let read = file.by_ref().take(MAX_BYTES + 1).read_to_string(&mut text);
    read.with_context(|| format!("cannot read the policy {path:?}"))?;
    if text.len() as u64 > MAX_BYTES {
        bail!("the policy {path:?} is larger than {MAX_BYTES} bytes");
    }
    Ok(PolicyText {
        name: path.display().to_string(),
        text,
    })
}

/// Refuses what someone else than root, or than ourselves, could have written.
fn trusted(path: &Path, file: &File, user: u32) -> anyhow::Result<()> {
    let shown = path.display();
    let metadata = file
        .metadata()
        .with_context(|| format!("cannot look at the policy {path:?}"))?;
    let is_ours = metadata.uid() == 0 || metadata.uid() == user;
    if !is_ours && !is_hosts_root(path, file.as_fd()) {
        bail!(
            "{path:?} belongs to user {}, who could change the policy; `chown root: {shown}` as root repairs it",
            metadata.uid()
        );
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o022 != 0 {
        bail!(
            "{path:?} may be written by others (mode {mode:04o}), who could change the policy; \
             `chmod go-w {shown}` as root repairs it"
        );
    }
    Ok(())
}

/// What decides the profile, strongest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChosenBy {
    /// The policy file, or nothing at all: the built-in one.
    Policy,
    /// `--profile`.
    Flag,
    /// The name the program was called by.
    Name,
}

impl ChosenBy {
    /// As `gabion policy show` has it.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            ChosenBy::Policy => "the policy",
            ChosenBy::Flag => "--profile",
            ChosenBy::Name => "the name gabion-restricted",
        }
    }
}

/// Chooses the profile. Who calls gabion decides it: by the name of the program, by `--profile`, or by leaving it
/// to the policy. Under the name `gabion-restricted` a flag can only make it stricter, since an engine's
/// configuration may name the program where its arguments are someone else's.
pub(crate) fn choose(site: &mut Site, flag: Option<gabion_baseline::Profile>, program: &Path) -> ChosenBy {
    use gabion_baseline::Profile;
    let restricted = program
        .file_name()
        .is_some_and(|name| name == "gabion-restricted");
    let (profile, by) = match (restricted, flag) {
        (true, flag) => (
            flag.map_or(Profile::Restricted, |flag| flag.max(Profile::Restricted)),
            ChosenBy::Name,
        ),
        (false, Some(flag)) => (flag, ChosenBy::Flag),
        (false, None) => (site.policy.profile, ChosenBy::Policy),
    };
    site.policy.profile = profile;
    by
}

/// The files that [`load`] would read if they were there, for people.
pub(crate) fn places(asked_for: Option<&Path>) -> (PathBuf, PathBuf) {
    let path = asked_for.unwrap_or(Path::new(PATH)).to_owned();
    let drop_ins = path.with_extension("d");
    (path, drop_ins)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::symlink;

    use gabion_baseline::Profile;
    use tempfile::TempDir;

    use super::*;

    fn directory() -> (TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("policy.toml");
        (directory, path)
    }

    fn write(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    }

    fn user() -> u32 {
        nix::unistd::geteuid().as_raw()
    }

    fn refused(path: &Path) -> String {
        format!("{:#}", read(path, user()).unwrap_err())
    }

    fn site(path: &Path) -> anyhow::Result<Site> {
        load(Some(path), |_| serde_json::Value::Null)
    }

    #[test]
    fn the_file_and_its_drop_ins_are_read_in_order() {
        let (directory, path) = directory();
        write(&path, "profile = \"privileged\"\n");
        let drop_ins = directory.path().join("policy.d");
        fs::create_dir(&drop_ins).unwrap();
        write(&drop_ins.join("20.toml"), "profile = \"restricted\"\n");
        write(
            &drop_ins.join("10.toml"),
            "profile = \"baseline\"\nlimits.pids = 7\n",
        );
        write(&drop_ins.join("30.toml~"), "nonsense");
        let site = site(&path).unwrap();
        assert_eq!(
            (site.policy.profile, site.policy.pids_limit),
            (Profile::Restricted, 7)
        );
    }

    #[test]
    fn a_policy_that_was_asked_for_has_to_be_there() {
        let (directory, path) = directory();
        assert_eq!(read(&path, user()).unwrap(), []);
        assert_eq!(
            site(&path).unwrap_err().to_string(),
            format!("there is no policy {path:?}")
        );
        assert_eq!(
            read(&directory.path().join("none/policy.toml"), user()).unwrap(),
            []
        );
    }

    #[test]
    fn drop_ins_alone_are_read() {
        let (directory, path) = directory();
        fs::create_dir(directory.path().join("policy.d")).unwrap();
        write(&directory.path().join("policy.d/a.toml"), "limits.pids = 9");
        assert_eq!(site(&path).unwrap().policy.pids_limit, 9);
    }

    #[test]
    fn what_others_may_write_is_no_policy_and_the_command_that_repairs_it_is_told() {
        let (directory, path) = directory();
        write(&path, "");
        for mode in [0o664, 0o646, 0o666] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(
                refused(&path),
                format!(
                    "{path:?} may be written by others (mode {mode:04o}), who could change the policy; \
                     `chmod go-w {}` as root repairs it",
                    path.display()
                )
            );
        }
        write(&path, "");
        fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
        assert!(refused(&path).starts_with(&format!(
            "{:?} may be written by others (mode 0777)",
            directory.path()
        )));
        fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
        let drop_ins = directory.path().join("policy.d");
        fs::create_dir(&drop_ins).unwrap();
        fs::set_permissions(&drop_ins, Permissions::from_mode(0o775)).unwrap();
        assert!(refused(&path).starts_with(&format!("{drop_ins:?} may be written by others (mode 0775)")));
        fs::set_permissions(&drop_ins, Permissions::from_mode(0o755)).unwrap();
        write(&drop_ins.join("a.toml"), "");
        fs::set_permissions(drop_ins.join("a.toml"), Permissions::from_mode(0o606)).unwrap();
        assert!(refused(&path).contains("a.toml\" may be written by others (mode 0606)"));
    }

    #[test]
    fn what_belongs_to_someone_else_is_no_policy() {
        let (_directory, path) = directory();
        write(&path, "");
        let stranger = user() + 1;
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(stranger), None).unwrap();
            assert_eq!(
                refused(&path),
                format!(
                    "{path:?} belongs to user {stranger}, who could change the policy; \
                     `chown root: {}` as root repairs it",
                    path.display()
                )
            );
        } else {
            let error = format!("{:#}", read(&path, stranger).unwrap_err());
            assert!(error.contains(&format!("belongs to user {}", user())), "{error}");
        }
    }

    #[test]
    fn a_link_a_fifo_and_a_directory_are_no_policy() {
        let (directory, path) = directory();
        let real = directory.path().join("real.toml");
        write(&real, "");
        symlink(&real, &path).unwrap();
        assert_eq!(
            refused(&path),
            format!("the policy {path:?} is a symbolic link; put the file itself there")
        );
        let fifo = directory.path().join("fifo.toml");
        nix::unistd::mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        assert_eq!(
            refused(&fifo),
            format!("the policy {fifo:?} is not a regular file")
        );
        let subdirectory = directory.path().join("dir.toml");
        fs::create_dir(&subdirectory).unwrap();
        assert_eq!(
            refused(&subdirectory),
            format!("the policy {subdirectory:?} is not a regular file")
        );
        let (linked, real) = (directory.path().join("linked"), directory.path().join("real"));
        fs::create_dir(&real).unwrap();
        symlink(&real, &linked).unwrap();
        assert!(refused(&linked.join("policy.toml")).contains("is a symbolic link"));
    }

    #[test]
    fn what_is_no_text_or_has_no_end_is_no_policy() {
        let (_directory, path) = directory();
        write(&path, &"#".repeat(MAX_BYTES as usize + 1));
        assert_eq!(
            refused(&path),
            format!("the policy {path:?} is larger than {MAX_BYTES} bytes")
        );
        fs::write(&path, b"\xff").unwrap();
        assert!(refused(&path).starts_with(&format!("cannot read the policy {path:?}: ")));
    }

    #[test]
    fn a_mistake_in_the_file_is_told_with_its_place() {
        let (_directory, path) = directory();
        write(&path, "\nprofil = \"baseline\"\n");
        assert_eq!(
            format!("{:#}", site(&path).unwrap_err()),
            format!(
                "{}, line 2 column 1: there is no key \"profil\"; did you mean \"profile\"?",
                path.display()
            )
        );
    }

    #[test]
    fn the_profile_is_chosen_by_name_then_by_flag_then_by_policy() {
        use Profile::{Baseline, Privileged, Restricted};
        let (normal, restricted) = (Path::new("/usr/bin/gabion"), Path::new("gabion-restricted"));
        for (program, flag, policy, expected, by) in [
            (normal, None, Privileged, Privileged, ChosenBy::Policy),
            (normal, Some(Privileged), Restricted, Privileged, ChosenBy::Flag),
            (normal, Some(Restricted), Privileged, Restricted, ChosenBy::Flag),
            (restricted, None, Privileged, Restricted, ChosenBy::Name),
            (restricted, Some(Privileged), Baseline, Restricted, ChosenBy::Name),
        ] {
            let mut site = Site::builtin(|_| serde_json::Value::Null);
            site.policy.profile = policy;
            assert_eq!(choose(&mut site, flag, program), by);
            assert_eq!(site.policy.profile, expected);
        }
    }
}
