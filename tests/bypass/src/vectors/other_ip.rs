//! IP without TCP and UDP: raw sockets, ping, and protocols that this kernel may have.

use std::io;
use std::net::IpAddr;

use super::dial::{family, patient};
use crate::{Order, Said, Vector, sys};

const SCTP: i32 = 132;
const DCCP: i32 = 33;
const SOCK_DCCP: i32 = 6;
const IPV6_HDRINCL: i32 = 36;

pub const ROWS: &[Vector] = &[
    Vector::new("raw_icmp", "a raw socket of ICMP", raw).with(-1),
    Vector::new("raw_udp", "a raw socket of UDP: a datagram made by hand", raw).with(17),
    Vector::new("raw_tcp", "a raw socket of TCP: a SYN made by hand", raw).with(6),
    Vector::new("raw_gre", "a raw socket of GRE", raw).with(47),
    Vector::new("raw_esp", "a raw socket of ESP", raw).with(50),
    Vector::new("raw_253", "a raw socket of an experimental protocol", raw).with(253),
    Vector::new("raw_connected", "a raw socket, connect(), then send()", raw_connected),
    Vector::new("raw_header", "IPPROTO_RAW: the IP header made by hand", header),
    Vector::new("ping_socket", "a datagram socket of ICMP (ping without privileges)", ping),
    Vector::new("sctp_stream", "SCTP, one to one", stream).with(SCTP as i64),
    Vector::new("sctp_seqpacket", "SCTP, one to many", sctp_many),
    Vector::new("dccp", "DCCP", dccp),
];

fn no_port(order: &Order) -> std::net::SocketAddr {
    order.at(0)
}

/// -1 stands for the family's own ICMP.
fn protocol(order: &Order, argument: i64) -> i32 {
    match argument {
        -1 if order.is_v6() => libc::IPPROTO_ICMPV6,
        -1 => libc::IPPROTO_ICMP,
        other => other as i32,
    }
}

/// Starts as what the protocol would have there: type 8 or 128 of ICMP, or ports.
fn payload(order: &Order) -> Vec<u8> {
    let first = if order.is_v6() { 128 } else { 8 };
    let mut data = vec![first, 0, 0, 0, 0, 1, 0, 1];
    data.extend_from_slice(order.nonce.as_bytes());
    data
}

fn raw(order: &Order, argument: i64) -> io::Result<Said> {
    let socket = sys::socket(family(order), libc::SOCK_RAW, protocol(order, argument))?;
    socket.send_to(&payload(order), &no_port(order).into())?;
    Ok(Said::Sent)
}

fn raw_connected(order: &Order, _: i64) -> io::Result<Said> {
    let socket = sys::socket(family(order), libc::SOCK_RAW, 253)?;
    socket.connect(&no_port(order).into())?;
    socket.send(&payload(order))?;
    Ok(Said::Sent)
}

fn header(order: &Order, _: i64) -> io::Result<Said> {
    let socket = sys::socket(family(order), libc::SOCK_RAW, libc::IPPROTO_RAW)?;
    if order.is_v6() {
        sys::option(&socket, libc::IPPROTO_IPV6, IPV6_HDRINCL, &1_i32.to_ne_bytes())?;
    }
    socket.send_to(&packet(order), &no_port(order).into())?;
    Ok(Said::Sent)
}

/// A whole packet of the experimental protocol 253, with the nonce.
pub fn packet(order: &Order) -> Vec<u8> {
    let data = order.nonce.as_bytes();
    match (order.source, order.to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let length = (20 + data.len()) as u16;
            let mut packet = vec![0x45, 0, 0, 0, 0, 1, 0, 0, 64, 253, 0, 0];
            packet[2..4].copy_from_slice(&length.to_be_bytes());
            packet.extend_from_slice(&from.octets());
            packet.extend_from_slice(&to.octets());
            let sum: u32 = packet.chunks(2).map(|two| u32::from(u16::from_be_bytes([two[0], two[1]]))).sum();
            let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
            packet.extend_from_slice(data);
            packet
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut packet = vec![0x60, 0, 0, 0, 0, data.len() as u8, 253, 64];
            packet.extend_from_slice(&from.octets());
            packet.extend_from_slice(&to.octets());
            packet.extend_from_slice(data);
            packet
        }
        _ => Vec::new(),
    }
}

fn ping(order: &Order, _: i64) -> io::Result<Said> {
    let socket = sys::socket(family(order), libc::SOCK_DGRAM, protocol(order, -1))?;
    socket.send_to(&payload(order), &no_port(order).into())?;
    Ok(Said::Sent)
}

fn stream(order: &Order, protocol: i64) -> io::Result<Said> {
    let socket = patient(sys::socket(family(order), libc::SOCK_STREAM, protocol as i32)?)?;
    socket.connect(&order.canary().into())?;
    socket.send(order.nonce.as_bytes())?;
    Ok(Said::Sent)
}

fn sctp_many(order: &Order, _: i64) -> io::Result<Said> {
    let socket = patient(sys::socket(family(order), libc::SOCK_SEQPACKET, SCTP)?)?;
    socket.send_to(order.nonce.as_bytes(), &order.canary().into())?;
    Ok(Said::Sent)
}

fn dccp(order: &Order, _: i64) -> io::Result<Said> {
    let socket = patient(sys::socket(family(order), SOCK_DCCP, DCCP)?)?;
    socket.connect(&order.canary().into())?;
    Ok(Said::Sent)
}
