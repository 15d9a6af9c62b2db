//! What went past the gate while no agent was alive, of enrolments that fail open.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, SystemTime};

use aya::maps::{HashMap, MapData, MapError};
use callgate_ebpf_common::Past;
use callgate_model::CgroupId;
use tracing::warn;

use crate::redirect::lock;
use crate::syscall::{monotonic, take};
use crate::{Redirect, RedirectError};

/// What of one enrolment nobody looked into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PastTheGate {
    /// The enrolled cgroup.
    pub cgroup: CgroupId,
    /// How many connections.
    pub connections: u64,
    /// How many datagrams of DNS.
    pub questions: u64,
    /// When the first one left.
    pub first: SystemTime,
    /// When the last one left.
    pub last: SystemTime,
}

/// Map `PAST`.
#[derive(Debug)]
pub struct PastMap {
    map: HashMap<MapData, u64, Past>,
    fd: OwnedFd,
    stale_after: Duration,
}

impl PastMap {
    pub fn new(map: MapData, stale_after: Duration) -> Result<Self, RedirectError> {
        let failed = |source: MapError| RedirectError::Map { map: "PAST", source: Box::new(source) };
        let fd = map.fd().as_fd().try_clone_to_owned().map_err(|error| failed(MapError::IoError(error)))?;
        let map = aya::maps::Map::from_map_data(map).and_then(HashMap::try_from).map_err(failed)?;
        Ok(Self { map, fd, stale_after })
    }
}

impl Redirect {
    /// When an agent lived last, this one or one before; none if none did since the programs were loaded.
    #[must_use]
    pub fn last_beat(&self) -> Option<SystemTime> {
        let beat = lock(&self.heartbeat).get(&0, 0).ok().filter(|beat| *beat > 0)?;
        SystemTime::now().checked_sub(monotonic().saturating_sub(Duration::from_nanos(beat)))
    }

    /// Takes what went past the gate since it was asked last, also by an earlier process: each connection is told of
    /// once. Nothing while the heartbeat is stale: then connections are being counted, and one that is counted while its
    /// counter is taken would be lost.
    #[must_use]
    pub fn take_past(&self) -> Vec<PastTheGate> {
        let now = monotonic();
        let beat = lock(&self.heartbeat).get(&0, 0).map_or(Duration::ZERO, Duration::from_nanos);
        if now.saturating_sub(beat) > self.past.stale_after {
            return Vec::new();
        }
        let wall = SystemTime::now();
        let at = |ns: u64| wall - now.saturating_sub(Duration::from_nanos(ns));
        let keys: Vec<u64> = self.past.map.keys().flatten().collect();
        let told = |key: u64| match take::<u64, Past>(self.past.fd.as_fd(), &key) {
            Ok(past) => Some(PastTheGate {
                cgroup: CgroupId(key),
                connections: past.connections,
                questions: past.questions,
                first: at(past.first_ns),
                last: at(past.last_ns),
            }),
            Err(error) => {
                warn!(cgroup = key, %error, "what went past the gate cannot be told");
                None
            }
        };
        keys.into_iter().filter_map(told).collect()
    }
}
