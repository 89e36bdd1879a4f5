//! A workload that keeps hold of something for as long as it lives, which shells cannot.
//!
//! ```text
//! keeper lock PATH      locks a file (flock(2)) and sleeps; its status is 1 if somebody else has locked it
//! keeper tcp PATH       connects to itself, and sends a count over that; what arrives is written to PATH
//! keeper send PATH      connects a datagram socket to one at PATH once, and sends a count over it
//! keeper hear PATH OUT  makes that one, and writes what it hears to OUT
//! ```
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

const STEP: Duration = Duration::from_millis(50);

fn main() -> std::io::Result<()> {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    match &words[..] {
        [what, path] if what == "lock" => lock(path),
        [what, path] if what == "tcp" => connect_to_itself(path),
        [what, path] if what == "send" => send(path),
        [what, path, out] if what == "hear" => hear(path, out),
        _ => Err(std::io::Error::other("usage: keeper lock|tcp|send|hear PATH...")),
    }
}

fn lock(path: &OsStr) -> std::io::Result<()> {
    let file = File::create(path)?;
    file.try_lock()?;
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn connect_to_itself(path: &OsStr) -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:7777")?;
    let mut near = TcpStream::connect(listener.local_addr()?)?;
    let mut far = BufReader::new(listener.accept()?.0);
    let mut out = File::create(path)?;
    for number in 1_u64.. {
        writeln!(near, "{number}")?;
        let mut line = String::new();
        far.read_line(&mut line)?;
        out.write_all(line.as_bytes())?;
        std::thread::sleep(STEP);
    }
    Ok(())
}

fn send(path: &OsStr) -> std::io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    for number in 1_u64.. {
        socket.send(format!("{number}\n").as_bytes())?;
        std::thread::sleep(STEP);
    }
    Ok(())
}

fn hear(path: &OsStr, out: &OsStr) -> std::io::Result<()> {
    let socket = UnixDatagram::bind(path)?;
    let mut out = File::create(out)?;
    let mut bytes = [0; 64];
    loop {
        let count = socket.recv(&mut bytes)?;
        out.write_all(&bytes[..count])?;
    }
}
