//! TLS on both sides: reads the ClientHello, verifies the upstream, shows our leaf to the workload.
//!
//! Never decides: the caller has the connect decision before it opens anything here.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use callgate_model::{Reason, Service};
use callgate_policy::ConnectPermit;
use rustls::server::{Accepted, Acceptor};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::{StartHandshake, TlsConnector, client, server};
use tracing::debug;

use crate::facts::Connection;

/// The one application protocol that we carry within TLS, on both sides.
pub(crate) const ALPN: &[u8] = b"http/1.1";

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
    /// Whether the client can speak what we carry: it offers `http/1.1`, or no list at all.
    pub(crate) speaks_http1: bool,
    /// Whether an encrypted ClientHello is in it (ECH, RFC 9849): the name seen may not be the name meant.
    pub(crate) offered_alpn: bool,
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
                let speaks_http1 = alpn.as_ref().is_none_or(|offered| offered.contains(&ALPN));
                let offered_alpn = alpn.is_some();
                return Ok(Hello { accepted, bytes: bytes.freeze(), sni, speaks_http1, offered_alpn });
            }
        }
        if bytes.len() >= HELLO_MAX || stream.read_buf(&mut bytes).await.map_err(|_| Reason::ClientTls)? == 0 {
            return Err(Reason::ClientTls);
        }
    }
}

/// Completes the handshake with the workload, as `service`.
///
/// # Errors
/// [`Reason::ClientTls`] if it fails, mostly because the client does not trust our CA.
pub(crate) async fn accept<S>(
    connection: &Connection,
    hello: Hello,
    service: &Service,
    stream: S,
) -> Result<server::TlsStream<S>, Reason>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let gate = &connection.gate;
    let alpn: &[&[u8]] = if hello.offered_alpn { &[ALPN] } else { &[] };
    let config = gate.authority.server_config(service.host(), alpn).map_err(|error| {
        tracing::error!(%error, %service, "no certificate could be made");
        Reason::Internal
    })?;
    let handshake = StartHandshake::from_parts(hello.accepted, stream).into_stream(config);
    match tokio::time::timeout(gate.limits.handshake, handshake).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => {
            debug!(%error, %service, "the workload did not complete its handshake");
            Err(Reason::ClientTls)
        }
        Err(_elapsed) => Err(Reason::ClientTls),
    }
}

/// Completes the handshake with the upstream and verifies that its certificate is valid for `service`.
///
/// # Errors
/// [`Reason::UpstreamCertificate`] if the certificate does not hold, [`Reason::UpstreamProtocol`] for any other failure.
pub(crate) async fn connect(
    connection: &Connection,
    _permit: &ConnectPermit,
    service: &Service,
    stream: TcpStream,
) -> Result<client::TlsStream<TcpStream>, Reason> {
    let gate = &connection.gate;
    let name = ServerName::try_from(service.host().to_owned()).map_err(|_| Reason::NameMismatch)?;
    let handshake = TlsConnector::from(Arc::clone(&gate.upstream_tls)).connect(name, stream);
    match tokio::time::timeout(gate.limits.handshake, handshake).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => {
            let reason = reason_of(&error);
            debug!(%error, %service, %reason, "the upstream's handshake failed");
            Err(reason)
        }
        Err(_elapsed) => Err(Reason::UpstreamProtocol),
    }
}

fn reason_of(error: &io::Error) -> Reason {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
            Reason::UpstreamCertificate
        }
        _ => Reason::UpstreamProtocol,
    }
}
