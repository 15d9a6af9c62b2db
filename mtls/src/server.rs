//! The collector's side: takes a connection if its client shows a certificate that one of our CAs vouches for.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::rotation::{Condition, Rotation};
use crate::{Certificate, Client, TlsError, TlsFiles, config};

/// Longest handshake: whoever needs longer has no right yet to a place.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// A connection from a client.
pub type ServerStream = tokio_rustls::server::TlsStream<TcpStream>;

/// Why a connection was not taken.
#[derive(Debug, Error)]
pub enum HandshakeError {
    /// It took too long.
    #[error("no handshake within {HANDSHAKE:?}")]
    Slow,
    /// TLS failed: no certificate, a wrong one, an old protocol, or no TLS at all.
    #[error("{0}")]
    Tls(#[from] io::Error),
    /// Another protocol within.
    #[error("it does not speak HTTP/2")]
    NotHttp2,
    /// A certificate that cannot be read again.
    #[error("its certificate cannot be read")]
    Unreadable,
}

/// Certificates of a collector, which follow their files; clones share them.
#[derive(Clone)]
pub struct ServerTls {
    rotation: Arc<Rotation<ServerConfig>>,
    clients: Arc<[String]>,
    connection_max: Duration,
}

impl ServerTls {
    /// Reads `files` (`ca` vouches for clients), and follows them.
    ///
    /// Of a client's names those count that one of `clients` matches (`node/shop-*`, `reader/*`; `*` is any run of
    /// characters); all if it is empty. No connection lives much longer than `connection_max`.
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`TlsError`] if the files cannot be used.
    pub fn open(files: &TlsFiles, clients: Vec<String>, connection_max: Duration) -> Result<Self, TlsError> {
        let rotation = Arc::new(Rotation::open(files, config::server)?);
        Ok(Self { rotation, clients: clients.into(), connection_max })
    }

    /// Reads `files` once, and gives the collector's certificate: for checks.
    ///
    /// # Errors
    /// [`TlsError`] if the files cannot be used.
    pub fn check(files: &TlsFiles) -> Result<Certificate, TlsError> {
        let material = files.material(&files.contents()?)?;
        config::server(files, &material)?;
        Ok(material.leaf)
    }

    /// Does the handshake; gives whom the client's certificate names, which may be nobody.
    ///
    /// # Errors
    /// [`HandshakeError`]; the client was told by a TLS alert, where it speaks TLS.
    /// # Cancel safety
    /// Dropping it closes the connection.
    pub async fn accept(&self, stream: TcpStream) -> Result<(ServerStream, Client), HandshakeError> {
        let config = self.rotation.current().ok_or_else(|| io::Error::other("there are no certificates"))?;
        let acceptor = TlsAcceptor::from(config);
        let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
        let stream = stream.map_err(|_| HandshakeError::Slow)??;
        let (_, session) = stream.get_ref();
        if session.alpn_protocol() != Some(config::HTTP2) {
            return Err(HandshakeError::NotHttp2);
        }
        let leaf = session.peer_certificates().and_then(|chain| chain.first()).and_then(Certificate::read);
        let mut client = leaf.ok_or(HandshakeError::Unreadable)?.client;
        if !self.clients.is_empty() {
            client.keep(&self.clients);
        }
        Ok((stream, client))
    }

    /// How our certificates are.
    #[must_use]
    pub fn condition(&self) -> Condition {
        self.rotation.condition()
    }

    /// Longest life of a connection.
    #[must_use]
    pub fn connection_max(&self) -> Duration {
        self.connection_max
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("condition", &self.condition()).finish_non_exhaustive()
    }
}
