//! Accepts the redirected connections of one network namespace.
//!
//! The loop also ticks a [`Pulse`]: the heartbeat in the kernel is beaten only while every accept loop turns,
//! so that an agent which no longer accepts is refused at once instead of letting clients hang.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use callgate_model::NetnsCookie;
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

use crate::{Gate, connection};

/// How often an idle accept loop shows that it turns.
/// Source: a tenth of the kernel's default bound of 2 s leaves room for a busy machine.
pub(crate) const TICK: Duration = Duration::from_millis(200);

/// Pause after a failed accept (out of descriptors, mostly), so that the loop does not spin.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);

/// When an accept loop last turned.
#[derive(Debug)]
pub struct Pulse {
    start: Instant,
    last_ms: AtomicU64,
}

impl Pulse {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), last_ms: AtomicU64::new(0) }
    }

    pub(crate) fn tick(&self) {
        self.last_ms.store(self.start.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Time since the loop last turned.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.start.elapsed().saturating_sub(Duration::from_millis(self.last_ms.load(Ordering::Relaxed)))
    }
}

/// A listening socket inside one network namespace.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    netns: NetnsCookie,
    pulse: Arc<Pulse>,
}

impl Listener {
    /// Takes over `socket`, which listens in the namespace `netns`.
    ///
    /// # Errors
    /// When the socket cannot be made non-blocking or registered with the runtime.
    pub fn new(socket: std::net::TcpListener, netns: NetnsCookie) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket: TcpListener::from_std(socket)?, netns, pulse: Arc::new(Pulse::new()) })
    }

    /// When this listener's loop last turned.
    #[must_use]
    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// Accepts until the gate stops.
    pub async fn serve(self, gate: Arc<Gate>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                () = gate.stopping.cancelled() => return,
                _ = tick.tick() => self.pulse.tick(),
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, peer)) => accept(&gate, stream, peer, self.netns),
                    Err(error) => {
                        warn!(%error, "accept failed");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
            }
        }
    }
}

fn accept(gate: &Arc<Gate>, stream: TcpStream, peer: SocketAddr, netns: NetnsCookie) {
    let Some(origin) = gate.ground.origin(netns, peer) else {
        gate.metrics.no_origin();
        debug!(%peer, "no original destination: not redirected by us, or enrolled after it connected");
        return;
    };
    let Ok(slot) = Arc::clone(&gate.connections).try_acquire_owned() else {
        warn!(limit = gate.limits.connections, "connection refused: too many are open");
        gate.metrics.ended(callgate_model::Outcome::Refused, callgate_model::Reason::LimitReached);
        return;
    };
    // Watched by the runtime of its worker from here on.
    let Ok(stream) = stream.into_std() else { return };
    let carried = Arc::clone(gate);
    gate.workers.carry(move || async move {
        match TcpStream::from_std(stream) {
            Ok(stream) => connection::conduct(carried, stream, origin).await,
            Err(error) => warn!(%error, "connection lost: its worker cannot watch it"),
        }
        drop(slot);
    });
}
