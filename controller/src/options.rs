//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use tracing::Level;

/// Looks after what agents and collector of a Kubernetes cluster share: certificates, policies, admission.
#[derive(Clone, Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes:
  0  stopped in order
  1  failed
  2  usage

Example:
  callgate-controller --namespace callgate-system --collector-name callgate-collector.callgate-system.svc"
)]
pub struct Options {
    /// Namespace of Callgate's own objects
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME")]
    pub namespace: String,
    /// Service account of the agents, in that namespace: whoever else asks for a node's certificate is refused
    #[arg(long, value_name = "NAME", default_value = "callgate-agent")]
    pub agent_account: String,
    /// Host name or address by which the collector is reached; may be repeated
    #[arg(long, value_name = "HOST", required = true)]
    pub collector_name: Vec<String>,
    /// Name of a reader of records, for whom the Secret `callgate-reader-tls` is made
    #[arg(long, value_name = "NAME")]
    pub reader: Option<String>,
    /// Take the CA from the Secret `callgate-ca` (tls.crt, tls.key), which another issuer keeps, and make none
    #[arg(long)]
    pub external_ca: bool,
    /// Kind of findings that the agents' `[[detector]]` adds, so that policies may name it; may be repeated
    #[arg(long, value_name = "NAME")]
    pub mask_kind: Vec<String>,
    /// Address of the admission webhook [default: none is served]
    #[arg(long, value_name = "ADDRESS")]
    pub admission_listen: Option<SocketAddr>,
    /// Name of the Service by which the API server reaches it
    #[arg(long, value_name = "NAME", default_value = "callgate-controller")]
    pub service: String,
    /// What is done about the taint `callgate.dev/agent-not-ready` of nodes
    #[arg(long, value_enum, value_name = "WHAT", default_value = "leave")]
    pub startup_taint: StartupTaint,
    /// Address of /metrics, /healthz and /readyz
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9466")]
    pub metrics_listen: SocketAddr,
    /// File with the way to the API [default: the service account of this pod]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// off, error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: Level,
}

/// What is done about the taint of nodes without an agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum StartupTaint {
    /// Nodes have it while no agent is ready there
    Keep,
    /// No node has it
    Remove,
    /// Nothing
    Leave,
}
