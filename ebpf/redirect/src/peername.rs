//! `getpeername()`: the application sees what it dialled, not our listener.

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use callgate_ebpf_common::Phase;

use crate::context::{Family, rewrite, socket};
use crate::maps::socket_state;
use crate::report::PASS;

#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(ctx: SockAddrContext) -> i32 {
    answer(&ctx, Family::V4)
}

#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(ctx: SockAddrContext) -> i32 {
    answer(&ctx, Family::V6)
}

#[inline(always)]
fn answer(ctx: &SockAddrContext, family: Family) -> i32 {
    let state = socket_state(socket(ctx));
    if !state.is_null() {
        unsafe {
            if (*state).phase == Phase::Rewritten as u32 || (*state).phase == Phase::Recorded as u32 {
                rewrite(ctx, family, (*state).origin.destination, (*state).origin.port);
            } else if (*state).phase == Phase::Dns as u32 && (*state).peer_port != 0 {
                rewrite(ctx, family, (*state).peer, (*state).peer_port as u16);
            }
        }
    }
    // These hooks may not refuse.
    PASS
}
