//! What is known of one connection, and the record that it leaves when it ends.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use callgate_model::{
    ConnectionId, ConnectionRecord, Decision, Mode, Origin, Outcome, Process, Reason, RecordKind, Service, SessionId,
    Uninspected, Workload,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};
use uuid::Uuid;

use crate::counted::Traffic;
use crate::metrics::OpenConnection;
use crate::{Gate, Tally};

/// One connection of a workload. Dropping the last reference writes its record.
pub(crate) struct Connection {
    pub(crate) gate: Arc<Gate>,
    pub(crate) id: ConnectionId,
    pub(crate) session: SessionId,
    pub(crate) workload: Arc<Workload>,
    pub(crate) process: Process,
    pub(crate) origin: Origin,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) tally: Arc<Tally>,
    calls: AtomicU64,
    first_call: CancellationToken,
    busy: Mutex<Busy>,
    ending: Mutex<Ending>,
    started: Instant,
    _open: OpenConnection,
}

/// How many calls are open, and since when that is so.
struct Busy {
    open: usize,
    since: Instant,
}

/// How a connection stands, should it end now.
struct Ending {
    service: Option<Service>,
    decision: Option<Decision>,
    inspected: bool,
    uninspected: Option<Uninspected>,
    outcome: Outcome,
    reason: Reason,
    refused: u64,
    refused_for: Reason,
}

impl Connection {
    pub(crate) fn new(gate: Arc<Gate>, workload: Arc<Workload>, process: Process, origin: Origin) -> Self {
        let session = workload.session.unwrap_or_else(|| session_of(&origin, &process));
        let open = gate.metrics.open();
        let tally = gate.tallies.of(origin.enrolled);
        Tally::add(&tally.open, 1);
        Tally::add(&tally.connections, 1);
        Self {
            gate,
            id: ConnectionId::new(),
            session,
            workload,
            process,
            origin,
            traffic: Arc::default(),
            tally,
            calls: AtomicU64::new(0),
            first_call: CancellationToken::new(),
            busy: Mutex::new(Busy { open: 0, since: Instant::now() }),
            ending: Mutex::new(Ending {
                service: None,
                decision: None,
                inspected: false,
                uninspected: None,
                outcome: Outcome::Cut,
                reason: Reason::Internal,
                refused: 0,
                refused_for: Reason::Internal,
            }),
            started: Instant::now(),
            _open: open,
        }
    }

    /// Whether verdicts are recorded only.
    pub(crate) fn observes(&self) -> bool {
        self.workload.mode == Mode::Observe
    }

    pub(crate) fn count_call(&self) {
        if self.calls.fetch_add(1, Ordering::Relaxed) == 0 {
            self.first_call.cancel();
        }
        Tally::add(&self.tally.calls, 1);
    }

    /// Waits for the first call.
    pub(crate) async fn called(&self) {
        self.first_call.cancelled().await;
    }

    /// Notes that a call is open, until [`call_closed`](Self::call_closed).
    pub(crate) fn call_opened(&self) {
        self.busy().open += 1;
    }

    /// Notes that a call has ended.
    pub(crate) fn call_closed(&self) {
        let mut busy = self.busy();
        busy.open -= 1;
        busy.since = Instant::now();
    }

    /// Waits until no call has been open for as long as `limit`.
    pub(crate) async fn idle(&self, limit: Duration) {
        loop {
            let idle_for = {
                let busy = self.busy();
                if busy.open > 0 { Duration::ZERO } else { busy.since.elapsed() }
            };
            if idle_for >= limit {
                return;
            }
            tokio::time::sleep(limit - idle_for).await;
        }
    }

    fn busy(&self) -> MutexGuard<'_, Busy> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that one of its calls was refused.
    pub(crate) fn count_refused(&self, reason: Reason) {
        Tally::add(&self.tally.denied, 1);
        let mut ending = self.ending();
        ending.refused += 1;
        ending.refused_for = reason;
    }

    /// Notes what the connection was judged as.
    pub(crate) fn judged(&self, service: &Service, decision: &Decision) {
        let mut ending = self.ending();
        ending.service = Some(service.clone());
        ending.decision = Some(decision.clone());
    }

    /// Notes that its calls are decoded.
    pub(crate) fn inspected(&self) {
        self.ending().inspected = true;
    }

    /// Notes that its bytes pass as they are.
    pub(crate) fn uninspected(&self, why: Uninspected) {
        self.ending().uninspected = Some(why);
        self.gate.metrics.uninspected(why);
    }

    /// Notes how it ends.
    pub(crate) fn ends(&self, outcome: Outcome, reason: Reason) {
        let mut ending = self.ending();
        ending.outcome = outcome;
        ending.reason = reason;
    }

    fn ending(&self) -> MutexGuard<'_, Ending> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let (outcome, reason) = {
            let ending = self.ending();
            let calls = self.calls.load(Ordering::Relaxed);
            // Nothing was permitted on it, however orderly it was closed.
            if ending.outcome == Outcome::Complete && calls > 0 && ending.refused == calls {
                (Outcome::Refused, ending.refused_for)
            } else {
                (ending.outcome, ending.reason)
            }
        };
        let record = {
            let mut ending = self.ending();
            ConnectionRecord {
                connection: self.id,
                session: self.session,
                workload: self.workload.id.clone(),
                process: self.process.clone(),
                destination: self.origin.destination.to_string(),
                service: ending.service.take(),
                decision: ending.decision.take(),
                inspected: ending.inspected,
                uninspected: ending.uninspected,
                outcome,
                reason,
                calls: self.calls.load(Ordering::Relaxed),
                bytes_in: self.traffic.incoming.load(Ordering::Relaxed),
                bytes_out: self.traffic.outgoing.load(Ordering::Relaxed),
                duration_us: self.started.elapsed().as_micros() as u64,
            }
        };
        info!(
            connection = %self.id, workload = %self.workload.id, destination = %self.origin.destination,
            outcome = ?outcome, %reason, calls = record.calls, "connection ended"
        );
        self.gate.metrics.ended(outcome, reason);
        self.tally.open.fetch_sub(1, Ordering::Relaxed);
        if let Err(error) = self.gate.recorder.write(RecordKind::Connection(Box::new(record))) {
            error!(%error, connection = %self.id, "the record of a connection could not be written");
        }
    }
}

/// Outside of `run`, a session is one process of a workload: the same process always gives the same id.
fn session_of(origin: &Origin, process: &Process) -> SessionId {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(b"callgate session v1");
    for part in [origin.enrolled.0, u64::from(process.pid), process.start_time] {
        hash.update(&part.to_le_bytes());
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finish().as_ref()[..16]);
    SessionId(Uuid::from_bytes(bytes))
}
