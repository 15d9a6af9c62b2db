//! What a peer may do: what its certificate names, where it has shown one.
//!
//! A local peer (unix socket, loopback) may do everything: who reaches those is the [`PeerGuard`](super::PeerGuard)'s
//! and the host's affair. Over TLS a node writes its own streams and no others, and only a reader reads.

use std::sync::Arc;
use std::time::Instant;

use callgate_mtls::Client;
use tonic::{Request, Status};

/// What is known of a connection's other end.
#[derive(Clone, Default, Debug)]
pub(super) struct PeerInfo {
    /// Whom its certificate names; none without TLS.
    pub client: Option<Arc<Client>>,
    /// When the connection is to end, so that its certificate is looked at again.
    pub until: Option<Instant>,
}

impl PeerInfo {
    /// Of a request; the transport puts it there.
    pub(super) fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        request.extensions().get::<Self>().cloned().ok_or_else(|| Status::internal("an unknown connection"))
    }

    /// Whether it may write the streams of `node`.
    pub(super) fn may_write(&self, node: &str) -> Result<(), Status> {
        match &self.client {
            Some(client) if !client.is_node(node) => {
                tracing::warn!(node, names = ?client.names(), "refused records: the client's certificate does not name that node");
                let names = named(client);
                Err(Status::permission_denied(format!("the client's certificate names {names}, not the node `{node}`")))
            }
            _ => Ok(()),
        }
    }
}

/// Lets a request of a reader pass.
pub(super) fn readers_only(request: Request<()>) -> Result<Request<()>, Status> {
    match &PeerInfo::of(&request)?.client {
        Some(client) if !client.is_reader() => {
            let names = named(client);
            tracing::warn!(names, "refused a query: the client's certificate names no reader");
            Err(Status::permission_denied(format!(
                "the client's certificate names {names}, and only a reader may read (`callgate://reader/NAME`)"
            )))
        }
        _ => Ok(request),
    }
}

/// Says that a connection has to be made anew.
pub(super) fn too_old() -> Status {
    Status::unavailable("the connection is as old as one may be (`connection_max_s`): connect again")
}

fn named(client: &Client) -> String {
    let names = client.names();
    if names.is_empty() { "nobody that is let in here".into() } else { format!("`{}`", names.join("`, `")) }
}
