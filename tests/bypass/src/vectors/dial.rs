//! What vectors share: sockets of the attempt's family, and what is said over a connection.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use socket2::{MsgHdr, SockAddr, Socket};

use crate::hostile::PATIENCE;
use crate::{Order, Said, sys};

/// What the gate says when policy refuses.
const REFUSED: &str = "refused_by_callgate";
/// How a canary's answer ends.
pub const CANARY: &str = "\r\n\r\ncanary";
/// Longest answer that is read. Unit: bytes.
const ANSWER: usize = 8 * 1024;

/// AF_INET or AF_INET6, as the order says.
pub fn family(order: &Order) -> i32 {
    if order.is_v6() { libc::AF_INET6 } else { libc::AF_INET }
}

/// A TCP socket that does not wait for ever.
pub fn stream(order: &Order) -> io::Result<Socket> {
    patient(sys::socket(family(order), libc::SOCK_STREAM, 0)?)
}

/// A UDP socket.
pub fn datagram(order: &Order) -> io::Result<Socket> {
    sys::socket(family(order), libc::SOCK_DGRAM, 0)
}

/// The same socket, whose calls end in time.
pub fn patient(socket: Socket) -> io::Result<Socket> {
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Connects, asks, and tells who answered.
pub fn ask(order: &Order, socket: &Socket, to: SocketAddr) -> io::Result<Said> {
    socket.connect(&to.into())?;
    ask_connected(order, socket)
}

/// Asks on a connection.
pub fn ask_connected(order: &Order, socket: &Socket) -> io::Result<Said> {
    socket.send(order.request().as_bytes())?;
    listen(socket)
}

/// Reads the answer and tells whose it is.
pub fn listen(socket: &Socket) -> io::Result<Said> {
    use std::io::Read as _;
    let (mut answer, started) = (Vec::new(), Instant::now());
    let mut reader = socket;
    let mut part = [0; 2048];
    while answer.len() < ANSWER && started.elapsed() < PATIENCE {
        match reader.read(&mut part) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(part.get(..length).unwrap_or_default()),
            // What was answered before counts.
            Err(_) if !answer.is_empty() => break,
            Err(error) => return Err(error),
        }
        let text = String::from_utf8_lossy(&answer);
        if text.contains(REFUSED) {
            return Ok(Said::Gate);
        }
        if text.ends_with(CANARY) {
            return Ok(Said::Sent);
        }
    }
    if answer.is_empty() { Err(io::Error::from_raw_os_error(libc::ECONNRESET)) } else { Ok(Said::Sent) }
}

/// Sends the nonce to an address without connecting.
pub fn throw(order: &Order, socket: &Socket, to: SocketAddr) -> io::Result<Said> {
    socket.send_to(order.nonce.as_bytes(), &to.into())?;
    Ok(Said::Sent)
}

/// Sends the nonce by `sendmsg`, with control data and flags.
pub fn message(order: &Order, socket: &Socket, to: SocketAddr, control: &[u8], flags: i32) -> io::Result<Said> {
    let (to, data) = (SockAddr::from(to), order.nonce.as_bytes());
    let parts = [IoSlice::new(data)];
    let mut header = MsgHdr::new().with_addr(&to).with_buffers(&parts);
    if !control.is_empty() {
        header = header.with_control(control);
    }
    socket.sendmsg(&header, flags)?;
    Ok(Said::Sent)
}

/// `::ffff:a.b.c.d`.
pub fn mapped(to: SocketAddr) -> SocketAddr {
    match to.ip() {
        IpAddr::V4(v4) => SocketAddr::new(v4.to_ipv6_mapped().into(), to.port()),
        IpAddr::V6(_) => to,
    }
}

/// Any address of the order's family, at a port.
pub fn anywhere(order: &Order, port: u16) -> SocketAddr {
    if order.is_v6() {
        (std::net::Ipv6Addr::UNSPECIFIED, port).into()
    } else {
        (std::net::Ipv4Addr::UNSPECIFIED, port).into()
    }
}
