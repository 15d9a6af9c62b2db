//! The calls of one HTTP connection: framing by hyper, heads of HTTP/1.1 first through our strict scanner.
//!
//! [`serve`] runs the connection (`h1`, `h2`), `call` carries one call, `judge` asks policy, `upstream` holds the way to
//! the service, which may speak the other version.

mod body;
mod call;
mod call_log;
mod coding;
mod flood;
mod forward;
mod grpc;
mod h1;
mod h2;
mod judge;
mod pipe;
mod places;
mod strict;
mod tap;
mod upgrade;
mod upload;
mod upstream;

use std::io;
use std::sync::Arc;

use callgate_model::Reason;
use callgate_wire::HeadRules;
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use crate::facts::Connection;
use judge::Judge;
pub(crate) use judge::{Channel, Connect, decide_connect};
pub(crate) use upstream::{ServerStream, Upstream, open};

/// Most header fields of a message. Source: hyper's own default, which our scanner shares.
const HEADERS_MAX: usize = 100;

/// What is spoken on one side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Version {
    Http1,
    Http2,
}

/// One HTTP connection: what its calls share.
pub(crate) struct Http {
    pub(crate) connection: Arc<Connection>,
    pub(crate) version: Version,
    pub(crate) judge: Judge,
    pub(crate) upstream: Upstream,
    /// Hears of upgrades; HTTP/2 has none.
    pub(crate) control: Option<Arc<strict::Control>>,
}

/// Carries the calls of `stream` until it ends or the gate stops.
pub(crate) async fn serve<S>(
    connection: Arc<Connection>,
    channel: Channel,
    version: Version,
    upstream: Upstream,
    stream: S,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    connection.inspected();
    let http =
        |judge, control| Arc::new(Http { connection: Arc::clone(&connection), version, judge, upstream, control });
    let judge = Judge::new(Arc::clone(&connection), channel.clone());
    let (outcome, reason) = match version {
        Version::Http1 => {
            let rules = HeadRules { tls: channel.is_tls(), default_port: connection.origin.destination.port() };
            let (stream, control) = strict::StrictHeads::new(stream, rules);
            h1::serve(http(judge, Some(Arc::clone(&control))), &control, stream).await
        }
        Version::Http2 => Box::pin(h2::serve(http(judge, None), stream)).await,
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
