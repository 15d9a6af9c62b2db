//! When each call is to be sent: as soon as a lane is free, or at a fixed rate whatever the answers do.
//!
//! At a fixed rate a call's latency counts from the time it was meant to be sent. If it counted from when it was sent,
//! a gate that stalls would hold back the very calls that would show it (coordinated omission).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::LoadConfig;

/// Gives out the numbers of calls.
pub(super) struct Pace {
    start: Instant,
    calls: u64,
    next: AtomicU64,
    deadline: Option<Instant>,
    fixed: Option<Fixed>,
}

/// A fixed rate.
struct Fixed {
    interval: Duration,
    /// Calls whose time has come and that no lane has taken yet.
    due: Arc<Semaphore>,
}

impl Pace {
    pub fn of(config: &LoadConfig, lanes: u64) -> Pace {
        let start = Instant::now();
        let mut pace = Pace {
            start,
            calls: config.calls,
            next: AtomicU64::new(0),
            deadline: config.duration.map(|duration| start + duration),
            fixed: None,
        };
        if let Some(rate) = config.rate {
            let interval = Duration::from_secs_f64(1.0 / rate);
            if let Some(duration) = config.duration {
                pace.calls = pace.calls.min((duration.as_secs_f64() * rate) as u64);
            }
            // Every call whose time came is made, however late.
            pace.deadline = None;
            let due = Arc::new(Semaphore::new(0));
            beat(Arc::clone(&due), start, interval, pace.calls, lanes);
            pace.fixed = Some(Fixed { interval, due });
        }
        pace
    }

    /// The next call and the time from which its latency counts; none when all are given out.
    pub async fn next(&self) -> Option<(u64, Instant)> {
        if let Some(fixed) = &self.fixed {
            fixed.due.acquire().await.ok()?.forget();
        }
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return None;
        }
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        if n >= self.calls {
            return None;
        }
        Some((n, self.fixed.as_ref().map_or_else(Instant::now, |fixed| self.start + fixed.interval.mul_f64(n as f64))))
    }
}

/// On a thread of its own: the runtime's timer has a resolution of 1 ms, the kernel's one of about 50 µs.
fn beat(due: Arc<Semaphore>, start: Instant, interval: Duration, calls: u64, lanes: u64) {
    std::thread::spawn(move || {
        for n in 0..calls {
            std::thread::sleep((start + interval.mul_f64(n as f64)).saturating_duration_since(Instant::now()));
            due.add_permits(1);
        }
        // Wakes every lane, which finds that nothing is left.
        due.add_permits(lanes as usize);
    });
}
