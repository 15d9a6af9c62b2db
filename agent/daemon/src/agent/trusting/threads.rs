//! Threads that ask the file systems of containers, which may answer late or never.
//!
//! A thread that waits for such a file system cannot be ended. So each is counted as long as it lives, whatever becomes of
//! the enrolment that it was made for: a workload that is relabelled again and again collects no more of them.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use callgate_model::CgroupId;

/// How long one container may hold up the others: its file systems may be anything.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why something was not done in time, in words.
pub(super) const LATE: &str = "a file system of a container does not answer";

/// What a thread is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Task {
    /// Mounts.
    Deliver,
    /// Takes mounts away, of which more may be under way: who hangs while it is served shall not keep what it has.
    TakeBack,
}

impl Task {
    /// Most threads that live when another one is made for this: of one workload, and of all. Source: ours; one of a
    /// workload that answers is gone before the next is made, and a node with dozens that hang has other worries.
    fn most(self) -> (usize, usize) {
        match self {
            Self::Deliver => (4, 32),
            Self::TakeBack => (8, 64),
        }
    }
}

/// No answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Silent {
    /// Not in time; its thread goes on, and is known by this number.
    Late(u64),
    /// Nothing was asked: too many threads wait already.
    TooMany,
}

impl Silent {
    /// In words.
    pub(super) fn why(self) -> &'static str {
        match self {
            Self::Late(_) => LATE,
            Self::TooMany => "too many file systems of containers do not answer",
        }
    }
}

/// The threads that live.
#[derive(Debug)]
pub(super) struct Threads {
    patience: Duration,
    living: Arc<Mutex<Living>>,
}

#[derive(Debug, Default)]
struct Living {
    next: u64,
    of: BTreeMap<u64, (CgroupId, Task)>,
}

impl Default for Threads {
    fn default() -> Self {
        Self::new(PATIENCE)
    }
}

impl Threads {
    /// None yet; each is waited for so long.
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, living: Arc::default() }
    }

    /// What `work` gives, which is done for `cgroup` on a thread of its own.
    ///
    /// # Errors
    /// [`Silent`].
    pub(super) fn within<T: Send + 'static>(
        &self,
        cgroup: CgroupId,
        task: Task,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Silent> {
        let counted = self.counted(cgroup, task).ok_or(Silent::TooMany)?;
        let (number, (told, answer)) = (counted.number, mpsc::sync_channel(1));
        let run = move || {
            let done = work();
            // First: who has the answer may make the next one.
            drop(counted);
            drop(told.send(done));
        };
        thread::Builder::new().name("trust-space".into()).spawn(run).map_err(|_| Silent::TooMany)?;
        answer.recv_timeout(self.patience).map_err(|_| Silent::Late(number))
    }

    /// Whether the thread of this number still waits.
    pub(super) fn lives(&self, number: u64) -> bool {
        living(&self.living).of.contains_key(&number)
    }

    /// Whether a thread for `task` of this workload still waits.
    pub(super) fn wait(&self, cgroup: CgroupId, task: Task) -> bool {
        living(&self.living).of.values().any(|of| *of == (cgroup, task))
    }

    fn counted(&self, cgroup: CgroupId, task: Task) -> Option<Counted> {
        let (of_one, of_all) = task.most();
        let mut living = living(&self.living);
        if living.of.len() >= of_all || living.of.values().filter(|(of, _)| *of == cgroup).count() >= of_one {
            return None;
        }
        let number = living.next;
        living.next += 1;
        living.of.insert(number, (cgroup, task));
        Some(Counted { number, living: Arc::clone(&self.living) })
    }
}

/// One thread, until it ends, also by a panic.
struct Counted {
    number: u64,
    living: Arc<Mutex<Living>>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        living(&self.living).of.remove(&self.number);
    }
}

fn living(living: &Mutex<Living>) -> MutexGuard<'_, Living> {
    living.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file system that answers once what is given back with it is dropped.
    fn hang(threads: &Threads, cgroup: u64, task: Task) -> (mpsc::Sender<()>, Result<(), Silent>) {
        let (release, released) = mpsc::channel::<()>();
        let work = move || {
            let _released = released.recv();
        };
        (release, threads.within(CgroupId(cgroup), task, work))
    }

    fn threads() -> Threads {
        Threads::new(Duration::from_millis(1))
    }

    fn number(answer: Result<(), Silent>) -> u64 {
        let Err(Silent::Late(number)) = answer else { panic!("{answer:?}") };
        number
    }

    #[test]
    fn a_workload_collects_no_more_threads_whatever_they_are_for() {
        let threads = threads();
        let mut held: Vec<_> = (0..4).map(|_| hang(&threads, 1, Task::Deliver)).collect();
        assert!(held.iter().all(|(_, answer)| threads.lives(number(*answer))));
        assert_eq!(hang(&threads, 1, Task::Deliver).1, Err(Silent::TooMany));
        assert!(threads.wait(CgroupId(1), Task::Deliver) && !threads.wait(CgroupId(1), Task::TakeBack));
        // What is there can still be taken back, and others have their own.
        held.extend((4..8).map(|_| hang(&threads, 1, Task::TakeBack)));
        assert!(held.iter().all(|(_, answer)| threads.lives(number(*answer))));
        assert_eq!(hang(&threads, 1, Task::TakeBack).1, Err(Silent::TooMany));
        assert!(matches!(hang(&threads, 2, Task::Deliver).1, Err(Silent::Late(_))));
    }

    #[test]
    fn all_workloads_together_collect_no_more_than_a_node_can_bear() {
        let threads = threads();
        let held: Vec<_> = (0..32).map(|n| hang(&threads, n, Task::Deliver)).collect();
        assert!(held.iter().all(|(_, answer)| threads.lives(number(*answer))));
        assert_eq!(hang(&threads, 99, Task::Deliver).1, Err(Silent::TooMany));
        let more: Vec<_> = (32..64).map(|n| hang(&threads, n, Task::TakeBack)).collect();
        assert!(more.iter().all(|(_, answer)| threads.lives(number(*answer))));
        assert_eq!(hang(&threads, 99, Task::TakeBack).1, Err(Silent::TooMany));
    }

    #[test]
    fn a_thread_that_ends_makes_room_also_by_a_panic() {
        let threads = Threads::default();
        // More than may live at once.
        for n in 0..20 {
            assert_eq!(threads.within(CgroupId(1), Task::Deliver, move || n), Ok(n));
            let panics = threads.within(CgroupId(1), Task::Deliver, || panic!("as told"));
            let Err(Silent::Late(number)) = panics else { panic!("{panics:?}") };
            assert!(!threads.lives(number));
        }
    }
}
