//! Socket options and identities that once exempted something, somewhere.

use std::io;
use std::net::IpAddr;

use socket2::Socket;

use super::dial::{ask, datagram, stream, throw};
use crate::vector::{Agent, Way};
use crate::{Order, Said, Vector, sys};

const SO_MARK: i32 = 36;
const IP_TRANSPARENT: i32 = 19;
const IPV6_TRANSPARENT: i32 = 75;
const IP_FREEBIND: i32 = 15;
const IP_UNICAST_IF: i32 = 50;
const IPV6_UNICAST_IF: i32 = 76;

pub const ROWS: &[Vector] = &[
    Vector::new("so_mark", "SO_MARK of every single bit and of common proxies' values", so_mark),
    Vector::new("so_mark_udp", "the same, UDP", so_mark_udp),
    Vector::new("bind_to_device", "SO_BINDTODEVICE of the link, TCP", device),
    Vector::new("bind_to_device_udp", "the same, UDP", device).with(1),
    Vector::new("unicast_if", "IP_UNICAST_IF of the link, TCP", unicast_if),
    Vector::new("transparent", "IP_TRANSPARENT: a source address that is not ours", transparent),
    Vector::new("freebind", "IP_FREEBIND: the same without privileges", freebind).v4(),
    Vector::new("source_route_tcp", "a loose source route in IP options, TCP", source_route).v4(),
    Vector::new("source_route_later", "the same, set on a connection", source_route_later).v4(),
    Vector::new("source_route_udp", "the same, UDP", source_route).v4().with(1),
    Vector::new("route_header_tcp", "an IPv6 segment routing header, TCP", route_header).v6(),
    Vector::new("route_header_udp", "the same, UDP", route_header).v6().with(1),
    Vector::new("as_the_agents_user", "setuid() to the agent's user, then connect()", as_agent),
    Vector::new("gate_port", "dials the gate's own port", gate_port).judges_itself(),
    Vector::new("reuseport_after", "binds the gate's port beside it with SO_REUSEPORT", reuseport).judges_itself(),
    Vector::new("reuseport_before", "takes the gate's port while the agent is dead, and dials", reuseport_before)
        .agent(Agent::Killed),
    Vector::new("dead_agent_tcp", "connects while the agent is dead", super::tcp::connect).agent(Agent::Killed),
    Vector::new("dead_agent_udp", "sends UDP while the agent is dead", dead_udp).agent(Agent::Killed),
    Vector::new("hung_agent_tcp", "connects while the agent is stopped", super::tcp::connect).agent(Agent::Stopped),
    Vector::new("hung_agent_udp", "sends UDP while the agent is stopped", dead_udp).agent(Agent::Stopped),
    Vector::new("kill_agent", "kills the agent, then connects", signal).agent(Agent::Attacked).with(9),
    Vector::new("stop_agent", "stops the agent, then connects", signal).agent(Agent::Attacked).with(19),
    Vector::new("kill_agent_host_root", "root of the host kills the agent, then connects", signal)
        .agent(Agent::Attacked)
        .with(9)
        .by(&[Way::Bare]),
];

/// Every bit, and marks that proxies of this kind exempt themselves by.
fn marks() -> impl Iterator<Item = u32> {
    (0..32).map(|bit| 1 << bit).chain([0x539, 1337, 0xd00, 0xf00, u32::MAX])
}

fn so_mark(order: &Order, _: i64) -> io::Result<Said> {
    let mut said = None;
    for mark in marks() {
        let socket = stream(order)?;
        sys::option(&socket, libc::SOL_SOCKET, SO_MARK, &mark.to_ne_bytes())?;
        said = Some(ask(order, &socket, order.canary())?);
        if said == Some(Said::Sent) {
            break;
        }
    }
    said.ok_or_else(|| io::Error::other("no mark was tried"))
}

fn so_mark_udp(order: &Order, _: i64) -> io::Result<Said> {
    let mut refused = None;
    for mark in marks() {
        let socket = datagram(order)?;
        sys::option(&socket, libc::SOL_SOCKET, SO_MARK, &mark.to_ne_bytes())?;
        match throw(order, &socket, order.canary()) {
            Ok(said) => return Ok(said),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or_else(|| io::Error::other("no mark was tried")))
}

fn device(order: &Order, udp: i64) -> io::Result<Said> {
    let socket = if udp == 0 { stream(order)? } else { datagram(order)? };
    socket.bind_device(Some(order.device.as_bytes()))?;
    if udp == 0 { ask(order, &socket, order.canary()) } else { throw(order, &socket, order.canary()) }
}

fn unicast_if(order: &Order, _: i64) -> io::Result<Said> {
    let socket = stream(order)?;
    let index = order.device_index.to_be_bytes();
    if order.is_v6() {
        sys::option(&socket, libc::IPPROTO_IPV6, IPV6_UNICAST_IF, &index)?;
    } else {
        sys::option(&socket, libc::IPPROTO_IP, IP_UNICAST_IF, &index)?;
    }
    ask(order, &socket, order.canary())
}

/// UDP: nobody would answer a TCP handshake to an address that is not ours.
fn transparent(order: &Order, _: i64) -> io::Result<Said> {
    let socket = datagram(order)?;
    let from: IpAddr = if order.is_v6() {
        sys::option(&socket, libc::IPPROTO_IPV6, IPV6_TRANSPARENT, &1_i32.to_ne_bytes())?;
        std::net::Ipv6Addr::new(0xfd00, 0x202, 0, 0, 0, 0, 0, 7).into()
    } else {
        sys::option(&socket, libc::IPPROTO_IP, IP_TRANSPARENT, &1_i32.to_ne_bytes())?;
        std::net::Ipv4Addr::new(10, 202, 0, 7).into()
    };
    socket.bind(&std::net::SocketAddr::new(from, 0).into())?;
    throw(order, &socket, order.canary())
}

fn freebind(order: &Order, _: i64) -> io::Result<Said> {
    let socket = datagram(order)?;
    sys::option(&socket, libc::IPPROTO_IP, IP_FREEBIND, &1_i32.to_ne_bytes())?;
    socket.bind(&std::net::SocketAddr::new(std::net::Ipv4Addr::new(10, 202, 0, 7).into(), 0).into())?;
    throw(order, &socket, order.canary())
}

/// By way of the canary.
fn route_by(order: &Order, socket: &socket2::Socket) -> io::Result<()> {
    let IpAddr::V4(via) = order.to else { return Err(io::Error::other("IPv4 alone")) };
    let mut options = vec![131, 7, 4];
    options.extend_from_slice(&via.octets());
    options.push(0);
    sys::option(socket, libc::IPPROTO_IP, libc::IP_OPTIONS, &options)
}

fn source_route_later(order: &Order, _: i64) -> io::Result<Said> {
    let socket = stream(order)?;
    socket.connect(&order.canary().into())?;
    route_by(order, &socket)?;
    super::dial::ask_connected(order, &socket)
}

fn source_route(order: &Order, udp: i64) -> io::Result<Said> {
    let socket = if udp == 0 { stream(order)? } else { datagram(order)? };
    route_by(order, &socket)?;
    if udp == 0 { ask(order, &socket, order.canary()) } else { throw(order, &socket, order.canary()) }
}

/// By way of the canary, to a host that is next to it; no privilege is needed.
fn route_header(order: &Order, udp: i64) -> io::Result<Said> {
    const IPV6_RTHDR: i32 = 57;
    let IpAddr::V6(via) = order.to else { return Err(io::Error::other("IPv6 alone")) };
    let socket = if udp == 0 { stream(order)? } else { datagram(order)? };
    // struct ipv6_sr_hdr: type 4, two segments, the last one first; the kernel puts the final address there.
    let mut header = vec![0, 4, 4, 1, 1, 0, 0, 0];
    header.extend_from_slice(&[0; 16]);
    header.extend_from_slice(&via.octets());
    sys::option(&socket, libc::IPPROTO_IPV6, IPV6_RTHDR, &header)?;
    if udp == 0 { ask(order, &socket, order.canary()) } else { throw(order, &socket, order.canary()) }
}

fn as_agent(order: &Order, _: i64) -> io::Result<Said> {
    let uid = rustix::process::Uid::from_raw(order.agent_uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    ask(order, &stream(order)?, order.canary())
}

fn gate_port(order: &Order, _: i64) -> io::Result<Said> {
    let mut refused = None;
    for to in &order.gate {
        let kind = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let socket = super::dial::patient(sys::socket(kind, libc::SOCK_STREAM, 0)?)?;
        match socket.connect(&(*to).into()) {
            Ok(()) if !order.inside => return Ok(Said::Breached("it is connected to the gate itself".into())),
            // Another port of the same process, to which the connection is redirected like any.
            Ok(()) => match super::dial::ask_connected(order, &socket)? {
                Said::Sent => return Ok(Said::Breached("it is answered".into())),
                other => return Ok(other),
            },
            Err(error) => refused = Some(error),
        }
    }
    refused.map_or_else(|| Ok(Said::Absent("no gate's port is known".into())), Err)
}

/// A control has a gate of its own that allows what ours must not: SO_REUSEPORT.
fn reuseport(order: &Order, _: i64) -> io::Result<Said> {
    let careless = sys::socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    let mut gate = order.gate.clone();
    if !order.inside {
        careless.set_reuse_port(true)?;
        careless.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
        careless.listen(16)?;
        gate = careless.local_addr()?.as_socket().into_iter().collect();
    }
    let mut refused = None;
    for at in &gate {
        let family = if at.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let socket = sys::socket(family, libc::SOCK_STREAM, 0)?;
        socket.set_reuse_port(true)?;
        match socket.bind(&(*at).into()).and_then(|()| socket.listen(16)) {
            Ok(()) if !order.inside => return Ok(Said::Breached("it listens on the gate's port".into())),
            // The gate is not there, so the agent is dead.
            Ok(()) => return given(order, &[socket]),
            Err(error) => refused = Some(error),
        }
    }
    refused.map_or_else(|| Ok(Said::Absent("no gate's port is known".into())), Err)
}

/// Listening there is no breach by itself: nobody may be sent to it, ourselves included.
fn reuseport_before(order: &Order, _: i64) -> io::Result<Said> {
    let mut listeners = Vec::new();
    for at in &order.gate {
        let family = if at.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let socket = sys::socket(family, libc::SOCK_STREAM, 0)?;
        socket.set_reuse_port(true)?;
        if socket.bind(&(*at).into()).and_then(|()| socket.listen(16)).is_ok() {
            listeners.push(socket);
        }
    }
    given(order, &listeners)
}

/// Whether anybody is sent to these listeners at the gate's port.
fn given(order: &Order, listeners: &[Socket]) -> io::Result<Said> {
    let asked = stream(order)?.connect(&order.canary().into());
    for listener in listeners {
        listener.set_nonblocking(true)?;
        if listener.accept().is_ok() {
            return Ok(Said::Breached("a redirected connection came to its own listener".into()));
        }
    }
    asked?;
    ask(order, &stream(order)?, order.canary())
}

fn dead_udp(order: &Order, _: i64) -> io::Result<Said> {
    throw(order, &datagram(order)?, order.canary())
}

fn signal(order: &Order, signal: i64) -> io::Result<Said> {
    let signal = if signal == 9 { rustix::process::Signal::KILL } else { rustix::process::Signal::STOP };
    let pid = i32::try_from(order.agent).ok().and_then(rustix::process::Pid::from_raw);
    // Whether it may or not: then it dials.
    let _forbidden = pid.map(|pid| rustix::process::kill_process(pid, signal));
    ask(order, &stream(order)?, order.canary())
}
