//! `connect()`: TCP goes to our listener, DNS over UDP to our resolver, everything else is refused.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_ktime_get_ns, bpf_setsockopt};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use aya_log_ebpf::debug;
use callgate_ebpf_common::{Executed, OriginRecord, Phase, Refusal, Stat};

use crate::caller::Caller;
use crate::context::{Attempt, DOT_PORT, Family, read, rewrite, socket};
use crate::report::{PASS, REFUSE, refuse, refuse_unless_observed};
use crate::{datagram, listener, maps, past};

const SOL_SOCKET: i32 = 1;
const SO_BINDTODEVICE: i32 = 25;

#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    gate(&ctx, Family::V4)
}

/// Also runs for `::ffff:a.b.c.d`, which connect4 never sees.
#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    gate(&ctx, Family::V6)
}

#[inline(always)]
fn gate(ctx: &SockAddrContext, family: Family) -> i32 {
    let attempt = Attempt::of(ctx, family);
    let caller = Caller::current();
    if caller.enrolled == 0 {
        return refuse(ctx, &caller, &attempt, Refusal::Foreign);
    }
    if attempt.is_udp() {
        return datagram::judge(ctx, family, &caller, &attempt, true);
    }
    if !attempt.is_tcp() {
        return refuse_unless_observed(ctx, &caller, &attempt, Refusal::Protocol);
    }
    // Encrypted questions to a resolver of the workload's choice; what observes is redirected as any other.
    if attempt.port == DOT_PORT && refuse_unless_observed(ctx, &caller, &attempt, Refusal::Dot) != PASS {
        return REFUSE;
    }
    redirect(ctx, family, &caller, &attempt)
}

#[inline(always)]
fn redirect(ctx: &SockAddrContext, family: Family, caller: &Caller, attempt: &Attempt) -> i32 {
    let ports = listener::ports(attempt.netns);
    if listener::is_ours(&ports, &attempt.to, attempt.port) {
        return if already_rewritten(ctx, caller) { PASS } else { refuse(ctx, caller, attempt, Refusal::OwnPort) };
    }
    let (to, port) = match listener::find(ctx, &ports, &attempt.to) {
        Ok(found) => found,
        Err(Refusal::Stale) if past::may_go(caller) => return past::let_by(ctx, caller, attempt, Phase::Past),
        Err(cause) => return refuse(ctx, caller, attempt, cause),
    };
    let state = maps::socket_state_or_new(socket(ctx));
    if state.is_null() {
        return refuse(ctx, caller, attempt, Refusal::Exhausted);
    }
    unsafe {
        (*state).origin = origin(ctx, caller, attempt);
        (*state).phase = Phase::Rewritten as u32;
    }
    unbind_from_device(ctx);
    rewrite(ctx, family, to, port);
    maps::count_one(Stat::Redirected);
    debug!(ctx, "redirected pid {} port {} to {}", caller.pid, attempt.port, port);
    PASS
}

/// Who asks, and for what.
#[inline(always)]
pub fn origin(ctx: &SockAddrContext, caller: &Caller, attempt: &Attempt) -> OriginRecord {
    OriginRecord {
        destination: attempt.to,
        enrolled: caller.enrolled,
        cgroup: caller.cgroup,
        netns: attempt.netns,
        socket: unsafe { bpf_get_socket_cookie(ctx.as_ptr()) },
        connected_ns: unsafe { bpf_ktime_get_ns() },
        stored_ns: 0,
        pid: caller.pid,
        uid: caller.uid,
        gid: caller.gid,
        port: attempt.port,
        contested: 0,
        pending: 0,
        padding: 0,
        executed: Executed::default(),
    }
}

/// Whether this same `connect()` was redirected a moment ago, by the program's other instance.
///
/// Two run where enrolled cgroups are nested, and while a successor swaps the links. The phase ends when the SYN
/// leaves, so a later `connect()` to our port, by this process or another, does not pass as the earlier one.
#[inline(always)]
fn already_rewritten(ctx: &SockAddrContext, caller: &Caller) -> bool {
    let state = maps::socket_state(socket(ctx));
    !state.is_null() && unsafe { (*state).phase == Phase::Rewritten as u32 && (*state).origin.pid == caller.pid }
}

/// A socket that is tied to eth0 (`curl --interface`) cannot reach loopback. Should this fail, the connection does.
#[inline(always)]
pub fn unbind_from_device(ctx: &SockAddrContext) {
    let sk: *mut bpf_sock = socket(ctx);
    if unsafe { read(&raw const (*sk).bound_dev_if) } == 0 {
        return;
    }
    let mut none = 0_u32;
    unsafe {
        bpf_setsockopt(ctx.as_ptr(), SOL_SOCKET, SO_BINDTODEVICE, (&raw mut none).cast(), size_of_val(&none) as i32);
    }
}
