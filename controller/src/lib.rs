//! What concerns the cluster and no single node.
//!
//! - `issuer`: the CA between agents and collector, the collector's certificate, those of the nodes.
//!
//! One at a time in a cluster. While it is away nothing of the gate stops: certificates are renewed when a third of
//! their life is left, and everything that it writes stays as it is. Kept apart from the collector, which reads what
//! comes from the network and must not hold the key that makes agents.

mod issuer;
mod metrics;
mod options;
mod run;
mod tasks;

pub use options::Options;
pub use run::run;
