//! How soon after one compilation of policies the next may begin: whoever changes an object again and again must not
//! have a node, or the controller, do nothing else.

use std::time::{Duration, Instant};

/// Changes that come within this time are taken together.
const GATHER: Duration = Duration::from_millis(100);
/// Rest after a compilation, in times of what it took: a tenth of one core at most is spent.
const REST: u32 = 9;
/// Longest rest, unless the compilation took longer itself. Source: a change must be in force well within 2 s.
const REST_MAX: Duration = Duration::from_secs(1);

/// When the next compilation may begin. The first change after a quiet time is not held up.
#[derive(Debug, Default)]
pub struct Pace {
    rest_until: Option<Instant>,
}

impl Pace {
    /// How long to wait yet, at `now`.
    #[must_use]
    pub fn wait(&self, now: Instant) -> Duration {
        self.rest_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// A compilation has ended at `now`, and took `took`.
    pub fn took(&mut self, took: Duration, now: Instant) {
        let rest = took.saturating_mul(REST).clamp(GATHER, REST_MAX).max(took);
        self.rest_until = now.checked_add(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(took_ms: u64) -> u128 {
        let (mut pace, now) = (Pace::default(), Instant::now());
        assert_eq!(pace.wait(now), Duration::ZERO);
        pace.took(Duration::from_millis(took_ms), now);
        assert_eq!(pace.wait(now + Duration::from_secs(60)), Duration::ZERO);
        pace.wait(now).as_millis()
    }

    #[test]
    fn the_rest_is_a_share_of_the_work_and_no_change_waits_long() {
        assert_eq!(rest(1), 100);
        assert_eq!(rest(50), 450);
        assert_eq!(rest(500), 1_000);
        // Never more than half of a core, however slow it is.
        assert_eq!(rest(3_000), 3_000);
    }

    #[test]
    fn ten_changes_a_second_cost_a_tenth_of_a_core() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let (mut now, mut spent) = (start, Duration::ZERO);
        while now < start + Duration::from_secs(60) {
            now += Duration::from_millis(100);
            if pace.wait(now).is_zero() {
                let took = Duration::from_millis(40);
                (now, spent) = (now + took, spent + took);
                pace.took(took, now);
            }
        }
        assert!(spent <= Duration::from_secs(6), "{spent:?}");
        assert!(spent >= Duration::from_secs(4), "{spent:?}");
    }
}
