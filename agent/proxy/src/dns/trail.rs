//! How many questions of one workload are recorded: at most so many in a second, and how many were left out.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use callgate_model::CgroupId;

/// What the bound is for.
const WINDOW: Duration = Duration::from_secs(1);

/// Bounds the records of each workload.
#[derive(Debug)]
pub(super) struct Trail {
    per_window: u32,
    workloads: Mutex<HashMap<CgroupId, Window>>,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    recorded: u32,
    left_out: u64,
}

/// Questions of a workload that nothing was recorded of.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Left {
    pub(super) workload: CgroupId,
    pub(super) count: u64,
}

impl Trail {
    pub(super) fn new(per_window: u32) -> Self {
        Self { per_window, workloads: Mutex::default() }
    }

    /// Whether one more question may be recorded: then with how many that were left out before it.
    pub(super) fn take(&self, workload: CgroupId, now: Instant) -> Option<u64> {
        let mut workloads = self.lock();
        let window = workloads.entry(workload).or_insert(Window { since: now, recorded: 0, left_out: 0 });
        if now.saturating_duration_since(window.since) >= WINDOW {
            (window.since, window.recorded) = (now, 0);
        }
        if window.recorded >= self.per_window {
            window.left_out += 1;
            return None;
        }
        window.recorded += 1;
        Some(std::mem::take(&mut window.left_out))
    }

    /// What was left out and not told within a window's time; forgets workloads that ask no more.
    pub(super) fn overdue(&self, now: Instant) -> Vec<Left> {
        let mut left = Vec::new();
        self.lock().retain(|workload, window| {
            if now.saturating_duration_since(window.since) < 2 * WINDOW {
                return true;
            }
            if window.left_out > 0 {
                left.push(Left { workload: *workload, count: window.left_out });
            }
            false
        });
        left
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CgroupId, Window>> {
        self.workloads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: CgroupId = CgroupId(1);
    const B: CgroupId = CgroupId(2);

    #[test]
    fn what_is_left_out_is_told_by_the_next_record() {
        let (trail, now) = (Trail::new(2), Instant::now());
        assert_eq!((trail.take(A, now), trail.take(A, now)), (Some(0), Some(0)));
        assert_eq!((trail.take(A, now), trail.take(A, now)), (None, None));
        assert_eq!(trail.take(B, now), Some(0));
        assert_eq!(trail.take(A, now + WINDOW), Some(2));
        assert_eq!(trail.take(A, now + WINDOW), Some(0));
    }

    #[test]
    fn what_nothing_follows_is_told_by_itself_once() {
        let (trail, now) = (Trail::new(0), Instant::now());
        assert_eq!((trail.take(A, now), trail.take(A, now)), (None, None));
        assert_eq!(trail.overdue(now + WINDOW), []);
        assert_eq!(trail.overdue(now + 2 * WINDOW), [Left { workload: A, count: 2 }]);
        assert_eq!(trail.overdue(now + 4 * WINDOW), []);
        assert!(trail.lock().is_empty());
    }
}
