//! `gabion kill`.

use std::str::FromStr;

use clap::Args;
use nix::sys::signal;

/// Send a signal to a container's init process
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Name of the container
    #[arg(value_name = "CONTAINER_ID")]
    pub id: String,

    /// Name or number of the signal: TERM, SIGTERM or 15
    #[arg(value_name = "SIGNAL", default_value = "TERM")]
    pub signal: Signal,

    /// Send it to every process of the container
    #[arg(short, long)]
    pub all: bool,
}

/// A signal's number; 0 is none, and asks whether the process is there (kill(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signal(pub(crate) i32);

/// The highest signal, `SIGRTMAX` (signal(7)).
const LAST: i32 = 64;

impl FromStr for Signal {
    type Err = String;

    /// Reads a number, or a name in either case of letters with or without `SIG`.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(number) = text.parse::<i32>() {
            if (0..=LAST).contains(&number) {
                return Ok(Signal(number));
            }
            return Err(format!("signals have numbers from 0 to {LAST}"));
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some(number) = real_time(name) {
            return Ok(Signal(number));
        }
        // Two names for one signal: nix has the second of each.
        let name = match name {
            "CLD" => "CHLD",
            "POLL" => "IO",
            "IOT" => "ABRT",
            other => other,
        };
        signal::Signal::from_str(&format!("SIG{name}"))
            .map(|signal| Signal(signal as i32))
            .map_err(|_| format!("unknown signal {text:?}: neither a name such as TERM nor a number"))
    }
}

/// `RTMIN`, `RTMIN+3`, `RTMAX-2`, `RTMAX`: 34 to 64 as C libraries count them.
fn real_time(name: &str) -> Option<i32> {
    const FIRST: i32 = 34;
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(""), _) => FIRST,
        (_, Some("")) => LAST,
        (Some(rest), _) => FIRST.checked_add(rest.strip_prefix('+')?.parse::<u8>().ok()?.into())?,
        (_, Some(rest)) => LAST.checked_sub(rest.strip_prefix('-')?.parse::<u8>().ok()?.into())?,
        _ => return None,
    };
    (FIRST..=LAST).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        let cases = [
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigkill", 9),
            ("term", 15),
            ("0", 0),
            ("64", 64),
            ("SIGRTMIN", 34),
            ("RTMIN+3", 37),
            ("SIGRTMAX-1", 63),
            ("RTMAX", 64),
            ("WINCH", 28),
            ("SIGPWR", 30),
            ("SIGCLD", 17),
            ("POLL", 29),
            ("IOT", 6),
        ];
        for (text, number) in cases {
            assert_eq!(text.parse(), Ok(Signal(number)), "{text}");
        }
    }

    #[test]
    fn what_is_no_signal_is_an_error() {
        for text in [
            "65",
            "-1",
            "",
            "SIG",
            "SIGSIGKILL",
            "NOPE",
            "RTMIN+31",
            "RTMIN-1",
            "RTMAX-31",
            "RTMIN+300",
        ] {
            assert!(text.parse::<Signal>().is_err(), "{text}");
        }
    }
}
