//! Indices into the counters that the programs keep.

use crate::Refusal;

/// Length of the counters' map.
pub const STATS: u32 = 32;

/// One counter each. The refusals have theirs too: see [`Stat::refused`].
///
/// Programs write (per CPU), the agent reads and sums.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stat {
    /// TCP connections sent to a listener of ours.
    Redirected = 0,
    /// DNS datagrams, or `connect()` of datagram sockets, sent to our resolver.
    Dns = 1,
    /// Refusals and observations that found no room in the ring buffer, or came too fast.
    EventsLost = 2,
    /// Things let through in observe mode that would have been refused.
    Observed = 3,
    /// Connections whose source address and port another one, not yet accepted, had: refused, never mixed up.
    Contested = 4,
    /// TCP connections that went past the gate: no agent was alive, and their enrolments fail open.
    Past = 5,
}

impl Stat {
    /// Where refusals for `cause` are counted. 16 and up.
    #[must_use]
    #[inline(always)]
    pub const fn refused(cause: Refusal) -> u32 {
        16 + cause as u32
    }
}

const _: () = assert!(Stat::refused(Refusal::Dot) < STATS);
