//! The size of a terminal (ioctl_tty(2)).

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::error::{CallError, Result, check};

/// Gives one terminal the size of another.
///
/// # Errors
/// `ENOTTY` if either is none.
pub fn copy_size(from: impl AsFd, to: impl AsFd) -> Result<()> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCGWINSZ writes one struct winsize to the pointer, a live local of that type.
    let outcome = unsafe { libc::ioctl(from.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    check(outcome.into(), || "ioctl(TIOCGWINSZ)".to_owned())?;
    // SAFETY: TIOCSWINSZ reads one struct winsize from the pointer, the same live local.
    let outcome = unsafe { libc::ioctl(to.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    check(outcome.into(), || {
        format!("ioctl(TIOCSWINSZ, {}x{})", size.ws_row, size.ws_col)
    })
    .map(drop)
}

/// Gives a terminal a size, in characters.
///
/// # Errors
/// `ENOTTY` if it is none.
pub fn resize(terminal: impl AsFd, rows: u16, columns: u16) -> Result<()> {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCSWINSZ reads one struct winsize from the pointer, a live local of that type.
    let outcome = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    check(outcome.into(), || format!("ioctl(TIOCSWINSZ, {rows}x{columns})")).map(drop)
}

/// The width of a terminal in columns; `None` if the descriptor is no terminal, or one that does not say.
pub fn columns(terminal: impl AsFd) -> Option<usize> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCGWINSZ writes one struct winsize to the pointer, a live local of that type, and nothing on
    // failure, when the zeros stay.
    let answer = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (answer == 0 && size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// Opens a new terminal of the devpts that is mounted at /dev/pts: its master and slave side.
///
/// Nothing is opened by a name that the container chose: the master is devpts' own `ptmx`, which is established, and
/// the slave is asked of the master (ioctl_tty(2), `TIOCGPTPEER`, Linux 4.13).
///
/// # Errors
/// If there is no devpts at /dev/pts, or it gives no terminal.
pub fn open_in_container() -> Result<(OwnedFd, OwnedFd)> {
    /// `DEVPTS_SUPER_MAGIC` of linux/magic.h.
    const DEVPTS: nix::sys::statfs::FsType = nix::sys::statfs::FsType(0x1cd1);
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let master = nix::fcntl::open("/dev/pts/ptmx", flags, nix::sys::stat::Mode::empty())
        .map_err(|errno| CallError::new("open(/dev/pts/ptmx)", errno))?;
    let system = nix::sys::statfs::fstatfs(&master)
        .map_err(|errno| CallError::new("fstatfs(/dev/pts/ptmx)", errno))?
        .filesystem_type();
    if system != DEVPTS || crate::mount::place(&master)?.device != (5, 2) {
        return Err(CallError::new(
            "open(/dev/pts/ptmx): it is not devpts' own",
            Errno::EPERM,
        ));
    }
    let unlocked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int from the pointer, a live local.
    let outcome = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) };
    check(outcome.into(), || "ioctl(TIOCSPTLCK)".to_owned())?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open flags as its argument, no pointer, and returns a new descriptor.
    let outcome = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    let number = check(outcome.into(), || "ioctl(TIOCGPTPEER)".to_owned())?;
    // SAFETY: the kernel just returned it as a new descriptor, and nothing else owns it.
    let slave = unsafe { OwnedFd::from_raw_fd(number as i32) };
    Ok((master, slave))
}

/// Makes a terminal the controlling one of this process' session, and its three standard streams.
///
/// # Errors
/// `EPERM` if this process leads no session or has a controlling terminal already.
pub fn become_controlling(slave: OwnedFd) -> Result<()> {
    // SAFETY: TIOCSCTTY takes an integer; 0 asks for the terminal only if nobody has it.
    let outcome = unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0) };
    check(outcome.into(), || "ioctl(TIOCSCTTY)".to_owned())?;
    nix::unistd::dup2_stdin(&slave)
        .and_then(|()| nix::unistd::dup2_stdout(&slave))
        .and_then(|()| nix::unistd::dup2_stderr(&slave))
        .map_err(|errno| CallError::new("dup2(terminal)", errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_says_its_width_and_a_file_does_not() {
        let size = nix::pty::Winsize {
            ws_row: 24,
            ws_col: 132,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pair = nix::pty::openpty(Some(&size), None).unwrap();
        assert_eq!(columns(&pair.slave), Some(132));
        let silent = nix::pty::openpty(None, None).unwrap();
        assert_eq!(columns(&silent.slave), None);
        assert_eq!(columns(std::fs::File::open("/dev/null").unwrap()), None);
    }

    #[test]
    fn a_terminal_takes_the_size_that_it_is_given() {
        let pair = nix::pty::openpty(None, None).unwrap();
        resize(&pair.slave, 31, 97).unwrap();
        assert_eq!(columns(&pair.master), Some(97));
        let error = resize(std::fs::File::open("/dev/null").unwrap(), 1, 1).unwrap_err();
        assert_eq!(error.errno, nix::errno::Errno::ENOTTY);
    }
}
