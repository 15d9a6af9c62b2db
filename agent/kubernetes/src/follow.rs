//! Follows pods and namespaces: a list, then what changes, then a list again whenever the API has lost our place.

use std::collections::BTreeMap;
use std::pin::pin;

use callgate_enroll::Pods;
use callgate_enroll::labels::Labels;
use callgate_enroll::seen::Seen;
use futures_util::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, PartialObjectMeta};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Config, Event, watcher};
use tracing::warn;

use crate::pod::seen;
use crate::{Cluster, Reach};

/// Keeps `pods` as the API has the pods of `node` and all namespaces. Never ends: while the API is away it is asked
/// again and again, at growing intervals of up to half a minute.
pub async fn follow(cluster: Cluster, node: String, pods: &Pods, reach: &Reach) {
    let of_node = Config::default().fields(&format!("spec.nodeName={node}"));
    let their_pods = watcher(Api::<Pod>::all(cluster.client.clone()), of_node).default_backoff();
    let all = Api::<PartialObjectMeta<Namespace>>::all(cluster.client);
    let namespaces = watcher(all, Config::default()).default_backoff();
    tokio::join!(follow_pods(their_pods, pods, reach), follow_namespaces(namespaces, pods, reach));
}

async fn follow_pods(events: impl Stream<Item = watcher::Result<Event<Pod>>>, pods: &Pods, reach: &Reach) {
    let mut events = pin!(events);
    let mut listed: Vec<Seen> = Vec::new();
    while let Some(event) = events.next().await {
        let Some(event) = answered(event, reach) else { continue };
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(pod) => listed.extend(seen(pod)),
            Event::InitDone => pods.replace(std::mem::take(&mut listed)),
            Event::Apply(pod) => {
                if let Some(pod) = seen(pod) {
                    pods.put(pod);
                }
            }
            Event::Delete(pod) => pods.remove(pod.metadata.uid.as_deref().unwrap_or_default()),
        }
    }
}

async fn follow_namespaces(
    events: impl Stream<Item = watcher::Result<Event<PartialObjectMeta<Namespace>>>>,
    pods: &Pods,
    reach: &Reach,
) {
    let labelled = |namespace: PartialObjectMeta<Namespace>| -> (String, Labels) {
        (namespace.metadata.name.unwrap_or_default(), namespace.metadata.labels.unwrap_or_default())
    };
    let mut events = pin!(events);
    let mut listed: BTreeMap<String, Labels> = BTreeMap::new();
    while let Some(event) = events.next().await {
        let Some(event) = answered(event, reach) else { continue };
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(namespace) => listed.extend([labelled(namespace)]),
            Event::InitDone => pods.replace_namespaces(std::mem::take(&mut listed)),
            Event::Apply(namespace) => {
                let (name, labels) = labelled(namespace);
                pods.put_namespace(name, Some(labels));
            }
            Event::Delete(namespace) => pods.put_namespace(labelled(namespace).0, None),
        }
    }
}

fn answered<E>(event: Result<E, impl std::error::Error>, reach: &Reach) -> Option<E> {
    match event {
        Ok(event) => {
            reach.answers();
            Some(event)
        }
        Err(error) => {
            warn!(%error, "the cluster's API fails: what it said last stays in force");
            reach.fails(error.to_string());
            None
        }
    }
}
