//! One call of Kubernetes' Container Runtime Interface, as the kubelet makes them: `gabion-cri SOCKET METHOD`, with the
//! request as JSON on standard input (nothing is an empty one), and the response as JSON on standard output.
//!
//! A key that the interface does not have is an error. What the server refuses ends with status 1, and the gRPC
//! status's number and message, which is what the kubelet puts into a pod's events, on standard error.

use std::error::Error;
use std::io::{Read, Write};
use std::process::ExitCode;

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderMap;
use prost::Message;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, MethodDescriptor, SerializeOptions};

static DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cri.bin"));

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What the server answers.
enum Answer {
    Message(Bytes),
    /// It refuses: the status's number, and what it says.
    Status(String),
}

fn main() -> ExitCode {
    match run() {
        Ok(Ok(json)) => match writeln!(std::io::stdout(), "{json}") {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::from(2),
        },
        Ok(Err(status)) => {
            eprintln!("{status}");
            ExitCode::from(1)
        }
        Err(error) => {
            eprintln!("gabion-cri: {error}");
            ExitCode::from(2)
        }
    }
}

/// Makes the call: the response, or the server's refusal.
fn run() -> Result<std::result::Result<String, String>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [socket, method] = words.as_slice() else {
        return Err("usage: gabion-cri SOCKET METHOD <REQUEST.json".into());
    };
    let pool = DescriptorPool::decode(DESCRIPTORS)?;
    let method = pool
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .find(|known| known.name() == method)
        .ok_or_else(|| format!("there is no method {method}"))?;
    let request = request(&method)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    match runtime.block_on(call(socket, &method, request))? {
        Answer::Status(status) => Ok(Err(status)),
        Answer::Message(bytes) => {
            let response = DynamicMessage::decode(method.output(), bytes)?;
            let options = SerializeOptions::new()
                .use_proto_field_name(true)
                .skip_default_fields(false)
                .stringify_64_bit_integers(false);
            let mut json = serde_json::Serializer::new(Vec::new());
            response.serialize_with_options(&mut json, &options)?;
            Ok(Ok(String::from_utf8(json.into_inner())?))
        }
    }
}

/// The request from standard input.
fn request(method: &MethodDescriptor) -> Result<Vec<u8>> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let mut json = serde_json::Deserializer::from_str(&text);
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let message = DynamicMessage::deserialize_with_options(method.input(), &mut json, &options)?;
    json.end()?;
    Ok(message.encode_to_vec())
}

/// A call of gRPC without streams is one request of HTTP/2: the message behind a byte and its length, and a status
/// in the trailers.
async fn call(socket: &str, method: &MethodDescriptor, message: Vec<u8>) -> Result<Answer> {
    let socket = tokio::net::UnixStream::connect(socket)
        .await
        .map_err(|error| format!("cannot connect to {socket:?}: {error}"))?;
    let (mut client, connection) = h2::client::handshake(socket).await?;
    // Its errors are those of the request, too.
    tokio::spawn(connection);
    let path = format!(
        "http://localhost/{}/{}",
        method.parent_service().full_name(),
        method.name()
    );
    let request = http::Request::post(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (response, mut body) = client.send_request(request, false)?;
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len())?);
    frame.put_slice(&message);
    body.send_data(frame.freeze(), true)?;

    let response = response.await?;
    let status = response.status();
    if !status.is_success() {
        return Err(format!("the server answers with HTTP status {status}").into());
    }
    let headers = response.headers().clone();
    let mut body = response.into_body();
    let mut bytes = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        bytes.put(data);
    }
    // An answer without a message has its status in the headers.
    let trailers = body.trailers().await?.unwrap_or(headers);
    match text(&trailers, "grpc-status").as_str() {
        "0" => {}
        "" => return Err("the server answers without a status".into()),
        number => {
            return Ok(Answer::Status(format!(
                "{number}: {}",
                text(&trailers, "grpc-message")
            )));
        }
    }
    let mut message = bytes.freeze();
    if message.len() < 5 || message[0] != 0 {
        return Err("the server's answer is no message".into());
    }
    let length = u32::from_be_bytes([message[1], message[2], message[3], message[4]]) as usize;
    let message = message.split_off(5);
    if message.len() != length {
        return Err(format!("{} bytes of a message of {length}", message.len()).into());
    }
    Ok(Answer::Message(message))
}

/// A header's value; gRPC writes some bytes of it as `%XX`.
fn text(headers: &HeaderMap, name: &str) -> String {
    let bytes = headers.get(name).map_or(&[][..], |value| value.as_bytes());
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        let code = (byte == b'%')
            .then(|| std::str::from_utf8(after.get(..2)?).ok())
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        plain.push(code.unwrap_or(byte));
        rest = &after[if code.is_some() { 2 } else { 0 }..];
    }
    String::from_utf8_lossy(&plain).into_owned()
}
