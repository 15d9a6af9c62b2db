//! The way to the cluster's API.

use std::path::Path;
use std::time::Duration;

use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};

use crate::ClusterError;

/// Longest wait for a connection. Unit: seconds. Source: ours; kube's default is 30.
const CONNECT_S: u64 = 5;

/// A client of one cluster's API. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    pub(crate) client: Client,
}

impl Cluster {
    /// With the current context of a kubeconfig file, or without one as the service account of this pod. Asks nothing
    /// yet.
    ///
    /// # Errors
    /// [`ClusterError`] when the file or the service account cannot be used.
    pub async fn new(kubeconfig: Option<&Path>) -> Result<Self, ClusterError> {
        let mut config = match kubeconfig {
            Some(path) => {
                let failed = |source| ClusterError::Kubeconfig { path: path.to_owned(), source: Box::new(source) };
                let file = Kubeconfig::read_from(path).map_err(failed)?;
                Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(failed)?
            }
            None => Config::incluster().map_err(|error| ClusterError::NotInCluster(Box::new(error)))?,
        };
        config.connect_timeout = Some(Duration::from_secs(CONNECT_S));
        let client = Client::try_from(config).map_err(|error| ClusterError::Client(Box::new(error)))?;
        Ok(Self { client })
    }

    /// The client, for what concerns the whole cluster.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }
}
