//! Which workloads are ours: the roster of enrolled cgroups, what is written down of them, and the cgroups themselves.
//!
//! - [`Roster`]: from a cgroup's id to its workload, read at each connection.
//! - [`Enrolment`]: the state file of one enrolment; [`sweep`] finds those whose owner died.
//! - [`cgroup`]: making, killing and removing cgroups.
//!
//! Never touches eBPF: attaching and detaching is `callgate-redirect`'s.

pub mod cgroup;
mod error;
mod owner;
mod peer;
mod roster;
mod state;
mod sweep;

pub use error::EnrollError;
pub use owner::Owner;
pub use peer::peer_is_enrolled;
pub use roster::Roster;
pub use state::Enrolment;
pub use sweep::{Stale, sweep};
