//! Names and numbers of system calls, and since when the kernel has them.
//!
//! [`crate::tables`] has what libseccomp knows, written down; a test holds the two together, so that neither the program
//! nor what builds it needs the library. Three things are added, because its tables end with the release that they were
//! taken from, or answer another question:
//!
//! - calls that are newer. Since Linux 5.1 a new call has the same number everywhere;
//! - the i386 socket and System V IPC calls. libseccomp answers with a number of its own invention that stands
//!   for the call and its twin behind socketcall(2) or ipc(2); a filter compares real numbers;
//! - when a call appeared. A filter answers differently for a call that its author decided against and for one
//!   that its author could not know.

use crate::abi::Abi;
use crate::tables::{NAMES, NONE};

/// A release of Linux, as major and minor number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release(pub u16, pub u16);

impl Release {
    /// Before every call in [`LATER`]. Profiles are younger than that, so what was there then is known to them.
    pub const BASE: Release = Release(5, 0);
}

/// A system call that appeared after [`Release::BASE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Later {
    /// Its name.
    pub name: &'static str,
    /// Its number, wherever there is one, without the bit of x32.
    pub number: u32,
    /// The first release that has it.
    pub since: Release,
    /// Where it is not.
    pub absent: &'static [Abi],
}

const fn later(number: u32, name: &'static str, major: u16, minor: u16) -> Later {
    Later {
        name,
        number,
        since: Release(major, minor),
        absent: &[],
    }
}

const fn absent(later: Later, absent: &'static [Abi]) -> Later {
    Later { absent, ..later }
}

const ONLY_X86_64: &[Abi] = &[Abi::X86, Abi::X32, Abi::Aarch64, Abi::Arm];

/// Calls since Linux 5.1, by number. (Numbers 403 to 423 are Linux 5.1 too, but only 32-bit architectures have
/// them, for 64-bit time; every profile knows them by now.)
pub const LATER: &[Later] = &[
    absent(later(335, "uretprobe", 6, 11), ONLY_X86_64),
    later(424, "pidfd_send_signal", 5, 1),
    later(425, "io_uring_setup", 5, 1),
    later(426, "io_uring_enter", 5, 1),
    later(427, "io_uring_register", 5, 1),
    later(428, "open_tree", 5, 2),
    later(429, "move_mount", 5, 2),
    later(430, "fsopen", 5, 2),
    later(431, "fsconfig", 5, 2),
    later(432, "fsmount", 5, 2),
    later(433, "fspick", 5, 2),
    later(434, "pidfd_open", 5, 3),
    later(435, "clone3", 5, 3),
    later(436, "close_range", 5, 9),
    later(437, "openat2", 5, 6),
    later(438, "pidfd_getfd", 5, 6),
    later(439, "faccessat2", 5, 8),
    later(440, "process_madvise", 5, 10),
    later(441, "epoll_pwait2", 5, 11),
    later(442, "mount_setattr", 5, 12),
    later(443, "quotactl_fd", 5, 14),
    later(444, "landlock_create_ruleset", 5, 13),
    later(445, "landlock_add_rule", 5, 13),
    later(446, "landlock_restrict_self", 5, 13),
    absent(later(447, "memfd_secret", 5, 14), &[Abi::Arm]),
    later(448, "process_mrelease", 5, 15),
    later(449, "futex_waitv", 5, 16),
    later(450, "set_mempolicy_home_node", 5, 17),
    later(451, "cachestat", 6, 5),
    later(452, "fchmodat2", 6, 6),
    absent(later(453, "map_shadow_stack", 6, 6), &[Abi::X32]),
    later(454, "futex_wake", 6, 7),
    later(455, "futex_wait", 6, 7),
    later(456, "futex_requeue", 6, 7),
    later(457, "statmount", 6, 8),
    later(458, "listmount", 6, 8),
    later(459, "lsm_get_self_attr", 6, 8),
    later(460, "lsm_set_self_attr", 6, 8),
    later(461, "lsm_list_modules", 6, 8),
    later(462, "mseal", 6, 10),
    later(463, "setxattrat", 6, 13),
    later(464, "getxattrat", 6, 13),
    later(465, "listxattrat", 6, 13),
    later(466, "removexattrat", 6, 13),
    later(467, "open_tree_attr", 6, 15),
    later(468, "file_getattr", 6, 17),
    later(469, "file_setattr", 6, 17),
    later(470, "listns", 6, 19),
];

/// The i386 numbers of calls that can also be made through socketcall(2) (since Linux 4.3) or ipc(2) (5.1).
const I386_DIRECT: &[(&str, u32)] = &[
    ("socket", 359),
    ("socketpair", 360),
    ("bind", 361),
    ("connect", 362),
    ("listen", 363),
    ("accept4", 364),
    ("getsockopt", 365),
    ("setsockopt", 366),
    ("getsockname", 367),
    ("getpeername", 368),
    ("sendto", 369),
    ("sendmsg", 370),
    ("recvfrom", 371),
    ("recvmsg", 372),
    ("shutdown", 373),
    ("semget", 393),
    ("semctl", 394),
    ("shmget", 395),
    ("shmctl", 396),
    ("shmat", 397),
    ("shmdt", 398),
    ("msgget", 399),
    ("msgsnd", 400),
    ("msgrcv", 401),
    ("msgctl", 402),
    ("recvmmsg", 337),
    ("sendmmsg", 345),
];

/// The numbers that were in use at [`Release::BASE`] (with the 5.1 calls for 64-bit time), inclusive, without the
/// bit of x32. What is between them is a hole, today or by then.
pub(crate) fn base_ranges(abi: Abi) -> &'static [(u32, u32)] {
    match abi {
        Abi::X86_64 => &[(0, 334)],
        Abi::X86 => &[
            (0, 221),
            (224, 250),
            (252, 284),
            (286, 386),
            (393, 414),
            (416, 423),
        ],
        Abi::X32 => &[
            (0, 12),
            (14, 14),
            (17, 18),
            (21, 44),
            (48, 53),
            (56, 58),
            (60, 100),
            (102, 126),
            (130, 130),
            (132, 133),
            (135, 155),
            (157, 173),
            (175, 176),
            (179, 179),
            (181, 204),
            (207, 208),
            (210, 210),
            (212, 213),
            (216, 221),
            (223, 235),
            (237, 243),
            (245, 245),
            (248, 272),
            (275, 277),
            (280, 294),
            (298, 298),
            (300, 306),
            (308, 309),
            (312, 321),
            (323, 326),
            (329, 334),
            (512, 547),
        ],
        Abi::Aarch64 => &[(0, 243), (260, 294)],
        Abi::Arm => &[
            (0, 6),
            (8, 12),
            (14, 16),
            (19, 21),
            (23, 24),
            (26, 26),
            (29, 29),
            (33, 34),
            (36, 43),
            (45, 47),
            (49, 52),
            (54, 55),
            (57, 57),
            (60, 67),
            (70, 75),
            (77, 81),
            (83, 83),
            (85, 88),
            (91, 97),
            (99, 100),
            (103, 108),
            (111, 111),
            (114, 116),
            (118, 122),
            (124, 126),
            (128, 129),
            (131, 136),
            (138, 165),
            (168, 187),
            (190, 221),
            (224, 253),
            (256, 401),
            (403, 414),
            (416, 423),
            // The ARM private calls: breakpoint, cacheflush, usr26, usr32, set_tls, get_tls.
            (0xf_0001, 0xf_0006),
        ],
    }
}

/// What a name is on an ABI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolved {
    /// A system call with this number, the bit of x32 included.
    Number(u32),
    /// A system call of other architectures.
    Elsewhere,
    /// No system call that is known here.
    Unknown,
}

/// Looks up a system call by name.
pub fn resolve(name: &str, abi: Abi) -> Resolved {
    if let Some(later) = LATER.iter().find(|later| later.name == name) {
        return if later.absent.contains(&abi) {
            Resolved::Elsewhere
        } else {
            Resolved::Number(later.number | abi.base())
        };
    }
    if abi == Abi::X86
        && let Some((_, number)) = I386_DIRECT.iter().find(|(direct, _)| *direct == name)
    {
        return Resolved::Number(*number);
    }
    let Ok(at) = NAMES.binary_search_by(|(known, _)| (*known).cmp(name)) else {
        return Resolved::Unknown;
    };
    match NAMES.get(at).and_then(|(_, numbers)| numbers.get(column(abi))) {
        Some(number) if *number != NONE => Resolved::Number(*number),
        _ => Resolved::Elsewhere,
    }
}

/// Where the numbers of an ABI are in a row of the tables.
fn column(abi: Abi) -> usize {
    match abi {
        Abi::X86_64 => 0,
        Abi::X86 => 1,
        Abi::X32 => 2,
        Abi::Aarch64 => 3,
        Abi::Arm => 4,
    }
}

/// Every call of an ABI that is known here, by name, with its number.
pub fn all(abi: Abi) -> Vec<(String, u32)> {
    let in_use = |number: u32| {
        let number = number & !abi.base();
        base_ranges(abi)
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&number))
    };
    let named = NAMES.iter().filter_map(|(name, _)| match resolve(name, abi) {
        Resolved::Number(number) if in_use(number) => Some(((*name).to_owned(), number)),
        _ => None,
    });
    let later = LATER.iter().filter(|later| !later.absent.contains(&abi));
    let mut all: Vec<(String, u32)> = named
        .chain(later.map(|later| (later.name.to_owned(), later.number | abi.base())))
        .collect();
    all.sort();
    all.dedup();
    all
}

/// When a call appeared, by name; [`Release::BASE`] for all that are older, or not known.
pub fn since(name: &str) -> Release {
    LATER
        .iter()
        .find(|later| later.name == name)
        .map_or(Release::BASE, |later| later.since)
}

#[cfg(test)]
mod tests {
    use super::*;
    use libseccomp::{ScmpArch, ScmpSyscall};

    fn library_architecture(abi: Abi) -> ScmpArch {
        match abi {
            Abi::X86_64 => ScmpArch::X8664,
            Abi::X86 => ScmpArch::X86,
            Abi::X32 => ScmpArch::X32,
            Abi::Aarch64 => ScmpArch::Aarch64,
            Abi::Arm => ScmpArch::Arm,
        }
    }

    /// What the library says of a name, as it is written in the tables.
    fn library_number(name: &str, abi: Abi) -> u32 {
        let call = ScmpSyscall::from_name_by_arch(name, library_architecture(abi));
        // Negative numbers are the library's own, for calls that the architecture does not have.
        call.map_or(NONE, |call| u32::try_from(i32::from(call)).unwrap_or(NONE))
    }

    /// On a mismatch, `GABION_WRITE_TABLES=1` writes the tables that the library has.
    #[test]
    fn the_tables_are_the_librarys() {
        let everywhere = [
            ScmpArch::X8664,
            ScmpArch::X86,
            ScmpArch::X32,
            ScmpArch::Aarch64,
            ScmpArch::Arm,
            ScmpArch::Mips,
            ScmpArch::Mips64,
            ScmpArch::Mips64N32,
            ScmpArch::Ppc,
            ScmpArch::Ppc64,
            ScmpArch::S390,
            ScmpArch::S390X,
            ScmpArch::Parisc,
            ScmpArch::Riscv64,
        ];
        let numbers = (0..1100)
            .chain(4000..7100)
            .chain(0x4000_0000..0x4000_0400)
            .chain(0xf_0000..0xf_0010);
        let mut names: Vec<String> = everywhere
            .into_iter()
            .flat_map(|arch| {
                let name = move |number| ScmpSyscall::from(number).get_name_by_arch(arch).ok();
                numbers.clone().filter_map(name)
            })
            .filter(|name| LATER.iter().all(|later| later.name != name))
            .collect();
        names.sort();
        names.dedup();
        let row = |name: &String| {
            let numbers = [Abi::X86_64, Abi::X86, Abi::X32, Abi::Aarch64, Abi::Arm]
                .map(|abi| library_number(name, abi));
            (name.clone(), numbers)
        };
        let theirs: Vec<(String, [u32; 5])> = names.iter().map(row).collect();
        if std::env::var_os("GABION_WRITE_TABLES").is_some() {
            let number = |number: &u32| {
                if *number == NONE {
                    "NONE".to_owned()
                } else {
                    number.to_string()
                }
            };
            let lines = theirs.iter().map(|(name, numbers)| {
                format!(
                    "    ({name:?}, [{}]),\n",
                    numbers.each_ref().map(number).join(", ")
                )
            });
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tables.rs");
            let text = std::fs::read_to_string(path).unwrap();
            let (head, _) = text.split_once("= &[\n").unwrap();
            std::fs::write(path, format!("{head}= &[\n{}];\n", lines.collect::<String>())).unwrap();
            return;
        }
        let ours: Vec<(String, [u32; 5])> = NAMES
            .iter()
            .map(|(name, numbers)| ((*name).to_owned(), *numbers))
            .collect();
        assert!(ours.len() > 400 && NAMES.is_sorted_by(|a, b| a.0 < b.0));
        // A younger library knows more names; what it knows of these has to be the same.
        for row in &ours {
            assert!(
                theirs.contains(row),
                "{row:?} is not what libseccomp says; GABION_WRITE_TABLES=1 writes anew"
            );
        }
    }

    fn library_name(abi: Abi, number: u32) -> Option<String> {
        ScmpSyscall::from(i32::try_from(number).unwrap())
            .get_name_by_arch(library_architecture(abi))
            .ok()
    }

    /// The library's tables go further with each release; the ranges here end with Linux 5.1, on purpose.
    #[test]
    fn the_ranges_are_those_of_the_librarys_tables() {
        for abi in Abi::ALL {
            let private = if abi == Abi::Arm { 0xf_0000..0xf_0010 } else { 0..0 };
            for number in (0..424).chain(512..600).chain(private) {
                let later = LATER
                    .iter()
                    .any(|later| later.number == number && !later.absent.contains(&abi));
                let ours = base_ranges(abi)
                    .iter()
                    .any(|(first, last)| (*first..=*last).contains(&number));
                let theirs = library_name(abi, number | abi.base());
                assert_eq!(ours, theirs.is_some() && !later, "{abi:?} {number} {theirs:?}");
            }
        }
    }

    #[test]
    fn where_the_library_knows_a_later_call_it_has_the_same_number() {
        let mut compared = 0;
        for (later, abi) in LATER.iter().flat_map(|later| Abi::ALL.map(|abi| (later, abi))) {
            let Ok(call) = ScmpSyscall::from_name_by_arch(later.name, library_architecture(abi)) else {
                continue;
            };
            let theirs = u32::try_from(i32::from(call)).map_or(Resolved::Elsewhere, Resolved::Number);
            assert_eq!(resolve(later.name, abi), theirs, "{} on {abi:?}", later.name);
            compared += 1;
        }
        assert!(compared >= 5 * 33, "only {compared} compared");
        assert!(LATER.is_sorted_by(|a, b| a.number < b.number));
    }

    #[test]
    fn a_real_number_is_found_for_a_call_that_the_library_multiplexes() {
        for (name, number) in I386_DIRECT {
            assert_eq!(resolve(name, Abi::X86), Resolved::Number(*number));
            assert_eq!(library_name(Abi::X86, *number).as_deref(), Some(*name));
        }
        assert_eq!(resolve("socket", Abi::X86_64), Resolved::Number(41));
        assert_eq!(
            resolve("recv", Abi::X86),
            Resolved::Elsewhere,
            "only through socketcall(2)"
        );
    }

    #[test]
    fn a_name_of_another_architecture_is_not_an_unknown_one() {
        assert_eq!(resolve("fstatat64", Abi::X86_64), Resolved::Elsewhere);
        assert_eq!(resolve("fstatat64", Abi::X86), Resolved::Number(300));
        assert_eq!(resolve("uretprobe", Abi::Aarch64), Resolved::Elsewhere);
        assert_eq!(resolve("mseal", Abi::X32), Resolved::Number(0x4000_0000 | 462));
        assert_eq!(resolve("frobnicate", Abi::X86_64), Resolved::Unknown);
        assert_eq!(resolve("re\0ad", Abi::X86_64), Resolved::Unknown);
        assert_eq!(resolve("", Abi::X86_64), Resolved::Unknown);
    }
}
