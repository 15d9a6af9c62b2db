//! Counts per workload, for `callgate workloads` and the summary of a run.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use callgate_model::CgroupId;

/// What one workload did since the agent started or it was enrolled.
#[derive(Debug, Default)]
pub struct Tally {
    /// Connections open now.
    pub open: AtomicU64,
    /// Connections in all.
    pub connections: AtomicU64,
    /// Calls in all.
    pub calls: AtomicU64,
    /// Calls that were refused.
    pub denied: AtomicU64,
    /// Calls that observe mode let through although they would have been refused.
    pub observed: AtomicU64,
    /// Permitted calls that failed on their way: the upstream's certificate, its protocol, no way there.
    pub failed: AtomicU64,
    /// Findings replaced in responses.
    pub masked: AtomicU64,
    /// Refusals by the kernel.
    pub kernel: AtomicU64,
}

impl Tally {
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

/// The tallies of every workload, by enrolled cgroup.
#[derive(Debug, Default)]
pub struct Tallies(Mutex<HashMap<CgroupId, Arc<Tally>>>);

impl Tallies {
    /// The tally of `cgroup`, made when first asked for.
    #[must_use]
    pub fn of(&self, cgroup: CgroupId) -> Arc<Tally> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(cgroup).or_default())
    }

    /// Forgets `cgroup`.
    pub fn forget(&self, cgroup: CgroupId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&cgroup);
    }
}
