//! A closed-loop load generator: N connections, each sending its next call when it has the answer to the last.
//!
//! Every call has exactly one outcome, a status or an error, so that the client's own count can be held against the
//! upstream's log and the collector's records. Calls are numbered from 0; `x-call-id` carries the number.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// What is to be called, and how often.
#[derive(Debug, Clone)]
pub struct LoadConfig {
    /// `http://…` or `https://…`; `{n}` becomes the call's number.
    pub url: String,
    /// Dial this address; the URL's host is still sent and verified.
    pub connect_to: Option<SocketAddr>,
    /// Certificates to trust, in PEM; needed for `https`.
    pub roots_pem: Option<String>,
    /// The method of every call.
    pub method: Method,
    /// The body of every call.
    pub body: Bytes,
    /// Connections side by side.
    pub connections: u64,
    /// Calls in all, over all connections.
    pub calls: u64,
    /// Stop earlier, after this time.
    pub duration: Option<Duration>,
    /// A new connection for each call.
    pub fresh: bool,
    /// Longest wait for a connection, and for an answer.
    pub timeout: Duration,
    /// Pause of a connection after a failed call: a refusal costs nothing, and would be counted by the million.
    pub pause_after_error: Duration,
}

impl LoadConfig {
    /// `calls` GET calls of `url` over `connections` connections.
    pub fn get(url: impl Into<String>, connections: u64, calls: u64) -> LoadConfig {
        LoadConfig {
            url: url.into(),
            connect_to: None,
            roots_pem: None,
            method: Method::GET,
            body: Bytes::new(),
            connections,
            calls,
            duration: None,
            fresh: false,
            timeout: Duration::from_secs(10),
            pause_after_error: Duration::from_millis(1),
        }
    }
}

/// How one call ended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A whole answer came, with this status.
    Status(u16),
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
    /// Longest.
    pub max_us: u64,
    /// Outcome of each call by its number, when asked for ([`run_with_outcomes`]).
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

/// Where the calls go; the same for all.
struct Target {
    config: LoadConfig,
    host: String,
    address: SocketAddr,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    next: AtomicU64,
    deadline: Option<Instant>,
}

/// What one connection's loop counted.
#[derive(Default)]
struct Tally {
    outcomes: Vec<(u64, Outcome)>,
    latencies: Vec<u64>,
    connected: u64,
    body_bytes: u64,
}

async fn drive(config: LoadConfig) -> Result<LoadReport> {
    let connections = config.connections;
    let target = Arc::new(target(config).await?);
    let start = Instant::now();
    let mut loops = JoinSet::new();
    for _ in 0..connections {
        loops.spawn(call_in_turn(target.clone()));
    }
    let mut all = Tally::default();
    while let Some(tally) = loops.join_next().await {
        let tally = tally.context("a connection's loop panicked")?;
        all.outcomes.extend(tally.outcomes);
        all.latencies.extend(tally.latencies);
        all.connected += tally.connected;
        all.body_bytes += tally.body_bytes;
    }
    Ok(report(all, start.elapsed()))
}

async fn target(config: LoadConfig) -> Result<Target> {
    let uri: Uri = config.url.replace("{n}", "0").parse().with_context(|| format!("`{}` is no URL", config.url))?;
    let host = uri.host().context("the URL has no host")?.trim_matches(['[', ']']).to_owned();
    let secure = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => bail!("the URL starts with neither http:// nor https://"),
    };
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let address = match config.connect_to {
        Some(address) => address,
        None => tokio::net::lookup_host((host.as_str(), port)).await?.next().context("the host has no address")?,
    };
    let tls = match (secure, &config.roots_pem) {
        (false, _) => None,
        (true, None) => bail!("https needs certificates to trust"),
        (true, Some(pem)) => {
            let client: Arc<ClientConfig> = crate::ca::client(pem)?;
            Some((TlsConnector::from(client), ServerName::try_from(host.clone())?))
        }
    };
    let host = uri.authority().context("the URL has no host")?.to_string();
    let deadline = config.duration.map(|duration| Instant::now() + duration);
    Ok(Target { config, host, address, tls, next: AtomicU64::new(0), deadline })
}

/// One connection's loop: takes the next number until none is left.
async fn call_in_turn(target: Arc<Target>) -> Tally {
    let mut tally = Tally::default();
    let mut open: Option<SendRequest<Full<Bytes>>> = None;
    loop {
        if target.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return tally;
        }
        let n = target.next.fetch_add(1, Ordering::Relaxed);
        if n >= target.config.calls {
            return tally;
        }
        let start = Instant::now();
        let outcome = one_call(&target, n, &mut open, &mut tally).await;
        let failed = !matches!(outcome, Outcome::Status(_));
        if !failed {
            tally.latencies.push(start.elapsed().as_micros() as u64);
        }
        tally.outcomes.push((n, outcome));
        if failed {
            open = None;
            tokio::time::sleep(target.config.pause_after_error).await;
        }
    }
}

async fn one_call(target: &Target, n: u64, open: &mut Option<SendRequest<Full<Bytes>>>, tally: &mut Tally) -> Outcome {
    // An idle connection that the other side closed carried nothing of this call: open a new one.
    let usable = match open.as_mut() {
        Some(sender) => sender.ready().await.is_ok(),
        None => false,
    };
    if !usable {
        match tokio::time::timeout(target.config.timeout, connect(target)).await {
            Ok(Ok(sender)) => *open = Some(sender),
            Ok(Err(outcome)) => return outcome,
            Err(_) => return Outcome::NotConnected("timeout".to_owned()),
        }
        tally.connected += 1;
    }
    let Some(sender) = open.as_mut() else { return Outcome::Broken };
    let Ok(request) = request(target, n) else { return Outcome::Broken };
    let answered = async {
        let response = sender.send_request(request).await.ok()?;
        let status = response.status().as_u16();
        let close = response.headers().get(http::header::CONNECTION).is_some_and(|value| value == "close");
        let body = response.into_body().collect().await.ok()?;
        Some((status, body.to_bytes().len() as u64, close))
    };
    match tokio::time::timeout(target.config.timeout, answered).await {
        Ok(Some((status, len, close))) => {
            tally.body_bytes += len;
            if close || target.config.fresh {
                *open = None;
            }
            Outcome::Status(status)
        }
        Ok(None) | Err(_) => Outcome::Broken,
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the client, not the proxy: it dials for itself")]
async fn connect(target: &Target) -> Result<SendRequest<Full<Bytes>>, Outcome> {
    let stream = TcpStream::connect(target.address)
        .await
        .map_err(|error| Outcome::NotConnected(format!("{:?}", error.kind())))?;
    let _ = stream.set_nodelay(true);
    match &target.tls {
        None => {
            let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|_| Outcome::Broken)?;
            tokio::spawn(connection);
            Ok(sender)
        }
        Some((connector, name)) => {
            let stream = connector.connect(name.clone(), stream).await.map_err(|_| Outcome::TlsFailed)?;
            let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|_| Outcome::Broken)?;
            tokio::spawn(connection);
            Ok(sender)
        }
    }
}

fn request(target: &Target, n: u64) -> Result<Request<Full<Bytes>>> {
    let uri: Uri = target.config.url.replace("{n}", &n.to_string()).parse()?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::builder()
        .method(target.config.method.clone())
        .uri(path)
        .header(http::header::HOST, &target.host)
        .header("x-call-id", n.to_string());
    Ok(request.body(Full::new(target.config.body.clone()))?)
}

fn report(all: Tally, took: Duration) -> LoadReport {
    let mut latencies = all.latencies;
    latencies.sort_unstable();
    let at = |share: f64| {
        let place = (latencies.len() as f64 * share) as usize;
        latencies.get(place.min(latencies.len().saturating_sub(1))).copied().unwrap_or(0)
    };
    let mut report = LoadReport {
        calls: all.outcomes.len() as u64,
        connected: all.connected,
        body_bytes: all.body_bytes,
        seconds: took.as_secs_f64(),
        per_second: latencies.len() as f64 / took.as_secs_f64(),
        min_us: at(0.0),
        p50_us: at(0.5),
        p90_us: at(0.9),
        p99_us: at(0.99),
        max_us: at(1.0),
        ..LoadReport::default()
    };
    for (_, outcome) in &all.outcomes {
        match outcome {
            Outcome::Status(status) => *report.statuses.entry(*status).or_default() += 1,
            Outcome::NotConnected(kind) => *report.not_connected.entry(kind.clone()).or_default() += 1,
            Outcome::TlsFailed => report.tls_failed += 1,
            Outcome::Broken => report.broken += 1,
        }
    }
    report.outcomes = all.outcomes;
    report
}
