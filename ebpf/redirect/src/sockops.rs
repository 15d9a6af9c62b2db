//! Tells the proxy where a connection was going, before its SYN leaves.
//!
//! The record is keyed by what the accepted socket shows: network namespace, source address and port. The proxy takes
//! it when it accepts. Here it is removed only when a connection dies in a way after which nobody accepts it; after
//! an orderly close the bytes already sent are still to be served, so the record stays.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{BPF_NOEXIST, BPF_SOCK_OPS_STATE_CB_FLAG, bpf_sock};
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_ktime_get_ns};
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use callgate_ebpf_common::{Address, OriginRecord, Phase, Stat, TupleKey};

use crate::context::{AF_INET, read};
use crate::maps::{ORIGINS, count_one, socket_state};
use crate::past;

const TCP_CONNECT_CB: u32 = 3;
const STATE_CB: u32 = 10;

const TCP_FIN_WAIT1: u32 = 4;
const TCP_FIN_WAIT2: u32 = 5;
const TCP_CLOSE: u32 = 7;
const TCP_CLOSING: u32 = 11;

/// Age at which a record that nobody took is of no connection any more. Unit: nanoseconds.
/// Source: a living agent accepts within its heartbeat's age; 30 times the default of that.
const ABANDONED_NS: u64 = 60_000_000_000;

/// Not named after its section (`sockops`): bpf-linker cannot take that.
#[sock_ops]
pub fn tcp_states(ctx: SockOpsContext) -> u32 {
    match ctx.op() {
        TCP_CONNECT_CB => connecting(&ctx),
        STATE_CB => state_changed(&ctx),
        _ => {}
    }
    1
}

#[inline(always)]
fn connecting(ctx: &SockOpsContext) {
    let sk: *mut bpf_sock = unsafe { (*ctx.ops).__bindgen_anon_2.sk };
    if sk.is_null() {
        return;
    }
    let state = socket_state(sk);
    if state.is_null() {
        return;
    }
    if unsafe { (*state).phase } == Phase::Past as u32 {
        return past::leaves(ctx, state);
    }
    if unsafe { (*state).phase } != Phase::Rewritten as u32 {
        return;
    }
    let key = key(ctx);
    let recorded = unsafe {
        (*state).origin.stored_ns = bpf_ktime_get_ns();
        match ORIGINS.insert(&key, &(*state).origin, BPF_NOEXIST.into()) {
            Ok(()) => true,
            Err(_) => {
                (*state).origin.contested = u16::from(ORIGINS.get(&key).is_some_and(is_pending));
                if (*state).origin.contested != 0 {
                    count_one(Stat::Contested);
                }
                ORIGINS.insert(&key, &(*state).origin, 0).is_ok()
            }
        }
    };
    // Where there is no room, the phase stays and egress drops the SYN.
    if recorded && ctx.set_cb_flags((ctx.cb_flags() | BPF_SOCK_OPS_STATE_CB_FLAG) as i32).is_ok() {
        unsafe { (*state).phase = Phase::Recorded as u32 };
    }
}

/// Whether another connection's record is there that may still be taken: then neither can be told from the other.
#[inline(always)]
pub fn is_pending(other: &OriginRecord) -> bool {
    unsafe { bpf_ktime_get_ns() }.saturating_sub(other.stored_ns) < ABANDONED_NS
}

#[inline(always)]
fn state_changed(ctx: &SockOpsContext) {
    let (before, after) = unsafe {
        let args = (&raw const (*ctx.ops).__bindgen_anon_1).cast::<u32>();
        (read(args), read(args.add(1)))
    };
    if after != TCP_CLOSE || before == TCP_FIN_WAIT1 || before == TCP_FIN_WAIT2 || before == TCP_CLOSING {
        return;
    }
    let key = key(ctx);
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    if let Some(record) = unsafe { ORIGINS.get(&key) }
        && record.socket == cookie
    {
        let _gone_already = ORIGINS.remove(&key);
    }
}

#[inline(always)]
fn key(ctx: &SockOpsContext) -> TupleKey {
    let source = if ctx.family() == AF_INET {
        Address::v4(ctx.local_ip4())
    } else {
        unsafe {
            let words = (&raw const (*ctx.ops).local_ip6).cast::<u32>();
            Address([read(words), read(words.add(1)), read(words.add(2)), read(words.add(3))])
        }
    };
    TupleKey { netns: unsafe { bpf_get_netns_cookie(ctx.as_ptr()) }, source, port: ctx.local_port(), padding: 0 }
}
