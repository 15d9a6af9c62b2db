//! A load generator: N connections of M streams, in a closed loop or at a fixed rate.
//!
//! Closed loop: each stream sends its next call when it has the answer to the last. Fixed rate: see [`pace`].
//! Every call has exactly one outcome, a status or an error, so that the client's own count can be held against the
//! upstream's log and the collector's records. Calls are numbered from 0; `x-call-id` carries the number.

mod latency;
mod link;
mod pace;
mod report;
mod target;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::Method;
use tokio::task::JoinSet;

pub use latency::Latencies;
pub use report::{LoadReport, Outcome};

use link::Link;
use pace::Pace;
use report::Tally;
use target::Target;

/// What calls travel in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// One call at a time on a connection.
    Http1,
    /// Many; in plain text with prior knowledge.
    Http2,
    /// Unary calls over HTTP/2: the body is the message, the method is POST.
    Grpc,
}

/// What is to be called, and how often.
#[derive(Debug, Clone)]
pub struct LoadConfig {
    /// `http://…` or `https://…`; `{n}` becomes the call's number.
    pub url: String,
    /// Dial this address; the URL's host is still sent and verified.
    pub connect_to: Option<SocketAddr>,
    /// Certificates to trust, in PEM; needed for `https`.
    pub roots_pem: Option<String>,
    /// What the calls travel in.
    pub protocol: Protocol,
    /// The method of every call.
    pub method: Method,
    /// The body of every call; of gRPC: the message.
    pub body: Bytes,
    /// Connections side by side.
    pub connections: u64,
    /// Calls side by side on each connection; 1 for HTTP/1.1.
    pub streams: u64,
    /// Calls in all, over all connections.
    pub calls: u64,
    /// Stop earlier, after this time.
    pub duration: Option<Duration>,
    /// Calls each second, whatever the answers do; none: closed loop.
    pub rate: Option<f64>,
    /// A new connection for each call.
    pub fresh: bool,
    /// Called before the first call; the clock starts when it returns.
    pub before_start: Option<fn() -> Result<()>>,
    /// Longest wait for a connection, and for an answer.
    pub timeout: Duration,
    /// Pause of a stream after a failed call: a refusal costs nothing, and would be counted by the million.
    pub pause_after_error: Duration,
}

impl LoadConfig {
    /// `calls` GET calls of `url` over `connections` connections of HTTP/1.1.
    pub fn get(url: impl Into<String>, connections: u64, calls: u64) -> LoadConfig {
        LoadConfig {
            url: url.into(),
            connect_to: None,
            roots_pem: None,
            protocol: Protocol::Http1,
            method: Method::GET,
            body: Bytes::new(),
            connections,
            streams: 1,
            calls,
            duration: None,
            rate: None,
            fresh: false,
            before_start: None,
            timeout: Duration::from_secs(10),
            pause_after_error: Duration::from_millis(1),
        }
    }
}

/// Makes the calls from this process, on a runtime of its own, and waits for the last.
///
/// # Errors
/// When the configuration makes no sense. A failing call is an outcome, not an error.
pub fn run(config: LoadConfig) -> Result<LoadReport> {
    run_with_outcomes(config, None)
}

/// As [`run`]; with a path, one JSON line `[number, outcome]` for each call is also written there.
///
/// # Errors
/// As [`run`], and when the file cannot be written.
pub fn run_with_outcomes(config: LoadConfig, file: Option<PathBuf>) -> Result<LoadReport> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut report = runtime.block_on(drive(config))?;
    if let Some(path) = file {
        let mut lines = Vec::new();
        for outcome in &report.outcomes {
            serde_json::to_writer(&mut lines, outcome)?;
            lines.push(b'\n');
        }
        std::fs::write(&path, lines).with_context(|| format!("write {}", path.display()))?;
    }
    report.outcomes.sort();
    Ok(report)
}

async fn drive(config: LoadConfig) -> Result<LoadReport> {
    let (connections, streams) = (config.connections, config.streams);
    let target = Arc::new(Target::of(config).await?);
    let mut all = Tally::default();
    let links: Vec<Arc<Link>> = (0..connections).map(|_| Arc::default()).collect();
    // Who measures latency wants it of calls, not of the handshakes before the first ones.
    let measured = target.config.rate.is_some() || target.config.before_start.is_some();
    if measured && !target.config.fresh {
        for link in &links {
            // Where that fails, the first call says how.
            link.open(&target, &mut all).await;
        }
    }
    if let Some(before_start) = target.config.before_start {
        before_start()?;
    }
    let start = Instant::now();
    let pace = Arc::new(Pace::of(&target.config, connections * streams));
    let mut lanes = JoinSet::new();
    for link in links {
        for _ in 0..streams {
            lanes.spawn(call_in_turn(Arc::clone(&target), Arc::clone(&pace), Arc::clone(&link)));
        }
    }
    while let Some(tally) = lanes.join_next().await {
        all.add(tally.context("a lane panicked")?);
    }
    Ok(all.report(start.elapsed()))
}

/// One stream of one connection: takes the next call until none is left.
async fn call_in_turn(target: Arc<Target>, pace: Arc<Pace>, link: Arc<Link>) -> Tally {
    let mut tally = Tally::default();
    while let Some((n, since)) = pace.next().await {
        let outcome = link.call(&target, n, &mut tally).await;
        let answered = matches!(outcome, Outcome::Status(_));
        if answered {
            tally.latencies.record(since.elapsed().as_micros() as u64);
        }
        tally.outcomes.push((n, outcome));
        if !answered {
            tokio::time::sleep(target.config.pause_after_error).await;
        }
    }
    tally
}
