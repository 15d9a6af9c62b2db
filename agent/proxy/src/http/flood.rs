//! Holds the frames of an HTTP/2 client against a budget, so that a flood costs no more than the connection is worth.
//!
//! hyper and h2 bound what a client makes us keep (header lists, continuations, streams, resets that wait); what is left
//! is work without memory: pings, settings, priorities, window updates, calls opened and reset at once. Each costs one
//! unit of the budget; the connection that overdraws it is broken off.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use callgate_wire::FrameMeter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::through::{flushes_through, shuts_through};

/// Idle frames that a connection may send at once. Source: ten times what a gRPC client with 1,000 open calls sends
/// when all of them are cancelled.
const BURST: f64 = 10_000.0;

/// Idle frames that a connection may send in each second. Source: 2 microseconds each make 0.4 % of a core.
const PER_SECOND: f64 = 2_000.0;

/// Bytes sent to the client for which it may send one more: window updates answer what we send.
/// Source: an eighth of the smallest window that clients announce in practice, 4 KiB.
const BYTES_PER_FRAME: f64 = 512.0;

/// A stream of HTTP/2 whose client pays for its idle frames.
pub(crate) struct Metered<S> {
    stream: S,
    meter: FrameMeter,
    budget: f64,
    counted_at: Instant,
    overdrawn: Arc<AtomicBool>,
}

impl<S> Metered<S> {
    /// Meters `stream` from its preface on. The flag tells afterwards whether the budget was overdrawn.
    pub(crate) fn new(stream: S) -> (Self, Arc<AtomicBool>) {
        let overdrawn = Arc::new(AtomicBool::new(false));
        let meter = FrameMeter::new();
        let flag = Arc::clone(&overdrawn);
        (Self { stream, meter, budget: BURST, counted_at: Instant::now(), overdrawn }, flag)
    }

    fn pay(&mut self, bytes: &[u8]) -> io::Result<()> {
        let idle = self.meter.push(bytes);
        if idle == 0 {
            return Ok(());
        }
        let now = Instant::now();
        let earned = now.duration_since(self.counted_at).as_secs_f64() * PER_SECOND;
        self.counted_at = now;
        self.budget = (self.budget + earned).min(BURST) - f64::from(idle);
        if self.budget >= 0.0 {
            return Ok(());
        }
        self.overdrawn.store(true, Ordering::Relaxed);
        Err(io::Error::new(io::ErrorKind::InvalidData, "more idle frames than a connection may send"))
    }

    fn earn(&mut self, sent: usize) {
        self.budget = (self.budget + sent as f64 / BYTES_PER_FRAME).min(BURST);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        Poll::Ready(this.pay(&buf.filled()[before..]))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let sent = ready!(Pin::new(&mut this.stream).poll_write(cx, buf))?;
        this.earn(sent);
        Poll::Ready(Ok(sent))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let sent = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, bufs))?;
        this.earn(sent);
        Poll::Ready(Ok(sent))
    }

    flushes_through!();
    shuts_through!();
}
