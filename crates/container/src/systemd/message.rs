//! Messages of D-Bus (D-Bus specification, "Message Protocol"), as far as a talk with systemd takes them.
//!
//! Numbers are in the byte order of little-endian machines, which all are that gabion is built for. What is read comes
//! from another process, so nothing in it is believed: every length is held against what is there.

/// What a property of a unit is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// `s`
    Text(String),
    /// `b`
    Flag(bool),
    /// `t`
    Number(u64),
    /// `i`
    Signed(i32),
    /// `au`
    Numbers(Vec<u32>),
    /// `ay`
    Bytes(Vec<u8>),
}

impl Value {
    fn signature(&self) -> &'static str {
        match self {
            Value::Text(_) => "s",
            Value::Flag(_) => "b",
            Value::Number(_) => "t",
            Value::Signed(_) => "i",
            Value::Numbers(_) => "au",
            Value::Bytes(_) => "ay",
        }
    }
}

/// A property of a unit.
pub(crate) type Property = (&'static str, Value);

/// Builds the arguments of a call, or the header before them.
#[derive(Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn number(&mut self, number: u32) {
        self.align(4);
        self.0.extend(number.to_le_bytes());
    }

    pub(crate) fn flag(&mut self, flag: bool) {
        self.number(u32::from(flag));
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.number(length(text.len()));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, text: &str) {
        // Signatures of this file: a few letters.
        self.0.push(text.len() as u8);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    /// An array whose elements begin at multiples of `to`.
    fn array(&mut self, to: usize, elements: impl FnOnce(&mut Self)) {
        self.number(0);
        let at = self.0.len();
        self.align(to);
        let begin = self.0.len();
        elements(self);
        let bytes = length(self.0.len() - begin).to_le_bytes();
        self.0[at - 4..at].copy_from_slice(&bytes);
    }

    fn value(&mut self, value: &Value) {
        self.signature(value.signature());
        match value {
            Value::Text(text) => self.text(text),
            Value::Flag(flag) => self.flag(*flag),
            Value::Number(number) => {
                self.align(8);
                self.0.extend(number.to_le_bytes());
            }
            Value::Signed(number) => self.number(number.cast_unsigned()),
            Value::Numbers(numbers) => self.numbers(numbers),
            Value::Bytes(bytes) => self.array(1, |writer| writer.0.extend(bytes)),
        }
    }

    /// `a(sv)`
    pub(crate) fn properties(&mut self, properties: &[Property]) {
        self.array(8, |writer| {
            for (name, value) in properties {
                writer.align(8);
                writer.text(name);
                writer.value(value);
            }
        });
    }

    /// `au`
    pub(crate) fn numbers(&mut self, numbers: &[u32]) {
        self.array(4, |writer| {
            numbers.iter().for_each(|&number| writer.number(number))
        });
    }

    /// An array without elements, of structures.
    pub(crate) fn nothing(&mut self) {
        self.array(8, |_| {});
    }
}

/// No message is near this length; a longer one is refused when it is read.
#[allow(clippy::cast_possible_truncation)]
fn length(bytes: usize) -> u32 {
    debug_assert!(bytes <= MAX_LENGTH);
    bytes as u32
}

/// What is called.
pub(crate) struct Call<'a> {
    pub(crate) destination: &'a str,
    pub(crate) path: &'a str,
    pub(crate) interface: &'a str,
    pub(crate) member: &'a str,
    /// Types of the arguments.
    pub(crate) signature: &'a str,
    pub(crate) arguments: Writer,
}

impl Call<'_> {
    /// The message, numbered.
    pub(crate) fn bytes(self, serial: u32) -> Vec<u8> {
        let mut header = Writer(vec![b'l', METHOD_CALL, 0, VERSION]);
        header.number(length(self.arguments.0.len()));
        header.number(serial);
        header.array(8, |header| {
            for (code, text, kind) in [
                (PATH, self.path, "o"),
                (DESTINATION, self.destination, "s"),
                (INTERFACE, self.interface, "s"),
                (MEMBER, self.member, "s"),
            ] {
                header.align(8);
                header.0.push(code);
                header.signature(kind);
                header.text(text);
            }
            if !self.signature.is_empty() {
                header.align(8);
                header.0.push(SIGNATURE);
                header.signature("g");
                header.signature(self.signature);
            }
        });
        header.align(8);
        header.0.extend(self.arguments.0);
        header.0
    }
}

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;
const VERSION: u8 = 1;

const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SENDER: u8 = 7;
const SIGNATURE: u8 = 8;

/// The specification allows 128 MiB; what systemd says to us has a few hundred bytes.
const MAX_LENGTH: usize = 1 << 20;

/// The part of a header that says how long the message is.
pub(crate) const PRELUDE: usize = 16;

/// What kind of message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Return,
    Error,
    Signal,
    /// A call, or something that is not known yet: to be passed over.
    Other,
}

/// A message that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) reply_to: Option<u32>,
    pub(crate) sender: Option<String>,
    pub(crate) member: Option<String>,
    pub(crate) error: Option<String>,
    signature: String,
    body: Vec<u8>,
}

/// Bytes that are no message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// How long the message is whose first bytes these are.
pub(crate) fn whole_length(prelude: &[u8; PRELUDE]) -> Result<usize, Malformed> {
    if prelude[0] != b'l' || prelude[3] != VERSION {
        return Err(Malformed);
    }
    let mut reader = Reader {
        bytes: prelude,
        at: 4,
    };
    let body = reader.number()? as usize;
    reader.number()?;
    let fields = reader.number()? as usize;
    let whole = PRELUDE
        .checked_add(fields)
        .and_then(|length| length.checked_next_multiple_of(8))
        .and_then(|length| length.checked_add(body));
    whole.filter(|&length| length <= MAX_LENGTH).ok_or(Malformed)
}

impl Message {
    /// Reads a message of the length that [`whole_length`] gives.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader { bytes, at: 4 };
        let body = reader.number()? as usize;
        reader.number()?;
        let end = reader.number()? as usize + reader.at;
        let mut message = Message {
            kind: match bytes.get(1) {
                Some(&METHOD_RETURN) => Kind::Return,
                Some(&ERROR) => Kind::Error,
                Some(&SIGNAL) => Kind::Signal,
                _ => Kind::Other,
            },
            reply_to: None,
            sender: None,
            member: None,
            error: None,
            signature: String::new(),
            body: Vec::new(),
        };
        while reader.at < end {
            reader.align(8);
            let code = reader.byte()?;
            let kind = reader.signature()?;
            match (code, kind) {
                (REPLY_SERIAL, "u") => message.reply_to = Some(reader.number()?),
                (SENDER, "s") => message.sender = Some(reader.text()?.to_owned()),
                (MEMBER, "s") => message.member = Some(reader.text()?.to_owned()),
                (ERROR_NAME, "s") => message.error = Some(reader.text()?.to_owned()),
                (SIGNATURE, "g") => reader.signature()?.clone_into(&mut message.signature),
                // Fields that are of no interest, or not known yet: of these types, or not to be passed over.
                (_, "s" | "o") => drop(reader.text()?),
                (_, "g") => drop(reader.signature()?),
                (_, "u") => drop(reader.number()?),
                _ => return Err(Malformed),
            }
        }
        reader.align(8);
        let rest = bytes.get(reader.at..).ok_or(Malformed)?;
        if rest.len() != body {
            return Err(Malformed);
        }
        message.body = rest.to_vec();
        Ok(message)
    }

    /// The arguments, if they are texts and numbers alone, numbers as their digits.
    pub(crate) fn words(&self) -> Result<Vec<String>, Malformed> {
        let mut reader = Reader {
            bytes: &self.body,
            at: 0,
        };
        self.signature
            .chars()
            .map(|kind| match kind {
                's' | 'o' => reader.text().map(str::to_owned),
                'u' => reader.number().map(|number| number.to_string()),
                // Of one whose value is a text.
                'v' if reader.signature()? == "s" => reader.text().map(str::to_owned),
                _ => Err(Malformed),
            })
            .collect()
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(count).ok_or(Malformed)?;
        let taken = self.bytes.get(self.at..end).ok_or(Malformed)?;
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn number(&mut self) -> Result<u32, Malformed> {
        self.align(4);
        let bytes = self.take(4)?;
        bytes.try_into().map(u32::from_le_bytes).map_err(|_| Malformed)
    }

    fn text(&mut self) -> Result<&'a str, Malformed> {
        let length = self.number()? as usize;
        self.ended(length)
    }

    fn signature(&mut self) -> Result<&'a str, Malformed> {
        let length = usize::from(self.byte()?);
        self.ended(length)
    }

    /// A text with the zero byte that follows it.
    fn ended(&mut self, length: usize) -> Result<&'a str, Malformed> {
        let text = self.take(length)?;
        match self.byte()? {
            0 => std::str::from_utf8(text).map_err(|_| Malformed),
            _ => Err(Malformed),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A message as systemd would send it; `fields` are those that `Call` does not write.
    pub(crate) fn incoming(
        kind: u8,
        fields: &[(u8, &str)],
        reply_to: Option<u32>,
        body: (&str, Writer),
    ) -> Vec<u8> {
        let mut header = Writer(vec![b'l', kind, 0, VERSION]);
        header.number(length(body.1.0.len()));
        header.number(7);
        header.array(8, |header| {
            for &(code, text) in fields {
                header.align(8);
                header.0.push(code);
                header.signature("s");
                header.text(text);
            }
            if let Some(serial) = reply_to {
                header.align(8);
                header.0.push(REPLY_SERIAL);
                header.signature("u");
                header.number(serial);
            }
            header.align(8);
            header.0.push(SIGNATURE);
            header.signature("g");
            header.signature(body.0);
        });
        header.align(8);
        header.0.extend(body.1.0);
        header.0
    }

    pub(crate) fn job_removed(sender: &str, job: &str, unit: &str, result: &str) -> Vec<u8> {
        let mut body = Writer::default();
        body.number(12);
        [job, unit, result].iter().for_each(|text| body.text(text));
        incoming(
            SIGNAL,
            &[(SENDER, sender), (MEMBER, "JobRemoved")],
            None,
            ("uoss", body),
        )
    }

    pub(crate) fn answer(sender: &str, to: u32, text: &str) -> Vec<u8> {
        let mut body = Writer::default();
        body.text(text);
        incoming(METHOD_RETURN, &[(SENDER, sender)], Some(to), ("o", body))
    }

    pub(crate) fn refusal(to: u32, name: &str, text: &str) -> Vec<u8> {
        let mut body = Writer::default();
        body.text(text);
        incoming(ERROR, &[(ERROR_NAME, name)], Some(to), ("s", body))
    }

    #[test]
    fn a_call_has_the_bytes_of_the_specification() {
        let mut arguments = Writer::default();
        arguments.text("a.scope");
        arguments.flag(true);
        arguments.properties(&[
            ("Slice", Value::Text("b".to_owned())),
            ("TasksMax", Value::Number(9)),
        ]);
        let call = Call {
            destination: "d.e",
            path: "/p",
            interface: "i.f",
            member: "M",
            signature: "sba(sv)",
            arguments,
        };
        let bytes = call.bytes(5);
        #[rustfmt::skip]
        let expected = [
            b"l\x01\x00\x01".as_slice(), &[0x48, 0, 0, 0], &[5, 0, 0, 0], &[0x4d, 0, 0, 0],
            b"\x01\x01o\0\x02\0\0\0/p\0\0\0\0\0\0",
            b"\x06\x01s\0\x03\0\0\0d.e\0\0\0\0\0",
            b"\x02\x01s\0\x03\0\0\0i.f\0\0\0\0\0",
            b"\x03\x01s\0\x01\0\0\0M\0\0\0\0\0\0\0",
            b"\x08\x01g\0\x07sba(sv)\0\0\0\0",
        ]
        .concat();
        #[rustfmt::skip]
        let arguments = [
            b"\x07\0\0\0a.scope\0".as_slice(), &[1, 0, 0, 0], &[0x30, 0, 0, 0], &[0, 0, 0, 0],
            b"\x05\0\0\0Slice\0\x01s\0\0\0\0\x01\0\0\0b\0\0\0",
            b"\x08\0\0\0TasksMax\0\x01t\0", &[9, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(bytes, [expected, arguments].concat());
    }

    #[test]
    fn what_systemd_says_is_read() {
        let bytes = job_removed(":1.1", "/job/1", "a.scope", "done");
        let prelude = bytes[..PRELUDE].try_into().unwrap();
        assert_eq!(whole_length(prelude), Ok(bytes.len()));
        let message = Message::read(&bytes).unwrap();
        assert_eq!(message.kind, Kind::Signal);
        assert_eq!(message.member.as_deref(), Some("JobRemoved"));
        assert_eq!(message.sender.as_deref(), Some(":1.1"));
        assert_eq!(message.words().unwrap(), ["12", "/job/1", "a.scope", "done"]);
        let message = Message::read(&refusal(3, "org.x.No", "not so")).unwrap();
        assert_eq!((message.kind, message.reply_to), (Kind::Error, Some(3)));
        assert_eq!(message.error.as_deref(), Some("org.x.No"));
        assert_eq!(message.words().unwrap(), ["not so"]);
    }

    #[test]
    fn bytes_that_are_no_message_are_refused_and_break_nothing() {
        let good = job_removed(":1.1", "/job/1", "a.scope", "done");
        for end in 0..good.len() {
            assert_eq!(Message::read(&good[..end]), Err(Malformed), "{end}");
        }
        // Every byte in turn is another one: it is read or refused, and nothing is read that is not there.
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                if let Ok(message) = Message::read(&bad) {
                    drop(message.words());
                }
            }
        }
        let mut long = [b'l', SIGNAL, 0, VERSION, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(whole_length(&long), Ok(PRELUDE));
        long[15] = 0xff;
        assert_eq!(whole_length(&long), Err(Malformed));
        long[15] = 0;
        long[7] = 0x10;
        assert_eq!(whole_length(&long), Err(Malformed));
        long[0] = b'B';
        assert_eq!(whole_length(&long), Err(Malformed));
    }
}
