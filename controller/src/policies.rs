//! Says of each CallPolicy and ClusterCallPolicy whether it is accepted, and why not, by the compiler of the agents.
//!
//! In force is what the agents make of it: they ask nobody, and need no status but for the text that was accepted last,
//! which stands in for a broken one on nodes that have not seen it. What the policy directory of a node says is not
//! known here.

mod verdict;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use callgate_kubernetes::{Kind, Pace, PolicyObject, PolicyObjects, Reach, Status, follow_policies};
use callgate_policy::Origin;
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::json;
use tracing::{error, info, warn};

use crate::tasks::Context;
use verdict::Judge;

/// Wait after a status that could not be written, at first and at most.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Who changes the status, in the objects' managed fields.
const MANAGER: &str = "callgate-controller";

/// Judges policies as they change. Never ends.
pub async fn judge(context: Context) {
    let (objects, reach) = (PolicyObjects::default(), [Reach::default(), Reach::default()]);
    tokio::join!(follow_policies(context.client.clone(), &objects, &reach), tell(&context, &objects));
}

async fn tell(context: &Context, objects: &PolicyObjects) {
    let judge = match Judge::new(context.options.mask_kind.clone()) {
        Ok(judge) => Arc::new(Mutex::new(judge)),
        Err(error) => return error!(%error, "policies cannot be judged"),
    };
    let mut changes = objects.watch();
    let (mut retry, mut pace) = (None, Pace::default());
    loop {
        // Cannot fail: `objects` outlives us.
        let changed = changes.changed();
        match retry {
            None => drop(changed.await),
            Some(wait) => drop(tokio::time::timeout(wait, changed).await),
        }
        tokio::time::sleep(pace.wait(Instant::now())).await;
        changes.mark_unchanged();
        let Some(all) = objects.all() else { continue };
        let (judge, begun) = (Arc::clone(&judge), Instant::now());
        // Compiling takes its time, and other tasks share this thread.
        let judging = move || judge.lock().unwrap_or_else(PoisonError::into_inner).verdicts(all);
        let judged = tokio::task::spawn_blocking(judging).await;
        let ended = Instant::now();
        pace.took(ended - begun, ended);
        let mut failed = false;
        for (object, status) in judged.unwrap_or_default() {
            match write(&context.client, &object, &status).await {
                Ok(()) => info!(object = %object.origin, "judged"),
                // It is gone, or another one has its name: the watch tells.
                Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => {}
                Err(error) => {
                    warn!(%error, object = %object.origin, "the status of a policy cannot be written");
                    failed = true;
                }
            }
        }
        retry = failed.then(|| retry.map_or(RETRY_MIN, |before: Duration| (before * 2).min(RETRY_MAX)));
    }
}

async fn write(client: &Client, object: &PolicyObject, status: &Status) -> kube::Result<()> {
    let (name, kind, namespace) = match &object.origin {
        Origin::Directory => return Ok(()),
        Origin::Cluster { name } => (name, Kind::Cluster, None),
        Origin::Namespace { namespace, name } => (name, Kind::Namespaced, Some(namespace)),
    };
    let resource = kind.resource();
    let api = match namespace {
        Some(namespace) => Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    // The uid is a condition: the status is of this object, not of a later one under the same name.
    let patch = json!({ "metadata": { "uid": object.uid }, "status": status });
    let parameters = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
    api.patch_status(name, &parameters, &Patch::Merge(patch)).await.map(drop)
}
