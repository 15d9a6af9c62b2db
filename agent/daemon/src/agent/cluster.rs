//! The cluster's API: followed for what pods of this node are, and missed when it does not answer.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use callgate_enroll::{Pods, Rule, Source, Trust};
use callgate_kubernetes::{Cluster, Reach, follow, keep_certificate};
use callgate_model::{FailMode, Mode};
use callgate_proto::v1::ClusterStatus;
use tracing::warn;

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

/// What is asked of a cluster, and what it said.
pub(super) struct Joined {
    pub pods: Arc<Pods>,
    reach: Reach,
    cluster: Cluster,
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
        Ok(Some(Self { pods, reach: Reach::default(), cluster }))
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

    /// What keeps pods from being classified.
    pub(super) fn cluster_fault(&self) -> Option<String> {
        let unknown = || "the pods of this node are not known yet: the cluster's API has not listed them".to_owned();
        (!self.knows_pods()).then(unknown)
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
        match joined.pods.misread().as_slice() {
            [] => self.calm(LABELS),
            [(what, wrong), others @ ..] => {
                let more = if others.is_empty() { String::new() } else { format!(" (and {} more)", others.len()) };
                self.alarm(LABELS, &format!("{what}: {wrong}; it counts as the strictest{more}"));
            }
        }
    }
}
