//! What is counted.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Whom a certificate is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, EncodeLabelValue)]
pub enum Kind {
    Authority,
    Collector,
    Reader,
    Node,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct For {
    of: Kind,
}

/// Numbers of one controller. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    issued: Family<For, Counter>,
    denied: Counter,
}

impl Metrics {
    /// Names them in `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let issued = metrics.issued.clone();
        registry.register("callgate_controller_certificates_issued", "Certificates issued", issued);
        let denied = metrics.denied.clone();
        registry.register("callgate_controller_requests_denied", "Requests for a node's certificate denied", denied);
        metrics
    }

    /// A certificate was issued.
    pub fn issued(&self, of: Kind) {
        self.issued.get_or_create(&For { of }).inc();
    }

    /// A request was denied.
    pub fn denied(&self) {
        self.denied.inc();
    }
}
