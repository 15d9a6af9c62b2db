//! Everything that connections share, made once at start.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use callgate_audit::Recorder;
use callgate_enroll::{Pods, Roster};
use callgate_identity::callers::Issuers;
use callgate_identity::{Attestor, Authority};
use callgate_policy::PolicySet;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{Dns, Ground, Masks, Metrics, Names, OwnPorts, Tallies, Traces, Unopened, UpstreamTls, Workers};

/// The shared, read-only context of the data path.
pub struct Gate {
    /// The kernel's side.
    pub ground: Arc<dyn Ground>,
    /// Which cgroups are enrolled.
    pub roster: Arc<Roster>,
    /// The policy set in force; replaced whole.
    pub policies: Arc<ArcSwap<PolicySet>>,
    /// Our CA.
    pub authority: Arc<Authority>,
    /// How upstream servers are verified.
    pub upstream_tls: UpstreamTls,
    /// Tells which process and executable opened a connection.
    pub attestor: Arc<Attestor>,
    /// What the cluster's API says of pods; none where there is no cluster.
    pub pods: Option<Arc<Pods>>,
    /// What maskers go by.
    pub masks: Masks,
    /// Verify the tokens of callers.
    pub issuers: Arc<Issuers>,
    /// Where records go.
    pub recorder: Recorder,
    /// Proves names of plain-text calls.
    pub names: Names,
    /// Answers questions of DNS.
    pub dns: Dns,
    /// Ports that no workload may reach through us.
    pub own_ports: OwnPorts,
    /// Counters.
    pub metrics: Metrics,
    /// Makes spans of calls; none: nobody follows them.
    pub traces: Option<Traces>,
    /// Counters per workload.
    pub tallies: Tallies,
    /// In observe mode, TLS that is not opened because clients refused our certificate.
    pub unopened: Unopened,
    /// Times and counts.
    pub limits: Limits,
    /// Carry the connections.
    pub workers: Workers,
    /// One permit per open connection.
    pub connections: Arc<Semaphore>,
    /// One permit per KiB of bodies that are held back until policy has judged their arguments.
    pub held_back: Arc<Semaphore>,
    /// Cancelled when the agent stops: connections finish their call and close.
    pub stopping: CancellationToken,
}

/// Bounds of the data path.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most open connections of all workloads together.
    pub connections: usize,
    /// Longest wait for bytes that tell the protocol.
    pub opening: Duration,
    /// Wait for first bytes of a client to whose service an explicit connect permit stands:
    /// a client that stays silent this long speaks a protocol in which the server speaks first.
    pub server_first: Duration,
    /// Longest TLS handshake, on either side.
    pub handshake: Duration,
    /// Longest TCP connect to a service.
    pub connect: Duration,
    /// Longest wait for the rest of a request's head, and for the next request of an idle connection.
    pub head: Duration,
    /// Longest wait for open calls when the agent stops.
    pub drain: Duration,
    /// Most calls that are open on one connection of HTTP/2.
    pub streams: u32,
    /// Longest body whose arguments are judged. Unit: bytes.
    pub arguments: usize,
}

impl Limits {
    /// Most of all bodies together that are held back for their arguments. Unit: KiB. Source: ours; 256 of the largest.
    pub const HELD_BACK_KIB: usize = 256 << 10;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            opening: Duration::from_secs(10),
            server_first: Duration::from_millis(200),
            handshake: Duration::from_secs(10),
            connect: Duration::from_secs(30),
            head: Duration::from_secs(120),
            drain: Duration::from_secs(10),
            streams: 256,
            arguments: 1 << 20,
        }
    }
}
