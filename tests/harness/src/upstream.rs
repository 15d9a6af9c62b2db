//! A real HTTP upstream, plain or TLS, that logs every request it gets.
//!
//! It speaks HTTP/1.1 and HTTP/2: over TLS as ALPN says, in plain text by the first bytes.
//! It runs in this process on threads of its own, its listener in any network namespace; `callgate-testkit upstream`
//! is the same as a process. A request is logged (in memory, and as one unbuffered JSON line) before its answer is
//! sent: what a client has an answer for is in the log. What it answers: [`routes`].

mod bare;
mod git;
mod log;
mod routes;
mod served;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::ServerConfig;
use tokio::runtime::Runtime;

pub use log::LoggedRequest;

use crate::TestCa;
use log::Log;

/// What an upstream is to be.
#[derive(Debug, Clone)]
pub struct UpstreamConfig {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// TLS, or plain text.
    pub tls: Option<Arc<ServerConfig>>,
    /// One JSON line for each request ([`LoggedRequest`]) is appended here.
    pub log: Option<PathBuf>,
    /// The network namespace it listens in (a file, as [`Netns::path`](crate::Netns::path)).
    pub netns: Option<PathBuf>,
    /// Directory of the bare repositories that `/git/` serves.
    pub git: Option<PathBuf>,
    /// Logs nothing, and answers only what a bench calls ([`bare`]): its own cost must not hide that of the gate.
    pub bare: bool,
}

impl UpstreamConfig {
    /// Plain text on a free port of `address`, in this network namespace.
    pub fn at(address: impl Into<IpAddr>) -> UpstreamConfig {
        let listen = SocketAddr::new(address.into(), 0);
        UpstreamConfig { listen, tls: None, log: None, netns: None, git: None, bare: false }
    }
}

/// A running upstream; on drop it stops, and its connections end.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    log: Arc<Log>,
    /// A second handle on the listening socket, to close it at once.
    socket: TcpListener,
    runtime: Option<Runtime>,
}

impl Upstream {
    /// Starts one.
    ///
    /// # Errors
    /// When the address is taken, or the namespace cannot be entered.
    pub fn start(config: UpstreamConfig) -> Result<Upstream> {
        let bind = || TcpListener::bind(config.listen);
        let listener = match &config.netns {
            Some(netns) => crate::netns::enter(netns, bind)?,
            None => bind(),
        };
        let listener = listener.with_context(|| format!("listen on {}", config.listen))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let socket = listener.try_clone()?;
        let log = Arc::new(Log::new(config.log.as_deref())?);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("upstream")
            .enable_all()
            .build()?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let site = Arc::new(routes::Site { log: log.clone(), git: config.git, bare: config.bare });
        runtime.spawn(served::accept(listener, config.tls, site));
        Ok(Upstream { address, log, socket, runtime: Some(runtime) })
    }

    /// A plain one on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// As [`Upstream::start`].
    pub fn plain() -> Result<Upstream> {
        Upstream::start(UpstreamConfig::at([127, 0, 0, 1]))
    }

    /// A TLS one on a free port of 127.0.0.1, with a certificate for `names`.
    ///
    /// # Errors
    /// As [`Upstream::start`].
    pub fn tls(ca: &TestCa, names: &[&str]) -> Result<Upstream> {
        Upstream::start(UpstreamConfig { tls: Some(ca.server(names)?), ..UpstreamConfig::at([127, 0, 0, 1]) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every request so far, in the order of their logging.
    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.log.requests()
    }

    /// How many requests so far.
    pub fn request_count(&self) -> usize {
        self.log.count()
    }

    /// How many connections were accepted so far (TLS: before the handshake).
    pub fn connections(&self) -> u64 {
        self.log.connections()
    }

    /// How many bytes came in so far, over TLS its own included: 0 means that nothing at all arrived.
    pub fn bytes_received(&self) -> u64 {
        self.log.bytes_received()
    }

    /// Waits until `count` requests are logged, and returns all.
    ///
    /// # Errors
    /// When fewer came `within` that time.
    pub fn wait_for(&self, count: usize, within: Duration) -> Result<Vec<LoggedRequest>> {
        crate::eventually(&format!("{count} requests at the upstream"), within, || {
            (self.request_count() >= count).then(|| self.requests())
        })
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // The runtime goes in the background; who connects from here on is refused, not accepted and dropped.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
