//! Reading and writing the context of the socket-address hooks.
//!
//! Volatile throughout: LLVM merges adjacent stores into one that the verifier refuses.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::generated::bpf_get_netns_cookie;
use aya_ebpf::programs::SockAddrContext;
use callgate_ebpf_common::Address;

pub const AF_INET: u32 = 2;
pub const AF_INET6: u32 = 10;
pub const SOCK_STREAM: u32 = 1;
pub const SOCK_DGRAM: u32 = 2;
pub const IPPROTO_TCP: u32 = 6;
pub const IPPROTO_UDP: u32 = 17;
pub const DNS_PORT: u16 = 53;
/// DNS over TLS. Source: RFC 7858.
pub const DOT_PORT: u16 = 853;

/// Which fields of the context hold the address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// What an application asks for at `connect()` or `sendmsg()`.
#[derive(Clone, Copy)]
pub struct Attempt {
    pub to: Address,
    pub port: u16,
    pub netns: u64,
    pub family: u32,
    pub socket_type: u32,
    pub protocol: u32,
}

impl Attempt {
    #[inline(always)]
    pub fn of(ctx: &SockAddrContext, family: Family) -> Self {
        let sa = ctx.sock_addr;
        unsafe {
            Self {
                to: address(sa, family).connected(),
                port: u16::from_be(read(&raw const (*sa).user_port) as u16),
                netns: bpf_get_netns_cookie(ctx.as_ptr()),
                family: read(&raw const (*sa).family),
                socket_type: read(&raw const (*sa).type_),
                protocol: read(&raw const (*sa).protocol),
            }
        }
    }

    /// The address and port that the context holds, as they stand there.
    #[inline(always)]
    pub fn named(ctx: &SockAddrContext, family: Family) -> (Address, u16) {
        let sa = ctx.sock_addr;
        unsafe { (address(sa, family), u16::from_be(read(&raw const (*sa).user_port) as u16)) }
    }

    #[inline(always)]
    pub fn is_tcp(&self) -> bool {
        self.socket_type == SOCK_STREAM && self.protocol == IPPROTO_TCP
    }

    #[inline(always)]
    pub fn is_udp(&self) -> bool {
        self.socket_type == SOCK_DGRAM && self.protocol == IPPROTO_UDP
    }
}

#[inline(always)]
pub fn socket(ctx: &SockAddrContext) -> *mut bpf_sock {
    unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk }
}

/// Gives the hook's caller another address: the destination at connect, the answer at getpeername.
#[inline(always)]
pub fn rewrite(ctx: &SockAddrContext, family: Family, to: Address, port: u16) {
    let sa = ctx.sock_addr;
    unsafe {
        match family {
            Family::V4 => write(&raw mut (*sa).user_ip4, to.0[3]),
            Family::V6 => {
                write(&raw mut (*sa).user_ip6[0], to.0[0]);
                write(&raw mut (*sa).user_ip6[1], to.0[1]);
                write(&raw mut (*sa).user_ip6[2], to.0[2]);
                write(&raw mut (*sa).user_ip6[3], to.0[3]);
            }
        }
        write(&raw mut (*sa).user_port, u32::from(port.to_be()));
    }
}

#[inline(always)]
unsafe fn address(sa: *mut bpf_sock_addr, family: Family) -> Address {
    unsafe {
        match family {
            Family::V4 => Address::v4(read(&raw const (*sa).user_ip4)),
            Family::V6 => Address([
                read(&raw const (*sa).user_ip6[0]),
                read(&raw const (*sa).user_ip6[1]),
                read(&raw const (*sa).user_ip6[2]),
                read(&raw const (*sa).user_ip6[3]),
            ]),
        }
    }
}

#[inline(always)]
pub unsafe fn read(field: *const u32) -> u32 {
    unsafe { core::ptr::read_volatile(field) }
}

#[inline(always)]
unsafe fn write(field: *mut u32, value: u32) {
    unsafe { core::ptr::write_volatile(field, value) }
}
