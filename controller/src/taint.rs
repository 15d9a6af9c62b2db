//! Keeps pods off nodes whose agent is not ready, by a taint, from the node's registration or boot on.
//!
//! A node that boots has no programs in its kernel until its agent is up: what starts before that goes past the gate.
//! The taint keeps new pods off; kubelet may set it too, as the node registers
//! (`--register-with-taints=callgate.dev/agent-not-ready=:NoSchedule`).

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Config, watcher};
use serde_json::json;
use tracing::{info, warn};

use crate::options::StartupTaint;
use crate::tasks::Context;

/// Key of the taint.
pub const KEY: &str = "callgate.dev/agent-not-ready";
/// Agents, among the pods of our namespace.
const AGENTS: &str = "app.kubernetes.io/name=callgate,app.kubernetes.io/component=agent";
/// How often all nodes are looked at, beside changes of agents: a node may register without one.
const LOOK: Duration = Duration::from_secs(10);

/// Keeps the taint where it belongs, for ever; takes it away everywhere, or does nothing, as the options say.
pub async fn keep(context: Context) {
    if context.options.startup_taint == StartupTaint::Leave {
        return std::future::pending().await;
    }
    let pods = Api::<Pod>::namespaced(context.client.clone(), &context.options.namespace);
    let mut changes = pin!(watcher(pods, Config::default().labels(AGENTS)).default_backoff().touched_objects());
    loop {
        if let Err(error) = look(&context).await {
            warn!(error = %format!("{error:#}"), "the taint of nodes without an agent is not as it should be");
        }
        // A failing watch is as good as none: the look comes in any case.
        let _ = tokio::time::timeout(LOOK, changes.next()).await;
    }
}

async fn look(context: &Context) -> Result<()> {
    let pods = Api::<Pod>::namespaced(context.client.clone(), &context.options.namespace);
    let agents = pods.list(&ListParams::default().labels(AGENTS)).await.context("list the agents")?;
    let served: BTreeSet<String> = agents.items.into_iter().filter_map(served).collect();
    let nodes = Api::<Node>::all(context.client.clone());
    for node in nodes.list(&ListParams::default()).await.context("list the nodes")? {
        let name = node.metadata.name.clone().unwrap_or_default();
        let wanted = context.options.startup_taint == StartupTaint::Keep && !served.contains(&name);
        let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
        let Some(taints) = changed(taints, wanted) else { continue };
        // With its version: taints are a list, and others write it, too.
        let metadata = json!({ "resourceVersion": node.metadata.resource_version });
        let patch = json!({ "metadata": metadata, "spec": { "taints": taints } });
        match nodes.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(_) => info!(node = name, tainted = wanted, "a node's taint was changed"),
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {}
            Err(error) => return Err(error).with_context(|| format!("change the taints of `{name}`")),
        }
    }
    Ok(())
}

/// The node that `pod` serves, if it is ready and stays.
fn served(pod: Pod) -> Option<String> {
    let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
    let is_ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let stays = pod.metadata.deletion_timestamp.is_none();
    pod.spec?.node_name.filter(|_| is_ready && stays)
}

/// `taints` with ours, or without; none if they are so already.
fn changed(mut taints: Vec<Taint>, wanted: bool) -> Option<Vec<Taint>> {
    let is_there = taints.iter().any(|taint| taint.key == KEY);
    if is_there == wanted {
        return None;
    }
    taints.retain(|taint| taint.key != KEY);
    if wanted {
        taints.push(Taint { key: KEY.into(), effect: "NoSchedule".into(), ..Taint::default() });
    }
    Some(taints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_serves_while_it_is_ready_and_stays() {
        let pod = |ready: &str, deleted: Option<&str>| -> Pod {
            let pod = json!({
                "metadata": { "deletionTimestamp": deleted },
                "spec": { "containers": [], "nodeName": "n1" },
                "status": { "conditions": [{ "type": "Ready", "status": ready }] },
            });
            serde_json::from_value(pod).unwrap()
        };
        assert_eq!(served(pod("True", None)).as_deref(), Some("n1"));
        assert_eq!(served(pod("False", None)), None);
        assert_eq!(served(pod("True", Some("2026-01-02T03:04:05Z"))), None);
    }

    #[test]
    fn taints_of_others_stay() {
        let theirs = Taint { key: "theirs".into(), effect: "NoExecute".into(), ..Taint::default() };
        let both = changed(vec![theirs.clone()], true).unwrap();
        assert_eq!(both.iter().map(|taint| taint.key.as_str()).collect::<Vec<_>>(), ["theirs", KEY]);
        assert_eq!(changed(both.clone(), true), None);
        assert_eq!(changed(both, false).as_deref(), Some(std::slice::from_ref(&theirs)));
        assert_eq!(changed(vec![theirs], false), None);
    }
}
