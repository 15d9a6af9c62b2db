//! The record of one call while it runs: fed by both bodies, ended once, also when the call is dropped.
//!
//! What is recorded is masked with every kind there is, whatever the policy masks for the caller.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use callgate_audit::{EndFacts, OpenCall};
use callgate_mask::{Content, Masker, kinds_named};
use callgate_model::{Direction, Header, Latency, MaskKinds, Outcome, Reason};

use crate::Tally;
use crate::facts::Connection;

/// Every kind of finding.
pub(crate) fn all_kinds() -> MaskKinds {
    kinds_named("all").unwrap_or(MaskKinds(u64::MAX))
}

/// The open record of a call.
pub(crate) struct CallLog {
    state: Mutex<State>,
    mask: MaskKinds,
    connection: Arc<Connection>,
}

struct State {
    open: Option<OpenCall>,
    request: Tap,
    response: Tap,
    status: u16,
    headers: Vec<Header>,
    masked: u64,
    clock: Clock,
}

/// When the stages of a call were reached.
struct Clock {
    started: Instant,
    decided: Instant,
    headed: Option<Instant>,
}

/// One body on its way into the record.
struct Tap {
    /// None: what passes is masked already, or cannot be (then nothing is kept).
    masker: Option<Masker>,
    keep: bool,
    bytes: u64,
    buffer: Vec<u8>,
}

impl Tap {
    fn new(content: Content) -> Self {
        Self { masker: Some(Masker::new(all_kinds(), content)), keep: true, bytes: 0, buffer: Vec::new() }
    }

    fn feed(&mut self, open: &mut OpenCall, direction: Direction, data: &[u8]) -> Result<(), Reason> {
        self.bytes += data.len() as u64;
        if !self.keep {
            return Ok(());
        }
        let Some(masker) = &mut self.masker else {
            open.body(direction, data);
            return Ok(());
        };
        self.buffer.clear();
        masker.push(data, &mut self.buffer).map_err(|_| Reason::Internal)?;
        open.body(direction, &self.buffer);
        Ok(())
    }

    fn finish(&mut self, open: &mut OpenCall, direction: Direction) {
        let Some(mut masker) = self.masker.take().filter(|_| self.keep && self.bytes > 0) else { return };
        self.buffer.clear();
        if masker.finish(&mut self.buffer).is_ok() {
            open.body(direction, &self.buffer);
        }
    }
}

impl CallLog {
    pub(crate) fn new(
        open: OpenCall,
        request: Content,
        mask: MaskKinds,
        started: Instant,
        connection: Arc<Connection>,
    ) -> Self {
        let clock = Clock { started, decided: Instant::now(), headed: None };
        connection.gate.metrics.decided(clock.decided.duration_since(started).as_secs_f64());
        let state = State {
            open: Some(open),
            request: Tap::new(request),
            response: Tap::new(Content::Text),
            status: 0,
            headers: Vec::new(),
            masked: 0,
            clock,
        };
        Self { state: Mutex::new(state), mask, connection }
    }

    /// The connection that the call came on.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Kinds that policy has replaced in what the caller gets.
    pub(crate) fn mask(&self) -> MaskKinds {
        self.mask
    }

    /// Notes the head of the answer; `content` is none where the body cannot be masked and so is not kept.
    pub(crate) fn answered(&self, status: u16, headers: Vec<Header>, content: Option<Content>) {
        let mut state = self.state();
        state.status = status;
        state.headers = headers;
        state.clock.headed = Some(Instant::now());
        match content {
            None => state.response.keep = false,
            Some(_) if self.mask.covers(all_kinds()) => state.response.masker = None,
            Some(content) => state.response = Tap::new(content),
        }
    }

    /// Keeps a piece of a body.
    ///
    /// # Errors
    /// Why the call must not go on.
    pub(crate) fn body(&self, direction: Direction, data: &[u8]) -> Result<(), Reason> {
        if data.is_empty() {
            return Ok(());
        }
        let mut guard = self.state();
        let State { open, request, response, .. } = &mut *guard;
        let Some(open) = open else { return Ok(()) };
        match direction {
            Direction::Request => request.feed(open, direction, data),
            Direction::Response => response.feed(open, direction, data),
        }
    }

    /// Counts bytes that passed unopened after an upgrade.
    pub(crate) fn carried(&self, up: u64, down: u64) {
        let mut state = self.state();
        state.request.bytes += up;
        state.response.bytes += down;
    }

    /// Counts findings that were replaced in what the caller got.
    pub(crate) fn masked(&self, findings: u64) {
        self.state().masked += findings;
        self.connection.gate.metrics.masked(findings);
        Tally::add(&self.connection.tally.masked, findings);
    }

    /// Ends the record; only the first call counts.
    pub(crate) fn finish(&self, outcome: Outcome, reason: Reason) {
        let mut guard = self.state();
        let Some(mut open) = guard.open.take() else { return };
        guard.request.finish(&mut open, Direction::Request);
        guard.response.finish(&mut open, Direction::Response);
        open.end(EndFacts {
            outcome,
            reason,
            status: guard.status,
            headers: std::mem::take(&mut guard.headers),
            request_bytes: guard.request.bytes,
            response_bytes: guard.response.bytes,
            masked: guard.masked,
            latency: guard.clock.latency(),
        });
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock {
    fn latency(&self) -> Latency {
        let micros = |from: Instant, to: Instant| to.saturating_duration_since(from).as_micros() as u64;
        let now = Instant::now();
        let headed = self.headed.unwrap_or(now);
        Latency {
            decide_us: micros(self.started, self.decided),
            upstream_us: micros(self.decided, headed),
            body_us: micros(headed, now),
        }
    }
}

impl Drop for CallLog {
    fn drop(&mut self) {
        self.finish(Outcome::Cut, Reason::ClientGone);
    }
}
