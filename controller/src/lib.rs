//! What concerns the cluster and no single node.
//!
//! - `admission`: the webhook that makes the clients in pods trust the gate, for clusters without mutating policies.
//! - `issuer`: the CA between agents and collector, the collector's certificate, those of the nodes.
//! - `policies`: whether each CallPolicy and ClusterCallPolicy is accepted, and why not.
//!
//! - `taint`: keeps pods off nodes whose agent is not ready, if it is asked to.
//!
//! One at a time in a cluster. While it is away nothing of the gate stops: certificates are renewed when a third of
//! their life is left, and everything that it writes stays as it is. Kept apart from the collector, which reads what
//! comes from the network and must not hold the key that makes agents.

mod admission;
mod issuer;
mod metrics;
mod options;
mod policies;
mod run;
mod taint;
mod tasks;

pub use options::Options;
pub use run::run;
