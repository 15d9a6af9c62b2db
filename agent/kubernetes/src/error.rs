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
    /// A request for a certificate was not taken.
    #[error("the cluster's API takes no request for a certificate")]
    Request(#[source] Box<kube::Error>),
    /// It was denied.
    #[error("the request `{name}` for a certificate was denied: {why}")]
    Refused {
        /// The object's name.
        name: String,
        /// As the cluster says.
        why: String,
    },
    /// Nobody signed it.
    #[error("nobody has signed the request `{name}` within {within:?}: is the controller up?")]
    Unanswered {
        /// The object's name.
        name: String,
        /// How long that was waited for.
        within: std::time::Duration,
    },
    /// It cannot be made, or kept.
    #[error("{0}")]
    Certificate(callgate_mtls::TlsError),
}
