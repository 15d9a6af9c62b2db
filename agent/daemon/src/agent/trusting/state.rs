//! What is known of the trust of workloads: how it is wished for, and what became of their containers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Instant;

use callgate_enroll::Trust;
use callgate_model::{CgroupId, Workload};
use callgate_trust::SpaceId;
use tokio_util::sync::CancellationToken;

use super::threads::Threads;

/// All of it.
#[derive(Default)]
pub(super) struct State {
    /// What rules say, by workload.
    pub wishes: BTreeMap<CgroupId, Trust>,
    /// What the configuration says of single cgroups.
    pub by_path: BTreeMap<PathBuf, Trust>,
    pub done: BTreeMap<(CgroupId, SpaceId), Done>,
    /// What ends the deliveries to a workload that are under way: one that hung undoes what it mounts then.
    pub orders: BTreeMap<CgroupId, CancellationToken>,
    /// Workloads in which a cgroup has come a moment ago, and until when they are looked into at every turn.
    pub hurried: BTreeMap<CgroupId, Instant>,
}

/// What became of one container.
#[derive(Debug)]
pub(super) enum Done {
    Delivered {
        files: usize,
    },
    Failed {
        why: String,
        at: Instant,
    },
    /// It did not answer in time; the thread of this number waits for it.
    Stuck(u64),
}

impl State {
    /// What a delivery to a workload asks whether it is wanted still.
    pub(super) fn order(&mut self, cgroup: CgroupId) -> CancellationToken {
        self.orders.entry(cgroup).or_default().clone()
    }

    /// What was delivered to a workload is to be taken back. Where a thread waits, no other one begins meanwhile.
    pub(super) fn end(&mut self, cgroup: CgroupId) {
        if let Some(order) = self.orders.remove(&cgroup) {
            order.cancel();
        }
        self.done.retain(|(of, _), done| *of != cgroup || matches!(done, Done::Stuck(_)));
    }

    /// Forgets containers that have ended, but for those whose thread still waits; one that does no more is tried again
    /// as others that failed.
    pub(super) fn settle(&mut self, seen: &BTreeSet<(CgroupId, SpaceId)>, threads: &Threads) {
        for done in self.done.values_mut() {
            if matches!(done, Done::Stuck(thread) if !threads.lives(*thread)) {
                *done = Done::Failed { why: "it did not answer in time".into(), at: Instant::now() };
            }
        }
        self.done.retain(|key, done| seen.contains(key) || matches!(done, Done::Stuck(_)));
    }

    /// The roots of a workload that were looked into.
    pub(super) fn spaces_of(&self, cgroup: CgroupId) -> impl Iterator<Item = (CgroupId, SpaceId)> {
        self.done.keys().filter(move |(of, _)| *of == cgroup).copied()
    }

    pub(super) fn wish(&self, workload: &Workload) -> Trust {
        let by_rule = self.wishes.get(&workload.cgroup);
        by_rule.or_else(|| self.by_path.get(&workload.cgroup_path)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::agent::trusting::threads::{Silent, Task};

    const CGROUP: CgroupId = CgroupId(7);

    #[test]
    fn a_delivery_that_hangs_outlives_its_enrolment_and_knows_that_it_is_unwanted() {
        let threads = Threads::new(Duration::from_millis(1));
        let (mut state, key) = (State::default(), (CGROUP, SpaceId::default()));
        let (release, released) = mpsc::channel::<()>();
        let (told, answer) = mpsc::channel();
        let order = state.order(CGROUP);
        let late = threads.within(CGROUP, Task::Deliver, move || {
            let _released = released.recv();
            let _gone = told.send(order.is_cancelled());
        });
        let Err(Silent::Late(thread)) = late else { panic!("{late:?}") };
        state.done.insert(key, Done::Stuck(thread));
        // Its label goes, and comes again: it is not tried a second time beside the first.
        for _ in 0..3 {
            state.end(CGROUP);
            assert!(!state.order(CGROUP).is_cancelled(), "another enrolment has its own");
            state.settle(&BTreeSet::new(), &threads);
            assert!(matches!(state.done.get(&key), Some(Done::Stuck(_))));
        }
        drop(release);
        assert!(answer.recv().unwrap());
        while threads.lives(thread) {
            thread::yield_now();
        }
        state.settle(&BTreeSet::from([key]), &threads);
        assert!(matches!(state.done.get(&key), Some(Done::Failed { .. })), "it is tried again");
        state.settle(&BTreeSet::new(), &threads);
        assert!(state.done.is_empty());
    }

    #[test]
    fn what_is_known_of_a_workload_ends_with_its_enrolment() {
        let (mut state, other) = (State::default(), CgroupId(8));
        for cgroup in [CGROUP, other] {
            state.done.insert((cgroup, SpaceId::default()), Done::Delivered { files: 1 });
        }
        let kept = state.order(other);
        state.end(CGROUP);
        assert_eq!((state.spaces_of(CGROUP).count(), state.spaces_of(other).count()), (0, 1));
        assert!(!kept.is_cancelled());
    }
}
