//! The mount API by descriptors (Linux 5.2 and later), and what a descriptor says of its mount.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::error::{Result, check};

const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;

/// Attributes of a mount (mount_setattr(2)).
pub mod attribute {
    /// Read-only.
    pub const RDONLY: u64 = 0x1;
    /// Set-user-ID bits and file capabilities have no effect.
    pub const NOSUID: u64 = 0x2;
    /// Device nodes cannot be opened.
    pub const NODEV: u64 = 0x4;
    /// Nothing can be executed.
    pub const NOEXEC: u64 = 0x8;
    /// Times of access are not kept.
    pub const NOATIME: u64 = 0x10;
    /// Times of access are kept at each access.
    pub const STRICTATIME: u64 = 0x20;
    /// Times of access of directories are not kept.
    pub const NODIRATIME: u64 = 0x80;
    /// Symbolic links are not followed (Linux 5.10).
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
    /// The field of which NOATIME and STRICTATIME are two values, and relatime(8) is the third, 0: setting one means
    /// clearing the others.
    pub const ACCESS_TIME: u64 = 0x70;
    /// Owners are shown as a user namespace maps them (Linux 5.12).
    pub(super) const IDMAP: u64 = 0x10_0000;
}

/// How mounts propagate to peers (mount_namespaces(7)); the values of mount(2)'s flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Propagation {
    Private,
    Slave,
    Shared,
    Unbindable,
}

impl Propagation {
    fn flag(self) -> u64 {
        match self {
            Propagation::Private => libc::MS_PRIVATE,
            Propagation::Slave => libc::MS_SLAVE,
            Propagation::Shared => libc::MS_SHARED,
            Propagation::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}

/// Makes a new instance of a file system and gives its root, mounted nowhere (fsopen(2), fsmount(2)).
///
/// `flags` and `strings` are the file system's own options; `attributes` those of the mount.
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN; for procfs in a user namespace also if the visible procfs is masked.
pub fn detached(
    kind: &CStr,
    flags: &[&CStr],
    strings: &[(&CStr, &CStr)],
    attributes: u64,
) -> Result<OwnedFd> {
    // SAFETY: fsopen reads a NUL-terminated name, which CStr guarantees.
    let outcome = unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) };
    let context = owned(check(outcome, || format!("fsopen({kind:?})"))?);
    for flag in flags {
        configure(&context, FSCONFIG_SET_FLAG, Some(flag), None)?;
    }
    for (key, value) in strings {
        configure(&context, FSCONFIG_SET_STRING, Some(key), Some(value))?;
    }
    configure(&context, FSCONFIG_CMD_CREATE, None, None)?;
    // SAFETY: fsmount takes a descriptor and integers; the descriptor is open for the whole call.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_fsmount,
            context.as_raw_fd(),
            FSMOUNT_CLOEXEC,
            attributes as libc::c_uint,
        )
    };
    Ok(owned(check(outcome, || {
        format!("fsmount({kind:?}, {attributes:#x})")
    })?))
}

fn configure(
    context: &OwnedFd,
    command: libc::c_uint,
    key: Option<&CStr>,
    value: Option<&CStr>,
) -> Result<()> {
    let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: fsconfig reads key and value as NUL-terminated strings where they are not null; which of them
    // may be null for which command is the kernel's to check, and it answers EINVAL.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            command,
            pointer(key),
            pointer(value),
            0,
        )
    };
    check(outcome, || format!("fsconfig({command}, {key:?}, {value:?})")).map(drop)
}

/// Sets and clears attributes of the mount that `mount` is the root of (mount_setattr(2), Linux 5.12);
/// with `recursive`, of those below it too.
///
/// # Errors
/// `EINVAL` if the descriptor is no mount's root, `EPERM` for attributes that a user namespace locked.
pub fn set_attributes(
    mount: impl AsFd,
    set: u64,
    propagation: Option<Propagation>,
    recursive: bool,
) -> Result<()> {
    let attributes = MountAttr {
        attr_set: set,
        attr_clr: if set & attribute::ACCESS_TIME == 0 {
            0
        } else {
            attribute::ACCESS_TIME
        },
        propagation: propagation.map_or(0, Propagation::flag),
        userns_fd: 0,
    };
    mount_setattr(mount.as_fd(), &attributes, recursive, || {
        format!("mount_setattr(set {set:#x}, {propagation:?}, recursive {recursive})")
    })
}

/// Sets attributes of one mount and takes others away (mount_setattr(2), Linux 5.12).
///
/// # Errors
/// `EPERM` if one that is to be taken away is locked: the mount came from a mount namespace of another user namespace
/// (mount_namespaces(7)). `EINVAL` if the descriptor is not of a mount's root.
pub fn change_attributes(mount: impl AsFd, set: u64, clear: u64) -> Result<()> {
    let attributes = MountAttr {
        attr_set: set,
        attr_clr: clear,
        propagation: 0,
        userns_fd: 0,
    };
    mount_setattr(mount.as_fd(), &attributes, false, || {
        format!("mount_setattr(set {set:#x}, clear {clear:#x})")
    })
}

/// What fstatfs(2) says of the file system that a file is on, and of the mount that it was opened through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystem {
    /// Its type, one of statfs(2)'s magic numbers.
    pub kind: libc::__fsword_t,
    /// What the mount has, as [`attribute`]; a file system that is read-only as a whole shows as a read-only mount.
    pub attributes: u64,
}

/// Asks about the file system of an open descriptor, which may be one of `O_PATH`.
///
/// # Errors
/// None is known for an open descriptor; `ENOSYS` of a file system that does not say.
pub fn file_system(file: impl AsFd) -> Result<FileSystem> {
    /// `ST_NOSYMFOLLOW` (Linux 5.10).
    const NOSYMFOLLOW: u64 = 0x2000;
    const TABLE: [(u64, u64); 7] = [
        (libc::ST_RDONLY, attribute::RDONLY),
        (libc::ST_NOSUID, attribute::NOSUID),
        (libc::ST_NODEV, attribute::NODEV),
        (libc::ST_NOEXEC, attribute::NOEXEC),
        (libc::ST_NOATIME, attribute::NOATIME),
        (libc::ST_NODIRATIME, attribute::NODIRATIME),
        (NOSYMFOLLOW, attribute::NOSYMFOLLOW),
    ];
    let mut answer = std::mem::MaybeUninit::<libc::statfs64>::zeroed();
    // SAFETY: fstatfs writes one struct statfs64 to `answer`, which is live and large enough.
    let outcome = unsafe { libc::fstatfs64(file.as_fd().as_raw_fd(), answer.as_mut_ptr()) };
    check(outcome.into(), || "fstatfs(fd)".to_owned())?;
    // SAFETY: every bit pattern is a valid statfs64 (plain integers), and it was zeroed before the kernel wrote.
    let answer = unsafe { answer.assume_init() };
    let flags = answer.f_flags as u64;
    let set = TABLE.iter().filter(|(flag, _)| flags & flag != 0);
    Ok(FileSystem {
        kind: answer.f_type,
        attributes: set.fold(0, |all, (_, attribute)| all | attribute),
    })
}

/// Shows the owners of a mount's files as a user namespace maps them (mount_setattr(2), `MOUNT_ATTR_IDMAP`,
/// Linux 5.12): a file of the id that the namespace calls `inside` appears as the id it is mapped to.
///
/// # Preconditions
/// The mount is mounted nowhere yet, and not mapped.
///
/// # Errors
/// `EINVAL` if the file system cannot be mapped or the mount is visible already, `EPERM` without CAP_SYS_ADMIN over
/// the file system.
pub fn map_owners(mount: impl AsFd, namespace: impl AsFd, recursive: bool) -> Result<()> {
    let attributes = MountAttr {
        attr_set: attribute::IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: namespace.as_fd().as_raw_fd() as u64,
    };
    mount_setattr(mount.as_fd(), &attributes, recursive, || {
        format!("mount_setattr(MOUNT_ATTR_IDMAP, recursive {recursive})")
    })
}

/// struct mount_attr (mount_setattr(2)).
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

fn mount_setattr(
    mount: BorrowedFd<'_>,
    attributes: &MountAttr,
    recursive: bool,
    call: impl FnOnce() -> String,
) -> Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    let empty: &CStr = c"";
    // SAFETY: mount_setattr reads a NUL-terminated path, here empty, and `size` bytes of a MountAttr, behind a
    // reference and with the layout of struct mount_attr, whose size is passed.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            empty.as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<MountAttr>(),
        )
    };
    check(outcome, call).map(drop)
}

/// Copies what is mounted at an open place, from there down, and mounts the copy nowhere (open_tree(2) with
/// `OPEN_TREE_CLONE`, Linux 5.2); with `recursive`, the mounts below it too.
///
/// # Errors
/// `EINVAL` if the place is in another mount namespace or unbindable, `EPERM` without CAP_SYS_ADMIN.
pub fn copy_tree(place: impl AsFd, recursive: bool) -> Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE
        | libc::OPEN_TREE_CLOEXEC
        | libc::AT_EMPTY_PATH as libc::c_uint
        | if recursive {
            libc::AT_RECURSIVE as libc::c_uint
        } else {
            0
        };
    let empty: &CStr = c"";
    // SAFETY: open_tree reads a NUL-terminated path, here empty; the descriptor is open for the whole call.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            place.as_fd().as_raw_fd(),
            empty.as_ptr(),
            flags,
        )
    };
    Ok(owned(check(outcome, || format!("open_tree({flags:#x})"))?))
}

/// Mounts what is mounted nowhere at an open place (move_mount(2), Linux 5.2).
///
/// # Errors
/// `ENOTDIR` if one is a directory and the other is not, `EPERM` without CAP_SYS_ADMIN.
pub fn attach(mount: impl AsFd, place: impl AsFd) -> Result<()> {
    let empty: &CStr = c"";
    // SAFETY: move_mount reads two NUL-terminated paths, here empty; both descriptors are open for the whole call.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_fd().as_raw_fd(),
            empty.as_ptr(),
            place.as_fd().as_raw_fd(),
            empty.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH,
        )
    };
    check(outcome, || "move_mount()".to_owned()).map(drop)
}

/// What a descriptor says of the file and of the mount it was opened through (statx(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The mount's id, as in /proc/self/mountinfo (Linux 5.8).
    pub mount_id: u64,
    /// The file is the root of that mount (Linux 5.8).
    pub is_mount_root: bool,
    /// The type bits of `st_mode`.
    pub file_type: u32,
    /// Major and minor number, for a device node.
    pub device: (u32, u32),
    /// Device of the file system, major and minor number.
    pub on: (u32, u32),
    /// Inode number.
    pub inode: u64,
}

/// Asks statx(2) about an open descriptor.
///
/// # Errors
/// None is known for an open descriptor; `ENOSYS` before Linux 4.11.
pub fn place(file: impl AsFd) -> Result<Place> {
    place_of(file.as_fd().as_raw_fd())
}

/// The same by number, of a descriptor that nobody here owns: one that the process came with.
///
/// # Errors
/// `EBADF` if it is not open.
pub fn place_of(number: i32) -> Result<Place> {
    let mut answer = std::mem::MaybeUninit::<libc::statx>::zeroed();
    let mask = libc::STATX_TYPE | libc::STATX_INO | libc::STATX_MNT_ID;
    let empty: &CStr = c"";
    // SAFETY: statx reads a NUL-terminated path, here empty, and writes one struct statx to `answer`, which is
    // live and large enough. Any number is allowed: of one that is not open the answer is EBADF.
    let outcome = unsafe {
        libc::statx(
            number,
            empty.as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW,
            mask,
            answer.as_mut_ptr(),
        )
    };
    check(outcome.into(), || "statx(fd, \"\", AT_EMPTY_PATH)".to_owned())?;
    // SAFETY: every bit pattern is a valid statx (plain integers), and it was zeroed before the kernel wrote.
    let answer = unsafe { answer.assume_init() };
    let attribute = libc::STATX_ATTR_MOUNT_ROOT as u64;
    if answer.stx_mask & libc::STATX_MNT_ID == 0 || answer.stx_attributes_mask & attribute == 0 {
        // Before Linux 5.8 the kernel leaves these out without an error: nothing that looks for them may
        // go on with zeros.
        return Err(crate::CallError::new(
            "statx(STATX_MNT_ID)",
            nix::errno::Errno::ENOSYS,
        ));
    }
    Ok(Place {
        mount_id: answer.stx_mnt_id,
        is_mount_root: answer.stx_attributes & attribute != 0,
        file_type: u32::from(answer.stx_mode) & libc::S_IFMT,
        device: (answer.stx_rdev_major, answer.stx_rdev_minor),
        on: (answer.stx_dev_major, answer.stx_dev_minor),
        inode: answer.stx_ino,
    })
}

/// The file system's own options of the mount that a descriptor was opened through, as the kernel writes them into
/// /proc/self/mountinfo (statmount(2)).
///
/// # Errors
/// `ENOSYS` on kernels without it (it is of Linux 6.8, and has options since 6.11): the same is in mountinfo.
pub fn options(file: impl AsFd) -> Result<Vec<u8>> {
    #[repr(C)]
    struct Request {
        size: u32,
        spare: u32,
        mount: u64,
        wanted: u64,
    }
    /// The call's number, on every architecture but alpha.
    const STATMOUNT: libc::c_long = 457;
    const OPTIONS: u64 = 0x80;
    /// Of struct statmount: the offsets of the options among the strings and of the mask, and where strings begin.
    const AT: usize = 4;
    const MASK: usize = 8;
    const STRINGS: usize = 512;

    let mut request = Request {
        size: std::mem::size_of::<Request>() as u32,
        spare: 0,
        mount: unique_id(file)?,
        wanted: OPTIONS,
    };
    // The kernel makes the options of a mount in one page, or in a few.
    let mut answer = vec![0u8; STRINGS + 64 * 1024];
    // SAFETY: statmount reads one struct mnt_id_req of the size that it says, a live local, and writes at most
    // `answer.len()` bytes to `answer`, which is live and that long.
    let outcome = unsafe { libc::syscall(STATMOUNT, &raw mut request, answer.as_mut_ptr(), answer.len(), 0) };
    check(outcome, || format!("statmount({:#x})", request.mount))?;
    let field = |at: usize| {
        let bytes = answer[at..at + 4].try_into().unwrap_or_default();
        u32::from_ne_bytes(bytes)
    };
    if u64::from(field(MASK)) & OPTIONS == 0 {
        return Err(crate::CallError::new(
            "statmount(STATMOUNT_MNT_OPTS)",
            nix::errno::Errno::ENOSYS,
        ));
    }
    let text = &answer[(STRINGS + field(AT) as usize).min(answer.len())..];
    Ok(text.iter().copied().take_while(|byte| *byte != 0).collect())
}

/// The id of a mount that is never used again (Linux 6.8).
fn unique_id(file: impl AsFd) -> Result<u64> {
    let mut answer = std::mem::MaybeUninit::<libc::statx>::zeroed();
    let empty: &CStr = c"";
    // SAFETY: as in `place_of`: an empty path, and one struct statx that is live and large enough.
    let outcome = unsafe {
        libc::statx(
            file.as_fd().as_raw_fd(),
            empty.as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW,
            libc::STATX_MNT_ID_UNIQUE,
            answer.as_mut_ptr(),
        )
    };
    check(outcome.into(), || {
        "statx(fd, \"\", STATX_MNT_ID_UNIQUE)".to_owned()
    })?;
    // SAFETY: every bit pattern is a valid statx (plain integers), and it was zeroed before the kernel wrote.
    let answer = unsafe { answer.assume_init() };
    if answer.stx_mask & libc::STATX_MNT_ID_UNIQUE == 0 {
        return Err(crate::CallError::new(
            "statx(STATX_MNT_ID_UNIQUE)",
            nix::errno::Errno::ENOSYS,
        ));
    }
    Ok(answer.stx_mnt_id)
}

fn owned(descriptor: libc::c_long) -> OwnedFd {
    // SAFETY: the callers pass what the kernel just returned as a new descriptor of this process, and use it
    // nowhere else; descriptors fit an i32.
    unsafe { OwnedFd::from_raw_fd(descriptor as i32) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_mount_root_is_told_from_a_directory_inside_it() {
        let root = place(File::open("/proc").unwrap()).unwrap();
        let inside = place(File::open("/proc/sys/kernel").unwrap()).unwrap();
        assert!(root.is_mount_root);
        assert!(!inside.is_mount_root);
        assert_eq!(root.mount_id, inside.mount_id);
    }

    #[test]
    fn a_mounts_options_are_those_of_the_mount_table() {
        let text = match options(File::open("/proc").unwrap()) {
            Ok(text) => String::from_utf8(text).unwrap(),
            Err(error) => {
                assert_eq!(error.errno, nix::errno::Errno::ENOSYS);
                return;
            }
        };
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = table.lines().find(|line| line.contains(" /proc ")).unwrap();
        // The super options there begin with rw or ro, which is the mount's own attribute here.
        let there = line.rsplit(' ').next().unwrap();
        let there = there.split_once(',').map_or("", |(_, rest)| rest);
        assert_eq!(text, there, "{line}");
    }

    #[test]
    fn a_mounts_attributes_are_those_of_the_mount_table() {
        let found = file_system(File::open("/proc/version").unwrap()).unwrap();
        assert_eq!(found.kind, libc::PROC_SUPER_MAGIC);
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = table
            .lines()
            .rfind(|line| line.split(' ').nth(4) == Some("/proc"))
            .unwrap();
        let options: Vec<&str> = line.split(' ').nth(5).unwrap().split(',').collect();
        for (attribute, option) in [
            (attribute::RDONLY, "ro"),
            (attribute::NOSUID, "nosuid"),
            (attribute::NODEV, "nodev"),
            (attribute::NOEXEC, "noexec"),
            (attribute::NOATIME, "noatime"),
            (attribute::NODIRATIME, "nodiratime"),
            (attribute::NOSYMFOLLOW, "nosymfollow"),
        ] {
            let has = found.attributes & attribute != 0;
            assert_eq!(has, options.contains(&option), "{option}: {line}");
        }
    }

    #[test]
    fn a_device_node_shows_its_numbers() {
        let null = place(File::open("/dev/null").unwrap()).unwrap();
        assert_eq!((null.file_type, null.device), (libc::S_IFCHR, (1, 3)));
    }
}
