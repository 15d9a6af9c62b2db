//! The last line: packets of enrolled sockets that no earlier hook had let through are dropped.
//!
//! Of TCP it looks at the socket, not at the packet's address: by the time a packet is here, NAT may have given it another.
//! Answers on accepted connections pass, so servers and probes work; a connection of ours is known by its state.

use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::generated::bpf_sk_fullsock;
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use callgate_ebpf_common::{Address, Phase, Refusal};

use crate::caller::Caller;
use crate::context::{AF_INET, Attempt, IPPROTO_TCP, IPPROTO_UDP, read};
use crate::maps::{mark_observed, socket_state};
use crate::report::{PASS, REFUSE, report};
use crate::{past, question};

pub const TCP_SYN_SENT: u32 = 2;
const TCP_SYN_RECV: u32 = 3;

#[cgroup_skb(egress)]
pub fn egress(ctx: SkBuffContext) -> i32 {
    let skb = ctx.skb.skb;
    let sk: *mut bpf_sock = unsafe { (*skb).__bindgen_anon_2.sk };
    if sk.is_null() {
        return REFUSE;
    }
    let sk = unsafe { bpf_sk_fullsock(sk) };
    if sk.is_null() {
        return REFUSE;
    }
    let protocol = unsafe { read(&raw const (*sk).protocol) };
    let allowed = match protocol {
        IPPROTO_TCP => tcp(sk),
        IPPROTO_UDP => udp(&ctx, sk),
        _ => false,
    };
    if allowed && goes_straight(&ctx) {
        return PASS;
    }
    let caller = Caller::of_packet(skb);
    if caller.observed && phase(sk) == Phase::Observed as u32 {
        return PASS;
    }
    let (family, socket_type) = unsafe { (read(&raw const (*sk).family), read(&raw const (*sk).type_)) };
    let attempt = Attempt { to: peer(sk), port: peer_port(sk), ..Attempt::of_socket(0, family, socket_type, protocol) };
    report(&ctx, &caller, &attempt, Refusal::Egress, caller.observed);
    if !caller.observed {
        return REFUSE;
    }
    // A TCP socket's state is another one; its SYN is reported each time.
    if protocol != IPPROTO_TCP {
        mark_observed(sk);
    }
    PASS
}

/// Only a socket that opens a connection is of interest. SYN_RECV: the peer's SYN met ours, or TCP Fast Open on a
/// server, which then waits for the handshake.
#[inline(always)]
fn tcp(sk: *mut bpf_sock) -> bool {
    let state = unsafe { read(&raw const (*sk).state) };
    if state != TCP_SYN_SENT && state != TCP_SYN_RECV {
        return true;
    }
    let phase = phase(sk);
    phase == Phase::Recorded as u32 || phase == Phase::PastCounted as u32
}

/// Whether the packet goes where its socket does: a source route (options of IPv4, a routing header of IPv6) names
/// another host to send it to, which no earlier hook has seen, and may be set at any time.
///
/// No options at all, then, and TCP or UDP right behind the header of IPv6. Labels of security modules in IP options
/// (CIPSO, CALIPSO) are refused with them.
#[inline(always)]
fn goes_straight(ctx: &SkBuffContext) -> bool {
    const V4_WITHOUT_OPTIONS: u8 = 0x45;
    const V6_NEXT_HEADER: usize = 6;
    match ctx.load::<u8>(0) {
        Ok(V4_WITHOUT_OPTIONS) => true,
        Ok(first) if first >> 4 == 6 => match ctx.load::<u8>(V6_NEXT_HEADER) {
            Ok(next) => u32::from(next) == IPPROTO_TCP || u32::from(next) == IPPROTO_UDP,
            Err(_) => false,
        },
        _ => false,
    }
}

/// Of a datagram socket nothing leaves but questions to our resolver, or past it where that may be.
#[inline(always)]
fn udp(ctx: &SkBuffContext, sk: *mut bpf_sock) -> bool {
    let state = socket_state(sk);
    if state.is_null() {
        return false;
    }
    let phase = unsafe { (*state).phase };
    if phase == Phase::Dns as u32 {
        return question::leaves(ctx, state);
    }
    phase == Phase::PastDns as u32 && past::asks(ctx)
}

#[inline(always)]
fn phase(sk: *mut bpf_sock) -> u32 {
    let state = socket_state(sk);
    if state.is_null() { Phase::New as u32 } else { unsafe { (*state).phase } }
}

/// Both forms are read before either is chosen: LLVM would make one load with a computed offset of the two branches,
/// and the verifier allows no arithmetic on this pointer.
#[inline(always)]
pub fn peer(sk: *mut bpf_sock) -> Address {
    unsafe {
        let v4 = Address::v4(read(&raw const (*sk).dst_ip4));
        let words = (&raw const (*sk).dst_ip6).cast::<u32>();
        let v6 = Address([read(words), read(words.add(1)), read(words.add(2)), read(words.add(3))]);
        if read(&raw const (*sk).family) == AF_INET { v4 } else { v6 }
    }
}

#[inline(always)]
pub fn peer_port(sk: *mut bpf_sock) -> u16 {
    u16::from_be(unsafe { core::ptr::read_volatile(&raw const (*sk).dst_port) })
}
