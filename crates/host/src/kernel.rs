//! The running kernel.

use gabion_baseline::facts::{Fact, KernelFact};
use nix::sys::utsname::uname;

use crate::namespaces::in_initial_user_namespace;
use crate::text::{read, read_if_there};

/// Asks the kernel about itself.
pub(crate) fn collect() -> Fact<KernelFact> {
    match ask() {
        Ok(fact) => Fact::Known(fact),
        Err(why) => Fact::Unknown(why),
    }
}

fn ask() -> Result<KernelFact, String> {
    let number = |path: &str, text: &str| {
        text.trim()
            .parse()
            .map_err(|_| format!("{path} is {text:?}, which is not a number"))
    };
    let kernel = uname().map_err(|errno| format!("uname: {}", errno.desc()))?;
    let release = kernel.release().to_string_lossy();
    let version = version(&release)
        .ok_or_else(|| format!("uname says the release {release:?}, which is no version"))?;
    let last = "/proc/sys/kernel/cap_last_cap";
    let text = read(last, 256).map_err(|error| format!("{last}: {error}"))?;
    let last_capability = number(last, &text)?;
    let tiocsti = "/proc/sys/dev/tty/legacy_tiocsti";
    let legacy_tiocsti = match read_if_there(tiocsti, 256).map_err(|error| format!("{tiocsti}: {error}"))? {
        Some(text) => Some(number(tiocsti, &text)? != 0),
        None => None,
    };
    let in_initial_user_namespace =
        in_initial_user_namespace().map_err(|errno| format!("/proc/self/ns/user: {}", errno.desc()))?;
    Ok(KernelFact {
        version,
        last_capability,
        legacy_tiocsti,
        // An ordinary user is given no other id than those that are the user's own.
        in_initial_user_namespace: in_initial_user_namespace && nix::unistd::geteuid().is_root(),
    })
}

/// Major and minor number of a release such as `6.1.0-25-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.trim().split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_as_distributions_write_them() {
        assert_eq!(version("6.18.44\n"), Some((6, 18)));
        assert_eq!(version("5.15.0-1067-aws\n"), Some((5, 15)));
        assert_eq!(version("6.1-rc3"), Some((6, 1)));
        assert_eq!(version("7.0+"), Some((7, 0)));
        assert_eq!(version("six"), None);
        assert_eq!(version("6"), None);
    }

    #[test]
    fn this_kernel_is_known() {
        let Fact::Known(kernel) = collect() else {
            panic!("{:?}", collect())
        };
        assert!(kernel.version >= (5, 6), "{kernel:?}");
        // CAP_CHECKPOINT_RESTORE is 40, the last one since Linux 5.9.
        assert!((37..64).contains(&kernel.last_capability), "{kernel:?}");
        assert_eq!(
            kernel.legacy_tiocsti.is_some(),
            kernel.version >= (6, 2),
            "{kernel:?}"
        );
    }
}
