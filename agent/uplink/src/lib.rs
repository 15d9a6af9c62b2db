//! The gRPC client that ships records to the collector.
//!
//! [`Uplink`] reads the spool from where the collector says it stands, ships batches with a bounded number of bytes in
//! flight, and passes acknowledgements to the spool, which frees what is acknowledged. It connects again for ever, with
//! growing pauses. Never decides and never drops a record: what cannot be shipped stays in the spool, whose bound is
//! where a long outage is felt.
//!
//! One connection is in `shipment`; what makes another try useless (the collector and the spool have different
//! histories) is a [`Breach`] there, shown as [`UplinkState::Broken`] and tried again rarely.

mod backoff;
mod certificates;
mod endpoint;
mod error;
mod metrics;
mod shipment;
mod status;
mod uplink;

pub use callgate_mtls::{Certificate, ClientTls, Role, TlsError, TlsFiles, days_until, request};
pub use endpoint::{Endpoint, EndpointError, Route};
pub use error::{Breach, ShipError};
pub use metrics::Metrics;
pub use status::{UplinkState, UplinkStatus};
pub use uplink::Uplink;
