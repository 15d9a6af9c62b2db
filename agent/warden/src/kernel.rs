//! The layouts that kernel programs and agent share: the twins of `ebpf/warden/warden.h` and `sockets.bpf.c`.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// States of a TCP socket that matter here; a connected UDP socket is `ESTABLISHED` too. Source: net/tcp_states.h.
pub const ESTABLISHED: u32 = 1;
pub const CLOSE: u32 = 7;
pub const LISTEN: u32 = 10;

/// Protocols that have hooks.
pub const TCP: u32 = 6;
pub const UDP: u32 = 17;

/// What an [`Event`] is about.
pub const KIND_FOREIGN: u32 = 1;
pub const KIND_FAMILY: u32 = 2;
pub const KIND_ARRIVAL: u32 = 3;

/// `struct event`: programs write, the agent reads.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub at_ns: u64,
    pub enrolled: u64,
    pub cgroup: u64,
    pub netns: u64,
    pub kind: u32,
    pub observed: u32,
    pub pid: u32,
    pub uid: u32,
    pub family: u32,
    pub socket_type: u32,
    pub protocol: u32,
    pub port: u32,
    pub destination: [u32; 4],
}

/// `struct record`, one socket: programs write, the agent reads.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub cookie: u64,
    pub enrolled: u64,
    pub cgroup: u64,
    pub holder: u64,
    pub netns_cookie: u64,
    pub observed: u32,
    pub netns: u32,
    pub pid: u32,
    pub fd: u32,
    pub family: u32,
    pub socket_type: u32,
    pub protocol: u32,
    pub state: u32,
    pub device: u32,
    pub port_locked: u32,
    pub source_port: u32,
    pub destination_port: u32,
    pub source: [u32; 4],
    pub destination: [u32; 4],
}

const _: () = assert!(size_of::<Event>() == 80);
const _: () = assert!(size_of::<Record>() == 120);

/// Plain data that the kernel wrote.
///
/// # Safety
/// Every bit pattern must be a value.
pub unsafe trait Plain: Copy {}
// SAFETY: integers alone.
unsafe impl Plain for Event {}
// SAFETY: integers alone.
unsafe impl Plain for Record {}

/// The value in `bytes`; none when they are not as many.
pub fn read<T: Plain>(bytes: &[u8]) -> Option<T> {
    // SAFETY: as many bytes as the type has, of which any are valid; the read needs no alignment.
    (bytes.len() == size_of::<T>()).then(|| unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast::<T>()) })
}

impl Record {
    /// TCP or UDP over IP: what the hooks of the redirect cover.
    pub fn has_hooks(&self) -> bool {
        let (stream, datagram) = (libc::SOCK_STREAM.cast_unsigned(), libc::SOCK_DGRAM.cast_unsigned());
        self.is_inet() && matches!((self.socket_type, self.protocol), (t, TCP) if t == stream)
            || self.is_inet() && matches!((self.socket_type, self.protocol), (t, UDP) if t == datagram)
    }

    pub fn is_inet(&self) -> bool {
        matches!(i32::try_from(self.family), Ok(libc::AF_INET | libc::AF_INET6))
    }

    pub fn listens(&self) -> bool {
        self.protocol == TCP && self.state == LISTEN
    }

    /// Data can leave by it without any hook.
    pub fn is_connected(&self) -> bool {
        match self.protocol {
            TCP => self.state != LISTEN && self.state != CLOSE,
            _ => self.state == ESTABLISHED,
        }
    }

    /// Whether it is a connection that `listener` accepted, as far as can be told from outside.
    ///
    /// An accepted socket has the port and the cgroup of its listener, and never the mark of a port chosen by bind().
    pub fn came_in_by(&self, listener: &Self) -> bool {
        self.protocol == TCP
            && self.port_locked == 0
            && (self.netns, self.source_port, self.cgroup) == (listener.netns, listener.source_port, listener.cgroup)
    }
}

/// `ip:port`; empty when there is none.
pub fn shown(words: [u32; 4], port: u32) -> String {
    let ip = address(words);
    let port = u16::try_from(port).unwrap_or_default();
    if port == 0 && ip.is_unspecified() { String::new() } else { SocketAddr::new(ip, port).to_string() }
}

/// The address of four words in the order of the wire; a v4-mapped one is IPv4.
pub fn address(words: [u32; 4]) -> IpAddr {
    let mut octets = [0; 16];
    for (bytes, word) in octets.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// An outbound TCP connection of cgroup 7, enrolled as itself.
    pub fn outbound() -> Record {
        let mapped = |last: u8| [0, 0, 0xffff_u32.to_be(), u32::from_ne_bytes([127, 0, 0, last])];
        Record {
            cookie: 1,
            enrolled: 7,
            cgroup: 7,
            holder: 0,
            netns_cookie: 1,
            observed: 0,
            netns: 100,
            pid: 0,
            fd: 0,
            family: libc::AF_INET.cast_unsigned(),
            socket_type: libc::SOCK_STREAM.cast_unsigned(),
            protocol: TCP,
            state: ESTABLISHED,
            device: 0,
            port_locked: 0,
            source_port: 40_000,
            destination_port: 443,
            source: mapped(1),
            destination: mapped(2),
        }
    }

    #[test]
    fn only_tcp_and_udp_over_ip_have_hooks() {
        let one = outbound();
        assert!(one.has_hooks());
        assert!(Record { family: 10, socket_type: 2, protocol: UDP, ..one }.has_hooks());
        for (family, socket_type, protocol) in [(17, 3, 0), (2, 3, 6), (2, 1, 262), (2, 2, 136), (40, 1, 0)] {
            let other = Record { family, socket_type, protocol, ..one };
            assert!(!other.has_hooks(), "{other:?}");
        }
    }

    #[test]
    fn a_connection_that_came_in_has_its_listeners_port_and_cgroup_and_no_port_of_its_own_choice() {
        let listener = Record { cookie: 2, state: LISTEN, source_port: 80, destination_port: 0, ..outbound() };
        let accepted = Record { source_port: 80, ..outbound() };
        assert!(accepted.came_in_by(&listener));
        assert!(!outbound().came_in_by(&listener));
        assert!(!Record { port_locked: 1, ..accepted }.came_in_by(&listener), "bound there itself");
        assert!(!Record { cgroup: 8, ..accepted }.came_in_by(&listener), "another one's listener");
        assert!(!Record { netns: 101, ..accepted }.came_in_by(&listener), "a listener elsewhere");
        assert!(!Record { protocol: UDP, ..accepted }.came_in_by(&listener));
    }

    #[test]
    fn addresses_are_shown_as_one_writes_them() {
        assert_eq!(shown(outbound().destination, 443), "127.0.0.2:443");
        assert_eq!(shown([0, 0, 0, 1_u32.to_be()], 53), "[::1]:53");
        assert_eq!(shown([0; 4], 0), "");
    }
}
