//! V-15: kernel parameters have the values that they were given.

use gabion_sys::CallError;
use nix::errno::Errno;

use crate::plan::Plan;
use crate::procfs::Procfs;
use crate::report::Failure;

/// Reads them back. One that can only be written, as `net.ipv4.route.flush`, has no value to compare.
pub(crate) fn parameters(plan: &Plan, procfs: &Procfs) -> Result<(), Failure> {
    for sysctl in &plan.sysctls {
        let name = &sysctl.name;
        let found = match procfs.read_parameter(&sysctl.file) {
            Ok(Some(found)) => found,
            Ok(None) => continue,
            Err(Failure::Call(CallError {
                errno: Errno::ENOENT, ..
            })) => {
                return Err(Failure::mismatch(
                    "V-15",
                    format!("there is no kernel parameter {name:?}"),
                ));
            }
            Err(failure) => return Err(failure),
        };
        if !same(&found, &sysctl.value) {
            return Err(Failure::mismatch(
                "V-15",
                format!("{name} is {:?}, not {:?}", found.trim_end(), sysctl.value),
            ));
        }
    }
    Ok(())
}

/// The kernel separates numbers by tabs and writes them without leading zeros, and keeps lists of words in an order of
/// its own.
fn same(found: &str, written: &str) -> bool {
    let number = |word: &str| -> Option<i128> {
        let hexadecimal = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X"));
        hexadecimal.map_or_else(
            || word.parse().ok(),
            |digits| i128::from_str_radix(digits, 16).ok(),
        )
    };
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let (mut found, mut written) = (words(found), words(written));
    let equal = |one: &[String], other: &[String]| {
        one.len() == other.len()
            && one
                .iter()
                .zip(other)
                .all(|(one, other)| one == other || number(one).is_some_and(|n| number(other) == Some(n)))
    };
    if equal(&found, &written) {
        return true;
    }
    if found.iter().chain(&written).any(|word| number(word).is_some()) {
        return false;
    }
    found.sort_unstable();
    written.sort_unstable();
    found == written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_way_of_writing_is_no_difference() {
        for (found, written) in [
            ("0\t2147483647\n", "0 2147483647"),
            ("1\n", "01"),
            ("16\n", "0x10"),
            ("cubic reno\n", "reno cubic"),
            ("name\n", "name"),
        ] {
            assert!(same(found, written), "{found:?} {written:?}");
        }
        for (found, written) in [
            ("1024\t60999\n", "60999 1024"),
            ("1\n", "0"),
            ("1\n", "1 1"),
            ("a b\n", "a"),
            ("\n", "0"),
        ] {
            assert!(!same(found, written), "{found:?} {written:?}");
        }
    }
}
