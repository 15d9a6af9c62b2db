//! What the uplink counts. No labels: one agent has one uplink.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// Counters and gauges of one uplink; clones share their values.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// 1 while records flow, else 0.
    pub connected: Gauge,
    /// 1 while the collector and the spool have different histories, else 0.
    pub broken: Gauge,
    /// Connections to the collector that came about.
    pub connections: Counter,
    /// Shipments that ended by an error, tries to connect included.
    pub failures: Counter,
    /// Records sent, those sent again included.
    pub records: Counter,
    /// Bytes of bodies sent.
    pub bytes: Counter,
    /// Last record acknowledged.
    pub acked_seq: Gauge<u64, AtomicU64>,
    /// Records on disk that are not acknowledged yet.
    pub lag: Gauge<u64, AtomicU64>,
}

impl Metrics {
    /// Names the metrics in `registry`, all with the prefix `callgate_uplink`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("callgate_uplink");
        registry.register("connected", "1 while records flow to the collector", self.connected.clone());
        registry.register("broken", "1 while collector and spool disagree on what was recorded", self.broken.clone());
        registry.register("connections", "Connections to the collector", self.connections.clone());
        registry.register("failures", "Shipments that ended by an error", self.failures.clone());
        registry.register("records", "Records sent, repetitions included", self.records.clone());
        registry.register_with_unit("sent", "Bytes of record bodies sent", Unit::Bytes, self.bytes.clone());
        registry.register("acked_seq", "Last record acknowledged by the collector", self.acked_seq.clone());
        registry.register("lag", "Records on disk and not acknowledged yet", self.lag.clone());
    }
}
