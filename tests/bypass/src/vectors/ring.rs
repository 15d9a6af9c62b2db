//! The same without system calls of their own: io_uring makes, connects and writes sockets by itself.

use std::io;
use std::os::fd::AsRawFd as _;

use socket2::{SockAddr, Socket};

use super::dial::{ask_connected, datagram, family, listen, stream};
use crate::sys::ring::{CONNECT, Entry, RECV, Ring, SEND, SEND_ZC, SENDMSG, SOCKET};
use crate::{Order, Said, Vector, sys};

pub const ROWS: &[Vector] = &[
    Vector::new("ring_connect", "io_uring connects a socket", connect),
    Vector::new("ring_all", "io_uring makes the socket, connects it, sends and receives", all),
    Vector::new("ring_fastopen", "io_uring sendmsg with MSG_FASTOPEN", fastopen),
    Vector::new("ring_udp_send", "io_uring send to an address, UDP", udp_send).with(SEND as i64),
    Vector::new("ring_udp_send_zc", "the same, zero-copy", udp_send).with(SEND_ZC as i64),
    Vector::new("ring_udp_sendmsg", "io_uring sendmsg, UDP", udp_sendmsg),
    Vector::new("ring_udp_connect", "io_uring connects a UDP socket, then sends", udp_connect),
    Vector::new("ring_raw", "io_uring makes a raw socket", raw),
    Vector::new("ring_mptcp", "io_uring makes an MPTCP socket and connects it", mptcp),
    Vector::new("ring_packet", "io_uring makes a packet socket", packet).judges_itself(),
    Vector::new("ring_vsock", "io_uring makes a vsock socket", vsock).judges_itself(),
];

fn pointer<T>(value: *const T) -> u64 {
    value.addr() as u64
}

fn made(ring: &mut Ring, family: i32, kind: i32, protocol: i32) -> io::Result<Socket> {
    let entry = Entry { opcode: SOCKET, fd: family, offset: kind as u64, length: protocol as u32, ..Entry::default() };
    let descriptor = ring.run(&entry)?;
    Ok(sys::owned(descriptor.into())?.into())
}

pub fn connected(ring: &mut Ring, socket: &Socket, to: &SockAddr) -> io::Result<()> {
    let entry = Entry {
        opcode: CONNECT,
        fd: socket.as_raw_fd(),
        address: pointer(to.as_ptr()),
        offset: to.len().into(),
        ..Entry::default()
    };
    ring.run(&entry).map(drop)
}

pub fn sent(ring: &mut Ring, socket: &Socket, data: &[u8]) -> io::Result<()> {
    let entry = Entry {
        opcode: SEND,
        fd: socket.as_raw_fd(),
        address: pointer(data.as_ptr()),
        length: data.len() as u32,
        ..Entry::default()
    };
    ring.run(&entry).map(drop)
}

fn connect(order: &Order, _: i64) -> io::Result<Said> {
    let (mut ring, socket) = (Ring::new()?, stream(order)?);
    connected(&mut ring, &socket, &order.canary().into())?;
    ask_connected(order, &socket)
}

fn all(order: &Order, _: i64) -> io::Result<Said> {
    let mut ring = Ring::new()?;
    let socket = made(&mut ring, family(order), libc::SOCK_STREAM, 0)?;
    super::dial::patient(socket.try_clone()?)?;
    connected(&mut ring, &socket, &order.canary().into())?;
    sent(&mut ring, &socket, order.request().as_bytes())?;
    let mut answer = vec![0_u8; 4096];
    let entry = Entry {
        opcode: RECV,
        fd: socket.as_raw_fd(),
        address: pointer(answer.as_mut_ptr()),
        length: answer.len() as u32,
        ..Entry::default()
    };
    let length = usize::try_from(ring.run(&entry)?).unwrap_or(0);
    let text = String::from_utf8_lossy(answer.get(..length).unwrap_or_default()).into_owned();
    if text.contains("refused_by_callgate") { Ok(Said::Gate) } else { listen(&socket) }
}

fn fastopen(order: &Order, _: i64) -> io::Result<Said> {
    let (mut ring, socket) = (Ring::new()?, stream(order)?);
    let (to, request) = (SockAddr::from(order.canary()), order.request());
    let parts = [sys::part(request.as_bytes())];
    let header = sys::header(&parts, &to);
    let entry = Entry {
        opcode: SENDMSG,
        fd: socket.as_raw_fd(),
        address: pointer(&raw const header),
        length: 1,
        flags: libc::MSG_FASTOPEN as u32,
        ..Entry::default()
    };
    ring.run(&entry)?;
    listen(&socket)
}

fn udp_send(order: &Order, opcode: i64) -> io::Result<Said> {
    let (mut ring, socket) = (Ring::new()?, datagram(order)?);
    let (to, data) = (SockAddr::from(order.canary()), order.nonce.as_bytes());
    let entry = Entry {
        opcode: opcode as u8,
        fd: socket.as_raw_fd(),
        address: pointer(data.as_ptr()),
        length: data.len() as u32,
        offset: pointer(to.as_ptr()),
        address_length: to.len() as u16,
        ..Entry::default()
    };
    ring.run(&entry)?;
    Ok(Said::Sent)
}

fn udp_sendmsg(order: &Order, _: i64) -> io::Result<Said> {
    let (mut ring, socket) = (Ring::new()?, datagram(order)?);
    let to = SockAddr::from(order.canary());
    let parts = [sys::part(order.nonce.as_bytes())];
    let header = sys::header(&parts, &to);
    let entry = Entry {
        opcode: SENDMSG,
        fd: socket.as_raw_fd(),
        address: pointer(&raw const header),
        length: 1,
        ..Entry::default()
    };
    ring.run(&entry)?;
    Ok(Said::Sent)
}

fn udp_connect(order: &Order, _: i64) -> io::Result<Said> {
    let (mut ring, socket) = (Ring::new()?, datagram(order)?);
    connected(&mut ring, &socket, &order.canary().into())?;
    sent(&mut ring, &socket, order.nonce.as_bytes())?;
    Ok(Said::Sent)
}

fn raw(order: &Order, _: i64) -> io::Result<Said> {
    let mut ring = Ring::new()?;
    let socket = made(&mut ring, family(order), libc::SOCK_RAW, libc::IPPROTO_UDP)?;
    super::dial::throw(order, &socket, order.at(0))
}

fn mptcp(order: &Order, _: i64) -> io::Result<Said> {
    let mut ring = Ring::new()?;
    let socket = super::dial::patient(made(&mut ring, family(order), libc::SOCK_STREAM, 262)?)?;
    super::dial::ask(order, &socket, order.canary())
}

fn packet(_: &Order, _: i64) -> io::Result<Said> {
    made(&mut Ring::new()?, libc::AF_PACKET, libc::SOCK_RAW, 0)?;
    Ok(Said::Breached("it has a packet socket".into()))
}

fn vsock(_: &Order, _: i64) -> io::Result<Said> {
    made(&mut Ring::new()?, libc::AF_VSOCK, libc::SOCK_STREAM, 0)?;
    Ok(Said::Breached("it has a vsock socket".into()))
}
