//! The agent's side: connects, shows its certificate, and verifies the collector's.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::rotation::{Condition, Rotation};
use crate::{Certificate, TlsEndpoint, TlsError, TlsFiles, config};

/// A connection to a collector.
pub type ClientStream = tokio_rustls::client::TlsStream<TcpStream>;

/// Certificates of a client, which follow their files; clones share them.
#[derive(Clone)]
pub struct ClientTls {
    rotation: Arc<Rotation<ClientConfig>>,
    /// The collector's certificate at the latest handshake.
    collector: Arc<ArcSwapOption<Certificate>>,
    connection_max: Duration,
}

impl ClientTls {
    /// Reads `files`, and follows them. No connection should live longer than `connection_max`, so that a certificate
    /// or a CA that was taken away stops to count.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`TlsError`] if the files cannot be used.
    pub fn open(files: &TlsFiles, connection_max: Duration) -> Result<Self, TlsError> {
        let rotation = Arc::new(Rotation::open(files, config::client)?);
        Ok(Self { rotation, collector: Arc::default(), connection_max })
    }

    /// The same with files that may be still to come, as those that a cluster issues: until then nothing connects.
    ///
    /// Must be called within a tokio runtime.
    #[must_use]
    pub fn await_files(files: &TlsFiles, connection_max: Duration) -> Self {
        let rotation = Arc::new(Rotation::await_files(files, config::client));
        Self { rotation, collector: Arc::default(), connection_max }
    }

    /// Reads `files` once, and gives the client's certificate: for checks.
    ///
    /// # Errors
    /// [`TlsError`] if the files cannot be used.
    pub fn check(files: &TlsFiles) -> Result<Certificate, TlsError> {
        let material = files.material(&files.contents()?)?;
        config::client(files, &material)?;
        Ok(material.leaf)
    }

    /// Connects to `endpoint`; its certificate must bear the host's name.
    ///
    /// # Errors
    /// Those of the connection and of TLS. That the collector refuses our certificate is known only after this: TLS 1.3
    /// tells it with the first bytes read.
    /// # Cancel safety
    /// Dropping it closes the connection.
    pub async fn connect(&self, endpoint: &TlsEndpoint) -> io::Result<ClientStream> {
        let config = self.rotation.current().ok_or_else(|| io::Error::other("there are no certificates yet"))?;
        #[expect(clippy::disallowed_methods, reason = "the agent's own connection, not a workload's")]
        let stream = TcpStream::connect((endpoint.host(), endpoint.port())).await?;
        stream.set_nodelay(true)?;
        let stream = TlsConnector::from(config).connect(endpoint.name(), stream).await?;
        let (_, session) = stream.get_ref();
        if session.alpn_protocol() != Some(config::HTTP2) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it does not speak HTTP/2"));
        }
        let leaf = session.peer_certificates().and_then(|chain| chain.first()).and_then(Certificate::read);
        if leaf.is_some() {
            self.collector.store(leaf.map(Arc::new));
        }
        Ok(stream)
    }

    /// The same as tonic wants it; the address that it is asked for is of no account.
    pub fn connector<Uri: Send + 'static>(
        &self,
        endpoint: &TlsEndpoint,
    ) -> impl tower::Service<Uri, Response = TokioIo<ClientStream>, Error = io::Error, Future: Send>
    + Send
    + 'static
    + use<Uri> {
        let (tls, endpoint) = (self.clone(), endpoint.clone());
        tower::service_fn(move |_: Uri| {
            let (tls, endpoint) = (tls.clone(), endpoint.clone());
            async move { tls.connect(&endpoint).await.map(TokioIo::new) }
        })
    }

    /// How our certificates are.
    #[must_use]
    pub fn condition(&self) -> Condition {
        self.rotation.condition()
    }

    /// The collector's certificate, as it was shown last.
    #[must_use]
    pub fn collector_certificate(&self) -> Option<Arc<Certificate>> {
        self.collector.load_full()
    }

    /// Longest life of a connection.
    #[must_use]
    pub fn connection_max(&self) -> Duration {
        self.connection_max
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("condition", &self.condition()).finish_non_exhaustive()
    }
}
