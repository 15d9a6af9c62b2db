//! Copies bytes both ways, unopened: passthrough, permitted unknown protocols, upgraded connections.
//!
//! Never dials, never decides. Each direction ends on its own, so a half-closed connection keeps its other half.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// One buffer per direction. Unit: bytes.
/// Source: the design's figure; larger ones gained nothing on loopback, smaller ones cost system calls.
const BUFFER: usize = 64 * 1024;

/// Bytes that a relay carried.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Carried {
    /// From the workload.
    pub(crate) up: u64,
    /// To the workload.
    pub(crate) down: u64,
}

/// Copies between `client` and `server` until both directions have ended.
///
/// # Errors
/// The first error of either side; the other direction is dropped with it.
pub(crate) async fn relay<C, S>(client: C, server: S) -> io::Result<Carried>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (client_read, client_write) = tokio::io::split(client);
    let (server_read, server_write) = tokio::io::split(server);
    let (up, down) = tokio::try_join!(copy(client_read, server_write), copy(server_read, client_write))?;
    Ok(Carried { up, down })
}

async fn copy<R, W>(mut from: R, mut to: W) -> io::Result<u64>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; BUFFER];
    let mut total = 0;
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            to.shutdown().await?;
            return Ok(total);
        }
        to.write_all(&buffer[..n]).await?;
        to.flush().await?;
        total += n as u64;
    }
}
