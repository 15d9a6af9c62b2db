//! The programs' counters, summed over the CPUs.

use aya::maps::{MapData, PerCpuArray};
use callgate_ebpf_common::{Refusal, Stat};

/// Counters since the maps were first pinned: they outlive the agent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// TCP connections sent to a listener of ours.
    pub redirected: u64,
    /// DNS datagrams, or `connect()` of datagram sockets, sent to our resolver.
    pub dns: u64,
    /// Things let through in observe mode that would have been refused.
    pub observed: u64,
    /// Connections that could not be told from another one with the same source, and were refused.
    pub contested: u64,
    /// TCP connections that went past the gate while no agent was alive.
    pub past: u64,
    /// Refusals and observations of which no event could be made.
    pub events_lost: u64,
    /// Refusals by cause, in the order of [`Refusal::ALL`]. A dropped packet that is sent again counts again.
    pub refused: Vec<(Refusal, u64)>,
}

impl Stats {
    /// Refusals for one cause.
    #[must_use]
    pub fn refused(&self, cause: Refusal) -> u64 {
        self.refused.iter().find(|(one, _)| *one == cause).map_or(0, |(_, count)| *count)
    }

    pub(crate) fn read(map: &PerCpuArray<MapData, u64>) -> Self {
        // A counter that cannot be read is 0: the map is ours and the index fixed, so that is a bug and no outage.
        let read = |index: u32| map.get(&index, 0).map_or(0, |cpus| cpus.iter().sum());
        Self {
            redirected: read(Stat::Redirected as u32),
            dns: read(Stat::Dns as u32),
            observed: read(Stat::Observed as u32),
            contested: read(Stat::Contested as u32),
            past: read(Stat::Past as u32),
            events_lost: read(Stat::EventsLost as u32),
            refused: Refusal::ALL.into_iter().map(|cause| (cause, read(Stat::refused(cause)))).collect(),
        }
    }
}
