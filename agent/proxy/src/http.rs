//! The calls of one HTTP/1.1 connection: framing by hyper, heads first through our strict scanner.
//!
//! [`serve`] runs the connection, `call` carries one call, `judge` asks policy, `upstream` holds the way to the service.

mod body;
mod call;
mod call_log;
mod forward;
mod judge;
mod strict;
mod upgrade;
mod upstream;

use std::io;
use std::sync::Arc;

use callgate_model::{Outcome, Reason};
use callgate_wire::HeadRules;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use crate::facts::Connection;
use judge::Judge;
pub(crate) use judge::{Channel, Connect, decide_connect};
pub(crate) use upstream::{ServerStream, Upstream, open};

/// Most header fields of a message. Source: hyper's own default, which our scanner shares.
const HEADERS_MAX: usize = 100;

/// One HTTP connection: what its calls share.
pub(crate) struct Http {
    pub(crate) connection: Arc<Connection>,
    pub(crate) judge: Judge,
    pub(crate) upstream: tokio::sync::Mutex<Upstream>,
    pub(crate) control: Arc<strict::Control>,
}

/// Carries the calls of `stream` until it ends or the gate stops.
pub(crate) async fn serve<S>(connection: Arc<Connection>, channel: Channel, upstream: Upstream, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    connection.inspected();
    let rules = HeadRules { tls: channel.is_tls(), default_port: connection.origin.destination.port() };
    let (stream, control) = strict::StrictHeads::new(stream, rules);
    let http = Arc::new(Http {
        judge: Judge::new(Arc::clone(&connection), channel),
        upstream: tokio::sync::Mutex::new(upstream),
        connection: Arc::clone(&connection),
        control: Arc::clone(&control),
    });
    let service = service_fn(move |request| call::serve(Arc::clone(&http), request));
    let limits = &connection.gate.limits;
    let serving = http1::Builder::new()
        // Also keeps hyper from reading ahead while a call is open: what comes meanwhile waits in the scanner.
        .half_close(true)
        .preserve_header_case(true)
        .max_headers(HEADERS_MAX)
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => Some(ended),
        () = connection.gate.stopping.cancelled() => {
            serving.as_mut().graceful_shutdown();
            tokio::time::timeout(limits.drain, &mut serving).await.ok()
        }
    };
    let (outcome, reason) = match (control.fault(), ended) {
        (Some(fault), _) => {
            debug!(connection = %connection.id, fault = fault.as_str(), "malformed request refused");
            (Outcome::Refused, Reason::BadHead)
        }
        (None, Some(Ok(()))) => (Outcome::Complete, Reason::Permitted),
        (None, Some(Err(error))) => (Outcome::Cut, reason_of(&error)),
        (None, None) => (Outcome::Cut, Reason::ShuttingDown),
    };
    connection.ends(outcome, reason);
}

fn reason_of(error: &hyper::Error) -> Reason {
    debug!(%error, "connection broke off");
    let cut = std::error::Error::source(error).and_then(|source| source.downcast_ref::<CutOff>());
    cut.map_or(Reason::ClientGone, |cut| cut.0)
}

/// A body that must not go on: hyper breaks the connection off, so that the receiver cannot take it for complete.
#[derive(Debug, thiserror::Error)]
#[error("cut off: {0}")]
pub(crate) struct CutOff(pub(crate) Reason);

impl From<CutOff> for io::Error {
    fn from(cut: CutOff) -> Self {
        Self::other(cut)
    }
}
