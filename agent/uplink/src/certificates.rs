//! Metrics of certificates: how long they are still valid.

use std::fmt;

use callgate_mtls::ClientTls;
use callgate_observe::seconds_until;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

/// Names `callgate_certificate_expiry_seconds` in `registry`.
pub(crate) fn register(tls: ClientTls, registry: &mut Registry) {
    registry.register_collector(Box::new(Certificates(tls)));
}

#[derive(Debug)]
struct Certificates(ClientTls);

impl Collector for Certificates {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Time until a certificate expires; negative when it has";
        let name = "callgate_certificate_expiry";
        let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
        let own = self.0.condition().certificate.map(|own| own.expires);
        let theirs = self.0.collector_certificate().map(|theirs| theirs.expires);
        for (of, expires) in [("agent", own), ("collector", theirs)] {
            if let Some(expires) = expires {
                ConstGauge::new(seconds_until(expires)).encode(family.encode_family(&[("of", of)])?)?;
            }
        }
        Ok(())
    }
}
