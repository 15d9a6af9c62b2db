//! The agent: wires every part together. The binary `callgate-agent` runs it for a host;
//! `callgate run` starts it in process for one command.
//!
//! Start with [`Agent::start`]; [`Config`] is what an operator writes.

mod agent;
mod alarms;
mod check;
mod config;
mod container;
pub mod control;
mod descriptors;
mod ground;
pub mod handover;
mod heartbeat;
pub mod idle;
mod kernel_events;
pub mod logging;
mod memory;
mod observe;
pub mod place;
pub mod policy_source;
mod spool;
mod traces;

pub use agent::{Agent, Setup, take_trust_back};
pub use callgate_proxy::Tally;
pub use check::check;
pub use config::{
    AGENT_CONFIG, CONFIG_DIR, CollectorTls, Config, Level, OlderSockets, RUNTIME_DIR, STATE_DIR, TracesConfig, Unfit,
    What,
};
pub use container::see_the_nodes_cgroups;
pub use descriptors::make_room;
pub use memory::{forbid_core_dumps, keep_memory_private};
pub use policy_source::Policies;
pub use spool::spool_dir;
pub use traces::Exporter;
