//! TCP by every call that opens a connection.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::dial::{anywhere, ask, ask_connected, family, listen, mapped, patient, stream};
use crate::hostile::PATIENCE;
use crate::{Order, Said, Vector, sys};

const IPPROTO_MPTCP: i32 = 262;
const TCP_ULP: i32 = 31;
const TCP_REPAIR: i32 = 19;
const IP_BIND_ADDRESS_NO_PORT: i32 = 24;

pub const ROWS: &[Vector] = &[
    Vector::new("tcp_connect", "connect(), then a request", connect),
    Vector::new("tcp_443", "the same to port 443", connect).with(443),
    Vector::new("tcp_dot", "the same to port 853 (DNS over TLS)", connect).with(853),
    Vector::new("tcp_dns", "the same to port 53 of a resolver of its own", connect).with(53),
    Vector::new("tcp_metadata", "the same to 169.254.169.254:80 (cloud metadata)", metadata).v4(),
    Vector::new("tcp_bound", "bind() to a port of any address first", bound),
    Vector::new("tcp_bound_address", "bind() to the link's own address first", bound_address),
    Vector::new("tcp_bind_no_port", "the same with IP_BIND_ADDRESS_NO_PORT", bind_no_port).v4(),
    Vector::new("tcp_nonblocking", "connect() that does not wait", nonblocking),
    Vector::new("tcp_fastopen_connect", "TCP_FASTOPEN_CONNECT: the first write carries the request", fastopen_connect),
    Vector::new("tcp_fastopen_sendto", "sendto() with MSG_FASTOPEN on a socket that never connected", fastopen_sendto),
    Vector::new("tcp_fastopen_sendmsg", "sendmsg() with MSG_FASTOPEN", fastopen_sendmsg),
    Vector::new("tcp_unspec_again", "connect(), connect() to AF_UNSPEC, connect() again", unspec_again),
    Vector::new("tcp_mapped", "connect() to ::ffff:a.b.c.d", connect_mapped).v4(),
    Vector::new("tcp_mapped_fastopen", "sendto() with MSG_FASTOPEN to ::ffff:a.b.c.d", fastopen_mapped).v4(),
    Vector::new("tcp_twice", "a first connection to the gate, a second one past it on the same port", same_port),
    Vector::new("tcp_repair", "TCP_REPAIR: a connection without a handshake", repair),
    Vector::new("tcp_ulp_smc", "TCP_ULP `smc` on a TCP socket", ulp_smc),
    Vector::new("mptcp", "a socket of IPPROTO_MPTCP", mptcp),
    Vector::new("mptcp_fastopen", "the same, sendto() with MSG_FASTOPEN", mptcp_fastopen),
];

/// To the canary's port, or another.
pub fn connect(order: &Order, port: i64) -> io::Result<Said> {
    let to = if port == 0 { order.canary() } else { order.at(port as u16) };
    ask(order, &stream(order)?, to)
}

fn metadata(order: &Order, _: i64) -> io::Result<Said> {
    ask(order, &stream(order)?, SocketAddr::new(IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), 80))
}

fn bound(order: &Order, _: i64) -> io::Result<Said> {
    let socket = stream(order)?;
    socket.bind(&anywhere(order, 0).into())?;
    ask(order, &socket, order.canary())
}

fn bound_address(order: &Order, _: i64) -> io::Result<Said> {
    let socket = stream(order)?;
    socket.bind(&SocketAddr::new(order.source, 0).into())?;
    ask(order, &socket, order.canary())
}

fn bind_no_port(order: &Order, _: i64) -> io::Result<Said> {
    let socket = stream(order)?;
    sys::option(&socket, libc::IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &1_i32.to_ne_bytes())?;
    socket.bind(&SocketAddr::new(order.source, 0).into())?;
    ask(order, &socket, order.canary())
}

fn nonblocking(order: &Order, _: i64) -> io::Result<Said> {
    let socket = stream(order)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&order.canary().into()) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {
            let timeout = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
            poll(&mut [PollFd::new(&socket, PollFlags::OUT)], Some(&timeout))?;
            if let Some(error) = socket.take_error()? {
                return Err(error);
            }
        }
        other => other?,
    }
    socket.set_nonblocking(false)?;
    ask_connected(order, &socket)
}

fn fastopen_connect(order: &Order, _: i64) -> io::Result<Said> {
    let socket = stream(order)?;
    sys::option(&socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, &1_i32.to_ne_bytes())?;
    ask(order, &socket, order.canary())
}

fn fastopen_sendto(order: &Order, _: i64) -> io::Result<Said> {
    let socket = stream(order)?;
    socket.send_to_with_flags(order.request().as_bytes(), &order.canary().into(), libc::MSG_FASTOPEN)?;
    listen(&socket)
}

fn fastopen_sendmsg(order: &Order, _: i64) -> io::Result<Said> {
    let socket = stream(order)?;
    let (to, request) = (order.canary().into(), order.request());
    let parts = [io::IoSlice::new(request.as_bytes())];
    let header = socket2::MsgHdr::new().with_addr(&to).with_buffers(&parts);
    socket.sendmsg(&header, libc::MSG_FASTOPEN)?;
    listen(&socket)
}

fn unspec_again(order: &Order, _: i64) -> io::Result<Said> {
    let socket = stream(order)?;
    socket.connect(&order.canary().into())?;
    sys::disconnect(&socket)?;
    ask(order, &socket, order.canary())
}

fn connect_mapped(order: &Order, _: i64) -> io::Result<Said> {
    let socket = patient(sys::socket(libc::AF_INET6, libc::SOCK_STREAM, 0)?)?;
    ask(order, &socket, mapped(order.canary()))
}

fn fastopen_mapped(order: &Order, _: i64) -> io::Result<Said> {
    let socket = patient(sys::socket(libc::AF_INET6, libc::SOCK_STREAM, 0)?)?;
    socket.send_to_with_flags(order.request().as_bytes(), &mapped(order.canary()).into(), libc::MSG_FASTOPEN)?;
    listen(&socket)
}

/// A second socket of the port that the gate knows: is it taken for the first?
fn same_port(order: &Order, _: i64) -> io::Result<Said> {
    let (first, second) = (stream(order)?, stream(order)?);
    for socket in [&first, &second] {
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
    }
    first.bind(&anywhere(order, 0).into())?;
    first.connect(&order.canary().into())?;
    let port = first.local_addr()?.as_socket().map_or(0, |address| address.port());
    second.bind(&anywhere(order, port).into())?;
    ask(order, &second, order.at(443))
}

fn repair(order: &Order, _: i64) -> io::Result<Said> {
    let socket = stream(order)?;
    sys::option(&socket, libc::IPPROTO_TCP, TCP_REPAIR, &1_i32.to_ne_bytes())?;
    socket.bind(&anywhere(order, 0).into())?;
    socket.connect(&order.canary().into())?;
    sys::option(&socket, libc::IPPROTO_TCP, TCP_REPAIR, &0_i32.to_ne_bytes())?;
    // Nobody answers a connection that only one side knows; that bytes leave is enough.
    socket.send(order.request().as_bytes())?;
    Ok(Said::Sent)
}

fn ulp_smc(order: &Order, _: i64) -> io::Result<Said> {
    let socket = stream(order)?;
    sys::option(&socket, libc::IPPROTO_TCP, TCP_ULP, b"smc")?;
    ask(order, &socket, order.canary())
}

fn mptcp(order: &Order, _: i64) -> io::Result<Said> {
    let socket = patient(sys::socket(family(order), libc::SOCK_STREAM, IPPROTO_MPTCP)?)?;
    ask(order, &socket, order.canary())
}

fn mptcp_fastopen(order: &Order, _: i64) -> io::Result<Said> {
    let socket = patient(sys::socket(family(order), libc::SOCK_STREAM, IPPROTO_MPTCP)?)?;
    socket.send_to_with_flags(order.request().as_bytes(), &order.canary().into(), libc::MSG_FASTOPEN)?;
    listen(&socket)
}
