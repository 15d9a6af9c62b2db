//! `[kubernetes]`: pods of this node are enrolled by the labels of the cluster's API.

use std::path::PathBuf;

use callgate_identity::callers::ClusterTokens;
use serde::Deserialize;

use super::Config;

/// Environment variable with the node's name, as the downward API gives it (`spec.nodeName`).
const NODE_NAME: &str = "NODE_NAME";

/// What the C library's resolver, which proves names, is configured by.
const RESOLVER: &str = "/etc/resolv.conf";

/// The section; every key has a default.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KubernetesConfig {
    /// Name of this node in the cluster; none: `NODE_NAME` in the environment, else the agent's own name of it.
    pub node: Option<String>,
    /// File with the way to the API; none: the service account of the agent's own pod.
    pub kubeconfig: Option<PathBuf>,
    /// Where the names of the cluster's services end, `cluster.local`; none: as the agent's own `/etc/resolv.conf` says.
    pub domain: Option<String>,
    /// Whether the cluster's CallPolicies and ClusterCallPolicies count beside the policies of the directory.
    pub policies: bool,
    /// Tokens of the cluster's service accounts that name callers; none: they do not.
    pub tokens: Option<ClusterTokens>,
    /// Namespaces whose pods are left alone, whatever labels say.
    pub exempt_namespaces: Vec<String>,
}

impl Default for KubernetesConfig {
    fn default() -> Self {
        Self {
            node: None,
            kubeconfig: None,
            domain: None,
            policies: true,
            tokens: None,
            exempt_namespaces: vec!["kube-system".into()],
        }
    }
}

impl Config {
    /// What the cluster calls this node.
    #[must_use]
    pub fn cluster_node(&self) -> String {
        self.named_by_cluster().unwrap_or_else(|| self.node_name())
    }

    /// Where the names of the cluster's services end; none if nobody says so.
    #[must_use]
    pub fn cluster_domain(&self) -> Option<String> {
        let told = || searched(&std::fs::read_to_string(RESOLVER).ok()?);
        self.kubernetes.as_ref()?.domain.clone().or_else(told)
    }

    /// The same, if the configuration names a cluster and somebody says it.
    pub(super) fn named_by_cluster(&self) -> Option<String> {
        let kubernetes = self.kubernetes.as_ref()?;
        let told = || std::env::var(NODE_NAME).ok().filter(|name| !name.is_empty());
        kubernetes.node.clone().or_else(told)
    }
}

/// The cluster's domain in a resolv.conf(5) of kubelet's, which searches `svc.DOMAIN`.
fn searched(text: &str) -> Option<String> {
    let lists = text.lines().filter_map(|line| line.trim().strip_prefix("search"));
    lists.flat_map(str::split_whitespace).find_map(|end| Some(end.strip_prefix("svc.")?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clusters_domain_is_what_kubelet_searches() {
        let text = "nameserver 10.96.0.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local corp\noptions ndots:5\n";
        assert_eq!(searched(text).as_deref(), Some("cluster.local"));
        assert_eq!(searched("search corp.example\n"), None);
        let parsed = |text: &str| Config::parse(text);
        assert_eq!(
            parsed("[kubernetes]\ndomain = \"k8s.example\"").unwrap().cluster_domain().as_deref(),
            Some("k8s.example")
        );
        assert_eq!(parsed("").unwrap().cluster_domain(), None);
    }

    #[test]
    fn the_section_alone_is_enough_and_a_typing_error_is_one() {
        let parsed = |text: &str| Config::parse(text).map_err(|error| format!("{error:#}"));
        let config = parsed("node = \"a\"\n[kubernetes]").unwrap();
        assert_eq!(config.kubernetes.as_ref().unwrap().exempt_namespaces, ["kube-system"]);
        assert_eq!(parsed("[kubernetes]\nnode = \"n1\"").unwrap().cluster_node(), "n1");
        assert!(parsed("").unwrap().kubernetes.is_none());
        let tokens = "[kubernetes]\ntokens = { audience = [\"callgate\"] }";
        assert_eq!(parsed(tokens).unwrap().kubernetes.unwrap().tokens.unwrap().header, "x-callgate-caller");
        assert!(parsed(&tokens.replace("audience", "audiences")).unwrap_err().contains("audiences"));
        assert!(parsed("[kubernetes]\nexempt = []").unwrap_err().contains("exempt"));
    }
}
