//! Events for containerd: kept until it has them, also while it is not there.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::SystemTime;

use containerd_shim_protos::api;
use containerd_shim_protos::protobuf::well_known_types::{any::Any, timestamp::Timestamp};
use containerd_shim_protos::protobuf::{Message, MessageField};

use crate::wire::{self, Connection};

const SERVICE: &str = "containerd.services.events.ttrpc.v1.Events";

/// Events that wait at most, in a shim that containerd has left alone; the oldest go first.
const WAITING: usize = 4096;

/// The way to containerd's events.
#[derive(Debug)]
pub(crate) struct Publisher {
    address: Option<PathBuf>,
    namespace: String,
    connection: Option<Connection>,
    stream: u32,
    /// In order; with the stream on which one was sent.
    waiting: VecDeque<(Option<u32>, Vec<u8>)>,
}

impl Publisher {
    /// A publisher to containerd's ttrpc socket, of which it tells in TTRPC_ADDRESS.
    pub(crate) fn new(namespace: &str) -> Self {
        let address = std::env::var("TTRPC_ADDRESS")
            .ok()
            .filter(|address| !address.is_empty());
        Publisher {
            address: address.map(|address| PathBuf::from(address.trim_start_matches("unix://"))),
            namespace: namespace.to_owned(),
            connection: None,
            stream: 1,
            waiting: VecDeque::new(),
        }
    }

    /// Queues an event.
    pub(crate) fn queue<M: Message>(&mut self, topic: &str, kind: &str, event: &M) {
        if self.address.is_none() {
            return;
        }
        let Ok(value) = event.write_to_bytes() else {
            return;
        };
        let mut envelope = containerd_shim_protos::shim::event::Envelope::new();
        envelope.timestamp = MessageField::some(timestamp(SystemTime::now()));
        envelope.namespace = self.namespace.clone();
        envelope.topic = topic.to_owned();
        envelope.event = MessageField::some(Any {
            type_url: format!("containerd.events.{kind}"),
            value,
            ..Any::default()
        });
        let mut request = api::ForwardRequest::new();
        request.envelope = MessageField::some(envelope);
        let Ok(bytes) = request.write_to_bytes() else {
            return;
        };
        if self.waiting.len() >= WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back((None, bytes));
    }

    /// True if containerd has everything.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The connection's descriptor, if there is one.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.connection.as_ref().map(AsFd::as_fd)
    }

    /// Connects, if there is something to send and no connection; true if that made a new one.
    pub(crate) fn connect(&mut self) -> bool {
        let Some(address) = &self.address else {
            return false;
        };
        if self.connection.is_some() || self.waiting.is_empty() {
            return false;
        }
        self.connection = UnixStream::connect(address).and_then(Connection::new).ok();
        self.connection.is_some()
    }

    /// Sends the next one, unless one is on its way: containerd handles calls at the same time, and what was sent together
    /// may be told in another order. `Err` if the connection is lost, `Ok(true)` if it has to become writable first.
    pub(crate) fn send(&mut self) -> std::io::Result<bool> {
        let Some(connection) = &mut self.connection else {
            return Ok(false);
        };
        if let Some((sent, bytes)) = self.waiting.front_mut()
            && sent.is_none()
        {
            // A client's streams have odd numbers.
            let stream = self.stream;
            self.stream = self.stream.wrapping_add(2);
            *sent = Some(stream);
            return connection.send(&wire::request(stream, SERVICE, "Forward", bytes.clone()));
        }
        connection.flush()
    }

    /// Takes containerd's answers; `Err` if the connection is lost.
    pub(crate) fn receive(&mut self) -> std::io::Result<()> {
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        let (frames, ended) = connection.read()?;
        for frame in frames {
            // Whatever the answer says, containerd has seen the event.
            self.waiting.retain(|(sent, _)| *sent != Some(frame.stream));
        }
        match ended {
            true => Err(std::io::ErrorKind::ConnectionReset.into()),
            false => Ok(()),
        }
    }

    /// Forgets a lost connection: everything without an answer is sent again.
    pub(crate) fn lost(&mut self) {
        self.connection = None;
        for (sent, _) in &mut self.waiting {
            *sent = None;
        }
    }
}

/// A time as protobuf has it.
pub(crate) fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: since.as_secs() as i64,
        nanos: since.subsec_nanos() as i32,
        ..Timestamp::default()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use containerd_shim_protos::events::task::TaskOOM;

    use super::*;

    fn oom(id: &str) -> TaskOOM {
        let mut event = TaskOOM::new();
        event.container_id = id.to_owned();
        event
    }

    fn requests(connection: &mut Connection) -> Vec<(u32, String)> {
        let (frames, _) = connection.read().unwrap();
        frames
            .iter()
            .map(|frame| {
                let request =
                    containerd_shim_protos::ttrpc::proto::Request::parse_from_bytes(&frame.body).unwrap();
                let forward = api::ForwardRequest::parse_from_bytes(&request.payload).unwrap();
                let event = TaskOOM::parse_from_bytes(&forward.envelope.event.value).unwrap();
                (frame.stream, event.container_id)
            })
            .collect()
    }

    #[test]
    fn an_event_is_kept_until_containerd_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let address = directory.path().join("socket");
        let mut publisher = Publisher {
            address: Some(address.clone()),
            ..Publisher::new("n")
        };
        publisher.queue("/tasks/oom", "TaskOOM", &oom("c1"));
        publisher.queue("/tasks/oom", "TaskOOM", &oom("c2"));
        assert!(!publisher.connect());
        let listener = UnixListener::bind(&address).unwrap();
        assert!(publisher.connect());
        assert!(!publisher.send().unwrap());
        let mut server = Connection::new(listener.accept().unwrap().0).unwrap();
        assert_eq!(requests(&mut server), [(1, "c1".to_owned())]);
        // The second waits until containerd has told of the first.
        assert!(!publisher.send().unwrap());
        assert_eq!(requests(&mut server), []);
        server.send(&wire::response(1, Ok(Vec::new()))).unwrap();
        publisher.receive().unwrap();
        assert!(!publisher.send().unwrap());
        assert_eq!(requests(&mut server), [(3, "c2".to_owned())]);
        assert!(!publisher.is_idle());
        // containerd goes away without having answered for the second.
        drop(server);
        publisher.receive().unwrap_err();
        publisher.lost();
        assert!(publisher.connect());
        publisher.send().unwrap();
        let mut server = Connection::new(listener.accept().unwrap().0).unwrap();
        assert_eq!(requests(&mut server), [(5, "c2".to_owned())]);
        server.send(&wire::response(5, Ok(Vec::new()))).unwrap();
        publisher.receive().unwrap();
        assert!(publisher.is_idle());
    }
}
