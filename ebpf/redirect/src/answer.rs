//! `recvmsg()` of datagrams: an answer of our resolver seems to come from the one that was asked.
//!
//! Of a socket that asks several resolvers at once, every answer seems to come from the one that was asked last: the
//! kernel shows these hooks no more than the sender, which is always us.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::bpf_get_netns_cookie;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use callgate_ebpf_common::Phase;

use crate::context::{Attempt, Family, rewrite, socket};
use crate::listener;
use crate::maps::socket_state;
use crate::report::PASS;

#[cgroup_sock_addr(recvmsg4)]
pub fn recvmsg4(ctx: SockAddrContext) -> i32 {
    show(&ctx, Family::V4)
}

/// Also runs for answers from `::ffff:127.0.0.1`.
#[cgroup_sock_addr(recvmsg6)]
pub fn recvmsg6(ctx: SockAddrContext) -> i32 {
    show(&ctx, Family::V6)
}

#[inline(always)]
fn show(ctx: &SockAddrContext, family: Family) -> i32 {
    let state = socket_state(socket(ctx));
    if !state.is_null() && unsafe { (*state).phase } == Phase::Dns as u32 {
        let (from, port) = Attempt::named(ctx, family);
        let ports = listener::ports(unsafe { bpf_get_netns_cookie(ctx.as_ptr()) });
        if listener::is_our_dns(&ports, &from, port) {
            unsafe { rewrite(ctx, family, (*state).origin.destination, (*state).origin.port) };
        }
    }
    // These hooks may not refuse.
    PASS
}
