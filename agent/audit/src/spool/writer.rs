//! Seals records and appends them to the current segment. Used under the lock of [`Shared`](super::shared::Shared).
//!
//! Sealed entries first go to `pending`; a `begin` writes `pending` and itself at once, all else waits for the next
//! `begin` or the commit thread. What is sealed is never dropped again: it stays in `pending` until the disk takes it.
//! So `pending` is bounded by admitting nothing but the ends of open calls while the disk is full, and room for those
//! is set aside when a call begins: of the spool's bound, and on the disk (`current`).
//! Never syncs except when it changes segments; that is the commit thread's.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use callgate_model::CallId;
use callgate_proto::stamp;
use callgate_seal::{Hash, seal};
use tracing::{error, info, warn};

use super::current::{Current, Segment, Trouble};
use super::disk::{Disk, Faults};
use super::format::{BODY_MAX, ENTRY_HEAD, Header, push_entry};
use super::state::State;
use crate::{AuditError, Metrics};

/// Room kept for the `end` of each open call. Unit: bytes.
/// Source: an `end` without headers takes at most 320 with its entry head (tested); rounded up.
pub(crate) const END_RESERVE: u64 = 512;
/// Entries that wait for a write. Above it whoever adds one writes them. Unit: bytes.
const PENDING_MAX: usize = 256 * 1024;
/// Whether the disk takes what it is given.
#[derive(Clone, Debug)]
pub(crate) enum Health {
    /// It does.
    Sound,
    /// It is full; the next write may find room again.
    DiskFull,
    /// It failed: nothing is written any more.
    Failed(Arc<str>),
}

/// A call that has ended, and whose `end` is not known to be on disk.
#[derive(Debug)]
struct Ended {
    end_seq: u64,
    begin_seq: u64,
    call: CallId,
}

/// What to do after acknowledgement: first remember `state`, then free `segments`.
#[derive(Debug)]
pub(crate) struct Plan {
    pub state: State,
    pub segments: Vec<PathBuf>,
}

/// The end of the chain and the file that it is written to.
#[derive(Debug)]
pub(crate) struct Writer {
    pub dir: PathBuf,
    pub dir_handle: Arc<File>,
    pub stream: String,
    pub faults: Faults,
    pub metrics: Metrics,
    /// Bound of the spool. Unit: bytes.
    pub max_bytes: u64,
    /// Size at which a segment is closed. Unit: bytes.
    pub segment_bytes: u64,

    /// All segments, oldest first; the last is written to.
    pub segments: VecDeque<Segment>,
    /// Last record sealed, written or not.
    pub head_seq: u64,
    pub head: Hash,
    /// Last record given to the kernel.
    pub written_seq: u64,
    /// Last record on disk.
    pub durable_seq: u64,
    /// Last record that the collector has.
    pub acked_seq: u64,

    current: Current,
    /// Size of all segments but the current one. Unit: bytes.
    closed: u64,
    /// Size at which the current segment is to be closed.
    roll_at: u64,
    /// Sealed entries that are not written.
    pending: Vec<u8>,
    /// Open calls and the seq of their `begin`.
    open: HashMap<CallId, u64>,
    ended: Vec<Ended>,
    health: Health,
}

/// What [`Writer::new`] is made of.
#[derive(Debug)]
pub(crate) struct Start {
    pub dir: PathBuf,
    pub dir_handle: File,
    pub stream: String,
    pub faults: Faults,
    pub metrics: Metrics,
    pub max_bytes: u64,
    pub segment_bytes: u64,
    pub segments: VecDeque<Segment>,
    pub current: Current,
    pub head_seq: u64,
    pub head: Hash,
    pub acked_seq: u64,
}

impl Writer {
    /// Goes on at the end of a chain whose records are all in their files.
    pub fn new(start: Start) -> Self {
        let closed = start.segments.iter().rev().skip(1).map(|segment| segment.bytes).sum();
        Self {
            dir: start.dir,
            dir_handle: Arc::new(start.dir_handle),
            stream: start.stream,
            faults: start.faults,
            metrics: start.metrics,
            max_bytes: start.max_bytes,
            segment_bytes: start.segment_bytes,
            segments: start.segments,
            head_seq: start.head_seq,
            head: start.head,
            written_seq: start.head_seq,
            durable_seq: 0,
            acked_seq: start.acked_seq,
            current: start.current,
            closed,
            roll_at: start.segment_bytes,
            pending: Vec::with_capacity(PENDING_MAX),
            open: HashMap::new(),
            ended: Vec::new(),
            health: Health::Sound,
        }
    }

    /// Records the `begin` of `call` and gives it to the kernel; says its seq. On an error nothing was recorded.
    pub fn begin(&mut self, call: CallId, body: &mut [u8]) -> Result<u64, AuditError> {
        self.admit(body.len(), END_RESERVE)?;
        let before = (self.pending.len(), self.head_seq, self.head);
        self.put(body);
        if let Err(error) = self.flush() {
            self.pending.truncate(before.0);
            (_, self.head_seq, self.head) = before;
            return Err(error);
        }
        self.open.insert(call, self.head_seq);
        self.count(1, body.len());
        Ok(self.head_seq)
    }

    /// Records something that is not the end of a call.
    pub fn add(&mut self, body: &mut [u8]) -> Result<u64, AuditError> {
        self.admit(body.len(), 0)?;
        self.put(body);
        self.count(1, body.len());
        self.flush_if_large();
        Ok(self.head_seq)
    }

    /// Records the `end` of an open call: `body` where there is room, else `small`, for which there always is.
    pub fn end(&mut self, call: CallId, body: &mut [u8], small: impl FnOnce() -> Vec<u8>) -> Result<u64, AuditError> {
        if let Health::Failed(cause) = &self.health {
            return Err(AuditError::Failed { cause: cause.clone() });
        }
        let begin_seq = self.open.remove(&call);
        let fits = (ENTRY_HEAD + body.len()) as u64 <= END_RESERVE || self.admit(body.len(), 0).is_ok();
        let mut smaller = if fits { Vec::new() } else { small() };
        let body = if fits { body } else { &mut smaller };
        self.put(body);
        self.count(1, body.len());
        if let Some(begin_seq) = begin_seq {
            self.ended.push(Ended { end_seq: self.head_seq, begin_seq, call });
        }
        self.flush_if_large();
        Ok(self.head_seq)
    }

    /// Gives all sealed entries to the kernel.
    pub fn flush(&mut self) -> Result<(), AuditError> {
        if let Health::Failed(cause) = &self.health {
            return Err(AuditError::Failed { cause: cause.clone() });
        }
        if self.pending.is_empty() {
            return Ok(());
        }
        match self.current.append(&self.pending) {
            Ok(()) => {
                self.written_seq = self.head_seq;
                self.pending.clear();
                self.pending.shrink_to(2 * PENDING_MAX);
                if matches!(self.health, Health::DiskFull) {
                    info!(stream = self.stream, "the disk of the audit spool has room again");
                    self.health = Health::Sound;
                }
                Ok(())
            }
            Err(trouble) => {
                if matches!((&trouble, &self.health), (Trouble::Full, Health::Sound)) {
                    error!(stream = self.stream, "the disk of the audit spool is full: new calls are refused");
                    self.health = Health::DiskFull;
                }
                Err(self.troubled(trouble))
            }
        }
    }

    /// Refuses everything from now on.
    pub fn fail(&mut self, what: &str, why: &dyn std::fmt::Display) -> AuditError {
        if let Health::Failed(cause) = &self.health {
            return AuditError::Failed { cause: cause.clone() };
        }
        let cause: Arc<str> = format!("{what}: {why}").into();
        error!(stream = self.stream, %cause, "the audit spool failed: new calls are refused until the agent is restarted");
        self.metrics.failed.set(1);
        self.pending = Vec::new();
        self.health = Health::Failed(cause.clone());
        AuditError::Failed { cause }
    }

    /// Closes the current segment, all of it on disk, and starts the next, where its size makes that due.
    ///
    /// The one place that syncs under the lock: a later segment exists only if the earlier ones are whole on disk,
    /// by which recovery tells a torn tail from damage. That costs a few milliseconds per segment.
    pub fn roll_if_due(&mut self) -> Result<(), AuditError> {
        if self.current.written() < self.roll_at {
            return Ok(());
        }
        self.flush()?;
        if let Err(error) = self.current.disk().sync() {
            return Err(self.fail("syncing a segment", &error));
        }
        self.durable_seq = self.written_seq;
        let header = Header { first_seq: self.head_seq + 1, prev: self.head, stream: self.stream.clone() };
        match Current::create(&self.dir, &self.dir_handle, &header, self.reserved(), &self.faults) {
            Ok((current, segment)) => {
                let before = std::mem::replace(&mut self.current, current);
                before.give_back();
                self.closed += before.written();
                if let Some(last) = self.segments.back_mut() {
                    last.bytes = before.written();
                }
                self.segments.push_back(segment);
                self.roll_at = self.segment_bytes;
            }
            Err(error) => {
                // The current segment has its room set aside: better to go on with it than to stop.
                warn!(stream = self.stream, %error, "no new segment for the audit spool, the old one goes on");
                self.roll_at = self.current.written() + self.segment_bytes / 8;
            }
        }
        Ok(())
    }

    /// What the state file should say now, and which segments can go once it does.
    pub fn plan(&mut self) -> Plan {
        self.ended.retain(|ended| ended.end_seq > self.durable_seq);
        let reached = self.segments.partition_point(|segment| segment.first_seq <= self.acked_seq + 1);
        let free = reached.saturating_sub(1);
        let first_kept = self.segments.get(free).map_or(0, |segment| segment.first_seq);
        let open = self.open.iter().map(|(call, begin_seq)| (*begin_seq, *call));
        let ended = self.ended.iter().map(|ended| (ended.begin_seq, ended.call));
        let mut carried: Vec<_> = open.chain(ended).filter(|(begin_seq, _)| *begin_seq < first_kept).collect();
        carried.sort_unstable();
        Plan {
            state: State {
                acked_seq: self.acked_seq,
                durable_seq: self.durable_seq,
                open: carried.into_iter().map(|(_, call)| call).collect(),
            },
            segments: self.segments.iter().take(free).map(|segment| segment.path.clone()).collect(),
        }
    }

    /// Forgets a segment that was freed: the oldest.
    pub fn freed(&mut self) {
        let bytes = self.segments.pop_front().map_or(0, |segment| segment.bytes);
        self.closed = self.closed.saturating_sub(bytes);
        self.metrics.segments_freed.inc();
    }

    /// The current segment, for the commit thread to sync.
    pub fn disk(&self) -> Arc<Disk> {
        self.current.disk().clone()
    }

    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Whether something is sealed and not on disk.
    pub fn unsynced(&self) -> bool {
        self.head_seq > self.durable_seq && !matches!(self.health, Health::Failed(_))
    }

    /// Whether a whole segment is acknowledged.
    pub fn can_free(&self) -> bool {
        self.segments.get(1).is_some_and(|segment| segment.first_seq <= self.acked_seq + 1)
    }

    /// Size of the spool. Unit: bytes.
    pub fn used(&self) -> u64 {
        self.closed + self.current.written() + self.pending.len() as u64
    }

    fn reserved(&self) -> u64 {
        self.open.len() as u64 * END_RESERVE
    }

    /// Makes sure that an entry with `len` bytes of body, and `extra` more bytes later, have their room.
    fn admit(&mut self, len: usize, extra: u64) -> Result<(), AuditError> {
        if len > BODY_MAX {
            return Err(AuditError::TooLarge { bytes: len });
        }
        if !matches!(self.health, Health::Sound) {
            self.flush()?;
        }
        let need = (ENTRY_HEAD + len) as u64 + extra;
        if self.used() + self.reserved() + need > self.max_bytes {
            return Err(AuditError::Full { max_bytes: self.max_bytes });
        }
        let ahead = self.pending.len() as u64 + self.reserved() + need;
        self.current.set_aside(ahead).map_err(|trouble| self.troubled(trouble))
    }

    /// The error of what the disk did; a failure fails the spool.
    fn troubled(&mut self, trouble: Trouble) -> AuditError {
        match trouble {
            Trouble::Full => AuditError::DiskFull,
            Trouble::Failed(what, error) => self.fail(what, &error),
        }
    }

    /// Seals a record, its time being now, and adds it to what waits.
    pub fn put(&mut self, body: &mut [u8]) {
        stamp(body, now_us());
        self.head_seq += 1;
        self.head = seal(&self.head, self.head_seq, body);
        push_entry(&mut self.pending, self.head_seq, &self.head, body);
    }

    fn count(&self, records: u64, len: usize) {
        self.metrics.records.inc_by(records);
        self.metrics.bytes.inc_by((ENTRY_HEAD + len) as u64);
        self.metrics.open_calls.set(self.open.len() as i64);
    }

    fn flush_if_large(&mut self) {
        if self.pending.len() > PENDING_MAX {
            // What went wrong shows in `health`; the entries stay pending.
            let _ = self.flush();
        }
    }
}

/// Unit: microseconds since the Unix epoch.
fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}
