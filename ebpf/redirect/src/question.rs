//! A datagram of DNS as it leaves: to our living resolver alone, and with its sender noted.
//!
//! The packet itself is looked at: control data of a message may choose device, source and route after sendmsg4/6 had
//! its say, and only here is the source port of a connected socket known. The note is keyed by what the resolver's
//! socket will show of the packet, and taken by the agent when it has read it.

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::programs::SkBuffContext;
use callgate_ebpf_common::{Address, SocketState, Stat, TupleKey};

use crate::context::{IPPROTO_UDP, read};
use crate::listener;
use crate::maps::{ASKERS, count_one};
use crate::sockops::is_pending;

/// Index of loopback in every network namespace. Source: include/net/flow.h, LOOPBACK_IFINDEX.
const LOOPBACK: u32 = 1;

const IPV6_HEADER: usize = 40;
/// Source address, destination address: two of 16 bytes from byte 8 on, or two of 4 from byte 12 on.
const IPV6_ADDRESSES: usize = 8;
const IPV4_ADDRESSES: usize = 12;
const IPV6_NEXT: usize = 6;
const IPV4_PROTOCOL: usize = 9;

/// Whether the packet may leave.
#[inline(always)]
pub fn leaves(ctx: &SkBuffContext, state: *mut SocketState) -> bool {
    if unsafe { read(&raw const (*ctx.skb.skb).ifindex) } != LOOPBACK {
        return false;
    }
    let Some(packet) = Packet::of(ctx) else { return false };
    let netns = unsafe { (*state).origin.netns };
    let ports = listener::ports(netns);
    listener::is_our_dns(&ports, &packet.to, packet.to_port)
        && listener::answers_dns(ctx, packet.to, packet.to_port)
        && note(state, &TupleKey { netns, source: packet.from, port: u32::from(packet.from_port), padding: 0 })
}

/// Notes the sender. Several datagrams of one socket share a note; where another socket's note waits under the same
/// key, neither is believed.
#[inline(always)]
fn note(state: *mut SocketState, key: &TupleKey) -> bool {
    unsafe {
        (*state).origin.stored_ns = bpf_ktime_get_ns();
        (*state).origin.contested = 0;
        (*state).origin.pending = 1;
        if ASKERS.insert(key, &(*state).origin, BPF_NOEXIST.into()).is_ok() {
            return true;
        }
        if let Some(other) = ASKERS.get(key)
            && is_pending(other)
        {
            (*state).origin.pending = other.pending.wrapping_add(1);
            if other.socket != (*state).origin.socket || other.contested != 0 {
                (*state).origin.contested = 1;
                count_one(Stat::Contested);
            }
        }
        ASKERS.insert(key, &(*state).origin, 0).is_ok()
    }
}

pub struct Packet {
    pub from: Address,
    pub from_port: u16,
    pub to: Address,
    pub to_port: u16,
}

impl Packet {
    /// None for what is no plain UDP.
    #[inline(always)]
    pub fn of(ctx: &SkBuffContext) -> Option<Self> {
        let first: u8 = ctx.load(0).ok()?;
        let (from, to, ports) = if first >> 4 == 4 {
            let protocol: u8 = ctx.load(IPV4_PROTOCOL).ok()?;
            if u32::from(protocol) != IPPROTO_UDP {
                return None;
            }
            let from: u32 = ctx.load(IPV4_ADDRESSES).ok()?;
            let to: u32 = ctx.load(IPV4_ADDRESSES + 4).ok()?;
            (Address::v4(from), Address::v4(to), usize::from(first & 0xf) * 4)
        } else {
            let next: u8 = ctx.load(IPV6_NEXT).ok()?;
            if u32::from(next) != IPPROTO_UDP {
                return None;
            }
            let from: [u32; 4] = ctx.load(IPV6_ADDRESSES).ok()?;
            let to: [u32; 4] = ctx.load(IPV6_ADDRESSES + 16).ok()?;
            (Address(from), Address(to), IPV6_HEADER)
        };
        let from_port: u16 = ctx.load(ports).ok()?;
        let to_port: u16 = ctx.load(ports + 2).ok()?;
        Some(Self { from, from_port: u16::from_be(from_port), to, to_port: u16::from_be(to_port) })
    }
}
