//! What the cluster's API tells the agent: the pods of its node, and the namespaces with their labels.
//!
//! - [`Cluster`]: the way to the API, from a pod's own service account or from a kubeconfig file.
//! - [`follow`]: keeps [`callgate_enroll::Pods`] as the API has it, for ever; while the API is away everything stays as
//!   it was last known, and [`Reach`] says since when.
//!
//! - [`keep_certificate`]: the node's certificate towards the collector, signed by the cluster.
//!
//! Rights that it needs: `list` and `watch` of `pods` and `namespaces`; `create` and `get` of
//! `certificatesigningrequests`.

mod certificate;
mod cluster;
mod error;
mod follow;
mod pod;
mod reach;

pub use certificate::keep_certificate;
pub use cluster::Cluster;
pub use error::ClusterError;
pub use follow::follow;
pub use reach::Reach;
