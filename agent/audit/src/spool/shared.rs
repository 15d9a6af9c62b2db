//! What the recorder, its readers and the commit thread share: one lock, two bells, one progress mark.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::writer::{Health, Writer};
use crate::{AuditError, Metrics};

/// How far the spool is, for those who wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Progress {
    /// Last record on disk.
    pub durable_seq: u64,
    /// Whether nothing will follow: closed or failed.
    pub over: bool,
}

/// What is under the lock.
#[derive(Debug)]
pub(crate) struct Inside {
    pub writer: Writer,
    /// Something waits for a commit.
    dirty: bool,
    /// Somebody waits for the commit.
    urgent: bool,
    /// The recorder is being closed.
    stop: bool,
    /// Commits tried so far.
    tries: u64,
}

/// What all parts share.
#[derive(Debug)]
pub(crate) struct Shared {
    inside: Mutex<Inside>,
    /// Rung for the commit thread.
    work: Condvar,
    /// Rung by the commit thread.
    done: Condvar,
    pub progress: watch::Sender<Progress>,
    pub metrics: Metrics,
    /// Name of the stream.
    pub stream: String,
}

impl Shared {
    pub fn new(writer: Writer) -> Self {
        let metrics = writer.metrics.clone();
        let durable_seq = writer.durable_seq;
        let stream = writer.stream.clone();
        Self {
            inside: Mutex::new(Inside { writer, dirty: false, urgent: false, stop: false, tries: 0 }),
            work: Condvar::new(),
            done: Condvar::new(),
            progress: watch::Sender::new(Progress { durable_seq, over: false }),
            metrics,
            stream,
        }
    }

    /// Takes the lock. After a panic of another holder the spool has failed: its state may be half changed.
    pub fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(|poisoned| {
            let mut inside = poisoned.into_inner();
            inside.writer.fail("recording", &"a thread panicked within");
            inside
        })
    }

    /// Runs `append` under the lock and sees to it that a commit follows.
    pub fn append<T>(&self, append: impl FnOnce(&mut Writer) -> Result<T, AuditError>) -> Result<T, AuditError> {
        let mut inside = self.lock();
        let result = append(&mut inside.writer);
        if !inside.dirty && inside.writer.unsynced() {
            inside.dirty = true;
            self.work.notify_one();
        }
        drop(inside);
        if result.is_err() {
            self.metrics.refused.inc();
        }
        result
    }

    /// Takes the collector's word that it has everything up to `seq`.
    pub fn acknowledge(&self, seq: u64) -> Result<(), AuditError> {
        let mut inside = self.lock();
        let writer = &mut inside.writer;
        if seq > writer.durable_seq {
            let first = writer.segments.front().map_or(0, |segment| segment.first_seq);
            return Err(AuditError::NotHeld { seq, first, last: writer.durable_seq });
        }
        writer.acked_seq = writer.acked_seq.max(seq);
        if writer.can_free() {
            self.work.notify_one();
        }
        Ok(())
    }

    /// Blocks until everything sealed so far is on disk.
    pub fn sync(&self) -> Result<(), AuditError> {
        let mut inside = self.lock();
        let (target, tries) = (inside.writer.head_seq, inside.tries);
        loop {
            match inside.writer.health() {
                Health::Failed(cause) => return Err(AuditError::Failed { cause: cause.clone() }),
                _ if inside.writer.durable_seq >= target => return Ok(()),
                // The first of two tries may have begun before this call.
                Health::DiskFull if inside.tries >= tries + 2 => return Err(AuditError::DiskFull),
                _ => {}
            }
            inside.urgent = true;
            self.work.notify_one();
            inside = self.done.wait(inside).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    /// Tells the commit thread to bring everything to disk and end.
    pub fn stop(&self) {
        self.lock().stop = true;
        self.work.notify_one();
    }

    /// The commit thread's wait: until there is something to do and a group had time to gather, or `idle` has passed.
    /// Says whether to stop.
    pub fn wait_for_work(&self, gather: Duration, idle: Duration) -> bool {
        let mut inside = self.lock();
        let deadline = Instant::now() + idle;
        while !(inside.stop || inside.urgent || inside.dirty || inside.writer.can_free()) {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return false };
            inside = self.wait(inside, left);
        }
        let deadline = Instant::now() + gather;
        while !(inside.stop || inside.urgent) {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { break };
            inside = self.wait(inside, left);
        }
        inside.urgent = false;
        inside.stop
    }

    /// The commit thread's report after a try.
    pub fn tried(&self, closed: bool) {
        let mut inside = self.lock();
        inside.tries += 1;
        inside.dirty = inside.writer.unsynced();
        self.metrics.size.set(i64::try_from(inside.writer.used()).unwrap_or(i64::MAX));
        let over = closed || matches!(inside.writer.health(), Health::Failed(_));
        let progress = Progress { durable_seq: inside.writer.durable_seq, over };
        drop(inside);
        self.progress.send_if_modified(|known| std::mem::replace(known, progress) != progress);
        self.done.notify_all();
    }

    fn wait<'a>(&self, inside: MutexGuard<'a, Inside>, at_most: Duration) -> MutexGuard<'a, Inside> {
        match self.work.wait_timeout(inside, at_most) {
            Ok((inside, _)) => inside,
            Err(poisoned) => poisoned.into_inner().0,
        }
    }
}

/// Marks the spool as failed if the commit thread ends by a panic.
pub(crate) struct PanicMark(pub Arc<Shared>);

impl Drop for PanicMark {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().writer.fail("committing", &"the commit thread panicked");
            self.0.tried(true);
        }
    }
}
