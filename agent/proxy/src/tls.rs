//! TLS on both sides: reads the ClientHello, verifies the upstream, shows our leaf to the workload.
//!
//! Never decides: the caller has the connect decision before it opens anything here.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use callgate_model::{Reason, Service};
use callgate_policy::ConnectPermit;
use rustls::server::{Accepted, Acceptor};
use rustls::{AlertDescription, ClientConfig};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::{StartHandshake, TlsConnector, client, server};
use tracing::debug;

use crate::bulk::{Ahead, Gathered};
use crate::facts::Connection;
use crate::http::Version;
use crate::unopened::{HUNG_UP, Refused};

/// The application protocols that we carry within TLS (RFC 7301 and its registry).
const HTTP1: &[u8] = b"http/1.1";
const HTTP2: &[u8] = b"h2";

/// How upstream servers are verified, for each list of protocols that we may offer them.
#[derive(Clone)]
pub struct UpstreamTls {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    either: Arc<ClientConfig>,
}

/// What is offered to an upstream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Offer {
    /// HTTP/1.1 alone: what a client of HTTP/1.1 asks for can be fulfilled whole (upgrades).
    Http1,
    /// HTTP/2 alone.
    Http2,
    /// HTTP/2, or else HTTP/1.1.
    Either,
}

impl UpstreamTls {
    /// Verifies as `base` does.
    #[must_use]
    pub fn new(base: &ClientConfig) -> Self {
        let offering = |protocols: &[&[u8]]| {
            let mut config = base.clone();
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            Arc::new(config)
        };
        Self { http1: offering(&[HTTP1]), http2: offering(&[HTTP2]), either: offering(&[HTTP2, HTTP1]) }
    }

    fn offering(&self, offer: Offer) -> &Arc<ClientConfig> {
        match offer {
            Offer::Http1 => &self.http1,
            Offer::Http2 => &self.http2,
            Offer::Either => &self.either,
        }
    }
}

/// Longest ClientHello that is read. Unit: bytes.
/// Source: RFC 8446 §4 allows 2^24, but browsers with post-quantum shares stay below 2 KiB; four full records leave room.
const HELLO_MAX: usize = 4 * 16_640;

/// A ClientHello that was read and understood.
pub(crate) struct Hello {
    accepted: Accepted,
    /// The bytes as they came, for passing through unopened.
    pub(crate) bytes: Bytes,
    /// Server name; none if the client sent none.
    pub(crate) sni: Option<String>,
    /// Whether it offers `http/1.1`, or no list at all.
    pub(crate) speaks_http1: bool,
    /// Whether it offers `h2`.
    pub(crate) speaks_http2: bool,
    /// Whether it offers a list at all.
    offered_alpn: bool,
}

impl Hello {
    /// What to offer the upstream of a client that speaks at least one of both.
    pub(crate) fn offer(&self) -> Offer {
        if self.speaks_http2 { Offer::Either } else { Offer::Http1 }
    }

    /// What to choose from for the client: what the upstream speaks, where the client does too, so that nothing has
    /// to be translated.
    fn protocols(&self, upstream: Option<Version>) -> &'static [&'static [u8]] {
        match (self.offered_alpn, upstream) {
            (false, _) => &[],
            (true, Some(Version::Http1)) if self.speaks_http1 => &[HTTP1],
            (true, Some(Version::Http2)) if self.speaks_http2 => &[HTTP2],
            (true, _) => &[HTTP2, HTTP1],
        }
    }
}

/// Reads a ClientHello of which `first` was read already.
///
/// # Errors
/// [`Reason::ClientTls`] if it is none, too long, or the client went away.
pub(crate) async fn read_hello<S: AsyncRead + Unpin>(stream: &mut S, first: Bytes) -> Result<Hello, Reason> {
    let mut acceptor = Acceptor::default();
    let mut bytes = BytesMut::from(first);
    let mut fed = 0;
    loop {
        while fed < bytes.len() {
            let mut rest = &bytes[fed..];
            fed += acceptor.read_tls(&mut rest).map_err(|_| Reason::ClientTls)?;
            if let Some(accepted) = acceptor.accept().map_err(|_| Reason::ClientTls)? {
                let hello = accepted.client_hello();
                let sni = hello.server_name().map(str::to_owned);
                let alpn: Option<Vec<&[u8]>> = hello.alpn().map(Iterator::collect);
                let speaks_http1 = alpn.as_ref().is_none_or(|offered| offered.contains(&HTTP1));
                let speaks_http2 = alpn.as_ref().is_some_and(|offered| offered.contains(&HTTP2));
                let offered_alpn = alpn.is_some();
                return Ok(Hello { accepted, bytes: bytes.freeze(), sni, speaks_http1, speaks_http2, offered_alpn });
            }
        }
        if bytes.len() >= HELLO_MAX || stream.read_buf(&mut bytes).await.map_err(|_| Reason::ClientTls)? == 0 {
            return Err(Reason::ClientTls);
        }
    }
}

/// A handshake of the workload's with us that was not completed.
#[derive(Debug)]
pub(crate) struct Unfinished {
    pub(crate) reason: Reason,
    /// Whether the client did not take our certificate.
    pub(crate) refused: Option<Refused>,
}

/// Completes the handshake with the workload, as `service`; `upstream` is what the upstream speaks, where that is known.
///
/// # Errors
/// [`Reason::ClientTls`] if it fails, mostly because the client does not trust our CA; [`Reason::Internal`] if we have
/// no certificate to show.
pub(crate) async fn accept<S>(
    connection: &Connection,
    hello: Hello,
    service: &Service,
    upstream: Option<Version>,
    stream: S,
) -> Result<Gathered<server::TlsStream<Ahead<S>>>, Unfinished>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let gate = &connection.gate;
    let config = gate.authority.server_config(service.host(), hello.protocols(upstream)).map_err(|error| {
        tracing::error!(%error, %service, "no certificate could be made");
        Unfinished { reason: Reason::Internal, refused: None }
    })?;
    let handshake = StartHandshake::from_parts(hello.accepted, Ahead::new(stream)).into_stream(config);
    match tokio::time::timeout(gate.limits.handshake, handshake).await {
        Ok(Ok(stream)) => Ok(Gathered::new(stream)),
        Ok(Err(error)) => {
            debug!(%error, %service, "the workload did not complete its handshake");
            Err(Unfinished { reason: Reason::ClientTls, refused: Refused::of(&error) })
        }
        Err(_elapsed) => Err(Unfinished { reason: Reason::ClientTls, refused: None }),
    }
}

/// Completes the handshake with the upstream and verifies that its certificate is valid for `service`.
///
/// # Errors
/// [`Failure::NoProtocol`] if it speaks nothing of the offer; else [`Reason::UpstreamCertificate`] if the certificate
/// does not hold, [`Reason::UpstreamProtocol`] for any other failure.
pub(crate) async fn connect(
    connection: &Connection,
    _permit: &ConnectPermit,
    service: &Service,
    offer: Offer,
    stream: TcpStream,
) -> Result<(Gathered<client::TlsStream<Ahead<TcpStream>>>, Version), Failure> {
    let gate = &connection.gate;
    let name = ServerName::try_from(service.host().to_owned()).map_err(|_| Reason::NameMismatch)?;
    let handshake = TlsConnector::from(Arc::clone(gate.upstream_tls.offering(offer))).connect(name, Ahead::new(stream));
    match tokio::time::timeout(gate.limits.handshake, handshake).await {
        Ok(Ok(stream)) => {
            let http2 = stream.get_ref().1.alpn_protocol() == Some(HTTP2);
            Ok((Gathered::new(stream), if http2 { Version::Http2 } else { Version::Http1 }))
        }
        Ok(Err(error)) => {
            debug!(%error, %service, ?offer, "the upstream's handshake failed");
            Err(failure_of(&error))
        }
        Err(_elapsed) => Err(Reason::UpstreamProtocol.into()),
    }
}

/// Why a handshake with an upstream failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Failure {
    /// It speaks nothing of what it was offered, or hung up on it.
    NoProtocol,
    /// What the caller is told.
    Because(Reason),
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Self::Because(reason)
    }
}

fn failure_of(error: &io::Error) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
            Reason::UpstreamCertificate.into()
        }
        Some(
            rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)
            | rustls::Error::NoApplicationProtocol,
        ) => Failure::NoProtocol,
        // Servers that hang up instead of sending the alert.
        None if HUNG_UP.contains(&error.kind()) => Failure::NoProtocol,
        _ => Reason::UpstreamProtocol.into(),
    }
}
