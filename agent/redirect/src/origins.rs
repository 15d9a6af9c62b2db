//! Where a redirected connection was going.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aya::maps::{HashMap, MapData, MapError};
use callgate_ebpf_common::{OriginRecord, TupleKey};
use callgate_model::{CgroupId, Executed, Monotonic, NetnsCookie, Origin};
use tracing::{debug, warn};

use crate::RedirectError;
use crate::syscall::{monotonic, take_record};

/// When records are forgotten that nobody took.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Age at which one belongs to nothing that could still be accepted or read.
    pub abandoned: Duration,
    /// Time between two looks.
    pub sweep: Duration,
}

impl Patience {
    /// Source: the kernel half's `ABANDONED_NS`.
    pub const CONNECTIONS: Self = Self { abandoned: Duration::from_secs(60), sweep: Duration::from_secs(30) };
}

/// Map `ORIGINS`, or one like it.
#[derive(Debug)]
pub struct Origins {
    map: HashMap<MapData, TupleKey, OriginRecord>,
    fd: std::os::fd::OwnedFd,
    swept: Mutex<Duration>,
    patience: Patience,
}

impl Origins {
    pub fn new(map: MapData, name: &'static str, patience: Patience) -> Result<Self, RedirectError> {
        let failed = |source: MapError| RedirectError::Map { map: name, source: Box::new(source) };
        let fd = map.fd().as_fd().try_clone_to_owned().map_err(|error| failed(MapError::IoError(error)))?;
        let map = aya::maps::Map::from_map_data(map).and_then(HashMap::try_from).map_err(failed)?;
        Ok(Self { map, fd, swept: Mutex::new(monotonic()), patience })
    }

    /// Takes the record of the connection that `peer` opened.
    pub fn take(&self, netns: NetnsCookie, peer: SocketAddr) -> Option<Origin> {
        let key = TupleKey { netns: netns.0, source: peer.ip().into(), port: peer.port().into(), padding: 0 };
        let record = match take_record(self.fd.as_fd(), &key) {
            Ok(record) => record,
            Err(error) => {
                debug!(%peer, %error, "no record of where the connection was going");
                return None;
            }
        };
        if record.contested != 0 {
            warn!(%peer, "two connections had the same source at once: refused, as they cannot be told apart");
            return None;
        }
        Some(origin(&record))
    }

    /// Takes the record of `key` as it is.
    pub fn take_record(&self, key: &TupleKey) -> Option<OriginRecord> {
        take_record(self.fd.as_fd(), key).ok()
    }

    /// Forgets everything: for when no living socket can be behind any record.
    pub fn clear(&self) {
        for key in self.map.keys().flatten() {
            let _gone_already = take_record(self.fd.as_fd(), &key);
        }
    }

    /// Records that nobody has taken yet.
    pub fn len(&self) -> usize {
        self.map.keys().flatten().count()
    }

    /// Every [`Patience::sweep`], forgets what was abandoned: connections whose accept queue died, or overflowed.
    pub fn sweep(&self) {
        let now = monotonic();
        {
            let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
            if now.saturating_sub(*swept) < self.patience.sweep {
                return;
            }
            *swept = now;
        }
        let old = |record: &OriginRecord| {
            now.saturating_sub(Duration::from_nanos(record.stored_ns)) > self.patience.abandoned
        };
        for (key, record) in self.map.iter().flatten() {
            // A young record may have come in place of the old one since: its connection is refused, not mixed up.
            if old(&record) && take_record(self.fd.as_fd(), &key).is_ok() {
                debug!(pid = record.pid, "forgot a connection that nobody accepted");
            }
        }
    }
}

pub fn origin(record: &OriginRecord) -> Origin {
    Origin {
        destination: SocketAddr::new(IpAddr::from(record.destination), record.port),
        enrolled: CgroupId(record.enrolled),
        cgroup: CgroupId(record.cgroup),
        netns: NetnsCookie(record.netns),
        pid: record.pid,
        uid: record.uid,
        gid: record.gid,
        connected_at: Monotonic(Duration::from_nanos(record.connected_ns)),
        executed: executed(record),
    }
}

/// None where the warden noted nothing, or noted another process at an earlier `connect()` of the socket.
fn executed(record: &OriginRecord) -> Option<Executed> {
    let callgate_ebpf_common::Executed { start_ns, inode, device, pid } = record.executed;
    let device = rustix::fs::makedev(device >> 20, device & 0xf_ffff);
    (inode != 0 && pid == record.pid).then_some(Executed { start: Duration::from_nanos(start_ns), device, inode })
}
