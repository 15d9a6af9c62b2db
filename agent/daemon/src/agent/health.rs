//! Whether the agent is well: faults, alarms; and the loops that look.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use callgate_model::{AgentRecord, AgentState, RecordKind};
use callgate_uplink::{Certificate, days_until};
use tracing::{error, info, warn};

use super::enrolling::workload_uids;
use super::{Agent, UIDS_LOOK};

/// How often cgroups are looked for that went or came, and faults.
const LOOK: Duration = Duration::from_millis(500);

/// Causes of alarms that are looked at each [`LOOK`].
const SPOOL_FAILED: &str = "audit spool failed";
const DISK_FULL: &str = "audit disk full";

/// Causes of alarms about the certificates towards the collector.
const CERTIFICATES: &str = "certificates";
const CERTIFICATE_EXPIRY: &str = "certificate expiry";
const COLLECTOR_EXPIRY: &str = "collector certificate expiry";

/// Cause of alarms about policies.
const POLICIES: &str = "policies";

impl Agent {
    /// What keeps the agent from serving; empty when it serves.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let spool = self.gate.recorder.status();
        let failed = spool
            .failed
            .as_ref()
            .map(|failed| format!("the audit spool failed, so calls are refused until a restart: {failed}"));
        let full = spool.disk_full.then(|| "the disk of the audit spool is full, so calls are refused".to_owned());
        for (cause, fault) in [(SPOOL_FAILED, &failed), (DISK_FULL, &full)] {
            match fault {
                Some(text) => self.alarm(cause, text),
                None => self.calm(cause),
            }
        }
        failed.into_iter().chain(full).chain(self.cluster_fault()).chain(self.not_in_place()).collect()
    }

    /// Looks after faults, and after enrolments unless this agent is of one run.
    pub(super) async fn look_after(self: Arc<Self>) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // Every other time, that is each second, what takes longer.
        let mut round = false;
        loop {
            tokio::select! {
                () = self.stopping.cancelled() => return,
                _ = look.tick() => {}
            }
            let agent = Arc::clone(&self);
            round = !round;
            let looked = tokio::task::spawn_blocking(move || {
                let _faults = agent.faults();
                if round {
                    agent.look_for_net_raw();
                }
                agent.look_at_certificates();
                agent.look_at_cluster();
                if agent.run.is_none() {
                    agent.keep_enrolled();
                    agent.leave_spaces();
                }
            });
            if let Err(error) = looked.await {
                error!(%error, "a look after enrolments failed");
            }
        }
    }

    /// Alarms while certificates that were put in place cannot be used, and while one ends soon.
    fn look_at_certificates(&self) {
        let Some(tls) = &self.collector_tls else { return };
        let condition = tls.condition();
        let fault =
            condition.fault.map(|fault| format!("changed certificates are not used, the last good ones are: {fault}"));
        let soon = |whose: &str, certificate: &Certificate| {
            let days = days_until(certificate.expires);
            let ends = if days < 0 { "has expired".to_owned() } else { format!("expires in {days} days") };
            certificate.ends_soon().then(|| format!("{whose} certificate {ends}"))
        };
        let own = condition.certificate.and_then(|own| soon("the agent's", &own));
        let theirs = tls.collector_certificate().and_then(|theirs| soon("the collector's", &theirs));
        for (cause, text) in [(CERTIFICATES, fault), (CERTIFICATE_EXPIRY, own), (COLLECTOR_EXPIRY, theirs)] {
            match text {
                Some(text) => self.alarm(cause, &text),
                None => self.calm(cause),
            }
        }
    }

    /// Records changes of the policy set, and raises an alarm for those that were refused.
    pub(super) async fn watch_policies(&self) {
        let mut look = tokio::time::interval(UIDS_LOOK);
        loop {
            let change = tokio::select! {
                () = self.stopping.cancelled() => return,
                _ = look.tick() => {
                    match workload_uids(&self.gate.roster) {
                        Ok(uids) => self.policies.set_workload_uids(uids),
                        Err(error) => warn!(%error, "the users of workloads cannot be told"),
                    }
                    continue;
                }
                change = self.policies.changed() => change,
            };
            let Some(change) = change else { return };
            if change.refused.is_empty() {
                *super::lock(&self.policies_taken) = SystemTime::now();
                info!(policy_set = %change.policy_set, policies = change.policies, "policies reloaded");
                self.calm(POLICIES);
            } else {
                self.alarm(POLICIES, &format!("policies were not reloaded: {}", change.refused));
            }
            self.record(RecordKind::Policy(change));
        }
    }

    /// Raises the alarm of `cause`: in status and metrics; in log and record when it is news.
    pub(super) fn alarm(&self, cause: &str, text: &str) {
        if self.alarms.raise(cause, text) {
            error!(alarm = %text);
            self.tell(AgentState::Alarm, text);
        }
    }

    /// Ends the alarm of `cause`, if there is one.
    pub(super) fn calm(&self, cause: &str) {
        if self.alarms.clear(cause) {
            info!(%cause, "an alarm is over");
        }
    }

    pub(super) fn tell(&self, state: AgentState, detail: &str) {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        self.record(RecordKind::Agent(AgentRecord { state, version, detail: detail.to_owned() }));
    }

    pub(super) fn record(&self, kind: RecordKind) {
        if let Err(error) = self.gate.recorder.write(kind) {
            error!(%error, "a record could not be written");
        }
    }
}
