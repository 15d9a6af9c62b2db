//! `socket()`: an enrolled workload gets TCP and UDP, nothing else.
//!
//! Raw sockets, MPTCP, SCTP, UDP-Lite and ping sockets have ways out that no later hook sees.
//! This hook runs for AF_INET and AF_INET6 only.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::bpf_get_netns_cookie;
use aya_ebpf::macros::cgroup_sock;
use aya_ebpf::programs::SockContext;
use callgate_ebpf_common::Refusal;

use crate::caller::Caller;
use crate::context::{AF_INET, AF_INET6, Attempt, read};
use crate::report::{PASS, refuse_unless_observed};

#[cgroup_sock(sock_create)]
pub fn create(ctx: SockContext) -> i32 {
    let sk = ctx.sock;
    let (family, socket_type, protocol) =
        unsafe { (read(&raw const (*sk).family), read(&raw const (*sk).type_), read(&raw const (*sk).protocol)) };
    let attempt = Attempt::of_socket(0, family, socket_type, protocol);
    if (family == AF_INET || family == AF_INET6) && (attempt.is_tcp() || attempt.is_udp()) {
        return PASS;
    }
    let attempt = Attempt { netns: unsafe { bpf_get_netns_cookie(ctx.as_ptr()) }, ..attempt };
    // The socket takes the cgroup of the task that makes it, so the caller is never foreign here.
    refuse_unless_observed(&ctx, &Caller::current(), &attempt, Refusal::Protocol)
}
