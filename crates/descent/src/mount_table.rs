//! The mount table of a process as the kernel shows it: /proc/\<pid\>/mountinfo (proc_pid_mountinfo(5)).

use std::collections::BTreeMap;

use gabion_sys::mount::attribute;

use crate::plan::DeviceNumber;
use crate::report::Failure;

/// One line of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// The mount's id, as statx(2) gives it.
    pub id: u64,
    /// The id of the mount that it is mounted on.
    pub parent: u64,
    /// Device of the file system.
    pub device: DeviceNumber,
    /// Which directory of the file system is mounted.
    pub root: String,
    /// Where, as seen from the process' root.
    pub point: String,
    /// Restrictions ([`attribute`]); read-only if the file system itself is.
    pub attributes: u64,
    /// Mounts made here are seen by others.
    pub shared: bool,
    /// Mounts made by others are seen here.
    pub slave: bool,
    /// Type of the file system.
    pub kind: String,
}

/// Everything that is mounted below a process' root, the root included, in the kernel's order.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Mounted>,
    by_id: BTreeMap<u64, usize>,
}

impl Table {
    /// Reads the text of the file.
    ///
    /// # Errors
    /// [`Failure::Mismatch`] with V-10 for a line that is none.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let mut table = Table::default();
        for line in text.lines() {
            let Some(row) = parse(line) else {
                return Err(Failure::mismatch(
                    "V-10",
                    format!("the mount table has the line {line:?}"),
                ));
            };
            table.by_id.insert(row.id, table.rows.len());
            table.rows.push(row);
        }
        Ok(table)
    }

    /// All of them.
    pub fn rows(&self) -> &[Mounted] {
        &self.rows
    }

    /// The one with an id.
    pub fn with_id(&self, id: u64) -> Option<&Mounted> {
        self.by_id.get(&id).map(|&index| &self.rows[index])
    }

    /// True if a mount is on another, or on one that is. What has the same path, and lies beneath the other, is not.
    pub fn is_on(&self, row: &Mounted, other: u64) -> bool {
        let mut parent = row.parent;
        // The table is what the kernel says, and no reason to turn for ever.
        for _ in &self.rows {
            if parent == other {
                return true;
            }
            let Some(next) = self.with_id(parent) else {
                return false;
            };
            parent = next.parent;
        }
        false
    }
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse(line: &str) -> Option<Mounted> {
    let (mount, system) = line.split_once(" - ")?;
    let mut fields = mount.split(' ');
    let id = fields.next()?.parse().ok()?;
    let parent = fields.next()?.parse().ok()?;
    let (major, minor) = fields.next()?.split_once(':')?;
    let root = unescaped(fields.next()?);
    let point = unescaped(fields.next()?);
    let mut attributes = of_options(fields.next()?);
    let (mut shared, mut slave) = (false, false);
    for tag in fields {
        shared |= tag.starts_with("shared:");
        slave |= tag.starts_with("master:");
    }
    let mut fields = system.split(' ');
    let kind = fields.next()?.to_owned();
    let _source = fields.next()?;
    attributes |= of_options(fields.next()?) & attribute::RDONLY;
    Some(Mounted {
        id,
        parent,
        device: (major.parse().ok()?, minor.parse().ok()?),
        root,
        point,
        attributes,
        shared,
        slave,
        kind,
    })
}

fn of_options(options: &str) -> u64 {
    options.split(',').fold(0, |all, option| {
        all | match option {
            "ro" => attribute::RDONLY,
            "nosuid" => attribute::NOSUID,
            "nodev" => attribute::NODEV,
            "noexec" => attribute::NOEXEC,
            "nosymfollow" => attribute::NOSYMFOLLOW,
            _ => 0,
        }
    })
}

/// The words of restrictions, for people.
pub(crate) fn words(attributes: u64) -> String {
    let words = [
        (attribute::RDONLY, "ro"),
        (attribute::NOSUID, "nosuid"),
        (attribute::NODEV, "nodev"),
        (attribute::NOEXEC, "noexec"),
        (attribute::NOSYMFOLLOW, "nosymfollow"),
    ];
    let words: Vec<&str> = words
        .into_iter()
        .filter(|(bit, _)| attributes & bit != 0)
        .map(|(_, word)| word)
        .collect();
    words.join(",")
}

/// The kernel writes space, tab, newline and backslash as `\040` and so on.
fn unescaped(text: &str) -> String {
    if !text.contains('\\') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let octal = (byte == b'\\')
            .then(|| text.get(at + 1..at + 4))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(decoded) => {
                plain.push(decoded);
                at += 4;
            }
            None => {
                plain.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_with_what_is_optional_in_it_and_without() {
        let table = Table::parse(
            "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n\
             40 36 0:33 / /with\\040space\\134 ro,nosuid,nodev,noexec shared:7 master:2 propagate_from:3 - tmpfs a b rw\n\
             41 36 0:34 / /ro rw - tmpfs tmpfs ro,size=0k\n",
        )
        .unwrap();
        let [first, second, third] = table.rows() else {
            panic!()
        };
        assert_eq!(
            (first.id, first.device, first.root.as_str()),
            (36, (98, 0), "/mnt1")
        );
        assert_eq!((first.point.as_str(), first.kind.as_str()), ("/mnt2", "ext3"));
        assert_eq!((first.attributes, first.shared, first.slave), (0, false, true));
        assert_eq!(second.point, "/with space\\");
        assert_eq!((second.shared, second.slave), (true, true));
        assert_eq!(words(second.attributes), "ro,nosuid,nodev,noexec");
        assert_eq!(words(third.attributes), "ro");
        assert_eq!(table.with_id(40).unwrap().point, "/with space\\");
        assert!(table.with_id(1).is_none());
    }

    #[test]
    fn what_lies_beneath_a_mount_is_not_on_it() {
        let text = "1 0 0:1 / / rw - ext4 a rw\n2 1 0:2 / /sys rw - sysfs a rw\n3 2 0:3 / /sys/a rw - cgroup a rw\n\
                    4 2 0:4 / /sys rw - tmpfs a rw\n5 4 0:5 / /sys/a rw - cgroup a rw\n6 6 0:5 / /b rw - cgroup a rw\n";
        let table = Table::parse(text).unwrap();
        let is_on = |id, other| table.is_on(table.with_id(id).unwrap(), other);
        assert!(is_on(5, 4) && is_on(5, 1) && is_on(4, 2));
        assert!(!is_on(3, 4) && !is_on(4, 4) && !is_on(1, 2));
        // A table that leads round in a circle does not end in one.
        assert!(!is_on(6, 4));
    }

    #[test]
    fn a_line_that_is_none_is_an_error() {
        for line in ["", "36 35", "36 35 98:0 / / rw", "x 35 98:0 / / rw - a b c"] {
            assert!(Table::parse(&format!("{line}\n")).is_err(), "{line:?}");
        }
    }

    #[test]
    fn the_table_of_this_process_is_read_whole() {
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let table = Table::parse(&text).unwrap();
        assert_eq!(table.rows().len(), text.lines().count());
        assert!(table.rows().iter().any(|row| row.point == "/"));
    }
}
