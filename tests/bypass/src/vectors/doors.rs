//! Callgate's own doors: who can ask the agent or the collector can have enforcement ended, or records read.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::hostile::PATIENCE;
use crate::{Order, Said, Vector, sys};

/// What a client of HTTP/2 says first, with an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

pub const ROWS: &[Vector] = &[
    Vector::new("control_socket", "the agent's control socket", control).judges_itself(),
    Vector::new("collector_socket", "the collector's socket", collector).judges_itself(),
    Vector::new("metrics_port", "the agent's metrics port", metrics).judges_itself(),
];

fn control(order: &Order, _: i64) -> io::Result<Said> {
    speak(&order.control_socket)
}

fn collector(order: &Order, _: i64) -> io::Result<Said> {
    speak(&order.collector_socket)
}

/// An answer in HTTP/2 is one too many; to be turned away is to hear nothing.
fn speak(path: &Path) -> io::Result<Said> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(PREFACE)?;
    let mut answer = [0; 9];
    match stream.read(&mut answer)? {
        0 => Err(io::Error::from_raw_os_error(libc::ECONNRESET)),
        _ => Ok(Said::Breached("it is answered".into())),
    }
}

fn metrics(order: &Order, _: i64) -> io::Result<Said> {
    let Some(at) = order.metrics else { return Ok(Said::Absent("no metrics port is known".into())) };
    let socket = super::dial::patient(sys::socket(libc::AF_INET, libc::SOCK_STREAM, 0)?)?;
    socket.connect(&at.into())?;
    socket.send(format!("GET /metrics HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n").as_bytes())?;
    match super::dial::listen(&socket)? {
        Said::Sent => Ok(Said::Breached("it reads the metrics".into())),
        other => Ok(other),
    }
}
