//! Whether the API answers, and since when not.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What is known of the way to the API. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    failing: Arc<Mutex<Option<Failing>>>,
}

#[derive(Clone, Debug)]
struct Failing {
    since: Instant,
    why: String,
}

impl Reach {
    /// For how long it has failed, and why it does; none while it answers.
    #[must_use]
    pub fn failing(&self) -> Option<(Duration, String)> {
        self.state().as_ref().map(|failing| (failing.since.elapsed(), failing.why.clone()))
    }

    pub(crate) fn answers(&self) {
        *self.state() = None;
    }

    pub(crate) fn fails(&self, why: String) {
        let mut state = self.state();
        let since = state.as_ref().map_or_else(Instant::now, |before| before.since);
        *state = Some(Failing { since, why });
    }

    fn state(&self) -> MutexGuard<'_, Option<Failing>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_counts_until_it_answers() {
        let reach = Reach::default();
        assert!(reach.failing().is_none());
        reach.fails("first".into());
        let first = reach.state().as_ref().unwrap().since;
        reach.fails("second".into());
        assert_eq!(reach.state().as_ref().unwrap().since, first);
        assert_eq!(reach.failing().unwrap().1, "second");
        reach.answers();
        assert!(reach.failing().is_none());
    }
}
