//! Other processes by descriptor, and descriptors of our own.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::Pid;

use crate::error::{Result, check};

/// Opens a process (pidfd_open(2), Linux 5.3): from here on it cannot be mistaken for a later one with the
/// same number.
///
/// # Errors
/// `ESRCH` if there is none.
pub fn open(pid: Pid) -> Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers.
    let outcome = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let descriptor = check(outcome, || format!("pidfd_open({pid})"))?;
    // SAFETY: the kernel just returned it as a new descriptor (close-on-exec), and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as i32) })
}

/// Sends a signal to a process by descriptor (pidfd_send_signal(2), Linux 5.1); 0 only asks whether it is
/// there.
///
/// # Errors
/// `ESRCH` if it has ended and was reaped.
pub fn signal(process: impl AsFd, number: i32) -> Result<()> {
    // SAFETY: the siginfo pointer is null, which asks the kernel to fill one in; the rest are integers.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_fd().as_raw_fd(),
            number,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    check(outcome, || format!("pidfd_send_signal({number})")).map(drop)
}

/// Takes a copy of another process' descriptor (pidfd_getfd(2), Linux 5.6), close-on-exec.
///
/// # Errors
/// `EPERM` without the right to trace the process (ptrace(2), `PTRACE_MODE_ATTACH_REALCREDS`), `EBADF` if it has none of
/// this number.
pub fn descriptor_of(process: impl AsFd, number: i32) -> Result<OwnedFd> {
    // SAFETY: pidfd_getfd takes three integers.
    let outcome = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_fd().as_raw_fd(), number, 0) };
    let descriptor = check(outcome, || format!("pidfd_getfd({number})"))?;
    // SAFETY: the kernel just made it for this process, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as i32) })
}

/// Marks every descriptor from `first` on close-on-exec (close_range(2), Linux 5.11).
///
/// # Errors
/// `ENOSYS` or `EINVAL` on an older kernel.
pub fn close_on_exec_from(first: u32) -> Result<()> {
    // SAFETY: close_range takes integers; with CLOSE_RANGE_CLOEXEC it closes nothing, so no descriptor that
    // an OwnedFd of ours stands for goes away under it.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    check(outcome, || {
        format!("close_range({first}, ~0, CLOSE_RANGE_CLOEXEC)")
    })
    .map(drop)
}

/// The execution domain of the calling process, with its flags (personality(2)); `Some` sets it first.
///
/// # Errors
/// `EINVAL` if the kernel does not take it.
pub fn personality(domain: Option<u32>) -> Result<u32> {
    let call = |argument: u32| {
        // SAFETY: personality takes an integer and touches no memory of ours.
        let outcome = unsafe { libc::personality(argument.into()) };
        check(outcome.into(), || format!("personality({argument:#x})"))
    };
    if let Some(domain) = domain {
        call(domain)?;
    }
    // All bits set asks and changes nothing.
    call(u32::MAX).map(|found| found as u32)
}

/// How a thread is scheduled (sched_setattr(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Scheduling {
    /// `SCHED_*`.
    pub policy: u32,
    /// Niceness, for policies that have one.
    pub nice: i32,
    /// Priority, for policies of real time.
    pub priority: u32,
}

/// How a process' first thread is scheduled, 0 for the calling one (sched_getattr(2)).
///
/// # Errors
/// `ESRCH` if there is no such process.
pub fn scheduling(pid: Pid) -> Result<Scheduling> {
    #[repr(C)]
    #[derive(Default)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    let mut attributes = Attributes::default();
    // SAFETY: sched_getattr writes at most the number of bytes passed to the structure, a live local of that size with
    // the layout of the first version of struct sched_attr.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_sched_getattr,
            pid.as_raw(),
            &raw mut attributes,
            size_of::<Attributes>() as libc::c_uint,
            0,
        )
    };
    check(outcome, || format!("sched_getattr({pid})"))?;
    Ok(Scheduling {
        policy: attributes.policy,
        nice: attributes.nice,
        priority: attributes.priority,
    })
}

/// The class and level of a process' input and output, 0 for the calling one (ioprio_get(2)).
///
/// # Errors
/// `ESRCH` if there is no such process.
pub fn io_priority(pid: Pid) -> Result<(u32, u32)> {
    const PROCESS: libc::c_int = 1; // IOPRIO_WHO_PROCESS
    // SAFETY: ioprio_get takes two integers.
    let outcome = unsafe { libc::syscall(libc::SYS_ioprio_get, PROCESS, pid.as_raw()) };
    let value = check(outcome, || format!("ioprio_get({pid})"))? as u32;
    Ok((value >> 13, value & 0x7))
}

/// Gives the next program a clean start with signals: none is blocked, and SIGPIPE, which Rust's runtime
/// ignores in every program, ends a program again.
///
/// # Errors
/// None is known.
pub fn reset_signals() -> Result<()> {
    SigSet::empty()
        .thread_set_mask()
        .map_err(|errno| crate::CallError::new("sigprocmask(SIG_SETMASK, none)", errno))?;
    // SAFETY: SIG_DFL installs no handler of ours, so there is no code that could run at a bad time.
    unsafe { nix::sys::signal::signal(Signal::SIGPIPE, SigHandler::SigDfl) }
        .map(drop)
        .map_err(|errno| crate::CallError::new("signal(SIGPIPE, SIG_DFL)", errno))
}

/// By which a person or an engine asks a program to end.
const REQUESTS: [Signal; 4] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];

/// Until it executes a program, this process ends with status 128 + n when it is asked to by SIGHUP, SIGINT, SIGQUIT or
/// SIGTERM. The kernel drops them for the first process of a pid namespace, which has to have a handler to be ended by
/// anything but SIGKILL (pid_namespaces(7)). One that is ignored stays so, for the program as well, as nohup(1) has it.
///
/// # Errors
/// None is known.
pub fn end_on_request() -> Result<()> {
    extern "C" fn end(number: libc::c_int) {
        // SAFETY: _exit ends the process at once, runs nothing of ours before, and may be called here (signal-safety(7)).
        unsafe { libc::_exit(128 + number) }
    }
    let action = SigAction::new(SigHandler::Handler(end), SaFlags::empty(), SigSet::empty());
    let failed = |signal| move |errno| crate::CallError::new(format!("sigaction({signal})"), errno);
    for signal in REQUESTS {
        // SAFETY: the handler does nothing but end the process, so it breaks into nothing that would go on.
        let before = unsafe { sigaction(signal, &action) }.map_err(failed(signal))?;
        if matches!(before.handler(), SigHandler::SigIgn) {
            // SAFETY: what was there before is no handler.
            unsafe { sigaction(signal, &before) }.map_err(failed(signal))?;
        }
    }
    SigSet::from_iter(REQUESTS)
        .thread_unblock()
        .map_err(|errno| crate::CallError::new("sigprocmask(SIG_UNBLOCK)", errno))
}

/// Hands descriptors on to a program that is about to be started: they become its 3, 4, 5, and so on.
///
/// # Errors
/// `EMFILE` if there is no room for copies.
pub fn hand_on(
    command: &mut std::process::Command,
    descriptors: &[std::os::fd::BorrowedFd<'_>],
) -> Result<()> {
    use std::os::unix::process::CommandExt;
    let first = 3;
    let beyond = first + descriptors.len() as i32;
    // Copies above all targets, so that no target is overwritten before it was copied itself.
    let copies = descriptors
        .iter()
        .map(|descriptor| {
            let copy = nix::fcntl::fcntl(descriptor, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(beyond))
                .map_err(|errno| crate::CallError::new("fcntl(F_DUPFD_CLOEXEC)", errno))?;
            // SAFETY: the kernel just returned it as a new descriptor, and nothing else owns it.
            Ok(unsafe { OwnedFd::from_raw_fd(copy) })
        })
        .collect::<Result<Vec<OwnedFd>>>()?;
    let act = move || {
        for (target, copy) in (first..).zip(&copies) {
            // SAFETY: dup2 takes two numbers. In the child that pre_exec runs in, the numbers from 3 on are
            // copies that no Rust value will be used with before execve.
            if unsafe { libc::dup2(copy.as_raw_fd(), target) } < 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: what runs between fork and execve may only make async-signal-safe calls: dup2 is one, and nothing is
    // allocated (an error of the system is a number).
    unsafe { command.pre_exec(act) };
    Ok(())
}

/// Takes over a descriptor that this program was handed, by its number: across execve, or in a message.
///
/// # Preconditions
/// Called once for a number, by the program that the number was told to.
///
/// # Errors
/// `EBADF` if it is not open; `EINVAL` for the three standard ones, which the standard library owns.
pub fn inherited(number: i32) -> Result<OwnedFd> {
    if number < 3 {
        return Err(crate::CallError::new(
            format!("inherit({number})"),
            nix::errno::Errno::EINVAL,
        ));
    }
    if closes_on_exec(number)?.is_none() {
        return Err(crate::CallError::new(
            format!("inherit({number})"),
            nix::errno::Errno::EBADF,
        ));
    }
    // SAFETY: it is open (asked just above), and it was handed to this program as a number, so no owner for it
    // exists unless this function was called twice, which its precondition forbids.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Whether a descriptor, by its number, is closed at execve; `None` if it is not open (fcntl(2), `F_GETFD`).
///
/// # Errors
/// None is known.
pub fn closes_on_exec(number: i32) -> Result<Option<bool>> {
    // SAFETY: F_GETFD takes a number and no memory; for one that is not open the answer is EBADF.
    let outcome = unsafe { libc::fcntl(number, libc::F_GETFD) };
    match check(outcome.into(), || format!("fcntl({number}, F_GETFD)")) {
        Ok(flags) => Ok(Some(flags & libc::c_long::from(libc::FD_CLOEXEC) != 0)),
        Err(error) if error.errno == nix::errno::Errno::EBADF => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sets a resource limit of another process (prlimit(2)).
///
/// `resource` is the number of `RLIMIT_…`; the limits are in the resource's own unit, `u64::MAX` for none.
///
/// # Errors
/// `EPERM` to raise a hard limit without CAP_SYS_RESOURCE, `EINVAL` for soft above hard.
pub fn set_limit(pid: Pid, resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: prlimit64 reads one rlimit64 through the new-limit pointer, a live local; the old-limit pointer
    // is null, so nothing is written.
    let outcome = unsafe { libc::prlimit64(pid.as_raw(), resource, &raw const limit, std::ptr::null_mut()) };
    check(outcome.into(), || {
        format!("prlimit({pid}, {resource}, {soft}, {hard})")
    })
    .map(drop)
}

/// Reads a resource limit of a process, 0 for the calling one: soft and hard.
///
/// # Errors
/// `EINVAL` for an unknown resource, `ESRCH` if there is no such process.
pub fn limit(pid: Pid, resource: u32) -> Result<(u64, u64)> {
    let mut limit = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: prlimit64 writes one rlimit64 through the old-limit pointer, a live local; the new-limit pointer
    // is null, so nothing is set.
    let outcome = unsafe { libc::prlimit64(pid.as_raw(), resource, std::ptr::null(), &raw mut limit) };
    check(outcome.into(), || format!("prlimit({pid}, {resource})"))?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// The number of a resource limit by its name in the runtime-spec, such as `RLIMIT_NOFILE` (getrlimit(2)).
pub fn resource_number(name: &str) -> Option<u32> {
    Some(match name {
        "RLIMIT_AS" => libc::RLIMIT_AS,
        "RLIMIT_CORE" => libc::RLIMIT_CORE,
        "RLIMIT_CPU" => libc::RLIMIT_CPU,
        "RLIMIT_DATA" => libc::RLIMIT_DATA,
        "RLIMIT_FSIZE" => libc::RLIMIT_FSIZE,
        "RLIMIT_LOCKS" => libc::RLIMIT_LOCKS,
        "RLIMIT_MEMLOCK" => libc::RLIMIT_MEMLOCK,
        "RLIMIT_MSGQUEUE" => libc::RLIMIT_MSGQUEUE,
        "RLIMIT_NICE" => libc::RLIMIT_NICE,
        "RLIMIT_NOFILE" => libc::RLIMIT_NOFILE,
        "RLIMIT_NPROC" => libc::RLIMIT_NPROC,
        "RLIMIT_RSS" => libc::RLIMIT_RSS,
        "RLIMIT_RTPRIO" => libc::RLIMIT_RTPRIO,
        "RLIMIT_RTTIME" => libc::RLIMIT_RTTIME,
        "RLIMIT_SIGPENDING" => libc::RLIMIT_SIGPENDING,
        "RLIMIT_STACK" => libc::RLIMIT_STACK,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use nix::unistd::getpid;

    use super::*;

    #[test]
    fn a_process_is_signalled_by_descriptor_until_it_is_reaped() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = open(Pid::from_raw(child.id() as i32)).unwrap();
        signal(&process, 0).unwrap();
        signal(&process, libc::SIGKILL).unwrap();
        child.wait().unwrap();
        assert_eq!(signal(&process, 0).unwrap_err().errno, nix::errno::Errno::ESRCH);
    }

    #[test]
    fn descriptors_that_are_handed_on_have_the_numbers_from_three() {
        let (one, mut one_in) = std::io::pipe().unwrap();
        let (two, mut two_in) = std::io::pipe().unwrap();
        std::io::Write::write_all(&mut one_in, b"first ").unwrap();
        std::io::Write::write_all(&mut two_in, b"second").unwrap();
        drop((one_in, two_in));
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "cat <&3; cat <&4"]);
        hand_on(&mut command, &[one.as_fd(), two.as_fd()]).unwrap();
        assert_eq!(command.output().unwrap().stdout, b"first second");
    }

    #[test]
    fn how_a_process_is_scheduled_is_what_it_was_started_with() {
        let mut child = std::process::Command::new("nice")
            .args([
                "-n", "7", "chrt", "-b", "0", "ionice", "-c", "2", "-n", "6", "sleep", "60",
            ])
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(child.id() as i32);
        let wanted = Scheduling {
            policy: libc::SCHED_BATCH as u32,
            // On top of what this process has.
            nice: (scheduling(getpid()).unwrap().nice + 7).min(19),
            priority: 0,
        };
        for _ in 0..500 {
            if scheduling(pid).unwrap() == wanted && io_priority(pid).unwrap() == (2, 6) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let found = (scheduling(pid).unwrap(), io_priority(pid).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, (wanted, (2, 6)));
    }

    #[test]
    fn a_limit_that_was_set_is_read_back() {
        let (_, hard) = limit(getpid(), libc::RLIMIT_CORE).unwrap();
        set_limit(getpid(), libc::RLIMIT_CORE, 0, hard).unwrap();
        assert_eq!(limit(Pid::from_raw(0), libc::RLIMIT_CORE).unwrap(), (0, hard));
    }
}
