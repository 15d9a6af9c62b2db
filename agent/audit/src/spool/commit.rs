//! The commit thread: brings records to disk in groups, frees what is acknowledged, changes segments.
//!
//! Syncs outside of the lock, so that recording goes on meanwhile. After an error of a sync nothing is known of what
//! the disk holds (the kernel may have dropped the pages and call the next sync a success), so the spool has failed.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::warn;

use super::disk::is_full;
use super::shared::{PanicMark, Shared};
use super::state::State;
use super::writer::{Health, Plan};

/// How often the state file is brought up to date where no segment is freed.
const REMEMBER_EVERY: Duration = Duration::from_secs(1);
/// How often a full disk is tried again.
const RETRY_EVERY: Duration = Duration::from_millis(100);

/// The commit thread's own.
pub(crate) struct Committer {
    shared: Arc<Shared>,
    interval: Duration,
    remembered: State,
    remembered_at: Instant,
}

impl Committer {
    pub fn new(shared: Arc<Shared>, interval: Duration) -> Self {
        Self { shared, interval, remembered: State::default(), remembered_at: Instant::now() }
    }

    /// Runs until told to stop; on return everything that the disk took is on it.
    pub fn run(mut self) {
        let _mark = PanicMark(self.shared.clone());
        let mut gather = self.interval;
        loop {
            let stop = self.shared.wait_for_work(gather, REMEMBER_EVERY);
            self.commit();
            let freed = self.free_and_remember(stop);
            self.roll();
            self.shared.tried(stop);
            if stop {
                return;
            }
            let full = matches!(self.shared.lock().writer.health(), Health::DiskFull);
            gather = if full || !freed { RETRY_EVERY } else { self.interval };
        }
    }

    fn commit(&self) {
        let mut inside = self.shared.lock();
        // An error shows in the writer's health; what was written before is synced all the same.
        let _ = inside.writer.flush();
        let (disk, seq) = (inside.writer.disk(), inside.writer.written_seq);
        if seq <= inside.writer.durable_seq || matches!(inside.writer.health(), Health::Failed(_)) {
            return;
        }
        drop(inside);
        let synced = disk.sync();
        self.shared.metrics.commits.inc();
        let mut inside = self.shared.lock();
        match synced {
            Ok(()) => inside.writer.durable_seq = inside.writer.durable_seq.max(seq),
            Err(error) => {
                inside.writer.fail("syncing a segment", &error);
            }
        }
    }

    /// Remembers first, frees then: a freed segment may hold the `begin` of a call that is still open.
    /// Says whether all that was due was done.
    fn free_and_remember(&mut self, now: bool) -> bool {
        let mut inside = self.shared.lock();
        let due = now || self.remembered_at.elapsed() >= REMEMBER_EVERY;
        if matches!(inside.writer.health(), Health::Failed(_)) || !(due || inside.writer.can_free()) {
            return true;
        }
        let Plan { state, segments } = inside.writer.plan();
        let (dir, dir_handle) = (inside.writer.dir.clone(), inside.writer.dir_handle.clone());
        drop(inside);
        let mut segments = &segments[..];
        if state != self.remembered {
            let mut stored = state.store(&dir, &dir_handle);
            if let (Err(error), Some((first, rest))) = (&stored, segments.split_first())
                && is_full(error)
            {
                // No room to remember what would make room: free one segment first. Only a crash right here, and
                // only of a call that has been open since that segment, would go unnoticed.
                if !self.free(first) {
                    return false;
                }
                segments = rest;
                stored = state.store(&dir, &dir_handle);
            }
            self.remembered_at = Instant::now();
            if let Err(error) = stored {
                warn!(%error, "the state of the audit spool cannot be remembered, so no segment is freed");
                return false;
            }
            self.remembered = state;
        }
        segments.iter().all(|path| self.free(path))
    }

    fn free(&self, path: &Path) -> bool {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(%error, path = %path.display(), "a segment of the audit spool cannot be freed");
                false
            }
            _ => {
                self.shared.lock().writer.freed();
                true
            }
        }
    }

    fn roll(&self) {
        // An error shows in the writer's health.
        let _ = self.shared.lock().writer.roll_if_due();
    }
}
