//! The shim's command line, as containerd writes it: Go's flags, one dash, then an action.

use std::ffi::OsString;
use std::path::PathBuf;

/// What the shim is asked to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// `start`: make a server, print its address.
    Start,
    /// `delete`: a server is gone; clean up what it left of one container.
    Delete,
    /// `-info`: describe the runtime, as protobuf on standard output.
    Info,
    /// `-v`: version.
    Version,
    /// `-h`: help.
    Help,
}

/// The flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) action: Action,
    /// containerd's namespace, such as `default`, `moby`, `k8s.io`.
    pub(crate) namespace: String,
    /// The container's id, or the pod's for a server.
    pub(crate) id: String,
    /// containerd's gRPC socket.
    pub(crate) address: String,
    /// The bundle, for `delete`; else it is the working directory.
    pub(crate) bundle: Option<PathBuf>,
    pub(crate) debug: bool,
}

/// Reads the command line, without the program's name.
///
/// # Errors
/// A sentence for whoever wrote it.
pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> Result<Arguments, String> {
    let mut action = None;
    let mut arguments = Arguments {
        action: Action::Help,
        namespace: String::new(),
        id: String::new(),
        address: String::new(),
        bundle: None,
        debug: false,
    };
    let mut words = words.map(|word| {
        word.into_string()
            .map_err(|word| format!("{word:?} is not UTF-8"))
    });
    while let Some(word) = words.next().transpose()? {
        let Some(flag) = word.strip_prefix("--").or(word.strip_prefix('-')) else {
            action = match word.as_str() {
                "start" => Some(Action::Start),
                "delete" => Some(Action::Delete),
                other => {
                    return Err(format!(
                        "there is no action {other:?}; there are start and delete"
                    ));
                }
            };
            continue;
        };
        let (name, given) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        let on = given.as_deref() != Some("false");
        match name {
            "debug" => arguments.debug = on,
            "info" if on => action = Some(Action::Info),
            "v" | "version" if on => action = Some(Action::Version),
            "h" | "help" if on => action = Some(Action::Help),
            "info" | "v" | "version" | "h" | "help" => {}
            "namespace" | "id" | "address" | "bundle" | "publish-binary" | "socket" => {
                let value = match given {
                    Some(value) => value,
                    None => words
                        .next()
                        .transpose()?
                        .ok_or_else(|| format!("-{name} needs a value"))?,
                };
                match name {
                    "namespace" => arguments.namespace = value,
                    "id" => arguments.id = value,
                    "address" => arguments.address = value,
                    "bundle" => arguments.bundle = Some(PathBuf::from(value)),
                    // Events go to containerd's ttrpc socket, never through its program; and the server's
                    // socket is made here.
                    _ => {}
                }
            }
            other => return Err(format!("there is no flag -{other}")),
        }
    }
    arguments.action = action.ok_or("there is no action; there are start and delete")?;
    match arguments.action {
        Action::Start | Action::Delete => {
            for (name, value) in [("namespace", &arguments.namespace), ("id", &arguments.id)] {
                if value.is_empty() {
                    return Err(format!(
                        "-{name} is missing; containerd calls this program, a person has no need to"
                    ));
                }
                // Both become names of files.
                if value.contains('/') || value == "." || value == ".." {
                    return Err(format!("-{name} {value:?} cannot be the name of a file"));
                }
            }
        }
        Action::Info | Action::Version | Action::Help => {}
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Arguments, String> {
        parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn containerds_calls_are_understood() {
        let start = "-namespace k8s.io -address /run/containerd/containerd.sock -publish-binary /usr/bin/containerd \
                     -id web-1 start";
        let start = parsed(start).unwrap();
        assert_eq!(start.action, Action::Start);
        assert_eq!((start.namespace.as_str(), start.id.as_str()), ("k8s.io", "web-1"));
        assert_eq!(start.address, "/run/containerd/containerd.sock");
        let delete = parsed("--namespace=moby -id=c1 -bundle /b -debug delete").unwrap();
        assert_eq!(delete.action, Action::Delete);
        assert_eq!(delete.bundle, Some(PathBuf::from("/b")));
        assert!(delete.debug);
        assert_eq!(parsed("-info").unwrap().action, Action::Info);
        assert_eq!(parsed("-v").unwrap().action, Action::Version);
    }

    #[test]
    fn what_is_missing_or_unknown_is_said() {
        for (line, error) in [
            (
                "start",
                "-namespace is missing; containerd calls this program, a person has no need to",
            ),
            ("-namespace", "-namespace needs a value"),
            (
                "-namespace a -id b",
                "there is no action; there are start and delete",
            ),
            ("-bogus", "there is no flag -bogus"),
            ("stop", "there is no action \"stop\"; there are start and delete"),
            (
                "-namespace ../x -id c start",
                "-namespace \"../x\" cannot be the name of a file",
            ),
            (
                "-namespace x -id .. start",
                "-id \"..\" cannot be the name of a file",
            ),
        ] {
            assert_eq!(parsed(line).unwrap_err(), error, "{line}");
        }
    }
}
