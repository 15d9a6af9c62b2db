//! A pod as the cluster's API shows it, as far as it matters here.

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::labels::Labels;

/// One pod.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// The API's uid of it, which the path of its cgroup bears.
    pub uid: String,
    /// Of a static pod, what the path bears in its place. Annotations say so, which the pod's maker may choose: it counts
    /// only where no pod has that uid, and no other one says the same.
    pub manifest_hash: Option<String>,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Service account.
    pub service_account: String,
    /// Labels.
    pub labels: Labels,
    /// How admission delivered trust, as an annotation says; empty: it did not.
    pub admitted_by: String,
    /// Name and image of each container that runs or ran, by its id.
    pub containers: BTreeMap<String, (String, String)>,
    /// When the node took it up, to the second.
    pub started: Option<SystemTime>,
}

impl Seen {
    /// Whether whatever it is for `other` it is for this one.
    pub(crate) fn is_classified_as(&self, other: &Self) -> bool {
        let said = |pod: &Self| {
            let Self { uid, manifest_hash, namespace, service_account, labels, .. } = pod.clone();
            (uid, manifest_hash, namespace, service_account, labels)
        };
        said(self) == said(other)
    }
}
