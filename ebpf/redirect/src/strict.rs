//! Strict mode: below the cgroup that these programs are attached to, nothing goes out that is not classified.
//!
//! A cgroup born there is refused from its first instruction, without anybody having to be quick: its tasks stand below
//! an entry of strict mode, and below no enrolment. What is enrolled is judged by its own programs; what is exempt passes.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_sk_fullsock};
use aya_ebpf::macros::{cgroup_skb, cgroup_sock, cgroup_sock_addr};
use aya_ebpf::programs::{SkBuffContext, SockAddrContext, SockContext};
use callgate_ebpf_common::Refusal;

use crate::caller::Caller;
use crate::context::{Attempt, Family, IPPROTO_TCP, read};
use crate::egress::{TCP_SYN_SENT, peer, peer_port};
use crate::report::{PASS, REFUSE, refuse, report};

#[cgroup_sock_addr(connect4)]
pub fn strict_conn4(ctx: SockAddrContext) -> i32 {
    judge(&ctx, || Attempt::of(&ctx, Family::V4))
}

#[cgroup_sock_addr(connect6)]
pub fn strict_conn6(ctx: SockAddrContext) -> i32 {
    judge(&ctx, || Attempt::of(&ctx, Family::V6))
}

#[cgroup_sock_addr(sendmsg4)]
pub fn strict_send4(ctx: SockAddrContext) -> i32 {
    judge(&ctx, || Attempt::of(&ctx, Family::V4))
}

#[cgroup_sock_addr(sendmsg6)]
pub fn strict_send6(ctx: SockAddrContext) -> i32 {
    judge(&ctx, || Attempt::of(&ctx, Family::V6))
}

/// TCP and UDP sockets are nothing yet; one that is made before its cgroup is enrolled is redirected afterwards.
#[cgroup_sock(sock_create)]
pub fn strict_create(ctx: SockContext) -> i32 {
    let sk = ctx.sock;
    let (family, socket_type, protocol) =
        unsafe { (read(&raw const (*sk).family), read(&raw const (*sk).type_), read(&raw const (*sk).protocol)) };
    let attempt = Attempt::of_socket(0, family, socket_type, protocol);
    if attempt.is_tcp() || attempt.is_udp() {
        return PASS;
    }
    judge(&ctx, || Attempt { netns: unsafe { bpf_get_netns_cookie(ctx.as_ptr()) }, ..attempt })
}

/// Packets of sockets that were there before strict mode was, and whatever has no hook of its own. Answers of servers
/// over TCP pass.
#[cgroup_skb(egress)]
pub fn strict_egress(ctx: SkBuffContext) -> i32 {
    let skb = ctx.skb.skb;
    let caller = Caller::of_packet(skb);
    if caller.strict == 0 {
        return PASS;
    }
    let sk: *mut bpf_sock = unsafe { (*skb).__bindgen_anon_2.sk };
    if sk.is_null() {
        return REFUSE;
    }
    let sk = unsafe { bpf_sk_fullsock(sk) };
    if sk.is_null() {
        return REFUSE;
    }
    let protocol = unsafe { read(&raw const (*sk).protocol) };
    if protocol == IPPROTO_TCP && unsafe { read(&raw const (*sk).state) } != TCP_SYN_SENT {
        return PASS;
    }
    let (family, socket_type) = unsafe { (read(&raw const (*sk).family), read(&raw const (*sk).type_)) };
    let attempt = Attempt { to: peer(sk), port: peer_port(sk), ..Attempt::of_socket(0, family, socket_type, protocol) };
    report(&ctx, &caller.at_strict(), &attempt, Refusal::Unclassified, false);
    REFUSE
}

#[inline(always)]
fn judge<C: EbpfContext>(ctx: &C, attempt: impl FnOnce() -> Attempt) -> i32 {
    let caller = Caller::current();
    if caller.strict == 0 {
        return PASS;
    }
    refuse(ctx, &caller.at_strict(), &attempt(), Refusal::Unclassified)
}

impl Caller {
    /// As reports show it: with the cgroup of strict mode in the place of the enrolment that is missing.
    #[inline(always)]
    fn at_strict(self) -> Self {
        Self { enrolled: self.strict, ..self }
    }
}
