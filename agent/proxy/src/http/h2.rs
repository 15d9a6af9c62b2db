//! What HTTP/2 is bound by, on both sides, and the server side of one connection.
//!
//! Framing, HPACK and flow control are the library's, which also bounds header lists, continuations and streams that
//! wait; [`flood`](super::flood) bounds what is left.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use callgate_model::{Outcome, Reason};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::flood::Metered;
use super::{Http, call, reason_of};

/// Bytes of one call that its receiver has not taken yet. Unit: bytes. Source: four times the buffer of a relay.
pub(super) const STREAM_WINDOW: u32 = 256 << 10;

/// The same of all calls of a connection. Unit: bytes. Source: sixteen calls whose receivers are slow.
pub(super) const CONNECTION_WINDOW: u32 = 4 << 20;

/// Bytes of one call that are ready to be sent. Unit: bytes. Source: as the window of a stream.
pub(super) const SEND_BUFFER: usize = 256 << 10;

/// Longest header list, names and values with 32 bytes for each field. Unit: bytes.
/// Source: the bound of a head of HTTP/1.1 in `wire`.
pub(super) const HEADER_LIST: u32 = 64 << 10;

/// A peer is asked for a sign of life this often, and given this long for it.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(60);
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Carries the calls of `stream` until it ends, stays idle for too long, or the gate stops.
pub(super) async fn serve<S>(http: Arc<Http>, stream: S) -> (Outcome, Reason)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = http.connection.gate.limits.clone();
    let stopping = http.connection.gate.stopping.clone();
    let (stream, overdrawn) = Metered::new(stream);
    let calls = Arc::clone(&http);
    let service = service_fn(move |request| call::serve(Arc::clone(&calls), request));
    let serving = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(HEADER_LIST)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => Some(ended),
        stopped = async {
            tokio::select! {
                () = stopping.cancelled() => true,
                () = http.connection.idle(limits.head) => false,
            }
        } => {
            serving.as_mut().graceful_shutdown();
            let ended = tokio::time::timeout(limits.drain, &mut serving).await.ok();
            // An idle peer that does not answer our farewell is no cut call.
            if stopped { ended } else { Some(Ok(())) }
        }
    };
    match ended {
        _ if overdrawn.load(Ordering::Relaxed) => (Outcome::Cut, Reason::LimitReached),
        Some(Ok(())) => (Outcome::Complete, Reason::Permitted),
        Some(Err(error)) => (Outcome::Cut, reason_of(&error)),
        None => (Outcome::Cut, Reason::ShuttingDown),
    }
}
