//! What is measured: one row for each kind of load.

use callgate_harness::load::Protocol;
use serde::Serialize;

use crate::marks::{self, Mark};

/// One kind of load.
pub struct Row {
    /// Name in the table.
    pub name: &'static str,
    pub protocol: Protocol,
    pub tls: bool,
    pub path: &'static str,
    pub connections: u64,
    pub streams: u64,
    /// A new connection for each call.
    pub fresh: bool,
    /// Calls of one round; none: as many as the time allows.
    pub calls: Option<u64>,
    /// Calls each second; none: closed loop.
    pub rate: Option<f64>,
    /// With a collector that takes the records; else they stay in the spool.
    pub draining: bool,
    /// What the gate's figures are held against.
    pub mark: Option<Mark>,
}

/// Connections of HTTP/1.1, and calls at once. Source: ten for each core of the reference machine.
const CONNECTIONS: u64 = 20;

/// A fixed rate that every way can serve with cores to spare on the reference machine: latency, not saturation.
const RATE: f64 = 1000.0;

/// Calls with a connection each, in one round. Ports in TIME_WAIT bound it: 28,000 to one destination in 60 s
/// (`net.ipv4.ip_local_port_range`), for three ways in five rounds.
const FRESH: u64 = 1500;

/// 100 MiB.
const DOWNLOAD: &str = "/bytes/104857600";

const KIB: Row = Row {
    name: "",
    protocol: Protocol::Http1,
    tls: true,
    path: "/v1/kib",
    connections: CONNECTIONS,
    streams: 1,
    fresh: false,
    calls: None,
    rate: None,
    draining: false,
    mark: None,
};

const GRPC: Row = Row {
    protocol: Protocol::Grpc,
    path: "/bench.Echo/Unary",
    // Two channels, so that neither side is bound to one core.
    connections: 2,
    streams: 25,
    ..KIB
};

/// All of them. The names are what `FILTER` looks at.
pub const ROWS: &[Row] = &[
    Row { name: "h1 keep-alive, 1 KiB JSON, TLS", mark: Some(marks::KEEP_ALIVE), ..KIB },
    Row { name: "h1 keep-alive, 1 KiB JSON, plain", tls: false, ..KIB },
    Row { name: "h2, 100 streams, 1 KiB JSON, TLS", protocol: Protocol::Http2, connections: 1, streams: 100, ..KIB },
    Row { name: "gRPC unary, TLS", mark: Some(marks::GRPC), ..GRPC },
    Row { name: "new connection per call, TLS", fresh: true, calls: Some(FRESH), ..KIB },
    Row { name: "new connection per call, plain", tls: false, fresh: true, calls: Some(FRESH), ..KIB },
    Row {
        name: "download of 100 MiB, TLS",
        path: DOWNLOAD,
        connections: 1,
        calls: Some(4),
        mark: Some(marks::DOWNLOAD),
        ..KIB
    },
    Row { name: "h1 at 1,000/s, 1 KiB JSON, TLS", rate: Some(RATE), ..KIB },
    Row {
        name: "h2 at 1,000/s, 1 KiB JSON, TLS",
        protocol: Protocol::Http2,
        connections: 1,
        streams: 100,
        rate: Some(RATE),
        ..KIB
    },
    Row { name: "gRPC unary at 1,000/s, TLS", rate: Some(RATE), ..GRPC },
    Row { name: "h1 keep-alive, 1 KiB JSON, TLS, collector draining", draining: true, ..KIB },
];

/// A way from the caller to the upstream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Nothing in between.
    Direct,
    /// Redirected to a relay of bytes.
    Relay,
    /// Redirected to Callgate.
    Gate,
}

impl Way {
    pub const ALL: [Way; 3] = [Way::Direct, Way::Relay, Way::Gate];

    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Relay => "bare relay",
            Self::Gate => "Callgate",
        }
    }
}

impl Row {
    pub fn is_download(&self) -> bool {
        self.path == DOWNLOAD
    }
}
