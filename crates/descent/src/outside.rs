//! The same checks later on, of a container that runs, from outside.
//!
//! What the gate saw before execve may have changed since: by the workload as far as it is let, by the host's root
//! without asking anybody. So this compares in one direction only where the workload may go on giving things up (a
//! capability less, one filter more, a lower limit is no difference), and leaves out what is about the moment of execve.

use gabion_sys::mount::{self, Place};
use gabion_sys::namespace::id_outside;
use gabion_sys::process::limit;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize};

use crate::mount_table::Table;
use crate::plan::{Plan, SecurityLabel};
use crate::procfs::Procfs;
use crate::report::Failure;
use crate::status::Status;
use crate::verify;

const CAP_SETGID: u64 = 1 << 6;
const CAP_SETUID: u64 = 1 << 7;
const CAP_SYS_ADMIN: u64 = 1 << 21;
const CAP_MKNOD: u64 = 1 << 27;

/// One check, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Such as `V-10`.
    pub id: String,
    /// What it is about, in a few words.
    pub about: String,
    /// What is there now, in a few words.
    pub found: String,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome", content = "why")]
pub enum Outcome {
    /// It is as it was judged.
    Holds,
    /// It is not any more.
    Drift(String),
    /// It cannot be told from outside, or is the workload's own to change.
    NotAsked(String),
}

/// What is looked at.
#[derive(Debug)]
pub struct Subject<'a> {
    /// What was promised.
    pub plan: &'a Plan,
    /// How many filters were loaded.
    pub filters: u64,
    /// The files of the container's first process, in a procfs of the observer's own.
    pub procfs: Procfs,
    /// Whether its program runs: before that, the process is still the runtime.
    pub has_started: bool,
}

/// Looks at everything.
///
/// # Preconditions
/// The calling process has entered the container's mount, network, ipc and uts namespaces, and no other of them.
#[must_use]
pub fn look(subject: &Subject<'_>) -> Vec<Check> {
    let plan = subject.plan;
    let procfs = &subject.procfs;
    let status = Status::read(procfs);
    let mut checks = Checks(Vec::new());
    let of_process = |check: &dyn Fn(&Status) -> Result<(), Failure>| match (&status, subject.has_started) {
        (_, false) => Err(Unasked::Not("the program has not begun".to_owned())),
        (Err(failure), true) => Err(Unasked::Failed(failure.clone())),
        (Ok(status), true) => check(status).map_err(Unasked::Failed),
    };
    let shown = |show: &dyn Fn(&Status) -> String| status.as_ref().map(show).unwrap_or_default();

    checks.add(
        "V-01",
        "capabilities",
        shown(&|status| format!("bounding {}", names(status.capabilities.bounding))),
        of_process(&|status| capabilities(plan, status)),
    );
    checks.add(
        "V-02",
        "no_new_privs",
        shown(&|status| {
            if status.no_new_privileges {
                "set"
            } else {
                "not set"
            }
            .to_owned()
        }),
        of_process(&|status| no_new_privileges(plan, status)),
    );
    let may_change = plan.capabilities.bounding & (CAP_SETUID | CAP_SETGID) != 0;
    checks.add(
        "V-03",
        "user and groups",
        shown(&|status| format!("{}:{} on the host", status.uids[1], status.gids[1])),
        if may_change {
            Err(Unasked::Not(
                "it has the capabilities to change its user".to_owned(),
            ))
        } else {
            of_process(&|status| user(plan, status, procfs))
        },
    );
    checks.add(
        "V-04",
        "namespaces",
        format!("{} of them", plan.namespaces.len()),
        asked(verify::namespaces::namespaces(plan, procfs)),
    );
    checks.add(
        "V-05",
        "seccomp filters",
        shown(&|status| format!("{}", status.filters)),
        of_process(&|status| filters(subject.filters, status)),
    );
    let label = label(plan, procfs);
    checks.add(
        "V-06",
        "security label",
        label.as_ref().cloned().unwrap_or_default(),
        match &plan.label {
            None => Err(Unasked::Not("none was asked for".to_owned())),
            Some(wanted) => of_process(&|_| same_label(wanted, label.as_ref())),
        },
    );
    paths(subject, &mut checks);
    checks.add(
        "V-15",
        "kernel parameters",
        format!("{} of the bundle", plan.sysctls.len()),
        asked(verify::sysctls::parameters(plan, procfs)),
    );
    checks.add(
        "V-16",
        "resource limits, scheduling",
        format!("{} of the bundle", plan.limits.len()),
        asked(limits(plan, procfs).and_then(|()| {
            // Within what it may use, a workload may choose.
            verify::process::processors(plan, status.as_ref().map_err(Clone::clone)?)
        })),
    );
    checks.add(
        "V-18",
        "id maps",
        procfs
            .read_self("uid_map")
            .map(|map| map.split_whitespace().collect::<Vec<_>>().join(" "))
            .unwrap_or_default(),
        match plan.id_maps {
            None => Err(Unasked::Not("it has no user namespace of its own".to_owned())),
            Some(_) => asked(verify::namespaces::id_maps(plan, procfs)),
        },
    );
    checks.add(
        "V-20",
        "clocks",
        String::new(),
        match plan.time_offsets {
            None => Err(Unasked::Not("it has no time namespace of its own".to_owned())),
            Some(_) => asked(verify::namespaces::clocks(plan, procfs)),
        },
    );
    checks.0
}

/// Holds a further process of the container against the plan of its first: it may have given up more, and have no more.
///
/// # Errors
/// The first check that does not hold.
pub fn further(plan: &Plan, loaded: u64, procfs: &Procfs) -> Result<(), Failure> {
    let status = Status::read(procfs)?;
    capabilities(plan, &status)?;
    no_new_privileges(plan, &status)?;
    filters(loaded, &status)
}

fn no_new_privileges(plan: &Plan, status: &Status) -> Result<(), Failure> {
    if plan.no_new_privileges && !status.no_new_privileges {
        return Err(Failure::mismatch("V-02", "no_new_privs is not set"));
    }
    Ok(())
}

/// V-08 to V-12: what the container's paths lead to.
fn paths(subject: &Subject<'_>, checks: &mut Checks) {
    let plan = subject.plan;
    let procfs = &subject.procfs;
    let mut covered = verify::paths::Covered::default();
    let masked = verify::paths::masked(plan, &mut covered);
    let readonly = verify::paths::readonly(plan, &mut covered);
    let (masks, covers) = (covered.masked.len(), covered.readonly.len());
    checks.add(
        "V-08",
        "masked paths",
        format!("{masks} of {}", plan.masked_paths.len()),
        asked(masked),
    );
    checks.add(
        "V-09",
        "read-only paths",
        format!("{covers} of {}", plan.readonly_paths.len()),
        asked(readonly),
    );
    let table = procfs.read_self("mountinfo").and_then(|text| Table::parse(&text));
    checks.add(
        "V-10",
        "mounts",
        table
            .as_ref()
            .map(|table| format!("{} of them", table.rows().len()))
            .unwrap_or_default(),
        match (&plan.mounts, table) {
            (None, _) => Err(Unasked::Not("it joined a mount namespace".to_owned())),
            (Some(_), _) if plan.capabilities.bounding & CAP_SYS_ADMIN != 0 => {
                Err(Unasked::Not("it has CAP_SYS_ADMIN, and may mount".to_owned()))
            }
            (Some(_), Err(failure)) => Err(Unasked::Failed(failure)),
            (Some(expected), Ok(table)) => asked(verify::mounts::table(expected, &covered, &table)),
        },
    );
    let nodes = if plan.capabilities.bounding & CAP_MKNOD == 0 {
        verify::paths::nodes()
    } else {
        Ok(())
    };
    checks.add(
        "V-11",
        "/dev, /proc, /sys",
        String::new(),
        asked(verify::paths::directories(plan, procfs).and(nodes)),
    );
    checks.add("V-12", "root", String::new(), asked(root(procfs)));
}

struct Checks(Vec<Check>);

/// Why a check has nothing to say that it holds.
enum Unasked {
    Not(String),
    Failed(Failure),
}

fn asked(outcome: Result<(), Failure>) -> Result<(), Unasked> {
    outcome.map_err(Unasked::Failed)
}

impl Checks {
    fn add(&mut self, id: &str, about: &str, found: String, outcome: Result<(), Unasked>) {
        let outcome = match outcome {
            Ok(()) => Outcome::Holds,
            Err(Unasked::Not(why)) => Outcome::NotAsked(why),
            Err(Unasked::Failed(Failure::Mismatch { text, .. })) => Outcome::Drift(text),
            // What cannot be read is not known to hold.
            Err(Unasked::Failed(failure)) => Outcome::Drift(format!("it cannot be looked at: {failure}")),
        };
        self.0.push(Check {
            id: id.to_owned(),
            about: about.to_owned(),
            found,
            outcome,
        });
    }
}

fn capabilities(plan: &Plan, status: &Status) -> Result<(), Failure> {
    let (judged, found) = (&plan.capabilities, &status.capabilities);
    for (name, found, judged) in [
        ("bounding", found.bounding, judged.bounding),
        // Root may make effective again whatever it is bound by.
        ("permitted", found.permitted, judged.permitted | judged.bounding),
        ("effective", found.effective, judged.permitted | judged.bounding),
        (
            "inheritable",
            found.inheritable,
            judged.inheritable | judged.bounding,
        ),
        ("ambient", found.ambient, judged.ambient | judged.bounding),
    ] {
        let more = found & !judged;
        if more != 0 {
            return Err(Failure::mismatch(
                "V-01",
                format!("the {name} set has {}, which was not granted", names(more)),
            ));
        }
    }
    Ok(())
}

/// Names of capabilities, without what all begin with.
fn names(mask: u64) -> String {
    let mut names: Vec<String> = Vec::new();
    let known = caps::all();
    for index in (0..64_u8).filter(|index| mask >> index & 1 == 1) {
        let name = known.iter().find(|capability| capability.index() == index);
        names.push(match name {
            Some(name) => name.to_string().trim_start_matches("CAP_").to_owned(),
            None => index.to_string(),
        });
    }
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(",")
    }
}

fn user(plan: &Plan, status: &Status, procfs: &Procfs) -> Result<(), Failure> {
    let uid = id_outside(&procfs.read_self("uid_map")?, plan.user.uid);
    let gid = id_outside(&procfs.read_self("gid_map")?, plan.user.gid);
    if uid.is_none_or(|uid| status.uids != [uid; 4]) || gid.is_none_or(|gid| status.gids != [gid; 4]) {
        return Err(Failure::mismatch(
            "V-03",
            format!(
                "user ids are {:?} and group ids {:?} on the host, not {uid:?} and {gid:?}",
                status.uids, status.gids
            ),
        ));
    }
    Ok(())
}

fn filters(loaded: u64, status: &Status) -> Result<(), Failure> {
    if loaded > 0 && (status.seccomp != 2 || status.filters < loaded) {
        return Err(Failure::mismatch(
            "V-05",
            format!(
                "{} filters are loaded in seccomp mode {}, not {loaded} in mode 2",
                status.filters, status.seccomp
            ),
        ));
    }
    Ok(())
}

fn label(plan: &Plan, procfs: &Procfs) -> Result<String, Failure> {
    let first = match plan.label {
        Some(SecurityLabel::AppArmor { .. }) => "attr/apparmor/current",
        _ => "attr/current",
    };
    let text = procfs
        .read_self(first)
        .or_else(|_| procfs.read_self("attr/current"))?;
    Ok(text.trim_end_matches(['\0', '\n']).to_owned())
}

fn same_label(wanted: &SecurityLabel, found: Result<&String, &Failure>) -> Result<(), Failure> {
    let found = found.map_err(Clone::clone)?;
    if !wanted.is(found) {
        return Err(Failure::mismatch(
            "V-06",
            format!("the label is {found:?}, not {:?}", wanted.name()),
        ));
    }
    Ok(())
}

fn limits(plan: &Plan, procfs: &Procfs) -> Result<(), Failure> {
    for wanted in &plan.limits {
        let (_, hard) = limit(procfs.process(), wanted.resource)?;
        if hard > wanted.hard {
            return Err(Failure::mismatch(
                "V-16",
                format!("{} is {hard}, above {}", wanted.name, wanted.hard),
            ));
        }
    }
    if let Some(wanted) = plan.oom_score_adj {
        let text = procfs.read_self("oom_score_adj")?;
        if text.trim().parse::<i64>().ok().is_none_or(|found| found < wanted) {
            return Err(Failure::mismatch(
                "V-16",
                format!("oom_score_adj is {}, below {wanted}", text.trim()),
            ));
        }
    }
    Ok(())
}

/// The process' root is that of its mount namespace, which the observer has entered.
fn root(procfs: &Procfs) -> Result<(), Failure> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let here = openat(AT_FDCWD, c"/", flags, Mode::empty())
        .map_err(|errno| gabion_sys::CallError::new("open(/)", errno))?;
    let here = mount::place(here)?;
    let theirs: Place = mount::place(procfs.open_root()?)?;
    if (here.mount_id, here.inode) != (theirs.mount_id, theirs.inode) {
        return Err(Failure::mismatch(
            "V-12",
            "its root is not that of its mount namespace: what is outside of it is within reach",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use gabion_sys::capability::CapabilitySets;

    use super::*;

    #[test]
    fn a_capability_less_is_no_drift_and_one_more_is() {
        let judged = CapabilitySets {
            bounding: 0b111,
            permitted: 0b111,
            effective: 0b111,
            ..CapabilitySets::default()
        };
        let plan = Plan {
            capabilities: judged,
            ..Plan::default()
        };
        let mut status = Status {
            uids: [0; 4],
            gids: [0; 4],
            groups: Vec::new(),
            umask: None,
            capabilities: CapabilitySets {
                bounding: 0b101,
                permitted: 0b001,
                ..CapabilitySets::default()
            },
            no_new_privileges: false,
            seccomp: 0,
            filters: 0,
            processors: None,
            memory_nodes: None,
        };
        assert_eq!(capabilities(&plan, &status), Ok(()));
        status.capabilities.bounding |= CAP_SYS_ADMIN;
        assert_eq!(
            capabilities(&plan, &status),
            Err(Failure::mismatch(
                "V-01",
                "the bounding set has SYS_ADMIN, which was not granted"
            ))
        );
        assert_eq!(filters(0, &status), Ok(()));
        assert!(filters(1, &status).is_err());
    }

    #[test]
    fn a_profile_that_only_complains_is_another_label() {
        let wanted = |enforced| SecurityLabel::AppArmor {
            profile: "docker-default".to_owned(),
            enforced,
        };
        for (found, same, by_name) in [
            ("docker-default (enforce)", true, true),
            ("docker-default (kill)", true, true),
            ("docker-default (complain)", false, true),
            ("docker-default", false, true),
            ("docker-default (x) (enforce)", false, false),
            ("unconfined", false, false),
        ] {
            let is = |wanted| same_label(&wanted, Ok(&found.to_owned())).is_ok();
            assert_eq!((is(wanted(true)), is(wanted(false))), (same, by_name), "{found}");
        }
        let label = SecurityLabel::Selinux("u:r:t:s0".to_owned());
        assert!(label.is("u:r:t:s0") && !label.is("u:r:t:s0 (enforce)"));
    }
}
