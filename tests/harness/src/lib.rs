//! What tests of several crates share: real upstreams, canaries, load, network namespaces, cgroups, child processes.
//!
//! Everything that changes the machine is a guard: dropping it undoes the change, also when a test panics;
//! [`sweep`] removes what a killed test process could not. Nothing here knows any part of Callgate,
//! so that the tests of every crate, the demo and the bench can use it.
//! Start with [`Upstream`] (something to call), [`Place`] (somewhere to call from) and [`Running`] (something that calls).

pub mod ca;
pub mod canary;
pub mod cgroup;
pub mod client;
pub mod counts;
pub mod documented;
pub mod load;
pub mod mount;
pub mod nameserver;
pub mod netns;
pub mod place;
pub mod programs;
pub mod running;
pub mod samples;
pub mod suite;
pub mod tidy;
pub mod upstream;
pub mod wait;

pub use ca::TestCa;
pub use canary::{Canary, CanaryConfig, Hit};
pub use cgroup::{TestCgroup, cgroup2_mount};
pub use client::Client;
pub use counts::{count, is_full};
pub use load::{LoadConfig, LoadReport};
pub use mount::TempBpffs;
pub use nameserver::NameServer;
pub use netns::{Netns, Veth};
pub use place::Place;
pub use programs::program;
pub use running::{Finished, Running, run};
pub use suite::{Case, run_cases};
pub use tidy::{Tidy, sweep};
pub use upstream::{LoggedRequest, Upstream, UpstreamConfig};
pub use wait::eventually;
