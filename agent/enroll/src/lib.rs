//! Which workloads are ours: the roster of enrolled cgroups, what is written down of them, and the cgroups themselves.
//!
//! - [`Roster`]: from a cgroup's id to its workload, read at each connection.
//! - [`Enrolment`]: the state file of one enrolment; [`sweep`] finds those whose owner died.
//! - [`Rule`]: which cgroups the configuration enrols by themselves, one kind a file: [`Pattern`], [`UnitName`],
//!   [`Containers`],
//!   [`Pods`]; [`TreeWatch`] says which cgroups come and go.
//! - [`cgroup`]: making, killing and removing cgroups.
//!
//! Never touches eBPF: attaching and detaching is `callgate-redirect`'s.

pub mod cgroup;
mod container;
mod error;
pub mod labels;
mod name;
mod owner;
mod pattern;
mod peer;
pub mod pods;
mod roster;
mod rule;
pub mod seen;
mod state;
mod sweep;
mod trust;
mod unit;
mod watch;

pub use container::{Containers, RUNTIMES, Runtime};
pub use error::EnrollError;
pub use name::{NameError, NameTemplate};
pub use owner::Owner;
pub use pattern::{Pattern, PatternError};
pub use peer::peer_is_enrolled;
pub use pods::Pods;
pub use roster::Roster;
pub use rule::{Class, Rule, Source};
pub use state::Enrolment;
pub use sweep::{Stale, sweep};
pub use trust::{TRUST, Trust};
pub use unit::{UnitError, UnitName};
pub use watch::{Change, TreeWatch};
