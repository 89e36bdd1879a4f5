//! Giving up what the container is not to have.

use std::os::fd::AsFd;

use caps::{CapSet, Capability, CapsHashSet};
use gabion_sys::capability::{self, CapabilitySets};
use gabion_sys::{CallError, keyring, process, schedule, seccomp};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fstat, umask};
use nix::unistd::{Gid, Pid, Uid, fchown, setgroups, setresgid, setresuid};

use crate::plan::{Handover, Plan, SecurityLabel};
use crate::procfs::Procfs;
use crate::report::Failure;

/// Bit of a capability in a mask.
fn bit(capability: Capability) -> u64 {
    1 << capability.index()
}

/// Says early, and by name, which capabilities this runtime cannot give because it does not have them.
pub(crate) fn check_available(plan: &Plan) -> Result<(), Failure> {
    let own = capability::read()?;
    let wanted = plan.capabilities.permitted | plan.capabilities.bounding;
    let missing = wanted & !(own.permitted & own.bounding);
    if missing == 0 {
        return Ok(());
    }
    let names: Vec<String> = caps::all()
        .into_iter()
        .filter(|&c| bit(c) & missing != 0)
        .map(|c| c.to_string())
        .collect();
    Err(Failure::Other(format!(
        "the runtime cannot give {} to the container: it does not have it itself: operation not permitted. \
         Drop it from process.capabilities, or start the engine with it",
        names.join(", ")
    )))
}

/// Asks the LSM to change the label at execve (apparmor(7), selinux(8)), through a procfs of our own.
///
/// It comes before no_new_privs, which forbids most changes of label.
pub(crate) fn set_label(plan: &Plan, procfs: &Procfs) -> Result<(), Failure> {
    let (paths, text): (&[&str], String) = match &plan.label {
        None => return Ok(()),
        Some(SecurityLabel::AppArmor { profile, .. }) => {
            (&["attr/apparmor/exec", "attr/exec"], format!("exec {profile}"))
        }
        Some(SecurityLabel::Selinux(label)) => (&["attr/exec"], label.clone()),
    };
    let mut last = None;
    for path in paths {
        match procfs.open_self(path, OFlag::O_WRONLY) {
            Ok(file) => {
                return match nix::unistd::write(&file, text.as_bytes()) {
                    Ok(written) if written == text.len() => Ok(()),
                    Ok(_) => Err(CallError::new(format!("write({path}, {text:?})"), Errno::EIO).into()),
                    Err(errno) => Err(missing_profile(plan, errno)
                        .unwrap_or_else(|| CallError::new(format!("write({path}, {text:?})"), errno).into())),
                };
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| Failure::Other("there is no file to write the security label to".to_owned())))
}

/// AppArmor's answer to a name that it does not know, in words.
fn missing_profile(plan: &Plan, errno: Errno) -> Option<Failure> {
    match &plan.label {
        Some(SecurityLabel::AppArmor { profile, .. }) if errno == Errno::ENOENT => Some(Failure::Other(
            format!("the AppArmor profile {profile:?} is not loaded; `apparmor_parser -r FILE` loads it"),
        )),
        _ => None,
    }
}

/// Leaves the caller's session keyring.
pub(crate) fn join_keyring(plan: &Plan) -> Result<(), Failure> {
    let Some(name) = &plan.session_keyring else {
        return Ok(());
    };
    match keyring::join_new_session(name) {
        // A kernel without keyrings has none to leak.
        Ok(_) => Ok(()),
        Err(error) if error.errno == Errno::ENOSYS => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Sets the execution domain (personality(2)): flags of the caller's, such as a fixed layout of memory, would otherwise
/// be inherited by everything in the container.
pub(crate) fn set_personality(plan: &Plan) -> Result<(), Failure> {
    process::personality(Some(plan.personality))
        .map(drop)
        .map_err(Failure::Call)
}

/// Becomes the program's user, keeping capabilities for the steps that follow.
pub(crate) fn become_user(plan: &Plan) -> Result<(), Failure> {
    let user = &plan.user;
    give_standard_streams(user.uid)?;
    umask(Mode::from_bits_truncate(user.umask));
    if user.can_set_groups {
        let groups: Vec<Gid> = user.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
        match setgroups(&groups) {
            // A user namespace that was joined may deny it for good, to keep groups that take rights away
            // (user_namespaces(7)). The caller's were given up outside; that there are none is seen to (V-03).
            Err(Errno::EPERM) if groups.is_empty() => {}
            done => {
                done.map_err(|errno| CallError::new(format!("setgroups({:?})", user.groups), errno))?;
            }
        }
    }
    let gid = Gid::from_raw(user.gid);
    setresgid(gid, gid, gid).map_err(|errno| CallError::new(format!("setresgid({gid})"), errno))?;
    if user.uid != 0 {
        // Kept over the change of user, so that the bounding set can be dropped and the exact sets installed
        // after it; execve clears the flag.
        nix::sys::prctl::set_keepcaps(true)
            .map_err(|errno| CallError::new("prctl(PR_SET_KEEPCAPS)", errno))?;
    }
    let uid = Uid::from_raw(user.uid);
    setresuid(uid, uid, uid).map_err(|errno| CallError::new(format!("setresuid({uid})"), errno))?;
    // The kernel sets this flag to fs.suid_dumpable at a change of user, and some hosts have 2 there.
    nix::sys::prctl::set_dumpable(false)
        .map_err(|errno| CallError::new("prctl(PR_SET_DUMPABLE, 0)", errno))?;
    // The kernel lowers `effective` for a user that is not root, and leaves `permitted` because of keepcaps.
    if user.uid != 0 {
        let permitted = caps::read(None, CapSet::Permitted).map_err(failed)?;
        caps::set(None, CapSet::Effective, &permitted).map_err(failed)?;
    }
    Ok(())
}

/// A program that is not root must be able to reopen its own standard streams (`/dev/stdout`): the
/// descriptors' files, if they are not shared devices, are given to it.
fn give_standard_streams(uid: u32) -> Result<(), Failure> {
    let null = (1, 3);
    for (number, stream) in [
        (0, std::io::stdin().as_fd()),
        (1, std::io::stdout().as_fd()),
        (2, std::io::stderr().as_fd()),
    ] {
        let Ok(stat) = fstat(stream) else { continue };
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        let device = (
            nix::sys::stat::major(stat.st_rdev),
            nix::sys::stat::minor(stat.st_rdev),
        );
        if stat.st_uid == uid || (kind == SFlag::S_IFCHR && device == null) {
            continue;
        }
        match fchown(stream, Some(Uid::from_raw(uid)), None) {
            // A user that has no mapping, a file system that is read-only or keeps no owners: the stream stays
            // usable, it only cannot be reopened by its path.
            Ok(()) | Err(Errno::EINVAL | Errno::EPERM | Errno::EROFS | Errno::ENOSYS) => {}
            Err(errno) => return Err(CallError::new(format!("fchown({number}, {uid})"), errno).into()),
        }
    }
    Ok(())
}

/// True if loading the plan's filters needs CAP_SYS_ADMIN: without no_new_privs it does (seccomp(2)).
pub(crate) fn keeps_admin_for_filters(plan: &Plan) -> bool {
    !plan.no_new_privileges && !plan.filters.is_empty()
}

/// The sets as they must be right before execve.
///
/// Where filters have to be loaded without no_new_privs, CAP_SYS_ADMIN stays in `permitted` and `effective`
/// until execve, which removes it: the kernel computes the new `permitted` from the bounding, inheritable and
/// ambient sets alone (capabilities(7), "Transformation of capabilities during execve()"), and it is in none
/// of them. So the filters can come last in both cases.
pub(crate) fn final_sets(plan: &Plan) -> CapabilitySets {
    let mut sets = plan.capabilities;
    if keeps_admin_for_filters(plan) {
        sets.permitted |= bit(Capability::CAP_SYS_ADMIN);
        sets.effective |= bit(Capability::CAP_SYS_ADMIN);
    }
    sets
}

/// Reduces the five sets to the plan's, and sets no_new_privs.
pub(crate) fn drop_capabilities(plan: &Plan) -> Result<(), Failure> {
    let wanted = final_sets(plan);
    let held = capability::read()?;
    for index in 0..64 {
        if held.bounding >> index & 1 == 1 && wanted.bounding >> index & 1 == 0 {
            capability::drop_bounding(index)?;
        }
    }
    // Ambient needs permitted and inheritable, so it comes last; the kernel drops what is no longer in both.
    caps::clear(None, CapSet::Ambient).map_err(failed)?;
    set(CapSet::Inheritable, wanted.inheritable)?;
    set(CapSet::Effective, wanted.effective & held.permitted)?;
    set(CapSet::Permitted, wanted.permitted)?;
    for capability in known(wanted.ambient) {
        caps::raise(None, CapSet::Ambient, capability).map_err(failed)?;
    }
    if plan.no_new_privileges {
        nix::sys::prctl::set_no_new_privs()
            .map_err(|errno| CallError::new("prctl(PR_SET_NO_NEW_PRIVS)", errno))?;
    }
    Ok(())
}

fn set(which: CapSet, mask: u64) -> Result<(), Failure> {
    caps::set(None, which, &known(mask)).map_err(failed)
}

fn known(mask: u64) -> CapsHashSet {
    caps::all()
        .into_iter()
        .filter(|&capability| bit(capability) & mask != 0)
        .collect()
}

fn failed(error: caps::errors::CapsError) -> Failure {
    Failure::Other(format!("capabilities cannot be set: {error}"))
}

/// Marks every descriptor that the program is not to get for closing at execve.
pub(crate) fn close_descriptors(plan: &Plan) -> Result<(), Failure> {
    process::close_on_exec_from(3 + plan.preserved_descriptors).map_err(Failure::Call)
}

/// Loads the filters, in order. If one of them has a listener, it is handed over at once: whoever holds it answers the
/// calls that wait for it.
pub(crate) fn load_filters(plan: &Plan) -> Result<(), Failure> {
    for filter in &plan.filters {
        let answer = seccomp::install(&filter.instructions, filter.flags)?;
        if filter.flags & seccomp::NEW_LISTENER == 0 {
            continue;
        }
        let Some(handover) = &plan.handover else {
            return Err(Failure::Other(
                "a filter has a listener, and there is nobody to hand it to".to_owned(),
            ));
        };
        // Not owned here: it stays open until execve closes it, or this process ends.
        let number = i32::try_from(answer).unwrap_or(-1);
        hand_over(handover, number)?;
    }
    Ok(())
}

/// Waits until somebody has the listener: whatever comes next may have to ask, and execve closes it. write(2) alone is called
/// while nobody could be asked, so that a filter with a listener must allow it.
fn hand_over(handover: &Handover, number: i32) -> Result<(), Failure> {
    let written = nix::unistd::write(&handover.channel, &number.to_ne_bytes())
        .map_err(|errno| CallError::new("write(listener)", errno))?;
    if written != 4 {
        return Err(CallError::new("write(listener)", Errno::EIO).into());
    }
    match nix::unistd::read(&handover.channel, &mut [0]) {
        Ok(1) => Ok(()),
        Ok(_) => Err(Failure::Other("the filters' listener was not taken".to_owned())),
        Err(errno) => Err(CallError::new("read(listener)", errno).into()),
    }
}

/// Sets the process' own limits, which are otherwise set from outside: by a process that is still root.
pub(crate) fn set_own_limits(plan: &Plan, procfs: &Procfs) -> Result<(), Failure> {
    for limit in &plan.limits {
        process::set_limit(Pid::from_raw(0), limit.resource, limit.soft, limit.hard).map_err(|error| {
            Failure::Other(format!("process.rlimits: {} cannot be set: {error}", limit.name))
        })?;
    }
    if let Some(score) = plan.oom_score_adj {
        let file = procfs.open_self("oom_score_adj", OFlag::O_WRONLY)?;
        nix::unistd::write(&file, score.to_string().as_bytes()).map_err(|errno| {
            Failure::Other(format!(
                "process.oomScoreAdj {score} cannot be set: {}; lowering it takes CAP_SYS_RESOURCE",
                errno.desc()
            ))
        })?;
    }
    Ok(())
}

/// Chooses from which nodes the process gets its memory.
pub(crate) fn set_memory_policy(plan: &Plan) -> Result<(), Failure> {
    match &plan.memory_policy {
        None => Ok(()),
        // The kernel's words in lower case, as runc has them.
        Some(policy) => schedule::set_memory_policy(policy.mode, &policy.nodes).map_err(|error| {
            Failure::Other(format!(
                "linux.memoryPolicy cannot be set: {}: {}",
                error.call,
                error.errno.desc().to_lowercase()
            ))
        }),
    }
}
