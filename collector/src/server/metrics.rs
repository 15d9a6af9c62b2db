//! What the collector counts. Labels are of closed lists alone: no node, stream or peer.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use callgate_mtls::ServerTls;
use callgate_observe::seconds_until;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::{Ingested, Store};

/// Upper bounds of a batch's time in the store. Unit: seconds.
const STORE_SECONDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];

/// Counters and gauges of one collector; clones share their values.
#[derive(Clone, Debug)]
pub struct Metrics {
    batches: Counter,
    records: Counter,
    duplicates: Counter,
    refused: Family<RefusedLabels, Counter>,
    streams: Gauge,
    seconds: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    why: Refusal,
}

/// Why something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the derive writes the variants as they are, and labels are lower case")]
pub(super) enum Refusal {
    /// Records that do not fit their chain: an operator must look.
    chain,
    /// The store failed.
    store,
    /// The certificate does not name the node whose stream it is.
    rights,
    /// Not what the contract says.
    malformed,
    /// Too many shipments at once.
    busy,
    /// A TLS handshake that failed.
    handshake,
    /// A local peer that sits in an enrolled cgroup, or cannot be placed.
    peer,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            batches: Counter::default(),
            records: Counter::default(),
            duplicates: Counter::default(),
            refused: Family::default(),
            streams: Gauge::default(),
            seconds: Histogram::new(STORE_SECONDS),
        }
    }
}

impl Metrics {
    /// Names the metrics in `registry`, with the prefix `callgate_collector`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("callgate_collector");
        registry.register("batches", "Batches stored", self.batches.clone());
        registry.register("records", "Records stored", self.records.clone());
        registry.register("duplicates", "Records that came again and were skipped", self.duplicates.clone());
        registry.register("refused", "Shipments, batches and connections refused", self.refused.clone());
        registry.register("streams_open", "Streams that are shipped now", self.streams.clone());
        registry.register_with_unit("store", "Time to store a batch durably", Unit::Seconds, self.seconds.clone());
    }

    pub(super) fn stored(&self, done: &Ingested, took: Duration) {
        self.batches.inc();
        self.records.inc_by(done.stored);
        self.duplicates.inc_by(done.duplicates);
        self.seconds.observe(took.as_secs_f64());
    }

    pub(super) fn refused(&self, why: Refusal) {
        self.refused.get_or_create(&RefusedLabels { why }).inc();
    }

    /// A stream is open until what this gives is dropped.
    pub(super) fn open(&self) -> OpenStream {
        self.streams.inc();
        OpenStream(self.streams.clone())
    }
}

/// A stream that is shipped.
pub(super) struct OpenStream(Gauge);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Names `callgate_collector_store_size_bytes`, which is looked at when it is asked for, once the store is open.
pub(crate) fn register_store(store: Arc<OnceLock<Store>>, registry: &mut Registry) {
    registry.register_collector(Box::new(StoreSize(store)));
}

/// Names `callgate_certificate_expiry_seconds{of="collector"}`.
pub(crate) fn register_certificate(tls: ServerTls, registry: &mut Registry) {
    registry.register_collector(Box::new(Expiry(tls)));
}

#[derive(Debug)]
struct StoreSize(Arc<OnceLock<Store>>);

impl Collector for StoreSize {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        // Unknown is no number: the metric is absent then.
        let Some(Ok(bytes)) = self.0.get().map(Store::size) else { return Ok(()) };
        let gauge = ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX));
        let help = "Size of the store's files on disk";
        let name = "callgate_collector_store_size";
        gauge.encode(encoder.encode_descriptor(name, help, Some(&Unit::Bytes), MetricType::Gauge)?)
    }
}

#[derive(Debug)]
struct Expiry(ServerTls);

impl Collector for Expiry {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Time until a certificate expires; negative when it has";
        let name = "callgate_certificate_expiry";
        let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
        if let Some(own) = self.0.condition().certificate {
            ConstGauge::new(seconds_until(own.expires)).encode(family.encode_family(&[("of", "collector")])?)?;
        }
        Ok(())
    }
}
