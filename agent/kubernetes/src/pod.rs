//! A pod of the API as the roster of pods wants it.

use std::collections::BTreeMap;
use std::time::SystemTime;

use callgate_enroll::seen::Seen;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

/// Annotation of the object that stands for a static pod: the hash of its manifest, which stands for its uid in the path
/// of its cgroup.
const MANIFEST_HASH: &str = "kubernetes.io/config.mirror";

/// Annotation that admission leaves on a pod which it has changed: `policy` or `webhook`.
const ADMITTED_BY: &str = "callgate.dev/trust-by";

/// None for an object without uid, which the API never sends.
pub fn seen(pod: Pod) -> Option<Seen> {
    let metadata = pod.metadata;
    let mut annotations = metadata.annotations.unwrap_or_default();
    let status = pod.status.unwrap_or_default();
    let started = status.start_time.map(|time| SystemTime::from(time.0));
    let statuses = [status.init_container_statuses, status.container_statuses, status.ephemeral_container_statuses];
    Some(Seen {
        uid: metadata.uid?,
        manifest_hash: annotations.remove(MANIFEST_HASH),
        admitted_by: annotations.remove(ADMITTED_BY).unwrap_or_default(),
        namespace: metadata.namespace.unwrap_or_default(),
        name: metadata.name.unwrap_or_default(),
        // The API fills it in; "default" is what it fills in.
        service_account: pod.spec.and_then(|spec| spec.service_account_name).unwrap_or_else(|| "default".into()),
        labels: metadata.labels.unwrap_or_default(),
        started,
        containers: statuses.into_iter().flatten().flatten().filter_map(container).collect::<BTreeMap<_, _>>(),
    })
}

/// Id, and name and image, of a container that was started.
fn container(status: ContainerStatus) -> Option<(String, (String, String))> {
    // `containerd://<id>`, `cri-o://<id>`, `docker://<id>`.
    let id = status.container_id?;
    let (_, id) = id.split_once("://")?;
    Some((id.to_owned(), (status.name, status.image)))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{from_value, json};

    use super::*;

    #[test]
    fn everything_of_a_pod_is_told() {
        let pod: Pod = from_value(json!({
            "metadata": {"uid": "u", "name": "web-0", "namespace": "shop", "labels": {"app": "web"},
                         "annotations": {"kubernetes.io/config.mirror": "h", "callgate.dev/trust-by": "policy"}},
            "spec": {"containers": [], "serviceAccountName": "web"},
            "status": {
                "startTime": "2026-01-02T03:04:05Z",
                "initContainerStatuses": [{"name": "init", "image": "i:1", "imageID": "", "ready": false,
                                           "restartCount": 0, "containerID": "containerd://aa"}],
                "containerStatuses": [{"name": "app", "image": "shop/web:7", "imageID": "", "ready": true,
                                       "restartCount": 0, "containerID": "cri-o://bb"},
                                      {"name": "later", "image": "x", "imageID": "", "ready": false, "restartCount": 0}],
                "ephemeralContainerStatuses": [{"name": "debug", "image": "busybox", "imageID": "", "ready": true,
                                                "restartCount": 0, "containerID": "docker://cc"}],
            },
        }))
        .unwrap();
        let seen = seen(pod).unwrap();
        assert_eq!((seen.uid.as_str(), seen.manifest_hash.as_deref()), ("u", Some("h")));
        assert_eq!(seen.admitted_by, "policy");
        assert_eq!(
            (seen.namespace.as_str(), seen.name.as_str(), seen.service_account.as_str()),
            ("shop", "web-0", "web")
        );
        let epoch = seen.started.unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(epoch.as_secs(), 1_767_323_045);
        let ids: Vec<(&str, &str)> =
            seen.containers.iter().map(|(id, (name, _))| (id.as_str(), name.as_str())).collect();
        assert_eq!(ids, [("aa", "init"), ("bb", "app"), ("cc", "debug")]);
        assert_eq!(seen.containers["bb"].1, "shop/web:7");
    }
}
