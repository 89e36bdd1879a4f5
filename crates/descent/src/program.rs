//! Which file the program is, and the directory it starts in: seen from inside, as the program's user.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use gabion_sys::CallError;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::chdir;

use crate::plan::Plan;
use crate::report::Failure;

/// Whether root was let into the working directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entered {
    /// It was.
    AsRoot,
    /// The container's user may be the only one who is let in, as with a root-squashed NFS volume.
    NotYet,
}

/// Enters the working directory. The container's first process makes it if it is not there, as engines expect of a
/// runtime; a further process does not, which engines rely on as well.
pub(crate) fn enter_directory(plan: &Plan) -> Result<Entered, Failure> {
    let path = Path::new(std::ffi::OsStr::from_bytes(plan.directory.as_bytes()));
    match chdir(path) {
        Ok(()) => Ok(Entered::AsRoot),
        Err(Errno::EACCES | Errno::EPERM) => Ok(Entered::NotYet),
        // runc's words.
        Err(Errno::ENOENT) if !plan.is_first => Err(Failure::Other(format!(
            "chdir to cwd ({path:?}) set in config.json failed: no such file or directory"
        ))),
        Err(Errno::ENOENT) => {
            // Resolved inside the container's root: this process has no other any more.
            std::fs::create_dir_all(path)
                .map_err(|error| Failure::Other(format!("process.cwd {path:?} cannot be made: {error}")))?;
            chdir(path).map_err(|errno| CallError::new(format!("chdir({path:?})"), errno))?;
            Ok(Entered::AsRoot)
        }
        Err(errno) => Err(CallError::new(format!("chdir({path:?})"), errno).into()),
    }
}

/// Enters it where only the container's user could, after the change of user.
pub(crate) fn enter_directory_as_user(plan: &Plan, entered: Entered) -> Result<(), Failure> {
    if entered == Entered::AsRoot {
        return Ok(());
    }
    chdir(plan.directory.as_c_str())
        .map_err(|errno| CallError::new(format!("chdir({:?})", plan.directory), errno).into())
}

/// The file that `args[0]` names: itself if it has a slash, otherwise the first executable of that name in the
/// container's `PATH`.
///
/// The words of the errors are those by which Docker's client tells exit status 127 and 126 from 125.
pub(crate) fn find(plan: &Plan) -> Result<CString, Failure> {
    let Some(name) = plan.arguments.first() else {
        return Err(Failure::Program(
            "process.args is empty: there is no program to execute".to_owned(),
        ));
    };
    let own = own_program();
    let text = name.to_string_lossy();
    if text.is_empty() {
        return Err(Failure::Program(
            "exec: \"\": executable file not found in $PATH".to_owned(),
        ));
    }
    if name.as_bytes().contains(&b'/') {
        return match usable(name, plan, own) {
            Ok(()) => Ok(name.clone()),
            Err(Unusable::Errno(Errno::ENOENT)) => Err(Failure::Program(format!(
                "exec: {text:?}: stat {text}: no such file or directory"
            ))),
            Err(unusable) => Err(Failure::Program(format!("exec: {text:?}: {}", unusable.words()))),
        };
    }
    let search = plan
        .environment
        .iter()
        .find_map(|entry| entry.as_bytes().strip_prefix(b"PATH="))
        .map_or_else(
            || b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_vec(),
            <[u8]>::to_vec,
        );
    let mut denied = None;
    for directory in search.split(|&byte| byte == b':') {
        let directory: &[u8] = if directory.is_empty() { b"." } else { directory };
        let mut candidate = directory.to_vec();
        candidate.push(b'/');
        candidate.extend_from_slice(name.as_bytes());
        let Ok(candidate) = CString::new(candidate) else {
            continue;
        };
        match usable(&candidate, plan, own) {
            Ok(()) => return Ok(candidate),
            Err(Unusable::Errno(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP)) => {}
            Err(unusable) => denied = denied.or(Some(unusable)),
        }
    }
    Err(Failure::Program(match denied {
        Some(unusable @ Unusable::OnProcfs) => format!("exec: {text:?}: {}", unusable.words()),
        _ => format!("exec: {text:?}: executable file not found in $PATH"),
    }))
}

/// V-19: what was found when the container was built is still a file to execute, and neither on a procfs nor the
/// runtime's own program: whatever was put in its place meanwhile is looked at once more.
///
/// It is executed by its path all the same: a script needs one, and by descriptor the kernel would call the process by
/// the descriptor's number. What a swap after this can gain is what the workload has anyway; the runtime's program is a
/// copy that nobody can write.
pub(crate) fn verify(path: &CStr, plan: &Plan, own: Option<(u64, u64)>) -> Result<(), Failure> {
    match usable(path, plan, own) {
        Ok(()) => Ok(()),
        Err(Unusable::OnProcfs) => Err(Failure::mismatch(
            "V-19",
            format!(
                "{path:?} leads into /proc, where it could name the runtime's own program (CVE-2019-5736)"
            ),
        )),
        Err(Unusable::NotAFile) => Err(Failure::mismatch(
            "V-19",
            format!("{path:?} is not a regular file"),
        )),
        // What else keeps it from being executed, execve says in the words that engines know.
        Err(Unusable::Errno(_) | Unusable::NotExecutable) => Ok(()),
    }
}

/// Why a file is not one to execute.
enum Unusable {
    Errno(Errno),
    NotAFile,
    NotExecutable,
    OnProcfs,
}

impl Unusable {
    fn words(&self) -> &'static str {
        match self {
            Unusable::Errno(Errno::EACCES) | Unusable::NotExecutable => "permission denied",
            Unusable::Errno(errno) => errno.desc(),
            Unusable::NotAFile => "is a directory: permission denied",
            Unusable::OnProcfs => {
                "V-19: it leads into /proc, where it could name the runtime's own program (CVE-2019-5736)"
            }
        }
    }
}

fn usable(path: &CStr, plan: &Plan, own: Option<(u64, u64)>) -> Result<(), Unusable> {
    let file = open_as_path(path).map_err(Unusable::Errno)?;
    let stat = fstat(&file).map_err(Unusable::Errno)?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(Unusable::NotAFile);
    }
    let system = nix::sys::statfs::fstatfs(&file).map_err(Unusable::Errno)?;
    if system.filesystem_type() == nix::sys::statfs::PROC_SUPER_MAGIC
        || own == Some((stat.st_dev, stat.st_ino))
    {
        return Err(Unusable::OnProcfs);
    }
    let user = &plan.user;
    let execute = if stat.st_uid == user.uid {
        0o100
    } else if stat.st_gid == user.gid || user.groups.contains(&stat.st_gid) {
        0o010
    } else {
        0o001
    };
    // Root executes what anybody may execute (capabilities(7), CAP_DAC_OVERRIDE); an access control list may
    // allow more than the mode shows, and the kernel is asked in the end. What nobody may execute is certain.
    let allowed = stat.st_mode & if user.uid == 0 { 0o111 } else { execute } != 0;
    if !allowed && (user.uid == 0 || stat.st_mode & 0o111 == 0) {
        return Err(Unusable::NotExecutable);
    }
    Ok(())
}

fn open_as_path(path: &CStr) -> Result<std::os::fd::OwnedFd, Errno> {
    // Links are followed, magic ones too: that is how a program under /proc is recognized for what it is.
    nix::fcntl::openat(AT_FDCWD, path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
}

/// Which file the program of this very process is: the runtime.
fn own_program() -> Option<(u64, u64)> {
    let own = open(c"/proc/self/exe", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
    let stat = fstat(&own).ok()?;
    Some((stat.st_dev, stat.st_ino))
}
