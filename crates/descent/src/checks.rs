//! What each check is about, for whoever reads its id in an error. How it is made is in docs/verification.md.

/// A check of the reality gate, in words.
#[derive(Debug, PartialEq, Eq)]
pub struct CheckInfo {
    /// Such as `V-10`.
    pub id: &'static str,
    /// What it looks at, in a few words.
    pub title: &'static str,
    /// What is held against what was judged.
    pub compares: &'static str,
    /// What it is there for.
    pub catches: &'static str,
    /// What usually explains a difference, and what to do about it.
    pub remedy: &'static str,
}

/// Where a sound host gives no reason for a difference.
const UNEXPLAINED: &str = "Nothing on a sound host is known to explain a difference. Please report it, with config.json \
                           and what gabion --debug says.";

/// All of them, by their ids.
pub static CHECKS: [CheckInfo; 20] = [
    CheckInfo {
        id: "V-01",
        title: "capabilities",
        compares: "The bounding, permitted, effective, inheritable and ambient sets, and what execve will make of them.",
        catches: "A capability more or less than judged in any of the sets, also by securebits.",
        remedy: "The caller has not got what the container is to have: gabion runs in a user namespace, or in a service \
                 with CapabilityBoundingSet=. Let the caller have it, or drop it from the bundle.",
    },
    CheckInfo {
        id: "V-02",
        title: "no_new_privs",
        compares: "NoNewPrivs, the securebits, and whether others may look into the process.",
        catches: "A promise of no_new_privs that was not kept; a process that can be traced while it is still the runtime.",
        remedy: UNEXPLAINED,
    },
    CheckInfo {
        id: "V-03",
        title: "user and groups",
        compares: "User and group ids of all kinds, supplementary groups, and the umask.",
        catches: "Another user; groups that were inherited from the caller (CVE-2022-36109).",
        remedy: UNEXPLAINED,
    },
    CheckInfo {
        id: "V-04",
        title: "namespaces",
        compares: "The identity of each namespace that the process is in.",
        catches: "A namespace of the host's, or another one than was judged and joined.",
        remedy: "The path of a namespace led elsewhere when it was joined than when it was judged: the pod's sandbox went \
                 away meanwhile, or its process id was given again. Create the container anew. If it stays so, see who \
                 can write to the path.",
    },
    CheckInfo {
        id: "V-05",
        title: "seccomp filters",
        compares: "How many filters are loaded, and what some calls that they deny really answer.",
        catches: "A filter that was not loaded, or does not do what its profile says.",
        remedy: "A kernel or a sandbox around gabion (gVisor, an emulator, a filter of the caller's) that answers calls \
                 itself. gabion doctor tells what the kernel has.",
    },
    CheckInfo {
        id: "V-06",
        title: "procfs, and the label",
        compares: "The procfs that everything else is read from; the AppArmor profile or SELinux label for execve.",
        catches: "A fake /proc; a label that nobody took (CVE-2019-16884).",
        remedy: "For procfs: in a user namespace the container's own /proc is read, so mount a proc there and cover \
                 nothing of it. For a label: load the profile (aa-status lists those that are), or remove the label.",
    },
    CheckInfo {
        id: "V-07",
        title: "working directory",
        compares: "Where the process is, and the way from there up to its root.",
        catches: "A working directory of the host (CVE-2024-21626), or another one than asked for.",
        remedy: "process.cwd leads through a link of the image or of a volume, or a volume covers it. Let cwd be the path \
                 that the link leads to.",
    },
    CheckInfo {
        id: "V-08",
        title: "masked paths",
        compares: "What is at each of linux.maskedPaths: an empty read-only tmpfs, or the null device.",
        catches: "Masks that were redirected (CVE-2025-31133), left out, or put elsewhere.",
        remedy: "A hook uncovered the path or mounted something over it. Have the hook leave it alone, or take the path \
                 from maskedPaths, which the policy then judges.",
    },
    CheckInfo {
        id: "V-09",
        title: "read-only paths and root",
        compares: "What is at each of linux.readonlyPaths, and the root if it is read-only: a read-only mount of its own.",
        catches: "Remounts that did not happen.",
        remedy: "A hook made the path writable or mounted something over it. Have the hook leave it alone.",
    },
    CheckInfo {
        id: "V-10",
        title: "mounts",
        compares: "The whole mount table, and at each destination which file is there, with which options.",
        catches: "A source that was exchanged between judgement and mount; a mount that somebody else made, that is \
                 missing, or shows another part of a file system (CVE-2024-0132); options that do not hold.",
        remedy: "A hook mounted something: name the places in the policy, as mounts in [[allow.hooks]], or have the \
                 toolkit write its mounts into the bundle (CDI). Without hooks, a source was exchanged while the \
                 container was made, such as a volume that its driver mounted only then: create the container again.",
    },
    CheckInfo {
        id: "V-11",
        title: "/dev, /proc and /sys",
        compares: "That these are directories, that /proc shows this container, and that the default devices are these.",
        catches: "Directories that are links of the image (CVE-2026-41579); a /dev/null that is none.",
        remedy: "The image has a link or a file where a directory or a device has to be. Correct the image.",
    },
    CheckInfo {
        id: "V-12",
        title: "the root",
        compares: "Where the root of the mount namespace is, and that no descriptor leads out of it.",
        catches: "A root that was only changed, with the host's above it (chroot); a directory that is handed on.",
        remedy: "Call gabion without --no-pivot, and hand no directories on by --preserve-fds.",
    },
    CheckInfo {
        id: "V-13",
        title: "descriptors",
        compares: "Every open descriptor, and whether execve closes it.",
        catches: "A descriptor of the host's that would stay open (CVE-2016-9962, CVE-2024-21626).",
        remedy: UNEXPLAINED,
    },
    CheckInfo {
        id: "V-14",
        title: "cgroup, limits and devices",
        compares: "The cgroup that the process is in, its limits of tasks, memory and CPU, and its devices.",
        catches: "A process outside of its cgroup (CVE-2025-47291); a limit that was rounded, lost, or never set; devices \
                 that were not judged.",
        remedy: "Somebody else has a hand in the cgroup: systemd, where the engine's cgroup driver is not systemd and the \
                 host is systemd's; another runtime with the same cgroupsPath; whoever moved the process. Let engine \
                 and host use the same driver, and each container have a cgroup of its own.",
    },
    CheckInfo {
        id: "V-15",
        title: "kernel parameters",
        compares: "Each of linux.sysctl.",
        catches: "A write that went elsewhere (CVE-2025-52881), or was undone.",
        remedy: "The kernel took another value than was written, or a container of the same pod sets it too. Write what \
                 /proc/sys shows there, and let one container of the pod set it.",
    },
    CheckInfo {
        id: "V-16",
        title: "limits and scheduling",
        compares: "process.rlimits, oomScoreAdj, scheduler, ioPriority, and the processors and memory nodes.",
        catches: "Limits that were not set; another policy or priority; a processor that is none of the container's.",
        remedy: "For processors: the cgroup of the container, or one above, was changed meanwhile, by systemd or the \
                 kubelet's CPU manager. Otherwise the caller may not set the value: see that it has CAP_SYS_RESOURCE and \
                 CAP_SYS_NICE.",
    },
    CheckInfo {
        id: "V-17",
        title: "session keyring",
        compares: "Name, serial number and content of the session keyring.",
        catches: "The keys of whoever called the runtime.",
        remedy: UNEXPLAINED,
    },
    CheckInfo {
        id: "V-18",
        title: "id mappings",
        compares: "uid_map, gid_map and setgroups of the container's user namespace.",
        catches: "A user namespace that maps ids elsewhere than was judged.",
        remedy: UNEXPLAINED,
    },
    CheckInfo {
        id: "V-19",
        title: "the program's file",
        compares: "That what execve will execute is a regular file, not in a procfs, and not the runtime.",
        catches: "An entry point that leads to the runtime (CVE-2019-5736).",
        remedy: "process.args[0] leads to something that is no program of the image. Name the program's own path.",
    },
    CheckInfo {
        id: "V-20",
        title: "clocks and personality",
        compares: "The offsets of a new time namespace, and the execution domain.",
        catches: "A clock that is ahead by another offset; the caller's flags that fix the layout of memory.",
        remedy: UNEXPLAINED,
    },
];

/// The check with this id, in whatever case.
#[must_use]
pub fn find(id: &str) -> Option<&'static CheckInfo> {
    CHECKS.iter().find(|check| check.id.eq_ignore_ascii_case(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_is_there_once_in_order() {
        for (index, check) in CHECKS.iter().enumerate() {
            assert_eq!(check.id, format!("V-{:02}", index + 1));
        }
        assert_eq!(find("v-10").map(|check| check.title), Some("mounts"));
        assert_eq!(find("V-21"), None);
    }

    #[test]
    fn the_documentation_has_the_same_checks() {
        let text = include_str!("../../../docs/verification.md");
        for check in &CHECKS {
            let has_row = text
                .lines()
                .any(|line| line.starts_with('|') && line.contains(check.id));
            assert!(has_row, "docs/verification.md has no row for {}", check.id);
        }
    }
}
