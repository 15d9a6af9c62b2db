//! The threads that carry connections, one for each core.
//!
//! Each has a runtime of its own, and whatever a connection does stays on it: its client, its upstream, their timers.
//! So a call wakes no other thread. With one runtime over all threads each call woke a second one for its upstream.

use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::{self, Handle};
use tokio_util::sync::CancellationToken;

/// Most threads that one worker may have for what blocks (looking at executables and the like).
/// Source: ours; more of them at once do not go faster.
const BLOCKING_MAX: usize = 16;

/// Carry connections; those that are still open end when it is dropped.
#[derive(Debug)]
pub struct Workers {
    workers: Vec<Worker>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    open: Arc<AtomicUsize>,
}

impl Workers {
    /// Starts one for each core that this process may use.
    ///
    /// # Errors
    /// When a thread or its runtime cannot be made.
    pub fn start() -> io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, NonZero::get);
        let stop = CancellationToken::new();
        let workers = (0..count).map(|number| Worker::start(number, stop.clone())).collect::<io::Result<_>>()?;
        Ok(Self { workers, stop })
    }

    /// Runs what `connection` makes on the worker that carries the fewest.
    pub(crate) fn carry<F>(&self, connection: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(worker) = self.workers.iter().min_by_key(|worker| worker.open.load(Ordering::Relaxed)) else { return };
        let open = Open::on(worker);
        worker.runtime.spawn(async move {
            connection().await;
            drop(open);
        });
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Worker {
    fn start(number: usize, stop: CancellationToken) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().max_blocking_threads(BLOCKING_MAX).build()?;
        let handle = runtime.handle().clone();
        thread::Builder::new().name(format!("callgate-work-{number}")).spawn(move || {
            runtime.block_on(stop.cancelled());
            // A lookup that hangs is not waited for.
            runtime.shutdown_background();
        })?;
        Ok(Self { runtime: handle, open: Arc::default() })
    }
}

/// A connection that counts as open until it is dropped.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn on(worker: &Worker) -> Self {
        worker.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&worker.open))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn connections_are_spread_and_what_is_open_ends_with_the_workers() {
        let workers = Workers::start().unwrap();
        let count = workers.workers.len();
        let (sender, threads) = mpsc::channel();
        for _ in 0..2 * count {
            let sender = sender.clone();
            workers.carry(move || async move {
                sender.send(thread::current().name().map(str::to_owned)).unwrap();
                // Never ends by itself: the channel closes when the workers do.
                std::future::pending::<()>().await;
                drop(sender);
            });
        }
        drop(sender);
        let mut names: Vec<_> =
            (0..2 * count).map(|_| threads.recv_timeout(Duration::from_secs(10)).unwrap()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(workers.workers.iter().all(|worker| worker.open.load(Ordering::Relaxed) == 2));
        drop(workers);
        assert_eq!(threads.recv_timeout(Duration::from_secs(10)), Err(mpsc::RecvTimeoutError::Disconnected));
    }

    #[test]
    fn a_panic_ends_its_own_connection_alone() {
        let workers = Workers::start().unwrap();
        workers.carry(|| async { panic!("of this test") });
        let (sender, done) = mpsc::channel();
        for _ in 0..4 {
            let sender = sender.clone();
            workers.carry(move || async move { sender.send(()).unwrap() });
        }
        for _ in 0..4 {
            done.recv_timeout(Duration::from_secs(10)).unwrap();
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while workers.workers.iter().any(|worker| worker.open.load(Ordering::Relaxed) > 0) {
            assert!(Instant::now() < deadline, "what has ended counts as open");
            thread::yield_now();
        }
    }
}
