//! The server side of one connection of HTTP/1.1: one call after the other, in the order in which they were asked.

use std::pin::pin;
use std::sync::Arc;

use callgate_model::{Outcome, Reason};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use super::{HEADERS_MAX, Http, call, reason_of, strict};

/// Carries the calls of `stream`, which `control` belongs to, until it ends or the gate stops.
pub(super) async fn serve<S>(
    http: Arc<Http>,
    control: &strict::Control,
    stream: strict::StrictHeads<S>,
) -> (Outcome, Reason)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = Arc::clone(&http.connection);
    let limits = &connection.gate.limits;
    let service = service_fn(move |request| call::serve(Arc::clone(&http), request));
    let serving = http1::Builder::new()
        // Also keeps hyper from reading ahead while a call is open: what comes meanwhile waits in the scanner.
        .half_close(true)
        .max_headers(HEADERS_MAX)
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut serving = pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => Some(ended),
        () = connection.gate.stopping.cancelled() => {
            let drained = async {
                // Closed before its first call, a client would find itself refused.
                tokio::select! {
                    ended = &mut serving => return ended,
                    () = connection.called() => {}
                }
                serving.as_mut().graceful_shutdown();
                (&mut serving).await
            };
            tokio::time::timeout(limits.drain, drained).await.ok()
        }
    };
    match (control.fault(), ended) {
        (Some(fault), _) => {
            debug!(connection = %connection.id, fault = fault.as_str(), "malformed request refused");
            (Outcome::Refused, Reason::BadHead)
        }
        (None, Some(Ok(()))) => (Outcome::Complete, Reason::Permitted),
        (None, Some(Err(error))) => (Outcome::Cut, reason_of(&error)),
        (None, None) => (Outcome::Cut, Reason::ShuttingDown),
    }
}
