//! Why libcontainer failed.
//!
//! libcontainer returns errors whose text has lost what caused them on the way ("failed to prepare rootfs"), but
//! logs an error where it happens, with what it was doing and with errno. Its events of level error are collected
//! while it builds, in the builder and in every process it makes, and sent to `create`: the first one is the
//! deepest, and the one that says what to change.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::errno::Errno;
use tracing::dispatcher::{self, Dispatch};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{Interest, NoSubscriber};
use tracing::{Event, Level, Metadata, Subscriber};

/// The first byte of a cause's line on the channel to `create`.
pub(crate) const MARK: char = 'D';

/// How many are sent, and how long each may be in bytes: together they must fit the pipe, which nobody reads yet.
const MOST: usize = 4;
const LONGEST: usize = 1000;

/// Runs `work`, sending what libcontainer logs as errors to the channel, a line each. What the caller's own log
/// wants to have of it still goes there.
pub(crate) fn collect<T>(channel: OwnedFd, work: impl FnOnce() -> T) -> T {
    let log = dispatcher::get_default(Clone::clone);
    let causes = Causes {
        channel,
        log,
        sent: AtomicUsize::new(0),
    };
    dispatcher::with_default(&Dispatch::new(causes), work)
}

/// The deepest cause among the lines that arrived.
pub(crate) fn told(report: &str) -> Option<String> {
    let mut causes = report.lines().filter_map(|line| line.strip_prefix(MARK));
    let cause = causes.next()?;
    if let Some(text) = cgroup_error(cause) {
        return Some(text);
    }
    let mut text = mount_error(cause).unwrap_or_else(|| in_words(cause));
    // The errno is often in the notation of a later one only.
    if errno(cause).is_none()
        && let Some(errno) = causes.find_map(errno)
    {
        text.push_str(": ");
        text.push_str(errno.desc());
    }
    Some(text)
}

/// An errno in Rust's notation at the end, in words.
fn in_words(cause: &str) -> String {
    let known = cause
        .strip_suffix(')')
        .and_then(|text| text.rsplit_once(", err Nix("));
    match known.and_then(|(text, name)| Some((text, errno(name)?))) {
        Some((text, errno)) => format!("{text}: {}", errno.desc()),
        None => cause.to_owned(),
    }
}

/// The first word that is the name of an errno.
fn errno(cause: &str) -> Option<Errno> {
    cause
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| word.starts_with('E') && word.len() > 2)
        .find_map(|word| {
            (1..=133)
                .map(Errno::from_raw)
                .find(|errno| format!("{errno:?}") == word)
        })
}

/// An error about a mount shows the whole entry in Rust's notation; its destination is enough to find it.
fn mount_error(cause: &str) -> Option<String> {
    let (_, entry) = cause.split_once(" Mount { destination: ")?;
    let destination = entry.split_once(", typ: ")?.0;
    let (_, reason) = entry.rsplit_once(" }: ")?;
    Some(match reason {
        // libcontainer's word for any failed call.
        "syscall" => format!("cannot mount {destination}"),
        reason => format!("cannot mount {destination}: {reason}"),
    })
}

/// An error about a cgroup's file nests several of Rust's notations; the file and the errno are enough.
fn cgroup_error(cause: &str) -> Option<String> {
    let (_, error) = cause.split_once("failed to apply cgroup")?;
    let code = error.split_once("code: ")?.1.split_once(',')?.0;
    let path = error.split_once("path: \"")?.1.split_once('"')?.0;
    let errno = Errno::from_raw(code.parse().ok()?);
    let hint = match errno {
        Errno::ENOENT => ": this host has no such limit, or does not hand its controller down to the cgroup",
        _ => "",
    };
    Some(format!(
        "linux.resources: {path:?} cannot be written: {}{hint}",
        errno.desc()
    ))
}

struct Causes {
    channel: OwnedFd,
    /// What was set up before: the log.
    log: Dispatch,
    sent: AtomicUsize,
}

fn is_cause(metadata: &Metadata<'_>) -> bool {
    *metadata.level() == Level::ERROR
        && ["libcontainer", "libcgroups"]
            .iter()
            .any(|name| metadata.target().starts_with(name))
}

impl Causes {
    /// A lost line costs a better error, no more.
    fn send(&self, event: &Event<'_>) {
        if self.sent.fetch_add(1, Ordering::Relaxed) >= MOST {
            return;
        }
        let mut text = Text::default();
        event.record(&mut text);
        let mut line = format!("{MARK}{}{}", text.message, text.fields).replace('\n', " ");
        let mut end = line.len().min(LONGEST);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        line.truncate(end);
        line.push('\n');
        // A count of bytes, or an errno that nobody is left to be told.
        nix::unistd::write(&self.channel, line.as_bytes()).unwrap_or_default();
    }
}

impl Subscriber for Causes {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_cause(metadata) || self.log.enabled(metadata)
    }

    fn event(&self, event: &Event<'_>) {
        if is_cause(event.metadata()) {
            self.send(event);
        }
        if self.log.enabled(event.metadata()) {
            self.log.event(event);
        }
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if is_cause(metadata) {
            return Interest::always();
        }
        self.log.register_callsite(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        // Without a log nothing but errors is ever formatted.
        self.log.is::<NoSubscriber>().then_some(LevelFilter::ERROR)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.log.new_span(span)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.log.record(span, values);
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.log.record_follows_from(span, follows);
    }

    fn enter(&self, span: &Id) {
        self.log.enter(span);
    }

    fn exit(&self, span: &Id) {
        self.log.exit(span);
    }

    fn clone_span(&self, span: &Id) -> Id {
        self.log.clone_span(span)
    }

    fn try_close(&self, span: Id) -> bool {
        self.log.try_close(span)
    }
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message.push_str(&format!("{value:?}")),
            name => self.fields.push_str(&format!(", {name} {value:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn sent(work: impl FnOnce()) -> String {
        let (read_end, write_end) = nix::unistd::pipe().unwrap();
        collect(write_end, work);
        let mut text = String::new();
        std::fs::File::from(read_end).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn the_first_error_of_the_engine_comes_first_and_no_chatter() {
        let text = sent(|| {
            tracing::debug!(target: "libcontainer::x", "chatter");
            tracing::error!(target: "gabion_container", "ours is returned");
            tracing::error!(target: "libcontainer::rootfs", path = "/mnt", "cannot\nmount");
            tracing::error!(target: "libcgroups", "later");
        });
        assert_eq!(text, "Dcannot mount, path \"/mnt\"\nDlater\n");
        assert_eq!(told(&text), Some("cannot mount, path \"/mnt\"".to_owned()));
    }

    #[test]
    fn a_mount_is_named_by_its_destination() {
        let line = "Dfailed to mount Mount { destination: \"/a, b\", typ: Some(\"tmpfs\"), source: Some(\"x\"), options: \
                    Some([\"o\"]), uid_mappings: None, gid_mappings: None }: EINVAL: Invalid argument\n";
        assert_eq!(
            told(line),
            Some("cannot mount \"/a, b\": EINVAL: Invalid argument".to_owned())
        );
        assert_eq!(told("Eno cause\nI5\n"), None);
    }

    #[test]
    fn an_errno_that_only_a_later_line_has_is_said() {
        let lines = "Dcannot mount /x: syscall\nDfailed to prepare rootfs, err Mount(Syscall(Nix(ENODEV)))\n";
        assert_eq!(
            told(lines),
            Some("cannot mount /x: syscall: No such device".to_owned())
        );
        let notation = "Dfailed to bind, path \"/x\", err Nix(EACCES)\n";
        assert_eq!(
            told(notation),
            Some("failed to bind, path \"/x\": Permission denied".to_owned())
        );
        let first = "Dcannot mount /x: EINVAL: Invalid argument\nDfailed, err ENODEV\n";
        assert_eq!(
            told(first),
            Some("cannot mount /x: EINVAL: Invalid argument".to_owned())
        );
    }

    #[test]
    fn a_limit_that_cannot_be_set_is_told_by_its_file() {
        let line = "Dfailed to apply cgroup, pid Pid(7), err V2(MemoryController(WrappedIo(Open { err: Os { code: 2, kind: \
                    NotFound, message: \"No such file or directory\" }, path: \"/sys/fs/cgroup/web/memory.max\" }))), init \
                    true\n";
        assert_eq!(
            told(line),
            Some(
                "linux.resources: \"/sys/fs/cgroup/web/memory.max\" cannot be written: No such file or directory: this host \
                 has no such limit, or does not hand its controller down to the cgroup"
                    .to_owned()
            )
        );
    }

    #[test]
    fn many_or_long_errors_do_not_fill_the_pipe() {
        let long = "é".repeat(5000);
        let text = sent(|| {
            for _ in 0..100 {
                tracing::error!(target: "libcontainer", "{long}");
            }
        });
        assert_eq!(text.lines().count(), MOST);
        assert!(text.lines().all(|line| line.len() <= LONGEST));
    }
}
