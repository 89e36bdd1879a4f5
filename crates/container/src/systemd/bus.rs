//! A connection to systemd, the host's or a user's: the bus, or where there is none the socket that systemd itself
//! listens on.
//!
//! One caller, one talk, then it is closed. What comes over the bus is sorted by whom the bus says it is from: an
//! answer only the one who was called can give, but a signal anyone may send to us.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use gabion_sys::namespace::id_outside;
use nix::sys::socket::{getsockopt, sockopt};

use super::Whose;
use super::message::{self, Call, Kind, Message, PRELUDE, Writer};

/// Where systemd can be talked to. The bus comes first: it is what systemd promises to others, and its own socket is there
/// earlier and later.
fn sockets(whose: Whose) -> Vec<(PathBuf, Far)> {
    if whose == Whose::Host {
        return vec![
            ("/run/dbus/system_bus_socket".into(), Far::Bus),
            ("/run/systemd/private".into(), Far::Systemd),
        ];
    }
    let address = std::env::var("DBUS_SESSION_BUS_ADDRESS").unwrap_or_default();
    let directory = runtime_directory(own_user());
    let mut sockets: Vec<(PathBuf, Far)> = paths(&address).map(|path| (path, Far::Bus)).collect();
    let own = directory.join("bus");
    if sockets.iter().all(|(path, _)| *path != own) {
        sockets.push((own, Far::Bus));
    }
    sockets.push((directory.join("systemd/private"), Far::Systemd));
    sockets
}

/// The sockets of an address, such as `unix:path=/run/user/1000/bus,guid=0;unix:abstract=/tmp/x`, that are files.
fn paths(address: &str) -> impl Iterator<Item = PathBuf> + '_ {
    address.split(';').filter_map(|one| {
        let mut keys = one.strip_prefix("unix:")?.split(',');
        let path = keys.find_map(|key| key.strip_prefix("path="))?;
        // Escaped bytes: none that a session's directory has.
        (path.starts_with('/') && !path.contains('%')).then(|| path.into())
    })
}

/// $XDG_RUNTIME_DIR, or where it is without a login.
fn runtime_directory(user: u32) -> PathBuf {
    std::env::var_os("XDG_RUNTIME_DIR")
        .filter(|directory| !directory.is_empty())
        .map_or_else(|| PathBuf::from(format!("/run/user/{user}")), PathBuf::from)
}

/// Who calls, as the namespace above a user namespace knows them.
fn own_user() -> u32 {
    let own = nix::unistd::geteuid().as_raw();
    let table = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    id_outside(&table, own).unwrap_or(own)
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Far {
    /// The bus, with systemd and everybody else on it.
    Bus,
    /// systemd, which tells everybody everything here, and knows neither names nor rules.
    Systemd,
}

/// How long an answer, or a job, may take.
const PATIENCE: Duration = Duration::from_secs(30);

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// What went wrong in the talk.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BusError {
    /// Nobody listens, or nobody that we can talk to.
    #[error("systemd cannot be reached: {0}")]
    Unreachable(String),
    /// The user is not logged in, as far as systemd knows.
    #[error(
        "the user's own systemd cannot be reached: {why}. Log in as this user (with ssh, or machinectl shell), or let one \
         run without a login: loginctl enable-linger {user}; XDG_RUNTIME_DIR is /run/user/{user} then. Or leave the flag \
         out, and with it limits"
    )]
    NoSession { why: String, user: u32 },
    /// systemd's answer.
    #[error("systemd does not do {call}: {text} ({name})")]
    Refused {
        call: String,
        name: String,
        text: String,
    },
    #[error("systemd has not answered {call} within {} s", PATIENCE.as_secs())]
    Silent { call: String },
    #[error("the connection to systemd broke off: {0}")]
    Broken(String),
    #[error(
        "the job for {unit} ended with {result:?}; `systemctl status {unit}` and `journalctl -u {unit}` say more"
    )]
    Job { unit: String, result: String },
}

impl BusError {
    /// True if there is no such unit.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, BusError::Refused { name, .. } if name == "org.freedesktop.systemd1.NoSuchUnit")
    }

    /// True if there is one of this name already.
    pub(crate) fn is_taken(&self) -> bool {
        matches!(self, BusError::Refused { name, .. } if name == "org.freedesktop.systemd1.UnitExists")
    }
}

type Result<T> = std::result::Result<T, BusError>;

/// A connection on which the jobs of one unit are followed.
#[derive(Debug)]
pub(crate) struct Bus {
    stream: UnixStream,
    serial: u32,
    /// Who systemd is on the bus; `None` where it is at the other end itself.
    systemd: Option<String>,
    unit: String,
    /// Jobs of the unit that have ended: path and result.
    ended: Vec<(String, String)>,
}

impl Bus {
    /// Connects, and asks to be told when jobs of `unit` end.
    pub(crate) fn connect(whose: Whose, unit: &str) -> Result<Self> {
        let mut why = Vec::new();
        for (path, far) in sockets(whose) {
            match UnixStream::connect(&path) {
                Ok(stream) => return Self::begin(stream, far, whose, unit),
                Err(error) => why.push(format!("{path:?}: {error}")),
            }
        }
        let why = why.join("; ");
        Err(match whose {
            Whose::Host => BusError::Unreachable(why),
            Whose::User => BusError::NoSession {
                why,
                user: own_user(),
            },
        })
    }

    fn begin(stream: UnixStream, far: Far, whose: Whose, unit: &str) -> Result<Self> {
        // Process ids are sent; in another namespace they would be somebody else's.
        let peer = getsockopt(&stream, sockopt::PeerCredentials)
            .map_err(|errno| BusError::Unreachable(errno.desc().to_owned()))?;
        if peer.pid() == 0 {
            return Err(BusError::Unreachable(
                "it is in another pid namespace, where this one's process ids mean other processes"
                    .to_owned(),
            ));
        }
        // Whoever a variable may point at: a user asks nobody but the user's own.
        if whose == Whose::User && peer.uid() != nix::unistd::geteuid().as_raw() {
            return Err(BusError::Unreachable(
                "who listens there is another user".to_owned(),
            ));
        }
        let mut bus = Bus {
            stream,
            serial: 0,
            systemd: None,
            unit: unit.to_owned(),
            ended: Vec::new(),
        };
        bus.authenticate(whose)?;
        if far == Far::Bus {
            bus.call_bus("Hello", None)?;
            let rule = format!(
                "type='signal',sender='{SYSTEMD}',interface='{MANAGER}',member='JobRemoved',arg2='{unit}'"
            );
            bus.call_bus("AddMatch", Some(&rule))?;
            let answer = bus.manager("Subscribe", "", Writer::default())?;
            // The bus writes the sender, and lets only the one who was called answer.
            bus.systemd = Some(answer.sender.ok_or_else(malformed)?);
        }
        Ok(bus)
    }

    /// EXTERNAL: the kernel says who we are (D-Bus specification, "Authentication Protocol").
    ///
    /// All of it is said at once, as systemd's own clients do: a first message that comes right behind BEGIN may be read
    /// together with it, and systemd looks for the next one only when more comes.
    fn authenticate(&mut self, whose: Whose) -> Result<()> {
        let own = nix::unistd::geteuid().to_string();
        if whose == Whose::Host {
            let digits: String = own.bytes().map(|byte| format!("{byte:02x}")).collect();
            self.send(format!("\0AUTH EXTERNAL {digits}\r\nBEGIN\r\n").as_bytes())?;
        } else {
            // In a user namespace the own id is another one than out there, so none is claimed.
            self.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        }
        let mut line = self.line()?;
        if line.starts_with(b"DATA") {
            line = self.line()?;
        }
        if line.starts_with(b"OK ") {
            return Ok(());
        }
        Err(BusError::Unreachable(format!(
            "user {own} is not let in: {:?}",
            String::from_utf8_lossy(&line).trim_end()
        )))
    }

    /// A line of the talk before the messages.
    fn line(&mut self) -> Result<Vec<u8>> {
        let deadline = Instant::now() + PATIENCE;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.receive(&mut byte, deadline, "AUTH")?;
            line.extend(byte);
            if line.len() > 256 {
                break;
            }
        }
        Ok(line)
    }

    fn call_bus(&mut self, member: &str, argument: Option<&str>) -> Result<Message> {
        let mut arguments = Writer::default();
        if let Some(argument) = argument {
            arguments.text(argument);
        }
        self.call(Call {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member,
            signature: if argument.is_some() { "s" } else { "" },
            arguments,
        })
    }

    /// Calls a method of systemd's manager.
    pub(crate) fn manager(&mut self, member: &str, signature: &str, arguments: Writer) -> Result<Message> {
        self.call(Call {
            destination: SYSTEMD,
            path: MANAGER_PATH,
            interface: MANAGER,
            member,
            signature,
            arguments,
        })
    }

    /// A property of the manager that is a text.
    pub(crate) fn manager_text(&mut self, property: &str) -> Result<String> {
        self.text(MANAGER_PATH, MANAGER, property)
    }

    /// Calls a method of the manager that makes a job, and waits until that has ended well.
    pub(crate) fn job(&mut self, member: &str, signature: &str, arguments: Writer) -> Result<()> {
        let answer = self.manager(member, signature, arguments)?;
        let words = answer.words().map_err(|_| malformed())?;
        let job = words.into_iter().next().ok_or_else(malformed)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some((_, result)) = self.ended.iter().find(|(path, _)| *path == job) {
                return match result.as_str() {
                    "done" => Ok(()),
                    other => Err(BusError::Job {
                        unit: self.unit.clone(),
                        result: other.to_owned(),
                    }),
                };
            }
            let message = self.next(deadline, &format!("{member}({})", self.unit))?;
            self.keep(&message);
        }
    }

    /// A property of a unit that is a text.
    pub(crate) fn text(&mut self, path: &str, interface: &str, property: &str) -> Result<String> {
        let mut arguments = Writer::default();
        arguments.text(interface);
        arguments.text(property);
        let answer = self.call(Call {
            destination: SYSTEMD,
            path,
            interface: "org.freedesktop.DBus.Properties",
            member: "Get",
            signature: "ss",
            arguments,
        })?;
        let words = answer.words().map_err(|_| malformed())?;
        words.into_iter().next().ok_or_else(malformed)
    }

    fn call(&mut self, call: Call<'_>) -> Result<Message> {
        self.serial += 1;
        let serial = self.serial;
        let name = format!("{}({})", call.member, self.unit);
        self.send(&call.bytes(serial))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = self.next(deadline, &name)?;
            if message.reply_to != Some(serial) {
                self.keep(&message);
                continue;
            }
            return match message.kind {
                Kind::Return => Ok(message),
                Kind::Error => Err(BusError::Refused {
                    call: name,
                    text: message.words().map(|words| words.join(" ")).unwrap_or_default(),
                    name: message.error.unwrap_or_default(),
                }),
                Kind::Signal | Kind::Other => continue,
            };
        }
    }

    /// Remembers the end of a job of our unit; everything else is none of our business.
    fn keep(&mut self, message: &Message) {
        if message.kind != Kind::Signal || message.member.as_deref() != Some("JobRemoved") {
            return;
        }
        if self.systemd.is_some() && message.sender != self.systemd {
            return;
        }
        let words = message.words().unwrap_or_default();
        if let [_, job, unit, result] = &words[..]
            && *unit == self.unit
        {
            self.ended.push((job.clone(), result.clone()));
        }
    }

    fn next(&mut self, deadline: Instant, call: &str) -> Result<Message> {
        let mut bytes = vec![0; PRELUDE];
        self.receive(&mut bytes, deadline, call)?;
        let prelude = bytes.first_chunk().ok_or_else(malformed)?;
        let length = message::whole_length(prelude).map_err(|_| malformed())?;
        bytes.resize(length, 0);
        self.receive(&mut bytes[PRELUDE..], deadline, call)?;
        Message::read(&bytes).map_err(|_| malformed())
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream
            .set_write_timeout(Some(PATIENCE))
            .and_then(|()| self.stream.write_all(bytes))
            .map_err(|error| BusError::Broken(error.to_string()))
    }

    fn receive(&mut self, mut bytes: &mut [u8], deadline: Instant, call: &str) -> Result<()> {
        while !bytes.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(BusError::Silent {
                    call: call.to_owned(),
                });
            }
            let read = self
                .stream
                .set_read_timeout(Some(left))
                .and_then(|()| self.stream.read(bytes));
            match read {
                Ok(0) => return Err(BusError::Broken(format!("closed during {call}"))),
                Ok(count) => bytes = &mut bytes[count..],
                Err(error) => match error.kind() {
                    std::io::ErrorKind::Interrupted
                    | std::io::ErrorKind::WouldBlock
                    | std::io::ErrorKind::TimedOut => {}
                    _ => return Err(BusError::Broken(error.to_string())),
                },
            }
        }
        Ok(())
    }
}

fn malformed() -> BusError {
    BusError::Broken("what was received is no message that was expected".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::{answer, job_removed, refusal};
    use super::*;

    const SYSTEMDS: &str = ":1.1";

    /// The other end: lets us in, and then says one thing for each message that comes.
    fn far_end(stream: UnixStream, says: Vec<Vec<Vec<u8>>>) -> std::thread::JoinHandle<usize> {
        std::thread::spawn(move || {
            let mut stream = stream;
            let mut heard = 0;
            let line = |stream: &mut UnixStream| {
                let mut line = Vec::new();
                while !line.ends_with(b"\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    line.extend(byte);
                }
                line
            };
            // Nothing of it waits for an answer.
            assert!(line(&mut stream).starts_with(b"\0AUTH EXTERNAL "));
            assert_eq!(line(&mut stream), b"BEGIN\r\n");
            stream.write_all(b"OK 0123\r\n").unwrap();
            for messages in says {
                let mut bytes = vec![0; PRELUDE];
                if stream.read_exact(&mut bytes).is_err() {
                    return heard;
                }
                heard += 1;
                let length = message::whole_length(bytes.first_chunk().unwrap()).unwrap();
                bytes.resize(length, 0);
                stream.read_exact(&mut bytes[PRELUDE..]).unwrap();
                messages
                    .iter()
                    .for_each(|message| stream.write_all(message).unwrap());
            }
            heard
        })
    }

    fn talk<T>(far: Far, says: Vec<Vec<Vec<u8>>>, talk: impl FnOnce(&mut Bus) -> Result<T>) -> Result<T> {
        let (near, other) = UnixStream::pair().unwrap();
        let other = far_end(other, says);
        let result = Bus::begin(near, far, Whose::Host, "a.scope").and_then(|mut bus| talk(&mut bus));
        other.join().unwrap();
        result
    }

    fn on_a_bus(then: Vec<Vec<Vec<u8>>>) -> Vec<Vec<Vec<u8>>> {
        let mut says = vec![
            vec![answer("org.freedesktop.DBus", 1, ":1.9")],
            vec![answer("org.freedesktop.DBus", 2, "")],
            vec![answer(SYSTEMDS, 3, "")],
        ];
        says.extend(then);
        says
    }

    fn start(bus: &mut Bus) -> Result<()> {
        bus.job("StartTransientUnit", "", Writer::default())
    }

    #[test]
    fn a_job_has_ended_when_systemd_says_so_whenever_that_is() {
        let done = || job_removed(SYSTEMDS, "/job/1", "a.scope", "done");
        let started = || answer(SYSTEMDS, 4, "/job/1");
        for says in [vec![started(), done()], vec![done(), started()]] {
            talk(Far::Bus, on_a_bus(vec![says]), start).unwrap();
        }
        // Without a bus nobody writes senders.
        talk(Far::Systemd, vec![vec![answer("", 1, "/job/1"), done()]], start).unwrap();
        let error = talk(
            Far::Bus,
            on_a_bus(vec![vec![
                started(),
                job_removed(SYSTEMDS, "/job/1", "a.scope", "failed"),
            ]]),
            start,
        );
        assert!(matches!(error, Err(BusError::Job { result, .. }) if result == "failed"));
    }

    #[test]
    fn what_others_say_of_a_job_does_not_count() {
        let says = vec![
            job_removed(":1.66", "/job/1", "a.scope", "failed"),
            job_removed(SYSTEMDS, "/job/2", "a.scope", "failed"),
            job_removed(SYSTEMDS, "/job/1", "b.scope", "failed"),
            answer(SYSTEMDS, 4, "/job/1"),
            job_removed(SYSTEMDS, "/job/1", "a.scope", "done"),
        ];
        talk(Far::Bus, on_a_bus(vec![says]), start).unwrap();
    }

    #[test]
    fn an_answer_that_is_an_error_has_its_name_and_its_words() {
        let no = refusal(
            4,
            "org.freedesktop.systemd1.UnitExists",
            "Unit a.scope was already loaded",
        );
        let error = talk(Far::Bus, on_a_bus(vec![vec![no]]), start).unwrap_err();
        assert!(error.is_taken() && !error.is_missing());
        assert_eq!(
            error.to_string(),
            "systemd does not do StartTransientUnit(a.scope): Unit a.scope was already loaded \
             (org.freedesktop.systemd1.UnitExists)"
        );
    }

    #[test]
    fn an_end_that_closes_or_says_nonsense_is_an_error() {
        let error = talk(Far::Bus, on_a_bus(Vec::new()), start).unwrap_err();
        assert!(matches!(error, BusError::Broken(_)), "{error}");
        let error = talk(Far::Bus, on_a_bus(vec![vec![vec![0xff; 64]]]), start).unwrap_err();
        assert!(error.to_string().contains("no message"), "{error}");
    }
}
