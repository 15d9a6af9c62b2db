//! Whether enforcement is in place, for `/readyz` and `callgate status`; and whether the agent lives, for `/healthz`.
//!
//! Ready means: programs and warden loaded, policies compiled (without them no agent starts), everything that the
//! configuration enrols looked for once, every program attached, every accept loop turning, the spool writable.
//! What is missing because this kernel lacks it is an alarm, not a fault: no restart would mend it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use callgate_observe::Probes;
use callgate_redirect::Repair;

use super::{Agent, lock};
use crate::heartbeat::is_stuck;

/// Age of an accept loop's last turn at which only a new agent helps. It is refused from half of `stale_after_ms` on;
/// the rest is for a machine that is merely slow.
const HUNG: Duration = Duration::from_secs(15);

/// What was found to be in place.
#[derive(Debug, Default)]
pub(super) struct InPlace {
    settled: AtomicBool,
    unattached: Mutex<BTreeMap<PathBuf, String>>,
}

impl InPlace {
    /// What the configuration enrols was looked for.
    pub(super) fn settled(&self) {
        self.settled.store(true, Ordering::Relaxed);
    }

    /// Takes what the last look after the kernel programs found.
    pub(super) fn found(&self, repairs: &[Repair]) {
        let failed = |repair: &Repair| repair.error.as_ref().map(|error| (repair.path.clone(), error.to_string()));
        *lock(&self.unattached) = repairs.iter().filter_map(failed).collect();
    }
}

impl Agent {
    /// What of the enforcement is not in place, one sentence each.
    pub(super) fn not_in_place(&self) -> Vec<String> {
        let mut faults = Vec::new();
        // A run enrols its one command by itself.
        if self.run.is_none() && !self.in_place.settled.load(Ordering::Relaxed) {
            faults.push("what the configuration enrols is not enrolled yet".to_owned());
        }
        if self.warden.is_none() {
            faults.push("the warden could not be started: see the alarm".to_owned());
        }
        if is_stuck(self.pulses.oldest(), self.config.stale_after()) {
            faults.push("an accept loop does not turn, so new connections are refused".to_owned());
        }
        for (path, error) in lock(&self.in_place.unattached).iter() {
            faults.push(format!("kernel programs are missing at `{}`: {error}", path.display()));
        }
        faults
    }

    /// What is served on the port for metrics.
    pub(super) fn probes(self: &Arc<Self>) -> Probes {
        let (ready, alive) = (Arc::downgrade(self), Arc::downgrade(self));
        let gone = || vec!["the agent is gone".to_owned()];
        Probes {
            ready: Arc::new(move || ready.upgrade().map_or_else(gone, |agent| agent.faults())),
            alive: Arc::new(move || {
                let hung = |agent: &Agent| agent.pulses.oldest() > HUNG.max(agent.config.stale_after() * 2);
                match alive.upgrade() {
                    Some(agent) if !hung(&agent) => Vec::new(),
                    Some(_) => vec!["an accept loop does not turn any more".to_owned()],
                    None => gone(),
                }
            }),
        }
    }
}
