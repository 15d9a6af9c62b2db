//! Reads the first bytes of a connection until they tell its protocol.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use callgate_wire::{Sniff, limits::SNIFF_MAX, sniff};
use tokio::io::{AsyncRead, AsyncReadExt};

/// What a connection opened with.
#[derive(Debug)]
pub(crate) enum Opening {
    /// A TLS record.
    Tls(Bytes),
    /// A request of HTTP/1.
    Http1(Bytes),
    /// The preface of HTTP/2.
    Http2(Bytes),
    /// Bytes of no protocol that we decode; none at all if the client stayed silent.
    Unknown(Bytes),
    /// The client closed without a byte.
    Closed,
}

/// Reads from `stream` until the protocol is told, at most `wait`.
///
/// # Errors
/// Those of the stream.
pub(crate) async fn read<S: AsyncRead + Unpin>(stream: &mut S, wait: Duration) -> io::Result<Opening> {
    let mut first = BytesMut::with_capacity(4096);
    let told = tokio::time::timeout(wait, async {
        loop {
            if stream.read_buf(&mut first).await? == 0 {
                return io::Result::Ok(None);
            }
            match sniff(&first) {
                Sniff::NeedMore if first.len() < SNIFF_MAX => {}
                told => return Ok(Some(told)),
            }
        }
    })
    .await;
    let first = first.freeze();
    Ok(match told {
        Ok(result) => match result? {
            Some(Sniff::Tls) => Opening::Tls(first),
            Some(Sniff::Http1) => Opening::Http1(first),
            Some(Sniff::Http2Preface) => Opening::Http2(first),
            None if first.is_empty() => Opening::Closed,
            Some(_) | None => Opening::Unknown(first),
        },
        Err(_elapsed) => Opening::Unknown(first),
    })
}
