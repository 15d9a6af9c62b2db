//! Reaches the service at the address that the workload dialled, from the workload's own network namespace.
//!
//! The only place in the product that opens a connection for a workload, and it asks for a [`ConnectPermit`].

use std::io;
use std::net::SocketAddr;

use callgate_model::Reason;
use callgate_policy::ConnectPermit;
use tokio::net::{TcpSocket, TcpStream};
use tracing::debug;

use crate::facts::Connection;

/// Opens a TCP connection to the destination of `permit`, which is the original one of `connection`.
///
/// # Errors
/// [`Reason::OwnPort`] if that is a port of ours, [`Reason::UpstreamUnreachable`] if nobody answers in time.
/// # Cancel safety
/// Dropping the future closes the half-open socket.
pub(crate) async fn dial(connection: &Connection, permit: &ConnectPermit) -> Result<TcpStream, Reason> {
    let gate = &connection.gate;
    let destination = permit.destination();
    if permit.connection() != connection.id {
        return Err(Reason::Internal);
    }
    if gate.own_ports.holds(destination) {
        return Err(Reason::OwnPort);
    }
    let reached = tokio::time::timeout(gate.limits.connect, connect(connection, destination)).await;
    let stream = match reached {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            debug!(%destination, %error, "upstream unreachable");
            return Err(Reason::UpstreamUnreachable);
        }
        Err(_elapsed) => {
            debug!(%destination, "upstream did not answer in time");
            return Err(Reason::UpstreamUnreachable);
        }
    };
    match (stream.local_addr(), stream.peer_addr()) {
        (Ok(local), Ok(peer)) if !gate.own_ports.reached(local, peer) => Ok(stream),
        (Ok(_), Ok(_)) => Err(Reason::OwnPort),
        _ => Err(Reason::UpstreamUnreachable),
    }
}

async fn connect(connection: &Connection, destination: SocketAddr) -> io::Result<TcpStream> {
    let socket = connection.gate.ground.socket(connection.origin.netns, destination.is_ipv6())?;
    let stream = TcpSocket::from_std_stream(socket.into()).connect(destination).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
