//! Sockets that are older than the enrolment, and sockets that somebody outside hands in.
//!
//! The first are the workload's own and count as reached; the second need a willing process outside.

use std::io::{self, IoSliceMut, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixStream};
use std::time::{Duration, Instant};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use socket2::Socket;

use super::dial::{ask, ask_connected, datagram, family, stream, throw};
use super::families::frame;
use super::other_ip::packet;
use crate::hostile::pause;
use crate::sys::packet::link;
use crate::{Order, Said, Vector, sys};

pub const ROWS: &[Vector] = &[
    Vector::new("old_tcp_connected", "a TCP connection that is older than the enrolment", old_tcp_connected).before(),
    Vector::new("old_tcp", "a TCP socket that is older, connected afterwards", old_tcp).before(),
    Vector::new("old_udp_connected", "a connected UDP socket that is older", old_udp_connected).before(),
    Vector::new("old_udp", "a UDP socket that is older, sendto() afterwards", old_udp).before(),
    Vector::new("old_raw", "a raw socket that is older", old_raw).before(),
    Vector::new("old_packet", "a packet socket that is older", old_packet).before(),
    Vector::new("old_ring", "an io_uring and a TCP socket that are older", old_ring).before(),
    Vector::new("passed_tcp_connected", "a TCP connection handed in (SCM_RIGHTS)", passed_stream).delegated(),
    Vector::new("passed_tcp", "a TCP socket handed in, connected inside", passed_unconnected).delegated(),
    Vector::new("passed_udp_connected", "a connected UDP socket handed in", passed_datagram).delegated(),
    Vector::new("passed_udp", "a UDP socket handed in, sendto() inside", passed_udp).delegated(),
    Vector::new("passed_splice", "splice() from a pipe into a connection handed in", passed_splice).delegated(),
    Vector::new("passed_sendfile", "sendfile() into a connection handed in", passed_sendfile).delegated(),
    Vector::new("passed_ring", "io_uring writes into a connection handed in", passed_ring).delegated(),
    Vector::new("taken_socket", "takes a connection out of a process outside (pidfd_getfd)", taken)
        .delegated()
        .connected(),
];

fn old_tcp_connected(order: &Order, _: i64) -> io::Result<Said> {
    let socket = stream(order)?;
    socket.connect(&order.canary().into())?;
    pause()?;
    ask_connected(order, &socket)
}

fn old_tcp(order: &Order, _: i64) -> io::Result<Said> {
    let socket = stream(order)?;
    pause()?;
    ask(order, &socket, order.canary())
}

fn old_udp_connected(order: &Order, _: i64) -> io::Result<Said> {
    let socket = datagram(order)?;
    socket.connect(&order.canary().into())?;
    pause()?;
    socket.send(order.nonce.as_bytes())?;
    Ok(Said::Sent)
}

fn old_udp(order: &Order, _: i64) -> io::Result<Said> {
    let socket = datagram(order)?;
    pause()?;
    throw(order, &socket, order.canary())
}

fn old_raw(order: &Order, _: i64) -> io::Result<Said> {
    let socket = sys::socket(family(order), libc::SOCK_RAW, 253)?;
    pause()?;
    throw(order, &socket, order.at(0))
}

fn old_packet(order: &Order, _: i64) -> io::Result<Said> {
    let socket = sys::socket(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
    pause()?;
    let kind = if order.is_v6() { 0x86dd } else { 0x0800 };
    socket.send_to(&frame(kind, &packet(order)), &link(kind, order.device_index)?)?;
    Ok(Said::Sent)
}

fn old_ring(order: &Order, _: i64) -> io::Result<Said> {
    let (mut ring, socket) = (sys::ring::Ring::new()?, stream(order)?);
    pause()?;
    super::ring::connected(&mut ring, &socket, &order.canary().into())?;
    ask_connected(order, &socket)
}

/// Asks the helper outside on its abstract socket, or on that of its path, where the first is out of reach.
pub fn helper(order: &Order) -> io::Result<UnixStream> {
    let helper = order.helper.as_ref().ok_or_else(|| io::Error::other("no helper"))?;
    let abstracted = UnixStream::connect_addr(&UnixAddress::from_abstract_name(&helper.name)?);
    let stream = abstracted.or_else(|_| UnixStream::connect(&helper.path))?;
    stream.set_read_timeout(Some(crate::hostile::PATIENCE))?;
    Ok(stream)
}

fn handed(order: &Order, kind: &str) -> io::Result<Socket> {
    let stream = helper(order)?;
    writeln!(&stream, "pass {kind} {}", order.canary())?;
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut text = [0; 64];
    recvmsg(&stream, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::empty())?;
    let descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptor: Option<OwnedFd> = descriptors.flatten().next();
    let socket = descriptor.map(Socket::from).ok_or_else(|| io::Error::other("no socket was handed over"))?;
    super::dial::patient(socket)
}

/// Says the nonce again and again, until it is cut or the time is over.
fn keep_saying(order: &Order, socket: &Socket) -> io::Result<Said> {
    let (started, watched) = (Instant::now(), Duration::from_millis(order.watched_ms));
    loop {
        socket.send_with_flags(order.nonce.as_bytes(), libc::MSG_NOSIGNAL)?;
        if started.elapsed() >= watched {
            return Ok(Said::Sent);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn passed_stream(order: &Order, _: i64) -> io::Result<Said> {
    keep_saying(order, &handed(order, "tcp-connected")?)
}

fn passed_unconnected(order: &Order, _: i64) -> io::Result<Said> {
    ask(order, &handed(order, "tcp")?, order.canary())
}

fn passed_datagram(order: &Order, _: i64) -> io::Result<Said> {
    keep_saying(order, &handed(order, "udp-connected")?)
}

fn passed_udp(order: &Order, _: i64) -> io::Result<Said> {
    throw(order, &handed(order, "udp")?, order.canary())
}

fn passed_splice(order: &Order, _: i64) -> io::Result<Said> {
    let socket = handed(order, "tcp-connected")?;
    let (reader, mut writer) = io::pipe()?;
    writer.write_all(order.nonce.as_bytes())?;
    sys::splice(&reader, &socket, order.nonce.len())?;
    Ok(Said::Sent)
}

fn passed_sendfile(order: &Order, _: i64) -> io::Result<Said> {
    copy_file(order, &handed(order, "tcp-connected")?)
}

/// `sendfile()` of a file with the nonce.
pub fn copy_file(order: &Order, socket: &impl AsFd) -> io::Result<Said> {
    let mut file = tempfile::tempfile()?;
    file.write_all(order.nonce.as_bytes())?;
    file.rewind()?;
    sys::sendfile(&file, socket, order.nonce.len())?;
    Ok(Said::Sent)
}

fn passed_ring(order: &Order, _: i64) -> io::Result<Said> {
    let socket = handed(order, "tcp-connected")?;
    super::ring::sent(&mut sys::ring::Ring::new()?, &socket, order.nonce.as_bytes())?;
    Ok(Said::Sent)
}

fn taken(order: &Order, _: i64) -> io::Result<Said> {
    use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
    let helper = order.helper.as_ref().ok_or_else(|| io::Error::other("no helper"))?;
    let pid = i32::try_from(helper.pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("no process"))?;
    let connected = helper.connected.ok_or_else(|| io::Error::other("no connection"))?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let socket = Socket::from(pidfd_getfd(process, connected, PidfdGetfdFlags::empty())?);
    keep_saying(order, &socket)
}

/// What a helper answered: done, or not.
pub fn done(stream: &mut UnixStream) -> io::Result<Said> {
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.contains("done") { Ok(Said::Sent) } else { Err(io::Error::other("the helper failed")) }
}
