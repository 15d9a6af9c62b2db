//! Attests that the kernel programs are where the agent attached them, and puts back what somebody took away.
//!
//! Each find is a record and counts; its alarm stays for a while, so that an operator sees it who was not looking.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use callgate_model::AgentState;
use callgate_redirect::{ENTRY, Repair};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tracing::error;

use super::Agent;

/// How often all is looked at. Source: half of the second within which a link must be back.
const LOOK: Duration = Duration::from_millis(500);

/// How long an alarm about links stays.
const SHOWN: Duration = Duration::from_secs(600);

/// Counts links that were missing.
#[derive(Clone, Debug, Default)]
pub(super) struct LinksMissing(Counter);

impl LinksMissing {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let missing = Self::default();
        registry.register(
            "callgate_links_missing",
            "Kernel programs that were found detached and attached again",
            missing.0.clone(),
        );
        missing
    }
}

impl Agent {
    /// Looks until the agent stops.
    pub(super) async fn attest_links(self: Arc<Self>) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut shown: BTreeMap<String, Instant> = BTreeMap::new();
        loop {
            tokio::select! {
                () = self.stopping.cancelled() => return,
                _ = look.tick() => {}
            }
            let agent = Arc::clone(&self);
            let looked = tokio::task::spawn_blocking(move || {
                // A successor swaps the programs for its own: to put ours back would be to fight it.
                let handing_over = super::lock(&agent.handing_over);
                if *handing_over { Vec::new() } else { agent.redirect.attest() }
            });
            match looked.await {
                Ok(repairs) => {
                    self.in_place.found(&repairs);
                    for repair in repairs {
                        shown.insert(self.tell_of_repair(&repair), Instant::now());
                    }
                }
                Err(error) => error!(%error, "a look after the kernel programs failed"),
            }
            for (cause, _) in shown.extract_if(.., |_, seen| seen.elapsed() > SHOWN) {
                self.calm(&cause);
            }
        }
    }

    /// Attests no more while a successor takes over; waits for a look that is under way.
    pub(crate) fn hands_over(&self, handing_over: bool) {
        *super::lock(&self.handing_over) = handing_over;
    }

    /// Gives the alarm's cause.
    fn tell_of_repair(&self, repair: &Repair) -> String {
        self.links_missing.0.inc_by(repair.missing.len() as u64);
        let (path, missing) = (repair.path.display(), repair.missing.join(", "));
        let text = match &repair.error {
            None if repair.missing == [ENTRY] => {
                format!(
                    "somebody took away or changed what the kernel programs know of `{path}` ({missing}): it is back"
                )
            }
            None => format!("somebody detached kernel programs from `{path}` ({missing}): they are attached again"),
            Some(error) => {
                format!("kernel programs are missing at `{path}` ({missing}), and cannot be attached: {error}")
            }
        };
        let cause = format!("links of {path}");
        // Once more is news too, although it reads the same; a failure that stays is not.
        if !self.alarms.raise(&cause, &text) && repair.error.is_some() {
            return cause;
        }
        error!(alarm = %text);
        self.tell(AgentState::Alarm, &text);
        cause
    }
}
