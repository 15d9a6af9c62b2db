//! Past the gate: TCP and DNS of an enrolment that fails open, while the agent's heartbeat is stale.
//!
//! Only what the gate would have carried goes past it. What it refuses from whoever is enrolled (other UDP, DNS over TLS,
//! other protocols, sockets of others, source routes) is refused with no agent as with one. A dead listener under a heartbeat that is
//! still fresh means refusal here too: nothing goes past before the agent is known to be gone.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::programs::{SkBuffContext, SockAddrContext, SockOpsContext};
use callgate_ebpf_common::{FAIL_OBSERVE, FAIL_OPEN, Past, Phase, Refusal, SocketState, Stat};

use crate::caller::Caller;
use crate::connect::origin;
use crate::context::{Attempt, DNS_PORT, IPPROTO_TCP, SOCK_STREAM, socket};
use crate::listener::is_stale;
use crate::maps::{ENROLMENTS, PAST, count_one, socket_state_or_new};
use crate::question::Packet;
use crate::report::{PASS, refuse, report};

/// Whether connections of this enrolment may go while the heartbeat is stale.
#[inline(always)]
pub fn may_go(caller: &Caller) -> bool {
    caller.fail == FAIL_OPEN || caller.fail == FAIL_OBSERVE
}

/// Leaves the destination as it is.
#[inline(always)]
pub fn let_by(ctx: &SockAddrContext, caller: &Caller, attempt: &Attempt, phase: Phase) -> i32 {
    let state = socket_state_or_new(socket(ctx));
    if state.is_null() {
        return refuse(ctx, caller, attempt, Refusal::Exhausted);
    }
    unsafe {
        (*state).origin = origin(ctx, caller, attempt);
        (*state).phase = phase as u32;
    }
    PASS
}

/// The SYN leaves: counted here, as connect4/6 run twice where enrolled cgroups are nested, and this phase comes once.
#[inline(always)]
pub fn leaves(ctx: &SockOpsContext, state: *mut SocketState) {
    let origin = unsafe {
        (*state).phase = Phase::PastCounted as u32;
        &(*state).origin
    };
    count_one(Stat::Past);
    add(origin.enrolled, 1, 0);
    let Some(enrolment) = (unsafe { ENROLMENTS.get(&origin.enrolled) }) else { return };
    if enrolment.fail != FAIL_OBSERVE {
        return;
    }
    let caller = Caller {
        enrolled: origin.enrolled,
        cgroup: origin.cgroup,
        pid: origin.pid,
        uid: origin.uid,
        ..Caller::default()
    };
    let attempt = Attempt {
        to: origin.destination,
        port: origin.port,
        ..Attempt::of_socket(origin.netns, ctx.family(), SOCK_STREAM, IPPROTO_TCP)
    };
    report(ctx, &caller, &attempt, Refusal::Stale, true);
}

/// Whether a datagram may leave, of a socket that was let by: a question of DNS, while the heartbeat is still stale.
/// A socket that was connected meanwhile is no way past the agent that is back.
#[inline(always)]
pub fn asks(ctx: &SkBuffContext) -> bool {
    let caller = Caller::of_packet(ctx.skb.skb);
    if !may_go(&caller) || !is_stale() || Packet::of(ctx).is_none_or(|packet| packet.to_port != DNS_PORT) {
        return false;
    }
    add(caller.enrolled, 0, 1);
    true
}

/// More of an enrolment. Where the map has no room, the counter of all is what is left.
#[inline(always)]
fn add(enrolled: u64, connections: u64, questions: u64) {
    let now = unsafe { bpf_ktime_get_ns() };
    let first = Past { connections, questions, first_ns: now, last_ns: now };
    if PAST.insert(&enrolled, &first, BPF_NOEXIST.into()).is_ok() {
        return;
    }
    if let Some(past) = PAST.get_ptr_mut(&enrolled) {
        unsafe {
            // The standard library has no atomic arithmetic for this target, as older processors of BPF cannot
            // compare and swap; adding they can.
            atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(&raw mut (*past).connections, connections);
            atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(&raw mut (*past).questions, questions);
            (*past).last_ns = now;
        }
    }
}
