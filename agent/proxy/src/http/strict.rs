//! Stands between the workload's stream and hyper: hyper reads only what the strict scanner has released.
//!
//! A malformed request ends the input. hyper first finishes the answers it owes, then shuts the stream down;
//! that is when the 400 is written, so pipelined answers keep their order and nothing after the fault is ever read.
//! A fault within a body whose head hyper has read already is an error of that body, answered like any failed call.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use callgate_model::{CallId, Reason};
use callgate_wire::{Head, HeadError, HeadRules, HeadScanner};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::refuse::Refusal;
use crate::through::{flushes_through, writes_through};

/// The stream as hyper sees it.
pub(crate) struct StrictHeads<S> {
    stream: S,
    scanner: HeadScanner,
    heads: Vec<Head>,
    released: Vec<u8>,
    given: usize,
    end: Option<End>,
    control: Arc<Control>,
}

/// Why no more is read.
enum End {
    /// The client ended its stream between two requests.
    Clean,
    /// A malformed request: the bytes of the 400 that are still to be written.
    Refused(Vec<u8>),
    /// The 400 is written: what the client still sends is read and dropped, or the reset would take the answer with it.
    Lingering(Linger),
    /// A fault in a body that is being read.
    Broken,
}

/// Reads on after a refusal, for a little while.
struct Linger {
    left: usize,
    until: Pin<Box<Sleep>>,
}

impl Linger {
    /// Most that is read and dropped. Unit: bytes. Source: a head of the largest size that clients send by mistake.
    const BYTES: usize = 1 << 20;
    /// Longest time. Source: a round trip across the world, ten times.
    const TIME: Duration = Duration::from_secs(2);

    fn new() -> Self {
        Self { left: Self::BYTES, until: Box::pin(tokio::time::sleep(Self::TIME)) }
    }

    fn poll<S: AsyncRead + Unpin>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<()> {
        let mut scrap = [0; 4096];
        while self.left > 0 && self.until.as_mut().poll(cx).is_pending() {
            let mut buf = ReadBuf::new(&mut scrap);
            match ready!(Pin::new(&mut *stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => self.left = self.left.saturating_sub(buf.filled().len()),
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(())
    }
}

/// What the connection's owner may see and tell.
#[derive(Default)]
pub(crate) struct Control(Mutex<State>);

#[derive(Default)]
struct State {
    fault: Option<HeadError>,
    upgrade: Option<bool>,
    waiting: Option<Waker>,
}

impl Control {
    /// The fault that ended the input.
    pub(crate) fn fault(&self) -> Option<HeadError> {
        self.state().fault
    }

    /// Tells whether a request to upgrade is answered with a switch of protocols. To be called before that answer goes out.
    pub(crate) fn upgrade(&self, accepted: bool) {
        let mut state = self.state();
        state.upgrade = Some(accepted);
        if let Some(waker) = state.waiting.take() {
            waker.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> StrictHeads<S> {
    pub(crate) fn new(stream: S, rules: HeadRules) -> (Self, Arc<Control>) {
        let control = Arc::new(Control::default());
        let strict = Self {
            stream,
            scanner: HeadScanner::new(rules),
            heads: Vec::new(),
            released: Vec::new(),
            given: 0,
            end: None,
            control: Arc::clone(&control),
        };
        (strict, control)
    }

    /// Gives released bytes to the reader; whether there were any.
    fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let rest = &self.released[self.given..];
        let n = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..n]);
        self.given += n;
        if self.given == self.released.len() {
            self.released.clear();
            self.given = 0;
        }
        n > 0
    }

    fn settle(&mut self, scanned: Result<(), HeadError>) {
        if let Err(fault) = scanned {
            // A message whose head was read may not be answered from here: hyper owes that answer.
            let unread = !self.scanner.in_body() || self.scanner.withdraw(&mut self.released, &mut self.heads);
            self.end = Some(if unread { End::Refused(bad_request(fault)) } else { End::Broken });
            self.control.state().fault = Some(fault);
        }
        self.heads.clear();
    }

    /// Hears whether a request to upgrade was answered; registers to be woken if that is still open.
    fn hear(&mut self, cx: &Context<'_>) {
        if !self.scanner.awaits_upgrade() {
            return;
        }
        let answer = {
            let mut state = self.control.state();
            let answer = state.upgrade.take();
            if answer.is_none() {
                state.waiting = Some(cx.waker().clone());
            }
            answer
        };
        match answer {
            Some(true) => {
                self.scanner.accept_upgrade(&mut self.released);
            }
            Some(false) => {
                let scanned = self.scanner.refuse_upgrade(&mut self.released, &mut self.heads);
                self.settle(scanned);
            }
            None => {}
        }
    }
}

/// The answer to a malformed request, complete, as bytes.
fn bad_request(fault: HeadError) -> Vec<u8> {
    tracing::debug!(fault = fault.as_str(), "malformed request");
    let response = Refusal::because(CallId::new(), Reason::BadHead, &[]).to_http();
    let head = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        response.body().len()
    );
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(response.body());
    bytes
}

impl<S: AsyncRead + Unpin> AsyncRead for StrictHeads<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            this.hear(cx);
            if this.give(buf) {
                return Poll::Ready(Ok(()));
            }
            match this.end {
                Some(End::Clean | End::Refused(_) | End::Lingering(_)) => return Poll::Ready(Ok(())),
                Some(End::Broken) => return Poll::Ready(Err(io::Error::from(io::ErrorKind::InvalidData))),
                None => {}
            }
            // Read straight into hyper's buffer: body data stays there, the rest goes through the scanner.
            let start = buf.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            let read = &buf.filled()[start..];
            if read.is_empty() {
                let finished = this.scanner.finish();
                this.end = Some(End::Clean);
                this.settle(finished);
                continue;
            }
            let passed = this.scanner.pass(read);
            let rest = &read[passed..];
            if !rest.is_empty() {
                let scanned = this.scanner.push(rest, &mut this.released, &mut this.heads);
                this.settle(scanned);
            }
            buf.set_filled(start + passed);
            if passed > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for StrictHeads<S> {
    writes_through!();
    flushes_through!();

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while let Some(End::Refused(answer)) = &mut this.end {
            if answer.is_empty() {
                ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
                this.end = Some(End::Lingering(Linger::new()));
                break;
            }
            let written = ready!(Pin::new(&mut this.stream).poll_write(cx, answer))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            answer.drain(..written);
        }
        if let Some(End::Lingering(linger)) = &mut this.end {
            ready!(linger.poll(&mut this.stream, cx));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}
