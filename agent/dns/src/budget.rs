//! How often one workload may ask, and how many of its questions are open: a token bucket and a count each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use callgate_model::CgroupId;

/// Most questions of one workload that wait for an answer. Source: ours; of upstreams that never answer, a workload can
/// make that many wait.
const OPEN_MAX: u32 = 256;

/// Most workloads remembered. Source: as many as the kernel programs can hold.
const WORKLOADS_MAX: usize = 4_096;

/// A workload that asked nothing for so long is forgotten where there is no room.
const IDLE: Duration = Duration::from_secs(10);

/// The buckets of all workloads.
#[derive(Debug)]
pub(crate) struct Budget {
    per_s: f64,
    workloads: Mutex<HashMap<CgroupId, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
    open: u32,
}

/// One open question.
#[derive(Debug)]
pub(crate) struct Open {
    budget: Arc<Budget>,
    workload: CgroupId,
}

/// What the budget says of one more question.
#[derive(Debug)]
pub(crate) enum Allowed {
    Yes(Open),
    /// Too fast; may be answered where nothing is refused.
    TooFast(Open),
    /// Too many are open.
    No,
}

impl Budget {
    pub(crate) fn new(queries_per_s: u32) -> Arc<Self> {
        Arc::new(Self { per_s: f64::from(queries_per_s), workloads: Mutex::default() })
    }

    pub(crate) fn ask(self: &Arc<Self>, workload: CgroupId, now: Instant) -> Allowed {
        let mut workloads = self.workloads.lock().unwrap_or_else(PoisonError::into_inner);
        if workloads.len() >= WORKLOADS_MAX && !workloads.contains_key(&workload) {
            workloads.retain(|_, bucket| bucket.open > 0 || now.saturating_duration_since(bucket.filled) < IDLE);
            if workloads.len() >= WORKLOADS_MAX {
                return Allowed::No;
            }
        }
        let burst = 2.0 * self.per_s;
        let bucket = workloads.entry(workload).or_insert(Bucket { tokens: burst, filled: now, open: 0 });
        let passed = now.saturating_duration_since(bucket.filled).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * self.per_s).min(burst);
        bucket.filled = now;
        if bucket.open >= OPEN_MAX {
            return Allowed::No;
        }
        bucket.open += 1;
        let open = Open { budget: Arc::clone(self), workload };
        if bucket.tokens < 1.0 {
            return Allowed::TooFast(open);
        }
        bucket.tokens -= 1.0;
        Allowed::Yes(open)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut workloads = self.budget.workloads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = workloads.get_mut(&self.workload) {
            bucket.open -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: CgroupId = CgroupId(1);
    const B: CgroupId = CgroupId(2);

    #[test]
    fn one_workload_takes_nothing_from_another() {
        let budget = Budget::new(10);
        let now = Instant::now();
        for _ in 0..20 {
            assert!(matches!(budget.ask(A, now), Allowed::Yes(_)));
        }
        assert!(matches!(budget.ask(A, now), Allowed::TooFast(_)));
        assert!(matches!(budget.ask(B, now), Allowed::Yes(_)));
        assert!(matches!(budget.ask(A, now + Duration::from_millis(150)), Allowed::Yes(_)));
        assert!(matches!(budget.ask(A, now + Duration::from_millis(150)), Allowed::TooFast(_)));
    }

    #[test]
    fn open_questions_are_bounded_and_given_back() {
        let budget = Budget::new(1_000);
        let now = Instant::now();
        let open: Vec<Allowed> = (0..OPEN_MAX).map(|_| budget.ask(A, now)).collect();
        assert!(matches!(budget.ask(A, now), Allowed::No));
        drop(open);
        assert!(matches!(budget.ask(A, now), Allowed::Yes(_)));
    }

    #[test]
    fn the_number_of_workloads_is_bounded() {
        let budget = Budget::new(1);
        let now = Instant::now();
        for id in 0..WORKLOADS_MAX as u64 {
            assert!(matches!(budget.ask(CgroupId(id), now), Allowed::Yes(_)));
        }
        assert!(matches!(budget.ask(CgroupId(u64::MAX), now), Allowed::No));
        assert!(matches!(budget.ask(CgroupId(u64::MAX), now + IDLE), Allowed::Yes(_)));
    }
}
