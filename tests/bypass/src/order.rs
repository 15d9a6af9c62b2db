//! What the exam tells the hostile program, and what that answers: one line of JSON each.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::vector::{Family, Way};

/// One attempt: which vector, as whom, and where everything is that it could abuse.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// Name of the row.
    pub vector: String,
    /// As whom.
    pub way: Way,
    /// Over which family, where the row has both.
    pub family: Family,
    /// What must never arrive; no other attempt has the same.
    pub nonce: String,
    /// Where the canaries are, for this attempt alone: no other one has the same address.
    pub to: IpAddr,
    /// Port of the canary that answers HTTP.
    pub port: u16,
    /// The link that leads to the canaries.
    pub device: String,
    /// Its index.
    pub device_index: u32,
    /// Our own address on it, of the attempt's family.
    pub source: IpAddr,
    /// The broadcast address on it.
    pub broadcast: Ipv4Addr,
    /// Where the agent listens for redirected connections.
    pub gate: Vec<SocketAddr>,
    /// Where the agent serves metrics.
    pub metrics: Option<SocketAddr>,
    /// The process that enforces; in a control, one of no importance.
    pub agent: u32,
    /// Its user.
    pub agent_uid: u32,
    /// The agent's control socket.
    pub control_socket: PathBuf,
    /// The collector's socket.
    pub collector_socket: PathBuf,
    /// Where the links of this cgroup are pinned; in a control, those of a cgroup of no importance.
    pub links: PathBuf,
    /// Where the maps are pinned.
    pub maps: PathBuf,
    /// The cgroup whose enrolment is attacked.
    pub cgroup_id: u64,
    /// The directory of the cgroup it is born in.
    pub cgroup: PathBuf,
    /// A cgroup that is not enrolled.
    pub elsewhere: PathBuf,
    /// The canaries' network namespace.
    pub far: PathBuf,
    /// A process outside of the cgroup, of the same user.
    pub helper: Option<Helper>,
    /// Those outside who start programs on request.
    pub starters: Starters,
    /// Whether it is born in the enrolled cgroup; else it is a control, which must reach what it can.
    pub inside: bool,
    /// How long a socket that should be cut is used. Unit: milliseconds.
    pub watched_ms: u64,
    /// Whether the process is as it should be already.
    pub settled: bool,
}

/// A process outside that does what it is asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Helper {
    /// Its id.
    pub pid: u32,
    /// Where it forwards on loopback.
    pub tcp: SocketAddr,
    /// Its unix socket.
    pub path: PathBuf,
    /// The name of its abstract unix socket.
    pub name: String,
    /// A descriptor of it that is a socket connected to the canary, if it was asked to have one.
    pub connected: Option<i32>,
}

/// Sockets of those who start programs; empty paths where there are none.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Starters {
    /// A daemon with a socket in `/run`.
    pub docker: PathBuf,
    /// A tmux server.
    pub tmux: PathBuf,
    /// A message bus with a service that it starts.
    pub bus: PathBuf,
}

/// What came of an attempt, as the hostile program sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Seen {
    /// What it saw.
    pub answer: Answer,
    /// From the first call of the vector to its answer. Unit: microseconds.
    pub latency_us: u64,
}

/// The kinds of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Everything was sent and nothing refused it; the canaries know the rest.
    Sent,
    /// The gate answered, and refused by policy.
    Gate,
    /// It got what it must not have.
    Breached(String),
    /// What it needs is not there.
    Absent(String),
    /// The kernel refused.
    Errno(i32),
    /// Something else went wrong.
    Failed(String),
    /// The process was killed by this signal.
    Killed(i32),
}

impl Order {
    /// The canary's address and HTTP port.
    pub fn canary(&self) -> SocketAddr {
        SocketAddr::new(self.to, self.port)
    }

    /// The canaries at another port.
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.to, port)
    }

    /// The request that carries the nonce.
    pub fn request(&self) -> String {
        format!("GET /{} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.nonce, self.canary())
    }

    /// Whether it is tried over IPv6.
    pub fn is_v6(&self) -> bool {
        self.family == Family::V6
    }
}
