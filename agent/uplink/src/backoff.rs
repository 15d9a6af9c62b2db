//! Pauses between tries: they grow, and no two agents keep step.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

/// First pause.
const FIRST: Duration = Duration::from_millis(100);
/// Longest pause while the collector is out of reach.
const LONGEST: Duration = Duration::from_secs(10);
/// Pause after a breach: long enough not to flood the logs of both sides, short enough to see a repair.
const AFTER_BREACH: Duration = Duration::from_secs(30);

/// The pauses of one uplink.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next pause: half of it fixed, half random.
    pub fn next(&mut self) -> Duration {
        let pause = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        jitter(pause)
    }

    /// The pause after a breach.
    pub fn after_breach() -> Duration {
        jitter(AFTER_BREACH)
    }

    /// Records flowed: the next pause is the first again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

fn jitter(pause: Duration) -> Duration {
    // The keys of each RandomState differ; that is all the randomness a pause needs.
    let random = RandomState::new().build_hasher().finish() >> 32;
    let half = pause / 2;
    half + half.mul_f64(random as f64 / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_begin_again() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..40).map(|_| backoff.next()).collect();
        assert!((FIRST / 2..=FIRST).contains(&pauses[0]));
        assert!(pauses[5] > pauses[0]);
        assert!(pauses[39] <= LONGEST && pauses[39] >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.next() <= FIRST);
        let random: std::collections::BTreeSet<_> = (0..8).map(|_| jitter(LONGEST)).collect();
        assert!(random.len() > 1);
    }
}
