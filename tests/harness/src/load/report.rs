//! What came of a load: each call's outcome, and the counts and latencies of all.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::latency::Latencies;

/// How one call ended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A whole answer came, with this status; of gRPC: with `grpc-status: 0`.
    Status(u16),
    /// A whole answer of gRPC came, with this status other than 0; 2 (unknown) where it had none.
    Grpc(u32),
    /// No connection: the error's kind (`ConnectionRefused`, `PermissionDenied`, `timeout`, …).
    NotConnected(String),
    /// Connected, but TLS failed.
    TlsFailed,
    /// The call was sent, at least in part, and no whole answer came.
    Broken,
}

/// What came of it. Latencies are those of calls with a status. Unit: microseconds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LoadReport {
    /// Calls made: the sum of all the counts below.
    pub calls: u64,
    /// Calls by the status of their answer.
    pub statuses: BTreeMap<u16, u64>,
    /// Calls of gRPC that were answered with another status than 0, by that status.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub grpc_failed: BTreeMap<u32, u64>,
    /// Calls that found no connection, by error kind.
    pub not_connected: BTreeMap<String, u64>,
    /// Calls whose TLS handshake failed.
    pub tls_failed: u64,
    /// Calls that broke in the middle: the upstream may have seen them or not.
    pub broken: u64,
    /// Connections that were established.
    pub connected: u64,
    /// Bytes of answers' bodies.
    pub body_bytes: u64,
    /// From the first call to the last answer. Unit: seconds.
    pub seconds: f64,
    /// Calls with a status, each second.
    pub per_second: f64,
    /// Shortest.
    pub min_us: u64,
    /// Half of the calls were faster.
    pub p50_us: u64,
    /// 90 of 100 were faster.
    pub p90_us: u64,
    /// 99 of 100 were faster.
    pub p99_us: u64,
    /// 999 of 1,000 were faster.
    #[serde(default)]
    pub p99_9_us: u64,
    /// Longest.
    pub max_us: u64,
    /// All of them, to be added to those of other runs.
    #[serde(default)]
    pub latencies: Latencies,
    /// Outcome of each call by its number, when asked for ([`run_with_outcomes`](super::run_with_outcomes)).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outcomes: Vec<(u64, Outcome)>,
}

impl LoadReport {
    /// Calls that were answered with `status`.
    pub fn status(&self, status: u16) -> u64 {
        self.statuses.get(&status).copied().unwrap_or(0)
    }

    /// Calls that found no connection, whatever the reason.
    pub fn refused(&self) -> u64 {
        self.not_connected.values().sum()
    }
}

/// What one lane counted.
#[derive(Default)]
pub(super) struct Tally {
    pub outcomes: Vec<(u64, Outcome)>,
    pub latencies: Latencies,
    pub connected: u64,
    pub body_bytes: u64,
}

impl Tally {
    pub fn add(&mut self, other: Tally) {
        self.outcomes.extend(other.outcomes);
        self.latencies.add(&other.latencies);
        self.connected += other.connected;
        self.body_bytes += other.body_bytes;
    }

    pub fn report(self, took: Duration) -> LoadReport {
        let latencies = self.latencies;
        let mut report = LoadReport {
            calls: self.outcomes.len() as u64,
            connected: self.connected,
            body_bytes: self.body_bytes,
            seconds: took.as_secs_f64(),
            per_second: latencies.count() as f64 / took.as_secs_f64(),
            min_us: latencies.min_us(),
            p50_us: latencies.within(0.5),
            p90_us: latencies.within(0.9),
            p99_us: latencies.within(0.99),
            p99_9_us: latencies.within(0.999),
            max_us: latencies.max_us(),
            latencies,
            ..LoadReport::default()
        };
        for (_, outcome) in &self.outcomes {
            match outcome {
                Outcome::Status(status) => *report.statuses.entry(*status).or_default() += 1,
                Outcome::Grpc(status) => *report.grpc_failed.entry(*status).or_default() += 1,
                Outcome::NotConnected(kind) => *report.not_connected.entry(kind.clone()).or_default() += 1,
                Outcome::TlsFailed => report.tls_failed += 1,
                Outcome::Broken => report.broken += 1,
            }
        }
        report.outcomes = self.outcomes;
        report
    }
}
