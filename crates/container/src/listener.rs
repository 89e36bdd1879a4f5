//! Seccomp listeners (config-linux.md, "The Container Process State"): calls that a filter hands over are answered by
//! an agent of the host, which listens on the socket that the bundle names.
//!
//! ```text
//! create, exec                               the process
//! ────────────                               ───────────
//! connect to the agent                       all but the filters
//!                                            loads them: the listener is descriptor N
//! ◀─────────────────────────────────── N ─── waits; in create, that is before start
//! pidfd_getfd(N)
//! the container process state, and the listener ───▶ agent
//! ── taken ────────────────────────────────▶ execve
//! ```
//!
//! The agent decides only what the filter leaves to it; what another filter of the process denies stays denied, since
//! the strictest answer of all filters counts (seccomp(2)).

use std::io::{IoSlice, IoSliceMut, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use gabion_baseline::config::Config;
use gabion_descent::{Handover, Plan};
use gabion_seccomp::Verdict;
use gabion_sys::{process, seccomp};
use nix::errno::Errno;
use nix::sys::socket::sockopt::PassCred;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg, sendmsg, setsockopt,
};
use nix::unistd::Pid;
use serde_json::json;

use crate::error::{ContainerError, Result};
use crate::hooks::HookState;

/// What the process does between its filters and execve: libcontainer's wait for `start`, and our own reports. Filters
/// may have an agent asked about these, which has the listener by then.
const NEEDED: [(i64, &str); 11] = [
    (nix::libc::SYS_read, "read"),
    (nix::libc::SYS_close, "close"),
    (nix::libc::SYS_sendmsg, "sendmsg"),
    (nix::libc::SYS_recvfrom, "recvfrom"),
    (nix::libc::SYS_accept4, "accept4"),
    (nix::libc::SYS_brk, "brk"),
    (nix::libc::SYS_mmap, "mmap"),
    (nix::libc::SYS_munmap, "munmap"),
    (nix::libc::SYS_mremap, "mremap"),
    (nix::libc::SYS_getpid, "getpid"),
    (nix::libc::SYS_exit_group, "exit_group"),
];

/// Which of the calls that the process needs after its filters these do not allow.
///
/// # Errors
/// Their names, as one error for all.
pub(crate) fn check(programs: &[gabion_seccomp::Program]) -> Result<()> {
    let missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(number, _)| {
            let verdict = gabion_seccomp::verdict(programs, *number, [0; 6]);
            !verdict.is_some_and(|verdict| verdict.lets_through() || verdict == Verdict::Notify)
        })
        .map(|(_, name)| *name)
        // By this the listener is handed over.
        .chain((!gabion_seccomp::permits(programs, nix::libc::SYS_write, [0; 6])).then_some("write"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(ContainerError::Unsupported {
        pointer: "/linux/seccomp/syscalls".to_owned(),
        text: format!(
            "SCMP_ACT_NOTIFY is used, and {} not allowed: the process waits for start with its filter loaded, so that \
             the agent has the listener by then. Allow {}",
            match missing.as_slice() {
                [one] => format!("{one} is"),
                many => format!("{} are", many.join(", ")),
            },
            if missing.len() == 1 { "it" } else { "them" },
        ),
    })
}

/// An agent that was reached, and waits.
#[derive(Debug)]
pub(crate) struct Agent {
    socket: UnixStream,
    metadata: Option<String>,
    process: UnixStream,
}

/// Reaches the agent of a plan whose filters have a listener, and tells the plan where to hand it over.
///
/// # Errors
/// [`ContainerError::Unsupported`] with `listenerPath` if nobody listens there.
pub(crate) fn connect(config: &Config, plan: &mut Plan) -> Result<Option<Agent>> {
    let has_listener = |filter: &gabion_descent::Filter| filter.flags & seccomp::NEW_LISTENER != 0;
    if !plan.filters.iter().any(has_listener) {
        return Ok(None);
    }
    let profile = config.linux.value().and_then(|linux| linux.seccomp.value());
    let path = profile
        .and_then(|profile| profile.listener_path.value())
        .map_or("", String::as_str);
    let socket = UnixStream::connect(Path::new(path)).map_err(|error| ContainerError::Unsupported {
        pointer: "/linux/seccomp/listenerPath".to_owned(),
        text: format!("failed to connect with seccomp agent: nobody can be reached at {path:?}: {error}. Start the seccomp agent first"),
    })?;
    let (process, inside) =
        UnixStream::pair().map_err(ContainerError::file("cannot make", "a pair of sockets"))?;
    setsockopt(&process, PassCred, &true).map_err(ContainerError::call("setsockopt(SO_PASSCRED)"))?;
    plan.handover = Some(Arc::new(Handover {
        channel: inside.into(),
        before_start: plan.is_first,
    }));
    Ok(Some(Agent {
        socket,
        metadata: profile.and_then(|profile| profile.listener_metadata.value().cloned()),
        process,
    }))
}

impl Agent {
    /// Waits for the process to load its filters, and gives their listener to the agent. `state` tells the container's, from
    /// the process' id.
    ///
    /// False if the process ended before it had a listener: whatever it reports says why.
    ///
    /// # Errors
    /// If the listener cannot be had or the agent does not take it.
    pub(crate) fn hand_over(mut self, state: impl FnOnce(Pid) -> HookState) -> Result<bool> {
        let Some((number, pid)) = self.heard()? else {
            return Ok(false);
        };
        let listener = process::descriptor_of(process::open(pid)?, number)?;
        let state = state(pid);
        let mut message = json!({
            "ociVersion": state.oci_version,
            "fds": ["seccompFd"],
            "pid": pid.as_raw(),
            "state": state,
        });
        if let (Some(metadata), Some(object)) = (self.metadata, message.as_object_mut()) {
            object.insert("metadata".to_owned(), json!(metadata));
        }
        let text = message.to_string();
        let numbers = [listener.as_fd().as_raw_fd()];
        let sent = sendmsg::<()>(
            self.socket.as_raw_fd(),
            &[IoSlice::new(text.as_bytes())],
            &[ControlMessage::ScmRights(&numbers)],
            MsgFlags::MSG_NOSIGNAL,
            None,
        )
        .map_err(std::io::Error::from)
        // The descriptor goes with the first byte; a long text may need more than one call.
        .and_then(|sent| self.socket.write_all(&text.as_bytes()[sent..]));
        sent.map_err(|error| {
            ContainerError::Build(format!("the seccomp agent does not take the listener: {error}"))
        })?;
        // Not closed only: the init process has inherited this connection, and an agent may read up to its end.
        self.socket
            .shutdown(Shutdown::Both)
            .map_err(ContainerError::file(
                "cannot end the connection to",
                "the seccomp agent",
            ))?;
        // What ended meanwhile needs no word.
        match self.process.write_all(b"t") {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(true),
            Err(error) => Err(ContainerError::file("cannot write to", "the process")(error)),
        }
    }

    /// The number of the listener in the process that says it, and the process' id here, from the kernel.
    fn heard(&self) -> Result<Option<(i32, Pid)>> {
        let mut number = [0; 4];
        let mut space = nix::cmsg_space!(UnixCredentials);
        let mut parts = [IoSliceMut::new(&mut number)];
        let message = loop {
            match recvmsg::<()>(
                self.process.as_raw_fd(),
                &mut parts,
                Some(&mut space),
                MsgFlags::empty(),
            ) {
                Err(Errno::EINTR) => {}
                answer => break answer.map_err(ContainerError::call("recvmsg(listener)"))?,
            }
        };
        let sender = message
            .cmsgs()
            .map_err(ContainerError::call("recvmsg(listener)"))?
            .find_map(|one| match one {
                ControlMessageOwned::ScmCredentials(sender) => Some(Pid::from_raw(sender.pid())),
                _ => None,
            });
        let is_whole = message.bytes == size_of::<i32>();
        Ok(sender
            .filter(|_| is_whole)
            .map(|pid| (i32::from_ne_bytes(number), pid)))
    }
}
