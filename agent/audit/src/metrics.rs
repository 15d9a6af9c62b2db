//! What the recorder counts. No labels: one agent has one spool.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// Counters and gauges of one spool; clones share their values.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Records sealed.
    pub records: Counter,
    /// Bytes sealed, entry heads included.
    pub bytes: Counter,
    /// Group commits (`fdatasync` calls).
    pub commits: Counter,
    /// Calls and records refused because the spool or its disk was full, or had failed.
    pub refused: Counter,
    /// Pieces of bodies left out because the spool was full.
    pub chunks_dropped: Counter,
    /// Segments freed after acknowledgement.
    pub segments_freed: Counter,
    /// Calls open now.
    pub open_calls: Gauge,
    /// Size of the spool on disk.
    pub size: Gauge,
    /// 1 once the spool has failed, else 0.
    pub failed: Gauge,
}

impl Metrics {
    /// Names the metrics in `registry`, all with the prefix `callgate_audit`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("callgate_audit");
        registry.register("records", "Records sealed", self.records.clone());
        registry.register_with_unit("written", "Bytes sealed", Unit::Bytes, self.bytes.clone());
        registry.register("commits", "Group commits to disk", self.commits.clone());
        registry.register("refused", "Calls and records refused by a full or failed spool", self.refused.clone());
        registry.register("chunks_dropped", "Body pieces left out by a full spool", self.chunks_dropped.clone());
        registry.register("segments_freed", "Segments freed after acknowledgement", self.segments_freed.clone());
        registry.register("open_calls", "Calls open now", self.open_calls.clone());
        registry.register_with_unit("spool_size", "Size of the spool on disk", Unit::Bytes, self.size.clone());
        registry.register("spool_failed", "1 once the spool has failed", self.failed.clone());
    }
}
