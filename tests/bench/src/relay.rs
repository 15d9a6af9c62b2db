//! The least that a gate in user space can do: takes a redirected connection and copies its bytes both ways.
//!
//! A process of its own, as the agent is; its cgroup is not enrolled, so what it dials is not redirected.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use callgate_model::{NetnsCookie, Origin};
use callgate_redirect::{NetnsSockets, Redirect};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::hooks::Hooks;

/// What a relay says when it serves.
pub const READY: &str = "ready";

/// Size of the buffer of each direction. Unit: bytes. Source: the most that one read of a busy connection gives.
const BUFFER: usize = 64 * 1024;

/// Options of `callgate-bench run-relay`.
#[derive(clap::Args)]
pub struct Options {
    /// The bpffs of its pins.
    #[arg(long)]
    pub bpffs: PathBuf,
    /// The cgroup it redirects.
    #[arg(long)]
    pub cgroup: PathBuf,
}

/// Relays until stdin closes.
pub fn main(options: &Options) -> Result<()> {
    let (hooks, listeners) = Hooks::load(&options.bpffs)?;
    let listener = listeners.v4.context("no IPv4 here")?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let redirect = Arc::clone(&hooks.redirect);
    let listener = runtime.block_on(async { TcpListener::from_std(listener) })?;
    runtime.spawn(accept(listener, redirect, listeners.netns, listeners.sockets));
    hooks.enrol(&options.cgroup)?;
    println!("{READY}");
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

async fn accept(listener: TcpListener, redirect: Arc<Redirect>, netns: NetnsCookie, sockets: NetnsSockets) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else { continue };
        let Some(origin) = redirect.origin(netns, peer) else { continue };
        let sockets = sockets.clone();
        // A connection that breaks is seen by the load generator.
        tokio::spawn(async move { relay(stream, &origin, &sockets).await.ok() });
    }
}

#[expect(clippy::disallowed_methods, reason = "nothing is to be judged, masked or counted: that is what is measured")]
async fn relay(mut client: TcpStream, origin: &Origin, sockets: &NetnsSockets) -> Result<()> {
    let socket = TcpSocket::from_std_stream(sockets.tcp(origin.destination.is_ipv6())?.into());
    let mut upstream = socket.connect(origin.destination).await?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    tokio::io::copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER).await?;
    Ok(())
}
