//! The record of one call while it runs: fed by both bodies, ended once, also when the call is dropped.
//!
//! What is recorded is masked with every kind there is, whatever the policy masks for the caller.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use callgate_audit::{EndFacts, OpenCall};
use callgate_model::{Direction, Header, Latency, Outcome, Protocol, Reason, Verdict};

use super::coding::Codings;
use super::forward::Reading;
use super::tap::Tap;
use crate::Tally;
use crate::facts::Connection;
use crate::masks::CallMask;
use crate::traces::{Ended, Trace};

/// The open record of a call.
pub(crate) struct CallLog {
    state: Mutex<State>,
    mask: CallMask,
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
    about: About,
}

/// What is told of a call beside its record.
pub(crate) struct About {
    pub(crate) protocol: Protocol,
    pub(crate) verdict: Verdict,
    /// None: nobody follows it.
    pub(crate) trace: Option<Box<Trace>>,
}

/// When the stages of a call were reached.
struct Clock {
    started: Instant,
    decided: Instant,
    headed: Option<Instant>,
}

impl CallLog {
    pub(crate) fn new(
        open: OpenCall,
        request: Option<Reading>,
        mask: CallMask,
        started: Instant,
        connection: Arc<Connection>,
        about: About,
    ) -> Self {
        connection.call_opened();
        let clock = Clock { started, decided: Instant::now(), headed: None };
        connection.gate.metrics.decided(clock.decided.duration_since(started).as_secs_f64());
        let state = State {
            open: Some(open),
            request: Tap::new(&mask.recorded, &mask.places, request),
            response: Tap::closed(),
            status: 0,
            headers: Vec::new(),
            masked: 0,
            clock,
            about,
        };
        Self { state: Mutex::new(state), mask, connection }
    }

    /// The connection that the call came on.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Writes into a request on its way up that it belongs to a trace, where it does.
    pub(crate) fn trace(&self, headers: &mut http::HeaderMap) {
        if let Some(trace) = &mut self.state().about.trace {
            trace.pass_on(headers);
        }
    }

    /// What the masking of this call goes by.
    pub(crate) fn mask(&self) -> &CallMask {
        &self.mask
    }

    /// Notes the head of the answer; `reading` is none where the body cannot be masked and so is not kept.
    pub(crate) fn answered(&self, status: u16, headers: Vec<Header>, reading: Option<Reading>) {
        let mut state = self.state();
        state.status = status;
        state.headers = headers;
        state.clock.headed = Some(Instant::now());
        let CallMask { rules, recorded, places, all } = &self.mask;
        state.response = match reading {
            None => Tap::closed(),
            // What comes is decoded and masked by then.
            Some(_) if rules.is_some() && *all => Tap::plain(),
            Some(reading) if rules.is_some() => {
                Tap::new(recorded, &[], Some(Reading { codings: Codings::default(), ..reading }))
            }
            Some(reading) => Tap::new(recorded, places, Some(reading)),
        };
    }

    /// Keeps a piece of a body.
    pub(crate) fn body(&self, direction: Direction, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let mut guard = self.state();
        let State { open, request, response, .. } = &mut *guard;
        let Some(open) = open else { return };
        match direction {
            Direction::Request => request.feed(open, direction, data),
            Direction::Response => response.feed(open, direction, data),
        }
    }

    /// Counts bytes that passed unopened after an upgrade.
    pub(crate) fn carried(&self, up: u64, down: u64) {
        let mut state = self.state();
        state.request.add(up);
        state.response.add(down);
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
        let (latency, gate) = (guard.clock.latency(), &self.connection.gate);
        gate.metrics.call_ended(guard.about.protocol, guard.about.verdict, &latency);
        if let (Some(trace), Some(traces)) = (guard.about.trace.take(), &gate.traces) {
            let (status, masked) = (guard.status, guard.masked);
            let (request_bytes, response_bytes) = (guard.request.bytes(), guard.response.bytes());
            traces.end(*trace, Ended { outcome, reason, status, masked, request_bytes, response_bytes, latency });
        }
        open.end(EndFacts {
            outcome,
            reason,
            status: guard.status,
            headers: std::mem::take(&mut guard.headers),
            request_bytes: guard.request.bytes(),
            response_bytes: guard.response.bytes(),
            masked: guard.masked,
            latency,
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
        self.connection.call_closed();
    }
}
