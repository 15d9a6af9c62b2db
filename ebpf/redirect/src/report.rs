//! Refusing: the errno, the counter, the event, and the debug line; and the bound on how many events there are.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_set_retval};
use aya_log_ebpf::debug;
use callgate_ebpf_common::{Address, Event, Refusal, Stat};

use crate::caller::Caller;
use crate::context::Attempt;
use crate::maps::{EVENTS, WINDOW, count, count_one};

pub const PASS: i32 = 1;
pub const REFUSE: i32 = 0;

/// Most events that one CPU reports in a second; the rest is counted. Each one wakes the agent, so a workload that
/// floods a refused destination could keep it busy.
const REPORTS_PER_SECOND: u64 = 1_000;
const SECOND_NS: u64 = 1_000_000_000;

impl Attempt {
    /// An attempt of which nothing but the socket is known.
    #[inline(always)]
    pub fn of_socket(netns: u64, family: u32, socket_type: u32, protocol: u32) -> Self {
        Self { to: Address::default(), port: 0, netns, family, socket_type, protocol }
    }
}

/// Refuses in either mode: there is nothing that could be let through instead.
#[inline(always)]
pub fn refuse<C: EbpfContext>(ctx: &C, caller: &Caller, attempt: &Attempt, cause: Refusal) -> i32 {
    unsafe { bpf_set_retval(-cause.errno()) };
    report(ctx, caller, attempt, cause, false);
    REFUSE
}

/// Refuses where the enrolment enforces; lets through and reports where it observes.
#[inline(always)]
pub fn refuse_unless_observed<C: EbpfContext>(ctx: &C, caller: &Caller, attempt: &Attempt, cause: Refusal) -> i32 {
    if caller.observed {
        report(ctx, caller, attempt, cause, true);
        return PASS;
    }
    refuse(ctx, caller, attempt, cause)
}

/// Counts and reports, decides nothing.
#[inline(always)]
pub fn report<C: EbpfContext>(ctx: &C, caller: &Caller, attempt: &Attempt, cause: Refusal, observed: bool) {
    if observed {
        count_one(Stat::Observed);
    } else {
        count(Stat::refused(cause));
    }
    debug!(ctx, "cause {} pid {} port {} observed {}", cause as u32, caller.pid, attempt.port, u32::from(observed));
    let now = unsafe { bpf_ktime_get_ns() };
    if !within_bound(now) {
        return count_one(Stat::EventsLost);
    }
    let Some(mut entry) = EVENTS.reserve::<Event>(0) else { return count_one(Stat::EventsLost) };
    entry.write(Event {
        at_ns: now,
        enrolled: caller.enrolled,
        cgroup: caller.cgroup,
        netns: attempt.netns,
        destination: attempt.to,
        cause: cause as u32,
        observed: u32::from(observed),
        pid: caller.pid,
        uid: caller.uid,
        family: attempt.family,
        socket_type: attempt.socket_type,
        protocol: attempt.protocol,
        port: u32::from(attempt.port),
    });
    // No flag: wakes the agent unless it is still busy with earlier ones.
    entry.submit(0);
}

#[inline(always)]
fn within_bound(now: u64) -> bool {
    let Some(window) = WINDOW.get_ptr_mut(0) else { return false };
    unsafe {
        if now.wrapping_sub((*window).began_ns) > SECOND_NS {
            (*window).began_ns = now;
            (*window).reports = 0;
        }
        (*window).reports += 1;
        (*window).reports <= REPORTS_PER_SECOND
    }
}
