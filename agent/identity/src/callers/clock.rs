//! The time: of the world for claims, and one that never steps back for the age of keys.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[cfg(test)]
use std::sync::{Arc, atomic::AtomicU64, atomic::Ordering::SeqCst};

/// Both clocks; tests may set them ahead.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    start: Instant,
    #[cfg(test)]
    ahead_s: Arc<AtomicU64>,
}

impl Clock {
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            #[cfg(test)]
            ahead_s: Arc::default(),
        }
    }

    /// Seconds since 1970, as `exp` counts them. A clock before 1970 makes every token one that is not valid yet.
    pub fn unix_s(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        now + self.ahead().as_secs()
    }

    /// Since this clock was made.
    pub fn steady(&self) -> Duration {
        self.start.elapsed() + self.ahead()
    }

    #[cfg(not(test))]
    fn ahead(&self) -> Duration {
        Duration::ZERO
    }

    #[cfg(test)]
    fn ahead(&self) -> Duration {
        Duration::from_secs(self.ahead_s.load(SeqCst))
    }

    #[cfg(test)]
    pub fn advance(&self, by: Duration) {
        self.ahead_s.fetch_add(by.as_secs(), SeqCst);
    }
}
