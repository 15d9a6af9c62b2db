//! Runs tests on the real kernel: as root, with cgroups, network namespaces and eBPF.
//!
//! A [`Case`] names what it needs of the machine. What is missing makes it `absent`, which is counted apart and must
//! agree with `tests/e2e/absent/<kernel>.txt`: nothing that did not run counts as passed.

mod case;
mod feature;
mod runner;
pub mod site;
mod used;

pub use case::{Case, CaseRun};
pub use feature::{FEATURES, Feature};
pub use runner::main;
pub use site::Site;
pub use used::Used;

/// The system's Python, whatever else `PATH` has: the one that packages of the distribution are made for.
pub const PYTHON: &str = "/usr/bin/python3";
