//! The agent's port for metrics and probes: its own, or that of the agent before.
//!
//! What is served there is in `callgate-observe`, what makes the agent ready in [`faults`](crate::Agent::faults).

use std::net::{SocketAddr, TcpListener as Inherited};

use anyhow::Result;
use callgate_redirect::NetnsRef;
use tokio::net::TcpListener;

/// Listens at `address`, or goes on with the listener of the agent before where it has that address in our network
/// namespace: an agent in another pod has its own.
///
/// # Errors
/// If the address cannot be bound.
pub async fn listen(address: Option<SocketAddr>, before: Option<Inherited>) -> Result<Option<TcpListener>> {
    let Some(address) = address else { return Ok(None) };
    if let Some(before) = before
        && before
            .local_addr()
            .is_ok_and(|bound| bound == address || (address.port() == 0 && bound.ip() == address.ip()))
        && NetnsRef::current()?.holds(&before)?
    {
        return Ok(Some(TcpListener::from_std(before)?));
    }
    Ok(Some(callgate_observe::bind(address).await?))
}
