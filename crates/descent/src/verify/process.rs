//! What the process itself is: capabilities (V-01), privileges (V-02), ids (V-03), the label to come (V-06), limits
//! (V-16), the session keyring (V-17), the execution domain (V-20).

use std::collections::BTreeSet;

use gabion_sys::capability::{self, CapabilitySets};
use gabion_sys::{CallError, keyring, process};
use nix::errno::Errno;

use crate::drop::final_sets;
use crate::plan::{Plan, SecurityLabel};
use crate::procfs::Procfs;
use crate::report::Failure;
use crate::status::Status;

/// V-01: the capability sets are the plan's, and so will be what execve makes of them.
pub(crate) fn capabilities(plan: &Plan, status: &Status) -> Result<(), Failure> {
    let wanted = final_sets(plan);
    let found = status.capabilities;
    for (name, wanted, found) in [
        ("bounding", wanted.bounding, found.bounding),
        ("inheritable", wanted.inheritable, found.inheritable),
        ("permitted", wanted.permitted, found.permitted),
        ("effective", wanted.effective, found.effective),
        ("ambient", wanted.ambient, found.ambient),
    ] {
        if wanted != found {
            return Err(Failure::mismatch(
                "V-01",
                format!("{name} capabilities are {found:#x}, not {wanted:#x}"),
            ));
        }
    }
    let after = after_execve(&found, plan);
    let allowed = plan.capabilities.bounding | plan.capabilities.permitted | plan.capabilities.ambient;
    if after & !allowed != 0 {
        return Err(Failure::mismatch(
            "V-01",
            format!(
                "execve would give {after:#x}, of which {:#x} was not granted",
                after & !allowed
            ),
        ));
    }
    Ok(())
}

/// What execve of a file without capabilities makes of `permitted` (capabilities(7)): for root, everything
/// inheritable or in the bounding set, and with no_new_privs no more than before; for others, the ambient set.
fn after_execve(sets: &CapabilitySets, plan: &Plan) -> u64 {
    if plan.user.uid != 0 {
        return sets.ambient;
    }
    let gained = sets.inheritable | sets.bounding;
    if plan.no_new_privileges {
        gained & sets.permitted
    } else {
        gained
    }
}

/// V-02: no_new_privs is as promised, no securebits change what root means, and no other process of this user
/// can look into this one while it is still the runtime.
pub(crate) fn privileges(plan: &Plan, status: &Status) -> Result<(), Failure> {
    // More is not less: a runtime that was itself started with no_new_privs cannot take it off.
    if plan.no_new_privileges && !status.no_new_privileges {
        return Err(Failure::mismatch("V-02", "no_new_privs is not set"));
    }
    // SECBIT_KEEP_CAPS (bit 4) is ours, and execve clears it.
    let bits = capability::securebits()? & !(1 << 4);
    if bits != 0 {
        return Err(Failure::mismatch(
            "V-02",
            format!("securebits are {bits:#x}, not 0"),
        ));
    }
    if nix::sys::prctl::get_dumpable().map_err(|errno| CallError::new("prctl(PR_GET_DUMPABLE)", errno))? {
        return Err(Failure::mismatch(
            "V-02",
            "the init process is dumpable before execve",
        ));
    }
    Ok(())
}

/// V-03: real, effective, saved and file system ids, and the supplementary groups.
pub(crate) fn user(plan: &Plan, status: &Status) -> Result<(), Failure> {
    let user = &plan.user;
    if status.uids != [user.uid; 4] || status.gids != [user.gid; 4] {
        return Err(Failure::mismatch(
            "V-03",
            format!(
                "user ids are {:?} and group ids {:?}, not {} and {}",
                status.uids, status.gids, user.uid, user.gid
            ),
        ));
    }
    if user.can_set_groups {
        let found: BTreeSet<u32> = status.groups.iter().copied().collect();
        let wanted: BTreeSet<u32> = user.groups.iter().copied().collect();
        if found != wanted {
            return Err(Failure::mismatch(
                "V-03",
                format!("supplementary groups are {found:?}, not {wanted:?}"),
            ));
        }
    }
    if status.umask.is_some_and(|umask| umask != user.umask & 0o777) {
        return Err(Failure::mismatch(
            "V-03",
            format!("the umask is {:?}, not {:#o}", status.umask, user.umask),
        ));
    }
    Ok(())
}

/// V-06, the part that needs no privilege: the label that was asked for is the one that execve will set.
pub(crate) fn label(plan: &Plan, procfs: &Procfs) -> Result<(), Failure> {
    let Some(wanted) = &plan.label else {
        return Ok(());
    };
    let path = match wanted {
        SecurityLabel::AppArmor { .. } => "attr/apparmor/exec",
        SecurityLabel::Selinux(_) => "attr/exec",
    };
    let text = procfs
        .read_self(path)
        .or_else(|_| procfs.read_self("attr/exec"))?;
    let found = text.trim_end_matches(['\0', '\n']);
    if !wanted.is(found) {
        return Err(Failure::mismatch(
            "V-06",
            format!("the label at execve is {found:?}, not {:?}", wanted.name()),
        ));
    }
    Ok(())
}

/// V-16: resource limits and the out-of-memory score.
pub(crate) fn limits(plan: &Plan, procfs: &Procfs) -> Result<(), Failure> {
    for limit in &plan.limits {
        let found = process::limit(procfs.process(), limit.resource)?;
        if found != (limit.soft, limit.hard) {
            return Err(Failure::mismatch(
                "V-16",
                format!(
                    "{} is {} (hard {}), not {} (hard {})",
                    limit.name, found.0, found.1, limit.soft, limit.hard
                ),
            ));
        }
    }
    if let Some(wanted) = plan.scheduling {
        let mut found = process::scheduling(procfs.process())?;
        if wanted.policy == gabion_sys::schedule::IDLE {
            // The kernel takes no niceness with this policy: the caller's stays, and has no effect.
            found.nice = wanted.nice;
        }
        if found != wanted {
            return Err(Failure::mismatch(
                "V-16",
                format!(
                    "the scheduler's policy is {} (nice {}, priority {}), not {} (nice {}, priority {})",
                    found.policy, found.nice, found.priority, wanted.policy, wanted.nice, wanted.priority
                ),
            ));
        }
    }
    if let Some(wanted) = plan.io_priority {
        let found = process::io_priority(procfs.process())?;
        if found != wanted {
            return Err(Failure::mismatch(
                "V-16",
                format!(
                    "the class of input and output is {} (level {}), not {} (level {})",
                    found.0, found.1, wanted.0, wanted.1
                ),
            ));
        }
    }
    if let Some(wanted) = plan.oom_score_adj {
        let text = procfs.read_self("oom_score_adj")?;
        let found: i64 = text
            .trim()
            .parse()
            .map_err(|_| Failure::mismatch("V-16", format!("oom_score_adj reads {text:?}")))?;
        if found != wanted {
            return Err(Failure::mismatch(
                "V-16",
                format!("oom_score_adj is {found}, not {wanted}"),
            ));
        }
    }
    Ok(())
}

/// V-16, the processors and the memory: no other than the plan's. Fewer are no mismatch: of what is asked for the kernel
/// gives what is there.
pub(crate) fn processors(plan: &Plan, status: &Status) -> Result<(), Failure> {
    for (what, wanted, found) in [
        ("processors", &plan.processors, &status.processors),
        ("memory nodes", &plan.memory_nodes, &status.memory_nodes),
    ] {
        let Some(wanted) = wanted else { continue };
        let Some(found) = found else {
            return Err(Failure::mismatch(
                "V-16",
                format!("the kernel does not show which {what} the process may use"),
            ));
        };
        if let Some(other) = found.difference(wanted).next() {
            return Err(Failure::mismatch(
                "V-16",
                format!("the {what} that may be used are {found:?}, and {other} is none of {wanted:?}"),
            ));
        }
    }
    Ok(())
}

/// V-17: the session keyring is the new one, by its name, and holds no key of anybody's. `outside` is the one that the
/// process came with.
pub(crate) fn session_keyring(plan: &Plan, outside: Option<i64>) -> Result<(), Failure> {
    let Some(name) = &plan.session_keyring else {
        return Ok(());
    };
    let serial = match keyring::session() {
        Ok(serial) => serial,
        Err(error) if error.errno == Errno::ENOSYS => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let text = keyring::describe(serial)?;
    let found = text.rsplit(';').next().unwrap_or_default();
    if found.as_bytes() != name.as_bytes() || Some(serial) == outside {
        return Err(Failure::mismatch(
            "V-17",
            format!("the session keyring is {found:?}, the caller's, not a new one of the name {name:?}"),
        ));
    }
    let keys = keyring::count(serial)?;
    if keys != 0 {
        return Err(Failure::mismatch(
            "V-17",
            format!("the new session keyring {name:?} has {keys} keys in it"),
        ));
    }
    Ok(())
}

/// V-20, the execution domain: no flag of the caller's changes how the program is laid out in memory.
pub(crate) fn domain(plan: &Plan) -> Result<(), Failure> {
    let found = process::personality(None)?;
    if found != plan.personality {
        return Err(Failure::mismatch(
            "V-20",
            format!("the personality is {found:#x}, not {:#x}", plan.personality),
        ));
    }
    Ok(())
}
