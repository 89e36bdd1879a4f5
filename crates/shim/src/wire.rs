//! ttrpc on a socket that does not block: frames in, frames out.
//!
//! A frame is ten bytes (length, stream, kind, flags) and a message of protobuf. The messages are the ttrpc
//! crate's; its server is not used, since it has a thread for each call that waits
//! (docs/decisions, "The shim is one thread").

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use containerd_shim_protos::protobuf::{EnumOrUnknown, Message, MessageField};
use containerd_shim_protos::ttrpc::proto;
pub(crate) use containerd_shim_protos::ttrpc::proto::Code;

/// Why a call failed, in the terms of gRPC.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl Fault {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Fault {
            code,
            message: message.into(),
        }
    }

    /// What the runtime or the kernel said.
    pub(crate) fn unknown(message: impl Into<String>) -> Self {
        Fault::new(Code::UNKNOWN, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Fault::new(Code::NOT_FOUND, message)
    }

    pub(crate) fn precondition(message: impl Into<String>) -> Self {
        Fault::new(Code::FAILED_PRECONDITION, message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Fault::new(Code::INVALID_ARGUMENT, message)
    }

    /// The kernel's answer to something of ours.
    pub(crate) fn system(what: &str, error: impl std::fmt::Display) -> Self {
        Fault::unknown(format!("{what}: {error}"))
    }
}

/// What a call comes to: the encoded answer, or why there is none.
pub(crate) type Answer = Result<Vec<u8>, Fault>;

/// Encodes an answer.
pub(crate) fn encode(message: &impl Message) -> Answer {
    message
        .write_to_bytes()
        .map_err(|error| Fault::new(Code::INTERNAL, format!("the answer cannot be encoded: {error}")))
}

/// One frame that arrived.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) stream: u32,
    pub(crate) kind: u8,
    pub(crate) body: Vec<u8>,
}

/// A call as the frame of a request carries it.
pub(crate) fn request(stream: u32, service: &str, method: &str, payload: Vec<u8>) -> Vec<u8> {
    let mut request = proto::Request::new();
    request.service = service.to_owned();
    request.method = method.to_owned();
    request.payload = payload;
    frame(stream, proto::MESSAGE_TYPE_REQUEST, &request)
}

/// An answer as the frame of a response carries it.
pub(crate) fn response(stream: u32, answer: Answer) -> Vec<u8> {
    let mut response = proto::Response::new();
    let mut status = proto::Status::new();
    match answer {
        Ok(payload) => {
            status.code = EnumOrUnknown::new(Code::OK);
            response.payload = payload;
        }
        Err(fault) => {
            status.code = EnumOrUnknown::new(fault.code);
            status.message = fault.message;
        }
    }
    response.status = MessageField::some(status);
    frame(stream, proto::MESSAGE_TYPE_RESPONSE, &response)
}

fn frame(stream: u32, kind: u8, message: &impl Message) -> Vec<u8> {
    // Encoding these into memory fails only if there is more than a message may have.
    let body = message.write_to_bytes().unwrap_or_default();
    let mut bytes = Vec::with_capacity(proto::MESSAGE_HEADER_LENGTH + body.len());
    bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(&[kind, 0]);
    bytes.extend_from_slice(&body);
    bytes
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: UnixStream,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
}

impl Connection {
    /// Takes over a connected socket.
    pub(crate) fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Connection {
            socket,
            incoming: Vec::new(),
            outgoing: Vec::new(),
        })
    }

    /// Reads what is there: complete frames, and whether the other side has hung up.
    pub(crate) fn read(&mut self) -> io::Result<(Vec<Frame>, bool)> {
        let mut buffer = [0; 4096];
        let ended = loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => break true,
                Ok(count) => self.incoming.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        };
        let mut frames = Vec::new();
        let mut rest = self.incoming.as_slice();
        while let Some((header, after)) = rest.split_at_checked(proto::MESSAGE_HEADER_LENGTH) {
            let header = proto::MessageHeader::from(header);
            let length = header.length as usize;
            if length > proto::MESSAGE_LENGTH_MAX {
                return Err(io::Error::other(format!(
                    "a message of {length} bytes; at most {} are read",
                    proto::MESSAGE_LENGTH_MAX
                )));
            }
            let Some((body, after)) = after.split_at_checked(length) else {
                break;
            };
            frames.push(Frame {
                stream: header.stream_id,
                kind: header.type_,
                body: body.to_vec(),
            });
            rest = after;
        }
        let taken = self.incoming.len() - rest.len();
        self.incoming.drain(..taken);
        if self.incoming.is_empty() {
            self.incoming = Vec::new();
        }
        Ok((frames, ended))
    }

    /// Sends a frame as far as it goes; true if the rest waits for [`Connection::flush`].
    pub(crate) fn send(&mut self, frame: &[u8]) -> io::Result<bool> {
        self.outgoing.extend_from_slice(frame);
        self.flush()
    }

    /// Sends what waits; true if something still does.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        while !self.outgoing.is_empty() {
            match self.socket.write(&self.outgoing) {
                Ok(count) => drop(self.outgoing.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.outgoing = Vec::new();
        Ok(false)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Connection, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Connection::new(ours).unwrap(), theirs)
    }

    #[test]
    fn a_frame_in_pieces_is_one_frame() {
        let (mut connection, mut other) = pair();
        let bytes = request(7, "s", "m", b"payload".to_vec());
        let (first, second) = bytes.split_at(9);
        other.write_all(first).unwrap();
        assert!(connection.read().unwrap().0.is_empty());
        other.write_all(second).unwrap();
        other.write_all(&bytes).unwrap();
        let (frames, ended) = connection.read().unwrap();
        assert_eq!((frames.len(), ended), (2, false));
        let request = proto::Request::parse_from_bytes(&frames[1].body).unwrap();
        assert_eq!((frames[0].stream, request.method.as_str()), (7, "m"));
        assert_eq!(request.payload, b"payload");
        drop(other);
        assert!(connection.read().unwrap().1);
    }

    #[test]
    fn a_message_that_is_too_long_ends_the_connection() {
        let (mut connection, mut other) = pair();
        other.write_all(&[0xff, 0, 0, 0, 0, 0, 0, 1, 1, 0]).unwrap();
        let error = connection.read().unwrap_err().to_string();
        assert_eq!(error, "a message of 4278190080 bytes; at most 4194304 are read");
    }

    #[test]
    fn what_does_not_fit_is_sent_later() {
        let (mut connection, mut other) = pair();
        let big = response(1, Ok(vec![7; 1 << 20]));
        assert!(connection.send(&big).unwrap());
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            other.read_to_end(&mut all).unwrap();
            all
        });
        while connection.flush().unwrap() {
            std::thread::yield_now();
        }
        drop(connection);
        assert!(reader.join().unwrap() == big);
    }

    #[test]
    fn a_fault_carries_its_code_and_words() {
        let bytes = response(3, Err(Fault::not_found("no process \"e1\"")));
        let response = proto::Response::parse_from_bytes(&bytes[proto::MESSAGE_HEADER_LENGTH..]).unwrap();
        assert_eq!(response.status.code.value(), Code::NOT_FOUND as i32);
        assert_eq!(response.status.message, "no process \"e1\"");
    }
}
