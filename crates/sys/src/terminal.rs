//! The size of a terminal (ioctl_tty(2)).

use std::os::fd::{AsFd, AsRawFd};

use crate::error::{Result, check};

/// Gives one terminal the size of another.
///
/// # Errors
/// `ENOTTY` if either is none.
pub fn copy_size(from: impl AsFd, to: impl AsFd) -> Result<()> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one struct winsize to the pointer, a live local of that type.
    let outcome = unsafe { libc::ioctl(from.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    check(outcome.into(), || "ioctl(TIOCGWINSZ)".to_owned())?;
    // SAFETY: TIOCSWINSZ reads one struct winsize from the pointer, the same live local.
    let outcome = unsafe { libc::ioctl(to.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    check(outcome.into(), || format!("ioctl(TIOCSWINSZ, {}x{})", size.ws_row, size.ws_col)).map(drop)
}

/// Gives a terminal a size, in characters.
///
/// # Errors
/// `ENOTTY` if it is none.
pub fn resize(terminal: impl AsFd, rows: u16, columns: u16) -> Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one struct winsize from the pointer, a live local of that type.
    let outcome = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    check(outcome.into(), || format!("ioctl(TIOCSWINSZ, {rows}x{columns})")).map(drop)
}

/// The width of a terminal in columns; `None` if the descriptor is no terminal, or one that does not say.
pub fn columns(terminal: impl AsFd) -> Option<usize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one struct winsize to the pointer, a live local of that type, and nothing on
    // failure, when the zeros stay.
    let answer = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (answer == 0 && size.ws_col > 0).then_some(usize::from(size.ws_col))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_says_its_width_and_a_file_does_not() {
        let size = nix::pty::Winsize { ws_row: 24, ws_col: 132, ws_xpixel: 0, ws_ypixel: 0 };
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
