//! Follows both kinds of policy objects.

use std::pin::pin;

use futures_util::{Stream, StreamExt as _};
use kube::api::{Api, DynamicObject};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Config, Error, Event, watcher};
use tracing::warn;

use super::{ByOrigin, Kind, PolicyObject, PolicyObjects};
use crate::{Cluster, Reach};

/// Keeps `objects` as the API has them. Never ends: while the API is away it is asked again and again, at growing
/// intervals of up to half a minute, and what it said last stays.
pub async fn follow_policies(cluster: Cluster, objects: &PolicyObjects, reach: &[Reach; 2]) {
    let of = |kind: Kind| {
        let api = Api::<DynamicObject>::all_with(cluster.client.clone(), &kind.resource());
        watcher(api, Config::default()).default_backoff()
    };
    let [cluster_reach, namespaced_reach] = reach;
    tokio::join!(
        follow(of(Kind::Cluster), Kind::Cluster, objects, cluster_reach),
        follow(of(Kind::Namespaced), Kind::Namespaced, objects, namespaced_reach),
    );
}

async fn follow(
    events: impl Stream<Item = watcher::Result<Event<DynamicObject>>>,
    kind: Kind,
    objects: &PolicyObjects,
    reach: &Reach,
) {
    let mut events = pin!(events);
    let mut listed = ByOrigin::new();
    while let Some(event) = events.next().await {
        let read = |object| PolicyObject::read(kind, object);
        match event {
            Err(error) if is_unknown_kind(&error) => {
                reach.answers();
                objects.without(kind);
            }
            Err(error) => {
                warn!(%error, ?kind, "policies of the cluster cannot be had: what was known last stays in force");
                reach.fails(error.to_string());
            }
            Ok(event) => {
                reach.answers();
                match event {
                    Event::Init => listed.clear(),
                    Event::InitApply(object) => {
                        listed.extend(read(object).map(|object| (object.origin.clone(), object)));
                    }
                    Event::InitDone => objects.replace(kind, std::mem::take(&mut listed)),
                    Event::Apply(object) => {
                        if let Some(object) = read(object) {
                            objects.put(kind, object);
                        }
                    }
                    Event::Delete(object) => {
                        if let Some(object) = read(object) {
                            objects.remove(kind, &object.origin);
                        }
                    }
                }
            }
        }
    }
}

/// Whether the API has no such kind: the CRDs are not installed. It asks for permission first, so it is not that.
fn is_unknown_kind(error: &Error) -> bool {
    matches!(error, Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404)
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use k8s_openapi::serde_json::{from_value, json};
    use kube::core::Status;

    use super::*;

    fn object(name: &str, cedar: &str) -> DynamicObject {
        from_value(json!({"metadata": {"name": name}, "spec": {"cedar": cedar}})).unwrap()
    }

    fn failed(code: u16) -> Error {
        let status: Status = from_value(json!({"code": code, "message": "m", "reason": "r"})).unwrap();
        Error::InitialListFailed(kube::Error::Api(Box::new(status)))
    }

    async fn after(events: Vec<watcher::Result<Event<DynamicObject>>>) -> (Option<Vec<String>>, bool) {
        let (objects, reach) = (PolicyObjects::default(), Reach::default());
        objects.without(Kind::Namespaced);
        follow(stream::iter(events), Kind::Cluster, &objects, &reach).await;
        let texts = objects.all().map(|all| all.into_iter().map(|object| object.text.unwrap()).collect());
        (texts, reach.failing().is_some())
    }

    fn listed(objects: &[(&str, &str)]) -> Vec<watcher::Result<Event<DynamicObject>>> {
        let apply = objects.iter().map(|(name, text)| Ok(Event::InitApply(object(name, text))));
        [Ok(Event::Init)].into_iter().chain(apply).chain([Ok(Event::InitDone)]).collect()
    }

    #[tokio::test]
    async fn lists_replace_and_changes_change() {
        let mut events = listed(&[("a", "1"), ("b", "2")]);
        events.push(Ok(Event::Apply(object("c", "3"))));
        events.push(Ok(Event::Apply(object("b", "4"))));
        events.push(Ok(Event::Delete(object("a", "1"))));
        assert_eq!(after(events).await, (Some(vec!["4".into(), "3".into()]), false));
    }

    #[tokio::test]
    async fn an_api_that_fails_takes_nothing_away() {
        assert_eq!(after(vec![Err(failed(403))]).await, (None, true));
        let mut events = listed(&[("a", "1")]);
        events.push(Err(failed(500)));
        // A list that breaks off is none.
        events.extend([Ok(Event::Init), Ok(Event::InitApply(object("b", "2"))), Err(failed(404)), Err(failed(503))]);
        assert_eq!(after(events).await, (Some(vec!["1".into()]), true));
    }

    #[tokio::test]
    async fn a_cluster_without_the_kinds_has_no_policies() {
        assert_eq!(after(vec![Err(failed(404))]).await, (Some(Vec::new()), false));
    }
}
