//! Datagrams: DNS goes to our resolver, whichever one was asked; all else is refused at once.
//!
//! Here the destination is given another address; that nothing else leaves, whatever a message's control data says of
//! its device or route, is seen to at egress ([`question`](crate::question)).

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use callgate_ebpf_common::{Phase, Refusal, Stat};

use crate::caller::Caller;
use crate::connect::{origin, unbind_from_device};
use crate::context::{Attempt, DNS_PORT, Family, rewrite, socket};
use crate::maps::{self, count_one};
use crate::report::{PASS, refuse, refuse_unless_observed};
use crate::{listener, past};

#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    send(&ctx, Family::V4)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    send(&ctx, Family::V6)
}

#[inline(always)]
fn send(ctx: &SockAddrContext, family: Family) -> i32 {
    let attempt = Attempt::of(ctx, family);
    let caller = Caller::current();
    if caller.enrolled == 0 {
        return refuse(ctx, &caller, &attempt, Refusal::Foreign);
    }
    if !attempt.is_udp() {
        return refuse_unless_observed(ctx, &caller, &attempt, Refusal::Protocol);
    }
    judge(ctx, family, &caller, &attempt, false)
}

/// One rule for `connect()` and `sendmsg()` of UDP sockets.
#[inline(always)]
pub fn judge(ctx: &SockAddrContext, family: Family, caller: &Caller, attempt: &Attempt, connects: bool) -> i32 {
    let ports = listener::ports(attempt.netns);
    if listener::is_our_dns(&ports, &attempt.to, attempt.port) && asks(ctx) {
        return PASS;
    }
    if attempt.port != DNS_PORT {
        let verdict = refuse_unless_observed(ctx, caller, attempt, Refusal::Udp);
        if verdict == PASS {
            maps::mark_observed(socket(ctx));
        }
        return verdict;
    }
    let (to, port) = match listener::find_dns(ctx, &ports, &attempt.to) {
        Ok(found) => found,
        Err(Refusal::Stale) if past::may_go(caller) => return past::let_by(ctx, caller, attempt, Phase::PastDns),
        Err(cause) => return refuse(ctx, caller, attempt, cause),
    };
    let state = maps::socket_state_or_new(socket(ctx));
    if state.is_null() {
        return refuse(ctx, caller, attempt, Refusal::Exhausted);
    }
    unsafe {
        (*state).origin = origin(ctx, caller, attempt);
        (*state).phase = Phase::Dns as u32;
        if connects {
            (*state).peer = attempt.to;
            (*state).peer_port = u32::from(attempt.port);
        }
    }
    // A datagram whose device is chosen already fails once; the next one of the socket goes.
    unbind_from_device(ctx);
    rewrite(ctx, family, to, port);
    count_one(Stat::Dns);
    PASS
}

/// Whether the destination was rewritten before: by the program's other instance, or at the `connect()` of a v4-mapped
/// socket, whose datagrams come by here too. One that names our resolver itself asks it, as every other does.
#[inline(always)]
fn asks(ctx: &SockAddrContext) -> bool {
    let state = maps::socket_state(socket(ctx));
    !state.is_null() && unsafe { (*state).phase } == Phase::Dns as u32
}
