//! Datagrams: UDP and UDP-Lite, connected and not, to ports that tempt, to one and to many.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::dial::{anywhere, datagram, family, mapped, message, throw};
use crate::{Order, Said, Vector, sys};

const UDP_SEGMENT: i32 = 103;
const UDP_CORK: i32 = 1;
const IPV6_ADDRFORM: i32 = 1;

pub const ROWS: &[Vector] = &[
    Vector::new("udp_sendto", "sendto() without connect()", send),
    Vector::new("udp_quic", "the same to port 443 (QUIC)", send).with(443),
    Vector::new("udp_dns", "the same to port 53 of a resolver of its own (DNS tunnel)", send).with(53),
    Vector::new("udp_dot", "the same to port 853 (DNS over QUIC)", send).with(853),
    Vector::new("udp_metadata", "the same to 169.254.169.254:80", metadata).v4().by_nonce(),
    Vector::new("udp_connect", "connect(), then send()", connect),
    Vector::new("udp_connect_quic", "the same to port 443", connect).with(443),
    Vector::new("udp_connect_dns", "the same to port 53", connect).with(53),
    Vector::new("udp_unspec_again", "connect(), connect() to AF_UNSPEC, sendto()", unspec_again),
    Vector::new("udp_sendmsg", "sendmsg()", sendmsg),
    Vector::new("udp_sendmmsg", "sendmmsg() of two", sendmmsg),
    Vector::new("udp_control", "sendmsg() that names the link (IP_PKTINFO)", with_link),
    Vector::new("udp_corked", "UDP_CORK: written in pieces, sent when uncorked", corked),
    Vector::new("udp_segmented", "UDP_SEGMENT: one write becomes two datagrams", segmented),
    Vector::new("udp_bound", "bind() to the link's own address first", bound),
    Vector::new("udp_mapped", "sendto() to ::ffff:a.b.c.d", to_mapped).v4(),
    Vector::new("udp_mapped_connect", "connect() to ::ffff:a.b.c.d", connect_mapped).v4(),
    Vector::new("udp_address_form", "an IPv6 socket turned into an IPv4 one (IPV6_ADDRFORM)", address_form).v4(),
    Vector::new("udp_splice", "splice() from a pipe into a connected socket", splice),
    Vector::new("udp_sendfile", "sendfile() into a connected socket", sendfile),
    Vector::new("udp_multicast", "to a multicast group", multicast).by_nonce(),
    Vector::new("udp_broadcast", "to the link's broadcast address", broadcast).v4().by_nonce().with(0),
    Vector::new("udp_broadcast_all", "to 255.255.255.255", broadcast).v4().by_nonce().with(1),
    Vector::new("udplite_sendto", "UDP-Lite, sendto()", lite),
    Vector::new("udplite_connect", "UDP-Lite, connect(), then send()", lite).with(1),
];

fn at(order: &Order, port: i64) -> SocketAddr {
    if port == 0 { order.canary() } else { order.at(port as u16) }
}

fn send(order: &Order, port: i64) -> io::Result<Said> {
    throw(order, &datagram(order)?, at(order, port))
}

fn metadata(order: &Order, _: i64) -> io::Result<Said> {
    throw(order, &datagram(order)?, (Ipv4Addr::new(169, 254, 169, 254), 80).into())
}

fn connect(order: &Order, port: i64) -> io::Result<Said> {
    let socket = datagram(order)?;
    socket.connect(&at(order, port).into())?;
    socket.send(order.nonce.as_bytes())?;
    Ok(Said::Sent)
}

fn unspec_again(order: &Order, _: i64) -> io::Result<Said> {
    let socket = datagram(order)?;
    // Refused or not: what counts is whether it changes what comes after.
    let _refused = socket.connect(&order.canary().into());
    sys::disconnect(&socket)?;
    throw(order, &socket, order.canary())
}

fn sendmsg(order: &Order, _: i64) -> io::Result<Said> {
    message(order, &datagram(order)?, order.canary(), &[], 0)
}

fn sendmmsg(order: &Order, _: i64) -> io::Result<Said> {
    sys::send_many(&datagram(order)?, order.nonce.as_bytes(), order.canary())?;
    Ok(Said::Sent)
}

fn with_link(order: &Order, _: i64) -> io::Result<Said> {
    // struct cmsghdr, then in_pktinfo (index, two addresses) or in6_pktinfo (address, index).
    let mut control = Vec::new();
    let (level, kind, length) = if order.is_v6() {
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, 20)
    } else {
        (libc::IPPROTO_IP, libc::IP_PKTINFO, 12)
    };
    control.extend_from_slice(&(16_usize + length).to_ne_bytes());
    control.extend_from_slice(&level.to_ne_bytes());
    control.extend_from_slice(&kind.to_ne_bytes());
    if order.is_v6() {
        control.extend_from_slice(&[0; 16]);
        control.extend_from_slice(&order.device_index.to_ne_bytes());
    } else {
        control.extend_from_slice(&order.device_index.to_ne_bytes());
        control.extend_from_slice(&[0; 8]);
    }
    control.resize(control.len().next_multiple_of(8), 0);
    message(order, &datagram(order)?, order.canary(), &control, 0)
}

fn corked(order: &Order, _: i64) -> io::Result<Said> {
    let socket = datagram(order)?;
    sys::option(&socket, libc::IPPROTO_UDP, UDP_CORK, &1_i32.to_ne_bytes())?;
    throw(order, &socket, order.canary())?;
    sys::option(&socket, libc::IPPROTO_UDP, UDP_CORK, &0_i32.to_ne_bytes())?;
    Ok(Said::Sent)
}

fn segmented(order: &Order, _: i64) -> io::Result<Said> {
    let socket = datagram(order)?;
    let size = i32::try_from(order.nonce.len()).map_err(io::Error::other)?;
    sys::option(&socket, libc::IPPROTO_UDP, UDP_SEGMENT, &size.to_ne_bytes())?;
    socket.send_to(order.nonce.repeat(2).as_bytes(), &order.canary().into())?;
    Ok(Said::Sent)
}

fn bound(order: &Order, _: i64) -> io::Result<Said> {
    let socket = datagram(order)?;
    socket.bind(&SocketAddr::new(order.source, 0).into())?;
    throw(order, &socket, order.canary())
}

fn to_mapped(order: &Order, _: i64) -> io::Result<Said> {
    throw(order, &sys::socket(libc::AF_INET6, libc::SOCK_DGRAM, 0)?, mapped(order.canary()))
}

fn connect_mapped(order: &Order, _: i64) -> io::Result<Said> {
    let socket = sys::socket(libc::AF_INET6, libc::SOCK_DGRAM, 0)?;
    socket.connect(&mapped(order.canary()).into())?;
    socket.send(order.nonce.as_bytes())?;
    Ok(Said::Sent)
}

fn address_form(order: &Order, _: i64) -> io::Result<Said> {
    let socket = sys::socket(libc::AF_INET6, libc::SOCK_DGRAM, 0)?;
    socket.connect(&mapped(order.canary()).into())?;
    sys::option(&socket, libc::IPPROTO_IPV6, IPV6_ADDRFORM, &libc::AF_INET.to_ne_bytes())?;
    throw(order, &socket, order.canary())
}

fn splice(order: &Order, _: i64) -> io::Result<Said> {
    let socket = datagram(order)?;
    socket.connect(&order.canary().into())?;
    let (reader, mut writer) = io::pipe()?;
    writer.write_all(order.nonce.as_bytes())?;
    sys::splice(&reader, &socket, order.nonce.len())?;
    Ok(Said::Sent)
}

fn sendfile(order: &Order, _: i64) -> io::Result<Said> {
    let socket = datagram(order)?;
    socket.connect(&order.canary().into())?;
    super::handed::copy_file(order, &socket)
}

fn multicast(order: &Order, _: i64) -> io::Result<Said> {
    let to: SocketAddr = if order.is_v6() {
        SocketAddrV6::new(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), order.port, 0, order.device_index).into()
    } else {
        (Ipv4Addr::new(239, 1, 2, 3), order.port).into()
    };
    throw(order, &datagram(order)?, to)
}

fn broadcast(order: &Order, everywhere: i64) -> io::Result<Said> {
    let socket = datagram(order)?;
    socket.set_broadcast(true)?;
    let to = if everywhere == 0 { order.broadcast } else { Ipv4Addr::BROADCAST };
    if everywhere != 0 {
        // Without a link, the route decides; it has one.
        socket.bind(&anywhere(order, 0).into())?;
    }
    throw(order, &socket, (IpAddr::V4(to), order.port).into())
}

fn lite(order: &Order, connected: i64) -> io::Result<Said> {
    let socket = sys::socket(family(order), libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE)?;
    if connected == 0 {
        return throw(order, &socket, order.canary());
    }
    socket.connect(&order.canary().into())?;
    socket.send(order.nonce.as_bytes())?;
    Ok(Said::Sent)
}
