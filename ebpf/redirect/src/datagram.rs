//! Datagrams: DNS to a configured resolver passes as it is, all else is refused at once.

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use callgate_ebpf_common::{Address, Phase, Refusal, Stat};

use crate::caller::Caller;
use crate::context::{Attempt, DNS_PORT, Family, socket};
use crate::maps::{self, RESOLVERS, count_one};
use crate::report::{PASS, refuse, refuse_unless_observed};

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
    judge(ctx, &caller, &attempt)
}

/// One rule for `connect()` and `sendmsg()` of UDP sockets.
#[inline(always)]
pub fn judge(ctx: &SockAddrContext, caller: &Caller, attempt: &Attempt) -> i32 {
    if !is_resolver(&attempt.to, attempt.port) {
        let verdict = refuse_unless_observed(ctx, caller, attempt, Refusal::Udp);
        if verdict == PASS {
            maps::mark_observed(socket(ctx));
        }
        return verdict;
    }
    let state = maps::socket_state_or_new(socket(ctx));
    if state.is_null() {
        return refuse(ctx, caller, attempt, Refusal::Exhausted);
    }
    unsafe { (*state).phase = Phase::Dns as u32 };
    count_one(Stat::Dns);
    PASS
}

#[inline(always)]
pub fn is_resolver(to: &Address, port: u16) -> bool {
    port == DNS_PORT && unsafe { RESOLVERS.get(to) }.is_some()
}
