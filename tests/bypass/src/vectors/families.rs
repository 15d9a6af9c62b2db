//! Sockets of other families than IP.
//!
//! Where a canary can hear them (packet sockets) a frame is sent; elsewhere having the socket counts as through: no
//! later hook would see what is done with it, and what answers (a hypervisor, a bus) is nobody's to try here.

use std::io;
use std::net::IpAddr;

use socket2::SockAddr;

use super::other_ip::packet;
use crate::sys::packet::{link, send_mapped};
use crate::{Order, Said, Vector, sys};

pub const ROWS: &[Vector] = &[
    Vector::new("packet_raw", "AF_PACKET: an ethernet frame made by hand", packet_raw),
    Vector::new("packet_dgram", "AF_PACKET, SOCK_DGRAM: an IP packet made by hand", packet_dgram),
    Vector::new("packet_mapped", "AF_PACKET: a frame sent through a mapped ring", packet_mapped),
    Vector::new("packet_arp", "AF_PACKET: an ARP frame that carries the nonce", packet_arp).v4().by_nonce(),
    Vector::new("packet_listen", "AF_PACKET: reads what others send", packet_listen).judges_itself(),
    of("vsock_stream", "AF_VSOCK, stream: towards the hypervisor", libc::AF_VSOCK, libc::SOCK_STREAM, 0),
    of("vsock_dgram", "AF_VSOCK, datagram", libc::AF_VSOCK, libc::SOCK_DGRAM, 0),
    of("vsock_seqpacket", "AF_VSOCK, packets in order", libc::AF_VSOCK, libc::SOCK_SEQPACKET, 0),
    of("netlink_diag", "netlink: lists and ends sockets (SOCK_DIAG)", libc::AF_NETLINK, libc::SOCK_RAW, 4),
    of("netlink_netfilter", "netlink: the packet filter's rules", libc::AF_NETLINK, libc::SOCK_RAW, 12),
    of("netlink_generic", "netlink: any subsystem (GENERIC)", libc::AF_NETLINK, libc::SOCK_RAW, 16),
    of("netlink_uevent", "netlink: device events", libc::AF_NETLINK, libc::SOCK_RAW, 15),
    of("netlink_xfrm", "netlink: IPsec", libc::AF_NETLINK, libc::SOCK_RAW, 6),
    of("netlink_audit", "netlink: audit", libc::AF_NETLINK, libc::SOCK_RAW, 9),
    Vector::new("netlink_route_change", "netlink: adds a route", route_change).judges_itself(),
    of("smc", "AF_SMC", 43, libc::SOCK_STREAM, 0),
    of("rds", "AF_RDS", 21, libc::SOCK_SEQPACKET, 0),
    of("tipc", "AF_TIPC", 30, libc::SOCK_SEQPACKET, 0),
    of("can_raw", "AF_CAN", 29, libc::SOCK_RAW, 1),
    of("alg", "AF_ALG: the kernel's cryptography", 38, libc::SOCK_SEQPACKET, 0),
    of("xdp", "AF_XDP: frames past the stack", 44, libc::SOCK_RAW, 0),
    of("kcm", "AF_KCM", 41, libc::SOCK_DGRAM, 0),
    of("key", "AF_KEY", 15, libc::SOCK_RAW, 2),
    of("bluetooth", "AF_BLUETOOTH", 31, libc::SOCK_RAW, 1),
    of("rxrpc", "AF_RXRPC", 33, libc::SOCK_DGRAM, 2),
    of("qipcrtr", "AF_QIPCRTR", 42, libc::SOCK_DGRAM, 0),
    of("mctp", "AF_MCTP", 45, libc::SOCK_DGRAM, 0),
];

/// A row in which having the socket counts. The three numbers are packed into the argument.
const fn of(name: &'static str, what: &'static str, family: i32, kind: i32, protocol: i32) -> Vector {
    Vector::new(name, what, have)
        .judges_itself()
        .with(((family as i64) << 32) | ((kind as i64) << 16) | protocol as i64)
}

fn have(_: &Order, triple: i64) -> io::Result<Said> {
    let (family, kind, protocol) = ((triple >> 32) as i32, (triple >> 16) as i32 & 0xffff, triple as i32 & 0xffff);
    sys::socket(family, kind, protocol)?;
    Ok(Said::Breached("it has the socket".into()))
}

fn ether_type(order: &Order) -> u16 {
    match order.to {
        IpAddr::V4(_) => 0x0800,
        IpAddr::V6(_) => 0x86dd,
    }
}

/// To everybody, from nobody.
pub fn frame(ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend_from_slice(&[2, 0, 0, 0, 0, 1]);
    frame.extend_from_slice(&ether_type.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn on_link(order: &Order, ether_type: u16) -> io::Result<SockAddr> {
    link(ether_type, order.device_index)
}

fn packet_raw(order: &Order, _: i64) -> io::Result<Said> {
    let socket = sys::socket(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
    let frame = frame(ether_type(order), &packet(order));
    socket.send_to(&frame, &on_link(order, ether_type(order))?)?;
    Ok(Said::Sent)
}

fn packet_dgram(order: &Order, _: i64) -> io::Result<Said> {
    let socket = sys::socket(libc::AF_PACKET, libc::SOCK_DGRAM, 0)?;
    socket.send_to(&packet(order), &on_link(order, ether_type(order))?)?;
    Ok(Said::Sent)
}

fn packet_mapped(order: &Order, _: i64) -> io::Result<Said> {
    let socket = sys::socket(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
    socket.bind(&on_link(order, ether_type(order))?)?;
    send_mapped(&socket, &frame(ether_type(order), &packet(order)))?;
    Ok(Said::Sent)
}

fn packet_arp(order: &Order, _: i64) -> io::Result<Said> {
    let socket = sys::socket(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
    arp.resize(28, 0);
    arp.extend_from_slice(order.nonce.as_bytes());
    socket.send_to(&frame(0x0806, &arp), &on_link(order, 0x0806)?)?;
    Ok(Said::Sent)
}

fn packet_listen(order: &Order, _: i64) -> io::Result<Said> {
    sys::packet::ear(order.device_index)?;
    Ok(Said::Breached("it hears the link".into()))
}

/// `RTM_NEWROUTE` of an unreachable host route that nobody uses.
fn route_change(_: &Order, _: i64) -> io::Result<Said> {
    const NEW_ROUTE: u16 = 24;
    const REQUEST: u16 = 0x1 | 0x4 | 0x100 | 0x400;
    let socket = super::dial::patient(sys::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?)?;
    let mut message = Vec::new();
    message.extend_from_slice(&36_u32.to_ne_bytes());
    message.extend_from_slice(&NEW_ROUTE.to_ne_bytes());
    message.extend_from_slice(&REQUEST.to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    // struct rtmsg: family, destination bits, …, table main, protocol static, scope universe, type unreachable.
    message.extend_from_slice(&[libc::AF_INET as u8, 32, 0, 0, 254, 4, 0, 7, 0, 0, 0, 0]);
    message.extend_from_slice(&8_u16.to_ne_bytes());
    message.extend_from_slice(&1_u16.to_ne_bytes());
    message.extend_from_slice(&[203, 0, 113, 99]);
    let length = (message.len() as u32).to_ne_bytes();
    message[0..4].copy_from_slice(&length);
    let kernel = sys::address(&[libc::AF_NETLINK as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
    socket.send_to(&message, &kernel)?;
    let mut answer = [std::mem::MaybeUninit::new(0_u8); 256];
    socket.recv(&mut answer)?;
    let errno = sys::number(&answer, 16);
    if errno < 0 { Err(io::Error::from_raw_os_error(-errno)) } else { Ok(Said::Breached("it changed a route".into())) }
}
