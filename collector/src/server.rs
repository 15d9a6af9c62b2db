//! The gRPC server: takes shipments ([`ingest`]) and answers queries ([`query`]) over one store.
//!
//! Plain text on loopback addresses and unix sockets (mode 0600), TLS with certificates on both sides elsewhere.
//! Who may connect locally is the [`PeerGuard`]'s to say, [`listen`] explains what it can see; what a certificate allows
//! is in [`rights`].

mod enrolled;
mod ingest;
mod listen;
mod metrics;
mod peer;
mod query;
mod rights;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use callgate_mtls::ServerTls;
use callgate_proto::v1::ingest_server::IngestServer;
use callgate_proto::v1::query_server::QueryServer;
use thiserror::Error;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server as Tonic;

use crate::Store;
pub use listen::{Listen, ListenError};
pub use metrics::Metrics;
pub(crate) use metrics::{register_certificate, register_store};
pub use peer::{BPFFS, PeerGuard, peer_cgroup};

/// Largest message taken: a batch has at most 1 MiB of bodies, or one record. Unit: bytes.
const MESSAGE_MAX: usize = 8 << 20;
/// Most requests at once on one connection; further ones wait.
const REQUESTS_MAX: u32 = 64;
/// A peer that answers no ping for this long is gone.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// How long a connection that is as old as it may be is left to end by itself.
const AGE_GRACE: Duration = Duration::from_secs(30);
/// Longest wait of [`Server::stop`].
const STOP: Duration = Duration::from_secs(10);

/// Why the server could not start, or stopped.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The socket file is in use.
    #[error("`{0}` is in use by a living collector: stop it, or listen elsewhere")]
    InUse(PathBuf),
    /// It cannot listen there.
    #[error("cannot listen on `{listen}`: {source}")]
    Bind {
        /// Where.
        listen: String,
        /// What the system said.
        source: io::Error,
    },
    /// TLS without certificates.
    #[error("cannot listen on `{0}` without certificates: configure `[tls]`")]
    NoCertificates(String),
    /// Serving failed.
    #[error("serving failed: {0}")]
    Serve(#[from] tonic::transport::Error),
}

/// A collector that serves. Stops when it is dropped; [`Server::stop`] does so in order.
#[derive(Debug)]
pub struct Server {
    endpoint: String,
    stop: CancellationToken,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
    _file: Option<listen::SocketFile>,
}

/// Serves `store` on `listen` to every local peer that sits in no workload of this host ([`PeerGuard::by_cgroup`]).
///
/// # Errors
/// [`ServeError`] if it cannot listen there.
pub async fn serve(store: Store, listen: Listen) -> Result<Server, ServeError> {
    serve_guarded(store, listen, PeerGuard::by_cgroup(Vec::new(), peer::BPFFS.into())).await
}

/// Serves `store` on `listen` to the peers that `guard` lets in.
///
/// # Errors
/// [`ServeError`] if it cannot listen there.
pub async fn serve_guarded(store: Store, listen: Listen, guard: PeerGuard) -> Result<Server, ServeError> {
    serve_tls(store, listen, guard, None, Metrics::default()).await
}

/// The same with certificates, which [`Listen::Tls`] needs (the rest has no use for them), counting in `metrics`.
///
/// # Errors
/// [`ServeError`] if it cannot listen there.
pub async fn serve_tls(
    store: Store,
    listen: Listen,
    guard: PeerGuard,
    tls: Option<ServerTls>,
    metrics: Metrics,
) -> Result<Server, ServeError> {
    let tls = tls.filter(|_| matches!(listen, Listen::Tls(_)));
    let age = tls.as_ref().map(ServerTls::connection_max);
    let listen::Bound { endpoint, file, incoming } = listen::bind(listen, guard, tls, metrics.clone()).await?;
    let stop = CancellationToken::new();
    let ingest = IngestServer::new(ingest::Shipping::new(store.clone(), stop.clone(), metrics))
        .max_decoding_message_size(MESSAGE_MAX);
    let query = QueryServer::new(query::Queries::new(store, stop.clone())).max_decoding_message_size(MESSAGE_MAX);
    let query = InterceptedService::new(query, rights::readers_only);
    let mut server = Tonic::builder();
    if let Some(age) = age {
        server = server.max_connection_age(age).max_connection_age_grace(AGE_GRACE);
    }
    let serving = server
        .max_concurrent_streams(REQUESTS_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .add_service(ingest)
        .add_service(query)
        .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    Ok(Server { endpoint, stop, serving: tokio::spawn(serving), _file: file })
}

impl Server {
    /// Where it listens, as agents and the command line take it: `https://ADDRESS:PORT`,
    /// `http://127.0.0.1:PORT` or `unix:PATH`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Stops in order, within ten seconds: [`Server::stop_within`].
    pub async fn stop(self) {
        if let Err(error) = self.stop_within(STOP).await {
            tracing::warn!(%error, "the collector had failed before it was stopped");
        }
    }

    /// Takes no more, lets begun batches be stored and acknowledged, and waits at most `timeout` for that.
    ///
    /// What was not acknowledged by then comes again from its agent: nothing is lost by the timeout.
    ///
    /// # Errors
    /// [`ServeError::Serve`] if serving had failed before.
    pub async fn stop_within(mut self, timeout: Duration) -> Result<(), ServeError> {
        self.stop.cancel();
        match tokio::time::timeout(timeout, &mut self.serving).await {
            Ok(Ok(result)) => Ok(result?),
            Ok(Err(_)) | Err(_) => {
                tracing::warn!(?timeout, "some peers did not let go in time");
                Ok(())
            }
        }
    }

    /// Waits until serving ends by itself, which it does only when it fails.
    ///
    /// # Errors
    /// [`ServeError::Serve`].
    /// # Cancel safety
    /// Safe.
    pub async fn failed(&mut self) -> Result<(), ServeError> {
        match (&mut self.serving).await {
            Ok(result) => Ok(result?),
            Err(_) => Ok(()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
