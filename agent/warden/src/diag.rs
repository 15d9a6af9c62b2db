//! Destroying a socket through netlink: `SOCK_DESTROY` of sock_diag(7), for kernels without `bpf_sock_destroy`.
//!
//! Works in the network namespace of the calling thread.

use std::io;

use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};

use crate::kernel::Record;

/// Source: uapi/linux/sock_diag.h, uapi/linux/netlink.h.
const SOCK_DESTROY: u16 = 21;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLMSG_ERROR: u16 = 2;

/// `struct nlmsghdr` and `struct inet_diag_req_v2`. Unit: bytes.
const HEADER: usize = 16;
const REQUEST: usize = HEADER + 56;

/// A netlink socket for it.
#[derive(Debug)]
pub struct Diag(OwnedFd);

impl Diag {
    /// # Errors
    /// The kernel's.
    pub fn open() -> io::Result<Self> {
        let kind = (AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC);
        Ok(Self(socket_with(kind.0, kind.1, kind.2, Some(netlink::SOCK_DIAG))?))
    }

    /// # Errors
    /// `NotFound` when there is no such socket; `EOPNOTSUPP` when the kernel cannot.
    pub fn destroy(&self, record: &Record) -> io::Result<()> {
        send(&self.0, &request(record), SendFlags::empty())?;
        let mut answer = [0; 512];
        let (len, _) = recv(&self.0, &mut answer[..], RecvFlags::empty())?;
        let answer = answer.get(..len).unwrap_or_default();
        let kind = answer.get(4..6).and_then(|bytes| Some(u16::from_ne_bytes(bytes.try_into().ok()?)));
        let error = answer.get(HEADER..HEADER + 4).and_then(|bytes| Some(i32::from_ne_bytes(bytes.try_into().ok()?)));
        match (kind, error) {
            (Some(NLMSG_ERROR), Some(0)) => Ok(()),
            (Some(NLMSG_ERROR), Some(error)) => Err(io::Error::from_raw_os_error(-error)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// The message, with the socket's own side as source.
fn request(record: &Record) -> [u8; REQUEST] {
    let is_v4 = record.family == libc::AF_INET.cast_unsigned();
    let side = |words: [u32; 4]| if is_v4 { [words[3], 0, 0, 0] } else { words };
    let port = |port: u32| u16::try_from(port).unwrap_or_default().to_be_bytes();
    let mut bytes = Vec::with_capacity(REQUEST);
    bytes.extend(u32::try_from(REQUEST).unwrap_or_default().to_ne_bytes());
    bytes.extend(SOCK_DESTROY.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    bytes.extend([0; 8]);
    // Family, protocol, extensions, padding, states: any.
    bytes.extend([record.family as u8, record.protocol as u8, 0, 0]);
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.extend(port(record.source_port));
    bytes.extend(port(record.destination_port));
    for word in side(record.source).into_iter().chain(side(record.destination)) {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.extend(record.device.to_ne_bytes());
    bytes.extend((record.cookie as u32).to_ne_bytes());
    bytes.extend(((record.cookie >> 32) as u32).to_ne_bytes());
    let mut request = [0; REQUEST];
    request.copy_from_slice(&bytes);
    request
}
