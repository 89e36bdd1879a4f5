//! The descriptors that this process was started with and would hand on.
//!
//! Everything gabion opens has close-on-exec set; what has not was there before. The list is made without
//! opening any of them: a descriptor of a FIFO or a terminal stays as it is.

use gabion_baseline::facts::{DescriptorFact, Fact};
use gabion_sys::file::survives_exec;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, readlinkat};
use nix::sys::stat::{Mode, fstatat};

use crate::walk::Meta;

/// Lists them, by number.
pub(crate) fn collect() -> Fact<Vec<DescriptorFact>> {
    match list() {
        Ok(list) => Fact::Known(list),
        Err(why) => Fact::Unknown(why),
    }
}

fn list() -> Result<Vec<DescriptorFact>, String> {
    let directory = "/proc/self/fd";
    let failed = |errno: Errno| format!("{directory}: {}", errno.desc());
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut open = Dir::open(directory, flags, Mode::empty()).map_err(failed)?;
    let mut numbers = Vec::new();
    for entry in open.iter() {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_str().ok();
        numbers.extend(name.and_then(|name| name.parse::<i32>().ok()));
    }
    numbers.sort_unstable();
    let mut list = Vec::new();
    for number in numbers {
        // The directory's own descriptor has close-on-exec set.
        match survives_exec(number) {
            Ok(true) => {}
            Ok(false) => continue,
            Err(error) if error.errno == Errno::EBADF => continue,
            Err(error) => return Err(error.to_string()),
        }
        let name = number.to_string();
        let failed = |errno: Errno| format!("{directory}/{number}: {}", errno.desc());
        let kind = fstatat(&open, name.as_str(), AtFlags::empty()).map_err(failed)?;
        let target = readlinkat(&open, name.as_str()).map_err(failed)?;
        list.push(DescriptorFact {
            number,
            kind: Meta::of(&kind).kind(),
            target: target.to_string_lossy().into_owned(),
        });
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsRawFd;

    use gabion_baseline::facts::FileKind;
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};

    use super::*;

    #[test]
    fn what_would_be_handed_on_is_listed_and_our_own_files_are_not() {
        let keep = tempfile::tempdir().unwrap();
        let handed_on = fs::File::open(keep.path()).unwrap();
        fcntl(&handed_on, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        let ours = fs::File::open(keep.path()).unwrap();
        let (reader, _writer) = nix::unistd::pipe().unwrap();
        let Fact::Known(list) = collect() else { panic!() };
        let find = |number: i32| list.iter().find(|fact| fact.number == number);
        let fact = find(handed_on.as_raw_fd()).unwrap();
        assert_eq!(fact.kind, FileKind::Directory);
        assert_eq!(fact.target, keep.path().canonicalize().unwrap().to_str().unwrap());
        assert_eq!(find(ours.as_raw_fd()), None);
        let fact = find(reader.as_raw_fd()).unwrap();
        assert_eq!(fact.kind, FileKind::Fifo);
        assert!(fact.target.starts_with("pipe:["), "{fact:?}");
        assert!(list.is_sorted_by_key(|fact| fact.number));
    }
}
