//! Errors of this crate.

use std::path::PathBuf;

use thiserror::Error;

/// The cluster's API cannot be used.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// This is no pod, and no kubeconfig is named.
    #[error("no service account of a pod is mounted here: name a `kubeconfig`, or run as a pod")]
    NotInCluster(#[source] Box<kube::config::InClusterError>),
    /// The file cannot be used.
    #[error("cannot use the kubeconfig `{}`", .path.display())]
    Kubeconfig {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Box<kube::config::KubeconfigError>,
    },
    /// Certificates or credentials do not fit.
    #[error("cannot make a client of the cluster's API")]
    Client(#[source] Box<kube::Error>),
}
