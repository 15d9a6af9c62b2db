//! Counters of the data path. Labels come from closed enums alone, so their number is bounded.

use std::time::Duration;

use callgate_model::{Latency, Outcome, Reason, Uninspected, Verdict};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Labels of a decided call.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    protocol: Word,
    verdict: Word,
    reason: Word,
}

/// Labels of an ended connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConnectionLabels {
    outcome: Word,
    reason: Word,
}

/// Labels of a call's time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TimeLabels {
    protocol: Word,
    verdict: Word,
}

/// Labels of a connection whose bytes pass as they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UninspectedLabels {
    why: Word,
}

/// A word of a closed list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Word(&'static str);

impl EncodeLabelValue for Word {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.encode(encoder)
    }
}

/// The data path's metrics; cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    calls: Family<CallLabels, Counter>,
    connections: Family<ConnectionLabels, Counter>,
    uninspected: Family<UninspectedLabels, Counter>,
    open: Gauge,
    decide: Histogram,
    time: Family<TimeLabels, Histogram, fn() -> Histogram>,
    masked: Counter,
    no_origin: Counter,
}

impl Metrics {
    /// Makes the metrics and registers them in `registry`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            calls: Family::default(),
            connections: Family::default(),
            uninspected: Family::default(),
            open: Gauge::default(),
            // 8 µs to 0.5 s.
            decide: Histogram::new(exponential_buckets(8e-6, 2.0, 17)),
            // 0.25 ms to 65 s.
            time: Family::new_with_constructor(|| Histogram::new(exponential_buckets(2.5e-4, 4.0, 10))),
            masked: Counter::default(),
            no_origin: Counter::default(),
        };
        registry.register("callgate_calls", "Calls decided", metrics.calls.clone());
        registry.register("callgate_connections", "Connections ended", metrics.connections.clone());
        registry.register(
            "callgate_connections_uninspected",
            "Connections whose bytes passed without being decoded",
            metrics.uninspected.clone(),
        );
        registry.register("callgate_connections_open", "Connections open", metrics.open.clone());
        registry.register(
            "callgate_decide_seconds",
            "From a call's complete head to its decision, begin record written",
            metrics.decide.clone(),
        );
        registry.register(
            "callgate_call_seconds",
            "From a call's complete head to the last byte of its answer, or to its refusal",
            metrics.time.clone(),
        );
        registry.register("callgate_masked_findings", "Findings replaced in responses", metrics.masked.clone());
        registry.register(
            "callgate_no_origin",
            "Connections closed because the kernel knew no original destination",
            metrics.no_origin.clone(),
        );
        metrics
    }

    pub(crate) fn call(&self, protocol: callgate_model::Protocol, verdict: Verdict, reason: Reason) {
        let (protocol, verdict) = (Word(protocol.as_str()), word(verdict));
        self.calls.get_or_create(&CallLabels { protocol, verdict, reason: Word(reason.as_str()) }).inc();
    }

    pub(crate) fn call_ended(&self, protocol: callgate_model::Protocol, verdict: Verdict, latency: &Latency) {
        let seconds = Duration::from_micros(latency.decide_us + latency.upstream_us + latency.body_us).as_secs_f64();
        let labels = TimeLabels { protocol: Word(protocol.as_str()), verdict: word(verdict) };
        self.time.get_or_create(&labels).observe(seconds);
    }

    pub(crate) fn decided(&self, seconds: f64) {
        self.decide.observe(seconds);
    }

    pub(crate) fn masked(&self, findings: u64) {
        self.masked.inc_by(findings);
    }

    pub(crate) fn no_origin(&self) {
        self.no_origin.inc();
    }

    /// Counts one open connection until the guard is dropped.
    pub(crate) fn open(&self) -> OpenConnection {
        self.open.inc();
        OpenConnection(self.open.clone())
    }

    pub(crate) fn uninspected(&self, why: Uninspected) {
        self.uninspected.get_or_create(&UninspectedLabels { why: Word(why.as_str()) }).inc();
    }

    pub(crate) fn ended(&self, outcome: Outcome, reason: Reason) {
        let outcome = match outcome {
            Outcome::Complete => "complete",
            Outcome::Refused => "refused",
            Outcome::Cut => "cut",
            Outcome::Interrupted => "interrupted",
        };
        let labels = ConnectionLabels { outcome: Word(outcome), reason: Word(reason.as_str()) };
        self.connections.get_or_create(&labels).inc();
    }
}

fn word(verdict: Verdict) -> Word {
    Word(match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
    })
}

/// One open connection in the gauge.
#[derive(Debug)]
pub(crate) struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}
