//! Says what went past the gate while no agent was alive, of workloads that fail open.
//!
//! Connections that were opened then go on unseen until they end: cutting them would make the return of the agent an
//! outage, which whoever fails open wants least. New ones come through the gate again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use callgate_model::{AgentState, CgroupId};
use callgate_redirect::PastTheGate;
use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tracing::error;

use super::Agent;

/// How often it is looked for. Source: as links are; a look at an empty map costs a system call.
const LOOK: Duration = Duration::from_millis(500);

/// How long the alarm stays after the last connection that it tells of.
const SHOWN: Duration = Duration::from_secs(600);

/// Counts connections that went past the gate.
#[derive(Clone, Debug, Default)]
pub(super) struct WentPast(Counter);

impl WentPast {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let past = Self::default();
        registry.register(
            "callgate_past_the_gate_connections",
            "Connections of workloads that fail open, made while no agent was alive",
            past.0.clone(),
        );
        past
    }
}

/// What an alarm tells of one workload.
struct Told {
    sum: PastTheGate,
    until: Instant,
}

impl Agent {
    /// Looks until the agent stops.
    pub(super) async fn tell_of_past(self: Arc<Self>) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut told: BTreeMap<CgroupId, Told> = BTreeMap::new();
        loop {
            tokio::select! {
                () = self.stopping.cancelled() => return,
                _ = look.tick() => {}
            }
            for past in self.redirect.take_past() {
                self.went_past.0.inc_by(past.connections);
                let until = Instant::now() + SHOWN;
                let told = told.entry(past.cgroup).and_modify(|told| told.add(&past, until));
                let sum = told.or_insert(Told { sum: past, until }).sum;
                self.tell_of_one(&sum);
            }
            for (cgroup, _) in told.extract_if(.., |_, told| told.until < Instant::now()) {
                self.calm(&cause(cgroup));
            }
        }
    }

    fn tell_of_one(&self, sum: &PastTheGate) {
        let workload = self.gate.roster.get(sum.cgroup);
        let name = workload.map_or_else(|| format!("cgroup {}", sum.cgroup), |workload| workload.id.clone());
        let text = format!(
            "{} connections of `{name}` went past the gate, and {} questions of DNS, between {} and {}, as no agent was \
             alive and it does not fail closed: connections that are still open go on unseen",
            sum.connections,
            sum.questions,
            shown(sum.first),
            shown(sum.last),
        );
        // Once more is news, too.
        self.alarms.raise(&cause(sum.cgroup), &text);
        error!(alarm = %text);
        self.tell(AgentState::Alarm, &text);
    }
}

impl Told {
    fn add(&mut self, past: &PastTheGate, until: Instant) {
        self.sum.connections += past.connections;
        self.sum.questions += past.questions;
        self.sum.first = self.sum.first.min(past.first);
        self.sum.last = self.sum.last.max(past.last);
        self.until = until;
    }
}

fn cause(cgroup: CgroupId) -> String {
    format!("past the gate: cgroup {cgroup}")
}

/// To the second, UTC.
fn shown(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| "a time unknown".to_owned(), |time| format!("{time:.0}"))
}
