//! The home directory of a user of the container, as the image's /etc/passwd has it.
//!
//! Everything here was written by the image's author: the file is looked for as the container would, never on
//! the host; it must be a regular file of a reasonable size; and what it says is used only if it is a path.

use std::os::fd::AsFd;
use std::path::Path;

use gabion_baseline::facts::FileKind;
use gabion_sys::file::{find_in_root, reopen};
use nix::sys::stat::fstat;

use crate::text::read_from;
use crate::walk::Meta;

/// Ten thousand users.
const MAX_PASSWD_BYTES: usize = 1024 * 1024;

/// What HOME is for a user without one.
const DEFAULT: &str = "/";

/// The home directory of `uid`, or `/` where the image has no usable answer: no file, no such user, no
/// absolute path, control characters in it.
#[must_use]
pub fn home(rootfs: impl AsFd, uid: u32) -> String {
    read(rootfs)
        .and_then(|text| home_in(&text, uid))
        .unwrap_or_else(|| DEFAULT.to_owned())
}

fn read(rootfs: impl AsFd) -> Option<Vec<u8>> {
    let found = find_in_root(rootfs, Path::new("etc/passwd")).ok()?;
    if Meta::of(&fstat(&found).ok()?).kind() != FileKind::Regular {
        return None;
    }
    let mut bytes = Vec::new();
    read_from(reopen(&found).ok()?, MAX_PASSWD_BYTES, &mut bytes).ok()?;
    Some(bytes)
}

/// The home of the first user with this id: `name:password:uid:gid:comment:home:shell` (passwd(5)).
fn home_in(passwd: &[u8], uid: u32) -> Option<String> {
    passwd
        .split(|byte| *byte == b'\n')
        .find_map(|line| {
            let line = std::str::from_utf8(line).ok()?;
            let mut fields = line.split(':');
            let matches = fields.nth(2)?.parse() == Ok(uid);
            let home = fields.nth(2)?;
            matches.then(|| home.to_owned())
        })
        .filter(|home| home.starts_with('/') && !home.contains(|c: char| c.is_control()))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    use nix::sys::stat::Mode;

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:33::/var/www:/bin/false\n\
                          second:x:33:33::/second:/bin/sh\nrelative:x:40:40::home:/x\nempty:x:41:41:::/x\n\
                          bell:x:42:42::/a\u{7}b:/x\nlong:x:43:43::/with:colons:x";

    #[test]
    fn the_first_user_with_the_id_counts() {
        let home = |uid| home_in(PASSWD.as_bytes(), uid);
        assert_eq!(home(0).as_deref(), Some("/root"));
        assert_eq!(home(33).as_deref(), Some("/var/www"));
        assert_eq!(home(40), None);
        assert_eq!(home(41), None);
        assert_eq!(home(42), None);
        assert_eq!(home(43).as_deref(), Some("/with"));
        assert_eq!(home(1000), None);
        assert_eq!(
            home_in(b"bad\xff:x:0:0::/bad:\nroot:x:0:0::/root:", 0).as_deref(),
            Some("/root")
        );
    }

    fn image() -> (tempfile::TempDir, File) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        let descriptor = File::open(root.path()).unwrap();
        (root, descriptor)
    }

    #[test]
    fn links_of_the_image_stay_in_the_image() {
        let (root, descriptor) = image();
        fs::write(root.path().join("etc/real"), "root:x:0:0::/inside:").unwrap();
        for target in ["/etc/real", "../../../../../etc/real", "real"] {
            symlink(target, root.path().join("etc/passwd")).unwrap();
            assert_eq!(home(&descriptor, 0), "/inside", "{target}");
            fs::remove_file(root.path().join("etc/passwd")).unwrap();
        }
        // The host's, which has a root with a home of /root.
        symlink("/etc/passwd", root.path().join("etc/passwd")).unwrap();
        assert_eq!(home(&descriptor, 0), "/");
    }

    #[test]
    fn anything_but_a_regular_file_of_reasonable_size_gives_the_default_and_does_not_hang() {
        let (root, descriptor) = image();
        let passwd = root.path().join("etc/passwd");
        assert_eq!(home(&descriptor, 0), "/");
        nix::unistd::mkfifo(&passwd, Mode::S_IRWXU).unwrap();
        assert_eq!(home(&descriptor, 0), "/");
        fs::remove_file(&passwd).unwrap();
        let mut text = "root:x:0:0::/root:/bin/sh\n".to_owned();
        fs::write(&passwd, &text).unwrap();
        assert_eq!(home(&descriptor, 0), "/root");
        text.push_str(&"#".repeat(MAX_PASSWD_BYTES));
        fs::write(&passwd, &text).unwrap();
        assert_eq!(home(&descriptor, 0), "/");
    }
}
