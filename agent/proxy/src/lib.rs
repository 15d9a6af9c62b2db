//! The data path: from an accepted connection of a workload to the service that it calls, and back.
//!
//! [`Listener`] accepts, [`connection`] conducts one connection through the stops,
//! `http` carries the calls of a connection, `dial` reaches the service.
//! Nothing here knows how the kernel redirects: that is behind [`Ground`].
//! Nothing here decides: that is `callgate-policy`, whose permits `dial` and `http` ask for.

mod bulk;
mod connection;
mod counted;
mod dial;
mod dns;
mod facts;
mod gate;
mod ground;
mod http;
mod listener;
mod masks;
mod metrics;
mod names;
mod opening;
mod own_ports;
mod refuse;
mod relay;
mod replay;
mod tally;
mod through;
mod tls;
mod traces;
mod unopened;
mod workers;

pub use dns::{Dns, DnsListener};
pub use gate::{Gate, Limits};
pub use ground::Ground;
pub use listener::{Listener, Pulse};
pub use masks::Masks;
pub use metrics::Metrics;
pub use names::{DeclaredServices, Names};
pub use own_ports::OwnPorts;
pub use refuse::{Refusal, grpc_status_of, status_of};
pub use tally::{Tallies, Tally};
pub use tls::UpstreamTls;
pub use traces::{CallSpan, Ended, Traces};
pub use unopened::Unopened;
pub use workers::Workers;
