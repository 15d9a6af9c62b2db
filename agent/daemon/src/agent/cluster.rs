//! The cluster's API: followed for what pods of this node are, and missed when it does not answer.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use callgate_enroll::{Pods, Rule, Source, Trust};
use callgate_identity::callers::{ClusterApi, ClusterTokens};
use callgate_kubernetes::{Cluster, PolicyObjects, Reach, follow, follow_policies, keep_certificate};
use callgate_model::{AgentState, FailMode, Mode};
use callgate_proto::v1::ClusterStatus;
use tracing::{error, warn};

use super::Agent;
use crate::config::Config;

/// How long the API may fail until that is worth an alarm: a rolling control plane takes some seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest wait for the first list of pods, and how often it is looked for.
const LISTED_WITHIN: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);

/// Causes of alarms.
const AWAY: &str = "cluster API";
const LABELS: &str = "cluster labels";
const POLICIES_AWAY: &str = "cluster policies";

/// What is asked of a cluster, and what it said.
pub(super) struct Joined {
    pub pods: Arc<Pods>,
    reach: Reach,
    cluster: Cluster,
    /// None: the configuration wants none of the cluster's policies.
    policies: Option<Arc<Policed>>,
}

/// The policies that the cluster holds.
#[derive(Default)]
struct Policed {
    objects: PolicyObjects,
    reach: [Reach; 2],
}

impl Joined {
    /// As the configuration says; none where it names no cluster.
    ///
    /// # Errors
    /// If the way to the API cannot be used.
    pub(super) async fn new(config: &Config) -> Result<Option<Self>> {
        let Some(kubernetes) = &config.kubernetes else { return Ok(None) };
        let cluster = Cluster::new(kubernetes.kubeconfig.as_deref()).await.context("in the config: `[kubernetes]`")?;
        let pods = Arc::new(Pods::new(kubernetes.exempt_namespaces.clone()));
        let policies = kubernetes.policies.then(Arc::default);
        Ok(Some(Self { pods, reach: Reach::default(), cluster, policies }))
    }

    /// The cluster as an issuer of tokens that name callers, if the configuration wants that.
    pub(super) fn issuer<'c>(&self, config: &'c Config) -> Option<(&'c ClusterTokens, Arc<dyn ClusterApi>)> {
        let tokens = config.kubernetes.as_ref()?.tokens.as_ref()?;
        Some((tokens, Arc::new(self.cluster.clone())))
    }
}

impl Agent {
    /// Follows the pods of this node, as long as the agent lives.
    pub(super) fn follow_cluster(&self) {
        let Some(joined) = &self.joined else { return };
        let (cluster, pods, reach) = (joined.cluster.clone(), Arc::clone(&joined.pods), joined.reach.clone());
        let (node, stopping) = (self.config.cluster_node(), self.stopping.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = follow(cluster, node, &pods, &reach) => {}
            }
        });
    }

    /// Follows the policies that the cluster holds, as long as the agent lives.
    pub(super) fn follow_policies(self: &Arc<Self>) {
        let Some(joined) = &self.joined else { return };
        let Some(policed) = joined.policies.clone() else { return };
        self.policies.join(self.config.state_dir.clone());
        let (agent, client) = (Arc::clone(self), joined.cluster.client());
        tokio::spawn(async move {
            let mut changes = policed.objects.watch();
            let offering = async {
                while changes.changed().await.is_ok() {
                    changes.mark_unchanged();
                    if let Some(objects) = policed.objects.all() {
                        agent.policies.offer(objects);
                    }
                }
            };
            tokio::select! {
                () = agent.stopping.cancelled() => {}
                () = follow_policies(client, &policed.objects, &policed.reach) => {}
                () = offering => {}
            }
        });
    }

    /// Waits until the API has listed the policies, and they are in force. Where it does not answer, what was known at
    /// the last start is; and if nothing ever was, pods are refused.
    pub(super) async fn know_policies(&self) {
        let Some(policed) = self.joined.as_ref().and_then(|joined| joined.policies.as_ref()) else { return };
        let known = async {
            while policed.objects.all().is_none() && !self.stopping.is_cancelled() {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(LISTED_WITHIN, known).await.is_err() {
            warn!("the cluster's API has not listed the policies yet: what was known of them is in force");
        }
        // Those that were offered: the API's, or what is kept of them.
        if let Some(objects) = policed.objects.all() {
            self.policies.offer(objects);
        }
        // However long it takes: what is in force until then are the directory's alone, which know no forbid of the
        // cluster.
        tokio::select! {
            () = self.policies.settled() => {}
            () = self.stopping.cancelled() => {}
        }
    }

    /// Keeps the certificate that the cluster issues, if the configuration names who signs it.
    pub(super) fn keep_certificate(&self) {
        let Some((tls, joined)) = self.config.collector_tls.clone().zip(self.joined.as_ref()) else { return };
        let Some(signer) = tls.signer else { return };
        let (cluster, file) = (joined.cluster.clone(), self.config.issued_certificate());
        let (node, stopping) = (self.config.node_name(), self.stopping.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = keep_certificate(cluster, signer, node, &file, &tls.ca) => {}
            }
        });
    }

    /// Waits until the API has listed the pods, so that policies know them at the first connection, and the first look
    /// classifies them all. Where it does not answer everything goes on without: what is not known stays as it was, and
    /// under strict mode is refused.
    pub(super) async fn know_pods(&self) {
        let Some(joined) = &self.joined else { return };
        let known = async {
            while !joined.pods.are_known() && !self.stopping.is_cancelled() {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(LISTED_WITHIN, known).await.is_err() {
            warn!("the cluster's API has not listed the pods of this node yet");
        }
    }

    /// Records which pods were started since an agent lived last although they are to be enrolled: nobody was there to do
    /// so, and without strict mode they went past the gate. None: no agent has lived since the host's boot, or since
    /// Callgate was installed; then strict mode was not in force either.
    pub(super) fn tell_of_unseen(self: &Arc<Self>, lived_until: Option<SystemTime>) {
        let Some(joined) = &self.joined else { return };
        let (from, why) = match lived_until {
            Some(_) if self.config.strict.is_some() => return,
            Some(from) => (
                from,
                "no agent was alive, and went past the gate until it was enrolled or ended: strict mode \
                                  would have refused it",
            ),
            None => (
                SystemTime::UNIX_EPOCH,
                "no agent had been alive since the host's boot or the installation, and went \
                                              past the gate until now: `agent.startupTaint` of the chart keeps new pods \
                                              off such a node",
            ),
        };
        let (agent, pods, now) = (Arc::clone(self), Arc::clone(&joined.pods), SystemTime::now());
        tokio::spawn(async move {
            while !pods.are_known() {
                tokio::select! {
                    () = agent.stopping.cancelled() => return,
                    () = tokio::time::sleep(LOOK) => {}
                }
            }
            // The API tells whole seconds.
            for pod in pods.started_within(from.checked_sub(Duration::from_secs(1)).unwrap_or(from), now) {
                let text = format!("the pod `{pod}` was started while {why}");
                error!(alarm = %text);
                agent.tell(AgentState::Alarm, &text);
            }
        });
    }

    /// Whether every cgroup can be classified that there is.
    pub(super) fn knows_pods(&self) -> bool {
        self.joined.as_ref().is_none_or(|joined| joined.pods.are_known())
    }

    /// The rule by which pods are classified: behind those that the configuration spells out.
    pub(super) fn pod_rule(&self) -> Option<Rule> {
        let pods = Arc::clone(&self.joined.as_ref()?.pods);
        let (mode, fail, trust) = (Mode::Enforce, FailMode::Closed, Trust::Both);
        Some(Rule { source: Source::Pods(pods), name: None, mode, fail, trust })
    }

    /// Whether pods may have been labelled otherwise since the last look.
    pub(super) fn pods_changed(&self) -> bool {
        self.joined.as_ref().is_some_and(|joined| joined.pods.take_change())
    }

    /// What keeps pods from being classified, or judged.
    pub(super) fn cluster_fault(&self) -> Option<String> {
        let unknown = || "the pods of this node are not known yet: the cluster's API has not listed them".to_owned();
        let unjudged =
            || "the cluster's API has not listed its policies, and none are known: pods are refused".to_owned();
        (!self.knows_pods()).then(unknown).or_else(|| self.policies.awaits_cluster().then(unjudged))
    }

    /// How the way to the API is; none where no cluster is configured.
    pub(super) fn cluster_status(&self) -> Option<ClusterStatus> {
        let joined = self.joined.as_ref()?;
        let failing = joined.reach.failing();
        Some(ClusterStatus {
            node: self.config.cluster_node(),
            listed: joined.pods.are_known(),
            failing_s: failing.as_ref().map(|(since, _)| since.as_secs()).unwrap_or_default(),
            error: failing.map(|(_, why)| why).unwrap_or_default(),
        })
    }

    /// Alarms while the API does not answer, and while labels say nothing that is understood.
    pub(super) fn look_at_cluster(&self) {
        let Some(joined) = &self.joined else { return };
        match joined.reach.failing().filter(|(since, _)| *since > PATIENCE) {
            Some((_, why)) => {
                self.alarm(AWAY, &format!("the cluster's API fails, so what it said last stays in force: {why}"));
            }
            None => self.calm(AWAY),
        }
        let failing = joined.policies.as_ref().and_then(|policed| policed.reach.iter().find_map(Reach::failing));
        match failing.filter(|(since, _)| *since > PATIENCE) {
            Some((_, why)) => {
                let text = format!("the cluster's policies cannot be had, so what was known stays in force: {why}");
                self.alarm(POLICIES_AWAY, &text);
            }
            None => self.calm(POLICIES_AWAY),
        }
        match joined.pods.misread().as_slice() {
            [] => self.calm(LABELS),
            [(what, wrong), others @ ..] => {
                let more = if others.is_empty() { String::new() } else { format!(" (and {} more)", others.len()) };
                self.alarm(LABELS, &format!("{what}: {wrong}; it counts as the strictest{more}"));
            }
        }
    }
}
