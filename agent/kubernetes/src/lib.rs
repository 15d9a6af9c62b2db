//! What the cluster's API tells the agent: the pods of its node, the namespaces with their labels, the policies.
//!
//! - [`Cluster`]: the way to the API, from a pod's own service account or from a kubeconfig file.
//! - [`follow`]: keeps [`callgate_enroll::Pods`] as the API has it, for ever; while the API is away everything stays as
//!   it was last known, and [`Reach`] says since when.
//! - [`follow_policies`]: keeps [`PolicyObjects`], the CallPolicies and ClusterCallPolicies, in the same way.
//! - [`Cluster`] is also the `ClusterApi` of callers: the cluster's keys, and reviews of its tokens.
//! - [`keep_certificate`]: the node's certificate towards the collector, signed by the cluster.
//!
//! Rights that it needs: `list` and `watch` of `pods`, `namespaces`, and of `callpolicies` and `clustercallpolicies` in
//! the group `callgate.dev`; `create` and `get` of `certificatesigningrequests`, `create` of `tokenreviews`; `get` of
//! `/openid/v1/jwks` and `/.well-known/openid-configuration`, which service accounts have by default.

mod certificate;
mod cluster;
mod error;
mod follow;
mod pod;
mod policies;
mod reach;
mod tokens;

pub use certificate::keep_certificate;
pub use cluster::Cluster;
pub use error::ClusterError;
pub use follow::follow;
pub use policies::{
    Accepted, Kind, NAMESPACE_MAX, OBJECTS_MAX, Pace, Past, PolicyObject, PolicyObjects, Status, TOTAL_MAX,
    follow_policies, within_bounds,
};
pub use reach::Reach;
