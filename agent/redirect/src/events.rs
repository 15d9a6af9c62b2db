//! What the kernel refused, as it happens.

use std::net::{IpAddr, SocketAddr};

use aya::maps::{MapData, MapError, RingBuf};
use callgate_ebpf_common::{Address, Event, Refusal};
use callgate_model::{CgroupId, KernelDenial, KernelEvent, NetnsCookie};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::warn;

use crate::RedirectError;
use crate::pins::Pins;

/// Reads the ring buffer of refusals. The buffer is pinned: what was refused while no agent read is still there, up to
/// its size; what found no room is counted in [`Stats::events_lost`](crate::Stats::events_lost).
///
/// One at a time: two would take events from each other.
pub struct Events(AsyncFd<RingBuf<MapData>>);

impl Events {
    pub(crate) fn open(pins: &Pins) -> Result<Self, RedirectError> {
        let failed = |source: MapError| RedirectError::Map { map: "EVENTS", source: Box::new(source) };
        let data = MapData::from_pin(pins.map("EVENTS")).map_err(failed)?;
        let ring: RingBuf<MapData> = aya::maps::Map::from_map_data(data).and_then(RingBuf::try_from).map_err(failed)?;
        // SAFETY: `RingBuf` owns its map's descriptor and always answers with that one.
        let registered = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
        registered.map(Self).map_err(|error| RedirectError::Events(error.into_parts().1))
    }

    /// The next refusal. `workload` is left empty: the roster knows it by `cgroup`; and so is `cgroup_path`.
    ///
    /// # Errors
    /// [`RedirectError::Events`] when the reactor is gone.
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<KernelDenial, RedirectError> {
        loop {
            if let Some(denial) = self.0.get_mut().next().and_then(|item| denial(&item)) {
                return Ok(denial);
            }
            let mut ready = self.0.readable_mut().await.map_err(RedirectError::Events)?;
            // Empty once more, after the wake-up: only then may the next one be waited for.
            if let Some(item) = ready.get_inner_mut().next() {
                if let Some(denial) = denial(&item) {
                    return Ok(denial);
                }
                continue;
            }
            ready.clear_ready();
        }
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}

fn denial(item: &[u8]) -> Option<KernelDenial> {
    let Some(event) = parse(item) else {
        warn!(len = item.len(), "an event that is not of this build: skipped");
        return None;
    };
    let event_kind = kind(Refusal::from_number(event.cause)?);
    Some(KernelDenial {
        event: event_kind,
        workload: String::new(),
        // Where nothing is enrolled, the task's own cgroup says what is meant; a packet has no task.
        cgroup: match (event_kind, event.cgroup) {
            (KernelEvent::Unclassified, task) if task != 0 => CgroupId(task),
            _ => CgroupId(event.enrolled),
        },
        cgroup_path: String::new(),
        netns: NetnsCookie(event.netns),
        pid: event.pid,
        uid: event.uid,
        destination: destination(&event),
        family: event.family,
        socket_type: event.socket_type,
        protocol: event.protocol,
        observed: event.observed != 0,
    })
}

fn parse(item: &[u8]) -> Option<Event> {
    if item.len() != size_of::<Event>() {
        return None;
    }
    // SAFETY: as many bytes as an event has, of which any are valid; the read needs no alignment.
    Some(unsafe { std::ptr::read_unaligned(item.as_ptr().cast::<Event>()) })
}

fn destination(event: &Event) -> String {
    if event.destination == Address::default() && event.port == 0 {
        return String::new();
    }
    let port = u16::try_from(event.port).unwrap_or_default();
    SocketAddr::new(IpAddr::from(event.destination), port).to_string()
}

fn kind(cause: Refusal) -> KernelEvent {
    match cause {
        Refusal::Stale => KernelEvent::Stale,
        // The listener could not be told of the connection; the counters keep the two apart.
        Refusal::NoListener | Refusal::Exhausted => KernelEvent::NoListener,
        Refusal::Udp => KernelEvent::Udp,
        Refusal::Protocol => KernelEvent::Protocol,
        Refusal::Egress => KernelEvent::Egress,
        Refusal::OwnPort => KernelEvent::OwnPort,
        Refusal::Foreign => KernelEvent::Foreign,
        Refusal::Unclassified => KernelEvent::Unclassified,
        Refusal::Dot => KernelEvent::Dot,
    }
}
