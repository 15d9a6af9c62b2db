//! Beats the heart that the kernel programs watch: only while every accept loop turns.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use callgate_proxy::Pulse;
use callgate_redirect::Redirect;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// Time between two beats.
/// Source: measured with stops: 100 ms against a bound of 500 ms and more never refused a living agent.
const BEAT: Duration = Duration::from_millis(100);

/// The accept loops that must turn.
#[derive(Clone, Default)]
pub struct Pulses(Arc<Mutex<Vec<Arc<Pulse>>>>);

impl Pulses {
    /// Watches one more loop.
    pub fn watch(&self, pulse: Arc<Pulse>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(pulse);
    }

    /// Watches a loop no more that was told to end.
    pub fn forget(&self, pulse: &Arc<Pulse>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|one| !Arc::ptr_eq(one, pulse));
    }

    /// How long ago the slowest of them turned.
    pub fn oldest(&self) -> Duration {
        let pulses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pulses.iter().map(|pulse| pulse.age()).max().unwrap_or_default()
    }
}

/// Whether a loop that has last turned `age` ago stops the beat.
pub fn is_stuck(age: Duration, stale_after: Duration) -> bool {
    age * 2 > stale_after
}

/// Beats until `stopping`. A loop that has not turned for half of `stale_after` stops the beat.
pub async fn beat(redirect: Arc<Redirect>, pulses: Pulses, stale_after: Duration, stopping: CancellationToken) {
    let mut ticks = tokio::time::interval(BEAT);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut stuck = false;
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let age = pulses.oldest();
        if is_stuck(age, stale_after) {
            if !stuck {
                warn!(?age, "an accept loop does not turn: no heartbeat, new connections are refused");
            }
            stuck = true;
            continue;
        }
        stuck = false;
        if let Err(error) = redirect.beat() {
            error!(%error, "heartbeat failed");
        }
    }
}
