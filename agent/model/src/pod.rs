//! What a cluster's API says of the pod that a process runs in.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A Kubernetes pod, and the container of it that is meant. Texts are empty where nothing is known.
///
/// Found by the pod's uid and the container's id, which the kernel's path of the cgroup names; never by what the pod
/// says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Service account, in the same namespace.
    pub service_account: String,
    /// Name of the container; empty until the API knows the container's id.
    pub container: String,
    /// The container's image, as the pod's specification names it.
    pub image: String,
    /// The group that it is in for policies.
    pub group: String,
    /// The pod's labels. Whoever may change pods chooses them.
    pub labels: BTreeMap<String, String>,
}
